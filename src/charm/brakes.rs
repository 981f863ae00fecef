//! What keeps a manager from doing more harm than good (invariant I10).

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Mono;

/// Replacements that this manager saw or made, of late.
#[derive(Debug, Default)]
pub(super) struct Brakes {
    replaced: VecDeque<Mono>,
}

/// At most one node, or this share of all, in this time.
const WINDOW: Duration = Duration::from_secs(60);
const SHARE_PERCENT: usize = 10;
/// Who sees more than this share silent, and more than one, suspects itself.
const SILENT_PERCENT: usize = 30;

/// Why nobody is replaced now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Brake {
    /// So many were replaced of late that another one is an operator's matter.
    Pace,
    /// So many are silent that it is rather us who are cut off.
    Distrust,
}

impl Brakes {
    pub(super) fn replaced(&mut self, now: Mono) {
        self.replaced.push_back(now);
    }

    /// Whether one more of `nodes` may be replaced, of which `silent` say nothing.
    pub(super) fn allow(
        &mut self,
        now: Mono,
        nodes: usize,
        silent: usize,
        window: Duration,
    ) -> Result<(), Brake> {
        while self.replaced.front().is_some_and(|at| now.since(*at) >= window) {
            self.replaced.pop_front();
        }
        if silent > 1 && silent * 100 > nodes * SILENT_PERCENT {
            return Err(Brake::Distrust);
        }
        if self.replaced.len() >= (nodes * SHARE_PERCENT / 100).max(1) {
            return Err(Brake::Pace);
        }
        Ok(())
    }

    pub(super) const WINDOW: Duration = WINDOW;
}
