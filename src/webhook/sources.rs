//! All sources, which are exchanged as a whole when their configuration or a secret changes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::settings::{Settings, SettingsError};
use super::source::Source;
use crate::limits::SOURCES_MAX;
use crate::sync::RwLock;

type Named = BTreeMap<String, Arc<Source>>;

/// The sources of a service.
#[derive(Debug, Default)]
pub struct Sources(RwLock<Arc<Named>>);

impl Sources {
    /// The source of this name.
    pub fn find(&self, name: &str) -> Option<Arc<Source>> {
        self.0.read().get(name).cloned()
    }

    /// All sources, by name.
    pub fn all(&self) -> Vec<Arc<Source>> {
        self.0.read().values().cloned().collect()
    }

    /// Has these sources in the place of all others.
    pub fn replace(&self, sources: Vec<Source>) {
        let named = sources.into_iter().map(|source| (source.name.clone(), Arc::new(source)));
        *self.0.write() = Arc::new(named.collect());
    }

    /// Makes what a configuration describes, and reads its secrets.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn load(settings: &BTreeMap<String, Settings>) -> Result<Vec<Source>, SettingsError> {
        settings.iter().map(|(name, settings)| settings.load(name)).collect()
    }

    /// Checks what a configuration describes, but for its secrets.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(settings: &BTreeMap<String, Settings>) -> Result<(), SettingsError> {
        if settings.len() > SOURCES_MAX {
            return Err(SettingsError(format!(
                "there are {} sources, but at most {SOURCES_MAX} may be",
                settings.len()
            )));
        }
        settings.iter().try_for_each(|(name, settings)| settings.check(name))
    }

    /// The files that hold secrets.
    pub fn files(settings: &BTreeMap<String, Settings>) -> Vec<PathBuf> {
        settings.values().flat_map(Settings::files).collect()
    }
}
