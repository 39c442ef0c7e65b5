//! Datagrams as messages: over UDP each datagram is a message to scripts, and each message is a datagram.
//!
//! INVARIANT: what a script gives as one message leaves as one datagram, however its body was cut.

use bytes::BytesMut;
use pipy_pipeline::{Cx, Event, Filter};
use rquickjs::{Object, Persistent, Value};

use crate::events::{ScriptEvent, custom, script_event};
use crate::layout::Scope;
use crate::log;

/// From the socket: a datagram becomes a message.
pub(crate) struct Framed {
    scope: Scope,
}

impl Framed {
    pub(crate) fn new(scope: &Scope) -> Self {
        Framed { scope: scope.clone() }
    }
}

impl Filter for Framed {
    fn name(&self) -> &'static str {
        "datagrams"
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        let Event::Data(data) = event else { return cx.forward(event) };
        let made = self.scope.engine().with(|ctx| {
            let head = Persistent::save(ctx, Object::new(ctx.clone())?.into_value());
            let nothing = || Persistent::save(ctx, Value::new_undefined(ctx.clone()));
            let start = custom(ScriptEvent::Start(head, Some(data.len() as u64)));
            Ok((start, custom(ScriptEvent::End(nothing(), nothing()))))
        });
        match made {
            Ok((start, end)) => {
                cx.forward(start);
                cx.forward(Event::Data(data));
                cx.forward(end);
            }
            Err(error) => log::line("ERR", &format!("a datagram was dropped: {error}")),
        }
    }
}

/// To the socket: a message becomes a datagram; data outside of messages is one as it is.
#[derive(Default)]
pub(crate) struct Unframed {
    message: Option<BytesMut>,
}

impl Filter for Unframed {
    fn name(&self) -> &'static str {
        "datagrams"
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        let (starts, ends) = match (&event, script_event(&event)) {
            (Event::Start(..), _) | (_, Some(ScriptEvent::Start(..))) => (true, false),
            (Event::End(_), _) | (_, Some(ScriptEvent::End(..))) => (false, true),
            _ => (false, false),
        };
        if starts {
            self.message = Some(BytesMut::new());
            return;
        }
        if ends {
            if let Some(message) = self.message.take() {
                cx.forward(Event::Data(message.freeze()));
            }
            return;
        }
        match (&mut self.message, event) {
            (Some(message), Event::Data(data)) => message.extend_from_slice(&data),
            (_, event) => cx.forward(event),
        }
    }
}
