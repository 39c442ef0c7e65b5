//! What `pipy` says and does beyond pipelines: the process and its worker, other processes, changes of files.
//!
//! INVARIANTS: a script waits for another process for half a minute at most, then that is killed; files are watched on a thread of
//! their own, which ends with the script.

use std::cell::Cell;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rquickjs::function::Opt;
use rquickjs::{Coerced, Ctx, Exception, Function, IntoJs, Object, Promise, Result, Value};

use super::overlay::Overlay;
use crate::data::Data;
use crate::engine::Engine;
use crate::log;
use crate::modules::{Codebase, resolve};

/// What scripts are told about the process.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// The script and its arguments.
    pub arguments: Vec<String>,
    /// As it calls itself to a repository.
    pub uuid: String,
    /// The same.
    pub name: String,
    /// How many workers there are.
    pub threads: usize,
}

static ABOUT: OnceLock<About> = OnceLock::new();
static STARTED: LazyLock<(Instant, SystemTime)> = LazyLock::new(|| (Instant::now(), SystemTime::now()));

thread_local! {
    static WORKER: Cell<usize> = const { Cell::new(0) };
}

/// Says it once, before scripts are loaded.
pub fn describe(about: About) {
    LazyLock::force(&STARTED);
    // The first says it.
    let _ = ABOUT.set(about);
}

/// Says which worker this thread is.
pub fn set_worker(number: usize) {
    WORKER.set(number);
}

/// Which worker this thread is.
pub(crate) fn worker() -> usize {
    WORKER.get()
}

/// `__thread` and `pipy.thread`.
pub(crate) fn thread<'js>(ctx: &Ctx<'js>) -> Result<Object<'js>> {
    let thread = Object::new(ctx.clone())?;
    thread.set("id", WORKER.get())?;
    thread.set("concurrency", threads())?;
    Ok(thread)
}

/// How many workers there are.
pub(crate) fn threads() -> usize {
    ABOUT.get().map_or(1, |about| about.threads.max(1))
}

static RESTART: AtomicBool = AtomicBool::new(false);

/// Whether a script has asked to be loaded anew, since this was asked last.
pub fn restart_wanted() -> bool {
    RESTART.swap(false, Ordering::Relaxed)
}

/// What a script has asked to end with, and 1 more than that; 0 while it has not.
static EXIT: AtomicI64 = AtomicI64::new(0);

/// With which code a script has asked the process to end.
pub fn exit_wanted() -> Option<i32> {
    i32::try_from(EXIT.load(Ordering::Relaxed).checked_sub(1).filter(|code| *code >= 0)?).ok()
}

/// `pipy.exit(code)`: at once while a script is loaded, as SIGINT does once it runs.
pub(crate) fn exit(code: Opt<i32>) {
    let code = code.0.unwrap_or(0);
    if crate::background::is_worker() {
        // The first word counts. A code is one byte for the system.
        let _ = EXIT.compare_exchange(0, i64::from(code & 0xff) + 1, Ordering::Relaxed, Ordering::Relaxed);
        return;
    }
    super::sinks::flush();
    super::terminal::restore();
    std::process::exit(code)
}

/// How long another process may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// LIMIT: the same for a plugin, whose host's other requests wait meanwhile.
const PATIENCE_OF_PLUGINS: Duration = Duration::from_millis(500);
/// How often a watched file is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The words of a command, with quotes as shells have them.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut inside) = (Vec::new(), String::new(), None, false);
    for letter in text.chars() {
        match (quote, letter) {
            (Some(open), letter) if letter == open => quote = None,
            (Some(_), letter) => word.push(letter),
            (None, '"' | '\'') => (quote, inside) = (Some(letter), true),
            (None, letter) if letter.is_whitespace() => {
                if std::mem::take(&mut inside) {
                    words.push(std::mem::take(&mut word));
                }
            }
            (None, letter) => {
                word.push(letter);
                inside = true;
            }
        }
    }
    if inside {
        words.push(word);
    }
    words
}

fn exec<'js>(
    ctx: Ctx<'js>,
    command: Value<'js>,
    options: Opt<Object<'js>>,
    most: Duration,
) -> Result<Value<'js>> {
    let words: Vec<String> = match command.as_array() {
        Some(list) => {
            list.iter::<Coerced<String>>().map(|word| word.map(|word| word.0)).collect::<Result<_>>()?
        }
        None => words(&command.get::<Coerced<String>>()?.0),
    };
    let Some((program, arguments)) = words.split_first() else {
        return Err(Exception::throw_type(&ctx, "pipy.exec() expects a command"));
    };
    let failed = |error: String| Exception::throw_message(&ctx, &format!("cannot run {program}: {error}"));
    let (mut input, mut with_errors, mut patience, mut on_exit) = (None, false, most.min(PATIENCE), None);
    let mut run = Command::new(program);
    run.args(arguments).stdout(Stdio::piped());
    if let Some(options) = &options.0 {
        if let Some(env) = options.get::<_, Option<Object<'js>>>("env")? {
            for pair in env.props::<String, Coerced<String>>() {
                let (name, value) = pair?;
                run.env(name, value.0);
            }
        }
        let stdin: Value<'js> = options.get("stdin")?;
        if !stdin.is_undefined() && !stdin.is_null() {
            input = Some(Data::body_of(&stdin)?);
        }
        with_errors = options.get::<_, Option<Coerced<bool>>>("stderr")?.is_some_and(|wanted| wanted.0);
        if let Some(time) = crate::filters::duration(&options.get("timeout")?) {
            patience = time.min(most);
        }
        on_exit = options.get::<_, Option<Function<'js>>>("onExit")?;
    }
    run.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    if with_errors {
        run.stderr(Stdio::piped());
    }
    let mut child = run.spawn().map_err(|error| failed(error.to_string()))?;
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        // A process that reads nothing is no failure, and must not hold us up.
        std::thread::spawn(move || drop(stdin.write_all(&input)));
    }
    let gather = |source: Option<Box<dyn Read + Send>>| {
        let (send, receive) = channel();
        std::thread::spawn(move || {
            let mut out = Vec::new();
            let _ = source.map(|mut source| source.read_to_end(&mut out));
            let _ = send.send(out);
        });
        receive
    };
    let out = gather(child.stdout.take().map(|out| Box::new(out) as Box<dyn Read + Send>));
    let errors = gather(child.stderr.take().map(|out| Box::new(out) as Box<dyn Read + Send>));
    let until = Instant::now().checked_add(patience).unwrap_or_else(|| Instant::now() + PATIENCE);
    let left = || until.saturating_duration_since(Instant::now());
    let (Ok(stdout), Ok(stderr)) = (out.recv_timeout(left()), errors.recv_timeout(left())) else {
        let _ = child.kill();
        let _ = child.wait();
        return Err(failed(format!("it took longer than {} s and was killed", patience.as_secs_f64())));
    };
    let status = child.wait().map_err(|error| failed(error.to_string()))?;
    if let Some(on_exit) = on_exit {
        on_exit.call::<_, ()>((status.code().unwrap_or(-1), Data::new_js(&ctx, stderr.clone().into())?))?;
    }
    let mut all = stdout;
    if with_errors {
        all.extend_from_slice(&stderr);
    }
    Data::new_js(&ctx, all.into())
}

/// What a path leads to now: for a folder, all files below it.
fn stamps(path: &Path) -> Vec<(PathBuf, SystemTime, u64)> {
    let (mut found, mut open) = (Vec::new(), vec![path.to_owned()]);
    while let Some(path) = open.pop() {
        let Ok(known) = std::fs::metadata(&path) else { continue };
        if known.is_dir() {
            open.extend(std::fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        } else {
            found.push((path, known.modified().unwrap_or(UNIX_EPOCH), known.len()));
        }
    }
    found.sort();
    found
}

/// Ends the threads of an engine that watch files.
struct Alive(Arc<AtomicBool>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// `pipy.watch(path)`: a promise of the paths below it that have changed.
fn watch<'js>(ctx: &Ctx<'js>, engine: &Rc<Engine>, codebase: &Rc<Overlay>) -> Result<Function<'js>> {
    let (engine, codebase) = (Rc::downgrade(engine), Rc::clone(codebase));
    let alive = Alive(Arc::new(AtomicBool::new(true)));
    Function::new(ctx.clone(), move |ctx: Ctx<'js>, path: String| -> Result<Promise<'js>> {
        let engine = engine.upgrade().ok_or(rquickjs::Error::Unknown)?;
        let path = resolve("/", &path);
        // A codebase of a repository changes as a whole: the script is loaded anew.
        let Some(place) = codebase.place(&path) else { return Ok(ctx.promise()?.0) };
        // Without workers nothing is waited for: the script is only tried out.
        if !engine.has_way_back() {
            return Ok(ctx.promise()?.0);
        }
        let running = Arc::clone(&alive.0);
        let before = stamps(&place);
        let work = move || -> Vec<String> {
            loop {
                std::thread::sleep(LOOK);
                let now = stamps(&place);
                if now == before && running.load(Ordering::Relaxed) {
                    continue;
                }
                let changed = before
                    .iter()
                    .filter(|one| !now.contains(one))
                    .chain(now.iter().filter(|one| !before.contains(one)));
                let mut paths: Vec<String> = changed
                    .map(|(found, ..)| {
                        let below =
                            found.strip_prefix(&place).ok().filter(|rest| !rest.as_os_str().is_empty());
                        below.map_or_else(
                            || path.clone(),
                            |rest| format!("{}/{}", path.trim_end_matches('/'), rest.display()),
                        )
                    })
                    .collect();
                paths.sort();
                paths.dedup();
                return paths;
            }
        };
        engine.promise(&ctx, true, work, |ctx, paths| paths.into_js(ctx))
    })
}

/// Adds all of it to the `pipy` object.
pub(crate) fn install<'js>(
    ctx: &Ctx<'js>,
    pipy: &Object<'js>,
    engine: &Rc<Engine>,
    codebase: &Rc<Overlay>,
) -> Result<()> {
    let about = ABOUT.get().cloned().unwrap_or_default();
    pipy.set("argv", about.arguments)?;
    pipy.set("uuid", about.uuid)?;
    pipy.set("name", about.name)?;
    pipy.set("thread", thread(ctx)?)?;
    let since = STARTED.1.duration_since(UNIX_EPOCH).unwrap_or_default();
    pipy.set("since", (since.as_secs_f64() * 1000.0).floor())?;
    let version = Object::new(ctx.clone())?;
    version.set("tag", env!("CARGO_PKG_VERSION"))?;
    version.set("commit", "")?;
    version.set("date", "")?;
    pipy.set("version", version)?;
    let performance = Object::new(ctx.clone())?;
    performance.set("timeOrigin", since.as_secs_f64() * 1000.0)?;
    performance.set("now", Function::new(ctx.clone(), || STARTED.0.elapsed().as_secs_f64() * 1000.0)?)?;
    pipy.set("performance", performance)?;
    pipy.set("restart", Function::new(ctx.clone(), || RESTART.store(true, Ordering::Relaxed))?)?;
    super::connections::install(ctx, pipy)?;
    super::terminal::install(ctx, pipy)?;
    let most = if codebase.lends() { PATIENCE_OF_PLUGINS } else { Duration::MAX };
    let run = move |ctx: Ctx<'js>, command: Value<'js>, options: Opt<Object<'js>>| {
        exec(ctx, command, options, most)
    };
    pipy.set("exec", Function::new(ctx.clone(), run)?)?;
    pipy.set("watch", watch(ctx, engine, codebase)?)?;
    let files = Rc::clone(codebase);
    let patch = move |path: String, content: Opt<Value<'js>>| -> Result<()> {
        let content = content.0.filter(|content| !content.is_null() && !content.is_undefined());
        files.patch(
            &path,
            content.map(|content| Data::body_of(&content)).transpose()?.map(|bytes| bytes.to_vec()),
        );
        Ok(())
    };
    pipy.set("patch", Function::new(ctx.clone(), patch)?)?;
    let files = Rc::clone(codebase);
    let mount = move |ctx: Ctx<'js>, name: String, folder: String| -> Result<()> {
        let mounted = files.mount(&name, &PathBuf::from(folder));
        mounted.map_err(|error| Exception::throw_message(&ctx, &format!("pipy.mount(): {error}")))
    };
    pipy.set("mount", Function::new(ctx.clone(), mount)?)?;
    let files = Rc::clone(codebase);
    let unmount = move |name: String| {
        if !files.unmount(&name) {
            log::line("WRN", &format!("pipy.unmount(): nothing is mounted at {name}"));
        }
    };
    pipy.set("unmount", Function::new(ctx.clone(), unmount)?)
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn commands_are_words_with_quotes() {
        assert_eq!(words("echo  'a b' \"c'd\" e'f'"), ["echo", "a b", "c'd", "ef"]);
        assert_eq!(words("printf ''"), ["printf", ""]);
        assert!(words("  ").is_empty());
    }
}
