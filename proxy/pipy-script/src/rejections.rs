//! Promises that fail and that nobody asks about: said in the log, once, when all that was to be done is done.
//!
//! INVARIANT: what is asked about before that is no failure of the script's.

use std::cell::RefCell;
use std::rc::Rc;

use rquickjs::function::This;
use rquickjs::{Ctx, Error, Function, Persistent, Promise, Runtime, Value};

use crate::engine::{Engine, Kept};
use crate::error::ScriptError;
use crate::log;

/// Promises that have failed, each with the reason, and that nobody has asked about so far.
#[derive(Default)]
pub(crate) struct Rejections(RefCell<Vec<(Kept, Kept)>>);

impl Rejections {
    /// Begins to take note of them.
    pub(crate) fn watch(runtime: &Runtime) -> Rc<Self> {
        let rejections = Rc::new(Rejections::default());
        let noting = Rc::clone(&rejections);
        runtime.set_host_promise_rejection_tracker(Some(Box::new(move |ctx, promise, reason, asked| {
            if asked {
                noting
                    .0
                    .borrow_mut()
                    .retain(|(open, _)| open.clone().restore(&ctx).ok() != Some(promise.clone()));
            } else {
                let (promise, reason) = (Persistent::save(&ctx, promise), Persistent::save(&ctx, reason));
                noting.0.borrow_mut().push((promise, reason));
            }
        })));
        rejections
    }

    /// Forgets them: before the runtime goes, or where the failure is told otherwise.
    pub(crate) fn clear(&self) {
        self.0.take();
    }
}

impl Engine {
    /// Says what has failed without anybody asking.
    pub(crate) fn tell_rejections(&self) {
        if self.rejections.0.borrow().is_empty() {
            return;
        }
        for (_, reason) in self.rejections.0.take() {
            let told = self.with(|ctx| {
                let reason = reason.restore(ctx)?;
                Ok(ScriptError::caught(ctx, ctx.throw(reason), &self.sources.borrow()))
            });
            let (Ok(error) | Err(error)) = told;
            log::line("ERR", &format!("uncaught exception from a promise: {error}"));
        }
    }
}

/// What became of a promise, where its failure is told by who asks here.
pub(crate) fn finish<'js>(ctx: &Ctx<'js>, promise: &Promise<'js>) -> Result<Value<'js>, Error> {
    let nothing = Function::new(ctx.clone(), || {})?;
    promise.catch()?.call::<_, Value<'js>>((This(promise.clone()), nothing))?;
    promise.finish()
}
