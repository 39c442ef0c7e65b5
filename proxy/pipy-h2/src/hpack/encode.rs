//! Fields into header blocks (RFC 7541 §3 and §6).
//!
//! In: fields of one block, in order. Out: the block, appended to a buffer.
//!
//! Which fields enter the table is a policy by name:
//!
//! | field | how | because |
//! |---|---|---|
//! | authorization, proxy-authorization, cookie, set-cookie | never indexed | a secret in a table can be guessed by its effect on sizes (§7.1.3) |
//! | :path, content-length, date, etag, ids of requests and traces, … | not indexed | differs each time: it would push out what repeats |
//! | all others, if not larger than a quarter of the table | indexed | one byte from the second time on |
//!
//! Only what enters the table is Huffman-coded, once and for all; what is sent each time anew goes
//! as it is: between sidecars a fifth fewer bytes of a path are worth less than the time to code
//! and decode it on both ends.
//!
//! Invariant: our table never exceeds the peer's SETTINGS_HEADER_TABLE_SIZE nor our own maximum, and
//! changes of its size are announced at the beginning of the next block (§4.2).

use super::static_table::{self, STATIC_LEN};
use super::table::{ENTRY_OVERHEAD, Found, Table};
use super::{huffman, integer};

/// Writes the header blocks of one connection.
#[derive(Debug)]
pub(crate) struct Encoder {
    table: Table,
    /// The most we use, whatever the peer allows.
    own_max: usize,
    /// Size updates that the next block begins with: the smallest size in between, and the last.
    pending: Option<(usize, usize)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    Index,
    Plain,
    Never,
}

impl Encoder {
    /// An encoder for a peer that has said nothing about its table yet (4,096 bytes then).
    pub(crate) fn new(own_max: u32) -> Self {
        let own_max = own_max as usize;
        let size = own_max.min(PEER_TABLE_DEFAULT);
        let pending = (size < PEER_TABLE_DEFAULT).then_some((size, size));
        Self { table: Table::new(size), own_max, pending }
    }

    /// The peer's SETTINGS_HEADER_TABLE_SIZE.
    pub(crate) fn set_peer_max(&mut self, peer_max: u32) {
        let size = self.own_max.min(peer_max as usize);
        if size == self.table.size_max() && self.pending.is_none() {
            return;
        }
        self.table.set_size_max(size);
        let smallest = self.pending.map_or(size, |(smallest, _)| smallest.min(size));
        self.pending = Some((smallest, size));
    }

    /// Bytes of heap memory.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.table.heap_bytes()
    }

    /// To be called before the first field of each block.
    pub(crate) fn begin(&mut self, out: &mut Vec<u8>) {
        if let Some((smallest, last)) = self.pending.take() {
            if smallest < last {
                integer::write(smallest as u32, 5, 0x20, out);
            }
            integer::write(last as u32, 5, 0x20, out);
        }
    }

    /// Appends one field. The name is in lower case; both are valid (RFC 9113 §8.2).
    pub(crate) fn field(&mut self, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        let fixed = static_table::find(name, value);
        if let Some((index, true)) = fixed {
            integer::write(index, 7, 0x80, out);
            return;
        }
        let is_small = (name.len() + value.len() + ENTRY_OVERHEAD) * 4 <= self.table.size_max();
        match policy(name) {
            Policy::Index if is_small => {
                let mut named = fixed.map(|(index, _)| index);
                match self.table.find(name, value) {
                    Found::Field(index) => {
                        integer::write(dynamic(index), 7, 0x80, out);
                        return;
                    }
                    Found::Name(index) => named = named.or(Some(dynamic(index))),
                    Found::Nothing => {}
                }
                put_literal(named, name, value, 6, 0x40, true, out);
                self.table.insert(name, value);
            }
            Policy::Never => put_literal(fixed.map(|(index, _)| index), name, value, 4, 0x10, false, out),
            _ => put_literal(fixed.map(|(index, _)| index), name, value, 4, 0, false, out),
        }
    }
}

fn dynamic(index: usize) -> u32 {
    // A table of a u32 size holds fewer entries than that.
    STATIC_LEN + 1 + index as u32
}

fn put_literal(
    index: Option<u32>,
    name: &[u8],
    value: &[u8],
    prefix_bits: u32,
    pattern: u8,
    compress: bool,
    out: &mut Vec<u8>,
) {
    integer::write(index.unwrap_or(0), prefix_bits, pattern, out);
    if index.is_none() {
        put_string(name, compress, out);
    }
    put_string(value, compress, out);
}

fn put_string(text: &[u8], compress: bool, out: &mut Vec<u8>) {
    if compress {
        let len = huffman::encoded_len(text);
        if len < text.len() {
            integer::write(len as u32, 7, 0x80, out);
            huffman::encode(text, out);
            return;
        }
    }
    // Heads are bounded far below 4 GiB, which `head_out.rs` sees to.
    integer::write(text.len() as u32, 7, 0, out);
    out.extend_from_slice(text);
}

/// How a field of that name is written.
fn policy(name: &[u8]) -> Policy {
    match name {
        b"authorization" | b"proxy-authorization" | b"cookie" | b"set-cookie" => Policy::Never,
        b":path"
        | b"content-length"
        | b"date"
        | b"age"
        | b"etag"
        | b"expires"
        | b"last-modified"
        | b"location"
        | b"content-range"
        | b"range"
        | b"referer"
        | b"if-match"
        | b"if-none-match"
        | b"if-modified-since"
        | b"if-unmodified-since"
        | b"if-range"
        | b"x-request-id"
        | b"traceparent"
        | b"tracestate"
        | b"b3"
        | b"x-b3-traceid"
        | b"x-b3-spanid"
        | b"x-b3-parentspanid"
        | b"grpc-timeout"
        | b"grpc-trace-bin"
        | b"grpc-message"
        | b"sec-websocket-key"
        | b"sec-websocket-accept" => Policy::Plain,
        _ => Policy::Index,
    }
}

/// RFC 7541 §4.2 with RFC 9113 §6.5.2: what a peer allows before its SETTINGS.
const PEER_TABLE_DEFAULT: usize = 4096;
