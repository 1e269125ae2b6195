//! Files that are read again when they change, or when the process gets SIGHUP.
//!
//! They are looked at by their names, four times a second, and symbolic links are followed. So it
//! does not matter how a new version takes an old one's place: it may be written over it, renamed
//! over it, or a link to the folder of both may be turned, as Kubernetes does with mounted secrets.
//!
//! Whoever sends SIGHUP may want to know when all has been read. So each that reads files holds a
//! [`Reading`] meanwhile, and all are done when the last of them was dropped.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{broadcast, mpsc};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// SIGHUP, and all who read files again then.
#[derive(Debug)]
pub struct Reloads {
    hang_up: Signal,
    readers: broadcast::Sender<Reading>,
}

/// Says by being dropped that the files were read.
type Reading = mpsc::Sender<()>;

/// Files that belong together, such as a certificate and its key.
#[derive(Debug)]
pub struct Watched {
    paths: Vec<PathBuf>,
    /// What the caller knows of, or was told of.
    told: Versions,
    hang_ups: broadcast::Receiver<Reading>,
    /// What the caller holds while it reads.
    reading: Option<Reading>,
}

/// What tells a file from its other versions: its device, inode, length, and the times of its last
/// changes in nanoseconds. `None` if it can't be looked at.
type Version = Option<[i128; 5]>;
type Versions = Vec<Version>;

impl Reloads {
    /// Keeps SIGHUP from ending the process from now on.
    ///
    /// # Errors
    /// If signals can't be waited for; outside of a runtime it panics.
    pub fn new() -> io::Result<Self> {
        Ok(Self { hang_up: signal(SignalKind::hangup())?, readers: broadcast::Sender::new(1) })
    }

    /// Tells all who watch files of each SIGHUP; never returns. Each time `begun` is called before
    /// they read, and `done` when all have.
    pub async fn run(mut self, begun: impl Fn(), done: impl Fn()) {
        while self.hang_up.recv().await.is_some() {
            begun();
            let (reading, mut all_have_read) = mpsc::channel(1);
            // It is dropped at once if nobody watches files.
            let _ = self.readers.send(reading);
            while all_have_read.recv().await.is_some() {}
            done();
        }
    }
}

impl Watched {
    /// Watches `paths` from now on. A caller that reads them afterwards misses no change.
    pub fn new(paths: Vec<PathBuf>, reloads: &Reloads) -> Self {
        let (told, hang_ups) = (versions(&paths), reloads.readers.subscribe());
        Self { paths, told, hang_ups, reading: None }
    }

    /// Watches other files from now on.
    pub fn turn_to(&mut self, paths: Vec<PathBuf>) {
        self.told = versions(&paths);
        self.paths = paths;
    }

    /// Waits until a file has changed, or the process is told to read its files again. Who calls it
    /// again has read them.
    ///
    /// Of several changes in a row the last one counts: files that belong together are seldom
    /// replaced in one go, and the first of them does not fit the others yet.
    pub async fn changed(&mut self) {
        self.reading = None;
        let mut last = self.told.clone();
        loop {
            tokio::select! {
                Ok(reading) = self.hang_ups.recv() => {
                    self.reading = Some(reading);
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
    use std::sync::Arc;

    use futures_util::FutureExt;
    use rustix::process::kill_process;

    use super::*;
    use crate::sync::Mutex;

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
        let reloads = Reloads::new().unwrap();
        let mut watched = Watched::new(vec![at("key"), at("absent")], &reloads);
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

    #[tokio::test]
    async fn a_reload_is_done_when_all_have_read_and_those_who_are_gone_are_not_waited_for() {
        let reloads = Reloads::new().unwrap();
        let [mut first, mut second, mut third] = [(); 3].map(|()| Watched::new(Vec::new(), &reloads));
        let told = Arc::new(Mutex::new(Vec::new()));
        let note = |what: &'static str| {
            let told = Arc::clone(&told);
            move || told.lock().push(what)
        };
        tokio::spawn(reloads.run(note("begun"), note("done")));
        kill_process(rustix::process::getpid(), rustix::process::Signal::HUP).unwrap();
        assert!(is_told(&mut first).await && is_told(&mut second).await && is_told(&mut third).await);
        // These have read, and wait for the next time.
        let again = [first.changed().now_or_never(), second.changed().now_or_never()];
        tokio::task::yield_now().await;
        assert_eq!((again, told.lock().clone()), ([None, None], vec!["begun"]));
        drop(third);
        let all_done = async {
            while told.lock().len() < 2 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(DEADLINE, all_done).await.unwrap();
        assert_eq!(*told.lock(), ["begun", "done"]);
    }
}
