//! A table keyed by numbers that count up: streams of a connection.
//!
//! WHY: they are given out in order, so no peer can choose them to collide, and a strong hash would cost more than the
//! rest of the look-up.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// The table.
pub(crate) type Ids<T> = HashMap<u32, T, BuildHasherDefault<Counting>>;

/// Spreads numbers that follow each other over all bits.
#[derive(Default)]
pub(crate) struct Counting(u64);

impl Hasher for Counting {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        // 2^64 divided by the golden ratio (Knuth, volume 3, 6.4).
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}
