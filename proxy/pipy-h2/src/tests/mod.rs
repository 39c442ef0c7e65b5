//! Whole connections: against frames by hand, and client against server.

mod conversations;
mod floods;
mod flow;
mod garbage;
mod messages;
mod peer;
mod protocol;
mod random;
mod shutdown;
mod truncation;
