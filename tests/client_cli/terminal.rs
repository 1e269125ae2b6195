//! What reaches a terminal: nothing that it obeys, nothing that can't be seen, nothing wider than
//! it is.

use std::process::{Command, Stdio};

use serde_json::Value;

use super::{event, text};
use crate::support::service::Service;

/// What a command writes to a terminal of `columns` columns; `None` if no terminal can be had.
fn on_terminal(service: &Service, arguments: &str, columns: u16) -> Option<String> {
    let Ok(found) = Command::new("script").arg("--version").output() else {
        assert!(std::env::var_os("SEKALI_TEST_ALL").is_none(), "script(1) is not installed");
        return None;
    };
    assert!(found.status.success());
    let command = format!("stty rows 24 cols {columns}; {} {arguments}", env!("CARGO_BIN_EXE_sekali"));
    let mut script = Command::new("script");
    script.args(["-qec", &command, "/dev/null"]).env("SEKALI_URL", service.url()).env("NO_COLOR", "1");
    Some(text(&script.stdin(Stdio::null()).output().unwrap().stdout).replace("\r\n", "\n"))
}

/// Controls, marks of direction, ends of lines, what has no width: as they are in a payload.
const HIDDEN: &str = "\u{9b}31m\u{9d}0;t\u{9c}\u{7f}\u{202e}\u{2066}\u{200b}\u{200d}\u{feff}\u{2028}\u{2029}\u{85}\u{ad}\u{e0041}";

#[test]
fn what_a_terminal_would_obey_or_hide_is_shown_escaped_and_kept_in_files_and_pipes() {
    let service = Service::new();
    let payload = format!("{{\"a\":\"{HIDDEN}\"}}");
    // In a topic and an id, all but controls may stand too.
    let topic = "t\u{202e}\u{200b}\u{2028}";
    service.pipe(&["publish", "-"], event(topic, "i\u{2066}").replace("{\"n\":1}", &payload));
    let get = format!("get '{topic}' 'i\u{2066}'");
    let consume = format!("consume c --topic '{topic}' --ndjson --limit 1");
    let all = [
        "events",
        "events --json",
        "events --follow --limit 1",
        "events -o /dev/stdout",
        "topics",
        "topics --json",
        "stats --json",
        &consume,
        "consumers --json",
        &get,
    ];
    for arguments in all {
        let Some(shown) = on_terminal(&service, arguments, 200) else { return };
        assert!(shown.contains("\\u202e"), "{arguments}: {shown:?}");
        let seen = shown.replace('\n', "");
        assert!(
            !HIDDEN.chars().filter(|c| !c.is_ascii() || c.is_control()).any(|c| seen.contains(c)),
            "{seen:?}"
        );
        if arguments.contains("json") || arguments.starts_with("get") {
            let value: Value = serde_json::from_str(shown.trim()).unwrap();
            assert!(value.to_string().contains(topic), "it is the same JSON: {shown:?}");
        }
    }
    let piped = text(&service.run(&["events"]).stdout);
    assert!(piped.contains(&payload) && piped.contains(topic), "{piped:?}");
    let out = service.path("out");
    service.run(&["events", "-o", out.to_str().unwrap()]);
    assert_eq!(std::fs::read_to_string(out).unwrap(), piped);
    assert!(text(&service.run(&["get", topic, "i\u{2066}"]).stdout).contains(&payload));
    // What a service says is quoted in sentences, which may be read anywhere.
    let liar = super::hostile::Liar::saying(422, "", "{\"detail\":\"no\u{202e}\u{9b}31m\"}");
    let said = text(&liar.command(&["stats"]).output().unwrap().stderr);
    assert!(said.contains("no\\u202e") && !said.contains(['\u{202e}', '\u{9b}']), "{said:?}");
}

#[test]
fn a_table_is_no_wider_than_the_terminal_and_aligned_in_any_script() {
    let service = Service::new();
    let long = "x".repeat(200);
    for (topic, id) in [("日本語のトピック", "1"), ("plain", "22"), (long.as_str(), long.as_str())] {
        service.pipe(&["publish", "-"], event(topic, id));
    }
    for columns in [80, 120] {
        for arguments in ["events", "topics", "events --follow --limit 3"] {
            let Some(shown) = on_terminal(&service, arguments, columns) else { return };
            assert_eq!(shown.lines().count(), 4, "{shown}");
            for line in shown.lines() {
                let width = unicode_width::UnicodeWidthStr::width(line);
                assert!(width <= usize::from(columns), "{width} of {columns}: {line}");
            }
        }
    }
    let Some(shown) = on_terminal(&service, "topics", 120) else { return };
    let end = |line: &str| line.find("1  ").map(|at| unicode_width::UnicodeWidthStr::width(&line[..at]));
    let ends: Vec<_> = shown.lines().skip(1).map(end).collect();
    assert!(ends.windows(2).all(|pair| pair[0] == pair[1]), "{ends:?}\n{shown}");
}

#[test]
fn nothing_is_left_of_progress_when_a_command_fails() {
    let mut service = Service::new();
    service.server.kill();
    let out = format!("events --retries 0 -o {}", service.path("out").display());
    for arguments in [out.as_str(), "bench --events 10"] {
        let Some(shown) = on_terminal(&service, arguments, 120) else { return };
        // What stands on the screen: all that came after the line was last erased.
        let left = shown.rsplit("\u{1b}[2K").next().unwrap_or_default();
        assert!(left.trim_start().starts_with("sekali: ") && left.lines().count() == 1, "{shown:?}");
    }
    let Some(shown) = on_terminal(&service, "publish --retries 0 /dev/null", 120) else { return };
    assert!(shown.contains("0 stored"), "a file without events is sent: {shown}");
    let file = service.file("events", event("t", "1"));
    let Some(shown) = on_terminal(&service, &format!("publish --retries 0 {file}"), 120) else { return };
    assert!(!shown.contains("0 stored") && shown.contains("gave up"), "{shown}");
}

#[test]
fn help_wraps_at_the_width_of_the_terminal() {
    let service = Service::new();
    for columns in [80, 100] {
        for command in [
            "", "serve", "publish", "events", "bench", "verify", "repair", "get", "stats", "topics",
            "health", "config",
        ] {
            let Some(shown) = on_terminal(&service, &format!("{command} --help"), columns) else { return };
            let longest = shown.lines().map(|line| line.chars().filter(|c| !c.is_control()).count()).max();
            assert!(longest <= Some(usize::from(columns)), "{command}: {longest:?}\n{shown}");
        }
    }
}
