//! Hosts with ports, as a Host header or a request target names them.
//!
//! In: bytes from a peer. Out: the parts of an [`Authority`], or nothing.
//!
//! Narrower than RFC 3986 §3.2 on purpose, because the host decides the route: no user
//! information (RFC 9110 §4.2.4), no percent-encoding, no sub-delimiters (a comma is what two
//! merged Host fields look like), no empty port, no empty label. Underscores pass: service names
//! of container tools have them.
//!
//! Not done here: resolving names, and saying which hosts exist.

use std::net::Ipv6Addr;

use memchr::memchr;

use crate::chars::{decimal, is_host_char};

/// A host with an optional port, both checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Authority<'a> {
    /// A name, an IPv4 address, or an IPv6 address in brackets; in the case it came in.
    pub(crate) host: &'a [u8],
    pub(crate) port: Option<u16>,
}

/// The parts of an absolute-form target (RFC 9112 §3.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AbsoluteForm<'a> {
    pub(crate) default_port: u16,
    pub(crate) authority: &'a [u8],
    /// Path and query; empty, or from `/` or `?` on.
    pub(crate) rest: &'a [u8],
}

impl<'a> Authority<'a> {
    /// Reads `host` or `host:port`.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let host_len = match bytes.first()? {
            b'[' => bytes.iter().position(|&byte| byte == b']')? + 1,
            _ => memchr(b':', bytes).unwrap_or(bytes.len()),
        };
        let (host, port) = bytes.split_at_checked(host_len)?;
        if !is_host(host) {
            return None;
        }
        let port = match port {
            [] => None,
            [b':', digits @ ..] => Some(parse_port(digits)?),
            _ => return None,
        };
        Some(Self { host, port })
    }

    /// Whether both name the same place, `default_port` standing for a missing port.
    pub(crate) fn agrees_with(&self, other: &Self, default_port: u16) -> bool {
        self.host.eq_ignore_ascii_case(other.host)
            && self.port.unwrap_or(default_port) == other.port.unwrap_or(default_port)
    }
}

impl<'a> AbsoluteForm<'a> {
    /// Splits `http://authority/path?query`. The authority is not checked yet.
    pub(crate) fn split(target: &'a [u8]) -> Option<Self> {
        let colon = target.iter().position(|&byte| byte == b':')?;
        let (scheme, rest) = target.split_at_checked(colon)?;
        let default_port = if scheme.eq_ignore_ascii_case(b"http") {
            80
        } else if scheme.eq_ignore_ascii_case(b"https") {
            443
        } else {
            return None;
        };
        let rest = rest.strip_prefix(b"://")?;
        let end = rest.iter().position(|&byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at_checked(end)?;
        Some(Self { default_port, authority, rest })
    }
}

fn is_host(host: &[u8]) -> bool {
    if let [b'[', address @ .., b']'] = host {
        // The standard parser takes no zone and no blanks.
        return std::str::from_utf8(address).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok());
    }
    // One dot at the end makes a name absolute; empty labels elsewhere are no name.
    let labels = host.strip_suffix(b".").unwrap_or(host);
    // Without an early exit: nearly every host is good to its end, and this runs for every request.
    let (mut previous, mut good) = (b'.', true);
    for &byte in labels {
        good &= is_host_char(byte) & !((byte == b'.') & (previous == b'.'));
        previous = byte;
    }
    good && previous != b'.'
}

fn parse_port(digits: &[u8]) -> Option<u16> {
    // A leading zero would give one port several spellings, and tables compare spellings.
    if digits.first() == Some(&b'0') && digits.len() > 1 {
        return None;
    }
    u16::try_from(decimal(digits)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_with_and_without_ports_are_read() {
        let cases: [(&str, &str, Option<u16>); 12] = [
            ("bookstore", "bookstore", None),
            ("bookstore.bookstore:14001", "bookstore.bookstore", Some(14001)),
            ("BookStore.Svc.Cluster.Local:80", "BookStore.Svc.Cluster.Local", Some(80)),
            ("absolute.example.", "absolute.example.", None),
            ("my_service:8080", "my_service", Some(8080)),
            ("127.0.0.1:65535", "127.0.0.1", Some(65535)),
            ("[::1]", "[::1]", None),
            ("[2001:db8::a]:443", "[2001:db8::a]", Some(443)),
            ("[::ffff:10.0.0.1]:1", "[::ffff:10.0.0.1]", Some(1)),
            ("a:0", "a", Some(0)),
            ("a-b~c", "a-b~c", None),
            ("x", "x", None),
        ];
        for (text, host, port) in cases {
            let found = Authority::parse(text.as_bytes());
            assert_eq!(found, Some(Authority { host: host.as_bytes(), port }), "{text}");
        }
    }

    #[test]
    fn what_two_readers_could_take_differently_is_no_host() {
        for text in [
            "",
            ":",
            ":80",
            "a:",
            "a:b",
            "a:-1",
            "a:+1",
            "a:65536",
            "a:080",
            "a:00",
            "a:8 0",
            "a:80:80",
            "user@a",
            "user:pw@a",
            "a,b",
            "a b",
            " a",
            "a/",
            "a?x",
            "a#x",
            "a\\b",
            "a%2eb",
            "a..b",
            ".a",
            ".",
            "..",
            "a!",
            "*",
            "caf\u{e9}",
            "a\tb",
            "::1",
            "[::1",
            "[]",
            "[::1]80",
            "[::1]:",
            "[::1%eth0]",
            "[v1.a]",
            "[a]",
            "[::1]]",
            "a[::1]",
            "a..",
            "'a'",
        ] {
            assert_eq!(Authority::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn authorities_agree_without_case_and_with_the_default_port() {
        let agree = |a: &str, b: &str, default| {
            let parse = |text: &'static str| Authority::parse(text.as_bytes()).unwrap();
            let (a, b) = (parse(leak(a)), parse(leak(b)));
            assert_eq!(a.agrees_with(&b, default), b.agrees_with(&a, default));
            a.agrees_with(&b, default)
        };
        assert!(agree("A.b", "a.B", 80));
        assert!(agree("a:80", "a", 80));
        assert!(agree("[::A]", "[::a]:443", 443));
        assert!(!agree("a:80", "a", 443));
        assert!(!agree("a:1", "a:2", 80));
        assert!(!agree("a", "b", 80));
        assert!(!agree("a", "a.", 80));
    }

    fn leak(text: &str) -> &'static str {
        Box::leak(text.into())
    }

    #[test]
    fn absolute_forms_are_split() {
        let split = |text: &'static str| {
            AbsoluteForm::split(text.as_bytes()).map(|form| {
                let text = |bytes| std::str::from_utf8(bytes).unwrap();
                (form.default_port, text(form.authority), text(form.rest))
            })
        };
        assert_eq!(split("http://a/b?c"), Some((80, "a", "/b?c")));
        assert_eq!(split("HTTPS://a:1"), Some((443, "a:1", "")));
        assert_eq!(split("http://a?x=/"), Some((80, "a", "?x=/")));
        assert_eq!(split("http:///b"), Some((80, "", "/b")));
        for bad in ["", "a", "http", "http:", "http:/a", "ftp://a/", "://a/", "ws://a/", "a:80"] {
            assert_eq!(split(bad), None, "{bad}");
        }
    }
}
