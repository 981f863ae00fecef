//! Start and end: the directory, its lock, what the next process finds.

use std::os::unix::fs::PermissionsExt;

use super::*;

#[tokio::test]
async fn one_process_holds_a_directory_and_the_next_finds_everything() {
    let home = tempfile::tempdir().expect("a directory");
    let directory = home.path().join("data");
    let storage = Storage::Directory(directory.clone());
    let first = Stage::at(&storage, &Limits::DEFAULT).await;
    let dave = first.new_user("dave").await.expect("a user");
    let (alice, _) = first.token("alice");
    first.posted("dave", "general", "kept").await;
    let (control, _mail) = Control::new(10);
    let second = Database::open(&storage, &Limits::DEFAULT, control, None).await;
    assert!(matches!(second, Err(Unopened::InUse(_))), "{second:?}");
    let (users, epoch) = (first.database.users(), first.database.epoch().to_string());
    first.database.close().await;
    let name = |name: &str| directory.join(name);
    assert!(!name("campanile.sqlite-wal").exists_and_is_long(), "everything is in the file");
    for file in ["campanile.sqlite", "lock"] {
        let mode = name(file).metadata().expect("a file").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{file} is nobody else's");
    }
    drop(first);
    let (control, _mail) = Control::new(10);
    let third = Database::open(&storage, &Limits::DEFAULT, control, None).await.expect("again");
    assert_eq!((third.users(), third.epoch()), (users, epoch.as_str()));
    assert_eq!(third.user_named("dave"), Some(dave));
    assert!(third.bearer(&alice).is_ok_and(|bearer| bearer.user.name == "alice"));
}

trait Long {
    fn exists_and_is_long(&self) -> bool;
}

impl Long for std::path::PathBuf {
    fn exists_and_is_long(&self) -> bool {
        self.metadata().is_ok_and(|file| file.len() > 0)
    }
}

#[tokio::test]
async fn what_was_asked_before_the_end_is_done_and_what_comes_after_is_refused() {
    let home = Home::new().await;
    let limits = Limits { commit_batch_max: 4, ..Limits::DEFAULT };
    let stage = Stage::at(&home.storage, &limits).await;
    let posts: Vec<_> = (0..50)
        .map(|nth| {
            let post = stage.post("alice", "general", &nth.to_string(), None);
            let database = stage.database.clone();
            tokio::spawn(async move { database.change(Change::Post(post)).await })
        })
        .collect();
    tokio::task::yield_now().await;
    let before = stage.tip(&stage.general()).await;
    stage.database.close().await;
    let mut done = 0;
    for post in posts {
        match post.await.expect("no panic") {
            Ok(_) => done += 1,
            Err(refused) => assert_eq!(refused, Refused::UNAVAILABLE),
        }
    }
    assert!(done >= before && done > 0, "{done} of them");
    let late = stage.post("alice", "general", "late", None);
    assert_eq!(stage.database.change(Change::Post(late)).await, Err(Refused::UNAVAILABLE));
    let unread = stage.database.users_part(Part { after: 0, limit: 1 });
    assert_eq!(unread.0.len(), 1, "what is in memory stays");
    assert_eq!(stage.database.message(&stage.general(), 1).await, Err(Refused::UNAVAILABLE));
    stage.database.close().await;
    drop(stage);
    let next = Stage::at(&home.storage, &Limits::DEFAULT).await;
    assert_eq!(next.tip(&next.general()).await, done, "every answer was true");
}

#[tokio::test]
async fn what_is_no_database_is_a_sentence() {
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("campanile.sqlite");
    let sentence = async || {
        let (control, _mail) = Control::new(10);
        let storage = Storage::Directory(home.path().into());
        match Database::open(&storage, &Limits::DEFAULT, control, None).await {
            Ok(_) => panic!("opened"),
            Err(unopened) => unopened.to_string(),
        }
    };
    std::fs::write(&file, "no database at all, but long enough to look at ".repeat(100))
        .expect("written");
    let said = sentence().await;
    assert!(said.contains(&file.display().to_string()) && said.contains("--data"), "{said}");
    assert!(said.contains("damaged"), "{said}");
    std::fs::remove_file(&file).expect("removed");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&file).create_if_missing(true);
    let mut other = options.connect().await.expect("another program's");
    sqlx::raw_sql("PRAGMA user_version = 77").execute(&mut other).await.expect("a version");
    drop(other);
    assert!(sentence().await.contains("schema 77"));
}

/// What such a file had, but for what a story does not need.
const BEFORE_MIGRATIONS: &str = "
    INSERT INTO meta VALUES ('team_id', 'T1'), ('team_name', 'Old'), ('team_domain', 'old'), ('epoch', 'e'), ('secret', '1f');
    INSERT INTO streams VALUES ('T1', 0, 1), ('U1', 0, 1), ('C1', 1, 1000000);
    INSERT INTO users (id, name, real_name, is_bot, token, updated) VALUES ('U1', 'alice', 'Alice', 0, 'xoxp-old', 1);
    INSERT INTO conversations (id, name, kind, creator, created, is_general, members) VALUES ('C1', 'general', 0, 'U1', 1, 1, 1);
    INSERT INTO members (channel, user) VALUES ('C1', 'U1');
    INSERT INTO events VALUES ('C1', 1, 0, 0, NULL, NULL, NULL, NULL, '{\"type\":\"message\"}');
    INSERT INTO messages (channel, ts, seq, user, is_reply, body) VALUES ('C1', 1000000, 1, 'U1', 0, '{\"text\":\"old\",\"ts\":\"0000000001.000000\"}');
    INSERT INTO outbox (stream, seq) VALUES ('C1', 1);
    PRAGMA user_version = 2";

#[tokio::test]
async fn a_file_of_the_time_before_migrations_is_taken_over() {
    let home = tempfile::tempdir().expect("a directory");
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(home.path().join("campanile.sqlite"))
        .create_if_missing(true);
    let mut old = options.connect().await.expect("an old file");
    let schema = include_str!("../migrations/sqlite/0001_workspace.sql");
    for sql in [schema, BEFORE_MIGRATIONS] {
        sqlx::raw_sql(sql).execute(&mut old).await.expect("as it was");
    }
    drop(old);
    let storage = Storage::Directory(home.path().into());
    for count in 1..3 {
        let stage = Stage::at(&storage, &Limits::DEFAULT).await;
        assert_eq!(stage.database.team().name, "Old");
        assert_eq!(stage.database.bearer("xoxp-old").expect("alice").user.name, "alice");
        let message = stage.database.message("C1", 1_000_000).await.expect("stored long ago");
        assert_eq!(message["text"], "old");
        let rows = stage.ask(&Message::OutboxRead { ask: Ask(1), after: 0, count_max: 9 }).await;
        assert!(matches!(Message::decode(&rows[0]), Ok(Message::Committed { id: 1, .. })));
        assert_eq!(stage.posted("alice", "general", "new").await.1, count + 1);
        stage.database.close().await;
    }
}

#[tokio::test]
async fn a_schema_of_a_later_campanile_is_left_alone() {
    let home = Home::new().await;
    Stage::at(&home.storage, &Limits::DEFAULT).await.database.close().await;
    let later = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (99, 'later', TRUE, 'x', 0)";
    home.meddle(later, later).await;
    let (control, _mail) = Control::new(10);
    let said = match Database::open(&home.storage, &Limits::DEFAULT, control, None).await {
        Ok(_) => panic!("opened"),
        Err(unopened) => unopened.to_string(),
    };
    assert!(said.contains("schema 99"), "{said}");
}
