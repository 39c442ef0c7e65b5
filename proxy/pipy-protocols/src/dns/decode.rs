//! From bytes to an object.

use std::net::{Ipv4Addr, Ipv6Addr};

use bytes::Bytes;

use super::{CLASSES, FLAGS, PROTOCOL, QUESTIONS, SECTIONS, TYPES, name};
use crate::{Error, Object, Value};

/// Reads one message, as it comes in a datagram.
///
/// # Errors
///
/// When it is malformed, or when something comes after it.
pub fn decode(message: &Bytes) -> Result<Value, Error> {
    let mut reader = Reader { message, at: 0, end: message.len() };
    let mut object = Object::new().with("id", reader.u16()?);
    let flags = reader.u16()?;
    for (name, shift, bits) in FLAGS {
        let value = (flags >> shift) & ((1 << bits) - 1);
        if value != 0 {
            object.set(name, value);
        }
    }
    let mut counts = [0; 4];
    for count in &mut counts {
        *count = reader.u16()?;
    }
    for (section, count) in SECTIONS.into_iter().zip(counts) {
        let mut entries: Vec<Value> = Vec::new();
        for _ in 0..count {
            entries.push(if section == "question" { reader.question()? } else { reader.record()? }.into());
        }
        object.set(section, entries);
    }
    if reader.at < reader.end {
        return Err(reader.malformed("bytes after the message"));
    }
    Ok(object.into())
}

/// A part of a message; names may point to before it.
struct Reader<'a> {
    message: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Reader<'a> {
    fn malformed(&self, reason: impl Into<std::borrow::Cow<'static, str>>) -> Error {
        Error::malformed(PROTOCOL, self.at as u64, reason)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let end = self.at.saturating_add(count).min(self.message.len());
        match self.message.get(self.at..end) {
            Some(bytes) if bytes.len() == count && end <= self.end => {
                self.at = end;
                Ok(bytes)
            }
            _ => Err(self.malformed(format!("{count} bytes are expected, {} are left", self.end - self.at))),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let bytes = self.take(N)?;
        <[u8; N]>::try_from(bytes).map_err(|_| self.malformed("too short"))
    }

    fn u8(&mut self) -> Result<u8, Error> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    fn u16(&mut self) -> Result<u16, Error> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, Error> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn name(&mut self) -> Result<String, Error> {
        let (name, after) = name::read(self.message, self.at)?;
        if after > self.end {
            return Err(self.malformed("a name exceeds its record"));
        }
        self.at = after;
        Ok(name)
    }

    /// A character-string (RFC 1035 §3.3).
    fn string(&mut self) -> Result<Value, Error> {
        let length = usize::from(self.u8()?);
        Ok(Value::text_or_bytes(Bytes::copy_from_slice(self.take(length)?)))
    }

    fn hex(&mut self) -> Result<Value, Error> {
        let bytes = self.take(self.end - self.at)?;
        Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into())
    }

    fn question(&mut self) -> Result<Object, Error> {
        let mut object = Object::new().with("name", self.name()?);
        let code = self.u16()?;
        object.set("type", word(code, TYPES.iter().chain(&QUESTIONS)));
        let class = self.u16()?;
        if class != 1 {
            object.set("class", word(class, CLASSES.iter()));
        }
        Ok(object)
    }

    fn record(&mut self) -> Result<Object, Error> {
        let mut object = Object::new().with("name", self.name()?);
        let code = self.u16()?;
        let kind = word(code, TYPES.iter());
        let class = self.u16()?;
        match &kind {
            // RFC 6891 §6.1.2: the sender's size stands where others have their class.
            Value::String(kind) if kind == "OPT" => object.set("class", class),
            _ if class != 1 => object.set("class", word(class, CLASSES.iter())),
            _ => {}
        }
        object.set("ttl", self.u32()?);
        let length = usize::from(self.u16()?);
        let end = self.at + length;
        if end > self.end {
            return Err(self.malformed(format!("a record of {length} bytes exceeds the message")));
        }
        let mut part = Reader { message: self.message, at: self.at, end };
        // RFC 2136 §2.4: in updates, records without rdata say what is to be there or to go.
        let rdata = if length == 0 { "".into() } else { part.rdata(kind.as_str().unwrap_or_default())? };
        if part.at < end {
            return Err(part.malformed(format!("{} bytes too many in a record", end - part.at)));
        }
        self.at = end;
        object.set("type", kind);
        object.set("rdata", rdata);
        Ok(object)
    }

    fn rdata(&mut self, kind: &str) -> Result<Value, Error> {
        Ok(match kind {
            "A" => Ipv4Addr::from(self.array::<4>()?).to_string().into(),
            "AAAA" => Ipv6Addr::from(self.array::<16>()?).to_string().into(),
            "NS" | "CNAME" | "PTR" | "DNAME" => self.name()?.into(),
            "MX" => Object::new().with("preference", self.u16()?).with("exchange", self.name()?).into(),
            "TXT" | "SPF" => {
                let mut strings = Vec::new();
                while self.at < self.end {
                    strings.push(self.string()?);
                }
                if strings.len() == 1 { strings.pop().unwrap_or_default() } else { strings.into() }
            }
            "SOA" => {
                let mut soa = Object::new().with("mname", self.name()?).with("rname", self.name()?);
                for field in ["serial", "refresh", "retry", "expire", "minimum"] {
                    soa.set(field, self.u32()?);
                }
                soa.into()
            }
            "SRV" => {
                let mut srv = Object::new();
                for field in ["priority", "weight", "port"] {
                    srv.set(field, self.u16()?);
                }
                srv.with("target", self.name()?).into()
            }
            "CAA" => {
                let caa = Object::new().with("flags", self.u8()?).with("tag", self.string()?);
                let value = self.take(self.end - self.at)?;
                caa.with("value", Value::text_or_bytes(Bytes::copy_from_slice(value))).into()
            }
            "NAPTR" => {
                let mut naptr = Object::new().with("order", self.u16()?).with("preference", self.u16()?);
                for field in ["flags", "services", "regexp"] {
                    naptr.set(field, self.string()?);
                }
                naptr.with("replacement", self.name()?).into()
            }
            "OPT" => {
                let mut options: Vec<Value> = Vec::new();
                while self.at < self.end {
                    let code = self.u16()?;
                    let length = usize::from(self.u16()?);
                    let end = self.at + length;
                    if end > self.end {
                        return Err(self.malformed("an option exceeds its record"));
                    }
                    let data = Reader { message: self.message, at: self.at, end }.hex()?;
                    self.at = end;
                    options.push(Object::new().with("code", code).with("data", data).into());
                }
                options.into()
            }
            _ => self.hex()?,
        })
    }
}

/// A code's name, or the code where it has none.
fn word<'a>(code: u16, mut table: impl Iterator<Item = &'a (u16, &'static str)>) -> Value {
    table.find(|row| row.0 == code).map_or(code.into(), |row| row.1.into())
}
