//! `sekali token`, the first token of a service that others can reach, and the commands that show
//! tokens.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::{Guarded, id, made, printed, program, token_command};
use crate::support::client::Client;
use crate::support::process::Start;
use crate::support::until;

#[test]
fn a_token_is_made_listed_rotated_and_revoked() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokens.toml");
    let first = made(&file, &["--name", "checkout", "--allow", "publish:orders.*", "--expires", "90d"]);
    assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    let listed = || -> serde_json::Value {
        serde_json::from_str(&printed(&token_command(&file, &["list", "--json"]))).unwrap()
    };
    assert_eq!(listed()[0]["id"], id(&first));
    assert_eq!(listed()[0]["allow"][0], "publish:orders.*");
    let second = printed(&token_command(&file, &["rotate", id(&first), "--overlap", "1h"]));
    let tokens = listed();
    assert_eq!((&tokens[1]["name"], &tokens[1]["id"]), (&"checkout".into(), &id(&second).into()));
    assert_ne!(tokens[0]["expires"], tokens[1]["expires"]);
    assert!(token_command(&file, &["revoke", id(&first)]).status.success());
    assert_eq!(listed()[0]["state"], "revoked");
    let shown = printed(&token_command(&file, &["list"]));
    assert!(shown.contains("revoked") && shown.contains("checkout"), "{shown}");
    assert!(!std::fs::read_to_string(&file).unwrap().contains(&second[18..]));
}

#[test]
fn a_token_that_is_refused_cannot_be_rotated_into_one_that_is_let_in() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokens.toml");
    let revoked = made(&file, &["--name", "revoked", "--allow", "admin"]);
    assert!(token_command(&file, &["revoke", id(&revoked)]).status.success());
    let expired = made(&file, &["--name", "expired", "--allow", "admin", "--expires", "0s"]);
    let before = std::fs::read(&file).unwrap();
    for (token, state) in [(&revoked, "is revoked"), (&expired, "is expired")] {
        let output = token_command(&file, &["rotate", id(token)]);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains(state) && output.stdout.is_empty(), "{told}");
        assert_eq!(std::fs::read(&file).unwrap(), before);
    }
}

#[test]
fn a_command_follows_a_link_to_the_tokens_file_and_keeps_it() {
    let dir = tempfile::tempdir().unwrap();
    let (link, target) = (dir.path().join("tokens.toml"), dir.path().join("shared.toml"));
    std::os::unix::fs::symlink(&target, &link).unwrap();
    let token = made(&link, &["--name", "x", "--allow", "admin"]);
    assert!(token_command(&link, &["revoke", id(&token)]).status.success());
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(printed(&token_command(&target, &["list"])).contains("revoked"));
}

#[test]
fn what_is_wrong_with_a_command_is_told_and_nothing_is_changed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokens.toml");
    for (arguments, code, expected) in [
        (&["create", "--name", "x", "--allow", "write:*"][..], 2, "is no scope"),
        (&["create", "--name", "x"], 2, "--allow"),
        (&["create", "--name", "x", "--allow", "read:a*b"], 2, "comes last"),
        (&["create", "--name", "x", "--allow", "admin", "--expires", "soon"], 2, "--expires"),
        (&["create", "--name", "x", "--allow", "admin", "--expires", "999999999d"], 2, "within 1000 years"),
        (&["create", "--name", "", "--allow", "admin"], 5, "1 to 100 bytes"),
        (&["revoke", "8hQ2mVx0Lr"], 1, "no token has the id"),
    ] {
        let output = token_command(&file, arguments);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
        assert!(told.contains(expected), "{arguments:?}: {told}");
        assert!(!file.exists(), "{arguments:?}: an empty file would let nobody in");
    }
    // One that was there before lets nobody in, and goes on to.
    std::fs::write(&file, "").unwrap();
    assert_eq!(token_command(&file, &["revoke", "8hQ2mVx0Lr"]).status.code(), Some(1));
    assert_eq!(std::fs::read(&file).unwrap(), b"");
    let elsewhere = dir.path().join("absent/tokens.toml");
    let output = token_command(&elsewhere, &["create", "--name", "x", "--allow", "admin"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(5) && told.contains("--data-dir"), "{told}");
    std::fs::write(&file, "[[token]]\n").unwrap();
    let output = token_command(&file, &["list"]);
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A service that listens at all addresses, with these variables.
fn reachable(
    start: &Start,
    variables: &[(&str, &std::ffi::OsStr)],
) -> Result<crate::support::process::Server, String> {
    let mut start = start.clone();
    start.env.extend(variables.iter().map(|(name, value)| ((*name).into(), (*value).to_owned())));
    start.listen = "0.0.0.0:0".to_owned();
    start.ready().map(|(server, _)| server)
}

#[test]
fn a_service_that_others_reach_makes_a_first_token_once() {
    let dir = tempfile::tempdir().unwrap();
    let start = Start::tiny_generations(&dir.path().join("data"));
    let mut server = reachable(&start, &[]).unwrap();
    let path = start.data_dir.join("admin-token");
    let token = std::fs::read_to_string(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    let log = server.log();
    assert!(log.contains("admin-token") && !log.contains(token.trim()), "{log}");
    server.kill();
    let mut server = reachable(&start, &[]).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), token);
    server.kill();
    let file = start.data_dir.join("tokens.toml");
    assert!(printed(&token_command(&file, &["list"])).contains(id(&token)));
    // Without its entry, as after a crash between both files, the same token gets one again.
    std::fs::remove_file(&file).unwrap();
    let mut server = reachable(&start, &[]).unwrap();
    assert!(printed(&token_command(&file, &["list"])).contains(id(&token)));
    assert_eq!(server.terminate(), Some(0));
    let verified = program().args(["verify", "--data-dir"]).arg(&start.data_dir).output().unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
}

#[test]
fn a_first_token_may_be_given() {
    let dir = tempfile::tempdir().unwrap();
    let start = Start::tiny_generations(&dir.path().join("data"));
    let (given, wrong) = (dir.path().join("given"), dir.path().join("wrong"));
    let token = made(&dir.path().join("other.toml"), &["--name", "x", "--allow", "admin"]);
    std::fs::write(&given, format!("\u{feff}{token}\r\n")).unwrap();
    std::fs::write(&wrong, "planted-5d1e").unwrap();
    let refused = reachable(&start, &[("SEKALI_BOOTSTRAP_TOKEN_FILE", wrong.as_os_str())]).unwrap_err();
    assert!(refused.contains("this is no token") && !refused.contains("planted-5d1e"), "{refused}");
    std::fs::set_permissions(&given, Permissions::from_mode(0o666)).unwrap();
    let refused = reachable(&start, &[("SEKALI_BOOTSTRAP_TOKEN_FILE", given.as_os_str())]).unwrap_err();
    assert!(refused.contains("chmod o-w"), "{refused}");
    std::fs::set_permissions(&given, Permissions::from_mode(0o600)).unwrap();
    let mut server = reachable(&start, &[("SEKALI_BOOTSTRAP_TOKEN_FILE", given.as_os_str())]).unwrap();
    assert!(!start.data_dir.join("admin-token").exists());
    let listed = printed(&token_command(&start.data_dir.join("tokens.toml"), &["list"]));
    assert!(listed.contains(id(&token)), "{listed}");
    server.kill();
    let both = reachable(&start, &[("SEKALI_INSECURE_NO_AUTH", "true".as_ref())]).unwrap_err();
    assert!(both.contains("insecure_no_auth"), "{both}");
}

#[test]
fn a_service_on_loopback_asks_for_tokens_if_others_come_by_a_proxy() {
    for (variable, value) in [
        ("SEKALI_TRUSTED_PROXY", "127.0.0.1"),
        ("SEKALI_TRUSTED_PROXY", "unix"),
        ("SEKALI_ALLOWED_HOST", "localhost,events.example.org"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut start = Start::tiny_generations(&dir.path().join("data"));
        start.env.push((variable.into(), value.into()));
        let (server, addr) = start.ready().unwrap();
        assert_eq!(Client::new(addr).get("/stats").unwrap().status, 401, "{variable}={value}");
        let token = std::fs::read_to_string(start.data_dir.join("admin-token")).unwrap();
        let authorization = format!("Bearer {}", token.trim());
        let allowed = Client::new(addr).send("GET", "/stats", &[("Authorization", &authorization)], b"");
        assert_eq!(allowed.unwrap().status, 200, "{variable}={value}");
        assert!(server.log().contains("\"because\":\""), "{}", server.log());
    }
}

#[test]
fn a_tokens_file_that_is_named_and_absent_does_not_mean_an_open_service() {
    let dir = tempfile::tempdir().unwrap();
    let (named, given) = (dir.path().join("tokens.toml"), dir.path().join("given"));
    let start = Start::tiny_generations(&dir.path().join("data"));
    let with = |variables: &[(&str, &std::ffi::OsStr)]| {
        let mut start = start.clone();
        start.env.push(("SEKALI_TOKENS_FILE".into(), named.clone().into()));
        start.env.extend(variables.iter().map(|(name, value)| ((*name).into(), (*value).to_owned())));
        start.ready().map(|(server, _)| server)
    };
    let refused = with(&[]).unwrap_err();
    assert!(refused.contains("there is no tokens file") && refused.contains("token create"), "{refused}");
    assert!(!start.data_dir.exists(), "it is told before anything is made");
    let mut open = with(&[("SEKALI_INSECURE_NO_AUTH", "true".as_ref())]).unwrap();
    open.kill();
    // A first token that is given makes the file, wherever the service listens.
    std::fs::write(&given, made(&dir.path().join("other.toml"), &["--name", "x", "--allow", "admin"]))
        .unwrap();
    let mut guarded = with(&[("SEKALI_BOOTSTRAP_TOKEN_FILE", given.as_os_str())]).unwrap();
    assert!(printed(&token_command(&named, &["list"])).contains("admin"));
    guarded.kill();
    with(&[]).unwrap();
}

#[test]
fn the_door_of_a_running_service_is_closed_by_its_first_token() {
    let service = super::Service::new();
    assert_eq!(service.post(&crate::support::service::event("a", "1", 1)), 200);
    let token = made(&service.start.data_dir.join("tokens.toml"), &["--name", "x", "--allow", "read:*"]);
    let closed = until(10, || (service.post("{}") == 401).then_some(()));
    assert!(closed.is_some(), "{}", service.server.log());
    let file = service.path("token");
    std::fs::write(&file, &token).unwrap();
    let stats =
        program().args(["stats", "--url", &service.url(), "--token-file"]).arg(&file).output().unwrap();
    assert!(printed(&stats).contains('1'));
}

#[test]
fn client_commands_show_the_token_of_a_file_or_a_variable() {
    let (guarded, admin) = Guarded::new();
    let (file, url) = (guarded.service.path("token"), guarded.service.url());
    std::fs::write(&file, format!("{admin}\n")).unwrap();
    let run = |arguments: &[&str], variables: &[(&str, &str)]| {
        let variables = variables.iter().copied();
        program().args(arguments).args(["--url", &url]).envs(variables).output().unwrap()
    };
    let path = file.to_str().unwrap();
    assert!(run(&["stats", "--token-file", path], &[]).status.success());
    assert!(run(&["stats"], &[("SEKALI_TOKEN_FILE", path)]).status.success());
    assert!(run(&["topics"], &[("SEKALI_TOKEN", &admin)]).status.success());
    // Whoever may not read all topics is not told of what was refused.
    let part = guarded.token(&["read:a.*"]);
    let told = String::from_utf8(run(&["stats"], &[("SEKALI_TOKEN", &part)]).stdout).unwrap();
    assert!(told.contains(" - refused"), "{told}");
    let bench = ["bench", "--events", "200", "--connections", "2", "--batch", "10"];
    let benched = run(&bench, &[("SEKALI_TOKEN", &admin)]);
    assert!(benched.status.success(), "{}", String::from_utf8_lossy(&benched.stderr));
    let refused = run(&["stats"], &[]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && told.contains("needs a token"), "{told}");
    std::fs::write(&file, "two words").unwrap();
    let refused = run(&["stats", "--token-file", path], &[]);
    assert_eq!(refused.status.code(), Some(3));
    assert!(!String::from_utf8_lossy(&refused.stderr).contains("two words"));
}

#[test]
fn a_token_that_is_readable_on_the_way_to_another_machine_is_warned_of() {
    let token = sekali::auth::token::Token::generate().unwrap();
    let told = |url: &str, token: Option<&str>| {
        let mut command = program();
        command.args(["stats", "--url", url]).envs(token.map(|token| ("SEKALI_TOKEN", token)));
        String::from_utf8(command.output().unwrap().stderr).unwrap()
    };
    let warning = "the token is readable on the way to http://sekali.invalid:1: use https://";
    let (shown, hidden) = (told("http://sekali.invalid:1", Some(token.reveal())), "readable on the way");
    assert_eq!(shown.matches(warning).count(), 1, "{shown}");
    for (url, token) in [
        ("http://sekali.invalid:1", None),
        ("http://127.0.0.1:1", Some(token.reveal())),
        ("https://sekali.invalid:1", Some(token.reveal())),
    ] {
        let told = told(url, token);
        assert!(!told.contains(hidden), "{told}");
    }
}
