//! Header blocks into fields (RFC 7541 §3 and §6).
//!
//! In: one whole block. Out: its fields, handed to a [`FieldSink`] while they last within the limit
//! on their list (RFC 9113 §10.5.1); beyond it the block is only followed, for the table's sake, at
//! the cost of a look per field: that is what makes a decompression bomb harmless.
//!
//! ```text
//! 1xxxxxxx indexed field          0001xxxx literal, never indexed
//! 01xxxxxx literal, indexed       0000xxxx literal, not indexed
//! 001xxxxx table size, first in its block
//! ```

use smallvec::SmallVec;

use super::static_table::{self, STATIC_LEN};
use super::table::{ENTRY_OVERHEAD, Table};
use super::{HpackError, huffman, integer};

/// Takes the fields of one block.
pub(crate) trait FieldSink {
    /// Called once per field, in order. Name and value are as the peer sent them, unchecked.
    fn field(&mut self, name: &[u8], value: &[u8]);
}

/// Whether the fields of a block were within the limit on their list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListSize {
    Within,
    /// The sink has not seen all fields.
    Exceeded,
}

/// Reads the header blocks of one connection.
#[derive(Debug)]
pub(crate) struct Decoder {
    table: Table,
    /// What we allow the peer's encoder (SETTINGS_HEADER_TABLE_SIZE).
    allowed: usize,
    /// Whether the next block must begin with a size update.
    update_due: bool,
}

/// Strings up to this length are decoded on the stack.
type Text = SmallVec<[u8; 256]>;

impl Decoder {
    pub(crate) fn new(allowed: u32) -> Self {
        Self { table: Table::new(allowed as usize), allowed: allowed as usize, update_due: false }
    }

    /// Our setting as the peer has acknowledged it: a smaller one obliges its next block.
    pub(crate) fn set_allowed(&mut self, allowed: u32) {
        self.allowed = allowed as usize;
        self.update_due = self.table.size_max() > self.allowed;
    }

    /// Bytes of heap memory.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.table.heap_bytes()
    }

    /// Reads a block. `list_max` is in bytes: names, values and 32 for each field.
    pub(crate) fn decode(
        &mut self,
        mut block: &[u8],
        list_max: u32,
        sink: &mut impl FieldSink,
    ) -> Result<ListSize, HpackError> {
        self.read_size_updates(&mut block)?;
        let mut list = List { left: list_max as usize, size: ListSize::Within, sink };
        while let Some(&first) = block.first() {
            if first & 0x80 != 0 {
                let index = integer::read(&mut block, 7)?;
                let (name, value) = self.entry(index)?;
                list.add(name, value);
            } else if first & 0x40 != 0 {
                self.literal_indexed(&mut block, &mut list)?;
            } else if first & 0x20 != 0 {
                return Err(HpackError::MisplacedSizeUpdate);
            } else {
                // Never indexed and not indexed differ for whoever forwards the block as it is,
                // which nobody here does: the encoder has its own list of what is sensitive.
                self.literal(&mut block, &mut list)?;
            }
        }
        Ok(list.size)
    }

    fn read_size_updates(&mut self, block: &mut &[u8]) -> Result<(), HpackError> {
        // §4.2: the smallest size in between and the final one, so two at most.
        let mut seen = 0;
        while block.first().is_some_and(|first| first & 0xe0 == 0x20) {
            seen += 1;
            if seen > 2 {
                return Err(HpackError::MisplacedSizeUpdate);
            }
            let size = integer::read(block, 5)?;
            if size as usize > self.allowed {
                let max = self.allowed as u32;
                return Err(HpackError::TableSizeTooLarge { found: size, max });
            }
            self.table.set_size_max(size as usize);
            self.update_due = false;
        }
        if self.update_due { Err(HpackError::MissingSizeUpdate) } else { Ok(()) }
    }

    fn literal<S: FieldSink>(&self, block: &mut &[u8], list: &mut List<'_, S>) -> Result<(), HpackError> {
        let index = integer::read(block, 4)?;
        let (mut name_text, mut value_text) = (Text::new(), Text::new());
        let name = match index {
            0 => string(block, &mut name_text)?,
            index => self.entry(index)?.0,
        };
        let value = string(block, &mut value_text)?;
        list.add(name, value);
        Ok(())
    }

    fn literal_indexed<S: FieldSink>(
        &mut self,
        block: &mut &[u8],
        list: &mut List<'_, S>,
    ) -> Result<(), HpackError> {
        let index = integer::read(block, 6)?;
        let (mut name_text, mut value_text) = (Text::new(), Text::new());
        if index > STATIC_LEN {
            let value_from = block;
            let (name, _) = self.entry(index)?;
            let value = string(value_from, &mut value_text)?;
            list.add(name, value);
            self.table.insert_with_name_of((index - STATIC_LEN - 1) as usize, value);
            return Ok(());
        }
        let name = match index {
            0 => string(block, &mut name_text)?,
            index => static_table::field(index).ok_or(HpackError::InvalidIndex(index))?.0,
        };
        let value = string(block, &mut value_text)?;
        list.add(name, value);
        self.table.insert(name, value);
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn table_size(&self) -> usize {
        self.table.size()
    }

    #[inline]
    fn entry(&self, index: u32) -> Result<(&[u8], &[u8]), HpackError> {
        let entry = match index.checked_sub(STATIC_LEN + 1) {
            Some(dynamic) => self.table.get(dynamic as usize),
            None => static_table::field(index),
        };
        entry.ok_or(HpackError::InvalidIndex(index))
    }
}

/// The fields given out so far, and how many more bytes of them may be.
struct List<'a, S> {
    left: usize,
    size: ListSize,
    sink: &'a mut S,
}

impl<S: FieldSink> List<'_, S> {
    #[inline]
    fn add(&mut self, name: &[u8], value: &[u8]) {
        // Once exceeded, nothing more is given, lest a small last field look like the whole.
        if self.size == ListSize::Exceeded {
            return;
        }
        match self.left.checked_sub(name.len() + value.len() + ENTRY_OVERHEAD) {
            Some(left) => {
                self.left = left;
                self.sink.field(name, value);
            }
            None => self.size = ListSize::Exceeded,
        }
    }
}

/// A string literal (§5.2): a slice of the block, or of `text` where it was Huffman-coded.
#[inline]
fn string<'text, 'block: 'text>(
    block: &mut &'block [u8],
    text: &'text mut Text,
) -> Result<&'text [u8], HpackError> {
    let is_huffman = block.first().is_some_and(|first| first & 0x80 != 0);
    let len = integer::read(block, 7)?;
    let (bytes, rest) = block.split_at_checked(len as usize).ok_or(HpackError::Truncated)?;
    *block = rest;
    if !is_huffman {
        return Ok(bytes);
    }
    huffman::decode(bytes, text)?;
    Ok(text)
}
