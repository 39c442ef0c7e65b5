//! Endpoints and balancing: pure state, asked "who is next".
//!
//! Here: [`RoundRobin`], weighted and deterministic. Coming with the depth of the proxy: least work, consistent hashing,
//! passive health, limits.

#![forbid(unsafe_code)]

mod round_robin;

pub use round_robin::RoundRobin;
