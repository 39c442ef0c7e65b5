//! The repository's REST API, and what instances pull: requests in, answers out.
//!
//! INVARIANT: what a request changes is on the disk before its answer is sent. Who may ask is decided in [`crate::auth`].

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use crate::http::{Request, Response};
use crate::instances::Instances;
use crate::store::Store;

struct Inner {
    store: Store,
    instances: BTreeMap<String, Instances>,
}

/// A repository at work.
pub struct Api {
    inner: Mutex<Inner>,
}

impl Api {
    /// The API of a store.
    pub fn new(store: Store) -> Self {
        Api { inner: Mutex::new(Inner { store, instances: BTreeMap::new() }) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers.
    pub fn answer(&self, request: &Request) -> Response {
        let mut inner = self.lock();
        let path = request.path.as_str();
        if path == "/metrics" {
            return inner.metrics(request);
        }
        let answered = if let Some(rest) = below(path, "/api/v1/repo-files") {
            inner.working(request, rest)
        } else if let Some(rest) = below(path, "/api/v1/repo") {
            inner.manage(request, rest)
        } else if let Some(rest) = below(path, "/repo") {
            inner.pulled(request, rest)
        } else {
            Ok(Response::empty(404))
        };
        answered.unwrap_or_else(|error| Response::text(400, error + "\n"))
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

    fn metrics(&mut self, request: &Request) -> Response {
        if !is_get(&request.method) {
            return Response::empty(405);
        }
        let codebases = self.store.names().count();
        let mut page = format!("# TYPE pipy_repo_codebases gauge\npipy_repo_codebases {codebases}\n");
        page.push_str("# TYPE pipy_repo_instances gauge\n");
        for (name, instances) in &mut self.instances {
            let name = name.replace('\\', "\\\\").replace('"', "\\\"");
            page.push_str(&format!("pipy_repo_instances{{codebase=\"{name}\"}} {}\n", instances.count()));
        }
        Response::text(200, page)
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
