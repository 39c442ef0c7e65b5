//! The dynamic table of HPACK (RFC 7541 §2.3 and §4), for reading and for writing.
//!
//! In: fields. Out: fields by index, where 0 is the newest; for writing also indices by field.
//!
//! The bytes of all entries lie in one arena, oldest first; what was evicted leaves a gap at its
//! beginning, which is closed when it outweighs the rest. So an insertion allocates nothing once the
//! table has its size, and an unused table owns no heap memory.
//!
//! Invariants: `size` is the sum of name, value and 32 for each entry (§4.1) and never exceeds
//! `size_max`; entries lie within the arena, in order.
//!
//! Not done here: indices of the static table, when to insert.

use std::collections::VecDeque;

/// What an entry costs beside its bytes (§4.1).
pub(super) const ENTRY_OVERHEAD: usize = 32;

/// A table of at most `size_max` bytes as §4.1 counts them.
#[derive(Debug)]
pub(super) struct Table {
    arena: Vec<u8>,
    entries: VecDeque<Entry>,
    size: usize,
    size_max: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Where the name begins in the arena; the value follows it.
    start: u32,
    name_len: u32,
    value_len: u32,
    /// Of name and value, so that most entries are told apart without a look at their bytes.
    hash: u32,
    name_hash: u32,
}

/// Where a field was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Field(usize),
    Name(usize),
    Nothing,
}

impl Table {
    pub(super) const fn new(size_max: usize) -> Self {
        Self { arena: Vec::new(), entries: VecDeque::new(), size: 0, size_max }
    }

    pub(super) fn size_max(&self) -> usize {
        self.size_max
    }

    /// Changes the maximum, evicting what no longer fits (§4.3).
    pub(super) fn set_size_max(&mut self, size_max: usize) {
        self.size_max = size_max;
        self.evict_to(size_max);
        if self.entries.is_empty() {
            // Nothing is left to point at: give the memory back.
            self.arena = Vec::new();
            self.entries = VecDeque::new();
        }
    }

    /// The entry at `index`, counted from the newest.
    pub(super) fn get(&self, index: usize) -> Option<(&[u8], &[u8])> {
        let entry = self.entries.get(self.entries.len().checked_sub(index + 1)?)?;
        Some((self.name(entry), self.value(entry)))
    }

    /// Adds a field, evicting the oldest as needed. One that is larger than the table empties it
    /// and is not added, which is no error (§4.4).
    pub(super) fn insert(&mut self, name: &[u8], value: &[u8]) {
        let cost = name.len() + value.len() + ENTRY_OVERHEAD;
        if cost > self.size_max {
            self.evict_to(0);
            self.arena.clear();
            return;
        }
        self.evict_to(self.size_max - cost);
        self.close_gap();
        // Within `size_max`, which a u32 setting bounds.
        let start = self.arena.len() as u32;
        self.arena.extend_from_slice(name);
        self.arena.extend_from_slice(value);
        let name_hash = hash(HASH_START, name);
        self.entries.push_back(Entry {
            start,
            name_len: name.len() as u32,
            value_len: value.len() as u32,
            hash: hash(name_hash, value),
            name_hash,
        });
        self.size += cost;
        self.check_invariants();
    }

    /// Adds a field with the name of the entry at `index`, which the insertion may evict (§4.4).
    pub(super) fn insert_with_name_of(&mut self, index: usize, value: &[u8]) {
        let Some((name, _)) = self.get(index) else { return };
        let name: smallvec::SmallVec<[u8; 64]> = name.into();
        self.insert(&name, value);
    }

    /// The newest entry that is this field, else the newest of its name.
    pub(super) fn find(&self, name: &[u8], value: &[u8]) -> Found {
        let name_hash = hash(HASH_START, name);
        let hash = hash(name_hash, value);
        let mut named = Found::Nothing;
        for (index, entry) in self.entries.iter().rev().enumerate() {
            if entry.name_hash != name_hash {
                continue;
            }
            if entry.hash == hash && self.name(entry) == name && self.value(entry) == value {
                return Found::Field(index);
            }
            if named == Found::Nothing && self.name(entry) == name {
                named = Found::Name(index);
            }
        }
        named
    }

    /// Bytes of heap memory.
    pub(super) fn heap_bytes(&self) -> usize {
        self.arena.capacity() + self.entries.capacity() * size_of::<Entry>()
    }

    fn evict_to(&mut self, size: usize) {
        while self.size > size {
            let Some(entry) = self.entries.pop_front() else { break };
            self.size -= (entry.name_len + entry.value_len) as usize + ENTRY_OVERHEAD;
        }
    }

    /// Moves the entries to the beginning of the arena once the gap there is the larger part: each
    /// byte is moved at most once per byte evicted.
    fn close_gap(&mut self) {
        let gap = self.entries.front().map_or(self.arena.len(), |entry| entry.start as usize);
        if gap == 0 || gap * 2 < self.arena.len() {
            return;
        }
        self.arena.drain(..gap);
        for entry in &mut self.entries {
            entry.start -= gap as u32;
        }
    }

    fn name(&self, entry: &Entry) -> &[u8] {
        self.slice(entry.start, entry.name_len)
    }

    fn value(&self, entry: &Entry) -> &[u8] {
        self.slice(entry.start + entry.name_len, entry.value_len)
    }

    fn slice(&self, start: u32, len: u32) -> &[u8] {
        // INVARIANT: entries lie within the arena; the empty slice is never taken.
        self.arena.get(start as usize..(start + len) as usize).unwrap_or_default()
    }

    fn check_invariants(&self) {
        debug_assert!(self.size <= self.size_max);
        debug_assert_eq!(
            self.size,
            self.entries
                .iter()
                .map(|entry| (entry.name_len + entry.value_len) as usize + ENTRY_OVERHEAD)
                .sum::<usize>()
        );
        debug_assert!(
            self.entries
                .iter()
                .all(|entry| (entry.start + entry.name_len + entry.value_len) as usize <= self.arena.len())
        );
    }

    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.size
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

const HASH_START: u32 = 0x9e37_79b9;

/// A quick hash, eight bytes at a time. Collisions cost a comparison in a table of at most 128
/// entries, so nobody gains by finding them.
#[inline]
fn hash(start: u32, bytes: &[u8]) -> u32 {
    const FACTOR: u64 = 0x517c_c1b7_2722_0a95;
    let mut state = u64::from(start);
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        let word = word.try_into().map_or(0, u64::from_le_bytes);
        state = (state.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    }
    let tail = words.remainder().iter().fold(bytes.len() as u64, |tail, &byte| tail << 8 | u64::from(byte));
    state = (state.rotate_left(5) ^ tail).wrapping_mul(FACTOR);
    (state >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_entry_is_the_first_and_the_oldest_goes_first() {
        let mut table = Table::new(2 * (4 + ENTRY_OVERHEAD));
        table.insert(b"a1", b"b1");
        table.insert(b"a2", b"b2");
        assert_eq!(table.get(0), Some((&b"a2"[..], &b"b2"[..])));
        assert_eq!(table.get(1), Some((&b"a1"[..], &b"b1"[..])));
        table.insert(b"a3", b"b3");
        assert_eq!(table.get(1), Some((&b"a2"[..], &b"b2"[..])));
        assert_eq!(table.get(2), None);
        assert_eq!(table.get(usize::MAX - 1), None);
    }

    #[test]
    fn an_entry_larger_than_the_table_empties_it() {
        let mut table = Table::new(64);
        table.insert(b"a", b"b");
        table.insert(b"a", &[b'b'; 32]);
        assert_eq!((table.len(), table.size()), (0, 0));
        table.insert(b"a", &[b'b'; 31]);
        assert_eq!((table.len(), table.size()), (1, 64));
    }

    #[test]
    fn a_name_survives_the_eviction_of_its_entry() {
        let mut table = Table::new(40);
        table.insert(b"name", b"1234");
        table.insert_with_name_of(0, b"4321");
        assert_eq!(table.get(0), Some((&b"name"[..], &b"4321"[..])));
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn fields_are_found_before_names_and_new_ones_before_old_ones() {
        let mut table = Table::new(4096);
        for value in ["1", "2", "3", "2"] {
            table.insert(b"x", value.as_bytes());
        }
        assert_eq!(table.find(b"x", b"2"), Found::Field(0));
        assert_eq!(table.find(b"x", b"1"), Found::Field(3));
        assert_eq!(table.find(b"x", b"4"), Found::Name(0));
        assert_eq!(table.find(b"y", b"1"), Found::Nothing);
        // Name and value are not confused where they meet.
        assert_eq!(table.find(b"x1", b""), Found::Nothing);
    }

    #[test]
    fn the_arena_stays_within_twice_the_table_however_much_passes() {
        let mut table = Table::new(4096);
        for index in 0..10_000u32 {
            let value = vec![b'v'; (index * 7 % 900) as usize];
            table.insert(format!("name-{index}").as_bytes(), &value);
            assert_eq!(table.get(0).unwrap().1, value);
        }
        assert!(table.heap_bytes() < 4 * 4096, "{}", table.heap_bytes());
        table.set_size_max(0);
        assert_eq!((table.len(), table.heap_bytes()), (0, 0));
    }

    #[test]
    fn lowering_the_maximum_evicts_the_oldest() {
        let mut table = Table::new(4096);
        for index in 0..10 {
            table.insert(b"n", format!("{index:02}").as_bytes());
        }
        table.set_size_max(3 * 35);
        assert_eq!(table.len(), 3);
        assert_eq!(table.get(2), Some((&b"n"[..], &b"07"[..])));
        assert_eq!(table.size_max(), 105);
    }
}
