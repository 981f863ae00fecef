//! Stories of the Web API, without a socket: a request in, a response out.

use axum::body::{Body, to_bytes};

use super::*;
use crate::control::Mail;
use crate::ids::NodeId;
use crate::ring::change::Cell;
use crate::ring::document::NodeEntry;
use crate::ring::drain::Pace;
use crate::webapp::database::Storage;
use crate::wire::operator::{CHALLENGE, PROOF, Side};
use tokio::sync::mpsc;

const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";

struct Stage {
    site: Site,
    _mail: mpsc::Receiver<Mail>,
}

impl Stage {
    async fn new(limits: &Limits) -> Self {
        let (control, mail) = Control::new(1_000);
        let demo = Demo::new([7; 32]);
        let database = Database::open(&Storage::Memory, limits, control.clone(), Some(&demo))
            .await
            .expect("in memory");
        let key = OperatorKey::of(KEY).expect("long enough");
        let site = Site::new(database, control, limits, "ws://0.0.0.0:8081", key).with_demo(demo);
        Self { site, _mail: mail }
    }

    fn token(&self, name: &str) -> String {
        let user = self.site.database.user_named(name);
        let demo = self.site.demo.as_ref().expect("it is one");
        user.map_or_else(|| "wrong".into(), |user| demo.token(&user))
    }

    async fn ask(&self, name: &str, method: &str, body: &Value) -> (u16, Option<String>, Value) {
        self.ask_from(&[], name, method, body).await
    }

    /// `headers`: of the request, beside those of everybody.
    async fn ask_from(
        &self,
        headers: &[(&str, &str)],
        name: &str,
        method: &str,
        body: &Value,
    ) -> (u16, Option<String>, Value) {
        let mut request = Request::post(format!("/api/{method}"));
        for (header, value) in headers {
            request = request.header(*header, *value);
        }
        let request = request
            .header(CONTENT_TYPE, "application/json; charset=utf-8")
            .header(HOST, "tower.example:8080")
            .header(AUTHORIZATION, format!("Bearer {}", self.token(name)))
            .extension(ConnectInfo(Remote(([10, 7, 0, 1], 4_321).into())))
            .body(Body::from(body.to_string()))
            .expect("a request");
        let response = api(State(self.site.clone()), Path(method.into()), request).await;
        let status = response.status().as_u16();
        let wait = response.headers().get(RETRY_AFTER);
        let wait = wait.map(|value| value.to_str().expect("ascii").to_string());
        let bytes = to_bytes(response.into_body(), 1 << 20).await.expect("a body");
        (status, wait, serde_json::from_slice(&bytes).expect("JSON"))
    }
}

#[tokio::test]
async fn a_message_is_posted_edited_and_found_in_the_history() {
    let stage = Stage::new(&Limits::DEFAULT).await;
    let post = json!({ "channel": "general", "text": "hello" });
    let (_, _, posted) = stage.ask("alice", "chat.postMessage", &post).await;
    assert_eq!((&posted["ok"], &posted["message"]["text"]), (&json!(true), &json!("hello")));
    let edit = json!({ "channel": posted["channel"], "ts": posted["ts"], "text": "bye" });
    assert_eq!(stage.ask("alice", "chat.update", &edit).await.2["text"], "bye");
    let react = json!({ "channel": "general", "timestamp": posted["ts"], "name": ":tada:" });
    assert_eq!(stage.ask("bob", "reactions.add", &react).await.2["ok"], true);
    let list = json!({ "channel": "#general", "limit": "1" });
    let (_, _, history) = stage.ask("carol", "conversations.history", &list).await;
    assert_eq!(history["messages"][0]["text"], "bye");
    assert_eq!(history["messages"][0]["reactions"][0]["count"], 1);
    assert_eq!(history["has_more"], false);
    let events = json!({ "seq_of": posted["channel"], "from": 2 });
    let (_, _, events) = stage.ask("carol", "events.list", &events).await;
    let kinds = events["events"].as_array().expect("a list").iter().map(|event| &event["type"]);
    assert_eq!(kinds.collect::<Vec<_>>(), ["message", "reaction_added"]);
}

#[tokio::test]
async fn whoever_has_no_token_or_a_wrong_method_is_told_so() {
    let stage = Stage::new(&Limits::DEFAULT).await;
    let refused = stage.ask("nobody", "auth.test", &json!({})).await;
    assert_eq!((refused.0, &refused.2), (200, &json!({ "ok": false, "error": "invalid_auth" })));
    assert_eq!(stage.ask("bob", "no.such", &json!({})).await.2["error"], "unknown_method");
    assert_eq!(stage.ask("bob", "auth.test", &json!([])).await.2["error"], "json_not_object");
}

#[tokio::test]
async fn tickets_are_paced_and_lead_to_the_name_by_which_one_came() {
    let limits = Limits { boots_per_second: 1, boots_burst: 1, ..Limits::DEFAULT };
    let stage = Stage::new(&limits).await;
    let (status, _, boot) = stage.ask("bob", "rtm.connect", &json!({ "resume": true })).await;
    assert_eq!(status, 200);
    let url = boot["url"].as_str().expect("a string");
    assert!(url.starts_with("ws://tower.example:8081/websocket/"), "{url}");
    assert_eq!(boot["positions"].as_object().expect("a map").len(), 4);
    let (status, wait, value) = stage.ask("bob", "rtm.connect", &json!({})).await;
    assert_eq!((status, wait.as_deref()), (429, Some("1")));
    assert_eq!(value, json!({ "ok": false, "error": "ratelimited" }));
}

#[tokio::test]
async fn a_draining_node_sends_everybody_on() {
    let stage = Stage::new(&Limits::DEFAULT).await;
    stage.site.drain();
    let (status, wait, value) = stage.ask("bob", "auth.test", &json!({})).await;
    assert_eq!((status, wait.is_some(), &value["ok"]), (503, true, &json!(false)));
}

#[tokio::test]
async fn rtm_connect_leads_to_the_nearest_region_that_does_not_drain() {
    let region = |name: &str, near: &[&str]| Region {
        name: name.into(),
        url: format!("wss://{name}.example"),
        near: near.iter().map(|name| (*name).to_string()).collect(),
        networks: Vec::new(),
    };
    let list = vec![region("us", &[]), region("eu", &["asia"]), region("asia", &[])];
    let node = NodeEntry { id: 1, ..NodeEntry::new("cs1", "cs1:1", 1) };
    let mut cell = Cell::new("story", vec![node]).expect("a ring");
    let ring = |cell: &Cell| Arc::new(cell.ring().expect("usable"));
    let (tell, ring_now) = watch::channel(ring(&cell));
    let mut stage = Stage::new(&Limits::DEFAULT).await;
    stage.site = stage.site.clone().with_regions(Regions::new(list).expect("three"), ring_now);
    for (drained, asked, wanted) in [
        (None, None, "us"),
        (None, Some("eu"), "eu"),
        (Some("eu"), Some("eu"), "asia"),
        (Some("eu"), Some("nowhere"), "us"),
        (Some("asia"), Some("eu"), "us"),
        (Some("us"), Some("eu"), "eu"),
    ] {
        if let Some(region) =
            drained.filter(|one| cell.document.drains.iter().all(|d| d.region != *one))
        {
            cell = cell.drain_region(region, Pace::Usual).expect("drains");
            tell.send_replace(ring(&cell));
        }
        let headers: Vec<_> = asked.map(|region| ("X-Region", region)).into_iter().collect();
        let (_, _, boot) = stage.ask_from(&headers, "bob", "rtm.connect", &json!({})).await;
        let url = boot["url"].as_str().expect("a string");
        assert!(url.starts_with(&format!("wss://{wanted}.example/websocket/")), "{asked:?}: {url}");
        assert_eq!(boot["region"], wanted);
    }
    let (_, _, boot) =
        stage.ask_from(&[("X-Region", "asia")], "bob", "rtm.start", &json!({})).await;
    assert_eq!(boot["region"], "asia", "all drain, and an answer is better than none");
    cell = cell.restore_region("eu").expect("restored");
    tell.send_replace(ring(&cell));
    let (_, _, boot) =
        stage.ask_from(&[("X-Region", "asia")], "bob", "rtm.start", &json!({})).await;
    assert_eq!(boot["region"], "eu");
}

/// An operator's call: status, and what was answered with a proof that is good, or without one.
async fn operate(stage: &Stage, key: &OperatorKey, challenge: &str, wish: &Value) -> (u16, Value) {
    let body = wish.to_string();
    let proof = key.proof(Side::Operator, challenge, body.as_bytes());
    let mut headers = HeaderMap::new();
    headers.insert(CHALLENGE, challenge.parse().expect("ascii"));
    headers.insert(PROOF, proof.parse().expect("ascii"));
    let answer = ctl::call(State(stage.site.clone()), headers, body.into()).await;
    let status = answer.status().as_u16();
    let proof = answer.headers().get(PROOF).cloned();
    let bytes = to_bytes(answer.into_body(), 1 << 20).await.expect("a body");
    if let Some(proof) = proof {
        let proof = proof.to_str().expect("ascii");
        assert!(
            key.is_proven(Side::Webapp, challenge, &bytes, proof),
            "the answer is the webapp's"
        );
    }
    (status, serde_json::from_slice(&bytes).expect("JSON"))
}

async fn challenge(stage: &Stage) -> String {
    let given = ctl::challenge(State(stage.site.clone())).await;
    let bytes = to_bytes(given.into_body(), 1 << 20).await.expect("a body");
    let given: Value = serde_json::from_slice(&bytes).expect("JSON");
    given["challenge"].as_str().expect("one").into()
}

#[tokio::test]
async fn an_operator_proves_each_call_and_nothing_overheard_is_worth_anything() {
    let stage = Stage::new(&Limits::DEFAULT).await;
    let key = OperatorKey::of(KEY).expect("long enough");
    let wish = json!({ "what": "token.create", "user": "bob", "label": "laptop" });
    let one = challenge(&stage).await;
    let (status, made) = operate(&stage, &key, &one, &wish).await;
    assert_eq!((status, &made["ok"], &made["user"]), (200, &json!(true), &json!("bob")));
    let token = made["token"].as_str().expect("told once");
    assert!(stage.site.database.bearer(token).is_ok_and(|bearer| bearer.user.name == "bob"));
    // The very same once more.
    let (status, again) = operate(&stage, &key, &one, &wish).await;
    assert_eq!((status, &again["error"]), (401, &json!("invalid_challenge")));
    let stranger = OperatorKey::of(b"another key of thirty-two bytes!!").expect("long enough");
    let two = challenge(&stage).await;
    let (status, refused) = operate(&stage, &stranger, &two, &wish).await;
    assert_eq!((status, &refused["error"]), (401, &json!("invalid_auth")));
    let bare = ctl::call(State(stage.site.clone()), HeaderMap::new(), "{}".into()).await;
    assert_eq!(bare.status().as_u16(), 401);
    // A proof that failed uses nothing up.
    let list = json!({ "what": "token.list", "user": "bob" });
    let (status, listed) = operate(&stage, &key, &two, &list).await;
    assert_eq!((status, &listed["tokens"][1]["label"]), (200, &json!("laptop")));
    assert!(!listed.to_string().contains(token), "never the token itself");
    for wish in [json!({ "what": "nothing" }), json!({ "what": "team.list", "more": 1 }), json!(7)]
    {
        let three = challenge(&stage).await;
        let (status, refused) = operate(&stage, &key, &three, &wish).await;
        assert_eq!((status, &refused["error"]), (200, &json!("invalid_arguments")), "{wish}");
    }
}

#[tokio::test]
async fn a_revoked_token_is_refused_by_its_name() {
    let stage = Stage::new(&Limits::DEFAULT).await;
    let key = OperatorKey::of(KEY).expect("long enough");
    assert_eq!(stage.ask("bob", "auth.test", &json!({})).await.2["ok"], true);
    let (one, two) = (challenge(&stage).await, challenge(&stage).await);
    let revoke = json!({ "what": "token.revoke", "token": stage.token("bob") });
    assert_eq!(operate(&stage, &key, &one, &revoke).await.1["is_new"], true);
    for method in ["auth.test", "rtm.connect", "chat.postMessage"] {
        let (_, _, refused) = stage.ask("bob", method, &json!({})).await;
        assert_eq!(refused["error"], "token_revoked", "{method}");
    }
    let revoke = json!({ "what": "user.revoke", "user": "carol" });
    assert_eq!(operate(&stage, &key, &two, &revoke).await.1["user"]["revoked"], true);
    let (_, _, refused) = stage.ask("carol", "auth.test", &json!({})).await;
    assert_eq!(refused["error"], "account_inactive");
    let told = dev::workspace(State(stage.site.clone())).await;
    let bytes = to_bytes(told.into_body(), 1 << 20).await.expect("a body");
    let told: Value = serde_json::from_slice(&bytes).expect("JSON");
    let tokens = told["users"].as_array().expect("a list").iter();
    let tokens: Vec<bool> = tokens.map(|user| user["token"].is_string()).collect();
    assert_eq!(tokens, [true, false, false, true]);
}

#[tokio::test]
async fn rtm_connect_leads_to_the_region_of_the_clients_network_however_many_proxies_are_between() {
    let region = |name: &str, networks: &[&str]| Region {
        name: name.into(),
        url: format!("wss://{name}.example"),
        near: Vec::new(),
        networks: networks.iter().map(|net| net.parse().expect("a network")).collect(),
    };
    let list =
        vec![region("us", &[]), region("eu", &["192.0.2.0/24"]), region("asia", &["10.7.0.0/16"])];
    let mut stage = Stage::new(&Limits::DEFAULT).await;
    let ring = Arc::new(Ring::new(&[(NodeId(1), 1)]));
    stage.site =
        stage.site.clone().with_regions(Regions::new(list).expect("three"), watch::channel(ring).1);
    let forwarded = "x-forwarded-for";
    for (headers, wanted) in [
        (&[][..], "asia"),
        (&[(forwarded, "192.0.2.7")], "eu"),
        (&[(forwarded, "192.0.2.7:4711")], "eu"),
        (&[(forwarded, "172.16.0.1, 192.0.2.7"), (forwarded, "10.7.0.3")], "eu"),
        (&[(forwarded, "unknown, 203.0.113.1")], "asia"),
        (&[(forwarded, "192.0.2.7"), ("x-region", "us")], "us"),
    ] {
        let (_, _, boot) = stage.ask_from(headers, "bob", "rtm.connect", &json!({})).await;
        assert_eq!(boot["region"], wanted, "{headers:?}");
    }
}
