//! From messages to bytes.

use bytes::{BufMut, Bytes, BytesMut};

use super::attribute_out::{AS_TRANS, attributes, ip, number, prefixes, wrong};
use super::{CAPABILITIES, HEADER_BYTES, MESSAGE_BYTES_MAX, PROTOCOL, TYPES};
use crate::codec::{Gather, Whole};
use crate::{Error, Event, Value};

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

/// A code of one byte, what belongs to it, and its length before that.
fn coded(bytes: &mut BytesMut, code: &str, value: &Bytes) -> Result<(), Error> {
    let code: u8 = code.parse().map_err(|_| wrong(format!("{code:?} is no code from 0 to 255")))?;
    bytes.put_u8(code);
    bytes.put_u8(u8::try_from(value.len()).map_err(|_| wrong(format!("{code} has more than 255 bytes")))?);
    bytes.put_slice(value);
    Ok(())
}

/// Bytes, or a number as four of them; none for null.
fn raw(value: &Value) -> Result<Bytes, Error> {
    if *value == Value::Null {
        return Ok(Bytes::new());
    }
    match value.as_int().and_then(|number| u32::try_from(number).ok()) {
        Some(number) => Ok(Bytes::copy_from_slice(&number.to_be_bytes())),
        None => value.to_bytes().ok_or_else(|| wrong(format!("a value is {}, not Data", value.kind()))),
    }
}

/// The capability of who speaks of AS numbers of four bytes (RFC 6793).
const FOUR_BYTES: &str = "65";

fn open(bytes: &mut BytesMut, body: &Value) -> Result<(), Error> {
    bytes.put_u8(number(body, "version", 4)?);
    let my_as: u32 = number(body, "myAS", 0)?;
    bytes.put_u16(u16::try_from(my_as).unwrap_or(AS_TRANS));
    bytes.put_u16(number(body, "holdTime", 0)?);
    bytes.put_slice(&ip(body.get("identifier"), "identifier")?.octets());
    let fields = |of: Option<&Value>| -> Vec<(String, Value)> {
        let fields = of.and_then(Value::as_object).into_iter().flat_map(crate::Object::iter);
        fields.map(|(code, value)| (code.to_owned(), value.clone())).collect()
    };
    let mut parameters = BytesMut::new();
    let given = body.get("parameters");
    for (code, value) in fields(given).iter().filter(|(code, _)| code != "Capabilities") {
        coded(&mut parameters, code, &raw(value)?)?;
    }
    let mut capabilities = fields(body.get("capabilities"));
    for (code, value) in fields(given.and_then(|given| given.get("Capabilities"))) {
        if capabilities.iter().all(|(known, _)| *known != code) {
            capabilities.push((code, value));
        }
    }
    // Who has a number that two bytes cannot hold could not say it otherwise.
    if my_as > u16::MAX.into() && capabilities.iter().all(|(code, _)| code != FOUR_BYTES) {
        capabilities.push((FOUR_BYTES.to_owned(), my_as.into()));
    }
    for (code, value) in &capabilities {
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
    part(bytes, &prefixes(body.get("withdrawnRoutes"), false)?)?;
    part(bytes, &attributes(body.get("pathAttributes"), as4)?)?;
    bytes.put_slice(&prefixes(body.get("destinations"), false)?);
    Ok(())
}
