//! Messages are written so that they read the same; any field can be asked for as any kind.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    use pipy_protocols::protobuf::{Kind, Message};
    let Ok(message) = Message::decode(&bytes::Bytes::copy_from_slice(data)) else { return };
    assert_eq!(Message::decode(&message.encode()).as_ref(), Ok(&message));
    for field in 0..20 {
        for kind in [Kind::Int32, Kind::Sint64, Kind::Float, Kind::Fixed64, Kind::String, Kind::Bytes] {
            let _ = (message.get(field, kind), message.get_array(field, kind), message.get_message(field));
        }
    }
});
