//! The last stage: answers what no stage before it took, in the words that users know.

use std::rc::Rc;

use pipy_http::{BodyLength, ResponseHead};
use pipy_pipeline::{Cx, Dir, Event, Filter, Head};

use crate::decide::Refusal;
use crate::exchange::Exchange;

pub(super) fn stage(exchange: &Rc<Exchange>) -> Box<dyn Filter> {
    Box::new(Default { exchange: Rc::clone(exchange) })
}

struct Default {
    exchange: Rc<Exchange>,
}

impl Filter for Default {
    fn name(&self) -> &'static str {
        "http-default"
    }

    fn ignores(&self, dir: Dir) -> bool {
        dir == Dir::Output
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        if let Event::Start(..) = event {
            match self.exchange.refusal.get() {
                Some(Refusal::BadPath) => respond(cx, 400, "Bad Request"),
                Some(_) => respond(cx, 403, "Access denied"),
                // A route fits, but nothing is behind it.
                None => respond(cx, 404, "Not found"),
            }
        }
    }
}

/// Answers a request with a short text.
pub(super) fn respond(cx: &mut Cx<'_>, status: u16, text: &'static str) {
    respond_with(cx, status, text, None);
}

/// The same with one more header.
pub(super) fn respond_with(
    cx: &mut Cx<'_>,
    status: u16,
    text: &'static str,
    more: Option<(&'static str, &'static str)>,
) {
    let mut head = ResponseHead::new(status);
    for (name, value) in [("content-type", "text/plain")].into_iter().chain(more) {
        // A fixed header is a valid one.
        let _ = head.headers.append(name, value);
    }
    cx.back(Event::Start(Head::Response(Box::new(head)), BodyLength::Length(text.len() as u64)));
    cx.back(Event::Data(text.into()));
    cx.back(Event::End(None));
}
