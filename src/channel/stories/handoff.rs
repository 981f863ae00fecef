//! Stories of two owners and a slot that goes from one to the other with its memory channels.

use super::*;
use crate::ids::Seat;
use crate::ring::assign::Kind;
use crate::ring::change::Cell;
use crate::ring::document::NodeEntry;

const FORMER: Peer = Peer { node: ME, role: Role::Channel, core: 0 };
const NEXT: Peer = Peer { node: NodeId(1), role: Role::Channel, core: 0 };

/// The two of them, with the ring in which the slot of "M1" is the former's, and the one in which it is the next one's.
struct Two {
    former: World,
    next: World,
    before: Ring,
    after: Ring,
    cell: Cell,
}

impl Two {
    fn new() -> Self {
        let node = |id: u16| NodeEntry {
            id,
            incarnation: 1,
            ..NodeEntry::new(&format!("cs{id}"), &format!("10.0.0.{id}:7400"), CORES)
        };
        let mut cell = Cell::new("one", vec![node(0), node(1)]).expect("a ring");
        if cell.ring().expect("usable").channel_owner(slot_of("M1")).0 != ME {
            cell = moved(&cell, "M1");
        }
        let before = cell.ring().expect("usable");
        let after = moved(&cell, "M1").ring().expect("usable");
        let world = |peer: Peer, other: Peer, seed| {
            let mut world = World::new(&tiny());
            world.owner = Owner::new(peer.node, 0, SOURCE, seed, &world.limits);
            world.input(Input::Ring { ring: &before });
            for peer in [SOURCE, gateway(0), gateway(1), other] {
                world.up(peer);
            }
            world
        };
        let (former, next) = (world(FORMER, NEXT, 5), world(NEXT, FORMER, 6));
        Self { former, next, before, after, cell }
    }

    /// With some publications in "M1", heard by a gateway.
    fn with(publications: usize) -> Self {
        let mut two = Self::new();
        two.former.subscribe_in(0, MEMORY, "M1", H1);
        for n in 0..publications {
            publish(&mut two.former, "M1", Key([n as u8 + 1; 12]));
        }
        two
    }

    /// Everything that each says to the other arrives, and mailboxes take more, until nothing is said.
    fn carry(&mut self) {
        for _ in 0..100 {
            self.former.settle();
            self.next.settle();
            let there = self.former.said.remove(&NEXT).unwrap_or_default();
            let back = self.next.said.remove(&FORMER).unwrap_or_default();
            if there.is_empty() && back.is_empty() {
                return;
            }
            for (class, bytes) in there {
                assert_eq!(class, Class::Bulk);
                let message = Message::decode(&bytes).expect("whole");
                self.next.input(Input::Wire { peer: FORMER, message });
            }
            assert!(back.is_empty(), "the next owner has nothing to say");
            self.former.room(NEXT);
        }
        panic!("it comes to an end");
    }
}

fn moved(cell: &Cell, name: &str) -> Cell {
    let slot = slot_of(name);
    let node = |seat: Seat| cell.document.seats[usize::from(seat.0)].node;
    let from = node(cell.channels.seats[usize::from(slot.0)]);
    let to = (0..16).map(Seat).find(|seat| node(*seat) != from).expect("two nodes");
    cell.move_slot(Kind::Channels, slot, to).expect("moved")
}

fn publish(world: &mut World, name: &str, once: Key) {
    let (slot, key) = (slot_of(name), SECRET.key_of(name));
    let publish = Message::Publish {
        slot,
        seat_epoch: EPOCH,
        key,
        ask: A1,
        namespace: MEMORY,
        offset: 0,
        origin: Origin::NOBODY,
        member: None,
        terms: Terms { once, version: u64::from(once.0[0]), ..Terms::default() },
        name,
        payload: b"x",
    };
    world.say(DISPATCHER, &publish);
}

/// The epochs and tips of the subscriptions that a gateway core was told.
fn subacks(world: &World, core: u8) -> Vec<(u32, u64)> {
    let said = world.said.get(&gateway(core)).map(Vec::as_slice).unwrap_or_default();
    let suback = |(_, bytes): &(Class, Vec<u8>)| match Message::decode(bytes) {
        Ok(Message::Suback { epoch, tip, .. }) => Some((epoch, tip)),
        _ => None,
    };
    said.iter().filter_map(suback).collect()
}

#[test]
fn memory_channels_go_with_their_slot_in_whichever_order_the_two_hear_of_it() {
    for is_next_first in [true, false] {
        // More than the next one's mailbox takes at once.
        let mut two = Two::with(9);
        let [(epoch, 0)] = subacks(&two.former, 0)[..] else { panic!("subscribed") };
        two.former.told(gateway(0));
        two.former.told(DISPATCHER);
        if is_next_first {
            two.next.input(Input::Ring { ring: &two.after });
            two.next.subscribe_in(1, MEMORY, "M1", H2);
            publish(&mut two.next, "M1", Key::default());
            assert_eq!(two.next.told(DISPATCHER), ["not 1 retry"], "it is on its way");
            two.former.input(Input::Ring { ring: &two.after });
            two.carry();
        } else {
            two.former.input(Input::Ring { ring: &two.after });
            two.carry();
            two.next.subscribe_in(1, MEMORY, "M1", H2);
            assert_eq!(two.next.told(gateway(1)), ["subnack 2 moved"]);
            two.next.input(Input::Ring { ring: &two.after });
            two.next.subscribe_in(1, MEMORY, "M1", H2);
        }
        assert_eq!(two.former.told(gateway(0)), ["subnack 1 moved"]);
        publish(&mut two.former, "M1", Key::default());
        assert_eq!(two.former.told(DISPATCHER), ["not 1 moved"]);
        assert_eq!(subacks(&two.next, 1), [(epoch, 9)], "the same life, and where it stood");
        two.next.told(gateway(1));
        // What was published once is known, a new one is next, and the past is there.
        publish(&mut two.next, "M1", Key([4; 12]));
        publish(&mut two.next, "M1", Key([99; 12]));
        assert_eq!(two.next.told(DISPATCHER), ["accepted 1 at 4", "accepted 1 at 10"]);
        two.next.told(gateway(1));
        two.next.fetch(1, "M1", A2, 6);
        let past = ["past 2: 7", "past 2: 8", "past 2: 9", "past 2: 10", "end 2 upto 10 complete"];
        assert_eq!(two.next.told(gateway(1)), past);
        // An older version than the newest that was told anywhere is no news.
        publish(&mut two.next, "M1", Key([50; 12]));
        assert_eq!(two.next.told(DISPATCHER), ["accepted 1 at 10"]);
        let (passed, taken) = (Counter::SlotsPassedOn, Counter::SlotsTakenOver);
        assert_eq!((two.former.counted(passed), two.next.counted(taken)), (1, 1));
        assert_eq!((two.former.gauge("channels"), two.next.gauge("slots_arriving")), (0, 0));
    }
}

#[test]
fn what_does_not_come_begins_a_new_life_and_who_waited_is_told() {
    for is_late in [true, false] {
        let mut two = Two::with(3);
        let [(epoch, 0)] = subacks(&two.former, 0)[..] else { panic!("subscribed") };
        two.next.input(Input::Ring { ring: &two.after });
        two.next.subscribe_in(1, MEMORY, "M1", H2);
        two.former.input(Input::Ring { ring: &two.after });
        two.former.settle();
        // All but the end arrives.
        let mut said = two.former.said.remove(&NEXT).expect("it says something");
        while let Some((_, bytes)) = said.pop() {
            if matches!(Message::decode(&bytes), Ok(Message::Moved { .. })) {
                break;
            }
        }
        for (_, bytes) in said {
            let message = Message::decode(&bytes).expect("whole");
            two.next.input(Input::Wire { peer: FORMER, message });
        }
        assert_eq!(subacks(&two.next, 1), []);
        if is_late {
            two.next.pass(1_100);
        } else {
            two.next.lost(FORMER);
        }
        let [(new, tip)] = subacks(&two.next, 1)[..] else { panic!("told") };
        assert_ne!(new, epoch);
        assert_eq!(two.next.counted(Counter::HandoffsMissed), 1);
        two.next.told(gateway(1));
        publish(&mut two.next, "M1", Key([2; 12]));
        assert_eq!(two.next.told(DISPATCHER), [format!("accepted 1 at {}", tip + 1)]);
        // The end that comes after all changes nothing.
        two.next
            .input(Input::Wire { peer: FORMER, message: Message::Moved { slot: slot_of("M1") } });
        two.next.told(gateway(1));
        two.next.subscribe_in(0, MEMORY, "M1", H1);
        assert_eq!(subacks(&two.next, 0), [(new, tip + 1)]);
    }
}

#[test]
fn a_dead_owner_is_not_waited_for() {
    let mut two = Two::with(3);
    let dead = two.cell.replace("cs0", &["cs1"]).expect("replaced").ring().expect("usable");
    two.next.input(Input::Ring { ring: &dead });
    let (slot, key) = (slot_of("M1"), SECRET.key_of("M1"));
    let (seat_epoch, handle, namespace, name) = (EPOCH + 1, H2, MEMORY, "M1");
    two.next
        .say(gateway(1), &Message::Subscribe { slot, seat_epoch, key, handle, namespace, name });
    assert_eq!(two.next.told(gateway(1)), ["suback 2 tip 0 memory"]);
}

#[test]
fn a_slot_that_went_and_came_back_unseen_is_not_what_it_was() {
    let mut two = Two::with(3);
    let [(epoch, 0)] = subacks(&two.former, 0)[..] else { panic!("subscribed") };
    two.former.follow(1, "D1", H2, 7);
    let there = moved(&moved(&two.cell, "M1"), "D1");
    let back = moved(&moved(&there, "D1"), "M1").ring().expect("usable");
    two.former.told(gateway(0));
    two.former.input(Input::Ring { ring: &back });
    two.former.settle();
    assert_eq!(two.former.told(gateway(0)), ["subnack 1 moved"]);
    assert_eq!(two.former.told(gateway(1)), ["subnack 2 moved"]);
    // Somebody else had it meanwhile: the source is asked again, and the memory channel's life is over.
    two.former.subscribe(1, "D1", H2);
    two.former.asked_one("tip D1");
    two.former.pass(1_100);
    two.former.subscribe_in(0, MEMORY, "M1", H1);
    let [(new, 0)] = subacks(&two.former, 0)[..] else { panic!("{:?}", subacks(&two.former, 0)) };
    assert_ne!(new, epoch);
}

#[test]
fn who_is_no_owner_passes_nothing_on() {
    let mut two = Two::new();
    let slot = slot_of("M1");
    let moving = Message::Moving { slot, ring_epoch: 9, epoch: 1, floor: 5 };
    two.next.say(gateway(0), &moving);
    assert_eq!(two.next.counted(Counter::WireBroken), 1);
    // Of a ring that we have, in which it is nobody's to pass on.
    let moving = Message::Moving { slot, ring_epoch: two.before.ring_epoch, epoch: 1, floor: 5 };
    two.next.input(Input::Wire { peer: FORMER, message: moving });
    assert_eq!(two.next.gauge("slots_arriving"), 0);
    // Of one that is still to come, and then gives the slot to somebody else.
    let ring_epoch = two.after.ring_epoch;
    two.next.input(Input::Wire {
        peer: FORMER,
        message: Message::Moving { slot, ring_epoch, epoch: 1, floor: 5 },
    });
    assert_eq!(two.next.gauge("slots_arriving"), 1);
    let mut other = two.cell.freeze(true).expect("frozen").ring().expect("usable");
    other.ring_epoch = ring_epoch;
    two.next.input(Input::Ring { ring: &other });
    assert_eq!(two.next.gauge("slots_arriving"), 0);
}
