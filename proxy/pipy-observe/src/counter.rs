//! Numbers that one thread writes and any thread reads.
//!
//! [`Counter`] and [`Gauge`] are written with a plain load and store: no lock prefix, no cache line taken away from
//! anyone. That is right because each has one writer. [`SharedCounter`] is for the few that have several.
//! [`Slots`] and [`Codes`] are small sets of labelled numbers; they fill up once and never allocate on the way of a
//! request after a label has been seen.
//!
//! INVARIANT: a `Counter` or `Gauge` is written by one thread; a second writer would lose counts, never memory.
//!
//! Not here: adding up (`snapshot`), names and help texts (`cluster`, `exposition`).

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering::Relaxed};

/// LIMIT: labels of one [`Slots`]. Reasons, error kinds and listeners are a dozen at most; what exceeds this is
/// counted as `other`.
pub const SLOTS_MAX: usize = 32;

/// LIMIT: different response codes counted apart, per cluster and worker. Applications use fewer than ten; a backend
/// that makes up its codes gets `other` from here on.
pub const CODES_MAX: usize = 16;

/// Counts up. One writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `n`; wraps after 2^64, as readers of counters expect.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Reads.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Goes up and down. One writer.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// One more.
    #[inline]
    pub fn inc(&self) {
        self.0.store(self.0.load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// One less. Stays at zero rather than turn into a huge number: a missed `inc` is a bug, not a billion
    /// connections.
    #[inline]
    pub fn dec(&self) {
        let value = self.0.load(Relaxed);
        debug_assert!(value > 0, "a gauge went below zero");
        self.0.store(value.saturating_sub(1), Relaxed);
    }

    /// Sets it.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// Reads.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Counts up, from any thread. For what is rare.
#[derive(Debug, Default)]
pub struct SharedCounter(AtomicU64);

impl SharedCounter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Reads.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Up to [`SLOTS_MAX`] labelled entries, and one for the rest.
#[derive(Debug, Default)]
pub struct Slots<T> {
    named: [OnceLock<(Box<str>, T)>; SLOTS_MAX],
    other: T,
}

impl<T: Default> Slots<T> {
    /// The entry of a label; made when it is new, the `other` entry when there is no room.
    pub fn get(&self, label: &str) -> &T {
        for slot in &self.named {
            let (name, entry) = slot.get_or_init(|| (label.into(), T::default()));
            if **name == *label {
                return entry;
            }
        }
        &self.other
    }

    /// The entries that exist, in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.named.iter().map_while(|slot| slot.get().map(|(name, entry)| (&**name, entry)))
    }

    /// The entry for what had no room.
    pub fn other(&self) -> &T {
        &self.other
    }
}

/// Counts by HTTP status code. One writer.
#[derive(Debug, Default)]
pub struct Codes {
    slots: [(AtomicU16, Counter); CODES_MAX],
    other: Counter,
}

impl Codes {
    /// Counts one response with this status; `0` is no status and not counted.
    #[inline]
    pub fn inc(&self, status: u16) {
        if status == 0 {
            return;
        }
        for (code, count) in &self.slots {
            let held = code.load(Relaxed);
            if held == status {
                return count.inc();
            }
            if held == 0 {
                // The count is still zero, so a reader that sees the code before the count misreads nothing.
                code.store(status, Relaxed);
                return count.inc();
            }
        }
        self.other.inc();
    }

    /// The codes seen with their counts, in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = (u16, u64)> {
        self.slots
            .iter()
            .map(|(code, count)| (code.load(Relaxed), count.get()))
            .take_while(|(code, _)| *code != 0)
    }

    /// The count of those that had no room.
    pub fn other(&self) -> u64 {
        self.other.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_keep_the_first_labels_and_count_the_rest_as_other() {
        let slots: Slots<Counter> = Slots::default();
        for i in 0..SLOTS_MAX + 5 {
            slots.get(&format!("label-{i}")).inc();
        }
        slots.get("label-0").inc();

        assert_eq!(slots.iter().count(), SLOTS_MAX);
        assert_eq!(slots.get("label-0").get(), 2);
        assert_eq!(slots.other().get(), 5);
    }

    #[test]
    fn codes_keep_the_first_ones_and_count_the_rest_as_other() {
        let codes = Codes::default();
        for status in 200..200 + CODES_MAX as u16 + 3 {
            codes.inc(status);
        }
        codes.inc(200);
        codes.inc(0);

        assert_eq!(codes.iter().next(), Some((200, 2)));
        assert_eq!(codes.iter().count(), CODES_MAX);
        assert_eq!(codes.other(), 3);
    }

    #[test]
    fn a_gauge_returns_to_where_it_was() {
        let gauge = Gauge::default();
        gauge.inc();
        gauge.inc();
        gauge.dec();
        assert_eq!(gauge.get(), 1);
    }
}
