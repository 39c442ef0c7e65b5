//! Files of scripts: where they come from, what they became, and which variables they have.
//!
//! A codebase gives files by absolute path (`/main.js`). Each is rewritten once ([`crate::rewrite`]) and run once per engine.
//! INVARIANT: slots are given out for the whole codebase, so that a context has one array for the variables of all files.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::error::ScriptError;
use crate::rewrite::{self, Rewritten, Slots};

/// Where the files of a script are.
pub trait Codebase {
    /// A file by its absolute path within the codebase; `None` where there is none.
    fn file(&self, path: &str) -> Option<Vec<u8>>;

    /// The paths of all files below a folder.
    fn list(&self, _folder: &str) -> Vec<String> {
        Vec::new()
    }

    /// Where a path is on the machine, if it is there.
    fn place(&self, _path: &str) -> Option<std::path::PathBuf> {
        None
    }

    /// Whether a host has variables that no file declares: see [`crate::plugin`]. Files of a host's are many people's, and what
    /// one of them declares twice is told, not refused.
    fn lends(&self) -> bool {
        false
    }

    /// Whether a path names no file but filters of the host: see [`crate::plugin`].
    fn is_native(&self, _path: &str) -> bool {
        false
    }
}

/// A file that was read.
pub(crate) struct Source {
    pub(crate) text: String,
    pub(crate) rewritten: Rewritten,
    pub(crate) module: usize,
}

/// All files that were read, and the variables that they declare.
#[derive(Default)]
pub(crate) struct Sources {
    files: BTreeMap<String, Source>,
    slots: BTreeMap<(String, String), u32>,
    globals: Rc<Vec<String>>,
    /// What native modules declare.
    defined: BTreeSet<(String, String)>,
}

impl Sources {
    pub(crate) fn set_globals(&mut self, globals: Vec<String>) {
        self.globals = Rc::new(globals);
    }

    pub(crate) fn get(&self, path: &str) -> Option<&Source> {
        self.files.get(path)
    }

    /// Where a variable of a namespace is, if any file declares or imports it.
    pub(crate) fn slot_of(&self, namespace: &str, name: &str) -> Option<u32> {
        self.slots.get(&(namespace.to_owned(), name.to_owned())).copied()
    }

    /// The variables that files share, each with its namespace.
    pub(crate) fn shared(&self) -> impl Iterator<Item = (&str, &str)> {
        // Those of one file alone are under its path.
        let shared = self.slots.keys().filter(|(namespace, _)| !namespace.starts_with('/'));
        shared.map(|(namespace, name)| (namespace.as_str(), name.as_str()))
    }

    /// The place of a variable that a native module has.
    pub(crate) fn define(&mut self, owner: &str, name: &str) -> u32 {
        self.defined.insert((owner.to_owned(), name.to_owned()));
        FileSlots { path: owner, slots: &mut self.slots, globals: &self.globals }.slot(owner.to_owned(), name)
    }

    /// A variable that two files declare under one name, or that one takes and none declares.
    pub(crate) fn refused(&self) -> Option<ScriptError> {
        let mut declared: BTreeMap<(&str, &str), &str> = BTreeMap::new();
        for (path, source) in &self.files {
            for (namespace, name, place) in &source.rewritten.exports {
                match declared.insert((namespace, name), path) {
                    Some(other) if other != path => {
                        let said = format!(
                            "duplicated variable {name} in namespace '{namespace}': {other} has it, too"
                        );
                        return Some(ScriptError::at(said, path, *place, &source.text));
                    }
                    _ => {}
                }
            }
        }
        let native = |namespace: &str, name: &str| {
            self.defined.contains(&(namespace.to_owned(), name.to_owned()))
                || crate::plugin::has_variables(namespace)
        };
        for (path, source) in &self.files {
            for (namespace, name, place) in &source.rewritten.imports {
                if !declared.contains_key(&(namespace.as_str(), name.as_str())) && !native(namespace, name) {
                    let said = format!(
                        "cannot import variable {name} in {path}: no file exports it to namespace '{namespace}'"
                    );
                    return Some(ScriptError::at(said, path, *place, &source.text));
                }
            }
        }
        None
    }

    /// How many variables the files have.
    pub(crate) fn variables(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are no variables, and no file loads another one while it runs, which might have some.
    pub(crate) fn is_bare(&self) -> bool {
        let loads = |source: &Source| source.text.contains("import") || source.text.contains("solve");
        self.slots.is_empty() && !self.files.values().any(loads)
    }

    /// The files, by path.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&String, &Source)> {
        self.files.iter()
    }

    /// The files by number.
    pub(crate) fn paths(&self) -> std::collections::HashMap<usize, String> {
        self.files.iter().map(|(path, source)| (source.module, path.clone())).collect()
    }

    /// Reads and rewrites a file, unless that is done. Returns the module's number.
    pub(crate) fn read(&mut self, codebase: &dyn Codebase, path: &str) -> Result<usize, ScriptError> {
        if let Some(source) = self.files.get(path) {
            return Ok(source.module);
        }
        let bytes =
            codebase.file(path).ok_or_else(|| ScriptError::plain(format!("cannot open script: {path}")))?;
        let text = String::from_utf8(bytes)
            .map_err(|_| ScriptError::plain(format!("{path}: the script is not UTF-8")))?;
        let module = self.files.len() + 1;
        let mut slots = FileSlots { path, slots: &mut self.slots, globals: &self.globals };
        let rewritten = rewrite::rewrite(&text, module, path, &mut slots).map_err(|error| {
            ScriptError::at(format!("syntax error: {}", error.message), path, error.place, &text)
        })?;
        self.files.insert(path.to_owned(), Source { text, rewritten, module });
        Ok(module)
    }
}

struct FileSlots<'s> {
    path: &'s str,
    slots: &'s mut BTreeMap<(String, String), u32>,
    globals: &'s [String],
}

impl FileSlots<'_> {
    fn slot(&mut self, owner: String, name: &str) -> u32 {
        let next = u32::try_from(self.slots.len()).unwrap_or(u32::MAX) + 1;
        *self.slots.entry((owner, name.to_owned())).or_insert(next)
    }
}

impl Slots for FileSlots<'_> {
    fn private(&mut self, name: &str) -> u32 {
        // A path begins with a slash; no namespace that a script would use does.
        self.slot(self.path.to_owned(), name)
    }

    fn shared(&mut self, namespace: &str, name: &str) -> u32 {
        self.slot(namespace.to_owned(), name)
    }

    fn is_global(&self, name: &str) -> bool {
        self.globals.iter().any(|global| global == name)
    }
}

/// The absolute path of what a file at `base` means by `name`.
pub(crate) fn resolve(base: &str, name: &str) -> String {
    let mut parts: Vec<&str> = match name.strip_prefix('/') {
        Some(_) => Vec::new(),
        None if name.starts_with('.') => {
            base.rsplit_once('/').map_or("", |(dir, _)| dir).split('/').collect()
        }
        None => Vec::new(),
    };
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let joined: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    format!("/{}", joined.join("/"))
}

#[cfg(test)]
mod tests {
    use super::resolve;

    #[test]
    fn names_are_relative_to_the_file_only_where_they_say_so() {
        assert_eq!(resolve("/a/b.js", "./c.js"), "/a/c.js");
        assert_eq!(resolve("/a/b.js", "../c.js"), "/c.js");
        assert_eq!(resolve("/a/b.js", "/c.js"), "/c.js");
        assert_eq!(resolve("/a/b.js", "plugins/c.js"), "/plugins/c.js");
        assert_eq!(resolve("/b.js", "../../../c.js"), "/c.js");
    }
}
