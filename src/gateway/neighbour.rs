//! The other cores of the node, as a hub sees them: where its channels' interests are, and what waits to be said there.

use std::collections::VecDeque;

use rustc_hash::FxHashSet;

use super::asks::Pending;
use super::hub::State;
use super::relay::WORDS_BYTES;
use super::shard::{Gateway, Turn};
use crate::centrifuge::message::PresenceStats;
use crate::centrifuge::rules::Rules;
use crate::ids::{Handle, NodeId, Peer, Role, Slot};
use crate::shard::{Budget, Counter, Effect};
use crate::wire::Message;
use crate::wire::message::namespace;
use crate::wire::room::{Credit, Room};

/// One core of this node.
#[derive(Debug, Default)]
struct Neighbour {
    is_up: bool,
    /// For what is said to it as a hub.
    credit: Credit,
    /// For what it is sent as an interest. One's questions never stand in the way of answers to the other's.
    answers: Credit,
    /// Places of the hub whose `Subscribe` or `Unsubscribe` waits for room, each once: what is said is what is true then.
    unsaid: VecDeque<u32>,
    is_unsaid: FxHashSet<u32>,
    /// Places whose `Unsubscribe` was said, in that order: so come the `Unsuback`s.
    leaving: VecDeque<u32>,
    /// Places whose `Subscribe` was refused for now, until something is said of them again: by its time, the place may be another channel's.
    refused: FxHashSet<u32>,
    /// After the link came up: up to which place of the hub everything was said again.
    said: Option<u32>,
    /// Connections whose next page waits for room.
    crowded: VecDeque<u32>,
}

/// All cores of the node. Per shard.
#[derive(Debug)]
pub(super) struct Neighbours(Vec<Neighbour>);

impl Neighbour {
    fn queue(&mut self, place: u32) {
        if self.is_unsaid.insert(place) {
            self.unsaid.push_back(place);
        }
    }
}

impl Neighbours {
    pub(super) fn new(cores: u8) -> Self {
        Self((0..cores).map(|_| Neighbour::default()).collect())
    }

    /// What a core may still be sent as an answer; `None`: it is not up.
    pub(super) fn answers(&mut self, core: u8) -> Option<&mut Credit> {
        let neighbour = &mut self.0[usize::from(core)];
        neighbour.is_up.then_some(&mut neighbour.answers)
    }
}

/// Places looked at for one unit of the budget.
const LOOKS_PER_UNIT: u32 = 16;

impl Gateway {
    /// The core that has the interest in the channels of a slot.
    pub(super) fn interest_core(&self, slot: Slot) -> u8 {
        (slot.0 % u16::from(self.cores)) as u8
    }

    pub(super) fn neighbour(&self, core: u8) -> Peer {
        Peer::new(self.me.node, Role::Gateway, core)
    }

    /// Which of our cores a peer is; `None`: it is of another node.
    pub(super) fn core_of(&self, peer: Peer) -> Option<u8> {
        let Peer { node: NodeId(_), role, core } = peer;
        (peer.node == self.me.node && role == Role::Gateway && core < self.cores).then_some(core)
    }

    /// Says that a channel of the hub is wanted, or no more, as soon as there is room.
    pub(super) fn say_of(&mut self, turn: &mut Turn<'_>, place: u32) {
        let core = self.interest_core(self.hub.slot(place));
        let neighbour = &mut self.neighbours.0[usize::from(core)];
        if neighbour.is_up {
            neighbour.queue(place);
            self.say_unsaid(turn, core);
        } else if self.hub.state(place) == State::Leaving {
            // Nobody knows of it.
            self.hub.free(&mut self.names, place);
        }
    }

    fn say_unsaid(&mut self, turn: &mut Turn<'_>, core: u8) {
        let peer = self.neighbour(core);
        loop {
            let neighbour = &mut self.neighbours.0[usize::from(core)];
            let Some(&place) = neighbour.unsaid.front() else { return };
            let name = self.names.text(self.hub.name(place));
            if !neighbour.credit.spend(WORDS_BYTES + name.len()) {
                return;
            }
            neighbour.unsaid.pop_front();
            neighbour.is_unsaid.remove(&place);
            neighbour.refused.remove(&place);
            let (slot, key, handle) = (self.hub.slot(place), self.hub.key(place), Handle(place));
            if self.hub.state(place) == State::Leaving {
                neighbour.leaving.push_back(place);
                turn.out.send_bulk(peer, &Message::Unsubscribe { slot, key, handle });
            } else {
                let seat_epoch = 0;
                let is_memory = Rules::is_memory(name);
                let namespace = if is_memory { namespace::MEMORY } else { namespace::DURABLE };
                let wish = Message::Subscribe { slot, seat_epoch, key, handle, namespace, name };
                turn.out.send_bulk(peer, &wish);
            }
        }
    }

    /// A refusal is a while ago.
    pub(super) fn say_refused(&mut self, turn: &mut Turn<'_>, place: u32) {
        if self.hub.contains(place) && self.hub.state(place) == State::Subscribing {
            let core = self.interest_core(self.hub.slot(place));
            if self.neighbours.0[usize::from(core)].refused.contains(&place) {
                self.say_of(turn, place);
            }
        }
    }

    /// Everything that the hub wants of a core whose link came up is said again. True: more is left, and has room.
    pub(super) fn say_again(&mut self, turn: &mut Turn<'_>, budget: Budget) -> bool {
        let mut more = false;
        for core in 0..self.cores {
            let neighbour = &mut self.neighbours.0[usize::from(core)];
            let Some(from) = neighbour.said else { continue };
            // What waits for room comes first: so it never piles up.
            if !neighbour.unsaid.is_empty() {
                continue;
            }
            let mut place = from;
            let upto = from.saturating_add(budget.units * LOOKS_PER_UNIT);
            let next = loop {
                let Some(next) = self.hub.next_place(place).filter(|next| *next < upto) else {
                    break self.hub.next_place(upto);
                };
                let is_wanted = self.hub.state(next) != State::Leaving;
                if is_wanted && self.interest_core(self.hub.slot(next)) == core {
                    self.neighbours.0[usize::from(core)].queue(next);
                }
                place = next + 1;
            };
            self.neighbours.0[usize::from(core)].said = next;
            self.say_unsaid(turn, core);
            let neighbour = &self.neighbours.0[usize::from(core)];
            more |= neighbour.said.is_some() && neighbour.unsaid.is_empty();
        }
        more
    }

    pub(super) fn neighbour_up(&mut self, turn: &mut Turn<'_>, peer: Peer) {
        let Some(core) = self.core_of(peer) else { return };
        let neighbour = &mut self.neighbours.0[usize::from(core)];
        neighbour.is_up = true;
        neighbour.credit = Credit::new(self.grant);
        neighbour.answers = Credit::new(self.grant);
        neighbour.said = Some(0);
        self.wake_crowded(turn, core);
    }

    pub(super) fn neighbour_room(&mut self, turn: &mut Turn<'_>, peer: Peer) {
        let Some(core) = self.core_of(peer) else { return };
        let grant = self.grant;
        let neighbour = &mut self.neighbours.0[usize::from(core)];
        if !neighbour.is_up {
            return;
        }
        neighbour.credit.renew(grant);
        neighbour.answers.renew(grant);
        self.say_unsaid(turn, core);
        self.wake_crowded(turn, core);
    }

    /// Each connection that waits for room asks once, and waits again if there is none after all.
    fn wake_crowded(&mut self, turn: &mut Turn<'_>, core: u8) {
        let crowded = std::mem::take(&mut self.neighbours.0[usize::from(core)].crowded);
        for index in crowded {
            self.has_room(turn, index);
        }
    }

    pub(super) fn neighbour_lost(&mut self, turn: &mut Turn<'_>, peer: Peer) {
        let Some(core) = self.core_of(peer) else { return };
        let lost = std::mem::take(&mut self.neighbours.0[usize::from(core)]);
        let unsaid = lost.unsaid.into_iter();
        for place in lost.leaving.into_iter().chain(unsaid) {
            // The rest is said again when the link is up.
            if self.hub.contains(place) && self.hub.state(place) == State::Leaving {
                self.hub.free(&mut self.names, place);
            }
        }
        self.neighbours.0[usize::from(core)].crowded = lost.crowded;
        self.core_lost(turn, core);
    }

    /// A connection's next page waits for room at a core.
    pub(super) fn wait_for_room(&mut self, core: u8, index: u32) {
        self.neighbours.0[usize::from(core)].crowded.push_back(index);
    }

    /// Takes room for a question to a core; what its answer takes, the core counts. Whoever has it asks: room that is taken for nothing is
    /// given back by nobody.
    pub(super) fn may_ask(&mut self, core: u8, name_len: usize) -> bool {
        if self.asks.is_full() {
            return false;
        }
        let neighbour = &mut self.neighbours.0[usize::from(core)];
        neighbour.is_up && neighbour.credit.spend(WORDS_BYTES + name_len)
    }

    /// The place of a channel that was left is free.
    fn unsuback(&mut self, turn: &mut Turn<'_>, peer: Peer, handle: Handle) {
        let Some(core) = self.core_of(peer) else { return };
        let leaving = &mut self.neighbours.0[usize::from(core)].leaving;
        if leaving.front() == Some(&handle.0) {
            leaving.pop_front();
            self.hub.free(&mut self.names, handle.0);
        } else {
            // Whoever says so is out of step with us.
            turn.out.count(Counter::WireBroken);
            turn.out.push(Effect::Reset { peer });
        }
    }

    /// What the interest of a channel says to the hub.
    pub(super) fn hear_interest(&mut self, turn: &mut Turn<'_>, peer: Peer, message: &Message<'_>) {
        match *message {
            Message::Publication { handle, offset, origin, member, payload } => {
                if self.hub.contains(handle.0) {
                    let event = super::deliver::Event { offset, origin, member, payload };
                    self.published(turn, handle.0, &event);
                }
            }
            Message::Event { handle, origin, payload } => {
                if self.hub.contains(handle.0) {
                    self.emitted(turn, handle.0, origin, payload);
                }
            }
            Message::Suback { handle, epoch, tip } => {
                if self.hub.contains(handle.0) {
                    self.subscribed(turn, handle.0, epoch, tip);
                }
            }
            // A channel that does not exist has no events; where there was no room, it is asked again.
            Message::Subnack { handle, why } => {
                if why != crate::wire::message::nack::UNKNOWN
                    && let Some(core) = self.core_of(peer)
                {
                    self.neighbours.0[usize::from(core)].refused.insert(handle.0);
                    let due = turn.now.mono + self.limits.catch_up_interval;
                    self.timers.unsubscribed.push(due, handle.0);
                }
            }
            Message::Unsuback { handle } => self.unsuback(turn, peer, handle),
            Message::Past { ask, offset, origin, member, payload } => {
                let event = super::deliver::Event { offset, origin, member, payload };
                self.past(turn, peer, ask, &event);
            }
            Message::PastEnd { ask, upto, complete, missing, .. } => {
                self.past_end(turn, peer, ask, super::pages::End { upto, complete, missing });
            }
            Message::PastRefused { ask, .. } => self.past_refused(turn, peer, ask),
            Message::Published { ask, accepted, .. } => {
                if let Some(Pending::Publish { conn, id }) = self.asks.close(peer, ask) {
                    self.guest_published(turn, conn, id, accepted);
                }
            }
            Message::Noted { ask, ok } => {
                if let Some(Pending::Report { report }) = self.asks.close(peer, ask)
                    && !ok
                {
                    self.unreported(turn, report);
                }
            }
            Message::PresentIs { ask, ok, clients, users, infos } => {
                if let Some(Pending::Present { conn, id, is_listed }) = self.asks.close(peer, ask) {
                    let stats = PresenceStats { num_clients: clients, num_users: users };
                    let infos = is_listed.then_some(infos);
                    self.present_is(turn, (conn, id), ok.then_some((stats, infos)));
                }
            }
            Message::ReadIs { ask, ok, epoch, tip, publications } => {
                if let Some(Pending::Read { conn, reading }) = self.asks.close(peer, ask) {
                    if ok {
                        self.read_is(turn, conn, reading, (epoch, tip), publications);
                    } else {
                        self.unread(turn, conn, &reading);
                    }
                }
            }
            _ => turn.out.count(Counter::WireBroken),
        }
    }

    /// What is kept for the answer to a page, towards one of our cores. A page of a whole window has room for its last event, however large that
    /// is. Smaller ones would keep each other waiting for what they hardly ever need: they look for it when such an event comes.
    pub(super) fn page_room(&self, count_max: u32, bytes_max: u32) -> Room {
        let is_whole = bytes_max >= self.limits.catch_up_bytes;
        let last = if is_whole { self.limits.publication_bytes_max } else { 0 };
        let bytes = u64::from(bytes_max) + u64::from(last);
        Room { messages: count_max.saturating_add(1), bytes }.min(self.grant)
    }
}
