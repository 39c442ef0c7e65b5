//! Rules about single fields that both directions share (RFC 9113 §8.2 and RFC 9110).
//!
//! In: names in lower case, values. Out: yes or no.

use pipy_http::{Method, RequestHead};

/// Fields about an HTTP/1 connection (RFC 9113 §8.2.2), `te` aside.
pub(crate) fn is_connection_field(name: &[u8]) -> bool {
    // By length first: this runs for every field of every message.
    match name.len() {
        7 => name == b"upgrade",
        10 => name == b"connection" || name == b"keep-alive",
        14 => name == b"http2-settings",
        16 => name == b"proxy-connection",
        17 => name == b"transfer-encoding",
        _ => false,
    }
}

/// Framing, routing and connection fields: as trailers they are an attempt, not a mistake. The
/// same list as that of the HTTP/1 codec, so that a trailer fares alike whichever way it takes.
pub(crate) fn is_refused_trailer(name: &[u8]) -> bool {
    is_connection_field(name) || matches!(name, b"content-length" | b"host" | b"te" | b"trailer")
}

/// A decimal number of digits only: no sign, no blank, no overflow.
pub(crate) fn decimal(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() {
        return None;
    }
    bytes.iter().try_fold(0u64, |number, &byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// The target of a request that is not CONNECT (RFC 9113 §8.3.1): a path and query, or `*`.
pub(crate) fn check_path(method: &Method, path: &[u8]) -> Result<(), &'static str> {
    match path {
        [] => Err("is empty"),
        b"*" if *method == Method::Options => Ok(()),
        [b'/', ..] if path.iter().all(|&byte| (0x21..0x7f).contains(&byte) && byte != b'#') => Ok(()),
        [b'/', ..] => Err("holds a fragment or bytes other than visible ascii"),
        _ => Err("does not begin with a slash"),
    }
}

/// Whether a Host names the same place as a valid `:authority`, the default port standing for a
/// missing one.
pub(crate) fn agree(authority: &[u8], host: &[u8], default_port: &[u8]) -> bool {
    authority.eq_ignore_ascii_case(host)
        || without_port(authority, default_port).eq_ignore_ascii_case(without_port(host, default_port))
}

/// Takes `:port` off, if that is the port, and what is left has none.
fn without_port<'a>(authority: &'a [u8], port: &[u8]) -> &'a [u8] {
    let host = authority.strip_suffix(port).and_then(|rest| rest.strip_suffix(b":"));
    match host {
        Some(host) if !host.contains(&b':') || host.ends_with(b"]") => host,
        _ => authority,
    }
}

/// Whether the authority of a CONNECT is `host:port` with a port that can be connected to (§8.5).
pub(crate) fn is_connect_target(head: &RequestHead) -> bool {
    head.authority().is_some_and(|authority| match authority.rsplit_once(':') {
        // `[::1]` has colons and no port.
        Some((_, port)) => !authority.ends_with(']') && port != "0",
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_origin_form_or_the_asterisk_of_options() {
        let get = |path: &[u8]| check_path(&Method::Get, path).is_ok();
        for good in [&b"/"[..], b"/a?b=c", b"//a", b"/%zz", b"/a|b"] {
            assert!(get(good), "{}", good.escape_ascii());
        }
        for bad in
            [&b""[..], b"*", b"a", b"http://a/", b"/a b", b"/a\r\nb", b"/\x7f", b"/\xc3\xa9", b"/a#b", b"?a"]
        {
            assert!(!get(bad), "{}", bad.escape_ascii());
        }
        assert!(check_path(&Method::Options, b"*").is_ok());
        assert!(check_path(&Method::Options, b"**").is_err());
    }

    #[test]
    fn hosts_agree_without_case_and_with_the_default_port() {
        assert!(agree(b"a.b", b"A.B", b"80"));
        assert!(agree(b"a", b"a:80", b"80"));
        assert!(agree(b"[::1]:443", b"[::1]", b"443"));
        for (authority, host) in
            [(&b"a"[..], &b"b"[..]), (b"a", b"a:443"), (b"a:8080", b"a:8080:80"), (b"a", b"")]
        {
            assert!(!agree(authority, host, b"80"), "{}", host.escape_ascii());
        }
    }

    #[test]
    fn connect_names_host_and_port() {
        let is = |target: &str| is_connect_target(&RequestHead::new(Method::Connect, target));
        assert!(is("a:1") && is("[::1]:443"));
        for bad in ["a", "a:", "a:0", "[::1]", "/a:1", "user@a:1", "a:65536", ":1", ""] {
            assert!(!is(bad), "{bad}");
        }
    }
}
