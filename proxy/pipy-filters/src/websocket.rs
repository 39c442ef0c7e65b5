//! The opening handshake of WebSocket where only one side of us speaks HTTP/1.
//!
//! In: the head of a request for an upgrade, and the response to it. Out: the same as the other version has them. HTTP/1
//! proves with a key and a digest of it that the server knows WebSocket (RFC 6455 section 4); extended CONNECT of HTTP/2
//! needs neither (RFC 8441 section 5):
//!
//! ```text
//!   client h2 ─► no key ─► server h1: a key of our own goes out, the digest is checked here       [`Challenge`]
//!   client h1 ─► key ─► server h2: the key is kept here, the digest is added to the 101           [`digest_for`]
//! ```
//!
//! INVARIANT: whoever speaks HTTP/1 gets the whole proof, and a server that fails ours never gets a byte of the tunnel. Not
//! here: what travels in the tunnel.

use aws_lc_rs::{digest, rand};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pipy_http::{Headers, RequestHead, ResponseHead};

const KEY: &str = "sec-websocket-key";
const ACCEPT: &str = "sec-websocket-accept";

/// RFC 6455 section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What a server of HTTP/1 must answer to the key that we have made up.
#[derive(Debug)]
pub(crate) struct Challenge(String);

impl Challenge {
    /// Gives a request for a WebSocket that came without one a key; `None` for every other request.
    pub(crate) fn put(head: &mut RequestHead) -> Option<Self> {
        if !is_websocket(&head.headers) || head.headers.contains(KEY) {
            return None;
        }
        let mut nonce = [0; 16];
        rand::fill(&mut nonce).ok()?;
        let key = STANDARD.encode(nonce);
        head.headers.insert(KEY, key.as_str()).ok()?;
        Some(Challenge(digest_of(key.as_bytes())))
    }

    /// Takes the key away again when it is written: what may be sent to another server is the request as it came.
    pub(crate) fn forget(head: &mut RequestHead) {
        head.headers.remove(KEY);
    }

    /// Whether the server has understood; takes its proof away, which the client has not asked for.
    pub(crate) fn is_met(&self, head: &mut ResponseHead) -> bool {
        let met = head.headers.get(ACCEPT).is_some_and(|said| said == self.0.as_bytes())
            && is_websocket(&head.headers);
        head.headers.remove(ACCEPT);
        met
    }
}

/// What the client of a request for a WebSocket expects to be answered; `None` where it has sent no key.
pub(crate) fn digest_for(head: &RequestHead) -> Option<String> {
    head.headers.get(KEY).filter(|_| is_websocket(&head.headers)).map(digest_of)
}

/// Adds the answer that the client expects.
pub(crate) fn accept(head: &mut ResponseHead, digest: &str) {
    // Base64 is a valid value.
    let _ = head.headers.insert(ACCEPT, digest);
}

fn is_websocket(headers: &Headers) -> bool {
    headers.contains_token("upgrade", "websocket")
}

fn digest_of(key: &[u8]) -> String {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key);
    context.update(GUID);
    STANDARD.encode(context.finish())
}

#[cfg(test)]
mod tests {
    use pipy_http::{Method, RequestHead, ResponseHead};

    use super::{Challenge, digest_for, digest_of};

    fn request(fields: &[(&str, &str)]) -> RequestHead {
        let mut head = RequestHead::new(Method::Get, "/chat");
        for (name, value) in fields {
            head.headers.append(name, *value).expect("a valid header");
        }
        head
    }

    fn answer(fields: &[(&str, &str)]) -> ResponseHead {
        let mut head = ResponseHead::new(101);
        for (name, value) in fields {
            head.headers.append(name, *value).expect("a valid header");
        }
        head
    }

    #[test]
    fn the_digest_is_the_one_of_rfc_6455_section_1_3() {
        assert_eq!(digest_of(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_key_of_our_own_is_checked_and_stays_between_us_and_the_server() {
        let mut head = request(&[("connection", "upgrade"), ("upgrade", "websocket")]);
        let challenge = Challenge::put(&mut head).expect("a challenge");
        let key = head.headers.get_str("sec-websocket-key").expect("a key").to_owned();
        let right = digest_of(key.as_bytes());
        for (accept, upgrade, met) in [
            (&*right, "WebSocket", true),
            (&*right, "other", false),
            ("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "websocket", false),
        ] {
            let mut head = answer(&[("upgrade", upgrade), ("Sec-WebSocket-Accept", accept)]);
            assert_eq!(challenge.is_met(&mut head), met, "{accept} {upgrade}");
            assert!(!head.headers.contains("sec-websocket-accept"));
        }
        assert!(!challenge.is_met(&mut answer(&[("upgrade", "websocket")])));
        Challenge::forget(&mut head);
        let again = Challenge::put(&mut head).expect("another challenge, for another server");
        assert_ne!(head.headers.get_str("sec-websocket-key"), Some(&*key));
        assert!(!again.is_met(&mut answer(&[("upgrade", "websocket"), ("Sec-WebSocket-Accept", &*right)])));
    }

    #[test]
    fn a_key_of_the_clients_is_left_alone_towards_http_1_and_answered_by_us_towards_http_2() {
        let fields = [
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        assert!(Challenge::put(&mut request(&fields)).is_none());
        assert_eq!(digest_for(&request(&fields)).as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    }

    #[test]
    fn what_asks_for_no_websocket_is_not_touched() {
        let fields = [("connection", "upgrade"), ("upgrade", "other"), ("sec-websocket-key", "x")];
        assert!(digest_for(&request(&fields)).is_none());
        assert!(Challenge::put(&mut request(&fields[..2])).is_none());
    }
}
