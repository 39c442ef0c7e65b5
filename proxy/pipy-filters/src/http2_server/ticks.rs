//! What a connection of HTTP/2 does by the clock: allowances come back, and who takes too long is answered or cut off.
//!
//! In: a tick a second, while anything moves. Out: the end of heads that are too slow, an answer or a reset for streams on
//! which nothing moves. Not here: the age of a connection and its idle end, which have timers of their own.

use std::time::{Duration, Instant};

use pipy_h2::ErrorCode;
use pipy_pipeline::{CloseReason, Cx, Event, Slot};

use super::exchange::Response;
use super::{Http2Server, TIMER_TICK};

/// How often allowances come back and limits of time are looked at, while anything moves.
const TICK: Duration = Duration::from_secs(1);

/// LIMIT: ticks after which a connection without streams ticks no more.
const QUIET_TICKS: u32 = 3;

impl Http2Server {
    pub(super) fn tick_on(&mut self, cx: &mut Cx<'_>) {
        self.quiet_ticks = 0;
        if !self.ticking {
            self.ticking = true;
            cx.timer(TICK, TIMER_TICK);
        }
    }

    pub(super) fn tick(&mut self, cx: &mut Cx<'_>) {
        self.ticking = false;
        self.connection.tick();
        let (now, limits) = (cx.now(), self.limits);
        let past = |since: Instant, limit: Duration| {
            !limit.is_zero() && now.saturating_duration_since(since) >= limit
        };
        if self.head_since.is_some_and(|since| past(since, limits.head)) {
            self.service.broken("slow_head", &"a head or a small frame took too long");
            return self.close(cx);
        }
        if limits.idle > Duration::ZERO {
            let slow: Vec<Slot> = self
                .exchanges
                .iter()
                .filter(|(_, exchange)| past(exchange.last_active, limits.idle))
                .map(|(slot, _)| *slot)
                .collect();
            for slot in slow {
                match self.exchanges.get_mut(&slot) {
                    // Who looks after the request knows best what to say, and counts it.
                    Some(exchange) if !exchange.told => {
                        exchange.told = true;
                        cx.send(exchange.sub, Event::Close(CloseReason::IdleTimeout));
                    }
                    Some(exchange) if exchange.response == Response::Awaited => {
                        self.answer(cx, slot, 504, "nothing moved for too long");
                    }
                    _ => self.fail(cx, slot, ErrorCode::CANCEL),
                }
            }
        }
        self.quiet_ticks = if self.connection.is_idle() { self.quiet_ticks + 1 } else { 0 };
        if self.quiet_ticks < QUIET_TICKS {
            self.ticking = true;
            cx.timer(TICK, TIMER_TICK);
        }
        self.defer(cx);
    }
}
