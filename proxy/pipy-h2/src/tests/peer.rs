//! The other side of a connection, by hand: frames in, frames out; and two connections in memory.

use bytes::Bytes;

use crate::frame::{FRAME_HEADER_LEN, FrameHeader, Kind};
use crate::testing::frame;
use crate::{Config, Connection, ConnectionError, ErrorCode, Event, Role};

/// A frame as it came out of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    /// The 32 bits at the beginning of the payload: the code of a reset, an increment.
    pub(super) fn word(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

/// A connection in conversation with frames made by hand.
pub(super) struct Hand {
    pub(super) connection: Connection,
}

impl Hand {
    /// A server after the prefaces, with its own output fetched.
    pub(super) fn server() -> Self {
        Self::with(Config::default(), Role::Server)
    }

    pub(super) fn client() -> Self {
        Self::with(Config::default(), Role::Client)
    }

    pub(super) fn with(config: Config, role: Role) -> Self {
        let connection = match role {
            Role::Server => Connection::server(config),
            Role::Client => Connection::client(config),
        };
        let mut hand = Self { connection };
        if role == Role::Server {
            hand.send(crate::input::PREFACE).unwrap();
        }
        hand.send(&frame(4, 0, 0, &[])).unwrap();
        hand.send(&frame(4, 1, 0, &[])).unwrap();
        hand.output();
        hand
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), ConnectionError> {
        self.connection.receive(Bytes::copy_from_slice(bytes))
    }

    pub(super) fn good(&mut self, bytes: &[u8]) -> &mut Self {
        self.send(bytes).unwrap();
        self
    }

    /// A request of these fields.
    pub(super) fn request(
        &mut self,
        stream: u32,
        ends: bool,
        fields: &[(&str, &str)],
    ) -> Result<(), ConnectionError> {
        self.send(&headers(stream, ends, fields))
    }

    /// GET / on a stream; `ends` without a body.
    pub(super) fn get(&mut self, stream: u32, ends: bool) -> &mut Self {
        self.request(stream, ends, GET).unwrap();
        self
    }

    pub(super) fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.connection.next_event()).collect()
    }

    /// What the connection has written since, as frames.
    pub(super) fn output(&mut self) -> Vec<Frame> {
        let mut pieces = Vec::new();
        self.connection.poll_output(&mut pieces, usize::MAX);
        let bytes = pieces.concat();
        let bytes = bytes.strip_prefix(&crate::input::PREFACE[..]).unwrap_or(&bytes);
        frames(bytes)
    }

    /// The only RST_STREAM in the output: its stream and code.
    pub(super) fn reset(&mut self) -> Option<(u32, ErrorCode)> {
        let resets: Vec<_> =
            self.output().into_iter().filter(|frame| frame.kind == Kind::RST_STREAM).collect();
        assert!(resets.len() < 2, "{resets:?}");
        resets.first().map(|frame| (frame.stream, ErrorCode(frame.word(0))))
    }

    /// The code of the GOAWAY in the output.
    pub(super) fn goaway(&mut self) -> Option<ErrorCode> {
        let output = self.output();
        let goaway = output.iter().find(|frame| frame.kind == Kind::GOAWAY)?;
        Some(ErrorCode(goaway.word(4)))
    }
}

pub(super) const GET: &[(&str, &str)] =
    &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "shop")];

pub(super) const POST: &[(&str, &str)] =
    &[(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "shop")];

/// Cuts bytes into frames; they must end with one.
pub(super) fn frames(mut bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let header = FrameHeader::parse(bytes[..FRAME_HEADER_LEN].try_into().unwrap());
        let end = FRAME_HEADER_LEN + header.len as usize;
        let FrameHeader { kind, flags, stream, .. } = header;
        frames.push(Frame { kind, flags, stream, payload: bytes[FRAME_HEADER_LEN..end].to_vec() });
        bytes = &bytes[end..];
    }
    frames
}

/// A header block of literals that enter no table.
pub(super) fn block(fields: &[(impl AsRef<[u8]>, impl AsRef<[u8]>)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name.as_ref(), value.as_ref()] {
            match text.len() {
                len @ ..127 => block.push(len as u8),
                len => {
                    block.push(0x7f);
                    let mut rest = len - 127;
                    while rest >= 0x80 {
                        block.push(rest as u8 | 0x80);
                        rest >>= 7;
                    }
                    block.push(rest as u8);
                }
            }
            block.extend_from_slice(text);
        }
    }
    block
}

/// A whole block, in a HEADERS frame and what CONTINUATION frames it needs.
pub(super) fn headers(stream: u32, ends: bool, fields: &[(impl AsRef<[u8]>, impl AsRef<[u8]>)]) -> Vec<u8> {
    let mut out = vec![0; FRAME_HEADER_LEN];
    out.extend(block(fields));
    crate::frame::finish_headers(&mut out, 0, stream, ends, 16_384);
    out
}

pub(super) fn data(stream: u32, ends: bool, bytes: &[u8]) -> Vec<u8> {
    frame(0, u8::from(ends), stream, bytes)
}

pub(super) fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    frame(8, 0, stream, &increment.to_be_bytes())
}

pub(super) fn rst(stream: u32, code: ErrorCode) -> Vec<u8> {
    frame(3, 0, stream, &code.0.to_be_bytes())
}

pub(super) fn settings(entries: &[(u16, u32)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (name, value) in entries {
        payload.extend(name.to_be_bytes());
        payload.extend(value.to_be_bytes());
    }
    frame(4, 0, 0, &payload)
}

/// A client and a server that hear each other at once.
pub(super) struct Pair {
    pub(super) client: Connection,
    pub(super) server: Connection,
}

impl Pair {
    pub(super) fn new() -> Self {
        Self::with(Config::default(), Config::default())
    }

    pub(super) fn with(client: Config, server: Config) -> Self {
        let mut pair = Self { client: Connection::client(client), server: Connection::server(server) };
        pair.talk();
        assert!(pair.client.settings_acknowledged() && pair.server.settings_acknowledged());
        pair
    }

    /// Delivers until neither has anything to say.
    pub(super) fn talk(&mut self) {
        loop {
            let there = deliver(&mut self.client, &mut self.server);
            let back = deliver(&mut self.server, &mut self.client);
            if there + back == 0 {
                break;
            }
        }
    }

    pub(super) fn server_events(&mut self) -> Vec<Event> {
        self.talk();
        std::iter::from_fn(|| self.server.next_event()).collect()
    }

    pub(super) fn client_events(&mut self) -> Vec<Event> {
        self.talk();
        std::iter::from_fn(|| self.client.next_event()).collect()
    }
}

fn deliver(from: &mut Connection, to: &mut Connection) -> usize {
    let mut pieces = Vec::new();
    let len = from.poll_output(&mut pieces, usize::MAX);
    assert_eq!(len, pieces.iter().map(Bytes::len).sum::<usize>());
    for piece in pieces {
        to.receive(piece).unwrap();
    }
    len
}
