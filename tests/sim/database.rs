//! The database as a linearizable model: conversations, members, dense events, the outbox, tickets.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use campanile::ids::{Conn, Origin};
use campanile::time::Mono;
use campanile::wire::Membership;
use campanile::wire::message::boot;

/// One durable event as committed.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) origin: Origin,
    pub(crate) member: Option<(Membership, String, String, u64)>,
    pub(crate) payload: String,
    pub(crate) at: Mono,
    pub(crate) what: What,
}

/// What an event means to a client that reads it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum What {
    Message {
        user: String,
        key: String,
        ts: String,
        text: String,
    },
    /// The reader came into a conversation, at this offset of it.
    Joined {
        channel: String,
        offset: u64,
    },
    Left {
        user: String,
    },
    Other,
    /// There is no such event: only a broken database has it.
    Nothing,
}

/// The right to one connection, and what it says.
#[derive(Clone, Debug)]
pub(crate) struct Ticket {
    pub(crate) name: String,
    pub(crate) user: String,
    /// The number of the token that it came of.
    pub(crate) token: u32,
    pub(crate) flags: u8,
    pub(crate) offsets: BTreeMap<String, u64>,
    pub(crate) made: Mono,
}

pub(crate) const TEAM: &str = "T1";
pub(crate) const EPOCH: &str = "e1";

/// A message that is stored now, or was before.
#[derive(Clone, Debug)]
pub(crate) struct Posted {
    pub(crate) offset: u64,
    pub(crate) ts: String,
    pub(crate) text: String,
}

/// Rows of the outbox that a change wrote.
pub(crate) type Rows = Vec<u64>;

#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) users: Vec<String>,
    pub(crate) channels: BTreeMap<String, Vec<Event>>,
    pub(crate) members: BTreeMap<String, BTreeSet<String>>,
    pub(crate) outbox: BTreeMap<u64, (String, u64)>,
    pub(crate) manual_away: BTreeSet<String>,
    /// By conversation and user: the offset at which the user left last.
    left: BTreeMap<(String, String), u64>,
    posted: BTreeMap<(String, String), (String, u64)>,
    /// By number: whose it is, and since when it opens nothing.
    tokens: BTreeMap<u32, (String, Option<Mono>)>,
    tickets: BTreeMap<String, Ticket>,
    ticket_timeout: Duration,
    rows: u64,
    tickets_made: u64,
    clock: u64,
    pub(crate) now: Mono,
    /// A broken database: it passes over every so manyth offset.
    pub(crate) skips_every: Option<u64>,
}

impl Database {
    pub(crate) fn new(users: usize, ticket_timeout: Duration) -> Self {
        let users: Vec<String> = (1..=users).map(|number| format!("U{number}")).collect();
        let mut channels = BTreeMap::from([(TEAM.to_string(), Vec::new())]);
        channels.extend(users.iter().map(|user| (user.clone(), Vec::new())));
        Self {
            users,
            channels,
            members: BTreeMap::new(),
            outbox: BTreeMap::new(),
            manual_away: BTreeSet::new(),
            left: BTreeMap::new(),
            posted: BTreeMap::new(),
            tokens: BTreeMap::new(),
            tickets: BTreeMap::new(),
            ticket_timeout,
            rows: 0,
            tickets_made: 0,
            clock: 1_700_000_000_000_000,
            now: Mono(0),
            skips_every: None,
        }
    }

    // ---- changes

    /// A conversation with these members, before anything happens.
    pub(crate) fn found(&mut self, members: BTreeSet<String>) {
        let name = self.next_conversation();
        self.channels.insert(name.clone(), Vec::new());
        self.members.insert(name, members);
    }

    /// A user makes a new conversation.
    pub(crate) fn create(&mut self, user: &str) -> Rows {
        let name = self.next_conversation();
        self.channels.insert(name.clone(), Vec::new());
        self.members.insert(name.clone(), BTreeSet::new());
        let (offset, first) = self.enter(user, &name);
        let told = format!(r#"{{"type":"channel_created","channel":{{"id":"{name}"}}}}"#);
        let (_, second) = self.append(TEAM, Origin::NOBODY, None, told, What::Other);
        vec![first, second, self.tell_joined(user, &name, offset)]
    }

    /// chat.postMessage: a repeated key gets the first answer again and commits nothing.
    pub(crate) fn post(
        &mut self,
        user: &str,
        channel: &str,
        text: &str,
        key: &str,
        origin: Origin,
    ) -> Result<(Posted, Rows), &'static str> {
        if let Some((earlier, offset)) = self.posted.get(&(user.to_string(), key.to_string()))
            && let What::Message { ts, text, .. } = &self.event(earlier, *offset).what
        {
            let (ts, text) = (ts.clone(), text.clone());
            return Ok((Posted { offset: *offset, ts, text }, Vec::new()));
        }
        let members = self.members.get(channel).ok_or("channel_not_found")?;
        if !members.contains(user) {
            return Err("not_in_channel");
        }
        self.clock += 1;
        let ts = format!("{}.{:06}", self.clock / 1_000_000, self.clock % 1_000_000);
        let payload = format!(
            r#"{{"type":"message","user":"{user}","text":"{text}","ts":"{ts}","channel":"{channel}","client_msg_id":"{key}"}}"#
        );
        let what = What::Message {
            user: user.into(),
            key: key.into(),
            ts: ts.clone(),
            text: text.to_string(),
        };
        let (offset, row) = self.append(channel, origin, None, payload, what);
        self.posted.insert((user.into(), key.into()), (channel.into(), offset));
        Ok((Posted { offset, ts, text: text.into() }, vec![row]))
    }

    /// chat.update: an event that carries a message twice.
    pub(crate) fn edit(&mut self, channel: &str, offset: u64) -> Rows {
        let What::Message { user, text, ts, .. } = &self.event(channel, offset).what else {
            return Vec::new();
        };
        let message =
            format!(r#"{{"type":"message","user":"{user}","text":"{text}","ts":"{ts}"}}"#);
        let payload = format!(
            r#"{{"type":"message","subtype":"message_changed","hidden":true,"channel":"{channel}","message":{message},"previous_message":{message}}}"#
        );
        vec![self.append(channel, Origin::NOBODY, None, payload, What::Other).1]
    }

    pub(crate) fn join(&mut self, user: &str, channel: &str) -> Rows {
        if self.members[channel].contains(user) {
            return Vec::new();
        }
        let (offset, first) = self.enter(user, channel);
        vec![first, self.tell_joined(user, channel, offset)]
    }

    pub(crate) fn leave(&mut self, user: &str, channel: &str) -> Rows {
        if !self.members[channel].contains(user) {
            return Vec::new();
        }
        let payload =
            format!(r#"{{"type":"member_left_channel","user":"{user}","channel":"{channel}"}}"#);
        let offset = self.next_offset(channel);
        let member = Some((Membership::Left, user.to_string(), channel.to_string(), offset));
        let what = What::Left { user: user.into() };
        let (at, first) = self.append(channel, Origin::NOBODY, member, payload, what);
        self.members.get_mut(channel).expect("just seen").remove(user);
        self.left.insert((channel.into(), user.into()), at);
        let told = format!(r#"{{"type":"channel_left","channel":"{channel}"}}"#);
        vec![first, self.append(user, Origin::NOBODY, None, told, What::Other).1]
    }

    /// conversations.mark and the like: an event for the user alone.
    pub(crate) fn mark(&mut self, user: &str, channel: &str) -> Rows {
        let told = format!(r#"{{"type":"channel_marked","channel":"{channel}"}}"#);
        vec![self.append(user, Origin::NOBODY, None, told, What::Other).1]
    }

    /// users.setPresence.
    pub(crate) fn away(&mut self, user: &str, away: bool) -> Rows {
        let changed =
            if away { self.manual_away.insert(user.into()) } else { self.manual_away.remove(user) };
        if !changed {
            return Vec::new();
        }
        let told = r#"{"type":"manual_presence_change"}"#.to_string();
        vec![self.append(user, Origin::NOBODY, None, told, What::Other).1]
    }

    /// A new token of a user, by its number.
    pub(crate) fn login(&mut self, user: &str) -> u32 {
        let number = self.tokens.len() as u32 + 1;
        self.tokens.insert(number, (user.into(), None));
        number
    }

    /// From now on the token opens nothing, and neither do its tickets. Whose it was.
    pub(crate) fn revoke(&mut self, token: u32) -> String {
        let now = self.now;
        let (user, revoked) = self.tokens.get_mut(&token).expect("a token that there is");
        revoked.get_or_insert(now);
        let user = user.clone();
        self.tickets.retain(|_, ticket| ticket.token != token);
        user
    }

    /// Since when a token opens nothing.
    pub(crate) fn revoked(&self, token: u32) -> Option<Mono> {
        self.tokens.get(&token)?.1
    }

    /// All that open nothing any more, and whose they are.
    pub(crate) fn revocations(&self) -> impl Iterator<Item = (u32, &str)> {
        let gone = self.tokens.iter().filter(|(_, (_, revoked))| revoked.is_some());
        gone.map(|(number, (user, _))| (*number, user.as_str()))
    }

    /// rtm.connect: a ticket, with where the user's channels stand, unless the token was revoked.
    pub(crate) fn connect(&mut self, user: &str, token: u32, flags: u8) -> Option<Ticket> {
        if self.revoked(token).is_some() {
            return None;
        }
        self.tickets_made += 1;
        let name = format!("ticket-{}", self.tickets_made);
        let mut flags = flags;
        if self.manual_away.contains(user) {
            flags |= boot::MANUAL_AWAY;
        }
        if self.is_bot(user) {
            flags |= boot::BOT;
        }
        let offsets = self.followed(user).collect();
        let ticket =
            Ticket { name: name.clone(), user: user.into(), token, flags, offsets, made: self.now };
        self.tickets.insert(name, ticket.clone());
        Some(ticket)
    }

    /// A ticket is good once, and for some time.
    pub(crate) fn redeem(&mut self, name: &str) -> Option<Ticket> {
        let timeout = self.ticket_timeout;
        self.tickets.remove(name).filter(|ticket| ticket.made + timeout >= self.now)
    }

    /// A ticket that a gateway asked for, by its name: the client cannot know what it says.
    pub(crate) fn ticket(&self, name: &str) -> Option<&Ticket> {
        self.tickets.get(name)
    }

    fn append(
        &mut self,
        channel: &str,
        origin: Origin,
        member: Option<(Membership, String, String, u64)>,
        payload: String,
        what: What,
    ) -> (u64, u64) {
        let offset = self.next_offset(channel);
        let at = self.now;
        let events = self.channels.get_mut(channel).expect("a known channel");
        while (events.len() as u64) < offset - 1 {
            let nothing = Event {
                origin: Origin { life: 0, conn: Conn(0) },
                member: None,
                payload: String::new(),
                at,
                what: What::Nothing,
            };
            events.push(nothing);
        }
        events.push(Event { origin, member, payload, at, what });
        self.rows += 1;
        self.outbox.insert(self.rows, (channel.to_string(), offset));
        (offset, self.rows)
    }

    fn enter(&mut self, user: &str, channel: &str) -> (u64, u64) {
        let payload =
            format!(r#"{{"type":"member_joined_channel","user":"{user}","channel":"{channel}"}}"#);
        let entered = self.append(channel, Origin::NOBODY, None, payload, What::Other);
        self.members.get_mut(channel).expect("a known channel").insert(user.to_string());
        entered
    }

    fn tell_joined(&mut self, user: &str, channel: &str, offset: u64) -> u64 {
        let payload = format!(
            r#"{{"type":"channel_joined","channel":{{"id":"{channel}","last_seq":{offset}}}}}"#
        );
        let member = Some((Membership::Joined, user.to_string(), channel.to_string(), offset));
        let what = What::Joined { channel: channel.into(), offset };
        self.append(user, Origin::NOBODY, member, payload, what).1
    }

    fn next_conversation(&self) -> String {
        format!("C{}", self.members.len() + 1)
    }

    fn next_offset(&self, channel: &str) -> u64 {
        let next = self.tip(channel) + 1;
        let is_skipped = self.skips_every.is_some_and(|every| next.is_multiple_of(every));
        if is_skipped { next + 1 } else { next }
    }

    // ---- questions

    pub(crate) fn tip(&self, channel: &str) -> u64 {
        self.channels.get(channel).map_or(0, |events| events.len() as u64)
    }

    pub(crate) fn event(&self, channel: &str, offset: u64) -> &Event {
        &self.channels[channel][offset as usize - 1]
    }

    /// The event at a place, if there is one.
    pub(crate) fn find(&self, channel: &str, offset: u64) -> Option<&Event> {
        let at = usize::try_from(offset).ok()?.checked_sub(1)?;
        self.channels.get(channel)?.get(at).filter(|event| event.what != What::Nothing)
    }

    /// Where a user's message with this key is, if it is stored.
    pub(crate) fn said(&self, user: &str, key: &str) -> Option<&(String, u64)> {
        self.posted.get(&(user.to_string(), key.to_string()))
    }

    /// The channels that a user follows, and their tips: conversations, the user's own, the team's.
    pub(crate) fn followed(&self, user: &str) -> impl Iterator<Item = (String, u64)> {
        let conversations =
            self.members.iter().filter(|(_, who)| who.contains(user)).map(|(name, _)| name.clone());
        conversations.chain([user.to_string(), TEAM.to_string()]).map(|name| {
            let tip = self.tip(&name);
            (name, tip)
        })
    }

    /// I20: whether a user may be given an event: who was a member when it was committed, or has come in since.
    pub(crate) fn is_entitled(&self, user: &str, channel: &str, offset: u64) -> bool {
        match self.members.get(channel) {
            None => channel == TEAM || channel == user,
            Some(members) => {
                let left = self.left.get(&(channel.to_string(), user.to_string()));
                members.contains(user) || left.is_some_and(|left| *left >= offset)
            }
        }
    }

    /// The last user is a bot.
    pub(crate) fn is_bot(&self, user: &str) -> bool {
        self.users.last().is_some_and(|last| last == user)
    }
}
