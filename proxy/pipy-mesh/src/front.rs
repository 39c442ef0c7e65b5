//! The front of each connection's pipeline: what ends TLS, reads a PROXY header, finds the protocol out, and carries the
//! bytes or requests on.
//!
//! In: an accepted connection. Out: a verdict with the filters that it runs through:
//!
//! ```text
//!   inbound   [acceptProxyProtocol → Sniff] → [acceptTLS] → [Sniff] → demuxHTTP | TcpForward
//!   outbound                                                [Sniff] → demuxHTTP | TcpForward
//! ```
//!
//! INVARIANT: a client that a PROXY header names is decided about after the header, never before; a member of the mesh
//! whose address a rule for strangers covers is a member still. Not here: the decisions
//! (`decide`), what requests run through (`sidecar`).

use std::cell::{Cell, OnceCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use pipy_config::{Mtls, Protocol};
use pipy_filters::proxy_protocol::{AcceptProxyProtocol, Addresses, Header, HeaderError};
use pipy_filters::{Handshake, HttpServer, HttpServerLimits, TlsServer};
use pipy_pipeline::Filter;
use pipy_worker::{Accepted, Verdict};

use crate::decide::{self, InboundConnection, OutboundConnection, Refusal, SourcePlan};
use crate::exchange::{Connection, Direction};
use crate::plan::{InboundMatch, OutboundMatch, TcpPlan};
use crate::runtime::Runtime;
use crate::sidecar::{Requests, Shared};
use crate::sniff::{Answer, Next, Question, Sniff};
use crate::stages::carry;
use crate::tcp::Way;

/// See the module. Cheap to clone: filters that decide later hold one.
#[derive(Clone)]
pub(crate) struct Front {
    pub(crate) shared: Rc<Shared>,
}

/// What is known of a connection when its bytes are carried on.
struct Begun {
    connection: Rc<Connection>,
    runtime: Rc<Runtime>,
    protocol: Protocol,
    /// The object that made the match.
    origin: Arc<str>,
    tcp: Option<Arc<TcpPlan>>,
    /// Something else comes first (TLS, a PROXY header): the first event tells that it is done.
    after: bool,
}

/// What a client of the inbound listener speaks to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tls {
    None,
    /// It proves who it is.
    Mutual,
    /// It is asked for no certificate.
    Open,
}

impl Tls {
    /// What all of the rules that cover a client ask of it.
    fn of(sources: &[Arc<SourcePlan>]) -> Self {
        match sources.first().map(|source| (source.mtls, source.tls)) {
            Some((true, _)) => Tls::Mutual,
            Some((false, true)) => Tls::Open,
            _ => Tls::None,
        }
    }
}

impl Front {
    /// Decides about a connection to the application.
    pub(crate) fn inbound(&self, accepted: Accepted) -> Verdict {
        let runtime = self.shared.runtime.borrow().clone();
        if self.full(&runtime, Direction::Inbound, accepted) {
            return Verdict::Reset;
        }
        let headed = decide::has_proxy_header(&runtime.plan, accepted.destination, accepted.peer.ip());
        if headed { self.behind_header(accepted, &runtime) } else { self.client(accepted, false) }
    }

    /// The peer begins with a PROXY header.
    fn behind_header(&self, accepted: Accepted, runtime: &Runtime) -> Verdict {
        let timeout = Duration::from_millis(runtime.plan.timeouts.handshake_ms);
        let client = Rc::new(Cell::new(accepted));
        let (told, front) = (Rc::clone(&client), self.clone());
        let announce = Box::new(move |header: Result<Header, Option<HeaderError>>| {
            let header = match header {
                Ok(header) => header,
                Err(error) => {
                    let label = error.map_or("proxy_timeout", HeaderError::label);
                    front.shared.metrics.proxy.protocol_errors.get(label).inc();
                    let connection = front.connection(Direction::Inbound, accepted, Vec::new());
                    connection.refused(Refusal::NoProxyHeader, None);
                    return false;
                }
            };
            // Who speaks for itself, or for nobody that we know, is who it is.
            if let Addresses::Ip { source, datagram: false, .. } = header.addresses {
                told.set(Accepted { peer: source, ..accepted });
            }
            true
        });
        let front = self.clone();
        let next: Next = Box::new(move |_| front.client(client.get(), true));
        Verdict::Run(vec![
            Box::new(AcceptProxyProtocol::new(timeout, announce)),
            Box::new(Sniff::new(Question::Begin, Duration::ZERO, true, next)),
        ])
    }

    /// The client is known by its address.
    fn client(&self, accepted: Accepted, after_header: bool) -> Verdict {
        let runtime = self.shared.runtime.borrow().clone();
        let decision = decide::inbound_connection(&runtime.plan, accepted.destination, accepted.peer.ip());
        match decision {
            InboundConnection::Refuse(refusal) => {
                self.connection(Direction::Inbound, accepted, Vec::new()).refused(refusal, None);
                Verdict::Reset
            }
            InboundConnection::Member(rule) => {
                self.admit(accepted, &runtime, rule, Vec::new(), Tls::Mutual, after_header)
            }
            InboundConnection::Plain(rule) => {
                self.admit(accepted, &runtime, rule, Vec::new(), Tls::None, after_header)
            }
            InboundConnection::Source(rule, sources) => {
                let tls = Tls::of(&sources);
                let members = rule.mtls == Mtls::Strict && decide::is_http(rule.protocol);
                if tls == Tls::None && members {
                    return self.plain_or_member(accepted, &runtime, after_header);
                }
                self.admit(accepted, &runtime, rule, sources, tls, after_header)
            }
        }
    }

    /// Members may have addresses from which others come in plain text. They are told apart by the first byte.
    fn plain_or_member(&self, accepted: Accepted, runtime: &Rc<Runtime>, after_header: bool) -> Verdict {
        let timeout = Duration::from_millis(runtime.plan.timeouts.request_head_ms);
        let (front, runtime) = (self.clone(), Rc::clone(runtime));
        let next: Next = Box::new(move |answer| {
            let (to, peer) = (accepted.destination, accepted.peer.ip());
            match (decide::inbound_connection(&runtime.plan, to, peer), answer) {
                (InboundConnection::Source(rule, _), Answer::Tls) => {
                    front.admit(accepted, &runtime, rule, Vec::new(), Tls::Mutual, true)
                }
                (InboundConnection::Source(rule, sources), _) => {
                    front.admit(accepted, &runtime, rule, sources, Tls::None, true)
                }
                // The same plan, asked the same again.
                _ => Verdict::Reset,
            }
        });
        Verdict::Run(vec![Box::new(Sniff::new(Question::Tls, timeout, after_header, next))])
    }

    /// Carries a connection on that may come in.
    fn admit(
        &self,
        accepted: Accepted,
        runtime: &Rc<Runtime>,
        rule: &InboundMatch,
        sources: Vec<Arc<SourcePlan>>,
        tls: Tls,
        after_header: bool,
    ) -> Verdict {
        let connection = self.connection(Direction::Inbound, accepted, sources);
        if let Some(limit) = &rule.limit
            && !runtime.lets_in(limit, self.shared.now.get())
        {
            let of = format!("{}_{}_tcp", label(&runtime.plan.workload), accepted.destination.port());
            self.shared.metrics.proxy.rate_limited_inbound.get(&of).inc();
            connection.refused(Refusal::RateLimited, Some(&limit.origin));
            return Verdict::Reset;
        }
        let mut filters: Vec<Box<dyn Filter>> = Vec::with_capacity(2);
        if tls != Tls::None {
            connection.encrypted.set(true);
            // A protocol that is found out may not be agreed on before.
            let http = decide::is_http(rule.protocol);
            match self.tls_server(&connection, runtime, &rule.origin, (tls, http)) {
                Some(server) => filters.push(server),
                None => {
                    connection.refused(Refusal::NoCredentials, Some(&rule.origin));
                    return Verdict::Close;
                }
            }
        }
        let (protocol, origin, tcp) = (rule.protocol, Arc::clone(&rule.origin), rule.tcp.clone());
        let after = tls != Tls::None || after_header;
        let runtime = Rc::clone(runtime);
        filters.push(self.carry(Begun { connection, runtime, protocol, origin, tcp, after }, None));
        Verdict::Run(filters)
    }

    /// Decides about a connection of the application.
    pub(crate) fn outbound(&self, accepted: Accepted) -> Verdict {
        let runtime = self.shared.runtime.borrow().clone();
        if self.full(&runtime, Direction::Outbound, accepted) {
            return Verdict::Reset;
        }
        let connection = self.connection(Direction::Outbound, accepted, Vec::new());
        if let Some(identity) = &runtime.plan.identity {
            connection.peer.prove(identity.to_string());
        }
        let plan = Arc::clone(&runtime.plan);
        let filter = match decide::outbound_connection(&plan, accepted.destination) {
            OutboundConnection::Match(rule) => {
                let (protocol, origin, tcp) = (rule.protocol, Arc::clone(&rule.origin), rule.tcp.clone());
                self.carry(Begun { connection, runtime, protocol, origin, tcp, after: false }, Some(rule))
            }
            // A client that calls the listener itself would be connected to it again, without end.
            OutboundConnection::Passthrough if accepted.destination == accepted.local => {
                return Verdict::Close;
            }
            OutboundConnection::Passthrough => {
                let now = self.shared.now.get();
                carry(&connection, &runtime, Way::Original, None, false, now)
            }
            OutboundConnection::Refuse(refusal) => {
                connection.refused(refusal, None);
                return Verdict::Close;
            }
        };
        Verdict::Run(vec![filter])
    }

    /// Whether as many connections are open as may be; the one more is noted.
    fn full(&self, runtime: &Runtime, direction: Direction, accepted: Accepted) -> bool {
        let limits = &runtime.plan.connection_limits;
        let open = |direction: Direction| {
            let gauge = &self.shared.metrics.proxy.listeners.get(direction.label()).cx_active;
            gauge.get()
        };
        let (limit, other) = match direction {
            Direction::Inbound => (limits.inbound_connections_max, Direction::Outbound),
            Direction::Outbound => (limits.outbound_connections_max, Direction::Inbound),
        };
        // Most have no limits, and spare the counting.
        if limit == 0 && limits.connections_max == 0 {
            return false;
        }
        if decide::has_room(limit, open(direction), limits.connections_max, open(other)) {
            return false;
        }
        self.connection(direction, accepted, Vec::new()).refused(Refusal::Overloaded, None);
        true
    }

    /// What carries a connection on, once all is known that can be known before its first byte.
    fn carry(&self, begun: Begun, outbound: Option<&OutboundMatch>) -> Box<dyn Filter> {
        let timeouts = &begun.runtime.plan.timeouts;
        let detect = Duration::from_millis(timeouts.detect_ms);
        let (question, timeout) = match (begun.protocol, &begun.tcp) {
            (Protocol::Auto, Some(_)) => (Question::Protocol(Rc::clone(&begun.connection)), detect),
            (Protocol::Tls, others) => {
                // WHY: where other bytes have a rule too, they may be those of a server that speaks first.
                let handshake = Duration::from_millis(timeouts.handshake_ms);
                let wait = if others.is_some() { detect } else { handshake };
                let rules = outbound.map(|rule| rule.tls.clone()).unwrap_or_default();
                (Question::ServerName(Rc::clone(&begun.connection), rules, others.clone()), wait)
            }
            (Protocol::Http | Protocol::Grpc, _) => return self.http(&begun),
            (_, Some(rule)) => return self.tcp(&begun, Arc::clone(rule), begun.after),
            // The contract's parser lets none of these through.
            (_, None) => return self.http(&begun),
        };
        let after = begun.after;
        let front = self.clone();
        let next: Next = Box::new(move |answer| match (answer, &begun.tcp) {
            (Answer::Rule(rule), _) => Verdict::Run(vec![front.tcp(&begun, rule, false)]),
            (Answer::Other | Answer::Begin | Answer::Tls, Some(rule)) => {
                Verdict::Run(vec![front.tcp(&begun, Arc::clone(rule), false)])
            }
            (Answer::Http, _) => Verdict::Run(vec![front.http(&begun)]),
            (Answer::Refused(refusal), _) => {
                begun.connection.refused(refusal, Some(&begun.origin));
                Verdict::Close
            }
            (Answer::Other | Answer::Begin | Answer::Tls, None) => Verdict::Close,
        });
        Box::new(Sniff::new(question, timeout, after, next))
    }

    fn tcp(&self, begun: &Begun, rule: Arc<TcpPlan>, after: bool) -> Box<dyn Filter> {
        let (connection, runtime) = (Rc::clone(&begun.connection), Rc::clone(&begun.runtime));
        let protocol = Some(begun.protocol);
        carry(&connection, &runtime, Way::Rule(rule), protocol, after, self.shared.now.get())
    }

    fn http(&self, begun: &Begun) -> Box<dyn Filter> {
        let timeouts = &begun.runtime.plan.timeouts;
        let most = &begun.runtime.plan.connection_limits;
        let limits = HttpServerLimits {
            head: Duration::from_millis(timeouts.request_head_ms),
            idle: Duration::from_millis(timeouts.idle_ms),
            age: begun.runtime.age(most.connection_age_ms),
            requests: most.requests_per_connection_max,
            streams: most.streams_max,
            ..HttpServerLimits::default()
        };
        let requests = Requests { connection: Rc::clone(&begun.connection) };
        Box::new(HttpServer::new(Rc::new(requests), limits, self.shared.now.get()))
    }

    fn connection(
        &self,
        direction: Direction,
        accepted: Accepted,
        admitted: Vec<Arc<SourcePlan>>,
    ) -> Rc<Connection> {
        let id = self.shared.connections.get() + 1;
        self.shared.connections.set(id);
        let listener = self.shared.metrics.proxy.listeners.get(direction.label());
        listener.cx_total.inc();
        listener.cx_active.inc();
        let (shared, peer) = (Rc::clone(&self.shared), Rc::default());
        let (protocol, server_name) = (Cell::new("http"), OnceCell::new());
        let encrypted = Cell::new(false);
        Rc::new(Connection {
            shared,
            direction,
            accepted,
            peer,
            admitted,
            id,
            server_name,
            encrypted,
            protocol,
        })
    }

    fn tls_server(
        &self,
        connection: &Rc<Connection>,
        runtime: &Runtime,
        origin: &Arc<str>,
        (tls, http): (Tls, bool),
    ) -> Option<Box<dyn Filter>> {
        let credentials = self.shared.credentials.borrow();
        let (_, credentials) = credentials.as_ref()?;
        let timeout = Duration::from_millis(runtime.plan.timeouts.handshake_ms);
        let (noted, origin) = (Rc::clone(connection), Arc::clone(origin));
        let ended = move |how: Handshake| {
            let proxy = &noted.shared.metrics.proxy;
            let failure = match how {
                Handshake::Complete => return proxy.tls_handshakes.inc(),
                Handshake::NotTls => "not_tls",
                Handshake::NoCertificate => "no_certificate",
                Handshake::Expired => "expired",
                Handshake::NotYetValid => "not_yet_valid",
                Handshake::UnknownIssuer => "unknown_issuer",
                Handshake::Failed => "refused",
                Handshake::TimedOut => "timeout",
                Handshake::Broken => {
                    return noted.misbehaved("tls", &"broken TLS after the handshake", None);
                }
            };
            proxy.tls_failures.get(failure).inc();
            noted.refused(refusal(how), Some(&origin));
        };
        let peer = Rc::clone(&connection.peer);
        if connection.admitted.iter().any(|rule| !rule.principals.is_empty()) {
            peer.want_names();
        }
        let config = match (tls, http) {
            (Tls::Open, true) => credentials.open_http_server(),
            (Tls::Open, false) => credentials.open_server(),
            (_, true) => credentials.http_server(),
            (_, false) => credentials.server(),
        };
        let server = TlsServer::new(config, peer, timeout, Box::new(ended)).ok()?;
        Some(Box::new(server))
    }
}

fn refusal(how: Handshake) -> Refusal {
    match how {
        Handshake::NoCertificate => Refusal::NoCertificate,
        Handshake::Expired => Refusal::ExpiredCertificate,
        Handshake::NotYetValid => Refusal::EarlyCertificate,
        Handshake::UnknownIssuer => Refusal::ForeignCertificate,
        _ => Refusal::NoMutualTls,
    }
}

/// `namespace/name` of a workload, as the counters of rate limits call it.
fn label(workload: &pipy_config::Workload) -> String {
    format!("{}/{}", workload.namespace, workload.name)
}
