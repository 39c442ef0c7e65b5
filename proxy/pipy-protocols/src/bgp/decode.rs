//! From bytes to messages.

use bytes::Bytes;

use super::attribute_in::{attribute, ip, prefixes};
use super::{CAPABILITIES, HEADER_BYTES, MESSAGE_BYTES_MAX, PROTOCOL, TYPES};
use crate::input::{Cursor, Input};
use crate::{Error, Event, Object, Value};

/// Reads one direction of a session.
#[derive(Debug, Default)]
pub struct Decoder {
    input: Input,
    as4: bool,
}

impl Decoder {
    /// A decoder; with `as4`, AS numbers have four bytes, as the peers have agreed.
    #[must_use]
    pub fn new(as4: bool) -> Self {
        Self { input: Input::new(), as4 }
    }

    /// Sets what the peers have agreed on by their OPEN messages.
    pub fn set_as4(&mut self, as4: bool) {
        self.as4 = as4;
    }
}

impl crate::Decoder for Decoder {
    fn push(&mut self, data: Bytes, events: &mut Vec<Event>) -> Result<(), Error> {
        self.input.push(data);
        loop {
            let bytes = self.input.peek();
            let start = self.input.position();
            if bytes.iter().take(16).any(|byte| *byte != 0xff) {
                return Err(Error::malformed(PROTOCOL, start, "a message does not start with its marker"));
            }
            let Some(&[l0, l1, kind]) = bytes.get(16..).and_then(|rest| rest.first_chunk::<3>()) else {
                return Ok(());
            };
            let length = usize::from(u16::from_be_bytes([l0, l1]));
            if !(HEADER_BYTES..=MESSAGE_BYTES_MAX).contains(&length) {
                return Err(Error::malformed(PROTOCOL, start + 16, format!("a message of {length} bytes")));
            }
            if bytes.len() < length {
                return Ok(());
            }
            self.input.skip(HEADER_BYTES);
            let body = self.input.take(length - HEADER_BYTES);
            let payload = message(Cursor::new(PROTOCOL, body, start + HEADER_BYTES as u64), kind, self.as4)?;
            events.push(Event::Start(Object::new().into()));
            events.push(Event::end_with(payload));
        }
    }

    fn finish(&mut self, _: &mut Vec<Event>) -> Result<(), Error> {
        if self.input.is_empty() {
            return Ok(());
        }
        let position = self.input.position() + self.input.len() as u64;
        Err(Error::Truncated { protocol: PROTOCOL, position })
    }
}

fn message(mut cursor: Cursor, kind: u8, as4: bool) -> Result<Value, Error> {
    let Some(name) = usize::from(kind).checked_sub(1).and_then(|index| TYPES.get(index)) else {
        return Err(cursor.malformed(format!("a message of type {kind}")));
    };
    let body: Value = match kind {
        1 => open(&mut cursor)?.into(),
        2 => update(&mut cursor, as4)?.into(),
        3 => Object::new()
            .with("errorCode", cursor.u8("an error")?)
            .with("errorSubcode", cursor.u8("an error")?)
            .with("data", cursor.rest())
            .into(),
        4 => Value::Null,
        _ => {
            let afi = cursor.u16("a family")?;
            cursor.u8("a family")?;
            Object::new().with("afi", afi).with("safi", cursor.u8("a family")?).into()
        }
    };
    if !cursor.is_empty() {
        return Err(cursor.malformed(format!("{} bytes too many in {name}", cursor.remaining())));
    }
    Ok(Object::new().with("type", *name).with("body", body).into())
}

/// The type of a parameter that is none.
const EXTENDED_LENGTH: u8 = 255;

fn open(cursor: &mut Cursor) -> Result<Object, Error> {
    let body = Object::new()
        .with("version", cursor.u8("the version")?)
        .with("myAS", cursor.u16("an AS")?)
        .with("holdTime", cursor.u16("the hold time")?)
        .with("identifier", ip(cursor)?);
    let (mut capabilities, mut parameters) = (Object::new(), Object::new());
    let mut length = usize::from(cursor.u8("the length of parameters")?);
    // RFC 9072: a first parameter of this type says that lengths have two bytes.
    let long = length != 0 && cursor.peek() == Some(EXTENDED_LENGTH);
    if long {
        cursor.u8("a parameter")?;
        length = usize::from(cursor.u16("the length of parameters")?);
    }
    let mut all = cursor.sub(length, "parameters")?;
    while !all.is_empty() {
        let kind = all.u8("a parameter")?;
        let length = match long {
            true => usize::from(all.u16("a parameter")?),
            false => usize::from(all.u8("a parameter")?),
        };
        let mut one = all.sub(length, "a parameter")?;
        if kind != CAPABILITIES {
            parameters.set(kind.to_string(), one.rest());
            continue;
        }
        while !one.is_empty() {
            let code = one.u8("a capability")?;
            let length = usize::from(one.u8("a capability")?);
            let value = Value::Bytes(one.take(length, "a capability")?);
            // A capability may occur once for each family.
            let value = match capabilities.get(&code.to_string()) {
                None => value,
                Some(Value::Array(values)) => [&values[..], &[value]].concat().into(),
                Some(first) => vec![first.clone(), value].into(),
            };
            capabilities.set(code.to_string(), value);
        }
    }
    Ok(body.with("capabilities", capabilities).with("parameters", parameters))
}

fn update(cursor: &mut Cursor, as4: bool) -> Result<Object, Error> {
    let length = usize::from(cursor.u16("the length of routes")?);
    let withdrawn = prefixes(cursor.sub(length, "withdrawn routes")?, false)?;
    let length = usize::from(cursor.u16("the length of attributes")?);
    let mut attributes = cursor.sub(length, "attributes")?;
    let mut all: Vec<Value> = Vec::new();
    while !attributes.is_empty() {
        all.push(attribute(&mut attributes, as4)?.into());
    }
    let rest = cursor.remaining();
    let destinations = prefixes(cursor.sub(rest, "destinations")?, false)?;
    Ok(Object::new()
        .with("withdrawnRoutes", withdrawn)
        .with("pathAttributes", all)
        .with("destinations", destinations))
}
