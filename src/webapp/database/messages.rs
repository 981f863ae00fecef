//! Changes of messages: post, update, delete, react.

use serde_json::{Map, Value, json};
use sqlx::Row;

use super::batch::{Batch, Stopped, refuse};
use super::{Change, Outcome, shapes, ts_of};
use crate::ids::Origin;

/// A conversation as its writer needs it.
struct Place {
    id: String,
}

/// A message as it is stored.
struct Stored {
    user: String,
    body: Value,
}

impl Batch<'_> {
    pub(super) async fn post(&mut self, change: Change) -> Result<Outcome, Stopped> {
        let Change::Post {
            user,
            channel,
            text,
            thread_ts,
            broadcast,
            client_msg_id,
            key,
            more,
            origin,
        } = change
        else {
            unreachable!("`apply` gives posts only");
        };
        let place = self.place(&channel, &user).await?;
        if let Some(key) = &key
            && let Some(earlier) = self.earlier(&user, key).await?
        {
            return Ok(earlier);
        }
        if text.is_empty() && !more.contains_key("blocks") && !more.contains_key("attachments") {
            return refuse("no_text");
        }
        let parent = match thread_ts {
            None => None,
            Some(ts) => Some(self.thread(&place.id, ts).await?),
        };
        let is_reply = parent.is_some() && !broadcast;
        let mut body = Map::new();
        body.insert("type".into(), "message".into());
        body.insert("user".into(), user.as_str().into());
        body.insert("text".into(), text.into());
        body.insert("team".into(), self.facts.team.id.as_str().into());
        if let Some(author) = self.facts.by_id.get(&user).map(|at| &self.facts.users[*at])
            && author.is_bot
        {
            body.insert("bot_id".into(), author.bot_id().into());
        }
        if let Some(id) = client_msg_id {
            body.insert("client_msg_id".into(), id.into());
        }
        if let Some(parent) = parent {
            body.insert("thread_ts".into(), ts_of(parent).into());
            if broadcast {
                body.insert("subtype".into(), "thread_broadcast".into());
            }
        }
        body.extend(more);
        self.bound(&Value::Object(body.clone()))?;

        // From here on it is written.
        let ts = self.next_ts(&place.id).await?;
        body.insert("ts".into(), ts_of(ts).into());
        let message = Value::Object(body);
        let event = with_channel(&message, &place.id);
        let seq = self.append(&place.id, origin, None, &event).await?;
        sqlx::query(
            "INSERT INTO messages (channel, ts, seq, user, thread, is_reply, key, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )
        .bind(&place.id)
        .bind(ts)
        .bind(seq)
        .bind(&user)
        .bind(parent)
        .bind(is_reply)
        .bind(key)
        .bind(message.to_string())
        .execute(&mut *self.db)
        .await?;
        Ok(Outcome::Posted { channel: place.id, ts, seq, message })
    }

    /// The conversation, when the user may write there.
    async fn place(&mut self, channel: &str, user: &str) -> Result<Place, Stopped> {
        let name = channel.strip_prefix('#').unwrap_or(channel);
        let row = sqlx::query(
            "SELECT c.id, c.kind, m.user IS NOT NULL FROM conversations c LEFT JOIN members m ON m.channel = c.id AND m.user = ?3 \
             WHERE c.id = ?1 OR c.name = ?2",
        )
        .bind(channel)
        .bind(name)
        .bind(user)
        .fetch_optional(&mut *self.db)
        .await?;
        let Some(row) = row else { return refuse("channel_not_found") };
        let (kind, is_member): (i64, bool) = (row.get(1), row.get(2));
        if !is_member {
            return refuse(if kind == 0 { "not_in_channel" } else { "channel_not_found" });
        }
        Ok(Place { id: row.get(0) })
    }

    /// What the same user said before under the same key.
    async fn earlier(&mut self, user: &str, key: &str) -> Result<Option<Outcome>, Stopped> {
        let found = "SELECT channel, ts, seq, body FROM messages WHERE user = ?1 AND key = ?2";
        let row = sqlx::query(found).bind(user).bind(key).fetch_optional(&mut *self.db).await?;
        Ok(row.map(|row| Outcome::Posted {
            channel: row.get(0),
            ts: row.get(1),
            seq: row.get(2),
            message: shapes::parsed(row.get(3)),
        }))
    }

    /// The parent of a thread; a reply's thread is its parent's.
    async fn thread(&mut self, channel: &str, ts: i64) -> Result<i64, Stopped> {
        let found = "SELECT thread FROM messages WHERE channel = ?1 AND ts = ?2 AND deleted = 0";
        let row = sqlx::query(found).bind(channel).bind(ts).fetch_optional(&mut *self.db).await?;
        let Some(row) = row else { return refuse("thread_not_found") };
        Ok(row.get::<Option<i64>, _>(0).unwrap_or(ts))
    }

    /// An edit carries the message twice, and both fit one publication.
    fn bound(&self, message: &Value) -> Result<(), Stopped> {
        let bytes_max = self.facts.limits.publication_bytes_max as usize / 2 - 1_024;
        if message.to_string().len() > bytes_max { refuse("msg_too_long") } else { Ok(()) }
    }

    async fn stored(&mut self, channel: &str, ts: i64) -> Result<Stored, Stopped> {
        let found =
            "SELECT user, body FROM messages WHERE channel = ?1 AND ts = ?2 AND deleted = 0";
        let row = sqlx::query(found).bind(channel).bind(ts).fetch_optional(&mut *self.db).await?;
        let Some(row) = row else { return refuse("message_not_found") };
        Ok(Stored { user: row.get(0), body: shapes::parsed(row.get(1)) })
    }

    pub(super) async fn update(
        &mut self,
        user: &str,
        channel: &str,
        ts: i64,
        text: String,
        more: Map<String, Value>,
    ) -> Result<Outcome, Stopped> {
        let place = self.place(channel, user).await?;
        let stored = self.stored(&place.id, ts).await?;
        if stored.user != user {
            return refuse("cant_update_message");
        }
        if text.is_empty() && !more.contains_key("blocks") && !more.contains_key("attachments") {
            return refuse("no_text");
        }
        let mut message = stored.body.clone();
        let fields = message.as_object_mut().expect("a body is an object");
        fields.insert("text".into(), text.into());
        fields.extend(more);
        self.bound(&message)?;

        let at = self.next_ts(&place.id).await?;
        message["edited"] = json!({ "user": user, "ts": ts_of(at) });
        let event = json!({
            "type": "message", "subtype": "message_changed", "hidden": true, "channel": place.id,
            "ts": ts_of(at), "event_ts": ts_of(at), "message": message, "previous_message": stored.body,
        });
        self.append(&place.id, Origin::NOBODY, None, &event).await?;
        sqlx::query("UPDATE messages SET body = ?3 WHERE channel = ?1 AND ts = ?2")
            .bind(&place.id)
            .bind(ts)
            .bind(message.to_string())
            .execute(&mut *self.db)
            .await?;
        Ok(Outcome::Updated { channel: place.id, message })
    }

    pub(super) async fn delete(
        &mut self,
        user: &str,
        channel: &str,
        ts: i64,
    ) -> Result<Outcome, Stopped> {
        let place = self.place(channel, user).await?;
        let stored = self.stored(&place.id, ts).await?;
        if stored.user != user {
            return refuse("cant_delete_message");
        }
        let at = self.next_ts(&place.id).await?;
        let event = json!({
            "type": "message", "subtype": "message_deleted", "hidden": true, "channel": place.id,
            "ts": ts_of(at), "event_ts": ts_of(at), "deleted_ts": ts_of(ts), "previous_message": stored.body,
        });
        self.append(&place.id, Origin::NOBODY, None, &event).await?;
        // The row stays: its key still knows that this was said.
        for sql in [
            "UPDATE messages SET deleted = 1 WHERE channel = ?1 AND ts = ?2",
            "DELETE FROM reactions WHERE channel = ?1 AND ts = ?2",
        ] {
            sqlx::query(sql).bind(&place.id).bind(ts).execute(&mut *self.db).await?;
        }
        Ok(Outcome::Updated { channel: place.id, message: stored.body })
    }

    pub(super) async fn react(
        &mut self,
        user: &str,
        channel: &str,
        ts: i64,
        name: &str,
        add: bool,
    ) -> Result<Outcome, Stopped> {
        let place = self.place(channel, user).await?;
        let stored = self.stored(&place.id, ts).await?;
        let found =
            "SELECT 1 FROM reactions WHERE channel = ?1 AND ts = ?2 AND name = ?3 AND user = ?4";
        let is_there = sqlx::query(found)
            .bind(&place.id)
            .bind(ts)
            .bind(name)
            .bind(user)
            .fetch_optional(&mut *self.db)
            .await?
            .is_some();
        if is_there == add {
            return refuse(if add { "already_reacted" } else { "no_reaction" });
        }
        let at = self.next_ts(&place.id).await?;
        let event = json!({
            "type": if add { "reaction_added" } else { "reaction_removed" }, "user": user, "reaction": name, "item_user": stored.user,
            "item": { "type": "message", "channel": place.id, "ts": ts_of(ts) }, "event_ts": ts_of(at),
        });
        self.append(&place.id, Origin::NOBODY, None, &event).await?;
        if add {
            let insert = sqlx::query("INSERT INTO reactions VALUES (?1, ?2, ?3, ?4, ?5)");
            insert
                .bind(&place.id)
                .bind(ts)
                .bind(name)
                .bind(user)
                .bind(at)
                .execute(&mut *self.db)
                .await?;
        } else {
            sqlx::query(
                "DELETE FROM reactions WHERE channel = ?1 AND ts = ?2 AND name = ?3 AND user = ?4",
            )
            .bind(&place.id)
            .bind(ts)
            .bind(name)
            .bind(user)
            .execute(&mut *self.db)
            .await?;
        }
        Ok(Outcome::Done)
    }
}

fn with_channel(message: &Value, channel: &str) -> Value {
    let mut event = message.clone();
    event["channel"] = channel.into();
    event
}
