//! What stands before any admin port: a folder of pages, a log of requests.
//!
//! INVARIANT: a page is given only for what the port itself has no answer to, and only to who may ask it.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use pipy_repo::{Request, Response, Service, Talk};
use pipy_script::log;

/// A service with a folder of pages and a log.
pub(crate) struct Front<S> {
    inner: S,
    pages: Option<PathBuf>,
    log: Option<Mutex<File>>,
}

impl<S: Service> Front<S> {
    /// `pages` of `--admin-gui`, `file` of `--admin-log-file`.
    pub(crate) fn new(inner: S, pages: Option<PathBuf>, file: Option<&Path>) -> Result<Self, String> {
        if let Some(pages) = pages.as_ref().filter(|pages| !pages.is_dir()) {
            return Err(format!("--admin-gui: {} is no folder", pages.display()));
        }
        let open = |path: &Path| {
            let file = File::options().create(true).append(true).open(path);
            file.map(Mutex::new).map_err(|error| format!("--admin-log-file: {}: {error}", path.display()))
        };
        Ok(Front { inner, pages, log: file.map(open).transpose()? })
    }

    fn page(&self, request: &Request) -> Option<Response> {
        let pages = self.pages.as_ref()?.canonicalize().ok()?;
        let mut path = pages.join(request.path.trim_start_matches('/')).canonicalize().ok()?;
        if path.is_dir() {
            path.push("index.html");
        }
        // A link may lead out of the folder.
        let body = path.starts_with(&pages).then(|| std::fs::read(&path).ok())??;
        let kind = match path.extension().and_then(|end| end.to_str()).unwrap_or_default() {
            "html" => "text/html; charset=utf-8",
            "js" | "mjs" => "text/javascript",
            "css" => "text/css",
            "json" | "map" => "application/json",
            "svg" => "image/svg+xml",
            "png" => "image/png",
            "ico" => "image/x-icon",
            "woff2" => "font/woff2",
            "txt" => "text/plain",
            _ => "application/octet-stream",
        };
        let headers =
            vec![("content-type", kind.to_owned()), ("x-content-type-options", "nosniff".to_owned())];
        Some(Response { status: 200, headers, body })
    }

    fn note(&self, request: &Request, status: u16) {
        let Some(file) = &self.log else { return };
        let Request { method, path, peer, .. } = request;
        let line = format!("{} {peer} {method} {path} {status}\n", log::time_now());
        // A full disk must not stop the port.
        let _ = file.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes());
    }
}

impl<S: Service> Service for Front<S> {
    fn answer(&self, request: &Request) -> Response {
        let mut response = self.inner.answer(request);
        let reads = matches!(request.method.as_str(), "GET" | "HEAD");
        let own = response.status == 404 || (request.path == "/" && response.status == 200);
        if reads
            && own
            && let Some(page) = self.page(request)
        {
            response = page;
        }
        self.note(request, response.status);
        response
    }

    fn talk(&self, request: &Request) -> Option<Talk> {
        let talk = self.inner.talk(request)?;
        self.note(request, 101);
        Some(talk)
    }
}
