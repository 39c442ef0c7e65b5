//! One canonical form of a path, for authorisation, for routing, and for what is forwarded.
//!
//! In: the path of a request as received ([`RequestHead::path`](crate::RequestHead::path)). Out:
//! the same path spelt the one way, or a refusal. Forward what was authorised
//! ([`RequestHead::set_path`](crate::RequestHead::set_path)): then no server behind the proxy sees
//! another path than the policy did.
//!
//! The choices:
//!
//! | input | becomes | because |
//! |---|---|---|
//! | `%41`, `%7e` | `A`, `~` | unreserved: the same resource either way (RFC 3986 §2.3, §6.2.2.2) |
//! | `%c3%a9`, `%3b` | `%C3%A9`, `%3B` | others stay encoded, in upper case (§6.2.2.1) |
//! | `"`, `<`, `[`, `\|`, … raw | `%22`, `%3C`, `%5B`, `%7C` | not allowed raw (§3.3); one spelling |
//! | `/a/./b`, `/a/%2e%2E/b` | `/a/b`, `/b` | dot segments, after decoding (§5.2.4, §6.2.2.3) |
//! | `/../a` | `/a` | above the root is the root (§5.2.4) |
//! | `//a///b` | itself | an empty segment is a segment (§3.3); merging changes the resource |
//! | `%2F`, `%5C` | themselves | data, not separators (§2.2) |
//! | `/a/..%2Fb`, `/a/..;x/b` | refused | servers that decode or cut parameters first see dot segments |
//! | `\`, `%00`, a bad `%` | refused | read differently by different servers; no honest client sends it |
//!
//! Invariant: the result is its own canonical form. A path that is canonical already, which nearly
//! all are, is borrowed.
//!
//! Not done here: `%25` is data: what is encoded twice is decoded by nobody here.

use std::borrow::Cow;

use crate::HttpError;
use crate::chars::{hex_value, is_path_char, is_unreserved, is_visible};
use crate::error::shown;

/// Brings a path, without query, to its canonical form; `*` stays `*`.
///
/// Errors: [`HttpError::InvalidPath`] for what the table above refuses, for a path that does not
/// begin with `/`, and for `?`, `#` and bytes outside visible ASCII.
pub fn normalise_path(path: &[u8]) -> Result<Cow<'_, [u8]>, HttpError> {
    if path == b"*" || is_canonical(path) {
        return Ok(Cow::Borrowed(path));
    }
    let invalid = |why| HttpError::InvalidPath { found: shown(path), why };
    if path.first() != Some(&b'/') {
        return Err(invalid("it does not begin with a slash"));
    }
    if !is_visible(path) {
        return Err(invalid("it holds bytes other than visible ascii"));
    }
    let spelt = spell(path).map_err(invalid)?;
    remove_dot_segments(&spelt).map(Cow::Owned).map_err(invalid)
}

/// Whether nothing is to be done: no encoding, no byte to encode, no segment that begins with a
/// dot. Paths that fail this test may still be canonical; they only take the longer way.
fn is_canonical(path: &[u8]) -> bool {
    let mut previous = b'/';
    path.first() == Some(&b'/')
        && path.iter().all(|&byte| {
            let fine = byte == b'/' || (is_path_char(byte) && !(byte == b'.' && previous == b'/'));
            previous = byte;
            fine
        })
}

/// One spelling for each byte: decoded if unreserved, raw if allowed raw, else encoded.
fn spell(path: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut out = Vec::with_capacity(path.len() + 16);
    let mut rest = path;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match byte {
            b'%' => {
                let [high, low, tail @ ..] = tail else { return Err(BAD_TRIPLET) };
                rest = tail;
                match hex_value(*high).zip(hex_value(*low)) {
                    Some((0, 0)) => return Err("it holds an encoded NUL"),
                    Some((high, low)) => {
                        let decoded = high << 4 | low;
                        if is_unreserved(decoded) {
                            out.push(decoded);
                        } else {
                            put_encoded(decoded, &mut out);
                        }
                    }
                    None => return Err(BAD_TRIPLET),
                }
            }
            b'\\' => return Err("it holds a backslash"),
            b'?' => return Err("it holds a query"),
            b'#' => return Err("it holds a fragment"),
            b'/' => out.push(b'/'),
            &byte if is_path_char(byte) => out.push(byte),
            &byte => put_encoded(byte, &mut out),
        }
    }
    Ok(out)
}

/// RFC 3986 §5.2.4, on a path that begins with `/`.
fn remove_dot_segments(path: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut out: Vec<u8> = Vec::with_capacity(path.len());
    let mut segments = path.split(|&byte| byte == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            b"." | b".." => {
                if segment == b".." {
                    let parent = out.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
                    out.truncate(parent);
                }
                // What a dot segment stands for at the end is a directory: its slash stays.
                if is_last {
                    out.push(b'/');
                }
            }
            other if hides_dot_segment(other) => {
                return Err("it hides a dot segment behind a parameter or an encoded separator");
            }
            other => {
                out.push(b'/');
                out.extend_from_slice(other);
            }
        }
    }
    Ok(out)
}

/// Whether a reader that cuts `;parameters` off first, or decodes `%2F` or `%5C` first, would see a
/// dot segment in here. The segment is spelt canonically.
fn hides_dot_segment(segment: &[u8]) -> bool {
    if !segment.contains(&b'.') {
        return false;
    }
    let mut begins = 0;
    let mut at = 0;
    // Split at both encoded separators by hand: they are three bytes long.
    while at <= segment.len() {
        let is_separator = matches!(segment.get(at..at + 3), Some(b"%2F" | b"%5C"));
        if is_separator || at == segment.len() {
            let part = segment.get(begins..at).unwrap_or_default();
            let name = part.split(|&byte| byte == b';').next().unwrap_or_default();
            if matches!(name, b"." | b"..") {
                return true;
            }
            at += 3;
            begins = at;
        } else {
            at += 1;
        }
    }
    false
}

fn put_encoded(byte: u8, out: &mut Vec<u8>) {
    let digit = |value: u8| match value {
        0..=9 => b'0' + value,
        _ => b'A' + value - 10,
    };
    out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 15)]);
}

const BAD_TRIPLET: &str = "it holds a percent sign without two hexadecimal digits";

#[cfg(test)]
mod tests;
