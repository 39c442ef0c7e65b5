//! Any bytes, and any order of calls: no panic, one error for ever, memory within bounds.

use bytes::Bytes;
use pipy_http::{BodyLength, Method, RequestHead, ResponseHead};
use proptest::prelude::*;

use super::peer::{GET, block, frames};
use crate::testing::frame;
use crate::{Config, Connection, ErrorCode, Event, Role, Scheme, StreamId};

/// A frame that is nearly right: known kinds, low streams, sizes that fit or do not.
fn nearly_a_frame() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        Just(block(GET)),
        Just(vec![0x88]),
        Just(vec![0; 4]),
        Just(vec![0, 0, 0, 1]),
        Just(vec![0; 8]),
        Just(vec![0, 4, 0, 0, 0, 9]),
    ];
    (0u8..11, prop_oneof![Just(0u8), Just(4), Just(5), Just(1), any::<u8>()], 0u32..8, payload)
        .prop_map(|(kind, flags, stream, payload)| frame(kind, flags, stream, &payload))
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => nearly_a_frame(),
        1 => prop::collection::vec(any::<u8>(), 0..100),
    ]
}

/// Something that a caller does.
#[derive(Clone, Debug)]
enum Call {
    Receive(Vec<u8>),
    Request(u8),
    Response(u32, u16),
    Data(u32, usize),
    End(u32, bool),
    Reset(u32),
    Release(u32, usize),
    Output(usize),
    Shutdown,
    Ping,
    Finish,
}

fn call() -> impl Strategy<Value = Call> {
    let stream = 0u32..10;
    prop_oneof![
        10 => bytes().prop_map(Call::Receive),
        2 => any::<u8>().prop_map(Call::Request),
        3 => (stream.clone(), prop_oneof![Just(200u16), any::<u16>()]).prop_map(|(stream, status)| Call::Response(stream, status)),
        3 => (stream.clone(), 0usize..100_000).prop_map(|(stream, len)| Call::Data(stream, len)),
        2 => (stream.clone(), any::<bool>()).prop_map(|(stream, trailers)| Call::End(stream, trailers)),
        1 => stream.clone().prop_map(Call::Reset),
        1 => (stream, any::<usize>()).prop_map(|(stream, len)| Call::Release(stream, len)),
        5 => (0usize..100_000).prop_map(Call::Output),
        1 => Just(Call::Shutdown),
        1 => Just(Call::Ping),
        1 => Just(Call::Finish),
    ]
}

fn perform(connection: &mut Connection, call: Call) {
    match call {
        Call::Receive(bytes) => {
            let before = connection.error().cloned();
            let result = connection.receive(bytes.into());
            if let Some(before) = before {
                assert_eq!(result, Err(before));
            }
        }
        Call::Request(kind) => {
            let method =
                [Method::Get, Method::Head, Method::Post, Method::Connect][usize::from(kind % 4)].clone();
            let mut head = RequestHead::new(method, if kind % 4 == 3 { "shop:1" } else { "/" });
            head.headers.append("host", "shop").unwrap();
            let body = [BodyLength::None, BodyLength::Length(9), BodyLength::Chunked][usize::from(kind % 3)];
            let _ = connection.send_request(&head, Scheme::Http, body);
        }
        Call::Response(stream, status) => {
            let head = ResponseHead::new(status);
            let _ = connection.send_response(StreamId(stream), &head, BodyLength::Chunked);
            let _ = connection.send_interim(StreamId(stream), &head);
        }
        Call::Data(stream, len) => drop(connection.send_data(StreamId(stream), vec![0; len].into())),
        Call::End(stream, trailers) => {
            let mut headers = pipy_http::Headers::new();
            headers.append("a", "b").unwrap();
            let _ = connection.send_end(StreamId(stream), trailers.then(|| Box::new(headers)));
        }
        Call::Reset(stream) => connection.reset(StreamId(stream), ErrorCode::CANCEL),
        Call::Release(stream, len) => connection.release(StreamId(stream), len),
        Call::Output(max) => {
            let mut pieces = Vec::new();
            connection.poll_output(&mut pieces, max);
            // Whatever the order of calls, what goes out is whole frames.
            let bytes = pieces.concat();
            frames(bytes.strip_prefix(&crate::input::PREFACE[..]).unwrap_or(&bytes));
        }
        Call::Shutdown => connection.shutdown(),
        Call::Ping => connection.ping([1; 8]),
        Call::Finish => {
            let _ = connection.finish();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_bytes_are_events_or_an_error(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..5)) {
        for role in [Role::Server, Role::Client] {
            let mut connection = start(role);
            for piece in &pieces {
                let _ = connection.receive(Bytes::copy_from_slice(piece));
            }
            let _ = connection.finish();
        }
    }

    #[test]
    fn any_order_of_calls_is_survived(role in prop_oneof![Just(Role::Server), Just(Role::Client)], calls in prop::collection::vec(call(), 0..80)) {
        let mut connection = start(role);
        for call in calls {
            perform(&mut connection, call);
            while let Some(event) = connection.next_event() {
                if let Event::Data { stream, data } = event {
                    connection.release(stream, data.len());
                }
            }
            prop_assert!(connection.memory() < 512 * 1024);
        }
    }

    #[test]
    fn cuts_do_not_matter_to_garbage(frames in prop::collection::vec(nearly_a_frame(), 0..20), size in 1usize..30) {
        let bytes = frames.concat();
        let read = |mut pieces: std::slice::Chunks<u8>| {
            let mut connection = start(Role::Server);
            let result = pieces.try_for_each(|piece| connection.receive(Bytes::copy_from_slice(piece)));
            let mut output = Vec::new();
            connection.poll_output(&mut output, usize::MAX);
            (result, output.concat())
        };
        prop_assert_eq!(read(bytes.chunks(bytes.len().max(1))), read(bytes.chunks(size)));
    }
}

/// A connection after the prefaces.
fn start(role: Role) -> Connection {
    let mut connection = match role {
        Role::Server => Connection::server(Config::default()),
        Role::Client => Connection::client(Config::default()),
    };
    if role == Role::Server {
        connection.receive(crate::input::PREFACE.as_slice().into()).unwrap();
    }
    connection.receive(frame(4, 0, 0, &[]).into()).unwrap();
    connection
}
