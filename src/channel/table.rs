//! Channels by slot and key: 32 bytes each in one slab of the core, and a small index per slot.
//!
//! A slot is opened, counted and closed as a unit. Nothing here ever moves more than a chunk of entries (32 KiB) or one sub-table of an
//! index (51 KiB): no growth stalls a core. Entries do not move, so that a place is good until its channel is removed.

use std::collections::VecDeque;
use std::ops::{Index as At, IndexMut};

use super::handoff::Departure;
use super::interest::Interests;
use crate::ids::{Key, Slot};
use crate::tables::index::Index;
use crate::tables::slab::{Entry, Slab};

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

/// What may be true of a channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Is {
    /// The tip is the source's, and not only the newest that we heard of. All interests know where they stand.
    Verified = 1,
    /// Its offsets are given here.
    Memory = 2,
    /// Its tip is to be asked of the source, or asked: interests wait.
    Opening = 4,
    /// Publications are held because one before them is missing.
    Holed = 8,
    /// No channel: a free place of the slab.
    Vacant = 128,
}

/// The largest offset: it has 48 bits.
pub(super) const OFFSET_MAX: u64 = (1 << 48) - 1;

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
    /// At most [`OFFSET_MAX`].
    pub(super) fn set_tip(&mut self, tip: u64) {
        assert!(tip <= OFFSET_MAX, "whoever brings an offset from outside looks at it first");
        self.tip.copy_from_slice(&tip.to_le_bytes()[..6]);
    }
    pub(super) fn is(&self, what: Is) -> bool {
        self.flags & what as u8 != 0
    }
    pub(super) fn set(&mut self, what: Is, to: bool) {
        self.flags = if to { self.flags | what as u8 } else { self.flags & !(what as u8) };
    }
    pub(super) fn key(&self) -> Key {
        self.key
    }
    pub(super) fn interests(&self) -> &Interests {
        &self.interests
    }
    pub(super) fn interests_mut(&mut self) -> &mut Interests {
        &mut self.interests
    }
    /// Nobody waits for anything of it, nor would miss it: the source has it, or its slot's floor stands for it.
    fn is_forgettable(&self) -> bool {
        self.interests.is_empty() && !self.is(Is::Opening) && !self.is(Is::Holed)
    }
}

impl Entry for Channel {
    fn vacant(next: u32) -> Self {
        let mut channel = Self::new(Key::default(), u64::from(next));
        channel.set(Is::Vacant, true);
        channel
    }
    fn next_vacant(&self) -> Option<u32> {
        self.is(Is::Vacant).then(|| self.tip() as u32)
    }
}

/// One slot, as its owner has it.
#[derive(Debug, Default)]
struct Head {
    index: Index,
    /// Memory channels that are new here, or come back, begin above it: no offset is ever given twice in one epoch.
    floor: u64,
    /// Of its memory channels. Never 0, which is the durable ones'.
    epoch: u32,
}

const _: () = assert!(size_of::<Head>() == 40);

/// All channels of the slots of one core.
#[derive(Debug)]
pub(super) struct Table {
    slots: Box<[Head]>,
    entries: Slab<Channel>,
    cores: u16,
    /// For epochs: each is drawn anew.
    random: u64,
    hand: Hand,
    /// Subscribers of these are told.
    closed: VecDeque<Closed>,
    /// And these are passed on.
    departing: VecDeque<Closed>,
}

/// What was in a slot that is somebody else's now, until it is buried.
#[derive(Debug)]
pub(super) struct Closed {
    pub(super) slot: Slot,
    pub(super) epoch: u32,
    pub(super) floor: u64,
    /// To whom its memory channels go, if they do.
    pub(super) departure: Option<Departure>,
    /// Channels whose subscribers are still to be told.
    untold: Vec<u32>,
    index: Index,
}

impl Closed {
    pub(super) fn next_untold(&mut self) -> Option<u32> {
        self.untold.pop()
    }
    /// A channel that is still in it.
    pub(super) fn next(&self) -> Option<u32> {
        self.index.places().next()
    }
}

/// Where the search for a channel that nobody would miss goes on.
#[derive(Clone, Copy, Default, Debug)]
struct Hand {
    slot: usize,
    part: usize,
    seen: usize,
}

/// Channels, and parts of slots, that one search for a forgettable channel looks at: about 10 microseconds.
const LOOKS: usize = 64;

impl Table {
    /// For a core of a node with so many. `seed` is drawn anew at each start of the process.
    pub(super) fn new(cores: u8, seed: u64) -> Self {
        let cores = u16::from(cores.max(1));
        let slots = 65_536 / usize::from(cores) + 1;
        let mut table = Self {
            slots: (0..slots).map(|_| Head::default()).collect(),
            entries: Slab::new(),
            cores,
            random: seed,
            hand: Hand::default(),
            closed: VecDeque::new(),
            departing: VecDeque::new(),
        };
        for at in 0..slots {
            table.slots[at].epoch = table.fresh_epoch();
        }
        table
    }

    /// The place of a channel.
    pub(super) fn find(&self, slot: Slot, key: Key) -> Option<u32> {
        let entries = &self.entries;
        self.slots[self.at(slot)].index.find(&key, |place| entries[place].key == key)
    }

    /// A new channel, which is not here yet.
    pub(super) fn insert(&mut self, slot: Slot, key: Key, tip: u64) -> u32 {
        debug_assert!(self.find(slot, key).is_none(), "a channel has one entry");
        let at = self.at(slot);
        let place = self.entries.insert(Channel::new(key, tip));
        let entries = &self.entries;
        self.slots[at].index.insert(&key, place, |place| entries[place].key);
        place
    }

    /// Removes a channel that has no interests any more.
    pub(super) fn remove(&mut self, slot: Slot, place: u32) {
        self.remove_at(self.at(slot), place);
    }

    /// Removes one channel that nobody would miss, if there is one among some.
    pub(super) fn forget_one(&mut self) -> bool {
        for _ in 0..LOOKS {
            let Hand { slot, part, seen } = self.hand;
            let Some(places) = self.slots[slot].index.part(part) else {
                self.hand = Hand { slot: (slot + 1) % self.slots.len(), part: 0, seen: 0 };
                continue;
            };
            let mut looks = 0;
            let found = places.skip(seen).take(LOOKS).find(|&place| {
                looks += 1;
                self.entries[place].is_forgettable()
            });
            if let Some(place) = found {
                self.hand.seen = seen + looks - 1;
                self.remove_at(slot, place);
                return true;
            }
            if looks == LOOKS {
                self.hand.seen = seen + looks;
                return false;
            }
            self.hand = Hand { slot, part: part + 1, seen: 0 };
        }
        false
    }

    /// The slot is somebody else's, or ours anew: nothing in it is found any more. What is left of it waits to be buried.
    pub(super) fn close(&mut self, slot: Slot, departure: Option<Departure>) {
        let (at, fresh) = (self.at(slot), self.fresh_epoch());
        let Head { index, floor, epoch } = std::mem::take(&mut self.slots[at]);
        self.slots[at].epoch = fresh;
        // Nobody waits for what was there in a life before.
        let earlier = self.closed.iter_mut().chain(&mut self.departing);
        for closed in earlier.filter(|closed| closed.slot == slot) {
            closed.departure = None;
        }
        if index.count() > 0 || departure.is_some() {
            let untold = index.places().collect();
            self.closed.push_back(Closed { slot, epoch, floor, departure, untold, index });
        }
    }

    /// The slot comes with the life that it had elsewhere.
    pub(super) fn adopt(&mut self, slot: Slot, epoch: u32, floor: u64) {
        let at = self.at(slot);
        (self.slots[at].epoch, self.slots[at].floor) = (epoch, floor);
    }

    /// A life of its own after all.
    pub(super) fn renew(&mut self, slot: Slot) {
        let (at, fresh) = (self.at(slot), self.fresh_epoch());
        self.slots[at].epoch = fresh;
    }

    /// No channel of the slot that is new here begins at or below it.
    pub(super) fn raise(&mut self, slot: Slot, tip: u64) {
        let at = self.at(slot);
        self.slots[at].floor = self.slots[at].floor.max(tip);
    }

    /// Whether there are subscribers of closed slots who are not told yet.
    pub(super) fn has_closed(&self) -> bool {
        !self.closed.is_empty()
    }

    /// The closed slot whose subscribers are told next.
    pub(super) fn take_closed(&mut self) -> Option<Closed> {
        self.closed.pop_front()
    }
    /// Some are not told yet.
    pub(super) fn put_back(&mut self, closed: Closed) {
        self.closed.push_front(closed);
    }
    /// The one that is passed on next: nobody waits for it who could not go on otherwise.
    pub(super) fn take_departing(&mut self) -> Option<Closed> {
        self.departing.pop_front()
    }
    /// Its subscribers are told.
    pub(super) fn depart(&mut self, closed: Closed) {
        self.departing.push_back(closed);
    }
    /// It is not all passed on yet.
    pub(super) fn stay(&mut self, closed: Closed) {
        self.departing.push_front(closed);
    }

    /// Takes one channel of a closed slot away, whose subscribers were told.
    pub(super) fn bury(&mut self, closed: &mut Closed, place: u32) {
        let entries = &self.entries;
        closed.index.remove(&entries[place].key, place, |place| entries[place].key);
        self.entries.remove(place);
    }

    /// The channels of a slot.
    pub(super) fn places_of(&self, slot: Slot) -> Vec<u32> {
        self.slots[self.at(slot)].index.places().collect()
    }

    pub(super) fn count(&self) -> u32 {
        self.entries.count()
    }
    /// The channel at a place, if there is one: for walks over all.
    pub(super) fn at_place(&mut self, place: u32) -> Option<&mut Channel> {
        self.entries.contains(place).then(|| &mut self.entries[place])
    }
    /// Where a walk over all places ends.
    pub(super) fn places(&self) -> u32 {
        self.entries.places()
    }
    /// The life to which the offsets of the slot's memory channels belong.
    pub(super) fn epoch(&self, slot: Slot) -> u32 {
        self.slots[self.at(slot)].epoch
    }
    /// Above it begins a memory channel that is new here.
    pub(super) fn floor(&self, slot: Slot) -> u64 {
        self.slots[self.at(slot)].floor
    }
    /// Bytes that the tables hold, spare places included.
    pub(super) fn bytes(&self) -> usize {
        let indexes: usize = self.slots.iter().map(|slot| slot.index.bytes()).sum();
        self.entries.bytes() + indexes + self.slots.len() * size_of::<Head>()
    }

    fn remove_at(&mut self, at: usize, place: u32) {
        let Channel { key, .. } = self.entries[place];
        let channel = &self.entries[place];
        assert!(channel.is_forgettable(), "what waits for a channel goes before it");
        let head = &mut self.slots[at];
        if channel.is(Is::Memory) {
            head.floor = head.floor.max(channel.tip());
        }
        let entries = &self.entries;
        head.index.remove(&key, place, |place| entries[place].key);
        self.entries.remove(place);
    }

    /// A slot's number on this core.
    fn at(&self, slot: Slot) -> usize {
        usize::from(slot.0 / self.cores)
    }

    fn fresh_epoch(&mut self) -> u32 {
        // SplitMix64.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed >> 32) as u32 | 1
    }
}

impl At<u32> for Table {
    type Output = Channel;
    fn index(&self, place: u32) -> &Channel {
        &self.entries[place]
    }
}

impl IndexMut<u32> for Table {
    fn index_mut(&mut self, place: u32) -> &mut Channel {
        &mut self.entries[place]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::ring::Secret;

    fn key(n: u64) -> Key {
        Secret([3; 16]).key_of(&n.to_string())
    }

    /// The slot of one of four cores.
    fn slot(n: u64) -> Slot {
        Slot(((n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 50) * 4) as u16)
    }

    fn table_of(channels: u64) -> Table {
        let mut table = Table::new(4, 1);
        for n in 0..channels {
            table.insert(slot(n), key(n), n);
        }
        table
    }

    #[test]
    fn it_agrees_with_a_plain_map_under_random_operations() {
        let mut table = Table::new(2, 1);
        let mut twin = BTreeMap::new();
        let mut random = 1u64;
        for step in 0..60_000u64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(step | 1);
            let n = (random >> 33) % 700;
            let (slot, key) = (Slot((n % 3) as u16 * 2), key(n));
            match (random >> 62, table.find(slot, key)) {
                (0, Some(place)) => {
                    table.remove(slot, place);
                    assert!(twin.remove(&n).is_some());
                }
                (0, None) => assert!(!twin.contains_key(&n)),
                (_, Some(place)) => {
                    table[place].set_tip(step);
                    assert!(twin.insert(n, step).is_some());
                }
                (_, None) => {
                    table.insert(slot, key, step);
                    assert_eq!(twin.insert(n, step), None);
                }
            }
        }
        assert_eq!(table.count() as usize, twin.len());
        for n in 0..700 {
            let place = table.find(Slot((n % 3) as u16 * 2), key(n));
            assert_eq!(place.map(|place| table[place].tip()), twin.get(&n).copied());
        }
    }

    #[test]
    fn a_channel_costs_at_most_40_bytes_at_the_sizes_that_count() {
        for channels in [1_000_000, 2_000_000] {
            let each = table_of(channels).bytes() as f64 / channels as f64;
            assert!(each <= 40.0, "{each:.1} bytes at {channels} channels");
        }
    }

    #[test]
    fn what_is_forgotten_is_what_nobody_would_miss() {
        let mut table = table_of(1_000);
        for n in 0..1_000 {
            let place = table.find(slot(n), key(n)).expect("just put in");
            table[place].set(Is::Opening, n % 10 != 0);
        }
        let mut forgotten = 0;
        // One search looks at a few only: 16,384 slots have to be gone through.
        for _ in 0..2_000 {
            forgotten += u32::from(table.forget_one());
        }
        assert_eq!((forgotten, table.count()), (100, 900));
        assert!((0..1_000).all(|n| table.find(slot(n), key(n)).is_some() == (n % 10 != 0)));
    }

    #[test]
    fn a_memory_channel_that_was_forgotten_goes_on_above_its_slots_floor() {
        let mut table = Table::new(1, 1);
        let place = table.insert(Slot(5), key(1), 77);
        table[place].set(Is::Memory, true);
        let epoch = table.epoch(Slot(5));
        table.remove(Slot(5), place);
        assert_eq!((table.floor(Slot(5)), table.epoch(Slot(5))), (77, epoch));
        table.close(Slot(5), None);
        assert_eq!(table.floor(Slot(5)), 0);
        assert_ne!(table.epoch(Slot(5)), epoch, "what the next owner counted, nobody knows");
    }

    #[test]
    fn a_closed_slot_is_empty_at_once_and_buried_bit_by_bit() {
        let mut table = Table::new(1, 1);
        for n in 0..500 {
            table.insert(Slot((n % 2) as u16), key(n), n);
        }
        table.close(Slot(0), None);
        assert!(
            (0..500).all(|n| table.find(Slot((n % 2) as u16), key(n)).is_some() == (n % 2 == 1))
        );
        table.insert(Slot(0), key(0), 9);
        let (mut buried, mut closed) = (0, table.take_closed().expect("it had channels"));
        while let Some(place) = closed.next() {
            table.bury(&mut closed, place);
            buried += 1;
        }
        assert_eq!((buried, table.count(), table.take_closed().is_none()), (250, 251, true));
    }
}
