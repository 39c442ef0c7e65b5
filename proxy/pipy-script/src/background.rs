//! Work that a worker must not wait for, such as looking up a name: done on another thread, its result brought back.
//!
//! INVARIANT: only plain data travels; a result is taken by the filter that asked, which is woken for it, or settles a promise.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;

use pipy_pipeline::Waker;
use rquickjs::{Ctx, Function, Persistent, Promise, Value};

use crate::engine::Engine;
use crate::log;

/// What a piece of work gave.
pub type Result = Box<dyn Any + Send>;

/// Brings results back to the thread that asked: number of the work, result.
pub type Return = Arc<dyn Fn(u64, Result) + Send + Sync>;

/// Settles a promise with what a piece of work gave.
type Settle = Box<dyn FnOnce(&Ctx<'_>, Result) -> rquickjs::Result<()>>;

/// What one engine waits for.
#[derive(Default)]
pub(crate) struct Background {
    way_back: RefCell<Option<Return>>,
    waiting: RefCell<HashMap<u64, Waker>>,
    promised: RefCell<HashMap<u64, Settle>>,
    done: RefCell<HashMap<u64, Result>>,
    next: Cell<u64>,
}

impl Engine {
    /// States how results come back. Without a way work is done at once, which is right for tests alone.
    pub(crate) fn set_way_back(&self, way: Return) {
        self.background.way_back.replace(Some(way));
    }

    /// Whether results can come back.
    pub(crate) fn has_way_back(&self) -> bool {
        self.background.way().is_some()
    }

    /// Does something on another thread. `waker` is woken when it is done; [`Engine::result`] then gives what came of it.
    pub(crate) fn in_background<T: Any + Send>(
        &self,
        waker: Waker,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> u64 {
        let background = &self.background;
        let id = background.number();
        background.waiting.borrow_mut().insert(id, waker);
        match background.way() {
            Some(way) => begin(way, id, work),
            None => drop(self.finished(id, Box::new(work()))),
        }
        id
    }

    /// The same for a promise: `then` makes its value of what the work gave, or its reason for not being kept.
    pub(crate) fn promise<'js, T: Any + Send>(
        &self,
        ctx: &Ctx<'js>,
        work: impl FnOnce() -> T + Send + 'static,
        then: impl for<'a> FnOnce(&Ctx<'a>, T) -> rquickjs::Result<Value<'a>> + 'static,
    ) -> rquickjs::Result<Promise<'js>> {
        let (promise, done, failed) = ctx.promise()?;
        let (done, failed) = (Persistent::save(ctx, done), Persistent::save(ctx, failed));
        let settle = move |ctx: &Ctx<'_>, result: Result| -> rquickjs::Result<()> {
            let (done, failed): (Function<'_>, Function<'_>) = (done.restore(ctx)?, failed.restore(ctx)?);
            let made = match result.downcast::<T>() {
                Ok(result) => then(ctx, *result),
                Err(_) => Err(rquickjs::Exception::throw_message(ctx, "the work could not be begun")),
            };
            match made {
                Ok(value) => done.call((value,)),
                Err(error) if error.is_exception() => failed.call((ctx.catch(),)),
                Err(error) => Err(error),
            }
        };
        let background = &self.background;
        match background.way() {
            Some(way) => {
                let id = background.number();
                background.promised.borrow_mut().insert(id, Box::new(settle));
                begin(way, id, work);
            }
            None => settle(ctx, Box::new(work()))?,
        }
        Ok(promise)
    }

    /// A result has come back; ignored where nobody of this engine has asked.
    pub(crate) fn finished(&self, id: u64, result: Result) -> Option<Result> {
        let settle = self.background.promised.borrow_mut().remove(&id);
        if let Some(settle) = settle {
            if let Err(error) = self.with(|ctx| settle(ctx, result)) {
                log::line("ERR", &format!("a promise could not be kept: {error}"));
            }
            self.run_jobs();
            return None;
        }
        let Some(waker) = self.background.waiting.borrow_mut().remove(&id) else { return Some(result) };
        self.background.done.borrow_mut().insert(id, result);
        self.wake(waker);
        None
    }

    /// What came of a piece of work; `None` when it is not done, or was no `T`.
    pub(crate) fn result<T: Any>(&self, id: u64) -> Option<Option<T>> {
        let result = self.background.done.borrow_mut().remove(&id)?;
        Some(result.downcast().ok().map(|result| *result))
    }

    /// The filter that has asked is gone.
    pub(crate) fn forget(&self, id: u64) {
        self.background.waiting.borrow_mut().remove(&id);
        self.background.done.borrow_mut().remove(&id);
    }

    /// What wakes the worker, from any thread.
    pub(crate) fn wake_up(&self) -> impl Fn() + Send + Sync + use<> {
        let way = self.background.way();
        // No work has this number: what comes of it is nobody's, and the turn in which it comes is all that is wanted.
        move || {
            if let Some(way) = &way {
                way(0, Box::new(()));
            }
        }
    }

    /// Whether anything is under way.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.background.waiting.borrow().is_empty() || !self.background.promised.borrow().is_empty()
    }
}

impl Background {
    fn way(&self) -> Option<Return> {
        self.way_back.borrow().clone().or_else(|| WAY.with_borrow(Clone::clone))
    }

    fn number(&self) -> u64 {
        // Numbers of all engines of a worker are apart, for a result may come when a new script has taken over.
        let id = self.next.get().max(NUMBERS.get()) + 1;
        self.next.set(id);
        NUMBERS.set(id);
        id
    }
}

fn begin<T: Any + Send>(way: Return, id: u64, work: impl FnOnce() -> T + Send + 'static) {
    let spare = Arc::clone(&way);
    let started =
        std::thread::Builder::new().name("background".into()).spawn(move || way(id, Box::new(work())));
    if started.is_err() {
        // Nothing will come; what is taken for a result of another kind is told as a failure.
        spare(id, Box::new(()));
    }
}

thread_local! {
    static NUMBERS: Cell<u64> = const { Cell::new(0) };
    /// The way of this thread's engines, known before any of them is made.
    static WAY: RefCell<Option<Return>> = const { RefCell::new(None) };
}

/// States how results come back to this thread.
pub(crate) fn set_way(way: Return) {
    WAY.set(Some(way));
}

/// Whether this thread runs scripts, and does not only try them out.
pub(crate) fn is_worker() -> bool {
    WAY.with_borrow(Option::is_some)
}
