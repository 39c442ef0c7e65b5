//! What the client has to know: where the control plane is, who we are, how patient to be.

use std::path::PathBuf;
use std::time::Duration;

use ureq::http::Uri;
use ureq::http::uri::Authority;

use crate::error::Failure;

/// LIMIT: the control plane waits no longer than this for a change.
const POLL_WAIT_MAX: Duration = Duration::from_secs(55);

/// Names the Pod that this proxy stands beside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// How to reach the control plane, and whose proxy this is.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to connect to: `host:port` or `https://host:port`.
    pub control_plane: String,
    /// The DNS name that the control plane's certificate must carry.
    pub server_name: String,
    /// The mesh root, PEM; read again for every certificate.
    pub ca_file: PathBuf,
    /// The ServiceAccount token with the audience `fsm-controller`; read again for every certificate.
    pub token_file: PathBuf,
    /// Whose proxy this is.
    pub pod: Pod,
    /// Packet mark of the connections, where the Pod's redirection tells the sidecar's own traffic by it.
    pub mark: Option<u32>,
    /// How long a poll waits for a change; 1 to 55 s.
    pub poll_wait: Duration,
    /// LIMIT: to connect, TLS included.
    pub connect_timeout: Duration,
    /// LIMIT: for an answer to begin, beyond what the poll waits; and then for its body to arrive.
    pub answer_timeout: Duration,
    /// Pause after the first failure; doubles with each further one. Pauses are jittered.
    pub backoff_min: Duration,
    /// The longest pause.
    pub backoff_max: Duration,
}

impl Settings {
    /// Settings with the usual patience.
    pub fn new(
        control_plane: impl Into<String>,
        server_name: impl Into<String>,
        ca_file: impl Into<PathBuf>,
        token_file: impl Into<PathBuf>,
        pod: Pod,
    ) -> Self {
        Settings {
            control_plane: control_plane.into(),
            server_name: server_name.into(),
            ca_file: ca_file.into(),
            token_file: token_file.into(),
            pod,
            mark: None,
            poll_wait: Duration::from_secs(50),
            connect_timeout: Duration::from_secs(5),
            answer_timeout: Duration::from_secs(15),
            backoff_min: Duration::from_millis(200),
            backoff_max: Duration::from_secs(10),
        }
    }

    /// What a poll asks for, whole seconds.
    pub(crate) fn poll_wait_s(&self) -> u64 {
        self.poll_wait.clamp(Duration::from_secs(1), POLL_WAIT_MAX).as_secs()
    }

    /// Where to connect to.
    pub(crate) fn address(&self) -> Result<Uri, Failure> {
        let address = self.control_plane.strip_prefix("https://").unwrap_or(&self.control_plane);
        let address = address.trim_end_matches('/');
        let fault = |why: &str| Failure::Local(format!("the control plane's address {address:?} {why}"));
        let authority: Authority = address.parse().map_err(|_| fault("is not host:port"))?;
        if authority.port_u16().is_none() {
            return Err(fault("has no port"));
        }
        uri(authority)
    }

    /// What to ask for: the server's own name with the port of its address.
    pub(crate) fn origin(&self) -> Result<String, Failure> {
        let port = self.address()?.port_u16().unwrap_or_default();
        let authority: Authority = format!("{}:{port}", self.server_name)
            .parse()
            .map_err(|_| Failure::Local(format!("{:?} is not a server name", self.server_name)))?;
        Ok(format!("https://{authority}"))
    }
}

fn uri(authority: Authority) -> Result<Uri, Failure> {
    Uri::builder()
        .scheme("https")
        .authority(authority)
        .path_and_query("/")
        .build()
        .map_err(|error| Failure::Local(format!("the control plane's address cannot be used: {error}")))
}
