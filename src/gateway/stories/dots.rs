//! What presence shards are told of users here.

use super::*;

/// Every user's presence is kept by this node.
fn kept_by(node: NodeId, ring_epoch: u64) -> (Ring, Peer) {
    let mut ring = Ring::new(&[(node, 1)]);
    ring.ring_epoch = ring_epoch;
    (ring, Peer::new(node, Role::Presence, 0))
}

#[test]
fn who_keeps_a_user_from_now_on_is_told_although_its_link_is_as_old_as_the_last_one_s() {
    let mut stage = Stage::new(&Limits::DEFAULT);
    let ((_, first), (ring, second)) = (kept_by(ME, 1), kept_by(NodeId(1), 2));
    stage.up(first, 1);
    stage.up(second, 1);
    stage.connect(conn(0));
    stage.say(conn(0), r#"{"type":"presence_sub","ids":["U2"]}"#);
    let told = |stage: &Stage, peer| -> Vec<&str> {
        stage.heard(peer).iter().map(Message::name).collect()
    };
    assert_eq!(told(&stage, first), ["Watch"], "and of U1 when it connected");
    for peer in [first, second] {
        stage.input(Input::PeerLost { peer });
    }
    stage.input(Input::Ring { ring: &ring });
    stage.said.clear();
    for peer in [first, second] {
        stage.up(peer, 2);
    }
    assert!(told(&stage, first).is_empty());
    assert_eq!(told(&stage, second), ["Online", "Watch"]);
    // It goes back by the next ring, and the links are of the same age again.
    for peer in [first, second] {
        stage.input(Input::PeerLost { peer });
    }
    stage.input(Input::Ring { ring: &kept_by(ME, 3).0 });
    stage.said.clear();
    stage.up(second, 3);
    stage.up(first, 2);
    assert_eq!(told(&stage, first), ["Online", "Watch"]);
}

#[test]
fn a_query_that_cannot_be_asked_takes_no_room_of_what_is_said_to_a_keeper() {
    let limits = Limits { asks_max: 1, bulk_messages_per_room: 6, ..Limits::DEFAULT };
    let mut stage = Stage::new(&limits);
    let (_, keeper) = kept_by(ME, 1);
    stage.up(keeper, 1);
    stage.connect(conn(0));
    stage.said.clear();
    let ids = r#"["U3","U4","U5","U6","U7","U8"]"#;
    stage.say(conn(0), &format!(r#"{{"id":1,"type":"presence_query","ids":{ids}}}"#));
    assert_eq!(stage.heard(keeper).len(), 1, "there is one question for all");
    stage.say(conn(0), r#"{"type":"presence_sub","ids":["U2"]}"#);
    let said: Vec<&str> = stage.heard(keeper).iter().map(Message::name).collect();
    assert_eq!(said, ["PresenceQuery", "Watch"]);
}

#[test]
fn who_watches_more_than_there_is_room_for_is_told_so() {
    // The client's own user and two more.
    let mut stage = Stage::new(&Limits { users_max: 3, ..Limits::DEFAULT });
    stage.connect(conn(0));
    let mut said = |ids: &str| {
        stage.told(conn(0));
        stage.say(conn(0), &format!(r#"{{"id":7,"type":"presence_sub","ids":{ids}}}"#));
        stage.told(conn(0))
    };
    let told = said(r#"["U2","U3","U4"]"#);
    let [Told::Json(ref refusal)] = told[..] else { panic!("a refusal: {told:?}") };
    assert_eq!((&refusal["reply_to"], &refusal["error"]["code"]), (&7.into(), &16.into()));
    // The others are watched; whoever is watched no more leaves room.
    assert_eq!(said(r#"["U2"]"#), []);
    assert_eq!(said(r#"["U2","U4"]"#), []);
}
