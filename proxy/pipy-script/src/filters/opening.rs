//! What a pipeline begins and ends with: `onStart` and `onEnd`. While a promise of `onStart` is open, what comes waits.

use std::collections::VecDeque;
use std::rc::Rc;

use pipy_pipeline::{CloseReason, Cx, Event, Filter};
use rquickjs::{Ctx, Persistent, Value};

use crate::engine::{Callback, Kept, Outcome};
use crate::events::Makers;
use crate::layout::Scope;
use crate::log;
use crate::spawn::Ended;

/// The first filter of a pipeline that has either.
pub(crate) struct Opening {
    scope: Scope,
    label: String,
    on_start: Option<Kept>,
    on_end: Option<Callback>,
    arguments: Vec<Kept>,
    /// The promise of `onStart`, and what came meanwhile.
    waiting: Option<(Outcome, VecDeque<Event>)>,
    /// What began the pipeline has given events: the empty one that begins pipelines without a connection is not needed.
    given: bool,
    /// Where it is put what `onEnd` returns.
    ended: Ended,
}

impl Opening {
    pub(crate) fn new(
        scope: Scope,
        label: String,
        on_start: Option<Kept>,
        on_end: Option<Callback>,
        arguments: Vec<Kept>,
    ) -> Self {
        Opening {
            scope,
            label,
            on_start,
            on_end,
            arguments,
            waiting: None,
            given: false,
            ended: Ended::default(),
        }
    }

    /// The same, telling what `onEnd` has returned.
    pub(crate) fn telling(self, ended: &Ended) -> Self {
        Opening { ended: Rc::clone(ended), ..self }
    }

    fn run(&mut self, cx: &Cx<'_>, kept: &Kept) -> Result<Opened, crate::ScriptError> {
        let engine = Rc::clone(self.scope.engine());
        let arguments = std::mem::take(&mut self.arguments);
        let waker = cx.waker(0);
        engine.with(|ctx| {
            engine.enter(ctx, &self.scope.vars)?;
            let mut value = kept.clone().restore(ctx)?;
            if let Some(function) = value.as_function() {
                let mut args = rquickjs::function::Args::new(ctx.clone(), arguments.len());
                for argument in arguments {
                    args.push_arg(argument.restore(ctx)?)?;
                }
                value = function.call_arg(args)?;
            }
            match value.as_promise() {
                Some(promise) => engine.when_settled(ctx, promise, waker).map(Opened::Later),
                None => Ok(Opened::Now(events(&engine.makers(ctx)?, ctx, &value)?)),
            }
        })
    }

    fn fail(&mut self, cx: &mut Cx<'_>, error: &crate::ScriptError) {
        log::line("ERR", &format!("{}: onStart: {error}", self.label));
        cx.forward(Event::Close(CloseReason::Script));
    }
}

/// What a start has given.
enum Opened {
    Now(Vec<Event>),
    Later(Outcome),
}

/// What a start returns that is no event was ignored in the older releases, and scripts rely on it.
fn events<'js>(makers: &Makers<'js>, ctx: &Ctx<'js>, value: &Value<'js>) -> rquickjs::Result<Vec<Event>> {
    let mut events = Vec::new();
    if makers.is_events(value)? {
        makers.events(ctx, value, &mut events)?;
    }
    Ok(events)
}

impl Filter for Opening {
    fn name(&self) -> &'static str {
        "onStart"
    }

    fn start(&mut self, cx: &mut Cx<'_>) {
        let Some(kept) = self.on_start.take() else { return };
        match self.run(cx, &kept) {
            Ok(Opened::Now(events)) => {
                self.given = !events.is_empty();
                events.into_iter().for_each(|event| cx.forward(event));
            }
            Ok(Opened::Later(outcome)) => self.waiting = Some((outcome, VecDeque::new())),
            Err(error) => self.fail(cx, &error),
        }
        self.scope.engine().run_jobs();
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        if std::mem::take(&mut self.given) && matches!(&event, Event::Data(data) if data.is_empty()) {
            return;
        }
        match (&mut self.waiting, event) {
            (Some((_, held)), event) if !matches!(event, Event::Pause | Event::Resume) => {
                held.push_back(event)
            }
            (_, event) => cx.forward(event),
        }
    }

    fn wake(&mut self, cx: &mut Cx<'_>, _token: u32) {
        let Some(settled) = self.waiting.as_ref().and_then(|(outcome, _)| outcome.take()) else { return };
        let held = self.waiting.take().map(|(_, held)| held).unwrap_or_default();
        let engine = Rc::clone(self.scope.engine());
        let given = engine.with(|ctx| match settled {
            Ok(value) => events(&engine.makers(ctx)?, ctx, &value.restore(ctx)?),
            Err(error) => Err(ctx.throw(error.restore(ctx)?)),
        });
        match given {
            Ok(events) => {
                events.into_iter().for_each(|event| cx.forward(event));
                held.into_iter().for_each(|event| cx.forward(event));
            }
            Err(error) => self.fail(cx, &error),
        }
    }

    fn closed(&mut self, _cx: &mut Cx<'_>) {
        let Some(callback) = self.on_end.take() else { return };
        let ended = Rc::clone(&self.ended);
        let engine = Rc::clone(self.scope.engine());
        let called = engine.call(
            &self.scope.vars,
            &callback,
            |_, _| Ok(()),
            |ctx, value| {
                if !value.is_undefined() {
                    ended.replace(Some(Persistent::save(ctx, value)));
                }
                Ok(())
            },
        );
        if let Err(error) = called {
            log::line("ERR", &format!("{}: onEnd: {error}", self.label));
        }
    }
}
