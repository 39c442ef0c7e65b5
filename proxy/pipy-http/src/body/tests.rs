//! Chunk-size lines and trailers by themselves; whole bodies are tested with the decoders.

use bytes::Bytes;

use super::*;
use crate::HttpError as E;

#[test]
fn chunk_sizes_are_read_up_to_sixteen_digits() {
    for (line, size, extension) in [
        ("0", 0, 0),
        ("000", 0, 0),
        ("a", 10, 0),
        ("AbC", 0xabc, 0),
        ("ffffffffffffffff", u64::MAX, 0),
        ("0000000000000001", 1, 0),
        ("5;", 5, 1),
        ("5;a=b;c=\"d e\"", 5, 12),
        ("5;\u{e9}\t", 5, 4),
    ] {
        assert_eq!(parse_chunk_line(format!("{line}\r\n").as_bytes()), Ok((size, extension)), "{line}");
    }
}

#[test]
fn chunk_sizes_that_readers_disagree_on_are_refused() {
    for line in [
        "",
        " ",
        "+1",
        "-1",
        "0x1",
        "1h",
        "1 ",
        " 1",
        "1\t",
        "1 ;a",
        "1,2",
        "1.0",
        "_1",
        "1_0",
        "00000000000000000",
        "10000000000000000",
        "\u{661}",
        ";",
        "1=a",
        "1\r",
    ] {
        let error = parse_chunk_line(format!("{line}\r\n").as_bytes()).unwrap_err();
        assert!(matches!(error, E::InvalidChunkSize { .. }), "{line:?}: {error}");
    }
    assert_eq!(parse_chunk_line(b"1;a\rb\r\n"), Err(E::InvalidChunkExtension));
    assert_eq!(parse_chunk_line(b"1;\0\r\n"), Err(E::InvalidChunkExtension));
}

fn trailers(lines: &str) -> Result<Option<Headers>, E> {
    parse_trailers(format!("{lines}\r\n").as_bytes(), &Limits::default())
}

#[test]
fn trailers_that_only_an_attack_would_send_are_refused() {
    for name in [
        "Content-Length",
        "transfer-encoding",
        "HOST",
        "Connection",
        "Upgrade",
        "TE",
        "Trailer",
        "Keep-Alive",
        "Proxy-Connection",
    ] {
        let error = trailers(&format!("X: y\r\n{name}: z\r\n")).unwrap_err();
        assert_eq!(error, E::ForbiddenTrailer { name: name.into() });
        assert_eq!(error.status(), 400);
    }
}

#[test]
fn trailers_that_must_not_be_merged_are_dropped_and_others_pass() {
    let kept = trailers("Authorization: x\r\ngrpc-status: 0\r\nCookie: y\r\nset-cookie: z\r\nX-Sum: 1\r\n");
    let kept = kept.unwrap().unwrap();
    let names: Vec<_> = kept.iter().map(|(name, _)| name).collect();
    assert_eq!(names, [&b"grpc-status"[..], b"X-Sum"]);
    assert_eq!(trailers("Cookie: y\r\n"), Ok(None));
    assert_eq!(trailers(""), Ok(None));
}

#[test]
fn the_two_lists_of_trailers_are_lower_case_and_apart() {
    for name in [&b"content-length"[..], b"host", b"te"] {
        assert!(is_refused_trailer(name) && !is_dropped_trailer(name));
    }
    for name in [&b"Authorization"[..], b"COOKIE", b"x-forwarded-for"] {
        assert!(is_dropped_trailer(name) && !is_refused_trailer(name));
    }
    for name in [&b"grpc-status"[..], b"etag", b"server-timing", b"digest"] {
        assert!(!is_dropped_trailer(name) && !is_refused_trailer(name));
    }
}

#[test]
fn extension_bytes_are_summed_over_the_whole_body() {
    let limits = Limits { chunk_extension_bytes_max: 100, ..Limits::default() };
    let mut input = Input::default();
    let mut body = BodyDecoder::new(BodyLength::Chunked);
    input.push(Bytes::from("1;xxxxxxxxx\r\na\r\n".repeat(11)));
    let mut chunks = 0;
    let error = loop {
        match body.next(&mut input, &limits) {
            Ok(Some(_)) => chunks += 1,
            Ok(None) => panic!("accepted"),
            Err(error) => break error,
        }
    };
    assert_eq!((chunks, error), (10, E::ChunkExtensionsTooLarge { limit: 100 }));
}

#[test]
fn the_longest_length_does_not_overflow() {
    let mut input = Input::default();
    let mut body = BodyDecoder::new(BodyLength::Length(u64::MAX));
    input.push(Bytes::from_static(b"abc"));
    assert!(matches!(body.next(&mut input, &Limits::default()), Ok(Some(BodyItem::Data(_)))));
    assert!(matches!(body, BodyDecoder::Length(rest) if rest == u64::MAX - 3));
}
