//! The admin port of a running script: its metrics and its status.
//!
//! Only this machine is answered, unless `PIPY_TOKEN` names the token by which others may ask.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use pipy_repo::{Guard, Request, Response};
use serde_json::json;

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
}

/// Shared by the main thread, which writes it, and those who ask.
pub(crate) type Shared = Arc<Mutex<Status>>;

/// Opens the port.
pub(crate) fn serve(address: SocketAddr, status: Shared) -> Result<(), String> {
    let token = crate::repo::token();
    if token.is_none() && !address.ip().is_loopback() {
        return Err(format!("{address}: set PIPY_TOKEN to serve other machines"));
    }
    let (guard, since) = (Guard::new(token), Instant::now());
    crate::repo::serve(address, move |request| {
        guard.refuse(request).unwrap_or_else(|| answer(request, &status, since))
    })
}

fn answer(request: &Request, status: &Shared, since: Instant) -> Response {
    if !matches!(request.method.as_str(), "GET" | "HEAD") {
        return Response::empty(405);
    }
    let status = status.lock().unwrap_or_else(PoisonError::into_inner);
    match request.path.as_str() {
        "/metrics" => {
            let page = format!(
                "# TYPE pipy_uptime_seconds gauge\npipy_uptime_seconds {}\n\
                 # TYPE pipy_threads gauge\npipy_threads {}\n\
                 # TYPE pipy_script_loads_total counter\npipy_script_loads_total {}\n\
                 # TYPE pipy_script_load_failures_total counter\npipy_script_load_failures_total {}\n{}",
                since.elapsed().as_secs(),
                status.threads,
                status.loads,
                status.failures,
                pipy_script::metrics_page(),
            );
            let mut response = Response::text(200, page);
            response.headers = vec![("content-type", "text/plain; version=0.0.4".into())];
            response
        }
        "/status" | "/api/v1/status" => Response::json(&json!({
            "version": status.version, "listens": status.listens, "threads": status.threads,
            "loads": status.loads, "failures": status.failures, "error": status.error,
        })),
        _ => Response::empty(404),
    }
}
