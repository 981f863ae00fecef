//! Lists of six-byte interests in size classes that grow by a third: for channels that more than two gateway cores want.
//!
//! A list is named by its class and its place there. Chunks of a class hold up to 12 KiB of lists and are never moved; what is copied when a list
//! grows is that list.

use super::interest::Interest;
use crate::ids::Handle;

/// Link, and the two halves of the handle.
type Cell = [u16; 3];

/// Names one list. Changes when the list grows or shrinks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct List(pub(super) u32);

/// Per core.
#[derive(Debug, Default)]
pub(super) struct Lists {
    classes: Vec<Class>,
}

#[derive(Debug)]
struct Class {
    chunks: Vec<Box<[Cell]>>,
    /// The first free list; its first cell names the next.
    free: u32,
    used: u32,
}

/// Interests that the lists of each class have room for: from 4 on a third more each time.
const SIZES: [u16; CLASSES] = sizes();
const CLASSES: usize = 36;
/// Of a list's name: its place in the class; the class is above.
const PLACE_BITS: u32 = 26;
const NONE: u32 = (1 << PLACE_BITS) - 1;
/// Cells of one chunk, where a list is not larger.
const CHUNK_CELLS: usize = 2_048;

const fn sizes() -> [u16; CLASSES] {
    let mut sizes = [4; CLASSES];
    let mut at = 1;
    while at < CLASSES {
        let grown = sizes[at - 1] as u32 * 4 / 3;
        let least = sizes[at - 1] as u32 + 2;
        let size = if grown > least { grown } else { least };
        sizes[at] = if size < u16::MAX as u32 { size as u16 } else { u16::MAX };
        at += 1;
    }
    assert!(sizes[CLASSES - 1] == u16::MAX, "as many as links have numbers");
    sizes
}

impl Lists {
    /// A new list with these in it.
    pub(super) fn make(&mut self, of: &[Interest]) -> List {
        let class = SIZES.iter().position(|size| usize::from(*size) >= of.len());
        let list = self.take(class.expect("no more than links have numbers"));
        for (at, one) in of.iter().enumerate() {
            self.cells_mut(list)[at] = packed(*one);
        }
        list
    }

    /// Lets go of a list.
    pub(super) fn drop(&mut self, list: List) {
        let (number, place) = parts(list);
        let next = self.classes[number].free;
        self.cells_mut(list)[0] = [next as u16, (next >> 16) as u16, 0];
        let class = &mut self.classes[number];
        class.free = place;
        class.used -= 1;
    }

    /// Adds one to a list of `len`. Gives the list's name from now on.
    pub(super) fn push(&mut self, list: List, len: u16, one: Interest) -> List {
        let (class, _) = parts(list);
        let list = if len == SIZES[class] { self.move_to(list, class + 1, len) } else { list };
        self.cells_mut(list)[usize::from(len)] = packed(one);
        list
    }

    /// Gives the one at a place of a list a new handle.
    pub(super) fn set(&mut self, list: List, at: u16, one: Interest) {
        self.cells_mut(list)[usize::from(at)] = packed(one);
    }

    /// Keeps those for which `is_kept` says so. Gives the list's name from now on, and how many are left.
    pub(super) fn retain(
        &mut self,
        list: List,
        len: u16,
        mut is_kept: impl FnMut(Interest) -> bool,
    ) -> (List, u16) {
        let cells = &mut self.cells_mut(list)[..usize::from(len)];
        let mut kept = 0;
        for at in 0..cells.len() {
            if is_kept(unpacked(cells[at])) {
                cells[kept] = cells[at];
                kept += 1;
            }
        }
        let (class, _) = parts(list);
        // Two classes down before it moves to the next: a list does not move to and fro.
        let fits = SIZES.iter().position(|size| usize::from(*size) >= kept).unwrap_or(class);
        let kept = kept as u16;
        if fits + 1 < class { (self.move_to(list, fits + 1, kept), kept) } else { (list, kept) }
    }

    /// The first `len` of a list.
    pub(super) fn of(&self, list: List, len: u16) -> impl Iterator<Item = Interest> + use<'_> {
        let (class, place) = parts(list);
        let (chunk, first) = at(class, place);
        let cells = &self.classes[class].chunks[chunk][first..first + usize::from(len)];
        cells.iter().copied().map(unpacked)
    }

    /// Lists in use.
    pub(super) fn count(&self) -> u32 {
        self.classes.iter().map(|class| class.used).sum()
    }
    pub(super) fn bytes(&self) -> usize {
        let cells = self.classes.iter().flat_map(|class| &class.chunks).map(|chunk| chunk.len());
        cells.sum::<usize>() * size_of::<Cell>()
    }

    fn take(&mut self, number: usize) -> List {
        while self.classes.len() <= number {
            self.classes.push(Class { chunks: Vec::new(), free: NONE, used: 0 });
        }
        if self.classes[number].free == NONE {
            self.grow(number);
        }
        let list = List((number as u32) << PLACE_BITS | self.classes[number].free);
        let [low, high, _] = self.cells_mut(list)[0];
        let class = &mut self.classes[number];
        class.free = u32::from(low) | u32::from(high) << 16;
        class.used += 1;
        list
    }

    fn grow(&mut self, number: usize) {
        let (each, size) = (per_chunk(number), usize::from(SIZES[number]));
        let class = &mut self.classes[number];
        let first = (class.chunks.len() * each) as u32;
        assert!(first + (each as u32) < NONE, "a list's place has 26 bits");
        let mut chunk = vec![[0; 3]; each * size].into_boxed_slice();
        for nth in 0..each {
            let next = if nth + 1 == each { NONE } else { first + nth as u32 + 1 };
            chunk[nth * size] = [next as u16, (next >> 16) as u16, 0];
        }
        class.chunks.push(chunk);
        class.free = first;
    }

    fn move_to(&mut self, list: List, class: usize, len: u16) -> List {
        let new = self.take(class);
        let ((old_class, old_place), len) = (parts(list), usize::from(len));
        let (chunk, first) = at(old_class, old_place);
        // Out and in again, because both are in the same table.
        let cells = self.classes[old_class].chunks[chunk][first..first + len].to_vec();
        self.cells_mut(new)[..len].copy_from_slice(&cells);
        self.drop(list);
        new
    }

    fn cells_mut(&mut self, list: List) -> &mut [Cell] {
        let (class, place) = parts(list);
        let (chunk, first) = at(class, place);
        &mut self.classes[class].chunks[chunk][first..first + usize::from(SIZES[class])]
    }
}

/// Chunk of a class, and cell in it.
fn at(class: usize, place: u32) -> (usize, usize) {
    let (place, each) = (place as usize, per_chunk(class));
    (place / each, place % each * usize::from(SIZES[class]))
}

fn parts(list: List) -> (usize, u32) {
    ((list.0 >> PLACE_BITS) as usize, list.0 & NONE)
}

fn per_chunk(class: usize) -> usize {
    (CHUNK_CELLS / usize::from(SIZES[class])).max(1)
}

fn packed(Interest { link, handle }: Interest) -> Cell {
    [link, handle.0 as u16, (handle.0 >> 16) as u16]
}

fn unpacked([link, low, high]: Cell) -> Interest {
    Interest { link, handle: Handle(u32::from(low) | u32::from(high) << 16) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(n: u32) -> Interest {
        Interest { link: n as u16, handle: Handle(n.wrapping_mul(0x9e37_79b9)) }
    }

    #[test]
    fn lists_grow_and_shrink_like_plain_ones_and_leave_nothing_behind() {
        let (mut lists, mut random) = (Lists::default(), 5u64);
        let mut twins: Vec<(List, Vec<Interest>)> = Vec::new();
        for step in 0..20_000u32 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let pick = (random >> 40) as usize;
            match random >> 61 {
                0 if twins.len() < 50 => {
                    let of: Vec<Interest> = (0..3).map(|n| one(step + n)).collect();
                    twins.push((lists.make(&of), of));
                }
                1 if !twins.is_empty() => {
                    let at = pick % twins.len();
                    let (list, twin) = &mut twins[at];
                    let keep = |one: Interest| one.link % 3 != (step % 3) as u16;
                    let len = twin.len() as u16;
                    let (new, kept) = lists.retain(*list, len, keep);
                    twin.retain(|one| keep(*one));
                    assert_eq!(usize::from(kept), twin.len());
                    *list = new;
                    if twin.is_empty() {
                        let (list, _) = twins.swap_remove(at);
                        lists.drop(list);
                    }
                }
                _ if !twins.is_empty() => {
                    let at = pick % twins.len();
                    let (list, twin) = &mut twins[at];
                    *list = lists.push(*list, twin.len() as u16, one(step));
                    twin.push(one(step));
                }
                _ => {}
            }
            assert_eq!(lists.count() as usize, twins.len());
            if let Some((list, twin)) = twins.get(pick % twins.len().max(1)) {
                assert_eq!(&lists.of(*list, twin.len() as u16).collect::<Vec<_>>(), twin);
            }
        }
        for (list, twin) in &twins {
            assert_eq!(&lists.of(*list, twin.len() as u16).collect::<Vec<_>>(), twin);
        }
    }

    #[test]
    fn an_interest_in_a_list_costs_six_bytes_and_a_third_at_most() {
        let mut lists = Lists::default();
        let count = 3_000;
        for n in 0..count {
            let of: Vec<Interest> = (0..5 + n % 90).map(one).collect();
            lists.make(&of);
        }
        let interests: u32 = (0..count).map(|n| 5 + n % 90).sum();
        let each = lists.bytes() as f64 / f64::from(interests);
        assert!(each < 8.0, "{each:.2} bytes");
    }
}
