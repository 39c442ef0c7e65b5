//! A collector that takes, one that refuses, one that is not there, and one that says nothing.

use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};

use super::*;

const DEADLINE: Duration = Duration::from_secs(10);

/// Answers each request with a status; hands on what it was sent.
fn collector(status: u16) -> (Collector, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (sender, requests) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut bytes = Vec::new();
            let mut piece = [0; 4096];
            while !complete(&bytes) {
                let count = stream.read(&mut piece).expect("bytes");
                assert!(count > 0, "cut off after {:?}", String::from_utf8_lossy(&bytes));
                bytes.extend_from_slice(&piece[..count]);
            }
            let _ = stream.write_all(format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n").as_bytes());
            if sender.send(String::from_utf8(bytes).expect("text")).is_err() {
                return;
            }
        }
    });
    let path = "/api/v2/spans".to_owned();
    (Collector { host: "127.0.0.1".into(), port, path, authorization: "Bearer x".into() }, requests)
}

fn complete(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
    body.len() == length.parse::<usize>().expect("a number")
}

fn wait(what: &str, mut until: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !until() {
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::yield_now();
    }
}

fn say(buffer: &mut LogBuffer, lines: &[&str]) {
    for line in lines {
        buffer.append(|out| out.extend_from_slice(format!("{line}\n").as_bytes()));
    }
    buffer.flush();
}

#[test]
fn records_go_as_an_array_or_as_lines() {
    for (shape, body) in [(Shape::Array, r#"[{"a":1},{"b":2}]"#), (Shape::Lines, "{\"a\":1}\n{\"b\":2}\n")] {
        let (to, requests) = collector(202);
        let exporter = Exporter::start("test", shape, None).expect("a thread");
        exporter.set_collector(Some(to));
        say(&mut exporter.buffer(), &[r#"{"a":1}"#, r#"{"b":2}"#]);
        let request = requests.recv_timeout(DEADLINE).expect("a request");
        assert!(request.starts_with("POST /api/v2/spans HTTP/1.1\r\nhost: 127.0.0.1:"), "{request}");
        assert!(request.contains("\r\nauthorization: Bearer x\r\n"), "{request}");
        assert!(request.ends_with(&format!("\r\n\r\n{body}")), "{request}");
        let stats = exporter.stats();
        wait("the count", || stats.written.get() == 2);
        assert_eq!(stats.dropped.get(), 0);
        assert!(exporter.shutdown());
    }
}

#[test]
fn what_is_refused_or_finds_nobody_is_dropped_and_counted() {
    let (refusing, requests) = collector(500);
    let gone = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let away = Collector { port: gone.port(), ..refusing.clone() };
    for (to, asked) in [(Some(refusing), true), (Some(away), false), (None, false)] {
        let exporter = Exporter::start("test", Shape::Array, None).expect("a thread");
        exporter.set_collector(to);
        let mut buffer = exporter.buffer();
        say(&mut buffer, &["1", "2", "3"]);
        let stats = exporter.stats();
        wait("the count", || stats.dropped.get() == 3);
        assert_eq!(requests.try_recv().is_ok(), asked);
        // At once after a failure it is not tried again.
        say(&mut buffer, &["4"]);
        wait("the count", || stats.dropped.get() == 4);
        assert!(requests.try_recv().is_err());
        assert_eq!(stats.written.get(), 0);
    }
}

#[test]
fn a_collector_that_comes_back_is_used_again() {
    let (to, requests) = collector(202);
    let exporter = Exporter::start("test", Shape::Array, None).expect("a thread");
    let mut buffer = exporter.buffer();
    say(&mut buffer, &["0"]);
    let stats = exporter.stats();
    wait("the loss", || stats.dropped.get() == 1);
    exporter.set_collector(Some(to));
    say(&mut buffer, &["1"]);
    assert!(requests.recv_timeout(DEADLINE).expect("a request").ends_with("[1]"));
}
