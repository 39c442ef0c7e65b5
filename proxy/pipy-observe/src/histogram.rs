//! How long things take: counts per bucket of milliseconds.
//!
//! What comes in: durations in microseconds. What goes out: counts per bucket and their sum. Buckets are held apart
//! and added up only when they are printed, so that recording touches two numbers.
//!
//! INVARIANT: one writer, as for a counter. Upper bounds are inclusive, as Prometheus has them (`le`).

use crate::counter::Counter;

/// Upper bounds of the buckets of `fsm_request_duration_ms`, milliseconds. Users' dashboards know these.
pub const REQUEST_BUCKETS_MS: &[u64] = &[
    5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000, 600_000, 1_800_000,
    3_600_000,
];

/// Upper bounds for the time to apply a configuration, milliseconds.
pub const APPLY_BUCKETS_MS: &[u64] = &[1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000];

/// Durations, by bucket. One writer.
#[derive(Debug)]
pub struct Histogram {
    bounds_ms: &'static [u64],
    /// One more than there are bounds: the last is for what exceeds them all.
    counts: Box<[Counter]>,
    sum_us: Counter,
}

impl Histogram {
    /// An empty one with these ascending upper bounds, milliseconds.
    pub fn new(bounds_ms: &'static [u64]) -> Self {
        let counts = (0..=bounds_ms.len()).map(|_| Counter::default()).collect();
        Histogram { bounds_ms, counts, sum_us: Counter::default() }
    }

    /// Records one duration, microseconds.
    #[inline]
    pub fn record_us(&self, us: u64) {
        // Most requests fall into the first buckets: looking from the front beats bisection.
        let bucket =
            self.bounds_ms.iter().position(|bound| us <= bound * 1000).unwrap_or(self.bounds_ms.len());
        if let Some(count) = self.counts.get(bucket) {
            count.inc();
        }
        self.sum_us.add(us);
    }

    /// How many were recorded.
    pub fn count(&self) -> u64 {
        self.counts.iter().map(Counter::get).sum()
    }

    pub(crate) fn sum(&self) -> HistogramSum {
        let mut sum = HistogramSum::new(self.bounds_ms);
        sum.add(self);
        sum
    }
}

/// One or more histograms of the same bounds, added up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HistogramSum {
    pub(crate) bounds_ms: &'static [u64],
    counts: Vec<u64>,
    pub(crate) sum_us: u64,
}

impl HistogramSum {
    pub(crate) fn new(bounds_ms: &'static [u64]) -> Self {
        HistogramSum { bounds_ms, counts: vec![0; bounds_ms.len() + 1], sum_us: 0 }
    }

    pub(crate) fn add(&mut self, other: &Histogram) {
        for (sum, count) in self.counts.iter_mut().zip(&other.counts) {
            *sum = sum.wrapping_add(count.get());
        }
        self.sum_us = self.sum_us.wrapping_add(other.sum_us.get());
    }

    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Cumulative counts with their bounds; the last has none (`+Inf`).
    pub(crate) fn cumulative(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        let bounds = self.bounds_ms.iter().copied().map(Some).chain(std::iter::once(None));
        let mut total = 0;
        bounds.zip(&self.counts).map(move |(bound, count)| {
            total += count;
            (bound, total)
        })
    }

    /// The bound below which at least `percent` of all lie; `None` when they lie beyond the last bound, or there are
    /// none.
    pub(crate) fn bound_of(&self, percent: u64) -> Option<u64> {
        let needed = (self.count() * percent).div_ceil(100).max(1);
        self.cumulative().find(|(_, total)| *total >= needed).and_then(|(bound, _)| bound)
    }

    /// The sum in milliseconds, with three decimals.
    pub(crate) fn sum_ms(&self) -> String {
        format!("{}.{:03}", self.sum_us / 1000, self.sum_us % 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_inclusive_and_the_last_bucket_takes_the_rest() {
        let histogram = Histogram::new(REQUEST_BUCKETS_MS);
        for us in [0, 5_000, 5_001, 3_600_000_000, 3_600_000_001, u64::MAX / 2] {
            histogram.record_us(us);
        }

        let cumulative: Vec<_> = histogram.sum().cumulative().collect();

        assert_eq!(cumulative[0], (Some(5), 2));
        assert_eq!(cumulative[1], (Some(10), 3));
        assert_eq!(cumulative[16], (Some(3_600_000), 4));
        assert_eq!(cumulative[17], (None, 6));
    }

    #[test]
    fn quantiles_name_the_bound_that_holds_them() {
        let histogram = Histogram::new(REQUEST_BUCKETS_MS);
        assert_eq!(histogram.sum().bound_of(50), None);
        for us in [1_000, 1_000, 1_000, 90_000] {
            histogram.record_us(us);
        }
        assert_eq!(histogram.sum().bound_of(50), Some(5));
        assert_eq!(histogram.sum().bound_of(99), Some(100));
        assert_eq!(histogram.sum().sum_ms(), "93.000");
    }
}
