//! The database of the reference back end: SQLite, one writer that commits in groups, readers beside it.
//!
//! - `open`: the file, its lock, its seed
//! - `batch`: one transaction of the writer, and what every durable event has in common
//! - `change`: everything that can be changed; `messages` and `people`: how
//! - `reads`: lists and history
//! - `answer`: the questions of control-plane shards
//! - `shapes`: rows as Slack's JSON objects

mod answer;
mod batch;
mod change;
mod messages;
mod open;
mod people;
mod reads;
mod shapes;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use sqlx::SqlitePool;
use tokio::sync::{mpsc, oneshot};

pub(super) use answer::ticket_hash;
pub use change::{Change, Outcome};
pub use open::Unopened;
pub use reads::{Page, Part, Span};
pub use shapes::{micros_of, ts_of};

use crate::limits::Limits;
use crate::ring::Secret;

/// Why a call was refused: one of Slack's error names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused(pub &'static str);

impl Refused {
    /// The queue of the writer is full: the caller may come again.
    pub const BUSY: Self = Self("ratelimited");
    /// The database did not do what it must: told in the log, and to the caller as Slack does.
    pub const INTERNAL: Self = Self("internal_error");
}

impl From<sqlx::Error> for Refused {
    fn from(error: sqlx::Error) -> Self {
        tracing::error!("database: {error}");
        Self::INTERNAL
    }
}

/// A user, as seeded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct User {
    pub id: String,
    pub name: String,
    pub real_name: String,
    pub is_bot: bool,
    pub token: String,
}

impl User {
    /// Never null: slack_sdk drops every event of a user without one.
    pub fn bot_id(&self) -> String {
        format!("B{}", &self.id[1..])
    }
}

/// The one team.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Team {
    pub id: String,
    pub name: String,
    pub domain: String,
}

/// What does not change while the process runs.
#[derive(Debug)]
struct Facts {
    team: Team,
    users: Vec<User>,
    by_token: HashMap<String, usize>,
    by_id: HashMap<String, usize>,
    seeded_channels: Vec<(String, String)>,
    epoch: String,
    secret: Secret,
    limits: Limits,
    /// Held as long as the database is open: a second process is refused.
    _lock: Option<File>,
}

/// A handle; clones share one database. Per process.
#[derive(Clone, Debug)]
pub struct Database {
    readers: SqlitePool,
    changes: mpsc::Sender<Request>,
    facts: Arc<Facts>,
}

#[derive(Debug)]
struct Request {
    change: Change,
    answer: oneshot::Sender<Result<Outcome, Refused>>,
}

impl Database {
    pub fn team(&self) -> &Team {
        &self.facts.team
    }
    /// In the order in which they were made.
    pub fn users(&self) -> &[User] {
        &self.facts.users
    }
    pub fn user_of_token(&self, token: &str) -> Option<&User> {
        self.facts.by_token.get(token).map(|at| &self.facts.users[*at])
    }
    pub fn user(&self, id: &str) -> Option<&User> {
        self.facts.by_id.get(id).map(|at| &self.facts.users[*at])
    }
    /// (id, name) of the channels that a fresh database has.
    pub fn seeded_channels(&self) -> &[(String, String)] {
        &self.facts.seeded_channels
    }
    /// Drawn when the database was made: positions of another one are worth nothing here.
    pub fn epoch(&self) -> &str {
        &self.facts.epoch
    }
    /// The cell's secret, made with the database.
    pub fn secret(&self) -> Secret {
        self.facts.secret
    }

    /// Does one change, and answers when it is committed.
    ///
    /// # Errors
    /// [`Refused::BUSY`] when the queue is full: nothing was changed. Otherwise why it was refused; after
    /// [`Refused::INTERNAL`] it is not known whether it was done.
    pub async fn change(&self, change: Change) -> Result<Outcome, Refused> {
        let (answer, done) = oneshot::channel();
        self.changes.try_send(Request { change, answer }).map_err(|_| Refused::BUSY)?;
        done.await.map_err(|_| Refused::INTERNAL)?
    }
}

/// Microseconds since 1970.
pub(super) fn now_micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// Random bytes, at most 32 of them, as lower-case hex.
pub(super) fn random_hex(bytes: usize) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut random = [0; 32];
    getrandom::fill(&mut random[..bytes]).expect("the kernel gives random bytes");
    let digits = random[..bytes].iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| DIGITS[usize::from(digit)] as char).collect()
}

/// An id as Slack's look: a letter that says of what, then ten of 32 letters and digits.
fn new_id(kind: char) -> String {
    const LETTERS: &[u8; 32] = b"0123456789ABCDEFGHJKLMNPQRSTUVWX";
    let mut random = [0; 9];
    getrandom::fill(&mut random).expect("the kernel gives random bytes");
    let body: String = random.iter().map(|byte| LETTERS[usize::from(byte % 32)] as char).collect();
    format!("{kind}0{body}")
}
