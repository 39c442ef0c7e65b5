//! From bytes to a configuration that can be carried out, or to the reason why not.
//!
//! Two steps: the shape (types, unknown fields, with the path of the first fault) and the sense (every fault at once:
//! clusters that do not exist, regular expressions that do not compile, rules that can never apply).

use std::collections::BTreeSet;

use regex::bytes::RegexBuilder;
use thiserror::Error;

use crate::{
    Allow, CircuitBreaker, HostRule, InboundMatch, Path, Probe, ProbeKind, Protocol, ProxyConfig, RateLimit,
    Retry, Route, TcpRule, TlsRule, WeightedCluster,
};

/// LIMIT: compiled size of one regular expression, bytes. Larger than any path or header pattern met in practice,
/// small enough that a thousand of them stay bounded.
pub const REGEX_BYTES_MAX: usize = 1 << 20;

/// Why a configuration is refused.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// It is not of the contract's shape.
    #[error("{path}: {message}")]
    Shape {
        /// Where, such as `inbound.matches[0].port`.
        path: String,
        /// What is wrong there.
        message: String,
    },
    /// It has the shape, but cannot be carried out.
    #[error("{}", .0.join("; "))]
    Sense(Vec<String>),
}

/// Parses and checks a configuration.
///
/// # Errors
/// [`ConfigError::Shape`] with the path of the first fault, or [`ConfigError::Sense`] with every fault.
pub fn parse(json: &[u8]) -> Result<ProxyConfig, ConfigError> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let config: ProxyConfig = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        ConfigError::Shape { path: error.path().to_string(), message: error.inner().to_string() }
    })?;
    deserializer
        .end()
        .map_err(|error| ConfigError::Shape { path: ".".into(), message: error.to_string() })?;
    let faults = check(&config);
    if faults.is_empty() { Ok(config) } else { Err(ConfigError::Sense(faults)) }
}

/// The JSON Schema of [`ProxyConfig`], as it is checked in under `contract/`.
pub fn schema() -> String {
    let schema = schemars::schema_for!(ProxyConfig);
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}

fn check(config: &ProxyConfig) -> Vec<String> {
    let mut check = Checker { clusters: config.clusters.keys().collect(), faults: Vec::new() };
    if config.version.is_empty() {
        check.fault("version", "is empty");
    }
    if let Some(inbound) = &config.inbound {
        let mut ports = BTreeSet::new();
        for (i, rule) in inbound.matches.iter().enumerate() {
            let path = format!("inbound.matches[{i}]");
            if !ports.insert((rule.port, rule.protocol == Protocol::Udp)) {
                check.fault(&path, &format!("port {} has a match already", rule.port));
            }
            check.rate_limit(&path, rule.rate_limit.as_ref());
            check.protocol(&path, rule.protocol, &rule.hosts, rule.tcp.as_ref(), &[]);
            check.sources(&path, rule);
            if rule.protocol == Protocol::Udp {
                check.datagrams(config, &path, rule.tcp.as_ref());
                if rule.sources.iter().any(|source| source.mtls || source.tls) {
                    check.fault(&format!("{path}.sources"), "ask for TLS, but the protocol is udp");
                }
            }
        }
    }
    if let Some(outbound) = &config.outbound {
        for (i, rule) in outbound.matches.iter().enumerate() {
            let path = format!("outbound.matches[{i}]");
            check.protocol(&path, rule.protocol, &rule.hosts, rule.tcp.as_ref(), &rule.tls);
            if rule.protocol == Protocol::Udp {
                check.datagrams(config, &path, rule.tcp.as_ref());
            }
        }
    }
    let mut probes = BTreeSet::new();
    for (i, probe) in config.probes.iter().enumerate() {
        let path = format!("probes[{i}]");
        if !probes.insert((probe.listener, probe.kind, probe.port, &probe.path, &probe.host)) {
            check.fault(&path, "is there already");
        }
        check.probe(&path, probe);
    }
    let mut plugins = BTreeSet::new();
    for (i, plugin) in config.plugins.iter().enumerate() {
        let path = format!("plugins[{i}]");
        check.all(&path, Some(plugin.faults()));
        if !plugins.insert(plugin.stage()) {
            check.fault(&path, "is there already");
        }
    }
    for (name, chain) in config.chains.all() {
        for stage in chain.iter().filter(|stage| stage.starts_with("plugins/") && !plugins.contains(*stage)) {
            check.fault(&format!("chains.{name}"), &format!("{stage} is none of the plugins"));
        }
    }
    if config.timeouts.detect_ms == 0 {
        check.fault("timeouts.detect_ms", "is 0, servers that speak first would never be reached");
    }
    check.all("telemetry", Some(config.telemetry.faults()));
    for (name, cluster) in &config.clusters {
        let path = format!("clusters.{name}");
        check.all(&format!("{path}.retry"), cluster.retry.as_ref().map(Retry::faults));
        let breaker = cluster.circuit_breaker.as_ref().map(CircuitBreaker::faults);
        check.all(&format!("{path}.circuit_breaker"), breaker);
        if cluster.proxy_protocol.is_some() && cluster.endpoints.iter().any(|e| e.identity.is_some()) {
            let path = format!("clusters.{name}.proxy_protocol");
            check.fault(&path, "is set, but endpoints are reached over mutual TLS");
        }
    }
    for (name, tls) in &config.originates {
        let path = format!("originates.{name}");
        match config.clusters.get(name) {
            None => check.fault(&path, "is no cluster of this configuration"),
            Some(cluster) if cluster.endpoints.iter().any(|endpoint| endpoint.identity.is_some()) => {
                check.fault(&path, "is a cluster of members, who are spoken to in mutual TLS already");
            }
            Some(_) => {}
        }
        if let Some(name) =
            tls.server_name.as_ref().filter(|name| !is_server_name(name) || name.contains('*'))
        {
            check.fault(&format!("{path}.server_name"), &format!("{name:?} is no lower-case server name"));
        }
        if tls.certificate.is_some() && tls.roots.is_empty() {
            check.fault(&format!("{path}.roots"), "is empty: nobody would be believed to be the server");
        }
    }
    check.faults
}

struct Checker<'a> {
    clusters: BTreeSet<&'a String>,
    faults: Vec<String>,
}

impl Checker<'_> {
    fn fault(&mut self, path: &str, message: &str) {
        self.faults.push(format!("{path}: {message}"));
    }

    /// The faults of an object, under its path.
    fn all(&mut self, path: &str, faults: Option<Vec<(String, String)>>) {
        for (place, message) in faults.unwrap_or_default() {
            self.fault(&format!("{path}.{place}"), &message);
        }
    }

    fn rate_limit(&mut self, path: &str, limit: Option<&RateLimit>) {
        self.all(&format!("{path}.rate_limit"), limit.map(RateLimit::faults));
    }

    fn protocol(
        &mut self,
        path: &str,
        protocol: Protocol,
        hosts: &[HostRule],
        tcp: Option<&TcpRule>,
        tls: &[TlsRule],
    ) {
        if !tls.is_empty() && protocol != Protocol::Tls {
            self.fault(&format!("{path}.tls"), "is set, but the protocol is not tls");
        }
        match protocol {
            Protocol::Http | Protocol::Grpc => {
                if tcp.is_some() {
                    self.fault(&format!("{path}.tcp"), "is set, but the protocol is not tcp");
                }
            }
            Protocol::Auto => {
                if tcp.is_none() {
                    self.fault(&format!("{path}.tcp"), "is missing, but the protocol is auto");
                }
            }
            Protocol::Tls => {
                if !hosts.is_empty() {
                    self.fault(&format!("{path}.hosts"), "is set, but the protocol is tls");
                }
                if tcp.is_none() && tls.is_empty() {
                    self.fault(path, "has neither tls nor tcp, but the protocol is tls");
                }
            }
            Protocol::Tcp | Protocol::TcpServerFirst | Protocol::Udp => {
                let name = if protocol == Protocol::Udp { "udp" } else { "tcp" };
                if !hosts.is_empty() {
                    self.fault(&format!("{path}.hosts"), &format!("is set, but the protocol is {name}"));
                }
                if tcp.is_none() {
                    self.fault(&format!("{path}.tcp"), &format!("is missing, but the protocol is {name}"));
                }
            }
        }
        for (i, host) in hosts.iter().enumerate() {
            self.host(&format!("{path}.hosts[{i}]"), host);
        }
        let mut names = BTreeSet::new();
        for (i, rule) in tls.iter().enumerate() {
            let path = format!("{path}.tls[{i}]");
            if rule.names.is_empty() {
                self.fault(&format!("{path}.names"), "is empty, the rule can never be met");
            }
            for (j, name) in rule.names.iter().enumerate() {
                let path = format!("{path}.names[{j}]");
                if !is_server_name(name) {
                    self.fault(&path, &format!("{name:?} is no lower-case server name"));
                } else if !names.insert(name) {
                    self.fault(&path, &format!("{name:?} has a rule already"));
                }
            }
            self.allowed(&format!("{path}.tcp"), rule.tcp.allowed.as_deref());
            self.targets(&format!("{path}.tcp"), &rule.tcp.clusters);
        }
        if let Some(rule) = tcp {
            self.allowed(&format!("{path}.tcp"), rule.allowed.as_deref());
            self.targets(&format!("{path}.tcp"), &rule.clusters);
        }
    }

    fn sources(&mut self, path: &str, rule: &InboundMatch) {
        let requests = matches!(rule.protocol, Protocol::Http | Protocol::Grpc);
        for (i, source) in rule.sources.iter().enumerate() {
            let path = format!("{path}.sources[{i}]");
            if source.routes.is_some() && !requests {
                self.fault(&format!("{path}.routes"), "is set, but what is spoken are no requests");
            }
            if !source.server_names.is_empty() && !source.mtls && !source.tls {
                self.fault(&format!("{path}.server_names"), "is set, but no TLS is asked for");
            }
            for (j, name) in source.server_names.iter().enumerate().filter(|(_, name)| !is_server_name(name))
            {
                let path = format!("{path}.server_names[{j}]");
                self.fault(&path, &format!("{name:?} is no lower-case server name"));
            }
        }
    }

    /// Datagrams carry no certificate: an endpoint that asks for one would never be reached.
    fn datagrams(&mut self, config: &ProxyConfig, path: &str, rule: Option<&TcpRule>) {
        for target in rule.iter().flat_map(|rule| &rule.clusters) {
            let Some(cluster) = config.clusters.get(&target.cluster) else { continue };
            if cluster.endpoints.iter().any(|endpoint| endpoint.identity.is_some()) {
                let what = format!("{} is reached over mutual TLS, which udp has not", target.cluster);
                self.fault(&format!("{path}.tcp.clusters"), &what);
            }
        }
    }

    fn probe(&mut self, path: &str, probe: &Probe) {
        if probe.port == 0 {
            self.fault(&format!("{path}.port"), "0 is no port");
        }
        if probe.timeout_ms == 0 {
            self.fault(&format!("{path}.timeout_ms"), "is 0, no answer could be in time");
        }
        match (probe.kind, &probe.path) {
            (ProbeKind::Http, None) => {
                self.fault(&format!("{path}.path"), "is missing, but the kind is http")
            }
            (ProbeKind::Http, Some(target)) => {
                if !target.starts_with('/') || !is_visible(target) || target.contains('#') {
                    self.fault(&format!("{path}.path"), &format!("{target:?} is no request target"));
                }
            }
            (ProbeKind::Tcp, _) => {
                let set = [
                    ("path", probe.path.is_some()),
                    ("host", probe.host.is_some()),
                    ("headers", !probe.headers.is_empty()),
                ];
                for (name, _) in set.iter().filter(|(_, set)| *set) {
                    self.fault(&format!("{path}.{name}"), "is set, but the kind is tcp");
                }
            }
        }
        if let Some(host) = probe.host.as_ref().filter(|host| !is_visible(host)) {
            self.fault(&format!("{path}.host"), &format!("{host:?} is no Host header"));
        }
        for (i, name) in probe.headers.iter().enumerate() {
            if !is_visible(name) || name.bytes().any(|b| b.is_ascii_uppercase()) {
                self.fault(&format!("{path}.headers[{i}]"), &format!("{name:?} is no lower-case name"));
            }
        }
    }

    fn host(&mut self, path: &str, host: &HostRule) {
        if host.names.is_empty() {
            self.fault(&format!("{path}.names"), "is empty, the host can never be met");
        }
        for (i, name) in host.names.iter().enumerate() {
            if name.is_empty() || name.bytes().any(|b| b.is_ascii_uppercase() || b <= b' ') {
                self.fault(&format!("{path}.names[{i}]"), &format!("{name:?} is not a lower-case host"));
            }
        }
        self.rate_limit(path, host.rate_limit.as_ref());
        for (i, route) in host.routes.iter().enumerate() {
            self.route(&format!("{path}.routes[{i}]"), route);
        }
    }

    fn route(&mut self, path: &str, route: &Route) {
        match &route.path {
            Path::Regex(pattern) => self.regex(&format!("{path}.path.regex"), pattern),
            Path::Exact(text) | Path::Prefix(text) => {
                if !text.starts_with('/') {
                    self.fault(&format!("{path}.path"), &format!("{text:?} does not start with a slash"));
                }
            }
        }
        for (i, header) in route.headers.iter().enumerate() {
            let path = format!("{path}.headers[{i}]");
            if header.name.is_empty() || header.name.bytes().any(|b| b.is_ascii_uppercase()) {
                self.fault(&format!("{path}.name"), &format!("{:?} is not lower case", header.name));
            }
            self.regex(&format!("{path}.regex"), &header.regex);
        }
        self.allowed(path, route.allowed.as_deref());
        self.targets(path, &route.clusters);
        self.rate_limit(path, route.rate_limit.as_ref());
    }

    fn regex(&mut self, path: &str, pattern: &str) {
        if let Err(error) = RegexBuilder::new(pattern).size_limit(REGEX_BYTES_MAX).build() {
            // The library draws the fault over several lines; a fault is one line here.
            let reason = error.to_string().lines().last().unwrap_or_default().trim().to_owned();
            self.fault(path, &format!("{pattern:?} is no regular expression: {reason}"));
        }
    }

    fn allowed(&mut self, path: &str, allowed: Option<&[Allow]>) {
        for (i, allow) in allowed.unwrap_or_default().iter().enumerate() {
            if !allow.identity.starts_with("spiffe://") {
                self.fault(
                    &format!("{path}.allowed[{i}].identity"),
                    &format!("{:?} is not a spiffe:// identity", allow.identity),
                );
            }
        }
    }

    fn targets(&mut self, path: &str, clusters: &[WeightedCluster]) {
        if clusters.is_empty() {
            self.fault(&format!("{path}.clusters"), "is empty");
        }
        for (i, target) in clusters.iter().enumerate() {
            if !self.clusters.contains(&target.cluster) {
                self.fault(
                    &format!("{path}.clusters[{i}].cluster"),
                    &format!("{:?} is not a cluster of this configuration", target.cluster),
                );
            }
        }
    }
}

/// A DNS name in lower case, or `*.` before one.
fn is_server_name(name: &str) -> bool {
    let name = name.strip_prefix("*.").unwrap_or(name);
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    name.len() <= 253 && name.split('.').all(|label| !label.is_empty() && label.bytes().all(plain))
}

fn is_visible(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic())
}
