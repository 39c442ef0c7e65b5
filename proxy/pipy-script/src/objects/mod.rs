//! The objects of scripts, one file each. What needs the system is native; what is plain logic is JavaScript beside it.
//!
//! In: the globals of an engine whose prelude has run. Out: more globals. INVARIANT: nothing here is asked per event unless a
//! script calls it; natives that only the JavaScript of this folder needs are in one object, which scripts do not see.

use std::rc::Rc;

use rquickjs::{Ctx, Function, Object, Result};

use crate::engine::Engine;

mod certificates;
mod ciphers;
mod dns;
mod hash;
mod keys;
pub(crate) mod loggers;
mod os;
pub(crate) mod overlay;
pub(crate) mod process;
mod protobuf;
mod quota;
pub(crate) mod sinks;
mod sqlite;
pub(crate) mod stats;
pub(crate) mod value;
mod yaml;

/// What is said in JavaScript; each file is a function of the natives.
const FILES: &[(&str, &str)] = &[
    ("algo.js", include_str!("algo.js")),
    ("balancers.js", include_str!("balancers.js")),
    ("crypto.js", include_str!("crypto.js")),
    ("jwt.js", include_str!("jwt.js")),
    ("json.js", include_str!("json.js")),
    ("netmask.js", include_str!("netmask.js")),
    ("url.js", include_str!("url.js")),
    ("stats.js", include_str!("stats.js")),
    ("logging.js", include_str!("logging.js")),
    ("http.js", include_str!("http.js")),
    ("os.js", include_str!("os.js")),
    ("protobuf.js", include_str!("protobuf.js")),
    ("structs.js", include_str!("structs.js")),
];

/// Puts the objects into the globals. The prelude must have run, and `pipy.load` must be given.
pub(crate) fn install<'js>(ctx: &Ctx<'js>, load: Function<'js>, engine: &Rc<Engine>) -> Result<()> {
    let native = Object::new(ctx.clone())?;
    native.set("load", load)?;
    dns::install(ctx, engine)?;
    protobuf::install(ctx, &native)?;
    sqlite::install(ctx)?;
    yaml::install(ctx, &native)?;
    hash::install(ctx, &native)?;
    keys::install(ctx, &native)?;
    certificates::install(ctx, &native)?;
    ciphers::install(ctx, &native)?;
    os::install(ctx, &native)?;
    loggers::install(ctx, &native)?;
    quota::install(ctx, &native)?;
    stats::install(ctx, &native)?;
    for (name, text) in FILES {
        let options = {
            let mut options = rquickjs::context::EvalOptions::default();
            options.filename = Some((*name).to_owned());
            options
        };
        let file: Function<'js> = ctx.eval_with_options(format!("({text}\n)"), options)?;
        file.call::<_, ()>((native.clone(),))?;
    }
    Ok(())
}
