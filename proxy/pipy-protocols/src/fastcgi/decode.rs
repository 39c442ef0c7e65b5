//! From records to requests and responses.

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};

use super::encode::{pairs, record};
use super::{
    ABORT_REQUEST, BEGIN_REQUEST, DATA, END_REQUEST, GET_VALUES, GET_VALUES_RESULT, HEADER_BYTES, PARAMS,
    PARAMS_BYTES_MAX, PROTOCOL, REQUESTS_MAX, STDERR, STDERR_BYTES_MAX, STDIN, STDOUT, UNKNOWN_TYPE,
};
use crate::input::{Cursor, Input};
use crate::{Error, Event, Object, Value};

/// What came, and for which request.
#[derive(Debug, PartialEq)]
pub enum Item {
    /// A piece of a request or response.
    Event(u16, Event),
    /// The web server no longer wants an answer to this request.
    Abort(u16),
    /// To be sent back as it is: an answer about the connection itself.
    Reply(Bytes),
}

/// The records of a stream.
#[derive(Debug, Default)]
struct Records {
    input: Input,
}

struct Record {
    kind: u8,
    id: u16,
    content: Bytes,
    position: u64,
}

impl Records {
    fn next(&mut self) -> Result<Option<Record>, Error> {
        let Some(&[version, kind, i0, i1, l0, l1, padding, _]) =
            self.input.peek().first_chunk::<HEADER_BYTES>()
        else {
            return Ok(None);
        };
        let position = self.input.position();
        if version != 1 {
            return Err(Error::malformed(PROTOCOL, position, format!("a record of version {version}")));
        }
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        if self.input.len() < HEADER_BYTES + length + usize::from(padding) {
            return Ok(None);
        }
        self.input.skip(HEADER_BYTES);
        let content = self.input.take(length);
        self.input.skip(usize::from(padding));
        Ok(Some(Record { kind, id: u16::from_be_bytes([i0, i1]), content, position }))
    }

    fn finish(&self, is_idle: bool) -> Result<(), Error> {
        if self.input.is_empty() && is_idle {
            return Ok(());
        }
        let position = self.input.position() + self.input.len() as u64;
        Err(Error::Truncated { protocol: PROTOCOL, position })
    }
}

#[derive(Debug)]
struct Request {
    role: u16,
    keep_alive: bool,
    /// Parameters so far; `None` when they are complete.
    params: Option<BytesMut>,
    /// Whether its body has ended; it stays known until it is answered.
    ended: bool,
}

/// Reads requests: the application's side.
#[derive(Debug, Default)]
pub struct Requests {
    records: Records,
    open: HashMap<u16, Request>,
}

impl Requests {
    /// A decoder of a web server's records.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes what the web server sent.
    ///
    /// # Errors
    ///
    /// When that is malformed or exceeds a limit.
    pub fn push(&mut self, data: Bytes, items: &mut Vec<Item>) -> Result<(), Error> {
        self.records.input.push(data);
        while let Some(record) = self.records.next()? {
            self.record(record, items)?;
        }
        Ok(())
    }

    /// The request was answered: its id may be used anew.
    pub fn done(&mut self, id: u16) {
        self.open.remove(&id);
    }

    /// Takes the end of the stream.
    ///
    /// # Errors
    ///
    /// When it ended within a request.
    pub fn finish(&mut self) -> Result<(), Error> {
        self.records.finish(self.open.values().all(|request| request.ended))
    }

    fn record(&mut self, record: Record, items: &mut Vec<Item>) -> Result<(), Error> {
        let Record { kind, id, content, position } = record;
        let malformed = |reason: String| Err(Error::malformed(PROTOCOL, position, reason));
        let too_large =
            |what, max: usize| Err(Error::TooLarge { protocol: PROTOCOL, position, what, max: max as u64 });
        match (kind, id, self.open.get_mut(&id)) {
            (GET_VALUES, 0, _) => items.push(Item::Reply(values(&content, position)?)),
            // FastCGI 1.0 §4.2.
            (kind, 0, _) => items.push(Item::Reply(record_of_unknown(kind))),
            (BEGIN_REQUEST, _, None) => {
                let Some(&[r0, r1, flags, ..]) = content.first_chunk::<8>() else {
                    return malformed(format!("a BEGIN_REQUEST of {} bytes", content.len()));
                };
                if self.open.len() >= REQUESTS_MAX {
                    return too_large("requests at a time", REQUESTS_MAX);
                }
                let role = u16::from_be_bytes([r0, r1]);
                let params = Some(BytesMut::new());
                self.open.insert(id, Request { role, keep_alive: flags & 1 != 0, params, ended: false });
            }
            (BEGIN_REQUEST, _, Some(_)) => return malformed(format!("request {id} begins twice")),
            (ABORT_REQUEST, _, Some(_)) => {
                self.open.remove(&id);
                items.push(Item::Abort(id));
            }
            (PARAMS, _, Some(Request { params: Some(params), role, keep_alive, .. })) => {
                if params.len() + content.len() > PARAMS_BYTES_MAX {
                    return too_large("parameters in bytes", PARAMS_BYTES_MAX);
                }
                params.extend_from_slice(&content);
                if content.is_empty() {
                    let head = Object::new()
                        .with("role", *role)
                        .with("keepAlive", *keep_alive)
                        .with("params", params_of(params.split().freeze(), position)?);
                    items.push(Item::Event(id, Event::Start(head.into())));
                    if let Some(request) = self.open.get_mut(&id) {
                        request.params = None;
                    }
                }
            }
            (STDIN, _, Some(request @ Request { params: None, ended: false, .. })) => {
                if content.is_empty() {
                    request.ended = true;
                    items.push(Item::Event(id, Event::END));
                } else {
                    items.push(Item::Event(id, Event::Data(content)));
                }
            }
            // §3.3: records of requests that are no more, or whose second stream nobody reads.
            (ABORT_REQUEST | PARAMS | STDIN, _, None) | (DATA, ..) => {}
            (kind, ..) => return malformed(format!("a record of type {kind}, out of place")),
        }
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Response {
    started: bool,
    stderr: BytesMut,
}

/// Reads responses: the web server's side.
#[derive(Debug, Default)]
pub struct Responses {
    records: Records,
    open: HashMap<u16, Response>,
}

impl Responses {
    /// A decoder of an application's records.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A request was sent, so a response may come.
    pub fn expect(&mut self, id: u16) {
        self.open.insert(id, Response::default());
    }

    /// Takes what the application sent.
    ///
    /// # Errors
    ///
    /// When that is malformed.
    pub fn push(&mut self, data: Bytes, items: &mut Vec<Item>) -> Result<(), Error> {
        self.records.input.push(data);
        while let Some(record) = self.records.next()? {
            self.record(record, items)?;
        }
        Ok(())
    }

    /// Takes the end of the stream.
    ///
    /// # Errors
    ///
    /// When a response is not complete.
    pub fn finish(&mut self) -> Result<(), Error> {
        self.records.finish(self.open.is_empty())
    }

    fn record(&mut self, record: Record, items: &mut Vec<Item>) -> Result<(), Error> {
        let Record { kind, id, content, position } = record;
        if matches!(kind, GET_VALUES_RESULT | UNKNOWN_TYPE) && id == 0 {
            return Ok(());
        }
        let Some(response) = self.open.get_mut(&id) else {
            return Err(Error::malformed(
                PROTOCOL,
                position,
                format!("a response to {id}, which was not asked"),
            ));
        };
        match kind {
            STDOUT | END_REQUEST if !response.started => {
                response.started = true;
                items.push(Item::Event(id, Event::Start(Object::new().into())));
            }
            _ => {}
        }
        match kind {
            STDOUT if content.is_empty() => {}
            STDOUT => items.push(Item::Event(id, Event::Data(content))),
            STDERR => {
                let room = STDERR_BYTES_MAX - response.stderr.len();
                response.stderr.extend_from_slice(content.get(..room.min(content.len())).unwrap_or_default());
            }
            END_REQUEST => {
                let Some(&[a, b, c, d, status, ..]) = content.first_chunk::<8>() else {
                    let reason = format!("an END_REQUEST of {} bytes", content.len());
                    return Err(Error::malformed(PROTOCOL, position, reason));
                };
                let tail = Object::new()
                    .with("appStatus", u32::from_be_bytes([a, b, c, d]))
                    .with("protocolStatus", status)
                    .with("stderr", response.stderr.split().freeze());
                self.open.remove(&id);
                items.push(Item::Event(id, Event::End { tail: Some(tail.into()), payload: None }));
            }
            kind => {
                return Err(Error::malformed(
                    PROTOCOL,
                    position,
                    format!("a record of type {kind}, out of place"),
                ));
            }
        }
        Ok(())
    }
}

/// Names and values (§3.4), lengths first.
fn read_pairs(bytes: Bytes, position: u64) -> Result<Vec<(String, Bytes)>, Error> {
    let mut cursor = Cursor::new(PROTOCOL, bytes, position + HEADER_BYTES as u64);
    let mut pairs = Vec::new();
    while !cursor.is_empty() {
        let mut length = || -> Result<usize, Error> {
            match cursor.peek() {
                Some(0x80..) => Ok((cursor.u32("a length")? & 0x7fff_ffff) as usize),
                _ => Ok(usize::from(cursor.u8("a length")?)),
            }
        };
        let (name, value) = (length()?, length()?);
        pairs.push((cursor.text(name, "a name")?, cursor.take(value, "a value")?));
    }
    Ok(pairs)
}

fn params_of(bytes: Bytes, position: u64) -> Result<Object, Error> {
    let pairs = read_pairs(bytes, position)?;
    Ok(Object::from_pairs(
        pairs.into_iter().map(|(name, value)| (name, Value::text_or_bytes(value))).collect(),
    ))
}

/// What a server may ask before it sends requests (§4.1).
fn values(content: &Bytes, position: u64) -> Result<Bytes, Error> {
    let mut known = Object::new();
    for (name, _) in read_pairs(content.clone(), position)? {
        match name.as_str() {
            "FCGI_MAX_CONNS" | "FCGI_MAX_REQS" => known.set(name, REQUESTS_MAX.to_string()),
            "FCGI_MPXS_CONNS" => known.set(name, "1"),
            _ => {}
        }
    }
    let mut output = Vec::new();
    record(&mut output, GET_VALUES_RESULT, 0, pairs(&known)?);
    Ok(output.concat().into())
}

fn record_of_unknown(kind: u8) -> Bytes {
    let mut output = Vec::new();
    record(&mut output, UNKNOWN_TYPE, 0, Bytes::copy_from_slice(&[kind, 0, 0, 0, 0, 0, 0, 0]));
    output.concat().into()
}
