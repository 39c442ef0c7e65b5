//! From requests and responses to records.

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    BEGIN_REQUEST, CONTENT_BYTES_MAX, END_REQUEST, HEADER_BYTES, PARAMS, PROTOCOL, STDERR, STDIN, STDOUT,
};
use crate::{Error, Event, Object, Value};

/// Writes a piece of a request.
///
/// # Errors
///
/// When its head is not `{role, keepAlive, params}`.
pub fn encode_request(id: u16, event: Event, output: &mut Vec<Bytes>) -> Result<(), Error> {
    match event {
        Event::Start(head) => {
            let role =
                head.get("role").map_or(Some(1), Value::as_int).and_then(|role| u16::try_from(role).ok());
            let role = role.ok_or_else(|| Error::unencodable(PROTOCOL, "role is not 1, 2 or 3"))?;
            let keep_alive = head.get("keepAlive").is_some_and(Value::is_truthy);
            let [high, low] = role.to_be_bytes();
            let begin = [high, low, u8::from(keep_alive), 0, 0, 0, 0, 0];
            record(output, BEGIN_REQUEST, id, Bytes::copy_from_slice(&begin));
            let empty = Object::new();
            let params = pairs(head.get("params").and_then(Value::as_object).unwrap_or(&empty))?;
            stream(output, PARAMS, id, params);
            record(output, PARAMS, id, Bytes::new());
        }
        Event::Data(data) => stream(output, STDIN, id, data),
        Event::End { .. } => record(output, STDIN, id, Bytes::new()),
    }
    Ok(())
}

/// Writes a piece of a response.
///
/// # Errors
///
/// When its tail is not `{appStatus, protocolStatus, stderr}`.
pub fn encode_response(id: u16, event: Event, output: &mut Vec<Bytes>) -> Result<(), Error> {
    match event {
        Event::Start(_) => {}
        Event::Data(data) => stream(output, STDOUT, id, data),
        Event::End { tail, .. } => {
            let of = |key| tail.as_ref().and_then(|tail| tail.get(key));
            let number = |key: &'static str| {
                of(key)
                    .map_or(Some(0), Value::as_int)
                    .and_then(|number| u32::try_from(number).ok())
                    .ok_or_else(|| {
                        Error::unencodable(PROTOCOL, format!("{key} is not a number, or out of range"))
                    })
            };
            if let Some(stderr) = of("stderr").and_then(Value::to_bytes).filter(|stderr| !stderr.is_empty()) {
                stream(output, STDERR, id, stderr);
                record(output, STDERR, id, Bytes::new());
            }
            record(output, STDOUT, id, Bytes::new());
            let mut end = BytesMut::with_capacity(8);
            end.put_u32(number("appStatus")?);
            end.put_u8(u8::try_from(number("protocolStatus")?).unwrap_or_default());
            end.put_slice(&[0; 3]);
            record(output, END_REQUEST, id, end.freeze());
        }
    }
    Ok(())
}

/// As many records as the data need; none for none, since an empty one ends a stream.
fn stream(output: &mut Vec<Bytes>, kind: u8, id: u16, mut data: Bytes) {
    while !data.is_empty() {
        let part = data.split_to(data.len().min(CONTENT_BYTES_MAX));
        record(output, kind, id, part);
    }
}

/// One record, filled up to whole eights as the standard advises.
pub(super) fn record(output: &mut Vec<Bytes>, kind: u8, id: u16, content: Bytes) {
    let padding = content.len().wrapping_neg() % 8;
    let mut header = BytesMut::with_capacity(HEADER_BYTES);
    header.put_slice(&[1, kind]);
    header.put_u16(id);
    header.put_u16(u16::try_from(content.len()).unwrap_or_default());
    header.put_slice(&[u8::try_from(padding).unwrap_or_default(), 0]);
    output.push(header.freeze());
    if !content.is_empty() {
        output.push(content);
    }
    if padding > 0 {
        output.push(Bytes::from_static(&[0; 8]).slice(..padding));
    }
}

pub(super) fn pairs(object: &Object) -> Result<Bytes, Error> {
    let mut bytes = BytesMut::new();
    for (name, value) in object.iter() {
        let value = match value {
            Value::Int(number) => Bytes::from(number.to_string()),
            Value::Number(number) => Bytes::from(number.to_string()),
            value => value.to_bytes().ok_or_else(|| {
                Error::unencodable(PROTOCOL, format!("parameter {name} is {}, not a string", value.kind()))
            })?,
        };
        for length in [name.len(), value.len()] {
            match u8::try_from(length) {
                Ok(length @ 0..0x80) => bytes.put_u8(length),
                _ => bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX) | 0x8000_0000),
            }
        }
        bytes.put_slice(name.as_bytes());
        bytes.put_slice(&value);
    }
    Ok(bytes.freeze())
}
