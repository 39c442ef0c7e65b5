//! What costs us more than the peer, and how much of it a peer may send.
//!
//! Every kind of frame that makes work and serves nobody has an allowance. It is spent by the frame,
//! and comes back by useful work (a request that is answered, data that flows) and by time
//! ([`Connection::tick`](crate::Connection::tick), for there is no clock in here). Who runs out of it
//! is told ENHANCE_YOUR_CALM, and the connection ends.
//!
//! Ratios rather than totals, because connections of a mesh live for days: a client that cancels a
//! tenth of its requests for ever is honest, one that cancels all of them quickly is not.
//!
//! Not done here: bounds on single things (block sizes, continuations, streams at once), which are
//! in `config.rs`.

use std::fmt;

/// A kind of frame, or of event, that is dear for us and cheap for the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Nuisance {
    /// RST_STREAM: a request costs the whole way to the upstream, taking it back nothing
    /// (CVE-2023-44487, "rapid reset").
    Resets,
    /// Faults of the peer that make us reset a stream, which frees its place just as well
    /// (CVE-2025-8671, "made you reset"), and frames on closed streams.
    StreamErrors,
    /// SETTINGS, each of which must be applied and acknowledged (CVE-2019-9515).
    Settings,
    /// PING, each of which must be answered (CVE-2019-9512), and acknowledgements of none.
    Pings,
    /// DATA and header fragments without content (CVE-2019-9518).
    EmptyFrames,
    /// WINDOW_UPDATE: each costs a look at the streams that wait (CVE-2019-9511).
    WindowUpdates,
    /// PRIORITY, which is read and ignored (CVE-2019-9513).
    Priorities,
    /// Frames of kinds that we do not know, GOAWAY, and what else is read and ignored.
    Ignored,
}

/// How much of one kind a peer may send.
struct Allowance {
    /// LIMIT: at once.
    burst: u32,
    /// How much comes back per tick, that is per second.
    per_tick: u32,
    /// How much comes back per unit of useful work: a stream that ended well for both sides.
    per_stream: u32,
    /// The same for a DATA frame with content, in either direction.
    per_data: u32,
}

/// The allowances, in the order of [`Nuisance`].
#[rustfmt::skip]
const ALLOWANCES: [Allowance; KINDS] = [
    // Twice the streams at once that we allow; then half of all requests may be cancelled.
    Allowance { burst: 200, per_tick: 20, per_stream: 1, per_data: 0 },
    // A broken client is told a few times; a good one among broken ones behind a proxy goes on.
    Allowance { burst: 100, per_tick: 5, per_stream: 1, per_data: 0 },
    // Real peers send one or two in a lifetime.
    Allowance { burst: 50, per_tick: 1, per_stream: 0, per_data: 0 },
    // gRPC measures round trips with a PING per DATA frame at most.
    Allowance { burst: 100, per_tick: 10, per_stream: 1, per_data: 1 },
    // Some stacks end a body with an empty DATA, which does end it and does not count here.
    Allowance { burst: 100, per_tick: 10, per_stream: 1, per_data: 0 },
    // One for the stream and one for the connection per frame, twice over.
    Allowance { burst: 1000, per_tick: 100, per_stream: 4, per_data: 4 },
    // Browsers used to send some per request.
    Allowance { burst: 500, per_tick: 20, per_stream: 10, per_data: 0 },
    // Extensions and grease: one per request at most.
    Allowance { burst: 100, per_tick: 5, per_stream: 2, per_data: 0 },
];

const KINDS: usize = 8;

/// What is left of each allowance: 16 bytes per connection.
#[derive(Debug)]
pub(crate) struct Floods {
    spent: [u16; KINDS],
}

impl Floods {
    pub(crate) const fn new() -> Self {
        Self { spent: [0; KINDS] }
    }

    /// One of that kind has come. `Err` when it is one too many.
    pub(crate) fn spend(&mut self, kind: Nuisance) -> Result<(), Nuisance> {
        let index = kind as usize;
        let burst = ALLOWANCES.get(index).map_or(0, |allowance| allowance.burst);
        let Some(spent) = self.spent.get_mut(index) else { return Err(kind) };
        *spent = spent.saturating_add(1);
        if u32::from(*spent) > burst { Err(kind) } else { Ok(()) }
    }

    /// A second has passed.
    pub(crate) fn tick(&mut self) {
        self.give(|allowance| allowance.per_tick);
    }

    /// A stream has ended well for both sides.
    pub(crate) fn stream_served(&mut self) {
        self.give(|allowance| allowance.per_stream);
    }

    /// A DATA frame with content has been received or sent.
    pub(crate) fn data_moved(&mut self) {
        self.give(|allowance| allowance.per_data);
    }

    #[inline]
    fn give(&mut self, amount: impl Fn(&Allowance) -> u32) {
        for (spent, allowance) in self.spent.iter_mut().zip(&ALLOWANCES) {
            // All amounts are far below 2^16.
            *spent = spent.saturating_sub(amount(allowance) as u16);
        }
    }
}

impl Nuisance {
    /// A short, stable word for a metric.
    pub fn metric_label(self) -> &'static str {
        match self {
            Self::Resets => "flood_resets",
            Self::StreamErrors => "flood_stream_errors",
            Self::Settings => "flood_settings",
            Self::Pings => "flood_pings",
            Self::EmptyFrames => "flood_empty_frames",
            Self::WindowUpdates => "flood_window_updates",
            Self::Priorities => "flood_priorities",
            Self::Ignored => "flood_ignored",
        }
    }
}

impl fmt::Display for Nuisance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resets => "stream resets for the requests it lets us finish",
            Self::StreamErrors => "faulty frames on single streams",
            Self::Settings => "SETTINGS frames",
            Self::Pings => "PING frames",
            Self::EmptyFrames => "frames without content",
            Self::WindowUpdates => "WINDOW_UPDATE frames for the data that flows",
            Self::Priorities => "PRIORITY frames",
            Self::Ignored => "frames without meaning for us",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allowance_ends_and_comes_back_by_work_and_time() {
        let mut floods = Floods::new();
        for _ in 0..200 {
            floods.spend(Nuisance::Resets).unwrap();
        }
        floods.stream_served();
        floods.spend(Nuisance::Resets).unwrap();
        assert_eq!(floods.spend(Nuisance::Resets), Err(Nuisance::Resets));
        floods.tick();
        for _ in 0..19 {
            floods.spend(Nuisance::Resets).unwrap();
        }
        assert_eq!(floods.spend(Nuisance::Resets), Err(Nuisance::Resets));
        // The others are not touched by it.
        floods.spend(Nuisance::Pings).unwrap();
    }

    #[test]
    fn nothing_is_saved_up_beyond_the_burst() {
        let mut floods = Floods::new();
        for _ in 0..1000 {
            floods.stream_served();
            floods.data_moved();
            floods.tick();
        }
        let sent = (0..).take_while(|_| floods.spend(Nuisance::Settings).is_ok()).count();
        assert_eq!(sent, 50);
    }

    #[test]
    fn every_kind_has_its_own_allowance() {
        use Nuisance::*;
        let all = [Resets, StreamErrors, Settings, Pings, EmptyFrames, WindowUpdates, Priorities, Ignored];
        for (index, kind) in all.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
            let mut floods = Floods::new();
            let sent = (0..).take_while(|_| floods.spend(kind).is_ok()).count();
            assert_eq!(sent, ALLOWANCES[index].burst as usize, "{kind}");
        }
    }
}
