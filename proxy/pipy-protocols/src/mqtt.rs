//! MQTT 3.1, 3.1.1 and 5.0: all packets, all properties.
//!
//! A message's head says what packet it is: `{type, protocolLevel, qos, dup, retain, packetIdentifier,
//! topicName, sessionPresent, keepAlive, reasonCode, properties}`, each where the packet has it. The body
//! is a PUBLISH's payload, passed on as it arrives. The payload of the end is, by packet:
//!
//! | packet | payload |
//! |---|---|
//! | CONNECT | `{clientID, username, password, will: {topic, qos, retain, payload, properties}, cleanStart}` |
//! | SUBSCRIBE | `{topicFilters: [{filter, qos, noLocal, retainAsPublished, retainHandling}]}` |
//! | UNSUBSCRIBE | `[filter]` |
//! | SUBACK, UNSUBACK | `[code]` |
//!
//! Heads of CONNECT repeat `clientID`, `username` and `password`, and those of SUBSCRIBE `topicFilters`,
//! because scripts of older releases look for them there; when both are given, the payload counts.
//!
//! Invariants: what one level allows and another does not is judged by the level of the connection, which
//! [`Decoder`] learns from CONNECT, or from the length of CONNACK where it only sees the server's side.
//!
//! Not done here: sessions, topic aliases, keep-alive, matching of topics.

mod decode;
mod encode;
mod properties;
#[cfg(test)]
mod tests;

pub use decode::Decoder;
pub use encode::Encoder;

const PROTOCOL: &str = "MQTT";

/// LIMIT: bytes of a packet other than PUBLISH, and of the head of a PUBLISH. A CONNECT with a long will
/// and password is some 200 KiB; Mosquitto by default takes the 256 MiB that the protocol allows.
const PACKET_BYTES_MAX: usize = 1024 * 1024;

/// What four bytes of length can say.
const REMAINING_MAX: usize = 268_435_455;

const CONNECT: u8 = 1;
const CONNACK: u8 = 2;
const PUBLISH: u8 = 3;
const PUBACK: u8 = 4;
const PUBREC: u8 = 5;
const PUBREL: u8 = 6;
const PUBCOMP: u8 = 7;
const SUBSCRIBE: u8 = 8;
const SUBACK: u8 = 9;
const UNSUBSCRIBE: u8 = 10;
const UNSUBACK: u8 = 11;
const PINGREQ: u8 = 12;
const PINGRESP: u8 = 13;
const DISCONNECT: u8 = 14;
const AUTH: u8 = 15;

/// Names by packet type.
const NAMES: [&str; 16] = [
    "",
    "CONNECT",
    "CONNACK",
    "PUBLISH",
    "PUBACK",
    "PUBREC",
    "PUBREL",
    "PUBCOMP",
    "SUBSCRIBE",
    "SUBACK",
    "UNSUBSCRIBE",
    "UNSUBACK",
    "PINGREQ",
    "PINGRESP",
    "DISCONNECT",
    "AUTH",
];

fn name(packet: u8) -> &'static str {
    NAMES.get(usize::from(packet)).copied().unwrap_or_default()
}

/// The level of MQTT 5; below it there are no properties and fewer reason codes.
const LEVEL_5: u8 = 5;

/// What is assumed until a packet shows the level: most clients in the field speak 3.1.1.
const LEVEL_DEFAULT: u8 = 4;
