//! Tells what goes wrong in plugins: to the control plane, and on the pages of metrics.
//!
//! In: the board of `pipy_script::faults`. Out: one report when something is new, at most one every `APART`; lines of
//! Prometheus' text format. INVARIANT: without plugins there is no thread; a report that did not arrive is sent again.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use pipy_delivery::Reporter;
use pipy_mesh::Plan;
use pipy_script::faults::{self, Fault};
use serde_json::json;

/// How long after one report the next may go: a plugin that fails each request would make a thousand a second.
const APART: Duration = Duration::from_secs(2);

/// How long after a report that did not arrive the next is tried.
const AGAIN: Duration = Duration::from_secs(10);

/// LIMIT: plugins of one report; more is no configuration that people write.
const PLUGINS_MAX: usize = 64;

/// A configuration is at work: these are its plugins.
pub(crate) fn applied(plan: &Plan) {
    faults::at_work(plan.plugins.iter().map(|source| (&*source.name, pipy_mesh::script_id(&source.script))));
}

/// Reports from now on, on a thread of its own.
pub(crate) fn report(reporter: Reporter) -> Result<(), String> {
    let run = move || {
        let (mut number, mut told) = (0, BTreeMap::new());
        loop {
            if !faults::wait(number, Duration::from_secs(3600)) {
                continue;
            }
            let (now, faults) = faults::all();
            let failing: BTreeMap<String, Fault> =
                faults.into_iter().filter(|(_, fault)| fault.count > 0).take(PLUGINS_MAX).collect();
            if failing == told {
                number = now;
                continue;
            }
            let plugins: BTreeMap<_, _> = failing
                .iter()
                .map(|(name, fault)| (name, json!({ "errors": fault.count, "last": fault.last })))
                .collect();
            let sent = reporter.send(&json!({ "plugins": plugins }));
            let pause = if sent.is_ok() { APART } else { AGAIN };
            if sent.is_ok() {
                (number, told) = (now, failing);
            }
            std::thread::sleep(pause);
        }
    };
    let spawned = std::thread::Builder::new().name("plugin-reports".into()).spawn(run);
    spawned.map(drop).map_err(|error| format!("failures of plugins cannot be reported: {error}"))
}

/// The lines of the metrics page.
pub(crate) fn metrics() -> String {
    let (_, faults) = faults::all();
    let mut text = String::new();
    if faults.is_empty() {
        return text;
    }
    // Writing to a string does not fail.
    let _ = writeln!(text, "# HELP sidecar_plugin_errors_total Errors of plugins while they ran.");
    let _ = writeln!(text, "# TYPE sidecar_plugin_errors_total counter");
    for (name, fault) in faults {
        let _ = writeln!(text, "sidecar_plugin_errors_total{{plugin=\"{name}\"}} {}", fault.count);
    }
    text
}
