//! From the first byte of a connection to its greeting: the request, the ticket, the boot.

use super::asks::Pending;
use super::behind::{Claim, Phase};
use super::outbox::Kind;
use super::session::{Is, State};
use super::shard::{Gateway, Turn};
use super::slab::NIL;
use crate::centrifuge::framing::Framing;
use crate::ids::Conn;
use crate::ring::slot_of;
use crate::rtm::{Fault, event};
use crate::shard::{Counter, Effect};
use crate::websocket::close;
use crate::websocket::handshake::{self, Refusal};
use crate::wire::message::boot;
use crate::wire::{Message, Packed};

/// A request that is not whole yet.
#[derive(Debug, Default)]
pub(super) struct Head {
    bytes: Vec<u8>,
    looked: usize,
}

/// Where tickets are shown. In the path: some clients throw the query away.
const TICKET_PATH: &str = "/websocket/";
/// Where Centrifuge is spoken.
const GUEST_PATH: &str = "/connection/websocket";
const ECHO_PATH: &str = "/dev/echo";
/// A ticket is shorter.
const TICKET_BYTES_MAX: usize = 128;

/// What a `Boot` says, but for its number.
#[derive(Clone, Copy)]
pub(super) struct Boot<'a> {
    user: &'a str,
    epoch: &'a str,
    flags: u8,
    token: u32,
    channels: Packed<'a>,
}

impl<'a> Boot<'a> {
    /// `None` of any other message.
    pub(super) fn of(message: &Message<'a>) -> Option<Self> {
        match *message {
            Message::Boot { user, epoch, flags, token, channels, .. } => {
                Some(Self { user, epoch, flags, token, channels })
            }
            _ => None,
        }
    }
}

impl Gateway {
    pub(super) fn accepted(&mut self, turn: &mut Turn<'_>, conn: Conn) {
        if self.sessions.count() >= self.limits.connections_max {
            turn.out.count(Counter::ConnectionsShed);
            turn.out.push(Effect::Close { conn, reset: true });
            return;
        }
        let second = turn.second();
        let session = self.sessions.open(conn);
        (session.born_s, session.heard_s) = (second, second);
        let sessions = &self.sessions;
        self.timers.handshakes.trim(|conn| !sessions.is_live(*conn));
        self.timers.handshakes.push(turn.now.mono + self.limits.handshake_timeout, conn);
    }

    /// Bytes of a request, and perhaps of the frames behind it.
    pub(super) fn upgrade(&mut self, turn: &mut Turn<'_>, conn: Conn, bytes: &mut [u8]) {
        let (index, bytes_max) = (conn.index(), self.limits.handshake_bytes_max as usize);
        let Some(mut head) = self.heads.remove(&index) else {
            let mut looked = 0;
            match self.request(turn, index, bytes, &mut looked, bytes_max) {
                Some(len) => self.frames(turn, conn, &mut bytes[len..]),
                None if self.sessions.of(index).state == State::Upgrading => {
                    self.heads.insert(index, Head { bytes: bytes.to_vec(), looked });
                }
                None => {}
            }
            return;
        };
        head.bytes.extend_from_slice(bytes);
        match self.request(turn, index, &head.bytes, &mut head.looked, bytes_max) {
            Some(len) => self.frames(turn, conn, &mut head.bytes[len..]),
            None if self.sessions.of(index).state == State::Upgrading => {
                self.heads.insert(index, head);
            }
            None => {}
        }
    }

    /// Answers a request once it is whole: its length, if the connection was upgraded.
    fn request(
        &mut self,
        turn: &mut Turn<'_>,
        index: u32,
        bytes: &[u8],
        looked: &mut usize,
        bytes_max: usize,
    ) -> Option<usize> {
        let request = match handshake::read(bytes, looked, bytes_max) {
            Ok(request) => request?,
            Err(Refusal::NotUpgrade) if self.hands_over => {
                turn.out.count(Counter::HandedOver);
                self.hand_over(turn, index, bytes);
                return None;
            }
            Err(refusal) => {
                self.turn_away(turn, index, refusal);
                return None;
            }
        };
        if request.path == GUEST_PATH && !self.farewell.is_begun() {
            return self.admit_guest(turn, index, &request);
        }
        let ticket = request.path.strip_prefix(TICKET_PATH);
        let refusal = match ticket {
            _ if self.farewell.is_begun() => Some(Refusal::Unavailable),
            None if self.has_echo && request.path == ECHO_PATH => None,
            None => Some(Refusal::NotFound),
            Some(_) if !self.desk_is_up => Some(Refusal::Unavailable),
            Some(_) => None,
        };
        if let Some(refusal) = refusal {
            self.turn_away(turn, index, refusal);
            return None;
        }
        let mut answer = Vec::with_capacity(160);
        handshake::accept(request.key, None, &mut answer);
        self.append_bytes(turn, index, &answer, Kind::Control);
        match ticket {
            Some(ticket) => self.redeem(turn, index, ticket),
            None => {
                self.sessions.at(index).state = State::Echo;
                self.file(turn, index);
            }
        }
        Some(request.len)
    }

    /// A Centrifuge client: who it is, it says behind the upgrade.
    fn admit_guest(
        &mut self,
        turn: &mut Turn<'_>,
        index: u32,
        request: &handshake::Request<'_>,
    ) -> Option<usize> {
        let origins = self.rules.client.origins.as_deref();
        if let (Some(allowed), Some(origin)) = (origins, request.origin)
            && !allowed.iter().any(|one| one.eq_ignore_ascii_case(origin))
        {
            self.turn_away(turn, index, Refusal::Forbidden);
            return None;
        }
        let (framing, protocol) = Framing::negotiate(request.protocols, request.query);
        let mut answer = Vec::with_capacity(192);
        handshake::accept(request.key, protocol, &mut answer);
        self.append_bytes(turn, index, &answer, Kind::Control);
        let conn = self.sessions.conn(self.me.core, index);
        let session = self.sessions.at(index);
        (session.state, session.dialect) = (State::Connecting, framing.into());
        let sessions = &self.sessions;
        self.timers.connects.trim(|conn| !sessions.is_live(*conn));
        self.timers.connects.push(turn.now.mono + self.rules.client.connect_timeout, conn);
        Some(request.len)
    }

    fn turn_away(&mut self, turn: &mut Turn<'_>, index: u32, refusal: Refusal) {
        turn.out.count(Counter::HandshakesRefused);
        self.refuse(turn, index, refusal);
    }

    fn redeem(&mut self, turn: &mut Turn<'_>, index: u32, ticket: &str) {
        let conn = self.sessions.conn(self.me.core, index);
        self.sessions.at(index).state = State::Redeeming;
        if ticket.is_empty() || ticket.len() > TICKET_BYTES_MAX {
            return self.not_redeemed(turn, conn, false);
        }
        let due = turn.now.mono + self.limits.ask_timeout;
        match self.asks.open(self.desk, due, Pending::Redeem { conn }) {
            Ok(ask) => turn.out.send(self.desk, &Message::Redeem { ask, ticket }),
            Err(_) => self.not_redeemed(turn, conn, true),
        }
    }

    /// The ticket is worth nothing; or nobody could say so, and the client may `retry` with another.
    pub(super) fn not_redeemed(&mut self, turn: &mut Turn<'_>, conn: Conn, retry: bool) {
        if self.sessions.find(conn).is_none_or(|session| session.state != State::Redeeming) {
            return;
        }
        let (fault, code) = if retry {
            (Fault::Unavailable, close::TRY_AGAIN)
        } else {
            (Fault::Expired, close::POLICY)
        };
        self.give_up(turn, conn.index(), fault, code);
    }

    /// These tokens open nothing any more: whoever came in by one is told so, and closed.
    pub(super) fn revoked(&mut self, turn: &mut Turn<'_>, tokens: Packed<'_>) {
        for (token, user) in tokens.iter::<(u32, &str)>() {
            let Some(place) = self.people.find(self.secret.key_of(user)) else { continue };
            for index in self.lists.as_slice(&self.people[place].conns).to_vec() {
                let session = self.sessions.of(index);
                if session.token() != token || !session.is_greeted() {
                    continue;
                }
                turn.out.count(Counter::TokensRevoked);
                // What waits for a slow reader is not for it any more.
                let waiting = self.outboxes.waiting_bytes(index);
                if session.is(Is::Stalled) || waiting > self.limits.outbox_soft_bytes {
                    self.cut_off(turn, index);
                } else {
                    self.give_up(turn, index, Fault::Revoked, close::POLICY);
                }
            }
        }
    }

    fn give_up(&mut self, turn: &mut Turn<'_>, index: u32, fault: Fault, code: u16) {
        self.say_fault(turn, index, fault);
        self.hang_up(turn, index, code, fault.text());
    }

    /// The ticket is redeemed: who it is, and what it follows.
    pub(super) fn boot(&mut self, turn: &mut Turn<'_>, conn: Conn, boot: Boot<'_>) {
        if self.sessions.find(conn).is_none_or(|session| session.state != State::Redeeming) {
            return;
        }
        let index = conn.index();
        if let Err(fault) = self.come_in(turn, index, &boot) {
            turn.out.count(Counter::ConnectionsShed);
            return self.give_up(turn, index, fault, close::TRY_AGAIN);
        }
        if *self.epoch != *boot.epoch {
            self.epoch = boot.epoch.into();
        }
        let is_held = boot.flags & boot::RESUME != 0;
        let session = self.sessions.at(index);
        session.state = if is_held { State::Positioning } else { State::Active };
        session.set(Is::BatchAware, boot.flags & boot::BATCH_PRESENCE != 0);
        let region = self.region.clone();
        let write = |into: &mut Vec<u8>| event::hello(boot.epoch, region.as_deref(), into);
        self.say(turn, index, Kind::Durable, write);
        self.file(turn, index);
        let phase = if is_held { Phase::Held } else { Phase::Ready };
        self.sessions.at(index).catching = self.behind.begin(phase);
        if boot.channels.iter::<(&str, u64)>().count() > self.limits.subscriptions_max as usize {
            return self.give_up(turn, index, Fault::TooManyChannels, close::POLICY);
        }
        for (name, offset) in boot.channels.iter::<(&str, u64)>() {
            if let Err(fault) = self.follow(turn, index, name, offset, offset) {
                return self.give_up(turn, index, fault, close::TRY_AGAIN);
            }
        }
        if is_held {
            self.timers.resumes.push(turn.now.mono + self.limits.resume_timeout, conn);
        } else {
            self.catch_up(turn, index);
        }
        if self.farewell.is_begun() {
            self.sessions.at(index).set(Is::Leaving, true);
            self.say(turn, index, Kind::Durable, |into| into.extend_from_slice(event::GOODBYE));
        }
    }

    /// The connection is its user's from now on.
    fn come_in(&mut self, turn: &mut Turn<'_>, index: u32, boot: &Boot<'_>) -> Result<(), Fault> {
        let (key, slot) = (self.secret.key_of(boot.user), slot_of(boot.user));
        let place = self
            .people
            .enter(&mut self.names, key, slot, boot.user)
            .map_err(|_| Fault::Unavailable)?;
        if self.people[place].conns.len() >= self.limits.connections_per_user_max as usize {
            return Err(Fault::TooManyConnections);
        }
        let person = &mut self.people[place];
        self.lists.push(&mut person.conns, index);
        person.set(super::people::Is::Bot, boot.flags & boot::BOT != 0);
        person.set(super::people::Is::AwayByHand, boot.flags & boot::MANUAL_AWAY != 0);
        person.set(super::people::Is::Recounted, true);
        let session = self.sessions.at(index);
        session.person = place;
        session.set_token(boot.token);
        self.settle_person(turn, place);
        Ok(())
    }

    /// The connection is nobody's any more.
    pub(super) fn part(&mut self, turn: &mut Turn<'_>, index: u32) {
        let place = std::mem::replace(&mut self.sessions.at(index).person, NIL);
        if place == NIL {
            return;
        }
        let person = &mut self.people[place];
        self.lists.remove(&mut person.conns, index);
        person.set(super::people::Is::Recounted, true);
        self.settle_person(turn, place);
    }

    /// A client says where it stands; the last frame of several lets it go on.
    pub(super) fn resume(
        &mut self,
        turn: &mut Turn<'_>,
        index: u32,
        epoch: &str,
        positions: &[(&str, u64)],
        last: bool,
    ) {
        let epoch_is_ours = *epoch == *self.epoch;
        let at = self.sessions.of(index).catching;
        let mut hint = None;
        for (name, position) in positions {
            let Some(place) = self.hub.find(self.secret.key_of(name)) else { continue };
            let Some(found) = self.behind.find(at, place, hint) else { continue };
            hint = Some(found);
            let record = self.behind.record(found);
            let floor = record.floor();
            (record.claim, record.cursor, record.bound) = if !epoch_is_ours {
                (Claim::Void, floor, floor)
            } else if *position > floor {
                (Claim::Above, floor, *position)
            } else {
                (Claim::Sound, *position, floor)
            };
        }
        if last {
            self.sessions.at(index).state = State::Active;
            self.behind.catching(at).phase = Phase::Ready;
            self.catch_up(turn, index);
        }
    }
}
