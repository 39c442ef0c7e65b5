//! Which length the body of a message has (RFC 9112 §6.3): the one place that decides it.
//!
//! In: a parsed head. Out: a [`BodyLength`], or a refusal of everything on which two readers could
//! disagree. Stricter than the RFC where it allows a repair: repairs are guesses.
//!
//! Not done here: reading the body (`body.rs`), writing framing headers (`encode.rs`).

use crate::chars::{decimal, list_members};
use crate::error::shown;
use crate::{BodyLength, Headers, HttpError, Method, RequestHead, ResponseHead, Version};

/// What has to be remembered of a request to read or write its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestKind {
    Plain,
    Head,
    Connect,
}

impl RequestKind {
    pub(crate) fn of(method: &Method) -> Self {
        match method {
            Method::Head => Self::Head,
            Method::Connect => Self::Connect,
            _ => Self::Plain,
        }
    }
}

/// The length of a request's body.
pub(crate) fn request_length(head: &RequestHead) -> Result<BodyLength, HttpError> {
    let length = announced_length(head.version, &head.headers)?;
    let what = match head.method {
        // RFC 9110 §9.3.8: a client must not send content in a TRACE.
        Method::Trace => "a TRACE request",
        // RFC 9110 §9.3.6: what follows a CONNECT is the tunnel's, so a body would be ambiguous.
        Method::Connect => "a CONNECT request",
        _ => return Ok(length.unwrap_or(BodyLength::None)),
    };
    match length {
        // Old clients write `content-length: 0` on a CONNECT; it takes no byte from the tunnel.
        None | Some(BodyLength::Length(0)) => Ok(BodyLength::None),
        Some(_) => Err(HttpError::UnexpectedBody { what }),
    }
}

/// The length of the body of a response to a request of that kind. A 2xx to CONNECT and a 101
/// have none: a tunnel follows.
pub(crate) fn response_length(head: &ResponseHead, request: RequestKind) -> Result<BodyLength, HttpError> {
    // RFC 9110 §9.3.6: a client must ignore both fields in a successful response to CONNECT.
    if request == RequestKind::Connect && (200..300).contains(&head.status) {
        return Ok(BodyLength::None);
    }
    let length = announced_length(head.version, &head.headers)?;
    let what = match head.status {
        100..=199 => "an interim response",
        204 => "a 204 response",
        // Here the fields tell what a GET would have got (RFC 9110 §8.6): no contradiction.
        304 => return Ok(BodyLength::None),
        _ if request == RequestKind::Head => return Ok(BodyLength::None),
        _ => return Ok(length.unwrap_or(BodyLength::UntilClose)),
    };
    match length {
        // RFC 9110 §8.6 forbids the field here, yet `content-length: 0` is common and harmless.
        None | Some(BodyLength::Length(0)) => Ok(BodyLength::None),
        // Some readers would take bytes that others take for the next response.
        Some(_) => Err(HttpError::UnexpectedBody { what }),
    }
}

/// What the framing headers say, if there are any.
fn announced_length(version: Version, headers: &Headers) -> Result<Option<BodyLength>, HttpError> {
    let coded = headers.contains("transfer-encoding");
    let counted = headers.contains("content-length");
    match (coded, counted) {
        (false, false) => Ok(None),
        // RFC 9112 §6.3 rule 3 lets one win, and calls it a sign of an attack: refused.
        (true, true) => Err(HttpError::ConflictingFraming),
        // RFC 9112 §6.1: an HTTP/1.0 sender cannot mean it; its framing is faulty.
        (true, false) if version == Version::Http10 => Err(HttpError::TransferEncodingInHttp10),
        (true, false) => check_transfer_encoding(headers).map(|()| Some(BodyLength::Chunked)),
        (false, true) => content_length(headers).map(|bytes| Some(BodyLength::Length(bytes))),
    }
}

/// Exactly one field with exactly a decimal number. Identical duplicates, which RFC 9112 §6.3
/// would let pass, are refused as well: whoever sends them is broken or probing.
pub(crate) fn content_length(headers: &Headers) -> Result<u64, HttpError> {
    let mut values = headers.get_all("content-length");
    let value = values.next().unwrap_or_default();
    if values.next().is_some() {
        return Err(HttpError::DuplicateContentLength);
    }
    decimal(value).ok_or_else(|| HttpError::InvalidContentLength { found: shown(value) })
}

/// `chunked`, once, alone. What is well-formed and ends in `chunked` is 501 (RFC 9112 §6.1),
/// anything else has no length that two readers agree on: 400.
fn check_transfer_encoding(headers: &Headers) -> Result<(), HttpError> {
    let values: Vec<&[u8]> = headers.get_all("transfer-encoding").collect();
    if matches!(values.as_slice(), [value] if value.eq_ignore_ascii_case(b"chunked")) {
        return Ok(());
    }
    let found = shown(&values.join(&b", "[..]));
    let codings: Vec<&[u8]> = values.iter().flat_map(|value| list_members(value)).collect();
    let is_chunked = |coding: &&[u8]| coding.eq_ignore_ascii_case(b"chunked");
    match codings.split_last() {
        Some((last, others))
            if is_chunked(last)
                && !others.is_empty()
                && !others.iter().any(is_chunked)
                && others.iter().all(|coding| crate::chars::is_token(coding)) =>
        {
            Err(HttpError::UnsupportedTransferEncoding { found })
        }
        _ => Err(HttpError::InvalidTransferEncoding { found }),
    }
}

#[cfg(test)]
mod tests;
