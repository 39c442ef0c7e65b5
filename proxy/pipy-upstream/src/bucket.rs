//! A token bucket: how much may pass in a window of time.
//!
//! It is full at first, every one that passes takes a token, and at the end of each window so many are put back as the rate
//! says, never more than the bucket holds. Windows begin with the first that passes. A burst *is* the size of the bucket;
//! without one, the rate is. (Users know it so: of ten at once at a rate of three per minute, three pass.)

use std::time::{Duration, Instant};

/// How much may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Put back per window.
    pub amount: u32,
    /// The window.
    pub window: Duration,
    /// What the bucket holds; 0: as much as `amount`.
    pub burst: u32,
}

impl Rate {
    fn size(&self) -> u32 {
        if self.burst > 0 { self.burst } else { self.amount }
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    rate: Rate,
    tokens: u32,
    window_began: Option<Instant>,
}

impl TokenBucket {
    /// A full bucket.
    pub fn new(rate: Rate) -> Self {
        TokenBucket { rate, tokens: rate.size(), window_began: None }
    }

    /// What it lets pass.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Takes a token; false when there is none.
    pub fn take(&mut self, now: Instant) -> bool {
        let began = *self.window_began.get_or_insert(now);
        let window = self.rate.window.as_nanos().max(1);
        let windows = now.saturating_duration_since(began).as_nanos() / window;
        if windows > 0 {
            let windows = u32::try_from(windows).unwrap_or(u32::MAX);
            let back = self.rate.amount.saturating_mul(windows);
            self.tokens = self.tokens.saturating_add(back).min(self.rate.size());
            self.window_began = began.checked_add(self.rate.window.saturating_mul(windows)).or(Some(now));
        }
        match self.tokens.checked_sub(1) {
            Some(left) => self.tokens = left,
            None => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Rate, TokenBucket};
    use crate::Dice;

    const MINUTE: Duration = Duration::from_secs(60);

    fn passed(bucket: &mut TokenBucket, count: u32, now: Instant) -> u32 {
        (0..count).map(|_| u32::from(bucket.take(now))).sum()
    }

    #[test]
    fn three_a_minute_are_three_of_ten() {
        let now = Instant::now();
        let mut bucket = TokenBucket::new(Rate { amount: 3, window: MINUTE, burst: 0 });
        assert_eq!(passed(&mut bucket, 10, now), 3);
        assert_eq!(passed(&mut bucket, 10, now + MINUTE - Duration::from_nanos(1)), 0);
        assert_eq!(passed(&mut bucket, 10, now + MINUTE), 3);
        assert_eq!(passed(&mut bucket, 10, now + 10 * MINUTE), 3, "what was not used is not saved up");
    }

    #[test]
    fn a_burst_is_the_size_of_the_bucket() {
        let now = Instant::now();
        let mut bucket = TokenBucket::new(Rate { amount: 3, window: MINUTE, burst: 10 });
        assert_eq!(passed(&mut bucket, 12, now), 10);
        assert_eq!(passed(&mut bucket, 12, now + MINUTE), 3);
        assert_eq!(passed(&mut bucket, 12, now + 3 * MINUTE), 6);
    }

    #[test]
    fn an_amount_of_0_lets_nothing_pass_beyond_the_burst() {
        let now = Instant::now();
        let mut bucket = TokenBucket::new(Rate { amount: 0, window: MINUTE, burst: 0 });
        assert_eq!(passed(&mut bucket, 3, now + 5 * MINUTE), 0);
    }

    #[test]
    fn over_any_time_no_more_passes_than_burst_and_rate_allow() {
        for seed in 0..200 {
            let mut dice = Dice::new(seed);
            let (amount, burst) = (u32::try_from(dice.below(20)).expect("small") + 1, 0);
            let rate = Rate { amount, window: Duration::from_millis(100), burst };
            let (mut bucket, begin) = (TokenBucket::new(rate), Instant::now());
            let (mut now, mut all) = (begin, 0_u128);
            for _ in 0..500 {
                now += Duration::from_millis(dice.below(30));
                all += u128::from(bucket.take(now));
                let windows = now.duration_since(begin).as_millis() / 100;
                assert!(all <= u128::from(amount) * (windows + 1), "seed {seed}");
            }
        }
    }
}
