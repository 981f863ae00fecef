//! What the cores of this node want of the channels whose slots fall on this core, and what was subscribed for it at the owners.
//!
//! A channel's dense place here is the [`Handle`] towards its owner. The table only says what is to be said; the shard says it.

use std::collections::hash_map::Entry as Found;

use rustc_hash::FxHashMap;

use super::names::{NameRef, Names};
use super::slab::{Entry, NIL, Slab};
use crate::ids::{Handle, Key, Slot};

/// One core of this node that wants a channel, and the handle by which its hub knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link(u32);

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
    slots: FxHashMap<Slot, FxHashMap<Key, u32>>,
    epochs: FxHashMap<u32, u32>,
    waiting: u32,
    cursor: u32,
    channels_max: u32,
}

#[derive(Debug)]
struct Channel {
    key: Key,
    slot: Slot,
    namespace: u16,
    name: NameRef,
    tip: u64,
    state: State,
    links: Vec<Link>,
    vacant: Option<u32>,
}

impl Entry for Channel {
    fn vacant(next: u32) -> Self {
        Self {
            key: Key::default(),
            slot: Slot(0),
            namespace: 0,
            name: NameRef(NIL),
            tip: 0,
            state: State::Leaving,
            links: Vec::new(),
            vacant: Some(next),
        }
    }
    fn next_vacant(&self) -> Option<u32> {
        self.vacant
    }
}

impl Interest {
    pub fn new(channels_max: u32) -> Self {
        Self {
            channels: Slab::new(),
            slots: FxHashMap::default(),
            epochs: FxHashMap::default(),
            waiting: 0,
            cursor: 0,
            channels_max,
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
            let channel = &mut self.channels[place];
            match channel.links.iter_mut().find(|l| l.core() == core) {
                Some(old) => *old = link,
                None => channel.links.push(link),
            }
            return match channel.state {
                State::Live => Subscribed::AckNow { tip: channel.tip, epoch: self.epoch(place) },
                _ => Subscribed::Wait,
            };
        }
        if self.channels.count() >= self.channels_max {
            return Subscribed::Refused;
        }
        let Ok(name) = names.intern(key, name) else { return Subscribed::Refused };
        let place = self.channels.insert(Channel {
            key,
            slot,
            namespace,
            name,
            tip: 0,
            state: State::Opening,
            links: vec![link],
            vacant: None,
        });
        self.slots.entry(slot).or_default().insert(key, place);
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
        let links = &mut self.channels[place].links;
        let Some(at) = links.iter().position(|l| l.core() == core && l.handle() == handle) else {
            return Unsubscribed::Nothing;
        };
        links.swap_remove(at);
        if links.is_empty() { self.abandon(names, place) } else { Unsubscribed::Nothing }
    }

    /// The owner's `Suback`: pass it on to all `links`. False: the place is not ours to open, nothing is to be done.
    pub fn suback(&mut self, place: u32, epoch: u32, tip: u64) -> bool {
        if !self.is_opening(place) || tip >= 1 << 48 {
            return false;
        }
        let channel = &mut self.channels[place];
        channel.state = State::Live;
        channel.tip = tip;
        if epoch == 0 {
            self.epochs.remove(&place);
        } else {
            self.epochs.insert(place, epoch);
        }
        true
    }

    /// The owner's publication.
    pub fn publication(&mut self, place: u32, offset: u64) -> Heard {
        if !self.channels.contains(place) {
            return Heard::Unwanted;
        }
        let channel = &mut self.channels[place];
        if channel.state != State::Live {
            return Heard::Unwanted;
        }
        if offset <= channel.tip {
            return Heard::Old;
        }
        if offset != channel.tip + 1 || offset >= 1 << 48 {
            return Heard::Hole;
        }
        channel.tip = offset;
        Heard::Next
    }

    /// The owner's `Unsuback`: the place is free. False: it was not waited for.
    pub fn unsuback(&mut self, place: u32) -> bool {
        if !self.channels.contains(place) || self.channels[place].state != State::Leaving {
            return false;
        }
        self.remove(place);
        true
    }

    /// `Subscribe` could not be sent, or the owner said "not now": it is said again by `next_waiting`. False: nobody
    /// waits for it any more, nothing is to be done.
    pub fn postpone(&mut self, place: u32) -> bool {
        let opening = self.is_opening(place);
        if opening {
            self.set_state(place, State::Waiting);
        }
        opening
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
            if self.channels[place].state == State::Leaving {
                self.remove(place);
            } else {
                self.set_state(place, State::Waiting);
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
            let links = &mut self.channels[place].links;
            let Some(at) = links.iter().position(|l| l.core() == core) else { continue };
            links.swap_remove(at);
            if links.is_empty() {
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
                && self.channels[place].state == State::Waiting
                && ready(self.channels[place].slot)
            {
                self.set_state(place, State::Opening);
                return Some(self.wanted(place));
            }
        }
        None
    }

    /// Whom to pass things on to.
    pub fn links(&self, place: u32) -> impl Iterator<Item = Link> {
        self.channels[place].links.iter().copied()
    }

    /// The place of a channel that somebody wants.
    pub fn find(&self, slot: Slot, key: Key) -> Option<u32> {
        self.slots.get(&slot)?.get(&key).copied()
    }
    /// Whether the place is in use, `Leaving` included: what comes from a peer is asked this first.
    pub fn contains(&self, place: u32) -> bool {
        self.channels.contains(place)
    }
    pub fn state(&self, place: u32) -> State {
        self.channels[place].state
    }
    /// The newest offset that was passed on.
    pub fn tip(&self, place: u32) -> u64 {
        self.channels[place].tip
    }
    /// The channel's epoch: 0 for durable ones.
    pub fn epoch(&self, place: u32) -> u32 {
        self.epochs.get(&place).copied().unwrap_or(0)
    }
    /// What a `Subscribe`, `Unsubscribe` or `Fetch` to the owner says.
    pub fn wanted(&self, place: u32) -> Wanted {
        let Channel { slot, key, namespace, name, .. } = self.channels[place];
        Wanted { place, slot, key, namespace, name }
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
        self.slots.get(&slot).map_or(0, FxHashMap::len)
    }
    /// Their places.
    pub fn places_of(&self, slot: Slot) -> impl Iterator<Item = u32> {
        self.slots.get(&slot).into_iter().flat_map(|keys| keys.values().copied())
    }
    /// Bytes that the table takes.
    pub fn bytes(&self) -> usize {
        self.channels.bytes()
    }

    /// Nobody wants the channel: it leaves the index, and the table too if the owner does not know of it.
    fn abandon(&mut self, names: &mut Names, place: u32) -> Unsubscribed {
        let Channel { slot, key, name, state, .. } = self.channels[place];
        if let Found::Occupied(mut keys) = self.slots.entry(slot) {
            keys.get_mut().remove(&key);
            if keys.get().is_empty() {
                keys.remove();
            }
        }
        names.release(name);
        let known = state != State::Waiting;
        self.set_state(place, State::Leaving);
        if known {
            return Unsubscribed::Upstream { place };
        }
        self.remove(place);
        Unsubscribed::Gone
    }

    fn is_opening(&self, place: u32) -> bool {
        self.channels.contains(place) && self.channels[place].state == State::Opening
    }

    fn set_state(&mut self, place: u32, state: State) {
        let was = std::mem::replace(&mut self.channels[place].state, state);
        self.waiting -= u32::from(was == State::Waiting);
        self.waiting += u32::from(state == State::Waiting);
    }

    fn remove(&mut self, place: u32) {
        self.epochs.remove(&place);
        self.channels.remove(place);
    }
}
