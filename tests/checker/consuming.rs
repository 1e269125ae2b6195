//! The worker of a consumer, proved with servers that say what a script has: honest ones, and those that go
//! back, skip, repeat or mix up.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::AtomicBool;

use serde_json::json;

use crate::support::client::Client;
use crate::support::consuming::Consuming;

/// What is given one time: topics and offsets; and the status of the acknowledgement.
type Given = (&'static [(&'static str, u64)], u16);

/// Serves one connection by a script.
fn serve(mut stream: TcpStream, script: &[Given]) -> std::io::Result<()> {
    let mut requests = BufReader::new(stream.try_clone()?);
    let (mut turn, mut status) = (0, 200);
    loop {
        let (mut line, mut length) = (String::new(), 0);
        if requests.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let is_ack = line.starts_with("POST");
        while line != "\r\n" {
            line.clear();
            requests.read_line(&mut line)?;
            let field = line.to_ascii_lowercase();
            length =
                field.strip_prefix("content-length:").map_or(length, |text| text.trim().parse().unwrap());
        }
        requests.read_exact(&mut vec![0; length])?;
        let answer = if is_ack {
            (status, json!({}))
        } else {
            let (events, next) = script[turn];
            (turn, status) = (turn + 1, next);
            let events: Vec<_> =
                events.iter().map(|(topic, offset)| json!({"topic": topic, "offset": offset})).collect();
            (200, json!({"events": events, "receipt": "r"}))
        };
        let body = answer.1.to_string();
        write!(stream, "HTTP/1.1 {} X\r\ncontent-length: {}\r\n\r\n{body}", answer.0, body.len())?;
    }
}

fn server(script: &'static [Given]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || serve(listener.accept()?.0, script));
    addr
}

/// What a worker finds that acknowledges each time, or only as often as the script has other statuses
/// than 0.
fn found(script: &'static [Given]) -> Vec<String> {
    let (consuming, mut clients) = (Consuming::default(), [Client::new(server(script))]);
    for (_, status) in script {
        let acker = (*status > 0).then_some(0);
        consuming.step(&mut clients, (0, acker), "", &AtomicBool::new(false)).unwrap();
    }
    consuming.violations()
}

#[test]
fn a_consumer_that_is_given_all_in_order_passes() {
    const HONEST: &[&[Given]] = &[
        &[(&[("t", 0), ("t", 1), ("u", 0)], 200), (&[("u", 1)], 200), (&[("t", 2)], 200)],
        // What was not acknowledged comes again, and so does what nobody has answered for.
        &[(&[("t", 0), ("t", 1)], 0), (&[("t", 0)], 200), (&[("t", 1)], 200)],
        &[(&[("t", 0)], 503), (&[("t", 0), ("t", 1)], 200), (&[("t", 2)], 200)],
        &[(&[("t", 0)], 503), (&[("t", 1)], 200), (&[("t", 2)], 200)],
        &[(&[("t", 0)], 409), (&[("t", 0)], 200), (&[("t", 1)], 200)],
    ];
    for script in HONEST {
        assert_eq!(found(script), Vec::<String>::new(), "{script:?}");
    }
}

#[test]
fn a_consumer_that_goes_back_skips_or_repeats_is_found() {
    const BROKEN: &[&[Given]] = &[
        // It goes back, over what was acknowledged.
        &[(&[("t", 0), ("t", 1)], 200), (&[("t", 1)], 200)],
        &[(&[("t", 0)], 200), (&[("t", 1)], 200), (&[("t", 0)], 200)],
        &[(&[("t", 0)], 200), (&[("u", 0)], 200), (&[("t", 0)], 200)],
        // It skips: at first, between answers, within one, and over what was never acknowledged.
        &[(&[("t", 1)], 200)],
        &[(&[("t", 0)], 200), (&[("t", 2)], 200)],
        &[(&[("t", 0), ("t", 2)], 200)],
        &[(&[("t", 0)], 0), (&[("t", 1)], 200)],
        // It repeats, or turns round.
        &[(&[("t", 0), ("t", 0)], 200)],
        &[(&[("t", 0), ("u", 0), ("t", 0)], 200)],
        &[(&[("t", 0), ("t", 2), ("t", 1)], 200)],
        // After an answer that was lost it is in one place or the other, and nowhere else.
        &[(&[("t", 0), ("t", 1)], 503), (&[("t", 3)], 200)],
        &[(&[("t", 0)], 503), (&[("t", 0)], 200), (&[("t", 0)], 200)],
    ];
    for script in BROKEN {
        assert!(!found(script).is_empty(), "{script:?}");
    }
}
