//! What goes wrong in scripts, said so that it can be found: file, line, column, the line itself, and the way there.

use std::fmt;
use std::time::Duration;

use rquickjs::{CaughtError, Ctx, Error};

use crate::modules::Sources;
use crate::rewrite::Place;

/// A failure of a script.
#[derive(Debug, Clone, Default)]
pub struct ScriptError {
    /// What went wrong.
    pub message: String,
    /// Where: the file and the place in it.
    pub place: Option<(String, Place)>,
    /// The line of the source.
    pub excerpt: Option<String>,
    /// The calls that led there, innermost first.
    pub trace: Vec<String>,
}

impl ScriptError {
    /// An error without a place.
    pub fn plain(message: impl Into<String>) -> Self {
        ScriptError { message: message.into(), ..ScriptError::default() }
    }

    /// An error at a place of a file.
    pub(crate) fn at(message: impl Into<String>, file: &str, place: Place, source: &str) -> Self {
        let excerpt = source.lines().nth(place.line.saturating_sub(1) as usize).map(str::to_owned);
        ScriptError {
            message: message.into(),
            place: Some((file.to_owned(), place)),
            excerpt,
            trace: Vec::new(),
        }
    }

    /// What an operation of the engine failed with.
    pub(crate) fn caught(ctx: &Ctx<'_>, error: Error, sources: &Sources) -> Self {
        match CaughtError::from_error(ctx, error) {
            CaughtError::Exception(exception) => {
                let name: String = exception.as_object().get("name").unwrap_or_default();
                let message = exception.message().unwrap_or_default();
                let message = match name.as_str() {
                    "" | "Error" => message,
                    _ => format!("{name}: {message}"),
                };
                ScriptError::located(message, &exception.stack().unwrap_or_default(), sources)
            }
            CaughtError::Value(value) => {
                let said = crate::console::show(&value);
                ScriptError::plain(format!("thrown: {said}"))
            }
            CaughtError::Error(error) => ScriptError::plain(error.to_string()),
        }
    }

    fn located(message: String, stack: &str, sources: &Sources) -> Self {
        let mut found = ScriptError::plain(message);
        for line in stack.lines() {
            let Some((function, file, place)) = frame(line) else { continue };
            let Some(source) = sources.get(&file) else { continue };
            let place = source.rewritten.original(place);
            let place = misspelt(&found.message, &source.text, place).unwrap_or(place);
            if found.place.is_none() {
                found = ScriptError::at(found.message, &file, place, &source.text);
            }
            found.trace.push(format!("{function} at {file}:{}:{}", place.line, place.column));
        }
        found
    }

    /// The same, of a call that was stopped because it took too long.
    pub(crate) fn overrun(mut self, limit: Duration) -> Self {
        self.message = format!("took longer than {} ms and was stopped", limit.as_millis());
        self
    }
}

/// Where a filter that there is not is written: the engine knows where the chain of calls begins, which may be lines before.
fn misspelt(message: &str, text: &str, chain: Place) -> Option<Place> {
    let (_, rest) = message.split_once("no filter or method is called ")?;
    let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let line: usize =
        text.split_inclusive('\n').take(chain.line.saturating_sub(1) as usize).map(str::len).sum();
    let offset = line + text.get(line..)?.find(&format!(".{name}"))?;
    Some(Place::of(text, offset + 1))
}

/// Reads a line of a stack: function, file, place.
fn frame(line: &str) -> Option<(String, String, Place)> {
    let line = line.trim().strip_prefix("at ")?;
    let (function, rest) = match line.split_once(" (") {
        Some((function, rest)) => (function, rest.strip_suffix(')')?),
        None => ("<script>", line),
    };
    let (rest, column) = rest.rsplit_once(':')?;
    let (file, line) = rest.rsplit_once(':')?;
    let place = Place { line: line.parse().ok()?, column: column.parse().ok()? };
    Some((function.to_owned(), file.to_owned(), place))
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((file, place)) = &self.place else { return f.write_str(&self.message) };
        write!(f, "{file}:{}:{}: {}", place.line, place.column, self.message)?;
        if let Some(excerpt) = &self.excerpt {
            // LIMIT: a minified script is one line; what is around the place is enough.
            let from = (place.column as usize).saturating_sub(1).saturating_sub(60);
            let part: String = excerpt.chars().skip(from).take(120).collect();
            let caret = (place.column as usize).saturating_sub(1).saturating_sub(from);
            write!(f, "\n  {part}\n  {:caret$}^", "")?;
        }
        for call in self.trace.iter().skip(1).take(8) {
            write!(f, "\n  in {call}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ScriptError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_with_and_without_a_function() {
        let place = Place { line: 3, column: 15 };
        assert_eq!(frame("    at f (/a.js:3:15)"), Some(("f".to_owned(), "/a.js".to_owned(), place)));
        assert_eq!(frame("    at /a.js:3:15"), Some(("<script>".to_owned(), "/a.js".to_owned(), place)));
        assert_eq!(frame("    at then (native)"), None);
    }
}
