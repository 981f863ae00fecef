//! What goes wrong in one world, when, and for how long: drawn from the seed before anything happens.

use std::time::Duration;

use crate::agenda::millis;
use crate::random::Random;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// The process dies and another starts; clients are told by a reset, or by nobody.
    Crash {
        node: u64,
        is_told: bool,
    },
    /// A process is told to drain, ends, and another starts.
    Drain {
        node: u64,
    },
    /// The database answers with excuses, or not at all.
    DatabaseAway,
    /// The database takes up to so long for each step.
    DatabaseSlow {
        ms: u64,
    },
    /// In a thousand: questions that do not reach the database, answers that do not come back though it did what was asked.
    QuestionsLost(u64),
    AnswersLost(u64),
    /// In a thousand: commits of which the dispatcher is not told.
    WordsLost(u64),
    /// A core, or the control plane, stands still.
    Stuck {
        node: u64,
        place: u64,
    },
    /// Mail between two places is slow one way.
    SlowMail {
        node: u64,
        from: u64,
        to: u64,
    },
    /// Connections of one client, or of all, end: by FIN, by a reset, or in silence.
    Cut {
        is_all: bool,
        how: Cut,
    },
    /// Some clients read slowly, or not at all.
    SlowReaders {
        slowness: u64,
    },
    StoppedReaders,
    // Of cells only.
    /// A process stands still, and does not know it (SIGSTOP).
    Pause {
        node: u64,
    },
    /// Nothing gets from one node to another, or the other way either, and nobody is told.
    Wall {
        from: u64,
        to: u64,
        is_both_ways: bool,
    },
    /// Nodes whose bits are set are cut off from the others.
    Partition {
        nodes: u64,
    },
    /// Everything from a node, or to it, takes up to so many milliseconds.
    SlowLines {
        node: u64,
        ms: u64,
    },
    /// The connections between two nodes are reset.
    LinesCut {
        from: u64,
        to: u64,
    },
    /// The ring store does not answer.
    StoreAway,
    /// In a thousand: writes of the ring that nobody knows the end of, reads of watchers that are too old.
    StoreOdd {
        answers_lost: u64,
        stale: u64,
    },
    /// News of the ring take up to so many milliseconds.
    WatchSlow {
        ms: u64,
    },
    // Of `odds`.
    /// A core, or the control plane, takes long for everything.
    Slow {
        node: u64,
        place: u64,
    },
    /// The database takes no writes, as while one of its servers takes over from another.
    DatabaseReadOnly,
    /// So many sessions of the database in a thousand lead to a follower of it, which is behind.
    DatabaseFollowed {
        per_mille: u64,
    },
    /// The hands of a node's wall clock are moved, or stand still.
    ClockMoved {
        node: u64,
        by_ms: i64,
    },
    ClockStopped {
        node: u64,
    },
    /// The ring store does not answer one node.
    StoreAwayFrom {
        node: u64,
    },
    /// A backup of the ring store is put in place, so many rings old; in the end the operator restores the ring.
    StoreRestored {
        back: u64,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cut {
    Fin,
    Reset,
    /// Neither side is told.
    Silent,
}

#[derive(Clone, Debug)]
pub(crate) struct Planned {
    /// From the beginning.
    pub(crate) at: Duration,
    pub(crate) lasts: Duration,
    pub(crate) fault: Fault,
}

/// Kinds of faults: each world has some of them.
const KINDS: u64 = 12;
const KINDS_OF_CELLS: u64 = 20;

/// The plan for a world that is active for so long. One in eight has none.
pub(crate) fn draw(random: &mut Random, active: Duration, is_cell: bool) -> Vec<Planned> {
    if random.chance(125) {
        return Vec::new();
    }
    let kinds = if is_cell { KINDS_OF_CELLS } else { KINDS };
    let kinds: Vec<u64> = (0..kinds).filter(|_| random.chance(400)).collect();
    let seconds = active.as_secs();
    let mut plan = Vec::new();
    for _ in 0..random.between(1, 2 + seconds / 2) {
        let Some(kind) = (!kinds.is_empty()).then(|| *random.pick(&kinds)) else { break };
        let at = millis(random.below(active.as_millis() as u64));
        let lasts = millis(match random.below(4) {
            0 => random.between(1, 50),
            1 | 2 => random.between(50, 1_000),
            _ => random.between(1_000, 5_000),
        });
        plan.push(Planned { at, lasts, fault: fault(kind, random) });
    }
    plan.sort_by_key(|planned| planned.at);
    plan
}

fn fault(kind: u64, random: &mut Random) -> Fault {
    match kind {
        0 => Fault::Crash { node: random.next(), is_told: random.chance(600) },
        1 => Fault::Drain { node: random.next() },
        2 => Fault::DatabaseAway,
        3 => Fault::DatabaseSlow { ms: *random.pick(&[20, 200, 2_000]) },
        4 => Fault::QuestionsLost(*random.pick(&[50, 300])),
        5 => Fault::AnswersLost(*random.pick(&[50, 300])),
        6 => Fault::WordsLost(*random.pick(&[100, 600])),
        7 => Fault::Stuck { node: random.next(), place: random.below(8) },
        8 => Fault::SlowMail { node: random.next(), from: random.below(8), to: random.below(8) },
        9 => Fault::Cut {
            is_all: random.chance(200),
            how: *random.pick(&[Cut::Fin, Cut::Reset, Cut::Reset, Cut::Silent]),
        },
        10 => Fault::SlowReaders { slowness: *random.pick(&[20, 200]) },
        11 => Fault::StoppedReaders,
        12 => Fault::Pause { node: random.next() },
        13 => {
            Fault::Wall { from: random.next(), to: random.next(), is_both_ways: random.chance(500) }
        }
        14 => Fault::Partition { nodes: random.next() },
        15 => Fault::SlowLines { node: random.next(), ms: *random.pick(&[20, 100, 200]) },
        16 => Fault::LinesCut { from: random.next(), to: random.next() },
        17 => Fault::StoreAway,
        18 => Fault::StoreOdd {
            answers_lost: *random.pick(&[0, 300]),
            stale: *random.pick(&[0, 300]),
        },
        _ => Fault::WatchSlow { ms: *random.pick(&[300, 2_000]) },
    }
}
