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
//! A request is tried again without any policy only when it was certainly not carried out, or does no harm twice: no
//! connection to the endpoint could be made (then at another one); the peer says that it has not looked at it; or a kept
//! connection closed under it before a byte came, its method is idempotent, and all of its body is here (RFC 9110 section
//! 9.2.2). Everything else is the retry policy's (`pipy_upstream::RetryPolicy`).
//!
//! INVARIANT: what comes of a try that was given up never reaches the client: each try has a slot of its own.

mod attempt;
mod failure;
mod kept;
mod key;
mod open;
mod version;

use std::rc::Rc;

use pipy_http::{BodyLength, RequestHead};
use pipy_pipeline::{CloseReason, Cx, Event, Filter, Head, Slot, TimerId};
use pipy_upstream::HealthResult;

use crate::exchange::Exchange;
use crate::runtime::{Cluster, InFlight, Retrying};
use crate::stages::default::respond;

use attempt::Attempt;
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
        if matches!(self.find(cx, false), Found::Nothing)
            && let Some(head) = self.kept.take().and_then(|kept| kept.head)
        {
            self.in_flight = None;
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
    fn answered(&mut self, cx: &mut Cx<'_>, status: u16) -> bool {
        let exchange = Rc::clone(&self.exchange);
        let Some(cluster) = self.cluster_of(&exchange) else { return true };
        let Some(current) = &mut self.current else { return true };
        current.response_begun = true;
        let result = if status >= 500 { HealthResult::Failure } else { HealthResult::Success };
        current.report(cluster, result, cx.now());
        if self.retried(cx, cluster, status) {
            return false;
        }
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
            Event::Start(ref head, _) => {
                let begins = match head {
                    Head::Response(head) if !head.is_interim() => Some(head.status),
                    _ => None,
                };
                if begins.is_none_or(|status| self.answered(cx, status)) {
                    cx.back(event);
                }
            }
            Event::End(_) => {
                current.response_done = true;
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
