//! One HTTP/2 connection, without IO.
//!
//! In: bytes of the peer ([`Connection::receive`]), what the caller sends. Out: [`Event`]s, and bytes
//! for the peer ([`Connection::poll_output`]). The work is in `receive.rs` (frames in), `send.rs`
//! (messages out), `output.rs` (who may send how much, in turn) and `leaving.rs` (how it ends).
//!
//! Invariants:
//! - The caller may call anything at any time; what is out of order is an error, never a panic.
//! - Memory is bounded by [`Config`]: bodies received by the windows, bodies sent by the queues,
//!   heads by their limits and the number of streams, replies by
//!   [`Limits::reply_bytes_max`](crate::Limits::reply_bytes_max).
//! - After a failure there is one GOAWAY to write, and nothing else happens any more.
//!
//! Not done here: timeouts (a peer that keeps its window shut, an idle connection, an
//! acknowledgement that never comes), and the clock, of which [`Connection::tick`] is told.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::config::WINDOW_DEFAULT;
use crate::event::{Event, StreamId};
use crate::floods::Floods;
use crate::flow::{RecvWindow, SendWindow};
use crate::frame::{put_reset, put_window_update};
use crate::hpack::{Decoder, Encoder};
use crate::input::{Input, PREFACE};
use crate::leaving::Leaving;
use crate::receive::Block;
use crate::receive_data::DataFrame;
use crate::settings::put_settings;
use crate::streams::{Key, Streams};
use crate::{Config, ConnectionError, ErrorCode, PeerSettings};

/// Which side of the connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// It sends requests.
    Client,
    /// It answers them.
    Server,
}

/// One connection. See the [crate documentation](crate) for an example.
#[derive(Debug)]
pub struct Connection {
    pub(crate) role: Role,
    pub(crate) config: Config,
    pub(crate) input: Input,
    /// A header block whose end has not come.
    pub(crate) block: Option<Box<Block>>,
    /// The DATA frame that is being received.
    pub(crate) data: DataFrame,
    pub(crate) decoder: Decoder,
    pub(crate) encoder: Encoder,
    pub(crate) streams: Streams,
    pub(crate) events: VecDeque<Event>,
    /// Frames to be written before any DATA.
    pub(crate) out: Vec<u8>,
    /// Bytes that were gathered in `out` the last time.
    pub(crate) out_expected: usize,
    /// How many bytes of `out` nobody asked for but the peer.
    pub(crate) reply_bytes: u32,
    /// Streams that can send, in turn.
    pub(crate) ready: VecDeque<Key>,
    pub(crate) recv_window: RecvWindow,
    pub(crate) send_window: SendWindow,
    pub(crate) peer: PeerSettings,
    pub(crate) peer_settings_seen: bool,
    /// Our SETTINGS that wait for their acknowledgement.
    pub(crate) settings_unacked: u8,
    /// The window that streams of the peer begin with; ours only once it has acknowledged that.
    pub(crate) recv_initial: u32,
    pub(crate) floods: Floods,
    pub(crate) pings_unanswered: u32,
    pub(crate) next_local_id: u32,
    /// The highest stream that the peer has opened.
    pub(crate) last_peer_id: u32,
    pub(crate) leaving: Leaving,
    /// The last stream that the peer's GOAWAY lets us have.
    pub(crate) peer_goaway: Option<u32>,
    pub(crate) failed: Option<Box<ConnectionError>>,
}

impl Connection {
    /// The server's side of a new connection, ALPN `h2` or prior knowledge.
    pub fn server(config: Config) -> Self {
        Self::new(config, Role::Server)
    }

    /// The client's side of a new connection.
    pub fn client(config: Config) -> Self {
        Self::new(config, Role::Client)
    }

    fn new(config: Config, role: Role) -> Self {
        let config = config.within_protocol();
        let mut out = Vec::with_capacity(128);
        if role == Role::Client {
            out.extend_from_slice(PREFACE);
        }
        put_settings(&config, role, &mut out);
        let more = config.connection_window - WINDOW_DEFAULT;
        if more > 0 {
            put_window_update(0, more, &mut out);
        }
        Self {
            role,
            input: Input::new(role == Role::Server),
            block: None,
            data: DataFrame::default(),
            // §6.5.2: a smaller table holds once the peer has acknowledged it.
            decoder: Decoder::new(config.header_table_size.max(4096)),
            encoder: Encoder::new(config.header_table_size),
            streams: Streams::default(),
            events: VecDeque::new(),
            out,
            out_expected: 0,
            reply_bytes: 0,
            ready: VecDeque::new(),
            recv_window: RecvWindow::new(config.connection_window),
            send_window: SendWindow::new(WINDOW_DEFAULT),
            peer: PeerSettings::default(),
            peer_settings_seen: false,
            settings_unacked: 1,
            recv_initial: config.stream_window.max(WINDOW_DEFAULT),
            floods: Floods::new(),
            pings_unanswered: 0,
            next_local_id: 1,
            last_peer_id: 0,
            leaving: Leaving::No,
            peer_goaway: None,
            failed: None,
            config,
        }
    }

    /// The next event, in the order in which things happened.
    pub fn next_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        if self.events.is_empty() && self.events.capacity() > EVENTS_KEPT {
            self.events = VecDeque::new();
        }
        event
    }

    /// Says that `bytes` of the `Data` of a stream have been passed on, so that the peer may send as
    /// many more. To be called for every byte in the end, also when the stream has gone since.
    pub fn release(&mut self, stream: StreamId, bytes: usize) {
        if self.failed.is_some() {
            return;
        }
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        if let Some((key, stream)) = self.streams.by_id(stream.0) {
            stream.recv.window.release(bytes);
            self.update_stream_window(key);
        }
        self.release_connection(bytes);
    }

    pub(crate) fn release_connection(&mut self, bytes: u32) {
        self.recv_window.release(bytes);
        if let Some(increment) = self.recv_window.take_update(self.config.connection_window) {
            put_window_update(0, increment, &mut self.out);
        }
    }

    pub(crate) fn update_stream_window(&mut self, key: Key) {
        let size = self.recv_initial;
        let Some(stream) = self.streams.get_mut(key) else { return };
        // After the end of the stream nobody needs its window.
        if stream.state.may_receive() {
            if let Some(increment) = stream.recv.window.take_update(size) {
                put_window_update(stream.id, increment, &mut self.out);
            }
        }
    }

    /// Resets a stream. Its events that were not fetched yet are dropped; no `Reset` follows.
    ///
    /// `NO_ERROR` after a whole response asks the client to stop sending its request (RFC 9113 §8.1).
    pub fn reset(&mut self, stream: StreamId, code: ErrorCode) {
        let Some(key) = self.streams.find(stream.0) else { return };
        self.drop_events(stream.0);
        self.close_stream(key, Some(code));
    }

    /// Says that nobody wants the rest of the peer's message: as soon as our own has gone out whole, the stream is reset
    /// with `NO_ERROR`. Events of the stream that were not fetched yet, and later ones, still come until then.
    pub fn abandon(&mut self, stream: StreamId) {
        let Some((key, stream)) = self.streams.by_id(stream.0) else { return };
        stream.is_abandoned = true;
        self.close_if_ended(key);
    }

    /// Takes a stream out, telling the peer if there is a code to tell.
    pub(crate) fn close_stream(&mut self, key: Key, tell: Option<ErrorCode>) {
        let Some(stream) = self.streams.get(key) else { return };
        let (id, reset_early) = (stream.id, tell.is_some() && stream.state.may_receive());
        if let Some(code) = tell {
            put_reset(id, code, &mut self.out);
        }
        self.streams.remove(key, reset_early);
    }

    /// Drops the queued events of a stream, giving back what they hold; `true` if the beginning of a
    /// request was among them, so that the caller has never seen the stream.
    pub(crate) fn drop_events(&mut self, id: u32) -> bool {
        let (mut held, mut unseen) = (0, false);
        self.events.retain(|event| {
            let is_of_it = event.stream() == Some(StreamId(id));
            match event {
                Event::Data { data, .. } if is_of_it => held += data.len() as u32,
                Event::Request { .. } if is_of_it => unseen = true,
                _ => {}
            }
            !is_of_it
        });
        if held > 0 {
            self.release_connection(held);
        }
        unseen
    }

    /// Says that about a second has passed: what a peer may send too much of comes back. Needed
    /// only while there is traffic.
    pub fn tick(&mut self) {
        self.floods.tick();
    }

    /// Why the connection has failed, if it has.
    pub fn error(&self) -> Option<&ConnectionError> {
        self.failed.as_deref()
    }

    /// Whether reading from the socket is of use. Not while replies pile up that the peer does not
    /// read, nor after a failure.
    pub fn wants_more_input(&self) -> bool {
        self.failed.is_none() && self.reply_bytes < self.config.limits.reply_bytes_max / 2
    }

    /// Whether there are no streams and no header block is under way: nothing is lost by closing.
    pub fn is_idle(&self) -> bool {
        self.streams.is_empty() && self.block.is_none() && self.input.unfinished().is_none()
    }

    /// Whether a head, a control frame or the preface has begun and not ended: what takes an honest peer no time. Bodies
    /// do not count.
    pub fn is_reading_head(&self) -> bool {
        self.block.is_some() || !self.peer_settings_seen || self.input.in_small_frame()
    }

    /// Live streams.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// How many more streams this client may open now.
    pub fn available_streams(&self) -> usize {
        if self.failed.is_some() || self.leaving != Leaving::No || self.peer_goaway.is_some() {
            return 0;
        }
        let ids = ((u32::MAX >> 1).saturating_sub(self.next_local_id) / 2) as usize;
        (self.streams_max() as usize).saturating_sub(self.streams.len()).min(ids)
    }

    /// What the peer has set, or the protocol's defaults while it has not
    /// ([`has_peer_settings`](Self::has_peer_settings)).
    pub fn peer_settings(&self) -> &PeerSettings {
        &self.peer
    }

    /// Whether the peer's SETTINGS have come: only then is it known to speak HTTP/2.
    pub fn has_peer_settings(&self) -> bool {
        self.peer_settings_seen
    }

    /// Whether the peer has acknowledged our SETTINGS; a caller may set a time for it (RFC 9113 §6.5.3).
    pub fn settings_acknowledged(&self) -> bool {
        self.settings_unacked == 0
    }

    /// Bytes of body that were received and not released.
    pub fn unreleased(&self) -> usize {
        self.recv_window.held() as usize
    }

    /// Bytes of memory that this connection holds besides the bodies that pass.
    pub fn memory(&self) -> usize {
        size_of::<Self>()
            + self.decoder.heap_bytes()
            + self.encoder.heap_bytes()
            + self.streams.heap_bytes()
            + self.input.heap_bytes()
            + self.events.capacity() * size_of::<Event>()
            + self.out.capacity()
            + self.ready.capacity() * size_of::<Key>()
            + self.block.as_ref().map_or(0, |block| block.memory())
    }

    /// Appends what is to be written to the socket, up to about `bytes_max` bytes: what is handed out
    /// cannot be reordered any more, so a caller asks for what the socket takes. Gives the number of
    /// bytes appended.
    pub fn poll_output(&mut self, out: &mut Vec<Bytes>, bytes_max: usize) -> usize {
        self.write_output(out, bytes_max)
    }
}

/// LIMIT: places for events that an idle connection keeps.
const EVENTS_KEPT: usize = 8;
