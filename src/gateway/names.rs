//! Names of channels, kept once per core of a gateway, whoever of its tables refers to them.
//!
//! A name lies with 8 bytes before it in a run as long as both: its length, its holders, 6 bytes of its key. It is found by these
//! and then by its text, so that the whole key need not be kept once more.

use rustc_hash::FxHashMap;

use crate::ids::Key;
use crate::tables::index::{Index, PLACES_MAX};
use crate::tables::pages::{Class, Pages};

/// A name in [`Names`]. A plain number below 2^26: whoever interned it releases it as often.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NameRef(pub u32);

/// The table is full: a normal answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

/// Per shard.
#[derive(Debug)]
pub struct Names {
    pages: Pages<u8, NTH_BITS>,
    index: Index,
    /// Holders of those names that have `MANY` or more.
    many: FxHashMap<u32, u32>,
    count_max: u32,
}

/// Before each name: its length, its holders, and a part of its key.
const LEN_AT: usize = 0;
const HOLDERS_AT: usize = 1;
const KEY_AT: usize = 2;
const TEXT_AT: usize = 8;
/// So many holders are counted elsewhere.
const MANY: u8 = u8::MAX;

/// 128 names on each page, so that places are dense.
const NTH_BITS: u32 = 7;
const PAGES_MAX: u32 = PLACES_MAX >> NTH_BITS;
/// Two bytes apart for names up to 24 bytes, an eighth or less for longer ones.
const CLASSES: &[Class] = &{
    let mut classes = [Class { cells: 10, runs: 1 << NTH_BITS }; 37];
    let mut at = 1;
    while at < classes.len() {
        let cells = classes[at - 1].cells;
        let step = if cells < 32 {
            2
        } else if cells < 64 {
            4
        } else if cells < 128 {
            8
        } else {
            16
        };
        classes[at].cells = cells + step;
        at += 1;
    }
    classes
};
const _: () = assert!(CLASSES[CLASSES.len() - 1].cells as usize >= TEXT_AT + 255);

impl Names {
    /// At most 2^26 - 2^7 names.
    pub fn new(count_max: u32) -> Self {
        Self {
            pages: Pages::new(CLASSES, PAGES_MAX),
            index: Index::default(),
            many: FxHashMap::default(),
            count_max,
        }
    }

    /// The name's number, with one more holder. `key` is the key of `name`.
    pub fn intern(&mut self, key: Key, name: &str) -> Result<NameRef, Full> {
        let len = u8::try_from(name.len()).expect("the door bounds names");
        let part = part_of(&key);
        let is_at = |place| {
            let run = self.pages.run(place);
            part_at(run) == part && text_at(run) == name.as_bytes()
        };
        if let Some(place) = self.index.find(&index_key(part), is_at) {
            let holders = self.holders(place) + 1;
            self.set_holders(place, holders);
            return Ok(NameRef(place));
        }
        if self.index.count() >= self.count_max {
            return Err(Full);
        }
        let class = self.pages.class_for((TEXT_AT + name.len()) as u32);
        let place = self.pages.take(class).ok_or(Full)?;
        let run = self.pages.run_mut(place);
        run[LEN_AT] = len;
        run[HOLDERS_AT] = 1;
        run[KEY_AT..TEXT_AT].copy_from_slice(&part);
        run[TEXT_AT..TEXT_AT + name.len()].copy_from_slice(name.as_bytes());
        let pages = &self.pages;
        self.index.insert(&index_key(part), place, |at| index_key(part_at(pages.run(at))));
        Ok(NameRef(place))
    }

    /// One holder less; the last one frees it.
    pub fn release(&mut self, name: NameRef) {
        let holders = self.holders(name.0) - 1;
        self.set_holders(name.0, holders);
        if holders == 0 {
            let (pages, part) = (&self.pages, part_at(self.pages.run(name.0)));
            self.index.remove(&index_key(part), name.0, |at| index_key(part_at(pages.run(at))));
            self.pages.give(name.0);
        }
    }

    pub fn text(&self, name: NameRef) -> &str {
        let text = text_at(self.pages.run(name.0));
        str::from_utf8(text).expect("it was a name when it came in")
    }

    /// Names that are held.
    pub fn count(&self) -> u32 {
        self.index.count()
    }

    /// Bytes that the table takes, but for the few names that very many hold.
    pub fn bytes(&self) -> usize {
        self.pages.bytes() + self.index.bytes()
    }

    fn holders(&self, place: u32) -> u32 {
        match self.pages.run(place)[HOLDERS_AT] {
            0 => panic!("a name is released by its holders only"),
            MANY => self.many[&place],
            few => u32::from(few),
        }
    }

    fn set_holders(&mut self, place: u32, holders: u32) {
        let few = u8::try_from(holders).unwrap_or(MANY);
        if few == MANY {
            self.many.insert(place, holders);
        } else if self.pages.run(place)[HOLDERS_AT] == MANY {
            self.many.remove(&place);
        }
        self.pages.run_mut(place)[HOLDERS_AT] = few;
    }
}

/// What is kept of a key: enough for an index that looks at the text too.
fn part_of(key: &Key) -> [u8; 6] {
    let [part @ .., _, _, _, _, _, _] = key.0;
    part
}

/// The key that the index is asked for. It takes the home from the first four bytes, a tag of 6 bits from the eighth, and a prefix from
/// the last four: these have no bit in common.
fn index_key(part: [u8; 6]) -> Key {
    let mut key = Key::default();
    key.0[1..4].copy_from_slice(&part[..3]);
    key.0[7] = part[3];
    key.0[9] = part[3] << 6;
    key.0[10..].copy_from_slice(&part[4..]);
    key
}

fn part_at(run: &[u8]) -> [u8; 6] {
    run[KEY_AT..TEXT_AT].try_into().expect("6 bytes of a key")
}

fn text_at(run: &[u8]) -> &[u8] {
    &run[TEXT_AT..TEXT_AT + usize::from(run[LEN_AT])]
}
