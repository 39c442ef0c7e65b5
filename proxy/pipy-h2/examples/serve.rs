//! A small HTTP/2 server on blocking sockets: for h2spec, h2load, nghttp and curl.
//!
//! `cargo run -p pipy-h2 --example serve -- 127.0.0.1:8080`, then
//! `curl --http2-prior-knowledge http://127.0.0.1:8080/` or `h2spec -h 127.0.0.1 -p 8080`.
//!
//! It greets whoever sends nothing, gives `/bytes/N` that many bytes, and echoes bodies with their
//! trailers, under back-pressure: what cannot be sent yet is not released. One thread per
//! connection; the address it listens on goes to standard output, errors of peers to standard error.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use bytes::Bytes;
use pipy_h2::{Config, Connection, Event, Pressure, StreamId};
use pipy_http::{BodyLength, Headers, ResponseHead};

type Failure = Box<dyn std::error::Error>;

/// One socket, its connection, and how far the answers are.
struct Session {
    socket: TcpStream,
    connection: Connection,
    /// Bytes that were echoed and not released, because the peer takes them slowly.
    owed: HashMap<StreamId, usize>,
    greetings: HashMap<StreamId, Bytes>,
}

fn main() -> Result<(), Failure> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listener = TcpListener::bind(&address)?;
    writeln!(std::io::stdout(), "listening on {}", listener.local_addr()?)?;
    for socket in listener.incoming() {
        let socket = socket?;
        std::thread::spawn(move || {
            if let Err(error) = serve(socket) {
                eprintln!("connection ended: {error}");
            }
        });
    }
    Ok(())
}

fn serve(socket: TcpStream) -> Result<(), Failure> {
    socket.set_nodelay(true)?;
    let connection = Connection::server(Config::default());
    let mut session = Session { socket, connection, owed: HashMap::new(), greetings: HashMap::new() };
    let mut buffer = vec![0; 64 * 1024];
    loop {
        session.write()?;
        if session.connection.is_done() {
            return Ok(());
        }
        let len = session.socket.read(&mut buffer)?;
        if len == 0 {
            return Ok(session.connection.finish()?);
        }
        let result = session.connection.receive(Bytes::copy_from_slice(&buffer[..len]));
        while let Some(event) = session.connection.next_event() {
            session.handle(event)?;
        }
        if result.is_err() {
            session.write()?;
            result?;
        }
    }
}

impl Session {
    fn handle(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            Event::Request { stream, head, body, .. } => {
                let mut response = ResponseHead::new(200);
                response.headers.append("content-type", "text/plain")?;
                let wanted =
                    head.path().strip_prefix(b"/bytes/").and_then(|digits| std::str::from_utf8(digits).ok());
                let greeting = match wanted.and_then(|digits| digits.parse::<usize>().ok()) {
                    Some(len) => Bytes::from(vec![b'x'; len.min(64 * 1024 * 1024)]),
                    None => Bytes::from_static(b"hello over http/2\n"),
                };
                if body == BodyLength::None {
                    self.connection.send_response(
                        stream,
                        &response,
                        BodyLength::Length(greeting.len() as u64),
                    )?;
                    self.greetings.insert(stream, greeting);
                } else {
                    self.connection.send_response(stream, &response, BodyLength::Chunked)?;
                }
                self.owed.insert(stream, 0);
            }
            Event::Data { stream, data } => {
                let len = data.len();
                match self.connection.send_data(stream, data)? {
                    Pressure::Wait => *self.owed.entry(stream).or_default() += len,
                    Pressure::GoOn => self.connection.release(stream, len),
                }
            }
            Event::End { stream, trailers } => self.end(stream, trailers)?,
            Event::Writable { stream } => {
                if let Some(owed) = self.owed.get_mut(&stream) {
                    let owed = std::mem::take(owed);
                    self.connection.release(stream, owed);
                }
            }
            Event::Reset { stream, .. } => {
                self.greetings.remove(&stream);
                let owed = self.owed.remove(&stream).unwrap_or_default();
                self.connection.release(stream, owed);
            }
            Event::Refused { stream, error } => eprintln!("stream {stream} refused: {error}"),
            Event::GoAway { .. } => self.connection.shutdown(),
            Event::Pong { .. } | Event::Interim { .. } | Event::Response { .. } => {}
        }
        Ok(())
    }

    fn end(&mut self, stream: StreamId, trailers: Option<Box<Headers>>) -> Result<(), Failure> {
        if let Some(greeting) = self.greetings.remove(&stream) {
            // The body is in memory as a whole: waiting would free nothing.
            for piece in greeting.chunks(1 << 20) {
                if self.connection.send_data(stream, greeting.slice_ref(piece))? == Pressure::Wait {
                    self.write()?;
                }
            }
        }
        self.connection.send_end(stream, trailers)?;
        let owed = self.owed.remove(&stream).unwrap_or_default();
        self.connection.release(stream, owed);
        Ok(())
    }

    /// Writes everything there is: this server has nothing better to do than to wait for the socket.
    fn write(&mut self) -> std::io::Result<()> {
        let mut pieces = Vec::new();
        while self.connection.poll_output(&mut pieces, 256 * 1024) > 0 {
            for piece in pieces.drain(..) {
                self.socket.write_all(&piece)?;
            }
        }
        Ok(())
    }
}
