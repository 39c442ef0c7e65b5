//! Fields kept, found, replaced and removed, against a plain list as the model.

use proptest::prelude::*;

use super::*;

fn headers(fields: &[(&str, &str)]) -> Headers {
    let mut headers = Headers::new();
    fields.iter().for_each(|(name, value)| headers.append(name, value).unwrap());
    headers
}

fn list(headers: &Headers) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    headers.iter().map(|(name, value)| (text(name), text(value))).collect()
}

fn pairs(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    fields.iter().map(|&(name, value)| (name.into(), value.into())).collect()
}

#[test]
fn names_are_found_in_any_case_and_kept_in_theirs() {
    let headers = headers(&[("Host", "a"), ("X-A", "1"), ("x-a", "2"), ("X-AB", "3")]);
    assert_eq!(headers.get("hOST"), Some(&b"a"[..]));
    assert_eq!(headers.get(b"x-a"), Some(&b"1"[..]));
    assert_eq!(headers.get_all("X-a").collect::<Vec<_>>(), [b"1", b"2"]);
    assert_eq!(headers.get("x"), None);
    assert_eq!(headers.get_str("x-ab"), Some("3"));
    assert!(headers.contains("x-AB") && !headers.contains("x-abc"));
    assert_eq!(headers.len(), 4);
    assert_eq!(list(&headers)[2].0, "x-a");
}

#[test]
fn inserting_replaces_in_place_and_drops_the_others() {
    let mut headers = headers(&[("A", "1"), ("B", "2"), ("a", "3"), ("C", "4"), ("A", "5")]);
    headers.insert("a", " new ").unwrap();
    assert_eq!(list(&headers), pairs(&[("A", "new"), ("B", "2"), ("C", "4")]));
    headers.insert("D", "").unwrap();
    assert_eq!(list(&headers), pairs(&[("A", "new"), ("B", "2"), ("C", "4"), ("D", "")]));
}

#[test]
fn removing_takes_all_of_that_name() {
    let mut headers = headers(&[("A", "1"), ("B", "2"), ("a", "3")]);
    assert!(headers.remove("A"));
    assert!(!headers.remove("A"));
    assert_eq!(list(&headers), pairs(&[("B", "2")]));
    headers.retain(|name, value| !(name == b"B" && value == b"2"));
    assert!(headers.is_empty());
}

#[test]
fn tokens_are_found_across_lists_and_fields() {
    let headers =
        headers(&[("Connection", "foo,\tKeep-Alive ,,"), ("connection", "Upgrade"), ("X", "closed")]);
    for found in ["foo", "FOO", "keep-alive", "upgrade"] {
        assert!(headers.contains_token("connection", found), "{found}");
    }
    for missing in ["keep", "close", "", "foo,", "alive"] {
        assert!(!headers.contains_token("connection", missing), "{missing}");
    }
    assert!(!headers.contains_token("x", "close"));
}

#[test]
fn what_would_end_a_line_or_a_name_is_refused_and_changes_nothing() {
    let mut headers = headers(&[("A", "1")]);
    for value in ["a\r\nb: c", "a\nb", "a\rb", "a\0", "\x7f", "a\x0bb"] {
        assert_eq!(headers.append("X", value), Err(HttpError::InvalidHeaderValue { name: "X".into() }));
        assert!(headers.insert("A", value).is_err());
    }
    for name in ["", "a b", "a:", "a\r\n", "caf\u{e9}", "(a)"] {
        assert!(matches!(headers.append(name, "x"), Err(HttpError::InvalidHeaderName { .. })), "{name}");
        assert!(headers.insert(name, "x").is_err());
    }
    assert_eq!(list(&headers), pairs(&[("A", "1")]));
    headers.append("X", "tab\there \u{e9}").unwrap();
}

#[test]
fn refused_values_are_not_shown() {
    let error = Headers::new().append("Authorization", "secret\0").unwrap_err();
    assert_eq!(error.to_string(), "value of header \"Authorization\" holds a control byte");
}

#[test]
fn credentials_are_not_printed() {
    let headers = headers(&[
        ("AUTHORIZATION", "s3cret"),
        ("Cookie", "s3cret"),
        ("Set-Cookie", "s3cret"),
        ("A", "\"b\""),
    ]);
    let printed = format!("{headers:?}");
    assert!(!printed.contains("s3cret"), "{printed}");
    assert!(printed.contains("AUTHORIZATION") && printed.contains("***"), "{printed}");
}

#[test]
fn setting_a_field_over_and_over_does_not_grow_memory() {
    let mut headers = headers(&[("A", "x"), ("B", "keep"), ("C", "y")]);
    for round in 0..20_000 {
        headers.insert("A", format!("{round:0>50}")).unwrap();
        headers.append("D", "gone").unwrap();
        headers.remove("D");
    }
    assert!(headers.stored_bytes() <= 3 * COMPACT_BYTES_MIN, "{} bytes", headers.stored_bytes());
    assert_eq!(headers.get_str("a"), Some(&*format!("{:0>50}", 19_999)));
    assert_eq!(headers.get("b"), Some(&b"keep"[..]));
    assert_eq!(headers.get("c"), Some(&b"y"[..]));
}

#[test]
fn equality_ignores_the_case_of_names_only() {
    assert_eq!(headers(&[("A", "b")]), headers(&[("a", "b")]));
    assert_ne!(headers(&[("A", "b")]), headers(&[("A", "B")]));
    assert_ne!(headers(&[("A", "b"), ("C", "d")]), headers(&[("C", "d"), ("A", "b")]));
    assert_ne!(headers(&[("A", "b")]), headers(&[]));
}

#[derive(Clone, Debug)]
enum Action {
    Insert(String, String),
    Append(String, String),
    Remove(String),
}

fn action() -> impl Strategy<Value = Action> {
    // Few names, so that they meet; long values, so that the arena is rebuilt on the way.
    let name = "[abAB]{1,2}";
    let value = "[x-z]{0,9}|[x]{900,1200}";
    prop_oneof![
        (name, value).prop_map(|(name, value)| Action::Insert(name, value)),
        (name, value).prop_map(|(name, value)| Action::Append(name, value)),
        name.prop_map(Action::Remove),
    ]
}

proptest! {
    #[test]
    fn any_sequence_of_changes_does_what_a_list_would(actions in prop::collection::vec(action(), 0..60)) {
        let mut headers = Headers::new();
        let mut model: Vec<(String, String)> = Vec::new();
        for action in actions {
            match action {
                Action::Append(name, value) => {
                    headers.append(&name, &value).unwrap();
                    model.push((name, value));
                }
                Action::Insert(name, value) => {
                    headers.insert(&name, &value).unwrap();
                    let same = |other: &String| other.eq_ignore_ascii_case(&name);
                    match model.iter().position(|(other, _)| same(other)) {
                        Some(first) => {
                            model[first].1 = value;
                            let mut index = 0;
                            model.retain(|(other, _)| { index += 1; index - 1 <= first || !same(other) });
                        }
                        None => model.push((name, value)),
                    }
                }
                Action::Remove(name) => {
                    headers.remove(&name);
                    model.retain(|(other, _)| !other.eq_ignore_ascii_case(&name));
                }
            }
            prop_assert_eq!(&list(&headers), &model);
        }
    }
}
