//! What is told of a ring: lines for people, or JSON with the same names.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::limits::RING_STEP_SLOTS_MAX;
use crate::ring::change::{Cell, Plan};

/// As the operator wants it.
pub(super) fn told<T: Serialize + fmt::Display>(json: bool, what: &T) -> String {
    if json {
        serde_json::to_string_pretty(what).expect("plain data")
    } else {
        what.to_string().trim_end().to_string()
    }
}

#[derive(Serialize)]
struct Node {
    name: String,
    id: u16,
    address: String,
    zone: String,
    /// In the words of `--roles`.
    roles: &'static str,
    cores: u8,
    weight: u32,
    /// Its seats were given to others, and it is not back.
    replaced: bool,
    seats: usize,
    channel_slots: usize,
    user_slots: usize,
}

/// A whole ring.
#[derive(Serialize)]
pub(super) struct Shown {
    cell: String,
    ring_epoch: u64,
    frozen: bool,
    seats: usize,
    retired_seats: usize,
    nodes: Vec<Node>,
}

impl Shown {
    pub(super) fn of(cell: &Cell) -> Self {
        let document = &cell.document;
        let slots = |seats: &[crate::ids::Seat], id: u16| {
            let held =
                seats.iter().filter(|seat| document.seats[usize::from(seat.0)].node == Some(id));
            held.count()
        };
        let nodes = document.nodes.iter().map(|node| Node {
            name: node.name.clone(),
            id: node.id,
            address: node.address.clone(),
            zone: node.zone.clone(),
            roles: node.carries.as_str(),
            cores: node.cores,
            weight: node.weight,
            replaced: node.replaced,
            seats: document.seats_of(node.id).count(),
            channel_slots: slots(&cell.channels.seats, node.id),
            user_slots: slots(&cell.users.seats, node.id),
        });
        Self {
            cell: document.cell.clone(),
            ring_epoch: document.ring_epoch,
            frozen: document.frozen,
            seats: document.seats.len(),
            retired_seats: document.seats.iter().filter(|seat| seat.node.is_none()).count(),
            nodes: nodes.collect(),
        }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cell, ring_epoch, frozen, seats, retired_seats, nodes } = self;
        let brake = if *frozen { ", FROZEN: nobody is replaced" } else { "" };
        writeln!(
            f,
            "cell {cell}, ring epoch {ring_epoch}, {seats} seats, {retired_seats} of them retired{brake}"
        )?;
        let row = |f: &mut fmt::Formatter<'_>, cells: [&str; 9]| {
            let [name, address, zone, roles, cores, weight, seats, channels, users] = cells;
            writeln!(
                f,
                "{name:<16} {address:<22} {zone:<8} {roles:<16} {cores:>5} {weight:>6} {seats:>5} {channels:>8} {users:>8}"
            )
        };
        row(
            f,
            ["node", "address", "zone", "roles", "cores", "weight", "seats", "channels", "users"],
        )?;
        for node in nodes {
            let numbers = [
                u64::from(node.cores),
                u64::from(node.weight),
                node.seats as u64,
                node.channel_slots as u64,
                node.user_slots as u64,
            ]
            .map(|number| number.to_string());
            let [cores, weight, seats, channels, users] = numbers.each_ref().map(String::as_str);
            // Who has no seats is told why.
            let seats = match (node.seats, node.replaced) {
                (0, true) => "out",
                (0, false) => "spare",
                _ => seats,
            };
            let Node { name, address, zone, roles, .. } = node;
            row(f, [name, address, zone, roles, cores, weight, seats, channels, users])?;
        }
        Ok(())
    }
}

#[derive(Serialize)]
struct Between {
    from: String,
    to: String,
    channel_slots: usize,
    user_slots: usize,
}

/// What will move.
#[derive(Serialize)]
pub(super) struct Planned {
    ring_epoch: u64,
    channel_slots: usize,
    user_slots: usize,
    writes: usize,
    between: Vec<Between>,
}

impl Planned {
    pub(super) fn of(cell: &Cell, plan: &Plan) -> Self {
        let document = &cell.document;
        let name = |seat: crate::ids::Seat| {
            let id = document.seats[usize::from(seat.0)].node;
            let node = document.nodes.iter().find(|node| Some(node.id) == id);
            node.map(|node| node.name.clone()).unwrap_or_default()
        };
        let mut between: BTreeMap<(String, String), (usize, usize)> = BTreeMap::new();
        for one in &plan.channels {
            between.entry((name(one.from), name(one.to))).or_default().0 += 1;
        }
        for one in &plan.users {
            between.entry((name(one.from), name(one.to))).or_default().1 += 1;
        }
        let between = between.into_iter().map(|((from, to), (channel_slots, user_slots))| {
            Between { from, to, channel_slots, user_slots }
        });
        let writes = |slots: usize| slots.div_ceil(RING_STEP_SLOTS_MAX);
        Self {
            ring_epoch: document.ring_epoch,
            channel_slots: plan.channels.len(),
            user_slots: plan.users.len(),
            writes: writes(plan.channels.len()) + writes(plan.users.len()),
            between: between.collect(),
        }
    }
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ring_epoch, channel_slots, user_slots, writes, between } = self;
        if between.is_empty() {
            return writeln!(f, "ring epoch {ring_epoch}: every seat has its share, nothing moves");
        }
        writeln!(
            f,
            "ring epoch {ring_epoch}: {channel_slots} slots of channels and {user_slots} of users to move, in {writes} writes"
        )?;
        for Between { from, to, channel_slots, user_slots } in between {
            writeln!(f, "{from:<16} -> {to:<16} {channel_slots:>8} {user_slots:>8}")?;
        }
        Ok(())
    }
}

/// What was moved.
#[derive(Default, Serialize)]
pub(super) struct Done {
    ring_epoch: u64,
    channel_slots: usize,
    user_slots: usize,
    pub(super) writes: u32,
}

impl Done {
    pub(super) fn add(&mut self, ring_epoch: u64, plan: &Plan) {
        self.ring_epoch = ring_epoch;
        self.channel_slots += plan.channels.len();
        self.user_slots += plan.users.len();
        self.writes += 1;
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ring_epoch, channel_slots, user_slots, writes } = self;
        if *writes == 0 {
            return writeln!(f, "nothing to move");
        }
        writeln!(
            f,
            "{channel_slots} slots of channels and {user_slots} of users moved in {writes} writes; ring epoch {ring_epoch}"
        )
    }
}
