//! The workers as one: what is sent to all of them, and which listeners are open.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use pipy_mesh::{
    PROBE_LISTENERS, Pages, Plan, Sidecar, Update, listener, unknown_stages, unknown_tcp_stages,
};
use pipy_observe::{Collector, Exporter, LogWriter, Metrics, Shape};
use pipy_tls::Credentials;
use pipy_worker::{Handle, Settings, Worker};

/// All workers of the process.
pub(crate) struct Workers {
    handles: Vec<Handle<Update>>,
    threads: Vec<JoinHandle<()>>,
    open: BTreeMap<u32, SocketAddr>,
    generation: u64,
    addresses: BTreeMap<u32, SocketAddr>,
    spans: Exporter,
    lines: Exporter,
}

type Listeners = Vec<(u32, Option<std::net::TcpListener>)>;

impl Workers {
    /// Starts the workers; traffic listeners open with the first plan that has use for them.
    pub(crate) fn start(
        count: usize,
        mark: Option<u32>,
        addresses: BTreeMap<u32, SocketAddr>,
        metrics: &Metrics,
        log: &LogWriter,
        pages: &Arc<dyn Pages>,
    ) -> Result<Self, String> {
        let start = Instant::now();
        let exporter = |name, shape| {
            Exporter::start(name, shape, mark).map_err(|error| format!("{name} did not start: {error}"))
        };
        let (spans, lines) = (exporter("spans", Shape::Array)?, exporter("remote-log", Shape::Lines)?);
        metrics.set_exports(spans.stats(), lines.stats());
        let (mut handles, mut threads) = (Vec::new(), Vec::new());
        for number in 0..count {
            let (metrics, log, pages) = (metrics.worker(), log.buffer(), Arc::clone(pages));
            let exports = (spans.buffer(), lines.buffer());
            let app = move || Sidecar::new(metrics, log, pages, start).exporting(exports.0, exports.1);
            let (handle, thread) = Worker::spawn(format!("worker-{number}"), Settings { mark }, app)
                .map_err(|error| format!("worker {number} did not start: {error}"))?;
            let way = handle.clone();
            handle.update(Update::Way(Arc::new(move |id, result| way.update(Update::Done(id, result)))));
            handles.push(handle);
            threads.push(thread);
        }
        let mut workers =
            Workers { handles, threads, open: BTreeMap::new(), generation: 0, addresses, spans, lines };
        let changes = workers.listeners(&both([(listener::ADMIN, true), (listener::METRICS, true)]))?;
        for (handle, listeners) in workers.handles.iter().zip(changes) {
            handle.update(Update::Listeners(listeners));
        }
        Ok(workers)
    }

    /// Takes UDP that the firewall captures for the listeners of traffic, from now on.
    pub(crate) fn carry_datagrams(&self) -> Result<(), String> {
        let mut listeners: Vec<Vec<_>> = self.handles.iter().map(|_| Vec::new()).collect();
        let traffic = |key: &u32| matches!(listener::role(*key), listener::INBOUND | listener::OUTBOUND);
        for (key, address) in self.addresses.iter().filter(|(key, _)| traffic(key)) {
            let bound = pipy_worker::bind_captured(*address, self.handles.len())
                .map_err(|error| format!("cannot capture UDP on {address}: {error}"))?;
            for (listeners, socket) in listeners.iter_mut().zip(bound) {
                listeners.push((*key, Some(socket)));
            }
        }
        for (handle, listeners) in self.handles.iter().zip(listeners) {
            handle.update(Update::Datagrams(listeners));
        }
        Ok(())
    }

    /// Puts a plan to work, or says why not; then nothing has changed.
    pub(crate) fn apply(&mut self, plan: Plan) -> Result<Arc<Plan>, String> {
        let chains = &plan.chains;
        for (name, chain) in
            [("inbound-http", &chains.inbound_http), ("outbound-http", &chains.outbound_http)]
        {
            if let Some(unknown) = unknown_stages(chain).first() {
                return Err(format!("chains.{name}: no stage is called {unknown:?}"));
            }
        }
        for (name, chain) in [("inbound-tcp", &chains.inbound_tcp), ("outbound-tcp", &chains.outbound_tcp)] {
            if let Some(unknown) = unknown_tcp_stages(chain).first() {
                return Err(format!("chains.{name}: no stage is called {unknown:?}"));
            }
        }
        plan.check_plugins().map_err(|error| format!("plugins: {error}"))?;
        self.refuse_own_ports(&plan)?;
        let mut wanted =
            vec![(listener::INBOUND, plan.inbound.is_some()), (listener::OUTBOUND, plan.outbound.is_some())];
        wanted.extend(
            PROBE_LISTENERS
                .map(|(key, probes)| (key, plan.probes.iter().any(|probe| probe.listener == probes))),
        );
        let changes = self.listeners(&both(wanted))?;
        let telemetry = &plan.telemetry;
        self.spans.set_collector(telemetry.tracing.as_ref().map(|tracing| collector(&tracing.collector)));
        self.lines.set_collector(telemetry.remote_log.as_ref().map(|remote| collector(&remote.collector)));
        let plan = Arc::new(plan);
        for (handle, listeners) in self.handles.iter().zip(changes) {
            handle.update(Update::Plan(Arc::clone(&plan), listeners));
        }
        Ok(plan)
    }

    /// Uses other credentials from now on.
    pub(crate) fn credentials(&mut self, credentials: &Credentials) {
        self.generation += 1;
        for handle in &self.handles {
            handle.update(Update::Credentials(self.generation, credentials.clone()));
        }
    }

    /// The listeners that are open, and their addresses.
    pub(crate) fn open(&self) -> Vec<(u32, SocketAddr)> {
        self.open.iter().map(|(key, at)| (*key, *at)).collect()
    }

    /// Closes the listeners; workers end with their last connection.
    pub(crate) fn drain(&self) {
        self.handles.iter().for_each(Handle::drain);
    }

    /// Whether every worker has ended.
    pub(crate) fn ended(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Ends the workers, whatever is open.
    pub(crate) fn stop(self) {
        self.handles.iter().for_each(Handle::stop);
        for thread in self.threads {
            // A worker that panicked has ended the process (panic = abort); there is nothing to learn here.
            let _ = thread.join();
        }
        // The workers' last spans are in their buffers no more.
        self.spans.shutdown();
        self.lines.shutdown();
    }

    /// A probe listener is open to everyone who reaches the Pod. It must not lead to our own: the administration takes
    /// whoever calls it over loopback for the Pod's owner.
    fn refuse_own_ports(&self, plan: &Plan) -> Result<(), String> {
        let own = |port: u16| self.addresses.values().chain(self.open.values()).any(|at| at.port() == port);
        match plan.probes.iter().position(|probe| own(probe.port)) {
            Some(found) => Err(format!("probes[{found}].port: a listener of this proxy is no application")),
            None => Ok(()),
        }
    }

    /// Per worker, the listeners to open and close. Binds before anything is closed, so that a failure changes nothing.
    fn listeners(&mut self, wanted: &[(u32, bool)]) -> Result<Vec<Listeners>, String> {
        let mut changes: Vec<Listeners> = self.handles.iter().map(|_| Vec::new()).collect();
        let mut open = self.open.clone();
        for &(key, wanted) in wanted {
            match (wanted, self.addresses.get(&key)) {
                (true, Some(&address)) if !open.contains_key(&key) => {
                    let bound = pipy_worker::bind(address, self.handles.len())
                        .map_err(|error| format!("cannot listen on {address}: {error}"))?;
                    let actual =
                        bound.first().and_then(|listener| listener.local_addr().ok()).unwrap_or(address);
                    open.insert(key, actual);
                    for (changes, listener) in changes.iter_mut().zip(bound) {
                        changes.push((key, Some(listener)));
                    }
                }
                (false, _) if open.remove(&key).is_some() => {
                    changes.iter_mut().for_each(|changes| changes.push((key, None)));
                }
                _ => {}
            }
        }
        self.open = open;
        Ok(changes)
    }
}

/// Each listener and, beside it, the same over IPv6.
fn both(wanted: impl IntoIterator<Item = (u32, bool)>) -> Vec<(u32, bool)> {
    wanted.into_iter().flat_map(|(key, on)| [(key, on), (key + listener::OVER_IPV6, on)]).collect()
}

fn collector(of: &pipy_config::Collector) -> Collector {
    Collector {
        host: of.host.clone(),
        port: of.port,
        path: of.path.clone(),
        authorization: of.authorization.clone(),
    }
}
