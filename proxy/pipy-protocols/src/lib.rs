//! Codecs without IO for what scripts speak: bytes in, events and [`Value`]s out, and back to bytes.
//!
//! Streams have a [`Decoder`] and an [`Encoder`] each: [`mqtt`], [`resp`], [`dubbo`], [`thrift`],
//! [`websocket`], [`multipart`], [`bgp`], [`netlink`]; [`fastcgi`] has many messages at a time, [`socks`] is
//! a handshake, and [`compression`] has pieces only. What comes whole has functions: [`dns`], [`hessian`],
//! [`xml`], [`stun`], [`resp::decode`]; [`protobuf`] has a message that is asked for its fields.
//!
//! Invariants:
//! - What a protocol forbids is refused, with the byte where it stands and the reason ([`Error`]).
//! - Whatever the bytes, nothing panics, and no stack overflows.
//! - What comes out does not depend on how the bytes were cut, but for the cuts of a body; nor does it
//!   depend on the cuts whether a stream is refused.
//! - Memory is bounded by limits that each module names; large bodies pass as slices of what came.
//! - What was read and not touched is written so that it reads the same.
//!
//! ```
//! use pipy_protocols::{Decoder, Encoder, Event, mqtt};
//!
//! let mut decoder = mqtt::Decoder::new();
//! let mut events = Vec::new();
//! decoder.push(b"\x30\x07\x00\x03a/bhi".as_slice().into(), &mut events)?;
//! let Event::Start(head) = &events[0] else { panic!() };
//! assert_eq!(head.get("topicName"), Some(&"a/b".into()));
//! assert_eq!(events[1], Event::Data("hi".into()));
//!
//! let (mut encoder, mut output) = (mqtt::Encoder::new(), Vec::new());
//! events.into_iter().try_for_each(|event| encoder.push(event, &mut output))?;
//! assert_eq!(output.concat(), b"\x30\x07\x00\x03a/bhi");
//! # Ok::<(), pipy_protocols::Error>(())
//! ```
//!
//! Not done here: sockets, clocks, chance, and any script engine. HTTP is `pipy-http` and `pipy-h2`.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod bgp;
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
pub mod stun;
#[cfg(test)]
mod testing;
pub mod thrift;
mod utf8;
mod value;
pub mod websocket;
pub mod xml;

pub use codec::{Decoder, Encoder, Event};
pub use error::Error;
pub use value::{Key, Object, Value};
