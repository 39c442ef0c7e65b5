//! What scripts are told of a session of TLS, and asked: `onState`, `handshake`, `verify`.
//!
//! INVARIANT: `verify` may refuse a peer, it cannot excuse one: it is asked once the chain has been verified where `trusted` says
//! by whom, before anything that the peer has said reaches the script.

use std::cell::Cell;
use std::rc::Rc;

use pipy_pipeline::{Cx, Event, Filter};
use rquickjs::function::Constructor;
use rquickjs::{Coerced, Ctx, Exception, Object, Result, Value};

use super::Tls;
use crate::events::error_name;
use crate::layout::Scope;
use crate::log;

/// One side of a connection.
pub(super) struct Session {
    def: Rc<Tls>,
    hostname: Option<String>,
    over: Cell<bool>,
    refused: Cell<bool>,
    scope: Scope,
}

/// What the other side has shown and agreed to.
#[derive(Default, Clone)]
pub(super) struct Shown {
    pub(super) protocol: Option<String>,
    /// Its certificate, as PEM.
    pub(super) certificate: Option<String>,
}

impl Shown {
    /// What is known when the handshake is complete; the certificate is DER.
    pub(super) fn new(protocol: Option<&str>, certificate: Option<&[u8]>) -> Self {
        let pem = certificate.map(|der| {
            let text = crate::data::base64(der);
            format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
        });
        Shown { protocol: protocol.map(str::to_owned), certificate: pem }
    }

    fn certificate<'js>(&self, ctx: &Ctx<'js>) -> Result<Value<'js>> {
        let Some(pem) = &self.certificate else { return Ok(Value::new_undefined(ctx.clone())) };
        let class: Constructor<'_> = ctx.globals().get::<_, Object<'_>>("crypto")?.get("Certificate")?;
        class.construct((pem.as_str(),))
    }
}

impl Session {
    pub(super) fn new(def: &Rc<Tls>, scope: &Scope, hostname: Option<String>) -> Rc<Self> {
        let (over, refused) = (Cell::new(false), Cell::new(false));
        Rc::new(Session { def: Rc::clone(def), hostname, over, refused, scope: scope.clone() })
    }

    /// Whether the script has refused the other side.
    pub(super) fn refused(&self) -> bool {
        self.refused.get()
    }

    /// Tells the script in which state it is: `connecting`, `handshake`, `connected`, `closed`.
    pub(super) fn is(&self, state: &str, error: Option<String>, shown: &Shown) {
        let Some(on_state) = &self.def.on_state else { return };
        if self.over.replace(state == "closed") {
            return;
        }
        self.def.asker.ask(
            &self.scope,
            on_state,
            |ctx, _| {
                let session = Object::new(ctx.clone())?;
                session.set("state", state)?;
                session.set("error", error)?;
                session.set("protocol", shown.protocol.as_deref())?;
                session.set("hostname", self.hostname.as_deref())?;
                session.set("peer", shown.certificate(ctx)?)?;
                Ok(vec![session.into_value()])
            },
            |_, _, _| Ok(()),
        );
    }

    /// The handshake is complete: tells the script, and asks whether the other side is to be believed.
    pub(super) fn complete(&self, shown: &Shown) -> bool {
        if let Some(verify) = &self.def.verify {
            let believed = self.def.asker.ask(
                &self.scope,
                verify,
                |ctx, _| Ok(vec![Value::new_bool(ctx.clone(), true), shown.certificate(ctx)?]),
                |ctx, _, value| match value.is_promise() {
                    // WHY: any promise is truthy, also one of a refusal.
                    true => Err(Exception::throw_type(ctx, "verify answers with a promise, not at once")),
                    false => Ok(value.get::<Coerced<bool>>()?.0),
                },
            );
            if believed != Some(true) {
                self.refused.set(true);
                // WHY: the other side sees no more than a lost connection, and so does who wrote the script.
                let (label, name) = (&self.def.asker.label, self.def.asker.name);
                log::line("WRN", &format!("{label}: {name}: verify has refused the peer"));
                self.is("closed", Some("the peer was refused".into()), shown);
                return false;
            }
        }
        if let Some(handshake) = &self.def.on_handshake {
            self.def.asker.ask(
                &self.scope,
                handshake,
                |ctx, _| {
                    let agreed = Object::new(ctx.clone())?;
                    agreed.set("alpn", shown.protocol.as_deref())?;
                    Ok(vec![agreed.into_value()])
                },
                |_, _, _| Ok(()),
            );
        }
        self.is("connected", None, shown);
        true
    }
}

/// Stands behind a server: lets nothing through of a client that the script has refused.
pub(super) struct Gate(pub(super) Rc<Cell<bool>>);

impl Filter for Gate {
    fn name(&self) -> &'static str {
        "acceptTLS"
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        if !self.0.get() {
            cx.forward(event);
        }
    }
}

/// Stands before a client: tells when its pipeline has gone, and what has ended it.
pub(super) struct Farewell(pub(super) Rc<Session>);

impl Filter for Farewell {
    fn name(&self) -> &'static str {
        "connectTLS"
    }

    fn start(&mut self, _cx: &mut Cx<'_>) {
        self.0.is("connecting", None, &Shown::default());
    }

    fn output(&mut self, cx: &mut Cx<'_>, event: Event) {
        if let Event::Close(reason) = &event
            && let Some(error) = error_name(*reason)
        {
            self.0.is("closed", Some(error.into()), &Shown::default());
        }
        cx.back(event);
    }

    fn closed(&mut self, _cx: &mut Cx<'_>) {
        self.0.is("closed", None, &Shown::default());
    }
}

/// Stands behind a client: tells when the server has begun to answer.
pub(super) struct Answered(pub(super) Option<Rc<Session>>);

impl Filter for Answered {
    fn name(&self) -> &'static str {
        "connectTLS"
    }

    fn output(&mut self, cx: &mut Cx<'_>, event: Event) {
        if matches!(event, Event::Data(_))
            && let Some(session) = self.0.take()
        {
            session.is("handshake", None, &Shown::default());
        }
        cx.back(event);
    }
}
