//! A small HTTP/2 client on a blocking socket: fetches one address, or several over one connection.
//!
//! `cargo run -p pipy-h2 --example get -- 127.0.0.1:8080 / /bytes/100000`; a path may be preceded by
//! `POST:`, which sends it as the body too. Heads go to standard error, bodies to standard output.

use std::io::{Read, Write};
use std::net::TcpStream;

use bytes::Bytes;
use pipy_h2::{Config, Connection, Event, Scheme};
use pipy_http::{BodyLength, Method, RequestHead};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().ok_or("usage: get ADDRESS PATH...")?;
    let mut socket = TcpStream::connect(&address)?;
    let mut connection = Connection::client(Config::default());
    let mut open = 0;
    for path in arguments {
        let (method, path) = match path.strip_prefix("POST:") {
            Some(path) => (Method::Post, path.to_owned()),
            None => (Method::Get, path),
        };
        let mut head = RequestHead::new(method, path.as_str());
        head.headers.append("host", &address)?;
        head.headers.append("user-agent", "pipy-h2")?;
        if head.method == Method::Post {
            let stream = connection.send_request(&head, Scheme::Http, BodyLength::Chunked)?;
            let _ = connection.send_data(stream, path.into())?;
            connection.send_end(stream, None)?;
        } else {
            connection.send_request(&head, Scheme::Http, BodyLength::None)?;
        }
        open += 1;
    }
    let mut buffer = vec![0; 64 * 1024];
    while open > 0 {
        let mut pieces = Vec::new();
        connection.poll_output(&mut pieces, usize::MAX);
        for piece in pieces {
            socket.write_all(&piece)?;
        }
        let len = socket.read(&mut buffer)?;
        let result = match len {
            0 => connection.finish(),
            len => connection.receive(Bytes::copy_from_slice(&buffer[..len])),
        };
        while let Some(event) = connection.next_event() {
            match event {
                Event::Response { stream, head, .. } => {
                    eprintln!("{stream}: {} {:?}", head.status, head.headers)
                }
                Event::Data { stream, data } => {
                    std::io::stdout().write_all(&data)?;
                    connection.release(stream, data.len());
                }
                Event::End { .. } => open -= 1,
                Event::Reset { stream, code, cause } => {
                    return Err(format!("{stream}: {code} ({cause:?})").into());
                }
                other => eprintln!("{other:?}"),
            }
        }
        result?;
    }
    Ok(())
}
