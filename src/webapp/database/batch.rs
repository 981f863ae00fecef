//! One transaction of the writer, and what every durable event has in common.

use serde_json::{Value, json};

use super::connection::{Connection, Transaction};
use super::sql::{Sql, query, together};
use super::{Facts, Refused, ts_of};
use crate::ids::Origin;
use crate::wire::{Member, Membership, Message};

/// Why a change was not done.
#[derive(Debug)]
pub(super) enum Stopped {
    /// It may not be done, and nothing was written.
    Refused(Refused),
    /// The database failed: the transaction is worth nothing.
    Failed(sqlx::Error),
}

impl From<sqlx::Error> for Stopped {
    fn from(error: sqlx::Error) -> Self {
        Self::Failed(error)
    }
}

pub(super) fn refuse<T>(reason: &'static str) -> Result<T, Stopped> {
    Err(Stopped::Refused(Refused(reason)))
}

/// One transaction. The clock stands still in it.
///
/// A change refuses before it writes anything, so that a refusal needs no savepoint.
pub(super) struct Batch<'t> {
    pub(super) db: Transaction<'t>,
    pub(super) facts: &'t Facts,
    pub(super) now: i64,
    pub(super) rows: Vec<OutboxRow>,
}

/// The next place in a stream: its number, and a time stamp above all earlier ones of the stream, whatever the clock does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stamp {
    pub(super) seq: i64,
    pub(super) ts: i64,
}

/// Who came or went with an event.
#[derive(Clone, Debug)]
pub(super) struct Moved {
    pub(super) what: Membership,
    pub(super) user: String,
    pub(super) channel: String,
    pub(super) seq: i64,
}

/// What is stored of a message besides its event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stored<'a> {
    pub(super) user: &'a str,
    pub(super) thread: Option<i64>,
    pub(super) is_reply: bool,
    pub(super) key: Option<&'a str>,
    pub(super) body: &'a str,
}

/// A row as the dispatcher wants it, told after the commit.
#[derive(Debug)]
pub(super) struct OutboxRow {
    id: i64,
    stream: String,
    seq: i64,
    origin: Origin,
    moved: Option<Moved>,
    payload: String,
}

impl OutboxRow {
    /// Whether this very event is there, and not another one in its place.
    pub(super) async fn is_stored(&self, db: &mut Connection) -> Result<bool, sqlx::Error> {
        let found =
            "SELECT EXISTS (SELECT 1 FROM events WHERE stream = $1 AND seq = $2 AND payload = $3)";
        let found = query(found).bind(&self.stream).bind(self.seq).bind(&self.payload);
        Ok(found.fetch_one(db).await?.get(0))
    }

    pub(super) fn message(&self) -> Message<'_> {
        Message::Committed {
            id: self.id as u64,
            namespace: 0,
            offset: self.seq as u64,
            origin: self.origin,
            member: self.moved.as_ref().map(|moved| Member {
                what: moved.what,
                user: &moved.user,
                channel: &moved.channel,
                offset: moved.seq as u64,
            }),
            name: &self.stream,
            payload: self.payload.as_bytes(),
        }
    }
}

/// An event with its outbox row, and a message with both: one trip to the database each, which gives the row's id: of
/// these tables only the outbox has numbers of rows in SQLite.
const EVENT: Sql<'_> = together!(
    "INSERT INTO events VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    "INSERT INTO outbox (stream, seq) VALUES ($1, $2)",
    number "id",
);
const MESSAGE: Sql<'_> = together!(
    "INSERT INTO events VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    "INSERT INTO messages (channel, seq, ts, who, thread, is_reply, key, body) VALUES ($1, $2, $10, $11, $12, $13, $14, $15)",
    "INSERT INTO outbox (stream, seq) VALUES ($1, $2)",
    number "id",
);

impl Batch<'_> {
    pub(super) async fn next(&mut self, stream: &str) -> Result<Stamp, Stopped> {
        let next = "UPDATE streams SET tip = tip + 1, last_ts = CASE WHEN last_ts < $2 THEN $2 ELSE last_ts + 1 END \
             WHERE name = $1 RETURNING tip, last_ts";
        let next = query(next).bind(stream).bind(self.now);
        let row = next.fetch_one(&mut self.db).await?;
        Ok(Stamp { seq: row.get(0), ts: row.get(1) })
    }

    /// A durable event at a place that `next` gave in this transaction, and its outbox row.
    pub(super) async fn append(
        &mut self,
        stream: &str,
        at: Stamp,
        moved: Option<Moved>,
        event: &Value,
    ) -> Result<(), Stopped> {
        self.write(stream, at, Origin::NOBODY, moved, event, None).await
    }

    /// The same with a message.
    pub(super) async fn append_message(
        &mut self,
        stream: &str,
        at: Stamp,
        origin: Origin,
        event: &Value,
        stored: Stored<'_>,
    ) -> Result<(), Stopped> {
        self.write(stream, at, origin, None, event, Some(stored)).await
    }

    async fn write(
        &mut self,
        stream: &str,
        at: Stamp,
        origin: Origin,
        moved: Option<Moved>,
        event: &Value,
        stored: Option<Stored<'_>>,
    ) -> Result<(), Stopped> {
        let payload = event.to_string();
        assert!(
            payload.len() <= self.facts.limits.publication_bytes_max as usize,
            "bodies are bounded before"
        );
        let mut insert = query(if stored.is_some() { MESSAGE } else { EVENT })
            .bind(stream)
            .bind(at.seq)
            .bind(origin.life as i64)
            .bind(origin.conn.0 as i64)
            .bind(moved.as_ref().map(|moved| moved.what as i64))
            .bind(moved.as_ref().map(|moved| moved.user.as_str()))
            .bind(moved.as_ref().map(|moved| moved.channel.as_str()))
            .bind(moved.as_ref().map(|moved| moved.seq))
            .bind(payload.as_str());
        if let Some(Stored { user, thread, is_reply, key, body }) = stored {
            insert = insert.bind(at.ts).bind(user).bind(thread).bind(is_reply).bind(key).bind(body);
        }
        let id = insert.insert(&mut self.db).await?;
        let (stream, seq) = (stream.to_string(), at.seq);
        self.rows.push(OutboxRow { id, stream, seq, origin, moved, payload });
        Ok(())
    }

    /// Somebody comes into a conversation: told there. Where that was.
    pub(super) async fn join(
        &mut self,
        channel: &str,
        user: &str,
        is_private: bool,
    ) -> Result<Stamp, Stopped> {
        let at = self.next(channel).await?;
        let told = json!({
            "type": "member_joined_channel",
            "user": user,
            "channel": channel,
            "channel_type": if is_private { "G" } else { "C" },
            "team": self.facts.team().id,
            "event_ts": ts_of(at.ts),
        });
        self.append(channel, at, None, &told).await?;
        let insert = together!(
            "INSERT INTO members (channel, who, last_read) VALUES ($1, $2, $3)",
            "UPDATE conversations SET members = members + 1 WHERE id = $1",
        );
        query(insert).bind(channel).bind(user).bind(at.ts).execute(&mut self.db).await?;
        Ok(at)
    }
}
