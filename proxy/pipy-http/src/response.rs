//! The head of a response.
//!
//! In: a parsed status line and headers (`parse.rs`), or parts set by hand. Out: the questions a
//! proxy asks it.
//! Not done here: the length of its body, which depends on the request too (`framing.rs`).

use std::borrow::Cow;

use crate::head::keep_alive;
use crate::{Headers, Version};

/// Everything of a response before its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// 100 to 999.
    pub status: u16,
    /// The reason phrase, possibly empty. No client reads it; people do.
    pub reason: Cow<'static, [u8]>,
    /// The version the server wrote.
    pub version: Version,
    /// The header fields.
    pub headers: Headers,
}

impl ResponseHead {
    /// An HTTP/1.1 response with its usual reason phrase and no headers.
    pub fn new(status: u16) -> Self {
        Self {
            status,
            reason: Cow::Borrowed(canonical_reason(status).as_bytes()),
            version: Version::Http11,
            headers: Headers::new(),
        }
    }

    /// Whether this response is interim: 1xx, with a final one to follow (RFC 9110 §15.2). `101`
    /// is not: what follows it is another protocol.
    pub fn is_interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }

    /// Whether the server keeps the connection open after this response (RFC 9112 §9.3), as far as
    /// its head says; a body until close ends the connection whatever the head says.
    pub fn keep_alive(&self) -> bool {
        keep_alive(self.version, &self.headers)
    }
}

/// The reason phrase of a registered status (RFC 9110 §15 and the IANA registry), else empty.
pub fn canonical_reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        102 => "Processing",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        207 => "Multi-Status",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        511 => "Network Authentication Required",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(version: Version, connection: &[&str]) -> ResponseHead {
        let mut head = ResponseHead::new(200);
        head.version = version;
        for value in connection {
            head.headers.append("Connection", value).unwrap();
        }
        head
    }

    #[test]
    fn a_connection_lives_on_as_version_and_connection_header_say() {
        use Version::{Http10, Http11};
        assert!(head(Http11, &[]).keep_alive());
        assert!(head(Http11, &["foo"]).keep_alive());
        assert!(!head(Http11, &["Close"]).keep_alive());
        assert!(!head(Http11, &["foo, close"]).keep_alive());
        assert!(!head(Http10, &[]).keep_alive());
        assert!(head(Http10, &["Keep-Alive"]).keep_alive());
        assert!(!head(Http10, &["keep-alive", "close"]).keep_alive());
    }

    #[test]
    fn one_hundred_and_one_is_not_interim() {
        let interim: Vec<u16> = (100..600).filter(|&status| ResponseHead::new(status).is_interim()).collect();
        assert_eq!(interim, (100..200).filter(|&status| status != 101).collect::<Vec<_>>());
    }

    #[test]
    fn registered_statuses_have_their_phrase_and_others_none() {
        assert_eq!(ResponseHead::new(404).reason, &b"Not Found"[..]);
        assert_eq!(canonical_reason(418), "");
        assert_eq!(canonical_reason(999), "");
    }
}
