//! Who is online and who wants to know: what the presence shards are told of users here, and what they tell.
//!
//! A dot is state: what was dropped in front of a slow client is told again once it has read on. What is said to a presence shard
//! follows from what is true when there is room, so nothing is queued but who is to be spoken of.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::asks::Pending;
use super::outbox::Kind;
use super::people::Is;
use super::session;
use super::shard::{Gateway, Turn};
use super::slab::NIL;
use crate::ids::{Conn, Handle, Peer, Slot};
use crate::ring::slot_of;
use crate::rtm::{Fault, event};
use crate::shard::{Budget, Counter};
use crate::wire::Message;
use crate::wire::room::{Credit, Room};

/// The presence shards. Per shard.
#[derive(Debug, Default)]
pub(super) struct Keepers {
    by_peer: FxHashMap<Peer, Keeper>,
    /// Counts the lives of all links to them: each has a number of its own here. By the links' numbers, what one keeper was told in its
    /// third life would be taken for something that another knows, who has the user in its own third life.
    lives: u32,
    /// Open queries, by connection.
    queries: FxHashMap<u32, Query>,
}

/// What is still to come of the answers to one query.
#[derive(Clone, Copy, Debug)]
struct Query {
    left: u32,
    is_partly_unknown: bool,
}

/// One presence shard.
#[derive(Debug, Default)]
struct Keeper {
    is_up: bool,
    life: u32,
    credit: Credit,
    /// Places of people of whom something is to be said.
    unsaid: VecDeque<u32>,
    /// After the link came up: up to which place everything was said again.
    said: Option<u32>,
}

/// About what a message takes.
const WORDS_BYTES: usize = 48;
const ONE: Room = Room { messages: 1, bytes: WORDS_BYTES as u64 };
/// At most two messages are said of one person at once.
const TWO: Room = Room { messages: 2, bytes: 2 * WORDS_BYTES as u64 };
/// Places looked at for one unit of the budget.
const LOOKS_PER_UNIT: u32 = 16;

impl Gateway {
    fn keeper_of(&self, slot: Slot) -> Option<Peer> {
        Some(self.ring.as_ref()?.presence_shard(slot))
    }

    /// Something about a person changed: its presence shard is told as soon as there is room.
    pub(super) fn settle_person(&mut self, turn: &mut Turn<'_>, place: u32) {
        let peer = self.keeper_of(self.people[place].slot());
        let keeper = peer.and_then(|peer| self.keepers.by_peer.get_mut(&peer));
        match (peer, keeper.filter(|keeper| keeper.is_up)) {
            (Some(peer), Some(keeper)) => {
                let person = &mut self.people[place];
                if !person.is(Is::Queued) {
                    person.set(Is::Queued, true);
                    keeper.unsaid.push_back(place);
                }
                self.tell_keeper(turn, peer);
            }
            // It is told everything when its link comes up.
            _ => self.forget_person(place),
        }
    }

    fn forget_person(&mut self, place: u32) {
        if self.people.forget(&mut self.names, place) {
            self.forget_rejoined(place);
        }
    }

    fn tell_keeper(&mut self, turn: &mut Turn<'_>, peer: Peer) {
        loop {
            let Some(keeper) = self.keepers.by_peer.get_mut(&peer) else { return };
            let Some(&place) = keeper.unsaid.front() else { return };
            if !keeper.credit.holds(TWO) {
                return;
            }
            keeper.unsaid.pop_front();
            let person = &mut self.people[place];
            person.set(Is::Queued, false);
            person.on_life(keeper.life);
            let (slot, user, handle) = (person.slot(), person.key(), Handle(place));
            let is_online = !person.conns.is_empty();
            if is_online && (!person.is(Is::ToldOnline) || person.is(Is::Recounted)) {
                person.set(Is::ToldOnline, true);
                person.set(Is::Recounted, false);
                keeper.credit.spend(WORDS_BYTES);
                let connections = person.conns.len() as u32;
                let (manual_away, bot) = (person.is(Is::AwayByHand), person.is(Is::Bot));
                let online = Message::Online { slot, user, connections, manual_away, bot };
                turn.out.send_bulk(peer, &online);
            } else if !is_online && person.is(Is::ToldOnline) {
                person.set(Is::ToldOnline, false);
                keeper.credit.spend(WORDS_BYTES);
                turn.out.send_bulk(peer, &Message::Offline { slot, user });
            }
            let is_watched = !person.watchers.is_empty();
            if is_watched && !person.is(Is::ToldWatch) {
                person.set(Is::ToldWatch, true);
                keeper.credit.spend(WORDS_BYTES);
                turn.out.send_bulk(peer, &Message::Watch { slot, user, handle });
            } else if !is_watched && person.is(Is::ToldWatch) {
                person.unwatch();
                person.set(Is::Known, false);
                keeper.credit.spend(WORDS_BYTES);
                turn.out.send_bulk(peer, &Message::Unwatch { slot, user, handle });
            }
            self.forget_person(place);
        }
    }

    /// Says again what keepers whose link came up do not know. True: more is left, and has room.
    pub(super) fn tell_keepers_again(&mut self, turn: &mut Turn<'_>, budget: Budget) -> bool {
        let mut peers: Vec<Peer> = self
            .keepers
            .by_peer
            .iter()
            .filter(|(_, keeper)| keeper.said.is_some() && keeper.unsaid.is_empty())
            .map(|(peer, _)| *peer)
            .collect();
        peers.sort_unstable();
        let mut more = false;
        for peer in peers {
            let keeper = self.keepers.by_peer.get(&peer).expect("just listed");
            let from = keeper.said.expect("just listed");
            let upto = (from + budget.units * LOOKS_PER_UNIT).min(self.people.places());
            for place in from..upto {
                let is_its = self.people.contains(place)
                    && self.keeper_of(self.people[place].slot()) == Some(peer);
                if is_its && !self.people[place].is(Is::Queued) {
                    self.people[place].set(Is::Queued, true);
                    let keeper = self.keepers.by_peer.get_mut(&peer).expect("just listed");
                    keeper.unsaid.push_back(place);
                }
            }
            let is_left = upto < self.people.places();
            let keeper = self.keepers.by_peer.get_mut(&peer).expect("just listed");
            keeper.said = is_left.then_some(upto);
            self.tell_keeper(turn, peer);
            more |= is_left && self.keepers.by_peer[&peer].unsaid.is_empty();
        }
        more
    }

    pub(super) fn keeper_up(&mut self, peer: Peer) {
        let credit = Credit::new(self.grant);
        self.keepers.lives = self.keepers.lives.wrapping_add(1);
        let life = self.keepers.lives;
        let keeper = Keeper { is_up: true, life, credit, unsaid: VecDeque::new(), said: Some(0) };
        self.keepers.by_peer.insert(peer, keeper);
    }

    pub(super) fn keeper_room(&mut self, turn: &mut Turn<'_>, peer: Peer) {
        let grant = self.grant;
        if let Some(keeper) = self.keepers.by_peer.get_mut(&peer) {
            keeper.credit.renew(grant);
            self.tell_keeper(turn, peer);
        }
    }

    pub(super) fn keeper_lost(&mut self, peer: Peer) {
        let lost = self.keepers.by_peer.insert(peer, Keeper::default());
        for place in lost.into_iter().flat_map(|keeper| keeper.unsaid) {
            self.people[place].set(Is::Queued, false);
            self.forget_person(place);
        }
    }

    /// Users of these slots are kept by others now, who are told everything.
    pub(super) fn people_moved(&mut self, turn: &mut Turn<'_>, slots: &[Slot]) {
        let is_moved = |slot: Slot| slots.binary_search(&slot).is_ok();
        let people = &mut self.people;
        for keeper in self.keepers.by_peer.values_mut() {
            keeper.unsaid.retain(|&place| {
                let is_kept = !is_moved(people[place].slot());
                people[place].set(Is::Queued, is_kept);
                is_kept
            });
        }
        for place in 0..self.people.places() {
            if self.people.contains(place) && is_moved(self.people[place].slot()) {
                self.people[place].move_away();
                self.settle_person(turn, place);
            }
        }
    }

    /// What a presence shard says.
    pub(super) fn hear_keeper(&mut self, turn: &mut Turn<'_>, peer: Peer, message: &Message<'_>) {
        match *message {
            Message::Presence { handle, active } => {
                let place = handle.0;
                // A former keeper's word may come after the new one's.
                let is_its = self.people.contains(place)
                    && self.keeper_of(self.people[place].slot()) == Some(peer);
                if !is_its || self.people[place].watchers.is_empty() {
                    return;
                }
                let person = &mut self.people[place];
                if person.is(Is::Known) && person.is(Is::Active) == active {
                    return;
                }
                person.set(Is::Known, true);
                person.set(Is::Active, active);
                let watchers = self.lists.as_slice(&person.watchers).to_vec();
                self.tell_dot(turn, place, &watchers);
            }
            Message::Unsuback { handle } => {
                if self.people.contains(handle.0) {
                    self.people[handle.0].unwatched();
                    self.forget_person(handle.0);
                }
            }
            Message::PresenceIs { ask, .. } | Message::PresenceUnknown { ask } => {
                let active = match *message {
                    Message::PresenceIs { active, .. } => Some(active),
                    _ => None,
                };
                if let Some(Pending::Query { conn, user }) = self.asks.close(peer, ask) {
                    self.query_answered(turn, conn, &user, active);
                }
            }
            _ => turn.out.count(Counter::WireBroken),
        }
    }

    /// Tells a person's dot to connections.
    fn tell_dot(&mut self, turn: &mut Turn<'_>, place: u32, to: &[u32]) {
        let person = &self.people[place];
        let is = presence(person.is(Is::Active));
        let user: Box<str> = self.names.text(person.name()).into();
        for index in to.iter().copied() {
            let session = self.sessions.of(index);
            if session.is_greeted() {
                self.tell_users(turn, index, &[&user], is);
            }
        }
    }

    /// Tells one connection of users of whom the same is true, in the form that it understands.
    fn tell_users(&mut self, turn: &mut Turn<'_>, index: u32, users: &[&str], is: event::Presence) {
        if users.is_empty() {
            return;
        }
        turn.out.count_by(Counter::PresenceTold, users.len() as u32);
        if self.sessions.of(index).is(session::Is::BatchAware) {
            let users = users.iter().copied();
            let write = |into: &mut Vec<u8>| event::presence_changes(users, is, into);
            return self.say(turn, index, Kind::Transient, write);
        }
        for user in users {
            let write = |into: &mut Vec<u8>| event::presence_change(user, is, into);
            self.say(turn, index, Kind::Transient, write);
        }
    }

    /// Tells a connection the dots that are known of these people.
    fn tell_dots(&mut self, turn: &mut Turn<'_>, index: u32, places: &[u32]) {
        for active in [true, false] {
            let users: Vec<Box<str>> = places
                .iter()
                .map(|place| &self.people[*place])
                .filter(|person| person.is(Is::Known) && person.is(Is::Active) == active)
                .map(|person| self.names.text(person.name()).into())
                .collect();
            let users: Vec<&str> = users.iter().map(|user| &**user).collect();
            self.tell_users(turn, index, &users, presence(active));
        }
    }

    /// Dots may have been dropped in front of a connection.
    pub(super) fn tell_dots_again(&mut self, turn: &mut Turn<'_>, index: u32) {
        let places = self.lists.as_slice(&self.sessions.of(index).watches).to_vec();
        self.tell_dots(turn, index, &places);
    }

    /// Replaces the list of those whom a connection watches. `Unavailable`: by those of them for whom there is room now; the same list, said
    /// again, adds the others.
    pub(super) fn presence_sub(
        &mut self,
        turn: &mut Turn<'_>,
        index: u32,
        ids: &[&str],
    ) -> Result<(), Fault> {
        let mut outcome = Ok(());
        let mut wanted = Vec::with_capacity(ids.len());
        for id in ids {
            if id.is_empty() || id.len() > self.limits.name_bytes_max as usize {
                continue;
            }
            let (key, slot) = (self.secret.key_of(id), slot_of(id));
            match self.people.enter(&mut self.names, key, slot, id) {
                Ok(place) => wanted.push(place),
                Err(_) => {
                    turn.out.count(Counter::PresenceShed);
                    outcome = Err(Fault::Unavailable);
                }
            }
        }
        wanted.sort_unstable();
        wanted.dedup();
        let mut known = self.lists.as_slice(&self.sessions.of(index).watches).to_vec();
        known.sort_unstable();
        let is_in = |list: &[u32], place: &u32| list.binary_search(place).is_ok();
        for place in known.iter().copied().filter(|place| !is_in(&wanted, place)) {
            self.lists.remove(&mut self.sessions.at(index).watches, place);
            self.unwatch(turn, index, place);
        }
        let added: Vec<u32> = wanted.into_iter().filter(|place| !is_in(&known, place)).collect();
        for place in added.iter().copied() {
            self.lists.push(&mut self.sessions.at(index).watches, place);
            self.lists.push(&mut self.people[place].watchers, index);
            self.settle_person(turn, place);
        }
        // Of the others the presence shard will tell.
        self.tell_dots(turn, index, &added);
        outcome
    }

    fn unwatch(&mut self, turn: &mut Turn<'_>, index: u32, place: u32) {
        self.lists.remove(&mut self.people[place].watchers, index);
        self.settle_person(turn, place);
    }

    pub(super) fn unwatch_all(&mut self, turn: &mut Turn<'_>, index: u32) {
        while let Some(place) = self.lists.pop(&mut self.sessions.at(index).watches) {
            self.unwatch(turn, index, place);
        }
        self.keepers.queries.remove(&index);
    }

    /// Tells a connection the dots of users, once.
    pub(super) fn presence_query(
        &mut self,
        turn: &mut Turn<'_>,
        conn: Conn,
        ids: &[&str],
    ) -> Result<(), Fault> {
        let index = conn.index();
        if self.sessions.of(index).is(session::Is::Querying) {
            return Err(Fault::StillAsking);
        }
        let (mut known, mut asked) = (Vec::new(), 0);
        for id in ids {
            let key = self.secret.key_of(id);
            let place = self.people.find(key).filter(|place| self.people[*place].is(Is::Known));
            match place {
                Some(place) => known.push(place),
                None => asked += u32::from(self.ask_keeper(turn, conn, id)),
            }
        }
        self.tell_dots(turn, index, &known);
        if asked > 0 {
            self.sessions.at(index).set(session::Is::Querying, true);
            self.keepers.queries.insert(index, Query { left: asked, is_partly_unknown: false });
        }
        if asked as usize + known.len() == ids.len() { Ok(()) } else { Err(Fault::Unavailable) }
    }

    /// Asks for one dot. False: that is not possible now.
    fn ask_keeper(&mut self, turn: &mut Turn<'_>, conn: Conn, id: &str) -> bool {
        let (slot, user) = (slot_of(id), self.secret.key_of(id));
        let Some(peer) = self.keeper_of(slot) else { return false };
        let keeper = self.keepers.by_peer.get_mut(&peer).filter(|keeper| keeper.is_up);
        let Some(keeper) = keeper.filter(|keeper| keeper.credit.holds(ONE)) else { return false };
        let due = turn.now.mono + self.limits.ask_timeout;
        let pending = Pending::Query { conn, user: id.into() };
        let Ok(ask) = self.asks.open(peer, due, pending) else { return false };
        // Only for what is sent: `PeerRoom` comes of nothing else.
        keeper.credit.spend(WORDS_BYTES);
        turn.out.send_bulk(peer, &Message::PresenceQuery { ask, slot, user });
        true
    }

    /// The answer for one user of a query; none: nobody knows.
    pub(super) fn query_answered(
        &mut self,
        turn: &mut Turn<'_>,
        conn: Conn,
        user: &str,
        active: Option<bool>,
    ) {
        if !self.sessions.is_live(conn) || !self.sessions.of(conn.index()).is_greeted() {
            return;
        }
        let index = conn.index();
        if let Some(active) = active {
            self.tell_users(turn, index, &[user], presence(active));
        }
        let Some(query) = self.keepers.queries.get_mut(&index) else { return };
        query.left -= 1;
        query.is_partly_unknown |= active.is_none();
        let Query { left, is_partly_unknown } = *query;
        if left > 0 {
            return;
        }
        self.keepers.queries.remove(&index);
        self.sessions.at(index).set(session::Is::Querying, false);
        if is_partly_unknown {
            // Once, however many they are: of whom nothing was said, nothing is known.
            self.say_fault(turn, index, Fault::Unavailable);
        }
    }

    /// The user of a connection did something.
    pub(super) fn note_activity(&mut self, turn: &mut Turn<'_>, index: u32) {
        let (place, second) = (self.sessions.of(index).person, turn.second());
        if place == NIL {
            return;
        }
        // Often enough that nobody who is active falls away in between.
        let interval = self.limits.activity_interval.min(self.limits.away_after / 4);
        let person = &mut self.people[place];
        if person.is(Is::Bot) || second < person.active_s + interval.as_secs() as u32 {
            return;
        }
        person.active_s = second;
        let (slot, user) = (person.slot(), person.key());
        if let Some(peer) = self.keeper_of(slot) {
            turn.out.send_transient(peer, &Message::Active { slot, user });
        }
    }
}

fn presence(active: bool) -> event::Presence {
    if active { event::Presence::Active } else { event::Presence::Away }
}
