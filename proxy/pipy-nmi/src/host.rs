//! What a module may ask, as safe code sees it: one method for each thing that is asked, whatever it is called in C.

use std::cell::RefCell;
use std::rc::Rc;

use crate::callbacks::{Native, Pipeline, Task};

/// The number of a value; 0 stands for none.
pub type Handle = i32;

/// The number of an instance of a pipeline; no two of a process are the same.
pub type PipelineId = i32;

/// What a value is made of.
#[derive(Debug)]
pub enum Literal<'l> {
    /// `undefined`.
    Undefined,
    /// `null`.
    Null,
    /// A boolean.
    Boolean(bool),
    /// A number.
    Number(f64),
    /// A string.
    Text(&'l str),
    /// A new object.
    Object,
    /// A new array of so many elements.
    Array(usize),
    /// An object around a pointer.
    Native(Native),
    /// `Data`.
    Data(&'l [u8]),
    /// `MessageStart` with a head.
    Start(Handle),
    /// `MessageEnd` with tail and payload.
    End(Handle, Handle),
    /// `StreamEnd` with an error.
    StreamEnd(Handle),
}

/// What a value is, as far as can be told without looking into it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Look {
    /// `undefined`.
    Undefined,
    /// `null`.
    Null,
    /// A boolean.
    Boolean(bool),
    /// A number.
    Number(f64),
    /// A string.
    Text,
    /// Anything else.
    Object,
    /// An array.
    Array,
    /// A function.
    Function,
}

/// Which event an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// None.
    Other,
    /// `Data`.
    Data,
    /// `MessageStart`.
    Start,
    /// `MessageEnd`.
    End,
    /// `StreamEnd`.
    StreamEnd,
}

/// The engine that a module's pipelines run in. Nothing here panics, whatever numbers a module gives.
pub trait Host {
    /// A new value, good until the callback returns.
    fn make(&self, literal: Literal<'_>) -> Handle;
    /// Makes `to` stand for what `from` stands for.
    fn copy(&self, to: Handle, from: Handle);
    /// Keeps a value beyond the callback.
    fn hold(&self, value: Handle);
    /// Lets go of what was held.
    fn free(&self, value: Handle);

    /// What a value is.
    fn look(&self, value: Handle) -> Look;
    /// The name of an object's class.
    fn class_of(&self, value: Handle) -> Option<String>;
    /// Whether an object is of a class or of one that it is made from.
    fn is_instance(&self, value: Handle, class: &str) -> bool;
    /// `===` where `strict`, else `==`.
    fn equal(&self, left: Handle, right: Handle, strict: bool) -> bool;
    /// A value as a condition.
    fn truth(&self, value: Handle) -> bool;
    /// A value as a number.
    fn number(&self, value: Handle) -> f64;
    /// A value as text; of what is no string only where `convert`.
    fn text(&self, value: Handle, convert: bool) -> Option<Rc<str>>;

    /// Makes `into` stand for a property; whether there is one.
    fn get(&self, object: Handle, key: Handle, into: Handle) -> bool;
    /// Sets a property.
    fn set(&self, object: Handle, key: Handle, value: Handle) -> bool;
    /// Removes a property; whether there was one.
    fn delete(&self, object: Handle, key: Handle) -> bool;
    /// An object's properties.
    fn entries(&self, object: Handle) -> Vec<(Handle, Handle)>;
    /// How many elements an array has.
    fn length(&self, array: Handle) -> Option<usize>;
    /// Makes an array longer or shorter.
    fn resize(&self, array: Handle, length: usize) -> bool;
    /// Calls a method of an array: `push`, `splice` and so on.
    fn method(&self, array: Handle, name: &str, arguments: &[Handle]) -> Option<Handle>;
    /// Does something with the pointer in an object that [`Literal::Native`] made.
    fn native(&self, object: Handle) -> Option<Native>;

    /// Which event an object is.
    fn event(&self, object: Handle) -> EventKind;
    /// A field of an event.
    fn field(&self, event: Handle, name: &str) -> Handle;
    /// Lets the bytes of a `Data` be seen; nothing happens where it is none.
    fn bytes(&self, data: Handle, see: &mut dyn FnMut(&[u8]));
    /// Adds bytes at the end of a `Data`.
    fn append(&self, data: Handle, more: Handle);
    /// Takes bytes from the front or the end of a `Data`.
    fn take(&self, data: Handle, count: usize, front: bool) -> Handle;

    /// Defines a variable of the module that is being loaded; its number there.
    fn define_variable(&self, id: i32, name: &str, namespace: Option<&str>, initial: Handle) -> i32;
    /// Defines a pipeline of the module that is being loaded.
    fn define_pipeline(&self, name: &str, pipeline: Pipeline);

    /// Gives an event to what comes behind a pipeline.
    fn output(&self, pipeline: PipelineId, event: Handle);
    /// Makes `into` stand for a variable.
    fn variable(&self, pipeline: PipelineId, id: i32, into: Handle);
    /// Sets a variable.
    fn set_variable(&self, pipeline: PipelineId, id: i32, value: Handle);
    /// Keeps a pipeline's number good.
    fn hold_pipeline(&self, pipeline: PipelineId);
    /// Lets go of a pipeline that was held; whether this host has it.
    fn free_pipeline(&self, pipeline: PipelineId) -> bool;
    /// Calls something later; gives it back where this host does not have the pipeline.
    fn schedule(&self, pipeline: PipelineId, after: std::time::Duration, task: Task) -> Option<Task>;
}

thread_local! {
    /// Hosts that have let a module in; the last is asked.
    static HOSTS: RefCell<Vec<Rc<dyn Host>>> = const { RefCell::new(Vec::new()) };
}

/// Lets a module in: while `call` runs, what it asks is asked of this host.
pub fn enter<T>(host: Rc<dyn Host>, call: impl FnOnce() -> T) -> T {
    HOSTS.with(|hosts| hosts.borrow_mut().push(host));
    let result = call();
    HOSTS.with(|hosts| hosts.borrow_mut().pop());
    result
}

/// The host that is asked now; none on threads of a module's own.
pub(crate) fn current() -> Option<Rc<dyn Host>> {
    // A thread that ends has no host any more.
    HOSTS.try_with(|hosts| hosts.borrow().last().cloned()).ok().flatten()
}
