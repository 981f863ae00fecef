//! The team, users and tokens: made, found, revoked; and what an older schema had of them.

use super::*;
use crate::wire::message::boot;

/// A database without a workspace, as a cell begins.
async fn empty(storage: &Storage) -> Stage {
    let (control, mail) = Control::new(1_000);
    let database = Database::open(storage, &Limits::DEFAULT, control, None).await.expect("opens");
    Stage { database, mail }
}

async fn token(stage: &Stage, user: &str, label: &str) -> Result<(String, u32), Refused> {
    let token = new_token(false);
    let hash = token_hash(&token);
    let change = Change::CreateToken { user: user.into(), label: label.into(), hash };
    match stage.database.change(change).await? {
        Outcome::Token(known) => Ok((token, known.number())),
        other => panic!("no token: {other:?}"),
    }
}

async fn revoked(stage: &Stage, number: u32) -> Result<bool, Refused> {
    match stage.database.change(Change::RevokeToken { number }).await? {
        Outcome::Revoked { tokens, is_new, .. } => {
            assert_eq!(tokens.len(), 1);
            Ok(is_new)
        }
        other => panic!("not revoked: {other:?}"),
    }
}

/// What the desk was told since the last time.
fn told(stage: &mut Stage) -> Vec<(u32, String)> {
    let mut all = Vec::new();
    while let Ok(mail) = stage.mail.try_recv() {
        if let Ok(Message::Revoke { tokens }) = Message::decode(&mail.message) {
            all.extend(tokens.iter::<(u32, &str)>().map(|(token, user)| (token, user.into())));
        }
    }
    all
}

#[tokio::test]
async fn a_workspace_is_made_of_nothing() {
    let home = Home::new().await;
    let stage = empty(&home.storage).await;
    assert!(stage.database.users().is_empty() && stage.database.team().id.is_empty());
    assert_eq!(stage.new_user("dave").await, Err(Refused("team_not_found")));
    let team =
        |name: &str, domain: &str| Change::CreateTeam { name: name.into(), domain: domain.into() };
    for (name, domain, reason) in [
        ("", "", "invalid_team_name"),
        ("a\nb", "", "invalid_team_name"),
        ("Acme", "Acme", "invalid_team_domain"),
    ] {
        assert_eq!(stage.database.change(team(name, domain)).await, Err(Refused(reason)), "{name}");
    }
    let Ok(Outcome::Team(made)) = stage.database.change(team("Acme & Sons", "")).await else {
        panic!("a team")
    };
    assert_eq!((made.domain.as_str(), stage.database.team()), ("acme-sons", &made));
    assert_eq!(stage.database.change(team("Other", "")).await, Err(Refused("team_exists")));
    let dave = stage.new_user("dave").await.expect("a user");
    let general =
        stage.database.conversation(&dave.id, "general").await.expect("it begins with one");
    assert_eq!((&general["is_general"], &general["num_members"]), (&true.into(), &1.into()));
    let (text, number) = token(&stage, &dave.id, "laptop").await.expect("a token");
    let bearer = stage.database.bearer(&text).expect("it opens");
    assert_eq!((bearer.user.name.as_str(), bearer.token), ("dave", number));
    stage.posted("dave", "general", "hello").await;
    stage.database.close().await;
    drop(stage);
    let next = empty(&home.storage).await;
    assert_eq!(next.database.team(), &made);
    assert_eq!(next.database.bearer(&text), Ok(bearer), "its hash is enough");
}

#[tokio::test]
async fn a_revoked_token_opens_nothing_and_neither_do_its_tickets() {
    let mut stage = Stage::new().await;
    let bob = stage.id("bob");
    let (lost, number) = token(&stage, &bob, "lost").await.expect("a token");
    let (kept, other) = token(&stage, &bob, "kept").await.expect("another");
    for (ticket, token) in [("of-lost", number), ("of-kept", other)] {
        let hash = ticket_hash(ticket);
        let change = Change::Ticket { user: bob.clone(), token, hash, flags: 0 };
        assert!(matches!(stage.database.change(change).await, Ok(Outcome::Ticket { .. })));
    }
    assert!(told(&mut stage).is_empty());
    assert_eq!(revoked(&stage, number).await, Ok(true));
    assert_eq!(told(&mut stage), [(number, bob.clone())]);
    assert_eq!(stage.database.bearer(&lost), Err(Refused("token_revoked")));
    assert!(stage.database.bearer(&kept).is_ok());
    assert_eq!(stage.database.bearer("xoxp-nobody"), Err(Refused("invalid_auth")));
    let redeemed = stage.ask(&Message::Redeem { ask: Ask(1), ticket: "of-lost" }).await;
    assert_eq!(Message::decode(&redeemed[0]), Ok(Message::Refused { ask: Ask(1), retry: false }));
    let redeemed = stage.ask(&Message::Redeem { ask: Ask(2), ticket: "of-kept" }).await;
    assert!(
        matches!(Message::decode(&redeemed[0]), Ok(Message::Boot { token, .. }) if token == other)
    );
    // Who had shown the token before gets no ticket for it after, and no new one for a connection.
    let (hash, flags) = (ticket_hash("late"), boot::RESUME);
    let late = Change::Ticket { user: bob.clone(), token: number, hash, flags };
    assert_eq!(stage.database.change(late).await, Err(Refused("token_revoked")));
    let renew = Message::Renew { ask: Ask(3), user: &bob, token: number, flags };
    let renewed = stage.ask(&renew).await;
    assert_eq!(Message::decode(&renewed[0]), Ok(Message::Refused { ask: Ask(3), retry: false }));
    // Once more is nothing new, and is told once more: the first word may have been lost.
    assert_eq!(revoked(&stage, number).await, Ok(false));
    assert_eq!(told(&mut stage), [(number, bob)]);
    assert_eq!(revoked(&stage, 4_000_000).await, Err(Refused("token_not_found")));
}

#[tokio::test]
async fn a_revoked_user_comes_in_by_no_token_and_everybody_is_told() {
    let mut stage = Stage::new().await;
    let carol = stage.id("carol");
    let (one, first) = token(&stage, &carol, "").await.expect("a token");
    let (demo, second) = stage.token("carol");
    let revoke = Change::RevokeUser { user: carol.clone() };
    let done = stage.database.change(revoke.clone()).await;
    assert!(
        matches!(done, Ok(Outcome::Revoked { is_new: true, ref tokens, .. }) if tokens.len() == 2)
    );
    let mut tokens = told(&mut stage);
    tokens.sort_unstable();
    assert_eq!(tokens, [(second, carol.clone()), (first, carol.clone())]);
    for token in [&one, &demo] {
        assert_eq!(stage.database.bearer(token), Err(Refused("account_inactive")));
    }
    assert_eq!(token(&stage, &carol, "").await, Err(Refused("account_inactive")));
    let team = stage.events(&stage.database.team().id).await;
    let last = team.last().expect("told");
    assert_eq!((&last["type"], &last["user"]["deleted"]), (&"user_change".into(), &true.into()));
    let general = stage.general();
    let admit = Message::Admit { ask: Ask(1), user: &carol, channel: &general };
    let admitted = stage.ask(&admit).await;
    assert!(matches!(
        Message::decode(&admitted[0]),
        Ok(Message::Admitted { is_member: false, .. })
    ));
    let again = stage.database.change(revoke).await;
    assert!(matches!(again, Ok(Outcome::Revoked { is_new: false, .. })));
    assert_eq!(stage.events(&stage.database.team().id).await.len(), team.len(), "told once");
    let nobody = Change::RevokeUser { user: "U0".into() };
    assert_eq!(stage.database.change(nobody).await, Err(Refused("user_not_found")));
}

#[tokio::test]
async fn tokens_have_bounds_and_are_listed_in_pages() {
    let limits = Limits { tokens_per_user_max: 3, ..Limits::DEFAULT };
    let stage = Stage::limited(&limits).await;
    let alice = stage.id("alice");
    let long = "x".repeat(81);
    for label in ["a\nb", long.as_str()] {
        assert_eq!(token(&stage, &alice, label).await, Err(Refused("invalid_label")));
    }
    assert_eq!(token(&stage, "U0", "").await, Err(Refused("user_not_found")));
    // The demo's is one.
    let (_, first) = token(&stage, &alice, "first").await.expect("room");
    token(&stage, &alice, "second").await.expect("room");
    assert_eq!(token(&stage, &alice, "third").await, Err(Refused("token_limit_reached")));
    assert_eq!(revoked(&stage, first).await, Ok(true));
    token(&stage, &alice, "third").await.expect("room again");
    let (mut after, mut labels) = (Some(0), Vec::new());
    while let Some(from) = after {
        let part = Part { after: from, limit: 2 };
        let (tokens, next) = stage.database.tokens(Some(&alice), part).await.expect("read");
        labels.extend(tokens.into_iter().map(|token| (token.label, token.revoked.is_some())));
        after = next;
    }
    let labels: Vec<_> = labels.iter().map(|(label, gone)| (label.as_str(), *gone)).collect();
    assert_eq!(labels, [("demo", false), ("first", true), ("second", false), ("third", false)]);
    let everybody = stage.database.tokens(None, Part { after: 0, limit: 100 }).await.expect("read");
    assert_eq!((everybody.0.len(), everybody.1), (7, None));
}

#[tokio::test]
async fn a_demo_tells_the_same_tokens_at_every_start_but_not_those_that_were_revoked() {
    let home = Home::new().await;
    let stage = Stage::at(&home.storage, &Limits::DEFAULT).await;
    let (alice, number) = stage.token("alice");
    let (bob, _) = stage.token("bob");
    assert_eq!(revoked(&stage, number).await, Ok(true));
    let dave = stage.new_user("dave").await.expect("a user");
    stage.database.close().await;
    drop(stage);
    let mut next = Stage::at(&home.storage, &Limits::DEFAULT).await;
    assert_eq!(told(&mut next), [(number, next.id("alice"))], "who was cut off is told once more");
    assert_eq!((next.token("alice").0, next.token("bob").0), (alice.clone(), bob.clone()));
    assert_eq!(next.database.bearer(&alice), Err(Refused("token_revoked")));
    assert!(next.database.bearer(&bob).is_ok());
    let (text, _) = next.token("dave");
    assert_eq!(next.database.bearer(&text).expect("given at the start").user, dave);
    let other = Demo::new([8; 32]).token(&dave);
    assert_eq!(next.database.bearer(&other), Err(Refused("invalid_auth")), "of another key");
}

/// The schema before tokens had a table of their own, and what such a database had: with what SQLite writes of it, and PostgreSQL.
const OLD_SQLITE: [&str; 2] = [
    include_str!("../migrations/sqlite/0001_workspace.sql"),
    include_str!("../migrations/sqlite/0002_who.sql"),
];
const OLD_POSTGRES: &str = include_str!("../migrations/postgres/0002_workspace.sql");
const OLD_ROWS: &str = "
    INSERT INTO meta VALUES ('team_id', 'T1'), ('team_name', 'Old'), ('team_domain', 'old'), ('epoch', 'e'), ('secret', '1f');
    INSERT INTO streams VALUES ('T1', 0, 1), ('U1', 0, 1), ('U2', 0, 1), ('C1', 0, 1);
    INSERT INTO users (id, name, real_name, is_bot, token, manual_away, updated) VALUES
        ('U1', 'alice', 'Alice', FALSE, 'xoxp-alice', TRUE, 7), ('U2', 'bot', 'Bot', TRUE, 'xoxb-bot', FALSE, 8);
    INSERT INTO conversations (id, name, kind, creator, created, is_general, members) VALUES ('C1', 'general', 0, 'U1', 1, TRUE, 1);
    INSERT INTO members (channel, who) VALUES ('C1', 'U1');";
const OLD_TICKET: [&str; 2] = [
    "INSERT INTO tickets VALUES (x'00', 9000000000000000, x'00')",
    "INSERT INTO tickets VALUES ('\\x00', 9000000000000000, '\\x00')",
];

#[tokio::test]
async fn tokens_of_the_time_before_they_were_hashed_still_open() {
    let home = Home::new().await;
    // The table of migrations as that campanile left it.
    let migrated = |versions: &[(i64, &str, &[u8])]| {
        let rows = versions.iter().map(|(version, name, sum)| {
            let sum = in_hex(sum);
            format!("({version}, '{name}', TRUE, '\\x{sum}', 0)")
        });
        rows.collect::<Vec<_>>().join(", ")
    };
    let sqlite = sqlx::migrate!("src/webapp/database/migrations/sqlite");
    let postgres = sqlx::migrate!("src/webapp/database/migrations/postgres");
    fn old(all: &sqlx::migrate::Migrator) -> Vec<(i64, &str, &[u8])> {
        let of = all.iter().filter(|one| one.version <= 2);
        of.map(|one| (one.version, &*one.description, &*one.checksum)).collect()
    }
    let columns = "(version BIGINT PRIMARY KEY, description TEXT NOT NULL, installed_on TIMESTAMP";
    let table = format!("CREATE TABLE _sqlx_migrations {columns}");
    let insert = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES";
    let sqlite_list = migrated(&old(&sqlite)).replace("'\\x", "x'");
    let sqlite_all = format!(
        "{}; {}; {OLD_ROWS} {}; {table} NOT NULL DEFAULT CURRENT_TIMESTAMP, success BOOLEAN NOT NULL, checksum BLOB NOT NULL, execution_time BIGINT NOT NULL); {insert} {sqlite_list};",
        OLD_SQLITE[0], OLD_SQLITE[1], OLD_TICKET[0]
    );
    let postgres_all = format!(
        "{OLD_POSTGRES} {OLD_ROWS} {}; {table}TZ NOT NULL DEFAULT now(), success BOOLEAN NOT NULL, checksum BYTEA NOT NULL, execution_time BIGINT NOT NULL); {insert} {};",
        OLD_TICKET[1],
        migrated(&old(&postgres))
    );
    if let Storage::Directory(path) = &home.storage {
        let options = sqlx::sqlite::SqliteConnectOptions::new();
        let options = options.filename(path.join("campanile.sqlite")).create_if_missing(true);
        options.connect().await.expect("an old file");
    }
    home.meddle(&sqlite_all, &postgres_all).await;
    for start in 1..3 {
        let stage = empty(&home.storage).await;
        let alice = stage.database.bearer("xoxp-alice").expect("as before");
        assert_eq!((alice.user.id.as_str(), alice.user.updated, alice.token), ("U1", 7, 1));
        let bot = stage.database.bearer("xoxb-bot").expect("as before");
        assert!(bot.user.is_bot && bot.token == 2);
        assert_eq!(stage.database.is_away_by_hand("U1").await, Ok(true));
        let count = "SELECT COUNT(*) FROM tickets";
        let count = sql::query(count).fetch_one(&stage.database.readers).await.expect("a count");
        assert_eq!(count.get::<i64>(0), 0);
        // Times are microseconds here.
        let (tokens, _) =
            stage.database.tokens(None, Part { after: 0, limit: 9 }).await.expect("read");
        assert_eq!((tokens[0].created, tokens.len()), (7_000_000, 1 + start));
        token(&stage, "U1", "new").await.expect("another");
        stage.posted("alice", "general", "still here").await;
        stage.database.close().await;
    }
    if let Storage::Directory(path) = &home.storage {
        let bytes = std::fs::read(path.join("campanile.sqlite")).expect("the file");
        let is_plain = bytes.windows(10).any(|part| part == b"xoxp-alice");
        assert!(!is_plain, "no token is left in plain text");
    }
}
