//! The side that asks, in SOCKS 5.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Host, PROTOCOL, get_host, host_size, put_host};
use crate::Error;
use crate::input::{Cursor, Input};

/// What a client is to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum ClientStep {
    /// Wait for more.
    Wait,
    /// Send this.
    Send(Bytes),
    /// The tunnel stands; [`Client::rest`] are its first bytes.
    Connected,
}

#[derive(Debug)]
enum State {
    Method,
    Password,
    Reply,
    Connected,
}

/// The client's side of one handshake.
#[derive(Debug)]
pub struct Client {
    input: Input,
    state: State,
    request: Bytes,
    password: Option<Bytes>,
}

impl Client {
    /// A client that wants to go to `host`, with what to send first.
    ///
    /// # Errors
    ///
    /// When a name, user or password does not fit: all have at most 255 bytes.
    pub fn new(host: &Host, port: u16, credentials: Option<(&str, &str)>) -> Result<(Self, Bytes), Error> {
        let mut request = BytesMut::from(&[5, 1, 0][..]);
        put_host(&mut request, host, port)?;
        let password = credentials.map(|(user, password)| {
            let mut bytes = BytesMut::from(&[1][..]);
            for text in [user, password] {
                let length = u8::try_from(text.len())
                    .map_err(|_| Error::unencodable(PROTOCOL, "a user or password of more than 255 bytes"))?;
                bytes.put_u8(length);
                bytes.put_slice(text.as_bytes());
            }
            Ok(bytes.freeze())
        });
        let password = password.transpose()?;
        let hello = Bytes::from_static(if password.is_some() { &[5, 2, 0, 2] } else { &[5, 1, 0] });
        let client = Self { input: Input::new(), state: State::Method, request: request.freeze(), password };
        Ok((client, hello))
    }

    /// Takes what the server sent.
    ///
    /// # Errors
    ///
    /// When the server refuses, or does not speak SOCKS 5.
    pub fn push(&mut self, data: Bytes) -> Result<ClientStep, Error> {
        self.input.push(data);
        let malformed = |input: &Input, reason: String| Error::malformed(PROTOCOL, input.position(), reason);
        match (&self.state, self.input.peek()) {
            (State::Connected, _) => Ok(ClientStep::Connected),
            (State::Method, [5, 0, ..]) => {
                self.input.skip(2);
                self.state = State::Reply;
                Ok(ClientStep::Send(self.request.clone()))
            }
            (State::Method, [5, 2, ..]) if self.password.is_some() => {
                self.input.skip(2);
                self.state = State::Password;
                Ok(ClientStep::Send(self.password.take().unwrap_or_default()))
            }
            (State::Method, [5, method, ..]) => Err(malformed(
                &self.input,
                format!("the server wants method {method}, which was not offered"),
            )),
            (State::Password, [_, 0, ..]) => {
                self.input.skip(2);
                self.state = State::Reply;
                Ok(ClientStep::Send(self.request.clone()))
            }
            (State::Password, [_, _, ..]) => Err(malformed(&self.input, "the password is refused".into())),
            (State::Method | State::Reply, [first, ..]) if *first != 5 => {
                Err(malformed(&self.input, format!("an answer of version {first}")))
            }
            (State::Reply, [_, 0, _, rest @ ..]) => {
                let Some(size) = host_size(rest).filter(|size| rest.len() >= *size) else {
                    return Ok(ClientStep::Wait);
                };
                let start = self.input.position();
                let mut cursor = Cursor::new(PROTOCOL, self.input.take(3 + size), start);
                cursor.take(3, "an answer")?;
                get_host(&mut cursor)?;
                self.state = State::Connected;
                Ok(ClientStep::Connected)
            }
            (State::Reply, [_, code, ..]) if *code != 0 => {
                Err(malformed(&self.input, format!("the server refuses: {}", reason(*code))))
            }
            _ => Ok(ClientStep::Wait),
        }
    }

    /// What the server sent after its answer: the tunnel's first bytes.
    pub fn rest(&mut self) -> Bytes {
        self.input.take(usize::MAX)
    }
}

const fn reason(code: u8) -> &'static str {
    match code {
        2 => "not allowed",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "time to live expired",
        7 => "command not supported",
        8 => "kind of address not supported",
        _ => "general failure",
    }
}
