//! The database of the reference back end: an SQLite file or a PostgreSQL server, one writer that commits in groups, readers beside it.
//!
//! - `storage`: where it is, and why it cannot be opened; `open`: the file or the `server`, its lock, its connections
//! - `migrations`: the schema; `seed`: a fresh database, and what is read at the start; `demo`: a workspace to try things in; `crowd`: users
//!   by number
//! - `sql`: one SQL for both databases; `connection`: connections of both; `fault`: what their errors mean
//! - `pen`: the connection that writes; `mark`: by which readers know the server that it writes to; `writer`: what waits, in one transaction; `batch`: one transaction, and what every durable event has in common
//! - `change`: everything that can be changed; `messages`, `conversations`, `teams`, `people`, `tokens`, `tickets`: how
//! - `reads`: lists and history
//! - `answer`: the questions of control-plane shards
//! - `shapes`: rows as Slack's JSON objects

mod answer;
mod batch;
mod change;
mod connection;
mod conversations;
mod crowd;
mod demo;
mod fault;
mod mark;
mod messages;
mod migrations;
mod open;
mod pen;
mod people;
mod reads;
mod seed;
mod server;
mod shapes;
mod sql;
mod storage;
mod teams;
#[cfg(test)]
mod tests;
mod tickets;
mod tokens;
mod writer;

use std::fs::File;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot};

pub(super) use answer::{ticket_hash, ticket_path};
pub use change::{Change, Key, Outcome, Post};
pub use crowd::Crowd;
pub use demo::Demo;
pub use people::{Bearer, Known};
pub use reads::{Page, Part, Span};
pub use shapes::{kind, micros_of, ts_of, user as user_shape};
pub use storage::{Storage, Unopened};
pub(super) use tickets::new_ticket;
pub use tokens::{Ended, Token};
pub(super) use tokens::{hash as token_hash, new_token};

use self::connection::Pool;
use self::people::People;
use self::writer::{Request, Tally};
use crate::limits::Limits;
use crate::ring::Secret;
use crate::shard::Report;

/// Why a call was refused: one of Slack's error names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused(pub &'static str);

impl Refused {
    /// The queue of the writer is full: the caller may come again.
    pub const BUSY: Self = Self("ratelimited");
    /// The storage fails (the disk is full), or the database is closed: nothing was changed, and it may pass.
    pub const UNAVAILABLE: Self = Self("service_unavailable");
    /// The database did not do what it must: told in the log, and to the caller as Slack does.
    pub const INTERNAL: Self = Self("internal_error");
}

impl From<sqlx::Error> for Refused {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::PoolClosed => return Self::UNAVAILABLE,
            error if fault::is_lost(&error) => {
                tracing::warn!("{}: {error}", fault::named(&error));
                return Self::UNAVAILABLE;
            }
            _ => {}
        }
        tracing::error!("database: {error}");
        Self::INTERNAL
    }
}

/// Somebody who may have tokens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct User {
    pub id: String,
    pub name: String,
    pub real_name: String,
    pub is_bot: bool,
    /// Seconds since 1970.
    pub updated: i64,
    /// Nobody comes in as this user any more.
    pub is_revoked: bool,
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

/// What nobody has made yet.
static NO_TEAM: Team = Team { id: String::new(), name: String::new(), domain: String::new() };

/// What all parts of the database know. Of it only the users and the tally change while the process runs, and once the team.
#[derive(Debug)]
struct Facts {
    team: OnceLock<Team>,
    people: People,
    seeded_channels: Vec<(String, String)>,
    epoch: String,
    secret: Secret,
    limits: Limits,
    tally: Tally,
    /// Of a file, held as long as the database is open: a second process is refused. A server's is with the pen.
    _lock: Option<File>,
}

impl Facts {
    /// Empty, until it was made: then there are no users either.
    fn team(&self) -> &Team {
        self.team.get().unwrap_or(&NO_TEAM)
    }
}

/// A handle; clones share one database. Per process.
#[derive(Clone, Debug)]
pub struct Database {
    /// For HTTP handlers.
    readers: Pool,
    /// For the questions of shards.
    source: Pool,
    requests: mpsc::Sender<Request>,
    facts: Arc<Facts>,
}

impl Database {
    /// The team. Empty, until it was made: then there are no users either.
    pub fn team(&self) -> &Team {
        self.facts.team()
    }
    /// Everybody, in the order in which they came.
    pub fn users(&self) -> Vec<Arc<User>> {
        self.facts.people.all()
    }
    /// A page of them, and where the next one begins.
    pub fn users_part(&self, part: Part) -> (Vec<Arc<User>>, Option<i64>) {
        self.facts.people.part(part)
    }
    /// Whose token it is.
    ///
    /// # Errors
    /// Slack's: `invalid_auth`, `token_revoked`, `account_inactive`.
    pub fn bearer(&self, token: &str) -> Result<Bearer, Refused> {
        self.facts.people.of_token(token)
    }
    /// The number of a token, whether or not it opens anything.
    pub fn token_number(&self, token: &str) -> Option<u32> {
        self.facts.people.number_of(token)
    }
    pub fn user(&self, id: &str) -> Option<Arc<User>> {
        self.facts.people.of_id(id)
    }
    /// (id, name) of the channels that a fresh database has.
    pub fn seeded_channels(&self) -> &[(String, String)] {
        &self.facts.seeded_channels
    }
    /// For operators: a look through all of them.
    pub fn user_named(&self, name: &str) -> Option<Arc<User>> {
        self.facts.people.of_name(name)
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
    /// [`Refused::BUSY`] when the queue is full, [`Refused::UNAVAILABLE`] when the storage fails or is closed: nothing was changed.
    /// Otherwise why it was refused; after [`Refused::INTERNAL`] it is not known whether it was done.
    pub async fn change(&self, change: Change) -> Result<Outcome, Refused> {
        let (answer, done) = oneshot::channel();
        self.requests.try_send(Request::Change { change, answer }).map_err(|error| {
            self.facts.tally.shed.fetch_add(1, Ordering::Relaxed);
            match error {
                mpsc::error::TrySendError::Full(_) => Refused::BUSY,
                mpsc::error::TrySendError::Closed(_) => Refused::UNAVAILABLE,
            }
        })?;
        done.await.map_err(|_| Refused::INTERNAL)?
    }

    /// The same, but waits for room in the queue: for shards, which bound by themselves how much they ask.
    async fn change_in_turn(&self, change: Change) -> Result<Outcome, Refused> {
        let (answer, done) = oneshot::channel();
        let request = Request::Change { change, answer };
        self.requests.send(request).await.map_err(|_| Refused::UNAVAILABLE)?;
        done.await.map_err(|_| Refused::INTERNAL)?
    }

    /// Ends it: what was asked before is done, what comes now is refused, and everything is in the one file. For the end of the process,
    /// after its last call and its last post.
    pub async fn close(&self) {
        let (done, ended) = oneshot::channel();
        if self.requests.send(Request::Close { done }).await.is_ok() {
            // The writer has ended when nobody answers.
            let _ = ended.await;
        }
        self.readers.close().await;
        self.source.close().await;
    }

    /// Names and values for `/metrics`.
    pub fn report(&self, into: &mut Report) {
        let tally = &self.facts.tally;
        for (name, total) in [
            ("database_commits_total", &tally.commits),
            ("database_changes_total", &tally.changes),
            ("database_failures_total", &tally.failures),
            ("database_shed_total", &tally.shed),
        ] {
            into.gauge(name, total.load(Ordering::Relaxed) as f64);
        }
        let waiting = self.requests.max_capacity() - self.requests.capacity();
        into.gauge("database_changes_waiting", waiting as f64);
        let is_failing = tally.is_failing.load(Ordering::Relaxed);
        into.gauge("database_is_failing", f64::from(u8::from(is_failing)));
        let went_back = tally.went_back.load(Ordering::Relaxed);
        into.gauge("database_went_back", f64::from(u8::from(went_back)));
        into.gauge("users_known", self.facts.people.len() as f64);
        into.gauge("tokens_known", self.facts.people.tokens() as f64);
    }
}

/// Microseconds since 1970.
pub(super) fn now_micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// Random bytes, at most 32 of them, as lower-case hex.
pub(super) fn random_hex(bytes: usize) -> String {
    let mut random = [0; 32];
    getrandom::fill(&mut random[..bytes]).expect("the kernel gives random bytes");
    in_hex(&random[..bytes])
}

fn in_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
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
