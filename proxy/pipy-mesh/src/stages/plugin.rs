//! A plugin as a stage: the request goes through its script, whose `.chain()` leads to the stages after this one.
//!
//! What the script gives back is the response. A script that fails before it has given one costs its request: the client is
//! told 500, or the connection ends where a part of the response is gone already. Not here: scripts (`pipy_script`).

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;

use pipy_config::Protocol;
use pipy_pipeline::{CloseReason, Cx, Event, Filter, Head, PipelineId, Slot};
use pipy_script::plugin::{Fact, Host, Written};

use super::default::respond;
use super::{Chain, row};
use crate::decide::Caller;
use crate::exchange::{Connection, Direction, Exchange};
use crate::plan::RoutePlan;

/// The stage of the plugin at this position of the runtime's; `next` is the position in the chain of what comes after.
pub(super) fn stage(exchange: &Rc<Exchange>, plugin: usize, next: usize) -> Box<dyn Filter> {
    Box::new(Plugin {
        exchange: Rc::clone(exchange),
        plugin,
        next,
        sub: OnceCell::new(),
        begun: false,
        over: false,
    })
}

struct Plugin {
    exchange: Rc<Exchange>,
    plugin: usize,
    next: usize,
    sub: OnceCell<PipelineId>,
    /// Whether the response has begun.
    begun: bool,
    over: bool,
}

const ONLY: Slot = 0;

impl Plugin {
    /// The script's pipeline, made when the request's head is there: the stages before this one have read it by then.
    fn pipeline(&self, cx: &mut Cx<'_>) -> Option<PipelineId> {
        if let Some(sub) = self.sub.get() {
            return Some(*sub);
        }
        let exchange = &self.exchange;
        let plugins = exchange.runtime.plugins.as_ref()?;
        let context = match exchange.script.get() {
            Some(context) => context.clone(),
            None => {
                let made = plugins.context(exchange.connection.id, &exchange.connection.accepted).ok()?;
                exchange.script.get_or_init(|| made).clone()
            }
        };
        let host = MeshHost { exchange: Rc::clone(exchange), next: self.next };
        let row = plugins.pipeline(self.plugin, &context, Rc::new(host)).ok()?;
        let sub = cx.open(row, ONLY);
        let _ = self.sub.set(sub);
        Some(sub)
    }

    fn fail(&mut self, cx: &mut Cx<'_>, reason: CloseReason) {
        self.over = true;
        let exchange = &self.exchange;
        exchange.connection.shared.metrics.proxy.denied.get("plugin-failed").inc();
        exchange.failure.set(Some(reason));
        if self.begun {
            return cx.back(Event::Close(reason));
        }
        exchange.answered_by.set(Some("plugin_failed"));
        respond(cx, 500, "Internal Server Error");
    }
}

impl Filter for Plugin {
    fn name(&self) -> &'static str {
        "plugin"
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        if self.over {
            return;
        }
        match self.pipeline(cx) {
            Some(sub) => cx.send(sub, event),
            None => self.fail(cx, CloseReason::Script),
        }
    }

    fn sub(&mut self, cx: &mut Cx<'_>, _slot: Slot, event: Event) {
        if self.over {
            return;
        }
        match event {
            Event::Close(reason @ CloseReason::Script) => {
                self.fail(cx, reason);
                if let Some(sub) = self.sub.take() {
                    cx.destroy(sub);
                }
            }
            event => {
                self.begun |= matches!(&event, Event::Start(Head::Response(head), _) if !head.is_interim());
                cx.back(event);
            }
        }
    }

    fn closed(&mut self, cx: &mut Cx<'_>) {
        if let Some(sub) = self.sub.take() {
            cx.destroy(sub);
        }
    }
}

/// What scripts see of a request, and reach from it.
struct MeshHost {
    exchange: Rc<Exchange>,
    next: usize,
}

impl MeshHost {
    fn heed(&self, exchange: &Exchange, written: &Written) {
        let plan = &self.exchange.runtime.plan;
        for (_, name) in written {
            let position = plan.clusters.iter().position(|cluster| *cluster.name == **name);
            // An unknown cluster is left alone: the route's own would be picked, which is not what the script wants.
            exchange.facts.borrow_mut().cluster = Some(position.unwrap_or(usize::MAX));
        }
    }
}

impl Host for MeshHost {
    fn fact(&self, variable: &str) -> Option<Fact> {
        let exchange = &self.exchange;
        let connection = &exchange.connection;
        let text = |text: &str| Some(Fact::Text(text.to_owned()));
        match variable {
            "__service" => exchange.facts.borrow().route.as_ref()?.told.clone().map(Fact::Json),
            "__route" => {
                let origin = Arc::clone(&exchange.facts.borrow().route.as_ref()?.origin);
                Some(Fact::Json(json(&[("origin", &origin)])))
            }
            "__cluster" => {
                let (position, _) = exchange.cluster()?;
                Some(Fact::Json(Arc::clone(&exchange.runtime.plan.clusters.get(position)?.told)))
            }
            "__protocol" => text(match exchange.facts.borrow().protocol? {
                Protocol::Http | Protocol::Auto => "http",
                Protocol::Grpc => "grpc",
                Protocol::Tcp | Protocol::TcpServerFirst | Protocol::Tls | Protocol::Udp => "tcp",
            }),
            "__isHTTP2" => Some(Fact::Truth(connection.protocol.get() == "h2")),
            "__isEgress" => {
                let outbound = connection.direction == Direction::Outbound;
                let facts = exchange.facts.borrow();
                let leads = |route: &Arc<RoutePlan>| exchange.runtime.plan.leads_outside(&route.targets);
                Some(Fact::Truth(outbound && facts.route.as_ref().is_none_or(leads)))
            }
            "__target" => text(&exchange.facts.borrow().upstream?.to_string()),
            "__metricLabel" => {
                let position = exchange.facts.borrow().cluster?;
                text(&exchange.runtime.plan.clusters.get(position)?.name)
            }
            _ => connection_fact(connection, variable),
        }
    }

    // WHY: what a script writes counts for the stages that it names, not here: a copy of the request that goes elsewhere
    // shares its variables, and must not take the request with it.
    fn rest(&self) -> Vec<Box<dyn Filter>> {
        row(&self.exchange, self.next)
    }

    fn stages(&self, names: &[String], written: &Written) -> Vec<Box<dyn Filter>> {
        let beside = self.exchange.beside();
        self.heed(&beside, written);
        let chain = match self.exchange.connection.direction {
            Direction::Inbound => Chain::InboundHttp,
            Direction::Outbound => Chain::OutboundHttp,
        };
        chain.built_in(names).into_iter().map(|stage| stage(&beside)).collect()
    }
}

/// What scripts are told of a connection, whatever it carries.
pub(super) fn connection_fact(connection: &Connection, variable: &str) -> Option<Fact> {
    match variable {
        "__port" => Some(Fact::Number(f64::from(connection.accepted.destination.port()))),
        "__isIngress" => {
            Some(Fact::Truth(matches!(connection.caller(), Caller::Admitted | Caller::Bounded(_))))
        }
        "__consumer" => match connection.caller() {
            Caller::Member(identity) => Some(Fact::Text(identity.to_owned())),
            _ => None,
        },
        // Without the key, which no script sees: the client's own, or the one that servers are shown.
        "__cert" => Some(Fact::Json(json(&[("identity", connection.peer.identity()?)]))),
        _ => None,
    }
}

/// A flat object of texts, as JSON.
pub(crate) fn json(fields: &[(&str, &str)]) -> Arc<str> {
    let fields: serde_json::Map<String, serde_json::Value> =
        fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
    serde_json::Value::Object(fields).to_string().into()
}
