//! Where loggers write: files that are rotated, servers that take lines by HTTP, the system's log.
//!
//! A sink is shared by all workers of the process: the same file or URL is opened once. INVARIANTS: lines of one worker keep their
//! order; a line is whole. A worker never waits for a server: lines beyond the buffer are dropped, oldest first, and counted.

use std::collections::{HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::log;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes lines.
pub(super) trait Sink: Send + Sync {
    /// Writes one, as it is.
    fn write(&self, line: &[u8]) -> Result<(), String>;

    /// What was written is to go at once.
    fn hurry(&self) {}

    /// Waits until it has arrived.
    fn flush(&self, _until: Instant) {}
}

static SINKS: LazyLock<Mutex<HashMap<String, Arc<dyn Sink>>>> = LazyLock::new(Mutex::default);

/// The sink of this name, made when it is the first.
pub(super) fn shared<S: Sink + 'static>(
    name: String,
    make: impl FnOnce() -> Result<S, String>,
) -> Result<Arc<dyn Sink>, String> {
    if let Some(known) = lock(&SINKS).get(&name) {
        return Ok(Arc::clone(known));
    }
    let made: Arc<dyn Sink> = Arc::new(make()?);
    lock(&SINKS).insert(name, Arc::clone(&made));
    Ok(made)
}

/// Has everything that loggers were given arrive, for two seconds at most. For when the process ends.
pub fn flush() {
    let until = Instant::now() + Duration::from_secs(2);
    let all: Vec<Arc<dyn Sink>> = lock(&SINKS).values().cloned().collect();
    // A server that does not answer must not take the time of the others.
    all.iter().for_each(|sink| sink.hurry());
    all.iter().for_each(|sink| sink.flush(until));
}

/// When a file is put aside for a new one.
#[derive(Clone, Copy, Default)]
pub(super) struct Rotation {
    /// Bytes; 0 for any.
    pub(super) size: u64,
    /// How many are kept besides the one at hand.
    pub(super) count: u32,
    pub(super) interval: Option<Duration>,
}

/// How often it is looked whether somebody else has moved the file.
const LOOK: Duration = Duration::from_secs(1);

struct Opened {
    file: File,
    size: u64,
    since: Instant,
    looked: Instant,
}

/// A file.
pub(super) struct LogFile {
    path: PathBuf,
    rotation: Rotation,
    opened: Mutex<Option<Opened>>,
}

impl LogFile {
    pub(super) fn open(path: &str, append: bool, rotation: Rotation) -> Result<Self, String> {
        let path = PathBuf::from(path);
        let said = |error: std::io::Error| format!("cannot open {}: {error}", path.display());
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(said)?;
        }
        if !append && path.exists() {
            OpenOptions::new().write(true).truncate(true).open(&path).map_err(said)?;
        }
        let file = LogFile { path, rotation, opened: Mutex::new(None) };
        *lock(&file.opened) =
            Some(file.open_again().map_err(|error| format!("cannot open {}: {error}", file.path.display()))?);
        Ok(file)
    }

    fn open_again(&self) -> std::io::Result<Opened> {
        let file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        let (size, now) = (file.metadata()?.len(), Instant::now());
        Ok(Opened { file, size, since: now, looked: now })
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }

    /// `log` becomes `log.1`, that `log.2`, and so on; the last one goes.
    fn rotate(&self) -> std::io::Result<()> {
        if self.rotation.count == 0 {
            return std::fs::remove_file(&self.path);
        }
        for number in (1..self.rotation.count).rev() {
            let from = self.numbered(number);
            if from.exists() {
                std::fs::rename(from, self.numbered(number + 1))?;
            }
        }
        std::fs::rename(&self.path, self.numbered(1))
    }

    fn put(&self, line: &[u8]) -> std::io::Result<()> {
        let mut guard = lock(&self.opened);
        let now = Instant::now();
        if let Some(opened) = guard.as_mut()
            && now.saturating_duration_since(opened.looked) >= LOOK
        {
            opened.looked = now;
            if log::moved(&self.path, &opened.file) {
                *guard = None;
            }
        }
        let full = guard.as_ref().is_some_and(|opened| {
            let size = self.rotation.size;
            opened.size > 0
                && (size > 0 && opened.size + line.len() as u64 > size
                    || self
                        .rotation
                        .interval
                        .is_some_and(|every| now.saturating_duration_since(opened.since) >= every))
        });
        if full && let Some(opened) = guard.take() {
            // What somebody else has put aside is aside.
            if !log::moved(&self.path, &opened.file) {
                self.rotate()?;
            }
        }
        let opened = match guard.as_mut() {
            Some(opened) => opened,
            None => guard.insert(self.open_again()?),
        };
        opened.file.write_all(line)?;
        opened.size += line.len() as u64;
        Ok(())
    }
}

impl Sink for LogFile {
    fn write(&self, line: &[u8]) -> Result<(), String> {
        self.put(line).map_err(|error| format!("cannot write {}: {error}", self.path.display()))
    }
}

/// How lines are sent together.
#[derive(Clone)]
pub(super) struct Batch {
    /// Lines of one request.
    pub(super) size: usize,
    /// How long the first line of a batch waits.
    pub(super) interval: Duration,
    /// How long a silence ends a batch.
    pub(super) timeout: Duration,
    pub(super) prefix: String,
    pub(super) postfix: String,
    pub(super) separator: String,
}

/// Where lines go, and how.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) url: String,
    pub(super) method: String,
    pub(super) headers: Vec<(String, String)>,
    /// PEM of roots that are believed besides those of the system.
    pub(super) trusted: String,
    /// Bytes that wait at most.
    pub(super) limit: usize,
    pub(super) batch: Batch,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    dropped: u64,
    first: Option<Instant>,
    last: Option<Instant>,
    /// Batches that are on their way.
    sending: bool,
    hurry: bool,
}

/// Lines that go to a server.
pub(super) struct Remote(Arc<Waiting>);

struct Waiting {
    target: Target,
    queue: Mutex<Queue>,
    news: Condvar,
}

/// The longest that a server is left alone after it has failed.
const BACK_OFF_MAX: Duration = Duration::from_secs(30);

impl Remote {
    pub(super) fn open(target: Target) -> Result<Self, String> {
        let agent = agent(&target)?;
        let waiting = Arc::new(Waiting { target, queue: Mutex::default(), news: Condvar::new() });
        let own = Arc::clone(&waiting);
        std::thread::Builder::new()
            .name("log-http".into())
            .spawn(move || own.run(&agent))
            .map_err(|error| format!("the thread that sends log lines did not start: {error}"))?;
        Ok(Remote(waiting))
    }
}

fn agent(target: &Target) -> Result<ureq::Agent, String> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let mut config = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(10)))
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None);
    if target.url.starts_with("https://") {
        let mut pem = target.trusted.clone().into_bytes();
        if pem.is_empty() {
            pem = std::fs::read("/etc/ssl/certs/ca-certificates.crt").unwrap_or_default();
        }
        let roots: Vec<ureq::tls::Certificate<'static>> = CertificateDer::pem_slice_iter(&pem)
            .flatten()
            .map(|der| ureq::tls::Certificate::from_der(&der).to_owned())
            .collect();
        if roots.is_empty() {
            return Err(format!("{}: no trusted certificates: give tls: {{ trusted }}", target.url));
        }
        let tls = ureq::tls::TlsConfig::builder()
            .root_certs(ureq::tls::RootCerts::new_with_certs(&roots))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
        config = config.tls_config(tls.build());
    } else if !target.url.starts_with("http://") {
        return Err(format!("{:?} is no URL of a server", target.url));
    }
    Ok(config.build().new_agent())
}

impl Waiting {
    fn run(&self, agent: &ureq::Agent) {
        let mut back_off = Duration::ZERO;
        let mut failing = false;
        loop {
            let batch = self.batch();
            let body = self.body(&batch);
            loop {
                match self.send(agent, &body) {
                    Ok(()) => {
                        if std::mem::take(&mut failing) {
                            log::line("INF", &format!("[log] {} takes lines again", self.target.url));
                        }
                        back_off = Duration::ZERO;
                        break;
                    }
                    Err(error) => {
                        if !std::mem::replace(&mut failing, true) {
                            log::line("ERR", &format!("[log] {}: {error}; lines wait", self.target.url));
                        }
                        back_off = (back_off * 2).clamp(Duration::from_millis(250), BACK_OFF_MAX);
                        // What refuses the batch itself will refuse it again.
                        if error.starts_with("status 4") {
                            break;
                        }
                        std::thread::sleep(back_off);
                    }
                }
            }
            lock(&self.queue).sending = false;
            self.news.notify_all();
        }
    }

    /// Waits for a batch to be full, or old enough.
    fn batch(&self) -> Vec<Vec<u8>> {
        let wanted = &self.target.batch;
        let mut queue = lock(&self.queue);
        loop {
            let due = match (queue.first, queue.last) {
                (Some(first), Some(last)) => Some((first + wanted.interval).min(last + wanted.timeout)),
                _ => None,
            };
            let now = Instant::now();
            let left = due.map(|due| due.saturating_duration_since(now));
            let ready =
                queue.lines.len() >= wanted.size || left.is_some_and(|left| left.is_zero()) || queue.hurry;
            if ready && !queue.lines.is_empty() {
                let count = wanted.size.min(queue.lines.len());
                let batch: Vec<Vec<u8>> = queue.lines.drain(..count).collect();
                queue.bytes -= batch.iter().map(Vec::len).sum::<usize>();
                queue.first = (!queue.lines.is_empty()).then_some(now);
                queue.sending = true;
                if queue.dropped > 0 {
                    log::line(
                        "WRN",
                        &format!("[log] {} lines for {} were dropped", queue.dropped, self.target.url),
                    );
                    queue.dropped = 0;
                }
                return batch;
            }
            queue.hurry = false;
            queue = match left {
                Some(left) => self.news.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.news.wait(queue).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn body(&self, batch: &[Vec<u8>]) -> Vec<u8> {
        let shape = &self.target.batch;
        let mut body = shape.prefix.clone().into_bytes();
        for (index, line) in batch.iter().enumerate() {
            if index > 0 {
                body.extend_from_slice(shape.separator.as_bytes());
            }
            body.extend_from_slice(line);
        }
        body.extend_from_slice(shape.postfix.as_bytes());
        body
    }

    fn send(&self, agent: &ureq::Agent, body: &[u8]) -> Result<(), String> {
        let mut request =
            ureq::http::Request::builder().method(self.target.method.as_str()).uri(&self.target.url);
        for (name, value) in &self.target.headers {
            request = request.header(name, value);
        }
        let request = request.body(body).map_err(|error| error.to_string())?;
        let mut response = agent.run(request).map_err(|error| error.to_string())?;
        let status = response.status().as_u16();
        // The connection is used again once the answer is read.
        let _ = response.body_mut().with_config().limit(1 << 20).read_to_vec();
        if (200..300).contains(&status) { Ok(()) } else { Err(format!("status {status}")) }
    }
}

impl Sink for Remote {
    fn write(&self, line: &[u8]) -> Result<(), String> {
        let line = line.strip_suffix(b"\n").unwrap_or(line).to_vec();
        let mut queue = lock(&self.0.queue);
        queue.bytes += line.len();
        queue.lines.push_back(line);
        while queue.bytes > self.0.target.limit {
            let Some(oldest) = queue.lines.pop_front() else { break };
            queue.bytes -= oldest.len();
            queue.dropped += 1;
        }
        let now = Instant::now();
        let first = queue.first.is_none();
        queue.first.get_or_insert(now);
        queue.last = Some(now);
        let full = queue.lines.len() >= self.0.target.batch.size;
        drop(queue);
        if first || full {
            self.0.news.notify_all();
        }
        Ok(())
    }

    fn hurry(&self) {
        lock(&self.0.queue).hurry = true;
        self.0.news.notify_all();
    }

    fn flush(&self, until: Instant) {
        let mut queue = lock(&self.0.queue);
        while !queue.lines.is_empty() || queue.sending {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            // One batch after the other.
            queue.hurry = true;
            self.0.news.notify_all();
            let wait = left.min(Duration::from_millis(20));
            queue = self.0.news.wait_timeout(queue, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

enum Way {
    Local(UnixDatagram, PathBuf),
    Far(UdpSocket),
}

/// The system's log, on this machine (`/dev/log`) or another.
pub(super) struct Syslog {
    way: Way,
    head: String,
    name: String,
}

const LEVELS: [&str; 8] = ["EMERG", "ALERT", "CRIT", "ERR", "WARNING", "NOTICE", "INFO", "DEBUG"];

impl Syslog {
    /// `address` is the path of a socket, or `host:port` of UDP.
    pub(super) fn open(name: &str, priority: &str, address: &str) -> Result<Self, String> {
        let plain = priority.trim_start_matches("LOG_").to_ascii_uppercase();
        let level = LEVELS
            .iter()
            .position(|known| *known == plain)
            .ok_or_else(|| format!("unknown priority: {priority}; there are {}", LEVELS.join(", ")))?;
        let said = |error: std::io::Error| format!("{address}: {error}");
        let way = if address.starts_with('/') {
            Way::Local(UnixDatagram::unbound().map_err(said)?, PathBuf::from(address))
        } else {
            let bind = if address.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
            let socket = UdpSocket::bind(bind).map_err(said)?;
            socket.connect(address).map_err(said)?;
            Way::Far(socket)
        };
        // RFC 5424 §6.2.1: facility 1 is that of programs.
        Ok(Syslog { way, head: format!("<{}>1 ", 8 + level), name: name.to_owned() })
    }
}

impl Sink for Syslog {
    fn write(&self, line: &[u8]) -> Result<(), String> {
        let text = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(line));
        let time = log::now().replacen(' ', "T", 1);
        let pid = std::process::id();
        // RFC 5424 §6.2.5: a name has no blanks.
        let name: String =
            self.name.chars().map(|c| if c.is_ascii_graphic() { c } else { '_' }).take(48).collect();
        let message = format!("{}{time}Z - {name} {pid} - - {text}", self.head);
        let sent = match &self.way {
            Way::Local(socket, path) => socket.send_to(message.as_bytes(), path),
            Way::Far(socket) => socket.send(message.as_bytes()),
        };
        sent.map(drop).map_err(|error| format!("syslog: {error}"))
    }
}
