//! The bytes pushed and not yet read, and the search for the end of a line or a section.
//!
//! In: chunks as the socket gave them. Out: whole lines or sections in one piece, and slices of
//! body. A piece that lies within one chunk is a slice of it; only what spans chunks is copied.
//!
//! Invariants: a byte is searched once, however small the chunks are; every LF found was preceded
//! by CR (RFC 9112 §2.2), or the search failed; with nothing pushed and nothing begun there is no
//! heap memory here.
//!
//! Not done here: what the bytes mean.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};
use memchr::memchr;

/// Bytes on their way into a decoder.
#[derive(Debug, Default)]
pub(crate) struct Input {
    /// The chunk being read. Empty only if `queue` is empty too.
    current: Bytes,
    /// Chunks after it, none of them empty. Most of the time there is none.
    queue: VecDeque<Bytes>,
    /// The beginning of a line or section whose end has not come: searched already.
    partial: Vec<u8>,
    /// Where the line being searched begins, in bytes from the beginning of the section.
    line_start: u32,
    /// Lines of the section found so far.
    lines: u32,
    /// Where the first line of the section ends (after its LF), or 0.
    first_line_end: u32,
    ended: bool,
}

/// What ends the piece that is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// The next CRLF.
    LineEnd,
    /// A line with nothing in it.
    BlankLine,
}

/// Why a search failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SearchError {
    /// LF without CR before it.
    BareLf,
    /// The limit was reached before the end.
    TooLong,
}

impl Input {
    pub(crate) fn push(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        if self.current.is_empty() {
            self.current = bytes;
        } else {
            self.queue.push_back(bytes);
        }
    }

    /// No more bytes will be pushed.
    pub(crate) fn end(&mut self) {
        self.ended = true;
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    /// Bytes held, the beginning of an unfinished piece included.
    pub(crate) fn buffered(&self) -> usize {
        self.partial.len() + self.current.len() + self.queue.iter().map(Bytes::len).sum::<usize>()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.partial.is_empty() && self.current.is_empty()
    }

    /// Whether a line or section has been begun and not finished.
    pub(crate) fn is_inside_piece(&self) -> bool {
        !self.partial.is_empty()
    }

    /// The first line of the unfinished section, if it is whole, without its CRLF.
    pub(crate) fn first_line(&self) -> Option<&[u8]> {
        let end = (self.first_line_end as usize).checked_sub(2)?;
        self.partial.get(..end)
    }

    /// What there is of the unfinished section.
    pub(crate) fn unfinished(&self) -> &[u8] {
        &self.partial
    }

    /// Lines of the unfinished section so far.
    pub(crate) fn lines(&self) -> u32 {
        self.lines
    }

    /// The next byte, if no piece has been begun.
    pub(crate) fn peek(&self) -> Option<u8> {
        self.current.first().copied()
    }

    /// Drops the byte that [`peek`](Self::peek) showed.
    pub(crate) fn skip_one(&mut self) {
        if !self.current.is_empty() {
            self.current.advance(1);
            self.refill();
        }
    }

    /// The next bytes as they were pushed, at most `bytes_max` of them.
    pub(crate) fn take_data(&mut self, bytes_max: u64) -> Option<Bytes> {
        if self.current.is_empty() || bytes_max == 0 {
            return None;
        }
        match usize::try_from(bytes_max) {
            Ok(count) if count < self.current.len() => Some(self.current.split_to(count)),
            _ => {
                let data = std::mem::take(&mut self.current);
                self.refill();
                Some(data)
            }
        }
    }

    /// Everything, in one piece.
    pub(crate) fn take_all(&mut self) -> Bytes {
        if self.partial.is_empty() && self.queue.is_empty() {
            return std::mem::take(&mut self.current);
        }
        let mut all = std::mem::take(&mut self.partial);
        self.reset_search();
        while let Some(chunk) = self.take_data(u64::MAX) {
            all.extend_from_slice(&chunk);
        }
        all.into()
    }

    /// The next line or section, its end included; `None` when it is not all there. Until it is,
    /// only this method is to be called again, with the same arguments.
    pub(crate) fn take_piece(&mut self, until: Until, bytes_max: u32) -> Result<Option<Bytes>, SearchError> {
        while !self.current.is_empty() {
            let found = self.search(until, bytes_max);
            if let Ok(Some(end)) = found {
                return Ok(Some(self.cut(end)));
            }
            // Copied, not kept: the rest of a read buffer is mostly larger than what is in it.
            self.partial.extend_from_slice(&self.current);
            self.current = Bytes::new();
            self.refill();
            found?;
        }
        Ok(None)
    }

    /// Searches `current`; the end found is relative to it.
    fn search(&mut self, until: Until, bytes_max: u32) -> Result<Option<usize>, SearchError> {
        let base = self.partial.len();
        let mut from = 0;
        while let Some(offset) = self.current.get(from..).and_then(|rest| memchr(b'\n', rest)) {
            let at = from + offset;
            let before = match at.checked_sub(1) {
                Some(index) => self.current.get(index),
                None => self.partial.last(),
            };
            if before != Some(&b'\r') {
                return Err(SearchError::BareLf);
            }
            from = at + 1;
            let Some(end) = u32::try_from(base + from).ok().filter(|&end| end <= bytes_max) else {
                return Err(SearchError::TooLong);
            };
            let is_blank = end - self.line_start == 2;
            if until == Until::LineEnd || is_blank {
                return Ok(Some(from));
            }
            if self.lines == 0 {
                self.first_line_end = end;
            }
            self.lines += 1;
            self.line_start = end;
        }
        if base + self.current.len() >= bytes_max as usize {
            return Err(SearchError::TooLong);
        }
        Ok(None)
    }

    fn cut(&mut self, end: usize) -> Bytes {
        self.reset_search();
        let tail = if end < self.current.len() {
            self.current.split_to(end)
        } else {
            let tail = std::mem::take(&mut self.current);
            self.refill();
            tail
        };
        if self.partial.is_empty() {
            return tail;
        }
        let mut piece = std::mem::take(&mut self.partial);
        piece.extend_from_slice(&tail);
        piece.into()
    }

    #[cfg(test)]
    pub(crate) fn owns_no_heap(&self) -> bool {
        // A unique, empty `Bytes` could still hold a buffer; the default one is static.
        self.current.as_ptr() == Bytes::new().as_ptr()
            && self.queue.capacity() == 0
            && self.partial.capacity() == 0
    }

    fn reset_search(&mut self) {
        self.line_start = 0;
        self.lines = 0;
        self.first_line_end = 0;
    }

    /// Restores the invariant of `current`. An empty chunk is dropped at once: even without bytes
    /// it would keep the whole read buffer alive.
    fn refill(&mut self) {
        if !self.current.is_empty() {
            return;
        }
        self.current = self.queue.pop_front().unwrap_or_default();
        if self.queue.is_empty() && self.queue.capacity() > 0 {
            self.queue = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests;
