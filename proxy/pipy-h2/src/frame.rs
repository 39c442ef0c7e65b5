//! Frames on the wire (RFC 9113 §4.1 and §6): headers of frames in both directions, and the small
//! frames that we write.
//!
//! In: nine bytes. Out: a [`FrameHeader`]. Writing appends to a buffer and cannot fail.
//!
//! Not done here: cutting the stream of bytes into frames (`input.rs`), what frames mean.

use std::fmt;

use crate::ErrorCode;

/// The kind of a frame. Unknown ones are kept as they are: they are ignored (§4.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kind(pub u8);

#[allow(missing_docs)] // RFC 9113 §6 defines them.
impl Kind {
    pub const DATA: Self = Self(0);
    pub const HEADERS: Self = Self(1);
    pub const PRIORITY: Self = Self(2);
    pub const RST_STREAM: Self = Self(3);
    pub const SETTINGS: Self = Self(4);
    pub const PUSH_PROMISE: Self = Self(5);
    pub const PING: Self = Self(6);
    pub const GOAWAY: Self = Self(7);
    pub const WINDOW_UPDATE: Self = Self(8);
    pub const CONTINUATION: Self = Self(9);
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 10] = [
            "DATA",
            "HEADERS",
            "PRIORITY",
            "RST_STREAM",
            "SETTINGS",
            "PUSH_PROMISE",
            "PING",
            "GOAWAY",
            "WINDOW_UPDATE",
            "CONTINUATION",
        ];
        match NAMES.get(usize::from(self.0)) {
            Some(name) => f.write_str(name),
            None => write!(f, "unknown ({:#x})", self.0),
        }
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Flags, by kind of frame.
pub(crate) mod flag {
    /// SETTINGS, PING.
    pub(crate) const ACK: u8 = 0x1;
    /// DATA, HEADERS.
    pub(crate) const END_STREAM: u8 = 0x1;
    /// HEADERS, CONTINUATION.
    pub(crate) const END_HEADERS: u8 = 0x4;
    /// DATA, HEADERS.
    pub(crate) const PADDED: u8 = 0x8;
    /// HEADERS.
    pub(crate) const PRIORITY: u8 = 0x20;
}

/// The first nine bytes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    /// Bytes of the payload, 24 bits.
    pub(crate) len: u32,
    pub(crate) kind: Kind,
    pub(crate) flags: u8,
    /// 31 bits; the reserved bit is ignored.
    pub(crate) stream: u32,
}

/// Bytes of a frame header.
pub(crate) const FRAME_HEADER_LEN: usize = 9;

impl FrameHeader {
    #[inline]
    pub(crate) fn parse(bytes: [u8; FRAME_HEADER_LEN]) -> Self {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = bytes;
        Self {
            len: u32::from_be_bytes([0, l0, l1, l2]),
            kind: Kind(kind),
            flags,
            stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]),
        }
    }

    #[inline]
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes());
    }

    pub(crate) fn bytes(self) -> [u8; FRAME_HEADER_LEN] {
        let [_, l0, l1, l2] = self.len.to_be_bytes();
        let [s0, s1, s2, s3] = self.stream.to_be_bytes();
        [l0, l1, l2, self.kind.0, self.flags, s0, s1, s2, s3]
    }

    #[inline]
    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// A header block on stream `stream`, in one HEADERS frame and as many CONTINUATION frames as it
/// needs. `block` was written to the end of `out` behind room for one frame header, at `start`.
pub(crate) fn finish_headers(
    out: &mut Vec<u8>,
    start: usize,
    stream: u32,
    end_stream: bool,
    frame_max: usize,
) {
    let block_start = start + FRAME_HEADER_LEN;
    let len = out.len().saturating_sub(block_start);
    let end_flag = if end_stream { flag::END_STREAM } else { 0 };
    let header = |len: usize, kind, flags| FrameHeader { len: len as u32, kind, flags, stream };
    let mut first = Vec::with_capacity(FRAME_HEADER_LEN);
    if len <= frame_max {
        header(len, Kind::HEADERS, end_flag | flag::END_HEADERS).write(&mut first);
        if let Some(room) = out.get_mut(start..block_start) {
            room.copy_from_slice(&first);
        }
        return;
    }
    let block = out.split_off(block_start);
    header(frame_max, Kind::HEADERS, end_flag).write(&mut first);
    if let Some(room) = out.get_mut(start..block_start) {
        room.copy_from_slice(&first);
    }
    let mut pieces = block.chunks(frame_max).peekable();
    if let Some(piece) = pieces.next() {
        out.extend_from_slice(piece);
    }
    while let Some(piece) = pieces.next() {
        let flags = if pieces.peek().is_none() { flag::END_HEADERS } else { 0 };
        header(piece.len(), Kind::CONTINUATION, flags).write(out);
        out.extend_from_slice(piece);
    }
}

pub(crate) fn put_reset(stream: u32, code: ErrorCode, out: &mut Vec<u8>) {
    FrameHeader { len: 4, kind: Kind::RST_STREAM, flags: 0, stream }.write(out);
    out.extend_from_slice(&code.0.to_be_bytes());
}

pub(crate) fn put_window_update(stream: u32, increment: u32, out: &mut Vec<u8>) {
    FrameHeader { len: 4, kind: Kind::WINDOW_UPDATE, flags: 0, stream }.write(out);
    out.extend_from_slice(&increment.to_be_bytes());
}

pub(crate) fn put_ping(flags: u8, payload: [u8; 8], out: &mut Vec<u8>) {
    FrameHeader { len: 8, kind: Kind::PING, flags, stream: 0 }.write(out);
    out.extend_from_slice(&payload);
}

pub(crate) fn put_goaway(last_stream: u32, code: ErrorCode, debug: &[u8], out: &mut Vec<u8>) {
    FrameHeader { len: (8 + debug.len()) as u32, kind: Kind::GOAWAY, flags: 0, stream: 0 }.write(out);
    out.extend_from_slice(&last_stream.to_be_bytes());
    out.extend_from_slice(&code.0.to_be_bytes());
    out.extend_from_slice(debug);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_frames_round_trip_without_the_reserved_bit() {
        let header = FrameHeader { len: 0x12_3456, kind: Kind(7), flags: 0x89, stream: 0x7fff_fffe };
        let mut out = Vec::new();
        header.write(&mut out);
        let mut bytes: [u8; 9] = out.try_into().unwrap();
        assert_eq!(FrameHeader::parse(bytes), header);
        bytes[5] |= 0x80;
        assert_eq!(FrameHeader::parse(bytes), header);
    }

    #[test]
    fn long_blocks_are_continued() {
        for (len, frames) in [(0, 1), (1, 1), (10, 1), (11, 2), (20, 2), (21, 3)] {
            let mut out = vec![0xee; 3];
            out.extend([0; FRAME_HEADER_LEN]);
            out.extend((0..len).map(|byte| byte as u8));
            finish_headers(&mut out, 3, 5, true, 10);
            let mut rest = &out[3..];
            let (mut block, mut seen) = (Vec::new(), 0);
            while !rest.is_empty() {
                let header = FrameHeader::parse(rest[..9].try_into().unwrap());
                let end = 9 + header.len as usize;
                block.extend_from_slice(&rest[9..end]);
                rest = &rest[end..];
                seen += 1;
                assert_eq!(header.kind, if seen == 1 { Kind::HEADERS } else { Kind::CONTINUATION });
                assert_eq!(header.has(flag::END_HEADERS), rest.is_empty());
                assert_eq!(header.has(flag::END_STREAM), seen == 1);
            }
            assert_eq!((seen, block), (frames, (0..len).map(|byte| byte as u8).collect()), "{len}");
        }
    }
}
