//! The interest's side: subscribes at owners for all cores of this node, and passes on to each core what it wants.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::errands::Errands;
use super::interest::{Heard, Link, State, Subscribed, Unsubscribed, Wanted, Wish};
use super::shard::{Gateway, Turn};
use crate::ids::{Ask, Handle, Key, Peer, Role, Slot};
use crate::ring::Ring;
use crate::shard::{Budget, Counter, Effect};
use crate::wire::Message;
use crate::wire::message::nack;
use crate::wire::room::{Credit, Room};

/// What is on its way between owners and the cores of this node. Per shard.
#[derive(Debug, Default)]
pub(super) struct Relay {
    owners: FxHashMap<Peer, Owner>,
    /// Fetches that were passed on, by their number with the core in its top bits.
    fetches: FxHashMap<u32, Fetch>,
    pub(super) errands: Errands,
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
    /// `Unsubscribe`s that wait for room. Not by place: that may be free before they are said.
    unsaid: VecDeque<(Slot, Key, Handle)>,
}

#[derive(Debug)]
struct Fetch {
    owner: Peer,
    slot: Slot,
    /// By which the hub names the channel.
    handle: Handle,
    reserved: Room,
    used: Room,
}

impl Relay {
    /// Takes room for a message at an owner, its words not counted. False: there is none, or it is not up.
    pub(super) fn spend(&mut self, owner: Peer, bytes: usize) -> bool {
        let owner = self.owners.get_mut(&owner);
        owner.is_some_and(|owner| owner.is_up && owner.credit.spend(WORDS_BYTES + bytes))
    }

    pub(super) fn pause_is_over(&mut self) {
        self.is_pausing = false;
        self.fruitless = 0;
    }
}

/// A message of which the name is the only long part.
const WORDS_BYTES: usize = 64;
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

    /// What a hub of this node wants.
    pub(super) fn relay_up(&mut self, turn: &mut Turn<'_>, peer: Peer, message: &Message<'_>) {
        let Some(core) = self.core_of(peer) else { return turn.out.count(Counter::WireBroken) };
        match *message {
            Message::Subscribe { slot, key, handle, namespace, name, .. } => {
                let wish = Wish { slot, key, namespace, name };
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
                let done = self.interest.unsubscribe(&mut self.names, slot, key, core, handle);
                if let Unsubscribed::Upstream { place } = done {
                    self.unsubscribe_upstream(turn, place);
                }
                turn.out.send(peer, &Message::Unsuback { handle });
            }
            Message::Fetch { .. } => self.relay_fetch(turn, core, message),
            Message::Emit { slot, key, origin, payload } => {
                if let Some((owner, _)) = self.owner_of(slot) {
                    let emit = Message::Emit { slot, key, origin, payload };
                    turn.out.send_transient(owner, &emit);
                }
            }
            _ => self.relay_errand(turn, core, message),
        }
    }

    /// A channel that is `Opening`: the owner is asked, or it waits until that is possible.
    fn subscribe_upstream(&mut self, turn: &mut Turn<'_>, place: u32) {
        let Wanted { slot, key, namespace, name, .. } = self.interest.wanted(place);
        let owner = self.owner_of(slot);
        let name = self.names.text(name);
        let way = owner.and_then(|(peer, seat_epoch)| {
            self.relay.spend(peer, name.len()).then_some((peer, seat_epoch))
        });
        let Some((peer, seat_epoch)) = way else {
            self.interest.postpone(place);
            return;
        };
        let handle = self.interest.handle(place);
        turn.out.send_bulk(
            peer,
            &Message::Subscribe { slot, seat_epoch, key, handle, namespace, name },
        );
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
            let need = Room { messages: 1, bytes: WORDS_BYTES as u64 + 256 };
            let is_ready = |slot: Slot| {
                ring.is_some_and(|ring| {
                    owners
                        .get(&ring.channel_shard(slot))
                        .is_some_and(|owner| owner.is_up && owner.credit.holds(need))
                })
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
        let Wanted { slot, key, .. } = self.interest.wanted(place);
        let Some((peer, _)) = self.owner_of(slot) else { return };
        if let Some(owner) = self.relay.owners.get_mut(&peer).filter(|owner| owner.is_up) {
            owner.unsaid.push_back((slot, key, self.interest.handle(place)));
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
            turn.out.send_bulk(peer, &Message::Unsubscribe { slot, key, handle });
        }
    }

    /// A page of the past: passed on when its whole answer has room at the core that asks.
    fn relay_fetch(&mut self, turn: &mut Turn<'_>, core: u8, message: &Message<'_>) {
        let Message::Fetch { slot, key, handle, ask, after, count_max, bytes_max, name, .. } =
            *message
        else {
            return;
        };
        let refusal = Message::PastRefused { ask, handle };
        let peer = self.neighbour(core);
        let place = self.interest.find(slot, key);
        let place = place.filter(|place| self.interest.state(*place) == State::Live);
        let (Some(place), Some((owner, seat_epoch))) = (place, self.owner_of(slot)) else {
            return turn.out.send(peer, &refusal);
        };
        let need = self.page_room(count_max, bytes_max);
        let grant = self.grant;
        if !self.answers_to(core).is_some_and(|credit| credit.reserve(need)) {
            return turn.out.send(peer, &refusal);
        }
        if ask.0 >> CORE_SHIFT != 0 || !self.relay.spend(owner, name.len()) {
            if let Some(credit) = self.answers_to(core) {
                credit.settle(need, Room::default(), grant);
            }
            return turn.out.send(peer, &refusal);
        }
        let ask = Ask(u32::from(core) << CORE_SHIFT | ask.0);
        let fetch = Fetch { owner, slot, handle, reserved: need, used: Room::default() };
        self.relay.fetches.insert(ask.0, fetch);
        let bytes_room = need.bytes.saturating_sub(u64::from(self.limits.publication_bytes_max));
        turn.out.send_bulk(
            owner,
            &Message::Fetch {
                slot,
                seat_epoch,
                key,
                handle: self.interest.handle(place),
                ask,
                after,
                count_max: count_max.min(need.messages.saturating_sub(1)),
                bytes_max: bytes_max.min(u32::try_from(bytes_room).unwrap_or(u32::MAX)),
                name,
            },
        );
    }

    /// What an owner says, for all cores that want it, or for the one that asked.
    pub(super) fn relay_down(&mut self, turn: &mut Turn<'_>, peer: Peer, message: &Message<'_>) {
        match *message {
            Message::Publication { handle, offset, origin, member, payload } => {
                let Some(place) = self.interest.place_of(handle) else { return };
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
                if let Some(place) = self.interest.place_of(handle) {
                    self.tell_links(place, |peer, handle| {
                        turn.out.send_transient(peer, &Message::Event { handle, origin, payload });
                    });
                }
            }
            Message::Suback { handle, epoch, tip } => {
                let Some(place) = self.interest.place_of(handle) else { return };
                if self.interest.suback(place, epoch, tip) {
                    self.tell_links(place, |peer, handle| {
                        turn.out.send(peer, &Message::Suback { handle, epoch, tip });
                    });
                }
            }
            Message::Unsuback { handle } => {
                if let Some(place) = self.interest.place_of(handle) {
                    self.interest.unsuback(place);
                }
            }
            Message::Subnack { handle, why } => {
                if let Some(place) = self.interest.place_of(handle) {
                    self.refused(turn, place, why);
                }
            }
            Message::Past { ask, offset, origin, member, payload } => {
                let Some((core, ask, fetch)) = self.relay.fetch(ask) else { return };
                fetch.used.add(Room { messages: 1, bytes: payload.len() as u64 });
                let passed = Message::Past { ask, offset, origin, member, payload };
                turn.out.send_bulk(self.neighbour(core), &passed);
            }
            Message::PastEnd { ask, upto, complete, missing, .. } => {
                self.relay_end(turn, ask, |ask, handle| Message::PastEnd {
                    ask,
                    handle,
                    upto,
                    complete,
                    missing,
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
            say(self.neighbour(link.core()), link.handle());
        }
        self.relay.links = links;
    }

    /// The last word to a fetch.
    fn relay_end(
        &mut self,
        turn: &mut Turn<'_>,
        ask: Ask,
        message: impl FnOnce(Ask, Handle) -> Message<'static>,
    ) {
        let Some(fetch) = self.relay.fetches.remove(&ask.0) else { return };
        let (core, ask) = split(ask);
        let grant = self.grant;
        let mut used = fetch.used;
        used.messages += 1;
        if let Some(credit) = self.answers_to(core) {
            credit.settle(fetch.reserved, used, grant);
        }
        turn.out.send_bulk(self.neighbour(core), &message(ask, fetch.handle));
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

    pub(super) fn owner_up(&mut self, peer: Peer) {
        let credit = Credit::new(self.grant);
        let owner = Owner { is_up: true, credit, unsaid: VecDeque::new() };
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
        self.relay.owners.insert(peer, Owner::default());
        if let Some(ring) = &self.ring {
            self.interest.owner_lost(|slot| ring.channel_shard(slot) == peer);
        }
        self.fetches_lost(turn, |fetch| fetch.owner == peer);
        self.errands_lost(turn, peer);
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
        let moved = ring.moved_channels(&old);
        if !moved.is_empty() {
            self.interest.moved(&moved);
            self.fetches_lost(turn, |fetch| moved.binary_search(&fetch.slot).is_ok());
            self.relay.fruitless = 0;
        }
        let moved = ring.moved_users(&old);
        if !moved.is_empty() {
            self.people_moved(turn, &moved);
        }
    }

    /// A core of this node is lost, and with it all that it wanted and asked.
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
        let (core, ask) = split(ask);
        Some((core, ask, fetch))
    }
}

/// The core that asked, and the number by which it knows its question.
pub(super) fn split(ask: Ask) -> (u8, Ask) {
    ((ask.0 >> CORE_SHIFT) as u8, Ask(ask.0 & ((1 << CORE_SHIFT) - 1)))
}
