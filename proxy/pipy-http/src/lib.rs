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
//!   elsewhere; nor does it depend on the cuts whether a message is refused.
//! - An idle decoder owns no heap memory, and memory in use is bounded by [`Limits`] plus what the
//!   caller pushes ahead of `next()`.
//! - Names of headers keep their case; they are compared without regard to it.
//!
//! A request as a proxy passes it on:
//!
//! ```
//! use pipy_http::{Limits, RequestDecoder, RequestItem, encode_request_head, normalise_path, strip_hop_by_hop};
//!
//! let mut decoder = RequestDecoder::new(Limits::default());
//! decoder.push(b"GET /a/../b?c HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n".as_slice().into());
//!
//! let mut out = Vec::new();
//! let mut body = None;
//! while let Some(item) = decoder.next()? {
//!     match item {
//!         RequestItem::Head(mut head, length) => {
//!             let path = normalise_path(head.path())?.into_owned();
//!             head.set_path(&path)?;
//!             strip_hop_by_hop(&mut head.headers, false);
//!             body = Some(encode_request_head(&head, length, &mut out)?);
//!         }
//!         RequestItem::Data(data) => body.as_mut().unwrap().encode(&data, &mut out)?,
//!         RequestItem::End(trailers) => body.take().unwrap().end(trailers.as_ref(), &mut out)?,
//!     }
//! }
//! assert_eq!(out, b"GET /b?c HTTP/1.1\r\nHost: shop\r\n\r\n");
//! # Ok::<(), pipy_http::HttpError>(())
//! ```
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
mod garbage;
#[cfg(test)]
mod testing;

pub use body::{BodyLength, is_dropped_trailer};
pub use decode::{RequestDecoder, RequestItem};
pub use decode_response::{ResponseDecoder, ResponseItem};
pub use encode::{BodyEncoder, Frame, ReplyTo, encode_request_head, encode_response_head};
pub use error::HttpError;
pub use head::{RequestHead, Scheme, Version};
pub use headers::Headers;
pub use hop::strip_hop_by_hop;
pub use limits::Limits;
pub use method::{Method, OtherMethod};
pub use path::normalise_path;
pub use response::{ResponseHead, canonical_reason};
