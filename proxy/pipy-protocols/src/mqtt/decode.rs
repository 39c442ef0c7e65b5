//! From bytes to MQTT messages.
//!
//! Packets are read when they are complete, but for PUBLISH: its head is read when that is complete, and
//! the body passes as it arrives.

use bytes::Bytes;

use super::properties::{self, WILL};
use super::{
    AUTH, CONNACK, CONNECT, DISCONNECT, LEVEL_5, LEVEL_DEFAULT, PACKET_BYTES_MAX, PINGREQ, PINGRESP,
    PROTOCOL, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, SUBACK, SUBSCRIBE, UNSUBACK, UNSUBSCRIBE,
};
use crate::input::{Cursor, Input};
use crate::{Error, Event, Object, Value};

/// Reads one direction of a connection.
#[derive(Debug)]
pub struct Decoder {
    input: Input,
    state: State,
    level: Option<u8>,
}

#[derive(Debug)]
enum State {
    Header,
    /// A packet other than PUBLISH: its first byte, and how many bytes follow the header.
    Packet(u8, usize),
    /// The head of a PUBLISH.
    Publish(u8, usize),
    /// What is left of a PUBLISH's body.
    Body(usize),
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// A decoder that finds the protocol's level itself.
    #[must_use]
    pub fn new() -> Self {
        Self { input: Input::new(), state: State::Header, level: None }
    }

    /// A decoder for a connection whose level is known: 3, 4 or 5.
    #[must_use]
    pub fn with_level(level: u8) -> Self {
        Self { input: Input::new(), state: State::Header, level: Some(level) }
    }

    /// The level that CONNECT or CONNACK has shown.
    #[must_use]
    pub const fn level(&self) -> Option<u8> {
        self.level
    }

    fn is_level_5(&self) -> bool {
        self.level.unwrap_or(LEVEL_DEFAULT) >= LEVEL_5
    }

    fn header(&mut self) -> Result<bool, Error> {
        let position = self.input.position();
        let bytes = self.input.peek();
        let Some(&first) = bytes.first() else { return Ok(false) };
        let (packet, flags) = (first >> 4, first & 15);
        // MQTT 5.0 §2.1.3.
        let flags_are_right = match packet {
            PUBLISH => flags & 6 != 6 && (flags & 6 != 0 || flags & 8 == 0),
            PUBREL | SUBSCRIBE | UNSUBSCRIBE => flags == 2,
            _ => flags == 0,
        };
        if packet == 0 || !flags_are_right {
            return Err(Error::malformed(PROTOCOL, position, format!("{first:#04x} starts no packet")));
        }
        let Some((length, size)) = remaining_length(bytes.get(1..).unwrap_or_default(), position + 1)? else {
            return Ok(false);
        };
        if packet != PUBLISH && length > PACKET_BYTES_MAX {
            return Err(too_large(position));
        }
        self.input.skip(1 + size);
        self.state =
            if packet == PUBLISH { State::Publish(flags, length) } else { State::Packet(first, length) };
        Ok(true)
    }

    /// The head of a PUBLISH; `None` when more is needed.
    fn publish(&mut self, flags: u8, length: usize) -> Result<Option<(Value, usize)>, Error> {
        let bytes = self.input.peek();
        let qos = (flags >> 1) & 3;
        let Some(topic) = bytes.get(..2).and_then(|two| two.try_into().ok()).map(u16::from_be_bytes) else {
            return if length < 2 { Err(self.broken("a PUBLISH without a topic")) } else { Ok(None) };
        };
        let mut head_bytes = 2 + usize::from(topic) + if qos > 0 { 2 } else { 0 };
        if self.is_level_5() && head_bytes < length {
            let rest = bytes.get(head_bytes..).unwrap_or_default();
            let position = self.input.position() + head_bytes as u64;
            match remaining_length(rest, position)? {
                Some((properties, size)) => head_bytes += properties + size,
                None => return Ok(None),
            }
        }
        if head_bytes > length {
            return Err(self.broken("the head of a PUBLISH exceeds the packet"));
        }
        if head_bytes > PACKET_BYTES_MAX {
            return Err(too_large(self.input.position()));
        }
        if self.input.len() < head_bytes {
            return Ok(None);
        }
        let start = self.input.position();
        let mut cursor = Cursor::new(PROTOCOL, self.input.take(head_bytes), start);
        let mut head = self.new_head(PUBLISH);
        head.set("qos", qos);
        head.set("dup", flags & 8 != 0);
        head.set("retain", flags & 1 != 0);
        let topic = text(&mut cursor, "the topic")?;
        if topic.contains(['+', '#']) {
            return Err(cursor.malformed("a topic with a wildcard"));
        }
        let is_empty = topic.is_empty();
        head.set("topicName", topic);
        if qos > 0 {
            head.set("packetIdentifier", identifier(&mut cursor)?);
        }
        let mut alias = false;
        if self.is_level_5() {
            let properties = properties::read(&mut cursor, PUBLISH)?;
            alias = properties.get("topicAlias").is_some();
            head.set("properties", properties);
        }
        if is_empty && !alias {
            return Err(cursor.malformed("a PUBLISH without a topic"));
        }
        Ok(Some((head.into(), length - head_bytes)))
    }

    fn broken(&self, reason: &'static str) -> Error {
        Error::malformed(PROTOCOL, self.input.position(), reason)
    }

    fn new_head(&self, packet: u8) -> Object {
        Object::new()
            .with("type", super::name(packet))
            .with("protocolLevel", self.level.unwrap_or(LEVEL_DEFAULT))
    }

    fn packet(&mut self, packet: u8, mut cursor: Cursor) -> Result<(Value, Option<Value>), Error> {
        let cursor = &mut cursor;
        if packet == CONNACK && self.level.is_none() {
            // A CONNACK of 3.1.1 is two bytes; one of 5 has at least the length of its properties.
            self.level = Some(if cursor.remaining() == 2 { LEVEL_DEFAULT } else { LEVEL_5 });
        }
        if packet == CONNECT {
            return self.connect(cursor);
        }
        let mut head = self.new_head(packet);
        let level_5 = self.is_level_5();
        if (PUBACK..=UNSUBACK).contains(&packet) {
            head.set("packetIdentifier", identifier(cursor)?);
        }
        let mut payload = None;
        match packet {
            CONNACK => {
                let flags = cursor.u8("the flags of CONNACK")?;
                if flags > 1 {
                    return Err(cursor.malformed("reserved flags of CONNACK are set"));
                }
                let code = cursor.u8("a return code")?;
                // MQTT 3.1.1 §3.2.2.3, and §3.2.2.2: a refusal has no session.
                if (!level_5 && code > 5) || (code != 0 && flags == 1) {
                    return Err(cursor.malformed(format!("code {code:#04x} with flags {flags} of CONNACK")));
                }
                head.set("sessionPresent", flags == 1);
                head.set("reasonCode", code);
                if level_5 {
                    head.set("properties", properties::read(cursor, packet)?);
                }
            }
            PUBACK | PUBREC | PUBREL | PUBCOMP | DISCONNECT if level_5 => reason(cursor, packet, &mut head)?,
            AUTH if level_5 => reason(cursor, packet, &mut head)?,
            PUBACK | PUBREC | PUBREL | PUBCOMP | DISCONNECT | PINGREQ | PINGRESP => {}
            SUBSCRIBE | UNSUBSCRIBE | SUBACK | UNSUBACK => {
                if level_5 {
                    head.set("properties", properties::read(cursor, packet)?);
                }
                let list = list(cursor, packet, level_5)?;
                if packet == SUBSCRIBE {
                    head.set("topicFilters", list.clone());
                    payload = Some(Object::new().with("topicFilters", list).into());
                } else {
                    payload = Some(list.into());
                }
            }
            _ => return Err(cursor.malformed(format!("{} in MQTT 3.1.1", super::name(packet)))),
        }
        if !cursor.is_empty() {
            return Err(cursor.malformed(format!(
                "{} bytes too many in {}",
                cursor.remaining(),
                super::name(packet)
            )));
        }
        Ok((head.into(), payload))
    }

    /// MQTT 5.0 §3.1.
    fn connect(&mut self, cursor: &mut Cursor) -> Result<(Value, Option<Value>), Error> {
        let name = text(cursor, "the protocol's name")?;
        let level = cursor.u8("the protocol's level")?;
        if !matches!((name.as_str(), level), ("MQTT", 4 | 5) | ("MQIsdp", 3)) {
            return Err(cursor.malformed(format!("protocol {name:?} of level {level}")));
        }
        self.level = Some(level);
        let flags = cursor.u8("the flags of CONNECT")?;
        let [has_name, has_password, has_will] = [0x80, 0x40, 4].map(|bit| flags & bit != 0);
        let will_qos = (flags >> 3) & 3;
        if flags & 1 != 0
            || will_qos == 3
            || (!has_will && flags & 0x38 != 0)
            || (has_password && !has_name && level < LEVEL_5)
        {
            return Err(cursor.malformed(format!("flags {flags:#04x} of CONNECT contradict each other")));
        }
        let mut head = self.new_head(CONNECT).with("keepAlive", cursor.u16("the keep-alive")?);
        if level >= LEVEL_5 {
            head.set("properties", properties::read(cursor, CONNECT)?);
        }
        let client = text(cursor, "the client's identifier")?;
        head.set("clientID", client.clone());
        let mut payload = Object::new().with("clientID", client);
        if has_will {
            let mut will = Object::new().with("qos", will_qos).with("retain", flags & 0x20 != 0);
            if level >= LEVEL_5 {
                will.set("properties", properties::read(cursor, WILL)?);
            }
            will.set("topic", text(cursor, "the will's topic")?);
            will.set("payload", binary(cursor, "the will's payload")?);
            payload.set("will", will);
        }
        if has_name {
            let name = text(cursor, "the user's name")?;
            head.set("username", name.clone());
            payload.set("username", name);
        }
        if has_password {
            let password = binary(cursor, "the password")?;
            head.set("password", Value::text_or_bytes(password.clone()));
            payload.set("password", password);
        }
        payload.set("cleanStart", flags & 2 != 0);
        if !cursor.is_empty() {
            return Err(cursor.malformed(format!("{} bytes too many in CONNECT", cursor.remaining())));
        }
        Ok((head.into(), Some(payload.into())))
    }
}

impl crate::Decoder for Decoder {
    fn push(&mut self, data: Bytes, events: &mut Vec<Event>) -> Result<(), Error> {
        self.input.push(data);
        loop {
            match self.state {
                State::Header => {
                    if !self.header()? {
                        return Ok(());
                    }
                }
                State::Packet(first, length) => {
                    if self.input.len() < length {
                        return Ok(());
                    }
                    let start = self.input.position();
                    let cursor = Cursor::new(PROTOCOL, self.input.take(length), start);
                    let (head, payload) = self.packet(first >> 4, cursor)?;
                    self.state = State::Header;
                    events.push(Event::Start(head));
                    events.push(Event::End { tail: None, payload });
                }
                State::Publish(flags, length) => {
                    let Some((head, body)) = self.publish(flags, length)? else { return Ok(()) };
                    events.push(Event::Start(head));
                    self.state = State::Body(body);
                }
                State::Body(0) => {
                    events.push(Event::END);
                    self.state = State::Header;
                }
                State::Body(left) => {
                    if self.input.is_empty() {
                        return Ok(());
                    }
                    let data = self.input.take(left);
                    self.state = State::Body(left - data.len());
                    events.push(Event::Data(data));
                }
            }
        }
    }

    fn finish(&mut self, _: &mut Vec<Event>) -> Result<(), Error> {
        match self.state {
            State::Header if self.input.is_empty() => Ok(()),
            _ => Err(Error::Truncated {
                protocol: PROTOCOL,
                position: self.input.position() + self.input.len() as u64,
            }),
        }
    }
}

fn too_large(position: u64) -> Error {
    Error::TooLarge { protocol: PROTOCOL, position, what: "a packet in bytes", max: PACKET_BYTES_MAX as u64 }
}

/// A length of one to four bytes, and how many they were; `None` when it is not complete.
fn remaining_length(bytes: &[u8], position: u64) -> Result<Option<(usize, usize)>, Error> {
    let mut value = 0;
    for (at, &byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 127) << (7 * at);
        if byte & 128 == 0 {
            if byte == 0 && at > 0 {
                return Err(Error::malformed(PROTOCOL, position, "a length is longer than needed"));
            }
            return Ok(Some((value, at + 1)));
        }
    }
    if bytes.len() >= 4 {
        return Err(Error::malformed(PROTOCOL, position, "a length of more than four bytes"));
    }
    Ok(None)
}

pub(super) fn varint(cursor: &mut Cursor, what: &'static str) -> Result<usize, Error> {
    let position = cursor.position();
    let mut bytes = Vec::with_capacity(4);
    loop {
        bytes.push(cursor.u8(what)?);
        if let Some((value, _)) = remaining_length(&bytes, position)? {
            return Ok(value);
        }
    }
}

pub(super) fn binary(cursor: &mut Cursor, what: &'static str) -> Result<Bytes, Error> {
    let length = cursor.u16(what)?;
    cursor.take(usize::from(length), what)
}

pub(super) fn text(cursor: &mut Cursor, what: &'static str) -> Result<String, Error> {
    let length = cursor.u16(what)?;
    let text = cursor.text(usize::from(length), what)?;
    // MQTT 5.0 §1.5.4: the one character that no string may have.
    if text.contains('\0') { Err(cursor.malformed(format!("{what} has a NUL"))) } else { Ok(text) }
}

fn identifier(cursor: &mut Cursor) -> Result<u16, Error> {
    match cursor.u16("a packet identifier")? {
        0 => Err(cursor.malformed("a packet identifier of 0")),
        identifier => Ok(identifier),
    }
}

/// Reason code and properties, both of which may be missing at the end of a packet.
fn reason(cursor: &mut Cursor, packet: u8, head: &mut Object) -> Result<(), Error> {
    head.set("reasonCode", if cursor.is_empty() { 0 } else { cursor.u8("a reason code")? });
    if !cursor.is_empty() {
        head.set("properties", properties::read(cursor, packet)?);
    }
    Ok(())
}

/// Topic filters or codes, to the end of the packet.
fn list(cursor: &mut Cursor, packet: u8, level_5: bool) -> Result<Vec<Value>, Error> {
    let mut list: Vec<Value> = Vec::new();
    while !cursor.is_empty() {
        if matches!(packet, SUBACK | UNSUBACK) {
            let code = cursor.u8("a code")?;
            // MQTT 3.1.1 §3.9.3.
            if !level_5 && !matches!(code, 0..=2 | 0x80) {
                return Err(cursor.malformed(format!("code {code:#04x} of SUBACK")));
            }
            list.push(code.into());
            continue;
        }
        let filter = text(cursor, "a topic filter")?;
        if filter.is_empty() {
            return Err(cursor.malformed("an empty topic filter"));
        }
        if packet == UNSUBSCRIBE {
            list.push(filter.into());
            continue;
        }
        let options = cursor.u8("the options of a subscription")?;
        let allowed = if level_5 { 0x3f } else { 3 };
        if options & !allowed != 0 || options & 3 == 3 || options & 0x30 == 0x30 {
            return Err(cursor.malformed(format!("options {options:#04x} of a subscription")));
        }
        let mut entry = Object::new().with("filter", filter).with("qos", options & 3);
        if level_5 {
            entry.set("noLocal", options & 4 != 0);
            entry.set("retainAsPublished", options & 8 != 0);
            entry.set("retainHandling", options >> 4);
        }
        list.push(entry.into());
    }
    if list.is_empty() && (packet != UNSUBACK || level_5) {
        return Err(cursor.malformed(format!("{} without entries", super::name(packet))));
    }
    if packet == UNSUBACK && !level_5 && !list.is_empty() {
        return Err(cursor.malformed("UNSUBACK with codes in MQTT 3.1.1"));
    }
    Ok(list)
}
