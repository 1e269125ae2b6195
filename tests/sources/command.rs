//! `sekali source`, and what is said of a configuration that can't be used.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use super::{SECRET, Signer, body, signer::Signed, unix_now};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("key"), SECRET).unwrap();
        let config = config.replace("DIR", &dir.path().display().to_string());
        std::fs::write(dir.path().join("sekali.toml"), config).unwrap();
        Self(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sekali"));
        command.env_clear().env("SEKALI_CONFIG", self.path().join("sekali.toml"));
        command.args(arguments).current_dir(self.path()).output().unwrap()
    }

    /// Has a delivery explained; the exit code and what is printed.
    fn test(&self, name: &str, signed: &Signed, more: &[&str]) -> (i32, String) {
        std::fs::write(self.path().join("body"), &signed.body).unwrap();
        let headers: Vec<_> = signed.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        let headers = headers.iter().flat_map(|header| ["--header", header.as_str()]);
        let arguments: Vec<_> = ["source", "test", name, "--body", "body"]
            .into_iter()
            .chain(headers)
            .chain(more.iter().copied())
            .collect();
        let output = self.run(&arguments);
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_test_explains_each_step_and_ends_with_a_code() {
    let Some(mut signer) = Signer::start() else { return };
    let folder = Folder::new("[sources.stripe]\npreset = 'stripe'\nsecret_files = ['DIR/key']");
    let signed = signer.sign("stripe", SECRET, "evt_1", &body("stripe", "evt_1"));
    let (code, text) = folder.test("stripe", &signed, &[]);
    assert_eq!(code, 0, "{text}");
    for part in [
        "{header.Stripe-Signature} is there",
        "key fits",
        "the tolerance is 300 s",
        "stripe.invoice.paid",
        "evt_1",
        "200: it would be stored",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let (code, text) = folder.test("stripe", &signed, &["--at", &(unix_now() + 1_000).to_string()]);
    assert_eq!((code, text.contains("no  signed at") && text.contains("401")), (1, true), "{text}");
    let mut changed = signed.clone();
    changed.body.push(b'\n');
    let (code, text) = folder.test("stripe", &changed, &[]);
    assert_eq!((code, text.contains("byte for byte")), (1, true), "{text}");
    let (code, text) = folder.test("stripe", &Signed { headers: Vec::new(), ..signed.clone() }, &[]);
    assert_eq!((code, text.contains("there is no {header.Stripe-Signature}")), (1, true), "{text}");
    let mut packed = signed.clone();
    packed.headers.push(("Content-Encoding".to_owned(), "gzip".to_owned()));
    let (code, text) = folder.test("stripe", &packed, &[]);
    assert_eq!((code, text.contains("no  body") && text.contains("415:")), (1, true), "{text}");
    let signed = signer.sign("stripe", SECRET, "evt_2", r#"{"type":"x"}"#);
    let (code, text) = folder.test("stripe", &signed, &["--json"]);
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (code, &json["status"], &json["steps"][4]["step"]),
        (1, &422.into(), &"event_id".into()),
        "{text}"
    );
    assert!(!text.contains(SECRET));
}

#[test]
fn a_list_tells_what_is_configured_and_which_secrets_are_there() {
    let folder = Folder::new(
        "[sources.a]\npreset = 'stripe'\nsecret_files = ['DIR/key']\n[sources.b]\npreset = 'github'\nsecret_files = ['DIR/absent']",
    );
    let output = folder.run(&["source", "list"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text.contains("/in/a ") && text.contains("ready") && text.contains("cannot read the secret"),
        "{text}"
    );
    let output = folder.run(&["source", "list", "--json"]);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json[0]["path"], &json[0]["fault"]), (&"/in/a".into(), &Value::Null));
    assert_eq!(json[1]["preset"], "github");
}

#[test]
fn a_name_that_is_none_of_a_source_is_told_with_those_that_are() {
    let folder = Folder::new("[sources.a]\npreset = 'stripe'\nsecret_files = ['DIR/key']");
    std::fs::write(folder.path().join("body"), "{}").unwrap();
    let output = folder.run(&["source", "test", "b", "--body", "body"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("no source is called \"b\": a"), "{}", said(&output));
}

#[test]
fn a_wrong_configuration_is_refused_with_what_to_write() {
    let custom = "scheme = 'hmac-sha256'\nheader = 'X-S'\ntopic = 't'\nevent_id = '{body.id}'\nsecret_files = ['DIR/key']\n";
    for (lines, expected) in [
        ("", "preset is missing: write one of standard-webhooks, svix, stripe"),
        ("preset = 'strip'", "preset is \"strip\": write one of"),
        ("preset = 'stripe'\nscheme = 'ed25519'", "exclude each other"),
        ("preset = 'stripe'", "secret_files is missing"),
        ("preset = 'stripe'\nsecret_files = ['DIR/key']\nheader = 'X'", "the preset stripe knows the header"),
        (
            "preset = 'stripe'\nsecret_files = ['DIR/key']\ntopic = '{bdy.type}'",
            "topic: {bdy.type} stands for nothing here",
        ),
        (
            "preset = 'stripe'\nsecret_files = ['DIR/key']\ntolerance = 'soon'",
            "write a span of time such as \"5m\"",
        ),
        ("preset = 'github'\nsecret_files = ['DIR/key']\ntolerance = '5m'", "tolerance needs to know when"),
        (
            "preset = 'meta'\nsecret_files = ['DIR/key']",
            "event_id is missing: write what it is made of, such as event_id = \"{body.id}\"",
        ),
        ("preset = 'twilio'\nsecret_files = ['DIR/key']", "url is missing"),
        (
            "preset = 'stripe'\nsecret_files = ['DIR/key']\nurl = 'https://a'",
            "url is not signed by this sender",
        ),
        (
            "preset = 'stripe'\nsecret_files = ['DIR/key']\nheaders = ['Stripe-Signature']",
            "holds a credential",
        ),
        ("preset = 'stripe'\nsecret_files = ['DIR/key']\nheaders = ['Authorization']", "holds a credential"),
        ("preset = 'stripe'\nsecret_files = ['DIR/key']\nheaders = ['Set-Cookie']", "holds a credential"),
        ("preset = 'stripe'\nsecret_files = ['DIR/key']\nheaders = ['X-Api-Key']", "holds a credential"),
        (
            "preset = 'stripe'\nsecret_files = ['DIR/key']\nheaders = ['X-Shopify-Access-Token']",
            "holds a credential",
        ),
        (
            "preset = 'stripe'\nsecret_files = ['DIR/key']\ntopic = 's.{header.Authorization}'",
            "topic has {header.authorization}, which holds a credential",
        ),
        (
            "preset = 'gitlab'\nsecret_files = ['DIR/key']\nevent_id = '{header.X-Gitlab-Token}'",
            "event_id has {header.x-gitlab-token}, which holds a credential",
        ),
        (
            "preset = 'stripe'\nsecret_files = ['DIR/key']\nevent_id = 'body.id'",
            "event_id is \"body.id\" for all deliveries: write what it is made of in braces",
        ),
        (
            "preset = 'stripe'\nsecret_files = ['DIR/key']\nevent_id = '{source}-1'",
            "event_id is \"{source}-1\" for all deliveries",
        ),
        (
            "preset = 'stripe'\nsecret_files = ['DIR/key']\ntopic = \"pay\\u0007ments\"",
            "topic: topic must not hold control characters",
        ),
        (
            &format!(
                "preset = 'stripe'\nsecret_files = ['DIR/key']\ntopic = '{}.{{body.type}}'",
                "x".repeat(256)
            ),
            "topic: topic must have at most 255 bytes",
        ),
        (
            "preset = 'stripe'\nsecret_files = ['DIR/key']\nevent_id = \"a\\n{body.id}\"",
            "event_id: event_id must not hold control characters",
        ),
        (
            "preset = 'stripe'\nsecret_files = ['DIR/key']\nquarantine = ''",
            "quarantine: topic must not be empty",
        ),
        (
            "preset = 'stripe'\nsecret_files = ['DIR/key']\nverify_token_file = 'DIR/key'",
            "verify_token_file is for senders",
        ),
        ("preset = 'stripe'\nsecret_files = ['DIR/key']\nsecrets = 'x'", "unknown field `secrets`"),
        (&custom.replace("header = 'X-S'\n", ""), "header is missing"),
        (&custom.replace("hmac-sha256", "md5"), "scheme is \"md5\": write one of hmac-sha256"),
        (&format!("{custom}encoding = 'b64'"), "encoding is \"b64\": write hex, base64, text"),
        (&format!("{custom}signed = 'x'"), "signed must hold {body}"),
        (&format!("{custom}signed = '{{timestamp}}{{body}}'"), "write where that stands, as signed_at"),
        (&format!("{custom}signed_at = '{{header.X-T}}'"), "signed must hold {timestamp}"),
        (&format!("{custom}signed_at = '{{body_sha256}}'"), "signed must hold {timestamp}"),
        (&format!("{custom}encoding = 'text'"), "encoding \"text\" is for the scheme token"),
        (&custom.replace("X-S", "X-S:"), "header is \"X-S:\", which is no name of a header"),
        (&format!("{custom}headers = ['X-A', 'x-a']"), "twice: name it once"),
        (&format!("{custom}quarantine = '{{source}}.q'"), "write it without braces"),
    ] {
        let folder = Folder::new(&format!("[sources.one]\n{lines}"));
        for command in [&["source", "list"][..], &["config"]] {
            let output = folder.run(command);
            assert_eq!(output.status.code(), Some(3), "{lines}");
            assert!(said(&output).contains(expected), "{lines}: {}", said(&output));
        }
    }
    let folder = Folder::new("[sources.'a b']\npreset = 'stripe'\nsecret_files = ['DIR/key']");
    assert!(said(&folder.run(&["config"])).contains("letters, digits, - and _"));
}

#[test]
fn a_secret_that_was_written_into_the_configuration_is_not_shown() {
    for lines in [
        "[sources.one]\nsecret = 'planted-4711'",
        "sources.one = { secret = 'planted-4711' }",
        "[sources.one]\npreset = [\"planted-4711\"]",
        "[sources.one]\nsecret_files = 'planted-4711'",
        "[sources.one]\nseparator = 'planted-4711'",
    ] {
        let output = Folder::new(lines).run(&["config"]);
        assert_eq!(output.status.code(), Some(3), "{lines}");
        assert!(!said(&output).contains("planted"), "{}", said(&output));
    }
}

#[test]
fn a_service_does_not_start_with_a_secret_that_it_cannot_use() {
    for (preset, secret, expected) in [
        ("stripe", " \n", "is empty"),
        ("standard-webhooks", "whsec_no base64!", "must hold the secret in base64"),
        ("standard-webhooks", "whpk_AAAA", "must hold an Ed25519 public key"),
        ("sendgrid", "AAAA", "must hold a P-256 public key"),
    ] {
        let folder = Folder::new(&format!("[sources.one]\npreset = '{preset}'\nsecret_files = ['DIR/key']"));
        std::fs::write(folder.path().join("key"), secret).unwrap();
        let output = folder.run(&["serve", "--listen", "127.0.0.1:0", "--data-dir", "data"]);
        assert_eq!(output.status.code(), Some(3), "{preset}");
        assert!(
            said(&output).contains(expected)
                && !said(&output).contains(secret.trim()) | secret.trim().is_empty(),
            "{}",
            said(&output)
        );
        assert!(!folder.path().join("data").exists(), "the store was not opened");
    }
}
