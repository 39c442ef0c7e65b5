//! Header lists into heads and trailers (RFC 9113 §8.2 and §8.3), strictly.
//!
//! In: the fields of one block, as HPACK gives them. Out: a [`RequestHead`] or [`ResponseHead`] that
//! the HTTP/1 codec could have read, or the first thing that is wrong. What passes here can be
//! written as HTTP/1 without becoming another message: names are lower-case tokens, values hold no
//! line ends, nothing of HTTP/1 framing is in it, and there is one host.
//!
//! Invariant: after the first error nothing is stored any more.
//!
//! Not done here: lengths of bodies against DATA (`receive.rs`).

use pipy_http::{BodyLength, Headers, HttpError, Method, RequestHead, ResponseHead, Version};

use crate::config::Limits;
use crate::error::shown;
use crate::fields::is_refused_trailer;
use crate::fields::{agree, check_path, decimal, is_connect_target, is_connection_field};
use crate::hpack::FieldSink;
use crate::stream::RequestKind;
use crate::{Scheme, StreamError};

/// Which kind of section is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Request,
    Response,
    Trailers,
}

/// Gathers one section.
pub(crate) struct HeadReader<'a> {
    section: Section,
    limits: &'a Limits,
    error: Option<StreamError>,
    /// A field that is no pseudo-header has come: none may follow (§8.3).
    regular: bool,
    method: Option<Method>,
    path: Option<Vec<u8>>,
    scheme: Option<Scheme>,
    authority: Option<Vec<u8>>,
    protocol: Option<Box<str>>,
    status: Option<u16>,
    headers: Headers,
    host: Option<Vec<u8>>,
    /// Crumbs are joined: elsewhere than in HTTP/2 there is one Cookie (§8.2.3).
    cookie: Vec<u8>,
    content_length: Option<u64>,
}

/// A request, and what its length is.
pub(crate) struct Request {
    pub(crate) head: Box<RequestHead>,
    pub(crate) scheme: Scheme,
    pub(crate) kind: RequestKind,
    pub(crate) body: BodyLength,
}

/// Takes nothing: for blocks that are read for the sake of the table alone.
pub(crate) struct Nowhere;

impl FieldSink for Nowhere {
    fn field(&mut self, _name: &[u8], _value: &[u8]) {}
}

impl FieldSink for HeadReader<'_> {
    fn field(&mut self, name: &[u8], value: &[u8]) {
        if self.error.is_some() {
            return;
        }
        let result = match name {
            [b':', ..] => self.pseudo(name, value),
            _ => self.regular(name, value),
        };
        self.error = result.err();
    }
}

impl<'a> HeadReader<'a> {
    pub(crate) fn new(section: Section, limits: &'a Limits) -> Self {
        Self {
            section,
            limits,
            error: None,
            regular: false,
            method: None,
            path: None,
            scheme: None,
            authority: None,
            protocol: None,
            status: None,
            headers: match section {
                Section::Request | Section::Response => {
                    Headers::with_capacity(FIELDS_EXPECTED, FIELD_BYTES_EXPECTED)
                }
                Section::Trailers => Headers::new(),
            },
            host: None,
            cookie: Vec::new(),
            content_length: None,
        }
    }

    fn pseudo(&mut self, name: &[u8], value: &[u8]) -> Result<(), StreamError> {
        let wrong = |why| Err(StreamError::PseudoHeader { name: shown(name), why });
        if self.regular {
            return wrong("follows a regular header");
        }
        if is_padded(value) {
            return wrong("begins or ends with whitespace");
        }
        let is_repeated = match (self.section, name) {
            (Section::Request, b":method") => self.method.replace(Method::from_bytes(value)?).is_some(),
            (Section::Request, b":path") => {
                let limit = self.limits.target_bytes_max;
                if value.len() > limit as usize {
                    return Err(HttpError::TargetTooLong { limit }.into());
                }
                self.path.replace(value.to_vec()).is_some()
            }
            (Section::Request, b":scheme") => {
                let Some(scheme) = Scheme::from_bytes(value) else {
                    return wrong("is neither http nor https");
                };
                self.scheme.replace(scheme).is_some()
            }
            (Section::Request, b":authority") => self.authority.replace(value.to_vec()).is_some(),
            (Section::Request, b":protocol") => match Method::from_bytes(value) {
                // RFC 8441 §4: a token, as methods are.
                Ok(protocol) => self.protocol.replace(protocol.as_str().into()).is_some(),
                Err(_) => return wrong("is not a token"),
            },
            (Section::Response, b":status") => match value {
                [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] => {
                    let digits = [a, b, c].map(|digit| u16::from(digit - b'0'));
                    let status = digits.into_iter().fold(0, |number, digit| number * 10 + digit);
                    self.status.replace(status).is_some()
                }
                _ => return wrong("is not three digits"),
            },
            _ => return wrong("has no place here"),
        };
        if is_repeated { wrong("is repeated") } else { Ok(()) }
    }

    fn regular(&mut self, name: &[u8], value: &[u8]) -> Result<(), StreamError> {
        if !self.regular {
            self.regular = true;
            // First, where RFC 9110 §7.2 wants it.
            if let Some(authority) = &self.authority {
                self.headers.append("host", authority)?;
            }
        }
        // §8.2.1: what the rest of a token may be is checked where it is stored.
        if name.iter().any(u8::is_ascii_uppercase) {
            return Err(StreamError::UppercaseName { name: shown(name) });
        }
        if is_padded(value) {
            return Err(StreamError::PaddedValue { name: shown(name) });
        }
        if self.section == Section::Trailers {
            if is_refused_trailer(name) {
                return Err(HttpError::ForbiddenTrailer { name: shown(name) }.into());
            }
            if pipy_http::is_dropped_trailer(name) {
                return Ok(());
            }
        } else if is_connection_field(name) {
            return Err(StreamError::ConnectionHeader { name: shown(name) });
        } else if self.section == Section::Request {
            match name {
                b"te" if !value.eq_ignore_ascii_case(b"trailers") => {
                    return Err(StreamError::ConnectionHeader { name: shown(name) });
                }
                b"host" => return self.host(value),
                b"cookie" => return self.crumb(value),
                _ => {}
            }
        } else if name == b"te" {
            return Err(StreamError::ConnectionHeader { name: shown(name) });
        }
        if name == b"content-length" {
            let length =
                decimal(value).ok_or_else(|| HttpError::InvalidContentLength { found: shown(value) })?;
            // Identical ones too: whoever sends them is broken or probing.
            if self.content_length.replace(length).is_some() {
                return Err(HttpError::DuplicateContentLength.into());
            }
        }
        if self.headers.len() >= self.limits.headers_max as usize {
            return Err(HttpError::TooManyHeaders { limit: self.limits.headers_max }.into());
        }
        self.headers.append(name, value)?;
        Ok(())
    }

    fn host(&mut self, value: &[u8]) -> Result<(), StreamError> {
        if self.host.replace(value.to_vec()).is_some() {
            return Err(HttpError::DuplicateHost.into());
        }
        if self.authority.is_none() {
            self.headers.append("host", value)?;
        }
        Ok(())
    }

    fn crumb(&mut self, value: &[u8]) -> Result<(), StreamError> {
        if !self.cookie.is_empty() {
            self.cookie.extend_from_slice(b"; ");
        }
        self.cookie.extend_from_slice(value);
        Ok(())
    }

    /// The request, whose frame ended the stream or did not.
    pub(crate) fn request(mut self, end_stream: bool, allow_upgrade: bool) -> Result<Request, StreamError> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let wrong = |name: &str, why| StreamError::PseudoHeader { name: name.into(), why };
        let missing = |name| wrong(name, "is missing");
        let method = self.method.take().ok_or_else(|| missing(":method"))?;
        if !self.regular {
            if let Some(authority) = &self.authority {
                self.headers.append("host", authority)?;
            }
        }
        if !self.cookie.is_empty() {
            self.headers.append("cookie", &self.cookie)?;
        }
        let protocol = self.protocol.take();
        if protocol.is_some() && (method != Method::Connect || !allow_upgrade) {
            return Err(wrong(":protocol", "is not enabled"));
        }
        let (head, kind) = if method == Method::Connect && protocol.is_none() {
            // §8.5: neither of them, and the authority is the target.
            for (name, is_there) in [(":scheme", self.scheme.is_some()), (":path", self.path.is_some())] {
                if is_there {
                    return Err(wrong(name, "has no place in a connect request"));
                }
            }
            let target = self.authority.clone().ok_or_else(|| missing(":authority"))?;
            (RequestHead::new(Method::Connect, target), RequestKind::Connect)
        } else {
            let path = self.path.take().ok_or_else(|| missing(":path"))?;
            self.scheme.ok_or_else(|| missing(":scheme"))?;
            check_path(&method, &path).map_err(|why| wrong(":path", why))?;
            match protocol {
                Some(protocol) => (RequestHead::new(Method::Get, path), RequestKind::Upgrade(protocol)),
                None => {
                    let kind = if method == Method::Head { RequestKind::Head } else { RequestKind::Plain };
                    (RequestHead::new(method, path), kind)
                }
            }
        };
        let (version, scheme, headers) = (Version::Http2, self.scheme, std::mem::take(&mut self.headers));
        let head = RequestHead { version, scheme, headers, ..head };
        self.check_authority(&head)?;
        let body = request_body(&head, &kind, self.content_length, end_stream)?;
        let mut head = Box::new(head);
        if let RequestKind::Upgrade(protocol) = &kind {
            head.headers.append("connection", "upgrade")?;
            head.headers.append("upgrade", protocol.as_bytes())?;
        }
        // A CONNECT has no scheme; what it opens is no matter of ours.
        let scheme = self.scheme.unwrap_or(Scheme::Http);
        Ok(Request { head, scheme, kind, body })
    }

    /// §8.3.1: one authority, valid, and no Host beside it that says otherwise.
    fn check_authority(&self, head: &RequestHead) -> Result<(), StreamError> {
        let Some(named) = self.authority.as_ref().or(self.host.as_ref()) else {
            return Err(HttpError::MissingHost.into());
        };
        let is_valid = match head.method {
            Method::Connect => is_connect_target(head),
            _ => head.authority().is_some(),
        };
        if !is_valid {
            return Err(HttpError::InvalidHost { found: shown(named) }.into());
        }
        if let (Some(authority), Some(host)) = (&self.authority, &self.host) {
            let port: &[u8] = match (&head.method, self.scheme) {
                // Some clients leave the port out of the Host of a CONNECT.
                (Method::Connect, _) => authority.rsplit(|&byte| byte == b':').next().unwrap_or_default(),
                (_, Some(Scheme::Https)) => b"443",
                _ => b"80",
            };
            if !agree(authority, host, port) {
                return Err(HttpError::HostMismatch { host: shown(host), target: shown(authority) }.into());
            }
        }
        Ok(())
    }

    /// The response to a request of that kind; its length is `None` for an interim one too.
    pub(crate) fn response(
        mut self,
        request: &RequestKind,
        end_stream: bool,
    ) -> Result<(Box<ResponseHead>, BodyLength), StreamError> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let status = self
            .status
            .ok_or_else(|| StreamError::PseudoHeader { name: ":status".into(), why: "is missing" })?;
        let mut head = Box::new(ResponseHead::new(status));
        head.headers = std::mem::take(&mut self.headers);
        let length = self.content_length;
        let without_body = |what| match length {
            // Forbidden by RFC 9110 §8.6, yet common and harmless.
            None | Some(0) => Ok(BodyLength::None),
            Some(_) => Err(StreamError::from(HttpError::UnexpectedBody { what })),
        };
        let body = match (status, request) {
            (101, _) => return Err(StreamError::SwitchingProtocols),
            (100..=199, _) if end_stream => return Err(StreamError::InterimEnds),
            (100..=199, _) => without_body("an interim response")?,
            (200..=299, RequestKind::Connect) => {
                // RFC 9110 §9.3.6: it means nothing here.
                head.headers.remove("content-length");
                BodyLength::None
            }
            (200..=299, RequestKind::Upgrade(protocol)) => {
                let headers = std::mem::take(&mut head.headers);
                *head = ResponseHead { headers, ..ResponseHead::new(101) };
                head.headers.remove("content-length");
                head.headers.append("connection", "upgrade")?;
                head.headers.append("upgrade", protocol.as_bytes())?;
                BodyLength::None
            }
            // Here the field tells what a GET would have got (RFC 9110 §8.6).
            (304, _) | (_, RequestKind::Head) => BodyLength::None,
            (204, _) => without_body("a 204 response")?,
            _ => counted(length, end_stream)?,
        };
        head.version = Version::Http2;
        Ok((head, body))
    }

    /// The trailers, if any are left of them.
    pub(crate) fn trailers(self) -> Result<Option<Box<Headers>>, StreamError> {
        match self.error {
            Some(error) => Err(error),
            None => Ok((!self.headers.is_empty()).then(|| Box::new(self.headers))),
        }
    }
}

/// Room for the fields of most heads, so that they are not moved about while they come.
const FIELDS_EXPECTED: usize = 12;
const FIELD_BYTES_EXPECTED: usize = 320;

/// §8.2.1: blanks around a value, which HTTP/1 would drop and which somebody may count.
fn is_padded(value: &[u8]) -> bool {
    matches!(value, [b' ' | b'\t', ..] | [.., b' ' | b'\t'])
}

fn request_body(
    head: &RequestHead,
    kind: &RequestKind,
    length: Option<u64>,
    end_stream: bool,
) -> Result<BodyLength, StreamError> {
    let what = match (kind, &head.method) {
        (RequestKind::Connect, _) => "a CONNECT request",
        (RequestKind::Upgrade(_), _) => "an upgrade request",
        // RFC 9110 §9.3.8: a client must not send content in a TRACE.
        (_, Method::Trace) if !end_stream => {
            return Err(HttpError::UnexpectedBody { what: "a TRACE request" }.into());
        }
        _ => return counted(length, end_stream),
    };
    match length {
        None | Some(0) => Ok(BodyLength::None),
        Some(_) => Err(HttpError::UnexpectedBody { what }.into()),
    }
}

/// §8.1.1: a message that ends with its head has no bytes, and must not have announced any.
fn counted(length: Option<u64>, end_stream: bool) -> Result<BodyLength, StreamError> {
    match (length, end_stream) {
        (Some(1..), true) => Err(StreamError::ContentLength { got: "shorter than" }),
        (Some(bytes), _) => Ok(BodyLength::Length(bytes)),
        (None, true) => Ok(BodyLength::None),
        (None, false) => Ok(BodyLength::Chunked),
    }
}
