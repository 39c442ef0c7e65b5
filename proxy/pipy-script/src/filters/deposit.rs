//! `depositMessage`: bodies wait in a file until they are complete, then the message goes on.
//!
//! A body up to `threshold` waits in memory. The file is removed when the message has gone on, unless it is to be kept. INVARIANT:
//! a message that never ends leaves no file.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::rc::Rc;

use bytes::BytesMut;
use pipy_pipeline::{CloseReason, Cx, Event, Filter};
use rquickjs::{Coerced, Result};

use super::ask::{Asker, failed};
use super::values::{as_value, is_close, is_end, is_start};
use crate::engine::Kept;
use crate::layout::{FilterDef, Reading, Scope};

/// Bytes that are read back at a time.
const READ_BYTES: usize = 64 << 10;

#[derive(Clone)]
struct Deposit {
    file: Kept,
    threshold: usize,
    keep: bool,
    asker: Asker,
}

pub(super) fn make(reading: &Reading<'_, '_>) -> Result<Rc<dyn FilterDef>> {
    let file = reading.kept(0).ok_or_else(|| reading.refuse("expects the path of a file"))?;
    let asker = Asker { name: reading.name, label: reading.label.clone() };
    let mut deposit = Deposit { file, threshold: 0, keep: false, asker };
    if let Some(options) = reading.settings(1)? {
        deposit.threshold = options.size("threshold")?.unwrap_or(0);
        deposit.keep = options.flag("keep")?.unwrap_or(false);
    }
    Ok(Rc::new(deposit))
}

impl FilterDef for Deposit {
    fn filter(&self, scope: &Scope) -> Box<dyn Filter> {
        Box::new(Depositor {
            def: self.clone(),
            scope: scope.clone(),
            start: None,
            memory: BytesMut::new(),
            file: None,
            giving: None,
            held: VecDeque::new(),
            paused: false,
        })
    }
}

struct Depositor {
    def: Deposit,
    scope: Scope,
    /// How the message that is coming begins.
    start: Option<Event>,
    memory: BytesMut,
    file: Option<(PathBuf, File)>,
    /// The end of the message that is being given on, out of the file.
    giving: Option<Event>,
    /// What came meanwhile.
    held: VecDeque<Event>,
    paused: bool,
}

impl Depositor {
    fn path(&self) -> Option<PathBuf> {
        let start = self.start.as_ref()?;
        self.def.asker.ask(
            &self.scope,
            &self.def.file,
            |ctx, makers| Ok(vec![as_value(ctx, makers, start)?]),
            |_, _, value| Ok(PathBuf::from(value.get::<Coerced<String>>()?.0)),
        )
    }

    /// Puts bytes away; says whether that was done.
    fn put(&mut self, bytes: &[u8]) -> bool {
        if self.file.is_none() && self.memory.len() + bytes.len() > self.def.threshold {
            let Some(path) = self.path() else { return false };
            let opened = File::options().create(true).truncate(true).read(true).write(true).open(&path);
            match opened {
                Ok(mut file) => {
                    let put = file.write_all(&self.memory);
                    self.memory.clear();
                    self.file = Some((path, file));
                    if let Err(error) = put {
                        return self.cannot(&error);
                    }
                }
                Err(error) => {
                    self.def.asker.complain(&format!("cannot write {}: {error}", path.display()));
                    return false;
                }
            }
        }
        match &mut self.file {
            Some((_, file)) => match file.write_all(bytes) {
                Ok(()) => true,
                Err(error) => self.cannot(&error),
            },
            None => {
                self.memory.extend_from_slice(bytes);
                true
            }
        }
    }

    fn cannot(&self, error: &std::io::Error) -> bool {
        let path = self.file.as_ref().map(|(path, _)| path.display().to_string()).unwrap_or_default();
        self.def.asker.complain(&format!("{path}: {error}"));
        false
    }

    fn forget(&mut self) {
        self.start = None;
        self.giving = None;
        self.memory.clear();
        if let Some((path, _)) = self.file.take()
            && !self.def.keep
        {
            // One that is gone already is what is wanted.
            let _ = std::fs::remove_file(path);
        }
    }

    fn process(&mut self, cx: &mut Cx<'_>, event: Event) {
        if is_start(&event) {
            self.start = Some(event);
            return;
        }
        if self.start.is_none() {
            return cx.forward(event);
        }
        match event {
            Event::Data(data) => {
                if !self.put(&data) {
                    self.forget();
                    cx.forward(failed());
                }
            }
            end if is_end(&end) => self.complete(cx, end),
            other => {
                if is_close(&other) {
                    self.forget();
                }
                cx.forward(other);
            }
        }
    }

    fn complete(&mut self, cx: &mut Cx<'_>, end: Event) {
        if let Some(start) = self.start.take() {
            cx.forward(start);
        }
        let rewound = match &mut self.file {
            Some((_, file)) => file.seek(SeekFrom::Start(0)),
            None => {
                if !self.memory.is_empty() {
                    cx.forward(Event::Data(self.memory.split().freeze()));
                }
                return cx.forward(end);
            }
        };
        match rewound {
            Ok(_) => {
                self.giving = Some(end);
                self.give(cx);
            }
            Err(error) => {
                self.cannot(&error);
                self.forget();
                cx.forward(failed());
            }
        }
    }

    fn give(&mut self, cx: &mut Cx<'_>) {
        if self.paused || self.giving.is_none() {
            return;
        }
        let Some((_, file)) = &mut self.file else { return };
        let mut buffer = vec![0; READ_BYTES];
        match file.read(&mut buffer) {
            Ok(0) => {
                let end = self.giving.take();
                self.forget();
                end.into_iter().for_each(|end| cx.forward(end));
                while self.giving.is_none()
                    && let Some(event) = self.held.pop_front()
                {
                    self.process(cx, event);
                }
            }
            Ok(count) => {
                buffer.truncate(count);
                cx.forward(Event::Data(buffer.into()));
                // A timer would come within this turn, before anybody can say that it is enough.
                self.scope.engine().wake(cx.waker(0));
            }
            Err(error) => {
                self.cannot(&error);
                self.forget();
                cx.forward(Event::Close(CloseReason::Reset));
            }
        }
    }
}

impl Filter for Depositor {
    fn name(&self) -> &'static str {
        self.def.asker.name
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        match event {
            // The file can wait for who reads what comes of it.
            Event::Pause => self.paused = true,
            Event::Resume => {
                self.paused = false;
                self.give(cx);
            }
            event if self.giving.is_some() => self.held.push_back(event),
            event => self.process(cx, event),
        }
    }

    fn wake(&mut self, cx: &mut Cx<'_>, _token: u32) {
        self.give(cx);
    }

    fn closed(&mut self, _cx: &mut Cx<'_>) {
        self.forget();
    }
}
