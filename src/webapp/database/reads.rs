//! What people read: users, conversations, history, events.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::sql::{Row, Sql, query};
use super::{Database, Refused, shapes, ts_of};
use serde_json::{Value, json};

/// From where on, and how many.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part {
    /// What the last page ended with; 0 at the beginning.
    pub after: i64,
    pub limit: i64,
}

/// Which part of a history, in microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    pub oldest: i64,
    pub latest: i64,
    pub inclusive: bool,
}

/// A page, and where the next one begins.
pub type Page = (Vec<Value>, Option<i64>);

const EVENTS_BYTES_MAX: usize = 4 << 20;
/// Who wrote in a thread, shown with its parent.
const REPLY_USERS_MAX: usize = 5;

impl Database {
    /// A conversation's id, when the user may read it.
    pub async fn readable(&self, user: &str, channel: &str) -> Result<String, Refused> {
        let row = query(
            "SELECT c.id, c.kind, m.who IS NOT NULL FROM conversations c LEFT JOIN members m ON m.channel = c.id AND m.who = $3 \
             WHERE c.id = $1 OR c.name = $2",
        )
        .bind(channel)
        .bind(channel.strip_prefix('#').unwrap_or(channel))
        .bind(user)
        .fetch_optional(&self.readers)
        .await?;
        match row.map(|row| (row.get(0), row.get::<i64>(1), row.get(2))) {
            Some((id, _, true)) => Ok(id),
            Some((_, 0, false)) => Err(Refused("not_in_channel")),
            _ => Err(Refused("channel_not_found")),
        }
    }

    /// One conversation as the user sees it, with its unread messages.
    pub async fn conversation(&self, user: &str, channel: &str) -> Result<Value, Refused> {
        let found = format!("{} WHERE c.id = $2 OR c.name = $3", shapes::CONVERSATION);
        let row = query(found.as_str())
            .bind(user)
            .bind(channel)
            .bind(channel.strip_prefix('#').unwrap_or(channel))
            .fetch_optional(&self.readers)
            .await?
            .ok_or(Refused("channel_not_found"))?;
        let mut value = shapes::conversation(&row, user);
        if value["is_member"] != true {
            return if value["is_private"] == true {
                Err(Refused("channel_not_found"))
            } else {
                Ok(value)
            };
        }
        let id: &str = row.get("id");
        let unread = query(shapes::UNREAD).bind(id).bind(row.get::<i64>("last_read")).bind(user);
        let unread: i64 = unread.fetch_one(&self.readers).await?.get(0);
        value["unread_count"] = unread.into();
        value["unread_count_display"] = unread.into();
        let span = Span { oldest: 0, latest: i64::MAX / 2, inclusive: true };
        let (mut latest, _) = self.history(id, span, Part { after: 0, limit: 1 }).await?;
        if let Some(latest) = latest.pop() {
            value["latest"] = latest;
        }
        Ok(value)
    }

    /// Conversations of the wanted kinds, in the order in which they were made: the user's, or all that the user may see.
    pub async fn conversations(
        &self,
        user: &str,
        kinds: &[i64],
        only_own: bool,
        part: Part,
    ) -> Result<Page, Refused> {
        let mut found = format!("{} WHERE c.n > $2 AND c.kind IN (", shapes::CONVERSATION);
        for (at, kind) in kinds.iter().enumerate() {
            let _ = write!(found, "{}{kind}", if at == 0 { "" } else { ", " });
        }
        found.push_str(if only_own {
            ") AND m.who IS NOT NULL"
        } else {
            ") AND (c.kind = 0 OR m.who IS NOT NULL)"
        });
        found.push_str(" ORDER BY c.n LIMIT $3");
        let rows = query(found.as_str())
            .bind(user)
            .bind(part.after)
            .bind(part.limit + 1)
            .fetch_all(&self.readers)
            .await?;
        page(&rows, part.limit, |row| Ok((row.get("n"), shapes::conversation(row, user))))
    }

    /// Ids of a conversation's members.
    pub async fn members(&self, channel: &str, part: Part) -> Result<Page, Refused> {
        let rows = query(
            "SELECT u.n, u.id FROM members m JOIN users u ON u.id = m.who WHERE m.channel = $1 AND u.n > $2 ORDER BY u.n LIMIT $3",
        )
        .bind(channel)
        .bind(part.after)
        .bind(part.limit + 1)
        .fetch_all(&self.readers)
        .await?;
        page(&rows, part.limit, |row| Ok((row.get(0), row.get::<String>(1).into())))
    }

    pub async fn is_away_by_hand(&self, user: &str) -> Result<bool, Refused> {
        let found = "SELECT manual_away FROM users WHERE id = $1";
        Ok(query(found).bind(user).fetch_one(&self.readers).await?.get(0))
    }

    /// Messages of a conversation, newest first; replies are in their threads. `part.after`: older than this.
    pub async fn history(&self, channel: &str, span: Span, part: Part) -> Result<Page, Refused> {
        let (oldest, mut latest) = closed(span);
        if part.after > 0 {
            latest = latest.min(part.after - 1);
        }
        let rows = query(
            "SELECT ts, body FROM messages WHERE channel = $1 AND ts BETWEEN $2 AND $3 AND NOT deleted AND NOT is_reply \
             ORDER BY ts DESC LIMIT $4",
        )
        .bind(channel)
        .bind(oldest)
        .bind(latest)
        .bind(part.limit + 1)
        .fetch_all(&self.readers)
        .await?;
        let page = page(&rows, part.limit, |row| Ok((row.get(0), shapes::parsed(row.get(1))?)))?;
        self.dressed(channel, page).await
    }

    /// The thread of a message: its parent, and its replies, oldest first. `part.after`: newer than this.
    pub async fn replies(
        &self,
        channel: &str,
        ts: i64,
        span: Span,
        part: Part,
    ) -> Result<Page, Refused> {
        let (oldest, latest) = closed(span);
        let parent = "SELECT COALESCE(thread, ts) FROM messages WHERE channel = $1 AND ts = $2";
        let parent = query(parent).bind(channel).bind(ts).fetch_optional(&self.readers).await?;
        let parent: i64 = parent.ok_or(Refused("thread_not_found"))?.get(0);
        // The parent opens the first page, whatever part of its replies is wanted.
        let rows = query(
            "SELECT ts, body FROM messages WHERE channel = $1 AND ts = $2 AND ts > $5 AND NOT deleted \
             UNION ALL SELECT * FROM (SELECT ts, body FROM messages WHERE channel = $1 AND thread = $2 AND ts BETWEEN $3 AND $4 \
             AND ts > $5 AND NOT deleted ORDER BY ts LIMIT $6) AS replies ORDER BY ts LIMIT $6",
        )
        .bind(channel)
        .bind(parent)
        .bind(oldest)
        .bind(latest)
        .bind(part.after)
        .bind(part.limit + 1)
        .fetch_all(&self.readers)
        .await?;
        if rows.is_empty() && part.after == 0 {
            return Err(Refused("thread_not_found"));
        }
        let page = page(&rows, part.limit, |row| Ok((row.get(0), shapes::parsed(row.get(1))?)))?;
        self.dressed(channel, page).await
    }

    /// One message.
    pub async fn message(&self, channel: &str, ts: i64) -> Result<Value, Refused> {
        let found = "SELECT ts, body FROM messages WHERE channel = $1 AND ts = $2 AND NOT deleted";
        let rows = query(found).bind(channel).bind(ts).fetch_all(&self.readers).await?;
        let page = page(&rows, 1, |row| Ok((row.get(0), shapes::parsed(row.get(1))?)))?;
        let (mut messages, _) = self.dressed(channel, page).await?;
        messages.pop().ok_or(Refused("message_not_found"))
    }

    /// Puts reactions and the counts of threads onto messages.
    async fn dressed(&self, channel: &str, (mut messages, next): Page) -> Result<Page, Refused> {
        let stamps: Vec<i64> = messages
            .iter()
            .filter_map(|message| message["ts"].as_str().and_then(shapes::micros_of))
            .collect();
        if stamps.is_empty() {
            return Ok((messages, next));
        }
        let places: HashMap<i64, usize> =
            stamps.iter().enumerate().map(|(at, ts)| (*ts, at)).collect();
        let stamps = Value::from(stamps).to_string();
        let rows = query(
            Sql {
                sqlite: "SELECT ts, name, who FROM reactions WHERE channel = $1 AND ts IN (SELECT value FROM json_each($2)) ORDER BY ts, n",
                postgres: "SELECT ts, name, who FROM reactions WHERE channel = $1 \
                     AND ts IN (SELECT value::BIGINT FROM json_array_elements_text($2::JSON)) ORDER BY ts, n",
            },
        )
        .bind(channel)
        .bind(&stamps)
        .fetch_all(&self.readers)
        .await?;
        for row in &rows {
            let Some(at) = places.get(&row.get::<i64>(0)) else { continue };
            react(&mut messages[*at], row.get(1), row.get(2));
        }
        let rows = query(
            Sql {
                sqlite: "SELECT thread, COUNT(*), MAX(ts), json_group_array(DISTINCT who) FROM messages WHERE channel = $1 \
                     AND thread IN (SELECT value FROM json_each($2)) AND NOT deleted GROUP BY thread",
                postgres: "SELECT thread, COUNT(*), MAX(ts), json_agg(DISTINCT who)::TEXT FROM messages WHERE channel = $1 \
                     AND thread IN (SELECT value::BIGINT FROM json_array_elements_text($2::JSON)) AND NOT deleted GROUP BY thread",
            },
        )
        .bind(channel)
        .bind(&stamps)
        .fetch_all(&self.readers)
        .await?;
        for row in &rows {
            let thread: i64 = row.get(0);
            let Some(at) = places.get(&thread) else { continue };
            let users: Vec<Value> = serde_json::from_str(row.get(3)).unwrap_or_default();
            let message = &mut messages[*at];
            message["thread_ts"] = ts_of(thread).into();
            message["reply_count"] = row.get::<i64>(1).into();
            message["latest_reply"] = ts_of(row.get(2)).into();
            message["reply_users_count"] = users.len().into();
            message["reply_users"] = users.into_iter().take(REPLY_USERS_MAX).collect();
            message["subscribed"] = false.into();
        }
        Ok((messages, next))
    }

    /// Durable events `from..=to` of a stream, whole, with their place; and the stream's tip.
    pub async fn events(
        &self,
        stream: &str,
        from: i64,
        to: i64,
        limit: i64,
    ) -> Result<(Vec<Value>, i64), Refused> {
        let tip = "SELECT tip FROM streams WHERE name = $1";
        let tip = query(tip).bind(stream).fetch_optional(&self.readers).await?;
        let tip: i64 = tip.ok_or(Refused("channel_not_found"))?.get(0);
        let (mut events, mut bytes, mut at) = (Vec::new(), 0, from.max(1));
        let to = to.min(tip);
        while at <= to && bytes < EVENTS_BYTES_MAX && (events.len() as i64) < limit {
            let count = (limit - events.len() as i64).min(100);
            let rows = query(
                "SELECT seq, payload FROM events WHERE stream = $1 AND seq BETWEEN $2 AND $3 ORDER BY seq LIMIT $4",
            )
            .bind(stream)
            .bind(at)
            .bind(to)
            .bind(count)
            .fetch_all(&self.readers)
            .await?;
            let Some(last) = rows.last() else { break };
            at = last.get::<i64>(0) + 1;
            for row in &rows {
                let payload: &str = row.get(1);
                bytes += payload.len();
                let mut event = shapes::parsed(payload)?;
                event["seq"] = row.get::<i64>(0).into();
                event["seq_of"] = stream.into();
                events.push(event);
            }
        }
        Ok((events, tip))
    }
}

/// Both ends included.
fn closed(Span { oldest, latest, inclusive }: Span) -> (i64, i64) {
    if inclusive { (oldest, latest) } else { (oldest + 1, latest - 1) }
}

/// The first `limit` of the rows; with one more there is a next page, after the last that is shown.
fn page(
    rows: &[Row],
    limit: i64,
    value: impl Fn(&Row) -> Result<(i64, Value), Refused>,
) -> Result<Page, Refused> {
    let shown = rows.len().min(limit as usize);
    let mut last = 0;
    let mut values = Vec::with_capacity(shown);
    for row in &rows[..shown] {
        let (at, value) = value(row)?;
        last = at;
        values.push(value);
    }
    Ok((values, (rows.len() > shown).then_some(last)))
}

fn react(message: &mut Value, name: &str, user: &str) {
    let fields = message.as_object_mut().expect("a body is an object");
    let list = fields.entry("reactions").or_insert_with(|| json!([]));
    let list = list.as_array_mut().expect("made here");
    let at = list.iter().position(|reaction| reaction["name"] == name).unwrap_or_else(|| {
        list.push(json!({ "name": name, "users": [], "count": 0 }));
        list.len() - 1
    });
    let users = list[at]["users"].as_array_mut().expect("made here");
    users.push(user.into());
    let count = users.len();
    list[at]["count"] = count.into();
}
