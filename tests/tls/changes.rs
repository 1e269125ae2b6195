//! Tokens end and certificates are renewed while many connections are busy: nobody else notices.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use sekali::auth::scope::Scope;
use sekali::auth::token::Token;
use sekali::auth::tokens_file::{Entry, TokensFile};
use sekali::clock::Timestamp;
use sekali::error::Error;

use super::secured::{Client, SOON, Secured};
use crate::support::service::event;
use crate::support::until;

/// Connections, each with a token of its own.
const CONNECTIONS: usize = 64;
/// Threads that the connections are spread over.
const THREADS: usize = 8;
/// How often tokens end, and how many each time.
const TURNS: usize = 6;
const REVOKED_AT_ONCE: usize = 2;

/// Makes tokens, and the file that has them.
fn tokens(path: &Path) -> Vec<Token> {
    let tokens: Vec<Token> = (0..CONNECTIONS).map(|_| Token::generate().unwrap()).collect();
    edit(path, |file| {
        let allow = vec![Scope::Admin];
        file.tokens =
            tokens.iter().map(|token| Entry::new(token, "t", allow.clone(), Timestamp(0))).collect();
    });
    tokens
}

fn edit(path: &Path, change: impl FnOnce(&mut TokensFile)) {
    TokensFile::edit(path, |file| {
        change(file);
        Ok::<_, Error>(())
    })
    .unwrap();
}

/// The status of a request with a token.
fn publish(client: &mut Client, token: &Token, id: &str) -> std::io::Result<u16> {
    let (body, token) = (event("t", id, 1), token.reveal());
    client.send(format!(
        "POST /publish HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ))?;
    Ok(client.receive()?.0)
}

/// What the busy connections share.
#[derive(Default)]
struct Busy {
    is_over: AtomicBool,
    /// Requests of each connection that were answered with 200.
    answered: [AtomicUsize; THREADS],
    /// Numbers of the tokens that were revoked, or are about to be.
    revoked: Mutex<Vec<usize>>,
    /// Connections whose token was refused.
    refused: Mutex<Vec<usize>>,
    faults: Mutex<Vec<String>>,
}

impl Busy {
    /// Sends requests over every connection in turn, until it is over. A connection stays open
    /// whatever its token is.
    fn run(&self, thread: usize, mut connections: Vec<(usize, Client)>, tokens: &[Token]) {
        let mut sent = 0;
        while !self.is_over.load(Ordering::Relaxed) {
            connections.retain_mut(|(number, client)| {
                sent += 1;
                match publish(client, &tokens[*number], &format!("{thread} {sent}")) {
                    Ok(200) => {
                        self.answered[thread].fetch_add(1, Ordering::Relaxed);
                        return true;
                    }
                    Ok(401) if self.revoked.lock().unwrap().contains(number) => {
                        self.refused.lock().unwrap().push(*number);
                    }
                    other => self.faults.lock().unwrap().push(format!("connection {number}: {other:?}")),
                }
                false
            });
        }
    }

    /// Waits until each thread has been around all of its connections once more.
    fn goes_round(&self) {
        let counts = || self.answered.each_ref().map(|count| count.load(Ordering::Relaxed));
        let before = counts();
        let round = CONNECTIONS / THREADS;
        let is_round = || counts().iter().zip(&before).all(|(now, before)| now - before >= 2 * round);
        assert!(until(SOON, || is_round().then_some(())).is_some(), "{:?}", self.faults.lock().unwrap());
    }
}

#[test]
fn tokens_end_and_certificates_change_under_64_connections_and_no_request_of_others_fails() {
    let mut tokens = Vec::new();
    let service = Secured::prepared(&[("SEKALI_TOKENS_FILE", "{}/tokens.toml")], |_, dir| {
        tokens = self::tokens(&dir.join("tokens.toml"));
    });
    let busy = Busy::default();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let own = (thread..CONNECTIONS).step_by(THREADS).map(|number| (number, service.client()));
            let (own, busy, tokens) = (own.collect(), &busy, &tokens);
            scope.spawn(move || busy.run(thread, own, tokens));
        }
        let stop = Stop(&busy.is_over);
        for turn in 0..TURNS {
            busy.goes_round();
            let ending: Vec<usize> = (0..REVOKED_AT_ONCE).map(|at| turn * REVOKED_AT_ONCE + at).collect();
            busy.revoked.lock().unwrap().extend(&ending);
            edit(&service.path("tokens.toml"), |file| {
                for number in &ending {
                    file.tokens[*number].revoked = Some(Timestamp(1));
                }
            });
            let pair = service.authority.server();
            pair.write(&service.path("cert.pem"), &service.path("key.pem"));
            let is_changed = until(SOON, || {
                let mut client = service.client();
                assert_eq!(client.get("/readyz").unwrap().0, 200);
                let has_ended = ending.iter().all(|number| busy.refused.lock().unwrap().contains(number));
                (has_ended && client.shown() == pair.der()).then_some(())
            });
            assert!(is_changed.is_some(), "turn {turn}: {:?}", busy.faults.lock().unwrap());
        }
        busy.goes_round();
        drop(stop);
    });
    let faults = busy.faults.into_inner().unwrap();
    assert!(faults.is_empty(), "{faults:?}");
    let mut refused = busy.refused.into_inner().unwrap();
    refused.sort_unstable();
    assert_eq!(refused, (0..TURNS * REVOKED_AT_ONCE).collect::<Vec<_>>());
}

/// Has the busy threads end, also when the test has failed.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
