//! Shared libraries: found, loaded, and asked what they have.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

use crate::host::{Host, enter};
use crate::{crash, exports};

/// Why a module was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The library cannot be loaded.
    #[error("cannot load native module '{path}' due to: {source}")]
    Library {
        /// Its path.
        path: String,
        /// What the system says.
        source: libloading::Error,
    },
    /// It is no module.
    #[error("cannot load native module '{path}' due to: it exports no pipy_module_init()")]
    NoInit {
        /// Its path.
        path: String,
    },
}

/// Whether a path names a module rather than a script.
#[must_use]
pub fn is_module(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|extension| extension == "so" || extension == "dll")
}

/// A module that was loaded. Modules stay in memory until the process ends: their threads may be running.
#[derive(Debug, Clone, Copy)]
pub struct Module {
    init: unsafe extern "C" fn(),
}

static LOADED: Mutex<Option<HashMap<PathBuf, Module>>> = Mutex::new(None);

impl Module {
    /// Loads a module, by a path relative to the folder in which the process runs.
    ///
    /// # Errors
    /// When there is none, when it needs what is not there, and when it is no module.
    pub fn load(path: &str) -> Result<Self, LoadError> {
        let file = std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path));
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        let loaded = loaded.get_or_insert_default();
        if let Some(module) = loaded.get(&file) {
            return Ok(*module);
        }
        exports::keep();
        let failed = |source| LoadError::Library { path: path.to_owned(), source };
        // SAFETY: (library) the user has named it as a part of the program; what its constructors do is theirs.
        let library = unsafe { Library::open(Some(&file), RTLD_NOW | RTLD_LOCAL) }.map_err(failed)?;
        // SAFETY: (library) the header says what type a function of this name has, and the library is never unloaded.
        let init = unsafe { library.get::<unsafe extern "C" fn()>(b"pipy_module_init\0") };
        let init = *init.map_err(|_| LoadError::NoInit { path: path.to_owned() })?;
        std::mem::forget(library);
        let module = Module { init };
        loaded.insert(file, module);
        crash::name(loaded.keys().map(|file| file.display()));
        Ok(module)
    }

    /// Lets the module define its variables and pipelines with this host.
    pub fn init(self, host: Rc<dyn Host>) {
        // SAFETY: (callback) the function is the module's own, called for what the header says.
        enter(host, || unsafe { (self.init)() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_and_what_is_no_module_is_said() {
        let missing = Module::load("./no-such-module.so").unwrap_err().to_string();
        assert!(missing.starts_with("cannot load native module './no-such-module.so' due to: "), "{missing}");
        let other = Module::load("libc.so.6");
        assert!(other.is_err());
        assert!(is_module("a/b.so") && is_module("b.dll") && !is_module("b.js") && !is_module("so"));
    }
}
