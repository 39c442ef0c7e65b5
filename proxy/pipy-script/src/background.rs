//! Work that a worker must not wait for, such as looking up a name: done on another thread, its result brought back.
//!
//! INVARIANT: only plain data travels; a result is taken by the filter that asked, which is woken for it.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;

use pipy_pipeline::Waker;

use crate::engine::Engine;

/// What a piece of work gave.
pub type Result = Box<dyn Any + Send>;

/// Brings results back to the thread that asked: number of the work, result.
pub type Return = Arc<dyn Fn(u64, Result) + Send + Sync>;

/// What one engine waits for.
#[derive(Default)]
pub(crate) struct Background {
    way_back: RefCell<Option<Return>>,
    waiting: RefCell<HashMap<u64, Waker>>,
    done: RefCell<HashMap<u64, Result>>,
    next: Cell<u64>,
}

impl Engine {
    /// States how results come back. Without a way work is done at once, which is right for tests alone.
    pub(crate) fn set_way_back(&self, way: Return) {
        self.background.way_back.replace(Some(way));
    }

    /// Does something on another thread. `waker` is woken when it is done; [`Engine::result`] then gives what came of it.
    pub(crate) fn in_background<T: Any + Send>(
        &self,
        waker: Waker,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> u64 {
        let background = &self.background;
        // Numbers of all engines of a worker are apart, for a result may come when a new script has taken over.
        let id = background.next.get().max(NUMBERS.get()) + 1;
        background.next.set(id);
        NUMBERS.set(id);
        background.waiting.borrow_mut().insert(id, waker);
        let way = background.way_back.borrow().clone();
        let Some(way) = way else {
            self.finished(id, Box::new(work()));
            return id;
        };
        let spare = Arc::clone(&way);
        let started =
            std::thread::Builder::new().name("background".into()).spawn(move || way(id, Box::new(work())));
        if started.is_err() {
            // Nothing will come; what is taken for a result of another kind is told as a failure.
            spare(id, Box::new(()));
        }
        id
    }

    /// A result has come back; ignored where nobody of this engine has asked.
    pub(crate) fn finished(&self, id: u64, result: Result) -> Option<Result> {
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

    /// Whether anything is under way.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.background.waiting.borrow().is_empty()
    }
}

thread_local! {
    static NUMBERS: Cell<u64> = const { Cell::new(0) };
}
