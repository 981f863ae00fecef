//! Stories of fetches: from the backlog, from the source, and with no room for the answer.

use super::*;

/// One link that follows C1, of which 1 to `tip` were published.
fn behind(tip: u64) -> World {
    let mut world = World::open();
    world.follow(0, "C1", H1, 0);
    for offset in 1..=tip {
        world.publish("C1", offset);
    }
    world.told(gateway(0));
    world
}

/// One link that follows C1, of which the backlog has nothing.
fn cold(tip: u64) -> World {
    let mut world = World::open();
    world.follow(0, "C1", H1, tip);
    world
}

#[test]
fn a_page_says_whether_the_next_thing_on_the_link_follows_it() {
    let mut world = behind(7);
    world.fetch(0, "C1", A1, 0);
    let pages = world.told(gateway(0));
    assert_eq!(
        pages,
        ["past 1: 1", "past 1: 2", "past 1: 3", "past 1: 4", "past 1: 5", "end 1 upto 5"]
    );
    world.fetch(0, "C1", A2, 5);
    assert_eq!(world.told(gateway(0)), ["past 2: 6", "past 2: 7", "end 2 upto 7 complete"]);
    world.room(gateway(0));
    world.publish("C1", 8);
    assert_eq!(world.told(gateway(0)), ["1: 8"]);
    world.fetch(0, "C1", A3, 8);
    assert_eq!(world.told(gateway(0)), ["end 3 upto 8 complete"]);
    world.fetch(0, "C1", A3, 99);
    assert_eq!(world.told(gateway(0)), ["end 3 upto 8 complete"]);
}

#[test]
fn a_page_ends_with_the_event_that_reaches_its_bytes() {
    let mut world = cold(0);
    for offset in 1..=3 {
        world.publish_in(DURABLE, "C1", offset, &[b'x'; 500]);
    }
    world.told(gateway(0));
    let (slot, key, name) = (slot_of("C1"), SECRET.key_of("C1"), "C1");
    for (bytes_max, last) in [(0, 1), (1, 1), (600, 2), (u32::MAX, 3)] {
        let (seat_epoch, handle, ask, after, count_max) = (EPOCH, H1, A1, 0, 100);
        world.say(
            gateway(0),
            &Message::Fetch {
                slot,
                seat_epoch,
                key,
                handle,
                ask,
                after,
                count_max,
                bytes_max,
                name,
            },
        );
        let told = world.told(gateway(0));
        assert_eq!(told.len(), last + 1, "{bytes_max} bytes: {told:?}");
        world.room(gateway(0));
    }
}

#[test]
fn what_the_backlog_does_not_have_comes_from_the_source() {
    let mut world = cold(7);
    world.fetch(0, "C1", A1, 3);
    let ask = world.asked_one("range C1 4..=7");
    world.range_is(ask, 4..=7);
    let all = ["past 1: 4", "past 1: 5", "past 1: 6", "past 1: 7", "end 1 upto 7 complete"];
    assert_eq!(world.told(gateway(0)), all);
}

#[test]
fn a_publication_during_the_answer_makes_it_incomplete() {
    let mut world = cold(7);
    world.fetch(0, "C1", A1, 5);
    let ask = world.asked_one("range C1 6..=7");
    world.event(ask, 6);
    world.publish("C1", 8);
    world.event(ask, 7);
    world.say(SOURCE, &Message::RangeEnd { ask, ok: true, upto: 7 });
    assert_eq!(world.told(gateway(0)), ["past 1: 6", "1: 8", "past 1: 7", "end 1 upto 7"]);
    world.fetch(0, "C1", A2, 7);
    assert_eq!(world.told(gateway(0)), ["past 2: 8", "end 2 upto 8 complete"]);
}

#[test]
fn what_nobody_has_any_more_is_told() {
    let mut world = cold(7);
    world.fetch(0, "C1", A1, 2);
    let ask = world.asked_one("range C1 3..=7");
    world.range_is(ask, 5..=7);
    let all = ["past 1: 5", "past 1: 6", "past 1: 7", "end 1 upto 7 complete missing 4"];
    assert_eq!(world.told(gateway(0)), all);
}

#[test]
fn a_gap_in_the_middle_ends_the_page_before_it() {
    let mut world = cold(7);
    world.fetch(0, "C1", A1, 2);
    let ask = world.asked_one("range C1 3..=7");
    world.range_is(ask, [3, 5, 6, 7]);
    assert_eq!(world.told(gateway(0)), ["past 1: 3", "end 1 upto 3"]);
    world.fetch(0, "C1", A2, 3);
    let ask = world.asked_one("range C1 4..=7");
    world.range_is(ask, 5..=7);
    let all = ["past 2: 5", "past 2: 6", "past 2: 7", "end 2 upto 7 complete missing 4"];
    assert_eq!(world.told(gateway(0)), all);
}

#[test]
fn what_was_not_asked_for_is_not_passed_on() {
    let mut world = cold(9);
    world.fetch_page(0, "C1", A1, 2, 3);
    let ask = world.asked_one("range C1 3..=5");
    world.range_is(ask, [2, 3, 3, 4, 5, 6]);
    let all = ["past 1: 3", "past 1: 4", "past 1: 5", "end 1 upto 5"];
    assert_eq!(world.told(gateway(0)), all);
}

#[test]
fn an_answer_that_breaks_off_counts_as_far_as_it_came() {
    let mut world = cold(7);
    for ask in [A1, A2, A3] {
        world.fetch_page(0, "C1", ask, 3, 3);
    }
    let asked = world.asked();
    world.event(asked[0].0, 4);
    world.say(SOURCE, &Message::RangeEnd { ask: asked[0].0, ok: false, upto: 0 });
    assert_eq!(world.told(gateway(0)), ["past 1: 4", "end 1 upto 4"]);
    world.event(asked[1].0, 4);
    world.pass(10_000);
    let told = world.told(gateway(0));
    assert_eq!(told, ["past 2: 4", "end 2 upto 4", "refused 3"]);
    world.range_is(asked[1].0, 4..=7);
    assert!(world.told(gateway(0)).is_empty(), "too late");
}

#[test]
fn without_the_source_a_fetch_is_refused_at_once() {
    let mut world = cold(7);
    for ask in [A1, A2] {
        world.fetch(0, "C1", ask, 3);
    }
    world.lost(SOURCE);
    assert_eq!(world.told(gateway(0)), ["refused 2", "refused 1"]);
    world.fetch(0, "C1", A3, 3);
    assert_eq!(world.told(gateway(0)), ["refused 3"]);
    world.fetch(0, "C2", A3, 3);
    assert_eq!(world.told(gateway(0)), ["refused 3"], "nobody follows it");
    assert_eq!(world.counted(Counter::FetchesRefused), 4);
    world.publish("C1", 8);
    world.fetch(0, "C1", A1, 7);
    assert_eq!(world.told(gateway(0)), ["1: 8", "past 1: 8", "end 1 upto 8 complete"]);
}

#[test]
fn pages_wait_for_room_on_their_link_in_order() {
    let mut world = behind(9);
    // Of a grant of 12 messages a page takes 6: the events and the end.
    for ask in [A1, A2, A3, Ask(4)] {
        world.fetch(0, "C1", ask, 0);
    }
    assert_eq!(world.told(gateway(0)).len(), 12, "two pages");
    assert_eq!(world.gauge("fetches_parked"), 2);
    world.follow(1, "C1", H2, 9);
    world.fetch(1, "C1", A1, 8);
    assert_eq!(
        world.told(gateway(1)),
        ["past 1: 9", "end 1 upto 9 complete"],
        "it has its own room"
    );
    world.room(gateway(0));
    let told = world.told(gateway(0));
    assert_eq!(
        (told.len(), told[5].as_str(), told[11].as_str()),
        (12, "end 3 upto 5", "end 4 upto 5")
    );
    world.room(gateway(0));
    assert!(world.told(gateway(0)).is_empty());
}

#[test]
fn fetches_that_find_no_place_to_wait_are_refused() {
    let mut world = behind(9);
    for ask in 1..=7 {
        world.fetch(0, "C1", Ask(ask), 0);
    }
    assert_eq!(world.told(gateway(0)).last().map(String::as_str), Some("refused 7"));
    assert_eq!(world.gauge("fetches_parked"), 4);
    world.lost(gateway(0));
    assert_eq!(world.gauge("fetches_parked"), 0);
}

#[test]
fn an_answer_that_needs_less_than_was_kept_for_it_makes_room() {
    let mut world = cold(7);
    for ask in [A1, A2, A3] {
        world.fetch(0, "C1", ask, 3);
    }
    let asked = world.asked();
    assert_eq!((asked.len(), world.gauge("fetches_parked")), (2, 1));
    // Nothing was sent as bulk, so that no `PeerRoom` will ever come.
    world.say(SOURCE, &Message::RangeEnd { ask: asked[0].0, ok: false, upto: 0 });
    assert_eq!(world.told(gateway(0)), ["refused 1"]);
    world.asked_one("range C1 4..=7");
    assert_eq!(world.gauge("fetches_parked"), 0);
}

#[test]
fn fetches_wait_for_the_source_too_and_do_not_hold_up_others() {
    let mut world = World::with(&Limits { links_max: 8, ..tiny() });
    for core in 0..5 {
        world.up(gateway(core));
        world.follow(core, "C1", H1, 7);
    }
    for core in 0..5 {
        world.fetch(core, "C1", A1, 3);
    }
    let asked = world.asked();
    assert_eq!((asked.len(), world.gauge("fetches_parked")), (3, 2), "so many questions");
    world.subscribe(0, "C2", H2);
    world.asked_one("tip C2");
    world.range_is(asked[0].0, 4..=7);
    assert_eq!(world.told(gateway(0)).len(), 5);
    world.asked_one("range C1 4..=7");
    world.lost(gateway(4));
    world.range_is(asked[1].0, 4..=7);
    assert!(world.asked().is_empty(), "who waited is gone");
    assert_eq!(world.gauge("fetches_parked"), 0);
}

#[test]
fn an_answer_never_reaches_a_later_life_of_a_link() {
    let mut world = World::open();
    world.follow(0, "C1", H1, 7);
    world.fetch(0, "C1", A1, 3);
    let ask = world.asked_one("range C1 4..=7");
    world.event(ask, 4);
    assert_eq!(world.told(gateway(0)), ["past 1: 4"]);
    world.lost(gateway(0));
    world.settle();
    // The number is free, and somebody else has it now.
    world.up(gateway(2));
    world.follow(2, "C1", H1, 7);
    assert_eq!(world.gauge("interest_links"), 1);
    for ask in [A1, A2] {
        world.fetch(2, "C1", ask, 3);
    }
    let asked = world.asked();
    world.range_is(ask, 4..=7);
    assert!(world.told(gateway(2)).is_empty());
    world.fetch(2, "C1", A3, 3);
    assert!(world.asked().is_empty(), "nor did its end give back what others had reserved");
    world.range_is(asked[0].0, 4..=7);
    assert_eq!(world.told(gateway(2)).len(), 5);
}

#[test]
fn a_name_that_no_channel_can_have_is_refused_everywhere() {
    let mut world = World::open();
    let long = "C".repeat(256);
    world.subscribe(0, &long, H1);
    world.fetch(0, &long, A1, 0);
    world.publish(&long, 1);
    // Nor is a fetch of a known channel passed on with it.
    world.follow_quietly(0, "C1", H2, 7);
    let (slot, key, name) = (slot_of("C1"), SECRET.key_of("C1"), long.as_str());
    let (seat_epoch, handle, ask) = (EPOCH, H2, A2);
    let (after, count_max, bytes_max) = (3, 5, 100);
    world.say(
        gateway(0),
        &Message::Fetch { slot, seat_epoch, key, handle, ask, after, count_max, bytes_max, name },
    );
    let told = world.told(gateway(0));
    assert_eq!(told, ["subnack 1 unknown", "refused 1", "suback 2 tip 7", "refused 2"]);
    assert_eq!(world.told(DISPATCHER), ["not 1 unknown"]);
    assert!(world.asked().is_empty());
}
