//! From a key to the place of its entry: 4-byte cells in sub-tables that are rebuilt one at a time, so that no insert
//! ever moves more than `TABLE_MAX` cells.
//!
//! A cell holds a place and a few bits of the key; the key itself is in the entry, which the caller looks at.

use crate::ids::Key;

/// Places have 26 bits in a cell, the tag 6.
pub const PLACES_MAX: u32 = (1 << 26) - 1;
/// Keys in one sub-table, above which it is split in two: one look at each of their entries, far apart in memory, is below 1 ms.
const TABLE_MAX: u32 = 4_096;
const EMPTY: u32 = u32::MAX;
/// So many sub-tables grow by doubling the list of them; then it is made for `TABLES_MANY` at once, so that never more than these 48 KiB
/// of it move. Half full sub-tables for all places are as many.
const TABLES_FEW: usize = 2_048;
const TABLES_MANY: usize = 32_768;

/// Keys of one table of entries, or of one slot of it. 24 bytes, and nothing behind them while it is empty.
#[derive(Debug, Default)]
pub struct Index(Form);

#[derive(Debug)]
enum Form {
    One(Table),
    Many(Box<Directory>),
}

/// Extendible hashing: `by_prefix[first depth bits of the split hash]` is a number in `tables`.
#[derive(Debug)]
struct Directory {
    depth: u32,
    by_prefix: Vec<u16>,
    tables: Vec<Table>,
    count: u32,
}

/// Linear probing at loads up to 0.8.
#[derive(Debug, Default)]
struct Table {
    cells: Box<[u32]>,
    count: u32,
    /// Bits of the prefix that its keys have in common.
    depth: u32,
}

const _: () = assert!(size_of::<Index>() == 24 && size_of::<Table>() == 24);
const _: () = assert!(TABLES_MANY <= u16::MAX as usize, "a number of a sub-table has 16 bits");

impl Default for Form {
    fn default() -> Self {
        Self::One(Table::default())
    }
}

impl Index {
    /// The place of a key. `is_at` says whether the entry at a place has it.
    pub fn find(&self, key: &Key, is_at: impl Fn(u32) -> bool) -> Option<u32> {
        let table = match &self.0 {
            Form::One(table) => table,
            Form::Many(directory) => &directory.tables[directory.table_of(key)],
        };
        table.find(key, is_at)
    }

    /// Adds a key that is not in it. `key_of` gives the key of a place that is.
    pub fn insert(&mut self, key: &Key, place: u32, key_of: impl Fn(u32) -> Key) {
        assert!(place < PLACES_MAX, "a place fits its bits");
        match &mut self.0 {
            Form::One(table) if table.count < TABLE_MAX => table.insert(key, place, &key_of),
            Form::One(table) => {
                let table = std::mem::take(table);
                let count = table.count;
                let mut directory = Box::new(Directory {
                    depth: 0,
                    by_prefix: vec![0],
                    tables: vec![table],
                    count,
                });
                directory.insert(key, place, &key_of);
                self.0 = Form::Many(directory);
            }
            Form::Many(directory) => directory.insert(key, place, &key_of),
        }
    }

    /// Takes out a key that is in it, at this place.
    pub fn remove(&mut self, key: &Key, place: u32, key_of: impl Fn(u32) -> Key) {
        match &mut self.0 {
            Form::One(table) => table.remove(key, place, &key_of),
            Form::Many(directory) => {
                let table = directory.table_of(key);
                directory.tables[table].remove(key, place, &key_of);
                directory.count -= 1;
                if directory.count == 0 {
                    *self = Self::default();
                }
            }
        }
    }

    /// A key that is in it is at another place now.
    pub fn replace(&mut self, key: &Key, old: u32, new: u32) {
        assert!(new < PLACES_MAX, "a place fits its bits");
        let table = match &mut self.0 {
            Form::One(table) => table,
            Form::Many(directory) => {
                let table = directory.table_of(key);
                &mut directory.tables[table]
            }
        };
        let at = table.cell_of(key, old);
        table.cells[at] = tag(key) | new;
    }

    /// All places, in no order.
    pub fn places(&self) -> impl Iterator<Item = u32> {
        (0..).map_while(|nth| self.part(nth)).flatten()
    }

    /// The places in the `nth` sub-table; `None` past the last. For walks that go on later.
    pub fn part(&self, nth: usize) -> Option<impl Iterator<Item = u32>> {
        let table = match &self.0 {
            Form::One(table) => (nth == 0).then_some(table),
            Form::Many(directory) => directory.tables.get(nth),
        };
        let cells = table?.cells.iter().filter(|cell| **cell != EMPTY);
        Some(cells.map(|cell| cell & PLACES_MAX))
    }

    /// Keys in it.
    pub fn count(&self) -> u32 {
        match &self.0 {
            Form::One(table) => table.count,
            Form::Many(directory) => directory.count,
        }
    }

    /// Bytes behind the 24.
    pub fn bytes(&self) -> usize {
        match &self.0 {
            Form::One(table) => table.cells.len() * 4,
            Form::Many(directory) => {
                size_of::<Directory>()
                    + directory.by_prefix.capacity() * 2
                    + directory.tables.capacity() * size_of::<Table>()
                    + directory.tables.iter().map(|table| table.cells.len() * 4).sum::<usize>()
            }
        }
    }
}

impl Directory {
    fn table_of(&self, key: &Key) -> usize {
        self.by_prefix[prefix(key, self.depth) as usize] as usize
    }

    fn insert(&mut self, key: &Key, place: u32, key_of: &impl Fn(u32) -> Key) {
        // Keys are keyed hashes: half of a table leaves by a split, and one nearly always makes room.
        while self.tables[self.table_of(key)].count >= TABLE_MAX && self.depth < 24 {
            self.split(self.table_of(key), key_of);
        }
        let table = self.table_of(key);
        self.tables[table].insert(key, place, key_of);
        self.count += 1;
    }

    fn split(&mut self, number: usize, key_of: &impl Fn(u32) -> Key) {
        let depth = self.tables[number].depth + 1;
        if depth > self.depth {
            self.by_prefix = self.by_prefix.iter().flat_map(|table| [*table, *table]).collect();
            self.depth = depth;
        }
        let old = std::mem::take(&mut self.tables[number]);
        // Keys are keyed hashes: each half gets nearly the half, and need not grow meanwhile.
        let [mut low, mut high] = [(); 2].map(|()| Table::new(depth, old.count as usize / 2));
        old.for_each(key_of, |key, cell| {
            let half = if prefix(key, depth) & 1 == 0 { &mut low } else { &mut high };
            half.insert(key, cell & PLACES_MAX, key_of);
        });
        if self.tables.len() == TABLES_FEW {
            self.tables.reserve_exact(TABLES_MANY - TABLES_FEW);
        }
        let new = u16::try_from(self.tables.len()).expect("half full sub-tables for all places");
        self.tables[number] = low;
        self.tables.push(high);
        let bit = 1 << (self.depth - depth);
        for (prefix, table) in self.by_prefix.iter_mut().enumerate() {
            if usize::from(*table) == number && prefix & bit != 0 {
                *table = new;
            }
        }
    }
}

impl Table {
    /// With room for so many keys at a load of 0.72.
    fn new(depth: u32, count: usize) -> Self {
        let cells = (count * 25 / 18).next_multiple_of(4);
        Self { cells: vec![EMPTY; cells].into(), count: 0, depth }
    }

    fn find(&self, key: &Key, is_at: impl Fn(u32) -> bool) -> Option<u32> {
        if self.cells.is_empty() {
            return None;
        }
        let tag = tag(key);
        let mut at = self.home(key);
        loop {
            let cell = self.cells[at];
            if cell == EMPTY {
                return None;
            }
            if cell & !PLACES_MAX == tag && is_at(cell & PLACES_MAX) {
                return Some(cell & PLACES_MAX);
            }
            at = self.after(at);
        }
    }

    fn insert(&mut self, key: &Key, place: u32, key_of: &impl Fn(u32) -> Key) {
        if (self.count as usize + 1) * 5 > self.cells.len() * 4 {
            self.rebuild((self.cells.len() * 5 / 4).max(self.cells.len() + 4), key_of);
        }
        self.put(key, tag(key) | place);
        self.count += 1;
    }

    fn remove(&mut self, key: &Key, place: u32, key_of: &impl Fn(u32) -> Key) {
        let mut hole = self.cell_of(key, place);
        // Whoever was pushed past the hole moves back into it.
        let len = self.cells.len();
        let mut at = self.after(hole);
        while self.cells[at] != EMPTY {
            let home = self.home(&key_of(self.cells[at] & PLACES_MAX));
            if (at + len - home) % len >= (at + len - hole) % len {
                self.cells[hole] = self.cells[at];
                hole = at;
            }
            at = self.after(at);
        }
        self.cells[hole] = EMPTY;
        self.count -= 1;
        if self.count == 0 {
            self.cells = Box::default();
        } else if self.cells.len() > 8 && self.count as usize * 5 < self.cells.len() * 2 {
            self.rebuild(self.count as usize * 3 / 2 + 2, key_of);
        }
    }

    /// The cell of a key that is in it, at this place.
    fn cell_of(&self, key: &Key, place: u32) -> usize {
        let mut at = self.home(key);
        while self.cells[at] & PLACES_MAX != place || self.cells[at] == EMPTY {
            assert!(self.cells[at] != EMPTY, "a key that is looked for is in");
            at = self.after(at);
        }
        at
    }

    fn rebuild(&mut self, len: usize, key_of: &impl Fn(u32) -> Key) {
        // Small boxes come in sixteens of bytes anyway.
        let len = len.next_multiple_of(4);
        let old = std::mem::replace(self, Self { cells: vec![EMPTY; len].into(), ..*self });
        old.for_each(key_of, |key, cell| self.put(key, cell));
    }

    /// All cells in use with their keys. Entries lie far apart, so some are asked for at once before the first is looked at.
    fn for_each(&self, key_of: &impl Fn(u32) -> Key, mut take: impl FnMut(&Key, u32)) {
        let mut found = [(Key::default(), EMPTY); 16];
        for cells in self.cells.chunks(found.len()) {
            let used = cells.iter().filter(|cell| **cell != EMPTY);
            let mut count = 0;
            for (cell, into) in used.zip(&mut found) {
                *into = (key_of(cell & PLACES_MAX), *cell);
                count += 1;
            }
            found[..count].iter().for_each(|(key, cell)| take(key, *cell));
        }
    }

    fn put(&mut self, key: &Key, cell: u32) {
        let mut at = self.home(key);
        while self.cells[at] != EMPTY {
            at = self.after(at);
        }
        self.cells[at] = cell;
    }

    fn home(&self, key: &Key) -> usize {
        ((u64::from(word(key, 0)) * self.cells.len() as u64) >> 32) as usize
    }

    fn after(&self, at: usize) -> usize {
        if at + 1 == self.cells.len() { 0 } else { at + 1 }
    }
}

/// Home, tag and prefix come from different bytes of the key.
fn word(key: &Key, at: usize) -> u32 {
    u32::from_le_bytes(key.0[at..at + 4].try_into().expect("4 of 12 bytes"))
}

fn tag(key: &Key) -> u32 {
    word(key, 4) & !PLACES_MAX
}

fn prefix(key: &Key, depth: u32) -> u32 {
    (u64::from(word(key, 8)) >> (32 - depth)) as u32
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::ring::Secret;

    fn keys(count: u32) -> Vec<Key> {
        (0..count).map(|n| Secret([3; 16]).key_of(&n.to_string())).collect()
    }

    proptest! {
        #[test]
        fn an_index_is_a_map(steps in prop::collection::vec((0u8..3, 0u32..60), 1..400)) {
            let keys = keys(60);
            // Each key has two places that it may be at.
            let key_of = |place: u32| keys[place as usize % 60];
            let mut index = Index::default();
            let mut twin = BTreeMap::new();
            for (what, n) in steps {
                let key = keys[n as usize];
                match (what, twin.get(&key).copied()) {
                    (0, None) => {
                        index.insert(&key, n, key_of);
                        twin.insert(key, n);
                    }
                    (1, Some(place)) => {
                        index.remove(&key, place, key_of);
                        twin.remove(&key);
                    }
                    (2, Some(place)) => {
                        let other = (place + 60) % 120;
                        index.replace(&key, place, other);
                        twin.insert(key, other);
                    }
                    _ => {}
                }
                for key in &keys {
                    let found = index.find(key, |place| key_of(place) == *key);
                    prop_assert_eq!(found, twin.get(key).copied());
                }
                prop_assert_eq!(index.count() as usize, twin.len());
                let mut places: Vec<u32> = index.places().collect();
                places.sort_unstable();
                let mut expected: Vec<u32> = twin.values().copied().collect();
                expected.sort_unstable();
                prop_assert_eq!(places, expected);
            }
        }
    }

    #[test]
    fn a_large_index_splits_and_stays_small() {
        let keys = keys(100_000);
        let key_of = |place: u32| keys[place as usize];
        let mut index = Index::default();
        for (place, key) in keys.iter().enumerate() {
            index.insert(key, place as u32, key_of);
        }
        assert!(
            matches!(&index.0, Form::Many(directory) if directory.tables.len() >= 100_000 / 8_192)
        );
        assert!(index.bytes() < keys.len() * 7, "{} bytes", index.bytes());
        for (place, key) in keys.iter().enumerate() {
            assert_eq!(index.find(key, |place| key_of(place) == *key), Some(place as u32));
        }
        for (place, key) in keys.iter().enumerate() {
            index.remove(key, place as u32, key_of);
            assert_eq!(index.find(key, |place| key_of(place) == *key), None);
        }
        assert_eq!((index.count(), index.bytes()), (0, 0));
    }
}
