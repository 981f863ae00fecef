//! The link to the source of durable channels: what is to be asked, what is asked, and until when.
//!
//! Questions are bulk: they wait here, bounded, while the source is away, is slow, or its mailbox is full. Every one is answered, or is asked
//! again, or is refused to whoever wanted it.

use std::collections::VecDeque;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::past::{Fetch, Parked, Passing};
use super::shard::Owner;
use crate::ids::{Ask, Key, Peer, Slot};
use crate::limits::Limits;
use crate::shard::{Counter, Effects};
use crate::time::{Mono, Now};
use crate::wire::room::{Credit, Room};

/// What was asked of the source, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Question {
    /// How far a channel is that is being opened.
    Tip { slot: Slot, key: Key },
    /// What is missing before held publications; the tip when it was asked.
    Fill { slot: Slot, key: Key, tip: u64 },
    /// What somebody fetched and the backlog does not have.
    Past(Passing),
}

/// Per core.
#[derive(Debug)]
pub(super) struct Source {
    peer: Peer,
    is_up: bool,
    credit: Credit,
    grant: Room,
    open: FxHashMap<u32, Question>,
    /// Of `open`, those that are `Past`.
    passing: usize,
    /// When questions are due, in the order in which they were asked. Answered ones are passed over.
    due: VecDeque<(Mono, u32)>,
    asks: u32,
    /// Channels whose tip is to be asked: each once.
    wants: VecDeque<(Slot, Key)>,
    parked: VecDeque<Parked>,
    questions_max: usize,
    timeout: Duration,
}

/// Of a question besides its name, envelope included, about.
const QUESTION_BYTES: usize = 48;
/// Questions that one input asks, and that one tick gives up.
const TURNS: usize = 256;

impl Source {
    pub(super) fn new(peer: Peer, limits: &Limits) -> Self {
        Self {
            peer,
            is_up: false,
            credit: Credit::default(),
            grant: Room::grant(limits),
            open: FxHashMap::default(),
            passing: 0,
            due: VecDeque::new(),
            asks: 0,
            wants: VecDeque::new(),
            parked: VecDeque::new(),
            questions_max: limits.questions_max as usize,
            timeout: limits.ask_timeout,
        }
    }

    pub(super) fn up(&mut self) {
        self.is_up = true;
        self.credit = Credit::new(self.grant);
    }

    /// The source is away: what was asked, in its order, will not be answered.
    pub(super) fn lost(&mut self) -> (Vec<(Ask, Question)>, VecDeque<Parked>) {
        self.is_up = false;
        self.passing = 0;
        let due = std::mem::take(&mut self.due);
        let asked =
            due.into_iter().filter_map(|(_, ask)| Some((Ask(ask), self.open.remove(&ask)?)));
        (asked.collect(), std::mem::take(&mut self.parked))
    }

    pub(super) fn room(&mut self) {
        self.credit.renew(self.grant);
    }

    /// A channel's tip is to be asked.
    pub(super) fn want(&mut self, slot: Slot, key: Key) {
        self.wants.push_back((slot, key));
    }
    /// Before those of all others.
    pub(super) fn want_first(&mut self, slot: Slot, key: Key) {
        self.wants.push_front((slot, key));
    }
    /// The channel whose tip is to be asked next.
    pub(super) fn wanted(&mut self) -> Option<(Slot, Key)> {
        self.wants.pop_front()
    }
    /// Tips of channels of other slots are wanted no more.
    pub(super) fn retain(&mut self, is_kept: impl Fn(Slot) -> bool) {
        self.wants.retain(|(slot, _)| is_kept(*slot));
    }

    /// Notes a question that the caller sends now. `None`: the source does not take it now.
    pub(super) fn ask(&mut self, now: Mono, question: Question, name: &str) -> Option<Ask> {
        let is_past = matches!(question, Question::Past(_));
        let takes = if is_past { self.takes_past() } else { self.takes() };
        if !takes || !self.credit.spend(name.len() + QUESTION_BYTES) {
            return None;
        }
        self.asks = self.asks.wrapping_add(1);
        self.passing += usize::from(is_past);
        self.open.insert(self.asks, question);
        self.due.push_back((now + self.timeout, self.asks));
        Some(Ask(self.asks))
    }

    pub(super) fn question(&self, ask: Ask) -> Option<Question> {
        self.open.get(&ask.0).copied()
    }
    /// An open question, to note what of its answer came.
    pub(super) fn open_mut(&mut self, ask: Ask) -> Option<&mut Question> {
        self.open.get_mut(&ask.0)
    }

    /// A question is answered. `None`: it was not asked, or given up.
    pub(super) fn close(&mut self, ask: Ask) -> Option<Question> {
        let question = self.open.remove(&ask.0)?;
        self.passing -= usize::from(matches!(question, Question::Past(_)));
        while self.due.front().is_some_and(|(_, ask)| !self.open.contains_key(ask)) {
            self.due.pop_front();
        }
        Some(question)
    }

    /// A question that was not answered in time; it is closed.
    pub(super) fn overdue(&mut self, now: Mono) -> Option<(Ask, Question)> {
        let &(_, ask) = self.due.front().filter(|(due, _)| *due <= now)?;
        self.close(Ask(ask)).map(|question| (Ask(ask), question))
    }

    /// A fetch waits until the source takes another question; the caller has seen that one more may wait.
    pub(super) fn park(&mut self, fetch: Fetch, name: &str) {
        self.parked.push_back(Parked { fetch, name: name.into() });
    }
    /// The next parked fetch, if the source takes another.
    pub(super) fn unpark(&mut self) -> Option<Parked> {
        if self.takes_past() { self.parked.pop_front() } else { None }
    }

    pub(super) fn peer(&self) -> Peer {
        self.peer
    }
    pub(super) fn is_up(&self) -> bool {
        self.is_up
    }
    /// Whether the source takes a question about a tip or a hole now.
    pub(super) fn takes(&self) -> bool {
        let open = self.open.len() - self.passing;
        self.is_up && open < self.questions_max && self.credit.holds(ONE)
    }
    /// Whether it takes one about the past. These are counted apart: whoever catches up does not wait for all openings.
    fn takes_past(&self) -> bool {
        self.is_up && self.passing < self.questions_max && self.credit.holds(ONE)
    }
    /// Open questions.
    pub(super) fn open(&self) -> usize {
        self.open.len()
    }
    pub(super) fn parked(&self) -> usize {
        self.parked.len()
    }
    pub(super) fn deadline(&self) -> Option<Mono> {
        self.due.front().map(|(due, _)| *due)
    }
}

/// The largest question.
const ONE: Room = Room { messages: 1, bytes: 255 + QUESTION_BYTES as u64 };

impl Owner {
    /// Asks what is to be asked, as far as the source takes it: holes first, somebody waits behind each. True: more is left that
    /// it would take.
    pub(super) fn ask(&mut self, now: Now, out: &mut Effects) -> bool {
        for _ in 0..TURNS {
            if !self.source.takes() {
                return false;
            }
            if let Some((slot, key)) = self.holes.due(now.mono) {
                self.ask_fill(now, slot, key, out);
            } else if let Some((slot, key)) = self.source.wanted() {
                self.ask_tip(now, slot, key, out);
            } else {
                return false;
            }
        }
        true
    }

    /// Fetches that waited for room, of their link or of the source.
    pub(super) fn unpark(&mut self, now: Now, out: &mut Effects) {
        while let Some(Parked { fetch, name }) = self.source.unpark() {
            self.fetch(now, fetch, &name, out);
        }
        while let Some(Parked { fetch, name }) = self.links.unpark() {
            self.fetch(now, fetch, &name, out);
        }
    }

    /// The source is up: what it was asked before is asked again.
    pub(super) fn source_up(&mut self, out: &mut Effects) {
        self.source_lost(out);
        self.source.up();
    }

    pub(super) fn source_lost(&mut self, out: &mut Effects) {
        let (asked, parked) = self.source.lost();
        for (ask, question) in asked.into_iter().rev() {
            self.unanswered(ask, question, Source::want_first, out);
        }
        for Parked { fetch, .. } in parked {
            self.refuse(&fetch, out);
        }
    }

    /// Gives up some questions that were not answered in time.
    pub(super) fn give_up(&mut self, now: Now, out: &mut Effects) {
        for _ in 0..TURNS {
            let Some((ask, question)) = self.source.overdue(now.mono) else { return };
            out.count(Counter::QuestionsRepeated);
            self.unanswered(ask, question, Source::want, out);
        }
    }

    /// `want`: where the question goes.
    pub(super) fn unanswered(
        &mut self,
        ask: Ask,
        question: Question,
        want: fn(&mut Source, Slot, Key),
        out: &mut Effects,
    ) {
        match question {
            Question::Tip { slot, key } => {
                if self.openings.unanswered(key, ask) {
                    want(&mut self.source, slot, key);
                }
            }
            Question::Fill { key, .. } => self.holes.unanswered(key, ask),
            Question::Past(passing) => self.passed(&passing, out),
        }
    }

    /// The end of a range.
    pub(super) fn range_ended(&mut self, now: Now, ask: Ask, out: &mut Effects) {
        match self.source.close(ask) {
            Some(Question::Fill { slot, key, tip }) => {
                self.filled(now, ask, (slot, key), tip);
            }
            Some(Question::Past(passing)) => self.passed(&passing, out),
            // Not the answer to what was asked.
            Some(Question::Tip { slot, key }) => {
                let tip = Question::Tip { slot, key };
                self.unanswered(ask, tip, Source::want, out);
                out.count(Counter::WireBroken);
            }
            None => {}
        }
    }
}
