//! Natives of `algo.Quota` and `algo.SharedMap`: what workers share.
//!
//! A quota with a key and a map with a name are the same for every worker of the process; values of maps travel as JSON.
//! INVARIANT: a quota never grants more than it has, whoever asks.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rquickjs::class::Trace;
use rquickjs::function::This;
use rquickjs::{Class, Ctx, Function, JsLifetime, Object, Result, Value};

static QUOTAS: LazyLock<Mutex<HashMap<String, Arc<Mutex<State>>>>> = LazyLock::new(Mutex::default);
/// Values as JSON, by key.
type Values = Arc<Mutex<BTreeMap<String, String>>>;

static MAPS: LazyLock<Mutex<HashMap<String, Values>>> = LazyLock::new(Mutex::default);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct State {
    initial: f64,
    current: f64,
    /// What the script has set; otherwise it fills up to what it began with, and what is given back by hand has no limit.
    max: Option<f64>,
    produce: f64,
    /// Seconds; 0 where nothing comes back by itself.
    per: f64,
    since: Instant,
    /// Who waits for more, by number; called once, when something is given back.
    waiters: BTreeMap<u64, Bell>,
}

/// Rung when there may be more, from whichever thread it came.
pub(crate) type Bell = Box<dyn FnOnce() + Send>;

/// What a bucket gives at once, and when it fills up by itself.
pub(crate) struct Taken {
    pub(crate) granted: f64,
    pub(crate) refill: Option<Duration>,
}

/// A bucket, as filters see it.
#[derive(Clone)]
pub(crate) struct Shares(Arc<Mutex<State>>);

impl Shares {
    /// Takes so much; `whole`: all or nothing, else whole units of it. Who does not get all is told by `bell`, under that number.
    pub(crate) fn take(&self, amount: f64, whole: bool, waiter: Option<(u64, Bell)>) -> Taken {
        let mut state = lock(&self.0);
        state.refill();
        let there = state.current.max(0.0);
        let granted = match whole {
            true if there >= amount => amount,
            true => 0.0,
            false => there.floor().min(amount),
        };
        state.current -= granted;
        if granted >= amount {
            return Taken { granted, refill: None };
        }
        if let Some((id, bell)) = waiter {
            state.waiters.insert(id, bell);
        }
        let period = Duration::try_from_secs_f64(state.per).ok().filter(|period| !period.is_zero());
        let refill = period.map(|period| period.saturating_sub(state.since.elapsed()));
        Taken { granted, refill }
    }

    /// Nobody waits under that number any more.
    pub(crate) fn leave(&self, id: u64) {
        lock(&self.0).waiters.remove(&id);
    }
}

impl State {
    fn refill(&mut self) {
        if self.per <= 0.0 {
            return;
        }
        let periods = (self.since.elapsed().as_secs_f64() / self.per).floor();
        if periods >= 1.0 {
            self.current = (self.current + periods * self.produce)
                .min(self.max.unwrap_or(self.initial).max(self.current));
            // A period may be too short to be counted in.
            let passed = Duration::try_from_secs_f64(periods * self.per).unwrap_or(self.since.elapsed());
            self.since += passed.min(self.since.elapsed());
        }
    }
}

/// A bucket.
#[derive(Trace, JsLifetime)]
#[rquickjs::class]
struct Bucket {
    #[qjs(skip_trace)]
    state: Arc<Mutex<State>>,
}

#[rquickjs::methods]
impl Bucket {
    fn initial(&self) -> f64 {
        lock(&self.state).initial
    }

    fn current(&self) -> f64 {
        let mut state = lock(&self.state);
        state.refill();
        state.current
    }

    fn reset(&self) {
        let mut state = lock(&self.state);
        state.current = state.initial;
        state.since = Instant::now();
        ring(state);
    }

    fn produce(&self, amount: f64) {
        let mut state = lock(&self.state);
        state.refill();
        let max = state.max.unwrap_or(f64::INFINITY).max(state.current);
        state.current = (state.current + amount.max(0.0)).min(max);
        ring(state);
    }

    fn consume(&self, amount: f64) -> f64 {
        let mut state = lock(&self.state);
        state.refill();
        let granted = amount.clamp(0.0, state.current.max(0.0));
        state.current -= granted;
        granted
    }
}

/// Tells all who wait; what they do comes later, on their own threads.
fn ring(mut state: MutexGuard<'_, State>) {
    let waiters = std::mem::take(&mut state.waiters);
    drop(state);
    waiters.into_values().for_each(|bell| bell());
}

/// The bucket of an `algo.Quota`.
pub(crate) fn shares<'js>(quota: &Value<'js>) -> Result<Option<Shares>> {
    let Some(object) = quota.as_object() else { return Ok(None) };
    let Some(bucket) = object.get::<_, Option<Function<'js>>>("__bucket")? else { return Ok(None) };
    let bucket: Class<'js, Bucket> = bucket.call((This(quota.clone()),))?;
    let state = Arc::clone(&bucket.borrow().state);
    Ok(Some(Shares(state)))
}

fn bucket<'js>(
    ctx: Ctx<'js>,
    key: Option<String>,
    initial: f64,
    max: Option<f64>,
    per: f64,
    produce: f64,
) -> Result<Class<'js, Bucket>> {
    let new = || {
        Arc::new(Mutex::new(State {
            initial,
            current: initial,
            max,
            produce,
            per,
            since: Instant::now(),
            waiters: BTreeMap::new(),
        }))
    };
    let state = match key {
        Some(key) => Arc::clone(lock(&QUOTAS).entry(key).or_insert_with(new)),
        None => new(),
    };
    Class::instance(ctx, Bucket { state })
}

/// A map.
#[derive(Trace, JsLifetime)]
#[rquickjs::class]
struct Shared {
    #[qjs(skip_trace)]
    map: Values,
}

#[rquickjs::methods]
impl Shared {
    fn size(&self) -> usize {
        lock(&self.map).len()
    }

    fn clear(&self) {
        lock(&self.map).clear();
    }

    fn remove(&self, key: String) -> bool {
        lock(&self.map).remove(&key).is_some()
    }

    fn has(&self, key: String) -> bool {
        lock(&self.map).contains_key(&key)
    }

    fn read(&self, key: String) -> Option<String> {
        lock(&self.map).get(&key).cloned()
    }

    fn write(&self, key: String, value: String) {
        lock(&self.map).insert(key, value);
    }

    /// Adds to a number, in one step. What is no number counts as 0.
    fn add(&self, key: String, amount: f64) -> f64 {
        let mut map = lock(&self.map);
        let before = map.get(&key).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
        map.insert(key, format!("{}", before + amount));
        before + amount
    }
}

fn shared<'js>(ctx: Ctx<'js>, name: String) -> Result<Class<'js, Shared>> {
    let map = Arc::clone(lock(&MAPS).entry(name).or_default());
    Class::instance(ctx, Shared { map })
}

/// Gives them to the JavaScript of this folder.
pub(super) fn install<'js>(ctx: &Ctx<'js>, native: &Object<'js>) -> Result<()> {
    native.set("bucket", Function::new(ctx.clone(), bucket)?)?;
    native.set("shared", Function::new(ctx.clone(), shared)?)
}
