//! Users of one core: 40 bytes each, found by their key, and those who may fall away in the order of their last activity.

use std::ops::{Index, IndexMut};

use crate::ids::{Key, Slot};
use crate::tables::index;
use crate::tables::slab::{Entry, NIL, Slab};
use crate::time::Mono;

/// One user that somebody reports or watches. Per shard.
#[derive(Clone, Copy, Debug)]
pub(super) struct User {
    pub(super) last_active: Mono,
    pub(super) key: Key,
    /// The first of its reports and of its watches among the ties. Online: there is a report.
    pub(super) reports: u32,
    pub(super) watches: u32,
    /// Neighbours among those who may fall away.
    idle_prev: u32,
    idle_next: u32,
    pub(super) slot: Slot,
    flags: u8,
}

const _: () = assert!(size_of::<User>() == 40, "memory is the product");

/// What is true of a user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Is {
    /// Never away by time.
    Bot = 1,
    /// Away by time.
    Away = 2,
    /// Away by hand.
    AwayByHand = 4,
    /// What we know of the hand is newer than what a connection may bring along.
    HandFresh = 8,
    /// In the list of those who may fall away.
    Idling = 16,
    /// We keep it since less than a lease: who was not reported may be online all the same.
    Unknown = 32,
}

/// Of an entry that is no user.
const VACANT: u8 = 128;

impl User {
    pub(super) fn is(&self, what: Is) -> bool {
        self.flags & what as u8 != 0
    }
    pub(super) fn set(&mut self, what: Is, to: bool) {
        self.flags = if to { self.flags | what as u8 } else { self.flags & !(what as u8) };
    }
    pub(super) fn is_online(&self) -> bool {
        self.reports != NIL
    }
    /// The green dot.
    pub(super) fn is_active(&self) -> bool {
        self.is_online() && !self.is(Is::Away) && !self.is(Is::AwayByHand)
    }
    /// The same, where it is known.
    pub(super) fn dot(&self) -> Option<bool> {
        (self.is_online() || !self.is(Is::Unknown)).then(|| self.is_active())
    }
    fn is_needed(&self) -> bool {
        self.is_online() || self.watches != NIL || self.is(Is::HandFresh)
    }
}

impl Entry for User {
    fn vacant(next: u32) -> Self {
        Self {
            last_active: Mono(0),
            key: Key::default(),
            reports: NIL,
            watches: NIL,
            idle_prev: NIL,
            idle_next: next,
            slot: Slot(0),
            flags: VACANT,
        }
    }
    fn next_vacant(&self) -> Option<u32> {
        (self.flags == VACANT).then_some(self.idle_next)
    }
}

/// All users of a core.
#[derive(Debug)]
pub(super) struct Users {
    slab: Slab<User>,
    by_key: index::Index,
    /// Ends of the list of those who may fall away: the longest idle, and the one active last.
    oldest: u32,
    newest: u32,
    count_max: u32,
}

impl Users {
    pub(super) fn new(count_max: u32) -> Self {
        assert!(count_max <= index::PLACES_MAX, "places fit the index");
        Self {
            slab: Slab::new(),
            by_key: index::Index::default(),
            oldest: NIL,
            newest: NIL,
            count_max,
        }
    }

    /// The place of a user, made if it is new and there is room.
    pub(super) fn enter(&mut self, slot: Slot, key: Key) -> Option<u32> {
        if let Some(place) = self.find(key) {
            return Some(place);
        }
        if self.slab.count() >= self.count_max {
            return None;
        }
        let user = User { key, slot, flags: 0, idle_next: NIL, ..User::vacant(NIL) };
        let place = self.slab.insert(user);
        let users = &self.slab;
        self.by_key.insert(&key, place, |place| users[place].key);
        Some(place)
    }

    /// Lets go of a user about whom nothing need be known.
    pub(super) fn forget(&mut self, place: u32) {
        if self.slab[place].is_needed() {
            return;
        }
        self.rest(place);
        let key = self.slab[place].key;
        let users = &self.slab;
        self.by_key.remove(&key, place, |place| users[place].key);
        self.slab.remove(place);
    }

    /// The user is last in the list of those who may fall away. `now` never goes back.
    pub(super) fn stir(&mut self, place: u32, now: Mono) {
        self.rest(place);
        let newest = std::mem::replace(&mut self.newest, place);
        match newest {
            NIL => self.oldest = place,
            before => self.slab[before].idle_next = place,
        }
        let user = &mut self.slab[place];
        user.last_active = now;
        user.idle_prev = newest;
        user.set(Is::Idling, true);
    }

    /// The user is not in that list any more.
    pub(super) fn rest(&mut self, place: u32) {
        let user = &mut self.slab[place];
        if !user.is(Is::Idling) {
            return;
        }
        user.set(Is::Idling, false);
        let (prev, next) = (user.idle_prev, user.idle_next);
        (user.idle_prev, user.idle_next) = (NIL, NIL);
        match prev {
            NIL => self.oldest = next,
            prev => self.slab[prev].idle_next = next,
        }
        match next {
            NIL => self.newest = prev,
            next => self.slab[next].idle_prev = prev,
        }
    }

    pub(super) fn find(&self, key: Key) -> Option<u32> {
        self.by_key.find(&key, |place| self.slab[place].key == key)
    }
    /// The longest idle of those who may fall away.
    pub(super) fn oldest(&self) -> Option<u32> {
        (self.oldest != NIL).then_some(self.oldest)
    }
    pub(super) fn contains(&self, place: u32) -> bool {
        self.slab.contains(place)
    }
    /// One above the highest place.
    pub(super) fn places(&self) -> u32 {
        self.slab.places()
    }
    pub(super) fn count(&self) -> u32 {
        self.slab.count()
    }
    pub(super) fn bytes(&self) -> usize {
        self.slab.bytes() + self.by_key.bytes()
    }
}

impl Index<u32> for Users {
    type Output = User;
    fn index(&self, place: u32) -> &User {
        &self.slab[place]
    }
}

impl IndexMut<u32> for Users {
    fn index_mut(&mut self, place: u32) -> &mut User {
        &mut self.slab[place]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, VecDeque};

    use proptest::prelude::*;

    use super::*;

    fn key(n: u8) -> Key {
        Key([n; 12])
    }

    proptest! {
        #[test]
        fn users_idle_in_the_order_of_their_last_activity(
            steps in proptest::collection::vec((0u8..4, 0u8..12), 1..200),
        ) {
            let mut users = Users::new(100);
            let mut known: BTreeMap<u8, u32> = BTreeMap::new();
            let mut idle: VecDeque<u8> = VecDeque::new();
            for (at, (what, who)) in steps.into_iter().enumerate() {
                match what {
                    0 | 1 => {
                        let place = users.enter(Slot(0), key(who)).expect("room");
                        users.stir(place, Mono(at as u64));
                        known.insert(who, place);
                        idle.retain(|other| *other != who);
                        idle.push_back(who);
                    }
                    2 => {
                        idle.retain(|other| *other != who);
                        if let Some(place) = known.get(&who) {
                            users.rest(*place);
                        }
                    }
                    _ => {
                        idle.retain(|other| *other != who);
                        if let Some(place) = known.remove(&who) {
                            users.forget(place);
                        }
                    }
                }
                let oldest = users.oldest().map(|place| users[place].key);
                prop_assert_eq!(oldest, idle.front().map(|who| key(*who)));
                prop_assert_eq!(users.count() as usize, known.len());
                for who in 0..12 {
                    prop_assert_eq!(users.find(key(who)), known.get(&who).copied());
                }
            }
            let mut order = Vec::new();
            while let Some(place) = users.oldest() {
                order.push(users[place].key.0[0]);
                users.rest(place);
            }
            prop_assert_eq!(order, Vec::from(idle));
        }
    }

    #[test]
    fn a_full_table_takes_nobody_new() {
        let mut users = Users::new(2);
        assert!(users.enter(Slot(0), key(1)).is_some());
        let second = users.enter(Slot(0), key(2)).expect("room");
        assert_eq!(users.enter(Slot(0), key(3)), None);
        assert_eq!(users.enter(Slot(0), key(2)), Some(second), "who is there stays");
        users.forget(second);
        assert!(users.enter(Slot(0), key(3)).is_some());
    }
}
