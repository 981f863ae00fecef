//! Changes of messages: post, update, delete, react.

use super::batch::{Batch, Stopped, Stored, refuse};
use super::change::{Key, Post};
use super::sql::{query, together};
use super::{Outcome, kind, shapes, ts_of};
use serde_json::{Map, Value, json};

/// Different reactions on one message.
const REACTIONS_MAX: i64 = 50;

/// What carries a message besides its text.
const DECORATIONS: [&str; 2] = ["blocks", "attachments"];

/// A message as it is stored.
struct Found {
    user: String,
    body: Value,
}

/// The parent of a thread.
struct Parent {
    ts: i64,
    user: String,
}

impl Batch<'_> {
    pub(super) async fn post(&mut self, post: &Post) -> Result<Outcome, Stopped> {
        let Post { user, text, more, .. } = post;
        let (channel, earlier) = self.place(&post.channel, user, post.key.as_ref()).await?;
        if let Some(earlier) = earlier {
            return Ok(earlier);
        }
        if text.is_empty() && !DECORATIONS.iter().any(|name| more.contains_key(*name)) {
            return refuse("no_text");
        }
        let parent = match post.thread_ts {
            None => None,
            Some(ts) => Some(self.parent(&channel, ts).await?),
        };
        let mut body = Map::new();
        body.insert("type".into(), "message".into());
        body.insert("user".into(), user.as_str().into());
        body.insert("text".into(), text.as_str().into());
        body.insert("team".into(), self.facts.team().id.as_str().into());
        if let Some(author) = self.facts.people.of_id(user)
            && author.is_bot
        {
            body.insert("bot_id".into(), author.bot_id().into());
        }
        if let Some(id) = &post.client_msg_id {
            body.insert("client_msg_id".into(), id.as_str().into());
        }
        if let Some(Parent { ts, user }) = &parent {
            body.insert("thread_ts".into(), ts_of(*ts).into());
            body.insert("parent_user_id".into(), user.as_str().into());
            if post.broadcast {
                body.insert("subtype".into(), "thread_broadcast".into());
            }
        }
        body.extend(more.clone());
        let mut message = Value::Object(body);
        self.bound(&message)?;

        // From here on it is written.
        let at = self.next(&channel).await?;
        message["ts"] = ts_of(at.ts).into();
        let body = message.to_string();
        let mut event = message.clone();
        event["channel"] = channel.as_str().into();
        let stored = Stored {
            user,
            is_reply: parent.is_some() && !post.broadcast,
            thread: parent.map(|parent| parent.ts),
            key: post.key.as_ref().map(Key::as_str),
            body: &body,
        };
        self.append_message(&channel, at, post.origin, &event, stored).await?;
        Ok(Outcome::Posted { channel, ts: at.ts, seq: at.seq, message })
    }

    /// The conversation, when the user may write there; or what the user said there before under the same key, wherever the user is now:
    /// whoever left meanwhile is told all the same that it was stored.
    async fn place(
        &mut self,
        channel: &str,
        user: &str,
        key: Option<&Key>,
    ) -> Result<(String, Option<Outcome>), Stopped> {
        let row = query(
            "SELECT c.id, c.kind, m.who IS NOT NULL, e.ts, e.seq, e.body FROM conversations c \
             LEFT JOIN members m ON m.channel = c.id AND m.who = $3 \
             LEFT JOIN messages e ON e.channel = c.id AND e.who = $3 AND e.key = $4 \
             WHERE c.id = $1 OR c.name = $2",
        )
        .bind(channel)
        .bind(channel.strip_prefix('#').unwrap_or(channel))
        .bind(user)
        .bind(key.map(Key::as_str))
        .fetch_optional(&mut self.db)
        .await?;
        let Some(row) = row else { return refuse("channel_not_found") };
        let id: String = row.get(0);
        if let Some(ts) = row.get(3) {
            let message = shapes::parsed(row.get(5))?;
            let earlier = Outcome::Posted { channel: id.clone(), ts, seq: row.get(4), message };
            return Ok((id, Some(earlier)));
        }
        let (kind, is_member): (i64, bool) = (row.get(1), row.get(2));
        if !is_member {
            let is_public = kind == kind::PUBLIC;
            return refuse(if is_public { "not_in_channel" } else { "channel_not_found" });
        }
        Ok((id, None))
    }

    /// The parent of a thread; a reply's thread is its parent's.
    async fn parent(&mut self, channel: &str, ts: i64) -> Result<Parent, Stopped> {
        let found = "SELECT p.ts, p.who FROM messages m JOIN messages p ON p.channel = m.channel AND p.ts = COALESCE(m.thread, m.ts) \
             WHERE m.channel = $1 AND m.ts = $2 AND NOT m.deleted";
        let row = query(found).bind(channel).bind(ts).fetch_optional(&mut self.db).await?;
        let Some(row) = row else { return refuse("thread_not_found") };
        Ok(Parent { ts: row.get(0), user: row.get(1) })
    }

    /// An edit carries the message twice, and both fit one publication.
    fn bound(&self, message: &Value) -> Result<(), Stopped> {
        let bytes_max = self.facts.limits.publication_bytes_max as usize / 2 - 1_024;
        if message.to_string().len() > bytes_max { refuse("msg_too_long") } else { Ok(()) }
    }

    async fn message(&mut self, channel: &str, ts: i64) -> Result<Found, Stopped> {
        let found = "SELECT who, body FROM messages WHERE channel = $1 AND ts = $2 AND NOT deleted";
        let row = query(found).bind(channel).bind(ts).fetch_optional(&mut self.db).await?;
        let Some(row) = row else { return refuse("message_not_found") };
        Ok(Found { user: row.get(0), body: shapes::parsed(row.get(1))? })
    }

    pub(super) async fn update(
        &mut self,
        user: &str,
        channel: &str,
        ts: i64,
        text: Option<&str>,
        more: &Map<String, Value>,
    ) -> Result<Outcome, Stopped> {
        let (channel, _) = self.place(channel, user, None).await?;
        let found = self.message(&channel, ts).await?;
        if found.user != user {
            return refuse("cant_update_message");
        }
        let mut message = found.body.clone();
        let fields = message.as_object_mut().expect("a body is an object");
        if let Some(text) = text {
            fields.insert("text".into(), text.into());
            // A new text stands for itself: old blocks would go on showing the old one.
            fields.remove("blocks");
        }
        for (name, list) in more {
            match list.as_array() {
                Some(list) if list.is_empty() => fields.remove(name),
                _ => fields.insert(name.clone(), list.clone()),
            };
        }
        if fields["text"] == "" && !DECORATIONS.iter().any(|name| fields.contains_key(*name)) {
            return refuse("no_text");
        }
        self.bound(&message)?;

        let at = self.next(&channel).await?;
        message["edited"] = json!({ "user": user, "ts": ts_of(at.ts) });
        let event = json!({
            "type": "message", "subtype": "message_changed", "hidden": true, "channel": channel,
            "ts": ts_of(at.ts), "event_ts": ts_of(at.ts), "message": message, "previous_message": found.body,
        });
        self.append(&channel, at, None, &event).await?;
        query("UPDATE messages SET body = $3 WHERE channel = $1 AND ts = $2")
            .bind(&channel)
            .bind(ts)
            .bind(&message.to_string())
            .execute(&mut self.db)
            .await?;
        Ok(Outcome::Updated { channel, message })
    }

    pub(super) async fn delete(
        &mut self,
        user: &str,
        channel: &str,
        ts: i64,
    ) -> Result<Outcome, Stopped> {
        let (channel, _) = self.place(channel, user, None).await?;
        let found = self.message(&channel, ts).await?;
        if found.user != user {
            return refuse("cant_delete_message");
        }
        let at = self.next(&channel).await?;
        let event = json!({
            "type": "message", "subtype": "message_deleted", "hidden": true, "channel": channel,
            "ts": ts_of(at.ts), "event_ts": ts_of(at.ts), "deleted_ts": ts_of(ts), "previous_message": found.body,
        });
        self.append(&channel, at, None, &event).await?;
        // The row stays: its key still knows that this was said.
        let delete = together!(
            "UPDATE messages SET deleted = TRUE WHERE channel = $1 AND ts = $2",
            "DELETE FROM reactions WHERE channel = $1 AND ts = $2",
        );
        query(delete).bind(&channel).bind(ts).execute(&mut self.db).await?;
        Ok(Outcome::Updated { channel, message: found.body })
    }

    pub(super) async fn react(
        &mut self,
        user: &str,
        channel: &str,
        ts: i64,
        name: &str,
        add: bool,
    ) -> Result<Outcome, Stopped> {
        let (channel, _) = self.place(channel, user, None).await?;
        let found = self.message(&channel, ts).await?;
        let row = query(
            "SELECT EXISTS (SELECT 1 FROM reactions WHERE channel = $1 AND ts = $2 AND name = $3 AND who = $4), \
             EXISTS (SELECT 1 FROM reactions WHERE channel = $1 AND ts = $2 AND name = $3)",
        )
        .bind(&channel)
        .bind(ts)
        .bind(name)
        .bind(user)
        .fetch_one(&mut self.db)
        .await?;
        let (is_there, is_known): (bool, bool) = (row.get(0), row.get(1));
        if is_there == add {
            return refuse(if add { "already_reacted" } else { "no_reaction" });
        }
        if add && !is_known {
            let count = "SELECT COUNT(DISTINCT name) FROM reactions WHERE channel = $1 AND ts = $2";
            let count = query(count).bind(&channel).bind(ts).fetch_one(&mut self.db).await?;
            if count.get::<i64>(0) >= REACTIONS_MAX {
                return refuse("too_many_emoji");
            }
        }
        let at = self.next(&channel).await?;
        let event = json!({
            "type": if add { "reaction_added" } else { "reaction_removed" }, "user": user, "reaction": name, "item_user": found.user,
            "item": { "type": "message", "channel": channel, "ts": ts_of(ts) }, "event_ts": ts_of(at.ts),
        });
        self.append(&channel, at, None, &event).await?;
        let change = if add {
            "INSERT INTO reactions (channel, ts, name, who, n) VALUES ($1, $2, $3, $4, $5)"
        } else {
            "DELETE FROM reactions WHERE channel = $1 AND ts = $2 AND name = $3 AND who = $4"
        };
        let change = query(change).bind(&channel).bind(ts).bind(name).bind(user);
        let change = if add { change.bind(at.ts) } else { change };
        change.execute(&mut self.db).await?;
        Ok(Outcome::Done)
    }
}
