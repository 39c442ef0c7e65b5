//! Differences: the next configuration, told by what is different in it.
//!
//! In: the configuration that was received last, and what the control plane says of the next. Out: the next, as JSON. What a
//! difference looks like, and what it means, is in `docs/reference/delivery.md`.
//!
//! INVARIANT: nothing is understood here but the outermost fields, clusters by name and outbound matches by number; a
//! difference that does not fit what is held leads to an error, never to a guess.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// Shorter configurations are always sent whole, so that nothing is kept of them.
pub(crate) const WHOLE_BYTES_MAX: usize = 32 << 10;

type Fields<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

#[derive(Deserialize)]
struct Difference<'a> {
    base: String,
    #[serde(borrow)]
    fields: Fields<'a>,
    #[serde(borrow, default)]
    clusters: Clusters<'a>,
    // Absent: as it was. Null: there is none any more.
    #[serde(borrow, default, deserialize_with = "present")]
    outbound: Option<Option<Outbound<'a>>>,
}

#[derive(Deserialize, Default)]
struct Clusters<'a> {
    #[serde(borrow)]
    changed: Fields<'a>,
    removed: Vec<String>,
}

#[derive(Deserialize)]
struct Outbound<'a> {
    #[serde(borrow)]
    fields: Fields<'a>,
    #[serde(borrow)]
    matches: Vec<&'a RawValue>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<Outbound<'de>>>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

/// The configuration that a difference leads to.
pub(crate) fn carry_out(base: &[u8], version: &str, difference: &[u8]) -> Result<Vec<u8>, String> {
    let read = |error: serde_json::Error| format!("it cannot be read: {error}");
    let mut said: Difference<'_> = serde_json::from_slice(difference).map_err(read)?;
    if said.base != version {
        return Err(format!("it is for version {}, not for {version}", said.base));
    }
    let held = |error: serde_json::Error| format!("what is held cannot be read: {error}");
    let mut config: Fields<'_> = serde_json::from_slice(base).map_err(held)?;
    let clusters = config.remove("clusters");
    let mut clusters: Fields<'_> =
        clusters.map_or(Ok(Fields::new()), |raw| serde_json::from_str(raw.get())).map_err(held)?;
    let outbound = config.remove("outbound").filter(|raw| raw.get() != "null");
    config.append(&mut said.fields);
    for name in &said.clusters.removed {
        if clusters.remove(name.as_str()).is_none() {
            return Err(format!("it removes cluster {name}, which is not there"));
        }
    }
    clusters.append(&mut said.clusters.changed);

    let mut text = Vec::with_capacity(base.len() + difference.len());
    text.extend_from_slice(b"{\"clusters\":");
    write_object(&mut text, &clusters)?;
    text.extend_from_slice(b",\"outbound\":");
    match (said.outbound, outbound) {
        (None, Some(before)) => text.extend_from_slice(before.get().as_bytes()),
        (None | Some(None), _) => text.extend_from_slice(b"null"),
        (Some(Some(next)), before) => write_outbound(&mut text, next, before)?,
    }
    for (name, value) in &config {
        text.push(b',');
        write_field(&mut text, name, value)?;
    }
    text.push(b'}');
    Ok(text)
}

fn write_outbound(text: &mut Vec<u8>, next: Outbound<'_>, before: Option<&RawValue>) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Matches<'a> {
        #[serde(borrow, default)]
        matches: Vec<&'a RawValue>,
    }
    let before: Vec<&RawValue> = match before {
        Some(raw) => serde_json::from_str::<Matches<'_>>(raw.get()).map(|found| found.matches),
        None => Ok(Vec::new()),
    }
    .map_err(|error| format!("what is held cannot be read: {error}"))?;
    text.extend_from_slice(b"{\"matches\":[");
    let mut first = true;
    let mut write = |text: &mut Vec<u8>, value: &RawValue| {
        if !std::mem::take(&mut first) {
            text.push(b',');
        }
        text.extend_from_slice(value.get().as_bytes());
    };
    for entry in next.matches {
        if !entry.get().starts_with('[') {
            write(text, entry);
            continue;
        }
        let run: Result<(usize, usize), _> = serde_json::from_str(entry.get());
        let (begin, count) = run.map_err(|error| format!("a run of matches cannot be read: {error}"))?;
        let end = begin.checked_add(count);
        let kept = end.and_then(|end| before.get(begin..end));
        let kept = kept.ok_or_else(|| {
            format!("it keeps {count} matches from number {begin} on, and there are {}", before.len())
        })?;
        kept.iter().for_each(|value| write(text, value));
    }
    text.push(b']');
    for (name, value) in next.fields.iter().filter(|(name, _)| *name != "matches") {
        text.push(b',');
        write_field(text, name, value)?;
    }
    text.push(b'}');
    Ok(())
}

fn write_object(text: &mut Vec<u8>, fields: &Fields<'_>) -> Result<(), String> {
    text.push(b'{');
    for (position, (name, value)) in fields.iter().enumerate() {
        if position > 0 {
            text.push(b',');
        }
        write_field(text, name, value)?;
    }
    text.push(b'}');
    Ok(())
}

fn write_field(text: &mut Vec<u8>, name: &str, value: &RawValue) -> Result<(), String> {
    serde_json::to_writer(&mut *text, name).map_err(|error| format!("a name cannot be written: {error}"))?;
    text.push(b':');
    text.extend_from_slice(value.get().as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn base() -> Value {
        json!({
            "version": "v1",
            "identity": "spiffe://a/ns/b/sa/c",
            "clusters": {"a": {"origin": "1"}, "b\"c": {"origin": "2"}},
            "outbound": {"unmatched": "refuse", "matches": [{"port": 1}, {"port": 2}, {"port": 3}]},
        })
    }

    fn led(difference: &Value) -> Result<Value, String> {
        let text = carry_out(base().to_string().as_bytes(), "v1", difference.to_string().as_bytes())?;
        Ok(serde_json::from_slice(&text).expect("JSON"))
    }

    #[test]
    fn what_is_not_told_stays_as_it_was() {
        let found = led(&json!({"base": "v1", "fields": {"version": "v2"}})).expect("it fits");
        let mut expected = base();
        expected["version"] = "v2".into();
        assert_eq!(found, expected);
    }

    #[test]
    fn fields_clusters_and_matches_are_replaced_added_and_removed() {
        let found = led(&json!({
            "base": "v1",
            "fields": {"version": "v2", "timeouts": {"idle_ms": 1}},
            "clusters": {"changed": {"a": {"origin": "9"}, "z": {}}, "removed": ["b\"c"]},
            "outbound": {
                "fields": {"unmatched": "passthrough", "matches": []},
                "matches": [[2, 1], {"port": 9}, [0, 2]],
            },
        }));
        let expected = json!({
            "version": "v2",
            "identity": "spiffe://a/ns/b/sa/c",
            "timeouts": {"idle_ms": 1},
            "clusters": {"a": {"origin": "9"}, "z": {}},
            "outbound": {
                "unmatched": "passthrough",
                "matches": [{"port": 3}, {"port": 9}, {"port": 1}, {"port": 2}],
            },
        });
        assert_eq!(found.expect("it fits"), expected);
    }

    #[test]
    fn an_outbound_half_may_go_and_come() {
        let gone = json!({"base": "v1", "fields": {"version": "v2"}, "outbound": null});
        let found = led(&gone).expect("it fits");
        assert_eq!(found["outbound"], Value::Null);
        let come = json!({"base": "v2", "fields": {"version": "v3"},
            "outbound": {"fields": {"unmatched": "refuse"}, "matches": [{"port": 1}]}});
        let text =
            carry_out(found.to_string().as_bytes(), "v2", come.to_string().as_bytes()).expect("it fits");
        let found: Value = serde_json::from_slice(&text).expect("JSON");
        assert_eq!(found["outbound"], json!({"unmatched": "refuse", "matches": [{"port": 1}]}));
    }

    #[test]
    fn what_does_not_fit_is_an_error_in_words() {
        let outbound = |entry: Value| json!({"base": "v1", "fields": {}, "outbound": {"fields": {}, "matches": [entry]}});
        for (difference, words) in [
            (json!({"base": "v0", "fields": {}}), "for version v0"),
            (json!({"base": "v1"}), "fields"),
            (json!([]), "cannot be read"),
            (json!({"base": "v1", "fields": {}, "clusters": {"changed": {}, "removed": ["x"]}}), "cluster x"),
            (outbound(json!([2, 2])), "there are 3"),
            (outbound(json!([usize::MAX, 2])), "there are 3"),
            (outbound(json!([-1, 2])), "run of matches"),
            (outbound(json!([1])), "run of matches"),
        ] {
            let error = led(&difference).expect_err("it does not fit");
            assert!(error.contains(words), "{difference}: {error}");
        }
        let broken = carry_out(b"nonsense", "v1", br#"{"base": "v1", "fields": {}}"#).expect_err("no JSON");
        assert!(broken.contains("what is held"), "{broken}");
    }
}
