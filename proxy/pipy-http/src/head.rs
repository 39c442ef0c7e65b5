//! The head of a request, and the questions a proxy asks it.
//!
//! In: a parsed request line and headers (`parse.rs`), or parts set by hand. Out: path, query,
//! authority, whether the connection lives on, whether it changes protocol.
//!
//! The target is kept as it was received; which of the four forms (RFC 9112 §3.2) it has follows
//! from its bytes and the method. A head from the decoder has a valid target and Host; one that
//! was changed by hand is checked again by the encoder.
//!
//! Not done here: the canonical form of a path (`path.rs`), lengths of bodies (`framing.rs`).

use std::borrow::Cow;

use memchr::memchr;

use crate::authority::{AbsoluteForm, Authority};
use crate::chars::{is_visible, list_members};
use crate::error::shown;
use crate::{Headers, HttpError, Method};

/// The versions this crate reads. It always writes HTTP/1.1 (RFC 9110 §2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// `HTTP/1.0`
    Http10,
    /// `HTTP/1.1`
    Http11,
    /// `HTTP/2`
    Http2,
}

/// The scheme of a request: what HTTP/2 says of each, and HTTP/1 of none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `http`
    Http,
    /// `https`
    Https,
}

/// Everything of a request before its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The request target as received: `/path?query`, `http://host/path`, `host:port` or `*`.
    pub target: Vec<u8>,
    /// The version the client wrote.
    pub version: Version,
    /// The scheme, where the client said it apart from the target.
    pub scheme: Option<Scheme>,
    /// The header fields.
    pub headers: Headers,
}

impl Version {
    /// The version as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }
}

impl Scheme {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The scheme that a text names, in whichever letters (RFC 3986 §3.1); others than these two cannot be routed.
    pub fn from_bytes(text: &[u8]) -> Option<Self> {
        [Self::Http, Self::Https]
            .into_iter()
            .find(|scheme| text.eq_ignore_ascii_case(scheme.as_str().as_bytes()))
    }
}

impl RequestHead {
    /// An HTTP/1.1 request without headers.
    pub fn new(method: Method, target: impl Into<Vec<u8>>) -> Self {
        let (version, headers) = (Version::Http11, Headers::new());
        Self { method, target: target.into(), version, scheme: None, headers }
    }

    /// The path as received, without the query: `/` for an absolute target without one, `*` for
    /// `OPTIONS *`, empty for CONNECT. Compare it only after [`normalise_path`](crate::normalise_path).
    pub fn path(&self) -> &[u8] {
        let path = match split_query(self.relative_part()) {
            (path, _) if path.is_empty() && self.method != Method::Connect => b"/",
            (path, _) => path,
        };
        if path == b"/" && self.is_server_wide() { b"*" } else { path }
    }

    /// What follows the first `?`, without it; `None` without a `?`.
    pub fn query(&self) -> Option<&[u8]> {
        split_query(self.relative_part()).1
    }

    /// Path and query in the form that an origin server is asked with (RFC 9112 §3.2.1).
    pub fn path_and_query(&self) -> Cow<'_, [u8]> {
        if self.is_server_wide() {
            return Cow::Borrowed(b"*");
        }
        match self.relative_part() {
            [] if self.method != Method::Connect => Cow::Borrowed(b"/"),
            query @ [b'?', ..] => Cow::Owned([b"/", query].concat()),
            rest => Cow::Borrowed(rest),
        }
    }

    /// Host and port asked for, in lower case, as host tables are keyed: the authority of an
    /// absolute target or a CONNECT, else the Host header. `None` when there is none, when Host is
    /// empty, or when it is not `host` or `host:port` (a head from the decoder never is).
    pub fn authority(&self) -> Option<Cow<'_, str>> {
        let bytes = match self.target_authority() {
            Some((authority, _)) => authority,
            None => self.headers.get("host")?,
        };
        Authority::parse(bytes)?;
        let text = std::str::from_utf8(bytes).ok()?;
        // Without an early exit, which would keep the compiler from looking at many bytes at once.
        Some(if text.bytes().fold(false, |found, byte| found | byte.is_ascii_uppercase()) {
            Cow::Owned(text.to_ascii_lowercase())
        } else {
            Cow::Borrowed(text)
        })
    }

    /// Whether the client asks to change the protocol of this connection (RFC 9110 §7.8), and may.
    ///
    /// Not for HTTP/1.0, where the RFC says to ignore it, and not to `h2c` alone: a tunnel of
    /// cleartext HTTP/2 would carry requests that nobody authorises, and RFC 9113 §3.1 has
    /// withdrawn that upgrade.
    pub fn is_upgrade(&self) -> bool {
        self.version != Version::Http10
            && self.method != Method::Connect
            && self.headers.contains("upgrade")
            && self.headers.contains_token("connection", "upgrade")
            && self
                .headers
                .get_all("upgrade")
                .flat_map(list_members)
                .any(|protocol| !protocol.eq_ignore_ascii_case(b"h2c"))
    }

    /// Whether the client keeps the connection open after the response (RFC 9112 §9.3).
    pub fn keep_alive(&self) -> bool {
        keep_alive(self.version, &self.headers)
    }

    /// Whether the client waits for `100 Continue` before it sends the body (RFC 9110 §10.1.1,
    /// which says to ignore this of HTTP/1.0 clients).
    pub fn expects_continue(&self) -> bool {
        self.version != Version::Http10 && self.headers.contains_token("expect", "100-continue")
    }

    /// Replaces the path and keeps the query: what was authorised is what is forwarded. The target
    /// becomes origin-form; an authority it named goes to Host.
    ///
    /// Errors: [`HttpError::InvalidTarget`] unless `path` is `*` or begins with `/` and is visible
    /// ASCII without `?` and `#`.
    pub fn set_path(&mut self, path: &[u8]) -> Result<(), HttpError> {
        let is_path = path == b"*" || path.first() == Some(&b'/');
        if !is_path || !is_visible(path) || path.iter().any(|byte| matches!(byte, b'?' | b'#')) {
            return Err(HttpError::InvalidTarget { found: shown(path), why: "not a path" });
        }
        let mut target = path.to_vec();
        if let Some(query) = self.query() {
            target.push(b'?');
            target.extend_from_slice(query);
        }
        self.use_origin_form()?;
        self.target = target;
        Ok(())
    }

    /// Turns an absolute target into the origin form that a server expects from a proxy, its
    /// authority going to Host (RFC 9112 §3.2.2 and §3.2.4). Other forms stay as they are.
    ///
    /// Errors: those of [`Headers::insert`]; none for a head from the decoder.
    pub fn use_origin_form(&mut self) -> Result<(), HttpError> {
        if self.method == Method::Connect {
            return Ok(());
        }
        let Some((authority, _)) = self.target_authority() else { return Ok(()) };
        let authority = authority.to_vec();
        let target = self.path_and_query().into_owned();
        self.headers.insert("host", authority)?;
        self.target = target;
        Ok(())
    }

    /// The authority that the target itself names, and the port it means when it has none.
    pub(crate) fn target_authority(&self) -> Option<(&[u8], u16)> {
        if self.method == Method::Connect {
            // CONNECT has no default port (RFC 9110 §9.3.6): zero agrees with no port but itself.
            return Some((&self.target, 0));
        }
        let form = self.absolute_form()?;
        Some((form.authority, form.default_port))
    }

    pub(crate) fn absolute_form(&self) -> Option<AbsoluteForm<'_>> {
        match self.target.first() {
            None | Some(b'/' | b'*') => None,
            Some(_) => AbsoluteForm::split(&self.target),
        }
    }

    /// The target without scheme and authority.
    fn relative_part(&self) -> &[u8] {
        if self.method == Method::Connect {
            return b"";
        }
        self.absolute_form().map_or(&self.target, |form| form.rest)
    }

    /// `OPTIONS *`, also as a proxy is asked for it: an absolute target without path and query
    /// (RFC 9112 §3.2.4).
    fn is_server_wide(&self) -> bool {
        self.method == Method::Options && matches!(self.relative_part(), b"" | b"*")
    }
}

/// RFC 9112 §9.3, for both directions: `close` wins over everything.
pub(crate) fn keep_alive(version: Version, headers: &Headers) -> bool {
    if headers.contains_token("connection", "close") {
        return false;
    }
    version != Version::Http10 || headers.contains_token("connection", "keep-alive")
}

fn split_query(target: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr(b'?', target) {
        Some(at) => (target.get(..at).unwrap_or_default(), Some(target.get(at + 1..).unwrap_or_default())),
        None => (target, None),
    }
}

#[cfg(test)]
mod tests;
