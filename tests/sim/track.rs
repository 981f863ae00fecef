//! Where a client stands in one channel: what it holds, and what its connection gave.

use std::collections::BTreeSet;

/// One channel of one client. Outlives its connections.
#[derive(Clone, Debug)]
pub(crate) struct Track {
    /// Everything up to here is held; what was before the client followed the channel counts as held.
    solid: u64,
    /// Held beyond a hole.
    above: BTreeSet<u64>,
    /// Where in the channel the user came in last, as far as this client was told; and by which event of the user's own channel.
    pub(crate) joined: u64,
    pub(crate) joined_by: u64,
    /// The last offset that this connection gave. `None`: it was not said yet where it begins.
    pub(crate) given: Option<u64>,
    /// Up to here membership events change nothing on this connection.
    pub(crate) floor: u64,
    /// The offset up to which the client claimed wrongly to hold everything: a gap up to here is owed.
    pub(crate) gap_owed: Option<u64>,
    /// Where the client said that it stands, if that is above the ticket's offset.
    pub(crate) claimed: u64,
    /// Events at or below the ticket's offset that this connection gave.
    pub(crate) replayed: u64,
    /// The user left, as far as this connection told.
    pub(crate) has_left: bool,
    /// By which event.
    left: u64,
    /// Where the user came in, as far as is known: after a leaving, the stream begins anew from one of these, or goes on as it was where
    /// the server knew of the return before.
    joins: BTreeSet<u64>,
}

impl Track {
    pub(crate) fn new(start: u64) -> Self {
        Self {
            solid: start,
            above: BTreeSet::new(),
            joined: 0,
            joined_by: 0,
            given: None,
            floor: start,
            gap_owed: None,
            claimed: 0,
            replayed: 0,
            has_left: false,
            left: 0,
            joins: BTreeSet::new(),
        }
    }

    /// A new connection begins.
    pub(crate) fn begin(&mut self, floor: u64) {
        let Self { solid, joined, joined_by, left, .. } = *self;
        let above = std::mem::take(&mut self.above);
        let joins = std::mem::take(&mut self.joins);
        *self = Self { solid, above, joined, joined_by, left, joins, ..Self::new(floor) };
    }

    /// This connection's events begin behind `offset`, and membership counts from there on.
    pub(crate) fn follow_from(&mut self, offset: u64) {
        self.given = Some(offset);
        self.floor = offset;
    }

    /// The client says that it holds everything up to `position`: what it knows of by that, it is not told again.
    pub(crate) fn claim(&mut self, position: u64) {
        self.given = Some(position);
        self.claimed = position;
        self.has_left = self.left > self.floor && self.left <= position && self.left > self.joined;
    }

    /// The user came in at `offset`, by an event of the user's own channel.
    pub(crate) fn join(&mut self, offset: u64, by: u64) {
        if self.given.is_none() && self.joined == 0 {
            self.follow_from(offset);
        }
        self.joins.insert(offset);
        if self.has_left && offset > self.left {
            // What was between leaving and coming back is in the history.
            self.has_left = false;
            self.hold_all(offset);
        }
        self.joined = self.joined.max(offset);
        self.joined_by = self.joined_by.max(by);
    }

    /// The user left by the event at `offset`, unless that is older than what is known.
    pub(crate) fn leave(&mut self, offset: u64) {
        if offset > self.floor {
            self.has_left = offset > self.joined;
            self.left = offset;
        }
    }

    /// An event comes: whether a gap should have been told before. Not to who left meanwhile, and begins anew.
    pub(crate) fn lacks_gap(&mut self, seq: u64) -> bool {
        let Some(owed) = self.gap_owed.take().filter(|owed| *owed > 0) else { return false };
        let back = self.joins.range(owed + 1..seq.max(owed + 1)).next_back().copied();
        if let Some(back) = back {
            self.given = Some(back);
            self.hold_all(back);
        }
        back.is_none()
    }

    /// From where on the stream goes, that gives `seq` next: what was between a leaving and coming back is in the history.
    pub(crate) fn goes_on(&mut self, seq: u64) -> Option<u64> {
        let Some(given) = self.given else { return self.joins.range(..seq).next_back().copied() };
        let back = self.joins.range(given..seq.max(given)).next_back().copied();
        match back.filter(|_| self.left == given) {
            Some(back) => {
                self.hold_all(back);
                Some(back)
            }
            None => Some(given),
        }
    }

    /// The highest offset up to which everything is held.
    pub(crate) fn position(&self) -> u64 {
        self.solid
    }

    /// The same, for who claimed wrongly and came into the channel anew before that was found out: all before is in the history, and no gap is
    /// owed for it.
    pub(crate) fn stands_at(&self) -> u64 {
        let is_anew = self.gap_owed.is_some_and(|owed| self.joined > owed);
        if is_anew { self.solid.max(self.joined) } else { self.solid }
    }

    pub(crate) fn holds(&self, offset: u64) -> bool {
        offset <= self.solid || self.above.contains(&offset)
    }

    pub(crate) fn hold(&mut self, offset: u64) {
        if offset > self.solid {
            self.above.insert(offset);
            self.settle();
        }
    }

    /// The history has everything up to here.
    pub(crate) fn hold_all(&mut self, upto: u64) {
        if upto > self.solid {
            self.solid = upto;
            self.above = self.above.split_off(&(upto + 1));
            self.settle();
        }
    }

    fn settle(&mut self) {
        while self.above.first() == Some(&(self.solid + 1)) {
            self.above.pop_first();
            self.solid += 1;
        }
    }
}
