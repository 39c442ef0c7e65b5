//! The key of a request, for clusters that send the same key to the same endpoint.

use std::net::IpAddr;

use pipy_config::{Balancing, BalancingPolicy};
use pipy_http::RequestHead;
use pipy_upstream::hash;

/// The hash of a request's key; `None` where the policy asks for none, or the request has none.
pub(super) fn of(balancing: &Balancing, head: &RequestHead, client: IpAddr) -> Option<u64> {
    if balancing.policy != BalancingPolicy::Hash {
        return None;
    }
    match (&balancing.header, &balancing.cookie) {
        (Some(name), _) => head.headers.get(name.as_str()).map(hash),
        (None, Some(name)) => head.headers.get_all("cookie").find_map(|line| cookie(line, name)).map(hash),
        (None, None) => Some(of_address(client)),
    }
}

/// The hash of a client's address.
pub(crate) fn of_address(client: IpAddr) -> u64 {
    match client {
        IpAddr::V4(address) => hash(&address.octets()),
        IpAddr::V6(address) => hash(&address.octets()),
    }
}

/// The value of a cookie in a Cookie header (RFC 6265 section 4.2.1).
fn cookie<'l>(line: &'l [u8], name: &str) -> Option<&'l [u8]> {
    line.split(|byte| *byte == b';').find_map(|pair| {
        let value = pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        Some(value.trim_ascii())
    })
}

#[cfg(test)]
mod tests {
    use super::cookie;

    #[test]
    fn a_cookie_is_found_by_its_whole_name() {
        let line = b"a=1; session=abc;b=2 ; asession=x";
        assert_eq!(cookie(line, "session"), Some(&b"abc"[..]));
        assert_eq!(cookie(line, "a"), Some(&b"1"[..]));
        assert_eq!(cookie(line, "b"), Some(&b"2"[..]));
        assert_eq!(cookie(line, "sess"), None);
        assert_eq!(cookie(b"", "a"), None);
    }
}
