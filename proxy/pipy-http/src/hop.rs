//! What belongs to one connection and does not travel on (RFC 9110 §7.6.1).
//!
//! In: the headers of a message, either direction. Out: the same without hop-by-hop fields.
//!
//! A Connection header names further fields to remove. It is the peer's word, so it is not taken
//! for fields that end-to-end security or routing rests on: a client could otherwise have the proxy
//! delete its `authorization` or `x-forwarded-for` on the way to a server that trusts them.
//!
//! Not done here: `content-length` (the encoder writes its own), adding `via` or `forwarded`.

use smallvec::SmallVec;

use crate::Headers;
use crate::chars::list_members;

/// Removes the hop-by-hop fields: `connection` and what it names, `keep-alive`,
/// `proxy-connection`, `te` (but for `trailers`, which gRPC asks of every hop), `transfer-encoding`,
/// `upgrade` and `http2-settings`.
///
/// With `keep_upgrade`, `upgrade` stays, with a `connection: upgrade` of our own: for a request
/// whose [`is_upgrade`](crate::RequestHead::is_upgrade) the proxy agrees with, and for its 101.
pub fn strip_hop_by_hop(headers: &mut Headers, keep_upgrade: bool) {
    // Everything below is about these fields. HTTP/2 has none of them.
    if !headers.iter().any(|(name, _)| is_always_removed(name)) {
        return;
    }
    let named: SmallVec<[SmallVec<[u8; 24]>; 4]> = headers
        .get_all("connection")
        .flat_map(list_members)
        .filter(|name| !is_always_removed(name) && !is_kept(name))
        .map(SmallVec::from_slice)
        .collect();
    let te_trailers = headers.contains_token("te", "trailers");
    let upgrade = keep_upgrade && headers.contains("upgrade");
    let removes = |name: &[u8]| {
        (is_always_removed(name) && !(upgrade && name.eq_ignore_ascii_case(b"upgrade")))
            || named.iter().any(|other| name.eq_ignore_ascii_case(other))
    };
    headers.retain(|name, _| !removes(name));
    let options = match (upgrade, te_trailers) {
        (true, true) => "upgrade, te",
        (true, false) => "upgrade",
        (false, true) => "te",
        (false, false) => return,
    };
    // RFC 9110 §10.1.4: whoever sends TE names it in Connection. These appends fail only beyond
    // 4 GiB of headers; then the fields are missing, which is what was asked for.
    if te_trailers {
        let _ = headers.append("te", "trailers");
    }
    let _ = headers.append("connection", options);
}

fn is_always_removed(name: &[u8]) -> bool {
    // By length and first letter: this runs for every field of every message, and `user-agent` is as long as `connection`.
    let known: &[u8] = match (name.len(), name.first().map(u8::to_ascii_lowercase)) {
        (2, Some(b't')) => b"te",
        (7, Some(b'u')) => b"upgrade",
        (10, Some(b'c')) => b"connection",
        (10, Some(b'k')) => b"keep-alive",
        (14, Some(b'h')) => b"http2-settings",
        (16, Some(b'p')) => b"proxy-connection",
        (17, Some(b't')) => b"transfer-encoding",
        _ => return false,
    };
    name.eq_ignore_ascii_case(known)
}

/// End-to-end fields that a Connection header cannot remove. `close` and `keep-alive` are options
/// and no fields; they match nothing.
fn is_kept(name: &[u8]) -> bool {
    const PREFIXES: [&[u8]; 5] = [b"content-", b"accept", b"x-forwarded-", b"if-", b"x-b3-"];
    const NAMES: [&[u8]; 27] = [
        b"age",
        b"allow",
        b"authorization",
        b"b3",
        b"cache-control",
        b"cookie",
        b"date",
        b"etag",
        b"expect",
        b"expires",
        b"forwarded",
        b"host",
        b"location",
        b"origin",
        b"proxy-authorization",
        b"range",
        b"referer",
        b"serviceidentity",
        b"set-cookie",
        b"traceparent",
        b"tracestate",
        b"trailer",
        b"user-agent",
        b"vary",
        b"via",
        b"x-real-ip",
        b"x-request-id",
    ];
    PREFIXES
        .iter()
        .any(|prefix| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix)))
        || NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests;
