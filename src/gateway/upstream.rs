//! Whom this node asks for channels: their owners, or gateways of its region that stand for all owners there, so that one copy of what is
//! published crosses the ocean for the whole region.
//!
//! Such a *region relay* is a gateway like any other; it treats cores of the other gateways as it treats its own (`downstream`). Only
//! subscriptions and their past go by it: what clients say, and who is there, goes to owners. Who has several relays asks the first of them
//! that is up, and owners when none is; each change of that is one of ownership to those channels. A relay's word counts as long as it is the
//! one that is asked, and whoever leaves one that is up breaks the link to it: so handles need no era there. What has no offset, such as typing,
//! may come by both at such a change, and is told twice then.

use std::collections::BTreeSet;

use super::interest::State;
use super::relay::WORDS_BYTES;
use super::shard::{Gateway, Turn};
use crate::ids::{Handle, NodeId, Peer, Role, Slot};
use crate::limits::{RELAY_REFUSED_PAUSE, RELAY_SETTLES};
use crate::ring::region::RegionRelay;
use crate::shard::{Budget, Counter, Effect};
use crate::time::Mono;
use crate::wire::Message;

/// One core of a relay.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Standing {
    #[default]
    Down,
    Up,
    /// It has just come, and is to meet owners first; or it said that it is full. Not before that moment.
    Resting(Mono),
}

/// All relays of this node, in their order. Per shard.
#[derive(Clone, Debug, Default)]
pub(super) struct Upstreams(Vec<(RegionRelay, Box<[Standing]>)>);

/// Owners that may have forgotten who is in their channels: hubs are to report again. Per shard.
#[derive(Debug, Default)]
pub(super) struct Reminders {
    owners: BTreeSet<Peer>,
    /// The next place that is looked at.
    cursor: u32,
}

/// Places looked at for one unit of the budget.
const LOOKS_PER_UNIT: u32 = 16;

impl Upstreams {
    /// Those before `me`, if it is one of them: nobody asks in a circle.
    pub(super) fn new(relays: &[RegionRelay], me: NodeId) -> Self {
        let before = relays.iter().take_while(|relay| relay.node != me && relay.cores > 0);
        let down = |relay: &RegionRelay| (*relay, vec![Standing::Down; relay.cores.into()].into());
        Self(before.map(down).collect())
    }

    /// The relay that is asked for the channels of a slot; `None`: their owner is.
    pub(super) fn of(&self, slot: Slot) -> Option<Peer> {
        self.0.iter().find_map(|(relay, cores)| {
            let core = usize::from(slot.0) % cores.len();
            let peer = Peer::new(relay.node, Role::Gateway, core as u8);
            (cores[core] == Standing::Up).then_some(peer)
        })
    }

    fn standing(&mut self, peer: Peer) -> Option<&mut Standing> {
        let (_, cores) = self.0.iter_mut().find(|(relay, _)| relay.node == peer.node)?;
        cores.get_mut(usize::from(peer.core))
    }

    pub(super) fn is_one(&self, peer: Peer) -> bool {
        let is_it = |relay: &RegionRelay| relay.node == peer.node && peer.core < relay.cores;
        peer.role == Role::Gateway && self.0.iter().any(|(relay, _)| is_it(relay))
    }

    /// Cores of relays that are asked.
    pub(super) fn up(&self) -> usize {
        let cores = self.0.iter().flat_map(|(_, cores)| cores);
        cores.filter(|standing| **standing == Standing::Up).count()
    }
}

impl Gateway {
    /// Who is asked for the channels of a slot, and under which epoch of its seat, which means nothing to a relay.
    pub(super) fn upstream_of(&self, slot: Slot) -> Option<(Peer, u32)> {
        match self.upstreams.of(slot) {
            Some(relay) => Some((relay, 0)),
            None => self.owner_of(slot),
        }
    }

    pub(super) fn is_relayed(&self, slot: Slot) -> bool {
        self.upstreams.of(slot).is_some()
    }

    /// By which whoever is asked knows a place.
    pub(super) fn upstream_handle(&self, place: u32) -> Handle {
        if self.is_relayed(self.interest.wanted(place).slot) {
            Handle(place)
        } else {
            self.interest.handle(place)
        }
    }

    /// The place of which somebody speaks, if it is for him to do so.
    pub(super) fn place_heard(&self, peer: Peer, handle: Handle) -> Option<u32> {
        if peer.role == Role::Channel {
            return self.interest.place_of(handle);
        }
        let place = self.interest.contains(handle.0).then_some(handle.0)?;
        (self.upstreams.of(self.interest.wanted(place).slot) == Some(peer)).then_some(place)
    }

    pub(super) fn relay_up_again(&mut self, turn: &mut Turn<'_>, peer: Peer) {
        self.owner_up(peer, 0);
        // Who has nothing to lose does not wait until it knows its owners.
        let rests = self.interest.channels() > 0;
        let until = turn.now.mono + RELAY_SETTLES;
        if rests {
            self.timers.new_relays.push(until, peer);
        }
        self.stand(turn, peer, |standing| {
            if *standing == Standing::Down {
                *standing = if rests { Standing::Resting(until) } else { Standing::Up };
            }
        });
    }

    pub(super) fn relay_lost(&mut self, turn: &mut Turn<'_>, peer: Peer) {
        self.owner_gone(turn, peer);
        self.stand(turn, peer, |standing| {
            if *standing == Standing::Up {
                *standing = Standing::Down;
            }
        });
    }

    /// A relay has no room for what we want: for a while we do without it.
    pub(super) fn relay_is_full(&mut self, turn: &mut Turn<'_>, peer: Peer) {
        turn.out.count(Counter::RelaysFull);
        let until = turn.now.mono + RELAY_REFUSED_PAUSE;
        self.timers.relays.push(until, peer);
        self.stand(turn, peer, |standing| *standing = Standing::Resting(until));
    }

    /// The pause of a relay that was new or full is over.
    pub(super) fn relay_is_due(&mut self, turn: &mut Turn<'_>, peer: Peer) {
        let (now, is_up) = (turn.now.mono, self.relay.is_up(peer));
        self.stand(turn, peer, |standing| {
            if matches!(*standing, Standing::Resting(until) if until <= now) {
                *standing = if is_up { Standing::Up } else { Standing::Down };
            }
        });
    }

    /// Changes what is known of a relay, and asks anew for all channels that somebody else is to be asked for by that.
    fn stand(&mut self, turn: &mut Turn<'_>, peer: Peer, change: impl FnOnce(&mut Standing)) {
        let before = self.upstreams.clone();
        let Some(standing) = self.upstreams.standing(peer) else { return };
        change(standing);
        let ours = (0..=u16::MAX).map(Slot);
        let ours = ours.filter(|slot| self.interest_core(*slot) == self.me.core);
        let slots: Vec<Slot> =
            ours.filter(|slot| before.of(*slot) != self.upstreams.of(*slot)).collect();
        let mut left = BTreeSet::new();
        for &slot in &slots {
            match before.of(slot) {
                Some(relay) => {
                    left.insert(relay);
                }
                None => self.leave_owner(turn, slot),
            }
        }
        for relay in left {
            // So that it forgets us, and nothing comes from it under a handle that is given anew.
            if self.relay.is_up(relay) {
                turn.out.push(Effect::Reset { peer: relay });
            }
        }
        self.asked_elsewhere(turn, &slots);
    }

    /// Its owner need not send us the channels of a slot any more.
    fn leave_owner(&mut self, turn: &mut Turn<'_>, slot: Slot) {
        let Some((owner, _)) = self.owner_of(slot) else { return };
        let known = |place: &u32| self.interest.state(*place) != State::Waiting;
        let places: Vec<u32> = self.interest.places_of(slot).filter(known).collect();
        for place in places {
            let handle = self.interest.handle(place);
            self.unsubscribe_at(turn, owner, place, handle);
        }
    }

    /// What clients are in is reported to owners, by hubs, whenever somebody says anew how a channel stands. A relay does not when only our own
    /// link to an owner was lost.
    pub(super) fn remind(&mut self, owner: Peer) {
        if self.upstreams.up() > 0 {
            self.reminders.owners.insert(owner);
            self.reminders.cursor = 0;
        }
    }

    /// Goes on with that. True: more is left, and has room.
    pub(super) fn say_reminders(&mut self, turn: &mut Turn<'_>, budget: Budget) -> bool {
        if self.reminders.owners.is_empty() {
            return false;
        }
        let end = self.reminders.cursor.saturating_add(budget.units * LOOKS_PER_UNIT);
        while self.reminders.cursor < end.min(self.interest.places()) {
            let place = self.reminders.cursor;
            if self.is_to_remind(place) && !self.remind_hubs(turn, place) {
                return false;
            }
            self.reminders.cursor += 1;
        }
        if self.reminders.cursor >= self.interest.places() {
            self.reminders.owners.clear();
        }
        !self.reminders.owners.is_empty()
    }

    fn is_to_remind(&self, place: u32) -> bool {
        let interest = &self.interest;
        interest.contains(place)
            && interest.state(place) == State::Live
            && interest.epoch(place) != 0
            && {
                let slot = interest.wanted(place).slot;
                let owner = self.owner_of(slot).map(|(owner, _)| owner);
                self.is_relayed(slot)
                    && owner.is_some_and(|owner| self.reminders.owners.contains(&owner))
            }
    }

    /// False: a core has no room for it now.
    fn remind_hubs(&mut self, turn: &mut Turn<'_>, place: u32) -> bool {
        let (epoch, tip) = (self.interest.epoch(place), self.interest.tip(place));
        let links: Vec<_> = self.interest.links(place).collect();
        for link in links {
            let Some(credit) = self.answers_to(link.core()) else { continue };
            if !credit.spend(WORDS_BYTES) {
                return false;
            }
            let suback = Message::Suback { handle: link.handle(), epoch, tip };
            turn.out.send_bulk(self.subscriber(link.core()), &suback);
        }
        true
    }
}
