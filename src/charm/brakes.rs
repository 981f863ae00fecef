//! What keeps a manager from doing more harm than good (invariant I10).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::ids::NodeId;
use crate::time::Mono;

/// Replacements that this manager saw or made, or was told of by its first ring, of late.
#[derive(Debug, Default)]
pub(super) struct Brakes {
    /// Until when each counts, the soonest first.
    replaced: VecDeque<Mono>,
    /// Who was replaced: how often in a row, and when last.
    suspects: BTreeMap<NodeId, (u32, Mono)>,
    pub(super) is_frozen: bool,
}

/// At most one node, or this share of all, in this time.
const WINDOW: Duration = Duration::from_secs(60);
const SHARE_PERCENT: usize = 10;
/// A node that was replaced is trusted with seats again when it has lived for a while, at most this; each replacement that comes within
/// `FORGIVEN_AFTER` of the one before doubles it.
const PROBATION_MAX: Duration = Duration::from_secs(600);
const FORGIVEN_AFTER: Duration = Duration::from_secs(3_600);
/// Who sees more than this share silent, and more than one, suspects itself.
const SILENT_PERCENT: usize = 30;

/// Why nobody is replaced now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Brake {
    /// An operator froze the ring.
    Frozen,
    /// So many were replaced of late that another one is an operator's matter.
    Pace,
    /// So many are silent that it is rather us who are cut off.
    Distrust,
}

impl Brakes {
    /// What was before this manager began, by the ring: so long ago.
    pub(super) fn remember(&mut self, now: Mono, node: NodeId, age: Duration, window: Duration) {
        if age < FORGIVEN_AFTER {
            self.count(now + window.saturating_sub(age));
            self.suspects.insert(node, (1, now - age));
        }
    }

    fn count(&mut self, until: Mono) {
        let at = self.replaced.partition_point(|other| *other <= until);
        self.replaced.insert(at, until);
    }

    pub(super) fn replaced(&mut self, now: Mono, node: NodeId, window: Duration) {
        self.count(now + window);
        let (times, at) = self.suspects.entry(node).or_insert((0, now));
        *times = if now.since(*at) > FORGIVEN_AFTER { 1 } else { *times + 1 };
        *at = now;
    }

    /// Whether a node that was met at some time may be given seats: `probation` is for the first time.
    pub(super) fn trusts(
        &self,
        now: Mono,
        node: NodeId,
        met_at: Mono,
        probation: Duration,
    ) -> bool {
        self.suspects.get(&node).is_none_or(|&(times, at)| {
            let doubled = probation * (1 << (times - 1).min(16));
            now.since(met_at.max(at)) >= doubled.min(PROBATION_MAX)
        })
    }

    /// Whether one more of `nodes` may be replaced, of which `silent` say nothing.
    pub(super) fn allow(&mut self, now: Mono, nodes: usize, silent: usize) -> Result<(), Brake> {
        if self.is_frozen {
            return Err(Brake::Frozen);
        }
        while self.replaced.front().is_some_and(|until| *until <= now) {
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
    pub(super) const PROBATION: Duration = Duration::from_secs(30);
}
