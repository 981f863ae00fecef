//! Questions to the source, and what waits for their answers. All bounded; a question without an answer is asked again.

use std::collections::{BTreeMap, VecDeque};

use rustc_hash::FxHashMap;

use crate::ids::{Ask, Handle, Key, Origin, Slot};
use crate::time::Mono;
use crate::wire::Member;
use crate::wire::room::Room;

/// What was asked of the source, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Question {
    /// A channel is being opened.
    Tip { slot: Slot, key: Key },
    /// Publications are held behind a hole.
    Fill { slot: Slot, key: Key },
    /// Somebody asked for what the backlog does not have.
    Fetch {
        fetch: Fetch,
        /// Of its answer, as far as it came.
        used: Room,
    },
}

/// A fetch on its way: who asked, and for what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Fetch {
    pub(super) link: u16,
    pub(super) ask: Ask,
    pub(super) handle: Handle,
    pub(super) slot: Slot,
    pub(super) key: Key,
    pub(super) after: u64,
    pub(super) count_max: u32,
    pub(super) bytes_max: u32,
    pub(super) name: Box<str>,
}

/// Questions that are open.
#[derive(Debug, Default)]
pub(super) struct Questions {
    open: FxHashMap<u32, Question>,
    due: VecDeque<(Mono, u32)>,
    next: u32,
}

impl Questions {
    /// Notes a question that is to be answered until `due`.
    pub(super) fn open(&mut self, question: Question, due: Mono) -> Ask {
        self.next = self.next.wrapping_add(1);
        self.open.insert(self.next, question);
        self.due.push_back((due, self.next));
        Ask(self.next)
    }
    pub(super) fn peek(&self, ask: Ask) -> Option<&Question> {
        self.open.get(&ask.0)
    }
    pub(super) fn peek_mut(&mut self, ask: Ask) -> Option<&mut Question> {
        self.open.get_mut(&ask.0)
    }
    pub(super) fn close(&mut self, ask: Ask) -> Option<Question> {
        self.open.remove(&ask.0)
    }
    /// One question whose time is over.
    pub(super) fn overdue(&mut self, now: Mono) -> Option<Question> {
        while let Some(&(due, ask)) = self.due.front() {
            if due > now && self.open.contains_key(&ask) {
                return None;
            }
            self.due.pop_front();
            if let Some(question) = self.open.remove(&ask) {
                return Some(question);
            }
        }
        None
    }
    /// All of them, in the order in which they were asked: the source is lost.
    pub(super) fn drain(&mut self) -> Vec<Question> {
        let due = std::mem::take(&mut self.due);
        due.into_iter().filter_map(|(_, ask)| self.open.remove(&ask)).collect()
    }
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }
    pub(super) fn deadline(&self) -> Option<Mono> {
        self.due.front().map(|(due, _)| *due)
    }
}

/// A channel that is being opened: who waits for its tip.
#[derive(Debug, Default)]
pub(super) struct Opening {
    pub(super) name: Box<str>,
    pub(super) waiting: Vec<(u16, Handle)>,
}

/// A publication that waits for the one before it.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) origin: Origin,
    pub(super) member: Option<OwnedMember>,
    pub(super) payload: Box<[u8]>,
}

/// A [`Member`] that outlives its message.
#[derive(Clone, Debug)]
pub(super) struct OwnedMember {
    what: crate::wire::Membership,
    user: Box<str>,
    channel: Box<str>,
    offset: u64,
}

impl OwnedMember {
    pub(super) fn new(member: &Member<'_>) -> Self {
        let Member { what, user, channel, offset } = *member;
        Self { what, user: user.into(), channel: channel.into(), offset }
    }
    pub(super) fn as_member(&self) -> Member<'_> {
        Member { what: self.what, user: &self.user, channel: &self.channel, offset: self.offset }
    }
}

/// The held publications of one channel.
#[derive(Debug)]
pub(super) struct Hole {
    pub(super) name: Box<str>,
    pub(super) slot: Slot,
    pub(super) since: Mono,
    pub(super) is_asked: bool,
    pub(super) held: BTreeMap<u64, Held>,
}
