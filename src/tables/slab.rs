//! A table of equal entries under dense `u32` places: grows by chunks of 1,024, so that no growth ever copies the table.

use std::ops::{Index, IndexMut};

/// What can lie in a [`Slab`]: an entry that can also say that it is vacant, and which vacant one is next.
pub trait Entry {
    fn vacant(next: u32) -> Self;
    /// Of a vacant entry: the next one, or [`NIL`]. `None`: the entry is in use.
    fn next_vacant(&self) -> Option<u32>;
}

/// No place.
pub const NIL: u32 = u32::MAX;
/// Entries of a chunk.
pub const CHUNK: usize = 1_024;
/// So many chunks grow by doubling the list of them; then it is made for `CHUNKS_MANY` at once, so that never more than these 32 KiB
/// of it move.
const CHUNKS_FEW: usize = 4_096;
/// As many as the places of an index: 2^26 entries. The pages behind what is not used yet are not touched.
const CHUNKS_MANY: usize = 65_536;

/// Per shard. Places are used again, the last freed first.
#[derive(Debug)]
pub struct Slab<T> {
    chunks: Vec<Box<[T; CHUNK]>>,
    free: u32,
    count: u32,
}

impl<T: Entry> Slab<T> {
    pub fn new() -> Self {
        Self { chunks: Vec::new(), free: NIL, count: 0 }
    }

    /// Puts an entry at a vacant place.
    pub fn insert(&mut self, entry: T) -> u32 {
        debug_assert!(entry.next_vacant().is_none(), "an entry in use does not look vacant");
        if self.free == NIL {
            self.grow();
        }
        let place = self.free;
        let cell = &mut self[place];
        let next = cell.next_vacant().expect("the free list links vacant entries only");
        *cell = entry;
        self.free = next;
        self.count += 1;
        place
    }

    /// Takes the entry out and frees its place.
    ///
    /// # Panics
    /// When the place is vacant.
    pub fn remove(&mut self, place: u32) -> T {
        let next = self.free;
        let entry = std::mem::replace(&mut self[place], T::vacant(next));
        assert!(entry.next_vacant().is_none(), "a place is freed once");
        self.free = place;
        self.count -= 1;
        entry
    }

    /// Entries in use.
    pub fn count(&self) -> u32 {
        self.count
    }

    pub fn contains(&self, place: u32) -> bool {
        self.chunks
            .get(place as usize / CHUNK)
            .is_some_and(|chunk| chunk[place as usize % CHUNK].next_vacant().is_none())
    }

    /// One above the highest place that was ever used: where a scan over all places ends.
    pub fn places(&self) -> u32 {
        (self.chunks.len() * CHUNK) as u32
    }

    /// Bytes that the table takes.
    pub fn bytes(&self) -> usize {
        self.chunks.len() * CHUNK * size_of::<T>()
            + self.chunks.capacity() * size_of::<Box<[T; CHUNK]>>()
    }

    /// The places in use, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.chunks.iter().flat_map(|chunk| chunk.iter()).enumerate().filter_map(
            |(place, entry)| entry.next_vacant().is_none().then_some((place as u32, entry)),
        )
    }

    fn grow(&mut self) {
        let first = self.places();
        assert!(first < NIL - CHUNK as u32, "places have 32 bits");
        let last = first + CHUNK as u32 - 1;
        let next = |place| if place == last { NIL } else { place + 1 };
        let chunk: Box<[T]> = (first..=last).map(|place| T::vacant(next(place))).collect();
        let Ok(chunk) = chunk.try_into() else { unreachable!("a chunk has its size") };
        if self.chunks.len() == CHUNKS_FEW {
            self.chunks.reserve_exact(CHUNKS_MANY - CHUNKS_FEW);
        }
        self.chunks.push(chunk);
        self.free = first;
    }
}

impl<T: Entry> Default for Slab<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;
    fn index(&self, place: u32) -> &T {
        &self.chunks[place as usize / CHUNK][place as usize % CHUNK]
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, place: u32) -> &mut T {
        &mut self.chunks[place as usize / CHUNK][place as usize % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Cell(u32, bool);
    impl Entry for Cell {
        fn vacant(next: u32) -> Self {
            Self(next, true)
        }
        fn next_vacant(&self) -> Option<u32> {
            self.1.then_some(self.0)
        }
    }

    #[test]
    fn places_are_dense_and_used_again() {
        let mut slab = Slab::new();
        let places: Vec<u32> = (0..3_000).map(|n| slab.insert(Cell(n, false))).collect();
        assert_eq!(places, (0..3_000).collect::<Vec<_>>());
        assert_eq!(slab.places(), 3_072);
        assert_eq!(slab.remove(7), Cell(7, false));
        assert!(!slab.contains(7) && slab.contains(8) && !slab.contains(5_000));
        assert_eq!(slab.insert(Cell(70, false)), 7);
        assert_eq!(slab.count(), 3_000);
        assert_eq!(slab.iter().filter(|(place, cell)| *place != cell.0).count(), 1);
    }

    #[test]
    #[should_panic(expected = "a place is freed once")]
    fn a_place_is_not_freed_twice() {
        let mut slab = Slab::new();
        let place = slab.insert(Cell(1, false));
        slab.remove(place);
        slab.remove(place);
    }
}
