//! Messages out: what the caller sends becomes header blocks at once, and data in queues.
//!
//! In: heads, slices of body, ends. Out: frames in the output buffer (HEADERS), and streams that wait
//! for their turn (DATA and trailers, `output.rs`).
//!
//! Invariants: an error changes nothing; a counted body has exactly the bytes announced, or is an
//! error. Dropped without an error is what nobody waits for: what follows a message without content,
//! as in the HTTP/1 encoder, and all that is sent on a stream which has ended or was reset since.
//! Events queue, so a caller may answer a request whose `Reset` it has yet to fetch.
//!
//! Not done here: windows, resets.

use bytes::Bytes;
use pipy_http::{BodyLength, Headers, HttpError, RequestHead, ResponseHead};

use crate::connection::{Connection, Role};
use crate::event::StreamId;
use crate::frame::{FRAME_HEADER_LEN, finish_headers};
use crate::head_out::{RequestLine, announced_length, encode_response, list_size, request_list_size};
use crate::leaving::Leaving;
use crate::receive::Named;
use crate::state::Change;
use crate::stream::{Ending, Phase, RequestKind, Stream};
use crate::streams::Key;
use crate::{Scheme, SendError};

/// Whether the caller may go on giving data of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a caller that does not wait fills the memory"]
pub enum Pressure {
    /// There is room.
    GoOn,
    /// The peer takes less than it is given: wait for [`Event::Writable`](crate::Event::Writable).
    Wait,
}

/// The head of a response as it goes on the wire.
pub(crate) struct Reply<'a> {
    pub(crate) head: &'a ResponseHead,
    pub(crate) status: u16,
    pub(crate) length: Option<u64>,
    pub(crate) ends: bool,
}

impl Connection {
    /// Sends a request, as a client. `body` says what follows: with `None` and `Length(0)` that is
    /// nothing, and the request has ended, unless it is a CONNECT or an upgrade.
    ///
    /// A request that [`is_upgrade`](RequestHead::is_upgrade) goes out as extended CONNECT (RFC 8441);
    /// for a WebSocket its key is left out.
    ///
    /// Errors: any [`SendError`] about opening streams; [`SendError::Message`] for a head without host
    /// or with a target that HTTP/2 cannot say, and for a body until close.
    pub fn send_request(
        &mut self,
        head: &RequestHead,
        scheme: Scheme,
        body: BodyLength,
    ) -> Result<StreamId, SendError> {
        self.check_may_open()?;
        let line = RequestLine::new(head, scheme)?;
        if body == BodyLength::UntilClose {
            return Err(HttpError::Unencodable { why: "a request body until close" }.into());
        }
        if matches!(line.kind, RequestKind::Upgrade(_)) && !self.peer.extended_connect {
            return Err(SendError::ExtendedConnectDisabled);
        }
        if let Some(limit) = self.peer.max_header_list_size {
            check_list_size(request_list_size(&line, head), limit)?;
        }
        let is_tunnel = matches!(line.kind, RequestKind::Connect | RequestKind::Upgrade(_));
        let ends = !is_tunnel && matches!(body, BodyLength::None | BodyLength::Length(0));
        let body = if is_tunnel { BodyLength::None } else { body };

        let id = self.next_local_id;
        self.next_local_id += 2;
        let start = self.begin_block();
        line.encode(head, body, &mut self.encoder, &mut self.out);
        self.finish_block(start, id, ends);

        let mut stream = Stream::new(id, line.kind, self.recv_initial, self.peer.initial_window_size);
        stream.send.phase = match (is_tunnel, ends) {
            (true, _) => Phase::Tunnel,
            (_, true) => Phase::NoBody,
            _ => Phase::Body,
        };
        stream.send.left = counted(body);
        if ends {
            stream.state = stream.state.after(Change::SendEnd);
        }
        self.streams.insert(stream);
        Ok(StreamId(id))
    }

    fn check_may_open(&self) -> Result<(), SendError> {
        if self.failed.is_some() {
            return Err(SendError::ConnectionEnded);
        }
        if self.role == Role::Server {
            return Err(SendError::OutOfOrder { what: "a request from a server" });
        }
        if self.leaving != Leaving::No || self.peer_goaway.is_some() {
            return Err(SendError::GoingAway);
        }
        if self.next_local_id > u32::MAX >> 1 {
            return Err(SendError::StreamIdsExhausted);
        }
        let limit = self.streams_max();
        if self.streams.len() >= limit as usize { Err(SendError::TooManyStreams { limit }) } else { Ok(()) }
    }

    /// How many streams the peer allows us; before its SETTINGS what it must be expected to.
    pub(crate) fn streams_max(&self) -> u32 {
        let unsaid = if self.peer_settings_seen { u32::MAX } else { STREAMS_BEFORE_SETTINGS };
        self.peer.max_concurrent_streams.unwrap_or(unsaid)
    }

    /// Sends a 1xx response, as a server.
    ///
    /// Errors: [`SendError::Message`] unless [`is_interim`](ResponseHead::is_interim);
    /// [`SendError::OutOfOrder`] after the final one.
    pub fn send_interim(&mut self, stream: StreamId, head: &ResponseHead) -> Result<(), SendError> {
        if !head.is_interim() {
            return Err(HttpError::Unencodable { why: "a final response as an interim one" }.into());
        }
        let Some(_) = self.awaiting_response(stream)? else { return Ok(()) };
        self.check_peer_takes(&head.headers)?;
        self.put_reply(stream.0, &Reply { head, status: head.status, length: None, ends: false });
        Ok(())
    }

    /// Sends the final response, as a server. What the request was decides whether a body can
    /// follow: not for HEAD, 204 and 304. A CONNECT that is answered with 2xx, and an upgrade that is
    /// answered with 101, become tunnels.
    ///
    /// Errors: [`SendError::OutOfOrder`] for a second one; [`SendError::Message`] for a 1xx, for 101
    /// without an upgrade, and for 2xx to an upgrade, which would accept it.
    pub fn send_response(
        &mut self,
        stream: StreamId,
        head: &ResponseHead,
        body: BodyLength,
    ) -> Result<(), SendError> {
        let Some(key) = self.awaiting_response(stream)? else { return Ok(()) };
        self.check_peer_takes(&head.headers)?;
        let Some(stream) = self.streams.get_mut(key) else { return Ok(()) };
        let unencodable = |why| Err(HttpError::Unencodable { why }.into());
        let (status, phase, length) = match (&stream.request, head.status) {
            (RequestKind::Upgrade(_), 101) => (200, Phase::Tunnel, None),
            (RequestKind::Upgrade(_), 200..=299) => {
                return unencodable("2xx to an upgrade that is not accepted");
            }
            (_, 101) => return unencodable("101 without an upgrade"),
            (_, 100..=199) => return unencodable("an interim response as a final one"),
            (RequestKind::Connect, status @ 200..=299) => (status, Phase::Tunnel, None),
            (_, 204) => (204, Phase::NoBody, None),
            (RequestKind::Head, status @ 200..=999) | (_, status @ 304) => {
                (status, Phase::NoBody, announced_length(head, body))
            }
            (_, status @ 200..=999) => match body {
                BodyLength::None => (status, Phase::NoBody, None),
                BodyLength::Length(0) => (status, Phase::NoBody, Some(0)),
                BodyLength::Length(bytes) => (status, Phase::Body, Some(bytes)),
                _ => (status, Phase::Body, None),
            },
            _ => return unencodable("a status outside 100 to 999"),
        };
        let ends = phase == Phase::NoBody;
        let id = stream.id;
        stream.send.phase = phase;
        if phase == Phase::Body {
            stream.send.left = length;
        }
        if ends {
            stream.state = stream.state.after(Change::SendEnd);
        }
        self.put_reply(id, &Reply { head, status, length, ends });
        self.close_if_ended(key);
        Ok(())
    }

    /// Queues data of a body or a tunnel. Nothing is copied that is not small.
    ///
    /// Errors: [`SendError::OutOfOrder`] before the head and after the end; [`SendError::QueueFull`];
    /// [`HttpError::BodyTooLong`] for more than was announced: the message is lost then, and the
    /// caller resets the stream.
    pub fn send_data(&mut self, stream: StreamId, data: Bytes) -> Result<Pressure, SendError> {
        let limits = self.config.limits;
        let Some(key) = self.live(stream)? else { return Ok(Pressure::GoOn) };
        let Some(stream) = self.streams.get_mut(key) else { return Ok(Pressure::GoOn) };
        let send = &mut stream.send;
        match send.phase {
            Phase::Head => return Err(SendError::OutOfOrder { what: "data before the head" }),
            Phase::NoBody => return Ok(Pressure::GoOn),
            Phase::Body | Phase::Tunnel => {}
        }
        if send.end.is_some() || !stream.state.may_send() {
            return Err(SendError::OutOfOrder { what: "data after the end" });
        }
        let limit = limits.send_queue_bytes_max;
        if send.queue.bytes() + data.len() > limit as usize && !send.queue.is_empty() {
            return Err(SendError::QueueFull { limit });
        }
        if let Some(left) = &mut send.left {
            let len = data.len() as u64;
            *left =
                left.checked_sub(len).ok_or(HttpError::BodyTooLong { excess: len.saturating_sub(*left) })?;
        }
        send.queue.push(data);
        // Who was told to wait is told when to go on, also when it gave more meanwhile.
        send.is_waiting |= send.queue.bytes() > limits.send_queue_bytes_high as usize;
        let pressure = if send.is_waiting { Pressure::Wait } else { Pressure::GoOn };
        self.make_ready(key);
        Ok(pressure)
    }

    /// Ends a message or our direction of a tunnel, with trailers if there are any. Fields that no
    /// trailer may be are left out, and so are all where there is no place for them: after a message
    /// without content, and in a tunnel.
    ///
    /// Errors: [`SendError::OutOfOrder`] before the head and for a second end;
    /// [`HttpError::BodyTooShort`] when less came than was announced: the caller resets the stream.
    pub fn send_end(&mut self, stream: StreamId, trailers: Option<Box<Headers>>) -> Result<(), SendError> {
        let Some(key) = self.live(stream)? else { return Ok(()) };
        let Some(stream) = self.streams.get_mut(key) else { return Ok(()) };
        let send = &mut stream.send;
        match send.phase {
            Phase::Head => return Err(SendError::OutOfOrder { what: "the end before the head" }),
            Phase::NoBody => return Ok(()),
            Phase::Body | Phase::Tunnel => {}
        }
        if send.end.is_some() || !stream.state.may_send() {
            return Err(SendError::OutOfOrder { what: "a second end" });
        }
        if let Some(missing @ 1..) = send.left {
            return Err(HttpError::BodyTooShort { missing }.into());
        }
        send.end = Some(match trailers {
            Some(trailers) if send.phase == Phase::Body && crate::head_out::has_trailers(&trailers) => {
                Ending::Trailers(trailers)
            }
            _ => Ending::Plain,
        });
        self.make_ready(key);
        Ok(())
    }

    /// Bytes that wait to be sent on a stream.
    pub fn queued(&self, stream: StreamId) -> usize {
        self.streams
            .find(stream.0)
            .and_then(|key| self.streams.get(key))
            .map_or(0, |stream| stream.send.queue.bytes())
    }

    /// The stream, or `None` if it has ended.
    fn live(&self, stream: StreamId) -> Result<Option<Key>, SendError> {
        if self.failed.is_some() {
            return Err(SendError::ConnectionEnded);
        }
        match self.name(stream.0) {
            Named::Live(key) => Ok(Some(key)),
            Named::Late | Named::Closed => Ok(None),
            Named::Idle => Err(SendError::UnknownStream(stream.0)),
        }
    }

    fn awaiting_response(&self, stream: StreamId) -> Result<Option<Key>, SendError> {
        let Some(key) = self.live(stream)? else { return Ok(None) };
        let phase = self.streams.get(key).map(|stream| stream.send.phase);
        match (self.role, phase) {
            (Role::Server, Some(Phase::Head)) => Ok(Some(key)),
            (Role::Server, _) => Err(SendError::OutOfOrder { what: "a second response" }),
            (Role::Client, _) => Err(SendError::OutOfOrder { what: "a response from a client" }),
        }
    }

    fn check_peer_takes(&self, headers: &Headers) -> Result<(), SendError> {
        match self.peer.max_header_list_size {
            Some(limit) => check_list_size(list_size(headers), limit),
            None => Ok(()),
        }
    }

    fn make_ready(&mut self, key: Key) {
        if let Some(stream) = self.streams.get_mut(key) {
            if !std::mem::replace(&mut stream.send.is_ready, true) {
                self.ready.push_back(key);
            }
        }
    }

    pub(crate) fn put_reply(&mut self, id: u32, reply: &Reply<'_>) {
        let start = self.begin_block();
        encode_response(reply.status, &reply.head.headers, reply.length, &mut self.encoder, &mut self.out);
        self.finish_block(start, id, reply.ends);
    }

    /// Leaves room for the header of a HEADERS frame; the block is to be appended.
    pub(crate) fn begin_block(&mut self) -> usize {
        // One allocation for the usual turn, instead of one for each doubling.
        self.make_room();
        let start = self.out.len();
        self.out.extend_from_slice(&[0; FRAME_HEADER_LEN]);
        start
    }

    pub(crate) fn finish_block(&mut self, start: usize, id: u32, ends: bool) {
        finish_headers(&mut self.out, start, id, ends, self.peer.max_frame_size as usize);
    }
}

fn check_list_size(len: u64, limit: u32) -> Result<(), SendError> {
    if len > u64::from(limit) { Err(SendError::HeaderListTooLarge { len, limit }) } else { Ok(()) }
}

fn counted(body: BodyLength) -> Option<u64> {
    match body {
        BodyLength::Length(bytes) => Some(bytes),
        _ => None,
    }
}

/// LIMIT: streams at once before the peer has said how many it takes. It may refuse more than the 100
/// that RFC 9113 §6.5.2 recommends at least.
const STREAMS_BEFORE_SETTINGS: u32 = 100;
