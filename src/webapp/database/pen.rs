//! The pen: the one connection that writes. Whoever holds it is the only writer of the database.

use std::time::Duration;

use sqlx::SqlitePool;
use sqlx::postgres::PgConnectOptions;
use tokio::time::Instant;

use super::connection::Connection;
use super::mark::Mark;
use super::server;

/// Per process.
pub(super) enum Pen {
    /// To a file, which a lock beside it keeps for us; or to memory, where readers take turns with it.
    Sqlite { pool: SqlitePool, is_on_disk: bool },
    /// To a server. Its session has the lock, so that losing one is losing the other.
    Postgres { options: Box<PgConnectOptions>, kept: Option<Connection>, mark: Mark },
}

impl Pen {
    /// Whether it has to be taken up again: others may have written meanwhile.
    pub(super) fn is_lost(&self) -> bool {
        matches!(self, Self::Postgres { kept: None, .. })
    }

    /// A server that was started anew is back within this, or is away.
    pub(super) async fn take_up(&mut self, within: Duration) -> Result<(), sqlx::Error> {
        if let Self::Postgres { options, kept, .. } = self {
            let connection = server::locked_until(options, Instant::now() + within).await?;
            *kept = Some(Connection::Postgres(connection));
        }
        Ok(())
    }

    /// Before it writes anything else, each time it was taken up: from here on nothing is read where this is not known.
    pub(super) async fn sign(&self, db: &mut Connection) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite { .. } => Ok(()),
            Self::Postgres { mark, .. } => mark.put(db).await,
        }
    }

    /// For one transaction; comes back by `put_down`.
    pub(super) async fn take(&mut self) -> Result<Connection, sqlx::Error> {
        match self {
            Self::Sqlite { pool, .. } => Ok(Connection::Sqlite(pool.acquire().await?)),
            Self::Postgres { kept, .. } => {
                kept.take().ok_or_else(|| sqlx::Error::Io(std::io::ErrorKind::NotConnected.into()))
            }
        }
    }

    /// `is_well`: its transaction ended as it should. Otherwise nobody knows what goes on in it, and another connection has no transaction.
    pub(super) async fn put_down(&mut self, connection: Connection, is_well: bool) {
        match self {
            // Memory is gone with its connection; the transaction was undone.
            Self::Sqlite { is_on_disk: false, .. } => drop(connection),
            _ if !is_well => connection.close().await,
            Self::Sqlite { .. } => drop(connection),
            Self::Postgres { kept, .. } => *kept = Some(connection),
        }
    }

    /// A server that does not answer within this is lost. A disk may take its time.
    pub(super) fn patience(&self) -> Option<Duration> {
        match self {
            Self::Sqlite { .. } => None,
            Self::Postgres { .. } => Some(TRANSACTION_TIMEOUT),
        }
    }

    /// At the end of the process: everything of a file is in that one file.
    pub(super) async fn close(self) {
        match self {
            Self::Sqlite { pool, is_on_disk } => {
                if is_on_disk
                    && let Err(error) =
                        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&pool).await
                {
                    // The next start does it.
                    tracing::warn!("the write-ahead log stays beside the database: {error}");
                }
                pool.close().await;
            }
            Self::Postgres { kept: Some(connection), .. } => connection.close().await,
            Self::Postgres { kept: None, .. } => {}
        }
    }
}

/// Longer than the server lets one statement run.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(15);
