//! Layouts: what a script recorded about its pipelines, made ready to be instantiated.
//!
//! The prelude's builders leave plain objects; [`Script::read`] turns each into a [`Layout`]: callbacks kept, filters looked up
//! in the table, targets bound. INVARIANT: a layout that was bound has every target that it names.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};

use pipy_filters::Session;
use pipy_pipeline::{Filter, PipelineId, Port};
use rquickjs::{Array, Ctx, Exception, Function, Object, Persistent, Result, Value};

use crate::engine::{Callback, Engine, Kept, Vars};
use crate::filters::{self, listening::Listen, once, opening::Opening, options::Options};
use crate::modules::resolve;
use crate::nmi::Natives;
use crate::objects::connections::Listed;
use crate::plugin::Host;
use crate::spawn::Ended;

/// A pipeline as a script described it.
pub(crate) struct Layout {
    /// How messages about it call it.
    pub(crate) label: String,
    /// The number of the file that it is in.
    pub(crate) module: usize,
    on_start: OnceCell<Option<Kept>>,
    on_end: OnceCell<Option<Callback>>,
    pub(crate) filters: OnceCell<Vec<Rc<dyn FilterDef>>>,
}

/// One filter of a layout: makes the instances.
pub(crate) trait FilterDef {
    /// An instance for a pipeline in this scope.
    fn filter(&self, scope: &Scope) -> Box<dyn Filter>;

    /// The same as a filter of two directions, which may end a row of its own; where there is such a thing.
    fn native(&self, _scope: &Scope) -> Option<Vec<Box<dyn Filter>>> {
        None
    }

    /// The host's filters, where this one does nothing but lead to them.
    fn to_host(&self, _scope: &Scope) -> Option<Vec<Box<dyn Filter>>> {
        None
    }
}

/// What a joint filter leads to.
#[derive(Clone)]
pub(crate) struct Target(Weak<Layout>);

impl Target {
    /// The layout; it lives as long as its script.
    pub(crate) fn layout(&self) -> Option<Rc<Layout>> {
        self.0.upgrade()
    }
}

/// Where a filter instance lives: the script, the context, and what chain it is part of.
#[derive(Clone)]
pub(crate) struct Scope {
    pub(crate) script: Rc<Script>,
    pub(crate) vars: Vars,
    /// What `.chain()` leads to.
    pub(crate) next: Option<Rc<Next>>,
    /// What the contexts of one connection have in common.
    pub(crate) family: Rc<Family>,
    /// Who runs the script as a stage of its own chain; what the last `.chain()` leads to.
    pub(crate) host: Option<Rc<dyn Host>>,
    /// Where `output()` sends its events: the `input` around.
    pub(crate) output: Option<Port>,
}

/// Connections to servers that are kept for one client's connection alone, and end with it.
#[derive(Default)]
pub(crate) struct Family {
    sessions: RefCell<Vec<Rc<Session>>>,
    pipelines: RefCell<Vec<PipelineId>>,
    engine: Weak<Engine>,
    /// The client's connection, while it is open.
    _listed: Option<Listed>,
}

impl Family {
    /// The family of a client's connection.
    pub(crate) fn listed(engine: &Rc<Engine>, listed: Option<Listed>) -> Rc<Self> {
        let engine = Rc::downgrade(engine);
        Rc::new(Family {
            sessions: RefCell::default(),
            pipelines: RefCell::default(),
            engine,
            _listed: listed,
        })
    }

    pub(crate) fn new(engine: &Rc<Engine>) -> Rc<Self> {
        Family::listed(engine, None)
    }

    pub(crate) fn keep_pipeline(&self, pipeline: PipelineId) {
        self.pipelines.borrow_mut().push(pipeline);
    }

    pub(crate) fn keep(&self, session: &Rc<Session>) {
        let mut sessions = self.sessions.borrow_mut();
        sessions.retain(|kept| kept.reusable());
        if !sessions.iter().any(|kept| Rc::ptr_eq(kept, session)) {
            sessions.push(Rc::clone(session));
        }
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        let Some(engine) = self.engine.upgrade() else { return };
        engine.orphans.borrow_mut().extend(self.pipelines.take());
        for session in self.sessions.take() {
            session.retire();
            engine.orphans.borrow_mut().extend(session.pipeline());
        }
    }
}

/// The rest of a chain.
pub(crate) struct Next {
    pub(crate) layout: Weak<Layout>,
    pub(crate) rest: Option<Rc<Next>>,
}

impl Scope {
    pub(crate) fn engine(&self) -> &Rc<Engine> {
        &self.script.engine
    }

    /// The same scope for what may outlive the connection.
    pub(crate) fn outliving(&self) -> Scope {
        Scope { family: Family::new(self.engine()), ..self.clone() }
    }

    /// The same scope with variables of its own.
    pub(crate) fn cloned(&self) -> Scope {
        let vars = match self.engine().cloned(&self.vars) {
            Ok(vars) => vars,
            Err(error) => {
                crate::log::line("ERR", &format!("a context could not be cloned: {error}"));
                self.vars.clone()
            }
        };
        Scope { vars, ..self.clone() }
    }
}

impl Layout {
    /// The filters of a new pipeline. `arguments` are what its `onStart` is called with.
    pub(crate) fn pipeline(&self, scope: &Scope, arguments: Vec<Kept>) -> Vec<Box<dyn Filter>> {
        self.pipeline_telling(scope, arguments, &Ended::default())
    }

    /// The same, telling what its `onEnd` has returned.
    pub(crate) fn pipeline_telling(
        &self,
        scope: &Scope,
        arguments: Vec<Kept>,
        ended: &Ended,
    ) -> Vec<Box<dyn Filter>> {
        let mut row = Vec::new();
        self.begin(&mut row, scope, arguments, ended);
        let filters = self.filters.get().into_iter().flatten().map(|def| def.filter(scope));
        once::guarded(filters, &mut row);
        row
    }

    /// The filters of a new pipeline with those of the host in place of the last one, where that leads to them: what they give
    /// back then passes those before it, none of which looks.
    pub(crate) fn to_host(&self, scope: &Scope) -> Option<Vec<Box<dyn Filter>>> {
        let (last, before) = self.filters.get()?.split_last()?;
        let host = last.to_host(scope)?;
        let mut row = Vec::new();
        self.begin(&mut row, scope, Vec::new(), &Ended::default());
        once::guarded(before.iter().map(|def| def.filter(scope)), &mut row);
        row.extend(host);
        Some(row)
    }

    fn begin(&self, row: &mut Vec<Box<dyn Filter>>, scope: &Scope, arguments: Vec<Kept>, ended: &Ended) {
        let on_start = self.on_start.get().cloned().flatten();
        let on_end = self.on_end.get().cloned().flatten();
        if on_start.is_some() || on_end.is_some() {
            let opening = Opening::new(scope.clone(), self.label.clone(), on_start, on_end, arguments);
            row.push(Box::new(opening.telling(ended)));
        }
    }

    /// Whether the script wants to know that a pipeline begins.
    pub(crate) fn has_on_start(&self) -> bool {
        self.on_start.get().is_some_and(Option::is_some)
    }

    /// The filters, where they are one filter of two directions.
    pub(crate) fn native(&self, scope: &Scope) -> Option<Vec<Box<dyn Filter>>> {
        if self.on_start.get()?.is_some() || self.on_end.get()?.is_some() {
            return None;
        }
        match self.filters.get()?.as_slice() {
            [only] => only.native(scope),
            _ => None,
        }
    }
}

/// A script that was loaded: its layouts, and what they are for.
pub(crate) struct Script {
    pub(crate) engine: Rc<Engine>,
    /// Layouts, in the order in which they were recorded; a script may record more while it runs.
    layouts: RefCell<Vec<Rc<Layout>>>,
    /// Named pipelines by module; entrances have no name.
    names: RefCell<HashMap<(usize, String), usize>>,
    modules: RefCell<HashMap<String, usize>>,
    pub(crate) starts: OnceCell<Vec<Start>>,
    /// Where variables of a host are in every context; see [`crate::plugin`].
    pub(crate) host_slots: OnceCell<Vec<(&'static str, u32)>>,
}

/// What begins a pipeline without another one.
pub(crate) struct Start {
    /// `listen`, `task`, `watch`, `exit`, `admin`.
    pub(crate) kind: String,
    /// The address, the interval, the path.
    pub(crate) name: String,
    /// Options of a listener.
    pub(crate) listen: Listen,
    pub(crate) layout: Rc<Layout>,
}

/// What a row of the table is told about a filter that a script wrote.
pub(crate) struct Reading<'r, 'js> {
    pub(crate) ctx: &'r Ctx<'js>,
    pub(crate) name: &'static str,
    pub(crate) args: Vec<Value<'js>>,
    pub(crate) target: Option<Target>,
    pub(crate) label: String,
    pub(crate) module: usize,
    binder: &'r Binder<'r>,
}

struct Binder<'b> {
    layouts: &'b [Rc<Layout>],
    names: &'b HashMap<(usize, String), usize>,
    modules: &'b HashMap<String, usize>,
    files: &'b HashMap<usize, String>,
    natives: &'b Natives,
}

impl<'js> Reading<'_, 'js> {
    /// A function among the arguments.
    pub(crate) fn callback(&self, index: usize) -> Option<Callback> {
        let function = self.args.get(index)?.as_function()?;
        Some(Persistent::save(self.ctx, function.clone()))
    }

    /// The options, if that argument is an object of its own.
    pub(crate) fn options(&self, index: usize) -> Option<Object<'js>> {
        let object = self.args.get(index)?.as_object()?;
        (!object.is_function() && !object.is_array()).then(|| object.clone())
    }

    /// The options, if that argument is an object of its own; those that this filter does not have are refused.
    pub(crate) fn settings(&self, index: usize) -> Result<Option<Options<'_, 'js>>> {
        self.options(index).map(|object| Options::new(self.ctx, self.name, &self.label, object)).transpose()
    }

    /// An argument as it is.
    pub(crate) fn kept(&self, index: usize) -> Option<Kept> {
        let value = self.args.get(index)?;
        (!value.is_undefined()).then(|| Persistent::save(self.ctx, value.clone()))
    }

    /// An argument that is a string.
    pub(crate) fn string(&self, index: usize) -> Option<String> {
        self.args.get(index)?.as_string()?.to_string().ok()
    }

    /// The target that must be there.
    pub(crate) fn needed(&self) -> Result<Target> {
        self.target
            .clone()
            .ok_or_else(|| self.refuse("leads to a pipeline: missing .to(...) for the last filter"))
    }

    /// A pipeline by what stands for it: a layout, or the name of one of this file.
    pub(crate) fn bind(&self, value: &Value<'js>) -> Result<Target> {
        if let Some(layout) = value.as_object() {
            let id: usize = layout.get("id")?;
            return self
                .binder
                .layouts
                .get(id)
                .map(|layout| Target(Rc::downgrade(layout)))
                .ok_or_else(|| self.refuse("leads nowhere"));
        }
        let Some(name) = value.as_string() else { return Err(self.refuse("leads nowhere")) };
        self.named(self.module, &name.to_string()?)
    }

    /// A pipeline of this file by its name.
    pub(crate) fn named(&self, module: usize, name: &str) -> Result<Target> {
        match self.binder.names.get(&(module, name.to_owned())) {
            Some(id) => Ok(Target(Rc::downgrade(&self.binder.layouts[*id]))),
            None => Err(self.refuse(&format!("pipeline not found: {name}"))),
        }
    }

    /// The named pipelines of this file.
    pub(crate) fn names(&self) -> Vec<(String, Target)> {
        let mine = self.binder.names.iter().filter(|((module, _), _)| *module == self.module);
        let bound = mine.filter_map(|((_, name), id)| {
            Some((name.clone(), Target(Rc::downgrade(self.binder.layouts.get(*id)?))))
        });
        bound.collect()
    }

    /// A pipeline of another file: its entrance, or by name. `None` where it has none of that name.
    pub(crate) fn imported(&self, file: &str, name: Option<&str>) -> Result<Option<Target>> {
        let base = self.binder.files.get(&self.module).map(String::as_str).unwrap_or("/");
        let path = resolve(base, file);
        let Some(module) = self.binder.modules.get(&path) else {
            return Err(self.refuse(&format!("cannot open script: {path}")));
        };
        let id = self.binder.names.get(&(*module, name.unwrap_or_default().to_owned()));
        Ok(id.and_then(|id| self.binder.layouts.get(*id)).map(|layout| Target(Rc::downgrade(layout))))
    }

    /// The native modules that are loaded.
    pub(crate) fn natives(&self) -> &Natives {
        self.binder.natives
    }

    /// An error about this filter.
    pub(crate) fn refuse(&self, why: &str) -> rquickjs::Error {
        Exception::throw_type(self.ctx, &format!("{}: {}() {why}", self.label, self.name))
    }
}

impl Script {
    pub(crate) fn new(engine: Rc<Engine>) -> Rc<Self> {
        Rc::new(Script {
            engine,
            layouts: RefCell::default(),
            names: RefCell::default(),
            modules: RefCell::default(),
            starts: OnceCell::new(),
            host_slots: OnceCell::new(),
        })
    }

    /// The entrance pipeline of a file.
    pub(crate) fn entrance(&self, path: &str) -> Option<Rc<Layout>> {
        let module = self.modules.borrow().get(path).copied()?;
        let id = self.names.borrow().get(&(module, String::new())).copied()?;
        self.layouts.borrow().get(id).cloned()
    }

    /// The layout behind a template of the newer style.
    pub(crate) fn template<'js>(&self, ctx: &Ctx<'js>, value: &Value<'js>) -> Result<Option<Rc<Layout>>> {
        let id: i32 =
            self.engine.state_object(ctx)?.get::<_, Function<'_>>("layoutOf")?.call((value.clone(),))?;
        let layout = usize::try_from(id).ok().map(|id| self.layout(ctx, id)).transpose()?.flatten();
        match layout {
            Some(layout) => Ok(Some(layout)),
            None => {
                Err(Exception::throw_type(ctx, "the callback did not return a pipeline or the name of one"))
            }
        }
    }

    /// A layout by its number, which may have been recorded just now.
    pub(crate) fn layout(&self, ctx: &Ctx<'_>, id: usize) -> Result<Option<Rc<Layout>>> {
        if id >= self.layouts.borrow().len() {
            self.read_on(ctx)?;
        }
        Ok(self.layouts.borrow().get(id).cloned())
    }

    /// Reads what the builders recorded, and what it begins with.
    pub(crate) fn read<'js>(&self, ctx: &Ctx<'js>) -> Result<()> {
        self.read_on(ctx)?;
        let state = self.engine.state_object(ctx)?;
        let starts = starts(ctx, &state, &state.get("layouts")?, &self.layouts.borrow())?;
        let _ = self.starts.set(starts);
        Ok(())
    }

    /// Reads what the builders recorded since the last time.
    fn read_on(&self, ctx: &Ctx<'_>) -> Result<()> {
        let files = &self.engine.sources.borrow().paths();
        let recorded: Array<'_> = self.engine.state_object(ctx)?.get("layouts")?;
        let mut layouts = self.layouts.borrow().clone();
        let mut names = self.names.borrow().clone();
        let read = layouts.len();
        for (id, layout) in recorded.iter::<Object<'_>>().enumerate().skip(read) {
            let layout = layout?;
            let module: Object<'_> = layout.get("module")?;
            let module: usize = module.get("id")?;
            let kind: String = layout.get("kind")?;
            let name: String = layout.get::<_, Value<'_>>("name")?.get::<rquickjs::Coerced<String>>()?.0;
            let label = match kind.as_str() {
                "inline" => format!("a pipeline of {}", files.get(&module).map_or("?", String::as_str)),
                "pipeline" if name.is_empty() => files.get(&module).cloned().unwrap_or_default(),
                _ => format!("{kind} {name}"),
            };
            if kind == "pipeline" {
                names.insert((module, name), id);
            }
            layouts.push(Rc::new(Layout {
                label,
                module,
                on_start: OnceCell::new(),
                on_end: OnceCell::new(),
                filters: OnceCell::new(),
            }));
        }
        let modules: HashMap<String, usize> = files.iter().map(|(id, path)| (path.clone(), *id)).collect();
        let binder = Binder {
            layouts: &layouts,
            names: &names,
            modules: &modules,
            files,
            natives: &self.engine.natives,
        };
        for (layout, recorded) in layouts.iter().zip(recorded.iter::<Object<'_>>()).skip(read) {
            fill(ctx, layout, &recorded?, &binder)?;
        }
        self.layouts.replace(layouts);
        self.names.replace(names);
        self.modules.replace(modules);
        Ok(())
    }
}

fn fill<'js>(ctx: &Ctx<'js>, layout: &Rc<Layout>, recorded: &Object<'js>, binder: &Binder<'_>) -> Result<()> {
    let on_start: Value<'_> = recorded.get("onStart")?;
    let some = !on_start.is_null() && !on_start.is_undefined();
    let _ = layout.on_start.set(some.then(|| Persistent::save(ctx, on_start)));
    let on_end: Option<Function<'_>> = recorded.get("onEnd")?;
    let _ = layout.on_end.set(on_end.map(|callback| Persistent::save(ctx, callback)));
    let mut filters = Vec::new();
    for filter in recorded.get::<_, Array<'_>>("filters")?.iter::<Object<'_>>() {
        let filter = filter?;
        let name: String = filter.get("name")?;
        let Some(entry) = filters::TABLE.iter().find(|entry| entry.name == name) else { continue };
        let args: Vec<Value<'_>> = filter.get("args")?;
        let label = layout.label.clone();
        let mut reading =
            Reading { ctx, name: entry.name, args, target: None, label, module: layout.module, binder };
        let to: Value<'_> = filter.get("to")?;
        let mut made = Ok(());
        if !to.is_undefined() && !to.is_null() {
            made = reading.bind(&to).map(|target| reading.target = Some(target));
        }
        match made.and_then(|()| (entry.make)(&reading)) {
            Ok(made) => filters.push(made),
            Err(error) => return Err(placed(ctx, error, &filter)),
        }
    }
    let _ = layout.filters.set(filters);
    Ok(())
}

/// An error about a filter, at the place where the script calls for it.
fn placed<'js>(ctx: &Ctx<'js>, error: rquickjs::Error, filter: &Object<'js>) -> rquickjs::Error {
    if !error.is_exception() {
        return error;
    }
    let thrown = ctx.catch();
    if let (Some(exception), Ok(at)) = (thrown.as_object(), filter.get::<_, String>("at")) {
        // The stack is where the place of an error is read from; that of reading the layouts helps nobody.
        let _ = exception.set("stack", format!("    {at}\n"));
    }
    ctx.throw(thrown)
}

/// Listeners and tasks: those of the older style in the order of the layouts, then those of the newer.
fn starts<'js>(
    ctx: &Ctx<'js>,
    state: &Object<'js>,
    recorded: &Array<'js>,
    layouts: &[Rc<Layout>],
) -> Result<Vec<Start>> {
    let mut starts = Vec::new();
    for (layout, recorded) in layouts.iter().zip(recorded.iter::<Object<'_>>()) {
        let recorded = recorded?;
        let kind: String = recorded.get("kind")?;
        if kind == "inline" || kind == "pipeline" {
            continue;
        }
        let name = recorded.get::<_, Value<'_>>("name")?.get::<rquickjs::Coerced<String>>()?.0;
        let listen = Listen::read(ctx, &layout.label, recorded.get("options")?)?;
        starts.push(Start { kind, name, listen, layout: Rc::clone(layout) });
    }
    for listen in state.get::<_, Array<'_>>("listen")?.iter::<Object<'_>>() {
        let listen = listen?;
        let Some(layout) = listen.get::<_, Option<Object<'_>>>("layout")? else { continue };
        let name = listen.get::<_, Value<'_>>("where")?.get::<rquickjs::Coerced<String>>()?.0;
        let options = Listen::read(ctx, &format!("listen {name}"), listen.get("options")?)?;
        if let Some(layout) = layouts.get(layout.get::<_, usize>("id")?) {
            starts.push(Start { kind: "listen".into(), name, listen: options, layout: Rc::clone(layout) });
        }
    }
    Ok(starts)
}
