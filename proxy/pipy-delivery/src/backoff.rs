//! How long to pause after a failure.
//!
//! Each pause is drawn from between a bound and its double, and the bound doubles each time, up to a maximum: a
//! thousand proxies that lost the same control plane at the same moment don't come back as one.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    /// The longest that the next pause may be.
    step: Duration,
}

impl Backoff {
    /// Pauses from `min` to `max`.
    pub(crate) fn new(min: Duration, max: Duration) -> Self {
        let min = min.max(Duration::from_millis(1));
        let max = max.max(min * 2);
        Backoff { min, max, step: min * 2 }
    }

    /// The next pause.
    pub(crate) fn pause(&mut self) -> Duration {
        let step = self.step;
        self.step = (step * 2).min(self.max);
        step / 2 + (step / 2).mul_f64(random_fraction())
    }

    /// All is well again.
    pub(crate) fn reset(&mut self) {
        self.step = self.min * 2;
    }
}

/// Between 0 and 1. The seeds of hash maps are random enough to spread proxies apart.
pub(crate) fn random_fraction() -> f64 {
    let bits = RandomState::new().hash_one(0_u8) >> 11;
    bits as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_maximum_and_start_over() {
        let (min, max) = (Duration::from_millis(200), Duration::from_secs(10));
        let mut backoff = Backoff::new(min, max);
        let mut step = min * 2;
        for _ in 0..12 {
            let pause = backoff.pause();
            assert!(pause >= step / 2 && pause <= step, "{pause:?} of {step:?}");
            step = (step * 2).min(max);
        }
        assert_eq!(step, max);
        backoff.reset();
        let first = backoff.pause();
        assert!(first >= min && first <= min * 2, "{first:?}");
    }

    #[test]
    fn pauses_differ() {
        let pause = || {
            let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
            (0..6).map(|_| backoff.pause()).collect::<Vec<_>>()
        };
        assert_ne!(pause(), pause());
    }
}
