//! Channels by slot and key: 32 bytes each, and a small index per slot.
//!
//! A slot is opened, counted and dropped as a unit, and no table grows large enough for its growth to stall a core: entries lie dense,
//! cells of `tag 12, place 20` find them by linear probing, and both grow by a quarter.

use super::interest::Interests;
use crate::ids::{Key, Slot};

/// One channel at its owner.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Channel {
    interests: Interests,
    key: Key,
    tip: [u8; 6],
    flags: u8,
    spare: u8,
}

const _: () = assert!(size_of::<Channel>() == 32, "memory is the product");

const VERIFIED: u8 = 1;

impl Channel {
    fn new(key: Key, tip: u64) -> Self {
        let mut channel =
            Self { interests: Interests::none(), key, tip: [0; 6], flags: 0, spare: 0 };
        channel.set_tip(tip);
        channel
    }
    pub(super) fn tip(&self) -> u64 {
        let mut eight = [0; 8];
        eight[..6].copy_from_slice(&self.tip);
        u64::from_le_bytes(eight)
    }
    /// Below 2^48.
    pub(super) fn set_tip(&mut self, tip: u64) {
        let eight = tip.to_le_bytes();
        assert!(eight[6..] == [0, 0], "an offset has 48 bits");
        self.tip.copy_from_slice(&eight[..6]);
    }
    /// Whether the tip is the source's, and not only the newest that we heard of.
    pub(super) fn is_verified(&self) -> bool {
        self.flags & VERIFIED != 0
    }
    pub(super) fn set_verified(&mut self, verified: bool) {
        self.flags = if verified { self.flags | VERIFIED } else { self.flags & !VERIFIED };
    }
    pub(super) fn interests(&self) -> &Interests {
        &self.interests
    }
    pub(super) fn interests_mut(&mut self) -> &mut Interests {
        &mut self.interests
    }
}

/// All channels of the slots of one core.
#[derive(Debug)]
pub(super) struct Table {
    slots: Box<[SlotTable]>,
    cores: u16,
    count: usize,
}

#[derive(Debug, Default)]
struct SlotTable {
    entries: Vec<Channel>,
    /// `place + 1` in the low 20 bits, a tag of the key above; 0 is empty.
    cells: Vec<u32>,
}

/// Channels of one slot that its index can name.
const PLACES_MAX: usize = (1 << 20) - 1;

impl Table {
    /// For a core of a node with so many.
    pub(super) fn new(cores: u8) -> Self {
        let cores = u16::from(cores.max(1));
        let slots = (65_536 / usize::from(cores)) + 1;
        Self { slots: (0..slots).map(|_| SlotTable::default()).collect(), cores, count: 0 }
    }
    pub(super) fn len(&self) -> usize {
        self.count
    }
    /// Bytes that the tables hold, spare places included.
    pub(super) fn bytes(&self) -> usize {
        let of = |slot: &SlotTable| {
            slot.entries.capacity() * size_of::<Channel>() + slot.cells.capacity() * 4
        };
        self.slots.iter().map(of).sum::<usize>() + self.slots.len() * size_of::<SlotTable>()
    }
    pub(super) fn find(&self, slot: Slot, key: Key) -> Option<&Channel> {
        let table = &self.slots[self.place(slot)];
        table.find(key).map(|at| &table.entries[at])
    }
    pub(super) fn find_mut(&mut self, slot: Slot, key: Key) -> Option<&mut Channel> {
        let at = self.place(slot);
        let table = &mut self.slots[at];
        table.find(key).map(|at| &mut table.entries[at])
    }
    /// A new channel; `None` when the slot is full.
    pub(super) fn insert(&mut self, slot: Slot, key: Key, tip: u64) -> Option<&mut Channel> {
        let at = self.place(slot);
        let table = &mut self.slots[at];
        debug_assert!(table.find(key).is_none(), "a channel has one entry");
        let place = table.insert(Channel::new(key, tip))?;
        self.count += 1;
        Some(&mut table.entries[place])
    }
    pub(super) fn remove(&mut self, slot: Slot, key: Key) {
        let at = self.place(slot);
        if self.slots[at].remove(key) {
            self.count -= 1;
        }
    }
    /// The channels of the `nth` slot of this core; `None` past the last.
    pub(super) fn of_slot(&mut self, nth: usize) -> Option<&mut [Channel]> {
        self.slots.get_mut(nth).map(|slot| slot.entries.as_mut_slice())
    }
    fn place(&self, slot: Slot) -> usize {
        usize::from(slot.0 / self.cores)
    }
}

impl SlotTable {
    fn find(&self, key: Key) -> Option<usize> {
        if self.cells.is_empty() {
            return None;
        }
        let tag = tag_of(key);
        let mut cell = home_of(key, self.cells.len());
        loop {
            let value = self.cells[cell];
            if value == 0 {
                return None;
            }
            let place = (value & 0xf_ffff) as usize - 1;
            if value >> 20 == tag && self.entries[place].key == key {
                return Some(place);
            }
            cell = after(cell, self.cells.len());
        }
    }

    fn insert(&mut self, channel: Channel) -> Option<usize> {
        let place = self.entries.len();
        if place >= PLACES_MAX {
            return None;
        }
        if place == self.entries.capacity() {
            self.entries.reserve_exact(if place < 64 { 16 } else { (place / 4).max(64) });
        }
        self.entries.push(channel);
        // Between load 0.64 and 0.80.
        if (place + 1) * 5 > self.cells.len() * 4 {
            let cells = ((place + 1) * 100 / 64).max(8);
            self.index_again(cells);
        } else {
            self.index(place);
        }
        Some(place)
    }

    fn index_again(&mut self, cells: usize) {
        self.cells = Vec::new();
        self.cells.reserve_exact(cells);
        self.cells.resize(cells, 0);
        for place in 0..self.entries.len() {
            self.index(place);
        }
    }

    fn index(&mut self, place: usize) {
        let key = self.entries[place].key;
        let mut cell = home_of(key, self.cells.len());
        while self.cells[cell] != 0 {
            cell = after(cell, self.cells.len());
        }
        self.cells[cell] = tag_of(key) << 20 | (place as u32 + 1);
    }

    fn remove(&mut self, key: Key) -> bool {
        let Some(place) = self.find(key) else { return false };
        self.unindex(self.cell_of(place));
        let last = self.entries.len() - 1;
        if place != last {
            let cell = self.cell_of(last);
            self.cells[cell] = tag_of(self.entries[last].key) << 20 | (place as u32 + 1);
        }
        self.entries.swap_remove(place);
        true
    }

    /// The cell that names `place`.
    fn cell_of(&self, place: usize) -> usize {
        let mut cell = home_of(self.entries[place].key, self.cells.len());
        while (self.cells[cell] & 0xf_ffff) as usize != place + 1 {
            cell = after(cell, self.cells.len());
        }
        cell
    }

    /// Empties a cell and moves back what was pushed past it.
    fn unindex(&mut self, mut hole: usize) {
        let len = self.cells.len();
        self.cells[hole] = 0;
        let mut cell = after(hole, len);
        while self.cells[cell] != 0 {
            let place = (self.cells[cell] & 0xf_ffff) as usize - 1;
            let home = home_of(self.entries[place].key, len);
            let distance = |from: usize, to: usize| (to + len - from) % len;
            if distance(home, cell) >= distance(hole, cell) {
                self.cells[hole] = self.cells[cell];
                self.cells[cell] = 0;
                hole = cell;
            }
            cell = after(cell, len);
        }
    }
}

fn tag_of(key: Key) -> u32 {
    u32::from(u16::from_le_bytes([key.0[0], key.0[1]])) >> 4
}

fn home_of(key: Key, cells: usize) -> usize {
    let bits = u64::from(u32::from_le_bytes([key.0[4], key.0[5], key.0[6], key.0[7]]));
    ((bits * cells as u64) >> 32) as usize
}

fn after(cell: usize, len: usize) -> usize {
    if cell + 1 == len { 0 } else { cell + 1 }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn key(n: u64) -> Key {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        bytes[8..].copy_from_slice(&(n as u32).to_le_bytes());
        Key(bytes)
    }

    #[test]
    fn it_agrees_with_a_plain_map_under_random_operations() {
        let mut table = Table::new(2);
        let mut twin = BTreeMap::new();
        let mut random = 1u64;
        for step in 0..60_000u64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(step | 1);
            let n = (random >> 33) % 700;
            let (slot, key) = (Slot((n % 3) as u16), key(n));
            match random >> 62 {
                0 => {
                    table.remove(slot, key);
                    twin.remove(&n);
                }
                _ => match table.find_mut(slot, key) {
                    Some(channel) => {
                        assert!(twin.contains_key(&n));
                        channel.set_tip(step);
                        twin.insert(n, step);
                    }
                    None => {
                        table.insert(slot, key, step).expect("room");
                        assert_eq!(twin.insert(n, step), None);
                    }
                },
            }
        }
        assert_eq!(table.len(), twin.len());
        for n in 0..700 {
            let found = table.find(Slot((n % 3) as u16), key(n)).map(Channel::tip);
            assert_eq!(found, twin.get(&n).copied());
        }
    }

    #[test]
    fn a_channel_costs_at_most_48_bytes_at_the_sizes_that_count() {
        for channels in [1_000_000u64, 2_000_000] {
            let mut table = Table::new(4);
            for n in 0..channels {
                // The slots of one of four cores.
                let slot = Slot(((n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 50) * 4) as u16);
                table.insert(slot, key(n), 1).expect("room");
            }
            let each = table.bytes() as f64 / channels as f64;
            assert!(each <= 48.0, "{each:.1} bytes at {channels} channels");
        }
    }
}
