//! A region drains: its connections are sent away one after another, at the operator's pace, and come back by gateways of other regions.
//!
//! One walk over the table of sessions begins with the drain, and sends away whoever is there: over so many seconds, evenly, or so many a
//! second. Then further walks look for those that came all the same: nobody is refused, since a ticket may have been on its way, and
//! whoever knows of no other region is better served for a while than not at all. A restored region stops in the middle.

use std::time::Duration;

use super::session::{Dialect, Is, State};
use super::shard::{Gateway, Turn};
use crate::centrifuge::code::Disconnect;
use crate::ring::Ring;
use crate::ring::drain::Pace;
use crate::shard::{Budget, Counter};
use crate::time::Mono;

/// The drain of this gateway's region, as far as it has come. Per shard.
#[derive(Debug, Default)]
pub(super) struct Departure(Option<Walk>);

/// Once over all sessions.
#[derive(Debug)]
struct Walk {
    /// As it was ordered.
    pace: Pace,
    /// When the drain began, in seconds: whoever came later may stay for `move_rest`.
    drained_s: u32,
    /// Between two departures.
    pause: Duration,
    began: Mono,
    gone: u64,
    /// The next session that is looked at.
    cursor: u32,
    /// When there is something to do again.
    next: Mono,
}

/// Departures that are due within this are one step: so often a core is woken for them.
const STEP: Duration = Duration::from_millis(10);
/// Sessions looked at for one unit of the budget.
const LOOKS_PER_UNIT: u32 = 16;

impl Departure {
    pub(super) fn is_begun(&self) -> bool {
        self.0.is_some()
    }
}

impl Walk {
    /// Departures that are due by now and were not made.
    fn due(&self, now: Mono) -> u64 {
        let elapsed = now.since(self.began).as_nanos() / self.pause.as_nanos().max(1);
        u64::try_from(elapsed).unwrap_or(u64::MAX).saturating_sub(self.gone)
    }

    /// When the next departure is due.
    fn due_at(&self) -> Mono {
        let nanos = self.pause.as_nanos().saturating_mul(u128::from(self.gone) + 1);
        self.began + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX / 4))
    }
}

impl Gateway {
    /// The ring says which regions drain.
    pub(super) fn regions_told(&mut self, turn: &Turn<'_>, ring: &Ring) {
        let pace = self.region.as_deref().and_then(|region| ring.drain_of(region));
        let known = self.departure.0.as_ref().map(|walk| walk.pace);
        if pace == known {
            return;
        }
        let (began, drained_s) = (turn.now.mono, turn.second());
        self.departure = Departure(pace.map(|pace| {
            let pause = match pace {
                Pace::Usual => self.usual_pause(),
                Pace::PerSecond(count) => Duration::from_secs(1) / count.max(1),
                Pace::Seconds(count) => {
                    Duration::from_secs(u64::from(count)) / self.sessions.count().max(1)
                }
            };
            let mut walk = Walk { pace, drained_s, pause, began, gone: 0, cursor: 0, next: began };
            walk.next = walk.due_at();
            walk
        }));
    }

    fn usual_pause(&self) -> Duration {
        Duration::from_secs(1) / self.limits.moves_per_second
    }

    pub(super) fn departure_deadline(&self) -> Option<Mono> {
        let walk = self.departure.0.as_ref()?;
        let is_somebody = self.sessions.count() > 0 && !self.farewell.is_begun();
        is_somebody.then_some(walk.next)
    }

    /// Sends away whoever's turn it is. True: more is left to look at now.
    pub(super) fn depart(&mut self, turn: &mut Turn<'_>, budget: Budget) -> bool {
        let now = turn.now.mono;
        if self.departure_deadline().is_none_or(|next| next > now) {
            return false;
        }
        let Some(mut walk) = self.departure.0.take() else { return false };
        let indexes = self.sessions.indexes();
        let upto = walk.cursor.saturating_add(budget.units * LOOKS_PER_UNIT).min(indexes);
        let due = walk.due(now);
        let most = due.min(u64::from(budget.units));
        let mut gone = 0;
        while gone < most && walk.cursor < upto {
            if self.may_be_sent_away(turn.second(), walk.drained_s, walk.cursor) {
                self.send_away(turn, walk.cursor);
                gone += 1;
            }
            walk.cursor += 1;
        }
        walk.gone += gone;
        let is_over = walk.cursor >= indexes;
        if is_over {
            // Those that came all the same; nobody waits long for the last of them.
            walk.began = now + self.limits.move_rest;
            (walk.gone, walk.cursor) = (0, 0);
            walk.pause = walk.pause.min(self.usual_pause());
            walk.next = walk.due_at();
        } else if gone == due {
            walk.next = walk.due_at().max(now + STEP);
        }
        self.departure = Departure(Some(walk));
        !is_over && gone < due
    }

    /// Who is on its way in or out has a deadline already. Whoever came to a region that drained may rest.
    fn may_be_sent_away(&self, second: u32, drained_s: u32, index: u32) -> bool {
        let session = self.sessions.of(index);
        let is_there = match session.dialect {
            Dialect::Rtm => session.is_greeted() && !session.is(Is::Leaving),
            Dialect::Json | Dialect::Protobuf => session.state == State::Active,
        };
        let rest_s = self.limits.move_rest.as_secs();
        let age_s = u64::from(second.saturating_sub(session.born_s));
        is_there && (session.born_s <= drained_s || age_s >= rest_s)
    }

    /// Goodbye, and a window to connect elsewhere first; Centrifuge clients know no goodbye, and come back by themselves.
    fn send_away(&mut self, turn: &mut Turn<'_>, index: u32) {
        turn.out.count(Counter::ConnectionsMoved);
        if self.sessions.of(index).dialect != Dialect::Rtm {
            return self.disconnect(turn, index, Disconnect::ForceReconnect);
        }
        self.sessions.at(index).set(Is::Leaving, true);
        self.goodbye(turn, index);
        let conn = self.sessions.conn(self.me.core, index);
        self.timers.moves.push(turn.now.mono + self.limits.move_window, conn);
    }
}
