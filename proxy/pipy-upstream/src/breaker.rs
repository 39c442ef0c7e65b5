//! A circuit breaker: when too many answers of a cluster are errors or slow, nothing is asked of it for a while.
//!
//! ```text
//!            too many errors or slow answers in the window
//!   closed ───────────────────────────────────────────────► open, answered for the cluster
//!      ▲                                                      │
//!      └──────────────── its time is over, all counts are 0 ──┘
//! ```
//!
//! An amount opens it with the answer that reaches it, however many requests there were. A share opens it as soon as there
//! were enough requests. All counts are 0 again when a window is over. There is no half-open state: users know it so, and
//! endpoints have one of their own (`health`).

use std::time::{Duration, Instant};

/// When it opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BreakerPolicy {
    /// How long answers are counted together.
    pub window: Duration,
    /// Requests that a window must have before shares are looked at.
    pub requests_min: u32,
    /// How long it stays open.
    pub open: Duration,
    /// From when on an answer is slow.
    pub slow: Duration,
    /// Slow answers that open it; 0: not watched.
    pub slow_amount: u32,
    /// Share of slow answers that opens it, from 0 to 1; 0: not watched.
    pub slow_ratio: f64,
    /// Errors that open it; 0: not watched.
    pub error_amount: u32,
    /// Share of errors that opens it, from 0 to 1; 0: not watched.
    pub error_ratio: f64,
}

/// What was counted in a window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests.
    pub total: u32,
    /// Slow answers.
    pub slow: u32,
    /// Errors.
    pub errors: u32,
}

/// What has just happened to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It opened.
    Opened(Counts),
    /// It closed; these were the counts that had opened it.
    Closed(Counts),
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Breaker {
    policy: BreakerPolicy,
    counts: Counts,
    window_began: Option<Instant>,
    open_since: Option<Instant>,
}

impl Breaker {
    /// A closed one.
    pub fn new(policy: BreakerPolicy) -> Self {
        Breaker { policy, counts: Counts::default(), window_began: None, open_since: None }
    }

    /// Its policy.
    pub fn policy(&self) -> &BreakerPolicy {
        &self.policy
    }

    /// Whether it has opened and not closed again: it closes with the first request after its time.
    pub fn has_opened(&self) -> bool {
        self.open_since.is_some()
    }

    /// Whether it is open.
    pub fn is_open(&self, now: Instant) -> bool {
        self.open_since.is_some_and(|since| now.saturating_duration_since(since) <= self.policy.open)
    }

    /// A request comes: whether it may pass, and what this changed.
    pub fn request(&mut self, now: Instant) -> (bool, Option<Change>) {
        if self.is_open(now) {
            return (false, None);
        }
        let closed = self.open_since.take().map(|_| Change::Closed(self.counts));
        if closed.is_some() {
            self.begin(now);
        }
        self.roll(now);
        self.counts.total = self.counts.total.saturating_add(1);
        (true, closed)
    }

    /// A request that passed was answered with `status` (0: not at all) after this time.
    pub fn response(&mut self, status: u16, took: Duration, now: Instant) -> Option<Change> {
        // What was under way when it opened changes nothing.
        if self.open_since.is_some() {
            return None;
        }
        self.roll(now);
        self.counts.errors += u32::from(status == 0 || status > 499);
        self.counts.slow += u32::from(took >= self.policy.slow);
        let policy = &self.policy;
        let counts = self.counts;
        // A request of the window before may answer in this one.
        let total = counts.total.max(counts.errors).max(counts.slow);
        let reached = |count: u32, amount: u32, ratio: f64| {
            (amount > 0 && count >= amount)
                || (ratio > 0.0
                    && total >= policy.requests_min.max(1)
                    && f64::from(count) >= ratio * f64::from(total))
        };
        let opens = reached(counts.errors, policy.error_amount, policy.error_ratio)
            || reached(counts.slow, policy.slow_amount, policy.slow_ratio);
        if !opens {
            return None;
        }
        self.open_since = Some(now);
        Some(Change::Opened(counts))
    }

    fn roll(&mut self, now: Instant) {
        match self.window_began {
            Some(began) if now.saturating_duration_since(began) < self.policy.window => {}
            _ => self.begin(now),
        }
    }

    fn begin(&mut self, now: Instant) {
        (self.window_began, self.counts) = (Some(now), Counts::default());
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Breaker, BreakerPolicy, Change, Counts};
    use crate::Dice;

    const QUICK: Duration = Duration::from_millis(1);

    fn policy() -> BreakerPolicy {
        BreakerPolicy {
            window: Duration::from_secs(60),
            requests_min: 200,
            open: Duration::from_secs(10),
            slow: Duration::from_millis(200),
            slow_amount: 0,
            slow_ratio: 0.0,
            error_amount: 0,
            error_ratio: 0.0,
        }
    }

    /// A thousand calls of which every fifth fails: what was answered by the cluster, by it with an error, and for it.
    fn thousand(policy: BreakerPolicy) -> (u32, u32, u32) {
        let (mut breaker, now) = (Breaker::new(policy), Instant::now());
        let (mut good, mut bad, mut degraded) = (0, 0, 0);
        for call in 0..1000_u32 {
            if !breaker.request(now).0 {
                degraded += 1;
                continue;
            }
            let error = call % 5 == 4;
            (good, bad) = (good + u32::from(!error), bad + u32::from(error));
            breaker.response(if error { 511 } else { 200 }, QUICK, now);
        }
        (good, bad, degraded)
    }

    #[test]
    fn an_amount_of_errors_opens_with_the_error_that_reaches_it() {
        assert_eq!(thousand(BreakerPolicy { error_amount: 100, ..policy() }), (400, 100, 500));
        // However few requests there were.
        assert_eq!(thousand(BreakerPolicy { error_amount: 1, ..policy() }), (4, 1, 995));
    }

    #[test]
    fn a_share_of_errors_opens_when_there_were_enough_requests() {
        assert_eq!(thousand(BreakerPolicy { error_ratio: 0.1, ..policy() }), (160, 40, 800));
        assert_eq!(thousand(BreakerPolicy { error_ratio: 0.21, ..policy() }), (800, 200, 0));
    }

    #[test]
    fn slow_answers_count_by_amount_and_share() {
        for by in [
            BreakerPolicy { slow_amount: 3, ..policy() },
            BreakerPolicy { slow_ratio: 1.0, requests_min: 3, ..policy() },
        ] {
            let (mut breaker, now) = (Breaker::new(by), Instant::now());
            for _ in 0..2 {
                assert!(breaker.request(now).0);
                assert_eq!(breaker.response(200, Duration::from_millis(200), now), None);
            }
            assert!(breaker.request(now).0);
            let change = breaker.response(200, Duration::from_millis(900), now);
            assert_eq!(change, Some(Change::Opened(Counts { total: 3, slow: 3, errors: 0 })));
            assert!(!breaker.request(now).0);
        }
    }

    #[test]
    fn it_closes_when_its_time_is_over_and_begins_from_nothing() {
        let (mut breaker, now) =
            (Breaker::new(BreakerPolicy { error_amount: 2, ..policy() }), Instant::now());
        for _ in 0..2 {
            breaker.request(now);
            breaker.response(503, QUICK, now);
        }
        assert!(!breaker.request(now + Duration::from_secs(10)).0);
        let (passes, change) = breaker.request(now + Duration::from_millis(10_001));
        assert!(passes);
        assert_eq!(change, Some(Change::Closed(Counts { total: 2, slow: 0, errors: 2 })));
        assert_eq!(breaker.response(503, QUICK, now + Duration::from_millis(10_002)), None);
    }

    #[test]
    fn a_window_that_is_over_is_forgotten() {
        let mut now = Instant::now();
        let mut breaker = Breaker::new(BreakerPolicy { error_amount: 2, ..policy() });
        for _ in 0..20 {
            breaker.request(now);
            assert_eq!(breaker.response(500, QUICK, now), None);
            now += Duration::from_secs(60);
        }
    }

    #[test]
    fn whatever_happens_it_opens_only_for_its_amount_and_closes_again() {
        for seed in 0..200 {
            let mut dice = Dice::new(seed);
            let mut now = Instant::now();
            let mut breaker = Breaker::new(BreakerPolicy { error_amount: 5, ..policy() });
            let mut errors = 0;
            for _ in 0..500 {
                now += Duration::from_millis(dice.below(500));
                let (passes, change) = breaker.request(now);
                if change.is_some() {
                    errors = 0;
                }
                assert_eq!(passes, !breaker.is_open(now), "seed {seed}");
                if passes && dice.below(2) == 0 {
                    errors += 1;
                    if breaker.response(500, QUICK, now).is_some() {
                        assert!(errors >= 5, "seed {seed}");
                    }
                }
            }
            assert!(!breaker.is_open(now + Duration::from_secs(11)), "seed {seed}");
        }
    }
}
