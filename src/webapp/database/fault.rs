//! Whose fault an error of the database is: a change's, or the storage's, which would meet every other change too.

use std::io::{self, ErrorKind};

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

/// PostgreSQL's SQLSTATE: classes of two letters, and single ones.
mod state {
    /// The connection; no room, of whatever kind; an operator; the system; what is broken inside.
    pub(super) const OF_STORAGE: [&str; 5] = ["08", "53", "57", "58", "XX"];
    /// The role, or its password.
    pub(super) const STRANGER: &str = "28";
    pub(super) const NO_SUCH_DATABASE: &str = "3D000";
    /// A server that only reads: it was, or will be, another one's copy.
    pub(super) const READ_ONLY: &str = "25006";
    pub(super) const LOCK_TIMEOUT: &str = "55P03";
    pub(super) const CONNECTIONS_FULL: &str = "53300";
    /// An operator stopped the statement, or it took too long. The connection lives.
    pub(super) const CANCELLED: &str = "57014";
    /// The server ends, ended, or begins.
    pub(super) const AWAY: [&str; 3] = ["57P01", "57P02", "57P03"];
    pub(super) const DISK_FULL: &str = "53100";
}

/// What we say ourselves of a server, by kinds that no connection has.
const HELD: ErrorKind = ErrorKind::ResourceBusy;
const FOLLOWS: ErrorKind = ErrorKind::ReadOnlyFilesystem;
const GONE_BACK: ErrorKind = ErrorKind::StaleNetworkFileHandle;

/// An error's code as its database writes it.
enum Code {
    Sqlite(u32),
    Postgres(String),
}

fn code_of(error: &sqlx::Error) -> Option<Code> {
    let error = error.as_database_error()?;
    let code = error.code()?;
    if error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().is_some() {
        return Some(Code::Postgres(code.into_owned()));
    }
    Some(Code::Sqlite(code.parse::<u32>().ok()? & 0xff))
}

/// Whether the fault is nobody's change: it would meet every other one, too.
pub(super) fn is_of_storage(error: &sqlx::Error) -> bool {
    use code::{BUSY, CANTOPEN, CORRUPT, FULL, IOERR, LOCKED, NOMEM, NOTADB, READONLY};
    match code_of(error) {
        Some(Code::Sqlite(code)) => {
            [BUSY, LOCKED, NOMEM, READONLY, IOERR, CORRUPT, FULL, CANTOPEN, NOTADB].contains(&code)
        }
        Some(Code::Postgres(state)) => {
            let is_single = [state::READ_ONLY, state::LOCK_TIMEOUT].contains(&state.as_str());
            is_single || state::OF_STORAGE.iter().any(|class| state.starts_with(class))
        }
        None => is_lost(error) || matches!(error, sqlx::Error::PoolClosed),
    }
}

/// The connection is gone, or never came about; another one may do.
pub(super) fn is_lost(error: &sqlx::Error) -> bool {
    match code_of(error) {
        Some(Code::Postgres(state)) => {
            state.starts_with("08") || state::AWAY.contains(&state.as_str())
        }
        Some(Code::Sqlite(_)) => false,
        None => matches!(
            error,
            sqlx::Error::Io(_)
                | sqlx::Error::Protocol(_)
                | sqlx::Error::Tls(_)
                | sqlx::Error::PoolTimedOut
                | sqlx::Error::WorkerCrashed
        ),
    }
}

/// Whether a commit that ended so may have been done all the same.
pub(super) fn is_unknown_at_commit(error: &sqlx::Error) -> bool {
    match code_of(error) {
        Some(Code::Sqlite(code)) => code == code::IOERR,
        Some(Code::Postgres(state)) => is_lost(error) || state == state::CANCELLED,
        None => is_lost(error) && !matches!(error, sqlx::Error::PoolTimedOut),
    }
}

/// Whether somebody who waits will find the server later. A wrong password stays wrong.
pub(super) fn may_pass_at_start(error: &sqlx::Error) -> bool {
    match code_of(error) {
        Some(Code::Postgres(state)) => is_lost(error) || state == state::CONNECTIONS_FULL,
        _ => matches!(error, sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut),
    }
}

/// The server is there, and does not let us in.
pub(super) fn is_refusal(error: &sqlx::Error) -> bool {
    matches!(code_of(error), Some(Code::Postgres(state))
        if state.starts_with(state::STRANGER) || state == state::NO_SUCH_DATABASE)
}

/// The fault as an operator calls it.
pub(super) fn named(error: &sqlx::Error) -> &'static str {
    match code_of(error) {
        Some(Code::Sqlite(code::FULL)) => "the disk is full",
        Some(Code::Postgres(state)) if state == state::DISK_FULL => "the disk is full",
        _ if is_held(error) => "another webapp has the database",
        _ if kind(error) == Some(FOLLOWS) => "the database is reached where it takes no writes",
        _ if kind(error) == Some(GONE_BACK) => "the database lost what was committed",
        _ if is_lost(error) => "the database cannot be reached",
        _ => "the database cannot be written",
    }
}

/// Nothing came back in time.
pub(super) fn late() -> sqlx::Error {
    sqlx::Error::Io(ErrorKind::TimedOut.into())
}

/// Another webapp has the database.
pub(super) fn held() -> sqlx::Error {
    sqlx::Error::Io(HELD.into())
}

pub(super) fn is_held(error: &sqlx::Error) -> bool {
    kind(error) == Some(HELD)
}

/// This server is a follower, or another one took over from it: what it has may be older than what was committed.
pub(super) fn follows() -> sqlx::Error {
    let why = "it is a server that another one writes for";
    sqlx::Error::Io(io::Error::new(FOLLOWS, why))
}

/// What was committed, and told to everybody, is not there any more.
pub(super) fn gone_back() -> sqlx::Error {
    let why =
        "what was committed last is not there: end this webapp, whose next start says what to do";
    sqlx::Error::Io(io::Error::new(GONE_BACK, why))
}

fn kind(error: &sqlx::Error) -> Option<ErrorKind> {
    match error {
        sqlx::Error::Io(error) => Some(error.kind()),
        _ => None,
    }
}
