//! The few system calls that no safe library offers: one wrapper per concept.
//!
//! INVARIANT: every function here is safe to call with any arguments; `SAFETY.md` beside this crate says what the unsafe
//! blocks rely on.

pub mod bpf;
mod datagrams;
mod memory;
mod socket_options;
mod terminal;

pub use datagrams::{is_transparent, make_transparent, receive, send_as, tell_destination};
pub use memory::give_back_memory;
pub use socket_options::bind_address_no_port;
pub use terminal::{lead_session, open_terminal};
