//! gzip, deflate (zlib or raw) and brotli, as streams.
//!
//! In: pieces of what is, or is to be, compressed. Out: pieces of at most 16 KiB at a time.
//!
//! Invariants: what comes out of a [`Decompressor`] is bounded in all, and in relation to what went in, so
//! that a bomb costs neither memory nor much time; after the end of the compressed stream nothing may
//! follow, but for another member of a gzip file (RFC 1952 §2.2).
//!
//! Not done here: which format a message has; content-encoding headers.

mod inflate;

use std::io::Write;

use brotli::{CompressorWriter, DecompressorWriter};
use bytes::{Bytes, BytesMut};
use flate2::write::{GzEncoder, ZlibEncoder};

use crate::Error;

/// A format of compressed data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// gzip (RFC 1952).
    Gzip,
    /// zlib (RFC 1950), which HTTP calls deflate; raw deflate (RFC 1951) is read too, as browsers do.
    Deflate,
    /// brotli (RFC 7932).
    Brotli,
}

impl Format {
    /// A format by the names of HTTP and of scripts.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "gzip" | "x-gzip" => Some(Self::Gzip),
            "deflate" | "inflate" => Some(Self::Deflate),
            "br" | "brotli" => Some(Self::Brotli),
            _ => None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Brotli => "brotli",
        }
    }
}

/// How much may come out of a [`Decompressor`].
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    /// LIMIT: bytes in all.
    pub bytes_max: u64,
    /// LIMIT: bytes for each byte that went in. Text rarely exceeds 20; a bomb of deflate has 1,000.
    pub ratio_max: u64,
}

impl Default for Bound {
    fn default() -> Self {
        Self { bytes_max: 1 << 30, ratio_max: 1_100 }
    }
}

/// Below this much output the ratio does not matter: long runs are legitimate in small documents.
const RATIO_FREE_BYTES: u64 = 1024 * 1024;
/// How much is fed at a time, so that a bomb is noticed before its output has piled up: at most some
/// 4 MiB for deflate.
const FEED_BYTES: usize = 4096;
const BROTLI_BUFFER: usize = 4096;
/// Level 5 of brotli costs about as much as level 6 of gzip. The window is 4 MiB at most.
const BROTLI_LEVEL: u32 = 5;
const BROTLI_WINDOW: u32 = 22;

/// What a writer has written, and how much of it is still wanted.
#[derive(Debug, Default)]
struct Sink {
    bytes: BytesMut,
    total: u64,
    max: u64,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.total += bytes.len() as u64;
        if self.total > self.max {
            return Err(std::io::Error::other("too much"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

enum Inflate {
    Deflate(Box<inflate::Inflater>),
    Brotli(Box<DecompressorWriter<Sink>>),
}

/// Takes compressed bytes, gives what they were.
pub struct Decompressor {
    format: Format,
    bound: Bound,
    inner: Inflate,
    taken: u64,
}

impl std::fmt::Debug for Decompressor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Decompressor").field("format", &self.format).finish_non_exhaustive()
    }
}

impl Decompressor {
    /// A decompressor at the start of a stream.
    #[must_use]
    pub fn new(format: Format, bound: Bound) -> Self {
        let sink = Sink { max: bound.bytes_max, ..Sink::default() };
        let inner = match format {
            Format::Gzip => Inflate::Deflate(Box::new(inflate::Inflater::gzip(sink))),
            Format::Deflate => Inflate::Deflate(Box::new(inflate::Inflater::zlib_or_raw(sink))),
            Format::Brotli => Inflate::Brotli(Box::new(DecompressorWriter::new(sink, BROTLI_BUFFER))),
        };
        Self { format, bound, inner, taken: 0 }
    }

    /// Takes a piece, adds what it becomes to `output`.
    ///
    /// # Errors
    ///
    /// When it is malformed, or becomes too much.
    pub fn push(&mut self, data: &[u8], output: &mut Vec<Bytes>) -> Result<(), Error> {
        for piece in data.chunks(FEED_BYTES) {
            self.taken += piece.len() as u64;
            let result = self.write(piece);
            self.drain(output)?;
            result.map_err(|_| self.malformed("the data are corrupt, or followed by others"))?;
        }
        Ok(())
    }

    /// Takes the end of the stream.
    ///
    /// # Errors
    ///
    /// When the compressed data are not complete.
    pub fn finish(&mut self, output: &mut Vec<Bytes>) -> Result<(), Error> {
        if self.taken == 0 {
            return Ok(());
        }
        let result = match &mut self.inner {
            Inflate::Deflate(inner) => inner.is_complete(),
            Inflate::Brotli(inner) => inner.close().is_ok(),
        };
        self.drain(output)?;
        if result {
            Ok(())
        } else {
            Err(Error::Truncated { protocol: self.format.name(), position: self.taken })
        }
    }

    fn write(&mut self, piece: &[u8]) -> std::io::Result<()> {
        match &mut self.inner {
            Inflate::Deflate(inner) => inner.push(piece),
            Inflate::Brotli(inner) => {
                inner.write_all(piece)?;
                inner.flush()
            }
        }
    }

    fn drain(&mut self, output: &mut Vec<Bytes>) -> Result<(), Error> {
        let sink = match &mut self.inner {
            Inflate::Deflate(inner) => &mut inner.sink,
            Inflate::Brotli(inner) => inner.get_mut(),
        };
        let total = sink.total;
        if !sink.bytes.is_empty() {
            output.push(sink.bytes.split().freeze());
        }
        let of_ratio = self.taken.saturating_mul(self.bound.ratio_max).max(RATIO_FREE_BYTES);
        let (what, max) = if total > self.bound.bytes_max {
            ("the output in bytes", self.bound.bytes_max)
        } else if total > of_ratio {
            ("the ratio of output to input", self.bound.ratio_max)
        } else {
            return Ok(());
        };
        Err(Error::TooLarge { protocol: self.format.name(), position: self.taken, what, max })
    }

    fn malformed(&self, reason: &'static str) -> Error {
        Error::malformed(self.format.name(), self.taken, reason)
    }
}

enum Deflate {
    Gzip(GzEncoder<Sink>),
    Zlib(ZlibEncoder<Sink>),
    Brotli(Box<CompressorWriter<Sink>>),
}

/// Takes bytes, gives them compressed.
pub struct Compressor {
    format: Format,
    /// `None` after the end.
    inner: Option<Deflate>,
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Compressor").field("format", &self.format).finish_non_exhaustive()
    }
}

impl Compressor {
    /// A compressor at the start of a stream.
    #[must_use]
    pub fn new(format: Format) -> Self {
        let sink = Sink { max: u64::MAX, ..Sink::default() };
        let level = flate2::Compression::default();
        let inner = match format {
            Format::Gzip => Deflate::Gzip(GzEncoder::new(sink, level)),
            Format::Deflate => Deflate::Zlib(ZlibEncoder::new(sink, level)),
            Format::Brotli => Deflate::Brotli(Box::new(CompressorWriter::new(
                sink,
                BROTLI_BUFFER,
                BROTLI_LEVEL,
                BROTLI_WINDOW,
            ))),
        };
        Self { format, inner: Some(inner) }
    }

    /// Takes a piece; what is ready comes out, the rest waits for more, or for [`Compressor::flush`].
    ///
    /// # Errors
    ///
    /// After the end.
    pub fn push(&mut self, data: &[u8], output: &mut Vec<Bytes>) -> Result<(), Error> {
        let done = match self.open()? {
            Deflate::Gzip(inner) => inner.write_all(data),
            Deflate::Zlib(inner) => inner.write_all(data),
            Deflate::Brotli(inner) => inner.write_all(data),
        };
        done.map_err(|_| self.failed())?;
        self.drain(output)
    }

    /// Lets out all that was taken, for a reader that cannot wait, at some cost in size.
    ///
    /// # Errors
    ///
    /// After the end.
    pub fn flush(&mut self, output: &mut Vec<Bytes>) -> Result<(), Error> {
        let done = match self.open()? {
            Deflate::Gzip(inner) => inner.flush(),
            Deflate::Zlib(inner) => inner.flush(),
            Deflate::Brotli(inner) => inner.flush(),
        };
        done.map_err(|_| self.failed())?;
        self.drain(output)
    }

    /// Ends the stream.
    ///
    /// # Errors
    ///
    /// After the end.
    pub fn finish(&mut self, output: &mut Vec<Bytes>) -> Result<(), Error> {
        let sink = match self.inner.take() {
            Some(Deflate::Gzip(inner)) => inner.finish().map_err(|_| self.failed())?,
            Some(Deflate::Zlib(inner)) => inner.finish().map_err(|_| self.failed())?,
            Some(Deflate::Brotli(inner)) => inner.into_inner(),
            None => return Err(self.failed()),
        };
        if !sink.bytes.is_empty() {
            output.push(sink.bytes.freeze());
        }
        Ok(())
    }

    fn open(&mut self) -> Result<&mut Deflate, Error> {
        let format = self.format;
        self.inner.as_mut().ok_or_else(|| Error::unencodable(format.name(), "the stream has ended"))
    }

    fn failed(&self) -> Error {
        Error::unencodable(self.format.name(), "the stream has ended")
    }

    fn drain(&mut self, output: &mut Vec<Bytes>) -> Result<(), Error> {
        let sink = match self.open()? {
            Deflate::Gzip(inner) => inner.get_mut(),
            Deflate::Zlib(inner) => inner.get_mut(),
            Deflate::Brotli(inner) => inner.get_mut(),
        };
        if !sink.bytes.is_empty() {
            output.push(sink.bytes.split().freeze());
        }
        Ok(())
    }
}

/// Compresses at once.
///
/// # Errors
///
/// Never for what fits into memory.
pub fn compress(format: Format, data: &[u8]) -> Result<Bytes, Error> {
    let (mut compressor, mut output) = (Compressor::new(format), Vec::new());
    compressor.push(data, &mut output)?;
    compressor.finish(&mut output)?;
    Ok(output.concat().into())
}

/// Decompresses at once.
///
/// # Errors
///
/// When the data are malformed, not complete, or become too much.
pub fn decompress(format: Format, data: &[u8], bound: Bound) -> Result<Bytes, Error> {
    let (mut decompressor, mut output) = (Decompressor::new(format, bound), Vec::new());
    decompressor.push(data, &mut output)?;
    decompressor.finish(&mut output)?;
    Ok(output.concat().into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::hex;

    const ALL: [Format; 3] = [Format::Gzip, Format::Deflate, Format::Brotli];

    fn read(format: Format, data: &[u8], cut: usize) -> Result<Vec<u8>, Error> {
        let (mut decompressor, mut output) = (Decompressor::new(format, Bound::default()), Vec::new());
        for piece in data.chunks(cut) {
            decompressor.push(piece, &mut output)?;
        }
        decompressor.finish(&mut output)?;
        Ok(output.concat())
    }

    #[test]
    fn what_zlib_and_brotli_for_python_wrote_is_read() {
        let gzip = hex("1f8b0800000000000203cb48cdc9c957c84090008088f9e511000000");
        assert_eq!(read(Format::Gzip, &gzip, 1).unwrap(), b"hello hello hello");
        assert_eq!(
            read(Format::Gzip, &[&gzip[..], &gzip].concat(), 5).unwrap(),
            b"hello hello hello".repeat(2)
        );
        assert_eq!(
            read(Format::Deflate, &hex("789ccb48cdc9c957c84090003a2e067d"), 1).unwrap(),
            b"hello hello hello"
        );
        assert_eq!(read(Format::Deflate, &hex("cb48cdc9c957c8409000"), 1).unwrap(), b"hello hello hello");
        assert_eq!(read(Format::Brotli, &hex("0b028068656c6c6f03"), 1).unwrap(), b"hello");
    }

    #[test]
    fn a_bomb_is_noticed_before_it_goes_off() {
        for format in ALL {
            let bomb = compress(format, &vec![0; 8 << 20]).unwrap();
            let bound = Bound { bytes_max: 1 << 20, ..Bound::default() };
            let mut output = Vec::new();
            let error = Decompressor::new(format, bound).push(&bomb, &mut output).unwrap_err();
            assert_eq!(error.metric_label(), "too_large", "{format:?}");
            assert!(output.iter().map(Bytes::len).sum::<usize>() <= 1 << 20);
            let bound = Bound { ratio_max: 100, ..Bound::default() };
            let error = Decompressor::new(format, bound).push(&bomb, &mut Vec::new()).unwrap_err();
            assert!(error.to_string().contains("ratio"), "{error}");
        }
    }

    #[test]
    fn what_is_cut_damaged_or_followed_by_others_is_refused() {
        for format in ALL {
            let good = compress(format, &b"The quick brown fox ".repeat(40)).unwrap();
            for cut in 1..good.len() {
                assert_eq!(
                    read(format, &good[..cut], 7).unwrap_err().metric_label(),
                    "truncated",
                    "{format:?} {cut}"
                );
            }
            assert!(read(format, &[&good[..], b"junk after it"].concat(), 3).is_err(), "{format:?}");
        }
        let mut damaged = compress(Format::Gzip, b"hello").unwrap().to_vec();
        let end = damaged.len() - 6;
        damaged[end] ^= 1;
        assert_eq!(read(Format::Gzip, &damaged, 100).unwrap_err().metric_label(), "malformed");
        assert_eq!(read(Format::Gzip, b"", 1).unwrap(), b"", "a body of nothing is nothing");
    }

    #[test]
    fn a_flush_lets_out_all_that_was_taken() {
        for format in ALL {
            let (mut compressor, mut sent) = (Compressor::new(format), Vec::new());
            compressor.push(b"now", &mut sent).unwrap();
            compressor.flush(&mut sent).unwrap();
            let (mut decompressor, mut output) = (Decompressor::new(format, Bound::default()), Vec::new());
            decompressor.push(&sent.concat(), &mut output).unwrap();
            assert_eq!(output.concat(), b"now", "{format:?}");
        }
    }

    proptest! {
        #[test]
        fn what_went_in_comes_out(data in prop::collection::vec(any::<u8>(), 0..2000), cut in 1..300_usize) {
            for format in ALL {
                let compressed = compress(format, &data).unwrap();
                prop_assert_eq!(read(format, &compressed, cut).unwrap(), data.clone());
            }
        }

        #[test]
        fn garbage_is_refused_and_nothing_panics(data in prop::collection::vec(any::<u8>(), 0..300)) {
            for format in ALL {
                let _ = read(format, &data, 11);
            }
        }
    }
}
