//! `sekali health`: a health check that needs no shell and no curl in the image.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use sekali::limits::CLIENT_REFUSAL_BYTES_MAX;

use super::client::answers::Ready;
use super::client::exchange::{Answer, Miss, Route};
use super::client::refusal;
use super::client::target::ServiceUrl;
use super::config::ConfigFile;
use super::exit::{Exit, Failure};
use super::terminal::output::print;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  sekali health
  sekali health --url http://10.0.0.7:8080
  sekali health --url https://inbox.example.org:8080 --ca-file ca.pem

Exit codes: 0 ready, 1 not ready or no answer.")]
pub(super) struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    service: ServiceUrl,
    /// Longest wait, for the connection and for the answer
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout: u64,
}

impl Arguments {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        if let Some(path) = self.service.unix_socket(self.file.clone())? {
            return self.ask(&path);
        }
        let route = Route::new(self.service.endpoint_or(self.file)?)?;
        let answer = route.get("/readyz", Duration::from_secs(self.timeout), CLIENT_REFUSAL_BYTES_MAX);
        let fault = |sentence: String| Err(Failure::new(Exit::Fault, sentence));
        match answer {
            Ok(Answer { status: 200, body }) => match serde_json::from_slice::<Ready>(&body) {
                Ok(ready) if ready.status == "ready" => {
                    print(format_args!("{} is ready", route.target.host))?;
                    Ok(Exit::Success)
                }
                _ => {
                    let place = route.place("/readyz");
                    fault(format!("{place} answers something that is not \"ready\": is it sekali?"))
                }
            },
            Ok(Answer { status, body }) => {
                fault(format!("{route} is not ready: {status} {}", refusal::sentence(&body)))
            }
            Err(Miss::Lasting(why)) => fault(why),
            Err(Miss::Untrusted(why)) => fault(format!("cannot reach {route}: {why}")),
            Err(miss) => fault(format!("{route} does not answer: {miss}")),
        }
    }

    /// Asks the service that listens at a Unix socket.
    fn ask(&self, path: &Path) -> Result<Exit, Failure> {
        let socket = path.display();
        let fault = |sentence: String| Err(Failure::new(Exit::Fault, sentence));
        match self.answer(path) {
            Ok(answer) if answer.starts_with("HTTP/1.1 200 ") => {
                print(format_args!("unix:{socket} is ready"))?;
                Ok(Exit::Success)
            }
            Ok(answer) => {
                let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
                let status = head.split(' ').nth(1).unwrap_or("?");
                let sentence = refusal::sentence(body.as_bytes());
                fault(format!("unix:{socket} is not ready: {status} {sentence}"))
            }
            Err(e) => fault(format!("unix:{socket} does not answer: {e}")),
        }
    }

    /// Head and body of the answer.
    fn answer(&self, path: &Path) -> io::Result<String> {
        let timeout = Some(Duration::from_secs(self.timeout));
        let mut stream = UnixStream::connect(path)?;
        stream.set_read_timeout(timeout)?;
        stream.set_write_timeout(timeout)?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.take(CLIENT_REFUSAL_BYTES_MAX).read_to_string(&mut answer)?;
        Ok(answer)
    }
}
