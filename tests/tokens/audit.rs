//! What the log says of who may do what, when that changes.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;

use sekali::auth::AUDIT;
use serde_json::Value;

use super::{Guarded, id, made, token_command};
use crate::support::service::event;
use crate::support::until;

impl Guarded {
    /// Waits for a line of the audit that has these fields.
    fn audited(&self, fields: &[(&str, &str)]) {
        let fits = |line: &str| {
            let line: Value = serde_json::from_str(line).unwrap_or_default();
            line["target"] == AUDIT && fields.iter().all(|(name, value)| line[*name] == **value)
        };
        let found = until(10, || self.service.server.log().lines().any(fits).then_some(()));
        assert!(found.is_some(), "{fields:?} is not in\n{}", self.service.server.log());
    }

    fn rewrite(&self, change: impl FnOnce(String) -> String) {
        let text = std::fs::read_to_string(&self.tokens_file).unwrap();
        std::fs::write(&self.tokens_file, change(text)).unwrap();
    }
}

#[test]
fn each_change_of_what_a_token_may_do_is_a_line_of_the_log() {
    let (guarded, admin) = Guarded::new();
    let token = guarded.token(&["read:a"]);
    let id = id(&token);
    let made = "test: read:a";
    guarded.audited(&[
        ("message", "it is let in from now on"),
        ("token", id),
        ("before", ""),
        ("after", made),
    ]);
    guarded.rewrite(|text| text.replace("\"read:a\"", "\"read:b\", \"metrics\""));
    let wider = "test: read:b metrics";
    let changed = ("message", "what it may do has changed");
    guarded.audited(&[changed, ("token", id), ("before", made), ("after", wider)]);
    assert!(token_command(&guarded.tokens_file, &["revoke", id]).status.success());
    guarded.audited(&[changed, ("token", id), ("before", wider)]);
    let log = guarded.service.server.log();
    assert!(log.contains("\"after\":\"test: read:b metrics, revoked 20"), "{log}");
    guarded.rewrite(|text| {
        let entries = text.split("[[token]]").filter(|entry| !entry.contains(id));
        entries.collect::<Vec<_>>().join("[[token]]")
    });
    guarded.audited(&[("message", "it is no longer let in"), ("token", id), ("after", "")]);
    assert_eq!(guarded.get(&admin, "/stats").0, 200);
}

#[test]
fn a_certificate_is_named_with_what_it_is_known_by() {
    let (guarded, _) = Guarded::new();
    guarded.rewrite(|text| {
        text + "\n[[certificate]]\nname = \"worker\"\nsan = [\"dns:worker.example.org\"]\n\
                allow = [\"publish:a\"]\nsource = [\"checkout\"]\n"
    });
    let after = "worker: publish:a, source checkout, dns:worker.example.org";
    guarded.audited(&[("message", "it is let in from now on"), ("token", "worker"), ("after", after)]);
}

#[test]
fn requests_that_change_what_others_depend_on_are_lines_of_the_log() {
    let (guarded, admin) = Guarded::new();
    let ask = |method: &str, path: &str, body: &str| {
        guarded.send(Some(&admin), method, path, "application/json", body.as_bytes()).status
    };
    for (method, path, body, status, message) in [
        ("PUT", "/consumers/c", r#"{"topics":["a"]}"#, 201, "a consumer was made, or is there"),
        ("POST", "/consumers/c/seek", r#"{"to":"end"}"#, 200, "a consumer was moved"),
        ("DELETE", "/consumers/c", "", 204, "a consumer was removed"),
        ("POST", "/tickets", "", 200, "a ticket was issued"),
    ] {
        assert_eq!(ask(method, path, body), status, "{method} {path}");
        let (token, peer) = (("token", id(&admin)), ("peer", "127.0.0.1"));
        guarded.audited(&[("message", message), token, peer, ("path", path)]);
    }
    assert_eq!(ask("DELETE", "/consumers/c", ""), 404);
    let log = guarded.service.server.log();
    let deeds = log.lines().filter(|line| line.contains("\"a consumer was removed\""));
    let ids = deeds.map(|line| serde_json::from_str::<Value>(line).unwrap()["request_id"].clone());
    let ids: Vec<Value> = ids.collect();
    assert!(ids.len() == 1 && ids[0].as_str().is_some_and(|id| !id.is_empty()), "{ids:?}");
}

#[test]
fn what_a_token_may_not_publish_is_a_line_of_the_log_though_the_rest_is_stored() {
    for (path, lines) in
        [("/publish", false), ("/publish?partial=true", false), ("/publish?partial=true", true)]
    {
        let (guarded, _) = Guarded::new();
        let token = guarded.token(&["publish:a"]);
        let events = [event("a", "1", 1), event("b", "1", 1)];
        let (kind, body) = match lines {
            true => ("application/x-ndjson", events.join("\n")),
            false => ("application/json", format!("[{}]", events.join(","))),
        };
        let status = guarded.send(Some(&token), "POST", path, kind, body.as_bytes()).status;
        assert_eq!(status, if path == "/publish" { 403 } else { 207 });
        let message = ("message", "refused: the token's scopes do not allow it");
        guarded.audited(&[message, ("token", id(&token)), ("peer", "127.0.0.1")]);
    }
}

#[test]
fn lines_of_the_audit_are_told_apart_in_a_log_of_text_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut service = super::program()
        .args(["serve", "--listen", "127.0.0.1:0", "--log-format", "text", "--data-dir"])
        .arg(dir.path().join("data"))
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(service.stderr.take().unwrap()).lines().map_while(Result::ok);
    let open = lines.find(|line| line.contains(AUDIT));
    let _ = service.kill();
    service.wait().unwrap();
    assert!(open.is_some_and(|line| line.contains("open: every program of this machine")));
}

#[test]
fn why_a_token_is_not_let_in_is_told_by_the_log_and_not_to_its_bearer() {
    let (guarded, _) = Guarded::new();
    let (revoked, other) = (guarded.token(&["read:a"]), guarded.token(&["read:b"]));
    let expired = made(&guarded.tokens_file, &["--name", "x", "--allow", "read:c", "--expires", "0s"]);
    assert!(token_command(&guarded.tokens_file, &["revoke", id(&revoked)]).status.success());
    let unknown = sekali::auth::token::Token::generate().unwrap();
    // Its entry now has the digest of another secret.
    guarded.rewrite(|text| {
        let mut entries: Vec<String> = text.split("[[token]]").map(str::to_owned).collect();
        let own = entries.iter().position(|entry| entry.contains(id(&other))).unwrap();
        let digest = |entry: &str| entry.split("sha256 = \"").nth(1).unwrap()[..64].to_owned();
        let (right, wrong) = (digest(&entries[own]), digest(&entries[1]));
        entries[own] = entries[own].replace(&right, &wrong);
        entries.join("[[token]]")
    });
    let told = |token: &str| {
        let answer = guarded.ask(Some(token), "GET", "/stats");
        (answer.status == 401).then(|| String::from_utf8(answer.body).unwrap())
    };
    let mut answers = Vec::new();
    for (token, reason) in [
        (other.as_str(), "wrong"),
        (&revoked, "revoked"),
        (&expired, "expired"),
        (unknown.reveal(), "unknown"),
    ] {
        // A request that was under way may be the first that is refused, and the log has no line for it.
        until(10, || told(token));
        let answer = told(token);
        guarded.audited(&[("reason", reason), ("token", id(token)), ("peer", "127.0.0.1")]);
        answers.push(answer.unwrap());
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
}

#[test]
fn a_tokens_file_that_a_group_may_write_to_is_told() {
    let (guarded, admin) = Guarded::new();
    let set = |mode| {
        std::fs::set_permissions(&guarded.tokens_file, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    set(0o640);
    guarded.audited(&[("message", "the tokens file was read again")]);
    assert!(!guarded.service.server.log().contains("a group may write"));
    set(0o660);
    let path = guarded.tokens_file.display().to_string();
    guarded.audited(&[("level", "WARN"), ("path", &path)]);
    assert_eq!(guarded.get(&admin, "/stats").0, 200);
}
