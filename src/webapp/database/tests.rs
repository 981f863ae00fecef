//! Stories of the database: what a change leaves behind.

use serde_json::Map;

use super::*;
use crate::ids::{Ask, Origin};
use crate::webapp::control::{Control, Mail};
use crate::wire::{Membership, Message};

struct Stage {
    database: Database,
    mail: mpsc::Receiver<Mail>,
}

impl Stage {
    async fn new() -> Self {
        let (control, mail) = Control::new(1_000);
        let database = Database::open(None, &Limits::DEFAULT, control).await.expect("in memory");
        Self { database, mail }
    }
    fn id(&self, name: &str) -> String {
        self.database.users().iter().find(|user| user.name == name).expect("seeded").id.clone()
    }
    fn general(&self) -> String {
        self.database.seeded_channels()[0].0.clone()
    }
    fn post(&self, name: &str, channel: &str, text: &str, key: Option<&str>) -> Change {
        Change::Post {
            user: self.id(name),
            channel: channel.into(),
            text: text.into(),
            thread_ts: None,
            broadcast: false,
            client_msg_id: key.map(Into::into),
            key: key.map(Into::into),
            more: Map::new(),
            origin: Origin::NOBODY,
        }
    }
    async fn ask(&self, question: &Message<'_>) -> Vec<Vec<u8>> {
        let mut bytes = Vec::new();
        question.encode(&mut bytes);
        self.database.answer(bytes).await
    }
}

#[tokio::test]
async fn every_event_of_a_channel_has_the_next_number_and_an_outbox_row() {
    let mut stage = Stage::new().await;
    let general = stage.general();
    for count in 1..=3 {
        let post = stage.post("alice", "#general", &format!("line {count}"), None);
        let Ok(Outcome::Posted { seq, channel, .. }) = stage.database.change(post).await else {
            panic!("posted")
        };
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
}

#[tokio::test]
async fn the_same_key_is_the_same_message() {
    let stage = Stage::new().await;
    let post = stage.post("alice", "general", "once", Some("k"));
    let first = stage.database.change(post.clone()).await;
    assert_eq!(first, stage.database.change(post).await);
    assert!(first.is_ok());
    let tip = stage.ask(&Message::Tip { ask: Ask(2), name: &stage.general() }).await;
    assert_eq!(Message::decode(&tip[0]), Ok(Message::TipIs { ask: Ask(2), found: true, tip: 1 }));
}

#[tokio::test]
async fn a_refusal_changes_nothing() {
    let stage = Stage::new().await;
    for (channel, text, reason) in
        [("C0NOSUCH", "x", "channel_not_found"), ("general", "", "no_text")]
    {
        let refused = stage.database.change(stage.post("alice", channel, text, None)).await;
        assert_eq!(refused, Err(Refused(reason)));
    }
    let long = "x".repeat(Limits::DEFAULT.publication_bytes_max as usize);
    let refused = stage.database.change(stage.post("alice", "general", &long, None)).await;
    assert_eq!(refused, Err(Refused("msg_too_long")));
    let tip = stage.ask(&Message::Tip { ask: Ask(2), name: &stage.general() }).await;
    assert_eq!(Message::decode(&tip[0]), Ok(Message::TipIs { ask: Ask(2), found: true, tip: 0 }));
}

#[tokio::test]
async fn coming_is_told_to_the_user_and_going_to_the_conversation() {
    let stage = Stage::new().await;
    let (alice, bob) = (stage.id("alice"), stage.id("bob"));
    let create = Change::Create { user: alice.clone(), name: "tower".into(), is_private: false };
    let Ok(Outcome::Conversation { id, .. }) = stage.database.change(create).await else {
        panic!("created")
    };
    let join = Change::Join { user: bob.clone(), channel: id.clone() };
    assert_eq!(
        stage.database.change(join).await,
        Ok(Outcome::Conversation { id: id.clone(), fresh: true })
    );
    let leave = Change::Leave { user: bob.clone(), channel: id.clone() };
    assert_eq!(stage.database.change(leave).await, Ok(Outcome::Done));
    let range = |name: &str| {
        let mut bytes = Vec::new();
        Message::Range { ask: Ask(1), name, from: 1, to: 9, bytes_max: 1 << 20 }.encode(&mut bytes);
        stage.database.answer(bytes)
    };
    let own = range(&bob).await;
    let Ok(Message::RangeEvent { member: Some(joined), .. }) = Message::decode(&own[0]) else {
        panic!("told to bob")
    };
    assert_eq!(joined.what, Membership::Joined);
    assert_eq!((joined.user, joined.channel, joined.offset), (bob.as_str(), id.as_str(), 2));
    let there = range(&id).await;
    let Ok(Message::RangeEvent { member: Some(left), offset: 3, .. }) = Message::decode(&there[2])
    else {
        panic!("told to the conversation")
    };
    assert_eq!((left.what, left.user, left.offset), (Membership::Left, bob.as_str(), 3));
}

#[tokio::test]
async fn a_ticket_is_redeemed_once_and_names_where_everything_stands() {
    let stage = Stage::new().await;
    let posted = stage.database.change(stage.post("bob", "general", "one", None)).await;
    assert!(posted.is_ok());
    let user = stage.id("alice");
    let hash = ticket_hash("t");
    let ticket = Change::Ticket { user: user.clone(), hash, flags: 1 };
    let Ok(Outcome::Ticket { positions }) = stage.database.change(ticket).await else {
        panic!("a ticket")
    };
    assert_eq!(positions.len(), 4);
    let first = stage.ask(&Message::Redeem { ask: Ask(7), ticket: "t" }).await;
    let Ok(Message::Boot { ask: Ask(7), user: who, flags: 1, channels, .. }) =
        Message::decode(&first[0])
    else {
        panic!("redeemed")
    };
    assert_eq!(who, user);
    let general = stage.general();
    assert!(channels.iter::<(&str, u64)>().any(|pair| pair == (general.as_str(), 1)));
    let again = stage.ask(&Message::Redeem { ask: Ask(8), ticket: "t" }).await;
    assert_eq!(Message::decode(&again[0]), Ok(Message::Refused { ask: Ask(8), retry: false }));
}

#[tokio::test]
async fn one_process_holds_a_directory_and_the_next_finds_everything() {
    let home = tempfile::tempdir().expect("a directory");
    let directory = home.path().join("data");
    let (control, _mail) = Control::new(10);
    let first = Database::open(Some(&directory), &Limits::DEFAULT, control.clone()).await;
    let first = first.expect("fresh");
    let second = Database::open(Some(&directory), &Limits::DEFAULT, control.clone()).await;
    assert!(matches!(second, Err(Unopened::InUse { .. })), "{second:?}");
    let (users, epoch) = (first.users().to_vec(), first.epoch().to_string());
    drop(first);
    // The writer ends with the last handle, and lets go of the lock.
    let third = loop {
        match Database::open(Some(&directory), &Limits::DEFAULT, control.clone()).await {
            Err(Unopened::InUse { .. }) => tokio::task::yield_now().await,
            opened => break opened.expect("the same"),
        }
    };
    assert_eq!((third.users(), third.epoch()), (&users[..], epoch.as_str()));
}
