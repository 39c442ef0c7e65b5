//! Plugins: scripts that run as stages of a host's chains of filters.
//!
//! All plugins of a worker are files of one code base, `/plugins/<name>.js`, in one engine. A request's plugins share one
//! context. The host's stages after a plugin are what its `.chain()` leads to; `chain(['modules/…'])` leads to stages that it
//! names. INVARIANT: a plugin that fails ends its request with [`CloseReason::Script`], and nothing else.
//!
//! Not here: where a plugin stands in a chain, and what the variables mean (the host).

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use pipy_pipeline::{CloseReason, Cx, Event, Filter, Graph, Head};
use pipy_worker::Accepted;
use rquickjs::{Ctx, Value};

use crate::engine::{Engine, Kept, Limits, Vars, bury};
use crate::error::ScriptError;
use crate::events::{self, ScriptEvent, script_event};
use crate::filters::http::Responses;
use crate::layout::{Family, Layout, Scope, Script};
use crate::load::load;
use crate::modules::Codebase;
use crate::rewrite::Place;
use crate::{background, inbound, log};

/// How the host's own stages are called.
pub(crate) const NATIVE: &str = "modules/";

/// The file that names all plugins, so that they are loaded.
const MAIN: &str = "/plugins.js";

/// What a host tells a script in a variable.
#[derive(Debug, Clone)]
pub enum Fact {
    /// A text.
    Text(String),
    /// A number.
    Number(f64),
    /// Yes or no.
    Truth(bool),
    /// An object, as JSON; made once per text that is the same place in memory.
    Json(Arc<str>),
}

/// What a script has put into variables of the host, by name: a text, or the `name` of an object.
pub type Written = Vec<(&'static str, String)>;

/// Who runs plugins as stages.
pub trait Host {
    /// What a variable of the built-in modules is now.
    fn fact(&self, variable: &str) -> Option<Fact>;

    /// The filters after the plugin, of two directions; the last of them answers.
    fn rest(&self) -> Vec<Box<dyn Filter>>;

    /// Filters of the stages with these names, of two directions, for a request beside the one at hand.
    fn stages(&self, names: &[String], written: &Written) -> Vec<Box<dyn Filter>>;

    /// Whether what comes after the plugin begins with it, not with its first event: servers may speak first.
    fn eager(&self) -> bool {
        false
    }
}

/// A plugin's name and text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Without folder and ending.
    pub name: String,
    /// `PipyJS`.
    pub script: Arc<str>,
}

/// The variables of the built-in modules that plugins import, and the module that has each.
const VARIABLES: &[(&str, &[&str])] = &[
    ("__route", ROUTING),
    ("__service", ROUTING),
    ("__cluster", ROUTING),
    ("__port", SIDES),
    ("__protocol", SIDES),
    ("__isHTTP2", SIDES),
    ("__isIngress", SIDES),
    ("__isEgress", SIDES),
    ("__cert", SIDES),
    ("__consumer", SIDES),
    ("__target", &["connect-tcp"]),
    ("__metricLabel", &["connect-tcp"]),
];
const ROUTING: &[&str] =
    &["inbound-http-routing", "outbound-http-routing", "inbound-tcp-routing", "outbound-tcp-routing"];
const SIDES: &[&str] = &["inbound", "outbound"];

struct Files {
    sources: Vec<Source>,
    natives: Vec<String>,
}

impl Codebase for Files {
    fn file(&self, path: &str) -> Option<Vec<u8>> {
        if path == MAIN {
            let names: Vec<String> =
                self.sources.iter().map(|s| format!("\"{}\"", path_of(&s.name))).collect();
            return Some(format!("pipy().pipeline(\"all\").use([{}])", names.join(", ")).into_bytes());
        }
        let found = self.sources.iter().find(|source| path_of(&source.name) == path)?;
        Some(found.script.as_bytes().to_vec())
    }

    fn lends(&self) -> bool {
        true
    }

    fn is_native(&self, path: &str) -> bool {
        self.natives.iter().any(|native| path.strip_prefix('/') == Some(native))
    }
}

fn path_of(name: &str) -> String {
    format!("/plugins/{name}.js")
}

/// The plugins of one worker, loaded.
pub struct Plugins {
    /// What they were loaded from.
    pub sources: Vec<Source>,
    script: Rc<Script>,
    entrances: Vec<Rc<Layout>>,
    /// Whether any of them looks at the client's connection.
    inbound: bool,
    objects: RefCell<HashMap<usize, (Arc<str>, Kept)>>,
}

impl Plugins {
    /// Loads plugins. `natives` are the names of the host's stages.
    ///
    /// # Errors
    /// When one of them does not load: which, and where.
    pub fn load(sources: &[Source], natives: &[&str]) -> Result<Rc<Self>, ScriptError> {
        Plugins::doubted(sources, natives).map(|(plugins, _)| plugins)
    }

    /// The same, with what is doubtful in them: names that nothing has.
    ///
    /// # Errors
    /// When one of them does not load: which, and where.
    pub fn doubted(sources: &[Source], natives: &[&str]) -> Result<(Rc<Self>, Vec<String>), ScriptError> {
        let natives = natives.iter().map(|&native| native.to_owned()).collect();
        let files = Files { sources: sources.to_vec(), natives };
        let loaded =
            load(Rc::new(files), MAIN, Limits::default()).map_err(|error| found_again(error, sources))?;
        let (script, mut doubts) = (loaded.script, loaded.warnings);
        let mut entrances = Vec::new();
        for source in sources {
            match script.entrance(&path_of(&source.name)) {
                Some(layout) => entrances.push(layout),
                None => {
                    let said = format!("{}: has no entrance pipeline: .pipeline()", path_of(&source.name));
                    return Err(ScriptError::plain(said));
                }
            }
        }
        // Only those that a plugin imports: the others are nowhere.
        let mut slots = Vec::new();
        for (variable, modules) in VARIABLES {
            let sources = script.engine.sources.borrow();
            let found = modules.iter().filter_map(|module| sources.slot_of(module, variable));
            slots.extend(found.map(|slot| (*variable, slot)));
        }
        let _ = script.host_slots.set(slots);
        doubts.extend(strangers(&script));
        let inbound = sources.iter().any(|source| source.script.contains("__inbound"));
        let sources = sources.to_vec();
        let plugins = Plugins { sources, script, entrances, inbound, objects: RefCell::default() };
        Ok((Rc::new(plugins), doubts))
    }

    /// Which of the plugins has this name.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.sources.iter().position(|source| source.name == name)
    }

    /// The variables of a request's plugins.
    ///
    /// # Errors
    /// When there is no memory for them.
    pub fn context(&self, id: u64, accepted: &Accepted) -> Result<Vars, ScriptError> {
        let vars = self.script.engine.fresh()?;
        // WHY: the object costs every request more than a simple callback does.
        if !self.inbound {
            return Ok(vars);
        }
        self.script.engine.with(|ctx| vars.set(ctx, 0, &inbound::object(ctx, id, accepted)?.into_value()))?;
        Ok(vars)
    }

    /// The filters of a plugin, of one direction but for the last ones, which give the response back to the left.
    ///
    /// # Errors
    /// When the variables cannot be made.
    pub fn pipeline(
        &self,
        position: usize,
        vars: &Vars,
        host: Rc<dyn Host>,
    ) -> Result<Vec<Box<dyn Filter>>, ScriptError> {
        let Some(entrance) = self.entrances.get(position) else { return Ok(Vec::new()) };
        self.tell(vars, &*host)?;
        let script = Rc::clone(&self.script);
        let family = Family::new(&script.engine);
        let scope = Scope { script, vars: vars.clone(), next: None, family, host: Some(host), output: None };
        if let Some(row) = entrance.to_host(&scope) {
            return Ok(row);
        }
        let mut row = entrance.pipeline(&scope, Vec::new());
        let engine = Rc::clone(&self.script.engine);
        row.push(Box::new(Responses { engine, label: entrance.label.clone() }));
        Ok(row)
    }

    /// Puts what the host knows into the variables that plugins import.
    fn tell(&self, vars: &Vars, host: &dyn Host) -> Result<(), ScriptError> {
        let slots = self.script.host_slots.get().map(Vec::as_slice).unwrap_or_default();
        if slots.is_empty() {
            return Ok(());
        }
        self.script.engine.with(|ctx| {
            for (name, slot) in slots {
                let value = match host.fact(name) {
                    Some(Fact::Json(text)) => self.object(ctx, &text)?,
                    fact => plain(ctx, fact)?,
                };
                vars.set(ctx, *slot, &value)?;
            }
            Ok(())
        })
    }

    fn object<'js>(&self, ctx: &Ctx<'js>, text: &Arc<str>) -> rquickjs::Result<Value<'js>> {
        // The text is kept beside the object, so that no other text can come to the same place.
        let place = text.as_ptr() as usize;
        if let Some((_, kept)) = self.objects.borrow().get(&place) {
            return kept.clone().restore(ctx);
        }
        let value = ctx.json_parse(text.as_bytes())?;
        let kept = rquickjs::Persistent::save(ctx, value.clone());
        let mut objects = self.objects.borrow_mut();
        // LIMIT: as many as services of a few plans; those of plans that are gone are made again or never asked for.
        if objects.len() >= 4096 {
            objects.clear();
        }
        objects.insert(place, (Arc::clone(text), kept));
        Ok(value)
    }

    /// Goes on with what promises and timers have to do. Once a step of the worker.
    pub fn step(&self, graph: &mut Graph) {
        bury();
        let engine = &self.script.engine;
        engine.run_timers(graph.now);
        engine.run_jobs();
        crate::spawn::run_requests(&self.script, graph);
        for pipeline in engine.orphans.take() {
            graph.close(pipeline);
        }
        for waker in engine.take_wakes() {
            graph.wake(waker);
        }
    }

    /// A result of work on another thread has come back; given back where none of these plugins has asked for it.
    pub fn finished(&self, id: u64, result: background::Result) -> Option<background::Result> {
        self.script.engine.finished(id, result)
    }

    /// When [`Plugins::step`] has something to do although nothing happens.
    pub fn due(&self) -> Option<Instant> {
        if self.script.engine.is_eager() {
            return Some(Instant::now());
        }
        self.script.engine.timers.due()
    }
}

/// States how results of work on other threads come back to this one: as [`Plugins::finished`] wants them. Without it such work is
/// done at once, and whoever asked for it waits.
pub fn set_way_back(way: background::Return) {
    background::set_way(way);
}

/// An error about a file that only names the plugins, or about none: as one about the plugin that it is about.
fn found_again(error: ScriptError, sources: &[Source]) -> ScriptError {
    if error.place.as_ref().is_some_and(|(file, _)| file != MAIN) {
        return error;
    }
    let without =
        |source: &&Source| error.message.contains(&format!("{} has no entrance", path_of(&source.name)));
    if let Some(source) = sources.iter().find(without) {
        let said = "has no entrance: a pipeline without a name, .pipeline()";
        let place = Place { line: 1, column: 1 };
        return ScriptError::at(said, &path_of(&source.name), place, &source.script);
    }
    let Some((_, file)) = error.message.split_once("cannot open script: /") else { return error };
    let naming = sources.iter().find_map(|source| Some((source, source.script.find(file)?)));
    let Some((source, offset)) = naming else { return error };
    let said = match file.starts_with(NATIVE) {
        true => format!("{file} is no stage of a chain"),
        false => format!("{file} is no file that a plugin can name"),
    };
    ScriptError::at(said, &path_of(&source.name), Place::of(&source.script, offset), &source.script)
}

/// Whether a namespace is that of a host's module, which a script alone may name, too, to be looked at.
pub(crate) fn has_variables(namespace: &str) -> bool {
    VARIABLES.iter().any(|(_, modules)| modules.contains(&namespace))
}

/// Variables that are imported from built-in modules, and that these do not have.
fn strangers(script: &Script) -> Vec<String> {
    let mut modules: Vec<&str> = VARIABLES.iter().flat_map(|(_, modules)| modules.iter().copied()).collect();
    modules.sort_unstable();
    modules.dedup();
    let sources = script.engine.sources.borrow();
    let mut found = Vec::new();
    for (module, name) in sources.shared() {
        let known = |of: &str| VARIABLES.iter().any(|(known, all)| *known == name && all.contains(&of));
        if modules.contains(&module) && !known(module) {
            let has: Vec<&str> =
                VARIABLES.iter().filter(|(_, all)| all.contains(&module)).map(|(n, _)| *n).collect();
            found.push(format!("'{module}' has no variable {name}; it has {}", has.join(", ")));
        } else if !modules.contains(&module) && BUILT_IN_SIDES.iter().any(|side| module.starts_with(side)) {
            found.push(format!(
                "no module is called '{module}'; those with variables are {}",
                modules.join(", ")
            ));
        }
    }
    found
}
const BUILT_IN_SIDES: &[&str] = &["inbound", "outbound", "connect-"];

/// A fact as a script sees it.
fn plain<'js>(ctx: &Ctx<'js>, fact: Option<Fact>) -> rquickjs::Result<Value<'js>> {
    Ok(match fact {
        None => Value::new_undefined(ctx.clone()),
        Some(Fact::Text(text)) => rquickjs::String::from_str(ctx.clone(), &text)?.into_value(),
        Some(Fact::Number(number)) => Value::new_number(ctx.clone(), number),
        Some(Fact::Truth(truth)) => Value::new_bool(ctx.clone(), truth),
        Some(Fact::Json(text)) => ctx.json_parse(text.as_bytes())?,
    })
}

/// Variables that are known only once the stages after the plugin have done their part.
const LATE: &[&str] = &["__target", "__metricLabel"];

/// What the script has put into `__cluster`.
pub(crate) fn written(scope: &Scope) -> Result<Written, ScriptError> {
    let engine = scope.engine();
    let slots: Vec<u32> = {
        let sources = engine.sources.borrow();
        ROUTING.iter().filter_map(|module| sources.slot_of(module, "__cluster")).collect()
    };
    if slots.is_empty() {
        return Ok(Written::new());
    }
    engine.with(|ctx| {
        let mut written = Written::new();
        for slot in slots {
            let value: Value<'_> = scope.vars.get(ctx, slot)?;
            let name = match value.as_object() {
                Some(object) => object.get::<_, Value<'_>>("name")?,
                None => value,
            };
            if let Some(name) = name.as_string() {
                written.push(("__cluster", name.to_string()?));
            }
        }
        Ok(written)
    })
}

/// The host's filters, with what makes requests of a script's into such that they know.
pub(crate) fn row(scope: &Scope, filters: Vec<Box<dyn Filter>>) -> Vec<Box<dyn Filter>> {
    let slots = scope.script.host_slots.get().map(Vec::as_slice).unwrap_or_default();
    let late = slots.iter().any(|(name, _)| LATE.contains(name)).then(|| scope.clone());
    let mut row: Vec<Box<dyn Filter>> = vec![Box::new(Requests { engine: Rc::clone(scope.engine()), late })];
    row.extend(filters);
    row
}

/// Makes heads that a script has made into heads of HTTP; tells the script what is known by the time of the response.
struct Requests {
    engine: Rc<Engine>,
    /// Whose variables those are, until they are told.
    late: Option<Scope>,
}

impl Requests {
    fn tell(scope: &Scope) -> Result<(), ScriptError> {
        let (Some(host), Some(slots)) = (&scope.host, scope.script.host_slots.get()) else { return Ok(()) };
        scope.engine().with(|ctx| {
            for (name, slot) in slots.iter().filter(|(name, _)| LATE.contains(name)) {
                scope.vars.set(ctx, *slot, &plain(ctx, host.fact(name))?)?;
            }
            Ok(())
        })
    }
}

impl Filter for Requests {
    fn name(&self) -> &'static str {
        "request"
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        let event = match script_event(&event) {
            Some(ScriptEvent::Start(head, length)) => {
                let made = self.engine.request_head(head);
                match made {
                    Ok(head) => {
                        let length = events::request_length(&head.method, *length);
                        Event::Start(Head::Request(head), length)
                    }
                    Err(error) => {
                        log::line("ERR", &format!("the request of a plugin cannot be sent: {error}"));
                        return cx.back(Event::Close(CloseReason::Script));
                    }
                }
            }
            Some(ScriptEvent::End(..)) => Event::End(None),
            Some(ScriptEvent::Failed(_)) => return cx.back(Event::Close(CloseReason::Script)),
            // A failure of the script is none of the server's: it is told to whom waits for the response.
            None if matches!(event, Event::Close(CloseReason::Script)) => return cx.back(event),
            None => event,
        };
        cx.forward(event);
    }

    fn output(&mut self, cx: &mut Cx<'_>, event: Event) {
        if matches!(event, Event::Start(..) | Event::Data(_))
            && let Some(scope) = self.late.take()
            && let Err(error) = Requests::tell(&scope)
        {
            log::line("ERR", &format!("a plugin cannot be told where its request went: {error}"));
        }
        cx.back(event);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    struct Nowhere;

    impl Host for Nowhere {
        fn fact(&self, _variable: &str) -> Option<Fact> {
            None
        }
        fn rest(&self) -> Vec<Box<dyn Filter>> {
            Vec::new()
        }
        fn stages(&self, _names: &[String], _written: &Written) -> Vec<Box<dyn Filter>> {
            Vec::new()
        }
    }

    #[test]
    fn work_of_a_plugin_is_done_while_others_are_served() {
        let (send, receive) = channel();
        let send = std::sync::Mutex::new(send);
        set_way_back(Arc::new(move |id, result| {
            let _ = send.lock().unwrap().send((id, result));
        }));
        let script = "pipy({ _found: '' }).pipeline()
            .replaceData(data => data.toString() === 'ask'
              ? DNS.resolve('127.0.0.1').then(found => (_found = found, new Data(`found ${found}`)))
              : new Data('served'))";
        let source = Source { name: "asks".into(), script: script.into() };
        let plugins = Plugins::load(&[source], &[]).unwrap();
        let mut world = pipy_testkit::World::default();
        let mut open = || {
            let local = std::net::SocketAddr::from(([127, 0, 0, 1], 80));
            let accepted = Accepted { peer: local, local, destination: local };
            let vars = plugins.context(1, &accepted).unwrap();
            let row = plugins.pipeline(0, &vars, Rc::new(Nowhere)).unwrap();
            world.accept_turning(row).0
        };
        let (asking, other) = (open(), open());
        world.say(asking, "ask");
        // The work is done, or being done, on another thread; its result has not been taken yet.
        world.say(other, "hello");
        plugins.step(&mut world.graph);
        world.run();
        assert_eq!((world.heard(asking), world.heard(other)), (String::new(), "served".to_owned()));
        let (id, result) = receive.recv_timeout(std::time::Duration::from_secs(30)).unwrap();
        assert!(plugins.finished(id, result).is_none());
        plugins.step(&mut world.graph);
        world.run();
        assert_eq!(world.heard(asking), "found 127.0.0.1");
        assert!(plugins.finished(id, Box::new(())).is_some(), "nobody has asked for it");
    }

    #[test]
    fn a_plugin_does_not_end_its_host() {
        let source = Source { name: "ends".into(), script: "pipy.exit(1), pipy().pipeline()".into() };
        let error = Plugins::load(&[source], &[]).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("pipy.exit() is not for plugins"), "{error}");
    }

    #[test]
    fn a_program_of_a_plugin_does_not_hold_its_host() {
        let script = "pipy.exec('sleep 30', { timeout: 20 }), pipy().pipeline()";
        let source = Source { name: "runs".into(), script: script.into() };
        let began = Instant::now();
        let error = Plugins::load(&[source], &[]).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("it took longer than 0.5 s"), "{error}");
        assert!(began.elapsed() < std::time::Duration::from_secs(15));
    }
}
