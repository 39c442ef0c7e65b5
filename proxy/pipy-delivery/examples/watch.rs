//! Plays a proxy that applies everything, and tells on standard error what it is told.
//!
//! `cargo run -p pipy-delivery --example watch -- HOST:PORT SERVER-NAME CA-FILE TOKEN-FILE NAMESPACE/POD/UID`
//!
//! Refuses configurations that contain the word `refuse`. Ends when standard input does.

use std::io::{Error, Read, Result, stdin};

use pipy_delivery::{Ack, Client, Event, Pod, Settings};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [control_plane, server_name, ca_file, token_file, pod] = &arguments[..] else {
        return Err(Error::other("needs HOST:PORT SERVER-NAME CA-FILE TOKEN-FILE NAMESPACE/POD/UID"));
    };
    let mut pod = pod.split('/').map(str::to_owned);
    let (Some(namespace), Some(name), Some(uid)) = (pod.next(), pod.next(), pod.next()) else {
        return Err(Error::other("the Pod must be NAMESPACE/POD/UID"));
    };
    let settings =
        Settings::new(control_plane, server_name, ca_file, token_file, Pod { namespace, name, uid });
    let client = Client::spawn(settings, |event| {
        eprintln!("{event:?}");
        match event {
            Event::Config { bytes, .. } if bytes.windows(6).any(|word| word == b"refuse") => {
                Ack::Refused("it says so".to_owned())
            }
            _ => Ack::Applied,
        }
    })?;
    // Nothing is expected but the end.
    stdin().read_to_end(&mut Vec::new())?;
    eprintln!("ended: {}", client.stop());
    Ok(())
}
