//! Subscriptions that do not stand at their hub's tip yet: only these have a record.
//!
//! A connection's records are a list, in the order in which its channels are caught up.

use std::time::Duration;

use super::pages::Share;
use super::slab::{Entry, NIL, Slab};
use crate::tables::u48::U48;
use crate::time::Mono;

/// One subscription that is behind its hub, or ahead of it. 32 bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    /// Everything up to here was given, or is known to be held.
    pub(super) cursor: u64,
    /// What it means, the claim says.
    pub(super) bound: u64,
    /// The channel's place in the hub.
    pub(super) place: u32,
    next: u32,
    /// Membership events up to here are old: the ticket counted them, or the user came back later.
    old: U48,
    pub(super) claim: Claim,
    /// A page of it is on its way.
    pub(super) is_asked: bool,
}

const _: () = assert!(size_of::<Record>() == 32, "memory is the product");

/// Where a client says that it stands, as against its ticket (or the offset at which it joined).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Claim {
    Vacant,
    /// Of a Centrifuge client: where it stands is decided when the channel's tip is known.
    Fresh,
    /// At or below the ticket's offset, which is the bound.
    Sound,
    /// The same, and what is too old for a replay was told as a gap.
    Begun,
    /// At the bound, above the ticket's offset, where the cursor is. It may be, if the tip is that far.
    Above,
    /// The same, and the source was asked.
    Asked,
    /// The same, and it is true: events up to the bound are not given again, but who comes and goes by them counts.
    Proven,
    /// In another database, or above the tip: it is told a gap of all up to the cursor, the ticket's offset.
    Void,
}

impl Record {
    /// The ticket's offset.
    pub(super) fn floor(&self) -> u64 {
        self.old.get()
    }
    /// The user came into the channel at this offset: by what happened before, nobody leaves it.
    pub(super) fn joined(&mut self, offset: u64) {
        self.old = U48::at_most(offset.max(self.floor()));
    }
    /// Up to where the client holds everything.
    pub(super) fn held(&self) -> u64 {
        match self.claim {
            Claim::Above | Claim::Asked | Claim::Proven => self.bound.max(self.cursor),
            _ => self.cursor,
        }
    }
    /// The offset from which on this subscription is like any other: nothing is held beyond it, and no membership event is old.
    pub(super) fn ends(&self) -> u64 {
        self.bound.max(self.cursor).max(self.floor())
    }
    /// Whether the event with this offset changes who follows what.
    pub(super) fn moves(&self, offset: u64) -> bool {
        offset > self.floor()
    }
}

impl Entry for Record {
    fn vacant(next: u32) -> Self {
        let old = U48::default();
        Self { cursor: 0, bound: 0, place: NIL, next, old, claim: Claim::Vacant, is_asked: false }
    }
    fn next_vacant(&self) -> Option<u32> {
        (self.claim == Claim::Vacant).then_some(self.next)
    }
}

/// What one connection's catch-up has come to. 48 bytes, of connections that catch up only.
#[derive(Debug)]
pub(super) struct Catching {
    /// The first and the last of its records.
    first: u32,
    last: u32,
    /// The window in which `spent` was asked for.
    window: Mono,
    /// Less what answers left of it.
    pub(super) spent: Share,
    /// Asked for in any window, and still to be given.
    pub(super) due: Share,
    /// Events of before the ticket that it was given, or is to be.
    pub(super) replayed: u32,
    /// Tells it from others of the same connection.
    pub(super) life: u32,
    /// Pages on their way, and how many may be: fewer after a refusal.
    pub(super) pages: u8,
    pub(super) pages_max: u8,
    /// Those whose subscription is gone. What is asked for the next one at its place waits for them, or their answers could be taken for its.
    pub(super) stale: u8,
    /// A page of the user's own channel is on its way: it says what became of the channels behind it, and in which the user is now.
    pub(super) is_own_due: bool,
    pub(super) phase: Phase,
}

const _: () = assert!(size_of::<Catching>() == 48, "after an incident everybody has one");

impl Catching {
    /// Begins the next window when its time has come.
    pub(super) fn renew(&mut self, now: Mono, interval: Duration) {
        if self.window + interval <= now {
            (self.window, self.spent) = (now, Share::default());
        }
    }

    /// What may be asked for now, of `whole` in each window. What former ones asked for may come now.
    pub(super) fn left(&self, whole: Share) -> Share {
        let (mut unspent, mut open) = (whole, whole);
        unspent.take(self.spent);
        open.take(self.due);
        unspent.min(open)
    }

    /// It will not be given.
    pub(super) fn give_back(&mut self, share: Share) {
        self.spent.take(share);
        self.due.take(share);
    }
}

/// Why a catch-up does nothing now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    Vacant,
    /// The client is still to say where it stands.
    Held,
    /// It may go on, or waits for pages.
    Ready,
    /// Its window is used up, or its outbox full, or its question was refused.
    Paused,
    /// There is no room for its question at the core that it goes to.
    Crowded,
}

impl Entry for Catching {
    fn vacant(next: u32) -> Self {
        Self {
            first: next,
            last: NIL,
            window: Mono(0),
            spent: Share::default(),
            due: Share::default(),
            replayed: 0,
            life: 0,
            pages: 0,
            pages_max: 0,
            stale: 0,
            is_own_due: false,
            phase: Phase::Vacant,
        }
    }
    fn next_vacant(&self) -> Option<u32> {
        (self.phase == Phase::Vacant).then_some(self.first)
    }
}

/// The table of records is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Full;

/// Per shard.
#[derive(Debug)]
pub(super) struct Behind {
    records: Slab<Record>,
    catching: Slab<Catching>,
    count_max: u32,
    pages_max: u8,
    /// Catch-ups that ever began.
    lives: u32,
}

impl Behind {
    pub(super) fn new(count_max: u32, pages_max: u8) -> Self {
        let (records, catching) = (Slab::new(), Slab::new());
        Self { records, catching, count_max, pages_max, lives: 0 }
    }

    /// Begins the catch-up of a connection.
    pub(super) fn begin(&mut self, phase: Phase) -> u32 {
        self.lives = self.lives.wrapping_add(1);
        let (life, pages_max) = (self.lives, self.pages_max);
        self.catching.insert(Catching { life, pages_max, phase, ..Catching::vacant(NIL) })
    }

    /// Adds a subscription at the end of a connection's list.
    pub(super) fn add(&mut self, at: u32, place: u32, cursor: u64, floor: u64) -> Result<(), Full> {
        if self.records.count() >= self.count_max {
            return Err(Full);
        }
        let (next, old, claim) = (NIL, U48::at_most(floor), Claim::Sound);
        let record = Record { cursor, bound: floor, place, next, old, claim, is_asked: false };
        let record = self.records.insert(record);
        self.append(at, record);
        Ok(())
    }

    fn append(&mut self, at: u32, record: u32) {
        let catching = &mut self.catching[at];
        let last = std::mem::replace(&mut catching.last, record);
        match last {
            NIL => catching.first = record,
            last => self.records[last].next = record,
        }
        self.records[record].next = NIL;
    }

    /// The first record of a connection.
    pub(super) fn first(&self, at: u32) -> Option<u32> {
        Some(self.catching[at].first).filter(|first| *first != NIL)
    }

    /// The first record for which no page is on its way: those for which one is stand before it, and are few.
    pub(super) fn first_idle(&self, at: u32) -> Option<u32> {
        let mut record = self.catching[at].first;
        while record != NIL && self.records[record].is_asked {
            record = self.records[record].next;
        }
        Some(record).filter(|record| *record != NIL)
    }

    /// Whether a connection lacks something in one channel only.
    pub(super) fn is_one(&self, at: u32) -> bool {
        self.catching[at].first == self.catching[at].last
    }

    /// A record goes to the end: others may have their turn before it.
    pub(super) fn rotate(&mut self, at: u32, record: u32) {
        if self.records[record].next != NIL {
            self.cut(at, record);
            self.append(at, record);
        }
    }

    /// Takes a record out of its list.
    fn cut(&mut self, at: u32, record: u32) {
        let (mut before, mut other) = (NIL, self.catching[at].first);
        while other != record {
            (before, other) = (other, self.records[other].next);
        }
        let next = self.records[record].next;
        match before {
            NIL => self.catching[at].first = next,
            before => self.records[before].next = next,
        }
        if self.catching[at].last == record {
            self.catching[at].last = before;
        }
    }

    /// A connection's record of a channel, searched from `hint` on (a record of the same connection) round the list: clients
    /// name channels in the order in which they were told them.
    pub(super) fn find(&self, at: u32, place: u32, hint: Option<u32>) -> Option<u32> {
        let first = self.catching[at].first;
        let start = hint.unwrap_or(first);
        let mut record = start;
        loop {
            if record == NIL {
                if start == first {
                    return None;
                }
                record = first;
            }
            if self.records[record].place == place {
                return Some(record);
            }
            record = self.records[record].next;
            if record == start {
                return None;
            }
        }
    }

    /// Takes a connection's record of a channel out.
    pub(super) fn remove(&mut self, at: u32, place: u32) -> Option<Record> {
        let record = self.find(at, place, None)?;
        self.cut(at, record);
        let gone = self.records.remove(record);
        self.catching[at].stale += u8::from(gone.is_asked);
        Some(gone)
    }

    /// Ends a connection's catch-up, with all records that are left.
    pub(super) fn end(&mut self, at: u32) {
        let mut record = self.catching[at].first;
        while record != NIL {
            record = self.records.remove(record).next;
        }
        self.catching.remove(at);
    }

    pub(super) fn record(&mut self, record: u32) -> &mut Record {
        &mut self.records[record]
    }
    pub(super) fn catching(&mut self, at: u32) -> &mut Catching {
        &mut self.catching[at]
    }
    /// Subscriptions with a record.
    pub(super) fn count(&self) -> u32 {
        self.records.count()
    }
    /// Connections that catch up.
    pub(super) fn connections(&self) -> u32 {
        self.catching.count()
    }
    pub(super) fn bytes(&self) -> usize {
        self.records.bytes() + self.catching.bytes()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, VecDeque};

    use super::*;

    #[test]
    fn a_list_of_records_is_a_queue_that_can_be_searched() {
        let mut behind = Behind::new(1_000, 8);
        let at = behind.begin(Phase::Ready);
        let mut twin: VecDeque<u32> = VecDeque::new();
        let (mut asked, mut stale) = (BTreeSet::new(), 0u8);
        let mut random = 11u64;
        for step in 0..10_000u32 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let place = (random >> 33) as u32 % 30;
            match random >> 62 {
                0 | 1 if !twin.contains(&place) => {
                    behind.add(at, place, u64::from(step), 0).expect("room");
                    twin.push_back(place);
                }
                2 => {
                    let gone = behind.remove(at, place).map(|record| record.place);
                    let known = twin.iter().position(|other| *other == place);
                    assert_eq!(gone, known.and_then(|known| twin.remove(known)));
                    stale = (stale + u8::from(asked.remove(&place))) % 7;
                    behind.catching(at).stale %= 7;
                }
                _ => {
                    if let Some(record) = behind.find(at, place, None) {
                        behind.rotate(at, record);
                        twin.retain(|other| *other != place);
                        twin.push_back(place);
                        if !asked.remove(&place) {
                            asked.insert(place);
                        }
                        behind.record(record).is_asked = asked.contains(&place);
                    }
                }
            }
            assert_eq!(behind.catching(at).stale, stale);
            let first = behind.first(at);
            assert_eq!(first.map(|first| behind.record(first).place), twin.front().copied());
            let idle = behind.first_idle(at).map(|idle| behind.record(idle).place);
            assert_eq!(idle, twin.iter().find(|place| !asked.contains(place)).copied());
            assert_eq!(behind.is_one(at), twin.len() < 2);
            let hint = twin.get(step as usize % 7).map(|place| behind.find(at, *place, None));
            let found = behind.find(at, place, hint.flatten());
            assert_eq!(found.is_some(), twin.contains(&place));
            assert_eq!(behind.count() as usize, twin.len());
        }
        behind.end(at);
        assert_eq!((behind.count(), behind.connections()), (0, 0));
    }

    #[test]
    fn a_full_table_takes_no_more() {
        let mut behind = Behind::new(1, 8);
        let at = behind.begin(Phase::Held);
        assert_eq!(behind.add(at, 1, 0, 0), Ok(()));
        assert_eq!(behind.add(at, 2, 0, 0), Err(Full));
    }
}
