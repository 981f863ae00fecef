//! Connections that lack something: what each is given of the past, channel by channel, in order and paced.
//!
//! Every subscription of a connection that does not stand at its hub's tip has a record. The first that can go on is fetched page by page, up
//! to the ticket's offset, and what came since in turn with the others; with the page that says "complete" the subscription stands at the tip,
//! and the next live event is its next.

use super::asks::Pending;
use super::behind::{Claim, Phase};
use super::deliver::Event;
use super::hub::State as HubState;
use super::members::Member;
use super::outbox::Kind;
use super::session::{Dialect, State};
use super::shard::{Gateway, Turn};
use super::slab::NIL;
use crate::centrifuge::code::Unsubscribed;
use crate::ids::Conn;
use crate::rtm::event;
use crate::shard::Counter;
use crate::wire::Message;

impl Gateway {
    /// The catch-up of a connection, begun if there is none.
    pub(super) fn catching_of(&mut self, index: u32) -> u32 {
        let session = self.sessions.at(index);
        if session.catching == NIL {
            session.catching = self.behind.begin(Phase::Ready);
        }
        session.catching
    }

    pub(super) fn end_catch_up(&mut self, index: u32) {
        let at = std::mem::replace(&mut self.sessions.at(index).catching, NIL);
        if at != NIL {
            self.behind.end(at);
        }
    }

    /// Does what can be done now for a connection's catch-up.
    pub(super) fn catch_up(&mut self, turn: &mut Turn<'_>, index: u32) {
        let at = self.sessions.of(index).catching;
        if at == NIL || self.behind.catching(at).phase != Phase::Ready {
            return;
        }
        let mut first_stuck = None;
        while let Some(record) = self.behind.first_idle(at) {
            if first_stuck == Some(record) || !self.may_fetch(turn, at) {
                return;
            }
            if self.step(turn, index, record) {
                continue;
            }
            if self.sessions.of(index).catching != at
                || self.behind.catching(at).phase != Phase::Ready
            {
                return;
            }
            if !self.behind.record(record).is_asked {
                first_stuck = first_stuck.or(Some(record));
                self.behind.rotate(at, record);
            }
        }
        if self.behind.first(at).is_none() {
            self.end_catch_up(index);
        }
    }

    /// A record of a connection. True: it is done. False: it waits for something; others may go on if the phase is `Ready`.
    fn step(&mut self, turn: &mut Turn<'_>, index: u32, record: u32) -> bool {
        let place = self.behind.record(record).place;
        if self.behind.record(record).claim == Claim::Void {
            let one = self.behind.record(record);
            let floor = one.cursor;
            (one.claim, one.bound) = (Claim::Sound, floor);
            if floor > 0 {
                self.tell_gap(turn, index, place, 1, floor);
            }
        }
        if self.hub.state(place) != HubState::Live {
            return false;
        }
        let tip = self.hub.tip(place).expect("a live channel has a tip");
        if self.behind.record(record).claim == Claim::Fresh {
            if self.claims_more(index, place, tip) {
                self.behind.record(record).cursor = tip;
                self.fetch(turn, index, record);
                return false;
            }
            self.decide(index, record, tip);
        }
        let one = *self.behind.record(record);
        if one.claim == Claim::Asked {
            // The answer says whether there is a gap to be told first.
            return false;
        }
        if one.claim == Claim::Above {
            if one.bound > tip {
                self.hub.set_flags(place, index, Member::AHEAD, true);
                self.ask_tip(turn, index, record);
                return false;
            }
            self.behind.record(record).claim = Claim::Proven;
        }
        if one.cursor < tip {
            self.begin_replay(turn, index, record, tip);
            if self.behind.record(record).cursor < tip {
                self.fetch(turn, index, record);
                return false;
            }
        }
        if self.behind.record(record).ends() > tip {
            // The hub has not come so far: it will, and until then each of its events is looked at for this connection.
            self.hub.set_flags(place, index, Member::AHEAD, true);
            return false;
        }
        self.go_live(turn, index, place);
        true
    }

    /// What is too old for a replay is told as a gap, once. Nothing since the ticket is ever too old.
    fn begin_replay(&mut self, turn: &mut Turn<'_>, index: u32, record: u32, tip: u64) {
        let one = *self.behind.record(record);
        if one.claim != Claim::Sound {
            return;
        }
        let at = self.sessions.of(index).catching;
        let left =
            self.limits.replay_per_conn_max.saturating_sub(self.behind.catching(at).replayed);
        let allowed = u64::from(left.min(self.limits.replay_per_channel_max));
        let upto = tip.saturating_sub(allowed).min(one.bound);
        let one = self.behind.record(record);
        one.claim = Claim::Begun;
        let (from, place) = (one.cursor + 1, one.place);
        one.cursor = one.cursor.max(upto);
        // The rest is kept for it: others may begin before it is given.
        let rest = one.bound.saturating_sub(one.cursor);
        let catching = self.behind.catching(at);
        catching.replayed =
            catching.replayed.saturating_add(u32::try_from(rest).unwrap_or(u32::MAX));
        if upto >= from {
            self.tell_gap(turn, index, place, from, upto);
        }
    }

    fn go_live(&mut self, turn: &mut Turn<'_>, index: u32, place: u32) {
        self.behind.remove(self.sessions.of(index).catching, place);
        self.hub.set_flags(place, index, Member::BEHIND | Member::AHEAD, false);
        self.say_joined(turn, index, place);
    }

    /// A client claims to hold more than we know of: the source knows.
    fn ask_tip(&mut self, turn: &mut Turn<'_>, index: u32, record: u32) {
        let conn = self.sessions.conn(self.me.core, index);
        let place = self.behind.record(record).place;
        let due = turn.now.mono + self.limits.ask_timeout;
        let is_up = self.desk_is_up;
        match self.asks.open(self.desk, due, Pending::Tip { conn, place }) {
            Ok(ask) if is_up => {
                self.behind.record(record).claim = Claim::Asked;
                let name = self.names.text(self.hub.name(place));
                turn.out.send(self.desk, &Message::Tip { ask, name });
            }
            Ok(ask) => {
                self.asks.close(self.desk, ask);
                self.pause(turn, conn);
            }
            Err(_) => self.pause(turn, conn),
        }
    }

    /// How far a channel is, in which a client claims to be further than we know.
    pub(super) fn tip_is(&mut self, turn: &mut Turn<'_>, conn: Conn, place: u32, tip: u64) {
        let Some((index, record)) = self.record_of(conn, place) else { return };
        let one = self.behind.record(record);
        if one.claim != Claim::Asked {
            return;
        }
        one.claim = if one.bound <= tip { Claim::Proven } else { Claim::Void };
        self.catch_up(turn, index);
    }

    /// The question for a tip has no answer: it is asked again.
    pub(super) fn tip_unknown(&mut self, turn: &mut Turn<'_>, conn: Conn, place: u32) {
        if let Some((_, record)) = self.record_of(conn, place) {
            let one = self.behind.record(record);
            if one.claim == Claim::Asked {
                one.claim = Claim::Above;
            }
            self.pause(turn, conn);
        }
    }

    pub(super) fn record_of(&mut self, conn: Conn, place: u32) -> Option<(u32, u32)> {
        let at = self.sessions.find(conn)?.catching;
        if at == NIL {
            return None;
        }
        Some((conn.index(), self.behind.find(at, place, None)?))
    }

    // ---- waiting

    /// A connection's catch-up goes on after a pause.
    pub(super) fn pause(&mut self, turn: &mut Turn<'_>, conn: Conn) {
        let Some(at) = self.sessions.find(conn).map(|session| session.catching) else { return };
        // Who waits for room goes on with that.
        if at != NIL && self.behind.catching(at).phase == Phase::Ready {
            self.behind.catching(at).phase = Phase::Paused;
            self.timers.paces.push(turn.now.mono + self.limits.catch_up_interval, conn);
        }
    }

    /// The pause is over.
    pub(super) fn go_on(&mut self, turn: &mut Turn<'_>, conn: Conn) {
        if self.sessions.is_live(conn) {
            self.go_on_from(turn, conn.index(), Phase::Paused);
        }
    }

    /// There may be room now.
    pub(super) fn has_room(&mut self, turn: &mut Turn<'_>, index: u32) {
        self.go_on_from(turn, index, Phase::Crowded);
    }

    fn go_on_from(&mut self, turn: &mut Turn<'_>, index: u32, phase: Phase) {
        let at = self.sessions.of(index).catching;
        if at != NIL && self.behind.catching(at).phase == phase {
            self.behind.catching(at).phase = Phase::Ready;
            self.catch_up(turn, index);
        }
    }

    /// A channel is live, or further than it was: whoever waits for that goes on.
    pub(super) fn wake_behind(&mut self, turn: &mut Turn<'_>, place: u32) {
        let waiting: Vec<u32> = self
            .hub
            .members(place)
            .filter(|member| member.is_behind())
            .map(Member::index)
            .collect();
        for index in waiting {
            let at = self.sessions.of(index).catching;
            if at == NIL || self.behind.catching(at).phase == Phase::Held {
                continue;
            }
            let tip = self.hub.tip(place);
            let stands = self.behind.find(at, place, None).map(|record| {
                let one = self.behind.record(record);
                (one.cursor, one.ends(), one.claim)
            });
            match stands {
                // Most stand at the tip when it becomes known.
                Some((cursor, ends, Claim::Sound | Claim::Begun))
                    if Some(cursor) == tip && ends == cursor =>
                {
                    self.go_live(turn, index, place);
                    if self.behind.first(at).is_none() {
                        self.end_catch_up(index);
                    }
                }
                Some(_) => self.catch_up(turn, index),
                None => {}
            }
        }
    }

    /// The hub's next event, for a connection that stands at its tip, but ahead of it in some way. Whether it lacks the event.
    pub(super) fn comes_near(&mut self, index: u32, place: u32, offset: u64) -> bool {
        let at = self.sessions.of(index).catching;
        let Some(record) = self.behind.find(at, place, None) else { return false };
        let one = self.behind.record(record);
        offset == one.cursor + 1 && one.held() < offset && one.claim != Claim::Void
    }

    /// The same event, after it was given to who lacks it.
    pub(super) fn came_near(
        &mut self,
        turn: &mut Turn<'_>,
        index: u32,
        place: u32,
        event: &Event<'_>,
    ) {
        let at = self.sessions.of(index).catching;
        if at == NIL {
            // Closed by what it was given.
            return;
        }
        let Some(record) = self.behind.find(at, place, None) else { return };
        let one = self.behind.record(record);
        // Who claimed what is not so is told a gap first, and goes on from there.
        if event.offset == one.cursor + 1 && one.claim != Claim::Void {
            let moves = one.moves(event.offset);
            one.cursor = event.offset;
            if let Some(member) = event.member.filter(|_| moves) {
                self.moved(turn, index, place, &member);
            }
        }
        // It may have been closed, or have left, by that event.
        if self.sessions.of(index).catching != at || self.behind.find(at, place, None).is_none() {
            return;
        }
        let one = self.behind.record(record);
        let is_here = one.cursor == event.offset && one.ends() == event.offset;
        if is_here && matches!(one.claim, Claim::Sound | Claim::Begun | Claim::Proven) {
            self.go_live(turn, index, place);
            if self.behind.first(at).is_none() && self.behind.catching(at).phase != Phase::Held {
                self.end_catch_up(index);
            }
        }
    }

    // ---- gaps

    pub(super) fn tell_gap(
        &mut self,
        turn: &mut Turn<'_>,
        index: u32,
        place: u32,
        from: u64,
        to: u64,
    ) {
        turn.out.count(Counter::GapsTold);
        if self.sessions.of(index).dialect != Dialect::Rtm {
            // Its reply says so, or it subscribes again and is told then.
            if !self.lose(index, place) {
                self.push_unsubscribed(turn, index, place, Unsubscribed::InsufficientState);
            }
            return;
        }
        let name: Box<str> = self.names.text(self.hub.name(place)).into();
        self.say(turn, index, Kind::Durable, |into| event::gap(&name, from, to, into));
    }

    /// A gap for everybody who stands at the hub's tip.
    pub(super) fn tell_gap_of(&mut self, turn: &mut Turn<'_>, place: u32, from: u64, to: u64) {
        let here: Vec<u32> = self
            .hub
            .members(place)
            .filter(|member| !member.is_behind())
            .map(Member::index)
            .collect();
        for index in here {
            debug_assert!(self.sessions.of(index).state != State::Vacant);
            self.tell_gap(turn, index, place, from, to);
        }
    }
}
