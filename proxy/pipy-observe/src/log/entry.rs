//! What a line of the access log holds, and how it is written.
//!
//! What comes in: an [`Entry`], borrowed from wherever its parts lie. What goes out: one line of JSON, fields in a
//! fixed order, absent ones left out. Field names are an interface: they are the names of the struct's fields, with
//! units. Nothing is allocated per field, nothing goes through a general serialiser, and what is the same as in an earlier
//! line is copied from there.
//!
//! INVARIANT: one entry, one line, whatever bytes a peer sent.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};

use crate::log::json;
use crate::log::memo::Memo;
use crate::log::time::Clock;

/// Which way the traffic goes, seen from the application.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Direction {
    /// To the application.
    Inbound,
    /// From the application.
    #[default]
    Outbound,
}

/// What became of a request or connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Decision {
    /// A rule allowed it, and it was carried out.
    #[default]
    Allowed,
    /// No rule allowed it.
    Denied,
    /// It was allowed, but could not be carried out.
    Failed,
    /// No rule was asked.
    Passthrough,
}

impl Decision {
    /// As it is written in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Decision::Allowed => "allowed",
            Decision::Denied => "denied",
            Decision::Failed => "failed",
            Decision::Passthrough => "passthrough",
        }
    }
}

impl Direction {
    /// As it is written in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Direction::Inbound => "inbound",
            Direction::Outbound => "outbound",
        }
    }
}

/// One request or connection. `None` and empty values are left out.
#[derive(Debug, Clone, Copy, Default)]
pub struct Entry<'a> {
    /// When it began, milliseconds since the epoch; written as `time`, RFC 3339.
    pub unix_ms: u64,
    /// Which way.
    pub direction: Direction,
    /// What the client speaks: `http` for HTTP/1, `h2`, `tcp`.
    pub protocol: &'a str,
    /// Identity of who asked.
    pub source: Option<&'a str>,
    /// Identity of who was asked.
    pub destination: Option<&'a str>,
    /// Address of who asked.
    pub peer: Option<SocketAddr>,
    /// Where the connection was going before it was redirected.
    pub original_destination: Option<SocketAddr>,
    /// The authority of the request, as it was sent.
    pub host: Option<&'a [u8]>,
    /// The method of the request.
    pub method: Option<&'a [u8]>,
    /// The path of the request with its query, as it was sent.
    pub path: Option<&'a [u8]>,
    /// The status that was answered.
    pub status: Option<u16>,
    /// The status of gRPC, which comes after the body.
    pub grpc_status: Option<u16>,
    /// What became of it.
    pub decision: Decision,
    /// Why, in words.
    pub reason: Option<&'a str>,
    /// The object that decided, such as `TrafficTarget/bookstore/bookstore-v1`.
    pub origin: Option<&'a str>,
    /// The object whose rule matched, such as `HTTPRouteGroup/bookstore/routes#buy-a-book`.
    pub rule_origin: Option<&'a str>,
    /// The object that chose the cluster, such as `TrafficSplit/bookstore/bookstore-split`.
    pub split_origin: Option<&'a str>,
    /// The service that was asked for.
    pub service: Option<&'a str>,
    /// The cluster that it went to.
    pub cluster: Option<&'a str>,
    /// The endpoint that it went to.
    pub upstream: Option<SocketAddr>,
    /// Bytes of the request's body, or of the connection towards the upstream.
    pub request_bytes: Option<u64>,
    /// Bytes of the response's body, or of the connection from the upstream.
    pub response_bytes: Option<u64>,
    /// From its first byte to the end, microseconds.
    pub duration_us: Option<u64>,
    /// Number of the connection, unique in its worker.
    pub connection_id: Option<u64>,
    /// The request's id, as its sender or this proxy chose it.
    pub request_id: Option<&'a [u8]>,
    /// The trace that it belongs to.
    pub trace_id: Option<&'a [u8]>,
    /// Its span in that trace.
    pub span_id: Option<&'a [u8]>,
    /// The Pod whose proxy tells it, `namespace/name`; in what is sent elsewhere.
    pub pod: Option<&'a str>,
}

/// Writes lines. Remembers what many of them have in common.
#[derive(Debug)]
pub(crate) struct Pen {
    clock: Clock,
    /// The fields from `direction` to `destination`.
    ends: Memo<4>,
    /// The fields `host` and `method`.
    asked: Memo<2>,
    /// The fields from `decision` to `cluster`.
    verdicts: Memo<7>,
}

impl Pen {
    pub(crate) fn new() -> Self {
        Pen { clock: Clock::new(), ends: Memo::new(), asked: Memo::new(), verdicts: Memo::new() }
    }

    /// Appends the entry as one line, newline included.
    pub(crate) fn line(&mut self, entry: &Entry<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"time\":\"");
        out.extend_from_slice(self.clock.format(entry.unix_ms));
        self.ends.append(ends(entry), out, |out| {
            let [direction, protocol, source, destination] = ends(entry);
            out.extend_from_slice(b"\",\"direction\":\"");
            out.extend_from_slice(direction);
            out.push(b'"');
            text(out, b",\"protocol\":\"", protocol);
            text(out, b",\"source\":\"", source);
            text(out, b",\"destination\":\"", destination);
        });
        address(out, b",\"peer\":\"", entry.peer);
        address(out, b",\"original_destination\":\"", entry.original_destination);
        let asked = [entry.host, entry.method].map(Option::unwrap_or_default);
        self.asked.append(asked, out, |out| {
            let [host, method] = asked;
            text(out, b",\"host\":\"", host);
            text(out, b",\"method\":\"", method);
        });
        text(out, b",\"path\":\"", entry.path.unwrap_or_default());
        number(out, b",\"status\":", entry.status.map(u64::from));
        number(out, b",\"grpc_status\":", entry.grpc_status.map(u64::from));
        self.verdicts.append(verdict(entry), out, |out| {
            let [decision, reason, origin, rule_origin, split_origin, service, cluster] = verdict(entry);
            out.extend_from_slice(b",\"decision\":\"");
            out.extend_from_slice(decision);
            out.push(b'"');
            text(out, b",\"reason\":\"", reason);
            text(out, b",\"origin\":\"", origin);
            text(out, b",\"rule_origin\":\"", rule_origin);
            text(out, b",\"split_origin\":\"", split_origin);
            text(out, b",\"service\":\"", service);
            text(out, b",\"cluster\":\"", cluster);
        });
        address(out, b",\"upstream\":\"", entry.upstream);
        number(out, b",\"request_bytes\":", entry.request_bytes);
        number(out, b",\"response_bytes\":", entry.response_bytes);
        number(out, b",\"duration_us\":", entry.duration_us);
        number(out, b",\"connection_id\":", entry.connection_id);
        text(out, b",\"request_id\":\"", entry.request_id.unwrap_or_default());
        text(out, b",\"trace_id\":\"", entry.trace_id.unwrap_or_default());
        text(out, b",\"span_id\":\"", entry.span_id.unwrap_or_default());
        text(out, b",\"pod\":\"", bytes(entry.pod));
        out.extend_from_slice(b"}\n");
    }
}

/// Who speaks to whom, and how.
fn ends<'a>(entry: &Entry<'a>) -> [&'a [u8]; 4] {
    let direction = entry.direction.as_str().as_bytes();
    [direction, entry.protocol.as_bytes(), bytes(entry.source), bytes(entry.destination)]
}

/// What became of it, and whose doing that is.
fn verdict<'a>(entry: &Entry<'a>) -> [&'a [u8]; 7] {
    let Entry { reason, origin, rule_origin, split_origin, service, cluster, .. } = *entry;
    let [reason, origin, rule_origin] = [reason, origin, rule_origin].map(bytes);
    let [split_origin, service, cluster] = [split_origin, service, cluster].map(bytes);
    [entry.decision.as_str().as_bytes(), reason, origin, rule_origin, split_origin, service, cluster]
}

fn bytes(value: Option<&str>) -> &[u8] {
    value.unwrap_or_default().as_bytes()
}

/// Keys are arrays so that each is copied as a few words, without a call.
fn text<const N: usize>(out: &mut Vec<u8>, key: &[u8; N], value: &[u8]) {
    if !value.is_empty() {
        out.extend_from_slice(key);
        json::rest_of_string(value, out);
    }
}

fn number<const N: usize>(out: &mut Vec<u8>, key: &[u8; N], value: Option<u64>) {
    if let Some(value) = value {
        out.extend_from_slice(key);
        out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }
}

fn address<const N: usize>(out: &mut Vec<u8>, key: &[u8; N], value: Option<SocketAddr>) {
    let Some(value) = value else { return };
    out.extend_from_slice(key);
    match value.ip() {
        // By far the most common, and by far faster than the general formatter.
        IpAddr::V4(ip) => {
            let mut dotted = [0; 16];
            let mut end = 0;
            for octet in ip.octets() {
                let (digits, count) = &OCTETS[usize::from(octet)];
                dotted[end..end + 4].copy_from_slice(digits);
                end += *count;
            }
            dotted[end - 1] = b':';
            out.extend_from_slice(&dotted[..end]);
            out.extend_from_slice(itoa::Buffer::new().format(value.port()).as_bytes());
        }
        // Writing to a Vec can't fail.
        IpAddr::V6(_) => drop(write!(out, "{value}")),
    }
    out.push(b'"');
}

/// Each number of an address with the dot behind it, and how many bytes that is.
static OCTETS: [([u8; 4], usize); 256] = {
    let mut table = [([0; 4], 0); 256];
    let mut number = 0;
    while number < 256 {
        let (hundreds, tens, ones) =
            (b'0' + (number / 100) as u8, b'0' + (number / 10 % 10) as u8, b'0' + (number % 10) as u8);
        table[number] = match number {
            0..10 => ([ones, b'.', 0, 0], 2),
            10..100 => ([tens, ones, b'.', 0], 3),
            _ => ([hundreds, tens, ones, b'.'], 4),
        };
        number += 1;
    }
    table
};

#[cfg(test)]
mod tests;
