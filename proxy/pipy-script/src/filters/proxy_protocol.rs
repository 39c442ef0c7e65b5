//! `acceptProxyProtocol` and `connectProxyProtocol`: the PROXY header, versions 1 and 2, before the bytes of a connection.
//!
//! The callback is told what the header says, and whether the connection may go on. INVARIANT: bytes that do not begin with a
//! header reach nobody.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use pipy_filters::proxy_protocol::{Addresses, Header, Version, decode};
use pipy_pipeline::{CloseReason, Cx, Event, Filter, PipelineId, Slot};
use rquickjs::{Coerced, Ctx, Object, Result, Value};

use super::ask::{Asker, failed};
use super::sub::{ONLY, came_out};
use super::values::is_close;
use crate::engine::Kept;
use crate::layout::{FilterDef, Reading, Scope, Target};

#[derive(Clone)]
struct Proxied {
    what: Option<Kept>,
    target: Target,
    asker: Asker,
}

pub(super) fn make(reading: &Reading<'_, '_>) -> Result<Rc<dyn FilterDef>> {
    let asker = Asker { name: reading.name, label: reading.label.clone() };
    let what = reading.kept(0);
    if reading.name == "connectProxyProtocol" && what.is_none() {
        return Err(reading.refuse("expects what the header says, or a function that returns it"));
    }
    Ok(Rc::new(Proxied { what, target: reading.needed()?, asker }))
}

impl FilterDef for Proxied {
    fn filter(&self, scope: &Scope) -> Box<dyn Filter> {
        let (def, scope) = (self.clone(), scope.clone());
        if self.asker.name == "acceptProxyProtocol" {
            Box::new(Accept { def, scope, held: BytesMut::new(), version: 0, sub: None, over: false })
        } else {
            Box::new(Connect { def, scope, sub: None, over: false })
        }
    }
}

struct Accept {
    def: Proxied,
    scope: Scope,
    held: BytesMut,
    version: u8,
    sub: Option<PipelineId>,
    over: bool,
}

impl Accept {
    fn end(&mut self, cx: &mut Cx<'_>, reason: CloseReason) {
        self.over = true;
        self.held.clear();
        cx.forward(Event::Close(reason));
    }

    fn read(&mut self, cx: &mut Cx<'_>) {
        self.version = if self.held.first() == Some(&b'P') { 1 } else { 2 };
        match decode(&self.held) {
            Ok(None) => {}
            Ok(Some((header, length))) => {
                let rest = self.held.split_off(length).freeze();
                self.begin(cx, &header, rest);
            }
            Err(error) => {
                self.def.asker.complain(&error);
                self.end(cx, CloseReason::Protocol);
            }
        }
    }

    fn begin(&mut self, cx: &mut Cx<'_>, header: &Header, rest: Bytes) {
        if let Some(what) = self.def.what.clone() {
            let version = self.version;
            let agreed = self.def.asker.ask(
                &self.scope,
                &what,
                |ctx, _| Ok(vec![told(ctx, header, version)?]),
                |_, _, value| Ok(value.get::<Coerced<bool>>()?.0),
            );
            match agreed {
                Some(true) => {}
                Some(false) => return self.end(cx, CloseReason::Finished),
                None => {
                    self.over = true;
                    return cx.forward(failed());
                }
            }
        }
        let Some(layout) = self.def.target.layout() else { return };
        let sub = cx.open_turning(layout.pipeline(&self.scope, Vec::new()), ONLY);
        self.sub = Some(sub);
        // The first event opens what is behind, for a server may speak first.
        cx.send(sub, Event::Data(rest));
    }
}

/// What a header says, as an object.
fn told<'js>(ctx: &Ctx<'js>, header: &Header, version: u8) -> Result<Value<'js>> {
    let object = Object::new(ctx.clone())?;
    object.set("version", version)?;
    object.set("command", if header.local { "LOCAL" } else { "PROXY" })?;
    let protocol = match &header.addresses {
        Addresses::Ip { source, destination, datagram } => {
            object.set("sourceAddress", source.ip().to_string())?;
            object.set("sourcePort", source.port())?;
            object.set("targetAddress", destination.ip().to_string())?;
            object.set("targetPort", destination.port())?;
            match (source, datagram) {
                (SocketAddr::V4(_), false) => "TCP4",
                (SocketAddr::V6(_), false) => "TCP6",
                (SocketAddr::V4(_), true) => "UDP4",
                (SocketAddr::V6(_), true) => "UDP6",
            }
        }
        _ => "UNKNOWN",
    };
    object.set("protocol", protocol)?;
    Ok(object.into_value())
}

impl Filter for Accept {
    fn name(&self) -> &'static str {
        "acceptProxyProtocol"
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        if let Some(sub) = self.sub {
            return cx.send(sub, event);
        }
        match event {
            _ if self.over => {}
            Event::Data(data) => {
                self.held.extend_from_slice(&data);
                self.read(cx);
            }
            end if is_close(&end) => {
                if !self.held.is_empty() {
                    self.def.asker.complain(&"the stream ended within the PROXY header");
                }
                self.over = true;
                cx.forward(end);
            }
            _ => {}
        }
    }

    fn sub(&mut self, cx: &mut Cx<'_>, _slot: Slot, event: Event) {
        came_out(cx, event);
    }

    fn closed(&mut self, cx: &mut Cx<'_>) {
        if let Some(sub) = self.sub.take() {
            cx.close(sub);
        }
    }
}

struct Connect {
    def: Proxied,
    scope: Scope,
    sub: Option<PipelineId>,
    over: bool,
}

impl Connect {
    fn begin(&mut self, cx: &mut Cx<'_>) {
        let header = self.def.what.as_ref().and_then(|what| {
            self.def.asker.ask(&self.scope, what, |_, _| Ok(Vec::new()), |_, _, value| header(&value))
        });
        let (Some(header), Some(layout)) = (header, self.def.target.layout()) else {
            self.over = true;
            return cx.forward(failed());
        };
        let sub = cx.open_turning(layout.pipeline(&self.scope, Vec::new()), ONLY);
        self.sub = Some(sub);
        cx.send(sub, Event::Data(header));
    }
}

/// The header that an object describes. Without addresses the sender speaks for itself.
fn header(value: &Value<'_>) -> Result<Bytes> {
    let empty = Object::new(value.ctx().clone())?;
    let said = value.as_object().unwrap_or(&empty);
    let text = |name: &str| said.get::<_, Option<String>>(name);
    let address = |address: &str, port: &str| -> Result<Option<SocketAddr>> {
        let Some(ip) = text(address)? else { return Ok(None) };
        let ip: IpAddr = ip.parse().map_err(|_| {
            rquickjs::Exception::throw_type(value.ctx(), &format!("{address}: {ip:?} is no IP address"))
        })?;
        Ok(Some(SocketAddr::new(ip, said.get::<_, Option<u16>>(port)?.unwrap_or(0))))
    };
    let version = match said.get::<_, Option<Coerced<i32>>>("version")? {
        Some(version) if version.0 == 1 => Version::V1,
        _ => Version::V2,
    };
    let unset = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let source = address("sourceAddress", "sourcePort")?;
    let target = address("targetAddress", "targetPort")?;
    let known = source.is_some();
    let mut header = Header::stream(source.unwrap_or(unset), target.unwrap_or(unset));
    let local = text("command")?.is_some_and(|command| command.eq_ignore_ascii_case("LOCAL"));
    header.local = local && matches!(version, Version::V2);
    if !known || text("protocol")?.is_some_and(|protocol| protocol == "UNKNOWN") {
        header.addresses = Addresses::Unknown;
    }
    let mut bytes = Vec::new();
    header.encode(version, &mut bytes);
    Ok(bytes.into())
}

impl Filter for Connect {
    fn name(&self) -> &'static str {
        "connectProxyProtocol"
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        if self.over {
            return;
        }
        if self.sub.is_none() && !matches!(event, Event::Pause | Event::Resume) {
            self.begin(cx);
        }
        if let Some(sub) = self.sub {
            cx.send(sub, event);
        }
    }

    fn sub(&mut self, cx: &mut Cx<'_>, _slot: Slot, event: Event) {
        came_out(cx, event);
    }

    fn closed(&mut self, cx: &mut Cx<'_>) {
        if let Some(sub) = self.sub.take() {
            cx.close(sub);
        }
    }
}
