//! The ring store as a linearizable model: one chain of rings, each a compare-and-set on the one before (I5, I6, I8, I10).

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use campanile::ids::NodeId;
use campanile::ring::Ring;
use campanile::ring::change::Cell;
use campanile::ring::document::NodeEntry;
use campanile::time::Mono;
use campanile::wire::{Message, Packed};

use crate::agenda::{micros, millis};
use crate::answers::encoded;
use crate::checker::Violation;
use crate::random::Random;

/// One state of the store.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) cell: Cell,
    pub(crate) ring: Rc<Ring>,
}

impl Kept {
    pub(crate) fn epoch(&self) -> u64 {
        self.cell.document.ring_epoch
    }
}

/// What became of a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Swapped {
    Done,
    /// Somebody else wrote meanwhile.
    Late,
    /// Nothing was done.
    Unreachable,
    /// Whoever wrote does not know whether it was done.
    Unknown,
}

#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) random: Random,
    /// The newest last; older ones for those who read behind the writers.
    chain: Vec<Rc<Kept>>,
    /// Faults that are on now.
    pub(crate) is_away: bool,
    /// In a thousand: answers to writes that are lost, reads of a watcher that are older than the newest write.
    pub(crate) answers_lost: u64,
    pub(crate) stale: u64,
    pub(crate) watch_ms: u64,
    /// A node that it does not answer.
    pub(crate) away_from: Option<usize>,
    /// The newest ring that was ever written.
    pub(crate) highest: u64,
    /// Who held a seat under an epoch: node and incarnation.
    holders: BTreeMap<(u16, u32), (u16, u128)>,
    /// Processes whose seats were given away.
    replaced: BTreeSet<u128>,
}

/// States that are kept.
const KEPT: usize = 6;

impl Store {
    /// A ring over these nodes.
    pub(crate) fn new(random: Random, nodes: Vec<NodeEntry>) -> Self {
        let cell = Cell::new("sim", nodes).expect("a ring");
        let ring = Rc::new(cell.ring().expect("usable"));
        Self {
            random,
            chain: vec![Rc::new(Kept { cell, ring })],
            is_away: false,
            answers_lost: 0,
            stale: 0,
            watch_ms: 0,
            away_from: None,
            highest: 1,
            holders: BTreeMap::new(),
            replaced: BTreeSet::new(),
        }
    }

    /// What is true, whether anybody can read it or not.
    pub(crate) fn newest(&self) -> &Rc<Kept> {
        self.chain.last().expect("there is a ring from the beginning")
    }

    /// The ring of an epoch, if it was written and is not too old.
    pub(crate) fn written(&self, epoch: u64) -> Option<&Rc<Kept>> {
        self.chain.iter().find(|kept| kept.epoch() == epoch)
    }

    /// A linearizable read by a node; `None`: nobody answers.
    pub(crate) fn read(&self, at: usize) -> Option<Rc<Kept>> {
        (!self.is_away_from(at)).then(|| Rc::clone(self.newest()))
    }

    /// Of the operator, who knows where it answers.
    pub(crate) fn show(&self) -> Option<Rc<Kept>> {
        (!self.is_away).then(|| Rc::clone(self.newest()))
    }

    pub(crate) fn is_away_from(&self, at: usize) -> bool {
        self.is_away || self.away_from == Some(at)
    }

    /// Whether a backup is in place, and what was written since is not there.
    pub(crate) fn went_back(&self) -> bool {
        self.newest().epoch() < self.highest
    }

    /// A backup is put in place. False: it has nothing older.
    pub(crate) fn restore(&mut self, back: u64) -> bool {
        let is_older = !self.is_away && self.chain.len() > back as usize;
        if is_older {
            self.chain.truncate(self.chain.len() - back as usize);
        }
        is_older
    }

    /// The operator gives it the newest ring that nodes have on their disks.
    pub(crate) fn give_back(&mut self, known: &[Cell]) -> Result<(), Violation> {
        let broken = |why: campanile::ring::document::Unusable| Violation(format!("I6: {}", why.0));
        let cell = Cell::restored(Some(&self.newest().cell), known).map_err(broken)?;
        let ring = cell.ring().map_err(broken)?;
        if cell.document.ring_epoch != self.highest + 1 {
            let (next, highest) = (cell.document.ring_epoch, self.highest);
            return Err(Violation(format!("I6: ring {next} is restored after {highest}")));
        }
        self.keep(Kept { cell, ring: Rc::new(ring) });
        Ok(())
    }

    fn keep(&mut self, kept: Kept) {
        self.highest = kept.epoch();
        self.chain.push(Rc::new(kept));
        if self.chain.len() > KEPT {
            self.chain.remove(0);
        }
    }

    /// What a watcher reads: a follower of the store may be behind.
    pub(crate) fn watched(&mut self, at: usize) -> Option<Rc<Kept>> {
        if self.is_away_from(at) {
            return None;
        }
        let is_stale = self.random.chance(self.stale);
        let back = if is_stale { self.random.below(self.chain.len() as u64) as usize } else { 0 };
        Some(Rc::clone(&self.chain[self.chain.len() - 1 - back]))
    }

    /// A node, or the operator, writes `next` if the newest is still `was`. Over a backup nobody writes: who would has never heard of what it lacks.
    pub(crate) fn swap(
        &mut self,
        at: Option<usize>,
        was: u64,
        next: &Cell,
    ) -> Result<Swapped, Violation> {
        if at.is_some_and(|at| self.away_from == Some(at)) {
            return Ok(Swapped::Unreachable);
        }
        let is_lost = self.random.chance(self.answers_lost);
        if self.is_away && !is_lost {
            return Ok(Swapped::Unreachable);
        }
        // One that timed out may have been carried out, or not.
        if is_lost && self.random.chance(500) {
            return Ok(Swapped::Unknown);
        }
        let done = was == self.newest().epoch() && !self.went_back();
        if done {
            self.write(next)?;
        }
        Ok(match (is_lost, done) {
            (true, _) => Swapped::Unknown,
            (false, true) => Swapped::Done,
            (false, false) => Swapped::Late,
        })
    }

    fn write(&mut self, next: &Cell) -> Result<(), Violation> {
        let was = Rc::clone(self.newest());
        let (before, after) = (&was.cell.document, &next.document);
        if after.ring_epoch != before.ring_epoch + 1 {
            return Err(Violation(format!(
                "I6: ring {} is written over {}",
                after.ring_epoch, before.ring_epoch
            )));
        }
        for (seat, one) in after.seats.iter().enumerate() {
            let old = before.seats.get(seat);
            if old.is_some_and(|old| one.seat_epoch < old.seat_epoch) {
                return Err(Violation(format!(
                    "I5: seat {seat} goes back from {old:?} to {one:?}"
                )));
            }
            let Some(node) = one.node.and_then(|id| after.node(NodeId(id))) else { continue };
            if self.replaced.contains(&node.incarnation) {
                return Err(Violation(format!("I10: {} owns again, and was replaced", node.name)));
            }
            let holder = (node.id, node.incarnation);
            let known = *self.holders.entry((seat as u16, one.seat_epoch)).or_insert(holder);
            if known != holder {
                return Err(Violation(format!(
                    "I7: seat {seat} is {known:?}'s and {holder:?}'s under epoch {}",
                    one.seat_epoch
                )));
            }
        }
        let ring = next.ring().map_err(|why| Violation(format!("I7: {}", why.0)))?;
        self.keep(Kept { cell: next.clone(), ring: Rc::new(ring) });
        Ok(())
    }

    /// Its seats were given to others.
    pub(crate) fn replaced(&mut self, incarnation: u128) {
        // None: it never came.
        if incarnation != 0 {
            self.replaced.insert(incarnation);
        }
    }

    /// The answer to the dispatcher's question.
    pub(crate) fn ring_is(&self, ask: campanile::ids::Ask) -> Vec<u8> {
        let document = &self.newest().cell.document;
        let mut list = Vec::new();
        let rows = document.seats.iter().enumerate();
        let rows = rows.map(|(seat, row)| (seat as u16, row.seat_epoch));
        let seats = Packed::pack(rows, &mut list);
        encoded(&Message::RingIs { ask, ring_epoch: document.ring_epoch, seats })
    }

    /// How long a read or a write takes.
    pub(crate) fn pause(&mut self) -> Duration {
        micros(self.random.between(200, 4_000))
    }

    /// When a watcher hears of a write.
    pub(crate) fn news_at(&mut self, now: Mono) -> Mono {
        let usual = micros(self.random.between(500, 40_000));
        now + usual + millis(self.random.below(self.watch_ms + 1))
    }
}
