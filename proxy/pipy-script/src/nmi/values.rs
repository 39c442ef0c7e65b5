//! The numbers of values that modules have.
//!
//! A value is good until the callback in which it was made is over; one that is held, until it is freed. INVARIANT: a number
//! that stands for nothing is `undefined`, whatever a module does with it.

use std::cell::RefCell;
use std::rc::Rc;

use pipy_nmi::Handle;

use crate::engine::Kept;

/// A value. What is no object needs no engine.
#[derive(Clone, Default)]
pub(super) enum Item {
    #[default]
    Undefined,
    Null,
    Boolean(bool),
    Number(f64),
    Text(Rc<str>),
    Kept(Kept),
}

struct Entry {
    item: Item,
    holds: u32,
    /// Made in a callback that is not over.
    local: bool,
}

#[derive(Default)]
struct Table {
    entries: Vec<Option<Entry>>,
    free: Vec<usize>,
    /// What the callbacks that are under way have made: they may be within each other.
    callbacks: Vec<Vec<usize>>,
}

/// All values of one engine's modules.
#[derive(Default)]
pub(super) struct Values(RefCell<Table>);

/// LIMIT: values that modules have at a time. One that never frees what it holds is given nothing more.
const VALUES_MAX: usize = 1 << 24;

impl Table {
    fn at(&mut self, handle: Handle) -> Option<&mut Entry> {
        let index = usize::try_from(handle).ok()?.checked_sub(1)?;
        self.entries.get_mut(index)?.as_mut()
    }

    fn remove(&mut self, index: usize) -> Option<Entry> {
        let removed = self.entries.get_mut(index)?.take();
        self.free.push(index);
        removed
    }
}

impl Values {
    /// A callback begins.
    pub(super) fn begin(&self) {
        self.0.borrow_mut().callbacks.push(Vec::new());
    }

    /// A callback is over.
    pub(super) fn end(&self) {
        let mut gone = Vec::new();
        let mut table = self.0.borrow_mut();
        for index in table.callbacks.pop().unwrap_or_default() {
            let Some(Some(entry)) = table.entries.get_mut(index) else { continue };
            entry.local = false;
            if entry.holds == 0 {
                gone.push(table.remove(index));
            }
        }
        // What goes may free objects of the engine.
        drop(table);
        drop(gone);
    }

    pub(super) fn add(&self, item: Item) -> Handle {
        let mut table = self.0.borrow_mut();
        let index = match table.free.pop() {
            Some(index) => index,
            None if table.entries.len() < VALUES_MAX => {
                table.entries.push(None);
                table.entries.len() - 1
            }
            None => return 0,
        };
        let local = !table.callbacks.is_empty();
        if let Some(place) = table.entries.get_mut(index) {
            *place = Some(Entry { item, holds: 0, local });
        }
        if let Some(callback) = table.callbacks.last_mut() {
            callback.push(index);
        }
        Handle::try_from(index + 1).unwrap_or(0)
    }

    pub(super) fn get(&self, handle: Handle) -> Item {
        self.0.borrow_mut().at(handle).map(|entry| entry.item.clone()).unwrap_or_default()
    }

    pub(super) fn set(&self, handle: Handle, item: Item) {
        let before = self.0.borrow_mut().at(handle).map(|entry| std::mem::replace(&mut entry.item, item));
        drop(before);
    }

    pub(super) fn hold(&self, handle: Handle) {
        if let Some(entry) = self.0.borrow_mut().at(handle) {
            entry.holds = entry.holds.saturating_add(1);
        }
    }

    pub(super) fn free(&self, handle: Handle) {
        let mut table = self.0.borrow_mut();
        let Some(entry) = table.at(handle) else { return };
        entry.holds = entry.holds.saturating_sub(1);
        if entry.holds > 0 || entry.local {
            return;
        }
        let gone = usize::try_from(handle).ok().and_then(|index| table.remove(index - 1));
        drop(table);
        drop(gone);
    }

    pub(super) fn clear(&self) {
        drop(self.0.take());
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        self.0.borrow().entries.iter().flatten().count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(values: &Values, handle: Handle) -> Option<f64> {
        match values.get(handle) {
            Item::Number(number) => Some(number),
            _ => None,
        }
    }

    #[test]
    fn a_value_is_gone_with_its_callback_unless_it_is_held() {
        let values = Values::default();
        values.begin();
        let (gone, held) = (values.add(Item::Number(1.0)), values.add(Item::Number(2.0)));
        values.hold(held);
        values.begin();
        let inner = values.add(Item::Number(3.0));
        assert_eq!(number(&values, inner), Some(3.0));
        values.end();
        assert_eq!((number(&values, inner), number(&values, gone)), (None, Some(1.0)));
        values.end();
        assert_eq!((number(&values, gone), number(&values, held)), (None, Some(2.0)));
        values.free(held);
        values.free(held);
        assert_eq!((number(&values, held), values.count()), (None, 0));
    }

    #[test]
    fn what_is_held_twice_is_freed_twice_and_a_free_within_the_callback_waits() {
        let values = Values::default();
        values.begin();
        let handle = values.add(Item::Null);
        values.hold(handle);
        values.hold(handle);
        values.free(handle);
        values.free(handle);
        assert!(matches!(values.get(handle), Item::Null));
        values.end();
        assert_eq!(values.count(), 0);
    }

    #[test]
    fn numbers_that_stand_for_nothing_do_nothing() {
        let values = Values::default();
        for handle in [0, -1, 7, Handle::MAX, Handle::MIN] {
            values.set(handle, Item::Null);
            values.hold(handle);
            values.free(handle);
            assert!(matches!(values.get(handle), Item::Undefined));
        }
        values.end();
    }
}
