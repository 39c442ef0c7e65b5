//! The access log: one JSON object per line for each request or connection that is to be told of.
//!
//! `entry` says what a line holds and writes it, `json` escapes, `memo` spares what was escaped before, `time` formats the
//! time, `buffer` is the worker's end and `writer` the thread that writes.

mod buffer;
mod entry;
mod json;
mod memo;
mod time;
mod writer;

pub use buffer::{BUFFER_BYTES, FLUSH_AFTER, LogBuffer};
pub use entry::{Decision, Direction, Entry};
pub use json::FIELD_BYTES_MAX;
pub(crate) use json::rest_of_string;
pub use writer::{BUFFERS_MAX, LogStats, LogWriter, SHUTDOWN_WAIT};
