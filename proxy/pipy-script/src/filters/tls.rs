//! `acceptTLS` and `connectTLS`: TLS around a sub-pipeline, by the filters that the sidecar uses too.
//!
//! The server's certificate may depend on the name that the client asks for: then the ClientHello is read first. A client is
//! asked for a certificate, and must have one, where `trusted` says whose are believed. WHY without `trusted` a client believes
//! any server: scripts rely on it; with `trusted` the chain is verified, and the name too where `sni` says it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pipy_filters::{Handshake, HttpVersion, Peer, TlsClient, TlsServer, client_hello};
use pipy_pipeline::{CloseReason, Cx, Event, Filter, Slot};
use rquickjs::{IntoJs, Persistent, Result, Value};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};

use super::ask::Asker;
use super::connect::duration;
use super::sub::{Bridge, Nested};
use super::tls_config::{self, Material};
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
    /// Called when a server's session changes its state.
    on_state: Option<Kept>,
    handshake: Duration,
    target: Target,
    asker: Asker,
    servers: RefCell<HashMap<Material, Arc<ServerConfig>>>,
    clients: RefCell<HashMap<ClientKey, Arc<ClientConfig>>>,
}

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
        on_state: None,
        handshake: HANDSHAKE,
        target: reading.needed()?,
        asker: Asker { name: reading.name, label: reading.label.clone() },
        servers: RefCell::default(),
        clients: RefCell::default(),
    };
    if let Some(options) = reading.options(0) {
        let kept = |name: &str| -> Result<Option<Kept>> {
            let value: Value<'_> = options.get(name)?;
            let some = !value.is_undefined() && !value.is_null();
            Ok(some.then(|| Persistent::save(reading.ctx, value)))
        };
        tls.certificate = kept("certificate")?;
        tls.sni = kept("sni")?;
        tls.on_state = kept("onState")?;
        for certificate in options.get::<_, Option<Vec<Value<'_>>>>("trusted")?.unwrap_or_default() {
            tls.trusted.push(pem(&certificate)?);
        }
        let alpn: Value<'_> = options.get("alpn")?;
        tls.alpn = match (alpn.as_string(), alpn.as_array()) {
            (Some(one), _) => vec![one.to_string()?],
            (_, Some(list)) => list.iter::<String>().collect::<Result<_>>()?,
            _ => Vec::new(),
        };
        if let Some(time) = duration(&options.get("handshakeTimeout")?) {
            tls.handshake = time;
        }
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
            true => vec![Box::new(Server {
                def: Rc::clone(&self.0),
                state: State::Hello(BytesMut::new()),
                session: None,
                scope: scope.clone(),
            })],
            false => match client(&self.0, scope) {
                Some(filter) => vec![filter],
                None => vec![Box::new(Refused)],
            },
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

fn client(def: &Rc<Tls>, scope: &Scope) -> Option<Box<dyn Filter>> {
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
        None => match tls_config::client(material.as_ref(), &def.trusted, &def.alpn, name.is_some()) {
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
        },
    };
    let name = name.unwrap_or_else(|| "localhost".into());
    let made = ServerName::try_from(name.clone())
        .map_err(|_| format!("{name:?} is no server name"))
        .and_then(|name| TlsClient::new(config, name, def.handshake).map_err(|error| error.to_string()));
    match made {
        Ok(filter) => Some(Box::new(filter)),
        Err(error) => {
            def.asker.complain(&error);
            None
        }
    }
}

/// `acceptTLS` until it knows whom the client wants.
struct Server {
    def: Rc<Tls>,
    state: State,
    session: Option<Rc<Session>>,
    scope: Scope,
}

/// What `onState` is told about.
struct Session {
    def: Rc<Tls>,
    hostname: Option<String>,
    peer: Rc<Peer>,
    over: Cell<bool>,
    scope: Scope,
}

impl Session {
    /// Calls the script back: `connecting`, `handshake`, `connected`, `closed`.
    fn is(&self, state: &str, error: Option<String>) {
        let Some(on_state) = &self.def.on_state else { return };
        if self.over.replace(state == "closed") {
            return;
        }
        let protocol = self.peer.agreed().map(|version| match version {
            HttpVersion::Http2 => "h2",
            HttpVersion::Http1 => "http/1.1",
        });
        let pem = self.peer.certificate().map(|der| {
            let text = crate::data::base64(der);
            format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
        });
        self.def.asker.ask(
            &self.scope,
            on_state,
            |ctx, _| {
                let session = rquickjs::Object::new(ctx.clone())?;
                session.set("state", state)?;
                session.set("error", error)?;
                session.set("protocol", protocol)?;
                session.set("hostname", self.hostname.as_deref())?;
                if let Some(pem) = pem {
                    let crypto: rquickjs::Object<'_> = ctx.globals().get("crypto")?;
                    let class: rquickjs::function::Constructor<'_> = crypto.get("Certificate")?;
                    session.set("peer", class.construct::<_, Value<'_>>((pem,))?)?;
                }
                Ok(vec![session.into_value()])
            },
            |_, _, _| Ok(()),
        );
    }
}

enum State {
    /// What the client has said so far.
    Hello(BytesMut),
    Open(Box<TlsServer>),
    Over,
}

impl Server {
    fn begin(&mut self, cx: &mut Cx<'_>) {
        let State::Hello(said) = &self.state else { return };
        let name = match client_hello(said) {
            Ok(None) => return,
            Ok(Some(hello)) => hello.server_name,
            // The filter behind says what is wrong with it.
            Err(_) => None,
        };
        let said = said.clone().freeze();
        self.state = State::Over;
        let Some(config) = self.config(name.clone()) else {
            cx.back(Event::Close(CloseReason::Reset));
            return cx.forward(Event::Close(CloseReason::TlsFailed));
        };
        let label = self.def.asker.label.clone();
        let peer = Rc::new(Peer::default());
        let session = self.def.on_state.is_some().then(|| {
            peer.want_certificate();
            let (def, peer, scope) = (Rc::clone(&self.def), Rc::clone(&peer), self.scope.clone());
            Rc::new(Session { def, hostname: name, peer, over: Cell::new(false), scope })
        });
        self.session = session.clone();
        let ended = move |how: Handshake| {
            // The connection's own end tells of it.
            if how == Handshake::Broken {
                return;
            }
            let failed = how != Handshake::Complete;
            if failed {
                log::line("WRN", &format!("{label}: acceptTLS: the handshake failed: {how:?}"));
            }
            if let Some(session) = &session {
                let state = if failed { "closed" } else { "connected" };
                session.is(state, failed.then(|| format!("the handshake failed: {how:?}")));
            }
        };
        if let Some(session) = &self.session {
            session.is("handshake", None);
        }
        match TlsServer::new(config, peer, self.def.handshake, Box::new(ended)) {
            Ok(mut server) => {
                server.start(cx);
                server.input(cx, Event::Data(said));
                self.state = State::Open(Box::new(server));
            }
            Err(error) => {
                self.def.asker.complain(&error);
                cx.back(Event::Close(CloseReason::Reset));
            }
        }
    }

    fn config(&self, name: Option<String>) -> Option<Arc<ServerConfig>> {
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
        if let Some(config) = def.servers.borrow().get(&material) {
            return Some(Arc::clone(config));
        }
        match tls_config::server(&material, &def.trusted, &def.alpn) {
            Ok(config) => {
                let mut servers = def.servers.borrow_mut();
                if servers.len() >= KEPT_MAX {
                    servers.clear();
                }
                servers.insert(material, Arc::clone(&config));
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

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        match (&mut self.state, event) {
            (State::Open(server), event) => server.input(cx, event),
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
        if let State::Open(server) = &mut self.state {
            server.timer(cx, token);
        }
    }

    fn drain(&mut self, cx: &mut Cx<'_>) {
        if let State::Open(server) = &mut self.state {
            server.drain(cx);
        }
    }

    fn closed(&mut self, cx: &mut Cx<'_>) {
        if let State::Open(server) = &mut self.state {
            server.closed(cx);
        }
        if let Some(session) = self.session.take() {
            session.is("closed", None);
        }
    }
}
