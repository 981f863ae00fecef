//! Who there is: users in memory, and how somebody new comes.
//!
//! Users are never removed and keep their order, so that a page of them goes on where the last one ended.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use super::batch::{Batch, Stopped, refuse};
use super::connection::Transaction;
use super::sql::{query, together};
use super::{Outcome, Part, User, new_id, random_hex, shapes, ts_of};
use serde_json::json;
use sha2::{Digest, Sha256};

/// Users by token and by id. Per process. Readers wait for nothing but one insertion; the writer adds after its commit.
#[derive(Debug)]
pub(super) struct People(RwLock<Known>);

#[derive(Default, Debug)]
struct Known {
    list: Vec<Arc<User>>,
    by_id: HashMap<String, usize>,
    /// By the token's hash: how long a look takes says nothing about how much of a token was right.
    by_token: HashMap<[u8; 32], usize>,
}

impl Known {
    fn add(&mut self, user: Arc<User>) {
        let at = self.list.len();
        self.by_id.insert(user.id.clone(), at);
        self.by_token.insert(hash(&user.token), at);
        self.list.push(user);
    }
}

impl People {
    pub(super) fn new(users: Vec<User>) -> Self {
        let people = Self(RwLock::default());
        people.renew(users);
        people
    }

    /// As the database has them, where others may have written.
    pub(super) fn renew(&self, users: Vec<User>) {
        let mut known = Known::default();
        for user in users {
            known.add(Arc::new(user));
        }
        *self.0.write().expect("nobody panics with it") = known;
    }

    /// Somebody new. Who was read back from the database meanwhile is not.
    pub(super) fn add(&self, user: Arc<User>) {
        let mut known = self.0.write().expect("nobody panics with it");
        if !known.by_id.contains_key(&user.id) {
            known.add(user);
        }
    }

    pub(super) fn of_id(&self, id: &str) -> Option<Arc<User>> {
        let known = self.0.read().expect("nobody panics with it");
        known.by_id.get(id).map(|at| Arc::clone(&known.list[*at]))
    }
    pub(super) fn of_token(&self, token: &str) -> Option<Arc<User>> {
        let hash = hash(token);
        let known = self.0.read().expect("nobody panics with it");
        known.by_token.get(&hash).map(|at| Arc::clone(&known.list[*at]))
    }
    pub(super) fn len(&self) -> usize {
        self.0.read().expect("nobody panics with it").list.len()
    }
    pub(super) fn all(&self) -> Vec<Arc<User>> {
        self.0.read().expect("nobody panics with it").list.clone()
    }

    /// A page in the order in which they came, and where the next one begins.
    pub(super) fn part(&self, part: Part) -> (Vec<Arc<User>>, Option<i64>) {
        let known = self.0.read().expect("nobody panics with it");
        let count = known.list.len();
        let from = usize::try_from(part.after).unwrap_or(usize::MAX).min(count);
        let upto = from.saturating_add(part.limit as usize).min(count);
        (known.list[from..upto].to_vec(), (upto < count).then_some(upto as i64))
    }
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// What nobody else has.
pub(super) fn new_token(is_bot: bool) -> String {
    format!("{}-{}", if is_bot { "xoxb" } else { "xoxp" }, random_hex(24))
}

const NAME_CHARS_MAX: usize = 80;

impl Batch<'_> {
    pub(super) async fn create_user(
        &mut self,
        name: &str,
        real_name: &str,
        is_bot: bool,
    ) -> Result<Outcome, Stopped> {
        if name.is_empty() {
            return refuse("invalid_name_required");
        }
        if name.chars().count() > NAME_CHARS_MAX || real_name.chars().count() > NAME_CHARS_MAX {
            return refuse("invalid_name_maxlength");
        }
        let is_fine = |letter: char| {
            letter.is_alphanumeric() && !letter.is_uppercase() || ['-', '_', '.'].contains(&letter)
        };
        if !name.chars().all(is_fine) {
            return refuse("invalid_name_specials");
        }
        if !name.chars().any(char::is_alphanumeric) {
            return refuse("invalid_name_punctuation");
        }
        // Those of this batch are not counted: a bound on memory need not be exact.
        if self.facts.people.len() >= self.facts.limits.users_max as usize {
            return refuse("user_limit_reached");
        }
        let found = "SELECT 1 FROM users WHERE name = $1";
        if query(found).bind(name).fetch_optional(&mut self.db).await?.is_some() {
            return refuse("name_taken");
        }
        let user = User {
            id: new_id('U'),
            name: name.into(),
            real_name: if real_name.is_empty() { capitalised(name) } else { real_name.into() },
            is_bot,
            token: new_token(is_bot),
            updated: self.now / 1_000_000,
        };
        insert_user(&mut self.db, &user, self.now).await?;
        let general = "SELECT id FROM conversations WHERE is_general";
        let general: Option<String> =
            query(general).fetch_optional(&mut self.db).await?.map(|row| row.get(0));
        if let Some(general) = general {
            self.join(&general, &user.id, false).await?;
        }
        let team = self.facts.team.id.as_str();
        let at = self.next(team).await?;
        let told = json!({ "type": "team_join", "user": shapes::user(&user, team), "event_ts": ts_of(at.ts) });
        self.append(team, at, None, &told).await?;
        Ok(Outcome::User(Arc::new(user)))
    }

    pub(super) async fn away(&mut self, user: &str, away: bool) -> Result<Outcome, Stopped> {
        let changed =
            query("UPDATE users SET manual_away = $2 WHERE id = $1 AND manual_away <> $2")
                .bind(user)
                .bind(away)
                .execute(&mut self.db)
                .await?;
        if changed == 0 {
            return Ok(Outcome::Already);
        }
        let presence = if away { "away" } else { "active" };
        let at = self.next(user).await?;
        let told = json!({
            "type": "manual_presence_change", "presence": presence, "event_ts": ts_of(at.ts),
        });
        self.append(user, at, None, &told).await?;
        Ok(Outcome::Done)
    }
}

/// A user and the user's own stream.
pub(super) async fn insert_user(
    db: &mut Transaction<'_>,
    user: &User,
    now: i64,
) -> Result<(), sqlx::Error> {
    let insert = together!(
        "INSERT INTO users (id, name, real_name, is_bot, token, updated) VALUES ($1, $2, $3, $4, $5, $6)",
        "INSERT INTO streams VALUES ($1, 0, $7)",
    );
    query(insert)
        .bind(&user.id)
        .bind(&user.name)
        .bind(&user.real_name)
        .bind(user.is_bot)
        .bind(&user.token)
        .bind(user.updated)
        .bind(now)
        .execute(db)
        .await?;
    Ok(())
}

fn capitalised(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}
