//! WebSockets (RFC 6455) for administration: one thread reads and writes a connection, by turns.
//!
//! In: a stream whose reads time out. Out: messages. INVARIANT: a message is bounded, pings are answered, and what is no frame ends
//! the connection. Not here: extensions, and sub-protocols.

use std::io::{Error, ErrorKind, Read, Result, Write};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

/// LIMIT: bytes of a message.
const MESSAGE_MAX: usize = 2 << 20;

/// Which side this is: a client hides what it sends behind a mask (§5.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// What has come.
#[derive(Debug, PartialEq, Eq)]
pub enum Message {
    /// Text.
    Text(String),
    /// Bytes.
    Binary(Vec<u8>),
}

/// A connection after its handshake.
pub struct Socket<'s> {
    stream: Box<dyn Stream + 's>,
    side: Side,
    /// What was read and not taken yet.
    buffer: Vec<u8>,
    /// The parts of a message so far, and whether it is text.
    partial: Option<(bool, Vec<u8>)>,
}

/// What carries it.
pub(crate) trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

struct Frame {
    last: bool,
    code: u8,
    payload: Vec<u8>,
}

fn bad(why: &str) -> Error {
    Error::new(ErrorKind::InvalidData, why)
}

/// The first frame of a buffer, and its length; `None` while some is missing.
fn frame(buffer: &[u8], side: Side) -> Result<Option<(Frame, usize)>> {
    let [first, second, rest @ ..] = buffer else { return Ok(None) };
    if first & 0x70 != 0 {
        return Err(bad("reserved bits are set"));
    }
    let masked = second & 0x80 != 0;
    if masked != (side == Side::Server) {
        return Err(bad("clients mask what they send, servers do not"));
    }
    let (length, rest) = match second & 0x7f {
        126 => match rest {
            [a, b, rest @ ..] => (usize::from(u16::from_be_bytes([*a, *b])), rest),
            _ => return Ok(None),
        },
        127 => match rest.split_first_chunk::<8>() {
            Some((bytes, rest)) => (usize::try_from(u64::from_be_bytes(*bytes)).unwrap_or(usize::MAX), rest),
            None => return Ok(None),
        },
        short => (usize::from(short), rest),
    };
    let code = first & 0x0f;
    if length > MESSAGE_MAX || (code >= CLOSE && (length > 125 || first & 0x80 == 0)) {
        return Err(bad("a frame is too long"));
    }
    let (mask, rest) = match masked {
        false => ([0; 4], rest),
        true => match rest.split_first_chunk::<4>() {
            Some((mask, rest)) => (*mask, rest),
            None => return Ok(None),
        },
    };
    let Some(payload) = rest.get(..length) else { return Ok(None) };
    let payload = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    let used = buffer.len() - rest.len() + length;
    Ok(Some((Frame { last: first & 0x80 != 0, code, payload }, used)))
}

impl<'s> Socket<'s> {
    /// `read` is what the handshake has read too much.
    pub(crate) fn new(stream: Box<dyn Stream + 's>, side: Side, read: Vec<u8>) -> Self {
        Socket { stream, side, buffer: read, partial: None }
    }

    /// The next message; `None` where none has come until the stream's reads time out. An error is the end.
    ///
    /// # Errors
    /// When the peer has closed, the connection breaks, or what comes is no frame.
    pub fn read(&mut self) -> Result<Option<Message>> {
        loop {
            while let Some((frame, used)) = frame(&self.buffer, self.side)? {
                self.buffer.drain(..used);
                if let Some(message) = self.take(frame)? {
                    return Ok(Some(message));
                }
            }
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.buffer.extend_from_slice(chunk.get(..count).unwrap_or_default()),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Ok(None);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn take(&mut self, frame: Frame) -> Result<Option<Message>> {
        let (text, mut payload) = match (frame.code, self.partial.take()) {
            (PING, partial) => {
                self.partial = partial;
                self.send(PONG, &frame.payload)?;
                return Ok(None);
            }
            (PONG, partial) => {
                self.partial = partial;
                return Ok(None);
            }
            (CLOSE, _) => {
                // Its reason goes back (§5.5.1); whether that arrives matters to nobody.
                let _ = self.send(CLOSE, frame.payload.get(..2).unwrap_or_default());
                return Err(ErrorKind::ConnectionAborted.into());
            }
            (CONTINUATION, Some((text, so_far))) => (text, so_far),
            (TEXT | BINARY, None) => (frame.code == TEXT, Vec::new()),
            _ => return Err(bad("a frame of a kind that cannot be here")),
        };
        payload.extend(frame.payload);
        if payload.len() > MESSAGE_MAX {
            return Err(bad("a message is too long"));
        }
        if !frame.last {
            self.partial = Some((text, payload));
            return Ok(None);
        }
        if !text {
            return Ok(Some(Message::Binary(payload)));
        }
        let text = String::from_utf8(payload).map_err(|_| bad("a text is not UTF-8"))?;
        Ok(Some(Message::Text(text)))
    }

    /// Sends text.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn text(&mut self, text: &str) -> Result<()> {
        self.send(TEXT, text.as_bytes())
    }

    /// Sends bytes, in pieces where they are many.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn binary(&mut self, bytes: &[u8]) -> Result<()> {
        self.send(BINARY, bytes)
    }

    /// Asks whether the peer is there: it answers, or the connection breaks sooner or later.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn ping(&mut self) -> Result<()> {
        self.send(PING, b"")
    }

    fn send(&mut self, code: u8, payload: &[u8]) -> Result<()> {
        let mut out = vec![0x80 | code];
        let masked = if self.side == Side::Client { 0x80 } else { 0 };
        match payload.len() {
            short @ 0..=125 => out.push(masked | u8::try_from(short).unwrap_or_default()),
            medium @ 126..=0xffff => {
                out.push(masked | 126);
                out.extend(u16::try_from(medium).unwrap_or_default().to_be_bytes());
            }
            long => {
                out.push(masked | 127);
                out.extend((long as u64).to_be_bytes());
            }
        }
        if self.side == Side::Client {
            let mut mask = [0; 4];
            aws_lc_rs::rand::fill(&mut mask).map_err(|_| Error::other("no randomness"))?;
            out.extend(mask);
            out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        } else {
            out.extend(payload);
        }
        self.stream.write_all(&out)?;
        self.stream.flush()
    }
}

/// What a server answers to a client's key (§4.2.2).
pub(crate) fn accept(key: &str) -> String {
    let text = format!("{}258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key.trim());
    base64(digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()).as_ref())
}

/// A key for a client's handshake.
pub(crate) fn key() -> Result<String> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Error::other("no randomness"))?;
    Ok(base64(&bytes))
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let bits =
            chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * place)) as usize & 63];
            out.push(if place <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn keys_are_answered_as_the_standard_says() {
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(base64(b"a"), "YQ==");
        assert_eq!(base64(b"abc"), "YWJj");
    }

    /// What a side sends for this.
    fn sent(side: Side, what: impl Fn(&mut Socket<'_>)) -> Vec<u8> {
        let mut out = Cursor::new(Vec::new());
        what(&mut Socket::new(Box::new(&mut out), side, Vec::new()));
        out.into_inner()
    }

    /// A stream that gives so many bytes at a time.
    struct Slow(Vec<u8>, usize);

    impl Read for Slow {
        fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
            let count = self.0.len().min(self.1).min(buffer.len());
            buffer[..count].copy_from_slice(&self.0.drain(..count).collect::<Vec<u8>>());
            Ok(count)
        }
    }

    impl Write for Slow {
        fn write(&mut self, buffer: &[u8]) -> Result<usize> {
            Ok(buffer.len())
        }
        fn flush(&mut self) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn messages_are_read_whole_byte_by_byte_and_with_more_behind() {
        for (from, to) in [(Side::Client, Side::Server), (Side::Server, Side::Client)] {
            let long = "x".repeat(70_000);
            let bytes = sent(from, |socket| {
                socket.text("hello").unwrap();
                socket.ping().unwrap();
                socket.binary(&[7; 300]).unwrap();
                socket.text(&long).unwrap();
            });
            for at_a_time in [1, 3, usize::MAX] {
                let mut socket = Socket::new(Box::new(Slow(bytes.clone(), at_a_time)), to, Vec::new());
                assert_eq!(socket.read().unwrap(), Some(Message::Text("hello".into())));
                assert_eq!(socket.read().unwrap(), Some(Message::Binary(vec![7; 300])));
                assert_eq!(socket.read().unwrap(), Some(Message::Text(long.clone())));
                assert!(socket.read().is_err(), "that was all");
            }
        }
    }

    #[test]
    fn parts_are_one_message_and_what_is_no_frame_ends_it() {
        let read =
            |bytes: &[u8]| Socket::new(Box::new(Slow(bytes.to_vec(), 9)), Side::Client, Vec::new()).read();
        assert_eq!(read(b"\x01\x02ab\x89\x00\x80\x01c").unwrap(), Some(Message::Text("abc".into())));
        for bad in [
            &b"\x81\x81aaaaa"[..],
            b"\xf1\x01a",
            b"\x80\x01a",
            b"\x01\x01a\x81\x01b",
            b"\x09\x00",
            b"\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x81\x01\xff",
            b"\x88\x00",
            b"\x83\x00",
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }
}
