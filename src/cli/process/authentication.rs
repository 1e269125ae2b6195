//! Who is let in by a service: the tokens file, its first token, and its changes.

use std::fs::{DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
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
use sekali::config::address::Address;
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

/// From where a service is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// From this machine alone.
    Machine,
    /// From elsewhere too, as this setting says.
    Beyond(&'static str),
}

impl Reach {
    /// How far a service is reached that listens at these addresses. Whoever names a proxy or a
    /// foreign host says that others come by it, although the service itself listens on loopback.
    pub(crate) fn of(config: &Config, addresses: impl Iterator<Item = (&'static str, Address)>) -> Self {
        let bound = addresses.map(|(setting, address)| (setting, !address.is_local()));
        let signs = [
            ("trusted_proxy", !config.trusted_proxy.is_empty()),
            ("proxy_protocol", config.proxy_protocol),
            ("allowed_host", config.allowed_host.iter().any(|host| !host.is_loopback())),
        ];
        let sign = bound.chain(signs).find(|(_, is_there)| *is_there);
        sign.map_or(Self::Machine, |(setting, _)| Self::Beyond(setting))
    }
}

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
        if config.insecure_no_auth && !config.bootstrap_token_file.as_os_str().is_empty() {
            let sentence = "insecure_no_auth is set, and bootstrap_token_file names a first token: leave out one of them";
            return Err(Failure::new(Exit::Configuration, sentence));
        }
        Ok(Self { path, file, watched })
    }

    /// Refuses a tokens file that is named and absent where nothing would make it: whoever names
    /// one does not want an open service.
    ///
    /// # Errors
    /// The file is absent.
    pub(crate) fn check(&self, config: &Config, reach: Reach) -> Result<(), Failure> {
        let is_named = !config.tokens_file.as_os_str().is_empty();
        let is_open = self.file.is_none() && !config.insecure_no_auth && !wants_first(config, reach);
        if !(is_named && is_open) {
            return Ok(());
        }
        let path = self.path.display();
        let sentence = format!(
            "there is no tokens file {path}, which tokens_file names, and without it everybody on this machine could \
             read and write: make it with `sekali token create --tokens-file {path}`, or leave out tokens_file"
        );
        Err(Failure::new(Exit::Configuration, sentence))
    }

    /// Lets in whom the file knows. Without a file everybody is let in who reaches a service of
    /// this machine alone; a service that others reach gets a first token.
    ///
    /// # Errors
    /// The first token can't be written.
    pub(crate) fn start(
        self,
        config: &Config,
        reach: Reach,
        metrics: &Metrics,
    ) -> Result<Arc<Authenticator>, Failure> {
        let authenticator = Arc::new(Authenticator::open(Arc::new(SystemClock)));
        let Self { path, mut file, watched } = self;
        if file.is_none() && config.insecure_no_auth {
            warn!(target: AUDIT, "insecure: whoever reaches this service can read and write, as insecure_no_auth is set");
        } else if file.is_none() && wants_first(config, reach) {
            bootstrap(config, reach, &path)?;
            file = TokensFile::read(&path)?;
        } else if file.is_none() {
            info!(target: AUDIT, "open: every program of this machine can read and write, as there are no tokens");
        }
        if let Some(file) = file {
            info!(target: AUDIT, tokens = file.tokens.len(), certificates = file.certificates.len(), path = %path.display(), "tokens are asked for");
            warn_of_group(&path);
            if file.is_empty() {
                warn!(target: AUDIT, path = %path.display(), "the tokens file lets nobody in: make a token with `sekali token create`, or remove the file to get a first one");
            }
            authenticator.replace(file);
        }
        metrics.set(TOKENS_FILE_READ, &[], 1.0);
        tokio::spawn(follow(Arc::clone(&authenticator), path, watched, metrics.clone()));
        Ok(authenticator)
    }
}

/// Whether a service that has no tokens is to get a first one: others reach it, or one is given.
fn wants_first(config: &Config, reach: Reach) -> bool {
    reach != Reach::Machine || !config.bootstrap_token_file.as_os_str().is_empty()
}

/// Writes a first token, which may do everything.
fn bootstrap(config: &Config, reach: Reach, path: &Path) -> Result<(), Failure> {
    // A store in a database has not made it.
    let dir = &config.data_dir;
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|e| Error::io("make the data directory, for a first token,", dir, e))?;
    let (own, given) = (dir.join(ADMIN_TOKEN), &config.bootstrap_token_file);
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
    let because = match reach {
        Reach::Beyond(setting) => setting,
        Reach::Machine => "bootstrap_token_file",
    };
    warn!(
        target: AUDIT,
        token = token.id(),
        because,
        "there were no tokens: an admin token is in {}; use it to make others with `sekali token create`, then revoke it",
        from.display()
    );
    Ok(())
}

/// The token that a file has alone.
fn read_token(path: &Path) -> Result<Token, Failure> {
    let failure = |why: String| Failure::new(Exit::Configuration, format!("{}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|e| failure(format!("cannot read a token: {e}")))?;
    if std::fs::metadata(path).is_ok_and(|about| about.mode() & 0o002 != 0) {
        return Err(failure(
            "everybody may write to it, and so choose the first token: chmod o-w it".to_owned(),
        ));
    }
    text.trim_start_matches('\u{feff}')
        .trim()
        .parse()
        .map_err(|e: sekali::auth::token::NoToken| failure(e.to_string()))
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

/// Warns of a tokens file to which more than its owner may write. That may be meant, as with a
/// group of administrators.
fn warn_of_group(path: &Path) {
    if TokensFile::is_group_writable(path) {
        warn!(target: AUDIT, path = %path.display(), "a group may write to the tokens file, and so give itself a token: chmod g-w it unless that is meant");
    }
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
                warn_of_group(&path);
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

#[cfg(test)]
mod tests {
    use sekali::config::Layer;

    use super::*;

    fn reach(change: impl FnOnce(&mut Layer)) -> Reach {
        let mut flags = Layer::default();
        change(&mut flags);
        let config = Config::resolve(flags, |_| None, None).unwrap();
        let operators = config.ops_listen.clone().map(|address| ("ops_listen", address));
        Reach::of(&config, [("listen", config.listen.clone())].into_iter().chain(operators))
    }

    #[test]
    fn a_service_on_loopback_is_reached_by_others_if_a_proxy_or_a_foreign_host_is_named() {
        let hosts = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
        assert_eq!(reach(|_| {}), Reach::Machine);
        assert_eq!(reach(|flags| flags.listen = Some("unix:/tmp/sock".parse().unwrap())), Reach::Machine);
        assert_eq!(reach(|flags| flags.listen = Some("0.0.0.0:1".parse().unwrap())), Reach::Beyond("listen"));
        let ops = reach(|flags| flags.ops_listen = Some("0.0.0.0:1".parse().unwrap()));
        assert_eq!(ops, Reach::Beyond("ops_listen"));
        for proxy in ["127.0.0.1", "unix"] {
            let beyond = reach(|flags| flags.trusted_proxy = Some(vec![proxy.parse().unwrap()]));
            assert_eq!(beyond, Reach::Beyond("trusted_proxy"));
        }
        for own in [&["localhost", "127.0.0.1", "::1"][..], &[".localhost"]] {
            assert_eq!(reach(|flags| flags.allowed_host = Some(hosts(own))), Reach::Machine);
        }
        for foreign in [&["localhost", "events.example.org"][..], &["*"], &[".example.org"], &["192.0.2.7"]] {
            assert_eq!(
                reach(|flags| flags.allowed_host = Some(hosts(foreign))),
                Reach::Beyond("allowed_host")
            );
        }
    }
}
