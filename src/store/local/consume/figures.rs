//! How far consumers lag, for `/metrics`.

use super::lag;
use crate::error::Result;
use crate::limits::CONSUMERS_MEASURED_MAX;
use crate::metrics::CONSUMERS;
use crate::store::local::shared::Shared;

/// Brings the figures up to date. A name that has figures keeps them as long as the process lives,
/// so no more names than there may be ever get some.
pub(in crate::store::local) fn observe(core: &Shared) -> Result<()> {
    let metrics = &core.seams.metrics;
    metrics.set(CONSUMERS, &[], core.consumers.len() as f64);
    let measured = {
        let mut measured = core.measured.lock();
        for consumer in core.consumers.after(None, usize::MAX) {
            if measured.len() < CONSUMERS_MEASURED_MAX {
                measured.insert(consumer.name.clone());
            }
        }
        measured.clone()
    };
    for name in measured {
        let (events, oldest) = match core.consumers.get(&name) {
            Some(consumer) => lag(core, &consumer)?,
            None => (0, None),
        };
        let now = core.seams.clock.now();
        let age = oldest.map_or(0.0, |oldest| now.0.saturating_sub(oldest.0).max(0) as f64 / 1e6);
        metrics.consumer_lags(&name, events, age);
    }
    Ok(())
}
