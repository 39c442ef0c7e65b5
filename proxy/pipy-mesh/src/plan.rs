//! A configuration made ready for use: names resolved, expressions compiled, tables built. Immutable, shared by all
//! workers; what changes while running (balancing, connections) is each worker's own, in `runtime`.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};
use ipnet::IpNet;
use pipy_config as config;
use pipy_config::{Mtls, Protocol, ProxyConfig, REGEX_BYTES_MAX, Unmatched};
use pipy_script::plugin::Source;
use pipy_upstream::hash;
use regex::bytes::{Regex, RegexBuilder};
use serde_json::json;

use crate::callers::SourcePlan;
use crate::outbound_table::OutboundTable;

/// A configuration made ready for use.
#[derive(Debug)]
pub struct Plan {
    /// Its version.
    pub version: String,
    /// Our own identity.
    pub identity: Option<Arc<str>>,
    /// What `serviceidentity` tells the application: `<service account>.<namespace>`.
    pub service_identity: Option<String>,
    /// What `fsm-stats` tells the caller's sidecar.
    pub workload: config::Workload,
    /// Matches by port; `None` where the listener is closed.
    pub inbound: Option<HashMap<u16, InboundMatch>>,
    /// Those for UDP.
    pub inbound_udp: HashMap<u16, InboundMatch>,
    /// Matches by port, in order; `None` where the listener is closed.
    pub outbound: Option<Outbound>,
    /// What the outbound listener leaves alone.
    pub exclusions: config::Exclusions,
    /// All clusters; rules refer to them by position.
    pub clusters: Vec<ClusterPlan>,
    /// Stages of the chains.
    pub chains: config::Chains,
    /// The scripts that the chains name.
    pub plugins: Vec<Source>,
    /// Probes of the application that are carried out.
    pub probes: Vec<config::Probe>,
    /// What is told of its traffic.
    pub telemetry: config::Telemetry,
    /// `namespace/name` of the Pod.
    pub pod: String,
    /// Time limits.
    pub timeouts: config::Timeouts,
    /// Limits on accepted connections.
    pub connection_limits: config::DownstreamLimits,
    /// Keys of all rules with targets: each has a balancer per worker.
    pub balancers: HashSet<u64>,
    /// Keys of all limits: each has a bucket per worker.
    pub limits: HashSet<u64>,
}

/// The outbound side.
#[derive(Debug)]
pub struct Outbound {
    /// Matches by destination.
    pub matches: OutboundTable,
    /// Those for UDP.
    pub udp: OutboundTable,
    /// What happens where none fits.
    pub unmatched: Unmatched,
}

/// One port of the application.
#[derive(Debug)]
pub struct InboundMatch {
    /// What is spoken.
    pub protocol: Protocol,
    /// Where the match comes from.
    pub origin: Arc<str>,
    /// Whether mesh members must prove who they are.
    pub mtls: Mtls,
    /// Peers that begin each connection with a PROXY header.
    pub proxy_protocol_from: Vec<IpNet>,
    /// Clients outside the mesh that are let in.
    pub sources: Vec<Arc<SourcePlan>>,
    /// Virtual hosts.
    pub hosts: HostTable,
    /// How many connections are let in.
    pub limit: Option<Arc<LimitPlan>>,
    /// The rule for TCP.
    pub tcp: Option<Arc<TcpPlan>>,
}

/// One port of some destinations.
#[derive(Debug)]
pub struct OutboundMatch {
    /// Empty: any.
    pub destinations: Vec<IpNet>,
    /// What is spoken.
    pub protocol: Protocol,
    /// Where the match comes from.
    pub origin: Arc<str>,
    /// Virtual hosts.
    pub hosts: HostTable,
    /// The rule for TCP.
    pub tcp: Option<Arc<TcpPlan>>,
    /// Rules by server name, for TLS that is carried unopened.
    pub tls: TlsTable,
}

/// Rules by server name. Cheap to clone.
#[derive(Debug, Default, Clone)]
pub struct TlsTable(Arc<TlsNames>);

#[derive(Debug, Default)]
struct TlsNames {
    exact: HashMap<Box<str>, Arc<TcpPlan>>,
    /// With the dot before them, the longest first.
    suffixes: Vec<(Box<str>, Arc<TcpPlan>)>,
}

impl TlsTable {
    /// The rule for a server name, lower case.
    pub fn find(&self, name: &str) -> Option<&Arc<TcpPlan>> {
        let suffix = || self.0.suffixes.iter().find(|(suffix, _)| name.ends_with(&**suffix));
        self.0.exact.get(name).or_else(|| suffix().map(|(_, rule)| rule))
    }
}

/// Virtual hosts by name.
#[derive(Debug, Default)]
pub struct HostTable {
    names: HashMap<Box<str>, usize>,
    any: Option<usize>,
    hosts: Vec<HostPlan>,
}

impl HostTable {
    /// The host for an authority, `host` or `host:port`, lower case; a name without a port also stands for the
    /// `port` that the client dialled.
    pub fn find(&self, authority: &str, port: u16) -> Option<&HostPlan> {
        let without_port = || {
            let (host, given) = authority.rsplit_once(':')?;
            (given.parse() == Ok(port)).then(|| self.names.get(host)).flatten()
        };
        let index = self.names.get(authority).or_else(without_port).copied().or(self.any)?;
        self.hosts.get(index)
    }

    /// All hosts, in order.
    pub fn hosts(&self) -> &[HostPlan] {
        &self.hosts
    }
}

/// A virtual host.
#[derive(Debug)]
pub struct HostPlan {
    /// The service that it stands for.
    pub service: Arc<str>,
    /// Where it comes from.
    pub origin: Arc<str>,
    /// Its routes, in order.
    pub routes: Vec<Arc<RoutePlan>>,
}

/// A route.
#[derive(Debug)]
pub struct RoutePlan {
    /// Where it comes from.
    pub origin: Arc<str>,
    /// The path that it fits.
    pub path: PathPlan,
    /// The methods that it fits. Empty: any but CONNECT.
    pub methods: Vec<Box<str>>,
    /// Headers that must all fit: lower-case name, expression.
    pub headers: Vec<(Box<str>, Regex)>,
    /// Who may use it; `None`: everyone.
    pub allowed: Option<Allowed>,
    /// Where it goes.
    pub targets: Targets,
    /// How much of its service is let in.
    pub service_limit: Option<Arc<LimitPlan>>,
    /// How much of it is let in.
    pub route_limit: Option<Arc<LimitPlan>>,
    /// What scripts see of its service, as JSON; absent where there are none.
    pub told: Option<Arc<str>>,
}

/// How much is let in.
#[derive(Debug)]
pub struct LimitPlan {
    /// Hash of what it is about and how much: names the bucket, which later plans with the same key go on with.
    pub key: u64,
    /// Where it comes from.
    pub origin: Arc<str>,
    /// The rest, as configured.
    pub config: config::RateLimit,
}

/// Identities, each with the object that lets it in.
pub type Allowed = HashMap<Box<str>, Arc<str>>;

/// A path to fit.
#[derive(Debug)]
pub enum PathPlan {
    /// The path, whole.
    Exact(Box<[u8]>),
    /// The path or a parent of it.
    Prefix(Box<[u8]>),
    /// Everything.
    Any,
    /// An expression over path and query.
    Regex(Regex),
}

/// Where a rule sends traffic.
#[derive(Debug)]
pub struct Targets {
    /// Hash of what they are about: names the balancer, which later plans with the same key go on with.
    pub key: u64,
    /// The clusters.
    pub clusters: Vec<Target>,
}

/// A share of a rule's traffic.
#[derive(Debug)]
pub struct Target {
    /// Position of the cluster in [`Plan::clusters`].
    pub cluster: usize,
    /// Its share.
    pub weight: u32,
    /// Object that set the share, where it is not the rule's own.
    pub origin: Option<Arc<str>>,
}

/// The rule for TCP.
#[derive(Debug)]
pub struct TcpPlan {
    /// Where it comes from.
    pub origin: Arc<str>,
    /// The service that it stands for.
    pub service: Arc<str>,
    /// Who may connect; `None`: everyone.
    pub allowed: Option<Allowed>,
    /// Where it goes.
    pub targets: Targets,
    /// What scripts see of its service, as JSON; absent where there are none.
    pub told: Option<Arc<str>>,
}

/// A cluster.
#[derive(Debug)]
pub struct ClusterPlan {
    /// Its name.
    pub name: Arc<str>,
    /// Where it comes from.
    pub origin: Arc<str>,
    /// What scripts see of it, as JSON.
    pub told: Arc<str>,
    /// How its servers are spoken to where they are outside of the mesh and want TLS.
    pub originate: Option<Arc<config::Originate>>,
    /// The rest, as configured.
    pub config: config::Cluster,
}

impl ClusterPlan {
    /// The name that its metrics carry.
    pub fn counted_as(&self) -> &str {
        self.config.counted_as.as_deref().unwrap_or(&self.name)
    }
}

impl Plan {
    /// Makes a plan of a configuration that [`pipy_config::parse`] accepted.
    pub fn new(mut config: ProxyConfig) -> Self {
        let plugins: Vec<Source> = config
            .plugins
            .into_iter()
            .map(|plugin| Source { name: plugin.name, script: plugin.script.into() })
            .collect();
        let mut builder = Builder {
            tells: !plugins.is_empty(),
            positions: HashMap::new(),
            origins: HashMap::new(),
            balancers: HashSet::new(),
            limits: HashSet::new(),
        };
        let mut clusters = Vec::with_capacity(config.clusters.len());
        for (name, cluster) in config.clusters {
            builder.positions.insert(name.clone(), clusters.len());
            let origin = builder.intern(&cluster.origin);
            let told = if builder.tells { json!({ "name": name }).to_string() } else { String::new() };
            let originate = config.originates.remove(&name).map(Arc::new);
            clusters.push(ClusterPlan {
                name: name.into(),
                origin,
                told: told.into(),
                originate,
                config: cluster,
            });
        }
        let mut inbound_udp = HashMap::new();
        let inbound = config.inbound.map(|inbound| {
            let mut matches = HashMap::with_capacity(inbound.matches.len());
            for rule in inbound.matches {
                let by_port = if rule.protocol == Protocol::Udp { &mut inbound_udp } else { &mut matches };
                by_port.insert(rule.port, builder.inbound(rule));
            }
            matches
        });
        // Without the listener, what is excluded would be refused like the rest.
        let outbound = config.outbound.or_else(|| (!config.exclusions.is_empty()).then(Default::default));
        let outbound = outbound.map(|outbound| builder.outbound(outbound));
        let workload = config.workload;
        let service_identity = (!workload.service_account.is_empty())
            .then(|| format!("{}.{}", workload.service_account, workload.namespace));
        let pod = format!("{}/{}", workload.namespace, workload.pod);
        Plan {
            pod,
            version: config.version,
            identity: config.identity.map(Into::into),
            service_identity,
            workload,
            inbound,
            inbound_udp,
            outbound,
            exclusions: config.exclusions,
            clusters,
            chains: config.chains,
            plugins,
            probes: config.probes,
            telemetry: config.telemetry,
            timeouts: config.timeouts,
            connection_limits: config.connection_limits,
            balancers: builder.balancers,
            limits: builder.limits,
        }
    }

    /// Whether a rule sends traffic on to where its client meant it to go: out of the mesh.
    pub fn leads_outside(&self, targets: &Targets) -> bool {
        let kind = |target: &Target| self.clusters.get(target.cluster).map(|cluster| cluster.config.kind);
        targets.clusters.iter().any(|target| kind(target) == Some(config::ClusterKind::OriginalDestination))
    }
}

struct Builder {
    /// Whether there are scripts to tell something.
    tells: bool,
    positions: HashMap<String, usize>,
    origins: HashMap<String, Arc<str>>,
    balancers: HashSet<u64>,
    limits: HashSet<u64>,
}

impl Builder {
    /// The same origins stand in many rules; each is kept once.
    fn intern(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.origins.get(text) {
            return Arc::clone(known);
        }
        let shared: Arc<str> = text.into();
        self.origins.insert(text.to_owned(), Arc::clone(&shared));
        shared
    }

    fn inbound(&mut self, rule: config::InboundMatch) -> InboundMatch {
        let limit = self.limit(rule.rate_limit, format!("port {}", rule.port));
        InboundMatch {
            limit,
            protocol: rule.protocol,
            origin: self.intern(&rule.origin),
            mtls: rule.mtls,
            proxy_protocol_from: rule.proxy_protocol_from,
            sources: rule.sources.into_iter().map(|source| Arc::new(self.source(source))).collect(),
            hosts: self.hosts(rule.hosts),
            tcp: rule.tcp.map(|tcp| Arc::new(self.tcp(&tcp))),
        }
    }

    fn source(&mut self, rule: config::SourceRule) -> SourcePlan {
        SourcePlan {
            cidrs: rule.cidrs,
            origin: self.intern(&rule.origin),
            mtls: rule.mtls,
            tls: rule.tls,
            principals: rule.principals,
            server_names: rule.server_names,
            routes: rule.routes.map(|routes| routes.iter().map(|route| self.intern(route)).collect()),
        }
    }

    fn outbound(&mut self, outbound: config::Outbound) -> Outbound {
        let matches = outbound.matches.into_iter().map(|rule| -> (u16, OutboundMatch) {
            let plan = OutboundMatch {
                protocol: rule.protocol,
                origin: self.intern(&rule.origin),
                destinations: rule.destinations,
                hosts: self.hosts(rule.hosts),
                tcp: rule.tcp.map(|tcp| Arc::new(self.tcp(&tcp))),
                tls: self.tls(&rule.tls),
            };
            (rule.port, plan)
        });
        let (udp, matches): (Vec<_>, Vec<_>) = matches.partition(|(_, rule)| rule.protocol == Protocol::Udp);
        Outbound {
            matches: OutboundTable::new(matches),
            udp: OutboundTable::new(udp),
            unmatched: outbound.unmatched,
        }
    }

    fn hosts(&mut self, rules: Vec<config::HostRule>) -> HostTable {
        let mut table = HostTable::default();
        for rule in rules {
            let index = table.hosts.len();
            for name in rule.names {
                if name == "*" {
                    table.any.get_or_insert(index);
                } else {
                    // The first rule that names a host is taken.
                    table.names.entry(name.into()).or_insert(index);
                }
            }
            let limit = self.limit(rule.rate_limit, format!("service {}", rule.service));
            let told = self.told(&rule.service, &rule.plugins);
            let host = HostPlan {
                service: self.intern(&rule.service),
                origin: self.intern(&rule.origin),
                routes: rule
                    .routes
                    .into_iter()
                    .map(|route| Arc::new(self.route(route, &limit, &told)))
                    .collect(),
            };
            table.hosts.push(host);
        }
        table
    }

    /// What scripts see of a service.
    fn told(&self, service: &str, plugins: &BTreeMap<String, serde_json::Value>) -> Option<Arc<str>> {
        self.tells.then(|| json!({ "name": service, "Plugins": plugins }).to_string().into())
    }

    fn route(
        &mut self,
        route: config::Route,
        service_limit: &Option<Arc<LimitPlan>>,
        told: &Option<Arc<str>>,
    ) -> RoutePlan {
        let about = format!("{} {:?} {:?} {:?}", route.origin, route.path, route.methods, route.headers);
        RoutePlan {
            origin: self.intern(&route.origin),
            path: path(route.path),
            methods: route.methods.into_iter().map(Into::into).collect(),
            headers: route.headers.into_iter().map(|h| (h.name.into(), expression(&h.regex))).collect(),
            allowed: self.allowed(route.allowed),
            targets: self.targets(&route.clusters, &about),
            service_limit: service_limit.clone(),
            route_limit: self.limit(route.rate_limit, format!("route {about}")),
            told: told.clone(),
        }
    }

    fn limit(&mut self, limit: Option<config::RateLimit>, about: String) -> Option<Arc<LimitPlan>> {
        let config = limit?;
        let rate = (config.amount, config.window_ms, config.burst);
        let key = hash(format!("{about} {} {rate:?}", config.origin).as_bytes());
        self.limits.insert(key);
        Some(Arc::new(LimitPlan { key, origin: self.intern(&config.origin), config }))
    }

    fn tcp(&mut self, rule: &config::TcpRule) -> TcpPlan {
        TcpPlan {
            origin: self.intern(&rule.origin),
            service: self.intern(&rule.service),
            allowed: self.allowed(rule.allowed.clone()),
            targets: self.targets(&rule.clusters, &format!("tcp {} {}", rule.origin, rule.service)),
            told: self.told(&rule.service, &rule.plugins),
        }
    }

    fn tls(&mut self, rules: &[config::TlsRule]) -> TlsTable {
        let mut names = TlsNames::default();
        for rule in rules {
            let plan = Arc::new(self.tcp(&rule.tcp));
            for name in &rule.names {
                match name.strip_prefix('*') {
                    Some(suffix) => names.suffixes.push((suffix.into(), Arc::clone(&plan))),
                    None => drop(names.exact.insert(name.as_str().into(), Arc::clone(&plan))),
                }
            }
        }
        names.suffixes.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
        TlsTable(Arc::new(names))
    }

    fn allowed(&mut self, allowed: Option<Vec<config::Allow>>) -> Option<Allowed> {
        let allowed = allowed?;
        Some(allowed.into_iter().map(|allow| (allow.identity.into(), self.intern(&allow.origin))).collect())
    }

    fn targets(&mut self, clusters: &[config::WeightedCluster], about: &str) -> Targets {
        let shares = clusters.iter().map(|target| (&target.cluster, target.weight));
        let key = hash(format!("{about} {:?}", shares.collect::<Vec<_>>()).as_bytes());
        self.balancers.insert(key);
        let clusters = clusters
            .iter()
            .filter_map(|target| {
                let cluster = *self.positions.get(&target.cluster)?;
                let origin = target.origin.as_deref().map(|origin| self.intern(origin));
                Some(Target { cluster, weight: target.weight, origin })
            })
            .collect();
        Targets { key, clusters }
    }
}

fn path(path: config::Path) -> PathPlan {
    match path {
        config::Path::Exact(text) => PathPlan::Exact(text.into_bytes().into()),
        config::Path::Prefix(text) if text == "/" => PathPlan::Any,
        config::Path::Prefix(text) => PathPlan::Prefix(text.into_bytes().into()),
        config::Path::Regex(text) if text == ".*" => PathPlan::Any,
        config::Path::Regex(text) => PathPlan::Regex(expression(&text)),
    }
}

/// The contract's parser has compiled every expression once. Were one to fail all the same, it must fit nothing.
fn expression(pattern: &str) -> Regex {
    let build = |pattern| RegexBuilder::new(pattern).size_limit(REGEX_BYTES_MAX).unicode(false).build();
    let unicode = |pattern| RegexBuilder::new(pattern).size_limit(REGEX_BYTES_MAX).build();
    match unicode(pattern).or_else(|_| build(r"[^\s\S]")) {
        Ok(regex) => regex,
        Err(error) => unreachable!("the empty class compiles: {error}"),
    }
}
