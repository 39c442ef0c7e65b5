//! Sessions: connections to a server that carry requests, as their users and the pool that keeps them see them.
//!
//! ```text
//!   exclusive (HTTP/1)                       multiplexed (HTTP/2)
//!   one request at a time; its filter        many at once; each request's filter and the
//!   owns the session's pipeline meanwhile    session's filter know each other by ports
//! ```
//!
//! Whoever has a request takes a [`Lease`] and speaks through it; which of the two it is makes no difference. The codec's
//! filter states what becomes of the connection ([`Session::retire`]) and, when it is multiplexed, whom it answers
//! ([`Session::client`]).
//!
//! INVARIANT: a session that was retired takes no more requests, ever. Not here: who keeps sessions (the pool), and the
//! bytes on them (the codecs' filters).

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use pipy_http::RequestHead;
use pipy_pipeline::{CloseReason, Cx, Event, PipelineId, Port, Slot};

use crate::ids::Ids;

/// A connection that carries requests.
pub struct Session {
    pipeline: Cell<Option<PipelineId>>,
    open: Cell<bool>,
    /// Whether the server has been heard: until then the connection may still fail to be made.
    heard: Cell<bool>,
    /// Since when it carries nothing; `None` while it is in use.
    idle_since: Cell<Option<Instant>>,
    requests: Cell<u32>,
    requests_max: Cell<u32>,
    sent: Cell<u64>,
    received: Cell<u64>,
    /// The server ended the connection in good order before it said a word about the request in progress.
    declined: Cell<bool>,
    /// How the server broke the rules, in a word.
    fault: Cell<Option<&'static str>>,
    /// The head of the request in progress, until a response to it begins. Exclusive sessions only.
    request: Cell<Option<Box<RequestHead>>>,
    streams: Option<Streams>,
}

/// What a multiplexed session carries.
#[derive(Default)]
struct Streams {
    capacity: Cell<u32>,
    next: Cell<Slot>,
    clients: RefCell<Ids<Port>>,
    /// Requests that have ended without an answer and without an owner's doing.
    returned: RefCell<Vec<Returned>>,
}

/// A request that comes back.
struct Returned {
    stream: Slot,
    head: Box<RequestHead>,
    /// It was certainly not carried out.
    untouched: bool,
}

/// Whether a gateway answers so for a server that it did not reach: then the request is kept a little longer, for who knows
/// that it may be sent to another ([`Lease::take_answered`]).
pub fn is_of_gateway(status: u16) -> bool {
    matches!(status, 502 | 504)
}

impl Default for Session {
    fn default() -> Self {
        Session::exclusive()
    }
}

impl Session {
    /// A session that carries one request after the other.
    pub fn exclusive() -> Self {
        Session {
            pipeline: Cell::new(None),
            open: Cell::new(true),
            heard: Cell::new(false),
            idle_since: Cell::new(None),
            requests: Cell::new(0),
            requests_max: Cell::new(0),
            sent: Cell::new(0),
            received: Cell::new(0),
            declined: Cell::new(false),
            fault: Cell::new(None),
            request: Cell::new(None),
            streams: None,
        }
    }

    /// A session that carries up to so many requests at once; the codec corrects the number when the peer has said
    /// how many it takes.
    pub fn multiplexed(capacity: u32) -> Self {
        let streams = Streams { capacity: Cell::new(capacity), ..Streams::default() };
        Session { streams: Some(streams), ..Session::exclusive() }
    }

    /// Whether it carries many requests at once.
    pub fn is_multiplexed(&self) -> bool {
        self.streams.is_some()
    }

    /// Its pipeline, once it was made.
    pub fn pipeline(&self) -> Option<PipelineId> {
        self.pipeline.get()
    }

    /// Whether another request may use it, when those that do are done.
    pub fn reusable(&self) -> bool {
        let most = self.requests_max.get();
        self.open.get() && (most == 0 || self.requests.get() < most)
    }

    /// Whether another request may use it now.
    pub fn has_room(&self) -> bool {
        let room = match &self.streams {
            None => self.idle_since.get().is_some() || self.requests.get() == 0,
            Some(streams) => streams.clients.borrow().len() < streams.capacity.get() as usize,
        };
        room && self.reusable()
    }

    /// How many requests it carries.
    pub fn active(&self) -> usize {
        match &self.streams {
            None => usize::from(self.idle_since.get().is_none()),
            Some(streams) => streams.clients.borrow().len(),
        }
    }

    /// Requests that it has begun.
    pub fn requests(&self) -> u32 {
        self.requests.get()
    }

    /// States after how many requests it is not used again; 0: no limit.
    pub fn set_requests_max(&self, most: u32) {
        self.requests_max.set(most);
    }

    /// Whether the server has said anything yet.
    pub fn was_heard(&self) -> bool {
        self.heard.get()
    }

    /// Since when it carries nothing.
    pub fn idle_since(&self) -> Option<Instant> {
        self.idle_since.get()
    }

    /// Marks it as idle since then, or as in use.
    pub fn set_idle(&self, since: Option<Instant>) {
        self.idle_since.set(since);
    }

    /// It takes no more requests: the peer said so, it broke, or its endpoint is gone.
    pub fn retire(&self) {
        self.open.set(false);
    }

    /// Bytes sent and received since the last time this was asked.
    pub fn take_bytes(&self) -> (u64, u64) {
        (self.sent.take(), self.received.take())
    }

    /// States that the server has ended the connection in good order before it said a word about the request in progress. For
    /// the codec's filter of an exclusive session.
    pub fn decline(&self) {
        self.declined.set(true);
    }

    /// Whether it has. A server that ends connections in good order only between two requests has then not looked at it;
    /// whether this one does, the caller must know.
    pub fn was_declined(&self) -> bool {
        self.declined.get()
    }

    /// States how the server has broken the rules: a short, stable word for counters. For the codec's filter.
    pub fn set_fault(&self, label: &'static str) {
        self.fault.set(Some(label));
    }

    /// How the server has broken the rules, if it has since the last time this was asked.
    pub fn take_fault(&self) -> Option<&'static str> {
        self.fault.take()
    }

    /// States its pipeline. For the codec's filter.
    pub fn set_pipeline(&self, pipeline: PipelineId) {
        self.pipeline.set(Some(pipeline));
    }

    /// A request has begun; an exclusive session keeps its head for [`Lease::take_request`]. For the codec's filter.
    pub fn request_begun(&self, head: Option<Box<RequestHead>>) {
        self.requests.set(self.requests.get().saturating_add(1));
        self.request.set(head);
    }

    /// The head of the request in progress, when no response to it has begun but that of a gateway. Exclusive sessions only.
    pub fn take_request(&self) -> Option<Box<RequestHead>> {
        self.request.take()
    }

    /// A response has begun: the request can't be taken back. For the codec's filter.
    pub fn response_begun(&self) {
        self.request.take();
    }

    /// Counts bytes on the connection. For the codec's filter.
    pub fn count(&self, sent: usize, received: usize) {
        self.sent.set(self.sent.get() + sent as u64);
        self.received.set(self.received.get() + received as u64);
        if received > 0 {
            self.heard.set(true);
        }
    }

    /// How many requests the peer takes at once. For the codec's filter.
    pub fn set_capacity(&self, capacity: u32) {
        if let Some(streams) = &self.streams {
            streams.capacity.set(capacity);
        }
    }

    /// Where the client of a stream takes answers; `None` when it has gone. For the codec's filter, which learns the
    /// slot with the first event.
    pub fn client(&self, stream: Slot) -> Option<Port> {
        self.streams.as_ref()?.clients.borrow().get(&stream).copied()
    }

    /// A request that was certainly not carried out is given back, before its stream's `Close` is sent. For the codec's
    /// filter.
    pub fn give_back(&self, stream: Slot, head: Box<RequestHead>) {
        self.take_back(Returned { stream, head, untouched: true });
    }

    /// The connection has ended before an answer to a request began; nobody knows what became of it. As
    /// [`Session::give_back`].
    pub fn lose(&self, stream: Slot, head: Box<RequestHead>) {
        self.take_back(Returned { stream, head, untouched: false });
    }

    fn take_back(&self, returned: Returned) {
        if let Some(streams) = &self.streams {
            streams.returned.borrow_mut().push(returned);
        }
    }
}

/// The use of a session for one request.
pub struct Lease {
    session: Rc<Session>,
    way: Way,
}

#[derive(Clone, Copy)]
enum Way {
    Pipeline(PipelineId),
    Stream(Port),
}

impl Lease {
    /// Takes a session with room: what comes of it comes to `sub` of the caller's filter, with this slot. `None` when its
    /// pipeline was never made.
    pub fn take(session: &Rc<Session>, cx: &mut Cx<'_>, slot: Slot) -> Option<Lease> {
        let pipeline = session.pipeline()?;
        session.set_idle(None);
        let way = match &session.streams {
            None => {
                cx.adopt(pipeline, slot);
                Way::Pipeline(pipeline)
            }
            Some(streams) => {
                let stream = streams.next.get();
                streams.next.set(stream.wrapping_add(1));
                streams.clients.borrow_mut().insert(stream, cx.port(slot));
                Way::Stream(Port::first_of(pipeline, stream))
            }
        };
        Some(Lease { session: Rc::clone(session), way })
    }

    /// The session.
    pub fn session(&self) -> &Rc<Session> {
        &self.session
    }

    /// Sends an event towards the server.
    pub fn send(&self, cx: &mut Cx<'_>, event: Event) {
        match self.way {
            Way::Pipeline(pipeline) => cx.send(pipeline, event),
            Way::Stream(port) => cx.send_to(port, event),
        }
    }

    /// The head of the request, when no response to it has begun and it was sent or is known not to have been: for
    /// another try elsewhere.
    pub fn take_request(&self) -> Option<Box<RequestHead>> {
        match self.way {
            Way::Pipeline(_) => self.session.take_request(),
            Way::Stream(port) => self.returned(port.slot(), true),
        }
    }

    /// The head of a request that a gateway has answered for a server that it did not reach ([`is_of_gateway`]).
    pub fn take_answered(&self) -> Option<Box<RequestHead>> {
        match self.way {
            Way::Pipeline(_) => self.session.take_request(),
            Way::Stream(port) => self.returned(port.slot(), false),
        }
    }

    /// The head of a request that shared its connection with others when that ended, and of which nobody knows whether it
    /// was carried out.
    pub fn take_lost(&self) -> Option<Box<RequestHead>> {
        match self.way {
            Way::Pipeline(_) => None,
            Way::Stream(port) => self.returned(port.slot(), false),
        }
    }

    fn returned(&self, slot: Slot, wanted: bool) -> Option<Box<RequestHead>> {
        let mut all = self.session.streams.as_ref()?.returned.borrow_mut();
        let place = all.iter().position(|one| one.stream == slot && one.untouched == wanted)?;
        Some(all.swap_remove(place).head)
    }

    /// Both messages were complete. An exclusive session that can be used again is let go and returned, for the pool; one
    /// that can't is closed.
    pub fn release(self, cx: &mut Cx<'_>, keep: bool) -> Option<Rc<Session>> {
        match self.way {
            Way::Pipeline(pipeline) if keep && self.session.reusable() => {
                self.session.set_idle(Some(cx.now()));
                cx.disown(pipeline);
                Some(Rc::clone(&self.session))
            }
            Way::Pipeline(pipeline) => {
                self.session.retire();
                cx.close(pipeline);
                None
            }
            Way::Stream(port) => {
                self.forget(cx, port);
                None
            }
        }
    }

    /// Ends the exchange in the middle: the server sees that it was given up.
    pub fn abort(self, cx: &mut Cx<'_>) {
        self.end(cx, CloseReason::Reset);
    }

    /// Ends the exchange; what was said last still reaches the server.
    pub fn close(self, cx: &mut Cx<'_>) {
        self.end(cx, CloseReason::Finished);
    }

    fn end(&self, cx: &mut Cx<'_>, reason: CloseReason) {
        match self.way {
            Way::Pipeline(pipeline) => {
                self.session.retire();
                if reason.is_clean() { cx.close(pipeline) } else { cx.destroy(pipeline) }
            }
            Way::Stream(port) => {
                cx.send_to(port, Event::Close(reason));
                self.forget(cx, port);
            }
        }
    }

    fn forget(&self, cx: &mut Cx<'_>, port: Port) {
        let Some(streams) = &self.session.streams else { return };
        streams.returned.borrow_mut().retain(|one| one.stream != port.slot());
        let mut clients = streams.clients.borrow_mut();
        clients.remove(&port.slot());
        if clients.is_empty() {
            self.session.set_idle(Some(cx.now()));
            // Nobody takes a retired session up again: it can go when it is empty.
            if !self.session.reusable() {
                cx.send(port.pipeline(), Event::Close(CloseReason::Finished));
            }
        }
    }
}
