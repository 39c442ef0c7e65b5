//! Passive health: an endpoint that fails request after request gets none for a while.
//!
//! ```text
//!             failures in a row, or too large a share of them
//!   healthy ────────────────────────────────────────────────► ejected until t
//!      ▲                                                        │ t is over
//!      │ the probe succeeds                                     ▼
//!      └──────────────────────────────────── one request at a time: probe
//!                       the probe fails: ejected again, for longer
//! ```
//!
//! The time of an ejection doubles each time up to a maximum; each window without ejection takes one step back.
//! INVARIANT: how many may be ejected at once is the caller's to say (it knows the others): see [`Health::report`].

use std::time::{Duration, Instant};

/// When an endpoint is ejected, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthPolicy {
    /// Connections in a row that could not be made; 0: not watched.
    pub connect_failures: u32,
    /// Answers in a row that are failures (5xx, none); 0: not watched.
    pub consecutive_failures: u32,
    /// Failures among a hundred requests of a window; 0: not watched.
    pub failure_percent: u32,
    /// Requests that a window must have before their share is looked at.
    pub requests_min: u32,
    /// The window.
    pub window: Duration,
    /// The first ejection's time.
    pub ejection: Duration,
    /// The longest time.
    pub ejection_max: Duration,
}

/// How an exchange with an endpoint went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Result {
    /// It answered.
    Success,
    /// It answered with a failure, or broke off.
    Failure,
    /// No connection to it could be made.
    Unreachable,
}

/// Whether an endpoint may get a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Yes.
    Healthy,
    /// One, to see; [`Health::begin`] must be called with it.
    Probe,
    /// No.
    Ejected,
}

/// The health of one endpoint.
#[derive(Debug, Clone, Default)]
pub struct Health {
    unreachable: u32,
    failures_in_row: u32,
    window_began: Option<Instant>,
    requests: u32,
    failures: u32,
    ejected_until: Option<Instant>,
    /// How often it was ejected, less the windows that went well since.
    ejections: u32,
    probing: bool,
}

impl Health {
    /// Whether it may get a request now.
    pub fn standing(&self, now: Instant) -> Standing {
        match self.ejected_until {
            None => Standing::Healthy,
            Some(until) if now < until || self.probing => Standing::Ejected,
            Some(_) => Standing::Probe,
        }
    }

    /// Whether it is ejected, or was and has not proved itself since.
    pub fn is_ejected(&self) -> bool {
        self.ejected_until.is_some()
    }

    /// A request goes to it.
    pub fn begin(&mut self, now: Instant) {
        // One that is asked while ejected, because all are, proves nothing.
        self.probing |= self.ejected_until.is_some_and(|until| now >= until);
    }

    /// A request to it ended without telling anything about it: the client went away.
    pub fn abandon(&mut self) {
        self.probing = false;
    }

    /// A request to it ended. Returns whether it is ejected by this; `may_eject` is asked then.
    pub fn report(
        &mut self,
        policy: &HealthPolicy,
        result: Result,
        now: Instant,
        may_eject: impl FnOnce() -> bool,
    ) -> bool {
        if let Some(until) = self.ejected_until {
            // What was begun before the ejection says nothing new.
            if now < until {
                return false;
            }
            self.probing = false;
            if result == Result::Success {
                self.ejected_until = None;
                self.reset(now);
                return false;
            }
            self.eject(policy, now);
            return true;
        }
        self.roll(policy, now);
        self.requests += 1;
        match result {
            Result::Success => (self.unreachable, self.failures_in_row) = (0, 0),
            Result::Failure => {
                self.unreachable = 0;
                self.failures_in_row += 1;
                self.failures += 1;
            }
            Result::Unreachable => {
                self.unreachable += 1;
                self.failures_in_row += 1;
                self.failures += 1;
            }
        }
        let reached = |count: u32, limit: u32| limit > 0 && count >= limit;
        let share = policy.failure_percent > 0
            && self.requests >= policy.requests_min.max(1)
            && u64::from(self.failures) * 100 >= u64::from(policy.failure_percent) * u64::from(self.requests);
        let failing = result != Result::Success
            && (reached(self.unreachable, policy.connect_failures)
                || reached(self.failures_in_row, policy.consecutive_failures)
                || share);
        if failing && may_eject() {
            self.eject(policy, now);
            return true;
        }
        false
    }

    fn eject(&mut self, policy: &HealthPolicy, now: Instant) {
        let factor = 1_u32.checked_shl(self.ejections.min(16)).unwrap_or(u32::MAX);
        let time = policy.ejection.saturating_mul(factor).min(policy.ejection_max.max(policy.ejection));
        self.ejections = self.ejections.saturating_add(1);
        self.ejected_until = Some(now + time);
        self.reset(now);
    }

    /// Begins a new window when the last one is over.
    fn roll(&mut self, policy: &HealthPolicy, now: Instant) {
        let began = *self.window_began.get_or_insert(now);
        if now.saturating_duration_since(began) >= policy.window {
            let windows = now.saturating_duration_since(began).as_nanos() / policy.window.as_nanos().max(1);
            self.ejections = self.ejections.saturating_sub(u32::try_from(windows).unwrap_or(u32::MAX));
            (self.window_began, self.requests, self.failures) = (Some(now), 0, 0);
        }
    }

    fn reset(&mut self, now: Instant) {
        (self.unreachable, self.failures_in_row, self.requests, self.failures) = (0, 0, 0, 0);
        self.window_began = Some(now);
    }
}

/// How many of a cluster's endpoints may be ejected at once, of `total`: a share, but one of several always, and never all.
pub fn ejected_max(total: usize, percent: u32) -> usize {
    let share = total * percent.min(100) as usize / 100;
    share.max(1).min(total.saturating_sub(1))
}

#[cfg(test)]
mod tests;
