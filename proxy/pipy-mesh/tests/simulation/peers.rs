//! Who stands around the proxies: clients and servers that check every byte they get.

use std::cell::RefCell;
use std::rc::Rc;

use pipy_testkit::Peer;

/// The body that belongs to a request: its own number, as often as the number says.
pub(crate) fn body(number: usize, size: usize) -> Vec<u8> {
    (0..size).map(|i| (number * 31 + i) as u8).collect()
}

/// Answers each request with the body that its path asks for; `/<number>/<size>`.
#[derive(Default)]
pub(crate) struct Web {
    heard: Vec<u8>,
}

impl Peer for Web {
    fn hear(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        self.heard.extend_from_slice(bytes);
        let mut answer = Vec::new();
        while let Some((head, rest)) = split_head(&self.heard) {
            let length = length_of(&head);
            if rest.len() < length {
                break;
            }
            let path = head.split(' ').nth(1).expect("a target").to_owned();
            let mut parts = path.trim_start_matches('/').split('/');
            let mut number = || parts.next().and_then(|part| part.parse::<usize>().ok()).expect("a number");
            let (number, size) = (number(), number());
            assert_eq!(rest[..length], body(number, length), "the body of request {number}");
            self.heard = rest[length..].to_vec();
            answer.extend(
                format!("HTTP/1.1 200 OK\r\nx-number: {number}\r\ncontent-length: {size}\r\n\r\n").bytes(),
            );
            answer.extend(body(number, size));
        }
        (answer, false)
    }

    fn finished(&mut self) -> (Vec<u8>, bool) {
        (Vec::new(), true)
    }

    fn gone(&mut self, _reset: bool) {}
}

fn split_head(bytes: &[u8]) -> Option<(String, Vec<u8>)> {
    let at = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    Some((String::from_utf8_lossy(&bytes[..at]).to_ascii_lowercase(), bytes[at + 4..].to_vec()))
}

fn length_of(head: &str) -> usize {
    let line = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    line.map_or(0, |value| value.trim().parse().expect("a number"))
}

/// Sends back what it hears: bytes, or each datagram.
pub(crate) struct Echo;

impl Peer for Echo {
    fn hear(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        (bytes.to_vec(), false)
    }

    fn finished(&mut self) -> (Vec<u8>, bool) {
        (Vec::new(), true)
    }

    fn gone(&mut self, _reset: bool) {}
}

/// What a client has seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) heard: Vec<u8>,
    pub(crate) answered: usize,
    pub(crate) failed: usize,
    /// The server has said that a response was the last.
    pub(crate) dismissed: bool,
    pub(crate) ended: bool,
    pub(crate) reset: bool,
}

/// Sends requests, one after the other or all at once.
pub(crate) struct Browser {
    pub(crate) requests: Vec<(usize, usize, usize)>,
    pub(crate) pipelined: bool,
    pub(crate) seen: Rc<RefCell<Seen>>,
}

impl Browser {
    fn words(&self, index: usize) -> Vec<u8> {
        let Some((number, size, sent)) = self.requests.get(index) else { return Vec::new() };
        let method = if *sent == 0 { "GET" } else { "POST" };
        let mut words = format!("{method} /{number}/{size} HTTP/1.1\r\nhost: a\r\n");
        if *sent > 0 {
            words += &format!("content-length: {sent}\r\n");
        }
        let mut words = (words + "\r\n").into_bytes();
        words.extend(body(*number, *sent));
        words
    }

    pub(crate) fn first(&self) -> Vec<u8> {
        let count = if self.pipelined { self.requests.len() } else { 1 };
        (0..count).flat_map(|index| self.words(index)).collect()
    }
}

impl Peer for Browser {
    fn hear(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut seen = self.seen.borrow_mut();
        assert!(!seen.ended, "bytes after the end");
        seen.heard.extend_from_slice(bytes);
        let mut answer = Vec::new();
        while let Some((head, rest)) = split_head(&seen.heard) {
            let length = length_of(&head);
            if rest.len() < length {
                break;
            }
            let index = seen.answered + seen.failed;
            let (number, size, _) = *self.requests.get(index).expect("no response without a request");
            assert!(!seen.dismissed, "a response after the last: {head}");
            if head.starts_with("http/1.1 200") {
                assert!(head.contains(&format!("x-number: {number}")), "the response of another: {head}");
                assert_eq!(rest[..length], body(number, size));
                seen.answered += 1;
            } else {
                assert!(head.starts_with("http/1.1 50") || head.starts_with("http/1.1 408"), "{head}");
                seen.failed += 1;
            }
            seen.heard = rest[length..].to_vec();
            seen.dismissed = head.contains("connection: close");
            if !self.pipelined && !seen.dismissed {
                answer.extend(self.words(index + 1));
            }
        }
        let done = seen.dismissed || seen.answered + seen.failed == self.requests.len();
        (answer, done)
    }

    fn finished(&mut self) -> (Vec<u8>, bool) {
        self.seen.borrow_mut().ended = true;
        (Vec::new(), true)
    }

    fn gone(&mut self, reset: bool) {
        let mut seen = self.seen.borrow_mut();
        (seen.ended, seen.reset) = (true, seen.reset || reset);
    }
}

/// Sends bytes and expects them back.
pub(crate) struct Talker {
    pub(crate) sent: Vec<u8>,
    pub(crate) seen: Rc<RefCell<Seen>>,
}

impl Peer for Talker {
    fn hear(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut seen = self.seen.borrow_mut();
        seen.heard.extend_from_slice(bytes);
        assert!(self.sent.starts_with(&seen.heard), "not what was sent");
        (Vec::new(), seen.heard.len() == self.sent.len())
    }

    fn finished(&mut self) -> (Vec<u8>, bool) {
        self.seen.borrow_mut().ended = true;
        (Vec::new(), true)
    }

    fn gone(&mut self, reset: bool) {
        let mut seen = self.seen.borrow_mut();
        (seen.ended, seen.reset) = (true, seen.reset || reset);
    }
}

/// The datagrams that one client has sent, and those of them that came back.
#[derive(Debug, Default)]
pub(crate) struct Letters {
    pub(crate) sent: Vec<Vec<u8>>,
    pub(crate) back: Vec<Vec<u8>>,
}

/// Takes the echoes of datagrams: each whole, each sent before, none twice.
pub(crate) struct Correspondent(pub(crate) Rc<RefCell<Letters>>);

impl Peer for Correspondent {
    fn hear(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut letters = self.0.borrow_mut();
        assert!(letters.sent.iter().any(|sent| sent == bytes), "nobody has sent {} bytes", bytes.len());
        assert!(!letters.back.iter().any(|back| back == bytes), "it came twice");
        letters.back.push(bytes.to_vec());
        (Vec::new(), false)
    }

    fn finished(&mut self) -> (Vec<u8>, bool) {
        (Vec::new(), true)
    }

    fn gone(&mut self, _reset: bool) {}
}
