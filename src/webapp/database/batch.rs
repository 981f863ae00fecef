//! The writer: takes what waits, does it in one transaction, and answers when it is on the disk.
//!
//! A change refuses before it writes anything, so a refusal needs no savepoint; an error of the database fails the whole batch.

use std::sync::Arc;

use serde_json::{Value, json};
use sqlx::{SqliteConnection, SqlitePool};
use tokio::sync::mpsc;

use super::{Facts, Outcome, Refused, Request, now_micros, ts_of};
use crate::ids::{NodeId, Origin, Peer, Role};
use crate::webapp::control::Control;
use crate::wire::{Member, Membership, Message};

/// Runs until the last handle of the database is gone.
pub(super) async fn write(
    pool: SqlitePool,
    mut requests: mpsc::Receiver<Request>,
    control: Control,
    facts: Arc<Facts>,
) {
    let batch_max = facts.limits.commit_batch_max as usize;
    let dispatcher = Peer::control(NodeId(0), Role::Admin);
    let mut waiting = Vec::with_capacity(batch_max);
    while requests.recv_many(&mut waiting, batch_max).await > 0 {
        let changes = waiting.drain(..).map(|request| (request.change, request.answer));
        let (changes, answers): (Vec<_>, Vec<_>) = changes.unzip();
        match commit(&pool, &facts, changes).await {
            Ok((outcomes, rows)) => {
                for row in &rows {
                    let committed = row.message();
                    // Full: the dispatcher's sweep finds the row in the table.
                    let _ = control.tell(dispatcher, &committed);
                }
                for (answer, outcome) in answers.into_iter().zip(outcomes) {
                    // Who asked may have gone.
                    let _ = answer.send(outcome);
                }
            }
            Err(error) => {
                tracing::error!("a transaction failed: {error}");
                for answer in answers {
                    let _ = answer.send(Err(Refused::INTERNAL));
                }
            }
        }
    }
}

async fn commit(
    pool: &SqlitePool,
    facts: &Facts,
    changes: Vec<super::Change>,
) -> Result<(Vec<Result<Outcome, Refused>>, Vec<OutboxRow>), sqlx::Error> {
    let mut tx = pool.begin().await?;
    let mut batch = Batch { db: &mut tx, facts, now: now_micros(), rows: Vec::new() };
    let mut outcomes = Vec::with_capacity(changes.len());
    for change in changes {
        let rows = batch.rows.len();
        match batch.apply(change).await {
            Ok(outcome) => outcomes.push(Ok(outcome)),
            Err(Stopped::Refused(refused)) => {
                assert!(batch.rows.len() == rows, "a change refuses before it writes");
                outcomes.push(Err(refused));
            }
            Err(Stopped::Failed(error)) => return Err(error),
        }
    }
    let rows = batch.rows;
    tx.commit().await?;
    Ok((outcomes, rows))
}

/// Why a change was not done.
#[derive(Debug)]
pub(super) enum Stopped {
    /// It may not be done, and nothing was written.
    Refused(Refused),
    /// The database failed: with it the whole batch.
    Failed(sqlx::Error),
}

impl From<sqlx::Error> for Stopped {
    fn from(error: sqlx::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Refused> for Stopped {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

pub(super) fn refuse<T>(reason: &'static str) -> Result<T, Stopped> {
    Err(Stopped::Refused(Refused(reason)))
}

/// Who came or went with an event.
#[derive(Clone, Debug)]
pub(super) struct Moved {
    pub(super) what: Membership,
    pub(super) user: String,
    pub(super) channel: String,
    pub(super) seq: i64,
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
    fn message(&self) -> Message<'_> {
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

/// One transaction. The clock stands still in it.
pub(super) struct Batch<'t> {
    pub(super) db: &'t mut SqliteConnection,
    pub(super) facts: &'t Facts,
    pub(super) now: i64,
    rows: Vec<OutboxRow>,
}

impl Batch<'_> {
    /// A durable event: the next number of its stream, the event and its outbox row.
    pub(super) async fn append(
        &mut self,
        stream: &str,
        origin: Origin,
        moved: Option<Moved>,
        payload: &Value,
    ) -> Result<i64, Stopped> {
        let seq = self.next_seq(stream).await?;
        self.append_at(stream, seq, origin, moved, payload).await?;
        Ok(seq)
    }

    pub(super) async fn next_seq(&mut self, stream: &str) -> Result<i64, Stopped> {
        let next = "UPDATE streams SET tip = tip + 1 WHERE name = ?1 RETURNING tip";
        Ok(sqlx::query_scalar(next).bind(stream).fetch_one(&mut *self.db).await?)
    }

    /// The same, at a number that `next_seq` gave in this transaction.
    pub(super) async fn append_at(
        &mut self,
        stream: &str,
        seq: i64,
        origin: Origin,
        moved: Option<Moved>,
        payload: &Value,
    ) -> Result<(), Stopped> {
        let payload = payload.to_string();
        assert!(
            payload.len() <= self.facts.limits.publication_bytes_max as usize,
            "bodies are bounded before"
        );
        let what = moved.as_ref().map(|moved| moved.what as i64);
        sqlx::query("INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")
            .bind(stream)
            .bind(seq)
            .bind(origin.life as i64)
            .bind(origin.conn.0 as i64)
            .bind(what)
            .bind(moved.as_ref().map(|moved| moved.user.as_str()))
            .bind(moved.as_ref().map(|moved| moved.channel.as_str()))
            .bind(moved.as_ref().map(|moved| moved.seq))
            .bind(payload.as_str())
            .execute(&mut *self.db)
            .await?;
        let id = sqlx::query("INSERT INTO outbox (stream, seq) VALUES (?1, ?2)")
            .bind(stream)
            .bind(seq)
            .execute(&mut *self.db)
            .await?
            .last_insert_rowid();
        self.rows.push(OutboxRow { id, stream: stream.into(), seq, origin, moved, payload });
        Ok(())
    }

    /// The next time stamp of a conversation: grows with every event, whatever the clock does.
    pub(super) async fn next_ts(&mut self, channel: &str) -> Result<i64, Stopped> {
        let next = "UPDATE conversations SET last_ts = MAX(last_ts + 1, ?2) WHERE id = ?1 RETURNING last_ts";
        Ok(sqlx::query_scalar(next).bind(channel).bind(self.now).fetch_one(&mut *self.db).await?)
    }

    /// Somebody comes into a conversation: told there, and to the user's own channel, which makes connections follow it.
    pub(super) async fn join(
        &mut self,
        channel: &str,
        user: &str,
        is_private: bool,
    ) -> Result<i64, Stopped> {
        let told = json!({
            "type": "member_joined_channel",
            "user": user,
            "channel": channel,
            "channel_type": if is_private { "G" } else { "C" },
            "team": self.facts.team.id,
            "event_ts": ts_of(self.now),
        });
        let seq = self.append(channel, Origin::NOBODY, None, &told).await?;
        sqlx::query("INSERT INTO members (channel, user, last_read) VALUES (?1, ?2, ?3)")
            .bind(channel)
            .bind(user)
            .bind(self.now)
            .execute(&mut *self.db)
            .await?;
        Ok(seq)
    }
}
