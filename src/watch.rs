//! Files that are read again when they change, or when the process gets SIGHUP.
//!
//! They are looked at by their names, twice a second, and symbolic links are followed. So it does
//! not matter how a new version takes an old one's place: it may be written over it, renamed over
//! it, or a link to the folder of both may be turned, as Kubernetes does with mounted secrets.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Files that belong together, such as a certificate and its key.
#[derive(Debug)]
pub struct Watched {
    paths: Vec<PathBuf>,
    /// What the caller knows of, or was told of.
    told: Versions,
    hang_up: Signal,
}

/// What tells a file from its other versions: its device, inode, length, and the times of its last
/// changes in nanoseconds. `None` if it can't be looked at.
type Version = Option<[i128; 5]>;
type Versions = Vec<Version>;

impl Watched {
    /// Watches `paths` from now on. A caller that reads them afterwards misses no change.
    ///
    /// # Errors
    /// If signals can't be waited for; outside of a runtime it panics.
    pub fn new(paths: Vec<PathBuf>) -> io::Result<Self> {
        let told = versions(&paths);
        Ok(Self { paths, told, hang_up: signal(SignalKind::hangup())? })
    }

    /// Waits until a file has changed, or the process is told to read its files again.
    ///
    /// Of several changes in a row the last one counts: files that belong together are seldom
    /// replaced in one go, and the first of them does not fit the others yet.
    pub async fn changed(&mut self) {
        let mut last = self.told.clone();
        loop {
            tokio::select! {
                _ = self.hang_up.recv() => {
                    self.told = self.look().await;
                    return;
                }
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let now = self.look().await;
            if now == last && now != self.told {
                self.told = now;
                return;
            }
            last = now;
        }
    }

    /// The present versions. The file system may hang, so it is asked by a thread that may wait.
    async fn look(&self) -> Versions {
        let paths = self.paths.clone();
        let looked = tokio::task::spawn_blocking(move || versions(&paths)).await;
        looked.unwrap_or_else(|_| self.told.clone())
    }
}

fn versions(paths: &[PathBuf]) -> Versions {
    let version = |path: &PathBuf| {
        let file = std::fs::metadata(path).ok()?;
        let time = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
        let modified = time(file.mtime(), file.mtime_nsec());
        let changed = time(file.ctime(), file.ctime_nsec());
        Some([file.dev().into(), file.ino().into(), file.size().into(), modified, changed])
    };
    paths.iter().map(version).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// The time after which a change is missed. It passes at once while nothing is to be done.
    const DEADLINE: Duration = Duration::from_secs(60);

    async fn is_told(watched: &mut Watched) -> bool {
        tokio::time::timeout(DEADLINE, watched.changed()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_told_once_however_a_file_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("1")).unwrap();
        fs::write(at("1/key"), "1").unwrap();
        symlink("1", at("data")).unwrap();
        symlink("data/key", at("key")).unwrap();
        let mut watched = Watched::new(vec![at("key"), at("absent")]).unwrap();
        assert!(!is_told(&mut watched).await, "nothing has changed");

        fs::write(at("1/key"), "22").unwrap();
        assert!(is_told(&mut watched).await, "written over");
        assert!(!is_told(&mut watched).await, "told before");

        fs::write(at("new"), "22").unwrap();
        fs::rename(at("new"), at("1/key")).unwrap();
        assert!(is_told(&mut watched).await, "renamed over");

        fs::create_dir(at("2")).unwrap();
        fs::write(at("2/key"), "22").unwrap();
        symlink("2", at("turned")).unwrap();
        fs::rename(at("turned"), at("data")).unwrap();
        assert!(is_told(&mut watched).await, "a link on its way was turned");

        fs::remove_file(at("2/key")).unwrap();
        assert!(is_told(&mut watched).await, "removed");
        fs::write(at("absent"), "").unwrap();
        assert!(is_told(&mut watched).await, "made");
    }
}
