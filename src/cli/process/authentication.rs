//! Who is let in by a service: the tokens file, its first token, and its changes.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use sekali::auth::AUDIT;
use sekali::auth::authenticator::{Authenticator, Change};
use sekali::auth::scope::Scope;
use sekali::auth::token::Token;
use sekali::auth::tokens_file::{Entry, TokensFile};
use sekali::clock::{Clock, SystemClock};
use sekali::config::Config;
use sekali::error::{Error, ErrorKind};
use sekali::metrics::{Metrics, TOKENS_FILE_READ};
use sekali::watch::{Reloads, Watched};
use tempfile::NamedTempFile;
use tracing::{info, warn};

use crate::cli::exit::{Exit, Failure};

/// The file of the data directory that has the first token.
const ADMIN_TOKEN: &str = "admin-token";
/// How often it is looked whether a token's time is over.
const LOOK: Duration = Duration::from_millis(250);

/// What is known of tokens before the store is opened.
pub(crate) struct Authentication {
    path: PathBuf,
    file: Option<TokensFile>,
    watched: Watched,
}

impl Authentication {
    /// Reads the tokens file, if there is one.
    ///
    /// # Errors
    /// The file is wrong, or is there although nobody is to be asked for a token.
    pub(crate) fn read(config: &Config, reloads: &Reloads) -> Result<Self, Failure> {
        let path = config.tokens_file();
        let watched = Watched::new(vec![path.clone()], reloads);
        let file = TokensFile::read(&path).map_err(|e| Failure::new(Exit::Configuration, e))?;
        if file.is_some() && config.insecure_no_auth {
            let sentence = format!(
                "insecure_no_auth is set, and there is a tokens file, {}: leave out the one or move away the other",
                path.display()
            );
            return Err(Failure::new(Exit::Configuration, sentence));
        }
        Ok(Self { path, file, watched })
    }

    /// Lets in whom the file knows. Without a file everybody is let in who reaches a service of this
    /// machine alone; a service that others reach gets a first token.
    ///
    /// # Errors
    /// The first token can't be written.
    pub(crate) fn start(
        self,
        config: &Config,
        is_local: bool,
        metrics: &Metrics,
    ) -> Result<Arc<Authenticator>, Failure> {
        let authenticator = Arc::new(Authenticator::open(Arc::new(SystemClock)));
        let Self { path, mut file, watched } = self;
        if file.is_none() && config.insecure_no_auth {
            warn!(target: AUDIT, "insecure: whoever reaches this service can read and write, as insecure_no_auth is set");
        } else if file.is_none() && !is_local {
            bootstrap(config, &path)?;
            file = TokensFile::read(&path)?;
        }
        if let Some(file) = file {
            info!(target: AUDIT, tokens = file.tokens.len(), certificates = file.certificates.len(), path = %path.display(), "tokens are asked for");
            authenticator.replace(file);
        }
        metrics.set(TOKENS_FILE_READ, &[], 1.0);
        tokio::spawn(follow(Arc::clone(&authenticator), path, watched, metrics.clone()));
        Ok(authenticator)
    }
}

/// Writes a first token, which may do everything.
fn bootstrap(config: &Config, path: &Path) -> Result<(), Failure> {
    let (own, given) = (config.data_dir.join(ADMIN_TOKEN), &config.bootstrap_token_file);
    let (token, from) = match given.as_os_str().is_empty() {
        false => (read_token(given)?, given.clone()),
        // A start that was cut short may have left it.
        true if own.exists() => (read_token(&own)?, own),
        true => (make_token(&own)?, own),
    };
    TokensFile::edit(path, |file| {
        let entry = Entry::new(&token, "admin", vec![Scope::Admin], SystemClock.now());
        file.tokens.push(entry);
        Ok::<_, Failure>(())
    })?;
    warn!(
        target: AUDIT,
        token = token.id(),
        "there were no tokens: an admin token is in {}; use it to make others with `sekali token create`, then revoke it",
        from.display()
    );
    Ok(())
}

/// The token that a file has alone.
fn read_token(path: &Path) -> Result<Token, Failure> {
    let failure = |why: String| Failure::new(Exit::Configuration, format!("{}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|e| failure(format!("cannot read a token: {e}")))?;
    text.trim().parse().map_err(|e: sekali::auth::token::NoToken| failure(e.to_string()))
}

/// Makes a token, durably, in a file that its owner alone can read. The file is there whole or not
/// at all.
fn make_token(path: &Path) -> Result<Token, Failure> {
    let (token, folder) = (Token::generate()?, path.parent().unwrap_or(Path::new(".")));
    let written = NamedTempFile::new_in(folder).and_then(|mut file| {
        writeln!(file, "{}", token.reveal())?;
        file.as_file().sync_all()?;
        file.persist_noclobber(path)?;
        File::open(folder)?.sync_all()
    });
    written.map_err(|e| Error::io("write a token to", path, e))?;
    Ok(token)
}

/// A line about what the tokens file lets a token or a certificate do, which has changed.
fn tell(Change { id, before, after }: &Change) {
    let message = match (before.is_empty(), after.is_empty()) {
        (true, _) => "it is let in from now on",
        (false, true) => "it is no longer let in",
        (false, false) => "what it may do has changed",
    };
    info!(target: AUDIT, token = id, before, after, "{message}");
}

/// Has the authenticator know what the file has, whenever that changes, and ends what goes on with
/// tokens whose time is over.
async fn follow(authenticator: Arc<Authenticator>, path: PathBuf, mut watched: Watched, metrics: Metrics) {
    let mut looks = tokio::time::interval(LOOK);
    loop {
        let mut changed = pin!(watched.changed());
        loop {
            tokio::select! {
                _ = looks.tick() => authenticator.expire(),
                () = &mut changed => break,
            }
        }
        let read = tokio::task::spawn_blocking({
            let path = path.clone();
            move || TokensFile::read(&path)
        });
        let read = read.await.unwrap_or_else(|e| Err(Error::new(ErrorKind::Io, e.to_string())));
        match read {
            Ok(Some(file)) => {
                let (tokens, certificates) = (file.tokens.len(), file.certificates.len());
                let changes = authenticator.replace(file);
                info!(target: AUDIT, tokens, certificates, changes = changes.len(), "the tokens file was read again");
                changes.iter().for_each(tell);
                metrics.set(TOKENS_FILE_READ, &[], 1.0);
            }
            // There was none before.
            Ok(None) if authenticator.is_open() => {}
            Ok(None) => {
                warn!(target: AUDIT, path = %path.display(), "the tokens file is gone; the tokens that it had stay in use");
                metrics.set(TOKENS_FILE_READ, &[], 0.0);
            }
            Err(e) => {
                warn!(target: AUDIT, error = %e, "the tokens file is wrong; the tokens of before stay in use");
                metrics.set(TOKENS_FILE_READ, &[], 0.0);
            }
        }
    }
}
