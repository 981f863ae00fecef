//! Stories of the Web API, without a socket: a request in, a response out.

use axum::body::{Body, to_bytes};

use super::*;
use crate::control::Mail;
use crate::ring::change::Cell;
use crate::ring::document::NodeEntry;
use crate::ring::drain::Pace;
use crate::webapp::database::Storage;
use tokio::sync::mpsc;

struct Stage {
    site: Site,
    _mail: mpsc::Receiver<Mail>,
}

impl Stage {
    async fn new(limits: &Limits) -> Self {
        let (control, mail) = Control::new(1_000);
        let database = Database::open(&Storage::Memory, limits, control.clone(), None)
            .await
            .expect("in memory");
        Self { site: Site::new(database, control, limits, "ws://0.0.0.0:8081"), _mail: mail }
    }

    async fn ask(&self, name: &str, method: &str, body: &Value) -> (u16, Option<String>, Value) {
        self.ask_from(None, name, method, body).await
    }

    async fn ask_from(
        &self,
        region: Option<&str>,
        name: &str,
        method: &str,
        body: &Value,
    ) -> (u16, Option<String>, Value) {
        let users = self.site.database.users();
        let user = users.iter().find(|user| user.name == name);
        let mut request = Request::post(format!("/api/{method}"));
        if let Some(region) = region {
            request = request.header("X-Region", region);
        }
        let request = request
            .header(CONTENT_TYPE, "application/json; charset=utf-8")
            .header(HOST, "tower.example:8080")
            .header(AUTHORIZATION, format!("Bearer {}", user.map_or("wrong", |user| &user.token)))
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
        let (_, _, boot) = stage.ask_from(asked, "bob", "rtm.connect", &json!({})).await;
        let url = boot["url"].as_str().expect("a string");
        assert!(url.starts_with(&format!("wss://{wanted}.example/websocket/")), "{asked:?}: {url}");
        assert_eq!(boot["region"], wanted);
    }
    let (_, _, boot) = stage.ask_from(Some("asia"), "bob", "rtm.start", &json!({})).await;
    assert_eq!(boot["region"], "asia", "all drain, and an answer is better than none");
    cell = cell.restore_region("eu").expect("restored");
    tell.send_replace(ring(&cell));
    let (_, _, boot) = stage.ask_from(Some("asia"), "bob", "rtm.start", &json!({})).await;
    assert_eq!(boot["region"], "eu");
}
