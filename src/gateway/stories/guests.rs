//! Guests in conversations: who is let in, and who left meanwhile.

use super::*;
use crate::centrifuge::config;
use crate::centrifuge::message::Publication;
use crate::centrifuge::payload::Marks;
use crate::wire;

const GUEST: Conn = Conn(1 << 32);
/// `{"sub":"U1"}` under the secret below.
const TOKEN: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJVMSJ9.5WNio4XuwrWERPTLE7IaPWsO9USqwC7OQg2eep14R18";

/// A guest of U1's was let into C1 when its tip was 3. The hub's tip is 5, and what came since the owner tells: the answer, as JSON.
fn subscribed(request: &str, fourth: Option<wire::Member<'_>>) -> (u64, Value) {
    let sections = serde_json::json!({ "client": { "token": { "hmac_secret_key": "secret" } } });
    let rules = Arc::new(config::read(sections).expect("a configuration").rules);
    let mut stage = Stage::with_rules(&Limits::DEFAULT, rules);
    stage.knock(GUEST, "/connection/websocket");
    stage.say(GUEST, &format!(r#"{{"id":1,"connect":{{"token":"{TOKEN}"}}}}"#));
    stage.say(GUEST, request);
    let [Message::Admit { ask, user: "U1", channel: "C1" }] = stage.heard(DESK)[..] else {
        panic!("it asks: {:?}", stage.heard(DESK))
    };
    stage.told(GUEST);
    stage.hear(DESK, Message::Admitted { ask, is_member: true, offset: 3, epoch: "e1" });
    let subscribed = stage.subscribed();
    let [(ref name, handle)] = subscribed[..] else { panic!("one channel: {subscribed:?}") };
    assert_eq!(name, "C1");
    stage.said.clear();
    stage.hear(CORE, Message::Suback { handle, epoch: 0, tip: 5 });
    stage.advance();
    let [Message::Fetch { ask, after, .. }] = stage.heard(CORE)[..] else {
        panic!("it looks what came since: {:?}", stage.heard(CORE))
    };
    for offset in after + 1..=5 {
        let member = fourth.filter(|_| offset == 4);
        let (origin, payload) = (Origin::NOBODY, br#"{"type":"message"}"#.as_slice());
        stage.hear(CORE, Message::Past { ask, offset, origin, member, payload });
    }
    stage.hear(CORE, Message::PastEnd { ask, handle, upto: 5, complete: true, missing: 0 });
    stage.advance();
    let told = stage.told(GUEST);
    let [Told::Json(ref reply)] = told[..] else { panic!("one reply: {told:?}") };
    (after, reply.clone())
}

const FRESH: &str = r#"{"id":2,"subscribe":{"channel":"workspace:C1"}}"#;

fn left() -> wire::Member<'static> {
    wire::Member { what: wire::Membership::Left, user: "U1", channel: "C1", offset: 4 }
}

#[test]
fn who_asks_for_no_past_is_given_none_also_where_the_hub_was_behind() {
    let (after, reply) = subscribed(FRESH, None);
    assert_eq!(after, 3);
    assert_eq!(reply["subscribe"]["offset"], 5);
    assert!(reply["subscribe"].get("publications").is_none(), "{reply}");
}

#[test]
fn who_left_after_it_was_let_in_is_not_subscribed() {
    let (_, reply) = subscribed(FRESH, Some(left()));
    assert_eq!(reply["error"]["code"], 103, "{reply}");
    let claims =
        r#"{"id":2,"subscribe":{"channel":"workspace:C1","recover":true,"epoch":"e1","offset":5}}"#;
    let (_, reply) = subscribed(claims, Some(left()));
    assert_eq!(reply["error"]["code"], 103, "nor by saying that it has it already: {reply}");
}

#[test]
fn who_recovers_is_given_what_it_has_not() {
    let since =
        r#"{"id":2,"subscribe":{"channel":"workspace:C1","recover":true,"epoch":"e1","offset":4}}"#;
    let (after, reply) = subscribed(since, None);
    assert_eq!((after, &reply["subscribe"]["recovered"]), (3, &Value::Bool(true)));
    let publications = reply["subscribe"]["publications"].as_array().cloned().unwrap_or_default();
    let offsets: Vec<&Value> = publications.iter().map(|one| &one["offset"]).collect();
    assert_eq!(offsets, [&Value::from(5)]);
}

/// The epoch of a memory channel, and how clients are told it.
const EPOCH: u32 = 0xcf3d_caa1;

/// A guest that may subscribe to channels that keep what was published.
fn connected() -> Stage {
    let sections = serde_json::json!({
        "client": { "token": { "hmac_secret_key": "secret" } },
        "channel": { "without_namespace": {
            "history_size": 100, "history_ttl": "60s", "force_recovery": true, "allow_subscribe_for_client": true,
        } },
    });
    let rules = Arc::new(config::read(sections).expect("a configuration").rules);
    let mut stage = Stage::with_rules(&Limits::DEFAULT, rules);
    stage.knock(GUEST, "/connection/websocket");
    stage.say(GUEST, &format!(r#"{{"id":1,"connect":{{"token":"{TOKEN}"}}}}"#));
    stage
}

/// One that comes with its position in `news`, of which the hub has 35, and what it asks the owner then.
fn claims(offset: u64) -> (Stage, Ask, Handle) {
    let mut stage = connected();
    let since = format!(r#""recover":true,"epoch":"cf3dcaa1","offset":{offset}"#);
    stage.say(GUEST, &format!(r#"{{"id":2,"subscribe":{{"channel":"news",{since}}}}}"#));
    stage.told(GUEST);
    let [(_, handle)] = stage.subscribed()[..] else { panic!("one channel") };
    stage.said.clear();
    stage.hear(CORE, Message::Suback { handle, epoch: EPOCH, tip: 35 });
    stage.advance();
    let ask = asked(&stage, 35);
    assert_eq!(stage.told(GUEST), [], "nobody knows yet");
    (stage, ask, handle)
}

/// The question for what came after that.
fn asked(stage: &Stage, wanted: u64) -> Ask {
    let fetches = stage.heard(CORE).into_iter().filter_map(|message| match message {
        Message::Fetch { ask, after, .. } => Some((ask, after)),
        _ => None,
    });
    let fetches: Vec<(Ask, u64)> = fetches.collect();
    let [(ask, after)] = fetches[..] else { panic!("it asks once: {fetches:?}") };
    assert_eq!(after, wanted);
    ask
}

fn reply(stage: &mut Stage) -> Value {
    stage.advance();
    let told = stage.told(GUEST);
    let Some(Told::Json(reply)) = told.first() else { panic!("a reply: {told:?}") };
    reply["subscribe"].clone()
}

#[test]
fn who_comes_from_a_gateway_that_was_ahead_is_told_nothing_twice() {
    let (mut stage, ask, handle) = claims(37);
    let (marks, data) = Marks::of(br#"{"n":1}"#.to_vec(), false);
    let payload = &marks.write(&Publication { data, ..Publication::default() });
    let origin = Origin::NOBODY;
    // What the hub lacked is on its way, and comes before the answer.
    for offset in 36..=38 {
        stage.hear(CORE, Message::Publication { handle, offset, origin, member: None, payload });
    }
    assert_eq!(stage.told(GUEST), []);
    stage.said.clear();
    stage.hear(CORE, Message::PastEnd { ask, handle, upto: 38, complete: true, missing: 0 });
    stage.advance();
    let ask = asked(&stage, 37);
    stage.hear(CORE, Message::Past { ask, offset: 38, origin, member: None, payload });
    stage.hear(CORE, Message::PastEnd { ask, handle, upto: 38, complete: true, missing: 0 });
    let reply = reply(&mut stage);
    assert_eq!((&reply["recovered"], &reply["epoch"]), (&true.into(), &"cf3dcaa1".into()));
    let given = reply["publications"].as_array().cloned().unwrap_or_default();
    assert_eq!(given.iter().map(|one| &one["offset"]).collect::<Vec<_>>(), [&Value::from(38)]);
}

#[test]
fn who_claims_what_the_owner_does_not_have_is_told_so() {
    let (mut stage, ask, handle) = claims(37);
    stage.hear(CORE, Message::PastEnd { ask, handle, upto: 35, complete: true, missing: 0 });
    let reply = reply(&mut stage);
    assert_eq!(reply["offset"], 35);
    assert!(reply.get("recovered").is_none_or(|recovered| recovered == false), "{reply}");
}

#[test]
fn while_the_owner_is_away_nobody_says_that_a_client_is_wrong() {
    let (mut stage, _, handle) = claims(37);
    for _ in 0..5 {
        let ask = asked(&stage, 35);
        stage.said.clear();
        stage.hear(CORE, Message::PastRefused { ask, handle });
        assert_eq!(stage.told(GUEST), []);
        stage.pass(Limits::DEFAULT.catch_up_interval * 2);
    }
    // The next owner does not have it: a new life.
    stage.hear(CORE, Message::Suback { handle, epoch: 7, tip: 2 });
    stage.pass(Limits::DEFAULT.catch_up_interval * 2);
    let last = asked(&stage, 35);
    stage.hear(CORE, Message::PastRefused { ask: last, handle });
    stage.pass(Limits::DEFAULT.catch_up_interval * 2);
    let reply = reply(&mut stage);
    assert_eq!((&reply["epoch"], &reply["offset"]), (&"00000007".into(), &2.into()));
}

#[test]
fn twenty_recoveries_take_three_round_trips() {
    let mut stage = connected();
    for n in 0..20 {
        let since = r#""recover":true,"epoch":"cf3dcaa1","offset":32"#;
        stage
            .say(GUEST, &format!(r#"{{"id":{},"subscribe":{{"channel":"n{n}",{since}}}}}"#, n + 2));
    }
    stage.told(GUEST);
    let subscribed = stage.subscribed();
    stage.said.clear();
    for (_, handle) in subscribed {
        stage.hear(CORE, Message::Suback { handle, epoch: EPOCH, tip: 35 });
    }
    let (marks, data) = Marks::of(br#"{"n":1}"#.to_vec(), false);
    let payload = marks.write(&Publication { data, ..Publication::default() });
    assert_eq!(stage.trips(35, &payload), (3, 8));
    let told = stage.told(GUEST);
    for reply in &told {
        let Told::Json(reply) = reply else { panic!("replies only: {reply:?}") };
        let given = reply["subscribe"]["publications"].as_array().map(Vec::len);
        assert_eq!((&reply["subscribe"]["recovered"], given), (&true.into(), Some(3)));
    }
    assert_eq!(told.len(), 20);
}

/// A code from 3500 on would be the end of it, on a day on which a table was full for a moment.
#[test]
fn a_guest_for_whom_there_is_no_room_may_come_again() {
    let sections = serde_json::json!({ "client": { "token": { "hmac_secret_key": "secret" } } });
    let rules = Arc::new(config::read(sections).expect("a configuration").rules);
    let mut stage = Stage::with_rules(&Limits { channels_max: 0, ..Limits::DEFAULT }, rules);
    stage.knock(GUEST, "/connection/websocket");
    stage.told(GUEST);
    stage.say(GUEST, &format!(r#"{{"id":1,"connect":{{"token":"{TOKEN}"}}}}"#));
    let told = stage.told(GUEST);
    let [Told::Json(ref refusal)] = told[..] else { panic!("a refusal, and no Close: {told:?}") };
    assert_eq!((&refusal["id"], &refusal["error"]["code"]), (&1.into(), &100.into()));
    assert_eq!(refusal["error"]["temporary"], true);
}
