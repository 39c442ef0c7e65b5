//! The queue's bound, the order of lines, failing and stuck outputs, the end.

use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::time::Instant;

use super::*;
use crate::log::buffer::FLUSH_AFTER;
use crate::log::entry::Entry;

const DEADLINE: Duration = Duration::from_secs(10);

/// Sends what is written; each write waits for a permit.
struct Gate {
    permits: Receiver<io::Result<()>>,
    entered: Sender<()>,
    written: Sender<Vec<u8>>,
}

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.entered.send(());
        self.permits.recv().unwrap_or(Ok(()))?;
        let _ = self.written.send(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Controls {
    permits: SyncSender<io::Result<()>>,
    entered: Receiver<()>,
    written: Receiver<Vec<u8>>,
}

fn gated() -> (LogWriter, Controls) {
    let (permits, permitted) = sync_channel(1000);
    let (entered, was_entered) = channel();
    let (written, was_written) = channel();
    let writer = LogWriter::to(Gate { permits: permitted, entered, written }).expect("a thread");
    (writer, Controls { permits, entered: was_entered, written: was_written })
}

/// Collects what is written, for later.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.0).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink {
    fn lines(&self) -> Vec<String> {
        String::from_utf8(lock(&self.0).clone()).expect("UTF-8").lines().map(str::to_owned).collect()
    }
}

fn record(buffer: &mut LogBuffer, id: u64) {
    buffer.record(&Entry { protocol: "http", connection_id: Some(id), ..Entry::default() });
}

#[test]
fn every_line_is_written_in_order_before_the_end() {
    let sink = Sink::default();
    let writer = LogWriter::to(sink.clone()).expect("a thread");
    let stats = writer.stats();
    let mut buffer = writer.buffer();
    for id in 0..1000 {
        record(&mut buffer, id);
    }
    drop(buffer);

    assert!(writer.shutdown());

    let lines = sink.lines();
    assert_eq!(lines.len(), 1000);
    for (id, line) in lines.iter().enumerate() {
        assert!(line.ends_with(&format!("\"connection_id\":{id}}}")), "{line}");
    }
    assert_eq!((stats.written.get(), stats.dropped.get()), (1000, 0));
}

#[test]
fn a_line_is_handed_over_when_it_is_old_enough() {
    let (writer, controls) = gated();
    let mut buffer = writer.buffer();
    let start = Instant::now();
    buffer.turn(start);
    assert_eq!(buffer.due(), None, "there is nothing to wait for");

    record(&mut buffer, 1);
    buffer.turn(start);
    assert_eq!(buffer.due(), Some(start + FLUSH_AFTER));
    buffer.turn(start + FLUSH_AFTER / 2);
    assert!(controls.entered.try_recv().is_err(), "it is too young");

    buffer.turn(start + FLUSH_AFTER);
    controls.entered.recv_timeout(DEADLINE).expect("it is being written");
    assert_eq!(buffer.due(), None);
    controls.permits.send(Ok(())).expect("the writer lives");
}

#[test]
fn a_stuck_output_costs_lines_but_never_blocks_or_grows() {
    let (writer, controls) = gated();
    let stats = writer.stats();
    let mut buffer = writer.buffer();
    record(&mut buffer, 0);
    buffer.flush();
    controls.entered.recv_timeout(DEADLINE).expect("the first buffer is with the output");

    for id in 1..=BUFFERS_MAX as u64 + 5 {
        record(&mut buffer, id);
        buffer.flush();
    }
    assert_eq!(stats.dropped.get(), 5, "all but the queue's room");

    for _ in 0..=BUFFERS_MAX {
        controls.permits.send(Ok(())).expect("the writer lives");
    }
    for _ in 0..=BUFFERS_MAX {
        controls.written.recv_timeout(DEADLINE).expect("what was queued is written");
    }
    // It goes on as if nothing had been.
    record(&mut buffer, 999);
    buffer.flush();
    controls.permits.send(Ok(())).expect("the writer lives");
    let last = controls.written.recv_timeout(DEADLINE).expect("new lines are written");
    assert!(String::from_utf8_lossy(&last).contains("999"));
    assert_eq!(stats.dropped.get(), 5);
}

#[test]
fn a_large_buffer_is_handed_over_at_once() {
    let (writer, controls) = gated();
    let mut buffer = writer.buffer();
    let path = vec![b'x'; 4000];
    for _ in 0..BUFFER_BYTES / 4000 + 1 {
        buffer.record(&Entry { protocol: "http", path: Some(&path), ..Entry::default() });
    }
    controls.permits.send(Ok(())).expect("the writer lives");
    let written = controls.written.recv_timeout(DEADLINE).expect("it is written without a turn");
    assert!(written.len() >= BUFFER_BYTES && written.len() < BUFFER_BYTES + 8192, "{}", written.len());
}

#[test]
fn a_failed_write_is_counted_and_the_next_line_starts_anew() {
    let (writer, controls) = gated();
    let stats = writer.stats();
    let mut buffer = writer.buffer();
    record(&mut buffer, 1);
    record(&mut buffer, 2);
    buffer.flush();
    controls.permits.send(Err(io::ErrorKind::StorageFull.into())).expect("the writer lives");
    controls.entered.recv_timeout(DEADLINE).expect("it was tried");

    record(&mut buffer, 3);
    buffer.flush();
    controls.permits.send(Ok(())).expect("the writer lives");
    controls.permits.send(Ok(())).expect("the writer lives");
    assert_eq!(controls.written.recv_timeout(DEADLINE).expect("a line end"), b"\n");
    controls.written.recv_timeout(DEADLINE).expect("the third line");
    assert!(writer.shutdown());
    assert_eq!((stats.written.get(), stats.dropped.get(), stats.errors.get()), (1, 2, 1));
}

#[test]
fn lines_after_the_end_are_counted_as_dropped() {
    let sink = Sink::default();
    let writer = LogWriter::to(sink.clone()).expect("a thread");
    let stats = writer.stats();
    let mut buffer = writer.buffer();
    assert!(writer.shutdown());
    record(&mut buffer, 1);
    drop(buffer);
    assert_eq!((stats.written.get(), stats.dropped.get()), (0, 1));
    assert!(sink.lines().is_empty());
}

#[test]
fn a_stuck_output_does_not_keep_the_process() {
    let (writer, controls) = gated();
    let mut buffer = writer.buffer();
    record(&mut buffer, 1);
    buffer.flush();
    controls.entered.recv_timeout(DEADLINE).expect("it is stuck in the output");
    assert!(!writer.shutdown(), "not everything was written");
}

#[test]
fn lines_of_several_workers_never_mix() {
    let sink = Sink::default();
    let writer = LogWriter::to(sink.clone()).expect("a thread");
    std::thread::scope(|scope| {
        for worker in 0..4_u64 {
            let mut buffer = writer.buffer();
            scope.spawn(move || {
                for id in 0..500 {
                    record(&mut buffer, worker * 1000 + id);
                }
            });
        }
    });
    assert!(writer.shutdown());
    let lines = sink.lines();
    assert_eq!(lines.len(), 2000);
    for line in &lines {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
    }
}
