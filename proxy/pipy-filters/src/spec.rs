//! What the filter table says of a filter.

/// On what a filter works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// Bytes of a connection.
    Connection,
    /// From bytes to messages, or back.
    Codec,
    /// Messages.
    Message,
}

/// A row of the filter table.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// Its name, as scripts spell it.
    pub name: &'static str,
    /// On what it works.
    pub layer: Layer,
    /// What it does, in one line.
    pub help: &'static str,
}
