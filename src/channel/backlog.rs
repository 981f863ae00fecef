//! The recent publications of all channels of a core, in one ring of bytes.
//!
//! Each record leads back to the one before it of its channel, and to one further back, so that what is far behind is found in a few steps.
//! Where a channel's newest record is stands in an index of the channels that have one: the places in it are places in the ring. Eviction is
//! the tail moving on. Positions only grow; `position % bytes` is the place.

use crate::ids::{Key, Origin};
use crate::tables::index::Index;
use crate::wire::Member;
use crate::wire::codec::{Field, Reader};

/// A publication as it lies in the ring.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Stored<'a> {
    pub(super) offset: u64,
    pub(super) origin: Origin,
    pub(super) member: Option<Member<'a>>,
    pub(super) payload: &'a [u8],
}

/// One log. Per core, and later per class of namespaces: they share nothing.
#[derive(Debug)]
pub(super) struct Backlog {
    ring: Vec<u8>,
    /// Position of the oldest record.
    tail: u64,
    /// Where the next record goes.
    head: u64,
    /// The newest record of each channel. A record is here until it is superseded, forgotten or evicted.
    newest: Index,
    scratch: Vec<u8>,
}

/// The head of a record: `len u32, key 12, offset u48, is_superseded u16, previous u32, further u32, until u32`, then the body. Back
/// leads a distance in units of [`ALIGN`]; 0 leads nowhere.
const HEAD_BYTES: usize = 36;
const KEY_AT: usize = 4;
const OFFSET_AT: usize = 16;
const SUPERSEDED_AT: usize = 22;
const PREVIOUS_AT: usize = 24;
const FURTHER_AT: usize = 28;
const UNTIL_AT: usize = 32;
/// Records begin at multiples of it.
const ALIGN: usize = 8;
/// Instead of a length: the rest of the ring up to its end is empty.
const SKIP: u32 = u32::MAX;

impl Backlog {
    /// Memory is taken as it is first used.
    pub(super) fn new(bytes_max: usize) -> Self {
        let bytes_max = bytes_max - bytes_max % ALIGN;
        assert!(bytes_max / ALIGN < 1 << 26, "a place in an index has 26 bits");
        Self {
            ring: vec![0; bytes_max],
            tail: 0,
            head: 0,
            newest: Index::default(),
            scratch: Vec::new(),
        }
    }

    /// Appends a record; gives how many old ones had to go. A record that would take half of the ring is not kept. From the second
    /// `until_s` on nothing of the channel is found, unless there is a newer record; 0: that never comes.
    pub(super) fn append(&mut self, key: Key, stored: &Stored<'_>, until_s: u32) -> u32 {
        let mut body = std::mem::take(&mut self.scratch);
        body.clear();
        stored.origin.write(&mut body);
        stored.member.write(&mut body);
        body.extend_from_slice(stored.payload);
        let evicted = self.append_body(key, (stored.offset, until_s), &body);
        self.scratch = body;
        evicted
    }

    fn append_body(&mut self, key: Key, (offset, until_s): (u64, u32), body: &[u8]) -> u32 {
        let len = (HEAD_BYTES + body.len()).next_multiple_of(ALIGN);
        if len * 2 > self.ring.len() {
            self.forget(key);
            return 0;
        }
        let mut evicted = 0;
        let rest = self.ring.len() - self.place(self.head);
        if rest < len {
            evicted += self.make_room(rest);
            let place = self.place(self.head);
            self.ring[place..place + 4].copy_from_slice(&SKIP.to_le_bytes());
            self.head += rest as u64;
        }
        evicted += self.make_room(len);
        let (at, place) = (self.head, self.place(self.head));
        let newest = self.find(key);
        // After a hole the channel's records begin anew.
        let previous = newest.filter(|newest| self.offset(*newest) + 1 == offset);
        let further = previous.and_then(|previous| self.further_of(offset, previous));
        let back = |to: Option<u64>| to.map_or(0, |to| ((at - to) / ALIGN as u64) as u32);
        let record = &mut self.ring[place..place + len];
        record[..KEY_AT].copy_from_slice(&((HEAD_BYTES + body.len()) as u32).to_le_bytes());
        record[KEY_AT..OFFSET_AT].copy_from_slice(&key.0);
        record[OFFSET_AT..SUPERSEDED_AT].copy_from_slice(&offset.to_le_bytes()[..6]);
        record[SUPERSEDED_AT..PREVIOUS_AT].fill(0);
        record[PREVIOUS_AT..FURTHER_AT].copy_from_slice(&back(previous).to_le_bytes());
        record[FURTHER_AT..UNTIL_AT].copy_from_slice(&back(further).to_le_bytes());
        record[UNTIL_AT..HEAD_BYTES].copy_from_slice(&until_s.to_le_bytes());
        record[HEAD_BYTES..HEAD_BYTES + body.len()].copy_from_slice(body);
        let unit = self.unit(at);
        match newest {
            Some(newest) => {
                self.newest.replace(&key, self.unit(newest), unit);
                self.supersede(newest);
            }
            None => {
                let ring = &self.ring;
                self.newest.insert(&key, unit, |unit| key_at(ring, unit));
            }
        }
        self.head += len as u64;
        evicted
    }

    /// The channel's records are of no use any more: they are not found again, and leave with the tail.
    pub(super) fn forget(&mut self, key: Key) {
        if let Some(newest) = self.find(key) {
            self.unindex(key, newest);
            self.supersede(newest);
        }
    }

    /// The oldest offset from which on the backlog has all of the channel up to its tip, in the second `now_s`. A few steps, however
    /// many that are.
    pub(super) fn oldest(&self, key: Key, tip: u64, now_s: u32) -> Option<u64> {
        let mut at = self.find(key).filter(|newest| self.offset(*newest) == tip)?;
        if self.is_over(at, now_s) {
            return None;
        }
        while let Some(before) = self.back(at, FURTHER_AT).or_else(|| self.back(at, PREVIOUS_AT)) {
            at = before;
        }
        Some(self.offset(at))
    }

    /// Seconds for which the channel's records are still of use; 0: there is no end, or there are none.
    pub(super) fn left_s(&self, key: Key, now_s: u32) -> u32 {
        let until_s = self.find(key).map_or(0, |at| self.word(self.place(at) + UNTIL_AT));
        if until_s == 0 { 0 } else { until_s.saturating_sub(now_s).max(1) }
    }

    /// Forgets the channel's records if their time is over: a newer one does not bring them back.
    pub(super) fn end(&mut self, key: Key, now_s: u32) {
        if self.find(key).is_some_and(|newest| self.is_over(newest, now_s)) {
            self.forget(key);
        }
    }

    fn is_over(&self, newest: u64, now_s: u32) -> bool {
        let until_s = self.word(self.place(newest) + UNTIL_AT);
        until_s != 0 && until_s <= now_s
    }

    /// Positions of the records `from ..= to`, oldest first; none unless all are there. Steps: those, and a few.
    pub(super) fn span(&self, key: Key, from: u64, to: u64) -> Vec<u64> {
        let mut positions = Vec::new();
        let mut at = self.find(key);
        while let Some(position) = at.filter(|at| self.offset(*at) > to) {
            let offset = self.offset(position);
            let by = if offset & (offset - 1) >= to { FURTHER_AT } else { PREVIOUS_AT };
            at = self.back(position, by);
        }
        while let Some(position) = at.filter(|at| self.offset(*at) >= from) {
            positions.push(position);
            at = self.back(position, PREVIOUS_AT);
        }
        positions.reverse();
        let first = positions.first().map(|at| self.offset(*at));
        let last = positions.last().map(|at| self.offset(*at));
        if (first, last) == (Some(from), Some(to)) { positions } else { Vec::new() }
    }

    /// The record at a position that [`Backlog::span`] gave.
    pub(super) fn at(&self, position: u64) -> Stored<'_> {
        let place = self.place(position);
        let len = self.word(place) as usize;
        let mut reader = Reader::new(&self.ring[place + HEAD_BYTES..place + len]);
        let origin = Origin::read(&mut reader).expect("written by append");
        let member = Option::<Member<'_>>::read(&mut reader).expect("written by append");
        Stored { offset: self.offset(position), origin, member, payload: reader.rest() }
    }

    /// Channels that have something here.
    pub(super) fn channels(&self) -> u32 {
        self.newest.count()
    }
    pub(super) fn used_bytes(&self) -> usize {
        (self.head - self.tail) as usize
    }
    /// Bytes of the index beside the ring.
    pub(super) fn index_bytes(&self) -> usize {
        self.newest.bytes()
    }

    /// From the record `offset`, which comes after `previous`, a second way back: to `offset` without its lowest bit. From any record
    /// these lead to any older one in a few steps. `None`: that one is not here.
    fn further_of(&self, offset: u64, previous: u64) -> Option<u64> {
        let (to, mut at) = (offset & (offset - 1), previous);
        // The record before has all lower bits: its own ways lead there, one bit a step.
        while self.offset(at) > to {
            at = self.back(at, FURTHER_AT)?;
        }
        Some(at)
    }

    /// The position to which a record leads back, if that is still here.
    fn back(&self, position: u64, by: usize) -> Option<u64> {
        let units = self.word(self.place(position) + by);
        let to = position.checked_sub(u64::from(units) * ALIGN as u64)?;
        (units > 0 && to >= self.tail).then_some(to)
    }

    /// Evicts until so many bytes are free.
    fn make_room(&mut self, len: usize) -> u32 {
        let mut evicted = 0;
        while self.used_bytes() + len > self.ring.len() {
            let place = self.place(self.tail);
            let record = self.word(place);
            if record == SKIP {
                self.tail += (self.ring.len() - place) as u64;
                continue;
            }
            if self.ring[place + SUPERSEDED_AT] == 0 {
                let key = key_at(&self.ring, (place / ALIGN) as u32);
                self.unindex(key, self.tail);
            }
            self.tail += (record as usize).next_multiple_of(ALIGN) as u64;
            evicted += 1;
        }
        evicted
    }

    fn find(&self, key: Key) -> Option<u64> {
        let unit = self.newest.find(&key, |unit| key_at(&self.ring, unit) == key)?;
        // The last position before the head that has this place.
        let place = u64::from(unit) * ALIGN as u64;
        let lap = self.head - self.head % self.ring.len() as u64;
        let position = lap + place;
        Some(if position < self.head { position } else { position - self.ring.len() as u64 })
    }

    fn supersede(&mut self, position: u64) {
        let place = self.place(position);
        self.ring[place + SUPERSEDED_AT] = 1;
    }

    fn unindex(&mut self, key: Key, position: u64) {
        let (unit, ring) = (self.unit(position), &self.ring);
        self.newest.remove(&key, unit, |unit| key_at(ring, unit));
    }

    fn place(&self, position: u64) -> usize {
        (position % self.ring.len() as u64) as usize
    }

    /// A place as the index has it.
    fn unit(&self, position: u64) -> u32 {
        (self.place(position) / ALIGN) as u32
    }

    fn offset(&self, position: u64) -> u64 {
        let place = self.place(position) + OFFSET_AT;
        let mut eight = [0; 8];
        eight[..6].copy_from_slice(&self.ring[place..place + 6]);
        u64::from_le_bytes(eight)
    }

    fn word(&self, place: usize) -> u32 {
        u32::from_le_bytes(self.ring[place..place + 4].try_into().expect("4 bytes"))
    }
}

/// The key of the record at a place, in units of [`ALIGN`].
fn key_at(ring: &[u8], unit: u32) -> Key {
    let at = unit as usize * ALIGN + KEY_AT;
    Key(ring[at..at + 12].try_into().expect("12 bytes"))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, VecDeque};

    use super::*;
    use crate::wire::Membership;

    fn key(n: u8) -> Key {
        Key([n; 12])
    }

    /// All records in order, obviously; those that the ring must still have are the newest.
    #[derive(Default)]
    struct Twin {
        all: VecDeque<(u8, u64, Vec<u8>)>,
        tips: BTreeMap<u8, u64>,
    }

    impl Twin {
        /// The records up to the tip that follow each other, oldest first.
        fn run(&self, channel: u8) -> Vec<(u64, &[u8])> {
            let mut run: VecDeque<(u64, &[u8])> = VecDeque::new();
            for (of, offset, payload) in self.all.iter().rev() {
                let is_next = run.front().map_or(self.tips[&channel], |(first, _)| first - 1);
                if *of == channel && *offset == is_next {
                    run.push_front((*offset, payload));
                } else if *of == channel {
                    break;
                }
            }
            run.into()
        }
    }

    #[test]
    fn the_newest_record_says_until_when() {
        let mut backlog = Backlog::new(4 << 10);
        let stored =
            |offset| Stored { offset, origin: Origin::NOBODY, member: None, payload: b"x" };
        backlog.append(key(1), &stored(1), 10);
        backlog.append(key(1), &stored(2), 20);
        assert_eq!(backlog.oldest(key(1), 2, 19), Some(1));
        assert_eq!(backlog.oldest(key(1), 2, 20), None);
        backlog.append(key(1), &stored(3), 30);
        assert_eq!(
            backlog.oldest(key(1), 3, 29),
            Some(1),
            "all of it is kept from the last one on"
        );
    }

    #[test]
    fn it_gives_back_what_a_plain_queue_of_records_would() {
        let mut backlog = Backlog::new(4 << 10);
        let (mut twin, mut random) = (Twin::default(), 3u64);
        for step in 0..6_000u64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(step | 1);
            let channel = (random >> 60) as u8 % 5;
            let tip = twin.tips.entry(channel).or_default();
            // Now and then there is a hole.
            *tip += 1 + u64::from((random >> 50).is_multiple_of(40)) * 3;
            let offset = *tip;
            let payload = vec![channel; (random >> 40) as usize % 100];
            let member = (random >> 59 & 1 == 1).then_some(Member {
                what: Membership::Left,
                user: "U1",
                channel: "C1",
                offset,
            });
            let origin = Origin { life: random, ..Origin::NOBODY };
            let stored = Stored { offset, origin, member, payload: &payload };
            let evicted = backlog.append(key(channel), &stored, 0);
            twin.all.push_back((channel, offset, payload.clone()));
            twin.all.drain(..evicted as usize);
            if (random >> 45).is_multiple_of(200) {
                backlog.forget(key(channel));
                // They lie there until the tail comes.
                twin.all.iter_mut().filter(|(of, ..)| *of == channel).for_each(|one| one.0 = 99);
            }
            for (&channel, &tip) in &twin.tips {
                let run = twin.run(channel);
                let oldest = backlog.oldest(key(channel), tip, u32::MAX);
                assert_eq!(oldest, run.first().map(|(offset, _)| *offset));
                assert_eq!(backlog.oldest(key(channel), tip + 1, 0), None);
                let Some(oldest) = oldest else { continue };
                let from = oldest + random % (tip - oldest + 1);
                let to = from + (random >> 32) % (tip - from + 1);
                let span = backlog.span(key(channel), from, to);
                let got: Vec<_> = span
                    .iter()
                    .map(|at| backlog.at(*at))
                    .map(|one| (one.offset, one.payload.to_vec()))
                    .collect();
                let expected: Vec<_> = run
                    .iter()
                    .filter(|(offset, _)| (from..=to).contains(offset))
                    .map(|(offset, payload)| (*offset, payload.to_vec()))
                    .collect();
                assert_eq!(got, expected);
                assert!(backlog.span(key(channel), oldest - 1, to).is_empty(), "none made up");
            }
        }
    }
}
