//! A fresh database: the schema and its first inhabitants; and what is read of any at the start.

use std::collections::HashMap;
use std::fs::File;

use super::connection::Connection;
use super::people::{People, insert_user, new_token};
use super::sql::query;
use super::writer::Tally;
use super::{Facts, Team, User, new_id, now_micros, random_hex};
use crate::limits::Limits;
use crate::ring::Secret;

const USERS: [(&str, &str); 4] =
    [("alice", "Alice"), ("bob", "Bob"), ("carol", "Carol"), ("bot", "Bot")];
const CHANNELS: [(&str, &str); 2] = [
    ("general", "Announcements and talk for everybody"),
    ("random", "What does not belong anywhere else"),
];

/// Whether nobody was here yet.
pub(super) async fn is_needed(db: &mut Connection) -> Result<bool, sqlx::Error> {
    Ok(!query("SELECT EXISTS (SELECT 1 FROM meta)").fetch_one(db).await?.get::<bool>(0))
}

/// In one transaction: a crash leaves nothing half made.
pub(super) async fn make(db: &mut Connection) -> Result<(), sqlx::Error> {
    let mut tx = db.begin().await?;
    let (team, now) = (new_id('T'), now_micros());
    for (name, value) in [
        ("team_id", team.clone()),
        ("team_name", "Campanile".into()),
        ("team_domain", "campanile".into()),
        ("epoch", random_hex(8)),
        ("secret", random_hex(16)),
    ] {
        let insert = query("INSERT INTO meta VALUES ($1, $2)").bind(name).bind(&value);
        insert.execute(&mut tx).await?;
    }
    let mut users = Vec::new();
    for (name, real_name) in USERS {
        let is_bot = name == "bot";
        let user = User {
            id: new_id('U'),
            name: name.into(),
            real_name: real_name.into(),
            is_bot,
            token: new_token(is_bot),
            updated: now / 1_000_000,
        };
        insert_user(&mut tx, &user, now).await?;
        users.push(user.id);
    }
    let stream = "INSERT INTO streams VALUES ($1, 0, $2)";
    query(stream).bind(&team).bind(now).execute(&mut tx).await?;
    for (name, topic) in CHANNELS {
        let id = new_id('C');
        query(stream).bind(&id).bind(now).execute(&mut tx).await?;
        query("INSERT INTO conversations (id, name, kind, creator, created, is_general, topic, members) VALUES ($1, $2, 0, $3, $4, $5, $6, $7)")
            .bind(&id).bind(name).bind(&users[0]).bind(now).bind(name == "general").bind(topic).bind(users.len() as i64)
            .execute(&mut tx).await?;
        for user in &users {
            let insert = query("INSERT INTO members (channel, who) VALUES ($1, $2)");
            insert.bind(&id).bind(user).execute(&mut tx).await?;
        }
    }
    tx.commit().await
}

/// What does not change while the process runs, and the users there are.
pub(super) async fn read(
    db: &mut Connection,
    limits: &Limits,
    lock: Option<File>,
) -> Result<Facts, sqlx::Error> {
    let mut meta = HashMap::new();
    for row in query("SELECT name, value FROM meta").fetch_all(&mut *db).await? {
        meta.insert(row.get::<String>(0), row.get::<String>(1));
    }
    let mut take = |name: &str| meta.remove(name).ok_or(sqlx::Error::RowNotFound);
    let team =
        Team { id: take("team_id")?, name: take("team_name")?, domain: take("team_domain")? };
    let epoch = take("epoch")?;
    let secret = u128::from_str_radix(&take("secret")?, 16)
        .map_err(|error| sqlx::Error::Decode(error.into()))?;
    let seeded = "SELECT id, name FROM conversations WHERE kind = 0 ORDER BY n LIMIT $1";
    let seeded = query(seeded).bind(CHANNELS.len() as i64).fetch_all(&mut *db).await?;
    Ok(Facts {
        team,
        people: People::new(people(&mut *db).await?),
        seeded_channels: seeded.iter().map(|row| (row.get(0), row.get(1))).collect(),
        epoch,
        secret: Secret(secret.to_be_bytes()),
        limits: limits.clone(),
        tally: Tally::default(),
        _lock: lock,
    })
}

/// The users there are, in the order in which they came.
pub(super) async fn people(db: &mut Connection) -> Result<Vec<User>, sqlx::Error> {
    let users = "SELECT id, name, real_name, is_bot, token, updated FROM users ORDER BY n";
    let users = query(users).fetch_all(db).await?;
    let users = users.iter().map(|row| User {
        id: row.get(0),
        name: row.get(1),
        real_name: row.get(2),
        is_bot: row.get(3),
        token: row.get(4),
        updated: row.get(5),
    });
    Ok(users.collect())
}
