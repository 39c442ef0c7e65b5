//! From an object to bytes.

use std::net::{Ipv4Addr, Ipv6Addr};

use bytes::{BufMut, Bytes, BytesMut};

use super::name::Names;
use super::{CLASSES, FLAGS, MESSAGE_BYTES_MAX, PROTOCOL, QUESTIONS, SECTIONS, TYPES};
use crate::{Error, Value};

/// Writes one message, as it goes into a datagram. Fields that are missing are 0.
///
/// # Errors
///
/// When a field is not what DNS can say, or the message exceeds 65535 bytes.
pub fn encode(message: &Value) -> Result<Bytes, Error> {
    if message.as_object().is_none() {
        return Err(wrong(format!("a message is an object, not {}", message.kind())));
    }
    let mut writer = Writer { output: BytesMut::with_capacity(512), names: Names::default() };
    writer.output.put_u16(field(message, "id", 0)?);
    let mut flags = 0;
    for (name, shift, bits) in FLAGS {
        let value: u16 = field(message, name, 0)?;
        if value >= 1 << bits {
            return Err(wrong(format!("{name} {value} exceeds {bits} bits")));
        }
        flags |= value << shift;
    }
    writer.output.put_u16(flags);
    let sections = SECTIONS.map(|name| message.get(name).and_then(Value::as_array).unwrap_or_default());
    for section in sections {
        let count =
            u16::try_from(section.len()).map_err(|_| wrong("a section of more than 65535 records"))?;
        writer.output.put_u16(count);
    }
    for (name, section) in SECTIONS.into_iter().zip(sections) {
        for (index, entry) in section.iter().enumerate() {
            writer.entry(entry, name == "question").map_err(|error| match error {
                Error::Unencodable { reason, .. } => wrong(format!("{name}[{index}]: {reason}")),
                other => other,
            })?;
            if writer.output.len() > MESSAGE_BYTES_MAX {
                return Err(wrong(format!("the message exceeds {MESSAGE_BYTES_MAX} bytes")));
            }
        }
    }
    Ok(writer.output.freeze())
}

struct Writer {
    output: BytesMut,
    names: Names,
}

impl Writer {
    fn entry(&mut self, entry: &Value, is_question: bool) -> Result<(), Error> {
        self.names.write(&mut self.output, text(entry, "name")?, true)?;
        let code = code(entry.get("type"), TYPES.iter().chain(&QUESTIONS), "type")?;
        let class = match entry.get("class") {
            None => 1,
            class => self::code(class, CLASSES.iter(), "class")?,
        };
        self.output.put_u16(code);
        self.output.put_u16(class);
        if is_question {
            return Ok(());
        }
        self.output.put_u32(field(entry, "ttl", 0)?);
        let start = self.output.len();
        self.output.put_u16(0);
        let rdata = entry.get("rdata").unwrap_or(&Value::Null);
        let is_empty = matches!(rdata, Value::Null) || rdata.as_str() == Some("");
        if !is_empty {
            self.rdata(TYPES.iter().find(|row| row.0 == code).map_or("", |row| row.1), rdata)?;
        }
        let length =
            u16::try_from(self.output.len() - start - 2).map_err(|_| wrong("rdata exceeds 65535 bytes"))?;
        if let Some(place) = self.output.get_mut(start..start + 2) {
            place.copy_from_slice(&length.to_be_bytes());
        }
        Ok(())
    }

    fn rdata(&mut self, kind: &str, rdata: &Value) -> Result<(), Error> {
        match kind {
            "A" => {
                let address: Ipv4Addr = address(rdata, "an IPv4 address")?;
                self.output.put_slice(&address.octets());
            }
            "AAAA" => match rdata.as_str().filter(|text| text.len() == 32 && !text.contains(':')) {
                Some(text) => self.hex(text)?,
                None => {
                    let address: Ipv6Addr = address(rdata, "an IPv6 address")?;
                    self.output.put_slice(&address.octets());
                }
            },
            "NS" | "CNAME" | "PTR" | "DNAME" => {
                let name =
                    rdata.as_str().ok_or_else(|| wrong(format!("rdata is {}, not a name", rdata.kind())))?;
                self.names.write(&mut self.output, name, kind != "DNAME")?;
            }
            "MX" => {
                self.output.put_u16(field(rdata, "preference", 0)?);
                self.names.write(&mut self.output, text(rdata, "exchange")?, true)?;
            }
            "TXT" | "SPF" => match rdata {
                Value::Array(strings) => strings.iter().try_for_each(|string| self.strings(string))?,
                string => self.strings(string)?,
            },
            "SOA" => {
                self.names.write(&mut self.output, text(rdata, "mname")?, true)?;
                self.names.write(&mut self.output, text(rdata, "rname")?, true)?;
                for name in ["serial", "refresh", "retry", "expire", "minimum"] {
                    self.output.put_u32(field(rdata, name, 0)?);
                }
            }
            "SRV" => {
                for name in ["priority", "weight", "port"] {
                    self.output.put_u16(field(rdata, name, 0)?);
                }
                self.names.write(&mut self.output, text(rdata, "target")?, false)?;
            }
            "CAA" => {
                self.output.put_u8(field(rdata, "flags", 0)?);
                self.string(rdata.get("tag").unwrap_or(&Value::Null))?;
                self.output.put_slice(&bytes(rdata.get("value").unwrap_or(&Value::Null))?);
            }
            "NAPTR" => {
                self.output.put_u16(field(rdata, "order", 0)?);
                self.output.put_u16(field(rdata, "preference", 0)?);
                for name in ["flags", "services", "regexp"] {
                    self.string(rdata.get(name).unwrap_or(&Value::String(String::new())))?;
                }
                self.names.write(&mut self.output, text(rdata, "replacement")?, false)?;
            }
            "OPT" => {
                for option in rdata.as_array().unwrap_or_default() {
                    self.output.put_u16(field(option, "code", 0)?);
                    let data = option.get("data").and_then(Value::as_str).unwrap_or_default();
                    self.output
                        .put_u16(u16::try_from(data.len() / 2).map_err(|_| wrong("an option is too long"))?);
                    self.hex(data)?;
                }
            }
            _ => match rdata {
                Value::String(text) => self.hex(text)?,
                other => self.output.put_slice(&bytes(other)?),
            },
        }
        Ok(())
    }

    /// One character-string, of at most 255 bytes.
    fn string(&mut self, value: &Value) -> Result<(), Error> {
        let bytes = bytes(value)?;
        let length = u8::try_from(bytes.len()).map_err(|_| wrong("a string of more than 255 bytes"))?;
        self.output.put_u8(length);
        self.output.put_slice(&bytes);
        Ok(())
    }

    /// As many character-strings as the text needs.
    fn strings(&mut self, value: &Value) -> Result<(), Error> {
        let bytes = bytes(value)?;
        if bytes.is_empty() {
            self.output.put_u8(0);
        }
        for part in bytes.chunks(255) {
            self.output.put_u8(u8::try_from(part.len()).unwrap_or_default());
            self.output.put_slice(part);
        }
        Ok(())
    }

    fn hex(&mut self, text: &str) -> Result<(), Error> {
        let digits = text.as_bytes();
        if !digits.len().is_multiple_of(2) {
            return Err(wrong(format!("{text:?} has an odd number of hexadecimal digits")));
        }
        for pair in digits.chunks(2) {
            let digit = |at: usize| pair.get(at).and_then(|digit| char::from(*digit).to_digit(16));
            let byte = digit(0).zip(digit(1)).and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
            self.output.put_u8(byte.ok_or_else(|| wrong(format!("{text:?} is not hexadecimal")))?);
        }
        Ok(())
    }
}

fn wrong(reason: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::unencodable(PROTOCOL, reason)
}

fn field<T: TryFrom<i64>>(of: &Value, name: &str, default: i64) -> Result<T, Error> {
    let number = match of.get(name) {
        None => Some(default),
        Some(value) => value.as_int(),
    };
    number
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| wrong(format!("{name} is no number, or too large")))
}

fn text<'a>(of: &'a Value, name: &str) -> Result<&'a str, Error> {
    of.get(name).map_or(Ok(""), |value| {
        value.as_str().ok_or_else(|| wrong(format!("{name} is {}, not a string", value.kind())))
    })
}

fn bytes(value: &Value) -> Result<Bytes, Error> {
    value.to_bytes().ok_or_else(|| wrong(format!("rdata is {}, not a string", value.kind())))
}

fn address<T: std::str::FromStr>(value: &Value, what: &str) -> Result<T, Error> {
    let text = value.as_str().unwrap_or_default();
    text.parse().map_err(|_| wrong(format!("rdata {text:?} is not {what}")))
}

/// A code by its name, its number, or as RFC 3597 writes unknown ones: TYPE65280.
fn code<'a>(
    value: Option<&Value>,
    mut table: impl Iterator<Item = &'a (u16, &'static str)>,
    what: &str,
) -> Result<u16, Error> {
    let code = match value {
        Some(Value::String(name)) => table
            .find(|row| row.1.eq_ignore_ascii_case(name))
            .map(|row| row.0)
            .or_else(|| name.strip_prefix("TYPE").or(name.strip_prefix("CLASS"))?.parse().ok()),
        Some(number) => number.as_int().and_then(|number| u16::try_from(number).ok()),
        None => None,
    };
    code.ok_or_else(|| {
        wrong(format!("unknown {what} {:?}", value.and_then(Value::as_str).unwrap_or("(none)")))
    })
}
