//! DATA in (RFC 9113 §6.1): windows, lengths, and slices for the caller.
//!
//! In: the beginning of a frame, pieces of its content, its end. Out: `Data` and `End` events.
//!
//! Invariants: every byte counts against the windows, padding and what nobody wants included (§6.9.1),
//! and is given back in the end: what the caller gets by the caller, all else here; no `Data` goes
//! beyond a `content-length`.
//!
//! Not done here: taking padding off (`input.rs`).

use bytes::Bytes;
use pipy_http::{Headers, HttpError};

use crate::connection::Connection;
use crate::event::{Event, StreamId};
use crate::floods::Nuisance;
use crate::frame::{FrameHeader, Kind, flag};
use crate::state::{Change, State};
use crate::stream::Phase;
use crate::streams::Key;
use crate::{ConnectionError, ErrorCode, StreamError};

/// The DATA frame that is being received.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DataFrame {
    stream: u32,
    ends: bool,
}

impl Connection {
    pub(crate) fn on_data_begin(&mut self, header: FrameHeader, content: u32) -> Result<(), ConnectionError> {
        let FrameHeader { len, stream: id, .. } = header;
        self.data = DataFrame::default();
        if id == 0 {
            let expected = "a stream";
            return Err(ConnectionError::WrongStream { kind: Kind::DATA, stream: 0, expected });
        }
        // §6.9.1: padding counts, and so does what nobody will look at.
        self.recv_window.receive(len).map_err(|excess| ConnectionError::WindowExceeded { excess })?;
        let ends = header.has(flag::END_STREAM);
        if content == 0 && !ends {
            self.spend(Nuisance::EmptyFrames)?;
        }
        self.release_connection(len - content);
        let Some(key) = self.expect_stream(&header)? else { return Ok(()) };
        let Some(stream) = self.streams.get_mut(key) else { return Ok(()) };
        let fault = match stream.recv.window.receive(len) {
            Err(excess) => Some(StreamError::WindowExceeded { excess }),
            Ok(()) => match (stream.recv.phase, stream.recv.left) {
                (Phase::Head, _) => Some(StreamError::DataBeforeHead),
                (Phase::NoBody, _) if content > 0 => {
                    Some(HttpError::UnexpectedBody { what: "a response without content" }.into())
                }
                (_, Some(left)) if u64::from(content) > left => {
                    Some(StreamError::ContentLength { got: "longer than" })
                }
                _ => None,
            },
        };
        if let Some(fault) = fault {
            return self.stream_error(id, fault);
        }
        stream.recv.window.release(len - content);
        self.update_stream_window(key);
        self.data = DataFrame { stream: id, ends };
        if content > 0 {
            self.floods.data_moved();
        }
        Ok(())
    }

    pub(crate) fn on_data(&mut self, data: Bytes) {
        // The stream may have gone since its frame began.
        match self.streams.by_id(self.data.stream) {
            Some((_, stream)) => {
                if let Some(left) = &mut stream.recv.left {
                    *left = left.saturating_sub(data.len() as u64);
                }
                self.events.push_back(Event::Data { stream: StreamId(stream.id), data });
            }
            None => self.release_connection(data.len() as u32),
        }
    }

    pub(crate) fn on_data_end(&mut self) -> Result<(), ConnectionError> {
        let DataFrame { stream, ends } = std::mem::take(&mut self.data);
        match self.streams.find(stream) {
            Some(key) if ends => self.end_of_stream(key, None),
            _ => Ok(()),
        }
    }

    /// The peer has ended its side.
    pub(crate) fn end_of_stream(
        &mut self,
        key: Key,
        trailers: Option<Box<Headers>>,
    ) -> Result<(), ConnectionError> {
        let Some(stream) = self.streams.get_mut(key) else { return Ok(()) };
        let id = stream.id;
        if let Some(1..) = stream.recv.left {
            return self.stream_error(id, StreamError::ContentLength { got: "shorter than" });
        }
        if stream.recv.phase == Phase::Head {
            return self.stream_error(id, StreamError::DataBeforeHead);
        }
        stream.state = stream.state.after(Change::ReceiveEnd);
        self.events.push_back(Event::End { stream: StreamId(id), trailers });
        self.close_if_ended(key);
        Ok(())
    }

    /// Takes a stream out that both sides have ended, or that only the peer would go on with.
    pub(crate) fn close_if_ended(&mut self, key: Key) {
        let Some(stream) = self.streams.get(key) else { return };
        let tell = match stream.state {
            State::Closed => None,
            // §8.1: it may stop without an error after a complete response.
            State::HalfClosedLocal if stream.is_abandoned => Some(ErrorCode::NO_ERROR),
            _ => return,
        };
        self.floods.stream_served();
        self.close_stream(key, tell);
    }
}
