//! An instance's end of its WebSocket to the repository: it is told which logs are watched, and sends those.
//!
//! INVARIANT: nothing of it holds the instance: without a repository that has such links it tries again, less and less often.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;

use crate::links::Feed;
use crate::websocket::{Message, Side, Socket, Stream, accept, key};

/// How long the repository may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a command is waited for before lines are sent.
const TURN: Duration = Duration::from_millis(200);
/// How soon, and how late, another attempt is made.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// LIMIT: bytes of an answer's head.
const HEAD_MAX: usize = 16 << 10;
/// LIMIT: bytes of lines that go in one message.
const PIECE_MAX: usize = 256 << 10;

/// Gives a log by its name.
pub type Logs = Box<dyn Fn(&str) -> Feed + Send>;

/// Where the repository is, and what it may ask for.
pub(crate) struct Link {
    pub(crate) url: String,
    pub(crate) uuid: String,
    pub(crate) token: Option<String>,
    pub(crate) tls: Option<Arc<rustls::ClientConfig>>,
    pub(crate) logs: Logs,
    /// The repository wants the script to be loaded anew.
    pub(crate) reload: Box<dyn Fn() + Send>,
}

fn bad(why: &str) -> Error {
    Error::new(ErrorKind::InvalidData, why)
}

impl Link {
    /// Keeps the link until it is over.
    pub(crate) fn run(&self, over: &AtomicBool) {
        let mut pause = AGAIN.0;
        while !over.load(Ordering::Relaxed) {
            let began = Instant::now();
            // What fails is told by who asks the same repository for versions.
            let _ = self.once(over);
            pause = if began.elapsed() > AGAIN.1 { AGAIN.0 } else { (pause * 2).min(AGAIN.1) };
            let until = Instant::now() + pause;
            while Instant::now() < until && !over.load(Ordering::Relaxed) {
                std::thread::sleep(TURN);
            }
        }
    }

    fn once(&self, over: &AtomicBool) -> Result<()> {
        let uri: ureq::http::Uri = self.url.parse().map_err(Error::other)?;
        let authority = uri.authority().ok_or_else(|| bad("the URL has no host"))?;
        let secure = uri.scheme_str() == Some("https");
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let address = (host.as_str(), port).to_socket_addrs()?.next().ok_or(ErrorKind::NotFound)?;
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let control = stream.try_clone()?;
        let mut stream: Box<dyn Stream> = match (&self.tls, secure) {
            (Some(tls), true) => {
                let name = ServerName::try_from(host).map_err(Error::other)?;
                let session = rustls::ClientConnection::new(Arc::clone(tls), name).map_err(Error::other)?;
                Box::new(rustls::StreamOwned::new(session, stream))
            }
            _ => Box::new(stream),
        };
        let path = format!("{}/{}", uri.path().trim_end_matches('/'), self.uuid);
        let rest = self.shake_hands(&mut stream, authority.as_str(), &path)?;
        control.set_read_timeout(Some(TURN))?;
        self.converse(Socket::new(stream, Side::Client, rest), over)
    }

    /// Asks for a WebSocket; what was read behind the answer is the beginning of what the repository says.
    fn shake_hands(&self, stream: &mut (impl Read + Write), host: &str, path: &str) -> Result<Vec<u8>> {
        let key = key()?;
        let token = self.token.as_ref().map(|token| format!("authorization: Bearer {token}\r\n"));
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: {key}\r\n{}\r\n",
            token.unwrap_or_default()
        );
        stream.write_all(request.as_bytes())?;
        stream.flush()?;
        let mut read = Vec::new();
        loop {
            let mut headers = [httparse::EMPTY_HEADER; 64];
            let mut response = httparse::Response::new(&mut headers);
            if let httparse::Status::Complete(length) = response.parse(&read).map_err(Error::other)? {
                let wanted = accept(&key);
                let proven = response.headers.iter().any(|header| {
                    header.name.eq_ignore_ascii_case("sec-websocket-accept")
                        && header.value == wanted.as_bytes()
                });
                if response.code != Some(101) || !proven {
                    return Err(bad("the repository has no such link"));
                }
                return Ok(read.split_off(length));
            }
            let mut chunk = [0; 4096];
            let count = stream.read(&mut chunk)?;
            if count == 0 || read.len() > HEAD_MAX {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            read.extend_from_slice(&chunk[..count]);
        }
    }

    fn converse(&self, mut socket: Socket<'_>, over: &AtomicBool) -> Result<()> {
        let mut watched: BTreeMap<String, Receiver<Vec<u8>>> = BTreeMap::new();
        while !over.load(Ordering::Relaxed) {
            if let Some(Message::Text(command)) = socket.read()? {
                let command = command.trim();
                if let Some(log) = command.strip_prefix("log/off/") {
                    watched.remove(log);
                } else if let Some(log) =
                    command.strip_prefix("log/on/").or_else(|| command.strip_prefix("log/tail/"))
                {
                    let Feed { tail, lines } = (self.logs)(log);
                    // Those who watch already have all of it up to here before the others have it at once.
                    if let Some(before) = watched.insert(log.to_owned(), lines) {
                        send(&mut socket, log, &before)?;
                    }
                    socket.binary(&[format!("tail {log}\n").as_bytes(), &tail].concat())?;
                } else if command == "reload" {
                    (self.reload)();
                }
            }
            for (log, lines) in &watched {
                send(&mut socket, log, lines)?;
            }
        }
        Ok(())
    }
}

/// Sends the lines that have come.
fn send(socket: &mut Socket<'_>, log: &str, lines: &Receiver<Vec<u8>>) -> Result<()> {
    let head = format!("log {log}\n");
    loop {
        let mut piece = head.clone().into_bytes();
        while piece.len() < PIECE_MAX
            && let Ok(line) = lines.try_recv()
        {
            piece.extend(line);
        }
        if piece.len() == head.len() {
            return Ok(());
        }
        socket.binary(&piece)?;
    }
}
