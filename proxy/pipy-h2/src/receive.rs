//! Frames in: each is checked against its connection and its stream, and becomes events.
//!
//! In: bytes of the peer. Out: events, and replies in the output. The order of checks is that of the
//! RFC's sections; what breaks the shared state is a [`ConnectionError`], what is wrong with one
//! message a [`StreamError`], after which its stream is gone.
//!
//! Invariant: every header block is decoded, whatever becomes of its stream: the table is shared.
//!
//! Not done here: DATA (`receive_data.rs`), HEADERS (`receive_headers.rs`), cutting bytes into frames
//! (`input.rs`).

use bytes::Bytes;

use crate::connection::{Connection, Role};
use crate::event::{Event, ResetCause, StreamId};
use crate::floods::Nuisance;
use crate::frame::{FrameHeader, Kind, flag, put_goaway, put_ping, put_reset};
use crate::input::Unit;
use crate::leaving::{LEAVING_PING, Leaving};
use crate::state::{State, Verdict};
use crate::streams::Key;
use crate::{ConnectionError, ErrorCode, StreamError};

/// A header block whose end has not come.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) stream: u32,
    pub(crate) end_stream: bool,
    pub(crate) depends_on_itself: bool,
    pub(crate) bytes: Vec<u8>,
    pub(crate) continuations: u32,
}

impl Block {
    pub(crate) fn memory(&self) -> usize {
        size_of::<Self>() + self.bytes.capacity()
    }
}

/// What is known of a stream that a frame names.
pub(crate) enum Named {
    Live(Key),
    /// Frames on it are expected, and ignored.
    Late,
    Closed,
    Idle,
}

impl Connection {
    /// Takes bytes of the peer. Every whole frame in them is handled.
    ///
    /// Errors: the connection cannot go on. A GOAWAY waits in the output, every stream has got its
    /// [`Event::Reset`], and every later call gives the same error.
    pub fn receive(&mut self, mut bytes: Bytes) -> Result<(), ConnectionError> {
        if let Some(error) = &self.failed {
            return Err(ConnectionError::clone(error));
        }
        let result = self.receive_all(&mut bytes);
        if let Err(error) = &result {
            let why = error.to_string();
            // Named for the peer's log; it is our own text, though it may hold the peer's numbers.
            put_goaway(self.last_peer_id, error.code(), why.as_bytes(), &mut self.out);
            self.end(error.clone());
        }
        result
    }

    fn receive_all(&mut self, bytes: &mut Bytes) -> Result<(), ConnectionError> {
        let frame_max = self.config.max_frame_size;
        while let Some(unit) = self.input.next(bytes, frame_max)? {
            match unit {
                Unit::Data(data) => self.on_data(data),
                Unit::DataEnd => self.on_data_end()?,
                Unit::DataBegin(header, content) => {
                    self.check_order(&header)?;
                    let before = self.out.len();
                    self.on_data_begin(header, content)?;
                    self.count_replies(before)?;
                }
                Unit::Frame(header, payload) => {
                    self.check_order(&header)?;
                    let before = self.out.len();
                    self.on_frame(header, &payload)?;
                    self.count_replies(before)?;
                }
            }
        }
        Ok(())
    }

    /// Counts what a frame has made us write, which is all that is in the output after `before`.
    fn count_replies(&mut self, before: usize) -> Result<(), ConnectionError> {
        self.reply_bytes = self.reply_bytes.saturating_add(self.out.len().saturating_sub(before) as u32);
        let limit = self.config.limits.reply_bytes_max;
        if self.reply_bytes > limit {
            return Err(ConnectionError::RepliesUnread { limit });
        }
        Ok(())
    }

    /// §3.4: SETTINGS first. §6.10: nothing within a header block.
    fn check_order(&mut self, header: &FrameHeader) -> Result<(), ConnectionError> {
        if !self.peer_settings_seen {
            if header.kind != Kind::SETTINGS || header.has(flag::ACK) {
                return Err(ConnectionError::NoSettings { found: header.kind });
            }
        } else if let Some(block) = &self.block {
            if header.kind != Kind::CONTINUATION || header.stream != block.stream {
                return Err(ConnectionError::ContinuationExpected {
                    stream: block.stream,
                    found: header.kind,
                });
            }
        }
        Ok(())
    }

    pub(crate) fn spend(&mut self, nuisance: Nuisance) -> Result<(), ConnectionError> {
        self.floods.spend(nuisance).map_err(ConnectionError::Flood)
    }

    fn on_frame(&mut self, header: FrameHeader, payload: &Bytes) -> Result<(), ConnectionError> {
        let kind = header.kind;
        let expected = match kind {
            Kind::HEADERS | Kind::PRIORITY | Kind::RST_STREAM | Kind::CONTINUATION if header.stream == 0 => {
                "a stream"
            }
            Kind::SETTINGS | Kind::PING | Kind::GOAWAY if header.stream != 0 => "stream 0",
            _ => "",
        };
        if !expected.is_empty() {
            return Err(ConnectionError::WrongStream { kind, stream: header.stream, expected });
        }
        match kind {
            Kind::HEADERS => self.on_headers(header, payload),
            Kind::CONTINUATION => self.on_continuation(header, payload),
            Kind::PRIORITY => self.on_priority(header, payload),
            Kind::RST_STREAM => self.on_reset(header, payload),
            Kind::SETTINGS => self.on_settings(header, payload),
            Kind::PING => self.on_ping(header, payload),
            Kind::GOAWAY => self.on_goaway(header, payload),
            Kind::WINDOW_UPDATE => self.on_window_update(header, payload),
            Kind::PUSH_PROMISE => Err(ConnectionError::PushPromise),
            _ => self.spend(Nuisance::Ignored),
        }
    }

    /// What is known of a stream (§5.1, §5.1.1).
    pub(crate) fn name(&self, id: u32) -> Named {
        if let Some(key) = self.streams.find(id) {
            return Named::Live(key);
        }
        // Ours are odd if we are the client.
        let is_ours = (id % 2 == 1) == (self.role == Role::Client);
        let is_idle = if is_ours {
            self.role == Role::Server || id >= self.next_local_id
        } else {
            self.role == Role::Client || id > self.last_peer_id
        };
        match self.leaving {
            _ if is_idle => Named::Idle,
            // §6.8: streams above the last one are not looked at.
            Leaving::Last(last) if !is_ours && id > last => Named::Late,
            _ if self.streams.was_reset_early(id) => Named::Late,
            _ => Named::Closed,
        }
    }

    /// The stream of a frame other than HEADERS, if the frame is to be handled.
    pub(crate) fn expect_stream(&mut self, header: &FrameHeader) -> Result<Option<Key>, ConnectionError> {
        let FrameHeader { kind, stream, .. } = *header;
        let (key, state) = match self.name(stream) {
            Named::Live(key) => {
                (Some(key), self.streams.get(key).map_or(State::Closed, |stream| stream.state))
            }
            Named::Late => return Ok(None),
            Named::Closed => (None, State::Closed),
            Named::Idle => (None, State::Idle),
        };
        match state.on_receive(kind) {
            Verdict::Accept => Ok(key),
            Verdict::Ignore => Ok(None),
            Verdict::StreamError => {
                self.stream_error(stream, StreamError::Closed { kind })?;
                Ok(None)
            }
            Verdict::ConnectionError => Err(ConnectionError::UnexpectedFrame { kind, stream, state }),
        }
    }

    /// Resets a stream for a fault of the peer, live or not.
    pub(crate) fn stream_error(&mut self, id: u32, error: StreamError) -> Result<(), ConnectionError> {
        self.spend(Nuisance::StreamErrors)?;
        let code = error.code();
        match self.streams.find(id) {
            Some(key) => {
                self.close_stream(key, Some(code));
                let (stream, error) = (StreamId(id), Box::new(error));
                // A request that the caller has not seen yet need not be shown to it at all.
                let event = match self.drop_unseen(id) {
                    true => Event::Refused { stream, error },
                    false => Event::Reset { stream, code, cause: ResetCause::Error(error) },
                };
                self.events.push_back(event);
            }
            None => put_reset(id, code, &mut self.out),
        }
        Ok(())
    }

    // The small frames (§6.3 to §6.9).

    fn on_priority(&mut self, header: FrameHeader, payload: &Bytes) -> Result<(), ConnectionError> {
        self.spend(Nuisance::Priorities)?;
        let FrameHeader { len, kind, stream, .. } = header;
        let fault = match dependency(payload) {
            _ if len != 5 => StreamError::PrioritySize { len },
            Some(other) if other == stream => StreamError::SelfDependency,
            _ => return Ok(()),
        };
        // A RST_STREAM on an idle stream would be an error of ours.
        match (self.name(stream), fault) {
            (Named::Idle, StreamError::PrioritySize { .. }) => {
                Err(ConnectionError::FrameSize { kind, len, expected: "5" })
            }
            (Named::Idle, _) => {
                let expected = "another stream to depend on";
                Err(ConnectionError::WrongStream { kind, stream, expected })
            }
            (_, fault) => self.stream_error(stream, fault),
        }
    }

    fn on_reset(&mut self, header: FrameHeader, payload: &Bytes) -> Result<(), ConnectionError> {
        self.spend(Nuisance::Resets)?;
        let code = ErrorCode(u32::from_be_bytes(fixed(&header, payload, "4")?));
        let Some(key) = self.expect_stream(&header)? else { return Ok(()) };
        // A request that is taken back before the caller saw it costs it nothing.
        let unseen = self.drop_unseen(header.stream);
        self.close_stream(key, None);
        if !unseen {
            let stream = StreamId(header.stream);
            self.events.push_back(Event::Reset { stream, code, cause: ResetCause::Peer });
        }
        Ok(())
    }

    fn drop_unseen(&mut self, id: u32) -> bool {
        let is_unseen =
            self.events.iter().any(|event| matches!(event, Event::Request { stream, .. } if stream.0 == id));
        is_unseen && self.drop_events(id)
    }

    fn on_settings(&mut self, header: FrameHeader, payload: &Bytes) -> Result<(), ConnectionError> {
        let FrameHeader { len, kind, .. } = header;
        if header.has(flag::ACK) {
            if len != 0 {
                return Err(ConnectionError::FrameSize { kind, len, expected: "0" });
            }
            return self.on_settings_ack();
        }
        if len % 6 != 0 {
            return Err(ConnectionError::FrameSize { kind, len, expected: "a multiple of 6" });
        }
        if self.peer_settings_seen {
            self.spend(Nuisance::Settings)?;
        }
        self.peer_settings_seen = true;
        let window_before = self.peer.initial_window_size;
        self.peer.apply(payload, self.role)?;
        self.encoder.set_peer_max(self.peer.header_table_size);
        let change = i64::from(self.peer.initial_window_size) - i64::from(window_before);
        if change != 0 {
            self.change_send_windows(change)?;
        }
        FrameHeader { len: 0, kind: Kind::SETTINGS, flags: flag::ACK, stream: 0 }.write(&mut self.out);
        Ok(())
    }

    /// §6.9.2: it concerns all streams, and may make their windows negative.
    fn change_send_windows(&mut self, change: i64) -> Result<(), ConnectionError> {
        for (key, stream) in self.streams.iter_mut() {
            stream
                .send
                .window
                .change(change)
                .map_err(|_| ConnectionError::WindowOverflow { what: "a stream, by a change of settings" })?;
            let opened = stream.send.window.available() > 0 && stream.send.has_work();
            if opened && !std::mem::replace(&mut stream.send.is_ready, true) {
                self.ready.push_back(key);
            }
        }
        Ok(())
    }

    fn on_settings_ack(&mut self) -> Result<(), ConnectionError> {
        self.settings_unacked =
            self.settings_unacked.checked_sub(1).ok_or(ConnectionError::UnexpectedSettingsAck)?;
        // From now on the peer sends by our settings.
        let change = i64::from(self.config.stream_window) - i64::from(self.recv_initial);
        if change != 0 {
            self.recv_initial = self.config.stream_window;
            for (_, stream) in self.streams.iter_mut() {
                stream.recv.window.change(change);
            }
        }
        self.decoder.set_allowed(self.config.header_table_size);
        Ok(())
    }

    fn on_ping(&mut self, header: FrameHeader, payload: &Bytes) -> Result<(), ConnectionError> {
        let payload: [u8; 8] = fixed(&header, payload, "8")?;
        if !header.has(flag::ACK) {
            self.spend(Nuisance::Pings)?;
            put_ping(flag::ACK, payload, &mut self.out);
            return Ok(());
        }
        let Some(unanswered) = self.pings_unanswered.checked_sub(1) else {
            return self.spend(Nuisance::Pings);
        };
        self.pings_unanswered = unanswered;
        if payload == LEAVING_PING && self.leaving == Leaving::Announced {
            self.leave_now();
        } else {
            self.events.push_back(Event::Pong { payload });
        }
        Ok(())
    }

    fn on_goaway(&mut self, header: FrameHeader, payload: &Bytes) -> Result<(), ConnectionError> {
        self.spend(Nuisance::Ignored)?;
        let FrameHeader { len, kind, .. } = header;
        let Some((&[l0, l1, l2, l3, c0, c1, c2, c3], debug)) = payload.split_first_chunk::<8>() else {
            return Err(ConnectionError::FrameSize { kind, len, expected: "8 or more" });
        };
        let last_stream = u32::from_be_bytes([l0 & 0x7f, l1, l2, l3]);
        let code = ErrorCode(u32::from_be_bytes([c0, c1, c2, c3]));
        if let Some(before) = self.peer_goaway.filter(|&before| before < last_stream) {
            return Err(ConnectionError::GoAwayRaised { before, after: last_stream });
        }
        self.peer_goaway = Some(last_stream);
        // Copied, because a slice would keep the whole read buffer.
        let debug = Bytes::copy_from_slice(debug.get(..debug.len().min(DEBUG_BYTES_MAX)).unwrap_or_default());
        self.events.push_back(Event::GoAway { last_stream, code, debug });
        if self.role == Role::Client {
            let unseen: Vec<u32> = self.streams.ids().filter(|&id| id > last_stream).collect();
            for id in unseen {
                if let Some(key) = self.streams.find(id) {
                    self.close_stream(key, None);
                    let (stream, code) = (StreamId(id), ErrorCode::REFUSED_STREAM);
                    self.events.push_back(Event::Reset { stream, code, cause: ResetCause::GoAway });
                }
            }
        }
        Ok(())
    }

    fn on_window_update(&mut self, header: FrameHeader, payload: &Bytes) -> Result<(), ConnectionError> {
        self.spend(Nuisance::WindowUpdates)?;
        let increment = u32::from_be_bytes(fixed(&header, payload, "4")?) & (u32::MAX >> 1);
        if header.stream == 0 {
            if increment == 0 {
                return Err(ConnectionError::ZeroIncrement);
            }
            let overflow = |_| ConnectionError::WindowOverflow { what: "the connection" };
            return self.send_window.open(increment).map_err(overflow);
        }
        let Some(key) = self.expect_stream(&header)? else { return Ok(()) };
        if increment == 0 {
            return self.stream_error(header.stream, StreamError::ZeroIncrement);
        }
        let Some(stream) = self.streams.get_mut(key) else { return Ok(()) };
        if stream.send.window.open(increment).is_err() {
            return self.stream_error(header.stream, StreamError::WindowOverflow);
        }
        if stream.send.has_work() && !std::mem::replace(&mut stream.send.is_ready, true) {
            self.ready.push_back(key);
        }
        Ok(())
    }
}

/// The stream that a priority depends on (§5.3.2 of RFC 7540).
pub(crate) fn dependency(payload: &[u8]) -> Option<u32> {
    let &[d0, d1, d2, d3] = payload.first_chunk::<4>()?;
    Some(u32::from_be_bytes([d0 & 0x7f, d1, d2, d3]))
}

fn fixed<const N: usize>(
    header: &FrameHeader,
    payload: &Bytes,
    expected: &'static str,
) -> Result<[u8; N], ConnectionError> {
    let FrameHeader { kind, len, .. } = *header;
    payload.as_ref().try_into().map_err(|_| ConnectionError::FrameSize { kind, len, expected })
}

/// LIMIT: of the peer's words in a GOAWAY; more than a log line is not of use.
const DEBUG_BYTES_MAX: usize = 256;
