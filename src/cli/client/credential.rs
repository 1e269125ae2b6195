//! The token that a client command shows. It never stands in an argument, which others can read.

use std::path::PathBuf;

use ureq::http::HeaderValue;

use crate::cli::exit::{Exit, Failure};

/// The argument that says where the token is.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct Credential {
    /// File with the token to show [env: SEKALI_TOKEN_FILE, or the token itself in SEKALI_TOKEN]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl Credential {
    /// The value of the header that shows the token, if there is one.
    pub(crate) fn header(self) -> Result<Option<HeaderValue>, Failure> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let file = self.token_file.or_else(|| variable("SEKALI_TOKEN_FILE").map(PathBuf::from));
        let unusable = |why: String| Failure::new(Exit::Configuration, why);
        let (text, from) = match (file, variable("SEKALI_TOKEN")) {
            (Some(file), _) => {
                let text = std::fs::read_to_string(&file)
                    .map_err(|e| unusable(format!("cannot read the token in {}: {e}", file.display())))?;
                (text, file.display().to_string())
            }
            (None, Some(text)) => (text.to_string_lossy().into_owned(), "SEKALI_TOKEN".to_owned()),
            (None, None) => return Ok(None),
        };
        // What it has to look like is the service's affair, which may have changed.
        let token = text.trim_start_matches('\u{feff}').trim();
        let value = HeaderValue::try_from(format!("Bearer {token}"));
        match value {
            Ok(mut value) if !token.is_empty() && !token.contains(char::is_whitespace) => {
                value.set_sensitive(true);
                Ok(Some(value))
            }
            _ => Err(unusable(format!("{from} has no token: it must have one, and nothing else"))),
        }
    }
}
