//! Metrics of scripts: one registry for all workers, and its page in the text format of Prometheus.
//!
//! INVARIANT: a metric of one name has one kind; buckets are cumulative, and the last is `+Inf`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use rquickjs::{Ctx, Exception, Function, Object, Result};

static FAMILIES: LazyLock<Mutex<BTreeMap<String, Family>>> = LazyLock::new(Mutex::default);

fn families() -> MutexGuard<'static, BTreeMap<String, Family>> {
    FAMILIES.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Family {
    kind: &'static str,
    labels: Vec<String>,
    bounds: Vec<f64>,
    samples: BTreeMap<Vec<String>, Sample>,
}

#[derive(Default)]
struct Sample {
    value: f64,
    /// How often each bucket was hit, those beyond the last bound included.
    buckets: Vec<u64>,
}

fn define(ctx: Ctx<'_>, kind: String, name: String, labels: Vec<String>, bounds: Vec<f64>) -> Result<()> {
    let kind = match kind.as_str() {
        "counter" => "counter",
        "gauge" => "gauge",
        _ => "histogram",
    };
    let good = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == ':')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
    };
    // Scripts name metrics with dots and dashes; a page that holds such a name is no page.
    let name = clean(&name);
    if !good(&name) {
        return Err(Exception::throw_type(&ctx, &format!("{name:?} is no name of a metric")));
    }
    let mut families = families();
    let family = families.entry(name.clone()).or_insert_with(|| Family {
        kind,
        labels,
        bounds,
        samples: BTreeMap::new(),
    });
    if family.kind != kind {
        return Err(Exception::throw_type(&ctx, &format!("the metric {name} is a {} already", family.kind)));
    }
    Ok(())
}

fn clean(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == ':' { c } else { '_' }).collect()
}

fn with(name: &str, labels: Vec<String>, change: impl FnOnce(&mut Sample, &[f64])) {
    let mut families = families();
    let Some(family) = families.get_mut(&clean(name)) else { return };
    let sample = family.samples.entry(labels).or_default();
    change(sample, &family.bounds);
}

fn add(name: String, labels: Vec<String>, amount: f64) {
    with(&name, labels, |sample, _| sample.value += amount);
}

fn set(name: String, labels: Vec<String>, value: f64) {
    with(&name, labels, |sample, _| *sample = Sample { value, buckets: Vec::new() });
}

fn observe(name: String, labels: Vec<String>, value: f64) {
    with(&name, labels, |sample, bounds| {
        sample.buckets.resize(bounds.len() + 1, 0);
        let place = bounds.iter().position(|bound| value <= *bound).unwrap_or(bounds.len());
        sample.buckets[place] += 1;
        sample.value += value;
    });
}

fn read(name: String, labels: Vec<String>) -> f64 {
    families()
        .get(&clean(&name))
        .and_then(|family| family.samples.get(&labels))
        .map_or(0.0, |sample| sample.value)
}

/// The bound below which `percentage` of what was observed lies.
fn percentile(name: String, labels: Vec<String>, percentage: f64) -> f64 {
    let families = families();
    let Some(family) = families.get(&clean(&name)) else { return 0.0 };
    let Some(sample) = family.samples.get(&labels) else { return 0.0 };
    let total: u64 = sample.buckets.iter().sum();
    let wanted = total as f64 * percentage / 100.0;
    let mut below = 0;
    for (bound, hits) in family.bounds.iter().zip(&sample.buckets) {
        below += hits;
        if below as f64 >= wanted {
            return *bound;
        }
    }
    family.bounds.last().copied().unwrap_or(0.0)
}

/// The labels of all that was counted under a name.
fn samples(name: String) -> Vec<Vec<String>> {
    families().get(&clean(&name)).map(|family| family.samples.keys().cloned().collect()).unwrap_or_default()
}

fn forget(name: String) {
    if let Some(family) = families().get_mut(&clean(&name)) {
        family.samples.clear();
    }
}

/// The metrics of all scripts, as a page.
pub fn page() -> String {
    let mut out = String::new();
    for (name, family) in families().iter() {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "# TYPE {name} {}", family.kind);
        for (values, sample) in &family.samples {
            let pairs: Vec<String> = family
                .labels
                .iter()
                .zip(values)
                .map(|(label, value)| {
                    let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
                    format!("{}=\"{value}\"", clean(label))
                })
                .collect();
            let shown = |more: Option<String>| {
                let all: Vec<String> = pairs.iter().cloned().chain(more).collect();
                if all.is_empty() { String::new() } else { format!("{{{}}}", all.join(",")) }
            };
            if family.kind != "histogram" {
                let _ = writeln!(out, "{name}{} {}", shown(None), sample.value);
                continue;
            }
            let mut below = 0;
            let bounds = family.bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
            for (index, bound) in bounds.enumerate() {
                below += sample.buckets.get(index).copied().unwrap_or(0);
                let _ = writeln!(out, "{name}_bucket{} {below}", shown(Some(format!("le=\"{bound}\""))));
            }
            let _ = writeln!(out, "{name}_sum{} {}", shown(None), sample.value);
            let _ = writeln!(out, "{name}_count{} {below}", shown(None));
        }
    }
    out
}

/// Gives them to the JavaScript of this folder.
pub(super) fn install<'js>(ctx: &Ctx<'js>, native: &Object<'js>) -> Result<()> {
    let stats = Object::new(ctx.clone())?;
    stats.set("define", Function::new(ctx.clone(), define)?)?;
    stats.set("add", Function::new(ctx.clone(), add)?)?;
    stats.set("set", Function::new(ctx.clone(), set)?)?;
    stats.set("observe", Function::new(ctx.clone(), observe)?)?;
    stats.set("read", Function::new(ctx.clone(), read)?)?;
    stats.set("percentile", Function::new(ctx.clone(), percentile)?)?;
    stats.set("samples", Function::new(ctx.clone(), samples)?)?;
    stats.set("forget", Function::new(ctx.clone(), forget)?)?;
    stats.set("page", Function::new(ctx.clone(), page)?)?;
    native.set("stats", stats)
}
