//! From messages to bytes.
//!
//! A message is framed when its head says `framed`, and when it says nothing, as the last one was.

use bytes::{BufMut, Bytes, BytesMut};

use super::{DEPTH_MAX, DIALECTS, Dialect, MESSAGES, PROTOCOL, TYPES, Type};
use crate::codec::{Gather, Whole};
use crate::{Error, Event, Value};

/// Writes one direction of a connection.
#[derive(Debug, Default)]
pub struct Encoder {
    gather: Gather,
    framed: bool,
}

impl Encoder {
    /// An encoder that frames nothing until a head asks for it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The framing of a connection, learnt by the decoder of its other direction.
    pub fn set_framed(&mut self, framed: bool) {
        self.framed = framed;
    }
}

impl crate::Encoder for Encoder {
    fn push(&mut self, event: Event, output: &mut Vec<Bytes>) -> Result<(), Error> {
        let Some(Whole { head, payload, tail, .. }) = self.gather.push(PROTOCOL, event, usize::MAX)? else {
            return Ok(());
        };
        if let Some(framed) = head.get("framed") {
            self.framed = framed.is_truthy();
        }
        let Some(payload) = payload.or(tail) else { return Err(wrong("a message without payload")) };
        let bytes = message(&payload)?;
        if self.framed {
            let length = u32::try_from(bytes.len()).map_err(|_| wrong("a message of more than 4 GiB"))?;
            output.push(Bytes::copy_from_slice(&length.to_be_bytes()));
        }
        output.push(bytes);
        Ok(())
    }
}

fn wrong(reason: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::unencodable(PROTOCOL, reason)
}

fn message(payload: &Value) -> Result<Bytes, Error> {
    let text = |key: &str| payload.get(key).and_then(Value::as_str);
    let protocol = text("protocol").unwrap_or("compact");
    let Some(&(dialect, _)) = DIALECTS.iter().find(|row| row.1 == protocol) else {
        return Err(wrong(format!("protocol {protocol:?} is none of binary, compact and old")));
    };
    let kind = text("type").unwrap_or("call");
    let Some(kind) = MESSAGES.iter().position(|known| *known == kind) else {
        return Err(wrong(format!("type {kind:?} is none of call, reply, exception and oneway")));
    };
    let kind = u8::try_from(kind + 1).unwrap_or_default();
    let sequence: i32 = payload.get("seqID").map_or(Ok(0), |value| number(value, "seqID"))?;
    let name = text("name").unwrap_or_default().as_bytes();
    let mut writer = Writer { output: BytesMut::new(), dialect };
    match dialect {
        Dialect::Binary => {
            writer.output.put_u32(0x8001_0000 | u32::from(kind));
            writer.binary(name)?;
            writer.output.put_i32(sequence);
        }
        Dialect::Old => {
            writer.binary(name)?;
            writer.output.put_u8(kind);
            writer.output.put_i32(sequence);
        }
        Dialect::Compact => {
            writer.output.put_u8(0x82);
            writer.output.put_u8(kind << 5 | 1);
            writer.varint(u64::from(sequence.cast_unsigned()));
            writer.binary(name)?;
        }
    }
    writer.fields(payload.get("fields"), 0)?;
    Ok(writer.output.freeze())
}

struct Writer {
    output: BytesMut,
    dialect: Dialect,
}

impl Writer {
    fn varint(&mut self, mut value: u64) {
        loop {
            let low = u8::try_from(value & 127).unwrap_or_default();
            value >>= 7;
            self.output.put_u8(if value > 0 { low | 128 } else { low });
            if value == 0 {
                return;
            }
        }
    }

    fn zigzag(&mut self, value: i64) {
        self.varint((value << 1 ^ value >> 63).cast_unsigned());
    }

    fn length(&mut self, length: usize) -> Result<(), Error> {
        let length = i32::try_from(length).map_err(|_| wrong("more than 2 GiB"))?;
        match self.dialect {
            Dialect::Compact => self.varint(u64::from(length.cast_unsigned())),
            Dialect::Binary | Dialect::Old => self.output.put_i32(length),
        }
        Ok(())
    }

    fn binary(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.length(bytes.len())?;
        self.output.put_slice(bytes);
        Ok(())
    }

    fn fields(&mut self, fields: Option<&Value>, depth: usize) -> Result<(), Error> {
        let fields = match fields {
            None => &[],
            Some(fields) => fields.as_array().ok_or_else(|| {
                wrong(format!("fields are {}, not an array of {{id, type, value}}", fields.kind()))
            })?,
        };
        let mut last = 0;
        for field in fields {
            let id: i16 = field.get("id").map_or(Ok(0), |value| number(value, "a field's id"))?;
            let of = named(field, "type")?;
            let value = field.get("value").unwrap_or(&Value::Null);
            if self.dialect == Dialect::Compact {
                let code = match of {
                    Type::Bool if !value.is_truthy() => 2,
                    of => of.code(self.dialect),
                };
                match i32::from(id) - last {
                    delta @ 1..=15 => self.output.put_u8(u8::try_from(delta).unwrap_or_default() << 4 | code),
                    _ => {
                        self.output.put_u8(code);
                        self.zigzag(i64::from(id));
                    }
                }
                last = i32::from(id);
                if of == Type::Bool {
                    continue;
                }
            } else {
                self.output.put_u8(of.code(self.dialect));
                self.output.put_i16(id);
            }
            self.value(of, value, depth + 1).map_err(|error| match error {
                Error::Unencodable { reason, .. } => wrong(format!("field {id}: {reason}")),
                other => other,
            })?;
        }
        self.output.put_u8(0);
        Ok(())
    }

    fn value(&mut self, of: Type, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > DEPTH_MAX {
            return Err(wrong(format!("more than {DEPTH_MAX} values within each other")));
        }
        let is_compact = self.dialect == Dialect::Compact;
        match of {
            Type::Bool if is_compact => self.output.put_u8(if value.is_truthy() { 1 } else { 2 }),
            Type::Bool => self.output.put_u8(u8::from(value.is_truthy())),
            Type::I8 => self.output.put_i8(number(value, "an I8")?),
            Type::I16 if !is_compact => self.output.put_i16(number(value, "an I16")?),
            Type::I32 if !is_compact => self.output.put_i32(number(value, "an I32")?),
            Type::I64 if !is_compact => self.output.put_i64(number(value, "an I64")?),
            Type::I16 => self.zigzag(i64::from(number::<i16>(value, "an I16")?)),
            Type::I32 => self.zigzag(i64::from(number::<i32>(value, "an I32")?)),
            Type::I64 => self.zigzag(number(value, "an I64")?),
            Type::Double => {
                let number =
                    value.as_number().ok_or_else(|| wrong(format!("a DOUBLE is {}", value.kind())))?;
                if is_compact { self.output.put_f64_le(number) } else { self.output.put_f64(number) }
            }
            Type::Binary => {
                let bytes = value.to_bytes().ok_or_else(|| wrong(format!("a BINARY is {}", value.kind())))?;
                self.binary(&bytes)?;
            }
            Type::Uuid => self.uuid(value)?,
            Type::Struct => self.fields(Some(value), depth)?,
            Type::List | Type::Set => self.list(value, depth)?,
            Type::Map => self.map(value, depth)?,
        }
        Ok(())
    }

    fn uuid(&mut self, value: &Value) -> Result<(), Error> {
        let digits: Vec<u32> =
            value.as_str().unwrap_or_default().chars().filter_map(|digit| digit.to_digit(16)).collect();
        if digits.len() != 32 {
            return Err(wrong("a UUID has not 32 hexadecimal digits"));
        }
        for pair in digits.chunks(2) {
            let byte = pair.iter().fold(0, |byte, digit| byte << 4 | digit);
            self.output.put_u8(u8::try_from(byte).unwrap_or_default());
        }
        Ok(())
    }

    fn list(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        let elements = value.get("elements").and_then(Value::as_array);
        let Some(elements) = elements else {
            return Err(wrong(format!("a LIST is {}, not {{elementType, elements}}", value.kind())));
        };
        let of = named(value, "elementType")?;
        let code = of.code(self.dialect);
        match (self.dialect, u8::try_from(elements.len())) {
            (Dialect::Compact, Ok(length @ 0..15)) => self.output.put_u8(length << 4 | code),
            (Dialect::Compact, _) => {
                self.output.put_u8(0xf0 | code);
                self.length(elements.len())?;
            }
            _ => {
                self.output.put_u8(code);
                self.length(elements.len())?;
            }
        }
        elements.iter().try_for_each(|element| self.value(of, element, depth + 1))
    }

    fn map(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        let pairs = value.get("pairs").and_then(Value::as_array);
        let Some(pairs) = pairs else {
            return Err(wrong(format!("a MAP is {}, not {{keyType, valueType, pairs}}", value.kind())));
        };
        let (key, of) = (named(value, "keyType")?, named(value, "valueType")?);
        let codes = [key.code(self.dialect), of.code(self.dialect)];
        if self.dialect == Dialect::Compact {
            self.length(pairs.len())?;
            if !pairs.is_empty() {
                self.output.put_u8(codes[0] << 4 | codes[1]);
            }
        } else {
            self.output.put_slice(&codes);
            self.length(pairs.len())?;
        }
        for pair in pairs {
            let Some([left, right]) = pair.as_array() else {
                return Err(wrong("pairs of a MAP are not [key, value]"));
            };
            self.value(key, left, depth + 1)?;
            self.value(of, right, depth + 1)?;
        }
        Ok(())
    }
}

fn named(of: &Value, key: &str) -> Result<Type, Error> {
    let name = of.get(key).and_then(Value::as_str).unwrap_or("I32");
    TYPES
        .iter()
        .find(|row| row.1 == name)
        .map(|row| row.0)
        .ok_or_else(|| wrong(format!("unknown {key} {name:?}")))
}

fn number<T: TryFrom<i64>>(value: &Value, what: &str) -> Result<T, Error> {
    value
        .as_int()
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| wrong(format!("{what} is {}, or out of range", value.kind())))
}
