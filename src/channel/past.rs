//! Fetches: a page of the past from the backlog, or from the source, or what of it nobody has any more.
//!
//! A page is sent as a whole, so room for all of it is reserved at the link first. `PastEnd` says "complete" only when its `upto` is the tip
//! at that moment: what comes next on the link is `upto + 1`.

use super::backlog::Stored;
use super::links::Line;
use super::shard::Owner;
use super::source::Question;
use super::table::{Channel, Is};
use crate::ids::{Ask, Handle, Key, Slot};
use crate::limits::Limits;
use crate::shard::{Counter, Effects};
use crate::time::Now;
use crate::wire::Message;
use crate::wire::room::Room;

/// What somebody asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Fetch {
    pub(super) line: Line,
    pub(super) ask: Ask,
    pub(super) handle: Handle,
    pub(super) slot: Slot,
    pub(super) key: Key,
    pub(super) after: u64,
    /// One at least.
    pub(super) count_max: u32,
    pub(super) bytes_max: u32,
}

/// A fetch that waits for room.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Parked {
    pub(super) fetch: Fetch,
    pub(super) name: Box<str>,
}

/// An answer of the source on its way to who fetched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Passing {
    fetch: Fetch,
    /// Asked for up to here.
    to: u64,
    /// The last offset that was passed on.
    upto: u64,
    missing: u64,
    /// The source skipped something in the middle: a fetch of its own begins there.
    is_cut: bool,
    used: Room,
}

/// Of a `Past` besides its payload, about.
const PAST_BYTES: u64 = 64;

/// How large pages are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pages {
    /// What a link gives for one `PeerRoom`.
    pub(super) grant: Room,
    publication_bytes: u64,
}

impl Pages {
    pub(super) fn new(limits: &Limits) -> Self {
        let publication_bytes = u64::from(limits.publication_bytes_max);
        Self { grant: Room::grant(limits), publication_bytes }
    }

    /// What the answer to a fetch takes at most: its events, the one that reaches the bound of bytes whole, and the end.
    pub(super) fn room(self, fetch: &Fetch) -> Room {
        // Two pages fit into one grant, so that a link's catch-up does not stand still for one slow answer.
        let events = fetch.count_max.clamp(1, (self.grant.messages / 2).max(2) - 1);
        let bytes = self.page_bytes(fetch) + self.publication_bytes;
        let room = Room { messages: events + 1, bytes: bytes + u64::from(events) * PAST_BYTES };
        room.min(self.grant)
    }

    /// A page ends with the event that reaches so many bytes.
    fn page_bytes(self, fetch: &Fetch) -> u64 {
        u64::from(fetch.bytes_max).clamp(1, self.grant.bytes / 4)
    }
}

impl Owner {
    /// Answers a fetch now, or parks it until there is room, or refuses it.
    pub(super) fn fetch(&mut self, now: Now, fetch: Fetch, name: &str, out: &mut Effects) {
        if !self.links.is_alive(fetch.line) {
            return;
        }
        let place = self.table.find(fetch.slot, fetch.key);
        let verified = place.map(|place| &self.table[place]).filter(|one| one.is(Is::Verified));
        let is_name = name.len() <= self.limits.name_bytes_max as usize;
        let Some(channel) = verified.filter(|_| is_name) else {
            return self.refuse(&fetch, out);
        };
        let (tip, is_memory) = (channel.tip(), channel.is(Is::Memory));
        let next = fetch.after.saturating_add(1);
        if next > tip && self.links.spend(&fetch) {
            return self.end(&fetch, tip, tip, 0, out);
        }
        if !self.links.reserve(&fetch) {
            if self.links.parked() + self.source.parked() >= self.limits.fetches_max as usize {
                return self.refuse(&fetch, out);
            }
            return self.links.park(fetch, name);
        }
        let oldest = if next <= tip {
            self.backlog.oldest(fetch.key, tip, now.mono.seconds())
        } else {
            None
        };
        match oldest {
            _ if next > tip => self.page(&fetch, next, tip, out),
            Some(oldest) if oldest <= next => self.page(&fetch, next, tip, out),
            // What a memory channel's backlog lost, nobody has.
            _ if is_memory => self.page(&fetch, oldest.unwrap_or(tip + 1), tip, out),
            _ => self.fetch_from_source(now, fetch, name, tip, out),
        }
    }

    /// Sends what the backlog has from an offset on, as much as one page holds.
    fn page(&mut self, fetch: &Fetch, from: u64, tip: u64, out: &mut Effects) {
        let Some(peer) = self.links.peer(fetch.line.link) else { return };
        let events = self.links.pages().room(fetch).messages - 1;
        let last = tip.min(from.saturating_add(u64::from(events) - 1));
        let (mut upto, mut used) = (last.min(from - 1), Room { messages: 1, bytes: 0 });
        if from <= tip {
            out.count(Counter::FetchesFromBacklog);
            for position in self.backlog.span(fetch.key, from, last) {
                if used.bytes >= self.links.pages().page_bytes(fetch) {
                    break;
                }
                let Stored { offset, origin, member, payload } = self.backlog.at(position);
                used.add(room_of(payload));
                upto = offset;
                let ask = fetch.ask;
                out.send_bulk(peer, &Message::Past { ask, offset, origin, member, payload });
            }
        }
        let missing = if from > fetch.after.saturating_add(1) { from - 1 } else { 0 };
        self.end(fetch, tip, upto, missing, out);
        self.links.settle(fetch, used);
    }

    fn end(&self, fetch: &Fetch, tip: u64, upto: u64, missing: u64, out: &mut Effects) {
        let Some(peer) = self.links.peer(fetch.line.link) else { return };
        let Fetch { ask, handle, .. } = *fetch;
        let complete = upto == tip;
        out.send_bulk(peer, &Message::PastEnd { ask, handle, upto, complete, missing });
    }

    fn fetch_from_source(
        &mut self,
        now: Now,
        fetch: Fetch,
        name: &str,
        tip: u64,
        out: &mut Effects,
    ) {
        let pages = self.links.pages();
        let events = u64::from(pages.room(&fetch).messages - 1);
        let (from, to) = (fetch.after + 1, tip.min(fetch.after.saturating_add(events)));
        let bytes_max = pages.page_bytes(&fetch) as u32;
        let passing = Passing {
            fetch,
            to,
            upto: fetch.after,
            missing: 0,
            is_cut: false,
            used: Room::default(),
        };
        if self.source.is_up()
            && let Some(ask) = self.source.ask(now.mono, Question::Past(passing), name)
        {
            out.count(Counter::FetchesFromSource);
            let range = Message::Range { ask, name, from, to, bytes_max };
            return out.send_bulk(self.source.peer(), &range);
        }
        self.links.settle(&fetch, Room::default());
        let parked = self.links.parked() + self.source.parked();
        if !self.source.is_up() || parked >= self.limits.fetches_max as usize {
            return self.refuse(&fetch, out);
        }
        self.source.park(fetch, name);
    }

    /// One event of the past, from the source.
    pub(super) fn pass(&mut self, ask: Ask, stored: &Stored<'_>, out: &mut Effects) {
        let Some(Question::Past(passing)) = self.source.open_mut(ask) else { return };
        let Passing { fetch, to, upto, .. } = *passing;
        let Stored { offset, origin, member, payload } = *stored;
        if offset <= upto || offset > to || passing.is_cut {
            return;
        }
        // The source has a later one and so would have those between, if anybody had.
        if offset > upto + 1 && upto > fetch.after {
            passing.is_cut = true;
            return;
        }
        if offset > upto + 1 {
            passing.missing = offset - 1;
        }
        passing.upto = offset;
        passing.used.add(room_of(payload));
        if self.links.is_alive(fetch.line)
            && let Some(peer) = self.links.peer(fetch.line.link)
        {
            let past = Message::Past { ask: fetch.ask, offset, origin, member, payload };
            out.send_bulk(peer, &past);
        }
    }

    /// The source has said what it will say.
    pub(super) fn passed(&mut self, passing: &Passing, out: &mut Effects) {
        let Passing { fetch, upto, missing, mut used, .. } = *passing;
        let place = self.table.find(fetch.slot, fetch.key);
        let tip = place
            .map(|place| &self.table[place])
            .filter(|channel| channel.is(Is::Verified))
            .map(Channel::tip);
        match tip {
            Some(tip) if upto > fetch.after && self.links.is_alive(fetch.line) => {
                used.add(Room { messages: 1, bytes: 0 });
                self.end(&fetch, tip, upto, missing, out);
            }
            _ => self.refuse(&fetch, out),
        }
        self.links.settle(&fetch, used);
    }

    /// Nothing now: whoever asked asks again after a pause.
    pub(super) fn refuse(&self, fetch: &Fetch, out: &mut Effects) {
        out.count(Counter::FetchesRefused);
        if self.links.is_alive(fetch.line)
            && let Some(peer) = self.links.peer(fetch.line.link)
        {
            let Fetch { ask, handle, .. } = *fetch;
            out.send(peer, &Message::PastRefused { ask, handle });
        }
    }
}

fn room_of(payload: &[u8]) -> Room {
    Room { messages: 1, bytes: payload.len() as u64 + PAST_BYTES }
}
