//! What happened over all seeds, so that a run in which something important never happened is no success.

use std::collections::BTreeMap;
use std::fmt::Write;

use campanile::shard::Counter;
use campanile::wire::message::TAGS;
use rustc_hash::FxHashMap;

/// Of one world, or of many.
#[derive(Clone, Debug)]
pub(crate) struct Coverage {
    counters: [u64; Counter::ALL.len()],
    /// Messages between shards, by name.
    messages: FxHashMap<&'static str, u64>,
    /// What the simulator did or saw, by name.
    sights: FxHashMap<&'static str, u64>,
}

impl Coverage {
    pub(crate) fn new() -> Self {
        Self {
            counters: [0; Counter::ALL.len()],
            messages: FxHashMap::default(),
            sights: FxHashMap::default(),
        }
    }

    pub(crate) fn count(&mut self, what: Counter, by: u32) {
        self.counters[what as usize] += u64::from(by);
    }
    pub(crate) fn message(&mut self, name: &'static str) {
        *self.messages.entry(name).or_default() += 1;
    }
    pub(crate) fn saw(&mut self, what: &'static str) {
        self.saw_many(what, 1);
    }
    pub(crate) fn saw_many(&mut self, what: &'static str, count: u64) {
        *self.sights.entry(what).or_default() += count;
    }
    pub(crate) fn counted(&self, what: Counter) -> u64 {
        self.counters[what as usize]
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (sum, more) in self.counters.iter_mut().zip(other.counters) {
            *sum += more;
        }
        for (name, count) in &other.messages {
            *self.messages.entry(name).or_default() += count;
        }
        for (name, count) in &other.sights {
            *self.sights.entry(name).or_default() += count;
        }
    }

    /// What should have happened in a long run, and never did.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let counters = Counter::ALL.iter().filter(|counter| !IMPOSSIBLE.contains(counter));
        let silent = counters.filter(|counter| self.counted(**counter) == 0).map(|c| c.name());
        let unsaid = TAGS
            .iter()
            .map(|(_, name)| *name)
            .filter(|name| !QUESTIONS.contains(name) && !self.messages.contains_key(name));
        let unseen = SIGHTS.iter().copied().filter(|name| !self.sights.contains_key(name));
        silent.chain(unsaid).chain(unseen).collect()
    }

    /// A table of everything.
    pub(crate) fn table(&self) -> String {
        let counters = Counter::ALL.iter().map(|counter| (counter.name(), self.counted(*counter)));
        let by_name = |names: &FxHashMap<&'static str, u64>| {
            let names: BTreeMap<_, _> = names.iter().map(|(name, count)| (*name, *count)).collect();
            names.into_iter().collect::<Vec<_>>()
        };
        let columns = [
            ("counters", counters.collect()),
            ("messages", by_name(&self.messages)),
            ("sights", by_name(&self.sights)),
        ];
        let mut table = String::new();
        for (title, rows) in columns {
            let _ = write!(table, "{title}:");
            for (at, (name, count)) in rows.iter().enumerate() {
                table += if at % 3 == 0 { "\n  " } else { " " };
                let _ = write!(table, "{name:<40}{count:>10}");
            }
            table.push('\n');
        }
        table
    }
}

/// Counters that stay at zero here: nobody says what nobody understands, and a handful of users never fills the tables of owners and of
/// presence (the stories of both shards do), nor what a desk remembers of revoked tokens; nor has a region so many cores; nor does anybody lose a subscription.
const IMPOSSIBLE: &[Counter] = &[
    Counter::WireBroken,
    Counter::PresenceMisplaced,
    Counter::VersionsEvicted,
    Counter::CallsShed,
    Counter::HandedOver,
    Counter::RevocationsEvicted,
    Counter::RelaysFull,
    Counter::TalliesWrong,
];

/// Messages that never travel between shards here: questions to the driver's hands, what only handlers of the API ask, and calls to the
/// operator's back end and keys of publications that count once, of which no world has any.
const QUESTIONS: &[&str] = &[
    "OutboxRead",
    "OutboxRemove",
    "RingRead",
    "RingIs",
    "OutboxEnd",
    "Removed",
    "Erase",
    "Census",
    "CensusIs",
    "Call",
    "Called",
    "Replaced",
    "EvenOut",
    "MovingOnce",
];

/// What each long run must have done and seen.
const SIGHTS: &[&str] = &[
    "acks after several tries",
    "answers lost",
    "bounds that differ between nodes",
    "closes: going away",
    "closes: policy",
    "closes: too slow",
    "closes: try again",
    "connections given up",
    "connections of an older version",
    "connections of revoked tokens",
    "dead nodes whose seats nobody may take",
    "events held already",
    "connections that fell silent",
    "faults: a connection cut",
    "faults: a place slow",
    "faults: a place stuck",
    "faults: a wall clock moved",
    "faults: a wall clock stopped",
    "faults: all connections cut",
    "faults: connections cut in silence",
    "faults: connections between nodes cut",
    "faults: crash that nobody is told",
    "faults: crash",
    "faults: database away",
    "faults: database followed",
    "faults: database read-only",
    "faults: database slow",
    "faults: drain",
    "faults: late news of the ring",
    "faults: partitions",
    "faults: pause",
    "faults: ring store away from a node",
    "faults: ring store away",
    "faults: ring store odd",
    "faults: ring store restored",
    "faults: slow connections of a node",
    "faults: slow mail",
    "faults: slow readers",
    "faults: stopped readers",
    "faults: walls one way",
    "faults: walls",
    "gaps after a wrong claim",
    "gaps",
    "goodbyes",
    "guests sent away by a shutdown",
    "guests sent away by order",
    "guests sent to another region",
    "guests that were no members",
    "guests that were pinged",
    "guests that were refused",
    "guests that were unsubscribed",
    "guests without room",
    "guests' messages",
    "guests' publications",
    "histories",
    "joins into a store that went back",
    "joins without a store",
    "joins and leaves",
    "managers that know of no others",
    "nodes replaced",
    "operator: a node added",
    "operator: a region drained",
    "operator: a region restored",
    "operator: a slot moved there and back",
    "operator: a slot moved",
    "operator: a step of a plan",
    "operator: another weight",
    "operator: the ring frozen",
    "operator: the ring restored",
    "pages by a relay",
    "own events passed over",
    "own messages settled by their event",
    "positions too late",
    "posts of unknown end",
    "processes that stood still for long",
    "promptness looked at",
    "questions lost",
    "reconnect_urls used",
    "relays that are not there",
    "recoveries that were refused",
    "recoveries",
    "returns into a conversation",
    "sessions of a follower",
    "ring reads that failed",
    "rings by news alone",
    "rings by news before the watch",
    "rings by parts alone",
    "rings pushed late",
    "rings that changed",
    "rings that were older",
    "rings told by who wrote them",
    "scenes: a region cut off",
    "scenes: a rolling restart",
    "scenes: all managers crash",
    "scenes: nodes clogged one by one",
    "scenes: something lasts long",
    "seats of one table only",
    "seats taken back",
    "strangers",
    "slots evened out by a manager",
    "subscriptions by a relay",
    "tickets of revoked tokens",
    "tickets too old",
    "tourists about",
    "tokens that were replaced",
    "tokens revoked behind a granted ticket",
    "typing told",
    "upgrades refused",
    "watches that never tell",
    "words of commits lost",
    "writes of unknown end",
];
