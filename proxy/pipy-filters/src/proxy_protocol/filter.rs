//! `acceptProxyProtocol` takes a header off the begin of a connection, `sendProxyProtocol` puts one there.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pipy_pipeline::{CloseReason, Cx, Event, Filter, TimerId};

use super::{Header, HeaderError, Version, decode};
use crate::spec::{Layer, Spec};

pub(crate) const ACCEPT_SPEC: Spec = Spec {
    name: "acceptProxyProtocol",
    layer: Layer::Connection,
    help: "takes a PROXY header off the begin of a connection and tells who the client was",
};

pub(crate) const SEND_SPEC: Spec = Spec {
    name: "sendProxyProtocol",
    layer: Layer::Connection,
    help: "puts a PROXY header before a connection's first bytes",
};

/// Hears what came of waiting for a header: the header, what was wrong with it, or `Err(None)` where none came in time.
/// Says of a header whether the connection may go on; if not, it is reset.
pub type Announce = Box<dyn FnMut(Result<Header, Option<HeaderError>>) -> bool>;

/// See the module. Nothing passes to the right before the header is whole.
pub struct AcceptProxyProtocol {
    held: BytesMut,
    done: bool,
    over: bool,
    timeout: Duration,
    timer: Option<TimerId>,
    announce: Announce,
}

impl AcceptProxyProtocol {
    /// A filter that waits this long; `announce` says whether the connection may go on.
    pub fn new(timeout: Duration, announce: Announce) -> Self {
        AcceptProxyProtocol {
            held: BytesMut::new(),
            done: false,
            over: false,
            timeout,
            timer: None,
            announce,
        }
    }

    fn end(&mut self, cx: &mut Cx<'_>) {
        self.over = true;
        self.held = BytesMut::new();
        cx.back(Event::Close(CloseReason::Protocol));
    }

    fn read(&mut self, cx: &mut Cx<'_>, data: &Bytes) {
        self.held.extend_from_slice(data);
        match decode(&self.held) {
            Ok(None) => {}
            Ok(Some((header, used))) => {
                if let Some(timer) = self.timer.take() {
                    cx.cancel(timer);
                }
                if !(self.announce)(Ok(header)) {
                    return self.end(cx);
                }
                self.done = true;
                let mut rest = std::mem::take(&mut self.held).freeze();
                let rest = rest.split_off(used);
                // Even when empty: it tells the right that the client is known.
                cx.forward(Event::Data(rest));
            }
            Err(error) => {
                (self.announce)(Err(Some(error)));
                self.end(cx);
            }
        }
    }
}

impl Filter for AcceptProxyProtocol {
    fn name(&self) -> &'static str {
        ACCEPT_SPEC.name
    }

    fn start(&mut self, cx: &mut Cx<'_>) {
        if !self.timeout.is_zero() {
            self.timer = Some(cx.timer(self.timeout, 0));
        }
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        match event {
            _ if self.over => {}
            other if self.done => cx.forward(other),
            Event::Data(data) => self.read(cx, &data),
            Event::Close(_) => {
                (self.announce)(Err(Some(HeaderError::NoHeader)));
                self.end(cx);
            }
            _ => {}
        }
    }

    fn output(&mut self, cx: &mut Cx<'_>, event: Event) {
        if !self.over {
            cx.back(event);
        }
    }

    fn timer(&mut self, cx: &mut Cx<'_>, _token: u32) {
        if !self.done && !self.over {
            (self.announce)(Err(None));
            self.end(cx);
        }
    }
}

/// See the module.
pub struct SendProxyProtocol {
    header: Option<Bytes>,
}

impl SendProxyProtocol {
    /// A filter that sends this header.
    pub fn new(header: &Header, version: Version) -> Self {
        let mut bytes = Vec::new();
        header.encode(version, &mut bytes);
        SendProxyProtocol { header: Some(bytes.into()) }
    }
}

impl Filter for SendProxyProtocol {
    fn name(&self) -> &'static str {
        SEND_SPEC.name
    }

    fn start(&mut self, cx: &mut Cx<'_>) {
        // At once: a server that speaks first waits for the header all the same.
        if let Some(header) = self.header.take() {
            cx.forward(Event::Data(header));
        }
    }
}
