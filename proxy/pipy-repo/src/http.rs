//! A small HTTP/1.1 server: each connection has a thread of its own, requests are answered in order.
//!
//! For administration, where callers are few and bodies are files of scripts; traffic goes through the workers.
//! INVARIANT: head, body, time and the number of connections are bounded. Not here: chunked bodies, what WebSockets say.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::websocket::{Side, Socket, accept};

/// LIMIT: bytes of a request's head.
const HEAD_MAX: usize = 16 << 10;
/// LIMIT: bytes of a body.
const BODY_MAX: usize = 16 << 20;
/// LIMIT: connections at a time.
const CONNECTIONS_MAX: usize = 4096;
/// How long a connection may be silent.
const PATIENCE: Duration = Duration::from_secs(20);

/// A request that was read.
pub struct Request {
    /// As it was sent.
    pub method: String,
    /// Decoded, without the query.
    pub path: String,
    /// As it was sent, without the question mark.
    pub query: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// All of it.
    pub body: Vec<u8>,
    /// Who asks.
    pub peer: IpAddr,
}

impl Request {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// An answer.
pub struct Response {
    /// 200 and so on.
    pub status: u16,
    /// Besides the length.
    pub headers: Vec<(&'static str, String)>,
    /// All of it.
    pub body: Vec<u8>,
}

impl Response {
    /// Nothing but a status.
    pub fn empty(status: u16) -> Self {
        Response { status, headers: Vec::new(), body: Vec::new() }
    }

    /// Plain text.
    pub fn text(status: u16, text: impl Into<String>) -> Self {
        Response {
            status,
            headers: vec![("content-type", "text/plain".into())],
            body: text.into().into_bytes(),
        }
    }

    /// JSON.
    pub fn json(value: &serde_json::Value) -> Self {
        let body = value.to_string().into_bytes();
        Response { status: 200, headers: vec![("content-type", "application/json".into())], body }
    }

    /// The same with one more header.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// What is said on a WebSocket, until it returns.
pub type Talk = Box<dyn FnOnce(Socket<'_>) + Send>;

/// Answers requests.
pub trait Service: Send + Sync + 'static {
    /// The answer to a request.
    fn answer(&self, request: &Request) -> Response;

    /// What is said to a client that asks for a WebSocket; without it the request is answered as any other.
    fn talk(&self, _request: &Request) -> Option<Talk> {
        None
    }
}

/// How long a WebSocket is read before there is time to write.
const TURN: Duration = Duration::from_millis(200);

/// Answers requests for as long as the process lives; over TLS where there are settings for it.
pub fn serve(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    service: impl Service,
) -> std::io::Result<()> {
    let service = Arc::new(service);
    let open = Arc::new(AtomicUsize::new(0));
    std::thread::Builder::new().name("admin".into()).spawn(move || {
        loop {
            let Ok((stream, peer)) = listener.accept() else {
                // Out of descriptors, mostly; those in use will come back.
                std::thread::sleep(Duration::from_millis(50));
                continue;
            };
            if open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
                open.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let (service, count, tls) = (Arc::clone(&service), Arc::clone(&open), tls.clone());
            let spawned = std::thread::Builder::new().name("admin-peer".into()).stack_size(512 << 10).spawn(
                move || {
                    let _open = Open(count);
                    let peer = peer.ip().to_canonical();
                    // A peer that goes away needs no words, nor one that believes another root.
                    let _ = prepared(&stream).and_then(|control| match tls {
                        None => converse(stream, &control, peer, service.as_ref()),
                        Some(tls) => {
                            let session =
                                rustls::ServerConnection::new(tls).map_err(std::io::Error::other)?;
                            let stream = rustls::StreamOwned::new(session, stream);
                            converse(stream, &control, peer, service.as_ref())
                        }
                    });
                },
            );
            if spawned.is_err() {
                open.fetch_sub(1, Ordering::Relaxed);
            }
        }
    })?;
    Ok(())
}

/// Counts a connection until it ends, however it ends.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Gives the stream its limits, and another handle of it to change them by.
fn prepared(stream: &TcpStream) -> std::io::Result<TcpStream> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    stream.try_clone()
}

/// Whether a request asks for a WebSocket, and the key that it is to be answered by (RFC 6455 §4.2.1).
fn wants_socket(request: &Request) -> Option<String> {
    let has = |name: &str, token: &str| {
        request
            .header(name)
            .is_some_and(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
    };
    let asked = request.method == "GET" && has("upgrade", "websocket") && has("connection", "upgrade");
    let known = request.header("sec-websocket-version").is_some_and(|version| version.trim() == "13");
    (asked && known).then(|| request.header("sec-websocket-key").map(accept)).flatten()
}

fn converse(
    mut stream: impl Read + Write,
    control: &TcpStream,
    peer: IpAddr,
    service: &dyn Service,
) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        match read(&mut stream, &mut buffer, peer)? {
            Asked::End => return Ok(()),
            Asked::Bad(response) => return write(&mut stream, &response, false, true),
            Asked::Request(request) => {
                if let Some(answer) = wants_socket(&request)
                    && let Some(talk) = service.talk(&request)
                {
                    let head = format!(
                        "HTTP/1.1 101 Switching Protocols\r\nserver: pipy-repo\r\nupgrade: websocket\r\n\
                         connection: Upgrade\r\nsec-websocket-accept: {answer}\r\n\r\n"
                    );
                    stream.write_all(head.as_bytes())?;
                    stream.flush()?;
                    control.set_read_timeout(Some(TURN))?;
                    talk(Socket::new(Box::new(&mut stream), Side::Server, buffer));
                    return Ok(());
                }
                let close = request
                    .header("connection")
                    .is_some_and(|value| value.to_ascii_lowercase().contains("close"));
                let response = service.answer(&request);
                write(&mut stream, &response, request.method == "HEAD", close)?;
                if close {
                    return Ok(());
                }
            }
        }
    }
}

enum Asked {
    Request(Request),
    Bad(Response),
    End,
}

fn more(stream: &mut impl Read, buffer: &mut Vec<u8>) -> std::io::Result<bool> {
    let mut chunk = [0; 16 << 10];
    let count = stream.read(&mut chunk)?;
    buffer.extend_from_slice(&chunk[..count]);
    Ok(count > 0)
}

fn read(stream: &mut (impl Read + Write), buffer: &mut Vec<u8>, peer: IpAddr) -> std::io::Result<Asked> {
    let (mut request, head) = loop {
        match head(buffer, peer) {
            Ok(Some(found)) => break found,
            Ok(None) if buffer.len() > HEAD_MAX => return Ok(Asked::Bad(Response::empty(431))),
            Ok(None) => {}
            Err(response) => return Ok(Asked::Bad(response)),
        }
        if !more(stream, buffer)? {
            return Ok(Asked::End);
        }
    };
    if request.header("transfer-encoding").is_some() {
        return Ok(Asked::Bad(Response::text(411, "a body needs its content-length")));
    }
    let mut lengths = request.headers.iter().filter(|(name, _)| name == "content-length");
    let length = match (lengths.next(), lengths.next()) {
        (None, _) => 0,
        (Some((_, text)), None) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
            text.parse().unwrap_or(usize::MAX)
        }
        _ => return Ok(Asked::Bad(Response::text(400, "content-length is no number"))),
    };
    if length > BODY_MAX {
        return Ok(Asked::Bad(Response::text(413, format!("a body may have {BODY_MAX} bytes"))));
    }
    if request.header("expect").is_some() && buffer.len() < head + length {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    while buffer.len() < head + length {
        if !more(stream, buffer)? {
            return Ok(Asked::End);
        }
    }
    request.body = buffer[head..head + length].to_vec();
    buffer.drain(..head + length);
    Ok(Asked::Request(request))
}

/// The request whose head is in the buffer, and the length of that; `None` while some is missing.
fn head(buffer: &[u8], peer: IpAddr) -> Result<Option<(Request, usize)>, Response> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Request::new(&mut headers);
    let length = match parsed.parse(buffer) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(Response::text(400, error.to_string())),
    };
    let target = parsed.path.unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = decode(path).ok_or_else(|| Response::text(400, "the path is not well formed"))?;
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let headers =
        parsed.headers.iter().map(|header| (header.name.to_ascii_lowercase(), text(header.value))).collect();
    let method = parsed.method.unwrap_or_default().to_owned();
    Ok(Some((Request { method, path, query: query.to_owned(), headers, body: Vec::new(), peer }, length)))
}

/// A path without its escapes; `None` where it leaves its folder or is no text.
fn decode(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    let path = String::from_utf8(bytes).ok()?;
    let good = path.starts_with('/')
        && !path.chars().any(char::is_control)
        && path.split('/').all(|part| part != ".." && part != ".");
    good.then_some(path)
}

fn write(stream: &mut impl Write, response: &Response, head: bool, close: bool) -> std::io::Result<()> {
    let reason = match response.status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        411 => "Length Required",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        502 => "Bad Gateway",
        504 => "Gateway Timeout",
        500 => "Internal Server Error",
        _ => "Other",
    };
    let mut out = format!("HTTP/1.1 {} {reason}\r\nserver: pipy-repo\r\n", response.status);
    for (name, value) in &response.headers {
        out.push_str(&format!("{name}: {value}\r\n"));
    }
    if response.status != 204 && response.status != 304 {
        out.push_str(&format!("content-length: {}\r\n", response.body.len()));
    }
    out.push_str(if close { "connection: close\r\n\r\n" } else { "\r\n" });
    let mut out = out.into_bytes();
    if !head {
        out.extend_from_slice(&response.body);
    }
    stream.write_all(&out)?;
    stream.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_in_their_folder() {
        assert_eq!(decode("/a%20b/c").as_deref(), Some("/a b/c"));
        for bad in ["/a/../b", "/a/%2e%2e/b", "/%0a", "/%+1", "a", "/%f", "/%ff"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }
}
