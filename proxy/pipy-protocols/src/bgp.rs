//! BGP-4 messages (RFC 4271), with capabilities (RFC 5492) and AS numbers of four bytes (RFC 6793).
//!
//! The payload of a message is `{type, body}`. By type, the body is:
//!
//! | type | body |
//! |---|---|
//! | OPEN | `{version, myAS, holdTime, identifier, capabilities: {code: Data}, parameters: {type: Data}}` |
//! | UPDATE | `{withdrawnRoutes: [prefix], pathAttributes: [attribute], destinations: [prefix]}` |
//! | NOTIFICATION | `{errorCode, errorSubcode, data}` |
//! | KEEPALIVE | – |
//! | ROUTE-REFRESH | `{afi, safi}` |
//!
//! A prefix is text, such as `10.0.0.0/8`. An attribute is `{name, code, optional, transitive, partial,
//! value}`, with the value of ORIGIN, MULTI_EXIT_DISC and LOCAL_PREF a number, of NEXT_HOP an address, of
//! AS_PATH `[{type: 'AS_SET' | 'AS_SEQUENCE', path: [AS]}]`, of AGGREGATOR `{as, ip}`, of others `Data`.
//!
//! Invariants: every length within a message is checked against that around it.
//!
//! Not done here: the state machine, timers, families other than IPv4 (their attributes are `Data`).

mod decode;
mod encode;
#[cfg(test)]
mod tests;

pub use decode::Decoder;
pub use encode::Encoder;

const PROTOCOL: &str = "BGP";
const HEADER_BYTES: usize = 19;
/// RFC 4271 §4.1.
const MESSAGE_BYTES_MAX: usize = 4096;

const TYPES: [&str; 5] = ["OPEN", "UPDATE", "NOTIFICATION", "KEEPALIVE", "ROUTE-REFRESH"];

/// Attributes by their code, from 1, and whether they are optional and transitive.
const ATTRIBUTES: [(&str, bool, bool); 7] = [
    ("ORIGIN", false, true),
    ("AS_PATH", false, true),
    ("NEXT_HOP", false, true),
    ("MULTI_EXIT_DISC", true, false),
    ("LOCAL_PREF", false, true),
    ("ATOMIC_AGGREGATE", false, true),
    ("AGGREGATOR", true, true),
];

/// The optional parameter that holds capabilities.
const CAPABILITIES: u8 = 2;
const OPTIONAL: u8 = 0x80;
const TRANSITIVE: u8 = 0x40;
const PARTIAL: u8 = 0x20;
const EXTENDED: u8 = 0x10;
