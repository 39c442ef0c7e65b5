//! Sockets in memory, and a clock that a test moves.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pipy_pipeline::{CloseReason, ConnectTo, Event, Filter, Graph, Op, PipelineId, SocketId};

/// What became of one socket.
#[derive(Debug, Default, Clone)]
pub struct SocketState {
    /// Bytes written to it, in pieces.
    pub pieces: Vec<Bytes>,
    /// Our direction was ended.
    pub finished: bool,
    /// Its peer has nothing more to say.
    pub heard: bool,
    /// It was closed; `true`: reset.
    pub closed: Option<bool>,
    /// Reading is paused.
    pub paused: bool,
    /// Where it was to connect to, for outgoing ones.
    pub to: Option<ConnectTo>,
}

/// See the module.
pub struct World {
    /// The graph.
    pub graph: Graph,
    sockets: BTreeMap<SocketId, SocketState>,
}

impl Default for World {
    fn default() -> Self {
        World { graph: Graph::new(Instant::now()), sockets: BTreeMap::new() }
    }
}

impl World {
    /// A connection is accepted: a pipeline of these filters.
    pub fn accept(&mut self, filters: Vec<Box<dyn Filter>>) -> (SocketId, PipelineId) {
        let (socket, pipeline) = self.graph.accept(filters);
        self.sockets.insert(socket, SocketState::default());
        self.run();
        (socket, pipeline)
    }

    /// The same, where the right end turns around: what the filters send on goes back to the client.
    pub fn accept_turning(&mut self, filters: Vec<Box<dyn Filter>>) -> (SocketId, PipelineId) {
        let (socket, pipeline) = self.graph.accept_turning(filters);
        self.sockets.insert(socket, SocketState::default());
        self.run();
        (socket, pipeline)
    }

    /// The peer at a socket says something.
    pub fn say(&mut self, socket: SocketId, bytes: impl AsRef<[u8]>) {
        self.event(socket, Event::Data(Bytes::copy_from_slice(bytes.as_ref())));
    }

    /// The peer has finished.
    pub fn finish(&mut self, socket: SocketId) {
        self.event(socket, Event::Close(CloseReason::Finished));
    }

    /// The connection breaks.
    pub fn fail(&mut self, socket: SocketId, reason: CloseReason) {
        self.event(socket, Event::Close(reason));
        self.graph.socket_gone(socket);
        self.run();
    }

    /// An event comes from a socket.
    pub fn event(&mut self, socket: SocketId, event: Event) {
        self.graph.from_socket(socket, event);
        self.run();
    }

    /// Time passes; timers that become due are called in their order.
    pub fn pass(&mut self, time: Duration) {
        let end = self.graph.now + time;
        while let Some(next) = self.graph.timers.next_due().filter(|next| *next <= end) {
            self.graph.now = self.graph.now.max(next);
            self.graph.run_timers();
            self.run();
        }
        self.graph.now = end;
    }

    /// The worker drains.
    pub fn drain(&mut self) {
        self.graph.drain();
        self.run();
    }

    /// What became of a socket.
    pub fn socket(&self, socket: SocketId) -> SocketState {
        self.sockets.get(&socket).cloned().unwrap_or_default()
    }

    /// All that was written to a socket since the last time this was asked.
    pub fn take(&mut self, socket: SocketId) -> Vec<u8> {
        let state = self.sockets.entry(socket).or_default();
        std::mem::take(&mut state.pieces).concat()
    }

    /// The same as text.
    pub fn heard(&mut self, socket: SocketId) -> String {
        String::from_utf8_lossy(&self.take(socket)).into_owned()
    }

    /// The outgoing sockets, in the order in which they were asked for.
    pub fn outgoing(&self) -> Vec<SocketId> {
        let mut all: Vec<_> =
            self.sockets.iter().filter(|(_, s)| s.to.is_some()).map(|(id, _)| *id).collect();
        all.sort_by_key(|id| id.serial);
        all
    }

    /// Lets the graph run until it is quiet.
    pub fn run(&mut self) {
        loop {
            self.graph.run();
            let ops = std::mem::take(&mut self.graph.ops);
            if ops.is_empty() {
                return;
            }
            for op in ops {
                self.carry_out(op);
            }
        }
    }

    fn carry_out(&mut self, op: Op) {
        let sockets = &mut self.sockets;
        match op {
            Op::Connect(id, to) | Op::ConnectDatagrams(id, to) => {
                sockets.entry(id).or_default().to = Some(to)
            }
            Op::Write(id, bytes) => {
                let state = sockets.entry(id).or_default();
                assert!(!state.finished && state.closed.is_none(), "written after the end: {bytes:?}");
                state.pieces.push(bytes);
            }
            Op::Finish(id) => sockets.entry(id).or_default().finished = true,
            Op::Heard(id) => sockets.entry(id).or_default().heard = true,
            // No filter that is tried here speaks to the kernel.
            Op::ConnectNetlink(id, _) => drop(sockets.entry(id).or_default()),
            Op::Limit(..) => {}
            Op::Reading(id, reading) => sockets.entry(id).or_default().paused = !reading,
            Op::Close(id, reset) => {
                sockets.entry(id).or_default().closed.get_or_insert(reset);
                self.graph.socket_gone(id);
            }
        }
    }
}
