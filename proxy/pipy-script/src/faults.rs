//! What goes wrong in plugins while they run, by plugin: how often, and the last words about it.
//!
//! In: the lines that scripts write to the log as errors. Out: one board for all workers of the process, which whoever reports
//! waits on. A line is about the plugin whose file it names first. INVARIANT: a plugin whose script is another than before begins
//! at nothing; no lock is taken where nothing goes wrong.
//!
//! Not here: what a failure costs (the host), who is told (the sidecar).

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What went wrong in one plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fault {
    /// How often, since its script is what it is.
    pub count: u64,
    /// The last time, in words: file, line, column, what.
    pub last: String,
    /// Tells its script from others.
    script: u64,
}

#[derive(Debug)]
struct Board {
    faults: BTreeMap<String, Fault>,
    /// Grows with every change.
    number: u64,
}

static BOARD: Mutex<Board> = Mutex::new(Board { faults: BTreeMap::new(), number: 0 });
static CHANGED: Condvar = Condvar::new();

/// LIMIT: characters of the last words; the log has the rest.
const WORDS_CHARS_MAX: usize = 400;

const FOLDER: &str = "/plugins/";

fn board() -> MutexGuard<'static, Board> {
    BOARD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The plugins that are at work now, each with what tells its script from others. What is said about others is not noted.
pub fn at_work<'a>(plugins: impl Iterator<Item = (&'a str, u64)>) {
    let mut board = board();
    let mut before = std::mem::take(&mut board.faults);
    for (name, script) in plugins {
        let same = before.remove(name).filter(|fault| fault.script == script);
        let fault = same.unwrap_or(Fault { script, ..Fault::default() });
        board.faults.insert(name.to_owned(), fault);
    }
    board.number += 1;
    CHANGED.notify_all();
}

/// Notes an error that was logged.
pub(crate) fn note(text: &str) {
    let Some(name) = plugin_of(text) else { return };
    let mut board = board();
    let Some(fault) = board.faults.get_mut(name) else { return };
    fault.count += 1;
    fault.last = text.lines().next().unwrap_or_default().chars().take(WORDS_CHARS_MAX).collect();
    board.number += 1;
    CHANGED.notify_all();
}

/// What there is now, and its number.
pub fn all() -> (u64, BTreeMap<String, Fault>) {
    let board = board();
    (board.number, board.faults.clone())
}

/// Waits until there is something newer than what has this number, or time is up. Returns whether there is.
pub fn wait(number: u64, timeout: Duration) -> bool {
    let waited = CHANGED.wait_timeout_while(board(), timeout, |board| board.number == number);
    waited.unwrap_or_else(PoisonError::into_inner).0.number != number
}

/// The plugin that a line is about.
fn plugin_of(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once(FOLDER)?;
    rest.split_once(".js").map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_by_plugin_until_its_script_is_another() {
        at_work([("one", 1), ("two", 2)].into_iter());
        note("/plugins/one.js:1:8: handleMessageStart: /plugins/one.js:2:5: oh\n  excerpt");
        note("/plugins/one.js:1:8: handleMessageStart: /plugins/one.js:3:5: no");
        note("/plugins/unknown.js:1:8: oh");
        note("something else");
        let (number, faults) = all();
        assert_eq!(faults["one"].count, 2);
        assert!(faults["one"].last.ends_with("/plugins/one.js:3:5: no"));
        assert_eq!(faults["two"].count, 0);
        assert_eq!(faults.len(), 2);
        assert!(!wait(number, Duration::ZERO));
        at_work([("one", 1), ("two", 3)].into_iter());
        assert!(wait(number, Duration::ZERO));
        assert_eq!(all().1["one"].count, 2);
        at_work([("one", 4)].into_iter());
        assert_eq!(all().1["one"].count, 0);
        assert_eq!(all().1.len(), 1);
    }
}
