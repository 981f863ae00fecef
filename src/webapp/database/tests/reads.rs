//! History, threads and lists, page by page.

use serde_json::{Value, json};

use super::*;

const ALL: Span = Span { oldest: 0, latest: i64::MAX / 2, inclusive: false };

fn texts(messages: &[Value]) -> Vec<&str> {
    messages.iter().map(|message| message["text"].as_str().expect("a text")).collect()
}

#[tokio::test]
async fn a_history_is_read_backwards_page_by_page_and_by_time() {
    let stage = Stage::new().await;
    let general = stage.general();
    let mut stamps = Vec::new();
    for text in ["1", "2", "3", "4", "5"] {
        stamps.push(stage.posted("alice", "general", text).await.0);
    }
    let history = async |span: Span, after: i64, limit: i64| {
        stage.database.history(&general, span, Part { after, limit }).await.expect("a page")
    };
    let (page, next) = history(ALL, 0, 2).await;
    assert_eq!(texts(&page), ["5", "4"]);
    stage.posted("alice", "general", "6").await;
    let (page, next) = history(ALL, next.expect("more"), 2).await;
    assert_eq!(texts(&page), ["3", "2"], "what comes meanwhile moves nothing");
    let (page, next) = history(ALL, next.expect("more"), 2).await;
    assert_eq!((texts(&page), next), (vec!["1"], None));
    for (inclusive, expected) in [(false, vec!["3"]), (true, vec!["4", "3", "2"])] {
        let span = Span { oldest: stamps[1], latest: stamps[3], inclusive };
        assert_eq!(texts(&history(span, 0, 9).await.0), expected);
    }
}

#[tokio::test]
async fn a_thread_is_its_parent_and_its_replies_whichever_message_is_named() {
    let stage = Stage::new().await;
    let general = stage.general();
    let (parent, _) = stage.posted("alice", "general", "parent").await;
    let mut replies = Vec::new();
    for (name, text) in [("bob", "one"), ("carol", "two"), ("bob", "three")] {
        let mut post = stage.post(name, "general", text, None);
        post.thread_ts = Some(replies.last().copied().unwrap_or(parent));
        let posted = stage.database.change(Change::Post(post)).await;
        let Ok(Outcome::Posted { ts, message, .. }) = posted else { panic!("posted") };
        assert_eq!(message["thread_ts"], ts_of(parent), "a reply's thread is its parent's");
        assert_eq!(message["parent_user_id"], stage.id("alice"));
        replies.push(ts);
    }
    let thread = async |ts, after, limit| {
        stage.database.replies(&general, ts, ALL, Part { after, limit }).await
    };
    let (page, next) = thread(parent, 0, 3).await.expect("a thread");
    assert_eq!(texts(&page), ["parent", "one", "two"]);
    assert_eq!((&page[0]["reply_count"], &page[0]["reply_users_count"]), (&json!(3), &json!(2)));
    assert_eq!(page[0]["reply_users"].as_array().map(Vec::len), Some(2));
    assert_eq!(page[0]["latest_reply"], ts_of(replies[2]));
    let (page, next) = thread(parent, next.expect("more"), 3).await.expect("the rest");
    assert_eq!((texts(&page), next), (vec!["three"], None));
    let (page, _) = thread(replies[1], 0, 9).await.expect("by a reply");
    assert_eq!(page.len(), 4);
    assert_eq!(thread(1, 0, 9).await, Err(Refused("thread_not_found")));
    let (history, _) =
        stage.database.history(&general, ALL, Part { after: 0, limit: 9 }).await.expect("history");
    assert_eq!(texts(&history), ["parent"], "replies are in their thread");
    let delete = Change::Delete { user: stage.id("alice"), channel: general.clone(), ts: parent };
    assert!(stage.database.change(delete).await.is_ok());
    let (page, _) = thread(parent, 0, 9).await.expect("its replies");
    assert_eq!(texts(&page), ["one", "two", "three"]);
}

#[tokio::test]
async fn conversations_are_listed_by_kind_and_nobody_sees_others_private_ones() {
    let stage = Stage::new().await;
    let (alice, bob, carol) = (stage.id("alice"), stage.id("bob"), stage.id("carol"));
    stage.created("alice", "open", false).await;
    stage.created("alice", "closed", true).await;
    for others in [vec![bob.clone()], vec![bob.clone(), carol.clone()]] {
        let open = Change::Open { user: alice.clone(), others, may_make: true };
        assert!(stage.database.change(open).await.is_ok());
    }
    let part = Part { after: 0, limit: 100 };
    let list = async |user: &str, kinds: &[i64], only_own| {
        let listed = stage.database.conversations(user, kinds, only_own, part).await.expect("list");
        listed.0
    };
    for (kind, is) in
        [(kind::PUBLIC, "is_channel"), (kind::IM, "is_im"), (kind::SEVERAL, "is_mpim")]
    {
        let listed = list(&alice, &[kind], true).await;
        assert!(!listed.is_empty() && listed.iter().all(|one| one[is] == true), "{is}");
    }
    assert_eq!(list(&alice, &[kind::PRIVATE], false).await.len(), 1);
    assert_eq!(list(&bob, &[kind::PRIVATE], false).await.len(), 0);
    assert_eq!(list(&carol, &[kind::IM, kind::SEVERAL], false).await.len(), 1);
    assert_eq!(list(&bob, &[kind::PUBLIC], false).await.len(), 3);
    assert_eq!(list(&bob, &[kind::PUBLIC], true).await.len(), 2);
    let closed = stage.database.conversation(&bob, "closed").await;
    assert_eq!(closed, Err(Refused("channel_not_found")));
    assert_eq!(stage.database.readable(&bob, "open").await, Err(Refused("not_in_channel")));
}
