//! `pipy sidecar`: brings configuration and credentials to the workers until it is told to end.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use pipy_mesh::{Pages, Plan, listener};
use pipy_observe::{Labels, LogWriter, Metrics};
use pipy_tls::Credentials;
use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::args::{CredentialFiles, SidecarOptions, Source};
use crate::notice;
use crate::pages::{State, listener_name};
use crate::process::Workers;

/// What the main thread waits for.
enum Happening {
    /// A signal came.
    Signal(i32),
    /// Someone asked the process to end, over its administration.
    Quit,
    /// The control plane sent something; the sender is told what became of it.
    Delivered(pipy_delivery::Event, Sender<pipy_delivery::Ack>),
}

/// LIMIT: how long connections may finish after the first signal, where the configuration says nothing.
const DRAIN_DEFAULT: Duration = Duration::from_secs(30);

/// How often the end of the workers is looked for while draining.
const DRAIN_TICK: Duration = Duration::from_millis(20);

/// What the control plane has certified, and the roots that are at work with it.
struct Certified {
    identity: String,
    not_after: u64,
    chain: String,
    key: String,
    roots: String,
}

impl Certified {
    fn credentials(&self) -> Result<Credentials, String> {
        Credentials::from_pem(&self.chain, &self.key, &self.roots).map_err(|error| causes(&error))
    }
}

struct Main {
    workers: Workers,
    state: Arc<State>,
    drain: Duration,
    /// `None` where credentials come from files: these bring their roots along.
    certified: Option<Certified>,
    /// Tells the control plane what fails in plugins, from the first configuration on that has some.
    reporter: Option<pipy_delivery::Reporter>,
}

pub(crate) fn run(options: SidecarOptions) -> Result<(), String> {
    let (sender, happenings) = mpsc::channel();
    watch_signals(sender.clone())?;
    let metrics = Metrics::new(Labels::default());
    let log = LogWriter::stdout().map_err(|error| format!("the log did not start: {error}"))?;
    metrics.set_log(log.stats());
    let quit = sender.clone();
    let quit = Box::new(move || drop(quit.send(Happening::Quit)));
    let state = State::new(Arc::clone(&metrics), quit);
    let mut addresses = BTreeMap::from([
        (listener::INBOUND, options.inbound),
        (listener::OUTBOUND, options.outbound),
        (listener::ADMIN, options.admin),
        (listener::METRICS, options.metrics),
        (listener::LIVENESS, options.liveness),
        (listener::READINESS, options.readiness),
        (listener::STARTUP, options.startup),
        (listener::TCP_PROBES, options.tcp_probes),
    ]);
    for (key, address) in addresses.clone() {
        addresses.extend(beside(address).map(|address| (key + listener::OVER_IPV6, address)));
    }
    let pages: Arc<dyn Pages> = Arc::clone(&state) as Arc<dyn Pages>;
    let workers = Workers::start(options.workers, options.mark, addresses, &metrics, &log, &pages)?;
    if options.udp {
        workers
            .carry_datagrams()
            .map_err(|why| format!("{why} (--udp needs CAP_NET_ADMIN and CAP_NET_RAW)"))?;
    }
    state.listening(workers.open());
    for (key, address) in workers.open() {
        notice::info(&format!("{} on {address}", listener_name(key)));
    }
    let mut main = Main { workers, state, drain: DRAIN_DEFAULT, certified: None, reporter: None };
    match options.source {
        Source::Files { config, credentials } => {
            main.load(&config, credentials.as_ref())?;
            main.serve(&happenings, Some(&(config, credentials)));
        }
        Source::ControlPlane { url, server_name, ca, token } => {
            let delivery = start_delivery(url, server_name, ca, token, options.mark, sender)?;
            main.reporter = Some(delivery.reporter());
            main.serve(&happenings, None);
            // Answers what delivery may still wait for, so that its thread can end.
            drop(happenings);
            delivery.stop();
        }
    }
    main.workers.stop();
    log.shutdown();
    Ok(())
}

/// WHY: one socket for both families can't tell where a redirected IPv4 connection was going. Who listens on all of IPv4's
/// addresses means all there are; a kernel without IPv6 has no others.
fn beside(address: SocketAddr) -> Option<SocketAddr> {
    let all = address.ip() == IpAddr::V4(Ipv4Addr::UNSPECIFIED) && address.port() != 0;
    let v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, address.port()));
    (all && UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()).then_some(v6)
}

impl Main {
    /// Until the end: signals, requests to quit, what the control plane sends.
    fn serve(
        &mut self,
        happenings: &Receiver<Happening>,
        files: Option<&(PathBuf, Option<CredentialFiles>)>,
    ) {
        while let Ok(happening) = happenings.recv() {
            match happening {
                Happening::Signal(SIGHUP) => {
                    if let Some((config, credentials)) = files
                        && let Err(error) = self.load(config, credentials.as_ref())
                    {
                        notice::warn(&format!("kept the configuration that was at work: {error}"));
                    }
                }
                Happening::Signal(_) | Happening::Quit => return self.end(happenings),
                Happening::Delivered(event, answer) => {
                    // A delivery thread that is gone needs no answer.
                    let _ = answer.send(self.delivered(event));
                }
            }
        }
    }

    /// Lets connections finish; a second signal cuts them off.
    fn end(&mut self, happenings: &Receiver<Happening>) {
        notice::info(&format!("draining, for {} ms at most", self.drain.as_millis()));
        self.workers.drain();
        let deadline = Instant::now() + self.drain;
        while !self.workers.ended() && Instant::now() < deadline {
            match happenings.recv_timeout(DRAIN_TICK) {
                Ok(Happening::Signal(SIGTERM | SIGINT)) | Err(RecvTimeoutError::Disconnected) => return,
                _ => {}
            }
        }
    }

    /// Reads the files. Nothing changes unless all of them are good.
    fn load(&mut self, config: &Path, credentials: Option<&CredentialFiles>) -> Result<(), String> {
        let read = || {
            let credentials = credentials.map(read_credentials).transpose()?;
            let json = fs::read(config).map_err(|error| format!("{}: {error}", config.display()))?;
            Ok((credentials, json))
        };
        let (credentials, json) = read().inspect_err(|reason: &String| self.state.refused(reason))?;
        // Credentials come first, for a listener that opens has need of them; but not for a configuration to be refused.
        if let Some((credentials, shown)) = credentials
            && pipy_config::parse(&json).is_ok()
        {
            self.workers.credentials(&credentials);
            self.state.certified(shown);
        }
        self.apply(&json).map_err(|error| format!("{}: {error}", config.display()))
    }

    fn apply(&mut self, json: &[u8]) -> Result<(), String> {
        let began = Instant::now();
        let result = self.try_apply(json);
        let control = &self.state.metrics.control;
        match &result {
            Ok(version) => {
                control.config_applied.inc();
                control
                    .config_apply
                    .record_us(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
                notice::info(&format!("applied configuration {version}"));
            }
            Err(reason) => {
                control.config_refused.inc();
                self.state.refused(reason);
                notice::warn(&format!("refused a configuration: {reason}"));
            }
        }
        result.map(drop)
    }

    fn try_apply(&mut self, json: &[u8]) -> Result<String, String> {
        let config = pipy_config::parse(json).map_err(|error| error.to_string())?;
        let (version, workload) = (config.version.clone(), config.workload.clone());
        let drain = Duration::from_millis(config.timeouts.drain_ms);
        let trusting = self.trusting(&config.trust.roots)?;
        let plan = self.workers.apply(Plan::new(config))?;
        if let Some((certified, credentials)) = trusting {
            notice::info("believing other roots");
            self.use_certified(certified, &credentials);
        }
        self.drain = if drain.is_zero() { DRAIN_DEFAULT } else { drain };
        self.state.metrics.set_workload(Labels {
            namespace: workload.namespace,
            kind: workload.kind,
            name: workload.name,
            pod: workload.pod,
        });
        crate::faults::applied(&plan);
        if !plan.plugins.is_empty()
            && let Some(reporter) = self.reporter.take()
            && let Err(error) = crate::faults::report(reporter)
        {
            notice::warn(&error);
        }
        self.state.applied(plan, json, self.workers.open());
        // Reading a configuration takes several times the memory of having it.
        pipy_sys::give_back_memory();
        Ok(version)
    }

    /// What is certified together with the roots of a configuration, where these are others.
    fn trusting(&self, roots: &[String]) -> Result<Option<(Certified, Credentials)>, String> {
        let Some(now) = &self.certified else { return Ok(None) };
        let roots = roots.join("\n");
        if roots.is_empty() || roots == now.roots {
            return Ok(None);
        }
        let certified = Certified {
            identity: now.identity.clone(),
            not_after: now.not_after,
            chain: now.chain.clone(),
            key: now.key.clone(),
            roots,
        };
        let credentials = certified.credentials()?;
        Ok(Some((certified, credentials)))
    }

    fn use_certified(&mut self, certified: Certified, credentials: &Credentials) {
        self.workers.credentials(credentials);
        self.state.metrics.control.certificate_not_after_s.set(certified.not_after);
        self.state.certified(json!({
            "identity": certified.identity,
            "not_after_unix_s": certified.not_after,
            "chain": certified.chain,
            "roots": certified.roots,
        }));
        self.certified = Some(certified);
    }

    fn delivered(&mut self, event: pipy_delivery::Event) -> pipy_delivery::Ack {
        use pipy_delivery::{Ack, Event};
        match event {
            Event::Config { bytes, .. } => match self.apply(&bytes) {
                Ok(()) => Ack::Applied,
                Err(reason) => Ack::Refused(reason),
            },
            Event::Credentials { chain_pem, key_pem, roots_pem, identity, not_after } => {
                let certified =
                    Certified { identity, not_after, chain: chain_pem, key: key_pem, roots: roots_pem };
                match certified.credentials() {
                    Ok(credentials) => {
                        notice::info(&format!("certified as {}", certified.identity));
                        self.use_certified(certified, &credentials);
                        Ack::Applied
                    }
                    Err(error) => Ack::Refused(error),
                }
            }
            Event::Lost { reason, .. } => {
                notice::warn(&format!("lost the control plane, going on with what there is: {reason}"));
                self.state.metrics.control.connected.set(0);
                self.state.lost(Some(reason));
                Ack::Applied
            }
            Event::Restored => {
                notice::info("the control plane is reached");
                self.state.metrics.control.connected.set(1);
                self.state.lost(None);
                Ack::Applied
            }
        }
    }
}

fn start_delivery(
    url: String,
    server_name: Option<String>,
    ca: PathBuf,
    token: PathBuf,
    mark: Option<u32>,
    sender: Sender<Happening>,
) -> Result<pipy_delivery::Handle, String> {
    let variable = |name: &str| std::env::var(name).map_err(|_| format!("the environment has no {name}"));
    let pod = pipy_delivery::Pod {
        namespace: variable("POD_NAMESPACE")?,
        name: variable("POD_NAME")?,
        uid: variable("POD_UID")?,
    };
    let server_name = server_name.unwrap_or_else(|| host(&url).to_owned());
    let mut settings = pipy_delivery::Settings::new(url, server_name, ca, token, pod);
    settings.mark = mark;
    pipy_delivery::Client::spawn(settings, move |event| {
        let (answer, answered) = mpsc::channel();
        // A main thread that has gone on to its end answers no more; what came is then not applied.
        match sender.send(Happening::Delivered(event, answer)) {
            Ok(()) => answered.recv().unwrap_or_else(|_| ending()),
            Err(_) => ending(),
        }
    })
    .map_err(|error| format!("delivery did not start: {error}"))
}

fn ending() -> pipy_delivery::Ack {
    pipy_delivery::Ack::Refused("the proxy is ending".into())
}

/// The host of a URL or of `host:port`.
fn host(url: &str) -> &str {
    let authority = url.strip_prefix("https://").unwrap_or(url);
    authority.split(['/', ':']).next().unwrap_or(authority)
}

fn watch_signals(sender: Sender<Happening>) -> Result<(), String> {
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP])
        .map_err(|error| format!("signals cannot be caught: {error}"))?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for signal in signals.forever() {
                if sender.send(Happening::Signal(signal)).is_err() {
                    return;
                }
            }
        })
        .map_err(|error| format!("signals cannot be caught: {error}"))?;
    Ok(())
}

fn read(file: &Path) -> Result<String, String> {
    fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))
}

/// The credentials in files, and what of them may be shown.
fn read_credentials(files: &CredentialFiles) -> Result<(Credentials, serde_json::Value), String> {
    let (chain, roots) = (read(&files.chain)?, read(&files.roots)?);
    let credentials =
        Credentials::from_pem(&chain, &read(&files.key)?, &roots).map_err(|error| causes(&error))?;
    let shown = json!({
        "identity": credentials.identity(),
        "not_after_unix_s": credentials.not_after_unix_s(),
        "chain": chain,
        "roots": roots,
    });
    Ok((credentials, shown))
}

/// An error with its causes, in one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
