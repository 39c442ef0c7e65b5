//! Load balancing: picks an endpoint for the request, takes a connection to it, carries both messages, and tries again
//! where that is safe or wished for.
//!
//! ```text
//!              ┌──────── no connection may be opened: in line ───────┐
//!              │                                                     ▼
//!   request ──►pick──► connection ──► sent ──► answer begins ──► both ended
//!              ▲                        │            │
//!              └── another endpoint, ◄──┴────────────┘ a status that is retried
//!                  or after a pause
//! ```
//!
//! A request is tried again without any policy only when it was certainly not carried out, or does no harm twice, and all
//! of its body is here:
//!
//! - at another endpoint, when no connection to the first could be made, by us or by its sidecar (`fate.rs`);
//! - when the peer says that it has not looked at it (HTTP/2), or is a sidecar that has ended the connection in good order
//!   before a word about it (HTTP/1);
//! - where its method is idempotent (RFC 9110 section 9.2.2): when a kept connection closed under it before an answer
//!   began; and once at another endpoint, when a new one did, or that of its sidecar to the application.
//!
//! Everything else is the retry policy's (`pipy_upstream::RetryPolicy`).
//!
//! INVARIANT: what comes of a try that was given up never reaches the client: each try has a slot of its own.

mod attempt;
mod failure;
mod fate;
mod kept;
mod key;
mod open;
mod version;

use std::rc::Rc;

use pipy_filters::is_of_gateway;
use pipy_http::{BodyLength, RequestHead, ResponseHead};
use pipy_pipeline::{CloseReason, Cx, Event, Filter, Head, Slot, TimerId};
use pipy_upstream::HealthResult;

use crate::exchange::Exchange;
use crate::runtime::{Cluster, InFlight, Retrying};
use crate::stages::default::respond;

use attempt::Attempt;
use fate::Fate;
use kept::Kept;

pub(crate) use key::of_address;
pub(crate) use open::{Upstream, also, open_upstream, source};

pub(super) fn stage(exchange: &Rc<Exchange>) -> Box<dyn Filter> {
    Box::new(LoadBalancing {
        exchange: Rc::clone(exchange),
        kept: None,
        key: None,
        current: None,
        spent: None,
        tries: 0,
        retries: 0,
        exposed: false,
        repeated: false,
        tried: Vec::new(),
        failed: Vec::new(),
        in_flight: None,
        retrying: None,
        waiting: false,
        timer: None,
        congested: false,
        held: false,
    })
}

struct LoadBalancing {
    exchange: Rc<Exchange>,
    /// The request, until nothing of it will be sent again.
    kept: Option<Kept>,
    /// Its key, for a policy that hashes.
    key: Option<u64>,
    current: Option<Attempt>,
    /// A try whose answer nobody wants: its connection may be used again when the answer has passed.
    spent: Option<Attempt>,
    /// Number of the try; the slot that its events come under.
    tries: Slot,
    /// Retries that the policy has made.
    retries: u32,
    /// A server may have got some of it.
    exposed: bool,
    /// It was sent again although it may have been carried out.
    repeated: bool,
    /// Endpoints of the cluster that this request has failed at.
    tried: Vec<usize>,
    /// Clusters that have no endpoint left for it.
    failed: Vec<usize>,
    in_flight: Option<InFlight>,
    retrying: Option<Retrying>,
    /// In line for a connection.
    waiting: bool,
    timer: Option<TimerId>,
    /// The client's side can't take more.
    congested: bool,
    /// We have told the client's side to wait.
    held: bool,
}

const TIMER_PAUSE: u32 = 0;
const TIMER_TRY: u32 = 1;
const TIMER_LINE: u32 = 2;

const WAKE: u32 = 0;

/// What to do with a request for which an endpoint is looked for.
enum Found {
    /// It is under way, waits, or was answered.
    Done,
    /// There is no endpoint: it is the next stage's.
    Nothing,
}

impl LoadBalancing {
    fn cluster(&self) -> Option<&Cluster> {
        self.exchange.cluster().map(|(_, cluster)| cluster)
    }

    fn request(&mut self, cx: &mut Cx<'_>, head: Box<RequestHead>, length: BodyLength) {
        let exchange = Rc::clone(&self.exchange);
        let Some((position, cluster)) = exchange.cluster() else {
            return cx.forward(Event::Start(Head::Request(head), length));
        };
        if let Some(plan) = exchange.runtime.plan.clusters.get(position) {
            let client = exchange.connection.accepted.peer.ip();
            self.key = key::of(&plan.config.balancing, &head, client);
        }
        self.in_flight = cluster.load.request();
        if self.in_flight.is_none() {
            cluster.load.counters.rq_overflow.inc();
            return self.overflow(cx, "upstream overflow: too many requests under way");
        }
        self.kept = Some(Kept::new(head, length));
        exchange.unfinished.set(true);
        if matches!(self.find(cx, false), Found::Nothing)
            && let Some(head) = self.kept.take().and_then(|kept| kept.head)
        {
            self.in_flight = None;
            exchange.unfinished.set(false);
            cx.forward(Event::Start(Head::Request(head), length));
        }
    }

    fn overflow(&mut self, cx: &mut Cx<'_>, text: &'static str) {
        self.exchange.failure.set(Some(CloseReason::Overloaded));
        self.kept = None;
        respond(cx, 503, text);
    }

    /// Takes the event of the client's that belongs to the request.
    fn carry(&mut self, cx: &mut Cx<'_>, event: Event) {
        if let Some(kept) = &mut self.kept {
            kept.note(&event, self.current.is_some());
            // Nobody takes it at the moment: the client should not send it all.
            if self.current.is_none() && kept.is_full() && !self.held {
                self.held = true;
                cx.back(Event::Pause);
            }
        }
        let Some(current) = &mut self.current else { return };
        let end = matches!(event, Event::End(_));
        current.client_finished |= matches!(event, Event::Close(reason) if reason.is_clean());
        current.request_done |= end;
        current.lease.send(cx, event);
        self.release(cx);
    }

    /// An answer begins. False when it is not for the client: the request is tried again.
    fn answered(&mut self, cx: &mut Cx<'_>, head: &mut ResponseHead) -> bool {
        let exchange = Rc::clone(&self.exchange);
        let Some(cluster) = self.cluster_of(&exchange) else { return true };
        let fate = if is_of_gateway(head.status) { self.fate(head) } else { None };
        let Some(current) = &mut self.current else { return true };
        current.response_begun = true;
        let result = match fate {
            Some(Fate::Unsent) => HealthResult::Unreachable,
            _ if head.status >= 500 => HealthResult::Failure,
            _ => HealthResult::Success,
        };
        current.report(cluster, result, cx.now());
        if fate.is_some_and(|fate| self.sent_elsewhere(cx, cluster, head.status, fate))
            || self.retried(cx, cluster, head.status)
        {
            return false;
        }
        // Whoever ends a tunnel leaves nothing unfinished.
        let opened = self.kept.as_ref().is_some_and(|kept| kept.opens_tunnel(head.status));
        exchange.unfinished.set(!opened);
        self.settled(cx);
        true
    }

    fn cluster_of<'e>(&self, exchange: &'e Exchange) -> Option<&'e Cluster> {
        exchange.cluster().map(|(_, cluster)| cluster)
    }

    /// The client gets what there is: nothing will be sent again.
    fn settled(&mut self, cx: &mut Cx<'_>) {
        self.kept = None;
        self.retrying = None;
        if let Some(timer) = self.timer.take() {
            cx.cancel(timer);
        }
    }

    /// Both messages are complete: the connection is free.
    fn release(&mut self, cx: &mut Cx<'_>) {
        let Some(current) = self.current.take_if(|c| c.request_done && c.response_done) else { return };
        if self.congested {
            current.lease.send(cx, Event::Resume);
        }
        self.in_flight = None;
        current.release(cx);
    }

    fn leave_line(&mut self, cx: &Cx<'_>) {
        if std::mem::take(&mut self.waiting)
            && let Some(cluster) = self.cluster()
        {
            cluster.load.give_up(cx.waker(WAKE));
        }
    }
}

impl Filter for LoadBalancing {
    fn name(&self) -> &'static str {
        "http-load-balancing"
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        match event {
            Event::Start(Head::Request(head), length) => self.request(cx, head, length),
            Event::Pause | Event::Resume => {
                self.congested = matches!(event, Event::Pause);
                if let Some(current) = &self.current {
                    current.lease.send(cx, event);
                }
            }
            other if self.current.is_none() && self.kept.is_none() => cx.forward(other),
            Event::Close(CloseReason::IdleTimeout) => self.idled(cx),
            other => self.carry(cx, other),
        }
    }

    fn sub(&mut self, cx: &mut Cx<'_>, slot: Slot, event: Event) {
        if slot != self.tries {
            return self.drained(cx, &event);
        }
        let Some(current) = &mut self.current else { return self.drained(cx, &event) };
        match event {
            Event::Start(mut head, length) => {
                let wanted = match &mut head {
                    Head::Response(head) if !head.is_interim() => self.answered(cx, head),
                    _ => true,
                };
                if wanted {
                    cx.back(Event::Start(head, length));
                }
            }
            Event::End(_) => {
                current.response_done = true;
                self.exchange.unfinished.set(false);
                cx.back(event);
                self.release(cx);
            }
            // Only in a tunnel is the end of the server's words no failure; the client may go on.
            Event::Close(reason) if reason.is_clean() && current.response_begun => {
                current.server_finished = true;
                cx.back(event);
            }
            Event::Close(reason) => self.broken(cx, reason),
            Event::Pause | Event::Resume => {
                current.paused = matches!(event, Event::Pause);
                cx.back(event);
            }
            Event::Data(_) | Event::Custom(_) => cx.back(event),
        }
    }

    fn timer(&mut self, cx: &mut Cx<'_>, token: u32) {
        self.timer = None;
        match token {
            TIMER_PAUSE => self.again(cx),
            TIMER_TRY => self.timed_out(cx),
            _ if self.waiting => {
                self.leave_line(cx);
                if let Some(cluster) = self.cluster() {
                    cluster.load.counters.rq_pending_failure_eject.inc();
                }
                self.overflow(cx, "upstream overflow: no connection became free in time");
            }
            _ => {}
        }
    }

    fn wake(&mut self, cx: &mut Cx<'_>, _token: u32) {
        if self.waiting
            && let Found::Nothing = self.find(cx, true)
        {
            self.waiting = false;
            self.failed_for_good(cx, CloseReason::ConnectFailed);
        }
    }

    fn closed(&mut self, cx: &mut Cx<'_>) {
        self.leave_line(cx);
        if self.exchange.unfinished.get()
            && self.exchange.failure.get().is_none()
            && let Some(cluster) = self.cluster()
        {
            cluster.load.counters.rq_client_closed.inc();
        }
        if let Some(spent) = self.spent.take() {
            spent.give_up(cx);
        }
        if let Some(current) = self.current.take() {
            if current.client_finished && current.server_finished {
                return current.close(cx);
            }
            if !current.response_done {
                current.counters().cx_destroy_local_with_active_rq.inc();
                current.counters().rq_tx_reset.inc();
            }
            current.give_up(cx);
        }
    }
}
