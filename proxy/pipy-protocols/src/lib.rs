//! Codecs without IO: bytes in, events and [`Value`]s out, and back to bytes.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod codec;
pub mod dns;
mod error;
mod input;
pub mod mqtt;
pub mod resp;
#[cfg(test)]
mod testing;
mod value;

pub use codec::{Decoder, Encoder, Event};
pub use error::Error;
pub use value::{Key, Object, Value};
