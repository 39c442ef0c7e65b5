//! Ports: how filters of different pipelines speak to each other when neither is the other's sub-pipeline.
//!
//! A connection that carries many requests at once belongs to none of them. Each request gives it a [`Port`] to answer at
//! and gets one to speak to; what is sent to a port comes to [`Filter::sub`](crate::Filter::sub) of the filter that made it,
//! with the slot that it chose. INVARIANT: a port does not keep its filter alive; what is sent to one that is gone is dropped,
//! so whoever goes first says so with a `Close`.

use crate::graph::{Target, Work};
use crate::{Cx, Event, Graph, PipelineId, Slot};

/// A place where a filter takes events from filters of other pipelines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    pipeline: PipelineId,
    index: usize,
    slot: Slot,
}

impl Port {
    /// The place of a pipeline's first filter, by its own names for things.
    pub fn first_of(pipeline: PipelineId, slot: Slot) -> Self {
        Port { pipeline, index: 0, slot }
    }

    /// The pipeline of the filter.
    pub fn pipeline(&self) -> PipelineId {
        self.pipeline
    }

    /// By what the filter knows who speaks.
    pub fn slot(&self) -> Slot {
        self.slot
    }
}

impl Cx<'_> {
    /// A port of this filter: what others send to it comes to `sub` with this slot.
    pub fn port(&self, slot: Slot) -> Port {
        Port { pipeline: self.pipeline, index: self.index, slot }
    }

    /// Sends an event to a port.
    pub fn send_to(&mut self, port: Port, event: Event) {
        let target = Target::Sub { index: port.index, slot: port.slot };
        self.graph.push(Work { pipeline: port.pipeline, target, event });
    }
}

impl Graph {
    /// Ends a pipeline that has nothing more to say, as [`Cx::close`] does, from outside of any filter.
    pub fn close(&mut self, pipeline: PipelineId) {
        self.destroy(pipeline, crate::CloseReason::Finished);
    }
}
