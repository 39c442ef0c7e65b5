//! Bytes on their way out of a codec, gathered until the end of the turn: a head and a small body leave as one piece.

use bytes::Bytes;
use pipy_http::{BodyEncoder, HttpError};
use smallvec::SmallVec;

/// LIMIT: bodies up to this size are copied behind what is gathered, larger ones leave as they are.
const COPY_BYTES_MAX: usize = 8 * 1024;

/// Gathered bytes.
#[derive(Debug, Default)]
pub(crate) struct Out {
    pub(crate) bytes: Vec<u8>,
    /// Mostly one, for which nothing is allocated.
    pieces: SmallVec<[Bytes; 1]>,
}

impl Out {
    /// Adds a piece of a body, framed.
    pub(crate) fn body(&mut self, encoder: &mut BodyEncoder, data: Bytes) -> Result<(), HttpError> {
        if data.len() <= COPY_BYTES_MAX {
            return encoder.encode(&data, &mut self.bytes);
        }
        let frame = encoder.frame(data.len())?;
        if frame.write_data {
            self.bytes.extend_from_slice(&frame.prefix);
            self.piece(data);
            self.bytes.extend_from_slice(frame.suffix);
        }
        Ok(())
    }

    /// Adds bytes as they are.
    pub(crate) fn piece(&mut self, data: Bytes) {
        if !self.bytes.is_empty() {
            self.pieces.push(std::mem::take(&mut self.bytes).into());
        }
        self.pieces.push(data);
    }

    /// Everything that was gathered, in order.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = Bytes> + use<> {
        if !self.bytes.is_empty() {
            self.pieces.push(std::mem::take(&mut self.bytes).into());
        }
        std::mem::take(&mut self.pieces).into_iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len() + self.pieces.iter().map(Bytes::len).sum::<usize>()
    }
}
