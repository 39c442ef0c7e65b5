//! The natives of `bpf`: programs and maps of the kernel.
//!
//! In: object files as compilers write them. Out: descriptors and bytes; what they mean is `bpf.js`'s. INVARIANT: descriptors are
//! closed with the engine that opened them: what shall outlive it is attached or pinned.
//!
//! Not here: attaching to network devices (`ip` and `tc` do that with what is pinned).

mod btf;
mod object_file;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::rc::Rc;

use bytes::Bytes;
use pipy_protocols::{Object as Plain, Value as PlainValue};
use pipy_sys::bpf::{self, Map, MapInfo, MapShape};
use rquickjs::{Ctx, Exception, Function, Object, Result, Value};
use slab::Slab;

use self::object_file::{MapDef, ObjectFile};
use super::value::to_js;
use crate::data::Data;
use crate::log;

#[derive(Default)]
struct Opened {
    files: RefCell<Vec<Rc<ObjectFile>>>,
    maps: RefCell<Slab<Rc<Map>>>,
    programs: RefCell<BTreeMap<RawFd, OwnedFd>>,
}

fn failed(ctx: &Ctx<'_>, what: &str, error: &io::Error) -> rquickjs::Error {
    let hint = match error.raw_os_error() {
        Some(1) => "; pipy needs root, or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON",
        Some(38) => "; this kernel has no bpf(2)",
        _ => "",
    };
    Exception::throw_message(ctx, &format!("bpf: {what}: {error}{hint}"))
}

/// Whether what changes the machine is left to the workers: where a script is only looked at, it must not be done, for its maps would
/// be others than those that the workers' script sees. What is said here is heard where no worker will run.
fn left_to_workers(what: &str) -> bool {
    let held = log::is_held();
    if held {
        log::line(
            "WRN",
            &format!("bpf.{what}() has done nothing: the script has neither a listener nor a task"),
        );
    }
    held
}

/// Pins; what was pinned there before, by the script before this one, goes.
fn pin(path: &Path, descriptor: RawFd) -> io::Result<()> {
    const BPF_FS_MAGIC: u64 = 0xcafe_4a11;
    match bpf::pin(path, descriptor) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // Nothing else is ever removed.
            if rustix::fs::statfs(path)?.f_type as u64 != BPF_FS_MAGIC {
                return Err(error);
            }
            std::fs::remove_file(path)?;
            bpf::pin(path, descriptor)
        }
        done => done,
    }
}

fn bytes(ctx: &Ctx<'_>, value: &Value<'_>) -> Result<Bytes> {
    Data::of(value).ok_or_else(|| Exception::throw_type(ctx, "bpf: expected Data"))
}

fn count(number: usize) -> PlainValue {
    i64::try_from(number).unwrap_or(i64::MAX).into()
}

fn named(info: &MapInfo) -> Plain {
    Plain::new()
        .with("name", info.name.clone())
        .with("id", info.id)
        .with("type", info.kind)
        .with("flags", info.flags)
        .with("maxEntries", info.entries_max)
        .with("keySize", info.key_bytes)
        .with("valueSize", info.value_bytes)
}

fn defined(map: &MapDef) -> PlainValue {
    Plain::new()
        .with("name", map.name.clone())
        .with("type", map.kind)
        .with("flags", map.flags)
        .with("maxEntries", map.entries_max)
        .with("keySize", map.key_bytes)
        .with("valueSize", map.value_bytes)
        .with("keyType", map.key_type.clone().unwrap_or_default())
        .with("valueType", map.value_type.clone().unwrap_or_default())
        .with("isVariables", map.content.is_some())
        .into()
}

fn create(def: &MapDef) -> io::Result<Map> {
    let shape = MapShape {
        name: &def.name,
        kind: def.kind,
        flags: def.flags,
        entries_max: def.entries_max,
        key_bytes: def.key_bytes,
        value_bytes: def.value_bytes,
    };
    let map = Map::create(&shape)?;
    if let Some((content, constant)) = &def.content {
        map.update(&[0; 4], content, 0)?;
        if *constant {
            map.freeze()?;
        }
    }
    Ok(map)
}

impl Opened {
    fn file(&self, ctx: &Ctx<'_>, number: usize) -> Result<Rc<ObjectFile>> {
        let file = self.files.borrow().get(number).cloned();
        file.ok_or_else(|| Exception::throw_message(ctx, "bpf: there is no such object file"))
    }

    fn map(&self, ctx: &Ctx<'_>, number: usize) -> Result<Rc<Map>> {
        let map = self.maps.borrow().get(number).cloned();
        map.ok_or_else(|| Exception::throw_message(ctx, "bpf: the map is closed"))
    }

    fn keep(&self, map: Map) -> usize {
        self.maps.borrow_mut().insert(Rc::new(map))
    }

    fn read<'js>(&self, ctx: &Ctx<'js>, data: &Value<'js>) -> Result<Value<'js>> {
        let read = ObjectFile::read(&bytes(ctx, data)?);
        let file = read.map_err(|error| Exception::throw_message(ctx, &format!("bpf.object(): {error}")))?;
        let maps: Vec<PlainValue> = file.maps.iter().map(defined).collect();
        let programs = file.programs.iter().map(|program| {
            let of = Plain::new().with("name", program.name.clone()).with("section", program.section.clone());
            let maps: Vec<PlainValue> = program.maps().map(count).collect();
            of.with("size", count(program.instructions.len())).with("maps", maps).into()
        });
        let programs: Vec<PlainValue> = programs.collect();
        let mut files = self.files.borrow_mut();
        let told =
            Plain::new().with("file", count(files.len())).with("maps", maps).with("programs", programs);
        files.push(Rc::new(file));
        to_js(ctx, &told.into())
    }

    fn load(&self, ctx: &Ctx<'_>, file: usize, program: usize, how: &Object<'_>) -> Result<RawFd> {
        let (kind, attach_type): (u32, u32) = (how.get("kind")?, how.get("attach")?);
        let license: Option<String> = how.get("license")?;
        let maps: Vec<i32> = how.get("maps")?;
        let file = self.file(ctx, file)?;
        let Some(program) = file.programs.get(program) else {
            return Err(Exception::throw_message(ctx, "bpf: there is no such program"));
        };
        let license = license.as_deref().unwrap_or(&file.license);
        let loaded = bpf::load_program(&program.name, kind, attach_type, &program.linked(&maps), license);
        let descriptor = loaded.map_err(|refused| {
            // The last lines say what is wrong, those before how the verifier came there.
            let lines: Vec<&str> = refused.log.trim().lines().rev().take(LOG_LINES_MAX).collect();
            let log = lines.into_iter().rev().map(|line| format!("\n  {line}")).collect::<String>();
            let error = failed(ctx, &format!("cannot load the program {}", program.name), &refused.error);
            if log.is_empty() {
                return error;
            }
            drop(ctx.catch());
            let said =
                format!("bpf: the kernel refuses the program {}: {}{log}", program.name, refused.error);
            Exception::throw_message(ctx, &said)
        })?;
        let number = descriptor.as_raw_fd();
        self.programs.borrow_mut().insert(number, descriptor);
        Ok(number)
    }
}

/// LIMIT: lines of the verifier's in an error.
const LOG_LINES_MAX: usize = 8;

/// Adds the natives.
pub(super) fn install<'js>(ctx: &Ctx<'js>, native: &Object<'js>) -> Result<()> {
    let opened = Rc::new(Opened::default());
    let bpf = Object::new(ctx.clone())?;
    macro_rules! native {
        ($name:literal, $function:expr) => {{
            bpf.set($name, Function::new(ctx.clone(), $function)?)?;
        }};
    }
    let of = Rc::clone(&opened);
    native!("read", move |ctx: Ctx<'js>, data: Value<'js>| of.read(&ctx, &data));
    let of = Rc::clone(&opened);
    native!("make", move |ctx: Ctx<'js>, file: usize, map: usize| -> Result<usize> {
        let file = of.file(&ctx, file)?;
        let Some(def) = file.maps.get(map) else {
            return Err(Exception::throw_message(&ctx, "bpf: there is no such map"));
        };
        let made = create(def)
            .map_err(|error| failed(&ctx, &format!("cannot make the map {}", def.name), &error))?;
        Ok(of.keep(made))
    });
    let of = Rc::clone(&opened);
    native!("open", move |ctx: Ctx<'js>, id: u32| -> Result<usize> {
        let map =
            Map::open(id).map_err(|error| failed(&ctx, &format!("cannot open the map {id}"), &error))?;
        Ok(of.keep(map))
    });
    let of = Rc::clone(&opened);
    native!("info", move |ctx: Ctx<'js>, map: usize| -> Result<Value<'js>> {
        let map = of.map(&ctx, map)?;
        to_js(&ctx, &named(map.info()).with("fd", map.descriptor()).into())
    });
    let of = Rc::clone(&opened);
    native!("lookup", move |ctx: Ctx<'js>, map: usize, key: Value<'js>| -> Result<Option<Value<'js>>> {
        let found = of.map(&ctx, map)?.lookup(&bytes(&ctx, &key)?);
        let found = found.map_err(|error| failed(&ctx, "cannot look up", &error))?;
        found.map(|value| Data::new_js(&ctx, value.into())).transpose()
    });
    let of = Rc::clone(&opened);
    native!("next", move |ctx: Ctx<'js>, map: usize, key: Value<'js>| -> Result<Option<Value<'js>>> {
        let key = if key.is_undefined() { None } else { Some(bytes(&ctx, &key)?) };
        let next = of.map(&ctx, map)?.next_key(key.as_deref());
        let next = next.map_err(|error| failed(&ctx, "cannot list keys", &error))?;
        next.map(|key| Data::new_js(&ctx, key.into())).transpose()
    });
    let of = Rc::clone(&opened);
    native!("update", move |ctx: Ctx<'js>, map: usize, key: Value<'js>, value: Value<'js>, flags: u32| {
        let done = of.map(&ctx, map)?.update(&bytes(&ctx, &key)?, &bytes(&ctx, &value)?, flags.into());
        done.map_err(|error| failed(&ctx, "cannot update", &error))
    });
    let of = Rc::clone(&opened);
    native!("delete", move |ctx: Ctx<'js>, map: usize, key: Value<'js>| -> Result<bool> {
        let gone = of.map(&ctx, map)?.delete(&bytes(&ctx, &key)?);
        gone.map_err(|error| failed(&ctx, "cannot delete", &error))
    });
    let of = Rc::clone(&opened);
    native!("close", move |map: usize| drop(of.maps.borrow_mut().try_remove(map)));
    let of = Rc::clone(&opened);
    native!("load", move |ctx: Ctx<'js>, file: usize, program: usize, how: Object<'js>| -> Result<RawFd> {
        of.load(&ctx, file, program, &how)
    });
    native!("pin", |ctx: Ctx<'js>, path: String, descriptor: i32| -> Result<()> {
        if left_to_workers("pin") {
            return Ok(());
        }
        let done = pin(Path::new(&path), descriptor);
        done.map_err(|error| failed(&ctx, &format!("cannot pin {path}"), &error))
    });
    native!("attach", |ctx: Ctx<'js>, kind: u32, program: i32, path: String| -> Result<()> {
        if left_to_workers("attach") {
            return Ok(());
        }
        let done = File::open(&path).and_then(|group| bpf::attach(kind, program, &group));
        done.map_err(|error| failed(&ctx, &format!("cannot attach to {path}"), &error))
    });
    native!("detach", |ctx: Ctx<'js>, kind: u32, program: i32, path: String| -> Result<()> {
        if left_to_workers("detach") {
            return Ok(());
        }
        let done = File::open(&path).and_then(|group| bpf::detach(kind, program, &group));
        done.map_err(|error| failed(&ctx, &format!("cannot detach from {path}"), &error))
    });
    native!("cgroup", |ctx: Ctx<'js>, path: String| -> Result<f64> {
        // The number by which programs know a group is that of its folder.
        let folder = std::fs::metadata(&path).map_err(|error| failed(&ctx, &path, &error))?;
        Ok(folder.ino() as f64)
    });
    native!("maps", |ctx: Ctx<'js>| -> Result<Value<'js>> {
        let all = bpf::maps().map_err(|error| failed(&ctx, "cannot list maps", &error))?;
        let all: Vec<PlainValue> = all.iter().map(|info| named(info).into()).collect();
        to_js(&ctx, &all.into())
    });
    native!("programs", |ctx: Ctx<'js>| -> Result<Value<'js>> {
        let all = bpf::programs().map_err(|error| failed(&ctx, "cannot list programs", &error))?;
        let all = all
            .into_iter()
            .map(|(id, kind, name)| Plain::new().with("id", id).with("type", kind).with("name", name).into());
        to_js(&ctx, &all.collect::<Vec<PlainValue>>().into())
    });
    native.set("bpf", bpf)
}
