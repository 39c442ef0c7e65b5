//! `pipy` and `pipy FOLDER` serve a repository of scripts; `pipy http://…` has a thread that follows one.
//!
//! Who may ask: this machine; others with the token of `PIPY_TOKEN`, or else of the folder's file `token`.

use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};

use pipy_repo::{Api, Follower, Guard, Report, Snapshot, Store};
use pipy_script::log;
use signal_hook::consts::{SIGINT, SIGTERM};

/// How a repository is served.
pub(crate) struct RepoOptions {
    /// Where it is kept; without one, it ends with the process.
    pub(crate) folder: Option<PathBuf>,
    pub(crate) address: SocketAddr,
}

/// The token that the environment has.
pub(crate) fn token() -> Option<String> {
    std::env::var("PIPY_TOKEN").ok().map(|token| token.trim().to_owned()).filter(|token| !token.is_empty())
}

/// Serves it until a signal comes.
pub(crate) fn run(options: &RepoOptions) -> Result<(), String> {
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])
        .map_err(|error| format!("signals: {error}"))?;
    let store = match &options.folder {
        Some(folder) => Store::open(folder)?,
        None => Store::in_memory(),
    };
    let token = match (token(), &options.folder) {
        (Some(token), _) => Some(token),
        (None, Some(folder)) => Some(kept_token(&folder.join("token"))?),
        (None, None) => None,
    };
    if token.is_none() && !options.address.ip().is_loopback() {
        return Err(format!("{}: set PIPY_TOKEN to serve other machines", options.address));
    }
    let guard = Guard::new(token);
    let api = Api::new(store);
    serve(options.address, move |request| guard.refuse(request).unwrap_or_else(|| api.answer(request)))?;
    let kept = options.folder.as_ref().map_or("memory".into(), |folder| folder.display().to_string());
    log::line("INF", &format!("[repo] Serving codebases from {kept} at http://{}", options.address));
    signals.forever().next();
    log::line("INF", "[shutdown] Shutting down...");
    Ok(())
}

/// Opens the admin port.
pub(crate) fn serve(
    address: SocketAddr,
    answer: impl Fn(&pipy_repo::Request) -> pipy_repo::Response + Send + Sync + 'static,
) -> Result<(), String> {
    let said = |error: std::io::Error| {
        format!("Cannot start listening on TCP port {} at {}: bind: {error}", address.port(), address.ip())
    };
    let listener = std::net::TcpListener::bind(address).map_err(said)?;
    pipy_repo::serve(listener, answer).map_err(said)
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

/// The two ends of a follower's thread.
pub(crate) struct Following {
    pub(crate) snapshots: Receiver<Snapshot>,
    pub(crate) reports: Sender<Report>,
}

/// Starts to follow a codebase.
pub(crate) fn follow(url: &str, uuid: Option<String>, name: Option<String>) -> Result<Following, String> {
    let uuid = uuid.map_or_else(|| pipy_repo::random_id().map_err(|error| error.to_string()), Ok)?;
    let follower = Follower::new(url, token(), uuid, name.unwrap_or_default());
    let ((snapshots, found), (reports, outcomes)) = (channel(), channel());
    std::thread::Builder::new()
        .name("repo".into())
        .spawn(move || follower.run(&snapshots, &outcomes, log::line))
        .map_err(|error| format!("the thread that follows the repository did not start: {error}"))?;
    Ok(Following { snapshots: found, reports })
}
