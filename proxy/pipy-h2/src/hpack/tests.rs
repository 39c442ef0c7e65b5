//! Whole blocks: the examples of RFC 7541 appendix C, refusals, and what encoder and decoder agree on.

use proptest::prelude::*;

use super::*;
use crate::testing::unhex;

type Field = (Vec<u8>, Vec<u8>);

#[derive(Default)]
struct Fields(Vec<Field>);

impl FieldSink for Fields {
    fn field(&mut self, name: &[u8], value: &[u8]) {
        self.0.push((name.to_vec(), value.to_vec()));
    }
}

fn fields(pairs: &[(&str, &str)]) -> Vec<Field> {
    pairs.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
}

fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<Field>, HpackError> {
    let mut sink = Fields::default();
    assert_eq!(decoder.decode(block, 1 << 20, &mut sink)?, ListSize::Within);
    Ok(sink.0)
}

const CUSTOM: Pairs = &[("custom-key", "custom-header")];

const REQUESTS: [&[(&str, &str)]; 3] = [
    &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")],
    &[
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "www.example.com"),
        ("cache-control", "no-cache"),
    ],
    &[
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/index.html"),
        (":authority", "www.example.com"),
        ("custom-key", "custom-value"),
    ],
];

const RESPONSES: [&[(&str, &str)]; 3] = [
    &[
        (":status", "302"),
        ("cache-control", "private"),
        ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
        ("location", "https://www.example.com"),
    ],
    &[
        (":status", "307"),
        ("cache-control", "private"),
        ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
        ("location", "https://www.example.com"),
    ],
    &[
        (":status", "200"),
        ("cache-control", "private"),
        ("date", "Mon, 21 Oct 2013 20:13:22 GMT"),
        ("location", "https://www.example.com"),
        ("content-encoding", "gzip"),
        ("set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"),
    ],
];

/// Section, table size, blocks, the fields of each, and the size of the table after the last.
type Example = (&'static str, u32, &'static [&'static str], &'static [Pairs], usize);
type Pairs = &'static [(&'static str, &'static str)];

#[test]
fn examples_of_rfc_7541_c_2_to_c_6() {
    let cases: [Example; 8] = [
        ("C.2.1", 4096, &["400a637573746f6d2d6b65790d637573746f6d2d686561646572"], &[CUSTOM], 55),
        ("C.2.2", 4096, &["040c2f73616d706c652f70617468"], &[&[(":path", "/sample/path")]], 0),
        ("C.2.3", 4096, &["100870617373776f726406736563726574"], &[&[("password", "secret")]], 0),
        ("C.2.4", 4096, &["82"], &[&[(":method", "GET")]], 0),
        (
            "C.3",
            4096,
            &[
                "828684410f7777772e6578616d706c652e636f6d",
                "828684be58086e6f2d6361636865",
                "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
            ],
            &REQUESTS,
            164,
        ),
        (
            "C.4",
            4096,
            &[
                "828684418cf1e3c2e5f23a6ba0ab90f4ff",
                "828684be5886a8eb10649cbf",
                "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
            ],
            &REQUESTS,
            164,
        ),
        (
            "C.5",
            256,
            &[
                "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d546e1768747470733a2f2f7777772e6578616d706c652e636f6d",
                "4803333037c1c0bf",
                "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d4153444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b2076657273696f6e3d31",
            ],
            &RESPONSES,
            215,
        ),
        (
            "C.6",
            256,
            &[
                "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3",
                "4883640effc1c0bf",
                "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
            ],
            &RESPONSES,
            215,
        ),
    ];
    for (name, table, blocks, expected, size) in cases {
        let mut decoder = Decoder::new(table);
        for (block, expected) in blocks.iter().zip(expected) {
            assert_eq!(decode(&mut decoder, &unhex(block)).unwrap(), fields(expected), "{name}");
        }
        assert_eq!(decoder.table_size(), size, "{name}");
    }
}

#[test]
fn a_block_that_is_cut_off_is_refused_at_every_byte_of_a_field() {
    for block in ["400a637573746f6d2d6b65790d637573746f6d2d686561646572", "418cf1e3c2e5f23a6ba0ab90f4ff"] {
        let block = unhex(block);
        for end in 1..block.len() {
            assert!(decode(&mut Decoder::new(4096), &block[..end]).is_err(), "cut at {end}");
        }
    }
}

#[test]
fn what_the_tables_do_not_hold_is_refused() {
    for (block, index) in [("80", 0), ("be", 62), ("ff00", 127), ("7f0000", 63), ("0f300161", 63)] {
        assert_eq!(
            decode(&mut Decoder::new(4096), &unhex(block)),
            Err(HpackError::InvalidIndex(index)),
            "{block}"
        );
    }
}

/// RFC 7541 §4.2 and §6.3.
#[test]
fn table_sizes_stand_first_twice_at_most_and_within_what_is_allowed() {
    use HpackError::*;
    for (block, expected) in [
        ("20", Ok(vec![])),
        ("203fe11f", Ok(vec![])),
        ("202020", Err(MisplacedSizeUpdate)),
        ("8220", Err(MisplacedSizeUpdate)),
        ("3fe21f", Err(TableSizeTooLarge { found: 4097, max: 4096 })),
        ("2082", Ok(fields(&[(":method", "GET")]))),
    ] {
        assert_eq!(decode(&mut Decoder::new(4096), &unhex(block)), expected, "{block}");
    }
}

#[test]
fn a_peer_must_follow_when_we_lower_the_table() {
    let mut decoder = Decoder::new(4096);
    decoder.set_allowed(100);
    assert_eq!(decode(&mut decoder, &[0x82]), Err(HpackError::MissingSizeUpdate));
    let mut decoder = Decoder::new(4096);
    decoder.set_allowed(100);
    assert!(decode(&mut decoder, &[0x20, 0x82]).is_ok());
    assert!(decode(&mut decoder, &[0x82]).is_ok());
}

#[test]
fn a_list_beyond_its_limit_is_followed_but_not_given() {
    let mut decoder = Decoder::new(4096);
    // An entry of 4,000 bytes, then a thousand references to it.
    let mut block = vec![0x40, 1, b'a', 0x7f, 0xa1, 0x1e];
    block.extend([b'v'; 4000]);
    block.extend([0xbe; 1000]);
    // And one more entry, which the table must know afterwards.
    block.extend([0x40, 1, b'b', 1, b'c']);
    let mut sink = Fields::default();
    assert_eq!(decoder.decode(&block, 16 * 1024, &mut sink), Ok(ListSize::Exceeded));
    assert_eq!(sink.0.len(), 4);
    assert_eq!(decode(&mut decoder, &[0xbe]).unwrap(), fields(&[("b", "c")]));
}

#[test]
fn the_encoder_repeats_in_one_byte_and_hides_secrets() {
    let mut encoder = Encoder::new(4096);
    let mut block = |name: &[u8], value: &[u8]| {
        let mut out = Vec::new();
        encoder.begin(&mut out);
        encoder.field(name, value, &mut out);
        out
    };
    assert_eq!(block(b":method", b"GET"), [0x82]);
    assert!(block(b"user-agent", b"curl/8").len() > 1);
    assert_eq!(block(b"user-agent", b"curl/8"), [0xbe]);
    for secret in [&b"authorization"[..], b"cookie", b"set-cookie", b"proxy-authorization"] {
        assert_eq!(block(secret, b"s")[0] & 0xf0, 0x10);
    }
    // Not indexed, and as it is: static name 4, length, text.
    assert_eq!(block(b":path", b"/a"), [0x04, 2, b'/', b'a']);
    // Larger than a quarter of the table.
    assert_eq!(block(b"x-large", &[b'v'; 1000])[0] & 0xf0, 0);
    assert_eq!(block(b"user-agent", b"curl/8"), [0xbe]);
}

#[test]
fn changes_of_the_table_size_are_announced_once_smallest_first() {
    let mut encoder = Encoder::new(4096);
    let mut out = Vec::new();
    encoder.set_peer_max(0);
    encoder.set_peer_max(1000);
    encoder.begin(&mut out);
    assert_eq!(out, [0x20, 0x3f, 0xc9, 0x07]);
    out.clear();
    encoder.set_peer_max(1000);
    encoder.begin(&mut out);
    assert!(out.is_empty());
    // Never more than our own maximum, and a smaller one of ours is said at the start.
    encoder.set_peer_max(1 << 30);
    encoder.begin(&mut out);
    assert_eq!(out, [0x3f, 0xe1, 0x1f]);
    out.clear();
    Encoder::new(0).begin(&mut out);
    assert_eq!(out, [0x20]);
}

fn any_field() -> impl Strategy<Value = Field> {
    let name = prop_oneof![
        Just(b":path".to_vec()),
        Just(b"cookie".to_vec()),
        Just(b"content-type".to_vec()),
        "[a-c]{1,2}".prop_map(String::into_bytes),
        "[a-z-]{1,40}".prop_map(String::into_bytes),
    ];
    let value = prop_oneof![
        Just(b"x".to_vec()),
        prop::collection::vec(any::<u8>(), 0..20),
        prop::collection::vec(any::<u8>(), 0..1500),
    ];
    (name, value)
}

proptest! {
    #[test]
    fn decoder_reads_what_encoder_writes(
        blocks in prop::collection::vec(prop::collection::vec(any_field(), 0..12), 1..12),
        own in prop_oneof![Just(0u32), Just(64), Just(300), Just(4096)],
        peer in prop::collection::vec(prop::option::of(prop_oneof![Just(0u32), Just(150), Just(4096)]), 12),
    ) {
        let mut encoder = Encoder::new(own);
        let mut decoder = Decoder::new(4096);
        for (block, peer) in blocks.iter().zip(peer) {
            if let Some(peer) = peer {
                encoder.set_peer_max(peer);
            }
            let mut out = Vec::new();
            encoder.begin(&mut out);
            for (name, value) in block {
                encoder.field(name, value, &mut out);
            }
            prop_assert_eq!(&decode(&mut decoder, &out).unwrap(), block);
            prop_assert!(encoder.heap_bytes() < 32 * 1024 && decoder.heap_bytes() < 32 * 1024);
        }
    }

    #[test]
    fn any_bytes_are_fields_or_an_error(blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..8)) {
        let mut decoder = Decoder::new(512);
        for block in blocks {
            if decoder.decode(&block, 4096, &mut Fields::default()).is_err() {
                break;
            }
        }
    }
}
