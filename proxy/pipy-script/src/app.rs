//! What a worker runs: a script's listeners and tasks, each connection in a pipeline of its own.
//!
//! Another script takes over for new connections; those of the one before finish on it. INVARIANT: an engine is asked for its
//! timers and wakes for as long as a pipeline of its script lives.

use std::collections::HashMap;
use std::net::{TcpListener, UdpSocket};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pipy_pipeline::{Event, Filter, Graph, PipelineId, SocketLimits};
use pipy_worker::{Accepted, Verdict};
use rquickjs::{Array, Function, Persistent};

mod exits;
mod listeners;

pub use listeners::listen_address;

pub use crate::filters::listening::Transport;

use crate::admin::{self, AdminRequest};
use crate::background::{self, Return};
use crate::engine::{Kept, Limits, bury};
use crate::filters::alone::alone;
use crate::filters::datagrams::{Framed, Unframed};
use crate::filters::listening::Places;
use crate::layout::{Family, Layout, Scope, Script, Start};
use crate::load::{Loaded, load};
use crate::modules::Codebase;
use crate::objects::connections;
use crate::spawn::run_requests;
use crate::{inbound, log};

/// What the main thread sends to each worker.
pub enum Update {
    /// Another script, made on the worker's own thread, and its listeners in the order of [`Loaded::listens`].
    Script(Box<dyn FnOnce() -> Rc<dyn Codebase> + Send>, String, Vec<(u32, Option<TcpListener>)>),
    /// UDP sockets to listen on, and to close, by the same keys; sent before the script that they are for.
    Datagrams(Vec<(u32, Option<UdpSocket>)>),
    /// How results of work on other threads come back; sent before the first script.
    Way(Return),
    /// A result of such work.
    Done(u64, background::Result),
    /// A signal has come: `SIGINT` and so on.
    Signal(&'static str),
    /// It is going to end: what the script wants done before is done, then this is counted up.
    Exit(Arc<AtomicUsize>),
    /// Says what the worker has and does.
    Look(SyncSender<Facts>),
    /// A request for a pipeline that the script has for the admin port.
    Admin(AdminRequest),
}

/// What one worker has and does.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts {
    /// Which one it is.
    pub worker: usize,
    /// Pipelines that live.
    pub pipelines: usize,
    /// Connections that were accepted so far.
    pub connections: u64,
    /// Connections that are open: of clients, and to servers.
    pub inbound: usize,
    /// The same.
    pub outbound: usize,
    /// Scripts that have pipelines.
    pub scripts: usize,
    /// Bytes of the engines' heaps.
    pub heap: u64,
    /// Calls into scripts so far.
    pub calls: u64,
    /// Calls that took too long and were stopped.
    pub overruns: u64,
}

/// How soon it is looked whether what is about to end has ended.
const LOOK: Duration = Duration::from_millis(20);

/// One worker's scripts.
pub struct App {
    limits: Limits,
    script: Option<Rc<Script>>,
    /// Scripts that were at work before, some pipelines of which may live.
    old: Vec<Weak<Script>>,
    listeners: HashMap<u32, Rc<Listener>>,
    /// What the worker has not taken yet.
    datagrams: Vec<(u32, Option<UdpSocket>)>,
    tasks: Vec<Task>,
    signals: Vec<&'static str>,
    exiting: exits::Exiting,
    open: listeners::Open,
    looks: Vec<SyncSender<Facts>>,
    asked: Vec<AdminRequest>,
    /// Calls and overruns of engines that are gone.
    past: (u64, u64),
    way: Option<Return>,
    connections: u64,
    /// Called once, when nothing is left that could happen.
    idle: Option<Box<dyn FnOnce()>>,
}

/// What happens to the connections of an address.
struct Listener {
    layout: Rc<Layout>,
    places: Places,
}

struct Task {
    every: Option<Duration>,
    due: Option<Instant>,
    signal: Option<String>,
    layout: Rc<Layout>,
    /// The run that is under way.
    pipeline: Option<PipelineId>,
}

impl Loaded {
    /// What the script listens on: addresses as it says them, and what it takes there.
    pub fn listens(&self) -> Vec<(String, Transport)> {
        let starts = self.script.starts.get().map(Vec::as_slice).unwrap_or_default();
        let listens = starts.iter().filter(|start| start.kind == "listen");
        listens.map(|start| (start.name.clone(), start.listen.transport)).collect()
    }

    /// The prefixes of the pipelines that answer the admin port.
    pub fn admins(&self) -> Vec<String> {
        let starts = self.script.starts.get().map(Vec::as_slice).unwrap_or_default();
        starts.iter().filter(|start| start.kind == "admin").map(|start| start.name.clone()).collect()
    }

    /// The signals that tasks wait for.
    pub fn signals(&self) -> Vec<String> {
        let starts = self.script.starts.get().map(Vec::as_slice).unwrap_or_default();
        let tasks = starts.iter().filter(|start| start.kind == "task" && start.name.starts_with("SIG"));
        tasks.map(|start| start.name.clone()).collect()
    }

    /// Whether anything runs besides listeners: tasks, timers, pipelines that the script has spawned.
    pub fn has_tasks(&self) -> bool {
        let task = |start: &Start| matches!(start.kind.as_str(), "task" | "watch");
        let engine = &self.script.engine;
        let asked =
            engine.with(|ctx| Ok(!engine.state_object(ctx)?.get::<_, Array<'_>>("requests")?.is_empty()));
        self.script.starts.get().is_some_and(|starts| starts.iter().any(task))
            || engine.timers.due().is_some()
            || asked.unwrap_or(false)
    }
}

impl App {
    /// A worker without a script.
    pub fn new(limits: Limits) -> Self {
        App {
            limits,
            script: None,
            old: Vec::new(),
            listeners: HashMap::new(),
            datagrams: Vec::new(),
            tasks: Vec::new(),
            signals: Vec::new(),
            exiting: None,
            open: listeners::Open::default(),
            looks: Vec::new(),
            asked: Vec::new(),
            past: (0, 0),
            way: None,
            connections: 0,
            idle: None,
        }
    }

    /// The same, telling when nothing is left that could happen.
    #[must_use]
    pub fn telling(mut self, idle: impl FnOnce() + 'static) -> Self {
        self.idle = Some(Box::new(idle));
        self
    }

    fn begin(&mut self, loaded: &Loaded, given: &mut Vec<(u32, Option<TcpListener>)>) {
        self.listeners.clear();
        self.tasks.clear();
        let addresses = loaded.listens().into_iter().zip(0..);
        self.take_addresses(
            addresses.map(|((place, transport), key)| (key, transport, place)).collect(),
            given,
        );
        let starts = loaded.script.starts.get().map(Vec::as_slice).unwrap_or_default();
        for (start, key) in starts.iter().filter(|start| start.kind == "listen").zip(0..) {
            let places = Places::new(start.listen, &start.name);
            self.listeners.insert(key, Rc::new(Listener { layout: Rc::clone(&start.layout), places }));
        }
        for start in starts.iter().filter(|start| start.kind == "task") {
            let every = interval(&start.name);
            let signal = start.name.starts_with("SIG").then(|| start.name.clone());
            let due = signal.is_none().then(Instant::now);
            self.tasks.push(Task { every, due, signal, layout: Rc::clone(&start.layout), pipeline: None });
        }
        if let Some(way) = &self.way {
            loaded.script.engine.set_way_back(way.clone());
        }
        let engine = &loaded.script.engine;
        let begun =
            engine.with(|ctx| engine.state_object(ctx)?.get::<_, Function<'_>>("begin")?.call::<_, ()>(()));
        if let Err(error) = begun {
            log::line("ERR", &format!("the script does not begin: {error}"));
        }
        if let Some(before) = self.script.replace(Rc::clone(&loaded.script)) {
            let (_, calls, overruns) = before.engine.used();
            self.past.0 += calls;
            self.past.1 += overruns;
            self.old.push(Rc::downgrade(&before));
        }
    }

    fn scope(&mut self, accepted: Option<&Accepted>) -> Option<Scope> {
        let script = self.script.clone()?;
        self.connections += 1;
        let id = self.connections;
        let made = script.engine.fresh().and_then(|vars| {
            if let Some(accepted) = accepted {
                script
                    .engine
                    .with(|ctx| vars.set(ctx, 0, &inbound::object(ctx, id, accepted)?.into_value()))?;
            }
            Ok(vars)
        });
        match made {
            Ok(vars) => Some(Scope {
                family: Family::listed(
                    &script.engine,
                    accepted.map(|accepted| connections::list_inbound(id, accepted)),
                ),
                script,
                vars,
                next: None,
                host: None,
                output: None,
            }),
            Err(error) => {
                log::line("ERR", &format!("a context could not be made: {error}"));
                None
            }
        }
    }
}

/// What a listener's `onStart` is called with: the connection.
fn greeting(layout: &Layout, scope: &Scope) -> Vec<Kept> {
    if !layout.has_on_start() {
        return Vec::new();
    }
    let engine = scope.engine();
    let inbound = engine.with(|ctx| {
        engine.enter(ctx, &scope.vars)?;
        Ok(Persistent::save(ctx, engine.inbound(ctx)?))
    });
    inbound.into_iter().collect()
}

/// The interval of a task; `None` where it runs once.
fn interval(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '.')?);
    let factor = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(digits.parse::<f64>().ok()? * factor).ok()
}

impl pipy_worker::App for App {
    type Update = Update;

    fn accept(&mut self, listener: u32, accepted: Accepted, _now: Instant) -> Verdict {
        let Some(listener) = self.listeners.get(&listener).cloned() else { return Verdict::Close };
        let Some(scope) = self.scope(Some(&accepted)) else { return Verdict::Reset };
        match listener.layout.native(&scope) {
            Some(mut row) => {
                listener.places.around(&mut row, false);
                Verdict::Run(row)
            }
            None => {
                let mut row = listener.layout.pipeline(&scope, greeting(&listener.layout, &scope));
                listener.places.around(&mut row, true);
                Verdict::RunTurning(row)
            }
        }
    }

    fn limits(&self, listener: u32) -> Option<SocketLimits> {
        self.listeners.get(&listener)?.places.listen().limits()
    }

    fn takes(&self, listener: u32) -> bool {
        self.listeners.get(&listener).is_none_or(|listener| listener.places.any())
    }

    fn datagram_listeners(&mut self) -> Vec<(u32, Option<UdpSocket>)> {
        if self.script.is_none() { Vec::new() } else { std::mem::take(&mut self.datagrams) }
    }

    fn masquerades(&self, listener: u32) -> bool {
        self.listeners.get(&listener).is_some_and(|listener| listener.places.listen().masquerade)
    }

    fn accept_datagrams(&mut self, listener: u32, session: Accepted, _now: Instant) -> Verdict {
        let Some(listener) = self.listeners.get(&listener).cloned() else { return Verdict::Close };
        if !listener.places.any() {
            return Verdict::Close;
        }
        let Some(scope) = self.scope(Some(&session)) else { return Verdict::Reset };
        let mut row: Vec<Box<dyn Filter>> = vec![Box::new(Framed::new(&scope))];
        row.extend(listener.layout.pipeline(&scope, greeting(&listener.layout, &scope)));
        row.push(Box::new(Unframed::default()));
        listener.places.around(&mut row, true);
        Verdict::RunTurning(row)
    }

    fn update(&mut self, update: Update) -> Vec<(u32, Option<TcpListener>)> {
        let (codebase, main, mut listeners) = match update {
            Update::Script(codebase, main, listeners) => (codebase, main, listeners),
            Update::Datagrams(sockets) => {
                self.datagrams = sockets;
                return Vec::new();
            }
            Update::Way(way) => {
                // What a script asks for while it is loaded comes back the same way.
                background::set_way(way.clone());
                self.way = Some(way);
                return Vec::new();
            }
            Update::Done(id, result) => {
                let mut result = Some(result);
                for script in self.scripts() {
                    result = result.and_then(|result| script.engine.finished(id, result));
                }
                return Vec::new();
            }
            Update::Admin(request) => {
                self.asked.push(request);
                return Vec::new();
            }
            Update::Look(place) => {
                self.looks.push(place);
                return Vec::new();
            }
            Update::Exit(done) => {
                self.exiting = Some((done, None));
                return Vec::new();
            }
            Update::Signal(name) => {
                self.signals.push(name);
                return Vec::new();
            }
        };
        match load(codebase(), &main, self.limits) {
            Ok(loaded) => {
                self.begin(&loaded, &mut listeners);
                listeners
            }
            Err(error) => {
                // The main thread has loaded it before; what differs here is the state of the world.
                log::line("ERR", &format!("the script does not load on this worker: {error}"));
                Vec::new()
            }
        }
    }

    fn step(&mut self, graph: &mut Graph) -> Vec<(u32, Option<TcpListener>)> {
        bury();
        self.old.retain(|script| script.strong_count() > 0);
        for script in self.scripts() {
            script.engine.run_timers(graph.now);
            script.engine.run_natives(graph.now);
            script.engine.run_jobs();
            for pipeline in script.engine.orphans.take() {
                graph.close(pipeline);
            }
            for waker in script.engine.take_wakes() {
                graph.wake(waker);
            }
        }
        let mut changes = Vec::new();
        if let Some(script) = self.script.clone().filter(|script| script.engine.asked.get()) {
            changes = self.change_listeners(&script);
        }
        for script in self.scripts() {
            run_requests(&script, graph);
        }
        self.run_admin(graph);
        self.run_tasks(graph);
        self.run_exits(graph);
        for place in std::mem::take(&mut self.looks) {
            // Who has asked may have stopped waiting.
            let _ = place.try_send(self.facts(graph.pipelines()));
        }
        let nothing = self.listeners.is_empty() && graph.pipelines() == 0 && !self.is_busy();
        if self.script.is_some()
            && nothing
            && let Some(idle) = self.idle.take()
        {
            idle();
        }
        changes
    }

    fn turn_ends(&mut self, now: Instant) -> Option<Instant> {
        self.listeners.values().for_each(|listener| listener.places.release());
        let tasks = self.tasks.iter().filter_map(|task| task.due);
        let scripts = self.scripts();
        // What was freed or asked for in the last step of a turn must not wait for the next event.
        if scripts.iter().any(|script| script.engine.is_eager()) {
            return Some(now);
        }
        let engines = scripts.iter().map(|script| &script.engine);
        let due = engines.flat_map(|engine| [engine.timers.due(), engine.natives.due()]);
        // Without listeners the last pipeline may end with this turn: it is looked again whether anything is left.
        let ends = self.exiting.is_some()
            || (self.idle.is_some() && self.script.is_some() && self.listeners.is_empty() && !self.is_busy());
        tasks.chain(due.flatten()).chain(ends.then(|| now + LOOK)).min()
    }
}

impl App {
    fn facts(&self, pipelines: usize) -> Facts {
        let scripts = self.scripts();
        let (inbound, outbound) = connections::open();
        let mut facts = Facts {
            inbound,
            outbound,
            worker: crate::objects::process::worker(),
            pipelines,
            connections: self.connections,
            scripts: scripts.len(),
            calls: self.past.0,
            overruns: self.past.1,
            ..Facts::default()
        };
        for script in &scripts {
            facts.heap += script.engine.used().0;
        }
        // What earlier scripts did is in the past already, but for their last connections.
        if let Some(script) = &self.script {
            script.engine.collect();
            let (_, calls, overruns) = script.engine.used();
            facts.calls += calls;
            facts.overruns += overruns;
        }
        facts
    }

    /// The script at work, and those before it that still have pipelines.
    fn scripts(&self) -> Vec<Rc<Script>> {
        self.script.iter().cloned().chain(self.old.iter().filter_map(Weak::upgrade)).collect()
    }

    /// Whether something may happen that no connection brings.
    fn is_busy(&self) -> bool {
        let tasks = self.tasks.iter().any(|task| task.due.is_some() || task.signal.is_some());
        tasks
            || self.scripts().iter().any(|script| {
                script.engine.timers.due().is_some()
                    || script.engine.is_waiting()
                    || script.engine.asked.get()
                    || script.engine.natives.is_busy()
            })
    }

    /// Requests of the admin port. One that no pipeline is for is dropped, which its sender hears.
    fn run_admin(&mut self, graph: &mut Graph) {
        for request in std::mem::take(&mut self.asked) {
            let Some(script) = self.script.clone() else { continue };
            let starts = script.starts.get().map(Vec::as_slice).unwrap_or_default();
            let start = starts.iter().find(|start| start.kind == "admin" && start.name == request.prefix);
            if let (Some(start), Some(scope)) = (start, self.scope(None)) {
                admin::answer(request, &start.layout, &scope, graph);
            }
        }
    }

    fn run_tasks(&mut self, graph: &mut Graph) {
        let now = graph.now;
        let signals = std::mem::take(&mut self.signals);
        let mut due = Vec::new();
        for (index, task) in self.tasks.iter_mut().enumerate() {
            let signalled = task.signal.as_deref().is_some_and(|signal| signals.contains(&signal));
            if !signalled && task.due.is_none_or(|at| at > now) {
                continue;
            }
            task.due = task.every.map(|every| now + every);
            // A run that takes longer than the interval is not overtaken.
            if !task.pipeline.is_some_and(|pipeline| graph.alive(pipeline)) {
                due.push((index, Rc::clone(&task.layout)));
            }
        }
        for (index, layout) in due {
            let Some(scope) = self.scope(None) else { continue };
            let pipeline = graph.open_detached(alone(&layout, &scope, Vec::new()));
            // What acts on the first event acts now.
            graph.send(pipeline, Event::Data(Bytes::new()));
            if let Some(task) = self.tasks.get_mut(index) {
                task.pipeline = Some(pipeline);
            }
        }
    }
}
