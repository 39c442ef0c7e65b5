//! Codebases: a folder, or one text.

use std::path::{Path, PathBuf};

use crate::modules::Codebase;

/// The files below a folder.
pub struct Folder {
    root: PathBuf,
}

impl Folder {
    /// The folder of a script's file, and the path of the script in it.
    pub fn of(file: &Path) -> (Self, String) {
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let root = match file.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
            _ => PathBuf::from("."),
        };
        (Folder { root }, format!("/{name}"))
    }
}

impl Folder {
    /// A folder as it is.
    pub(crate) fn at(root: &Path) -> Self {
        Folder { root: root.to_owned() }
    }
}

impl Codebase for Folder {
    fn place(&self, path: &str) -> Option<PathBuf> {
        let relative = path.trim_start_matches('/');
        (!relative.split('/').any(|part| part == "..")).then(|| self.root.join(relative))
    }

    fn file(&self, path: &str) -> Option<Vec<u8>> {
        let relative = path.trim_start_matches('/');
        // A script reads its codebase and nothing above it.
        if relative.split('/').any(|part| part == "..") {
            return None;
        }
        std::fs::read(self.root.join(relative)).ok()
    }

    fn list(&self, folder: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut open = vec![folder.trim_end_matches('/').to_owned()];
        while let Some(folder) = open.pop() {
            let Ok(entries) = std::fs::read_dir(self.root.join(folder.trim_start_matches('/'))) else {
                continue;
            };
            for entry in entries.flatten() {
                let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => open.push(path),
                    Ok(_) => found.push(path),
                    Err(_) => {}
                }
            }
        }
        found.sort();
        found
    }
}

/// One text, as of `pipy -e`.
pub struct Inline(pub String);

impl Codebase for Inline {
    fn file(&self, path: &str) -> Option<Vec<u8>> {
        (path == "/main.js").then(|| self.0.clone().into_bytes())
    }

    fn list(&self, folder: &str) -> Vec<String> {
        if folder == "/" { vec!["/main.js".into()] } else { Vec::new() }
    }
}
