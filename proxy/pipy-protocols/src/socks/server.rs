//! The side that is asked.
//!
//! ```text
//!   version 4 ──────────────────────────────────► Request ──► accept · refuse
//!   version 5 ── methods ──┬── password ── check ──► request ──► Request ──► …
//!                          └── none ───────────────► request ──► Request ──► …
//! ```

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::{BufMut, Bytes, BytesMut};

use super::{Host, NAME_BYTES_MAX, PROTOCOL, Refusal, Request, get_host, host_size, put_host};
use crate::Error;
use crate::input::{Cursor, Input};

/// What a server is to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum ServerStep {
    /// Wait for more.
    Wait,
    /// Send this, and go on with [`Server::go_on`].
    Send(Bytes),
    /// Say by [`Server::authenticated`] whether these are good.
    Check {
        /// The user's name.
        user: String,
        /// The password.
        password: Bytes,
    },
    /// Say by [`Server::accept`] or [`Server::refuse`] whether that may be.
    Request(Request),
    /// Send this, and close: the client asks for what there is not.
    Fail(Bytes, Error),
}

#[derive(Debug, PartialEq)]
enum State {
    Start,
    Password,
    Request5,
    Deciding,
    Done,
}

/// The server's side of one handshake.
#[derive(Debug)]
pub struct Server {
    input: Input,
    state: State,
    passwords: bool,
    version: u8,
    id: String,
}

impl Server {
    /// A server that asks for no password.
    #[must_use]
    pub fn new() -> Self {
        Self { input: Input::new(), state: State::Start, passwords: false, version: 0, id: String::new() }
    }

    /// A server that serves only who gives a password; so nobody who speaks SOCKS 4.
    #[must_use]
    pub fn with_passwords() -> Self {
        Self { passwords: true, ..Self::new() }
    }

    /// Takes what the client sent.
    ///
    /// # Errors
    ///
    /// When that is not SOCKS.
    pub fn push(&mut self, data: Bytes) -> Result<ServerStep, Error> {
        self.input.push(data);
        self.go_on()
    }

    /// What to do next with what has arrived.
    ///
    /// # Errors
    ///
    /// When that is not SOCKS.
    pub fn go_on(&mut self) -> Result<ServerStep, Error> {
        match (&self.state, self.input.peek().first().copied()) {
            (State::Deciding | State::Done, _) | (_, None) => Ok(ServerStep::Wait),
            (State::Start, Some(4)) => self.request_4(),
            (State::Start, Some(5)) => Ok(self.methods()),
            (State::Start, Some(version)) => Err(self.malformed(format!("version {version}"))),
            (State::Password, Some(_)) => self.password(),
            (State::Request5, Some(_)) => self.request_5(),
        }
    }

    /// Whether the password was right; what to send comes out.
    pub fn authenticated(&mut self, good: bool) -> Bytes {
        self.state = if good { State::Request5 } else { State::Done };
        Bytes::from_static(if good { &[1, 0] } else { &[1, 1] })
    }

    /// The tunnel stands, and leaves from `bound`; what to send comes out.
    pub fn accept(&mut self, bound: SocketAddr) -> Bytes {
        self.answer(0, bound)
    }

    /// There will be no tunnel; what to send comes out.
    pub fn refuse(&mut self, why: Refusal) -> Bytes {
        self.answer(why as u8, SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))
    }

    /// What the client sent after its request: the tunnel's first bytes.
    pub fn rest(&mut self) -> Bytes {
        self.input.take(usize::MAX)
    }

    fn answer(&mut self, code: u8, bound: SocketAddr) -> Bytes {
        self.state = State::Done;
        let mut output = BytesMut::with_capacity(22);
        if self.version == 4 {
            output.put_slice(&[0, if code == 0 { 90 } else { 91 }]);
            output.put_u16(bound.port());
            match bound.ip() {
                IpAddr::V4(ip) => output.put_slice(&ip.octets()),
                IpAddr::V6(_) => output.put_u32(0),
            }
        } else {
            output.put_slice(&[5, code, 0]);
            // An address always fits.
            let _ = put_host(&mut output, &Host::Ip(bound.ip()), bound.port());
        }
        output.freeze()
    }

    fn malformed(&self, reason: impl Into<std::borrow::Cow<'static, str>>) -> Error {
        Error::malformed(PROTOCOL, self.input.position(), reason)
    }

    fn fail(
        &mut self,
        answer: &'static [u8],
        reason: impl Into<std::borrow::Cow<'static, str>>,
    ) -> ServerStep {
        self.state = State::Done;
        ServerStep::Fail(Bytes::from_static(answer), self.malformed(reason))
    }

    fn request_4(&mut self) -> Result<ServerStep, Error> {
        const REFUSED: &[u8] = &[0, 91, 0, 0, 0, 0, 0, 0];
        let bytes = self.input.peek();
        let [_, command, p0, p1, a, b, c, d, rest @ ..] = bytes else { return Ok(ServerStep::Wait) };
        let (command, port, ip) = (*command, u16::from_be_bytes([*p0, *p1]), Ipv4Addr::new(*a, *b, *c, *d));
        // 4a: an address that cannot be says that a name comes after the user's.
        let has_name = ip.octets().starts_with(&[0, 0, 0]) && *d != 0;
        let mut texts = Vec::new();
        let mut size = 8;
        for text in rest.split_inclusive(|byte| *byte == 0).take(if has_name { 2 } else { 1 }) {
            if text.len() > NAME_BYTES_MAX + 1 {
                return Err(self.malformed("a name of more than 255 bytes"));
            }
            let Some(text) = text.strip_suffix(&[0]) else { return Ok(ServerStep::Wait) };
            size += text.len() + 1;
            texts.push(String::from_utf8(text.to_vec()).map_err(|_| self.malformed("a name is not UTF-8"))?);
        }
        if texts.len() < if has_name { 2 } else { 1 } {
            return Ok(ServerStep::Wait);
        }
        let host = match (has_name, texts.pop().filter(|_| has_name)) {
            (true, Some(name))
                if name.is_empty() || name.bytes().any(|byte| byte <= b' ' || byte == 0x7f) =>
            {
                return Err(self.malformed(format!("{name:?} is no name of a host")));
            }
            (true, Some(name)) => Host::Domain(name),
            _ => Host::Ip(ip.into()),
        };
        let id = if has_name { texts.pop() } else { None };
        let id = id.unwrap_or_else(|| {
            let user = bytes.get(8..size - 1).unwrap_or_default();
            String::from_utf8_lossy(user).into_owned()
        });
        self.input.skip(size);
        self.version = 4;
        if command != 1 {
            return Ok(self.fail(REFUSED, format!("command {command}, only CONNECT is served")));
        }
        if self.passwords {
            return Ok(self.fail(REFUSED, "version 4 has no passwords"));
        }
        self.state = State::Deciding;
        Ok(ServerStep::Request(Request { version: 4, id, host, port }))
    }

    fn methods(&mut self) -> ServerStep {
        let bytes = self.input.peek();
        let Some(count) = bytes.get(1).map(|count| usize::from(*count)) else { return ServerStep::Wait };
        let wanted = if self.passwords { 2 } else { 0 };
        let Some(methods) = bytes.get(2..2 + count) else { return ServerStep::Wait };
        let offered = methods.contains(&wanted);
        self.input.skip(2 + count);
        self.version = 5;
        if !offered {
            return self.fail(&[5, 0xff], "the client offers no method that is served");
        }
        self.state = if self.passwords { State::Password } else { State::Request5 };
        ServerStep::Send(Bytes::from_static(if self.passwords { &[5, 2] } else { &[5, 0] }))
    }

    /// RFC 1929.
    fn password(&mut self) -> Result<ServerStep, Error> {
        let bytes = self.input.peek();
        if bytes.first() != Some(&1) {
            return Err(self.malformed("a password of unknown version"));
        }
        let Some(user) = bytes.get(1).map(|length| usize::from(*length)) else { return Ok(ServerStep::Wait) };
        let Some(password) = bytes.get(2 + user).map(|length| usize::from(*length)) else {
            return Ok(ServerStep::Wait);
        };
        let size = 3 + user + password;
        if bytes.len() < size {
            return Ok(ServerStep::Wait);
        }
        let start = self.input.position();
        let mut cursor = Cursor::new(PROTOCOL, self.input.take(size), start);
        cursor.take(2, "a password")?;
        let user = cursor.text(user, "a user's name")?;
        cursor.u8("a password")?;
        let password = cursor.take(password, "a password")?;
        self.id.clone_from(&user);
        self.state = State::Deciding;
        Ok(ServerStep::Check { user, password })
    }

    fn request_5(&mut self) -> Result<ServerStep, Error> {
        let bytes = self.input.peek();
        let Some(size) = host_size(bytes.get(3..).unwrap_or_default()) else { return Ok(ServerStep::Wait) };
        if bytes.len() < 3 + size {
            return Ok(ServerStep::Wait);
        }
        let start = self.input.position();
        let mut cursor = Cursor::new(PROTOCOL, self.input.take(3 + size), start);
        let version = cursor.u8("the version")?;
        let command = cursor.u8("a command")?;
        if version != 5 || cursor.u8("a reserved byte")? != 0 {
            return Err(cursor.malformed("a request does not start with 5"));
        }
        if !matches!(cursor.peek(), Some(1 | 3 | 4)) {
            return Ok(self.fail(&[5, 8, 0, 1, 0, 0, 0, 0, 0, 0], "an address of unknown kind"));
        }
        let (host, port) = get_host(&mut cursor)?;
        if command != 1 {
            return Ok(self.fail(
                &[5, 7, 0, 1, 0, 0, 0, 0, 0, 0],
                format!("command {command}, only CONNECT is served"),
            ));
        }
        self.state = State::Deciding;
        Ok(ServerStep::Request(Request { version: 5, id: self.id.clone(), host, port }))
    }
}

impl Default for Server {
    fn default() -> Self {
        Self::new()
    }
}
