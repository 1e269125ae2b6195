//! The sources of webhooks of a service: their configuration, their secrets, and changes of both.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sekali::config::{Config, Layer};
use sekali::metrics::{Metrics, SOURCES_READ};
use sekali::watch::{Reloads, Watched};
use sekali::webhook::{Settings, Source, Sources};
use tracing::{info, warn};

use crate::cli::exit::{Exit, Failure};

type Tables = BTreeMap<String, Settings>;

/// What is known of sources before the store is opened.
pub(crate) struct Webhooks {
    /// The configuration file; without one there are no sources.
    config: Option<(PathBuf, Watched)>,
    sources: Vec<Source>,
}

impl Webhooks {
    /// Reads the secrets of the sources that a configuration has.
    ///
    /// # Errors
    /// A secret can't be used.
    pub(crate) fn read(config: &Config, path: Option<PathBuf>, reloads: &Reloads) -> Result<Self, Failure> {
        // Before they are read, so that no change is missed.
        let Some(path) = path else { return Ok(Self { config: None, sources: Vec::new() }) };
        let watched = Watched::new(files(&path, &config.sources), reloads);
        let wrong = |e: String| Failure::new(Exit::Configuration, e);
        let tables = read_tables(&path).map_err(wrong)?;
        let sources = Sources::load(&tables).map_err(|e| wrong(e.to_string()))?;
        Ok(Self { config: Some((path, watched)), sources })
    }

    /// Has the sources ready, and keeps them as new as their files.
    pub(crate) fn start(self, metrics: &Metrics) -> Arc<Sources> {
        let sources = Arc::new(Sources::default());
        tell(&self.sources);
        if !self.sources.is_empty() {
            info!(sources = self.sources.len(), "webhooks are taken at /in/{{source}}");
        }
        sources.replace(self.sources);
        metrics.set(SOURCES_READ, &[], 1.0);
        if let Some((path, watched)) = self.config {
            tokio::spawn(follow(Arc::clone(&sources), path, watched, metrics.clone()));
        }
        sources
    }
}

/// What the owner of the sources should know.
fn tell(sources: &[Source]) {
    for source in sources {
        for warning in source.warnings() {
            warn!(source = source.name(), "{warning}");
        }
    }
}

/// The configuration and all secrets.
fn files(config: &Path, tables: &Tables) -> Vec<PathBuf> {
    [config.to_owned()].into_iter().chain(Sources::files(tables)).collect()
}

/// The tables of sources that the configuration file has now.
fn read_tables(config: &Path) -> Result<Tables, String> {
    let tables = Layer::from_file(config).map_err(|e| e.to_string())?.sources;
    Sources::check(&tables).map_err(|e| e.to_string())?;
    Ok(tables)
}

/// Reads the files again whenever one of them has changed. What is wrong changes nothing, but for
/// what the operator is told.
async fn follow(sources: Arc<Sources>, path: PathBuf, mut watched: Watched, metrics: Metrics) {
    loop {
        watched.changed().await;
        let read = match read_again(&path, &mut watched).await {
            Ok(tables) => {
                // A file system may hang.
                let loading =
                    tokio::task::spawn_blocking(move || Sources::load(&tables).map_err(|e| e.to_string()));
                loading.await.unwrap_or_else(|e| Err(e.to_string()))
            }
            Err(why) => Err(why),
        };
        match read {
            Ok(read) => {
                info!(sources = read.len(), "the sources of webhooks were read again and are in use");
                tell(&read);
                sources.replace(read);
                metrics.set(SOURCES_READ, &[], 1.0);
            }
            Err(error) => {
                warn!(
                    error,
                    "the sources of webhooks can't be used as they are now; those of before stay in use"
                );
                metrics.set(SOURCES_READ, &[], 0.0);
            }
        }
    }
}

/// The tables as they are now. The files that they name are watched from before they are read.
async fn read_again(path: &Path, watched: &mut Watched) -> Result<Tables, String> {
    let read = |path: PathBuf| async move {
        let reading = tokio::task::spawn_blocking(move || read_tables(&path));
        reading.await.unwrap_or_else(|e| Err(e.to_string()))
    };
    watched.turn_to(files(path, &read(path.to_owned()).await?));
    read(path.to_owned()).await
}
