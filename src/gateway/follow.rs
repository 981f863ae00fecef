//! Which connection follows which channel: from boots, and from the events by which users come and go.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::behind::Phase;
use super::hub::{Left, State as HubState};
use super::members::Member;
use super::shard::{Gateway, Turn};
use super::slab::NIL;
use crate::ids::{Conn, Key};
use crate::ring::slot_of;
use crate::rtm::Fault;
use crate::wire::{self, Membership};

/// Users who came back into a channel before we saw that they had left it: by person and place in the hub, at which offset. The higher
/// offset wins, so that the leaving which is still to come changes nothing.
#[derive(Debug, Default)]
pub(super) struct Rejoined(FxHashMap<(u32, u32), u64>);

/// More are looked through for those that are past.
const REJOINED_MAX: usize = 4_096;

/// Who left what by which event, the latest only. The joining before it may be heard of later, in the user's own channel, and would begin
/// anew what was already given up to its end.
#[derive(Debug, Default)]
pub(super) struct Departed(VecDeque<(Conn, Key, u64)>);

/// Joinings are late by a link's delay, or by a catch-up: of older leavings they came long ago.
const DEPARTED_MAX: usize = 1_024;

impl Departed {
    fn note(&mut self, conn: Conn, channel: Key, offset: u64) {
        if self.0.len() >= DEPARTED_MAX {
            self.0.pop_front();
        }
        self.0.push_back((conn, channel, offset));
    }
    fn is_later(&self, conn: Conn, channel: Key, joined: u64) -> bool {
        self.0.iter().any(|(who, what, left)| *who == conn && *what == channel && *left > joined)
    }
}

impl Gateway {
    /// A connection follows a channel from behind `position` on. Membership events up to `floor` are old.
    pub(super) fn follow(
        &mut self,
        turn: &mut Turn<'_>,
        index: u32,
        name: &str,
        position: u64,
        floor: u64,
    ) -> Result<(), Fault> {
        let (key, slot) = (self.secret.key_of(name), slot_of(name));
        let session = self.sessions.of(index);
        if session.channels.len() >= self.limits.subscriptions_max as usize {
            return Err(Fault::TooManyChannels);
        }
        let joined = self
            .hub
            .join(&mut self.names, key, slot, name, Member::new(index, 0))
            .map_err(|_| Fault::Unavailable)?;
        let place = joined.place;
        if joined.is_new {
            self.say_of(turn, place);
        }
        if !joined.was_added {
            return Ok(());
        }
        self.lists.push(&mut self.sessions.at(index).channels, place);
        let at = self.sessions.of(index).catching;
        let is_held = at != NIL && self.behind.catching(at).phase == Phase::Held;
        let is_live = self.hub.state(place) == HubState::Live;
        if !is_held && is_live && self.hub.tip(place) == Some(position) {
            return Ok(());
        }
        let at = self.catching_of(index);
        if self.behind.add(at, place, position, floor).is_err() {
            return Err(Fault::Unavailable);
        }
        self.hub.set_flags(place, index, Member::BEHIND, true);
        Ok(())
    }

    /// A connection follows a channel no more.
    pub(super) fn unfollow(&mut self, turn: &mut Turn<'_>, index: u32, place: u32) {
        self.lists.remove(&mut self.sessions.at(index).channels, place);
        let at = self.sessions.of(index).catching;
        if at != NIL {
            self.behind.remove(at, place);
        }
        self.leave(turn, index, place);
    }

    /// A session leaves all of its channels; its catch-up was ended before.
    pub(super) fn leave_all(&mut self, turn: &mut Turn<'_>, index: u32) {
        while let Some(place) = self.lists.pop(&mut self.sessions.at(index).channels) {
            self.leave(turn, index, place);
        }
    }

    fn leave(&mut self, turn: &mut Turn<'_>, index: u32, place: u32) {
        self.exits(turn, index, place);
        self.guests.forget(index, place);
        if self.hub.leave(place, index) == Left::Last {
            self.lapses.forget(place);
            if !self.rejoined.0.is_empty() {
                self.rejoined.0.retain(|(_, other), _| *other != place);
            }
            self.say_of(turn, place);
        }
    }

    /// Somebody came or went with an event that this connection was given, or had already.
    pub(super) fn moved(
        &mut self,
        turn: &mut Turn<'_>,
        index: u32,
        place: u32,
        member: &wire::Member<'_>,
    ) {
        let person = self.sessions.of(index).person;
        if person == NIL || self.names.text(self.people[person].name()) != member.user {
            return;
        }
        match member.what {
            Membership::Joined => self.joined(turn, index, person, member),
            Membership::Left => {
                // The higher offset wins.
                let back = self.rejoined.0.get(&(person, place));
                if back.is_none_or(|offset| *offset < member.offset) {
                    let conn = self.sessions.conn(self.me.core, index);
                    self.departed.note(conn, self.hub.key(place), member.offset);
                    self.unfollow(turn, index, place);
                }
            }
        }
    }

    fn joined(&mut self, turn: &mut Turn<'_>, index: u32, person: u32, member: &wire::Member<'_>) {
        let (offset, key) = (member.offset, self.secret.key_of(member.channel));
        if self.departed.is_later(self.sessions.conn(self.me.core, index), key, offset) {
            return;
        }
        let place = self.hub.find(key);
        let known = place.filter(|place| self.hub.member(*place, index).is_some());
        let at = self.sessions.of(index).catching;
        if let Some(place) = known
            && at != NIL
            && let Some(record) = self.behind.find(at, place, None)
        {
            self.behind.record(record).joined(offset);
            return;
        }
        let outcome = match known {
            None => self.follow(turn, index, member.channel, offset, offset),
            Some(place) if self.hub.tip(place).is_none_or(|tip| tip < offset) => {
                self.rejoin(person, place, offset)
            }
            Some(_) => Ok(()),
        };
        match outcome {
            Ok(()) => self.catch_up(turn, index),
            Err(fault) => {
                self.say_fault(turn, index, fault);
                self.hang_up(turn, index, crate::websocket::close::TRY_AGAIN, fault.text());
            }
        }
    }

    /// Notes that the user is in the channel from `offset` on, whatever is heard of earlier offsets.
    fn rejoin(&mut self, person: u32, place: u32, offset: u64) -> Result<(), Fault> {
        if self.rejoined.0.len() >= REJOINED_MAX {
            let hub = &self.hub;
            self.rejoined
                .0
                .retain(|(_, place), offset| hub.tip(*place).is_none_or(|tip| tip < *offset));
            if self.rejoined.0.len() >= REJOINED_MAX {
                // Whoever comes back anew is told everything in order.
                return Err(Fault::Unavailable);
            }
        }
        let known = self.rejoined.0.entry((person, place)).or_default();
        *known = offset.max(*known);
        Ok(())
    }

    /// The place of a person is free for somebody else.
    pub(super) fn forget_rejoined(&mut self, person: u32) {
        if !self.rejoined.0.is_empty() {
            self.rejoined.0.retain(|(other, _), _| *other != person);
        }
    }
}
