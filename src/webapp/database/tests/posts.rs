//! Posts and their repetitions, edits and reactions.

use serde_json::json;

use super::*;

#[tokio::test]
async fn every_event_of_a_channel_has_the_next_number_and_an_outbox_row() {
    let mut stage = Stage::new().await;
    let general = stage.general();
    for count in 1..=3 {
        let post = stage.post("alice", "#general", &format!("line {count}"), None);
        let posted = stage.database.change(Change::Post(post)).await;
        let Ok(Outcome::Posted { seq, channel, .. }) = posted else { panic!("posted") };
        assert_eq!((seq, channel), (count, general.clone()));
    }
    for count in 1..=3 {
        let mail = stage.mail.try_recv().expect("told to the dispatcher");
        let Ok(Message::Committed { id, offset, name, .. }) = Message::decode(&mail.message) else {
            panic!("committed")
        };
        assert_eq!((id, offset, name), (count, count, general.as_str()));
    }
    let rows = stage.ask(&Message::OutboxRead { ask: Ask(1), after: 0, count_max: 2 }).await;
    assert_eq!(rows.len(), 3);
    assert_eq!(
        Message::decode(&rows[2]),
        Ok(Message::OutboxEnd { ask: Ask(1), last: 2, more: true })
    );
    let mut list = Vec::new();
    let ids = crate::wire::Packed::pack([1u64, 3].into_iter(), &mut list);
    stage.ask(&Message::OutboxRemove { ask: Ask(2), ids }).await;
    let rows = stage.ask(&Message::OutboxRead { ask: Ask(3), after: 0, count_max: 9 }).await;
    let Ok(Message::Committed { id: 2, payload, .. }) = Message::decode(&rows[0]) else {
        panic!("the second is left")
    };
    let payload: serde_json::Value = serde_json::from_slice(payload).expect("an object");
    assert_eq!((&payload["text"], &payload["channel"]), (&json!("line 2"), &json!(general)));
}

#[tokio::test]
async fn the_same_key_in_the_same_channel_is_the_same_message() {
    let stage = Stage::new().await;
    let post = Change::Post(stage.post("alice", "general", "once", Some("k")));
    let first = stage.database.change(post.clone()).await;
    assert!(first.is_ok());
    assert_eq!(first, stage.database.change(post).await);
    assert_eq!(stage.tip(&stage.general()).await, 1);
    let other = Change::Post(stage.post("bob", "general", "once", Some("k")));
    assert_ne!(first, stage.database.change(other).await, "another user's");
    let elsewhere = stage.post("alice", "random", "twice", Some("k"));
    let elsewhere = stage.database.change(Change::Post(elsewhere)).await;
    let Ok(Outcome::Posted { channel, message, .. }) = elsewhere else { panic!("posted") };
    assert_eq!((channel, &message["text"]), (stage.random(), &json!("twice")), "not swallowed");
}

#[tokio::test]
async fn two_repetitions_in_one_transaction_are_one_message() {
    let stage = Stage::new().await;
    let post = || Change::Post(stage.post("alice", "general", "once", Some("k")));
    let (one, two) = tokio::join!(stage.database.change(post()), stage.database.change(post()));
    assert_eq!(one, two);
    assert_eq!(stage.tip(&stage.general()).await, 1);
}

#[tokio::test]
async fn a_key_of_one_kind_is_none_of_another() {
    let origin = Origin { life: 1, conn: Conn(2) };
    let of_connection = Key::of_connection(origin, 3);
    assert_ne!(Some(of_connection.clone()), Key::of_client("rtm:1-2-3"));
    assert_ne!(Key::of_client("x"), Key::of_header("x"));
    assert_ne!(of_connection, Key::of_connection(origin, 4));
    assert_eq!(Key::of_client(&"x".repeat(256)), None);
}

#[tokio::test]
async fn whoever_left_is_told_that_an_earlier_post_was_stored() {
    let stage = Stage::new().await;
    let random = stage.random();
    let post = Change::Post(stage.post("alice", "random", "bye", Some("k")));
    let first = stage.database.change(post.clone()).await;
    assert!(first.is_ok());
    let leave = Change::Leave { user: stage.id("alice"), channel: random.clone() };
    assert_eq!(stage.database.change(leave).await, Ok(Outcome::Done));
    assert_eq!(first, stage.database.change(post).await);
    let new = Change::Post(stage.post("alice", "random", "still here", Some("k2")));
    assert_eq!(stage.database.change(new).await, Err(Refused("not_in_channel")));
    assert_eq!(stage.tip(&random).await, 2, "one message, one leaving");
}

#[tokio::test]
async fn a_post_of_a_connection_is_known_by_its_number() {
    let stage = Stage::new().await;
    let (user, channel) = (stage.id("alice"), stage.general());
    let post = |ask, nth, id| Message::Post {
        ask: Ask(ask),
        user: &user,
        channel: &channel,
        text: "hi",
        thread_ts: "",
        client_msg_id: id,
        origin: Origin { life: 3, conn: Conn(4) },
        nth,
        again: false,
    };
    let offset = |answers: &[Vec<u8>]| match Message::decode(&answers[0]) {
        Ok(Message::Posted { offset, .. }) => offset,
        other => panic!("{other:?}"),
    };
    assert_eq!(offset(&stage.ask(&post(1, 1, "")).await), 1);
    assert_eq!(offset(&stage.ask(&post(2, 1, "")).await), 1, "said again");
    assert_eq!(offset(&stage.ask(&post(3, 2, "")).await), 2);
    assert_eq!(offset(&stage.ask(&post(4, 3, "k")).await), 3);
    assert_eq!(offset(&stage.ask(&post(5, 4, "k")).await), 3, "by the client's id");
    let long = "x".repeat(300);
    let refused = stage.ask(&post(6, 5, &long)).await;
    let expected = Message::PostFailed { ask: Ask(6), reason: "invalid_arguments" };
    assert_eq!(Message::decode(&refused[0]), Ok(expected));
}

#[tokio::test]
async fn a_refusal_changes_nothing() {
    let stage = Stage::new().await;
    let hidden = stage.created("bob", "hidden", true).await;
    for (channel, text, reason) in [
        ("C0NOSUCH", "x", "channel_not_found"),
        ("general", "", "no_text"),
        ("hidden", "x", "channel_not_found"),
        (&hidden, "x", "channel_not_found"),
    ] {
        let post = Change::Post(stage.post("alice", channel, text, None));
        assert_eq!(stage.database.change(post).await, Err(Refused(reason)));
    }
    let long = "x".repeat(Limits::DEFAULT.publication_bytes_max as usize);
    let post = Change::Post(stage.post("alice", "general", &long, None));
    assert_eq!(stage.database.change(post).await, Err(Refused("msg_too_long")));
    assert_eq!(stage.tip(&stage.general()).await, 0);
}

#[tokio::test]
async fn time_stamps_of_a_channel_grow_with_its_events() {
    let stage = Stage::new().await;
    let mut last = 0;
    for _ in 0..50 {
        let (ts, _) = stage.posted("alice", "general", "x").await;
        assert!(ts > last);
        last = ts;
    }
    let react = Change::React {
        user: stage.id("bob"),
        channel: stage.general(),
        ts: last,
        name: "tada".into(),
        add: true,
    };
    assert_eq!(stage.database.change(react).await, Ok(Outcome::Done));
    let event = stage.events(&stage.general()).await.pop().expect("told");
    assert!(event["event_ts"].as_str().and_then(micros_of).expect("a time") > last);
}

#[tokio::test]
async fn a_new_text_takes_the_blocks_away_and_no_text_leaves_it() {
    let stage = Stage::new().await;
    let mut post = stage.post("alice", "general", "old", None);
    post.more.insert("blocks".into(), json!([{ "type": "divider" }]));
    post.more.insert("attachments".into(), json!([{ "text": "a" }]));
    let posted = stage.database.change(Change::Post(post)).await;
    let Ok(Outcome::Posted { ts, channel, .. }) = posted else { panic!("posted") };
    let update = async |text: Option<&str>, more: serde_json::Value| {
        let change = Change::Update {
            user: stage.id("alice"),
            channel: channel.clone(),
            ts,
            text: text.map(Into::into),
            more: more.as_object().expect("fields").clone(),
        };
        match stage.database.change(change).await {
            Ok(Outcome::Updated { message, .. }) => Ok(message),
            Err(refused) => Err(refused),
            other => panic!("{other:?}"),
        }
    };
    let message =
        update(None, json!({ "blocks": [{ "type": "header" }] })).await.expect("new blocks");
    assert_eq!(
        (&message["text"], &message["blocks"][0]["type"]),
        (&json!("old"), &json!("header"))
    );
    let message = update(Some("new"), json!({})).await.expect("a new text");
    assert!(message.get("blocks").is_none() && message.get("attachments").is_some(), "{message}");
    let message = update(None, json!({ "attachments": [] })).await.expect("without");
    assert!(message.get("attachments").is_none() && message["text"] == "new", "{message}");
    assert_eq!(update(Some(""), json!({})).await, Err(Refused("no_text")));
}

#[tokio::test]
async fn only_its_author_changes_a_message_and_nobody_a_deleted_one() {
    let stage = Stage::new().await;
    let (ts, _) = stage.posted("alice", "general", "mine").await;
    let channel = stage.general();
    let delete = |name: &str| Change::Delete { user: stage.id(name), channel: channel.clone(), ts };
    let react = |name: &str, add| Change::React {
        user: stage.id(name),
        channel: channel.clone(),
        ts,
        name: "tada".into(),
        add,
    };
    assert_eq!(stage.database.change(react("bob", false)).await, Err(Refused("no_reaction")));
    assert_eq!(stage.database.change(react("bob", true)).await, Ok(Outcome::Done));
    assert_eq!(stage.database.change(react("bob", true)).await, Err(Refused("already_reacted")));
    assert_eq!(stage.database.change(delete("bob")).await, Err(Refused("cant_delete_message")));
    assert!(stage.database.change(delete("alice")).await.is_ok());
    for change in [delete("alice"), react("bob", true), react("bob", false)] {
        assert_eq!(stage.database.change(change).await, Err(Refused("message_not_found")));
    }
    assert_eq!(stage.database.message(&channel, ts).await, Err(Refused("message_not_found")));
}

#[tokio::test]
async fn a_message_has_only_so_many_different_reactions() {
    let stage = Stage::new().await;
    let (ts, _) = stage.posted("alice", "general", "!").await;
    let react = async |user: &str, name: String| {
        let (user, channel) = (stage.id(user), stage.general());
        stage.database.change(Change::React { user, channel, ts, name, add: true }).await
    };
    for n in 0..50 {
        assert_eq!(react("bob", format!("e{n}")).await, Ok(Outcome::Done));
    }
    assert_eq!(react("bob", "one_more".into()).await, Err(Refused("too_many_emoji")));
    assert_eq!(react("carol", "e7".into()).await, Ok(Outcome::Done), "one that is there");
}
