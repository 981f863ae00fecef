//! The interest's side: subscribes at owners (or at whoever stands for them, `upstream`) for all cores of this node, and for cores of others
//! (`downstream`), and passes on to each core what it wants.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::errands::Errands;
use super::interest::{Heard, Link, State, Subscribed, Unsubscribed, Wanted, Wish};
use super::shard::{Gateway, Turn};
use crate::ids::{Ask, Handle, Key, Peer, Role, Slot};
use crate::ring::Ring;
use crate::shard::{Budget, Counter, Effect};
use crate::time::Mono;
use crate::wire::message::nack;
use crate::wire::room::{Credit, Room};
use crate::wire::tally::Tally;
use crate::wire::{Message, TALLIES_SINCE};

/// What is on its way between owners and the cores of this node. Per shard.
#[derive(Debug, Default)]
pub(super) struct Relay {
    owners: FxHashMap<Peer, Owner>,
    /// Fetches that were passed on, by their number with the core in its top bits.
    fetches: FxHashMap<u32, Fetch>,
    pub(super) errands: Errands,
    /// When owners are told what is subscribed there.
    pub(super) tallies_at: Option<Mono>,
    /// Places of the table looked at since the last `Subscribe` that was waiting could be sent.
    fruitless: u32,
    /// An owner said "not now": nobody is asked again before the pause is over.
    is_pausing: bool,
    /// Reused.
    links: Vec<Link>,
}

/// One core of a channel server.
#[derive(Debug, Default)]
struct Owner {
    is_up: bool,
    credit: Credit,
    /// What is subscribed there by what was said on this life of the link; none where nobody compares. And whether it was told of any.
    tally: Option<Tally>,
    is_told: bool,
    /// `Unsubscribe`s that wait for room. Not by place: that may be free before they are said.
    unsaid: VecDeque<(Slot, Key, Handle)>,
}

#[derive(Debug)]
struct Fetch {
    owner: Peer,
    /// By which whoever asked knows it.
    asked: Ask,
    slot: Slot,
    /// By which the hub names the channel.
    handle: Handle,
    reserved: Room,
    used: Room,
    /// The last offset that was passed on.
    upto: u64,
    /// There was no room for the next one.
    is_cut: bool,
}

impl Relay {
    /// Takes room for a message at an owner, its words not counted. False: there is none, or it is not up.
    pub(super) fn spend(&mut self, owner: Peer, bytes: usize) -> bool {
        let owner = self.owners.get_mut(&owner);
        owner.is_some_and(|owner| owner.is_up && owner.credit.spend(WORDS_BYTES + bytes))
    }

    /// Owners that compare, and what is subscribed there; those alone that know of none are told of none.
    pub(super) fn tallies(&mut self) -> Vec<(Peer, Tally)> {
        let mut told = Vec::new();
        for (peer, owner) in &mut self.owners {
            let Some(tally) = owner.tally else { continue };
            let was_told = std::mem::replace(&mut owner.is_told, tally.count > 0);
            if was_told || owner.is_told {
                told.push((*peer, tally));
            }
        }
        // In the order of owners: tables have none that lasts.
        told.sort_unstable_by_key(|(peer, _)| *peer);
        told
    }

    fn tally(&mut self, owner: Peer) -> Option<&mut Tally> {
        self.owners.get_mut(&owner)?.tally.as_mut()
    }

    /// Something is not subscribed there any more.
    pub(super) fn untally(&mut self, owner: Peer, key: Key, handle: Handle) {
        if let Some(tally) = self.tally(owner) {
            tally.remove(key, handle);
        }
    }

    pub(super) fn is_up(&self, owner: Peer) -> bool {
        self.owners.get(&owner).is_some_and(|owner| owner.is_up)
    }

    pub(super) fn has_asked(&self, ask: Ask) -> bool {
        self.fetches.contains_key(&ask.0)
    }

    pub(super) fn pause_is_over(&mut self) {
        self.is_pausing = false;
        self.fruitless = 0;
    }
}

/// A message of which the name is the only long part.
pub(super) const WORDS_BYTES: usize = 64;
/// Places looked at for one unit of the budget.
const LOOKS_PER_UNIT: u32 = 16;
/// The core that asks stands above these bits of a fetch's number.
pub(super) const CORE_SHIFT: u32 = super::asks::ASK_BITS;

impl Gateway {
    /// Who owns the channels of a slot, and under which epoch.
    pub(super) fn owner_of(&self, slot: Slot) -> Option<(Peer, u32)> {
        let (node, core, seat_epoch) = self.ring.as_ref()?.channel_owner(slot);
        Some((Peer::new(node, Role::Channel, core), seat_epoch))
    }

    /// What a hub of this node wants, or a core of another that takes us for the owner.
    pub(super) fn relay_up(&mut self, turn: &mut Turn<'_>, peer: Peer, message: &Message<'_>) {
        match *message {
            Message::Subscribe { slot, key, handle, namespace, name, .. } => {
                let wish = Wish { slot, key, namespace, name };
                let Some(core) = self.number_for(peer) else {
                    turn.out.count(Counter::RelaysFull);
                    return turn.out.send(peer, &Message::Subnack { handle, why: nack::FULL });
                };
                match self.interest.subscribe(&mut self.names, wish, core, handle) {
                    Subscribed::AckNow { tip, epoch } => {
                        turn.out.send(peer, &Message::Suback { handle, epoch, tip });
                    }
                    Subscribed::Upstream { place } => self.subscribe_upstream(turn, place),
                    Subscribed::Wait => {}
                    Subscribed::Refused => {
                        turn.out.send(peer, &Message::Subnack { handle, why: nack::FULL });
                    }
                }
            }
            Message::Unsubscribe { slot, key, handle } => {
                let number = self.number_of(peer);
                let done = number.map_or(Unsubscribed::Nothing, |number| {
                    self.interest.unsubscribe(&mut self.names, slot, key, number, handle)
                });
                if let Unsubscribed::Upstream { place } = done {
                    self.unsubscribe_upstream(turn, place);
                }
                turn.out.send(peer, &Message::Unsuback { handle });
            }
            Message::Fetch { .. } => self.relay_fetch(turn, peer, message),
            Message::Emit { slot, key, origin, payload } if self.core_of(peer).is_some() => {
                if let Some((owner, _)) = self.owner_of(slot) {
                    let emit = Message::Emit { slot, key, origin, payload };
                    turn.out.send_transient(owner, &emit);
                }
            }
            _ => match self.core_of(peer) {
                Some(core) => self.relay_errand(turn, core, message),
                None => turn.out.count(Counter::WireBroken),
            },
        }
    }

    /// A channel that is `Opening`: the owner is asked, or it waits until that is possible.
    fn subscribe_upstream(&mut self, turn: &mut Turn<'_>, place: u32) {
        let Wanted { slot, key, namespace, name, .. } = self.interest.wanted(place);
        let upstream = self.upstream_of(slot);
        let name = self.names.text(name);
        let way = upstream.and_then(|(peer, seat_epoch)| {
            self.relay.spend(peer, name.len()).then_some((peer, seat_epoch))
        });
        let Some((peer, seat_epoch)) = way else {
            self.interest.postpone(place);
            return;
        };
        let handle = self.upstream_handle(place);
        turn.out.send_bulk(
            peer,
            &Message::Subscribe { slot, seat_epoch, key, handle, namespace, name },
        );
        if let Some(tally) = self.relay.tally(peer) {
            tally.add(key, handle);
            self.relay.tallies_at.get_or_insert(turn.now.mono + self.limits.tally_interval);
        }
    }

    /// Asks owners for the channels that wait. True: more could be asked now.
    pub(super) fn subscribe_waiting(&mut self, turn: &mut Turn<'_>, budget: Budget) -> bool {
        if self.interest.waiting() == 0 || self.relay.is_pausing {
            return false;
        }
        for _ in 0..budget.units {
            if self.relay.fruitless > self.interest.places() {
                // Nobody who is waited for has room, or is up.
                return false;
            }
            let (ring, owners) = (self.ring.as_ref(), &self.relay.owners);
            let upstreams = &self.upstreams;
            let need = Room { messages: 1, bytes: WORDS_BYTES as u64 + 256 };
            let is_ready = |slot: Slot| {
                let upstream = upstreams.of(slot).or_else(|| Some(ring?.channel_shard(slot)));
                let upstream = upstream.and_then(|upstream| owners.get(&upstream));
                upstream.is_some_and(|one| one.is_up && one.credit.holds(need))
            };
            match self.interest.next_waiting(LOOKS_PER_UNIT, is_ready) {
                Some(wanted) => {
                    self.relay.fruitless = 0;
                    self.subscribe_upstream(turn, wanted.place);
                }
                None => self.relay.fruitless += LOOKS_PER_UNIT,
            }
        }
        self.interest.waiting() > 0
    }

    /// Nobody here wants a channel any more.
    fn unsubscribe_upstream(&mut self, turn: &mut Turn<'_>, place: u32) {
        let Some((peer, _)) = self.upstream_of(self.interest.wanted(place).slot) else { return };
        let handle = self.upstream_handle(place);
        self.unsubscribe_at(turn, peer, place, handle);
    }

    pub(super) fn unsubscribe_at(
        &mut self,
        turn: &mut Turn<'_>,
        peer: Peer,
        place: u32,
        handle: Handle,
    ) {
        let Wanted { slot, key, .. } = self.interest.wanted(place);
        if let Some(owner) = self.relay.owners.get_mut(&peer).filter(|owner| owner.is_up) {
            owner.unsaid.push_back((slot, key, handle));
            self.say_unsubscribed(turn, peer);
        }
    }

    fn say_unsubscribed(&mut self, turn: &mut Turn<'_>, peer: Peer) {
        let Some(owner) = self.relay.owners.get_mut(&peer) else { return };
        while let Some(&(slot, key, handle)) = owner.unsaid.front() {
            if !owner.credit.spend(WORDS_BYTES) {
                return;
            }
            owner.unsaid.pop_front();
            if let Some(tally) = &mut owner.tally {
                tally.remove(key, handle);
            }
            turn.out.send_bulk(peer, &Message::Unsubscribe { slot, key, handle });
        }
    }

    /// A page of the past: passed on when its whole answer has room at the core that asks.
    fn relay_fetch(&mut self, turn: &mut Turn<'_>, peer: Peer, message: &Message<'_>) {
        let Message::Fetch {
            slot, key, handle, ask: asked, after, count_max, bytes_max, name, ..
        } = *message
        else {
            return;
        };
        let refusal = Message::PastRefused { ask: asked, handle };
        let place = self.interest.find(slot, key);
        let place = place.filter(|place| self.interest.state(*place) == State::Live);
        let (Some(core), Some(place), Some((owner, seat_epoch))) =
            (self.number_of(peer), place, self.upstream_of(slot))
        else {
            return turn.out.send(peer, &refusal);
        };
        let may = core >= self.cores || asked.0 >> CORE_SHIFT == 0;
        let need = self.page_room(count_max, bytes_max);
        let grant = self.grant;
        if !self.answers_to(core).is_some_and(|credit| credit.reserve(need)) {
            return turn.out.send(peer, &refusal);
        }
        if !may || !self.relay.spend(owner, name.len()) {
            if let Some(credit) = self.answers_to(core) {
                credit.settle(need, Room::default(), grant);
            }
            return turn.out.send(peer, &refusal);
        }
        let ask = self.ask_for(core, asked);
        let (reserved, used) = (need, Room::default());
        let fetch =
            Fetch { owner, asked, slot, handle, reserved, used, upto: after, is_cut: false };
        self.relay.fetches.insert(ask.0, fetch);
        turn.out.send_bulk(
            owner,
            &Message::Fetch {
                slot,
                seat_epoch,
                key,
                handle: self.upstream_handle(place),
                ask,
                after,
                count_max: count_max.min(need.messages.saturating_sub(1)),
                bytes_max: bytes_max.min(self.limits.catch_up_bytes),
                name,
            },
        );
    }

    /// What an owner says, or whoever stands for it, for all cores that want it, or for the one that asked.
    pub(super) fn relay_down(&mut self, turn: &mut Turn<'_>, peer: Peer, message: &Message<'_>) {
        match *message {
            Message::Publication { handle, offset, origin, member, payload } => {
                let Some(place) = self.place_heard(peer, handle) else { return };
                match self.interest.publication(place, offset) {
                    Heard::Next => self.tell_links(place, |turn_peer, handle| {
                        let passed =
                            Message::Publication { handle, offset, origin, member, payload };
                        turn.out.send(turn_peer, &passed);
                    }),
                    Heard::Old | Heard::Unwanted => {}
                    // A link cannot lose something and go on.
                    Heard::Hole => turn.out.push(Effect::Reset { peer }),
                }
            }
            Message::Event { handle, origin, payload } => {
                if let Some(place) = self.place_heard(peer, handle) {
                    self.tell_links(place, |peer, handle| {
                        turn.out.send_transient(peer, &Message::Event { handle, origin, payload });
                    });
                }
            }
            Message::Suback { handle, epoch, tip } => {
                let Some(place) = self.place_heard(peer, handle) else { return };
                if self.interest.suback(place, epoch, tip) {
                    self.tell_links(place, |peer, handle| {
                        turn.out.send(peer, &Message::Suback { handle, epoch, tip });
                    });
                }
            }
            Message::Unsuback { handle } => {
                if let Some(place) = self.place_heard(peer, handle) {
                    self.interest.unsuback(place);
                }
            }
            Message::Subnack { handle, why } => {
                if let Some(place) = self.place_heard(peer, handle) {
                    if peer.role == Role::Gateway && why == nack::FULL {
                        return self.relay_is_full(turn, peer);
                    }
                    self.given_up_by(peer, place);
                    self.refused(turn, place, why);
                }
            }
            Message::Past { ask, offset, origin, member, payload } => {
                let place = (ask, offset);
                let Some((core, ask)) = self.may_pass(turn, place, payload.len()) else { return };
                let passed = Message::Past { ask, offset, origin, member, payload };
                turn.out.send_bulk(self.subscriber(core), &passed);
            }
            Message::PastEnd { ask, upto, complete, missing, .. } => {
                let fetch = self.relay.fetch(ask).map(|(_, _, fetch)| &*fetch);
                let (upto, complete, is_nothing) = match fetch.filter(|fetch| fetch.is_cut) {
                    Some(fetch) => (fetch.upto, false, fetch.used.messages == 0),
                    None => (upto, complete, false),
                };
                self.relay_end(turn, ask, |ask, handle| {
                    if is_nothing {
                        return Message::PastRefused { ask, handle };
                    }
                    Message::PastEnd { ask, handle, upto, complete, missing }
                });
            }
            Message::PastRefused { ask, .. } => {
                self.relay_end(turn, ask, |ask, handle| Message::PastRefused { ask, handle });
            }
            _ => self.relay_answer(turn, peer, *message),
        }
    }

    /// Calls `say` for each core that wants a channel, with the handle by which it knows it.
    fn tell_links(&mut self, place: u32, mut say: impl FnMut(Peer, Handle)) {
        let mut links = std::mem::take(&mut self.relay.links);
        links.clear();
        links.extend(self.interest.links(place));
        for link in &links {
            say(self.subscriber(link.core()), link.handle());
        }
        self.relay.links = links;
    }

    /// Takes room for an event of a page: of what is kept for it, or of what is free. `None`: there is none, and the page ends before it.
    fn may_pass(
        &mut self,
        turn: &mut Turn<'_>,
        (ask, offset): (Ask, u64),
        len: usize,
    ) -> Option<(u8, Ask)> {
        let (core, asked, fetch) = self.relay.fetch(ask).filter(|(_, _, fetch)| !fetch.is_cut)?;
        let mut used = fetch.used;
        used.add(Room { messages: 1, bytes: len as u64 });
        let bytes = used.bytes.saturating_sub(fetch.reserved.bytes);
        let more = Room { messages: 0, bytes };
        let has_room =
            bytes == 0 || self.answers_to(core).is_some_and(|credit| credit.reserve(more));
        let (.., fetch) = self.relay.fetch(ask)?;
        if !has_room {
            fetch.is_cut = true;
            turn.out.count(Counter::PagesCut);
            return None;
        }
        fetch.reserved.add(more);
        (fetch.used, fetch.upto) = (used, offset);
        Some((core, asked))
    }

    /// The last word to a fetch.
    fn relay_end(
        &mut self,
        turn: &mut Turn<'_>,
        ask: Ask,
        message: impl FnOnce(Ask, Handle) -> Message<'static>,
    ) {
        let Some(fetch) = self.relay.fetches.remove(&ask.0) else { return };
        let core = split(ask).0;
        let grant = self.grant;
        let mut used = fetch.used;
        used.messages += 1;
        if let Some(credit) = self.answers_to(core) {
            credit.settle(fetch.reserved, used, grant);
        }
        turn.out.send_bulk(self.subscriber(core), &message(fetch.asked, fetch.handle));
    }

    /// An owner does not take a subscription, or gives one up because the slot is somebody else's.
    fn refused(&mut self, turn: &mut Turn<'_>, place: u32, why: u8) {
        if why == nack::UNKNOWN && self.interest.state(place) == State::Opening {
            self.tell_links(place, |peer, handle| {
                turn.out.send(peer, &Message::Subnack { handle, why });
            });
            self.interest.forget(&mut self.names, place);
            return;
        }
        if self.interest.postpone(place) && !self.relay.is_pausing {
            self.relay.is_pausing = true;
            self.timers.refused.push(turn.now.mono + self.limits.catch_up_interval, ());
        }
    }

    pub(super) fn owner_up(&mut self, peer: Peer, version: u16) {
        let credit = Credit::new(self.grant);
        let compares = peer.role == Role::Channel && version >= TALLIES_SINCE;
        let tally = compares.then(Tally::default);
        let owner = Owner { is_up: true, credit, tally, is_told: false, unsaid: VecDeque::new() };
        self.relay.owners.insert(peer, owner);
        self.relay.fruitless = 0;
    }

    pub(super) fn owner_room(&mut self, turn: &mut Turn<'_>, peer: Peer) {
        let grant = self.grant;
        if let Some(owner) = self.relay.owners.get_mut(&peer) {
            owner.credit.renew(grant);
            self.relay.fruitless = 0;
            self.say_unsubscribed(turn, peer);
        }
    }

    /// What was subscribed there is subscribed again when it is up; what was asked there has no answer.
    pub(super) fn owner_lost(&mut self, turn: &mut Turn<'_>, peer: Peer) {
        self.owner_gone(turn, peer);
        if let Some(ring) = &self.ring {
            let upstreams = &self.upstreams;
            self.interest.owner_lost(|slot| {
                ring.channel_shard(slot) == peer && upstreams.of(slot).is_none()
            });
        }
        self.errands_lost(turn, peer);
    }

    /// What was asked there of the past has no answer.
    pub(super) fn owner_gone(&mut self, turn: &mut Turn<'_>, peer: Peer) {
        self.relay.owners.insert(peer, Owner::default());
        self.fetches_lost(turn, |fetch| fetch.owner == peer);
    }

    /// These fetches are not answered, or by somebody who does not count any more.
    fn fetches_lost(&mut self, turn: &mut Turn<'_>, is_lost: impl Fn(&Fetch) -> bool) {
        let fetches = self.relay.fetches.iter().filter(|(_, fetch)| is_lost(fetch));
        let mut lost: Vec<u32> = fetches.map(|(ask, _)| *ask).collect();
        lost.sort_unstable();
        for ask in lost {
            self.relay_end(turn, Ask(ask), |ask, handle| Message::PastRefused { ask, handle });
        }
    }

    /// Another ring. Only what is in slots that moved is asked for again, of their new owners; what was asked of former ones they answer still.
    pub(super) fn ring_changed(&mut self, turn: &mut Turn<'_>, ring: &Ring) {
        self.regions_told(turn, ring);
        let Some(old) = self.ring.replace(ring.clone()) else { return };
        let mut moved = ring.moved_channels(&old);
        // Who is asked through a relay sees to them itself.
        moved.retain(|slot| !self.is_relayed(*slot));
        for &slot in &moved {
            self.forgotten_by_former(&old, slot);
        }
        self.asked_elsewhere(turn, &moved);
        let moved = ring.moved_users(&old);
        if !moved.is_empty() {
            self.people_moved(turn, &moved);
        }
    }

    /// Other owners than until now are to be asked for the channels of these slots, or a relay, or no relay any more.
    pub(super) fn asked_elsewhere(&mut self, turn: &mut Turn<'_>, slots: &[Slot]) {
        if slots.is_empty() {
            return;
        }
        self.interest.moved(slots);
        self.fetches_lost(turn, |fetch| slots.binary_search(&fetch.slot).is_ok());
        self.relay.fruitless = 0;
    }

    /// A core of this node is lost, or one that we stood for owners for, and with it all that it wanted and asked.
    pub(super) fn core_lost(&mut self, turn: &mut Turn<'_>, core: u8) {
        self.relay.fetches.retain(|ask, _| split(Ask(*ask)).0 != core);
        self.relay.errands.forget(core);
        let mut unwanted = Vec::new();
        self.interest.core_lost(&mut self.names, core, |place, _, _| unwanted.push(place));
        for place in unwanted {
            self.unsubscribe_upstream(turn, place);
        }
    }
}

impl Relay {
    fn fetch(&mut self, ask: Ask) -> Option<(u8, Ask, &mut Fetch)> {
        let fetch = self.fetches.get_mut(&ask.0)?;
        Some((split(ask).0, fetch.asked, fetch))
    }
}

/// The number of a question, with the core that asked in its top bits.
pub(super) fn joined(core: u8, ask: Ask) -> Ask {
    Ask(u32::from(core) << CORE_SHIFT | ask.0)
}

/// The core that asked, and the number by which it knows its question.
pub(super) fn split(ask: Ask) -> (u8, Ask) {
    ((ask.0 >> CORE_SHIFT) as u8, Ask(ask.0 & ((1 << CORE_SHIFT) - 1)))
}
