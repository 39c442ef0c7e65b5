//! BGP-4 messages (RFC 4271), with capabilities (RFC 5492), AS numbers of four bytes (RFC 6793) and families other than
//! IPv4 (RFC 4760).
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
//! value}`; values are
//!
//! | attribute | value |
//! |---|---|
//! | ORIGIN, MULTI_EXIT_DISC, LOCAL_PREF | a number |
//! | NEXT_HOP, ORIGINATOR_ID; CLUSTER_LIST | an address; several |
//! | AS_PATH, AS4_PATH | `[{type: 'AS_SET' \| 'AS_SEQUENCE' \| …, path: [AS]}]` |
//! | AGGREGATOR, AS4_AGGREGATOR | `{as, ip}` |
//! | COMMUNITIES, LARGE_COMMUNITY | `['65000:1']`, `['65000:1:2']` |
//! | MP_REACH_NLRI | `{afi, safi, nextHop, destinations}`; two next hops are a list |
//! | MP_UNREACH_NLRI | `{afi, safi, withdrawnRoutes}` |
//! | others, and families other than IPv4 and IPv6 | `Data` |
//!
//! Invariants: every length within a message is checked against that around it.
//!
//! Not done here: the state machine, timers, several paths to one prefix (RFC 7911), longer messages (RFC 8654).

mod attribute_in;
mod attribute_out;
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

/// An attribute that has a name here.
struct Attribute {
    code: u8,
    name: &'static str,
    optional: bool,
    transitive: bool,
}

const fn attribute(code: u8, name: &'static str, optional: bool, transitive: bool) -> Attribute {
    Attribute { code, name, optional, transitive }
}

/// Attributes, and whether they are optional and transitive.
const ATTRIBUTES: [Attribute; 16] = [
    attribute(1, "ORIGIN", false, true),
    attribute(2, "AS_PATH", false, true),
    attribute(3, "NEXT_HOP", false, true),
    attribute(4, "MULTI_EXIT_DISC", true, false),
    attribute(5, "LOCAL_PREF", false, true),
    attribute(6, "ATOMIC_AGGREGATE", false, true),
    attribute(7, "AGGREGATOR", true, true),
    attribute(8, "COMMUNITIES", true, true),
    attribute(9, "ORIGINATOR_ID", true, false),
    attribute(10, "CLUSTER_LIST", true, false),
    attribute(14, "MP_REACH_NLRI", true, false),
    attribute(15, "MP_UNREACH_NLRI", true, false),
    attribute(16, "EXTENDED_COMMUNITIES", true, true),
    attribute(17, "AS4_PATH", true, true),
    attribute(18, "AS4_AGGREGATOR", true, true),
    attribute(32, "LARGE_COMMUNITY", true, true),
];

fn known(code: u8) -> Option<&'static Attribute> {
    ATTRIBUTES.iter().find(|known| known.code == code)
}

/// Segments of a path, by their type, from 1 (RFC 4271, RFC 5065).
const SEGMENTS: [&str; 4] = ["AS_SET", "AS_SEQUENCE", "AS_CONFED_SEQUENCE", "AS_CONFED_SET"];

/// Families (AFI) and what they are for (SAFI).
const IPV4: u16 = 1;
const IPV6: u16 = 2;
const UNICAST: u8 = 1;
const MULTICAST: u8 = 2;

/// The optional parameter that holds capabilities.
const CAPABILITIES: u8 = 2;
const OPTIONAL: u8 = 0x80;
const TRANSITIVE: u8 = 0x40;
const PARTIAL: u8 = 0x20;
const EXTENDED: u8 = 0x10;
