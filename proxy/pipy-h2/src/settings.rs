//! SETTINGS (RFC 9113 §6.5): what the peer says, checked, and what we say.
//!
//! In: the payload of a SETTINGS frame. Out: [`PeerSettings`] as they are afterwards. Unknown ones
//! are ignored (§6.5.2).
//!
//! Not done here: what a change means for windows and tables (`receive.rs`).

use crate::config::{MAX_FRAME_SIZE_MAX, MAX_FRAME_SIZE_MIN, WINDOW_DEFAULT, WINDOW_MAX};
use crate::frame::{FrameHeader, Kind};
use crate::{Config, ConnectionError, Role};

/// What the peer has set; the protocol's defaults before that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerSettings {
    /// Bytes of the table that our encoder may use.
    pub header_table_size: u32,
    /// Streams that we may have open at once; `None` is without limit.
    pub max_concurrent_streams: Option<u32>,
    /// The window that our streams begin with, in bytes.
    pub initial_window_size: u32,
    /// Bytes of the payload of the frames we send.
    pub max_frame_size: u32,
    /// Bytes of a header list that the peer accepts; `None` is without limit.
    pub max_header_list_size: Option<u32>,
    /// Whether the peer accepts extended CONNECT (RFC 8441).
    pub extended_connect: bool,
}

mod id {
    pub(super) const HEADER_TABLE_SIZE: u16 = 1;
    pub(super) const ENABLE_PUSH: u16 = 2;
    pub(super) const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub(super) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(super) const MAX_FRAME_SIZE: u16 = 5;
    pub(super) const MAX_HEADER_LIST_SIZE: u16 = 6;
    pub(super) const ENABLE_CONNECT_PROTOCOL: u16 = 8;
}

impl Default for PeerSettings {
    fn default() -> Self {
        Self {
            header_table_size: 4096,
            max_concurrent_streams: None,
            initial_window_size: WINDOW_DEFAULT,
            max_frame_size: MAX_FRAME_SIZE_MIN,
            max_header_list_size: None,
            extended_connect: false,
        }
    }
}

impl PeerSettings {
    /// Applies a payload whose length is a multiple of six. `our_role` tells what the peer may say.
    pub(crate) fn apply(&mut self, payload: &[u8], our_role: Role) -> Result<(), ConnectionError> {
        for entry in payload.chunks_exact(6) {
            let &[i0, i1, v0, v1, v2, v3] = entry else { continue };
            let value = u32::from_be_bytes([v0, v1, v2, v3]);
            let invalid = |name, expected| Err(ConnectionError::InvalidSetting { name, value, expected });
            match u16::from_be_bytes([i0, i1]) {
                id::HEADER_TABLE_SIZE => self.header_table_size = value,
                id::ENABLE_PUSH if value > 1 => return invalid("ENABLE_PUSH", "0 or 1"),
                // §6.5.2: a server must not set it to anything else.
                id::ENABLE_PUSH if value == 1 && our_role == Role::Client => {
                    return invalid("ENABLE_PUSH", "0 of a server");
                }
                id::MAX_CONCURRENT_STREAMS => self.max_concurrent_streams = Some(value),
                id::INITIAL_WINDOW_SIZE if value > WINDOW_MAX => {
                    return invalid("INITIAL_WINDOW_SIZE", "at most 2147483647");
                }
                id::INITIAL_WINDOW_SIZE => self.initial_window_size = value,
                id::MAX_FRAME_SIZE if !(MAX_FRAME_SIZE_MIN..=MAX_FRAME_SIZE_MAX).contains(&value) => {
                    return invalid("MAX_FRAME_SIZE", "16384 to 16777215");
                }
                id::MAX_FRAME_SIZE => self.max_frame_size = value,
                id::MAX_HEADER_LIST_SIZE => self.max_header_list_size = Some(value),
                id::ENABLE_CONNECT_PROTOCOL => match value {
                    1 => self.extended_connect = true,
                    // RFC 8441 §3: it cannot be taken back.
                    0 if !self.extended_connect => {}
                    _ => return invalid("ENABLE_CONNECT_PROTOCOL", "0, or 1 from then on"),
                },
                _ => {}
            }
        }
        Ok(())
    }
}

/// Appends our first SETTINGS frame.
pub(crate) fn put_settings(config: &Config, role: Role, out: &mut Vec<u8>) {
    let mut entries: smallvec::SmallVec<[(u16, u32); 8]> = smallvec::SmallVec::new();
    let mut add = |name, value, default| {
        if Some(value) != default {
            entries.push((name, value));
        }
    };
    add(id::HEADER_TABLE_SIZE, config.header_table_size, Some(4096));
    if role == Role::Client {
        add(id::ENABLE_PUSH, 0, None);
    } else {
        add(id::MAX_CONCURRENT_STREAMS, config.max_concurrent_streams, None);
        if config.extended_connect {
            add(id::ENABLE_CONNECT_PROTOCOL, 1, None);
        }
    }
    add(id::INITIAL_WINDOW_SIZE, config.stream_window, Some(WINDOW_DEFAULT));
    add(id::MAX_FRAME_SIZE, config.max_frame_size, Some(MAX_FRAME_SIZE_MIN));
    add(id::MAX_HEADER_LIST_SIZE, config.header_list_bytes_max, None);
    let len = entries.len() as u32 * 6;
    FrameHeader { len, kind: Kind::SETTINGS, flags: 0, stream: 0 }.write(out);
    for (name, value) in entries {
        out.extend_from_slice(&name.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorCode;
    use crate::frame::FRAME_HEADER_LEN;

    fn apply(entries: &[(u16, u32)], role: Role) -> Result<PeerSettings, ConnectionError> {
        let mut payload = Vec::new();
        for (name, value) in entries {
            payload.extend(name.to_be_bytes());
            payload.extend(value.to_be_bytes());
        }
        let mut settings = PeerSettings::default();
        settings.apply(&payload, role).map(|()| settings)
    }

    #[test]
    fn values_are_checked_as_rfc_9113_6_5_2_says() {
        use ErrorCode as C;
        let cases = [
            (id::ENABLE_PUSH, 2, Role::Server, Some(C::PROTOCOL_ERROR)),
            (id::ENABLE_PUSH, 1, Role::Server, None),
            (id::ENABLE_PUSH, 1, Role::Client, Some(C::PROTOCOL_ERROR)),
            (id::ENABLE_PUSH, 0, Role::Client, None),
            (id::INITIAL_WINDOW_SIZE, WINDOW_MAX, Role::Server, None),
            (id::INITIAL_WINDOW_SIZE, WINDOW_MAX + 1, Role::Server, Some(C::FLOW_CONTROL_ERROR)),
            (id::MAX_FRAME_SIZE, 16_383, Role::Server, Some(C::PROTOCOL_ERROR)),
            (id::MAX_FRAME_SIZE, 16_384, Role::Server, None),
            (id::MAX_FRAME_SIZE, 16_777_215, Role::Server, None),
            (id::MAX_FRAME_SIZE, 16_777_216, Role::Server, Some(C::PROTOCOL_ERROR)),
            (id::ENABLE_CONNECT_PROTOCOL, 2, Role::Client, Some(C::PROTOCOL_ERROR)),
            (id::HEADER_TABLE_SIZE, u32::MAX, Role::Client, None),
            (0x9a9a, u32::MAX, Role::Client, None),
        ];
        for (name, value, role, code) in cases {
            let found = apply(&[(name, value)], role).err().map(|error| error.code());
            assert_eq!(found, code, "{name:#x} = {value}");
        }
    }

    #[test]
    fn the_last_of_several_values_holds() {
        let settings = apply(&[(3, 7), (6, 100), (3, 9)], Role::Client).unwrap();
        assert_eq!(settings.max_concurrent_streams, Some(9));
        assert_eq!(settings.max_header_list_size, Some(100));
    }

    #[test]
    fn extended_connect_cannot_be_taken_back() {
        assert!(apply(&[(8, 1), (8, 1)], Role::Client).unwrap().extended_connect);
        assert!(apply(&[(8, 1), (8, 0)], Role::Client).is_err());
    }

    #[test]
    fn what_we_say_is_what_a_peer_reads() {
        let config = Config { header_table_size: 100, extended_connect: true, ..Config::default() };
        let mut out = Vec::new();
        put_settings(&config, Role::Server, &mut out);
        let mut settings = PeerSettings::default();
        settings.apply(&out[FRAME_HEADER_LEN..], Role::Client).unwrap();
        let expected = PeerSettings {
            header_table_size: 100,
            max_concurrent_streams: Some(100),
            initial_window_size: 256 * 1024,
            max_frame_size: 16_384,
            max_header_list_size: Some(64 * 1024),
            extended_connect: true,
        };
        assert_eq!(settings, expected);
    }
}
