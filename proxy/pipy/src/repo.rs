//! `pipy` and `pipy FOLDER` serve a repository of scripts; `pipy http://…` has threads that follow one.
//!
//! Who may ask: this machine; others with the token of `PIPY_TOKEN`, or else of the folder's file `token`, or with a certificate
//! where `--admin-tls-trusted` names who signs those.

use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};

use pipy_repo::{
    Api, Feed, Follower, Guard, Relay, Report, Request, Response, Service, Snapshot, Store, Talk, TlsFiles,
};
use pipy_script::log;
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::front::Front;

/// How an admin port is served, and how a repository is followed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Link {
    /// Of the admin port.
    pub(crate) served: TlsFiles,
    /// Towards a repository.
    pub(crate) asked: TlsFiles,
    /// A folder of codebases that a repository begins with.
    pub(crate) init: Option<PathBuf>,
    /// A folder of pages that the admin port gives, and where its requests are logged.
    pub(crate) pages: Option<PathBuf>,
    pub(crate) requests: Option<PathBuf>,
    pub(crate) no_reload: bool,
    pub(crate) no_status: bool,
    pub(crate) no_metrics: bool,
}

const OPTIONS: [&str; 12] = [
    "admin-tls-cert",
    "admin-tls-key",
    "admin-tls-trusted",
    "tls-cert",
    "tls-key",
    "tls-trusted",
    "init-repo",
    "admin-gui",
    "admin-log-file",
    "no-reload",
    "no-status",
    "no-metrics",
];

impl Link {
    /// Whether an option is one of these.
    pub(crate) fn knows(name: &str) -> bool {
        OPTIONS.contains(&name)
    }

    /// Takes an option.
    pub(crate) fn option(&mut self, name: &str, parser: &mut lexopt::Parser) -> Result<(), lexopt::Error> {
        let place = match name {
            "admin-tls-cert" => &mut self.served.certificate,
            "admin-tls-key" => &mut self.served.key,
            "admin-tls-trusted" => &mut self.served.trusted,
            "tls-cert" => &mut self.asked.certificate,
            "tls-key" => &mut self.asked.key,
            "tls-trusted" => &mut self.asked.trusted,
            "init-repo" => &mut self.init,
            "admin-gui" => &mut self.pages,
            "admin-log-file" => &mut self.requests,
            _ => {
                self.no_reload |= name == "no-reload";
                self.no_status |= name == "no-status";
                self.no_metrics |= name == "no-metrics";
                return Ok(());
            }
        };
        *place = Some(PathBuf::from(parser.value()?));
        Ok(())
    }
}

/// How a repository is served.
pub(crate) struct RepoOptions {
    /// Where it is kept; without one, it ends with the process.
    pub(crate) folder: Option<PathBuf>,
    pub(crate) address: SocketAddr,
    pub(crate) link: Link,
    /// A repository elsewhere, to which instances' requests are handed on.
    pub(crate) upstream: Option<String>,
}

/// The token that the environment has.
pub(crate) fn token() -> Option<String> {
    std::env::var("PIPY_TOKEN").ok().map(|token| token.trim().to_owned()).filter(|token| !token.is_empty())
}

/// Who may ask at an address.
pub(crate) fn guard(address: SocketAddr, link: &Link, token: Option<String>) -> Result<Guard, String> {
    let proven = link.served.trusted.is_some();
    if token.is_none() && !proven && !address.ip().is_loopback() {
        return Err(format!("{address}: set PIPY_TOKEN to serve other machines"));
    }
    Ok(Guard::new(token).proven(proven))
}

/// Serves it until a signal comes.
pub(crate) fn run(options: &RepoOptions) -> Result<(), String> {
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])
        .map_err(|error| format!("signals: {error}"))?;
    open(options)?;
    signals.forever().next();
    log::line("INF", "[shutdown] Shutting down...");
    Ok(())
}

/// Begins to serve it.
pub(crate) fn open(options: &RepoOptions) -> Result<(), String> {
    let scheme = if options.link.served.certificate.is_some() { "https" } else { "http" };
    if let Some(url) = &options.upstream {
        let guard = guard(options.address, &options.link, token())?;
        let relay = Relay::new(url, guard, token(), &options.link.asked, log::line)?;
        serve(options.address, &options.link, relay)?;
        log::line("INF", &format!("[repo] Handing on to {url} at {scheme}://{}", options.address));
        return Ok(());
    }
    let mut store = match &options.folder {
        Some(folder) => Store::open(folder)?,
        None => Store::in_memory(),
    };
    let token = match (token(), &options.folder) {
        (Some(token), _) => Some(token),
        (None, Some(folder)) => Some(kept_token(&folder.join("token"))?),
        (None, None) => None,
    };
    let guard = guard(options.address, &options.link, token)?;
    if let Some(folder) = &options.link.init {
        for name in store.import(folder)? {
            log::line("INF", &format!("[repo] Codebase {name} was made of {}", folder.display()));
        }
    }
    let link = &options.link;
    serve(options.address, link, Repository { api: Api::new(store), guard })?;
    let kept = options.folder.as_ref().map_or("memory".into(), |folder| folder.display().to_string());
    log::line("INF", &format!("[repo] Serving codebases from {kept} at {scheme}://{}", options.address));
    Ok(())
}

/// A repository, for those who may ask.
struct Repository {
    api: Api,
    guard: Guard,
}

impl Service for Repository {
    fn answer(&self, request: &Request) -> Response {
        let open = Api::public(request).or_else(|| self.guard.refuse(request));
        open.unwrap_or_else(|| self.api.answer(request))
    }

    fn talk(&self, request: &Request) -> Option<Talk> {
        self.guard.refuse(request).is_none().then(|| self.api.talk(request)).flatten()
    }
}

/// Opens the admin port.
pub(crate) fn serve(address: SocketAddr, link: &Link, service: impl Service) -> Result<(), String> {
    let said = |error: std::io::Error| {
        format!("Cannot start listening on TCP port {} at {}: bind: {error}", address.port(), address.ip())
    };
    let service = Front::new(service, link.pages.clone(), link.requests.as_deref())?;
    let tls = link.served.server().map_err(|error| format!("--admin-tls-…: {error}"))?;
    let listener = std::net::TcpListener::bind(address).map_err(said)?;
    pipy_repo::serve(listener, tls, service).map_err(said)
}

/// The token of a folder; made at the first start.
fn kept_token(path: &Path) -> Result<String, String> {
    let said = |error: std::io::Error| format!("{}: {error}", path.display());
    if let Ok(text) = std::fs::read_to_string(path)
        && !text.trim().is_empty()
    {
        return Ok(text.trim().to_owned());
    }
    let token = pipy_repo::random_id().map_err(said)?;
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(said)?;
    std::io::Write::write_all(&mut file, format!("{token}\n").as_bytes()).map_err(said)?;
    Ok(token)
}

/// A log of this process, as it is from now on.
pub(crate) fn feed(name: &str) -> Feed {
    let (tail, lines) = pipy_script::follow_log(name);
    Feed { tail, lines }
}

/// The two ends of a follower's threads.
pub(crate) struct Following {
    pub(crate) snapshots: Receiver<Snapshot>,
    pub(crate) reports: Sender<Report>,
}

/// Starts to follow a codebase. `metrics` gives the page that reports carry.
pub(crate) fn follow(
    url: &str,
    uuid: Option<String>,
    name: Option<String>,
    link: &Link,
    metrics: impl Fn() -> String + Send + 'static,
    restart: impl Fn() + Send + 'static,
) -> Result<Following, String> {
    let uuid = uuid.map_or_else(|| pipy_repo::random_id().map_err(|error| error.to_string()), Ok)?;
    let ((snapshots, found), (reports, outcomes)) = (channel(), channel());
    let no_metrics = link.no_metrics;
    let facts = move || {
        let mut facts = json!({"program": env!("CARGO_PKG_VERSION")});
        if !no_metrics {
            facts["metrics"] = metrics().into();
        }
        // Last, for workers may have been waited for.
        facts["logs"] = pipy_script::log_names().into();
        facts
    };
    let follower = Follower {
        url: url.to_owned(),
        token: token(),
        tls: link.asked.clone(),
        uuid,
        name: name.unwrap_or_default(),
        reload: !link.no_reload,
        logs: Box::new(feed),
        restart: Box::new(restart),
        facts: (!link.no_status).then(|| Box::new(facts) as Box<dyn Fn() -> serde_json::Value + Send>),
    };
    follower.start(snapshots, outcomes, log::line)?;
    Ok(Following { snapshots: found, reports })
}
