//! Evening out: after a node's seats went to others as they were, slots move until every node has its share, some at a time.
//!
//! Every manager would write the next step of the plan, one after the other; a ring that anybody wrote lets all of them wait anew.

use std::time::Duration;

use crate::ids::Ask;
use crate::time::Mono;
use crate::wire::message::outcome;

/// Between two steps, each of at most [`crate::limits::RING_STEP_SLOTS_MAX`] slots; for who comes later in the order of managers, so much more.
const PAUSE: Duration = Duration::from_millis(500);
/// A step that was not written, or that nobody answered, is asked for anew after this.
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

    /// A node lost its seats. What is answered to a question of before says nothing of that.
    pub(super) fn upset(&mut self) {
        (self.is_upset, self.asked) = (true, None);
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
        let is_done = what == outcome::DONE;
        self.asked = None;
        // A store that went back, or takes no writes, is not asked all the time; whoever was faster tells by the ring.
        self.step_at = now + if is_done { self.pause } else { ANSWER_MAX };
        self.is_upset &= what != outcome::EVEN;
        is_done
    }
}
