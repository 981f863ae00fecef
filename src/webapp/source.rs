//! Reads of the past that wait for their turn: by asker, so that nobody waits for another's full mailbox.
//!
//! A read of a range begins when its whole answer fits into what its asker's mailbox takes (its *room*): the answers of the database are never
//! held here. Equal reads of one asker that have not begun are one read with several answers.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::ids::{Ask, Peer};
use crate::limits::Limits;
use crate::wire::Message;
use crate::wire::room::{Credit, Room};

/// A read that begins: a `Tip` or a `Range` with `Ask(0)`, encoded, and who wants the answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Read {
    pub(super) peer: Peer,
    pub(super) asks: Vec<Ask>,
    pub(super) question: Box<[u8]>,
    /// Taken from the asker's room for it, and what of that its answers used.
    reserved: Room,
    pub(super) used: Room,
    life: u32,
}

/// One asker.
#[derive(Debug, Default)]
struct Lane {
    is_up: bool,
    life: u32,
    tips: Line,
    ranges: Line,
    credit: Credit,
}

/// Reads of one kind, the longest waiting first.
#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<Waiting>,
    /// The number of the newest equal read that others may join. The first of `waiting` has the number `first`.
    newest: HashMap<Box<[u8]>, u64>,
    first: u64,
    asks: usize,
}

#[derive(Debug)]
struct Waiting {
    question: Box<[u8]>,
    asks: Vec<Ask>,
    /// Of one answer.
    need: Room,
}

/// There are too many of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Full;

/// All reads that wait. Per node.
#[derive(Debug)]
pub(super) struct Reads {
    lanes: BTreeMap<Peer, Lane>,
    /// Whose turn was last.
    last: Option<Peer>,
    open: u32,
    open_max: u32,
    tips_max: usize,
    ranges_max: usize,
    /// What `PeerUp` and `PeerRoom` give.
    grant: Room,
    publication_bytes_max: u64,
}

impl Reads {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            lanes: BTreeMap::new(),
            last: None,
            open: 0,
            open_max: limits.source_reads_max,
            tips_max: limits.mail_messages_max as usize,
            ranges_max: limits.fetches_max as usize,
            grant: Room::grant(limits),
            publication_bytes_max: u64::from(limits.publication_bytes_max),
        }
    }

    /// The link to an asker is up.
    pub(super) fn up(&mut self, peer: Peer) {
        self.lost(peer);
        let grant = self.grant;
        let lane = self.lanes.entry(peer).or_default();
        lane.is_up = true;
        lane.credit = Credit::new(grant);
    }

    /// An asker is lost: nobody waits for its reads any more. Those that have begun go on for nobody.
    pub(super) fn lost(&mut self, peer: Peer) {
        if let Some(lane) = self.lanes.get_mut(&peer) {
            *lane = Lane { life: lane.life + 1, ..Lane::default() };
        }
    }

    /// The asker's mailbox is half empty.
    pub(super) fn room(&mut self, peer: Peer) {
        if let Some(lane) = self.lanes.get_mut(&peer).filter(|lane| lane.is_up) {
            lane.credit.renew(self.grant);
        }
    }

    /// A `Tip` waits for its turn.
    pub(super) fn tip(&mut self, peer: Peer, ask: Ask, name: &str) -> Result<(), Full> {
        let Some(lane) = self.lanes.get_mut(&peer).filter(|lane| lane.is_up) else {
            return Err(Full);
        };
        let question = encoded(&Message::Tip { ask: Ask(0), name });
        lane.tips.join(question, ask, Room::default(), self.tips_max, self.grant)
    }

    /// A `Range` waits for its turn, cut to what one answer may hold.
    pub(super) fn range(
        &mut self,
        peer: Peer,
        ask: Ask,
        name: &str,
        (from, to): (u64, u64),
        bytes_max: u32,
    ) -> Result<(), Full> {
        let Some(lane) = self.lanes.get_mut(&peer).filter(|lane| lane.is_up) else {
            return Err(Full);
        };
        // Two answers fit into one grant, so that one asker's catch-up does not stand still for one slow page.
        let events_max = u64::from((self.grant.messages / 2).saturating_sub(1).max(1));
        let to = to.min(from.saturating_add(events_max - 1));
        let events = to.saturating_sub(from).saturating_add(1).min(events_max);
        let bytes_max = bytes_max.min(u32::try_from(self.grant.bytes / 4).unwrap_or(u32::MAX));
        // The event that reaches the bound is sent whole.
        let bytes = u64::from(bytes_max) + self.publication_bytes_max;
        let need = Room {
            messages: (events as u32 + 1).min(self.grant.messages),
            bytes: bytes.min(self.grant.bytes),
        };
        let question = encoded(&Message::Range { ask: Ask(0), name, from, to, bytes_max });
        lane.ranges.join(question, ask, need, self.ranges_max, self.grant)
    }

    /// The next read that may begin.
    pub(super) fn next(&mut self) -> Option<Read> {
        if self.open >= self.open_max {
            return None;
        }
        let after = self.last.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let later = self.lanes.range((after, std::ops::Bound::Unbounded));
        let can = |(peer, lane): (&Peer, &Lane)| lane.can_begin().then_some(*peer);
        let peer = later.chain(self.lanes.iter()).find_map(can)?;
        let lane = self.lanes.get_mut(&peer).expect("just found");
        let line = if lane.tips.waiting.is_empty() { &mut lane.ranges } else { &mut lane.tips };
        let Waiting { question, asks, need } = line.pop().expect("just seen");
        let reserved = need.times(asks.len());
        // Tips need no room.
        assert!(lane.credit.reserve(reserved), "a read begins when its whole answer fits");
        self.open += 1;
        self.last = Some(peer);
        let life = lane.life;
        Some(Read { peer, asks, question, reserved, used: Room::default(), life })
    }

    /// A read is at its end: what its answers did not use is free again.
    pub(super) fn ended(&mut self, read: &Read, used: Room) {
        self.open -= 1;
        if !self.is_wanted(read) {
            return;
        }
        let lane = self.lanes.get_mut(&read.peer).expect("wanted by somebody");
        lane.credit.settle(read.reserved, used, self.grant);
    }

    /// Whether the asker is still the one that asked.
    pub(super) fn is_wanted(&self, read: &Read) -> bool {
        self.lanes.get(&read.peer).is_some_and(|lane| lane.is_up && lane.life == read.life)
    }
    pub(super) fn open(&self) -> u32 {
        self.open
    }
    pub(super) fn waiting(&self) -> usize {
        self.lanes.values().map(|lane| lane.tips.asks + lane.ranges.asks).sum()
    }
}

impl Lane {
    fn can_begin(&self) -> bool {
        let range = self.ranges.waiting.front();
        !self.tips.waiting.is_empty()
            || range.is_some_and(|read| self.credit.holds(read.need.times(read.asks.len())))
    }
}

impl Line {
    fn join(
        &mut self,
        question: Box<[u8]>,
        ask: Ask,
        need: Room,
        asks_max: usize,
        grant: Room,
    ) -> Result<(), Full> {
        if self.asks >= asks_max {
            return Err(Full);
        }
        self.asks += 1;
        let equal = self.newest.get(&question).map(|number| (*number - self.first) as usize);
        if let Some(at) = equal
            && let Some(waiting) = self.waiting.get_mut(at)
            && grant.holds(need.times(waiting.asks.len() + 1))
        {
            waiting.asks.push(ask);
            return Ok(());
        }
        self.newest.insert(question.clone(), self.first + self.waiting.len() as u64);
        self.waiting.push_back(Waiting { question, asks: vec![ask], need });
        Ok(())
    }

    fn pop(&mut self) -> Option<Waiting> {
        let waiting = self.waiting.pop_front()?;
        if self.newest.get(&waiting.question) == Some(&self.first) {
            self.newest.remove(&waiting.question);
        }
        self.first += 1;
        self.asks -= waiting.asks.len();
        Some(waiting)
    }
}

fn encoded(message: &Message<'_>) -> Box<[u8]> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    bytes.into_boxed_slice()
}
