//! Memory for many small arrays: pages of runs of one size, so that nothing is allocated per run and a run is named by a `u32`.
//!
//! A page belongs to a class of runs as long as one of them is in use; then its memory goes back, and its number is used again. So what
//! growing lists leave behind in one class is there for the next. Whoever takes a run knows how much of it is filled.

use super::slab::{Entry, NIL, Slab};

/// What runs are made of. Free runs are linked by their first cell, so a cell can say which run of its page is meant.
pub trait Cell: Copy + Default {
    fn of(nth: u16) -> Self;
    fn nth(self) -> u16;
}

impl Cell for u32 {
    fn of(nth: u16) -> Self {
        Self::from(nth)
    }
    fn nth(self) -> u16 {
        self as u16
    }
}

/// At most 256 runs on a page.
impl Cell for u8 {
    fn of(nth: u16) -> Self {
        nth as Self
    }
    fn nth(self) -> u16 {
        u16::from(self)
    }
}

/// The runs of one size: cells of a run, and runs of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Class {
    pub cells: u32,
    pub runs: u16,
}

/// Per shard and table. The low `NTH_BITS` of a place say which run of its page, the others which page.
#[derive(Debug)]
pub struct Pages<T, const NTH_BITS: u32> {
    classes: &'static [Class],
    list: Slab<Page<T>>,
    /// By class: the first page with a free run. Fuller pages come first, so that others may become empty.
    rooms: Box<[u32]>,
    bytes: usize,
    count_max: u32,
}

/// `cells` empty: vacant, and `next` is the next vacant one.
#[derive(Debug)]
struct Page<T> {
    cells: Box<[T]>,
    /// Neighbours among the pages of the class that have a free run.
    prev: u32,
    next: u32,
    /// Runs in use; runs that were ever in use; if the former are less, the run that was freed last.
    used: u16,
    fresh: u16,
    freed: u16,
    class: u8,
}

const _: () = assert!(size_of::<Page<u32>>() == 32);

impl<T> Entry for Page<T> {
    fn vacant(next: u32) -> Self {
        Self { cells: Box::default(), prev: NIL, next, used: 0, fresh: 0, freed: 0, class: 0 }
    }
    fn next_vacant(&self) -> Option<u32> {
        self.cells.is_empty().then_some(self.next)
    }
}

impl<T: Cell, const NTH_BITS: u32> Pages<T, NTH_BITS> {
    /// `classes` in the order of their size. At most `count_max` pages: what their numbers' bits allow, or less.
    pub fn new(classes: &'static [Class], count_max: u32) -> Self {
        assert!(classes.len() <= 256, "a class has 8 bits");
        assert!(u64::from(count_max) << NTH_BITS <= 1 << 32, "a place has 32 bits");
        debug_assert!(classes.iter().all(|class| u32::from(class.runs) <= 1 << NTH_BITS));
        debug_assert!(classes.is_sorted_by_key(|class| class.cells));
        let rooms = vec![NIL; classes.len()].into();
        Self { classes, list: Slab::new(), rooms, bytes: 0, count_max }
    }

    /// The smallest class whose runs have so many cells.
    ///
    /// # Panics
    /// When no class has.
    pub fn class_for(&self, cells: u32) -> u8 {
        let class = self.classes.partition_point(|class| class.cells < cells);
        assert!(class < self.classes.len(), "the caller bounds its runs");
        class as u8
    }

    /// Cells of a run of this class.
    pub fn cells_of(&self, class: u8) -> u32 {
        self.classes[usize::from(class)].cells
    }

    /// The class of a run.
    pub fn class(&self, place: u32) -> u8 {
        self.list[place >> NTH_BITS].class
    }

    /// Takes a run into use, whatever its cells say. `None`: there are as many pages as may be.
    pub fn take(&mut self, class: u8) -> Option<u32> {
        let Class { cells, runs } = self.classes[usize::from(class)];
        let mut number = self.rooms[usize::from(class)];
        if number == NIL {
            number = self.open(class)?;
        }
        let page = &mut self.list[number];
        let nth = if page.used < page.fresh {
            let nth = page.freed;
            page.freed = page.cells[usize::from(nth) * cells as usize].nth();
            nth
        } else {
            page.fresh += 1;
            page.fresh - 1
        };
        page.used += 1;
        if page.used == runs {
            self.unlink(number);
        }
        Some(number << NTH_BITS | u32::from(nth))
    }

    /// Frees a run.
    pub fn give(&mut self, place: u32) {
        let (number, nth) = (place >> NTH_BITS, Self::nth(place) as u16);
        let page = &mut self.list[number];
        let Class { cells, runs } = self.classes[usize::from(page.class)];
        assert!(nth < page.fresh && page.used > 0, "a run that is freed was in use");
        page.cells[usize::from(nth) * cells as usize] = T::of(page.freed);
        page.freed = nth;
        page.used -= 1;
        if page.used + 1 == runs {
            self.link(number);
        }
        if self.list[number].used == 0 {
            self.close(number);
        }
    }

    /// Frees a run and fills the gap with the last run of the class, so that a class never has more than one page that is not full.
    /// True: another run is at `place` now; its holder knows it by a place that is none any more. Not to be mixed with `give`.
    pub fn give_and_fill(&mut self, place: u32) -> bool {
        let class = self.list[place >> NTH_BITS].class;
        let cells = self.cells_of(class) as usize;
        let mut number = self.rooms[usize::from(class)];
        if number == NIL {
            number = place >> NTH_BITS;
            self.link(number);
        }
        let page = &mut self.list[number];
        assert!(page.used > 0 && page.used == page.fresh, "a page is filled from its beginning");
        (page.used, page.fresh) = (page.used - 1, page.fresh - 1);
        let last = number << NTH_BITS | u32::from(page.used);
        if last >> NTH_BITS != place >> NTH_BITS {
            self.copy(last, place, cells);
        } else if last != place {
            let [from, to] = [last, place].map(|place| Self::nth(place) * cells);
            self.list[number].cells.copy_within(from..from + cells, to);
        }
        if self.list[number].used == 0 {
            self.close(number);
        }
        last != place
    }

    /// All cells of a run in use.
    pub fn run(&self, place: u32) -> &[T] {
        let page = &self.list[place >> NTH_BITS];
        let cells = self.classes[usize::from(page.class)].cells as usize;
        let nth = Self::nth(place);
        &page.cells[nth * cells..(nth + 1) * cells]
    }

    pub fn run_mut(&mut self, place: u32) -> &mut [T] {
        let page = &mut self.list[place >> NTH_BITS];
        let cells = self.classes[usize::from(page.class)].cells as usize;
        let nth = Self::nth(place);
        &mut page.cells[nth * cells..(nth + 1) * cells]
    }

    /// Copies the first cells of one run to another, on another page.
    pub fn copy(&mut self, source: u32, target: u32, cells: usize) {
        let number = source >> NTH_BITS;
        assert!(number != target >> NTH_BITS, "both are on one page");
        // Out for a moment, so that both can be had.
        let lent = std::mem::take(&mut self.list[number].cells);
        let class = self.classes[usize::from(self.list[number].class)];
        let from = &lent[Self::nth(source) * class.cells as usize..][..cells];
        self.run_mut(target)[..cells].copy_from_slice(from);
        self.list[number].cells = lent;
    }

    /// Bytes that the pages and their table take.
    pub fn bytes(&self) -> usize {
        self.bytes + self.list.bytes() + self.rooms.len() * 4
    }

    fn nth(place: u32) -> usize {
        (place & ((1 << NTH_BITS) - 1)) as usize
    }

    /// A new page for a class that has no room.
    fn open(&mut self, class: u8) -> Option<u32> {
        if self.list.count() >= self.count_max {
            return None;
        }
        let Class { cells, runs } = self.classes[usize::from(class)];
        let cells = vec![T::default(); cells as usize * usize::from(runs)].into_boxed_slice();
        self.bytes += size_of_val(&*cells);
        let number = self.list.insert(Page { cells, class, ..Page::vacant(NIL) });
        self.link(number);
        Some(number)
    }

    fn close(&mut self, number: u32) {
        self.unlink(number);
        let page = self.list.remove(number);
        self.bytes -= size_of_val(&*page.cells);
    }

    fn link(&mut self, number: u32) {
        let page = &mut self.list[number];
        let next = std::mem::replace(&mut self.rooms[usize::from(page.class)], number);
        (page.prev, page.next) = (NIL, next);
        if next != NIL {
            self.list[next].prev = number;
        }
    }

    fn unlink(&mut self, number: u32) {
        let Page { prev, next, class, .. } = self.list[number];
        if next != NIL {
            self.list[next].prev = prev;
        }
        match prev {
            NIL => self.rooms[usize::from(class)] = next,
            prev => self.list[prev].next = next,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLASSES: &[Class] =
        &[Class { cells: 2, runs: 4 }, Class { cells: 3, runs: 2 }, Class { cells: 9, runs: 1 }];

    #[test]
    fn runs_keep_their_cells_whatever_is_taken_and_given_beside_them() {
        let mut pages = Pages::<u32, 2>::new(CLASSES, 1_000);
        let mut twin: Vec<(u32, u32)> = Vec::new();
        let mut random = 5u32;
        for step in 0..20_000 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Waves: mostly taken, then mostly given.
            if (random >> 28) < if step % 2_000 < 1_000 { 10 } else { 5 } || twin.is_empty() {
                let class = (random >> 16) as u8 % 3;
                let place = pages.take(class).expect("room");
                assert!(twin.iter().all(|(taken, _)| *taken != place), "a run has one holder");
                assert_eq!(pages.class(place), class);
                pages.run_mut(place).fill(step);
                twin.push((place, step));
            } else {
                let (place, _) = twin.swap_remove(random as usize % twin.len());
                pages.give(place);
            }
            if step % 64 == 0 {
                for (place, cell) in &twin {
                    assert!(pages.run(*place).iter().all(|found| found == cell));
                }
                let cells: usize = pages.list.iter().map(|(_, page)| page.cells.len()).sum();
                assert_eq!(pages.bytes(), cells * 4 + pages.list.bytes() + 3 * 4);
            }
        }
        for (place, _) in twin.drain(..) {
            pages.give(place);
        }
        assert_eq!(pages.bytes(), pages.list.bytes() + 3 * 4, "no page stays");
    }

    #[test]
    fn a_filled_class_has_one_page_that_is_not_full() {
        let mut pages = Pages::<u32, 2>::new(CLASSES, 1_000);
        // A run's first cell says who holds it.
        let mut holders: Vec<Option<u32>> = vec![None; 300];
        let mut random = 5u32;
        for step in 0..20_000 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let holder = (random >> 8) % if step % 4_000 < 2_000 { 300 } else { 10 };
            if let Some(place) = holders[holder as usize].take() {
                if pages.give_and_fill(place) {
                    let moved = pages.run(place)[0] as usize;
                    holders[moved] = Some(place);
                }
            } else {
                let place = pages.take((random >> 20) as u8 % 3).expect("room");
                pages.run_mut(place).fill(holder);
                holders[holder as usize] = Some(place);
            }
            for (holder, place) in holders.iter().enumerate() {
                let cells = place.map_or(&[][..], |place| pages.run(place));
                assert!(cells.iter().all(|cell| *cell as usize == holder));
            }
            for class in 0..3 {
                let open = pages.list.iter().filter(|(_, page)| {
                    page.class == class && page.used < CLASSES[class as usize].runs
                });
                assert!(open.count() <= 1, "class {class}");
            }
        }
    }

    #[test]
    fn a_run_is_copied_to_another_class() {
        let mut pages = Pages::<u8, 2>::new(CLASSES, 1_000);
        let (source, target) = (pages.take(0).expect("room"), pages.take(1).expect("room"));
        pages.run_mut(source).copy_from_slice(&[7, 8]);
        pages.copy(source, target, 2);
        assert_eq!((pages.run(source), &pages.run(target)[..2]), (&[7, 8][..], &[7, 8][..]));
        assert_eq!((pages.class_for(1), pages.class_for(3), pages.class_for(4)), (0, 1, 2));
    }

    #[test]
    fn all_pages_taken_is_an_answer() {
        const ONE: &[Class] = &[Class { cells: 1, runs: 1 }];
        let mut pages = Pages::<u32, 31>::new(ONE, 2);
        assert_eq!(pages.take(0), Some(0));
        assert_eq!(pages.take(0), Some(1 << 31));
        assert_eq!(pages.take(0), None);
        pages.give(0);
        assert_eq!(pages.take(0), Some(0));
    }
}
