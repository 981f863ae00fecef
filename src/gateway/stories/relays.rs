//! A gateway of the region that stands for all owners: what those who ask it say and hear, and what it does for them.

use super::*;
use crate::ids::{Key, Slot};
use crate::limits::{Limits, RELAY_REFUSED_PAUSE, RELAY_SETTLES, SUBSCRIBERS_CORES_MAX};
use crate::ring::region::RegionRelay;
use crate::ring::slot_of;
use crate::wire::message::{nack, namespace};
use crate::wire::{RELAYS_SINCE, VERSION};

const NAME: &str = "C1";
const PAYLOAD: &[u8] = b"x";

fn relay(node: u16) -> Peer {
    Peer::new(NodeId(node), Role::Gateway, 0)
}

/// A core whose node asks these gateways, the best first.
fn asking(relays: &[u16]) -> Stage {
    let relays = relays.iter().map(|node| RegionRelay { node: NodeId(*node), cores: 1 });
    let config = GatewayConfig { relays: relays.collect(), ..Stage::config() };
    Stage::with(&Limits::DEFAULT, config)
}

fn slot() -> Slot {
    slot_of(NAME)
}

fn key() -> Key {
    Secret([7; 16]).key_of(NAME)
}

fn meets(stage: &mut Stage, node: u16, version: u16) {
    let hello = Hello { version, ..Hello::default() };
    stage.input(Input::PeerUp { peer: relay(node), life: 1, hello });
    stage.advance();
}

fn wish(handle: Handle, namespace: u16) -> Message<'static> {
    Message::Subscribe { slot: slot(), seat_epoch: 0, key: key(), handle, namespace, name: NAME }
}

fn fetch(handle: Handle, ask: Ask) -> Message<'static> {
    Message::Fetch {
        slot: slot(),
        seat_epoch: 0,
        key: key(),
        handle,
        ask,
        after: 3,
        count_max: 10,
        bytes_max: 1_000,
        name: NAME,
    }
}

fn publication(handle: Handle, offset: u64) -> Message<'static> {
    Message::Publication { handle, offset, origin: Origin::NOBODY, member: None, payload: PAYLOAD }
}

/// The only `Subscribe` that was said to a peer since the last look: its handle.
fn asked(stage: &mut Stage, peer: Peer) -> Handle {
    let handle = match stage.heard(peer)[..] {
        [Message::Subscribe { handle, .. }] => handle,
        ref other => panic!("{other:?}"),
    };
    stage.said.clear();
    handle
}

fn to_hub(stage: &mut Stage) -> Vec<String> {
    let heard = stage.heard(CORE).into_iter().map(|message| match message {
        Message::Suback { epoch, tip, .. } => format!("stands at {epoch}:{tip}"),
        Message::Publication { offset, .. } => format!("hears {offset}"),
        other => other.name().into(),
    });
    let heard = heard.collect();
    stage.said.clear();
    heard
}

#[test]
fn a_relay_is_asked_instead_of_owners_and_hubs_hear_what_it_says() {
    let mut stage = asking(&[10]);
    meets(&mut stage, 10, VERSION);
    stage.hear(CORE, wish(Handle(4), namespace::MEMORY));
    assert_eq!(stage.heard(OWNER), []);
    let handle = asked(&mut stage, relay(10));
    stage.hear(relay(10), Message::Suback { handle, epoch: 5, tip: 7 });
    stage.hear(relay(10), publication(handle, 8));
    assert_eq!(to_hub(&mut stage), ["stands at 5:7", "hears 8"]);
    // The channel has another owner: the relay has seen to it.
    stage.hear(relay(10), Message::Suback { handle, epoch: 6, tip: 2 });
    stage.hear(relay(10), publication(handle, 3));
    assert_eq!(to_hub(&mut stage), ["stands at 6:2", "hears 3"]);
    // Its past comes from there too, and what somebody says goes to the owner.
    stage.hear(CORE, fetch(Handle(4), Ask(9)));
    let [Message::Fetch { ask, .. }] = stage.heard(relay(10))[..] else { panic!("asked there") };
    stage.hear(relay(10), Message::PastEnd { ask, handle, upto: 3, complete: true, missing: 0 });
    let end =
        Message::PastEnd { ask: Ask(9), handle: Handle(4), upto: 3, complete: true, missing: 0 };
    assert_eq!(stage.heard(CORE), [end]);
    stage.hear(
        CORE,
        Message::Emit { slot: slot(), key: key(), origin: Origin::NOBODY, payload: PAYLOAD },
    );
    assert!(matches!(stage.heard(OWNER)[..], [Message::Emit { .. }]));
}

#[test]
fn without_a_relay_owners_are_asked_and_they_are_left_when_it_is_back() {
    let mut stage = asking(&[10]);
    stage.hear(CORE, wish(Handle(4), namespace::DURABLE));
    let of_owner = asked(&mut stage, OWNER);
    stage.hear(OWNER, Message::Suback { handle: of_owner, epoch: 0, tip: 7 });
    stage.said.clear();
    meets(&mut stage, 10, VERSION);
    assert_eq!(stage.heard(relay(10)), [], "it is to meet its owners first");
    stage.pass(RELAY_SETTLES);
    assert_eq!(
        stage.heard(OWNER),
        [Message::Unsubscribe { slot: slot(), key: key(), handle: of_owner }]
    );
    let handle = asked(&mut stage, relay(10));
    stage.hear(OWNER, publication(of_owner, 8));
    stage.hear(OWNER, Message::Unsuback { handle: of_owner });
    assert_eq!(to_hub(&mut stage), [""; 0], "it is not asked any more");
    stage.hear(relay(10), Message::Suback { handle, epoch: 0, tip: 8 });
    assert_eq!(to_hub(&mut stage), ["stands at 0:8"]);
    stage.input(Input::PeerLost { peer: relay(10) });
    stage.advance();
    let again = asked(&mut stage, OWNER);
    assert_ne!(again, of_owner, "what it said of the former handle is of nobody");
    stage.hear(OWNER, publication(of_owner, 9));
    assert_eq!(to_hub(&mut stage), [""; 0]);
    stage.hear(OWNER, Message::Suback { handle: again, epoch: 0, tip: 9 });
    assert_eq!(to_hub(&mut stage), ["stands at 0:9"]);
}

#[test]
fn the_first_relay_that_is_up_is_asked_and_the_link_to_the_one_that_is_left_begins_anew() {
    let mut stage = asking(&[10, 11]);
    meets(&mut stage, 11, VERSION);
    stage.hear(CORE, wish(Handle(4), namespace::DURABLE));
    let second = asked(&mut stage, relay(11));
    stage.hear(relay(11), Message::Suback { handle: second, epoch: 0, tip: 7 });
    stage.said.clear();
    meets(&mut stage, 10, VERSION);
    stage.pass(RELAY_SETTLES);
    assert_eq!(stage.reset, [relay(11)], "it forgets us by that");
    let first = asked(&mut stage, relay(10));
    stage.hear(relay(11), publication(second, 8));
    assert_eq!(to_hub(&mut stage), [""; 0]);
    stage.hear(relay(10), Message::Suback { handle: first, epoch: 0, tip: 8 });
    assert_eq!(to_hub(&mut stage), ["stands at 0:8"]);
}

#[test]
fn who_is_on_the_list_asks_those_before_it() {
    let mut stage = asking(&[10, ME.0, 11]);
    meets(&mut stage, 11, VERSION);
    stage.hear(CORE, wish(Handle(4), namespace::DURABLE));
    asked(&mut stage, OWNER);
    meets(&mut stage, 10, VERSION);
    stage.pass(RELAY_SETTLES);
    asked(&mut stage, relay(10));
}

#[test]
fn a_gateway_of_an_older_version_is_no_relay() {
    let mut stage = asking(&[10]);
    meets(&mut stage, 10, RELAYS_SINCE - 1);
    stage.hear(CORE, wish(Handle(4), namespace::DURABLE));
    asked(&mut stage, OWNER);
}

#[test]
fn a_relay_that_is_full_is_left_alone_for_a_while() {
    let mut stage = asking(&[10]);
    meets(&mut stage, 10, VERSION);
    stage.hear(CORE, wish(Handle(4), namespace::DURABLE));
    let handle = asked(&mut stage, relay(10));
    stage.hear(relay(10), Message::Subnack { handle, why: nack::FULL });
    stage.advance();
    assert_eq!((stage.reset.clone(), stage.counted(Counter::RelaysFull)), (vec![relay(10)], 1));
    asked(&mut stage, OWNER);
    // Its link begins anew, and it is not asked for that.
    stage.input(Input::PeerLost { peer: relay(10) });
    meets(&mut stage, 10, VERSION);
    stage.pass(RELAY_REFUSED_PAUSE / 2);
    assert_eq!(stage.heard(relay(10)), []);
    stage.pass(RELAY_REFUSED_PAUSE);
    asked(&mut stage, relay(10));
}

#[test]
fn hubs_report_again_who_is_in_a_channel_when_the_link_to_its_owner_is_back() {
    let mut stage = asking(&[10]);
    meets(&mut stage, 10, VERSION);
    stage.hear(CORE, wish(Handle(4), namespace::MEMORY));
    let handle = asked(&mut stage, relay(10));
    stage.hear(relay(10), Message::Suback { handle, epoch: 5, tip: 7 });
    to_hub(&mut stage);
    stage.input(Input::PeerLost { peer: OWNER });
    stage.advance();
    assert_eq!(to_hub(&mut stage), [""; 0], "its publications come by the relay");
    stage.up(OWNER, 2);
    assert_eq!(to_hub(&mut stage), ["stands at 5:7"]);
    stage.hear(relay(10), publication(handle, 8));
    assert_eq!(to_hub(&mut stage), ["hears 8"]);
}

#[test]
fn a_relay_serves_cores_of_other_gateways_as_its_own() {
    let mut stage = asking(&[]);
    let (near, far) = (relay(20), relay(21));
    for node in [20, 21] {
        meets(&mut stage, node, VERSION);
    }
    stage.hear(near, wish(Handle(7), namespace::DURABLE));
    stage.hear(far, wish(Handle(8), namespace::DURABLE));
    let handle = asked(&mut stage, OWNER);
    stage.hear(OWNER, Message::Suback { handle, epoch: 0, tip: 7 });
    assert_eq!(stage.heard(near), [Message::Suback { handle: Handle(7), epoch: 0, tip: 7 }]);
    assert_eq!(stage.heard(far), [Message::Suback { handle: Handle(8), epoch: 0, tip: 7 }]);
    stage.said.clear();
    stage.hear(OWNER, publication(handle, 8));
    assert_eq!(stage.heard(near), [publication(Handle(7), 8)]);
    assert_eq!(stage.heard(far), [publication(Handle(8), 8)]);
    stage.said.clear();

    // Numbers of questions have all their bits there: two may ask by the same.
    let ask = Ask(u32::MAX - 1);
    stage.hear(near, fetch(Handle(7), ask));
    stage.hear(far, fetch(Handle(8), ask));
    let [Message::Fetch { ask: first, .. }, Message::Fetch { ask: second, .. }] =
        stage.heard(OWNER)[..]
    else {
        panic!("both are asked")
    };
    assert_ne!(first, second);
    stage
        .hear(OWNER, Message::PastEnd { ask: second, handle, upto: 8, complete: true, missing: 0 });
    let end = Message::PastEnd { ask, handle: Handle(8), upto: 8, complete: true, missing: 0 };
    assert_eq!((stage.heard(near), stage.heard(far)), (vec![], vec![end]));
    stage.said.clear();

    // Whoever is gone is told nothing more, and the owner keeps sending as long as somebody is left.
    stage.input(Input::PeerLost { peer: near });
    assert_eq!((stage.heard(OWNER), stage.gauge("relay_subscribers")), (vec![], 1.0));
    stage.hear(OWNER, Message::PastEnd { ask: first, handle, upto: 8, complete: true, missing: 0 });
    assert_eq!(stage.heard(near), []);
    stage.hear(far, Message::Unsubscribe { slot: slot(), key: key(), handle: Handle(8) });
    assert_eq!(stage.heard(far), [Message::Unsuback { handle: Handle(8) }]);
    assert_eq!(stage.heard(OWNER), [Message::Unsubscribe { slot: slot(), key: key(), handle }]);
}

#[test]
fn other_gateways_may_ask_for_channels_and_for_nothing_else() {
    let mut stage = asking(&[]);
    meets(&mut stage, 20, VERSION);
    let present =
        Message::Present { slot: slot(), seat_epoch: 0, key: key(), ask: Ask(1), is_listed: true };
    let emit = Message::Emit { slot: slot(), key: key(), origin: Origin::NOBODY, payload: PAYLOAD };
    for said in [present, emit, publication(Handle(0), 1)] {
        stage.hear(relay(20), said);
    }
    assert_eq!((stage.heard(OWNER), stage.counted(Counter::WireBroken)), (vec![], 3));
}

#[test]
fn who_finds_no_number_is_told_that_there_is_no_room() {
    let mut stage = asking(&[]);
    let others = u16::from(SUBSCRIBERS_CORES_MAX) - 1;
    for node in 0..=others {
        meets(&mut stage, 20 + node, VERSION);
        stage.hear(relay(20 + node), wish(Handle(7), namespace::DURABLE));
    }
    let full = Message::Subnack { handle: Handle(7), why: nack::FULL };
    assert_eq!(stage.heard(relay(20 + others)), [full]);
    assert_eq!(stage.heard(relay(20 + others - 1)), []);
    // One leaves, and its number is free.
    stage.said.clear();
    stage.input(Input::PeerLost { peer: relay(20) });
    let handle = Handle(9);
    stage.hear(relay(20 + others), wish(handle, namespace::DURABLE));
    assert_eq!(stage.heard(relay(20 + others)), []);
}
