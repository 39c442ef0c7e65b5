//! Decisions: pure functions from (rules, connection or request, peer) to a plain answer with its reason.
//!
//! The live path, `explain` and the tests call these same functions. Nothing here counts, logs, balances or connects.
//!
//! Order, for requests: host, then routes in their order; the first route that fits path, method and headers *and*
//! allows the peer decides. When routes fit but none allows the peer, the first that fitted names the refusal.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use pipy_config::{Protocol, Unmatched};
use pipy_http::{Headers, Method};

pub use crate::callers::{Bounds, Caller, Proof, SourcePlan, caller};
use crate::outbound_table::OutboundTable;
use crate::plan::{
    Allowed, HostTable, InboundMatch, Outbound, OutboundMatch, PathPlan, Plan, RoutePlan, TcpPlan, TlsTable,
};

/// What the inbound listener does with a connection.
#[derive(Debug)]
pub enum InboundConnection<'p> {
    /// A member of the mesh must come: mutual TLS.
    Member(&'p InboundMatch),
    /// Anyone may come in plain text: the mesh's encryption is off.
    Plain(&'p InboundMatch),
    /// A client outside the mesh whom these rules are for: one at least, and all speak alike.
    Source(&'p InboundMatch, Vec<Arc<SourcePlan>>),
    /// No rule for this port: reset.
    Refuse(Refusal),
}

/// What the outbound listener does with a connection.
#[derive(Debug)]
pub enum OutboundConnection<'p> {
    /// A match names the destination.
    Match(&'p OutboundMatch),
    /// The bytes go to where they were meant to go.
    Passthrough,
    /// Closed.
    Refuse(Refusal),
}

/// Why something was refused, in the words that users read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No rule is for this port.
    NoMatch,
    /// The destination is in no rule, and egress is closed.
    EgressClosed,
    /// No rule names the request's host.
    NoHost,
    /// No route of the host fits the request.
    NoRoute,
    /// A route fits, but not for this peer.
    NotAllowed,
    /// A rule fits the datagrams, but not from this address.
    AddressNotAllowed,
    /// The rule that lets the client in is bounded to routes, and none of them fits.
    OutOfBounds,
    /// The peer showed no identity.
    NoIdentity,
    /// The path can be read in two ways.
    BadPath,
    /// The client did not speak TLS, or could not prove who it is.
    NoMutualTls,
    /// The client showed no certificate.
    NoCertificate,
    /// The client's certificate is no longer valid.
    ExpiredCertificate,
    /// The client's certificate is not valid yet.
    EarlyCertificate,
    /// The client's certificate is signed by nobody that we believe.
    ForeignCertificate,
    /// As many connections are open as may be.
    Overloaded,
    /// More came than the rate limit lets in.
    RateLimited,
    /// We have no certificate yet to prove ourselves with.
    NoCredentials,
    /// No rule is for the server name that the client asks for, or it asked for none.
    NoServerName,
    /// The connection came from a peer that must begin with a PROXY header, and did not.
    NoProxyHeader,
}

impl Refusal {
    /// One word, for metrics.
    pub fn label(self) -> &'static str {
        match self {
            Refusal::NoMatch => "no_match",
            Refusal::EgressClosed => "egress_closed",
            Refusal::NoHost => "no_host",
            Refusal::NoRoute => "no_route",
            Refusal::NotAllowed => "not_allowed",
            Refusal::OutOfBounds => "out_of_bounds",
            Refusal::AddressNotAllowed => "address_not_allowed",
            Refusal::NoIdentity => "no_identity",
            Refusal::BadPath => "bad_path",
            Refusal::NoMutualTls
            | Refusal::NoCertificate
            | Refusal::ExpiredCertificate
            | Refusal::EarlyCertificate
            | Refusal::ForeignCertificate => "no_mutual_tls",
            Refusal::Overloaded => "overloaded",
            Refusal::NoCredentials => "no_credentials",
            Refusal::RateLimited => "rate_limited",
            Refusal::NoServerName => "no_server_name",
            Refusal::NoProxyHeader => "no_proxy_header",
        }
    }

    /// A sentence, for the log.
    pub fn words(self) -> &'static str {
        match self {
            Refusal::NoMatch => "no service of the mesh listens on this port",
            Refusal::EgressClosed => "the destination is in no rule and egress is not enabled",
            Refusal::NoHost => "no rule names this host",
            Refusal::NoRoute => "no route of this host fits the path, method and headers",
            Refusal::NotAllowed => "no policy allows this identity on the routes that fit",
            Refusal::AddressNotAllowed => {
                "no policy allows datagrams from the Pod that has this address, or none has it"
            }
            Refusal::OutOfBounds => {
                "the policy that lets this client in is bounded to routes, and none of them fits"
            }
            Refusal::NoIdentity => "the peer showed no identity",
            Refusal::BadPath => "the path can be read in two ways",
            Refusal::NoMutualTls => {
                "the client did not prove with mutual TLS that it is a member of the mesh"
            }
            Refusal::NoCertificate => "mutual TLS failed: the client showed no certificate",
            Refusal::ExpiredCertificate => "mutual TLS failed: the client's certificate has expired",
            Refusal::EarlyCertificate => "mutual TLS failed: the client's certificate is not valid yet",
            Refusal::ForeignCertificate => {
                "mutual TLS failed: the client's certificate is signed by no authority of the mesh"
            }
            Refusal::Overloaded => "as many connections are open as may be",
            Refusal::NoCredentials => "this proxy has no certificate yet to prove itself with",
            Refusal::RateLimited => "more came than the rate limit lets in",
            Refusal::NoServerName => "no rule names the TLS server that the client asks for",
            Refusal::NoProxyHeader => {
                "the peer must begin its connections with a PROXY header, and this one has none that is valid"
            }
        }
    }
}

/// A request, as far as decisions depend on it.
#[derive(Debug, Clone, Copy)]
pub struct Request<'r> {
    /// Host and port, lower case.
    pub authority: &'r str,
    /// Port that the client dialled.
    pub port: u16,
    /// Method.
    pub method: &'r Method,
    /// Normalised path, without the query.
    pub path: &'r [u8],
    /// Normalised path with the query.
    pub path_and_query: &'r [u8],
    /// Headers.
    pub headers: &'r Headers,
}

/// What was decided about a request or a TCP connection.
#[derive(Debug, Clone)]
pub struct Decision<'p, Rule> {
    /// The rule to follow, or why not.
    pub verdict: Result<&'p Rule, Refusal>,
    /// The service that was meant, where a rule names it.
    pub service: Option<&'p Arc<str>>,
    /// The object of the rule that decided: of the route, or of the host or match where no route fitted.
    pub origin: Option<&'p Arc<str>>,
    /// The object that allows the peer.
    pub allowed_by: Option<&'p Arc<str>>,
}

/// Whether one more connection may be open on a listener, beside those that are open on it and on the other one.
pub fn has_room(limit: u32, open: u64, total: u32, other: u64) -> bool {
    let below = |limit: u32, open: u64| limit == 0 || open < u64::from(limit);
    below(limit, open) && below(total, open + other)
}

/// Whether a peer must begin its connection to the application with a PROXY header.
pub fn has_proxy_header(plan: &Plan, destination: SocketAddr, peer: IpAddr) -> bool {
    let rule = plan.inbound.as_ref().and_then(|matches| matches.get(&destination.port()));
    rule.is_some_and(|rule| rule.proxy_protocol_from.iter().any(|net| net.contains(&peer)))
}

/// Decides about a connection to the application.
pub fn inbound_connection<'p>(
    plan: &'p Plan,
    destination: SocketAddr,
    peer: IpAddr,
) -> InboundConnection<'p> {
    let Some(rule) = plan.inbound.as_ref().and_then(|matches| matches.get(&destination.port())) else {
        return InboundConnection::Refuse(Refusal::NoMatch);
    };
    let mut covering = rule.sources.iter().filter(|s| s.cidrs.iter().any(|net| net.contains(&peer)));
    if let Some(first) = covering.next() {
        // How a client speaks is known before who it is: rules that expect it otherwise are not for it.
        let alike = covering.filter(|other| other.speaks_like(first));
        return InboundConnection::Source(rule, std::iter::once(first).chain(alike).cloned().collect());
    }
    match rule.mtls {
        pipy_config::Mtls::Strict => InboundConnection::Member(rule),
        pipy_config::Mtls::Disabled => InboundConnection::Plain(rule),
    }
}

/// Decides about a connection of the application.
pub fn outbound_connection(plan: &Plan, destination: SocketAddr) -> OutboundConnection<'_> {
    outbound(plan, destination, |outbound| &outbound.matches)
}

/// Decides about datagrams of the application.
pub fn outbound_datagrams(plan: &Plan, destination: SocketAddr) -> OutboundConnection<'_> {
    outbound(plan, destination, |outbound| &outbound.udp)
}

/// Why something is refused, and the object that says so, where there is one.
pub type Refused<'p> = (Refusal, Option<&'p Arc<str>>);

/// Decides about datagrams to the application: the rule that they follow, and the object that lets the peer send them.
///
/// # Errors
/// Why they are dropped.
pub fn inbound_datagrams(
    plan: &Plan,
    destination: SocketAddr,
    peer: IpAddr,
) -> Result<(&InboundMatch, Option<&Arc<str>>), Refused<'_>> {
    let Some(rule) = plan.inbound_udp.get(&destination.port()) else { return Err((Refusal::NoMatch, None)) };
    if let Some(by) = rule.sources.iter().find(|s| s.cidrs.iter().any(|net| net.contains(&peer))) {
        return Ok((rule, Some(&by.origin)));
    }
    match rule.tcp.as_ref().map(|tcp| &tcp.allowed) {
        Some(None) => Ok((rule, None)),
        _ => Err((Refusal::AddressNotAllowed, Some(&rule.origin))),
    }
}

fn outbound(
    plan: &Plan,
    destination: SocketAddr,
    table: impl Fn(&Outbound) -> &OutboundTable,
) -> OutboundConnection<'_> {
    let Some(outbound) = &plan.outbound else { return OutboundConnection::Refuse(Refusal::EgressClosed) };
    if plan.exclusions.covers(destination) {
        return OutboundConnection::Passthrough;
    }
    match (table(outbound).find(destination), outbound.unmatched) {
        (Some(rule), _) => OutboundConnection::Match(rule),
        (None, Unmatched::Passthrough) => OutboundConnection::Passthrough,
        (None, Unmatched::Refuse) => OutboundConnection::Refuse(Refusal::EgressClosed),
    }
}

/// Decides about a request.
pub fn request<'p>(
    hosts: &'p HostTable,
    request: Request<'_>,
    caller: Caller<'p>,
) -> Decision<'p, Arc<RoutePlan>> {
    let Some(host) = hosts.find(request.authority, request.port) else {
        return Decision { verdict: Err(Refusal::NoHost), service: None, origin: None, allowed_by: None };
    };
    let mut fitted: Option<&Arc<RoutePlan>> = None;
    for route in &host.routes {
        if !fits(route, request) {
            continue;
        }
        if let Some(allowed_by) = allows(route, caller) {
            let origin = Some(&route.origin);
            return Decision { verdict: Ok(route), service: Some(&host.service), origin, allowed_by };
        }
        fitted.get_or_insert(route);
    }
    let (refusal, origin) = match (fitted, caller) {
        (_, Caller::Bounded(bounds)) => (Refusal::OutOfBounds, bounds.origin().unwrap_or(&host.origin)),
        (Some(route), Caller::Unknown) => (Refusal::NoIdentity, &route.origin),
        (Some(route), Caller::Stranger(refusal)) => (refusal, &route.origin),
        (Some(route), _) => (Refusal::NotAllowed, &route.origin),
        (None, _) => (Refusal::NoRoute, &host.origin),
    };
    Decision { verdict: Err(refusal), service: Some(&host.service), origin: Some(origin), allowed_by: None }
}

/// Decides about a TCP connection.
pub fn tcp<'p>(rule: &'p Arc<TcpPlan>, caller: Caller<'_>) -> Decision<'p, Arc<TcpPlan>> {
    // Bytes are no routes: who may only some of these is here what it has proved to be.
    let caller = match caller {
        Caller::Bounded(bounds) => {
            bounds.identity().map_or(Caller::Stranger(Refusal::OutOfBounds), Caller::Member)
        }
        other => other,
    };
    let (verdict, allowed_by) = match (grants(rule.allowed.as_ref(), caller), caller) {
        (Some(allowed_by), _) => (Ok(rule), allowed_by),
        (None, Caller::Unknown) => (Err(Refusal::NoIdentity), None),
        (None, Caller::Stranger(refusal)) => (Err(refusal), None),
        (None, _) => (Err(Refusal::NotAllowed), None),
    };
    Decision { verdict, service: Some(&rule.service), origin: Some(&rule.origin), allowed_by }
}

/// The rule for a TLS connection that is carried unopened, by the server name that its client asks for.
pub fn server_name<'p>(
    rules: &'p TlsTable,
    others: Option<&'p Arc<TcpPlan>>,
    name: Option<&str>,
) -> Option<&'p Arc<TcpPlan>> {
    name.and_then(|name| rules.find(name)).or(others)
}

/// Whether HTTP is to be expected.
pub fn is_http(protocol: Protocol) -> bool {
    matches!(protocol, Protocol::Http | Protocol::Grpc)
}

/// Whether a route fits a request, whoever sends it.
pub fn fits(route: &RoutePlan, request: Request<'_>) -> bool {
    // WHY: a tunnel carries what no rule sees, so that "any method" does not mean it; a rule must name it.
    let any = route.methods.is_empty() && *request.method != Method::Connect;
    let method = any || route.methods.iter().any(|m| **m == *request.method.as_str());
    method
        && path_fits(&route.path, request)
        && route.headers.iter().all(|(name, regex)| {
            // WHY: every value is searched by itself. Joined values would let one smuggle what another refuses.
            let mut values = request.headers.get_all(&**name).peekable();
            if values.peek().is_none() {
                return regex.is_match(b"");
            }
            values.all(|value| regex.is_match(value))
        })
}

fn path_fits(path: &PathPlan, request: Request<'_>) -> bool {
    match path {
        PathPlan::Any => true,
        PathPlan::Exact(exact) => request.path == &**exact,
        PathPlan::Prefix(prefix) => {
            let prefix = prefix.strip_suffix(b"/").unwrap_or(prefix);
            request.path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        }
        PathPlan::Regex(regex) => regex.is_match(request.path_and_query),
    }
}

/// Whether someone may use a route. `None`: not allowed. `Some(None)`: everyone is. `Some(Some(origin))`: by that object.
pub fn allows<'p>(route: &'p RoutePlan, caller: Caller<'p>) -> Option<Option<&'p Arc<str>>> {
    let Caller::Bounded(bounds) = caller else { return grants(route.allowed.as_ref(), caller) };
    if let Some(by) = bounds.on(&route.origin) {
        return Some(Some(by));
    }
    grants(route.allowed.as_ref(), Caller::Member(bounds.identity()?))
}

fn grants<'p>(allowed: Option<&'p Allowed>, caller: Caller<'_>) -> Option<Option<&'p Arc<str>>> {
    match (allowed, caller) {
        (_, Caller::Stranger(_) | Caller::Bounded(_)) => None,
        (None, _) | (Some(_), Caller::Admitted) => Some(None),
        (Some(allowed), Caller::Member(identity)) => allowed.get(identity).map(Some),
        (Some(_), Caller::Unknown) => None,
    }
}
