//! The admin port of a running script: metrics, status, logs, options, files, and what it has and does.
//!
//! Only this machine is answered, unless `PIPY_TOKEN` names the token by which others may ask, or `--admin-tls-trusted` who signs
//! their certificates.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pipy_repo::{Guard, Request, Response, Service, Talk};
use pipy_script::{AdminRequest, Facts, Update, log};
use pipy_worker::Handle;
use serde_json::{Value, json};

use crate::repo::Link;

/// How long workers are waited for: one that is busy with a script is left out.
const PATIENCE: Duration = Duration::from_millis(700);

/// How long a script's own answer may take.
const SCRIPT_PATIENCE: Duration = Duration::from_secs(10);

/// What is known of the script at work.
#[derive(Default)]
pub(crate) struct Status {
    /// The version of a codebase that is followed; else how often the script was loaded anew.
    pub(crate) version: String,
    /// How often it was loaded.
    pub(crate) loads: u64,
    /// How often that failed.
    pub(crate) failures: u64,
    /// Why the last attempt failed, if it did.
    pub(crate) error: Option<String>,
    pub(crate) listens: Vec<String>,
    pub(crate) threads: usize,
    /// The workers.
    pub(crate) workers: Vec<Handle<Update>>,
    /// Prefixes that the script itself answers.
    pub(crate) prefixes: Vec<String>,
    /// The files, and which of them is the script.
    pub(crate) files: Option<Files>,
    /// The folder that they are in, where they may be written.
    pub(crate) folder: Option<PathBuf>,
}

/// A column of a table: its head, and what stands in it.
type Column = (&'static str, fn(&Facts) -> u64);

/// Gives the files of the codebase.
pub(crate) type Files = Arc<dyn Fn() -> (Vec<(String, Vec<u8>)>, String) + Send + Sync>;

/// What the main thread shares with those who ask.
#[derive(Default)]
pub(crate) struct Admin {
    status: Mutex<Status>,
    /// The script is to be loaded anew.
    pub(crate) reload: AtomicBool,
    /// It is to end.
    pub(crate) stop: AtomicBool,
    since: Mutex<Option<Instant>>,
    /// The file that is to be the script from the next time on.
    main: Mutex<Option<String>>,
}

/// Shared by the main thread, which writes it, and those who ask.
pub(crate) type Shared = Arc<Admin>;

impl Admin {
    pub(crate) fn note(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn look<T>(&self, read: impl FnOnce(&Status) -> T) -> T {
        read(&self.status.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The process has begun.
    pub(crate) fn begin(&self) {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn age(&self) -> Duration {
        self.since
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// What each worker has and does.
    fn facts(&self) -> Vec<Facts> {
        let workers = self.look(|status| status.workers.clone());
        let (place, found) = sync_channel(workers.len().max(1));
        workers.iter().for_each(|worker| worker.update(Update::Look(place.clone())));
        drop(place);
        let until = Instant::now() + PATIENCE;
        let mut facts: Vec<Facts> = Vec::new();
        while facts.len() < workers.len() {
            match found.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(one) => facts.push(one),
                Err(_) => break,
            }
        }
        facts.sort_by_key(|facts| facts.worker);
        facts
    }

    /// The page of all metrics.
    pub(crate) fn metrics(&self) -> String {
        let facts = self.facts();
        let (threads, loads, failures) = self.look(|status| (status.threads, status.loads, status.failures));
        let mut page = format!(
            "# TYPE pipy_uptime_seconds gauge\npipy_uptime_seconds {}\n\
             # TYPE pipy_threads gauge\npipy_threads {threads}\n\
             # TYPE pipy_script_loads_total counter\npipy_script_loads_total {loads}\n\
             # TYPE pipy_script_load_failures_total counter\npipy_script_load_failures_total {failures}\n",
            self.age().as_secs(),
        );
        let mut family = |name: &str, kind: &str, value: &dyn Fn(&Facts) -> u64| {
            // Writing to a string cannot fail.
            let _ = writeln!(page, "# TYPE {name} {kind}");
            for one in &facts {
                let _ = writeln!(page, "{name}{{worker=\"{}\"}} {}", one.worker, value(one));
            }
        };
        family("pipy_inbound_total", "counter", &|facts| facts.connections);
        family("pipy_inbound_count", "gauge", &|facts| facts.inbound as u64);
        family("pipy_outbound_count", "gauge", &|facts| facts.outbound as u64);
        family("pipy_pipeline_count", "gauge", &|facts| facts.pipelines as u64);
        family("pipy_script_count", "gauge", &|facts| facts.scripts as u64);
        family("pipy_script_heap_bytes", "gauge", &|facts| facts.heap);
        family("pipy_script_calls_total", "counter", &|facts| facts.calls);
        family("pipy_script_overruns_total", "counter", &|facts| facts.overruns);
        page.push_str(&pipy_script::metrics_page());
        page
    }

    fn status(&self) -> Value {
        let age = self.age().as_secs();
        self.look(|status| {
            json!({
                "version": status.version, "listens": status.listens, "threads": status.threads,
                "loads": status.loads, "failures": status.failures, "error": status.error,
                "uptime": age, "pid": std::process::id(), "program": env!("CARGO_PKG_VERSION"),
                "logs": pipy_script::log_names(),
            })
        })
    }

    fn dump(&self, sections: &str) -> Option<Response> {
        let facts = self.facts();
        let name = |section: &str| -> Option<Vec<Column>> {
            Some(match section {
                "pipelines" => vec![("pipelines", |facts| facts.pipelines as u64)],
                "inbound" => {
                    vec![("accepted", |facts| facts.connections), ("open", |facts| facts.inbound as u64)]
                }
                "outbound" => vec![("open", |facts| facts.outbound as u64)],
                "objects" | "pools" => {
                    vec![("heap bytes", |facts| facts.heap), ("scripts", |facts| facts.scripts as u64)]
                }
                "calls" => vec![("calls", |facts| facts.calls), ("overruns", |facts| facts.overruns)],
                _ => return None,
            })
        };
        if sections.is_empty() {
            let workers: Vec<Value> = facts
                .iter()
                .map(|one| {
                    json!({
                        "worker": one.worker, "pipelines": one.pipelines, "inbound": one.connections,
                        "open": {"inbound": one.inbound, "outbound": one.outbound},
                        "scripts": one.scripts, "heap": one.heap, "calls": one.calls, "overruns": one.overruns,
                    })
                })
                .collect();
            return Some(Response::json(&json!({"workers": workers})));
        }
        let mut text = String::new();
        for section in sections.split('+') {
            let columns = name(section)?;
            let heads: Vec<&str> = columns.iter().map(|(head, _)| *head).collect();
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{:<8} {}", "WORKER", heads.join("  ").to_uppercase());
            for one in &facts {
                let values: Vec<String> =
                    columns.iter().map(|(head, value)| format!("{:>1$}", value(one), head.len())).collect();
                let _ = writeln!(text, "{:<8} {}", one.worker, values.join("  "));
            }
        }
        Some(Response::text(200, text))
    }

    /// What the script's own pipelines answer, all workers together; `None` where it has none for this path.
    fn scripted(&self, request: &Request) -> Option<Response> {
        let (prefixes, workers) = self.look(|status| (status.prefixes.clone(), status.workers.clone()));
        let below = |prefix: &&String| {
            let rest = request.path.strip_prefix(prefix.trim_end_matches('/'));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let prefix = prefixes.iter().filter(below).max_by_key(|prefix| prefix.len())?;
        let (reply, answers) = sync_channel(workers.len().max(1));
        let query = if request.query.is_empty() { String::new() } else { format!("?{}", request.query) };
        for worker in &workers {
            worker.update(Update::Admin(AdminRequest {
                prefix: prefix.clone(),
                method: request.method.clone(),
                path: format!("{}{query}", request.path),
                headers: request.headers.clone(),
                body: request.body.clone().into(),
                reply: reply.clone(),
            }));
        }
        drop(reply);
        let until = Instant::now() + SCRIPT_PATIENCE;
        let mut found = Vec::new();
        while found.len() < workers.len() {
            match answers.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(answer) => found.push(answer),
                Err(_) => break,
            }
        }
        found.sort_by_key(|(worker, _)| *worker);
        let Some((_, first)) = found.first() else {
            return Some(Response::text(504, "the script does not answer\n"));
        };
        let typed = first.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        let mut response = Response::empty(first.status);
        response.headers.extend(typed.map(|(_, value)| ("content-type", value.clone())));
        response.body = found.iter().flat_map(|(_, answer)| answer.body.iter().copied()).collect();
        Some(response)
    }

    /// The file that is to be the script from now on, if that was said.
    pub(crate) fn main_wanted(&self) -> Option<String> {
        self.main.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Writes or removes a file of the script's folder, or makes another one the script. None of it runs before it is loaded anew.
    fn change(&self, request: &Request, path: &str) -> Result<Response, String> {
        let folder = self.look(|status| status.folder.clone());
        let folder = folder.ok_or("these files are in no folder: they cannot be changed")?;
        let path = path.trim_start_matches('/');
        match (request.method.as_str(), path) {
            ("PATCH", "") => {
                let said: Value = serde_json::from_slice(&request.body)
                    .map_err(|error| format!("the body is no JSON: {error}"))?;
                let main = said["main"].as_str().ok_or("main is missing: {\"main\": \"/main.js\"}")?;
                if !within(&folder, main.trim_start_matches('/'))?.is_file() {
                    return Err(format!("{main} is not there"));
                }
                *self.main.lock().unwrap_or_else(PoisonError::into_inner) = Some(main.to_owned());
                self.reload.store(true, Ordering::Relaxed);
                Ok(Response::empty(201))
            }
            ("POST", path) if !path.is_empty() && !path.ends_with('/') && !path.contains("//") => {
                let place = within(&folder, path)?;
                write_whole(&place, &request.body).map_err(|error| format!("{path}: {error}"))?;
                Ok(Response::empty(201))
            }
            ("DELETE", path) if !path.is_empty() => {
                let place = within(&folder, path)?;
                match std::fs::remove_file(&place) {
                    Ok(()) => Ok(Response::empty(204)),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Response::empty(404)),
                    Err(error) => Err(format!("{path}: {error}")),
                }
            }
            ("POST" | "DELETE", _) => Err("no path of a file".into()),
            _ => Ok(Response::empty(405)),
        }
    }

    fn files(&self, path: &str) -> Response {
        let Some(files) = self.look(|status| status.files.clone()) else { return Response::empty(404) };
        let (files, main) = files();
        if path.is_empty() || path == "/" {
            let names = std::iter::once(main.clone());
            let rest = files.into_iter().map(|(name, _)| name).filter(|name| *name != main);
            return Response::text(200, names.chain(rest).map(|name| name + "\n").collect::<String>());
        }
        files.into_iter().find(|(name, _)| name == path).map_or_else(
            || Response::empty(404),
            |(_, content)| Response {
                status: 200,
                headers: vec![("content-type", "text/plain".into())],
                body: content,
            },
        )
    }
}

/// Where a file of a folder is. A link on the way may not lead out of it.
fn within(folder: &Path, path: &str) -> Result<PathBuf, String> {
    let root = folder.canonicalize().map_err(|error| format!("{}: {error}", folder.display()))?;
    let place = root.join(path);
    let there = place.ancestors().find_map(|part| part.canonicalize().ok());
    let inside = there.is_some_and(|there| there.starts_with(&root));
    if inside { Ok(place) } else { Err(format!("{path} is not within the script's folder")) }
}

/// Writes a file as a whole: whoever reads it finds the old one or the new one.
fn write_whole(place: &Path, content: &[u8]) -> std::io::Result<()> {
    let folder = place.parent().unwrap_or_else(|| Path::new("."));
    std::fs::create_dir_all(folder)?;
    let name = place.file_name().unwrap_or_default().to_string_lossy();
    let beside = folder.join(format!(".{name}.{}", std::process::id()));
    let written = std::fs::write(&beside, content).and_then(|()| std::fs::rename(&beside, place));
    if written.is_err() {
        // What could not be written is of no use; the error says why.
        let _ = std::fs::remove_file(&beside);
    }
    written
}

/// Opens the port.
pub(crate) fn serve(address: SocketAddr, link: &Link, admin: Shared) -> Result<(), String> {
    let guard = crate::repo::guard(address, link, crate::repo::token())?;
    crate::repo::serve(address, link, Port { guard, admin })
}

/// The port, for those who may ask.
struct Port {
    guard: Guard,
    admin: Shared,
}

impl Service for Port {
    fn answer(&self, request: &Request) -> Response {
        self.guard.refuse(request).unwrap_or_else(|| answer(request, &self.admin))
    }

    fn talk(&self, request: &Request) -> Option<Talk> {
        let log =
            request.path.strip_prefix("/api/v1/log/").filter(|_| self.guard.refuse(request).is_none())?;
        // As with a repository the name of the instance may stand before that of the log; there is one instance here.
        let log = log.rsplit('/').next().filter(|log| !log.is_empty())?.to_owned();
        Some(pipy_repo::watch_log(move || crate::repo::feed(&log)))
    }
}

fn answer(request: &Request, admin: &Admin) -> Response {
    let path = request.path.as_str();
    if let Some(response) = admin.scripted(request) {
        return response;
    }
    let read = matches!(request.method.as_str(), "GET" | "HEAD");
    let below =
        |prefix: &str| path.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with('/'));
    match (request.method.as_str(), path) {
        ("POST", "/options") => return set_options(&request.body),
        ("PATCH", "/api/v1/program") => {
            admin.reload.store(true, Ordering::Relaxed);
            return Response::empty(201);
        }
        ("DELETE", "/api/v1/program") => {
            admin.stop.store(true, Ordering::Relaxed);
            return Response::empty(204);
        }
        ("POST", "/api/v1/program") => {
            admin.reload.store(true, Ordering::Relaxed);
            return Response::empty(201);
        }
        ("POST", "/api/v1/graph") => return graph(&request.body),
        _ => {}
    }
    if let Some(path) = below("/api/v1/files").filter(|_| !read) {
        return admin.change(request, path).unwrap_or_else(|why| Response::text(400, why + "\n"));
    }
    let known = matches!(
        path,
        "/metrics"
            | "/api/v1/metrics"
            | "/status"
            | "/api/v1/status"
            | "/options"
            | "/api/v1/program"
            | "/api/v1/graph"
    ) || ["/dump", "/log", "/api/v1/files"].iter().any(|prefix| below(prefix).is_some());
    if !read || path == "/api/v1/graph" {
        return Response::empty(if known { 405 } else { 404 });
    }
    if let Some(rest) = below("/dump") {
        return admin.dump(rest.trim_matches('/')).unwrap_or_else(|| Response::empty(404));
    }
    if let Some(rest) = below("/log") {
        let name = rest.trim_matches('/');
        let name = if name.is_empty() { "pipy" } else { name };
        return match pipy_script::log_history(name) {
            Some(text) => {
                Response { status: 200, headers: vec![("content-type", "text/plain".into())], body: text }
            }
            None if name == "pipy" => Response::text(200, ""),
            None => Response::empty(404),
        };
    }
    if let Some(rest) = below("/api/v1/files") {
        return admin.files(rest);
    }
    match path {
        "/metrics" => {
            let mut response = Response::text(200, admin.metrics());
            response.headers = vec![("content-type", "text/plain; version=0.0.4".into())];
            response
        }
        "/api/v1/metrics" => {
            let lines = admin.metrics();
            let metrics: Vec<Value> = lines
                .lines()
                .filter(|line| !line.starts_with('#'))
                .filter_map(|line| {
                    let (key, value) = line.rsplit_once(' ')?;
                    Some(json!({"key": key, "value": value.parse::<f64>().ok()?}))
                })
                .collect();
            Response::json(&json!({"uptime": admin.age().as_secs(), "metrics": metrics}))
        }
        "/status" | "/api/v1/status" => Response::json(&admin.status()),
        "/api/v1/program" => {
            let main = admin.look(|status| status.files.clone()).map(|files| files().1).unwrap_or_default();
            Response::text(200, main + "\n")
        }
        "/options" => Response::text(200, format!("--log-level={}\n", log::level())),
        _ => Response::empty(404),
    }
}

/// `--log-level=debug`: what can be changed while a script runs.
fn set_options(body: &[u8]) -> Response {
    let text = String::from_utf8_lossy(body).into_owned();
    for option in text.split_whitespace() {
        let level =
            option.strip_prefix("--log-level=").map(|level| level.split(':').next().unwrap_or_default());
        match level {
            Some(level) if log::set_level(level) => {}
            Some(level) => return Response::text(400, format!("unknown log level: {level}\n")),
            None => {
                return Response::text(
                    400,
                    format!("{option} cannot be changed while it runs; --log-level can\n"),
                );
            }
        }
    }
    Response::empty(201)
}

/// The pipelines of a script that is not run.
fn graph(body: &[u8]) -> Response {
    let text = String::from_utf8_lossy(body).into_owned();
    log::hold();
    let graph = pipy_script::graph(&text);
    log::release(false);
    match graph {
        Ok(graph) => Response {
            status: 200,
            headers: vec![("content-type", "application/json".into())],
            body: graph.into_bytes(),
        },
        Err(error) => Response::text(400, format!("{error}\n")),
    }
}
