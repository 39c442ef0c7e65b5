//! The contract as both sides see it: the checked-in schema is the generated one; every valid sample parses and
//! survives a round trip; every invalid sample is refused for the reason that its `expect` names.

use std::fs;
use std::path::{Path, PathBuf};

fn contract() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contract")
}

fn samples(kind: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(contract().join("samples").join(kind))
        .expect("the samples folder is there")
        .map(|entry| entry.expect("a readable entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no {kind} samples");
    files
}

#[test]
fn the_checked_in_schema_is_the_generated_one() {
    let checked_in = fs::read_to_string(contract().join("proxy-config.schema.json")).unwrap_or_default();
    assert!(
        checked_in == pipy_config::schema(),
        "contract/proxy-config.schema.json is stale; run `make contract`"
    );
}

#[test]
fn valid_samples_parse_and_survive_a_round_trip() {
    for path in samples("valid") {
        let config = pipy_config::parse(&fs::read(&path).expect("a readable sample"))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let again = serde_json::to_vec(&config).expect("a configuration serialises");
        assert_eq!(pipy_config::parse(&again).expect("it parses again"), config, "{}", path.display());
    }
}

#[test]
fn invalid_samples_are_refused_for_the_reason_they_name() {
    for path in samples("invalid") {
        let text = fs::read_to_string(&path).expect("a readable sample");
        let sample: serde_json::Value = serde_json::from_str(&text).expect("samples are JSON");
        let expect = sample["expect"].as_str().expect("an invalid sample says what to expect");
        let config = serde_json::to_vec(&sample["config"]).expect("it serialises");
        let error =
            pipy_config::parse(&config).err().unwrap_or_else(|| panic!("{} was accepted", path.display()));
        assert!(
            error.to_string().contains(expect),
            "{}: expected {expect:?} in {:?}",
            path.display(),
            error.to_string()
        );
    }
}
