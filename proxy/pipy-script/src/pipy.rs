//! The `pipy` object: files of the codebase, the process, and what runs besides connections.

use std::rc::Rc;

use rquickjs::function::{Opt, Rest};
use rquickjs::{Ctx, Exception, Function, Object, Result, Value};

use crate::data::Data;
use crate::modules::{Codebase, resolve};

/// Makes the object whose methods each module's `pipy` has.
pub(crate) fn object<'js>(ctx: &Ctx<'js>, codebase: &Rc<dyn Codebase>) -> Result<Object<'js>> {
    let pipy = Object::new(ctx.clone())?;
    let files = Rc::clone(codebase);
    let load = move |ctx: Ctx<'js>, path: String| -> Result<Value<'js>> {
        match files.file(&resolve("/", &path)) {
            Some(bytes) => Data::new_js(&ctx, bytes.into()),
            None => Ok(Value::new_null(ctx)),
        }
    };
    pipy.set("load", Function::new(ctx.clone(), load)?)?;
    let files = Rc::clone(codebase);
    let list = move |folder: Opt<String>| -> Vec<String> {
        let folder = resolve("/", folder.0.as_deref().unwrap_or_default());
        let below = |path: &String| path.trim_start_matches(&folder).trim_start_matches('/').to_owned();
        files.list(&folder).iter().map(below).collect()
    };
    pipy.set("list", Function::new(ctx.clone(), list)?)?;
    pipy.set("pid", std::process::id())?;
    pipy.set("now", Function::new(ctx.clone(), now)?)?;
    pipy.set("exit", Function::new(ctx.clone(), crate::objects::process::exit)?)?;
    Ok(pipy)
}

fn now() -> f64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    since.as_secs_f64() * 1000.0
}

/// Puts the functions without an object into the globals: `print`, `println`, and `os`.
pub(crate) fn install(ctx: &Ctx<'_>) -> Result<()> {
    let globals = ctx.globals();
    for (name, end) in [("print", ""), ("println", "\n")] {
        let print = move |values: Rest<Value<'_>>| {
            let line: Vec<String> = values.0.iter().map(crate::console::show).collect();
            crate::log::print(&format!("{}{end}", line.join(" ")));
        };
        globals.set(name, Function::new(ctx.clone(), print)?)?;
    }
    let os = Object::new(ctx.clone())?;
    let env = Object::new(ctx.clone())?;
    for (name, value) in std::env::vars_os() {
        env.set(name.to_string_lossy().as_ref(), value.to_string_lossy().as_ref())?;
    }
    os.set("env", env)?;
    os.set("readFile", Function::new(ctx.clone(), read_file)?)?;
    globals.set("os", os)
}

fn read_file<'js>(ctx: Ctx<'js>, path: String) -> Result<Value<'js>> {
    match std::fs::read(&path) {
        Ok(bytes) => Data::new_js(&ctx, bytes.into()),
        Err(error) => Err(Exception::throw_message(&ctx, &format!("cannot read {path}: {error}"))),
    }
}
