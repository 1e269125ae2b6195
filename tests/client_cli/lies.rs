//! Services that are none of ours, or say what isn't so: no command takes their word for it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Output, Stdio};
use std::time::Duration;

use super::hostile::Liar;
use super::{event, text};
use crate::support::service::Service;

const READERS: [&[&str]; 8] = [
    &["events"],
    &["stats"],
    &["stats", "--json"],
    &["topics"],
    &["get", "t", "1"],
    &["consumers"],
    &["consume", "c", "--ndjson"],
    &["consume", "c", "--topic", "t", "--ndjson"],
];

/// Publishes five events to it.
fn publish(liar: &Liar) -> Output {
    let lines: String = (0..5).map(|id| event("t", &id.to_string()) + "\n").collect();
    let mut command = liar.command(&["publish", "--retries", "0", "-"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn counts(received: u64, stored: u64, dropped: u64) -> String {
    format!(
        r#"{{"received":{received},"unique_processed":{stored},"duplicate_dropped":{dropped},"conflicts":0}}"#
    )
}

#[test]
fn a_publish_is_done_only_when_the_receipt_accounts_for_every_event() {
    let honest = publish(&Liar::saying(200, "", counts(5, 3, 2)));
    assert_eq!(honest.status.code(), Some(0), "{}", text(&honest.stderr));
    let more = |text: String, more: &str| text.replace("}", &format!("{more}}}"));
    for (status, body, told) in [
        (200, String::new(), "is it sekali?"),
        (200, "{}".to_owned(), "missing field `received`"),
        (200, "[]".to_owned(), "is it sekali?"),
        (200, "null".to_owned(), "is it sekali?"),
        (200, "<html>login</html>".to_owned(), "is it sekali?"),
        (200, r#"{"status":"ok"}"#.to_owned(), "missing field `received`"),
        (200, counts(1, 1, 0), "5 events were sent, but 1 received and 0 refused"),
        (200, counts(6, 6, 0), "5 events were sent, but 6 received and 0 refused"),
        (200, counts(5, 3, 1), "received is 5, but 3 stored and 1 dropped"),
        (200, counts(5, 5, 0).replace(",\"conflicts\":0", ""), "missing field `conflicts`"),
        (200, counts(5, 5, 0).replace("\"conflicts\":0", "\"conflicts\":9"), "9 conflicts"),
        (200, counts(5, 5, 0).replace(":5,", ":-5,"), "is it sekali?"),
        (200, counts(5, 5, 0).replace(":5,", ":5.0,"), "is it sekali?"),
        (200, counts(5, 5, 0).replace(":5,", ":\"5\","), "is it sekali?"),
        (200, more(counts(5, 5, 0), ",\"received\":5"), "duplicate field `received`"),
        (200, counts(5, 5, 0) + "{}", "is it sekali?"),
        (207, counts(5, 5, 0), "missing field `rejected`"),
        (207, more(counts(3, 3, 0), r#","rejected":1,"errors":[{"line":1}]"#), "3 received and 1 refused"),
        (207, more(counts(3, 3, 0), r#","rejected":2,"errors":[]"#), "names none"),
        (207, more(counts(3, 3, 0), r#","rejected":2,"errors":[{"line":77}]"#), "faults of other lines"),
        (201, counts(5, 5, 0), "it answers 201"),
        (202, String::new(), "it answers 202"),
        (204, String::new(), "it answers 204"),
        (400, String::new(), "answers 400"),
        (401, "{}".to_owned(), "answers 401"),
        (404, "<html>".to_owned(), "answers 404"),
        (413, r#"{"progress":{"lines":9}}"#.to_owned(), "answers 413"),
    ] {
        let liar = Liar::saying(status, "content-type: application/json\r\n", &body);
        let output = publish(&liar);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{status} {body}: {said}");
        assert!(said.contains(told) && said.contains(&liar.url), "{status} {body}: {said}");
        assert_eq!(text(&output.stdout), "", "{status} {body}: counts of what isn't so");
    }
}

#[test]
fn events_that_were_not_asked_for_are_an_error() {
    let event = r#"{"topic":"t","event_id":"2","timestamp":"x","source":"s","payload":1,"offset":0,"received_at":"x"}"#;
    let page = format!(r#"{{"topic":null,"count":1,"events":[{event}],"next_cursor":null}}"#);
    let page = Liar::saying(200, "content-type: application/json\r\n", page);
    let tail = Liar::saying(200, "content-type: text/event-stream\r\n", format!("id: 1\ndata: {event}\n\n"));
    for (arguments, told) in [
        (&["events", "--topic", "u"][..], "another topic"),
        (&["events", "--source", "u"], "another source"),
        (&["events", "--topic", "t", "--source", "u"], "another source"),
        (&["events", "--topic", "t", "--source", "s"], ""),
    ] {
        for (liar, more) in [(&page, &[][..]), (&tail, &["--follow", "--limit", "1"])] {
            let output = liar.command(&[arguments, more].concat()).output().unwrap();
            let said = text(&output.stderr);
            assert_eq!(output.status.success(), told.is_empty(), "{arguments:?} {more:?}: {said}");
            assert!(
                said.contains(told) && output.stdout.is_empty() != told.is_empty(),
                "{arguments:?}: {said}"
            );
        }
    }
}

#[test]
fn a_redirect_is_told_and_followed_by_no_command() {
    for status in [301, 302, 303, 307, 308] {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        other.set_nonblocking(true).unwrap();
        let location = format!("http://{}/login", other.local_addr().unwrap());
        let liar = Liar::saying(status, &format!("location: {location}\r\n"), "");
        let bench: &[&str] = &["bench", "--events", "10", "--connections", "1"];
        let follow: &[&str] = &["events", "--follow"];
        let commands = READERS.into_iter().chain([bench, follow, &["health"]]);
        let outputs = commands.map(|arguments| (arguments, liar.command(arguments).output().unwrap()));
        for (arguments, output) in outputs.chain([(&["publish"][..], publish(&liar))]) {
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{status} {arguments:?}: {said}");
            assert!(said.contains(&location) && said.contains(&liar.url), "{status} {arguments:?}: {said}");
            assert_eq!(text(&output.stdout), "", "{status} {arguments:?}");
        }
        assert!(other.accept().is_err(), "somebody came to where the redirect leads");
    }
}

#[test]
fn the_answers_of_another_service_are_an_error_that_names_it() {
    let event = r#"{"topic":"t","event_id":"2","timestamp":"x","source":"s","payload":1,"offset":0,"received_at":"x"}"#;
    for body in [
        String::new(),
        "ok".to_owned(),
        "<!DOCTYPE html><html>login</html>".to_owned(),
        "{}".to_owned(),
        "[]".to_owned(),
        "7".to_owned(),
        r#"{"status":"ok"}"#.to_owned(),
        // Almost a page, almost totals, almost the event.
        r#"{"count":1,"events":[{}],"topics":[{}],"next_cursor":null}"#.to_owned(),
        r#"{"count":2,"events":[],"topics":[],"next_cursor":null}"#.to_owned(),
        r#"{"count":0,"events":[],"topics":[]}"#.to_owned(),
        format!(r#"{{"count":1,"events":[[{event}]],"topics":[7],"next_cursor":null}}"#),
        event.to_owned(),
        format!(r#"{{"rejected":0,"topics":[],"uptime_seconds":1,{}"#, &counts(5, 3, 1)[1..]),
    ] {
        let liar = Liar::saying(200, "content-type: text/html\r\n", &body);
        let more: [&[&str]; 3] = [&["health"], &["events", "--follow"], &["bench", "--events", "10"]];
        for arguments in READERS.into_iter().chain(more) {
            let output = liar.command(arguments).output().unwrap();
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{arguments:?} {body}: {said}");
            assert!(said.contains(&liar.url) && said.contains("is it sekali?"), "{arguments:?}: {said}");
            assert_eq!(text(&output.stdout), "", "{arguments:?} {body}");
        }
    }
    // A 404 of something else is no proof that an event is not stored.
    for body in ["", "<html>", r#"{"detail":"Not Found"}"#] {
        let output = Liar::saying(404, "", body).command(&["get", "t", "1"]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    }
    let tail = "content-type: text/event-stream\r\n";
    let output = Liar::saying(200, tail, "data: {}\n\n").command(&["events", "--follow"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
}

/// What a consumer is given, with these members in the place of its own.
fn given(more: &serde_json::Value) -> String {
    let event = serde_json::json!({
        "topic": "t", "event_id": "1", "timestamp": "x", "source": "s", "payload": 1, "offset": 0, "received_at": "x"
    });
    let mut given = serde_json::json!({"events": [event], "receipt": "r", "lag": 1, "lease_until": "2026-11-22T10:00:00Z"});
    for (name, value) in more.as_object().unwrap() {
        match value.is_string() && value == "missing" {
            true => _ = given.as_object_mut().unwrap().remove(name),
            false => given[name] = value.clone(),
        }
    }
    given.to_string()
}

#[test]
fn events_are_worked_on_only_as_the_service_gives_them() {
    let consume = ["consume", "c", "--ndjson", "--limit", "1", "--retries", "0"];
    let told = |liar: &Liar| {
        let output = liar.command(&consume).output().unwrap();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    fn said<const N: usize>(answers: [&str; N]) -> Liar {
        Liar::answering(answers.map(|body| Liar::answer(200, "", body)))
    }
    let whole = given(&serde_json::json!({}));
    let acknowledged = r#"{"acknowledged":true}"#;
    let (code, out, err) = told(&said([&whole, acknowledged, &whole]));
    assert_eq!((code, out.lines().count()), (Some(0), 1), "{err}");
    for more in [
        serde_json::json!({"receipt": "missing"}),
        serde_json::json!({"receipt": null}),
        serde_json::json!({"lag": "missing"}),
        serde_json::json!({"events": []}),
        serde_json::json!({"events": [1]}),
        serde_json::json!({"events": "missing"}),
        serde_json::json!({"events": [{"topic": "t"}]}),
    ] {
        let (code, out, err) = told(&said([&given(&more)]));
        assert_eq!((code, &*out), (Some(1), ""), "{more}: {err}");
        assert!(err.contains("is it sekali?"), "{more}: {err}");
    }
    for answer in ["", "{}", "[]", "<html>", r#"{"acknowledged":false}"#, r#"{"acknowledged":"true"}"#] {
        let (code, _, err) = told(&said([&whole, answer]));
        assert_eq!(code, Some(1), "{answer}: {err}");
        assert!(err.contains("an acknowledgement") && err.contains("is it sekali?"), "{answer}: {err}");
    }
}

#[test]
fn a_load_counts_what_the_answers_account_for() {
    for (answer, told) in [
        (counts(1, 1, 0), "10 events were sent in a request, and answered were 1 received, 1 stored"),
        (counts(10, 4, 4), "answered were 10 received, 4 stored and 4 dropped"),
        ("{}".to_owned(), "no counts"),
        ("<html>".to_owned(), "no counts"),
    ] {
        let liar = Liar::answering([
            Liar::answer(200, "", counts(0, 0, 0)),
            Liar::answer(200, "", answer),
            Liar::answer(200, "", counts(10, 6, 4)),
        ]);
        let bench = ["bench", "--events", "10", "--batch", "10", "--connections", "1"];
        let output = liar.command(&bench).output().unwrap();
        let said = text(&output.stdout) + &text(&output.stderr);
        assert_eq!((output.status.code(), said.contains(told)), (Some(1), true), "{said}");
    }
}

#[test]
fn a_listing_that_goes_round_ends_with_an_error() {
    let page = |cursor: &str| {
        let body =
            format!(r#"{{"count":0,"events":[],"topics":[],"consumers":[],"next_cursor":"{cursor}"}}"#);
        Liar::answer(200, "", body)
    };
    for arguments in [&["events"][..], &["topics"], &["consumers"]] {
        for liar in [
            Liar::answering([page("a")]),
            Liar::answering([page("a"), page("b"), page("c"), page("b"), page("c"), page("b"), page("c")]),
        ] {
            let output = liar.command(arguments).output().unwrap();
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(said.contains("next_cursor") && said.contains(&liar.url), "{said}");
        }
    }
}

/// Serves a head and then `byte` again and again, to everybody.
fn flood(head: &str, start: &'static str, unit: &'static str, bytes: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let head = format!("HTTP/1.1 {head}\r\nconnection: close\r\ncontent-length: {bytes}\r\n\r\n{start}");
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let head = head.clone();
            std::thread::spawn(move || pour(&mut client, &head, unit, bytes));
        }
    });
    url
}

fn pour(client: &mut TcpStream, head: &str, unit: &str, bytes: usize) -> std::io::Result<()> {
    let mut request = [0; 64 << 10];
    // The head, and of a body what came with it.
    let _ = client.read(&mut request)?;
    client.write_all(head.as_bytes())?;
    let piece = unit.repeat((1 << 16) / unit.len());
    let mut left = bytes;
    while left > 0 {
        let length = left.min(piece.len());
        client.write_all(&piece.as_bytes()[..length])?;
        left -= length;
    }
    Ok(())
}

#[test]
fn no_answer_takes_more_memory_than_a_command_may() {
    const ANSWER_BYTES: usize = 200 << 20;
    /// What the largest answer that is taken needs, and the program itself.
    const MEMORY_KIB_MAX: u64 = 200 << 10;
    let service = Service::new();
    let file = service.file("events", event("t", "1"));
    let publish: [&str; 4] = ["publish", "--retries", "0", &file];
    let events: &[&str] = &["events", "--retries", "0"];
    let follow: &[&str] = &["events", "--follow", "--retries", "0"];
    let consume: &[&str] = &["consume", "c", "--ndjson", "--retries", "0"];
    let all = [
        events,
        follow,
        consume,
        &["consumers"],
        &["stats"],
        &["topics"],
        &["get", "t", "1"],
        &["health"],
        &["bench"],
        &publish,
    ];
    for (head, start, unit) in [
        ("500 X", "", "x"),
        ("422 X", "{\"detail\":[", "1,"),
        ("200 OK", "", "x"),
        ("200 OK", "{\"count\":1,\"events\":[", "1,"),
        ("200 OK", "{\"count\":1,\"topics\":[", "{},"),
        ("200 OK", "{\"unknown\":[", "[],"),
        ("207 X", "{\"errors\":[", "1,"),
        ("200 OK\r\ncontent-type: text/event-stream", "data: ", "x"),
    ] {
        let url = flood(head, start, unit, ANSWER_BYTES);
        for arguments in all {
            let mut command = service.command(arguments);
            command.env("SEKALI_URL", &url).stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = command.spawn().unwrap();
            let mut peak = 0;
            let is_over = crate::support::until(60, || {
                peak = crate::support::process::status(child.id(), "VmHWM:").unwrap_or(peak);
                let is_tail = arguments.contains(&"--follow") && start == "data: ";
                (child.try_wait().unwrap().is_some() || (is_tail && peak > 20 << 10)).then_some(())
            });
            let _ = child.kill();
            let code = child.wait().unwrap().code();
            assert!(is_over.is_some(), "{arguments:?} goes on with {head} {start}");
            assert!(code.is_none_or(|code| matches!(code, 1 | 9)), "{arguments:?} {head} {start}: {code:?}");
            assert!(peak < MEMORY_KIB_MAX, "{arguments:?} {head} {start}: {peak} KiB");
        }
    }
}

#[test]
fn a_file_that_is_being_written_has_a_name_that_nobody_can_foresee() {
    let dir = tempfile::tempdir().unwrap();
    let (out, victim) = (dir.path().join("out"), dir.path().join("victim"));
    std::fs::create_dir(&out).unwrap();
    std::fs::write(&victim, "precious").unwrap();
    std::os::unix::fs::symlink(&victim, out.join("x.ndjson.partial")).unwrap();
    // It answers nothing, so the file stays as it is being written.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let mut names = Vec::new();
    for _ in 0..2 {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_sekali"));
        command.args(["events", "--url", &url, "-o"]).arg(out.join("x.ndjson")).stdin(Stdio::null());
        let mut child = command.spawn().unwrap();
        let name = crate::support::until(30, || {
            let entries = std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name());
            entries.into_iter().find(|name| name != "x.ndjson.partial" && !names.contains(name))
        });
        child.kill().unwrap();
        child.wait().unwrap();
        names.push(name.unwrap());
    }
    assert_eq!(names.len(), 2);
    let service = Service::new();
    service.pipe(&["publish", "-"], event("t", "1"));
    let output = service.run(&["events", "-o", out.join("x.ndjson").to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
    assert_eq!(std::fs::read(out.join("x.ndjson")).unwrap(), service.run(&["events"]).stdout);
}

#[test]
fn a_service_that_never_was_there_is_not_waited_for_by_a_reader() {
    for (arguments, tries) in
        [(&["events"][..], 2), (&["events", "--follow"], 2), (&["events", "--retries", "3"], 4)]
    {
        // It takes connections and answers nothing.
        let liar = Liar::answering([Vec::new()]);
        let output = liar.command(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(9), "{}", text(&output.stderr));
        let requests = std::iter::from_fn(|| liar.requests.recv_timeout(Duration::from_millis(50)).ok());
        assert_eq!(requests.count(), tries, "{arguments:?}");
    }
}
