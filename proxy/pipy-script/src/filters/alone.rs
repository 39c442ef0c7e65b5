//! Pipelines that belong to no connection and to no other pipeline: those of tasks, and what scripts spawn. Such a pipeline ends
//! when its stream ends.

use pipy_pipeline::{Cx, Event, Filter};

use crate::engine::Kept;
use crate::events::{ScriptEvent, script_event};
use crate::layout::{Layout, Scope};
use crate::spawn::Ended;

/// The filters of such a pipeline.
pub(crate) fn alone(layout: &Layout, scope: &Scope, arguments: Vec<Kept>) -> Vec<Box<dyn Filter>> {
    alone_telling(layout, scope, arguments, &Ended::default())
}

/// The same, telling what its `onEnd` has returned.
pub(crate) fn alone_telling(
    layout: &Layout,
    scope: &Scope,
    arguments: Vec<Kept>,
    ended: &Ended,
) -> Vec<Box<dyn Filter>> {
    let mut row: Vec<Box<dyn Filter>> = vec![Box::new(Watch)];
    row.extend(layout.pipeline_telling(scope, arguments, ended));
    row.push(Box::new(Turn));
    row
}

struct Watch;

impl Filter for Watch {
    fn name(&self) -> &'static str {
        "watch"
    }

    fn output(&mut self, cx: &mut Cx<'_>, event: Event) {
        let over =
            matches!(event, Event::Close(_)) || matches!(script_event(&event), Some(ScriptEvent::Failed(_)));
        if over {
            let own = cx.pipeline();
            cx.close(own);
        }
    }
}

/// The right end: what arrives here goes back to the watch.
struct Turn;

impl Filter for Turn {
    fn name(&self) -> &'static str {
        "turn"
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        if !matches!(event, Event::Pause | Event::Resume) {
            cx.back(event);
        }
    }
}
