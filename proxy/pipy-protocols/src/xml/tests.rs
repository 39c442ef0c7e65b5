//! Documents are read and written; bombs, and what is not well-formed, are refused.

use proptest::prelude::*;

use super::{decode, parse, stringify};
use crate::{Object, Value};

fn node(name: &str, attributes: &[(&str, &str)], children: Vec<Value>) -> Value {
    let attributes = attributes.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect();
    Object::new()
        .with("name", name)
        .with("attributes", Object::from_pairs(attributes))
        .with("children", children)
        .into()
}

#[test]
fn a_document_becomes_nodes_and_text() {
    let text = "\u{feff}<?xml version=\"1.0\"?>\n<!DOCTYPE a [<!ENTITY x \"]>\"><!ELEMENT a ANY>]>\n<!-- c --><ns:a x='1 &quot;' y=\"é\">\n  <b/>\n  <c>t&amp;&#x41;<![CDATA[<raw>]]></c>\n  <d> </d>\n</ns:a>\n";
    let c = node("c", &[], vec!["t&A<raw>".into()]);
    let expected = node(
        "ns:a",
        &[("x", "1 \""), ("y", "é")],
        vec![node("b", &[], vec![]), c, node("d", &[], vec![" ".into()])],
    );
    assert_eq!(parse(text).unwrap(), expected);
    assert_eq!(
        stringify(&expected, 2).unwrap(),
        "<ns:a x=\"1 &quot;\" y=\"é\">\n  <b/>\n  <c>t&amp;A&lt;raw&gt;</c>\n  <d> </d>\n</ns:a>"
    );
}

#[test]
fn what_is_not_well_formed_is_refused_where_it_stands() {
    let deep = "<a>".repeat(300);
    let cases = [
        ("", "no element"),
        ("<a>", "<a> is not closed"),
        ("<a></b>", "where </a>"),
        ("</a>", "was not opened"),
        ("<a/><b/>", "second root"),
        ("x<a/>", "outside"),
        ("<a b/>", "no value"),
        ("<a b=c/>", "not quoted"),
        ("<a b='1' b='2'/>", "twice"),
        ("<a b='<'/>", "has a <"),
        ("<a>&x;</a>", "unknown entity &x;"),
        ("<a>&#0;</a>", "unknown entity"),
        ("<a>\0</a>", "no document may have"),
        ("<a b='\u{1}'/>", "no document may have"),
        ("<a>& b</a>", "starts no entity"),
        ("<1/>", "a name"),
        ("<a", "not closed"),
        ("<!-- x", "comment is not closed"),
        ("<!DOCTYPE a [", "document type"),
        ("<a b='1'c='2'/>", "not closed"),
        (&deep, "depth exceeds"),
    ];
    for (text, reason) in cases {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.contains(reason), "{text}: {error}");
    }
    assert!(decode(&vec![b'<', 0xff].into()).is_err());
    let laughs = "<!DOCTYPE l [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;\">]><l>&b;</l>";
    assert!(parse(laughs).unwrap_err().to_string().contains("unknown entity &b;"));
}

#[test]
fn scripts_are_told_which_name_cannot_be() {
    assert!(stringify(&node("a b", &[], vec![]), 0).unwrap_err().to_string().contains("\"a b\" is no name"));
    assert!(stringify(&Value::Null, 0).is_err());
}

fn nodes() -> impl Strategy<Value = Value> {
    let leaf = (
        "[a-z]{1,4}",
        prop::collection::btree_map("[a-z]{1,3}", "[ -~é\n\t]{0,9}", 0..3),
        prop::option::of("[!-~é][ -~é\n]{0,9}"),
    )
        .prop_map(|(name, attributes, text)| {
            let attributes: Vec<(&str, &str)> =
                attributes.iter().map(|(key, value)| (&**key, &**value)).collect();
            node(&name, &attributes, text.into_iter().map(Value::String).collect())
        });
    leaf.prop_recursive(4, 20, 4, |inner| {
        ("[a-z]{1,4}", prop::collection::vec(inner, 0..4))
            .prop_map(|(name, children)| node(&name, &[], children))
    })
}

proptest! {
    #[test]
    fn documents_come_back(root in nodes(), indent in 0..4_usize) {
        prop_assert_eq!(parse(&stringify(&root, indent).unwrap()).unwrap(), root);
    }

    #[test]
    fn garbage_is_refused_and_nothing_panics(text in "[<>/!?a\\-\\[\\]='\"& ;#x1é]{0,60}") {
        let _ = parse(&text);
    }
}
