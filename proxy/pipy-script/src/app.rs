//! What a worker runs: a script's listeners and tasks, each connection in a pipeline of its own.

use std::collections::HashMap;
use std::net::TcpListener;
use std::rc::Rc;
use std::time::{Duration, Instant};

use pipy_pipeline::Graph;
use pipy_worker::{Accepted, Verdict};
use rquickjs::Array;

use crate::engine::Limits;
use crate::layout::{Layout, Scope, Script};
use crate::load::{Loaded, load};
use crate::modules::Codebase;
use crate::{inbound, log};

/// What the main thread sends to each worker.
pub enum Update {
    /// Another script, made on the worker's own thread, and its listeners in the order of [`Loaded::listens`].
    Script(Box<dyn FnOnce() -> Rc<dyn Codebase> + Send>, String, Vec<(u32, Option<TcpListener>)>),
}

/// One worker's scripts.
pub struct App {
    limits: Limits,
    script: Option<Rc<Script>>,
    listeners: HashMap<u32, Rc<Layout>>,
    tasks: Vec<Task>,
    connections: u64,
}

struct Task {
    every: Option<Duration>,
    due: Option<Instant>,
    layout: Rc<Layout>,
}

impl Loaded {
    /// What the script listens on: addresses as it says them, and whether it means datagrams.
    pub fn listens(&self) -> Vec<(String, bool)> {
        let starts = self.script.starts.get().map(Vec::as_slice).unwrap_or_default();
        let listens = starts.iter().filter(|start| start.kind == "listen");
        listens.map(|start| (start.name.clone(), start.protocol.as_deref() == Some("udp"))).collect()
    }

    /// Whether anything runs besides listeners.
    pub fn has_tasks(&self) -> bool {
        self.script.starts.get().is_some_and(|starts| starts.iter().any(|start| start.kind == "task"))
    }
}

impl App {
    /// A worker without a script.
    pub fn new(limits: Limits) -> Self {
        App { limits, script: None, listeners: HashMap::new(), tasks: Vec::new(), connections: 0 }
    }

    fn begin(&mut self, loaded: &Loaded) {
        self.listeners.clear();
        self.tasks.clear();
        let starts = loaded.script.starts.get().map(Vec::as_slice).unwrap_or_default();
        for (key, start) in starts.iter().filter(|start| start.kind == "listen").enumerate() {
            self.listeners.insert(u32::try_from(key).unwrap_or(u32::MAX), Rc::clone(&start.layout));
        }
        for start in starts.iter().filter(|start| start.kind == "task") {
            let every = interval(&start.name);
            self.tasks.push(Task { every, due: Some(Instant::now()), layout: Rc::clone(&start.layout) });
        }
        self.script = Some(Rc::clone(&loaded.script));
    }

    fn scope(&mut self, accepted: Option<&Accepted>) -> Option<Scope> {
        let script = self.script.clone()?;
        self.connections += 1;
        let id = self.connections;
        let made = script.engine.fresh().and_then(|vars| {
            if let Some(accepted) = accepted {
                script.engine.with(|ctx| {
                    let variables: Array<'_> = vars.0.clone().restore(ctx)?;
                    variables.set(0, inbound::object(ctx, id, accepted)?)
                })?;
            }
            Ok(vars)
        });
        match made {
            Ok(vars) => Some(Scope { script, vars, next: None }),
            Err(error) => {
                log::line("ERR", &format!("a context could not be made: {error}"));
                None
            }
        }
    }
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
        let Some(layout) = self.listeners.get(&listener).cloned() else { return Verdict::Close };
        let Some(scope) = self.scope(Some(&accepted)) else { return Verdict::Reset };
        match layout.native(&scope) {
            Some(row) => Verdict::Run(row),
            None => Verdict::RunTurning(layout.pipeline(&scope, Vec::new())),
        }
    }

    fn update(&mut self, update: Update) -> Vec<(u32, Option<TcpListener>)> {
        let Update::Script(codebase, main, listeners) = update;
        match load(codebase(), &main, self.limits) {
            Ok(loaded) => {
                self.begin(&loaded);
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
        if let Some(script) = &self.script {
            script.engine.run_jobs();
            for waker in script.engine.take_wakes() {
                graph.wake(waker);
            }
        }
        let now = graph.now;
        let mut due = Vec::new();
        for task in &mut self.tasks {
            if task.due.is_some_and(|at| at <= now) {
                task.due = task.every.map(|every| now + every);
                due.push(Rc::clone(&task.layout));
            }
        }
        for layout in due {
            if let Some(scope) = self.scope(None) {
                graph.open_detached(layout.pipeline(&scope, Vec::new()));
            }
        }
        Vec::new()
    }

    fn turn_ends(&mut self, _now: Instant) -> Option<Instant> {
        self.tasks.iter().filter_map(|task| task.due).min()
    }
}
