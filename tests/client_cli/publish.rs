//! `sekali publish` against a real server: what is sent, counted, refused and sent again.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use serde_json::json;

use super::{event, text, totals};
use crate::support::relay::Relay;
use crate::support::service::Service;
use crate::support::until;

#[test]
fn every_form_of_input_is_understood() {
    let service = Service::new();
    let (a, b) = (event("t", "a"), event("t", "b"));
    let pretty = a.replace(',', ",\r\n  ");
    for (name, input, received) in [
        ("an event", a.clone(), 1),
        ("an event with a line's end", format!("{a}\n"), 1),
        ("an event on several lines", format!("\n {pretty}\n"), 1),
        ("an array", format!("[{a},\n{b}]"), 2),
        ("an array on several lines", format!("[\n  {pretty},\n  {b}\n]\n"), 2),
        ("an empty array", "[]".to_owned(), 0),
        ("an object with a list", format!("{{\"events\": [{a}, {pretty}]}}"), 2),
        ("an object with a list on several lines", format!("{{\n\"events\":\n [{a},\n {b}]\n}}"), 2),
        ("an object with an event", format!("{{\"events\": {pretty}}}"), 1),
        ("lines", format!("{a}\n{b}\n"), 2),
        ("lines with blanks and Windows' ends", format!("\u{feff}\n {a} \r\n\r\n{b}"), 2),
        ("nothing", String::new(), 0),
        ("blanks", "\n \n".to_owned(), 0),
    ] {
        for output in [
            service.pipe(&["publish", "-", "--json"], &input),
            service.run(&["publish", &service.file("input", &input), "--json"]),
        ] {
            assert_eq!(output.status.code(), Some(0), "{name}: {}", text(&output.stderr));
            let totals = totals(&output);
            assert_eq!((&totals["received"], &totals["rejected"]), (&json!(received), &json!(0)), "{name}");
        }
    }
    assert_eq!(service.stored(), 2);
}

#[test]
fn lines_are_sent_when_no_more_come_for_a_moment() {
    let service = Service::new();
    let mut command = service.command(&["publish", "-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for number in 1..4 {
        writeln!(stdin, "{}", event("t", &number.to_string())).unwrap();
        assert!(until(20, || (service.stored() == number).then_some(())).is_some(), "{number}");
    }
    drop(stdin);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn what_is_packed_is_published_whatever_its_name_and_from_a_pipe() {
    let service = Service::new();
    let lines: String = (0..2_500).map(|id| event("t", &id.to_string()) + "\n").collect();
    let array = format!("[{}]", lines.trim_end().replace('\n', ","));
    let (head, tail) = lines.split_at(lines.len() / 2);
    for (name, packed) in [
        ("lines.ndjson.gz", gzipped(&lines)),
        ("lines of two members.gz", [gzipped(head), gzipped(tail), vec![0; 512]].concat()),
        ("array.json.gz", gzipped(&array)),
        ("lines.ndjson.zst", zstd(&lines)),
        ("frames.zst", [zstd(head), zstd(tail)].concat()),
        ("no ending", gzipped(&lines)),
        ("plain.gz", lines.clone().into_bytes()),
    ] {
        for output in [
            service.run(&["publish", &service.file(name, &packed), "--json"]),
            service.pipe(&["publish", "-", "--json"], &packed),
        ] {
            assert_eq!(output.status.code(), Some(0), "{name}: {}", text(&output.stderr));
            assert_eq!(totals(&output)["received"], 2_500, "{name}");
        }
    }
    assert_eq!(service.stored(), 2_500);
}

#[test]
fn a_packed_file_that_is_cut_off_or_damaged_is_named_and_what_came_before_is_stored() {
    let service = Service::new();
    for (topic, pack) in [("gzip", gzipped as fn(&str) -> Vec<u8>), ("zstd", zstd)] {
        let lines: String = (0..20_000).map(|id| event(topic, &id.to_string()) + "\n").collect();
        let packed = pack(&lines);
        let name = format!("half.{topic}");
        let before = service.stored();
        let output = service.run(&["publish", &service.file(&name, &packed[..packed.len() / 2]), "--json"]);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains(&name) && told.contains("the file is cut off"), "{told}");
        let stored = service.stored() - before;
        assert!(0 < stored && stored < 20_000, "{stored}");
        assert_eq!(totals(&output)["rejected"], 0, "half a line is no event: {told}");
        let behind = service.run(&["publish", &service.file(&name, [&packed[..], b"more"].concat())]);
        assert_eq!(behind.status.code(), Some(1), "{}", text(&behind.stderr));
        assert_eq!(service.stored() - before, 20_000, "what stands before that is stored");
    }
}

fn gzipped(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn zstd(text: &str) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(text.as_bytes(), ruzstd::encoding::CompressionLevel::Fastest)
}

#[test]
fn what_is_invalid_is_named_by_its_place_and_the_rest_is_stored() {
    let service = Service::new();
    let (a, b) = (event("t", "a"), event("t", "b"));
    let long = "x".repeat(5 << 20);
    for (name, input, places) in [
        ("lines", format!("{a}\n\nno json\n{{}}\n{b}\n"), &["line 3: ", "line 4: topic: "][..]),
        ("the first of some lines", format!("no json\n{a}\n{b}"), &["line 1: "]),
        ("half a line", format!("{a}\n{b}\n{{\"topic\":"), &["line 3: "]),
        ("a line without end", format!("{a}\n{b}\n{long}"), &["line 3: far too long"]),
        ("a long line before others", format!("{long}\n{a}\n{b}"), &["line 1: far too long"]),
        ("a long line of JSON before others", format!(" \"{long}\"\n{a}\n{b}"), &["line 1: far too long"]),
        ("an array", format!("[{a}, 7, {b}]"), &["event 2: "]),
        ("half an array", format!("[{a}, {b}, {{"), &["can't be read to its end: event 3: EOF"]),
        ("an element without end", format!("[{a}, {b}, \"{long}"), &["its end: event 3: far too long"]),
        ("a long event", format!("{{\"topic\": \"{long}\"}}"), &["line 1: far too long"]),
        ("a document", "{\n\"topic\": \"t\"\n}".to_owned(), &["event 1: event_id: "]),
        ("no JSON", "hello\n".to_owned(), &["neither lines of JSON nor a JSON document"]),
    ] {
        let output = service.pipe(&["publish", "-", "--json"], &input);
        assert_eq!(output.status.code(), Some(1), "{name}");
        let told = text(&output.stderr);
        assert!(places.iter().all(|place| told.contains(place)), "{name}: {told}");
        assert!(!told.contains("no json"), "what was sent is echoed");
    }
    assert_eq!(service.stored(), 2);
    let output = service.pipe(&["publish", "-"], (event("", "1") + "\n").repeat(2_500));
    let told = text(&output.stderr);
    assert_eq!(told.lines().count(), 101, "a flood of refusals is cut: {told}");
    assert!(told.ends_with("2400 more were refused\n"), "{told}");
    assert_eq!(text(&output.stdout).lines().last().unwrap().trim(), "2500 refused");
    let dir = service.dir.path().display().to_string();
    let output = service.run(&["publish", &dir]);
    assert_eq!((output.status.code(), text(&output.stderr).contains(&dir)), (Some(1), true), "a directory");
    let output = service.run(&["publish", "/nowhere/at/all"]);
    assert_eq!((output.status.code(), text(&output.stderr).contains("/nowhere/at/all")), (Some(1), true));
    assert_eq!(service.run(&["publish"]).status.code(), Some(2));
}

#[test]
fn a_document_of_one_long_line_is_published_whole() {
    let service = Service::new();
    let filler = format!("\"{}\"", "x".repeat(4_000));
    // 6 MB.
    let events = |topic: &str| {
        let event = |id: usize| event(topic, &id.to_string()).replace("{\"n\":1}", &filler);
        (0..1_500).map(event).collect::<Vec<_>>().join(",")
    };
    for (name, input) in [
        ("array", format!("[{}]", events("array"))),
        ("object", format!("{{\"events\":[{}]}}", events("object"))),
        ("long second line", format!("{{\n\"events\":[{}]}}", events("long second line"))),
    ] {
        assert!(input.len() > 5 << 20);
        let output = service.run(&["publish", &service.file("input", input), "--json"]);
        assert_eq!(output.status.code(), Some(0), "{name}: {}", text(&output.stderr));
        assert_eq!(totals(&output)["unique_processed"], 1_500, "{name}");
    }
}

#[test]
fn a_file_of_any_length_takes_little_memory() {
    let service = Service::new();
    let mut command = service.command(&["publish", "-", "--json"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let filler = "x".repeat(4_000);
    // 60 MB.
    for id in 0..15_000 {
        let line = event("t", &id.to_string()).replace("{\"n\":1}", &format!("\"{filler}\""));
        std::io::Write::write_all(&mut input, format!("{line}\n").as_bytes()).unwrap();
    }
    let peak = crate::support::process::status(child.id(), "VmHWM:").unwrap();
    assert!(peak < 40 << 10, "{peak} KiB");
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert_eq!(totals(&output)["unique_processed"], 15_000);
}

#[test]
fn a_service_that_goes_and_comes_back_gets_every_event_once() {
    let mut service = Service::new();
    let lines: String = (0..60_000).map(|id| event(["a", "b"][id % 2], &id.to_string()) + "\n").collect();
    let file = service.file("events.ndjson", lines);
    let mut command = service.command(&["publish", &file, "--json"]);
    // The service comes back at another port, so it is reached through one that stays.
    let relay = Relay::start(service.addr);
    command.env("SEKALI_URL", format!("http://{}", relay.addr));
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut kills = 0;
    while kills < 4 {
        let before = service.stored();
        let more = until(30, || (before > 59_000 || service.stored() > before + 500).then_some(()));
        assert!(more.is_some(), "it does not get on");
        if before > 59_000 {
            break;
        }
        service.server.kill();
        std::thread::park_timeout(Duration::from_millis(200));
        service.start_again();
        relay.to(service.addr);
        kills += 1;
    }
    assert!(kills > 0, "it was done before anything happened");
    let output = child.wait_with_output().unwrap();
    let totals = totals(&output);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(totals["received"], 60_000);
    assert!(totals["retries"].as_u64().unwrap() > 0, "{totals}");
    assert_eq!(service.stored(), 60_000);
}

#[test]
fn a_service_that_stays_away_is_told_and_interruption_too() {
    let mut service = Service::new();
    let file = service.file("events.ndjson", event("t", "1"));
    service.server.kill();
    let output = service.run(&["publish", &file, "--retries", "2"]);
    assert_eq!(output.status.code(), Some(9), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("gave up"), "{}", text(&output.stderr));
    for arguments in [&["stats"][..], &["topics"], &["events", "--retries", "0"]] {
        assert_eq!(service.run(arguments).status.code(), Some(9), "{arguments:?}");
    }
    service.start_again();
    let mut command = service.command(&["publish", "-", "--json"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let lines = |range: std::ops::Range<u32>| -> String {
        range.map(|id| event("t", &id.to_string()) + "\n").collect()
    };
    std::io::Write::write_all(&mut input, lines(0..5_000).as_bytes()).unwrap();
    assert!(until(30, || (service.stored() >= 4_000).then_some(())).is_some());
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT)
        .unwrap();
    std::thread::park_timeout(Duration::from_millis(300));
    // The next chunk is not sent any more.
    let _ = std::io::Write::write_all(&mut input, lines(5_000..8_000).as_bytes());
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
    let told = totals(&output)["received"].as_u64().unwrap();
    assert_eq!(told, service.stored(), "it tells how far it got");
}

/// Interrupts it and waits for its end, at most 20 seconds; the exit code and what it said to the
/// end.
fn interrupted(mut child: Child, stderr: impl Read) -> (Option<i32>, String) {
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let ended = until(20, || child.try_wait().unwrap());
    let _ = child.kill();
    child.wait().unwrap();
    let mut told = String::new();
    BufReader::new(stderr).read_to_string(&mut told).unwrap();
    (ended.and_then(|status| status.code()), told)
}

#[test]
fn an_interrupt_ends_the_wait_for_input() {
    let service = Service::new();
    let mut command = service.command(&["publish", "-", "--json"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let lines: String = (0..1_001).map(|id| event("t", &id.to_string()) + "\n").collect();
    input.write_all(lines.as_bytes()).unwrap();
    assert!(until(30, || (service.stored() == 1_000).then_some(())).is_some());
    let (mut stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let (code, told) = interrupted(child, stderr);
    assert_eq!(code, Some(130), "{told}");
    assert!(told.contains("run the same command again"), "{told}");
    let mut totals = String::new();
    stdout.read_to_string(&mut totals).unwrap();
    assert!(totals.contains("\"received\":1000,"), "{totals}");
    assert_eq!(service.stored(), 1_000, "nothing is sent after the interrupt");
    drop(input);
}

#[test]
fn an_interrupt_ends_the_wait_for_a_service_that_is_away() {
    let mut service = Service::new();
    let file = service.file("events.ndjson", event("t", "1"));
    service.server.kill();
    let mut command = service.command(&["publish", &file, "--retries", "1000"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert!(line.contains("trying again"), "{line}");
    let (code, told) = interrupted(child, stderr);
    assert_eq!(code, Some(130), "{told}");
}
