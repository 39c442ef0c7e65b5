//! How a cluster's endpoints are picked, tried again, spared and limited, and how much a service lets in.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Origin;

/// How an endpoint is picked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Balancing {
    /// By what.
    pub policy: BalancingPolicy,
    /// For `hash`: the key of a request is the value of this header, lower case.
    pub header: Option<String>,
    /// For `hash`: the key of a request is the value of this cookie. With neither it is the client's address. A request
    /// without its key goes in turn.
    pub cookie: Option<String>,
    /// Object that says so; absent where it is the default.
    pub origin: Option<Origin>,
}

/// By what an endpoint is picked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BalancingPolicy {
    /// In turn, exactly by weight.
    #[default]
    RoundRobin,
    /// The one with less in hand, of two drawn by weight.
    LeastWork,
    /// The same key, the same endpoint, as long as it is there and well.
    Hash,
}

/// Which failed requests are tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// Object that says so, such as `Retry/demo/retry`.
    pub origin: Origin,
    /// Statuses that are tried again; failures of the proxy's own count as what they would be answered with: 502 for
    /// an endpoint that can't be reached or breaks off, 504 for one that takes too long.
    #[serde(default)]
    pub statuses: Vec<StatusRange>,
    /// Whether a connection that could not be made is tried again, whatever `statuses` says.
    #[serde(default)]
    pub connect_failure: bool,
    /// Whether an exchange that broke off before an answer is tried again, whatever `statuses` says.
    #[serde(default)]
    pub reset: bool,
    /// Retries after the first try.
    pub retries_max: u32,
    /// How long one try may take until the answer begins; 0: no limit.
    #[serde(default)]
    pub per_try_timeout_ms: u64,
    /// The pause before the first retry. It doubles up to ten times; each is between half and all of that.
    #[serde(default = "backoff_ms")]
    pub backoff_ms: u64,
}

fn backoff_ms() -> u64 {
    25
}

/// Statuses from one to another, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StatusRange {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

/// When nothing is asked of a cluster for a while. One state per cluster and worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CircuitBreaker {
    /// Object that says so, such as `UpstreamTrafficSetting/demo/breaker`.
    pub origin: Origin,
    /// How long answers are counted together.
    pub window_ms: u64,
    /// Requests that a window must have before shares are looked at.
    #[serde(default)]
    pub requests_min: u32,
    /// How long it stays open.
    pub open_ms: u64,
    /// From when on an answer is slow.
    #[serde(default = "slow_ms")]
    pub slow_ms: u64,
    /// Slow answers that open it; 0: not watched.
    #[serde(default)]
    pub slow_amount: u32,
    /// Slow answers among a thousand that open it; 0: not watched.
    #[serde(default)]
    pub slow_permille: u32,
    /// Errors (5xx, or none) that open it; 0: not watched.
    #[serde(default)]
    pub error_amount: u32,
    /// Errors among a thousand that open it; 0: not watched.
    #[serde(default)]
    pub error_permille: u32,
    /// What is answered while it is open.
    #[serde(default = "degraded_status")]
    pub status: u16,
    /// The body of that answer.
    #[serde(default = "degraded_body")]
    pub body: String,
}

fn slow_ms() -> u64 {
    5_000
}

fn degraded_status() -> u16 {
    409
}

fn degraded_body() -> String {
    "Coming soon ...".to_owned()
}

/// When an endpoint gets no requests for a while. `0` means that something is not watched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PassiveHealth {
    /// Connections in a row that could not be made.
    pub connect_failures: u32,
    /// Answers in a row that are failures (5xx, none).
    pub consecutive_failures: u32,
    /// Failures among a hundred requests of a window.
    pub failure_percent: u32,
    /// Requests that a window must have before that share is looked at.
    pub requests_min: u32,
    /// The window.
    pub window_ms: u64,
    /// The first ejection's time; it doubles each time.
    pub ejection_ms: u64,
    /// The longest ejection.
    pub ejection_max_ms: u64,
    /// How many of a hundred endpoints may be ejected at once; one of several always may, and never all.
    pub ejected_percent_max: u32,
    /// Object that says so; absent where it is the default.
    pub origin: Option<Origin>,
}

impl Default for PassiveHealth {
    fn default() -> Self {
        // WHY only connections: that none can be made is the endpoint's fault; what an application answers may be
        // the request's.
        PassiveHealth {
            connect_failures: 3,
            consecutive_failures: 0,
            failure_percent: 0,
            requests_min: 20,
            window_ms: 10_000,
            ejection_ms: 1_000,
            ejection_max_ms: 30_000,
            ejected_percent_max: 50,
            origin: None,
        }
    }
}

/// How much is let in: requests of a service or route, connections of a port. One bucket per rule and worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Object that says so, such as `UpstreamTrafficSetting/demo/limit`.
    pub origin: Origin,
    /// So many per window.
    pub amount: u32,
    /// The window.
    pub window_ms: u64,
    /// How many may come at once; 0: `amount`.
    #[serde(default)]
    pub burst: u32,
    /// What a request over the limit is answered; connections are reset.
    #[serde(default = "too_many")]
    pub status: u16,
    /// Headers of that answer.
    #[serde(default)]
    pub headers: Vec<ExtraHeader>,
}

fn too_many() -> u16 {
    429
}

/// A header that is added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExtraHeader {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// What is wrong, with the path under that of the object itself.
pub(crate) type Faults = Vec<(String, String)>;

impl Retry {
    pub(crate) fn faults(&self) -> Faults {
        let mut faults = Vec::new();
        for (i, range) in self.statuses.iter().enumerate() {
            if !(100..=599).contains(&range.first) || !(range.first..=599).contains(&range.last) {
                let what = format!("{} to {} is no range of statuses", range.first, range.last);
                faults.push((format!("statuses[{i}]"), what));
            }
        }
        if self.statuses.is_empty() && !self.connect_failure && !self.reset {
            faults.push(("statuses".to_owned(), "is empty, nothing would ever be retried".to_owned()));
        }
        faults
    }
}

impl CircuitBreaker {
    pub(crate) fn faults(&self) -> Faults {
        let mut faults = Vec::new();
        let shares = [("slow_permille", self.slow_permille), ("error_permille", self.error_permille)];
        for (name, permille) in shares.into_iter().filter(|(_, permille)| *permille > 1_000) {
            faults.push((name.to_owned(), format!("{permille} is more than a thousand")));
        }
        if self.window_ms == 0 {
            faults.push(("window_ms".to_owned(), "is 0, nothing could be counted".to_owned()));
        }
        faults.extend(status(self.status));
        faults
    }
}

impl RateLimit {
    pub(crate) fn faults(&self) -> Faults {
        let mut faults: Faults = status(self.status).into_iter().collect();
        if self.window_ms == 0 {
            faults.push(("window_ms".to_owned(), "is 0".to_owned()));
        }
        for (i, header) in self.headers.iter().enumerate() {
            let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
            if header.name.is_empty() || !header.name.bytes().all(token) {
                faults.push((format!("headers[{i}].name"), format!("{:?} is no header name", header.name)));
            }
            let plain = |b: u8| b == b'\t' || (b >= b' ' && b != 0x7f);
            if !header.value.bytes().all(plain) || header.value.trim() != header.value {
                let what = format!("{:?} is no header value", header.value);
                faults.push((format!("headers[{i}].value"), what));
            }
        }
        faults
    }
}

/// An answer must be a final one.
fn status(status: u16) -> Option<(String, String)> {
    let fits = (200..=599).contains(&status);
    (!fits).then(|| ("status".to_owned(), format!("{status} is not a final status")))
}
