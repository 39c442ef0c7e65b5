//! HEADERS and CONTINUATION in: whole blocks, and the messages they begin or end.
//!
//! In: frames. Out: `Request`, `Interim`, `Response` and `End` events, or a stream that is refused.
//!
//! Invariants: a block is decoded whatever becomes of it; what is joined of CONTINUATION frames is
//! bounded in bytes and in frames (CVE-2024-27316); a stream that is refused was never announced.
//!
//! Not done here: what fields may be (`head_in.rs`).

use bytes::Bytes;
use pipy_http::{BodyLength, ResponseHead};

use crate::connection::{Connection, Role};
use crate::event::{Event, StreamId};
use crate::floods::Nuisance;
use crate::frame::{FrameHeader, Kind, flag, put_reset};
use crate::head_in::{HeadReader, Nowhere, Section};
use crate::hpack::ListSize;
use crate::leaving::Leaving;
use crate::receive::{Block, Named, dependency};
use crate::send::Reply;
use crate::state::{State, Verdict};
use crate::stream::{Phase, RequestKind, Stream};
use crate::streams::Key;
use crate::{ConnectionError, ErrorCode, StreamError};

/// What a HEADERS frame said besides its block.
#[derive(Clone, Copy)]
struct Flags {
    end_stream: bool,
    depends_on_itself: bool,
}

impl Connection {
    pub(crate) fn on_headers(&mut self, header: FrameHeader, payload: &Bytes) -> Result<(), ConnectionError> {
        let FrameHeader { kind, len, stream, .. } = header;
        let too_short = ConnectionError::FrameSize { kind, len, expected: "padding and priority as flagged" };
        let mut fragment: &[u8] = payload;
        let mut padding = 0;
        if header.has(flag::PADDED) {
            let Some((&length, rest)) = fragment.split_first() else { return Err(too_short) };
            (padding, fragment) = (usize::from(length), rest);
        }
        let mut depends_on_itself = false;
        if header.has(flag::PRIORITY) {
            let Some((priority, rest)) = fragment.split_first_chunk::<5>() else { return Err(too_short) };
            depends_on_itself = dependency(priority) == Some(stream);
            fragment = rest;
        }
        let Some(content) = fragment.len().checked_sub(padding).and_then(|len| fragment.get(..len)) else {
            return Err(ConnectionError::TooMuchPadding { kind });
        };
        let flags = Flags { end_stream: header.has(flag::END_STREAM), depends_on_itself };
        if header.has(flag::END_HEADERS) {
            return self.on_block(stream, flags, content);
        }
        let Flags { end_stream, depends_on_itself } = flags;
        let mut block =
            Box::new(Block { stream, end_stream, depends_on_itself, bytes: Vec::new(), continuations: 0 });
        self.grow(&mut block, content)?;
        self.block = Some(block);
        Ok(())
    }

    pub(crate) fn on_continuation(
        &mut self,
        header: FrameHeader,
        payload: &Bytes,
    ) -> Result<(), ConnectionError> {
        let mut block = self.block.take().ok_or(ConnectionError::UnexpectedContinuation)?;
        block.continuations += 1;
        let limit = self.config.limits.continuations_max;
        if block.continuations > limit {
            return Err(ConnectionError::TooManyContinuations { limit });
        }
        if payload.is_empty() {
            self.spend(Nuisance::EmptyFrames)?;
        }
        self.grow(&mut block, payload)?;
        if !header.has(flag::END_HEADERS) {
            self.block = Some(block);
            return Ok(());
        }
        let flags = Flags { end_stream: block.end_stream, depends_on_itself: block.depends_on_itself };
        self.on_block(block.stream, flags, &block.bytes)
    }

    fn grow(&self, block: &mut Block, fragment: &[u8]) -> Result<(), ConnectionError> {
        let limit = self.config.limits.header_block_bytes_max;
        if block.bytes.len() + fragment.len() > limit as usize {
            return Err(ConnectionError::HeaderBlockTooLarge { limit });
        }
        block.bytes.extend_from_slice(fragment);
        Ok(())
    }

    /// Reads a block for the sake of the table alone.
    fn skip(&mut self, block: &[u8]) -> Result<(), ConnectionError> {
        self.decoder.decode(block, 0, &mut Nowhere)?;
        Ok(())
    }

    fn on_block(&mut self, id: u32, flags: Flags, block: &[u8]) -> Result<(), ConnectionError> {
        match self.name(id) {
            Named::Live(key) => self.on_block_of(key, id, flags, block),
            Named::Late => self.skip(block),
            Named::Idle if self.role == Role::Server && id % 2 == 1 => self.on_request(id, flags, block),
            // §5.1: that closed stream is known; §5.1.1: this number was passed over.
            Named::Closed if self.streams.was_closed(id) => {
                let (kind, state) = (Kind::HEADERS, State::Closed);
                Err(ConnectionError::UnexpectedFrame { kind, stream: id, state })
            }
            Named::Idle if self.role == Role::Client && id % 2 == 1 => {
                let (kind, state) = (Kind::HEADERS, State::Idle);
                Err(ConnectionError::UnexpectedFrame { kind, stream: id, state })
            }
            _ => Err(ConnectionError::InvalidStreamId { found: id, last: self.last_peer_id }),
        }
    }

    fn on_request(&mut self, id: u32, flags: Flags, block: &[u8]) -> Result<(), ConnectionError> {
        self.last_peer_id = id;
        if let Leaving::Last(_) = self.leaving {
            // §6.8: not looked at, and not answered: the client knows.
            return self.skip(block);
        }
        let limit = self.config.max_concurrent_streams;
        if self.streams.len() >= limit as usize {
            self.skip(block)?;
            return self.refuse(id, flags, StreamError::TooManyStreams { limit });
        }
        let limits = self.config.limits;
        let mut reader = HeadReader::new(Section::Request, &limits);
        let limit = self.config.header_list_bytes_max;
        if self.decoder.decode(block, limit, &mut reader)? == ListSize::Exceeded {
            return self.refuse(id, flags, StreamError::HeaderListTooLarge { limit });
        }
        if flags.depends_on_itself {
            return self.refuse(id, flags, StreamError::SelfDependency);
        }
        let request = match reader.request(flags.end_stream, self.config.extended_connect) {
            Ok(request) => request,
            Err(error) => return self.refuse(id, flags, error),
        };
        let mut stream = Stream::new(id, request.kind, self.recv_initial, self.peer.initial_window_size);
        stream.recv.phase = match (&stream.request, request.body) {
            (RequestKind::Connect | RequestKind::Upgrade(_), _) => Phase::Tunnel,
            _ => Phase::Body,
        };
        stream.recv.left = counted(request.body);
        let key = self.streams.insert(stream);
        let (head, scheme, body) = (request.head, request.scheme, request.body);
        self.events.push_back(Event::Request { stream: StreamId(id), head, scheme, body });
        if flags.end_stream { self.end_of_stream(key, None) } else { Ok(()) }
    }

    /// Answers a request that never becomes a stream of the caller's.
    fn refuse(&mut self, id: u32, flags: Flags, error: StreamError) -> Result<(), ConnectionError> {
        self.spend(Nuisance::StreamErrors)?;
        if let StreamError::HeaderListTooLarge { .. } = error {
            // §10.5.1: the one refusal that a person at the client can do something about.
            self.put_reply(
                id,
                &Reply { head: &ResponseHead::new(431), status: 431, length: Some(0), ends: true },
            );
            if !flags.end_stream {
                put_reset(id, ErrorCode::NO_ERROR, &mut self.out);
            }
        } else {
            put_reset(id, error.code(), &mut self.out);
        }
        self.streams.remember(id, !flags.end_stream);
        self.events.push_back(Event::Refused { stream: StreamId(id), error: Box::new(error) });
        Ok(())
    }

    /// A response, an interim one, or trailers.
    fn on_block_of(&mut self, key: Key, id: u32, flags: Flags, block: &[u8]) -> Result<(), ConnectionError> {
        let Some(stream) = self.streams.get(key) else { return Ok(()) };
        let state = stream.state;
        let section = match (self.role, stream.recv.phase) {
            (Role::Client, Phase::Head) => Section::Response,
            _ => Section::Trailers,
        };
        let limits = self.config.limits;
        let mut reader = HeadReader::new(section, &limits);
        let limit = self.config.header_list_bytes_max;
        let size = self.decoder.decode(block, limit, &mut reader)?;
        let fault = match (state.on_receive(Kind::HEADERS), size) {
            (Verdict::Accept, ListSize::Within) if flags.depends_on_itself => StreamError::SelfDependency,
            (Verdict::Accept, ListSize::Within) if section == Section::Response => {
                return self.on_response(key, id, flags, reader);
            }
            (Verdict::Accept, ListSize::Within) => return self.on_trailers(key, id, flags, reader),
            (Verdict::Accept, ListSize::Exceeded) => StreamError::HeaderListTooLarge { limit },
            _ => StreamError::Closed { kind: Kind::HEADERS },
        };
        self.stream_error(id, fault)
    }

    fn on_response(
        &mut self,
        key: Key,
        id: u32,
        flags: Flags,
        reader: HeadReader<'_>,
    ) -> Result<(), ConnectionError> {
        let limit = self.config.limits.interim_max;
        let Some(stream) = self.streams.get_mut(key) else { return Ok(()) };
        let (head, body) = match reader.response(&stream.request, flags.end_stream) {
            Ok(response) => response,
            Err(error) => return self.stream_error(id, error),
        };
        if head.is_interim() {
            stream.recv.interim_seen += 1;
            if stream.recv.interim_seen > limit {
                return self.stream_error(id, StreamError::TooManyInterim { limit });
            }
            self.events.push_back(Event::Interim { stream: StreamId(id), head });
            return Ok(());
        }
        stream.recv.phase = match &stream.request {
            RequestKind::Connect if head.status / 100 == 2 => Phase::Tunnel,
            RequestKind::Upgrade(_) if head.status == 101 => Phase::Tunnel,
            _ if body == BodyLength::None => Phase::NoBody,
            _ => Phase::Body,
        };
        stream.recv.left = counted(body);
        self.events.push_back(Event::Response { stream: StreamId(id), head, body });
        if flags.end_stream { self.end_of_stream(key, None) } else { Ok(()) }
    }

    fn on_trailers(
        &mut self,
        key: Key,
        id: u32,
        flags: Flags,
        reader: HeadReader<'_>,
    ) -> Result<(), ConnectionError> {
        let phase = self.streams.get(key).map(|stream| stream.recv.phase);
        let fault = match (reader.trailers(), phase) {
            (_, Some(Phase::Tunnel)) => StreamError::TrailersInTunnel,
            (_, _) if !flags.end_stream => StreamError::TrailersWithoutEnd,
            (Err(error), _) => error,
            (Ok(trailers), _) => return self.end_of_stream(key, trailers),
        };
        self.stream_error(id, fault)
    }
}

fn counted(body: BodyLength) -> Option<u64> {
    match body {
        BodyLength::Length(bytes) => Some(bytes),
        _ => None,
    }
}
