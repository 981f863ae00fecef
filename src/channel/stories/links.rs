//! Stories of links: lives, sweeps, and rings that change.

use super::*;
use crate::limits::TALLIES_WRONG_MAX;
use crate::wire::tally::Tally;

#[test]
fn a_life_that_wanted_nothing_costs_no_sweep() {
    let mut world = World::open();
    for _ in 0..1_000 {
        world.up(gateway(0));
        world.fetch(0, "C1", A1, 0);
        world.lost(gateway(0));
    }
    assert_eq!((world.settle(), world.gauge("interest_links")), (1, 0));
}

#[test]
fn lives_that_end_faster_than_they_are_swept_are_asked_to_try_again() {
    let mut world = World::open();
    for n in 0..60 {
        world.follow(1, &format!("C{n}"), Handle(n), 1);
    }
    let mut refused = 0;
    for _ in 0..50 {
        world.up(gateway(0));
        world.subscribe(0, "C1", H1);
        match world.told(gateway(0)).as_slice() {
            [one] if one == "suback 1 tip 1" => {}
            [one] if one == "subnack 1 retry" => refused += 1,
            other => panic!("{other:?}"),
        }
        world.fetch(0, "C1", A1, 0);
        world.unsubscribe(0, "C1", H2);
        assert!(world.told(gateway(0)).contains(&"unsuback 2".to_string()));
        world.lost(gateway(0));
    }
    assert_eq!(refused, 47, "three numbers beside that of the other link");
    world.up(gateway(0));
    world.settle();
    assert_eq!(world.gauge("interest_links"), 1);
    world.subscribe(0, "C1", H1);
    assert_eq!(world.told(gateway(0)), ["suback 1 tip 1"], "a number is taken when it is needed");
    world.publish("C1", 2);
    assert_eq!(world.told(gateway(0)), ["1: 2"]);
    assert_eq!(world.told(gateway(1)).last().map(String::as_str), Some("1: 2"));
}

#[test]
fn a_sweep_takes_away_what_is_gone_and_nothing_else() {
    let limits = Limits { channels_max: 3_000, links_max: 20, ..tiny() };
    let mut world = World::with(&limits);
    for core in 0..8 {
        world.up(gateway(core));
    }
    for n in 0..2_000u32 {
        for core in 0..8 {
            // Some channels have a list, some not.
            if n % 8 <= u32::from(core) || n % 16 == 9 {
                world.follow(core, &format!("C{n}"), Handle(n), 1);
            }
        }
    }
    let lists = world.gauge("interest_lists_bytes");
    assert!(lists > 0);
    for core in [7, 3, 5] {
        world.lost(gateway(core));
    }
    // A link that is lost while a sweep is on its way waits for the next.
    let mut out = Effects::default();
    assert!(world.owner.advance(world.now, Budget { units: 1 }, &mut out));
    world.lost(gateway(6));
    world.up(gateway(7));
    world.follow(7, "C9", Handle(99), 1);
    let turns = world.settle();
    assert!(turns > 30, "some places at a time: {turns} turns");
    assert_eq!(world.gauge("interest_links"), 5);
    world.publish("C9", 2);
    world.publish("C8", 2);
    for core in 0..8 {
        let expected: &[&str] = match core {
            0..=2 | 4 => &["9: 2", "8: 2"],
            7 => &["99: 2"],
            _ => &[],
        };
        let told = world.told(gateway(core));
        assert_eq!(told, expected, "core {core}");
    }
    for core in [0, 1, 2, 4, 7] {
        world.lost(gateway(core));
    }
    world.settle();
    assert_eq!(world.gauge("interest_links"), 0);
    assert_eq!(
        world.gauge("interest_lists_bytes"),
        lists,
        "no list was lost: all can be used again"
    );
}

#[test]
fn a_sweep_ends_when_nothing_is_left_of_who_is_gone() {
    let limits = Limits { channels_max: 5_000, ..tiny() };
    let mut world = World::with(&limits);
    world.follow(0, "C0", H1, 1);
    for n in 1..4_000 {
        world.publish(&format!("C{n}"), 1);
    }
    world.lost(gateway(0));
    assert_eq!(world.settle(), 1, "its one interest was among the first");
}

#[test]
fn a_slot_that_went_away_is_opened_anew_and_who_was_subscribed_is_told() {
    let mut world = World::open();
    world.follow(0, "C1", H1, 5);
    world.subscribe(1, "C2", H2);
    let old = world.asked_one("tip C2");
    world.publish("C1", 9);
    let mine = Ring::new(&[(ME, CORES)]);
    let mut moved = Ring::new(&[(ME, CORES)]);
    for row in &mut moved.seats {
        row.seat_epoch += 1;
    }
    world.input(Input::Ring { ring: &mine });
    assert!(world.reset.is_empty(), "the same ring changes nothing");
    world.input(Input::Ring { ring: &moved });
    assert_eq!((world.gauge("channel_openings"), world.gauge("channel_holes")), (0, 0));
    world.settle();
    assert_eq!(world.told(gateway(0)), ["subnack 1 moved"]);
    assert_eq!(world.told(gateway(1)), ["subnack 2 moved"]);
    assert!(world.reset.is_empty(), "other channels of these links go on");
    assert_eq!(world.gauge("channels"), 0);
    world.subscribe(0, "C1", H1);
    assert_eq!(world.told(gateway(0)), ["subnack 1 stale"]);
    let (slot, key) = (slot_of("C2"), SECRET.key_of("C2"));
    let (seat_epoch, handle, namespace, name) = (EPOCH + 1, H1, DURABLE, "C2");
    world.say(gateway(0), &Message::Subscribe { slot, seat_epoch, key, handle, namespace, name });
    let new = world.asked_one("tip C2");
    world.tip_is(old, 3);
    assert!(world.told(gateway(0)).is_empty(), "an answer of before proves nothing now");
    world.tip_is(new, 4);
    assert_eq!(world.told(gateway(0)), ["suback 1 tip 4"]);
}

#[test]
fn strangers_are_not_subscribed() {
    let mut world = World::open();
    let (slot, key) = (slot_of("C1"), SECRET.key_of("C1"));
    let (seat_epoch, handle, namespace, name) = (EPOCH, H1, DURABLE, "C1");
    let subscribe = Message::Subscribe { slot, seat_epoch, key, handle, namespace, name };
    world.say(DISPATCHER, &subscribe);
    assert_eq!(world.told(DISPATCHER), ["subnack 1 retry"]);
    world.say(gateway(9), &subscribe);
    assert_eq!(world.gauge("channels"), 0);
    world.say(gateway(0), &Message::TipIs { ask: A1, found: true, tip: 1 });
    world.say(gateway(0), &Message::RangeEnd { ask: A1, ok: true, upto: 1 });
    assert_eq!(world.counted(Counter::WireBroken), 2, "only the source answers for the source");
}

#[test]
fn a_core_that_counts_other_subscriptions_than_we_know_begins_anew() {
    let mut world = World::open();
    let mut theirs = Tally::default();
    let key = |n: u32| SECRET.key_of(&format!("C{n}"));
    for n in 0..5 {
        world.follow(0, &format!("C{n}"), Handle(n), 1);
        theirs.add(key(n), Handle(n));
    }
    let mut lost = theirs;
    lost.remove(key(3), Handle(3));
    let ring_epoch = world.owner.ring().expect("there is one").ring_epoch;
    let says = |world: &mut World, ring_epoch: u64, Tally { count, sum }, times: u8| {
        for _ in 0..times {
            world.say(gateway(0), &Message::Tally { ring_epoch, count, sum });
        }
    };
    says(&mut world, ring_epoch, theirs, 10);
    // Something may be under way once or twice, and as long as the ring is another one.
    says(&mut world, ring_epoch, lost, TALLIES_WRONG_MAX - 1);
    says(&mut world, ring_epoch, theirs, 1);
    says(&mut world, ring_epoch + 1, lost, 10);
    says(&mut world, ring_epoch, lost, TALLIES_WRONG_MAX - 1);
    // It is told of something that it does not know yet.
    world.subscribe(0, &"x".repeat(300), Handle(9));
    assert_eq!(world.told(gateway(0)), ["subnack 9 unknown"]);
    says(&mut world, ring_epoch, lost, TALLIES_WRONG_MAX);
    assert_eq!(world.reset, []);
    says(&mut world, ring_epoch, lost, 1);
    assert_eq!((world.reset.as_slice(), world.counted["tallies_wrong"]), (&[gateway(0)][..], 1));
    // As many, and others.
    world.lost(gateway(0));
    world.up(gateway(0));
    world.settle();
    world.follow(0, "C1", Handle(1), 1);
    let mut other = Tally::default();
    other.add(key(2), Handle(1));
    says(&mut world, ring_epoch, other, TALLIES_WRONG_MAX);
    assert_eq!(world.reset.len(), 2);
}
