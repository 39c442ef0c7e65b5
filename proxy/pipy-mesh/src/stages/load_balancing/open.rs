//! Connections to endpoints: how one is opened, over TLS where the endpoint has an identity.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use pipy_filters::{HttpClient, Session, TlsClient};
use pipy_observe::ClusterCounters;
use pipy_pipeline::{ConnectTo, Cx, Filter, PipelineId};
use rustls::pki_types::ServerName;

use crate::exchange::Direction;
use crate::runtime::Endpoint;
use crate::sidecar::Shared;

/// LIMIT: how long a connection to an endpoint is kept unused. Below the keep-alive of common servers (nginx 75 s, Go
/// none, Apache 5 s), so that most are closed by us and not under a request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// The application sees requests come from this address, which tells them apart from those that the redirection must
/// still catch.
const LOCAL_SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6));

/// How an endpoint is reached.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    pub(crate) source: Option<IpAddr>,
    /// For the connection attempt.
    pub(crate) timeout: Duration,
    /// For the TLS handshake after it.
    pub(crate) handshake: Duration,
}

/// From where a sidecar connects: to its own application in a way that tells it from others.
pub(crate) fn source(direction: Direction, to: SocketAddr) -> Option<IpAddr> {
    // Only loopback can be reached from loopback.
    let local = to.is_ipv4() && to.ip().is_loopback();
    (direction == Direction::Inbound && local).then_some(LOCAL_SOURCE)
}

/// Counts a connection as long as it lives.
pub(crate) struct Active(Arc<ClusterCounters>);

impl Active {
    pub(crate) fn new(counters: &Arc<ClusterCounters>) -> Self {
        counters.cx_total.inc();
        counters.cx_active.inc();
        Active(Arc::clone(counters))
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.cx_active.dec();
    }
}

/// Opens a session to an endpoint. `None` without the credentials for it.
pub(super) fn open_session(
    cx: &mut Cx<'_>,
    shared: &Shared,
    endpoint: &Endpoint,
    upstream: &Upstream,
    counters: &Arc<ClusterCounters>,
) -> Option<Rc<Session>> {
    let session = Rc::new(Session::exclusive());
    let guard = Box::new(Active::new(counters));
    let client = HttpClient::new(Rc::clone(&session), IDLE_TIMEOUT, guard);
    open_upstream(cx, shared, endpoint, upstream, Some(Box::new(client)))?;
    Some(session)
}

/// Opens a connection to an endpoint, over TLS where it has an identity; `codec` comes before that. `None` without the
/// credentials for it.
pub(crate) fn open_upstream(
    cx: &mut Cx<'_>,
    shared: &Shared,
    endpoint: &Endpoint,
    upstream: &Upstream,
    codec: Option<Box<dyn Filter>>,
) -> Option<PipelineId> {
    let mut filters: Vec<Box<dyn Filter>> = Vec::with_capacity(2);
    filters.extend(codec);
    if let Some(identity) = &endpoint.identity {
        let credentials = shared.credentials.borrow();
        let (generation, credentials) = credentials.as_ref()?;
        let config = endpoint.client_config(identity, *generation, credentials).ok()?;
        let name = ServerName::IpAddress(upstream.address.ip().into());
        // Without a limit on one of the two there is none on their sum.
        let limited = !upstream.timeout.is_zero() && !upstream.handshake.is_zero();
        let timeout = if limited { upstream.timeout + upstream.handshake } else { Duration::ZERO };
        filters.push(Box::new(TlsClient::new(config, name, timeout).ok()?));
    }
    let pipeline = cx.open_free(filters);
    let to = ConnectTo {
        address: upstream.address,
        source: upstream.source,
        timeout: upstream.timeout,
        tell: false,
    };
    cx.connect(pipeline, to);
    Some(pipeline)
}
