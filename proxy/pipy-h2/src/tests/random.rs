//! Random exchanges under random windows, cuts and turns: both sides see the same messages, and
//! nothing is left when they are over.

use bytes::Bytes;
use pipy_http::{BodyLength, Headers, Method, RequestHead, ResponseHead};
use proptest::prelude::*;

use crate::{Config, Connection, Event, Pressure, Scheme, StreamId};

/// One request, which the server echoes.
#[derive(Clone, Debug)]
struct Exchange {
    pieces: Vec<usize>,
    counted: bool,
    trailers: bool,
}

/// A side's data on its way to being sent, and what it has received.
#[derive(Default)]
struct Progress {
    stream: Option<StreamId>,
    to_send: Vec<Bytes>,
    trailers: bool,
    waiting: bool,
    ended: bool,
    received: Vec<u8>,
    got_trailers: bool,
    got_end: bool,
}

impl Progress {
    /// Sends as far as the connection lets it.
    fn send(&mut self, connection: &mut Connection) {
        let Some(stream) = self.stream.filter(|_| !self.ended && !self.waiting) else { return };
        while !self.to_send.is_empty() {
            if connection.send_data(stream, self.to_send.remove(0)).unwrap() == Pressure::Wait {
                self.waiting = true;
                return;
            }
        }
        let mut trailers = Headers::new();
        trailers.append("x-sum", "1").unwrap();
        connection.send_end(stream, self.trailers.then(|| Box::new(trailers))).unwrap();
        self.ended = true;
    }

    fn expected(exchange: &Exchange, index: usize) -> Vec<u8> {
        (0..exchange.pieces.iter().sum::<usize>()).map(|at| (at * 7 + index) as u8).collect()
    }
}

/// Bytes under way in one direction.
#[derive(Default)]
struct Wire(Vec<u8>);

impl Wire {
    fn carry(&mut self, from: &mut Connection, to: &mut Connection, output_max: usize, len: usize) {
        let mut pieces = Vec::new();
        from.poll_output(&mut pieces, output_max);
        pieces.iter().for_each(|piece| self.0.extend_from_slice(piece));
        let len = len.min(self.0.len());
        let rest = self.0.split_off(len);
        to.receive(std::mem::replace(&mut self.0, rest).into()).unwrap();
    }
}

fn config() -> impl Strategy<Value = Config> {
    let windows =
        (prop_oneof![16u32..200, 1000u32..70_000], prop_oneof![Just(65_535u32), 65_535u32..200_000]);
    let rest = (prop_oneof![Just(0u32), Just(100), Just(4096)], 1u32..6, 1u32..5_000);
    (windows, rest).prop_map(|((stream_window, connection_window), (table, streams, high))| {
        let mut config =
            Config { stream_window, connection_window, header_table_size: table, ..Config::default() };
        config.max_concurrent_streams = streams;
        config.limits.send_queue_bytes_high = high;
        config
    })
}

fn exchange() -> impl Strategy<Value = Exchange> {
    let pieces = prop::collection::vec(prop_oneof![1usize..50, 1000usize..9000], 0..4);
    (pieces, any::<bool>(), any::<bool>()).prop_map(|(pieces, counted, trailers)| Exchange {
        pieces,
        counted,
        trailers,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn client_and_server_agree(
        configs in (config(), config()),
        exchanges in prop::collection::vec(exchange(), 1..12),
        choices in prop::collection::vec((1usize..30_000, 1usize..2000, any::<bool>()), 20),
    ) {
        let (mut client, mut server) = (Connection::client(configs.0), Connection::server(configs.1));
        let mut asking: Vec<Progress> = Vec::new();
        let mut answering: Vec<Progress> = Vec::new();
        let (mut there, mut back) = (Wire::default(), Wire::default());
        let mut owed: Vec<(bool, StreamId, usize)> = Vec::new();
        let (mut turns, mut moved) = (0usize, (0usize, 0usize));
        while asking.len() < exchanges.len() || asking.iter().any(|one| !one.got_end || !one.ended) {
            turns += 1;
            // A wire may carry a byte at a time for long: what counts is that something arrives.
            let arrived = asking.iter().chain(&answering).map(|one| one.received.len() + usize::from(one.got_end)).sum();
            if arrived != moved.0 {
                moved = (arrived, turns);
            }
            prop_assert!(turns - moved.1 < 20_000, "no progress");
            let (output_max, len, first) = choices[turns % choices.len()];
            // A new request, as far as the server's limit is known to allow it.
            if asking.len() < exchanges.len() && client.has_peer_settings() && client.available_streams() > 0 {
                let exchange = &exchanges[asking.len()];
                let mut head = RequestHead::new(Method::Post, format!("/{}", asking.len()));
                head.headers.append("host", "shop").unwrap();
                head.headers.append("x-index", asking.len().to_string()).unwrap();
                let body = Progress::expected(exchange, asking.len());
                let length = match exchange.counted {
                    true if !body.is_empty() => BodyLength::Length(body.len() as u64),
                    _ => BodyLength::Chunked,
                };
                let stream = client.send_request(&head, Scheme::Http, length).unwrap();
                let mut rest = Bytes::from(body);
                let to_send = exchange.pieces.iter().map(|&len| rest.split_to(len)).collect();
                asking.push(Progress { stream: Some(stream), to_send, trailers: exchange.trailers, ..Progress::default() });
            }
            asking.iter_mut().for_each(|one| one.send(&mut client));
            if first {
                there.carry(&mut client, &mut server, output_max, len);
            } else {
                back.carry(&mut server, &mut client, output_max, len);
            }
            while let Some(event) = server.next_event() {
                match event {
                    Event::Request { stream, head, body, .. } => {
                        let index: usize = head.headers.get_str("x-index").unwrap().parse().unwrap();
                        prop_assert_eq!(index, answering.len());
                        prop_assert_eq!(head.path().to_vec(), format!("/{index}").into_bytes());
                        server.send_response(stream, &ResponseHead::new(200), body).unwrap();
                        let trailers = exchanges[index].trailers;
                        answering.push(Progress { stream: Some(stream), trailers, ..Progress::default() });
                    }
                    Event::Data { stream, data } => {
                        let one = answering.iter_mut().find(|one| one.stream == Some(stream)).unwrap();
                        one.received.extend_from_slice(&data);
                        owed.push((false, stream, data.len()));
                        one.to_send.push(data);
                    }
                    Event::End { stream, trailers } => {
                        let one = answering.iter_mut().find(|one| one.stream == Some(stream)).unwrap();
                        (one.got_end, one.got_trailers) = (true, trailers.is_some());
                    }
                    Event::Writable { stream } => {
                        answering.iter_mut().filter(|one| one.stream == Some(stream)).for_each(|one| one.waiting = false);
                    }
                    other => prop_assert!(false, "{:?}", other),
                }
            }
            answering.iter_mut().filter(|one| one.got_end).for_each(|one| one.send(&mut server));
            while let Some(event) = client.next_event() {
                match event {
                    Event::Response { head, .. } => prop_assert_eq!(head.status, 200),
                    Event::Data { stream, data } => {
                        let one = asking.iter_mut().find(|one| one.stream == Some(stream)).unwrap();
                        one.received.extend_from_slice(&data);
                        owed.push((true, stream, data.len()));
                    }
                    Event::End { stream, trailers } => {
                        let one = asking.iter_mut().find(|one| one.stream == Some(stream)).unwrap();
                        (one.got_end, one.got_trailers) = (true, trailers.is_some());
                    }
                    Event::Writable { stream } => {
                        asking.iter_mut().filter(|one| one.stream == Some(stream)).for_each(|one| one.waiting = false);
                    }
                    other => prop_assert!(false, "{:?}", other),
                }
            }
            // Consumed late, and in another order than received.
            if turns % 3 == 0 {
                while let Some((of_client, stream, len)) = owed.pop() {
                    if of_client { client.release(stream, len) } else { server.release(stream, len) }
                }
            }
            prop_assert!(client.memory() < 64 * 1024 && server.memory() < 64 * 1024);
            client.tick();
            server.tick();
        }
        for (index, exchange) in exchanges.iter().enumerate() {
            let expected = Progress::expected(exchange, index);
            prop_assert_eq!(&answering[index].received, &expected);
            prop_assert_eq!(&asking[index].received, &expected);
            prop_assert_eq!(answering[index].got_trailers, exchange.trailers);
            prop_assert_eq!(asking[index].got_trailers, exchange.trailers);
        }
        for (of_client, stream, len) in owed.drain(..) {
            if of_client { client.release(stream, len) } else { server.release(stream, len) }
        }
        prop_assert!(client.is_idle() && server.is_idle());
        prop_assert_eq!((client.unreleased(), server.unreleased()), (0, 0));
        prop_assert!(client.memory() < 16 * 1024 && server.memory() < 16 * 1024);
        prop_assert_eq!(server.finish(), Ok(()));
    }
}
