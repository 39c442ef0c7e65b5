//! All streams of a connection: the live ones, and what is remembered of those that have closed.
//!
//! In: identifiers. Out: streams, or why there is none. Live streams lie in a slab; an index sorted
//! by identifier finds them, which is short (`max_concurrent_streams`) and mostly appended to.
//!
//! Frames may be under way to a stream that we reset (RFC 9113 §5.1): such streams are remembered
//! for a while, to tell honest frames from wrong ones.
//!
//! Invariant: the index holds exactly the streams of the slab; an empty store keeps little memory.

use std::collections::VecDeque;

use slab::Slab;

use crate::stream::Stream;

#[derive(Debug, Default)]
pub(crate) struct Streams {
    slab: Slab<Stream>,
    /// (identifier, key), by identifier.
    index: Vec<(u32, u32)>,
    /// Streams that we reset before the peer had ended them.
    reset_early: VecDeque<u32>,
    /// The last ones that closed otherwise: they only choose between two error codes.
    closed: [u32; CLOSED_REMEMBERED],
    closed_next: u8,
}

/// The place of a live stream. Checked with the identifier, because places are used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    id: u32,
    slot: u32,
}

impl Streams {
    /// Live streams.
    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    pub(crate) fn insert(&mut self, stream: Stream) -> Key {
        let id = stream.id;
        let slot = self.slab.insert(stream) as u32;
        match self.index.last() {
            Some(&(last, _)) if last > id => {
                let at = self.index.partition_point(|&(other, _)| other < id);
                self.index.insert(at, (id, slot));
            }
            _ => self.index.push((id, slot)),
        }
        Key { id, slot }
    }

    pub(crate) fn find(&self, id: u32) -> Option<Key> {
        let at = self.index.binary_search_by_key(&id, |&(other, _)| other).ok()?;
        self.index.get(at).map(|&(id, slot)| Key { id, slot })
    }

    pub(crate) fn get(&self, key: Key) -> Option<&Stream> {
        self.slab.get(key.slot as usize).filter(|stream| stream.id == key.id)
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut Stream> {
        self.slab.get_mut(key.slot as usize).filter(|stream| stream.id == key.id)
    }

    pub(crate) fn by_id(&mut self, id: u32) -> Option<(Key, &mut Stream)> {
        let key = self.find(id)?;
        self.get_mut(key).map(|stream| (key, stream))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (Key, &mut Stream)> {
        self.slab.iter_mut().map(|(slot, stream)| (Key { id: stream.id, slot: slot as u32 }, stream))
    }

    /// The identifiers of all live streams, in order.
    pub(crate) fn ids(&self) -> impl Iterator<Item = u32> {
        self.index.iter().map(|&(id, _)| id)
    }

    /// Takes a stream out; `reset_early` if frames of the peer may still be under way to it.
    pub(crate) fn remove(&mut self, key: Key, reset_early: bool) -> Option<Stream> {
        self.get(key)?;
        let at = self.index.binary_search_by_key(&key.id, |&(id, _)| id).ok()?;
        self.index.remove(at);
        let stream = self.slab.try_remove(key.slot as usize);
        self.remember(key.id, reset_early);
        if self.slab.is_empty() {
            if self.slab.capacity() > KEPT_WHEN_EMPTY {
                self.slab = Slab::new();
            }
            if self.index.capacity() > KEPT_WHEN_EMPTY * 4 {
                self.index = Vec::new();
            }
        }
        stream
    }

    /// Remembers a stream that was never live, or is not any more.
    pub(crate) fn remember(&mut self, id: u32, reset_early: bool) {
        if reset_early {
            if self.reset_early.len() >= RESET_REMEMBERED {
                self.reset_early.pop_front();
            }
            self.reset_early.push_back(id);
        } else {
            let at = usize::from(self.closed_next) % CLOSED_REMEMBERED;
            if let Some(place) = self.closed.get_mut(at) {
                *place = id;
            }
            self.closed_next = (at as u8 + 1) % CLOSED_REMEMBERED as u8;
        }
    }

    /// Whether frames on this stream, which is not live, are to be expected for a while.
    pub(crate) fn was_reset_early(&self, id: u32) -> bool {
        self.reset_early.contains(&id)
    }

    /// Whether this stream is known to have closed.
    pub(crate) fn was_closed(&self, id: u32) -> bool {
        self.closed.contains(&id)
    }

    /// Bytes of heap memory, queues of streams aside.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.slab.capacity() * size_of::<Stream>()
            + self.index.capacity() * 8
            + self.reset_early.capacity() * 4
    }
}

/// LIMIT: streams we reset whose late frames are forgiven. Twice the streams at once that we allow
/// by default: all of them may be reset at once, and opened and reset again.
const RESET_REMEMBERED: usize = 256;

/// LIMIT: how many other closed streams are known by name.
const CLOSED_REMEMBERED: usize = 8;

/// LIMIT: places for streams that an idle connection keeps.
const KEPT_WHEN_EMPTY: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::RequestKind;

    fn stream(id: u32) -> Stream {
        Stream::new(id, RequestKind::Plain, 100, 100)
    }

    #[test]
    fn streams_are_found_by_identifier_in_any_order_of_removal() {
        let mut streams = Streams::default();
        let keys: Vec<Key> = [1, 3, 7, 5, 9].map(|id| streams.insert(stream(id))).into();
        assert_eq!(streams.ids().collect::<Vec<_>>(), [1, 3, 5, 7, 9]);
        streams.remove(keys[1], false);
        streams.remove(keys[4], true);
        assert!(streams.find(3).is_none() && streams.by_id(7).is_some());
        assert!(streams.was_closed(3) && !streams.was_reset_early(3));
        assert!(streams.was_reset_early(9) && !streams.was_closed(9));
        assert_eq!(streams.len(), 3);
    }

    #[test]
    fn a_key_of_a_removed_stream_finds_nothing_even_when_its_place_is_used_again() {
        let mut streams = Streams::default();
        let old = streams.insert(stream(1));
        streams.remove(old, false);
        let new = streams.insert(stream(3));
        assert_eq!(old.slot, new.slot);
        assert!(streams.get(old).is_none() && streams.get_mut(old).is_none());
        assert!(streams.remove(old, false).is_none());
        assert!(streams.get(new).is_some());
    }

    #[test]
    fn memory_is_given_back_when_the_last_stream_closes() {
        let mut streams = Streams::default();
        for id in 0..1000 {
            streams.insert(stream(id * 2 + 1));
        }
        for id in streams.ids().collect::<Vec<_>>() {
            streams.remove(streams.find(id).unwrap(), true);
        }
        assert!(streams.heap_bytes() <= RESET_REMEMBERED * 4, "{}", streams.heap_bytes());
        assert!(streams.was_reset_early(1999) && !streams.was_reset_early(1));
    }
}
