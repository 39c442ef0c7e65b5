//! What can be wrong with a message, by what was wrong, and how to answer it.
//!
//! In: the offending bytes, by [`shown`]: escaped and cut short, so that a message can go to a log
//! as it is. Out: a text, a status for the client, a label for metrics.
//!
//! Values of headers are never shown, only their names: a value may be a secret. The exceptions
//! are the fields this crate judges itself (lengths, codings, hosts).
//!
//! Not done here: the text of the answer to the client, and whether the connection closes (it must
//! after every error of a decoder: the place where the next message begins is unknown).

/// Why a message was refused, or could not be written.
///
/// Errors of a [`ResponseDecoder`](crate::ResponseDecoder) come wrapped in
/// [`HttpError::BadResponse`], so that [`status`](HttpError::status) never blames the client for
/// what the upstream sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    // The first line.
    /// Not `HTTP/1.0` or `HTTP/1.1`; a line without a version is HTTP/0.9.
    #[error("http version \"{found}\" is not supported, expected HTTP/1.1 or HTTP/1.0")]
    UnsupportedVersion {
        /// What stood in its place.
        found: Box<str>,
    },
    /// The method is no token (RFC 9110 §9.1).
    #[error("method \"{found}\" is not a token")]
    InvalidMethod {
        /// What stood in its place.
        found: Box<str>,
    },
    /// The method is longer than any we know (RFC 9112 §3: answer 501).
    #[error("method \"{found}\" is longer than {limit} bytes")]
    MethodTooLong {
        /// Its beginning.
        found: Box<str>,
        /// The longest, in bytes.
        limit: u32,
    },
    /// The request line is not `method SP target SP version`.
    #[error("request line \"{found}\" is malformed, expected method, target and version")]
    InvalidRequestLine {
        /// The line.
        found: Box<str>,
    },
    /// The status line is not `version SP 3digits SP reason`.
    #[error("status line \"{found}\" is malformed, expected version, status and reason")]
    InvalidStatusLine {
        /// The line.
        found: Box<str>,
    },
    /// The target has none of the four forms, or not the one its method asks for (RFC 9112 §3.2).
    #[error("request target \"{found}\" is invalid: {why}")]
    InvalidTarget {
        /// The target.
        found: Box<str>,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The head was begun and not finished in its time.
    #[error("the request head took too long")]
    HeadTimeout,
    /// Over [`Limits::target_bytes_max`](crate::Limits::target_bytes_max).
    #[error("request target is longer than {limit} bytes")]
    TargetTooLong {
        /// The limit, in bytes.
        limit: u32,
    },
    /// The path cannot be brought to its one canonical form.
    #[error("path \"{found}\" is invalid: {why}")]
    InvalidPath {
        /// The path.
        found: Box<str>,
        /// What is wrong with it.
        why: &'static str,
    },

    // Lines and headers.
    /// A line ends in LF without CR (RFC 9112 §2.2).
    #[error("line ends in a bare line feed, expected CRLF")]
    BareLf,
    /// A CR that no LF follows (RFC 9112 §2.2).
    #[error("carriage return without a line feed")]
    BareCr,
    /// Blanks before the first header, which some readers skip and some take for a fold.
    #[error("whitespace before the first header")]
    LeadingWhitespace,
    /// A value continued on the next line (RFC 9112 §5.2).
    #[error("header folded over several lines")]
    FoldedHeader,
    /// Blanks between name and colon (RFC 9112 §5.1).
    #[error("whitespace between header name \"{name}\" and its colon")]
    WhitespaceBeforeColon {
        /// The name.
        name: Box<str>,
    },
    /// A header line without a colon.
    #[error("header line \"{found}\" has no colon")]
    MissingColon {
        /// The line.
        found: Box<str>,
    },
    /// An empty name, or a byte in it that is no token byte.
    #[error("header name \"{found}\" is not a token")]
    InvalidHeaderName {
        /// The name, up to and with the first wrong byte.
        found: Box<str>,
    },
    /// A control byte in a value; the value is not shown.
    #[error("value of header \"{name}\" holds a control byte")]
    InvalidHeaderValue {
        /// The name.
        name: Box<str>,
    },
    /// Over [`Limits::head_bytes_max`](crate::Limits::head_bytes_max).
    #[error("head is longer than {limit} bytes")]
    HeadTooLarge {
        /// The limit, in bytes.
        limit: u32,
    },
    /// Over [`Limits::headers_max`](crate::Limits::headers_max).
    #[error("more than {limit} headers")]
    TooManyHeaders {
        /// The limit, in fields.
        limit: u32,
    },

    // The host (RFC 9112 §3.2).
    /// An HTTP/1.1 request without a Host.
    #[error("host header is missing")]
    MissingHost,
    /// More than one Host, be they equal or not.
    #[error("more than one host header")]
    DuplicateHost,
    /// Not `host` or `host:port`.
    #[error("host \"{found}\" is not a host with an optional port")]
    InvalidHost {
        /// What stood in its place.
        found: Box<str>,
    },
    /// Host and target name different authorities.
    #[error("host \"{host}\" disagrees with authority \"{target}\" of the target")]
    HostMismatch {
        /// The Host header.
        host: Box<str>,
        /// The authority in the target.
        target: Box<str>,
    },

    // Framing (RFC 9112 §6).
    /// Content-Length and Transfer-Encoding in one message.
    #[error("content-length together with transfer-encoding")]
    ConflictingFraming,
    /// More than one Content-Length, be they equal or not.
    #[error("more than one content-length")]
    DuplicateContentLength,
    /// Not a decimal number below 2^64.
    #[error("content-length \"{found}\" is not a decimal number of bytes")]
    InvalidContentLength {
        /// The value.
        found: Box<str>,
    },
    /// Codings besides a final `chunked`: well-formed, and not implemented.
    #[error("transfer-encoding \"{found}\" is not supported, expected chunked alone")]
    UnsupportedTransferEncoding {
        /// The value.
        found: Box<str>,
    },
    /// Codings that leave the length of the body unknown, or are no list of codings.
    #[error("transfer-encoding \"{found}\" is invalid, expected chunked")]
    InvalidTransferEncoding {
        /// The value, or the values of several fields.
        found: Box<str>,
    },
    /// HTTP/1.0 has no transfer codings (RFC 9112 §6.1).
    #[error("transfer-encoding in an http/1.0 message")]
    TransferEncodingInHttp10,
    /// A body where there can be none: TRACE, CONNECT, 1xx, 204.
    #[error("{what} cannot have a body")]
    UnexpectedBody {
        /// The kind of message.
        what: &'static str,
    },

    // Chunks and trailers (RFC 9112 §7.1).
    /// Not 1 to 16 hexadecimal digits.
    #[error("chunk size \"{found}\" is not 1 to 16 hexadecimal digits")]
    InvalidChunkSize {
        /// The line.
        found: Box<str>,
    },
    /// A control byte in a chunk extension.
    #[error("chunk extension holds a control byte")]
    InvalidChunkExtension,
    /// Over [`Limits::chunk_line_bytes_max`](crate::Limits::chunk_line_bytes_max).
    #[error("chunk-size line is longer than {limit} bytes")]
    ChunkLineTooLong {
        /// The limit, in bytes.
        limit: u32,
    },
    /// Over [`Limits::chunk_extension_bytes_max`](crate::Limits::chunk_extension_bytes_max).
    #[error("chunk extensions of one body exceed {limit} bytes")]
    ChunkExtensionsTooLarge {
        /// The limit, in bytes.
        limit: u32,
    },
    /// The data of a chunk is not followed by CRLF.
    #[error("chunk data is not followed by CRLF")]
    MissingChunkEnd,
    /// Over [`Limits::trailer_bytes_max`](crate::Limits::trailer_bytes_max).
    #[error("trailer section is longer than {limit} bytes")]
    TrailersTooLarge {
        /// The limit, in bytes.
        limit: u32,
    },
    /// A framing or routing field in the trailer section.
    #[error("header \"{name}\" is not allowed as a trailer")]
    ForbiddenTrailer {
        /// The name.
        name: Box<str>,
    },

    // Conversations.
    /// The connection ended inside a message.
    #[error("connection ended inside {part}")]
    Truncated {
        /// Where.
        part: &'static str,
    },
    /// Bytes from an upstream that owes no response.
    #[error("response without a request")]
    UnsolicitedResponse,
    /// 101 for a request that did not ask for an upgrade.
    #[error("switching protocols without an upgrade request")]
    UnexpectedUpgrade,
    /// Over [`Limits::interim_max`](crate::Limits::interim_max).
    #[error("more than {limit} interim responses")]
    TooManyInterim {
        /// The limit, in responses.
        limit: u32,
    },
    /// Anything above, said by the upstream.
    #[error("upstream response is invalid: {0}")]
    BadResponse(Box<HttpError>),

    // Our own side: what was asked of the encoder.
    /// More bytes than the length announced.
    #[error("body is longer than its content-length by {excess} bytes")]
    BodyTooLong {
        /// By how much, in bytes.
        excess: u64,
    },
    /// Fewer bytes than the length announced.
    #[error("body is shorter than its content-length by {missing} bytes")]
    BodyTooShort {
        /// By how much, in bytes.
        missing: u64,
    },
    /// The message cannot be written in HTTP/1.1.
    #[error("message cannot be encoded: {why}")]
    Unencodable {
        /// What is in the way.
        why: &'static str,
    },
}

impl HttpError {
    /// The status to answer the client with, if it can still be answered.
    pub fn status(&self) -> u16 {
        use HttpError as E;
        match self {
            E::UnsupportedVersion { .. } => 505,
            E::MethodTooLong { .. } | E::UnsupportedTransferEncoding { .. } => 501,
            E::HeadTimeout => 408,
            E::TargetTooLong { .. } => 414,
            E::HeadTooLarge { .. } | E::TooManyHeaders { .. } | E::TrailersTooLarge { .. } => 431,
            E::BadResponse(_) | E::UnsolicitedResponse | E::UnexpectedUpgrade | E::TooManyInterim { .. } => {
                502
            }
            E::BodyTooLong { .. } | E::BodyTooShort { .. } | E::Unencodable { .. } => 500,
            _ => 400,
        }
    }

    /// A short, stable word for a metric; a wrapped error gives its own.
    pub fn metric_label(&self) -> &'static str {
        use HttpError as E;
        match self {
            E::UnsupportedVersion { .. } => "version",
            E::InvalidMethod { .. } | E::MethodTooLong { .. } => "method",
            E::InvalidRequestLine { .. } => "request_line",
            E::InvalidStatusLine { .. } => "status_line",
            E::InvalidTarget { .. } => "target",
            E::TargetTooLong { .. } => "target_too_long",
            E::InvalidPath { .. } => "path",
            E::BareLf | E::BareCr => "line_end",
            E::LeadingWhitespace | E::FoldedHeader => "header_fold",
            E::WhitespaceBeforeColon { .. } | E::MissingColon { .. } | E::InvalidHeaderName { .. } => {
                "header_name"
            }
            E::InvalidHeaderValue { .. } => "header_value",
            E::HeadTimeout => "head_timeout",
            E::HeadTooLarge { .. } => "head_too_large",
            E::TooManyHeaders { .. } => "too_many_headers",
            E::MissingHost | E::DuplicateHost | E::InvalidHost { .. } | E::HostMismatch { .. } => "host",
            E::ConflictingFraming => "conflicting_framing",
            E::DuplicateContentLength | E::InvalidContentLength { .. } => "content_length",
            E::UnsupportedTransferEncoding { .. }
            | E::InvalidTransferEncoding { .. }
            | E::TransferEncodingInHttp10 => "transfer_encoding",
            E::UnexpectedBody { .. } => "unexpected_body",
            E::InvalidChunkSize { .. }
            | E::InvalidChunkExtension
            | E::ChunkLineTooLong { .. }
            | E::ChunkExtensionsTooLarge { .. }
            | E::MissingChunkEnd => "chunk",
            E::TrailersTooLarge { .. } | E::ForbiddenTrailer { .. } => "trailer",
            E::Truncated { .. } => "truncated",
            E::UnsolicitedResponse => "unsolicited",
            E::UnexpectedUpgrade => "unexpected_upgrade",
            E::TooManyInterim { .. } => "too_many_interim",
            E::BadResponse(inner) => inner.metric_label(),
            E::BodyTooLong { .. } | E::BodyTooShort { .. } => "body_length",
            E::Unencodable { .. } => "unencodable",
        }
    }
}

/// Foreign bytes for a message: escaped as in source code, and at most [`SHOWN_BYTES_MAX`] of them.
pub(crate) fn shown(bytes: &[u8]) -> Box<str> {
    match bytes.get(..SHOWN_BYTES_MAX) {
        Some(start) if bytes.len() > SHOWN_BYTES_MAX => format!("{}…", start.escape_ascii()),
        _ => bytes.escape_ascii().to_string(),
    }
    .into_boxed_str()
}

/// LIMIT: long enough to recognise a value, short enough for one log line.
const SHOWN_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_means_what_the_client_can_do_about_it() {
        let found = "x".into();
        for (error, status) in [
            (HttpError::BareLf, 400),
            (HttpError::MissingHost, 400),
            (HttpError::Truncated { part: "x" }, 400),
            (HttpError::HeadTimeout, 408),
            (HttpError::TargetTooLong { limit: 1 }, 414),
            (HttpError::HeadTooLarge { limit: 1 }, 431),
            (HttpError::TooManyHeaders { limit: 1 }, 431),
            (HttpError::TrailersTooLarge { limit: 1 }, 431),
            (HttpError::UnsupportedTransferEncoding { found }, 501),
            (HttpError::UnsupportedVersion { found: "x".into() }, 505),
            (HttpError::UnsolicitedResponse, 502),
            (HttpError::BodyTooShort { missing: 1 }, 500),
        ] {
            assert_eq!(error.status(), status, "{error}");
            let label = error.metric_label();
            assert!(label.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{label}");
            // The same fault of an upstream is never the client's.
            let wrapped = HttpError::BadResponse(Box::new(error));
            assert_eq!((wrapped.status(), wrapped.metric_label()), (502, label));
        }
    }

    #[test]
    fn foreign_bytes_are_escaped_and_cut_short() {
        assert_eq!(&*shown(b"a\"\r\n\0\xff\xc3\xa9 b"), "a\\\"\\r\\n\\x00\\xff\\xc3\\xa9 b");
        assert_eq!(&*shown(&[b'a'; 64]), "a".repeat(64));
        assert_eq!(&*shown(&[b'a'; 65]), format!("{}…", "a".repeat(64)));
    }

    #[test]
    fn messages_are_lower_case_and_hold_the_value() {
        let text = HttpError::HostMismatch { host: "a".into(), target: "b".into() }.to_string();
        assert_eq!(text, "host \"a\" disagrees with authority \"b\" of the target");
    }
}
