//! What clients say, and what they are told.

use super::*;

const HI: &str = r#"{"id":5,"type":"message","channel":"C1","text":"hi"}"#;

impl Stage {
    /// The number of the one post that the desk was given.
    fn posted(&self) -> (Ask, bool) {
        let [Message::Post { ask, user: "U1", channel: "C1", again, .. }] = self.heard(DESK)[..]
        else {
            panic!("one post: {:?}", self.heard(DESK))
        };
        (ask, again)
    }
}

#[test]
fn an_ack_fills_the_place_of_the_event_and_everybody_else_is_told_once() {
    let mut stage = Stage::new(&Limits::DEFAULT);
    stage.connect(conn(0));
    stage.connect(conn(1));
    stage.say(conn(0), HI);
    let (ask, again) = stage.posted();
    assert!(!again);
    stage.publish(1, Origin { life: LIFE, conn: conn(0) });
    stage.hear(DESK, Message::Posted { ask, offset: 1, ts: "1.000001", text: "hi" });
    assert_eq!(stage.kinds(conn(0)), ["ack hi 1"]);
    assert_eq!(stage.kinds(conn(1)), ["message m1"]);
    stage.hear(DESK, Message::Posted { ask, offset: 1, ts: "1.000001", text: "hi" });
    assert!(stage.kinds(conn(0)).is_empty(), "one answer to one question");
}

#[test]
fn a_later_holder_of_the_same_number_misses_nothing() {
    let mut stage = Stage::new(&Limits::DEFAULT);
    stage.connect(conn(1));
    stage.connect(conn(0));
    stage.input(Input::Closed { conn: conn(0), why: Why::Ended });
    let later = Conn::new(0, 0, 2);
    stage.connect(later);
    stage.publish(1, Origin { life: LIFE, conn: conn(0) });
    stage.publish(2, Origin { life: LIFE - 1, conn: later });
    assert_eq!(stage.kinds(later), ["message m1", "message m2"]);
}

#[test]
fn what_the_desk_did_not_answer_is_said_again_when_it_is_there_again() {
    let mut stage = Stage::new(&Limits::DEFAULT);
    stage.connect(conn(0));
    stage.say(conn(0), HI);
    stage.input(Input::PeerLost { peer: DESK });
    stage.said.clear();
    stage.say(conn(0), r#"{"id":6,"type":"message","channel":"C1","text":"two"}"#);
    assert_eq!(stage.kinds(conn(0)), ["refused 16"], "without a desk it is refused at once");
    stage.up(DESK, 2);
    let (ask, again) = stage.posted();
    assert!(again);
    stage.hear(DESK, Message::Posted { ask, offset: 1, ts: "1.000001", text: "hi" });
    assert_eq!(stage.kinds(conn(0)), ["ack hi 1"]);
}

#[test]
fn where_nobody_knows_the_outcome_the_connection_ends_with_that() {
    let mut stage = Stage::new(&Limits::DEFAULT);
    stage.connect(conn(0));
    stage.say(conn(0), HI);
    stage.pass(Limits::DEFAULT.ask_timeout + Duration::from_secs(1));
    assert_eq!(stage.kinds(conn(0)), ["refused 19", "close 4002 come back and resume"]);
}

#[test]
fn whoever_waits_for_no_ack_is_slowed_down() {
    let limits = Limits { asks_per_conn_max: 2, ..Limits::DEFAULT };
    let mut stage = Stage::new(&limits);
    stage.connect(conn(0));
    for _ in 0..3 {
        stage.say(conn(0), HI);
    }
    assert_eq!(stage.kinds(conn(0)), ["refused -1"]);
    assert_eq!(stage.heard(DESK).len(), 2);
}

#[test]
fn typing_goes_out_once_in_its_interval_and_not_to_strangers() {
    let mut stage = Stage::new(&Limits::DEFAULT);
    stage.connect(conn(0));
    let typing = r#"{"id":7,"type":"typing","channel":"C1"}"#;
    let emitted = |stage: &Stage| {
        stage.heard(CORE).iter().filter(|one| matches!(one, Message::Emit { .. })).count()
    };
    stage.say(conn(0), typing);
    stage.say(conn(0), typing);
    assert_eq!(emitted(&stage), 1);
    stage.pass(Limits::DEFAULT.typing_interval);
    stage.say(conn(0), typing);
    assert_eq!(emitted(&stage), 2);
    stage.say(conn(0), r#"{"id":8,"type":"typing","channel":"C9"}"#);
    assert_eq!(stage.kinds(conn(0)), ["refused 9"]);
}

#[test]
fn an_event_is_encoded_once_for_all_connections_of_a_core() {
    let mut stage = Stage::new(&Limits::DEFAULT);
    for index in 0..15 {
        stage.connect(conn(index));
    }
    let before = stage.counted(Counter::FramesEncoded);
    stage.publish(1, Origin::NOBODY);
    assert_eq!(stage.counted(Counter::FramesEncoded) - before, 1);
    assert_eq!(stage.counted(Counter::Deliveries), 15);
    assert!((0..15).all(|index| stage.kinds(conn(index)) == ["message m1"]));
}

#[test]
fn of_a_slow_reader_the_transient_is_dropped_first_and_then_it_is_let_go() {
    let mut stage = Stage::new(&Limits::DEFAULT);
    stage.connect(conn(0));
    stage.connect(conn(1));
    stage.stuck.push(conn(0));
    let typing = br#"{"type":"user_typing","channel":"C1","user":"U2"}"#;
    let mut offset = 0;
    while stage.counted(Counter::SlowEvicted) == 0 {
        offset += 1;
        assert!(offset < 20_000, "it is let go");
        stage.publish(offset, Origin::NOBODY);
        let event = Message::Event { handle: Handle(0), origin: Origin::NOBODY, payload: typing };
        stage.hear(CORE, event);
    }
    assert!(stage.counted(Counter::TransientsDropped) > 0);
    let others = stage.kinds(conn(1));
    let messages = others.iter().filter(|kind| kind.starts_with("message")).count();
    assert_eq!(messages as u64, offset, "nobody else misses anything");
    assert!(others.len() as u64 > offset, "nor the typing");
    stage.stuck.clear();
    stage.settle();
    let last = stage.kinds(conn(0)).pop();
    assert_eq!(last.as_deref(), Some("close 4002 come back and resume"));
}

#[test]
fn an_event_that_is_not_the_next_one_is_fetched_with_what_lies_before_it() {
    let mut stage = Stage::new(&Limits::DEFAULT);
    stage.connect(conn(0));
    stage.publish(1, Origin::NOBODY);
    stage.publish(4, Origin::NOBODY);
    assert_eq!(stage.kinds(conn(0)), ["message m1"], "never over a hole");
    let fetch = stage.heard(CORE).into_iter().find_map(|message| match message {
        Message::Fetch { ask, handle, after, .. } => Some((ask, handle, after)),
        _ => None,
    });
    let (ask, handle, after) = fetch.expect("what is missing is asked for");
    assert_eq!((handle, after), (Handle(0), 1));
    for offset in 2..=4 {
        let payload = format!(r#"{{"type":"message","channel":"C1","text":"m{offset}"}}"#);
        let (origin, payload) = (Origin::NOBODY, payload.as_bytes());
        stage.hear(CORE, Message::Past { ask, offset, origin, member: None, payload });
    }
    stage.hear(CORE, Message::PastEnd { ask, handle, upto: 4, complete: true, missing: 0 });
    stage.publish(5, Origin::NOBODY);
    assert_eq!(stage.kinds(conn(0)), ["message m2", "message m3", "message m4", "message m5"]);
}
