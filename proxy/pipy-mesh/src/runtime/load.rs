//! What a cluster carries in one worker, how much of it is allowed, and who waits.
//!
//! It outlives plans, as long as they name the cluster: requests of the plan before count, too. Everything is counted by
//! guards, so that whatever way a request or connection ends it is counted once.
//!
//! A request that finds no connection and may not open another waits in line. When a connection is given back or goes away,
//! the first in line is woken between two turns of the graph ([`Wakers`]) and tries again.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use pipy_config::ConnectionLimits;
use pipy_observe::ClusterCounters;
use pipy_pipeline::Waker;
use pipy_upstream::{Breaker, Budget};

/// LIMIT: requests that wait for a connection of a cluster, where the configuration sets none. Envoy's default.
const PENDING_MAX: usize = 1024;

/// Who is to be woken between two turns.
pub(crate) type Wakers = Rc<RefCell<Vec<Waker>>>;

/// See the module.
pub(crate) struct Load {
    limits: RefCell<ConnectionLimits>,
    connections: Cell<u32>,
    requests: Cell<u32>,
    retries: Cell<u32>,
    waiting: RefCell<VecDeque<Waker>>,
    wakers: Wakers,
    pub(crate) counters: Arc<ClusterCounters>,
    pub(crate) breaker: RefCell<Option<Breaker>>,
}

impl Load {
    pub(crate) fn new(counters: Arc<ClusterCounters>, wakers: &Wakers) -> Rc<Self> {
        Rc::new(Load {
            limits: RefCell::default(),
            connections: Cell::new(0),
            requests: Cell::new(0),
            retries: Cell::new(0),
            waiting: RefCell::default(),
            wakers: Rc::clone(wakers),
            counters,
            breaker: RefCell::default(),
        })
    }

    pub(crate) fn set_limits(&self, limits: &ConnectionLimits) {
        self.limits.replace(limits.clone());
        // A higher limit may let those in who wait.
        let waiting = self.waiting.borrow().len();
        (0..waiting).for_each(|_| self.wake_next());
    }

    /// Whether another connection may be opened.
    pub(crate) fn may_connect(&self) -> bool {
        below(self.connections.get(), self.limits.borrow().connections_max)
    }

    /// A connection; it counts as long as what is returned lives.
    pub(crate) fn connection(self: &Rc<Self>) -> Active {
        self.connections.set(self.connections.get() + 1);
        self.counters.cx_total.inc();
        self.counters.cx_active.inc();
        Active(Rc::clone(self))
    }

    /// A request; `None` when there are as many as may be.
    pub(crate) fn request(self: &Rc<Self>) -> Option<InFlight> {
        if !below(self.requests.get(), self.limits.borrow().requests_max) {
            return None;
        }
        self.requests.set(self.requests.get() + 1);
        self.counters.rq_active.inc();
        Some(InFlight(Rc::clone(self)))
    }

    /// A request that is tried again.
    pub(crate) fn retry(self: &Rc<Self>) -> Retrying {
        self.retries.set(self.retries.get() + 1);
        Retrying(Rc::clone(self))
    }

    pub(crate) fn budget(&self) -> Budget {
        let retries_max = self.limits.borrow().retries_max;
        Budget { requests: self.requests.get(), retries: self.retries.get(), retries_max }
    }

    /// Whether connections are limited: how many there are, how many requests wait for one, or how long one is used.
    pub(crate) fn limits_connections(&self) -> bool {
        let limits = self.limits.borrow();
        [limits.connections_max, limits.pending_max, limits.requests_per_connection_max] != [0; 3]
    }

    /// Requests after which a connection is not used again; 0: no limit.
    pub(crate) fn requests_per_connection_max(&self) -> u32 {
        self.limits.borrow().requests_per_connection_max
    }

    /// Gets in line; false when it is too long.
    pub(crate) fn wait(&self, waker: Waker) -> bool {
        let most = match self.limits.borrow().pending_max {
            0 => PENDING_MAX,
            most => most as usize,
        };
        let mut waiting = self.waiting.borrow_mut();
        let room = waiting.len() < most;
        if room {
            waiting.push_back(waker);
        }
        room
    }

    /// Gets in line again, at its head: someone else was faster.
    pub(crate) fn wait_again(&self, waker: Waker) {
        self.waiting.borrow_mut().push_front(waker);
    }

    /// Leaves the line. One that was woken already hands its turn on.
    pub(crate) fn give_up(&self, waker: Waker) {
        let mut waiting = self.waiting.borrow_mut();
        let before = waiting.len();
        waiting.retain(|other| *other != waker);
        let was_woken = waiting.len() == before;
        drop(waiting);
        if was_woken {
            self.wake_next();
        }
    }

    /// A connection can be used, or opened.
    pub(crate) fn wake_next(&self) {
        if let Some(waker) = self.waiting.borrow_mut().pop_front() {
            self.wakers.borrow_mut().push(waker);
        }
    }
}

fn below(count: u32, most: u32) -> bool {
    most == 0 || count < most
}

/// Counts a connection as long as it lives.
pub(crate) struct Active(Rc<Load>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.connections.set(self.0.connections.get().saturating_sub(1));
        self.0.counters.cx_active.dec();
        self.0.wake_next();
    }
}

/// Counts a request as long as it lives.
pub(crate) struct InFlight(Rc<Load>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.requests.set(self.0.requests.get().saturating_sub(1));
        self.0.counters.rq_active.dec();
    }
}

/// Counts a request that is tried again as long as it lives.
pub(crate) struct Retrying(Rc<Load>);

impl Drop for Retrying {
    fn drop(&mut self) {
        self.0.retries.set(self.0.retries.get().saturating_sub(1));
    }
}
