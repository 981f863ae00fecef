//! On every node: answers the beats of ring managers, and tells them which nodes of the data plane it has lost.

use std::collections::{BTreeMap, BTreeSet};

use super::pulse::Beats;
use crate::ids::{NodeId, Peer, Role};
use crate::shard::{Budget, Effects, Input, Report, Shard};
use crate::time::{Mono, Now};
use crate::wire::{Message, Packed};

/// One machine of the control plane.
#[derive(Debug, Default)]
pub struct Health {
    beats: Beats,
    /// Managers with a link, and the last number heard of each.
    managers: BTreeMap<Peer, u32>,
    /// Nodes that own something and that we had a link to: how many shards of theirs are up.
    seen: BTreeMap<NodeId, u32>,
    /// Nodes of the ring: who left it is missed by nobody.
    nodes: BTreeSet<NodeId>,
}

impl Health {
    pub fn new() -> Self {
        Self::default()
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
        for (&manager, &echo) in &self.managers {
            out.send_transient(manager, &Message::Beat { number, echo, lost });
        }
    }
}

impl Shard for Health {
    fn handle(&mut self, now: Now, input: Input<'_>, out: &mut Effects) {
        match input {
            Input::PeerUp { peer, .. } if peer.role == Role::Ring => {
                self.managers.insert(peer, 0);
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
            }
            Input::Wire { peer, message: Message::Beat { number, .. } } => {
                if let Some(heard) = self.managers.get_mut(&peer) {
                    *heard = number;
                }
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
    }
}

fn is_owner(peer: Peer) -> bool {
    peer.role == Role::Channel && peer.core != Peer::CONTROL_CORE
}
