//! Native modules in scripts: `use('module.so', 'pipeline')`.
//!
//! In: paths that scripts name. Out: filters whose events go through a module of `pipy-nmi`. The engine is the modules'
//! [`Host`](pipy_nmi::Host): what they ask is answered in `host.rs`, the numbers of their values are those of `values.rs`.
//! INVARIANT: a module is called only while the engine is not at work, so that it may ask the engine anything.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pipy_nmi::{Host, Module, Pipeline, PipelineId, Remote, Task, Work, is_module};
use rquickjs::{Array, Function, Result};

use crate::engine::Engine;
use crate::error::ScriptError;
use instance::Instance;
use values::Values;

mod filter;
mod host;
mod instance;
mod pointer;
mod values;

pub(crate) use filter::use_module;

/// What a module has defined.
pub(crate) struct Native {
    path: String,
    /// Where its variables are in a context, by their numbers in the module.
    variables: RefCell<HashMap<i32, u32>>,
    pipelines: RefCell<HashMap<String, Pipeline>>,
}

/// The modules of one engine, and what their pipelines are doing.
#[derive(Default)]
pub(crate) struct Natives {
    values: Values,
    modules: RefCell<HashMap<String, Rc<Native>>>,
    /// The module that is defining what it has.
    loading: RefCell<Option<Rc<Native>>>,
    instances: RefCell<HashMap<PipelineId, Rc<Instance>>>,
    /// Instances that were let go of.
    released: RefCell<Vec<PipelineId>>,
    /// What is to be called, and when.
    calls: RefCell<Vec<(Instant, PipelineId, Task)>>,
    remote: OnceCell<Arc<Remote>>,
}

impl Natives {
    /// Lets go of everything that the engine's runtime has.
    pub(crate) fn clear(&self) {
        drop(self.instances.take());
        self.values.clear();
    }

    /// When something is to be called next.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.calls.borrow().iter().map(|(at, ..)| *at).min()
    }

    /// Whether something may happen that no connection brings.
    pub(crate) fn is_busy(&self) -> bool {
        !self.calls.borrow().is_empty() || self.instances.borrow().values().any(|instance| instance.is_held())
    }

    fn instance(&self, id: PipelineId) -> Option<Rc<Instance>> {
        self.instances.borrow().get(&id).cloned()
    }

    fn call_later(&self, id: PipelineId, after: Duration, task: Task) {
        // The time of the turn may be that of one long ago.
        self.calls.borrow_mut().push((Instant::now() + after, id, task));
    }

    /// The first call that is due, in the order in which they were asked for.
    fn take_due(&self, now: Instant) -> Option<(PipelineId, Task)> {
        let mut calls = self.calls.borrow_mut();
        let due = calls.iter().enumerate().filter(|(_, (at, ..))| *at <= now);
        let (first, _) = due.min_by_key(|(index, (at, ..))| (*at, *index))?;
        let (_, id, task) = calls.remove(first);
        Some((id, task))
    }
}

/// Loads the modules that scripts name.
pub(crate) fn load(engine: &Rc<Engine>) -> std::result::Result<(), ScriptError> {
    let named: Vec<Vec<String>> = engine.with(|ctx| {
        let pairs: Array<'_> = engine.state_object(ctx)?.get::<_, Function<'_>>("files")?.call(())?;
        pairs.iter().collect::<Result<_>>()
    })?;
    for path in named.iter().filter_map(|pair| pair.get(1)).filter(|path| is_module(path)) {
        if engine.natives.modules.borrow().contains_key(path) {
            continue;
        }
        let module = Module::load(path).map_err(|error| ScriptError::plain(error.to_string()))?;
        let native = Rc::new(Native {
            path: path.clone(),
            variables: RefCell::default(),
            pipelines: RefCell::default(),
        });
        engine.natives.loading.replace(Some(Rc::clone(&native)));
        engine.natives.values.begin();
        module.init(Rc::clone(engine) as Rc<dyn Host>);
        engine.natives.values.end();
        engine.natives.loading.take();
        engine.natives.modules.borrow_mut().insert(path.clone(), native);
    }
    Ok(())
}

impl Engine {
    /// Calls a module: what it makes is gone afterwards, unless it holds it.
    fn let_in<T>(self: &Rc<Self>, call: impl FnOnce() -> T) -> T {
        self.natives.values.begin();
        let result = pipy_nmi::enter(Rc::clone(self) as Rc<dyn Host>, call);
        self.natives.values.end();
        pipy_nmi::run_frees();
        result
    }

    /// Does what modules have asked for, and what their threads have.
    pub(crate) fn run_natives(self: &Rc<Self>, now: Instant) {
        for work in self.natives.remote.get().map(|remote| remote.take()).unwrap_or_default() {
            match work {
                Work::Call(id, after, task) => self.natives.call_later(id, after, task),
                Work::Free(id) => {
                    self.free_pipeline(id);
                }
            }
        }
        while let Some((id, task)) = self.natives.take_due(now) {
            // One that has ended and is not held has told its module so.
            if self.natives.instance(id).is_some() {
                self.let_in(|| task.run());
            }
        }
        self.end_released();
        pipy_nmi::run_frees();
    }
}
