//! Judges what is said between shards and to the driver's hands: I2, I13, I14, and what stands at the end.

use std::collections::BTreeMap;

use campanile::ids::Role;
use campanile::wire::Message;
use campanile::wire::message::namespace::DURABLE;

use crate::database::Database;

/// A broken promise: which invariant, and what was seen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Violation(pub(crate) String);

/// One direction of one link, as far as subscriptions are concerned: who is told, and by whom.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Way {
    pub(crate) subscriber: usize,
    pub(crate) provider: usize,
    pub(crate) role: Role,
}

/// A subscription as its link knows it.
#[derive(Debug)]
struct Subscription {
    name: String,
    /// The offset that is next, once the subscription stands.
    next: Option<u64>,
}

/// Of one process of the node; a new process begins anew.
#[derive(Default, Debug)]
pub(crate) struct Checker {
    subscriptions: BTreeMap<(Way, u32), Subscription>,
    /// By owner and channel: the tip when it was first asked for there.
    opened: BTreeMap<(usize, String), u64>,
    /// Publications on their way, by their dispatcher's number.
    published: BTreeMap<u32, (String, u64)>,
    /// When the dispatcher heard that an owner has it.
    accepted: BTreeMap<(String, u64), u64>,
    /// When reads of the ring began, and the latest of those that were answered.
    ring_reads: BTreeMap<u32, u64>,
    ring_proof: u64,
    moment: u64,
    violation: Option<Violation>,
}

impl Checker {
    /// A message comes to its shard.
    pub(crate) fn heard(
        &mut self,
        database: &Database,
        (here, to): (usize, Role),
        (from_place, from): (usize, Role),
        message: &Message<'_>,
    ) {
        self.moment += 1;
        let told = Way { subscriber: here, provider: from_place, role: from };
        let is_told = to == Role::Gateway && matches!(from, Role::Channel | Role::Gateway);
        match *message {
            Message::Subscribe { handle, name, .. } => {
                let way = Way { subscriber: from_place, provider: here, role: to };
                let known = self.subscriptions.get(&(way, handle.0));
                if known.is_none_or(|known| known.name != name) {
                    let fresh = Subscription { name: name.into(), next: None };
                    self.subscriptions.insert((way, handle.0), fresh);
                }
                if to == Role::Channel && is_durable(name) {
                    let tip = database.tip(name);
                    self.opened.entry((here, name.into())).or_insert(tip);
                }
            }
            Message::Suback { handle, tip, .. } if is_told => self.suback(told, handle.0, tip),
            Message::Publication { handle, offset, .. } if is_told => {
                self.publication(told, handle.0, offset);
            }
            Message::Unsuback { handle } if is_told => {
                self.subscriptions.remove(&(told, handle.0));
            }
            Message::Publish { namespace: DURABLE, ask, name, offset, .. } => {
                self.published.insert(ask.0, (name.into(), offset));
            }
            Message::Published { ask, accepted: true, .. } if to == Role::Admin => {
                if let Some(what) = self.published.get(&ask.0) {
                    self.accepted.insert(what.clone(), self.moment);
                } else {
                    self.broken(format!("I2: an owner accepts {ask:?}, which it was not given"));
                }
            }
            _ => {}
        }
    }

    fn suback(&mut self, way: Way, handle: u32, tip: u64) {
        let Some(subscription) = self.subscriptions.get_mut(&(way, handle)) else {
            return self.broken(format!("I13: {way:?} acknowledges handle {handle} to nobody"));
        };
        subscription.next = Some(tip + 1);
        let opened = self.opened.get(&(way.provider, subscription.name.clone()));
        let is_durable = is_durable(&subscription.name);
        if way.role == Role::Channel && is_durable && opened.is_none_or(|opened| tip < *opened) {
            let name = subscription.name.clone();
            let opened = opened.copied();
            self.broken(format!(
                "I14: the owner at {} opens {name} at {tip}, and it had {opened:?} before that was asked",
                way.provider
            ));
        }
    }

    fn publication(&mut self, way: Way, handle: u32, offset: u64) {
        match self.subscriptions.get_mut(&(way, handle)) {
            Some(Subscription { next: Some(next), .. }) if *next == offset => *next += 1,
            other => {
                let other = format!("{other:?}");
                self.broken(format!("I13: {way:?} tells handle {handle} of {offset}: {other}"));
            }
        }
    }

    /// A place is told that its link to another is lost, or new: what it was told on the last life is void.
    pub(crate) fn link_changed(&mut self, here: usize, other: usize) {
        self.subscriptions.retain(|(way, _), _| (way.subscriber, way.provider) != (here, other));
    }

    /// The dispatcher asks its driver for something.
    pub(crate) fn asked(&mut self, database: &Database, question: &Message<'_>) {
        self.moment += 1;
        match question {
            Message::RingRead { ask } => {
                self.ring_reads.insert(ask.0, self.moment);
            }
            Message::OutboxRemove { ids, .. } => {
                for id in ids.iter::<u64>() {
                    let Some(what) = database.outbox.get(&id) else { continue };
                    let accepted = self.accepted.get(what).copied();
                    if accepted.is_none_or(|accepted| accepted >= self.ring_proof) {
                        self.broken(format!(
                            "I2: {what:?} leaves the outbox: accepted {accepted:?}, ring read {}",
                            self.ring_proof
                        ));
                    }
                }
            }
            _ => {}
        }
    }

    /// The dispatcher is told the ring.
    pub(crate) fn ring_is(&mut self, ask: u32) {
        if let Some(began) = self.ring_reads.remove(&ask) {
            self.ring_proof = self.ring_proof.max(began);
        }
    }

    /// I15, I22: at the end, everybody who subscribed stands at the channel's tip.
    pub(crate) fn behind(&self, database: &Database) -> Option<Violation> {
        let mut standing = self.subscriptions.iter();
        let (key, subscription) = standing.find(|(_, subscription)| {
            is_durable(&subscription.name)
                && subscription.next != Some(database.tip(&subscription.name) + 1)
        })?;
        let tip = database.tip(&subscription.name);
        Some(Violation(format!("I22: {key:?} is {subscription:?}, and the tip is {tip}")))
    }

    pub(crate) fn broken(&mut self, what: String) {
        self.violation.get_or_insert(Violation(what));
    }

    pub(crate) fn take_violation(&mut self) -> Option<Violation> {
        self.violation.take()
    }
}

/// Whether the database has the truth about a channel: see `guest` for the others.
fn is_durable(name: &str) -> bool {
    !name.starts_with('.')
}
