//! Who is in which channel of this core: two inline, up to 1,024 in a sorted list, more in sorted blocks.
//!
//! Sorted by connection, so that nobody is searched for by a scan, and fan-out goes through outboxes in the order of memory.

use super::blocks::{Blocks, find};
use super::members::Member;
use crate::tables::runs::{Moved, Run, Runs};

/// Above so many a list becomes blocks, and below half of it a list again.
const LIST_MAX: u32 = 1_024;

/// What the two words of a [`Set`] are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Form {
    None,
    /// One member, two of them.
    One,
    Two,
    /// Place and length of a list: its owner, then the members.
    List,
    /// Place and length of a directory of blocks.
    Blocks,
}

/// The subscribers of one channel: 8 bytes and 3 bits of their owner. Plain numbers; two copies of one are a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Set {
    pub(super) form: Form,
    pub(super) words: [u32; 2],
}

impl Set {
    pub(super) const EMPTY: Self = Self { form: Form::None, words: [0; 2] };

    fn run(&self) -> Run {
        Run { at: self.words[0], len: self.words[1] }
    }

    fn set(&mut self, form: Form, run: Run) {
        *self = Self { form, words: [run.at, run.len] };
    }
}

/// Per shard: the memory of all sets. After a change, the owner of the list that [`Sets::moved`] names is told.
#[derive(Debug)]
pub(super) struct Sets {
    lists: Runs,
    blocks: Blocks,
}

impl Sets {
    pub(super) fn new() -> Self {
        Self { lists: Runs::herded(), blocks: Blocks::default() }
    }

    /// False: the connection is in it already, and nothing changed.
    pub(super) fn insert(&mut self, set: &mut Set, owner: u32, member: Member) -> bool {
        if set.form == Form::Blocks {
            let mut run = set.run();
            let was_added = self.blocks.insert(&mut run, member);
            set.set(Form::Blocks, run);
            return was_added;
        }
        let members = self.plain(set.form, &set.words);
        let Err(at) = find(members, member.index()) else { return false };
        match (set.form, set.words) {
            (Form::None, _) => *set = Set { form: Form::One, words: [member.0, 0] },
            (Form::One, [one, _]) => {
                let words = if at == 0 { [member.0, one] } else { [one, member.0] };
                *set = Set { form: Form::Two, words };
            }
            (Form::Two, [one, two]) => {
                let mut run = Run::EMPTY;
                self.lists.append(&mut run, &[owner, one, two]);
                self.lists.insert(&mut run, 1 + at, member.0);
                set.set(Form::List, run);
            }
            (_, _) if members.len() < LIST_MAX as usize => {
                let mut run = set.run();
                self.lists.insert(&mut run, 1 + at, member.0);
                set.set(Form::List, run);
            }
            (_, _) => {
                let mut directory = self.blocks.build(&self.lists.as_slice(set.run())[1..]);
                self.blocks.insert(&mut directory, member);
                self.lists.clear(&mut set.run());
                set.set(Form::Blocks, directory);
            }
        }
        true
    }

    /// False: the connection is not in it.
    pub(super) fn remove(&mut self, set: &mut Set, owner: u32, index: u32) -> bool {
        if set.form == Form::Blocks {
            return self.remove_of_many(set, owner, index);
        }
        let members = self.plain(set.form, &set.words);
        let Ok(at) = find(members, index) else { return false };
        match (set.form, members) {
            (Form::One, _) => *set = Set::EMPTY,
            (Form::Two, _) => *set = Set { form: Form::One, words: [members[1 - at], 0] },
            (_, [_, _, _]) => {
                let words = [[1, 2], [0, 2], [0, 1]][at].map(|left: usize| members[left]);
                self.lists.clear(&mut set.run());
                *set = Set { form: Form::Two, words };
            }
            (_, _) => {
                let mut run = set.run();
                self.lists.remove(&mut run, 1 + at);
                set.set(Form::List, run);
            }
        }
        true
    }

    fn remove_of_many(&mut self, set: &mut Set, owner: u32, index: u32) -> bool {
        let mut directory = set.run();
        if !self.blocks.remove(&mut directory, index) {
            return false;
        }
        set.set(Form::Blocks, directory);
        if self.blocks.count(directory) <= LIST_MAX / 2 {
            let mut run = Run::EMPTY;
            self.lists.push(&mut run, owner);
            for members in self.blocks.slices(directory) {
                self.lists.append(&mut run, members);
            }
            self.blocks.clear(&mut directory);
            set.set(Form::List, run);
        }
        true
    }

    /// Sets and clears flags of a member. False: the connection is not in the set.
    pub(super) fn set_flags(&mut self, set: &mut Set, index: u32, flags: u8, on: bool) -> bool {
        let member = match set.form {
            Form::None => None,
            Form::One => set.words[..1].iter_mut().find(|member| **member >> 8 == index),
            Form::Two => set.words.iter_mut().find(|member| **member >> 8 == index),
            Form::List => {
                let members = &mut self.lists.as_mut_slice(set.run())[1..];
                find(members, index).ok().map(|at| &mut members[at])
            }
            Form::Blocks => self.blocks.find_mut(set.run(), index),
        };
        let Some(member) = member else { return false };
        let now = Member(*member);
        let flags = if on { now.flags() | flags } else { now.flags() & !flags };
        *member = Member::new(index, flags).0;
        true
    }

    /// Whose list is somewhere else now.
    pub(super) fn moved(&mut self) -> Option<Moved> {
        self.lists.moved()
    }

    pub(super) fn find(&self, set: Set, index: u32) -> Option<Member> {
        if set.form == Form::Blocks {
            return self.blocks.find(set.run(), index);
        }
        let members = self.plain(set.form, &set.words);
        find(members, index).ok().map(|at| Member(members[at]))
    }

    pub(super) fn count(&self, set: Set) -> u32 {
        match set.form {
            Form::None => 0,
            Form::One => 1,
            Form::Two => 2,
            Form::List => set.words[1] - 1,
            Form::Blocks => self.blocks.count(set.run()),
        }
    }

    /// The members, sorted. The words stay where they are meanwhile: they may be members themselves.
    pub(super) fn iter<'a>(
        &'a self,
        form: Form,
        words: &'a [u32; 2],
    ) -> impl Iterator<Item = Member> + use<'a> {
        let set = Set { form, words: *words };
        let directory = (form == Form::Blocks).then(|| set.run());
        let blocks = directory.into_iter().flat_map(|directory| self.blocks.slices(directory));
        let left = self.count(set) as usize;
        Members { now: self.plain(form, words).iter(), blocks, left }
    }

    pub(super) fn bytes(&self) -> usize {
        self.lists.bytes() + self.blocks.bytes()
    }

    /// The members of all forms but blocks.
    fn plain<'a>(&'a self, form: Form, words: &'a [u32; 2]) -> &'a [u32] {
        match form {
            Form::None | Form::Blocks => &[],
            Form::One => &words[..1],
            Form::Two => words,
            Form::List => &self.lists.as_slice(Run { at: words[0], len: words[1] })[1..],
        }
    }
}

/// The members of one set: a slice, and those that follow. Fan-out is made of this, so it is no chain of adapters.
struct Members<'a, B> {
    now: std::slice::Iter<'a, u32>,
    blocks: B,
    left: usize,
}

impl<'a, B: Iterator<Item = &'a [u32]>> Iterator for Members<'a, B> {
    type Item = Member;

    fn next(&mut self) -> Option<Member> {
        loop {
            if let Some(member) = self.now.next() {
                self.left -= 1;
                return Some(Member(*member));
            }
            self.now = self.blocks.next()?.iter();
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }

    fn fold<A, F: FnMut(A, Member) -> A>(self, start: A, mut f: F) -> A {
        let after = self.now.fold(start, |all, member| f(all, Member(*member)));
        self.blocks.flatten().fold(after, |all, member| f(all, Member(*member)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Three sets and their twins, under the same operations.
    struct Pair {
        sets: Sets,
        all: [Set; 3],
        twins: [BTreeMap<u32, u8>; 3],
    }

    impl Pair {
        fn new() -> Self {
            Self { sets: Sets::new(), all: [Set::EMPTY; 3], twins: Default::default() }
        }

        fn change(
            &mut self,
            owner: usize,
            change: impl FnOnce(&mut Sets, &mut Set) -> bool,
        ) -> bool {
            let mut set = self.all[owner];
            let did = change(&mut self.sets, &mut set);
            self.all[owner] = set;
            if let Some(moved) = self.sets.moved() {
                assert_eq!(self.all[moved.owner as usize].form, Form::List);
                self.all[moved.owner as usize].words[0] = moved.at;
            }
            did
        }

        fn insert(&mut self, owner: usize, index: u32, flags: u8) {
            let member = Member::new(index, flags);
            let added = self.change(owner, |sets, set| sets.insert(set, owner as u32, member));
            assert_eq!(added, !self.twins[owner].contains_key(&index));
            self.twins[owner].entry(index).or_insert(flags);
        }

        fn remove(&mut self, owner: usize, index: u32) {
            let removed = self.change(owner, |sets, set| sets.remove(set, owner as u32, index));
            assert_eq!(removed, self.twins[owner].remove(&index).is_some());
        }

        fn set_flags(&mut self, owner: usize, index: u32, flags: u8, on: bool) {
            let changed = self.change(owner, |sets, set| sets.set_flags(set, index, flags, on));
            let twin = self.twins[owner].get_mut(&index);
            assert_eq!(changed, twin.is_some());
            if let Some(twin) = twin {
                *twin = if on { *twin | flags } else { *twin & !flags };
            }
        }

        fn check(&self) {
            for (set, twin) in self.all.iter().zip(&self.twins) {
                let found = self.sets.iter(set.form, &set.words);
                assert_eq!(found.size_hint(), (twin.len(), Some(twin.len())));
                let sum: u64 = self.sets.iter(set.form, &set.words).map(|m| u64::from(m.0)).sum();
                let members = twin.iter().map(|(index, flags)| Member::new(*index, *flags));
                assert_eq!(sum, members.map(|m| u64::from(m.0)).sum::<u64>());
                assert!(
                    found.map(|m| (m.index(), m.flags())).eq(twin.iter().map(|(i, f)| (*i, *f)))
                );
                assert_eq!(self.sets.count(*set) as usize, twin.len());
            }
        }
    }

    #[test]
    fn sets_are_maps_from_none_to_thousands_and_back() {
        let mut pair = Pair::new();
        let mut random = 11u32;
        for step in 0..60_000u32 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let owner = [0, 0, 0, 0, 0, 1, 2][(random >> 8) as usize % 7];
            let index = (random >> 11) % [6_000, 40, 4][owner];
            let is_growing = step % 40_000 < 20_000;
            match random >> 28 {
                0 => pair.set_flags(owner, index, 5, step % 2 == 0),
                1..12 if is_growing => pair.insert(owner, index, step as u8),
                1..5 => pair.insert(owner, index, step as u8),
                _ => pair.remove(owner, index),
            }
            let (set, twin) = (pair.all[owner], &pair.twins[owner]);
            let found = pair.sets.find(set, index).map(Member::flags);
            assert_eq!(found, twin.get(&index).copied());
            if step % 512 == 0 {
                pair.check();
            }
            if step == 20_000 {
                assert_eq!(pair.all[0].form, Form::Blocks, "{} members", pair.twins[0].len());
            }
        }
        for owner in 0..3 {
            for index in 0..6_000 {
                pair.remove(owner, index);
            }
        }
        pair.check();
        assert!(pair.all.iter().all(|set| *set == Set::EMPTY));
        assert!(pair.sets.bytes() < 80_000, "{} stay", pair.sets.bytes());
    }

    #[test]
    fn connection_zero_is_nobody_before_it_comes() {
        let mut pair = Pair::new();
        pair.insert(0, 5, 1);
        pair.set_flags(0, 0, 1, true);
        pair.insert(0, 0, 0);
        pair.check();
    }

    #[test]
    fn a_very_large_channel_has_full_blocks_when_connections_come_in_order() {
        let mut pair = Pair::new();
        for index in 0..100_000 {
            pair.insert(0, index, 0);
        }
        pair.check();
        let each = pair.sets.bytes() as f64 / 100_000.0;
        assert!(each < 4.9, "{each:.2} bytes each");
        for index in (0..100_000).filter(|index| index % 10 > 0) {
            pair.remove(0, index);
        }
        pair.check();
        let each = pair.sets.bytes() as f64 / 10_000.0;
        assert!(each < 4.0 * 2.0 + 20.0, "{each:.2} bytes each of those left");
    }
}
