//! Evening out: after a node's seats went to others as they were, slots move until every node has its share, some at a time.
//!
//! Every manager would write the next step of the plan, one after the other; a ring that anybody wrote lets all of them wait anew.

use std::time::Duration;

use crate::ids::Ask;
use crate::time::Mono;
use crate::wire::message::outcome;

/// Between two steps, each of at most [`crate::limits::RING_STEP_SLOTS_MAX`] slots; for who comes later in the order of managers, so much more.
const PAUSE: Duration = Duration::from_millis(500);
/// A step that nobody answered in this time is asked for anew.
const ANSWER_MAX: Duration = Duration::from_secs(4);

/// Of one manager.
#[derive(Debug)]
pub(super) struct Level {
    pause: Duration,
    /// A node lost its seats, and nobody said since that all have their share.
    is_upset: bool,
    step_at: Mono,
    asked: Option<Ask>,
}

impl Level {
    /// `rank`: the manager's place among its like, from 0.
    pub(super) fn new(rank: u32) -> Self {
        Self { pause: PAUSE * (1 + rank), is_upset: false, step_at: Mono::default(), asked: None }
    }

    pub(super) fn upset(&mut self) {
        self.is_upset = true;
    }

    /// There is another ring.
    pub(super) fn ring(&mut self, now: Mono) {
        self.step_at = now + self.pause;
    }

    pub(super) fn is_due(&self, now: Mono) -> bool {
        self.is_upset && self.step_at <= now
    }

    pub(super) fn ask(&mut self, now: Mono, ask: Ask) {
        (self.asked, self.step_at) = (Some(ask), now + ANSWER_MAX);
    }

    /// True: this was ours, and a step was written.
    pub(super) fn answered(&mut self, now: Mono, ask: Ask, what: u8) -> bool {
        if self.asked != Some(ask) {
            return false;
        }
        self.asked = None;
        self.step_at = now + self.pause;
        self.is_upset &= what != outcome::EVEN;
        what == outcome::DONE
    }
}
