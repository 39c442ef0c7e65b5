//! The way through someone who must agree first: what `connectSOCKS` and `connectHTTPTunnel` have in common.
//!
//! In: what the client sends, and word of how the handshake goes. Out: the same events, in order, once the far side
//! has agreed; until then the client is told to wait, so that no more is held than what was under way. A handshake that
//! fails ends the client's side with the reason.
//! Not here: what is said in the handshake.

use pipy_pipeline::{CloseReason, Cx, Event, Filter, PipelineId};

use super::sub::ONLY;
use super::values::is_close;

#[derive(Default)]
enum State {
    /// Nothing has come that there would be a way to be made for.
    #[default]
    New,
    /// The handshake is under way.
    Asking {
        sub: PipelineId,
        held: Vec<Event>,
    },
    Open(PipelineId),
    Over,
}

/// How far the way has come. `Way` belongs to one filter, whose only sub-pipeline leads to who must agree.
#[derive(Default)]
pub(super) struct Way {
    state: State,
}

impl Way {
    pub(super) fn is_new(&self) -> bool {
        matches!(self.state, State::New)
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// The pipeline to who must agree, while there is one.
    pub(super) fn sub(&self) -> Option<PipelineId> {
        match &self.state {
            State::Asking { sub, .. } | State::Open(sub) => Some(*sub),
            State::New | State::Over => None,
        }
    }

    /// Begins the handshake through this row of filters.
    pub(super) fn ask(&mut self, cx: &mut Cx<'_>, row: Vec<Box<dyn Filter>>) -> PipelineId {
        let sub = cx.open_turning(row, ONLY);
        self.state = State::Asking { sub, held: Vec::new() };
        sub
    }

    /// Takes what the client sends.
    pub(super) fn pass(&mut self, cx: &mut Cx<'_>, event: Event) {
        match &mut self.state {
            State::New | State::Over => {}
            State::Open(sub) => cx.send(*sub, event),
            State::Asking { sub, .. } if matches!(event, Event::Pause | Event::Resume) => {
                cx.send(*sub, event)
            }
            State::Asking { held, .. } => {
                if held.is_empty() && !is_close(&event) {
                    cx.back(Event::Pause);
                }
                held.push(event);
            }
        }
    }

    /// The far side has agreed.
    pub(super) fn agreed(&mut self, cx: &mut Cx<'_>) {
        let State::Asking { sub, held } = std::mem::take(&mut self.state) else { return };
        self.state = State::Open(sub);
        if !held.is_empty() {
            held.into_iter().for_each(|event| cx.send(sub, event));
            cx.back(Event::Resume);
        }
    }

    /// There is no way, or none any more.
    pub(super) fn fail(&mut self, cx: &mut Cx<'_>, reason: CloseReason) {
        if let Some(sub) = self.sub() {
            cx.destroy(sub);
        }
        self.state = State::Over;
        cx.forward(Event::Close(reason));
    }

    /// The client's side is gone.
    pub(super) fn closed(&mut self, cx: &mut Cx<'_>) {
        if let Some(sub) = self.sub() {
            cx.close(sub);
        }
        self.state = State::Over;
    }
}
