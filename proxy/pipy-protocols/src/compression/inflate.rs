//! gzip, zlib and raw deflate: their heads, what is within, their ends.

use std::io::{Error, Result, Write};

use flate2::{Crc, Decompress, FlushDecompress, Status};

use super::Sink;

/// LIMIT: bytes of a gzip head, with its name and comment. Real ones are below 300.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const OUTPUT_BYTES: usize = 16 * 1024;

pub(super) struct Inflater {
    pub(super) sink: Sink,
    state: State,
    gzip: bool,
    waiting: Vec<u8>,
    crc: Crc,
}

enum State {
    /// Before a stream; true when one has ended before.
    Head(bool),
    Body(Box<Decompress>),
    /// The checksum and length of gzip.
    Tail,
    Ended,
}

impl Inflater {
    pub(super) fn gzip(sink: Sink) -> Self {
        Self { sink, state: State::Head(false), gzip: true, waiting: Vec::new(), crc: Crc::new() }
    }

    pub(super) fn zlib_or_raw(sink: Sink) -> Self {
        Self { gzip: false, ..Self::gzip(sink) }
    }

    /// Whether the stream may end here.
    pub(super) fn is_complete(&self) -> bool {
        matches!(self.state, State::Ended | State::Head(true)) && self.waiting.is_empty()
    }

    pub(super) fn push(&mut self, piece: &[u8]) -> Result<()> {
        self.waiting.extend_from_slice(piece);
        loop {
            let used = match &mut self.state {
                _ if self.waiting.is_empty() => return Ok(()),
                State::Head(_) => match self.head()? {
                    Some(used) => used,
                    None => return Ok(()),
                },
                State::Body(_) => {
                    let input = std::mem::take(&mut self.waiting);
                    let used = self.body(&input)?;
                    self.waiting = input;
                    used
                }
                State::Tail => {
                    let Some(tail) = self.waiting.first_chunk::<8>() else { return Ok(()) };
                    let [a, b, c, d, e, f, g, h] = *tail;
                    let same = u32::from_le_bytes([a, b, c, d]) == self.crc.sum()
                        && u32::from_le_bytes([e, f, g, h]) == self.crc.amount();
                    if !same {
                        return Err(Error::other("checksum"));
                    }
                    self.crc.reset();
                    self.state = State::Head(true);
                    8
                }
                State::Ended => return Err(Error::other("data after the end")),
            };
            self.waiting.drain(..used);
        }
    }

    fn head(&mut self) -> Result<Option<usize>> {
        if !self.gzip {
            let &[first, second, ..] = &self.waiting[..] else { return Ok(None) };
            // RFC 1950 §2.2: what two bytes of zlib have in common, and raw deflate only by chance.
            let is_zlib = first & 15 == 8 && u16::from_be_bytes([first, second]) % 31 == 0;
            self.state = State::Body(Box::new(Decompress::new(is_zlib)));
            return Ok(Some(0));
        }
        let start = [0x1f, 0x8b, 8];
        if self.waiting.iter().zip(&start).any(|(is, ought)| is != ought) {
            return Err(Error::other("no gzip"));
        }
        // RFC 1952 §2.3: ten bytes, then what the flags say.
        let Some(&flags) = self.waiting.get(3) else { return Ok(None) };
        if flags & 0xe0 != 0 {
            return Err(Error::other("reserved flags"));
        }
        let mut at = 10;
        if flags & 4 != 0 {
            let Some(&[low, high]) = self.waiting.get(at..at + 2).and_then(|two| two.first_chunk::<2>())
            else {
                return Ok(None);
            };
            at += 2 + usize::from(u16::from_le_bytes([low, high]));
        }
        for flag in [8, 16] {
            if flags & flag != 0 {
                let rest = self.waiting.get(at..).unwrap_or_default();
                match memchr::memchr(0, rest) {
                    Some(end) => at += end + 1,
                    None if self.waiting.len() > HEAD_BYTES_MAX => return Err(Error::other("head")),
                    None => return Ok(None),
                }
            }
        }
        at += if flags & 2 != 0 { 2 } else { 0 };
        if self.waiting.len() < at {
            return Ok(None);
        }
        self.state = State::Body(Box::new(Decompress::new(false)));
        Ok(Some(at))
    }

    /// How much of `input` was used.
    fn body(&mut self, input: &[u8]) -> Result<usize> {
        let mut used = 0;
        let mut output = vec![0; OUTPUT_BYTES];
        loop {
            let State::Body(inner) = &mut self.state else { return Ok(used) };
            let (before_in, before_out) = (inner.total_in(), inner.total_out());
            let rest = input.get(used..).unwrap_or_default();
            let status = inner.decompress(rest, &mut output, FlushDecompress::None).map_err(Error::other)?;
            used += usize::try_from(inner.total_in() - before_in).unwrap_or_default();
            let count = usize::try_from(inner.total_out() - before_out).unwrap_or_default();
            let written = output.get(..count).unwrap_or_default();
            if self.gzip {
                self.crc.update(written);
            }
            self.sink.write_all(written)?;
            if status == Status::StreamEnd {
                self.state = if self.gzip { State::Tail } else { State::Ended };
                return Ok(used);
            }
            // All was used, and there was room for more than came out.
            if used == input.len() && count < OUTPUT_BYTES {
                return Ok(used);
            }
            if status == Status::BufError && count == 0 {
                return Ok(used);
            }
        }
    }
}
