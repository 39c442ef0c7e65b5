//! Netlink messages: sixteen bytes of head in the machine's own order of bytes, a body, filling up to four.
//!
//! Heads are `{type, flags, seq, pid}`; the body is what the family says, for scripts to take apart.
//!
//! Not done here: sockets, attributes, families.

use bytes::{BufMut, Bytes, BytesMut};

use crate::codec::{Gather, Whole};
use crate::input::Input;
use crate::{Error, Event, Object, Value};

const PROTOCOL: &str = "Netlink";
const HEAD_BYTES: usize = 16;
/// LIMIT: bytes of a message; the kernel's own stay below 64 KiB.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Reads messages.
#[derive(Debug, Default)]
pub struct Decoder {
    input: Input,
}

impl Decoder {
    /// A decoder at the start of a message.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl crate::Decoder for Decoder {
    fn push(&mut self, data: Bytes, events: &mut Vec<Event>) -> Result<(), Error> {
        self.input.push(data);
        while let Some(head) = self.input.peek().first_chunk::<HEAD_BYTES>() {
            let [l0, l1, l2, l3, t0, t1, f0, f1, s0, s1, s2, s3, p0, p1, p2, p3] = *head;
            let length = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
            let position = self.input.position();
            if length < HEAD_BYTES {
                return Err(Error::malformed(PROTOCOL, position, format!("a message of {length} bytes")));
            }
            if length > MESSAGE_BYTES_MAX {
                let max = MESSAGE_BYTES_MAX as u64;
                return Err(Error::TooLarge {
                    protocol: PROTOCOL,
                    position,
                    what: "a message in bytes",
                    max,
                });
            }
            if self.input.len() < length.next_multiple_of(4) {
                return Ok(());
            }
            let head = Object::new()
                .with("type", u16::from_ne_bytes([t0, t1]))
                .with("flags", u16::from_ne_bytes([f0, f1]))
                .with("seq", u32::from_ne_bytes([s0, s1, s2, s3]))
                .with("pid", u32::from_ne_bytes([p0, p1, p2, p3]));
            self.input.skip(HEAD_BYTES);
            let body = self.input.take(length - HEAD_BYTES);
            self.input.skip(length.next_multiple_of(4) - length);
            events.push(Event::Start(head.into()));
            if !body.is_empty() {
                events.push(Event::Data(body));
            }
            events.push(Event::END);
        }
        Ok(())
    }

    fn finish(&mut self, _: &mut Vec<Event>) -> Result<(), Error> {
        if self.input.is_empty() {
            return Ok(());
        }
        let position = self.input.position() + self.input.len() as u64;
        Err(Error::Truncated { protocol: PROTOCOL, position })
    }
}

/// Writes messages. Fields that a head lacks are 0.
#[derive(Debug, Default)]
pub struct Encoder {
    gather: Gather,
}

impl Encoder {
    /// An encoder at the start of a message.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

fn field<T: TryFrom<i64> + Default>(head: &Value, key: &str) -> Result<T, Error> {
    match head.get(key) {
        None => Ok(T::default()),
        Some(value) => value.as_int().and_then(|number| T::try_from(number).ok()).ok_or_else(|| {
            Error::unencodable(PROTOCOL, format!("{key} is {}, or out of range", value.kind()))
        }),
    }
}

impl crate::Encoder for Encoder {
    fn push(&mut self, event: Event, output: &mut Vec<Bytes>) -> Result<(), Error> {
        let Some(Whole { head, body, body_bytes, .. }) =
            self.gather.push(PROTOCOL, event, MESSAGE_BYTES_MAX)?
        else {
            return Ok(());
        };
        let length = HEAD_BYTES + body_bytes;
        let mut bytes = BytesMut::with_capacity(length.next_multiple_of(4));
        bytes.put_u32_ne(u32::try_from(length).unwrap_or(u32::MAX));
        bytes.put_u16_ne(field(&head, "type")?);
        bytes.put_u16_ne(field(&head, "flags")?);
        bytes.put_u32_ne(field(&head, "seq")?);
        bytes.put_u32_ne(field(&head, "pid")?);
        body.iter().for_each(|part| bytes.put_slice(part));
        bytes.put_bytes(0, length.next_multiple_of(4) - length);
        output.push(bytes.freeze());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{hex, read, survive, three_ways, write};

    #[test]
    #[cfg(target_endian = "little")]
    fn a_request_for_links_is_written_as_the_kernel_reads_it() {
        let head = Object::new().with("type", 18).with("flags", 0x301).with("seq", 7).with("pid", 0);
        let events = [Event::Start(head.into()), Event::Data(vec![0; 1].into()), Event::END];
        let bytes = write(Encoder::new(), &events).unwrap();
        assert_eq!(bytes, hex("11000000 1200 0103 07000000 00000000 00 000000"));
        assert_eq!(three_ways(Decoder::new, &bytes), events);
        assert!(read(Decoder::new(), &[&hex("0f000000 1200 0103 07000000 00000000")]).is_err());
        assert_eq!(
            read(Decoder::new(), &[&hex("ffffffff 1200 0103 07000000 00000000")]).unwrap_err().metric_label(),
            "too_large"
        );
    }

    proptest! {
        #[test]
        fn garbage_is_refused_and_nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            survive(Decoder::new(), &bytes, 3);
        }
    }
}
