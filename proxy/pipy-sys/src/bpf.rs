//! Maps and programs of the kernel's virtual machine: bpf(2).
//!
//! In: what is to be made or asked. Out: descriptors, and what is in a map. INVARIANT: the kernel is given buffers of the size that
//! it says a map's keys and values have. That a program is harmless is checked by the kernel, not here.
//!
//! Source: bpf(2); Linux, include/uapi/linux/bpf.h.

use std::ffi::CString;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

const MAP_CREATE: libc::c_long = 0;
const MAP_LOOKUP_ELEM: libc::c_long = 1;
const MAP_UPDATE_ELEM: libc::c_long = 2;
const MAP_DELETE_ELEM: libc::c_long = 3;
const MAP_GET_NEXT_KEY: libc::c_long = 4;
const PROG_LOAD: libc::c_long = 5;
const OBJ_PIN: libc::c_long = 6;
const PROG_ATTACH: libc::c_long = 8;
const PROG_DETACH: libc::c_long = 9;
const PROG_GET_NEXT_ID: libc::c_long = 11;
const MAP_GET_NEXT_ID: libc::c_long = 12;
const PROG_GET_FD_BY_ID: libc::c_long = 13;
const MAP_GET_FD_BY_ID: libc::c_long = 14;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const MAP_FREEZE: libc::c_long = 22;

/// Types of maps whose values are there once for each processor.
const PER_PROCESSOR: [u32; 4] = [5, 6, 10, 21];

/// LIMIT: bytes of what the verifier says about a program that it refuses. Longer texts are cut by the kernel.
const LOG_BYTES_MAX: usize = 64 * 1024;

/// LIMIT: bytes of a key or of a value of all processors, against an object file that lies.
const ELEMENT_BYTES_MAX: usize = 16 * 1024 * 1024;

const NAME_BYTES: usize = 16;

fn call<T>(command: libc::c_long, attribute: &mut T) -> io::Result<RawFd> {
    // SAFETY: the kernel reads and writes so many bytes behind the pointer, which is to a live structure of that size. Every
    // caller here gives the structure of its command, whose pointers are to live buffers of the sizes that the command has.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attribute), size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    RawFd::try_from(result).map_err(io::Error::other)
}

fn owned(descriptor: RawFd) -> OwnedFd {
    // SAFETY: called with what the kernel has just returned as a new descriptor, which is open and nobody else's. They are all
    // closed on exec.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

/// A name as the kernel takes it: letters, digits, dots and underscores, cut to what fits.
fn kernel_name(name: &str) -> [u8; NAME_BYTES] {
    let mut bytes = [0; NAME_BYTES];
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.');
    let given = name.bytes().filter(allowed).take(NAME_BYTES - 1);
    bytes.iter_mut().zip(given).for_each(|(to, from)| *to = from);
    bytes
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}

/// What the kernel says of a map.
#[derive(Debug, Clone, Default)]
pub struct MapInfo {
    /// Its name.
    pub name: String,
    /// By what others find it.
    pub id: u32,
    /// Its type, as BPF_MAP_TYPE_* says.
    pub kind: u32,
    /// Its flags.
    pub flags: u32,
    /// How many keys it holds at most.
    pub entries_max: u32,
    /// Bytes of a key.
    pub key_bytes: u32,
    /// Bytes of a value, of one processor.
    pub value_bytes: u32,
}

/// What a map is made as.
#[derive(Debug, Clone)]
pub struct MapShape<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its type, as BPF_MAP_TYPE_* says.
    pub kind: u32,
    /// Its flags.
    pub flags: u32,
    /// How many keys it holds at most.
    pub entries_max: u32,
    /// Bytes of a key.
    pub key_bytes: u32,
    /// Bytes of a value.
    pub value_bytes: u32,
}

/// A map that is open.
#[derive(Debug)]
pub struct Map {
    descriptor: OwnedFd,
    info: MapInfo,
    /// Bytes of a value, of all processors together.
    value_bytes: usize,
}

#[repr(C)]
#[derive(Default)]
struct Create {
    kind: u32,
    key_bytes: u32,
    value_bytes: u32,
    entries_max: u32,
    flags: u32,
    inner: u32,
    node: u32,
    name: [u8; NAME_BYTES],
}

#[repr(C)]
#[derive(Default)]
struct Element {
    map: u32,
    unused: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct ById {
    id: u32,
    next: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct Ask {
    descriptor: u32,
    bytes: u32,
    info: u64,
}

#[repr(C)]
#[derive(Default)]
struct RawMapInfo {
    kind: u32,
    id: u32,
    key_bytes: u32,
    value_bytes: u32,
    entries_max: u32,
    flags: u32,
    name: [u8; NAME_BYTES],
}

fn unsigned(descriptor: RawFd) -> io::Result<u32> {
    u32::try_from(descriptor).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))
}

fn info_of<T>(descriptor: RawFd, info: &mut T) -> io::Result<()> {
    let bytes = u32::try_from(size_of::<T>()).map_err(io::Error::other)?;
    let mut ask = Ask { descriptor: unsigned(descriptor)?, bytes, info: std::ptr::from_mut(info) as u64 };
    call(OBJ_GET_INFO_BY_FD, &mut ask).map(drop)
}

impl Map {
    /// Makes a map.
    ///
    /// # Errors
    /// What the operating system says, such as "operation not permitted".
    pub fn create(shape: &MapShape<'_>) -> io::Result<Self> {
        let mut create = Create {
            kind: shape.kind,
            key_bytes: shape.key_bytes,
            value_bytes: shape.value_bytes,
            entries_max: shape.entries_max,
            flags: shape.flags,
            name: kernel_name(shape.name),
            ..Create::default()
        };
        Self::of(owned(call(MAP_CREATE, &mut create)?))
    }

    /// Opens a map that there is already.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn open(id: u32) -> io::Result<Self> {
        Self::of(owned(call(MAP_GET_FD_BY_ID, &mut ById { id, ..ById::default() })?))
    }

    fn of(descriptor: OwnedFd) -> io::Result<Self> {
        let mut raw = RawMapInfo::default();
        info_of(descriptor.as_raw_fd(), &mut raw)?;
        let value = raw.value_bytes as usize;
        let value_bytes = match PER_PROCESSOR.contains(&raw.kind) {
            true => value.next_multiple_of(8).checked_mul(processors()?),
            false => Some(value),
        };
        let value_bytes = value_bytes.filter(|bytes| *bytes <= ELEMENT_BYTES_MAX);
        let value_bytes = value_bytes.ok_or_else(|| io::Error::other("values are too large"))?;
        let info = MapInfo {
            name: text(&raw.name),
            id: raw.id,
            kind: raw.kind,
            flags: raw.flags,
            entries_max: raw.entries_max,
            key_bytes: raw.key_bytes,
            value_bytes: raw.value_bytes,
        };
        Ok(Map { descriptor, info, value_bytes })
    }

    /// What the kernel said of it when it was opened.
    #[must_use]
    pub fn info(&self) -> &MapInfo {
        &self.info
    }

    /// The number of its descriptor, for programs.
    #[must_use]
    pub fn descriptor(&self) -> RawFd {
        self.descriptor.as_fd().as_raw_fd()
    }

    fn element(&self, key: &[u8]) -> io::Result<Element> {
        let expected = self.info.key_bytes;
        if key.len() != expected as usize {
            let said = format!("a key of {} bytes, where {expected} are expected", key.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, said));
        }
        Ok(Element { map: unsigned(self.descriptor())?, key: key.as_ptr() as u64, ..Element::default() })
    }

    /// The value of a key; of all processors, where each has its own.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn lookup(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let mut value = vec![0; self.value_bytes];
        let mut element = Element { value: value.as_mut_ptr() as u64, ..self.element(key)? };
        found(call(MAP_LOOKUP_ELEM, &mut element)).map(|found| found.then_some(value))
    }

    /// Gives a key a value; `flags` say whether it may or must be there already.
    ///
    /// # Errors
    /// What the operating system says; a key or value of another size.
    pub fn update(&self, key: &[u8], value: &[u8], flags: u64) -> io::Result<()> {
        if value.len() != self.value_bytes {
            let said = format!("a value of {} bytes, where {} are expected", value.len(), self.value_bytes);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, said));
        }
        let mut element = Element { value: value.as_ptr() as u64, flags, ..self.element(key)? };
        call(MAP_UPDATE_ELEM, &mut element).map(drop)
    }

    /// Forgets a key; whether it was there.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn delete(&self, key: &[u8]) -> io::Result<bool> {
        found(call(MAP_DELETE_ELEM, &mut self.element(key)?))
    }

    /// The key behind this one, in no particular order; without one, the first.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn next_key(&self, key: Option<&[u8]>) -> io::Result<Option<Vec<u8>>> {
        let mut next = vec![0; self.info.key_bytes as usize];
        let mut element = match key {
            Some(key) => self.element(key)?,
            None => Element { map: unsigned(self.descriptor())?, ..Element::default() },
        };
        element.value = next.as_mut_ptr() as u64;
        found(call(MAP_GET_NEXT_KEY, &mut element)).map(|found| found.then_some(next))
    }

    /// Lets nobody but programs change it any more.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn freeze(&self) -> io::Result<()> {
        call(MAP_FREEZE, &mut unsigned(self.descriptor())?).map(drop)
    }
}

fn found(result: io::Result<RawFd>) -> io::Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// How many processors there may be: `0-3,5` in the kernel's own words.
fn processors() -> io::Result<usize> {
    let said = std::fs::read_to_string("/sys/devices/system/cpu/possible")?;
    let last = said.trim().rsplit([',', '-']).next().and_then(|last| last.parse::<usize>().ok());
    last.map(|last| last + 1).ok_or_else(|| io::Error::other("the number of processors is not known"))
}

/// A program that the kernel refuses, and why.
#[derive(Debug)]
pub struct Refused {
    /// What the operating system says.
    pub error: io::Error,
    /// What the verifier says.
    pub log: String,
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Refused { error, log: String::new() }
    }
}

#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_bytes: u32,
    log: u64,
    version: u32,
    flags: u32,
    name: [u8; NAME_BYTES],
    interface: u32,
    attach_type: u32,
}

/// Loads a program: instructions of eight bytes each.
///
/// # Errors
/// What the operating system says, and what the verifier does.
pub fn load_program(
    name: &str,
    kind: u32,
    attach_type: u32,
    instructions: &[u8],
    license: &str,
) -> Result<OwnedFd, Refused> {
    let license = CString::new(license).map_err(io::Error::other)?;
    let mut load = Load {
        kind,
        count: u32::try_from(instructions.len() / 8).map_err(io::Error::other)?,
        instructions: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        name: kernel_name(name),
        attach_type,
        ..Load::default()
    };
    let error = match call(PROG_LOAD, &mut load) {
        Ok(descriptor) => return Ok(owned(descriptor)),
        Err(error) => error,
    };
    // A second time, for what the verifier has to say: a log that is too small would be an error of its own.
    let mut log = vec![0; LOG_BYTES_MAX];
    load.log_level = 1;
    load.log_bytes = u32::try_from(log.len()).map_err(io::Error::other)?;
    load.log = log.as_mut_ptr() as u64;
    match call(PROG_LOAD, &mut load) {
        Ok(descriptor) => Ok(owned(descriptor)),
        Err(_) => Err(Refused { error, log: text(&log) }),
    }
}

#[repr(C)]
#[derive(Default)]
struct Pin {
    path: u64,
    descriptor: u32,
    flags: u32,
}

/// Gives a map or a program a name in a file system of the type bpf, by which it outlives this process.
///
/// # Errors
/// What the operating system says.
pub fn pin(path: &Path, descriptor: RawFd) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let path = CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)?;
    let mut pin = Pin { path: path.as_ptr() as u64, descriptor: unsigned(descriptor)?, flags: 0 };
    call(OBJ_PIN, &mut pin).map(drop)
}

#[repr(C)]
#[derive(Default)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

/// BPF_F_ALLOW_MULTI: beside programs that are there already.
const ALLOW_MULTI: u32 = 2;

/// Attaches a program to a cgroup or to a map of sockets.
///
/// # Errors
/// What the operating system says.
pub fn attach(kind: u32, program: RawFd, target: &impl AsFd) -> io::Result<()> {
    let target = unsigned(target.as_fd().as_raw_fd())?;
    let mut attach = Attach { target, program: unsigned(program)?, kind, flags: ALLOW_MULTI };
    call(PROG_ATTACH, &mut attach).map(drop)
}

/// Takes it away again.
///
/// # Errors
/// What the operating system says.
pub fn detach(kind: u32, program: RawFd, target: &impl AsFd) -> io::Result<()> {
    let target = unsigned(target.as_fd().as_raw_fd())?;
    let mut detach = Attach { target, program: unsigned(program)?, kind, flags: 0 };
    call(PROG_DETACH, &mut detach).map(drop)
}

fn ids(command: libc::c_long) -> io::Result<Vec<u32>> {
    let mut all = Vec::new();
    let mut by_id = ById::default();
    while found(call(command, &mut by_id))? {
        all.push(by_id.next);
        by_id.id = by_id.next;
    }
    Ok(all)
}

/// The maps of the kernel.
///
/// # Errors
/// What the operating system says.
pub fn maps() -> io::Result<Vec<MapInfo>> {
    // One that goes while it is looked at is none.
    Ok(ids(MAP_GET_NEXT_ID)?.into_iter().filter_map(|id| Map::open(id).ok()).map(|map| map.info).collect())
}

#[repr(C)]
#[derive(Default)]
struct RawProgramInfo {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    machine_bytes: u32,
    bytes: u32,
    machine_code: u64,
    code: u64,
    load_time: u64,
    user: u32,
    map_count: u32,
    map_ids: u64,
    name: [u8; NAME_BYTES],
}

/// The programs of the kernel: number, type and name.
///
/// # Errors
/// What the operating system says.
pub fn programs() -> io::Result<Vec<(u32, u32, String)>> {
    let one = |id: u32| -> io::Result<(u32, u32, String)> {
        let program = owned(call(PROG_GET_FD_BY_ID, &mut ById { id, ..ById::default() })?);
        let mut raw = RawProgramInfo::default();
        info_of(program.as_raw_fd(), &mut raw)?;
        Ok((raw.id, raw.kind, text(&raw.name)))
    };
    Ok(ids(PROG_GET_NEXT_ID)?.into_iter().filter_map(|id| one(id).ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hash map, or nothing where this process may make none.
    fn map() -> Option<Map> {
        let shape =
            MapShape { name: "of a test!", kind: 1, flags: 0, entries_max: 4, key_bytes: 4, value_bytes: 8 };
        match Map::create(&shape) {
            Ok(map) => Some(map),
            Err(error) => {
                eprintln!("skipped: bpf(2): {error}");
                None
            }
        }
    }

    #[test]
    fn a_map_keeps_what_it_is_given() {
        let Some(map) = map() else { return };
        assert_eq!((map.info().name.as_str(), map.info().key_bytes), ("ofatest", 4));
        assert_eq!(map.lookup(b"abcd").expect("asked"), None);
        map.update(b"abcd", b"12345678", 0).expect("an update");
        assert_eq!(map.lookup(b"abcd").expect("asked").as_deref(), Some(&b"12345678"[..]));
        let first = map.next_key(None).expect("asked").expect("a key");
        assert_eq!(map.next_key(Some(&first)).expect("asked"), None);
        assert!(map.delete(b"abcd").expect("asked"));
        assert!(!map.delete(b"abcd").expect("asked"));
        assert!(map.update(b"abc", b"12345678", 0).is_err());
        assert!(map.update(b"abcd", b"1234567", 0).is_err());
        assert!(map.lookup(b"").is_err());
        let again = Map::open(map.info().id).expect("opened");
        again.update(b"efgh", b"12345678", 0).expect("an update");
        assert!(map.lookup(b"efgh").expect("asked").is_some());
        assert!(maps().expect("listed").iter().any(|other| other.id == map.info().id));
    }

    #[test]
    fn values_of_each_processor_are_looked_up_together() {
        let shape =
            MapShape { name: "each", kind: 6, flags: 0, entries_max: 1, key_bytes: 4, value_bytes: 4 };
        let Ok(map) = Map::create(&shape) else { return };
        let values = map.lookup(&[0; 4]).expect("asked").expect("a value");
        assert_eq!(values.len(), 8 * processors().expect("a number"));
    }

    #[test]
    fn what_the_verifier_refuses_is_said() {
        if map().is_none() {
            return;
        }
        // exit, with nothing in the register for the result.
        let refused = load_program("bad", 1, 0, &[0x95, 0, 0, 0, 0, 0, 0, 0], "GPL").expect_err("refused");
        assert!(refused.log.contains("R0"), "{refused:?}");
        // mov r0, 0; exit
        let fine = [0xb7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
        let program = load_program("good", 1, 0, &fine, "GPL").expect("loaded");
        assert!(programs().expect("listed").iter().any(|(_, kind, name)| *kind == 1 && name == "good"));
        assert!(pin(Path::new("/proc/no-such-place"), program.as_raw_fd()).is_err());
        assert!(pin(Path::new("/a"), -1).is_err());
    }
}
