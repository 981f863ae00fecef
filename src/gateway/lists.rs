//! Lists of `u32` for things that have many of them and few each: what a connection follows, and the like.

use crate::tables::runs::{Run, Runs};

/// A list's place and length: 8 bytes in its owner. Not `Copy`: its owner frees it with [`Lists::clear`].
#[derive(Debug, PartialEq, Eq)]
pub struct ListRef(Run);

const _: () = assert!(size_of::<ListRef>() == 8);

impl ListRef {
    pub const EMPTY: Self = Self(Run::EMPTY);
    pub fn len(&self) -> usize {
        self.0.len as usize
    }
    pub fn is_empty(&self) -> bool {
        self.0.len == 0
    }
}

impl Default for ListRef {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// Per shard: the memory of all lists.
#[derive(Debug, Default)]
pub struct Lists(Runs);

impl Lists {
    pub fn push(&mut self, list: &mut ListRef, value: u32) {
        self.0.push(&mut list.0, value);
    }

    /// Takes the first entry with this value out; the last one takes its place. False: there is none.
    pub fn remove(&mut self, list: &mut ListRef, value: u32) -> bool {
        let Some(at) = self.as_slice(list).iter().position(|v| *v == value) else { return false };
        self.0.swap_remove(&mut list.0, at);
        true
    }

    /// The entries: no order is kept over removals.
    pub fn as_slice(&self, list: &ListRef) -> &[u32] {
        self.0.as_slice(list.0)
    }

    /// Takes the last entry: how a closing connection leaves all, as far as a budget goes.
    pub fn pop(&mut self, list: &mut ListRef) -> Option<u32> {
        self.0.pop(&mut list.0)
    }

    /// Frees the list's memory.
    pub fn clear(&mut self, list: &mut ListRef) {
        self.0.clear(&mut list.0);
    }

    /// Bytes that all lists take, slack included.
    pub fn bytes(&self) -> usize {
        self.0.bytes()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lists_are_vectors(
            steps in prop::collection::vec((0u8..20, 0usize..4, 0u32..30), 1..1_000)
        ) {
            let mut lists = Lists::default();
            let mut all = [const { ListRef::EMPTY }; 4];
            let mut twins: [Vec<u32>; 4] = Default::default();
            for (step, which, value) in steps {
                let (list, twin) = (&mut all[which], &mut twins[which]);
                match step {
                    0 => {
                        lists.clear(list);
                        twin.clear();
                    }
                    1..4 => prop_assert_eq!(lists.pop(list), twin.pop()),
                    4..8 => {
                        let at = twin.iter().position(|v| *v == value);
                        prop_assert_eq!(lists.remove(list, value), at.is_some());
                        at.map(|at| twin.swap_remove(at));
                    }
                    _ => {
                        lists.push(list, value);
                        twin.push(value);
                    }
                }
                for (list, twin) in all.iter().zip(&twins) {
                    prop_assert_eq!(lists.as_slice(list), &twin[..]);
                    prop_assert_eq!((list.len(), list.is_empty()), (twin.len(), twin.is_empty()));
                }
            }
        }
    }
}
