//! A worker's end of the access log: lines are formatted here and handed over many at a time.
//!
//! What comes in: entries, and the turns of the worker's loop. What goes out: whole buffers, to the writer. A buffer
//! goes when it is large ([`BUFFER_BYTES`]) or old ([`FLUSH_AFTER`]); a worker that would sleep longer asks
//! [`LogBuffer::due`] when to wake up.
//!
//! INVARIANT: recording never blocks and never fails; what can't be handed over is counted as dropped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::log::entry::{Entry, Pen};
use crate::log::writer::Queue;

/// LIMIT: bytes from which on a buffer is handed over. Two hundred lines: the cost of the hand-over vanishes among them, and
/// a file takes a write of this size at half of the price per byte of one of 16 KiB. The line that goes beyond
/// it fits into 128 KiB, which the buffer has then grown to.
pub const BUFFER_BYTES: usize = 124 * 1024;

/// The bytes that a buffer begins with; it doubles from here on. A worker that logs a line a minute needs no more.
const FIRST_BYTES: usize = 1024;

/// How old a line may become before it is handed over.
pub const FLUSH_AFTER: Duration = Duration::from_millis(200);

/// Collects the lines of one worker. Dropping it hands over what it holds.
#[derive(Debug)]
pub struct LogBuffer {
    queue: Arc<Queue>,
    pen: Pen,
    bytes: Vec<u8>,
    lines: u64,
    /// When the first line was seen by a turn.
    since: Option<Instant>,
}

impl LogBuffer {
    pub(crate) fn new(queue: Arc<Queue>) -> Self {
        LogBuffer { queue, pen: Pen::new(), bytes: Vec::new(), lines: 0, since: None }
    }

    /// Appends one line.
    pub fn record(&mut self, entry: &Entry<'_>) {
        self.make_room();
        self.pen.line(entry, &mut self.bytes);
        self.appended();
    }

    /// Appends one line of another kind: `write` appends it to what it is given, line break included.
    pub fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.make_room();
        write(&mut self.bytes);
        self.appended();
    }

    fn make_room(&mut self) {
        if self.bytes.capacity() == 0 {
            self.bytes.reserve(FIRST_BYTES);
        }
    }

    fn appended(&mut self) {
        self.lines += 1;
        if self.bytes.len() >= BUFFER_BYTES {
            self.flush();
        }
    }

    /// The worker's turn is over: hands over what has become old.
    pub fn turn(&mut self, now: Instant) {
        if self.lines == 0 {
            return;
        }
        let since = *self.since.get_or_insert(now);
        if now.saturating_duration_since(since) >= FLUSH_AFTER {
            self.flush();
        }
    }

    /// When [`LogBuffer::turn`] should be called at the latest; `None` when nothing waits. Ask after the turn.
    pub fn due(&self) -> Option<Instant> {
        self.since.map(|since| since + FLUSH_AFTER)
    }

    /// Hands over now.
    pub fn flush(&mut self) {
        self.since = None;
        if self.lines > 0 {
            self.bytes = self.queue.push(std::mem::take(&mut self.bytes), self.lines);
            self.lines = 0;
        }
    }
}

impl Drop for LogBuffer {
    fn drop(&mut self) {
        self.flush();
    }
}
