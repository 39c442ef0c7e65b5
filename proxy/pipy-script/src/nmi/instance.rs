//! Instances of modules' pipelines: what they put out, who holds them, when their module is told that they are over.
//!
//! INVARIANT: a module is told once, when the filter is gone and nobody holds the instance any more.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use pipy_nmi::{Pipeline, PipelineId, Remote, User};
use pipy_pipeline::Waker;

use super::Native;
use super::values::Item;
use crate::engine::{Engine, Vars};
use crate::layout::{Scope, Script};

pub(super) struct Instance {
    pub(super) id: PipelineId,
    pub(super) module: Rc<Native>,
    pub(super) vars: Vars,
    pipeline: Pipeline,
    user: Cell<Option<User>>,
    /// What was put out, and has not been taken by the filter.
    pub(super) out: RefCell<Vec<Item>>,
    /// How the filter is told of it; nothing when the filter is gone.
    waker: Cell<Option<Waker>>,
    holds: Cell<u32>,
    script: Weak<Script>,
    /// The script lives for as long as someone holds the instance.
    kept: RefCell<Option<Rc<Script>>>,
}

impl Instance {
    pub(super) fn is_held(&self) -> bool {
        self.holds.get() > 0
    }

    pub(super) fn put(&self, engine: &Engine, event: Item) {
        // Nobody takes it any more.
        let Some(waker) = self.waker.get() else { return };
        self.out.borrow_mut().push(event);
        engine.wake(waker);
    }

    pub(super) fn hold(&self) {
        self.holds.set(self.holds.get().saturating_add(1));
        self.kept.replace(self.script.upgrade());
    }

    pub(super) fn release(&self) {
        self.holds.set(self.holds.get().saturating_sub(1));
    }

    fn is_over(&self) -> bool {
        self.waker.get().is_none() && !self.is_held()
    }
}

impl Engine {
    /// An instance for a filter, which is woken when there is something to take.
    pub(super) fn begin_instance(
        self: &Rc<Self>,
        scope: &Scope,
        module: &Rc<Native>,
        pipeline: Pipeline,
        waker: Waker,
    ) -> Rc<Instance> {
        let remote = self.natives.remote.get_or_init(|| Remote::new(self.wake_up()));
        let id = pipy_nmi::register(remote);
        let instance = Rc::new(Instance {
            id,
            module: Rc::clone(module),
            vars: scope.vars.clone(),
            pipeline,
            user: Cell::new(None),
            out: RefCell::default(),
            waker: Cell::new(Some(waker)),
            holds: Cell::new(0),
            script: Rc::downgrade(&scope.script),
            kept: RefCell::default(),
        });
        self.natives.instances.borrow_mut().insert(id, Rc::clone(&instance));
        let user = self.let_in(|| pipeline.begin(id));
        instance.user.set(Some(user));
        instance
    }

    /// Gives an instance an event.
    pub(super) fn process(self: &Rc<Self>, instance: &Instance, event: Item) {
        let Some(user) = instance.user.get() else { return };
        self.let_in(|| {
            let event = self.natives.values.add(event);
            instance.pipeline.process(instance.id, user, event);
        });
    }

    /// The filter is gone.
    pub(super) fn close_instance(self: &Rc<Self>, instance: &Instance) {
        instance.waker.set(None);
        instance.out.take();
        self.end_instance(instance.id);
    }

    /// Ends instances that were let go of. Not while a module is in, which may still use what it has let go of.
    pub(super) fn end_released(self: &Rc<Self>) {
        for id in self.natives.released.take() {
            self.end_instance(id);
        }
    }

    fn end_instance(self: &Rc<Self>, id: PipelineId) {
        let Some(instance) = self.natives.instance(id).filter(|instance| instance.is_over()) else { return };
        self.natives.instances.borrow_mut().remove(&id);
        pipy_nmi::forget(id);
        if let Some(user) = instance.user.take() {
            self.let_in(|| instance.pipeline.end(id, user));
        }
        // It may be the last that keeps the script.
        drop(instance.kept.take());
    }
}
