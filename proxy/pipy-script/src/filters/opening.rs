//! What a pipeline begins and ends with: `onStart` and `onEnd`.

use pipy_pipeline::{CloseReason, Cx, Event, Filter};

use crate::engine::{Callback, Kept};
use crate::layout::Scope;
use crate::log;

/// The first filter of a pipeline that has either.
pub(crate) struct Opening {
    scope: Scope,
    label: String,
    on_start: Option<Kept>,
    on_end: Option<Callback>,
    arguments: Vec<Kept>,
}

impl Opening {
    pub(crate) fn new(
        scope: Scope,
        label: String,
        on_start: Option<Kept>,
        on_end: Option<Callback>,
        arguments: Vec<Kept>,
    ) -> Self {
        Opening { scope, label, on_start, on_end, arguments }
    }

    fn run(&mut self, kept: &Kept) -> Result<Vec<Event>, crate::ScriptError> {
        let engine = self.scope.engine();
        let arguments = std::mem::take(&mut self.arguments);
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
            let mut events = Vec::new();
            let makers = engine.makers(ctx)?;
            // What a start returns that is no event was ignored in the older releases, and scripts rely on it.
            if makers.is_events(&value)? {
                makers.events(ctx, &value, &mut events)?;
            }
            Ok(events)
        })
    }
}

impl Filter for Opening {
    fn name(&self) -> &'static str {
        "onStart"
    }

    fn start(&mut self, cx: &mut Cx<'_>) {
        let Some(kept) = self.on_start.take() else { return };
        match self.run(&kept) {
            Ok(events) => events.into_iter().for_each(|event| cx.forward(event)),
            Err(error) => {
                log::line("ERR", &format!("{}: onStart: {error}", self.label));
                cx.forward(Event::Close(CloseReason::Script));
            }
        }
        self.scope.engine().run_jobs();
    }

    fn closed(&mut self, _cx: &mut Cx<'_>) {
        let Some(callback) = self.on_end.take() else { return };
        if let Err(error) =
            self.scope.engine().call(&self.scope.vars, &callback, |_, _| Ok(()), |_, _| Ok(()))
        {
            log::line("ERR", &format!("{}: onEnd: {error}", self.label));
        }
    }
}
