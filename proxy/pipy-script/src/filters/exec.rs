//! `exec`: a program that reads what comes in and whose output goes on.
//!
//! Its input ends with the stream; a program that does not end then is told to (SIGTERM), and killed with the pipeline. What
//! it writes to its standard error goes to ours, or with `stderr: true` to `onExit`. With `pty: true` all three are a terminal,
//! where the end of input is a character.
//!
//! INVARIANT: no worker waits for a program: reading, writing and the end are done on other threads, one piece at a time.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pipy_pipeline::{CloseReason, Cx, Event, Filter};
use rquickjs::{Coerced, Result, Value};

use super::ask::{Asker, failed};
use super::values::is_close;
use crate::engine::Kept;
use crate::layout::{FilterDef, Reading, Scope};

/// How long a program may go on when its input has ended.
const GRACE: Duration = Duration::from_secs(1);

const TIMER_TERM: u32 = 0;
const TIMER_CLOSE: u32 = 1;
const TIMER_EXIT: u32 = 2;

/// What ends the input on a terminal (VEOF of termios, unless a program has changed it).
const END_OF_INPUT: u8 = 4;

/// LIMIT: bytes of a program's output at a time.
const READ_BYTES: usize = 64 << 10;

/// LIMIT: bytes that wait for a program to read them before the stream is held back.
const QUEUED_BYTES_MAX: usize = 1 << 20;

#[derive(Clone)]
struct Exec {
    command: Kept,
    env: Option<Kept>,
    on_start: Option<Kept>,
    on_exit: Option<Kept>,
    stderr: bool,
    /// Its standard streams are a terminal.
    pty: bool,
    asker: Asker,
}

pub(super) fn make(reading: &Reading<'_, '_>) -> Result<Rc<dyn FilterDef>> {
    let command = reading.kept(0).ok_or_else(|| reading.refuse("expects a command"))?;
    let asker = Asker { name: reading.name, label: reading.label.clone() };
    let mut exec =
        Exec { command, env: None, on_start: None, on_exit: None, stderr: false, pty: false, asker };
    if let Some(options) = reading.settings(1)? {
        exec.env = options.kept("env")?;
        exec.on_start = options.callback("onStart")?;
        exec.on_exit = options.callback("onExit")?;
        exec.stderr = options.flag("stderr")?.unwrap_or(false);
        exec.pty = options.flag("pty")?.unwrap_or(false);
    }
    Ok(Rc::new(exec))
}

impl FilterDef for Exec {
    fn filter(&self, scope: &Scope) -> Box<dyn Filter> {
        Box::new(Program {
            def: self.clone(),
            scope: scope.clone(),
            state: State::New,
            child: None,
            input: Input::Idle(None),
            queued: BytesMut::new(),
            ended: false,
            closing: false,
            at_terminal: self.pty,
            reading: None,
            waiting: None,
            gone: None,
            paused: false,
            holding: false,
        })
    }
}

#[derive(PartialEq)]
enum State {
    New,
    Running,
    Over,
}

/// What it reads from.
type Stdin = Box<dyn Write + Send>;

/// What it writes to.
type Stdout = Box<dyn Read + Send>;

/// The program's input: here, or on the thread that writes to it.
enum Input {
    Idle(Option<Stdin>),
    Writing(u64),
}

type ReadDone = (Stdout, std::io::Result<Vec<u8>>);
type WriteDone = (Stdin, std::io::Result<()>);
type WaitDone = (Option<i32>, Vec<u8>);

struct Program {
    def: Exec,
    scope: Scope,
    state: State,
    child: Option<u32>,
    input: Input,
    queued: BytesMut,
    /// Nothing more comes in.
    ended: bool,
    /// Nothing more comes out; the end of the stream waits for that of the program.
    closing: bool,
    /// It is a terminal that the end of the input must be told to.
    at_terminal: bool,
    reading: Option<u64>,
    waiting: Option<u64>,
    /// It has ended, and the script does not know yet.
    gone: Option<WaitDone>,
    paused: bool,
    /// Who sends to us has been asked to stop.
    holding: bool,
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

impl Program {
    fn command(&self) -> Option<Command> {
        let list: Vec<String> = self.def.asker.ask(
            &self.scope,
            &self.def.command,
            |_, _| Ok(Vec::new()),
            |_, _, value| match value.as_array() {
                Some(list) => list.iter::<Coerced<String>>().map(|word| word.map(|word| word.0)).collect(),
                None => Ok(words(&value.get::<Coerced<String>>()?.0)),
            },
        )?;
        let Some((program, arguments)) = list.split_first() else {
            self.def.asker.complain(&"the command is empty");
            return None;
        };
        let mut command = Command::new(program);
        command.args(arguments);
        if let Some(env) = &self.def.env {
            let pairs: Vec<(String, String)> = self.def.asker.ask(
                &self.scope,
                env,
                |_, _| Ok(Vec::new()),
                |_, _, value| {
                    let pairs = value.as_object().map(|object| object.props::<String, Coerced<String>>());
                    pairs
                        .into_iter()
                        .flatten()
                        .map(|pair| pair.map(|(name, value)| (name, value.0)))
                        .collect()
                },
            )?;
            command.envs(pairs);
        }
        Some(command)
    }

    fn begin(&mut self, cx: &mut Cx<'_>) {
        self.state = State::Over;
        let Some(command) = self.command() else { return cx.forward(failed()) };
        let program = command.get_program().to_string_lossy().into_owned();
        let spawned = if self.def.pty { on_terminal(command) } else { piped(command, self.def.stderr) };
        let (child, stdin, stdout) = match spawned {
            Ok(spawned) => spawned,
            Err(error) => {
                self.def.asker.complain(&format!("cannot run {program}: {error}"));
                return cx.forward(failed());
            }
        };
        self.state = State::Running;
        let pid = child.id();
        self.child = Some(pid);
        self.input = Input::Idle(stdin);
        if let Some(stdout) = stdout {
            self.read(cx, stdout);
        }
        let waker = cx.waker(0);
        self.waiting = Some(self.scope.engine().in_background(waker, move || wait(child)));
        if let Some(on_start) = &self.def.on_start {
            let pid = f64::from(pid);
            self.def.asker.ask(
                &self.scope,
                on_start,
                |ctx, _| Ok(vec![Value::new_number(ctx.clone(), pid)]),
                |_, _, _| Ok(()),
            );
        }
    }

    fn read(&mut self, cx: &Cx<'_>, mut stdout: Stdout) {
        let work = move || -> ReadDone {
            let mut buffer = vec![0; READ_BYTES];
            let read = stdout.read(&mut buffer).map(|count| {
                buffer.truncate(count);
                buffer
            });
            (stdout, read)
        };
        self.reading = Some(self.scope.engine().in_background(cx.waker(0), work));
    }

    /// Gives the program what is queued, or the end of its input.
    fn write(&mut self, cx: &mut Cx<'_>) {
        let Input::Idle(stdin) = &mut self.input else { return };
        let Some(mut stdin) = stdin.take() else { return };
        if self.queued.is_empty() && self.ended && std::mem::take(&mut self.at_terminal) {
            // A terminal has no end: a program is told by a character at the beginning of a line, or twice within one.
            self.queued.extend_from_slice(&[END_OF_INPUT, END_OF_INPUT]);
        }
        if self.queued.is_empty() {
            if !self.ended {
                self.input = Input::Idle(Some(stdin));
            }
            // Dropped, it is closed: the program sees the end of its input.
            return;
        }
        let bytes: Bytes = self.queued.split().freeze();
        let work = move || -> WriteDone {
            let written = stdin.write_all(&bytes).and_then(|()| stdin.flush());
            (stdin, written)
        };
        self.input = Input::Writing(self.scope.engine().in_background(cx.waker(0), work));
        if std::mem::take(&mut self.holding) {
            cx.back(Event::Resume);
        }
    }

    fn close(&mut self, cx: &mut Cx<'_>) {
        if std::mem::take(&mut self.closing) {
            cx.forward(Event::Close(CloseReason::Finished));
        }
    }

    fn signal(&self, signal: &str) {
        // The standard library can only kill; its own program can say it more kindly.
        if let Some(pid) = self.child {
            let told = Command::new("kill").args([signal, &pid.to_string()]).stderr(Stdio::null()).spawn();
            if let Ok(mut told) = told {
                std::thread::spawn(move || told.wait());
            }
        }
    }

    /// Tells the script how the program has ended, once.
    fn exited(&mut self) {
        let Some((code, stderr)) = self.gone.take() else { return };
        let Some(on_exit) = &self.def.on_exit else { return };
        self.def.asker.ask(
            &self.scope,
            on_exit,
            |ctx, _| {
                let code =
                    code.map_or(Value::new_undefined(ctx.clone()), |code| Value::new_int(ctx.clone(), code));
                Ok(vec![code, crate::data::Data::new_js(ctx, stderr.into())?])
            },
            |_, _, _| Ok(()),
        );
    }
}

type Spawned = (Child, Option<Stdin>, Option<Stdout>);

/// Runs a program on pipes.
fn piped(mut command: Command, stderr: bool) -> std::io::Result<Spawned> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command.stderr(if stderr { Stdio::piped() } else { Stdio::inherit() });
    let mut child = command.spawn()?;
    let stdin = child.stdin.take().map(|stdin| Box::new(stdin) as Stdin);
    let stdout = child.stdout.take().map(|stdout| Box::new(stdout) as Stdout);
    Ok((child, stdin, stdout))
}

/// Runs a program on a terminal of its own.
fn on_terminal(mut command: Command) -> std::io::Result<Spawned> {
    let (ours, theirs) = pipy_sys::open_terminal()?;
    command.stdin(theirs.try_clone()?).stdout(theirs.try_clone()?).stderr(theirs);
    pipy_sys::lead_session(&mut command);
    let child = command.spawn()?;
    let stdin: Stdin = Box::new(ours.try_clone()?);
    Ok((child, Some(stdin), Some(Box::new(ours))))
}

fn wait(mut child: Child) -> WaitDone {
    let mut said = Vec::new();
    if let Some(mut stderr) = child.stderr.take() {
        // What could not be read is not known; the exit code still is.
        let _ = stderr.read_to_end(&mut said);
    }
    let code = child.wait().ok().and_then(|status| status.code());
    (code, said)
}

impl Filter for Program {
    fn name(&self) -> &'static str {
        self.def.asker.name
    }

    fn input(&mut self, cx: &mut Cx<'_>, event: Event) {
        match event {
            Event::Pause => return self.paused = true,
            Event::Resume => {
                self.paused = false;
                return self.wake(cx, 0);
            }
            _ => {}
        }
        if self.state == State::New {
            self.begin(cx);
        }
        if self.state == State::Over {
            return;
        }
        match event {
            Event::Data(data) => {
                self.queued.extend_from_slice(&data);
                if self.queued.len() > QUEUED_BYTES_MAX && !std::mem::replace(&mut self.holding, true) {
                    cx.back(Event::Pause);
                }
                self.write(cx);
            }
            end if is_close(&end) => {
                self.ended = true;
                self.write(cx);
                cx.timer(GRACE, TIMER_TERM);
            }
            _ => {}
        }
    }

    fn wake(&mut self, cx: &mut Cx<'_>, _token: u32) {
        let engine = Rc::clone(self.scope.engine());
        if let Input::Writing(id) = self.input
            && let Some(done) = engine.result::<WriteDone>(id)
        {
            // A program that reads no more has had enough.
            self.input = Input::Idle(done.and_then(|(stdin, written)| written.is_ok().then_some(stdin)));
            self.write(cx);
        }
        if !self.paused
            && let Some(id) = self.reading
            && let Some(done) = engine.result::<ReadDone>(id)
        {
            self.reading = None;
            match done {
                Some((stdout, Ok(bytes))) if !bytes.is_empty() => {
                    cx.forward(Event::Data(bytes.into()));
                    self.read(cx, stdout);
                }
                _ => {
                    self.state = State::Over;
                    // The script is told how it has ended before the stream ends; most programs do both at once.
                    self.closing = true;
                    cx.timer(GRACE, TIMER_CLOSE);
                }
            }
        }
        if let Some(id) = self.waiting
            && let Some(done) = engine.result::<WaitDone>(id)
        {
            self.waiting = None;
            self.child = None;
            self.gone = Some(done.unwrap_or_default());
            // What it has said comes first. Whoever has inherited its output may hold that open for long.
            cx.timer(GRACE, TIMER_EXIT);
        }
        if self.closing && self.waiting.is_none() {
            self.exited();
            self.close(cx);
        }
    }

    fn timer(&mut self, cx: &mut Cx<'_>, token: u32) {
        match token {
            TIMER_CLOSE => self.close(cx),
            TIMER_EXIT => self.exited(),
            _ => self.signal("-TERM"),
        }
    }

    fn closed(&mut self, _cx: &mut Cx<'_>) {
        let engine = self.scope.engine();
        for id in [self.reading.take(), self.waiting.take()].into_iter().flatten() {
            engine.forget(id);
        }
        if let Input::Writing(id) = self.input {
            engine.forget(id);
        }
        self.signal("-KILL");
    }
}
