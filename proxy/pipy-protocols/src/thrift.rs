//! Apache Thrift messages: the protocols binary, compact and old (binary without version), framed or not.
//!
//! The payload of a message is `{protocol: 'binary' | 'compact' | 'old', type: 'call' | 'reply' |
//! 'exception' | 'oneway', seqID, name, fields}`, its head `{framed}`. A field is `{id, type, value}`, with
//! type BOOL, I8, I16, I32, I64, DOUBLE, BINARY, STRUCT, MAP, SET, LIST or UUID, and the value:
//!
//! | type | value |
//! |---|---|
//! | BINARY, and strings | `Data` |
//! | STRUCT | an array of fields |
//! | LIST, SET | `{elementType, elements}` |
//! | MAP | `{keyType, valueType, pairs: [[key, value]...]}` |
//! | UUID | its text |
//!
//! Protocol and framing are found from the first bytes of each message. No schema is needed, and names of
//! fields are not known.
//!
//! Invariants: the end of an unframed message is found in one pass, without a stack of the thread, however
//! the bytes are cut; only then it is read.
//!
//! Not done here: which reply belongs to which call; `THeader`.

mod decode;
mod encode;
mod read;
mod scan;
#[cfg(test)]
mod tests;

pub use decode::Decoder;
pub use encode::Encoder;

const PROTOCOL: &str = "Thrift";

/// LIMIT: bytes of a message; what Thrift's own servers take by default.
const MESSAGE_BYTES_MAX: usize = 16_384_000;
/// LIMIT: values within each other; Thrift's own default.
const DEPTH_MAX: usize = 64;
/// LIMIT: values of one message: some 100 MB at most.
const VALUES_MAX: usize = 1024 * 1024;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Dialect {
    Binary,
    Compact,
    Old,
}

const DIALECTS: [(Dialect, &str); 3] =
    [(Dialect::Binary, "binary"), (Dialect::Compact, "compact"), (Dialect::Old, "old")];

/// Messages by their number, from 1.
const MESSAGES: [&str; 4] = ["call", "reply", "exception", "oneway"];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Type {
    Bool,
    I8,
    I16,
    I32,
    I64,
    Double,
    Binary,
    Struct,
    Map,
    Set,
    List,
    Uuid,
}

/// Types with their names, and their codes in the binary and the compact protocol.
const TYPES: [(Type, &str, u8, u8); 12] = [
    (Type::Bool, "BOOL", 2, 1),
    (Type::I8, "I8", 3, 3),
    (Type::I16, "I16", 6, 4),
    (Type::I32, "I32", 8, 5),
    (Type::I64, "I64", 10, 6),
    (Type::Double, "DOUBLE", 4, 7),
    (Type::Binary, "BINARY", 11, 8),
    (Type::Struct, "STRUCT", 12, 12),
    (Type::Map, "MAP", 13, 11),
    (Type::Set, "SET", 14, 10),
    (Type::List, "LIST", 15, 9),
    (Type::Uuid, "UUID", 16, 13),
];

impl Type {
    fn row(self) -> (Self, &'static str, u8, u8) {
        TYPES.into_iter().find(|row| row.0 == self).unwrap_or((self, "", 0, 0))
    }

    fn name(self) -> &'static str {
        self.row().1
    }

    fn from_code(dialect: Dialect, code: u8) -> Option<Self> {
        let is_it = |row: &&(Self, &str, u8, u8)| match dialect {
            // A false boolean of a compact struct has a code of its own.
            Dialect::Compact => row.3 == code || (row.0 == Self::Bool && code == 2),
            Dialect::Binary | Dialect::Old => row.2 == code,
        };
        TYPES.iter().find(is_it).map(|row| row.0)
    }

    fn code(self, dialect: Dialect) -> u8 {
        if dialect == Dialect::Compact { self.row().3 } else { self.row().2 }
    }
}
