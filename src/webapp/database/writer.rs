//! The writer: takes what waits, does it in one transaction, and answers when it is on the disk.
//!
//! A transaction that fails is done again one change at a time, so that only the guilty one fails. When the fault is the storage's (a full
//! disk), nothing is done again here: everybody is told to come again, and the next that comes finds out whether there is room.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use sqlx::{Connection, SqlitePool};
use tokio::sync::{mpsc, oneshot};

use super::batch::{Batch, OutboxRow, Stopped};
use super::{Change, Facts, Outcome, Refused, now_micros};
use crate::control::Control;
use crate::ids::{NodeId, Peer, Role};

/// What the writer is asked for.
#[derive(Debug)]
pub(super) enum Request {
    Change {
        change: Change,
        answer: oneshot::Sender<Result<Outcome, Refused>>,
    },
    /// Do what was asked before this, write the log into the file, end.
    Close {
        done: oneshot::Sender<()>,
    },
}

/// Totals, for `/metrics`.
#[derive(Default, Debug)]
pub(super) struct Tally {
    pub(super) commits: AtomicU64,
    pub(super) changes: AtomicU64,
    /// Transactions that failed.
    pub(super) failures: AtomicU64,
    /// Changes that found the queue full.
    pub(super) shed: AtomicU64,
    /// The storage fails at the moment.
    pub(super) is_failing: AtomicBool,
}

pub(super) struct Writer {
    pub(super) pool: SqlitePool,
    /// In a file: a connection can be replaced by a fresh one.
    pub(super) is_on_disk: bool,
    pub(super) control: Control,
    pub(super) facts: Arc<Facts>,
}

/// Outcomes in the order of the changes, and the rows of all of them.
type Done = (Vec<Result<Outcome, Refused>>, Vec<OutboxRow>);

/// Why a transaction came to nothing.
#[derive(Debug)]
struct Fault {
    error: sqlx::Error,
    /// The commit itself failed: with an error of input or output nobody knows what is on the disk.
    at_commit: bool,
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Self { error, at_commit: false }
    }
}

impl Writer {
    /// Runs until it is told to close, or the last handle of the database is gone.
    pub(super) async fn run(self, mut requests: mpsc::Receiver<Request>) {
        let batch_max = self.facts.limits.commit_batch_max as usize;
        let mut waiting = Vec::with_capacity(batch_max);
        let mut closers = Vec::new();
        while requests.recv_many(&mut waiting, batch_max).await > 0 {
            let (mut changes, mut answers) = (Vec::new(), Vec::new());
            for request in waiting.drain(..) {
                match request {
                    Request::Change { change, answer } => {
                        changes.push(change);
                        answers.push(answer);
                    }
                    Request::Close { done } => {
                        // What waits is still done; whoever comes now is refused.
                        requests.close();
                        closers.push(done);
                    }
                }
            }
            let (outcomes, rows) = self.carry_out(&changes).await;
            self.tell(&outcomes, &rows);
            for (answer, outcome) in answers.into_iter().zip(outcomes) {
                // Who asked may have gone.
                let _ = answer.send(outcome);
            }
        }
        self.end().await;
        for done in closers {
            let _ = done.send(());
        }
    }

    /// After the commit and before any answer: who is new is known before the event that says so is anywhere.
    fn tell(&self, outcomes: &[Result<Outcome, Refused>], rows: &[OutboxRow]) {
        for outcome in outcomes {
            if let Ok(Outcome::User(user)) = outcome {
                self.facts.people.add(Arc::clone(user));
            }
        }
        for row in rows {
            // Full: the dispatcher's sweep finds the row in the table.
            let _ = self.control.tell(Peer::control(NodeId(0), Role::Admin), &row.message());
        }
    }

    async fn carry_out(&self, changes: &[Change]) -> Done {
        if changes.is_empty() {
            return Done::default();
        }
        let fault = match self.commit(changes).await {
            Ok(done) => {
                self.works(changes.len());
                return done;
            }
            Err(fault) => fault,
        };
        let all = |refused| (vec![Err(refused); changes.len()], Vec::new());
        self.facts.tally.failures.fetch_add(1, Ordering::Relaxed);
        if fault.at_commit && primary_code(&fault.error) == Some(code::IOERR) {
            tracing::error!("the database could not be written, perhaps it was: {}", fault.error);
            return all(Refused::INTERNAL);
        }
        if is_of_storage(&fault.error) {
            self.fails(&fault.error);
            return all(Refused::UNAVAILABLE);
        }
        if changes.len() == 1 {
            tracing::error!("a change failed: {}", fault.error);
            return all(Refused::INTERNAL);
        }
        let mut done = Done::default();
        for change in changes {
            let (outcomes, rows) = Box::pin(self.carry_out(std::slice::from_ref(change))).await;
            done.0.extend(outcomes);
            done.1.extend(rows);
        }
        done
    }

    async fn commit(&self, changes: &[Change]) -> Result<Done, Fault> {
        let mut db = self.pool.acquire().await?;
        let done = self.transact(&mut db, changes).await;
        if done.is_err() && self.is_on_disk {
            // Whether SQLite ended the transaction by itself depends on the error: a fresh connection has none.
            let _ = db.close().await;
        }
        done
    }

    async fn transact(
        &self,
        db: &mut sqlx::SqliteConnection,
        changes: &[Change],
    ) -> Result<Done, Fault> {
        let mut tx = db.begin().await?;
        let rows = Vec::with_capacity(changes.len());
        let mut batch = Batch { db: &mut tx, facts: &self.facts, now: now_micros(), rows };
        let mut outcomes = Vec::with_capacity(changes.len());
        for change in changes {
            let rows = batch.rows.len();
            match batch.apply(change).await {
                Ok(outcome) => outcomes.push(Ok(outcome)),
                Err(Stopped::Refused(refused)) => {
                    assert!(batch.rows.len() == rows, "a change refuses before it writes");
                    outcomes.push(Err(refused));
                }
                Err(Stopped::Failed(error)) => return Err(error.into()),
            }
        }
        let rows = batch.rows;
        tx.commit().await.map_err(|error| Fault { error, at_commit: true })?;
        Ok((outcomes, rows))
    }

    fn works(&self, changes: usize) {
        let tally = &self.facts.tally;
        tally.commits.fetch_add(1, Ordering::Relaxed);
        tally.changes.fetch_add(changes as u64, Ordering::Relaxed);
        if tally.is_failing.swap(false, Ordering::Relaxed) {
            tracing::info!("the database can be written again");
        }
    }

    /// Told once, and again when it is over.
    fn fails(&self, error: &sqlx::Error) {
        if !self.facts.tally.is_failing.swap(true, Ordering::Relaxed) {
            let what = match primary_code(error) {
                Some(code::FULL) => "the disk is full",
                _ => "the database cannot be written",
            };
            tracing::error!("{what}: every change is refused until that is over ({error})");
        }
    }

    async fn end(&self) {
        if self.is_on_disk
            && let Err(error) =
                sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&self.pool).await
        {
            // The next start does it.
            tracing::warn!("the write-ahead log stays beside the database: {error}");
        }
        self.pool.close().await;
    }
}

/// SQLite's primary result codes.
mod code {
    pub(super) const BUSY: u32 = 5;
    pub(super) const LOCKED: u32 = 6;
    pub(super) const NOMEM: u32 = 7;
    pub(super) const READONLY: u32 = 8;
    pub(super) const IOERR: u32 = 10;
    pub(super) const CORRUPT: u32 = 11;
    pub(super) const FULL: u32 = 13;
    pub(super) const CANTOPEN: u32 = 14;
    pub(super) const NOTADB: u32 = 26;
}

fn primary_code(error: &sqlx::Error) -> Option<u32> {
    let code: u32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}

/// Whether the fault is nobody's change: it would meet every other one, too.
fn is_of_storage(error: &sqlx::Error) -> bool {
    use code::{BUSY, CANTOPEN, CORRUPT, FULL, IOERR, LOCKED, NOMEM, NOTADB, READONLY};
    match primary_code(error) {
        Some(code) => {
            [BUSY, LOCKED, NOMEM, READONLY, IOERR, CORRUPT, FULL, CANTOPEN, NOTADB].contains(&code)
        }
        None => matches!(
            error,
            sqlx::Error::Io(_)
                | sqlx::Error::PoolTimedOut
                | sqlx::Error::PoolClosed
                | sqlx::Error::WorkerCrashed
        ),
    }
}
