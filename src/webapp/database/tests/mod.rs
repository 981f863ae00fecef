//! Stories of the database: what a change leaves behind.

mod faults;
mod people;
mod posts;
mod reads;
mod start;
mod tickets;

use std::path::Path;

use serde_json::Map;

use super::*;
use crate::control::{Control, Mail};
use crate::ids::{Ask, Conn, Origin};
use crate::wire::{Membership, Message};

struct Stage {
    database: Database,
    mail: mpsc::Receiver<Mail>,
}

impl Stage {
    async fn new() -> Self {
        Self::with(None, &Limits::DEFAULT).await
    }

    async fn with(directory: Option<&Path>, limits: &Limits) -> Self {
        let (control, mail) = Control::new(1_000);
        let database = Database::open(directory, limits, control, None).await.expect("it opens");
        Self { database, mail }
    }

    fn id(&self, name: &str) -> String {
        self.database.users().iter().find(|user| user.name == name).expect("there").id.clone()
    }
    fn general(&self) -> String {
        self.database.seeded_channels()[0].0.clone()
    }
    fn random(&self) -> String {
        self.database.seeded_channels()[1].0.clone()
    }

    fn post(&self, name: &str, channel: &str, text: &str, id: Option<&str>) -> Post {
        Post {
            user: self.id(name),
            channel: channel.into(),
            text: text.into(),
            thread_ts: None,
            broadcast: false,
            client_msg_id: id.map(Into::into),
            key: id.map(|id| Key::of_client(id).expect("short")),
            more: Map::new(),
            origin: Origin::NOBODY,
        }
    }

    async fn posted(&self, name: &str, channel: &str, text: &str) -> (i64, i64) {
        let post = self.post(name, channel, text, None);
        match self.database.change(Change::Post(post)).await {
            Ok(Outcome::Posted { ts, seq, .. }) => (ts, seq),
            other => panic!("not posted: {other:?}"),
        }
    }

    async fn created(&self, name: &str, channel: &str, is_private: bool) -> String {
        let create = Change::Create { user: self.id(name), name: channel.into(), is_private };
        match self.database.change(create).await {
            Ok(Outcome::Conversation { id, .. }) => id,
            other => panic!("not created: {other:?}"),
        }
    }

    async fn new_user(&self, name: &str) -> Result<Arc<User>, Refused> {
        let (name, real_name) = (name.into(), String::new());
        match self.database.change(Change::CreateUser { name, real_name, is_bot: false }).await? {
            Outcome::User(user) => Ok(user),
            other => panic!("nobody: {other:?}"),
        }
    }

    async fn ask(&self, question: &Message<'_>) -> Vec<Vec<u8>> {
        let mut bytes = Vec::new();
        question.encode(&mut bytes);
        self.database.answer(bytes).await
    }

    async fn tip(&self, name: &str) -> u64 {
        let answer = self.ask(&Message::Tip { ask: Ask(1), name }).await;
        match Message::decode(&answer[0]) {
            Ok(Message::TipIs { found: true, tip, .. }) => tip,
            other => panic!("no tip: {other:?}"),
        }
    }

    async fn events(&self, stream: &str) -> Vec<serde_json::Value> {
        self.database.events(stream, 1, i64::MAX, 1_000).await.expect("a stream").0
    }
}
