//! How far consumers lag, for `/metrics`.

use super::lag::Lag;
use crate::consumer::Look;
use crate::error::Result;
use crate::limits::CONSUMERS_MEASURED_MAX;
use crate::metrics::CONSUMERS;
use crate::store::local::Local;

impl Local {
    /// Brings the figures up to date, one consumer after the other: given up, it goes on there the
    /// next time. A name that has figures keeps them as long as the process lives, so no more names
    /// than there may be ever get some.
    pub(in crate::store::local) async fn observe_consumers(&self) -> Result<()> {
        let metrics = &self.shared.seams.metrics;
        metrics.set(CONSUMERS, &[], self.shared.consumers.len() as f64);
        for _ in 0..self.measured_consumers() {
            let Some(name) = self.next_measured() else { return Ok(()) };
            let Lag { events, since } = match self.shared.consumers.get(&name) {
                Some(consumer) => self.lag(&consumer, Look::default()).await?,
                None => Lag::default(),
            };
            let now = self.shared.seams.clock.now();
            let age = since.map_or(0.0, |since| now.0.saturating_sub(since.0).max(0) as f64 / 1e6);
            metrics.consumer_lags(&name, events, age);
        }
        Ok(())
    }

    /// Gives consumers figures of their own, as many as may have some; how many have.
    fn measured_consumers(&self) -> usize {
        let mut measured = self.shared.measured.lock();
        for consumer in self.shared.consumers.after(None, usize::MAX) {
            if measured.len() < CONSUMERS_MEASURED_MAX && !measured.contains(&consumer.name) {
                measured.push_back(consumer.name.clone());
            }
        }
        measured.len()
    }

    /// The consumer that was not measured for the longest time.
    fn next_measured(&self) -> Option<Box<str>> {
        let mut measured = self.shared.measured.lock();
        let next = measured.pop_front()?;
        measured.push_back(next.clone());
        Some(next)
    }
}
