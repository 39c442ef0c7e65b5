//! What filters ask callbacks, beside what `handle*` and `replace*` do: a value, an answer in events, or a promise of either.

use pipy_pipeline::{CloseReason, Cx, Event};
use rquickjs::function::Args;
use rquickjs::{Ctx, Persistent, Result, Value};

use crate::engine::{Kept, Outcome};
use crate::events::Makers;
use crate::layout::Scope;
use crate::log;

/// Who asks, for the log.
#[derive(Clone)]
pub(super) struct Asker {
    pub(super) name: &'static str,
    pub(super) label: String,
}

impl Asker {
    /// Evaluates what a script gave: a function is called, anything else is the value.
    pub(super) fn ask<T>(
        &self,
        scope: &Scope,
        what: &Kept,
        arguments: impl for<'js> FnOnce(&Ctx<'js>, &Makers<'js>) -> Result<Vec<Value<'js>>>,
        then: impl for<'js> FnOnce(&Ctx<'js>, &Makers<'js>, Value<'js>) -> Result<T>,
    ) -> Option<T> {
        let engine = scope.engine();
        let result = engine.with(|ctx| {
            engine.enter(ctx, &scope.vars)?;
            let makers = engine.makers(ctx)?;
            let mut value = what.clone().restore(ctx)?;
            if let Some(function) = value.as_function() {
                let given = arguments(ctx, &makers)?;
                let mut args = Args::new(ctx.clone(), given.len());
                args.push_args(given)?;
                value = function.call_arg(args)?;
            }
            then(ctx, &makers, value)
        });
        engine.run_jobs();
        self.said(result)
    }

    /// The same, when the answer is events or a promise of them.
    pub(super) fn events(
        &self,
        cx: &Cx<'_>,
        scope: &Scope,
        what: &Kept,
        arguments: impl for<'js> FnOnce(&Ctx<'js>, &Makers<'js>) -> Result<Vec<Value<'js>>>,
    ) -> Option<Answer> {
        let (engine, waker) = (std::rc::Rc::clone(scope.engine()), cx.waker(0));
        self.ask(scope, what, arguments, |ctx, makers, value| match value.as_promise() {
            Some(promise) => engine.when_settled(ctx, promise, waker).map(Answer::Later),
            None => {
                let mut events = Vec::new();
                makers.events(ctx, &value, &mut events)?;
                Ok(Answer::Events(events))
            }
        })
    }

    /// What a promise of events has become; `None` while it is open.
    pub(super) fn later(&self, scope: &Scope, outcome: &Outcome) -> Option<Option<Vec<Event>>> {
        let settled = outcome.take()?;
        let engine = scope.engine();
        let result = engine.with(|ctx| match settled {
            Ok(value) => {
                let makers = engine.makers(ctx)?;
                let mut events = Vec::new();
                makers.events(ctx, &value.restore(ctx)?, &mut events)?;
                Ok(events)
            }
            Err(error) => Err(ctx.throw(error.restore(ctx)?)),
        });
        Some(self.said(result))
    }

    fn said<T>(&self, result: std::result::Result<T, crate::ScriptError>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.complain(&error);
                None
            }
        }
    }

    /// Writes to the log.
    pub(super) fn complain(&self, what: &dyn std::fmt::Display) {
        log::line("ERR", &format!("{}: {}: {what}", self.label, self.name));
    }
}

/// What a callback answered.
pub(super) enum Answer {
    Events(Vec<Event>),
    Later(Outcome),
}

/// The end of a stream whose callback failed.
pub(super) fn failed() -> Event {
    Event::Close(CloseReason::Script)
}

/// A value that is kept.
pub(super) fn keep<'js>(ctx: &Ctx<'js>, value: Value<'js>) -> Kept {
    Persistent::save(ctx, value)
}
