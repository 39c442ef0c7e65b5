//! A filter, and what it can do while it handles an event.

use std::time::{Duration, Instant};

use crate::graph::{ConnectTo, Dir, End, Graph, NetlinkTo, PipelineId, Slot, SocketId, Target, Work};
use crate::{CloseReason, Event, TimerId};

/// One element of a pipeline. The default of every hook is "pass on", so a filter says only what it changes.
///
/// The graph promises: hooks of one filter are never entered twice at once; after [`Filter::closed`] no hook is called.
pub trait Filter {
    /// The name under which the filter stands in the filter table.
    fn name(&self) -> &'static str;

    /// The pipeline was made; nothing has travelled yet. Filters start from left to right.
    fn start(&mut self, _cx: &mut Cx<'_>) {}

    /// Whether events that travel this way would only be passed on: then they go past the filter, and the hook for them is
    /// never called. Asked once, when the pipeline is made; true for most filters in one of the two directions.
    fn ignores(&self, _dir: Dir) -> bool {
        false
    }

    /// An event comes from the left.
    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        cx.forward(event);
    }

    /// An event comes back from the right.
    fn output(&mut self, cx: &mut Cx<'_>, event: Event) {
        cx.back(event);
    }

    /// An event comes out of a sub-pipeline of this filter. `slot` is what the filter named it by.
    fn sub(&mut self, _cx: &mut Cx<'_>, _slot: Slot, _event: Event) {}

    /// All events of this turn are handled; what was held back with [`Cx::defer`] to go out together goes now.
    fn flush(&mut self, _cx: &mut Cx<'_>) {}

    /// A timer set with [`Cx::timer`] is due. A filter sets a token by which it knows what for.
    fn timer(&mut self, _cx: &mut Cx<'_>, _token: u32) {}

    /// What was asked for with [`Cx::waker`] has happened. A filter gives out tokens by which it knows what for.
    fn wake(&mut self, _cx: &mut Cx<'_>, _token: u32) {}

    /// The worker drains: finish what is in progress, begin nothing, close what is idle.
    fn drain(&mut self, _cx: &mut Cx<'_>) {}

    /// The pipeline is about to go. Sub-pipelines must be destroyed or let go here.
    fn closed(&mut self, _cx: &mut Cx<'_>) {}
}

/// What a filter can do: the graph, seen from the filter's place.
pub struct Cx<'a> {
    pub(crate) graph: &'a mut Graph,
    pub(crate) pipeline: PipelineId,
    pub(crate) index: usize,
}

impl Cx<'_> {
    /// Sends an event to the right.
    pub fn forward(&mut self, event: Event) {
        let target = Target::Filter { index: self.index + 1, dir: Dir::Input };
        self.graph.push(Work { pipeline: self.pipeline, target, event });
    }

    /// Sends an event to the left.
    pub fn back(&mut self, event: Event) {
        // Index 0 has nothing to its left: `usize::MAX` is the left end, told apart by `Graph::run`.
        let target = Target::Filter { index: self.index.wrapping_sub(1), dir: Dir::Output };
        self.graph.push(Work { pipeline: self.pipeline, target, event });
    }

    /// The time of this turn.
    pub fn now(&self) -> Instant {
        self.graph.now
    }

    /// Whether the worker drains.
    pub fn draining(&self) -> bool {
        self.graph.draining
    }

    /// The pipeline that this filter is part of.
    pub fn pipeline(&self) -> PipelineId {
        self.pipeline
    }

    /// Makes a sub-pipeline. What leaves it on the left comes to [`Filter::sub`] of this filter, with `slot`.
    pub fn open(&mut self, filters: Vec<Box<dyn crate::Filter>>, slot: Slot) -> PipelineId {
        let left = End::Filter { pipeline: self.pipeline, index: self.index, slot };
        self.graph.open(filters, left, End::Nothing)
    }

    /// Makes a sub-pipeline whose right end turns around: what leaves it there comes to [`Filter::sub`] too.
    pub fn open_turning(&mut self, filters: Vec<Box<dyn crate::Filter>>, slot: Slot) -> PipelineId {
        let left = End::Filter { pipeline: self.pipeline, index: self.index, slot };
        self.graph.open(filters, left, End::Turn)
    }

    /// Makes a pipeline with no owner; see [`Cx::adopt`].
    pub fn open_free(&mut self, filters: Vec<Box<dyn crate::Filter>>) -> PipelineId {
        self.graph.open(filters, End::Nothing, End::Nothing)
    }

    /// Takes a pipeline over: what leaves it on the left comes to this filter from now on.
    pub fn adopt(&mut self, pipeline: PipelineId, slot: Slot) {
        let left = End::Filter { pipeline: self.pipeline, index: self.index, slot };
        self.graph.set_left(pipeline, left);
    }

    /// Lets a pipeline go: what leaves it on the left is dropped until someone adopts it.
    pub fn disown(&mut self, pipeline: PipelineId) {
        self.graph.set_left(pipeline, End::Nothing);
    }

    /// Sends an event into a pipeline, at its left end.
    pub fn send(&mut self, pipeline: PipelineId, event: Event) {
        let target = Target::Filter { index: 0, dir: Dir::Input };
        self.graph.push(Work { pipeline, target, event });
    }

    /// Ends a pipeline in the middle of something: its filters are told, its sockets reset, so that the peer sees an error.
    pub fn destroy(&mut self, pipeline: PipelineId) {
        self.graph.destroy(pipeline, CloseReason::Reset);
    }

    /// Ends a pipeline that has nothing more to say: its filters are told, its sockets send what is queued and close.
    pub fn close(&mut self, pipeline: PipelineId) {
        self.graph.destroy(pipeline, CloseReason::Finished);
    }

    /// Whether a pipeline still exists.
    pub fn alive(&self, pipeline: PipelineId) -> bool {
        self.graph.alive(pipeline)
    }

    /// Connects the right end of a pipeline to an address. What the peer sends comes back as output; a failure as
    /// `Close`.
    pub fn connect(&mut self, pipeline: PipelineId, to: ConnectTo) -> SocketId {
        self.graph.connect(pipeline, to)
    }

    /// Connects the right end of a pipeline to an address over UDP: each `Data` is one datagram, both ways.
    pub fn connect_datagrams(&mut self, pipeline: PipelineId, to: ConnectTo) -> SocketId {
        self.graph.connect_datagrams(pipeline, to)
    }

    /// Connects the right end of a pipeline to the kernel, or to a program, by netlink: each `Data` is one packet, both ways.
    pub fn connect_netlink(&mut self, pipeline: PipelineId, to: NetlinkTo) -> SocketId {
        self.graph.connect_netlink(pipeline, to)
    }

    /// States how a socket is to be treated.
    pub fn limit(&mut self, socket: SocketId, limits: crate::SocketLimits) {
        self.graph.ops.push(crate::Op::Limit(socket, limits));
    }

    /// States that the client has said its last word, by its own account: its socket is closed as soon as this side is over.
    /// Else the end of its side is waited for, because what a client says to a closed socket is answered with a reset, which
    /// can destroy what it has not read yet. Does nothing where another filter stands between here and the socket, which
    /// may have something to hear.
    pub fn heard(&mut self) {
        if self.index == 0 {
            self.graph.heard(self.pipeline);
        }
    }

    /// By what this filter is woken later: see [`Graph::wake`].
    pub fn waker(&self, token: u32) -> crate::Waker {
        crate::Waker { pipeline: self.pipeline, index: self.index, token }
    }

    /// Wakes a filter: [`Filter::wake`] is called after this hook has returned.
    pub fn wake(&mut self, waker: crate::Waker) {
        self.graph.wake(waker);
    }

    /// Makes a pipeline that belongs to no filter and turns around at its right end.
    pub fn open_detached(&mut self, filters: Vec<Box<dyn crate::Filter>>) -> PipelineId {
        self.graph.open(filters, End::Nothing, End::Turn)
    }

    /// Asks for [`Filter::flush`] when all events of this turn are handled. Ask once per turn.
    pub fn defer(&mut self) {
        self.graph.deferred.push((self.pipeline, self.index));
    }

    /// Calls [`Filter::timer`] after a while, once.
    pub fn timer(&mut self, after: Duration, token: u32) -> TimerId {
        let at = self.graph.now + after;
        self.graph.set_timer(at, self.pipeline, self.index, token)
    }

    /// Cancels a timer; one that is due already does no harm.
    pub fn cancel(&mut self, timer: TimerId) {
        self.graph.cancel_timer(self.pipeline, timer);
    }
}
