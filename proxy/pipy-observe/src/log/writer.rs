//! The thread that writes the access log, and the bounded queue before it.
//!
//! What comes in: buffers of whole lines from the workers. What goes out: their bytes, in the order of arrival, to
//! standard output or whatever else can be written to. Empty buffers go back to the workers.
//!
//! When the reader of the log is slower than the proxy, the queue fills, and then whole buffers are dropped and
//! their lines counted. When writing fails (the pipe is closed, the disk is full), likewise; the thread goes on
//! trying, because disks get space again. Nothing here can stop traffic.
//!
//! INVARIANT: a line is written whole or, when writing fails, counted as dropped. Lock held: for moving a buffer,
//! never while writing.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::counter::SharedCounter;
use crate::log::buffer::{BUFFER_BYTES, LogBuffer};
use crate::worker::lock;

/// LIMIT: buffers that may wait for the writer: with [`BUFFER_BYTES`] each, 2 MiB, three thousand lines or more.
pub const BUFFERS_MAX: usize = 16;

/// LIMIT: empty buffers kept for the workers. They hold memory for nothing when all is quiet.
const SPARE_MAX: usize = 2;

/// How long the end of the writer may take: a reader that has stopped reading must not keep a process alive.
pub const SHUTDOWN_WAIT: Duration = Duration::from_secs(2);

/// What became of the lines.
#[derive(Debug, Default)]
pub struct LogStats {
    /// Lines that were written.
    pub written: SharedCounter,
    /// Lines that were lost.
    pub dropped: SharedCounter,
    /// Writes that failed.
    pub errors: SharedCounter,
}

/// Owns the writing thread. Dropping it writes what waits and ends the thread.
#[derive(Debug)]
pub struct LogWriter {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
    ended: mpsc::Receiver<()>,
}

impl LogWriter {
    /// Writes to standard output.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn stdout() -> io::Result<Self> {
        LogWriter::to(io::stdout())
    }

    /// Writes to `output`.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn to(output: impl Write + Send + 'static) -> io::Result<Self> {
        LogWriter::named("access-log", output)
    }

    /// Writes to `output` from a thread with this name.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub(crate) fn named(name: &str, output: impl Write + Send + 'static) -> io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let (end, ended) = mpsc::channel();
        let queue_of_thread = Arc::clone(&queue);
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            write_all(&queue_of_thread, output);
            // Nobody listens when the writer was left behind.
            let _ = end.send(());
        })?;
        Ok(LogWriter { queue, thread: Some(thread), ended })
    }

    /// The end of one more worker. It may outlive the writer; its lines are then dropped and counted.
    pub fn buffer(&self) -> LogBuffer {
        LogBuffer::new(Arc::clone(&self.queue))
    }

    /// The counters; give them to [`crate::Metrics::set_log`].
    pub fn stats(&self) -> Arc<LogStats> {
        Arc::clone(&self.queue.stats)
    }

    /// Writes what waits and ends the thread, within [`SHUTDOWN_WAIT`]. Says whether everything was written.
    pub fn shutdown(mut self) -> bool {
        self.end()
    }

    fn end(&mut self) -> bool {
        let Some(thread) = self.thread.take() else { return true };
        self.queue.close();
        match self.ended.recv_timeout(SHUTDOWN_WAIT) {
            // A thread that panicked in a foreign `Write` has closed its end of the channel: that is an end too.
            Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => thread.join().is_ok(),
            Err(mpsc::RecvTimeoutError::Timeout) => false,
        }
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.end();
    }
}

/// Between the workers and the writer.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    stats: Arc<LogStats>,
}

#[derive(Debug, Default)]
struct State {
    full: VecDeque<Chunk>,
    spare: Vec<Vec<u8>>,
    closed: bool,
}

#[derive(Debug)]
struct Chunk {
    bytes: Vec<u8>,
    lines: u64,
}

impl Queue {
    /// Takes a buffer with this many lines, gives an empty one back. Drops the lines when there is no room.
    pub(crate) fn push(&self, bytes: Vec<u8>, lines: u64) -> Vec<u8> {
        let mut state = lock(&self.state);
        if state.closed || state.full.len() >= BUFFERS_MAX {
            drop(state);
            self.stats.dropped.add(lines);
            let mut bytes = bytes;
            bytes.clear();
            return bytes;
        }
        state.full.push_back(Chunk { bytes, lines });
        let spare = state.spare.pop();
        drop(state);
        self.filled.notify_one();
        spare.unwrap_or_default()
    }

    fn close(&self) {
        lock(&self.state).closed = true;
        self.filled.notify_all();
    }

    /// The next buffer; waits for it. `None` when closed and empty.
    fn pop(&self) -> Option<Chunk> {
        let mut state = lock(&self.state);
        loop {
            if let Some(chunk) = state.full.pop_front() {
                return Some(chunk);
            }
            if state.closed {
                return None;
            }
            state = self.filled.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }

    fn give_back(&self, mut bytes: Vec<u8>) {
        bytes.clear();
        // One that grew for a few huge lines is not kept.
        if bytes.capacity() <= 2 * BUFFER_BYTES {
            let mut state = lock(&self.state);
            if state.spare.len() < SPARE_MAX {
                state.spare.push(bytes);
            }
        }
    }
}

fn write_all(queue: &Queue, mut output: impl Write) {
    // After a failed write a part of a line may be out: the next line must not continue it.
    let mut torn = false;
    while let Some(chunk) = queue.pop() {
        if std::mem::take(&mut torn) && output.write_all(b"\n").is_err() {
            torn = true;
        }
        match output.write_all(&chunk.bytes).and_then(|()| output.flush()) {
            Ok(()) => queue.stats.written.add(chunk.lines),
            Err(_) => {
                torn = true;
                queue.stats.errors.inc();
                queue.stats.dropped.add(chunk.lines);
            }
        }
        queue.give_back(chunk.bytes);
    }
}

#[cfg(test)]
mod tests;
