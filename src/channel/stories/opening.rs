//! Stories of subscriptions: I14, and everything that may happen between the question and its answer.

use super::*;

#[test]
fn a_subscriber_is_answered_when_the_source_told_the_tip() {
    let mut world = World::open();
    world.subscribe(0, "C1", H1);
    assert!(world.told(gateway(0)).is_empty(), "not before");
    let ask = world.asked_one("tip C1");
    world.tip_is(ask, 7);
    assert_eq!(world.told(gateway(0)), ["suback 1 tip 7"]);
    world.subscribe(1, "C1", H2);
    assert_eq!(world.told(gateway(1)), ["suback 2 tip 7"]);
    assert!(world.asked().is_empty(), "the owner knows it now");
}

#[test]
fn all_who_wait_are_answered_by_one_question() {
    let mut world = World::open();
    world.up(gateway(2));
    for core in 0..3 {
        world.subscribe(core, "C1", Handle(u32::from(core)));
    }
    let ask = world.asked_one("tip C1");
    world.tip_is(ask, 7);
    for core in 0..3 {
        assert_eq!(world.told(gateway(core)), [format!("suback {core} tip 7")]);
    }
    world.publish("C1", 8);
    for core in 0..3 {
        assert_eq!(world.told(gateway(core)), [format!("{core}: 8")]);
    }
}

#[test]
fn a_publication_that_overtakes_the_answer_is_in_the_tip_and_not_sent() {
    let mut world = World::open();
    world.subscribe(0, "C1", H1);
    let ask = world.asked_one("tip C1");
    world.publish("C1", 8);
    world.publish("C1", 9);
    assert!(world.told(gateway(0)).is_empty(), "it does not know where it stands yet");
    world.tip_is(ask, 7);
    assert_eq!(world.told(gateway(0)), ["suback 1 tip 9"]);
    world.publish("C1", 10);
    assert_eq!(world.told(gateway(0)), ["1: 10"]);
    world.fetch(0, "C1", A1, 7);
    assert_eq!(
        world.told(gateway(0)),
        ["past 1: 8", "past 1: 9", "past 1: 10", "end 1 upto 10 complete"]
    );
}

#[test]
fn a_tip_above_what_was_published_makes_the_late_ones_duplicates() {
    let mut world = World::open();
    world.publish("C1", 5);
    world.subscribe(0, "C1", H1);
    let ask = world.asked_one("tip C1");
    world.tip_is(ask, 7);
    assert_eq!(world.told(gateway(0)), ["suback 1 tip 7"]);
    world.told(DISPATCHER);
    world.publish("C1", 6);
    world.publish("C1", 7);
    assert_eq!(world.told(DISPATCHER), ["accepted 6 at 6", "accepted 7 at 7"]);
    assert!(world.told(gateway(0)).is_empty(), "below its tip: it fetches them");
    world.publish("C1", 8);
    assert_eq!(world.told(gateway(0)), ["1: 8"]);
    assert_eq!(world.counted(Counter::PublicationsDuplicate), 2);
    world.fetch(0, "C1", A1, 4);
    world.asked_one("range C1 5..=8");
}

#[test]
fn an_unknown_channel_leaves_nothing_behind() {
    let mut world = World::open();
    world.subscribe(0, "C1", H1);
    world.subscribe(1, "C1", H2);
    let ask = world.asked_one("tip C1");
    assert_eq!(world.gauge("channels"), 1);
    world.say(SOURCE, &Message::TipIs { ask, found: false, tip: 0 });
    assert_eq!(world.told(gateway(0)), ["subnack 1 unknown"]);
    assert_eq!(world.told(gateway(1)), ["subnack 2 unknown"]);
    assert_eq!((world.gauge("channels"), world.gauge("channel_openings")), (0, 0));
    // And its interests are not counted any more: the link's number is free at once.
    world.lost(gateway(0));
    world.lost(gateway(1));
    assert_eq!(world.gauge("interest_links"), 0);
}

#[test]
fn a_channel_with_publications_exists_whatever_an_older_read_says() {
    let mut world = World::open();
    world.subscribe(0, "C1", H1);
    let ask = world.asked_one("tip C1");
    world.publish("C1", 1);
    world.say(SOURCE, &Message::TipIs { ask, found: false, tip: 0 });
    assert_eq!(world.told(gateway(0)), ["suback 1 tip 1"]);
}

#[test]
fn who_unsubscribes_while_the_channel_opens_hears_no_more() {
    let mut world = World::open();
    world.subscribe(0, "C1", H1);
    world.subscribe(1, "C1", H2);
    let ask = world.asked_one("tip C1");
    world.unsubscribe(0, "C1", H1);
    assert_eq!(world.told(gateway(0)), ["unsuback 1"]);
    world.tip_is(ask, 7);
    assert!(world.told(gateway(0)).is_empty());
    assert_eq!(world.told(gateway(1)), ["suback 2 tip 7"]);
    world.publish("C1", 8);
    assert!(world.told(gateway(0)).is_empty());
}

#[test]
fn who_comes_back_while_the_channel_opens_is_answered_by_its_newest_handle() {
    let mut world = World::open();
    world.subscribe(0, "C1", H1);
    let ask = world.asked_one("tip C1");
    world.unsubscribe(0, "C1", H1);
    world.subscribe(0, "C1", H2);
    world.unsubscribe(0, "C1", H1);
    world.tip_is(ask, 7);
    assert_eq!(world.told(gateway(0)), ["unsuback 1", "unsuback 1", "suback 2 tip 7"]);
}

#[test]
fn nobody_is_asked_for_whom_nobody_waits() {
    let mut world = World::new(&tiny());
    world.up(gateway(0));
    world.subscribe(0, "C1", H1);
    world.subscribe(0, "C2", H2);
    world.unsubscribe(0, "C1", H1);
    world.up(SOURCE);
    world.asked_one("tip C2");
    assert_eq!((world.gauge("channels"), world.gauge("channel_openings")), (1, 1));
}

#[test]
fn a_lost_link_takes_its_wishes_along_and_the_next_life_is_answered() {
    let mut world = World::open();
    world.subscribe(0, "C1", H1);
    let ask = world.asked_one("tip C1");
    world.lost(gateway(0));
    world.up(gateway(0));
    world.subscribe(0, "C1", H2);
    assert!(world.asked().is_empty(), "asked already");
    world.tip_is(ask, 7);
    assert_eq!(world.told(gateway(0)), ["suback 2 tip 7"]);
    world.settle();
    world.publish("C1", 8);
    assert_eq!(world.told(gateway(0)), ["2: 8"]);
}

#[test]
fn a_question_without_an_answer_is_asked_again_and_the_late_answer_ignored() {
    let mut world = World::open();
    world.subscribe(0, "C1", H1);
    let first = world.asked_one("tip C1");
    world.pass(9_999);
    assert!(world.asked().is_empty());
    world.pass(1);
    let second = world.asked_one("tip C1");
    assert_eq!(world.counted(Counter::QuestionsRepeated), 1);
    world.tip_is(first, 3);
    assert!(world.told(gateway(0)).is_empty());
    world.tip_is(second, 7);
    assert_eq!(world.told(gateway(0)), ["suback 1 tip 7"]);
    world.pass(60_000);
    assert!(world.asked().is_empty());
}

#[test]
fn while_the_source_is_away_subscribers_wait() {
    let mut world = World::open();
    for (name, handle) in [("C1", H1), ("C2", H2)] {
        world.subscribe(0, name, handle);
    }
    assert_eq!(world.asked().len(), 2);
    world.lost(SOURCE);
    world.subscribe(0, "C3", Handle(3));
    world.pass(3_600_000);
    assert!(world.asked().is_empty() && world.told(gateway(0)).is_empty());
    world.up(SOURCE);
    let asked = world.asked();
    let texts: Vec<&str> = asked.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(texts, ["tip C1", "tip C2", "tip C3"], "in the order in which they were asked");
    for (ask, _) in asked {
        world.tip_is(ask, 1);
    }
    assert_eq!(world.told(gateway(0)).len(), 3);
}

#[test]
fn thousands_of_openings_are_asked_a_few_at_a_time() {
    let limits = Limits {
        channels_max: 5_000,
        openings_max: 4_000,
        questions_max: 100,
        bulk_messages_per_room: 40,
        mail_messages_max: 560,
        ..tiny()
    };
    let mut world = World::with(&limits);
    for n in 0..4_000 {
        world.subscribe(0, &format!("C{n}"), Handle(n));
    }
    let (mut told, mut rooms) = (0, 0);
    let mut open = Vec::new();
    while told < 4_000 {
        let asked = world.asked();
        assert!(asked.len() <= 40, "of one room");
        open.extend(asked);
        assert!(open.len() <= 100, "what is not answered yet");
        // The source has taken what was sent, and answers half of it.
        world.room(SOURCE);
        rooms += 1;
        for (ask, _) in open.drain(..open.len().div_ceil(2)) {
            world.tip_is(ask, 1);
        }
        told += world.told(gateway(0)).len();
        assert!(rooms < 1_000);
    }
    assert!(rooms >= 4_000 / 40 / 2, "{rooms} rooms");
    assert_eq!((told, world.gauge("channel_openings")), (4_000, 0));
}

#[test]
fn who_finds_no_room_among_the_openings_tries_again() {
    let mut world = World::open();
    for n in 0..8 {
        world.subscribe(0, &format!("C{n}"), Handle(n));
    }
    world.subscribe(0, "C8", Handle(8));
    assert_eq!(world.told(gateway(0)), ["subnack 8 retry"]);
    assert_eq!((world.gauge("channels"), world.counted(Counter::SubscribesShed)), (8, 1));
    world.subscribe(1, "C7", H1);
    assert!(world.told(gateway(1)).is_empty(), "an opening takes any number of subscribers");
    let (ask, _) = world.asked()[0].clone();
    world.tip_is(ask, 1);
    world.subscribe(0, "C8", Handle(8));
    assert_eq!(world.told(gateway(0)), ["suback 0 tip 1"]);
}

#[test]
fn a_full_table_forgets_whom_nobody_wants_before_it_refuses() {
    let limits = Limits { channels_max: 4, ..tiny() };
    let mut world = World::with(&limits);
    for n in 0..3 {
        world.follow(0, &format!("C{n}"), Handle(n), 1);
    }
    world.publish("C3", 9);
    world.subscribe(0, "C4", Handle(4));
    // A search looks at some slots only; whoever is refused comes again.
    for _ in 0..2_000 {
        if world.told(gateway(0)) == ["subnack 4 full"] {
            world.subscribe(0, "C4", Handle(4));
        }
    }
    assert_eq!(world.counted(Counter::ChannelsForgotten), 1);
    let ask = world.asked_one("tip C4");
    world.tip_is(ask, 2);
    assert_eq!(world.told(gateway(0)), ["suback 4 tip 2"]);
    world.subscribe(0, "C5", Handle(5));
    assert_eq!(world.told(gateway(0)), ["subnack 5 full"], "all are wanted");
    world.told(DISPATCHER);
    world.publish("C5", 3);
    assert_eq!(world.told(DISPATCHER), ["accepted 3 at 3"], "the source has it");
    assert_eq!(world.gauge("channels"), 4);
}

#[test]
fn only_the_owner_by_the_same_ring_answers() {
    let mut world = World::new(&tiny());
    world.up(gateway(0));
    world.up(SOURCE);
    let (slot, key) = (slot_of("C1"), SECRET.key_of("C1"));
    for (seat_epoch, why) in [(0, "stale"), (2, "retry")] {
        let (namespace, name, handle) = (DURABLE, "C1", H1);
        world.say(
            gateway(0),
            &Message::Subscribe { slot, seat_epoch, key, handle, namespace, name },
        );
        assert_eq!(world.told(gateway(0)), [format!("subnack 1 {why}")]);
        let (ask, origin, member, payload) = (A1, Origin::NOBODY, None, &b"x"[..]);
        world.say(
            DISPATCHER,
            &Message::Publish {
                slot,
                seat_epoch,
                key,
                ask,
                namespace,
                offset: 1,
                origin,
                member,
                terms: Terms::default(),
                name,
                payload,
            },
        );
        assert_eq!(world.told(DISPATCHER), [format!("not 1 {why}")]);
    }
    assert_eq!((world.gauge("channels"), world.asked().len()), (0, 0), "nothing changed");
    world.input(Input::Ring { ring: &Ring::new(&[(NodeId(9), 1)]) });
    world.subscribe(0, "C1", H1);
    assert_eq!(world.told(gateway(0)), ["subnack 1 moved"]);
}

#[test]
fn a_tip_that_no_offset_can_have_is_not_believed() {
    let mut world = World::open();
    world.subscribe(0, "C1", H1);
    let ask = world.asked_one("tip C1");
    world.tip_is(ask, 1 << 48);
    assert_eq!(world.told(gateway(0)), ["subnack 1 retry"]);
    assert_eq!(world.gauge("channels"), 0);
}
