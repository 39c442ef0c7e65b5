//! Sends records to a collector over HTTP: spans, and lines of the access log.
//!
//! In: whole lines of JSON from the workers' buffers. Out: `POST` requests, a JSON array or the lines as they are, from a
//! thread of their own. What the collector does not take (it is away, slow, or answers with an error) is dropped and
//! counted; after a failure nothing is tried for a while, which grows. Traffic never waits.
//!
//! INVARIANT: a record is sent once at most. Not here: the bounded queue (`log::writer`), what is in a record.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::log::{LogBuffer, LogStats, LogWriter};
use crate::worker::lock;

/// LIMIT: a connection attempt, and each read or write, to the collector.
const TIMEOUT: Duration = Duration::from_secs(3);

/// LIMIT: bytes of an answer that are read: its head tells what became of the records.
const ANSWER_BYTES_MAX: u64 = 16 * 1024;

/// How long nothing is tried after a failure: doubled with each one, up to the second.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Where records go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collector {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path, with its query.
    pub path: String,
    /// Value of the header `authorization`; empty: none is sent.
    pub authorization: String,
}

/// How records are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One JSON array.
    Array,
    /// One JSON object per line.
    Lines,
}

/// See the module.
#[derive(Debug)]
pub struct Exporter {
    collector: Arc<Mutex<Option<Collector>>>,
    writer: LogWriter,
}

impl Exporter {
    /// An exporter without a collector. `mark` is the packet mark of its connections.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn start(name: &str, shape: Shape, mark: Option<u32>) -> io::Result<Self> {
        let collector = Arc::default();
        let sender = Sender { collector: Arc::clone(&collector), shape, mark, pause: PAUSE.0, resume: None };
        Ok(Exporter { writer: LogWriter::named(name, sender)?, collector })
    }

    /// From now on records go there; `None`: nowhere.
    pub fn set_collector(&self, collector: Option<Collector>) {
        *lock(&self.collector) = collector;
    }

    /// The end of one more worker.
    pub fn buffer(&self) -> LogBuffer {
        self.writer.buffer()
    }

    /// What became of the records.
    pub fn stats(&self) -> Arc<LogStats> {
        self.writer.stats()
    }

    /// Sends what waits and ends the thread, within [`crate::SHUTDOWN_WAIT`].
    pub fn shutdown(self) -> bool {
        self.writer.shutdown()
    }
}

/// The writer's output: each write is one request.
struct Sender {
    collector: Arc<Mutex<Option<Collector>>>,
    shape: Shape,
    mark: Option<u32>,
    pause: Duration,
    /// Nothing is tried until then.
    resume: Option<Instant>,
}

impl Write for Sender {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        // What separates records after a torn write; nothing is torn here.
        if lines == b"\n" {
            return Ok(lines.len());
        }
        let collector = lock(&self.collector).clone();
        let Some(collector) = collector else { return Err(io::Error::other("there is no collector")) };
        if self.resume.is_some_and(|at| Instant::now() < at) {
            return Err(io::Error::other("the collector has failed a moment ago"));
        }
        match self.post(&collector, lines) {
            Ok(()) => {
                (self.pause, self.resume) = (PAUSE.0, None);
                Ok(lines.len())
            }
            Err(error) => {
                self.resume = Some(Instant::now() + self.pause);
                self.pause = (self.pause * 2).min(PAUSE.1);
                // WHY: the writer tries again what was interrupted, and would for ever.
                Err(io::Error::other(error))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sender {
    fn post(&self, to: &Collector, lines: &[u8]) -> io::Result<()> {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for address in (to.host.as_str(), to.port).to_socket_addrs()? {
            match self.connect(address) {
                Ok(stream) => return exchange(stream, &request(to, self.shape, lines)),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if let Some(mark) = self.mark {
            socket.set_mark(mark)?;
        }
        socket.connect_timeout(&address.into(), TIMEOUT)?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(stream)
    }
}

fn request(to: &Collector, shape: Shape, lines: &[u8]) -> Vec<u8> {
    let authorization = match to.authorization.as_str() {
        "" => String::new(),
        value => format!("authorization: {value}\r\n"),
    };
    let host = if to.host.contains(':') { format!("[{}]", to.host) } else { to.host.clone() };
    let length = lines.len() + usize::from(shape == Shape::Array);
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: {host}:{}\r\n{authorization}content-type: application/json\r\n\
         content-length: {length}\r\nconnection: close\r\n\r\n",
        to.path, to.port
    );
    let mut bytes = head.into_bytes();
    match shape {
        Shape::Lines => bytes.extend_from_slice(lines),
        Shape::Array => {
            // No line holds a line break but its last byte: each becomes what stands between or after items.
            bytes.push(b'[');
            bytes.extend(lines.iter().map(|b| if *b == b'\n' { b',' } else { *b }));
            bytes.pop();
            bytes.push(b']');
        }
    }
    bytes
}

fn exchange(mut stream: TcpStream, request: &[u8]) -> io::Result<()> {
    stream.write_all(request)?;
    let mut answer = Vec::new();
    let read = stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer);
    // What came before a collector stopped talking tells enough.
    match status(&answer) {
        Some(200..=299) => Ok(()),
        Some(status) => Err(io::Error::other(format!("the collector answers {status}"))),
        None => Err(read.err().unwrap_or_else(|| io::Error::other("the collector answers no HTTP"))),
    }
}

fn status(answer: &[u8]) -> Option<u16> {
    let rest = answer.strip_prefix(b"HTTP/1.")?.get(2..5)?;
    std::str::from_utf8(rest).ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
