//! How a socket is treated that a filter, or whoever listens, has something to say about.
//!
//! INVARIANT: the default is what a socket has that nothing was said of. Not here: who carries it out (the worker).

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketLimits {
    /// Bytes that wait to be sent above which the producing side is paused; 0: what the worker thinks right.
    pub congestion: usize,
    /// Bytes that wait to be sent above which the connection is given up; 0: any number.
    pub buffer: usize,
    /// A peer that has vanished is found out.
    pub keep_alive: bool,
    /// Small pieces are sent at once.
    pub no_delay: bool,
}

impl Default for SocketLimits {
    fn default() -> Self {
        SocketLimits { congestion: 0, buffer: 0, keep_alive: true, no_delay: true }
    }
}
