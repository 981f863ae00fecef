//! An index for each slot, made when the slot gets its first key.
//!
//! A core has the slots of one residue, and a small node few keys: so a slot gets a number when it is used first, and the indexes lie
//! dense under these numbers.

use super::index::Index;
use crate::ids::{Key, Slot};

/// Slots of one page of numbers: 512 bytes.
const PAGE: usize = 256;
/// Indexes of one chunk: 1.5 KiB.
const CHUNK: usize = 64;

/// Per shard. Nothing is behind it before the first key, at most 1.7 MB without the cells of the indexes.
#[derive(Debug, Default)]
pub struct Slots {
    /// A slot's number, by its high and its low byte. 0: the slot has none, unless it is the first.
    numbers: Vec<Option<Box<[u16; PAGE]>>>,
    first: Option<Slot>,
    used: usize,
    indexes: Vec<Box<[Index]>>,
}

impl Slots {
    /// The place of a key. `is_at` says whether the entry at a place has it.
    pub fn find(&self, slot: Slot, key: &Key, is_at: impl Fn(u32) -> bool) -> Option<u32> {
        self.index(slot)?.find(key, is_at)
    }

    /// Adds a key that is not in it. `key_of` gives the key of a place that is.
    pub fn insert(&mut self, slot: Slot, key: &Key, place: u32, key_of: impl Fn(u32) -> Key) {
        let number = self.number(slot).unwrap_or_else(|| self.open(slot));
        self.indexes[number / CHUNK][number % CHUNK].insert(key, place, key_of);
    }

    /// Takes out a key that is in it, at this place.
    pub fn remove(&mut self, slot: Slot, key: &Key, place: u32, key_of: impl Fn(u32) -> Key) {
        let number = self.number(slot).expect("a key that is taken out is in");
        self.indexes[number / CHUNK][number % CHUNK].remove(key, place, key_of);
    }

    /// The keys' places of one slot, in no order.
    pub fn places(&self, slot: Slot) -> impl Iterator<Item = u32> {
        self.index(slot).into_iter().flat_map(Index::places)
    }

    /// Keys of one slot.
    pub fn count(&self, slot: Slot) -> u32 {
        self.index(slot).map_or(0, Index::count)
    }

    /// Bytes behind it.
    pub fn bytes(&self) -> usize {
        let pages = self.numbers.iter().flatten().count();
        self.numbers.capacity() * size_of::<Option<Box<[u16; PAGE]>>>()
            + pages * size_of::<[u16; PAGE]>()
            + self.indexes.capacity() * size_of::<Box<[Index]>>()
            + self.indexes.len() * size_of::<[Index; CHUNK]>()
            + self.indexes.iter().flat_map(|chunk| chunk.iter()).map(Index::bytes).sum::<usize>()
    }

    fn index(&self, slot: Slot) -> Option<&Index> {
        self.number(slot).map(|number| &self.indexes[number / CHUNK][number % CHUNK])
    }

    fn number(&self, slot: Slot) -> Option<usize> {
        let [high, low] = slot.0.to_be_bytes().map(usize::from);
        let number = usize::from(self.numbers.get(high)?.as_ref()?[low]);
        (number > 0 || self.first == Some(slot)).then_some(number)
    }

    fn open(&mut self, slot: Slot) -> usize {
        let number = self.used;
        self.used += 1;
        self.first.get_or_insert(slot);
        if self.numbers.is_empty() {
            self.numbers.resize(PAGE, None);
        }
        let [high, low] = slot.0.to_be_bytes().map(usize::from);
        let page = self.numbers[high].get_or_insert_with(|| Box::new([0; PAGE]));
        page[low] = u16::try_from(number).expect("each slot has one number");
        if number.is_multiple_of(CHUNK) {
            self.indexes.push((0..CHUNK).map(|_| Index::default()).collect());
        }
        number
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::ring::Secret;

    #[test]
    fn slots_are_maps_of_their_own() {
        let keys: Vec<Key> = (0..400).map(|n| Secret([3; 16]).key_of(&n.to_string())).collect();
        let slot_of = |n: u32| Slot((n % 7 * 9_000) as u16);
        let key_of = |place: u32| keys[place as usize];
        let (mut slots, mut twin) = (Slots::default(), BTreeMap::<Slot, Vec<u32>>::new());
        assert_eq!(slots.bytes(), 0);
        let mut random = 9u32;
        for _ in 0..20_000 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let n = (random >> 8) % 400;
            let (slot, key) = (slot_of(n), key_of(n));
            let places = twin.entry(slot).or_default();
            let found = slots.find(slot, &key, |place| key_of(place) == key);
            if let Some(at) = places.iter().position(|place| *place == n) {
                assert_eq!(found, Some(n));
                places.swap_remove(at);
                slots.remove(slot, &key, n, key_of);
            } else {
                assert_eq!(found, None);
                places.push(n);
                slots.insert(slot, &key, n, key_of);
            }
        }
        for (slot, mut places) in twin {
            let mut found: Vec<u32> = slots.places(slot).collect();
            found.sort_unstable();
            places.sort_unstable();
            assert_eq!(found, places);
            assert_eq!(slots.count(slot) as usize, places.len());
        }
        assert_eq!((slots.count(Slot(5)), slots.places(Slot(5)).count()), (0, 0));
    }

    #[test]
    fn every_slot_has_room_and_the_first_is_none_of_the_others() {
        let key = Key([7; 12]);
        let mut slots = Slots::default();
        for slot in (0..=u16::MAX).rev().map(Slot) {
            assert_eq!(slots.find(slot, &key, |_| true), None);
            slots.insert(slot, &key, u32::from(slot.0), |_| key);
        }
        for slot in (0..=u16::MAX).map(Slot) {
            assert_eq!(slots.find(slot, &key, |_| true), Some(u32::from(slot.0)));
        }
        assert_eq!(slots.bytes(), 2_048 + 65_536 * (2 + 24 + 16) + 1_024 * 16);
    }
}
