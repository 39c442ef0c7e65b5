//! Who may ask: callers on this machine, and those elsewhere that know the token.
//!
//! INVARIANT: a page in a browser can neither read nor write here without the token: what names another host, as after
//! a rebinding of its name, or comes from another origin, counts as foreign.

use crate::http::{Request, Response};

/// Lets requests in.
pub struct Guard {
    token: Option<String>,
    /// Whether whoever comes this far has shown a certificate.
    proven: bool,
}

impl Guard {
    /// Without a token, only this machine is answered.
    pub fn new(token: Option<String>) -> Self {
        Guard { token: token.filter(|token| !token.is_empty()), proven: false }
    }

    /// The same where callers have shown a certificate of a trusted root: they need no token.
    #[must_use]
    pub fn proven(mut self, proven: bool) -> Self {
        self.proven = proven;
        self
    }

    /// The answer to a request that may not pass.
    pub fn refuse(&self, request: &Request) -> Option<Response> {
        // A browser that has a certificate shows it for any page.
        let own = request.header("origin").is_none_or(|origin| {
            origin.split_once("://").is_some_and(|(_, host)| Some(host) == request.header("host"))
        });
        if self.proven && own {
            return None;
        }
        let given = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        if let (Some(token), Some(given)) = (&self.token, given)
            && same(token.as_bytes(), given.trim().as_bytes())
        {
            return None;
        }
        let here = request.peer.is_loopback() && request.header("host").is_none_or(is_local) && own;
        (!here).then(|| {
            Response::text(401, "this needs the token: Authorization: Bearer …\n")
                .with("www-authenticate", "Bearer")
        })
    }
}

fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Compares in a time that does not tell where they differ.
fn same(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && left.iter().zip(right).fold(0, |all, (l, r)| all | (l ^ r)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(peer: &str, headers: &[(&str, &str)]) -> bool {
        let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let request = Request {
            method: "GET".into(),
            path: "/".into(),
            query: String::new(),
            headers,
            body: Vec::new(),
            peer: peer.parse().unwrap(),
        };
        Guard::new(Some("secret".into())).refuse(&request).is_none()
    }

    #[test]
    fn only_this_machine_needs_no_token() {
        assert!(asks("127.0.0.1", &[("host", "localhost:6060")]));
        assert!(asks("::1", &[("host", "[::1]:6060"), ("origin", "http://[::1]:6060")]));
        assert!(!asks("10.0.0.1", &[("host", "localhost:6060")]));
        assert!(!asks("127.0.0.1", &[("host", "evil.example")]));
        assert!(!asks("127.0.0.1", &[("host", "127.0.0.1:1"), ("origin", "http://evil.example")]));
        assert!(asks("10.0.0.1", &[("authorization", "Bearer secret")]));
        assert!(!asks("10.0.0.1", &[("authorization", "Bearer secreT")]));
        assert!(!asks("10.0.0.1", &[("authorization", "Bearer ")]));
    }
}
