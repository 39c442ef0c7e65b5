//! What one exchange costs in this crate. `cargo run --release -p pipy-h2 --example exchange_cost`.
//!
//! Client and server share a thread and hand each other their output: one round is everything that
//! both ends of a connection do for it, twice what a proxy does on one of its sides. Prints
//! nanoseconds to standard error, the best of several rounds (the others met a busy machine).

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use pipy_h2::{Config, Connection, Event, Scheme, StreamId};
use pipy_http::{BodyLength, Method, RequestHead, ResponseHead};

const ROUNDS: u32 = 30;
const EXCHANGES: u32 = 20_000;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    for (name, streams, body) in [
        ("GET, 18 bytes back, one at a time", 1, 18),
        ("GET, 18 bytes back, ten at once", 10, 18),
        ("GET, 1 KiB back, ten at once", 10, 1024),
        ("GET, 64 KiB back, one at a time", 1, 64 * 1024),
    ] {
        let mut pair = Pair::new()?;
        let mut best = f64::MAX;
        for _ in 0..ROUNDS {
            let count = EXCHANGES / (1 + body as u32 / 4096);
            let start = Instant::now();
            for _ in 0..count / streams {
                pair.exchange(streams, body)?;
            }
            best = best.min(start.elapsed().as_nanos() as f64 / f64::from(count / streams * streams));
        }
        eprintln!("{name:<40} {best:>8.0} ns per exchange, both ends");
    }
    let pair = Pair::new()?;
    eprintln!("memory of an idle connection: {} and {} bytes", pair.client.memory(), pair.server.memory());
    Ok(())
}

struct Pair {
    client: Connection,
    server: Connection,
    request: RequestHead,
    response: ResponseHead,
    body: Bytes,
    pieces: Vec<Bytes>,
}

impl Pair {
    fn new() -> Result<Self, Failure> {
        let mut request = RequestHead::new(Method::Get, "/books-bought?author=unknown&page=17");
        for (name, value) in [
            ("host", "bookstore.bookstore:14001"),
            ("user-agent", "Go-http-client/2.0"),
            ("accept", "application/json"),
            ("accept-encoding", "gzip"),
            ("x-request-id", "7d9f2c6e-98f1-4a55-9c30-5b0f0a6a2f11"),
            ("authorization", "Bearer eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJib29rYnV5ZXIifQ.c2ln"),
        ] {
            request.headers.append(name, value)?;
        }
        let mut response = ResponseHead::new(200);
        for (name, value) in [
            ("content-type", "application/json"),
            ("server", "bookstore"),
            ("date", "Tue, 03 Mar 2026 10:11:12 GMT"),
            ("identity", "bookstore-v1"),
        ] {
            response.headers.append(name, value)?;
        }
        let mut pair = Self {
            client: Connection::client(Config::default()),
            server: Connection::server(Config::default()),
            request,
            response,
            body: Bytes::from(vec![b'x'; 64 * 1024]),
            pieces: Vec::new(),
        };
        pair.exchange(1, 18)?;
        Ok(pair)
    }

    fn exchange(&mut self, streams: u32, body: usize) -> Result<(), Failure> {
        for _ in 0..streams {
            black_box(self.client.send_request(black_box(&self.request), Scheme::Http, BodyLength::None)?);
        }
        let mut open = streams;
        while open > 0 {
            self.client.poll_output(&mut self.pieces, usize::MAX);
            for piece in self.pieces.drain(..) {
                self.server.receive(piece)?;
            }
            while let Some(event) = self.server.next_event() {
                if let Event::End { stream, .. } = event {
                    self.answer(stream, body)?;
                }
            }
            self.server.poll_output(&mut self.pieces, usize::MAX);
            for piece in self.pieces.drain(..) {
                self.client.receive(piece)?;
            }
            while let Some(event) = self.client.next_event() {
                match event {
                    Event::Data { stream, data } => self.client.release(stream, data.len()),
                    Event::End { .. } => open -= 1,
                    other => drop(black_box(other)),
                }
            }
        }
        Ok(())
    }

    fn answer(&mut self, stream: StreamId, body: usize) -> Result<(), Failure> {
        self.server.send_response(stream, black_box(&self.response), BodyLength::Length(body as u64))?;
        let _ = self.server.send_data(stream, self.body.slice(..body))?;
        Ok(self.server.send_end(stream, None)?)
    }
}
