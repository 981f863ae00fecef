//! Tokens: made, listed and revoked. Of each only its hash is kept, so that whoever reads the database comes in nowhere.

use sha2::{Digest, Sha256};

use super::batch::{Batch, Stopped, refuse};
use super::connection::{Connection, Transaction};
use super::people::Known;
use super::sql::{Row, query};
use super::{Database, Outcome, Part, Refused, random_hex};
use crate::limits::Limits;

/// How a token is kept: SHA-256. It is drawn from 256 bits, so that nobody guesses what a hash is of.
pub(super) type Hash = [u8; 32];

pub(in crate::webapp) fn hash(token: &str) -> Hash {
    Sha256::digest(token.as_bytes()).into()
}

/// What nobody else has, in the shape that clients know.
pub(in crate::webapp) fn new_token(is_bot: bool) -> String {
    format!("{}{}", prefix(is_bot), random_hex(32))
}

pub(super) fn prefix(is_bot: bool) -> &'static str {
    if is_bot { "xoxb-" } else { "xoxp-" }
}

/// What is told of a token: never its text, which nobody knows any more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Token {
    pub number: u32,
    /// Its user's id.
    pub who: String,
    pub label: String,
    /// Microseconds since 1970.
    pub created: i64,
    pub revoked: Option<i64>,
}

/// Whose tokens.
#[derive(Clone, Copy, Debug)]
pub(super) enum Whose<'a> {
    /// The one with this number.
    Number(u32),
    /// All of the user with this id.
    User(&'a str),
}

const LABEL_CHARS_MAX: usize = 80;

impl Batch<'_> {
    pub(super) async fn create_token(
        &mut self,
        user: &str,
        label: &str,
        hash: Hash,
    ) -> Result<Outcome, Stopped> {
        if label.chars().count() > LABEL_CHARS_MAX || label.chars().any(char::is_control) {
            return refuse("invalid_label");
        }
        if self.facts.people.tokens() >= self.facts.limits.tokens_max as usize {
            return refuse("token_limit_reached");
        }
        let found = "SELECT u.revoked IS NULL, (SELECT COUNT(*) FROM tokens t WHERE t.who = u.id AND t.revoked IS NULL) \
             FROM users u WHERE u.id = $1";
        let Some(found) = query(found).bind(user).fetch_optional(&mut self.db).await? else {
            return refuse("user_not_found");
        };
        if !found.get::<bool>(0) {
            return refuse("account_inactive");
        }
        if found.get::<i64>(1) >= i64::from(self.facts.limits.tokens_per_user_max) {
            return refuse("token_limit_reached");
        }
        Ok(Outcome::Token(insert_token(&mut self.db, hash, (user, label), self.now).await?))
    }

    pub(super) async fn revoke_token(&mut self, number: u32) -> Result<Outcome, Stopped> {
        let now = self.now;
        let tokens = self.revoke_tokens(Whose::Number(number)).await?;
        let Some(first) = tokens.first() else { return refuse("token_not_found") };
        // Of one that was revoked before, gateways are told once more all the same: nothing is lost by that.
        let is_new = first.at == now;
        Ok(Outcome::Revoked { user: None, tokens, is_new })
    }

    /// From this transaction on they open nothing, and neither do tickets that came of them. Also those that were revoked before.
    pub(super) async fn revoke_tokens(&mut self, whose: Whose<'_>) -> Result<Vec<Ended>, Stopped> {
        let (number, user) = match whose {
            Whose::Number(number) => (i64::from(number), ""),
            Whose::User(user) => (0, user),
        };
        // Of a user's, those whose connections are closed for long need not be told again.
        let kept = self.facts.limits.revocation_kept();
        let since = self.now.saturating_sub(i64::try_from(kept.as_micros()).unwrap_or(i64::MAX));
        let revoke = "UPDATE tokens SET revoked = COALESCE(revoked, $1) \
             WHERE n = $2 OR (who = $3 AND (revoked IS NULL OR revoked >= $4)) RETURNING n, hash, who, revoked";
        let revoke = query(revoke).bind(self.now).bind(number).bind(user).bind(since);
        let rows = revoke.fetch_all(&mut self.db).await?;
        let void =
            "DELETE FROM tickets WHERE token IN (SELECT n FROM tokens WHERE n = $1 OR who = $2)";
        query(void).bind(number).bind(user).execute(&mut self.db).await?;
        let ended = rows
            .iter()
            .map(|row| Ended { token: Known { is_revoked: true, ..known(row) }, at: row.get(3) });
        Ok(ended.collect())
    }
}

/// A token of a user, with its label.
pub(super) async fn insert_token(
    db: &mut Transaction<'_>,
    hash: Hash,
    (who, label): (&str, &str),
    now: i64,
) -> Result<Known, sqlx::Error> {
    let insert =
        "INSERT INTO tokens (hash, who, label, created) VALUES ($1, $2, $3, $4) RETURNING n";
    let insert = query(insert).bind(&hash[..]).bind(who).bind(label).bind(now);
    let number = insert.fetch_one(db).await?.get::<i64>(0) as u32;
    Ok(Known { hash, number, who: who.into(), is_revoked: false })
}

/// A token that opens nothing any more, and since when.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ended {
    pub(super) token: Known,
    pub(super) at: i64,
}

impl Ended {
    /// The token's number, and its user's id.
    pub fn pair(&self) -> (u32, &str) {
        (self.token.number, &self.token.who)
    }
}

/// Columns `n, hash, who` of a token that opens something.
fn known(row: &Row) -> Known {
    let hash = row.get::<Vec<u8>>(1).try_into().expect("a hash has 32 bytes: see the migrations");
    Known { hash, number: row.get::<i64>(0) as u32, who: row.get(2), is_revoked: false }
}

/// All tokens that there are.
pub(super) async fn all(db: &mut Connection) -> Result<Vec<Known>, sqlx::Error> {
    let tokens = "SELECT n, hash, who, revoked IS NOT NULL FROM tokens ORDER BY n";
    let rows = query(tokens).fetch_all(db).await?;
    Ok(rows.iter().map(|row| Known { is_revoked: row.get(3), ..known(row) }).collect())
}

/// Those whose connections may still be there, (number, user's id), oldest first: none lives longer than `connection_age_max` and the window
/// of its goodbye.
pub(super) async fn revoked_lately(
    db: &mut Connection,
    limits: &Limits,
    now: i64,
) -> Result<Vec<(u32, String)>, sqlx::Error> {
    let age = i64::try_from(limits.revocation_kept().as_micros()).unwrap_or(i64::MAX);
    let lately =
        "SELECT n, who FROM tokens WHERE revoked >= $1 ORDER BY revoked DESC, n DESC LIMIT $2";
    let lately =
        query(lately).bind(now.saturating_sub(age)).bind(i64::from(limits.revocations_max));
    let rows = lately.fetch_all(db).await?;
    Ok(rows.iter().rev().map(|row| (row.get::<i64>(0) as u32, row.get(1))).collect())
}

impl Database {
    /// A page of tokens in the order in which they were made, of one user or of all, and where the next one begins.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn tokens(
        &self,
        user: Option<&str>,
        part: Part,
    ) -> Result<(Vec<Token>, Option<i64>), Refused> {
        let tokens = "SELECT n, who, label, created, revoked FROM tokens WHERE n > $1 AND (who = $2 OR $3) ORDER BY n LIMIT $4";
        let tokens = query(tokens)
            .bind(part.after)
            .bind(user.unwrap_or_default())
            .bind(user.is_none())
            .bind(part.limit + 1);
        let rows = tokens.fetch_all(&self.readers).await?;
        let mut tokens: Vec<Token> = rows
            .iter()
            .map(|row| Token {
                number: row.get::<i64>(0) as u32,
                who: row.get(1),
                label: row.get(2),
                created: row.get(3),
                revoked: row.get(4),
            })
            .collect();
        let is_more = tokens.len() as i64 > part.limit;
        tokens.truncate(part.limit as usize);
        let after = tokens.last().filter(|_| is_more).map(|token| i64::from(token.number));
        Ok((tokens, after))
    }
}
