//! What the cores of this node want of the channels whose slots fall on this core, and what was subscribed for it at the owners.
//!
//! A channel's dense place here, with the era in which it was asked for, is the [`Handle`] towards its owner. Each ring that moves slots
//! begins an era, so that what a former owner still says of a channel, or of its place, is of nobody. The table only says what is to be
//! said; the shard says it.

use super::epochs::Epochs;
use super::links::{LinkSet, Links};
use super::names::{NameRef, Names};
use super::slab::{Entry, Slab};
use crate::ids::{Handle, Key, Slot};
use crate::limits::SUBSCRIBERS_CORES_MAX;
use crate::tables::index::PLACES_MAX;
use crate::tables::slots::Slots;
use crate::tables::u48::U48;

/// One core that wants a channel, of this node or of one that we stand for owners for, and the handle by which it knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link(pub(super) u32);

impl Link {
    /// Handles of hubs have so many bits, cores the rest.
    pub const HANDLE_BITS: u32 = 26;

    /// `None`: no hub of ours makes such a handle.
    pub fn new(core: u8, handle: Handle) -> Option<Self> {
        (core < 1 << (32 - Self::HANDLE_BITS) && handle.0 < 1 << Self::HANDLE_BITS)
            .then(|| Self(u32::from(core) << Self::HANDLE_BITS | handle.0))
    }
    pub fn core(self) -> u8 {
        (self.0 >> Self::HANDLE_BITS) as u8
    }
    pub fn handle(self) -> Handle {
        Handle(self.0 & ((1 << Self::HANDLE_BITS) - 1))
    }
}

/// Where a channel's subscription at its owner stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// `Subscribe` is still to be sent: the link to the owner broke, or there was no room.
    Waiting,
    /// `Subscribe` was sent.
    Opening,
    /// `Suback` came: publications follow in order.
    Live,
    /// `Unsubscribe` was sent; the place waits for `Unsuback`. Not found by key any more.
    Leaving,
}

/// What a hub's `Subscribe` asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Subscribed {
    /// Answer `Suback` to the hub now.
    AckNow { tip: u64, epoch: u32 },
    /// The channel is new here, and `Opening`: send `Subscribe` to the owner, or `postpone`.
    Upstream { place: u32 },
    /// The owner was asked already: its `Suback` is for this hub too.
    Wait,
    /// The table is full, or the handle is none of ours: answer `Subnack`.
    Refused,
}

/// What a hub's `Unsubscribe` asks for, besides the `Unsuback` that it always gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unsubscribed {
    /// Nothing: other cores want the channel, or nobody ever did.
    Nothing,
    /// Nobody wants it any more, and it is `Leaving` now: send `Unsubscribe` to the owner; `free` at its `Unsuback`.
    Upstream { place: u32 },
    /// Nobody wants it any more, and the owner does not know of it: it is gone.
    Gone,
}

/// What a publication of the owner is to this table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heard {
    /// The next one: pass it on to all `links`.
    Next,
    /// Known: nothing is to be done.
    Old,
    /// Something before it is missing, which a link cannot lose: the link is broken.
    Hole,
    /// Nobody wants it, or the handle is unknown: nothing is to be done.
    Unwanted,
}

/// All that a `Subscribe` to the owner says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wanted {
    pub place: u32,
    pub slot: Slot,
    pub key: Key,
    pub namespace: u16,
    pub name: NameRef,
}

/// A channel that a hub wants, as its `Subscribe` says it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wish<'a> {
    pub slot: Slot,
    pub key: Key,
    pub namespace: u16,
    pub name: &'a str,
}

/// Per shard.
#[derive(Debug)]
pub struct Interest {
    channels: Slab<Channel>,
    slots: Slots,
    links: Links,
    epochs: Epochs,
    waiting: u32,
    leaving: u32,
    cursor: u32,
    channels_max: u32,
    era: u8,
}

/// 32 bytes. A vacant one has no state, and the next vacant one in `link`.
#[derive(Debug)]
#[repr(C)]
struct Channel {
    name: u32,
    /// The word and the count of the set of links.
    link: u32,
    key: Key,
    slot: Slot,
    namespace: u8,
    /// In which its owner was asked.
    era: u8,
    tip: U48,
    links: u8,
    state: Option<State>,
}

/// An era has so many bits of a handle, and comes again after as many rings: long after the links that still carry it were given up.
const ERAS: u8 = 64;
const _: () = assert!(PLACES_MAX < 1 << ERA_SHIFT && ERAS as u64 <= 1 << (32 - ERA_SHIFT));
const ERA_SHIFT: u32 = 26;

const _: () = assert!(size_of::<Channel>() == 32, "memory is the product");
const _: () = assert!(SUBSCRIBERS_CORES_MAX as u32 == 1 << (32 - Link::HANDLE_BITS));

impl Channel {
    fn set(&self) -> LinkSet {
        LinkSet { word: self.link, count: self.links }
    }
    fn state(&self) -> State {
        self.state.expect("the caller knows that the place is in use")
    }
}

impl Entry for Channel {
    fn vacant(next: u32) -> Self {
        Self {
            name: 0,
            link: next,
            key: Key::default(),
            slot: Slot(0),
            namespace: 0,
            era: 0,
            tip: U48::default(),
            links: 0,
            state: None,
        }
    }
    fn next_vacant(&self) -> Option<u32> {
        self.state.is_none().then_some(self.link)
    }
}

impl Interest {
    /// At most 2^26 - 1 channels.
    pub fn new(channels_max: u32) -> Self {
        let channels_max = channels_max.min(PLACES_MAX);
        Self {
            channels: Slab::new(),
            slots: Slots::default(),
            links: Links::new(),
            epochs: Epochs::new(channels_max),
            waiting: 0,
            leaving: 0,
            cursor: 0,
            channels_max,
            era: 0,
        }
    }

    /// A hub wants a channel. If that core wanted it already, the new handle replaces the old.
    pub fn subscribe(
        &mut self,
        names: &mut Names,
        wish: Wish<'_>,
        core: u8,
        handle: Handle,
    ) -> Subscribed {
        let Wish { slot, key, namespace, name } = wish;
        let Some(link) = Link::new(core, handle) else { return Subscribed::Refused };
        if let Some(place) = self.find(slot, key) {
            self.change(place, |links, set| links.add(set, place, link));
            return match self.state(place) {
                State::Live => {
                    Subscribed::AckNow { tip: self.tip(place), epoch: self.epoch(place) }
                }
                _ => Subscribed::Wait,
            };
        }
        if self.channels.count() >= self.channels_max {
            return Subscribed::Refused;
        }
        let Ok(namespace) = u8::try_from(namespace) else { return Subscribed::Refused };
        let Ok(name) = names.intern(key, name) else { return Subscribed::Refused };
        let era = self.era;
        let place = self.channels.insert(Channel {
            name: name.0,
            link: link.0,
            key,
            slot,
            namespace,
            era,
            tip: U48::default(),
            links: 1,
            state: Some(State::Opening),
        });
        let channels = &self.channels;
        self.slots.insert(slot, &key, place, |place| channels[place].key);
        Subscribed::Upstream { place }
    }

    /// A hub wants a channel no more. A handle that is not the core's newest changes nothing.
    pub fn unsubscribe(
        &mut self,
        names: &mut Names,
        slot: Slot,
        key: Key,
        core: u8,
        handle: Handle,
    ) -> Unsubscribed {
        let Some(place) = self.find(slot, key) else { return Unsubscribed::Nothing };
        let is_it = |link: Link| link.core() == core && link.handle() == handle;
        let was_removed = self.change(place, |links, set| links.remove(set, is_it));
        if was_removed && self.channels[place].links == 0 {
            self.abandon(names, place)
        } else {
            Unsubscribed::Nothing
        }
    }

    /// The owner's `Suback`: pass it on to all `links`. False: the place is not ours to open, nothing is to be done. Who stands for owners
    /// says again how a channel stands when it has another owner.
    pub fn suback(&mut self, place: u32, epoch: u32, tip: u64) -> bool {
        if !self.is_asked(place) || tip >= 1 << 48 {
            return false;
        }
        let channel = &mut self.channels[place];
        channel.state = Some(State::Live);
        channel.tip = U48::new(tip);
        self.epochs.set(place, epoch);
        true
    }

    /// The owner's publication.
    pub fn publication(&mut self, place: u32, offset: u64) -> Heard {
        if !self.channels.contains(place) {
            return Heard::Unwanted;
        }
        let channel = &mut self.channels[place];
        if channel.state() != State::Live {
            return Heard::Unwanted;
        }
        let tip = channel.tip.get();
        if offset <= tip {
            return Heard::Old;
        }
        if offset != tip + 1 || offset >= 1 << 48 {
            return Heard::Hole;
        }
        channel.tip = U48::new(offset);
        Heard::Next
    }

    /// The owner's `Unsuback`: the place is free. False: it was not waited for.
    pub fn unsuback(&mut self, place: u32) -> bool {
        if !self.channels.contains(place) || self.state(place) != State::Leaving {
            return false;
        }
        self.remove(place);
        true
    }

    /// `Subscribe` could not be sent, or the owner said "not now", or that it is the owner no more: it is said again by `next_waiting`.
    /// False: nobody waits for it any more, nothing is to be done.
    pub fn postpone(&mut self, place: u32) -> bool {
        let is_wanted = self.is_asked(place);
        if is_wanted {
            self.set_state(place, State::Waiting);
        }
        is_wanted
    }

    /// The owner says that there is no such channel: it is gone here too. Tell the hubs in `links` first. False: nobody
    /// waits for it any more, nothing is to be done.
    pub fn forget(&mut self, names: &mut Names, place: u32) -> bool {
        let opening = self.is_opening(place);
        if opening {
            self.abandon(names, place);
            self.remove(place);
        }
        opening
    }

    /// The link to an owner is gone: what was subscribed in its slots is `Waiting` again, what was leaving is gone.
    pub fn owner_lost(&mut self, mut owns: impl FnMut(Slot) -> bool) {
        for place in 0..self.channels.places() {
            if !self.channels.contains(place) || !owns(self.channels[place].slot) {
                continue;
            }
            if self.state(place) == State::Leaving {
                self.remove(place);
            } else {
                self.set_state(place, State::Waiting);
            }
        }
    }

    /// Slots have other owners: what was subscribed in them is `Waiting` again, and nothing that the former owners say counts any more.
    pub fn moved(&mut self, slots: &[Slot]) {
        self.era = (self.era + 1) % ERAS;
        for &slot in slots {
            let places: Vec<u32> = self.slots.places(slot).collect();
            for place in places {
                self.set_state(place, State::Waiting);
            }
        }
        if self.leaving == 0 {
            return;
        }
        for place in 0..self.channels.places() {
            if self.channels.contains(place)
                && self.state(place) == State::Leaving
                && slots.binary_search(&self.channels[place].slot).is_ok()
            {
                self.remove(place);
            }
        }
    }

    /// The link to a core of this node is gone, and with it all that it wanted. `upstream` is called with the place of each
    /// channel that nobody wants any more and that is `Leaving` now: send `Unsubscribe` to its owner.
    pub fn core_lost(
        &mut self,
        names: &mut Names,
        core: u8,
        mut upstream: impl FnMut(u32, Slot, Key),
    ) {
        for place in 0..self.channels.places() {
            if !self.channels.contains(place) {
                continue;
            }
            let is_it = |link: Link| link.core() == core;
            let was_removed = self.change(place, |links, set| links.remove(set, is_it));
            if was_removed && self.channels[place].links == 0 {
                let Channel { slot, key, .. } = self.channels[place];
                if self.abandon(names, place) != Unsubscribed::Gone {
                    upstream(place, slot, key);
                }
            }
        }
    }

    /// The next channel for which `Subscribe` is still to be sent, among `scan_max` places; it is `Opening` then.
    /// `ready`: whether the owner of a slot can be reached and has room.
    pub fn next_waiting(
        &mut self,
        scan_max: u32,
        mut ready: impl FnMut(Slot) -> bool,
    ) -> Option<Wanted> {
        for _ in 0..scan_max.min(self.channels.places()) {
            if self.waiting == 0 {
                return None;
            }
            let place = self.cursor;
            self.cursor = (place + 1) % self.channels.places();
            if self.channels.contains(place)
                && self.state(place) == State::Waiting
                && ready(self.channels[place].slot)
            {
                self.set_state(place, State::Opening);
                self.channels[place].era = self.era;
                return Some(self.wanted(place));
            }
        }
        None
    }

    /// Whom to pass things on to.
    pub fn links(&self, place: u32) -> impl Iterator<Item = Link> {
        let channel = &self.channels[place];
        self.links.as_slice(channel.links, &channel.link).iter().map(|link| Link(*link))
    }

    /// The place of a channel that somebody wants.
    pub fn find(&self, slot: Slot, key: Key) -> Option<u32> {
        self.slots.find(slot, &key, |place| self.channels[place].key == key)
    }
    /// Whether the place is in use, `Leaving` included.
    pub fn contains(&self, place: u32) -> bool {
        self.channels.contains(place)
    }
    /// By which the owner knows a place.
    pub fn handle(&self, place: u32) -> Handle {
        Handle(u32::from(self.channels[place].era) << ERA_SHIFT | place)
    }
    /// The place of which an owner speaks, `Leaving` ones included. `None`: it is of nobody, or of somebody else by now.
    pub fn place_of(&self, handle: Handle) -> Option<u32> {
        let place = handle.0 & ((1 << ERA_SHIFT) - 1);
        (self.channels.contains(place) && self.handle(place) == handle).then_some(place)
    }
    /// Whether the owner was asked for it, and it was not given up since.
    pub fn is_asked(&self, place: u32) -> bool {
        self.contains(place) && matches!(self.state(place), State::Opening | State::Live)
    }
    pub fn state(&self, place: u32) -> State {
        self.channels[place].state()
    }
    /// The newest offset that was passed on.
    pub fn tip(&self, place: u32) -> u64 {
        self.channels[place].tip.get()
    }
    /// The channel's epoch: 0 for durable ones.
    pub fn epoch(&self, place: u32) -> u32 {
        self.epochs.of(place)
    }
    /// What a `Subscribe`, `Unsubscribe` or `Fetch` to the owner says.
    pub fn wanted(&self, place: u32) -> Wanted {
        let Channel { slot, key, namespace, name, .. } = self.channels[place];
        Wanted { place, slot, key, namespace: u16::from(namespace), name: NameRef(name) }
    }
    /// One above the highest place that was ever used.
    pub fn places(&self) -> u32 {
        self.channels.places()
    }
    /// Channels for which `Subscribe` is still to be sent.
    pub fn waiting(&self) -> u32 {
        self.waiting
    }
    /// Channels that somebody wants or that are leaving.
    pub fn channels(&self) -> u32 {
        self.channels.count()
    }
    /// Channels of one slot that somebody wants.
    pub fn channels_of(&self, slot: Slot) -> usize {
        self.slots.count(slot) as usize
    }
    /// Their places.
    pub fn places_of(&self, slot: Slot) -> impl Iterator<Item = u32> {
        self.slots.places(slot)
    }
    /// Bytes that the table takes.
    pub fn bytes(&self) -> usize {
        self.channels.bytes() + self.slots.bytes() + self.links.bytes() + self.epochs.bytes()
    }

    /// Changes the links of a channel, and tells the channel whose list had to give way.
    fn change<T>(&mut self, place: u32, change: impl FnOnce(&mut Links, &mut LinkSet) -> T) -> T {
        let channel = &mut self.channels[place];
        let mut set = channel.set();
        let result = change(&mut self.links, &mut set);
        (channel.link, channel.links) = (set.word, set.count);
        if let Some(moved) = self.links.moved() {
            self.channels[moved.owner].link = moved.at;
        }
        result
    }

    /// Nobody wants the channel: it leaves the index, and the table too if the owner does not know of it.
    fn abandon(&mut self, names: &mut Names, place: u32) -> Unsubscribed {
        let Channel { slot, key, name, .. } = self.channels[place];
        let channels = &self.channels;
        self.slots.remove(slot, &key, place, |place| channels[place].key);
        names.release(NameRef(name));
        let known = self.state(place) != State::Waiting;
        self.set_state(place, State::Leaving);
        if known {
            return Unsubscribed::Upstream { place };
        }
        self.remove(place);
        Unsubscribed::Gone
    }

    fn is_opening(&self, place: u32) -> bool {
        self.channels.contains(place) && self.state(place) == State::Opening
    }

    fn set_state(&mut self, place: u32, state: State) {
        let was = self.channels[place].state.replace(state);
        self.waiting -= u32::from(was == Some(State::Waiting));
        self.waiting += u32::from(state == State::Waiting);
        self.leaving -= u32::from(was == Some(State::Leaving));
        self.leaving += u32::from(state == State::Leaving);
    }

    fn remove(&mut self, place: u32) {
        self.leaving -= u32::from(self.state(place) == State::Leaving);
        self.epochs.set(place, 0);
        self.change(place, Links::clear);
        self.channels.remove(place);
    }
}
