//! What a script listens on besides what it says when it is loaded: `pipy.listen()` at any time, and lists of ports that change.
//!
//! Each worker binds such an address for itself; all of them run the same script. INVARIANT: an address has one key, whether the
//! main thread has bound it or the script; what the script has closed is bound here when a later script wants it again.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;

use rquickjs::{Array, Coerced, Function, Object};

use super::{App, Listener};
use crate::filters::listening::{Listen, Places, Transport};
use crate::layout::{Layout, Script};
use crate::log;

/// What is open, and what is not any more.
#[derive(Default)]
pub(super) struct Open {
    /// The key of each address: what it takes, and the address as the script says it.
    keys: BTreeMap<(Transport, String), u32>,
    /// Addresses of the main thread's that the script has closed.
    closed: Vec<u32>,
}

/// Keys from here on are of addresses that the main thread does not know of.
const OWN: u32 = 512;

/// What a script wants: an address and the pipeline for it, or none any more.
struct Wish {
    listen: Listen,
    address: String,
    layout: Option<Rc<Layout>>,
}

/// `8080`, `127.0.0.1:8080`, `[::1]:8080` or `:::8080`; `None` for port 0, which stands for no listener.
///
/// # Errors
/// When it is none of these.
pub fn listen_address(text: &str) -> Result<Option<SocketAddr>, String> {
    let bad = || format!("{text:?} is no address to listen on");
    let (host, port) = text.rsplit_once(':').unwrap_or(("0.0.0.0", text));
    let port: u16 = port.parse().map_err(|_| bad())?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let host = match bare {
        "" => "0.0.0.0",
        "localhost" => "127.0.0.1",
        other => other,
    };
    let ip = host.parse().map_err(|_| bad())?;
    Ok((port != 0).then_some(SocketAddr::new(ip, port)))
}

impl App {
    /// Takes the addresses of a new script, which the main thread has bound as far as they are new. Gives what is to be opened
    /// and closed besides.
    pub(super) fn take_addresses(
        &mut self,
        addresses: Vec<(u32, Transport, String)>,
        given: &mut Vec<(u32, Option<TcpListener>)>,
    ) {
        // What the script before has opened for itself is closed with it.
        for ((transport, _), key) in std::mem::take(&mut self.open.keys) {
            if key >= OWN {
                self.let_go(transport, key, given);
            }
        }
        let closed = std::mem::take(&mut self.open.closed);
        for (key, transport, address) in addresses {
            let missing = closed.contains(&key) && !given.iter().any(|(other, _)| *other == key);
            if missing && let Err(error) = self.bind(transport, key, &address, given) {
                log::line("ERR", &error);
            }
            self.open.keys.insert((transport, address), key);
        }
    }

    /// Opens and closes what a script has asked for since the last time.
    pub(super) fn change_listeners(&mut self, script: &Rc<Script>) -> Vec<(u32, Option<TcpListener>)> {
        let mut changes = Vec::new();
        let wishes = match wishes(script) {
            Ok(wishes) => wishes,
            Err(error) => {
                log::line("ERR", &format!("pipy.listen(): {error}"));
                return changes;
            }
        };
        for Wish { listen, address, layout } in wishes {
            let transport = listen.transport;
            let places = Places::new(listen, &address);
            let place = (transport, address.clone());
            let known = self.open.keys.get(&place).copied();
            match (layout, known) {
                (Some(layout), Some(key)) => {
                    self.listeners.insert(key, Rc::new(Listener { layout, places }));
                }
                (Some(layout), None) => {
                    let own = self.open.keys.values().filter(|key| **key >= OWN).max();
                    let key = own.map_or(OWN, |last| last + 1);
                    match self.bind(transport, key, &address, &mut changes) {
                        Ok(true) => {
                            self.open.keys.insert(place, key);
                            self.listeners.insert(key, Rc::new(Listener { layout, places }));
                        }
                        Ok(false) => {}
                        Err(error) => log::line("ERR", &error),
                    }
                }
                (None, Some(key)) => {
                    self.open.keys.remove(&place);
                    self.let_go(transport, key, &mut changes);
                    if key < OWN {
                        self.open.closed.push(key);
                    }
                }
                (None, None) => {}
            }
        }
        changes
    }

    /// Closes an address.
    fn let_go(&mut self, transport: Transport, key: u32, changes: &mut Vec<(u32, Option<TcpListener>)>) {
        self.listeners.remove(&key);
        match transport.is_datagrams() {
            true => self.datagrams.push((key, None)),
            false => changes.push((key, None)),
        }
    }

    /// Opens an address; false for port 0.
    fn bind(
        &mut self,
        transport: Transport,
        key: u32,
        address: &str,
        changes: &mut Vec<(u32, Option<TcpListener>)>,
    ) -> Result<bool, String> {
        let Some(place) = listen_address(address).map_err(|error| format!("pipy.listen(): {error}"))? else {
            return Ok(false);
        };
        let shared = crate::objects::process::threads() > 1;
        let bound = match transport {
            Transport::Udp => pipy_worker::bind_datagrams_once(place, shared)
                .map(|socket| self.datagrams.push((key, Some(socket)))),
            Transport::CapturedUdp => pipy_worker::bind_captured_once(place, shared)
                .map(|socket| self.datagrams.push((key, Some(socket)))),
            Transport::Tcp => {
                pipy_worker::bind_once(place, shared).map(|listener| changes.push((key, Some(listener))))
            }
        };
        let said = |error| format!("unable to listen on {place}: {error}");
        bound.map(|()| true).map_err(said)
    }
}

fn wishes(script: &Rc<Script>) -> Result<Vec<Wish>, crate::ScriptError> {
    script.engine.with(|ctx| {
        let state = script.engine.state_object(ctx)?;
        if state.get::<_, Array<'_>>("ports")?.is_empty() {
            return Ok(Vec::new());
        }
        let taken: Array<'_> = state.get::<_, Function<'_>>("takePorts")?.call(())?;
        let mut wishes = Vec::new();
        for wish in taken.iter::<Object<'_>>() {
            let wish = wish?;
            let address = wish.get::<_, Coerced<String>>("where")?.0;
            let listen = Listen::read(ctx, &format!("listen {address}"), wish.get("options")?)?;
            let layout = match wish.get::<_, Option<usize>>("layout")? {
                Some(id) => script.layout(ctx, id)?,
                None => None,
            };
            wishes.push(Wish { listen, address, layout });
        }
        Ok(wishes)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_what_people_write() {
        let said = |text: &str| listen_address(text).map(|found| found.map(|address| address.to_string()));
        assert_eq!(said("8080"), Ok(Some("0.0.0.0:8080".into())));
        assert_eq!(said("127.0.0.1:80"), Ok(Some("127.0.0.1:80".into())));
        assert_eq!(said("[::1]:80"), Ok(Some("[::1]:80".into())));
        assert_eq!(said(":::80"), Ok(Some("[::]:80".into())));
        assert_eq!(said("0"), Ok(None));
        assert!(said("eighty").is_err());
    }
}
