//! What all who watch the stream of figures share: the window, and the message of the last second.

use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use tokio::sync::watch;

use crate::http::page::window::Window;
use crate::metrics::Metrics;
use crate::sync::Mutex;

/// What all who watch share.
#[derive(Debug)]
pub(crate) struct Live {
    pub(super) window: Mutex<Window>,
    /// The message of the last second in which somebody watched; `None` when all shall end.
    pub(super) latest: watch::Sender<Option<Told>>,
    /// Whether it was measured how far consumers lag.
    pub(super) are_consumers_measured: AtomicBool,
}

/// The figures of a second, as messages.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    /// With the name of a consumer, for those who may read all topics.
    pub(super) all: Bytes,
    /// For the others.
    pub(super) part: Bytes,
}

impl Live {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let window = Mutex::new(Window::new(metrics.counts()));
        let latest = watch::Sender::new(Some(Told::default()));
        Self { window, latest, are_consumers_measured: AtomicBool::new(false) }
    }

    /// Ends all streams, those to come too.
    pub(crate) fn end(&self) {
        self.latest.send_replace(None);
    }

    /// Tells all who watch, unless they shall end.
    pub(super) fn tell(&self, told: Told) {
        self.latest.send_if_modified(|latest| {
            let goes_on = latest.is_some();
            if goes_on {
                *latest = Some(told);
            }
            goes_on
        });
    }
}
