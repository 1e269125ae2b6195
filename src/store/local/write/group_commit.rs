//! Who commits: whoever finds the writer idle.
//!
//! ```text
//! worker, small group ──> writer idle? ──yes──> commits here: no other thread is woken, nor this one again
//!                              └──no───┐
//! worker, large group ─────────────────┴──> the journal's thread, while the worker decides what comes next
//! ```
//! A hand-over costs a wake-up of a thread on either side, more than deciding a small group does. A
//! large one is worth it: the disk works while the next group is decided. Groups are committed in
//! the order in which they were handed over, whoever does it, as a duplicate may rest on an event
//! of the group before.

use std::sync::{Arc, OnceLock};

use tokio::sync::oneshot;

use super::group::{Group, Message};
use super::writer::Writer;
use crate::error::{Error, ErrorKind, Result};
use crate::store::local::admission::queue::GROUP_WORTH_BYTES;
use crate::store::local::format::frame::Chain;
use crate::sync::mpsc::{SendError, SyncSender};
use crate::sync::{self, Mutex, Thread};

/// The writer, shared by the workers and the journal's thread.
#[derive(Clone, Debug)]
pub(crate) struct GroupCommit {
    groups: SyncSender<Message>,
    pub(crate) writer: Arc<Mutex<Writer>>,
    thread: Arc<OnceLock<Thread>>,
}

impl GroupCommit {
    /// The way to `writer`, which takes what is sent to `groups`; and what its thread has to run.
    pub(crate) fn new(groups: SyncSender<Message>, writer: Writer) -> (Self, impl FnOnce() -> Chain + Send) {
        let (writer, thread) = (Arc::new(Mutex::new(writer)), Arc::new(OnceLock::new()));
        let journal = Self { groups, writer: Arc::clone(&writer), thread: Arc::clone(&thread) };
        (journal, move || {
            // Set once: this runs once.
            let _ = thread.set(sync::current());
            run(&writer)
        })
    }

    /// Commits a group, here or in the journal's thread; gives it back if the store has ended.
    pub(crate) fn commit(&self, group: Group) -> std::result::Result<(), Group> {
        let is_small = group.bytes() < GROUP_WORTH_BYTES;
        match self.groups.send(Message::Group(group)) {
            Err(SendError(Message::Group(group))) => return Err(group),
            Ok(()) | Err(SendError(Message::Flush(_))) => {}
        }
        let is_left_to_thread = match self.writer.try_lock() {
            Some(mut writer) if is_small => writer.commit_once(),
            _ => true,
        };
        if is_left_to_thread {
            self.wake();
        }
        Ok(())
    }

    /// Makes pending counts durable; false if the store has ended. Waits while many groups do.
    pub(crate) fn flush(&self, done: oneshot::Sender<Result<()>>) -> bool {
        let is_sent = self.groups.send(Message::Flush(done)).is_ok();
        self.wake();
        is_sent
    }

    /// Has the journal's thread look at what there is to do.
    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            sync::unpark(thread);
        }
    }
}

/// The journal's thread: commits what nobody else did, and sees to what is due when nothing comes.
/// Returns when nobody can hand anything over any more, with where the journal ends.
fn run(writer: &Mutex<Writer>) -> Chain {
    loop {
        let mut writer = writer.lock_checked().unwrap_or_else(|writer| {
            writer
                .shared
                .fail(&Error::new(ErrorKind::Io, "a commit broke off: this is a bug, please report it"));
            writer
        });
        match writer.commit_all() {
            Some(wait) => {
                drop(writer);
                sync::park_timeout(wait);
            }
            None => return writer.end(),
        }
    }
}
