//! Both sides of a handshake read or refuse whatever comes.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    use pipy_protocols::socks::{Client, Host, Server, ServerStep};
    for mut server in [Server::new(), Server::with_passwords()] {
        for piece in data.chunks(3) {
            let mut step = server.push(bytes::Bytes::copy_from_slice(piece));
            while let Ok(ServerStep::Send(_) | ServerStep::Check { .. }) = step {
                if let Ok(ServerStep::Check { .. }) = step {
                    let _ = server.authenticated(true);
                }
                step = server.go_on();
            }
            if step.is_err() {
                break;
            }
        }
    }
    let (mut client, _) = Client::new(&Host::Domain("a".into()), 1, Some(("u", "p"))).expect("a short name");
    let _ =
        data.chunks(3).try_for_each(|piece| client.push(bytes::Bytes::copy_from_slice(piece)).map(|_| ()));
});
