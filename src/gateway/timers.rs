//! What is due on this core, and when: queues of one pause each, and the wheel of idle connections.

use super::asks::Pending;
use super::fifo::Fifo;
use super::guests::conversation::Admitted;
use super::guests::presence::Report;
use super::session::{Dialect, Is, State};
use super::shard::{Gateway, Turn};
use crate::ids::{Conn, Peer};
use crate::rtm::Fault;
use crate::shard::{Counter, Effect};
use crate::time::{Mono, sooner};
use crate::websocket::close;

/// Per shard. Each queue has one pause for all that is in it.
#[derive(Debug, Default)]
pub(super) struct Timers {
    /// Connections that are to have sent their request.
    pub(super) handshakes: Fifo<Conn>,
    /// Centrifuge clients that are to have said `connect`.
    pub(super) connects: Fifo<Conn>,
    /// What owners did not note.
    pub(super) reports: Fifo<Report>,
    /// Connections that are to have said where they stand.
    pub(super) resumes: Fifo<Conn>,
    /// Connections that go on with their catch-up.
    pub(super) paces: Fifo<Conn>,
    /// Connections whose message is to be whole.
    pub(super) partials: Fifo<Conn>,
    /// Connections that are to have taken a byte, and what had been taken of their outbox before.
    pub(super) stalls: Fifo<(Conn, u32)>,
    /// Connections whose window after goodbye ends.
    pub(super) goodbyes: Fifo<Conn>,
    /// The same of those that are sent to another region.
    pub(super) moves: Fifo<Conn>,
    /// Hubs that ask again for what they lack.
    pub(super) lapses: Fifo<u32>,
    /// Hubs for which the interest had no room.
    pub(super) unsubscribed: Fifo<u32>,
    /// An owner said "not now".
    pub(super) refused: Fifo<()>,
    /// Relays that were full, and such as have just come.
    pub(super) relays: Fifo<Peer>,
    pub(super) new_relays: Fifo<Peer>,
}

impl Gateway {
    pub(super) fn next_deadline(&self) -> Option<Mono> {
        let timers = &self.timers;
        let wheel = self.wheel.next_s().map(|second| Mono(u64::from(second) * 1_000_000_000));
        [
            self.asks.deadline(),
            timers.handshakes.deadline(),
            timers.connects.deadline(),
            timers.reports.deadline(),
            self.guests.deadline(),
            timers.resumes.deadline(),
            timers.paces.deadline(),
            timers.partials.deadline(),
            timers.stalls.deadline(),
            timers.goodbyes.deadline(),
            timers.moves.deadline(),
            timers.lapses.deadline(),
            timers.refused.deadline(),
            timers.relays.deadline(),
            timers.new_relays.deadline(),
            timers.unsubscribed.deadline(),
            self.tallies_due(),
            self.farewell.deadline(),
            self.departure_deadline(),
        ]
        .into_iter()
        .fold(wheel, sooner)
    }

    /// Does all that is due.
    pub(super) fn tick(&mut self, turn: &mut Turn<'_>) {
        let mono = turn.now.mono;
        self.tell_tallies(turn);
        while let Some(pending) = self.asks.overdue(mono) {
            self.unanswered(turn, pending);
        }
        while let Some(conn) = self.timers.handshakes.pop(mono) {
            if self.sessions.find(conn).is_some_and(|one| one.state == State::Upgrading) {
                turn.out.count(Counter::HandshakesRefused);
                turn.out.push(Effect::Close { conn, reset: true });
            }
        }
        while let Some(report) = self.timers.reports.pop(mono) {
            self.report_of(turn, report);
        }
        self.end_subscriptions(turn);
        while let Some(conn) = self.timers.connects.pop(mono) {
            self.check_connect(turn, conn);
        }
        while let Some(conn) = self.timers.resumes.pop(mono) {
            if self.sessions.find(conn).is_some_and(|one| one.state == State::Positioning) {
                self.say_fault(turn, conn.index(), Fault::ResumeTimeout);
                self.hang_up(turn, conn.index(), close::POLICY, "resume");
            }
        }
        while let Some(conn) = self.timers.paces.pop(mono) {
            self.go_on(turn, conn);
        }
        while let Some(conn) = self.timers.partials.pop(mono) {
            self.check_partial(turn, conn);
        }
        while let Some((conn, taken)) = self.timers.stalls.pop(mono) {
            self.check_stall(turn, conn, taken);
        }
        while let Some(conn) =
            self.timers.goodbyes.pop(mono).or_else(|| self.timers.moves.pop(mono))
        {
            if self.sessions.is_live(conn) {
                self.hang_up(turn, conn.index(), close::GOING_AWAY, "reconnect");
            }
        }
        while let Some(place) = self.timers.lapses.pop(mono) {
            self.mend_lapse(turn, place);
        }
        while let Some(place) = self.timers.unsubscribed.pop(mono) {
            self.say_refused(turn, place);
        }
        while let Some(peer) =
            self.timers.relays.pop(mono).or_else(|| self.timers.new_relays.pop(mono))
        {
            self.relay_is_due(turn, peer);
        }
        while self.timers.refused.pop(mono).is_some() {
            self.relay.pause_is_over();
        }
        self.end_drain(turn);
        let second = turn.second();
        while let Some(index) = self.wheel.due(&mut self.sessions, second) {
            self.check_idle(turn, index);
        }
    }

    /// A question was not answered in time, or its peer is lost.
    pub(super) fn unanswered(&mut self, turn: &mut Turn<'_>, pending: Pending) {
        match pending {
            Pending::Redeem { conn } => self.not_redeemed(turn, conn, true),
            Pending::Post { conn, reply_to, .. } => self.post_unknown(turn, conn, &reply_to),
            Pending::Page(page) => self.page_lost(turn, &page),
            Pending::Tip { conn, place } => self.tip_unknown(turn, conn, place),
            Pending::Lapse { place } => self.lapse_refused(turn, place),
            Pending::Query { conn, user } => self.query_answered(turn, conn, &user, None),
            Pending::Renew { conn } => self.goodbye_without_url(turn, conn),
            Pending::Present { conn, id, .. } => self.present_is(turn, (conn, id), None),
            Pending::Admit { conn, id, request } => {
                self.admitted(turn, (conn, id), &request, Admitted::Unknown);
            }
            Pending::Call { conn, id } => self.called(turn, (conn, id), None),
            Pending::Say { conn, id } => self.said(turn, (conn, id), None),
            Pending::Report { report } => self.unreported(turn, report),
            Pending::Publish { conn, id } => self.guest_published(turn, conn, id, false),
            Pending::Read { conn, reading } => self.unread(turn, conn, &reading),
        }
    }

    /// Files a connection that was greeted for its next look.
    pub(super) fn file(&mut self, turn: &mut Turn<'_>, index: u32) {
        let (second, session) = (turn.second(), self.sessions.of(index));
        if session.dialect != Dialect::Rtm {
            let pause_s = self.guest_pause_s(turn, index);
            return self.wheel.file(&mut self.sessions, index, second, pause_s);
        }
        let ping_s = self.limits.ping_interval.as_secs().max(1) as u32;
        let age_s = self.limits.connection_age_max.as_secs().max(1) as u32;
        let idle = (session.heard_s + ping_s).saturating_sub(second);
        // A ping was sent when the connection had been idle for one interval; its answer has another.
        let idle = if session.is(Is::Pinged) { idle + ping_s } else { idle };
        let old = (session.born_s + age_s).saturating_sub(second);
        let has_age = session.is_greeted() && !session.is(Is::Leaving);
        let pause_s = if has_age { idle.min(old) } else { idle };
        self.wheel.file(&mut self.sessions, index, second, pause_s);
    }

    /// Pings whoever was silent, reaps whoever did not answer, says goodbye to whoever is old.
    fn check_idle(&mut self, turn: &mut Turn<'_>, index: u32) {
        if self.sessions.of(index).dialect != Dialect::Rtm {
            return self.check_guest(turn, index);
        }
        let second = turn.second();
        let ping_s = self.limits.ping_interval.as_secs().max(1) as u32;
        let age_s = self.limits.connection_age_max.as_secs().max(1) as u32;
        let session = self.sessions.at(index);
        let silent_s = second.saturating_sub(session.heard_s);
        if silent_s >= ping_s * 2 && session.is(Is::Pinged) {
            turn.out.count(Counter::DeadReaped);
            return self.cut_off(turn, index);
        }
        if silent_s >= ping_s && !session.is(Is::Pinged) {
            session.set(Is::Pinged, true);
            self.ping(turn, index);
        }
        let session = self.sessions.of(index);
        let is_old = second.saturating_sub(session.born_s) >= age_s;
        if is_old && session.is_greeted() && !session.is(Is::Leaving) {
            self.say_goodbye_to_the_old(turn, index);
        }
        self.file(turn, index);
    }
}
