//! What all targets ask: does it depend on the cuts, and is what was read written so that it reads the same?
//!
//! In: bytes that the fuzzer made. Nothing comes out; a broken promise panics, and the fuzzer keeps the bytes.

use bytes::Bytes;
use pipy_protocols::{Decoder, Encoder, Error, Event};

/// Reads `data` in pieces of `cut` bytes; gives what came out before the first error.
pub fn read(mut decoder: impl Decoder, data: &[u8], cut: usize) -> (Vec<Event>, Result<(), Error>) {
    let mut events = Vec::new();
    let mut result = Ok(());
    for piece in data.chunks(cut.max(1)) {
        result = decoder.push(Bytes::copy_from_slice(piece), &mut events);
        if result.is_err() {
            break;
        }
    }
    let result = result.and_then(|()| decoder.finish(&mut events));
    let mut joined: Vec<Event> = Vec::new();
    for event in events {
        match (joined.last_mut(), event) {
            (Some(Event::Data(last)), Event::Data(data)) => *last = [&last[..], &data[..]].concat().into(),
            (_, event) => joined.push(event),
        }
    }
    (joined, result)
}

/// Reads at once and in pieces: whether it is refused does not depend on the cuts, nor does what it means.
pub fn read_both_ways<D: Decoder>(new: impl Fn() -> D, data: &[u8]) -> Option<Vec<Event>> {
    let Some((cut, data)) = data.split_first() else { return None };
    let (whole, result) = read(new(), data, usize::MAX);
    let (pieces, other) = read(new(), data, usize::from(*cut));
    assert_eq!(result.is_ok(), other.is_ok(), "{result:?} at once, {other:?} in pieces of {cut}");
    if result.is_err() {
        return None;
    }
    assert!(same(&whole, &pieces), "{whole:?}\n{pieces:?}");
    Some(whole)
}

/// Writes what was read and reads that: the same, or a clear refusal to write it.
pub fn write_and_read<D: Decoder>(decoder: D, mut encoder: impl Encoder, events: &[Event]) {
    let mut output = Vec::new();
    for event in events {
        if encoder.push(event.clone(), &mut output).is_err() {
            return;
        }
    }
    let (again, result) = read(decoder, &output.concat(), usize::MAX);
    assert!(result.is_ok(), "{result:?} for what we wrote: {events:?}");
    assert!(same(events, &again), "{events:?}\n{again:?}");
}

/// Whether events are the same; NaN is the same as NaN.
pub fn same(left: &[Event], right: &[Event]) -> bool {
    left == right || format!("{left:?}") == format!("{right:?}")
}
