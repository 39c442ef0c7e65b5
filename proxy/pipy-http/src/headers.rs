//! The header fields of a message, in one piece of memory.
//!
//! In: the bytes of a parsed header section, copied once, or fields set by name. Out: names and
//! values as byte slices, in the order in which they came.
//!
//! One arena holds the bytes, one list the places of names and values in it: two allocations per
//! message, none per field. Removing forgets the place and leaves the bytes; when the forgotten
//! outweigh the rest, the arena is rebuilt.
//!
//! Invariants: each name is a token, each value free of CR, LF, NUL and other control bytes and of
//! blanks around it, so that what is in here can be written to a wire as it is. Every entry lies
//! within the arena.
//!
//! Not done here: what a field means.

use std::fmt;
use std::ops::Range;

use memchr::memchr;

use crate::HttpError;
use crate::chars::{is_text, is_token, list_members, trim_ows};
use crate::error::shown;

/// Header fields. Names are compared without regard to ASCII case and keep the case they came in.
#[derive(Clone, Default)]
pub struct Headers {
    arena: Vec<u8>,
    entries: Vec<Entry>,
    /// Bytes of the arena that no entry uses any more and that came from removing or replacing.
    dead: usize,
}

/// Where a field lies in the arena. `u32`, because 16 bytes per field is a quarter of a line.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) name_start: u32,
    pub(crate) name_end: u32,
    pub(crate) value_start: u32,
    pub(crate) value_end: u32,
}

impl Headers {
    /// No fields, no memory.
    pub const fn new() -> Self {
        Self { arena: Vec::new(), entries: Vec::new(), dead: 0 }
    }

    /// No fields, and room for as many without growing, names and values being `bytes` in all.
    pub fn with_capacity(fields: usize, bytes: usize) -> Self {
        Self { arena: Vec::with_capacity(bytes), entries: Vec::with_capacity(fields), dead: 0 }
    }

    /// Takes over a parsed section. The parser promises the invariants of this module.
    pub(crate) fn from_parts(arena: Vec<u8>, entries: Vec<Entry>) -> Self {
        let headers = Self { arena, entries, dead: 0 };
        headers.check_invariants();
        headers
    }

    /// The number of fields; repeated names count each time.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value of the first field of that name.
    pub fn get(&self, name: impl AsRef<[u8]>) -> Option<&[u8]> {
        let name = name.as_ref();
        self.entries.iter().find(|entry| self.is_named(entry, name)).map(|entry| self.value(entry))
    }

    /// The value of the first field of that name, when it is UTF-8.
    pub fn get_str(&self, name: impl AsRef<[u8]>) -> Option<&str> {
        self.get(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// The values of all fields of that name, in order.
    pub fn get_all<'a>(&'a self, name: &'a (impl AsRef<[u8]> + ?Sized)) -> impl Iterator<Item = &'a [u8]> {
        let name = name.as_ref();
        self.entries.iter().filter(move |entry| self.is_named(entry, name)).map(|entry| self.value(entry))
    }

    /// Whether there is a field of that name.
    pub fn contains(&self, name: impl AsRef<[u8]>) -> bool {
        self.get(name).is_some()
    }

    /// Whether the comma lists of all fields of that name hold `token`, without regard to ASCII
    /// case: `contains_token("connection", "close")`.
    pub fn contains_token(&self, name: impl AsRef<[u8]>, token: impl AsRef<[u8]>) -> bool {
        let (name, token) = (name.as_ref(), token.as_ref());
        self.entries.iter().any(|entry| self.is_named(entry, name) && has_member(self.value(entry), token))
    }

    /// All fields as (name, value), in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.entries.iter().map(|entry| (self.name(entry), self.value(entry)))
    }

    /// Sets a field: the first of that name takes the value in its place (and keeps the case of its
    /// name), the others go; if there is none, the field is appended.
    ///
    /// Blanks around the value are dropped. Errors: as [`append`](Self::append).
    pub fn insert(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<(), HttpError> {
        let (name, value) = (name.as_ref(), trim_ows(value.as_ref()));
        check_field(name, value)?;
        let Some(first) = self.entries.iter().position(|entry| self.is_named(entry, name)) else {
            return self.append(name, value);
        };
        let added = self.store(value)?;
        let mut index = 0;
        self.retain_entries(|arena, entry| {
            let keep = index <= first || !range_is_named(arena, entry, name);
            index += 1;
            keep
        });
        if let Some(entry) = self.entries.get_mut(first) {
            self.dead += (entry.value_end - entry.value_start) as usize;
            entry.value_start = added.start;
            entry.value_end = added.end;
        }
        self.compact();
        self.check_invariants();
        Ok(())
    }

    /// Adds a field after all others; others of that name stay. Blanks around the value are
    /// dropped.
    ///
    /// Errors: [`HttpError::InvalidHeaderName`], [`HttpError::InvalidHeaderValue`];
    /// [`HttpError::Unencodable`] beyond 4 GiB of fields.
    pub fn append(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<(), HttpError> {
        let (name, value) = (name.as_ref(), trim_ows(value.as_ref()));
        check_field(name, value)?;
        let name = self.store(name)?;
        let value = self.store(value)?;
        self.entries.push(Entry {
            name_start: name.start,
            name_end: name.end,
            value_start: value.start,
            value_end: value.end,
        });
        self.check_invariants();
        Ok(())
    }

    /// Removes all fields of that name; says whether there was one.
    pub fn remove(&mut self, name: impl AsRef<[u8]>) -> bool {
        let name = name.as_ref();
        // Most removals find nothing: look before moving entries about.
        if !self.contains(name) {
            return false;
        }
        self.retain(|found, _| !found.eq_ignore_ascii_case(name));
        true
    }

    /// Keeps the fields for which `keep(name, value)` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(&[u8], &[u8]) -> bool) {
        self.retain_entries(|arena, entry| {
            keep(
                slice(arena, entry.name_start, entry.name_end),
                slice(arena, entry.value_start, entry.value_end),
            )
        });
        self.compact();
        self.check_invariants();
    }

    fn retain_entries(&mut self, mut keep: impl FnMut(&[u8], &Entry) -> bool) {
        let Self { arena, entries, dead } = self;
        entries.retain(|entry| {
            let kept = keep(arena, entry);
            if !kept {
                *dead += entry.bytes();
            }
            kept
        });
    }

    fn name(&self, entry: &Entry) -> &[u8] {
        slice(&self.arena, entry.name_start, entry.name_end)
    }

    fn value(&self, entry: &Entry) -> &[u8] {
        slice(&self.arena, entry.value_start, entry.value_end)
    }

    fn is_named(&self, entry: &Entry, name: &[u8]) -> bool {
        range_is_named(&self.arena, entry, name)
    }

    fn store(&mut self, bytes: &[u8]) -> Result<Range<u32>, HttpError> {
        let full = |_| HttpError::Unencodable { why: "headers exceed 4 GiB" };
        let start = u32::try_from(self.arena.len()).map_err(full)?;
        let end = u32::try_from(self.arena.len() + bytes.len()).map_err(full)?;
        self.arena.extend_from_slice(bytes);
        Ok(start..end)
    }

    /// Rebuilds the arena once more than half of it, and no trifle, is dead: a filter that sets
    /// the same field over and over must not grow it for ever.
    fn compact(&mut self) {
        if self.dead < COMPACT_BYTES_MIN || self.dead * 2 < self.arena.len() {
            return;
        }
        let live = self.entries.iter().map(Entry::bytes).sum();
        let mut arena = Vec::with_capacity(live);
        for entry in &mut self.entries {
            let mut moved = |start: &mut u32, end: &mut u32| {
                // The new arena is never longer than the old, whose places are `u32`.
                let at = arena.len() as u32;
                arena.extend_from_slice(slice(&self.arena, *start, *end));
                (*start, *end) = (at, arena.len() as u32);
            };
            moved(&mut entry.name_start, &mut entry.name_end);
            moved(&mut entry.value_start, &mut entry.value_end);
        }
        self.arena = arena;
        self.dead = 0;
    }

    fn check_invariants(&self) {
        debug_assert!(self.entries.iter().all(|entry| {
            entry.name_end as usize <= self.arena.len()
                && entry.value_end as usize <= self.arena.len()
                && check_field(self.name(entry), self.value(entry)).is_ok()
                && trim_ows(self.value(entry)).len() == self.value(entry).len()
        }));
    }

    /// Bytes held for all fields: at least the sum of names and values.
    pub(crate) fn stored_bytes(&self) -> usize {
        self.arena.len()
    }
}

impl Entry {
    fn bytes(&self) -> usize {
        (self.name_end - self.name_start) as usize + (self.value_end - self.value_start) as usize
    }
}

/// Equal when the same fields stand in the same order, names compared without regard to case.
impl PartialEq for Headers {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len()
            && self.iter().zip(other.iter()).all(|((name, value), (other_name, other_value))| {
                name.eq_ignore_ascii_case(other_name) && value == other_value
            })
    }
}

impl Eq for Headers {}

/// Shows credentials as `***`: a head is printed in logs and test failures.
impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.iter().map(|(name, value)| {
                let secret = SECRETS.iter().any(|known| name.eq_ignore_ascii_case(known));
                let value = if secret { b"***" } else { value };
                (name.escape_ascii().to_string(), value.escape_ascii().to_string())
            }))
            .finish()
    }
}

fn slice(arena: &[u8], start: u32, end: u32) -> &[u8] {
    // INVARIANT: entries lie within the arena; the empty slice is never taken.
    arena.get(start as usize..end as usize).unwrap_or_default()
}

fn range_is_named(arena: &[u8], entry: &Entry, name: &[u8]) -> bool {
    // The length first: it tells most names apart without touching the arena.
    (entry.name_end - entry.name_start) as usize == name.len()
        && slice(arena, entry.name_start, entry.name_end).eq_ignore_ascii_case(name)
}

/// Whether a comma list has that member.
fn has_member(list: &[u8], token: &[u8]) -> bool {
    // Most lists are that member, or another one alone.
    list.eq_ignore_ascii_case(token)
        || (memchr(b',', list).is_some()
            && list_members(list).any(|member| member.eq_ignore_ascii_case(token)))
}

fn check_field(name: &[u8], value: &[u8]) -> Result<(), HttpError> {
    if !is_token(name) {
        return Err(HttpError::InvalidHeaderName { found: shown(name) });
    }
    if !is_text(value) {
        return Err(HttpError::InvalidHeaderValue { name: shown(name) });
    }
    Ok(())
}

const SECRETS: [&[u8]; 4] = [b"authorization", b"proxy-authorization", b"cookie", b"set-cookie"];

/// LIMIT: below this, wasted bytes cost less than moving the others.
const COMPACT_BYTES_MIN: usize = 4096;

#[cfg(test)]
mod tests;
