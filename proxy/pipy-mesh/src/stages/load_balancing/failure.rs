//! What becomes of a try that failed: another endpoint, another try after a pause, or an answer to the client.

use std::rc::Rc;

use pipy_pipeline::{CloseReason, Cx, Event};
use pipy_upstream::{HealthResult, Outcome, Verdict};

use super::fate::Fate;
use super::open::count_fault;
use super::{Found, LoadBalancing, TIMER_PAUSE};
use crate::runtime::Cluster;
use crate::stages::default::{respond, respond_with};

/// LIMIT: endpoints that one request is tried at because those before could not be reached. More would let a client wait
/// for one connect timeout after the other.
const ENDPOINTS_MAX: usize = 3;

impl LoadBalancing {
    /// The connection broke, or was never made.
    pub(super) fn broken(&mut self, cx: &mut Cx<'_>, reason: CloseReason) {
        let exchange = Rc::clone(&self.exchange);
        let (Some(current), Some((_, cluster))) = (self.current.take(), exchange.cluster()) else { return };
        let unreachable = is_unreachable(reason);
        let mut returned = current.lease.take_request();
        if current.response_done {
            return finish(cx, current, reason);
        }
        if current.paused {
            cx.back(Event::Resume);
        }
        let counters = current.counters();
        match reason {
            CloseReason::ConnectTimeout => counters.cx_connect_timeout.inc(),
            // A connection that proves nothing, or to someone else, was never made.
            _ if unreachable => counters.cx_connect_fail.inc(),
            _ => {
                if reason == CloseReason::Protocol {
                    counters.cx_protocol_error.inc();
                    count_fault(current.lease.session(), &exchange.connection.shared.metrics);
                }
                counters.cx_destroy_remote_with_active_rq.inc();
                counters.rq_rx_reset.inc();
            }
        }
        if current.response_begun {
            exchange.failure.set(Some(reason));
            finish(cx, current, reason);
            return cx.back(Event::Close(if reason.is_clean() { reason } else { CloseReason::Reset }));
        }
        // Only an exclusive session keeps what was sent; others give back what the peer has not looked at. Other sidecars say
        // that they close (TLS) only between two requests: what crosses that on its way is dropped unread.
        let session = current.lease.session();
        let member = current.in_hand.endpoint.identity.is_some();
        let declined = member && reason == CloseReason::Reset && session.was_declined();
        let untouched = returned.is_some() && (unreachable || declined || session.is_multiplexed());
        if !untouched && current.lease.session().is_multiplexed() {
            returned = current.lease.take_lost();
        }
        let idempotent = returned.as_ref().is_some_and(|head| head.method.is_idempotent());
        self.exposed |= !untouched;
        let lost = !untouched && reason == CloseReason::Reset && idempotent;
        let stale = (lost || declined) && !current.fresh;
        // The next connection to it will speak what it understands.
        let disagreed = untouched && current.lease.session().is_multiplexed() && self.speaks_less(&current);
        if !stale && !disagreed && (!untouched || unreachable) {
            let result = if unreachable { HealthResult::Unreachable } else { HealthResult::Failure };
            current.report(cluster, result, cx.now());
        }
        let position = current.position;
        finish(cx, current, reason);
        if let Some(kept) = &mut self.kept
            && kept.head.is_none()
        {
            kept.head = returned;
        }
        let again = stale || untouched || (lost && !self.repeated);
        if again && self.is_whole(untouched) && self.elsewhere(cx, position, stale || disagreed) {
            self.repeated |= lost && !stale;
            if !stale && !disagreed {
                cluster.load.counters.rq_elsewhere.inc();
            }
            return;
        }
        let status = status_of(reason);
        let outcome = if unreachable { Outcome::ConnectFailed(status) } else { Outcome::Reset(status) };
        if !self.tries_again(cx, cluster, outcome, untouched) {
            self.failed_for_good(cx, reason);
        }
    }

    /// The next try, at once: at the same endpoint when only its connection was stale, else at another.
    fn elsewhere(&mut self, cx: &mut Cx<'_>, position: usize, stale: bool) -> bool {
        if self.tried.len() + self.failed.len() + 1 >= ENDPOINTS_MAX && !stale {
            return false;
        }
        if !stale {
            self.tried.push(position);
        }
        // A stale connection is rarely alone: those that were kept beside it are tried one after the other, and each is
        // gone from the pool afterwards; so this ends.
        matches!(self.find(cx, false), Found::Done)
    }

    /// Whether another endpoint is tried because the sidecar of this one says that its application has not answered.
    pub(super) fn sent_elsewhere(
        &mut self,
        cx: &mut Cx<'_>,
        cluster: &Cluster,
        status: u16,
        fate: Fate,
    ) -> bool {
        let Some(mut current) = self.current.take() else { return false };
        if let Some(kept) = &mut self.kept
            && kept.head.is_none()
        {
            kept.head = current.lease.take_answered();
        }
        let head = self.kept.as_ref().and_then(|kept| kept.head.as_ref());
        let idempotent = head.is_some_and(|head| head.method.is_idempotent());
        let unsent = fate == Fate::Unsent;
        self.exposed |= !unsent;
        let before = self.exchange.facts.borrow().clone();
        let again = unsent || (idempotent && !self.repeated);
        if !again || !self.is_whole(unsent) || !self.elsewhere(cx, current.position, false) {
            // What was noted of a spare cluster without an endpoint is not where the answer comes from.
            self.exchange.facts.replace(before);
            self.current = Some(current);
            return false;
        }
        self.repeated |= !unsent;
        cluster.load.counters.rq_elsewhere.inc();
        cluster.load.counters.response(status);
        if current.paused {
            current.paused = false;
            cx.back(Event::Resume);
        }
        // What is left of the answer passes while the other is asked.
        if current.request_done && !self.congested {
            if let Some(spent) = self.spent.replace(current) {
                spent.give_up(cx);
            }
        } else {
            current.give_up(cx);
        }
        true
    }

    /// Whether an answer with this status is given up for another try.
    pub(super) fn retried(&mut self, cx: &mut Cx<'_>, cluster: &Cluster, status: u16) -> bool {
        let Some(policy) = &cluster.retry else { return false };
        if !policy.covers(Outcome::Status(status)) {
            if self.retries > 0 {
                cluster.load.counters.retry_success.inc();
            }
            return false;
        }
        if !self.tries_again(cx, cluster, Outcome::Status(status), false) {
            return false;
        }
        // The pause is time enough for most answers to pass, so that the connection can be used again.
        if let Some(current) = self.current.take() {
            cluster.load.counters.response(status);
            self.exposed = true;
            self.tried.push(current.position);
            if current.paused {
                cx.back(Event::Resume);
            }
            if current.request_done {
                self.spent = Some(current);
            } else {
                current.give_up(cx);
            }
        }
        true
    }

    /// Whether all of the request is here.
    fn is_whole(&self, untouched: bool) -> bool {
        self.kept.as_ref().is_some_and(|kept| kept.is_whole(untouched) && kept.head.is_some())
    }

    /// Asks the policy; when it says so, another try is made after a pause.
    fn tries_again(&mut self, cx: &mut Cx<'_>, cluster: &Cluster, outcome: Outcome, untouched: bool) -> bool {
        let Some(policy) = &cluster.retry else { return false };
        if !self.is_whole(untouched) {
            return false;
        }
        let counters = &cluster.load.counters;
        let mut dice = self.exchange.runtime.dice.borrow_mut();
        match policy.decide(outcome, self.retries, cluster.load.budget(), &mut dice) {
            Verdict::Answer => false,
            Verdict::Exhausted => {
                counters.retry_limit_exceeded.inc();
                false
            }
            Verdict::OverBudget => {
                counters.retry_overflow.inc();
                false
            }
            Verdict::Retry(pause) => {
                drop(dice);
                self.retries += 1;
                counters.retry.inc();
                counters.retry_backoff_exponential.inc();
                counters.request();
                if !matches!(outcome, Outcome::Status(_)) {
                    counters.response(0);
                }
                self.retrying.get_or_insert_with(|| cluster.load.retry());
                if let Some(timer) = self.timer.take() {
                    cx.cancel(timer);
                }
                self.timer = Some(cx.timer(pause, TIMER_PAUSE));
                true
            }
        }
    }

    /// The pause is over.
    pub(super) fn again(&mut self, cx: &mut Cx<'_>) {
        if let Some(spent) = self.spent.take() {
            spent.give_up(cx);
        }
        // When there is no other, one that has failed gets another chance.
        let exchange = Rc::clone(&self.exchange);
        if exchange.cluster().is_some_and(|(_, cluster)| self.tried.len() >= cluster.endpoints.len()) {
            self.tried.clear();
        }
        if let Found::Nothing = self.find(cx, false) {
            self.failed_for_good(cx, CloseReason::ConnectFailed);
        }
    }

    /// The answer to this try did not begin in time.
    pub(super) fn timed_out(&mut self, cx: &mut Cx<'_>) {
        let exchange = Rc::clone(&self.exchange);
        let Some((_, cluster)) = exchange.cluster() else { return };
        let Some(current) = self.current.take_if(|current| !current.response_begun) else { return };
        current.counters().rq_timeout.inc();
        current.counters().rq_tx_reset.inc();
        current.report(cluster, HealthResult::Failure, cx.now());
        if current.paused {
            cx.back(Event::Resume);
        }
        self.exposed = true;
        self.tried.push(current.position);
        current.give_up(cx);
        if !self.tries_again(cx, cluster, Outcome::Reset(504), false) {
            self.settled(cx);
            exchange.failure.set(Some(CloseReason::ConnectTimeout));
            exchange.answered_by.set(Some("the upstream did not answer in time"));
            respond(cx, 504, "upstream request timeout");
        }
    }

    /// Nothing has moved for too long. While no answer has begun it is the upstream's fault when it has the whole request,
    /// else the client's; later it may be either's, and nobody can be told more than that it is over.
    pub(super) fn idled(&mut self, cx: &mut Cx<'_>) {
        let exchange = Rc::clone(&self.exchange);
        if let Some(current) = self.current.take_if(|current| current.response_begun) {
            current.counters().cx_destroy_local_with_active_rq.inc();
            current.counters().rq_tx_reset.inc();
            current.give_up(cx);
            self.in_flight = None;
            exchange.failure.set(Some(CloseReason::IdleTimeout));
            return cx.back(Event::Close(CloseReason::Reset));
        }
        self.leave_line(cx);
        let mut whole = self.kept.as_ref().is_some_and(super::Kept::has_ended);
        if let (Some(current), Some((_, cluster))) = (self.current.take(), exchange.cluster()) {
            whole = current.request_done;
            current.counters().rq_tx_reset.inc();
            if whole {
                current.counters().rq_timeout.inc();
                current.report(cluster, HealthResult::Failure, cx.now());
            }
            if current.paused {
                cx.back(Event::Resume);
            }
            current.give_up(cx);
        }
        self.settled(cx);
        self.in_flight = None;
        exchange.failure.set(Some(CloseReason::IdleTimeout));
        match whole {
            true => respond(cx, 504, "upstream request timeout"),
            false => respond(cx, 408, "the request did not come in time"),
        }
    }

    /// Something comes of a try that was given up.
    pub(super) fn drained(&mut self, cx: &mut Cx<'_>, event: &Event) {
        let over = matches!(event, Event::End(_) | Event::Close(_));
        let Some(mut spent) = self.spent.take_if(|_| over) else { return };
        if matches!(event, Event::End(_)) {
            spent.response_done = true;
            spent.release(cx);
        } else {
            spent.give_up(cx);
        }
    }

    /// The client is told.
    pub(super) fn failed_for_good(&mut self, cx: &mut Cx<'_>, reason: CloseReason) {
        let told = self.told(reason);
        self.settled(cx);
        self.in_flight = None;
        self.exchange.failure.set(Some(reason));
        let text = match reason {
            CloseReason::ConnectTimeout => "upstream connect timeout",
            CloseReason::ConnectFailed => "upstream connect failure",
            CloseReason::WrongPeer => "upstream has another identity than expected",
            CloseReason::TlsFailed => "upstream TLS failure",
            CloseReason::Protocol => "upstream protocol error",
            _ => "upstream closed the connection",
        };
        respond_with(cx, status_of(reason), text, told);
    }
}

/// Ends a try whose connection is no longer of use.
fn finish(cx: &mut Cx<'_>, attempt: super::Attempt, reason: CloseReason) {
    match reason {
        // The alert that tells the peer what is wrong with it must still reach it.
        CloseReason::WrongPeer | CloseReason::TlsFailed => attempt.close(cx),
        _ => attempt.give_up(cx),
    }
}

/// Whether the request has certainly not reached an application.
pub(super) fn is_unreachable(reason: CloseReason) -> bool {
    matches!(
        reason,
        CloseReason::ConnectFailed
            | CloseReason::ConnectTimeout
            | CloseReason::WrongPeer
            | CloseReason::TlsFailed
    )
}

fn status_of(reason: CloseReason) -> u16 {
    if reason == CloseReason::ConnectTimeout { 504 } else { 502 }
}
