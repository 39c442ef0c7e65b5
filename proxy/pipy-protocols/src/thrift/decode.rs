//! From bytes to messages: which protocol, framed or not, and where each ends.

use bytes::Bytes;

use super::scan::Scan;
use super::{Dialect, MESSAGE_BYTES_MAX, PROTOCOL, read};
use crate::input::{Cursor, Input};
use crate::{Error, Event, Object};

/// Reads one direction of a connection.
#[derive(Debug, Default)]
pub struct Decoder {
    input: Input,
    state: State,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Start,
    /// A frame of so many bytes.
    Frame(Dialect, usize),
    Unframed(Dialect, Scan),
}

impl Decoder {
    /// A decoder for calls and replies.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn malformed(&self, reason: impl Into<std::borrow::Cow<'static, str>>) -> Error {
        Error::malformed(PROTOCOL, self.input.position(), reason)
    }

    fn too_large(&self) -> Error {
        Error::TooLarge {
            protocol: PROTOCOL,
            position: self.input.position(),
            what: "a message in bytes",
            max: MESSAGE_BYTES_MAX as u64,
        }
    }

    /// What the first bytes of a message tell; `None` when they are too few.
    fn start(&mut self) -> Result<Option<State>, Error> {
        let unframed = |dialect| Ok(Some(State::Unframed(dialect, Scan::new(dialect))));
        match *self.input.peek() {
            [0x80, 0x01, ..] => unframed(Dialect::Binary),
            [0x80] => Ok(None),
            [0x82, ..] => unframed(Dialect::Compact),
            [first, ..] if first >= 0x80 => Err(self.malformed(format!("{first:#04x} starts no message"))),
            [a, b, c, d, e, ..] => {
                // A name's first byte is neither 0 nor one that a character cannot start with.
                let length = u32::from_be_bytes([a, b, c, d]) as usize;
                if length > MESSAGE_BYTES_MAX {
                    return Err(self.too_large());
                }
                let dialect = match e {
                    0x80 => Dialect::Binary,
                    0x82 => Dialect::Compact,
                    0 => Dialect::Old,
                    _ => return unframed(Dialect::Old),
                };
                self.input.skip(4);
                Ok(Some(State::Frame(dialect, length)))
            }
            _ => Ok(None),
        }
    }
}

impl crate::Decoder for Decoder {
    fn push(&mut self, data: Bytes, events: &mut Vec<Event>) -> Result<(), Error> {
        self.input.push(data);
        loop {
            let (dialect, length, framed) = match &mut self.state {
                State::Start => {
                    let Some(state) = self.start()? else { return Ok(()) };
                    self.state = state;
                    continue;
                }
                State::Frame(dialect, length) => {
                    if self.input.len() < *length {
                        return Ok(());
                    }
                    (*dialect, *length, true)
                }
                State::Unframed(dialect, scan) => {
                    match scan.go(self.input.peek()) {
                        Ok(true) => {}
                        Ok(false) if self.input.len() > MESSAGE_BYTES_MAX => return Err(self.too_large()),
                        Ok(false) => return Ok(()),
                        Err(reason) => {
                            let position = self.input.position() + scan.offset as u64;
                            return Err(Error::malformed(PROTOCOL, position, reason));
                        }
                    }
                    (*dialect, scan.offset, false)
                }
            };
            self.state = State::Start;
            let start = self.input.position();
            let cursor = Cursor::new(PROTOCOL, self.input.take(length), start);
            let payload = read::message(cursor, dialect)?;
            events.push(Event::Start(Object::new().with("framed", framed).into()));
            events.push(Event::end_with(payload));
        }
    }

    fn finish(&mut self, _: &mut Vec<Event>) -> Result<(), Error> {
        if self.input.is_empty() && matches!(self.state, State::Start) {
            return Ok(());
        }
        let position = self.input.position() + self.input.len() as u64;
        Err(Error::Truncated { protocol: PROTOCOL, position })
    }
}
