//! Secrets and sources are read again when their files change, and only what can be used is.

use std::process::Command;

use super::{SECRET, Signer, Webhooks, body};
use crate::support::client::Client;
use crate::support::until;

/// Seconds within which a change must be seen.
const SOON: u64 = 30;
const STRIPE: &str = "[sources.stripe]\npreset = 'stripe'\nsecret_files = ['DIR/key']\n";

impl Webhooks {
    fn write(&self, file: &str, text: &str) {
        let text = text.replace("DIR", &self.service.dir.path().display().to_string());
        std::fs::write(self.service.path(file), text).unwrap();
    }

    /// Waits until the figure that tells whether all is in use as it is has this value.
    fn is_read(&self, value: u8) {
        let text =
            || String::from_utf8(Client::new(self.service.addr).get("/metrics").unwrap().body).unwrap();
        let line = format!("sekali_sources_read {value}");
        let found = until(SOON, || text().lines().any(|found| found == line).then_some(()));
        assert!(found.is_some(), "{line}: {}", self.service.server.log());
    }
}

#[test]
fn a_new_secret_takes_the_place_of_the_old_one() {
    let Some(mut signer) = Signer::start() else { return };
    let webhooks = Webhooks::new(STRIPE, &[("key", SECRET)]);
    let next = "the-next-secret-of-the-test";
    let signed = signer.sign("stripe", next, "1", &body("stripe", "1"));
    assert_eq!(webhooks.send("stripe", &signed).status, 401);
    webhooks.write("key", next);
    assert!(until(SOON, || (webhooks.send("stripe", &signed).status == 200).then_some(())).is_some());
    let old = signer.sign("stripe", SECRET, "2", &body("stripe", "2"));
    assert_eq!(webhooks.send("stripe", &old).status, 401);
}

#[test]
fn a_source_is_added_changed_and_removed_while_the_service_runs() {
    let Some(mut signer) = Signer::start() else { return };
    let webhooks = Webhooks::new(STRIPE, &[("key", SECRET), ("other", "another-secret-of-the-test")]);
    let signed = signer.sign("github", "another-secret-of-the-test", "1", &body("github", "1"));
    assert_eq!(webhooks.send("hub", &signed).status, 404);
    let added = format!("{STRIPE}[sources.hub]\npreset = 'github'\nsecret_files = ['DIR/other']\n");
    webhooks.write("sekali.toml", &added);
    assert!(until(SOON, || (webhooks.send("hub", &signed).status == 200).then_some(())).is_some());
    // The secret of the new source is watched as well.
    webhooks.write("other", "yet-another-secret-of-the-test");
    assert!(until(SOON, || (webhooks.send("hub", &signed).status == 401).then_some(())).is_some());
    webhooks.write("sekali.toml", STRIPE);
    assert!(until(SOON, || (webhooks.send("hub", &signed).status == 404).then_some(())).is_some());
}

#[test]
fn what_is_wrong_changes_nothing_and_is_told() {
    let Some(mut signer) = Signer::start() else { return };
    let webhooks = Webhooks::new(STRIPE, &[("key", SECRET)]);
    webhooks.is_read(1);
    let mut id = 0;
    for (file, text, said) in [
        (
            "sekali.toml",
            "[sources.stripe]\npreset = 'strip'\nsecret_files = ['DIR/key']",
            "preset is \\\"strip\\\"",
        ),
        (
            "sekali.toml",
            "[sources.stripe]\npreset = 'stripe'\nsecret_file = 'DIR/key'",
            "unknown field `secret_file`",
        ),
        ("sekali.toml", "no TOML", "line 1"),
        ("sekali.toml", &STRIPE.replace("key", "absent"), "cannot read the secret"),
        ("key", "", "is empty"),
    ] {
        webhooks.write(file, text);
        webhooks.is_read(0);
        id += 1;
        let signed = signer.sign("stripe", SECRET, &id.to_string(), &body("stripe", &id.to_string()));
        assert_eq!(webhooks.outcome("stripe", &signed), (200, "stored".to_owned()), "{text}");
        let log = webhooks.service.server.log();
        assert!(log.contains("those of before stay in use") && log.contains(said), "{said}: {log}");
        webhooks.write("key", SECRET);
        webhooks.write("sekali.toml", STRIPE);
        webhooks.is_read(1);
    }
}

#[test]
fn sighup_has_all_read_again() {
    let webhooks = Webhooks::new(STRIPE, &[("key", SECRET)]);
    let status =
        Command::new("kill").args(["-HUP", &webhooks.service.server.pid().to_string()]).status().unwrap();
    assert!(status.success());
    let said = "the sources of webhooks were read again";
    assert!(until(SOON, || webhooks.service.server.log().contains(said).then_some(())).is_some());
}
