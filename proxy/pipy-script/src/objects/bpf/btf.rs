//! BTF, the types that an object file says its maps have.
//!
//! In: the section of that name. Out: types as values that `bpf.js` makes layouts of: `'uint32'`, `[type, length]`,
//! `{ kind: 'struct' | 'union', size, fields: [[name, type]] }`. INVARIANT: whatever the bytes are, nothing
//! panics, and types that contain themselves come to an end.
//!
//! Not done here: bit fields and unnamed members, whose types are not told; the values are then `Data`.
//!
//! Source: Linux, Documentation/bpf/btf.rst.

use pipy_protocols::{Object, Value};

/// LIMIT: how deep a type may be nested.
const DEPTH_MAX: usize = 16;

const INT: u32 = 1;
const POINTER: u32 = 2;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const TYPEDEF: u32 = 8;
const RESTRICT: u32 = 11;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const FLOAT: u32 = 16;
const ENUM64: u32 = 19;

/// One type: what kind it is, and what follows its head.
struct Type<'d> {
    name: &'d str,
    kind: u32,
    /// Offsets are with sizes of bit fields.
    with_bits: bool,
    /// A size, or another type.
    size: u32,
    rest: &'d [u8],
}

/// All types of a file.
pub(super) struct Types<'d> {
    all: Vec<Type<'d>>,
    names: &'d [u8],
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*four))
}

fn name(names: &[u8], at: u32) -> Option<&str> {
    let rest = names.get(at as usize..)?;
    std::str::from_utf8(rest.split(|byte| *byte == 0).next()?).ok()
}

impl<'d> Types<'d> {
    /// Reads the section; `None` where it is none.
    pub(super) fn read(section: &'d [u8]) -> Option<Self> {
        const MAGIC: [u8; 2] = [0x9f, 0xeb];
        if !section.starts_with(&MAGIC) {
            return None;
        }
        let field = |at: usize| u32_at(section, at).map(|value| value as usize);
        let (head, types_at, types_bytes) = (field(4)?, field(8)?, field(12)?);
        let (names_at, names_bytes) = (field(16)?, field(20)?);
        let part = |at: usize, bytes: usize| {
            let begin = head.checked_add(at)?;
            section.get(begin..begin.checked_add(bytes)?)
        };
        let (types, names) = (part(types_at, types_bytes)?, part(names_at, names_bytes)?);
        // The first type has the number 1.
        let void = Type { name: "", kind: 0, with_bits: false, size: 0, rest: &[] };
        let (mut all, mut at) = (vec![void], 0);
        while at < types.len() {
            let info = u32_at(types, at + 4)?;
            let (kind, count) = (info >> 24 & 31, (info & 0xffff) as usize);
            let bytes = match kind {
                INT | VAR | 17 => 4,
                ARRAY => 12,
                STRUCT | UNION | DATASEC | ENUM64 => count * 12,
                ENUM | 13 => count * 8,
                _ => 0,
            };
            let rest = types.get(at + 12..at + 12 + bytes)?;
            let name = name(names, u32_at(types, at)?)?;
            all.push(Type { name, kind, with_bits: info >> 31 == 1, size: u32_at(types, at + 8)?, rest });
            at += 12 + bytes;
        }
        Some(Types { all, names })
    }

    fn get(&self, number: u32) -> Option<&Type<'d>> {
        self.all.get(number as usize)
    }

    /// The type behind names, `const` and the like.
    fn plain(&self, mut number: u32) -> Option<&Type<'d>> {
        for _ in 0..DEPTH_MAX {
            let found = self.get(number)?;
            if !matches!(found.kind, TYPEDEF..=RESTRICT | 18) {
                return Some(found);
            }
            number = found.size;
        }
        None
    }

    /// Name and type of each member; `None` for a bit field.
    fn members<'t>(&'t self, of: &'t Type<'d>) -> impl Iterator<Item = Option<(&'d str, u32)>> + 't {
        of.rest.chunks_exact(12).map(move |member| {
            let offset = u32_at(member, 8)?;
            let name = name(self.names, u32_at(member, 0)?)?;
            // A bit field's size is in the upper byte.
            let whole = !of.with_bits || offset >> 24 == 0;
            whole.then_some((name, u32_at(member, 4)?))
        })
    }

    /// The members of the structure of a variable: what a map is defined by.
    pub(super) fn variable(&self, name: &str) -> Option<Vec<(&'d str, u32)>> {
        let variable = self.all.iter().find(|found| found.kind == VAR && found.name == name)?;
        let definition = self.plain(variable.size).filter(|found| found.kind == STRUCT)?;
        self.members(definition).collect()
    }

    /// What a pointer points to.
    pub(super) fn target(&self, number: u32) -> Option<u32> {
        self.plain(number).filter(|found| found.kind == POINTER).map(|found| found.size)
    }

    /// A number that is said by the length of an array behind a pointer.
    pub(super) fn number(&self, number: u32) -> Option<u32> {
        let array = self.plain(self.target(number)?).filter(|found| found.kind == ARRAY)?;
        u32_at(array.rest, 8)
    }

    /// How many bytes a value of the type has.
    pub(super) fn size(&self, number: u32) -> Option<u32> {
        let found = self.plain(number)?;
        Some(match found.kind {
            INT | STRUCT | UNION | ENUM | ENUM64 | FLOAT => found.size,
            POINTER => 8,
            ARRAY => self.size(u32_at(found.rest, 0)?)?.checked_mul(u32_at(found.rest, 8)?)?,
            _ => return None,
        })
    }

    /// The type for `bpf.js`; `None` where it cannot be told.
    pub(super) fn described(&self, number: u32) -> Option<Value> {
        self.described_within(number, DEPTH_MAX)
    }

    fn described_within(&self, number: u32, depth: usize) -> Option<Value> {
        let depth = depth.checked_sub(1)?;
        let found = self.plain(number)?;
        let whole = |signed: bool| -> Option<Value> {
            let bits = found.size.checked_mul(8).filter(|bits| matches!(bits, 8 | 16 | 32 | 64))?;
            Some(format!("{}int{bits}", if signed { "" } else { "u" }).into())
        };
        match found.kind {
            // The lowest bit of the encoding.
            INT => whole(u32_at(found.rest, 0)? >> 24 & 1 == 1),
            ENUM | ENUM64 => whole(found.with_bits),
            POINTER => Some("uint64".into()),
            FLOAT if found.size == 4 => Some("float".into()),
            FLOAT if found.size == 8 => Some("double".into()),
            ARRAY => {
                let (element, length) = (u32_at(found.rest, 0)?, u32_at(found.rest, 8)?);
                if self.plain(element)?.name == "char" {
                    return Some(format!("char[{length}]").into());
                }
                Some(vec![self.described_within(element, depth)?, length.into()].into())
            }
            STRUCT | UNION => {
                let mut fields: Vec<Value> = Vec::new();
                for member in self.members(found) {
                    let (name, of) = member.filter(|(name, _)| !name.is_empty())?;
                    fields.push(vec![name.into(), self.described_within(of, depth)?].into());
                }
                let kind = if found.kind == STRUCT { "struct" } else { "union" };
                Some(Object::new().with("kind", kind).with("size", found.size).with("fields", fields).into())
            }
            _ => None,
        }
    }
}
