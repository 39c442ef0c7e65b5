//! The event loop.

use std::collections::BinaryHeap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mio::{Events, Interest, Poll, Token, Waker};
use pipy_pipeline::{CloseReason, ConnectTo, Event, Graph, Op, SocketId};
use rustix::buffer::spare_capacity;
use rustix::io::Errno;

use crate::app::{App, Command, Handle, Settings};
use crate::datagrams::Datagrams;
use crate::leaving::Leaving;
use crate::listen::Listener;
use crate::socket::{OUT_LOW, Socket};

mod accept;
mod udp;

/// LIMIT: bytes asked for in one read. Large enough that bulk transfer is not bound by system calls.
const READ_BYTES: usize = 64 * 1024;

/// LIMIT: pieces up to this size are copied out of the read buffer, larger ones take the buffer along. A copy this small
/// costs less than a new buffer, and a piece that is kept for a while then holds no 64 KiB.
const COPY_BYTES_MAX: usize = 4 * 1024;

/// LIMIT: bytes read from one socket before the others have their turn.
const READ_BUDGET: usize = 4 * READ_BYTES;

/// LIMIT: bytes read from all sockets before what came of them is sent. Up to here everything that one wait has found is
/// read first and sent afterwards, so that messages for one peer leave as one, in one record; beyond it memory would grow
/// and the peers wait longer than is saved.
const UNSENT_BYTES_MAX: usize = READ_BUDGET;

/// LIMIT: fewer closed connections than this have held too little memory to be worth the search for it.
const GIVE_BACK_MIN: usize = 96;

/// After how long it is looked whether more have closed since memory was given back. The last ones that are open hold a
/// page for each kind of thing that a connection consists of: a few of them keep what hundreds have left.
const GIVE_BACK_AGAIN: Duration = Duration::from_secs(1);

const WAKER: Token = Token(usize::MAX);
const LISTENERS: usize = usize::MAX / 2;
const LEAVING: usize = usize::MAX / 4;
const DATAGRAMS: usize = usize::MAX / 8;

/// What the operating system says of a socket.
#[derive(Debug, Clone, Copy)]
struct Readiness {
    readable: bool,
    writable: bool,
    closed: bool,
}

impl From<&mio::event::Event> for Readiness {
    fn from(event: &mio::event::Event) -> Self {
        let closed = event.is_read_closed() || event.is_error();
        Readiness {
            readable: event.is_readable() || closed,
            writable: event.is_writable() || event.is_error(),
            closed,
        }
    }
}

/// One event loop. Made on any thread, run on its own.
pub struct Worker<A: App> {
    poll: Poll,
    commands: Receiver<Command<A::Update>>,
    settings: Settings,
    listeners: Vec<Option<Listener>>,
    sockets: Vec<Option<Socket>>,
    graph: Graph,
    buffer: Vec<u8>,
    connects: BinaryHeap<std::cmp::Reverse<(Instant, SocketId)>>,
    /// Sockets that had more to read when their turn was over.
    unread: Vec<SocketId>,
    dirty: Vec<SocketId>,
    /// Bytes read since the last [`Worker::turn`].
    unsent: usize,
    /// Sockets that no pipeline has any more, and that have something left to do.
    leaving: Leaving,
    datagrams: Datagrams,
    accept_again: Option<Instant>,
    app: A,
    app_due: Option<Instant>,
    /// Most sockets that were open since memory was given back last.
    peak: usize,
    /// When to look again, and how many sockets were open the last time.
    give_back_again: Option<(Instant, usize)>,
}

impl<A: App> Worker<A> {
    /// Makes a worker and the handle to it. `app` is made on the worker's thread, for it need not be `Send`.
    ///
    /// # Errors
    /// When the operating system gives no event queue.
    pub fn spawn(
        name: String,
        settings: Settings,
        app: impl FnOnce() -> A + Send + 'static,
    ) -> io::Result<(Handle<A::Update>, std::thread::JoinHandle<()>)> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let (sender, commands) = mpsc::channel();
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            let worker = Worker {
                poll,
                commands,
                settings,
                listeners: Vec::new(),
                sockets: Vec::new(),
                graph: Graph::new(Instant::now()),
                buffer: Vec::new(),
                connects: BinaryHeap::new(),
                unread: Vec::new(),
                dirty: Vec::new(),
                unsent: 0,
                leaving: Leaving::new(LEAVING),
                datagrams: Datagrams::new(DATAGRAMS, settings.mark),
                accept_again: None,
                app: app(),
                app_due: None,
                peak: 0,
                give_back_again: None,
            };
            worker.run();
        })?;
        Ok((Handle::new(sender, waker), thread))
    }

    fn run(mut self) {
        let mut events = Events::with_capacity(256);
        loop {
            let timeout = self.timeout();
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // Without an event queue the worker can do nothing; its end is seen by the main thread.
                Err(_) => return,
            }
            self.graph.now = Instant::now();
            self.app.turn_begins(self.graph.now);
            for event in &events {
                match event.token() {
                    WAKER => {
                        if !self.obey() {
                            return;
                        }
                    }
                    Token(token) if token >= LISTENERS => {
                        self.accept(token - LISTENERS);
                    }
                    Token(token) if token >= LEAVING => {
                        self.leaving.ready(token - LEAVING, self.graph.now);
                    }
                    Token(token) if token >= DATAGRAMS => self.receive(token - DATAGRAMS),
                    Token(token) => {
                        self.ready(token, event.into());
                    }
                }
            }
            for id in std::mem::take(&mut self.unread) {
                self.read(id);
            }
            for slot in std::mem::take(&mut self.datagrams.unread) {
                self.receive(slot);
            }
            self.expire_connects();
            self.accept_late();
            self.graph.run_timers();
            self.turn();
            let listeners = self.app.step(&mut self.graph);
            for (key, listener) in listeners {
                self.listen(key as usize, listener);
            }
            self.listen_for_datagrams();
            self.turn();
            self.leaving.sweep(self.graph.now);
            self.app_due = self.app.turn_ends(self.graph.now);
            self.give_back();
            let open = self.graph.sockets() - self.datagrams.watching;
            if self.graph.draining && open == 0 && self.leaving.is_empty() {
                return;
            }
        }
    }

    /// Gives the memory of connections back once most of them have closed, and goes on to while more of them do.
    fn give_back(&mut self) {
        let open = self.graph.sockets();
        self.peak = self.peak.max(open);
        let most_closed = self.peak - open >= GIVE_BACK_MIN.max(open * 3);
        let more_closed = match self.give_back_again {
            Some((at, before)) if at <= self.graph.now => {
                self.give_back_again = None;
                open < before
            }
            _ => false,
        };
        if !most_closed && !more_closed {
            return;
        }
        self.peak = open;
        self.give_back_again = Some((self.graph.now + GIVE_BACK_AGAIN, open));
        let used = self.sockets.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        self.sockets.truncate(used);
        self.sockets.shrink_to_fit();
        self.graph.shrink();
        pipy_sys::give_back_memory();
    }

    fn timeout(&mut self) -> Option<Duration> {
        if !self.unread.is_empty() || !self.datagrams.unread.is_empty() {
            return Some(Duration::ZERO);
        }
        let connect = self.connects.peek().map(|std::cmp::Reverse((at, _))| *at);
        let due = [
            self.graph.timers.next_due(),
            connect,
            self.app_due,
            self.leaving.due(),
            self.accept_again,
            self.give_back_again.map(|(at, _)| at),
        ];
        let next = due.into_iter().flatten().min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    /// Obeys the main thread; false ends the loop.
    fn obey(&mut self) -> bool {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Update(update) => {
                    for (key, listener) in self.app.update(update) {
                        self.listen(key as usize, listener);
                    }
                }
                Command::Drain => {
                    for key in 0..self.listeners.len() {
                        // WHY: closing a listener resets what the kernel has accepted for it and we have not.
                        while self.accept(key) {}
                        self.listen(key, None);
                    }
                    self.graph.drain();
                    self.turn();
                }
                Command::Stop => return false,
            }
        }
        true
    }

    fn insert(&mut self, id: SocketId, mut socket: Socket) {
        let index = id.index as usize;
        if self.sockets.len() <= index {
            self.sockets.resize_with(index + 1, || None);
        }
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registered = self.poll.registry().register(&mut socket.stream, Token(index), interest);
        if let Some(place) = self.sockets.get_mut(index) {
            *place = Some(socket);
        }
        if registered.is_err() {
            self.fail(id, CloseReason::Overloaded);
        }
    }

    fn socket(&mut self, id: SocketId) -> Option<&mut Socket> {
        self.sockets.get_mut(id.index as usize)?.as_mut().filter(|socket| socket.serial == id.serial)
    }

    fn ready(&mut self, index: usize, ready: Readiness) {
        let Some(Some(socket)) = self.sockets.get_mut(index) else { return };
        let id = SocketId { index: u32::try_from(index).unwrap_or(u32::MAX), serial: socket.serial };
        if socket.connecting {
            if socket.stream.take_error().ok().flatten().is_some() {
                self.fail(id, CloseReason::ConnectFailed);
                return self.turn();
            }
            // WHY: readiness may be that of an earlier socket at this place, from the same batch.
            if !ready.writable || socket.stream.peer_addr().is_err() {
                return;
            }
            socket.connecting = false;
            if socket.tell {
                self.graph.from_socket(id, Event::Resume);
            }
        }
        if ready.closed {
            socket.closing = true;
        }
        let flush = ready.writable && (socket.queued() > 0 || socket.finishing);
        // WHY: read first. A server that answers early and closes resets us while we write; its answer came before.
        if ready.readable {
            socket.readable = true;
            self.read(id);
        }
        if flush {
            self.flush(id);
        }
        self.carry();
    }

    /// Reads what there is, up to the budget, giving each piece to the graph.
    fn read(&mut self, id: SocketId) {
        let mut budget = READ_BUDGET;
        loop {
            let Some(socket) = self.sockets.get_mut(id.index as usize).and_then(Option::as_mut) else {
                return;
            };
            if socket.serial != id.serial || socket.connecting || socket.eof {
                return;
            }
            if !socket.readable || !socket.reading {
                return;
            }
            self.buffer.clear();
            self.buffer.reserve(READ_BYTES);
            match rustix::io::read(&socket.stream, spare_capacity(&mut self.buffer)) {
                // After a failed write this is no end but what is left of a reset.
                Ok(0) if socket.broken => return self.fail(id, CloseReason::Reset),
                Ok(0) => {
                    socket.eof = true;
                    self.graph.from_socket(id, Event::Close(CloseReason::Finished));
                    self.carry();
                    return self.close_if_done(id);
                }
                Ok(read) => {
                    // WHY: a short read has emptied the kernel's buffer, which spares the read that would say so. An end
                    // of the stream that came before is known from the readiness; a later one makes a new readiness.
                    socket.readable = read >= READ_BYTES || socket.closing;
                    budget = budget.saturating_sub(read);
                    let bytes = self.take(read);
                    self.graph.from_socket(id, Event::Data(bytes));
                    self.unsent += read;
                    if self.unsent < UNSENT_BYTES_MAX {
                        self.carry()
                    } else {
                        self.turn()
                    }
                    if budget == 0 {
                        return self.unread.push(id);
                    }
                }
                Err(Errno::AGAIN) => {
                    socket.readable = false;
                    return;
                }
                Err(Errno::INTR) => {}
                Err(_) => return self.fail(id, CloseReason::Reset),
            }
        }
    }

    fn take(&mut self, read: usize) -> Bytes {
        if read <= COPY_BYTES_MAX {
            Bytes::copy_from_slice(&self.buffer)
        } else {
            Bytes::from(std::mem::take(&mut self.buffer))
        }
    }

    /// Lets the graph run until it is quiet, carrying out what it asks for, and sends what has come of it.
    fn turn(&mut self) {
        self.unsent = 0;
        loop {
            self.graph.run();
            if self.graph.ops.is_empty() {
                break;
            }
            self.carry_out_all();
        }
        for id in std::mem::take(&mut self.dirty) {
            self.flush(id);
        }
        self.graph.run();
        if !self.graph.ops.is_empty() {
            self.turn();
        }
    }

    /// Lets the graph carry events; what filters gather for the end of the turn, and what sockets are to send, waits for
    /// [`Worker::turn`].
    fn carry(&mut self) {
        loop {
            self.graph.carry();
            if self.graph.ops.is_empty() {
                break;
            }
            self.carry_out_all();
        }
    }

    fn carry_out_all(&mut self) {
        let mut ops = std::mem::take(&mut self.graph.ops);
        for op in ops.drain(..) {
            self.carry_out(op);
        }
        // The room is used again unless carrying them out has asked for more.
        if self.graph.ops.is_empty() {
            self.graph.ops = ops;
        }
    }

    fn carry_out(&mut self, op: Op) {
        match op {
            Op::Connect(id, to) => self.connect(id, &to),
            Op::ConnectDatagrams(id, to) => {
                let (mark, registry) = (self.settings.mark, self.poll.registry());
                if self.datagrams.connect(id, &to, mark, registry).is_err() {
                    self.fail(id, CloseReason::ConnectFailed);
                }
            }
            Op::ConnectNetlink(id, to) => match self.datagrams.connect_netlink(id, &to, self.poll.registry())
            {
                Ok(()) if to.tell => self.graph.from_socket(id, Event::Resume),
                Ok(()) => {}
                Err(_) => self.fail(id, CloseReason::ConnectFailed),
            },
            Op::Write(id, bytes) => {
                if let Some(socket) = self.socket(id) {
                    socket.queue(bytes);
                    self.mark_dirty(id);
                } else {
                    self.datagrams.send(id, &bytes);
                }
            }
            Op::Finish(id) => {
                if let Some(socket) = self.socket(id) {
                    socket.finishing = true;
                    self.mark_dirty(id);
                } else if !self.datagrams.is_upstream(id) && self.datagrams.remove(id) {
                    // A peer can't be told that there will be no more; an upstream may still answer.
                    self.graph.socket_gone(id);
                }
            }
            Op::Heard(id) => {
                if let Some(socket) = self.socket(id) {
                    socket.heard = !socket.readable;
                }
            }
            Op::Close(id, reset) => self.close(id, reset),
            Op::Reading(id, reading) => {
                if let Some(socket) = self.socket(id) {
                    let resumed = reading && !socket.reading && socket.readable;
                    socket.reading = reading;
                    if resumed {
                        self.unread.push(id);
                    }
                } else {
                    self.datagrams.set_reading(id, reading);
                }
            }
            Op::Limit(id, limits) => {
                if let Some(socket) = self.socket(id) {
                    socket.limit(limits);
                }
            }
        }
    }

    fn mark_dirty(&mut self, id: SocketId) {
        if let Some(socket) = self.socket(id)
            && !socket.dirty
        {
            socket.dirty = true;
            self.dirty.push(id);
        }
    }

    fn connect(&mut self, id: SocketId, to: &ConnectTo) {
        match crate::connect::connect(to, self.settings.mark) {
            Ok(stream) => {
                let mut socket = Socket::new(id.serial, stream, true);
                socket.tell = to.tell;
                self.insert(id, socket);
                if !to.timeout.is_zero() {
                    self.connects.push(std::cmp::Reverse((self.graph.now + to.timeout, id)));
                }
            }
            Err(_) => self.fail(id, CloseReason::ConnectFailed),
        }
    }

    fn expire_connects(&mut self) {
        while let Some(std::cmp::Reverse((at, id))) = self.connects.peek().copied() {
            let connecting = self.socket(id).is_some_and(|socket| socket.connecting);
            if connecting && at > self.graph.now {
                return;
            }
            self.connects.pop();
            if connecting {
                self.fail(id, CloseReason::ConnectTimeout);
            }
        }
    }

    fn flush(&mut self, id: SocketId) {
        // By field, for `unread` is needed beside it.
        let Some(Some(socket)) = self.sockets.get_mut(id.index as usize) else { return };
        if socket.serial != id.serial {
            return;
        }
        socket.dirty = false;
        if !socket.connecting && !socket.broken && socket.flush().is_err() {
            if !socket.reading || socket.eof {
                return self.fail(id, CloseReason::Reset);
            }
            // What the peer said before it reset the connection is still to be read; the reading ends in the failure.
            socket.give_up_writing();
            (socket.readable, socket.closing) = (true, true);
            self.unread.push(id);
        }
        let queued = socket.queued();
        if queued > socket.buffer_max {
            return self.fail(id, CloseReason::Overloaded);
        }
        let event = if queued > socket.high && !socket.congested {
            socket.congested = true;
            Some(Event::Pause)
        } else if queued < socket.high / OUT_LOW && socket.congested {
            socket.congested = false;
            Some(Event::Resume)
        } else {
            None
        };
        if let Some(event) = event {
            self.graph.from_socket(id, event);
        }
        self.close_if_done(id);
    }

    /// Both directions are over.
    fn close_if_done(&mut self, id: SocketId) {
        if self.socket(id).is_some_and(|socket| socket.is_done()) {
            self.close(id, false);
        }
    }

    /// The connection broke: tell the graph, then let go.
    fn fail(&mut self, id: SocketId, reason: CloseReason) {
        self.graph.from_socket(id, Event::Close(reason));
        self.graph.run();
        // Dropping a socket closes it, and the event queue forgets what is closed.
        drop(self.remove(id));
        self.datagrams.remove(id);
        self.graph.socket_gone(id);
    }

    /// The pipeline lets go of it.
    fn close(&mut self, id: SocketId, reset: bool) {
        if let Some(socket) = self.remove(id) {
            if reset || socket.connecting || (socket.shut && socket.queued() == 0) {
                if reset {
                    socket.reset_on_close();
                }
            } else {
                self.leaving.take(socket, self.poll.registry(), self.graph.now);
            }
        } else {
            self.datagrams.remove(id);
        }
        self.graph.socket_gone(id);
    }

    fn remove(&mut self, id: SocketId) -> Option<Socket> {
        self.sockets.get_mut(id.index as usize)?.take_if(|socket| socket.serial == id.serial)
    }
}
