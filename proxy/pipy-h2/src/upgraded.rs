//! A connection that was HTTP/1 until its first request asked for HTTP/2 by `Upgrade: h2c` (RFC 7540 §3.2).
//!
//! In: what the client's `HTTP2-Settings` said, and its request. Out: a server's side on which that request is stream 1,
//! with nothing more to come of it; the client's preface is still expected.
//!
//! Not done here: whether to agree (RFC 9113 §3.1 lets a server ignore the wish), and the 101.

use pipy_http::{BodyLength, Method, RequestHead};

use crate::frame::Kind;
use crate::state::Change;
use crate::stream::{Phase, RequestKind, Stream};
use crate::{Config, Connection, ConnectionError, Event, Role, Scheme, StreamId};

/// RFC 7540 §3.2: the request that asked is this stream.
const FIRST: u32 = 1;

impl Connection {
    /// The server's side after an upgrade. `settings` is the payload of the SETTINGS frame that stood in the request's
    /// header; `head` has no body.
    ///
    /// Errors: the settings are none, or have values that no SETTINGS may have. There is no connection then, and the
    /// request can be answered in HTTP/1.
    pub fn server_upgraded(
        config: Config,
        settings: &[u8],
        head: Box<RequestHead>,
    ) -> Result<Self, ConnectionError> {
        let mut connection = Self::server(config);
        if settings.len() % 6 != 0 {
            let len = u32::try_from(settings.len()).unwrap_or(u32::MAX);
            return Err(ConnectionError::FrameSize {
                kind: Kind::SETTINGS,
                len,
                expected: "a multiple of 6",
            });
        }
        // The 101 acknowledges them. The client repeats them in its preface.
        connection.peer.apply(settings, Role::Server)?;
        connection.encoder.set_peer_max(connection.peer.header_table_size);
        let kind = if head.method == Method::Head { RequestKind::Head } else { RequestKind::Plain };
        let mut stream =
            Stream::new(FIRST, kind, connection.recv_initial, connection.peer.initial_window_size);
        stream.recv.phase = Phase::NoBody;
        let (id, scheme, body) = (StreamId(FIRST), Scheme::Http, BodyLength::None);
        stream.state = stream.state.after(Change::ReceiveEnd);
        connection.streams.insert(stream);
        connection.last_peer_id = FIRST;
        connection.events.push_back(Event::Request { stream: id, head, scheme, body });
        connection.events.push_back(Event::End { stream: id, trailers: None });
        Ok(connection)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use pipy_http::{BodyLength, Method, RequestHead, ResponseHead};

    use crate::{Config, Connection, Event, Pressure, Scheme};

    fn head(method: Method) -> Box<RequestHead> {
        let mut head = RequestHead::new(method, "/first");
        head.headers.append("host", "shop").unwrap();
        Box::new(head)
    }

    fn output(from: &mut Connection) -> Bytes {
        let mut pieces = Vec::new();
        from.poll_output(&mut pieces, usize::MAX);
        pieces.concat().into()
    }

    /// A client whose stream 1 is known to the server already: its HEADERS are thrown away.
    fn client() -> (Connection, Bytes) {
        // Without a table, for the server never sees the block that would be in it.
        let mut client = Connection::client(Config { header_table_size: 0, ..Config::default() });
        let preface = output(&mut client);
        client.send_request(&head(Method::Get), Scheme::Http, BodyLength::None).unwrap();
        output(&mut client);
        (client, preface)
    }

    #[test]
    fn the_request_of_http_1_is_answered_on_stream_1_and_others_follow() {
        let (mut client, preface) = client();
        // MAX_CONCURRENT_STREAMS 100, INITIAL_WINDOW_SIZE 3.
        let settings = [0, 3, 0, 0, 0, 100, 0, 4, 0, 0, 0, 3];
        let mut server =
            Connection::server_upgraded(Config::default(), &settings, head(Method::Get)).unwrap();
        assert_eq!(server.peer_settings().initial_window_size, 3);
        let Some(Event::Request { stream, head: asked, body, .. }) = server.next_event() else { panic!() };
        assert_eq!((stream.get(), asked.path(), body), (1, &b"/first"[..], BodyLength::None));
        assert!(matches!(server.next_event(), Some(Event::End { .. })));
        server.send_response(stream, &ResponseHead::new(200), BodyLength::Length(5)).unwrap();
        assert_eq!(server.send_data(stream, "hello".into()), Ok(Pressure::GoOn));
        server.send_end(stream, None).unwrap();
        client.receive(output(&mut server)).unwrap();
        assert!(matches!(client.next_event(), Some(Event::Response { head, .. }) if head.status == 200));
        // Three bytes are what the header allowed; the preface allows the rest.
        assert_eq!(client.next_event(), Some(Event::Data { stream, data: "hel".into() }));
        server.receive(preface).unwrap();
        client.receive(output(&mut server)).unwrap();
        assert_eq!(client.next_event(), Some(Event::Data { stream, data: "lo".into() }));
        assert_eq!(client.next_event(), Some(Event::End { stream, trailers: None }));
        let next = client.send_request(&head(Method::Get), Scheme::Http, BodyLength::None).unwrap();
        server.receive(output(&mut client)).unwrap();
        assert!(matches!(server.next_event(), Some(Event::Request { stream, .. }) if stream == next));
    }

    #[test]
    fn stream_1_takes_no_body() {
        let (_, preface) = client();
        let mut server = Connection::server_upgraded(Config::default(), &[], head(Method::Get)).unwrap();
        server.receive(preface).unwrap();
        while server.next_event().is_some() {}
        // DATA on it: its client has ended.
        let data: &'static [u8] = &[0, 0, 1, 0, 1, 0, 0, 0, 1, b'x'];
        server.receive(Bytes::from_static(data)).unwrap();
        let reset =
            std::iter::from_fn(|| server.next_event()).any(|event| matches!(event, Event::Reset { .. }));
        assert!(reset);
    }

    #[test]
    fn settings_that_are_none_make_no_connection() {
        for settings in [&[0, 3, 0, 0, 0][..], &[0, 4, 0xff, 0xff, 0xff, 0xff], &[0, 5, 0, 0, 0, 1]] {
            assert!(Connection::server_upgraded(Config::default(), settings, head(Method::Get)).is_err());
        }
    }
}
