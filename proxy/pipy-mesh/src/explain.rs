//! Explaining: what would be decided about a request, and why, by the same functions that decide about live ones.
//!
//! In: a plan and a question. Out: the decision, every rule that was tried, and the objects behind each. Nothing is
//! counted, balanced or sent. A question that can't be read is answered with what is wrong with it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use pipy_config as config;
use pipy_http::{Headers, Method, normalise_path};
use serde::Serialize;

use crate::decide::{self, Caller, InboundConnection, OutboundConnection, Proof, Refusal, Request};
use crate::plan::{HostTable, Plan, RoutePlan, Targets, TcpPlan};

/// A question.
#[derive(Debug, Clone)]
pub struct Question {
    /// To the application, or from it.
    pub inbound: bool,
    /// About datagrams, not about a connection.
    pub datagrams: bool,
    /// Where the connection goes; inbound only the port counts.
    pub destination: SocketAddr,
    /// Where the client is, inbound: rules for clients outside of the mesh look at it.
    pub source: Option<IpAddr>,
    /// The server that a TLS client asks for: where its TLS is carried unopened, or where clients outside of the mesh are let
    /// in by it.
    pub server_name: Option<String>,
    /// Who asks: a SPIFFE identity, or inbound another name that its certificate carries. Outbound it is the proxy's own and
    /// need not be given.
    pub identity: Option<String>,
    /// Method, such as `GET`.
    pub method: String,
    /// Host and port, as in the Host header.
    pub authority: String,
    /// Path and query.
    pub target: String,
    /// Other headers.
    pub headers: Vec<(String, String)>,
}

/// An answer.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// `allowed`, `denied` or `passthrough`.
    pub decision: &'static str,
    /// Why not, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// Version of the configuration that decided.
    pub version: String,
    /// Who asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// The object that made the port or destination known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matched_by: Option<Arc<str>>,
    /// The service that was meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Arc<str>>,
    /// The object of the rule that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<Arc<str>>,
    /// The object that allows who asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_by: Option<Arc<str>>,
    /// The path that was decided about, when it differs from the one that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub normalised: Option<String>,
    /// Every route that was tried, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tried: Vec<Tried>,
    /// Where it goes, by share.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<Share>,
    /// What bounds how much is let in: of the service, then of the route.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rate_limits: Vec<config::RateLimit>,
    /// Where the connection goes: the endpoint of rules that send it on to there.
    #[serde(skip)]
    destination: SocketAddr,
}

/// A route that was tried.
#[derive(Debug, Serialize)]
pub struct Tried {
    /// Its object.
    pub rule: Arc<str>,
    /// Whether path, method and headers fit.
    pub fits: bool,
    /// Whether who asked may use it; unknown where it does not fit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed: Option<bool>,
    /// Who may use it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allows: Vec<String>,
}

/// A cluster that may be picked.
#[derive(Debug, Serialize)]
pub struct Share {
    /// Its name.
    pub cluster: Arc<str>,
    /// Its weight.
    pub weight: u32,
    /// The object that set the weight, where it is not the rule's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split_by: Option<Arc<str>>,
    /// Its endpoints.
    pub endpoints: Vec<Target>,
    /// The object that has them spoken to in TLS, where they are outside of the mesh.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encrypted_by: Option<String>,
    /// Which failures would be tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<config::Retry>,
    /// When it would be spared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub circuit_breaker: Option<config::CircuitBreaker>,
    /// How much it may be loaded, where that is bounded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<config::ConnectionLimits>,
    /// How an endpoint is picked, where not in turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub balancing: Option<config::Balancing>,
}

/// An endpoint that may be picked.
#[derive(Debug, Serialize)]
pub struct Target {
    /// Its address.
    pub address: SocketAddr,
    /// Who must be there; without, it is reached in plain text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
}

/// Answers a question.
///
/// # Errors
/// What can't be read of the question, in words.
pub fn explain(plan: &Plan, question: &Question) -> Result<Explanation, String> {
    let identity = if question.inbound { question.identity.as_deref() } else { plan.identity.as_deref() };
    let answer = Explanation {
        decision: "denied",
        reason: None,
        version: plan.version.clone(),
        identity: identity.map(str::to_owned),
        matched_by: None,
        service: None,
        rule: None,
        allowed_by: None,
        normalised: None,
        tried: Vec::new(),
        clusters: Vec::new(),
        rate_limits: Vec::new(),
        destination: question.destination,
    };
    match (question.inbound, question.datagrams) {
        (true, true) => Ok(answer.inbound_datagrams(plan, question)),
        (true, false) => answer.inbound(plan, question, identity),
        (false, _) => answer.outbound(plan, question),
    }
}

impl Explanation {
    fn inbound(
        mut self,
        plan: &Plan,
        question: &Question,
        mut identity: Option<&str>,
    ) -> Result<Self, String> {
        // An address that no rule names: a client of the mesh.
        let source = question.source.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let (rule, sources) = match decide::inbound_connection(plan, question.destination, source) {
            InboundConnection::Refuse(refusal) => return Ok(self.refused(refusal)),
            InboundConnection::Member(rule) if identity.is_none() => {
                self.matched_by = Some(Arc::clone(&rule.origin));
                return Ok(self.refused(Refusal::NoMutualTls));
            }
            InboundConnection::Member(rule) => (rule, Vec::new()),
            // Nobody can prove there who it is.
            InboundConnection::Plain(rule) => {
                (self.identity, identity) = (None, None);
                (rule, Vec::new())
            }
            InboundConnection::Source(rule, sources) => {
                let (mtls, tls) = sources.first().map_or((false, false), |by| (by.mtls, by.tls));
                // Members that come from there speak mutual TLS, and are told apart by it.
                let open = !mtls && !tls && rule.mtls == config::Mtls::Strict;
                let member = open && identity.is_some() && decide::is_http(rule.protocol);
                if mtls && identity.is_none() {
                    self.matched_by = sources.first().map(|by| Arc::clone(&by.origin));
                    return Ok(self.refused(Refusal::NoCertificate));
                }
                // Without a certificate nobody has shown anything.
                if !mtls && !member {
                    identity = None;
                }
                (rule, if member { Vec::new() } else { sources })
            }
        };
        let encrypted = match sources.first() {
            Some(by) => by.mtls || by.tls,
            None => rule.mtls == config::Mtls::Strict,
        };
        self.matched_by = Some(Arc::clone(sources.first().map_or(&rule.origin, |by| &by.origin)));
        let names: Vec<String> = identity.iter().map(|name| (*name).to_owned()).collect();
        let server_name = question.server_name.as_deref().map(str::to_ascii_lowercase);
        let proof = Proof {
            encrypted,
            identity: identity.filter(|name| name.starts_with("spiffe://")),
            names: &names,
            server_name: server_name.as_deref(),
        };
        let caller = decide::caller(&sources, proof);
        self.carried(plan, question, (rule.protocol, &rule.hosts, rule.tcp.as_ref()), caller)
    }

    /// Nobody proves anything: who may is told by the address.
    fn inbound_datagrams(mut self, plan: &Plan, question: &Question) -> Self {
        self.identity = None;
        let source = question.source.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let (rule, by) = match decide::inbound_datagrams(plan, question.destination, source) {
            Err((refusal, origin)) => {
                self.matched_by = origin.cloned();
                return self.refused(refusal);
            }
            Ok(found) => found,
        };
        self.matched_by = Some(Arc::clone(&rule.origin));
        self.allowed_by = by.cloned();
        let Some(tcp) = &rule.tcp else { return self.refused(Refusal::NoMatch) };
        self.service = Some(Arc::clone(&tcp.service));
        self.rule = Some(Arc::clone(&tcp.origin));
        self.routed(plan, &tcp.targets)
    }

    fn outbound(mut self, plan: &Plan, question: &Question) -> Result<Self, String> {
        let caller = plan.identity.as_deref().map_or(Caller::Unknown, Caller::Member);
        let decided = match question.datagrams {
            true => decide::outbound_datagrams(plan, question.destination),
            false => decide::outbound_connection(plan, question.destination),
        };
        match decided {
            OutboundConnection::Refuse(refusal) => Ok(self.refused(refusal)),
            OutboundConnection::Passthrough => {
                self.decision = "passthrough";
                Ok(self)
            }
            OutboundConnection::Match(rule) => {
                self.matched_by = Some(Arc::clone(&rule.origin));
                if rule.protocol == config::Protocol::Tls {
                    let name = question.server_name.as_deref().map(str::to_ascii_lowercase);
                    return Ok(match decide::server_name(&rule.tls, rule.tcp.as_ref(), name.as_deref()) {
                        Some(found) => self.tcp(plan, found, caller),
                        None => self.refused(Refusal::NoServerName),
                    });
                }
                self.carried(plan, question, (rule.protocol, &rule.hosts, rule.tcp.as_ref()), caller)
            }
        }
    }

    /// By the rule for bytes or by those for requests. Where the protocol is found out, a question with a host is about HTTP.
    fn carried<'p>(
        self,
        plan: &'p Plan,
        question: &Question,
        (protocol, hosts, tcp): (config::Protocol, &'p HostTable, Option<&'p Arc<TcpPlan>>),
        caller: Caller<'p>,
    ) -> Result<Self, String> {
        let found_out = protocol == config::Protocol::Auto && !question.authority.is_empty();
        match tcp {
            Some(rule) if !decide::is_http(protocol) && !found_out => Ok(self.tcp(plan, rule, caller)),
            _ => self.http(plan, hosts, question, caller),
        }
    }

    fn refused(mut self, refusal: Refusal) -> Self {
        self.reason = Some(refusal.words());
        self
    }

    fn tcp(mut self, plan: &Plan, rule: &Arc<TcpPlan>, caller: Caller<'_>) -> Self {
        let decision = decide::tcp(rule, caller);
        self.service = decision.service.cloned();
        self.rule = decision.origin.cloned();
        self.allowed_by = decision.allowed_by.cloned();
        match decision.verdict {
            Err(refusal) => self.refused(refusal),
            Ok(rule) => self.routed(plan, &rule.targets),
        }
    }

    fn http<'p>(
        mut self,
        plan: &'p Plan,
        hosts: &'p HostTable,
        question: &Question,
        caller: Caller<'p>,
    ) -> Result<Self, String> {
        let method = Method::from_bytes(question.method.as_bytes()).map_err(|error| error.to_string())?;
        let mut headers = Headers::new();
        for (name, value) in &question.headers {
            headers.append(name, value.as_bytes()).map_err(|error| error.to_string())?;
        }
        let authority = question.authority.to_ascii_lowercase();
        if !headers.contains("host") {
            headers.append("host", authority.as_bytes()).map_err(|error| error.to_string())?;
        }
        let (path, query) = match question.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (question.target.as_str(), None),
        };
        let Ok(normal) = normalise_path(path.as_bytes()) else { return Ok(self.refused(Refusal::BadPath)) };
        if *normal != *path.as_bytes() {
            self.normalised = Some(String::from_utf8_lossy(&normal).into_owned());
        }
        let mut whole = normal.to_vec();
        if let Some(query) = query {
            whole.push(b'?');
            whole.extend_from_slice(query.as_bytes());
        }
        let request = Request {
            authority: &authority,
            port: question.destination.port(),
            method: &method,
            path: &normal,
            path_and_query: &whole,
            headers: &headers,
        };
        if let Some(host) = hosts.find(request.authority, request.port) {
            self.tried = host.routes.iter().map(|route| tried(route, request, caller)).collect();
            if let Some(decided) = self.tried.iter().position(|t| t.fits && t.allowed == Some(true)) {
                self.tried.truncate(decided + 1);
            }
        }
        let decision = decide::request(hosts, request, caller);
        self.service = decision.service.cloned();
        self.rule = decision.origin.cloned();
        self.allowed_by = decision.allowed_by.cloned();
        Ok(match decision.verdict {
            Err(refusal) => self.refused(refusal),
            Ok(route) => {
                let limits = [&route.service_limit, &route.route_limit];
                self.rate_limits = limits.into_iter().flatten().map(|limit| limit.config.clone()).collect();
                self.routed(plan, &route.targets)
            }
        })
    }

    fn routed(mut self, plan: &Plan, targets: &Targets) -> Self {
        self.decision = "allowed";
        self.clusters = targets
            .clusters
            .iter()
            .filter_map(|target| {
                let cluster = plan.clusters.get(target.cluster)?;
                let endpoints = cluster.config.endpoints.iter();
                let original = cluster.config.kind == config::ClusterKind::OriginalDestination;
                let chosen = original.then_some(Target { address: self.destination, identity: None });
                Some(Share {
                    cluster: Arc::clone(&cluster.name),
                    weight: target.weight,
                    split_by: target.origin.clone(),
                    encrypted_by: cluster.originate.as_ref().map(|tls| tls.origin.clone()),
                    endpoints: endpoints
                        .map(|e| Target { address: e.address, identity: e.identity.clone() })
                        .chain(chosen)
                        .collect(),
                    retry: cluster.config.retry.clone(),
                    circuit_breaker: cluster.config.circuit_breaker.clone(),
                    limits: unless_default(&cluster.config.limits),
                    balancing: unless_default(&cluster.config.balancing),
                })
            })
            .collect();
        self
    }
}

fn unless_default<T: Default + PartialEq + Clone>(value: &T) -> Option<T> {
    (*value != T::default()).then(|| value.clone())
}

fn tried<'p>(route: &'p RoutePlan, request: Request<'_>, caller: Caller<'p>) -> Tried {
    let fits = decide::fits(route, request);
    let mut allows: Vec<String> = route
        .allowed
        .iter()
        .flat_map(|allowed| allowed.keys())
        .map(|identity| identity.to_string())
        .collect();
    if let Caller::Bounded(bounds) = caller
        && let Some(by) = bounds.on(&route.origin)
    {
        allows.push(by.to_string());
    }
    allows.sort();
    Tried {
        rule: Arc::clone(&route.origin),
        fits,
        allowed: fits.then(|| decide::allows(route, caller).is_some()),
        allows,
    }
}
