//! The ring as a value: which seat has a slot, which node has a seat, which core of the node has the slot.

use crate::ids::{NodeId, Seat, Slot};

/// One line of the seats document.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SeatRow {
    pub node: NodeId,
    /// Data cores of the node: the core of a slot is `slot % cores`.
    pub cores: u8,
    /// Grows by one with each change of the row.
    pub seat_epoch: u32,
}

/// Both rings of a cell (channels, users): one seats document, one ring epoch, two assign tables.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ring {
    pub ring_epoch: u64,
    pub seats: Vec<SeatRow>,
    channels: Box<[Seat]>,
    users: Box<[Seat]>,
}

/// Seats of a node in a new ring: a dead node's seats spread over the survivors.
const SEATS_PER_NODE: u16 = 8;
/// Slots of the hash space.
const SLOTS: usize = 65_536;

impl Ring {
    /// A new ring over `nodes` (each with its data cores), slots dealt round over the seats.
    ///
    /// Runs of `SLOTS / seats` keep slots even within `slot % cores` too.
    pub fn new(nodes: &[(NodeId, u8)]) -> Self {
        assert!(
            !nodes.is_empty() && nodes.iter().all(|(_, cores)| *cores > 0),
            "a ring needs cores"
        );
        let seats: Vec<SeatRow> = (0..SEATS_PER_NODE)
            .flat_map(|_| nodes.iter())
            .map(|&(node, cores)| SeatRow { node, cores, seat_epoch: 1 })
            .collect();
        let count = seats.len();
        let deal: Box<[Seat]> =
            (0..SLOTS).map(|slot| Seat((slot * count / SLOTS) as u16)).collect();
        Self { ring_epoch: 1, seats, channels: deal.clone(), users: deal }
    }

    /// Who owns the channels of a slot: node, core, seat epoch.
    pub fn channel_owner(&self, slot: Slot) -> (NodeId, u8, u32) {
        self.owner(&self.channels, slot)
    }
    /// Who keeps the presence of the users of a slot.
    pub fn user_owner(&self, slot: Slot) -> (NodeId, u8, u32) {
        self.owner(&self.users, slot)
    }
    fn owner(&self, assign: &[Seat], slot: Slot) -> (NodeId, u8, u32) {
        let row = self.seats[usize::from(assign[usize::from(slot.0)].0)];
        (row.node, (slot.0 % u16::from(row.cores)) as u8, row.seat_epoch)
    }
}
