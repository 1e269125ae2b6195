//! `sekali health`: a health check that needs no shell and no curl in the image.

use std::time::Duration;

use sekali::config::Layer;

use super::remote::Target;
use super::{Exit, Failure, File, print};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  sekali health
  sekali health --url http://10.0.0.7:8080

Exit codes: 0 ready, 1 not ready or no answer.")]
pub(super) struct Arguments {
    #[command(flatten)]
    file: File,
    /// Base URL of the service [default: where `sekali serve` would listen, by the same configuration]
    #[arg(long, env = "SEKALI_URL", hide_env_values = true)]
    url: Option<Target>,
    /// Longest wait, for the connection and for the answer
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout: u64,
}

impl Arguments {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let target = match self.url {
            Some(target) => target,
            None => Target::local(self.file.resolve(Layer::default())?.listen),
        };
        let host = &target.host;
        match target.get("/readyz", Duration::from_secs(self.timeout)) {
            Ok((200, _)) => {
                print(format_args!("{host} is ready"))?;
                Ok(Exit::Success)
            }
            Ok((status, body)) => {
                let why: String = body.chars().filter(|c| !c.is_control()).take(300).collect();
                Err(Failure::new(Exit::Fault, format!("{host} is not ready: {status} {why}")))
            }
            Err(fault) => Err(Failure::new(Exit::Fault, format!("{host} does not answer: {fault}"))),
        }
    }
}
