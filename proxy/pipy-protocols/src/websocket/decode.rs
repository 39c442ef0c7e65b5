//! From frames to messages.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::{BINARY, CLOSE, CONTINUATION, CONTROL_BYTES_MAX, PING, PONG, PROTOCOL, TEXT, may_be_sent};
use crate::input::Input;
use crate::utf8::Utf8;
use crate::{Error, Event, Object, Value};

/// LIMIT: control frames that wait for the end of a fragmented message. A peer that pings more often than
/// this within one message is up to something.
const WAITING_MAX: usize = 64;

/// Reads one direction of a connection.
#[derive(Debug, Default)]
pub struct Decoder {
    input: Input,
    frame: Option<Frame>,
    message: Option<Message>,
    waiting: VecDeque<[Event; 3]>,
    closed: bool,
}

/// A frame whose header was read.
#[derive(Debug, Clone, Copy)]
struct Frame {
    fin: bool,
    opcode: u8,
    mask: Option<[u8; 4]>,
    left: u64,
    /// How many bytes of the payload were read; the mask starts anew every four.
    done: u64,
}

/// A message of data, whose last fragment has not ended.
#[derive(Debug)]
struct Message {
    text: Option<Utf8>,
}

impl Decoder {
    /// A decoder of either side's frames.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn malformed(&self, reason: impl Into<std::borrow::Cow<'static, str>>) -> Error {
        Error::malformed(PROTOCOL, self.input.position(), reason)
    }

    /// A frame's header; false when it is not complete.
    fn header(&mut self, events: &mut Vec<Event>) -> Result<bool, Error> {
        let bytes = self.input.peek();
        let [first, second, rest @ ..] = bytes else { return Ok(false) };
        let (fin, rsv, opcode) = (first & 0x80 != 0, first & 0x70, first & 15);
        let (masked, short) = (second & 0x80 != 0, second & 0x7f);
        let is_control = opcode >= CLOSE;
        if self.closed {
            return Err(self.malformed("a frame after a close"));
        }
        if !matches!(opcode, CONTINUATION | TEXT | BINARY | CLOSE | PING | PONG) {
            return Err(self.malformed(format!("unknown opcode {opcode}")));
        }
        if rsv & 0x30 != 0 || (rsv != 0 && (is_control || opcode == CONTINUATION)) {
            return Err(self.malformed("reserved bits are set"));
        }
        if is_control && (!fin || usize::from(short) > CONTROL_BYTES_MAX) {
            return Err(self.malformed("a control frame is fragmented or longer than 125 bytes"));
        }
        if !is_control && (opcode == CONTINUATION) != self.message.is_some() {
            return Err(self.malformed(if opcode == CONTINUATION {
                "a continuation without a message"
            } else {
                "a message within a message"
            }));
        }
        let (length, mut size) = match (short, rest) {
            (126, [a, b, ..]) => (u64::from(u16::from_be_bytes([*a, *b])), 4),
            (127, [a, b, c, d, e, f, g, h, ..]) => (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), 10),
            (126 | 127, _) => return Ok(false),
            (short, _) => (u64::from(short), 2),
        };
        if (size == 4 && length < 126) || (size == 10 && (length < 0x1_0000 || length >> 63 != 0)) {
            return Err(self.malformed("a length is not in its shortest form"));
        }
        let mask = match (masked, bytes.get(size..).and_then(|rest| rest.first_chunk::<4>())) {
            (false, _) => None,
            (true, Some(mask)) => Some(*mask),
            (true, None) => return Ok(false),
        };
        size += if masked { 4 } else { 0 };
        self.input.skip(size);
        self.frame = Some(Frame { fin, opcode, mask, left: length, done: 0 });
        if matches!(opcode, TEXT | BINARY) {
            let mut head = Object::new().with("opcode", opcode).with("masked", masked);
            if rsv != 0 {
                head.set("rsv1", true);
            }
            self.message = Some(Message { text: (opcode == TEXT && rsv == 0).then(Utf8::default) });
            events.push(Event::Start(head.into()));
        }
        Ok(true)
    }

    /// Some of a data frame's payload; false when there is none.
    fn data(&mut self, mut frame: Frame, events: &mut Vec<Event>) -> Result<bool, Error> {
        if frame.left > 0 {
            if self.input.is_empty() {
                return Ok(false);
            }
            let position = self.input.position();
            let count = usize::try_from(frame.left).unwrap_or(usize::MAX);
            let data = unmask(self.input.take(count), frame.mask, frame.done);
            frame.left -= data.len() as u64;
            frame.done += data.len() as u64;
            if let Some(Message { text: Some(text) }) = &mut self.message
                && !text.push(&data)
            {
                return Err(Error::malformed(PROTOCOL, position, "a text is not UTF-8"));
            }
            events.push(Event::Data(data));
        }
        self.frame = Some(frame);
        if frame.left == 0 {
            self.frame = None;
            if frame.fin {
                if self
                    .message
                    .take()
                    .is_some_and(|message| message.text.is_some_and(|text| !text.is_complete()))
                {
                    return Err(self.malformed("a text ends within a character"));
                }
                events.push(Event::END);
                self.release(events);
            }
        }
        Ok(true)
    }

    fn release(&mut self, events: &mut Vec<Event>) {
        for event in self.waiting.drain(..).flatten() {
            if event != Event::Data(Bytes::new()) {
                events.push(event);
            }
        }
    }

    fn control(&mut self, frame: Frame, events: &mut Vec<Event>) -> Result<bool, Error> {
        let length = usize::try_from(frame.left).unwrap_or(usize::MAX);
        if self.input.len() < length {
            return Ok(false);
        }
        let data = unmask(self.input.take(length), frame.mask, 0);
        self.frame = None;
        let mut payload = None;
        if frame.opcode == CLOSE {
            self.closed = true;
            payload = self.close(&data)?;
        }
        let head = Object::new().with("opcode", frame.opcode).with("masked", frame.mask.is_some());
        self.waiting.push_back([
            Event::Start(head.into()),
            Event::Data(data),
            Event::End { tail: None, payload },
        ]);
        if self.message.is_none() {
            self.release(events);
        } else if self.waiting.len() > WAITING_MAX {
            let what = "control frames within a message";
            return Err(Error::TooLarge {
                protocol: PROTOCOL,
                position: self.input.position(),
                what,
                max: WAITING_MAX as u64,
            });
        }
        Ok(true)
    }

    fn close(&self, data: &Bytes) -> Result<Option<Value>, Error> {
        let Some((code, reason)) = data.split_first_chunk::<2>() else {
            return if data.is_empty() { Ok(None) } else { Err(self.malformed("a close of one byte")) };
        };
        let code = u16::from_be_bytes(*code);
        if !may_be_sent(code) {
            return Err(self.malformed(format!("a close with code {code}")));
        }
        let Ok(reason) = std::str::from_utf8(reason) else {
            return Err(self.malformed("the reason of a close is not UTF-8"));
        };
        Ok(Some(Object::new().with("code", code).with("reason", reason).into()))
    }
}

impl crate::Decoder for Decoder {
    fn push(&mut self, data: Bytes, events: &mut Vec<Event>) -> Result<(), Error> {
        self.input.push(data);
        loop {
            let went_on = match self.frame {
                None => self.header(events)?,
                Some(frame) if frame.opcode >= CLOSE => self.control(frame, events)?,
                Some(frame) => self.data(frame, events)?,
            };
            if !went_on {
                return Ok(());
            }
        }
    }

    fn finish(&mut self, _: &mut Vec<Event>) -> Result<(), Error> {
        if self.input.is_empty() && self.frame.is_none() && self.message.is_none() {
            return Ok(());
        }
        let position = self.input.position() + self.input.len() as u64;
        Err(Error::Truncated { protocol: PROTOCOL, position })
    }
}

/// Takes the mask off, in place where nobody else holds the bytes.
pub(super) fn unmask(data: Bytes, mask: Option<[u8; 4]>, done: u64) -> Bytes {
    let Some(mut mask) = mask else { return data };
    mask.rotate_left(usize::try_from(done & 3).unwrap_or_default());
    let mut data = data.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&*shared));
    let wide = u64::from(u32::from_ne_bytes(mask));
    let wide = wide | wide << 32;
    let (eights, rest) = data.as_chunks_mut::<8>();
    for eight in eights {
        *eight = (u64::from_ne_bytes(*eight) ^ wide).to_ne_bytes();
    }
    rest.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    data.freeze()
}
