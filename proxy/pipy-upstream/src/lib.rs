//! Upstreams as pure state: who is next, who is well, what is tried again, what is too much.
//!
//! Everything here is told what happened and when, and answers what to do; nothing does IO, reads a clock, or rolls dice of
//! its own ([`Dice`] come in, seeded by the caller). So each piece is tested by driving it through thousands of histories.
//!
//! - [`Balancer`]: the next endpoint, by [`Policy`], in tiers of priority and failover; [`RoundRobin`] by itself shares a
//!   route's traffic among clusters.
//! - [`Health`]: endpoints that fail get nothing for a while.
//! - [`RetryPolicy`]: which failures are tried again, when, and within what [`Budget`].
//! - [`Breaker`]: clusters that fail get nothing for a while.
//! - [`TokenBucket`]: how much may pass in a window of time.
//!
//! All are per worker, as connections are. Not here: connections and their limits (`pipy-mesh`).

#![forbid(unsafe_code)]

mod balancer;
mod breaker;
mod bucket;
mod dice;
mod hashing;
mod health;
mod least_work;
mod retry;
mod round_robin;

pub use balancer::{Balancer, Candidate, Policy};
pub use breaker::{Breaker, BreakerPolicy, Change, Counts};
pub use bucket::{Rate, TokenBucket};
pub use dice::Dice;
pub use hashing::hash;
pub use health::{Health, HealthPolicy, Result as HealthResult, Standing, ejected_max};
pub use retry::{Budget, Outcome, RetryPolicy, StatusRange, Verdict};
pub use round_robin::RoundRobin;
