//! What a client speaks, by its first bytes.
//!
//! In: the first bytes of a connection. Out: a [`Spoken`], or `None` while they could still become one or the other.
//! No IO, no clock: how long to wait is for who asks. What is not surely one of the others is [`Spoken::Tcp`].
//!
//! INVARIANT: the answer for a prefix, once there is one, is the answer for the whole.

use crate::tls_client_hello::{HelloError, client_hello};

/// LIMIT: bytes after which a connection that could still begin a request is taken for bytes. The longest request line
/// that common servers take is 8 KiB (nginx, Apache).
pub const DETECT_BYTES_MAX: usize = 8 * 1024;

/// LIMIT: bytes of a method; the longest that is registered (IANA) is UPDATEREDIRECTREF with 17.
const METHOD_BYTES_MAX: usize = 24;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Spoken {
    /// HTTP/1.x: the first line is a request line.
    Http1,
    /// HTTP/2, by its preface.
    Http2,
    /// TLS, by a ClientHello.
    Tls,
    /// None of them.
    Tcp,
}

impl Spoken {
    /// The word for it in logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Spoken::Http1 => "http1",
            Spoken::Http2 => "http2",
            Spoken::Tls => "tls",
            Spoken::Tcp => "tcp",
        }
    }
}

/// Tells what is spoken; `None` while more bytes are needed.
pub fn detect(bytes: &[u8]) -> Option<Spoken> {
    let first = bytes.first()?;
    if *first == 0x16 {
        return match client_hello(bytes) {
            // A hello that a server would refuse is still TLS's business, and so is one too long to look into.
            Ok(Some(_)) => Some(Spoken::Tls),
            Err(HelloError::NotTls) => Some(Spoken::Tcp),
            Err(_) => Some(Spoken::Tls),
            Ok(None) => None,
        };
    }
    if PREFACE.starts_with(bytes) && bytes.len() < PREFACE.len() {
        return None;
    }
    if bytes.starts_with(PREFACE) {
        return Some(Spoken::Http2);
    }
    match request_line(bytes) {
        Some(true) => Some(Spoken::Http1),
        Some(false) => Some(Spoken::Tcp),
        None if bytes.len() >= DETECT_BYTES_MAX => Some(Spoken::Tcp),
        None => None,
    }
}

/// Whether it begins with a request line of HTTP/1 (RFC 9112 section 3); `None` while that is open.
fn request_line(bytes: &[u8]) -> Option<bool> {
    let method = bytes.iter().take(METHOD_BYTES_MAX + 1).position(|byte| *byte == b' ');
    let head = bytes.get(..method.unwrap_or(bytes.len())).unwrap_or_default();
    // WHY: registered methods are capital letters and a dash or two; the words of other line protocols often are not.
    let word = |byte: &u8| byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_');
    if head.is_empty() || head.len() > METHOD_BYTES_MAX || !head.iter().all(word) {
        return Some(false);
    }
    let rest = bytes.get(method? + 1..)?;
    let target = rest.iter().position(|byte| !byte.is_ascii_graphic());
    let (target, behind) = rest.split_at_checked(target?)?;
    if target.is_empty() {
        return Some(false);
    }
    const VERSION: &[u8] = b" HTTP/1.";
    let same = behind.iter().zip(VERSION).all(|(a, b)| a == b);
    match behind.get(VERSION.len()) {
        _ if !same => Some(false),
        Some(minor) => Some(minor.is_ascii_digit()),
        None => None,
    }
}
