//! Natives of `logging`: loggers write lines to sinks, and the last of what each wrote is kept for who asks (`/log/NAME`).

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use rquickjs::class::Trace;
use rquickjs::{Class, Ctx, Exception, Function, JsLifetime, Object, Result, Value};

use super::sinks::{Batch, LogFile, Remote, Rotation, Sink, Syslog, Target, shared};
use crate::data::Data;

/// LIMIT: bytes of history of one name.
static HISTORY_MAX: AtomicUsize = AtomicUsize::new(1 << 20);
static HISTORY: LazyLock<Mutex<BTreeMap<String, History>>> = LazyLock::new(Mutex::default);

#[derive(Default)]
struct History {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Who reads along.
    readers: Vec<SyncSender<Vec<u8>>>,
}

/// LIMIT: lines that wait for a reader; one that falls behind further is let go.
const READER_LINES: usize = 4096;

/// How many bytes are kept of each log.
pub fn keep_history(bytes: usize) {
    HISTORY_MAX.store(bytes, Ordering::Relaxed);
}

/// Keeps what a log of this name says.
pub(crate) fn note(name: &str, line: &[u8]) {
    let max = HISTORY_MAX.load(Ordering::Relaxed);
    let mut all = HISTORY.lock().unwrap_or_else(PoisonError::into_inner);
    if max > 0 && !all.contains_key(name) {
        all.insert(name.to_owned(), History::default());
    }
    let Some(history) = all.get_mut(name) else { return };
    history.readers.retain(|reader| reader.try_send(line.to_vec()).is_ok());
    if max == 0 {
        return;
    }
    history.bytes += line.len();
    history.lines.push_back(line.to_vec());
    while history.bytes > max {
        let Some(oldest) = history.lines.pop_front() else { break };
        history.bytes -= oldest.len();
    }
}

/// The names of all logs that have said something.
pub fn log_names() -> Vec<String> {
    let all = HISTORY.lock().unwrap_or_else(PoisonError::into_inner);
    all.iter().filter(|(_, history)| !history.lines.is_empty()).map(|(name, _)| name.clone()).collect()
}

/// What a log has said, and each line that it says from then on.
pub fn follow_log(name: &str) -> (Vec<u8>, Receiver<Vec<u8>>) {
    let mut all = HISTORY.lock().unwrap_or_else(PoisonError::into_inner);
    let history = all.entry(name.to_owned()).or_default();
    let (send, lines) = sync_channel(READER_LINES);
    history.readers.push(send);
    (history.lines.iter().flatten().copied().collect(), lines)
}

/// What a log has said; `None` where there is none of that name.
pub fn log_history(name: &str) -> Option<Vec<u8>> {
    let all = HISTORY.lock().unwrap_or_else(PoisonError::into_inner);
    let history = all.get(name).filter(|history| !history.lines.is_empty())?;
    Some(history.lines.iter().flatten().copied().collect())
}

/// Where a logger writes.
#[derive(Trace, JsLifetime)]
#[rquickjs::class]
struct Outlet {
    #[qjs(skip_trace)]
    sink: Arc<dyn Sink>,
}

#[rquickjs::methods]
impl Outlet {
    /// Writes a line; why that failed, if it did.
    fn write(&self, line: Value<'_>) -> Result<Option<String>> {
        Ok(self.sink.write(&Data::body_of(&line)?).err())
    }
}

fn outlet<'js>(
    ctx: &Ctx<'js>,
    sink: std::result::Result<Arc<dyn Sink>, String>,
) -> Result<Class<'js, Outlet>> {
    let sink = sink.map_err(|error| Exception::throw_message(ctx, &format!("logging: {error}")))?;
    Class::instance(ctx.clone(), Outlet { sink })
}

fn seconds(object: &Object<'_>, name: &str) -> Result<Option<Duration>> {
    let seconds: Option<f64> = object.get(name)?;
    Ok(seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).filter(|time| !time.is_zero()))
}

fn file<'js>(ctx: Ctx<'js>, path: String, append: bool, options: Object<'js>) -> Result<Class<'js, Outlet>> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a size in bytes
    let rotation = Rotation {
        size: options.get::<_, Option<f64>>("size")?.unwrap_or(0.0).max(0.0) as u64,
        count: options.get::<_, Option<u32>>("count")?.unwrap_or(9),
        interval: seconds(&options, "interval")?,
    };
    outlet(&ctx, shared(format!("file {path}"), || LogFile::open(&path, append, rotation)))
}

fn http<'js>(ctx: Ctx<'js>, url: String, options: Object<'js>) -> Result<Class<'js, Outlet>> {
    let batch: Object<'js> = options.get("batch")?;
    let text =
        |name: &str| -> Result<String> { Ok(batch.get::<_, Option<String>>(name)?.unwrap_or_default()) };
    let headers: Object<'js> = options.get("headers")?;
    let target = Target {
        url: url.clone(),
        method: options.get("method")?,
        headers: headers.props::<String, String>().collect::<Result<_>>()?,
        trusted: options.get("trusted")?,
        limit: options.get("limit")?,
        batch: Batch {
            size: batch.get::<_, usize>("size")?.max(1),
            interval: seconds(&batch, "interval")?.unwrap_or(Duration::from_secs(5)),
            timeout: seconds(&batch, "timeout")?.unwrap_or(Duration::from_secs(5)),
            prefix: text("prefix")?,
            postfix: text("postfix")?,
            separator: text("separator")?,
        },
    };
    let key: String = options.get("key")?;
    outlet(&ctx, shared(format!("http {url} {key}"), || Remote::open(target)))
}

fn syslog(ctx: Ctx<'_>, name: String, priority: String, address: String) -> Result<Class<'_, Outlet>> {
    let key = format!("syslog {name} {priority} {address}");
    outlet(&ctx, shared(key, || Syslog::open(&name, &priority, &address)))
}

fn noted(name: String, line: Value<'_>) -> Result<()> {
    note(&name, &Data::body_of(&line)?);
    Ok(())
}

/// Gives them to the JavaScript of this folder.
pub(super) fn install<'js>(ctx: &Ctx<'js>, native: &Object<'js>) -> Result<()> {
    let sinks = Object::new(ctx.clone())?;
    sinks.set("file", Function::new(ctx.clone(), file)?)?;
    sinks.set("http", Function::new(ctx.clone(), http)?)?;
    sinks.set("syslog", Function::new(ctx.clone(), syslog)?)?;
    sinks.set("note", Function::new(ctx.clone(), noted)?)?;
    native.set("sinks", sinks)
}
