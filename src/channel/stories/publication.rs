//! Stories of publications: I13, holes, and what is refused.

use super::*;

/// Two links that follow C1 from 5 on.
fn followed() -> World {
    let mut world = World::open();
    world.follow(0, "C1", H1, 5);
    world.follow(1, "C1", H2, 5);
    world
}

#[test]
fn every_link_is_sent_each_publication_once_and_in_order() {
    let mut world = followed();
    for offset in [6, 7, 7, 6, 8, 5] {
        world.publish("C1", offset);
    }
    assert_eq!(world.told(gateway(0)), ["1: 6", "1: 7", "1: 8"]);
    assert_eq!(world.told(gateway(1)), ["2: 6", "2: 7", "2: 8"]);
    assert_eq!(world.told(DISPATCHER).len(), 6, "each is acknowledged");
    assert_eq!(world.counted(Counter::PublicationsAccepted), 3);
    assert_eq!(world.counted(Counter::PublicationsDuplicate), 3);
}

#[test]
fn one_that_comes_too_soon_is_held() {
    let mut world = followed();
    world.publish("C1", 8);
    world.publish("C1", 7);
    world.publish("C1", 8);
    assert_eq!(world.told(DISPATCHER), ["accepted 8 at 8", "accepted 7 at 7", "accepted 8 at 8"]);
    assert!(world.told(gateway(0)).is_empty());
    world.publish("C1", 6);
    assert_eq!(world.told(gateway(0)), ["1: 6", "1: 7", "1: 8"]);
    assert_eq!(world.counted(Counter::PublicationsHeld), 2);
    assert_eq!((world.gauge("channel_holes"), world.gauge("channel_held_bytes")), (0, 0));
    world.pass(60_000);
    assert!(world.asked().is_empty(), "nothing is missing");
}

#[test]
fn what_does_not_come_by_itself_is_asked_for() {
    let mut world = followed();
    world.publish("C1", 8);
    world.pass(49);
    assert!(world.asked().is_empty());
    world.pass(1);
    let ask = world.asked_one("range C1 6..=7");
    world.range_is(ask, 6..=7);
    assert_eq!(world.told(gateway(0)), ["1: 6", "1: 7", "1: 8"]);
    assert_eq!(world.told(gateway(1)), ["2: 6", "2: 7", "2: 8"]);
    assert_eq!(world.gauge("channel_holes"), 0);
}

#[test]
fn what_comes_by_itself_while_it_is_asked_for_is_sent_once() {
    let mut world = followed();
    world.publish("C1", 8);
    world.pass(50);
    let ask = world.asked_one("range C1 6..=7");
    world.publish("C1", 6);
    world.event(ask, 6);
    world.publish("C1", 7);
    world.event(ask, 7);
    world.say(SOURCE, &Message::RangeEnd { ask, ok: true, upto: 7 });
    assert_eq!(world.told(gateway(0)), ["1: 6", "1: 7", "1: 8"]);
}

#[test]
fn what_is_filled_lets_the_held_go_before_the_answer_ends() {
    let mut world = followed();
    world.publish("C1", 7);
    world.pass(50);
    let ask = world.asked_one("range C1 6..=6");
    world.event(ask, 6);
    assert_eq!(world.told(gateway(0)), ["1: 6", "1: 7"]);
    world.lost(SOURCE);
    world.up(SOURCE);
    world.pass(60_000);
    assert!(world.asked().is_empty(), "nothing is missing");
}

#[test]
fn an_answer_that_brings_a_part_is_followed_by_the_next_question_at_once() {
    let mut world = followed();
    world.publish("C1", 20);
    world.pass(50);
    let ask = world.asked_one("range C1 6..=19");
    world.range_is(ask, 6..=9);
    assert_eq!(world.told(gateway(0)), ["1: 6", "1: 7", "1: 8", "1: 9"]);
    let ask = world.asked_one("range C1 10..=19");
    world.range_is(ask, 10..=19);
    assert_eq!(world.told(gateway(0)).last().map(String::as_str), Some("1: 20"));
}

#[test]
fn an_answer_that_brings_nothing_is_followed_by_longer_and_longer_pauses() {
    let mut world = followed();
    world.publish("C1", 8);
    let mut pauses = Vec::new();
    for _ in 0..10 {
        let before = world.now.mono;
        let due = world.owner.deadline().expect("a hole is waiting");
        pauses.push(due.since(before).as_millis());
        world.pass(due.since(before).as_millis() as u64);
        let ask = world.asked_one("range C1 6..=7");
        world.say(SOURCE, &Message::RangeEnd { ask, ok: false, upto: 0 });
    }
    assert_eq!(pauses, [50, 50, 100, 200, 400, 800, 1_600, 3_200, 6_400, 6_400]);
    world.publish("C1", 6);
    world.publish("C1", 7);
    assert_eq!(world.told(gateway(0)), ["1: 6", "1: 7", "1: 8"]);
    world.pass(60_000);
    assert!(world.asked().is_empty());
}

#[test]
fn a_fill_whose_answer_is_lost_is_asked_again() {
    let mut world = followed();
    world.publish("C1", 8);
    world.pass(50);
    let first = world.asked_one("range C1 6..=7");
    world.event(first, 6);
    world.pass(10_000);
    let second = world.asked_one("range C1 7..=7");
    world.range_is(first, [7]);
    assert_eq!(world.told(gateway(0)), ["1: 6"], "a question that was given up has no answer");
    world.lost(SOURCE);
    world.pass(3_600_000);
    assert!(world.asked().is_empty());
    world.up(SOURCE);
    let third = world.asked_one("range C1 7..=7");
    assert_ne!(second, third);
    world.range_is(third, [7]);
    assert_eq!(world.told(gateway(0)), ["1: 7", "1: 8"]);
}

#[test]
fn holes_that_open_and_close_while_the_source_is_away_leave_nothing() {
    let mut world = followed();
    world.lost(SOURCE);
    for offset in (6..600).step_by(2) {
        world.publish("C1", offset + 1);
        world.pass(100);
        world.publish("C1", offset);
    }
    assert_eq!(world.told(gateway(0)).len(), 594);
    assert_eq!(world.owner.deadline(), None);
    world.up(SOURCE);
    assert!(world.asked().is_empty());
}

#[test]
fn what_finds_no_room_among_the_held_is_refused_and_taken_later() {
    let mut world = followed();
    for offset in 7..=11 {
        world.publish("C1", offset);
    }
    let told = world.told(DISPATCHER);
    assert_eq!(told[3..], ["accepted 10 at 10", "not 11 full"]);
    world.pass(50);
    let ask = world.asked_one("range C1 6..=6");
    world.range_is(ask, [6]);
    world.publish("C1", 11);
    let all: Vec<String> = (6..=11).map(|offset| format!("1: {offset}")).collect();
    assert_eq!(world.told(gateway(0)), all);
    assert_eq!(world.counted(Counter::PublicationsRefused), 1);
}

#[test]
fn without_the_source_the_missing_one_comes_from_the_outbox() {
    let mut world = followed();
    world.lost(SOURCE);
    for offset in 7..=12 {
        world.publish("C1", offset);
    }
    // The dispatcher says again what was not taken, and what it had not said yet.
    for offset in [6, 11, 12] {
        world.publish("C1", offset);
    }
    let all: Vec<String> = (6..=12).map(|offset| format!("1: {offset}")).collect();
    assert_eq!(world.told(gateway(0)), all);
}

#[test]
fn holes_are_bounded_by_count_and_by_bytes() {
    let limits = Limits { publication_bytes_max: 1_024, backlog_bytes: 8 << 10, ..tiny() };
    let mut world = World::with(&limits);
    for n in 0..4 {
        world.follow(0, &format!("C{n}"), Handle(n), 5);
    }
    for n in 0..4 {
        world.publish(&format!("C{n}"), 7);
    }
    assert_eq!(world.told(DISPATCHER)[2..], ["accepted 7 at 7", "not 7 full"]);
    world.publish_in(DURABLE, "C0", 8, &[0; 1_000]);
    world.publish_in(DURABLE, "C0", 9, &[0; 1_000]);
    assert_eq!(world.told(DISPATCHER), ["accepted 8 at 8", "not 9 full"]);
    world.publish("C0", 6);
    assert_eq!(world.gauge("channel_holes"), 2, "and there is room for another");
}

#[test]
fn a_hole_whose_link_is_lost_is_filled_for_who_comes_back() {
    let mut world = World::open();
    world.follow(0, "C1", H1, 5);
    world.publish("C1", 8);
    world.lost(gateway(0));
    world.settle();
    // Nobody follows it now: the tip moves on, and what is held below it is let go.
    world.publish("C1", 9);
    world.up(gateway(0));
    world.subscribe(0, "C1", H2);
    let ask = world.asked_one("tip C1");
    world.tip_is(ask, 9);
    assert_eq!(world.told(gateway(0)), ["suback 2 tip 9"]);
    world.publish("C1", 10);
    assert_eq!(world.told(gateway(0)), ["2: 10"]);
    assert_eq!(world.gauge("channel_holes"), 0);
}

#[test]
fn a_tip_that_passes_the_held_lets_them_go() {
    let mut world = World::open();
    world.follow(0, "C1", H1, 5);
    world.publish("C1", 10);
    world.publish("C1", 12);
    world.unsubscribe(0, "C1", H1);
    // With nobody to follow it the tip jumps, here over nothing that is held.
    world.publish("C1", 8);
    world.subscribe(1, "C1", H2);
    let ask = world.asked_one("tip C1");
    world.tip_is(ask, 11);
    assert_eq!(world.told(gateway(1)), ["suback 2 tip 11", "2: 12"]);
    assert_eq!(world.gauge("channel_holes"), 0);
}

#[test]
fn a_channel_with_a_hole_is_not_forgotten() {
    let mut world = World::with(&Limits { channels_max: 1, ..tiny() });
    world.follow(0, "C1", H1, 5);
    world.publish("C1", 7);
    world.unsubscribe(0, "C1", H1);
    for _ in 0..2_000 {
        world.publish("C2", 1);
    }
    assert_eq!(world.counted(Counter::ChannelsForgotten), 0);
    world.pass(50);
    let ask = world.asked_one("range C1 6..=6");
    world.range_is(ask, [6]);
    for _ in 0..2_000 {
        world.publish("C2", 1);
    }
    assert_eq!(world.counted(Counter::ChannelsForgotten), 1);
}

#[test]
fn a_channel_that_nobody_follows_is_asked_about_again_after_a_hole() {
    let mut world = World::open();
    world.follow(0, "C1", H1, 5);
    world.unsubscribe(0, "C1", H1);
    world.told(gateway(0));
    world.publish("C1", 6);
    world.follow(0, "C1", H1, 6);
    world.unsubscribe(0, "C1", H1);
    world.told(gateway(0));
    world.publish("C1", 9);
    world.subscribe(0, "C1", H2);
    let ask = world.asked_one("tip C1");
    world.tip_is(ask, 9);
    assert_eq!(world.told(gateway(0)), ["suback 2 tip 9"]);
}

#[test]
fn offsets_that_cannot_be_are_refused() {
    let mut world = followed();
    for offset in [0, 1 << 48, u64::MAX] {
        world.publish("C1", offset);
    }
    assert!(world.told(DISPATCHER).iter().all(|told| told.ends_with("unknown")));
    world.publish_in(MEMORY, "C1", 0, b"x");
    world.publish_in(MEMORY, "M1", 4, b"x");
    assert!(world.told(DISPATCHER).iter().all(|told| told.ends_with("unknown")));
    assert_eq!(world.counted(Counter::WireBroken), 5);
    assert_eq!(world.gauge("channels"), 1);
    // Nor does the source bring one over the edge.
    world.publish("C2", (1 << 48) - 1);
    world.follow(0, "C2", Handle(3), (1 << 48) - 1);
    world.publish("C2", 1 << 48);
    world.fetch(0, "C2", A1, u64::MAX);
    assert_eq!(world.told(gateway(0)), ["end 1 upto 281474976710655 complete"]);
}

#[test]
fn typing_is_for_those_who_follow_and_the_first_to_be_dropped() {
    let mut world = followed();
    world.up(gateway(2));
    world.subscribe(2, "C2", H1);
    for name in ["C1", "C2", "C3"] {
        let (slot, key) = (slot_of(name), SECRET.key_of(name));
        let (origin, payload) = (Origin::NOBODY, &b"t"[..]);
        world.say(gateway(0), &Message::Emit { slot, key, origin, payload });
    }
    assert!(world.said[&gateway(0)].iter().all(|(class, _)| *class == Class::Transient));
    assert_eq!(world.told(gateway(0)), ["event 1"]);
    assert_eq!(world.told(gateway(1)), ["event 2"]);
    assert!(world.told(gateway(2)).is_empty(), "it is not subscribed yet");
}
