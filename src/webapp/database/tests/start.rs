//! Start and end: the directory, its lock, what the next process finds.

use std::os::unix::fs::PermissionsExt;

use super::*;

#[tokio::test]
async fn one_process_holds_a_directory_and_the_next_finds_everything() {
    let home = tempfile::tempdir().expect("a directory");
    let directory = home.path().join("data");
    let first = Stage::with(Some(&directory), &Limits::DEFAULT).await;
    let dave = first.new_user("dave").await.expect("a user");
    first.posted("dave", "general", "kept").await;
    let (control, _mail) = Control::new(10);
    let second = Database::open(Some(&directory), &Limits::DEFAULT, control, None).await;
    assert!(matches!(second, Err(Unopened::InUse { .. })), "{second:?}");
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
    let third =
        Database::open(Some(&directory), &Limits::DEFAULT, control, None).await.expect("again");
    assert_eq!((third.users(), third.epoch()), (users, epoch.as_str()));
    assert_eq!(third.user_of_token(&dave.token), Some(dave));
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
    let home = tempfile::tempdir().expect("a directory");
    let limits = Limits { commit_batch_max: 4, ..Limits::DEFAULT };
    let stage = Stage::with(Some(home.path()), &limits).await;
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
    let next = Stage::with(Some(home.path()), &Limits::DEFAULT).await;
    assert_eq!(next.tip(&next.general()).await, done, "every answer was true");
}

#[tokio::test]
async fn what_is_no_database_is_a_sentence() {
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("campanile.sqlite");
    let sentence = async || {
        let (control, _mail) = Control::new(10);
        match Database::open(Some(home.path()), &Limits::DEFAULT, control, None).await {
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
    let pool = SqlitePool::connect_with(options).await.expect("another program's");
    sqlx::raw_sql("PRAGMA user_version = 77").execute(&pool).await.expect("a version");
    pool.close().await;
    assert!(sentence().await.contains("schema 77"));
}
