//! Guests in conversations: who is let in, and who left meanwhile.

use super::*;
use crate::centrifuge::config;
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
