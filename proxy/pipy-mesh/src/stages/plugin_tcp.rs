//! Plugins of the TCP chains: a connection's bytes go through scripts, whose last `.chain()` leads to what carries them on.
//!
//! ```text
//!   client ══► TcpPlugin ═[ script … .chain() ]═► TcpPlugin ═[ … ]═► TcpForward ══► server
//! ```
//!
//! INVARIANT: a plugin that stands after the routing never sees a connection that no rule allows; a connection of whose chain
//! no plugin is part costs nothing. A script that fails ends its connection, with a reset. Not here: carrying bytes (`tcp`).

use std::cell::{Cell, OnceCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use pipy_config::Protocol;
use pipy_observe::{Decision, Entry};
use pipy_pipeline::{CloseReason, Cx, Event, Filter, PipelineId, Slot};
use pipy_script::plugin::{Fact, Host, Written};

use super::plugin::{connection_fact, json};
use crate::decide;
use crate::exchange::{Connection, Direction};
use crate::runtime::Runtime;
use crate::tcp::{TcpFacts, TcpForward, Way};

/// A plugin in a chain of TCP.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TcpStep {
    /// By position among the runtime's.
    plugin: usize,
    /// Whether the routing comes before it.
    routed: bool,
}

impl TcpStep {
    /// The plugins of a chain, in order.
    pub(crate) fn of(names: &[String], position: impl Fn(&str) -> Option<usize>) -> Vec<Self> {
        let mut routed = false;
        let mut steps = Vec::new();
        for name in names {
            routed |= name.ends_with("-tcp-routing.js");
            let plugin = super::plugin_of(name).and_then(&position);
            steps.extend(plugin.map(|plugin| TcpStep { plugin, routed }));
        }
        steps
    }
}

/// What carries a connection on: with plugins where its chain has some.
pub(crate) fn carry(
    connection: &Rc<Connection>,
    runtime: &Rc<Runtime>,
    way: Way,
    protocol: Option<Protocol>,
    after_tls: bool,
    now: Instant,
) -> Box<dyn Filter> {
    if steps(runtime, connection.direction).is_empty() {
        let (connection, runtime) = (Rc::clone(connection), Rc::clone(runtime));
        return Box::new(TcpForward::new(connection, runtime, way, after_tls, now));
    }
    let carried = Rc::new(Carried {
        connection: Rc::clone(connection),
        runtime: Rc::clone(runtime),
        way,
        protocol,
        facts: Rc::default(),
        script: OnceCell::new(),
        reached_end: Cell::new(false),
        started: now,
    });
    Box::new(TcpPlugin { carried, position: 0, after_tls, sub: None, over: false })
}

fn steps(runtime: &Runtime, direction: Direction) -> &[TcpStep] {
    match direction {
        Direction::Inbound => &runtime.inbound_tcp,
        Direction::Outbound => &runtime.outbound_tcp,
    }
}

/// A connection on its way through a chain.
struct Carried {
    connection: Rc<Connection>,
    runtime: Rc<Runtime>,
    way: Way,
    protocol: Option<Protocol>,
    facts: Rc<TcpFacts>,
    script: OnceCell<pipy_script::Vars>,
    /// Whether what follows the plugins has it; it logs how the connection ends.
    reached_end: Cell<bool>,
    started: Instant,
}

impl Carried {
    fn forward(&self, facts: &Rc<TcpFacts>) -> Box<dyn Filter> {
        self.reached_end.set(true);
        let (connection, runtime) = (Rc::clone(&self.connection), Rc::clone(&self.runtime));
        let forward = TcpForward::new(connection, runtime, self.way.clone(), false, self.started);
        Box::new(forward.knowing(Rc::clone(facts)))
    }

    /// Whether the rule lets the client in; it is told and counted at the end of the chain.
    fn allowed(&self) -> bool {
        match &self.way {
            Way::Original => true,
            Way::Rule(rule) => decide::tcp(rule, self.connection.caller()).verdict.is_ok(),
        }
    }

    /// The cluster that it goes to, picked when this is asked first.
    fn cluster(&self) -> Option<usize> {
        let Way::Rule(rule) = &self.way else { return None };
        if self.facts.cluster.get().is_none() {
            self.facts.cluster.set(self.runtime.target(&rule.targets).map(|target| target.cluster));
        }
        self.facts.cluster.get()
    }
}

/// The filters from a place among the plugins on.
fn row(carried: &Rc<Carried>, position: usize) -> Vec<Box<dyn Filter>> {
    let steps = steps(&carried.runtime, carried.connection.direction);
    match steps.get(position) {
        Some(step) if !step.routed || carried.allowed() => {
            let carried = Rc::clone(carried);
            vec![Box::new(TcpPlugin { carried, position, after_tls: false, sub: None, over: false })]
        }
        _ => vec![carried.forward(&carried.facts)],
    }
}

struct TcpPlugin {
    carried: Rc<Carried>,
    position: usize,
    /// TLS comes first: the peer is known when the first event comes.
    after_tls: bool,
    sub: Option<PipelineId>,
    over: bool,
}

const ONLY: Slot = 0;

impl TcpPlugin {
    fn begin(&mut self, cx: &mut Cx<'_>) {
        match self.script() {
            Some(row) => {
                let sub = cx.open(row, ONLY);
                self.sub = Some(sub);
                if self.carried.protocol == Some(Protocol::TcpServerFirst) {
                    // WHY: a script that chooses its way with the first event would never choose.
                    cx.send(sub, Event::Data(Bytes::new()));
                }
            }
            None => self.fail(cx, CloseReason::Script),
        }
    }

    /// The filters of the script, or those of the rest where it must not see the connection.
    fn script(&self) -> Option<Vec<Box<dyn Filter>>> {
        let carried = &self.carried;
        let step = *steps(&carried.runtime, carried.connection.direction).get(self.position)?;
        if step.routed && !carried.allowed() {
            return Some(vec![carried.forward(&carried.facts)]);
        }
        let plugins = carried.runtime.plugins.as_ref()?;
        let context = match carried.script.get() {
            Some(context) => context,
            None => {
                let made = plugins.context(carried.connection.id, &carried.connection.accepted).ok()?;
                carried.script.get_or_init(|| made)
            }
        };
        let host = TcpHost { carried: Rc::clone(carried), next: self.position + 1, routed: step.routed };
        plugins.pipeline(step.plugin, context, Rc::new(host)).ok()
    }

    fn fail(&mut self, cx: &mut Cx<'_>, reason: CloseReason) {
        self.over = true;
        let connection = &self.carried.connection;
        connection.shared.metrics.proxy.denied.get("plugin-failed").inc();
        let plan = &self.carried.runtime.plan;
        if !self.carried.reached_end.get() && plan.logs(Decision::Failed) {
            connection.shared.log(
                plan,
                &Entry {
                    protocol: "tcp",
                    decision: Decision::Failed,
                    reason: Some("plugin_failed"),
                    ..connection.entry(plan, self.carried.started)
                },
            );
        }
        cx.back(Event::Close(reason));
    }
}

impl Filter for TcpPlugin {
    fn name(&self) -> &'static str {
        "tcp-plugin"
    }

    fn start(&mut self, cx: &mut Cx<'_>) {
        if !self.after_tls {
            self.begin(cx);
        }
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        if self.over {
            return;
        }
        if self.sub.is_none() {
            match &event {
                Event::Data(_) => self.begin(cx),
                Event::Close(_) => {
                    self.over = true;
                    return cx.back(Event::Close(CloseReason::Finished));
                }
                _ => return,
            }
        }
        match (event, self.sub) {
            // That the handshake is done says an event without bytes.
            (Event::Data(data), _) if data.is_empty() => {}
            (event, Some(sub)) => cx.send(sub, event),
            (_, None) => {}
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
            event => cx.back(event),
        }
    }

    fn closed(&mut self, cx: &mut Cx<'_>) {
        // What carries the bytes knows whether something waits to be sent.
        if let Some(sub) = self.sub.take() {
            cx.close(sub);
        }
    }
}

/// What scripts see of a connection, and reach from it.
struct TcpHost {
    carried: Rc<Carried>,
    next: usize,
    routed: bool,
}

impl Host for TcpHost {
    fn fact(&self, variable: &str) -> Option<Fact> {
        let carried = &self.carried;
        let rule = match &carried.way {
            Way::Rule(rule) if self.routed => Some(rule),
            _ => None,
        };
        let clusters = &carried.runtime.plan.clusters;
        match variable {
            "__service" => rule?.told.clone().map(Fact::Json),
            "__route" => Some(Fact::Json(json(&[("origin", &rule?.origin)]))),
            "__cluster" => {
                rule?;
                Some(Fact::Json(Arc::clone(&clusters.get(carried.cluster()?)?.told)))
            }
            "__metricLabel" => Some(Fact::Text(clusters.get(carried.facts.cluster.get()?)?.name.to_string())),
            "__protocol" => Some(Fact::Text("tcp".to_owned())),
            "__isHTTP2" => Some(Fact::Truth(false)),
            "__isEgress" => {
                let outbound = carried.connection.direction == Direction::Outbound;
                Some(Fact::Truth(
                    outbound
                        && match &carried.way {
                            Way::Original => true,
                            Way::Rule(rule) => carried.runtime.plan.leads_outside(&rule.targets),
                        },
                ))
            }
            "__target" => Some(Fact::Text(carried.facts.upstream.get()?.to_string())),
            _ => connection_fact(&carried.connection, variable),
        }
    }

    fn rest(&self) -> Vec<Box<dyn Filter>> {
        row(&self.carried, self.next)
    }

    fn stages(&self, _names: &[String], written: &Written) -> Vec<Box<dyn Filter>> {
        let clusters = &self.carried.runtime.plan.clusters;
        let facts = TcpFacts::default();
        for (_, name) in written {
            let position = clusters.iter().position(|cluster| *cluster.name == **name);
            // An unknown cluster is left alone: the rule's own would be picked, which is not what the script wants.
            facts.cluster.set(Some(position.unwrap_or(usize::MAX)));
        }
        vec![self.carried.forward(&Rc::new(facts))]
    }

    fn eager(&self) -> bool {
        true
    }
}
