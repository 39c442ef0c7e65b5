//! Reading a decoder three ways: whole, byte by byte, and with trailing data.
//!
//! In: the bytes of a conversation. Out: what was decoded, as comparable values, after checking
//! that cutting the bytes differently changes nothing. `Data` items are joined for the comparison,
//! since only their cuts may differ; errors are compared by kind, since what is refused early is
//! shown only as far as it had come.

use std::fmt::Debug;

use bytes::Bytes;

use crate::{HttpError, Limits, Method, RequestDecoder, RequestItem, ResponseDecoder, ResponseItem};

/// What a conversation gave: its items, and the error that ended it, if one did.
pub(crate) type Outcome<T> = (Vec<T>, Option<HttpError>);

/// Reads requests, with the end of the connection after them.
pub(crate) fn requests(bytes: &[u8]) -> Outcome<RequestItem> {
    requests_within(Limits::default(), bytes)
}

/// As [`requests`], with other limits.
pub(crate) fn requests_within(limits: Limits, bytes: &[u8]) -> Outcome<RequestItem> {
    three_ways(bytes, |pieces| read_requests(limits, pieces))
}

/// The only request in `bytes`, which must be good: its items.
pub(crate) fn good_request(bytes: &[u8]) -> Vec<RequestItem> {
    let (items, error) = requests(bytes);
    assert_eq!(error, None, "{}", bytes.escape_ascii());
    items
}

/// The head of the only request in `bytes`, which must be good.
pub(crate) fn good_head(bytes: &[u8]) -> crate::RequestHead {
    match good_request(bytes).into_iter().next() {
        Some(RequestItem::Head(head, _)) => *head,
        other => panic!("expected a head, got {other:?}"),
    }
}

/// The error that `bytes` end in.
pub(crate) fn bad_request(bytes: &[u8]) -> HttpError {
    match requests(bytes) {
        (_, Some(error)) => error,
        (items, None) => panic!("accepted {}: {items:?}", bytes.escape_ascii()),
    }
}

/// Reads responses to requests of these methods, with the end of the connection after them.
pub(crate) fn responses(methods: &[Method], bytes: &[u8]) -> Outcome<ResponseItem> {
    three_ways(bytes, |pieces| {
        let mut decoder = ResponseDecoder::new(Limits::default());
        methods.iter().for_each(|method| decoder.expect(method));
        read_responses(decoder, pieces)
    })
}

/// The items of the responses in `bytes`, which must be good.
pub(crate) fn good_response(method: Method, bytes: &[u8]) -> Vec<ResponseItem> {
    let (items, error) = responses(&[method], bytes);
    assert_eq!(error, None, "{}", bytes.escape_ascii());
    items
}

/// What is wrong with the response in `bytes`: what the `BadResponse` holds.
pub(crate) fn bad_response(method: Method, bytes: &[u8]) -> HttpError {
    match responses(&[method], bytes) {
        (_, Some(HttpError::BadResponse(error))) => *error,
        other => panic!("expected a bad response of {}: {other:?}", bytes.escape_ascii()),
    }
}

/// Reads with `read` in one piece, byte by byte, and cut once at every place; all must agree.
pub(crate) fn three_ways<T: PartialEq + Debug>(
    bytes: &[u8],
    read: impl Fn(&[&[u8]]) -> Outcome<T>,
) -> Outcome<T> {
    let whole = read(&[bytes]);
    let kind =
        |(items, error): Outcome<T>| (items, error.map(|error| (error.status(), error.metric_label())));
    let expected = kind(read(&[bytes]));
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(kind(read(&single)), expected, "byte by byte: {}", bytes.escape_ascii());
    // Long inputs are cut at fewer places, or the tests would take minutes.
    let step = (bytes.len() / 300).max(1);
    for at in (0..=bytes.len()).step_by(step) {
        let (first, second) = bytes.split_at(at);
        assert_eq!(kind(read(&[first, second])), expected, "cut at {at}: {}", bytes.escape_ascii());
    }
    whole
}

fn read_requests(limits: Limits, pieces: &[&[u8]]) -> Outcome<RequestItem> {
    let mut decoder = RequestDecoder::new(limits);
    let mut items = Vec::new();
    for piece in pieces.iter().map(Some).chain([None]) {
        match piece {
            Some(piece) => decoder.push(Bytes::copy_from_slice(piece)),
            None => decoder.finish(),
        }
        loop {
            match decoder.next() {
                Ok(Some(RequestItem::Data(data))) => {
                    assert!(!data.is_empty(), "empty data");
                    match items.last_mut() {
                        Some(RequestItem::Data(before)) => {
                            *before = [&before[..], &data[..]].concat().into();
                        }
                        _ => items.push(RequestItem::Data(data)),
                    }
                }
                Ok(Some(item)) => items.push(item),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(decoder.next(), Err(error.clone()), "an error is final");
                    assert_eq!(decoder.buffered(), 0, "a failed decoder holds nothing");
                    return (items, Some(error));
                }
            }
        }
    }
    (items, None)
}

/// As [`responses`], with a decoder made by the test.
pub(crate) fn read_responses(mut decoder: ResponseDecoder, pieces: &[&[u8]]) -> Outcome<ResponseItem> {
    let mut items = Vec::new();
    for piece in pieces.iter().map(Some).chain([None]) {
        match piece {
            Some(piece) => decoder.push(Bytes::copy_from_slice(piece)),
            None => decoder.finish(),
        }
        loop {
            match decoder.next() {
                Ok(Some(ResponseItem::Data(data))) => {
                    assert!(!data.is_empty(), "empty data");
                    match items.last_mut() {
                        Some(ResponseItem::Data(before)) => {
                            *before = [&before[..], &data[..]].concat().into();
                        }
                        _ => items.push(ResponseItem::Data(data)),
                    }
                }
                Ok(Some(item)) => items.push(item),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(decoder.next(), Err(error.clone()), "an error is final");
                    return (items, Some(error));
                }
            }
        }
    }
    (items, None)
}
