//! Who typed lately, and where: one event of a connection and channel in an interval.

use std::collections::VecDeque;

use rustc_hash::FxHashSet;

use crate::time::Mono;

/// A connection's index and a channel's place in the hub.
type Typist = (u32, u32);

/// Per shard. What is older than the interval is forgotten with the next event.
#[derive(Debug, Default)]
pub(super) struct Typists {
    recent: FxHashSet<Typist>,
    order: VecDeque<(Mono, Typist)>,
}

/// Beyond this, whoever types is not told of: nobody could read so much.
const RECENT_MAX: usize = 65_536;

impl Typists {
    /// Whether a typing event is passed on.
    pub(super) fn may(&mut self, now: Mono, who: Typist, interval: std::time::Duration) -> bool {
        while let Some((since, old)) = self.order.front()
            && *since + interval <= now
        {
            self.recent.remove(old);
            self.order.pop_front();
        }
        if self.recent.len() >= RECENT_MAX || !self.recent.insert(who) {
            return false;
        }
        self.order.push_back((now, who));
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn one_event_in_an_interval_for_each_connection_and_channel() {
        let (mut typists, three) = (Typists::default(), Duration::from_secs(3));
        let at = |second: u64| Mono(second * 1_000_000_000);
        assert!(typists.may(at(1), (1, 1), three));
        assert!(!typists.may(at(3), (1, 1), three));
        assert!(typists.may(at(3), (1, 2), three) && typists.may(at(3), (2, 1), three));
        assert!(typists.may(at(4), (1, 1), three), "three seconds are over");
        assert_eq!(typists.recent.len(), 3);
        assert!(typists.may(at(9), (1, 1), three));
        assert_eq!(typists.recent.len(), 1, "the old are forgotten");
    }
}
