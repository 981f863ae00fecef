//! Users, channels and members by number, for a load: drawn before the database is made, and put into it with the first inhabitants.

use serde::Serialize;

use super::connection::Connection;
use super::demo::Demo;
use super::people::insert_user;
use super::sql::{query, together};
use super::{User, new_id, now_micros};

/// Who is to be there besides the usual four. The first of those is in all channels.
#[derive(Clone, Debug)]
pub struct Crowd {
    users: Vec<User>,
    /// (id, name).
    channels: Vec<(String, String)>,
    /// Of each channel: numbers of users, in order.
    members: Vec<Vec<u32>>,
}

/// As it is written for the load generator.
#[derive(Serialize)]
struct File<'a> {
    publisher: &'a str,
    channels: Vec<&'a str>,
    users: Vec<Line<'a>>,
}

#[derive(Serialize)]
struct Line<'a> {
    id: &'a str,
    token: String,
    /// Numbers in `channels`.
    channels: Vec<u32>,
}

impl Crowd {
    /// Each channel has `members` of the users, drawn by `seed`.
    pub fn drawn(users: u32, channels: u32, members: u32, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let updated = now_micros() / 1_000_000;
        let user = |n: u32| User {
            id: new_id('U'),
            name: format!("user-{n}"),
            real_name: format!("User {n}"),
            is_bot: false,
            updated,
            is_revoked: false,
        };
        let members = (0..channels).map(|_| {
            let mut members = random.choose_multiple(0..users, members as usize);
            members.sort_unstable();
            members
        });
        Self {
            users: (0..users).map(user).collect(),
            members: members.collect(),
            channels: (0..channels).map(|n| (new_id('C'), format!("channel-{n}"))).collect(),
        }
    }

    /// Who they are, with the tokens that the demo has for them, and what they follow, as JSON; `publisher` is who is in all channels.
    pub fn file(&self, demo: &Demo, publisher: &User) -> String {
        let mut users: Vec<Line<'_>> = self
            .users
            .iter()
            .map(|user| Line { id: &user.id, token: demo.token(user), channels: Vec::new() })
            .collect();
        let publisher = demo.token(publisher);
        for (channel, members) in self.members.iter().enumerate() {
            for user in members {
                users[*user as usize].channels.push(channel as u32);
            }
        }
        let channels = self.channels.iter().map(|(id, _)| id.as_str()).collect();
        serde_json::to_string(&File { publisher: &publisher, channels, users })
            .expect("names are JSON")
    }

    /// In one transaction, into a database that was made just now.
    pub(super) async fn insert(&self, db: &mut Connection) -> Result<(), sqlx::Error> {
        let mut tx = db.begin().await?;
        let now = now_micros();
        let first = query("SELECT id FROM users ORDER BY n LIMIT 1").fetch_one(&mut tx).await?;
        let first: String = first.get(0);
        for user in &self.users {
            insert_user(&mut tx, user, now).await?;
        }
        for ((id, name), members) in self.channels.iter().zip(&self.members) {
            let insert = together!(
                "INSERT INTO streams VALUES ($1, 0, $2)",
                "INSERT INTO conversations (id, name, kind, creator, created, members) VALUES ($1, $3, 0, $4, $2, $5)",
            );
            query(insert)
                .bind(id)
                .bind(now)
                .bind(name)
                .bind(&first)
                .bind(members.len() as i64 + 1)
                .execute(&mut tx)
                .await?;
            let users = members.iter().map(|user| &self.users[*user as usize].id);
            for user in users.chain([&first]) {
                let insert = query("INSERT INTO members (channel, who) VALUES ($1, $2)");
                insert.bind(id).bind(user).execute(&mut tx).await?;
            }
        }
        tx.commit().await
    }
}
