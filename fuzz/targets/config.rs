//! A configuration that is accepted is accepted again as it would be shown, and means the same.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(config) = pipy_config::parse(data) else { return };
    let shown = serde_json::to_vec(&config).expect("a configuration can be written");
    assert_eq!(pipy_config::parse(&shown).expect("what was accepted"), config);
});
