//! For tests: what stands around a graph when no worker does.
//!
//! [`World`] holds a graph, carries out what it asks for on sockets that exist in memory only, and moves its clock when
//! a test says so. [`Probe`] is a filter that notes what passes and answers as a test says; [`describe`] puts an event
//! into words, so that a test compares conversations as text.
//!
//! INVARIANT: nothing here waits, reads a clock or touches the system: the same test does the same thing every time.

#![forbid(unsafe_code)]

mod probe;
mod simulation;
mod world;

pub use probe::{Notes, Probe, describe};
pub use simulation::{Far, Faults, Listener, Node, Peer, Simulation};
pub use world::{SocketState, World};

/// Numbers that look random and are the same each time for one seed (xorshift64*, Vigna 2016).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Dice for a seed; print it when a test fails.
    pub fn new(seed: u64) -> Self {
        Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `bound`; 0 when that is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(number).unwrap_or(usize::MAX) % bound.max(1)
    }

    /// One of these.
    ///
    /// # Panics
    /// When there is none.
    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }
}
