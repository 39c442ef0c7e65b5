//! Properties of MQTT 5 packets (MQTT 5.0 §2.2.2): one table, read in both directions.
//!
//! Invariants: a property that its packet may not have, or has twice, is refused both ways. `userProperty`
//! is an array of `{name, value}`, for a name may occur more than once and order counts;
//! `subscriptionIdentifier` is a number, or an array where a PUBLISH has several.

use bytes::{BufMut, BytesMut};

use super::{AUTH, CONNACK, CONNECT, DISCONNECT, PROTOCOL, PUBLISH, SUBSCRIBE, UNSUBSCRIBE};
use super::{decode, encode};
use crate::{Error, Object, Value, input::Cursor};

/// Where the properties of a will are counted; no packet has this type.
pub(super) const WILL: u8 = 0;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Byte,
    Short,
    Long,
    Varint,
    Text,
    Binary,
    Pair,
}

type Row = (u8, &'static str, Kind, u16);

const fn on(packets: &[u8]) -> u16 {
    let (mut bits, mut at) = (0, 0);
    while at < packets.len() {
        #[allow(clippy::indexing_slicing)] // Evaluated when the program is built.
        {
            bits |= 1 << packets[at];
        }
        at += 1;
    }
    bits
}

/// CONNACK, all acknowledgements, DISCONNECT and AUTH.
const ANSWERS: u16 = on(&[2, 4, 5, 6, 7, 9, 11, 14, 15]);
const SERVER: u16 = on(&[CONNACK]);

const TABLE: [Row; 27] = [
    (0x01, "payloadFormatIndicator", Kind::Byte, on(&[PUBLISH, WILL])),
    (0x02, "messageExpiryInterval", Kind::Long, on(&[PUBLISH, WILL])),
    (0x03, "contentType", Kind::Text, on(&[PUBLISH, WILL])),
    (0x08, "responseTopic", Kind::Text, on(&[PUBLISH, WILL])),
    (0x09, "correlationData", Kind::Binary, on(&[PUBLISH, WILL])),
    (0x0b, "subscriptionIdentifier", Kind::Varint, on(&[PUBLISH, SUBSCRIBE])),
    (0x11, "sessionExpiryInterval", Kind::Long, on(&[CONNECT, CONNACK, DISCONNECT])),
    (0x12, "assignedClientIdentifier", Kind::Text, SERVER),
    (0x13, "serverKeepAlive", Kind::Short, SERVER),
    (0x15, "authenticationMethod", Kind::Text, on(&[CONNECT, CONNACK, AUTH])),
    (0x16, "authenticationData", Kind::Binary, on(&[CONNECT, CONNACK, AUTH])),
    (0x17, "requestProblemInformation", Kind::Byte, on(&[CONNECT])),
    (0x18, "willDelayInterval", Kind::Long, on(&[WILL])),
    (0x19, "requestResponseInformation", Kind::Byte, on(&[CONNECT])),
    (0x1a, "responseInformation", Kind::Text, SERVER),
    (0x1c, "serverReference", Kind::Text, on(&[CONNACK, DISCONNECT])),
    (0x1f, "reasonString", Kind::Text, ANSWERS),
    (0x21, "receiveMaximum", Kind::Short, on(&[CONNECT, CONNACK])),
    (0x22, "topicAliasMaximum", Kind::Short, on(&[CONNECT, CONNACK])),
    (0x23, "topicAlias", Kind::Short, on(&[PUBLISH])),
    (0x24, "maximumQoS", Kind::Byte, SERVER),
    (0x25, "retainAvailable", Kind::Byte, SERVER),
    (0x26, "userProperty", Kind::Pair, ANSWERS | on(&[CONNECT, PUBLISH, WILL, SUBSCRIBE, UNSUBSCRIBE])),
    (0x27, "maximumPacketSize", Kind::Long, on(&[CONNECT, CONNACK])),
    (0x28, "wildcardSubscriptionAvailable", Kind::Byte, SERVER),
    (0x29, "subscriptionIdentifiersAvailable", Kind::Byte, SERVER),
    (0x2a, "sharedSubscriptionAvailable", Kind::Byte, SERVER),
];

/// Reads the properties of a packet, with their length.
pub(super) fn read(cursor: &mut Cursor, packet: u8) -> Result<Object, Error> {
    let length = decode::varint(cursor, "the length of properties")?;
    let mut cursor = cursor.sub(length, "properties")?;
    let mut object = Object::new();
    let (mut pairs, mut identifiers) = (Vec::new(), Vec::new());
    while !cursor.is_empty() {
        let at = cursor.clone();
        let id = decode::varint(&mut cursor, "a property")?;
        let Some(&(_, name, kind, _)) =
            TABLE.iter().find(|row| usize::from(row.0) == id && row.3 & (1 << packet) != 0)
        else {
            return Err(at.malformed(format!("property {id:#04x} does not belong here")));
        };
        let value = value(&mut cursor, kind, name)?;
        match (kind, packet) {
            // What can be repeated takes its place when it first occurs, and its value at the end.
            (Kind::Pair, _) | (Kind::Varint, PUBLISH) => {
                object.set(name, Value::Null);
                if kind == Kind::Pair { &mut pairs } else { &mut identifiers }.push(value);
            }
            _ if object.get(name).is_some() => return Err(at.malformed(format!("{name} occurs twice"))),
            _ => object.set(name, value),
        }
    }
    match identifiers.len() {
        0 => {}
        1 => object.set("subscriptionIdentifier", identifiers.pop().unwrap_or_default()),
        _ => object.set("subscriptionIdentifier", identifiers),
    }
    if !pairs.is_empty() {
        object.set("userProperty", pairs);
    }
    Ok(object)
}

fn value(cursor: &mut Cursor, kind: Kind, name: &'static str) -> Result<Value, Error> {
    Ok(match kind {
        Kind::Byte => cursor.u8(name)?.into(),
        Kind::Short => cursor.u16(name)?.into(),
        Kind::Long => cursor.u32(name)?.into(),
        Kind::Varint => {
            let number = decode::varint(cursor, name)?;
            if number == 0 {
                return Err(cursor.malformed("a subscription identifier of 0"));
            }
            Value::Int(number as i64)
        }
        Kind::Text => decode::text(cursor, name)?.into(),
        Kind::Binary => decode::binary(cursor, name)?.into(),
        Kind::Pair => {
            let key = decode::text(cursor, name)?;
            Object::new().with("name", key).with("value", decode::text(cursor, name)?).into()
        }
    })
}

/// Writes the properties of a packet, with their length; none when `value` is not there.
pub(super) fn write(output: &mut BytesMut, packet: u8, value: Option<&Value>) -> Result<(), Error> {
    let mut bytes = BytesMut::new();
    if let Some(value) = value {
        let Some(object) = value.as_object() else {
            return Err(Error::unencodable(
                PROTOCOL,
                format!("properties are {}, not an object", value.kind()),
            ));
        };
        for (name, value) in object.iter().filter(|(_, value)| **value != Value::Null) {
            let Some(&(id, name, kind, packets)) = TABLE.iter().find(|row| row.1 == name) else {
                return Err(Error::unencodable(PROTOCOL, format!("there is no property {name}")));
            };
            if packets & (1 << packet) == 0 {
                let place = if packet == WILL { "a will" } else { super::name(packet) };
                return Err(Error::unencodable(PROTOCOL, format!("{place} cannot have {name}")));
            }
            one(&mut bytes, id, name, kind, value)?;
        }
    }
    encode::varint(output, bytes.len())?;
    output.put_slice(&bytes);
    Ok(())
}

fn one(bytes: &mut BytesMut, id: u8, name: &str, kind: Kind, value: &Value) -> Result<(), Error> {
    let values: &[Value] = match (kind, value) {
        (Kind::Varint | Kind::Pair, Value::Array(values)) => values,
        (Kind::Pair, Value::Object(object)) if object.get("name").is_none() => {
            // The short form `{key: value}` is taken too.
            for (key, value) in object.iter() {
                pair(bytes, id, key, value.as_str())?;
            }
            return Ok(());
        }
        _ => std::slice::from_ref(value),
    };
    for value in values {
        if kind == Kind::Pair {
            let text = |key| value.get(key).and_then(Value::as_str);
            pair(bytes, id, text("name").unwrap_or_default(), text("value"))?;
            continue;
        }
        bytes.put_u8(id);
        match kind {
            Kind::Byte => bytes.put_u8(encode::number(value, name)?),
            Kind::Short => bytes.put_u16(encode::number(value, name)?),
            Kind::Long => bytes.put_u32(encode::number(value, name)?),
            Kind::Varint => encode::varint(bytes, encode::number::<u32>(value, name)? as usize)?,
            Kind::Text | Kind::Binary | Kind::Pair => encode::prefixed(bytes, value, name)?,
        }
    }
    Ok(())
}

fn pair(bytes: &mut BytesMut, id: u8, key: &str, value: Option<&str>) -> Result<(), Error> {
    let Some(value) = value else {
        return Err(Error::unencodable(PROTOCOL, "userProperty is not [{name, value}] with strings"));
    };
    bytes.put_u8(id);
    encode::text(bytes, key, "userProperty")?;
    encode::text(bytes, value, "userProperty")
}
