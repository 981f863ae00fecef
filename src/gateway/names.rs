//! Names of channels, kept once per core of a gateway, whoever of its tables refers to them.

use rustc_hash::FxHashMap;

use crate::ids::Key;

/// A name in [`Names`]. A plain number: whoever interned it releases it as often.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NameRef(pub u32);

/// The table is full: a normal answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

/// Per shard.
#[derive(Debug)]
pub struct Names {
    list: Vec<(Key, u32, Box<str>)>,
    free: Vec<u32>,
    index: FxHashMap<Key, u32>,
    count_max: u32,
}

impl Names {
    pub fn new(count_max: u32) -> Self {
        Self { list: Vec::new(), free: Vec::new(), index: FxHashMap::default(), count_max }
    }

    /// The name's number, with one more holder. `key` is the key of `name`.
    pub fn intern(&mut self, key: Key, name: &str) -> Result<NameRef, Full> {
        assert!(name.len() <= 255, "the door bounds names");
        if let Some(&at) = self.index.get(&key) {
            self.list[at as usize].1 += 1;
            return Ok(NameRef(at));
        }
        if self.index.len() as u32 >= self.count_max {
            return Err(Full);
        }
        let entry = (key, 1, name.into());
        let at = if let Some(at) = self.free.pop() {
            self.list[at as usize] = entry;
            at
        } else {
            self.list.push(entry);
            self.list.len() as u32 - 1
        };
        self.index.insert(key, at);
        Ok(NameRef(at))
    }

    /// One holder less; the last one frees it.
    pub fn release(&mut self, name: NameRef) {
        let (key, refs, text) = &mut self.list[name.0 as usize];
        *refs = refs.checked_sub(1).expect("a name is released by its holders only");
        if *refs == 0 {
            *text = Box::default();
            self.index.remove(key);
            self.free.push(name.0);
        }
    }

    pub fn text(&self, name: NameRef) -> &str {
        &self.list[name.0 as usize].2
    }

    /// Names that are held.
    pub fn count(&self) -> u32 {
        self.index.len() as u32
    }

    /// Bytes that the table takes.
    pub fn bytes(&self) -> usize {
        self.list.iter().map(|(_, _, text)| text.len() + 40).sum()
    }
}
