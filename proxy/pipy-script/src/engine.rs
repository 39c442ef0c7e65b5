//! The engine: one JavaScript runtime per worker, made when a script is used, and the only way into it.
//!
//! In: callbacks with arguments. Out: values, or a [`ScriptError`] that says where. Limits bound memory, stack and the time of
//! each call; an overrun is an error of that call alone.
//!
//! INVARIANTS: the runtime is entered by [`Engine::call`] and [`Engine::with`], never from within one of them. A runtime goes
//! only when no filter is being dropped ([`bury`]), for filters hold values of it.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use pipy_http::{RequestHead, ResponseHead};
use pipy_pipeline::{PipelineId, Port, Waker};
use rquickjs::function::Args;
use rquickjs::{Array, Context, Ctx, Error, Function, Object, Persistent, Runtime, Value};

use crate::background::Background;
use crate::error::ScriptError;
use crate::events::Makers;
use crate::filters::Hub;
use crate::known::Known;
use crate::modules::Sources;
use crate::nmi::Natives;
use crate::raw::{self, Ballast, Held};
use crate::rejections::Rejections;
use crate::timers::Timers;

/// What a script may use.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of the engine's heap.
    pub memory: usize,
    /// Bytes of its stack.
    pub stack: usize,
    /// How long one call may take.
    pub time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        // LIMIT: a call is expected to take microseconds; what takes this long stalls every connection of its worker.
        Limits { memory: 256 << 20, stack: 512 << 10, time: Duration::from_millis(500) }
    }
}

/// LIMIT: for what promises have to do at once. What is left waits for the next turn, behind the events of others.
const JOBS_TIME: Duration = Duration::from_millis(20);

/// A function of a script.
pub(crate) type Callback = Persistent<Function<'static>>;

/// A value of a script that is kept.
pub(crate) type Kept = Persistent<Value<'static>>;

/// The variables of one context: one array, the same for pipelines that share it; and the family of contexts, those of one
/// connection.
#[derive(Clone)]
pub struct Vars(Rc<Held>, u32);

impl Vars {
    /// Writes a variable.
    pub(crate) fn set<'js>(&self, ctx: &Ctx<'js>, slot: u32, value: &Value<'js>) -> Result<(), Error> {
        raw::put(ctx, &self.0, slot, value)
    }

    /// Reads a variable.
    pub(crate) fn get<'js>(&self, ctx: &Ctx<'js>, slot: u32) -> Result<Value<'js>, Error> {
        Array::from_value(self.0.get(ctx))?.get(slot as usize)
    }

    /// The family of contexts that these are of.
    pub(crate) fn family(&self) -> u32 {
        self.1
    }
}

/// What became of a promise, once it is settled.
pub(crate) type Outcome = Rc<RefCell<Option<Result<Kept, Kept>>>>;

/// One runtime.
pub(crate) struct Engine {
    // Before the runtime, for it must be dropped before.
    known: RefCell<Option<Rc<Known>>>,
    pub(crate) sources: Rc<RefCell<Sources>>,
    wakes: Rc<RefCell<Vec<Waker>>>,
    /// Filters that look again when something was done in their family.
    watchers: RefCell<HashMap<u32, Vec<Waker>>>,
    touched: RefCell<Vec<u32>>,
    /// The script wants pipelines to be spawned, or something done in a context of its own.
    pub(crate) asked: Cell<bool>,
    /// Pipelines whose owner is gone.
    pub(crate) orphans: RefCell<Vec<PipelineId>>,
    families: Cell<u32>,
    /// Whether contexts have nothing that could differ: no file has a variable, and none can come later.
    bare: OnceCell<bool>,
    ballast: RefCell<Option<Ballast>>,
    /// Where pipelines exchange events, by the identity of the script's object.
    pub(crate) hubs: RefCell<HashMap<String, Hub>>,
    /// Places that a script has been given a handle of.
    ports: RefCell<HashMap<u32, Port>>,
    next_port: Cell<u32>,
    pub(crate) timers: Timers,
    pub(crate) background: Background,
    pub(crate) natives: Natives,
    pub(crate) rejections: Rc<Rejections>,
    context: Option<Context>,
    runtime: Runtime,
    guard: Rc<Guard>,
    limits: Limits,
}

/// How long the call that is under way may last. The clock is read only when the engine asks, which is every ten thousand steps.
#[derive(Default)]
struct Guard {
    /// Counts calls, to tell them apart.
    call: Cell<u64>,
    /// The call that was seen last, and since when.
    seen: Cell<Option<(u64, Instant)>>,
    overran: Cell<bool>,
    /// How many calls were stopped.
    overruns: Cell<u64>,
}

impl Guard {
    fn begin(&self) {
        self.call.set(self.call.get() + 1);
        self.overran.set(false);
    }

    fn interrupts(&self, limit: Duration) -> bool {
        let now = Instant::now();
        let since = match self.seen.get() {
            Some((call, since)) if call == self.call.get() => since,
            _ => {
                self.seen.set(Some((self.call.get(), now)));
                return false;
            }
        };
        let over = now.saturating_duration_since(since) >= limit;
        if over && !self.overran.replace(true) {
            self.overruns.set(self.overruns.get() + 1);
        }
        over
    }
}

thread_local! {
    /// Runtimes that nobody uses any more.
    static BURIED: RefCell<Vec<(Option<Context>, Runtime)>> = const { RefCell::new(Vec::new()) };
}

/// How many runtimes of this thread wait to be let go.
#[cfg(test)]
pub(crate) fn buried() -> usize {
    BURIED.with(|buried| buried.borrow().len())
}

/// Lets go of the runtimes of this thread that nobody uses any more. For when no filter is being dropped.
pub(crate) fn bury() {
    drop(BURIED.take());
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.known.take();
        self.ballast.take();
        self.timers.clear();
        self.natives.clear();
        self.rejections.clear();
        self.runtime.set_host_promise_rejection_tracker(None);
        self.runtime.set_interrupt_handler(None);
        let last = (self.context.take(), self.runtime.clone());
        // When the thread itself ends there is no later; nothing of it is used then.
        let _ = BURIED.try_with(|buried| buried.borrow_mut().push(last));
    }
}

impl Engine {
    /// A new engine, without any script.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub(crate) fn new(limits: Limits) -> Result<Rc<Self>, ScriptError> {
        let failed = |error: Error| ScriptError::plain(format!("the script engine does not start: {error}"));
        let runtime = Runtime::new().map_err(failed)?;
        runtime.set_memory_limit(limits.memory);
        runtime.set_max_stack_size(limits.stack);
        let guard: Rc<Guard> = Rc::default();
        let (watched, limit) = (Rc::clone(&guard), limits.time);
        runtime.set_interrupt_handler(Some(Box::new(move || watched.interrupts(limit))));
        let context = Context::full(&runtime).map_err(failed)?;
        let sources = Rc::default();
        let wakes = Rc::default();
        let known = RefCell::default();
        Ok(Rc::new(Engine {
            known,
            sources,
            wakes,
            watchers: RefCell::default(),
            touched: RefCell::default(),
            asked: Cell::new(false),
            orphans: RefCell::default(),
            families: Cell::new(0),
            bare: OnceCell::new(),
            ballast: RefCell::default(),
            hubs: RefCell::default(),
            ports: RefCell::default(),
            next_port: Cell::new(0),
            timers: Timers::default(),
            background: Background::default(),
            natives: Natives::default(),
            rejections: Rejections::watch(&runtime),
            context: Some(context),
            runtime,
            guard,
            limits,
        }))
    }

    /// Lets something be done with the engine, within its limits.
    pub(crate) fn with<T>(&self, what: impl FnOnce(&Ctx<'_>) -> Result<T, Error>) -> Result<T, ScriptError> {
        self.guard.begin();
        let Some(context) = &self.context else { return Err(ScriptError::plain("the engine has ended")) };
        let result = context.with(|ctx| {
            let result = what(&ctx);
            result.map_err(|error| ScriptError::caught(&ctx, error, &self.sources.borrow()))
        });
        result.map_err(|error| if self.guard.overran.get() { error.overrun(self.limits.time) } else { error })
    }

    /// Calls a function of a script in a context. `what` makes the arguments and `then` takes the result.
    pub(crate) fn call<T>(
        &self,
        vars: &Vars,
        callback: &Callback,
        arguments: impl for<'js> FnOnce(&Ctx<'js>, &mut Args<'js>) -> Result<(), Error>,
        then: impl for<'js> FnOnce(&Ctx<'js>, Value<'js>) -> Result<T, Error>,
    ) -> Result<T, ScriptError> {
        let result = self.with(|ctx| {
            self.enter(ctx, vars)?;
            let mut args = Args::new(ctx.clone(), 4);
            arguments(ctx, &mut args)?;
            let value: Value<'_> = callback.clone().restore(ctx)?.call_arg(args)?;
            then(ctx, value)
        });
        self.run_jobs();
        result
    }

    /// Makes a context the current one, for something to be done in it.
    pub(crate) fn enter<'js>(&self, ctx: &Ctx<'js>, vars: &Vars) -> Result<(), Error> {
        if !self.watchers.borrow().is_empty() {
            self.touched.borrow_mut().push(vars.1);
        }
        self.look(ctx, vars)
    }

    /// Makes a context the current one, only to look at it.
    pub(crate) fn look<'js>(&self, ctx: &Ctx<'js>, vars: &Vars) -> Result<(), Error> {
        match &*self.known.borrow() {
            Some(known) => known.enter(ctx, &vars.0),
            None => Ok(()),
        }
    }

    /// Variables of a new context.
    pub(crate) fn fresh(&self) -> Result<Vars, ScriptError> {
        let family = self.families.get().wrapping_add(1);
        self.families.set(family);
        self.with(|ctx| {
            // Now everything is loaded: what comes from here on comes and goes with connections.
            if self.ballast.borrow().is_none() {
                self.ballast.replace(Some(Ballast::new(ctx)));
            }
            self.copy(ctx, self.known()?.initial(), family)
        })
    }

    /// A copy of a context's variables: what is written on one side later is not seen on the other.
    pub(crate) fn cloned(&self, vars: &Vars) -> Result<Vars, ScriptError> {
        if *self.bare.get_or_init(|| self.sources.borrow().is_bare()) {
            return Ok(vars.clone());
        }
        self.with(|ctx| self.copy(ctx, &vars.0, vars.1))
    }

    /// Takes note of what the prelude has made.
    pub(crate) fn know<'js>(&self, ctx: &Ctx<'js>, state: &Object<'js>) -> Result<(), Error> {
        self.known.replace(Some(Known::new(ctx, state)?));
        Ok(())
    }

    fn known(&self) -> Result<Rc<Known>, Error> {
        // Nothing of a script runs before the prelude.
        self.known.borrow().clone().ok_or(Error::Unknown)
    }

    /// The object that the prelude made.
    pub(crate) fn state_object<'js>(&self, ctx: &Ctx<'js>) -> Result<Object<'js>, Error> {
        self.known()?.state(ctx)
    }

    /// What makes events.
    pub(crate) fn makers<'js>(&self, ctx: &Ctx<'js>) -> Result<Makers<'js>, Error> {
        Ok(Makers::new(ctx, self.known()?))
    }

    /// The inbound of the current context.
    pub(crate) fn inbound<'js>(&self, ctx: &Ctx<'js>) -> Result<Value<'js>, Error> {
        self.state_object(ctx)?.get::<_, Array<'_>>("c")?.get(0)
    }

    /// A request head from what a script made of it.
    pub(crate) fn request_head(&self, head: &Kept) -> Result<Box<RequestHead>, ScriptError> {
        self.with(|ctx| self.makers(ctx)?.request_head(&head.clone().restore(ctx)?))
    }

    /// A response head from what a script made of it.
    pub(crate) fn response_head(&self, head: &Kept) -> Result<Box<ResponseHead>, ScriptError> {
        self.with(|ctx| self.makers(ctx)?.response_head(&head.clone().restore(ctx)?))
    }

    /// A text by which a value can be told from others: objects by who they are.
    pub(crate) fn identity<'js>(&self, ctx: &Ctx<'js>, value: &Value<'js>) -> Result<String, Error> {
        self.state_object(ctx)?.get::<_, Function<'_>>("identity")?.call((value.clone(),))
    }

    /// Whether a value is a hub of pipelines that exchange events.
    pub(crate) fn is_hub<'js>(&self, ctx: &Ctx<'js>, value: &Value<'js>) -> Result<bool, Error> {
        self.state_object(ctx)?.get::<_, Function<'_>>("isHub")?.call((value.clone(),))
    }

    /// Gives out a handle for a place of the graph.
    pub(crate) fn add_port(&self, port: Port) -> u32 {
        let handle = self.next_port.get().wrapping_add(1);
        self.next_port.set(handle);
        self.ports.borrow_mut().insert(handle, port);
        handle
    }

    /// The place that a handle is for, while it is there.
    pub(crate) fn port(&self, handle: u32) -> Option<Port> {
        self.ports.borrow().get(&handle).copied()
    }

    /// The place is gone.
    pub(crate) fn remove_port(&self, handle: u32) {
        self.ports.borrow_mut().remove(&handle);
    }

    /// Bytes of the engine's heap that are in use.
    #[cfg(test)]
    pub(crate) fn memory_used(&self) -> i64 {
        self.runtime.memory_usage().malloc_size
    }

    pub(crate) fn set_loader(&self, files: crate::load::Files) {
        self.runtime.set_loader(files.clone(), files);
    }

    /// What it has used: bytes of its heap, calls, calls that were stopped.
    pub(crate) fn used(&self) -> (u64, u64, u64) {
        let heap = u64::try_from(self.runtime.memory_usage().malloc_size).unwrap_or_default();
        (heap, self.guard.call.get(), self.guard.overruns.get())
    }

    /// Lets gauges of the script take their measure.
    pub(crate) fn collect(&self) {
        let collected = self.with(|ctx| {
            let collect: Option<Function<'_>> = self.state_object(ctx)?.get("collect")?;
            collect.map_or(Ok(()), |collect| collect.call(()))
        });
        if let Err(error) = collected {
            crate::log::line("ERR", &format!("stats.Gauge: {error}"));
        }
        self.run_jobs();
    }

    /// Runs what promises have to do; what is too much at once goes on in the next turn.
    pub(crate) fn run_jobs(&self) {
        let mut since = None;
        // LIMIT: jobs that make jobs for ever, and many that are stopped one by one, must not hold the worker.
        for count in 1..=10_000u32 {
            if !self.runtime.is_job_pending() {
                return self.tell_rejections();
            }
            self.guard.begin();
            self.touch_all();
            // A job that fails has rejected its promise, which is told elsewhere; one that was stopped tells nobody.
            if self.runtime.execute_pending_job().is_err() {
                self.tell_stopped();
            }
            let mut long = || since.get_or_insert_with(Instant::now).elapsed() >= JOBS_TIME;
            if self.guard.overran.get() || (count % 64 == 0 && long()) {
                return;
            }
        }
    }

    /// Says that what a promise had to do was stopped.
    fn tell_stopped(&self) {
        let Some(context) = &self.context else { return };
        let error = context.with(|ctx| ScriptError::caught(&ctx, Error::Exception, &self.sources.borrow()));
        let error = if self.guard.overran.get() { error.overrun(self.limits.time) } else { error };
        crate::log::line("ERR", &format!("a promise's callback: {error}"));
    }

    /// Something was done, in whichever family: a promise's callback or a timer's says nothing of its own.
    pub(crate) fn touch_all(&self) {
        let watchers = self.watchers.borrow();
        if !watchers.is_empty() {
            self.touched.borrow_mut().extend(watchers.keys());
        }
    }

    /// Wakes a filter when something was done in a family of contexts; once.
    pub(crate) fn watch(&self, vars: &Vars, waker: Waker) {
        self.watchers.borrow_mut().entry(vars.1).or_default().push(waker);
    }

    /// Wakes a filter when the turn is over.
    pub(crate) fn wake(&self, waker: Waker) {
        self.wakes.borrow_mut().push(waker);
    }

    /// Asks for a promise's outcome: it is put into the place returned, and `waker` is woken when the turn is over.
    pub(crate) fn when_settled<'js>(
        &self,
        ctx: &Ctx<'js>,
        promise: &rquickjs::Promise<'js>,
        waker: Waker,
    ) -> Result<Outcome, Error> {
        let outcome: Outcome = Rc::default();
        let settle = |ok: bool| {
            let (place, wakes) = (Rc::clone(&outcome), Rc::clone(&self.wakes));
            Function::new(ctx.clone(), move |ctx: Ctx<'js>, value: Value<'js>| {
                let kept = Persistent::save(&ctx, value);
                place.replace(Some(if ok { Ok(kept) } else { Err(kept) }));
                wakes.borrow_mut().push(waker);
            })
        };
        let (done, failed) = (settle(true)?, settle(false)?);
        promise.then()?.call::<_, Value<'_>>((rquickjs::function::This(promise.clone()), done, failed))?;
        Ok(outcome)
    }

    /// Whether there is something to do that no event brings: the next turn is to come at once.
    pub(crate) fn is_eager(&self) -> bool {
        let watched = || {
            let watchers = self.watchers.borrow();
            self.touched.borrow().iter().any(|family| watchers.contains_key(family))
        };
        self.asked.get()
            || self.runtime.is_job_pending()
            || !self.wakes.borrow().is_empty()
            || !self.orphans.borrow().is_empty()
            || watched()
    }

    /// The filters that are to be woken: what they wait for has come, or may have.
    pub(crate) fn take_wakes(&self) -> Vec<Waker> {
        let mut wakes = std::mem::take(&mut *self.wakes.borrow_mut());
        for family in self.touched.take() {
            wakes.extend(self.watchers.borrow_mut().remove(&family).into_iter().flatten());
        }
        wakes
    }

    fn copy(&self, ctx: &Ctx<'_>, from: &Held, family: u32) -> Result<Vars, Error> {
        // All of them, so that none is written behind the end: the engine keeps arrays with gaps another way, which is slow.
        let count = self.sources.borrow().variables() + 1;
        Ok(Vars(Rc::new(raw::copied(ctx, from, count)?), family))
    }
}
