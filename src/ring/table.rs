//! The ring as a value: which seat has a slot, which node has a seat, which core of the node has the slot.

use std::sync::Arc;

use super::assign::{Assign, MOVES};
use super::carries::Carries;
use super::drain::{Drain, Pace};
use crate::ids::{NodeId, Peer, Role, Seat, Slot};

/// One line of the seats document.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SeatRow {
    pub node: NodeId,
    /// Data cores of the node: the core of a slot is `slot % cores`.
    pub cores: u8,
    /// Grows by one with each change of the row.
    pub seat_epoch: u32,
}

/// Both rings of a cell (channels, users): one seats document, one ring epoch, two assign tables. Copies share the tables, 384 KiB.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ring {
    pub ring_epoch: u64,
    /// Nobody is to be replaced: an operator said so.
    pub frozen: bool,
    /// Regions whose gateways send their clients away.
    pub drains: Vec<Drain>,
    /// Nodes whose seats were given to others, and that are not back.
    pub replaced: Vec<NodeId>,
    /// When nodes were replaced last, also of those that are back: seconds since 1970.
    pub replaced_at: Vec<(NodeId, u64)>,
    /// Nodes that carry one table only, and which.
    pub apart: Vec<(NodeId, Carries)>,
    pub seats: Vec<SeatRow>,
    /// What each node fails together with, by a number; who is in no zone, or was replaced, is not in the list.
    pub(super) zones: Vec<(NodeId, u16)>,
    channels: Arc<[Seat]>,
    users: Arc<[Seat]>,
    /// How often a slot of each table moved.
    moves: [Arc<[u8]>; 2],
}

/// Seats of a node in a new ring: a dead node's seats spread over the survivors.
pub(super) const SEATS_PER_NODE: usize = 8;
/// Slots of the hash space.
pub(super) const SLOTS: usize = 65_536;

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
        let all: Vec<Seat> = (0..seats.len()).map(|seat| Seat(seat as u16)).collect();
        let even = Assign::even(&all);
        Self::of(1, false, seats, &even, &even)
    }

    /// A ring as a store has it, as far as slots are concerned. Every slot's seat is in `seats`.
    pub(super) fn of(
        ring_epoch: u64,
        frozen: bool,
        seats: Vec<SeatRow>,
        channels: &Assign,
        users: &Assign,
    ) -> Self {
        let moves = [channels.moves.clone(), users.moves.clone()];
        let (channels, users) = (channels.seats.clone(), users.seats.clone());
        Self {
            ring_epoch,
            frozen,
            drains: Vec::new(),
            replaced: Vec::new(),
            replaced_at: Vec::new(),
            apart: Vec::new(),
            seats,
            zones: Vec::new(),
            channels,
            users,
            moves,
        }
    }

    /// How fast a region is left, if it drains.
    pub fn drain_of(&self, region: &str) -> Option<Pace> {
        self.drains.iter().find(|drain| drain.region == region).map(|drain| drain.pace)
    }

    /// What nodes fail together with: of equal numbers, from 1 on, are those of one zone. Who is in none, or was replaced,
    /// is not told.
    pub fn zones(&self) -> impl Iterator<Item = (NodeId, u16)> {
        self.zones.iter().copied()
    }
    /// Who owns the channels of a slot: node, core, seat epoch.
    pub fn channel_owner(&self, slot: Slot) -> (NodeId, u8, u32) {
        self.owner(&self.channels, slot)
    }
    /// The shard that owns them.
    pub fn channel_shard(&self, slot: Slot) -> Peer {
        let (node, core, _) = self.channel_owner(slot);
        Peer::new(node, Role::Channel, core)
    }
    /// The seat that has a slot's channels.
    pub fn channel_seat(&self, slot: Slot) -> Seat {
        self.channels[usize::from(slot.0)]
    }
    /// Who keeps the presence of the users of a slot.
    pub fn user_owner(&self, slot: Slot) -> (NodeId, u8, u32) {
        self.owner(&self.users, slot)
    }
    /// The shard that does.
    pub fn presence_shard(&self, slot: Slot) -> Peer {
        let (node, core, _) = self.user_owner(slot);
        Peer::new(node, Role::Presence, core)
    }
    /// Whether a slot's channels have the owner that they had in another ring, and had no other in between.
    pub fn keeps_channels(&self, was: &Self, slot: Slot) -> bool {
        let seats = [&was.channels, &self.channels].map(|seats| seats[usize::from(slot.0)]);
        self.keeps(was, seats, self.moved(was, 0, slot))
    }
    /// The same of a slot's users.
    pub fn keeps_users(&self, was: &Self, slot: Slot) -> bool {
        let seats = [&was.users, &self.users].map(|seats| seats[usize::from(slot.0)]);
        self.keeps(was, seats, self.moved(was, 1, slot))
    }
    /// The slots, in order, whose channels have another owner than in `was`, or had one in between.
    pub fn moved_channels(&self, was: &Self) -> Vec<Slot> {
        self.moved_slots(was, 0, [&was.channels, &self.channels])
    }
    /// The same of users.
    pub fn moved_users(&self, was: &Self) -> Vec<Slot> {
        self.moved_slots(was, 1, [&was.users, &self.users])
    }
    fn moved_slots(&self, was: &Self, table: usize, [before, now]: [&Arc<[Seat]>; 2]) -> Vec<Slot> {
        let seats = self.seats.iter().enumerate();
        let stays: Vec<bool> = seats.map(|(at, row)| was.seats.get(at) == Some(row)).collect();
        let (then, since) = (&was.moves[table], &self.moves[table]);
        // Copies of one ring share their tables.
        if Arc::ptr_eq(before, now) && Arc::ptr_eq(then, since) && !stays.contains(&false) {
            return Vec::new();
        }
        // What did not move keeps its owner with its seat.
        let mut moved = Vec::new();
        for (slot, (to, counts)) in now.iter().zip(then.iter().zip(&**since)).enumerate() {
            let slot = Slot(slot as u16);
            let is_kept = stays[usize::from(to.0)]
                && (counts.0 == counts.1 || {
                    let from = before[usize::from(slot.0)];
                    self.keeps(was, [from, *to], self.moved(was, table, slot))
                });
            if !is_kept {
                moved.push(slot);
            }
        }
        moved
    }
    /// How often a slot moved since.
    fn moved(&self, was: &Self, table: usize, slot: Slot) -> u8 {
        let at = usize::from(slot.0);
        (self.moves[table][at] + MOVES - was.moves[table][at]) % MOVES
    }
    /// A slot that did not move keeps its owner with its seat; one that moved once does when both seats were that owner's all the time.
    fn keeps(&self, was: &Self, [from, to]: [Seat; 2], moved: u8) -> bool {
        let row = |ring: &Self, seat: Seat| ring.seats.get(usize::from(seat.0)).copied();
        let stays = |seat: Seat| row(was, seat) == row(self, seat);
        let node = |seat: Seat| row(self, seat).map(|row| row.node);
        stays(to) && (moved == 0 || moved == 1 && stays(from) && node(from) == node(to))
    }
    fn owner(&self, assign: &[Seat], slot: Slot) -> (NodeId, u8, u32) {
        let row = self.seats[usize::from(assign[usize::from(slot.0)].0)];
        (row.node, (slot.0 % u16::from(row.cores)) as u8, row.seat_epoch)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// How many of each number there are: the fewest and the most, of `count` kinds.
    fn spread(kinds: impl Iterator<Item = usize>, count: usize) -> (u32, u32) {
        let mut tally = vec![0u32; count];
        for kind in kinds {
            tally[kind] += 1;
        }
        let min = tally.iter().min().copied().unwrap_or(0);
        (min, tally.iter().max().copied().unwrap_or(0))
    }

    fn nodes() -> impl Strategy<Value = Vec<(NodeId, u8)>> {
        proptest::collection::vec(1u8..=128, 1..40).prop_map(|cores| {
            cores.into_iter().enumerate().map(|(at, cores)| (NodeId(at as u16), cores)).collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_slot_has_one_seat_and_seats_are_even(nodes in nodes()) {
            let ring = Ring::new(&nodes);
            let seats = ring.seats.len();
            prop_assert_eq!(seats, nodes.len() * SEATS_PER_NODE);
            for assign in [&ring.channels, &ring.users] {
                prop_assert_eq!(assign.len(), SLOTS);
                let (min, max) = spread(assign.iter().map(|seat| usize::from(seat.0)), seats);
                prop_assert!(max <= min + 1, "{} to {} slots a seat", min, max);
            }
        }

        #[test]
        fn a_seat_is_even_over_the_cores_of_its_node(nodes in nodes()) {
            let ring = Ring::new(&nodes);
            for (at, row) in ring.seats.iter().enumerate() {
                let slots = (0..SLOTS).filter(|slot| usize::from(ring.channels[*slot].0) == at);
                let cores = usize::from(row.cores);
                let (min, max) = spread(slots.map(|slot| slot % cores), cores);
                prop_assert!(max <= min + 1, "{} to {} slots a core of seat {}", min, max, at);
            }
        }

        #[test]
        fn a_nodes_seats_are_even_over_nodes_and_owners_exist(nodes in nodes(), slot in any::<u16>()) {
            let ring = Ring::new(&nodes);
            for &(node, cores) in &nodes {
                let seats: Vec<_> = ring.seats.iter().filter(|row| row.node == node).collect();
                prop_assert_eq!(seats.len(), SEATS_PER_NODE);
                prop_assert!(seats.iter().all(|row| row.cores == cores && row.seat_epoch == 1));
            }
            for (node, core, seat_epoch) in
                [ring.channel_owner(Slot(slot)), ring.user_owner(Slot(slot))]
            {
                let cores = nodes[usize::from(node.0)].1;
                prop_assert_eq!(u16::from(core), slot % u16::from(cores));
                prop_assert_eq!(seat_epoch, 1);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Slots that went, or went and came back; seats that another process took.
        #[test]
        fn what_moved_is_what_is_not_kept(
            moves in proptest::collection::vec((any::<u16>(), 0u16..24, any::<bool>()), 0..40),
            taken in proptest::collection::vec(0usize..24, 0..3),
        ) {
            let was = Ring::new(&[(NodeId(0), 2), (NodeId(1), 1), (NodeId(2), 4)]);
            let mut is = was.clone();
            for (slot, to, is_channels) in moves {
                let at = usize::from(slot);
                let (table, seats) =
                    if is_channels { (0, &mut is.channels) } else { (1, &mut is.users) };
                Arc::make_mut(seats)[at] = Seat(to);
                let count = &mut Arc::make_mut(&mut is.moves[table])[at];
                *count = (*count + 1) % MOVES;
            }
            for seat in taken {
                is.seats[seat].seat_epoch += 1;
            }
            let slots = || (0..=u16::MAX).map(Slot);
            let channels: Vec<Slot> = slots().filter(|slot| !is.keeps_channels(&was, *slot)).collect();
            let users: Vec<Slot> = slots().filter(|slot| !is.keeps_users(&was, *slot)).collect();
            prop_assert_eq!(is.moved_channels(&was), channels);
            prop_assert_eq!(is.moved_users(&was), users);
        }
    }

    #[test]
    fn one_node_owns_everything_on_the_core_that_the_slot_names() {
        let ring = Ring::new(&[(NodeId(0), 4)]);
        for slot in [0, 1, 2, 3, 4, 0x81c9, u16::MAX] {
            assert_eq!(ring.channel_owner(Slot(slot)), (NodeId(0), (slot % 4) as u8, 1));
        }
    }

    #[test]
    fn the_same_nodes_give_the_same_ring() {
        let nodes = [(NodeId(3), 2), (NodeId(1), 8)];
        assert_eq!(Ring::new(&nodes), Ring::new(&nodes));
    }
}
