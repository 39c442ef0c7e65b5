//! Codebases, in memory and in a folder.
//!
//! ```text
//!   FOLDER/lock  token   blobs/7   codebases/3.json  (name, base, main, version, files → blobs, edits → blobs)
//! ```
//!
//! INVARIANTS: a blob is on the disk before the record that names it; a record is replaced as a whole, so that a commit is
//! there or is not; one process has the folder. What no record names is removed at the next start.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File as OsFile;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

/// A file's content, and its blob.
#[derive(Clone)]
struct Blob {
    id: u64,
    bytes: Arc<[u8]>,
}

/// Files by path; `None` hides the file of the base.
type Files = BTreeMap<String, Option<Blob>>;

/// A codebase.
struct Codebase {
    id: u64,
    base: Option<String>,
    main: String,
    version: String,
    /// Committed, without those of the base.
    files: Files,
    /// Since the last commit.
    edits: Files,
}

#[derive(Serialize, Deserialize)]
struct Record {
    name: String,
    base: Option<String>,
    main: String,
    version: String,
    files: BTreeMap<String, Option<u64>>,
    edits: BTreeMap<String, Option<u64>>,
}

/// What the API shows of a codebase.
pub(crate) struct View {
    pub(crate) base: Option<String>,
    pub(crate) main: String,
    pub(crate) version: String,
    pub(crate) files: Vec<String>,
    pub(crate) edited: Vec<String>,
    pub(crate) erased: Vec<String>,
    pub(crate) inherited: Vec<String>,
    pub(crate) derived: Vec<String>,
}

/// All codebases.
pub struct Store {
    folder: Option<PathBuf>,
    codebases: BTreeMap<String, Codebase>,
    next: u64,
    /// Held for as long as the folder is in use.
    _lock: Option<OsFile>,
}

const TEMPLATE: &str = "pipy.listen(8000, $=>$\n  .serveHTTP(() => new Message('Hi, there!\\n'))\n)\n";

/// LIMIT: how deep codebases inherit.
const DEPTH_MAX: usize = 16;

impl Store {
    /// One that ends with the process.
    pub fn in_memory() -> Self {
        Store { folder: None, codebases: BTreeMap::new(), next: 1, _lock: None }
    }

    /// The one in a folder.
    pub fn open(folder: &Path) -> Result<Self, String> {
        let said = |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        for part in ["blobs", "codebases"] {
            let path = folder.join(part);
            std::fs::create_dir_all(&path).map_err(|error| said(&path, &error))?;
        }
        let path = folder.join("lock");
        let lock = OsFile::create(&path).map_err(|error| said(&path, &error))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| format!("{}: another process serves this folder", folder.display()))?;
        let mut store = Store { _lock: Some(lock), ..Store::in_memory() };
        let mut used = BTreeSet::new();
        for (id, path) in numbered(&folder.join("codebases")) {
            let text = std::fs::read(&path).map_err(|error| said(&path, &error))?;
            let record: Record = serde_json::from_slice(&text).map_err(|error| said(&path, &error))?;
            let mut read = |files: BTreeMap<String, Option<u64>>| -> Result<Files, String> {
                files
                    .into_iter()
                    .map(|(name, blob)| {
                        let Some(id) = blob else { return Ok((name, None)) };
                        used.insert(id);
                        let path = folder.join("blobs").join(id.to_string());
                        let bytes = std::fs::read(&path).map_err(|error| said(&path, &error))?;
                        Ok((name, Some(Blob { id, bytes: bytes.into() })))
                    })
                    .collect()
            };
            let codebase = Codebase {
                id,
                base: record.base,
                main: record.main,
                version: record.version,
                files: read(record.files)?,
                edits: read(record.edits)?,
            };
            store.next = store.next.max(id + 1);
            store.codebases.insert(record.name, codebase);
        }
        for (id, path) in numbered(&folder.join("blobs")) {
            store.next = store.next.max(id + 1);
            if !used.contains(&id) {
                // It is tried again at the next start.
                let _ = std::fs::remove_file(path);
            }
        }
        store.folder = Some(folder.to_owned());
        Ok(store)
    }

    /// Makes a codebase of each folder that has a `main.js`, named by its path; what is there already stays. The names.
    ///
    /// # Errors
    /// When a file cannot be read or kept.
    pub fn import(&mut self, root: &Path) -> Result<Vec<String>, String> {
        let said = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
        let (mut made, mut open) = (Vec::new(), vec![(root.to_owned(), String::new())]);
        while let Some((folder, name)) = open.pop() {
            let inside = !name.is_empty() && folder.join("main.js").is_file();
            if !inside {
                for entry in std::fs::read_dir(&folder).map_err(|error| said(&folder, error))?.flatten() {
                    if entry.path().is_dir() {
                        open.push((entry.path(), format!("{name}/{}", entry.file_name().to_string_lossy())));
                    }
                }
                continue;
            }
            if self.codebases.contains_key(&name) {
                continue;
            }
            self.create(&name, None, None, None)?;
            let mut below = vec![(folder, String::new())];
            while let Some((folder, path)) = below.pop() {
                for entry in std::fs::read_dir(&folder).map_err(|error| said(&folder, error))?.flatten() {
                    let path = format!("{path}/{}", entry.file_name().to_string_lossy());
                    if entry.path().is_dir() {
                        below.push((entry.path(), path));
                        continue;
                    }
                    let bytes = std::fs::read(entry.path()).map_err(|error| said(&entry.path(), error))?;
                    self.edit(&name, &path, Some(&bytes))?;
                }
            }
            self.commit(&name, Some("1".into()), None)?;
            made.push(name);
        }
        made.sort();
        Ok(made)
    }

    /// The names of all codebases.
    pub(crate) fn names(&self) -> impl Iterator<Item = &String> {
        self.codebases.keys()
    }

    /// The codebase that a path begins with, and the file in it, empty for none.
    pub(crate) fn locate<'p>(&self, path: &'p str) -> Option<(&'p str, &'p str)> {
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        let mut ends: Vec<usize> = ends.collect();
        ends.reverse();
        let end = ends.into_iter().find(|end| self.codebases.contains_key(&path[..*end]))?;
        let (name, file) = path.split_at(end);
        Some((name, if file == "/" { "" } else { file }))
    }

    /// Makes a codebase.
    pub(crate) fn create(
        &mut self,
        name: &str,
        base: Option<String>,
        main: Option<String>,
        version: Option<String>,
    ) -> Result<(), String> {
        if name.len() < 2 || name.ends_with('/') || name.contains("//") {
            return Err("no name of a codebase".into());
        }
        if self.codebases.contains_key(name) {
            return Err("Codebase already exists".into());
        }
        let mut main = main;
        if let Some(base) = &base {
            let found = self.codebases.get(base).ok_or("Base codebase not found")?;
            main = main.or_else(|| Some(found.main.clone()));
            if self.chain(base).len() >= DEPTH_MAX {
                return Err(format!("codebases inherit {DEPTH_MAX} deep at most"));
            }
        }
        let main = main.unwrap_or_else(|| "/main.js".into());
        let main = if main.starts_with('/') { main } else { format!("/{main}") };
        let mut files = Files::new();
        if base.is_none() {
            files.insert(main.clone(), Some(self.blob(TEMPLATE.as_bytes())?));
        }
        let id = self.fresh();
        let version = version.unwrap_or_else(|| "0".into());
        self.codebases.insert(name.into(), Codebase { id, base, main, version, files, edits: Files::new() });
        self.save(name).inspect_err(|_| {
            self.codebases.remove(name);
        })
    }

    /// Removes a codebase.
    pub(crate) fn delete(&mut self, name: &str) -> Result<(), String> {
        if let Some(derived) = self.derived(name).first() {
            return Err(format!("Codebase has derived codebases: {derived}"));
        }
        if let (Some(folder), Some(codebase)) = (&self.folder, self.codebases.get(name)) {
            let path = folder.join("codebases").join(format!("{}.json", codebase.id));
            std::fs::remove_file(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        self.codebases.remove(name);
        Ok(())
    }

    /// Makes the edits a version; without a number for it, the next one.
    pub(crate) fn commit(
        &mut self,
        name: &str,
        version: Option<String>,
        main: Option<String>,
    ) -> Result<(), String> {
        self.change(name, |codebase| {
            let next = || {
                codebase.version.parse::<u64>().map_or_else(
                    |_| Err(format!("the version after {:?} is not obvious: name it", codebase.version)),
                    |number| Ok((number + 1).to_string()),
                )
            };
            let version = version.map_or_else(next, Ok)?;
            if version == codebase.version {
                return Err(format!("the version is {version:?} already"));
            }
            if version.is_empty() || !version.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err("a version is visible ASCII without blanks".into());
            }
            codebase.version = version;
            if let Some(main) = main {
                codebase.main = if main.starts_with('/') { main } else { format!("/{main}") };
            }
            for (path, file) in std::mem::take(&mut codebase.edits) {
                if file.is_none() && codebase.base.is_none() {
                    codebase.files.remove(&path);
                } else {
                    codebase.files.insert(path, file);
                }
            }
            Ok(())
        })
    }

    /// Writes a file into the working copy; `None` erases it there.
    pub(crate) fn edit(&mut self, name: &str, path: &str, bytes: Option<&[u8]>) -> Result<(), String> {
        let blob = bytes.map(|bytes| self.blob(bytes)).transpose()?;
        self.change(name, |codebase| {
            codebase.edits.insert(path.into(), blob);
            Ok(())
        })
    }

    /// Takes the edit of a file back.
    pub(crate) fn reset(&mut self, name: &str, path: &str) -> Result<(), String> {
        self.change(name, |codebase| {
            codebase.edits.remove(path);
            Ok(())
        })
    }

    /// A committed file.
    pub(crate) fn file(&self, name: &str, path: &str) -> Option<Arc<[u8]>> {
        self.committed(name).get(path).cloned()
    }

    /// A file of the working copy.
    pub(crate) fn working(&self, name: &str, path: &str) -> Option<Arc<[u8]>> {
        match self.codebases.get(name)?.edits.get(path) {
            Some(edit) => edit.as_ref().map(|blob| Arc::clone(&blob.bytes)),
            None => self.file(name, path),
        }
    }

    /// What instances compare: the versions of a codebase and all that it inherits from.
    pub(crate) fn etag(&self, name: &str) -> String {
        let versions = self.chain(name).into_iter().map(|codebase| codebase.version.as_str());
        versions.collect::<Vec<_>>().join("/")
    }

    /// The committed files, main first.
    pub(crate) fn manifest(&self, name: &str) -> Vec<String> {
        let main = self.codebases.get(name).map_or("", |codebase| codebase.main.as_str());
        let files = self.committed(name);
        let rest = files.keys().filter(|path| *path != main).cloned();
        files.contains_key(main).then(|| main.to_owned()).into_iter().chain(rest).collect()
    }

    pub(crate) fn view(&self, name: &str) -> Option<View> {
        let codebase = self.codebases.get(name)?;
        let with = |files: &Files, there: bool| -> Vec<String> {
            files.iter().filter(|(_, file)| file.is_some() == there).map(|(path, _)| path.clone()).collect()
        };
        let inherited = codebase.base.as_deref().map(|base| self.committed(base)).unwrap_or_default();
        Some(View {
            base: codebase.base.clone(),
            main: codebase.main.clone(),
            version: codebase.version.clone(),
            files: with(&codebase.files, true),
            edited: with(&codebase.edits, true),
            erased: with(&codebase.edits, false),
            inherited: inherited.into_keys().collect(),
            derived: self.derived(name),
        })
    }

    /// All of it but for the contents: for people who want to know what is stored.
    pub(crate) fn dump(&self) -> serde_json::Value {
        let sizes = |files: &Files| -> serde_json::Value {
            let size = |file: &Option<Blob>| file.as_ref().map(|blob| blob.bytes.len());
            files.iter().map(|(path, file)| (path.clone(), serde_json::json!(size(file)))).collect()
        };
        let shown = self.codebases.iter().map(|(name, codebase)| {
            let shown = serde_json::json!({
                "id": codebase.id, "base": codebase.base, "main": codebase.main, "version": codebase.version,
                "files": sizes(&codebase.files), "edits": sizes(&codebase.edits),
            });
            (name.clone(), shown)
        });
        serde_json::Value::Object(shown.collect())
    }

    fn derived(&self, name: &str) -> Vec<String> {
        let of = |codebase: &Codebase| codebase.base.as_deref() == Some(name);
        self.codebases.iter().filter(|(_, codebase)| of(codebase)).map(|(name, _)| name.clone()).collect()
    }

    /// A codebase and those that it inherits from, nearest first.
    fn chain(&self, name: &str) -> Vec<&Codebase> {
        let first = self.codebases.get(name);
        let above = |codebase: &&Codebase| self.codebases.get(codebase.base.as_ref()?);
        std::iter::successors(first, above).take(DEPTH_MAX + 1).collect()
    }

    fn committed(&self, name: &str) -> BTreeMap<String, Arc<[u8]>> {
        let mut files = BTreeMap::new();
        for codebase in self.chain(name).into_iter().rev() {
            for (path, file) in &codebase.files {
                match file {
                    Some(blob) => files.insert(path.clone(), Arc::clone(&blob.bytes)),
                    None => files.remove(path),
                };
            }
        }
        files
    }

    /// Changes a codebase here and on the disk, or nowhere.
    fn change(
        &mut self,
        name: &str,
        change: impl FnOnce(&mut Codebase) -> Result<(), String>,
    ) -> Result<(), String> {
        let codebase = self.codebases.get_mut(name).ok_or("Codebase not found")?;
        let before =
            (codebase.main.clone(), codebase.version.clone(), codebase.files.clone(), codebase.edits.clone());
        let changed = change(codebase).and_then(|()| self.save(name));
        if changed.is_err()
            && let Some(codebase) = self.codebases.get_mut(name)
        {
            (codebase.main, codebase.version, codebase.files, codebase.edits) = before;
        }
        changed
    }

    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    fn blob(&mut self, bytes: &[u8]) -> Result<Blob, String> {
        let id = self.fresh();
        if let Some(folder) = &self.folder {
            write(&folder.join("blobs"), &id.to_string(), bytes)?;
        }
        Ok(Blob { id, bytes: bytes.into() })
    }

    fn save(&self, name: &str) -> Result<(), String> {
        let (Some(folder), Some(codebase)) = (&self.folder, self.codebases.get(name)) else { return Ok(()) };
        let ids = |files: &Files| {
            files.iter().map(|(path, file)| (path.clone(), file.as_ref().map(|blob| blob.id))).collect()
        };
        let record = Record {
            name: name.into(),
            base: codebase.base.clone(),
            main: codebase.main.clone(),
            version: codebase.version.clone(),
            files: ids(&codebase.files),
            edits: ids(&codebase.edits),
        };
        let text = serde_json::to_vec_pretty(&record).map_err(|error| error.to_string())?;
        write(&folder.join("codebases"), &format!("{}.json", codebase.id), &text)
    }
}

/// Puts a file in its place as a whole, and has the disk keep it.
fn write(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), String> {
    let (path, draft) = (folder.join(name), folder.join(format!("{name}.new")));
    let written = || -> std::io::Result<()> {
        let mut file = OsFile::create(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&draft, &path)?;
        OsFile::open(folder)?.sync_all()
    };
    written().map_err(|error| format!("{}: {error}", path.display()))
}

/// The files of a folder that have numbers for names.
fn numbered(folder: &Path) -> Vec<(u64, PathBuf)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            Some((name.strip_suffix(".json").unwrap_or(&name).parse().ok()?, entry.path()))
        })
        .collect()
}

/// 32 hexadecimal digits that nobody guesses.
pub fn random_id() -> std::io::Result<String> {
    let mut bytes = [0; 16];
    OsFile::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_record_names_is_removed_and_the_rest_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(folder.path()).unwrap();
        store.create("/a", None, None, None).unwrap();
        store.edit("/a", "/x", Some(b"first")).unwrap();
        store.edit("/a", "/x", Some(b"second")).unwrap();
        assert!(Store::open(folder.path()).is_err(), "the folder is in use");
        drop(store);
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(store.working("/a", "/x").as_deref(), Some(b"second".as_slice()));
        assert_eq!(store.file("/a", "/x"), None);
        assert_eq!(numbered(&folder.path().join("blobs")).len(), 2);
    }

    #[test]
    fn a_change_that_the_disk_refuses_did_not_happen() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(folder.path()).unwrap();
        store.create("/a", None, None, None).unwrap();
        std::fs::remove_dir_all(folder.path().join("codebases")).unwrap();
        assert!(store.commit("/a", Some("7".into()), None).is_err());
        assert_eq!(store.etag("/a"), "0");
        assert!(store.create("/b", None, None, None).is_err());
        assert_eq!(store.names().count(), 1);
    }

    #[test]
    fn the_longest_name_is_the_codebase() {
        let mut store = Store::in_memory();
        store.create("/a", None, None, None).unwrap();
        store.create("/a/b", None, None, None).unwrap();
        assert_eq!(store.locate("/a/b/c.js"), Some(("/a/b", "/c.js")));
        assert_eq!(store.locate("/a/c.js"), Some(("/a", "/c.js")));
        assert_eq!(store.locate("/a/b/"), Some(("/a/b", "")));
        assert_eq!(store.locate("/ab"), None);
    }
}
