//! From messages to frames.
//!
//! A message that is complete with its first piece of data is one frame; of a longer one each piece is a
//! fragment, so that nothing waits for the end. Masks are not made here, for there is no chance here:
//! whoever makes an encoder says where they come from (RFC 6455 §5.3: from a strong source).

use bytes::{BufMut, Bytes, BytesMut};

use super::decode::unmask;
use super::{BINARY, CLOSE, CONTINUATION, CONTROL_BYTES_MAX, PING, PONG, PROTOCOL, TEXT, may_be_sent};
use crate::{Error, Event, Value};

/// Writes one direction of a connection.
pub struct Encoder {
    mask: Box<dyn FnMut() -> [u8; 4]>,
    message: Option<Message>,
}

struct Message {
    opcode: u8,
    masked: bool,
    rsv1: bool,
    /// The last piece, which may turn out to be the last of all.
    held: Option<Bytes>,
    is_first: bool,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Encoder").finish_non_exhaustive()
    }
}

impl Encoder {
    /// An encoder that asks `mask` for the mask of each frame whose head says `masked: true`.
    #[must_use]
    pub fn new(mask: impl FnMut() -> [u8; 4] + 'static) -> Self {
        Self { mask: Box::new(mask), message: None }
    }

    fn frame(&mut self, message: &Message, fin: bool, data: Bytes, output: &mut Vec<Bytes>) {
        let opcode = if message.is_first { message.opcode } else { CONTINUATION };
        let rsv1 = message.rsv1 && message.is_first;
        let mask_bit = u8::from(message.masked) << 7;
        let mut head = BytesMut::with_capacity(14);
        head.put_u8(u8::from(fin) << 7 | u8::from(rsv1) << 6 | opcode);
        match data.len() {
            length @ 0..126 => head.put_u8(mask_bit | u8::try_from(length).unwrap_or_default()),
            length @ 126..0x1_0000 => {
                head.put_u8(mask_bit | 126);
                head.put_u16(u16::try_from(length).unwrap_or_default());
            }
            length => {
                head.put_u8(mask_bit | 127);
                head.put_u64(length as u64);
            }
        }
        let mask = message.masked.then(|| (self.mask)());
        head.put_slice(mask.as_ref().map_or(&[], |mask| &mask[..]));
        output.push(head.freeze());
        if !data.is_empty() {
            output.push(unmask(data, mask, 0));
        }
    }

    fn start(head: &Value) -> Result<Message, Error> {
        let opcode = head.get("opcode").map_or(Some(i64::from(BINARY)), Value::as_int);
        let Some(opcode) = opcode
            .and_then(|opcode| u8::try_from(opcode).ok())
            .filter(|opcode| matches!(*opcode, TEXT | BINARY | CLOSE | PING | PONG))
        else {
            return Err(Error::unencodable(PROTOCOL, "opcode is none of 1, 2, 8, 9 and 10"));
        };
        let flag = |key| head.get(key).is_some_and(Value::is_truthy);
        Ok(Message { opcode, masked: flag("masked"), rsv1: flag("rsv1"), held: None, is_first: true })
    }

    fn end(
        &mut self,
        mut message: Message,
        payload: Option<&Value>,
        output: &mut Vec<Bytes>,
    ) -> Result<(), Error> {
        let mut data = message.held.take().unwrap_or_default();
        if message.opcode == CLOSE && data.is_empty() {
            data = close(payload)?;
        }
        if message.opcode >= CLOSE && data.len() > CONTROL_BYTES_MAX {
            return Err(Error::unencodable(PROTOCOL, "a control frame of more than 125 bytes"));
        }
        self.frame(&message, true, data, output);
        Ok(())
    }
}

impl crate::Encoder for Encoder {
    fn push(&mut self, event: Event, output: &mut Vec<Bytes>) -> Result<(), Error> {
        match event {
            Event::Start(head) => self.message = Some(Self::start(&head)?),
            Event::Data(data) if !data.is_empty() => {
                let Some(mut message) = self.message.take() else { return Ok(()) };
                message.held = match message.held.take() {
                    // A control frame cannot be fragmented.
                    Some(held) if message.opcode >= CLOSE => Some([held, data].concat().into()),
                    Some(held) => {
                        self.frame(&message, false, held, output);
                        message.is_first = false;
                        Some(data)
                    }
                    None => Some(data),
                };
                let too_long = message.held.as_ref().is_some_and(|held| held.len() > CONTROL_BYTES_MAX);
                if message.opcode >= CLOSE && too_long {
                    return Err(Error::unencodable(PROTOCOL, "a control frame of more than 125 bytes"));
                }
                self.message = Some(message);
            }
            Event::Data(_) => {}
            Event::End { payload, .. } => {
                if let Some(message) = self.message.take() {
                    self.end(message, payload.as_ref(), output)?;
                }
            }
        }
        Ok(())
    }
}

/// The body of a close that a script gave as `{code, reason}`.
fn close(payload: Option<&Value>) -> Result<Bytes, Error> {
    let Some(code) = payload.and_then(|payload| payload.get("code")) else { return Ok(Bytes::new()) };
    let Some(code) =
        code.as_int().and_then(|code| u16::try_from(code).ok()).filter(|code| may_be_sent(*code))
    else {
        return Err(Error::unencodable(PROTOCOL, "the code of a close is not one that may be sent"));
    };
    let reason =
        payload.and_then(|payload| payload.get("reason")).and_then(Value::as_str).unwrap_or_default();
    Ok([&code.to_be_bytes()[..], reason.as_bytes()].concat().into())
}
