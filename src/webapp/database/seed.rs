//! A fresh database, and what is read of any at the start.

use std::collections::HashMap;
use std::fs::File;
use std::sync::OnceLock;

use super::connection::Connection;
use super::demo::FIRST_CHANNELS;
use super::people::People;
use super::sql::query;
use super::writer::Tally;
use super::{Facts, Team, User, random_hex, tokens};
use crate::limits::Limits;
use crate::ring::Secret;

/// Whether nobody was here yet.
pub(super) async fn is_needed(db: &mut Connection) -> Result<bool, sqlx::Error> {
    Ok(!query("SELECT EXISTS (SELECT 1 FROM meta)").fetch_one(db).await?.get::<bool>(0))
}

/// What is drawn once for a database: the team comes later, by whoever runs the cell.
pub(super) async fn make(db: &mut Connection) -> Result<(), sqlx::Error> {
    let mut tx = db.begin().await?;
    for (name, value) in [("epoch", new_epoch()), ("secret", random_hex(16))] {
        let insert = query("INSERT INTO meta VALUES ($1, $2)").bind(name).bind(&value);
        insert.execute(&mut tx).await?;
    }
    tx.commit().await
}

fn new_epoch() -> String {
    random_hex(8)
}

/// What was committed last is not there. Positions of before are worth nothing from now on, and nobody opens the database until the operator has
/// ended who has them and takes this away.
pub(super) async fn note_loss(db: &mut Connection) -> Result<(), sqlx::Error> {
    let mut tx = db.begin().await?;
    let renew = "UPDATE meta SET value = $1 WHERE name = 'epoch'";
    query(renew).bind(&new_epoch()).execute(&mut tx).await?;
    query("INSERT INTO meta VALUES ('went_back', 'yes')").execute(&mut tx).await?;
    tx.commit().await
}

pub(super) async fn went_back(db: &mut Connection) -> Result<bool, sqlx::Error> {
    let noted = "SELECT EXISTS (SELECT 1 FROM meta WHERE name = 'went_back')";
    Ok(query(noted).fetch_one(db).await?.get(0))
}

/// The team, once it was made.
pub(super) async fn team(db: &mut Connection) -> Result<Option<Team>, sqlx::Error> {
    Ok(team_of(&mut meta(db).await?))
}

fn team_of(meta: &mut HashMap<String, String>) -> Option<Team> {
    let mut take = |name: &str| meta.remove(name);
    let team = take("team_id").zip(take("team_name")).zip(take("team_domain"));
    team.map(|((id, name), domain)| Team { id, name, domain })
}

async fn meta(db: &mut Connection) -> Result<HashMap<String, String>, sqlx::Error> {
    let rows = query("SELECT name, value FROM meta").fetch_all(db).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// What there is when the process starts.
pub(super) async fn read(
    db: &mut Connection,
    limits: &Limits,
    lock: Option<File>,
) -> Result<Facts, sqlx::Error> {
    let mut meta = meta(&mut *db).await?;
    let team = team_of(&mut meta).map_or_else(OnceLock::new, OnceLock::from);
    let mut take = |name: &str| meta.remove(name).ok_or(sqlx::Error::RowNotFound);
    let epoch = take("epoch")?;
    let secret = u128::from_str_radix(&take("secret")?, 16)
        .map_err(|error| sqlx::Error::Decode(error.into()))?;
    let seeded = "SELECT id, name FROM conversations WHERE kind = 0 ORDER BY n LIMIT $1";
    let seeded = query(seeded).bind(FIRST_CHANNELS as i64).fetch_all(&mut *db).await?;
    let (users, tokens) = (people(&mut *db).await?, tokens::all(&mut *db).await?);
    Ok(Facts {
        team,
        people: People::new(users, &tokens),
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
    let users =
        "SELECT id, name, real_name, is_bot, updated, revoked IS NOT NULL FROM users ORDER BY n";
    let users = query(users).fetch_all(db).await?;
    let users = users.iter().map(|row| User {
        id: row.get(0),
        name: row.get(1),
        real_name: row.get(2),
        is_bot: row.get(3),
        updated: row.get(4),
        is_revoked: row.get(5),
    });
    Ok(users.collect())
}
