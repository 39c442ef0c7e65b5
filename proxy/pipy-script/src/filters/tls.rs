//! `acceptTLS` and `connectTLS`: TLS around a sub-pipeline, by the filters that the sidecar uses too.
//!
//! The server's certificate may depend on the name that the client asks for: then the ClientHello is read first. A client is
//! asked for a certificate, and must have one, where `trusted` says whose are believed. WHY without `trusted` a client believes
//! any server: scripts rely on it; with `trusted` the chain is verified, and the name too where `sni` says it.

mod session;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pipy_filters::{Handshake, Peer, TlsClient, TlsServer, client_hello};
use pipy_pipeline::{CloseReason, Cx, Event, Filter, Slot};
use rquickjs::{IntoJs, Result, Value};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};

use self::session::{Answered, Farewell, Gate, Session, Shown};
use super::ask::Asker;
use super::sub::{Bridge, Nested};
use super::tls_config::{self, Material, Versions};
use crate::engine::Kept;
use crate::layout::{FilterDef, Reading, Scope, Target};
use crate::log;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(30);

/// LIMIT: settings that are kept ready, one for each certificate that a script has answered with.
const KEPT_MAX: usize = 1024;

struct Tls {
    accept: bool,
    certificate: Option<Kept>,
    trusted: Vec<String>,
    alpn: Vec<String>,
    sni: Option<Kept>,
    /// The protocol is chosen by a function.
    pick: Option<Kept>,
    /// Called when a session changes its state, and when its handshake is complete.
    on_state: Option<Kept>,
    on_handshake: Option<Kept>,
    /// Asked whether the other side is to be believed.
    verify: Option<Kept>,
    versions: Versions,
    handshake: Duration,
    target: Target,
    asker: Asker,
    servers: RefCell<HashMap<ServerKey, Arc<ServerConfig>>>,
    clients: RefCell<HashMap<ClientKey, Arc<ClientConfig>>>,
}

/// The certificate that a server shows, and the protocols that it offers.
type ServerKey = (Material, Vec<String>);

/// The client's own certificate, and whether it says which name it wants.
type ClientKey = (Option<Material>, bool);

struct TlsDef(Rc<Tls>);

pub(super) fn make(reading: &Reading<'_, '_>) -> Result<Rc<dyn FilterDef>> {
    let mut tls = Tls {
        accept: reading.name == "acceptTLS",
        certificate: None,
        trusted: Vec::new(),
        alpn: Vec::new(),
        sni: None,
        pick: None,
        on_state: None,
        on_handshake: None,
        verify: None,
        versions: tls_config::ALL,
        handshake: HANDSHAKE,
        target: reading.needed()?,
        asker: Asker { name: reading.name, label: reading.label.clone() },
        servers: RefCell::default(),
        clients: RefCell::default(),
    };
    if let Some(options) = reading.settings(0)? {
        tls.certificate = options.kept("certificate")?;
        if !tls.accept {
            tls.sni = options.kept("sni")?;
        }
        tls.on_state = options.callback("onState")?;
        tls.on_handshake = options.callback("handshake")?;
        tls.verify = options.callback("verify")?;
        if tls.verify.is_none() {
            tls.verify = options.callback("onVerify")?;
        }
        if let Some(trusted) = options.value("trusted")? {
            let list = trusted.as_array();
            let list = list.ok_or_else(|| options.wrong("trusted", "expects a list of certificates"))?;
            for certificate in list.iter::<Value<'_>>() {
                tls.trusted.push(pem(&certificate?)?);
            }
        }
        if let Some(alpn) = options.value("alpn")? {
            match (alpn.as_string(), alpn.as_array()) {
                (Some(one), _) => tls.alpn = vec![one.to_string()?],
                (_, Some(list)) => tls.alpn = list.iter::<String>().collect::<Result<_>>()?,
                _ if tls.accept && alpn.is_function() => tls.pick = options.kept("alpn")?,
                _ => return Err(options.wrong("alpn", "expects the name of a protocol, or a list of names")),
            }
        }
        if let Some(time) = options.duration("handshakeTimeout")? {
            tls.handshake = time;
        }
        let version = |name: &str| -> Result<Option<&'static str>> {
            options.one_of(name, &["TLS1", "TLS1.1", "TLS1.2", "TLS1.3"])
        };
        let (least, most) = (version("minVersion")?, version("maxVersion")?);
        tls.versions = tls_config::versions(least, most)
            .ok_or_else(|| options.wrong("maxVersion", "leaves none of TLS1.2 and TLS1.3"))?;
    }
    if tls.accept && tls.certificate.is_none() {
        return Err(
            reading.refuse("needs the option certificate: { cert, key }, or a function that gives one")
        );
    }
    Ok(Rc::new(TlsDef(Rc::new(tls))))
}

/// The PEM of a certificate or key: an object of `crypto`, `Data`, or text.
fn pem(value: &Value<'_>) -> Result<String> {
    let bytes = match value.as_object().map(|object| object.get::<_, Value<'_>>("toPEM")) {
        Some(Ok(to_pem)) if to_pem.is_function() => {
            let function = to_pem.into_function();
            let made: Option<Value<'_>> =
                function.map(|to_pem| to_pem.call((rquickjs::function::This(value.clone()),))).transpose()?;
            made.map_or(Ok(Bytes::new()), |made| crate::data::Data::body_of(&made))?
        }
        _ => crate::data::Data::body_of(value)?,
    };
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// `{ cert, key }` as PEM.
fn material(value: &Value<'_>) -> Result<Option<Material>> {
    let Some(object) = value.as_object().filter(|object| !object.is_function()) else { return Ok(None) };
    let part = |name: &str| -> Result<String> { pem(&object.get::<_, Value<'_>>(name)?) };
    let (chain, key) = (part("cert")?, part("key")?);
    Ok((!chain.is_empty()).then_some(Material { chain, key }))
}

impl FilterDef for TlsDef {
    fn filter(&self, scope: &Scope) -> Box<dyn Filter> {
        Box::new(Nested::around(self.0.asker.name, self.row(scope)))
    }

    fn native(&self, scope: &Scope) -> Option<Vec<Box<dyn Filter>>> {
        Some(self.row(scope))
    }
}

impl TlsDef {
    fn row(&self, scope: &Scope) -> Vec<Box<dyn Filter>> {
        let mut row: Vec<Box<dyn Filter>> = match self.0.accept {
            true => {
                let refused: Rc<Cell<bool>> = Rc::default();
                let mut row: Vec<Box<dyn Filter>> = vec![Box::new(Server {
                    def: Rc::clone(&self.0),
                    state: State::Hello(BytesMut::new()),
                    session: None,
                    refused: Rc::clone(&refused),
                    scope: scope.clone(),
                })];
                if self.0.verify.is_some() {
                    row.push(Box::new(Gate(refused)));
                }
                row
            }
            false => client(&self.0, scope).unwrap_or_else(|| vec![Box::new(Refused)]),
        };
        let Some(layout) = self.0.target.layout() else { return row };
        match layout.native(scope) {
            Some(native) => row.extend(native),
            None => row.push(Box::new(Bridge::new(layout.pipeline(scope, Vec::new())))),
        }
        row
    }
}

/// Stands where no TLS can be begun.
struct Refused;

impl Filter for Refused {
    fn name(&self) -> &'static str {
        "refused"
    }

    fn input(&mut self, cx: &mut Cx<'_>, _event: Event) {
        cx.back(Event::Close(CloseReason::Script));
    }
}

fn client(def: &Rc<Tls>, scope: &Scope) -> Option<Vec<Box<dyn Filter>>> {
    let text = |_: &rquickjs::Ctx<'_>, _: &crate::events::Makers<'_>, value: Value<'_>| {
        let some = !value.is_undefined() && !value.is_null();
        if some { Ok(Some(value.get::<rquickjs::Coerced<String>>()?.0)) } else { Ok(None) }
    };
    let name = match &def.sni {
        Some(sni) => def.asker.ask(scope, sni, |_, _| Ok(Vec::new()), text)?,
        None => None,
    };
    let material = match &def.certificate {
        Some(certificate) => {
            def.asker.ask(scope, certificate, |_, _| Ok(Vec::new()), |_, _, value| material(&value))?
        }
        None => None,
    };
    let key = (material.clone(), name.is_some());
    let known = def.clients.borrow().get(&key).cloned();
    let config = match known {
        Some(config) => config,
        None => {
            match tls_config::client(material.as_ref(), &def.trusted, &def.alpn, def.versions, name.is_some())
            {
                Ok(config) => {
                    let mut clients = def.clients.borrow_mut();
                    if clients.len() >= KEPT_MAX {
                        clients.clear();
                    }
                    clients.insert(key, Arc::clone(&config));
                    config
                }
                Err(error) => {
                    def.asker.complain(&error);
                    return None;
                }
            }
        }
    };
    let session = Session::new(def, scope, name.clone());
    let name = name.unwrap_or_else(|| "localhost".into());
    let made = ServerName::try_from(name.clone())
        .map_err(|_| format!("{name:?} is no server name"))
        .and_then(|name| TlsClient::new(config, name, def.handshake).map_err(|error| error.to_string()));
    match made {
        Ok(filter) if def.is_watched() => {
            let told = Rc::clone(&session);
            let filter = filter.asking(Box::new(move |agreed, certificate| {
                let agreed = agreed.and_then(|agreed| std::str::from_utf8(agreed).ok());
                told.complete(&Shown::new(agreed, certificate))
            }));
            let answered = Answered(Some(Rc::clone(&session)));
            Some(vec![Box::new(Farewell(session)), Box::new(filter), Box::new(answered)])
        }
        Ok(filter) => Some(vec![Box::new(filter)]),
        Err(error) => {
            def.asker.complain(&error);
            None
        }
    }
}

impl Tls {
    /// Whether the script wants to know of sessions.
    fn is_watched(&self) -> bool {
        self.on_state.is_some() || self.on_handshake.is_some() || self.verify.is_some()
    }
}

/// `acceptTLS` until it knows whom the client wants.
struct Server {
    def: Rc<Tls>,
    state: State,
    session: Option<Rc<Session>>,
    refused: Rc<Cell<bool>>,
    scope: Scope,
}

/// Until the client has said whom it wants. Apart from the timers of the filter behind, whose are small numbers.
const TIMER_HELLO: u32 = u32::MAX;

enum State {
    /// What the client has said so far.
    Hello(BytesMut),
    Open(Box<TlsServer>),
    Over,
}

impl Server {
    fn begin(&mut self, cx: &mut Cx<'_>) {
        let State::Hello(said) = &self.state else { return };
        let (name, offered) = match client_hello(said) {
            Ok(None) => return,
            Ok(Some(hello)) => {
                let text = |name: &Vec<u8>| String::from_utf8_lossy(name).into_owned();
                (hello.server_name, hello.alpn.iter().map(text).collect())
            }
            // The filter behind says what is wrong with it.
            Err(_) => (None, Vec::new()),
        };
        let said = said.clone().freeze();
        self.state = State::Over;
        let alpn = self.alpn(&offered);
        let config = alpn.clone().and_then(|alpn| self.config(name.clone(), alpn));
        let Some(config) = config else {
            cx.back(Event::Close(CloseReason::Reset));
            return cx.forward(Event::Close(CloseReason::TlsFailed));
        };
        let label = self.def.asker.label.clone();
        let peer = Rc::new(Peer::default());
        let session = self.def.is_watched().then(|| {
            peer.want_certificate();
            Session::new(&self.def, &self.scope, name)
        });
        self.session = session.clone();
        // The server's order decides, as it does in the handshake.
        let agreed = alpn.unwrap_or_default().into_iter().find(|name| offered.contains(name));
        let (refused, shown) = (Rc::clone(&self.refused), Rc::clone(&peer));
        let ended = move |how: Handshake| {
            // The connection's own end tells of it.
            if how == Handshake::Broken {
                return;
            }
            let failed = how != Handshake::Complete;
            if failed {
                log::line("WRN", &format!("{label}: acceptTLS: the handshake failed: {how:?}"));
            }
            let Some(session) = &session else { return };
            let shown = Shown::new(agreed.as_deref(), shown.certificate());
            if failed {
                session.is("closed", Some(format!("the handshake failed: {how:?}")), &shown);
            } else {
                refused.set(!session.complete(&shown));
            }
        };
        if let Some(session) = &self.session {
            session.is("connecting", None, &Shown::default());
            session.is("handshake", None, &Shown::default());
        }
        match TlsServer::new(config, peer, self.def.handshake, Box::new(ended)) {
            Ok(mut server) => {
                server.start(cx);
                server.input(cx, Event::Data(said));
                self.state = State::Open(Box::new(server));
                self.turn_away(cx);
            }
            Err(error) => {
                self.def.asker.complain(&error);
                cx.back(Event::Close(CloseReason::Reset));
            }
        }
    }

    /// Sends a client away that has not said whom it wants.
    fn leave(&mut self, cx: &mut Cx<'_>) {
        self.state = State::Over;
        cx.back(Event::Close(CloseReason::IdleTimeout));
    }

    /// Ends the connection of a client that the script has refused.
    fn turn_away(&mut self, cx: &mut Cx<'_>) {
        if self.session.as_ref().is_some_and(|session| session.refused()) {
            self.state = State::Over;
            cx.back(Event::Close(CloseReason::Reset));
        }
    }

    /// The protocols to agree on; `None` where the script has failed.
    fn alpn(&self, offered: &[String]) -> Option<Vec<String>> {
        let Some(pick) = &self.def.pick else { return Some(self.def.alpn.clone()) };
        let index = self.def.asker.ask(
            &self.scope,
            pick,
            |ctx, _| Ok(vec![offered.to_vec().into_js(ctx)?]),
            |_, _, value| Ok(value.as_number().unwrap_or(-1.0)),
        )?;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // it is looked up
        let picked = if index >= 0.0 { offered.get(index as usize) } else { None };
        Some(picked.into_iter().cloned().collect())
    }

    fn config(&self, name: Option<String>, alpn: Vec<String>) -> Option<Arc<ServerConfig>> {
        let def = &self.def;
        let certificate = def.certificate.as_ref()?;
        let material = def.asker.ask(
            &self.scope,
            certificate,
            |ctx, _| Ok(vec![name.into_js(ctx)?]),
            |ctx, _, value| match material(&value)? {
                Some(material) => Ok(material),
                None => Err(rquickjs::Exception::throw_type(ctx, "the certificate is no { cert, key }")),
            },
        )?;
        let key = (material, alpn);
        if let Some(config) = def.servers.borrow().get(&key) {
            return Some(Arc::clone(config));
        }
        match tls_config::server(&key.0, &def.trusted, &key.1, def.versions) {
            Ok(config) => {
                let mut servers = def.servers.borrow_mut();
                if servers.len() >= KEPT_MAX {
                    servers.clear();
                }
                servers.insert(key, Arc::clone(&config));
                Some(config)
            }
            Err(error) => {
                def.asker.complain(&error);
                None
            }
        }
    }
}

impl Filter for Server {
    fn name(&self) -> &'static str {
        "acceptTLS"
    }

    fn start(&mut self, cx: &mut Cx<'_>) {
        if !self.def.handshake.is_zero() {
            cx.timer(self.def.handshake, TIMER_HELLO);
        }
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        match (&mut self.state, event) {
            (State::Open(server), event) => {
                server.input(cx, event);
                self.turn_away(cx);
            }
            (State::Hello(said), Event::Data(data)) => {
                said.extend_from_slice(&data);
                self.begin(cx);
            }
            (State::Hello(_), Event::Close(reason)) => {
                self.state = State::Over;
                cx.back(Event::Close(reason));
            }
            (_, Event::Pause | Event::Resume) | (State::Over | State::Hello(_), _) => {}
        }
    }

    fn output(&mut self, cx: &mut Cx<'_>, event: Event) {
        match &mut self.state {
            State::Open(server) => server.output(cx, event),
            // There is no one yet to encrypt for.
            State::Hello(_) | State::Over => {}
        }
    }

    fn sub(&mut self, cx: &mut Cx<'_>, slot: Slot, event: Event) {
        if let State::Open(server) = &mut self.state {
            server.sub(cx, slot, event);
        }
    }

    fn flush(&mut self, cx: &mut Cx<'_>) {
        if let State::Open(server) = &mut self.state {
            server.flush(cx);
        }
    }

    fn timer(&mut self, cx: &mut Cx<'_>, token: u32) {
        match &mut self.state {
            State::Hello(_) if token == TIMER_HELLO => self.leave(cx),
            State::Open(server) if token != TIMER_HELLO => server.timer(cx, token),
            _ => {}
        }
    }

    fn drain(&mut self, cx: &mut Cx<'_>) {
        match &mut self.state {
            State::Hello(said) if said.is_empty() => self.leave(cx),
            State::Hello(_) | State::Over => {}
            State::Open(server) => server.drain(cx),
        }
    }

    fn closed(&mut self, cx: &mut Cx<'_>) {
        if let State::Open(server) = &mut self.state {
            server.closed(cx);
        }
        if let Some(session) = self.session.take() {
            session.is("closed", None, &Shown::default());
        }
    }
}
