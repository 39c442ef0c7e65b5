//! Bytes into frames (RFC 9113 §4.1).
//!
//! In: chunks as the socket gave them. Out: [`Unit`]s: whole frames, but DATA in pieces as they come,
//! so that a body is neither copied nor held back.
//!
//! ```text
//! Preface ──24 bytes──► Header ──9 bytes──┬─ DATA ──► (PadLength ──►) Data ──► Padding ──┐
//! (servers only)          ▲               └─ other ─► Payload ───────────────────────────┤
//!                         └──────────────────────────────────────────────────────────────┘
//! ```
//!
//! Invariants: no more than one frame's payload is held, and none between frames; a frame that is too
//! long is refused at its header.
//!
//! Not done here: what frames mean.

use bytes::{Buf, Bytes};

use crate::ConnectionError;
use crate::frame::{FRAME_HEADER_LEN, FrameHeader, Kind, flag};

/// What a client's connection begins with (RFC 9113 §3.4).
pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame, or a part of a DATA frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Frame(FrameHeader, Bytes),
    /// A DATA frame begins, with so many bytes of content after the padding is taken off.
    DataBegin(FrameHeader, u32),
    Data(Bytes),
    DataEnd,
}

/// The place in the stream of bytes.
#[derive(Debug)]
pub(crate) struct Input {
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// So many bytes of the preface have come.
    Preface(u8),
    Header {
        bytes: [u8; FRAME_HEADER_LEN],
        have: u8,
    },
    Payload {
        header: FrameHeader,
        bytes: Vec<u8>,
    },
    PadLength(FrameHeader),
    Data {
        left: u32,
        padding: u32,
    },
    Padding(u32),
}

const AT_HEADER: Place = Place::Header { bytes: [0; FRAME_HEADER_LEN], have: 0 };

impl Input {
    pub(crate) const fn new(expect_preface: bool) -> Self {
        Self { place: if expect_preface { Place::Preface(0) } else { AT_HEADER } }
    }

    /// The next unit of `chunk`, whose bytes it takes; `None` when they are used up.
    pub(crate) fn next(
        &mut self,
        chunk: &mut Bytes,
        frame_max: u32,
    ) -> Result<Option<Unit>, ConnectionError> {
        loop {
            match &mut self.place {
                Place::Preface(have) => {
                    let rest = PREFACE.get(usize::from(*have)..).unwrap_or_default();
                    let len = rest.len().min(chunk.len());
                    // At the first wrong byte, so that HTTP/1 on this port is told at once.
                    if rest.get(..len) != chunk.get(..len) {
                        return Err(ConnectionError::BadPreface);
                    }
                    chunk.advance(len);
                    *have += len as u8;
                    if usize::from(*have) < PREFACE.len() {
                        return Ok(None);
                    }
                    self.place = AT_HEADER;
                }
                Place::Header { bytes, have } => {
                    let room = bytes.get_mut(usize::from(*have)..).unwrap_or_default();
                    let len = room.len().min(chunk.len());
                    for (to, from) in room.iter_mut().zip(chunk.iter()) {
                        *to = *from;
                    }
                    chunk.advance(len);
                    *have += len as u8;
                    if usize::from(*have) < FRAME_HEADER_LEN {
                        return Ok(None);
                    }
                    let header = FrameHeader::parse(*bytes);
                    if let Some(unit) = self.begin(header, chunk, frame_max)? {
                        return Ok(Some(unit));
                    }
                }
                Place::Payload { header, bytes } => {
                    let len = (header.len as usize - bytes.len()).min(chunk.len());
                    bytes.extend_from_slice(chunk.get(..len).unwrap_or_default());
                    chunk.advance(len);
                    if bytes.len() < header.len as usize {
                        return Ok(None);
                    }
                    let unit = Unit::Frame(*header, std::mem::take(bytes).into());
                    self.place = AT_HEADER;
                    return Ok(Some(unit));
                }
                Place::PadLength(header) => {
                    let header = *header;
                    let Some(&padding) = chunk.first() else { return Ok(None) };
                    chunk.advance(1);
                    let padding = u32::from(padding);
                    // §6.1: the length byte itself belongs to the payload.
                    let Some(left) = header.len.checked_sub(padding + 1) else {
                        return Err(ConnectionError::TooMuchPadding { kind: header.kind });
                    };
                    self.place = Place::Data { left, padding };
                    return Ok(Some(Unit::DataBegin(header, left)));
                }
                Place::Data { left: 0, padding } => self.place = Place::Padding(*padding),
                Place::Data { left, .. } => {
                    if chunk.is_empty() {
                        return Ok(None);
                    }
                    let len = (*left as usize).min(chunk.len());
                    *left -= len as u32;
                    return Ok(Some(Unit::Data(chunk.split_to(len))));
                }
                Place::Padding(0) => {
                    self.place = AT_HEADER;
                    return Ok(Some(Unit::DataEnd));
                }
                Place::Padding(left) => {
                    if chunk.is_empty() {
                        return Ok(None);
                    }
                    let len = (*left as usize).min(chunk.len());
                    chunk.advance(len);
                    *left -= len as u32;
                }
            }
        }
    }

    fn begin(
        &mut self,
        header: FrameHeader,
        chunk: &mut Bytes,
        frame_max: u32,
    ) -> Result<Option<Unit>, ConnectionError> {
        let FrameHeader { len, kind, .. } = header;
        if len > frame_max {
            return Err(ConnectionError::FrameTooLarge { kind, len, max: frame_max });
        }
        if kind == Kind::DATA && !header.has(flag::PADDED) {
            self.place = Place::Data { left: len, padding: 0 };
            return Ok(Some(Unit::DataBegin(header, len)));
        }
        if kind == Kind::DATA {
            if len == 0 {
                return Err(ConnectionError::FrameSize { kind, len, expected: "a padding length" });
            }
            self.place = Place::PadLength(header);
            return Ok(None);
        }
        if chunk.len() >= len as usize {
            self.place = AT_HEADER;
            return Ok(Some(Unit::Frame(header, chunk.split_to(len as usize))));
        }
        self.place = Place::Payload { header, bytes: Vec::with_capacity(len as usize) };
        Ok(None)
    }

    /// What the connection would be inside of if it ended now.
    pub(crate) fn unfinished(&self) -> Option<&'static str> {
        match self.place {
            Place::Preface(_) => Some("the connection preface"),
            Place::Header { have: 0, .. } => None,
            _ => Some("a frame"),
        }
    }

    /// Whether a frame other than DATA, or any frame's header, has begun and not ended.
    pub(crate) fn in_small_frame(&self) -> bool {
        match self.place {
            Place::Preface(_) | Place::Payload { .. } => true,
            Place::Header { have, .. } => have > 0,
            Place::PadLength(_) | Place::Data { .. } | Place::Padding(_) => false,
        }
    }

    /// Bytes of heap memory.
    pub(crate) fn heap_bytes(&self) -> usize {
        match &self.place {
            Place::Payload { bytes, .. } => bytes.capacity(),
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::frame;

    fn units(input: &mut Input, chunks: &[&[u8]]) -> Result<Vec<Unit>, ConnectionError> {
        let mut units: Vec<Unit> = Vec::new();
        for chunk in chunks {
            let mut chunk = Bytes::copy_from_slice(chunk);
            while let Some(unit) = input.next(&mut chunk, 16_384)? {
                match (units.last_mut(), unit) {
                    // Only the cuts of data depend on the cuts of the input.
                    (Some(Unit::Data(data)), Unit::Data(more)) => *data = [&data[..], &more].concat().into(),
                    (_, unit) => units.push(unit),
                }
            }
            assert!(chunk.is_empty());
        }
        Ok(units)
    }

    #[test]
    fn frames_are_the_same_however_the_bytes_are_cut() {
        let mut bytes = PREFACE.to_vec();
        bytes.extend(frame(4, 0, 0, &[]));
        bytes.extend(frame(0, 0, 1, b"plain data"));
        bytes.extend(frame(0, flag::PADDED, 1, b"\x03padded\0\0\0"));
        bytes.extend(frame(0, flag::PADDED, 1, b"\x02\0\0"));
        bytes.extend(frame(0, 1, 1, b""));
        bytes.extend(frame(6, 0, 0, b"12345678"));
        let whole = units(&mut Input::new(true), &[&bytes]).unwrap();
        assert_eq!(whole.len(), 1 + 3 + 3 + 2 + 2 + 1);
        assert!(whole.contains(&Unit::Data(Bytes::from_static(b"padded"))));
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(units(&mut Input::new(true), &single).unwrap(), whole);
        for cut in 1..bytes.len() {
            let (a, b) = bytes.split_at(cut);
            assert_eq!(units(&mut Input::new(true), &[a, b]).unwrap(), whole, "cut at {cut}");
        }
    }

    #[test]
    fn a_wrong_preface_is_refused_at_its_first_wrong_byte() {
        for wrong in 0..PREFACE.len() {
            let mut bytes = PREFACE[..=wrong].to_vec();
            bytes[wrong] ^= 1;
            assert_eq!(units(&mut Input::new(true), &[&bytes]), Err(ConnectionError::BadPreface));
            assert!(units(&mut Input::new(true), &[&bytes[..wrong]]).is_ok());
        }
    }

    #[test]
    fn padding_must_leave_room_and_lengths_must_fit() {
        let padding = |bytes: &[u8]| units(&mut Input::new(false), &[&frame(0, flag::PADDED, 1, bytes)]);
        assert!(padding(b"\x00").is_ok());
        assert!(padding(b"\x01\0").is_ok());
        assert_eq!(padding(b"\x01"), Err(ConnectionError::TooMuchPadding { kind: Kind::DATA }));
        assert!(matches!(padding(b""), Err(ConnectionError::FrameSize { .. })));
        // Refused before the payload has come.
        let header = &frame(1, 0, 1, &vec![0; 16_385])[..9];
        assert!(matches!(
            units(&mut Input::new(false), &[header]),
            Err(ConnectionError::FrameTooLarge { .. })
        ));
    }

    #[test]
    fn between_frames_nothing_is_held_and_nothing_is_unfinished() {
        let mut input = Input::new(false);
        let bytes = frame(6, 0, 0, b"12345678");
        for end in 1..bytes.len() {
            let mut input = Input::new(false);
            units(&mut input, &[&bytes[..end]]).unwrap();
            assert_eq!(input.unfinished(), Some("a frame"));
        }
        units(&mut input, &[&bytes]).unwrap();
        assert_eq!((input.unfinished(), input.heap_bytes()), (None, 0));
    }
}
