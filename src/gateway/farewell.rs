//! The end of connections: goodbye and its window, Close and its code, and everything that is let go with a session.

use super::asks::Pending;
use super::outbox::Kind;
use super::session::{Dialect, Is, State};
use super::shard::{Gateway, Turn};
use crate::centrifuge::code::Disconnect;
use crate::ids::Conn;
use crate::rtm::event;
use crate::shard::{Budget, Effect};
use crate::time::Mono;
use crate::websocket::handshake::Refusal;
use crate::websocket::{close, writer};
use crate::wire::Message;

/// The end of the node, as far as it has come. Per shard.
#[derive(Debug, Default)]
pub(super) struct Farewell {
    /// When all connections are closed.
    until: Option<Mono>,
    /// Up to which index goodbye was said.
    said: Option<u32>,
}

impl Farewell {
    pub(super) fn is_begun(&self) -> bool {
        self.until.is_some()
    }
    pub(super) fn deadline(&self) -> Option<Mono> {
        self.until
    }
}

/// Connections looked at for one unit of the budget.
const LOOKS_PER_UNIT: u32 = 16;

impl Gateway {
    /// The node goes down: goodbye to everybody, and Close when the window is over.
    pub(super) fn drain(&mut self, _turn: &mut Turn<'_>, until: Mono) {
        if !self.farewell.is_begun() {
            self.farewell = Farewell { until: Some(until), said: Some(0) };
        }
    }

    /// True: more is left.
    pub(super) fn say_goodbyes(&mut self, turn: &mut Turn<'_>, budget: Budget) -> bool {
        let Some(from) = self.farewell.said else { return false };
        let upto = from.saturating_add(budget.units * LOOKS_PER_UNIT).min(self.sessions.indexes());
        for index in from..upto {
            let session = self.sessions.at(index);
            // Guests know no goodbye: they go on until the end of the window.
            let is_told = session.dialect == Dialect::Rtm && session.is_greeted();
            if is_told && !session.is(Is::Leaving) {
                session.set(Is::Leaving, true);
                self.goodbye(turn, index);
            }
        }
        self.farewell.said = (upto < self.sessions.indexes()).then_some(upto);
        self.farewell.said.is_some()
    }

    /// After the window of a drain.
    pub(super) fn end_drain(&mut self, turn: &mut Turn<'_>) {
        if self.farewell.until.is_none_or(|until| until > turn.now.mono) {
            return;
        }
        self.farewell.until = None;
        // Whoever comes late is not let in: the farewell has begun for ever.
        self.farewell.said = None;
        for index in 0..self.sessions.indexes() {
            match self.sessions.of(index).state {
                State::Vacant | State::Closing => {}
                State::Upgrading => self.refuse(turn, index, Refusal::Unavailable),
                _ if self.sessions.of(index).dialect != Dialect::Rtm => {
                    self.disconnect(turn, index, Disconnect::Shutdown);
                }
                _ => self.hang_up(turn, index, close::GOING_AWAY, "going away"),
            }
        }
    }

    /// A connection is old: it is told where to go on, goodbye, and closed when the window is over.
    pub(super) fn say_goodbye_to_the_old(&mut self, turn: &mut Turn<'_>, index: u32) {
        let conn = self.sessions.conn(self.me.core, index);
        self.sessions.at(index).set(Is::Leaving, true);
        // Here again is not where it is to go when the region drains.
        if self.url.is_none() || !self.desk_is_up || self.departure.is_begun() {
            return self.goodbye_without_url(turn, conn);
        }
        let due = turn.now.mono + self.limits.ask_timeout;
        let Ok(ask) = self.asks.open(self.desk, due, Pending::Renew { conn }) else {
            return self.goodbye_without_url(turn, conn);
        };
        let session = self.sessions.of(index);
        let flags =
            if session.is(Is::BatchAware) { crate::wire::message::boot::BATCH_PRESENCE } else { 0 };
        let token = session.token();
        let user = self.names.text(self.people[session.person].name());
        turn.out.send(self.desk, &Message::Renew { ask, user, token, flags });
    }

    /// The ticket for the next connection.
    pub(super) fn renewed(&mut self, turn: &mut Turn<'_>, conn: Conn, path: &str) {
        if !self.sessions.is_live(conn) || !self.sessions.of(conn.index()).is_greeted() {
            return;
        }
        if let Some(url) = self.url.as_deref().filter(|_| !self.departure.is_begun()) {
            let url = format!("{url}{path}");
            let write = |into: &mut Vec<u8>| event::reconnect_url(&url, into);
            self.say(turn, conn.index(), Kind::Durable, write);
        }
        self.goodbye_without_url(turn, conn);
    }

    pub(super) fn goodbye_without_url(&mut self, turn: &mut Turn<'_>, conn: Conn) {
        if self.sessions.is_live(conn) && self.sessions.of(conn.index()).is_greeted() {
            self.goodbye(turn, conn.index());
            self.timers.goodbyes.push(turn.now.mono + self.limits.goodbye_window, conn);
        }
    }

    pub(super) fn goodbye(&mut self, turn: &mut Turn<'_>, index: u32) {
        self.say(turn, index, Kind::Durable, |into| into.extend_from_slice(event::GOODBYE));
    }

    /// No upgrade: an HTTP answer, and the end.
    pub(super) fn refuse(&mut self, turn: &mut Turn<'_>, index: u32, refusal: Refusal) {
        self.append_bytes(turn, index, refusal.response(), Kind::Control);
        self.shut(turn, index, false);
    }

    /// Our Close: what waits is still written, then this, then it is over.
    pub(super) fn hang_up(&mut self, turn: &mut Turn<'_>, index: u32, code: u16, reason: &str) {
        if matches!(self.sessions.of(index).state, State::Vacant | State::Closing) {
            return;
        }
        let mut bytes = Vec::new();
        writer::close(code, reason, &mut bytes);
        self.append_bytes(turn, index, &bytes, Kind::Control);
        self.shut(turn, index, false);
    }

    /// The answer to a client's Close.
    pub(super) fn close_back(&mut self, turn: &mut Turn<'_>, index: u32, code: Option<u16>) {
        let mut bytes = Vec::new();
        match code {
            Some(code) => writer::close(code, "", &mut bytes),
            None => writer::frame(writer::CLOSE, &[], &mut bytes),
        }
        self.append_bytes(turn, index, &bytes, Kind::Control);
        self.shut(turn, index, false);
    }

    /// It speaks plain HTTP: somebody else goes on with it, from the first of its bytes.
    pub(super) fn hand_over(&mut self, turn: &mut Turn<'_>, index: u32, read: &[u8]) {
        self.release(turn, index);
        self.sessions.at(index).state = State::Closing;
        let conn = self.sessions.conn(self.me.core, index);
        turn.out.hand_over(conn, read);
    }

    /// No word reaches it any more.
    pub(super) fn cut_off(&mut self, turn: &mut Turn<'_>, index: u32) {
        self.shut(turn, index, true);
    }

    fn shut(&mut self, turn: &mut Turn<'_>, index: u32, reset: bool) {
        self.release(turn, index);
        self.sessions.at(index).state = State::Closing;
        let conn = self.sessions.conn(self.me.core, index);
        turn.out.push(Effect::Close { conn, reset });
    }

    /// Lets go of everything that a session holds, but its place and its last words.
    fn release(&mut self, turn: &mut Turn<'_>, index: u32) {
        self.wheel.take(&mut self.sessions, index);
        self.heads.remove(&index);
        self.partials.remove(&index);
        self.sessions.at(index).reader = crate::websocket::Reader::default();
        self.end_catch_up(index);
        self.leave_all(turn, index);
        self.unwatch_all(turn, index);
        self.part(turn, index);
        self.forget_guest(index);
    }

    /// The last that is heard of a connection.
    pub(super) fn closed(&mut self, turn: &mut Turn<'_>, conn: Conn) {
        if self.sessions.is_live(conn) {
            let index = conn.index();
            self.release(turn, index);
            self.outboxes.clear(index);
            self.sessions.close(index);
        }
    }
}
