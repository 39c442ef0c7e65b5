//! The three calls of the protocol, over HTTPS.
//!
//! What comes in: what to say. What goes out: the answer, or a [`Failure`] that says whose fault it is. One
//! [`Calls`] is one identity: none (to get the first certificate) or a certificate; its connection is kept between
//! polls.
//!
//! INVARIANT: every wait has a limit and every body a bound. No proxy from the environment, no redirect, no cookie:
//! only the control plane itself is ever spoken to.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::AlertDescription;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use ureq::config::Config;
use ureq::http::{Response, StatusCode, Uri};
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{Connector, NextTimeout, RustlsConnector};
use ureq::{Agent, Body};

use crate::error::{Blame, Failure};
use crate::identity::Credentials;
use crate::marked::MarkedConnector;
use crate::settings::{Pod, Settings};
use crate::stop::Stop;

/// LIMIT: bytes of a configuration, as the protocol says.
pub const CONFIG_BYTES_MAX: u64 = 64 << 20;
/// LIMIT: bytes of an answer with a certificate. A chain and roots take ten kilobytes.
pub const ANSWER_BYTES_MAX: u64 = 1 << 20;
/// LIMIT: bytes of an answer that says why not.
pub const ERROR_BYTES_MAX: u64 = 16 << 10;
/// LIMIT: characters of a reason, theirs or ours; the control plane keeps as many.
const REASON_CHARS_MAX: usize = 2000;
/// LIMIT: characters of a version.
const VERSION_CHARS_MAX: usize = 128;
/// LIMIT: bytes held per connection while it waits; bodies are read in steps of this.
const BUFFER_BYTES: usize = 16 << 10;
/// LIMIT: bytes of an answer's head. Less than the buffer, or a larger one would look like a lost connection.
const HEAD_BYTES_MAX: usize = 8 << 10;

/// What a difference in place of a whole configuration is called. Source: RFC 3229.
const DIFFERENCE: &str = "fsm-difference";

/// What a poll brought.
pub(crate) enum Polled {
    Unchanged,
    Config { version: String, bytes: Vec<u8>, how: Sent, begun: Instant, received: Instant },
}

/// How a configuration was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    Whole,
    Difference,
}

/// What a poll tells.
pub(crate) struct Said<'a> {
    /// The last version received.
    pub(crate) version: &'a str,
    /// The last version applied.
    pub(crate) applied: &'a str,
    /// Whom we believe.
    pub(crate) trust: &'a str,
    /// Whether a difference from the last version received would do.
    pub(crate) takes_difference: bool,
}

/// What became of a configuration.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Acknowledgement {
    pub(crate) version: String,
    pub(crate) outcome: &'static str,
    pub(crate) reason: String,
    /// From the head of the answer until its body had arrived.
    pub(crate) received_ms: u64,
    /// From the head of the answer until the owner had dealt with it.
    pub(crate) applied_ms: u64,
}

impl Acknowledgement {
    pub(crate) fn refused(version: String, reason: &str) -> Self {
        let reason = reason.chars().take(REASON_CHARS_MAX).collect();
        Acknowledgement { version, outcome: "refused", reason, received_ms: 0, applied_ms: 0 }
    }
}

/// Speaks to the control plane with one identity.
pub(crate) struct Calls {
    agent: Agent,
    origin: String,
    address: String,
    answer_timeout: Duration,
}

impl Calls {
    /// Prepares; connects to nothing yet.
    pub(crate) fn new(
        settings: &Settings,
        roots: &[CertificateDer<'static>],
        credentials: Option<&Credentials>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, Failure> {
        let roots: Vec<_> = roots.iter().map(|root| Certificate::from_der(root).to_owned()).collect();
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(&roots))
            .client_cert(credentials.map(client_certificate).transpose()?)
            .unversioned_rustls_crypto_provider(Arc::clone(provider))
            .build();
        let config = Config::builder()
            .tls_config(tls)
            .https_only(true)
            // WHY: the default takes a proxy from the environment, which is the application's, not ours.
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .user_agent(concat!("pipy/", env!("CARGO_PKG_VERSION")))
            .input_buffer_size(BUFFER_BYTES)
            .output_buffer_size(BUFFER_BYTES)
            .max_response_header_size(HEAD_BYTES_MAX)
            .max_idle_connections(1)
            .timeout_resolve(Some(settings.connect_timeout))
            .timeout_connect(Some(settings.connect_timeout))
            .timeout_send_request(Some(settings.answer_timeout))
            .timeout_send_body(Some(settings.answer_timeout))
            .timeout_recv_response(Some(settings.answer_timeout))
            .timeout_recv_body(Some(settings.answer_timeout))
            .build();
        let at = settings.address()?;
        let address = at.authority().map(ToString::to_string).unwrap_or_default();
        let agent = {
            let connector = MarkedConnector { mark: settings.mark }.chain(RustlsConnector::default());
            Agent::with_parts(config, connector, At(at))
        };
        let origin = settings.origin()?;
        Ok(Calls { agent, origin, address, answer_timeout: settings.answer_timeout })
    }

    /// Lets a stop end our requests.
    pub(crate) fn watched_by(&self, stop: &Stop) -> Result<(), Failure> {
        stop.watch(&self.agent)
    }

    /// `POST /v1/certificates`: the raw answer.
    pub(crate) fn certify(&self, token: &str, csr: &str, pod: &Pod) -> Result<Vec<u8>, Failure> {
        #[derive(Serialize)]
        struct PodBody<'a> {
            namespace: &'a str,
            name: &'a str,
            uid: &'a str,
        }
        #[derive(Serialize)]
        struct Body<'a> {
            csr: &'a str,
            pod: PodBody<'a>,
        }
        let pod = PodBody { namespace: &pod.namespace, name: &pod.name, uid: &pod.uid };
        let body = json(&Body { csr, pod })?;
        let answer = self
            .agent
            .post(format!("{}/v1/certificates", self.origin))
            .header("authorization", format!("Bearer {token}"))
            .content_type("application/json")
            .send(&body[..])
            .map_err(|error| self.failure(error))?;
        self.body(self.accepted(answer, StatusCode::OK)?, ANSWER_BYTES_MAX)
    }

    /// `GET /v1/config`: what is newer than the version received, after `wait_s` at the latest; and within how many
    /// seconds the certificate should be renewed, if it should be.
    pub(crate) fn poll(
        &self,
        pod: &Pod,
        said: Said<'_>,
        wait_s: u64,
    ) -> Result<(Polled, Option<u64>), Failure> {
        let mut request = self
            .agent
            .get(format!("{}/v1/config", self.origin))
            .query("version", said.version)
            .query("wait_s", wait_s.to_string())
            .header("fsm-pod", pod_header(pod))
            .header("fsm-applied", said.applied)
            .header("fsm-trust", said.trust);
        if said.takes_difference {
            request = request.header("a-im", DIFFERENCE);
        }
        let answer = request
            .config()
            .timeout_recv_response(Some(Duration::from_secs(wait_s) + self.answer_timeout))
            .build()
            .call()
            .map_err(|error| self.failure(error))?;
        let begun = Instant::now();
        // What is no number asks for nothing.
        let renew = answer.headers().get("fsm-renew").and_then(|value| value.to_str().ok()?.parse().ok());
        if answer.status() == StatusCode::NOT_MODIFIED {
            self.body(answer, ERROR_BYTES_MAX)?;
            return Ok((Polled::Unchanged, renew));
        }
        let how = match answer.status() {
            StatusCode::IM_USED if said.takes_difference => Sent::Difference,
            _ => Sent::Whole,
        };
        let expected = if how == Sent::Difference { StatusCode::IM_USED } else { StatusCode::OK };
        let answer = self.accepted(answer, expected)?;
        let version = etag(&answer)?;
        let bytes = self.body(answer, CONFIG_BYTES_MAX)?;
        Ok((Polled::Config { version, bytes, how, begun, received: Instant::now() }, renew))
    }

    /// `POST /v1/acks`.
    pub(crate) fn acknowledge(&self, pod: &Pod, ack: &Acknowledgement) -> Result<(), Failure> {
        let answer = self
            .agent
            .post(format!("{}/v1/acks", self.origin))
            .header("fsm-pod", pod_header(pod))
            .content_type("application/json")
            .send(&json(ack)?[..])
            .map_err(|error| self.failure(error))?;
        self.body(self.accepted(answer, StatusCode::NO_CONTENT)?, ERROR_BYTES_MAX).map(drop)
    }

    fn body(&self, answer: Response<Body>, limit: u64) -> Result<Vec<u8>, Failure> {
        match answer.into_body().into_with_config().limit(limit).read_to_vec() {
            Ok(body) => Ok(body),
            Err(ureq::Error::BodyExceedsLimit(_)) => {
                Err(Failure::Garbage(format!("its body is larger than {limit} bytes")))
            }
            Err(error) => Err(self.failure(error)),
        }
    }

    /// Lets the expected status pass, and turns any other into what it says.
    fn accepted(&self, answer: Response<Body>, expected: StatusCode) -> Result<Response<Body>, Failure> {
        let status = answer.status();
        if status == expected {
            return Ok(answer);
        }
        let mut reason = self.body(answer, ERROR_BYTES_MAX).map(|body| reason_of(&body)).unwrap_or_default();
        if reason.is_empty() {
            status.canonical_reason().unwrap_or("no reason given").clone_into(&mut reason);
        }
        let status = status.as_u16();
        match status {
            404 | 408 | 425 | 429 | 500.. => Err(Failure::NotReady { status, reason }),
            400..500 => Err(Failure::Denied { status, reason }),
            _ => Err(Failure::Garbage(format!("it has the unexpected status {status}"))),
        }
    }

    fn failure(&self, error: ureq::Error) -> Failure {
        let address = self.address.clone();
        let tls = match &error {
            ureq::Error::Rustls(error) => Some(error),
            ureq::Error::Io(io) => io.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()),
            _ => None,
        };
        let (reason, certificate) = match (&error, tls) {
            (_, Some(rustls::Error::InvalidCertificate(why))) => {
                return Failure::Untrusted { address, reason: why.to_string() };
            }
            (ureq::Error::Protocol(error), _) => return Failure::Garbage(format!("it is not HTTP: {error}")),
            (ureq::Error::LargeResponseHeader(..), _) => {
                return Failure::Garbage(format!("its head is larger than {HEAD_BYTES_MAX} bytes"));
            }
            (_, Some(rustls::Error::AlertReceived(alert))) => {
                let blame = if about_certificate(*alert) { Blame::Yes } else { Blame::No };
                (format!("it ended the TLS connection: {alert:?}"), blame)
            }
            (ureq::Error::Io(io), _) => {
                let hung_up = matches!(
                    io.kind(),
                    ErrorKind::ConnectionReset
                        | ErrorKind::ConnectionAborted
                        | ErrorKind::BrokenPipe
                        | ErrorKind::UnexpectedEof
                );
                (io.to_string(), if hung_up { Blame::Perhaps } else { Blame::No })
            }
            (ureq::Error::HostNotFound, _) => ("its name has no address".to_owned(), Blame::No),
            (ureq::Error::Timeout(what), _) => (format!("it took too long ({what})"), Blame::No),
            _ => (error.to_string(), Blame::No),
        };
        Failure::Unreachable { address, reason, certificate }
    }
}

/// Connects to one address, whatever name is asked for: the name is what the certificate must carry.
#[derive(Debug)]
struct At(Uri);

impl Resolver for At {
    fn resolve(
        &self,
        _uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        DefaultResolver::default().resolve(&self.0, config, timeout)
    }
}

fn client_certificate(credentials: &Credentials) -> Result<ClientCert, Failure> {
    let chain: Vec<_> = credentials.chain.iter().map(|link| Certificate::from_der(link).to_owned()).collect();
    let key = PrivateKey::from_pem(credentials.key_pem.as_bytes())
        .map_err(|error| Failure::Local(format!("the new key cannot be read: {error}")))?;
    Ok(ClientCert::new_with_certs(&chain, key))
}

fn pod_header(pod: &Pod) -> String {
    format!("{}/{}/{}", pod.namespace, pod.name, pod.uid)
}

fn json(body: &impl Serialize) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(body).map_err(|error| Failure::Local(format!("cannot write JSON: {error}")))
}

/// The version, from `ETag: "version"`.
fn etag(answer: &Response<Body>) -> Result<String, Failure> {
    let fault = |why: &str| Failure::Garbage(format!("its ETag {why}"));
    let value = answer.headers().get("etag").ok_or_else(|| fault("is missing"))?;
    let version = value
        .to_str()
        .ok()
        .and_then(|text| text.strip_prefix('"')?.strip_suffix('"'))
        .ok_or_else(|| fault("is not a quoted version"))?;
    let plain = version.bytes().all(|b| b.is_ascii_graphic());
    if version.is_empty() || version.len() > VERSION_CHARS_MAX || !plain {
        return Err(fault("is empty, too long or not plain text"));
    }
    Ok(version.to_owned())
}

/// The words of a refusal: `{"error": …}`, or the text itself; on one line.
fn reason_of(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
    }
    let text = match serde_json::from_slice::<Refusal>(body) {
        Ok(refusal) => refusal.error,
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    let text: String =
        text.chars().take(REASON_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    text.trim().to_owned()
}

fn about_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::CertificateRequired
            | AlertDescription::DecryptError
    )
}
