//! Opening the database: the directory and its lock, the connections, the writer.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, SqlitePool};
use tokio::sync::mpsc;

use super::Database;
use super::crowd::Crowd;
use super::seed::{self, VERSION};
use super::writer::Writer;
use crate::control::Control;
use crate::limits::Limits;

const FILE: &str = "campanile.sqlite";
/// For HTTP handlers; and for shards, so that no crowd of readers holds up who recovers.
const READERS: u32 = 4;
const SOURCES: u32 = 2;
/// Of the write-ahead log, kept after it was written into the file.
const LOG_BYTES_MAX: &str = "67108864";

/// Why the database could not be opened, as a sentence for the operator.
#[derive(Debug)]
pub enum Unopened {
    Directory {
        path: PathBuf,
        error: std::io::Error,
    },
    InUse {
        path: PathBuf,
    },
    Version {
        path: PathBuf,
        found: i64,
    },
    Broken {
        path: PathBuf,
        error: sqlx::Error,
    },
    /// A crowd was to come into a workspace that there is already.
    Inhabited {
        path: PathBuf,
    },
}

impl std::fmt::Display for Unopened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Directory { path, error } => write!(
                f,
                "cannot write to the data directory {}: {error}; choose another one with --data, or --ephemeral for none",
                path.display()
            ),
            Self::InUse { path } => write!(
                f,
                "the data directory {} is in use by another campanile; stop that one, or choose another directory with --data",
                path.display()
            ),
            Self::Version { path, found } => write!(
                f,
                "the database in {} has schema {found}, this campanile needs {VERSION}; choose another directory with --data",
                path.display()
            ),
            Self::Inhabited { path } => write!(
                f,
                "there is a workspace in {} already, and --users makes a new one; choose another directory with --data, or --ephemeral",
                path.display()
            ),
            Self::Broken { path, error } => write!(
                f,
                "{} is damaged, or no database of campanile: {error}; put back a copy, or choose another directory with --data",
                path.join(FILE).display()
            ),
        }
    }
}

impl std::error::Error for Unopened {}

/// The ways to the database. In memory they are one connection, which all take in turn.
struct Pools {
    writer: SqlitePool,
    readers: SqlitePool,
    source: SqlitePool,
}

impl Database {
    /// Opens the database in `directory` (made when there is none), or one in memory; starts the writer on the running tokio
    /// runtime. What is committed is told to the dispatcher through `control`. A `crowd` comes only into a new one.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub async fn open(
        directory: Option<&Path>,
        limits: &Limits,
        control: Control,
        crowd: Option<&Crowd>,
    ) -> Result<Self, Unopened> {
        let path = directory.unwrap_or_else(|| Path::new(":memory:")).to_path_buf();
        let broken = |error| Unopened::Broken { path: path.clone(), error };
        let lock = directory.map(lock).transpose()?;
        let Pools { writer, readers, source } = pools(directory).await.map_err(broken)?;
        let version: i64 =
            sqlx::query_scalar("PRAGMA user_version").fetch_one(&writer).await.map_err(broken)?;
        match version {
            0 => {
                seed::make(&writer).await.map_err(broken)?;
                if let Some(crowd) = crowd {
                    crowd.insert(&writer).await.map_err(broken)?;
                }
            }
            VERSION if crowd.is_some() => return Err(Unopened::Inhabited { path }),
            VERSION => {}
            found => return Err(Unopened::Version { path, found }),
        }
        let facts = Arc::new(seed::read(&writer, limits, lock).await.map_err(broken)?);
        let (requests, waiting) = mpsc::channel(limits.commits_max as usize);
        let is_on_disk = directory.is_some();
        let writer = Writer { pool: writer, is_on_disk, control, facts: Arc::clone(&facts) };
        tokio::spawn(writer.run(waiting));
        Ok(Self { readers, source, requests, facts })
    }
}

/// Makes the directory and the file (nobody else may look: tokens lie in it) and takes the lock.
fn lock(directory: &Path) -> Result<File, Unopened> {
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
            return Err(Unopened::InUse { path: directory.to_path_buf() });
        }
        Err(TryLockError::Error(error)) => return Err(fault(error)),
    }
    // SQLite gives the files beside it the same rights.
    open(FILE).map_err(fault)?;
    Ok(file)
}

async fn pools(directory: Option<&Path>) -> Result<Pools, sqlx::Error> {
    let pool = |count| {
        SqlitePoolOptions::new()
            .min_connections(1)
            .max_connections(count)
            .max_lifetime(None)
            .idle_timeout(None)
            // A file does not hang up.
            .test_before_acquire(false)
            .acquire_timeout(Duration::from_secs(30))
    };
    let Some(directory) = directory else {
        let options = SqliteConnectOptions::new().in_memory(true).disable_statement_logging();
        let pool = pool(1).connect_with(options).await?;
        return Ok(Pools { writer: pool.clone(), readers: pool.clone(), source: pool });
    };
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
    let readers = pool(READERS).connect_with(options.clone()).await?;
    let source = pool(SOURCES).connect_with(options).await?;
    Ok(Pools { writer, readers, source })
}
