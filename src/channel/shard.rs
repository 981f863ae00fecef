//! One core's share of the channels: what comes in, what goes out.
//!
//! A durable channel's owner is a cache that can prove what it lacks (`reliability.md` 3.3). Invariants: I12 (epochs are checked
//! before anything changes), I13 (each link is sent `tip + 1`, `tip + 2` …), I14 (the first answer to a subscriber follows a read of the
//! source's tip), I15 (an interest goes with its link or by its own wish), I17 (everything that waits has a bound).

use super::backlog::{Backlog, Stored};
use super::handoff::{Departure, Handoff, planned};
use super::holes::Holes;
use super::interest::Interest;
use super::links::Links;
use super::lists::Lists;
use super::once::{Onces, Versions};
use super::opening::Openings;
use super::past::Fetch;
use super::present::{Entering, Present};
use super::reading::{Page, unread};
use super::source::{Question, Source};
use super::table::{Is, Table};
use rustc_hash::FxHashMap;

use crate::ids::{Ask, Key, NodeId, Peer, Role, Slot};
use crate::limits::Limits;
use crate::ring::Ring;
use crate::shard::{Budget, Counter, Effect, Effects, Input, Report, Shard};
use crate::time::{Mono, Now, sooner};
use crate::wire::message::nack;
use crate::wire::message::namespace::{DURABLE, MEMORY};
use crate::wire::tally::Tally;
use crate::wire::{Message, Packed};

/// The owner of the channels of this core's slots.
#[derive(Debug)]
pub struct Owner {
    me: Peer,
    seed: u64,
    pub(super) limits: Limits,
    ring: Option<Ring>,
    pub(super) table: Table,
    pub(super) lists: Lists,
    pub(super) backlog: Backlog,
    pub(super) links: Links,
    pub(super) openings: Openings,
    pub(super) holes: Holes,
    pub(super) source: Source,
    pub(super) present: Present,
    pub(super) onces: Onces,
    pub(super) versions: Versions,
    pub(super) handoff: Handoff,
}

/// A channel as a message names it.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) slot: Slot,
    pub(super) key: Key,
    pub(super) namespace: u16,
    pub(super) name: &'a str,
}

/// For one unit: places of the table that a sweep looks at (eight interests in a list are like another), and channels of closed slots that are
/// taken away.
const LOOKS_PER_UNIT: u32 = 64;
const BURIED_PER_UNIT: usize = 8;

impl Owner {
    /// `source`: the desk of a webapp, which knows the past of durable channels. `seed` is drawn anew at each start of the process.
    pub fn new(node: NodeId, core: u8, source: Peer, seed: u64, limits: &Limits) -> Self {
        Self {
            me: Peer::new(node, Role::Channel, core),
            seed,
            limits: limits.clone(),
            ring: None,
            // Nothing is put into it before the first ring.
            table: Table::new(u8::MAX, seed),
            lists: Lists::default(),
            backlog: Backlog::new(limits.backlog_bytes as usize),
            links: Links::new(limits),
            openings: Openings::default(),
            holes: Holes::new(limits),
            source: Source::new(source, limits),
            present: Present::new(limits),
            onces: Onces::new(limits),
            versions: Versions::new(limits),
            handoff: Handoff::new(limits),
        }
    }

    fn wire(&mut self, now: Now, peer: Peer, message: Message<'_>, out: &mut Effects) {
        match message {
            Message::Subscribe { slot, seat_epoch, key, handle, namespace, name } => {
                let target = Target { slot, key, namespace, name };
                let link = self.owns(slot, seat_epoch).and_then(|()| self.link_of(peer));
                match link {
                    Ok(link) => self.subscribe(Interest { link, handle }, target, out),
                    Err(why) => {
                        self.links.refused(peer);
                        out.send(peer, &Message::Subnack { handle, why });
                    }
                }
            }
            Message::Unsubscribe { slot, key, handle } => {
                if let Ok(link) = self.link_of(peer)
                    && self.is_mine(slot)
                {
                    self.unsubscribe(Interest { link, handle }, slot, key);
                }
                out.send(peer, &Message::Unsuback { handle });
            }
            Message::Fetch {
                slot,
                seat_epoch,
                key,
                handle,
                ask,
                after,
                count_max,
                bytes_max,
                name,
            } => match self.owns(slot, seat_epoch).and_then(|()| self.link_of(peer)) {
                Ok(link) => {
                    let line = self.links.line(link);
                    let fetch = Fetch { line, ask, handle, slot, key, after, count_max, bytes_max };
                    self.fetch(now, fetch, name, out);
                }
                Err(_) => {
                    out.count(Counter::FetchesRefused);
                    out.send(peer, &Message::PastRefused { ask, handle });
                }
            },
            Message::Read {
                slot,
                seat_epoch,
                key,
                ask,
                namespace,
                after,
                count_max,
                bytes_max,
                name,
            } => {
                let target = Target { slot, key, namespace, name };
                let page = Page { after, count_max, bytes_max };
                match self.owns_all(slot, seat_epoch) {
                    Ok(()) => self.read(now, peer, ask, target, page, out),
                    Err(_) => out.send(peer, &unread(ask)),
                }
            }
            Message::Enter { slot, seat_epoch, key, ask, conn, user, is_new, is_told, info } => {
                let entering = Entering { conn, user, is_new, is_told, info };
                let ok = self.owns_all(slot, seat_epoch).is_ok()
                    && self.enters(peer, (slot, key), entering, out);
                out.send(peer, &Message::Noted { ask, ok });
            }
            Message::Exit { slot, seat_epoch, key, ask, conn } => {
                let ok = self.owns_all(slot, seat_epoch).is_ok();
                if ok {
                    self.exits(peer, key, conn, out);
                }
                out.send(peer, &Message::Noted { ask, ok });
            }
            Message::Present { slot, seat_epoch, key, ask, is_listed } => {
                if self.owns_all(slot, seat_epoch).is_ok() {
                    self.present_is(key, ask, is_listed, peer, out);
                } else {
                    let (clients, users, infos) = (0, 0, Packed(&[]));
                    out.send(peer, &Message::PresentIs { ask, ok: false, clients, users, infos });
                }
            }
            Message::Erase { slot, seat_epoch, key, ask } => {
                let ok = self.owns_all(slot, seat_epoch).is_ok();
                if ok && self.table.find(slot, key).is_some_and(|at| self.table[at].is(Is::Memory))
                {
                    self.backlog.forget(key);
                }
                out.send(peer, &Message::Noted { ask, ok });
            }
            Message::Tally { ring_epoch, count, sum } => {
                self.tallied(peer, ring_epoch, Tally { count, sum }, out);
            }
            Message::Emit { slot, key, origin, payload } => {
                if self.is_mine(slot) {
                    self.emit(slot, key, origin, payload, out);
                }
            }
            Message::Publish {
                slot,
                seat_epoch,
                key,
                ask,
                namespace,
                offset,
                origin,
                member,
                terms,
                name,
                payload,
            } => {
                let target = Target { slot, key, namespace, name };
                let stored = Stored { offset, origin, member, payload };
                let owns = if namespace == DURABLE {
                    self.owns(slot, seat_epoch)
                } else {
                    self.owns_all(slot, seat_epoch)
                };
                let result = owns.and_then(|()| self.publish(now, target, terms, stored, out));
                let is_memory = namespace == MEMORY;
                self.published(peer, (slot, is_memory), ask, (offset, result), out);
            }
            Message::TipIs { ask, found, tip } if peer == self.source.peer() => {
                self.opened(ask, found, tip, out);
            }
            Message::RangeEvent { ask, offset, origin, member, payload }
                if peer == self.source.peer() =>
            {
                let stored = Stored { offset, origin, member, payload };
                match self.source.question(ask) {
                    Some(Question::Fill { slot, key, .. }) => self.fill((slot, key), &stored, out),
                    Some(Question::Past(_)) => self.pass(ask, &stored, out),
                    Some(Question::Tip { .. }) | None => {}
                }
            }
            Message::RangeEnd { ask, .. } if peer == self.source.peer() => {
                self.range_ended(now, ask, out);
            }
            Message::Moving { .. }
            | Message::MovingChannel { .. }
            | Message::MovingPast { .. }
            | Message::MovingOnce { .. }
            | Message::Moved { .. }
                if peer.role == Role::Channel =>
            {
                self.arrives(now, peer, &message, out);
            }
            _ => out.count(Counter::WireBroken),
        }
    }

    /// A gateway core says what it is subscribed to here. Where that is something else than what we know, for so long that nothing can be under
    /// way, the link begins anew, and with it all of its subscriptions (I15).
    fn tallied(&mut self, peer: Peer, ring_epoch: u64, theirs: Tally, out: &mut Effects) {
        if theirs.count == 0 && !self.links.has_number(peer) {
            return;
        }
        let Ok(link) = self.link_of(peer) else { return };
        let has_ring = self.ring.as_ref().is_some_and(|ring| ring.ring_epoch == ring_epoch);
        if self.links.tallied(link, theirs, has_ring && !self.table.has_closed()) {
            out.count(Counter::TalliesWrong);
            out.push(Effect::Reset { peer });
        }
    }

    /// Tells the dispatcher what became of a publication.
    fn published(
        &self,
        peer: Peer,
        (slot, is_memory): (Slot, bool),
        ask: Ask,
        (offset, result): (u64, Result<u64, u8>),
        out: &mut Effects,
    ) {
        let (accepted, why, offset) = match result {
            Ok(offset) => (true, 0, offset),
            Err(why) => (false, why, offset),
        };
        if !accepted {
            out.count(Counter::PublicationsRefused);
        }
        let seat_epoch = self.ring.as_ref().map_or(0, |ring| ring.channel_owner(slot).2);
        let epoch = if is_memory && accepted { self.table.epoch(slot) } else { 0 };
        out.send(peer, &Message::Published { ask, accepted, why, seat_epoch, epoch, offset });
    }

    /// I12: only the owner by the same ring answers for a slot.
    fn owns(&self, slot: Slot, seat_epoch: u32) -> Result<(), u8> {
        let Some(ring) = &self.ring else { return Err(nack::RETRY) };
        let (node, core, epoch) = ring.channel_owner(slot);
        if (node, core) != (self.me.node, self.me.core) {
            return Err(nack::MOVED);
        }
        match seat_epoch.cmp(&epoch) {
            std::cmp::Ordering::Less => Err(nack::STALE),
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => Err(nack::RETRY),
        }
    }

    /// The same for memory channels: those may still be on their way.
    fn owns_all(&self, slot: Slot, seat_epoch: u32) -> Result<(), u8> {
        let is_here = !self.handoff.is_arriving(slot);
        self.owns(slot, seat_epoch).and_then(|()| is_here.then_some(()).ok_or(nack::RETRY))
    }

    pub(super) fn me(&self) -> Peer {
        self.me
    }
    pub(super) fn ring(&self) -> Option<&Ring> {
        self.ring.as_ref()
    }

    pub(super) fn is_mine(&self, slot: Slot) -> bool {
        self.ring.as_ref().is_some_and(|ring| ring.channel_shard(slot) == self.me)
    }

    /// The number of a gateway core's link; while none is spare it is asked to try again.
    fn link_of(&mut self, peer: Peer) -> Result<u16, u8> {
        self.links.number_of(peer).ok_or(nack::RETRY)
    }

    /// What was gathered under another epoch, or is somebody else's now, is not kept, and nobody keeps believing in it: whoever subscribed is
    /// told when it is buried, and subscribes again (`reliability.md` 2.5). What moved by plan is passed on.
    fn change(&mut self, now: Now, ring: &Ring, out: &mut Effects) {
        let me = self.me;
        let is_mine = |ring: &Ring, slot: Slot| ring.channel_shard(slot) == me;
        let Some(old) = self.ring.replace(ring.clone()) else {
            let mine = ring.seats.iter().find(|row| row.node == me.node);
            self.table = Table::new(mine.map_or(1, |row| row.cores), self.seed);
            return;
        };
        let is_kept = |slot: Slot| ring.keeps_channels(&old, slot);
        let (mut gone, mut gained) = (FxHashMap::default(), Vec::new());
        for slot in ring.moved_channels(&old) {
            let (was, is) = (is_mine(&old, slot), is_mine(ring, slot));
            if was {
                let to = ring.channel_shard(slot);
                let goes = !is && planned(&old, ring, slot) && !self.handoff.is_arriving(slot);
                gone.insert(slot, goes.then(|| Departure::new(to, ring.ring_epoch)));
            }
            if is {
                gained.push(slot);
            }
        }
        if !gone.is_empty() {
            self.openings.retain(is_kept);
            self.source.retain(is_kept);
            self.holes.retain(is_kept);
            self.present.retain(is_kept);
            for (slot, once, offset) in self.onces.part(is_kept) {
                if let Some(Some(departure)) = gone.get_mut(&slot) {
                    departure.luggage().onces.push((once, offset));
                }
            }
            for (slot, key, version) in self.versions.part(is_kept) {
                if let Some(Some(departure)) = gone.get_mut(&slot) {
                    departure.luggage().versions.insert(key, version);
                }
            }
            let mut gone: Vec<_> = gone.into_iter().collect();
            gone.sort_unstable_by_key(|(slot, _)| *slot);
            for (slot, departure) in gone {
                self.table.close(slot, departure);
            }
        }
        self.decline(ring);
        for slot in gained {
            self.expect(now, &old, ring, slot, out);
        }
    }

    /// Takes away interests of links that are gone, some places at a time. True: more is left.
    fn sweep(&mut self, units: u32) -> bool {
        let Some(mut place) = self.links.sweep() else { return false };
        let (places, mut looks) = (self.table.places(), units * LOOKS_PER_UNIT);
        while place < places && looks > 0 {
            looks -= 1;
            if let Some(channel) = self.table.at_place(place)
                && !channel.interests().is_empty()
            {
                looks = looks.saturating_sub(channel.interests().len() as u32 / 8);
                let links = &mut self.links;
                let key = channel.key();
                channel.interests_mut().retain(&mut self.lists, |one| links.keeps(key, one));
            }
            place += 1;
        }
        self.links.swept(place, places);
        self.links.needs_sweep()
    }
}

impl Shard for Owner {
    fn handle(&mut self, now: Now, input: Input<'_>, out: &mut Effects) {
        match input {
            Input::Wire { peer, message } => self.wire(now, peer, message, out),
            Input::PeerUp { peer, .. } if peer == self.source.peer() => self.source_up(out),
            Input::PeerLost { peer } if peer == self.source.peer() => self.source_lost(out),
            Input::PeerRoom { peer } if peer == self.source.peer() => self.source.room(),
            Input::PeerUp { peer, .. } if peer.role == Role::Gateway => self.links.up(peer),
            Input::PeerUp { peer, .. } if peer.role == Role::Channel => self.handoff.up(peer),
            Input::PeerRoom { peer } if peer.role == Role::Channel => self.handoff.room(peer),
            Input::PeerLost { peer } if peer.role == Role::Channel => {
                self.former_lost(now, peer, out);
            }
            Input::PeerLost { peer } => {
                self.links.lost(peer);
                self.present.lost(now, peer, &self.limits);
            }
            Input::PeerRoom { peer } => self.links.room(peer),
            Input::Ring { ring } => self.change(now, ring, out),
            Input::Tick => {
                self.give_up(now, out);
                self.end_leases(now, out);
                self.end_handoffs(now, out);
            }
            _ => {}
        }
        self.ask(now, out);
        self.unpark(now, out);
    }

    fn advance(&mut self, now: Now, budget: Budget, out: &mut Effects) -> bool {
        let is_burying = self.bury(now, budget.units as usize * BURIED_PER_UNIT, out);
        let is_sweeping = self.sweep(budget.units);
        self.ask(now, out) | is_sweeping | is_burying
    }

    fn deadline(&self) -> Option<Mono> {
        // While the source takes nothing, its next word wakes the holes.
        let holes = self.holes.deadline().filter(|_| self.source.takes());
        let others = sooner(self.present.deadline(), self.handoff.deadline());
        sooner(sooner(self.source.deadline(), holes), others)
    }

    fn report(&self, into: &mut Report) {
        into.gauge("channels", f64::from(self.table.count()));
        into.gauge("channel_table_bytes", self.table.bytes() as f64);
        into.gauge("interest_lists", f64::from(self.lists.count()));
        into.gauge("interest_lists_bytes", self.lists.bytes() as f64);
        into.gauge("interest_links", self.links.numbered() as f64);
        into.gauge("backlog_bytes", self.backlog.used_bytes() as f64);
        into.gauge("backlog_index_bytes", self.backlog.index_bytes() as f64);
        into.gauge("backlog_channels", f64::from(self.backlog.channels()));
        into.gauge("channel_openings", self.openings.len() as f64);
        into.gauge("channel_holes", self.holes.len() as f64);
        into.gauge("channel_held_bytes", self.holes.bytes() as f64);
        into.gauge("present_clients", self.present.count() as f64);
        into.gauge("present_channels", self.present.channels() as f64);
        into.gauge("slots_arriving", self.handoff.arriving() as f64);
        into.gauge("slot_arrival_longest_ms", self.handoff.longest().as_secs_f64() * 1e3);
        into.gauge("once_keys", self.onces.count() as f64);
        into.gauge("channel_versions", self.versions.count() as f64);
        into.gauge("fetches_parked", (self.links.parked() + self.source.parked()) as f64);
        into.gauge("source_questions", self.source.open() as f64);
    }
}
