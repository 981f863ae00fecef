//! The schema and its changes. A number means the same schema in both databases; the files beside this say which.

use sha2::{Digest as _, Sha256};
use sqlx::migrate::{Migrate as _, MigrateError, Migrator};
use sqlx::{Connection as _, PgConnection, SqliteConnection};

use super::connection::Connection;

static SQLITE: Migrator = sqlx::migrate!("src/webapp/database/migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("src/webapp/database/migrations/postgres");

/// SQLite's own mark of a file: nothing yet; of the time before there were migrations, with the schema of the first of them; and ever since.
const FRESH: i64 = 0;
const BEFORE: i64 = 2;
const SINCE: i64 = 3;

/// Why the schema is not as it should be.
#[derive(Debug)]
pub(super) enum Unmigrated {
    /// It is of another campanile.
    Version {
        found: i64,
        known: i64,
    },
    Broken(sqlx::Error),
}

impl From<sqlx::Error> for Unmigrated {
    fn from(error: sqlx::Error) -> Self {
        Self::Broken(error)
    }
}

/// Carries out what is missing, each change in a transaction of its own.
pub(super) async fn run(connection: &mut Connection) -> Result<(), Unmigrated> {
    let (migrator, done) = match connection {
        Connection::Sqlite(connection) => {
            take_over(connection).await?;
            // What is thrown away is overwritten: tokens were kept in plain text once.
            sqlx::raw_sql("PRAGMA secure_delete = ON").execute(&mut **connection).await?;
            (&SQLITE, SQLITE.run_direct(&mut **connection).await)
        }
        Connection::Postgres(connection) => {
            // A change of many rows takes its time.
            set_timeout(connection, "0").await?;
            let done = POSTGRES.run_direct(connection).await;
            set_timeout(connection, "DEFAULT").await?;
            (&POSTGRES, done)
        }
    };
    let known = migrator.iter().map(|migration| migration.version).max().unwrap_or(0);
    done.map_err(|error| match error {
        MigrateError::VersionMissing(found) => Unmigrated::Version { found, known },
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
            Unmigrated::Broken(error)
        }
        other => Unmigrated::Broken(sqlx::Error::Migrate(Box::new(other))),
    })?;
    if let Connection::Sqlite(connection) = connection {
        hash_tokens(connection).await?;
        sqlx::raw_sql("PRAGMA secure_delete = OFF").execute(&mut **connection).await?;
    }
    Ok(())
}

/// Tokens that came over from the time before they were hashed, which SQLite cannot do by itself. One that has no 32 bytes is none of
/// ours, so that a crash in between is nothing: the next start goes on.
async fn hash_tokens(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let plain = "SELECT n, hash FROM tokens WHERE length(hash) <> 32";
    let plain: Vec<(i64, Vec<u8>)> = sqlx::query_as(plain).fetch_all(&mut *transaction).await?;
    for (n, token) in plain {
        let hash = Sha256::digest(&token);
        let update = sqlx::query("UPDATE tokens SET hash = $2 WHERE n = $1");
        update.bind(n).bind(&hash[..]).execute(&mut *transaction).await?;
    }
    transaction.commit().await
}

async fn set_timeout(connection: &mut PgConnection, value: &str) -> Result<(), sqlx::Error> {
    let set = format!("SET statement_timeout = {value}");
    sqlx::raw_sql(&set).execute(connection).await.map(|_| ())
}

/// A file of the time before there were migrations has what the first of them makes.
async fn take_over(connection: &mut SqliteConnection) -> Result<(), Unmigrated> {
    let found: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut *connection).await?;
    if ![FRESH, BEFORE, SINCE].contains(&found) {
        let known = SQLITE.iter().map(|migration| migration.version).max().unwrap_or(0);
        return Err(Unmigrated::Version { found, known });
    }
    let broken = |error| Unmigrated::Broken(sqlx::Error::Migrate(Box::new(error)));
    connection.ensure_migrations_table().await.map_err(broken)?;
    let is_listed = !connection.list_applied_migrations().await.map_err(broken)?.is_empty();
    if let (BEFORE, false, Some(first)) = (found, is_listed, SQLITE.iter().next()) {
        let insert = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES ($1, $2, TRUE, $3, 0)";
        sqlx::query(insert)
            .bind(first.version)
            .bind(&*first.description)
            .bind(&*first.checksum)
            .execute(connection)
            .await?;
    }
    Ok(())
}
