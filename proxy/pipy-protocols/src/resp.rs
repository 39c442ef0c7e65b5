//! RESP, the protocol of Redis: versions 2 and 3, and inline commands.
//!
//! The payload of a message is the value: simple string → string, bulk string → `Data`, integer → number,
//! error → `Error`, null → `null`, array → array; of version 3 boolean, double, map → `Map`, set → `Set`,
//! big number → number, or string where it does not fit; verbatim string → `Data` without its format.
//! The head is `{protocol: 2 | 3}`, by what was seen so far, with `type: 'push'` for messages that the
//! server sends unasked. Attributes are read and dropped.
//!
//! Invariants: depth, elements and bytes of a value are bounded; nesting uses no stack of the thread.
//!
//! Not done here: streamed strings and aggregates (`$?`), which no server sends; which reply belongs to
//! which command.

mod encode;
#[cfg(test)]
mod tests;

use bytes::Bytes;

use crate::input::Input;
use crate::{Error, Event, Object, Value};
pub use encode::{Encoder, encode};

const PROTOCOL: &str = "RESP";

/// LIMIT: bytes of a line: a simple string, a number, an inline command. Redis has the same.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// LIMIT: bytes of a bulk string; Redis' `proto-max-bulk-len` by default.
const BULK_BYTES_MAX: usize = 512 * 1024 * 1024;
/// LIMIT: elements of all aggregates of one message; Redis takes 2²⁰ arguments.
const ELEMENTS_MAX: usize = 1024 * 1024;
/// LIMIT: aggregates within each other. Replies of Redis itself stay below ten.
const DEPTH_MAX: usize = 64;

/// Reads one direction of a connection.
#[derive(Debug)]
pub struct Decoder {
    input: Input,
    /// Aggregates that are not complete, outermost first.
    open: Vec<Open>,
    /// Bytes of the bulk string that is being read, and whether it is verbatim.
    bulk: Option<(usize, Bulk)>,
    /// How far the waiting bytes were searched for the end of a line.
    searched: usize,
    elements: usize,
    protocol: u8,
    bulk_bytes_max: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Bulk {
    String,
    Error,
    Verbatim,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Array,
    Map,
    Set,
    Push,
    Attribute,
}

#[derive(Debug)]
struct Open {
    kind: Kind,
    missing: usize,
    values: Vec<Value>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// A decoder for commands and replies.
    #[must_use]
    pub fn new() -> Self {
        Self::with_bulk_limit(BULK_BYTES_MAX)
    }

    /// The same, that refuses bulk strings of more than so many bytes.
    #[must_use]
    pub fn with_bulk_limit(bulk_bytes_max: usize) -> Self {
        Self {
            input: Input::new(),
            open: Vec::new(),
            bulk: None,
            searched: 0,
            elements: 0,
            protocol: 2,
            bulk_bytes_max,
        }
    }

    fn malformed(&self, reason: String) -> Error {
        Error::malformed(PROTOCOL, self.input.position(), reason)
    }

    fn too_large(&self, what: &'static str, max: usize) -> Error {
        Error::TooLarge { protocol: PROTOCOL, position: self.input.position(), what, max: max as u64 }
    }

    /// A line without its end; `None` when it is not complete.
    fn line(&mut self) -> Result<Option<Bytes>, Error> {
        let bytes = self.input.peek();
        let Some(found) = memchr::memchr(b'\n', bytes.get(self.searched..).unwrap_or_default()) else {
            self.searched = bytes.len();
            if self.searched > LINE_BYTES_MAX {
                return Err(self.too_large("a line in bytes", LINE_BYTES_MAX));
            }
            return Ok(None);
        };
        let length = self.searched + found;
        if length > LINE_BYTES_MAX {
            return Err(self.too_large("a line in bytes", LINE_BYTES_MAX));
        }
        // Inline commands may end in a bare line feed; all others may not.
        let first = bytes.first().copied().unwrap_or_default();
        let end = match length.checked_sub(1).and_then(|at| bytes.get(at)) {
            Some(b'\r') => length - 1,
            _ if is_inline(first) => length,
            _ => return Err(self.malformed("a line ends without a carriage return".into())),
        };
        if !is_inline(first) && memchr::memchr(b'\r', bytes.get(..end).unwrap_or_default()).is_some() {
            return Err(self.malformed("a carriage return within a line".into()));
        }
        self.searched = 0;
        let mut line = self.input.take(length + 1);
        line.truncate(end);
        Ok(Some(line))
    }

    fn number(&self, text: &[u8], what: &str) -> Result<i64, Error> {
        let digits = text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text);
        std::str::from_utf8(text)
            .ok()
            .filter(|_| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit))
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| self.malformed(format!("{what} is {:?}", text.escape_ascii().to_string())))
    }

    fn text(&self, text: &[u8]) -> Result<String, Error> {
        match std::str::from_utf8(text) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(self.malformed("a line is not UTF-8".into())),
        }
    }

    /// What a line says: a value, or the start of something larger.
    fn start(&mut self, line: &Bytes) -> Result<Option<Value>, Error> {
        let Some((&kind, rest)) = line.split_first() else { return Ok(None) };
        if matches!(kind, b'_' | b'#' | b',' | b'(' | b'!' | b'=' | b'%' | b'~' | b'>' | b'|') {
            self.protocol = 3;
        }
        let value = match kind {
            b'+' => self.text(rest)?.into(),
            b'-' => Value::Error(self.text(rest)?),
            b':' => self.number(rest, "an integer")?.into(),
            b'_' if rest.is_empty() => Value::Null,
            b'#' if rest == b"t" => true.into(),
            b'#' if rest == b"f" => false.into(),
            b',' => self.double(rest)?.into(),
            b'(' => match self.number(rest, "a big number") {
                Ok(number) => number.into(),
                Err(_)
                    if rest.strip_prefix(b"-").unwrap_or(rest).iter().all(u8::is_ascii_digit)
                        && rest.len() > 1 =>
                {
                    self.text(rest)?.into()
                }
                Err(error) => return Err(error),
            },
            b'$' | b'!' | b'=' => {
                let bulk = match kind {
                    b'$' => Bulk::String,
                    b'!' => Bulk::Error,
                    _ => Bulk::Verbatim,
                };
                match self.length(rest, "a bulk string in bytes", self.bulk_bytes_max)? {
                    Some(length) => {
                        self.bulk = Some((length, bulk));
                        return Ok(None);
                    }
                    None => Value::Null,
                }
            }
            b'*' | b'%' | b'~' | b'>' | b'|' => {
                let Some(count) = self.length(rest, "elements", ELEMENTS_MAX)? else {
                    return Ok(Some(Value::Null));
                };
                return self.aggregate(kind, count);
            }
            _ if is_inline(kind) && self.open.is_empty() => return self.inline(line),
            _ => {
                return Err(self.malformed(format!("{:?} starts no value", line.escape_ascii().to_string())));
            }
        };
        Ok(Some(value))
    }

    fn length(&self, text: &[u8], what: &'static str, max: usize) -> Result<Option<usize>, Error> {
        match self.number(text, "a length")? {
            -1 => Ok(None),
            length => match usize::try_from(length) {
                Ok(length) if length <= max => Ok(Some(length)),
                Ok(_) => Err(self.too_large(what, max)),
                Err(_) => Err(self.malformed(format!("a length of {length}"))),
            },
        }
    }

    fn aggregate(&mut self, kind: u8, count: usize) -> Result<Option<Value>, Error> {
        let (kind, missing) = match kind {
            b'%' => (Kind::Map, count * 2),
            b'|' => (Kind::Attribute, count * 2),
            b'~' => (Kind::Set, count),
            b'>' if self.open.is_empty() => (Kind::Push, count),
            b'>' => return Err(self.malformed("a push within a value".into())),
            _ => (Kind::Array, count),
        };
        self.elements += missing;
        if self.elements > ELEMENTS_MAX {
            return Err(self.too_large("elements", ELEMENTS_MAX));
        }
        if self.open.len() >= DEPTH_MAX {
            return Err(self.too_large("depth", DEPTH_MAX));
        }
        // WHY: no room is reserved on a peer's word; it comes with the elements.
        self.open.push(Open { kind, missing, values: Vec::new() });
        Ok(None)
    }

    fn double(&self, text: &[u8]) -> Result<f64, Error> {
        let parsed = match text {
            b"inf" => Some(f64::INFINITY),
            b"-inf" => Some(f64::NEG_INFINITY),
            b"nan" => Some(f64::NAN),
            _ if text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E')) => {
                std::str::from_utf8(text).ok().and_then(|text| text.parse().ok())
            }
            _ => None,
        };
        parsed.ok_or_else(|| self.malformed(format!("a double is {:?}", text.escape_ascii().to_string())))
    }

    /// A command as people type it: words between blanks, with quotes.
    fn inline(&self, line: &[u8]) -> Result<Option<Value>, Error> {
        let mut words: Vec<Value> = Vec::new();
        let mut bytes = line.iter().copied().peekable();
        while let Some(first) = bytes.find(|byte| !matches!(byte, b' ' | b'\t')) {
            let mut word = Vec::new();
            let quote = if matches!(first, b'"' | b'\'') { Some(first) } else { None };
            if quote.is_none() {
                word.push(first);
            }
            let mut closed = quote.is_none();
            while let Some(byte) = bytes.next() {
                match (byte, quote) {
                    (b' ' | b'\t', None) => break,
                    (byte, Some(quote)) if byte == quote => {
                        closed = bytes.peek().is_none_or(|next| matches!(next, b' ' | b'\t'));
                        break;
                    }
                    (b'\\', Some(b'"')) => word.push(match bytes.next() {
                        Some(b'n') => b'\n',
                        Some(b'r') => b'\r',
                        Some(b't') => b'\t',
                        Some(byte) => byte,
                        None => break,
                    }),
                    (byte, _) => word.push(byte),
                }
            }
            if !closed {
                return Err(self.malformed("a quote of an inline command is not closed".into()));
            }
            words.push(Bytes::from(word).into());
        }
        Ok(if words.is_empty() { None } else { Some(words.into()) })
    }

    /// Puts a value where it belongs; gives a message when it is complete.
    fn complete(&mut self, mut value: Option<Value>) -> Option<(Object, Value)> {
        loop {
            let head = Object::new().with("protocol", self.protocol);
            let Some(open) = self.open.last_mut() else {
                self.elements = 0;
                return value.map(|value| (head, value));
            };
            if let Some(value) = value.take() {
                open.values.push(value);
                open.missing = open.missing.saturating_sub(1);
            }
            if open.missing > 0 {
                return None;
            }
            let Open { kind, values, .. } = self.open.pop()?;
            value = match kind {
                Kind::Array => Some(values.into()),
                Kind::Set => Some(Value::Set(values)),
                Kind::Map => Some(Value::Map(pairs(values))),
                Kind::Push => {
                    self.elements = 0;
                    return Some((head.with("type", "push"), values.into()));
                }
                // The value that it describes comes next, and takes its place.
                Kind::Attribute => return None,
            };
        }
    }
}

impl crate::Decoder for Decoder {
    fn push(&mut self, data: Bytes, events: &mut Vec<Event>) -> Result<(), Error> {
        self.input.push(data);
        loop {
            let value = if let Some((length, bulk)) = self.bulk {
                let bytes = self.input.peek();
                if bytes.len() < length + 2 {
                    return Ok(());
                }
                if bytes.get(length..length + 2) != Some(b"\r\n") {
                    return Err(self.malformed(format!("a string of {length} bytes does not end there")));
                }
                self.bulk = None;
                let mut string = self.input.take(length);
                self.input.skip(2);
                match bulk {
                    Bulk::String => Some(string.into()),
                    Bulk::Error => Some(Value::Error(self.text(&string)?)),
                    Bulk::Verbatim if string.get(3) == Some(&b':') => Some(string.split_off(4).into()),
                    Bulk::Verbatim => return Err(self.malformed("a verbatim string without format".into())),
                }
            } else {
                let Some(line) = self.line()? else { return Ok(()) };
                self.start(&line)?
            };
            if self.bulk.is_some() {
                continue;
            }
            if let Some((head, value)) = self.complete(value) {
                events.push(Event::Start(head.into()));
                events.push(Event::end_with(value));
            }
        }
    }

    fn finish(&mut self, _: &mut Vec<Event>) -> Result<(), Error> {
        if self.input.is_empty() && self.open.is_empty() && self.bulk.is_none() {
            return Ok(());
        }
        let position = self.input.position() + self.input.len() as u64;
        Err(Error::Truncated { protocol: PROTOCOL, position })
    }
}

/// All values of some bytes, which are complete.
///
/// # Errors
///
/// When they are not RESP, or end within a value.
pub fn decode(bytes: Bytes) -> Result<Vec<Value>, Error> {
    let (mut decoder, mut events) = (Decoder::new(), Vec::new());
    crate::Decoder::push(&mut decoder, bytes, &mut events)?;
    crate::Decoder::finish(&mut decoder, &mut events)?;
    let payload = |event| if let Event::End { payload, .. } = event { payload } else { None };
    Ok(events.into_iter().filter_map(payload).collect())
}

const fn is_inline(first: u8) -> bool {
    first.is_ascii_alphanumeric() || matches!(first, b' ' | b'\t' | b'\r' | b'\n' | b'"' | b'\'')
}

fn pairs(values: Vec<Value>) -> Vec<(Value, Value)> {
    let mut values = values.into_iter();
    let mut pairs = Vec::with_capacity(values.len() / 2);
    while let (Some(key), Some(value)) = (values.next(), values.next()) {
        pairs.push((key, value));
    }
    pairs
}
