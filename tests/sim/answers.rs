//! What the database answers to the questions of control-plane shards: encoded messages in, encoded messages out.

use campanile::ids::Ask;
use campanile::wire::{Member, Message, Packed};

use crate::database::{Database, EPOCH, Event, Rows, TEAM, What};

/// Characters of a text that the model stores.
pub(crate) const TEXT_MAX: usize = 4_000;

impl Database {
    /// Carries out a question. Also the rows that it committed.
    pub(crate) fn answer(&mut self, ask: Ask, question: &Message<'_>) -> (Vec<Vec<u8>>, Rows) {
        let mut rows = Vec::new();
        let answers = match *question {
            Message::Tip { name, .. } => {
                let found = self.channels.contains_key(name);
                vec![encoded(&Message::TipIs { ask, found, tip: self.tip(name) })]
            }
            Message::Range { name, from, to, bytes_max, .. } => {
                self.range(ask, name, from, to, bytes_max)
            }
            Message::Redeem { ticket, .. } => vec![self.boot(ask, ticket)],
            Message::Renew { user, token, flags, .. } => {
                let ticket = self.connect(user, token, flags);
                let path = ticket.map(|ticket| format!("/websocket/{}", ticket.name));
                let refused = Message::Refused { ask, retry: false };
                vec![encoded(
                    &path.as_ref().map_or(refused, |path| Message::Ticketed { ask, path }),
                )]
            }
            Message::Admit { user, channel, .. } => {
                let members = self.members.get(channel);
                let is_member = members.is_some_and(|members| members.contains(user));
                let offset = self.tip(channel);
                vec![encoded(&Message::Admitted { ask, is_member, offset, epoch: EPOCH })]
            }
            Message::Post { user, channel, text, client_msg_id, origin, nth, .. } => {
                let said_once = format!("rtm:{:x}-{:x}-{nth}", origin.life, origin.conn.0);
                let key = if client_msg_id.is_empty() { &said_once } else { client_msg_id };
                let posted = if text.len() > TEXT_MAX {
                    Err("msg_too_long")
                } else {
                    self.post(user, channel, text, key, origin)
                };
                match posted {
                    Ok((posted, committed)) => {
                        rows = committed;
                        let (offset, ts, text) = (posted.offset, &*posted.ts, &*posted.text);
                        vec![encoded(&Message::Posted { ask, offset, ts, text })]
                    }
                    Err(reason) => vec![encoded(&Message::PostFailed { ask, reason })],
                }
            }
            Message::OutboxRead { after, count_max, .. } => self.outbox_page(ask, after, count_max),
            Message::OutboxRemove { ids, .. } => {
                for id in ids.iter::<u64>() {
                    self.outbox.remove(&id);
                }
                vec![encoded(&Message::Removed { ask, ok: true })]
            }
            ref other => panic!("not a question for the database: {}", other.name()),
        };
        (answers, rows)
    }

    /// Whether a question cannot be answered by a database that takes no writes.
    pub(crate) fn writes(question: &Message<'_>) -> bool {
        matches!(
            question,
            Message::Redeem { .. }
                | Message::Renew { .. }
                | Message::Post { .. }
                | Message::OutboxRemove { .. }
        )
    }

    /// What is said instead when the database is away: where the answer has a word for that.
    pub(crate) fn excuse(ask: Ask, question: &Message<'_>) -> Vec<Vec<u8>> {
        let answer = match question {
            Message::Range { .. } => Message::RangeEnd { ask, ok: false, upto: 0 },
            Message::Redeem { .. } | Message::Renew { .. } | Message::Admit { .. } => {
                Message::Refused { ask, retry: true }
            }
            Message::Post { .. } => Message::PostFailed { ask, reason: "internal_error" },
            Message::OutboxRemove { .. } => Message::Removed { ask, ok: false },
            _ => return Vec::new(),
        };
        vec![encoded(&answer)]
    }

    /// A row as the dispatcher wants it, if it is still in the outbox.
    pub(crate) fn committed(&self, row: u64) -> Option<Vec<u8>> {
        let (name, offset) = self.outbox.get(&row)?;
        let event = self.event(name, *offset);
        Some(encoded(&Message::Committed {
            id: row,
            namespace: 0,
            offset: *offset,
            origin: event.origin,
            member: member_of(event),
            name,
            payload: event.payload.as_bytes(),
        }))
    }

    fn range(&self, ask: Ask, name: &str, from: u64, to: u64, bytes_max: u32) -> Vec<Vec<u8>> {
        let (mut answers, mut bytes, mut at) = (Vec::new(), 0, from.max(1));
        while at <= to.min(self.tip(name)) && bytes < bytes_max as usize {
            let event = self.event(name, at);
            if event.what != What::Nothing {
                bytes += event.payload.len();
                answers.push(encoded(&Message::RangeEvent {
                    ask,
                    offset: at,
                    origin: event.origin,
                    member: member_of(event),
                    payload: event.payload.as_bytes(),
                }));
            }
            at += 1;
        }
        answers.push(encoded(&Message::RangeEnd { ask, ok: true, upto: at - 1 }));
        answers
    }

    fn boot(&mut self, ask: Ask, ticket: &str) -> Vec<u8> {
        let Some(ticket) = self.redeem(ticket) else {
            return encoded(&Message::Refused { ask, retry: false });
        };
        let mut list = Vec::new();
        let pairs = ticket.offsets.iter().map(|(name, offset)| (name.as_str(), *offset));
        let channels = Packed::pack(pairs, &mut list);
        encoded(&Message::Boot {
            ask,
            user: &ticket.user,
            team: TEAM,
            epoch: EPOCH,
            flags: ticket.flags,
            token: ticket.token,
            channels,
        })
    }

    fn outbox_page(&self, ask: Ask, after: u64, count_max: u32) -> Vec<Vec<u8>> {
        let rows = self.outbox.range(after + 1..).map(|(id, _)| *id);
        let page: Vec<u64> = rows.take(count_max as usize).collect();
        let last = page.last().copied().unwrap_or(after);
        let more = self.outbox.range(last + 1..).next().is_some();
        let mut answers: Vec<Vec<u8>> = page.iter().filter_map(|id| self.committed(*id)).collect();
        answers.push(encoded(&Message::OutboxEnd { ask, last, more }));
        answers
    }
}

fn member_of(event: &Event) -> Option<Member<'_>> {
    event.member.as_ref().map(|(what, user, channel, offset)| Member {
        what: *what,
        user,
        channel,
        offset: *offset,
    })
}

pub(crate) fn encoded(message: &Message<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    bytes
}
