//! Lists of `u32` for things that have many of them and few each: what a connection follows, and the like.

/// A list's place and length: 8 bytes in its owner. Not `Copy`: its owner frees it with [`Lists::clear`].
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ListRef {
    at: u32,
    len: u32,
}

const _: () = assert!(size_of::<ListRef>() == 8);

impl ListRef {
    pub const EMPTY: Self = Self { at: 0, len: 0 };
    pub fn len(&self) -> usize {
        self.len as usize
    }
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// Per shard: the memory of all lists.
#[derive(Debug, Default)]
pub struct Lists {
    lists: Vec<Vec<u32>>,
    free: Vec<u32>,
}

impl Lists {
    pub fn push(&mut self, list: &mut ListRef, value: u32) {
        if list.len == 0 {
            list.at = self.free.pop().unwrap_or_else(|| {
                self.lists.push(Vec::new());
                self.lists.len() as u32 - 1
            });
        }
        self.lists[list.at as usize].push(value);
        list.len += 1;
    }

    /// Takes the first entry with this value out; the last one takes its place. False: there is none.
    pub fn remove(&mut self, list: &mut ListRef, value: u32) -> bool {
        let Some(at) = self.as_slice(list).iter().position(|v| *v == value) else { return false };
        self.lists[list.at as usize].swap_remove(at);
        list.len -= 1;
        if list.len == 0 {
            self.free.push(list.at);
        }
        true
    }

    /// The entries: no order is kept over removals.
    pub fn as_slice(&self, list: &ListRef) -> &[u32] {
        if list.len == 0 { &[] } else { &self.lists[list.at as usize] }
    }

    /// Takes the last entry: how a closing connection leaves all, as far as a budget goes.
    pub fn pop(&mut self, list: &mut ListRef) -> Option<u32> {
        let last = *self.as_slice(list).last()?;
        self.lists[list.at as usize].pop();
        list.len -= 1;
        if list.len == 0 {
            self.free.push(list.at);
        }
        Some(last)
    }

    /// Frees the list's memory.
    pub fn clear(&mut self, list: &mut ListRef) {
        while self.pop(list).is_some() {}
    }

    /// Bytes that all lists take, slack included.
    pub fn bytes(&self) -> usize {
        self.lists.iter().map(|list| list.capacity() * 4).sum()
    }
}
