//! The writer: takes what waits, does it in one transaction, and answers when it is on the disk.
//!
//! A transaction that fails is done again one change at a time, so that only the guilty one fails. When the fault is the storage's (a full
//! disk, a server that is away), nothing is done again here: everybody is told to come again, and the next that comes finds out whether
//! that is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::batch::{Batch, OutboxRow, Stopped};
use super::connection::{Connection, Transaction};
use super::fault::{gone_back, is_lost, is_of_storage, is_unknown_at_commit, late};
use super::pen::Pen;
use super::tokens::Ended;
use super::{Change, Facts, Outcome, Refused, fault, now_micros, seed, tokens};
use crate::control::Control;
use crate::ids::{NodeId, Peer, Role};
use crate::wire::{Message, Packed};

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
    /// It lost what was committed: nothing is written until the process ends.
    pub(super) went_back: AtomicBool,
}

pub(super) struct Writer {
    pub(super) pen: Pen,
    pub(super) control: Control,
    pub(super) facts: Arc<Facts>,
    /// Of what was committed: while this is there, all before it is.
    pub(super) last: Option<OutboxRow>,
}

/// Outcomes in the order of the changes, and the rows of all of them.
type Done = (Vec<Result<Outcome, Refused>>, Vec<OutboxRow>);

/// Why a transaction came to nothing.
struct Fault {
    error: sqlx::Error,
    /// The commit itself failed: with some errors nobody knows what is on the disk, and it may be this.
    at_commit: Option<Done>,
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Self { error, at_commit: None }
    }
}

impl Writer {
    /// Runs until it is told to close, or the last handle of the database is gone.
    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
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
            if let Some(row) = rows.into_iter().next_back() {
                self.last = Some(row);
            }
        }
        self.pen.close().await;
        for done in closers {
            let _ = done.send(());
        }
    }

    /// After the commit and before any answer: who is new is known before the event that says so is anywhere.
    fn tell(&self, outcomes: &[Result<Outcome, Refused>], rows: &[OutboxRow]) {
        for outcome in outcomes {
            match outcome {
                Ok(Outcome::User(user)) => self.facts.people.add(Arc::clone(user)),
                Ok(Outcome::Token(token)) => self.facts.people.note(token),
                Ok(Outcome::Team(team)) => {
                    self.facts.team.get_or_init(|| team.clone());
                }
                Ok(Outcome::Revoked { user, tokens, .. }) => {
                    if let Some(user) = user {
                        self.facts.people.add(Arc::clone(user));
                    }
                    for ended in tokens {
                        self.facts.people.note(&ended.token);
                    }
                    self.tell_revoked(tokens.iter().map(Ended::pair));
                }
                _ => {}
            }
        }
        for row in rows {
            // Full: the dispatcher's sweep finds the row in the table.
            let _ = self.control.tell(Peer::control(NodeId(0), Role::Admin), &row.message());
        }
    }

    /// The desk is to tell all gateways. Its queue may be full, and no sweep would find this: so it is said until there is room.
    pub(super) fn tell_revoked<'a>(&self, tokens: impl IntoIterator<Item = (u32, &'a str)>) {
        let mut list = Vec::new();
        let tokens = Packed::pack(tokens, &mut list);
        if tokens.0.is_empty() {
            return;
        }
        let desk = Peer::control(NodeId(0), Role::Webapp);
        if self.control.tell(desk, &Message::Revoke { tokens }).is_ok() {
            return;
        }
        let control = self.control.clone();
        tokio::spawn(async move {
            let tokens = Packed(&list);
            while !control.is_closed() {
                sleep(TELL_AGAIN).await;
                if control.tell(desk, &Message::Revoke { tokens }).is_ok() {
                    return;
                }
            }
        });
    }

    async fn carry_out(&mut self, changes: &[Change]) -> Done {
        if changes.is_empty() {
            return Done::default();
        }
        let Fault { error, at_commit } = match self.commit(changes).await {
            Ok(done) => {
                self.works(changes.len());
                return done;
            }
            Err(fault) => fault,
        };
        let all = |refused| (vec![Err(refused); changes.len()], Vec::new());
        self.facts.tally.failures.fetch_add(1, Ordering::Relaxed);
        if let Some(done) = at_commit
            && is_unknown_at_commit(&error)
        {
            match self.was_done(&done.1).await {
                Some(true) => {
                    self.works(changes.len());
                    return done;
                }
                Some(false) => return all(Refused::UNAVAILABLE),
                None => {}
            }
            tracing::error!("the database could not be written, perhaps it was: {error}");
            return all(Refused::INTERNAL);
        }
        if is_of_storage(&error) {
            self.fails(&error);
            return all(Refused::UNAVAILABLE);
        }
        if changes.len() == 1 {
            tracing::error!("a change failed: {error}");
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

    /// Once more when the connection was lost before the commit began: then nothing was done, and a server that was started anew would
    /// otherwise cost its first change.
    async fn commit(&mut self, changes: &[Change]) -> Result<Done, Fault> {
        let was_lost = self.pen.is_lost();
        match self.try_commit(changes).await {
            Err(Fault { error, at_commit: None }) if is_lost(&error) && !was_lost => {
                self.try_commit(changes).await
            }
            done => done,
        }
    }

    async fn try_commit(&mut self, changes: &[Change]) -> Result<Done, Fault> {
        self.take_up(TAKE_UP_TIMEOUT).await?;
        let mut db = self.pen.take().await?;
        let done = transact(&mut db, &self.facts, changes, self.pen.patience()).await;
        // Whether SQLite ended the transaction by itself depends on the error.
        self.pen.put_down(db, done.is_ok()).await;
        done
    }

    /// Where the pen was lost, others may have written before it was ours again; and it may be another server's, that was behind.
    async fn take_up(&mut self, within: Duration) -> Result<(), sqlx::Error> {
        if self.facts.tally.went_back.load(Ordering::Relaxed) {
            return Err(gone_back());
        }
        if !self.pen.is_lost() {
            return Ok(());
        }
        self.pen.take_up(within).await?;
        let mut db = self.pen.take().await?;
        let read = async {
            self.pen.sign(&mut db).await?;
            if let Some(last) = &self.last
                && !last.is_stored(&mut db).await?
            {
                // Owners and clients have what is not there, under numbers that would be given again.
                seed::note_loss(&mut db).await?;
                self.facts.tally.went_back.store(true, Ordering::Relaxed);
                return Err(gone_back());
            }
            let (users, tokens) = (seed::people(&mut db).await?, tokens::all(&mut db).await?);
            let revoked = tokens::revoked_lately(&mut db, &self.facts.limits, now_micros()).await?;
            Ok::<_, sqlx::Error>((users, tokens, revoked, seed::team(&mut db).await?))
        };
        let read = read.await;
        self.pen.put_down(db, read.is_ok()).await;
        let (users, tokens, revoked, team) = read?;
        self.facts.people.renew(users, &tokens);
        // Also what we committed ourselves, and were not told the end of.
        self.tell_revoked(revoked.iter().map(|(token, user)| (*token, user.as_str())));
        if let Some(team) = team {
            self.facts.team.get_or_init(|| team);
        }
        Ok(())
    }

    /// What became of a commit that nobody answered. Where the pen is ours again, its last session has ended, and all that it wrote is there
    /// or nothing.
    async fn was_done(&mut self, rows: &[OutboxRow]) -> Option<bool> {
        let last = rows.last()?;
        if !self.pen.is_lost() {
            return None;
        }
        let look = async {
            self.take_up(LOOK_TIMEOUT).await?;
            let mut db = self.pen.take().await?;
            let found = last.is_stored(&mut db).await;
            self.pen.put_down(db, found.is_ok()).await;
            found
        };
        match look.await {
            Ok(found) => Some(found),
            Err(error) => {
                self.fails(&error);
                None
            }
        }
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
            let what = fault::named(error);
            tracing::error!("{what}: every change is refused until that is over ({error})");
        }
    }
}

async fn transact(
    db: &mut Connection,
    facts: &Facts,
    changes: &[Change],
    patience: Option<Duration>,
) -> Result<Done, Fault> {
    let (done, tx) = within(patience, apply(db, facts, changes)).await?;
    match within(patience, tx.commit()).await {
        Ok(()) => Ok(done),
        Err(error) => Err(Fault { error, at_commit: Some(done) }),
    }
}

/// All changes, in a transaction that waits for its commit.
async fn apply<'t>(
    db: &'t mut Connection,
    facts: &'t Facts,
    changes: &[Change],
) -> Result<(Done, Transaction<'t>), sqlx::Error> {
    let (db, rows) = (db.begin().await?, Vec::with_capacity(changes.len()));
    let mut batch = Batch { db, facts, now: now_micros(), rows };
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
    let Batch { db, rows, .. } = batch;
    Ok(((outcomes, rows), db))
}

async fn within<T>(
    patience: Option<Duration>,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    match patience {
        None => work.await,
        Some(patience) => timeout(patience, work).await.unwrap_or_else(|_| Err(late())),
    }
}

/// How long changes wait for a server that is away, before they are refused; and how long they wait to hear whether they were done, which
/// is worth more.
const TAKE_UP_TIMEOUT: Duration = Duration::from_secs(2);
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two tries to tell of a revocation.
const TELL_AGAIN: Duration = Duration::from_millis(10);
