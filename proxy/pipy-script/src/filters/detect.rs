//! `detectProtocol` and `handleTLSClientHello`: a look at the first bytes, which pass on as they come.

use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use pipy_filters::{CLIENT_HELLO_BYTES_MAX, DETECT_BYTES_MAX, Spoken, client_hello, detect};
use pipy_pipeline::{Cx, Event, Filter};
use rquickjs::{IntoJs, Object, Result};

use super::ask::{Answer, Asker, failed};
use super::values::is_close;
use crate::engine::Kept;
use crate::layout::{FilterDef, Reading, Scope};

#[derive(Clone)]
struct Look {
    callback: Kept,
    asker: Asker,
    hello: bool,
    timeout: Duration,
}

pub(super) fn make(reading: &Reading<'_, '_>) -> Result<Rc<dyn FilterDef>> {
    let callback = reading.kept(0).filter(|_| reading.callback(0).is_some());
    let callback = callback.ok_or_else(|| reading.refuse("expects a function"))?;
    let asker = Asker { name: reading.name, label: reading.label.clone() };
    let timeout = match reading.settings(1)? {
        Some(options) => options.duration("timeout")?,
        None => None,
    };
    let hello = reading.name == "handleTLSClientHello";
    Ok(Rc::new(Look { callback, asker, hello, timeout: timeout.unwrap_or(Duration::from_secs(1)) }))
}

impl FilterDef for Look {
    fn filter(&self, scope: &Scope) -> Box<dyn Filter> {
        let (def, seen, scope) = (self.clone(), Some(BytesMut::new()), scope.clone());
        Box::new(Looker { def, seen, scope })
    }
}

struct Looker {
    def: Look,
    /// What has come, until it is decided.
    seen: Option<BytesMut>,
    scope: Scope,
}

/// What was found.
enum Found {
    Protocol(&'static str),
    Hello(Vec<String>, Vec<String>),
}

impl Looker {
    /// What the bytes are, once that is known; `over` when no more will come.
    fn found(&self, over: bool) -> Option<Found> {
        let seen = self.seen.as_ref()?;
        if self.def.hello {
            return match client_hello(seen) {
                Ok(Some(hello)) => {
                    let text = |name: &Vec<u8>| String::from_utf8_lossy(name).into_owned();
                    let names = hello.server_name.into_iter().collect();
                    Some(Found::Hello(names, hello.alpn.iter().map(text).collect()))
                }
                Ok(None) if !over && seen.len() < CLIENT_HELLO_BYTES_MAX => None,
                _ => Some(Found::Hello(Vec::new(), Vec::new())),
            };
        }
        let unknown = (over || seen.len() >= DETECT_BYTES_MAX).then_some(Found::Protocol(""));
        detect(seen)
            .map(|spoken| {
                Found::Protocol(match spoken {
                    Spoken::Http1 => "HTTP",
                    Spoken::Http2 => "HTTP2",
                    Spoken::Tls => "TLS",
                    _ => "",
                })
            })
            .or(unknown)
    }

    fn decide(&mut self, cx: &mut Cx<'_>, over: bool) {
        let Some(found) = self.found(over) else { return };
        self.seen = None;
        // Bytes that are no ClientHello are nobody's business here.
        if matches!(&found, Found::Hello(names, protocols) if names.is_empty() && protocols.is_empty())
            && over
        {
            return;
        }
        let def = self.def.clone();
        let answer = def.asker.ask(
            &self.scope,
            &def.callback,
            |ctx, _| match found {
                Found::Protocol(name) => Ok(vec![name.into_js(ctx)?]),
                Found::Hello(names, protocols) => {
                    let hello = Object::new(ctx.clone())?;
                    hello.set("serverNames", names)?;
                    hello.set("protocolNames", protocols)?;
                    Ok(vec![hello.into_value()])
                }
            },
            |ctx, makers, value| {
                let mut events = Vec::new();
                if makers.is_events(&value)? {
                    makers.events(ctx, &value, &mut events)?;
                }
                Ok(Answer::Events(events))
            },
        );
        match answer {
            Some(Answer::Events(events)) => events.into_iter().for_each(|event| cx.forward(event)),
            Some(Answer::Later(_)) => {}
            None => cx.forward(failed()),
        }
    }
}

impl Filter for Looker {
    fn name(&self) -> &'static str {
        self.def.asker.name
    }

    fn start(&mut self, cx: &mut Cx<'_>) {
        // A server that speaks first has a client that waits for it.
        if !self.def.hello && !self.def.timeout.is_zero() {
            cx.timer(self.def.timeout, 0);
        }
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        if let (Event::Data(data), Some(seen)) = (&event, &mut self.seen) {
            seen.extend_from_slice(data);
            self.decide(cx, false);
        } else if is_close(&event) && self.seen.is_some() {
            self.decide(cx, true);
        }
        cx.forward(event);
    }

    fn timer(&mut self, cx: &mut Cx<'_>, _token: u32) {
        if self.seen.is_some() {
            self.decide(cx, true);
            // What waits for the verdict, such as a branch, looks at the next event.
            cx.forward(Event::Data(bytes::Bytes::new()));
        }
    }
}
