//! Where fields lie, and what is said about lines that are wrong.

use super::*;

fn fields(section: &str) -> Vec<(String, String)> {
    let headers = parse_headers(section.as_bytes(), &Limits::default()).unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    headers.iter().map(|(name, value)| (text(name), text(value))).collect()
}

#[test]
fn blanks_around_values_go_and_blanks_within_stay() {
    let found = fields("a:b\r\nc: \t d  e\t \r\nf:\r\ng: \t \r\nh::\r\ni: j: k\r\n\r\n");
    let expected = [("a", "b"), ("c", "d  e"), ("f", ""), ("g", ""), ("h", ":"), ("i", "j: k")];
    assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!(fields("\r\n"), []);
}

#[test]
fn wrong_lines_are_named() {
    let error = |section: &[u8]| parse_headers(section, &Limits::default()).unwrap_err().to_string();
    for (section, expected) in [
        (&b" a: b\r\n\r\n"[..], "whitespace before the first header"),
        (b"a: b\r\n c\r\n\r\n", "header folded over several lines"),
        (b"a : b\r\n\r\n", "whitespace between header name \"a\" and its colon"),
        (b"abc\r\n\r\n", "header line \"abc\" has no colon"),
        (b": b\r\n\r\n", "header name \"\" is not a token"),
        (b"a\"b: c\r\n\r\n", "header name \"a\\\"\" is not a token"),
        (b"a\0: c\r\n\r\n", "header name \"a\\x00\" is not a token"),
        (b"a\rb: c\r\n\r\n", "carriage return without a line feed"),
        (b"a: b\rc\r\n\r\n", "carriage return without a line feed"),
        (b"a: b\0\r\n\r\n", "value of header \"a\" holds a control byte"),
    ] {
        assert_eq!(error(section), expected, "{}", section.escape_ascii());
    }
}

#[test]
fn control_bytes_are_found_in_every_value_among_clean_ones() {
    for byte in 0..=255_u8 {
        for place in 0..3 {
            let mut section = Vec::new();
            for line in 0..3 {
                section.extend_from_slice(b"name: a long enough value, as they come\t");
                if line == place {
                    section.push(byte);
                }
                section.extend_from_slice(b"end\r\n");
            }
            section.extend_from_slice(b"\r\n");
            let is_good = byte == b'\t' || (byte >= 0x20 && byte != 0x7f);
            let found = parse_headers(&section, &Limits::default());
            // A line feed ends the line: what follows has no colon.
            assert_eq!(found.is_ok(), is_good, "{byte:#x} in line {place}");
        }
    }
    // As many line feeds without as carriage returns with nothing behind them are no line ends.
    let section = b"a: b\rc\r\nd: e\nf: g\r\n\r\n";
    assert!(parse_headers(section, &Limits::default()).is_err());
}

#[test]
fn long_foreign_values_are_cut_short_in_messages() {
    let line = [b"GET /", &b"a".repeat(500)[..], b" b"].concat();
    let text = parse_request_line(&line, &Limits::default()).unwrap_err().to_string();
    assert!(text.len() < 160 && text.contains('…'), "{text}");
}

#[test]
fn usual_reasons_are_not_copied() {
    let reason = |line: &str| {
        parse_response_head(format!("{line}\r\n\r\n").as_bytes(), &Limits::default()).unwrap().reason
    };
    assert!(matches!(reason("HTTP/1.1 200 OK"), Cow::Borrowed(b"OK")));
    assert!(matches!(reason("HTTP/1.1 200 Fine"), Cow::Owned(text) if text == b"Fine"));
    assert!(matches!(reason("HTTP/1.1 200 "), Cow::Owned(text) if text.is_empty()));
    assert_eq!(reason("HTTP/1.1 200"), &b""[..]);
}

#[test]
fn targets_fit_their_method() {
    let is_ok = |method: Method, target: &str| check_target(&method, target.as_bytes()).is_ok();
    for target in ["/", "/a?b#".trim_end_matches('#'), "//a", "http://a", "https://a:1/?", "/%zz", "/\"<>"] {
        assert!(is_ok(Method::Get, target) && is_ok(Method::Options, target), "{target}");
        assert!(!is_ok(Method::Connect, target), "{target}");
    }
    assert!(is_ok(Method::Options, "*") && !is_ok(Method::Get, "*"));
    assert!(is_ok(Method::Connect, "a:1") && !is_ok(Method::Get, "a:1"));
    assert!(is_ok(Method::Connect, "[::1]:443"));
    assert!(!is_ok(Method::Get, "") && !is_ok(Method::Connect, ""));
}
