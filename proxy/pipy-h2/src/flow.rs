//! Flow-control windows (RFC 9113 §5.2 and §6.9), of the connection and of streams.
//!
//! A [`SendWindow`] is what the peer lets us send. It may be negative after a change of settings
//! (§6.9.2). A [`RecvWindow`] is what we let the peer send, and gathers what the caller has consumed
//! until it is worth a WINDOW_UPDATE.
//!
//! Invariants: no window exceeds 2^31-1; what is announced is never more than was consumed.

use crate::config::WINDOW_MAX;

/// What we may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SendWindow(i32);

/// The window would exceed 2^31-1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Overflow;

impl SendWindow {
    pub(crate) fn new(size: u32) -> Self {
        Self(size.min(WINDOW_MAX) as i32)
    }

    /// Bytes that may be sent now.
    pub(crate) fn available(self) -> usize {
        usize::try_from(self.0).unwrap_or(0)
    }

    /// Takes what is sent; at most what is [`available`](Self::available).
    pub(crate) fn take(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.available());
        self.0 = self.0.saturating_sub(i32::try_from(bytes).unwrap_or(i32::MAX));
    }

    /// A WINDOW_UPDATE.
    pub(crate) fn open(&mut self, increment: u32) -> Result<(), Overflow> {
        self.change(i64::from(increment))
    }

    /// A change of SETTINGS_INITIAL_WINDOW_SIZE, up or down.
    pub(crate) fn change(&mut self, by: i64) -> Result<(), Overflow> {
        self.0 = i32::try_from(i64::from(self.0) + by).map_err(|_| Overflow)?;
        Ok(())
    }
}

/// What the peer may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecvWindow {
    /// May be negative while the peer has not yet heard of smaller settings.
    available: i64,
    /// Consumed, and not yet announced.
    consumed: u32,
    /// Received, and not yet consumed.
    held: u32,
}

impl RecvWindow {
    pub(crate) fn new(size: u32) -> Self {
        Self { available: i64::from(size), consumed: 0, held: 0 }
    }

    /// A DATA frame of that payload has begun. `Err` tells by how many bytes it is too long.
    pub(crate) fn receive(&mut self, bytes: u32) -> Result<(), u64> {
        let left = self.available - i64::from(bytes);
        if left < 0 {
            return Err(left.unsigned_abs());
        }
        self.available = left;
        self.held += bytes;
        Ok(())
    }

    /// The caller has consumed so much, which is clamped to what it can have: a caller that counts
    /// twice must not open the window beyond our memory.
    pub(crate) fn release(&mut self, bytes: u32) -> u32 {
        let bytes = bytes.min(self.held);
        self.held -= bytes;
        self.consumed += bytes;
        bytes
    }

    /// The increment to announce, once it is half of `size`: fewer frames, and never a standstill,
    /// because the other half is still open.
    pub(crate) fn take_update(&mut self, size: u32) -> Option<u32> {
        if self.consumed == 0 || self.consumed < size / 2 {
            return None;
        }
        let increment = std::mem::take(&mut self.consumed);
        self.available += i64::from(increment);
        Some(increment)
    }

    /// Our own SETTINGS_INITIAL_WINDOW_SIZE has changed.
    pub(crate) fn change(&mut self, by: i64) {
        self.available += by;
    }

    /// Received, and not yet consumed.
    pub(crate) fn held(&self) -> u32 {
        self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_that_settings_make_negative_opens_only_above_zero() {
        // RFC 9113 §6.9.2: 16 KiB sent of 64 KiB - 1, then 16 KiB initial: -49,151 + ...
        let mut window = SendWindow::new(65_535);
        window.take(60_000);
        window.change(16_384 - 65_535).unwrap();
        assert_eq!(window.available(), 0);
        window.open(43_616).unwrap();
        assert_eq!(window.available(), 0);
        window.open(1).unwrap();
        assert_eq!(window.available(), 1);
    }

    #[test]
    fn no_window_exceeds_its_maximum() {
        let mut window = SendWindow::new(WINDOW_MAX);
        assert_eq!(window.open(1), Err(Overflow));
        window.take(1);
        assert_eq!(window.open(1), Ok(()));
        assert_eq!(SendWindow::new(1).open(WINDOW_MAX), Err(Overflow));
        assert_eq!(SendWindow::new(1).change(i64::from(WINDOW_MAX)), Err(Overflow));
    }

    #[test]
    fn updates_come_by_half_windows_and_never_exceed_what_was_received() {
        let mut window = RecvWindow::new(100);
        window.receive(60).unwrap();
        assert_eq!(window.release(49), 49);
        assert_eq!(window.take_update(100), None);
        assert_eq!(window.release(1000), 11);
        assert_eq!(window.take_update(100), Some(60));
        assert_eq!(window.take_update(100), None);
        assert_eq!(window.receive(101), Err(1));
        window.receive(100).unwrap();
        assert_eq!(window.held(), 100);
    }

    #[test]
    fn a_tiny_window_is_announced_too() {
        let mut window = RecvWindow::new(1);
        window.receive(1).unwrap();
        assert_eq!(window.take_update(1), None);
        window.release(1);
        assert_eq!(window.take_update(1), Some(1));
    }
}
