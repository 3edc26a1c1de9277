//! Spans on their way to a collector: what they are made of, which requests have them, and the queue that they wait in.
//!
//! Promises: without a collector in the config nothing here is ever asked; the queue is bounded in number and in bytes, and
//! what does not fit is counted; no span holds a header, a query or a body. It sends nothing itself.

mod context;
mod otlp;
mod queue;
mod span;

pub use context::Context;
pub use otlp::{Resource, encode};
pub use queue::{BATCH_MAX, Batch, Figures, QUEUE_BYTES_MAX, QUEUE_MAX, Tracer};
pub use span::{Event, Kind, Span, Value};

use std::sync::Arc;

/// Which requests are traced.
#[derive(Debug, Clone)]
pub struct Sampling {
    tracer: Arc<Tracer>,
    /// Trace ids below it are taken: of their last 63 bits, as OpenTelemetry's SDKs look at them.
    below: u64,
}

impl Sampling {
    /// This share of the traces that begin here.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 2^63")]
    pub fn new(tracer: &Arc<Tracer>, share: f64) -> Self {
        let below = (share.clamp(0.0, 1.0) * (1_u64 << 63) as f64) as u64;
        Self { tracer: Arc::clone(tracer), below }
    }

    /// Whether a trace of this id is taken where nobody has decided before.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the last half of it")]
    pub const fn takes(&self, trace: u128) -> bool {
        (trace as u64) >> 1 < self.below
    }

    /// Where its spans wait.
    #[must_use]
    pub const fn tracer(&self) -> &Arc<Tracer> {
        &self.tracer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Memory;

    #[test]
    fn the_share_is_that_of_the_ids() {
        let tracer = Tracer::new(&Memory::new(1 << 20));
        let mut dice = fastrand::Rng::with_seed(7);
        for (share, least, most) in [(0.0, 0, 0), (0.01, 60, 140), (0.5, 4_800, 5_200), (1.0, 10_000, 10_000)]
        {
            let sampling = Sampling::new(&tracer, share);
            let taken = (0..10_000).filter(|_| sampling.takes(dice.u128(..))).count();
            assert!((least..=most).contains(&taken), "{share}: {taken}");
        }
        assert!(Sampling::new(&tracer, 1.0).takes(u128::MAX));
    }

    #[test]
    fn the_first_half_of_an_id_does_not_count() {
        // It is the time in ids that begin here.
        let sampling = Sampling::new(&Tracer::new(&Memory::new(1 << 20)), 0.5);
        assert!(sampling.takes(u128::MAX << 64));
        assert!(!sampling.takes(u128::from(u64::MAX)));
    }
}
