//! One connection's socket: what waits to be sent, and how far each direction has come.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::net::Shutdown;
use std::time::Duration;

use bytes::{Buf, Bytes};
use mio::net::TcpStream;
use pipy_pipeline::SocketLimits;
use socket2::SockRef;

/// LIMIT: bytes waiting to be sent above which the producing side is paused. Holds a few reads (64 KiB each) so that a
/// fast peer never waits for us, and bounds memory per slow one.
const OUT_HIGH: usize = 256 * 1024;

/// LIMIT: below this part of it the producing side goes on.
pub(crate) const OUT_LOW: usize = 4;

/// LIMIT: slices handed to one writev call; the kernel takes 1024, but more than this seldom wait.
const SLICES_MAX: usize = 32;

pub(crate) struct Socket {
    pub(crate) serial: u32,
    pub(crate) stream: TcpStream,
    /// A connection attempt is under way.
    pub(crate) connecting: bool,
    /// The graph wants to be told when the connection is made.
    pub(crate) tell: bool,
    /// The kernel has, or may have, something to read.
    pub(crate) readable: bool,
    /// The graph takes what we read.
    pub(crate) reading: bool,
    /// The peer's end is near: it is behind what the kernel still has.
    pub(crate) closing: bool,
    /// The peer has finished.
    pub(crate) eof: bool,
    /// The producing side was told to pause.
    pub(crate) congested: bool,
    /// Nothing more will be written after what waits.
    pub(crate) finishing: bool,
    /// The peer has nothing more to say, and nothing of it is left to read.
    pub(crate) heard: bool,
    /// Our direction was ended, or will be by closing.
    pub(crate) shut: bool,
    /// Writing has failed. What the peer said before may still be there to read.
    pub(crate) broken: bool,
    /// It stands in the worker's list of sockets to be flushed.
    pub(crate) dirty: bool,
    /// Bytes waiting to be sent above which the producing side is paused.
    pub(crate) high: usize,
    /// Bytes waiting to be sent above which the connection is given up.
    pub(crate) buffer_max: usize,
    out: VecDeque<Bytes>,
    out_bytes: usize,
}

impl Socket {
    pub(crate) fn new(serial: u32, stream: TcpStream, connecting: bool) -> Self {
        Socket {
            serial,
            stream,
            connecting,
            tell: false,
            readable: false,
            reading: true,
            closing: false,
            eof: false,
            congested: false,
            finishing: false,
            heard: false,
            shut: false,
            broken: false,
            dirty: false,
            high: OUT_HIGH,
            buffer_max: usize::MAX,
            out: VecDeque::new(),
            out_bytes: 0,
        }
    }

    /// Treats it so from now on.
    pub(crate) fn limit(&mut self, limits: SocketLimits) {
        if limits.congestion > 0 {
            self.high = limits.congestion;
        }
        if limits.buffer > 0 {
            self.buffer_max = limits.buffer;
        }
        let socket = SockRef::from(&self.stream);
        // What the kernel does not do, it does not: the connection works without.
        if !limits.keep_alive {
            let _ = socket.set_keepalive(false);
        }
        if !limits.no_delay {
            let _ = socket.set_tcp_nodelay(false);
        }
    }

    pub(crate) fn queue(&mut self, bytes: Bytes) {
        if !self.finishing && !self.broken && !bytes.is_empty() {
            self.out_bytes += bytes.len();
            self.out.push_back(bytes);
        }
    }

    pub(crate) fn queued(&self) -> usize {
        self.out_bytes
    }

    /// Sends what the kernel takes; ends our direction when asked to and all is sent.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        while !self.out.is_empty() {
            let written = match self.write_some() {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.sent(written);
        }
        if self.out.capacity() > 64 {
            self.out = VecDeque::new();
        }
        if self.finishing && !self.shut {
            self.shut = true;
            // Closing it, which comes next where the peer has nothing more to say, ends both directions at once.
            if !self.heard {
                // The peer may have reset the connection already: then there is nothing left to end.
                let _ = self.stream.shutdown(Shutdown::Write);
            }
        }
        Ok(())
    }

    /// Both directions are over, and nothing is left to do but to close.
    pub(crate) fn is_done(&self) -> bool {
        self.shut && (self.eof || self.heard)
    }

    /// Nothing more can be sent.
    pub(crate) fn give_up_writing(&mut self) {
        self.broken = true;
        self.out = VecDeque::new();
        self.out_bytes = 0;
    }

    /// Makes the coming close a reset: the peer sees an error instead of an end.
    pub(crate) fn reset_on_close(&self) {
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    fn write_some(&mut self) -> io::Result<usize> {
        if let (1, Some(only)) = (self.out.len(), self.out.front()) {
            return self.stream.write(only);
        }
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut count = 0;
        for (slice, bytes) in slices.iter_mut().zip(&self.out) {
            *slice = IoSlice::new(bytes);
            count += 1;
        }
        self.stream.write_vectored(slices.get(..count).unwrap_or_default())
    }

    fn sent(&mut self, mut written: usize) {
        self.out_bytes = self.out_bytes.saturating_sub(written);
        while let Some(front) = self.out.front_mut() {
            if written < front.len() {
                front.advance(written);
                return;
            }
            written -= front.len();
            self.out.pop_front();
        }
    }
}
