//! Bytes out: first what is ready, then DATA of the streams in turn, as windows allow.
//!
//! In: the streams that have something to send. Out: pieces for the socket: small frames gathered in
//! one piece, large payloads as they are.
//!
//! Some frames per stream and round, so that a large body does not hold up the small ones, and still comes in pieces that
//! are worth a system call to whoever passes it on. Trailers are encoded when their turn comes, after their data and after every head that went out before:
//! header blocks must be written in the order in which they were encoded.
//!
//! Invariants: no window is exceeded; no frame is longer than the peer takes; a stream stands in the
//! line at most once.
//!
//! Not done here: priorities (RFC 9218), which change an order that nobody of ours has asked for.

use bytes::Bytes;

use crate::connection::Connection;
use crate::event::{Event, StreamId};
use crate::frame::{FrameHeader, Kind, flag};
use crate::head_out::encode_trailers;
use crate::state::Change;
use crate::stream::Ending;
use crate::streams::Key;

/// LIMIT: bodies up to this size are copied behind what is gathered; a larger one leaves as it is,
/// because another piece for the socket costs as much as copying this many bytes.
const COPY_BYTES_MAX: usize = 4 * 1024;

/// LIMIT: bytes of one DATA frame, whatever the peer allows: the others wait for it.
const DATA_BYTES_MAX: usize = 16 * 1024;

/// LIMIT: bytes for which room is made before it is known how many there are.
const OUT_EXPECTED_MAX: usize = 16 * 1024;

/// Room for the output of most turns with a single message.
const OUT_EXPECTED_MIN: usize = 512;

/// LIMIT: bytes of DATA that one stream sends before the others have their turn.
const ROUND_BYTES_MAX: usize = 64 * 1024;

/// What became of a turn.
enum Turn {
    /// So many bytes were written; it may have more.
    Again(usize),
    /// It has nothing more, or its own window is shut: it comes back by itself.
    Done,
    /// The window of the connection is shut.
    Blocked,
}

impl Connection {
    pub(crate) fn write_output(&mut self, out: &mut Vec<Bytes>, bytes_max: usize) -> usize {
        let first = out.len();
        // Replies are read, or at least handed to the socket, once they are taken from here.
        self.reply_bytes = 0;
        if !self.ready.is_empty() {
            self.make_room();
        }
        let (mut blocked, mut round) = (0, 0);
        while self.failed.is_none() && written(out, first) + self.out.len() < bytes_max {
            let Some(key) = self.ready.pop_front() else { break };
            let turn = self.take_turn(key, out);
            round = match turn {
                Turn::Again(len) if round + len < ROUND_BYTES_MAX => round + len,
                _ => 0,
            };
            match turn {
                Turn::Again(_) => {
                    if round > 0 {
                        self.ready.push_front(key);
                    } else {
                        self.ready.push_back(key);
                    }
                    blocked = 0;
                }
                Turn::Done => {
                    if let Some(stream) = self.streams.get_mut(key) {
                        stream.send.is_ready = false;
                    }
                }
                Turn::Blocked => {
                    self.ready.push_back(key);
                    blocked += 1;
                    // All of them were asked since something went out.
                    if blocked >= self.ready.len() {
                        break;
                    }
                }
            }
        }
        // Its round was cut short by `bytes_max`; small ones must not make it the only one that is served.
        if round > 0
            && let Some(key) = self.ready.pop_front()
        {
            self.ready.push_back(key);
        }
        if self.ready.is_empty() && self.ready.capacity() > READY_KEPT {
            self.ready = std::collections::VecDeque::new();
        }
        self.flush(out);
        written(out, first)
    }

    /// Makes room for a whole turn before it begins, that of the last one: what is gathered is then moved seldom.
    pub(crate) fn make_room(&mut self) {
        if self.out.capacity() == 0 {
            self.out.reserve(self.out_expected.max(OUT_EXPECTED_MIN));
        }
    }

    /// Hands over what is gathered.
    fn flush(&mut self, out: &mut Vec<Bytes>) {
        if !self.out.is_empty() {
            // A turn with little, such as an answer to a PING, says less about the next one than those before it.
            self.out_expected = self.out.len().clamp(self.out_expected / 2, OUT_EXPECTED_MAX);
            out.push(std::mem::take(&mut self.out).into());
        }
    }

    /// One frame of one stream.
    fn take_turn(&mut self, key: Key, out: &mut Vec<Bytes>) -> Turn {
        let frame_max = (self.peer.max_frame_size as usize).min(DATA_BYTES_MAX);
        let low = self.config.limits.send_queue_bytes_high as usize / 2;
        let Some(stream) = self.streams.get_mut(key) else { return Turn::Done };
        let (id, send) = (stream.id, &mut stream.send);
        if send.queue.is_empty() {
            return self.write_end(key);
        }
        let own = send.window.available().min(frame_max);
        let allowed = own.min(self.send_window.available());
        if allowed == 0 {
            return if own == 0 { Turn::Done } else { Turn::Blocked };
        }
        // Where in `out` the frame begins; its header is written when its length is known.
        let start = self.out.len();
        let empty = FrameHeader { len: 0, kind: Kind::DATA, flags: 0, stream: id };
        empty.write(&mut self.out);
        let mut len = 0;
        let mut large = None;
        while len < allowed && !send.queue.is_empty() {
            let next = send.queue.first_len().min(allowed - len);
            if next > COPY_BYTES_MAX {
                // It ends the frame, for it does not go into this buffer.
                len += next;
                large = Some(send.queue.take(next));
                break;
            }
            self.out.extend_from_slice(&send.queue.take(next));
            len += next;
        }
        send.window.take(len);
        self.send_window.take(len);
        let ends = send.queue.is_empty() && matches!(send.end, Some(Ending::Plain));
        let flags = if ends { flag::END_STREAM } else { 0 };
        let header = FrameHeader { len: len as u32, flags, ..empty };
        if let Some(room) = self.out.get_mut(start..).and_then(<[u8]>::first_chunk_mut) {
            *room = header.bytes();
        }
        let has_more = !ends && send.has_work();
        if send.is_waiting && send.queue.bytes() <= low {
            send.is_waiting = false;
            self.events.push_back(Event::Writable { stream: StreamId(id) });
        }
        if ends {
            send.end = None;
            stream.state = stream.state.after(Change::SendEnd);
        }
        if let Some(large) = large {
            self.flush(out);
            out.push(large);
        }
        self.floods.data_moved();
        if ends {
            self.close_if_ended(key);
        }
        if has_more { Turn::Again(len) } else { Turn::Done }
    }

    /// The end of a message whose data has gone out: trailers, or DATA of nothing. Neither needs a window.
    fn write_end(&mut self, key: Key) -> Turn {
        let Some(stream) = self.streams.get_mut(key) else { return Turn::Done };
        let id = stream.id;
        let Some(end) = stream.send.end.take() else { return Turn::Done };
        stream.state = stream.state.after(Change::SendEnd);
        match end {
            Ending::Plain => {
                FrameHeader { len: 0, kind: Kind::DATA, flags: flag::END_STREAM, stream: id }
                    .write(&mut self.out);
            }
            Ending::Trailers(trailers) => {
                let start = self.begin_block();
                encode_trailers(&trailers, &mut self.encoder, &mut self.out);
                self.finish_block(start, id, true);
            }
        }
        self.close_if_ended(key);
        Turn::Done
    }
}

fn written(out: &[Bytes], first: usize) -> usize {
    out.get(first..).unwrap_or_default().iter().map(Bytes::len).sum()
}

/// LIMIT: places in the line that an idle connection keeps.
const READY_KEPT: usize = 8;
