//! The objects of scripts, one file each. What needs the system is native; what is plain logic is JavaScript beside it.
//!
//! In: the globals of an engine whose prelude has run. Out: more globals. INVARIANT: nothing here is asked per event unless a
//! script calls it; natives that only the JavaScript of this folder needs are in one object, which scripts do not see.

use std::rc::Rc;

use rquickjs::{Ctx, Function, Object, Result};

use crate::engine::Engine;

mod bpf;
mod certificates;
mod ciphers;
pub(crate) mod connections;
mod dns;
mod hash;
mod keys;
pub(crate) mod loggers;
mod os;
pub(crate) mod overlay;
pub(crate) mod process;
mod protobuf;
pub(crate) mod quota;
pub(crate) mod sinks;
mod sqlite;
pub(crate) mod stats;
pub(crate) mod terminal;
pub(crate) mod value;
mod yaml;

/// Objects that come together: their names, the natives that they need, and what is said in JavaScript, each file a function
/// of the natives.
struct Group {
    names: &'static [&'static str],
    natives: &'static [Native],
    files: &'static [(&'static str, &'static str)],
}

type Native = for<'js> fn(&Ctx<'js>, &Object<'js>) -> Result<()>;

macro_rules! file {
    ($name:literal) => {
        ($name, include_str!($name))
    };
}

const GROUPS: &[Group] = &[
    Group {
        names: &["algo"],
        natives: &[hash::install, quota::install],
        files: &[file!("algo.js"), file!("balancers.js")],
    },
    Group {
        names: &["crypto"],
        natives: &[hash::install, keys::install, certificates::install, ciphers::install],
        files: &[file!("crypto.js"), file!("jwt.js")],
    },
    Group { names: &["YAML"], natives: &[yaml::install], files: &[file!("yaml.js")] },
    Group { names: &["IP", "Netmask", "IPMask", "IPEndpoint"], natives: &[], files: &[file!("netmask.js")] },
    Group { names: &["URL", "URLSearchParams"], natives: &[], files: &[file!("url.js")] },
    Group { names: &["stats"], natives: &[os::install, stats::install], files: &[file!("stats.js")] },
    Group { names: &["logging"], natives: &[os::install, loggers::install], files: &[file!("logging.js")] },
    Group { names: &["http"], natives: &[os::install], files: &[file!("http.js")] },
    Group { names: &["os"], natives: &[os::install], files: &[file!("os.js")] },
    Group { names: &["protobuf"], natives: &[protobuf::install], files: &[file!("protobuf.js")] },
    Group { names: &["CStruct", "CUnion", "CString"], natives: &[], files: &[file!("structs.js")] },
    Group { names: &["Int"], natives: &[], files: &[file!("int.js")] },
    Group { names: &["bpf"], natives: &[bpf::install], files: &[file!("bpf.js")] },
    Group { names: &["sqlite"], natives: &[sqlite::install], files: &[] },
];

/// Puts the objects into the globals. The prelude must have run, and `pipy.load` must be given.
///
/// A group is made when a script first names one of its objects: most scripts need few of them, and each costs memory and time.
pub(crate) fn install<'js>(ctx: &Ctx<'js>, load: Function<'js>, engine: &Rc<Engine>) -> Result<()> {
    let native = Object::new(ctx.clone())?;
    native.set("load", load)?;
    native.set("seconds", Function::new(ctx.clone(), seconds)?)?;
    // The object without its methods.
    native.set("os", ctx.globals().get::<_, Object<'js>>("os")?)?;
    dns::install(ctx, engine)?;
    run(ctx, &native, file!("json.js"))?;
    let names: Vec<&[&str]> = GROUPS.iter().map(|group| group.names).collect();
    let names: Vec<Vec<&str>> = names.into_iter().map(<[&str]>::to_vec).collect();
    native.set("groups", names)?;
    let kept = native.clone();
    let make = move |ctx: Ctx<'js>, native: Object<'js>, number: usize| -> Result<()> {
        let Some(group) = GROUPS.get(number) else { return Ok(()) };
        group.natives.iter().try_for_each(|install| install(&ctx, &native))?;
        group.files.iter().try_for_each(|file| run(&ctx, &native, *file))
    };
    native.set("make", Function::new(ctx.clone(), make)?)?;
    run(ctx, &kept, file!("lazy.js"))
}

fn run<'js>(ctx: &Ctx<'js>, native: &Object<'js>, (name, text): (&str, &str)) -> Result<()> {
    let mut options = rquickjs::context::EvalOptions::default();
    options.filename = Some(name.to_owned());
    let file: Function<'js> = ctx.eval_with_options(format!("({text}\n)"), options)?;
    file.call((native.clone(),))
}

fn seconds(ctx: Ctx<'_>, value: rquickjs::Value<'_>) -> Result<f64> {
    if value.is_undefined() || value.is_null() {
        return Ok(0.0);
    }
    let text = value.get::<rquickjs::Coerced<String>>()?.0;
    let plain =
        text.trim().parse().ok().and_then(|seconds| std::time::Duration::try_from_secs_f64(seconds).ok());
    plain.or_else(|| crate::filters::duration(&value)).map(|time| time.as_secs_f64()).ok_or_else(|| {
        let said = format!("{text:?} is no duration; write 5, '100ms', '5s', '2m', '1h' or '1d'");
        rquickjs::Exception::throw_type(&ctx, &said)
    })
}
