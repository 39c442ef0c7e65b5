//! What threads of a module's own may do with a pipeline: say that it is not held any more, and have something called.
//!
//! A pipeline's number leads to the thread that has it. INVARIANT: what is asked here is carried out there, in order.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::callbacks::Task;
use crate::host::PipelineId;

/// What another thread asks.
#[derive(Debug)]
pub enum Work {
    /// Call something so much later.
    Call(PipelineId, Duration, Task),
    /// A pipeline is not held any more.
    Free(PipelineId),
}

/// The thread that has a pipeline.
pub struct Remote {
    inbox: Mutex<Vec<Work>>,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Remote {
    /// For a thread that is woken so.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Remote { inbox: Mutex::default(), wake: Box::new(wake) })
    }

    /// What was asked since the last time.
    pub fn take(&self) -> Vec<Work> {
        std::mem::take(&mut *self.inbox.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn put(&self, work: Work) {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner).push(work);
        (self.wake)();
    }
}

static HOMES: Mutex<Option<Homes>> = Mutex::new(None);

#[derive(Default)]
struct Homes {
    next: PipelineId,
    by_pipeline: HashMap<PipelineId, Arc<Remote>>,
}

/// A number for a new pipeline of this thread.
pub fn register(remote: &Arc<Remote>) -> PipelineId {
    let mut homes = HOMES.lock().unwrap_or_else(PoisonError::into_inner);
    let homes = homes.get_or_insert_default();
    loop {
        homes.next = homes.next.checked_add(1).unwrap_or(1);
        if !homes.by_pipeline.contains_key(&homes.next) {
            homes.by_pipeline.insert(homes.next, Arc::clone(remote));
            return homes.next;
        }
    }
}

/// The pipeline is gone.
pub fn forget(pipeline: PipelineId) {
    let mut homes = HOMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(homes) = homes.as_mut() {
        homes.by_pipeline.remove(&pipeline);
    }
}

/// Asks the thread that has the pipeline; what is asked of one that is gone is dropped.
pub(crate) fn ask(pipeline: PipelineId, work: Work) {
    let home = {
        let homes = HOMES.lock().unwrap_or_else(PoisonError::into_inner);
        homes.as_ref().and_then(|homes| homes.by_pipeline.get(&pipeline).cloned())
    };
    if let Some(home) = home {
        home.put(work);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn what_is_asked_wakes_the_thread_that_has_the_pipeline() {
        let woken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&woken);
        let remote = Remote::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let (one, other) = (register(&remote), register(&remote));
        assert_ne!(one, other);
        std::thread::scope(|scope| {
            scope.spawn(|| ask(one, Work::Free(one)));
        });
        forget(one);
        ask(one, Work::Free(one));
        assert_eq!(woken.load(Ordering::Relaxed), 1);
        assert!(matches!(remote.take().as_slice(), [Work::Free(id)] if *id == one));
        assert!(remote.take().is_empty());
    }
}
