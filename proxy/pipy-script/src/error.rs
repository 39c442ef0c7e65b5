//! What goes wrong in scripts, said so that it can be found: file, line, column, the line itself, and the way there.

use std::fmt;
use std::time::Duration;

use rquickjs::{CaughtError, Ctx, Error, Function, Object};

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
                let stack = exception.stack().unwrap_or_default();
                let mut found = ScriptError::located(converted(message), &stack, sources);
                found.name_callee(ctx, sources);
                found
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

    /// The engine does not say what it is that is no function; the source does, and what there is knows the nearest name.
    fn name_callee(&mut self, ctx: &Ctx<'_>, sources: &Sources) {
        let Some(before) = self.message.strip_suffix("not a function") else { return };
        let Some((file, place)) = &self.place else { return };
        let Some(source) = sources.get(file) else { return };
        let Some((owner, name)) = callee(&source.text, *place) else { return };
        let hint = nearest(ctx, source.module, &owner, &name).unwrap_or_default();
        let dot = if owner.is_empty() { "" } else { "." };
        self.message = format!("{before}{owner}{dot}{name} is not a function{hint}");
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

/// An argument of another kind than a native takes, in words for people.
fn converted(message: String) -> String {
    let Some((before, rest)) = message.split_once("Error converting from js '") else { return message };
    let Some((from, rest)) = rest.split_once("' into type '") else { return message };
    let (into, why) = rest.split_once('\'').unwrap_or((rest, ""));
    let name = |kind: &str| match kind {
        "f64" | "f32" | "i32" | "u32" | "i64" | "u64" | "usize" | "u16" | "u8" | "int" | "float"
        | "number" => "a number",
        "string" | "String" => "a text",
        "bool" => "true or false",
        "function" => "a function",
        "array" | "vec" | "Vec" => "a list",
        "undefined" | "null" => "nothing",
        "object" => "an object",
        "symbol" => "a symbol",
        _ => "another kind of value",
    };
    match why.contains("flow") {
        true => format!("{before}a number is out of range"),
        false => format!("{before}expected {}, got {}", name(into), name(from)),
    }
}

/// What is called at a place of a source: what it belongs to, as far as that is a row of names, and its own name.
fn callee(text: &str, place: Place) -> Option<(String, String)> {
    let line = text.lines().nth(place.line.checked_sub(1)? as usize)?;
    let at = line.char_indices().nth(place.column.checked_sub(1)? as usize)?.0;
    let named = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    let (before, from) = (line.get(..at)?, line.get(at..)?);
    let row = |text: &str| -> String {
        let owner = text.trim_end_matches('?');
        let start = owner.rfind(|c| !named(c) && c != '.').map_or(0, |last| last + 1);
        owner.get(start..).unwrap_or_default().trim_start_matches('.').to_owned()
    };
    match from.strip_prefix("?.").or_else(|| from.strip_prefix('.')) {
        Some(rest) => {
            let name: String = rest.chars().take_while(|c| named(*c)).collect();
            let owner = row(before);
            let owner = if owner.is_empty() { "(…)".to_owned() } else { owner };
            (!name.is_empty()).then_some((owner, name))
        }
        None if from.starts_with('(') => {
            let whole = row(before);
            let (owner, name) = whole.rsplit_once('.').unwrap_or(("", &whole));
            (!name.is_empty()).then(|| (owner.to_owned(), name.to_owned()))
        }
        // The engine may point at the name itself.
        None => {
            let name: String = from.chars().take_while(|c| named(*c)).collect();
            let owner = before.strip_suffix('.').map(row).unwrap_or_default();
            (!name.is_empty()).then_some((owner, name))
        }
    }
}

/// What is near to a name among those of its owner, or of everything that scripts are given where that is not known.
fn nearest(ctx: &Ctx<'_>, module: usize, owner: &str, name: &str) -> Option<String> {
    let state: Object<'_> = ctx.globals().get("__pipy").ok()?;
    let members: Function<'_> = state.get("members").ok()?;
    members.call((module, owner, name)).ok()
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

    #[test]
    fn arguments_of_another_kind_are_told_in_words() {
        let said = |text: &str| converted(text.to_owned());
        assert_eq!(
            said("TypeError: Error converting from js 'object' into type 'string'"),
            "TypeError: expected a text, got an object"
        );
        assert_eq!(
            said("TypeError: Error converting from js 'f64' into type 'u32': Underflow"),
            "TypeError: a number is out of range"
        );
        assert_eq!(said("anything else"), "anything else");
    }

    #[test]
    fn what_is_called_is_read_from_the_source() {
        let at = |text: &str, column| callee(text, Place { line: 1, column });
        let named = |owner: &str, name: &str| Some((owner.to_owned(), name.to_owned()));
        assert_eq!(at("x = os.path.jion('a')", 12), named("os.path", "jion"));
        assert_eq!(at("new Data('a').foo()", 14), named("(…)", "foo"));
        assert_eq!(at("new Data('a').foo()", 18), named("", "foo"));
        assert_eq!(at("f(1)", 2), named("", "f"));
        assert_eq!(at("f(1)", 1), named("", "f"));
        assert_eq!(at("a?.b()", 2), named("a", "b"));
        assert_eq!(at("x = a.b.c()", 9), named("a.b", "c"));
        assert_eq!(at("a", 9), None);
    }
}
