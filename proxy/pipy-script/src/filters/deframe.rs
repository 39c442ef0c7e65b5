//! `deframe`: a state machine over bytes, of the script's own.
//!
//! Each state is a value, or a function that is called with a byte, or with what was read for it. What it gives is the next state's
//! name, or a list: events, the next state, and how many bytes to read first, into what (`Data` or a list); without a place they are
//! passed over. INVARIANT: the machine consumes a byte or bytes with each step, so that it ends.

use std::rc::Rc;

use bytes::Bytes;
use pipy_pipeline::{Cx, Event, Filter};
use rquickjs::function::This;
use rquickjs::{Ctx, Exception, Function, Object, Result, Value};

use super::ask::{Asker, failed, keep};
use crate::data::Data;
use crate::engine::Kept;
use crate::events::Makers;
use crate::layout::{FilterDef, Reading, Scope};

struct Machine {
    states: Vec<(String, Kept)>,
    asker: Asker,
}

struct MachineDef(Rc<Machine>);

pub(super) fn make(reading: &Reading<'_, '_>) -> Result<Rc<dyn FilterDef>> {
    let states = reading.options(0).ok_or_else(|| reading.refuse("expects an object of states"))?;
    let states: Vec<(String, Kept)> = states
        .props::<String, Value<'_>>()
        .map(|pair| pair.map(|(name, value)| (name, keep(reading.ctx, value))))
        .collect::<Result<_>>()?;
    if states.is_empty() {
        return Err(reading.refuse("expects at least one state"));
    }
    let asker = Asker { name: reading.name, label: reading.label.clone() };
    Ok(Rc::new(MachineDef(Rc::new(Machine { states, asker }))))
}

impl FilterDef for MachineDef {
    fn filter(&self, scope: &Scope) -> Box<dyn Filter> {
        let def = Rc::clone(&self.0);
        Box::new(Deframer { def, scope: scope.clone(), state: 0, read: None, over: false })
    }
}

/// What is read before the state is asked.
struct Read {
    left: usize,
    into: Option<Kept>,
}

struct Deframer {
    def: Rc<Machine>,
    scope: Scope,
    state: usize,
    read: Option<Read>,
    over: bool,
}

/// What a step has given.
struct Step {
    events: Vec<Event>,
    state: usize,
    read: Option<Read>,
}

impl Deframer {
    /// One step; `None` where the callback has failed, which the log has.
    fn step(&self, given: Given) -> Option<Step> {
        let (_, state) = self.def.states.get(self.state)?;
        self.def.asker.ask(
            &self.scope,
            state,
            |ctx, _| match given {
                Given::Byte(byte) => Ok(vec![Value::new_int(ctx.clone(), i32::from(byte))]),
                Given::Read(Some(buffer)) => Ok(vec![buffer.restore(ctx)?]),
                Given::Read(None) => Ok(vec![Value::new_undefined(ctx.clone())]),
            },
            |ctx, makers, value| self.follow(ctx, makers, &value),
        )
    }

    fn follow<'js>(&self, ctx: &Ctx<'js>, makers: &Makers<'js>, value: &Value<'js>) -> Result<Step> {
        let mut step = Step { events: Vec::new(), state: self.state, read: None };
        let values: Vec<Value<'js>> = match value.as_array() {
            Some(list) => list.iter().collect::<Result<_>>()?,
            None => vec![value.clone()],
        };
        for value in values {
            if let Some(name) = value.as_string() {
                let name = name.to_string()?;
                let found = self.def.states.iter().position(|(known, _)| *known == name);
                let unknown = || Exception::throw_reference(ctx, &format!("there is no state '{name}'"));
                step.state = found.ok_or_else(unknown)?;
            } else if let Some(size) = value.as_number() {
                if size < 1.0 {
                    return Err(Exception::throw_range(ctx, "the number of bytes to read must be 1 or more"));
                }
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // it is 1 or more
                let left = size as usize;
                step.read = Some(Read { left, into: None });
            } else if let (Some(read), true) = (&mut step.read, value.is_object()) {
                read.into = Some(keep(ctx, value));
            } else {
                makers.events(ctx, &value, &mut step.events)?;
            }
        }
        Ok(step)
    }

    /// Puts bytes into what the script has given for them.
    fn fill(&self, into: &Kept, bytes: Bytes) -> Option<()> {
        self.def.asker.ask(
            &self.scope,
            into,
            |_, _| Ok(Vec::new()),
            |ctx, _, place| {
                if let Some(list) = place.as_array() {
                    return bytes.iter().try_for_each(|byte| list.set(list.len(), i32::from(*byte)));
                }
                let Some(object): Option<&Object<'_>> = place.as_object() else { return Ok(()) };
                let push: Function<'_> = object.get("push")?;
                let more = Data::new_js(ctx, bytes)?;
                push.call((This(place.clone()), more))
            },
        )
    }

    fn run(&mut self, mut data: Bytes) -> Option<Vec<Event>> {
        let mut events = Vec::new();
        while !data.is_empty() {
            let given = match self.read.take() {
                Some(mut read) => {
                    let some = data.split_to(read.left.min(data.len()));
                    read.left -= some.len();
                    if let Some(into) = &read.into {
                        self.fill(into, some)?;
                    }
                    if read.left > 0 {
                        self.read = Some(read);
                        return Some(events);
                    }
                    Given::Read(read.into)
                }
                None => {
                    let byte = data.split_to(1);
                    Given::Byte(byte.first().copied().unwrap_or_default())
                }
            };
            let step = self.step(given)?;
            events.extend(step.events);
            self.state = step.state;
            self.read = step.read;
        }
        Some(events)
    }
}

enum Given {
    Byte(u8),
    Read(Option<Kept>),
}

impl Filter for Deframer {
    fn name(&self) -> &'static str {
        self.def.asker.name
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        if self.over {
            return;
        }
        let Event::Data(data) = event else { return cx.forward(event) };
        match self.run(data) {
            Some(events) => events.into_iter().for_each(|event| cx.forward(event)),
            None => {
                self.over = true;
                cx.forward(failed());
            }
        }
    }
}
