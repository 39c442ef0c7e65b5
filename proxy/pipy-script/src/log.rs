//! The log of scripts: lines with time and level on standard error.

use std::cell::RefCell;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const LEVELS: [&str; 4] = ["ERR", "WRN", "INF", "DBG"];

static SHOWN: AtomicU8 = AtomicU8::new(2);

/// Shows lines down to this level: `error`, `warn`, `info`, `debug`. False where there is no such level.
pub fn set_level(name: &str) -> bool {
    let level = ["error", "warn", "info", "debug"].iter().position(|known| *known == name);
    if let Some(level) = level {
        SHOWN.store(u8::try_from(level).unwrap_or(2), Ordering::Relaxed);
    }
    level.is_some()
}

/// Which lines are shown.
pub fn level() -> &'static str {
    ["error", "warn", "info", "debug"]
        .get(usize::from(SHOWN.load(Ordering::Relaxed)))
        .copied()
        .unwrap_or("info")
}

/// What was said while a script was tried out, in order: level (none for standard output) and text.
type Held = Vec<(String, String)>;

thread_local! {
    static HELD: RefCell<Option<Held>> = const { RefCell::new(None) };
}

/// Holds back what this thread says, until [`release`].
pub fn hold() {
    HELD.set(Some(Vec::new()));
}

/// Whether this thread's words are held back: the script is loaded to look at it, and will be loaded again to run.
pub(crate) fn is_held() -> bool {
    HELD.with_borrow(Option::is_some)
}

/// Says what was held back, or drops it.
pub fn release(say: bool) {
    let held = HELD.take().unwrap_or_default();
    for (level, text) in held.iter().filter(|_| say) {
        if level.is_empty() { print(text) } else { line(level, text) }
    }
}

/// Writes to standard output.
pub fn print(text: &str) {
    if HELD
        .with_borrow_mut(|held| held.as_mut().map(|held| held.push((String::new(), text.into()))).is_some())
    {
        return;
    }
    // A reader that has gone away is no failure of the script.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Writes a line.
pub fn line(level: &str, text: &str) {
    let rank = LEVELS.iter().position(|known| *known == level).unwrap_or(0);
    if rank > usize::from(SHOWN.load(Ordering::Relaxed)) {
        return;
    }
    if HELD.with_borrow_mut(|held| held.as_mut().map(|held| held.push((level.into(), text.into()))).is_some())
    {
        return;
    }
    if level == "ERR" {
        crate::faults::note(text);
    }
    let line = format!("{} [{level}] {text}\n", now());
    crate::objects::loggers::note("pipy", line.as_bytes());
    write(line.as_bytes());
}

/// Where lines go.
static PLACE: AtomicU8 = AtomicU8::new(0);

static FILE: Mutex<Option<LogFile>> = Mutex::new(None);

/// Sends lines to `stderr`, `stdout` or nowhere (`null`). False where there is no such place.
pub fn set_place(name: &str) -> bool {
    let place = ["stderr", "stdout", "null"].iter().position(|known| *known == name);
    if let Some(place) = place {
        PLACE.store(u8::try_from(place).unwrap_or(0), Ordering::Relaxed);
    }
    place.is_some()
}

/// Sends lines into a file besides; when it has this size, or this age, it becomes `path.1`, up to a number of files.
///
/// # Errors
/// When the file cannot be written.
pub fn set_file(
    path: &Path,
    bytes_max: u64,
    count_max: usize,
    interval: Option<Duration>,
) -> std::io::Result<()> {
    let file = LogFile::open(path.to_owned(), bytes_max, count_max, interval)?;
    *FILE.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
    Ok(())
}

fn write(line: &[u8]) {
    // A log that nobody reads any more is no reason to stop.
    let _ = match PLACE.load(Ordering::Relaxed) {
        0 => std::io::stderr().lock().write_all(line),
        1 => std::io::stdout().lock().write_all(line),
        _ => Ok(()),
    };
    if let Some(file) = FILE.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
        file.write(line);
    }
}

/// A log that is renamed when it is full.
struct LogFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    bytes_max: u64,
    count_max: usize,
    interval: Option<Duration>,
    since: Instant,
    looked: Instant,
}

/// How often it is looked whether somebody else has put the file aside, as `logrotate` does.
const LOOK: Duration = Duration::from_secs(1);

impl LogFile {
    fn open(
        path: PathBuf,
        bytes_max: u64,
        count_max: usize,
        interval: Option<Duration>,
    ) -> std::io::Result<Self> {
        let file = File::options().create(true).append(true).open(&path)?;
        let bytes = file.metadata()?.len();
        let since = Instant::now();
        let count_max = count_max.max(1);
        Ok(LogFile { path, file, bytes, bytes_max, count_max, interval, since, looked: since })
    }

    fn write(&mut self, line: &[u8]) {
        let full = self.bytes + line.len() as u64 > self.bytes_max;
        let old = self.interval.is_some_and(|interval| self.since.elapsed() >= interval);
        if self.looked.elapsed() >= LOOK {
            self.looked = Instant::now();
            if moved(&self.path, &self.file) {
                self.reopen();
            }
        }
        if self.bytes > 0 && (full || old) {
            self.turn();
        }
        // A full disk must not stop what is logged about.
        if self.file.write_all(line).is_ok() {
            self.bytes += line.len() as u64;
        }
    }

    /// `path` becomes `path.1`, that `path.2`, and so on; the last goes.
    fn turn(&mut self) {
        let numbered = |number: usize| PathBuf::from(format!("{}.{number}", self.path.display()));
        for number in (1..self.count_max).rev() {
            let from = if number == 1 { self.path.clone() } else { numbered(number - 1) };
            // What is not there has not been made yet.
            let _ = std::fs::rename(from, numbered(number));
        }
        if self.count_max == 1 {
            let _ = std::fs::remove_file(&self.path);
        }
        self.reopen();
    }

    /// Goes on in another file of the same name; in the one at hand, where that cannot be made.
    fn reopen(&mut self) {
        if let Ok(fresh) = Self::open(self.path.clone(), self.bytes_max, self.count_max, self.interval) {
            *self = fresh;
        }
    }
}

/// Whether a path leads to another file by now.
pub(crate) fn moved(path: &Path, file: &File) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (std::fs::metadata(path), file.metadata()) {
        (Ok(there), Ok(here)) => (there.dev(), there.ino()) != (here.dev(), here.ino()),
        _ => true,
    }
}

/// What time it is, as log lines say it.
pub fn time_now() -> String {
    now()
}

/// What time it is, in UTC.
pub(crate) fn now() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    time(now.as_secs(), now.subsec_millis())
}

/// `2026-01-31 13:05:59.042`, in UTC.
fn time(seconds: u64, millis: u32) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // The civil calendar from days since 1970, in years that begin in March, so that the leap day is the last.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{millis:03}")
}

#[cfg(test)]
mod tests {
    use super::time;

    #[test]
    fn times_are_civil() {
        assert_eq!(time(0, 0), "1970-01-01 00:00:00.000");
        assert_eq!(time(951_825_600, 7), "2000-02-29 12:00:00.007");
        assert_eq!(time(4_102_444_799, 999), "2099-12-31 23:59:59.999");
    }
}
