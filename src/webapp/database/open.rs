//! Opening the database: the directory and its lock, the schema, and the seed of a fresh one.

use std::collections::HashMap;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Row, SqlitePool};
use tokio::sync::mpsc;

use super::{Database, Facts, Team, User, batch, new_id, now_micros, random_hex};
use crate::limits::Limits;
use crate::ring::Secret;
use crate::webapp::control::Control;

/// Of the schema: another one is another program's.
const VERSION: i64 = 1;
const READERS: u32 = 4;

/// Why the database could not be opened, as a sentence for the operator.
#[derive(Debug)]
pub enum Unopened {
    Directory { path: PathBuf, error: std::io::Error },
    InUse { path: PathBuf },
    Version { path: PathBuf, found: i64 },
    Broken { path: PathBuf, error: sqlx::Error },
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
            Self::Broken { path, error } => {
                write!(f, "cannot open the database in {}: {error}", path.display())
            }
        }
    }
}

impl std::error::Error for Unopened {}

impl Database {
    /// Opens the database in `directory` (made when there is none), or one in memory; starts the writer on the running tokio
    /// runtime. What is committed is told to the dispatcher through `control`.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub async fn open(
        directory: Option<&Path>,
        limits: &Limits,
        control: Control,
    ) -> Result<Self, Unopened> {
        let path = directory.unwrap_or_else(|| Path::new(":memory:")).to_path_buf();
        let broken = |error| Unopened::Broken { path: path.clone(), error };
        let lock = directory.map(lock).transpose()?;
        let (writer, readers) = pools(directory).await.map_err(broken)?;
        let version: i64 =
            sqlx::query_scalar("PRAGMA user_version").fetch_one(&writer).await.map_err(broken)?;
        match version {
            0 => make(&writer).await.map_err(broken)?,
            VERSION => {}
            found => return Err(Unopened::Version { path, found }),
        }
        let facts = read(&writer, limits, lock).await.map_err(broken)?;
        let (changes, requests) = mpsc::channel(limits.commits_max as usize);
        let facts = Arc::new(facts);
        tokio::spawn(batch::write(writer, requests, control, Arc::clone(&facts)));
        Ok(Self { readers, changes, facts })
    }
}

/// Makes the directory (nobody else may look: tokens lie in it) and takes its lock.
fn lock(directory: &Path) -> Result<File, Unopened> {
    let fault = |error| Unopened::Directory { path: directory.to_path_buf(), error };
    if !directory.is_dir() {
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(fault)?;
    }
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(directory.join("lock"))
        .map_err(fault)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Unopened::InUse { path: directory.to_path_buf() }),
        Err(TryLockError::Error(error)) => Err(fault(error)),
    }
}

/// The writer's pool of one, and the readers'. In memory there is one connection, which all take in turn.
async fn pools(directory: Option<&Path>) -> Result<(SqlitePool, SqlitePool), sqlx::Error> {
    let pool = |count| {
        SqlitePoolOptions::new()
            .min_connections(1)
            .max_connections(count)
            .max_lifetime(None)
            .idle_timeout(None)
            .acquire_timeout(Duration::from_secs(30))
    };
    let Some(directory) = directory else {
        let options = SqliteConnectOptions::new().in_memory(true);
        let pool = pool(1).connect_with(options).await?;
        return Ok((pool.clone(), pool));
    };
    let options = SqliteConnectOptions::new()
        .filename(directory.join("campanile.sqlite"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // What was acknowledged survives a loss of power.
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(10));
    let writer = pool(1).connect_with(options.clone()).await?;
    let readers = pool(READERS).connect_with(options.read_only(true)).await?;
    Ok((writer, readers))
}

/// The schema and the first inhabitants, in one transaction: a crash leaves nothing half made.
async fn make(writer: &SqlitePool) -> Result<(), sqlx::Error> {
    let mut tx = writer.begin().await?;
    sqlx::raw_sql(include_str!("schema.sql")).execute(&mut *tx).await?;
    let (team, now) = (new_id('T'), now_micros());
    for (name, value) in [
        ("team_id", team.clone()),
        ("team_name", "Campanile".into()),
        ("team_domain", "campanile".into()),
        ("epoch", random_hex(8)),
        ("secret", random_hex(16)),
    ] {
        let insert = sqlx::query("INSERT INTO meta VALUES (?1, ?2)").bind(name).bind(value);
        insert.execute(&mut *tx).await?;
    }
    let mut users = Vec::new();
    for (name, real_name) in
        [("alice", "Alice"), ("bob", "Bob"), ("carol", "Carol"), ("bot", "Bot")]
    {
        let is_bot = name == "bot";
        let token = format!("{}-{}", if is_bot { "xoxb" } else { "xoxp" }, random_hex(24));
        let id = new_id('U');
        sqlx::query("INSERT INTO users (id, name, real_name, is_bot, token, updated) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")
            .bind(&id).bind(name).bind(real_name).bind(is_bot).bind(token).bind(now)
            .execute(&mut *tx).await?;
        users.push(id);
    }
    let mut streams = vec![team];
    for (name, topic) in [
        ("general", "Announcements and talk for everybody"),
        ("random", "What does not belong anywhere else"),
    ] {
        let id = new_id('C');
        sqlx::query("INSERT INTO conversations (id, name, kind, creator, created, is_general, topic, last_ts) VALUES (?1, ?2, 0, ?3, ?4, ?5, ?6, ?4)")
            .bind(&id).bind(name).bind(&users[0]).bind(now).bind(name == "general").bind(topic)
            .execute(&mut *tx).await?;
        for user in &users {
            sqlx::query("INSERT INTO members (channel, user) VALUES (?1, ?2)")
                .bind(&id)
                .bind(user)
                .execute(&mut *tx)
                .await?;
        }
        streams.push(id);
    }
    for stream in streams.iter().chain(&users) {
        let insert = sqlx::query("INSERT INTO streams VALUES (?1, 0)").bind(stream);
        insert.execute(&mut *tx).await?;
    }
    sqlx::raw_sql(&format!("PRAGMA user_version = {VERSION}")).execute(&mut *tx).await?;
    tx.commit().await
}

async fn read(
    writer: &SqlitePool,
    limits: &Limits,
    lock: Option<File>,
) -> Result<Facts, sqlx::Error> {
    let mut meta = HashMap::new();
    for row in sqlx::query("SELECT name, value FROM meta").fetch_all(writer).await? {
        meta.insert(row.get::<String, _>(0), row.get::<String, _>(1));
    }
    let mut take = |name: &str| meta.remove(name).ok_or(sqlx::Error::RowNotFound);
    let team =
        Team { id: take("team_id")?, name: take("team_name")?, domain: take("team_domain")? };
    let epoch = take("epoch")?;
    let secret = u128::from_str_radix(&take("secret")?, 16)
        .map_err(|error| sqlx::Error::Decode(error.into()))?;
    let rows = sqlx::query("SELECT id, name, real_name, is_bot, token FROM users ORDER BY n")
        .fetch_all(writer)
        .await?;
    let users: Vec<User> = rows
        .iter()
        .map(|row| User {
            id: row.get(0),
            name: row.get(1),
            real_name: row.get(2),
            is_bot: row.get(3),
            token: row.get(4),
        })
        .collect();
    let seeded = "SELECT id, name FROM conversations WHERE kind = 0 ORDER BY n LIMIT 2";
    let seeded = sqlx::query(seeded).fetch_all(writer).await?;
    Ok(Facts {
        team,
        by_token: users.iter().enumerate().map(|(at, user)| (user.token.clone(), at)).collect(),
        by_id: users.iter().enumerate().map(|(at, user)| (user.id.clone(), at)).collect(),
        users,
        seeded_channels: seeded.iter().map(|row| (row.get(0), row.get(1))).collect(),
        epoch,
        secret: Secret(secret.to_be_bytes()),
        limits: limits.clone(),
        _lock: lock,
    })
}
