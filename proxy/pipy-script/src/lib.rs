//! PipyJS: scripts that put pipelines together and handle their events.
//!
//! ```text
//!   files ──rewrite──► modules ──prelude──► recorded pipelines ──layout──► filters on the graph
//!                                                                            │ callbacks
//!                                             engine (QuickJS, one a worker) ◄
//! ```
//!
//! [`App`] is what a worker runs: it loads the script, opens its listeners and makes a pipeline for each connection.
//! INVARIANT: a script can end its own pipeline and nothing else; its failures are log lines with file, line and column.
//!
//! Not here: sockets (pipy-worker), the bytes of protocols (pipy-filters, pipy-protocols).

// A class of the engine is declared by its macros, which need unsafe code of theirs; none is written here.
#![deny(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod admin;
mod app;
mod background;
mod callback;
mod console;
mod data;
mod engine;
mod error;
mod events;
pub mod faults;
mod files;
mod filters;
mod head;
mod headers;
mod inbound;
mod known;
mod layout;
mod load;
pub mod log;
mod modules;
mod nmi;
mod objects;
mod pipy;
pub mod plugin;
mod raw;
mod rejections;
mod rewrite;
mod spawn;
mod timers;
mod tried;

pub use admin::{AdminRequest, AdminResponse};
pub use app::{App, Facts, Transport, Update, listen_address};
pub use background::{Result as BackgroundResult, Return};
pub use engine::{Limits, Vars};
pub use error::ScriptError;
pub use files::{Folder, Inline};
pub use filters::{Entry, Joint, TABLE, options_of};
pub use load::{Loaded, graph, load};
pub use modules::Codebase;
pub use objects::loggers::{follow_log, keep_history, log_history, log_names};
pub use objects::process::{About, describe, exit_wanted, restart_wanted, set_worker};
pub use objects::sinks::flush as flush_logs;
pub use objects::stats::page as metrics_page;
pub use objects::terminal::restore as restore_terminal;
pub use tried::try_out;
