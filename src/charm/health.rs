//! On every node: answers the beats of ring managers, tells them which nodes of the data plane it has lost, and takes the rings that they push.

use std::collections::{BTreeMap, BTreeSet};

use super::gather::Gather;
use super::pulse::Beats;
use crate::ids::{NodeId, Peer, Role};
use crate::limits::Limits;
use crate::shard::{Budget, Effects, Input, Report, Shard};
use crate::time::{Mono, Now, Wall};
use crate::wire::{Message, Packed};

/// One machine of the control plane.
#[derive(Debug)]
pub struct Health {
    beats: Beats,
    /// Managers with a link, and what each said last.
    managers: BTreeMap<Peer, Heard>,
    gather: Gather,
    /// When our ring came.
    ring_at: Wall,
    /// Nodes that own something and that we had a link to: how many shards of theirs are up.
    seen: BTreeMap<NodeId, u32>,
    /// Nodes of the ring: who left it is missed by nobody.
    nodes: BTreeSet<NodeId>,
}

/// Of one manager.
#[derive(Clone, Copy, Debug, Default)]
struct Heard {
    number: u32,
    ring_epoch: u64,
}

impl Health {
    pub fn new(limits: &Limits) -> Self {
        Self {
            beats: Beats::default(),
            managers: BTreeMap::new(),
            gather: Gather::new(limits.mail_bytes_max),
            ring_at: Wall::default(),
            seen: BTreeMap::new(),
            nodes: BTreeSet::new(),
        }
    }

    /// Nodes of the ring of which no shard can be reached any more.
    fn lost(&self) -> impl Iterator<Item = NodeId> {
        let gone = self.seen.iter().filter(|(_, up)| **up == 0).map(|(node, _)| *node);
        gone.filter(|node| self.nodes.contains(node))
    }

    fn beat(&mut self, now: Mono, out: &mut Effects) {
        if self.managers.is_empty() {
            return;
        }
        let Some(number) = self.beats.next(now) else { return };
        let mut list = Vec::new();
        let lost = Packed::pack(self.lost().map(|node| node.0), &mut list);
        let ring_epoch = self.gather.ring_epoch();
        for (&manager, heard) in &self.managers {
            let beat = Message::Beat { number, echo: heard.number, ring_epoch, lost };
            out.send_transient(manager, &beat);
        }
    }

    /// Whether a manager has a newer ring than we.
    fn look(&mut self, now: Mono, out: &mut Effects) {
        let newest = self.managers.iter().max_by_key(|(_, heard)| heard.ring_epoch);
        self.gather.look(now, newest.map(|(peer, heard)| (*peer, heard.ring_epoch)), out);
    }
}

impl Shard for Health {
    fn handle(&mut self, now: Now, input: Input<'_>, out: &mut Effects) {
        match input {
            Input::PeerUp { peer, .. } if peer.role == Role::Ring => {
                self.managers.insert(peer, Heard::default());
            }
            Input::PeerLost { peer } if peer.role == Role::Ring => {
                self.managers.remove(&peer);
            }
            Input::PeerUp { peer, .. } if is_owner(peer) => {
                *self.seen.entry(peer.node).or_default() += 1;
            }
            Input::PeerLost { peer } if is_owner(peer) => {
                if let Some(up) = self.seen.get_mut(&peer.node) {
                    *up = up.saturating_sub(1);
                }
            }
            Input::Ring { ring } => {
                self.nodes = ring.seats.iter().map(|seat| seat.node).collect();
                self.gather.ring(ring.ring_epoch);
                self.ring_at = now.wall;
            }
            Input::Wire { peer, message: Message::Beat { number, ring_epoch, .. } } => {
                if let Some(heard) = self.managers.get_mut(&peer) {
                    *heard = Heard { number, ring_epoch };
                    self.look(now.mono, out);
                }
            }
            Input::Wire { peer, message: Message::RingNews { since, ring_epoch, news } }
                if self.managers.contains_key(&peer) =>
            {
                self.gather.news(now.mono, (peer, since, ring_epoch), news, out);
            }
            Input::Wire { peer, message: Message::RingPart { ring_epoch, at, all, part } }
                if self.managers.contains_key(&peer) =>
            {
                self.gather.part(now.mono, (peer, ring_epoch), (at, all), part, out);
            }
            _ => {}
        }
        self.beat(now.mono, out);
    }

    fn advance(&mut self, _now: Now, _budget: Budget, _out: &mut Effects) -> bool {
        false
    }

    fn deadline(&self) -> Option<Mono> {
        (!self.managers.is_empty()).then(|| self.beats.deadline())
    }

    fn report(&self, into: &mut Report) {
        into.gauge("health_nodes_lost", self.lost().count() as f64);
        into.gauge("health_managers", self.managers.len() as f64);
        into.gauge("ring_epoch", self.gather.ring_epoch() as f64);
        into.gauge("ring_taken_timestamp_seconds", self.ring_at.0 as f64 / 1e6);
    }
}

fn is_owner(peer: Peer) -> bool {
    matches!(peer.role, Role::Channel | Role::Presence) && peer.core != Peer::CONTROL_CORE
}
