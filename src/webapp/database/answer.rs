//! The questions of control-plane shards: encoded messages in, encoded messages out.

use sha2::{Digest, Sha256};

use super::batch::Moved;
use super::sql::{Row, query};
use super::{Change, Database, Key, Outcome, Post, Refused, new_ticket, ts_of};
use crate::ids::{Ask, Conn, Origin};
use crate::wire::{Member, Membership, Message};

/// How a ticket is kept: whoever reads the database cannot connect with it.
pub(in crate::webapp) fn ticket_hash(ticket: &str) -> [u8; 32] {
    Sha256::digest(ticket.as_bytes()).into()
}

/// Where a ticket is redeemed: in the path, because some clients throw the query away.
pub(in crate::webapp) fn ticket_path(ticket: &str) -> String {
    format!("/websocket/{ticket}")
}

/// Whether the same may be granted later.
fn may_pass(refused: Refused) -> bool {
    [Refused::BUSY, Refused::UNAVAILABLE, Refused::INTERNAL].contains(&refused)
}

const RANGE_PAGE: i64 = 128;

impl Database {
    /// Carries out one question of a shard (`Tip`, `Range`, `Redeem`, `Renew`, `Admit`, `Post`, `OutboxRead`, `OutboxRemove`). The last of the answers
    /// ends it by its kind. A question that fails is answered as refused; a `Tip`, which has no word for that, by a `RangeEnd` that is not ok.
    pub async fn answer(&self, question: Vec<u8>) -> Vec<Vec<u8>> {
        let Ok(question) = Message::decode(&question) else { return Vec::new() };
        let unread = |ask| vec![encoded(&Message::RangeEnd { ask, ok: false, upto: 0 })];
        match question {
            Message::Tip { ask, name } => self.tip(ask, name).await.unwrap_or_else(|_| unread(ask)),
            Message::Range { ask, name, from, to, bytes_max } => {
                let span = (from as i64, to.min(i64::MAX as u64) as i64);
                self.range(ask, name, span, bytes_max).await.unwrap_or_else(|_| unread(ask))
            }
            Message::Redeem { ask, ticket } => vec![self.redeem(ask, ticket).await],
            Message::Renew { ask, user, token, flags } => {
                vec![self.renew(ask, (user, token), flags).await]
            }
            Message::Admit { ask, user, channel } => vec![self.admit(ask, user, channel).await],
            Message::Post { .. } => vec![self.post(&question).await],
            Message::OutboxRead { ask, after, count_max } => {
                let read = self.outbox(ask, after as i64, count_max).await;
                // Read again with the next sweep.
                let none = Message::OutboxEnd { ask, last: after, more: false };
                read.unwrap_or_else(|_| vec![encoded(&none)])
            }
            Message::OutboxRemove { ask, ids } => {
                let rows = ids.iter::<u64>().collect();
                let ok = self.change_in_turn(Change::Remove { rows }).await.is_ok();
                vec![encoded(&Message::Removed { ask, ok })]
            }
            _ => Vec::new(),
        }
    }

    async fn tip(&self, ask: Ask, name: &str) -> Result<Vec<Vec<u8>>, Refused> {
        let tip = query("SELECT tip FROM streams WHERE name = $1").bind(name);
        let tip: Option<i64> = tip.fetch_optional(&self.source).await?.map(|row| row.get(0));
        let (found, tip) = (tip.is_some(), tip.unwrap_or(0) as u64);
        Ok(vec![encoded(&Message::TipIs { ask, found, tip })])
    }

    async fn range(
        &self,
        ask: Ask,
        name: &str,
        (from, to): (i64, i64),
        bytes_max: u32,
    ) -> Result<Vec<Vec<u8>>, Refused> {
        let (mut answers, mut bytes, mut at) = (Vec::new(), 0, from.max(1));
        while at <= to && bytes < bytes_max as usize {
            let rows = query(
                "SELECT seq, life, conn, what, member, member_channel, member_seq, payload FROM events \
                 WHERE stream = $1 AND seq BETWEEN $2 AND $3 ORDER BY seq LIMIT $4",
            )
            .bind(name)
            .bind(at)
            .bind(to)
            .bind(RANGE_PAGE)
            .fetch_all(&self.source)
            .await?;
            if rows.is_empty() {
                break;
            }
            for row in rows {
                if bytes >= bytes_max as usize {
                    break;
                }
                let (seq, origin, moved, payload) = event(&row, 0);
                bytes += payload.len();
                at = seq + 1;
                answers.push(encoded(&Message::RangeEvent {
                    ask,
                    offset: seq as u64,
                    origin,
                    member: moved.as_ref().map(member),
                    payload: payload.as_bytes(),
                }));
            }
        }
        answers.push(encoded(&Message::RangeEnd { ask, ok: true, upto: (at - 1) as u64 }));
        Ok(answers)
    }

    async fn redeem(&self, ask: Ask, ticket: &str) -> Vec<u8> {
        let outcome = self.change_in_turn(Change::Redeem { hash: ticket_hash(ticket) }).await;
        if let Ok(Outcome::Boot(bytes)) = &outcome
            && let Ok(Message::Boot { user, team, epoch, flags, token, channels, .. }) =
                Message::decode(bytes)
        {
            return encoded(&Message::Boot { ask, user, team, epoch, flags, token, channels });
        }
        encoded(&Message::Refused { ask, retry: outcome.is_err_and(may_pass) })
    }

    async fn renew(&self, ask: Ask, (user, token): (&str, u32), flags: u8) -> Vec<u8> {
        let ticket = new_ticket();
        let hash = ticket_hash(&ticket);
        let change = Change::Ticket { user: user.into(), token, hash, flags };
        match self.change_in_turn(change).await {
            Ok(_) => encoded(&Message::Ticketed { ask, path: &ticket_path(&ticket) }),
            Err(refused) => encoded(&Message::Refused { ask, retry: may_pass(refused) }),
        }
    }

    async fn admit(&self, ask: Ask, user: &str, channel: &str) -> Vec<u8> {
        // One statement: the tip is of the moment in which the user is a member.
        let tip = query(
            "SELECT s.tip FROM members m JOIN streams s ON s.name = m.channel JOIN users u ON u.id = m.who \
             WHERE m.channel = $1 AND m.who = $2 AND u.revoked IS NULL",
        )
        .bind(channel)
        .bind(user)
        .fetch_optional(&self.source)
        .await;
        let Ok(tip) = tip else { return encoded(&Message::Refused { ask, retry: true }) };
        let (is_member, offset) = (tip.is_some(), tip.map_or(0, |row| row.get::<i64>(0)) as u64);
        encoded(&Message::Admitted { ask, is_member, offset, epoch: self.epoch() })
    }

    async fn post(&self, question: &Message<'_>) -> Vec<u8> {
        let Message::Post {
            ask, user, channel, text, thread_ts, client_msg_id, origin, nth, ..
        } = *question
        else {
            unreachable!("asked with a post only");
        };
        let failed = |Refused(reason)| encoded(&Message::PostFailed { ask, reason });
        if self.user(user).is_some_and(|user| user.is_revoked) {
            return failed(Refused("account_inactive"));
        }
        if text.chars().count() > self.facts.limits.text_chars_max as usize {
            return failed(Refused("msg_too_long"));
        }
        let thread_ts = match thread_ts {
            "" => None,
            ts => match super::micros_of(ts) {
                Some(ts) => Some(ts),
                None => return failed(Refused("thread_not_found")),
            },
        };
        // A post that is said again after a lost link is the same message, whether or not its client gave it an id.
        let key = match (client_msg_id, origin) {
            ("", Origin::NOBODY) => None,
            ("", origin) => Some(Key::of_connection(origin, nth)),
            (id, _) => match Key::of_client(id) {
                None => return failed(Refused("invalid_arguments")),
                key => key,
            },
        };
        let change = Change::Post(Post {
            user: user.into(),
            channel: channel.into(),
            text: text.into(),
            thread_ts,
            broadcast: false,
            client_msg_id: (!client_msg_id.is_empty()).then(|| client_msg_id.into()),
            key,
            more: serde_json::Map::new(),
            origin,
        });
        match self.change(change).await {
            Ok(Outcome::Posted { ts, seq, message, .. }) => encoded(&Message::Posted {
                ask,
                offset: seq as u64,
                ts: &ts_of(ts),
                text: message["text"].as_str().unwrap_or_default(),
            }),
            Ok(_) => failed(Refused::INTERNAL),
            Err(refused) => failed(refused),
        }
    }

    /// The oldest rows that are still in the outbox, as after their commit.
    async fn outbox(&self, ask: Ask, after: i64, count_max: u32) -> Result<Vec<Vec<u8>>, Refused> {
        let rows = query(
            "SELECT o.id, e.seq, e.life, e.conn, e.what, e.member, e.member_channel, e.member_seq, e.payload, e.stream \
             FROM outbox o JOIN events e ON e.stream = o.stream AND e.seq = o.seq WHERE o.id > $1 ORDER BY o.id LIMIT $2",
        )
        .bind(after)
        .bind(i64::from(count_max) + 1)
        .fetch_all(&self.source)
        .await?;
        let more = rows.len() > count_max as usize;
        let mut last = after;
        let mut answers = Vec::with_capacity(rows.len());
        for row in rows.iter().take(count_max as usize) {
            last = row.get(0);
            let (seq, origin, moved, payload) = event(row, 1);
            answers.push(encoded(&Message::Committed {
                id: last as u64,
                namespace: 0,
                offset: seq as u64,
                origin,
                member: moved.as_ref().map(member),
                name: row.get(9),
                payload: payload.as_bytes(),
            }));
        }
        answers.push(encoded(&Message::OutboxEnd { ask, last: last as u64, more }));
        Ok(answers)
    }
}

/// Columns `seq, life, conn, what, member, member_channel, member_seq, payload` from the given one on.
fn event(row: &Row, at: usize) -> (i64, Origin, Option<Moved>, String) {
    let origin =
        Origin { life: row.get::<i64>(at + 1) as u64, conn: Conn(row.get::<i64>(at + 2) as u64) };
    let moved = row.get::<Option<i64>>(at + 3).map(|what| Moved {
        what: if what == 1 { Membership::Joined } else { Membership::Left },
        user: row.get(at + 4),
        channel: row.get(at + 5),
        seq: row.get(at + 6),
    });
    (row.get(at), origin, moved, row.get(at + 7))
}

fn member(moved: &Moved) -> Member<'_> {
    Member {
        what: moved.what,
        user: &moved.user,
        channel: &moved.channel,
        offset: moved.seq as u64,
    }
}

fn encoded(message: &Message<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    bytes
}
