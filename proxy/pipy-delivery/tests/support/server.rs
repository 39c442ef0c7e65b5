//! The server: the protocol of the control plane, and every way of breaking it.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustls::{ServerConnection, StreamOwned};
use serde_json::{Value, json};

use super::certificates::Authority;
use super::{DEADLINE, IDENTITY, TOKEN};

/// How one of the calls is answered.
#[derive(Clone)]
pub enum Mode {
    Normal,
    Status(u16, &'static str),
    /// These bytes, then the end of the connection.
    Raw(Vec<u8>),
    /// These bytes, then nothing, with the connection open.
    Stall(Vec<u8>),
    /// A 200 with this head and a body of so many zeros.
    Huge(&'static str, u64),
}

/// What the control plane does; tests change it at any time.
pub struct World {
    pub token: String,
    pub config: Option<(String, Vec<u8>)>,
    /// What is sent to whoever takes it, instead of the whole.
    pub difference: Option<Vec<u8>>,
    pub renew_after_s: u64,
    /// Let another authority sign the certificates of clients.
    pub signer: Option<Arc<Authority>>,
    /// Issue certificates for another key than the one asked for.
    pub foreign_key: bool,
    /// Answer `Normal` polls at once, whatever the version.
    pub impatient: bool,
    pub certificates: Mode,
    pub polls: Mode,
    pub acks: Mode,
}

#[derive(Debug, Clone)]
pub struct Call {
    pub path: String,
    pub query: BTreeMap<String, String>,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
    /// The leaf that the client showed.
    pub peer: Option<Vec<u8>>,
    pub connection: SocketAddr,
}

impl Call {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

pub struct State {
    pub world: World,
    pub calls: Vec<Call>,
    /// TCP connections that were accepted.
    pub accepted: usize,
    closing: bool,
    connections: Vec<TcpStream>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    authority: Arc<Authority>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Runs until it is stopped or dropped.
pub struct ControlPlane {
    pub authority: Arc<Authority>,
    pub port: u16,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

impl ControlPlane {
    pub fn start() -> Self {
        ControlPlane::start_with(Arc::new(Authority::new()), 0)
    }

    /// With the root of one before, on its port.
    pub fn start_with(authority: Arc<Authority>, port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let world = World {
            token: TOKEN.to_owned(),
            config: None,
            difference: None,
            renew_after_s: 3600,
            signer: None,
            foreign_key: false,
            impatient: false,
            certificates: Mode::Normal,
            polls: Mode::Normal,
            acks: Mode::Normal,
        };
        let state = State { world, calls: Vec::new(), accepted: 0, closing: false, connections: Vec::new() };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
            authority: Arc::clone(&authority),
        });
        let of_thread = Arc::clone(&shared);
        let accepting = std::thread::spawn(move || accept(&of_thread, &listener));
        ControlPlane { authority, port, shared, accepting: Some(accepting) }
    }

    /// Changes what it does, and lets waiting polls look again.
    pub fn change(&self, change: impl FnOnce(&mut World)) {
        change(&mut self.shared.lock().world);
        self.shared.changed.notify_all();
    }

    pub fn publish(&self, version: &str, body: &str) {
        self.change(|world| world.config = Some((version.to_owned(), body.as_bytes().to_vec())));
    }

    /// Waits until `look` finds what it looks for.
    pub fn wait<T>(&self, what: &str, mut look: impl FnMut(&State) -> Option<T>) -> T {
        let until = Instant::now() + DEADLINE;
        let mut state = self.shared.lock();
        loop {
            if let Some(found) = look(&state) {
                return found;
            }
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "never happened: {what}; calls: {:#?}", state.calls);
            state = self.shared.changed.wait_timeout(state, left).unwrap().0;
        }
    }

    /// Waits for the `n`th call to a path, from 0.
    pub fn call(&self, path: &str, n: usize) -> Call {
        self.wait(&format!("call {n} of {path}"), |state| {
            state.calls.iter().filter(|call| call.path == path).nth(n).cloned()
        })
    }

    pub fn count(&self, path: &str) -> usize {
        self.shared.lock().calls.iter().filter(|call| call.path == path).count()
    }

    /// Ends it, with every connection. Gives back what is needed to start it again.
    pub fn stop(mut self) -> (Arc<Authority>, u16) {
        self.end();
        (Arc::clone(&self.authority), self.port)
    }

    fn end(&mut self) {
        let Some(accepting) = self.accepting.take() else { return };
        let connections = {
            let mut state = self.shared.lock();
            state.closing = true;
            std::mem::take(&mut state.connections)
        };
        self.shared.changed.notify_all();
        for connection in connections {
            let _ = connection.shutdown(Shutdown::Both);
        }
        // Wakes the accepting thread.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        accepting.join().unwrap();
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.end();
    }
}

fn accept(shared: &Arc<Shared>, listener: &TcpListener) {
    let config = shared.authority.server_config();
    let mut threads = Vec::new();
    while let Ok((connection, from)) = listener.accept() {
        let mut state = shared.lock();
        if state.closing {
            break;
        }
        state.connections.push(connection.try_clone().unwrap());
        state.accepted += 1;
        drop(state);
        shared.changed.notify_all();
        let (shared, config) = (Arc::clone(shared), Arc::clone(&config));
        threads.push(std::thread::spawn(move || {
            let tls = StreamOwned::new(ServerConnection::new(config).unwrap(), connection);
            // A client may leave at any time.
            let _ = serve(&shared, tls, from);
        }));
    }
    for thread in threads {
        thread.join().unwrap();
    }
}

type Tls = StreamOwned<ServerConnection, TcpStream>;

fn serve(shared: &Shared, mut tls: Tls, connection: SocketAddr) -> io::Result<()> {
    while let Some(call) = read_call(&mut tls, connection)? {
        let mode = {
            let mut state = shared.lock();
            state.calls.push(call.clone());
            match call.path.as_str() {
                "/v1/certificates" => state.world.certificates.clone(),
                "/v1/config" => state.world.polls.clone(),
                "/v1/acks" => state.world.acks.clone(),
                _ => Mode::Status(404, "no such path"),
            }
        };
        shared.changed.notify_all();
        match mode {
            Mode::Normal => {
                let (status, headers, body) = match call.path.as_str() {
                    "/v1/certificates" => certificate(shared, &call),
                    "/v1/config" => poll(shared, &call),
                    _ => (204, String::new(), Vec::new()),
                };
                answer(&mut tls, status, &headers, &body)?;
            }
            Mode::Status(status, reason) => {
                answer(&mut tls, status, "", json!({ "error": reason }).to_string().as_bytes())?;
            }
            Mode::Raw(bytes) => {
                tls.write_all(&bytes)?;
                tls.conn.send_close_notify();
                return tls.flush();
            }
            Mode::Stall(bytes) => {
                tls.write_all(&bytes)?;
                tls.flush()?;
                // Until the client gives up.
                return io::copy(&mut tls, &mut io::sink()).map(drop);
            }
            Mode::Huge(head, length) => {
                write!(tls, "HTTP/1.1 200 OK\r\n{head}content-length: {length}\r\n\r\n")?;
                io::copy(&mut io::repeat(b'0').take(length), &mut tls)?;
            }
        }
    }
    Ok(())
}

fn certificate(shared: &Shared, call: &Call) -> (u16, String, Vec<u8>) {
    let state = shared.lock();
    let refusal =
        |status, reason: &str| (status, String::new(), json!({ "error": reason }).to_string().into_bytes());
    if call.headers.get("authorization") != Some(&format!("Bearer {}", state.world.token)) {
        return refusal(401, "the token is refused: it has expired");
    }
    let csr = call.json()["csr"].as_str().unwrap_or_default().to_owned();
    let signer = state.world.signer.as_ref().unwrap_or(&shared.authority);
    let leaf = match signer.sign(&csr) {
        _ if state.world.foreign_key => shared.authority.sign_foreign(),
        Ok(leaf) => leaf,
        Err(error) => return refusal(400, &error.to_string()),
    };
    let body = json!({
        "chain": [leaf],
        "roots": [shared.authority.root_pem()],
        "identity": IDENTITY,
        "not_after": "2099-01-01T00:00:00Z",
        "renew_after_s": state.world.renew_after_s,
    });
    (200, String::new(), body.to_string().into_bytes())
}

fn poll(shared: &Shared, call: &Call) -> (u16, String, Vec<u8>) {
    if call.peer.is_none() {
        return (
            401,
            String::new(),
            json!({"error": "a client certificate is needed"}).to_string().into_bytes(),
        );
    }
    let wait_s = call.query.get("wait_s").and_then(|s| s.parse().ok()).unwrap_or(0);
    let until = Instant::now() + Duration::from_secs(wait_s);
    let version = call.query.get("version").cloned().unwrap_or_default();
    let mut state = shared.lock();
    loop {
        match &state.world.config {
            Some((newest, body)) if *newest != version || state.world.impatient => {
                let tag = format!("ETag: \"{newest}\"\r\n");
                return match &state.world.difference {
                    Some(difference) if call.headers.contains_key("a-im") => (226, tag, difference.clone()),
                    _ => (200, tag, body.clone()),
                };
            }
            _ => {}
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || state.closing || state.world.impatient {
            return (304, String::new(), Vec::new());
        }
        state = shared.changed.wait_timeout(state, left).unwrap().0;
    }
}

fn answer(tls: &mut Tls, status: u16, headers: &str, body: &[u8]) -> io::Result<()> {
    let length = match status {
        204 | 304 => String::new(),
        _ => format!("content-length: {}\r\n", body.len()),
    };
    write!(tls, "HTTP/1.1 {status} Whatever\r\n{headers}{length}\r\n")?;
    tls.write_all(body)?;
    tls.flush()
}

/// Reads one request; `None` when the client has left.
fn read_call(tls: &mut Tls, connection: SocketAddr) -> io::Result<Option<Call>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match tls.read(&mut byte)? {
            0 => return Ok(None),
            _ => head.push(byte[0]),
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.lines();
    let target = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default().to_owned();
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length = headers.get("content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    tls.read_exact(&mut body)?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let query =
        query.split('&').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (k.into(), v.into())).collect();
    let peer = tls.conn.peer_certificates().and_then(|chain| chain.first()).map(|leaf| leaf.to_vec());
    Ok(Some(Call { path: path.into(), query, headers, body, peer, connection }))
}
