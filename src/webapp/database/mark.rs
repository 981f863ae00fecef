//! The mark of the pen: drawn each time the pen is taken up, put where it writes, and looked for by everybody who reads.
//!
//! One name may lead to several servers: to a follower, which is always behind, or to one that another took over from and that nobody told. What
//! is read there is older than what was committed and published, and an owner that opened a channel with an older tip would pass over the
//! rest in silence (`reliability.md` 4, mutant M4). So questions are asked only where the newest mark stands, of a server that writes.

use std::sync::{Arc, PoisonError, RwLock};

use sqlx::{PgConnection, Row as _};

use super::connection::Connection;
use super::random_hex;
use super::sql::query;

/// Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Mark(Arc<RwLock<String>>);

const PUT: &str =
    "INSERT INTO meta VALUES ('pen', $1) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
const STANDS: &str = "SELECT NOT pg_is_in_recovery() AND EXISTS (SELECT 1 FROM meta WHERE name = 'pen' AND value = $1)";

impl Mark {
    /// A new one, before anything is written by this connection.
    pub(super) async fn put(&self, db: &mut Connection) -> Result<(), sqlx::Error> {
        let mark = random_hex(16);
        query(PUT).bind(&mark).execute(db).await?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = mark;
        Ok(())
    }

    /// Whether this connection leads to the server that was written to last.
    pub(super) async fn stands(&self, connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
        let mark = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        sqlx::query(STANDS).bind(mark).fetch_one(connection).await?.try_get(0)
    }
}
