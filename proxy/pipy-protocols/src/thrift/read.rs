//! A complete message, as values.

use super::scan::varint;
use super::{DEPTH_MAX, DIALECTS, Dialect, MESSAGES, Type, VALUES_MAX};
use crate::input::Cursor;
use crate::{Error, Object, Value};

/// Reads a message that is all of `cursor`.
pub(super) fn message(cursor: Cursor, dialect: Dialect) -> Result<Value, Error> {
    let mut reader = Reader { cursor, dialect, values: 0 };
    let (kind, sequence, name) = match dialect {
        Dialect::Binary => {
            let version = reader.cursor.u32("a message's version")?;
            let name = reader.binary("a message's name")?;
            (version & 0xff, reader.i32("a message's sequence")?, name)
        }
        Dialect::Old => {
            let name = reader.binary("a message's name")?;
            let kind = u32::from(reader.cursor.u8("a message's type")?);
            (kind, reader.i32("a message's sequence")?, name)
        }
        Dialect::Compact => {
            let version = reader.cursor.u16("a message's version")?;
            if version & 0x1f != 1 {
                return Err(reader
                    .cursor
                    .malformed(format!("version {} of the compact protocol", version & 0x1f)));
            }
            let sequence = reader.varint("a message's sequence")?;
            let sequence = i64::from(u32::try_from(sequence).unwrap_or_default().cast_signed());
            (u32::from(version >> 5 & 7), sequence, reader.binary("a message's name")?)
        }
    };
    let Some(kind) = usize::try_from(kind).ok().and_then(|kind| MESSAGES.get(kind.checked_sub(1)?)) else {
        return Err(reader.cursor.malformed(format!("a message of type {kind}")));
    };
    let Ok(name) = String::from_utf8(name.to_vec()) else {
        return Err(reader.cursor.malformed("a message's name is not UTF-8"));
    };
    let protocol = DIALECTS.into_iter().find(|row| row.0 == dialect).map_or("", |row| row.1);
    let fields = reader.fields(0)?;
    if !reader.cursor.is_empty() {
        return Err(reader.cursor.malformed("bytes after a message, within its frame"));
    }
    let message = Object::new().with("protocol", protocol).with("type", *kind).with("seqID", sequence);
    Ok(message.with("name", name).with("fields", fields).into())
}

struct Reader {
    cursor: Cursor,
    dialect: Dialect,
    values: usize,
}

impl Reader {
    fn is_compact(&self) -> bool {
        self.dialect == Dialect::Compact
    }

    fn varint(&mut self, what: &'static str) -> Result<u64, Error> {
        let mut bytes = Vec::with_capacity(10);
        loop {
            bytes.push(self.cursor.u8(what)?);
            match varint(&bytes) {
                Ok(Some((value, _))) => return Ok(value),
                Ok(None) => {}
                Err(reason) => return Err(self.cursor.malformed(reason)),
            }
        }
    }

    fn zigzag(&mut self, what: &'static str) -> Result<i64, Error> {
        let value = self.varint(what)?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    fn i32(&mut self, what: &'static str) -> Result<i64, Error> {
        Ok(i64::from(self.cursor.u32(what)?.cast_signed()))
    }

    fn length(&mut self, what: &'static str) -> Result<usize, Error> {
        let length = if self.is_compact() { self.varint(what)?.cast_signed() } else { self.i32(what)? };
        usize::try_from(length).map_err(|_| self.cursor.malformed(format!("{what} is {length}")))
    }

    fn binary(&mut self, what: &'static str) -> Result<bytes::Bytes, Error> {
        let length = self.length(what)?;
        self.cursor.take(length, what)
    }

    fn of(&mut self, code: u8) -> Result<Type, Error> {
        Type::from_code(self.dialect, code)
            .ok_or_else(|| self.cursor.malformed(format!("unknown type {code}")))
    }

    fn fields(&mut self, depth: usize) -> Result<Vec<Value>, Error> {
        let mut fields = Vec::new();
        let mut last = 0;
        loop {
            let code = self.cursor.u8("a field")?;
            if code == 0 {
                return Ok(fields);
            }
            let (of, id) = if self.is_compact() {
                let of = self.of(code & 15)?;
                let id =
                    if code >> 4 == 0 { self.zigzag("a field's id")? } else { last + i64::from(code >> 4) };
                last = id;
                (of, id)
            } else {
                (self.of(code)?, i64::from(self.cursor.u16("a field's id")?.cast_signed()))
            };
            if i16::try_from(id).is_err() {
                return Err(self.cursor.malformed(format!("a field's id is {id}")));
            }
            let value = match of {
                Type::Bool if self.is_compact() => (code & 15 == 1).into(),
                of => self.value(of, depth + 1)?,
            };
            fields.push(Object::new().with("id", id).with("type", of.name()).with("value", value).into());
        }
    }

    fn value(&mut self, of: Type, depth: usize) -> Result<Value, Error> {
        self.values += 1;
        if self.values > VALUES_MAX {
            return Err(self.cursor.too_large("values", VALUES_MAX as u64));
        }
        if depth > DEPTH_MAX {
            return Err(self.cursor.too_large("depth", DEPTH_MAX as u64));
        }
        Ok(match of {
            // In lists, a compact false is 2, or 0 by some writers; a binary one is 0.
            Type::Bool => (self.cursor.u8("a boolean")? == 1).into(),
            Type::I8 => self.cursor.u8("a number")?.cast_signed().into(),
            Type::I16 | Type::I32 | Type::I64 if self.is_compact() => self.zigzag("a number")?.into(),
            Type::I16 => self.cursor.u16("a number")?.cast_signed().into(),
            Type::I32 => self.i32("a number")?.into(),
            Type::I64 => self.cursor.u64("a number")?.cast_signed().into(),
            Type::Double => {
                let bits = self.cursor.u64("a number")?;
                f64::from_bits(if self.is_compact() { bits.swap_bytes() } else { bits }).into()
            }
            Type::Binary => self.binary("a string")?.into(),
            Type::Uuid => {
                let mut text = String::with_capacity(36);
                for (at, byte) in self.cursor.take(16, "a UUID")?.iter().enumerate() {
                    text.push_str(if matches!(at, 4 | 6 | 8 | 10) { "-" } else { "" });
                    text.push_str(&format!("{byte:02x}"));
                }
                text.into()
            }
            Type::Struct => self.fields(depth)?.into(),
            Type::List | Type::Set => self.list(depth)?,
            Type::Map => self.map(depth)?,
        })
    }

    fn list(&mut self, depth: usize) -> Result<Value, Error> {
        let code = self.cursor.u8("a list")?;
        let (code, length) = match (self.is_compact(), code >> 4) {
            (true, 15) => (code & 15, self.length("the length of a list")?),
            (true, length) => (code & 15, usize::from(length)),
            (false, _) => (code, self.length("the length of a list")?),
        };
        // Some writers leave out the type of nothing.
        let of = if length == 0 && code == 0 { Type::I32 } else { self.of(code)? };
        let mut elements = Vec::new();
        for _ in 0..length {
            elements.push(self.value(of, depth + 1)?);
        }
        Ok(Object::new().with("elementType", of.name()).with("elements", elements).into())
    }

    fn map(&mut self, depth: usize) -> Result<Value, Error> {
        let (length, codes) = if self.is_compact() {
            let length = self.length("the length of a map")?;
            let codes = if length == 0 { 0x55 } else { self.cursor.u8("the types of a map")? };
            (length, [codes >> 4, codes & 15])
        } else {
            let codes = [self.cursor.u8("the types of a map")?, self.cursor.u8("the types of a map")?];
            (self.length("the length of a map")?, codes)
        };
        let mut types = [Type::I32; 2];
        if length > 0 || codes != [0, 0] {
            types = [self.of(codes[0])?, self.of(codes[1])?];
        }
        let mut pairs = Vec::new();
        for _ in 0..length {
            let key = self.value(types[0], depth + 1)?;
            pairs.push(Value::Array(vec![key, self.value(types[1], depth + 1)?]));
        }
        let map = Object::new().with("keyType", types[0].name()).with("valueType", types[1].name());
        Ok(map.with("pairs", pairs).into())
    }
}
