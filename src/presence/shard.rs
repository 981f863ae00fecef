//! One core's share of the users: online while a gateway core reports them, away by time or by hand, told to those who watch.
//!
//! A dot is state, not an event: the last one counts. So what waits for room at a gateway core is a flag at the watch, and what is
//! said when room comes is what is true then. Nothing here is stored: gateways say again what they know after each `PeerUp`.

use std::collections::BTreeSet;

use super::roster::{Is, Users};
use super::ties::{Dot, Refused, Ties};
use super::unknown::Unknown;
use crate::ids::{Ask, Handle, Key, NodeId, Peer, Role, Slot};
use crate::limits::Limits;
use crate::ring::Ring;
use crate::shard::{Budget, Counter, Effect, Effects, Input, Report, Shard};
use crate::time::{Mono, Now, sooner};
use crate::wire::{Message, UNKNOWN_SINCE};

/// The presence shard of one core.
#[derive(Debug)]
pub struct Roster {
    me: Peer,
    limits: Limits,
    users: Users,
    ties: Ties,
    /// None before the first one: then all users are kept here.
    ring: Option<Ring>,
    /// Who told of users that are somebody else's by our ring: it may know a newer one.
    ahead: BTreeSet<Peer>,
    unknown: Unknown,
    /// Nodes that speak a version in which nothing is unknown.
    simple: BTreeSet<Peer>,
    /// After a change of the ring, or the end of a lease: up to where users were looked through for those who are somebody else's now, or known.
    looked: Option<u32>,
}

/// Units of overdue work that one tick does; what is left is due at once.
const UNITS_PER_TICK: u32 = 256;
/// Users looked at for one unit, where all are looked through.
const LOOKS_PER_UNIT: u32 = 64;

impl Roster {
    /// `seed` is not needed: nothing here is random.
    pub fn new(node: NodeId, core: u8, _seed: u64, limits: &Limits) -> Self {
        Self {
            me: Peer::new(node, Role::Presence, core),
            limits: limits.clone(),
            users: Users::new(limits.users_max),
            ties: Ties::new(limits.ties_max),
            ring: None,
            ahead: BTreeSet::new(),
            unknown: Unknown::default(),
            simple: BTreeSet::new(),
            looked: None,
        }
    }

    fn wire(&mut self, now: Now, peer: Peer, message: Message<'_>, out: &mut Effects) {
        match message {
            Message::Online { slot, user, connections, manual_away, bot } => {
                if self.is_mine(peer, slot, out) {
                    let new = Seen { peer, connections, manual_away, bot };
                    self.online(now, slot, user, new, out);
                }
            }
            Message::Offline { user, .. } => {
                if let Some(place) = self.users.find(user) {
                    self.ties.unreport(&mut self.users, place, peer);
                    self.changed(place, out);
                }
            }
            Message::Active { user, .. } => {
                if let Some(place) = self.users.find(user)
                    && self.users[place].is_online()
                {
                    self.active(now, place);
                    self.tell(place, out);
                }
            }
            Message::Watch { slot, user, handle } => self.watch(peer, slot, user, handle, out),
            Message::Unwatch { user, handle, .. } => {
                if let Some(place) = self.users.find(user) {
                    self.ties.unwatch(&mut self.users, place, peer, handle);
                    self.users.forget(place);
                }
                out.send(peer, &Message::Unsuback { handle });
            }
            Message::Manual { slot, user, away } => {
                if self.is_mine(peer, slot, out) {
                    self.manual(now, slot, user, away, out);
                }
            }
            Message::PresenceQuery { ask, slot, user } => {
                let known = self.presence_of(now, ask, slot, user);
                let is_simple = self.simple.contains(&peer);
                let unknown =
                    if is_simple { nobody(ask) } else { Message::PresenceUnknown { ask } };
                out.send(peer, &known.unwrap_or(unknown));
            }
            _ => out.count(Counter::WireBroken),
        }
    }

    fn online(&mut self, now: Now, slot: Slot, user: Key, seen: Seen, out: &mut Effects) {
        if !self.ties.is_up(seen.peer) {
            return out.count(Counter::PresenceMisplaced);
        }
        let Some(place) = self.enter(slot, user) else {
            return out.count(Counter::PresenceShed);
        };
        let entry = &mut self.users[place];
        // What a gateway knows of the hand is as old as the connection: it counts for the first one, if nobody said more since.
        if !entry.is_online() && !entry.is(Is::HandFresh) {
            entry.set(Is::AwayByHand, seen.manual_away);
        }
        entry.set(Is::Bot, seen.bot);
        match self.ties.report(&mut self.users, place, seen.peer, seen.connections) {
            Ok(true) => self.active(now, place),
            Ok(false) => {}
            Err(_) => out.count(Counter::PresenceShed),
        }
        self.changed(place, out);
    }

    fn watch(&mut self, peer: Peer, slot: Slot, user: Key, handle: Handle, out: &mut Effects) {
        if !self.is_mine(peer, slot, out) {
            // Whoever keeps the user tells, when one of us two has the other's ring.
            return;
        }
        let told = match self.enter(slot, user) {
            Some(place) => {
                let told = self.ties.watch(&mut self.users, place, peer, handle);
                self.users.forget(place);
                told
            }
            None => Err(Refused::Full),
        };
        match told {
            Ok(Some(dot)) => say(dot, out),
            Ok(None) | Err(Refused::Stranger) => {}
            Err(Refused::Full) => {
                out.count(Counter::PresenceShed);
                // Nobody waits for a dot for ever: who cannot be watched is shown as away, where that may be.
                if !self.unknown.has(slot) {
                    out.send(peer, &Message::Presence { handle, active: false });
                }
            }
        }
    }

    fn manual(&mut self, now: Now, slot: Slot, user: Key, away: bool, out: &mut Effects) {
        let Some(place) = self.enter(slot, user) else {
            return out.count(Counter::PresenceShed);
        };
        let entry = &mut self.users[place];
        entry.set(Is::AwayByHand, away);
        // Kept for a while without a connection too: one that is just beginning may bring an older word.
        entry.set(Is::HandFresh, true);
        entry.set(Is::Away, false);
        self.users.stir(place, now.mono);
        self.tell(place, out);
    }

    /// The place of a user, if there is room.
    fn enter(&mut self, slot: Slot, user: Key) -> Option<u32> {
        let place = self.users.enter(slot, user)?;
        if self.unknown.has(slot) {
            self.users[place].set(Is::Unknown, true);
        }
        Some(place)
    }

    /// `None`: nobody knows.
    fn presence_of(&self, now: Now, ask: Ask, slot: Slot, user: Key) -> Option<Message<'static>> {
        let Some(place) = self.users.find(user) else {
            return (self.has(slot) && !self.unknown.has(slot)).then(|| nobody(ask));
        };
        let entry = &self.users[place];
        let active = entry.dot()?;
        let idle = if entry.is_online() { now.mono.since(entry.last_active).as_secs() } else { 0 };
        Some(Message::PresenceIs {
            ask,
            active,
            online: entry.is_online(),
            auto_away: entry.is(Is::Away),
            manual_away: entry.is(Is::AwayByHand),
            connections: self.ties.connections(&self.users, place),
            idle_s: u32::try_from(idle).unwrap_or(u32::MAX),
        })
    }

    /// The user did something. Tells nobody.
    fn active(&mut self, now: Now, place: u32) {
        let entry = &mut self.users[place];
        entry.set(Is::Away, false);
        entry.last_active = now.mono;
        if !entry.is(Is::Bot) {
            self.users.stir(place, now.mono);
        }
    }

    /// After the reports of a user changed: tells, and lets go of what nobody needs.
    fn changed(&mut self, place: u32, out: &mut Effects) {
        let entry = &mut self.users[place];
        if !entry.is_online() {
            entry.set(Is::Away, false);
            if !entry.is(Is::HandFresh) {
                self.users.rest(place);
            }
        }
        self.tell(place, out);
        self.users.forget(place);
    }

    fn tell(&mut self, place: u32, out: &mut Effects) {
        self.ties.tell(&self.users, place, |dot| say(dot, out));
    }

    /// Whether users of the slot are kept here; counts if not.
    fn is_mine(&mut self, peer: Peer, slot: Slot, out: &mut Effects) -> bool {
        let is_mine = self.has(slot);
        if !is_mine {
            if matches!(peer.role, Role::Gateway | Role::Webapp) {
                self.ahead.insert(peer);
            }
            out.count(Counter::PresenceMisplaced);
        }
        is_mine
    }

    fn has(&self, slot: Slot) -> bool {
        self.ring.as_ref().is_none_or(|ring| ring.presence_shard(slot) == self.me)
    }

    /// Whoever knew of the ring before us, and told us of users that are ours by it, says everything again: its link breaks. What is left of an
    /// earlier time in which a slot was ours counts for nothing now, and for a lease it is not known who is online in it.
    fn change(&mut self, now: Mono, ring: &Ring, out: &mut Effects) {
        let old = self.ring.as_ref();
        let until = now + self.limits.presence_lease;
        let mut ours = ring.seats.iter().filter(|seat| seat.node == self.me.node);
        // A seat in its first epoch was nobody's before.
        if old.is_none() && ours.any(|seat| seat.seat_epoch > 1) {
            self.unknown.all(until);
        }
        let mut gained = old.map_or_else(Vec::new, |old| ring.moved_users(old));
        gained.retain(|slot| ring.presence_shard(*slot) == self.me);
        // A slot that went and came back between two rings of ours: who knew of it told us of its users, and we took it for an old word.
        let is_unseen = |slot: &Slot| old.is_some_and(|old| old.presence_shard(*slot) == self.me);
        let unseen = gained.iter().any(is_unseen);
        self.ring = Some(ring.clone());
        if !gained.is_empty() {
            // Who is ahead of us may be so by several rings: of those that give us nothing none of its words is ours.
            let mut ahead = std::mem::take(&mut self.ahead);
            if unseen {
                ahead.extend(self.ties.up_peers());
            }
            for peer in ahead {
                out.push(Effect::Reset { peer });
            }
            // Of a slot that we lost, the users were looked through since.
            if unseen || self.looked.is_some() {
                self.drop_users(|slot| gained.binary_search(&slot).is_ok());
            }
            self.unknown.add(until, &gained);
        }
        self.looked = Some(0);
    }

    fn drop_users(&mut self, is_of: impl Fn(Slot) -> bool) {
        for place in 0..self.users.places() {
            if self.users.contains(place) && is_of(self.users[place].slot) {
                self.drop_user(place);
            }
        }
    }

    fn drop_user(&mut self, place: u32) {
        self.ties.untie_all(&mut self.users, place);
        self.users[place].set(Is::HandFresh, false);
        self.users.forget(place);
    }

    /// Does what is overdue, at most `units` of it. True: more is left.
    fn settle(&mut self, now: Now, units: u32, out: &mut Effects) -> bool {
        (0..units).all(|_| self.settle_one(now, out))
    }

    fn settle_one(&mut self, now: Now, out: &mut Effects) -> bool {
        if let Some(place) = self.ties.void(&mut self.users, now.mono) {
            self.changed(place, out);
            return true;
        }
        if let Some(place) = self.users.oldest()
            && self.users[place].last_active + self.limits.away_after <= now.mono
        {
            self.users.rest(place);
            let entry = &mut self.users[place];
            entry.set(Is::HandFresh, false);
            let falls = entry.is_online() && !entry.is(Is::Bot);
            entry.set(Is::Away, falls);
            self.changed(place, out);
            return true;
        }
        if self.unknown.end(now.mono) {
            self.looked = Some(0);
        }
        self.look(out)
    }

    /// Looks through some users for those whom a new ring gave to somebody else, and those who are known now.
    fn look(&mut self, out: &mut Effects) -> bool {
        let Some(from) = self.looked else { return false };
        let to = from.saturating_add(LOOKS_PER_UNIT).min(self.users.places());
        for place in from..to {
            if !self.users.contains(place) {
                continue;
            }
            let slot = self.users[place].slot;
            if !self.has(slot) {
                out.count(Counter::PresenceMisplaced);
                self.drop_user(place);
            } else if self.users[place].is(Is::Unknown) && !self.unknown.has(slot) {
                self.users[place].set(Is::Unknown, false);
                self.tell(place, out);
            }
        }
        self.looked = (to < self.users.places()).then_some(to);
        true
    }
}

/// What a gateway core says of a user.
struct Seen {
    peer: Peer,
    connections: u32,
    manual_away: bool,
    bot: bool,
}

/// Of a user whom nobody reports.
fn nobody(ask: Ask) -> Message<'static> {
    Message::PresenceIs {
        ask,
        active: false,
        online: false,
        auto_away: false,
        manual_away: false,
        connections: 0,
        idle_s: 0,
    }
}

fn say(dot: Dot, out: &mut Effects) {
    out.count(Counter::PresenceTold);
    out.send_bulk(dot.peer, &Message::Presence { handle: dot.handle, active: dot.active });
}

impl Shard for Roster {
    fn handle(&mut self, now: Now, input: Input<'_>, out: &mut Effects) {
        match input {
            Input::PeerUp { peer, hello, .. } if hello.version < UNKNOWN_SINCE => {
                self.simple.insert(peer);
            }
            Input::PeerUp { peer, .. } => {
                self.simple.remove(&peer);
            }
            Input::PeerLost { peer } => {
                self.simple.remove(&peer);
                self.ahead.remove(&peer);
            }
            _ => {}
        }
        match input {
            Input::Wire { peer, message } => self.wire(now, peer, message, out),
            Input::PeerUp { peer, .. } if peer.role == Role::Gateway => {
                self.ties.lost(peer, now.mono + self.limits.presence_lease);
                self.ties.up(peer, self.limits.bulk_messages_per_room);
            }
            Input::PeerLost { peer } => {
                self.ties.lost(peer, now.mono + self.limits.presence_lease);
            }
            Input::PeerRoom { peer } => {
                let room = self.limits.bulk_messages_per_room;
                self.ties.room(&self.users, peer, room, |dot| say(dot, out));
            }
            Input::Ring { ring } => self.change(now.mono, ring, out),
            Input::Tick => {
                self.settle(now, UNITS_PER_TICK, out);
            }
            _ => {}
        }
    }

    fn advance(&mut self, now: Now, budget: Budget, out: &mut Effects) -> bool {
        self.settle(now, budget.units, out)
    }

    fn deadline(&self) -> Option<Mono> {
        let falls =
            self.users.oldest().map(|place| self.users[place].last_active + self.limits.away_after);
        let looks = self.looked.map_or_else(|| self.unknown.deadline(), |_| Some(Mono(0)));
        sooner(sooner(falls, looks), self.ties.deadline())
    }

    fn report(&self, into: &mut Report) {
        into.gauge("presence_users", f64::from(self.users.count()));
        into.gauge("presence_ties", f64::from(self.ties.count()));
        into.gauge("presence_due", f64::from(self.ties.due()));
        into.gauge("presence_table_bytes", (self.users.bytes() + self.ties.bytes()) as f64);
    }
}
