//! Connections to endpoints: how one is opened, over TLS where the endpoint has an identity.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use pipy_filters::{
    CodecBytes, Http2Client, Http2Settings, HttpClient, HttpVersion, Scheme, Session, TlsClient,
};
use pipy_observe::WorkerMetrics;
use pipy_pipeline::{ConnectTo, Cx, Filter, PipelineId};
use pipy_worker::Accepted;
use rustls::pki_types::ServerName;

use crate::exchange::{Direction, Exchange};
use crate::runtime::{Active, Endpoint, Load};
use crate::sidecar::Shared;

/// The application sees requests come from this address, which tells them apart from those that the redirection must
/// still catch.
const LOCAL_SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6));

/// How an endpoint is reached.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    pub(crate) source: Option<IpAddr>,
    pub(crate) also: Option<(SocketAddr, Option<IpAddr>)>,
    /// For the connection attempt.
    pub(crate) timeout: Duration,
    /// For the TLS handshake after it.
    pub(crate) handshake: Duration,
}

/// How a session is kept.
pub(super) struct Keeping<'c> {
    pub(super) load: &'c Rc<Load>,
    /// Without a request.
    pub(super) idle: Duration,
    /// At all; zero: for ever.
    pub(super) age: Duration,
    /// Requests at once in HTTP/2; 0: as many as the codec takes.
    pub(super) streams_max: u32,
}

/// From where a sidecar connects: to its own application in a way that tells it from others, of the Pod and outside.
///
/// Over IPv6 loopback has one address only, and an application may trust it. So there the source is the Pod's own address,
/// the one that the client reached.
pub(crate) fn source(direction: Direction, to: SocketAddr, accepted: &Accepted) -> Option<IpAddr> {
    if direction != Direction::Inbound || !to.ip().is_loopback() {
        return None;
    }
    match (to.ip(), accepted.destination.ip()) {
        // Only loopback can be reached from loopback.
        (IpAddr::V4(_), _) => Some(LOCAL_SOURCE),
        (IpAddr::V6(_), own @ IpAddr::V6(_)) if !own.is_loopback() => Some(own),
        _ => None,
    }
}

/// An application that listens on IPv4 alone is reached there by clients that come over IPv6 too.
pub(crate) fn also(direction: Direction, to: SocketAddr) -> Option<(SocketAddr, Option<IpAddr>)> {
    let local = direction == Direction::Inbound && to.ip() == IpAddr::V6(Ipv6Addr::LOCALHOST);
    local.then(|| ((Ipv4Addr::LOCALHOST, to.port()).into(), Some(LOCAL_SOURCE)))
}

/// Counts a connection while it is there, and how its server has broken the rules when it is gone: also where no request
/// was under way that could tell.
struct Watched {
    session: Rc<Session>,
    metrics: WorkerMetrics,
    _counted: Active,
}

/// Counts how a server has broken the rules, once.
pub(super) fn count_fault(session: &Session, metrics: &WorkerMetrics) {
    if let Some(label) = session.take_fault() {
        metrics.proxy.upstream_protocol_errors.get(label).inc();
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        count_fault(&self.session, &self.metrics);
    }
}

/// After how long a silence another sidecar is asked whether it is still there, while requests wait for it: a machine that
/// is gone sends no reset, and many requests share the connection.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// Opens a session to an endpoint. One that carries many requests is kept for others from the start. `None` without the
/// credentials for it.
pub(super) fn open_session(
    cx: &mut Cx<'_>,
    exchange: &Exchange,
    endpoint: &Endpoint,
    upstream: &Upstream,
    keeping: &Keeping<'_>,
    version: HttpVersion,
) -> Option<Rc<Session>> {
    let shared = &exchange.connection.shared;
    let watched = |session: &Rc<Session>| {
        let (session, metrics) = (Rc::clone(session), shared.metrics.clone());
        Box::new(Watched { session, metrics, _counted: keeping.load.connection() })
    };
    if version == HttpVersion::Http1 {
        let session = Rc::new(Session::exclusive());
        let guard = watched(&session);
        let client = HttpClient::new(Rc::clone(&session), keeping.idle, guard).aging(keeping.age);
        open_upstream(cx, shared, endpoint, upstream, Some(Box::new(client)), &[])?;
        return Some(session);
    }
    // Servers of gRPC take a PING without data for rude; on loopback none is needed.
    let keepalive = if endpoint.identity.is_some() { KEEPALIVE } else { Duration::ZERO };
    let Keeping { idle, age, streams_max, .. } = *keeping;
    let settings = Http2Settings {
        scheme: if endpoint.outside.is_some() { Scheme::Https } else { Scheme::Http },
        idle,
        keepalive,
        age,
        streams_max,
        bytes: CodecBytes::STANDARD,
    };
    let session = Rc::new(Session::multiplexed(settings.streams_first()));
    let client = Http2Client::new(Rc::clone(&session), settings, cx.now(), watched(&session));
    open_upstream(cx, shared, endpoint, upstream, Some(Box::new(client)), &[b"h2"])?;
    endpoint.keep(&session);
    Some(session)
}

/// Opens a connection to an endpoint, over TLS where it has an identity or is outside and wants it, which must then agree
/// on one of the protocols if there are any; `codec` comes before that. `None` without the credentials for it.
pub(crate) fn open_upstream(
    cx: &mut Cx<'_>,
    shared: &Shared,
    endpoint: &Endpoint,
    upstream: &Upstream,
    codec: Option<Box<dyn Filter>>,
    protocols: &[&[u8]],
) -> Option<PipelineId> {
    let mut filters: Vec<Box<dyn Filter>> = Vec::with_capacity(2);
    filters.extend(codec);
    let credentials = shared.credentials.borrow();
    let address = upstream.address.ip();
    let tls = match (&endpoint.identity, &endpoint.outside) {
        (Some(identity), _) => {
            let (generation, credentials) = credentials.as_ref()?;
            let config = endpoint.client_config(identity, *generation, credentials).ok()?;
            Some((config, ServerName::IpAddress(address.into())))
        }
        (None, Some(outside)) => {
            Some((outside.client_config(credentials.as_ref())?, outside.server_name(address)?))
        }
        (None, None) => None,
    };
    if let Some((mut config, name)) = tls {
        if !protocols.is_empty() {
            let own = Arc::make_mut(&mut config);
            own.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        }
        // Without a limit on one of the two there is none on their sum.
        let limited = !upstream.timeout.is_zero() && !upstream.handshake.is_zero();
        let timeout = if limited { upstream.timeout + upstream.handshake } else { Duration::ZERO };
        let client = TlsClient::new(config, name, timeout).ok()?;
        filters.push(Box::new(client.telling_disagreement(Rc::clone(&endpoint.only_http1))));
    }
    let pipeline = cx.open_free(filters);
    let to = ConnectTo {
        address: upstream.address,
        source: upstream.source,
        also: upstream.also,
        timeout: upstream.timeout,
        tell: false,
    };
    cx.connect(pipeline, to);
    Some(pipeline)
}
