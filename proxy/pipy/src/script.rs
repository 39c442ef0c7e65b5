//! `pipy FILE`: runs a script on its workers until it has nothing more to do, or is told to stop.
//!
//! The main thread loads the script first, to know whether it loads and what it listens on; each worker loads it for itself.
//! SIGHUP, or a new version in the repository, loads it anew: what does not load changes nothing. SIGINT and SIGTERM drain; a second one ends at once.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use pipy_repo::{Report, Snapshot};
use pipy_script::{
    App, Codebase, Folder, Inline, Limits, Loaded, Transport, Update, listen_address, load, log,
};
use pipy_worker::{Handle, Settings, Worker};
use signal_hook::consts::{self, SIGHUP, SIGINT, SIGTERM};

use crate::admin::{self, Shared, Status};
use crate::patience::PATIENCE;
use crate::repo::Following;

/// How a script is run.
pub(crate) struct ScriptOptions {
    pub(crate) code: Code,
    /// What is for the script: `pipy.argv` behind its name.
    pub(crate) arguments: Vec<String>,
    pub(crate) threads: usize,
    /// Only say whether it loads.
    pub(crate) check: bool,
    pub(crate) force_start: bool,
    /// Nothing changes what runs.
    pub(crate) no_reload: bool,
    /// Where metrics and status are served.
    pub(crate) admin: Option<SocketAddr>,
    /// How that is served, and a repository followed.
    pub(crate) link: crate::repo::Link,
}

/// The script.
#[derive(Clone)]
pub(crate) enum Code {
    File(PathBuf),
    Text(String),
    /// A codebase of a repository, and the version that runs.
    Remote {
        url: String,
        uuid: Option<String>,
        name: Option<String>,
        snapshot: Option<Arc<Snapshot>>,
    },
}

/// A version of a codebase, as scripts read it.
struct Pulled(Arc<Snapshot>);

impl Codebase for Pulled {
    fn file(&self, path: &str) -> Option<Vec<u8>> {
        self.0.files.get(path).cloned()
    }

    fn list(&self, folder: &str) -> Vec<String> {
        let folder = format!("{}/", folder.trim_end_matches('/'));
        self.0.files.keys().filter(|path| path.starts_with(&folder)).cloned().collect()
    }
}

/// Signals that tasks may wait for, but for those that this process must not take from the system.
const SIGNALS: &[(&str, i32)] = &[
    ("SIGHUP", SIGHUP),
    ("SIGINT", SIGINT),
    ("SIGQUIT", consts::SIGQUIT),
    ("SIGTERM", SIGTERM),
    ("SIGALRM", consts::SIGALRM),
    ("SIGCHLD", consts::SIGCHLD),
    ("SIGCONT", consts::SIGCONT),
    ("SIGTSTP", consts::SIGTSTP),
    ("SIGTTIN", consts::SIGTTIN),
    ("SIGTTOU", consts::SIGTTOU),
    ("SIGURG", consts::SIGURG),
    ("SIGWINCH", consts::SIGWINCH),
    ("SIGXCPU", consts::SIGXCPU),
    ("SIGXFSZ", consts::SIGXFSZ),
    ("SIGVTALRM", consts::SIGVTALRM),
    ("SIGPROF", consts::SIGPROF),
    ("SIGIO", consts::SIGIO),
];

fn number(name: &str) -> Option<i32> {
    SIGNALS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

/// How often the workers' ends are looked for.
const LOOK: Duration = Duration::from_millis(50);

impl Code {
    fn codebase(&self) -> (Box<dyn FnOnce() -> Rc<dyn Codebase> + Send>, String) {
        match self.clone() {
            Code::File(path) => {
                let (_, main) = Folder::of(&path);
                (Box::new(move || Rc::new(Folder::of(&path).0)), main)
            }
            Code::Text(text) => (Box::new(move || Rc::new(Inline(text))), "/main.js".into()),
            Code::Remote { snapshot: Some(snapshot), .. } => {
                let main = snapshot.main.clone();
                (Box::new(move || Rc::new(Pulled(snapshot))), main)
            }
            Code::Remote { snapshot: None, .. } => {
                (Box::new(|| Rc::new(Inline(String::new()))), "/main.js".into())
            }
        }
    }

    /// The folder that its files are in, if they are in one.
    fn folder(&self) -> Option<PathBuf> {
        let Code::File(path) = self else { return None };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        Some(folder.map_or_else(|| PathBuf::from("."), Path::to_owned))
    }

    /// All files, and which of them is the script.
    fn files(&self) -> (Vec<(String, Vec<u8>)>, String) {
        let (codebase, main) = self.codebase();
        let codebase = codebase();
        let files =
            codebase.list("/").into_iter().filter_map(|path| Some((path.clone(), codebase.file(&path)?)));
        (files.collect(), main)
    }

    fn load(&self) -> Result<Loaded, String> {
        if let Code::File(path) = self
            && !Path::new(path).is_file()
        {
            return Err(format!("file or directory does not exist: {}", path.display()));
        }
        let (codebase, main) = self.codebase();
        load(codebase(), &main, Limits::default()).map_err(|error| error.to_string())
    }
}

/// What scripts are told about the process.
fn about(options: &ScriptOptions) -> pipy_script::About {
    let script = match &options.code {
        Code::File(path) => path.display().to_string(),
        Code::Text(_) => std::env::args().next().unwrap_or_default(),
        Code::Remote { url, .. } => url.clone(),
    };
    let (uuid, name) = match &options.code {
        Code::Remote { uuid, name, .. } => (uuid.clone(), name.clone()),
        _ => (None, None),
    };
    pipy_script::About {
        arguments: std::iter::once(script).chain(options.arguments.iter().cloned()).collect(),
        uuid: uuid.unwrap_or_default(),
        name: name.unwrap_or_default(),
        threads: options.threads,
    }
}

/// Runs it; returns when it is over.
pub(crate) fn run(options: &ScriptOptions) -> Result<(), String> {
    pipy_script::describe(about(options));
    if let Code::Remote { url, uuid, name, .. } = &options.code {
        if options.check {
            return Err("--check needs a file".into());
        }
        let mut running = Running::new(options);
        let status = Arc::clone(&running.status);
        let metrics = move || status.metrics();
        let status = Arc::clone(&running.status);
        let restart = move || status.reload.store(true, Ordering::Relaxed);
        running.following =
            Some(crate::repo::follow(url, uuid.clone(), name.clone(), &options.link, metrics, restart)?);
        running.start()?;
        return running.until_over();
    }
    // The workers load it again: what it says meanwhile is said once.
    log::hold();
    let loaded = PATIENCE.with(
        || options.code.load(),
        |said, given_up| {
            // What is logged is held back until the script has loaded.
            let _ = writeln!(std::io::stderr(), "pipy: {said}");
            if given_up {
                std::process::exit(255);
            }
        },
    );
    let runs = loaded.as_ref().is_ok_and(|loaded| !loaded.listens().is_empty() || loaded.has_tasks());
    log::release(!runs || options.check);
    let loaded = loaded?;
    for warning in &loaded.warnings {
        log::line("WRN", warning);
    }
    if options.check {
        return crate::print("the script loads\n");
    }
    if let Some(value) = &loaded.value {
        crate::print(&format!("{value}\n"))?;
    }
    if !runs {
        return Ok(());
    }
    let mut running = Running::new(options);
    running.start()?;
    running.apply(&loaded)?;
    running.applied(&loaded);
    drop(loaded);
    running.until_over()
}

struct Running<'o> {
    options: &'o ScriptOptions,
    code: Code,
    /// The repository that versions come from.
    following: Option<Following>,
    status: Shared,
    handles: Vec<Handle<Update>>,
    threads: Vec<JoinHandle<()>>,
    /// What each key listens on: what it takes, and the address.
    open: BTreeMap<u32, (Transport, String)>,
    /// The signals that the script's tasks wait for.
    waited: Vec<String>,
    /// How many workers have nothing left that could happen.
    idle: Arc<AtomicUsize>,
}

impl<'o> Running<'o> {
    fn new(options: &'o ScriptOptions) -> Self {
        Running {
            options,
            code: options.code.clone(),
            following: None,
            status: Shared::default(),
            handles: Vec::new(),
            threads: Vec::new(),
            open: BTreeMap::new(),
            waited: Vec::new(),
            idle: Arc::default(),
        }
    }

    /// Starts the workers, which have no script yet, and the admin port.
    fn start(&mut self) -> Result<(), String> {
        if let Some(address) = self.options.admin {
            admin::serve(address, &self.options.link, Arc::clone(&self.status))?;
        }
        self.status.begin();
        self.note(|status| status.threads = self.options.threads);
        for number in 0..self.options.threads {
            let idle = Arc::clone(&self.idle);
            let app = move || {
                pipy_script::set_worker(number);
                App::new(Limits::default()).telling(move || {
                    idle.fetch_add(1, Ordering::Relaxed);
                })
            };
            let (handle, thread) = Worker::spawn(format!("worker-{number}"), Settings::default(), app)
                .map_err(|error| format!("worker {number} did not start: {error}"))?;
            let way = handle.clone();
            handle.update(Update::Way(Arc::new(move |id, result| way.update(Update::Done(id, result)))));
            self.handles.push(handle);
            self.threads.push(thread);
        }
        self.note(|status| status.workers = self.handles.clone());
        Ok(())
    }

    fn note(&self, change: impl FnOnce(&mut Status)) {
        self.status.note(change);
    }

    /// Notes what is at work now.
    fn applied(&mut self, loaded: &Loaded) {
        self.waited = loaded.signals();
        self.note(|status| {
            status.version = match &self.code {
                Code::Remote { snapshot: Some(snapshot), .. } => snapshot.version.clone(),
                _ => status.loads.to_string(),
            };
            status.loads += 1;
            status.error = None;
            status.prefixes = loaded.admins();
            let code = self.code.clone();
            status.folder = self.code.folder();
            status.files = Some(Arc::new(move || code.files()));
            status.listens = loaded.listens().into_iter().map(|(address, _)| address).collect();
        });
    }

    /// Hands the script to the workers, with the listeners that change. What is bound already stays.
    fn apply(&mut self, loaded: &Loaded) -> Result<(), String> {
        let mut changes: Vec<Vec<(u32, Option<TcpListener>)>> =
            self.handles.iter().map(|_| Vec::new()).collect();
        let mut sockets: Vec<Vec<(u32, Option<UdpSocket>)>> =
            self.handles.iter().map(|_| Vec::new()).collect();
        let mut open = BTreeMap::new();
        for (key, (address, transport)) in loaded.listens().into_iter().enumerate() {
            let key = u32::try_from(key).unwrap_or(u32::MAX);
            let protocol = if transport.is_datagrams() { "UDP" } else { "TCP" };
            if self.open.get(&key).is_some_and(|known| *known == (transport, address.clone())) {
                open.insert(key, (transport, address));
                continue;
            }
            let Some(bind) = listen_address(&address)? else { continue };
            let workers = self.handles.len();
            let bound = if transport.is_datagrams() {
                let bound = match transport {
                    Transport::CapturedUdp => pipy_worker::bind_captured(bind, workers),
                    _ => pipy_worker::bind_datagrams(bind, workers),
                };
                bound.map(|bound| {
                    for (changes, socket) in sockets.iter_mut().zip(bound) {
                        changes.push((key, Some(socket)));
                    }
                })
            } else {
                pipy_worker::bind(bind, workers).map(|bound| {
                    for (changes, listener) in changes.iter_mut().zip(bound) {
                        changes.push((key, Some(listener)));
                    }
                })
            };
            match bound {
                Ok(()) => drop(open.insert(key, (transport, address))),
                Err(error) => {
                    let said = format!(
                        "Cannot start listening on {protocol} port {} at {}: bind: {error}",
                        bind.port(),
                        bind.ip()
                    );
                    if !self.options.force_start {
                        return Err(said);
                    }
                    log::line("ERR", &said);
                }
            }
        }
        for (key, (transport, _)) in &self.open {
            if open.get(key).is_some_and(|(now, _)| now.is_datagrams() == transport.is_datagrams()) {
                continue;
            }
            if transport.is_datagrams() {
                sockets.iter_mut().for_each(|changes| changes.push((*key, None)));
            } else {
                changes.iter_mut().for_each(|changes| changes.push((*key, None)));
            }
        }
        self.open = open;
        for ((handle, listeners), sockets) in self.handles.iter().zip(changes).zip(sockets) {
            handle.update(Update::Datagrams(sockets));
            let (codebase, main) = self.code.codebase();
            handle.update(Update::Script(codebase, main, listeners));
        }
        Ok(())
    }

    fn until_over(mut self) -> Result<(), String> {
        let mut signals = signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM])
            .map_err(|error| format!("signals: {error}"))?;
        let mut draining = false;
        // What scripts want done before the end, on each worker.
        let exited = Arc::new(AtomicUsize::new(0));
        let exit = |handles: &[Handle<Update>]| {
            handles.iter().for_each(|handle| handle.update(Update::Exit(Arc::clone(&exited))));
        };
        let mut exiting = false;
        loop {
            for signal in self.waited.iter().filter_map(|name| number(name)) {
                signals.add_signal(signal).map_err(|error| format!("signals: {error}"))?;
            }
            for signal in signals.pending() {
                let name = SIGNALS.iter().find(|(_, known)| *known == signal).map(|(name, _)| *name);
                let waited = name.filter(|name| self.waited.iter().any(|waited| waited == name));
                if let Some(name) = waited {
                    self.handles.iter().for_each(|handle| handle.update(Update::Signal(name)));
                }
                match signal {
                    // A task in its place.
                    SIGTERM if waited.is_some() => {}
                    other if ![SIGHUP, SIGINT, SIGTERM].contains(&other) => {}
                    SIGHUP if !self.can_reload() => {}
                    // It has said why, where it failed.
                    SIGHUP => drop(self.reload()),
                    _ if draining => return Ok(()),
                    _ => {
                        log::line("INF", "[shutdown] Shutting down...");
                        draining = true;
                        exiting = true;
                        exit(&self.handles);
                    }
                }
            }
            let wanted = self.status.reload.swap(false, Ordering::Relaxed) | pipy_script::restart_wanted();
            if wanted && self.can_reload() {
                drop(self.reload());
            }
            if (self.status.stop.swap(false, Ordering::Relaxed) || pipy_script::exit_wanted().is_some())
                && !draining
            {
                log::line("INF", "[shutdown] Shutting down...");
                draining = true;
                exiting = true;
                exit(&self.handles);
            }
            if exiting && exited.load(Ordering::Relaxed) >= self.handles.len() {
                exiting = false;
                self.handles.iter().for_each(Handle::drain);
            }
            if let Some(following) = &self.following
                && !draining
                && let Ok(snapshot) = following.snapshots.try_recv()
            {
                self.take(snapshot);
            }
            // What follows a repository waits for the next version.
            let idle = self.following.is_none() && self.idle.load(Ordering::Relaxed) == self.threads.len();
            if idle || self.threads.iter().all(JoinHandle::is_finished) {
                if let Some(code) = pipy_script::exit_wanted() {
                    pipy_script::flush_logs();
                    pipy_script::restore_terminal();
                    std::process::exit(code);
                }
                return Ok(());
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Whether there is something to load: the first version may still be to come.
    fn can_reload(&self) -> bool {
        !matches!(self.code, Code::Remote { snapshot: None, .. }) && !self.options.no_reload
    }

    /// Takes another version over, or says why not.
    fn take(&mut self, snapshot: Snapshot) {
        let Code::Remote { url, uuid, name, .. } = self.code.clone() else { return };
        let version = snapshot.version.clone();
        log::line("INF", &format!("[codebase] {url} has version {version}"));
        let next = Code::Remote { url, uuid, name, snapshot: Some(Arc::new(snapshot)) };
        let before = std::mem::replace(&mut self.code, next);
        let error = self.reload().err();
        if error.is_some() {
            self.code = before;
        }
        if let Some(following) = &self.following {
            // A follower that has ended took its repository with it.
            let _ = following.reports.send(Report { version, error });
        }
    }

    fn reload(&mut self) -> Result<(), String> {
        log::line("INF", "[restart] Reloading codebase...");
        let before = self.code.clone();
        if let (Some(main), Some(folder)) = (self.status.main_wanted(), self.code.folder()) {
            self.code = Code::File(folder.join(main.trim_start_matches('/')));
        }
        log::hold();
        // What runs goes on.
        let loaded = PATIENCE.with(|| self.code.load(), |said, _| log::line("ERR", said));
        log::release(false);
        let reloaded = loaded.and_then(|loaded| self.apply(&loaded).map(|()| self.applied(&loaded)));
        if reloaded.is_err() {
            self.code = before;
        }
        match &reloaded {
            Ok(()) => log::line("INF", "[restart] Codebase reloaded"),
            Err(error) => {
                self.note(|status| {
                    status.failures += 1;
                    status.error = Some(error.clone());
                });
                log::line("ERR", &format!("[restart] the codebase stays as it was: {error}"));
            }
        }
        reloaded
    }
}
