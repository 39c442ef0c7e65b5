//! The graph: all pipelines of one worker, the events under way between them, and what they ask of the world.
//!
//! INVARIANT: `queue` is the only way from filter to filter. An event for a pipeline or socket that is gone is dropped.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use slab::Slab;
use smallvec::SmallVec;

use crate::{CloseReason, Cx, Event, Filter, SocketLimits, TimerId, Timers};

/// By what a filter knows its sub-pipelines.
pub type Slot = u32;

/// A pipeline. Ids are not reused: one that is gone stays gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PipelineId {
    index: u32,
    serial: u32,
}

/// A socket, as the graph knows it; the worker holds the real one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketId {
    /// Place in the worker's table.
    pub index: u32,
    /// Tells the users of one place apart.
    pub serial: u32,
}

/// Which way an event travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dir {
    /// To the right, towards the upstream.
    Input,
    /// To the left, back.
    Output,
}

/// Which end of a pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Where input comes in.
    Left,
    /// Where input goes out.
    Right,
}

/// What a pipeline ends in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Nothing: events that leave are dropped.
    Nothing,
    /// A socket.
    Socket(SocketId),
    /// The pipeline turns around: what leaves here leaves at its left end, past all filters. For a right end only.
    Turn,
    /// A filter of another pipeline, whose sub-pipeline this is.
    Filter {
        /// That pipeline.
        pipeline: PipelineId,
        /// The filter's place in it.
        index: usize,
        /// By what the filter knows this pipeline.
        slot: Slot,
    },
}

/// Where to connect, and how.
#[derive(Debug, Clone)]
pub struct ConnectTo {
    /// The peer.
    pub address: SocketAddr,
    /// Source address to bind to.
    pub source: Option<IpAddr>,
    /// Where to connect instead, and from where, when the peer is on this machine and refuses at once: an application that
    /// listens on one address family alone.
    pub also: Option<(SocketAddr, Option<IpAddr>)>,
    /// How long the attempt may take.
    pub timeout: Duration,
    /// Whether `Resume` comes back as soon as the connection is made: for who wants to know that alone. Others learn it
    /// from what the peer says.
    pub tell: bool,
}

/// An address of a netlink socket (netlink(7)): the port, 0 for the kernel's, and groups as bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NetlinkAddress {
    /// The port: 0 is the kernel; of an own address, for the kernel to choose.
    pub pid: u32,
    /// One bit for each of the first 32 groups.
    pub groups: u32,
}

/// A netlink socket, and how it is made.
#[derive(Debug, Clone, Copy)]
pub struct NetlinkTo {
    /// The protocol, such as 0 for NETLINK_ROUTE.
    pub family: u32,
    /// To whom what is written goes.
    pub peer: NetlinkAddress,
    /// The own address: with groups, what is sent to them comes too.
    pub own: NetlinkAddress,
    /// Whether `Resume` comes back as soon as there is a socket.
    pub tell: bool,
}

/// What the graph asks of the worker.
#[derive(Debug)]
pub enum Op {
    /// Make a connection.
    Connect(SocketId, ConnectTo),
    /// Make a UDP socket that is connected to an address. From then on each `Write` to it is one datagram, and each `Data`
    /// from it too.
    ConnectDatagrams(SocketId, ConnectTo),
    /// Make a netlink socket. Each `Write` to it is one packet, and each `Data` from it too.
    ConnectNetlink(SocketId, NetlinkTo),
    /// Send bytes.
    Write(SocketId, Bytes),
    /// Everything was said: send what is queued, then end this direction.
    Finish(SocketId),
    /// The peer has nothing more to say: once this direction has ended, close without waiting for the end of the other.
    Heard(SocketId),
    /// The pipeline has let go of it. `true`: reset the connection at once. `false`: send what is queued, then close.
    Close(SocketId, bool),
    /// Stop or go on reading.
    Reading(SocketId, bool),
    /// Treat the socket so from now on.
    Limit(SocketId, SocketLimits),
}

/// A filter that waits for something, and what for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waker {
    pub(crate) pipeline: PipelineId,
    pub(crate) index: usize,
    pub(crate) token: u32,
}

/// Where an event goes within a pipeline.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    Filter {
        index: usize,
        dir: Dir,
    },
    Sub {
        index: usize,
        slot: Slot,
    },
    /// No event: a filter is woken.
    Wake {
        index: usize,
        token: u32,
    },
}

#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) pipeline: PipelineId,
    pub(crate) target: Target,
    pub(crate) event: Event,
}

struct Pipeline {
    serial: u32,
    filters: Vec<Option<Box<dyn Filter>>>,
    /// Filters that events go past, from left to right and back.
    ignoring: [Places; 2],
    left: End,
    right: End,
    /// Timers of its filters: they go with it. Idle limits are hours long, connections often are not.
    timers: SmallVec<[TimerId; 2]>,
}

/// Some of the places of a pipeline, of the first 32.
#[derive(Clone, Copy, Default)]
struct Places(u32);

impl Places {
    fn add(&mut self, index: usize) {
        if index < u32::BITS as usize {
            self.0 |= 1 << index;
        }
    }

    /// The first place from here to the right that is none of these.
    fn next(self, index: usize) -> usize {
        if index < u32::BITS as usize { index + (self.0 >> index).trailing_ones() as usize } else { index }
    }

    /// The first place from here to the left that is none of these; `usize::MAX` left of all.
    fn back(self, index: usize) -> usize {
        if index < u32::BITS as usize {
            let from_here = self.0 << (u32::BITS as usize - 1 - index);
            index.wrapping_sub(from_here.leading_ones() as usize)
        } else {
            index
        }
    }
}

/// A socket's place in the graph.
struct Attachment {
    serial: u32,
    pipeline: PipelineId,
    side: Side,
}

/// All pipelines of one worker.
pub struct Graph {
    /// The time of this turn; the worker sets it.
    pub now: Instant,
    /// Whether the worker drains.
    pub draining: bool,
    /// What the worker must carry out, in order.
    pub ops: Vec<Op>,
    /// Timers; the worker asks when the next is due.
    pub timers: Timers,
    /// Those whose turn it is.
    due: Vec<TimerId>,
    pub(crate) deferred: Vec<(PipelineId, usize)>,
    queue: VecDeque<Work>,
    pipelines: Slab<Pipeline>,
    sockets: Slab<Attachment>,
    serial: u32,
}

impl Graph {
    /// An empty graph.
    pub fn new(now: Instant) -> Self {
        Graph {
            now,
            draining: false,
            ops: Vec::new(),
            timers: Timers::default(),
            due: Vec::new(),
            deferred: Vec::new(),
            queue: VecDeque::new(),
            pipelines: Slab::new(),
            sockets: Slab::new(),
            serial: 0,
        }
    }

    /// Makes the pipeline of an accepted connection: the socket is its left end.
    pub fn accept(&mut self, filters: Vec<Box<dyn Filter>>) -> (SocketId, PipelineId) {
        let pipeline = self.open(filters, End::Nothing, End::Nothing);
        let socket = self.attach(pipeline, Side::Left);
        (socket, pipeline)
    }

    /// Makes the pipeline of an accepted connection whose right end turns around: its output is what the filters send on.
    pub fn accept_turning(&mut self, filters: Vec<Box<dyn Filter>>) -> (SocketId, PipelineId) {
        let pipeline = self.open(filters, End::Nothing, End::Turn);
        let socket = self.attach(pipeline, Side::Left);
        (socket, pipeline)
    }

    /// Makes a pipeline that belongs to no filter and no socket, and turns around at its right end.
    pub fn open_detached(&mut self, filters: Vec<Box<dyn Filter>>) -> PipelineId {
        self.open(filters, End::Nothing, End::Turn)
    }

    /// Sends an event into a pipeline, at its left end.
    pub fn send(&mut self, pipeline: PipelineId, event: Event) {
        self.push(Work { pipeline, target: Target::Filter { index: 0, dir: Dir::Input }, event });
    }

    /// Calls [`Filter::wake`] of the filter that gave the waker, unless its pipeline is gone.
    pub fn wake(&mut self, waker: Waker) {
        let target = Target::Wake { index: waker.index, token: waker.token };
        self.push(Work { pipeline: waker.pipeline, target, event: Event::Resume });
    }

    /// Events from a socket, `Data` or `Close`: into the pipeline that it ends.
    pub fn from_socket(&mut self, socket: SocketId, event: Event) {
        let Some(attachment) = self.attachment(socket) else { return };
        let (pipeline, side) = (attachment.pipeline, attachment.side);
        let target = match side {
            Side::Left => Target::Filter { index: 0, dir: Dir::Input },
            Side::Right => {
                let last = self.pipeline(pipeline).map_or(0, |p| p.filters.len());
                Target::Filter { index: last.wrapping_sub(1), dir: Dir::Output }
            }
        };
        self.push(Work { pipeline, target, event });
    }

    /// A socket is gone, both ways. On the left end that is the end of the pipeline.
    pub fn socket_gone(&mut self, socket: SocketId) {
        let Some(attachment) = self.attachment(socket) else { return };
        let (pipeline, side) = (attachment.pipeline, attachment.side);
        self.sockets.remove(socket.index as usize);
        match side {
            Side::Left => self.destroy(pipeline, CloseReason::Finished),
            Side::Right => {
                if let Some(p) = self.pipeline_mut(pipeline) {
                    p.right = End::Nothing;
                }
            }
        }
    }

    /// Carries all events until none is left; then what was deferred; then again.
    pub fn run(&mut self) {
        loop {
            self.carry();
            if self.deferred.is_empty() {
                return;
            }
            for (pipeline, index) in std::mem::take(&mut self.deferred) {
                self.call(pipeline, index, |filter, cx| filter.flush(cx));
            }
        }
    }

    /// Carries all events until none is left; what was deferred stays so until [`Graph::run`].
    pub fn carry(&mut self) {
        while let Some(work) = self.queue.pop_front() {
            self.deliver(work);
        }
    }

    /// Calls the timers that are due. One that is set meanwhile comes in the next turn, even when it is due at once: others
    /// have their turn first, and a filter that always sets the next one holds nobody up.
    pub fn run_timers(&mut self) {
        let mut due = std::mem::take(&mut self.due);
        self.timers.move_due(self.now, &mut due);
        for timer in due.drain(..) {
            let Some((pipeline, index, token)) = self.timers.take(timer) else { continue };
            if let Some(p) = self.pipeline_mut(pipeline) {
                p.timers.retain(|set| *set != timer);
            }
            self.call(pipeline, index, |filter, cx| filter.timer(cx, token));
        }
        self.due = due;
    }

    /// Tells every filter that the worker drains.
    pub fn drain(&mut self) {
        self.draining = true;
        let all: Vec<_> =
            self.pipelines.iter().map(|(index, p)| (id(index, p.serial), p.filters.len())).collect();
        for (pipeline, filters) in all {
            for index in 0..filters {
                self.call(pipeline, index, |filter, cx| filter.drain(cx));
            }
        }
    }

    /// Gives back the room that tables have for more than is there; worth its time when most of it has gone.
    pub fn shrink(&mut self) {
        self.pipelines.shrink_to_fit();
        self.sockets.shrink_to_fit();
        self.queue.shrink_to_fit();
        self.timers.shrink();
    }

    /// How many pipelines there are; a leak shows here.
    pub fn pipelines(&self) -> usize {
        self.pipelines.len()
    }

    /// How many sockets there are.
    pub fn sockets(&self) -> usize {
        self.sockets.len()
    }

    pub(crate) fn set_timer(
        &mut self,
        at: Instant,
        pipeline: PipelineId,
        index: usize,
        token: u32,
    ) -> TimerId {
        let timer = self.timers.set(at, pipeline, index, token);
        match self.pipeline_mut(pipeline) {
            Some(p) => p.timers.push(timer),
            None => self.timers.cancel(timer),
        }
        timer
    }

    pub(crate) fn cancel_timer(&mut self, pipeline: PipelineId, timer: TimerId) {
        if let Some(p) = self.pipeline_mut(pipeline) {
            p.timers.retain(|set| *set != timer);
        }
        self.timers.cancel(timer);
    }

    pub(crate) fn push(&mut self, work: Work) {
        self.queue.push_back(work);
    }

    /// Whether a pipeline still exists.
    pub fn alive(&self, id: PipelineId) -> bool {
        self.pipeline(id).is_some()
    }

    pub(crate) fn set_left(&mut self, id: PipelineId, left: End) {
        if let Some(pipeline) = self.pipeline_mut(id) {
            pipeline.left = left;
        }
    }

    pub(crate) fn open(&mut self, filters: Vec<Box<dyn Filter>>, left: End, right: End) -> PipelineId {
        let serial = self.next_serial();
        let count = filters.len();
        let mut ignoring = [Places::default(); 2];
        for (places, dir) in ignoring.iter_mut().zip([Dir::Input, Dir::Output]) {
            let all = filters.iter().enumerate();
            all.filter(|(_, filter)| filter.ignores(dir)).for_each(|(index, _)| places.add(index));
        }
        let filters = filters.into_iter().map(Some).collect();
        let timers = SmallVec::new();
        let index = self.pipelines.insert(Pipeline { serial, filters, ignoring, left, right, timers });
        let pipeline = id(index, serial);
        for index in 0..count {
            self.call(pipeline, index, |filter, cx| filter.start(cx));
        }
        pipeline
    }

    pub(crate) fn connect(&mut self, pipeline: PipelineId, to: ConnectTo) -> SocketId {
        let socket = self.attach(pipeline, Side::Right);
        self.ops.push(Op::Connect(socket, to));
        socket
    }

    pub(crate) fn connect_datagrams(&mut self, pipeline: PipelineId, to: ConnectTo) -> SocketId {
        let socket = self.attach(pipeline, Side::Right);
        self.ops.push(Op::ConnectDatagrams(socket, to));
        socket
    }

    pub(crate) fn connect_netlink(&mut self, pipeline: PipelineId, to: NetlinkTo) -> SocketId {
        let socket = self.attach(pipeline, Side::Right);
        self.ops.push(Op::ConnectNetlink(socket, to));
        socket
    }

    pub(crate) fn destroy(&mut self, id: PipelineId, reason: CloseReason) {
        let Some(pipeline) = self.pipeline(id) else { return };
        for index in 0..pipeline.filters.len() {
            self.call(id, index, |filter, cx| filter.closed(cx));
        }
        let Some(pipeline) = self.pipelines.try_remove(id.index as usize) else { return };
        for timer in pipeline.timers {
            self.timers.cancel(timer);
        }
        for end in [pipeline.left, pipeline.right] {
            if let End::Socket(socket) = end
                && self.attachment(socket).is_some()
            {
                self.sockets.remove(socket.index as usize);
                self.ops.push(Op::Close(socket, !reason.is_clean()));
            }
        }
    }

    pub(crate) fn heard(&mut self, id: PipelineId) {
        if let Some(End::Socket(socket)) = self.pipeline(id).map(|pipeline| pipeline.left) {
            self.ops.push(Op::Heard(socket));
        }
    }

    fn attach(&mut self, pipeline: PipelineId, side: Side) -> SocketId {
        let serial = self.next_serial();
        let index = self.sockets.insert(Attachment { serial, pipeline, side });
        let socket = SocketId { index: u32::try_from(index).unwrap_or(u32::MAX), serial };
        if let Some(p) = self.pipeline_mut(pipeline) {
            match side {
                Side::Left => p.left = End::Socket(socket),
                Side::Right => p.right = End::Socket(socket),
            }
        }
        socket
    }

    fn deliver(&mut self, work: Work) {
        let Some(pipeline) = self.pipeline(work.pipeline) else { return };
        let [past_input, past_output] = pipeline.ignoring;
        let target = match work.target {
            Target::Filter { index, dir: Dir::Input } => {
                Target::Filter { index: past_input.next(index), dir: Dir::Input }
            }
            Target::Filter { index, dir: Dir::Output } => {
                Target::Filter { index: past_output.back(index), dir: Dir::Output }
            }
            other => other,
        };
        match target {
            Target::Sub { index, slot } => {
                self.call(work.pipeline, index, |filter, cx| filter.sub(cx, slot, work.event));
            }
            Target::Wake { index, token } => {
                self.call(work.pipeline, index, |filter, cx| filter.wake(cx, token));
            }
            Target::Filter { index, dir } if index < pipeline.filters.len() => {
                self.call(work.pipeline, index, |filter, cx| match dir {
                    Dir::Input => filter.input(cx, work.event),
                    Dir::Output => filter.output(cx, work.event),
                });
            }
            Target::Filter { dir, .. } => {
                let end = match (dir, pipeline.right) {
                    (Dir::Input, End::Turn) | (Dir::Output, _) => pipeline.left,
                    (Dir::Input, right) => right,
                };
                self.leave(end, work.event);
            }
        }
    }

    /// An event leaves a pipeline at an end.
    fn leave(&mut self, end: End, event: Event) {
        match end {
            End::Nothing | End::Turn => {}
            End::Filter { pipeline, index, slot } => {
                self.push(Work { pipeline, target: Target::Sub { index, slot }, event });
            }
            End::Socket(socket) => {
                if self.attachment(socket).is_none() {
                    return;
                }
                self.ops.push(match event {
                    Event::Data(bytes) => Op::Write(socket, bytes),
                    Event::Close(CloseReason::Finished) => Op::Finish(socket),
                    Event::Close(reason) => Op::Close(socket, reason != CloseReason::IdleTimeout),
                    Event::Pause => Op::Reading(socket, false),
                    Event::Resume => Op::Reading(socket, true),
                    // A message without a codec has no bytes to send: a pipeline put together wrongly.
                    Event::Start(..) | Event::End(_) => return,
                    Event::Custom(custom) => {
                        return if let Some(plain) = custom.plain() {
                            self.leave(end, plain)
                        };
                    }
                });
            }
        }
    }

    /// Calls a hook of a filter, which stands outside of the graph meanwhile so that it can use all of it.
    fn call(&mut self, id: PipelineId, index: usize, hook: impl FnOnce(&mut dyn Filter, &mut Cx<'_>)) {
        let Some(mut filter) =
            self.pipeline_mut(id).and_then(|p| p.filters.get_mut(index)).and_then(Option::take)
        else {
            return;
        };
        hook(filter.as_mut(), &mut Cx { graph: self, pipeline: id, index });
        match self.pipeline_mut(id).and_then(|p| p.filters.get_mut(index)) {
            Some(place) => *place = Some(filter),
            // The pipeline was destroyed under the filter's hands, when the filter could not be told.
            None => filter.closed(&mut Cx { graph: self, pipeline: id, index }),
        }
    }

    fn next_serial(&mut self) -> u32 {
        self.serial = self.serial.wrapping_add(1);
        self.serial
    }

    fn pipeline(&self, id: PipelineId) -> Option<&Pipeline> {
        self.pipelines.get(id.index as usize).filter(|p| p.serial == id.serial)
    }

    fn pipeline_mut(&mut self, id: PipelineId) -> Option<&mut Pipeline> {
        self.pipelines.get_mut(id.index as usize).filter(|p| p.serial == id.serial)
    }

    fn attachment(&self, socket: SocketId) -> Option<&Attachment> {
        self.sockets.get(socket.index as usize).filter(|a| a.serial == socket.serial)
    }
}

fn id(index: usize, serial: u32) -> PipelineId {
    PipelineId { index: u32::try_from(index).unwrap_or(u32::MAX), serial }
}
