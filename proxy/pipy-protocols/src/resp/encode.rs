//! From values to RESP.
//!
//! The version is that of the head (`{protocol: 2 | 3}`), else the last one named, else 2. What version 2
//! cannot say is said as Redis does for clients of version 2: a map as a flat array, a set as an array, a
//! boolean as 0 or 1, a double as a string.

use bytes::{BufMut, Bytes, BytesMut};

use super::{DEPTH_MAX, PROTOCOL};
use crate::codec::{Gather, Whole};
use crate::{Error, Event, Value};

/// Writes one direction of a connection.
#[derive(Debug)]
pub struct Encoder {
    gather: Gather,
    protocol: u8,
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Encoder {
    /// An encoder that writes version 2 until a head asks for 3.
    #[must_use]
    pub fn new() -> Self {
        Self { gather: Gather::default(), protocol: 2 }
    }
}

impl crate::Encoder for Encoder {
    fn push(&mut self, event: Event, output: &mut Vec<Bytes>) -> Result<(), Error> {
        let Some(Whole { head, payload, tail, .. }) = self.gather.push(PROTOCOL, event, usize::MAX)? else {
            return Ok(());
        };
        match head.get("protocol").map(Value::as_int) {
            None => {}
            Some(Some(2)) => self.protocol = 2,
            Some(Some(3)) => self.protocol = 3,
            Some(_) => return Err(Error::unencodable(PROTOCOL, "protocol is neither 2 nor 3")),
        }
        let payload = payload.or(tail).unwrap_or_default();
        let mut bytes = BytesMut::new();
        match &payload {
            Value::Array(values) if head.get("type").and_then(Value::as_str) == Some("push") => {
                let mark = if self.protocol == 3 { b'>' } else { b'*' };
                length(&mut bytes, mark, values.len());
                for value in values {
                    one(&mut bytes, value, self.protocol, 1)?;
                }
            }
            value => one(&mut bytes, value, self.protocol, 0)?,
        }
        output.push(bytes.freeze());
        Ok(())
    }
}

/// A value as version 2 says it.
///
/// # Errors
///
/// When RESP has no words for it.
pub fn encode(value: &Value) -> Result<Bytes, Error> {
    let mut bytes = BytesMut::new();
    one(&mut bytes, value, 2, 0)?;
    Ok(bytes.freeze())
}

fn length(bytes: &mut BytesMut, mark: u8, length: usize) {
    line(bytes, mark, &length.to_string());
}

fn line(bytes: &mut BytesMut, mark: u8, text: &str) {
    bytes.put_u8(mark);
    bytes.put_slice(text.as_bytes());
    bytes.put_slice(b"\r\n");
}

fn bulk(bytes: &mut BytesMut, mark: u8, string: &[u8]) {
    length(bytes, mark, string.len());
    bytes.put_slice(string);
    bytes.put_slice(b"\r\n");
}

fn one(bytes: &mut BytesMut, value: &Value, protocol: u8, depth: usize) -> Result<(), Error> {
    if depth > DEPTH_MAX {
        return Err(Error::unencodable(PROTOCOL, format!("more than {DEPTH_MAX} arrays within each other")));
    }
    let is_3 = protocol == 3;
    match value {
        Value::Null if is_3 => bytes.put_slice(b"_\r\n"),
        Value::Null => bytes.put_slice(b"$-1\r\n"),
        Value::Bool(value) if is_3 => line(bytes, b'#', if *value { "t" } else { "f" }),
        Value::Bool(value) => line(bytes, b':', if *value { "1" } else { "0" }),
        Value::Int(value) | Value::Date(value) => line(bytes, b':', &value.to_string()),
        Value::Number(number) if !is_3 => match value.as_int() {
            Some(whole) => line(bytes, b':', &whole.to_string()),
            None => bulk(bytes, b'$', double(*number).as_bytes()),
        },
        Value::Number(number) => line(bytes, b',', &double(*number)),
        // What a simple string cannot hold is a bulk string.
        Value::String(text) if text.contains(['\r', '\n']) => bulk(bytes, b'$', text.as_bytes()),
        Value::String(text) => line(bytes, b'+', text),
        Value::Bytes(string) => bulk(bytes, b'$', string),
        Value::Error(text) if is_3 && text.contains(['\r', '\n']) => bulk(bytes, b'!', text.as_bytes()),
        Value::Error(text) => line(bytes, b'-', &text.replace(['\r', '\n'], " ")),
        Value::Array(values) => {
            length(bytes, b'*', values.len());
            values.iter().try_for_each(|value| one(bytes, value, protocol, depth + 1))?;
        }
        Value::Set(values) => {
            length(bytes, if is_3 { b'~' } else { b'*' }, values.len());
            values.iter().try_for_each(|value| one(bytes, value, protocol, depth + 1))?;
        }
        Value::Map(pairs) => {
            map(bytes, is_3, pairs.len());
            for (key, value) in pairs {
                one(bytes, key, protocol, depth + 1)?;
                one(bytes, value, protocol, depth + 1)?;
            }
        }
        Value::Object(object) => {
            map(bytes, is_3, object.len());
            for (key, value) in object.iter() {
                bulk(bytes, b'$', key.as_bytes());
                one(bytes, value, protocol, depth + 1)?;
            }
        }
    }
    Ok(())
}

fn map(bytes: &mut BytesMut, is_3: bool, count: usize) {
    if is_3 { length(bytes, b'%', count) } else { length(bytes, b'*', count * 2) }
}

fn double(number: f64) -> String {
    match number {
        f64::INFINITY => "inf".into(),
        f64::NEG_INFINITY => "-inf".into(),
        number if number.is_nan() => "nan".into(),
        number => number.to_string(),
    }
}
