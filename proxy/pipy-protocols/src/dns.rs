//! DNS messages (RFC 1035, 3596, 2782, 6891), as objects and back.
//!
//! `{id, qr, opcode, aa, tc, rd, ra, zero, rcode, question, answer, authority, additional}`; fields of the
//! header that are 0 are left out when reading. A question is `{name, type, class}`, a record
//! `{name, type, class, ttl, rdata}`; class IN is left out. `rdata` by type:
//!
//! | type | rdata |
//! |---|---|
//! | A, AAAA | the address as text (AAAA may also be written as 32 hexadecimal digits) |
//! | NS, CNAME, PTR, DNAME | a name |
//! | MX | `{preference, exchange}` |
//! | TXT, SPF | a string; an array where there are several |
//! | SOA | `{mname, rname, serial, refresh, retry, expire, minimum}` |
//! | SRV | `{priority, weight, port, target}` |
//! | CAA | `{flags, tag, value}` |
//! | NAPTR | `{order, preference, flags, services, regexp, replacement}` |
//! | OPT | `[{code, data}]`, data in hexadecimal; `class` is the sender's size, `ttl` its flags |
//! | others | hexadecimal; their `type` is a number |
//!
//! Names have no dot at their end; a dot or backslash within a label is escaped by a backslash, and a byte
//! that is no printable ASCII is `\DDD`.
//!
//! Invariants: reading is linear in the message's size times 128, for each pointer leads strictly towards
//! the front; names are written compressed where RFC 3597 §4 allows.
//!
//! Not done here: resolving, the two bytes of length before a message over TCP, DNSSEC.

mod decode;
mod encode;
mod name;
#[cfg(test)]
mod tests;

pub use decode::decode;
pub use encode::encode;

const PROTOCOL: &str = "DNS";

/// What the length of a message over TCP can say.
const MESSAGE_BYTES_MAX: usize = 65535;

const TYPES: [(u16, &str); 14] = [
    (1, "A"),
    (2, "NS"),
    (5, "CNAME"),
    (6, "SOA"),
    (12, "PTR"),
    (15, "MX"),
    (16, "TXT"),
    (28, "AAAA"),
    (33, "SRV"),
    (35, "NAPTR"),
    (39, "DNAME"),
    (41, "OPT"),
    (99, "SPF"),
    (257, "CAA"),
];

/// Types that only questions have; as numbers they would tell little.
const QUESTIONS: [(u16, &str); 3] = [(251, "IXFR"), (252, "AXFR"), (255, "ANY")];

const CLASSES: [(u16, &str); 5] = [(1, "IN"), (3, "CH"), (4, "HS"), (254, "NONE"), (255, "ANY")];

/// The header's flags: name, bits to shift, and how many bits.
const FLAGS: [(&str, u16, u16); 8] = [
    ("qr", 15, 1),
    ("opcode", 11, 4),
    ("aa", 10, 1),
    ("tc", 9, 1),
    ("rd", 8, 1),
    ("ra", 7, 1),
    ("zero", 4, 3),
    ("rcode", 0, 4),
];

const SECTIONS: [&str; 4] = ["question", "answer", "authority", "additional"];
