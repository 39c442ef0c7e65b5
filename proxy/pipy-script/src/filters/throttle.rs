//! `throttleMessageRate`, `throttleDataRate`, `throttleConcurrency`: what there is no quota for waits, in order.
//!
//! A quota is an `algo.Quota`, or, as the oldest releases had it, a number per second that this filter keeps by itself, for each
//! account apart. INVARIANT: nothing passes that no quota was consumed for, nothing is lost, and nothing is overtaken.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pipy_pipeline::{Cx, Event, Filter, TimerId};
use rquickjs::function::This;
use rquickjs::{Coerced, Function, Result, Value};

use super::ask::{Asker, failed};
use super::handle::size_of;
use super::values::is_start;
use crate::engine::Kept;
use crate::layout::{FilterDef, Reading, Scope};
use crate::objects::quota::{self, Shares};

/// How soon an object of the script's own is asked again that stands for a quota: it does not say when it has more.
const ASK_AGAIN: Duration = Duration::from_millis(10);

/// LIMIT: accounts that one filter keeps numbers of; above it those that are full again are forgotten.
const ACCOUNTS_MAX: usize = 16 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Messages,
    Data,
    Pipelines,
}

struct Throttle {
    of: Of,
    quota: Kept,
    account: Option<Kept>,
    /// Who sends is asked to stop while something waits.
    block: bool,
    asker: Asker,
    /// What is left of each account, and as of when.
    accounts: RefCell<HashMap<String, (f64, Instant)>>,
}

struct ThrottleDef(Rc<Throttle>);

pub(super) fn make(reading: &Reading<'_, '_>) -> Result<Rc<dyn FilterDef>> {
    let of = match reading.name {
        "throttleDataRate" => Of::Data,
        "throttleConcurrency" => Of::Pipelines,
        _ => Of::Messages,
    };
    let quota = reading
        .kept(0)
        .ok_or_else(|| reading.refuse("expects an algo.Quota or a function that gives one"))?;
    let account = reading.kept(1).filter(|_| reading.callback(1).is_some());
    let block = match reading.settings(1)? {
        Some(options) => options.flag("blockInput")?.unwrap_or(true),
        None => true,
    };
    let asker = Asker { name: reading.name, label: reading.label.clone() };
    let accounts = RefCell::default();
    Ok(Rc::new(ThrottleDef(Rc::new(Throttle { of, quota, account, block, asker, accounts }))))
}

impl FilterDef for ThrottleDef {
    fn filter(&self, scope: &Scope) -> Box<dyn Filter> {
        Box::new(Throttled {
            def: Rc::clone(&self.0),
            held: VecDeque::new(),
            waiting: false,
            bell: None,
            timer: None,
            admitted: false,
            scope: scope.clone(),
        })
    }
}

struct Throttled {
    def: Rc<Throttle>,
    held: VecDeque<Event>,
    waiting: bool,
    /// The number under which the quota tells when it has more, and the quota.
    bell: Option<(u64, Shares)>,
    timer: Option<TimerId>,
    /// For pipelines: this one counts.
    admitted: bool,
    scope: Scope,
}

impl Throttled {
    /// Asks for so much; what is granted, and when to ask again. `None` when the script has failed.
    fn consume(&mut self, cx: &Cx<'_>, amount: f64) -> Option<(f64, Option<Duration>)> {
        self.forget();
        let def = Rc::clone(&self.def);
        let (now, waker) = (cx.now(), cx.waker(0));
        let engine = Rc::clone(self.scope.engine());
        let mut bell = None;
        let account = match &def.account {
            None => String::new(),
            Some(account) => def.asker.ask(
                &self.scope,
                account,
                |_, _| Ok(Vec::new()),
                |_, _, value| Ok(value.get::<Coerced<String>>()?.0),
            )?,
        };
        let granted = def.asker.ask(
            &self.scope,
            &def.quota,
            |_, _| Ok(Vec::new()),
            |ctx, _, value| {
                if let Some(shares) = quota::shares(&value)? {
                    let awaited = engine.awaited(waker);
                    let id = awaited.as_ref().map(|(id, _)| *id);
                    let waiter = awaited.map(|(id, way)| {
                        let bell: quota::Bell = Box::new(move || way(id, Box::new(())));
                        (id, bell)
                    });
                    let reachable = waiter.is_some();
                    let taken = shares.take(amount, def.of != Of::Data, waiter);
                    bell = id.map(|id| (id, shares));
                    let again = if reachable { taken.refill } else { Some(ASK_AGAIN) };
                    return Ok((taken.granted, again));
                }
                if let Some(object) = value.as_object()
                    && let Ok(consume) = object.get::<_, Function<'_>>("consume")
                {
                    let granted = consume.call::<_, f64>((This(value.clone()), amount))?;
                    return Ok((granted, Some(ASK_AGAIN)));
                }
                match size_of(&value) {
                    #[allow(clippy::cast_precision_loss)] // a rate
                    Some(per_second) => Ok(def.grant(account, now, per_second as f64, amount)),
                    None => Err(rquickjs::Exception::throw_type(
                        ctx,
                        "expects an algo.Quota, a number per second, or a function that gives one",
                    )),
                }
            },
        );
        self.bell = bell;
        granted
    }

    /// Nobody needs to be told of more.
    fn forget(&mut self) {
        if let Some((id, shares)) = self.bell.take() {
            shares.leave(id);
            self.scope.engine().forget(id);
        }
    }

    /// How much the next event needs; `None` when it needs nothing.
    fn price(&self, event: &Event) -> Option<f64> {
        #[allow(clippy::cast_precision_loss)] // bytes of one read
        match (self.def.of, event) {
            (Of::Messages, event) if is_start(event) => Some(1.0),
            (Of::Data, Event::Data(data)) if !data.is_empty() => Some(data.len() as f64),
            (Of::Pipelines, _) if !self.admitted => Some(1.0),
            _ => None,
        }
    }

    fn pump(&mut self, cx: &mut Cx<'_>) {
        while let Some(event) = self.held.pop_front() {
            let Some(price) = self.price(&event) else {
                cx.forward(event);
                continue;
            };
            let Some((granted, again)) = self.consume(cx, price) else {
                self.held.clear();
                return cx.forward(failed());
            };
            if granted >= price {
                self.forget();
                self.admitted = true;
                cx.forward(event);
                continue;
            }
            let left = self.part(cx, event, granted);
            self.held.push_front(left);
            return self.wait(cx, again);
        }
        if std::mem::take(&mut self.waiting) && self.def.block {
            cx.back(Event::Resume);
        }
    }

    /// Sends what was granted of a piece of data; what is left of it.
    fn part(&self, cx: &mut Cx<'_>, event: Event, granted: f64) -> Event {
        let Event::Data(mut data) = event else { return event };
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        // less than the length, not negative
        let part: Bytes = data.split_to((granted.max(0.0) as usize).min(data.len()));
        if !part.is_empty() {
            cx.forward(Event::Data(part));
        }
        Event::Data(data)
    }

    /// Waits for more, which comes by itself after a time, or is given back by others.
    fn wait(&mut self, cx: &mut Cx<'_>, again: Option<Duration>) {
        if !std::mem::replace(&mut self.waiting, true) && self.def.block {
            cx.back(Event::Pause);
        }
        if let Some(timer) = self.timer.take() {
            cx.cancel(timer);
        }
        // The clocks of the quota and of the turn are not read at the same moment.
        self.timer = again.map(|again| cx.timer(again + Duration::from_millis(1), 0));
    }
}

impl Throttle {
    fn grant(&self, account: String, now: Instant, per_second: f64, amount: f64) -> (f64, Option<Duration>) {
        let mut accounts = self.accounts.borrow_mut();
        if accounts.len() > ACCOUNTS_MAX {
            accounts.retain(|_, (_, since)| now.saturating_duration_since(*since) < Duration::from_secs(1));
        }
        let (left, since) = accounts.entry(account).or_insert((per_second, now));
        *left = (*left + now.saturating_duration_since(*since).as_secs_f64() * per_second).min(per_second);
        *since = now;
        // Whole messages and whole bytes.
        let granted = left.floor().min(amount);
        *left -= granted;
        // Until the next whole one is there.
        let next = (1.0 - *left).max(0.0) / per_second.max(f64::MIN_POSITIVE);
        // Single bytes are not worth it.
        let next = if self.of == Of::Data { next.max(ASK_AGAIN.as_secs_f64()) } else { next };
        (granted, Some(Duration::try_from_secs_f64(next).unwrap_or(Duration::from_secs(3600))))
    }
}

impl Filter for Throttled {
    fn name(&self) -> &'static str {
        self.def.asker.name
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        match event {
            Event::Pause | Event::Resume => cx.forward(event),
            event if self.waiting => self.held.push_back(event),
            event => {
                self.held.push_back(event);
                self.pump(cx);
            }
        }
    }

    fn timer(&mut self, cx: &mut Cx<'_>, _token: u32) {
        self.timer = None;
        self.pump(cx);
    }

    fn wake(&mut self, cx: &mut Cx<'_>, _token: u32) {
        if self.waiting {
            self.pump(cx);
        }
    }

    fn closed(&mut self, _cx: &mut Cx<'_>) {
        self.forget();
        if self.def.of != Of::Pipelines || !self.admitted {
            return;
        }
        // A failure was logged; there is nothing left to end.
        let _ = self.def.asker.ask(
            &self.scope,
            &self.def.quota,
            |_, _| Ok(Vec::new()),
            |_, _, value: Value<'_>| {
                let Some(object) = value.as_object() else { return Ok(()) };
                object.get::<_, Function<'_>>("produce")?.call::<_, ()>((This(value.clone()), 1))
            },
        );
    }
}
