//! From messages to bytes.

use std::net::Ipv4Addr;

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    ATTRIBUTES, CAPABILITIES, EXTENDED, HEADER_BYTES, MESSAGE_BYTES_MAX, OPTIONAL, PARTIAL, PROTOCOL,
    TRANSITIVE, TYPES,
};
use crate::codec::{Gather, Whole};
use crate::{Error, Event, Object, Value};

/// Writes one direction of a session.
#[derive(Debug, Default)]
pub struct Encoder {
    gather: Gather,
    as4: bool,
}

impl Encoder {
    /// An encoder; with `as4`, AS numbers have four bytes, as the peers have agreed.
    #[must_use]
    pub fn new(as4: bool) -> Self {
        Self { gather: Gather::default(), as4 }
    }

    /// Sets what the peers have agreed on by their OPEN messages.
    pub fn set_as4(&mut self, as4: bool) {
        self.as4 = as4;
    }
}

impl crate::Encoder for Encoder {
    fn push(&mut self, event: Event, output: &mut Vec<Bytes>) -> Result<(), Error> {
        let Some(Whole { payload, .. }) = self.gather.push(PROTOCOL, event, usize::MAX)? else {
            return Ok(());
        };
        let payload = payload.unwrap_or_default();
        let name = payload.get("type").and_then(Value::as_str).unwrap_or("KEEPALIVE");
        let Some(kind) = TYPES.iter().position(|known| *known == name) else {
            return Err(wrong(format!("there is no message {name:?}")));
        };
        let null = Value::Null;
        let body = payload.get("body").unwrap_or(&null);
        let mut bytes = BytesMut::new();
        match kind {
            0 => open(&mut bytes, body)?,
            1 => update(&mut bytes, body, self.as4)?,
            2 => {
                bytes.put_u8(number(body, "errorCode", 0)?);
                bytes.put_u8(number(body, "errorSubcode", 0)?);
                bytes.put_slice(&body.get("data").and_then(Value::to_bytes).unwrap_or_default());
            }
            3 => {}
            _ => {
                bytes.put_u16(number(body, "afi", 1)?);
                bytes.put_u8(0);
                bytes.put_u8(number(body, "safi", 1)?);
            }
        }
        let length = HEADER_BYTES + bytes.len();
        if length > MESSAGE_BYTES_MAX {
            return Err(wrong(format!("{name} takes {length} bytes, {MESSAGE_BYTES_MAX} are the limit")));
        }
        let mut header = BytesMut::with_capacity(length);
        header.put_bytes(0xff, 16);
        header.put_u16(u16::try_from(length).unwrap_or_default());
        header.put_u8(u8::try_from(kind + 1).unwrap_or_default());
        header.put_slice(&bytes);
        output.push(header.freeze());
        Ok(())
    }
}

fn wrong(reason: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::unencodable(PROTOCOL, reason)
}

fn number<T: TryFrom<i64>>(of: &Value, key: &str, default: i64) -> Result<T, Error> {
    of.get(key)
        .map_or(Some(default), Value::as_int)
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| wrong(format!("{key} is no number, or out of range")))
}

fn ip(value: Option<&Value>, what: &str) -> Result<Ipv4Addr, Error> {
    let text = value.and_then(Value::as_str).unwrap_or_default();
    text.parse().map_err(|_| wrong(format!("{what} {text:?} is not an IPv4 address")))
}

/// A code of one byte, what belongs to it, and its length before that.
fn coded(bytes: &mut BytesMut, code: &str, value: &Bytes) -> Result<(), Error> {
    let code: u8 = code.parse().map_err(|_| wrong(format!("{code:?} is no code from 0 to 255")))?;
    bytes.put_u8(code);
    bytes.put_u8(u8::try_from(value.len()).map_err(|_| wrong(format!("{code} has more than 255 bytes")))?);
    bytes.put_slice(value);
    Ok(())
}

/// Bytes, or a number as four of them.
fn raw(value: &Value) -> Result<Bytes, Error> {
    match value.as_int().and_then(|number| u32::try_from(number).ok()) {
        Some(number) => Ok(Bytes::copy_from_slice(&number.to_be_bytes())),
        None => value.to_bytes().ok_or_else(|| wrong(format!("a value is {}, not Data", value.kind()))),
    }
}

fn open(bytes: &mut BytesMut, body: &Value) -> Result<(), Error> {
    bytes.put_u8(number(body, "version", 4)?);
    // RFC 6793 §4.2.3: who has a number that two bytes cannot hold says 23456.
    let my_as: u32 = number(body, "myAS", 0)?;
    bytes.put_u16(u16::try_from(my_as).unwrap_or(23456));
    bytes.put_u16(number(body, "holdTime", 0)?);
    bytes.put_slice(&ip(body.get("identifier"), "identifier")?.octets());
    let fields = |key: &str| body.get(key).and_then(Value::as_object).into_iter().flat_map(Object::iter);
    let mut parameters = BytesMut::new();
    for (code, value) in fields("parameters") {
        coded(&mut parameters, code, &raw(value)?)?;
    }
    for (code, value) in fields("capabilities") {
        let values = match value {
            Value::Array(values) => values,
            value => std::slice::from_ref(value),
        };
        for value in values {
            let mut capability = BytesMut::new();
            coded(&mut capability, code, &raw(value)?)?;
            coded(&mut parameters, &CAPABILITIES.to_string(), &capability.freeze())?;
        }
    }
    bytes.put_u8(u8::try_from(parameters.len()).map_err(|_| wrong("parameters take more than 255 bytes"))?);
    bytes.put_slice(&parameters);
    Ok(())
}

fn update(bytes: &mut BytesMut, body: &Value, as4: bool) -> Result<(), Error> {
    let part = |bytes: &mut BytesMut, part: &[u8]| {
        bytes.put_u16(u16::try_from(part.len()).map_err(|_| wrong("UPDATE is too long"))?);
        bytes.put_slice(part);
        Ok::<(), Error>(())
    };
    part(bytes, &prefixes(body.get("withdrawnRoutes"))?)?;
    let mut attributes = BytesMut::new();
    for attribute in body.get("pathAttributes").and_then(Value::as_array).unwrap_or_default() {
        self::attribute(&mut attributes, attribute, as4)?;
    }
    part(bytes, &attributes)?;
    bytes.put_slice(&prefixes(body.get("destinations"))?);
    Ok(())
}

fn prefixes(value: Option<&Value>) -> Result<BytesMut, Error> {
    let mut bytes = BytesMut::new();
    for prefix in value.and_then(Value::as_array).unwrap_or_default() {
        let text = prefix.as_str().unwrap_or_default();
        let (address, bits) = text.split_once('/').unwrap_or((text, "32"));
        let parsed = address.parse::<Ipv4Addr>().ok().zip(bits.parse().ok().filter(|bits: &u8| *bits <= 32));
        let (address, bits) =
            parsed.ok_or_else(|| wrong(format!("{text:?} is no prefix such as 10.0.0.0/8")))?;
        bytes.put_u8(bits);
        bytes.put_slice(address.octets().get(..usize::from(bits.div_ceil(8))).unwrap_or_default());
    }
    Ok(bytes)
}

fn asn(bytes: &mut BytesMut, value: Option<&Value>, as4: bool) -> Result<(), Error> {
    let number = value.and_then(Value::as_int).and_then(|number| u32::try_from(number).ok());
    let number = number.ok_or_else(|| wrong("an AS is no number, or out of range"))?;
    if as4 {
        bytes.put_u32(number)
    } else {
        bytes.put_u16(u16::try_from(number).unwrap_or(23456))
    }
    Ok(())
}

fn attribute(bytes: &mut BytesMut, attribute: &Value, as4: bool) -> Result<(), Error> {
    let named = attribute.get("name").and_then(Value::as_str);
    let index = named.and_then(|name| ATTRIBUTES.iter().position(|row| row.0 == name));
    let code: u8 = match index {
        Some(index) => u8::try_from(index + 1).unwrap_or_default(),
        None => number(attribute, "code", 0)?,
    };
    let Some(&(name, optional, transitive)) =
        usize::from(code).checked_sub(1).map(|index| ATTRIBUTES.get(index).unwrap_or(&("", true, true)))
    else {
        return Err(wrong(format!("there is no attribute {:?}", named.unwrap_or_default())));
    };
    let null = Value::Null;
    let value = attribute.get("value").unwrap_or(&null);
    let mut content = BytesMut::new();
    match name {
        "ORIGIN" => content.put_u8(number(attribute, "value", 0)?),
        "AS_PATH" => {
            for segment in value.as_array().unwrap_or_default() {
                let path = segment.get("path").and_then(Value::as_array).unwrap_or_default();
                content.put_u8(if segment.get("type").and_then(Value::as_str) == Some("AS_SET") {
                    1
                } else {
                    2
                });
                content.put_u8(u8::try_from(path.len()).map_err(|_| wrong("a segment of more than 255 AS"))?);
                path.iter().try_for_each(|number| asn(&mut content, Some(number), as4))?;
            }
        }
        "NEXT_HOP" => content.put_slice(&ip(Some(value), name)?.octets()),
        "MULTI_EXIT_DISC" | "LOCAL_PREF" => content.put_u32(number(attribute, "value", 0)?),
        "AGGREGATOR" => {
            asn(&mut content, value.get("as"), as4)?;
            content.put_slice(&ip(value.get("ip"), name)?.octets());
        }
        _ => content.put_slice(&value.to_bytes().unwrap_or_default()),
    }
    let flag = |key: &str, default: bool| attribute.get(key).map_or(default, Value::is_truthy);
    let mut flags = if flag("optional", optional) { OPTIONAL } else { 0 };
    flags |= if flag("transitive", transitive) { TRANSITIVE } else { 0 };
    flags |= if flag("partial", false) { PARTIAL } else { 0 };
    match u8::try_from(content.len()) {
        Ok(length) => bytes.put_slice(&[flags, code, length]),
        Err(_) => {
            bytes.put_slice(&[flags | EXTENDED, code]);
            bytes.put_u16(u16::try_from(content.len()).map_err(|_| wrong("an attribute is too long"))?);
        }
    }
    bytes.put_slice(&content);
    Ok(())
}
