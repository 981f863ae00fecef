//! Stories of memory channels: their offsets are given here, and what is gone is told.

use super::*;

fn publish(world: &mut World, name: &str) {
    world.publish_in(MEMORY, name, 0, b"x");
}

#[test]
fn the_owner_counts_and_asks_nobody() {
    let mut world = World::open();
    world.subscribe_in(0, MEMORY, "M1", H1);
    assert_eq!(world.told(gateway(0)), ["suback 1 tip 0 memory"]);
    publish(&mut world, "M1");
    publish(&mut world, "M1");
    assert_eq!(world.told(DISPATCHER), ["accepted 0 at 1", "accepted 0 at 2"]);
    assert_eq!(world.told(gateway(0)), ["1: 1", "1: 2"]);
    world.fetch(0, "M1", A1, 0);
    let all = ["past 1: 1", "past 1: 2", "end 1 upto 2 complete"];
    assert_eq!(world.told(gateway(0)), all);
    assert!(world.asked().is_empty());
}

#[test]
fn what_the_backlog_lost_nobody_has() {
    let mut world = World::open();
    world.subscribe_in(0, MEMORY, "M1", H1);
    for _ in 0..100 {
        publish(&mut world, "M1");
    }
    world.told(gateway(0));
    world.fetch(0, "M1", A1, 2);
    let told = world.told(gateway(0));
    // 4 KiB have room for 64 records of 56 bytes and some.
    let first = told[0].strip_prefix("past 1: ").and_then(|offset| offset.parse::<u64>().ok());
    let first = first.expect("some are left");
    assert!((20..90).contains(&first), "{told:?}");
    let end = format!("end 1 upto {} missing {}", first + 4, first - 1);
    assert_eq!(told.last(), Some(&end));
    // Another channel takes the whole backlog.
    for _ in 0..100 {
        publish(&mut world, "M2");
    }
    world.room(gateway(0));
    world.fetch(0, "M1", A2, 98);
    assert_eq!(world.told(gateway(0)), ["end 2 upto 100 complete missing 100"]);
    world.fetch(0, "M1", A3, 100);
    assert_eq!(world.told(gateway(0)), ["end 3 upto 100 complete"]);
    assert!(world.asked().is_empty());
}

#[test]
fn a_forgotten_channel_goes_on_above_where_it_was() {
    let limits = Limits { channels_max: 1, ..tiny() };
    let mut world = World::with(&limits);
    for _ in 0..7 {
        publish(&mut world, "M1");
    }
    for _ in 0..2_000 {
        publish(&mut world, "M2");
    }
    assert_eq!(world.counted(Counter::ChannelsForgotten), 1);
    world.told(DISPATCHER);
    for _ in 0..2_000 {
        world.subscribe_in(0, MEMORY, "M1", H1);
        if world.told(gateway(0)) == ["suback 1 tip 7 memory"] {
            break;
        }
    }
    publish(&mut world, "M1");
    assert_eq!(world.told(gateway(0)), ["1: 8"]);
    world.fetch(0, "M1", A1, 5);
    assert_eq!(world.told(gateway(0)), ["past 1: 8", "end 1 upto 8 complete missing 7"]);
}

#[test]
fn a_full_table_refuses_what_nobody_else_has() {
    let limits = Limits { channels_max: 1, ..tiny() };
    let mut world = World::with(&limits);
    world.subscribe_in(0, MEMORY, "M1", H1);
    publish(&mut world, "M2");
    assert_eq!(world.told(DISPATCHER), ["not 0 full"]);
}

#[test]
fn every_slot_of_every_process_has_an_epoch_of_its_own() {
    let mut epochs = std::collections::BTreeSet::new();
    for seed in 0..4 {
        let mut world = World::open();
        world.owner = Owner::new(ME, 0, SOURCE, seed, &world.limits);
        world.input(Input::Ring { ring: &Ring::new(&[(ME, CORES)]) });
        world.up(gateway(0));
        for n in 0..8 {
            world.subscribe_in(0, MEMORY, &format!("M{n}"), Handle(n));
        }
        for (_, bytes) in world.said.remove(&gateway(0)).expect("eight answers") {
            let Ok(Message::Suback { epoch, .. }) = Message::decode(&bytes) else { panic!() };
            assert!(epoch != 0 && epochs.insert(epoch), "an epoch twice");
        }
    }
}

#[test]
fn a_name_is_in_one_namespace() {
    let mut world = World::open();
    world.subscribe_in(0, MEMORY, "M1", H1);
    world.subscribe_in(1, DURABLE, "M1", H2);
    assert_eq!(world.told(gateway(1)), ["subnack 2 unknown"]);
    world.publish("M1", 5);
    assert_eq!(world.told(DISPATCHER), ["not 5 unknown"]);
}
