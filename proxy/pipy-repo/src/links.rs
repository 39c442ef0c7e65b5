//! Live logs: instances keep a WebSocket open to their repository, and whoever watches a log of one asks for it there.
//!
//! ```text
//!   viewer ──watch──► /api/v1/log/UUID/NAME ─┐             ┌─ /repo/CODEBASE/UUID ◄── instance
//!          ◄──lines──                        └── Links ────┘   ──log/on/NAME──►  ◄──lines──
//! ```
//!
//! INVARIANT: a viewer gets what a log has said before, then each later line once, in order, until it is too slow to take them; an
//! instance sends a log only while somebody watches it.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::http::Talk;
use crate::websocket::{Message, Socket};

/// LIMIT: pieces of a log that wait for a viewer; one that falls behind further is let go.
const PIECES_MAX: usize = 1024;
/// How often a silent peer is asked whether it is there.
const PING: Duration = Duration::from_secs(15);

/// A log: what it has said so far, and each line that it says from then on.
pub struct Feed {
    /// Before.
    pub tail: Vec<u8>,
    /// From now on.
    pub lines: Receiver<Vec<u8>>,
}

struct Viewer {
    number: u64,
    uuid: String,
    log: String,
    /// It has not been told yet what the log has said before.
    fresh: bool,
    out: SyncSender<Vec<u8>>,
}

#[derive(Default)]
struct State {
    last: u64,
    /// Where commands for an instance go, and which of its connections that is.
    instances: HashMap<String, (u64, Sender<String>)>,
    viewers: Vec<Viewer>,
}

/// All of a repository.
#[derive(Default)]
pub(crate) struct Links(Mutex<State>);

impl Links {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is said to an instance.
    pub(crate) fn instance(self: Arc<Self>, uuid: String) -> Talk {
        Box::new(move |mut socket| {
            let (send, commands) = channel();
            let number = self.lock().join(&uuid, send);
            let mut heard = Instant::now();
            loop {
                let mut told = Ok(());
                while let (Ok(()), Ok(command)) = (&told, commands.try_recv()) {
                    told = socket.text(&command);
                }
                match told.and_then(|()| socket.read()) {
                    Ok(Some(Message::Binary(piece))) => self.lock().pass_on(&uuid, &piece),
                    Ok(Some(Message::Text(_))) => {}
                    Ok(None) if heard.elapsed() < PING => continue,
                    Ok(None) if socket.ping().is_ok() => {}
                    _ => break,
                }
                heard = Instant::now();
            }
            let mut state = self.lock();
            if state.instances.get(&uuid).is_some_and(|(last, _)| *last == number) {
                state.instances.remove(&uuid);
            }
        })
    }

    /// What is said to a viewer of an instance's log.
    pub(crate) fn viewer(self: Arc<Self>, uuid: String, log: String) -> Talk {
        Box::new(move |mut socket| {
            if !asked_to_watch(&mut socket) {
                return;
            }
            let (out, pieces) = sync_channel(PIECES_MAX);
            let number = self.lock().watch(&uuid, &log, out);
            show(&mut socket, &pieces);
            self.lock().leave(number);
        })
    }
}

impl State {
    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// An instance has connected; it is told of what is watched already.
    fn join(&mut self, uuid: &str, commands: Sender<String>) -> u64 {
        let number = self.number();
        for viewer in self.viewers.iter_mut().filter(|viewer| viewer.uuid == uuid) {
            viewer.fresh = true;
            let _ = commands.send(format!("log/on/{}", viewer.log));
        }
        self.instances.insert(uuid.to_owned(), (number, commands));
        number
    }

    fn tell(&self, uuid: &str, command: String) {
        if let Some((_, commands)) = self.instances.get(uuid) {
            // One that has just gone asks again when it is back.
            let _ = commands.send(command);
        }
    }

    fn watch(&mut self, uuid: &str, log: &str, out: SyncSender<Vec<u8>>) -> u64 {
        let number = self.number();
        let (uuid, log) = (uuid.to_owned(), log.to_owned());
        self.tell(&uuid, format!("log/on/{log}"));
        self.viewers.push(Viewer { number, uuid, log, fresh: true, out });
        number
    }

    fn leave(&mut self, number: u64) {
        let Some(place) = self.viewers.iter().position(|viewer| viewer.number == number) else { return };
        let Viewer { uuid, log, .. } = self.viewers.swap_remove(place);
        if !self.viewers.iter().any(|viewer| viewer.uuid == uuid && viewer.log == log) {
            self.tell(&uuid, format!("log/off/{log}"));
        }
    }

    /// A piece of a log has come: `tail NAME` or `log NAME` is its first line.
    fn pass_on(&mut self, uuid: &str, piece: &[u8]) {
        let Some(end) = piece.iter().position(|byte| *byte == b'\n') else { return };
        let (head, text) = (String::from_utf8_lossy(&piece[..end]), &piece[end + 1..]);
        let Some((kind, log)) = head.split_once(' ') else { return };
        let tail = kind == "tail";
        self.viewers.retain_mut(|viewer| {
            if viewer.uuid != uuid || viewer.log != log || viewer.fresh != tail {
                return true;
            }
            viewer.fresh = false;
            !matches!(viewer.out.try_send(text.to_vec()), Err(TrySendError::Full(_)))
        });
    }
}

/// Waits for the word to begin.
fn asked_to_watch(socket: &mut Socket<'_>) -> bool {
    let began = Instant::now();
    while began.elapsed() < PING {
        match socket.read() {
            Ok(Some(Message::Text(text))) if text.trim() == "watch" => return true,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
    false
}

/// Sends pieces of a log until the viewer goes, or is given no more.
fn show(socket: &mut Socket<'_>, pieces: &Receiver<Vec<u8>>) {
    let mut heard = Instant::now();
    loop {
        let mut text = Vec::new();
        let open = loop {
            match pieces.try_recv() {
                Ok(piece) => text.extend(piece),
                Err(std::sync::mpsc::TryRecvError::Empty) => break true,
                Err(std::sync::mpsc::TryRecvError::Disconnected) => break false,
            }
        };
        let told = match String::from_utf8(text) {
            Ok(text) if text.is_empty() => Ok(()),
            Ok(text) => socket.text(&text),
            Err(bytes) => socket.binary(bytes.as_bytes()),
        };
        match told.and_then(|()| socket.read()) {
            Ok(None) if heard.elapsed() < PING => {}
            Ok(None) if socket.ping().is_ok() => heard = Instant::now(),
            Ok(Some(_)) => heard = Instant::now(),
            _ => return,
        }
        if !open {
            return;
        }
    }
}

/// What is said to a viewer of a log of this process.
pub fn watch_log(feed: impl FnOnce() -> Feed + Send + 'static) -> Talk {
    Box::new(move |mut socket| {
        if asked_to_watch(&mut socket) {
            let Feed { tail, lines } = feed();
            let (out, pieces) = sync_channel(PIECES_MAX);
            let _ = out.send(tail);
            // One channel for both: lines are handed on by a thread that ends with either side.
            let handed = std::thread::Builder::new().name("log".into()).spawn(move || {
                while let Ok(line) = lines.recv() {
                    if out.try_send(line).is_err() {
                        return;
                    }
                }
            });
            if handed.is_ok() {
                show(&mut socket, &pieces);
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn viewers_get_what_was_before_then_each_line_once() {
        let mut state = State::default();
        let (send, commands) = channel();
        let (first, seen) = sync_channel(8);
        let watching = state.watch("a", "x", first);
        state.join("a", send);
        assert_eq!(commands.try_iter().collect::<Vec<_>>(), ["log/on/x"]);
        // Before the tail has come a line is part of it.
        state.pass_on("a", b"log x\nlost?");
        state.pass_on("a", b"tail x\nold ");
        state.pass_on("a", b"log x\nnew ");
        state.pass_on("a", b"log y\nother");
        state.pass_on("b", b"log x\nother");
        let (second, late) = sync_channel(1);
        let other = state.watch("a", "x", second);
        state.pass_on("a", b"tail x\nold new ");
        let all = |seen: &Receiver<Vec<u8>>| seen.try_iter().flatten().collect::<Vec<u8>>();
        assert_eq!(all(&seen), b"old new ");
        assert_eq!(all(&late), b"old new ");
        state.leave(other);
        assert_eq!(commands.try_iter().collect::<Vec<_>>(), ["log/on/x"]);
        state.leave(watching);
        assert_eq!(commands.try_iter().collect::<Vec<_>>(), ["log/off/x"]);
    }

    #[test]
    fn a_viewer_that_is_too_slow_is_let_go() {
        let mut state = State::default();
        let (slow, seen) = sync_channel(1);
        state.watch("a", "x", slow);
        for piece in [&b"tail x\n1"[..], b"log x\n2", b"log x\n3"] {
            state.pass_on("a", piece);
        }
        assert!(state.viewers.is_empty());
        assert_eq!(seen.iter().flatten().collect::<Vec<u8>>(), b"1");
    }
}
