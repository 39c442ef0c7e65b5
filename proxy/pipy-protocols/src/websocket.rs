//! WebSocket frames (RFC 6455), after the handshake.
//!
//! Heads are `{opcode, masked}`: 1 text, 2 binary, 8 close, 9 ping, 10 pong. Fragments are merged into one
//! message, whose body passes as it arrives. The payload of a close is `{code, reason}`. Where an extension
//! changed a message (RFC 7692), its head has `rsv1: true`, and its body passes as it is.
//!
//! Control frames between the fragments of a message come out after that message, for messages cannot be
//! within each other.
//!
//! Invariants: text and the reason of a close are UTF-8, wherever they are cut; lengths are minimal; close
//! codes are those that may be sent.
//!
//! Not done here: the handshake, extensions, answers to pings.

mod decode;
mod encode;
#[cfg(test)]
mod tests;

pub use decode::Decoder;
pub use encode::Encoder;

const PROTOCOL: &str = "WebSocket";

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// What a control frame can carry (RFC 6455 §5.5).
const CONTROL_BYTES_MAX: usize = 125;

/// Codes that may be sent (RFC 6455 §7.4 and the registry).
const fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}
