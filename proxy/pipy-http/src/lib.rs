//! HTTP/1.0 and HTTP/1.1 without IO: bytes in, heads and bodies out, and back to bytes.
//!
//! In: whatever the socket gave, cut anywhere ([`RequestDecoder::push`], [`ResponseDecoder::push`]).
//! Out: a head with the length of its body, slices of the body, its end with trailers. The encoder
//! writes a message anew from that parsed form; no byte of framing is ever forwarded as it came.
//!
//! Invariants:
//! - What is ambiguous is refused, never guessed (RFC 9112 §6.3 and §11.2): two readers that
//!   disagree about where a message ends are how requests get smuggled.
//! - Whatever the bytes, nothing panics; a decoder that has refused once refuses for ever.
//! - The items do not depend on how the bytes were cut into pushes, except that `Data` may be cut
//!   elsewhere.
//! - An idle decoder owns no heap memory, and memory in use is bounded by [`Limits`] plus what the
//!   caller pushes ahead of `next()`.
//! - Names of headers keep their case; they are compared without regard to it.
//!
//! Not done here: sockets, timeouts, connection pools, routing, HTTP/2, compression, URLs beyond
//! what a proxy must know ([`normalise_path`], [`RequestHead::authority`]).

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod authority;
mod body;
mod chars;
mod decode;
mod decode_response;
mod encode;
mod error;
mod framing;
mod head;
mod headers;
mod hop;
mod input;
mod limits;
mod method;
mod parse;
mod path;
mod response;

#[cfg(test)]
mod testing;

pub use body::BodyLength;
pub use decode::{RequestDecoder, RequestItem};
pub use decode_response::{ResponseDecoder, ResponseItem};
pub use encode::{BodyEncoder, Frame, ReplyTo, encode_request_head, encode_response_head};
pub use error::HttpError;
pub use head::{RequestHead, Version};
pub use headers::Headers;
pub use hop::strip_hop_by_hop;
pub use limits::Limits;
pub use method::{Method, OtherMethod};
pub use path::normalise_path;
pub use response::{ResponseHead, canonical_reason};
