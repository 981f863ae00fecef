//! Slots that this core keeps since less than a lease: of users in them whom nobody reported nobody knows whether they are online. Whoever kept
//! them before took that along, and gateways say again what they know, each when its link is up.

use std::collections::VecDeque;

use crate::ids::Slot;
use crate::time::Mono;

/// Per shard. As many entries as rings that gave it something within a lease; two bytes for each slot.
#[derive(Debug, Default)]
pub(super) struct Unknown {
    /// Of a process that begins where another one was: all of its slots.
    all_until: Option<Mono>,
    /// Until when, and the slots of one ring, sorted.
    since: VecDeque<(Mono, Box<[Slot]>)>,
}

impl Unknown {
    pub(super) fn all(&mut self, until: Mono) {
        self.all_until = Some(until);
    }

    /// `until` does not go back. `slots`: sorted.
    pub(super) fn add(&mut self, until: Mono, slots: &[Slot]) {
        self.since.push_back((until, slots.into()));
    }

    pub(super) fn has(&self, slot: Slot) -> bool {
        let is_in = |(_, slots): &(Mono, Box<[Slot]>)| slots.binary_search(&slot).is_ok();
        self.all_until.is_some() || self.since.iter().any(is_in)
    }

    /// Forgets what is known by now. True: something is.
    pub(super) fn end(&mut self, now: Mono) -> bool {
        let is_over = |until: Mono| until <= now;
        let mut ended = self.all_until.take_if(|until| is_over(*until)).is_some();
        while self.since.front().is_some_and(|(until, _)| is_over(*until)) {
            self.since.pop_front();
            ended = true;
        }
        ended
    }

    /// When `end` has something to do.
    pub(super) fn deadline(&self) -> Option<Mono> {
        let first = self.since.front().map(|(until, _)| *until);
        crate::time::sooner(self.all_until, first)
    }
}
