//! Users who are connected to this core, or whose presence somebody here watches: 44 bytes each.

use std::ops::{Index, IndexMut};

use super::lists::ListRef;
use super::names::{Full, NameRef, Names};
use super::slab::{Entry, NIL, Slab};
use crate::ids::{Key, Slot};
use crate::tables::index;

/// One user. Its place is the [`Handle`](crate::ids::Handle) by which the presence shard tells of it.
#[derive(Debug)]
pub(super) struct Person {
    key: Key,
    name: NameRef,
    /// Indexes of its connections, and of those who watch it.
    pub(super) conns: ListRef,
    pub(super) watchers: ListRef,
    /// When activity was reported last, in seconds. Of a vacant place: the next one.
    pub(super) active_s: u32,
    slot: Slot,
    flags: u16,
    /// On which life, as `Keepers` counts them, of the link to its presence shard `Told...` and `unwatching` are true.
    life: u16,
    /// `Unwatch`es that are not answered: the handle is not free.
    unwatching: u16,
}

const _: () = assert!(size_of::<Person>() == 44, "memory is the product");

/// What is true of a user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub(super) enum Is {
    /// A bot is never away by time.
    Bot = 1,
    /// Away by hand, as its last connection knew.
    AwayByHand = 2,
    /// The presence shard told its dot.
    Known = 4,
    /// The dot is green.
    Active = 8,
    /// The presence shard was told that it is online.
    ToldOnline = 16,
    /// The presence shard was asked to tell its dot.
    ToldWatch = 32,
    /// Waits in the queue of what is to be said.
    Queued = 64,
    /// It has another number of connections than was told.
    Recounted = 128,
}

const VACANT: u16 = 1 << 15;

impl Person {
    pub(super) fn is(&self, what: Is) -> bool {
        self.flags & what as u16 != 0
    }
    pub(super) fn set(&mut self, what: Is, to: bool) {
        self.flags = if to { self.flags | what as u16 } else { self.flags & !(what as u16) };
    }
    pub(super) fn key(&self) -> Key {
        self.key
    }
    pub(super) fn slot(&self) -> Slot {
        self.slot
    }
    pub(super) fn name(&self) -> NameRef {
        self.name
    }

    /// What was said on an earlier life of the link was said to nobody.
    pub(super) fn on_life(&mut self, life: u32) {
        if self.life != life as u16 {
            self.life = life as u16;
            self.unwatching = 0;
            self.set(Is::ToldOnline, false);
            self.set(Is::ToldWatch, false);
        }
    }
    /// It is kept by another shard, which knows nothing of it. Answers of the former one are still to come.
    pub(super) fn move_away(&mut self) {
        self.set(Is::ToldOnline, false);
        self.set(Is::ToldWatch, false);
    }
    /// `Unwatch` was sent, and its answer is to come.
    pub(super) fn unwatch(&mut self) {
        self.set(Is::ToldWatch, false);
        self.unwatching = self.unwatching.saturating_add(1);
    }
    pub(super) fn unwatched(&mut self) {
        self.unwatching = self.unwatching.saturating_sub(1);
    }
    fn is_needed(&self) -> bool {
        !self.conns.is_empty()
            || !self.watchers.is_empty()
            || self.unwatching > 0
            || self.flags & (Is::ToldOnline as u16 | Is::ToldWatch as u16 | Is::Queued as u16) != 0
    }
}

impl Entry for Person {
    fn vacant(next: u32) -> Self {
        Self {
            key: Key::default(),
            name: NameRef(NIL),
            conns: ListRef::EMPTY,
            watchers: ListRef::EMPTY,
            active_s: next,
            slot: Slot(0),
            flags: VACANT,
            life: 0,
            unwatching: 0,
        }
    }
    fn next_vacant(&self) -> Option<u32> {
        (self.flags == VACANT).then_some(self.active_s)
    }
}

/// Per shard.
#[derive(Debug)]
pub(super) struct People {
    slab: Slab<Person>,
    by_key: index::Index,
    count_max: u32,
}

impl People {
    pub(super) fn new(count_max: u32) -> Self {
        Self { slab: Slab::new(), by_key: index::Index::default(), count_max }
    }

    /// The place of a user, who is made if new here.
    pub(super) fn enter(
        &mut self,
        names: &mut Names,
        key: Key,
        slot: Slot,
        name: &str,
    ) -> Result<u32, Full> {
        if let Some(place) = self.find(key) {
            return Ok(place);
        }
        if self.slab.count() >= self.count_max {
            return Err(Full);
        }
        let name = names.intern(key, name)?;
        let person = Person { key, name, slot, flags: 0, active_s: 0, ..Person::vacant(NIL) };
        let place = self.slab.insert(person);
        let slab = &self.slab;
        self.by_key.insert(&key, place, |place| slab[place].key);
        Ok(place)
    }

    pub(super) fn find(&self, key: Key) -> Option<u32> {
        self.by_key.find(&key, |place| self.slab[place].key == key)
    }

    pub(super) fn contains(&self, place: u32) -> bool {
        self.slab.contains(place)
    }

    /// Frees a place, if nobody needs it.
    pub(super) fn forget(&mut self, names: &mut Names, place: u32) -> bool {
        if self.slab[place].is_needed() {
            return false;
        }
        let key = self.slab[place].key;
        let slab = &self.slab;
        self.by_key.remove(&key, place, |place| slab[place].key);
        let person = self.slab.remove(place);
        names.release(person.name);
        true
    }

    pub(super) fn count(&self) -> u32 {
        self.slab.count()
    }
    pub(super) fn places(&self) -> u32 {
        self.slab.places()
    }
    /// Bytes that the table takes.
    pub(super) fn bytes(&self) -> usize {
        self.slab.bytes() + self.by_key.bytes()
    }
}

impl Index<u32> for People {
    type Output = Person;
    fn index(&self, place: u32) -> &Person {
        &self.slab[place]
    }
}

impl IndexMut<u32> for People {
    fn index_mut(&mut self, place: u32) -> &mut Person {
        &mut self.slab[place]
    }
}
