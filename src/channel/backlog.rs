//! The recent publications of all channels of a core, in one ring of bytes.
//!
//! Each record points back to the one before it of its channel; where a channel's newest record is stands in a side table of the
//! channels that have one. Eviction is the tail moving on. Positions only grow; `position % bytes` is the place.

use rustc_hash::FxHashMap;

use crate::ids::{Key, Origin};
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

#[derive(Debug)]
pub(super) struct Backlog {
    ring: Vec<u8>,
    bytes_max: usize,
    /// Position of the oldest record.
    tail: u64,
    /// Where the next record goes.
    head: u64,
    /// Position of the newest record of a channel.
    newest: FxHashMap<Key, u64>,
    scratch: Vec<u8>,
}

/// `len u32, key 12, offset u64, previous u64`, then the body.
const HEAD_BYTES: usize = 32;
/// The rest of the ring up to its end is empty.
const SKIP: u32 = u32::MAX;
const NONE: u64 = u64::MAX;

impl Backlog {
    /// Memory is taken as it is first used.
    pub(super) fn new(bytes_max: usize) -> Self {
        let bytes_max = bytes_max & !7;
        Self {
            ring: vec![0; bytes_max],
            bytes_max,
            tail: 0,
            head: 0,
            newest: FxHashMap::default(),
            scratch: Vec::new(),
        }
    }

    pub(super) fn channels(&self) -> usize {
        self.newest.len()
    }

    pub(super) fn used_bytes(&self) -> usize {
        (self.head - self.tail) as usize
    }

    /// Appends a record; gives how many old ones had to go. A record that could never fit is not kept.
    pub(super) fn append(&mut self, key: Key, stored: &Stored<'_>) -> u32 {
        let mut body = std::mem::take(&mut self.scratch);
        body.clear();
        stored.origin.write(&mut body);
        stored.member.write(&mut body);
        body.extend_from_slice(stored.payload);
        let len = (HEAD_BYTES + body.len()).next_multiple_of(8);
        if len * 2 > self.bytes_max {
            self.forget(key);
            self.scratch = body;
            return 0;
        }
        let mut evicted = 0;
        let place = (self.head % self.bytes_max as u64) as usize;
        if place + len > self.bytes_max {
            evicted += self.make_room(self.bytes_max - place);
            self.ring[place..place + 4].copy_from_slice(&SKIP.to_le_bytes());
            self.head += (self.bytes_max - place) as u64;
        }
        evicted += self.make_room(len);
        let at = (self.head % self.bytes_max as u64) as usize;
        let previous = self.newest.insert(key, self.head).unwrap_or(NONE);
        let record = &mut self.ring[at..at + len];
        record[..4].copy_from_slice(&((HEAD_BYTES + body.len()) as u32).to_le_bytes());
        record[4..16].copy_from_slice(&key.0);
        record[16..24].copy_from_slice(&stored.offset.to_le_bytes());
        record[24..32].copy_from_slice(&previous.to_le_bytes());
        record[HEAD_BYTES..HEAD_BYTES + body.len()].copy_from_slice(&body);
        self.head += len as u64;
        self.scratch = body;
        evicted
    }

    /// The channel's records are of no use any more (a hole): they are not found again, and leave with the tail.
    pub(super) fn forget(&mut self, key: Key) {
        self.newest.remove(&key);
    }

    /// Positions of the records `after + 1 ..= tip`, oldest first, at most `count_max`; `None` when the backlog does not reach back so
    /// far without a hole.
    pub(super) fn since(
        &self,
        key: Key,
        after: u64,
        tip: u64,
        count_max: usize,
    ) -> Option<Vec<u64>> {
        let mut positions = Vec::new();
        let mut position = *self.newest.get(&key)?;
        let mut wanted = tip;
        while wanted > after {
            if position == NONE || position < self.tail {
                return None;
            }
            let offset = self.word(position, 16);
            if offset != wanted {
                return None;
            }
            positions.push(position);
            position = self.word(position, 24);
            wanted -= 1;
        }
        positions.reverse();
        positions.truncate(count_max);
        Some(positions)
    }

    /// The record at a position that [`Backlog::since`] gave.
    pub(super) fn at(&self, position: u64) -> Stored<'_> {
        let place = (position % self.bytes_max as u64) as usize;
        let len = self.len_at(place) as usize;
        let mut reader = Reader::new(&self.ring[place + HEAD_BYTES..place + len]);
        let origin = Origin::read(&mut reader).expect("written by append");
        let member = Option::<Member<'_>>::read(&mut reader).expect("written by append");
        let payload = reader.rest();
        Stored { offset: self.word(position, 16), origin, member, payload }
    }

    fn make_room(&mut self, len: usize) -> u32 {
        let mut evicted = 0;
        while self.used_bytes() + len > self.bytes_max {
            let place = (self.tail % self.bytes_max as u64) as usize;
            let record = self.len_at(place);
            if record == SKIP {
                self.tail += (self.bytes_max - place) as u64;
                continue;
            }
            let key = Key(self.ring[place + 4..place + 16].try_into().expect("12 bytes"));
            if self.newest.get(&key) == Some(&self.tail) {
                self.newest.remove(&key);
            }
            self.tail += (record as usize).next_multiple_of(8) as u64;
            evicted += 1;
        }
        evicted
    }

    fn len_at(&self, place: usize) -> u32 {
        u32::from_le_bytes(self.ring[place..place + 4].try_into().expect("4 bytes"))
    }

    fn word(&self, position: u64, at: usize) -> u64 {
        let place = (position % self.bytes_max as u64) as usize + at;
        u64::from_le_bytes(self.ring[place..place + 8].try_into().expect("8 bytes"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, VecDeque};

    use super::*;
    use crate::wire::Membership;

    fn key(n: u8) -> Key {
        Key([n; 12])
    }

    #[test]
    fn it_gives_back_what_a_plain_queue_of_records_would() {
        let mut backlog = Backlog::new(4 << 10);
        // The twin: all records in order; those that the ring must still have are its newest bytes.
        let mut twin: VecDeque<(u8, u64, Vec<u8>)> = VecDeque::new();
        let mut tips: BTreeMap<u8, u64> = BTreeMap::new();
        let mut random = 3u64;
        let mut evicted = 0;
        for _ in 0..3_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let channel = (random >> 60) as u8 % 5;
            let tip = tips.entry(channel).or_default();
            *tip += 1;
            let payload = vec![channel; (random >> 40) as usize % 300];
            let user = "U1";
            let member = (random >> 59 & 1 == 1).then_some(Member {
                what: Membership::Left,
                user,
                channel: "C1",
                offset: *tip,
            });
            let origin = Origin { life: random, ..Origin::NOBODY };
            let stored = Stored { offset: *tip, origin, member, payload: &payload };
            evicted += backlog.append(key(channel), &stored);
            twin.push_back((channel, *tip, payload.clone()));
            for _ in 0..std::mem::take(&mut evicted) {
                twin.pop_front();
            }
            for (channel, tip) in &tips {
                let mine: Vec<_> = twin.iter().filter(|(of, ..)| of == channel).collect();
                let oldest = mine.first().map_or(*tip + 1, |(_, offset, _)| *offset);
                let got = backlog.since(key(*channel), oldest - 1, *tip, usize::MAX);
                if mine.is_empty() {
                    continue;
                }
                let got: Vec<_> = got
                    .expect("all of them")
                    .into_iter()
                    .map(|at| backlog.at(at))
                    .map(|one| (one.offset, one.payload.to_vec()))
                    .collect();
                assert_eq!(
                    got,
                    mine.iter()
                        .map(|(_, offset, payload)| (*offset, payload.clone()))
                        .collect::<Vec<_>>()
                );
                if oldest > 1 {
                    assert_eq!(
                        backlog.since(key(*channel), oldest - 2, *tip, usize::MAX),
                        None,
                        "the evicted are not made up"
                    );
                }
            }
        }
    }
}
