//! Who a guest is: its first command, and the end of its connection.

use std::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher24};

use super::Guest;
use crate::centrifuge::code::{Disconnect, Fault};
use crate::centrifuge::message::{ConnectRequest, ConnectResult, Reply};
use crate::centrifuge::token::{Claims, Refused};
use crate::gateway::session::{Is, State};
use crate::gateway::shard::{Gateway, Turn};
use crate::gateway::slab::NIL;
use crate::ids::Conn;
use crate::shard::Counter;

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
        let now_s = turn.now.wall.0 / 1_000_000;
        let claims = match client.keys.verify(&request.token, now_s) {
            _ if request.token.is_empty() && (client.insecure || client.allows_anonymous) => {
                Claims::default()
            }
            _ if request.token.is_empty() => {
                return self.disconnect(turn, index, Disconnect::BadRequest);
            }
            Ok(claims) if claims.channel.is_none() => claims,
            Err(Refused::Expired) => {
                // It comes again, with another token.
                self.sessions.at(index).set(Is::Leaving, true);
                return self.fail(turn, index, id, Fault::TokenExpired);
            }
            Ok(_) | Err(Refused::Invalid) => {
                return self.disconnect(turn, index, Disconnect::InvalidToken);
            }
        };
        let expires_s = claims.expires_s().filter(|_| !client.insecure);
        if expires_s.is_some_and(|at| at <= now_s) {
            self.sessions.at(index).set(Is::Leaving, true);
            return self.fail(turn, index, id, Fault::TokenExpired);
        }
        let key = self.secret.key_of(&claims.sub);
        let is_short = claims.sub.len() <= self.limits.name_bytes_max as usize;
        let user = if is_short { self.names.intern(key, &claims.sub).ok() } else { None };
        let Some(user) = user else {
            turn.out.count(Counter::ConnectionsShed);
            return self.disconnect(turn, index, Disconnect::ConnectionLimit);
        };
        let info = claims.info().into_boxed_slice();
        let guest = self.guests.all.insert(Guest { user, is_vacant: false, next: NIL, info });
        let second = turn.second();
        let session = self.sessions.at(index);
        (session.guest, session.state) = (guest, State::Active);
        // The first ping comes at another time for each of those that came together.
        let ping_s = self.rules.client.ping_interval.as_secs() as u32;
        session.heard_s = second.saturating_sub(index % (ping_s / 2).max(1));
        let result = ConnectResult {
            client: self.client_id(index),
            version: env!("CARGO_PKG_VERSION").into(),
            // Rounded up: without a ttl clients do not bear an expiry (T17).
            expires: expires_s.is_some(),
            ttl: expires_s.map_or(0, |at| u32::try_from(at - now_s).unwrap_or(u32::MAX).max(1)),
            ping: ping_s,
            pong: true,
        };
        self.answer(turn, index, Reply { id, connect: Some(result), ..Reply::default() });
        self.file(turn, index);
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
        self.names.text(self.guests.all[self.sessions.of(index).guest].user)
    }

    pub(super) fn guest_info(&self, index: u32) -> &[u8] {
        &self.guests.all[self.sessions.of(index).guest].info
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

    /// A connection that said nothing after its upgrade.
    pub(in crate::gateway) fn check_connect(&mut self, turn: &mut Turn<'_>, conn: Conn) {
        if self.sessions.find(conn).is_some_and(|one| one.state == State::Connecting) {
            self.disconnect(turn, conn.index(), Disconnect::Stale);
        }
    }

    /// Pings a guest when it is due, also while it speaks: some clients count nothing else (`centrifuge.md` 1).
    pub(in crate::gateway) fn check_guest(&mut self, turn: &mut Turn<'_>, index: u32) {
        let second = turn.second();
        let client = &self.rules.client;
        let (ping_s, pong_s) =
            (client.ping_interval.as_secs() as u32, client.pong_timeout.as_secs() as u32);
        let session = self.sessions.at(index);
        if session.state != State::Active {
            return;
        }
        let since_s = second.saturating_sub(session.heard_s);
        if session.is(Is::Pinged) && since_s >= pong_s {
            turn.out.count(Counter::DeadReaped);
            return self.disconnect(turn, index, Disconnect::NoPong);
        }
        if since_s >= ping_s {
            session.heard_s = second;
            session.set(Is::Pinged, true);
            self.ping(turn, index);
        }
        self.file(turn, index);
    }

    /// What a guest holds besides its session and its channels.
    pub(in crate::gateway) fn forget_guest(&mut self, index: u32) {
        let guest = std::mem::replace(&mut self.sessions.at(index).guest, NIL);
        if guest != NIL {
            let user = self.guests.all.remove(guest).user;
            self.names.release(user);
        }
    }
}
