//! `use('module.so', 'pipeline')`: the filter whose events go through a module.

use std::collections::VecDeque;
use std::rc::Rc;

use pipy_nmi::Pipeline;
use pipy_pipeline::{CloseReason, Cx, Event, Filter};

use super::instance::Instance;
use super::values::Item;
use super::{Native, host};
use crate::events::{ScriptEvent, custom, script_event};
use crate::filters::{as_value, is_end};
use crate::layout::{FilterDef, Reading, Scope};
use crate::log;

/// The filter of a module, where the file that `use` names is one.
pub(crate) fn use_module(reading: &Reading<'_, '_>, path: &str) -> rquickjs::Result<Rc<dyn FilterDef>> {
    let name = reading.string(1).unwrap_or_default();
    let Some(module) = reading.natives().modules.borrow().get(path).cloned() else {
        return Err(reading.refuse(&format!("native module {path} is not loaded")));
    };
    let pipeline = module.pipelines.borrow().get(&name).copied();
    match pipeline {
        Some(pipeline) => Ok(Rc::new(ModuleDef { module, pipeline })),
        None => {
            let what =
                if name.is_empty() { "entrance pipeline".to_owned() } else { format!("pipeline {name}") };
            Err(reading.refuse(&format!("native module {path} has no {what}")))
        }
    }
}

struct ModuleDef {
    module: Rc<Native>,
    pipeline: Pipeline,
}

impl FilterDef for ModuleDef {
    fn filter(&self, scope: &Scope) -> Box<dyn Filter> {
        let (module, pipeline) = (Rc::clone(&self.module), self.pipeline);
        Box::new(Through { module, pipeline, instance: None, start: None, over: false, scope: scope.clone() })
    }
}

struct Through {
    module: Rc<Native>,
    pipeline: Pipeline,
    instance: Option<Rc<Instance>>,
    /// The start of a message whose length is not known yet: what comes next tells whether there is a body.
    start: Option<Event>,
    over: bool,
    scope: Scope,
}

impl Through {
    /// Passes on what the module has put out.
    fn pass_on(&mut self, cx: &mut Cx<'_>) {
        let Some(instance) = &self.instance else { return };
        let put = instance.out.take();
        if put.is_empty() || self.over {
            return;
        }
        let engine = self.scope.engine();
        let made = engine.with(|ctx| {
            let makers = engine.makers(ctx)?;
            let mut events = Vec::with_capacity(put.len());
            for item in &put {
                makers.events(ctx, &host::value(ctx, item)?, &mut events)?;
            }
            Ok(events)
        });
        match made {
            Ok(events) => self.measured(cx, events.into()),
            Err(error) => {
                log::line("ERR", &format!("native module {}: {error}", self.module.path));
                self.over = true;
                cx.forward(Event::Close(CloseReason::Script));
            }
        }
    }

    /// Says how long bodies are, as far as they were put out together with their starts. A module may have changed the body, so
    /// that what was announced before counts no more.
    fn measured(&mut self, cx: &mut Cx<'_>, mut events: VecDeque<Event>) {
        if let Some(start) = self.start.take() {
            events.push_front(start);
        }
        while let Some(event) = events.pop_front() {
            let Some(ScriptEvent::Start(head, None)) = script_event(&event) else {
                cx.forward(event);
                continue;
            };
            let mut length = 0;
            let rest = events.iter().find(|event| match event {
                Event::Data(data) => {
                    length += data.len() as u64;
                    false
                }
                _ => true,
            });
            match rest {
                Some(end) if is_end(end) => {
                    cx.forward(custom(ScriptEvent::Start(head.clone(), Some(length))));
                }
                None if events.is_empty() => self.start = Some(event),
                _ => cx.forward(event),
            }
        }
    }
}

impl Filter for Through {
    fn name(&self) -> &'static str {
        "use"
    }

    fn start(&mut self, cx: &mut Cx<'_>) {
        let waker = cx.waker(0);
        let engine = Rc::clone(self.scope.engine());
        self.instance = Some(engine.begin_instance(&self.scope, &self.module, self.pipeline, waker));
        self.pass_on(cx);
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        if matches!(event, Event::Pause | Event::Resume) {
            return cx.forward(event);
        }
        let Some(instance) = self.instance.clone() else { return };
        let engine = Rc::clone(self.scope.engine());
        let item = engine.with(|ctx| Ok(host::item(ctx, as_value(ctx, &engine.makers(ctx)?, &event)?)));
        match item {
            Ok(Item::Undefined) => {}
            Ok(item) => engine.process(&instance, item),
            // What scripts cannot see passes.
            Err(_) => return cx.forward(event),
        }
        self.pass_on(cx);
    }

    fn wake(&mut self, cx: &mut Cx<'_>, _token: u32) {
        self.pass_on(cx);
    }

    fn closed(&mut self, _cx: &mut Cx<'_>) {
        if let Some(instance) = self.instance.take() {
            Rc::clone(self.scope.engine()).close_instance(&instance);
        }
    }
}
