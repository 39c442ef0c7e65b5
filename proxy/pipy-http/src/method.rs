//! Request methods: the registered ones by name, any other token as it came.
//!
//! In: the bytes before the first space of a request line. Out: a [`Method`]. Methods are
//! case-sensitive (RFC 9110 §9.1): `get` is not `GET`.
//! Not done here: which methods a route allows.

use std::fmt;

use crate::HttpError;
use crate::chars::is_token;
use crate::error::shown;

/// A request method.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // Their names say it; RFC 9110 §9.3 and RFC 5789 define them.
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
    /// Any other token.
    Other(OtherMethod),
}

/// A method that is a token, but none of the well-known ones. Made only by
/// [`Method::from_bytes`], so that what it holds can always be written as it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OtherMethod(Box<str>);

impl Method {
    /// Reads a method.
    ///
    /// Errors: [`HttpError::MethodTooLong`], [`HttpError::InvalidMethod`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, HttpError> {
        Ok(match bytes {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"CONNECT" => Self::Connect,
            b"OPTIONS" => Self::Options,
            b"TRACE" => Self::Trace,
            b"PATCH" => Self::Patch,
            other => Self::Other(OtherMethod::from_bytes(other)?),
        })
    }

    /// The method as it is written.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
            Self::Options => "OPTIONS",
            Self::Trace => "TRACE",
            Self::Patch => "PATCH",
            Self::Other(other) => &other.0,
        }
    }

    /// Whether the request may be sent again after a failure: the method is idempotent
    /// (RFC 9110 §9.2.2).
    pub fn is_idempotent(&self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Put | Self::Delete | Self::Options | Self::Trace)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl OtherMethod {
    fn from_bytes(bytes: &[u8]) -> Result<Self, HttpError> {
        // Bytes first, length second: garbage is 400 however long it is.
        if !is_token(bytes) {
            return Err(HttpError::InvalidMethod { found: shown(bytes) });
        }
        if bytes.len() > METHOD_BYTES_MAX as usize {
            return Err(HttpError::MethodTooLong { found: shown(bytes), limit: METHOD_BYTES_MAX });
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Self(text.into())),
            Err(_) => Err(HttpError::InvalidMethod { found: shown(bytes) }),
        }
    }
}

/// LIMIT: the longest registered method, UPDATEREDIRECTREF, has 17 bytes.
pub(crate) const METHOD_BYTES_MAX: u32 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registered_methods_round_trip() {
        for name in ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"] {
            let method = Method::from_bytes(name.as_bytes()).unwrap();
            assert!(!matches!(method, Method::Other(_)), "{name}");
            assert_eq!(method.as_str(), name);
            assert_eq!(method.to_string(), name);
        }
    }

    #[test]
    fn other_tokens_are_kept_as_they_are() {
        for name in ["PROPFIND", "get", "X-a.b", "UPDATEREDIRECTREF", &"M".repeat(32)] {
            let method = Method::from_bytes(name.as_bytes()).unwrap();
            assert!(matches!(method, Method::Other(_)), "{name}");
            assert_eq!(method.as_str(), name);
        }
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for bad in [&b""[..], b"GE T", b"GET\t", b"GET:", b"G\xc3\xa9T", b"\x16\x03\x01", b"(GET)"] {
            let error = Method::from_bytes(bad).unwrap_err();
            assert_eq!(error.status(), 400, "{}", bad.escape_ascii());
            assert_eq!(error.metric_label(), "method");
        }
    }

    #[test]
    fn a_method_longer_than_any_is_not_implemented() {
        let error = Method::from_bytes("M".repeat(33).as_bytes()).unwrap_err();
        assert_eq!(error.status(), 501);
    }

    #[test]
    fn only_idempotent_methods_may_be_repeated() {
        let repeatable = |name: &str| Method::from_bytes(name.as_bytes()).unwrap().is_idempotent();
        assert!(["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"].into_iter().all(repeatable));
        assert!(!["POST", "PATCH", "CONNECT", "PROPFIND"].into_iter().any(repeatable));
    }
}
