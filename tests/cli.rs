//! The command line, from outside: the real binary, its exit codes, and what it says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Longest wait for a process to do what it must.
const DEADLINE: Duration = Duration::from_secs(30);

/// `sekali` with these arguments, and nothing of our own environment that would configure it.
fn sekali(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sekali"));
    command.args(arguments).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SEKALI_") {
            command.env_remove(name);
        }
    }
    command
}

fn run(arguments: &[&str]) -> Output {
    sekali(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Asserts the exit code, and that stderr is one sentence for a person that contains `part`.
fn assert_fails(output: &Output, code: i32, part: &str) {
    let said = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.starts_with("sekali: ") && said.trim_end().lines().count() == 1, "{said}");
    assert!(said.contains(part), "{said}");
    // No Debug output: no struct braces, no `Some(..)`, no `Os { code: .. }`.
    assert!(!said.contains(" { ") && !said.contains("Some("), "{said}");
}

fn file(content: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(content.as_bytes()).unwrap();
    file
}

/// A service that is being run, killed when the test ends.
struct Served {
    child: Child,
    lines: mpsc::Receiver<String>,
    _data: tempfile::TempDir,
}

impl Served {
    fn start(listen: &str) -> Self {
        let data = tempfile::tempdir().unwrap();
        let arguments = ["serve", "--listen", listen, "--data-dir", data.path().to_str().unwrap()];
        let mut child = sekali(&arguments).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { child, lines, _data: data }
    }

    /// The next log line whose message contains `part`.
    fn log(&self, part: &str) -> Value {
        loop {
            let line = self.lines.recv_timeout(DEADLINE).expect("the line before the deadline");
            let log: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line}"));
            if log["message"].as_str().is_some_and(|message| message.contains(part)) {
                return log;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn exit_code(&mut self) -> Option<i32> {
        // The log ends when the process does.
        while self.lines.recv_timeout(DEADLINE) != Err(mpsc::RecvTimeoutError::Disconnected) {}
        self.child.wait().unwrap().code()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A stand-in for a service: answers each connection's requests by `answer(request)` with a status
/// and a body.
fn stand_in(answer: impl Fn(&str) -> (u16, String) + Clone + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let answer = answer.clone();
            std::thread::spawn(move || while let Some(()) = serve_one(&stream, &answer) {});
        }
    });
    url
}

fn serve_one(mut stream: &TcpStream, answer: &impl Fn(&str) -> (u16, String)) -> Option<()> {
    let (mut request, mut byte) = (Vec::new(), [0]);
    while !request.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        request.push(byte[0]);
    }
    let head = String::from_utf8(request).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap_or("0");
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).ok()?;
    let (status, text) = answer(&format!("{head}{}", String::from_utf8(body).unwrap()));
    let reply = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{text}", text.len());
    stream.write_all(reply.as_bytes()).ok()?;
    // A request that asks for it, or speaks HTTP/1.0, ends the connection.
    (!head.contains("HTTP/1.0")).then_some(())
}

#[test]
fn help_names_every_command_and_every_setting_with_its_default_and_variable() {
    let help = stdout(&run(&["--help"]));
    for command in ["serve", "config", "verify", "rebuild", "health", "bench"] {
        assert!(help.contains(&format!("\n  {command} ")), "{help}");
        let own = run(&[command, "--help"]);
        assert!(own.status.success() && stdout(&own).contains("Examples:"), "{command}");
    }
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let serve = words(&stdout(&run(&["serve", "--help"])));
    let settings: Value = serde_json::from_slice(&run(&["config", "--json"]).stdout).unwrap();
    for (key, setting) in settings.as_object().unwrap() {
        assert!(serve.contains(&format!("--{}", key.replace('_', "-"))), "{key}");
        let value = match &setting["value"] {
            Value::String(text) if text.is_empty() => "none".to_owned(),
            Value::String(text) => text.clone(),
            Value::Array(entries) if entries.is_empty() => "none".to_owned(),
            Value::Null => "none".to_owned(),
            other => other.to_string(),
        };
        let value = if key == "workers" { "half the cores".to_owned() } else { value };
        let note = format!("[default: {value}] [env: SEKALI_{}]", key.to_uppercase());
        assert!(serve.contains(&note), "{note}: {serve}");
    }
}

#[test]
fn help_is_a_command_too() {
    for (words, option) in [(&["help"][..], &["--help"][..]), (&["help", "publish"], &["publish", "--help"])]
    {
        let output = run(words);
        assert_eq!(output.status.code(), Some(0), "{words:?}");
        assert_eq!(stdout(&output), stdout(&run(option)), "{words:?}");
    }
}

#[test]
fn a_wrong_command_line_exits_2() {
    for arguments in [
        &["nonsense"][..],
        &["serve", "--nonsense"],
        &["serve", "--workers", "many"],
        // As a variable that is not set leaves it.
        &["serve", "--store", ""],
        &["verify", "--store", ""],
        &[],
    ] {
        assert_eq!(run(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn config_says_which_of_flag_environment_file_and_default_won() {
    let file = file("workers = 1\ntopics_max = 3\nlisten = '127.0.0.1:1'\n");
    let output = sekali(&["config", "--json", "--workers", "6"])
        .env("SEKALI_CONFIG", file.path())
        .env("SEKALI_WORKERS", "4")
        .env("SEKALI_LISTEN", "127.0.0.1:5")
        .env("SEKALI_PORT", "tcp://10.0.0.1:8080")
        .output()
        .unwrap();
    let settings: Value = serde_json::from_slice(&output.stdout).unwrap();
    let shown =
        |key: &str| (settings[key]["value"].clone(), settings[key]["origin"].as_str().unwrap().to_owned());
    assert_eq!(shown("workers"), (6.into(), "flag --workers".to_owned()));
    assert_eq!(shown("listen"), ("127.0.0.1:5".into(), "env SEKALI_LISTEN".to_owned()));
    assert_eq!(shown("topics_max"), (3.into(), format!("file {}", file.path().display())));
    assert_eq!(shown("log"), ("info".into(), "default".to_owned()));
}

#[test]
fn config_prints_a_line_a_setting() {
    let text = stdout(&run(&["config", "--must-exist", "--data-dir", "/srv/inbox"]));
    let words: Vec<Vec<_>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(words.contains(&vec!["must_exist", "true", "flag", "--must-exist"]), "{text}");
    assert!(words.contains(&vec!["data_dir", "/srv/inbox", "flag", "--data-dir"]), "{text}");
    assert!(words.contains(&vec!["listen", "127.0.0.1:8080", "default"]), "{text}");
    let long = "x".repeat(70_000);
    assert!(stdout(&run(&["config", "--data-dir", &long])).contains(&long), "whatever its length");
}

#[test]
fn a_bad_configuration_exits_3_with_one_sentence_for_every_command_that_reads_it() {
    let unknown = file("listne = 1\n");
    let path = unknown.path().to_str().unwrap();
    for command in ["serve", "config", "verify", "rebuild", "health"] {
        assert_fails(&run(&[command, "--config", path]), 3, "unknown field `listne`");
        assert_fails(
            &sekali(&[command]).env("SEKALI_WORKERS", "0").output().unwrap(),
            3,
            "workers is 0 (env SEKALI_WORKERS)",
        );
    }
    assert_fails(&run(&["config", "--config", "/nowhere/sekali.toml"]), 3, "cannot read the configuration");
    let relation = run(&["serve", "--body-bytes-max", "67108864"]);
    assert_fails(
        &relation,
        3,
        "must hold 4 bodies of body_bytes_max, which is 67108864 (flag --body-bytes-max)",
    );
}

#[test]
fn a_port_in_use_exits_6() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let data = tempfile::tempdir().unwrap();
    let output = run(&["serve", "--listen", &address, "--data-dir", data.path().to_str().unwrap()]);
    assert_fails(&output, 6, &format!("cannot listen on {address}: another process does"));
}

#[test]
fn serve_refuses_to_create_a_store_that_must_exist_with_5() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().to_str().unwrap();
    let output = run(&["serve", "--listen", "127.0.0.1:0", "--must-exist", "--data-dir", path]);
    assert_eq!(output.status.code(), Some(5), "{}", stderr(&output));
    assert!(stderr(&output).contains(path), "{}", stderr(&output));
    assert_eq!(std::fs::read_dir(path).unwrap().count(), 0, "nothing was created");
}

#[test]
fn serve_logs_the_real_port_takes_connections_there_and_ends_with_0_on_a_signal() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut served = Served::start("127.0.0.1:0");
        let log = served.log("listening on http://");
        let addr = log["addr"].as_str().unwrap();
        assert_eq!(log["message"], format!("listening on http://{addr}"));
        assert_eq!(log["version"], env!("CARGO_PKG_VERSION"));
        TcpStream::connect(addr).unwrap();
        served.signal(signal);
        served.log("stopping");
        assert_eq!(served.exit_code(), Some(0));
    }
}

#[test]
fn serve_says_where_the_first_token_is_when_it_listens_beyond_loopback() {
    let served = Served::start("0.0.0.0:0");
    assert_eq!(served.log("an admin token is in ")["level"], "WARN");
}

#[test]
fn health_tells_ready_from_not_ready_from_away() {
    let ready = stand_in(|_| (200, r#"{"status":"ready"}"#.to_owned()));
    assert_eq!(run(&["health", "--url", &ready]).status.code(), Some(0));
    for other in ["", "ok", "<html>", "{}", "[]", r#"{"status":"ok"}"#, r#"{"status":7}"#] {
        let other = stand_in(|_| (200, other.to_owned()));
        assert_fails(&run(&["health", "--url", &other]), 1, &format!("{other}/readyz answers something"));
    }
    let recovering = stand_in(|_| (503, "recovering".to_owned()));
    assert_fails(&run(&["health", "--url", &recovering]), 1, "is not ready: 503 recovering");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let away = listener.local_addr().unwrap();
    drop(listener);
    assert_fails(&run(&["health", "--url", &format!("http://{away}")]), 1, "does not answer");
}

#[test]
fn health_gives_up_on_a_service_that_never_answers() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    assert_fails(&run(&["health", "--timeout", "1", "--url", &url]), 1, "no answer in time");
}

#[test]
fn health_asks_where_serve_listens() {
    let port = stand_in(|_| (200, r#"{"status":"ready"}"#.to_owned())).rsplit_once(':').unwrap().1.to_owned();
    let output = sekali(&["health"]).env("SEKALI_LISTEN", format!("0.0.0.0:{port}")).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

/// What a service that keeps its promise answers, with a 503 each `busy` requests, and `lost`
/// events left uncounted.
fn counting(busy: u64, lost: u64) -> String {
    use std::collections::HashSet;
    use std::sync::{Arc, Mutex};
    let state = Arc::new(Mutex::new((HashSet::<String>::new(), 0_u64, 0_u64)));
    stand_in(move |request| {
        let (seen, received, requests) = &mut *state.lock().unwrap();
        let counts = |received: u64, unique: u64| {
            let duplicates = received - unique;
            format!(
                r#"{{"received":{received},"unique_processed":{unique},"duplicate_dropped":{duplicates},"conflicts":0}}"#
            )
        };
        if request.starts_with("GET /stats") {
            return (200, counts(*received, (seen.len() as u64).saturating_sub(lost)));
        }
        *requests += 1;
        if busy > 0 && *requests % busy == 0 {
            return (503, "busy".to_owned());
        }
        let body: Value = serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap();
        let events = body.as_array().cloned().unwrap_or_else(|| vec![body]);
        *received += events.len() as u64;
        let new = |event: &&Value| seen.insert(format!("{}\0{}", event["topic"], event["event_id"]));
        let unique = events.iter().filter(new).count();
        (200, counts(events.len() as u64, unique as u64))
    })
}

fn bench(url: &str, more: &[&str]) -> (Option<i32>, Value) {
    let arguments =
        [&["bench", "--json", "--events", "5050", "--connections", "8", "--url", url], more].concat();
    let output = run(&arguments);
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", stderr(&output)));
    (output.status.code(), report)
}

#[test]
fn bench_sends_what_it_was_told_and_verifies_it() {
    for (batch, requests) in [("100", 51), ("1", 5_050)] {
        let (code, report) = bench(&counting(0, 0), &["--batch", batch]);
        assert_eq!((code, &report["verified"]), (Some(0), &true.into()), "{report}");
        assert_eq!((&report["events"], &report["requests"]), (&5_050.into(), &requests.into()));
        let unique = report["unique"].as_u64().unwrap();
        assert!((2_800..3_260).contains(&unique), "60 % of 5,050 are new, not {unique}");
        assert_eq!(report["counted"]["unique_processed"], unique);
        let latency = &report["latency_microseconds"];
        assert!(latency["p50"].as_f64().unwrap() > 0.0 && latency["max"].as_f64() >= latency["p99"].as_f64());
    }
}

#[test]
fn bench_sends_again_what_was_refused_and_still_verifies() {
    let (code, report) = bench(&counting(5, 0), &["--batch", "50"]);
    assert_eq!(code, Some(0), "{report}");
    assert!(report["retries"].as_u64().unwrap() > 0, "{report}");
}

#[test]
fn bench_exits_1_when_the_service_lost_an_event() {
    // Lost from the start: the first count is 0 all the same.
    let (code, report) = bench(&counting(0, 1), &[]);
    assert_eq!((code, &report["verified"]), (Some(1), &false.into()), "{report}");
    assert!(report["faults"][0].as_str().unwrap().contains("unique_processed in /stats"), "{report}");
}

#[test]
fn bench_replays_a_seed_as_duplicates_only() {
    let url = counting(0, 0);
    let (_, first) = bench(&url, &["--seed", "7"]);
    let (code, again) = bench(&url, &["--seed", "7", "--force"]);
    assert_eq!(first["verified"], true);
    assert_eq!((code, &again["counted"]["unique_processed"]), (Some(1), &0.into()), "nothing of it is new");
}

#[test]
fn bench_keeps_to_a_rate() {
    let (code, report) = bench(&counting(0, 0), &["--rate", "20000", "--batch", "10"]);
    assert_eq!(code, Some(0), "{report}");
    // The last request is due a quarter of a second after the first: sooner would be too fast.
    assert!(report["seconds"].as_f64().unwrap() >= 0.25, "{report}");
}

#[test]
fn bench_says_why_when_the_service_refuses_for_good_or_is_away() {
    let full = stand_in(|request| match request.starts_with("GET") {
        true => {
            (200, r#"{"received":0,"unique_processed":0,"duplicate_dropped":0,"conflicts":0}"#.to_owned())
        }
        false => (507, "the disk is full".to_owned()),
    });
    assert_fails(&run(&["bench", "--url", &full]), 1, "the service answered 507: the disk is full");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let away = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    assert_fails(
        &run(&["bench", "--url", &away]),
        9,
        &format!("no answer from {away}/stats: connection refused"),
    );
}

#[test]
fn a_port_or_localhost_is_an_address_to_listen_at() {
    // A port that is free now.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for listen in [format!(":{port}"), port.to_string(), format!("localhost:{port}")] {
        let served = Served::start(&listen);
        assert_eq!(served.log("listening on http://")["addr"], format!("127.0.0.1:{port}"), "{listen}");
    }
    assert_eq!(run(&["serve", "--listen", "localhost"]).status.code(), Some(2));
}

#[test]
fn sizes_have_units_in_flags_variables_and_files() {
    let file = file("inflight_bytes_max = '128MiB'\n");
    let output = sekali(&["config", "--json", "--body-bytes-max", "2MiB"])
        .args(["--config", file.path().to_str().unwrap()])
        .env("SEKALI_GENERATION_BYTES", "640kB")
        .output()
        .unwrap();
    let settings: Value = serde_json::from_slice(&output.stdout).unwrap();
    let value = |key: &str| settings[key]["value"].as_u64();
    assert_eq!(value("body_bytes_max"), Some(2 << 20), "{}", stderr(&output));
    assert_eq!((value("generation_bytes"), value("inflight_bytes_max")), (Some(640_000), Some(128 << 20)));
    assert_eq!(run(&["config", "--body-bytes-max", "16XB"]).status.code(), Some(2));
}

#[test]
fn variables_that_nobody_knows_are_named_at_start_and_what_kubernetes_makes_is_not() {
    let data = tempfile::tempdir().unwrap();
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--data-dir", data.path().to_str().unwrap()];
    let mut command = sekali(&arguments);
    command.env("SEKALI_WORKER", "2").env("SEKALI_URL", "h:1").env("SEKALI_PORT", "tcp://10.0.0.1:8080");
    command.env("SEKALI_SERVICE_HOST", "10.0.0.1").env("SEKALI_PORT_8080_TCP_ADDR", "10.0.0.1");
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let log = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let lines: Vec<String> = log.take_while(|line| !line.contains("listening on http://")).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    let named: Vec<&String> = lines.iter().filter(|line| line.contains("no setting")).collect();
    assert_eq!(named.len(), 1, "{lines:?}");
    assert!(named[0].contains("SEKALI_WORKER is no setting and has no effect: is SEKALI_WORKERS meant?"));
    assert!(named[0].contains("WARN"), "{named:?}");
}

#[test]
fn a_second_signal_stops_at_once_with_128_and_its_number() {
    for (second, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut served = Served::start("127.0.0.1:0");
        let log = served.log("listening on http://");
        // A request under way, which a graceful stop waits for.
        let mut stream = TcpStream::connect(log["addr"].as_str().unwrap()).unwrap();
        stream.write_all(b"POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{").unwrap();
        served.signal(Signal::TERM);
        served.log("stopping");
        served.signal(second);
        assert_eq!(served.exit_code(), Some(code));
    }
}

/// As another user, as limits of processes don't hold for root.
#[test]
fn a_service_without_the_threads_it_needs_says_so() {
    use std::os::unix::process::CommandExt;
    /// Nobody has this one.
    const NOBODY: u32 = 54_321;
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let serve = ["serve", "--listen", "127.0.0.1:0", "--data-dir", data.to_str().unwrap()];
    let words: Vec<_> = sekali(&serve).get_args().map(|word| word.to_str().unwrap().to_owned()).collect();
    let mut command = Command::new("sh");
    // Enough for the process and for some threads, but not for all.
    let script = format!("{{ ulimit -p 4 2>/dev/null || ulimit -u 4; }} && exec \"$0\" {}", words.join(" "));
    let mut binary = std::path::PathBuf::from(env!("CARGO_BIN_EXE_sekali"));
    if rustix::process::geteuid().is_root() {
        // Where that user can reach it.
        let copy = dir.path().join("sekali");
        std::fs::copy(&binary, &copy).unwrap();
        binary = copy;
        std::os::unix::fs::chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        command.uid(NOBODY).gid(NOBODY);
    }
    let output = command.args(["-c", &script]).arg(&binary).stdin(Stdio::null()).output().unwrap();
    assert_fails(&output, 8, "threads that the service needs");
    assert!(!data.exists(), "nothing was begun");
}
