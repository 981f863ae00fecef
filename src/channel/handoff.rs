//! Slots that move by plan: their memory channels go with them, under the epoch that they have.
//!
//! The former owner stops at the ring that moves a slot, and passes on what it has of it while it buries it; the new one lets whoever comes
//! for a memory channel wait until all of it is there. When it does not come (the link breaks, or time is up) the slot begins a new epoch,
//! as after a death, and its subscribers are told. Durable channels need none of this: their source has them (`reliability.md` 3.3).

use std::collections::VecDeque;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::backlog::Stored;
use super::interest::Interest;
use super::shard::Owner;
use super::table::{Closed, Is, OFFSET_MAX};
use crate::ids::{Key, Peer, Slot};
use crate::limits::{HANDOFF_MAX, Limits};
use crate::ring::Ring;
use crate::shard::{Counter, Effects};
use crate::time::{Mono, Now};
use crate::wire::Message;
use crate::wire::message::nack;
use crate::wire::room::{Credit, Room};

/// Per core.
#[derive(Debug)]
pub(super) struct Handoff {
    grant: Room,
    /// Other owners that are up, and the bulk that they take.
    peers: FxHashMap<Peer, Credit>,
    arriving: FxHashMap<Slot, Arriving>,
    /// Until when slots of ours may be on their way.
    due: VecDeque<(Mono, Slot)>,
    /// Of all slots that arrived: so long their memory channels stood still.
    longest: Duration,
}

/// A slot on its way here.
#[derive(Debug)]
struct Arriving {
    from: Peer,
    /// Of the ring by which it moved.
    ring_epoch: u64,
    is_begun: bool,
    is_complete: bool,
    /// When we first heard of it: the former owner stopped, or it is to.
    since: Mono,
    /// Of the channel that is being told: until which second its past is of use.
    until_s: u32,
}

impl Arriving {
    fn new(from: Peer, ring_epoch: u64, is_begun: bool, since: Mono) -> Self {
        Self { from, ring_epoch, is_begun, is_complete: false, since, until_s: 0 }
    }
}

/// What belongs to a slot besides its channels.
#[derive(Debug, Default)]
pub(super) struct Luggage {
    pub(super) onces: Vec<(Key, u64)>,
    pub(super) versions: FxHashMap<Key, (u64, Key)>,
}

/// A closed slot that goes to somebody.
#[derive(Debug)]
pub(super) struct Departure {
    to: Peer,
    ring_epoch: u64,
    luggage: Luggage,
    is_begun: bool,
    /// The channel that is being told, and from which offset on its past still is to be.
    passing: Option<(u32, u64)>,
}

impl Departure {
    pub(super) fn new(to: Peer, ring_epoch: u64) -> Self {
        let luggage = Luggage::default();
        Self { to, ring_epoch, luggage, is_begun: false, passing: None }
    }
    pub(super) fn luggage(&mut self) -> &mut Luggage {
        &mut self.luggage
    }
}

/// How far a closed slot came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Went {
    On,
    /// Nothing is left of it.
    ToItsEnd,
    /// The next owner takes no more now.
    IntoAQueue,
}

/// A message besides its payload.
const WORDS_BYTES: usize = 64;

impl Handoff {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            grant: Room::grant(limits),
            peers: FxHashMap::default(),
            arriving: FxHashMap::default(),
            due: VecDeque::new(),
            longest: Duration::ZERO,
        }
    }
    pub(super) fn up(&mut self, peer: Peer) {
        self.peers.insert(peer, Credit::new(self.grant));
    }
    pub(super) fn room(&mut self, peer: Peer) {
        if let Some(credit) = self.peers.get_mut(&peer) {
            credit.renew(self.grant);
        }
    }
    pub(super) fn is_up(&self, peer: Peer) -> bool {
        self.peers.contains_key(&peer)
    }
    /// Whether memory channels of the slot are on their way: who comes for one waits.
    pub(super) fn is_arriving(&self, slot: Slot) -> bool {
        self.arriving.contains_key(&slot)
    }
    pub(super) fn arriving(&self) -> usize {
        self.arriving.len()
    }
    /// It came, or it does not come any more.
    fn ended(&mut self, now: Now, slot: Slot) {
        if let Some(arriving) = self.arriving.remove(&slot) {
            self.longest = self.longest.max(now.mono.since(arriving.since));
        }
    }
    pub(super) fn longest(&self) -> Duration {
        self.longest
    }
    pub(super) fn deadline(&self) -> Option<Mono> {
        self.due.front().map(|(due, _)| *due)
    }
    fn spend(&mut self, peer: Peer, bytes: usize) -> bool {
        self.peers.get_mut(&peer).is_some_and(|credit| credit.spend(WORDS_BYTES + bytes))
    }
    /// The slot's arrival from somebody who has begun and not ended it.
    fn open(&mut self, slot: Slot, from: Peer) -> Option<&mut Arriving> {
        let arriving = self.arriving.get_mut(&slot)?;
        (arriving.from == from && arriving.is_begun && !arriving.is_complete).then_some(arriving)
    }
}

/// Who has a slot in a ring, if it moved there by plan: then another seat has it, and not another node the same seat.
pub(super) fn planned(was: &Ring, is: &Ring, slot: Slot) -> bool {
    was.channel_seat(slot) != is.channel_seat(slot)
}

impl Owner {
    /// A slot is ours by a new ring: what its former owner had may come, or be here already.
    pub(super) fn expect(
        &mut self,
        now: Now,
        was: &Ring,
        is: &Ring,
        slot: Slot,
        out: &mut Effects,
    ) {
        let from = was.channel_shard(slot);
        match self.handoff.arriving.get(&slot) {
            Some(arriving) if arriving.from == from && arriving.is_complete => {
                return self.arrived(now, slot, out);
            }
            Some(_) => {}
            None if planned(was, is, slot) && self.handoff.is_up(from) => {
                let arriving = Arriving::new(from, is.ring_epoch, false, now.mono);
                self.handoff.arriving.insert(slot, arriving);
            }
            None => return,
        }
        self.handoff.due.push_back((now.mono + HANDOFF_MAX, slot));
    }

    /// What arrived of slots that are not ours by this ring is of no use.
    pub(super) fn decline(&mut self, ring: &Ring) {
        let me = self.me();
        let is_ours = |slot: Slot| ring.channel_shard(slot) == me;
        let late = |slot: Slot, one: &Arriving| one.ring_epoch <= ring.ring_epoch && !is_ours(slot);
        let arriving = self.handoff.arriving.iter();
        let mut declined: Vec<Slot> =
            arriving.filter(|(slot, one)| late(**slot, one)).map(|(slot, _)| *slot).collect();
        declined.sort_unstable();
        for slot in declined {
            self.handoff.arriving.remove(&slot);
            self.table.close(slot, None);
        }
    }

    /// A former owner speaks of a slot.
    pub(super) fn arrives(
        &mut self,
        now: Now,
        from: Peer,
        message: &Message<'_>,
        out: &mut Effects,
    ) {
        match *message {
            Message::Moving { slot, ring_epoch, epoch, floor } => {
                if epoch == 0 || floor > OFFSET_MAX {
                    return out.count(Counter::WireBroken);
                }
                let is_mine = self.is_mine(slot);
                let known = self.ring().map_or(0, |ring| ring.ring_epoch);
                match self.handoff.arriving.get_mut(&slot) {
                    Some(arriving) if arriving.from == from && !arriving.is_begun => {
                        arriving.is_begun = true;
                    }
                    // It knows of the ring before we do.
                    None if ring_epoch > known && !is_mine => {
                        let arriving = Arriving::new(from, ring_epoch, true, now.mono);
                        self.handoff.arriving.insert(slot, arriving);
                    }
                    _ => return,
                }
                self.table.adopt(slot, epoch, floor);
            }
            Message::MovingChannel { slot, key, tip, left_s, version, era } => {
                let Some(arriving) = self.handoff.open(slot, from) else { return };
                arriving.until_s = match left_s {
                    0 => 0,
                    left_s => now.mono.seconds().saturating_add(left_s),
                };
                if tip > OFFSET_MAX {
                    return out.count(Counter::WireBroken);
                }
                // Where there is no room its past is lost, and no more.
                self.table.raise(slot, tip);
                let known = self.table.find(slot, key);
                let Some(place) = known.or_else(|| self.enter(slot, key, true, 0, out)) else {
                    return;
                };
                self.table[place].set_tip(tip);
                self.backlog.forget(key);
                self.versions.put(key, slot, (version, era), out);
            }
            Message::MovingPast { slot, key, offset, origin, payload } => {
                let Some(arriving) = self.handoff.open(slot, from) else { return };
                let until_s = arriving.until_s;
                let tip = self.table.find(slot, key).map_or(0, |place| self.table[place].tip());
                if offset <= tip {
                    let stored = Stored { offset, origin, member: None, payload };
                    let evicted = self.backlog.append(key, &stored, until_s);
                    out.count_by(Counter::BacklogEvicted, evicted);
                }
            }
            Message::MovingOnce { slot, once, offset } => {
                if self.handoff.open(slot, from).is_some() {
                    self.onces.note(now.mono, once, (slot, offset));
                }
            }
            Message::Moved { slot } => {
                let Some(arriving) = self.handoff.open(slot, from) else { return };
                arriving.is_complete = true;
                if self.is_mine(slot) {
                    self.arrived(now, slot, out);
                }
            }
            _ => out.count(Counter::WireBroken),
        }
    }

    /// All of a slot is here, and it is ours: who waited is subscribed.
    fn arrived(&mut self, now: Now, slot: Slot, out: &mut Effects) {
        out.count(Counter::SlotsTakenOver);
        self.handoff.ended(now, slot);
        self.admit(slot, out);
    }

    /// It does not come: a new life of the slot, for whoever waits.
    fn missed(&mut self, now: Now, slot: Slot, out: &mut Effects) {
        out.count(Counter::HandoffsMissed);
        self.handoff.ended(now, slot);
        self.table.renew(slot);
        for place in self.table.places_of(slot) {
            if self.table[place].is(Is::Memory) {
                self.backlog.forget(self.table[place].key());
            }
        }
        self.onces.retain(|of| of != slot);
        self.versions.retain(|of| of != slot);
        self.admit(slot, out);
    }

    fn admit(&mut self, slot: Slot, out: &mut Effects) {
        let epoch = self.table.epoch(slot);
        for place in self.table.places_of(slot) {
            let channel = &mut self.table[place];
            if !channel.is(Is::Memory) || channel.is(Is::Verified) {
                continue;
            }
            channel.set(Is::Opening, false);
            channel.set(Is::Verified, true);
            let (tip, interests) = (channel.tip(), *channel.interests());
            for Interest { link, handle } in interests.iter(&self.lists) {
                if let Some(peer) = self.links.peer(link) {
                    out.send(peer, &Message::Suback { handle, epoch, tip });
                }
            }
        }
    }

    /// An owner is lost, and with it what it had begun.
    pub(super) fn former_lost(&mut self, now: Now, peer: Peer, out: &mut Effects) {
        self.handoff.peers.remove(&peer);
        let arriving = self.handoff.arriving.iter();
        let mut lost: Vec<Slot> = arriving
            .filter(|(_, one)| one.from == peer && !one.is_complete)
            .map(|(slot, _)| *slot)
            .collect();
        lost.sort_unstable();
        for slot in lost {
            if self.is_mine(slot) {
                self.missed(now, slot, out);
            } else {
                self.handoff.arriving.remove(&slot);
                self.table.close(slot, None);
            }
        }
    }

    /// Time is up for what did not come.
    pub(super) fn end_handoffs(&mut self, now: Now, out: &mut Effects) {
        while let Some(&(due, slot)) = self.handoff.due.front()
            && due <= now.mono
        {
            self.handoff.due.pop_front();
            if self.handoff.is_arriving(slot) && self.is_mine(slot) {
                self.missed(now, slot, out);
            }
        }
    }

    /// Takes away some of what was in slots that are somebody else's now, and passes on what that one is to have. True: more is left, and
    /// can go on.
    pub(super) fn bury(&mut self, now: Now, channels: usize, out: &mut Effects) -> bool {
        for _ in 0..channels {
            if let Some(mut closed) = self.table.take_closed() {
                if self.dismiss_one(&mut closed, out) {
                    self.table.put_back(closed);
                } else {
                    self.table.depart(closed);
                }
                continue;
            }
            let Some(mut closed) = self.table.take_departing() else { return false };
            match self.bury_one(now, &mut closed, out) {
                Went::On => self.table.stay(closed),
                Went::ToItsEnd => {}
                Went::IntoAQueue => {
                    self.table.stay(closed);
                    return false;
                }
            }
        }
        true
    }

    /// Tells the subscribers of one channel that its slot moved, which must not wait until somebody else has room. False: all are told.
    fn dismiss_one(&mut self, closed: &mut Closed, out: &mut Effects) -> bool {
        let Some(place) = closed.next_untold() else { return false };
        let links = &mut self.links;
        let channel = &mut self.table[place];
        let key = channel.key();
        channel.interests_mut().retain(&mut self.lists, |one| {
            let Interest { link, handle } = one;
            if let Some(peer) = links.peer(link) {
                links.refused(peer);
                out.send(peer, &Message::Subnack { handle, why: nack::MOVED });
            }
            links.removed(key, one);
            false
        });
        if closed.departure.is_none() || !self.table[place].is(Is::Memory) {
            self.table.bury(closed, place);
        }
        true
    }

    fn bury_one(&mut self, now: Now, closed: &mut Closed, out: &mut Effects) -> Went {
        if closed.departure.as_ref().is_some_and(|departure| !self.handoff.is_up(departure.to)) {
            closed.departure = None;
        }
        if !self.begin(closed, out) {
            return Went::IntoAQueue;
        }
        let Some(place) = closed.next() else {
            if let Some(Departure { to, .. }) = closed.departure {
                if !self.handoff.spend(to, 0) {
                    return Went::IntoAQueue;
                }
                out.count(Counter::SlotsPassedOn);
                out.send_bulk(to, &Message::Moved { slot: closed.slot });
            }
            return Went::ToItsEnd;
        };
        if !self.pass_on(now, closed, place, out) {
            return Went::IntoAQueue;
        }
        self.table.bury(closed, place);
        Went::On
    }

    /// Says that a slot comes, and what belongs to no channel. False: when there is room again.
    fn begin(&mut self, closed: &mut Closed, out: &mut Effects) -> bool {
        let Closed { slot, epoch, floor, departure, .. } = closed;
        let Some(Departure { to, ring_epoch, luggage, is_begun, .. }) = departure else {
            return true;
        };
        let (slot, to) = (*slot, *to);
        if !*is_begun {
            if !self.handoff.spend(to, 0) {
                return false;
            }
            let (ring_epoch, epoch, floor) = (*ring_epoch, *epoch, *floor);
            out.send_bulk(to, &Message::Moving { slot, ring_epoch, epoch, floor });
            *is_begun = true;
        }
        while let Some(&(once, offset)) = luggage.onces.last() {
            if !self.handoff.spend(to, 0) {
                return false;
            }
            out.send_bulk(to, &Message::MovingOnce { slot, once, offset });
            luggage.onces.pop();
        }
        true
    }

    /// One channel, as far as there is room. False: not to its end.
    fn pass_on(&mut self, now: Now, closed: &mut Closed, place: u32, out: &mut Effects) -> bool {
        let Some(Departure { to, luggage, passing, .. }) = &mut closed.departure else {
            return true;
        };
        let channel = &self.table[place];
        if !channel.is(Is::Memory) {
            return true;
        }
        let (slot, to, key, tip) = (closed.slot, *to, channel.key(), channel.tip());
        let now_s = now.mono.seconds();
        if passing.is_none() {
            if !self.handoff.spend(to, 0) {
                return false;
            }
            let (version, era) = luggage.versions.get(&key).copied().unwrap_or_default();
            let left_s = self.backlog.left_s(key, now_s);
            let told = Message::MovingChannel { slot, key, tip, left_s, version, era };
            out.send_bulk(to, &told);
            *passing = Some((place, 0));
        }
        let from = passing.map_or(0, |(_, from)| from);
        if let Some(oldest) = self.backlog.oldest(key, tip, now_s) {
            for position in self.backlog.span(key, oldest.max(from), tip) {
                let Stored { offset, origin, payload, .. } = self.backlog.at(position);
                if !self.handoff.spend(to, payload.len()) {
                    *passing = Some((place, offset));
                    return false;
                }
                out.send_bulk(to, &Message::MovingPast { slot, key, offset, origin, payload });
            }
        }
        *passing = None;
        true
    }
}
