//! How a proxy gets its certificate and its configuration from the control plane, and says what became of it.
//!
//! One plain thread speaks the protocol of `docs/reference/delivery.md`:
//!
//! ```text
//! key + CSR, token ──► certificate ──► Event::Credentials
//!                          │ poll with it, again and again
//!                          ▼
//!                  newer configuration ──► Event::Config ──► Ack ──► acknowledged
//! ```
//!
//! In the meantime it renews the certificate with a new key, backs off when the control plane is away
//! ([`Event::Lost`], [`Event::Restored`]) and goes on when it is back. [`Client::spawn`] starts it, [`Handle::stop`]
//! ends it within [`STOP_WAIT`], also in the middle of a poll.
//!
//! INVARIANT: private keys are made here and never leave the process. The control plane is believed only if its
//! certificate is signed by the mesh root and carries its name. A failure changes nothing but the time of the next
//! attempt.
//!
//! Not here: what a configuration means (`pipy-config`), carrying it out, checking identities (`pipy-tls`).

#![forbid(unsafe_code)]

mod backoff;
mod calls;
mod client;
mod difference;
mod error;
mod event;
mod identity;
mod marked;
mod report;
mod settings;
mod stop;
mod trust;

pub use calls::{ANSWER_BYTES_MAX, CONFIG_BYTES_MAX, ERROR_BYTES_MAX};
pub use client::Client;
pub use error::{Blame, Failure, FailureKind};
pub use event::{Ack, Event};
pub use report::Reporter;
pub use settings::{Pod, Settings};
pub use stop::{Handle, STOP_WAIT};
