//! How far consumers lag, for `/metrics`.

use super::consumer_row::{find, list};
use super::stats::lag;
use crate::consumer::{ConsumerKey, ConsumerName};
use crate::error::{ErrorKind, Result};
use crate::limits::{CONSUMERS_MAX, CONSUMERS_MEASURED_MAX};
use crate::metrics::CONSUMERS;
use crate::store::postgres::node::shared::Shared;

/// Brings the figures up to date, one consumer after the other: given up, it goes on there the next
/// time. A name that has figures keeps them as long as the process lives, so no more names than
/// there may be ever get some.
///
/// # Errors
/// `Overloaded`, `Unsure`, `Corrupt`.
pub(crate) async fn observe(shared: &Shared) -> Result<()> {
    let metrics = &shared.metrics;
    let consumers = list(shared, None, CONSUMERS_MAX).await?;
    metrics.set(CONSUMERS, &[], consumers.len() as f64);
    for _ in 0..measured(shared, consumers) {
        let Some(name) = next_measured(shared) else { return Ok(()) };
        let (events, oldest) = match find(shared, &name).await {
            Ok(row) => {
                let cache = shared.consumers.of(&name, row.number, &row.topics);
                lag(shared, &cache, &shared.groups.well()).await?
            }
            Err(e) if e.kind() == ErrorKind::NoConsumer => (0, None),
            Err(e) => return Err(e),
        };
        let now = shared.clock.now();
        let age = oldest.map_or(0.0, |oldest| now.0.saturating_sub(oldest.0).max(0) as f64 / 1e6);
        metrics.consumer_lags(name.as_str(), events, age);
    }
    Ok(())
}

/// Gives consumers figures of their own, as many as may have some; how many have.
fn measured(shared: &Shared, consumers: Vec<ConsumerKey>) -> usize {
    let mut measured = shared.consumers.measured.lock();
    for ConsumerKey { name, .. } in consumers {
        if measured.len() < CONSUMERS_MEASURED_MAX && !measured.contains(&name) {
            measured.push_back(name);
        }
    }
    measured.len()
}

/// The consumer that was not measured for the longest time.
fn next_measured(shared: &Shared) -> Option<ConsumerName> {
    let mut measured = shared.consumers.measured.lock();
    let next = measured.pop_front()?;
    measured.push_back(next.clone());
    Some(next)
}
