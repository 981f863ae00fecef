//! Rows of the outbox in memory: each ready in the lane of its owner, resting, on its way, or acknowledged.
//!
//! A lane is one owner's shard. It takes a window of messages and bytes that never fills half of its mailbox, so that the dispatcher does not
//! break the link that it needs. One lane never waits for another, nor one channel of a lane for another.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::ids::{Ask, Origin, Peer, Seat, Slot};
use crate::limits::Limits;
use crate::time::{Mono, sooner};
use crate::wire::{Member, Membership, Message};

/// What `Publish` will say.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) namespace: u16,
    pub(super) offset: u64,
    pub(super) origin: Origin,
    member: Option<Moved>,
    pub(super) name: Box<str>,
    pub(super) payload: Box<[u8]>,
    pub(super) slot: Slot,
}

/// An owned [`Member`].
#[derive(Clone, Debug)]
struct Moved {
    what: Membership,
    user: Box<str>,
    channel: Box<str>,
    offset: u64,
}

impl Row {
    /// A copy of what `Committed` says; `None` of any other message.
    pub(super) fn of(message: &Message<'_>, slot_of: impl Fn(&str) -> Slot) -> Option<(u64, Self)> {
        let Message::Committed { id, namespace, offset, origin, member, name, payload } = *message
        else {
            return None;
        };
        let member = member.map(|Member { what, user, channel, offset }| Moved {
            what,
            user: user.into(),
            channel: channel.into(),
            offset,
        });
        let slot = slot_of(name);
        let (name, payload) = (name.into(), payload.into());
        Some((id, Self { namespace, offset, origin, member, name, payload, slot }))
    }
    pub(super) fn member(&self) -> Option<Member<'_>> {
        self.member.as_ref().map(|Moved { what, user, channel, offset }| Member {
            what: *what,
            user,
            channel,
            offset: *offset,
        })
    }
    /// About what it takes, here and in a mailbox.
    fn bytes(&self) -> u64 {
        let member =
            self.member.as_ref().map_or(0, |moved| moved.user.len() + moved.channel.len() + 16);
        (ROW_BYTES + self.name.len() + self.payload.len() + member) as u64
    }
}

/// Of a row besides its texts.
const ROW_BYTES: usize = 160;

/// Where a row stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// In the lane of its owner, or in none while there is no ring.
    Ready,
    /// Refused: ready again after a while.
    Resting,
    Sent {
        ask: Ask,
        peer: Peer,
        seat: Seat,
    },
    /// The owner holds it; `finalise` has it.
    Acknowledged,
}

#[derive(Debug)]
struct Held {
    row: Row,
    state: State,
    /// How often it was sent.
    tries: u32,
}

/// One owner's shard.
#[derive(Default, Debug)]
struct Lane {
    is_up: bool,
    ready: VecDeque<u64>,
    sent: u32,
    sent_bytes: u64,
}

/// Whose a slot is now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Owner {
    pub(super) peer: Peer,
    pub(super) seat: Seat,
}

/// All rows in memory. Per node.
#[derive(Debug)]
pub(super) struct Rows {
    held: FxHashMap<u64, Held>,
    bytes: u64,
    lanes: BTreeMap<Peer, Lane>,
    resting: BTreeSet<(Mono, u64)>,
    by_ask: FxHashMap<u32, u64>,
    /// Answers are due in the order in which rows were sent; answered ones are passed over.
    due: VecDeque<(Mono, Ask)>,
    asks: u32,
    bounds: Bounds,
}

#[derive(Debug)]
struct Bounds {
    rows_max: usize,
    bytes_max: u64,
    lane_max: u32,
    lane_bytes_max: u64,
    timeout: Duration,
}

/// After a refusal; twice as long after each further one.
const REST: Duration = Duration::from_millis(20);
const REST_DOUBLINGS_MAX: u32 = 5;

impl Rows {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            held: FxHashMap::default(),
            bytes: 0,
            lanes: BTreeMap::new(),
            resting: BTreeSet::new(),
            by_ask: FxHashMap::default(),
            due: VecDeque::new(),
            asks: 0,
            bounds: Bounds {
                rows_max: limits.dispatch_max as usize,
                bytes_max: limits.dispatch_bytes_max,
                lane_max: (limits.mail_messages_max / 4).max(1),
                lane_bytes_max: u64::from(limits.mail_bytes_max / 4),
                timeout: limits.dispatch_timeout,
            },
        }
    }

    /// Takes a row that is not here yet. False: there is no room.
    pub(super) fn insert(&mut self, id: u64, row: Row, owner: Option<Owner>) -> bool {
        assert!(!self.contains(id), "a row is here once");
        if !self.has_room() {
            return false;
        }
        self.bytes += row.bytes();
        self.held.insert(id, Held { row, state: State::Ready, tries: 0 });
        if let Some(owner) = owner {
            self.lane(owner.peer).ready.push_back(id);
        }
        true
    }

    /// Lets a row go that is acknowledged.
    pub(super) fn remove(&mut self, id: u64) {
        if let Some(held) = self.held.remove(&id) {
            assert!(held.state == State::Acknowledged, "rows leave by way of `finalise`");
            self.bytes -= held.row.bytes();
        }
    }

    /// Where rows belong changed: every ready row goes to the lane of its owner, oldest first.
    pub(super) fn place(&mut self, owner_of: impl Fn(Slot) -> Owner) {
        for lane in self.lanes.values_mut() {
            lane.ready.clear();
        }
        let mut ready: Vec<u64> = self
            .held
            .iter()
            .filter(|(_, held)| held.state == State::Ready)
            .map(|(id, _)| *id)
            .collect();
        ready.sort_unstable();
        for id in ready {
            let owner = owner_of(self.held[&id].row.slot);
            self.lane(owner.peer).ready.push_back(id);
        }
        self.lanes.retain(|_, lane| lane.is_up || lane.sent > 0 || !lane.ready.is_empty());
    }

    /// The owner's link is up.
    pub(super) fn up(&mut self, peer: Peer) {
        self.lane(peer).is_up = true;
    }

    /// The owner's link is lost: what was on its way goes first, in its order. How many those are.
    pub(super) fn lost(&mut self, peer: Peer, owner_of: impl Fn(Slot) -> Option<Owner>) -> u32 {
        self.lane(peer).is_up = false;
        let is_lost =
            |held: &Held| matches!(held.state, State::Sent { peer: to, .. } if to == peer);
        let mut ids: Vec<u64> =
            self.held.iter().filter(|(_, held)| is_lost(held)).map(|(id, _)| *id).collect();
        ids.sort_unstable_by(|a, b| b.cmp(a));
        for id in &ids {
            self.unsend(*id);
            if let Some(owner) = owner_of(self.held[id].row.slot) {
                self.lane(owner.peer).ready.push_front(*id);
            }
        }
        ids.len() as u32
    }

    /// The next row that may be sent, to whom it goes in lane order.
    pub(super) fn next(&mut self) -> Option<(Peer, u64)> {
        let bounds = &self.bounds;
        let (peer, lane) = self.lanes.iter_mut().find(|(_, lane)| {
            lane.is_up
                && !lane.ready.is_empty()
                && lane.sent < bounds.lane_max
                && lane.sent_bytes < bounds.lane_bytes_max
        })?;
        let id = lane.ready.pop_front().expect("just seen");
        Some((*peer, id))
    }

    /// Notes that a row goes to an owner now: the `ask` by which its answer is known, and whether it was sent before.
    pub(super) fn sent(&mut self, now: Mono, id: u64, owner: Owner) -> (Ask, bool) {
        self.asks = self.asks.wrapping_add(1);
        let ask = Ask(self.asks);
        let held = self.held.get_mut(&id).expect("only rows that are here are sent");
        assert!(held.state == State::Ready, "a row is on its way once");
        held.state = State::Sent { ask, peer: owner.peer, seat: owner.seat };
        held.tries = held.tries.saturating_add(1);
        let (is_again, bytes) = (held.tries > 1, held.row.bytes());
        self.by_ask.insert(ask.0, id);
        self.due.push_back((now + self.bounds.timeout, ask));
        let lane = self.lane(owner.peer);
        lane.sent += 1;
        lane.sent_bytes += bytes;
        (ask, is_again)
    }

    /// The owner holds the row: its id, slot and the seat that it was sent to.
    pub(super) fn acknowledged(&mut self, ask: Ask) -> Option<(u64, Slot, Seat)> {
        let id = *self.by_ask.get(&ask.0)?;
        let State::Sent { seat, .. } = self.held[&id].state else { return None };
        self.unsend(id);
        let held = self.held.get_mut(&id).expect("just seen");
        held.state = State::Acknowledged;
        Some((id, held.row.slot, seat))
    }

    /// The owner did not take the row: it rests, longer each time.
    pub(super) fn refused(&mut self, now: Mono, ask: Ask) {
        let Some(&id) = self.by_ask.get(&ask.0) else { return };
        self.unsend(id);
        let held = self.held.get_mut(&id).expect("just seen");
        let until = now + REST * (1 << (held.tries - 1).min(REST_DOUBLINGS_MAX));
        held.state = State::Resting;
        self.resting.insert((until, id));
    }

    /// An acknowledgement that counts no more: the row is to be sent again.
    pub(super) fn again(&mut self, id: u64, owner: Option<Owner>) {
        let Some(held) = self.held.get_mut(&id) else { return };
        assert!(held.state == State::Acknowledged, "only then was it taken for done");
        held.state = State::Ready;
        if let Some(owner) = owner {
            self.lane(owner.peer).ready.push_back(id);
        }
    }

    /// Rows that rested enough, or whose owner does not answer, are ready again. How many were not answered.
    pub(super) fn wake(&mut self, now: Mono, owner_of: impl Fn(Slot) -> Option<Owner>) -> u32 {
        let mut unanswered = 0;
        let mut ready = Vec::new();
        while let Some(&(until, id)) = self.resting.first().filter(|(until, _)| *until <= now) {
            self.resting.remove(&(until, id));
            ready.push(id);
        }
        while let Some(&(due, ask)) = self.due.front() {
            if let Some(&id) = self.by_ask.get(&ask.0) {
                if due > now {
                    break;
                }
                self.unsend(id);
                ready.push(id);
                unanswered += 1;
            }
            self.due.pop_front();
        }
        ready.sort_unstable();
        for id in ready {
            let held = self.held.get_mut(&id).expect("resting and sent rows are here");
            held.state = State::Ready;
            if let Some(owner) = owner_of(held.row.slot) {
                self.lane(owner.peer).ready.push_back(id);
            }
        }
        unanswered
    }

    pub(super) fn row(&self, id: u64) -> &Row {
        &self.held[&id].row
    }
    pub(super) fn contains(&self, id: u64) -> bool {
        self.held.contains_key(&id)
    }
    pub(super) fn has_room(&self) -> bool {
        self.held.len() < self.bounds.rows_max && self.bytes < self.bounds.bytes_max
    }
    /// Half of the room is free: worth reading the table for more.
    pub(super) fn has_much_room(&self) -> bool {
        self.held.len() * 2 <= self.bounds.rows_max && self.bytes * 2 <= self.bounds.bytes_max
    }
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
    /// When `wake` has something to do.
    pub(super) fn deadline(&self) -> Option<Mono> {
        let resting = self.resting.first().map(|(until, _)| *until);
        sooner(resting, self.due.front().map(|(due, _)| *due))
    }

    /// What is on its way counts no more, whatever the answer will be.
    fn unsend(&mut self, id: u64) {
        let held = self.held.get_mut(&id).expect("sent rows are here");
        let State::Sent { ask, peer, .. } = held.state else { return };
        held.state = State::Ready;
        let bytes = held.row.bytes();
        self.by_ask.remove(&ask.0);
        let lane = self.lane(peer);
        lane.sent -= 1;
        lane.sent_bytes -= bytes;
    }

    fn lane(&mut self, peer: Peer) -> &mut Lane {
        self.lanes.entry(peer).or_default()
    }
}
