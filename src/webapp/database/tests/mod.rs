//! Stories of the database: what a change leaves behind.
//!
//! They are played with SQLite, or with the PostgreSQL server that `CAMPANILE_TEST_POSTGRES` names (`tests/postgres.sh`): each with a
//! database of its own.

mod faults;
mod people;
mod posts;
mod reads;
mod start;
mod tickets;
mod tokens;

use std::str::FromStr as _;

use serde_json::Map;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, PgConnection};

use super::*;
use crate::control::{Control, Mail};
use crate::ids::{Ask, Conn, Origin};
use crate::wire::{Membership, Message};

const DEMO_KEY: [u8; 32] = [7; 32];

struct Stage {
    database: Database,
    mail: mpsc::Receiver<Mail>,
}

/// Where a database stays when it is closed.
struct Home {
    storage: Storage,
    _directory: Option<tempfile::TempDir>,
}

impl Home {
    async fn new() -> Self {
        if let Some(storage) = server().await {
            return Self { storage, _directory: None };
        }
        let directory = tempfile::tempdir().expect("a directory");
        let storage = Storage::Directory(directory.path().into());
        Self { storage, _directory: Some(directory) }
    }

    /// Does something to it behind the webapp's back.
    async fn meddle(&self, sqlite: &str, postgres: &str) {
        match &self.storage {
            Storage::Server(options) => {
                let mut connection = options.connect().await.expect("a second connection");
                sqlx::raw_sql(postgres).execute(&mut connection).await.expect("done");
            }
            Storage::Directory(path) => {
                let options = sqlx::sqlite::SqliteConnectOptions::new();
                let options = options.filename(path.join("campanile.sqlite"));
                let mut connection = options.connect().await.expect("a second connection");
                sqlx::raw_sql(sqlite).execute(&mut connection).await.expect("done");
            }
            Storage::Memory => panic!("nobody else is there"),
        }
    }
}

/// A new database of the server, if there is one.
async fn server() -> Option<Storage> {
    let url = std::env::var("CAMPANILE_TEST_POSTGRES").ok()?;
    let options = PgConnectOptions::from_str(&url).expect("a URL");
    let name = format!("story_{}", random_hex(8));
    let mut connection: PgConnection = options.connect().await.expect("the server is there");
    let create = format!("CREATE DATABASE {name} TEMPLATE template0");
    sqlx::raw_sql(&create).execute(&mut connection).await.expect("a database");
    Some(Storage::Server(Box::new(options.database(&name))))
}

impl Stage {
    async fn new() -> Self {
        Self::limited(&Limits::DEFAULT).await
    }

    async fn limited(limits: &Limits) -> Self {
        Self::at(&server().await.unwrap_or(Storage::Memory), limits).await
    }

    async fn at(storage: &Storage, limits: &Limits) -> Self {
        let (control, mail) = Control::new(1_000);
        let demo = Demo::new(DEMO_KEY);
        let database =
            Database::open(storage, limits, control, Some(&demo)).await.expect("it opens");
        Self { database, mail }
    }

    /// The token that the demo has for a user, and its number.
    fn token(&self, name: &str) -> (String, u32) {
        let user = self.database.user_named(name).expect("there");
        let token = Demo::new(DEMO_KEY).token(&user);
        let number = self.database.token_number(&token).expect("made at the start");
        (token, number)
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
