//! The proxies of a run: alone before three servers in plain text, or two, with mutual TLS between them.
//!
//! ```text
//!   alone:  clients ──► outbound ──► servers
//!   pair:   clients ──► outbound of 0 ══ mutual TLS, or datagrams ══► inbound of 1 ──► servers
//! ```

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use pipy_http::Method;
use pipy_mesh::{Page, Pages, Plan, Sidecar, Update, listener};
use pipy_observe::{Labels, LogWriter, Metrics};
use pipy_testkit::{Far, Faults, Listener, Simulation};
use pipy_tls::Credentials;
use pipy_worker::Accepted;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_ED25519, SanType};

use crate::peers::{Echo, Web};

const CLIENT: &str = "spiffe://cluster.local/ns/c/sa/client";
const SERVER: &str = "spiffe://cluster.local/ns/s/sa/server";

struct NoPages;

impl Pages for NoPages {
    fn page(&self, _listener: u32, _method: &Method, _path: &str, _query: Option<&str>) -> Page {
        unreachable!("no one asks")
    }
}

/// What differs between runs.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bounds {
    /// Requests after which a connection to or from a proxy is over.
    pub(crate) requests: usize,
    /// The age at which it is, of the connections to servers and of those of clients.
    pub(crate) age_up_ms: usize,
    pub(crate) age_down_ms: usize,
    pub(crate) streams: usize,
}

fn clusters(name: &str) -> String {
    format!(r#"[{{"cluster":"{name}","weight":1}}]"#)
}

fn hosts(cluster: &str, allowed: &str) -> String {
    format!(
        r#"[{{"names":["*"],"service":"s","origin":"o","routes":[{{"origin":"o","path":{{"prefix":"/"}},"allowed":{allowed},"clusters":{}}}]}}]"#,
        clusters(cluster)
    )
}

fn tcp(cluster: &str, allowed: &str) -> String {
    format!(r#"{{"origin":"o","service":"s","allowed":{allowed},"clusters":{}}}"#, clusters(cluster))
}

/// Protocols are waited for longer than the clock jumps: a request line that comes too late would be taken for bytes.
fn whole(version: usize, identity: &str, bounds: Bounds, rest: &str) -> Update {
    let Bounds { requests, age_down_ms, streams, .. } = bounds;
    let text = format!(
        r#"{{"version":"{version}","identity":"{identity}","timeouts":{{"detect_ms":3000000}},
            "connection_limits":{{"connection_age_ms":{age_down_ms},"requests_per_connection_max":{requests},
            "streams_max":{streams}}},{rest}}}"#
    );
    Update::Plan(Arc::new(Plan::new(pipy_config::parse(text.as_bytes()).expect("valid"))), Vec::new())
}

/// The plan of who calls; `members`: who is called has an identity. Each version names the endpoints in another order.
pub(crate) fn caller(version: usize, bounds: Bounds, members: bool) -> Update {
    let cluster = |name: &str, port: u16, secure: bool| {
        let Bounds { age_up_ms, streams, .. } = bounds;
        let identity = if secure { format!(r#","identity":"{SERVER}""#) } else { String::new() };
        let each =
            (0..3).map(|n| format!(r#"{{"address":"10.0.0.{}:{port}"{identity}}}"#, 1 + (n + version) % 3));
        format!(
            r#""{name}":{{"origin":"o","limits":{{"connection_age_ms":{age_up_ms},"streams_max":{streams}}},
                "endpoints":[{}]}}"#,
            each.collect::<Vec<_>>().join(",")
        )
    };
    let (web, bytes, udp) = (hosts("web", "null"), tcp("bytes", "null"), tcp("udp", "null"));
    let text = format!(
        r#""outbound":{{"matches":[
            {{"port":80,"protocol":"http","origin":"o","hosts":{web}}},
            {{"port":90,"protocol":"tcp","origin":"o","tcp":{bytes}}},
            {{"port":85,"protocol":"auto","origin":"o","hosts":{web},"tcp":{bytes}}},
            {{"port":53,"protocol":"udp","origin":"o","tcp":{udp}}}]}},
            "clusters":{{{},{},{}}}"#,
        cluster("web", 8080, members),
        cluster("bytes", 9090, members),
        cluster("udp", 5353, false),
    );
    whole(version, CLIENT, bounds, &text)
}

/// The plan of who is called.
pub(crate) fn callee(version: usize, bounds: Bounds) -> Update {
    let allowed = format!(r#"[{{"identity":"{CLIENT}","origin":"o"}}]"#);
    let local = |name: &str, port: u16| {
        format!(r#""{name}":{{"origin":"o","endpoints":[{{"address":"127.0.0.1:{port}"}}]}}"#)
    };
    let text = format!(
        r#""inbound":{{"matches":[
            {{"port":8080,"protocol":"http","origin":"o","hosts":{}}},
            {{"port":9090,"protocol":"tcp","origin":"o","tcp":{}}},
            {{"port":5353,"protocol":"udp","origin":"o","mtls":"disabled",
              "sources":[{{"cidrs":["10.2.0.0/16"],"origin":"o"}}],"tcp":{}}}]}},"clusters":{{{},{},{}}}"#,
        hosts("web", &allowed),
        tcp("bytes", &allowed),
        tcp("udp", "[]"),
        local("web", 8080),
        local("bytes", 9090),
        local("udp", 5353),
    );
    whole(version, SERVER, bounds, &text)
}

/// Credentials of both before and after the authority was replaced. All keys are of a kind whose signatures have one length:
/// what the dice see must not depend on them.
pub(crate) fn credentials(node: usize, generation: usize) -> Credentials {
    static MADE: OnceLock<Vec<Credentials>> = OnceLock::new();
    let make = || {
        let key = || KeyPair::generate_for(&PKCS_ED25519).expect("a key");
        let root = |name: &str| {
            let mut params = CertificateParams::new(Vec::new()).expect("valid");
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.serial_number = Some(vec![1; 8].into());
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            CertifiedIssuer::self_signed(params, key()).expect("a root")
        };
        let roots = [root("one"), root("two")];
        let both = format!("{}{}", roots[0].pem(), roots[1].pem());
        let member = |number: usize| {
            let mut params = CertificateParams::new(Vec::new()).expect("valid");
            params.serial_number = Some(vec![1; 8].into());
            let uri = [CLIENT, SERVER][number % 2];
            params.subject_alt_names = vec![SanType::URI(uri.try_into().expect("ascii"))];
            let (own, issuer) = (key(), &roots[number / 2]);
            let certificate = params.signed_by(&own, issuer).expect("a certificate");
            Credentials::from_pem(&certificate.pem(), &own.serialize_pem(), &both).expect("credentials")
        };
        (0..4).map(member).collect()
    };
    MADE.get_or_init(make)[node + 2 * generation].clone()
}

/// A run's proxies, and what they count.
pub(crate) struct Site {
    pub(crate) world: Simulation<Sidecar>,
    pub(crate) metrics: Arc<Metrics>,
    log: LogWriter,
}

impl Site {
    pub(crate) fn new(seed: u64, faults: Faults, bounds: Bounds, pair: bool) -> Self {
        let start = Instant::now();
        let metrics = Metrics::new(Labels::default());
        let log = LogWriter::to(std::io::sink()).expect("a log");
        let app = |node: usize| {
            let mut app = Sidecar::new(metrics.worker(), log.buffer(), Arc::new(NoPages), start)
                .seeded(seed + node as u64);
            use pipy_worker::App;
            app.update(Update::Credentials(0, credentials(node, 0)));
            app.update(if node == 0 { caller(0, bounds, pair) } else { callee(0, bounds) });
            app
        };
        let apps = (0..if pair { 2 } else { 1 }).map(app).collect();
        let mut port = 1024_u16;
        let upstream = move |node: usize, to: SocketAddr| -> Far {
            if !pair || node == 1 {
                return Far::Peer(if to.port() == 8080 { Box::new(Web::default()) } else { Box::new(Echo) });
            }
            port += 1;
            let accepted = Accepted {
                peer: SocketAddr::from(([10, 2, 0, 1], port)),
                local: SocketAddr::new(to.ip(), 15003),
                destination: to,
            };
            Far::Node(Listener { node: 1, key: listener::INBOUND, accepted })
        };
        Site { world: Simulation::new(apps, seed, start, faults, upstream), metrics, log }
    }

    /// A count of `/stats`; 0 where nobody has counted.
    pub(crate) fn counted(&self, name: &str) -> u64 {
        let stats = self.metrics.stats();
        let line = stats.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.map_or(0, |value| value.trim().parse().expect("a number"))
    }

    /// Nothing may be left, when everyone has gone.
    pub(crate) fn end(self) -> u64 {
        assert_eq!(self.world.open(), 0, "sockets are left");
        for (number, node) in self.world.nodes.iter().enumerate() {
            assert_eq!(node.graph.sockets(), 0, "the graph of {number} has sockets left");
            assert_eq!(node.graph.pipelines(), 0, "pipelines of {number} are left");
            assert_eq!(node.graph.timers.len(), 0, "timers of {number} are left");
        }
        let trace = self.world.trace();
        drop(self.world);
        self.log.shutdown();
        trace
    }
}
