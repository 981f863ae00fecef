//! A PostgreSQL server: how connections to it are made, and the lock by which one webapp has a database.
//!
//! The lock belongs to the writer's session. Whoever has it again after a lost connection knows that the session before has ended, with
//! whatever it was doing: either all of its last transaction is there or nothing.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, PgPool, Row as _};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::fault::{follows, held, is_held, late, may_pass_at_start};
use super::mark::Mark;
use super::storage::{Storage, Unopened};
use super::{connection, fault};

/// A connection that is not made within this will not be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long somebody who reads waits for a connection.
const READ_TIMEOUT: Duration = Duration::from_secs(3);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(100);
/// The session of a webapp that was killed ends when the server hears of it.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// What every session is told: statements end, and so do sessions whose other end is gone, within half a minute.
const SESSION: [(&str, &str); 7] = [
    ("statement_timeout", "10s"),
    ("lock_timeout", "5s"),
    ("idle_in_transaction_session_timeout", "15s"),
    ("tcp_keepalives_idle", "10"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "25s"),
];

/// As the operator said, with what we need.
pub(super) fn session(options: &PgConnectOptions) -> PgConnectOptions {
    let options = options.clone().options(SESSION).disable_statement_logging();
    if options.get_application_name().is_some() {
        return options;
    }
    options.application_name("campanile")
}

/// Connections for questions. They are made when they are needed, and tried before each use: a server may have been started anew, or another
/// one may have taken over from it.
pub(super) fn readers(options: &PgConnectOptions, count: u32, mark: &Mark) -> connection::Pool {
    let options = options.clone().options([("default_transaction_read_only", "on")]);
    let (new, kept) = (mark.clone(), mark.clone());
    let pool: PgPool = PgPoolOptions::new()
        .max_connections(count)
        .acquire_timeout(READ_TIMEOUT)
        .test_before_acquire(false)
        .after_connect(move |connection, _| {
            let mark = new.clone();
            Box::pin(async move {
                let stands = mark.stands(connection).await?;
                if stands { Ok(()) } else { Err(follows()) }
            })
        })
        .before_acquire(move |connection, _| {
            let mark = kept.clone();
            Box::pin(async move { mark.stands(connection).await })
        })
        .connect_lazy_with(options);
    connection::Pool::Postgres(pool)
}

/// The writer's connection, with the lock.
///
/// # Errors
/// [`fault::held`] when another one has the lock, [`fault::follows`] when nothing can be written there.
pub(super) async fn locked(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    let made = async {
        let mut connection = PgConnection::connect_with(options).await?;
        // Of this database and this schema. What was acknowledged survives a loss of power, whatever the server's custom is.
        let lock = "SELECT pg_try_advisory_lock(hashtext('campanile'), hashtext(current_schema())), \
             pg_is_in_recovery(), \
             CASE current_setting('synchronous_commit') WHEN 'off' THEN set_config('synchronous_commit', 'on', FALSE) END";
        let row = sqlx::query(lock).fetch_one(&mut connection).await?;
        let (is_ours, is_follower) = (row.get::<bool, _>(0), row.get::<bool, _>(1));
        if is_ours && !is_follower {
            return Ok(connection);
        }
        // The other end hears of it either way.
        let _ = connection.close().await;
        Err(if is_follower { follows() } else { held() })
    };
    timeout(CONNECT_TIMEOUT, made).await.unwrap_or_else(|_| Err(late()))
}

/// The same after a loss: tried until then.
pub(super) async fn locked_until(
    options: &PgConnectOptions,
    until: Instant,
) -> Result<PgConnection, sqlx::Error> {
    loop {
        let made = timeout_at(until, locked(options)).await.unwrap_or_else(|_| Err(late()));
        match made {
            Err(error) if may_pass_at_start(&error) && Instant::now() + PAUSE < until => {
                sleep(PAUSE).await;
            }
            made => return made,
        }
    }
}

/// The same at the start: a server that is not there is waited for, and one that refuses us is not.
pub(super) async fn first(options: &PgConnectOptions) -> Result<PgConnection, Unopened> {
    let storage = || Storage::Server(Box::new(options.clone()));
    let (mut told, mut held_since) = (false, None);
    loop {
        let error = match locked(options).await {
            Ok(connection) => return Ok(connection),
            Err(error) => error,
        };
        if is_held(&error) {
            if held_since.get_or_insert_with(Instant::now).elapsed() > LOCK_PATIENCE {
                return Err(Unopened::InUse(storage()));
            }
        } else if fault::is_refusal(&error) {
            return Err(Unopened::Refused { storage: storage(), error });
        } else if !may_pass_at_start(&error) {
            return Err(Unopened::Broken { storage: storage(), error });
        } else if !told {
            eprintln!("campanile: {} cannot be reached: {error}; waiting", storage());
            told = true;
        }
        sleep(PAUSE).await;
    }
}
