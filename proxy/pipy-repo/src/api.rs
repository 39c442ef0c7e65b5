//! The repository's REST API, and what instances pull: requests in, answers out.
//!
//! INVARIANT: what a request changes is on the disk before its answer is sent. Who may ask is decided in [`crate::auth`].

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http::{Request, Response, Talk};
use crate::instances::Instances;
use crate::links::Links;
use crate::store::Store;

struct Inner {
    store: Store,
    instances: BTreeMap<String, Instances>,
}

/// LIMIT: how long a question is held.
const HOLD_MAX: Duration = Duration::from_secs(30);

/// The console: one page, which asks this API.
const CONSOLE: &str = include_str!("console.html");

/// A repository at work.
pub struct Api {
    inner: Mutex<Inner>,
    /// Something was changed.
    changed: Condvar,
    links: Arc<Links>,
}

impl Api {
    /// The API of a store.
    pub fn new(store: Store) -> Self {
        let inner = Inner { store, instances: BTreeMap::new() };
        Api { inner: Mutex::new(inner), changed: Condvar::new(), links: Arc::default() }
    }

    /// What everybody may see: the console's page, which holds nothing of the repository.
    pub fn public(request: &Request) -> Option<Response> {
        if !is_get(&request.method) || request.path != "/" {
            return None;
        }
        let mut page = Response::text(200, CONSOLE)
            .with(
                "content-security-policy",
                "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; \
                 img-src data:; frame-ancestors 'none'",
            )
            .with("x-content-type-options", "nosniff")
            .with("cache-control", "no-cache");
        page.headers[0] = ("content-type", "text/html; charset=utf-8".into());
        Some(page)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers.
    pub fn answer(&self, request: &Request) -> Response {
        let mut inner = self.hold(self.lock(), request);
        let path = request.path.as_str();
        let answered = if let Some(rest) = below(path, "/api/v1/repo-files") {
            inner.working(request, rest)
        } else if let Some(rest) = below(path, "/api/v1/repo") {
            inner.manage(request, rest)
        } else if let Some(rest) = below(path, "/repo") {
            inner.pulled(request, rest)
        } else if !is_get(&request.method) {
            let known = path == "/metrics" || path == "/status" || path.starts_with("/api/v1/");
            Ok(Response::empty(if known { 405 } else { 404 }))
        } else if let Some(rest) = below(path, "/api/v1/metrics") {
            Ok(inner.measured(rest))
        } else {
            Ok(match path {
                "/metrics" => inner.metrics(),
                "/status" | "/api/v1/status" => inner.status(),
                "/api/v1/dump-store" | "/dump" => Response::json(&inner.store.dump()),
                _ => Response::empty(404),
            })
        };
        drop(inner);
        if !is_get(&request.method) {
            self.changed.notify_all();
        }
        answered.unwrap_or_else(|error| Response::text(400, error + "\n"))
    }

    /// What is said to a client that asks for a WebSocket: an instance, or who watches a log of one.
    pub fn talk(&self, request: &Request) -> Option<Talk> {
        let links = Arc::clone(&self.links);
        if let Some(rest) = below(&request.path, "/api/v1/log") {
            let (uuid, log) = rest.strip_prefix('/')?.split_once('/')?;
            return (!log.is_empty()).then(|| links.viewer(uuid.to_owned(), log.to_owned()));
        }
        let rest = below(&request.path, "/repo")?;
        let inner = self.lock();
        let (_, uuid) = inner.store.locate(rest)?;
        let uuid = uuid.trim_start_matches('/');
        (!uuid.is_empty() && !uuid.contains('/')).then(|| links.instance(uuid.to_owned()))
    }

    /// Waits while an instance has the version at hand already and asks to be told of the next (RFC 7240 §4.3).
    fn hold<'a>(&'a self, mut inner: MutexGuard<'a, Inner>, request: &Request) -> MutexGuard<'a, Inner> {
        let wait =
            request.header("prefer").and_then(|value| value.strip_prefix("wait=")?.trim().parse().ok());
        let (Some(wait), Some(seen)) = (wait, request.header("if-none-match")) else { return inner };
        let Some(rest) = below(&request.path, "/repo").filter(|_| is_get(&request.method)) else {
            return inner;
        };
        let until = Instant::now() + Duration::from_secs(wait).min(HOLD_MAX);
        while inner.store.locate(rest).is_some_and(|(name, _)| inner.store.etag(name) == seen) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            inner = self.changed.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        inner
    }
}

/// What follows a prefix that is a whole part of the path.
fn below<'p>(path: &'p str, prefix: &str) -> Option<&'p str> {
    path.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

type Answer = Result<Response, String>;

/// `base`, `main` and `version` of a body; an empty body has none of them.
fn options(body: &[u8]) -> Result<[Option<String>; 3], String> {
    let value: Value = if body.iter().all(u8::is_ascii_whitespace) {
        json!({})
    } else {
        serde_json::from_slice(body).map_err(|error| format!("the body is no JSON: {error}"))?
    };
    let object = value.as_object().ok_or("the body is no JSON object")?;
    let text = |name: &str| match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(Value::Number(number)) if name == "version" => Ok(Some(number.to_string())),
        Some(_) => Err(format!("{name} is no string")),
    };
    Ok([text("base")?, text("main")?, text("version")?])
}

impl Inner {
    /// `/api/v1/repo…`
    fn manage(&mut self, request: &Request, rest: &str) -> Answer {
        let method = request.method.as_str();
        if rest.trim_matches('/').is_empty() {
            let names = self.store.names().map(|name| name.clone() + "\n").collect::<String>();
            return Ok(if is_get(method) { Response::text(200, names) } else { Response::empty(405) });
        }
        if method == "POST" {
            let [base, main, version] = options(&request.body)?;
            let base = base.map(|base| if base.starts_with('/') { base } else { format!("/{base}") });
            self.store.create(rest.trim_end_matches('/'), base, main, version)?;
            return Ok(Response::empty(201));
        }
        let Some((name, file)) = self.store.locate(rest) else { return Ok(Response::empty(404)) };
        match (method, file) {
            ("GET" | "HEAD", "") => Ok(self.show(name)),
            ("GET" | "HEAD", file) => Ok(content(self.store.file(name, file))),
            ("PATCH", "") => {
                let [_, main, version] = options(&request.body)?;
                self.store.commit(name, version, main)?;
                Ok(Response::empty(201))
            }
            ("DELETE", "") => {
                self.store.delete(name)?;
                self.instances.remove(name);
                Ok(Response::empty(204))
            }
            _ => Ok(Response::empty(405)),
        }
    }

    fn show(&mut self, name: &str) -> Response {
        let Some(view) = self.store.view(name) else { return Response::empty(404) };
        let instances = self.instances.get_mut(name).map_or_else(|| json!({}), Instances::show);
        let mut shown = json!({
            "path": name, "version": view.version, "main": view.main, "files": view.files,
            "editFiles": view.edited, "erasedFiles": view.erased, "baseFiles": view.inherited,
            "derived": view.derived, "instances": instances,
        });
        if let Some(base) = view.base {
            shown["base"] = base.into();
        }
        Response::json(&shown)
    }

    /// `/api/v1/repo-files…`
    fn working(&mut self, request: &Request, rest: &str) -> Answer {
        let Some((name, file)) = self.store.locate(rest).filter(|(_, file)| !file.is_empty()) else {
            return Ok(Response::empty(404));
        };
        match request.method.as_str() {
            "GET" | "HEAD" => return Ok(content(self.store.working(name, file))),
            "POST" if file.ends_with('/') || file.contains("//") => return Err("no path of a file".into()),
            "POST" => self.store.edit(name, file, Some(&request.body))?,
            "PATCH" => self.store.reset(name, file)?,
            "DELETE" if self.store.working(name, file).is_none() => return Ok(Response::empty(404)),
            "DELETE" => {
                self.store.edit(name, file, None)?;
                return Ok(Response::empty(204));
            }
            _ => return Ok(Response::empty(405)),
        }
        Ok(Response::empty(201))
    }

    /// `/repo…`
    fn pulled(&mut self, request: &Request, rest: &str) -> Answer {
        let Some((name, file)) = self.store.locate(rest) else { return Ok(Response::empty(404)) };
        let etag = self.store.etag(name);
        match (request.method.as_str(), file) {
            ("GET" | "HEAD", _) if request.header("if-none-match") == Some(&etag) => {
                Ok(Response::empty(304).with("etag", etag))
            }
            ("GET" | "HEAD", "") => {
                let list = self.store.manifest(name).join("\n") + "\n";
                Ok(Response::text(200, list).with("etag", etag))
            }
            ("GET" | "HEAD", file) => Ok(content(self.store.file(name, file)).with("etag", etag)),
            ("POST", "") => {
                let status =
                    serde_json::from_slice(&request.body).map_err(|error| format!("no status: {error}"))?;
                self.instances.entry(name.into()).or_default().report(request.peer, status)?;
                Ok(Response::empty(201))
            }
            _ => Ok(Response::empty(405)),
        }
    }

    /// Of the repository, and of all instances.
    fn metrics(&mut self) -> Response {
        let codebases = self.store.names().count();
        let mut page = format!("# TYPE pipy_repo_codebases gauge\npipy_repo_codebases {codebases}\n");
        page.push_str("# TYPE pipy_repo_instances gauge\n");
        for (name, instances) in &mut self.instances {
            let name = name.replace('\\', "\\\\").replace('"', "\\\"");
            page.push_str(&format!("pipy_repo_instances{{codebase=\"{name}\"}} {}\n", instances.count()));
        }
        page.push_str(&crate::metrics::merge(self.instances.values().flat_map(Instances::pages)));
        let mut response = Response::text(200, page);
        response.headers = vec![("content-type", "text/plain; version=0.0.4".into())];
        response
    }

    /// `/api/v1/metrics[/uuid[/name]]`: what instances measured last.
    fn measured(&self, rest: &str) -> Response {
        let mut parts = rest.trim_matches('/').splitn(2, '/').filter(|part| !part.is_empty());
        let (uuid, name) = (parts.next(), parts.next());
        let pages: Vec<(String, String)> = match uuid {
            None => self
                .instances
                .values()
                .flat_map(Instances::pages)
                .map(|(name, page)| (name, page.into()))
                .collect(),
            Some(uuid) => {
                let Some(page) = self.instances.values().find_map(|instances| instances.page(uuid)) else {
                    return Response::empty(404);
                };
                vec![(uuid.to_owned(), page.to_owned())]
            }
        };
        let of = |line: &&str| {
            let known = line.split(['{', ' ']).next();
            !line.starts_with('#') && name.is_none_or(|name| known == Some(name))
        };
        let metrics: Vec<Value> = pages
            .iter()
            .flat_map(|(instance, page)| {
                page.lines().filter(of).filter_map(move |line| {
                    let (key, value) = line.rsplit_once(' ')?;
                    Some(json!({"instance": instance, "key": key, "value": value.parse::<f64>().ok()?}))
                })
            })
            .collect();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Response::json(
            &json!({"time": u64::try_from(now.as_millis()).unwrap_or(u64::MAX), "metrics": metrics}),
        )
    }

    fn status(&mut self) -> Response {
        let instances: usize = self.instances.values_mut().map(|all| all.count()).sum();
        Response::json(&json!({
            "version": env!("CARGO_PKG_VERSION"), "mode": "repo",
            "codebases": self.store.names().count(), "instances": instances,
        }))
    }
}

fn is_get(method: &str) -> bool {
    matches!(method, "GET" | "HEAD")
}

fn content(file: Option<std::sync::Arc<[u8]>>) -> Response {
    file.map_or_else(
        || Response::empty(404),
        |bytes| Response {
            status: 200,
            headers: vec![("content-type", "text/plain".into())],
            body: bytes.to_vec(),
        },
    )
}
