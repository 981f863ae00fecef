//! A ring as bytes: the whole of it, or only what is another since an older one, which is some hundred bytes where a node was replaced and two
//! tables are 328 KB.
//!
//! News make the same ring everywhere or none: a checksum of the outcome goes along. Pure; read from peers and from disks, so that nothing in it
//! is believed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::assign::{Assign, Kind, MOVES};
use super::change::Cell;
use super::document::{Document, NodeEntry, SeatEntry, Unusable};
use crate::ids::Seat;
use crate::limits::RING_SEATS_MAX;

/// What of the seats document is another.
#[derive(Serialize, Deserialize)]
struct Changes {
    /// All of it but nodes and seats.
    head: Document,
    /// Nodes that are new or changed, and numbers of those that left.
    nodes: Vec<NodeEntry>,
    gone: BTreeSet<u16>,
    seats: usize,
    /// Rows that are new or changed, by the number of the seat.
    rows: Vec<(u16, SeatEntry)>,
}

/// The length of the JSON stands before it, in bytes of this count; then come the slots that moved, of channels and of users; then the checksum.
const LEN_BYTES: usize = 4;
const SUM_BYTES: usize = 8;
/// A slot that moved: its number, its seat, its count of moves.
const MOVED_BYTES: usize = 5;

/// What makes `next` of `was`.
pub fn between(was: &Cell, next: &Cell) -> Vec<u8> {
    let (before, after) = (&was.document, &next.document);
    let known: BTreeMap<u16, &NodeEntry> =
        before.nodes.iter().map(|node| (node.id, node)).collect();
    let changed = after.nodes.iter().filter(|node| known.get(&node.id) != Some(node));
    let ids: BTreeSet<u16> = after.nodes.iter().map(|node| node.id).collect();
    let rows =
        after.seats.iter().enumerate().filter(|(at, row)| before.seats.get(*at) != Some(row));
    let changes = Changes {
        head: Document { nodes: Vec::new(), seats: Vec::new(), ..after.clone() },
        nodes: changed.cloned().collect(),
        gone: before.nodes.iter().map(|node| node.id).filter(|id| !ids.contains(id)).collect(),
        seats: after.seats.len(),
        rows: rows.map(|(at, row)| (at as u16, *row)).collect(),
    };
    let json = serde_json::to_vec(&changes).expect("plain data");
    let mut bytes = (json.len() as u32).to_le_bytes().to_vec();
    bytes.extend_from_slice(&json);
    for kind in Kind::ALL {
        let (was, next) = (was.table(kind), next.table(kind));
        let count_at = bytes.len();
        bytes.extend_from_slice(&[0; LEN_BYTES]);
        if was.version == next.version {
            continue;
        }
        let mut count = 0u32;
        for slot in 0..next.seats.len() {
            let (seat, moves) = (next.seats[slot], next.moves[slot]);
            if (was.seats[slot], was.moves[slot]) != (seat, moves) {
                bytes.extend_from_slice(&(slot as u16).to_le_bytes());
                bytes.extend_from_slice(&seat.0.to_le_bytes());
                bytes.push(moves);
                count += 1;
            }
        }
        bytes[count_at..count_at + LEN_BYTES].copy_from_slice(&count.to_le_bytes());
    }
    bytes.extend_from_slice(&sum(was, next).to_le_bytes());
    bytes
}

/// The ring that `between` made these bytes of.
///
/// # Errors
/// They are cut or changed, of another cell, not newer, or begin at a ring that is not `was`.
pub fn apply(was: &Cell, news: &[u8]) -> Result<Cell, Unusable> {
    let cut = || Unusable("the news of the ring are cut, or changed".into());
    let (body, wanted) = news.split_last_chunk::<SUM_BYTES>().ok_or_else(cut)?;
    let (len, rest) = body.split_first_chunk::<LEN_BYTES>().ok_or_else(cut)?;
    let (json, mut rest) =
        rest.split_at_checked(u32::from_le_bytes(*len) as usize).ok_or_else(cut)?;
    let changes: Changes = serde_json::from_slice(json).map_err(|_| cut())?;
    let document = changed(&was.document, changes)?;
    let mut next = Cell { document, channels: was.channels.clone(), users: was.users.clone() };
    for kind in Kind::ALL {
        let version = next.document.version_of(kind);
        let table = match kind {
            Kind::Channels => &mut next.channels,
            Kind::Users => &mut next.users,
        };
        table.version = version;
        let (count, more) = rest.split_first_chunk::<LEN_BYTES>().ok_or_else(cut)?;
        let count = u32::from_le_bytes(*count) as usize;
        let (moved, more) =
            more.split_at_checked(count.saturating_mul(MOVED_BYTES)).ok_or_else(cut)?;
        if !moved.is_empty() {
            // Else the tables go on being shared.
            let seats = Arc::make_mut(&mut table.seats);
            let moves_of = Arc::make_mut(&mut table.moves);
            for [slot_low, slot_high, seat_low, seat_high, moves] in
                moved.as_chunks::<MOVED_BYTES>().0
            {
                let slot = usize::from(u16::from_le_bytes([*slot_low, *slot_high]));
                seats[slot] = Seat(u16::from_le_bytes([*seat_low, *seat_high]));
                moves_of[slot] = *moves % MOVES;
            }
        }
        rest = more;
    }
    if !rest.is_empty() {
        return Err(cut());
    }
    if sum(was, &next).to_le_bytes() != *wanted {
        return Err(Unusable("the news of the ring are of another ring than ours".into()));
    }
    Ok(next)
}

/// The next document; everything else than its parts is in `head`.
fn changed(was: &Document, changes: Changes) -> Result<Document, Unusable> {
    let Changes { head, nodes, gone, seats, rows } = changes;
    if head.cell != was.cell || head.ring_epoch <= was.ring_epoch {
        return Err(Unusable(format!(
            "the news are of ring {} of cell {}, and we have {} of {}",
            head.ring_epoch, head.cell, was.ring_epoch, was.cell
        )));
    }
    if seats > RING_SEATS_MAX {
        return Err(Unusable(format!("a ring has at most {RING_SEATS_MAX} seats")));
    }
    let mut next = head;
    next.nodes = was.nodes.iter().filter(|node| !gone.contains(&node.id)).cloned().collect();
    for node in nodes {
        match next.nodes.iter_mut().find(|known| known.id == node.id) {
            Some(known) => *known = node,
            None => next.nodes.push(node),
        }
    }
    next.seats.clone_from(&was.seats);
    next.seats.resize(seats, SeatEntry { node: None, seat_epoch: 0 });
    for (at, row) in rows {
        let seat = next.seats.get_mut(usize::from(at));
        *seat.ok_or_else(|| Unusable(format!("the news name seat {at} of {seats}")))? = row;
    }
    next.check()?;
    Ok(next)
}

/// Of the document, and of the tables that are others than before.
fn sum(was: &Cell, next: &Cell) -> u64 {
    let mut bytes = next.document.encode();
    for kind in Kind::ALL {
        if was.table(kind).version != next.table(kind).version {
            bytes.extend_from_slice(&next.table(kind).encode(kind));
        }
    }
    xxhash_rust::xxh3::xxh3_64(&bytes)
}

/// All of a ring: the document with its length before it, both tables, the checksum.
pub fn whole(cell: &Cell) -> Vec<u8> {
    let document = cell.document.encode();
    let mut bytes = (document.len() as u32).to_le_bytes().to_vec();
    bytes.extend_from_slice(&document);
    for kind in Kind::ALL {
        bytes.extend_from_slice(&cell.table(kind).encode(kind));
    }
    let sum = xxhash_rust::xxh3::xxh3_64(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}

/// The ring that `whole` made these bytes of.
///
/// # Errors
/// They are cut or changed, or no ring.
pub fn read(bytes: &[u8]) -> Result<Cell, Unusable> {
    let cut = || Unusable("cut, or changed".into());
    let (body, sum) = bytes.split_last_chunk::<SUM_BYTES>().ok_or_else(cut)?;
    if xxhash_rust::xxh3::xxh3_64(body).to_le_bytes() != *sum {
        return Err(cut());
    }
    let (len, rest) = body.split_first_chunk::<LEN_BYTES>().ok_or_else(cut)?;
    let len = u32::from_le_bytes(*len) as usize;
    let (document, tables) = rest.split_at_checked(len).ok_or_else(cut)?;
    let (channels, users) = tables.split_at_checked(tables.len() / 2).ok_or_else(cut)?;
    let cell = Cell {
        document: Document::decode(document)?,
        channels: Assign::decode(channels, Kind::Channels)?,
        users: Assign::decode(users, Kind::Users)?,
    };
    cell.ring()?;
    Ok(cell)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::carries::Carries;
    use super::super::change::tests::{cell, node};
    use super::*;
    use crate::ids::Slot;

    /// Something that may happen to a ring.
    fn changed(cell: &Cell, what: u16) -> Option<Cell> {
        let name = |nth: u16| {
            cell.document.nodes[usize::from(nth) % cell.document.nodes.len()].name.clone()
        };
        let names: Vec<&str> = cell.document.nodes.iter().map(|node| node.name.as_str()).collect();
        let one = name(what / 8);
        match what % 8 {
            0 => cell.replace(&one, &names).ok(),
            1 => cell.weigh(&one, u32::from(what) % 3 * 50).ok(),
            2 | 3 => cell.step().map(|(next, _)| next),
            4 => {
                let all = [Carries::Both, Carries::Channels, Carries::Users];
                let carries = all[usize::from(what / 8 % 3)];
                cell.add(NodeEntry { carries, ..node(100 + what % 50, 2) }).ok()
            }
            5 => cell.move_slot(Kind::Users, Slot(what), Seat(what % 16)).ok(),
            6 => cell.freeze(!cell.document.frozen).ok(),
            _ => {
                let incarnation = u128::from(what) + 7;
                cell.come_back(NodeEntry { incarnation, ..NodeEntry::new(&one, "10.9.9.9:1", 3) })
                    .ok()
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn news_make_the_same_ring_of_the_ring_before_and_of_no_other(
            what in proptest::collection::vec(any::<u16>(), 2..12),
        ) {
            let first = cell(4);
            let mut rings = vec![first];
            for one in what {
                if let Some(next) = changed(rings.last().expect("one"), one) {
                    rings.push(next);
                }
            }
            let last = rings.last().expect("one").clone();
            for was in &rings[..rings.len() - 1] {
                let news = between(was, &last);
                let made = apply(was, &news);
                prop_assert_eq!(made.as_ref(), Ok(&last));
                prop_assert!(apply(&last, &news).is_err(), "it is not newer");
                for other in &rings[..rings.len() - 1] {
                    // What makes the same of it is as good.
                    let made = apply(other, &news);
                    prop_assert!(made.is_err() || made.as_ref() == Ok(&last));
                }
            }
            let read = read(&whole(&last));
            prop_assert_eq!(read.as_ref(), Ok(&last));
        }

        #[test]
        fn whatever_somebody_sends_is_refused_and_nothing_breaks(
            at in any::<proptest::sample::Index>(), bit in 0u8..8, cut in any::<proptest::sample::Index>(),
        ) {
            let was = cell(3);
            let next = was.replace("cs2", &["cs1", "cs3"]).expect("replaced");
            let next = next.move_slot(Kind::Channels, Slot(7), Seat(9)).expect("moved");
            let news = between(&was, &next);
            let mut broken = news.clone();
            broken[at.index(news.len())] ^= 1 << bit;
            // A letter of a word that means nothing where it stands is nothing lost.
            prop_assert!(apply(&was, &broken).is_ok_and(|made| made == next) || apply(&was, &broken).is_err());
            prop_assert!(apply(&was, &news[..cut.index(news.len())]).is_err());
        }
    }

    #[test]
    fn a_replacement_is_some_hundred_bytes_and_a_step_of_a_plan_five_a_slot() {
        let was = cell(40);
        let names: Vec<String> = was.document.nodes.iter().map(|node| node.name.clone()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let next = was.replace("cs3", &names).expect("replaced");
        let bytes = between(&was, &next).len();
        assert!(bytes < 800, "{bytes} bytes");
        let (after, plan) = next.weigh("cs5", 0).expect("drained").step().expect("a step");
        let bytes = between(&next, &after).len();
        assert!(bytes < 800 + 5 * plan.len(), "{bytes} bytes for {} slots", plan.len());
    }
}
