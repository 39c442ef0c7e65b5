//! Natives of `algo.Quota` and `algo.SharedMap`: what workers share.
//!
//! A quota with a key and a map with a name are the same for every worker of the process; values of maps travel as JSON.
//! INVARIANT: a quota never grants more than it has, whoever asks.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rquickjs::class::Trace;
use rquickjs::{Class, Ctx, Function, JsLifetime, Object, Result};

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
    max: f64,
    produce: f64,
    /// Seconds; 0 where nothing comes back by itself.
    per: f64,
    since: Instant,
}

impl State {
    fn refill(&mut self) {
        if self.per <= 0.0 {
            return;
        }
        let periods = (self.since.elapsed().as_secs_f64() / self.per).floor();
        if periods >= 1.0 {
            self.current = (self.current + periods * self.produce).min(self.max.max(self.current));
            self.since += std::time::Duration::from_secs_f64(periods * self.per);
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
    }

    fn produce(&self, amount: f64) {
        let mut state = lock(&self.state);
        state.refill();
        state.current = (state.current + amount.max(0.0)).min(state.max.max(state.current));
    }

    fn consume(&self, amount: f64) -> f64 {
        let mut state = lock(&self.state);
        state.refill();
        let granted = amount.clamp(0.0, state.current.max(0.0));
        state.current -= granted;
        granted
    }
}

fn bucket<'js>(
    ctx: Ctx<'js>,
    key: Option<String>,
    initial: f64,
    max: f64,
    per: f64,
    produce: f64,
) -> Result<Class<'js, Bucket>> {
    let new = || {
        Arc::new(Mutex::new(State { initial, current: initial, max, produce, per, since: Instant::now() }))
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
