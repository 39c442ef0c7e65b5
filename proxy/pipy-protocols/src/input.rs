//! What has arrived and is not yet read, and a cursor over a piece that is complete.
//!
//! Invariants: of [`Input`]'s two stores at most one is filled. What arrives while nothing waits is not
//! copied, so that large bodies pass through as slices of what the socket gave; what has to wait for more
//! is copied once.

use bytes::{Buf, Bytes, BytesMut};

use crate::Error;

/// Unread bytes of a stream, and how many were read before.
#[derive(Debug, Default)]
pub(crate) struct Input {
    waiting: BytesMut,
    fresh: Bytes,
    position: u64,
}

impl Input {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn push(&mut self, data: Bytes) {
        if self.is_empty() {
            self.fresh = data;
            return;
        }
        if !self.fresh.is_empty() {
            self.waiting.extend_from_slice(&self.fresh);
            self.fresh = Bytes::new();
        }
        self.waiting.extend_from_slice(&data);
    }

    /// All that is unread.
    pub(crate) fn peek(&self) -> &[u8] {
        if self.waiting.is_empty() { &self.fresh } else { &self.waiting }
    }

    pub(crate) fn len(&self) -> usize {
        self.peek().len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.fresh.is_empty()
    }

    /// How many bytes of the stream were read.
    pub(crate) const fn position(&self) -> u64 {
        self.position
    }

    /// Reads up to `count` bytes.
    pub(crate) fn take(&mut self, count: usize) -> Bytes {
        let count = count.min(self.len());
        self.position += count as u64;
        if self.waiting.is_empty() {
            self.fresh.split_to(count)
        } else {
            self.waiting.split_to(count).freeze()
        }
    }

    /// Reads up to `count` bytes, to be forgotten.
    pub(crate) fn skip(&mut self, count: usize) {
        let count = count.min(self.len());
        self.position += count as u64;
        if self.waiting.is_empty() { self.fresh.advance(count) } else { self.waiting.advance(count) }
    }
}

/// Reads one complete piece from front to end; running out of it is the peer's fault.
#[derive(Debug, Clone)]
pub(crate) struct Cursor {
    protocol: &'static str,
    bytes: Bytes,
    start: u64,
    total: usize,
}

impl Cursor {
    /// A cursor over `bytes`, which came after `start` bytes of the stream.
    pub(crate) fn new(protocol: &'static str, bytes: Bytes, start: u64) -> Self {
        let total = bytes.len();
        Self { protocol, bytes, start, total }
    }

    /// How many bytes of the piece were read.
    pub(crate) fn offset(&self) -> usize {
        self.total - self.bytes.len()
    }

    pub(crate) fn position(&self) -> u64 {
        self.start + self.offset() as u64
    }

    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.bytes)
    }

    pub(crate) fn malformed(&self, reason: impl Into<std::borrow::Cow<'static, str>>) -> Error {
        Error::malformed(self.protocol, self.position(), reason)
    }

    pub(crate) fn too_large(&self, what: &'static str, max: u64) -> Error {
        Error::TooLarge { protocol: self.protocol, position: self.position(), what, max }
    }

    /// The next byte, without reading it.
    pub(crate) fn peek(&self) -> Option<u8> {
        self.bytes.first().copied()
    }

    pub(crate) fn take(&mut self, count: usize, what: &'static str) -> Result<Bytes, Error> {
        if count > self.bytes.len() {
            return Err(
                self.malformed(format!("{what} takes {count} bytes, and {} are left", self.bytes.len()))
            );
        }
        Ok(self.bytes.split_to(count))
    }

    /// A cursor over the next `count` bytes.
    pub(crate) fn sub(&mut self, count: usize, what: &'static str) -> Result<Self, Error> {
        let start = self.position();
        Ok(Self::new(self.protocol, self.take(count, what)?, start))
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Error> {
        let bytes = self.take(N, what)?;
        <[u8; N]>::try_from(&*bytes).map_err(|_| self.malformed(what))
    }

    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, Error> {
        Ok(u8::from_be_bytes(self.array(what)?))
    }

    pub(crate) fn u16(&mut self, what: &'static str) -> Result<u16, Error> {
        Ok(u16::from_be_bytes(self.array(what)?))
    }

    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, Error> {
        Ok(u32::from_be_bytes(self.array(what)?))
    }

    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, Error> {
        Ok(u64::from_be_bytes(self.array(what)?))
    }

    pub(crate) fn text(&mut self, count: usize, what: &'static str) -> Result<String, Error> {
        let at = self.position();
        let bytes = self.take(count, what)?;
        match std::str::from_utf8(&bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(error) => Err(Error::malformed(
                self.protocol,
                at + error.valid_up_to() as u64,
                format!("{what} is not UTF-8"),
            )),
        }
    }
}
