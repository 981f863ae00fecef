//! Changes of who is where: conversations, members, marks, presence by hand, tickets; and the outbox's end.

use serde_json::json;
use sqlx::Row;

use super::batch::{Batch, Moved, Stopped, refuse};
use super::{Outcome, new_id, shapes, ts_of};
use crate::ids::{Ask, Origin};
use crate::wire::message::boot;
use crate::wire::{Membership, Message, Packed};

const NAME_CHARS_MAX: usize = 80;
/// People in one conversation without a name.
const PEOPLE_MAX: usize = 9;

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
        let found = "SELECT 1 FROM conversations WHERE name = ?1";
        if sqlx::query(found).bind(name).fetch_optional(&mut *self.db).await?.is_some() {
            return refuse("name_taken");
        }
        let id = self.conversation(user, Some(name), i64::from(is_private), None).await?;
        let seq = self.join(&id, user, is_private).await?;
        if !is_private {
            let told = json!({
                "type": "channel_created", "event_ts": ts_of(self.now),
                "channel": { "id": id, "name": name, "created": self.now / 1_000_000, "creator": user },
            });
            let team = self.facts.team.id.as_str();
            self.append(team, Origin::NOBODY, None, &told).await?;
        }
        self.tell_joined(&id, user, seq).await?;
        Ok(Outcome::Conversation { id, fresh: true })
    }

    async fn conversation(
        &mut self,
        creator: &str,
        name: Option<&str>,
        kind: i64,
        pair: Option<&str>,
    ) -> Result<String, Stopped> {
        let id = new_id(if kind == 2 { 'D' } else { 'C' });
        sqlx::query("INSERT INTO streams VALUES (?1, 0)").bind(&id).execute(&mut *self.db).await?;
        sqlx::query(
            "INSERT INTO conversations (id, name, kind, pair, creator, created, last_ts) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)",
        )
        .bind(&id)
        .bind(name)
        .bind(kind)
        .bind(pair)
        .bind(creator)
        .bind(self.now)
        .execute(&mut *self.db)
        .await?;
        Ok(id)
    }

    /// In the user's own channel, so that the user's connections follow the conversation from `seq` on.
    async fn tell_joined(&mut self, channel: &str, user: &str, seq: i64) -> Result<(), Stopped> {
        let row = sqlx::query(&format!("{} WHERE c.id = ?2", shapes::CONVERSATION))
            .bind(user)
            .bind(channel)
            .fetch_one(&mut *self.db)
            .await?;
        let conversation = shapes::conversation(&row, user);
        let kind = if conversation["is_im"] == true { "im_created" } else { "channel_joined" };
        let told = json!({
            "type": kind, "user": user, "channel": conversation, "event_ts": ts_of(self.now),
        });
        let moved =
            Moved { what: Membership::Joined, user: user.into(), channel: channel.into(), seq };
        self.append(user, Origin::NOBODY, Some(moved), &told).await?;
        Ok(())
    }

    /// (id, kind, whether the user is in it).
    async fn found(&mut self, channel: &str, user: &str) -> Result<(String, i64, bool), Stopped> {
        let row = sqlx::query(
            "SELECT c.id, c.kind, m.user IS NOT NULL FROM conversations c LEFT JOIN members m ON m.channel = c.id AND m.user = ?3 \
             WHERE c.id = ?1 OR c.name = ?2",
        )
        .bind(channel)
        .bind(channel.strip_prefix('#').unwrap_or(channel))
        .bind(user)
        .fetch_optional(&mut *self.db)
        .await?;
        match row.map(|row| (row.get(0), row.get(1), row.get(2))) {
            Some((id, kind, is_member)) if kind == 0 || is_member => Ok((id, kind, is_member)),
            _ => refuse("channel_not_found"),
        }
    }

    pub(super) async fn join_channel(
        &mut self,
        user: &str,
        channel: &str,
    ) -> Result<Outcome, Stopped> {
        let (id, kind, is_member) = self.found(channel, user).await?;
        if kind == 2 {
            return refuse("method_not_supported_for_channel_type");
        }
        if is_member {
            return Ok(Outcome::Conversation { id, fresh: false });
        }
        let seq = self.join(&id, user, false).await?;
        self.tell_joined(&id, user, seq).await?;
        Ok(Outcome::Conversation { id, fresh: true })
    }

    pub(super) async fn leave(&mut self, user: &str, channel: &str) -> Result<Outcome, Stopped> {
        let (id, kind, is_member) = self.found(channel, user).await?;
        if kind == 2 {
            return refuse("method_not_supported_for_channel_type");
        }
        if !is_member {
            return Ok(Outcome::Already);
        }
        let general = "SELECT is_general FROM conversations WHERE id = ?1";
        if sqlx::query_scalar(general).bind(&id).fetch_one(&mut *self.db).await? {
            return refuse("cant_leave_general");
        }
        let told = json!({
            "type": "member_left_channel", "user": user, "channel": id, "channel_type": if kind == 1 { "G" } else { "C" },
            "team": self.facts.team.id, "event_ts": ts_of(self.now),
        });
        let seq = self.next_seq(&id).await?;
        let moved = Moved { what: Membership::Left, user: user.into(), channel: id.clone(), seq };
        self.append_at(&id, seq, Origin::NOBODY, Some(moved), &told).await?;
        sqlx::query("DELETE FROM members WHERE channel = ?1 AND user = ?2")
            .bind(&id)
            .bind(user)
            .execute(&mut *self.db)
            .await?;
        let told = json!({ "type": "channel_left", "channel": id, "event_ts": ts_of(self.now) });
        self.append(user, Origin::NOBODY, None, &told).await?;
        Ok(Outcome::Done)
    }

    pub(super) async fn open(
        &mut self,
        user: &str,
        others: Vec<String>,
    ) -> Result<Outcome, Stopped> {
        if others.iter().any(|other| !self.facts.by_id.contains_key(other)) {
            return refuse("user_not_found");
        }
        let mut people = others;
        people.push(user.to_string());
        people.sort();
        people.dedup();
        if people.len() > PEOPLE_MAX {
            return refuse("too_many_users");
        }
        let pair = people.join(",");
        let found = "SELECT id FROM conversations WHERE pair = ?1";
        let known: Option<String> =
            sqlx::query_scalar(found).bind(&pair).fetch_optional(&mut *self.db).await?;
        if let Some(id) = known {
            return Ok(Outcome::Conversation { id, fresh: false });
        }
        let id = self.conversation(user, None, 2, Some(&pair)).await?;
        let mut seq = 0;
        for person in &people {
            seq = self.join(&id, person, true).await?;
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
        let (id, kind, is_member) = self.found(channel, user).await?;
        if !is_member {
            return refuse("not_in_channel");
        }
        let changed = sqlx::query(
            "UPDATE members SET last_read = ?3 WHERE channel = ?1 AND user = ?2 AND last_read <> ?3",
        )
        .bind(&id)
        .bind(user)
        .bind(ts)
        .execute(&mut *self.db)
        .await?
        .rows_affected();
        if changed == 0 {
            return Ok(Outcome::Already);
        }
        let unread: i64 = sqlx::query_scalar(shapes::UNREAD)
            .bind(&id)
            .bind(ts)
            .bind(user)
            .fetch_one(&mut *self.db)
            .await?;
        let told = json!({
            "type": if kind == 2 { "im_marked" } else { "channel_marked" }, "channel": id, "ts": ts_of(ts),
            "unread_count": unread, "unread_count_display": unread, "num_mentions": 0, "num_mentions_display": 0,
            "mention_count": 0, "mention_count_display": 0, "event_ts": ts_of(self.now),
        });
        self.append(user, Origin::NOBODY, None, &told).await?;
        Ok(Outcome::Done)
    }

    pub(super) async fn away(&mut self, user: &str, away: bool) -> Result<Outcome, Stopped> {
        let changed =
            sqlx::query("UPDATE users SET manual_away = ?2 WHERE id = ?1 AND manual_away <> ?2")
                .bind(user)
                .bind(away)
                .execute(&mut *self.db)
                .await?
                .rows_affected();
        if changed == 0 {
            return Ok(Outcome::Already);
        }
        let presence = if away { "away" } else { "active" };
        let told = json!({
            "type": "manual_presence_change", "presence": presence, "event_ts": ts_of(self.now),
        });
        self.append(user, Origin::NOBODY, None, &told).await?;
        Ok(Outcome::Done)
    }

    pub(super) async fn ticket(
        &mut self,
        user: &str,
        hash: [u8; 32],
        flags: u8,
    ) -> Result<Outcome, Stopped> {
        let old = sqlx::query("DELETE FROM tickets WHERE until < ?1").bind(self.now);
        old.execute(&mut *self.db).await?;
        let away: bool = sqlx::query_scalar("SELECT manual_away FROM users WHERE id = ?1")
            .bind(user)
            .fetch_one(&mut *self.db)
            .await?;
        let is_bot = self.facts.users[self.facts.by_id[user]].is_bot;
        let flags =
            flags | if away { boot::MANUAL_AWAY } else { 0 } | if is_bot { boot::BOT } else { 0 };
        let positions: Vec<(String, i64)> = sqlx::query(
            "SELECT name, tip FROM streams WHERE name IN (?1, ?2) \
             UNION ALL SELECT s.name, s.tip FROM members m JOIN streams s ON s.name = m.channel WHERE m.user = ?1",
        )
        .bind(user)
        .bind(&self.facts.team.id)
        .fetch_all(&mut *self.db)
        .await?
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
        let mut list = Vec::new();
        let pairs = positions.iter().map(|(name, tip)| (name.as_str(), *tip as u64));
        let channels = Packed::pack(pairs, &mut list);
        let mut bytes = Vec::new();
        Message::Boot {
            ask: Ask(0),
            user,
            team: &self.facts.team.id,
            epoch: &self.facts.epoch,
            flags,
            channels,
        }
        .encode(&mut bytes);
        let life = i64::try_from(self.facts.limits.ticket_timeout.as_micros()).unwrap_or(i64::MAX);
        sqlx::query("INSERT INTO tickets VALUES (?1, ?2, ?3)")
            .bind(&hash[..])
            .bind(self.now.saturating_add(life))
            .bind(bytes)
            .execute(&mut *self.db)
            .await?;
        Ok(Outcome::Ticket { positions })
    }

    pub(super) async fn redeem(&mut self, hash: [u8; 32]) -> Result<Outcome, Stopped> {
        let row = sqlx::query("DELETE FROM tickets WHERE hash = ?1 RETURNING until, boot")
            .bind(&hash[..])
            .fetch_optional(&mut *self.db)
            .await?;
        match row {
            Some(row) if row.get::<i64, _>(0) >= self.now => Ok(Outcome::Boot(row.get(1))),
            _ => refuse("expired"),
        }
    }

    pub(super) async fn remove(&mut self, rows: Vec<u64>) -> Result<Outcome, Stopped> {
        for row in rows {
            let remove = sqlx::query("DELETE FROM outbox WHERE id = ?1").bind(row as i64);
            remove.execute(&mut *self.db).await?;
        }
        Ok(Outcome::Done)
    }
}
