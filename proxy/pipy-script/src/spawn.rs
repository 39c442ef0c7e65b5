//! What scripts ask for beside their connections: pipelines that they spawn, and calls in a context of their own.
//!
//! INVARIANT: a promise of a spawned pipeline is settled when that ends, however it ends.

use std::rc::Rc;

use bytes::Bytes;
use pipy_pipeline::{Cx, Event, Filter, Graph};
use rquickjs::{Array, Ctx, Function, Object, Persistent, Value};

use crate::engine::{Callback, Kept};
use crate::filters::alone::alone;
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
            Request::Spawn(layout, arguments, done) => {
                let mut row = alone(&layout, &scope, arguments);
                row.insert(0, Box::new(Told { done: Some(done), scope: scope.clone() }));
                let pipeline = graph.open_detached(row);
                graph.send(pipeline, Event::Data(Bytes::new()));
            }
        }
    }
}

/// What a script has asked for.
enum Request {
    Call(Callback),
    Spawn(Rc<Layout>, Vec<Kept>, Callback),
}

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
        if let Some(layout) = script.layout(ctx, request.get("layout")?)? {
            requests.push(Request::Spawn(layout, args, done));
        }
    }
    Ok(requests)
}

/// Settles the promise of a spawned pipeline when that has ended.
struct Told {
    done: Option<Callback>,
    scope: Scope,
}

impl Filter for Told {
    fn name(&self) -> &'static str {
        "told"
    }

    fn closed(&mut self, _cx: &mut Cx<'_>) {
        let Some(done) = self.done.take() else { return };
        let engine = self.scope.engine();
        let result = engine.call(&self.scope.vars, &done, |_, _| Ok(()), |_, _| Ok(()));
        if let Err(error) = result {
            log::line("ERR", &format!("spawn(): {error}"));
        }
    }
}
