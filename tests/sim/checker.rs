//! Judges what is said between shards and to the driver's hands: I2, I3, I5, I13, I14, and what stands at the end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use campanile::ids::{Peer, Role, Slot};
use campanile::ring::Ring;
use campanile::wire::Message;
use campanile::wire::message::namespace::DURABLE;

use crate::database::Database;

/// A broken promise: which invariant, and what was seen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Violation(pub(crate) String);

/// Where a shard is: node and core.
pub(crate) type Spot = (u16, u8);

pub(crate) fn spot(peer: Peer) -> Spot {
    (peer.node.0, peer.core)
}

/// One direction of one link, as far as subscriptions are concerned: who is told, and by whom.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Way {
    pub(crate) subscriber: Spot,
    pub(crate) provider: Spot,
    pub(crate) role: Role,
}

/// A subscription as its link knows it.
#[derive(Debug)]
struct Subscription {
    name: String,
    /// The offset that is next, once the subscription stands.
    next: Option<u64>,
    /// The tip when the owner was first asked for the channel.
    opened: Option<u64>,
    /// Its subscriber asked again, under another handle: what is on its way still may come.
    is_superseded: bool,
}

#[derive(Clone, Copy, Debug)]
struct Accepted {
    moment: u64,
    slot: Slot,
    by: Peer,
    seat_epoch: u32,
}

#[derive(Clone, Debug)]
struct RingRead {
    began: u64,
    ring: Option<Rc<Ring>>,
}

/// Reads that may still count for a removal that is on its way.
const PROOFS: usize = 8;

/// What is known of the processes that run; one that ends takes its part along.
#[derive(Default, Debug)]
pub(crate) struct Checker {
    /// Links that are up to their subscribers: what still comes of another asks for nothing.
    links: BTreeSet<Way>,
    subscriptions: BTreeMap<(Way, u32), Subscription>,
    /// By owner and channel: the tip when it was first asked for there.
    opened: BTreeMap<(Spot, String), u64>,
    /// Publications on their way, by their dispatcher's number.
    published: BTreeMap<u32, (String, u64, Slot)>,
    /// When the dispatcher heard that an owner has it, and under which epoch of its seat: each time, since a former owner may say so of what was
    /// sent to it before, and a row leaves by one word that is proven.
    accepted: BTreeMap<(String, u64), Vec<Accepted>>,
    /// When reads of the ring began, and what they found; those that were answered last.
    ring_reads: BTreeMap<u32, RingRead>,
    proofs: VecDeque<RingRead>,
    moment: u64,
    /// The newest ring that each place was told.
    epochs: BTreeMap<Spot, u64>,
    /// By channel: the highest offset that left the outbox, and the ring that was read before.
    finalised: BTreeMap<String, (u64, u64)>,
    violation: Option<Violation>,
}

impl Checker {
    /// A message comes to its shard.
    pub(crate) fn heard(
        &mut self,
        database: &Database,
        here: Peer,
        from: Peer,
        message: &Message<'_>,
    ) {
        self.moment += 1;
        let owner = from;
        let ((here, to), (from_place, from)) = ((spot(here), here.role), (spot(from), from.role));
        let told = Way { subscriber: here, provider: from_place, role: from };
        let is_told = to == Role::Gateway && matches!(from, Role::Channel | Role::Gateway);
        match *message {
            Message::Subscribe { handle, name, .. } => {
                let way = Way { subscriber: from_place, provider: here, role: to };
                let opened = (to == Role::Channel && is_durable(name)).then(|| {
                    let tip = database.tip(name);
                    *self.opened.entry((here, name.into())).or_insert(tip)
                });
                if !self.links.contains(&way) {
                    return;
                }
                // Of one subscriber the newest counts.
                for ((of, old), subscription) in &mut self.subscriptions {
                    let is_other = *of == way && *old != handle.0;
                    subscription.is_superseded |= is_other && subscription.name == name;
                }
                let known = self.subscriptions.get_mut(&(way, handle.0));
                match known.filter(|known| known.name == name) {
                    Some(known) => known.opened = opened,
                    None => {
                        let fresh = Subscription {
                            name: name.into(),
                            next: None,
                            opened,
                            is_superseded: false,
                        };
                        self.subscriptions.insert((way, handle.0), fresh);
                    }
                }
            }
            Message::Suback { handle, tip, .. } if is_told => self.suback(told, handle.0, tip),
            Message::Publication { handle, offset, .. } if is_told => {
                self.publication(told, handle.0, offset);
            }
            // Its slot is somebody else's, who is asked next.
            Message::Subnack { handle, .. } | Message::Unsuback { handle } if is_told => {
                self.subscriptions.remove(&(told, handle.0));
            }
            Message::Publish { namespace: DURABLE, ask, name, offset, slot, .. } => {
                self.published.insert(ask.0, (name.into(), offset, slot));
            }
            Message::Published { ask, accepted: true, seat_epoch, .. } if to == Role::Admin => {
                if let Some((name, offset, slot)) = self.published.get(&ask.0) {
                    let accepted =
                        Accepted { moment: self.moment, slot: *slot, by: owner, seat_epoch };
                    self.accepted.entry((name.clone(), *offset)).or_default().push(accepted);
                } else {
                    self.broken(format!("I2: an owner accepts {ask:?}, which it was not given"));
                }
            }
            _ => {}
        }
    }

    /// I3: an owner answers a subscriber, by the ring that it knows now. What is wrong, unless it holds the rest behind a hole.
    pub(crate) fn answers(&self, owner: Peer, to: Peer, handle: u32, tip: u64) -> Option<String> {
        let way = Way { subscriber: spot(to), provider: spot(owner), role: owner.role };
        let subscription =
            self.subscriptions.get(&(way, handle)).filter(|one| !one.is_superseded)?;
        let (offset, epoch) = self.finalised.get(&subscription.name)?;
        (tip < *offset && self.epoch_of(way.provider) >= *epoch).then(|| {
            format!(
                "I3: the owner at {:?} answers {} with {tip}, and {offset} left the outbox under ring {epoch}",
                way.provider, subscription.name
            )
        })
    }

    fn suback(&mut self, way: Way, handle: u32, tip: u64) {
        let Some(subscription) = self.subscriptions.get_mut(&(way, handle)) else {
            return self.broken(format!("I13: {way:?} acknowledges handle {handle} to nobody"));
        };
        subscription.next = Some(tip + 1);
        let opened = subscription.opened;
        let is_durable = is_durable(&subscription.name);
        if way.role == Role::Channel && is_durable && opened.is_none_or(|opened| tip < opened) {
            let name = subscription.name.clone();
            self.broken(format!(
                "I14: the owner at {:?} opens {name} at {tip}, and it had {opened:?} before that was asked",
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

    /// A shard is told that its link to another is lost, or new: what it was told on the last life is void.
    pub(crate) fn link_changed(&mut self, here: Peer, other: Peer, is_up: bool) {
        if here.role == Role::Gateway {
            let gone = Way { subscriber: spot(here), provider: spot(other), role: other.role };
            self.subscriptions.retain(|(way, _), _| *way != gone);
            if is_up {
                self.links.insert(gone);
            } else {
                self.links.remove(&gone);
            }
        }
    }

    /// A process ended: what its shards said and were told is void. `is_desk`: the dispatcher was there.
    pub(crate) fn ended(&mut self, node: u16, is_desk: bool) {
        // Who subscribed there may hear what was on its way before it is told.
        self.subscriptions.retain(|(way, _), _| way.subscriber.0 != node);
        self.links.retain(|way| way.subscriber.0 != node);
        self.opened.retain(|(spot, _), _| spot.0 != node);
        self.epochs.retain(|spot, _| spot.0 != node);
        if is_desk {
            self.published.clear();
            self.accepted.clear();
            self.ring_reads.clear();
            self.proofs.clear();
        }
    }

    /// The dispatcher asks its driver for something.
    pub(crate) fn asked(&mut self, database: &Database, question: &Message<'_>) {
        self.moment += 1;
        match question {
            Message::RingRead { ask } => {
                let read = RingRead { began: self.moment, ring: None };
                self.ring_reads.insert(ask.0, read);
            }
            Message::OutboxRemove { ids, .. } => {
                for id in ids.iter::<u64>() {
                    let Some(what) = database.outbox.get(&id) else { continue };
                    let accepted = self.accepted.get(what).map_or(&[][..], Vec::as_slice);
                    let proof = accepted.iter().find_map(|accepted| {
                        let proves = |read: &&RingRead| {
                            read.began > accepted.moment
                                && read.ring.as_ref().is_some_and(|ring| {
                                    ring.channel_shard(accepted.slot) == accepted.by
                                        && ring.channel_owner(accepted.slot).2
                                            == accepted.seat_epoch
                                })
                        };
                        self.proofs.iter().rev().find(proves)
                    });
                    let Some(proof) = proof else {
                        let what = format!(
                            "I2: {what:?} leaves the outbox: {accepted:?}, reads of the ring began at {:?}",
                            self.proofs.iter().map(|read| read.began).collect::<Vec<_>>()
                        );
                        return self.broken(what);
                    };
                    let epoch = proof.ring.as_ref().map_or(0, |ring| ring.ring_epoch);
                    let (name, offset) = what;
                    let known = self.finalised.entry(name.clone()).or_default();
                    if *offset > known.0 {
                        *known = (*offset, epoch);
                    }
                }
            }
            _ => {}
        }
    }

    /// The store is read for the dispatcher.
    pub(crate) fn ring_read(&mut self, ask: u32, ring: &Rc<Ring>) {
        if let Some(read) = self.ring_reads.get_mut(&ask) {
            read.ring = Some(Rc::clone(ring));
        }
    }

    /// The dispatcher is told what was read.
    pub(crate) fn ring_is(&mut self, ask: u32) {
        if let Some(read) = self.ring_reads.remove(&ask) {
            self.proofs.push_back(read);
            if self.proofs.len() > PROOFS {
                self.proofs.pop_front();
            }
        }
    }

    /// I5: a place is told a ring.
    pub(crate) fn ring_told(&mut self, here: Spot, epoch: u64) {
        let known = self.epochs.insert(here, epoch);
        if known.is_some_and(|known| known >= epoch) {
            self.broken(format!("I5: {here:?} has ring {known:?} and is told {epoch}"));
        }
    }

    /// The newest ring that a place was told.
    pub(crate) fn epoch_of(&self, here: Spot) -> u64 {
        self.epochs.get(&here).copied().unwrap_or(0)
    }

    /// I15, I22: at the end, everybody who subscribed stands at the channel's tip.
    pub(crate) fn behind(&self, database: &Database) -> Option<Violation> {
        let mut standing = self.subscriptions.iter();
        let (key, subscription) = standing.find(|(_, subscription)| {
            is_durable(&subscription.name)
                && !subscription.is_superseded
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
