//! Lists of `u32` by the million: each one contiguous, in size classes about a third apart, nothing allocated per list.
//!
//! A list is a [`Run`] of 8 bytes in its owner; its memory is in [`Runs`]. It moves to the next class when it is full, and down again when
//! an eighth of the class below would be free, so that nobody who comes and goes at a border makes it move each time. One move copies the
//! whole list: 64 KiB at 16,384 entries, so whoever lets lists grow beyond that cuts them into several.
//!
//! Lists that grow side by side leave gaps in each class that they leave. Where that matters, lists are *herded*: a gap is filled with the
//! last list of its class, and the owner of that list, which is the list's first value, is told where it is now.

use super::pages::{Class, Pages};
use super::slab::NIL;

/// Where a list is, and how long. Plain numbers, so that owners can pack them; two copies of one are a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    pub at: u32,
    pub len: u32,
}

impl Run {
    /// Has no memory.
    pub const EMPTY: Self = Self { at: NIL, len: 0 };
}

/// Cells of a page of small runs: 4 KiB.
const PAGE_CELLS: u32 = 1_024;
/// A run of four cells is the smallest.
const NTH_BITS: u32 = 8;

/// Runs that fill a page without a rest worth naming, then each on a page of its own.
const CLASSES: &[Class] = &{
    const PER_PAGE: [u16; 18] =
        [256, 204, 146, 113, 85, 64, 48, 36, 27, 20, 15, 11, 8, 6, 5, 4, 3, 2];
    const BIG: usize = 38;
    let mut classes = [Class { cells: 684, runs: 1 }; PER_PAGE.len() + BIG];
    let mut at = 0;
    while at < PER_PAGE.len() {
        classes[at] = Class { cells: PAGE_CELLS / PER_PAGE[at] as u32, runs: PER_PAGE[at] };
        at += 1;
    }
    while at + 1 < classes.len() {
        classes[at + 1] = Class { cells: classes[at].cells / 3 * 4, runs: 1 };
        at += 1;
    }
    classes
};
const _: () = assert!(CLASSES[0].cells == 4 && CLASSES[CLASSES.len() - 1].cells > 1 << 24);

/// Per shard and table.
#[derive(Debug)]
pub struct Runs {
    pages: Pages<u32, NTH_BITS>,
    is_herded: bool,
    moved: Option<Moved>,
}

/// The list of this owner, which is its first value, is somewhere else now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moved {
    pub owner: u32,
    pub at: u32,
}

impl Default for Runs {
    fn default() -> Self {
        let pages = Pages::new(CLASSES, 1 << (32 - NTH_BITS));
        Self { pages, is_herded: false, moved: None }
    }
}

impl Runs {
    /// Lists whose first value is their owner: ask for `moved` after each change.
    pub fn herded() -> Self {
        Self { is_herded: true, ..Self::default() }
    }

    /// Whose list moved by the last change, another's than the one that was changed.
    pub fn moved(&mut self) -> Option<Moved> {
        self.moved.take()
    }

    pub fn push(&mut self, run: &mut Run, value: u32) {
        self.insert(run, run.len as usize, value);
    }

    /// Puts a value before the one at `at`; what follows moves up.
    pub fn insert(&mut self, run: &mut Run, at: usize, value: u32) {
        let len = run.len as usize;
        self.make_room(run, 1);
        let cells = &mut self.pages.run_mut(run.at)[..=len];
        cells.copy_within(at..len, at + 1);
        cells[at] = value;
        run.len += 1;
    }

    /// Puts values behind the last.
    pub fn append(&mut self, run: &mut Run, values: &[u32]) {
        if values.is_empty() {
            return;
        }
        self.make_room(run, values.len() as u32);
        let len = run.len as usize;
        self.pages.run_mut(run.at)[len..len + values.len()].copy_from_slice(values);
        run.len += values.len() as u32;
    }

    /// Takes the value at `at` out; what follows moves down.
    pub fn remove(&mut self, run: &mut Run, at: usize) -> u32 {
        let cells = self.as_mut_slice(*run);
        let value = cells[at];
        cells.copy_within(at + 1.., at);
        self.truncate(run, run.len - 1);
        value
    }

    /// Takes the value at `at` out; the last one takes its place.
    pub fn swap_remove(&mut self, run: &mut Run, at: usize) -> u32 {
        let cells = self.as_mut_slice(*run);
        let value = cells[at];
        cells[at] = cells[cells.len() - 1];
        self.truncate(run, run.len - 1);
        value
    }

    pub fn pop(&mut self, run: &mut Run) -> Option<u32> {
        let last = *self.as_slice(*run).last()?;
        self.truncate(run, run.len - 1);
        Some(last)
    }

    /// Keeps the first `len` values. With 0 the memory is free.
    pub fn truncate(&mut self, run: &mut Run, len: u32) {
        assert!(len <= run.len, "a list becomes no longer by this");
        run.len = len;
        if run.at == NIL {
            return;
        }
        if len == 0 {
            self.give(run.at);
            *run = Run::EMPTY;
            return;
        }
        let class = self.pages.class(run.at);
        let wanted = len + len.div_ceil(8);
        if class > 0 && wanted <= self.pages.cells_of(class - 1) {
            self.relocate(run, self.pages.class_for(wanted));
        }
    }

    pub fn clear(&mut self, run: &mut Run) {
        self.truncate(run, 0);
    }

    pub fn as_slice(&self, run: Run) -> &[u32] {
        if run.at == NIL { &[] } else { &self.pages.run(run.at)[..run.len as usize] }
    }

    pub fn as_mut_slice(&mut self, run: Run) -> &mut [u32] {
        if run.at == NIL { &mut [] } else { &mut self.pages.run_mut(run.at)[..run.len as usize] }
    }

    /// Bytes that all lists take, slack included.
    pub fn bytes(&self) -> usize {
        self.pages.bytes()
    }

    fn make_room(&mut self, run: &mut Run, more: u32) {
        let len = run.len + more;
        if run.at == NIL {
            run.at = self.take(self.pages.class_for(len));
        } else if len > self.pages.cells_of(self.pages.class(run.at)) {
            self.relocate(run, self.pages.class_for(len));
        }
    }

    fn relocate(&mut self, run: &mut Run, class: u8) {
        let target = self.take(class);
        self.pages.copy(run.at, target, run.len as usize);
        self.give(run.at);
        run.at = target;
    }

    fn give(&mut self, at: u32) {
        assert!(self.moved.is_none(), "the owner of a list that moved is told at once");
        if !self.is_herded {
            self.pages.give(at);
        } else if self.pages.give_and_fill(at) {
            self.moved = Some(Moved { owner: self.pages.run(at)[0], at });
        }
    }

    fn take(&mut self, class: u8) -> u32 {
        self.pages.take(class).expect("16 Mi pages are more than a host has memory for")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Push,
        Insert,
        Append,
        Remove,
        SwapRemove,
        Pop,
        Truncate,
    }

    fn step() -> impl Strategy<Value = Step> {
        use Step::*;
        prop_oneof![
            8 => Just(Push), 4 => Just(Insert), 1 => Just(Append), 3 => Just(Remove),
            3 => Just(SwapRemove), 3 => Just(Pop), 1 => Just(Truncate),
        ]
    }

    proptest! {
        #[test]
        fn runs_are_vectors(
            steps in prop::collection::vec((step(), 0usize..5, any::<u32>()), 1..1_000)
        ) {
            let mut runs = Runs::default();
            let mut all = [Run::EMPTY; 5];
            let mut twins: [Vec<u32>; 5] = Default::default();
            for (step, which, value) in steps {
                let (run, twin) = (&mut all[which], &mut twins[which]);
                let at = value as usize % (twin.len() + 1);
                match step {
                    Step::Push => { runs.push(run, value); twin.push(value) }
                    Step::Insert => { runs.insert(run, at, value); twin.insert(at, value) }
                    Step::Append => {
                        let values = vec![value; at.min(50)];
                        runs.append(run, &values);
                        twin.extend(values);
                    }
                    Step::Truncate => { runs.truncate(run, at as u32); twin.truncate(at) }
                    Step::Pop => prop_assert_eq!(runs.pop(run), twin.pop()),
                    Step::Remove if at < twin.len() => {
                        prop_assert_eq!(runs.remove(run, at), twin.remove(at));
                    }
                    Step::SwapRemove if at < twin.len() => {
                        prop_assert_eq!(runs.swap_remove(run, at), twin.swap_remove(at));
                    }
                    Step::Remove | Step::SwapRemove => {}
                }
                prop_assert_eq!(runs.as_slice(*run), &twin[..]);
            }
            for (run, twin) in all.iter().zip(&twins) {
                prop_assert_eq!(runs.as_slice(*run), &twin[..]);
            }
        }
    }

    #[test]
    fn herded_runs_are_vectors_whose_owners_know_where_they_are() {
        let mut runs = Runs::herded();
        let mut all = vec![Run::EMPTY; 300];
        let mut twins: Vec<Vec<u32>> = vec![Vec::new(); 300];
        let mut random = 3u32;
        for step in 0..60_000u32 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let owner = (random >> 8) % 300;
            let (mut run, twin) = (all[owner as usize], &mut twins[owner as usize]);
            if twin.is_empty() {
                runs.push(&mut run, owner);
                twin.push(owner);
            } else if (random >> 28) < if step % 20_000 < 10_000 { 11 } else { 4 } {
                runs.push(&mut run, step);
                twin.push(step);
            } else if twin.len() > 1 {
                let at = 1 + random as usize % (twin.len() - 1);
                assert_eq!(runs.swap_remove(&mut run, at), twin.swap_remove(at));
            } else {
                runs.clear(&mut run);
                twin.clear();
            }
            all[owner as usize] = run;
            if let Some(Moved { owner, at }) = runs.moved() {
                all[owner as usize].at = at;
            }
            if step % 16 == 0 {
                for (run, twin) in all.iter().zip(&twins) {
                    assert_eq!(runs.as_slice(*run), &twin[..]);
                }
            }
        }
    }

    /// Bytes taken for each byte used while 10,000 lists grow to about 100 values, and while they shrink to about 30: mean and worst.
    fn slack(mut runs: Runs) -> [f64; 4] {
        const LISTS: u32 = 10_000;
        let mut all = vec![Run::EMPTY; LISTS as usize];
        for (owner, run) in all.iter_mut().enumerate() {
            runs.push(run, owner as u32);
        }
        let (mut random, mut used) = (3u32, LISTS);
        let mut ratios = [Vec::new(), Vec::new()];
        for step in 0..17 * LISTS * 10 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let owner = (random >> 8) % LISTS;
            let mut run = all[owner as usize];
            let is_growing = step < 10 * LISTS * 10;
            if is_growing {
                runs.push(&mut run, step);
                used += 1;
            } else if run.len > 1 {
                let at = 1 + (random >> 8) as usize % (run.len as usize - 1);
                runs.swap_remove(&mut run, at);
                used -= 1;
            }
            all[owner as usize] = run;
            if let Some(Moved { owner, at }) = runs.moved() {
                all[owner as usize].at = at;
            }
            if step > 10 * LISTS && step % LISTS == 0 {
                ratios[usize::from(!is_growing)].push(runs.bytes() as f64 / f64::from(used * 4));
            }
        }
        let [up, down] = ratios.map(|all| {
            (all.iter().sum::<f64>() / all.len() as f64, all.into_iter().fold(0.0, f64::max))
        });
        [up.0, up.1, down.0, down.1]
    }

    #[test]
    fn herded_lists_have_little_slack_whatever_happened() {
        let [up, up_worst, down, down_worst] = slack(Runs::herded());
        println!("growing {up:.2}, at worst {up_worst:.2}; shrinking {down:.2}, {down_worst:.2}");
        assert!(up < 1.22 && up_worst < 1.25 && down < 1.4 && down_worst < 1.45);
    }

    #[test]
    fn other_lists_leave_gaps_when_all_of_them_grow_side_by_side() {
        let [up, up_worst, down, down_worst] = slack(Runs::default());
        println!("growing {up:.2}, at worst {up_worst:.2}; shrinking {down:.2}, {down_worst:.2}");
        assert!(up < 1.6 && up_worst < 1.8 && down < 2.1 && down_worst < 2.4);
    }

    #[test]
    fn a_long_list_gives_its_memory_back() {
        let (mut runs, mut run) = (Runs::default(), Run::EMPTY);
        for value in 0..50_000 {
            runs.push(&mut run, value);
        }
        assert!(runs.bytes() > 200_000 && runs.as_slice(run).is_sorted());
        while run.len > 10 {
            runs.pop(&mut run);
        }
        assert_eq!(runs.as_slice(run), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        runs.clear(&mut run);
        assert!(runs.bytes() < 40_000, "{} stay", runs.bytes());
    }
}
