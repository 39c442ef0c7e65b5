//! The language of scripts: each example of the reference page is run, without a socket, a clock or a thread.
//!
//! A `js` block with ` // → ` is a list of expressions and what each gives. Any other `js` block is a codebase, `/main.js` unless
//! a line `// /other.js` begins another file, and the `text` block after it is a conversation: `1> text` is said on the first
//! connection, `1< text` is all that is heard there since, `1<* text` is part of it, `1.` ends what it has to say, `1! closed` is
//! that it was closed, `wait 2s` lets time pass, `log: text` is part of a line that was logged since, `error: text` says why it
//! does not load. A conversation that begins with `reload` is with the world of the one before, whose script is replaced.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use pipy_pipeline::SocketId;
use pipy_script::{App, Codebase, Inline, Limits, Update, load};
use pipy_testkit::World;
use pipy_worker::{Accepted, App as _, Verdict};

const PAGE: &str = include_str!("../../../docs/reference/pipyjs-language.md");

struct Files(BTreeMap<String, String>);

impl Codebase for Files {
    fn file(&self, path: &str) -> Option<Vec<u8>> {
        self.0.get(path).map(|text| text.clone().into_bytes())
    }

    fn list(&self, folder: &str) -> Vec<String> {
        self.0.keys().filter(|path| path.starts_with(folder)).cloned().collect()
    }
}

fn files(block: &str) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut name = "/main.js".to_owned();
    for line in block.lines() {
        match line.strip_prefix("// /") {
            Some(other) if other.ends_with(".js") || other.ends_with(".json") => name = format!("/{other}"),
            _ => {
                let text: &mut String = files.entry(name.clone()).or_default();
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    files
}

/// The fenced blocks of the page: the heading that each is under, its language, its text.
fn blocks() -> Vec<(String, String, String)> {
    let (mut found, mut heading, mut open) = (Vec::new(), String::new(), None::<(String, String)>);
    for line in PAGE.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(language)) => open = Some((language.to_owned(), String::new())),
            (Some(_), Some(_)) => {
                let (language, text) = open.take().unwrap_or_default();
                found.push((heading.clone(), language, text));
            }
            (Some((_, text)), None) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, None) if line.starts_with('#') => heading = line.trim_start_matches('#').trim().to_owned(),
            (None, None) => {}
        }
    }
    found
}

/// A worker without a kernel.
struct Stage {
    app: App,
    world: World,
    connections: BTreeMap<u32, SocketId>,
    logged: usize,
}

fn log_text() -> String {
    pipy_script::log_history("pipy")
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

impl Stage {
    fn new() -> Self {
        Stage {
            app: App::new(Limits::default()),
            world: World::default(),
            connections: BTreeMap::new(),
            logged: log_text().len(),
        }
    }

    fn take(&mut self, files: BTreeMap<String, String>) {
        let made = move || Rc::new(Files(files)) as Rc<dyn Codebase>;
        drop(self.app.update(Update::Script(Box::new(made), "/main.js".into(), Vec::new())));
        self.turn();
    }

    fn turn(&mut self) {
        for _ in 0..100 {
            self.world.run();
            drop(self.app.step(&mut self.world.graph));
            self.world.run();
            let now = self.world.graph.now;
            if self.app.turn_ends(now).is_none_or(|due| due > now) {
                return;
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.world.graph.now + time;
        loop {
            let now = self.world.graph.now;
            let due =
                [self.app.turn_ends(now), self.world.graph.timers.next_due()].into_iter().flatten().min();
            let Some(due) = due.filter(|due| *due <= end) else { break };
            self.world.pass(due.saturating_duration_since(now).max(Duration::from_millis(1)));
            self.turn();
        }
        let rest: Duration = end.saturating_duration_since(self.world.graph.now);
        self.world.pass(rest);
        self.turn();
    }

    /// The connection with this number; made where there is none, on the listener with that number's hundreds.
    fn connection(&mut self, number: u32) -> SocketId {
        if let Some(socket) = self.connections.get(&number) {
            return *socket;
        }
        let local = SocketAddr::from(([127, 0, 0, 1], 8000));
        let peer = SocketAddr::from(([192, 0, 2, 1], 40000 + number as u16));
        let accepted = Accepted { peer, local, destination: local };
        let (socket, _) = match self.app.accept(number / 100, accepted, Instant::now()) {
            Verdict::Run(row) => self.world.accept(row),
            Verdict::RunTurning(row) => self.world.accept_turning(row),
            Verdict::Close | Verdict::Reset => panic!("connection {number} is not accepted"),
        };
        self.connections.insert(number, socket);
        self.turn();
        socket
    }

    fn step(&mut self, line: &str) -> Result<(), String> {
        if let Some(time) = line.strip_prefix("wait ") {
            let millis: u64 = match time.strip_suffix("ms") {
                Some(millis) => millis.parse().map_err(|_| line)?,
                None => time.trim_end_matches('s').parse::<u64>().map_err(|_| line)? * 1000,
            };
            self.pass(Duration::from_millis(millis));
            return Ok(());
        }
        if let Some(text) = line.strip_prefix("log: ") {
            let log = log_text();
            let since = log.get(self.logged..).unwrap_or_default();
            return if since.contains(text) {
                Ok(())
            } else {
                Err(format!("the log has no {text:?}:\n{since}"))
            };
        }
        let digits = line.chars().take_while(char::is_ascii_digit).count();
        let (number, rest) = line.split_at(digits);
        let socket = self.connection(number.parse().map_err(|_| format!("no step: {line}"))?);
        let text = |text: &str| text.replace("\\r", "\r").replace("\\n", "\n");
        if let Some(said) = rest.strip_prefix("> ") {
            self.world.say(socket, text(said));
            self.turn();
        } else if rest == "." {
            self.world.finish(socket);
            self.turn();
            // Both have said what they had to say: a worker closes the socket.
            if self.world.socket(socket).finished {
                self.world.graph.socket_gone(socket);
                self.turn();
            }
        } else if rest == "! closed" {
            let state = self.world.socket(socket);
            if !state.finished && state.closed.is_none() {
                return Err("it is open".into());
            }
        } else if let Some(part) = rest.strip_prefix("<* ") {
            let heard = self.world.heard(socket);
            if !heard.contains(&text(part)) {
                return Err(format!("heard {heard:?}"));
            }
        } else if let Some(expected) = rest.strip_prefix('<') {
            let heard = self.world.heard(socket);
            if heard != text(expected.strip_prefix(' ').unwrap_or(expected)) {
                return Err(format!("heard {heard:?}"));
            }
        } else {
            return Err("no step".into());
        }
        Ok(())
    }
}

fn value(script: &str) -> Result<Option<String>, String> {
    load(Rc::new(Inline(script.to_owned())), "/main.js", Limits::default())
        .map(|loaded| loaded.value)
        .map_err(|error| error.to_string())
}

fn values(block: &str, wrong: &mut Vec<String>) {
    for line in block.lines() {
        let Some((script, expected)) = line.split_once(" // → ") else { continue };
        let found = value(script);
        let shown = match &found {
            Ok(value) => value.clone().unwrap_or_else(|| "undefined".into()),
            Err(error) => error.clone(),
        };
        let right = match expected.strip_prefix("error: ") {
            Some(part) => found.is_err() && shown.contains(part),
            None => found.is_ok() && shown == expected,
        };
        if !right {
            wrong.push(format!("{script}\n   expected {expected}\n   got {shown}"));
        }
    }
}

fn fails_to_load(files: &BTreeMap<String, String>, why: &str) -> Result<(), String> {
    match load(Rc::new(Files(files.clone())), "/main.js", Limits::default()) {
        Ok(_) => Err("it loads".into()),
        Err(error) if error.to_string().contains(why) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn every_example_of_the_page_does_what_it_says() {
    let mut wrong = Vec::new();
    let (mut codebase, mut stage, mut checked) = (BTreeMap::new(), Stage::new(), 0);
    for (heading, language, block) in blocks() {
        match language.as_str() {
            "js" if block.contains(" // → ") => {
                values(&block, &mut wrong);
                checked += 1;
            }
            "js" => codebase = files(&block),
            "text" => {
                let mut lines = block.lines().filter(|line| !line.is_empty()).peekable();
                let again = lines.next_if_eq(&"reload").is_some();
                if !again {
                    stage = Stage::new();
                }
                let loads = lines.peek().is_none_or(|line| !line.starts_with("error: "));
                if loads {
                    stage.take(codebase.clone());
                }
                for line in lines {
                    let outcome = match line.strip_prefix("error: ") {
                        Some(why) => fails_to_load(&codebase, why),
                        None => stage.step(line),
                    };
                    if let Err(why) = outcome {
                        wrong.push(format!(
                            "{heading}: {line}\n   {why}\n   log: {}",
                            log_text().get(stage.logged..).unwrap_or_default()
                        ));
                        break;
                    }
                }
                checked += 1;
            }
            _ => {}
        }
    }
    assert!(checked > 20, "the page has {checked} examples");
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// What each way into a sub-pipeline does with the variables: the filter, and whether what is written inside is seen outside.
const CONTEXTS: &[(&str, bool)] = &[
    ("branch(() => true, $ => $.IN)", true),
    ("branchMessageStart(() => true, $ => $.IN)", true),
    ("branchMessage(() => true, $ => $.IN)", true),
    ("link('inner')", true),
    ("use('/stage.js')", true),
    ("use(['/stage.js'], 'named')", true),
    ("chain(['/stage.js'])", true),
    ("pipe(() => 'inner')", true),
    ("pipe([$ => $.IN.pipeNext(), $ => $.handleData(() => {})])", true),
    ("replay().to($ => $.IN)", true),
    ("repeat(() => false).to($ => $.IN)", true),
    ("fork().to($ => $.IN)", true),
    ("mux(() => 1).to($ => $.IN)", true),
    ("muxQueue(() => 1).to($ => $.IN)", true),
    ("demux().to($ => $.IN)", false),
    ("demuxQueue().to($ => $.IN)", false),
    ("fork([1]).to($ => $.IN)", false),
    ("forkJoin([1]).to($ => $.IN)", false),
    ("forkRace([1]).to($ => $.IN)", false),
];

#[test]
fn contexts_are_shared_or_cloned() {
    const INNER: &str = "replaceMessage(msg => (__x = 'inside', msg))";
    let mut wrong = Vec::new();
    for (filter, shared) in CONTEXTS {
        let main = format!(
            "pipy().export('main', {{ __x: 'outside' }}).listen(8000)
            .replaceData(data => new Message(data))
            .{}
            .replaceMessage(() => new Data(__x))
            .pipeline('inner').{INNER}",
            filter.replace("IN", INNER)
        );
        let stage =
            format!("pipy().import({{ __x: 'main' }}).pipeline().{INNER}.chain().pipeline('named').{INNER}");
        let mut files = BTreeMap::from([("/main.js".to_owned(), main), ("/stage.js".to_owned(), stage)]);
        if !filter.contains("/stage.js") {
            files.remove("/stage.js");
        }
        let mut world = Stage::new();
        world.take(files);
        let socket = world.connection(1);
        world.world.say(socket, "a");
        // A branch that is joined ends with its stream.
        world.world.finish(socket);
        world.turn();
        let heard = world.world.heard(socket);
        let expected = if *shared { "inside" } else { "outside" };
        if heard != expected {
            let log = log_text();
            wrong.push(format!("{filter}: heard {heard:?}, expected {expected}\n{}", &log[world.logged..]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
