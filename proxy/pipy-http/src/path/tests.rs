//! Canonical paths: each row of the table in the module, and that canonical is final.

use proptest::prelude::*;

use super::*;

fn normalised(path: &str) -> String {
    String::from_utf8(normalise_path(path.as_bytes()).unwrap().into_owned()).unwrap()
}

#[test]
fn paths_have_one_spelling() {
    for (path, expected) in [
        ("/", "/"),
        ("*", "*"),
        ("/a/b.c/d-e_f~g", "/a/b.c/d-e_f~g"),
        ("/a/.hidden/..b/c..", "/a/.hidden/..b/c.."),
        ("/a/...", "/a/..."),
        ("/!$&'()*+,;=:@", "/!$&'()*+,;=:@"),
        // Unreserved bytes are decoded, others get upper case.
        ("/%41%7e%2D%5f%30", "/A~-_0"),
        ("/%c3%a9", "/%C3%A9"),
        ("/%3b%21%2a", "/%3B%21%2A"),
        ("/%20%25%7f%01", "/%20%25%7F%01"),
        // Twice encoded is data.
        ("/%252e%252e/%2541", "/%252e%252e/%2541"),
        // Bytes that may not stand raw are encoded.
        ("/a|b\"c<d>e[f]g^h`i{j}", "/a%7Cb%22c%3Cd%3Ee%5Bf%5Dg%5Eh%60i%7Bj%7D"),
        // Dot segments.
        ("/.", "/"),
        ("/..", "/"),
        ("/a/.", "/a/"),
        ("/a/..", "/"),
        ("/a/b/..", "/a/"),
        ("/a/./b", "/a/b"),
        ("/a/../b", "/b"),
        ("/../../b", "/b"),
        ("/a/b/../../../c", "/c"),
        ("/a/%2e%2E/b", "/b"),
        ("/a/.%2e/b/%2e", "/b/"),
        ("/a/b/c/./../../g", "/a/g"),
        ("/mid/content=5/../6", "/mid/6"),
        // Empty segments are segments.
        ("//", "//"),
        ("//a///b//", "//a///b//"),
        ("/a//../b", "/a/b"),
        ("//..", "/"),
        // Encoded separators are data.
        ("/a%2fb%5cc", "/a%2Fb%5Cc"),
        ("/a%2F.b%5C...", "/a%2F.b%5C..."),
        ("/a;x=.", "/a;x=."),
        ("/a;../b", "/a;../b"),
    ] {
        assert_eq!(normalised(path), expected, "{path}");
    }
}

#[test]
fn what_servers_read_differently_is_refused() {
    for path in [
        "",
        "a",
        "a/b",
        "**",
        "http://a/",
        "?",
        "/a?b",
        "/a#b",
        "/a b",
        "/a\tb",
        "/\u{e9}",
        "/a\0",
        "/a\\b",
        "\\a",
        "/..\\a",
        "/%00",
        "/a%00b",
        "/%",
        "/%4",
        "/%zz",
        "/%4g",
        "/%%41",
        "/a%",
        "/a/..;/b",
        "/a/.;x/b",
        "/..;",
        "/%2e%2e;/b",
        "/.%2e;a=b/c",
        "/a/..%2fb",
        "/a%2f..",
        "/a%2F../b",
        "/a/%2e%2e%2fb",
        "/a%5c..%5cb",
        "/.%2Fa",
        "/a%2F..;x%2Fb",
        "/%2F.",
    ] {
        let error = normalise_path(path.as_bytes()).unwrap_err();
        assert_eq!((error.status(), error.metric_label()), (400, "path"), "{path}");
    }
}

#[test]
fn ordinary_paths_are_not_copied() {
    for path in ["/", "/a/b", "/a.b/c", "//a", "*", "/a;b=c"] {
        assert!(matches!(normalise_path(path.as_bytes()), Ok(Cow::Borrowed(_))), "{path}");
    }
}

#[test]
fn the_canonical_path_is_accepted_by_set_path() {
    let mut head = crate::RequestHead::new(crate::Method::Get, "/x/../%61|?q");
    let path = normalise_path(head.path()).unwrap().into_owned();
    head.set_path(&path).unwrap();
    assert_eq!(head.target, b"/a%7C?q");
}

proptest! {
    #[test]
    fn canonical_is_final_and_free_of_dot_segments(path in "/([./;a%]|%2[eEfF]|%5[cC]|%41|%c3|\\||//){0,24}") {
        if let Ok(first) = normalise_path(path.as_bytes()) {
            let again = normalise_path(&first).unwrap();
            prop_assert_eq!(&again, &first);
            prop_assert!(first.starts_with(b"/"));
            prop_assert!(!first.split(|&byte| byte == b'/').any(|part| part == b"." || part == b".."));
            prop_assert!(!first.windows(3).any(|part| part[0] == b'%' && part[1..].iter().any(u8::is_ascii_lowercase)));
        }
    }

    #[test]
    fn any_bytes_are_normalised_or_refused(path in prop::collection::vec(any::<u8>(), 0..60)) {
        if let Ok(first) = normalise_path(&path) {
            prop_assert_eq!(normalise_path(&first).unwrap(), first.as_ref());
        }
    }
}
