//! Throttles: refuse requests over the limit of their service, or of their route.
//!
//! They stand after metrics and logging, so that both see what was refused, and before everything that costs something. A
//! request that the service's limit refuses takes nothing from the route's.

use std::rc::Rc;

use pipy_http::{BodyLength, ResponseHead};
use pipy_pipeline::{Cx, Dir, Event, Filter, Head};

use crate::decide::Refusal;
use crate::exchange::Exchange;

pub(super) fn service(exchange: &Rc<Exchange>) -> Box<dyn Filter> {
    Box::new(Throttle { exchange: Rc::clone(exchange), of: Of::Service, refused: false })
}

pub(super) fn route(exchange: &Rc<Exchange>) -> Box<dyn Filter> {
    Box::new(Throttle { exchange: Rc::clone(exchange), of: Of::Route, refused: false })
}

#[derive(Clone, Copy)]
enum Of {
    Service,
    Route,
}

struct Throttle {
    exchange: Rc<Exchange>,
    of: Of,
    refused: bool,
}

impl Throttle {
    /// Answers the request when it is over the limit.
    fn refuses(&self, cx: &mut Cx<'_>) -> bool {
        let exchange = &self.exchange;
        let mut facts = exchange.facts.borrow_mut();
        let Some(route) = facts.route.clone() else { return false };
        let limit = match self.of {
            Of::Service => &route.service_limit,
            Of::Route => &route.route_limit,
        };
        let Some(limit) = limit else { return false };
        if exchange.runtime.lets_in(limit, cx.now()) {
            return false;
        }
        let proxy = &exchange.connection.shared.metrics.proxy;
        match self.of {
            Of::Service => proxy.rate_limited_service.inc(),
            Of::Route => proxy.rate_limited_route.inc(),
        }
        exchange.refusal.set(Some(Refusal::RateLimited));
        facts.origin = Some(limit.origin.clone());
        facts.allowed_by = None;
        let mut head = ResponseHead::new(limit.config.status);
        for header in &limit.config.headers {
            // The contract's parser has checked them.
            let _ = head.headers.append(header.name.as_str(), header.value.as_str());
        }
        cx.back(Event::Start(Head::Response(Box::new(head)), BodyLength::Length(0)));
        cx.back(Event::End(None));
        true
    }
}

impl Filter for Throttle {
    fn name(&self) -> &'static str {
        match self.of {
            Of::Service => "inbound-throttle-service",
            Of::Route => "inbound-throttle-route",
        }
    }

    fn ignores(&self, dir: Dir) -> bool {
        dir == Dir::Output
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        if let Event::Start(Head::Request(_), _) = event {
            self.refused = self.refuses(cx);
        }
        // Nobody hears the body of a request that was refused.
        if !self.refused {
            cx.forward(event);
        }
    }
}
