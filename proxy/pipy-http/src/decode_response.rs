//! Responses out of bytes, each framed by the request it answers.
//!
//! In: chunks of a connection as they come, and for each request sent on it its method
//! ([`ResponseDecoder::expect`]), in order. Out: [`ResponseItem`]s.
//!
//! ```text
//!  ┌─────────────────────── next response ───────────────────────────┐
//!  ▼                                                                 │
//! Head ──1xx──► Head       Head ──final──► Body ──data…──► End ──────┤
//!                                                           ├─close──► Closed
//!                          Head ──101, 2xx to CONNECT──► End ──► Tunnel ──data…──► EOF
//! any state ──error──► Failed
//! ```
//!
//! Invariants: no response without an expectation; a body until close ends only by
//! [`finish`](ResponseDecoder::finish); every error is a [`HttpError::BadResponse`]; an idle decoder
//! owns no heap memory.
//!
//! Not done here: pairing with the request itself, timeouts, what to answer downstream.

use bytes::Bytes;
use smallvec::SmallVec;

use crate::body::{BodyDecoder, BodyItem, BodyLength};
use crate::framing::{RequestKind, response_length};
use crate::input::{Input, SearchError, Until};
use crate::parse::{parse_response_head, parse_status_line};
use crate::{Headers, HttpError, Limits, Method, ResponseHead};

/// What a [`ResponseDecoder`] gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResponseItem {
    /// A 1xx response; the final one follows.
    Interim(Box<ResponseHead>),
    /// The final response begins.
    Head(Box<ResponseHead>, BodyLength),
    /// Some of its body, never empty, as a slice of what was pushed; or bytes of a tunnel.
    Data(Bytes),
    /// The response is complete. Trailers, if there were any that may pass.
    End(Option<Headers>),
}

/// Reads responses from one connection.
#[derive(Debug)]
pub struct ResponseDecoder {
    limits: Limits,
    input: Input,
    state: State,
    /// Requests without a final response, oldest first. Up to 8 take no heap: a proxy rarely
    /// pipelines at all.
    expected: SmallVec<[Expected; 8]>,
    interim_seen: u32,
    after: After,
    /// Whether the first line of an unfinished head was found good: once is enough, or each byte
    /// of a slow head would cost another look.
    line_checked: bool,
}

#[derive(Clone, Copy, Debug)]
struct Expected {
    kind: RequestKind,
    upgrade: bool,
}

#[derive(Debug)]
enum State {
    Head,
    Body(BodyDecoder),
    Closed,
    Tunnel,
    /// Boxed, because an error is larger than all the rest.
    Failed(Box<HttpError>),
}

/// What follows the end of the response being read.
#[derive(Clone, Copy, Debug)]
enum After {
    Head,
    Closed,
    Tunnel,
}

impl ResponseDecoder {
    /// A decoder for a new connection.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            input: Input::default(),
            state: State::Head,
            expected: SmallVec::new(),
            interim_seen: 0,
            after: After::Head,
            line_checked: false,
        }
    }

    /// Announces the response to a request that is being sent. A `101` to it is an error.
    pub fn expect(&mut self, method: &Method) {
        self.expected.push(Expected { kind: RequestKind::of(method), upgrade: false });
    }

    /// Announces the response to a request that asks for an upgrade: `101` makes a tunnel.
    pub fn expect_upgrade(&mut self, method: &Method) {
        self.expected.push(Expected { kind: RequestKind::of(method), upgrade: true });
    }

    /// Requests whose final response has not begun.
    pub fn outstanding(&self) -> usize {
        self.expected.len()
    }

    /// Adds bytes from the socket.
    pub fn push(&mut self, bytes: Bytes) {
        self.input.push(bytes);
    }

    /// Says that no bytes will follow. What is buffered can still be read; then a body until close
    /// ends, and any other unfinished response is [`HttpError::Truncated`]. So is an expected one
    /// of which nothing came.
    pub fn finish(&mut self) {
        self.input.end();
    }

    /// The next item; `None` when more bytes are needed, or no more will come.
    ///
    /// Errors: [`HttpError::BadResponse`] with what was wrong. The connection cannot be used any
    /// further, and every later call returns the same error.
    #[allow(clippy::should_implement_trait)] // `None` is not the end; an iterator would say so.
    pub fn next(&mut self) -> Result<Option<ResponseItem>, HttpError> {
        let result = match &mut self.state {
            State::Head => self.next_head(),
            State::Body(body) => match body.next(&mut self.input, &self.limits) {
                Ok(Some(BodyItem::Data(data))) => Ok(Some(ResponseItem::Data(data))),
                Ok(Some(BodyItem::End(trailers))) => {
                    self.state = match self.after {
                        After::Head => State::Head,
                        After::Closed => State::Closed,
                        After::Tunnel => State::Tunnel,
                    };
                    Ok(Some(ResponseItem::End(trailers)))
                }
                Ok(None) => Ok(None),
                Err(error) => Err(error),
            },
            State::Closed => Ok(None),
            State::Tunnel => Ok(self.input.take_data(u64::MAX).map(ResponseItem::Data)),
            State::Failed(error) => return Err(HttpError::clone(error)),
        };
        result.map_err(|error| {
            let error = HttpError::BadResponse(Box::new(error));
            self.state = State::Failed(Box::new(error.clone()));
            self.input = Input::default();
            error
        })
    }

    /// Whether the connection has become a tunnel: `next()` gives every byte as `Data`.
    pub fn is_tunnel(&self) -> bool {
        matches!(self.state, State::Tunnel)
    }

    /// All bytes pushed and not read yet, in one piece: what follows the head of a 101 or of a 2xx
    /// to CONNECT.
    pub fn take_rest(&mut self) -> Bytes {
        self.input.take_all()
    }

    /// Whether no response is in progress or expected and no byte is buffered: the connection may
    /// go to a pool.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Head) && self.expected.is_empty() && self.input.is_empty()
    }

    /// Whether the server has said, or the framing means, that this connection carries no further
    /// response.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Bytes pushed and not yet given out.
    pub fn buffered(&self) -> usize {
        self.input.buffered()
    }

    fn next_head(&mut self) -> Result<Option<ResponseItem>, HttpError> {
        let Some(&expected) = self.expected.first() else {
            // RFC 9112 §9.2: what comes unasked answers nothing, and must not answer the next.
            return if self.input.is_empty() { Ok(None) } else { Err(HttpError::UnsolicitedResponse) };
        };
        let limit = self.limits.head_bytes_max;
        let section = self.input.take_piece(Until::BlankLine, limit);
        let Ok(Some(section)) = section else {
            self.check_beginning()?;
            return match section {
                Err(SearchError::BareLf) => Err(HttpError::BareLf),
                Err(SearchError::TooLong) => Err(HttpError::HeadTooLarge { limit }),
                Ok(_) if self.input.is_ended() => Err(HttpError::Truncated { part: "a response head" }),
                Ok(_) => Ok(None),
            };
        };
        self.line_checked = false;
        let head = parse_response_head(&section, &self.limits)?;
        let length = response_length(&head, expected.kind)?;
        if head.is_interim() {
            self.interim_seen += 1;
            if self.interim_seen > self.limits.interim_max {
                return Err(HttpError::TooManyInterim { limit: self.limits.interim_max });
            }
            return Ok(Some(ResponseItem::Interim(Box::new(head))));
        }
        if head.status == 101 && !expected.upgrade {
            return Err(HttpError::UnexpectedUpgrade);
        }
        let connected = expected.kind == RequestKind::Connect && (200..300).contains(&head.status);
        self.after = if head.status == 101 || connected {
            After::Tunnel
        } else if head.keep_alive() && length != BodyLength::UntilClose {
            After::Head
        } else {
            After::Closed
        };
        self.expected.remove(0);
        self.interim_seen = 0;
        self.state = State::Body(BodyDecoder::new(length));
        Ok(Some(ResponseItem::Head(Box::new(head), length)))
    }

    /// Looks at a head that is not whole yet: a peer that does not speak HTTP is told so at its
    /// first line.
    fn check_beginning(&mut self) -> Result<(), HttpError> {
        if let Some(line) = self.input.first_line().filter(|_| !self.line_checked) {
            parse_status_line(line)?;
            self.line_checked = true;
        }
        let beginning = self.input.unfinished();
        if !beginning.iter().zip(b"HTTP/1.").all(|(found, expected)| found == expected) {
            parse_status_line(beginning)?;
        }
        let limit = self.limits.headers_max;
        if self.input.lines().saturating_sub(1) > limit {
            return Err(HttpError::TooManyHeaders { limit });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
