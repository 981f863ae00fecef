//! Changes of who is where: conversations, their members, and how far those have read.

use super::batch::{Batch, Moved, Stopped, refuse};
use super::sql::{query, together};
use super::{Outcome, kind, new_id, shapes, ts_of};
use crate::wire::Membership;
use serde_json::json;

const NAME_CHARS_MAX: usize = 80;
/// People in one conversation without a name.
const PEOPLE_MAX: usize = 9;

/// A conversation as it was found.
struct Found {
    id: String,
    kind: i64,
    is_general: bool,
    is_member: bool,
}

impl Batch<'_> {
    pub(super) async fn create(
        &mut self,
        user: &str,
        name: &str,
        is_private: bool,
    ) -> Result<Outcome, Stopped> {
        if name.is_empty() {
            return refuse("invalid_name_required");
        }
        if name.chars().count() > NAME_CHARS_MAX {
            return refuse("invalid_name_maxlength");
        }
        let is_fine = |letter: char| {
            letter.is_alphanumeric() && !letter.is_uppercase() || letter == '-' || letter == '_'
        };
        if !name.chars().all(is_fine) {
            return refuse("invalid_name_specials");
        }
        if !name.chars().any(char::is_alphanumeric) {
            return refuse("invalid_name_punctuation");
        }
        let found = "SELECT 1 FROM conversations WHERE name = $1";
        if query(found).bind(name).fetch_optional(&mut self.db).await?.is_some() {
            return refuse("name_taken");
        }
        let kind = if is_private { kind::PRIVATE } else { kind::PUBLIC };
        let id = self.conversation(user, Some(name), kind, None).await?;
        let at = self.join(&id, user, is_private).await?;
        if !is_private {
            let team = self.facts.team().id.as_str();
            let told_at = self.next(team).await?;
            let told = json!({
                "type": "channel_created", "event_ts": ts_of(told_at.ts),
                "channel": { "id": id, "name": name, "created": self.now / 1_000_000, "creator": user },
            });
            self.append(team, told_at, None, &told).await?;
        }
        self.tell_joined(&id, user, at.seq).await?;
        Ok(Outcome::Conversation { id, fresh: true })
    }

    async fn conversation(
        &mut self,
        creator: &str,
        name: Option<&str>,
        kind: i64,
        pair: Option<&str>,
    ) -> Result<String, Stopped> {
        let id = new_id(if kind == kind::IM { 'D' } else { 'C' });
        let insert = together!(
            "INSERT INTO streams VALUES ($1, 0, $6)",
            "INSERT INTO conversations (id, name, kind, pair, creator, created) VALUES ($1, $2, $3, $4, $5, $6)",
        );
        query(insert)
            .bind(&id)
            .bind(name)
            .bind(kind)
            .bind(pair)
            .bind(creator)
            .bind(self.now)
            .execute(&mut self.db)
            .await?;
        Ok(id)
    }

    /// In the user's own channel, so that the user's connections follow the conversation from `seq` on.
    async fn tell_joined(&mut self, channel: &str, user: &str, seq: i64) -> Result<(), Stopped> {
        let row = query(format!("{} WHERE c.id = $2", shapes::CONVERSATION).as_str())
            .bind(user)
            .bind(channel)
            .fetch_one(&mut self.db)
            .await?;
        let conversation = shapes::conversation(&row, user);
        let kind = if conversation["is_im"] == true { "im_created" } else { "channel_joined" };
        let at = self.next(user).await?;
        let told = json!({
            "type": kind, "user": user, "channel": conversation, "event_ts": ts_of(at.ts),
        });
        let moved =
            Moved { what: Membership::Joined, user: user.into(), channel: channel.into(), seq };
        self.append(user, at, Some(moved), &told).await
    }

    /// A conversation that the user may know of.
    async fn found(&mut self, channel: &str, user: &str) -> Result<Found, Stopped> {
        let row = query(
            "SELECT c.id, c.kind, c.is_general, m.who IS NOT NULL FROM conversations c \
             LEFT JOIN members m ON m.channel = c.id AND m.who = $3 WHERE c.id = $1 OR c.name = $2",
        )
        .bind(channel)
        .bind(channel.strip_prefix('#').unwrap_or(channel))
        .bind(user)
        .fetch_optional(&mut self.db)
        .await?;
        let found = row.map(|row| Found {
            id: row.get(0),
            kind: row.get(1),
            is_general: row.get(2),
            is_member: row.get(3),
        });
        match found {
            Some(found) if found.kind == kind::PUBLIC || found.is_member => Ok(found),
            _ => refuse("channel_not_found"),
        }
    }

    pub(super) async fn join_channel(
        &mut self,
        user: &str,
        channel: &str,
    ) -> Result<Outcome, Stopped> {
        let Found { id, kind, is_member, .. } = self.found(channel, user).await?;
        if kind >= kind::IM {
            return refuse("method_not_supported_for_channel_type");
        }
        if is_member {
            return Ok(Outcome::Conversation { id, fresh: false });
        }
        let at = self.join(&id, user, false).await?;
        self.tell_joined(&id, user, at.seq).await?;
        Ok(Outcome::Conversation { id, fresh: true })
    }

    pub(super) async fn leave(&mut self, user: &str, channel: &str) -> Result<Outcome, Stopped> {
        let Found { id, kind, is_general, is_member } = self.found(channel, user).await?;
        if kind >= kind::IM {
            return refuse("method_not_supported_for_channel_type");
        }
        if !is_member {
            return Ok(Outcome::Already);
        }
        if is_general {
            return refuse("cant_leave_general");
        }
        let at = self.next(&id).await?;
        let told = json!({
            "type": "member_left_channel", "user": user, "channel": id,
            "channel_type": if kind == kind::PRIVATE { "G" } else { "C" },
            "team": self.facts.team().id, "event_ts": ts_of(at.ts),
        });
        let (what, seq) = (Membership::Left, at.seq);
        let moved = Moved { what, user: user.into(), channel: id.clone(), seq };
        self.append(&id, at, Some(moved), &told).await?;
        let delete = together!(
            "DELETE FROM members WHERE channel = $1 AND who = $2",
            "UPDATE conversations SET members = members - 1 WHERE id = $1",
        );
        query(delete).bind(&id).bind(user).execute(&mut self.db).await?;
        let at = self.next(user).await?;
        let told = json!({ "type": "channel_left", "channel": id, "event_ts": ts_of(at.ts) });
        self.append(user, at, None, &told).await?;
        Ok(Outcome::Done)
    }

    pub(super) async fn open(
        &mut self,
        user: &str,
        others: &[String],
        may_make: bool,
    ) -> Result<Outcome, Stopped> {
        let mut people: Vec<&str> = others.iter().map(String::as_str).chain([user]).collect();
        people.sort_unstable();
        people.dedup();
        if people.len() > PEOPLE_MAX {
            return refuse("too_many_users");
        }
        if people.iter().any(|person| self.facts.people.of_id(person).is_none()) {
            return refuse("user_not_found");
        }
        let pair = people.join(",");
        let found = "SELECT id FROM conversations WHERE pair = $1";
        let known = query(found).bind(&pair).fetch_optional(&mut self.db).await?;
        if let Some(known) = known {
            return Ok(Outcome::Conversation { id: known.get(0), fresh: false });
        }
        if !may_make {
            return refuse("channel_not_found");
        }
        let kind = if people.len() <= 2 { kind::IM } else { kind::SEVERAL };
        let id = self.conversation(user, None, kind, Some(&pair)).await?;
        let mut seq = 0;
        for person in &people {
            seq = self.join(&id, person, true).await?.seq;
        }
        for person in &people {
            self.tell_joined(&id, person, seq).await?;
        }
        Ok(Outcome::Conversation { id, fresh: true })
    }

    pub(super) async fn mark(
        &mut self,
        user: &str,
        channel: &str,
        ts: i64,
    ) -> Result<Outcome, Stopped> {
        let Found { id, kind, is_member, .. } = self.found(channel, user).await?;
        if !is_member {
            return refuse("not_in_channel");
        }
        let changed = query(
            "UPDATE members SET last_read = $3 WHERE channel = $1 AND who = $2 AND last_read <> $3",
        )
        .bind(&id)
        .bind(user)
        .bind(ts)
        .execute(&mut self.db)
        .await?;
        if changed == 0 {
            return Ok(Outcome::Already);
        }
        let unread = query(shapes::UNREAD).bind(&id).bind(ts).bind(user);
        let unread: i64 = unread.fetch_one(&mut self.db).await?.get(0);
        let what = match kind {
            kind::PUBLIC => "channel_marked",
            kind::IM => "im_marked",
            _ => "group_marked",
        };
        let at = self.next(user).await?;
        let told = json!({
            "type": what, "channel": id, "ts": ts_of(ts), "unread_count": unread, "unread_count_display": unread,
            "num_mentions": 0, "num_mentions_display": 0, "mention_count": 0, "mention_count_display": 0, "event_ts": ts_of(at.ts),
        });
        self.append(user, at, None, &told).await?;
        Ok(Outcome::Done)
    }
}
