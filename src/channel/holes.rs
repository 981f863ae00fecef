//! Publications that wait for one before them, by channel.
//!
//! Nothing is lost by refusing one: it is in the outbox until we took it, and so is the missing one, or the source has it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::backlog::Stored;
use crate::ids::{Ask, Key, Origin, Slot};
use crate::limits::Limits;
use crate::time::Mono;
use crate::wire::{Member, Membership};

/// A publication that waits.
#[derive(Clone, Debug)]
pub(super) struct Held {
    origin: Origin,
    member: Option<OwnedMember>,
    payload: Box<[u8]>,
}

/// A [`Member`] that outlives its message.
#[derive(Clone, Debug)]
struct OwnedMember {
    what: Membership,
    user: Box<str>,
    channel: Box<str>,
    offset: u64,
}

/// How far the filling of a hole is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// What is missing may come by itself until then; afterwards it is to be asked for.
    Waiting {
        until: Mono,
    },
    Asked(Ask),
}

/// The held publications of one channel. One at least.
#[derive(Debug)]
struct Hole {
    slot: Slot,
    name: Box<str>,
    state: State,
    /// Questions in a row that brought nothing.
    tries: u32,
    held: BTreeMap<u64, Held>,
}

/// There is no room for one more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Full;

/// Per core.
#[derive(Debug)]
pub(super) struct Holes {
    by_key: FxHashMap<Key, Hole>,
    waiting: BTreeSet<(Mono, Key)>,
    bytes: u64,
    count_max: usize,
    held_max: usize,
    bytes_max: u64,
    patience: Duration,
}

/// Of a held publication besides its texts, about.
const HELD_BYTES: usize = 160;
/// A hole that cannot be filled is asked for less and less often: up to 128 times as long.
const DOUBLINGS_MAX: u32 = 7;

impl Holes {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            by_key: FxHashMap::default(),
            waiting: BTreeSet::new(),
            bytes: 0,
            count_max: limits.holes_max as usize,
            held_max: limits.held_per_channel_max as usize,
            bytes_max: limits.held_bytes_max,
            patience: limits.gap_timeout,
        }
    }

    /// Holds a publication. False: it was held already.
    pub(super) fn hold(
        &mut self,
        now: Mono,
        (slot, key): (Slot, Key),
        name: &str,
        stored: &Stored<'_>,
    ) -> Result<bool, Full> {
        let hole = self.by_key.get(&key);
        if hole.is_some_and(|hole| hole.held.contains_key(&stored.offset)) {
            return Ok(false);
        }
        let held = Held::new(stored);
        let is_full = match hole {
            Some(hole) => hole.held.len() >= self.held_max,
            None => self.by_key.len() >= self.count_max,
        };
        if is_full || self.bytes + held.bytes() > self.bytes_max {
            return Err(Full);
        }
        self.bytes += held.bytes();
        let until = now + self.patience;
        let hole = self.by_key.entry(key).or_insert_with(|| {
            self.waiting.insert((until, key));
            let state = State::Waiting { until };
            Hole { slot, name: name.into(), state, tries: 0, held: BTreeMap::new() }
        });
        hole.held.insert(stored.offset, held);
        Ok(true)
    }

    /// Takes out the publication after the tip, if it is held, and those that the tip has passed. A hole without any is gone.
    pub(super) fn take(&mut self, key: Key, tip: u64) -> Option<(u64, Held)> {
        let hole = self.by_key.get_mut(&key)?;
        let mut next = None;
        while let Some(first) = hole.held.first_entry().filter(|first| *first.key() <= tip + 1) {
            let (offset, held) = first.remove_entry();
            self.bytes -= held.bytes();
            if offset == tip + 1 {
                next = Some((offset, held));
                break;
            }
        }
        if hole.held.is_empty() {
            self.remove(key);
        }
        next
    }

    /// What was to come by itself did not: a hole that is to be asked about.
    pub(super) fn due(&self, now: Mono) -> Option<(Slot, Key)> {
        let &(_, key) = self.waiting.first().filter(|(until, _)| *until <= now)?;
        Some((self.by_key[&key].slot, key))
    }

    /// The name of a channel with a hole, and the first offset that is held.
    pub(super) fn first(&self, key: Key) -> Option<(&str, u64)> {
        let hole = self.by_key.get(&key)?;
        let (first, _) = hole.held.first_key_value().expect("a hole has one at least");
        Some((&hole.name, *first))
    }

    /// What is missing was asked for.
    pub(super) fn asked(&mut self, key: Key, ask: Ask) {
        self.set_state(key, State::Asked(ask));
    }

    /// The question was not answered: it is due again.
    pub(super) fn unanswered(&mut self, key: Key, ask: Ask) {
        if self.is_asked(key, ask) {
            self.set_state(key, State::Waiting { until: Mono(0) });
        }
    }

    /// The question was answered, and something is still missing: due again at once, if the answer brought something.
    pub(super) fn answered(&mut self, now: Mono, key: Key, ask: Ask, is_nearer: bool) {
        if !self.is_asked(key, ask) {
            return;
        }
        let hole = self.by_key.get_mut(&key).expect("just seen");
        let pause = self.patience * (1 << hole.tries);
        hole.tries = if is_nearer { 0 } else { (hole.tries + 1).min(DOUBLINGS_MAX) };
        let until = if is_nearer { now } else { now + pause };
        self.set_state(key, State::Waiting { until });
    }

    /// Lets go of the holes of slots that are somebody else's now.
    pub(super) fn retain(&mut self, is_kept: impl Fn(Slot) -> bool) {
        let gone = self.by_key.iter().filter(|(_, hole)| !is_kept(hole.slot));
        let gone: Vec<Key> = gone.map(|(key, _)| *key).collect();
        for key in gone {
            self.bytes -= self.by_key[&key].held.values().map(Held::bytes).sum::<u64>();
            self.remove(key);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }
    pub(super) fn contains(&self, key: Key) -> bool {
        self.by_key.contains_key(&key)
    }
    /// Bytes that are held.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
    /// When `due` has something.
    pub(super) fn deadline(&self) -> Option<Mono> {
        self.waiting.first().map(|(until, _)| *until)
    }

    fn is_asked(&self, key: Key, ask: Ask) -> bool {
        self.by_key.get(&key).is_some_and(|hole| hole.state == State::Asked(ask))
    }

    fn set_state(&mut self, key: Key, state: State) {
        let hole = self.by_key.get_mut(&key).expect("only holes that are there change");
        if let State::Waiting { until } = std::mem::replace(&mut hole.state, state) {
            self.waiting.remove(&(until, key));
        }
        if let State::Waiting { until } = state {
            self.waiting.insert((until, key));
        }
    }

    fn remove(&mut self, key: Key) {
        if let Some(Hole { state: State::Waiting { until }, .. }) = self.by_key.remove(&key) {
            self.waiting.remove(&(until, key));
        }
    }
}

impl Held {
    fn new(stored: &Stored<'_>) -> Self {
        let member = stored.member.map(|Member { what, user, channel, offset }| OwnedMember {
            what,
            user: user.into(),
            channel: channel.into(),
            offset,
        });
        Self { origin: stored.origin, member, payload: stored.payload.into() }
    }
    pub(super) fn stored(&self, offset: u64) -> Stored<'_> {
        let member = self.member.as_ref().map(|member| Member {
            what: member.what,
            user: &member.user,
            channel: &member.channel,
            offset: member.offset,
        });
        Stored { offset, origin: self.origin, member, payload: &self.payload }
    }
    fn bytes(&self) -> u64 {
        let texts =
            self.member.as_ref().map_or(0, |member| member.user.len() + member.channel.len());
        (HELD_BYTES + texts + self.payload.len()) as u64
    }
}
