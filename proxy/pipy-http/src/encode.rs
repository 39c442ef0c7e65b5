//! Messages into bytes, anew from their parsed form.
//!
//! In: a head, the length of its body, and slices of the body. Out: bytes appended to a buffer; for
//! bodies also the bytes that go around a slice ([`BodyEncoder::frame`]), so that the slice itself
//! need not be copied.
//!
//! Invariants: `content-length` and `transfer-encoding` come from the [`BodyLength`], never from
//! the headers; the version is always HTTP/1.1 (RFC 9110 §2.5); nothing that a head holds can end
//! its line early; a counted body has exactly the bytes announced, or an error.
//!
//! Not done here: removing hop-by-hop fields (`hop.rs`), which a proxy does before this.

use bytes::BufMut;
use smallvec::SmallVec;

use crate::body::{is_dropped_trailer, is_refused_trailer};
use crate::chars::is_text;
use crate::framing::{RequestKind, content_length};
use crate::parse::check_target;
use crate::{BodyLength, Headers, HttpError, RequestHead, ResponseHead, Version};

/// Writes a request head and gives the encoder of its body.
///
/// A Host that is missing, which HTTP/1.0 allows, is written empty (RFC 9112 §3.2).
///
/// Errors: [`HttpError::InvalidTarget`] for a target set by hand; [`HttpError::Unencodable`] for a
/// body until close, which no request can have. Nothing is written then.
pub fn encode_request_head(
    head: &RequestHead,
    body: BodyLength,
    out: &mut Vec<u8>,
) -> Result<BodyEncoder, HttpError> {
    check_target(&head.method, &head.target)?;
    let encoder = match body {
        BodyLength::None => BodyEncoder(Body::None),
        BodyLength::Length(bytes) => BodyEncoder(Body::Length(bytes)),
        BodyLength::Chunked => BodyEncoder(Body::Chunked),
        BodyLength::UntilClose => {
            return Err(HttpError::Unencodable { why: "a request body until close" });
        }
    };
    let method = head.method.as_str().as_bytes();
    out.reserve(method.len() + head.target.len() + 64 + room_for(&head.headers) + room_for_body(body));
    out.put_slice(method);
    out.put_slice(b" ");
    out.put_slice(&head.target);
    out.put_slice(b" HTTP/1.1\r\n");
    if !head.headers.contains("host") {
        // First, where RFC 9110 §7.2 wants it.
        out.put_slice(b"host: \r\n");
    }
    put_headers(&head.headers, is_framing, out);
    put_framing(body, out);
    out.put_slice(b"\r\n");
    Ok(encoder)
}

/// What has to be known of a request to write the response to it. Small and `Copy`: keep it when
/// the request head is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyTo {
    kind: RequestKind,
    version: Version,
    /// Whether the connection stays open afterwards. Set it to `false` to close: the response then
    /// says so.
    pub keep_alive: bool,
}

impl ReplyTo {
    /// How that request is answered. To be asked before [`strip_hop_by_hop`](crate::strip_hop_by_hop)
    /// takes its `connection` header away.
    pub fn new(request: &RequestHead) -> Self {
        Self {
            kind: RequestKind::of(&request.method),
            version: request.version,
            keep_alive: request.keep_alive(),
        }
    }

    /// How a request is answered that could not be read: without a guess at its method, and for
    /// the last time on this connection.
    pub fn unreadable() -> Self {
        Self { kind: RequestKind::Plain, version: Version::Http11, keep_alive: false }
    }
}

/// Writes a response head and gives the encoder of its body, which fits the request: no body for
/// HEAD, 1xx, 204, 304 and a 2xx to CONNECT, whatever `body` says; for HTTP/1.0 clients a body
/// until close in place of chunks.
///
/// `connection` is written from [`ReplyTo::keep_alive`]; that of the headers counts only in a 101.
/// A response to HEAD and a 304 keep a valid `content-length` of the headers: there it announces
/// no body (RFC 9110 §8.6). [`BodyLength::None`] for a response that must have a length is written
/// as `content-length: 0`, for otherwise the client would wait for the end of the connection.
///
/// Errors: [`HttpError::Unencodable`] for a status outside 100–999 or a reason with control bytes.
/// Nothing is written then.
pub fn encode_response_head(
    head: &ResponseHead,
    body: BodyLength,
    to: ReplyTo,
    out: &mut Vec<u8>,
) -> Result<BodyEncoder, HttpError> {
    let status = head.status;
    if !(100..1000).contains(&status) {
        return Err(HttpError::Unencodable { why: "a status outside 100 to 999" });
    }
    if !is_text(&head.reason) {
        return Err(HttpError::Unencodable { why: "a reason with control bytes" });
    }
    let is_tunnel = status == 101 || (to.kind == RequestKind::Connect && status / 100 == 2);
    let without_length = is_tunnel || status < 200 || status == 204;
    let without_body = without_length || status == 304 || to.kind == RequestKind::Head;
    let framing = match body {
        _ if without_length => None,
        BodyLength::Length(bytes) if without_body => Some(BodyLength::Length(bytes)),
        _ if without_body => content_length(&head.headers).ok().map(BodyLength::Length),
        BodyLength::None => Some(BodyLength::Length(0)),
        BodyLength::Chunked if to.version == Version::Http10 => Some(BodyLength::UntilClose),
        other => Some(other),
    };
    let encoder = match framing {
        _ if without_body => Body::None,
        None | Some(BodyLength::None) => Body::None,
        Some(BodyLength::Length(bytes)) => Body::Length(bytes),
        Some(BodyLength::Chunked) => Body::Chunked,
        Some(BodyLength::UntilClose) => Body::UntilClose,
    };
    let room = framing.filter(|_| !without_body).map_or(0, room_for_body);
    out.reserve(head.reason.len() + 96 + room_for(&head.headers) + room);
    out.put_slice(b"HTTP/1.1 ");
    out.put_slice(&[100u16, 10, 1].map(|unit| b'0' + (status / unit % 10) as u8));
    out.put_slice(b" ");
    out.put_slice(&head.reason);
    out.put_slice(b"\r\n");
    let is_skipped = |name: &[u8]| is_framing(name) || (status != 101 && is_connection(name));
    put_headers(&head.headers, is_skipped, out);
    put_framing(framing.unwrap_or(BodyLength::None), out);
    // An interim response decides nothing about the connection; a tunnel has no HTTP to end.
    if status >= 200 && !is_tunnel {
        if !to.keep_alive || encoder == Body::UntilClose {
            out.put_slice(b"connection: close\r\n");
        } else if to.version == Version::Http10 {
            out.put_slice(b"connection: keep-alive\r\n");
        }
    }
    out.put_slice(b"\r\n");
    Ok(BodyEncoder(encoder))
}

/// Writes one body, as its head announced it.
#[derive(Debug, PartialEq, Eq)]
pub struct BodyEncoder(Body);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    /// Nothing may be written: what is given is dropped (the body of a response to HEAD).
    None,
    /// So many bytes are still to come.
    Length(u64),
    Chunked,
    UntilClose,
}

/// What goes around one slice of a body on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Before the slice.
    pub prefix: SmallVec<[u8; 18]>,
    /// After the slice.
    pub suffix: &'static [u8],
    /// Whether the slice itself is written. Not in a message that has no body.
    pub write_data: bool,
}

impl BodyEncoder {
    /// Frames the next `len` bytes of the body without touching them: write prefix, bytes, suffix.
    ///
    /// Errors: [`HttpError::BodyTooLong`] when the length announced is exceeded. The message is
    /// lost then, and the connection must close.
    pub fn frame(&mut self, len: usize) -> Result<Frame, HttpError> {
        let bare = |write_data| Frame { prefix: SmallVec::new(), suffix: b"", write_data };
        match &mut self.0 {
            Body::None => Ok(bare(false)),
            Body::UntilClose => Ok(bare(true)),
            Body::Length(remaining) => {
                let len = len as u64;
                *remaining = remaining
                    .checked_sub(len)
                    .ok_or(HttpError::BodyTooLong { excess: len.saturating_sub(*remaining) })?;
                Ok(bare(true))
            }
            // A chunk of no bytes would end the body.
            Body::Chunked if len == 0 => Ok(bare(true)),
            Body::Chunked => Ok(Frame { prefix: chunk_line(len as u64), suffix: b"\r\n", write_data: true }),
        }
    }

    /// Writes the next bytes of the body, copying them.
    ///
    /// Errors: as [`frame`](Self::frame); nothing is written then.
    pub fn encode(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), HttpError> {
        let frame = self.frame(data.len())?;
        if frame.write_data {
            out.put_slice(&frame.prefix);
            out.put_slice(data);
            out.put_slice(frame.suffix);
        }
        Ok(())
    }

    /// Ends the body. Trailers go out with chunks only, and without the fields that no trailer may
    /// be; elsewhere there is no place for them, and they are dropped (RFC 9110 §6.5).
    ///
    /// Errors: [`HttpError::BodyTooShort`] when less came than was announced: the connection must
    /// close, so that the peer sees the message as cut off.
    pub fn end(self, trailers: Option<&Headers>, out: &mut Vec<u8>) -> Result<(), HttpError> {
        match self.0 {
            Body::None | Body::UntilClose | Body::Length(0) => Ok(()),
            Body::Length(missing) => Err(HttpError::BodyTooShort { missing }),
            Body::Chunked => {
                out.put_slice(b"0\r\n");
                if let Some(trailers) = trailers {
                    let is_skipped = |name: &[u8]| is_refused_trailer(name) || is_dropped_trailer(name);
                    put_headers(trailers, is_skipped, out);
                }
                out.put_slice(b"\r\n");
                Ok(())
            }
        }
    }

    /// Whether the end of the body is the end of the connection.
    pub fn must_close(&self) -> bool {
        self.0 == Body::UntilClose
    }

    /// Whether the message has no body on the wire: what is given to this encoder is dropped.
    pub fn is_none(&self) -> bool {
        self.0 == Body::None
    }
}

fn put_headers(headers: &Headers, is_skipped: impl Fn(&[u8]) -> bool, out: &mut Vec<u8>) {
    for (name, value) in headers.iter() {
        if !is_skipped(name) {
            out.put_slice(name);
            out.put_slice(b": ");
            out.put_slice(value);
            out.put_slice(b"\r\n");
        }
    }
}

fn put_framing(body: BodyLength, out: &mut Vec<u8>) {
    match body {
        BodyLength::None | BodyLength::UntilClose => {}
        BodyLength::Length(bytes) => {
            out.put_slice(b"content-length: ");
            put_decimal(bytes, out);
            out.put_slice(b"\r\n");
        }
        BodyLength::Chunked => out.put_slice(b"transfer-encoding: chunked\r\n"),
    }
}

/// `n` in hexadecimal, and CRLF.
fn chunk_line(n: u64) -> SmallVec<[u8; 18]> {
    let digits = (64 - n.leading_zeros()).div_ceil(4).max(1);
    let mut line: SmallVec<[u8; 18]> = (0..digits)
        .rev()
        .map(|place| match (n >> (place * 4)) as u8 & 15 {
            digit @ 0..=9 => b'0' + digit,
            digit => b'a' + digit - 10,
        })
        .collect();
    line.extend_from_slice(b"\r\n");
    line
}

fn put_decimal(mut n: u64, out: &mut Vec<u8>) {
    let mut digits: SmallVec<[u8; 20]> = SmallVec::new();
    loop {
        digits.push(b'0' + (n % 10) as u8);
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.extend(digits.iter().rev());
}

fn is_framing(name: &[u8]) -> bool {
    match name.len() {
        14 => name.eq_ignore_ascii_case(b"content-length"),
        17 => name.eq_ignore_ascii_case(b"transfer-encoding"),
        _ => false,
    }
}

fn is_connection(name: &[u8]) -> bool {
    match name.len() {
        10 => name.eq_ignore_ascii_case(b"connection") || name.eq_ignore_ascii_case(b"keep-alive"),
        16 => name.eq_ignore_ascii_case(b"proxy-connection"),
        _ => false,
    }
}

/// Bytes that the headers can take at most: what they hold, and `": "` and CRLF for each.
fn room_for(headers: &Headers) -> usize {
    headers.stored_bytes() + headers.len() * 4
}

/// Room for a small body behind the head: those who gather both would else move the head when the body comes.
fn room_for_body(body: BodyLength) -> usize {
    match body {
        BodyLength::Length(bytes) if bytes <= ROOM_BYTES_MAX => bytes as usize,
        _ => 0,
    }
}

/// LIMIT: bytes of a body for which room is made before it comes. It may never come.
const ROOM_BYTES_MAX: u64 = 4096;

#[cfg(test)]
mod tests;
