//! Two processes that run under one number: an operator gave it to two nodes, or started one twice. Each connection of one ends one of the
//! other's, over and over, and clients of both would be caught up all the time. The one that was met first is told, and ends.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::ids::NodeId;
use crate::time::Mono;

/// Who was met under which number, a row for each node that ever was. One for the process; clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Twins(Arc<Mutex<BTreeMap<NodeId, Met>>>);

#[derive(Debug)]
struct Met {
    /// The process that was met last, and the one before it; 0: there was none.
    later: u64,
    earlier: u64,
    /// How often the earlier one came back, the last time then.
    returns: u32,
    at: Mono,
}

/// Words of a process that is no more may be late, once or twice. One that lives comes back within moments.
const RETURNS_MAX: u32 = 3;
const MOMENT: Duration = Duration::from_secs(10);

impl Twins {
    /// A process says hello under a number. True: it runs beside one that was met later.
    pub(super) fn meet(&self, now: Mono, node: NodeId, incarnation: u64) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Met { later: incarnation, earlier: 0, returns: 0, at: now };
        let met = all.entry(node).or_insert_with(new);
        if met.later == incarnation {
            return false;
        }
        if met.earlier != incarnation {
            *met = Met { earlier: met.later, ..new() };
            return false;
        }
        met.returns = if now.since(met.at) > MOMENT { 1 } else { met.returns + 1 };
        met.at = now;
        met.returns >= RETURNS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earlier_of_two_that_come_by_turns_is_told_and_nobody_else() {
        let (twins, node) = (Twins::default(), NodeId(7));
        let mut now = Mono::default() + MOMENT;
        // Each process of a node that is started anew.
        for incarnation in 1..10 {
            for _ in 0..4 {
                assert!(!twins.meet(now, node, incarnation));
            }
        }
        // A word of an older one that is late, now and then.
        for _ in 0..10 {
            now += MOMENT + Duration::from_millis(1);
            assert!(!twins.meet(now, node, 8) && !twins.meet(now, node, 9));
        }
        let told: Vec<bool> = (0..6).map(|nth| twins.meet(now, node, 8 + nth % 2)).collect();
        assert_eq!(told, [false, false, true, false, true, false]);
        assert!(!twins.meet(now, NodeId(8), 8), "another node");
        assert!(!twins.meet(now, node, 10) && !twins.meet(now, node, 9), "a third one begins anew");
    }
}
