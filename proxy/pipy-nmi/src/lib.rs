//! Native modules: the C interface (`include/pipy/nmi.h`) through which shared libraries take part in scripts.
//!
//! ```text
//!   module.so ──pjs_*, pipy_*──► exports.rs ──► the Host of this thread (the script engine)
//!             ◄── init, process, free ── callbacks.rs ◄──
//! ```
//!
//! In: calls of C. Out: calls of [`Host`], which is safe code and knows nothing of pointers. This crate is the only one that
//! holds a pointer of a module; `SAFETY.md` says what it relies on. INVARIANT: a host is asked only on its own thread, and
//! only while it has let a module in ([`enter`]); what other threads may do goes through [`Remote`].
//!
//! Not here: what a value is, where events go (pipy-script).

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod callbacks;
mod crash;
mod exports;
mod host;
mod module;
mod remote;

pub use callbacks::{Native, Pipeline, Task, User, run_frees};
pub use host::{EventKind, Handle, Host, Literal, Look, PipelineId, enter};
pub use module::{LoadError, Module, is_module};
pub use remote::{Remote, Work, forget, register};
