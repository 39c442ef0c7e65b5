//! `mux` and `muxQueue`: messages of many streams over sub-pipelines that they share, by key.
//!
//! A session is a pipeline that answers messages in the order in which it is asked. A message is sent whole, so that those of
//! different streams do not mix. INVARIANT: an answer goes to the stream that asked, or, where that has gone, to no one.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use pipy_pipeline::{CloseReason, Cx, Event, Filter, PipelineId, Port, Slot};
use rquickjs::{Coerced, Persistent, Result, Value};

use super::ask::{Asker, failed};
use super::fastcgi;
use super::options::{Options, options_of};
use super::sub::Bridge;
use super::values::{as_value, duplicate, is_close, is_end, is_start};
use crate::engine::Kept;
use crate::layout::{FilterDef, Reading, Scope, Target};

struct Mux {
    target: Target,
    key: Option<Kept>,
    settings: Settings,
    /// Asked for other settings, by each stream.
    asked: Option<Kept>,
    asker: Asker,
    sessions: RefCell<HashMap<String, Vec<Rc<Session>>>>,
}

/// How sessions are shared.
#[derive(Clone)]
struct Settings {
    count: Option<Kept>,
    max_idle: Duration,
    max_queue: usize,
    max_messages: u32,
}

impl Settings {
    fn of(filter: &str) -> Self {
        let one_at_a_time = matches!(filter, "mux" | "muxFastCGI");
        let max_queue = if one_at_a_time { 1 } else { usize::MAX };
        Settings { count: None, max_idle: Duration::from_secs(60), max_queue, max_messages: 0 }
    }

    fn read(mut self, options: &Options<'_, '_>) -> Result<Self> {
        if let Some(time) = options.duration("maxIdle")? {
            self.max_idle = time;
        }
        if let Some(queue) = options.count("maxQueue")? {
            self.max_queue = usize::try_from(queue).unwrap_or(usize::MAX).max(1);
        }
        if let Some(most) = options.count("maxMessages")? {
            self.max_messages = u32::try_from(most).unwrap_or(0);
        }
        if let Some(count) = options.kept("outputCount")? {
            self.count = Some(count);
        }
        Ok(self)
    }
}

struct MuxDef(Rc<Mux>);

pub(super) fn make(reading: &Reading<'_, '_>) -> Result<Rc<dyn FilterDef>> {
    let only_options = only_options(reading);
    let mut settings = Settings::of(reading.name);
    if let Some(options) = reading.settings(usize::from(!only_options))? {
        settings = settings.read(&options)?;
    }
    if reading.name == "merge" {
        settings.count = Some(Persistent::save(reading.ctx, Value::new_int(reading.ctx.clone(), 0)));
    }
    let mux = Mux {
        target: reading.needed()?,
        key: reading.kept(0).filter(|_| !only_options),
        settings,
        asked: reading.kept(1).filter(|_| reading.callback(1).is_some()),
        asker: Asker { name: reading.name, label: reading.label.clone() },
        sessions: RefCell::default(),
    };
    Ok(Rc::new(MuxDef(Rc::new(mux))))
}

/// Whether the first argument is the options: an object all of whose members are. Any other object is a key.
pub(super) fn only_options(reading: &Reading<'_, '_>) -> bool {
    let known = options_of(reading.name);
    reading.args.len() == 1
        && reading.options(0).is_some_and(|options| {
            let mut names = options.keys::<String>();
            names.all(|name| name.is_ok_and(|name| known.contains(&name.as_str())))
        })
}

impl FilterDef for MuxDef {
    fn filter(&self, scope: &Scope) -> Box<dyn Filter> {
        Box::new(Stream {
            def: Rc::clone(&self.0),
            settings: None,
            message: Vec::new(),
            waiting: 0,
            slot: 0,
            ended: None,
            scope: scope.clone(),
        })
    }
}

/// A shared pipeline.
struct Session {
    pipeline: Cell<Option<PipelineId>>,
    open: Cell<bool>,
    messages: Cell<u32>,
    idle_since: Cell<Option<Instant>>,
    /// Who is answered next, and how many messages are still to come to it.
    clients: RefCell<VecDeque<(Port, i32)>>,
}

/// The first filter of a session: sends what streams ask, and gives each its answers.
struct Head {
    session: Rc<Session>,
    max_idle: Duration,
}

impl Head {
    /// The session takes no more messages.
    fn end(&self, cx: &mut Cx<'_>) {
        self.session.open.set(false);
        let own = cx.pipeline();
        cx.close(own);
    }
}

impl Filter for Head {
    fn name(&self) -> &'static str {
        "session"
    }

    fn start(&mut self, cx: &mut Cx<'_>) {
        self.session.pipeline.set(Some(cx.pipeline()));
        if !self.max_idle.is_zero() {
            cx.timer(self.max_idle, 0);
        }
    }

    fn sub(&mut self, cx: &mut Cx<'_>, _slot: Slot, event: Event) {
        cx.forward(event);
    }

    fn output(&mut self, cx: &mut Cx<'_>, event: Event) {
        if matches!(event, Event::Pause | Event::Resume) {
            return;
        }
        if is_close(&event) {
            self.session.open.set(false);
            for (port, _) in self.session.clients.take() {
                cx.send_to(port, duplicate(&event).unwrap_or(Event::Close(CloseReason::Reset)));
            }
            return self.end(cx);
        }
        let ends = is_end(&event);
        let mut clients = self.session.clients.borrow_mut();
        // What nobody has asked for is for nobody.
        let Some((port, awaited)) = clients.front_mut() else { return };
        cx.send_to(*port, event);
        if ends {
            *awaited -= 1;
            if *awaited <= 0 {
                clients.pop_front();
            }
        }
        let idle = clients.is_empty();
        drop(clients);
        if idle {
            self.session.idle_since.set(Some(cx.now()));
            if cx.draining() {
                self.end(cx);
            }
        }
    }

    fn drain(&mut self, cx: &mut Cx<'_>) {
        // What is kept for messages to come is kept for nobody now.
        if self.session.clients.borrow().is_empty() {
            self.end(cx);
        }
    }

    fn timer(&mut self, cx: &mut Cx<'_>, _token: u32) {
        let since = self.session.idle_since.get().filter(|_| self.session.clients.borrow().is_empty());
        let left = since.map(|since| self.max_idle.saturating_sub(cx.now().saturating_duration_since(since)));
        match left {
            Some(left) if left.is_zero() => self.end(cx),
            Some(left) => drop(cx.timer(left, 0)),
            None => drop(cx.timer(self.max_idle, 0)),
        }
    }

    fn closed(&mut self, cx: &mut Cx<'_>) {
        self.session.open.set(false);
        for (port, _) in self.session.clients.take() {
            cx.send_to(port, Event::Close(CloseReason::Reset));
        }
    }
}

/// One stream that uses sessions.
struct Stream {
    def: Rc<Mux>,
    /// Once they were needed.
    settings: Option<Settings>,
    /// The message that is coming.
    message: Vec<Event>,
    /// Answers that are awaited.
    waiting: usize,
    slot: Slot,
    ended: Option<Event>,
    scope: Scope,
}

impl Stream {
    fn settings(&mut self) -> Option<Settings> {
        if self.settings.is_none() {
            let def = &self.def;
            let given = def.settings.clone();
            self.settings = Some(match &def.asked {
                None => given,
                Some(asked) => def.asker.ask(
                    &self.scope,
                    asked,
                    |_, _| Ok(Vec::new()),
                    |ctx, _, value| match value.into_object() {
                        Some(object) => {
                            given.read(&Options::new(ctx, def.asker.name, &def.asker.label, object)?)
                        }
                        None => Ok(given),
                    },
                )?,
            });
        }
        self.settings.clone()
    }

    /// What the session is shared by, as text and as it is; and whether it is for this connection alone.
    fn key(&self) -> Option<(String, Kept, bool)> {
        let key = self.def.key.clone();
        let engine = Rc::clone(self.scope.engine());
        let own = |ctx: &rquickjs::Ctx<'_>| -> Result<(String, Kept, bool)> {
            let inbound = engine.inbound(ctx)?;
            let undefined = Value::new_undefined(ctx.clone());
            Ok((engine.identity(ctx, &inbound)?, Persistent::save(ctx, undefined), true))
        };
        match key {
            None => engine
                .with(|ctx| {
                    engine.look(ctx, &self.scope.vars)?;
                    own(ctx)
                })
                .ok(),
            Some(key) => self.def.asker.ask(
                &self.scope,
                &key,
                |_, _| Ok(Vec::new()),
                |ctx, _, value| match value.is_undefined() {
                    true => own(ctx),
                    false => Ok((engine.identity(ctx, &value)?, Persistent::save(ctx, value), false)),
                },
            ),
        }
    }

    fn count(&self, settings: &Settings, start: &Event) -> Option<i32> {
        let Some(count) = &settings.count else { return Some(1) };
        self.def.asker.ask(
            &self.scope,
            count,
            |ctx, makers| Ok(vec![as_value(ctx, makers, start)?]),
            |_, _, value| Ok(value.get::<Coerced<i32>>()?.0),
        )
    }

    /// The session with the least to do that takes another message, or a new one.
    fn session(
        &self,
        cx: &mut Cx<'_>,
        settings: &Settings,
        key: &str,
        (argument, own): (Kept, bool),
    ) -> Option<Rc<Session>> {
        let def = &self.def;
        let mut sessions = def.sessions.borrow_mut();
        sessions.retain(|_, kept| {
            kept.retain(|session| session.open.get());
            !kept.is_empty()
        });
        let takes = |session: &&Rc<Session>| {
            let most = settings.max_messages;
            session.clients.borrow().len() < settings.max_queue
                && (most == 0 || session.messages.get() < most)
        };
        let kept = sessions.get(key).into_iter().flatten();
        if let Some(found) = kept.filter(takes).min_by_key(|session| session.clients.borrow().len()) {
            return Some(Rc::clone(found));
        }
        let layout = def.target.layout()?;
        let session = Rc::new(Session {
            pipeline: Cell::new(None),
            open: Cell::new(true),
            messages: Cell::new(0),
            idle_since: Cell::new(Some(cx.now())),
            clients: RefCell::default(),
        });
        let scope = self.scope.outliving();
        let head = Head { session: Rc::clone(&session), max_idle: settings.max_idle };
        let row = layout.pipeline(&scope, vec![argument]);
        let mut filters: Vec<Box<dyn Filter>> = vec![Box::new(head)];
        if def.asker.name == "muxFastCGI" {
            filters.push(Box::new(fastcgi::Client::new(&scope, &def.asker)));
        }
        filters.push(Box::new(Bridge::new(row)));
        let pipeline = cx.open_free(filters);
        if own {
            self.scope.family.keep_pipeline(pipeline);
        }
        sessions.entry(key.to_owned()).or_default().push(Rc::clone(&session));
        Some(session)
    }

    fn send(&mut self, cx: &mut Cx<'_>) {
        let message = std::mem::take(&mut self.message);
        let Some(start) = message.first() else { return };
        let Some(settings) = self.settings() else { return cx.forward(failed()) };
        let (Some(count), Some((key, argument, own))) = (self.count(&settings, start), self.key()) else {
            return cx.forward(failed());
        };
        let session = self.session(cx, &settings, &key, (argument, own));
        let Some(session) = session else { return cx.forward(failed()) };
        let Some(pipeline) = session.pipeline.get() else { return cx.forward(failed()) };
        session.messages.set(session.messages.get().saturating_add(1));
        session.idle_since.set((count == 0).then(|| cx.now()));
        if count != 0 {
            self.waiting += count.unsigned_abs() as usize;
            session.clients.borrow_mut().push_back((cx.port(self.slot), count.abs()));
        }
        for event in message {
            cx.send_to(Port::first_of(pipeline, self.slot), event);
        }
    }
}

impl Filter for Stream {
    fn name(&self) -> &'static str {
        self.def.asker.name
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        if matches!(event, Event::Pause | Event::Resume) {
            return cx.forward(event);
        }
        if is_close(&event) {
            self.message.clear();
            if self.waiting == 0 {
                return cx.forward(event);
            }
            self.ended = Some(event);
            return;
        }
        if self.message.is_empty() && !is_start(&event) {
            return;
        }
        let ends = is_end(&event);
        self.message.push(event);
        if ends {
            self.send(cx);
        }
    }

    fn sub(&mut self, cx: &mut Cx<'_>, _slot: Slot, event: Event) {
        if is_close(&event) {
            self.waiting = 0;
            return cx.forward(event);
        }
        let ends = is_end(&event);
        cx.forward(event);
        if ends {
            self.waiting = self.waiting.saturating_sub(1);
            if self.waiting == 0
                && let Some(end) = self.ended.take()
            {
                cx.forward(end);
            }
        }
    }
}
