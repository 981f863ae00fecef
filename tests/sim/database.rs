//! The database as a linearizable model: conversations, members, dense events, the outbox, tickets.

use std::collections::{BTreeMap, BTreeSet};

use campanile::ids::{Ask, Origin};
use campanile::wire::message::boot;
use campanile::wire::{Member, Membership, Message, Packed};

/// One durable event as committed.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) origin: Origin,
    pub(crate) member: Option<(Membership, String, String, u64)>,
    pub(crate) payload: String,
    /// Who may have it: for a conversation its members at the commit.
    pub(crate) audience: BTreeSet<String>,
}

#[derive(Clone, Debug)]
struct Ticket {
    user: String,
    resume: bool,
    offsets: Vec<(String, u64)>,
}

pub(crate) const TEAM: &str = "T1";
pub(crate) const EPOCH: &str = "e1";

/// What one commit did.
#[derive(Clone, Debug)]
pub(crate) struct Commit {
    pub(crate) offset: u64,
    pub(crate) ts: String,
    pub(crate) rows: Vec<u64>,
}

#[derive(Default, Debug)]
pub(crate) struct Database {
    pub(crate) channels: BTreeMap<String, Vec<Event>>,
    pub(crate) members: BTreeMap<String, BTreeSet<String>>,
    pub(crate) outbox: BTreeMap<u64, (String, u64)>,
    sent_by_id: BTreeMap<(String, String), (u64, String)>,
    tickets: BTreeMap<String, Ticket>,
    rows: u64,
    tickets_made: u64,
    clock: u64,
}

impl Database {
    pub(crate) fn new(users: &[String], conversations: &[String]) -> Self {
        let mut database = Self { clock: 1_700_000_000_000_000, ..Self::default() };
        database.channels.insert(TEAM.into(), Vec::new());
        for user in users {
            database.channels.insert(user.clone(), Vec::new());
        }
        for channel in conversations {
            database.channels.insert(channel.clone(), Vec::new());
            database.members.insert(channel.clone(), users.iter().cloned().collect());
        }
        database
    }

    pub(crate) fn tip(&self, channel: &str) -> u64 {
        self.channels.get(channel).map_or(0, |events| events.len() as u64)
    }

    /// The channels that a user follows: conversations, the user's own, the team's.
    pub(crate) fn followed(&self, user: &str) -> Vec<(String, u64)> {
        let conversations = self.members.iter().filter(|(_, who)| who.contains(user)).map(|(c, _)| c.as_str());
        conversations.chain([user, TEAM]).map(|c| (c.to_string(), self.tip(c))).collect()
    }

    fn append(&mut self, channel: &str, origin: Origin, member: Option<(Membership, String, String, u64)>, payload: String) -> (u64, u64) {
        let audience = match self.members.get(channel) {
            Some(members) => members.clone(),
            None if channel == TEAM => self.channels.keys().cloned().collect(),
            None => BTreeSet::from([channel.to_string()]),
        };
        let events = self.channels.get_mut(channel).expect("a known channel");
        events.push(Event { origin, member, payload, audience });
        let offset = events.len() as u64;
        self.rows += 1;
        self.outbox.insert(self.rows, (channel.to_string(), offset));
        (offset, self.rows)
    }

    fn next_ts(&mut self) -> String {
        self.clock += 1;
        format!("{}.{:06}", self.clock / 1_000_000, self.clock % 1_000_000)
    }

    /// chat.postMessage: a repeated client_msg_id gets the first answer again and commits nothing.
    pub(crate) fn post(&mut self, user: &str, channel: &str, text: &str, id: &str, origin: Origin) -> Result<Commit, &'static str> {
        let members = self.members.get(channel).ok_or("channel_not_found")?;
        if !members.contains(user) {
            return Err("not_in_channel");
        }
        let by_id = (user.to_string(), id.to_string());
        if let Some((offset, ts)) = self.sent_by_id.get(&by_id) {
            return Ok(Commit { offset: *offset, ts: ts.clone(), rows: Vec::new() });
        }
        let ts = self.next_ts();
        let payload = format!(r#"{{"type":"message","channel":"{channel}","user":"{user}","text":"{text}","ts":"{ts}","client_msg_id":"{id}"}}"#);
        let (offset, row) = self.append(channel, origin, None, payload);
        self.sent_by_id.insert(by_id, (offset, ts.clone()));
        Ok(Commit { offset, ts, rows: vec![row] })
    }

    pub(crate) fn join(&mut self, user: &str, channel: &str) -> Vec<u64> {
        if !self.members.get_mut(channel).expect("a known channel").insert(user.to_string()) {
            return Vec::new();
        }
        let payload = format!(r#"{{"type":"member_joined_channel","user":"{user}","channel":"{channel}"}}"#);
        let (offset, first) = self.append(channel, Origin::NOBODY, None, payload);
        let payload = format!(r#"{{"type":"channel_joined","channel":{{"id":"{channel}","last_seq":{offset}}}}}"#);
        let member = Some((Membership::Joined, user.to_string(), channel.to_string(), offset));
        let (_, second) = self.append(user, Origin::NOBODY, member, payload);
        vec![first, second]
    }

    pub(crate) fn leave(&mut self, user: &str, channel: &str) -> Vec<u64> {
        if !self.members[channel].contains(user) {
            return Vec::new();
        }
        let payload = format!(r#"{{"type":"member_left_channel","user":"{user}","channel":"{channel}"}}"#);
        let offset = self.tip(channel) + 1;
        let member = Some((Membership::Left, user.to_string(), channel.to_string(), offset));
        let (_, row) = self.append(channel, Origin::NOBODY, member, payload);
        self.members.get_mut(channel).expect("just seen").remove(user);
        vec![row]
    }

    /// rtm.connect: the ticket, and where the user's channels stand.
    pub(crate) fn connect(&mut self, user: &str, resume: bool) -> (String, Vec<(String, u64)>) {
        self.tickets_made += 1;
        let name = format!("ticket-{}", self.tickets_made);
        let offsets = self.followed(user);
        let ticket = Ticket { user: user.into(), resume, offsets: offsets.clone() };
        self.tickets.insert(name.clone(), ticket);
        (name, offsets)
    }

    pub(crate) fn committed(&self, row: u64) -> Option<Vec<u8>> {
        let (channel, offset) = self.outbox.get(&row)?;
        let event = &self.channels[channel][*offset as usize - 1];
        Some(encoded(&Message::Committed { id: row, namespace: 0, offset: *offset, origin: event.origin, member: member_of(event), name: channel, payload: event.payload.as_bytes() }))
    }

    /// Carries out a question of a control-plane shard. Also the rows that it committed.
    pub(crate) fn answer(&mut self, ask: Ask, question: &Message<'_>) -> (Vec<Vec<u8>>, Vec<u64>) {
        let mut rows = Vec::new();
        let answers = match *question {
            Message::Tip { name, .. } => {
                let found = self.channels.contains_key(name);
                vec![encoded(&Message::TipIs { ask, found, tip: self.tip(name) })]
            }
            Message::Range { name, from, to, bytes_max, .. } => self.range(ask, name, from, to, bytes_max),
            Message::Redeem { ticket, .. } => vec![self.redeem(ask, ticket)],
            Message::Post { user, channel, text, client_msg_id, origin, .. } => {
                match self.post(user, channel, text, client_msg_id, origin) {
                    Ok(commit) => {
                        rows = commit.rows;
                        vec![encoded(&Message::Posted { ask, offset: commit.offset, ts: &commit.ts, text })]
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

    fn range(&self, ask: Ask, name: &str, from: u64, to: u64, bytes_max: u32) -> Vec<Vec<u8>> {
        let events = self.channels.get(name).map_or(&[][..], Vec::as_slice);
        let mut answers = Vec::new();
        let (mut upto, mut bytes) = (from.saturating_sub(1), 0);
        for offset in from.max(1)..=to.min(events.len() as u64) {
            if bytes >= bytes_max as usize {
                break;
            }
            let event = &events[offset as usize - 1];
            bytes += event.payload.len();
            upto = offset;
            answers.push(encoded(&Message::RangeEvent { ask, offset, origin: event.origin, member: member_of(event), payload: event.payload.as_bytes() }));
        }
        answers.push(encoded(&Message::RangeEnd { ask, ok: true, upto }));
        answers
    }

    fn redeem(&mut self, ask: Ask, ticket: &str) -> Vec<u8> {
        let Some(ticket) = self.tickets.remove(ticket) else {
            return encoded(&Message::Refused { ask, retry: false });
        };
        let mut list = Vec::new();
        let channels = Packed::pack(ticket.offsets.iter().map(|(name, offset)| (name.as_str(), *offset)), &mut list);
        let flags = if ticket.resume { boot::RESUME } else { 0 };
        encoded(&Message::Boot { ask, user: &ticket.user, team: TEAM, epoch: EPOCH, flags, channels })
    }

    fn outbox_page(&self, ask: Ask, after: u64, count_max: u32) -> Vec<Vec<u8>> {
        let page: Vec<u64> = self.outbox.range(after + 1..).map(|(id, _)| *id).take(count_max as usize).collect();
        let last = page.last().copied().unwrap_or(after);
        let more = self.outbox.range(last + 1..).next().is_some();
        let mut answers: Vec<Vec<u8>> = page.iter().filter_map(|id| self.committed(*id)).collect();
        answers.push(encoded(&Message::OutboxEnd { ask, last, more }));
        answers
    }
}

fn member_of(event: &Event) -> Option<Member<'_>> {
    event.member.as_ref().map(|(what, user, channel, offset)| Member { what: *what, user, channel, offset: *offset })
}

pub(crate) fn encoded(message: &Message<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    bytes
}
