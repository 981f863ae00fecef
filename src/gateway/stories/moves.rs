//! Slots that move from owner to owner, and what of it a gateway says and hears.

use super::*;
use crate::ids::{Key, Seat, Slot};
use crate::limits::Limits;
use crate::ring::assign::Kind;
use crate::ring::change::Cell;
use crate::ring::document::NodeEntry;
use crate::ring::slot_of;
use crate::wire::message::{nack, namespace};

const CHANNELS: u32 = 20;

fn owner(node: u16) -> Peer {
    Peer::new(NodeId(node), Role::Channel, 0)
}

fn name(n: u32) -> String {
    format!("C{n}")
}

fn key(n: u32) -> Key {
    Secret([7; 16]).key_of(&name(n))
}

/// Two owners on hosts of their own.
fn cell() -> Cell {
    let node = |id: u16| NodeEntry {
        id,
        incarnation: 1,
        ..NodeEntry::new(&format!("cs{id}"), &format!("10.0.0.{id}:7400"), 1)
    };
    Cell::new("one", vec![node(1), node(2)]).expect("a ring")
}

/// The slot goes to the other of the two.
fn moved(cell: &Cell, slot: Slot) -> Cell {
    let node = |seat: Seat| cell.document.seats[usize::from(seat.0)].node;
    let from = node(cell.channels.seats[usize::from(slot.0)]);
    let to = (0..16).map(Seat).find(|seat| node(*seat) != from).expect("two nodes");
    cell.move_slot(Kind::Channels, slot, to).expect("moved")
}

fn owner_of(cell: &Cell, slot: Slot) -> Peer {
    owner(cell.ring().expect("usable").channel_owner(slot).0.0)
}

/// A gateway core whose neighbour follows some channels, all of which are open at their owners; the handles by which those know them.
fn following(cell: &Cell) -> (Stage, Vec<Handle>) {
    let mut stage = Stage::new(&Limits::DEFAULT);
    stage.input(Input::Ring { ring: &cell.ring().expect("usable") });
    for node in [1, 2] {
        stage.up(owner(node), 1);
    }
    let mut handles = Vec::new();
    for n in 0..CHANNELS {
        let (slot, name) = (slot_of(&name(n)), name(n));
        let (handle, seat_epoch, namespace) = (Handle(n), 0, namespace::MEMORY);
        let wish =
            Message::Subscribe { slot, seat_epoch, key: key(n), handle, namespace, name: &name };
        stage.hear(CORE, wish);
        let at = owner_of(cell, slot);
        let [Message::Subscribe { handle, .. }] = stage.heard(at)[..] else {
            panic!("{:?}", stage.heard(at))
        };
        stage.said.clear();
        stage.hear(at, Message::Suback { handle, epoch: 5, tip: 10 });
        handles.push(handle);
    }
    stage.said.clear();
    (stage, handles)
}

fn publication(handle: Handle, offset: u64) -> Message<'static> {
    Message::Publication { handle, offset, origin: Origin::NOBODY, member: None, payload: b"x" }
}

#[test]
fn only_what_moved_is_asked_for_again() {
    let before = cell();
    let (mut stage, handles) = following(&before);
    let slot = slot_of(&name(3));
    let after = moved(&before, slot);
    let (former, new) = (owner_of(&before, slot), owner_of(&after, slot));
    stage.input(Input::Ring { ring: &after.ring().expect("usable") });
    stage.advance();
    let [Message::Subscribe { slot: asked, handle, .. }] = stage.heard(new)[..] else {
        panic!("{:?}", stage.heard(new))
    };
    assert_eq!((asked, stage.heard(former).len(), stage.heard(CORE).len()), (slot, 0, 0));
    assert_ne!(handle, handles[3]);
    // What the former owner had said already, and what it would say of a place that is not its own.
    for said in
        [publication(handles[3], 11), Message::Suback { handle: handles[3], epoch: 5, tip: 9 }]
    {
        stage.hear(former, said);
    }
    stage.hear(former, Message::Subnack { handle: handles[3], why: nack::MOVED });
    assert_eq!(stage.heard(CORE), []);
    stage.said.clear();
    stage.hear(new, Message::Suback { handle, epoch: 6, tip: 2 });
    stage.hear(new, publication(handle, 3));
    assert!(matches!(
        stage.heard(CORE)[..],
        [Message::Suback { epoch: 6, tip: 2, .. }, Message::Publication { offset: 3, .. }]
    ));
    // The others were never touched.
    stage.said.clear();
    for n in (0..CHANNELS).filter(|n| *n != 3) {
        stage.hear(owner_of(&before, slot_of(&name(n))), publication(handles[n as usize], 11));
    }
    assert_eq!(stage.heard(CORE).len(), CHANNELS as usize - 1);
}

#[test]
fn who_is_told_that_a_slot_moved_and_knows_of_no_other_ring_asks_until_it_does() {
    let before = cell();
    let (mut stage, handles) = following(&before);
    let slot = slot_of(&name(7));
    let after = moved(&before, slot);
    let (former, new) = (owner_of(&before, slot), owner_of(&after, slot));
    stage.hear(former, Message::Subnack { handle: handles[7], why: nack::MOVED });
    stage.pass(Limits::DEFAULT.catch_up_interval * 2);
    let [Message::Subscribe { handle, .. }] = stage.heard(former)[..] else {
        panic!("{:?}", stage.heard(former))
    };
    stage.hear(former, Message::Subnack { handle, why: nack::MOVED });
    stage.said.clear();
    stage.input(Input::Ring { ring: &after.ring().expect("usable") });
    stage.pass(Limits::DEFAULT.catch_up_interval * 2);
    assert!(matches!(stage.heard(new)[..], [Message::Subscribe { .. }]));
    assert_eq!(stage.heard(former), []);
}

#[test]
fn a_page_that_was_asked_of_a_former_owner_is_asked_again() {
    let before = cell();
    let (mut stage, _) = following(&before);
    let slot = slot_of(&name(3));
    let fetch = |ask: u32| Message::Fetch {
        slot,
        seat_epoch: 0,
        key: key(3),
        handle: Handle(3),
        ask: Ask(ask),
        after: 4,
        count_max: 10,
        bytes_max: 1_000,
        name: "C3",
    };
    stage.hear(CORE, fetch(9));
    let former = owner_of(&before, slot);
    let [Message::Fetch { ask, .. }] = stage.heard(former)[..] else { panic!("passed on") };
    stage.said.clear();
    stage.input(Input::Ring { ring: &moved(&before, slot).ring().expect("usable") });
    assert_eq!(stage.heard(CORE), [Message::PastRefused { ask: Ask(9), handle: Handle(3) }]);
    stage.said.clear();
    let payload = b"of another life";
    stage.hear(
        former,
        Message::Past { ask, offset: 5, origin: Origin::NOBODY, member: None, payload },
    );
    assert_eq!(stage.heard(CORE), []);
}

#[test]
fn a_user_whose_keeper_is_another_is_told_to_it_and_its_dot_comes_from_there() {
    let before = cell();
    let (mut stage, _) = following(&before);
    let keeper = |node: u16| Peer::new(NodeId(node), Role::Presence, 0);
    let (slot, user) = (slot_of("U1"), Secret([7; 16]).key_of("U1"));
    let former = before.ring().expect("usable").user_owner(slot).0.0;
    let new = 3 - former;
    for node in [1, 2] {
        stage.up(keeper(node), 1);
    }
    stage.connect(conn(0));
    stage.say(conn(0), r#"{"type":"presence_sub","ids":["U1"]}"#);
    stage.said.clear();
    let to = before.document.seats.iter().position(|seat| seat.node == Some(new)).expect("a seat");
    let after = before.move_slot(Kind::Users, slot, Seat(to as u16)).expect("moved");
    stage.input(Input::Ring { ring: &after.ring().expect("usable") });
    stage.advance();
    let heard = stage.heard(keeper(new));
    assert!(
        heard.iter().any(|one| matches!(one, Message::Online { user: who, .. } if *who == user))
    );
    let watch = heard.iter().find_map(|one| match one {
        Message::Watch { handle, .. } => Some(*handle),
        _ => None,
    });
    let handle = watch.expect("watched there");
    assert_eq!(stage.heard(keeper(former)), []);
    stage.told(conn(0));
    stage.hear(keeper(former), Message::Presence { handle, active: false });
    assert_eq!(stage.kinds(conn(0)), Vec::<String>::new(), "it does not know any more");
    stage.hear(keeper(new), Message::Presence { handle, active: true });
    assert_eq!(stage.kinds(conn(0)), ["presence_change"]);
}

/// What was said to an owner of subscriptions since the last look, the newest.
fn tallied(stage: &mut Stage, peer: Peer) -> Option<Tally> {
    stage.pass(Limits::DEFAULT.tally_interval);
    let told = std::mem::take(&mut stage.tallies);
    told.iter().rev().find(|(to, _)| *to == peer).map(|(_, tally)| *tally)
}

#[test]
fn owners_are_told_what_is_subscribed_at_each() {
    let before = cell();
    let (mut stage, handles) = following(&before);
    let of = |cell: &Cell, node: u16, left: &[u32], handles: &[Handle]| {
        let mut tally = Tally::default();
        for n in (0..CHANNELS).filter(|n| !left.contains(n)) {
            if owner_of(cell, slot_of(&name(n))) == owner(node) {
                tally.add(key(n), handles[n as usize]);
            }
        }
        Some(tally)
    };
    for node in [1, 2] {
        assert_eq!(tallied(&mut stage, owner(node)), of(&before, node, &[], &handles));
    }
    // One is left, one is given up by its owner, one moves.
    stage.hear(
        CORE,
        Message::Unsubscribe { slot: slot_of(&name(5)), key: key(5), handle: Handle(5) },
    );
    let (slot, gone) = (slot_of(&name(6)), handles[6]);
    stage.said.clear();
    stage.hear(owner_of(&before, slot), Message::Subnack { handle: gone, why: nack::MOVED });
    for node in [1, 2] {
        // It is asked again within the same time.
        assert_eq!(tallied(&mut stage, owner(node)), of(&before, node, &[5], &handles));
    }
    let slot = slot_of(&name(3));
    let after = moved(&before, slot);
    stage.said.clear();
    stage.input(Input::Ring { ring: &after.ring().expect("usable") });
    stage.advance();
    let mut handles = handles;
    for message in stage.heard(owner_of(&after, slot)) {
        if let Message::Subscribe { handle, .. } = message {
            handles[3] = handle;
        }
    }
    for node in [1, 2] {
        assert_eq!(tallied(&mut stage, owner(node)), of(&after, node, &[5], &handles));
    }
    // A new life of the link begins with nothing.
    stage.input(Input::PeerLost { peer: owner(1) });
    stage.up(owner(1), 2);
    stage.tallies.clear();
    assert_eq!(
        tallied(&mut stage, owner(1)).map(|tally| tally.count > 0),
        Some(true),
        "asked again by then"
    );
    // Who speaks an older version is told nothing.
    stage.input(Input::PeerLost { peer: owner(1) });
    stage.input(Input::PeerUp { peer: owner(1), life: 3, hello: Hello::default() });
    stage.tallies.clear();
    assert_eq!(tallied(&mut stage, owner(1)), None);
}
