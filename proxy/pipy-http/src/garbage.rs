//! Whatever the bytes: no panic, no dependence on cuts, and nothing accepted that another strict
//! reader of the same bytes would see as something else.
//!
//! In: good conversations with random damage, and plain noise. Checked by the helpers of
//! `testing.rs`, which read every input whole, byte by byte, and cut at every place.

use bytes::Bytes;
use proptest::prelude::*;

use crate::testing::{requests, responses};
use crate::{
    BodyLength, Headers, Limits, Method, ReplyTo, RequestDecoder, RequestItem, ResponseItem,
    encode_request_head, encode_response_head, normalise_path, strip_hop_by_hop,
};

const REQUESTS: &[u8] = b"POST /a?b HTTP/1.1\r\nHost: shop:80\r\nTransfer-Encoding: chunked\r\n\r\n\
    3;x\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n\
    \r\nPUT http://shop/ HTTP/1.1\r\nHost: shop\r\nContent-Length: 4\r\nConnection: x, te\r\nTE: trailers\r\n\r\nbody\
    GET / HTTP/1.0\r\n\r\n";

const RESPONSES: &[u8] =
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
    3\r\nabc\r\n0\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno\
    HTTP/1.1 200 OK\r\nServer: x\r\n\r\nuntil the end";

/// Bytes that parsers trip over.
fn damage() -> impl Strategy<Value = Vec<(usize, u8, u8)>> {
    let byte = prop_oneof![
        prop::sample::select(&b"\r\n \t:;,0123456789abcfx/#?%\\\0\x0b\x7f\x80\xff"[..]),
        any::<u8>(),
    ];
    prop::collection::vec((any::<usize>(), 0..3u8, byte), 0..4)
}

fn damaged(bytes: &[u8], damage: &[(usize, u8, u8)]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for &(at, kind, byte) in damage {
        let at = at % bytes.len();
        match kind {
            0 => bytes[at] = byte,
            1 => bytes.insert(at, byte),
            _ => drop(bytes.remove(at)),
        }
    }
    bytes
}

/// Writes requests as a proxy would forward them.
fn forward_requests(items: &[RequestItem]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = None;
    for item in items {
        match item {
            RequestItem::Head(head, length) => {
                let mut head = (**head).clone();
                strip_hop_by_hop(&mut head.headers, false);
                encoder = Some(encode_request_head(&head, *length, &mut out).unwrap());
            }
            RequestItem::Data(data) => encoder.as_mut().unwrap().encode(data, &mut out).unwrap(),
            RequestItem::End(trailers) => {
                encoder.take().unwrap().end(trailers.as_ref(), &mut out).unwrap();
            }
        }
    }
    out
}

/// A request by what a server acts on: method, target, authority, framing, body.
type Meaning = (Method, Vec<u8>, Option<String>, BodyLength, Vec<u8>);

fn meaning(items: &[RequestItem]) -> Vec<Meaning> {
    let mut found: Vec<Meaning> = Vec::new();
    for item in items {
        match item {
            RequestItem::Head(head, length) => {
                let authority = head.authority().map(|authority| authority.into_owned());
                found.push((head.method.clone(), head.target.clone(), authority, *length, Vec::new()));
            }
            RequestItem::Data(data) => found.last_mut().unwrap().4.extend_from_slice(data),
            RequestItem::End(_) => {}
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// The heart of it: what we accept, we forward as bytes that mean the same, and no more.
    #[test]
    fn damaged_requests_are_refused_or_forwarded_as_they_were_understood(damage in damage()) {
        let (items, error) = requests(&damaged(REQUESTS, &damage));
        let whole = items.iter().rposition(|item| matches!(item, RequestItem::End(_))).map_or(0, |at| at + 1);
        let items = &items[..whole];
        prop_assume!(!items.iter().any(|item| matches!(item, RequestItem::Head(head, _) if head.method == Method::Connect)));
        let (again, error_again) = requests(&forward_requests(items));
        prop_assert_eq!(error_again, None, "after {:?}", error);
        prop_assert_eq!(meaning(&again), meaning(items));
    }

    #[test]
    fn damaged_responses_are_refused_or_forwarded_as_they_were_understood(damage in damage()) {
        let methods = [Method::Get, Method::Get, Method::Get];
        let (items, _) = responses(&methods, &damaged(RESPONSES, &damage));
        let whole = items.iter().rposition(|item| matches!(item, ResponseItem::End(_))).map_or(0, |at| at + 1);
        let mut out = Vec::new();
        let mut encoder = None;
        let mut meant: Vec<(u16, Vec<u8>)> = Vec::new();
        for item in &items[..whole] {
            match item {
                ResponseItem::Interim(_) => {}
                ResponseItem::Head(head, length) => {
                    meant.push((head.status, Vec::new()));
                    let mut head = (**head).clone();
                    strip_hop_by_hop(&mut head.headers, false);
                    let request = crate::RequestHead::new(Method::Get, "/");
                    encoder = Some(encode_response_head(&head, *length, ReplyTo::new(&request), &mut out).unwrap());
                }
                ResponseItem::Data(data) => {
                    meant.last_mut().unwrap().1.extend_from_slice(data);
                    encoder.as_mut().unwrap().encode(data, &mut out).unwrap();
                }
                ResponseItem::End(trailers) => encoder.take().unwrap().end(trailers.as_ref(), &mut out).unwrap(),
            }
        }
        let (again, error) = responses(&methods[..meant.len()], &out);
        prop_assert_eq!(error, None);
        let mut found: Vec<(u16, Vec<u8>)> = Vec::new();
        for item in again {
            match item {
                ResponseItem::Head(head, _) => found.push((head.status, Vec::new())),
                ResponseItem::Data(data) => found.last_mut().unwrap().1.extend_from_slice(&data),
                _ => {}
            }
        }
        prop_assert_eq!(found, meant);
    }

    #[test]
    fn noise_is_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        requests(&bytes);
        responses(&[Method::Get], &bytes);
        let _ = normalise_path(&bytes);
        let _ = Headers::new().append(&bytes, &bytes);
    }
}

#[test]
fn a_slow_large_head_is_searched_once() {
    // 60 KB byte by byte: were each push to search from the beginning, this would be 1.8 billion
    // steps and not end in the time of a test.
    let head = [b"GET / HTTP/1.1\r\nHost: a\r\nA: ", &b"x".repeat(60_000)[..], b"\r\n\r\n"].concat();
    let mut decoder = RequestDecoder::new(Limits::default());
    for (index, byte) in head.iter().enumerate() {
        decoder.push(Bytes::copy_from_slice(&[*byte]));
        let is_last = index + 1 == head.len();
        assert_eq!(decoder.next().unwrap().is_some(), is_last, "{index}");
    }
}
