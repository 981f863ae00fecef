//! Things that are all due after the same pause: the first in is the first due.

use std::collections::VecDeque;

use crate::time::Mono;

/// Per shard and purpose. What became pointless meanwhile, its taker passes over.
#[derive(Debug)]
pub(super) struct Fifo<T> {
    queue: VecDeque<(Mono, T)>,
}

impl<T> Default for Fifo<T> {
    fn default() -> Self {
        Self { queue: VecDeque::new() }
    }
}

impl<T> Fifo<T> {
    /// `due` is not before that of the last one.
    pub(super) fn push(&mut self, due: Mono, what: T) {
        debug_assert!(self.queue.back().is_none_or(|(last, _)| *last <= due), "one pause for all");
        self.queue.push_back((due, what));
    }
    /// Forgets what is pointless at the front, so that short-lived things do not pile up.
    pub(super) fn trim(&mut self, is_pointless: impl Fn(&T) -> bool) {
        while self.queue.front().is_some_and(|(_, what)| is_pointless(what)) {
            self.queue.pop_front();
        }
    }
    pub(super) fn pop(&mut self, now: Mono) -> Option<T> {
        if self.deadline()? > now {
            return None;
        }
        self.queue.pop_front().map(|(_, what)| what)
    }
    pub(super) fn deadline(&self) -> Option<Mono> {
        self.queue.front().map(|(due, _)| *due)
    }
}
