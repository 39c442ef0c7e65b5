//! Loading what nobody has looked at: a text as a script of one file, with nothing that reaches out of the engine.
//!
//! In: a text. Out: whether it loads, and why not. INVARIANT: whatever the text says, it reads and writes nothing, sends nothing and
//! ends nothing; what it may use up is limited as for any script.

use std::rc::Rc;

use crate::engine::{Limits, bury};
use crate::error::ScriptError;
use crate::files::Inline;
use crate::load;

/// What remains of the globals when all that reaches out is gone: `pipy` with what it can do without.
const TAME: &str = r"(pipy => {
  const gone = () => undefined;
  const object = Object.create(null);
  for (const name of ['os', 'sqlite', 'logging', 'http', 'DNS', 'fetch', 'bpf', 'console']) {
    Object.defineProperty(globalThis, name, { value: object, writable: true, configurable: true });
  }
  for (const name of ['print', 'println']) globalThis[name] = gone;
  for (const name of Object.getOwnPropertyNames(pipy)) {
    if (typeof pipy[name] === 'function' && name !== 'load' && name !== 'list') pipy[name] = gone;
  }
})";

/// Loads a text as a script, and lets go of it.
///
/// # Errors
/// When it does not load: what, and where.
pub fn try_out(text: &str, limits: Limits) -> Result<(), ScriptError> {
    let tried = load::load_tamed(Rc::new(Inline(text.to_owned())), "/main.js", limits, TAME).map(drop);
    bury();
    tried
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_tried_out_reaches_nothing() {
        let file = std::env::temp_dir().join(format!("pipy-tried-{}", std::process::id()));
        for script in [
            "pipy.exit(3)".to_owned(),
            "pipy.exec('exit 1')".to_owned(),
            format!("os.write('{}', 'x')", file.display()),
            "new logging.TextLogger('x').toFile('x')".to_owned(),
            "(() => {}).constructor('pipy.exit(3)')()".to_owned(),
        ] {
            drop(try_out(&script, Limits::default()));
        }
        assert!(!file.exists());
        assert!(try_out("pipy().listen(8080).serveHTTP(new Message('hi'))", Limits::default()).is_ok());
        let error = try_out("pipy().listen(8080).serveHTPP()", Limits::default()).unwrap_err().to_string();
        assert!(error.contains("serveHTTP"), "{error}");
    }

    #[test]
    fn bytes_that_double_for_ever_are_refused() {
        let limits = Limits { time: std::time::Duration::from_secs(60), ..Limits::default() };
        let error = try_out("const d = new Data('x'); for (;;) d.push(d)", limits).unwrap_err().to_string();
        assert!(error.contains("Data of more than 1048576 bytes"), "{error}");
    }

    #[test]
    fn callbacks_that_are_stopped_one_by_one_do_not_add_up() {
        let limits = Limits { time: std::time::Duration::from_millis(50), ..Limits::default() };
        let since = std::time::Instant::now();
        let script = "for (let i = 0; i < 4000; i++) Promise.resolve().then(() => { for (;;); })";
        drop(try_out(script, limits));
        // All of them would take 200 s.
        assert!(since.elapsed() < std::time::Duration::from_secs(60));
    }

    #[test]
    fn what_was_loaded_for_nothing_is_let_go() {
        for _ in 0..20 {
            drop(try_out("pipy().listen(8080).dummy()", Limits::default()));
            drop(try_out("pipy().listen(8080).dumy()", Limits::default()));
            assert_eq!(crate::engine::buried(), 0);
        }
        // A script that is checked again and again, by a thread that runs none.
        for _ in 0..20 {
            let files = Rc::new(Inline("pipy().listen(8080).dummy()".to_owned()));
            drop(load::load(files, "/main.js", Limits::default()));
            assert!(crate::engine::buried() <= 1);
        }
    }
}
