//! From MQTT messages to bytes.
//!
//! A script may leave out what follows from the rest: the level is that of the last message that named
//! one; a missing reason is success; a reason of MQTT 5 becomes the nearest code of 3.1.1 where the client
//! speaks that.

use bytes::{BufMut, Bytes, BytesMut};

use super::properties::{self, WILL};
use super::{
    AUTH, CONNACK, CONNECT, DISCONNECT, LEVEL_5, LEVEL_DEFAULT, NAMES, PROTOCOL, PUBACK, PUBLISH, PUBREL,
    REMAINING_MAX, SUBACK, SUBSCRIBE, UNSUBACK, UNSUBSCRIBE,
};
use crate::codec::{Gather, Whole};
use crate::{Error, Event, Value};

/// Writes one direction of a connection.
#[derive(Debug)]
pub struct Encoder {
    gather: Gather,
    level: u8,
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Encoder {
    /// An encoder that writes 3.1.1 until a message names another level.
    #[must_use]
    pub fn new() -> Self {
        Self::with_level(LEVEL_DEFAULT)
    }

    /// An encoder for a connection whose level is known: 3, 4 or 5.
    #[must_use]
    pub fn with_level(level: u8) -> Self {
        Self { gather: Gather::default(), level }
    }

    /// The level of a connection, learnt by the decoder of its other direction.
    pub fn set_level(&mut self, level: u8) {
        self.level = level;
    }

    fn message(&mut self, whole: Whole, output: &mut Vec<Bytes>) -> Result<(), Error> {
        let head = &whole.head;
        let Some(name) = head.get("type").and_then(Value::as_str) else {
            return Err(Error::unencodable(PROTOCOL, "the head has no type, such as 'PUBLISH'"));
        };
        let Some(packet) = NAMES.iter().skip(1).position(|known| *known == name) else {
            return Err(Error::unencodable(PROTOCOL, format!("there is no packet type {name:?}")));
        };
        let packet = u8::try_from(packet + 1).unwrap_or_default();
        if let Some(level) = head.get("protocolLevel") {
            let level = number(level, "protocolLevel")?;
            if !(3..=5).contains(&level) {
                return Err(Error::unencodable(PROTOCOL, format!("there is no protocolLevel {level}")));
            }
            self.level = level;
        }
        let mut bytes = BytesMut::with_capacity(64);
        let mut flags = if matches!(packet, PUBREL | SUBSCRIBE | UNSUBSCRIBE) { 2 } else { 0 };
        match packet {
            CONNECT => self.connect(head, whole.payload.as_ref(), &mut bytes)?,
            PUBLISH => flags = self.publish(head, &mut bytes)?,
            _ => self.other(packet, head, whole.payload.as_ref(), &mut bytes)?,
        }
        let body = if packet == PUBLISH { whole.body_bytes } else { 0 };
        let mut header = BytesMut::with_capacity(5 + bytes.len());
        header.put_u8(packet << 4 | flags);
        varint(&mut header, bytes.len() + body)?;
        header.put_slice(&bytes);
        output.push(header.freeze());
        if packet == PUBLISH {
            output.extend(whole.body);
        }
        Ok(())
    }

    fn is_level_5(&self) -> bool {
        self.level >= LEVEL_5
    }

    fn properties(&self, packet: u8, of: &Value, bytes: &mut BytesMut) -> Result<(), Error> {
        // What is left of MQTT 5 when the other side speaks 3.1.1 has no place there, and is dropped.
        if self.is_level_5() { properties::write(bytes, packet, of.get("properties")) } else { Ok(()) }
    }

    fn connect(&self, head: &Value, payload: Option<&Value>, bytes: &mut BytesMut) -> Result<(), Error> {
        let of = |key| payload.and_then(|payload| payload.get(key)).or_else(|| head.get(key));
        let (name, password, will) = (of("username"), of("password"), of("will"));
        let mut flags = if of("cleanStart").is_none_or(Value::is_truthy) { 2 } else { 0 };
        if let Some(will) = will {
            flags |= 4 | (qos(will)? << 3);
            flags |= if will.get("retain").is_some_and(Value::is_truthy) { 0x20 } else { 0 };
        }
        if password.is_some() && name.is_none() && !self.is_level_5() {
            return Err(Error::unencodable(PROTOCOL, "a password without username, in MQTT 3.1.1"));
        }
        flags |= if name.is_some() { 0x80 } else { 0 };
        flags |= if password.is_some() { 0x40 } else { 0 };
        text(bytes, if self.level == 3 { "MQIsdp" } else { "MQTT" }, "the protocol's name")?;
        bytes.put_u8(self.level);
        bytes.put_u8(flags);
        bytes.put_u16(head.get("keepAlive").map_or(Ok(0), |value| number(value, "keepAlive"))?);
        self.properties(CONNECT, head, bytes)?;
        text(bytes, of("clientID").and_then(Value::as_str).unwrap_or_default(), "clientID")?;
        if let Some(will) = will {
            self.properties(WILL, will, bytes)?;
            prefixed(bytes, will.get("topic").unwrap_or(&Value::Null), "the will's topic")?;
            prefixed(
                bytes,
                will.get("payload").unwrap_or(&Value::String(String::new())),
                "the will's payload",
            )?;
        }
        for (value, what) in [(name, "username"), (password, "password")] {
            if let Some(value) = value {
                prefixed(bytes, value, what)?;
            }
        }
        Ok(())
    }

    fn publish(&self, head: &Value, bytes: &mut BytesMut) -> Result<u8, Error> {
        let flag = |key: &str, bit| if head.get(key).is_some_and(Value::is_truthy) { bit } else { 0 };
        let qos = qos(head)?;
        let topic = head.get("topicName").and_then(Value::as_str).unwrap_or_default();
        let alias = head.get("properties").and_then(|properties| properties.get("topicAlias"));
        if topic.contains(['+', '#']) || (topic.is_empty() && !(self.is_level_5() && alias.is_some())) {
            return Err(Error::unencodable(PROTOCOL, format!("topicName {topic:?} of a PUBLISH")));
        }
        text(bytes, topic, "topicName")?;
        if qos > 0 {
            bytes.put_u16(identifier(head, PUBLISH)?);
        }
        self.properties(PUBLISH, head, bytes)?;
        Ok(qos << 1 | flag("retain", 1) | if qos > 0 { flag("dup", 8) } else { 0 })
    }

    fn other(
        &self,
        packet: u8,
        head: &Value,
        payload: Option<&Value>,
        bytes: &mut BytesMut,
    ) -> Result<(), Error> {
        let reason = head.get("reasonCode").map_or(Ok(0), |value| number(value, "reasonCode"))?;
        if (PUBACK..=UNSUBACK).contains(&packet) {
            bytes.put_u16(identifier(head, packet)?);
        }
        match packet {
            CONNACK => {
                // MQTT 5.0 §3.2.2.1.1: a refusal has no session.
                let session = reason == 0 && head.get("sessionPresent").is_some_and(Value::is_truthy);
                bytes.put_u8(u8::from(session));
                bytes.put_u8(if self.is_level_5() { reason } else { return_code(reason) });
                self.properties(packet, head, bytes)?;
            }
            SUBSCRIBE | UNSUBSCRIBE => {
                self.properties(packet, head, bytes)?;
                let filters = payload
                    .and_then(|payload| payload.get("topicFilters"))
                    .or(payload.filter(|payload| payload.as_array().is_some()))
                    .or_else(|| head.get("topicFilters"));
                self.filters(packet, filters, bytes)?;
            }
            SUBACK | UNSUBACK => {
                self.properties(packet, head, bytes)?;
                // A script that refuses says so once, in the head.
                let one = [Value::from(reason)];
                let codes =
                    payload.and_then(Value::as_array).filter(|codes| !codes.is_empty()).unwrap_or(&one);
                for code in codes {
                    let code: u8 = number(code, "a code")?;
                    match (self.is_level_5(), packet) {
                        (true, _) => bytes.put_u8(code),
                        (false, SUBACK) => bytes.put_u8(if code > 2 { 0x80 } else { code }),
                        (false, _) => {}
                    }
                }
            }
            AUTH if !self.is_level_5() => {
                return Err(Error::unencodable(PROTOCOL, "AUTH, in MQTT 3.1.1"));
            }
            _ if self.is_level_5() && (PUBACK..SUBSCRIBE).contains(&packet) || packet >= DISCONNECT => {
                let properties = head.get("properties").and_then(Value::as_object);
                let properties = properties.is_some_and(|properties| !properties.is_empty());
                if self.is_level_5() && (reason != 0 || properties) {
                    bytes.put_u8(reason);
                    if properties {
                        self.properties(packet, head, bytes)?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn filters(&self, packet: u8, filters: Option<&Value>, bytes: &mut BytesMut) -> Result<(), Error> {
        let filters = filters.and_then(Value::as_array).unwrap_or_default();
        if filters.is_empty() {
            return Err(Error::unencodable(
                PROTOCOL,
                format!("{} without topicFilters", super::name(packet)),
            ));
        }
        for filter in filters {
            let of = filter.get("filter").unwrap_or(filter);
            let Some(topic) = of.as_str().filter(|topic| !topic.is_empty()) else {
                return Err(Error::unencodable(PROTOCOL, "a topic filter is not a string"));
            };
            text(bytes, topic, "a topic filter")?;
            if packet == SUBSCRIBE {
                let mut options = qos(filter)?;
                if self.is_level_5() {
                    let flag = |key, bit| if filter.get(key).is_some_and(Value::is_truthy) { bit } else { 0 };
                    let handling: u8 = filter
                        .get("retainHandling")
                        .map_or(Ok(0), |value| number(value, "retainHandling"))?;
                    options |= flag("noLocal", 4) | flag("retainAsPublished", 8) | (handling.min(2) << 4);
                }
                bytes.put_u8(options);
            }
        }
        Ok(())
    }
}

impl crate::Encoder for Encoder {
    fn push(&mut self, event: Event, output: &mut Vec<Bytes>) -> Result<(), Error> {
        match self.gather.push(PROTOCOL, event, REMAINING_MAX)? {
            Some(whole) => self.message(whole, output),
            None => Ok(()),
        }
    }
}

/// The code of 3.1.1 (§3.2.2.3) that says most of what a reason of MQTT 5 says.
const fn return_code(reason: u8) -> u8 {
    match reason {
        0..=5 => reason,
        0x84 => 1,
        0x85 => 2,
        0x86 => 4,
        0x88 | 0x89 | 0x97 => 3,
        _ => 5,
    }
}

fn qos(of: &Value) -> Result<u8, Error> {
    match of.get("qos").map_or(Ok(0), |value| number(value, "qos"))? {
        qos @ 0..=2 => Ok(qos),
        other => Err(Error::unencodable(PROTOCOL, format!("there is no qos {other}"))),
    }
}

/// Answers that a script made from nothing may have none: their senders ask to be refused.
fn identifier(head: &Value, packet: u8) -> Result<u16, Error> {
    match head.get("packetIdentifier") {
        Some(value) => number(value, "packetIdentifier"),
        None if matches!(packet, PUBLISH | SUBSCRIBE | UNSUBSCRIBE) => {
            Err(Error::unencodable(PROTOCOL, format!("{} needs a packetIdentifier", super::name(packet))))
        }
        None => Ok(0),
    }
}

pub(super) fn number<T: TryFrom<i64>>(value: &Value, what: &str) -> Result<T, Error> {
    value
        .as_int()
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| Error::unencodable(PROTOCOL, format!("{what} is {}, or out of range", value.kind())))
}

pub(super) fn varint(bytes: &mut BytesMut, mut value: usize) -> Result<(), Error> {
    if value > REMAINING_MAX {
        return Err(Error::unencodable(PROTOCOL, format!("{value} bytes are more than a packet can have")));
    }
    loop {
        let low = u8::try_from(value & 127).unwrap_or_default();
        value >>= 7;
        bytes.put_u8(if value > 0 { low | 128 } else { low });
        if value == 0 {
            return Ok(());
        }
    }
}

pub(super) fn text(bytes: &mut BytesMut, text: &str, what: &str) -> Result<(), Error> {
    if text.contains('\0') {
        return Err(Error::unencodable(PROTOCOL, format!("{what} has a NUL")));
    }
    raw(bytes, text.as_bytes(), what)
}

/// Text or bytes, after their length.
pub(super) fn prefixed(bytes: &mut BytesMut, value: &Value, what: &str) -> Result<(), Error> {
    match value {
        Value::String(value) => raw(bytes, value.as_bytes(), what),
        Value::Bytes(value) => raw(bytes, value, what),
        other => Err(Error::unencodable(PROTOCOL, format!("{what} is {}, not a string", other.kind()))),
    }
}

fn raw(bytes: &mut BytesMut, raw: &[u8], what: &str) -> Result<(), Error> {
    let Ok(length) = u16::try_from(raw.len()) else {
        return Err(Error::unencodable(PROTOCOL, format!("{what} exceeds 65535 bytes")));
    };
    bytes.put_u16(length);
    bytes.put_slice(raw);
    Ok(())
}
