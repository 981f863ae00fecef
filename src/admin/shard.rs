//! The dispatcher of a node: committed rows to their owners, and out of the outbox again.
//!
//! Nothing here is ever the only copy: a row that is forgotten, passed over or lost on its way is still in the table, and the sweep finds
//! it. A row that is sent twice is harmless: its owner knows offsets.

use rustc_hash::FxHashMap;

use super::dispatch::{Owner, Row, Rows};
use super::finalise::{Acknowledged, Finalise, Judged};
use super::sweep::{Offered, Read, Sweep};
use crate::ids::{Ask, NodeId, Role, Seat, Slot};
use crate::limits::Limits;
use crate::ring::{Ring, Secret, slot_of};
use crate::shard::{Budget, Counter, Effects, Input, Report, Shard};
use crate::time::{Mono, Now, sooner};
use crate::wire::{Message, Packed, Terms};

/// The dispatcher. One for a node's control plane.
#[derive(Debug)]
pub struct Admin {
    secret: Secret,
    limits: Limits,
    ring: Option<Ring>,
    rows: Rows,
    finalise: Finalise,
    sweep: Sweep,
    /// Rows that are being removed from the table, by question, and when that is given up.
    removals: FxHashMap<u32, (Mono, Vec<u64>)>,
    asks: u32,
}

/// Rows of one removal.
const REMOVAL_ROWS: usize = 1_024;

impl Admin {
    /// Neither node nor seed matter yet: there is one dispatcher a node, and nothing here is random.
    pub fn new(_node: NodeId, secret: Secret, _seed: u64, limits: &Limits) -> Self {
        Self {
            secret,
            limits: limits.clone(),
            ring: None,
            rows: Rows::new(limits),
            finalise: Finalise::default(),
            sweep: Sweep::new(),
            removals: FxHashMap::default(),
            asks: 0,
        }
    }

    /// Whether every row that this node knows of has left the outbox.
    pub fn is_idle(&self) -> bool {
        self.rows.len() == 0
    }

    /// A row, from its commit or from the table. Owners wait for what is committed: rows that they have make room for it, which only wait
    /// until the ring can be read again, however long that is.
    fn offered(&mut self, message: &Message<'_>, is_fresh: bool) {
        let Some((id, row)) = Row::of(message, slot_of) else { return };
        let what = if self.rows.contains(id) {
            Offered::Known
        } else {
            while is_fresh
                && !self.rows.has_room()
                && let Some(held) = self.finalise.forget()
            {
                self.rows.remove(held);
            }
            let owner = self.ring.as_ref().map(|ring| owner(ring, row.slot));
            if self.rows.insert(id, row, owner) { Offered::Taken } else { Offered::NoRoom }
        };
        self.sweep.offered(id, what);
    }

    /// Sends what owners take now.
    fn pump(&mut self, now: Now, out: &mut Effects) {
        let Some(ring) = &self.ring else { return };
        while let Some((peer, id)) = self.rows.next() {
            let slot = self.rows.row(id).slot;
            let owner = owner(ring, slot);
            assert!(owner.peer == peer, "rows are in the lane of their owner");
            let (ask, is_again) = self.rows.sent(now.mono, id, owner);
            let (_, _, seat_epoch) = ring.channel_owner(slot);
            out.count(if is_again {
                Counter::OutboxRedispatched
            } else {
                Counter::OutboxDispatched
            });
            let row = self.rows.row(id);
            out.send(
                peer,
                &Message::Publish {
                    slot,
                    seat_epoch,
                    key: self.secret.key_of(&row.name),
                    ask,
                    namespace: row.namespace,
                    offset: row.offset,
                    origin: row.origin,
                    member: row.member(),
                    terms: Terms::default(),
                    name: &row.name,
                    payload: &row.payload,
                },
            );
        }
    }

    fn published(&mut self, now: Now, ask: Ask, accepted: bool, seat_epoch: u32) {
        if !accepted {
            return self.rows.refused(now.mono, ask);
        }
        if let Some((id, slot, seat)) = self.rows.acknowledged(ask) {
            self.finalise.add(Acknowledged { id, slot, seat, seat_epoch });
        }
    }

    fn ring_is(&mut self, now: Now, ask: Ask, read: RingRead<'_>, out: &mut Effects) {
        let epochs: FxHashMap<Seat, u32> =
            read.seats.iter::<(u16, u32)>().map(|(seat, epoch)| (Seat(seat), epoch)).collect();
        // The seats alone do not say whose a slot is: that needs the same ring here.
        let same = self.ring.as_ref().filter(|ring| ring.ring_epoch == read.ring_epoch);
        let seat_of = |slot: Slot| same.map(|ring| ring.channel_seat(slot));
        let Judged { gone, again } = self.finalise.judge(ask, &epochs, seat_of);
        for id in again {
            let owner = self.ring.as_ref().map(|ring| owner(ring, self.rows.row(id).slot));
            self.rows.again(id, owner);
        }
        for ids in gone.chunks(REMOVAL_ROWS) {
            let (ask, due) = self.ask(now);
            let mut list = Vec::with_capacity(ids.len() * 8);
            let ids_packed = Packed::pack(ids.iter().copied(), &mut list);
            out.ask(ask, &Message::OutboxRemove { ask, ids: ids_packed });
            self.removals.insert(ask.0, (due, ids.to_vec()));
        }
    }

    fn removed(&mut self, now: Now, ask: Ask, ok: bool, out: &mut Effects) {
        let Some((_, ids)) = self.removals.remove(&ask.0) else { return };
        // Not removed: let go all the same; the sweep finds them and their owners know them.
        for id in ids {
            self.rows.remove(id);
            if ok {
                out.count(Counter::OutboxFinalised);
            }
        }
        if self.rows.has_much_room() {
            self.sweep.has_room(now.mono);
        }
    }

    fn page_ended(&mut self, now: Now, ask: Ask, last: u64, more: bool, out: &mut Effects) {
        let next = self.ask(now);
        if let Some(read) = self.sweep.ended(now.mono, ask, last, more, next) {
            read_outbox(next.0, read, out);
        }
    }

    fn tick(&mut self, now: Now, out: &mut Effects) {
        let ring = self.ring.as_ref();
        self.rows.wake(now.mono, |slot| ring.map(|ring| owner(ring, slot)));
        let (ask, due) = self.ask(now);
        if self.finalise.begin(now.mono, ask, due) {
            out.ask(ask, &Message::RingRead { ask });
        }
        let (ask, due) = self.ask(now);
        if let Some(read) = self.sweep.begin(now.mono, ask, due) {
            read_outbox(ask, read, out);
        }
        let unanswered = |(due, _): &(Mono, Vec<u64>)| *due <= now.mono;
        let given_up: Vec<u32> = self
            .removals
            .iter()
            .filter(|(_, removal)| unanswered(removal))
            .map(|(ask, _)| *ask)
            .collect();
        for ask in given_up {
            self.removed(now, Ask(ask), false, out);
        }
    }

    /// A new question, and when it is given up.
    fn ask(&mut self, now: Now) -> (Ask, Mono) {
        self.asks = self.asks.wrapping_add(1);
        (Ask(self.asks), now.mono + self.limits.ask_timeout)
    }
}

/// What a read of the ring says.
struct RingRead<'a> {
    ring_epoch: u64,
    seats: Packed<'a>,
}

fn owner(ring: &Ring, slot: Slot) -> Owner {
    Owner { peer: ring.channel_shard(slot), seat: ring.channel_seat(slot) }
}

fn read_outbox(ask: Ask, Read { after, count_max }: Read, out: &mut Effects) {
    out.ask(ask, &Message::OutboxRead { ask, after, count_max });
}

impl Shard for Admin {
    fn handle(&mut self, now: Now, input: Input<'_>, out: &mut Effects) {
        match input {
            Input::Wire { message, .. } => match message {
                Message::Committed { .. } => self.offered(&message, true),
                Message::Published { ask, accepted, seat_epoch, .. } => {
                    self.published(now, ask, accepted, seat_epoch);
                }
                _ => out.count(Counter::WireBroken),
            },
            Input::Answer { ask, message } => match message {
                Message::Committed { .. } => self.offered(&message, false),
                Message::OutboxEnd { last, more, .. } => {
                    self.page_ended(now, ask, last, more, out);
                }
                Message::RingIs { ring_epoch, seats, .. } => {
                    self.ring_is(now, ask, RingRead { ring_epoch, seats }, out);
                }
                Message::Removed { ok, .. } => self.removed(now, ask, ok, out),
                _ => out.count(Counter::WireBroken),
            },
            Input::PeerUp { peer, .. } if peer.role == Role::Channel => {
                let ring = self.ring.as_ref();
                self.rows.lost(peer, |slot| ring.map(|ring| owner(ring, slot)));
                self.rows.up(peer);
            }
            Input::PeerLost { peer } if peer.role == Role::Channel => {
                let ring = self.ring.as_ref();
                self.rows.lost(peer, |slot| ring.map(|ring| owner(ring, slot)));
            }
            Input::Ring { ring } => {
                self.rows.place(|slot| owner(ring, slot));
                self.ring = Some(ring.clone());
            }
            Input::Tick => self.tick(now, out),
            _ => {}
        }
        self.pump(now, out);
    }

    fn advance(&mut self, _now: Now, _budget: Budget, _out: &mut Effects) -> bool {
        false
    }

    fn deadline(&self) -> Option<Mono> {
        let asked = sooner(self.finalise.deadline(), Some(self.sweep.deadline()));
        let removals = self.removals.values().map(|(due, _)| *due).min();
        sooner(self.rows.deadline(), sooner(asked, removals))
    }

    fn report(&self, into: &mut Report) {
        into.gauge("outbox_in_flight", self.rows.len() as f64);
        into.gauge("outbox_in_flight_bytes", self.rows.bytes() as f64);
        into.gauge("outbox_removals", self.removals.len() as f64);
    }
}
