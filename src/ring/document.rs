//! The seats document: who is in a cell's ring, who holds which seat, and under which epochs. JSON, about 250 bytes a node.
//!
//! Epochs live in the value and only grow; a store's own index may go back after a restore and is never an epoch (`reliability.md` 2.2).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::assign::{Assign, Kind};
use super::carries::Carries;
use super::drain::{self, Drain};
use super::placement::HASH_NAME;
use super::table::{Ring, SeatRow};
use crate::ids::{NodeId, Seat};
use crate::limits::{RING_NODES_MAX, RING_SEATS_MAX};

/// Of a ring whose nodes all carry both tables. A node that finds a newer one than it knows keeps the ring that it has.
pub const FORMAT: u16 = 1;
/// Of a ring with a node that carries only one: a version that does not know of that would give it slots of the other, and is kept from it.
pub const FORMAT_APART: u16 = 2;

/// One node of the data plane.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeEntry {
    /// Never given to another node while a seat names it.
    pub id: u16,
    /// What operators call it.
    pub name: String,
    /// Drawn anew by each start of the process: who was replaced never owns again under this number.
    #[serde(with = "hex")]
    pub incarnation: u128,
    /// Where its links are answered: `host:port`.
    pub address: String,
    /// Data cores: the core of a slot is `slot % cores`.
    pub cores: u8,
    /// Against the other nodes' weights. 0: it is being emptied.
    pub weight: u32,
    /// What fails together: a rack, a hall. May be empty.
    #[serde(default)]
    pub zone: String,
    /// Which tables its seats have slots of.
    #[serde(default, skip_serializing_if = "Carries::is_both")]
    pub carries: Carries,
    /// Its seats were given to others: this incarnation owns nothing again (I10). The next one stands by.
    #[serde(default, skip_serializing_if = "is_false")]
    pub replaced: bool,
    /// When its seats were given to others last, in seconds since 1970 by the clock of whoever wrote that; it stays when the node comes back. 0:
    /// never, or nobody said.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub replaced_at: u64,
}

impl NodeEntry {
    /// A node of the usual weight, of which no process was seen yet; its number is given when it comes into a ring.
    pub fn new(name: &str, address: &str, cores: u8) -> Self {
        Self {
            id: 0,
            name: name.into(),
            incarnation: 0,
            address: address.into(),
            cores,
            weight: 100,
            zone: String::new(),
            carries: Carries::Both,
            replaced: false,
            replaced_at: 0,
        }
    }
}

/// One seat. Its number is its place in the list, for ever.
///
/// In JSON `[node, seat_epoch]`: there are eight a node, and a write of Consul's takes 512 KB.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(from = "(Option<u16>, u32)", into = "(Option<u16>, u32)")]
pub struct SeatEntry {
    /// Who holds it. `null`: it is retired, has no slots, and may be used again.
    pub node: Option<u16>,
    /// Grows by one whenever another process holds it.
    pub seat_epoch: u32,
}

impl From<(Option<u16>, u32)> for SeatEntry {
    fn from((node, seat_epoch): (Option<u16>, u32)) -> Self {
        Self { node, seat_epoch }
    }
}

impl From<SeatEntry> for (Option<u16>, u32) {
    fn from(seat: SeatEntry) -> Self {
        (seat.node, seat.seat_epoch)
    }
}

/// All of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Document {
    pub format: u16,
    pub cell: String,
    /// Grows by one with each write of this document.
    pub ring_epoch: u64,
    /// Which tables belong to it.
    pub channels_version: u64,
    pub users_version: u64,
    /// The placement hash: who does not know it does not start (I9).
    pub hash: String,
    /// An operator's brake: nobody is replaced. Who comes back takes its own seats all the same.
    #[serde(default, skip_serializing_if = "is_false")]
    pub frozen: bool,
    /// Regions whose gateways send their clients away. Not in documents of before there were any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drains: Vec<Drain>,
    pub nodes: Vec<NodeEntry>,
    pub seats: Vec<SeatEntry>,
}

/// Why a document cannot be used: a sentence.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unusable(pub String);

impl std::fmt::Display for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Document {
    /// From the store's bytes, checked by itself.
    ///
    /// # Errors
    /// It is no JSON of this shape, of another format or hash, or names nodes and seats that are not there.
    pub fn decode(bytes: &[u8]) -> Result<Self, Unusable> {
        let document: Self = serde_json::from_slice(bytes)
            .map_err(|error| Unusable(format!("the seats document is no ring: {error}")))?;
        document.check()?;
        Ok(document)
    }

    /// For the store.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain data")
    }

    /// # Errors
    /// See `decode`.
    pub fn check(&self) -> Result<(), Unusable> {
        let refuse = |why: String| Err(Unusable(why));
        if self.format != FORMAT && self.format != FORMAT_APART {
            return refuse(format!(
                "the ring has format {}, and we know {FORMAT} and {FORMAT_APART}",
                self.format
            ));
        }
        if self.format < self.format_of_nodes() {
            return refuse(format!("a ring of format {} has nodes of one table", self.format));
        }
        if self.hash != HASH_NAME {
            return refuse(format!(
                "the ring is hashed by {}, and we hash by {HASH_NAME}",
                self.hash
            ));
        }
        if self.nodes.len() > RING_NODES_MAX || self.seats.len() > RING_SEATS_MAX {
            return refuse(format!(
                "{} nodes and {} seats are more than {RING_NODES_MAX} and {RING_SEATS_MAX}",
                self.nodes.len(),
                self.seats.len()
            ));
        }
        if let Some(why) = drain::fault(&self.drains) {
            return refuse(why);
        }
        let (mut ids, mut names) = (BTreeSet::new(), BTreeSet::new());
        for node in &self.nodes {
            if node.cores == 0 {
                return refuse(format!("node {} has no cores", node.name));
            }
            if !ids.insert(node.id) || !names.insert(&node.name) {
                return refuse(format!("node {} ({}) is in the ring twice", node.name, node.id));
            }
        }
        let is_nobodys = |seat: &SeatEntry| seat.node.is_some_and(|id| !ids.contains(&id));
        if let Some(at) = self.seats.iter().position(is_nobodys) {
            return refuse(format!("seat {at} is held by a node that is not in the ring"));
        }
        Ok(())
    }

    /// The same after nodes came, went or changed, which decide on the format.
    pub(super) fn complete(&mut self) -> Result<(), Unusable> {
        self.set_format();
        self.check()
    }

    pub(super) fn set_format(&mut self) {
        self.format = self.format_of_nodes();
    }

    fn format_of_nodes(&self) -> u16 {
        if self.nodes.iter().all(|node| node.carries.is_both()) { FORMAT } else { FORMAT_APART }
    }

    pub fn node(&self, id: NodeId) -> Option<&NodeEntry> {
        self.nodes.iter().find(|node| node.id == id.0)
    }

    pub fn named(&self, name: &str) -> Option<&NodeEntry> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// Seats that a node holds.
    pub fn seats_of(&self, id: u16) -> impl Iterator<Item = usize> {
        let seats = self.seats.iter().enumerate();
        seats.filter(move |(_, seat)| seat.node == Some(id)).map(|(at, _)| at)
    }

    /// By seat: what its node carries. `None`: it is nobody's.
    pub(super) fn carries(&self) -> Vec<Option<Carries>> {
        let nodes: BTreeMap<u16, Carries> =
            self.nodes.iter().map(|node| (node.id, node.carries)).collect();
        let of = |seat: &SeatEntry| seat.node.and_then(|id| nodes.get(&id).copied());
        self.seats.iter().map(of).collect()
    }

    /// Zones by number, from 1 in the order of their names; of nodes that were not replaced.
    fn zones(&self) -> Vec<(NodeId, u16)> {
        let zoned = self.nodes.iter().filter(|node| !node.zone.is_empty() && !node.replaced);
        let names: BTreeSet<&str> = zoned.clone().map(|node| node.zone.as_str()).collect();
        let number: BTreeMap<&str, u16> = names.into_iter().zip(1..).collect();
        zoned.map(|node| (NodeId(node.id), number[node.zone.as_str()])).collect()
    }

    /// Which version of a table belongs to it.
    pub fn version_of(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Channels => self.channels_version,
            Kind::Users => self.users_version,
        }
    }

    /// The ring as shards see it.
    ///
    /// # Errors
    /// A table is of another version, or gives a slot to a seat that nobody holds, or whose node does not carry the table.
    pub fn ring(&self, channels: &Assign, users: &Assign) -> Result<Ring, Unusable> {
        let carries = self.carries();
        for (kind, assign) in [(Kind::Channels, channels), (Kind::Users, users)] {
            let (wanted, what) = (self.version_of(kind), kind.as_str());
            if assign.version != wanted {
                return Err(Unusable(format!(
                    "the ring wants version {wanted} of the table of {what}, and this is {}",
                    assign.version
                )));
            }
            let carried = |seat: Seat| carries.get(usize::from(seat.0)).copied().flatten();
            let is_wrong = |seat: &&Seat| !carried(**seat).is_some_and(|carries| carries.has(kind));
            if let Some(seat) = assign.seats.iter().find(is_wrong) {
                let why = match carried(*seat) {
                    None => "which nobody holds",
                    Some(_) => "whose node does not carry it",
                };
                return Err(Unusable(format!("the table of {what} names seat {}, {why}", seat.0)));
            }
        }
        let nodes: BTreeMap<u16, &NodeEntry> =
            self.nodes.iter().map(|node| (node.id, node)).collect();
        let rows = self.seats.iter().map(|seat| {
            let node = seat.node.and_then(|id| nodes.get(&id));
            SeatRow {
                node: NodeId(node.map_or(u16::MAX, |node| node.id)),
                cores: node.map_or(1, |node| node.cores),
                seat_epoch: seat.seat_epoch,
            }
        });
        let replaced = self.nodes.iter().filter(|node| node.replaced);
        let mut ring = Ring::of(self.ring_epoch, self.frozen, rows.collect(), channels, users);
        ring.drains.clone_from(&self.drains);
        ring.replaced = replaced.map(|node| NodeId(node.id)).collect();
        let once = self.nodes.iter().filter(|node| node.replaced_at != 0);
        ring.replaced_at = once.map(|node| (NodeId(node.id), node.replaced_at)).collect();
        ring.zones = self.zones();
        let apart = self.nodes.iter().filter(|node| !node.carries.is_both());
        ring.apart = apart.map(|node| (NodeId(node.id), node.carries)).collect();
        Ok(ring)
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's shape
fn is_false(flag: &bool) -> bool {
    !flag
}
#[allow(clippy::trivially_copy_pass_by_ref)] // serde's shape
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// 128 bits as 32 hexadecimal digits: JSON's numbers end at 53.
mod hex {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &u128, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{value:032x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u128, D::Error> {
        let text = String::deserialize(from)?;
        u128::from_str_radix(&text, 16).map_err(serde::de::Error::custom)
    }
}
