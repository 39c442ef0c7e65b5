//! `Upgrade: h2c`: a client that speaks HTTP/1 and would rather speak HTTP/2, without TLS (RFC 7540 section 3.2), such as
//! `curl --http2`. RFC 9113 section 3.1 lets a server ignore the wish.
//!
//! In: the first request of a connection. Out: what its client has set, where the wish can be granted without any doubt
//! about where HTTP/1 ends and HTTP/2 begins; every other wish is ignored, and the request answered in HTTP/1.
//!
//! INVARIANT: the wish ends here. No server behind us ever sees it, so that nobody can make a tunnel of it past our rules; each
//! request on the new connection is decided about as any other. Not here: the frames (pipy-h2).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pipy_http::{BodyLength, Method, RequestHead, Version};

/// What is said before the first frame.
pub(crate) const SWITCHING: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";

/// The settings of a client whose wish can be granted: the payload of its SETTINGS frame.
///
/// WHY no body: it would end in HTTP/1 after the 101. WHY both names in Connection: without them the fields were not meant
/// for us.
pub(crate) fn wish(head: &RequestHead, length: BodyLength) -> Option<Vec<u8>> {
    let headers = &head.headers;
    let asks = head.version == Version::Http11
        && head.method != Method::Connect
        && matches!(length, BodyLength::None | BodyLength::Length(0))
        && headers.contains_token("upgrade", "h2c")
        && !head.is_upgrade()
        && ["upgrade", "http2-settings"].iter().all(|name| headers.contains_token("connection", name));
    if !asks {
        return None;
    }
    let mut settings = headers.get_all("http2-settings");
    let (only, None) = (settings.next()?, settings.next()) else { return None };
    URL_SAFE_NO_PAD.decode(only).ok()
}

#[cfg(test)]
mod tests {
    use pipy_http::{BodyLength, Method, RequestHead};

    use super::wish;

    const ASKING: [(&str, &str); 3] = [
        ("Connection", "Upgrade, HTTP2-Settings"),
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", "AAMAAABkAAQCAAAAAAIAAAAA"),
    ];

    fn head(method: Method, fields: &[(&str, &str)]) -> RequestHead {
        let mut head = RequestHead::new(method, "/");
        for (name, value) in fields {
            head.headers.append(name, *value).expect("a valid header");
        }
        head
    }

    #[test]
    fn the_settings_of_curl_are_read() {
        let settings = wish(&head(Method::Get, &ASKING), BodyLength::None).expect("a wish");
        assert_eq!(settings, [0, 3, 0, 0, 0, 100, 0, 4, 2, 0, 0, 0, 0, 2, 0, 0, 0, 0]);
    }

    #[test]
    fn a_wish_that_could_be_understood_in_two_ways_is_ignored() {
        let with = |place: usize, field| {
            let mut fields = ASKING;
            fields[place] = field;
            head(Method::Get, &fields)
        };
        let doubtful = [
            with(0, ("Connection", "Upgrade")),
            with(0, ("Connection", "HTTP2-Settings")),
            with(1, ("Upgrade", "h2c, websocket")),
            with(1, ("Upgrade", "h2")),
            with(1, ("HTTP2-Settings", "")),
            with(2, ("HTTP2-Settings", "AAMAAABk=")),
            with(2, ("HTTP2-Settings", "AA+/")),
            head(Method::Connect, &ASKING),
        ];
        for head in doubtful {
            assert_eq!(wish(&head, BodyLength::None), None, "{head:?}");
        }
        let plain = head(Method::Post, &ASKING);
        assert!(wish(&plain, BodyLength::Length(0)).is_some());
        for length in [BodyLength::Length(1), BodyLength::Chunked] {
            assert_eq!(wish(&plain, length), None, "{length:?}");
        }
        let mut twice = head(Method::Get, &ASKING);
        twice.headers.append("http2-settings", "AAMAAABk").expect("a valid header");
        assert_eq!(wish(&twice, BodyLength::None), None);
    }
}
