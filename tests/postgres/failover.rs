//! Another server takes over, and one name leads to both of them.

use std::time::Duration;

use campanile::control::Mail;
use campanile::webapp::database::{Database, Refused};
use sqlx::ConnectOptions as _;
use sqlx::postgres::PgConnectOptions;
use tokio::sync::mpsc;

use crate::follower::{Follower, Switch};
use crate::{fresh, gauge, open, post, texts, until};

/// Two servers, of which the second follows, and the database by a name that leads to the first. Both have what was said: "one".
struct Stage {
    first: PgConnectOptions,
    follower: Follower,
    switch: Switch,
    by_name: PgConnectOptions,
    database: Database,
    _mail: mpsc::Receiver<Mail>,
}

impl Stage {
    async fn new() -> Self {
        let first = fresh().await;
        let follower = Follower::new(&first);
        let switch = Switch::new(first.get_port());
        let by_name = first.clone().port(switch.port);
        let (database, mail) = open(&by_name).await.expect("opened");
        say(&database, "one").await;
        follower.catch_up().await;
        Self { first, follower, switch, by_name, database, _mail: mail }
    }
}

async fn say(database: &Database, text: &str) {
    let is_stored = async || database.change(post(database, text, Some(text))).await.is_ok();
    until("it is stored", is_stored).await;
}

/// What an owner would take for the newest.
async fn tip(database: &Database) -> Result<i64, Refused> {
    let general = database.seeded_channels()[0].0.clone();
    database.events(&general, 1, 99, 99).await.map(|(_, tip)| tip)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_is_neither_read_nor_written() {
    let Stage { first, follower, switch, database, _mail, .. } = Stage::new().await;
    follower.run("SELECT pg_wal_replay_pause()").await;
    say(&database, "two").await;
    switch.lead(follower.port);
    switch.cut();
    let refused = database.change(post(&database, "three", None)).await;
    assert_eq!(refused, Err(Refused::UNAVAILABLE));
    assert_eq!(tip(&database).await, Err(Refused::UNAVAILABLE), "it would be 1");
    switch.lead(first.get_port());
    switch.cut();
    say(&database, "four").await;
    assert_eq!(texts(&database).await, ["one", "two", "four"]);
    assert_eq!(gauge(&database, "database_went_back"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_another_took_over_from_is_not_read_any_more() {
    let Stage { first, follower, switch, database, _mail, .. } = Stage::new().await;
    // By a connection that stays.
    assert_eq!(tip(&database).await, Ok(1));
    follower.promote();
    switch.lead(follower.port);
    let end_the_writer = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' \
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let mut there = first.connect().await.expect("nobody told it");
    sqlx::raw_sql(end_the_writer).execute(&mut there).await.expect("ended");
    say(&database, "two").await;
    assert_eq!(texts(&database).await, ["one", "two"]);
    assert_eq!(gauge(&database, "database_went_back"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_written_over_what_a_failover_lost() {
    let Stage { follower, switch, by_name, database, _mail, .. } = Stage::new().await;
    let epoch = database.epoch().to_string();
    follower.detach().await;
    say(&database, "two").await;
    follower.promote();
    switch.lead(follower.port);
    switch.cut();
    for _ in 0..3 {
        let refused = database.change(post(&database, "three", None)).await;
        assert_eq!(refused, Err(Refused::UNAVAILABLE), "as the next after one, it would be two's");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(gauge(&database, "database_went_back"), 1);
    assert_eq!(texts(&database).await, ["one"]);
    database.close().await;
    // A supervisor that starts it again changes nothing.
    let refused = open(&by_name).await.map(|_| ()).expect_err("opened").to_string();
    assert!(refused.contains("end every node of the cell"), "{refused}");
    follower.run("DELETE FROM meta WHERE name = 'went_back'").await;
    let (database, _mail) = open(&by_name).await.expect("opened again");
    assert_ne!(database.epoch(), epoch, "no position of before counts");
    say(&database, "four").await;
    assert_eq!(texts(&database).await, ["one", "four"]);
}
