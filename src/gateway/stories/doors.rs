//! How connections begin and end.

use super::*;

#[test]
fn whoever_asks_for_something_else_is_told_so_in_http() {
    let mut stage = Stage::new(&Limits::DEFAULT);
    stage.knock(conn(0), "/nowhere");
    assert_eq!(stage.told(conn(0)), [Told::Http("HTTP/1.1 404 Not Found".into())]);
    let remote = SocketAddr::from(([127, 0, 0, 1], 9));
    stage.input(Input::Accepted { conn: conn(1), door: Door::Websocket, remote });
    stage.bytes(conn(1), b"GET /websocket/t1 HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(stage.told(conn(1)), [Told::Http("HTTP/1.1 426 Upgrade Required".into())]);
    assert_eq!(stage.closed, [(conn(0), false), (conn(1), false)]);
    assert_eq!(stage.counted(Counter::HandshakesRefused), 2);
}

#[test]
fn half_a_handshake_ends_at_its_deadline() {
    let mut stage = Stage::new(&Limits::DEFAULT);
    let remote = SocketAddr::from(([127, 0, 0, 1], 9));
    stage.input(Input::Accepted { conn: conn(0), door: Door::Websocket, remote });
    stage.bytes(conn(0), b"GET /websocket/t1 HTTP/1.1\r\nHo");
    stage.pass(Limits::DEFAULT.handshake_timeout * 9 / 10);
    assert_eq!(stage.closed, []);
    stage.pass(Limits::DEFAULT.handshake_timeout / 5);
    assert_eq!(stage.closed, [(conn(0), true)]);
}

#[test]
fn a_ticket_that_is_no_good_any_more_is_told_by_slack_s_error() {
    let mut stage = Stage::new(&Limits::DEFAULT);
    stage.knock(conn(0), "/websocket/t1");
    let [Message::Redeem { ask, ticket: "t1" }] = stage.heard(DESK)[..] else { panic!() };
    stage.hear(DESK, Message::Refused { ask, retry: false });
    assert_eq!(stage.kinds(conn(0)), ["error 1", "close 1008 Socket URL has expired"]);
    stage.said.clear();
    stage.knock(conn(1), "/websocket/t2");
    let [Message::Redeem { ask, .. }] = stage.heard(DESK)[..] else { panic!() };
    stage.hear(DESK, Message::Refused { ask, retry: true });
    let kinds = stage.kinds(conn(1));
    assert!(kinds[1].starts_with("close 1013"), "it may try again: {kinds:?}");
}

#[test]
fn without_a_desk_nobody_is_let_in_and_nobody_is_kept_waiting() {
    let mut stage = Stage::new(&Limits::DEFAULT);
    stage.input(Input::PeerLost { peer: DESK });
    stage.knock(conn(0), "/websocket/t1");
    assert_eq!(stage.told(conn(0)), [Told::Http("HTTP/1.1 503 Service Unavailable".into())]);
    stage.up(DESK, 2);
    stage.connect(conn(1));
}

#[test]
fn the_silent_are_pinged_and_the_dead_are_let_go() {
    let mut stage = Stage::new(&Limits::DEFAULT);
    stage.connect(conn(0));
    stage.connect(conn(1));
    let interval = Limits::DEFAULT.ping_interval;
    stage.pass(interval + Duration::from_secs(1));
    assert_eq!(
        (stage.kinds(conn(0)), stage.kinds(conn(1))),
        (vec!["ping".into()], vec!["ping".into()])
    );
    let mut pong = Vec::new();
    writer::masked(writer::PONG, b"campanile", [1, 2, 3, 4], &mut pong);
    stage.bytes(conn(1), &pong);
    stage.pass(interval);
    assert_eq!(stage.counted(Counter::DeadReaped), 1);
    assert!(stage.closed.iter().all(|(who, _)| *who == conn(0)) && !stage.closed.is_empty());
}

#[test]
fn the_old_are_told_where_to_go_on_and_served_until_their_window_is_over() {
    let limits = Limits {
        connection_age_max: Duration::from_secs(60),
        goodbye_window: Duration::from_secs(5),
        ping_interval: Duration::from_secs(600),
        ..Limits::DEFAULT
    };
    let mut stage = Stage::new(&limits);
    stage.connect(conn(0));
    stage.pass(Duration::from_secs(62));
    let [Message::Renew { ask, user: "U1", token: 7, .. }] = stage.heard(DESK)[..] else {
        panic!()
    };
    stage.hear(DESK, Message::Ticketed { ask, path: "/websocket/t9" });
    assert_eq!(stage.kinds(conn(0)), ["reconnect_url", "goodbye"]);
    stage.publish(1, Origin::NOBODY);
    assert_eq!(stage.kinds(conn(0)), ["message m1"], "still served");
    stage.pass(Duration::from_secs(6));
    assert_eq!(stage.kinds(conn(0)), ["close 1001 reconnect"]);
}

#[test]
fn a_drain_says_goodbye_to_all_and_lets_nobody_in() {
    let mut stage = Stage::new(&Limits::DEFAULT);
    stage.connect(conn(0));
    let until = stage.now.mono + Duration::from_secs(2);
    stage.input(Input::Drain { until });
    stage.advance();
    assert_eq!(stage.kinds(conn(0)), ["goodbye"]);
    stage.knock(conn(1), "/websocket/t1");
    assert_eq!(stage.told(conn(1)), [Told::Http("HTTP/1.1 503 Service Unavailable".into())]);
    stage.publish(1, Origin::NOBODY);
    stage.pass(Duration::from_secs(3));
    assert_eq!(stage.kinds(conn(0)), ["message m1", "close 1001 going away"]);
}

#[test]
fn whoever_goes_leaves_nothing_behind() {
    let mut stage = Stage::new(&Limits::DEFAULT);
    for index in 0..20 {
        stage.connect(conn(index));
    }
    assert_eq!((stage.gauge("sessions"), stage.gauge("hub_subscriptions")), (20.0, 40.0));
    stage.say(conn(3), r#"{"id":1,"type":"presence_sub","ids":["U1","U2"]}"#);
    for index in 0..20 {
        stage.input(Input::Closed { conn: conn(index), why: Why::Ended });
    }
    let left = |message: Message<'_>| match message {
        Message::Unsubscribe { handle, .. } => Some(handle),
        _ => None,
    };
    let left: Vec<Handle> = stage.heard(CORE).into_iter().filter_map(left).collect();
    assert_eq!(left.len(), 2);
    for handle in left {
        stage.hear(CORE, Message::Unsuback { handle });
    }
    for name in ["sessions", "hub_subscriptions", "hub_channels", "people", "asks_open", "names"] {
        assert!(stage.gauge(name) <= 0.0, "{name} is {}", stage.gauge(name));
    }
}

#[test]
fn who_came_in_by_a_token_goes_when_it_is_revoked_and_nobody_else_does() {
    let mut stage = Stage::new(&Limits::DEFAULT);
    stage.connect(conn(0));
    let mut list = Vec::new();
    // The numbers of a user's tokens; somebody else's; a user who is not here.
    for (token, user) in [(8, "U1"), (7, "U2"), (7, "U9")] {
        list.clear();
        let tokens = Packed::pack([(token, user)], &mut list);
        stage.hear(DESK, Message::Revoke { tokens });
        assert!(stage.kinds(conn(0)).is_empty(), "{token} of {user}");
    }
    list.clear();
    let tokens = Packed::pack([(8u32, "U1"), (7, "U1")], &mut list);
    stage.hear(DESK, Message::Revoke { tokens });
    assert_eq!(stage.kinds(conn(0)), ["error 20", "close 1008 token_revoked"]);
    assert_eq!(stage.counted(Counter::TokensRevoked), 1);
    // Said again after a lost link, it means nobody.
    stage.hear(DESK, Message::Revoke { tokens });
    assert_eq!(stage.counted(Counter::TokensRevoked), 1);
}
