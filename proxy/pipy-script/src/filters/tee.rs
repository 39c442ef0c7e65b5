//! `tee`: data is copied into a file, and passes.
//!
//! A file has one writer per pipeline, or, when it is shared, one for the whole process; then it can be put aside when it has
//! become large or old: `FILE.1` is the youngest of those. INVARIANT: what cannot be written is said once, and holds up nobody.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::rc::Rc;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pipy_pipeline::{Cx, Event, Filter};
use rquickjs::{Coerced, Result, Value};

use super::ask::Asker;
use crate::engine::Kept;
use crate::layout::{FilterDef, Reading, Scope};

#[derive(Clone)]
struct Tee {
    file: Kept,
    shared: bool,
    rules: Rules,
    asker: Asker,
}

/// When a file is put aside, and how it is opened.
#[derive(Debug, Clone, Copy, Default)]
struct Rules {
    append: bool,
    size_max: u64,
    count_max: u32,
    interval: Duration,
}

/// Files that pipelines of all workers write into, by path.
static SHARED: LazyLock<Mutex<HashMap<String, Arc<Mutex<Output>>>>> = LazyLock::new(Mutex::default);

pub(super) fn make(reading: &Reading<'_, '_>) -> Result<Rc<dyn FilterDef>> {
    let file = reading.kept(0).ok_or_else(|| reading.refuse("expects the path of a file, or '-'"))?;
    let asker = Asker { name: reading.name, label: reading.label.clone() };
    let mut tee = Tee { file, shared: false, rules: Rules::default(), asker };
    if let Some(options) = reading.settings(1)? {
        tee.shared = options.flag("shared")?.unwrap_or(false);
        tee.rules = Rules {
            append: options.flag("append")?.unwrap_or(false),
            size_max: options.size("maxFileSize")?.unwrap_or(0) as u64,
            count_max: options.count("maxFileCount")?.and_then(|count| count.try_into().ok()).unwrap_or(0),
            interval: options.duration("rotateInterval")?.unwrap_or_default(),
        };
    }
    Ok(Rc::new(tee))
}

impl FilterDef for Tee {
    fn filter(&self, scope: &Scope) -> Box<dyn Filter> {
        Box::new(Teed { def: self.clone(), out: None, scope: scope.clone() })
    }
}

/// Where data goes.
enum Out {
    Standard,
    Own(Output),
    Shared(Arc<Mutex<Output>>),
    Nowhere,
}

/// An open file.
struct Output {
    path: String,
    file: File,
    rules: Rules,
    size: u64,
    since: Instant,
}

impl Output {
    fn open(path: &str, rules: Rules, now: Instant) -> std::io::Result<Self> {
        let append = rules.append;
        let file = File::options().create(true).write(true).append(append).truncate(!append).open(path)?;
        let size = file.metadata()?.len();
        Ok(Output { path: path.to_owned(), file, rules, size, since: now })
    }

    fn write(&mut self, now: Instant, data: &[u8]) -> std::io::Result<()> {
        let rules = self.rules;
        let large = rules.size_max > 0 && self.size > 0 && self.size + data.len() as u64 > rules.size_max;
        let old = !rules.interval.is_zero() && now.saturating_duration_since(self.since) >= rules.interval;
        if large || old {
            self.put_aside()?;
            *self = Output::open(&self.path, rules, now)?;
        }
        self.size += data.len() as u64;
        self.file.write_all(data)
    }

    /// Renames the file, and those that were put aside before: the oldest first.
    fn put_aside(&self) -> std::io::Result<()> {
        let aside = |number: u32| format!("{}.{number}", self.path);
        let there = (1..).take_while(|number| std::path::Path::new(&aside(*number)).exists()).count();
        let mut last = u32::try_from(there).unwrap_or(u32::MAX - 1);
        if self.rules.count_max > 0 {
            for number in self.rules.count_max..=last {
                std::fs::remove_file(aside(number))?;
            }
            last = last.min(self.rules.count_max - 1);
        }
        for number in (1..=last).rev() {
            std::fs::rename(aside(number), aside(number + 1))?;
        }
        std::fs::rename(&self.path, aside(1))
    }
}

struct Teed {
    def: Tee,
    out: Option<Out>,
    scope: Scope,
}

impl Teed {
    fn open(&self, now: Instant) -> Out {
        let text = |_: &rquickjs::Ctx<'_>, _: &crate::events::Makers<'_>, value: Value<'_>| {
            Ok(value.get::<Coerced<String>>()?.0)
        };
        let path = self.def.asker.ask(&self.scope, &self.def.file, |_, _| Ok(Vec::new()), text);
        let Some(path) = path else { return Out::Nowhere };
        if path == "-" {
            return Out::Standard;
        }
        let opened = if self.def.shared {
            let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
            match shared.get(&path) {
                Some(output) => Ok(Out::Shared(Arc::clone(output))),
                None => Output::open(&path, self.def.rules, now).map(|output| {
                    let output = Arc::new(Mutex::new(output));
                    shared.insert(path.clone(), Arc::clone(&output));
                    Out::Shared(output)
                }),
            }
        } else {
            Output::open(&path, self.def.rules, now).map(Out::Own)
        };
        opened.unwrap_or_else(|error| {
            self.def.asker.complain(&format!("cannot write {path}: {error}"));
            Out::Nowhere
        })
    }
}

impl Filter for Teed {
    fn name(&self) -> &'static str {
        "tee"
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        if let Event::Data(data) = &event
            && !data.is_empty()
        {
            let now = cx.now();
            if self.out.is_none() {
                self.out = Some(self.open(now));
            }
            let written = match &mut self.out {
                Some(Out::Standard) => std::io::stdout().write_all(data),
                Some(Out::Own(output)) => output.write(now, data),
                Some(Out::Shared(output)) => {
                    output.lock().unwrap_or_else(PoisonError::into_inner).write(now, data)
                }
                Some(Out::Nowhere) | None => Ok(()),
            };
            if let Err(error) = written {
                self.def.asker.complain(&format!("cannot write: {error}"));
                self.out = Some(Out::Nowhere);
            }
        }
        cx.forward(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_full_or_old_is_put_aside() {
        let folder = std::env::temp_dir().join(format!("pipy-tee-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("log").display().to_string();
        let now = Instant::now();
        let interval = Duration::from_secs(60);
        let rules = Rules { append: false, size_max: 4, count_max: 2, interval };
        let mut output = Output::open(&path, rules, now).unwrap();
        for piece in ["aa", "bb", "cc", "dd", "ee"] {
            output.write(now, piece.as_bytes()).unwrap();
        }
        output.write(now + interval, b"f").unwrap();
        let read = |suffix: &str| std::fs::read_to_string(format!("{path}{suffix}")).unwrap_or_default();
        assert_eq!([read(""), read(".1"), read(".2"), read(".3")], ["f", "ee", "ccdd", ""]);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
