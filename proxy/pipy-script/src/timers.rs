//! Timers of scripts: `Timeout`, `setTimeout`. The worker says what time it is and when to look.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::{Duration, Instant};

use rquickjs::{Ctx, Function, Persistent, Result};

use crate::engine::{Callback, Engine};
use crate::log;

/// LIMIT: what the clock can still count from now; a script that waits longer waits for good.
pub(crate) const FOREVER: Duration = Duration::from_secs(1 << 40);

/// All timers of one engine.
#[derive(Default)]
pub(crate) struct Timers {
    now: Cell<Option<Instant>>,
    order: RefCell<BinaryHeap<Reverse<(Instant, u32)>>>,
    set: RefCell<HashMap<u32, Callback>>,
    next: Cell<u32>,
}

impl Timers {
    /// The time of this turn.
    pub(crate) fn set_now(&self, now: Instant) {
        self.now.set(Some(now));
    }

    pub(crate) fn set(&self, after: Duration, callback: Callback) -> u32 {
        let now = self.now.get().unwrap_or_else(Instant::now);
        let id = self.next.get().wrapping_add(1);
        self.next.set(id);
        self.order.borrow_mut().push(Reverse((now + after, id)));
        self.set.borrow_mut().insert(id, callback);
        id
    }

    pub(crate) fn cancel(&self, id: u32) {
        self.set.borrow_mut().remove(&id);
    }

    /// When the next one is due.
    pub(crate) fn due(&self) -> Option<Instant> {
        let mut order = self.order.borrow_mut();
        while let Some(Reverse((at, id))) = order.peek() {
            if self.set.borrow().contains_key(id) {
                return Some(*at);
            }
            order.pop();
        }
        None
    }

    /// The next that is due, of those that were set before `until`.
    fn pop(&self, until: u32) -> Option<Callback> {
        let now = self.now.get()?;
        if self.due()? > now {
            return None;
        }
        let mut order = self.order.borrow_mut();
        // What is set now for now is the latest of those that are due.
        if order.peek().is_none_or(|Reverse((_, id))| until.wrapping_sub(*id) > u32::MAX / 2) {
            return None;
        }
        let Reverse((_, id)) = order.pop()?;
        self.set.borrow_mut().remove(&id)
    }

    pub(crate) fn clear(&self) {
        self.order.take();
        self.set.take();
    }
}

impl Engine {
    /// Calls what is due.
    pub(crate) fn run_timers(&self, now: Instant) {
        self.timers.set_now(now);
        // A timer that sets another one for now must not hold the worker: that one is for the next turn.
        let until = self.timers.next.get();
        while let Some(callback) = self.timers.pop(until) {
            let result = self.with(|ctx| callback.restore(ctx)?.call::<_, ()>(()));
            if let Err(error) = result {
                log::line("ERR", &format!("a timer: {error}"));
            }
            self.touch_all();
            self.run_jobs();
        }
    }
}

/// `setTimeout` and its kin for the prelude: seconds and a function, that gives a number to cancel it by.
pub(crate) fn install<'js>(
    ctx: &Ctx<'js>,
    native: &rquickjs::Object<'js>,
    engine: &std::rc::Rc<Engine>,
) -> Result<()> {
    let weak = std::rc::Rc::downgrade(engine);
    let set = move |ctx: Ctx<'js>, seconds: f64, callback: Function<'js>| -> u32 {
        let after = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(FOREVER).min(FOREVER);
        weak.upgrade().map_or(0, |engine| engine.timers.set(after, Persistent::save(&ctx, callback)))
    };
    native.set("timer", Function::new(ctx.clone(), set)?)?;
    let weak = std::rc::Rc::downgrade(engine);
    let cancel = move |id: u32| {
        if let Some(engine) = weak.upgrade() {
            engine.timers.cancel(id);
        }
    };
    native.set("cancel", Function::new(ctx.clone(), cancel)?)?;
    let seconds = |ctx: Ctx<'js>, value: rquickjs::Value<'js>| -> Result<f64> {
        let time = crate::filters::duration(&value).ok_or_else(|| {
            rquickjs::Exception::throw_type(
                &ctx,
                "expected a time: seconds, or text such as '500ms', '5s', '1m'",
            )
        })?;
        Ok(time.as_secs_f64())
    };
    native.set("seconds", Function::new(ctx.clone(), seconds)?)?;
    native.set("thread", crate::objects::process::thread(ctx)?)
}
