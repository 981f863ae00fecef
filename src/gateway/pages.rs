//! Pages of a connection's catch-up: asked for, as large as its window allows, and given.

use super::asks::Pending;
use super::behind::{Claim, Phase};
use super::deliver::Event;
use super::guests::deltas::Variant;
use super::outbox::Kind;
use super::shard::{Gateway, Turn};
use super::slab::NIL;
use crate::ids::{Ask, Conn, Handle, Peer};
use crate::shard::Counter;
use crate::wire::Message;

/// The end of the answer to a fetch: see `PastEnd`.
#[derive(Clone, Copy)]
pub(super) struct End {
    pub(super) upto: u64,
    pub(super) complete: bool,
    pub(super) missing: u64,
}

impl Gateway {
    /// Asks for the next page, as large as the connection's window allows.
    pub(super) fn fetch(&mut self, turn: &mut Turn<'_>, index: u32, record: u32) {
        let at = self.sessions.of(index).catching;
        let (place, after) = {
            let one = self.behind.record(record);
            (one.place, one.cursor)
        };
        let interval = self.limits.catch_up_interval;
        let catching = self.behind.catching(at);
        if catching.window + interval <= turn.now.mono {
            (catching.window, catching.frames, catching.bytes) = (turn.now.mono, 0, 0);
        }
        let frames = self.limits.catch_up_frames.saturating_sub(catching.frames);
        let bytes = self.limits.catch_up_bytes.saturating_sub(catching.bytes);
        let conn = self.sessions.conn(self.me.core, index);
        let is_full = self.outboxes.waiting_bytes(index) >= self.limits.outbox_soft_bytes;
        // Room for questions is not told of, as room at a core is.
        if frames == 0 || bytes == 0 || is_full || self.asks.is_full() {
            return self.pause(turn, conn);
        }
        let (slot, key, name) = (self.hub.slot(place), self.hub.key(place), self.hub.name(place));
        let core = self.interest_core(slot);
        let peer = self.neighbour(core);
        if !self.may_ask(core, self.names.text(name).len()) {
            self.behind.catching(at).phase = Phase::Crowded;
            return self.wait_for_room(core, index);
        }
        let due = turn.now.mono + self.limits.ask_timeout;
        let Ok(ask) = self.asks.open(peer, due, Pending::Page { conn, place }) else {
            return self.pause(turn, conn);
        };
        self.behind.catching(at).phase = Phase::Fetching;
        turn.out.send_bulk(
            peer,
            &Message::Fetch {
                slot,
                seat_epoch: 0,
                key,
                handle: Handle(place),
                ask,
                after,
                count_max: frames,
                bytes_max: bytes,
                name: self.names.text(name),
            },
        );
    }

    /// One event of a page, for a connection or for a hub.
    pub(super) fn past(&mut self, turn: &mut Turn<'_>, peer: Peer, ask: Ask, event: &Event<'_>) {
        match self.asks.peek(peer, ask) {
            Some(&Pending::Page { conn, place }) => self.page_event(turn, conn, place, event),
            Some(&Pending::Lapse { place }) => self.lapse_past(turn, place, event),
            _ => {}
        }
    }

    fn page_event(&mut self, turn: &mut Turn<'_>, conn: Conn, place: u32, event: &Event<'_>) {
        let Some((index, record)) = self.record_of(conn, place) else { return };
        let one = *self.behind.record(record);
        // A page of another life of the channel decides nothing.
        if event.offset <= one.cursor || one.claim == Claim::Fresh {
            return;
        }
        if event.offset > one.cursor + 1 {
            self.tell_gap(turn, index, place, one.cursor + 1, event.offset - 1);
        }
        self.behind.record(record).cursor = event.offset;
        let is_own = self.causer(event.origin) == Some(index);
        if event.offset > one.held() && !is_own && !self.gather(index, place, event) {
            let dialect = self.sessions.of(index).dialect;
            let frame = self.event_frame(turn, (dialect, Variant::Plain), place, event);
            self.append(turn, index, &frame, Kind::Durable);
            self.outboxes.release(frame);
            turn.out.count(Counter::Replayed);
        }
        let catching = self.behind.catching(self.sessions.of(index).catching);
        // What came after the ticket is not of the past, however late it is given.
        catching.replayed += u32::from(event.offset <= one.floor());
        catching.frames += 1;
        catching.bytes = catching.bytes.saturating_add(event.payload.len() as u32);
        if let Some(member) = event.member.filter(|_| one.moves(event.offset)) {
            self.moved(turn, index, place, &member);
        }
    }

    pub(super) fn past_end(&mut self, turn: &mut Turn<'_>, peer: Peer, ask: Ask, end: End) {
        match self.asks.close(peer, ask) {
            Some(Pending::Page { conn, place }) => self.page_end(turn, conn, place, end),
            Some(Pending::Lapse { place }) => self.lapse_end(turn, place, end),
            _ => {}
        }
    }

    fn page_end(&mut self, turn: &mut Turn<'_>, conn: Conn, place: u32, end: End) {
        let Some(at) = self.sessions.find(conn).map(|session| session.catching) else { return };
        if at == NIL {
            return;
        }
        let index = conn.index();
        if self.behind.catching(at).phase == Phase::Fetching {
            self.behind.catching(at).phase = Phase::Ready;
        }
        if let Some(record) = self.behind.find(at, place, None) {
            let one = self.behind.record(record);
            if one.claim == Claim::Fresh {
                if end.complete {
                    self.owner_was_asked(index, place);
                }
            } else if end.missing > one.cursor {
                let from = one.cursor + 1;
                one.cursor = end.missing;
                self.tell_gap(turn, index, place, from, end.missing);
            }
            let tip = self.hub.tip(place).unwrap_or(0);
            if end.complete && end.upto < tip {
                // The owner is behind the hub, which is not for long.
                return self.pause(turn, conn);
            }
            self.let_others_go_on(index, record, end);
        }
        self.catch_up(turn, index);
    }

    /// A channel that grows as fast as it is read does not keep the others waiting. What was before the ticket is given channel by channel, as
    /// its bounds are; and the user's own channel says what became of the others.
    fn let_others_go_on(&mut self, index: u32, record: u32, end: End) {
        let at = self.sessions.of(index).catching;
        let one = self.behind.record(record);
        let (place, is_new) = (one.place, one.cursor >= one.floor());
        let person = self.sessions.of(index).person;
        let is_own = person != NIL && self.people[person].key() == self.hub.key(place);
        if is_new && !end.complete && !is_own && self.behind.first(at) == Some(record) {
            self.behind.rotate(at);
        }
    }

    pub(super) fn past_refused(&mut self, turn: &mut Turn<'_>, peer: Peer, ask: Ask) {
        if let Some(pending) = self.asks.close(peer, ask) {
            self.unanswered(turn, pending);
        }
    }
}
