//! A filter that notes what passes and answers as a test says.

use std::cell::RefCell;
use std::rc::Rc;

use pipy_pipeline::{Cx, Event, Filter, Head, Slot};

/// What was noted, by all probes that share it.
#[derive(Debug, Default, Clone)]
pub struct Notes(Rc<RefCell<Vec<String>>>);

impl Notes {
    /// Adds a note.
    pub fn add(&self, note: impl Into<String>) {
        self.0.borrow_mut().push(note.into());
    }

    /// All notes since the last time this was asked.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.borrow_mut())
    }
}

/// An event in words: `GET /a ?`, `200 5`, `data hello`, `end`, `close finished`, `pause`.
pub fn describe(event: &Event) -> String {
    match event {
        Event::Data(bytes) => format!("data {}", String::from_utf8_lossy(bytes)),
        Event::Start(Head::Request(head), length) => {
            format!("{} {} {length:?}", head.method.as_str(), String::from_utf8_lossy(&head.path_and_query()))
        }
        Event::Start(Head::Response(head), length) => format!("{} {length:?}", head.status),
        Event::End(None) => "end".into(),
        Event::End(Some(trailers)) => format!("end with {} trailers", trailers.iter().count()),
        Event::Close(reason) => format!("close {}", reason.label()),
        Event::Pause => "pause".into(),
        Event::Resume => "resume".into(),
        Event::Custom(custom) => format!("{custom:?}"),
    }
}

/// What a probe does with an event that came as input.
type Answer = Box<dyn FnMut(&mut Cx<'_>, Event)>;

/// See the module.
pub struct Probe {
    name: String,
    notes: Notes,
    answer: Answer,
}

impl Probe {
    /// A probe that notes what passes under a name, and passes it on.
    pub fn passing(name: &str, notes: &Notes) -> Box<dyn Filter> {
        Self::answering(name, notes, |cx, event| cx.forward(event))
    }

    /// A probe that notes input and does with it as told.
    pub fn answering(
        name: &str,
        notes: &Notes,
        answer: impl FnMut(&mut Cx<'_>, Event) + 'static,
    ) -> Box<dyn Filter> {
        Box::new(Probe { name: name.into(), notes: notes.clone(), answer: Box::new(answer) })
    }

    fn note(&self, what: &str) {
        self.notes.add(format!("{} {what}", self.name));
    }
}

impl Filter for Probe {
    fn name(&self) -> &'static str {
        "probe"
    }

    fn start(&mut self, _cx: &mut Cx<'_>) {
        self.note("starts");
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        self.note(&format!("> {}", describe(&event)));
        (self.answer)(cx, event);
    }

    fn output(&mut self, cx: &mut Cx<'_>, event: Event) {
        self.note(&format!("< {}", describe(&event)));
        cx.back(event);
    }

    fn sub(&mut self, cx: &mut Cx<'_>, slot: Slot, event: Event) {
        self.note(&format!("sub {slot} {}", describe(&event)));
        cx.back(event);
    }

    fn flush(&mut self, _cx: &mut Cx<'_>) {
        self.note("flush");
    }

    fn timer(&mut self, _cx: &mut Cx<'_>, token: u32) {
        self.note(&format!("timer {token}"));
    }

    fn drain(&mut self, _cx: &mut Cx<'_>) {
        self.note("drain");
    }

    fn closed(&mut self, _cx: &mut Cx<'_>) {
        self.note("closed");
    }
}
