//! HPACK (RFC 7541): header blocks into fields and back, with a bounded table each way.
//!
//! In: whole header blocks. Out: fields, one at a time, as slices that live as long as the call: no
//! list of fields is ever built here. For writing the other way round.
//!
//! Invariants: a block is read to its end even where its fields are not wanted any more, because
//! the table must follow the peer's; any error is fatal for the connection (RFC 9113 §4.3); memory
//! is bounded by the table sizes of [`Config`](crate::Config) and the size of the block.
//!
//! Not done here: what fields mean, joining CONTINUATION frames, limits on block sizes.

mod codes;
mod decode;
mod encode;
mod huffman;
mod integer;
mod static_table;
mod table;
#[cfg(test)]
mod tests;

pub(crate) use decode::{Decoder, FieldSink, ListSize};
pub(crate) use encode::Encoder;

/// What is wrong with a header block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HpackError {
    /// The block ends inside a field.
    #[error("header block ends inside a field")]
    Truncated,
    /// An integer over 2^32 or in more bytes than that takes (RFC 7541 §5.1).
    #[error("integer in a header block is too large")]
    IntegerOverflow,
    /// An index that no table has (RFC 7541 §2.3.3).
    #[error("index {0} in a header block is in no table")]
    InvalidIndex(u32),
    /// Huffman padding of more than seven bits, or not of ones (RFC 7541 §5.2).
    #[error("huffman-coded string in a header block is badly padded")]
    HuffmanPadding,
    /// The end-of-string symbol inside a string (RFC 7541 §5.2).
    #[error("huffman-coded string in a header block holds the end-of-string symbol")]
    HuffmanEos,
    /// A table size above the one we allow (RFC 7541 §6.3).
    #[error("dynamic table size {found} exceeds the maximum of {max}")]
    TableSizeTooLarge {
        /// The size asked for, in bytes.
        found: u32,
        /// The size allowed, in bytes.
        max: u32,
    },
    /// A table size after a field, or a third one (RFC 7541 §4.2).
    #[error("dynamic table size update is not at the beginning of its header block")]
    MisplacedSizeUpdate,
    /// We lowered the table size, and the peer does not say that it follows (RFC 7541 §4.2).
    #[error("header block does not begin with the dynamic table size update that is due")]
    MissingSizeUpdate,
}
