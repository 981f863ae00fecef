//! Recover and go live, exactly: what a subscription lacks is decided when its channel's tip is known, gathered from pages, and told in its reply.

use super::alive::{now_s, ttl};
use super::join::{Join, Since};
use crate::centrifuge::code::{Fault, Unsubscribed};
use crate::centrifuge::message::{Publication, Reply, SubscribeResult};
use crate::centrifuge::rules::Rules;
use crate::centrifuge::{payload, push};
use crate::gateway::behind::Claim;
use crate::gateway::deliver::Event;
use crate::gateway::session::{Dialect, State};
use crate::gateway::shard::{Gateway, Turn};
use crate::gateway::slab::NIL;
use crate::wire::Membership;

/// What a publication of a reply takes besides its payload: its offset and the words of JSON.
const WORDS_BYTES: usize = 48;

impl Gateway {
    /// Whether a subscription that is not decided claims more of this life of the channel than the hub has. A client that comes from another
    /// gateway may be ahead of this one, by a link's delay, or for as long as the owner cannot be reached from here: the owner knows, and
    /// what it says comes behind all that the hub lacks.
    pub(in crate::gateway) fn claims_more(&self, index: u32, place: u32, tip: u64) -> bool {
        let Some(join) = self.guests.joins.0.get(&(index, place)) else { return false };
        let is_more = |since: &Since| {
            !since.is_cache
                && since.offset > tip.max(join.admitted)
                && *since.epoch == *self.epoch_text(place)
        };
        !join.owner_was_asked && join.since.as_ref().is_some_and(is_more)
    }

    /// The hub is as far as the owner was when it was asked: who claims more claims what is not so.
    pub(in crate::gateway) fn owner_was_asked(&mut self, index: u32, place: u32) {
        if let Some(join) = self.guests.joins.0.get_mut(&(index, place)) {
            join.owner_was_asked = true;
        }
    }

    /// The channel's tip is known: what a new subscription lacks. Afterwards the record is like any other.
    pub(in crate::gateway) fn decide(&mut self, index: u32, record: u32, tip: u64) {
        let place = self.behind.record(record).place;
        let epoch = self.epoch_text(place);
        let one = self.behind.record(record);
        (one.claim, one.cursor) = (Claim::Begun, tip);
        let Some(join) = self.guests.joins.0.get_mut(&(index, place)) else { return };
        // The hub may not have come so far.
        let tip = tip.max(join.admitted);
        // That its user left after it was let in is found among what came since, wherever the hub and the client stand.
        let is_conversation = !Rules::is_memory(self.names.text(self.hub.name(place)));
        let from = if is_conversation { join.admitted } else { tip };
        one.cursor = from;
        let Some(since) = &join.since else { return };
        let is_same = since.epoch.is_empty() || *since.epoch == *epoch;
        if since.is_cache {
            let has_newest = is_same && since.offset == tip && tip > 0;
            join.is_unrecovered = tip == 0 && !(is_same && since.offset == 0);
            one.cursor = if has_newest { tip } else { tip.saturating_sub(1) };
            return;
        }
        match tip.checked_sub(since.offset) {
            Some(lacks) if is_same && lacks <= u64::from(since.count_max) => {
                one.cursor = since.offset.min(from);
            }
            _ => join.is_unrecovered = true,
        }
    }

    /// An event of a page for a subscription that is not answered yet. False: it is.
    pub(in crate::gateway) fn gather(&mut self, index: u32, place: u32, event: &Event<'_>) -> bool {
        // The reply fits an outbox, and what clients take for one frame (T13).
        let bytes_max = self.limits.guest_outbox_bytes_max as usize / 2;
        if !self.guests.joins.0.contains_key(&(index, place)) {
            return false;
        }
        let tags = self.guests.filters.tags_of(place, event.payload);
        let passes = self.guests.filters.passes(tags.as_ref(), index);
        let user: Box<str> = self.guest_user(index).into();
        let user = &*user;
        let Some(join) = self.guests.joins.0.get_mut(&(index, place)) else { return false };
        join.bytes += event.payload.len() + WORDS_BYTES;
        let is_json = self.sessions.of(index).dialect == Dialect::Json;
        let publication = if Rules::is_memory(self.names.text(self.hub.name(place))) {
            payload::read(event.payload, event.offset, is_json)
        } else {
            let (data, offset) = (event.payload.to_vec(), event.offset);
            Some(Publication { data, offset, ..Publication::default() })
        };
        let leaves = event.member.is_some_and(|member| {
            member.what == Membership::Left && member.user == user && member.offset > join.admitted
        });
        join.has_left |= leaves;
        // Who asked for no past is given none, and nobody what it has.
        let is_asked_for = |since: &Since| since.is_cache || event.offset > since.offset;
        if !passes || !join.since.as_ref().is_some_and(is_asked_for) {
            return true;
        }
        match publication {
            Some(publication) if !join.is_unrecovered && join.bytes <= bytes_max => {
                join.publications.push(publication);
            }
            _ => join.lose(),
        }
        true
    }

    /// Something that a subscription lacks cannot be had. False: it is answered already, and must begin anew.
    pub(in crate::gateway) fn lose(&mut self, index: u32, place: u32) -> bool {
        let join = self.guests.joins.0.get_mut(&(index, place));
        join.map(Join::lose).is_some()
    }

    /// Something that is no JSON was published in a channel of somebody who speaks JSON.
    pub(in crate::gateway) fn note_unfit(&mut self, index: u32, place: u32) {
        self.guests.unfit.push((index, place));
    }

    /// Ends such subscriptions, for good: silence would be a loss, and the end of the connection a weapon (T22).
    pub(in crate::gateway) fn end_unfit(&mut self, turn: &mut Turn<'_>) {
        while let Some((index, place)) = self.guests.unfit.pop() {
            if self.hub.contains(place) && self.hub.member(place, index).is_some() {
                self.push_unsubscribed(turn, index, place, Unsubscribed::Unfit);
            }
        }
    }

    /// The channel has a new life: where a subscription stands that is not answered yet is decided again. False: it is answered.
    pub(in crate::gateway) fn begin_anew(&mut self, index: u32, place: u32) -> bool {
        let Some(join) = self.guests.joins.0.get_mut(&(index, place)) else { return false };
        join.publications.clear();
        join.bytes = 0;
        let at = self.sessions.of(index).catching;
        if at != NIL
            && let Some(record) = self.behind.find(at, place, None)
        {
            self.behind.record(record).claim = Claim::Fresh;
        }
        true
    }

    /// A subscription stands at the hub's tip.
    pub(in crate::gateway) fn say_joined(&mut self, turn: &mut Turn<'_>, index: u32, place: u32) {
        let Some(join) = self.guests.joins.0.remove(&(index, place)) else { return };
        if self.sessions.find(join.conn).is_none_or(|session| session.state != State::Active) {
            return;
        }
        if join.has_left {
            self.unfollow(turn, index, place);
            return self.fail(turn, index, join.id, Fault::PermissionDenied);
        }
        if join.is_unrecovered && join.is_strict {
            self.unfollow(turn, index, place);
            return self.fail(turn, index, join.id, Fault::UnrecoverablePosition);
        }
        let tip = self.hub.tip(place).expect("a live channel has a tip");
        let (was_recovering, recovered) = (join.since.is_some(), !join.is_unrecovered);
        let recovered = was_recovering && recovered;
        // Clients go on from here by what they are given; what a filter keeps back, and what nobody wants, they have seen.
        let is_filtered = self.guests.filters.contains(index, place);
        let offset = match &join.since {
            Some(since) if recovered && !is_filtered && !since.is_cache => since.offset,
            Some(_) if recovered && !is_filtered => tip - join.publications.len() as u64,
            _ => tip,
        };
        let framing = self.sessions.of(index).dialect.framing().expect("a guest has a framing");
        let publications = join.publications.into_iter().map(|publication| {
            if join.takes_deltas { push::as_text(framing, publication) } else { publication }
        });
        if join.takes_deltas {
            self.guests.deltas.join(index, place);
        }
        let result = SubscribeResult {
            recoverable: join.is_recoverable,
            positioned: join.is_positioned,
            epoch: if join.is_positioned { self.epoch_text(place) } else { String::new() },
            offset: if join.is_positioned { offset } else { 0 },
            was_recovering,
            recovered,
            publications: publications.collect(),
            delta: join.takes_deltas,
            data: join.data,
            expires: join.expires_s.is_some(),
            ttl: ttl(join.expires_s, now_s(turn)),
        };
        self.set_sub_expiry(turn, index, place, join.expires_s);
        if join.id == 0 {
            let inside = self.names.text(self.hub.name(place));
            let channel = Rules::outside(inside).into_owned();
            self.entered(turn, index, place);
            if self.guests.is_connecting(index) {
                return self.joined_by_us(index, channel, result);
            }
            return self.push_subscribed(turn, index, place, result);
        }
        let reply = Reply { id: join.id, subscribe: Some(result), ..Reply::default() };
        self.answer(turn, index, reply);
        self.entered(turn, index, place);
    }
}

impl Join {
    fn lose(&mut self) {
        self.is_unrecovered = true;
        self.publications.clear();
    }
}
