//! HTTP/2 without IO (RFC 9113, with HPACK of RFC 7541): bytes in, messages out, and back to bytes.
//!
//! In: whatever the socket gave, cut anywhere ([`Connection::receive`]), and messages to send in the
//! types of `pipy-http`. Out: [`Event`]s ([`Connection::next_event`]) and bytes for the socket
//! ([`Connection::poll_output`]). Both roles, so the same code speaks to clients and to upstreams.
//!
//! Invariants:
//! - What is malformed is refused, never repaired: a message that comes out of here can be written
//!   as HTTP/1 and means the same to every reader (RFC 9113 §8.2, §8.3 and §10.3).
//! - Whatever the bytes, nothing panics; a connection that has failed once fails for ever.
//! - Bodies are slices of what was received, and leave as they are: no payload over 4 KiB is copied.
//! - What a peer can make us hold or do is bounded by [`Config`], [`Limits`] and [`Nuisance`].
//! - An idle connection holds its tables (at most some 16 KiB, mostly 1 to 2) and about 1 KiB besides;
//!   see [`Connection::memory`].
//!
//! A client and a server in memory:
//!
//! ```
//! use pipy_h2::{Config, Connection, Event, Scheme};
//! use pipy_http::{BodyLength, Method, RequestHead, ResponseHead};
//!
//! /// What one side has to say, told to the other.
//! fn deliver(from: &mut Connection, to: &mut Connection) -> Result<(), pipy_h2::ConnectionError> {
//!     let mut pieces = Vec::new();
//!     from.poll_output(&mut pieces, usize::MAX);
//!     pieces.into_iter().try_for_each(|piece| to.receive(piece))
//! }
//!
//! let mut client = Connection::client(Config::default());
//! let mut server = Connection::server(Config::default());
//!
//! let mut request = RequestHead::new(Method::Get, "/books");
//! request.headers.append("Host", "bookstore")?;
//! let stream = client.send_request(&request, Scheme::Http, BodyLength::None)?;
//! deliver(&mut client, &mut server)?;
//!
//! let Some(Event::Request { stream: asked, head, .. }) = server.next_event() else { panic!() };
//! assert_eq!((head.path(), head.authority().as_deref()), (&b"/books"[..], Some("bookstore")));
//! server.send_response(asked, &ResponseHead::new(200), BodyLength::Length(5))?;
//! let _ = server.send_data(asked, "hello".into())?;
//! server.send_end(asked, None)?;
//! deliver(&mut server, &mut client)?;
//!
//! let events: Vec<Event> = std::iter::from_fn(|| client.next_event()).collect();
//! assert!(matches!(&events[0], Event::Response { head, .. } if head.status == 200));
//! assert_eq!(events[1], Event::Data { stream, data: "hello".into() });
//! assert_eq!(events[2], Event::End { stream, trailers: None });
//! client.release(stream, 5);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Not done here: sockets, TLS and ALPN, timeouts, pools, routing, priorities, server push (refused
//! both ways), the key of a WebSocket handshake.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod code;
mod config;
mod connection;
mod error;
mod event;
mod fields;
mod floods;
mod flow;
mod frame;
mod head_in;
mod head_out;
mod hpack;
mod input;
mod leaving;
mod output;
mod receive;
mod receive_data;
mod receive_headers;
mod send;
mod settings;
mod state;
mod stream;
mod streams;
mod upgraded;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use code::ErrorCode;
pub use config::{Config, Limits};
pub use connection::{Connection, Role};
pub use error::{ConnectionError, SendError, StreamError};
pub use event::{Event, ResetCause, StreamId};
pub use floods::Nuisance;
pub use frame::Kind;
pub use hpack::HpackError;
pub use pipy_http::Scheme;
pub use send::Pressure;
pub use settings::PeerSettings;
pub use state::State;
