//! Pages of a connection's catch-up: several on their way at once, which share its window, and what is given of them.
//!
//! An owner far away is asked for the next channels while the answers to the first are on their way. Each page has a share of the window that
//! is its own until its end, so that all of them may come at the same moment.

use super::asks::Pending;
use super::behind::{Claim, Phase, Record};
use super::deliver::Event;
use super::guests::deltas::Variant;
use super::outbox::Kind;
use super::shard::{Gateway, Turn};
use super::slab::NIL;
use crate::ids::{Ask, Conn, Handle, Peer};
use crate::shard::Counter;
use crate::wire::Message;

/// A part of what a connection may be given in one interval.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Share {
    pub(super) frames: u32,
    pub(super) bytes: u32,
}

impl Share {
    pub(super) fn add(&mut self, more: Self) {
        self.frames = self.frames.saturating_add(more.frames);
        self.bytes = self.bytes.saturating_add(more.bytes);
    }
    /// Down to nothing at most.
    pub(super) fn take(&mut self, less: Self) {
        self.frames = self.frames.saturating_sub(less.frames);
        self.bytes = self.bytes.saturating_sub(less.bytes);
    }
    /// The smaller of each.
    pub(super) fn min(self, other: Self) -> Self {
        Self { frames: self.frames.min(other.frames), bytes: self.bytes.min(other.bytes) }
    }
    fn holds(self, need: Self) -> bool {
        need.frames <= self.frames && need.bytes <= self.bytes
    }
    /// So many frames of it, and as large a part of the bytes.
    fn part(self, frames: u32) -> Self {
        let frames = frames.min(self.frames);
        let bytes = u64::from(self.bytes) * u64::from(frames);
        let bytes = bytes.div_ceil(u64::from(self.frames.max(1)));
        Self { frames, bytes: u32::try_from(bytes).unwrap_or(u32::MAX) }
    }
    fn is_nothing(self) -> bool {
        self.frames == 0 || self.bytes == 0
    }
}

/// A page that is on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page {
    pub(super) conn: Conn,
    /// Of which of its catch-ups.
    pub(super) life: u32,
    /// The channel's place in the hub.
    pub(super) place: u32,
    /// It is the user's own.
    pub(super) is_own: bool,
    /// What of its share is not given yet. Nothing: the rest of it is passed over.
    pub(super) left: Share,
}

/// The end of the answer to a fetch: see `PastEnd`.
#[derive(Clone, Copy)]
pub(super) struct End {
    pub(super) upto: u64,
    pub(super) complete: bool,
    pub(super) missing: u64,
}

impl Gateway {
    /// Whether one more page of a connection may be on its way now. Where something small is left of the window only, others are waited for, so
    /// that a channel is not asked for in many small pages: some of those are read from the database.
    pub(super) fn may_fetch(&mut self, turn: &Turn<'_>, at: u32) -> bool {
        let (most, left) = (self.pages_max(at), self.window_left(turn, at));
        let least = self.share_min();
        let catching = self.behind.catching(at);
        let must_wait = catching.is_own_due || catching.stale > 0;
        catching.pages == 0 || !must_wait && catching.pages < most && left.holds(least)
    }

    /// Others have questions too.
    fn pages_max(&mut self, at: u32) -> u8 {
        if self.asks.is_busy() { 1 } else { self.behind.catching(at).pages_max }
    }

    fn window(&self) -> Share {
        Share { frames: self.limits.catch_up_frames, bytes: self.limits.catch_up_bytes }
    }

    /// Of one page, when there are as many as may be.
    fn share_min(&self) -> Share {
        let window = self.window();
        window.part(window.frames.div_ceil(u32::from(self.limits.catch_up_pages_max)))
    }

    fn window_left(&mut self, turn: &Turn<'_>, at: u32) -> Share {
        let (interval, window) = (self.limits.catch_up_interval, self.window());
        let catching = self.behind.catching(at);
        catching.renew(turn.now.mono, interval);
        catching.left(window)
    }

    /// What the next page of a record is to hold: what its channel lacks, and of what comes meanwhile. All that is left, if there is no other.
    fn share_of(&mut self, turn: &Turn<'_>, at: u32, record: u32) -> Share {
        let (most, left) = (self.pages_max(at), self.window_left(turn, at));
        if most == 1 || self.behind.is_one(at) {
            return left;
        }
        let Record { place, cursor, .. } = *self.behind.record(record);
        let lacks = self.hub.tip(place).unwrap_or(0).saturating_sub(cursor);
        let (lacks, least) = (u32::try_from(lacks).unwrap_or(u32::MAX), self.share_min().frames);
        left.part(least.max(lacks.saturating_add(least / 2)))
    }

    fn is_outbox_full(&self, index: u32) -> bool {
        self.outboxes.waiting_bytes(index) >= self.limits.outbox_soft_bytes
    }

    /// Asks for the next page of a record, as large as the connection's window allows.
    pub(super) fn fetch(&mut self, turn: &mut Turn<'_>, index: u32, record: u32) {
        let at = self.sessions.of(index).catching;
        let (place, after) = {
            let one = self.behind.record(record);
            (one.place, one.cursor)
        };
        let share = self.share_of(turn, at, record);
        let life = self.behind.catching(at).life;
        let conn = self.sessions.conn(self.me.core, index);
        // Room for questions is not told of, as room at a core is.
        if share.is_nothing() || self.is_outbox_full(index) || self.asks.is_full() {
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
        let is_own = self.is_own(index, place);
        let page = Page { conn, life, place, is_own, left: share };
        let Ok(ask) = self.asks.open(peer, due, Pending::Page(page)) else {
            return self.pause(turn, conn);
        };
        self.behind.record(record).is_asked = true;
        let catching = self.behind.catching(at);
        catching.pages += 1;
        catching.is_own_due |= is_own;
        catching.spent.add(share);
        catching.due.add(share);
        turn.out.send_bulk(
            peer,
            &Message::Fetch {
                slot,
                seat_epoch: 0,
                key,
                handle: Handle(place),
                ask,
                after,
                count_max: share.frames,
                bytes_max: share.bytes,
                name: self.names.text(name),
            },
        );
    }

    /// One event of a page, for a connection or for a hub.
    pub(super) fn past(&mut self, turn: &mut Turn<'_>, peer: Peer, ask: Ask, event: &Event<'_>) {
        match self.asks.peek(peer, ask) {
            Some(&Pending::Page(mut page)) => {
                self.page_event(turn, &mut page, event);
                if let Some(open) = self.asks.page_mut(peer, ask) {
                    open.left = page.left;
                }
            }
            Some(&Pending::Lapse { place }) => self.lapse_past(turn, place, event),
            _ => {}
        }
    }

    fn page_event(&mut self, turn: &mut Turn<'_>, page: &mut Page, event: &Event<'_>) {
        let Some((at, Some(record))) = self.record_of_page(page) else { return };
        let (index, place) = (page.conn.index(), page.place);
        let one = *self.behind.record(record);
        // A page of another life of the channel decides nothing.
        if event.offset <= one.cursor || one.claim == Claim::Fresh || page.left.frames == 0 {
            return;
        }
        if !self.take_of(turn, at, page, event) {
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
        if let Some(member) = event.member.filter(|_| one.moves(event.offset)) {
            self.moved(turn, index, place, &member);
        }
    }

    /// Takes an event of a page's share. The last of a page may be larger, and those of several pages too large together. False: there is no
    /// room for it, and so for nothing more of this page.
    fn take_of(
        &mut self,
        turn: &mut Turn<'_>,
        at: u32,
        page: &mut Page,
        event: &Event<'_>,
    ) -> bool {
        let len = u32::try_from(event.payload.len()).unwrap_or(u32::MAX);
        let more = len.saturating_sub(page.left.bytes);
        let is_outbox_full = self.is_outbox_full(page.conn.index());
        self.window_left(turn, at);
        let bytes_max = self.limits.catch_up_bytes;
        let catching = self.behind.catching(at);
        let is_full = is_outbox_full || catching.spent.bytes > bytes_max;
        if more > 0 && catching.pages > 1 && is_full {
            turn.out.count(Counter::PagesCut);
            catching.give_back(std::mem::take(&mut page.left));
            // The next one has the window to itself.
            catching.pages_max = 1;
            return false;
        }
        let taken = Share { frames: 1, bytes: len - more };
        catching.due.take(taken);
        catching.spent.add(Share { frames: 0, bytes: more });
        page.left.take(taken);
        true
    }

    /// A page's catch-up, and its record if there is still one.
    fn record_of_page(&mut self, page: &Page) -> Option<(u32, Option<u32>)> {
        let at = self.sessions.find(page.conn)?.catching;
        if at == NIL || self.behind.catching(at).life != page.life {
            return None;
        }
        let record = self.behind.find(at, page.place, None);
        Some((at, record.filter(|record| self.behind.record(*record).is_asked)))
    }

    /// A page is not on its way any more.
    fn close_page(&mut self, page: &Page) -> Option<(u32, Option<u32>)> {
        let (at, record) = self.record_of_page(page)?;
        let catching = self.behind.catching(at);
        catching.pages -= 1;
        catching.is_own_due &= !page.is_own;
        catching.give_back(page.left);
        match record {
            Some(record) => self.behind.record(record).is_asked = false,
            None => catching.stale -= 1,
        }
        Some((at, record))
    }

    pub(super) fn past_end(&mut self, turn: &mut Turn<'_>, peer: Peer, ask: Ask, end: End) {
        match self.asks.close(peer, ask) {
            Some(Pending::Page(page)) => self.page_end(turn, &page, end),
            Some(Pending::Lapse { place }) => self.lapse_end(turn, place, end),
            _ => {}
        }
    }

    fn page_end(&mut self, turn: &mut Turn<'_>, page: &Page, end: End) {
        let Some((at, record)) = self.close_page(page) else { return };
        let (index, place) = (page.conn.index(), page.place);
        if let Some(record) = record {
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
            let one = self.behind.record(record);
            if one.claim == Claim::Fresh || one.cursor >= end.upto {
                let most = self.limits.catch_up_pages_max;
                let catching = self.behind.catching(at);
                catching.pages_max = most.min(catching.pages_max + 1);
            }
            let tip = self.hub.tip(place).unwrap_or(0);
            if end.complete && end.upto < tip {
                // The owner is behind the hub, which is not for long.
                return self.pause(turn, page.conn);
            }
            self.let_others_go_on(index, record, end);
        }
        self.catch_up(turn, index);
    }

    /// A channel that grows as fast as it is read does not keep the others waiting. What was before the ticket has an end, and goes on; and the
    /// user's own channel says what became of the others.
    fn let_others_go_on(&mut self, index: u32, record: u32, end: End) {
        let at = self.sessions.of(index).catching;
        let one = self.behind.record(record);
        let (place, is_new) = (one.place, one.cursor >= one.floor());
        if is_new && !end.complete && !self.is_own(index, place) {
            self.behind.rotate(at, record);
        }
    }

    fn is_own(&self, index: u32, place: u32) -> bool {
        let person = self.sessions.of(index).person;
        person != NIL && self.people[person].key() == self.hub.key(place)
    }

    pub(super) fn past_refused(&mut self, turn: &mut Turn<'_>, peer: Peer, ask: Ask) {
        if let Some(pending) = self.asks.close(peer, ask) {
            self.unanswered(turn, pending);
        }
    }

    /// A page was refused, or its answer is lost. It is asked for again after a pause and behind the others, of which one goes at a time until
    /// answers come: whoever has no room would refuse them all.
    pub(super) fn page_lost(&mut self, turn: &mut Turn<'_>, page: &Page) {
        let Some((at, record)) = self.close_page(page) else { return };
        if let Some(record) = record.filter(|_| !page.is_own) {
            self.behind.rotate(at, record);
        }
        self.behind.catching(at).pages_max = 1;
        self.pause(turn, page.conn);
    }
}
