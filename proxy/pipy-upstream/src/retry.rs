//! Retries: whether a request that failed is tried again, and after what pause.
//!
//! Every failure is seen as the answer that the client would get for it, so one rule serves both: `5xx` covers an endpoint
//! that answers 503 and one that can't be reached (502) or takes too long (504). Besides, connections that fail and
//! exchanges that are reset can be named.
//!
//! What is decided here does not depend on the method: who writes a retry policy for a route says that its requests may be
//! sent twice. That the request can be sent again at all (no body, or one that was kept) is the caller's to know.
//!
//! A *budget* bounds how many may be retried at once, so that retries do not bury a cluster that is in trouble: see
//! [`Budget`].

use std::time::Duration;

use crate::Dice;

/// LIMIT: the pause grows up to so many times the base.
const BACKOFF_FACTOR_MAX: u32 = 10;

/// LIMIT: retries at once that are always allowed; with few requests a share of them would be none.
const BUDGET_MIN: u32 = 10;

/// When and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Statuses that are tried again.
    pub statuses: Vec<StatusRange>,
    /// Whether a connection that could not be made is tried again.
    pub connect_failure: bool,
    /// Whether an exchange that broke off before an answer is tried again.
    pub reset: bool,
    /// Retries after the first try.
    pub retries_max: u32,
    /// The first pause.
    pub backoff: Duration,
}

/// Statuses from one to another, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusRange(pub u16, pub u16);

/// How a try failed, or did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// An answer with this status.
    Status(u16),
    /// No connection; it would be answered with this status.
    ConnectFailed(u16),
    /// The exchange broke off before an answer; it would be answered with this status.
    Reset(u16),
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The client gets the answer.
    Answer,
    /// It is tried again after a pause.
    Retry(Duration),
    /// It would be, but it was tried often enough.
    Exhausted,
    /// It would be, but too many are at once.
    OverBudget,
}

/// How many retries there may be at once.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Requests to the cluster that are under way.
    pub requests: u32,
    /// Retries among them.
    pub retries: u32,
    /// How many there may be; 0: a fifth of the requests, and ten always.
    pub retries_max: u32,
}

impl Budget {
    fn allows_another(&self) -> bool {
        let most = if self.retries_max > 0 { self.retries_max } else { (self.requests / 5).max(BUDGET_MIN) };
        self.retries < most
    }
}

impl RetryPolicy {
    /// Whether an outcome is one to try again after.
    pub fn covers(&self, outcome: Outcome) -> bool {
        let (status, named) = match outcome {
            Outcome::Status(status) => (status, false),
            Outcome::ConnectFailed(status) => (status, self.connect_failure),
            Outcome::Reset(status) => (status, self.reset),
        };
        named || self.statuses.iter().any(|StatusRange(from, to)| (*from..=*to).contains(&status))
    }

    /// What to do after a try; `made` retries were made before it.
    pub fn decide(&self, outcome: Outcome, made: u32, budget: Budget, dice: &mut Dice) -> Verdict {
        if !self.covers(outcome) || self.retries_max == 0 {
            return Verdict::Answer;
        }
        if made >= self.retries_max {
            return Verdict::Exhausted;
        }
        if !budget.allows_another() {
            return Verdict::OverBudget;
        }
        Verdict::Retry(self.pause(made, dice))
    }

    /// The pause before retry `made + 1`: between half of it and all of it, so that those that failed together do not
    /// come back together.
    fn pause(&self, made: u32, dice: &mut Dice) -> Duration {
        let factor = 1_u32.checked_shl(made).unwrap_or(u32::MAX).min(BACKOFF_FACTOR_MAX);
        let whole = self.backoff.saturating_mul(factor);
        let half = whole / 2;
        let nanos = u64::try_from((whole - half).as_nanos()).unwrap_or(u64::MAX);
        half + Duration::from_nanos(dice.below(nanos.saturating_add(1)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Budget, Outcome, RetryPolicy, StatusRange, Verdict};
    use crate::Dice;

    const IDLE: Budget = Budget { requests: 1, retries: 0, retries_max: 0 };

    fn policy() -> RetryPolicy {
        RetryPolicy {
            statuses: vec![StatusRange(500, 599)],
            connect_failure: false,
            reset: false,
            retries_max: 5,
            backoff: Duration::from_millis(100),
        }
    }

    #[test]
    fn a_failure_is_retried_as_often_as_the_policy_says() {
        let mut dice = Dice::new(1);
        for made in 0..5 {
            assert!(matches!(
                policy().decide(Outcome::Status(503), made, IDLE, &mut dice),
                Verdict::Retry(_)
            ));
        }
        assert_eq!(policy().decide(Outcome::Status(503), 5, IDLE, &mut dice), Verdict::Exhausted);
        assert_eq!(policy().decide(Outcome::Status(404), 5, IDLE, &mut dice), Verdict::Answer);
        let none = RetryPolicy { retries_max: 0, ..policy() };
        assert_eq!(none.decide(Outcome::Status(503), 0, IDLE, &mut dice), Verdict::Answer);
    }

    #[test]
    fn failures_of_ours_count_as_what_they_are_answered_with_or_by_name() {
        let by_status = policy();
        let by_name = RetryPolicy { statuses: Vec::new(), connect_failure: true, ..policy() };
        for (outcome, status, name) in [
            (Outcome::ConnectFailed(502), true, true),
            (Outcome::Reset(502), true, false),
            (Outcome::Status(502), true, false),
            (Outcome::Status(200), false, false),
            (Outcome::Status(499), false, false),
        ] {
            assert_eq!(by_status.covers(outcome), status, "{outcome:?}");
            assert_eq!(by_name.covers(outcome), name, "{outcome:?}");
        }
    }

    #[test]
    fn the_pause_doubles_up_to_ten_times_and_is_never_less_than_half() {
        let mut dice = Dice::new(2);
        for (made, whole) in [(0, 100), (1, 200), (2, 400), (3, 800), (4, 1000), (31, 1000), (40, 1000)] {
            let pauses: Vec<Duration> = (0..500).map(|_| policy().pause(made, &mut dice)).collect();
            let (least, most) = (pauses.iter().min().expect("some"), pauses.iter().max().expect("some"));
            assert!(*least >= Duration::from_millis(whole / 2), "{made}: {least:?}");
            assert!(*most <= Duration::from_millis(whole), "{made}: {most:?}");
            assert!(*most - *least > Duration::from_millis(whole / 3), "{made} is not spread");
        }
    }

    #[test]
    fn too_many_retries_at_once_are_not_made() {
        let mut dice = Dice::new(3);
        let mut verdict = |requests, retries, retries_max| {
            policy().decide(Outcome::Status(500), 0, Budget { requests, retries, retries_max }, &mut dice)
        };
        assert!(matches!(verdict(1, 9, 0), Verdict::Retry(_)));
        assert_eq!(verdict(1, 10, 0), Verdict::OverBudget);
        assert!(matches!(verdict(1000, 199, 0), Verdict::Retry(_)));
        assert_eq!(verdict(1000, 200, 0), Verdict::OverBudget);
        assert_eq!(verdict(1000, 2, 2), Verdict::OverBudget);
    }
}
