//! An instance's side: pulls each new version of a codebase, and reports how it went.
//!
//! One thread waits for versions, one reports. The repository holds a question for a while and answers when there is another
//! version; one that does not is asked every second. Snapshots go out to whoever runs them, outcomes come back; each is reported at once.
//! INVARIANT: a snapshot is one version: a repository that moves on meanwhile is asked again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::link::{Link, Logs};
use crate::tls::TlsFiles;

/// How often the repository is asked, where it does not hold questions.
const LOOK: Duration = Duration::from_secs(1);
/// How long it is asked to hold a question.
const HOLD: Duration = Duration::from_secs(15);
/// How often an instance without news reports.
const REPORT: Duration = Duration::from_secs(5);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// LIMIT: bytes of a file.
const FILE_MAX: u64 = 16 << 20;

/// The files of one version.
#[derive(Debug)]
pub struct Snapshot {
    /// As the repository names it.
    pub version: String,
    /// The path of the script to run.
    pub main: String,
    /// By path.
    pub files: BTreeMap<String, Vec<u8>>,
}

/// What became of a snapshot.
pub struct Report {
    /// The version.
    pub version: String,
    /// Why it does not run, where it does not.
    pub error: Option<String>,
}

/// Which codebase is followed, and by whom.
pub struct Follower {
    /// `http://host:port/repo/name`, or `https`.
    pub url: String,
    /// What other machines are asked for.
    pub token: Option<String>,
    /// For https.
    pub tls: TlsFiles,
    /// Who this is.
    pub uuid: String,
    /// How it is called.
    pub name: String,
    /// Whether versions after the first are taken.
    pub reload: bool,
    /// What reports say besides: an object, such as `{"metrics": …}`; `None` for no reports at all.
    pub facts: Option<Box<dyn Fn() -> Value + Send>>,
    /// Logs that the repository may ask for, where it is told anything.
    pub logs: Logs,
    /// The repository wants the script to be loaded anew.
    pub restart: Box<dyn Fn() + Send>,
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// How the repository is asked.
#[derive(Clone)]
struct Asker {
    agent: ureq::Agent,
    url: String,
    token: Option<String>,
}

struct Reporter {
    asker: Asker,
    uuid: String,
    name: String,
    since: u64,
    facts: Box<dyn Fn() -> Value + Send>,
    /// Which version runs.
    running: String,
    /// The last one that was refused, and why.
    refused: Option<(String, String)>,
}

impl Follower {
    /// Follows until nobody wants snapshots. `say` hears when the repository can't be reached, and when it can again.
    ///
    /// # Errors
    /// When the settings of TLS are no good.
    pub fn start(
        self,
        snapshots: Sender<Snapshot>,
        reports: Receiver<Report>,
        say: impl Fn(&str, &str) + Send + 'static,
    ) -> Result<(), String> {
        let mut config = ureq::Agent::config_builder()
            .timeout_global(Some(HOLD + PATIENCE))
            .timeout_connect(Some(PATIENCE))
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None);
        let mut tls = None;
        if self.url.starts_with("https://") {
            config = config.tls_config(self.tls.client()?);
            tls = Some(self.tls.rustls()?);
        }
        let url = self.url.trim_end_matches('/').to_owned();
        let asker = Asker { agent: config.build().new_agent(), url, token: self.token };
        let over = Arc::new(AtomicBool::new(false));
        let link = self.facts.is_some().then(|| Link {
            url: asker.url.clone(),
            uuid: self.uuid.clone(),
            token: asker.token.clone(),
            tls,
            logs: self.logs,
            reload: self.restart,
        });
        let reporter = self.facts.map(|facts| Reporter {
            asker: asker.clone(),
            uuid: self.uuid,
            name: self.name,
            since: now(),
            facts,
            running: String::new(),
            refused: None,
        });
        let ended = Arc::clone(&over);
        let began =
            |error: std::io::Error| format!("the thread that follows the repository did not start: {error}");
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(name.into()).spawn(work).map(drop).map_err(began)
        };
        spawn(
            "repo-report",
            Box::new(move || {
                match reporter {
                    Some(reporter) => reporter.run(&reports),
                    None => while reports.recv().is_ok() {},
                }
                ended.store(true, Ordering::Relaxed);
            }),
        )?;
        if let Some(link) = link {
            let over = Arc::clone(&over);
            spawn("repo-link", Box::new(move || link.run(&over)))?;
        }
        let reload = self.reload;
        spawn("repo", Box::new(move || asker.run(&snapshots, &over, reload, &say)))
    }
}

impl Asker {
    fn run(&self, snapshots: &Sender<Snapshot>, over: &AtomicBool, reload: bool, say: &dyn Fn(&str, &str)) {
        let (mut seen, mut lost): (Option<String>, bool) = (None, false);
        while !over.load(Ordering::Relaxed) {
            let began = Instant::now();
            match self.look(seen.as_deref()) {
                Ok(found) => {
                    if std::mem::take(&mut lost) {
                        say("INF", "[codebase] the repository answers again");
                    }
                    if let Some(snapshot) = found {
                        seen = Some(snapshot.version.clone());
                        if snapshots.send(snapshot).is_err() || !reload {
                            return;
                        }
                        continue;
                    }
                    // It did not hold the question.
                    if began.elapsed() < LOOK {
                        std::thread::sleep(LOOK);
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut lost, true) {
                        say("WRN", &format!("[codebase] {error}; asking again every second"));
                    }
                    // A codebase that was made anew may have a version that was seen.
                    if error.starts_with("no codebase") {
                        seen = None;
                    }
                    std::thread::sleep(LOOK);
                }
            }
        }
    }

    /// The codebase, if its version is another one.
    fn look(&self, seen: Option<&str>) -> Result<Option<Snapshot>, String> {
        let Some((version, list)) = self.ask("/", seen)? else { return Ok(None) };
        if seen == Some(version.as_str()) {
            return Ok(None);
        }
        let list = String::from_utf8(list).map_err(|_| "the list of files is no text")?;
        let paths: Vec<&str> = list.lines().filter(|line| !line.is_empty()).collect();
        let main = (*paths.first().ok_or("the codebase has no files")?).to_owned();
        let mut files = BTreeMap::new();
        for path in paths {
            let (etag, bytes) = self.ask(&encode(path), None)?.ok_or("a file is not modified")?;
            if etag != version {
                return Err(format!("version {version} was replaced while it was pulled"));
            }
            files.insert(path.to_owned(), bytes);
        }
        Ok(Some(Snapshot { version, main, files }))
    }

    /// The etag and the body of an answer; `None` where it is still the version that was seen.
    fn ask(&self, path: &str, seen: Option<&str>) -> Result<Option<(String, Vec<u8>)>, String> {
        let url = format!("{}{path}", self.url);
        let mut request = self.agent.get(&url);
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(seen) = seen {
            request =
                request.header("if-none-match", seen).header("prefer", format!("wait={}", HOLD.as_secs()));
        }
        let mut response = request.call().map_err(|error| format!("{url}: {error}"))?;
        match response.status().as_u16() {
            200 => {}
            304 => return Ok(None),
            401 => return Err(format!("{url}: the repository wants a token: set PIPY_TOKEN")),
            404 => return Err(format!("no codebase at {url}")),
            other => return Err(format!("{url}: status {other}")),
        }
        let etag = response.headers().get("etag").and_then(|value| value.to_str().ok());
        let etag = etag.ok_or_else(|| format!("{url}: no etag; is this a repository?"))?.to_owned();
        let body = response.body_mut().with_config().limit(FILE_MAX + 1).read_to_vec();
        Ok(Some((etag, body.map_err(|error| format!("{url}: {error}"))?)))
    }
}

impl Reporter {
    fn run(mut self, reports: &Receiver<Report>) {
        loop {
            match reports.recv_timeout(REPORT) {
                Ok(report) => {
                    self.refused = report.error.map(|error| (report.version.clone(), error));
                    if self.refused.is_none() {
                        self.running = report.version;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            // The next report says the same and more.
            let _ = self.report();
        }
    }

    fn report(&self) -> Result<(), String> {
        let mut status = json!({
            "timestamp": now(), "since": self.since, "uuid": self.uuid, "name": self.name, "version": self.running,
        });
        if let (Some(status), Value::Object(facts)) = (status.as_object_mut(), (self.facts)()) {
            status.extend(facts);
        }
        if let Some((version, error)) = &self.refused {
            status["refused"] = json!({"version": version, "error": error});
        }
        let asker = &self.asker;
        let request = asker.agent.post(format!("{}/", asker.url)).header("content-type", "application/json");
        let request = match &asker.token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        };
        let mut response = request.send(status.to_string()).map_err(|error| error.to_string())?;
        // The connection is used again once the answer is read.
        response
            .body_mut()
            .with_config()
            .limit(FILE_MAX)
            .read_to_vec()
            .map(drop)
            .map_err(|error| error.to_string())
    }
}

/// A path with its escapes.
pub(crate) fn encode(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    path.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
