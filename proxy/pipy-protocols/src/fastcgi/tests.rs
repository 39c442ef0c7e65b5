//! Requests and responses come back however they are cut; what is out of place is refused.

use bytes::Bytes;
use proptest::prelude::*;

use super::{Item, Requests, Responses, encode_request, encode_response};
use crate::testing::hex;
use crate::{Error, Event, Object};

fn requests(bytes: &[u8], cut: usize) -> Result<Vec<Item>, Error> {
    let (mut decoder, mut items) = (Requests::new(), Vec::new());
    for piece in bytes.chunks(cut) {
        decoder.push(Bytes::copy_from_slice(piece), &mut items)?;
    }
    decoder.finish()?;
    Ok(items)
}

fn responses(bytes: &[u8], cut: usize) -> Result<Vec<Item>, Error> {
    let (mut decoder, mut items) = (Responses::new(), Vec::new());
    decoder.expect(1);
    for piece in bytes.chunks(cut) {
        decoder.push(Bytes::copy_from_slice(piece), &mut items)?;
    }
    decoder.finish()?;
    Ok(items)
}

#[test]
fn a_request_of_the_specification_is_read_however_it_is_cut() {
    // §B.1: BEGIN_REQUEST, PARAMS, an empty PARAMS, an empty STDIN.
    let params = [&[11, 2][..], b"SERVER_PORT80", &[11, 14], b"SERVER_ADDR199.170.183.42"].concat();
    let bytes = [
        hex("01 01 0001 0008 00 00 0001 00 0000000000"),
        [&[1, 4, 0, 1, 0, params.len() as u8, 3, 0][..], &params, &[9; 3]].concat(),
        hex("01 04 0001 0000 00 00 01 05 0001 0000 00 00"),
    ]
    .concat();
    let params = Object::new().with("SERVER_PORT", "80").with("SERVER_ADDR", "199.170.183.42");
    let head = Object::new().with("role", 1).with("keepAlive", false).with("params", params);
    for cut in [1, 7, 1000] {
        let items = requests(&bytes, cut).unwrap();
        assert_eq!(items, [Item::Event(1, Event::Start(head.clone().into())), Item::Event(1, Event::END)]);
    }
}

#[test]
fn a_response_has_its_status_and_what_went_wrong() {
    let bytes = [
        hex("01 06 0001 0003 05 00 612f62 0000000000 01 07 0001 0004 04 00 6f6f7073 00000000"),
        hex("01 06 0001 0000 00 00 01 03 0001 0008 00 00 00000007 00 000000"),
    ]
    .concat();
    let tail =
        Object::new().with("appStatus", 7).with("protocolStatus", 0).with("stderr", Bytes::from("oops"));
    let expected = [
        Item::Event(1, Event::Start(Object::new().into())),
        Item::Event(1, Event::Data("a/b".into())),
        Item::Event(1, Event::End { tail: Some(tail.into()), payload: None }),
    ];
    assert_eq!(responses(&bytes, 1).unwrap(), expected);
    assert_eq!(responses(&bytes, 1000).unwrap(), expected);
}

#[test]
fn a_server_is_told_what_we_can() {
    let items = requests(&hex("01 09 0000 0011 00 00 0f 00 464347495f4d5058535f434f4e4e53"), 3).unwrap();
    let [Item::Reply(reply)] = &items[..] else { panic!("{items:?}") };
    assert!(
        reply.starts_with(&hex("01 0a 0000 0012"))
            && reply.windows(15).any(|part| part == b"FCGI_MPXS_CONNS")
    );
    let items = requests(&hex("01 63 0000 0000 00 00"), 100).unwrap();
    assert_eq!(items, [Item::Reply(hex("01 0b 0000 0008 00 00 63 00000000000000").into())]);
}

#[test]
fn what_is_out_of_place_is_refused() {
    let begin = "01 01 0001 0008 00 00 0001 00 0000000000";
    let cases = [
        ("02 01 0001 0000 00 00".to_owned(), "version 2"),
        ("01 01 0001 0002 00 00 0001".to_owned(), "BEGIN_REQUEST of 2 bytes"),
        (format!("{begin} {begin}"), "begins twice"),
        (format!("{begin} 01 05 0001 0000 00 00"), "out of place"),
        (format!("{begin} 01 04 0001 0001 00 00 ff 01 04 0001 0000 00 00"), "a length takes"),
        (begin.to_owned(), "ended"),
    ];
    for (bytes, reason) in cases {
        let error = requests(&hex(&bytes), 1000).unwrap_err().to_string();
        assert!(error.contains(reason), "{bytes}: {error}");
    }
    assert!(responses(&hex("01 06 0002 0000 00 00"), 9).unwrap_err().to_string().contains("was not asked"));
}

proptest! {
    #[test]
    fn messages_come_back(params in prop::collection::btree_map("[A-Z_]{1,200}", "[a-z/é]{0,200}", 0..6), body in prop::collection::vec(any::<u8>(), 1..70_000), cut in 1..9000_usize) {
        let params = Object::from_pairs(params.into_iter().map(|(key, value)| (key, value.into())).collect());
        let head = Object::new().with("role", 1).with("keepAlive", true).with("params", params);
        let mut output = Vec::new();
        for event in [Event::Start(head.clone().into()), Event::Data(body.clone().into()), Event::END] {
            encode_request(5, event, &mut output).unwrap();
        }
        let items = requests(&output.concat(), cut).unwrap();
        prop_assert_eq!(&items[0], &Item::Event(5, Event::Start(head.into())));
        let data: Vec<u8> = items.iter().filter_map(|item| if let Item::Event(5, Event::Data(data)) = item { Some(data.to_vec()) } else { None }).flatten().collect();
        prop_assert_eq!(&data, &body);

        let tail = Object::new().with("appStatus", 1).with("protocolStatus", 0).with("stderr", Bytes::from("e"));
        let end = Event::End { tail: Some(tail.into()), payload: None };
        let mut output = Vec::new();
        for event in [Event::Start(Object::new().into()), Event::Data(body.into()), end.clone()] {
            encode_response(1, event, &mut output).unwrap();
        }
        let items = responses(&output.concat(), cut).unwrap();
        prop_assert_eq!(items.last(), Some(&Item::Event(1, end)));
    }

    #[test]
    fn garbage_is_refused_and_nothing_panics(records in prop::collection::vec((0..12_u8, 0..3_u8, prop::collection::vec(any::<u8>(), 0..20)), 0..12)) {
        let bytes: Vec<u8> = records.into_iter().flat_map(|(kind, id, content)| {
            [&[1, kind, 0, id, 0, content.len() as u8, 0, 0][..], &content].concat()
        }).collect();
        let _ = requests(&bytes, 7);
        let _ = responses(&bytes, 7);
    }
}
