//! chat.* and reactions.*: messages are written through the database's writer.

use serde_json::json;

use super::{Answer, Call, Failure, refuse};
use crate::ids::Origin;
use crate::webapp::database::{Change, Key, Outcome, Post, User, micros_of, ts_of};

/// Slack cuts a text here.
const TEXT_CHARS_MAX: usize = 40_000;
const REACTION_BYTES_MAX: usize = 100;

impl Call<'_> {
    pub(super) async fn post(&self, user: &User) -> Answer {
        let channel = self.conversation_of(user).await?;
        let thread_ts = match self.arguments.text("thread_ts") {
            None => None,
            Some(ts) => Some(micros_of(&ts).ok_or(Failure::Refused("thread_not_found"))?),
        };
        let client_msg_id = self.arguments.text("client_msg_id");
        let header = self.headers.get("idempotency-key").and_then(|value| value.to_str().ok());
        let key = match (&client_msg_id, header) {
            (Some(id), _) => Some(Key::of_client(id)),
            (None, Some(value)) => Some(Key::of_header(value)),
            (None, None) => None,
        };
        if key == Some(None) {
            return refuse("invalid_arguments");
        }
        let mut more = self.arguments.decorations()?;
        more.retain(|_, list| list.as_array().is_some_and(|list| !list.is_empty()));
        let change = Change::Post(Post {
            user: user.id.clone(),
            channel,
            text: self.message_text().unwrap_or_default(),
            thread_ts,
            broadcast: self.arguments.flag("reply_broadcast"),
            client_msg_id,
            key: key.flatten(),
            more,
            origin: Origin::NOBODY,
        });
        match self.site.database.change(change).await? {
            Outcome::Posted { channel, ts, seq, message } => {
                Ok(json!({ "channel": channel, "ts": ts_of(ts), "seq": seq, "message": message }))
            }
            other => unreachable!("a post gives {other:?}"),
        }
    }

    /// The channel argument; a user's id means the conversation with that user.
    async fn conversation_of(&self, user: &User) -> Result<String, Failure> {
        let channel = self.channel()?;
        if self.site.database.user(&channel).is_none() {
            return Ok(channel);
        }
        let open = Change::Open { user: user.id.clone(), others: vec![channel], may_make: true };
        match self.site.database.change(open).await? {
            Outcome::Conversation { id, .. } => Ok(id),
            other => unreachable!("an opening gives {other:?}"),
        }
    }

    /// The text, if there is one, cut as Slack does.
    fn message_text(&self) -> Option<String> {
        let mut text = self.arguments.text("text")?;
        if let Some((end, _)) = text.char_indices().nth(TEXT_CHARS_MAX) {
            text.truncate(end);
        }
        Some(text)
    }

    pub(super) async fn update(&self, user: &User) -> Answer {
        let change = Change::Update {
            user: user.id.clone(),
            channel: self.channel()?,
            ts: self.moment("ts", "message_not_found")?,
            text: self.message_text(),
            more: self.arguments.decorations()?,
        };
        match self.site.database.change(change).await? {
            Outcome::Updated { channel, message } => Ok(json!({
                "channel": channel, "ts": message["ts"], "text": message["text"], "message": message,
            })),
            other => unreachable!("an edit gives {other:?}"),
        }
    }

    pub(super) async fn delete(&self, user: &User) -> Answer {
        let change = Change::Delete {
            user: user.id.clone(),
            channel: self.channel()?,
            ts: self.moment("ts", "message_not_found")?,
        };
        match self.site.database.change(change).await? {
            Outcome::Updated { channel, message } => {
                Ok(json!({ "channel": channel, "ts": message["ts"] }))
            }
            other => unreachable!("a deletion gives {other:?}"),
        }
    }

    pub(super) async fn react(&self, user: &User, add: bool) -> Answer {
        let name = self.arguments.need("name", "invalid_name")?;
        let name = name.trim_matches(':').to_string();
        // Names of emoji, with `::skin-tone-2` behind some of them.
        let is_fine = |letter: char| letter.is_alphanumeric() || "_-+':".contains(letter);
        if name.is_empty() || name.len() > REACTION_BYTES_MAX || !name.chars().all(is_fine) {
            return refuse("invalid_name");
        }
        let (channel, ts) = self.item()?;
        let change = Change::React { user: user.id.clone(), channel, ts, name, add };
        self.site.database.change(change).await?;
        Ok(json!({}))
    }

    /// The message that a reaction is about.
    fn item(&self) -> Result<(String, i64), Failure> {
        let channel = self.arguments.need("channel", "no_item_specified")?;
        let text = self.arguments.need("timestamp", "no_item_specified")?;
        Ok((channel, micros_of(&text).ok_or(Failure::Refused("bad_timestamp"))?))
    }

    pub(super) async fn reactions(&self, user: &User) -> Answer {
        let (channel, ts) = self.item()?;
        let channel = self.site.database.readable(&user.id, &channel).await?;
        let message = self.site.database.message(&channel, ts).await?;
        Ok(json!({ "type": "message", "channel": channel, "message": message }))
    }
}
