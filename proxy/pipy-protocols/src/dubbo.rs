//! Dubbo's framing: sixteen bytes of head before each message.
//!
//! Heads are `{requestID, isRequest, isTwoWay, isEvent, serializationType, status}`; the body is what the
//! serialization made, mostly Hessian 2 (see [`crate::hessian`]), and passes as it arrives.
//!
//! Not done here: which response belongs to which request.

use bytes::{BufMut, Bytes, BytesMut};

use crate::codec::{Gather, Whole};
use crate::input::Input;
use crate::{Error, Event, Object, Value};

const PROTOCOL: &str = "Dubbo";
const HEAD_BYTES: usize = 16;
const MAGIC: u16 = 0xdabb;
/// LIMIT: bytes of a body, when writing: a message's length comes first, so all of it is gathered. Dubbo's
/// own limit, `payload`, is 8 MiB by default.
const BODY_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Hessian 2, what nearly everybody uses.
const HESSIAN2: u8 = 2;
/// The status of a response that is not an error.
const OK: u8 = 20;

/// Reads one direction of a connection.
#[derive(Debug, Default)]
pub struct Decoder {
    input: Input,
    /// Bytes that are left of a body, while there is a message.
    body: Option<usize>,
}

impl Decoder {
    /// A decoder for requests and responses.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn head(&mut self) -> Result<Option<(Value, usize)>, Error> {
        let position = self.input.position();
        let Some(head) = self.input.peek().first_chunk::<HEAD_BYTES>() else {
            let magic = MAGIC.to_be_bytes();
            return if self.input.peek().iter().zip(&magic).all(|(is, ought)| is == ought) {
                Ok(None)
            } else {
                Err(Error::malformed(PROTOCOL, position, "a message does not start with da bb"))
            };
        };
        let [m0, m1, flags, status, rest @ ..] = *head;
        let [i0, i1, i2, i3, i4, i5, i6, i7, l0, l1, l2, l3] = rest;
        if u16::from_be_bytes([m0, m1]) != MAGIC {
            return Err(Error::malformed(PROTOCOL, position, "a message does not start with da bb"));
        }
        let head = Object::new()
            .with("requestID", i64::from_be_bytes([i0, i1, i2, i3, i4, i5, i6, i7]))
            .with("isRequest", flags & 0x80 != 0)
            .with("isTwoWay", flags & 0x40 != 0)
            .with("isEvent", flags & 0x20 != 0)
            .with("serializationType", flags & 0x1f)
            .with("status", status);
        self.input.skip(HEAD_BYTES);
        Ok(Some((head.into(), u32::from_be_bytes([l0, l1, l2, l3]) as usize)))
    }
}

impl crate::Decoder for Decoder {
    fn push(&mut self, data: Bytes, events: &mut Vec<Event>) -> Result<(), Error> {
        self.input.push(data);
        loop {
            match self.body {
                None => {
                    if self.input.is_empty() {
                        return Ok(());
                    }
                    let Some((head, length)) = self.head()? else { return Ok(()) };
                    events.push(Event::Start(head));
                    self.body = Some(length);
                }
                Some(0) => {
                    events.push(Event::END);
                    self.body = None;
                }
                Some(left) => {
                    if self.input.is_empty() {
                        return Ok(());
                    }
                    let data = self.input.take(left);
                    self.body = Some(left - data.len());
                    events.push(Event::Data(data));
                }
            }
        }
    }

    fn finish(&mut self, _: &mut Vec<Event>) -> Result<(), Error> {
        if self.input.is_empty() && self.body.is_none() {
            return Ok(());
        }
        let position = self.input.position() + self.input.len() as u64;
        Err(Error::Truncated { protocol: PROTOCOL, position })
    }
}

/// Writes one direction of a connection. A head may leave out everything: it then is a request that wants
/// an answer, serialized as Hessian 2, with the next identifier.
#[derive(Debug, Default)]
pub struct Encoder {
    gather: Gather,
    last: i64,
}

impl Encoder {
    /// An encoder for requests and responses.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn head(&mut self, head: &Value, length: usize) -> Result<Bytes, Error> {
        let flag = |key: &str, default| head.get(key).map_or(default, Value::is_truthy);
        let number = |key: &'static str, default: u8| match head.get(key) {
            None => Ok(default),
            Some(value) => value.as_int().and_then(|number| u8::try_from(number).ok()).ok_or_else(|| {
                Error::unencodable(PROTOCOL, format!("{key} is {}, or out of range", value.kind()))
            }),
        };
        let is_request = flag("isRequest", true);
        let serialization = number("serializationType", HESSIAN2)?;
        if serialization > 0x1f {
            return Err(Error::unencodable(
                PROTOCOL,
                format!("serializationType {serialization} exceeds 31"),
            ));
        }
        let id = match head.get("requestID") {
            None => self.last.wrapping_add(1),
            Some(id) => {
                id.as_int().ok_or_else(|| Error::unencodable(PROTOCOL, "requestID is not a whole number"))?
            }
        };
        self.last = id;
        let mut bytes = BytesMut::with_capacity(HEAD_BYTES);
        bytes.put_u16(MAGIC);
        bytes.put_u8(
            u8::from(is_request) << 7
                | u8::from(flag("isTwoWay", is_request)) << 6
                | u8::from(flag("isEvent", false)) << 5
                | serialization,
        );
        bytes.put_u8(number("status", if is_request { 0 } else { OK })?);
        bytes.put_i64(id);
        bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
        Ok(bytes.freeze())
    }
}

impl crate::Encoder for Encoder {
    fn push(&mut self, event: Event, output: &mut Vec<Bytes>) -> Result<(), Error> {
        if let Some(Whole { head, body, body_bytes, .. }) =
            self.gather.push(PROTOCOL, event, BODY_BYTES_MAX)?
        {
            output.push(self.head(&head, body_bytes)?);
            output.extend(body);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{hex, read, round_trip, survive, write};

    #[test]
    fn a_request_is_read_and_written() {
        let bytes =
            hex("dabb c2 00 0000000000000007 00000003 05 32 2e  dabb 22 14 0020000000000001 00000001 4e");
        let events = round_trip(Decoder::new, Encoder::new(), &bytes);
        let head = Object::new()
            .with("requestID", 7)
            .with("isRequest", true)
            .with("isTwoWay", true)
            .with("isEvent", false)
            .with("serializationType", 2)
            .with("status", 0);
        assert_eq!(
            events[..3],
            [Event::Start(head.into()), Event::Data(Bytes::from_static(b"\x052.")), Event::END]
        );
        let Event::Start(second) = &events[3] else { panic!() };
        assert_eq!(
            second.get("requestID"),
            Some(&Value::Int(0x20_0000_0000_0001)),
            "more than a double can hold"
        );
    }

    #[test]
    fn a_script_may_leave_out_what_is_usual() {
        let start = |head: Object| [Event::Start(head.into()), Event::Data("x".into()), Event::END];
        let two = [start(Object::new()), start(Object::new().with("isRequest", false))].concat();
        let bytes = write(Encoder::new(), &two).unwrap();
        assert_eq!(
            bytes,
            hex("dabb c2 00 0000000000000001 00000001 78 dabb 02 14 0000000000000002 00000001 78")
        );
    }

    #[test]
    fn other_protocols_are_refused_at_their_first_byte() {
        let error = read(Decoder::new(), &[b"GET"]).unwrap_err();
        assert_eq!(error.to_string(), "malformed Dubbo at byte 0: a message does not start with da bb");
        assert_eq!(read(Decoder::new(), &[b"\xda"]).unwrap_err().metric_label(), "truncated");
        let wrong = Object::new().with("serializationType", 32);
        assert!(write(Encoder::new(), &[Event::Start(wrong.into()), Event::END]).is_err());
    }

    proptest! {
        #[test]
        fn garbage_is_refused_and_nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..100), cut in 1..20_usize) {
            survive(Decoder::new(), &[&[0xda, 0xbb][..], &bytes].concat(), cut);
        }
    }
}
