//! Loggers: files that are rotated, servers that fail and come back, the system's log.

#![expect(clippy::unwrap_used, reason = "a test that fails may say so")]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use pipy_script::{Inline, Limits, load};

const PATIENCE: Duration = Duration::from_secs(20);

fn run(script: &str) {
    load(Rc::new(Inline(script.to_owned())), "/main.js", Limits::default()).unwrap();
}

/// A server that answers its requests with these statuses, and then with 200; what they carried.
fn server(statuses: &'static [u16]) -> (u16, Receiver<(String, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sent, bodies) = channel();
    std::thread::spawn(move || {
        let mut statuses = statuses.iter();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut read = Vec::new();
            let mut chunk = [0; 4096];
            loop {
                let text = String::from_utf8_lossy(&read).into_owned();
                let length = text.lines().find_map(|line| {
                    line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok()
                });
                if let (Some((head, body)), Some(length)) = (text.split_once("\r\n\r\n"), length)
                    && body.len() >= length
                {
                    let status = statuses.next().copied().unwrap_or(200);
                    let _ = sent.send((head.to_owned(), body.to_owned()));
                    let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n");
                    stream.write_all(answer.as_bytes()).unwrap();
                    read.clear();
                }
                match stream.read(&mut chunk) {
                    Ok(count) if count > 0 => read.extend_from_slice(&chunk[..count]),
                    _ => break,
                }
            }
        }
    });
    (port, bodies)
}

#[test]
fn lines_go_to_a_server_in_batches() {
    let (port, bodies) = server(&[]);
    run(&format!(
        "(log => [1, 2, 3].forEach(n => log({{ n }})))(new logging.JSONLogger('http').toHTTP('http://127.0.0.1:{port}/in', \
         {{ headers: {{ 'x-who': 'me' }}, batch: {{ size: 2, interval: 0.2, prefix: '[', postfix: ']', separator: ',' }} }}).log)"
    ));
    let (head, body) = bodies.recv_timeout(PATIENCE).unwrap();
    assert!(head.starts_with("POST /in HTTP/1.1"), "{head}");
    assert!(head.to_ascii_lowercase().contains("x-who: me"), "{head}");
    assert_eq!(body, r#"[{"n":1},{"n":2}]"#);
    assert_eq!(bodies.recv_timeout(PATIENCE).unwrap().1, r#"[{"n":3}]"#);
}

#[test]
fn a_server_that_fails_gets_the_same_lines_again() {
    let (port, bodies) = server(&[503, 500]);
    run(&format!(
        "new logging.TextLogger('again').toHTTP('http://127.0.0.1:{port}/', {{ batch: {{ size: 1 }} }}).log('kept')"
    ));
    for _ in 0..3 {
        assert_eq!(bodies.recv_timeout(PATIENCE).unwrap().1, "kept");
    }
}

#[test]
fn what_is_pending_is_sent_when_the_process_ends() {
    let (port, bodies) = server(&[]);
    run(&format!("new logging.TextLogger('late').toHTTP('http://127.0.0.1:{port}/').log('last words')"));
    assert!(bodies.try_recv().is_err());
    pipy_script::flush_logs();
    assert_eq!(bodies.try_recv().unwrap().1, "last words");
}

#[test]
fn beyond_the_buffer_the_oldest_lines_go() {
    // Nobody listens on a port that was just given back.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let began = Instant::now();
    run(&format!(
        "(log => repeat(1000, () => void log('x'.repeat(1000))))(new logging.TextLogger('full').toHTTP('http://127.0.0.1:{port}/', \
         {{ bufferLimit: '10k' }}).log)"
    ));
    assert!(began.elapsed() < Duration::from_secs(5), "nobody waits for a server");
    assert!(pipy_script::log_history("full").is_some_and(|history| history.len() == 1_001_000));
}

#[test]
fn files_are_rotated_by_size_and_opened_again_when_moved() {
    let folder = std::env::temp_dir().join(format!("pipy-rotation-{}", std::process::id()));
    let path = folder.join("access.log");
    let script = format!(
        "(log => repeat(5, i => void log('line ' + i)))(new logging.TextLogger('rotated').toFile('{}', {{ maxFileSize: 14, maxFileCount: 2 }}).log)",
        path.display()
    );
    run(&script);
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
    assert_eq!(read("access.log"), "line 4\n");
    assert_eq!(read("access.log.1"), "line 2\nline 3\n");
    assert_eq!(read("access.log.2"), "line 0\nline 1\n");
    std::fs::rename(&path, folder.join("moved")).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while !path.exists() {
        assert!(Instant::now() < deadline, "the file is not opened again");
        run(&script);
    }
    let _ = std::fs::remove_dir_all(folder);
}

#[test]
fn the_log_of_the_system_gets_whole_lines() {
    let path = std::env::temp_dir().join(format!("pipy-syslog-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    run(&format!(
        "new logging.JSONLogger('my log').toSyslog('WARNING', {{ address: '{}' }}).log({{ a: 1 }})",
        path.display()
    ));
    let mut buffer = [0; 1024];
    let count = socket.recv(&mut buffer).unwrap();
    let line = String::from_utf8_lossy(&buffer[..count]);
    assert!(line.starts_with("<12>1 20"), "{line}");
    assert!(line.ends_with(" - - {\"a\":1}") && line.contains(" my_log "), "{line}");
    let _ = std::fs::remove_file(path);
}
