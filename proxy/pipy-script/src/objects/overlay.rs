//! A codebase with what scripts have put over it: files that they patched, folders of the machine that they mounted.
//!
//! INVARIANT: what a script changes is seen by its own worker, until it is loaded anew; the files themselves stay as they are.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::files::Folder;
use crate::modules::{Codebase, resolve};

/// The codebase and what is over it.
pub(crate) struct Overlay {
    below: Rc<dyn Codebase>,
    patches: RefCell<BTreeMap<String, Vec<u8>>>,
    mounts: RefCell<BTreeMap<String, PathBuf>>,
}

impl Overlay {
    /// Nothing yet over a codebase.
    pub(crate) fn over(below: Rc<dyn Codebase>) -> Rc<Self> {
        Rc::new(Overlay { below, patches: RefCell::default(), mounts: RefCell::default() })
    }

    /// Puts a file there.
    pub(crate) fn patch(&self, path: &str, bytes: Option<Vec<u8>>) {
        let path = resolve("/", path);
        match bytes {
            Some(bytes) => drop(self.patches.borrow_mut().insert(path, bytes)),
            None => drop(self.patches.borrow_mut().remove(&path)),
        }
    }

    /// Has the files of a folder below `/name`.
    pub(crate) fn mount(&self, name: &str, folder: &Path) -> Result<(), String> {
        let name = resolve("/", name);
        if name == "/" {
            return Err("a mount needs a name".into());
        }
        if !folder.is_dir() {
            return Err(format!("{} is no folder", folder.display()));
        }
        self.mounts.borrow_mut().insert(name, folder.to_owned());
        Ok(())
    }

    /// Takes a mount away.
    pub(crate) fn unmount(&self, name: &str) -> bool {
        self.mounts.borrow_mut().remove(&resolve("/", name)).is_some()
    }

    /// The mount that a path is below, and what is left of the path.
    fn mounted(&self, path: &str) -> Option<(String, Folder, String)> {
        let mounts = self.mounts.borrow();
        let below = |name: &String| {
            path.strip_prefix(name.as_str()).filter(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let (name, folder) = mounts.iter().rev().find(|(name, _)| below(name).is_some())?;
        Some((name.clone(), Folder::at(folder), below(name)?.to_owned()))
    }
}

impl Codebase for Overlay {
    fn file(&self, path: &str) -> Option<Vec<u8>> {
        if let Some(patched) = self.patches.borrow().get(path) {
            return Some(patched.clone());
        }
        match self.mounted(path) {
            Some((_, folder, rest)) => folder.file(&rest),
            None => self.below.file(path),
        }
    }

    fn list(&self, folder: &str) -> Vec<String> {
        let inside = |path: &String| {
            let folder = folder.trim_end_matches('/');
            path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
        };
        let mut found = match self.mounted(folder) {
            Some((name, mount, rest)) => {
                mount.list(&rest).into_iter().map(|path| name.clone() + &path).collect()
            }
            None => {
                let mut found = self.below.list(folder);
                for (name, place) in self.mounts.borrow().iter().filter(|(name, _)| inside(name)) {
                    found.extend(Folder::at(place).list("").into_iter().map(|path| name.clone() + &path));
                }
                found
            }
        };
        found.extend(self.patches.borrow().keys().filter(|path| inside(path)).cloned());
        found.sort();
        found.dedup();
        found
    }

    fn lends(&self) -> bool {
        self.below.lends()
    }

    fn is_native(&self, path: &str) -> bool {
        self.below.is_native(path)
    }

    fn place(&self, path: &str) -> Option<PathBuf> {
        match self.mounted(path) {
            Some((_, folder, rest)) => folder.place(&rest),
            None => self.below.place(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Inline;

    #[test]
    fn patches_and_mounts_are_over_the_files() {
        let folder = std::env::temp_dir().join(format!("pipy-overlay-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("deep")).unwrap();
        std::fs::write(folder.join("deep/a.txt"), "a").unwrap();
        let overlay = Overlay::over(Rc::new(Inline("main".into())));
        assert_eq!(overlay.file("/main.js").as_deref(), Some(b"main".as_slice()));
        overlay.patch("main.js", Some(b"other".to_vec()));
        assert_eq!(overlay.file("/main.js").as_deref(), Some(b"other".as_slice()));
        overlay.mount("conf", &folder).unwrap();
        assert_eq!(overlay.file("/conf/deep/a.txt").as_deref(), Some(b"a".as_slice()));
        assert_eq!(overlay.file("/conf/../../etc/passwd"), None);
        assert_eq!(overlay.list("/"), ["/conf/deep/a.txt", "/main.js"]);
        assert_eq!(overlay.list("/conf"), ["/conf/deep/a.txt"]);
        assert!(overlay.unmount("/conf") && !overlay.unmount("/conf"));
        assert_eq!(overlay.file("/conf/deep/a.txt"), None);
        assert!(overlay.mount("conf", Path::new("/no/such/folder")).is_err());
        let _ = std::fs::remove_dir_all(folder);
    }
}
