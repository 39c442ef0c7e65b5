//! STUN messages (RFC 8489): what a peer asks a server, and what that answers about the way to it.
//!
//! A message is `{type, transactionID, attributes}`: `type` such as `BindingRequest`, `BindingResponse`,
//! `BindingError`, `BindingIndication`, or a number; `transactionID` 24 hexadecimal digits; `attributes` a list of
//! `{type, value}`. The value of an address (`MAPPED-ADDRESS`, `XOR-MAPPED-ADDRESS`, `ALTERNATE-SERVER`, `RESPONSE-ORIGIN`,
//! `OTHER-ADDRESS`) is `{address, port}`, of a text (`USERNAME`, `REALM`, `NONCE`, `SOFTWARE`) a string, of `ERROR-CODE` `{code, reason}`,
//! of others `Data`; attributes without a name have a number for a type.
//!
//! Not done here: checking MESSAGE-INTEGRITY and FINGERPRINT, which are `Data`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::{BufMut, Bytes, BytesMut};

use crate::input::Cursor;
use crate::{Error, Object, Value};

const PROTOCOL: &str = "STUN";
/// RFC 8489 §5.
const COOKIE: u32 = 0x2112_a442;

const TYPES: [(u16, &str); 4] = [
    (0x0001, "BindingRequest"),
    (0x0011, "BindingIndication"),
    (0x0101, "BindingResponse"),
    (0x0111, "BindingError"),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Address,
    Xored,
    Text,
    Error,
    Raw,
}

const ATTRIBUTES: [(u16, &str, Form); 16] = [
    (0x0001, "MAPPED-ADDRESS", Form::Address),
    (0x0003, "CHANGE-REQUEST", Form::Raw),
    (0x0006, "USERNAME", Form::Text),
    (0x0008, "MESSAGE-INTEGRITY", Form::Raw),
    (0x0009, "ERROR-CODE", Form::Error),
    (0x000a, "UNKNOWN-ATTRIBUTES", Form::Raw),
    (0x0014, "REALM", Form::Text),
    (0x0015, "NONCE", Form::Text),
    (0x001c, "MESSAGE-INTEGRITY-SHA256", Form::Raw),
    (0x0020, "XOR-MAPPED-ADDRESS", Form::Xored),
    (0x0024, "PRIORITY", Form::Raw),
    (0x8022, "SOFTWARE", Form::Text),
    (0x8023, "ALTERNATE-SERVER", Form::Address),
    (0x8028, "FINGERPRINT", Form::Raw),
    (0x802b, "RESPONSE-ORIGIN", Form::Address),
    (0x802c, "OTHER-ADDRESS", Form::Address),
];

fn named(name: &str) -> Option<(u16, Form)> {
    ATTRIBUTES.iter().find(|known| known.1 == name).map(|known| (known.0, known.2))
}

/// Reads a message.
///
/// # Errors
///
/// When it is malformed.
pub fn decode(bytes: &Bytes) -> Result<Value, Error> {
    let mut cursor = Cursor::new(PROTOCOL, bytes.clone(), 0);
    let at = cursor.clone();
    let kind = cursor.u16("the type")?;
    if kind & 0xc000 != 0 {
        return Err(at.malformed("this is no STUN message"));
    }
    let length = cursor.u16("the length")?;
    if cursor.u32("the cookie")? != COOKIE {
        return Err(at.malformed("the magic cookie is missing"));
    }
    let id = cursor.take(12, "the transaction")?;
    let body = cursor.take(length.into(), "the attributes")?;
    let mut cursor = Cursor::new(PROTOCOL, body, 20);
    let mut attributes = Vec::new();
    while !cursor.is_empty() {
        let code = cursor.u16("an attribute's type")?;
        let length = usize::from(cursor.u16("an attribute's length")?);
        let at = cursor.clone();
        let value = cursor.take(length, "an attribute")?;
        let filling = length.next_multiple_of(4) - length;
        cursor.take(filling, "an attribute's filling")?;
        let known = ATTRIBUTES.iter().find(|known| known.0 == code);
        let form = known.map_or(Form::Raw, |known| known.2);
        let value = match form {
            Form::Raw => Value::Bytes(value),
            Form::Text => Value::text_or_bytes(value),
            Form::Address | Form::Xored => {
                let key = (form == Form::Xored).then_some(&id);
                address(&value, key).ok_or_else(|| at.malformed("this is no address"))?
            }
            Form::Error => match value.get(2..4) {
                Some(&[class, number]) => Object::new()
                    .with("code", u32::from(class & 7) * 100 + u32::from(number))
                    .with("reason", Value::text_or_bytes(value.slice(4..)))
                    .into(),
                _ => return Err(at.malformed("an error without a code")),
            },
        };
        let name = known.map_or_else(|| Value::from(code), |known| known.1.into());
        attributes.push(Object::new().with("type", name).with("value", value).into());
    }
    let name = TYPES.iter().find(|known| known.0 == kind);
    let name = name.map_or_else(|| Value::from(kind), |known| known.1.into());
    let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Object::new().with("type", name).with("transactionID", id).with("attributes", attributes).into())
}

/// The mask of an address: the cookie and the transaction.
fn mask(id: Option<&Bytes>) -> [u8; 16] {
    let mut mask = [0; 16];
    if let Some(id) = id {
        let key = COOKIE.to_be_bytes().into_iter().chain(id.iter().copied());
        mask.iter_mut().zip(key).for_each(|(byte, key)| *byte = key);
    }
    mask
}

fn address(bytes: &Bytes, key: Option<&Bytes>) -> Option<Value> {
    let (&[_, family, high, low], host) = bytes.split_first_chunk::<4>()?;
    let mask = mask(key);
    let port = u16::from_be_bytes([high ^ mask[0], low ^ mask[1]]);
    let plain: Vec<u8> = host.iter().zip(mask).map(|(byte, key)| byte ^ key).collect();
    let ip: IpAddr = match family {
        1 => Ipv4Addr::from(<[u8; 4]>::try_from(plain).ok()?).into(),
        2 => Ipv6Addr::from(<[u8; 16]>::try_from(plain).ok()?).into(),
        _ => return None,
    };
    Some(Object::new().with("address", ip.to_string()).with("port", port).into())
}

fn wrong(why: impl Into<String>) -> Error {
    Error::unencodable(PROTOCOL, why.into())
}

/// Writes a message.
///
/// # Errors
///
/// When it cannot be said.
pub fn encode(message: &Value) -> Result<Bytes, Error> {
    let kind = match message.get("type") {
        Some(Value::String(name)) => {
            let known = TYPES.iter().find(|known| known.1 == name);
            known.ok_or_else(|| wrong(format!("type: there is no {name:?}")))?.0
        }
        Some(number) => number.as_int().and_then(|number| u16::try_from(number).ok()).unwrap_or(u16::MAX),
        None => return Err(wrong("type is missing")),
    };
    if kind & 0xc000 != 0 {
        return Err(wrong("type is no number of 14 bits"));
    }
    let id = match message.get("transactionID") {
        Some(Value::Bytes(bytes)) => Some(bytes.clone()),
        Some(Value::String(text)) => {
            let pair = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
            (0..text.len()).step_by(2).map(pair).collect::<Option<Vec<u8>>>().map(Bytes::from)
        }
        _ => None,
    };
    let id =
        id.filter(|id| id.len() == 12).ok_or_else(|| wrong("transactionID: 24 hexadecimal digits are"))?;
    let mut body = BytesMut::new();
    for attribute in message.get("attributes").and_then(Value::as_array).unwrap_or_default() {
        let (code, form) = match attribute.get("type") {
            Some(Value::String(name)) => {
                named(name).ok_or_else(|| wrong(format!("there is no attribute {name:?}")))?
            }
            Some(number) => {
                let code = number.as_int().and_then(|number| u16::try_from(number).ok());
                (code.ok_or_else(|| wrong("an attribute's type is no number of 16 bits"))?, Form::Raw)
            }
            None => return Err(wrong("an attribute has no type")),
        };
        let value = attribute.get("value").unwrap_or(&Value::Null);
        let bytes = match form {
            Form::Raw | Form::Text => value.to_bytes().ok_or_else(|| wrong("an attribute has no bytes"))?,
            Form::Address | Form::Xored => address_bytes(value, (form == Form::Xored).then_some(&id))?,
            Form::Error => error_bytes(value)?,
        };
        let length = u16::try_from(bytes.len()).map_err(|_| wrong("an attribute is too long"))?;
        body.put_u16(code);
        body.put_u16(length);
        body.put_slice(&bytes);
        body.put_bytes(0, bytes.len().next_multiple_of(4) - bytes.len());
    }
    let mut bytes = BytesMut::with_capacity(20 + body.len());
    bytes.put_u16(kind);
    bytes.put_u16(u16::try_from(body.len()).map_err(|_| wrong("the message is too long"))?);
    bytes.put_u32(COOKIE);
    bytes.put_slice(&id);
    bytes.put_slice(&body);
    Ok(bytes.freeze())
}

fn address_bytes(value: &Value, key: Option<&Bytes>) -> Result<Bytes, Error> {
    let ip: Option<IpAddr> = value.get("address").and_then(Value::as_str).and_then(|text| text.parse().ok());
    let port = value.get("port").and_then(Value::as_int).and_then(|port| u16::try_from(port).ok());
    let (Some(ip), Some(port)) = (ip, port) else { return Err(wrong("an address is {address, port}")) };
    let mask = mask(key);
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u8(if ip.is_ipv4() { 1 } else { 2 });
    bytes.put_u16(port ^ u16::from_be_bytes([mask[0], mask[1]]));
    let host = match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    host.iter().zip(mask).for_each(|(byte, key)| bytes.put_u8(byte ^ key));
    Ok(bytes.freeze())
}

fn error_bytes(value: &Value) -> Result<Bytes, Error> {
    let code = value.get("code").and_then(Value::as_int).filter(|code| (300..700).contains(code));
    let code =
        code.and_then(|code| u16::try_from(code).ok()).ok_or_else(|| wrong("an error is 300 to 699"))?;
    let [_, class] = (code / 100).to_be_bytes();
    let [_, number] = (code % 100).to_be_bytes();
    let mut bytes = BytesMut::new();
    bytes.put_slice(&[0, 0, class, number]);
    bytes.put_slice(value.get("reason").and_then(Value::as_str).unwrap_or_default().as_bytes());
    Ok(bytes.freeze())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hex(text: &str) -> Bytes {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    #[test]
    fn the_responses_of_rfc_5769_are_read() {
        let v4 = hex("0101003c 2112a442 b7e7a701bc34d686fa87dfae 8022000b 7465737420766563746f7220 \
                      00200008 0001a147e112a643 00080014 2b91f599fd9e90c38c7489f92af9ba53f06be7d7 80280004 c07d4c96");
        let message = decode(&v4).unwrap();
        let attributes = message.get("attributes").and_then(Value::as_array).unwrap();
        assert_eq!(message.get("type"), Some(&"BindingResponse".into()));
        assert_eq!(attributes[0].get("value"), Some(&"test vector".into()));
        let address = attributes[1].get("value").unwrap();
        assert_eq!(address.get("address"), Some(&"192.0.2.1".into()));
        assert_eq!(address.get("port"), Some(&Value::Int(32853)));
        // The vector fills with blanks, we with zeros; the rest is the same.
        let again = encode(&message).unwrap();
        assert_eq!((again.len(), &again[..35]), (v4.len(), &v4[..35]));
        assert_eq!(decode(&again), Ok(message));
    }

    #[test]
    fn what_cannot_be_said_is_refused() {
        let id = "00".repeat(12);
        let with = |kind: &str, value: Value| {
            let attribute = Object::new().with("type", kind.to_owned()).with("value", value);
            Object::new()
                .with("type", "BindingResponse")
                .with("transactionID", id.clone())
                .with("attributes", vec![Value::from(attribute)])
                .into()
        };
        for (message, why) in [
            (Value::Null, "type is missing"),
            (Object::new().with("type", "Nonsense").into(), "there is no \"Nonsense\""),
            (Object::new().with("type", "BindingRequest").into(), "24 hexadecimal digits"),
            (with("XOR-MAPPED-ADDRESS", Value::Null), "an address is {address, port}"),
            (with("ERROR-CODE", Object::new().with("code", 200).into()), "300 to 699"),
            (with("NONSENSE", Value::Null), "no attribute"),
        ] {
            let said = encode(&message).unwrap_err().to_string();
            assert!(said.contains(why), "{said}");
        }
    }

    proptest! {
        #[test]
        fn garbage_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..80), framed in any::<bool>()) {
            let mut all = bytes;
            if framed && all.len() >= 20 {
                let length = u16::try_from(all.len() - 20).unwrap_or_default();
                all[0] &= 0x3f;
                all[2..4].copy_from_slice(&length.to_be_bytes());
                all[4..8].copy_from_slice(&COOKIE.to_be_bytes());
            }
            if let Ok(message) = decode(&all.into()) {
                prop_assert_eq!(decode(&encode(&message).unwrap()), Ok(message));
            }
        }
    }
}
