//! Functions and pointers of modules, in types that safe code may keep and call.

use std::cell::RefCell;
use std::ffi::c_void;
use std::fmt;

use crate::host::{Handle, PipelineId};

pub(crate) type PipelineInit = unsafe extern "C" fn(PipelineId, *mut *mut c_void);
pub(crate) type PipelineFree = unsafe extern "C" fn(PipelineId, *mut c_void);
pub(crate) type PipelineProcess = unsafe extern "C" fn(PipelineId, *mut c_void, Handle);
pub(crate) type ObjectFree = unsafe extern "C" fn(*mut c_void);
pub(crate) type TaskFunction = unsafe extern "C" fn(*mut c_void);

/// What a module keeps for an instance of a pipeline.
#[derive(Debug, Clone, Copy)]
pub struct User(*mut c_void);

/// The callbacks of a pipeline.
#[derive(Debug, Clone, Copy)]
pub struct Pipeline {
    pub(crate) init: Option<PipelineInit>,
    pub(crate) free: Option<PipelineFree>,
    pub(crate) process: Option<PipelineProcess>,
}

impl Pipeline {
    /// Begins an instance. The host must have been entered, as for the other two.
    pub fn begin(&self, id: PipelineId) -> User {
        let mut user = std::ptr::null_mut();
        if let Some(init) = self.init {
            // SAFETY: (callback) the module gave the function for this; the place behind the pointer lives until it returns.
            unsafe { init(id, &raw mut user) };
        }
        User(user)
    }

    /// Gives an instance an event.
    pub fn process(&self, id: PipelineId, user: User, event: Handle) {
        if let Some(process) = self.process {
            // SAFETY: (callback) the module gave the function for this, and `user` in `begin`; `end` was not called.
            unsafe { process(id, user.0, event) };
        }
    }

    /// Ends an instance; its `user` is not used any more.
    pub fn end(&self, id: PipelineId, user: User) {
        if let Some(free) = self.free {
            // SAFETY: (callback) as for `process`; the host calls it once for an instance.
            unsafe { free(id, user.0) };
        }
    }
}

/// Something that a module wants called later, on the thread of a pipeline.
#[derive(Debug)]
pub struct Task {
    pub(crate) function: TaskFunction,
    pub(crate) user: *mut c_void,
}

// SAFETY: (task) the header promises that the pointer is only given back to the module, on the thread of the pipeline; moving it
// between threads is what the module has asked for.
unsafe impl Send for Task {}

impl Task {
    /// Calls it. The host must have been entered.
    pub fn run(self) {
        // SAFETY: (callback) the module gave both for this, and a task runs once.
        unsafe { (self.function)(self.user) };
    }
}

/// A pointer of a module within an object of the script.
pub struct Native {
    pub(crate) pointer: *mut c_void,
    pub(crate) free: Option<ObjectFree>,
}

impl fmt::Debug for Native {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Native")
    }
}

impl Native {
    /// The same pointer, which frees nothing.
    #[must_use]
    pub fn borrowed(&self) -> Native {
        Native { pointer: self.pointer, free: None }
    }
}

thread_local! {
    /// Objects that have gone, and whose pointers are to be freed.
    static FREES: RefCell<Vec<(ObjectFree, *mut c_void)>> = const { RefCell::new(Vec::new()) };
}

impl Drop for Native {
    fn drop(&mut self) {
        let Some(free) = self.free.take() else { return };
        // The engine drops objects while it is at work; a module that is called then could not ask it anything.
        // A thread that ends frees nothing more: the module goes with the process.
        let _ = FREES.try_with(|frees| frees.borrow_mut().push((free, self.pointer)));
    }
}

/// Frees what objects that have gone stood for. For when the engine is not at work.
pub fn run_frees() {
    let Ok(frees) = FREES.try_with(|frees| std::mem::take(&mut *frees.borrow_mut())) else { return };
    for (free, pointer) in frees {
        // SAFETY: (callback) the module gave both for this; the object is gone, so it happens once.
        unsafe { free(pointer) };
    }
}
