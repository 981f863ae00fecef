//! Who a guest is, and what it is subscribed to from the start: its first command, and the end of its connection.

use std::collections::BTreeMap;
use std::hash::Hasher;

use prost::Message as _;
use siphasher::sip128::{Hasher128, SipHasher24};

use super::alive::{now_s, ttl};
use super::{Guest, Guests};
use crate::centrifuge::code::{Disconnect, Fault};
use crate::centrifuge::message::{Command, ConnectRequest, ConnectResult, Reply, SubscribeResult};
use crate::centrifuge::token::{Claims, Refused};
use crate::gateway::lists::ListRef;
use crate::gateway::outbox::Kind;
use crate::gateway::session::{Is, State};
use crate::gateway::shard::{Gateway, Turn};
use crate::gateway::slab::NIL;
use crate::limits::Limits;
use crate::shard::Counter;

/// A `connect` that waits for the subscriptions which go with it.
#[derive(Debug)]
pub(super) struct Connecting {
    id: u32,
    expires_s: Option<u64>,
    /// Subscriptions that do not stand yet.
    left: usize,
    subs: BTreeMap<String, SubscribeResult>,
    /// What the client said behind it.
    said: Vec<Command>,
    said_bytes: usize,
    /// Frames of those subscriptions that stand: nothing is told before `connect` is answered.
    held: Vec<(Box<[u8]>, Kind)>,
    held_bytes: usize,
}

impl Guests {
    pub(in crate::gateway) fn is_connecting(&self, index: u32) -> bool {
        !self.connecting.is_empty() && self.connecting.contains_key(&index)
    }

    /// Keeps a frame until `connect` is answered. Too much is as if it was slow.
    pub(in crate::gateway) fn hold(
        &mut self,
        index: u32,
        bytes: &[u8],
        kind: Kind,
        limits: &Limits,
        evictions: &mut Vec<u32>,
    ) {
        let Some(connecting) = self.connecting.get_mut(&index) else { return };
        connecting.held_bytes += bytes.len();
        if connecting.held_bytes > limits.guest_outbox_bytes_max as usize {
            evictions.push(index);
        } else {
            connecting.held.push((bytes.into(), kind));
        }
    }
}

impl Gateway {
    /// Its first command: who it is, by its token.
    pub(super) fn connect(
        &mut self,
        turn: &mut Turn<'_>,
        index: u32,
        id: u32,
        request: &ConnectRequest,
    ) {
        let client = &self.rules.client;
        let now_s = now_s(turn);
        let claims = match client.keys.verify(&request.token, now_s) {
            _ if request.token.is_empty() && (client.insecure || client.allows_anonymous) => {
                Claims::default()
            }
            _ if request.token.is_empty() => {
                return self.disconnect(turn, index, Disconnect::BadRequest);
            }
            Ok(claims) if claims.channel.is_none() => claims,
            Err(Refused::Expired) => {
                return self.refuse_connect(turn, index, id, Fault::TokenExpired);
            }
            Ok(_) | Err(Refused::Invalid) => {
                return self.disconnect(turn, index, Disconnect::InvalidToken);
            }
        };
        let expires_s = claims.expires_s().filter(|_| !client.insecure);
        if expires_s.is_some_and(|at| at <= now_s) {
            return self.refuse_connect(turn, index, id, Fault::TokenExpired);
        }
        let mut grants = claims.grants();
        if client.has_personal_channel && !claims.sub.is_empty() {
            grants.entry(format!("#{}", claims.sub)).or_default();
        }
        if grants.len() > client.channels_max as usize {
            return self.disconnect(turn, index, Disconnect::ChannelLimit);
        }
        let key = self.secret.key_of(&claims.sub);
        if claims.sub.len() > self.limits.name_bytes_max as usize {
            return self.disconnect(turn, index, Disconnect::BadRequest);
        }
        let Ok(user) = self.names.intern(key, &claims.sub) else {
            // There may be room later: this must not be its end, as every code of a limit is.
            turn.out.count(Counter::ConnectionsShed);
            return self.refuse_connect(turn, index, id, Fault::Internal);
        };
        let info = claims.info().into_boxed_slice();
        let guest = Guest { user, is_vacant: false, next: NIL, expires_s: 0, info };
        let guest = self.guests.all.insert(guest);
        let list = self.guests.by_user.entry(key).or_insert(ListRef::EMPTY);
        self.lists.push(list, index);
        let second = turn.second();
        let session = self.sessions.at(index);
        session.set_guest(guest);
        session.state = State::Active;
        // The first ping comes at another time for each of those that came together.
        let ping_s = self.rules.client.ping_interval.as_secs() as u32;
        session.heard_s = second.saturating_sub(index % (ping_s / 2).max(1));
        let connecting = Connecting {
            id,
            expires_s,
            left: grants.len(),
            subs: BTreeMap::new(),
            said: Vec::new(),
            said_bytes: 0,
            held: Vec::new(),
            held_bytes: 0,
        };
        self.guests.connecting.insert(index, connecting);
        for (channel, grant) in &grants {
            let since = request.subs.get(channel).filter(|one| one.recover);
            if let Err(fault) = self.subscribe_by_us(turn, index, channel, grant, since) {
                return self.refuse_connect(turn, index, id, fault);
            }
        }
        if grants.is_empty() {
            self.guests.ready.push(index);
        }
    }

    /// It comes again, with another token; what it says before that is void.
    fn refuse_connect(&mut self, turn: &mut Turn<'_>, index: u32, id: u32, fault: Fault) {
        self.guests.connecting.remove(&index);
        self.end_catch_up(index);
        self.leave_all(turn, index);
        self.forget_guest(index);
        let session = self.sessions.at(index);
        session.state = State::Connecting;
        session.set(Is::Leaving, true);
        self.fail(turn, index, id, fault);
    }

    /// Answers `connect` once all subscriptions that go with it stand.
    fn connected(&mut self, turn: &mut Turn<'_>, index: u32) {
        if self.guests.connecting.get(&index).is_none_or(|connecting| connecting.left > 0) {
            return;
        }
        let connecting = self.guests.connecting.remove(&index).expect("just seen");
        let result = ConnectResult {
            client: self.client_id(index),
            version: env!("CARGO_PKG_VERSION").into(),
            expires: connecting.expires_s.is_some(),
            ttl: ttl(connecting.expires_s, now_s(turn)),
            subs: connecting.subs,
            ping: self.rules.client.ping_interval.as_secs() as u32,
            pong: true,
        };
        let id = connecting.id;
        self.answer(turn, index, Reply { id, connect: Some(result), ..Reply::default() });
        self.set_expiry(turn, index, connecting.expires_s);
        for (bytes, kind) in &connecting.held {
            self.append_bytes(turn, index, bytes, *kind);
        }
        // What it said meanwhile.
        for command in &connecting.said {
            if self.sessions.of(index).state != State::Active {
                return;
            }
            self.guest_command(turn, index, command);
        }
    }

    /// A subscription that goes with `connect` stands. Only while that is not answered.
    pub(super) fn joined_by_us(&mut self, index: u32, channel: String, result: SubscribeResult) {
        if let Some(connecting) = self.guests.connecting.get_mut(&index) {
            connecting.left -= 1;
            connecting.subs.insert(channel, result);
            if connecting.left == 0 {
                self.guests.ready.push(index);
            }
        }
    }

    /// Answers those whose last subscription came: at the end of a call, when no list is being walked.
    pub(in crate::gateway) fn answer_connects(&mut self, turn: &mut Turn<'_>) {
        while let Some(index) = self.guests.ready.pop() {
            self.connected(turn, index);
        }
    }

    /// Keeps a command until `connect` is answered. False: it is answered already.
    pub(super) fn keep(&mut self, turn: &mut Turn<'_>, index: u32, command: &Command) -> bool {
        let Some(connecting) = self.guests.connecting.get_mut(&index) else { return false };
        connecting.said_bytes += command.encoded_len() + size_of::<Command>();
        if connecting.said_bytes > self.limits.guest_message_bytes_max as usize * 2 {
            self.disconnect(turn, index, Disconnect::BadRequest);
        } else {
            connecting.said.push(command.clone());
        }
        true
    }

    /// A UUID of version 4 that tells this connection from all others, and costs nothing while it lasts.
    pub(super) fn client_id(&self, index: u32) -> String {
        let conn = self.sessions.conn(self.me.core, index);
        let mut hasher = SipHasher24::new_with_key(&self.secret.0);
        hasher.write_u64(self.life);
        hasher.write_u64(conn.0);
        let mut bytes = hasher.finish128().as_bytes();
        // RFC 9562 §5.4.
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let hex = u128::from_be_bytes(bytes);
        let text = format!("{hex:032x}");
        let parts = [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]];
        parts.join("-")
    }

    /// Who a guest is; empty: anonymous.
    pub(super) fn guest_user(&self, index: u32) -> &str {
        self.names.text(self.guests.all[self.sessions.of(index).guest()].user)
    }

    pub(super) fn guest_info(&self, index: u32) -> &[u8] {
        &self.guests.all[self.sessions.of(index).guest()].info
    }

    /// The connection ends, by a code that says whether to come back.
    pub(in crate::gateway) fn disconnect(
        &mut self,
        turn: &mut Turn<'_>,
        index: u32,
        why: Disconnect,
    ) {
        if why == Disconnect::BadRequest {
            turn.out.count(Counter::ProtocolErrors);
        }
        self.hang_up(turn, index, why.code(), why.reason());
    }

    /// What a guest holds besides its session and its channels.
    pub(in crate::gateway) fn forget_guest(&mut self, index: u32) {
        let session = self.sessions.at(index);
        let guest = session.guest();
        if guest != NIL {
            session.set_guest(NIL);
            self.guests.connecting.remove(&index);
            let user = self.guests.all.remove(guest).user;
            let key = self.secret.key_of(self.names.text(user));
            if let Some(list) = self.guests.by_user.get_mut(&key) {
                self.lists.remove(list, index);
                if list.is_empty() {
                    self.guests.by_user.remove(&key);
                }
            }
            self.names.release(user);
        }
    }
}
