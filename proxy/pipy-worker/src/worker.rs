//! The event loop.

use std::collections::BinaryHeap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use pipy_pipeline::{CloseReason, ConnectTo, Event, Filter, Graph, Op, SocketId};
use rustix::buffer::spare_capacity;
use rustix::io::Errno;

use crate::listen::original_destination;
use crate::socket::{OUT_HIGH, OUT_LOW, Socket};

/// LIMIT: bytes asked for in one read. Large enough that bulk transfer is not bound by system calls.
const READ_BYTES: usize = 64 * 1024;

/// LIMIT: pieces up to this size are copied out of the read buffer, larger ones take the buffer along. A copy this small
/// costs less than a new buffer, and a piece that is kept for a while then holds no 64 KiB.
const COPY_BYTES_MAX: usize = 4 * 1024;

/// LIMIT: bytes read from one socket before the others have their turn.
const READ_BUDGET: usize = 4 * READ_BYTES;

/// LIMIT: connections accepted in a row before the open ones have their turn.
const ACCEPT_BUDGET: usize = 64;

const WAKER: Token = Token(usize::MAX);
const LISTENERS: usize = usize::MAX / 2;

/// A connection that was just accepted.
#[derive(Debug, Clone, Copy)]
pub struct Accepted {
    /// The client's address.
    pub peer: SocketAddr,
    /// The address that it reached.
    pub local: SocketAddr,
    /// The address that it meant.
    pub destination: SocketAddr,
}

/// What becomes of an accepted connection.
pub enum Verdict {
    /// It runs through these filters.
    Run(Vec<Box<dyn Filter>>),
    /// It is closed without a word.
    Close,
    /// It is reset.
    Reset,
}

/// What a worker runs: decides about connections, takes updates. One instance per worker.
pub trait App {
    /// What the main thread can send to each worker.
    type Update: Send + 'static;

    /// A connection came in on the listener with this key.
    fn accept(&mut self, listener: u32, connection: Accepted, now: Instant) -> Verdict;

    /// An update arrived. Returns listeners to open (or replace), and, with `None`, to close.
    fn update(&mut self, update: Self::Update) -> Vec<(u32, Option<std::net::TcpListener>)>;

    /// A turn of the loop begins.
    fn turn_begins(&mut self, _now: Instant) {}

    /// The turn is over: time for what is done once per turn, such as handing over log lines. Returns when the next turn
    /// should come at the latest.
    fn turn_ends(&mut self, _now: Instant) -> Option<Instant> {
        None
    }
}

/// How a worker runs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Settings {
    /// Packet mark of outgoing connections.
    pub mark: Option<u32>,
}

enum Command<U> {
    Update(U),
    Drain,
    Stop,
}

/// Speaks to a running worker from another thread.
pub struct Handle<U> {
    commands: Sender<Command<U>>,
    waker: Arc<Waker>,
}

impl<U> Clone for Handle<U> {
    fn clone(&self) -> Self {
        Handle { commands: self.commands.clone(), waker: Arc::clone(&self.waker) }
    }
}

impl<U> Handle<U> {
    /// Sends an update; it takes effect between two turns.
    pub fn update(&self, update: U) {
        self.send(Command::Update(update));
    }

    /// Closes the listeners, lets connections finish; the worker's thread ends when the last one is gone.
    pub fn drain(&self) {
        self.send(Command::Drain);
    }

    /// Ends the worker's thread, whatever is open.
    pub fn stop(&self) {
        self.send(Command::Stop);
    }

    fn send(&self, command: Command<U>) {
        // A worker that has ended needs nothing any more.
        if self.commands.send(command).is_ok() {
            let _ = self.waker.wake();
        }
    }
}

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
    listeners: Vec<Option<TcpListener>>,
    sockets: Vec<Option<Socket>>,
    graph: Graph,
    buffer: Vec<u8>,
    connects: BinaryHeap<std::cmp::Reverse<(Instant, SocketId)>>,
    /// Sockets that had more to read when their turn was over.
    unread: Vec<SocketId>,
    dirty: Vec<SocketId>,
    app: A,
    app_due: Option<Instant>,
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
                app: app(),
                app_due: None,
            };
            worker.run();
        })?;
        Ok((Handle { commands: sender, waker }, thread))
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
                    Token(token) if token >= LISTENERS => self.accept(token - LISTENERS),
                    Token(token) => {
                        self.ready(token, event.into());
                    }
                }
            }
            for id in std::mem::take(&mut self.unread) {
                self.read(id);
            }
            self.expire_connects();
            self.graph.run_timers();
            self.turn();
            self.app_due = self.app.turn_ends(self.graph.now);
            if self.graph.draining && self.graph.sockets() == 0 {
                return;
            }
        }
    }

    fn timeout(&mut self) -> Option<Duration> {
        if !self.unread.is_empty() {
            return Some(Duration::ZERO);
        }
        let connect = self.connects.peek().map(|std::cmp::Reverse((at, _))| *at);
        let next = [self.graph.timers.next(), connect, self.app_due].into_iter().flatten().min()?;
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

    fn listen(&mut self, key: usize, listener: Option<std::net::TcpListener>) {
        if self.listeners.len() <= key {
            self.listeners.resize_with(key + 1, || None);
        }
        let mut listener = listener.filter(|_| !self.graph.draining).map(TcpListener::from_std);
        if let Some(listener) = &mut listener {
            // Registration fails only when the process is out of kernel memory; the listener then stays deaf.
            let _ = self.poll.registry().register(listener, Token(LISTENERS + key), Interest::READABLE);
        }
        if let Some(place) = self.listeners.get_mut(key) {
            *place = listener;
        }
        self.accept(key);
    }

    fn accept(&mut self, key: usize) {
        for _ in 0..ACCEPT_BUDGET {
            let Some(Some(listener)) = self.listeners.get(key) else { return };
            match listener.accept() {
                Ok((stream, peer)) => self.accepted(key, stream, peer),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // A client that went away before we came is no reason to stop; neither is a lack of file descriptors,
                // which passes: the next readiness brings us back.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(_) => return,
            }
        }
        // More may wait, and the edge was used up: come back in the next turn.
        if let Some(Some(listener)) = self.listeners.get_mut(key) {
            let _ = self.poll.registry().reregister(listener, Token(LISTENERS + key), Interest::READABLE);
        }
    }

    fn accepted(&mut self, key: usize, stream: TcpStream, peer: SocketAddr) {
        let Ok(local) = stream.local_addr() else { return };
        let destination = original_destination(&stream, local);
        let _ = stream.set_nodelay(true);
        let listener = u32::try_from(key).unwrap_or(u32::MAX);
        match self.app.accept(listener, Accepted { peer, local, destination }, self.graph.now) {
            Verdict::Run(filters) => {
                let (id, _) = self.graph.accept(filters);
                self.insert(id, Socket::new(id.serial, stream, false));
                self.turn();
            }
            Verdict::Close => {}
            Verdict::Reset => Socket::new(0, stream, false).reset_on_close(),
        }
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
        }
        if ready.closed {
            socket.closing = true;
        }
        if ready.writable && (socket.queued() > 0 || socket.finishing) {
            self.flush(id);
        }
        if ready.readable {
            if let Some(socket) = self.socket(id) {
                socket.readable = true;
            }
            self.read(id);
        }
        self.turn();
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
                Ok(0) => {
                    socket.eof = true;
                    self.graph.from_socket(id, Event::Close(CloseReason::Finished));
                    self.turn();
                    return self.close_if_done(id);
                }
                Ok(read) => {
                    // WHY: a short read has emptied the kernel's buffer, which spares the read that would say so. An end
                    // of the stream that came before is known from the readiness; a later one makes a new readiness.
                    socket.readable = read >= READ_BYTES || socket.closing;
                    budget = budget.saturating_sub(read);
                    let bytes = self.take(read);
                    self.graph.from_socket(id, Event::Data(bytes));
                    self.turn();
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

    /// Lets the graph run until it is quiet, carrying out what it asks for.
    fn turn(&mut self) {
        loop {
            self.graph.run();
            if self.graph.ops.is_empty() {
                break;
            }
            for op in std::mem::take(&mut self.graph.ops) {
                self.carry_out(op);
            }
        }
        for id in std::mem::take(&mut self.dirty) {
            self.flush(id);
        }
        self.graph.run();
        if !self.graph.ops.is_empty() {
            self.turn();
        }
    }

    fn carry_out(&mut self, op: Op) {
        match op {
            Op::Connect(id, to) => self.connect(id, &to),
            Op::Write(id, bytes) => {
                if let Some(socket) = self.socket(id) {
                    socket.queue(bytes);
                    self.mark_dirty(id);
                }
            }
            Op::Finish(id) => {
                if let Some(socket) = self.socket(id) {
                    socket.finishing = true;
                    self.mark_dirty(id);
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
                self.insert(id, Socket::new(id.serial, stream, true));
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
        let Some(socket) = self.socket(id) else { return };
        socket.dirty = false;
        if socket.connecting {
            return;
        }
        if socket.flush().is_err() {
            return self.fail(id, CloseReason::Reset);
        }
        let queued = socket.queued();
        let event = if queued > OUT_HIGH && !socket.congested {
            socket.congested = true;
            Some(Event::Pause)
        } else if queued < OUT_LOW && socket.congested {
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
        if self.socket(id).is_some_and(|socket| socket.eof && socket.shut) {
            self.close(id, false);
        }
    }

    /// The connection broke: tell the graph, then let go.
    fn fail(&mut self, id: SocketId, reason: CloseReason) {
        self.graph.from_socket(id, Event::Close(reason));
        self.graph.run();
        self.close(id, false);
    }

    fn close(&mut self, id: SocketId, reset: bool) {
        if let Some(mut socket) =
            self.sockets.get_mut(id.index as usize).and_then(|place| place.take_if(|s| s.serial == id.serial))
        {
            if reset {
                socket.reset_on_close();
            } else if !socket.connecting {
                let _ = socket.flush();
            }
            let _ = self.poll.registry().deregister(&mut socket.stream);
        }
        self.graph.socket_gone(id);
    }
}
