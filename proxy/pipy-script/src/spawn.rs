//! What scripts ask for beside their connections: pipelines that they spawn, and calls in a context of their own.
//!
//! INVARIANT: a promise of a spawned pipeline is settled when that ends, however it ends.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use pipy_pipeline::{Cx, Event, Filter, Graph};
use rquickjs::{Array, Ctx, Function, Object, Persistent, Value};

use crate::engine::{Callback, Kept};
use crate::filters::alone::alone_telling;
use crate::layout::{Family, Layout, Scope, Script};
use crate::log;

/// Pipelines that scripts spawn, and what they want done in a context of its own.
pub(crate) fn run_requests(script: &Rc<Script>, graph: &mut Graph) {
    if !script.engine.asked.take() {
        return;
    }
    let requests = match script.engine.with(|ctx| requests(ctx, script)) {
        Ok(requests) => requests,
        Err(error) => {
            return log::line("ERR", &format!("a pipeline could not be spawned: {error}"));
        }
    };
    for request in requests {
        let Ok(vars) = script.engine.fresh() else { continue };
        let family = Family::new(&script.engine);
        let scope = Scope { script: Rc::clone(script), vars, next: None, family, host: None, output: None };
        match request {
            Request::Call(callback) => {
                let result = script.engine.call(&scope.vars, &callback, |_, _| Ok(()), |_, _| Ok(()));
                if let Err(error) = result {
                    log::line("ERR", &format!("pipy.fork(): {error}"));
                }
            }
            Request::Spawn(layout, arguments, done, input) => {
                let ended = Ended::default();
                let mut row = alone_telling(&layout, &scope, arguments, &ended);
                // Filters are closed in their order: this one when `onEnd` has been called.
                let told = Told { done: Some((done, ended)), scope: scope.clone() };
                row.insert(row.len().saturating_sub(1), Box::new(told));
                let pipeline = graph.open_detached(row);
                if input.is_empty() {
                    graph.send(pipeline, Event::Data(Bytes::new()));
                }
                input.into_iter().for_each(|event| graph.send(pipeline, event));
            }
        }
    }
}

/// What a script has asked for.
enum Request {
    Call(Callback),
    /// A pipeline, what its `onStart` is called with, who is told of its end, and what is given to it.
    Spawn(Rc<Layout>, Vec<Kept>, Callback, Vec<Event>),
}

/// What the `onEnd` of a pipeline has returned.
pub(crate) type Ended = Rc<RefCell<Option<Kept>>>;

fn requests(ctx: &Ctx<'_>, script: &Script) -> rquickjs::Result<Vec<Request>> {
    let state = script.engine.state_object(ctx)?;
    if state.get::<_, Array<'_>>("requests")?.is_empty() {
        return Ok(Vec::new());
    }
    let taken: Array<'_> = state.get::<_, Function<'_>>("take")?.call(())?;
    let mut requests = Vec::new();
    for request in taken.iter::<Object<'_>>() {
        let request = request?;
        if let Some(callback) = request.get::<_, Option<Function<'_>>>("callback")? {
            requests.push(Request::Call(Persistent::save(ctx, callback)));
            continue;
        }
        let args: Vec<Value<'_>> = request.get("args")?;
        let args = args.into_iter().map(|arg| Persistent::save(ctx, arg)).collect();
        let done = Persistent::save(ctx, request.get::<_, Function<'_>>("done")?);
        let given: Value<'_> = request.get("input")?;
        let mut input = Vec::new();
        if !given.is_undefined() {
            script.engine.makers(ctx)?.events(ctx, &given, &mut input)?;
        }
        if let Some(layout) = script.layout(ctx, request.get("layout")?)? {
            requests.push(Request::Spawn(layout, args, done, input));
        }
    }
    Ok(requests)
}

/// Settles the promise of a spawned pipeline when that has ended: it is the last of its filters to be closed.
struct Told {
    done: Option<(Callback, Ended)>,
    scope: Scope,
}

impl Filter for Told {
    fn name(&self) -> &'static str {
        "told"
    }

    fn closed(&mut self, _cx: &mut Cx<'_>) {
        let Some((done, ended)) = self.done.take() else { return };
        let engine = self.scope.engine();
        let result = engine.call(
            &self.scope.vars,
            &done,
            |ctx, args| match ended.take() {
                Some(value) => args.push_arg(value.restore(ctx)?),
                None => args.push_arg(Value::new_undefined(ctx.clone())),
            },
            |_, _| Ok(()),
        );
        if let Err(error) = result {
            log::line("ERR", &format!("spawn(): {error}"));
        }
    }
}
