//! An instance's side: pulls each new version of a codebase, and reports how it went.
//!
//! Runs on a thread of its own. Snapshots go out to whoever runs them, outcomes come back; each is reported at once.
//! INVARIANT: a snapshot is one version: a repository that moves on meanwhile is asked again. Not here: https.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;

/// How often the repository is asked.
const LOOK: Duration = Duration::from_secs(1);
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

/// Follows one codebase.
pub struct Follower {
    agent: ureq::Agent,
    url: String,
    token: Option<String>,
    uuid: String,
    name: String,
    since: u64,
    /// Which version runs.
    running: String,
    /// The last one that was refused, and why.
    refused: Option<(String, String)>,
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

impl Follower {
    /// Of the codebase at a URL, as the instance with this id and name.
    pub fn new(url: &str, token: Option<String>, uuid: String, name: String) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None);
        Follower {
            agent: config.build().new_agent(),
            url: url.trim_end_matches('/').to_owned(),
            token,
            uuid,
            name,
            since: now(),
            running: String::new(),
            refused: None,
        }
    }

    /// Follows until nobody wants snapshots. `say` hears when the repository can't be reached, and when it can again.
    pub fn run(mut self, snapshots: &Sender<Snapshot>, reports: &Receiver<Report>, say: impl Fn(&str, &str)) {
        let (mut seen, mut lost, mut reported) = (None, false, Instant::now());
        loop {
            match self.look(seen.as_deref()) {
                Ok(found) => {
                    if std::mem::take(&mut lost) {
                        say("INF", "[codebase] the repository answers again");
                    }
                    if let Some(snapshot) = found {
                        seen = Some(snapshot.version.clone());
                        if snapshots.send(snapshot).is_err() {
                            return;
                        }
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
                }
            }
            let mut news = false;
            match reports.recv_timeout(LOOK) {
                Ok(report) => {
                    news = true;
                    self.refused = report.error.map(|error| (report.version.clone(), error));
                    if self.refused.is_none() {
                        self.running = report.version;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if news || reported.elapsed() >= REPORT {
                reported = Instant::now();
                // The next report says the same and more.
                let _ = self.report();
            }
        }
    }

    /// The codebase, if its version is another one.
    fn look(&self, seen: Option<&str>) -> Result<Option<Snapshot>, String> {
        let (version, _) = self.ask("HEAD", "/")?;
        if seen == Some(version.as_str()) {
            return Ok(None);
        }
        let (version, list) = self.ask("GET", "/")?;
        let list = String::from_utf8(list).map_err(|_| "the list of files is no text")?;
        let paths: Vec<&str> = list.lines().filter(|line| !line.is_empty()).collect();
        let main = (*paths.first().ok_or("the codebase has no files")?).to_owned();
        let mut files = BTreeMap::new();
        for path in paths {
            let (etag, bytes) = self.ask("GET", &encode(path))?;
            if etag != version {
                return Err(format!("version {version} was replaced while it was pulled"));
            }
            files.insert(path.to_owned(), bytes);
        }
        Ok(Some(Snapshot { version, main, files }))
    }

    /// The etag and the body of an answer.
    fn ask(&self, method: &str, path: &str) -> Result<(String, Vec<u8>), String> {
        let url = format!("{}{path}", self.url);
        let request = if method == "HEAD" { self.agent.head(&url) } else { self.agent.get(&url) };
        let request = match &self.token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        };
        let mut response = request.call().map_err(|error| format!("{url}: {error}"))?;
        match response.status().as_u16() {
            200 => {}
            401 => return Err(format!("{url}: the repository wants a token: set PIPY_TOKEN")),
            404 => return Err(format!("no codebase at {url}")),
            other => return Err(format!("{url}: status {other}")),
        }
        let etag = response.headers().get("etag").and_then(|value| value.to_str().ok());
        let etag = etag.ok_or_else(|| format!("{url}: no etag; is this a repository?"))?.to_owned();
        let body = response.body_mut().with_config().limit(FILE_MAX + 1).read_to_vec();
        Ok((etag, body.map_err(|error| format!("{url}: {error}"))?))
    }

    fn report(&self) -> Result<(), String> {
        let mut status = json!({
            "timestamp": now(), "since": self.since, "uuid": self.uuid, "name": self.name, "version": self.running,
        });
        if let Some((version, error)) = &self.refused {
            status["refused"] = json!({"version": version, "error": error});
        }
        let request = self.agent.post(format!("{}/", self.url)).header("content-type", "application/json");
        let request = match &self.token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        };
        request.send(status.to_string()).map(drop).map_err(|error| error.to_string())
    }
}

/// A path with its escapes.
fn encode(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    path.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
