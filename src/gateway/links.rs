//! Which cores want a channel: one inline, up to 64 in a list.

use super::interest::Link;
use crate::tables::runs::{Moved, Run, Runs};

/// The links of one channel: 5 bytes of their owner. Plain numbers; two copies of one are a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct LinkSet {
    /// The only link, or where the list is: its owner, then the links.
    pub(super) word: u32,
    pub(super) count: u8,
}

impl LinkSet {
    fn run(self) -> Run {
        Run { at: self.word, len: u32::from(self.count) + 1 }
    }
}

/// Per shard: the memory of all lists. After a change, the owner of the list that [`Links::moved`] names is told.
#[derive(Debug)]
pub(super) struct Links(Runs);

impl Links {
    pub(super) fn new() -> Self {
        Self(Runs::herded())
    }

    /// Adds a link, or puts it in place of the older one of the same core.
    pub(super) fn add(&mut self, set: &mut LinkSet, owner: u32, link: Link) {
        let links = self.as_slice(set.count, &set.word);
        let old = links.iter().position(|old| Link(*old).core() == link.core());
        match (set.count, old) {
            (0, _) | (1, Some(_)) => *set = LinkSet { word: link.0, count: 1 },
            (_, Some(at)) => self.0.as_mut_slice(set.run())[1 + at] = link.0,
            (1, None) => {
                let mut run = Run::EMPTY;
                self.0.append(&mut run, &[owner, set.word, link.0]);
                *set = LinkSet { word: run.at, count: 2 };
            }
            (_, None) => {
                let mut run = set.run();
                self.0.push(&mut run, link.0);
                *set = LinkSet { word: run.at, count: set.count + 1 };
            }
        }
    }

    /// Takes out the first link of which this is true. False: there is none.
    pub(super) fn remove(&mut self, set: &mut LinkSet, is_it: impl Fn(Link) -> bool) -> bool {
        let links = self.as_slice(set.count, &set.word);
        let Some(at) = links.iter().position(|link| is_it(Link(*link))) else { return false };
        match set.count {
            1 => self.clear(set),
            2 => {
                let word = links[1 - at];
                self.0.clear(&mut set.run());
                *set = LinkSet { word, count: 1 };
            }
            _ => {
                let mut run = set.run();
                self.0.swap_remove(&mut run, 1 + at);
                *set = LinkSet { word: run.at, count: set.count - 1 };
            }
        }
        true
    }

    /// Frees all.
    pub(super) fn clear(&mut self, set: &mut LinkSet) {
        if set.count > 1 {
            self.0.clear(&mut set.run());
        }
        *set = LinkSet { word: 0, count: 0 };
    }

    /// Whose list is somewhere else now.
    pub(super) fn moved(&mut self) -> Option<Moved> {
        self.0.moved()
    }

    /// The links. The word stays where it is meanwhile: it may be one of them.
    pub(super) fn as_slice<'a>(&'a self, count: u8, word: &'a u32) -> &'a [u32] {
        match count {
            0 => &[],
            1 => std::slice::from_ref(word),
            _ => &self.0.as_slice(LinkSet { word: *word, count }.run())[1..],
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.bytes()
    }
}
