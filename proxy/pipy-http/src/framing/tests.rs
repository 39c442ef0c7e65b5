//! The length of every kind of message, as a table. How refusals look from outside is tested with
//! the decoders.

use super::*;

fn response(status: u16, headers: &[(&str, &str)]) -> ResponseHead {
    let mut head = ResponseHead::new(status);
    headers.iter().for_each(|(name, value)| head.headers.append(name, value).unwrap());
    head
}

#[test]
fn statuses_and_methods_without_a_body_have_none() {
    use RequestKind::{Connect, Head, Plain};
    for status in 100..=999 {
        for kind in [Plain, Head, Connect] {
            let expected = match (status, kind) {
                (100..=199 | 204 | 304, _) | (_, Head) | (200..=299, Connect) => BodyLength::None,
                _ => BodyLength::UntilClose,
            };
            assert_eq!(response_length(&response(status, &[]), kind), Ok(expected), "{status} {kind:?}");
        }
    }
}

#[test]
fn a_length_counts_only_where_a_body_may_be() {
    for (status, kind, expected) in [
        (200, RequestKind::Plain, Ok(BodyLength::Length(7))),
        (500, RequestKind::Connect, Ok(BodyLength::Length(7))),
        (200, RequestKind::Head, Ok(BodyLength::None)),
        (304, RequestKind::Plain, Ok(BodyLength::None)),
        (200, RequestKind::Connect, Ok(BodyLength::None)),
        (204, RequestKind::Plain, Err(HttpError::UnexpectedBody { what: "a 204 response" })),
        (101, RequestKind::Plain, Err(HttpError::UnexpectedBody { what: "an interim response" })),
    ] {
        let head = response(status, &[("content-length", "7")]);
        assert_eq!(response_length(&head, kind), expected, "{status} {kind:?}");
    }
}

#[test]
fn a_request_without_framing_headers_has_no_body() {
    for method in [Method::Get, Method::Post, Method::Trace, Method::Connect] {
        assert_eq!(request_length(&RequestHead::new(method, "/")), Ok(BodyLength::None));
    }
}

#[test]
fn refusals_show_what_was_sent() {
    let te = |values: &[&str]| {
        let mut head = RequestHead::new(Method::Post, "/");
        values.iter().for_each(|value| head.headers.append("Transfer-Encoding", value).unwrap());
        request_length(&head).unwrap_err().to_string()
    };
    assert_eq!(
        te(&["gzip", "chunked"]),
        "transfer-encoding \"gzip, chunked\" is not supported, expected chunked alone"
    );
    assert_eq!(
        te(&["chunked", "chunked"]),
        "transfer-encoding \"chunked, chunked\" is invalid, expected chunked"
    );
    assert_eq!(te(&["g zip, chunked"]), "transfer-encoding \"g zip, chunked\" is invalid, expected chunked");
}
