//! The instances that follow codebases, as they report themselves. Kept in memory: those that live report again.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

/// LIMIT: instances of one codebase.
const INSTANCES_MAX: usize = 10_000;
/// An instance that is silent for so long is gone.
const GONE: Duration = Duration::from_secs(60);

struct Instance {
    ip: IpAddr,
    seen: SystemTime,
    status: Value,
    metrics: String,
}

/// Those of one codebase, by their ids.
#[derive(Default)]
pub(crate) struct Instances(BTreeMap<String, Instance>);

impl Instances {
    /// Takes a report. The instance's id is in it.
    pub(crate) fn report(&mut self, ip: IpAddr, status: Value) -> Result<(), String> {
        self.forget();
        let id = status.get("uuid").and_then(Value::as_str).ok_or("a status needs its uuid")?.to_owned();
        if self.0.len() >= INSTANCES_MAX && !self.0.contains_key(&id) {
            return Err(format!("more than {INSTANCES_MAX} instances"));
        }
        let mut status = status;
        // A page of metrics is for /metrics, not for who looks at the instances.
        let metrics = match status.as_object_mut().and_then(|status| status.remove("metrics")) {
            Some(Value::String(page)) => page,
            _ => String::new(),
        };
        self.0.insert(id, Instance { ip, seen: SystemTime::now(), status, metrics });
        Ok(())
    }

    /// The pages of metrics, by name, or by number where an instance has none.
    pub(crate) fn pages(&self) -> impl Iterator<Item = (String, &str)> {
        self.0.values().enumerate().map(|(number, instance)| {
            let name = instance.status.get("name").and_then(Value::as_str).filter(|name| !name.is_empty());
            (name.map_or_else(|| number.to_string(), str::to_owned), instance.metrics.as_str())
        })
    }

    /// The page of one instance.
    pub(crate) fn page(&self, uuid: &str) -> Option<&str> {
        self.0.get(uuid).map(|instance| instance.metrics.as_str())
    }

    fn forget(&mut self) {
        self.0.retain(|_, instance| instance.seen.elapsed().is_ok_and(|silent| silent < GONE));
    }

    /// All that live, by number.
    pub(crate) fn show(&mut self) -> Value {
        self.forget();
        let all = self.0.values().enumerate().map(|(number, instance)| {
            let seen = instance.seen.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
            let seen = u64::try_from(seen).unwrap_or(u64::MAX);
            let ip = instance.ip.to_string();
            (number.to_string(), json!({"ip": ip, "timestamp": seen, "status": instance.status}))
        });
        Value::Object(all.collect())
    }

    /// How many live.
    pub(crate) fn count(&mut self) -> usize {
        self.forget();
        self.0.len()
    }
}
