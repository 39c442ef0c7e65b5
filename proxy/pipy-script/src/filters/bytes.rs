//! Filters that give what did not come in: `insert`, `produce`, `read`.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::rc::Rc;

use pipy_pipeline::{CloseReason, Cx, Event, Filter};
use rquickjs::{Coerced, Result, Value};

use super::ask::{Answer, Asker, failed};
use super::values::is_close;
use crate::engine::{Kept, Outcome};
use crate::layout::{FilterDef, Reading, Scope};

/// LIMIT: bytes of a file that are read before others have their turn.
const READ_BYTES: usize = 64 * 1024;

/// Of wakes: the next turn. A timer would do it within this one, before anybody can say that it is enough.
const AGAIN: u32 = 1;

fn asker(reading: &Reading<'_, '_>) -> Asker {
    Asker { name: reading.name, label: reading.label.clone() }
}

// insert and produce

#[derive(Clone)]
struct Source {
    what: Kept,
    asker: Asker,
    /// Asked again and again, and the input is dropped.
    again: bool,
}

pub(super) fn source(reading: &Reading<'_, '_>) -> Result<Rc<dyn FilterDef>> {
    let what =
        reading.kept(0).ok_or_else(|| reading.refuse("expects events or a function that gives them"))?;
    Ok(Rc::new(Source { what, asker: asker(reading), again: reading.name == "produce" }))
}

impl FilterDef for Source {
    fn filter(&self, scope: &Scope) -> Box<dyn Filter> {
        let (def, scope) = (self.clone(), scope.clone());
        Box::new(Sourced {
            def,
            begun: false,
            over: false,
            waiting: None,
            held: Vec::new(),
            paused: [false; 2],
            due: false,
            scope,
        })
    }
}

struct Sourced {
    def: Source,
    begun: bool,
    over: bool,
    waiting: Option<Outcome>,
    held: Vec<Event>,
    /// Who takes what leaves this row cannot take more, and the same of who is behind in it.
    paused: [bool; 2],
    /// It is to be asked again as soon as nobody is paused.
    due: bool,
    scope: Scope,
}

/// Of `paused`: the place where what leaves goes, and what is behind.
const LEAVING: usize = 0;
const BEHIND: usize = 1;

impl Sourced {
    fn ask(&mut self, cx: &mut Cx<'_>) {
        let def = self.def.clone();
        match def.asker.events(cx, &self.scope, &def.what, |_, _| Ok(Vec::new())) {
            Some(Answer::Events(events)) => self.answer(cx, events),
            Some(Answer::Later(outcome)) => self.waiting = Some(outcome),
            None => self.fail(cx),
        }
    }

    fn answer(&mut self, cx: &mut Cx<'_>, events: Vec<Event>) {
        self.over = !self.def.again || events.is_empty() || events.iter().any(is_close);
        events.into_iter().for_each(|event| cx.forward(event));
        if self.over {
            self.held.drain(..).for_each(|event| cx.forward(event));
        } else {
            // Others have their turn before the next one, and what was given is sent.
            self.scope.engine().wake(cx.waker(AGAIN));
        }
    }

    /// Asks again, unless what was given so far has not been taken.
    fn next(&mut self, cx: &mut Cx<'_>) {
        self.due = !self.over && self.paused.contains(&true);
        if !self.over && !self.due {
            self.ask(cx);
        }
    }

    fn pause(&mut self, cx: &mut Cx<'_>, who: usize, paused: bool) {
        self.paused[who] = paused;
        if self.due {
            self.next(cx);
        }
    }

    fn fail(&mut self, cx: &mut Cx<'_>) {
        (self.over, self.waiting) = (true, None);
        self.held.clear();
        cx.forward(failed());
    }
}

impl Filter for Sourced {
    fn name(&self) -> &'static str {
        self.def.asker.name
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        if matches!(event, Event::Pause | Event::Resume) {
            let paused = matches!(event, Event::Pause);
            // Filters behind may give something of their own, too.
            cx.forward(event);
            return self.pause(cx, LEAVING, paused);
        }
        if !std::mem::replace(&mut self.begun, true) {
            self.ask(cx);
        }
        match self.def.again {
            true => {}
            false if self.over => cx.forward(event),
            false => self.held.push(event),
        }
    }

    fn output(&mut self, cx: &mut Cx<'_>, event: Event) {
        let paused = match event {
            Event::Pause => Some(true),
            Event::Resume => Some(false),
            _ => None,
        };
        cx.back(event);
        if let Some(paused) = paused {
            self.pause(cx, BEHIND, paused);
        }
    }

    fn wake(&mut self, cx: &mut Cx<'_>, token: u32) {
        if token == AGAIN {
            return self.next(cx);
        }
        let Some(outcome) = &self.waiting else { return };
        let Some(settled) = self.def.asker.later(&self.scope, outcome) else { return };
        self.waiting = None;
        match settled {
            Some(events) => self.answer(cx, events),
            None => self.fail(cx),
        }
    }
}

// read

#[derive(Clone)]
struct ReadFile {
    path: Kept,
    seek: u64,
    size: Option<usize>,
    asker: Asker,
}

pub(super) fn read(reading: &Reading<'_, '_>) -> Result<Rc<dyn FilterDef>> {
    let path = reading.kept(0).ok_or_else(|| reading.refuse("expects the path of a file"))?;
    let (mut seek, mut size) = (0, None);
    if let Some(options) = reading.settings(1)? {
        seek = options.size("seek")?.unwrap_or(0) as u64;
        // Below zero it means all.
        size = match options.value("size")? {
            Some(value) if value.as_number().is_some_and(|size| size < 0.0) => None,
            _ => options.size("size")?,
        };
    }
    Ok(Rc::new(ReadFile { path, seek, size, asker: asker(reading) }))
}

impl FilterDef for ReadFile {
    fn filter(&self, scope: &Scope) -> Box<dyn Filter> {
        Box::new(Reader {
            def: self.clone(),
            file: None,
            left: self.size,
            begun: false,
            paused: false,
            scope: scope.clone(),
        })
    }
}

struct Reader {
    def: ReadFile,
    file: Option<File>,
    left: Option<usize>,
    begun: bool,
    paused: bool,
    scope: Scope,
}

impl Reader {
    fn begin(&mut self, cx: &mut Cx<'_>) {
        let text = |_: &rquickjs::Ctx<'_>, _: &crate::events::Makers<'_>, value: Value<'_>| {
            Ok(value.get::<Coerced<String>>()?.0)
        };
        let path = self.def.asker.ask(&self.scope, &self.def.path, |_, _| Ok(Vec::new()), text);
        let opened = path.map(|path| {
            let mut file = File::open(&path).map_err(|error| format!("cannot open {path}: {error}"))?;
            file.seek(SeekFrom::Start(self.def.seek)).map_err(|error| format!("{path}: {error}"))?;
            Ok::<File, String>(file)
        });
        match opened {
            Some(Ok(file)) => {
                self.file = Some(file);
                self.some(cx);
            }
            Some(Err(error)) => {
                self.def.asker.complain(&error);
                cx.forward(failed());
            }
            None => cx.forward(failed()),
        }
    }

    fn some(&mut self, cx: &mut Cx<'_>) {
        let Some(file) = self.file.as_mut().filter(|_| !self.paused) else { return };
        let mut buffer = vec![0; READ_BYTES.min(self.left.unwrap_or(READ_BYTES))];
        let count = if buffer.is_empty() { Ok(0) } else { file.read(&mut buffer) };
        match count {
            Ok(0) => {
                self.file = None;
                cx.forward(Event::Close(CloseReason::Finished));
            }
            Ok(count) => {
                buffer.truncate(count);
                self.left = self.left.map(|left| left - count);
                cx.forward(Event::Data(buffer.into()));
                self.scope.engine().wake(cx.waker(AGAIN));
            }
            Err(error) => {
                self.file = None;
                self.def.asker.complain(&error);
                cx.forward(Event::Close(CloseReason::Reset));
            }
        }
    }
}

impl Filter for Reader {
    fn name(&self) -> &'static str {
        "read"
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        match event {
            // The file can wait for who reads what comes of it.
            Event::Pause => self.paused = true,
            Event::Resume => {
                self.paused = false;
                self.some(cx);
            }
            _ if !std::mem::replace(&mut self.begun, true) => self.begin(cx),
            _ => {}
        }
    }

    fn wake(&mut self, cx: &mut Cx<'_>, _token: u32) {
        self.some(cx);
    }
}
