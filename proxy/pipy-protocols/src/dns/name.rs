//! Domain names on the wire and as text (RFC 1035 §3.1, §4.1.4, §5.1).

use std::collections::HashMap;

use bytes::{BufMut, BytesMut};

use super::PROTOCOL;
use crate::Error;

/// LIMIT: bytes of a name on the wire, lengths included (RFC 1035 §2.3.4).
const NAME_BYTES_MAX: usize = 255;
const LABEL_BYTES_MAX: usize = 63;
/// What a pointer can point to.
const POINTER_MAX: usize = 0x3fff;

/// Reads the name at `at`; gives it with the place where what follows starts.
pub(super) fn read(message: &[u8], at: usize) -> Result<(String, usize), Error> {
    let broken = |at: usize, reason: &'static str| Error::malformed(PROTOCOL, at as u64, reason);
    let (mut text, mut size) = (String::new(), 1);
    let (mut next, mut after, mut front) = (at, None, at);
    loop {
        let Some(&length) = message.get(next) else {
            return Err(broken(next, "the message ends within a name"));
        };
        match length {
            0 => return Ok((text, after.unwrap_or(next + 1))),
            1..=63 => {
                let end = next + 1 + usize::from(length);
                let Some(label) = message.get(next + 1..end) else {
                    return Err(broken(next, "the message ends within a name"));
                };
                size += 1 + label.len();
                if size > NAME_BYTES_MAX {
                    return Err(broken(at, "a name of more than 255 bytes"));
                }
                if !text.is_empty() {
                    text.push('.');
                }
                label.iter().for_each(|byte| escape(&mut text, *byte));
                next = end;
            }
            0xc0.. => {
                let Some(&low) = message.get(next + 1) else {
                    return Err(broken(next, "the message ends within a name"));
                };
                let target = usize::from(length & 0x3f) << 8 | usize::from(low);
                // Each pointer leads further towards the front: no loop, and an end.
                if target >= front {
                    return Err(broken(next, "a pointer of a name does not point back"));
                }
                after = after.or(Some(next + 2));
                front = target;
                next = target;
            }
            _ => return Err(broken(next, "a label of unknown kind")),
        }
    }
}

fn escape(text: &mut String, byte: u8) {
    match byte {
        b'.' | b'\\' => {
            text.push('\\');
            text.push(char::from(byte));
        }
        b'!'..=b'~' => text.push(char::from(byte)),
        _ => text.push_str(&format!("\\{byte:03}")),
    }
}

/// Writes names, and remembers where their ends can be pointed to.
#[derive(Debug, Default)]
pub(super) struct Names {
    places: HashMap<Vec<u8>, u16>,
}

impl Names {
    /// Writes a name at the end of `output`, which starts where the message does.
    pub(super) fn write(&mut self, output: &mut BytesMut, name: &str, compress: bool) -> Result<(), Error> {
        let wire = wire(name)?;
        let mut rest: &[u8] = &wire;
        while let Some((&length, _)) = rest.split_first() {
            if length == 0 {
                break;
            }
            if let (true, Some(place)) = (compress, self.places.get(rest)) {
                output.put_u16(0xc000 | place);
                return Ok(());
            }
            if output.len() <= POINTER_MAX {
                self.places.insert(rest.to_vec(), u16::try_from(output.len()).unwrap_or_default());
            }
            let (label, after) = rest.split_at(rest.len().min(1 + usize::from(length)));
            output.put_slice(label);
            rest = after;
        }
        output.put_u8(0);
        Ok(())
    }
}

/// A name's labels, each after its length, and the root's 0.
fn wire(name: &str) -> Result<Vec<u8>, Error> {
    let wrong = |reason: &str| Error::unencodable(PROTOCOL, format!("name {name:?}: {reason}"));
    let mut wire = Vec::with_capacity(name.len() + 2);
    let mut label: Vec<u8> = Vec::new();
    let mut bytes = name.bytes();
    let mut close = |label: &mut Vec<u8>, is_last: bool| {
        if label.is_empty() {
            return if is_last { Ok(()) } else { Err(wrong("an empty label")) };
        }
        if label.len() > LABEL_BYTES_MAX {
            return Err(wrong("a label of more than 63 bytes"));
        }
        wire.push(u8::try_from(label.len()).unwrap_or_default());
        wire.append(label);
        Ok(())
    };
    while let Some(byte) = bytes.next() {
        match byte {
            // The root alone is a dot.
            b'.' if name.len() == 1 => {}
            b'.' => close(&mut label, false)?,
            b'\\' => match bytes.next() {
                Some(first @ b'0'..=b'9') => {
                    let mut digit =
                        || bytes.next().filter(u8::is_ascii_digit).map(|digit| u32::from(digit - b'0'));
                    let number = u32::from(first - b'0') * 100
                        + digit().ok_or_else(|| wrong("\\DDD takes three digits"))? * 10
                        + digit().ok_or_else(|| wrong("\\DDD takes three digits"))?;
                    label.push(u8::try_from(number).map_err(|_| wrong("\\DDD exceeds 255"))?);
                }
                Some(byte) => label.push(byte),
                None => return Err(wrong("a backslash at its end")),
            },
            byte => label.push(byte),
        }
    }
    close(&mut label, true)?;
    wire.push(0);
    if wire.len() > NAME_BYTES_MAX {
        return Err(wrong("more than 255 bytes"));
    }
    Ok(wire)
}
