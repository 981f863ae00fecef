//! Opening the database: the directory and its lock, or the server and its lock; the connections, the writer.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use tokio::sync::mpsc;

use super::connection::{Connection, Pool};
use super::demo::Demo;
use super::mark::Mark;
use super::migrations::{self, Unmigrated};
use super::pen::Pen;
use super::storage::{Storage, Unopened};
use super::writer::Writer;
use super::{Database, now_micros, seed, server, tokens};
use crate::control::Control;
use crate::limits::Limits;

pub(super) const FILE: &str = "campanile.sqlite";
/// For HTTP handlers; and for shards, so that no crowd of readers holds up who recovers.
const READERS: u32 = 4;
const SOURCES: u32 = 2;
/// Of the write-ahead log, kept after it was written into the file.
const LOG_BYTES_MAX: &str = "67108864";

/// The ways to the database. In memory they are one connection, which all take in turn.
struct Ways {
    pen: Pen,
    readers: Pool,
    source: Pool,
    lock: Option<File>,
}

impl Database {
    /// Opens the database (a directory is made when there is none; a server that is not there is waited for); starts the writer on the
    /// running tokio runtime. What is committed is told to the dispatcher, and what was revoked lately to the desk, through `control`. A `demo`
    /// has its people, and tokens that can be told; its crowd comes only into a new one.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub async fn open(
        storage: &Storage,
        limits: &Limits,
        control: Control,
        demo: Option<&Demo>,
    ) -> Result<Self, Unopened> {
        let broken = |error| Unopened::Broken { storage: storage.clone(), error };
        let Ways { mut pen, readers, source, lock } = match storage {
            Storage::Memory => memory().await.map_err(broken)?,
            Storage::Directory(directory) => {
                let lock = take_lock(directory)?;
                file(directory, lock).await.map_err(broken)?
            }
            Storage::Server(options) => {
                let options = Box::new(server::session(options));
                let connection = server::first(&options).await?;
                let mark = Mark::default();
                let readers = server::readers(&options, READERS, &mark);
                let source = server::readers(&options, SOURCES, &mark);
                let kept = Some(Connection::Postgres(connection));
                Ways { pen: Pen::Postgres { options, kept, mark }, readers, source, lock: None }
            }
        };
        let mut db = pen.take().await.map_err(broken)?;
        migrations::run(&mut db).await.map_err(|why| match why {
            Unmigrated::Broken(error) => broken(error),
            Unmigrated::Version { found, known } => {
                Unopened::Version { storage: storage.clone(), found, known }
            }
        })?;
        if seed::is_needed(&mut db).await.map_err(broken)? {
            seed::make(&mut db).await.map_err(broken)?;
        }
        if seed::went_back(&mut db).await.map_err(broken)? {
            return Err(Unopened::WentBack(storage.clone()));
        }
        pen.sign(&mut db).await.map_err(broken)?;
        if let Some(demo) = demo {
            if seed::team(&mut db).await.map_err(broken)?.is_none() {
                demo.people(&mut db).await.map_err(broken)?;
            } else if demo.crowd.is_some() {
                return Err(Unopened::Inhabited(storage.clone()));
            }
        }
        let facts = Arc::new(seed::read(&mut db, limits, lock).await.map_err(broken)?);
        if let Some(demo) = demo {
            demo.tokens(&mut db, &facts).await.map_err(broken)?;
        }
        // Whoever was cut off when they were told, or when we ended, is told once more.
        let revoked =
            tokens::revoked_lately(&mut db, limits, now_micros()).await.map_err(broken)?;
        pen.put_down(db, true).await;
        let (requests, waiting) = mpsc::channel(limits.commits_max as usize);
        let writer = Writer { pen, control, facts: Arc::clone(&facts), last: None };
        writer.tell_revoked(revoked.iter().map(|(token, user)| (*token, user.as_str())));
        tokio::spawn(writer.run(waiting));
        Ok(Self { readers, source, requests, facts })
    }
}

/// Makes the directory and the file (nobody else may look: tokens lie in it) and takes the lock.
fn take_lock(directory: &Path) -> Result<File, Unopened> {
    let fault = |error| Unopened::Directory { path: directory.to_path_buf(), error };
    if !directory.is_dir() {
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(fault)?;
    }
    let open = |name: &str| {
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600);
        options.open(directory.join(name))
    };
    let file = open("lock").map_err(fault)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(Unopened::InUse(Storage::Directory(directory.to_path_buf())));
        }
        Err(TryLockError::Error(error)) => return Err(fault(error)),
    }
    // SQLite gives the files beside it the same rights.
    open(FILE).map_err(fault)?;
    Ok(file)
}

fn pool(count: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .min_connections(1)
        .max_connections(count)
        .max_lifetime(None)
        .idle_timeout(None)
        // A file does not hang up.
        .test_before_acquire(false)
        .acquire_timeout(Duration::from_secs(30))
}

async fn memory() -> Result<Ways, sqlx::Error> {
    let options = SqliteConnectOptions::new().in_memory(true).disable_statement_logging();
    let pool = pool(1).connect_with(options).await?;
    let readers = Pool::Sqlite(pool.clone());
    Ok(Ways {
        source: readers.clone(),
        readers,
        pen: Pen::Sqlite { pool, is_on_disk: false },
        lock: None,
    })
}

async fn file(directory: &Path, lock: File) -> Result<Ways, sqlx::Error> {
    let options = SqliteConnectOptions::new()
        .filename(directory.join(FILE))
        .journal_mode(SqliteJournalMode::Wal)
        // What was acknowledged survives a loss of power.
        .synchronous(SqliteSynchronous::Full)
        .pragma("journal_size_limit", LOG_BYTES_MAX)
        .busy_timeout(Duration::from_secs(10))
        .disable_statement_logging();
    let writer = pool(1).connect_with(options.clone()).await?;
    let options = options.read_only(true);
    Ok(Ways {
        pen: Pen::Sqlite { pool: writer, is_on_disk: true },
        readers: Pool::Sqlite(pool(READERS).connect_with(options.clone()).await?),
        source: Pool::Sqlite(pool(SOURCES).connect_with(options).await?),
        lock: Some(lock),
    })
}
