//! A region drains: who is sent away, when, and who is not.

use super::*;
use crate::centrifuge::config;
use crate::ring::change::Cell;
use crate::ring::document::NodeEntry;
use crate::ring::drain::Pace;

/// `{"sub":"U1"}` under the secret below.
const TOKEN: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJVMSJ9.5WNio4XuwrWERPTLE7IaPWsO9USqwC7OQg2eep14R18";

fn limits() -> Limits {
    Limits {
        ping_interval: Duration::from_secs(10_000),
        connections_per_user_max: 2_000,
        ..Limits::DEFAULT
    }
}

/// The ring of the stage as an operator changes it.
struct Operator(Cell);

impl Operator {
    fn new() -> Self {
        let node = NodeEntry { id: ME.0, ..NodeEntry::new("one", "here:1", 1) };
        Self(Cell::new("story", vec![node]).expect("a ring"))
    }
    fn drains(&mut self, stage: &mut Stage, region: &str, pace: Pace) {
        self.0 = self.0.drain_region(region, pace).expect("drains");
        stage.input(Input::Ring { ring: &self.0.ring().expect("usable") });
    }
    fn restores(&mut self, stage: &mut Stage, region: &str) {
        self.0 = self.0.restore_region(region).expect("restored");
        stage.input(Input::Ring { ring: &self.0.ring().expect("usable") });
    }
}

/// Connections that were told this since the last look.
fn told(stage: &mut Stage, count: u32, what: &str) -> Vec<u32> {
    (0..count).filter(|index| stage.kinds(conn(*index)).iter().any(|one| one == what)).collect()
}

fn stage_of(count: u32) -> Stage {
    let mut stage = Stage::new(&limits());
    for index in 0..count {
        stage.connect(conn(index));
    }
    stage
}

#[test]
fn everybody_is_told_goodbye_evenly_over_the_seconds_and_closed_a_window_later() {
    let (mut stage, mut operator) = (stage_of(60), Operator::new());
    operator.drains(&mut stage, "eu", Pace::Seconds(30));
    assert_eq!(stage.gauge("connections_to_move") as u32, 60);
    let mut all = Vec::new();
    for second in 1..=30 {
        stage.pass(Duration::from_secs(1));
        let now = told(&mut stage, 60, "goodbye");
        assert_eq!(now.len(), 2, "two of sixty in second {second} of thirty");
        all.extend(now);
    }
    all.sort_unstable();
    assert_eq!(all, (0..60).collect::<Vec<_>>(), "each once");
    assert_eq!(stage.counted(Counter::ConnectionsMoved), 60);
    // The first were closed two seconds after their goodbye, the last are still served.
    assert!(stage.closed.len() >= 54 && stage.closed.len() < 60, "{}", stage.closed.len());
    stage.publish(1, Origin::NOBODY);
    assert!(stage.kinds(conn(59)).contains(&"message m1".to_string()));
    stage.pass(limits().move_window);
    assert_eq!(stage.kinds(conn(59)), ["close 1001 reconnect"]);
    assert_eq!(stage.closed.len(), 60);
}

#[test]
fn so_many_a_second_are_sent_away_and_another_pace_begins_at_once() {
    let (mut stage, mut operator) = (stage_of(50), Operator::new());
    operator.drains(&mut stage, "eu", Pace::PerSecond(2));
    stage.pass(Duration::from_secs(5));
    assert_eq!(stage.counted(Counter::ConnectionsMoved), 10);
    operator.drains(&mut stage, "eu", Pace::PerSecond(20));
    stage.pass(Duration::from_secs(1));
    assert_eq!(stage.counted(Counter::ConnectionsMoved), 30);
    stage.pass(Duration::from_secs(60));
    assert_eq!((stage.counted(Counter::ConnectionsMoved), stage.closed.len()), (50, 50));
}

#[test]
fn another_region_is_nobodys_business_and_a_restored_one_stops_in_the_middle() {
    let (mut stage, mut operator) = (stage_of(40), Operator::new());
    operator.drains(&mut stage, "us", Pace::Seconds(1));
    stage.pass(Duration::from_secs(5));
    assert_eq!(
        (stage.counted(Counter::ConnectionsMoved), stage.gauge("connections_to_move")),
        (0, 0.0)
    );
    operator.drains(&mut stage, "eu", Pace::Seconds(20));
    stage.pass(Duration::from_secs(10));
    operator.restores(&mut stage, "eu");
    stage.pass(Duration::from_secs(60));
    assert_eq!(stage.counted(Counter::ConnectionsMoved), 20);
    assert_eq!(stage.closed.len(), 20, "who was told goodbye goes");
    assert_eq!(told(&mut stage, 40, "goodbye").len(), 20);
    stage.publish(1, Origin::NOBODY);
    assert_eq!(told(&mut stage, 40, "message m1").len(), 20);
}

#[test]
fn who_comes_all_the_same_is_let_in_and_sent_on_after_a_rest() {
    let (mut stage, mut operator) = (stage_of(1), Operator::new());
    operator.drains(&mut stage, "eu", Pace::Seconds(2));
    stage.pass(Duration::from_secs(3));
    assert_eq!(stage.counted(Counter::ConnectionsMoved), 1);
    stage.connect(conn(1));
    stage.pass(limits().move_rest * 4 / 5);
    assert_eq!(stage.kinds(conn(1)), [] as [&str; 0], "it may stay for a while");
    stage.pass(limits().move_rest * 2);
    assert_eq!(stage.kinds(conn(1)), ["goodbye", "close 1001 reconnect"]);
    // A gateway that starts in a region that drains does the same.
    stage.input(Input::Closed { conn: conn(0), why: Why::Closed });
    stage.input(Input::Closed { conn: conn(1), why: Why::Closed });
    assert_eq!(stage.gateway.deadline(), None, "nobody is there, and nothing wakes the core");
}

#[test]
fn the_old_are_not_told_to_come_back_here() {
    let age = Duration::from_secs(60);
    let mut stage = Stage::new(&Limits { connection_age_max: age, ..limits() });
    stage.connect(conn(0));
    Operator::new().drains(&mut stage, "eu", Pace::Seconds(3_600));
    stage.pass(age + Duration::from_secs(2));
    assert_eq!(stage.kinds(conn(0)), ["goodbye"]);
    assert!(stage.heard(DESK).is_empty(), "no ticket for this gateway is asked for");
}

#[test]
fn a_guest_is_disconnected_with_a_code_on_which_it_comes_back() {
    let sections = serde_json::json!({ "client": { "token": { "hmac_secret_key": "secret" } } });
    let rules = Arc::new(config::read(sections).expect("a configuration").rules);
    let mut stage = Stage::with_rules(&limits(), rules);
    stage.knock(conn(0), "/connection/websocket");
    stage.say(conn(0), &format!(r#"{{"id":1,"connect":{{"token":"{TOKEN}"}}}}"#));
    // One that has not said who it is has a deadline of its own.
    stage.knock(conn(1), "/connection/websocket");
    stage.told(conn(0));
    Operator::new().drains(&mut stage, "eu", Pace::Seconds(1));
    stage.pass(Duration::from_millis(1_100));
    assert_eq!(stage.kinds(conn(0)), ["close 3011 force reconnect"]);
    assert_eq!((stage.closed.len(), stage.counted(Counter::ConnectionsMoved)), (1, 1));
}

#[test]
fn hello_names_the_region() {
    let mut stage = Stage::new(&limits());
    stage.knock(conn(0), "/websocket/t1");
    let [Message::Redeem { ask, .. }] = stage.heard(DESK)[..] else { panic!("a ticket") };
    let mut list = Vec::new();
    let channels = Packed::pack([("U1", 0u64)], &mut list);
    let (user, team, epoch) = ("U1", "T1", "e1");
    let boot = Message::Boot { ask, user, team, epoch, token: 1, flags: 0, channels };
    stage.hear(DESK, boot);
    let told = stage.told(conn(0));
    let [_, Told::Json(ref hello)] = told[..] else { panic!("hello: {told:?}") };
    assert_eq!((&hello["type"], &hello["region"]), (&"hello".into(), &"eu".into()));
}
