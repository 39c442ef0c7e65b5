//! From bytes to values.

use bytes::Bytes;

use super::{DEPTH_MAX, Options, PROTOCOL, VALUES_MAX};
use crate::input::Cursor;
use crate::{Error, Object, Value};

/// Reads all values of a body.
///
/// # Errors
///
/// When it is malformed, ends within a value, or exceeds a limit.
pub fn decode(body: &Bytes, options: Options) -> Result<Vec<Value>, Error> {
    // References are rare, and remembering what they may refer to costs a copy of everything: so that is
    // done in a second run, when the first one has met a reference.
    let mut reader = Reader::new(body, options, false);
    match reader.all() {
        Err(_) if reader.met_reference => Reader::new(body, options, true).all(),
        result => result,
    }
}

struct Reader {
    cursor: Cursor,
    options: Options,
    types: Vec<String>,
    classes: Vec<(String, Vec<String>)>,
    /// Lists, maps and objects in order, with how many values they are; `None` until complete.
    known: Option<Vec<Option<(Value, usize)>>>,
    met_reference: bool,
    values: usize,
    depth: usize,
}

impl Reader {
    fn new(body: &Bytes, options: Options, remember: bool) -> Self {
        Self {
            cursor: Cursor::new(PROTOCOL, body.clone(), 0),
            options,
            types: Vec::new(),
            classes: Vec::new(),
            known: remember.then(Vec::new),
            met_reference: false,
            values: 0,
            depth: 0,
        }
    }

    fn all(&mut self) -> Result<Vec<Value>, Error> {
        let mut values = Vec::new();
        while !self.cursor.is_empty() {
            values.push(self.value()?);
        }
        Ok(values)
    }

    fn count(&mut self, values: usize) -> Result<(), Error> {
        self.values += values;
        if self.values > VALUES_MAX {
            return Err(self.cursor.too_large("values", VALUES_MAX as u64));
        }
        Ok(())
    }

    fn value(&mut self) -> Result<Value, Error> {
        self.count(1)?;
        if self.depth >= DEPTH_MAX {
            return Err(self.cursor.too_large("depth", DEPTH_MAX as u64));
        }
        self.depth += 1;
        let value = self.tagged();
        self.depth -= 1;
        value
    }

    #[allow(clippy::cast_possible_wrap)] // Bytes that are signed by the grammar.
    fn tagged(&mut self) -> Result<Value, Error> {
        let at = self.cursor.clone();
        let tag = self.cursor.u8("a value")?;
        let cursor = &mut self.cursor;
        let low = i64::from(tag);
        Ok(match tag {
            b'N' => Value::Null,
            b'T' => true.into(),
            b'F' => false.into(),
            b'I' | b'Y' => (cursor.u32("a number")? as i32).into(),
            b'L' => (cursor.u64("a long")? as i64).into(),
            0x80..=0xbf => (low - 0x90).into(),
            0xc0..=0xcf => (((low - 0xc8) << 8) + i64::from(cursor.u8("a number")?)).into(),
            0xd0..=0xd7 => (((low - 0xd4) << 16)
                + (i64::from(cursor.u8("a number")?) << 8)
                + i64::from(cursor.u8("a number")?))
            .into(),
            0xd8..=0xef => (low - 0xe0).into(),
            0xf0..=0xff => (((low - 0xf8) << 8) + i64::from(cursor.u8("a long")?)).into(),
            0x38..=0x3f => (((low - 0x3c) << 16)
                + (i64::from(cursor.u8("a long")?) << 8)
                + i64::from(cursor.u8("a long")?))
            .into(),
            b'D' => f64::from_bits(cursor.u64("a double")?).into(),
            0x5b => 0.0.into(),
            0x5c => 1.0.into(),
            0x5d => f64::from(cursor.u8("a double")? as i8).into(),
            0x5e => f64::from(cursor.u16("a double")? as i16).into(),
            0x5f => (f64::from(cursor.u32("a double")? as i32) * 0.001).into(),
            b'J' => Value::Date(cursor.u64("a date")? as i64),
            b'K' => Value::Date(i64::from(cursor.u32("a date")? as i32) * 60_000),
            0x00..=0x1f | 0x30..=0x33 | b'R' | b'S' => self.string(tag)?.into(),
            0x20..=0x2f | 0x34..=0x37 | b'A' | b'B' => self.binary(tag)?.into(),
            b'H' => self.map(None)?,
            b'M' => {
                let name = self.type_name()?;
                self.map(name)?
            }
            b'U' => {
                let name = self.type_name()?;
                self.list(name, None)?
            }
            b'V' => {
                let name = self.type_name()?;
                let length = self.length("the length of a list")?;
                self.list(name, Some(length))?
            }
            b'W' => self.list(None, None)?,
            b'X' => {
                let length = self.length("the length of a list")?;
                self.list(None, Some(length))?
            }
            0x70..=0x77 => {
                let name = self.type_name()?;
                self.list(name, Some(usize::from(tag - 0x70)))?
            }
            0x78..=0x7f => self.list(None, Some(usize::from(tag - 0x78)))?,
            b'C' => {
                self.class()?;
                // A definition is followed by what it is for.
                return self.tagged();
            }
            b'O' => {
                let class = self.length("the class of an object")?;
                self.object(class)?
            }
            0x60..=0x6f => self.object(usize::from(tag - 0x60))?,
            b'Q' => self.reference()?,
            b'Z' | b'E' | b'G' | b'P' | 0x40 => {
                return Err(at.malformed(format!("{tag:#04x} starts no value")));
            }
        })
    }

    fn length(&mut self, what: &'static str) -> Result<usize, Error> {
        let at = self.cursor.clone();
        match self.tagged_int()? {
            Some(length) => usize::try_from(length).map_err(|_| at.malformed(format!("{what} is {length}"))),
            None => Err(at.malformed(format!("{what} is not a number"))),
        }
    }

    /// An int, or `None`, when something else comes next.
    fn tagged_int(&mut self) -> Result<Option<i64>, Error> {
        match self.cursor.peek() {
            Some(b'I' | 0x80..=0xd7) => Ok(self.tagged()?.as_int()),
            _ => Ok(None),
        }
    }

    /// A string's units of 16 bits, over all of its chunks.
    fn string(&mut self, mut tag: u8) -> Result<String, Error> {
        let at = self.cursor.clone();
        let mut units: Vec<u16> = Vec::new();
        loop {
            let count = match tag {
                0x00..=0x1f => usize::from(tag),
                0x30..=0x33 => usize::from(tag - 0x30) << 8 | usize::from(self.cursor.u8("a string")?),
                b'R' | b'S' => usize::from(self.cursor.u16("a string")?),
                _ => return Err(at.malformed(format!("{tag:#04x} continues no string"))),
            };
            self.units(count, &mut units)?;
            if tag != b'R' {
                break;
            }
            tag = self.cursor.u8("a string")?;
        }
        String::from_utf16(&units).map_err(|_| at.malformed("a string is not Unicode"))
    }

    /// Java counts units of UTF-16 and writes each in one to three bytes; other writers use four for two.
    fn units(&mut self, count: usize, units: &mut Vec<u16>) -> Result<(), Error> {
        let end = units.len() + count;
        while units.len() < end {
            let first = self.cursor.u8("a string")?;
            let mut next = |bits: u32| -> Result<u32, Error> {
                let byte = self.cursor.u8("a string")?;
                if byte & 0xc0 != 0x80 {
                    return Err(self.cursor.malformed("a string is not UTF-8"));
                }
                Ok(bits << 6 | u32::from(byte & 0x3f))
            };
            let code = match first {
                0x00..=0x7f => u32::from(first),
                0xc0..=0xdf => next(u32::from(first & 0x1f))?,
                0xe0..=0xef => {
                    let two = next(u32::from(first & 0x0f))?;
                    next(two)?
                }
                0xf0..=0xf4 => {
                    let two = next(u32::from(first & 0x07))?;
                    let three = next(two)?;
                    next(three)?
                }
                _ => return Err(self.cursor.malformed("a string is not UTF-8")),
            };
            match u16::try_from(code) {
                Ok(unit) => units.push(unit),
                Err(_) => {
                    let Some(character) = char::from_u32(code) else {
                        return Err(self.cursor.malformed("a string is not Unicode"));
                    };
                    units.extend_from_slice(character.encode_utf16(&mut [0; 2]));
                }
            }
        }
        if units.len() > end { Err(self.cursor.malformed("a character exceeds its string")) } else { Ok(()) }
    }

    fn binary(&mut self, mut tag: u8) -> Result<Bytes, Error> {
        let at = self.cursor.clone();
        let mut chunks: Vec<Bytes> = Vec::new();
        loop {
            let count = match tag {
                0x20..=0x2f => usize::from(tag - 0x20),
                0x34..=0x37 => usize::from(tag - 0x34) << 8 | usize::from(self.cursor.u8("a binary")?),
                b'A' | b'B' => usize::from(self.cursor.u16("a binary")?),
                _ => return Err(at.malformed(format!("{tag:#04x} continues no binary"))),
            };
            chunks.push(self.cursor.take(count, "a binary")?);
            if tag != b'A' {
                break;
            }
            tag = self.cursor.u8("a binary")?;
        }
        Ok(if chunks.len() == 1 { chunks.pop().unwrap_or_default() } else { chunks.concat().into() })
    }

    fn plain_string(&mut self, what: &'static str) -> Result<String, Error> {
        let at = self.cursor.clone();
        let tag = self.cursor.u8(what)?;
        if !matches!(tag, 0x00..=0x1f | 0x30..=0x33 | b'R' | b'S') {
            return Err(at.malformed(format!("{what} is not a string")));
        }
        self.string(tag)
    }

    /// A type that has a name.
    fn type_name(&mut self) -> Result<Option<String>, Error> {
        Ok(Some(self.any_type_name()?).filter(|name| !name.is_empty()))
    }

    /// A type: its name, or the number of a name that was said before.
    fn any_type_name(&mut self) -> Result<String, Error> {
        let at = self.cursor.clone();
        match self.tagged_int()? {
            Some(index) => usize::try_from(index)
                .ok()
                .and_then(|index| self.types.get(index).cloned())
                .ok_or_else(|| at.malformed(format!("type {index} was not said before"))),
            None => {
                self.count(1)?;
                let name = self.plain_string("a type")?;
                self.types.push(name.clone());
                Ok(name)
            }
        }
    }

    fn class(&mut self) -> Result<(), Error> {
        let name = self.plain_string("the name of a class")?;
        let count = self.length("the number of fields")?;
        let mut fields = Vec::new();
        for _ in 0..count {
            self.count(1)?;
            fields.push(self.plain_string("a field's name")?);
        }
        self.classes.push((name, fields));
        Ok(())
    }

    /// Takes a place among what references can mean, before what is within takes its own.
    fn open(&mut self) -> (usize, usize) {
        let place = self.known.as_mut().map_or(0, |known| {
            known.push(None);
            known.len() - 1
        });
        (place, self.values)
    }

    fn close(&mut self, (place, before): (usize, usize), value: Value) -> Result<Value, Error> {
        let size = self.values - before + 1;
        if self.known.is_some() {
            self.count(size)?;
        }
        if let Some(known) = self.known.as_mut().and_then(|known| known.get_mut(place)) {
            *known = Some((value.clone(), size));
        }
        Ok(value)
    }

    fn is_end(&mut self) -> bool {
        let is_end = self.cursor.peek() == Some(b'Z');
        if is_end {
            let _ = self.cursor.u8("an end");
        }
        is_end
    }

    fn list(&mut self, name: Option<String>, length: Option<usize>) -> Result<Value, Error> {
        let place = self.open();
        let mut elements = Vec::new();
        while length.map_or_else(|| !self.is_end(), |length| elements.len() < length) {
            elements.push(self.value()?);
        }
        let value = match name {
            None => elements.into(),
            Some(name) => {
                Object::new().with("kind", "list").with("type", name).with("elements", elements).into()
            }
        };
        self.close(place, value)
    }

    fn map(&mut self, name: Option<String>) -> Result<Value, Error> {
        let place = self.open();
        let mut pairs = Vec::new();
        while !self.is_end() {
            pairs.push((self.value()?, self.value()?));
        }
        let are_strings = pairs.iter().all(|(key, _)| key.as_str().is_some());
        let value = if name.is_none() && self.options.plain_maps && are_strings {
            let name = |key| if let Value::String(key) = key { key } else { String::new() };
            Object::from_pairs(pairs.into_iter().map(|(key, value)| (name(key), value)).collect()).into()
        } else {
            let pair = |(key, value)| Value::Array(vec![key, value]);
            let elements: Vec<Value> = pairs.into_iter().map(pair).collect();
            let mut map = Object::new().with("kind", "map");
            if let Some(name) = name {
                map.set("type", name);
            }
            map.with("elements", elements).into()
        };
        self.close(place, value)
    }

    fn object(&mut self, class: usize) -> Result<Value, Error> {
        let Some((name, fields)) = self.classes.get(class).cloned() else {
            return Err(self.cursor.malformed(format!("class {class} was not defined before")));
        };
        // The fields' names are copied for each object, so they count.
        self.count(fields.len())?;
        let place = self.open();
        let mut elements = Vec::with_capacity(fields.len());
        for field in fields {
            elements.push((field, self.value()?));
        }
        let object = Object::new()
            .with("kind", "object")
            .with("type", name)
            .with("elements", Object::from_pairs(elements));
        self.close(place, object.into())
    }

    fn reference(&mut self) -> Result<Value, Error> {
        self.met_reference = true;
        let index = self.length("a reference")?;
        let Some(known) = &self.known else {
            return Err(self.cursor.malformed("a reference"));
        };
        match known.get(index) {
            Some(Some((value, size))) => {
                let (value, size) = (value.clone(), *size);
                self.count(size)?;
                Ok(value)
            }
            Some(None) => Err(self.cursor.malformed("a value refers to itself")),
            None => Err(self.cursor.malformed(format!("reference {index} to what was not said before"))),
        }
    }
}
