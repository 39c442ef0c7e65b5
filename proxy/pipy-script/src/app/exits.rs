//! What a script wants done before its worker ends: pipelines of `.exit()`, and callbacks of `pipy.exit()`.
//!
//! INVARIANT: the worker is said to be ready when all of that is over, however it ends.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use pipy_pipeline::{Event, Graph, PipelineId};
use rquickjs::Function;

use super::App;
use crate::filters::alone::alone;
use crate::layout::Layout;
use crate::log;

/// The end, once it has been begun: the pipelines that run before it, and where it is told that it is over.
pub(super) type Exiting = Option<(Arc<AtomicUsize>, Option<Vec<PipelineId>>)>;

impl App {
    /// Runs what is to be done before the end, and tells when it has ended.
    pub(super) fn run_exits(&mut self, graph: &mut Graph) {
        let Some((done, begun)) = self.exiting.take() else { return };
        let running = begun.unwrap_or_else(|| {
            let starts = self.script.as_ref().and_then(|script| script.starts.get());
            let exits: Vec<Rc<Layout>> = starts
                .into_iter()
                .flatten()
                .filter(|start| start.kind == "exit")
                .map(|start| Rc::clone(&start.layout))
                .collect();
            let mut running = Vec::new();
            for layout in exits {
                let Some(scope) = self.scope(None) else { continue };
                let pipeline = graph.open_detached(alone(&layout, &scope, Vec::new()));
                graph.send(pipeline, Event::Data(Bytes::new()));
                running.push(pipeline);
            }
            running
        });
        if running.iter().any(|pipeline| graph.alive(*pipeline)) || self.callbacks_left() > 0 {
            self.exiting = Some((done, Some(running)));
        } else {
            done.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many callbacks are not over; the first time this is asked, they are called.
    fn callbacks_left(&self) -> usize {
        let Some(script) = &self.script else { return 0 };
        let engine = &script.engine;
        let left = engine.with(|ctx| {
            let leave: Function<'_> = engine.state_object(ctx)?.get("leave")?;
            leave.call::<_, usize>(())
        });
        engine.run_jobs();
        left.unwrap_or_else(|error| {
            log::line("ERR", &format!("pipy.exit(): {error}"));
            0
        })
    }
}
