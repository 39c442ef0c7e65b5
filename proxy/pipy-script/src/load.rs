//! Loading: files are read, rewritten and run; what they recorded becomes a [`Script`].
//!
//! INVARIANT: a script that does not load leaves nothing behind; its error says file, line and column.

use std::rc::Rc;

use rquickjs::loader::{ImportAttributes, Loader, Resolver};
use rquickjs::module::Declared;
use rquickjs::{Class, Ctx, Error, Function, Module, Object, Result, Value};

use crate::data::Data;
use crate::engine::{Engine, Limits, bury};
use crate::error::ScriptError;
use crate::filters::{Joint, TABLE};
use crate::layout::Script;
use crate::modules::{Codebase, Sources, resolve};
use crate::objects::overlay::Overlay;
use crate::rejections::finish;
use crate::{console, pipy, raw};

const PRELUDE: &str = include_str!("prelude.js");

/// A script that is ready to run.
pub struct Loaded {
    pub(crate) script: Rc<Script>,
    /// The value of the main file, where it is no configuration, as people read it.
    pub value: Option<String>,
    /// Names that no file declares, each with its place: using one is an error.
    pub warnings: Vec<String>,
}

/// Loads a script, beginning with the file `main`.
///
/// # Errors
/// When a file is missing, is no JavaScript, throws, or describes pipelines that cannot be.
pub fn load(
    codebase: Rc<dyn Codebase>,
    main: &str,
    limits: Limits,
) -> std::result::Result<Loaded, ScriptError> {
    load_tamed(codebase, main, limits, "")
}

/// The same, with a function in JavaScript that is given what every `pipy` inherits before the script sees it.
pub(crate) fn load_tamed(
    codebase: Rc<dyn Codebase>,
    main: &str,
    limits: Limits,
    tame: &str,
) -> std::result::Result<Loaded, ScriptError> {
    // WHY: who loads to see whether it can be done lets go of it at once, and no turn of a worker follows that would bury it.
    bury();
    let engine = Engine::new(limits)?;
    let overlay = Overlay::over(codebase);
    let codebase: Rc<dyn Codebase> = Rc::clone(&overlay) as Rc<dyn Codebase>;
    engine.set_loader(Files { engine: Rc::downgrade(&engine), codebase: Rc::clone(&codebase) });
    engine.with(|ctx| {
        let pipy = begin(ctx, &engine, &codebase, &overlay)?;
        match tame {
            "" => Ok(()),
            tame => ctx.eval::<Function<'_>, _>(tame)?.call((pipy,)),
        }
    })?;
    let id = engine.sources.borrow_mut().read(&*codebase, main)?;
    engine.run(main)?;
    // Files that others name without importing them: `use`, `chain`.
    loop {
        let named = engine.named_files()?;
        let known = |file: &String| engine.sources.borrow().get(file).is_some() || codebase.is_native(file);
        let missing: Vec<String> = named.into_iter().filter(|file| !known(file)).collect();
        if missing.is_empty() {
            break;
        }
        for file in missing {
            engine.sources.borrow_mut().read(&*codebase, &file)?;
            engine.run(&file)?;
        }
    }
    crate::nmi::load(&engine)?;
    if let Some(error) = engine.sources.borrow().refused().filter(|_| !codebase.lends()) {
        return Err(error);
    }
    engine.run_jobs();
    let script = Script::new(Rc::clone(&engine));
    engine.with(|ctx| script.read(ctx))?;
    let warnings = engine.with(|ctx| unresolved(ctx, &engine))?;
    let value = engine.with(|ctx| {
        let module: Object<'_> = ctx.globals().get(format!("__m{id}"))?;
        let result: Value<'_> = module.get("result")?;
        let state = engine.state_object(ctx)?;
        let is_configuration: bool =
            state.get::<_, Function<'_>>("isConfiguration")?.call((result.clone(),))?;
        let shown = !is_configuration && !result.is_undefined() && !result.is_promise();
        Ok(shown.then(|| console::show(&result)))
    })?;
    Ok(Loaded { script, value, warnings })
}

/// The pipelines of a script, as JSON: `{roots: [node], nodes: [{name, t, c: [child], p: parent}]}`.
///
/// # Errors
/// When it does not load.
pub fn graph(text: &str) -> std::result::Result<String, ScriptError> {
    let loaded = load(Rc::new(crate::Inline(text.to_owned())), "/main.js", Limits::default())?;
    let engine = &loaded.script.engine;
    engine.with(|ctx| {
        let graph: Function<'_> = ctx.eval(format!("({}\n)", include_str!("objects/graph.js")))?;
        graph.call((engine.state_object(ctx)?,))
    })
}

/// Puts everything into the globals that scripts find there. Gives what every `pipy` inherits.
fn begin<'js>(
    ctx: &Ctx<'js>,
    engine: &Rc<Engine>,
    codebase: &Rc<dyn Codebase>,
    overlay: &Rc<Overlay>,
) -> Result<Object<'js>> {
    console::install(ctx)?;
    pipy::install(ctx)?;
    let native = Object::new(ctx.clone())?;
    Class::<Data>::define(&ctx.globals())?;
    native.set("Data", ctx.globals().get::<_, Value<'_>>("Data")?)?;
    if let Some(prototype) = Class::<Data>::prototype(ctx)? {
        native.set("textToData", raw::data_of_text(ctx, &prototype)?)?;
    }
    let filters: Vec<Vec<&str>> = TABLE
        .iter()
        .map(|entry| {
            let joint = match entry.joint {
                Joint::No => "",
                Joint::To => "to",
                Joint::Optional => "optional",
                Joint::Branches => "branches",
            };
            vec![entry.name, joint]
        })
        .collect();
    native.set("filters", filters)?;
    // The oldest style names the target in the first argument of these.
    native.set(
        "named",
        vec![
            "demux",
            "demuxQueue",
            "demuxHTTP",
            "fork",
            "mux",
            "muxQueue",
            "muxHTTP",
            "merge",
            "acceptTLS",
            "connectTLS",
            "acceptSOCKS",
            "connectSOCKS",
            "acceptHTTPTunnel",
        ],
    )?;
    let methods = pipy::object(ctx, codebase)?;
    crate::objects::process::install(ctx, &methods, engine, overlay)?;
    if codebase.lends() {
        // A host is not a plugin's to end.
        let refuse = |ctx: Ctx<'_>| -> Result<()> {
            Err(rquickjs::Exception::throw_message(&ctx, "pipy.exit() is not for plugins"))
        };
        methods.set("exit", Function::new(ctx.clone(), refuse)?)?;
    }
    let load: Function<'_> = methods.get("load")?;
    native.set("pipy", methods.clone())?;
    crate::timers::install(ctx, &native, engine)?;
    let asking = Rc::downgrade(engine);
    let changed = move || {
        if let Some(engine) = asking.upgrade() {
            engine.asked.set(true);
        }
    };
    native.set("changed", Function::new(ctx.clone(), changed)?)?;
    native.set("nearest", Function::new(ctx.clone(), nearest)?)?;
    native.set("similar", Function::new(ctx.clone(), similar)?)?;
    let files = Files { engine: Rc::downgrade(engine), codebase: Rc::clone(codebase) };
    let solving = files.clone();
    let solve = move |ctx: Ctx<'_>, path: String| solving.run_now(&ctx, &path);
    native.set("solve", Function::new(ctx.clone(), solve)?)?;
    native.set("import", Function::new(ctx.clone(), import_now)?)?;
    let prelude: Function<'_> = ctx.eval(format!("({PRELUDE}\n)"))?;
    let state: Object<'_> = prelude.call((native,))?;
    engine.know(ctx, &state)?;
    crate::objects::install(ctx, load, engine)?;
    let globals: Vec<String> =
        ctx.globals().own_keys(rquickjs::Filter::new().string()).collect::<Result<_>>()?;
    engine.sources.borrow_mut().set_globals(globals);
    Ok(methods)
}

/// `; did you mean X?`, where a name is near to one that exists.
fn nearest(name: String) -> String {
    let found = TABLE
        .iter()
        .map(|entry| {
            (strsim::damerau_levenshtein(&name.to_lowercase(), &entry.name.to_lowercase()), entry.name)
        })
        .min();
    match found {
        Some((distance, known)) if distance <= known.len() / 3 + 1 => format!("; did you mean {known}()?"),
        _ => String::new(),
    }
}

/// `, did you mean 'X'?`, where a name is near to one of these.
fn similar(name: String, known: Vec<String>) -> String {
    let distance = |known: &String| strsim::damerau_levenshtein(&name, known);
    match known.iter().map(|known| (distance(known), known)).min() {
        Some((distance, known)) if distance <= 1 + known.len() / 4 => format!(", did you mean '{known}'?"),
        _ => String::new(),
    }
}

/// `pipy.import()`: what a file exports, at once.
fn import_now<'js>(ctx: Ctx<'js>, base: String, name: String) -> Result<Value<'js>> {
    finish(&ctx, &Module::import(&ctx, resolve(&base, &name))?)
}

/// The names that files use and no one declares.
fn unresolved(ctx: &Ctx<'_>, engine: &Engine) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for (path, source) in engine.sources.borrow().all() {
        let module: Object<'_> = ctx.globals().get(format!("__m{}", source.module))?;
        let declared: Vec<String> = module.get::<_, Object<'_>>("slots")?.keys().collect::<Result<_>>()?;
        for (name, place) in &source.rewritten.unresolved {
            let hint = similar(name.clone(), declared.clone());
            found.push(format!(
                "{path}:{}:{}: unresolved identifier '{name}'{hint}",
                place.line, place.column
            ));
        }
    }
    Ok(found)
}

/// Gives the engine the files that are imported.
pub(crate) struct Files {
    engine: std::rc::Weak<Engine>,
    codebase: Rc<dyn Codebase>,
}

impl Resolver for Files {
    fn resolve<'js>(
        &mut self,
        _ctx: &Ctx<'js>,
        base: &str,
        name: &str,
        _attributes: Option<ImportAttributes<'js>>,
    ) -> Result<String> {
        Ok(resolve(base, name))
    }
}

impl Loader for Files {
    fn load<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        name: &str,
        _attributes: Option<ImportAttributes<'js>>,
    ) -> Result<Module<'js, Declared>> {
        let engine = self.engine.upgrade().ok_or_else(|| Error::new_loading(name))?;
        let read = engine.sources.borrow_mut().read(&*self.codebase, name);
        if let Err(error) = read {
            return Err(Error::new_loading_message(name, error.to_string()));
        }
        declare(ctx, &engine.sources, name)
    }
}

impl Files {
    /// `pipy.solve()`: runs a file, unless that was done, and gives its module's number.
    fn run_now(&self, ctx: &Ctx<'_>, path: &str) -> Result<usize> {
        let path = resolve("/", path);
        let engine = self.engine.upgrade().ok_or_else(|| Error::new_loading(&path))?;
        if let Some(source) = engine.sources.borrow().get(&path) {
            return Ok(source.module);
        }
        let read = engine.sources.borrow_mut().read(&*self.codebase, &path);
        match read {
            Ok(module) => {
                let (_, promise) = declare(ctx, &engine.sources, &path)?.eval()?;
                finish(ctx, &promise)?;
                Ok(module)
            }
            Err(error) => Err(rquickjs::Exception::throw_message(ctx, &error.to_string())),
        }
    }
}

impl Clone for Files {
    fn clone(&self) -> Self {
        Files { engine: self.engine.clone(), codebase: Rc::clone(&self.codebase) }
    }
}

/// Declares a file that was read, with the object that its free names are looked up in.
fn declare<'js>(
    ctx: &Ctx<'js>,
    sources: &std::cell::RefCell<Sources>,
    path: &str,
) -> Result<Module<'js, Declared>> {
    let (module, code, slots) = {
        let sources = sources.borrow();
        let source = sources.get(path).ok_or_else(|| Error::new_loading(path))?;
        let slots: Vec<(String, u32)> =
            source.rewritten.variables.iter().map(|(name, slot)| (name.clone(), *slot)).collect();
        (source.module, source.rewritten.code.clone(), slots)
    };
    let object = Object::new(ctx.clone())?;
    for (name, slot) in slots {
        object.set(name, slot)?;
    }
    let state: Object<'_> = ctx.globals().get("__pipy")?;
    state.get::<_, Function<'_>>("module")?.call::<_, Value<'_>>((module, path, object))?;
    Module::declare(ctx.clone(), path, code)
}

impl Engine {
    /// Runs a file that was read.
    fn run(&self, path: &str) -> std::result::Result<(), ScriptError> {
        self.with(|ctx| {
            let (_, promise) = declare(ctx, &self.sources, path)?.eval()?;
            // A script awaits nothing that is not there when it loads.
            finish(ctx, &promise).map(|_| ())
        })
    }

    /// The files that filters name.
    fn named_files(&self) -> std::result::Result<Vec<String>, ScriptError> {
        self.with(|ctx| {
            let state = self.state_object(ctx)?;
            let pairs: Vec<Vec<String>> = state.get::<_, Function<'_>>("files")?.call(())?;
            let resolved = pairs.iter().filter_map(|pair| match pair.as_slice() {
                [base, name] if name.ends_with(".js") => Some(resolve(base, name)),
                _ => None,
            });
            Ok(resolved.collect())
        })
    }
}
