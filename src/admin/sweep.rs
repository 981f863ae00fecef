//! Which part of the outbox is read next: all of it at the start, what is older than a second ever after.
//!
//! Rows come straight from their commits; the sweep finds those that did not: after a crash, when memory was full, when a commit's word
//! was lost. It begins at the oldest row each time, and ends where younger rows are on their ordinary way.

use std::time::Duration;

use crate::ids::Ask;
use crate::time::Mono;

#[derive(Debug)]
pub(super) struct Sweep {
    page: Option<Page>,
    next: Mono,
    /// The highest row seen, and what it was when the last sweep ended: rows above are younger than that.
    highest: u64,
    horizon: u64,
    /// Rows were passed over because memory was full.
    is_hungry: bool,
}

/// A part that is being read.
#[derive(Debug)]
struct Page {
    ask: Ask,
    due: Mono,
    found_new: bool,
    was_full: bool,
}

/// What to read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Read {
    pub(super) after: u64,
    pub(super) count_max: u32,
}

/// What became of a row that was offered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Offered {
    Taken,
    Known,
    NoRoom,
}

const INTERVAL: Duration = Duration::from_secs(1);
/// Rows of one page: one page of the longest rows is a few mailboxes of bytes.
const PAGE_ROWS: u32 = 256;

impl Sweep {
    pub(super) fn new() -> Self {
        Self { page: None, next: Mono(0), highest: 0, horizon: u64::MAX, is_hungry: false }
    }

    /// Begins a sweep if it is time. `due`: an unanswered question is given up then.
    pub(super) fn begin(&mut self, now: Mono, ask: Ask, due: Mono) -> Option<Read> {
        if self.deadline() > now {
            return None;
        }
        self.is_hungry = false;
        Some(self.read(0, ask, due))
    }

    /// A row was read, or came from its commit.
    pub(super) fn offered(&mut self, id: u64, what: Offered) {
        self.highest = self.highest.max(id);
        self.is_hungry |= what == Offered::NoRoom;
        if let Some(page) = &mut self.page {
            page.found_new |= what == Offered::Taken;
            page.was_full |= what == Offered::NoRoom;
        }
    }

    /// A page is at its end. What to read next, if it is worth it now.
    pub(super) fn ended(
        &mut self,
        now: Mono,
        answered: Ask,
        last: u64,
        more: bool,
        (ask, due): (Ask, Mono),
    ) -> Option<Read> {
        let page = self.page.take_if(|page| page.ask == answered)?;
        if more && !page.was_full && (page.found_new || last < self.horizon) {
            return Some(self.read(last, ask, due));
        }
        if !page.was_full {
            self.horizon = self.highest;
        }
        self.next = now + INTERVAL;
        None
    }

    /// There is much room in memory again: rows that were passed over need not wait.
    pub(super) fn has_room(&mut self, now: Mono) {
        if self.is_hungry && self.page.is_none() {
            self.next = now;
        }
    }

    pub(super) fn deadline(&self) -> Mono {
        self.page.as_ref().map_or(self.next, |page| page.due)
    }

    fn read(&mut self, after: u64, ask: Ask, due: Mono) -> Read {
        self.page = Some(Page { ask, due, found_new: false, was_full: false });
        Read { after, count_max: PAGE_ROWS }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUE: Mono = Mono(5_000_000_000);

    #[test]
    fn the_first_sweep_reads_to_the_end() {
        let mut sweep = Sweep::new();
        let first = sweep.begin(Mono(0), Ask(1), DUE);
        assert_eq!(first, Some(Read { after: 0, count_max: PAGE_ROWS }));
        assert_eq!(sweep.begin(Mono(1), Ask(2), DUE), None, "one page at a time");
        sweep.offered(7, Offered::Known);
        let next = sweep.ended(Mono(1), Ask(1), 7, true, (Ask(2), DUE)).expect("more");
        assert_eq!(next.after, 7);
        assert_eq!(sweep.ended(Mono(2), Ask(2), 9, false, (Ask(3), DUE)), None);
        assert_eq!(sweep.deadline(), Mono(2) + INTERVAL);
    }

    #[test]
    fn later_sweeps_end_where_rows_are_young() {
        let mut sweep = Sweep::new();
        sweep.begin(Mono(0), Ask(1), DUE);
        sweep.ended(Mono(0), Ask(1), 0, false, (Ask(2), DUE));
        sweep.offered(300, Offered::Taken);
        let read = sweep.begin(Mono(0) + INTERVAL, Ask(2), DUE);
        assert_eq!(read.map(|read| read.after), Some(0));
        sweep.offered(200, Offered::Known);
        assert_eq!(sweep.ended(Mono(0) + INTERVAL, Ask(2), 200, true, (Ask(3), DUE)), None);
        let now = Mono(0) + INTERVAL + INTERVAL;
        sweep.begin(now, Ask(3), now);
        let next = sweep.ended(now, Ask(3), 200, true, (Ask(4), now));
        assert_eq!(next.map(|read| read.after), Some(200), "by now 300 is old");
    }

    #[test]
    fn a_sweep_that_finds_a_forgotten_row_goes_on() {
        let mut sweep = Sweep::new();
        sweep.begin(Mono(0), Ask(1), DUE);
        sweep.ended(Mono(0), Ask(1), 0, false, (Ask(2), DUE));
        sweep.begin(Mono(0) + INTERVAL, Ask(2), DUE);
        sweep.offered(900, Offered::Taken);
        let next = sweep.ended(Mono(0) + INTERVAL, Ask(2), 900, true, (Ask(3), DUE));
        assert_eq!(next.map(|read| read.after), Some(900));
    }

    #[test]
    fn rows_passed_over_for_want_of_room_are_read_as_soon_as_there_is_some() {
        let mut sweep = Sweep::new();
        sweep.begin(Mono(0), Ask(1), DUE);
        sweep.offered(1, Offered::NoRoom);
        assert_eq!(sweep.ended(Mono(3), Ask(1), 1, true, (Ask(2), DUE)), None);
        assert_eq!(sweep.deadline(), Mono(3) + INTERVAL);
        sweep.has_room(Mono(4));
        assert!(sweep.begin(Mono(4), Ask(2), DUE).is_some());
    }

    #[test]
    fn an_unanswered_page_is_given_up_and_its_late_answer_ignored() {
        let mut sweep = Sweep::new();
        sweep.begin(Mono(0), Ask(1), DUE);
        assert!(sweep.begin(DUE, Ask(2), DUE + INTERVAL).is_some());
        assert_eq!(sweep.ended(DUE, Ask(1), 7, true, (Ask(3), DUE)), None);
        assert!(sweep.ended(DUE, Ask(2), 7, true, (Ask(3), DUE)).is_some());
    }
}
