//! The one team of a cell: how it is made, with its first conversation.

use super::batch::{Batch, Stopped, refuse};
use super::connection::Transaction;
use super::sql::{query, together};
use super::{Outcome, Team, new_id};

const NAME_CHARS_MAX: usize = 80;
const DOMAIN_CHARS_MAX: usize = 63;
/// What every team begins with.
pub(super) const GENERAL: (&str, &str) = ("general", "Announcements and talk for everybody");

impl Batch<'_> {
    pub(super) async fn create_team(
        &mut self,
        name: &str,
        domain: &str,
    ) -> Result<Outcome, Stopped> {
        let count = name.chars().count();
        if count == 0 || count > NAME_CHARS_MAX || name.chars().any(char::is_control) {
            return refuse("invalid_team_name");
        }
        let domain = if domain.is_empty() { domain_of(name) } else { domain.to_string() };
        if !is_domain(&domain) {
            return refuse("invalid_team_domain");
        }
        let found = "SELECT 1 FROM meta WHERE name = 'team_id'";
        if query(found).fetch_optional(&mut self.db).await?.is_some() {
            return refuse("team_exists");
        }
        let team = Team { id: new_id('T'), name: name.into(), domain };
        insert_team(&mut self.db, &team, self.now).await?;
        let (general, topic) = GENERAL;
        let conversation = First { name: general, topic, creator: &team.id, is_general: true };
        insert_conversation(&mut self.db, conversation, self.now).await?;
        Ok(Outcome::Team(team))
    }
}

/// The name as a host's: `Acme & Sons` is `acme-sons`.
fn domain_of(name: &str) -> String {
    let letters = name.chars().map(|letter| letter.to_ascii_lowercase());
    let letters = letters.map(|letter| if letter.is_ascii_alphanumeric() { letter } else { ' ' });
    let words = letters.collect::<String>();
    let domain = words.split_whitespace().collect::<Vec<_>>().join("-");
    let domain: String = domain.chars().take(DOMAIN_CHARS_MAX).collect();
    let domain = domain.trim_end_matches('-');
    if domain.is_empty() { "team".into() } else { domain.into() }
}

fn is_domain(text: &str) -> bool {
    let is_fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let ends = !text.starts_with('-') && !text.ends_with('-');
    !text.is_empty() && text.len() <= DOMAIN_CHARS_MAX && ends && text.bytes().all(is_fine)
}

/// A team and its stream.
pub(super) async fn insert_team(
    db: &mut Transaction<'_>,
    team: &Team,
    now: i64,
) -> Result<(), sqlx::Error> {
    for (name, value) in
        [("team_id", &team.id), ("team_name", &team.name), ("team_domain", &team.domain)]
    {
        let insert = query("INSERT INTO meta VALUES ($1, $2)").bind(name).bind(value);
        insert.execute(&mut *db).await?;
    }
    let stream = query("INSERT INTO streams VALUES ($1, 0, $2)").bind(&team.id).bind(now);
    stream.execute(db).await.map(|_| ())
}

/// A conversation that is there before anybody makes one.
#[derive(Clone, Copy, Debug)]
pub(super) struct First<'a> {
    pub(super) name: &'a str,
    pub(super) topic: &'a str,
    pub(super) creator: &'a str,
    pub(super) is_general: bool,
}

/// It, and its stream. Its id.
pub(super) async fn insert_conversation(
    db: &mut Transaction<'_>,
    First { name, topic, creator, is_general }: First<'_>,
    now: i64,
) -> Result<String, sqlx::Error> {
    let id = new_id('C');
    let insert = together!(
        "INSERT INTO streams VALUES ($1, 0, $2)",
        "INSERT INTO conversations (id, name, kind, creator, created, is_general, topic) VALUES ($1, $3, 0, $4, $2, $5, $6)",
    );
    let insert = query(insert).bind(&id).bind(now).bind(name).bind(creator);
    insert.bind(is_general).bind(topic).execute(db).await?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_made_of_a_name() {
        assert_eq!(domain_of("Acme & Sons"), "acme-sons");
        assert_eq!(domain_of("Ärger"), "rger");
        assert_eq!(domain_of("***"), "team");
        for fine in ["acme", "a-1", &domain_of(&"x y".repeat(60))] {
            assert!(is_domain(fine), "{fine}");
        }
        for wrong in ["", "-a", "a-", "A", "a.b", "ä", &"x".repeat(64)] {
            assert!(!is_domain(wrong), "{wrong}");
        }
    }
}
