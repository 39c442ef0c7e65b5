//! Work that a worker must not wait for, such as looking up a name: done on another thread, its result brought back.
//!
//! INVARIANT: only plain data travels; a result is taken by the filter that asked, which is woken for it, or settles a promise.

use std::any::Any;
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

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
        let id = number();
        background.waiting.borrow_mut().insert(id, waker);
        match background.way() {
            Some(way) => queue(way, id, work),
            None => drop(self.finished(id, Box::new(work()))),
        }
        id
    }

    /// The same for a promise: `then` makes its value of what the work gave, or its reason for not being kept. Work that may last
    /// for as long as the script is `long`.
    pub(crate) fn promise<'js, T: Any + Send>(
        &self,
        ctx: &Ctx<'js>,
        long: bool,
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
                let id = number();
                background.promised.borrow_mut().insert(id, Box::new(settle));
                if long { begin(way, id, work) } else { queue(way, id, work) }
            }
            None => settle(ctx, Box::new(work()))?,
        }
        Ok(promise)
    }

    /// A number, and a way on which its result is sent when something has happened on whichever thread: then `waker` is woken.
    pub(crate) fn awaited(&self, waker: Waker) -> Option<(u64, Return)> {
        let way = self.background.way()?;
        let id = number();
        self.background.waiting.borrow_mut().insert(id, waker);
        Some((id, way))
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
}

/// Numbers of all engines of all workers are apart: a result may come when a new script has taken over, and who waits for what
/// workers share is known by his number there.
fn number() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

/// Does work of which there may be much: on one of a few threads, when one is free.
fn queue<T: Any + Send>(way: Return, id: u64, work: impl FnOnce() -> T + Send + 'static) {
    let spare = Arc::clone(&way);
    if !POOL.take(Box::new(move || way(id, outcome(work)))) {
        // What is taken for a result of another kind is told as a failure.
        spare(id, Box::new(()));
    }
}

/// What work gives; nothing where it panics, of which the runtime has told.
fn outcome<T: Any + Send>(work: impl FnOnce() -> T) -> Result {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)) {
        Ok(result) => Box::new(result),
        Err(_) => Box::new(()),
    }
}

/// Does work that may last for as long as the script: on a thread of its own.
fn begin<T: Any + Send>(way: Return, id: u64, work: impl FnOnce() -> T + Send + 'static) {
    let spare = Arc::clone(&way);
    let started = std::thread::Builder::new().name("background".into()).spawn(move || way(id, outcome(work)));
    if started.is_err() {
        spare(id, Box::new(()));
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// Threads that work for all workers; they come when there is work, and go when there has been none for a while.
struct Pool {
    state: Mutex<PoolState>,
    wanted: Condvar,
}

struct PoolState {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

/// LIMIT: as many names as are looked up at once. A resolver that does not answer holds a thread for seconds.
const THREADS_MAX: usize = 16;
/// LIMIT: what waits for a thread. Beyond that, whoever asks is told so at once.
const JOBS_MAX: usize = 4096;
/// How long a thread waits for the next piece of work.
const IDLE: Duration = Duration::from_secs(5);

static POOL: Pool = Pool {
    state: Mutex::new(PoolState { jobs: VecDeque::new(), threads: 0, idle: 0 }),
    wanted: Condvar::new(),
};

impl Pool {
    fn lock(&self) -> MutexGuard<'_, PoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a piece of work; false where there is too much already.
    fn take(&'static self, job: Job) -> bool {
        let mut state = self.lock();
        if state.jobs.len() >= JOBS_MAX {
            return false;
        }
        state.jobs.push_back(job);
        if state.jobs.len() > state.idle && state.threads < THREADS_MAX {
            let started = std::thread::Builder::new().name("background".into()).spawn(|| self.run());
            state.threads += usize::from(started.is_ok());
        }
        // Without any thread it would never be done.
        let served = state.threads > 0 || state.jobs.pop_back().is_none();
        drop(state);
        self.wanted.notify_one();
        served
    }

    fn run(&self) {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                job();
                state = self.lock();
                continue;
            }
            state.idle += 1;
            let (back, waited) =
                self.wanted.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
            state = back;
            state.idle -= 1;
            if waited.timed_out() && state.jobs.is_empty() {
                state.threads -= 1;
                return;
            }
        }
    }
}

thread_local! {
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn much_work_is_done_by_few_threads_and_one_that_panics_does_not_stop_them() {
        let (send, receive) = channel();
        let way: Return = {
            let send = Mutex::new(send);
            Arc::new(move |id, _| send.lock().unwrap().send(id).unwrap())
        };
        queue(Arc::clone(&way), 0, || -> () { panic!("as a test wants it") });
        for id in 1..=200 {
            queue(Arc::clone(&way), id, || std::thread::sleep(Duration::from_millis(1)));
            assert!(POOL.lock().threads <= THREADS_MAX);
        }
        let mut done: Vec<u64> =
            (0..=200).map(|_| receive.recv_timeout(Duration::from_secs(30)).unwrap()).collect();
        done.sort_unstable();
        assert_eq!(done, (0..=200).collect::<Vec<u64>>());
    }
}
