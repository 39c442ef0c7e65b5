//! Where a body ends: counted, chunked, or with the connection (RFC 9112 §6 and §7.1).
//!
//! In: an [`Input`] after the head was taken from it. Out: slices of data as they were pushed,
//! then the end, with trailers if a chunked body has some.
//!
//! ```text
//! Length(n) ──n bytes──────────────────────────────► End
//! UntilClose ──every byte──EOF─────────────────────► End
//! Size ──"a0;ext" CRLF──► Data ──n bytes──► DataCr ──CR──► DataLf ──LF──► Size
//!   └────"0" CRLF───────► Trailers ──blank line────► End
//! ```
//!
//! Trailers that would frame, route or authenticate a message if some later hop merged them into
//! its head (RFC 9110 §6.5.1) do not pass: the ones nobody sends honestly (framing and routing)
//! are refused, the others are dropped, which the RFC allows for any trailer.
//!
//! Not done here: which length a message has (`framing.rs`).

use bytes::Bytes;

use crate::chars::{hex_value, is_text};
use crate::error::shown;
use crate::input::{Input, SearchError, Until};
use crate::parse::parse_headers;
use crate::{Headers, HttpError, Limits};

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// There is no body, and no length is announced: a request without framing headers; a response
    /// to HEAD, a 1xx, 204 or 304, a 2xx to CONNECT.
    None,
    /// So many bytes. `Length(0)` announces an empty body and is not the same as `None`.
    Length(u64),
    /// Chunks, and perhaps trailers.
    Chunked,
    /// All bytes until the server closes the connection. Responses only.
    UntilClose,
}

/// What a body gives next.
#[derive(Debug)]
pub(crate) enum BodyItem {
    Data(Bytes),
    End(Option<Headers>),
}

/// The state of a body that is being read.
#[derive(Debug)]
pub(crate) enum BodyDecoder {
    Length(u64),
    Chunked { phase: ChunkPhase, extension_bytes: u32 },
    UntilClose,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChunkPhase {
    Size,
    Data(u64),
    DataCr,
    DataLf,
    Trailers,
}

impl BodyDecoder {
    pub(crate) fn new(length: BodyLength) -> Self {
        match length {
            BodyLength::None => Self::Length(0),
            BodyLength::Length(bytes) => Self::Length(bytes),
            BodyLength::Chunked => Self::Chunked { phase: ChunkPhase::Size, extension_bytes: 0 },
            BodyLength::UntilClose => Self::UntilClose,
        }
    }

    /// The next item; `None` when more bytes are needed.
    pub(crate) fn next(&mut self, input: &mut Input, limits: &Limits) -> Result<Option<BodyItem>, HttpError> {
        match self {
            Self::Length(0) => Ok(Some(BodyItem::End(None))),
            Self::Length(remaining) => match input.take_data(*remaining) {
                Some(data) => {
                    *remaining -= data.len() as u64;
                    Ok(Some(BodyItem::Data(data)))
                }
                None => starved(input, "a body of known length"),
            },
            Self::UntilClose => match input.take_data(u64::MAX) {
                Some(data) => Ok(Some(BodyItem::Data(data))),
                None if input.is_ended() => Ok(Some(BodyItem::End(None))),
                None => Ok(None),
            },
            Self::Chunked { phase, extension_bytes } => next_of_chunks(phase, extension_bytes, input, limits),
        }
    }
}

fn next_of_chunks(
    phase: &mut ChunkPhase,
    extension_bytes: &mut u32,
    input: &mut Input,
    limits: &Limits,
) -> Result<Option<BodyItem>, HttpError> {
    loop {
        *phase = match *phase {
            ChunkPhase::Size => {
                let limit = limits.chunk_line_bytes_max;
                let line = input.take_piece(Until::LineEnd, limit).map_err(|error| match error {
                    SearchError::BareLf => HttpError::BareLf,
                    SearchError::TooLong => HttpError::ChunkLineTooLong { limit },
                })?;
                let Some(line) = line else { return starved(input, "a chunk size") };
                let (size, extension) = parse_chunk_line(&line)?;
                *extension_bytes = extension_bytes.saturating_add(extension);
                if *extension_bytes > limits.chunk_extension_bytes_max {
                    return Err(HttpError::ChunkExtensionsTooLarge {
                        limit: limits.chunk_extension_bytes_max,
                    });
                }
                if size == 0 { ChunkPhase::Trailers } else { ChunkPhase::Data(size) }
            }
            ChunkPhase::Data(remaining) => {
                let Some(data) = input.take_data(remaining) else {
                    return starved(input, "chunk data");
                };
                *phase = match remaining - data.len() as u64 {
                    0 => ChunkPhase::DataCr,
                    rest => ChunkPhase::Data(rest),
                };
                return Ok(Some(BodyItem::Data(data)));
            }
            ChunkPhase::DataCr => match input.peek() {
                None => return starved(input, "the end of a chunk"),
                Some(b'\r') => ChunkPhase::DataLf,
                Some(_) => return Err(HttpError::MissingChunkEnd),
            }
            .after_one_byte_of(input),
            ChunkPhase::DataLf => match input.peek() {
                None => return starved(input, "the end of a chunk"),
                Some(b'\n') => ChunkPhase::Size,
                Some(_) => return Err(HttpError::MissingChunkEnd),
            }
            .after_one_byte_of(input),
            ChunkPhase::Trailers => {
                let limit = limits.trailer_bytes_max;
                let section = input.take_piece(Until::BlankLine, limit).map_err(|error| match error {
                    SearchError::BareLf => HttpError::BareLf,
                    SearchError::TooLong => HttpError::TrailersTooLarge { limit },
                })?;
                return match section {
                    Some(section) => Ok(Some(BodyItem::End(parse_trailers(&section, limits)?))),
                    None => starved(input, "the trailer section"),
                };
            }
        }
    }
}

impl ChunkPhase {
    fn after_one_byte_of(self, input: &mut Input) -> Self {
        input.skip_one();
        self
    }
}

/// Nothing to read: wait, or, after the end of the connection, fail.
fn starved<T>(input: &Input, part: &'static str) -> Result<Option<T>, HttpError> {
    if input.is_ended() { Err(HttpError::Truncated { part }) } else { Ok(None) }
}

/// A chunk-size line with its CRLF: the size and the bytes of its extensions (RFC 9112 §7.1).
///
/// Blanks after the size, which some readers skip, are refused. Extensions are looked at only so
/// far as they must not hold control bytes (a CR in one has been used to smuggle); no hop
/// understands any, so they are not passed on (RFC 9112 §7.1.1).
fn parse_chunk_line(line: &[u8]) -> Result<(u64, u32), HttpError> {
    let line = line.strip_suffix(b"\r\n").unwrap_or(line);
    let invalid = || HttpError::InvalidChunkSize { found: shown(line) };
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    // 16 digits fill 64 bits; more, be they zeros, wrap round in careless readers.
    if digits == 0 || digits > 16 {
        return Err(invalid());
    }
    let (digits, extension) = line.split_at_checked(digits).ok_or_else(invalid)?;
    let size = digits
        .iter()
        .filter_map(|&byte| hex_value(byte))
        .fold(0u64, |size, digit| (size << 4) | u64::from(digit));
    match extension {
        [] => Ok((size, 0)),
        [b';', ..] if is_text(extension) => Ok((size, u32::try_from(extension.len()).unwrap_or(u32::MAX))),
        [b';', ..] => Err(HttpError::InvalidChunkExtension),
        _ => Err(invalid()),
    }
}

fn parse_trailers(section: &[u8], limits: &Limits) -> Result<Option<Headers>, HttpError> {
    let mut trailers = parse_headers(section, limits)?;
    if let Some((name, _)) = trailers.iter().find(|(name, _)| is_refused_trailer(name)) {
        return Err(HttpError::ForbiddenTrailer { name: shown(name) });
    }
    trailers.retain(|name, _| !is_dropped_trailer(name));
    Ok((!trailers.is_empty()).then_some(trailers))
}

/// Framing, routing and connection fields: as trailers they are an attempt, not a mistake.
pub(crate) fn is_refused_trailer(name: &[u8]) -> bool {
    contains(
        name,
        &[
            b"connection",
            b"content-length",
            b"host",
            b"keep-alive",
            b"proxy-connection",
            b"te",
            b"trailer",
            b"transfer-encoding",
            b"upgrade",
        ],
    )
}

/// Fields that authenticate, choose or describe a message that has been handled by the time the
/// trailers come (RFC 9110 §6.5.1: request modifiers, authentication, response control, content
/// format). Careless senders do send some: dropping them is safe and breaks nobody.
pub fn is_dropped_trailer(name: &[u8]) -> bool {
    contains(
        name,
        &[
            b"age",
            b"authorization",
            b"cache-control",
            b"content-encoding",
            b"content-range",
            b"content-type",
            b"cookie",
            b"date",
            b"expect",
            b"expires",
            b"forwarded",
            b"if-match",
            b"if-modified-since",
            b"if-none-match",
            b"if-range",
            b"if-unmodified-since",
            b"location",
            b"max-forwards",
            b"pragma",
            b"proxy-authenticate",
            b"proxy-authorization",
            b"range",
            b"retry-after",
            b"set-cookie",
            b"vary",
            b"via",
            b"warning",
            b"www-authenticate",
            b"x-forwarded-for",
            b"x-forwarded-host",
            b"x-forwarded-port",
            b"x-forwarded-proto",
            b"x-real-ip",
        ],
    )
}

fn contains(name: &[u8], names: &[&[u8]]) -> bool {
    names.iter().any(|known| name.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests;
