//! Who there is: users and their tokens in memory, and how somebody new comes, and goes.
//!
//! Users are never removed and keep their order, so that a page of them goes on where the last one ended.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use super::batch::{Batch, Stopped, refuse};
use super::connection::Transaction;
use super::sql::{query, together};
use super::tokens::{Hash, Whose, hash};
use super::{Outcome, Part, Refused, User, new_id, shapes, ts_of};
use serde_json::json;

/// A token as it is known here. Never its text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Known {
    pub(super) hash: Hash,
    pub(super) number: u32,
    /// Its user's id.
    pub(super) who: String,
    pub(super) is_revoked: bool,
}

impl Known {
    /// By which it is known to operators, and to connections.
    pub fn number(&self) -> u32 {
        self.number
    }
}

/// Whose call it is, and by which token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bearer {
    pub user: Arc<User>,
    /// The token's number.
    pub token: u32,
}

/// Users by token and by id. Per process. Readers wait for nothing but one insertion; the writer adds after its commit.
#[derive(Debug)]
pub(super) struct People(RwLock<Tables>);

#[derive(Default, Debug)]
struct Tables {
    list: Vec<Arc<User>>,
    by_id: HashMap<String, usize>,
    /// By the token's hash: how long a look takes says nothing about how much of a token was right.
    tokens: HashMap<Hash, Held>,
}

/// What opens the door, and to whom.
#[derive(Clone, Copy, Debug)]
struct Held {
    user: usize,
    number: u32,
    is_revoked: bool,
}

impl Tables {
    fn add(&mut self, user: Arc<User>) {
        let at = self.list.len();
        self.by_id.insert(user.id.clone(), at);
        self.list.push(user);
    }

    /// Revoked is for good: what is read late changes nothing.
    fn note(&mut self, token: &Known) {
        let Some(&user) = self.by_id.get(&token.who) else { return };
        let held = Held { user, number: token.number, is_revoked: token.is_revoked };
        let held = self.tokens.entry(token.hash).or_insert(held);
        held.is_revoked |= token.is_revoked;
    }
}

impl People {
    pub(super) fn new(users: Vec<User>, tokens: &[Known]) -> Self {
        let people = Self(RwLock::default());
        people.renew(users, tokens);
        people
    }

    /// As the database has them, where others may have written.
    pub(super) fn renew(&self, users: Vec<User>, tokens: &[Known]) {
        let mut tables = Tables::default();
        for user in users {
            tables.add(Arc::new(user));
        }
        for token in tokens {
            tables.note(token);
        }
        *self.0.write().expect("nobody panics with it") = tables;
    }

    /// Somebody new, or somebody as they are from now on. Who was read back from the database meanwhile is not new.
    pub(super) fn add(&self, user: Arc<User>) {
        let mut tables = self.0.write().expect("nobody panics with it");
        match tables.by_id.get(&user.id).copied() {
            Some(at) => tables.list[at] = user,
            None => tables.add(user),
        }
    }

    /// A token that is there, or opens nothing any more.
    pub(super) fn note(&self, token: &Known) {
        self.0.write().expect("nobody panics with it").note(token);
    }

    pub(super) fn of_id(&self, id: &str) -> Option<Arc<User>> {
        let tables = self.0.read().expect("nobody panics with it");
        tables.by_id.get(id).map(|at| Arc::clone(&tables.list[*at]))
    }

    pub(super) fn of_name(&self, name: &str) -> Option<Arc<User>> {
        let tables = self.0.read().expect("nobody panics with it");
        tables.list.iter().find(|user| user.name == name).cloned()
    }

    /// Whose token it is, in Slack's words if nobody's.
    pub(super) fn of_token(&self, token: &str) -> Result<Bearer, Refused> {
        let hash = hash(token);
        let tables = self.0.read().expect("nobody panics with it");
        let held = *tables.tokens.get(&hash).ok_or(Refused("invalid_auth"))?;
        let user = &tables.list[held.user];
        match (user.is_revoked, held.is_revoked) {
            (true, _) => Err(Refused("account_inactive")),
            (false, true) => Err(Refused("token_revoked")),
            (false, false) => Ok(Bearer { user: Arc::clone(user), token: held.number }),
        }
    }
    /// The number of a token, whether or not it opens anything.
    pub(super) fn number_of(&self, token: &str) -> Option<u32> {
        let hash = hash(token);
        let tables = self.0.read().expect("nobody panics with it");
        tables.tokens.get(&hash).map(|held| held.number)
    }

    pub(super) fn len(&self) -> usize {
        self.0.read().expect("nobody panics with it").list.len()
    }
    pub(super) fn tokens(&self) -> usize {
        self.0.read().expect("nobody panics with it").tokens.len()
    }
    pub(super) fn all(&self) -> Vec<Arc<User>> {
        self.0.read().expect("nobody panics with it").list.clone()
    }

    /// A page in the order in which they came, and where the next one begins.
    pub(super) fn part(&self, part: Part) -> (Vec<Arc<User>>, Option<i64>) {
        let tables = self.0.read().expect("nobody panics with it");
        let count = tables.list.len();
        let from = usize::try_from(part.after).unwrap_or(usize::MAX).min(count);
        let upto = from.saturating_add(part.limit as usize).min(count);
        (tables.list[from..upto].to_vec(), (upto < count).then_some(upto as i64))
    }
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
        if self.facts.team().id.is_empty() {
            return refuse("team_not_found");
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
            updated: self.now / 1_000_000,
            is_revoked: false,
        };
        insert_user(&mut self.db, &user, self.now).await?;
        let general = "SELECT id FROM conversations WHERE is_general";
        let general: Option<String> =
            query(general).fetch_optional(&mut self.db).await?.map(|row| row.get(0));
        if let Some(general) = general {
            self.join(&general, &user.id, false).await?;
        }
        let team = self.facts.team().id.as_str();
        let at = self.next(team).await?;
        let told = json!({ "type": "team_join", "user": shapes::user(&user, team), "event_ts": ts_of(at.ts) });
        self.append(team, at, None, &told).await?;
        Ok(Outcome::User(Arc::new(user)))
    }

    /// Nobody comes in as this user any more: every token dies, and everybody is told. What the user said stays.
    pub(super) async fn revoke_user(&mut self, id: &str) -> Result<Outcome, Stopped> {
        let Some(user) = self.facts.people.of_id(id) else { return refuse("user_not_found") };
        let updated = self.now / 1_000_000;
        let gone = "UPDATE users SET revoked = $2, updated = $3 WHERE id = $1 AND revoked IS NULL";
        let gone = query(gone).bind(id).bind(self.now).bind(updated);
        let is_new = gone.execute(&mut self.db).await? > 0;
        let tokens = self.revoke_tokens(Whose::User(id)).await?;
        let updated = if is_new { updated } else { user.updated };
        let user = User { is_revoked: true, updated, ..(*user).clone() };
        if is_new {
            let team = self.facts.team().id.as_str();
            let at = self.next(team).await?;
            let told = json!({
                "type": "user_change", "user": shapes::user(&user, team), "event_ts": ts_of(at.ts),
            });
            self.append(team, at, None, &told).await?;
        }
        Ok(Outcome::Revoked { user: Some(Arc::new(user)), tokens, is_new })
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
        "INSERT INTO users (id, name, real_name, is_bot, updated) VALUES ($1, $2, $3, $4, $5)",
        "INSERT INTO streams VALUES ($1, 0, $6)",
    );
    query(insert)
        .bind(&user.id)
        .bind(&user.name)
        .bind(&user.real_name)
        .bind(user.is_bot)
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
