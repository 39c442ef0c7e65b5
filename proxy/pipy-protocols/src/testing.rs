//! How every reader is tested: whole, byte by byte, and with trailing data; and fed garbage.

use bytes::Bytes;

use crate::{Decoder, Encoder, Error, Event};

/// Data that belong together become one, so that results can be compared whatever the cuts were.
pub(crate) fn joined(events: Vec<Event>) -> Vec<Event> {
    let mut out: Vec<Event> = Vec::new();
    for event in events {
        match (out.last_mut(), event) {
            (Some(Event::Data(last)), Event::Data(data)) => *last = [&last[..], &data[..]].concat().into(),
            (_, event) => out.push(event),
        }
    }
    out
}

pub(crate) fn read<D: Decoder>(mut decoder: D, chunks: &[&[u8]]) -> Result<Vec<Event>, Error> {
    let mut events = Vec::new();
    for chunk in chunks {
        decoder.push(Bytes::copy_from_slice(chunk), &mut events)?;
    }
    decoder.finish(&mut events)?;
    Ok(joined(events))
}

/// Reads `bytes` at once, byte by byte, and followed by the same again; all must mean the same.
pub(crate) fn three_ways<D: Decoder>(new: impl Fn() -> D, bytes: &[u8]) -> Vec<Event> {
    let whole = read(new(), &[bytes]).unwrap();
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(read(new(), &single).unwrap(), whole, "byte by byte");
    let twice = [bytes, bytes].concat();
    let again = read(new(), &[&twice]).unwrap();
    assert_eq!(&again[..whole.len()], &whole[..], "with trailing data");
    whole
}

pub(crate) fn write<E: Encoder>(mut encoder: E, events: &[Event]) -> Result<Vec<u8>, Error> {
    let mut output = Vec::new();
    for event in events {
        encoder.push(event.clone(), &mut output)?;
    }
    Ok(output.concat())
}

/// Everything up to the first error, whatever the bytes; the test is that nothing panics.
pub(crate) fn survive<D: Decoder>(mut decoder: D, bytes: &[u8], cut: usize) {
    let mut events = Vec::new();
    for chunk in bytes.chunks(cut.max(1)) {
        if decoder.push(Bytes::copy_from_slice(chunk), &mut events).is_err() {
            return;
        }
    }
    let _ = decoder.finish(&mut events);
}

pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// Bytes of a real program, from `tests/captures`.
pub(crate) fn capture(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/captures/{name}.hex", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    hex(&text.lines().filter(|line| !line.starts_with('#')).collect::<String>())
}

/// Reads `bytes` three ways, writes what was read, and expects the same bytes.
pub(crate) fn round_trip<D: Decoder, E: Encoder>(
    new: impl Fn() -> D,
    encoder: E,
    bytes: &[u8],
) -> Vec<Event> {
    let events = three_ways(new, bytes);
    let written = write(encoder, &events).unwrap();
    assert_eq!(written.escape_ascii().to_string(), bytes.escape_ascii().to_string());
    events
}

/// The heads of all messages.
pub(crate) fn heads(events: &[Event]) -> Vec<&crate::Value> {
    events.iter().filter_map(|event| if let Event::Start(head) = event { Some(head) } else { None }).collect()
}

/// The payloads of all messages.
pub(crate) fn payloads(events: &[Event]) -> Vec<crate::Value> {
    let payload = |event: &Event| match event {
        Event::End { payload, .. } => Some(payload.clone().unwrap_or_default()),
        _ => None,
    };
    events.iter().filter_map(payload).collect()
}
