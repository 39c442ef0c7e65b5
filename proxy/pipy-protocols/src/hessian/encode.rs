//! From values to bytes, each in its shortest form.

use std::collections::HashMap;

use bytes::{BufMut, Bytes, BytesMut};

use super::{DEPTH_MAX, PROTOCOL};
use crate::{Error, Object, Value};

/// LIMIT: units or bytes of a chunk; what Java's writer uses.
const CHUNK_MAX: usize = 0x8000;

/// Writes a body: the elements of an array one after the other, any other value alone.
///
/// # Errors
///
/// When Hessian has no words for a value.
pub fn encode(value: &Value) -> Result<Bytes, Error> {
    let mut writer = Writer::default();
    match value {
        Value::Array(values) => values.iter().try_for_each(|value| writer.value(value, 0))?,
        value => writer.value(value, 0)?,
    }
    Ok(writer.output.freeze())
}

#[derive(Default)]
struct Writer {
    output: BytesMut,
    types: HashMap<String, i32>,
    classes: HashMap<(String, Vec<String>), i32>,
}

fn wrong(reason: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::unencodable(PROTOCOL, reason)
}

impl Writer {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth >= DEPTH_MAX {
            return Err(wrong(format!("more than {DEPTH_MAX} values within each other")));
        }
        match value {
            Value::Null => self.output.put_u8(b'N'),
            Value::Bool(value) => self.output.put_u8(if *value { b'T' } else { b'F' }),
            Value::Int(value) => match i32::try_from(*value) {
                Ok(value) => self.int(value),
                Err(_) => {
                    self.output.put_u8(b'L');
                    self.output.put_i64(*value);
                }
            },
            Value::Number(value) => self.double(*value),
            Value::Date(ms) => match i32::try_from(ms.div_euclid(60_000)) {
                Ok(minutes) if ms % 60_000 == 0 => {
                    self.output.put_u8(b'K');
                    self.output.put_i32(minutes);
                }
                _ => {
                    self.output.put_u8(b'J');
                    self.output.put_i64(*ms);
                }
            },
            Value::String(text) | Value::Error(text) => self.string(text),
            Value::Bytes(bytes) => self.binary(bytes),
            Value::Array(values) | Value::Set(values) => self.list(None, values, depth)?,
            Value::Map(pairs) => {
                self.output.put_u8(b'H');
                for (key, value) in pairs {
                    self.value(key, depth + 1)?;
                    self.value(value, depth + 1)?;
                }
                self.output.put_u8(b'Z');
            }
            Value::Object(object) => self.object(object, depth)?,
        }
        Ok(())
    }

    /// A plain object, or one that says what it is.
    fn object(&mut self, object: &Object, depth: usize) -> Result<(), Error> {
        let (kind, elements) = (object.get("kind").and_then(Value::as_str), object.get("elements"));
        let name = object.get("type").and_then(Value::as_str).filter(|name| !name.is_empty());
        let (Some(kind), Some(elements)) = (kind, elements) else {
            return self.map(None, object.iter(), depth);
        };
        match (kind, elements) {
            ("list", elements) => match elements.as_array() {
                Some(values) => self.list(name, values, depth),
                None => Err(wrong(format!("elements of a list are {}, not an array", elements.kind()))),
            },
            ("map", Value::Object(fields)) => self.map(name, fields.iter(), depth),
            ("map", Value::Map(pairs)) => {
                self.map_start(name);
                for (key, value) in pairs {
                    self.value(key, depth + 1)?;
                    self.value(value, depth + 1)?;
                }
                self.output.put_u8(b'Z');
                Ok(())
            }
            ("map", elements) => {
                self.map_start(name);
                for pair in elements.as_array().unwrap_or_default() {
                    let Some([key, value]) = pair.as_array() else {
                        return Err(wrong("elements of a map are not pairs [key, value]"));
                    };
                    self.value(key, depth + 1)?;
                    self.value(value, depth + 1)?;
                }
                self.output.put_u8(b'Z');
                Ok(())
            }
            ("object", Value::Object(fields)) => self.instance(name.unwrap_or_default(), fields, depth),
            ("object", other) => {
                Err(wrong(format!("elements of an object are {}, not an object", other.kind())))
            }
            _ => Err(wrong(format!("kind {kind:?} is none of list, map and object"))),
        }
    }

    fn map_start(&mut self, name: Option<&str>) {
        match name {
            None => self.output.put_u8(b'H'),
            Some(name) => {
                self.output.put_u8(b'M');
                self.type_name(name);
            }
        }
    }

    fn map<'a>(
        &mut self,
        name: Option<&str>,
        fields: impl Iterator<Item = (&'a str, &'a Value)>,
        depth: usize,
    ) -> Result<(), Error> {
        self.map_start(name);
        for (key, value) in fields {
            self.string(key);
            self.value(value, depth + 1)?;
        }
        self.output.put_u8(b'Z');
        Ok(())
    }

    fn list(&mut self, name: Option<&str>, values: &[Value], depth: usize) -> Result<(), Error> {
        let length = i32::try_from(values.len()).map_err(|_| wrong("a list is too long"))?;
        let short = u8::try_from(length).ok().filter(|length| *length < 8);
        match (name, short) {
            (None, Some(length)) => self.output.put_u8(0x78 + length),
            (None, None) => self.output.put_u8(b'X'),
            (Some(_), Some(length)) => self.output.put_u8(0x70 + length),
            (Some(_), None) => self.output.put_u8(b'V'),
        }
        if let Some(name) = name {
            self.type_name(name);
        }
        if short.is_none() {
            self.int(length);
        }
        values.iter().try_for_each(|value| self.value(value, depth + 1))
    }

    fn instance(&mut self, name: &str, fields: &Object, depth: usize) -> Result<(), Error> {
        let names: Vec<String> = fields.iter().map(|(name, _)| name.to_owned()).collect();
        let next = i32::try_from(self.classes.len()).map_err(|_| wrong("too many classes"))?;
        let class = match self.classes.get(&(name.to_owned(), names.clone())) {
            Some(class) => *class,
            None => {
                self.output.put_u8(b'C');
                self.string(name);
                self.int(i32::try_from(names.len()).map_err(|_| wrong("too many fields"))?);
                names.iter().for_each(|name| self.string(name));
                self.classes.insert((name.to_owned(), names), next);
                next
            }
        };
        match u8::try_from(class) {
            Ok(class @ 0..16) => self.output.put_u8(0x60 + class),
            _ => {
                self.output.put_u8(b'O');
                self.int(class);
            }
        }
        fields.iter().try_for_each(|(_, value)| self.value(value, depth + 1))
    }

    fn type_name(&mut self, name: &str) {
        let next = i32::try_from(self.types.len()).unwrap_or(i32::MAX);
        match self.types.get(name) {
            Some(index) => self.int(*index),
            None => {
                self.types.insert(name.to_owned(), next);
                self.string(name);
            }
        }
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Within the ranges of each arm.
    fn int(&mut self, value: i32) {
        match value {
            -0x10..=0x2f => self.output.put_u8((value + 0x90) as u8),
            -0x800..=0x7ff => {
                self.output.put_u8(((value >> 8) + 0xc8) as u8);
                self.output.put_u8(value as u8);
            }
            -0x40000..=0x3ffff => {
                self.output.put_u8(((value >> 16) + 0xd4) as u8);
                self.output.put_u16(value as u16);
            }
            _ => {
                self.output.put_u8(b'I');
                self.output.put_i32(value);
            }
        }
    }

    #[allow(clippy::cast_possible_truncation)] // Each is compared with what it came from.
    fn double(&mut self, value: f64) {
        let same = |other: f64| other.to_bits() == value.to_bits();
        let thousand = (value * 1000.0).round() as i32;
        if same(0.0) {
            self.output.put_u8(0x5b);
        } else if same(1.0) {
            self.output.put_u8(0x5c);
        } else if same(f64::from(value as i8)) {
            self.output.put_u8(0x5d);
            self.output.put_i8(value as i8);
        } else if same(f64::from(value as i16)) {
            self.output.put_u8(0x5e);
            self.output.put_i16(value as i16);
        } else if same(f64::from(thousand) * 0.001) {
            self.output.put_u8(0x5f);
            self.output.put_i32(thousand);
        } else {
            self.output.put_u8(b'D');
            self.output.put_f64(value);
        }
    }

    #[allow(clippy::cast_possible_truncation)] // Chunks are at most CHUNK_MAX long.
    fn string(&mut self, text: &str) {
        let units: Vec<u16> = text.encode_utf16().collect();
        let mut rest: &[u16] = &units;
        while rest.len() > CHUNK_MAX {
            let (chunk, after) = rest.split_at(CHUNK_MAX);
            self.output.put_u8(b'R');
            self.output.put_u16(CHUNK_MAX as u16);
            self.units(chunk);
            rest = after;
        }
        match rest.len() {
            length @ 0..32 => self.output.put_u8(length as u8),
            length @ 32..1024 => {
                self.output.put_u8(0x30 + (length >> 8) as u8);
                self.output.put_u8(length as u8);
            }
            length => {
                self.output.put_u8(b'S');
                self.output.put_u16(length as u16);
            }
        }
        self.units(rest);
    }

    /// Java reads one to three bytes for each unit, the halves of a pair too.
    #[allow(clippy::cast_possible_truncation)]
    fn units(&mut self, units: &[u16]) {
        for &unit in units {
            match unit {
                0..0x80 => self.output.put_u8(unit as u8),
                0x80..0x800 => {
                    self.output.put_u8(0xc0 | (unit >> 6) as u8);
                    self.output.put_u8(0x80 | (unit & 0x3f) as u8);
                }
                _ => {
                    self.output.put_u8(0xe0 | (unit >> 12) as u8);
                    self.output.put_u8(0x80 | ((unit >> 6) & 0x3f) as u8);
                    self.output.put_u8(0x80 | (unit & 0x3f) as u8);
                }
            }
        }
    }

    #[allow(clippy::cast_possible_truncation)] // Chunks are at most CHUNK_MAX long.
    fn binary(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while rest.len() > CHUNK_MAX {
            let (chunk, after) = rest.split_at(CHUNK_MAX);
            self.output.put_u8(b'A');
            self.output.put_u16(CHUNK_MAX as u16);
            self.output.put_slice(chunk);
            rest = after;
        }
        match rest.len() {
            length @ 0..16 => self.output.put_u8(0x20 + length as u8),
            length @ 16..1024 => {
                self.output.put_u8(0x34 + (length >> 8) as u8);
                self.output.put_u8(length as u8);
            }
            length => {
                self.output.put_u8(b'B');
                self.output.put_u16(length as u16);
            }
        }
        self.output.put_slice(rest);
    }
}
