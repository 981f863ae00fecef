//! The database on a PostgreSQL server that ends, comes back, loses answers and has another owner, or that another one takes over from:
//! `tests/postgres.sh server` names one.

mod cutter;
mod failover;
mod follower;
mod proxy;

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::str::FromStr as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use campanile::control::{Control, Mail};
use campanile::ids::Origin;
use campanile::limits::Limits;
use campanile::shard::Report;
use campanile::webapp::database::{
    Change, Database, Demo, Key, Outcome, Post, Refused, Storage, Unopened,
};
use cutter::{Cut, Cutter};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, PgConnection};
use tokio::sync::mpsc;

fn named(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name}: run tests/postgres.sh"))
}

/// A new database of the server.
async fn fresh() -> PgConnectOptions {
    let options = PgConnectOptions::from_str(&named("CAMPANILE_TEST_POSTGRES")).expect("a URL");
    let name = format!("server_{:016x}", getrandom::u64().expect("random bytes"));
    let mut connection = options.connect().await.expect("the server is there");
    let create = format!("CREATE DATABASE {name} TEMPLATE template0");
    sqlx::raw_sql(&create).execute(&mut connection).await.expect("a database");
    options.database(&name)
}

fn storage(options: &PgConnectOptions) -> Storage {
    Storage::Server(Box::new(options.clone()))
}

async fn open(options: &PgConnectOptions) -> Result<(Database, mpsc::Receiver<Mail>), Unopened> {
    let (control, mail) = Control::new(100_000);
    let database =
        Database::open(&storage(options), &Limits::DEFAULT, control, Some(&Demo::new([7; 32])))
            .await?;
    Ok((database, mail))
}

fn post(database: &Database, text: &str, key: Option<&str>) -> Change {
    Change::Post(Post {
        user: database.users()[0].id.clone(),
        channel: "general".into(),
        text: text.into(),
        thread_ts: None,
        broadcast: false,
        client_msg_id: None,
        key: key.map(|key| Key::of_client(key).expect("short")),
        more: serde_json::Map::new(),
        origin: Origin::NOBODY,
    })
}

async fn texts(database: &Database) -> Vec<String> {
    let general = database.seeded_channels()[0].0.clone();
    let mut texts = Vec::new();
    loop {
        let from = texts.len() as i64 + 1;
        let (events, tip) = database.events(&general, from, i64::MAX, 1_000).await.expect("read");
        texts.extend(events.iter().map(|event| event["text"].as_str().expect("text").to_string()));
        if texts.len() as i64 >= tip {
            return texts;
        }
    }
}

fn gauge(database: &Database, wanted: &str) -> u64 {
    let mut report = Report::default();
    database.report(&mut report);
    report.gauges.iter().find(|(name, _)| *name == wanted).expect("a gauge").1 as u64
}

/// Runs a program of the server, as the user that the server runs as.
fn server(program: &str, words: &[&str]) {
    let program = format!("{}/{program}", named("PG_BIN"));
    let user = named("PG_USER");
    let mut command = if user.is_empty() {
        Command::new(program)
    } else {
        let mut command = Command::new("runuser");
        command.args(["-u", &user, "--", &program]);
        command
    };
    let done = command.args(words).current_dir("/").stdout(Stdio::null()).output();
    let done = done.expect("it is installed");
    assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Starts and ends a server, by its data.
fn control(data: &str, words: &[&str]) {
    let log = format!("{data}.log");
    server("pg_ctl", &[&["-D", data, "-l", &log, "-w"], words].concat());
}

/// Ends the server and starts it again.
fn pg_ctl(words: &[&str]) {
    control(&named("CAMPANILE_TEST_POSTGRES_DATA"), words);
}

/// Fails when it takes longer than ten seconds.
async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let due = Instant::now() + Duration::from_secs(10);
    while !is_so().await {
        assert!(Instant::now() < due, "not within 10 s: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_webapp_has_a_database() {
    let options = fresh().await;
    let (first, _mail) = open(&options).await.expect("opened");
    let second = match open(&options).await {
        Ok(_) => panic!("opened twice"),
        Err(unopened) => unopened.to_string(),
    };
    assert!(second.contains("in use by another campanile"), "{second}");
    assert!(second.contains("--database"), "{second}");
    first.close().await;
    let (third, _mail) = open(&options).await.expect("free again");
    assert_eq!(third.users(), first.users());
}

#[tokio::test]
async fn what_cannot_be_opened_is_a_sentence_without_a_password() {
    let options = fresh().await;
    let url = named("CAMPANILE_TEST_POSTGRES");
    for (wrong, said) in [
        (options.clone().database("no_such"), "does not let us in"),
        (options.clone().username("nobody").password("hush"), "does not let us in"),
    ] {
        let sentence = match open(&wrong).await {
            Ok(_) => panic!("opened"),
            Err(unopened) => unopened.to_string(),
        };
        assert!(sentence.contains(said) && !sentence.contains("hush"), "{sentence}");
    }
    for wrong in ["mysql://localhost/x", "postgres://hush@h:port/x", "/var/lib/x"] {
        let sentence = Storage::of(Some(wrong), None).expect_err("no URL");
        assert!(sentence.contains("--database") && !sentence.contains("hush"), "{sentence}");
    }
    // Another program's database.
    let mut other = options.connect().await.expect("connected");
    let table = "CREATE TABLE users (x BIGINT)";
    sqlx::raw_sql(table).execute(&mut other).await.expect("a table");
    let sentence = open(&options).await.map(|_| ()).expect_err("opened").to_string();
    assert!(sentence.contains("already exists"), "{sentence}");
    assert!(Storage::of(Some(&url), None).is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_away_is_waited_for() {
    let options = fresh().await;
    pg_ctl(&["-m", "fast", "stop"]);
    let mut opening = Box::pin(open(&options));
    assert!(tokio::time::timeout(Duration::from_secs(1), &mut opening).await.is_err());
    pg_ctl(&["start"]);
    let (database, _mail) = opening.await.expect("opened");
    assert_eq!(database.users().len(), 4);
}

/// Several say things under keys, each again and again until it is told that it was stored.
async fn speakers(database: &Database, is_over: &Arc<AtomicBool>) -> Vec<(String, i64)> {
    let tasks: Vec<_> = (0..8)
        .map(|who| {
            let (database, is_over) = (database.clone(), Arc::clone(is_over));
            tokio::spawn(async move {
                let mut said = Vec::new();
                for nth in 0.. {
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    let text = format!("{who} {nth}");
                    let change = post(&database, &text, Some(&text));
                    loop {
                        match database.change(change.clone()).await {
                            Ok(Outcome::Posted { seq, .. }) => {
                                said.push((text, seq));
                                break;
                            }
                            Err(Refused::UNAVAILABLE | Refused::INTERNAL) => {
                                tokio::time::sleep(Duration::from_millis(20)).await;
                            }
                            other => panic!("{other:?}"),
                        }
                    }
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                said
            })
        })
        .collect();
    let mut said = Vec::new();
    for task in tasks {
        said.extend(task.await.expect("no panic"));
    }
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_goes_on_when_the_server_is_started_anew() {
    let (database, _mail) = open(&fresh().await).await.expect("opened");
    let is_over = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&is_over);
    let restarts = std::thread::spawn(move || {
        for mode in ["fast", "immediate", "immediate", "fast"] {
            std::thread::sleep(Duration::from_secs(1));
            pg_ctl(&["-m", mode, "restart"]);
        }
        std::thread::sleep(Duration::from_secs(2));
        stop.store(true, Ordering::Relaxed);
    });
    let said = speakers(&database, &is_over).await;
    restarts.join().expect("restarted");
    let stored = texts(&database).await;
    assert!(said.len() > 100, "only {} were said", said.len());
    let mut places = BTreeMap::new();
    for (at, text) in stored.iter().enumerate() {
        assert_eq!(places.insert(text.clone(), at as i64 + 1), None, "{text} is there twice");
    }
    for (text, seq) in &said {
        assert_eq!(places.get(text), Some(seq), "{text} is where its answer said");
    }
    assert_eq!(said.len(), stored.len(), "and nothing else");
    assert_eq!(gauge(&database, "database_is_failing"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_was_lost_is_looked_up() {
    let options = fresh().await;
    let cutter = Cutter::new(options.get_port());
    let (database, mut mail) = open(&options.clone().port(cutter.port)).await.expect("opened");
    let mut stored = Vec::new();
    for (cut, text) in [(Cut::Answer, "was done"), (Cut::Question, "was not")] {
        while mail.try_recv().is_ok() {}
        cutter.arm(cut);
        // Somebody new is known to everybody, too.
        let name = text.replace(' ', "-");
        let user =
            Change::CreateUser { name: name.clone(), real_name: String::new(), is_bot: false };
        let (user, post) =
            tokio::join!(database.change(user), database.change(post(&database, text, None)),);
        let is_known = database.users().iter().any(|user| user.name == name);
        match cut {
            Cut::Answer => {
                assert!(user.is_ok() && post.is_ok() && is_known, "{user:?} {post:?}");
                assert!(mail.try_recv().is_ok(), "the dispatcher was told");
            }
            Cut::Question => {
                assert_eq!(user, Err(Refused::UNAVAILABLE));
                assert!(!is_known);
                // It went along with the user, or came after the way was whole again.
                assert!(post.is_ok() || post == Err(Refused::UNAVAILABLE), "{post:?}");
                assert_eq!(mail.try_recv().is_ok(), post.is_ok());
            }
        }
        stored.extend(post.is_ok().then_some(text));
        assert!(cutter.has_cut());
    }
    let general = database.seeded_channels()[0].0.clone();
    let (events, _) = database.events(&general, 1, 99, 99).await.expect("read");
    let texts: Vec<_> = events.iter().filter_map(|event| event["text"].as_str()).collect();
    assert_eq!(texts, stored);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_lost_the_lock_writes_nothing_until_it_is_free() {
    let options = fresh().await;
    let (database, _mail) = open(&options).await.expect("opened");
    assert!(database.change(post(&database, "one", None)).await.is_ok());
    let mut other: PgConnection = options.connect().await.expect("connected");
    let take = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database()); \
         SELECT pg_advisory_lock(hashtext('campanile'), hashtext(current_schema()))";
    sqlx::raw_sql(take).execute(&mut other).await.expect("taken");
    let begun = Instant::now();
    let refused = database.change(post(&database, "two", None)).await;
    assert_eq!(refused, Err(Refused::UNAVAILABLE));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(gauge(&database, "database_is_failing"), 1);
    // Readers are not concerned.
    assert_eq!(texts(&database).await, ["one"]);
    drop(other);
    let due = Instant::now() + Duration::from_secs(10);
    while database.change(post(&database, "three", Some("3"))).await.is_err() {
        assert!(Instant::now() < due);
    }
    assert_eq!(texts(&database).await, ["one", "three"]);
    assert_eq!(gauge(&database, "database_is_failing"), 0);
}

#[tokio::test]
async fn a_character_that_the_server_has_no_word_for_is_nobodys_fault() {
    let (database, _mail) = open(&fresh().await).await.expect("opened");
    let (posted, elsewhere) = tokio::join!(
        database.change(post(&database, "a\0b", Some("k\0"))),
        database
            .change(Change::Join { user: database.users()[0].id.clone(), channel: "x\0".into() }),
    );
    assert!(posted.is_ok(), "{posted:?}");
    assert_eq!(elsewhere, Err(Refused("channel_not_found")));
    assert_eq!(database.change(post(&database, "a\0b", Some("k\0"))).await, posted);
    assert_eq!(texts(&database).await, ["a\0b"]);
    assert_eq!(gauge(&database, "database_failures_total"), 0);
}
