//! The engine: one JavaScript runtime per worker, made when a script is used, and the only way into it.
//!
//! In: callbacks with arguments. Out: values, or a [`ScriptError`] that says where. Limits bound memory, stack and the time of
//! each call; an overrun is an error of that call alone.
//!
//! INVARIANT: the runtime is entered by [`Engine::call`] and [`Engine::with`], never from within one of them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use pipy_pipeline::Waker;
use rquickjs::function::Args;
use rquickjs::{Array, Context, Ctx, Error, Function, Object, Persistent, Runtime, Value};

use crate::error::ScriptError;
use crate::modules::Sources;

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

/// A function of a script.
pub type Callback = Persistent<Function<'static>>;

/// A value of a script that is kept.
pub type Kept = Persistent<Value<'static>>;

/// The variables of one context: one array, the same for pipelines that share it.
#[derive(Clone)]
pub struct Vars(pub(crate) Persistent<Array<'static>>);

/// What became of a promise, once it is settled.
pub(crate) type Outcome = Rc<RefCell<Option<Result<Kept, Kept>>>>;

/// One runtime.
pub struct Engine {
    // Before the runtime, for it must be dropped before.
    pub(crate) state: RefCell<Option<Persistent<Object<'static>>>>,
    pub(crate) sources: Rc<RefCell<Sources>>,
    wakes: Rc<RefCell<Vec<Waker>>>,
    context: Context,
    runtime: Runtime,
    deadline: Rc<Cell<Option<Instant>>>,
    limits: Limits,
}

impl Engine {
    /// A new engine, without any script.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn new(limits: Limits) -> Result<Rc<Self>, ScriptError> {
        let failed = |error: Error| ScriptError::plain(format!("the script engine does not start: {error}"));
        let runtime = Runtime::new().map_err(failed)?;
        runtime.set_memory_limit(limits.memory);
        runtime.set_max_stack_size(limits.stack);
        let deadline: Rc<Cell<Option<Instant>>> = Rc::default();
        let until = Rc::clone(&deadline);
        runtime.set_interrupt_handler(Some(Box::new(move || {
            until.get().is_some_and(|deadline| Instant::now() >= deadline)
        })));
        let context = Context::full(&runtime).map_err(failed)?;
        let sources = Rc::default();
        let wakes = Rc::default();
        let state = RefCell::default();
        Ok(Rc::new(Engine { state, sources, wakes, context, runtime, deadline, limits }))
    }

    /// Lets something be done with the engine, within its limits.
    pub(crate) fn with<T>(&self, what: impl FnOnce(&Ctx<'_>) -> Result<T, Error>) -> Result<T, ScriptError> {
        self.deadline.set(Some(Instant::now() + self.limits.time));
        let result = self.context.with(|ctx| {
            let result = what(&ctx);
            result.map_err(|error| ScriptError::caught(&ctx, error, &self.sources.borrow()))
        });
        let late = self.deadline.take().is_some_and(|deadline| Instant::now() >= deadline);
        result.map_err(|error| if late { error.overrun(self.limits.time) } else { error })
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

    /// Makes a context the current one.
    pub(crate) fn enter<'js>(&self, ctx: &Ctx<'js>, vars: &Vars) -> Result<(), Error> {
        let state = self.state.borrow();
        let Some(state) = state.as_ref() else { return Ok(()) };
        state.clone().restore(ctx)?.set("c", vars.0.clone().restore(ctx)?)
    }

    /// Variables of a new context.
    pub(crate) fn fresh(&self) -> Result<Vars, ScriptError> {
        self.with(|ctx| {
            let state = self.state.borrow();
            let initial: Array<'_> = match state.as_ref() {
                Some(state) => state.clone().restore(ctx)?.get("init")?,
                None => Array::new(ctx.clone())?,
            };
            copy(ctx, &initial)
        })
    }

    /// A copy of a context's variables: what is written on one side later is not seen on the other.
    pub(crate) fn cloned(&self, vars: &Vars) -> Result<Vars, ScriptError> {
        self.with(|ctx| copy(ctx, &vars.0.clone().restore(ctx)?))
    }

    /// The object that the prelude made.
    pub(crate) fn state_object<'js>(&self, ctx: &Ctx<'js>) -> Result<Object<'js>, Error> {
        match self.state.borrow().as_ref() {
            Some(state) => state.clone().restore(ctx),
            None => Object::new(ctx.clone()),
        }
    }

    /// What makes events.
    pub(crate) fn makers<'js>(&self, ctx: &Ctx<'js>) -> Result<Object<'js>, Error> {
        self.state_object(ctx)
    }

    /// The inbound of the current context.
    pub(crate) fn inbound<'js>(&self, ctx: &Ctx<'js>) -> Result<Value<'js>, Error> {
        self.state_object(ctx)?.get::<_, Array<'_>>("c")?.get(0)
    }

    /// A text by which a value can be told from others: objects by who they are.
    pub(crate) fn identity<'js>(&self, ctx: &Ctx<'js>, value: &Value<'js>) -> Result<String, Error> {
        self.state_object(ctx)?.get::<_, Function<'_>>("identity")?.call((value.clone(),))
    }

    pub(crate) fn set_loader(&self, files: crate::load::Files) {
        self.runtime.set_loader(files.clone(), files);
    }

    /// Runs what promises have to do.
    pub(crate) fn run_jobs(&self) {
        // LIMIT: jobs that make jobs for ever must not hold the worker.
        for _ in 0..10_000 {
            if !self.runtime.is_job_pending() {
                return;
            }
            self.deadline.set(Some(Instant::now() + self.limits.time));
            // A job that fails has rejected its promise, or is reported by who waits for it.
            let _ = self.runtime.execute_pending_job();
            self.deadline.take();
        }
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

    /// The filters whose promises were settled since this was asked last.
    pub(crate) fn take_wakes(&self) -> Vec<Waker> {
        std::mem::take(&mut self.wakes.borrow_mut())
    }
}

fn copy<'js>(ctx: &Ctx<'js>, from: &Array<'js>) -> Result<Vars, Error> {
    let copy = Array::new(ctx.clone())?;
    for (index, value) in from.iter::<Value<'_>>().enumerate() {
        copy.set(index, value?)?;
    }
    Ok(Vars(Persistent::save(ctx, copy)))
}
