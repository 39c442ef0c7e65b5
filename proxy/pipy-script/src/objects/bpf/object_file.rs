//! An object file of the kernel's virtual machine, as compilers write it.
//!
//! In: its bytes. Out: maps with their shapes and types, programs with the places where a map's descriptor belongs. INVARIANT: every
//! place is within its program.
//!
//! Not done here: functions that are not inlined, relocation by the kernel's own types (CO-RE), maps within maps.

use object::read::elf::{ElfFile64, FileHeader as _};
use object::{
    Endianness, Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SectionKind, SymbolKind,
};

use super::btf::Types;

/// LIMIT: bytes of a program; the kernel takes a million instructions.
const PROGRAM_BYTES_MAX: u64 = 8 * 1_000_000;
const INSTRUCTION_BYTES: usize = 8;
const EM_BPF: u16 = 247;
/// The instruction that takes 64 bits, to which a descriptor belongs; it is two instructions long.
const LOAD_64: u8 = 0x18;
const CALL: u8 = 0x85;
/// What a call's register says when it is one of a function of the file, and a load's when it is of a map, or of a place in it.
const PSEUDO_CALL: u8 = 1;
const PSEUDO_MAP: u8 = 1;
const PSEUDO_MAP_VALUE: u8 = 2;

/// A map of the file.
pub(super) struct MapDef {
    pub(super) name: String,
    pub(super) kind: u32,
    pub(super) flags: u32,
    pub(super) entries_max: u32,
    pub(super) key_bytes: u32,
    pub(super) value_bytes: u32,
    pub(super) key_type: Option<pipy_protocols::Value>,
    pub(super) value_type: Option<pipy_protocols::Value>,
    /// Of a section of variables: what they are at first, and whether they may change.
    pub(super) content: Option<(Vec<u8>, bool)>,
}

/// A program of the file.
pub(super) struct ProgramDef {
    pub(super) name: String,
    pub(super) section: String,
    pub(super) instructions: Vec<u8>,
    /// The offset of an instruction, and the number of the map that it is about.
    places: Vec<(usize, usize)>,
}

/// What is in a file.
pub(super) struct ObjectFile {
    pub(super) maps: Vec<MapDef>,
    pub(super) programs: Vec<ProgramDef>,
    pub(super) license: String,
}

type Elf<'d> = ElfFile64<'d, Endianness>;

impl ObjectFile {
    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong with it, or not supported.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        let elf = Elf::parse(bytes).map_err(|error| format!("no object file: {error}"))?;
        if elf.elf_header().e_machine(elf.endian()) != EM_BPF || !elf.is_little_endian() {
            return Err("the object file is none of BPF for this machine".to_owned());
        }
        let data = |name: &str| elf.section_by_name(name).and_then(|section| section.data().ok());
        let types = data(".BTF").and_then(Types::read);
        let license = data("license").map(|text| {
            let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
            String::from_utf8_lossy(text.get(..end).unwrap_or_default()).into_owned()
        });
        let mut file =
            ObjectFile { maps: Vec::new(), programs: Vec::new(), license: license.unwrap_or_default() };
        // The section and the place in it of each map, by which code refers to it.
        let mut known = Vec::new();
        if let Some(section) = elf.section_by_name(".maps") {
            let types = types.as_ref().ok_or("the object file has maps, but no types: compile it with -g")?;
            for symbol in elf.symbols().filter(|symbol| symbol.section_index() == Some(section.index())) {
                let Some(name) = symbol.name().ok().filter(|name| !name.is_empty()) else { continue };
                if symbol.kind() == SymbolKind::Section {
                    continue;
                }
                known.push((section.index(), symbol.address()));
                file.maps.push(map(name, types)?);
            }
        }
        for section in elf.sections() {
            let constant = match section.kind() {
                SectionKind::ReadOnlyData | SectionKind::ReadOnlyString => true,
                SectionKind::Data | SectionKind::UninitializedData => false,
                _ => continue,
            };
            let name = section.name().unwrap_or_default();
            let of_variables = [".rodata", ".data", ".bss"].iter().any(|kind| name.starts_with(kind));
            if !of_variables || section.size() == 0 {
                continue;
            }
            known.push((section.index(), VARIABLES));
            file.maps.push(variables(name, &section, constant)?);
        }
        for symbol in elf.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0) {
            file.programs.push(program(&elf, &symbol, &known, &file.maps)?);
        }
        Ok(file)
    }
}

/// Stands for the place of a section that is one map as a whole.
const VARIABLES: u64 = u64::MAX;

fn map(name: &str, types: &Types<'_>) -> Result<MapDef, String> {
    let wrong = |what: &str| format!("the map {name} {what}");
    let members = types.variable(name).ok_or_else(|| wrong("has no definition among the types"))?;
    let member = |wanted: &str| members.iter().find(|(name, _)| *name == wanted).map(|(_, of)| *of);
    let number = |wanted: &str| member(wanted).and_then(|of| types.number(of));
    let (key, value) =
        (member("key").and_then(|of| types.target(of)), member("value").and_then(|of| types.target(of)));
    if members.iter().any(|(name, _)| *name == "values") {
        return Err(wrong("holds maps or programs, which is not supported"));
    }
    let bytes = |size: &str, of: Option<u32>| number(size).or_else(|| of.and_then(|of| types.size(of)));
    Ok(MapDef {
        name: name.to_owned(),
        kind: number("type").ok_or_else(|| wrong("has no type"))?,
        flags: number("map_flags").unwrap_or(0),
        entries_max: number("max_entries").unwrap_or(0),
        key_bytes: bytes("key_size", key).unwrap_or(0),
        value_bytes: bytes("value_size", value).unwrap_or(0),
        key_type: key.and_then(|of| types.described(of)),
        value_type: value.and_then(|of| types.described(of)),
        content: None,
    })
}

/// A section of variables is a map with one value.
fn variables<'d>(
    name: &str,
    section: &impl object::ObjectSection<'d>,
    constant: bool,
) -> Result<MapDef, String> {
    const ARRAY: u32 = 2;
    const READ_ONLY_FOR_PROGRAMS: u32 = 0x80;
    let bytes = u32::try_from(section.size()).map_err(|_| format!("the section {name} is too large"))?;
    if u64::from(bytes) > PROGRAM_BYTES_MAX {
        return Err(format!("the section {name} is too large"));
    }
    let mut content = section.data().map(<[u8]>::to_vec).unwrap_or_default();
    content.resize(bytes as usize, 0);
    Ok(MapDef {
        name: name.to_owned(),
        kind: ARRAY,
        flags: if constant { READ_ONLY_FOR_PROGRAMS } else { 0 },
        entries_max: 1,
        key_bytes: 4,
        value_bytes: bytes,
        key_type: None,
        value_type: None,
        content: Some((content, constant)),
    })
}

fn program<'d>(
    elf: &Elf<'d>,
    symbol: &impl object::ObjectSymbol<'d>,
    known: &[(object::SectionIndex, u64)],
    maps: &[MapDef],
) -> Result<ProgramDef, String> {
    let name = symbol.name().unwrap_or_default();
    let wrong = |what: &str| format!("the program {name} {what}");
    let index = symbol.section_index().ok_or_else(|| wrong("is in no section"))?;
    let section = elf.section_by_index(index).map_err(|error| wrong(&error.to_string()))?;
    let begin = symbol.address();
    let end = begin.checked_add(symbol.size()).filter(|_| symbol.size() <= PROGRAM_BYTES_MAX);
    let end = end.ok_or_else(|| wrong("is too large"))?;
    let data = section.data().map_err(|error| wrong(&error.to_string()))?;
    let range = usize::try_from(begin).ok().zip(usize::try_from(end).ok());
    let code = range.and_then(|(begin, end)| data.get(begin..end));
    let mut instructions = code.ok_or_else(|| wrong("is not within its section"))?.to_vec();
    if instructions.len() % INSTRUCTION_BYTES != 0 {
        return Err(wrong("ends within an instruction"));
    }
    let mut places = Vec::new();
    for (offset, relocation) in section.relocations().filter(|(offset, _)| (begin..end).contains(offset)) {
        let at = usize::try_from(offset - begin).map_err(|_| wrong("is too large"))?;
        let RelocationTarget::Symbol(target) = relocation.target() else { continue };
        let target = elf.symbol_by_index(target).map_err(|error| wrong(&error.to_string()))?;
        let meant = target.name().unwrap_or_default();
        let instruction = instructions.get_mut(at..at + 2 * INSTRUCTION_BYTES);
        let Some(instruction) = instruction.filter(|code| code.first() == Some(&LOAD_64)) else {
            return Err(wrong(&format!("calls {meant}, which is not inlined: that is not supported")));
        };
        let section =
            target.section_index().ok_or_else(|| wrong(&format!("uses {meant}, which is not here")))?;
        // What a compiler has left in the instruction: the place within the section, or within the variable.
        let left = instruction
            .get(4..)
            .and_then(|rest| rest.first_chunk::<4>())
            .map_or(0, |four| u32::from_le_bytes(*four));
        let place = if target.kind() == SymbolKind::Section { left.into() } else { target.address() };
        let map = known.iter().position(|known| *known == (section, place) || *known == (section, VARIABLES));
        let map = map.ok_or_else(|| wrong(&format!("uses {meant}, which is no map")))?;
        let of_variables = maps.get(map).is_some_and(|map| map.content.is_some());
        let [_, register, _, _, first @ .., _, _, _, _, _, _, _, _] = instruction else { continue };
        *register = *register & 0x0f | (if of_variables { PSEUDO_MAP_VALUE } else { PSEUDO_MAP }) << 4;
        first.fill(0);
        if of_variables {
            let offset = match target.kind() {
                SymbolKind::Section => left,
                _ => match u32::try_from(target.address()).unwrap_or(0) {
                    // One compiler has left the variable's place there, too, the other has not.
                    address if address == left => left,
                    address => address.wrapping_add(left),
                },
            };
            let second = instruction.get_mut(12..16).unwrap_or_default();
            second.iter_mut().zip(offset.to_le_bytes()).for_each(|(to, from)| *to = from);
        }
        places.push((at, map));
    }
    let calls = |code: &[u8]| matches!(code, [CALL, registers, ..] if registers >> 4 == PSEUDO_CALL);
    if instructions.chunks_exact(INSTRUCTION_BYTES).any(calls) {
        return Err(wrong("calls a function that is not inlined, which is not supported"));
    }
    Ok(ProgramDef {
        name: name.to_owned(),
        section: section.name().unwrap_or_default().to_owned(),
        instructions,
        places,
    })
}

impl ProgramDef {
    /// The instructions, with the descriptors of maps in their places.
    pub(super) fn linked(&self, descriptors: &[i32]) -> Vec<u8> {
        let mut code = self.instructions.clone();
        for (at, map) in &self.places {
            let descriptor = descriptors.get(*map).copied().unwrap_or(-1).to_le_bytes();
            let place = code.get_mut(at + 4..at + 8).unwrap_or_default();
            place.iter_mut().zip(descriptor).for_each(|(to, from)| *to = from);
        }
        code
    }

    /// The numbers of the maps that it needs.
    pub(super) fn maps(&self) -> impl Iterator<Item = usize> + '_ {
        self.places.iter().map(|(_, map)| *map)
    }
}
