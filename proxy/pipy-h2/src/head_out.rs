//! Heads and trailers into header blocks.
//!
//! In: a [`RequestHead`] or [`ResponseHead`], from an HTTP/1 message as well as from HTTP/2. Out: a
//! block, appended to a buffer.
//!
//! Invariants: names go out in lower case; nothing about an HTTP/1 connection goes out, even if the
//! caller has not stripped it; `content-length` comes from the [`BodyLength`], but for HEAD and 304,
//! where it announces no body; nothing is written when there is an error.
//!
//! Not done here: which frames carry the block, removing what `connection` names
//! ([`strip_hop_by_hop`](pipy_http::strip_hop_by_hop)).

use std::borrow::Cow;

use pipy_http::{BodyLength, Headers, HttpError, Method, RequestHead, ResponseHead};
use smallvec::SmallVec;

use crate::fields::is_refused_trailer;
use crate::fields::{check_path, decimal, is_connect_target, is_connection_field};
use crate::hpack::Encoder;
use crate::stream::RequestKind;
use crate::{Scheme, SendError};

/// The pseudo-headers of a request, checked.
pub(crate) struct RequestLine<'a> {
    method: &'a str,
    authority: Cow<'a, str>,
    path: Option<Cow<'a, [u8]>>,
    scheme: Scheme,
    pub(crate) kind: RequestKind,
}

impl<'a> RequestLine<'a> {
    /// Errors: what no HTTP/2 request can say: no host, a bad target.
    pub(crate) fn new(head: &'a RequestHead, scheme: Scheme) -> Result<Self, SendError> {
        let invalid = |why| HttpError::InvalidTarget { found: crate::error::shown(&head.target), why };
        let authority = head.authority().ok_or(HttpError::MissingHost)?;
        if head.method == Method::Connect {
            if !is_connect_target(head) {
                return Err(invalid("connect asks for host:port").into());
            }
            return Ok(Self { method: "CONNECT", authority, path: None, scheme, kind: RequestKind::Connect });
        }
        if head.target.is_empty() {
            return Err(invalid("it is empty").into());
        }
        let path = head.path_and_query();
        check_path(&head.method, &path).map_err(|why| match why {
            "does not begin with a slash" => invalid("expected a path or an http or https address"),
            why => invalid(why),
        })?;
        let kind = match upgrade_of(head) {
            Some(protocol) if head.method == Method::Get => RequestKind::Upgrade(protocol),
            Some(_) => {
                return Err(HttpError::Unencodable { why: "an upgrade by another method than GET" }.into());
            }
            None if head.method == Method::Head => RequestKind::Head,
            None => RequestKind::Plain,
        };
        let method = match kind {
            RequestKind::Upgrade(_) => "CONNECT",
            _ => head.method.as_str(),
        };
        Ok(Self { method, authority, path: Some(path), scheme, kind })
    }

    /// What is written of it counts against the peer's limit too.
    fn list_size(&self) -> u64 {
        let path = self.path.as_ref().map_or(0, |path| path.len());
        (self.method.len() + self.authority.len() + path + 4 * (32 + 10)) as u64
    }

    pub(crate) fn encode(
        &self,
        head: &RequestHead,
        body: BodyLength,
        encoder: &mut Encoder,
        out: &mut Vec<u8>,
    ) {
        encoder.begin(out);
        encoder.field(b":method", self.method.as_bytes(), out);
        if let Some(path) = &self.path {
            encoder.field(b":scheme", self.scheme.as_str().as_bytes(), out);
            encoder.field(b":path", path, out);
        }
        encoder.field(b":authority", self.authority.as_bytes(), out);
        if let RequestKind::Upgrade(protocol) = &self.kind {
            encoder.field(b":protocol", protocol.as_bytes(), out);
            // RFC 8441 §5: it proves nothing here.
            let mut headers = head.headers.clone();
            headers.remove("sec-websocket-key");
            put_headers(&headers, encoder, out);
        } else {
            put_headers(&head.headers, encoder, out);
        }
        put_content_length(body, encoder, out);
    }
}

/// The protocol that a request asks to change to, if it is one.
fn upgrade_of(head: &RequestHead) -> Option<Box<str>> {
    if !head.is_upgrade() {
        return None;
    }
    // A list says what the client likes best first; HTTP/2 has room for one.
    let mut wishes = head.headers.get_all("upgrade").flat_map(|value| value.split(|&byte| byte == b','));
    let wish = wishes.find_map(|wish| match wish.trim_ascii() {
        b"" => None,
        wish if wish.eq_ignore_ascii_case(b"h2c") => None,
        wish => std::str::from_utf8(wish).ok(),
    })?;
    Some(wish.into())
}

/// Appends the block of a response; `status` is what goes on the wire.
pub(crate) fn encode_response(
    status: u16,
    headers: &Headers,
    length: Option<u64>,
    encoder: &mut Encoder,
    out: &mut Vec<u8>,
) {
    encoder.begin(out);
    let digits = [100u16, 10, 1].map(|unit| b'0' + (status / unit % 10) as u8);
    encoder.field(b":status", &digits, out);
    put_headers(headers, encoder, out);
    if let Some(length) = length {
        put_content_length(BodyLength::Length(length), encoder, out);
    }
}

/// The length that a response without content announces all the same (RFC 9110 §8.6).
pub(crate) fn announced_length(head: &ResponseHead, body: BodyLength) -> Option<u64> {
    match body {
        BodyLength::Length(bytes) => Some(bytes),
        _ => {
            let mut values = head.headers.get_all("content-length");
            let first = decimal(values.next()?)?;
            values.next().is_none().then_some(first)
        }
    }
}

/// Appends the block of a trailer section; `false`, and nothing, when no field of it may pass.
pub(crate) fn encode_trailers(trailers: &Headers, encoder: &mut Encoder, out: &mut Vec<u8>) {
    encoder.begin(out);
    for (name, value) in trailers.iter() {
        let name = lower_case(name);
        if !is_refused_trailer(&name) && !pipy_http::is_dropped_trailer(&name) {
            encoder.field(&name, value, out);
        }
    }
}

/// Whether anything is left of trailers after what may not pass.
pub(crate) fn has_trailers(trailers: &Headers) -> bool {
    trailers.iter().any(|(name, _)| {
        let name = lower_case(name);
        !is_refused_trailer(&name) && !pipy_http::is_dropped_trailer(&name)
    })
}

/// Bytes of a request's header list as RFC 9113 §6.5.2 counts them, or a little more.
pub(crate) fn request_list_size(line: &RequestLine<'_>, head: &RequestHead) -> u64 {
    line.list_size() + list_size(&head.headers)
}

/// Bytes of a header list, the pseudo-header of a response included.
pub(crate) fn list_size(headers: &Headers) -> u64 {
    headers.iter().map(|(name, value)| (name.len() + value.len() + 32) as u64).sum::<u64>() + 42
}

fn put_headers(headers: &Headers, encoder: &mut Encoder, out: &mut Vec<u8>) {
    for (name, value) in headers.iter() {
        let name = lower_case(name);
        if is_connection_field(&name) || matches!(&*name, b"host" | b"content-length") {
            continue;
        }
        if &*name == b"te" {
            // §8.2.2: that and nothing else.
            if headers.contains_token("te", "trailers") {
                encoder.field(b"te", b"trailers", out);
            }
            continue;
        }
        encoder.field(&name, value, out);
    }
}

fn put_content_length(body: BodyLength, encoder: &mut Encoder, out: &mut Vec<u8>) {
    let BodyLength::Length(mut rest) = body else { return };
    let mut digits = [0u8; 20];
    let mut start = digits.len();
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
        start -= 1;
        if rest == 0 {
            break;
        }
    }
    encoder.field(b"content-length", digits.get(start..).unwrap_or_default(), out);
}

/// A name as HTTP/2 has it (§8.2.1). Names from HTTP/2 are lower case already.
fn lower_case(name: &[u8]) -> Lowered<'_> {
    // Without an early exit: the compiler looks at many bytes at once.
    if name.iter().fold(false, |found, byte| found | byte.is_ascii_uppercase()) {
        let mut lowered = SmallVec::from_slice(name);
        lowered.make_ascii_lowercase();
        Lowered::Changed(lowered)
    } else {
        Lowered::Same(name)
    }
}

enum Lowered<'a> {
    Same(&'a [u8]),
    Changed(SmallVec<[u8; 32]>),
}

impl std::ops::Deref for Lowered<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Same(name) => name,
            Self::Changed(name) => name,
        }
    }
}
