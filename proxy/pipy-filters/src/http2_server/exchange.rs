//! One stream of a client: the request on it, the sub-pipeline that answers it, and how far both are.

use std::time::Instant;

use bytes::Bytes;
use pipy_h2::StreamId;
use pipy_pipeline::PipelineId;

/// See the module.
pub(super) struct Exchange {
    pub(super) stream: StreamId,
    pub(super) sub: PipelineId,
    pub(super) asked: Asked,
    pub(super) request_done: bool,
    pub(super) response: Response,
    /// The server's side of a tunnel has ended.
    pub(super) response_done: bool,
    /// The sub-pipeline can't take more.
    pub(super) paused: bool,
    /// The sub-pipeline was told that nothing has moved for too long.
    pub(super) told: bool,
    /// The sub-pipeline was told to pause.
    pub(super) waiting: bool,
    /// Bytes that were given to the sub-pipeline and not released.
    pub(super) owed: usize,
    /// What the client sends into a tunnel before it is accepted: bounded by the window, for none of it is released.
    pub(super) early: Vec<Bytes>,
    pub(super) last_active: Instant,
}

impl Exchange {
    /// A request whose head has come.
    pub(super) fn new(stream: StreamId, sub: PipelineId, asked: Asked, now: Instant) -> Self {
        Exchange {
            stream,
            sub,
            asked,
            request_done: false,
            response: Response::Awaited,
            response_done: false,
            paused: false,
            told: false,
            waiting: false,
            owed: 0,
            early: Vec::new(),
            last_active: now,
        }
    }
}

/// What the request asks its stream to become.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Nothing,
    Upgrade,
    Connect,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Response {
    Awaited,
    Body,
    Tunnel,
}
