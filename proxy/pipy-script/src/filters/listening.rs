//! The options of a listener, and what they mean for a connection: limits of time, and how many there may be.
//!
//! A connection is watched at its left end, and, where what leaves it turns around at the right end, there too. INVARIANT: a
//! connection that took a place gives it back when its pipeline is gone, however it ended.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pipy_pipeline::{CloseReason, Cx, Event, Filter, SocketLimits};
use rquickjs::{Ctx, Object, Result};

use super::connect::socket_limits;
use super::options::Options;
use super::values::is_close;

/// LIMIT: connections on which nothing moves for so long are ended, unless the script says otherwise.
const IDLE: Duration = Duration::from_secs(60);

/// How long a peer over UDP may be silent when the worker drains.
const UDP_DRAIN: Duration = Duration::from_millis(500);

/// What a listener takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// Connections.
    #[default]
    Tcp,
    /// Datagrams that are sent to it.
    Udp,
    /// Datagrams besides that the firewall has captured for it, on their way to someone else.
    CapturedUdp,
}

impl Transport {
    /// Whether it takes datagrams.
    #[must_use]
    pub const fn is_datagrams(self) -> bool {
        !matches!(self, Transport::Tcp)
    }
}

/// How long a client that was told of the end may go on without a word when the worker drains: some never close.
const LINGER: Duration = Duration::from_secs(1);

/// The options of a listener.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Listen {
    pub(crate) transport: Transport,
    /// Captured datagrams are answered in the name of whom they were sent to.
    pub(crate) masquerade: bool,
    /// Connections at a time, of one worker and of the port.
    connections_max: Option<usize>,
    port_connections_max: Option<usize>,
    idle: Option<Duration>,
    read: Duration,
    write: Duration,
    limits: Option<SocketLimits>,
}

impl Listen {
    /// Reads what a script has given; `label` names the listener.
    pub(crate) fn read<'js>(ctx: &Ctx<'js>, label: &str, object: Option<Object<'js>>) -> Result<Self> {
        let Some(object) = object else { return Ok(Listen::default()) };
        let options = Options::new(ctx, "listen", label, object)?;
        let most = |name: &str| -> Result<Option<usize>> {
            Ok(options.count(name)?.and_then(|most| usize::try_from(most).ok()))
        };
        let limits = socket_limits(&options)?;
        let masquerade = options.flag("masquerade")?.unwrap_or(false);
        let captures = masquerade || options.flag("transparent")?.unwrap_or(false);
        Ok(Listen {
            // A redirected connection is recognised wherever it arrives; of datagrams the socket must be made for it.
            transport: match options.one_of("protocol", &["tcp", "udp"])? {
                Some("udp") if captures => Transport::CapturedUdp,
                Some("udp") => Transport::Udp,
                _ => Transport::Tcp,
            },
            masquerade,
            connections_max: most("maxConnections")?,
            port_connections_max: most("maxPortConnections")?,
            idle: options.duration("idleTimeout")?,
            read: options.duration("readTimeout")?.unwrap_or_default(),
            write: options.duration("writeTimeout")?.unwrap_or_default(),
            limits: (limits != SocketLimits::default()).then_some(limits),
        })
    }

    /// How the sockets of its connections are treated.
    pub(crate) fn limits(&self) -> Option<SocketLimits> {
        self.limits
    }
}

/// Connections of one port, over all workers.
static PORTS: LazyLock<Mutex<HashMap<String, Arc<AtomicUsize>>>> = LazyLock::new(Mutex::default);

/// The places of a listener: how many are taken, and how many there are.
pub(crate) struct Places {
    listen: Listen,
    taken: Rc<Cell<usize>>,
    /// Counted where the port has a limit.
    port: Option<Arc<AtomicUsize>>,
    /// A place of the port that was taken for a connection which is about to be accepted: several workers look at once.
    reserved: Cell<bool>,
}

impl Places {
    pub(crate) fn new(listen: Listen, address: &str) -> Self {
        let port = listen.port_connections_max.map(|_| {
            let mut ports = PORTS.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(ports.entry(address.to_owned()).or_default())
        });
        Places { listen, taken: Rc::default(), port, reserved: Cell::new(false) }
    }

    pub(crate) fn listen(&self) -> &Listen {
        &self.listen
    }

    /// Whether there is one left, which is kept for the next connection until [`Places::release`].
    pub(crate) fn any(&self) -> bool {
        let here = self.listen.connections_max.is_none_or(|most| self.taken.get() < most);
        here && (self.port.is_none() || self.reserved.get() || self.reserve())
    }

    fn reserve(&self) -> bool {
        let most = self.listen.port_connections_max.unwrap_or(usize::MAX);
        let one_more = |taken: usize| (taken < most).then_some(taken + 1);
        let reserved = self
            .port
            .as_ref()
            .is_some_and(|port| port.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok());
        self.reserved.set(reserved);
        reserved
    }

    /// Gives a place back that nobody has come for.
    pub(crate) fn release(&self) {
        if let (true, Some(port)) = (self.reserved.replace(false), &self.port) {
            port.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Puts what the options ask for around a connection's filters. `turning` where what the last one sends on goes back.
    pub(crate) fn around(&self, row: &mut Vec<Box<dyn Filter>>, turning: bool) {
        let listen = &self.listen;
        // Filters of two directions that stand alone have limits of their own.
        let idle = listen.idle.unwrap_or(if turning { IDLE } else { Duration::ZERO });
        let counted = listen.connections_max.is_some() || self.port.is_some();
        if !counted && idle.is_zero() && listen.read.is_zero() && listen.write.is_zero() {
            return;
        }
        self.taken.set(self.taken.get() + 1);
        if let (false, Some(port)) = (self.reserved.replace(false), &self.port) {
            port.fetch_add(1, Ordering::Relaxed);
        }
        let activity = Rc::new(Activity::default());
        let watch = Watch {
            udp: listen.transport.is_datagrams(),
            idle,
            read: listen.read,
            write: listen.write,
            activity: Rc::clone(&activity),
            over: None,
            taken: Rc::clone(&self.taken),
            port: self.port.clone(),
        };
        row.insert(0, Box::new(watch));
        if turning {
            row.push(Box::new(Going(activity)));
        }
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        self.release();
    }
}

/// When something moved last.
#[derive(Default)]
struct Activity {
    came: Cell<Option<Instant>>,
    moved: Cell<Option<Instant>>,
    /// Since when the client takes nothing of what waits.
    congested: Cell<Option<Instant>>,
    /// The client was told all that there is.
    said: Cell<bool>,
}

impl Activity {
    /// Something goes to the client.
    fn goes(&self, cx: &mut Cx<'_>, event: &Event) {
        self.moved.set(Some(cx.now()));
        if is_close(event) {
            self.said.set(true);
            self.linger(cx, LINGER);
        }
    }

    /// Looks again whether the client has left, where that is all that is waited for.
    fn linger(&self, cx: &mut Cx<'_>, after: Duration) {
        if cx.draining() && self.said.get() {
            cx.timer(after, TIMER_LINGER);
        }
    }

    /// Ends the connection of a client that only does not close.
    fn lingered(&self, cx: &mut Cx<'_>) {
        let passed = self.moved.get().map_or(LINGER, |moved| cx.now().saturating_duration_since(moved));
        match LINGER.checked_sub(passed).filter(|left| !left.is_zero()) {
            Some(left) => self.linger(cx, left),
            None => {
                let own = cx.pipeline();
                cx.close(own);
            }
        }
    }
}

/// The left end of a connection.
struct Watch {
    /// Peers that say nothing of their end.
    udp: bool,
    idle: Duration,
    read: Duration,
    write: Duration,
    activity: Rc<Activity>,
    over: Option<CloseReason>,
    taken: Rc<Cell<usize>>,
    port: Option<Arc<AtomicUsize>>,
}

const TIMER_IDLE: u32 = 0;
const TIMER_READ: u32 = 1;
const TIMER_WRITE: u32 = 2;
const TIMER_LINGER: u32 = 3;

impl Filter for Watch {
    fn name(&self) -> &'static str {
        "listen"
    }

    fn start(&mut self, cx: &mut Cx<'_>) {
        let now = Some(cx.now());
        self.activity.came.set(now);
        self.activity.moved.set(now);
        for (time, token) in [(self.idle, TIMER_IDLE), (self.read, TIMER_READ)] {
            if !time.is_zero() {
                cx.timer(time, token);
            }
        }
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        let now = Some(cx.now());
        match &event {
            // The client can't take more; then it can.
            Event::Pause => {
                self.activity.congested.set(now);
                if !self.write.is_zero() {
                    cx.timer(self.write, TIMER_WRITE);
                }
            }
            Event::Resume => self.activity.congested.set(None),
            _ => {
                self.activity.came.set(now);
                self.activity.moved.set(now);
            }
        }
        cx.forward(event);
    }

    fn output(&mut self, cx: &mut Cx<'_>, event: Event) {
        self.activity.goes(cx, &event);
        cx.back(event);
    }

    fn timer(&mut self, cx: &mut Cx<'_>, token: u32) {
        let activity = &self.activity;
        if token == TIMER_LINGER {
            return activity.lingered(cx);
        }
        let (since, limit, reason) = match token {
            TIMER_IDLE => (activity.moved.get(), self.idle, CloseReason::IdleTimeout),
            TIMER_READ => (activity.came.get(), self.read, CloseReason::ReadTimeout),
            _ => (activity.congested.get(), self.write, CloseReason::WriteTimeout),
        };
        let Some(since) = since.filter(|_| self.over.is_none()) else { return };
        let passed = cx.now().saturating_duration_since(since);
        match limit.checked_sub(passed).filter(|left| !left.is_zero()) {
            Some(left) => drop(cx.timer(left, token)),
            None => {
                // The script is told; the connection goes when that has been.
                self.over = Some(reason);
                cx.forward(Event::Close(reason));
                cx.defer();
            }
        }
    }

    fn drain(&mut self, cx: &mut Cx<'_>) {
        if self.udp {
            self.idle = UDP_DRAIN;
            cx.timer(UDP_DRAIN, TIMER_IDLE);
        }
        self.activity.linger(cx, LINGER);
    }

    fn flush(&mut self, cx: &mut Cx<'_>) {
        if self.over.is_some() {
            let own = cx.pipeline();
            cx.close(own);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.taken.set(self.taken.get().saturating_sub(1));
        if let Some(port) = &self.port {
            port.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The right end of a connection that turns around there.
struct Going(Rc<Activity>);

impl Filter for Going {
    fn name(&self) -> &'static str {
        "listen"
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        if !matches!(event, Event::Pause | Event::Resume) {
            self.0.goes(cx, &event);
        }
        cx.forward(event);
    }

    fn timer(&mut self, cx: &mut Cx<'_>, _token: u32) {
        self.0.lingered(cx);
    }
}
