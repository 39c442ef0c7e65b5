//! Requests out of bytes: head, body, end, and the next one.
//!
//! In: chunks of a connection as they come. Out: [`RequestItem`]s, one message after the other.
//!
//! ```text
//!  ┌──────────────────────── next request ────────────────────────┐
//!  ▼                                                              │
//! Head ──head──► Body ──data…──► End ──keep-alive──► (Head) ──────┘
//!                                 ├──close─────────► Closed
//!                                 └──switch_to_tunnel()──► Tunnel ──data…──► EOF
//! any state ──error──► Failed
//! ```
//!
//! Pipelining: after `End`, `next()` goes on with the next request. A caller that has not answered
//! the last one simply does not call it, and stops reading from the socket: what is buffered stays.
//! After CONNECT and upgrades it must not call it before the answer is known, because the bytes may
//! be the tunnel's.
//!
//! Invariants: an idle decoder owns no heap memory; once failed, it repeats its error.
//!
//! Not done here: timeouts (a slow head is the caller's to end), answers.

use bytes::Bytes;

use crate::body::{BodyDecoder, BodyItem, BodyLength};
use crate::chars::is_tchar;
use crate::error::shown;
use crate::framing::request_length;
use crate::input::{Input, SearchError, Until};
use crate::method::METHOD_BYTES_MAX;
use crate::parse::{parse_request_head, parse_request_line};
use crate::{Headers, HttpError, Limits, RequestHead};

/// What a [`RequestDecoder`] gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestItem {
    /// A request begins.
    Head(Box<RequestHead>, BodyLength),
    /// Some of its body, never empty, as a slice of what was pushed; or bytes of a tunnel.
    Data(Bytes),
    /// The request is complete. Trailers, if there were any that may pass.
    End(Option<Headers>),
}

/// Reads requests from one connection.
#[derive(Debug)]
pub struct RequestDecoder {
    limits: Limits,
    input: Input,
    state: State,
    leading: Leading,
    keep_alive: bool,
    /// Whether the first line of an unfinished head was found good: once is enough, or each byte
    /// of a slow head would cost another look.
    line_checked: bool,
}

#[derive(Debug)]
enum State {
    /// Between requests, or inside a head.
    Head,
    Body(BodyDecoder),
    /// After the last request of the connection (RFC 9112 §9.6: read no further one).
    Closed,
    Tunnel,
    /// Boxed, because an error is larger than all the rest.
    Failed(Box<HttpError>),
}

/// The empty line that RFC 9112 §2.2 lets stand before a request, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leading {
    Nothing,
    Cr,
    Crlf,
}

impl RequestDecoder {
    /// A decoder for a new connection.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            input: Input::default(),
            state: State::Head,
            leading: Leading::Nothing,
            keep_alive: true,
            line_checked: false,
        }
    }

    /// Adds bytes from the socket.
    pub fn push(&mut self, bytes: Bytes) {
        self.input.push(bytes);
    }

    /// Says that no bytes will follow. What is buffered can still be read; [`next`](Self::next)
    /// fails with [`HttpError::Truncated`] where it runs out inside a message.
    pub fn finish(&mut self) {
        self.input.end();
    }

    /// The next item; `None` when more bytes are needed, or no more will come.
    ///
    /// Errors: anything wrong with the message, by [`HttpError::status`]. The connection cannot be
    /// used any further, and every later call returns the same error.
    #[allow(clippy::should_implement_trait)] // `None` is not the end; an iterator would say so.
    pub fn next(&mut self) -> Result<Option<RequestItem>, HttpError> {
        let result = match &mut self.state {
            State::Head => self.next_head(),
            State::Body(body) => match body.next(&mut self.input, &self.limits) {
                Ok(Some(BodyItem::Data(data))) => Ok(Some(RequestItem::Data(data))),
                Ok(Some(BodyItem::End(trailers))) => {
                    self.state = if self.keep_alive { State::Head } else { State::Closed };
                    self.leading = Leading::Nothing;
                    Ok(Some(RequestItem::End(trailers)))
                }
                Ok(None) => Ok(None),
                Err(error) => Err(error),
            },
            State::Closed => Ok(None),
            State::Tunnel => Ok(self.input.take_data(u64::MAX).map(RequestItem::Data)),
            State::Failed(error) => return Err(HttpError::clone(error)),
        };
        result.inspect_err(|error| self.fail(error))
    }

    /// Turns the connection into a tunnel, after the `End` of a CONNECT or upgrade request that was
    /// accepted: from now on `next()` gives every byte as `Data`.
    ///
    /// Errors: [`HttpError::Unencodable`] in the middle of a message, which changes nothing.
    pub fn switch_to_tunnel(&mut self) -> Result<(), HttpError> {
        match self.state {
            State::Head if !self.input.is_inside_piece() && self.leading != Leading::Cr => {}
            State::Closed | State::Tunnel => {}
            _ => return Err(HttpError::Unencodable { why: "tunnel in the middle of a message" }),
        }
        self.state = State::Tunnel;
        Ok(())
    }

    /// All bytes pushed and not read yet, in one piece: what follows the head after
    /// [`switch_to_tunnel`](Self::switch_to_tunnel).
    pub fn take_rest(&mut self) -> Bytes {
        self.input.take_all()
    }

    /// Whether no message is in progress and no byte is buffered: the connection may be closed
    /// without loss.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Head) && self.leading != Leading::Cr && self.input.is_empty()
    }

    /// Whether the last request of the connection has been read: `next()` gives nothing more, and
    /// reading from the socket is of no use unless a tunnel follows.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Bytes pushed and not yet given out.
    pub fn buffered(&self) -> usize {
        self.input.buffered()
    }

    fn next_head(&mut self) -> Result<Option<RequestItem>, HttpError> {
        if !self.input.is_inside_piece() && !self.skip_leading_line()? {
            return self.starved();
        }
        let limit = self.limits.head_bytes_max;
        let section = self.input.take_piece(Until::BlankLine, limit).map_err(|error| match error {
            SearchError::BareLf => HttpError::BareLf,
            SearchError::TooLong => HttpError::HeadTooLarge { limit },
        });
        let section = match section {
            Ok(Some(section)) => section,
            Ok(None) => {
                self.check_beginning()?;
                return self.starved();
            }
            Err(error) => {
                // A first line that is no request is the better explanation of what follows it.
                self.check_beginning()?;
                return Err(error);
            }
        };
        self.line_checked = false;
        let head = parse_request_head(&section, &self.limits)?;
        let length = request_length(&head)?;
        self.keep_alive = head.keep_alive();
        self.state = State::Body(BodyDecoder::new(length));
        Ok(Some(RequestItem::Head(Box::new(head), length)))
    }

    /// Skips one empty line; `true` when a request begins at the next byte.
    fn skip_leading_line(&mut self) -> Result<bool, HttpError> {
        loop {
            let Some(byte) = self.input.peek() else { return Ok(false) };
            self.leading = match (self.leading, byte) {
                (Leading::Nothing, b'\r') => Leading::Cr,
                (Leading::Cr, b'\n') => Leading::Crlf,
                (Leading::Cr, _) => return Err(HttpError::BareCr),
                // At the very first byte, so that a TLS hello or a blank is refused at once.
                (_, byte) if is_tchar(byte) => return Ok(true),
                (_, b'\n') => return Err(HttpError::BareLf),
                (_, byte) => return Err(HttpError::InvalidRequestLine { found: shown(&[byte]) }),
            };
            self.input.skip_one();
        }
    }

    /// Looks at a head that is not whole yet: what is wrong already need not be waited for.
    fn check_beginning(&mut self) -> Result<(), HttpError> {
        let limit = self.limits.target_bytes_max;
        match self.input.first_line() {
            Some(_) if self.line_checked => {}
            Some(line) => {
                parse_request_line(line, &self.limits)?;
                self.line_checked = true;
            }
            None => {
                let longest = METHOD_BYTES_MAX as usize + limit as usize + " HTTP/1.1\r\n ".len();
                if self.input.unfinished().len() > longest {
                    return Err(HttpError::TargetTooLong { limit });
                }
            }
        }
        let limit = self.limits.headers_max;
        if self.input.lines().saturating_sub(1) > limit {
            return Err(HttpError::TooManyHeaders { limit });
        }
        Ok(())
    }

    fn starved(&self) -> Result<Option<RequestItem>, HttpError> {
        let is_inside = self.input.is_inside_piece() || self.leading == Leading::Cr;
        if self.input.is_ended() && is_inside {
            return Err(HttpError::Truncated { part: "a request head" });
        }
        Ok(None)
    }

    fn fail(&mut self, error: &HttpError) {
        self.state = State::Failed(Box::new(error.clone()));
        // Nothing of it can be read any more: give the memory back now.
        self.input = Input::default();
    }
}

#[cfg(test)]
mod tests;
