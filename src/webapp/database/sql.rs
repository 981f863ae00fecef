//! One SQL for two drivers: a statement, what is bound to it, where it runs, and the rows that come back.
//!
//! Statements are written so that both databases take them, with `$1`, `$2` … for what is bound. Where they differ, [`Sql`] has two texts.

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments as _, ColumnIndex, Decode, PgConnection, PgPool, Postgres, Row as _};
use sqlx::{Sqlite, SqliteConnection, SqlitePool, Type};

/// The text of a statement for each of the databases.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sql<'q> {
    pub(super) sqlite: &'q str,
    pub(super) postgres: &'q str,
}

impl<'q> From<&'q str> for Sql<'q> {
    fn from(text: &'q str) -> Self {
        Self { sqlite: text, postgres: text }
    }
}

/// Several statements in one trip to the database, none of which sees what the others do. `number`: the column by which the last one's new
/// row is known to [`Query::insert`].
macro_rules! together {
    ($first:literal, $last:literal, number $column:literal $(,)?) => {
        $crate::webapp::database::sql::Sql {
            sqlite: concat!($first, "; ", $last),
            postgres: concat!("WITH one AS (", $first, ") ", $last, " RETURNING ", $column),
        }
    };
    ($first:literal, $second:literal, $last:literal, number $column:literal $(,)?) => {
        $crate::webapp::database::sql::Sql {
            sqlite: concat!($first, "; ", $second, "; ", $last),
            postgres: concat!(
                "WITH one AS (",
                $first,
                "), two AS (",
                $second,
                ") ",
                $last,
                " RETURNING ",
                $column
            ),
        }
    };
    ($first:literal, $last:literal $(,)?) => {
        $crate::webapp::database::sql::Sql {
            sqlite: concat!($first, "; ", $last),
            postgres: concat!("WITH one AS (", $first, ") ", $last),
        }
    };
}
pub(super) use together;

/// What can be bound.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'q> {
    Whole(Option<i64>),
    Text(Option<&'q str>),
    Flag(bool),
    Bytes(&'q [u8]),
}

impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Self::Whole(Some(number))
    }
}
impl From<Option<i64>> for Value<'_> {
    fn from(number: Option<i64>) -> Self {
        Self::Whole(number)
    }
}
impl<'q> From<&'q str> for Value<'q> {
    fn from(text: &'q str) -> Self {
        Self::Text(Some(text))
    }
}
impl<'q> From<&'q String> for Value<'q> {
    fn from(text: &'q String) -> Self {
        Self::Text(Some(text))
    }
}
impl<'q> From<Option<&'q str>> for Value<'q> {
    fn from(text: Option<&'q str>) -> Self {
        Self::Text(text)
    }
}
impl From<bool> for Value<'_> {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}
impl<'q> From<&'q [u8]> for Value<'q> {
    fn from(bytes: &'q [u8]) -> Self {
        Self::Bytes(bytes)
    }
}

/// Where a statement runs: on any connection of a pool, or on this one.
pub(super) enum Place<'c> {
    SqlitePool(&'c SqlitePool),
    Sqlite(&'c mut SqliteConnection),
    PostgresPool(&'c PgPool),
    Postgres(&'c mut PgConnection),
}

/// A row that was read.
pub(super) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl From<SqliteRow> for Row {
    fn from(row: SqliteRow) -> Self {
        Self::Sqlite(row)
    }
}
impl From<PgRow> for Row {
    fn from(row: PgRow) -> Self {
        Self::Postgres(row)
    }
}

impl Row {
    /// A column, by its place or its name.
    ///
    /// # Panics
    /// When there is no such column, or it is of another type: the statement and its reader do not fit.
    pub(super) fn get<'r, T>(
        &'r self,
        column: impl ColumnIndex<SqliteRow> + ColumnIndex<PgRow>,
    ) -> T
    where
        T: Decode<'r, Sqlite> + Type<Sqlite> + Decode<'r, Postgres> + Type<Postgres>,
    {
        match self {
            Self::Sqlite(row) => row.get(column),
            Self::Postgres(row) => row.get(column),
        }
    }
}

/// A statement with what is bound to it.
#[derive(Debug)]
pub(super) struct Query<'q> {
    sql: Sql<'q>,
    values: Vec<Value<'q>>,
}

pub(super) fn query<'q>(sql: impl Into<Sql<'q>>) -> Query<'q> {
    Query { sql: sql.into(), values: Vec::new() }
}

/// The one that fetches, on whichever it is.
macro_rules! run {
    ($query:ident, $place:ident, $fetch:ident, $found:ident => $told:expr) => {
        match $place.into() {
            Place::SqlitePool(pool) => $query.for_sqlite()?.$fetch(pool).await.map(|$found| $told),
            Place::Sqlite(one) => $query.for_sqlite()?.$fetch(one).await.map(|$found| $told),
            Place::PostgresPool(pool) => {
                $query.for_postgres()?.$fetch(pool).await.map(|$found| $told)
            }
            Place::Postgres(one) => $query.for_postgres()?.$fetch(one).await.map(|$found| $told),
        }
    };
}

impl<'q> Query<'q> {
    /// The next of `$1`, `$2` …
    pub(super) fn bind(mut self, value: impl Into<Value<'q>>) -> Self {
        self.values.push(value.into());
        self
    }

    /// How many rows were changed.
    pub(super) async fn execute<'c>(self, place: impl Into<Place<'c>>) -> Result<u64, sqlx::Error> {
        run!(self, place, execute, done => done.rows_affected())
    }
    /// The number of the row that was inserted, which SQLite knows without being asked for it.
    pub(super) async fn insert<'c>(self, place: impl Into<Place<'c>>) -> Result<i64, sqlx::Error> {
        match place.into() {
            Place::SqlitePool(pool) => {
                self.for_sqlite()?.execute(pool).await.map(|done| done.last_insert_rowid())
            }
            Place::Sqlite(one) => {
                self.for_sqlite()?.execute(one).await.map(|done| done.last_insert_rowid())
            }
            Place::PostgresPool(pool) => {
                self.for_postgres()?.fetch_one(pool).await.map(|row| row.get(0))
            }
            Place::Postgres(one) => self.for_postgres()?.fetch_one(one).await.map(|row| row.get(0)),
        }
    }
    pub(super) async fn fetch_one<'c>(
        self,
        place: impl Into<Place<'c>>,
    ) -> Result<Row, sqlx::Error> {
        run!(self, place, fetch_one, row => row.into())
    }
    pub(super) async fn fetch_optional<'c>(
        self,
        place: impl Into<Place<'c>>,
    ) -> Result<Option<Row>, sqlx::Error> {
        run!(self, place, fetch_optional, row => row.map(Into::into))
    }
    pub(super) async fn fetch_all<'c>(
        self,
        place: impl Into<Place<'c>>,
    ) -> Result<Vec<Row>, sqlx::Error> {
        run!(self, place, fetch_all, rows => rows.into_iter().map(Into::into).collect())
    }

    fn for_sqlite(
        self,
    ) -> Result<sqlx::query::Query<'q, Sqlite, SqliteArguments<'q>>, sqlx::Error> {
        let mut bound = SqliteArguments::default();
        bound.reserve(self.values.len(), 0);
        for value in self.values {
            match value {
                Value::Whole(number) => bound.add(number),
                Value::Text(text) => bound.add(text),
                Value::Flag(flag) => bound.add(flag),
                Value::Bytes(bytes) => bound.add(bytes),
            }
            .map_err(sqlx::Error::Encode)?;
        }
        Ok(sqlx::query_with(self.sql.sqlite, bound))
    }

    fn for_postgres(self) -> Result<sqlx::query::Query<'q, Postgres, PgArguments>, sqlx::Error> {
        let mut bound = PgArguments::default();
        bound.reserve(self.values.len(), 0);
        for value in self.values {
            match value {
                Value::Whole(number) => bound.add(number),
                // PostgreSQL has no word for this character; nobody's name has it, so that nothing else is found instead.
                Value::Text(Some(text)) if text.contains('\0') => {
                    bound.add(text.replace('\0', "\u{fffd}"))
                }
                Value::Text(text) => bound.add(text),
                Value::Flag(flag) => bound.add(flag),
                Value::Bytes(bytes) => bound.add(bytes),
            }
            .map_err(sqlx::Error::Encode)?;
        }
        Ok(sqlx::query_with(self.sql.postgres, bound))
    }
}
