//! Codecs without IO: bytes in, events and [`Value`]s out, and back to bytes.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod codec;
pub mod compression;
pub mod dns;
pub mod dubbo;
mod error;
pub mod fastcgi;
pub mod hessian;
mod input;
pub mod mqtt;
pub mod multipart;
pub mod netlink;
pub mod protobuf;
pub mod resp;
pub mod socks;
#[cfg(test)]
mod testing;
pub mod thrift;
mod utf8;
mod value;
pub mod websocket;

pub use codec::{Decoder, Encoder, Event};
pub use error::Error;
pub use value::{Key, Object, Value};
