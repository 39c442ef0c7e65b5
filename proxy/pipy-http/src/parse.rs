//! Start lines and header sections, from bytes that are known to be whole.
//!
//! In: a section through its empty line, every LF of it preceded by CR (`input.rs` saw to that).
//! Out: heads. Each check names the rule it enforces; nothing is repaired.
//!
//! Not done here: finding the end of the section, the meaning of framing headers (`framing.rs`).

use std::borrow::Cow;

use memchr::memchr;

use crate::authority::Authority;
use crate::chars::{is_tchar, is_text, is_visible, trim_ows};
use crate::error::shown;
use crate::headers::Entry;
use crate::{Headers, HttpError, Limits, Method, RequestHead, ResponseHead, Version, canonical_reason};

/// Reads a whole request head and checks its target against its Host.
pub(crate) fn parse_request_head(section: &[u8], limits: &Limits) -> Result<RequestHead, HttpError> {
    let (line, rest) = split_line(section);
    let (method, target, version) = parse_request_line(line, limits)?;
    let (target, headers) = (target.to_vec(), parse_headers(rest, limits)?);
    let head = RequestHead { method, target, version, scheme: None, headers };
    check_target_and_host(&head)?;
    Ok(head)
}

/// Reads a whole response head.
pub(crate) fn parse_response_head(section: &[u8], limits: &Limits) -> Result<ResponseHead, HttpError> {
    let (line, rest) = split_line(section);
    let (version, status, reason) = parse_status_line(line)?;
    let known = canonical_reason(status).as_bytes();
    let reason = if reason == known { Cow::Borrowed(known) } else { Cow::Owned(reason.to_vec()) };
    Ok(ResponseHead { status, reason, version, headers: parse_headers(rest, limits)? })
}

/// `method SP target SP version`, single spaces (RFC 9112 §3), without its CRLF.
pub(crate) fn parse_request_line<'a>(
    line: &'a [u8],
    limits: &Limits,
) -> Result<(Method, &'a [u8], Version), HttpError> {
    let malformed = || HttpError::InvalidRequestLine { found: shown(line) };
    let mut parts = line.splitn(3, |&byte| byte == b' ');
    let method = parts.next().unwrap_or_default();
    if method.is_empty() {
        return Err(malformed());
    }
    let method = Method::from_bytes(method)?;
    let target = parts.next().ok_or_else(malformed)?;
    match parts.next() {
        Some(version) => {
            let version = parse_version(version, malformed)?;
            let limit = limits.target_bytes_max;
            if target.len() > limit as usize {
                return Err(HttpError::TargetTooLong { limit });
            }
            check_target(&method, target)?;
            Ok((method, target, version))
        }
        // HTTP/0.9 is a method and a target, and nothing else.
        None if target.is_empty() => Err(malformed()),
        None => Err(HttpError::UnsupportedVersion { found: "HTTP/0.9".into() }),
    }
}

/// `version SP status SP reason` (RFC 9112 §4), without its CRLF. The second space may be missing
/// with the reason, as many servers write it: nothing is ambiguous about that.
pub(crate) fn parse_status_line(line: &[u8]) -> Result<(Version, u16, &[u8]), HttpError> {
    let malformed = || HttpError::InvalidStatusLine { found: shown(line) };
    let mut parts = line.splitn(3, |&byte| byte == b' ');
    let version = parse_version(parts.next().unwrap_or_default(), malformed)?;
    // RFC 9110 §15 defines 100 to 599, and knows that programs use the rest of three digits.
    let status = match parts.next() {
        Some([a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9']) => {
            u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0')
        }
        _ => return Err(malformed()),
    };
    let reason = parts.next().unwrap_or_default();
    if !is_text(reason) {
        return Err(control_byte_error(reason, malformed));
    }
    Ok((version, status, reason))
}

/// A header or trailer section through its empty line.
pub(crate) fn parse_headers(section: &[u8], limits: &Limits) -> Result<Headers, HttpError> {
    let lines = section.strip_suffix(b"\r\n").unwrap_or(section);
    if lines.is_empty() {
        return Ok(Headers::new());
    }
    // The whole section at once is cheaper than each value: where its only control bytes are the line ends there is
    // nothing to look for.
    let is_clean = is_text_but_line_ends(lines);
    let mut entries = Vec::with_capacity(ENTRIES_EXPECTED);
    let mut at = 0;
    while let Some(line) = lines.get(at..).filter(|rest| !rest.is_empty()) {
        if entries.len() >= limits.headers_max as usize {
            return Err(HttpError::TooManyHeaders { limit: limits.headers_max });
        }
        let name_len = line.iter().position(|&byte| !is_tchar(byte)).unwrap_or(line.len());
        let Some((name, [b':', after_colon @ ..])) = line.split_at_checked(name_len) else {
            return Err(name_error(line, name_len, entries.is_empty()));
        };
        if name.is_empty() {
            return Err(HttpError::InvalidHeaderName { found: "".into() });
        }
        let (raw_value, _) = split_line(after_colon);
        let value = trim_ows(raw_value);
        if !is_clean && !is_text(value) {
            return Err(control_byte_error(value, || HttpError::InvalidHeaderValue { name: shown(name) }));
        }
        let value_at = at + name_len + 1 + blanks_before(raw_value, value);
        entries.push(entry(at, name_len, value_at, value.len())?);
        at += name_len + 1 + raw_value.len() + 2;
    }
    Ok(Headers::from_parts(lines.to_vec(), entries))
}

/// Whether lines hold no control bytes but the CRLFs that end them. Says nothing about the first byte, which begins a name.
fn is_text_but_line_ends(lines: &[u8]) -> bool {
    let (last, next) = (lines.get(1..).unwrap_or_default(), lines.get(2..).unwrap_or_default());
    // A fold without an early exit, of bytes with their neighbours: the compiler makes vector code of it.
    let bad = lines.iter().zip(last).zip(next).fold(false, |bad, ((&previous, &byte), &next)| {
        let is_control = (byte < 0x20) & (byte != b'\t') | (byte == 0x7f);
        let is_end = (byte == b'\r') & (next == b'\n') | (byte == b'\n') & (previous == b'\r');
        bad | (is_control & !is_end)
    });
    !bad && lines.ends_with(b"\r\n")
}

/// The first line without its CRLF, and what follows it.
fn split_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1);
    let (line, rest) = bytes.split_at_checked(end).unwrap_or((bytes, b""));
    (line.strip_suffix(b"\r\n").unwrap_or(line), rest)
}

fn parse_version(version: &[u8], malformed: impl FnOnce() -> HttpError) -> Result<Version, HttpError> {
    match version {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        // A version, but another one. HTTP/1.2, which RFC 9110 §6.2 would treat as 1.1, does not
        // exist: whoever sends it is probing.
        [b'H', b'T', b'T', b'P', b'/', number @ ..]
            if !number.is_empty() && number.iter().all(|&byte| byte.is_ascii_digit() || byte == b'.') =>
        {
            Err(HttpError::UnsupportedVersion { found: shown(version) })
        }
        _ => Err(malformed()),
    }
}

/// One of the four forms, and the one that the method asks for (RFC 9112 §3.2).
pub(crate) fn check_target(method: &Method, target: &[u8]) -> Result<(), HttpError> {
    let invalid = |why| Err(HttpError::InvalidTarget { found: shown(target), why });
    if !is_visible(target) {
        return invalid("it holds bytes other than visible ascii");
    }
    if memchr(b'#', target).is_some() {
        return invalid("it holds a fragment");
    }
    match (method, target) {
        (_, []) => invalid("it is empty"),
        (Method::Connect, _) => match Authority::parse(target) {
            Some(Authority { port: Some(1..), .. }) => Ok(()),
            _ => invalid("connect asks for host:port"),
        },
        (_, [b'/', ..]) | (Method::Options, b"*") => Ok(()),
        (_, b"*") => invalid("only options asks for *"),
        _ => match crate::authority::AbsoluteForm::split(target) {
            Some(form) if Authority::parse(form.authority).is_some() => Ok(()),
            Some(_) => invalid("its authority is not a host with an optional port"),
            None => invalid("expected a path or an http or https address"),
        },
    }
}

/// RFC 9112 §3.2: exactly one valid Host in HTTP/1.1; and it must not contradict the target,
/// because one reader routes by the one and another by the other.
fn check_target_and_host(head: &RequestHead) -> Result<(), HttpError> {
    let mut hosts = head.headers.get_all("host");
    let host = match (hosts.next(), hosts.next()) {
        (_, Some(_)) => return Err(HttpError::DuplicateHost),
        (None, None) if head.version == Version::Http11 => return Err(HttpError::MissingHost),
        (None, None) => return Ok(()),
        (Some(host), None) => host,
    };
    let target = head.target_authority();
    // RFC 9112 §3.2: an empty Host says that the target has no authority.
    if host.is_empty() && target.is_none() {
        return Ok(());
    }
    let invalid = || HttpError::InvalidHost { found: shown(host) };
    let host_authority = Authority::parse(host).ok_or_else(invalid)?;
    let Some((target, default_port)) = target else { return Ok(()) };
    let agrees = Authority::parse(target).is_some_and(|authority| {
        // Some clients leave the port out of the Host of a CONNECT.
        let without_port = head.method == Method::Connect && host_authority.port.is_none();
        let authority = if without_port { Authority { port: None, ..authority } } else { authority };
        authority.agrees_with(&host_authority, default_port)
    });
    if agrees {
        return Ok(());
    }
    Err(HttpError::HostMismatch { host: shown(host), target: shown(target) })
}

/// Says what is wrong with a line whose name is not followed by a colon.
fn name_error(line: &[u8], name_len: usize, is_first: bool) -> HttpError {
    let name = line.get(..name_len).unwrap_or_default();
    match line.get(name_len) {
        Some(b' ' | b'\t') if name.is_empty() && is_first => HttpError::LeadingWhitespace,
        Some(b' ' | b'\t') if name.is_empty() => HttpError::FoldedHeader,
        Some(b' ' | b'\t') => HttpError::WhitespaceBeforeColon { name: shown(name) },
        Some(b'\r') if line.get(name_len + 1) == Some(&b'\n') => {
            HttpError::MissingColon { found: shown(name) }
        }
        Some(b'\r') => HttpError::BareCr,
        _ => HttpError::InvalidHeaderName { found: shown(line.get(..=name_len).unwrap_or(name)) },
    }
}

/// A CR inside a line is worth its own word: it is what smuggling looks like.
fn control_byte_error(bytes: &[u8], otherwise: impl FnOnce() -> HttpError) -> HttpError {
    if memchr(b'\r', bytes).is_some() { HttpError::BareCr } else { otherwise() }
}

fn blanks_before(raw: &[u8], trimmed: &[u8]) -> usize {
    if trimmed.is_empty() {
        return 0;
    }
    raw.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count()
}

fn entry(name_at: usize, name_len: usize, value_at: usize, value_len: usize) -> Result<Entry, HttpError> {
    let place = |at| u32::try_from(at).map_err(|_| HttpError::HeadTooLarge { limit: u32::MAX });
    Ok(Entry {
        name_start: place(name_at)?,
        name_end: place(name_at + name_len)?,
        value_start: place(value_at)?,
        value_end: place(value_at + value_len)?,
    })
}

/// Room for the headers of most messages without growing: 256 bytes.
const ENTRIES_EXPECTED: usize = 16;

#[cfg(test)]
mod tests;
