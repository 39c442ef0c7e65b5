//! What the proxy says of itself: the state behind the pages, and the pages.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use pipy_http::Method;
use pipy_mesh::explain::{Question, explain};
use pipy_mesh::{Page, Pages, Plan, listener};
use pipy_observe::Metrics;
use serde_json::{Value, json};

/// What is known about this proxy, for those who ask.
pub(crate) struct State {
    pub(crate) metrics: Arc<Metrics>,
    inner: Mutex<Inner>,
    quit: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct Inner {
    /// The configuration at work, as it came. WHY not made ready to be shown: with all defaults and as a tree it takes several
    /// times the memory, and is seldom asked for.
    config: Box<[u8]>,
    plan: Option<Arc<Plan>>,
    refused: Option<String>,
    lost: Option<String>,
    certificate: Option<Value>,
    listeners: Vec<(u32, SocketAddr)>,
}

impl State {
    /// `quit` is called when someone asks the process to end.
    pub(crate) fn new(metrics: Arc<Metrics>, quit: Box<dyn Fn() + Send + Sync>) -> Arc<Self> {
        Arc::new(State { metrics, inner: Mutex::default(), quit })
    }

    fn with<T>(&self, ask: impl FnOnce(&mut Inner) -> T) -> T {
        ask(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// These listeners are open.
    pub(crate) fn listening(&self, listeners: Vec<(u32, SocketAddr)>) {
        self.with(|inner| inner.listeners = listeners);
    }

    /// A configuration is at work.
    pub(crate) fn applied(&self, plan: Arc<Plan>, config: &[u8], listeners: Vec<(u32, SocketAddr)>) {
        self.with(|inner| {
            (inner.plan, inner.config, inner.listeners) = (Some(plan), config.into(), listeners);
            inner.refused = None;
        });
    }

    /// A configuration was refused.
    pub(crate) fn refused(&self, reason: &str) {
        self.with(|inner| inner.refused = Some(reason.to_owned()));
    }

    /// The control plane can't be reached, or can again.
    pub(crate) fn lost(&self, reason: Option<String>) {
        self.with(|inner| inner.lost = reason);
    }

    /// Another certificate is in use.
    pub(crate) fn certified(&self, certificate: Value) {
        self.with(|inner| inner.certificate = Some(certificate));
    }

    fn config_dump(&self) -> String {
        let dump = self.with(|inner| {
            // Before the first configuration there is none to show.
            let whole = pipy_config::parse(&inner.config).ok();
            let mut config: Value =
                whole.and_then(|whole| serde_json::to_value(whole).ok()).unwrap_or_default();
            hide_secrets(&mut config);
            json!({
                "Version": inner.plan.as_ref().map(|plan| &plan.version),
                "Chains": config.get("chains").cloned().unwrap_or_default(),
                "Config": config,
            })
        });
        serde_json::to_string_pretty(&dump).unwrap_or_default() + "\n"
    }

    fn listeners(&self) -> String {
        self.with(|inner| {
            inner.listeners.iter().map(|(key, at)| format!("{}::{at}\n", listener_name(*key))).collect()
        })
    }

    fn ready(&self) -> Page {
        match self.with(|inner| inner.plan.is_some()) {
            true => Page::text(200, "LIVE\n"),
            false => Page::text(503, "waiting for the first configuration\n"),
        }
    }

    fn stats(&self) -> String {
        let mut text = self.metrics.stats();
        self.with(|inner| {
            for (name, value) in [
                ("config.version", &inner.plan.as_ref().map(|plan| plan.version.clone())),
                ("config.refused_reason", &inner.refused),
                ("control_plane.lost_reason", &inner.lost),
            ] {
                if let Some(value) = value {
                    text += &format!("{name}: {}\n", value.replace('\n', " "));
                }
            }
        });
        text
    }

    /// `?direction=inbound|outbound&protocol=tcp|udp&destination=ip:port&source=ip&identity=…&server_name=…&method=…&host=…&path=…&header=name:value…`
    fn explain(&self, query: Option<&str>) -> Page {
        let Some(plan) = self.with(|inner| inner.plan.clone()) else {
            return Page::text(503, "waiting for the first configuration\n");
        };
        let answer = question(query.unwrap_or_default()).and_then(|question| explain(&plan, &question));
        match answer {
            Ok(answer) => Page::json(serde_json::to_string_pretty(&answer).unwrap_or_default() + "\n"),
            Err(wrong) => Page::text(400, wrong + "\n"),
        }
    }

    fn certs(&self) -> String {
        let certificate = self.with(|inner| inner.certificate.clone());
        serde_json::to_string_pretty(&certificate).unwrap_or_default() + "\n"
    }
}

/// What opens a collector to us, or proves who we are, is not for everyone who may look at the configuration.
fn hide_secrets(config: &mut Value) {
    for export in ["tracing", "remote_log"] {
        let secret = config.pointer_mut(&format!("/telemetry/{export}/collector/authorization"));
        if let Some(secret) = secret.filter(|secret| secret.as_str().is_some_and(|text| !text.is_empty())) {
            *secret = json!("***");
        }
    }
    let originates = config.get_mut("originates").and_then(Value::as_object_mut);
    for tls in originates.into_iter().flat_map(|all| all.values_mut()) {
        if let Some(key) = tls.pointer_mut("/certificate/key") {
            *key = json!("***");
        }
    }
}

/// What a listener is called.
pub(crate) fn listener_name(key: u32) -> &'static str {
    match listener::role(key) {
        listener::INBOUND => "inbound-listener",
        listener::OUTBOUND => "outbound-listener",
        listener::ADMIN => "admin-listener",
        listener::LIVENESS => "liveness-probe-listener",
        listener::READINESS => "readiness-probe-listener",
        listener::STARTUP => "startup-probe-listener",
        listener::TCP_PROBES => "tcp-probe-listener",
        _ => "inbound-prometheus-listener",
    }
}

impl Pages for State {
    fn page(&self, key: u32, method: &Method, path: &str, query: Option<&str>) -> Page {
        let admin = key == listener::ADMIN;
        match (method, path) {
            (Method::Post, "/quitquitquit") if admin => {
                (self.quit)();
                Page::text(200, "DONE\n")
            }
            (Method::Get | Method::Head, _) => match path {
                "/ready" => self.ready(),
                "/stats/prometheus" => Page {
                    status: 200,
                    content_type: "text/plain; version=0.0.4; charset=utf-8",
                    body: self.metrics.prometheus() + &crate::faults::metrics(),
                },
                "/config_dump" if admin => Page::json(self.config_dump()),
                "/stats" if admin => Page::text(200, self.stats()),
                "/clusters" if admin => Page::text(200, self.metrics.clusters()),
                "/listeners" if admin => Page::text(200, self.listeners()),
                "/explain" if admin => self.explain(query),
                "/certs" if admin => Page::json(self.certs()),
                _ => Page::text(404, "Not Found\n"),
            },
            _ => Page::text(405, "Method Not Allowed\n"),
        }
    }
}

/// Reads a question from a query string.
fn question(query: &str) -> Result<Question, String> {
    let mut question = Question {
        inbound: false,
        datagrams: false,
        destination: SocketAddr::from(([0, 0, 0, 0], 0)),
        source: None,
        server_name: None,
        identity: None,
        method: "GET".into(),
        authority: String::new(),
        target: "/".into(),
        headers: Vec::new(),
    };
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "direction" => {
                question.inbound = match &*value {
                    "inbound" => true,
                    "outbound" => false,
                    other => return Err(format!("direction {other:?} is neither inbound nor outbound")),
                };
            }
            "protocol" => {
                question.datagrams = match &*value {
                    "udp" => true,
                    "tcp" => false,
                    other => return Err(format!("protocol {other:?} is neither tcp nor udp")),
                };
            }
            "destination" => {
                let wrong = |_| format!("destination {value:?} is not ip:port");
                question.destination = value.parse().map_err(wrong)?;
            }
            "source" => {
                let wrong = |_| format!("source {value:?} is not an address");
                question.source = Some(value.parse().map_err(wrong)?);
            }
            "server_name" => question.server_name = Some(value.into_owned()),
            "identity" => question.identity = Some(value.into_owned()),
            "method" => question.method = value.into_owned(),
            "host" => question.authority = value.into_owned(),
            "path" => question.target = value.into_owned(),
            "header" => {
                let (name, value) =
                    value.split_once(':').ok_or_else(|| format!("header {value:?} is not name:value"))?;
                question.headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
            }
            other => return Err(format!("there is no parameter {other:?}")),
        }
    }
    if question.destination.port() == 0 {
        return Err("destination=ip:port is missing".into());
    }
    Ok(question)
}
