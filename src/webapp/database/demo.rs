//! A workspace to try things in: its first inhabitants, and tokens that can be told again.
//!
//! The database has only hashes of tokens, so a demo draws each of its own from a key that is kept elsewhere and from the user's id: it can
//! tell them at every start, and stores nothing for that. Whoever has the key has all of them, which is what a demo is for.

use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use super::connection::Connection;
use super::crowd::Crowd;
use super::people::insert_user;
use super::sql::query;
use super::teams::{First, GENERAL, insert_conversation, insert_team};
use super::tokens::{hash, insert_token, prefix};
use super::{Facts, Team, User, in_hex, new_id, now_micros};

const USERS: [(&str, &str); 4] =
    [("alice", "Alice"), ("bob", "Bob"), ("carol", "Carol"), ("bot", "Bot")];
const CHANNELS: [(&str, &str); 2] = [GENERAL, ("random", "What does not belong anywhere else")];
/// What its tokens are called.
const LABEL: &str = "demo";
/// Bytes of a token: nobody guesses 192 bits.
const TOKEN_BYTES: usize = 24;

/// Of a database whose tokens may be told to whoever asks.
#[derive(Clone)]
pub struct Demo {
    key: [u8; 32],
    /// Who comes into a new one besides the usual four.
    pub crowd: Option<Crowd>,
}

impl std::fmt::Debug for Demo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Demo { .. }")
    }
}

impl Demo {
    pub fn new(key: [u8; 32]) -> Self {
        Self { key, crowd: None }
    }

    /// The token that this demo has for a user. Whether it was revoked, only the database knows.
    pub fn token(&self, user: &User) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("any length will do");
        mac.update(user.id.as_bytes());
        let bytes = mac.finalize().into_bytes();
        format!("{}{}", prefix(user.is_bot), in_hex(&bytes[..TOKEN_BYTES]))
    }

    /// The token's hash.
    pub(in crate::webapp) fn hash(&self, user: &User) -> [u8; 32] {
        hash(&self.token(user))
    }

    /// The usual four, two channels and the crowd. In one transaction each: a crash leaves nothing half made.
    pub(super) async fn people(&self, db: &mut Connection) -> Result<(), sqlx::Error> {
        let mut tx = db.begin().await?;
        let now = now_micros();
        let team = Team { id: new_id('T'), name: "Campanile".into(), domain: "campanile".into() };
        insert_team(&mut tx, &team, now).await?;
        let mut users = Vec::new();
        for (name, real_name) in USERS {
            let user = User {
                id: new_id('U'),
                name: name.into(),
                real_name: real_name.into(),
                is_bot: name == "bot",
                updated: now / 1_000_000,
                is_revoked: false,
            };
            insert_user(&mut tx, &user, now).await?;
            users.push(user.id);
        }
        for (name, topic) in CHANNELS {
            let creator = users[0].as_str();
            let first = First { name, topic, creator, is_general: name == GENERAL.0 };
            let id = insert_conversation(&mut tx, first, now).await?;
            for user in &users {
                let insert = query("INSERT INTO members (channel, who) VALUES ($1, $2)");
                insert.bind(&id).bind(user).execute(&mut tx).await?;
            }
            let count = query("UPDATE conversations SET members = $2 WHERE id = $1");
            count.bind(&id).bind(users.len() as i64).execute(&mut tx).await?;
        }
        tx.commit().await?;
        match &self.crowd {
            Some(crowd) => crowd.insert(db).await,
            None => Ok(()),
        }
    }

    /// Gives everybody who may come in the token that this demo tells, unless they have it or had it.
    pub(super) async fn tokens(
        &self,
        db: &mut Connection,
        facts: &Facts,
    ) -> Result<(), sqlx::Error> {
        let (mut tx, now) = (db.begin().await?, now_micros());
        let mut made = Vec::new();
        for user in facts.people.all() {
            let token = self.token(&user);
            if user.is_revoked || facts.people.number_of(&token).is_some() {
                continue;
            }
            made.push(insert_token(&mut tx, hash(&token), (&user.id, LABEL), now).await?);
        }
        tx.commit().await?;
        for token in &made {
            facts.people.note(token);
        }
        Ok(())
    }
}

/// Channels that [`Demo::people`] makes: the first ones of a database.
pub(super) const FIRST_CHANNELS: usize = CHANNELS.len();
