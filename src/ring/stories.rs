//! Rings whose nodes carry channels, users or both: whatever happens to them, each slot is with somebody who carries its table.

use proptest::prelude::*;

use super::assign::Kind;
use super::carries::Carries;
use super::change::Cell;
use super::change::tests::{cell, node};
use super::document::{Document, FORMAT, FORMAT_APART, NodeEntry};
use crate::ids::{NodeId, Seat, Slot};

const ALL: [Carries; 3] = [Carries::Both, Carries::Channels, Carries::Users];

fn one(id: u16, carries: Carries) -> NodeEntry {
    NodeEntry { carries, ..node(id, 2) }
}

/// cs1 is a channel server, cs2 a presence server.
fn apart() -> Cell {
    Cell::new("one", vec![one(1, Carries::Channels), one(2, Carries::Users)]).expect("a ring")
}

/// How many slots of each table a node has.
fn slots(cell: &Cell, name: &str) -> [usize; 2] {
    let id = cell.document.named(name).map(|node| node.id).expect("in the ring");
    Kind::ALL.map(|kind| {
        let node = |seat: &&Seat| cell.document.seats[usize::from(seat.0)].node;
        cell.table(kind).seats.iter().filter(|seat| node(seat) == Some(id)).count()
    })
}

fn settled(mut cell: Cell) -> Cell {
    while let Some((next, _)) = cell.step() {
        cell = next;
    }
    cell
}

/// What is true of every ring.
fn check(cell: &Cell) {
    let ring = cell.ring().expect("every slot has a seat of somebody who carries it");
    assert_eq!(Document::decode(&cell.document.encode()).as_ref(), Ok(&cell.document));
    let of = |id: NodeId| cell.document.node(id).expect("in the ring").carries;
    for slot in (0..=u16::MAX).map(Slot) {
        assert!(of(ring.channel_owner(slot).0).has(Kind::Channels));
        assert!(of(ring.user_owner(slot).0).has(Kind::Users));
    }
    let is_apart = cell.document.nodes.iter().any(|node| node.carries != Carries::Both);
    assert_eq!(cell.document.format, if is_apart { FORMAT_APART } else { FORMAT });
    assert_eq!(ring.apart.is_empty(), !is_apart);
}

/// Each seat has its share of each table: rounded down or up.
fn check_shares(cell: &Cell) {
    for kind in Kind::ALL {
        // Who comes back with less may be the last whose weight counted: then slots stay where they are.
        if !cell.is_carried(kind) {
            continue;
        }
        let shares = cell.shares(kind);
        let all: u64 = shares.iter().map(|share| share.weight).sum();
        let mut held = vec![0; shares.len()];
        for seat in &*cell.table(kind).seats {
            held[usize::from(seat.0)] += 1;
        }
        for (share, held) in shares.iter().zip(held) {
            let part = u128::from(share.weight) << 16;
            let (low, high) = (part / u128::from(all), part.div_ceil(u128::from(all)));
            assert!((low..=high).contains(&held), "{held} of {low} to {high} {}", kind.as_str());
        }
    }
}

/// Something that may happen to a ring.
fn happen(cell: &Cell, what: u8, which: u16, carries: Carries) -> Option<Cell> {
    let nodes = &cell.document.nodes;
    let known = &nodes[usize::from(which) % nodes.len()];
    let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
    match what % 8 {
        0 => cell.weigh(&known.name, u32::from(which) % 3 * 50).ok(),
        1 | 2 => replaced(cell, &known.name, &names),
        3 => cell.stand_by(one(20 + which % 5, carries)).ok(),
        4 => cell.add(one(20 + which % 5, carries)).ok(),
        5 => {
            let incarnation = known.incarnation + 1;
            cell.join(NodeEntry { incarnation, carries, ..known.clone() }).ok()
        }
        6 => {
            let kind = Kind::ALL[usize::from(which) % 2];
            cell.move_slot(kind, Slot(which), Seat(which % 16)).ok()
        }
        _ => cell.step().map(|(next, _)| next),
    }
}

/// A node is replaced unless one of its seats has slots that nobody else may take; no slot moves, and all its seats go.
fn replaced(cell: &Cell, name: &str, live: &[&str]) -> Option<Cell> {
    let document = &cell.document;
    let dead = document.named(name).expect("known");
    let is_able = |node: &&NodeEntry| node.id != dead.id && node.weight > 0 && !node.replaced;
    let able: Vec<&NodeEntry> = document.nodes.iter().filter(is_able).collect();
    let has = Kind::ALL.map(|kind| (kind, cell.has_slots(kind)));
    let may = |seat: usize, carries: Carries| {
        has.iter().all(|(kind, has)| !has[seat] || carries.has(*kind))
    };
    let mut seats = document.seats_of(dead.id).peekable();
    let is_placeable =
        seats.peek().is_some() && seats.all(|seat| able.iter().any(|node| may(seat, node.carries)));
    let after = cell.replace(name, live).ok();
    assert_eq!(after.is_some(), is_placeable, "{name} of {:?}", document.nodes);
    let after = after?;
    assert_eq!((&after.channels, &after.users), (&cell.channels, &cell.users));
    assert!(after.document.seats_of(dead.id).next().is_none());
    let carries = after.document.carries();
    let held = |cell: &Cell, id: u16| cell.document.seats_of(id).count();
    for seat in document.seats_of(dead.id) {
        let taker = after.document.seats[seat].node.expect("taken");
        assert!(carries[seat].is_some_and(|carries| may(seat, carries)));
        // Who stands by comes first, where it can.
        let spares = able.iter().filter(|node| held(cell, node.id) == 0);
        let is_spare = held(cell, taker) == 0;
        assert!(is_spare || !spares.into_iter().any(|node| may(seat, node.carries)));
    }
    Some(after)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn whatever_happens_every_slot_is_with_somebody_who_carries_it(
        first in proptest::collection::vec((0usize..3, 0u32..4, 1u8..5), 1..6),
        what in proptest::collection::vec((any::<u8>(), any::<u16>(), 0usize..3), 0..14),
    ) {
        let nodes: Vec<NodeEntry> = first.iter().zip(1..).map(|(&(carries, weight, cores), id)| {
            NodeEntry { carries: ALL[carries], weight: weight * 50, cores, ..node(id, 1) }
        }).collect();
        let carried = |kind| nodes.iter().any(|node| node.weight > 0 && node.carries.has(kind));
        let is_all = Kind::ALL.into_iter().all(carried);
        let made = Cell::new("one", nodes);
        prop_assert_eq!(made.is_ok(), is_all);
        let Ok(mut cell) = made else { return Ok(()) };
        check(&cell);
        check_shares(&cell);
        for (what, which, carries) in what {
            let Some(next) = happen(&cell, what, which, ALL[carries]) else { continue };
            assert_eq!(next.document.ring_epoch, cell.document.ring_epoch + 1);
            check(&next);
            cell = next;
        }
        let end = settled(cell);
        check(&end);
        check_shares(&end);
    }
}

#[test]
fn each_table_is_dealt_over_those_who_carry_it() {
    let cell = apart();
    assert_eq!(slots(&cell, "cs1"), [65_536, 0]);
    assert_eq!(slots(&cell, "cs2"), [0, 65_536]);
    assert!(cell.plan().is_empty());
    let both = settled(cell.add(one(3, Carries::Both)).expect("added"));
    assert_eq!(slots(&both, "cs3"), [32_768, 32_768]);
    // Of a weight that is the same, a third node of one table takes of that table only.
    let more = settled(both.add(one(4, Carries::Channels)).expect("added"));
    assert!(slots(&more, "cs4")[0].abs_diff(21_845) <= 8 && slots(&more, "cs4")[1] == 0);
    assert_eq!(slots(&more, "cs3")[1], 32_768);
}

#[test]
fn nothing_leaves_a_table_with_nobody() {
    for kind in [Carries::Channels, Carries::Users] {
        let made = Cell::new("one", vec![one(1, kind), one(2, kind)]);
        assert!(made.is_err_and(|why| why.0.starts_with("a ring needs a node that carries")));
    }
    let idle = NodeEntry { weight: 0, ..one(2, Carries::Users) };
    assert!(Cell::new("one", vec![one(1, Carries::Channels), idle]).is_err());
    let cell = apart();
    let why = |name| cell.weigh(name, 0).expect_err("the only one").0;
    assert_eq!(why("cs1"), "without cs1 nobody carries channels");
    assert_eq!(why("cs2"), "without cs2 nobody carries users");
    assert!(cell.move_slot(Kind::Users, Slot(1), Seat(0)).is_err(), "cs1 carries no users");
    assert!(cell.move_slot(Kind::Channels, Slot(1), Seat(2)).is_ok());
}

#[test]
fn seats_go_to_who_carries_what_they_have_and_to_spares_first() {
    let cell = apart().stand_by(one(3, Carries::Both)).expect("stands by");
    let cell = cell.stand_by(one(4, Carries::Users)).expect("stands by");
    let live = ["cs1", "cs2", "cs3", "cs4"];
    let seats = |cell: &Cell, id| cell.document.seats_of(id).count();
    // Both spares may have users.
    let after = cell.replace("cs2", &live).expect("replaced");
    assert_eq!((seats(&after, 1), seats(&after, 3), seats(&after, 4)), (8, 4, 4));
    // One of them channels.
    let after = cell.replace("cs1", &live).expect("replaced");
    assert_eq!((seats(&after, 2), seats(&after, 3), seats(&after, 4)), (8, 8, 0));
    // Nobody: who holds users is no help, nor is its spare.
    let why = cell.replace("cs1", &["cs2", "cs4"]).expect_err("nobody").0;
    assert_eq!(why, "nobody who may take the seats of cs1 carries channels");
    // A node of both is replaced by none of its halves.
    let mixed = settled(apart().add(one(3, Carries::Both)).expect("added"));
    let why = mixed.replace("cs3", &["cs1", "cs2"]).expect_err("nobody").0;
    assert_eq!(why, "nobody who may take the seats of cs3 carries channels and users");
    // Its slots can be moved by plan, each to who carries it.
    let emptied = settled(mixed.weigh("cs3", 0).expect("others carry all"));
    assert!(emptied.document.named("cs3").is_none());
    check(&emptied);
}

#[test]
fn who_comes_back_with_less_does_not_take_what_it_cannot_serve() {
    let before = cell(2);
    let back = |cell: &Cell, carries| cell.join(NodeEntry { incarnation: 9, ..one(1, carries) });
    let why = back(&before, Carries::Channels).expect_err("it has users").0;
    assert!(why.starts_with("node cs1 has slots of users in the ring"), "{why}");
    assert!(back(&before, Carries::Users).is_err(), "it has channels");
    // Emptied, it is a new node, and is given what it carries.
    let emptied = settled(before.weigh("cs1", 0).expect("drained"));
    let spare = back(&emptied, Carries::Channels).expect("stands by");
    let again = settled(spare.add(one(1, Carries::Both)).expect("added"));
    assert_eq!(slots(&again, "cs1"), [32_768, 0], "as its process says, not the operator");
    // It takes back what it may; with more than before, more is for it.
    let same = back(&again, Carries::Channels).expect("back");
    assert_eq!((&same.channels, &same.users), (&again.channels, &again.users));
    let more = back(&again, Carries::Both).expect("back");
    assert_eq!(more.document.format, FORMAT, "nobody is apart any more");
    assert_eq!(slots(&settled(more), "cs1"), [32_768, 32_768]);
}

#[test]
fn a_ring_of_before_reads_as_it_was_and_one_with_nodes_apart_is_kept_from_older_versions() {
    let text = String::from_utf8(cell(2).document.encode()).expect("JSON");
    assert!(text.starts_with("{\"format\":1,") && !text.contains("carries"), "{text}");
    let text = String::from_utf8(apart().document.encode()).expect("JSON");
    assert!(text.starts_with("{\"format\":2,") && text.contains("\"carries\":\"users\""));
    // Written back by who knows of no such thing, it would be this.
    let forged = text.replacen("\"format\":2", "\"format\":1", 1);
    assert!(Document::decode(forged.as_bytes()).is_err());
    // A table that does not fit is no ring.
    let mut broken = apart();
    std::sync::Arc::make_mut(&mut broken.users.seats)[5] = Seat(0);
    assert!(broken.ring().is_err_and(|why| why.0.contains("does not carry it")));
}
