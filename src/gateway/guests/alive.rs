//! How long a guest stays: pings and their answers, the end of its token and of those of its subscriptions.

use std::collections::BTreeSet;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::commands::Wrong;
use crate::centrifuge::code::{Disconnect, Fault, Unsubscribed};
use crate::centrifuge::message::{RefreshResult, Reply, SubRefreshRequest, SubRefreshResult};
use crate::centrifuge::token::Refused;
use crate::gateway::session::{Is, State};
use crate::gateway::shard::{Gateway, Turn};
use crate::gateway::slab::NIL;
use crate::ids::Conn;
use crate::shard::Counter;
use crate::time::Mono;

/// When the tokens of subscriptions end, the grace included: by connection and place in the hub.
#[derive(Debug, Default)]
pub(super) struct Expiries {
    due: BTreeSet<(Mono, u32, u32)>,
    of: FxHashMap<(u32, u32), Mono>,
}

impl Expiries {
    pub(super) fn set(&mut self, index: u32, place: u32, due: Mono) {
        self.forget(index, place);
        self.of.insert((index, place), due);
        self.due.insert((due, index, place));
    }
    pub(super) fn forget(&mut self, index: u32, place: u32) {
        if !self.of.is_empty()
            && let Some(due) = self.of.remove(&(index, place))
        {
            self.due.remove(&(due, index, place));
        }
    }
    pub(super) fn deadline(&self) -> Option<Mono> {
        self.due.first().map(|(due, ..)| *due)
    }
}

/// Whole seconds since 1970.
pub(super) fn now_s(turn: &Turn<'_>) -> u64 {
    turn.now.wall.0 / 1_000_000
}

/// What a client is told of an expiry: never 0, which it would not be told (T17).
pub(super) fn ttl(expires_s: Option<u64>, now_s: u64) -> u32 {
    expires_s.map_or(0, |at| u32::try_from(at.saturating_sub(now_s)).unwrap_or(u32::MAX).max(1))
}

impl Gateway {
    /// A connection that said nothing after its upgrade.
    pub(in crate::gateway) fn check_connect(&mut self, turn: &mut Turn<'_>, conn: Conn) {
        let Some(session) = self.sessions.find(conn) else { return };
        let is_waiting = self.guests.connecting.contains_key(&conn.index());
        if session.state == State::Connecting || is_waiting {
            self.disconnect(turn, conn.index(), Disconnect::Stale);
        }
    }

    /// Pings a guest when it is due, also while it speaks: some clients count nothing else (`centrifuge.md` 1). Ends it when it does not
    /// answer, or when its token is over.
    pub(in crate::gateway) fn check_guest(&mut self, turn: &mut Turn<'_>, index: u32) {
        let second = turn.second();
        let client = &self.rules.client;
        let (ping_s, pong_s) =
            (client.ping_interval.as_secs() as u32, client.pong_timeout.as_secs() as u32);
        let session = self.sessions.of(index);
        if session.state != State::Active || session.guest() == NIL {
            return;
        }
        let since_s = second.saturating_sub(session.heard_s);
        if session.is(Is::Pinged) && since_s >= pong_s {
            turn.out.count(Counter::DeadReaped);
            return self.disconnect(turn, index, Disconnect::NoPong);
        }
        if self.rest_s(turn, index) == Some(0) {
            return self.disconnect(turn, index, Disconnect::Expired);
        }
        if since_s >= ping_s {
            let session = self.sessions.at(index);
            session.heard_s = second;
            session.set(Is::Pinged, true);
            self.ping(turn, index);
        }
        self.file(turn, index);
    }

    /// Seconds until a guest is to be looked at again.
    pub(in crate::gateway) fn guest_pause_s(&self, turn: &Turn<'_>, index: u32) -> u32 {
        let session = self.sessions.of(index);
        let client = &self.rules.client;
        let is_pinged = session.is(Is::Pinged);
        let pause = if is_pinged { client.pong_timeout } else { client.ping_interval };
        let due_s = session.heard_s + pause.as_secs().max(1) as u32;
        let pause_s = due_s.saturating_sub(turn.second());
        self.rest_s(turn, index).map_or(pause_s, |rest_s| pause_s.min(rest_s))
    }

    /// Seconds until the token of a guest is over, the grace included.
    fn rest_s(&self, turn: &Turn<'_>, index: u32) -> Option<u32> {
        let guest = self.sessions.of(index).guest();
        if guest == NIL || self.guests.all[guest].expires_s == 0 {
            return None;
        }
        let grace_s = self.rules.client.expiry_grace.as_secs() as u32;
        let end_s = self.guests.all[guest].expires_s.saturating_add(grace_s);
        Some(end_s.saturating_sub(now_s(turn) as u32))
    }

    /// A guest shows a new token for its connection.
    pub(super) fn refresh(
        &mut self,
        turn: &mut Turn<'_>,
        index: u32,
        id: u32,
        token: &str,
    ) -> Result<(), Wrong> {
        if token.is_empty() {
            return Err(Disconnect::BadRequest.into());
        }
        let now_s = now_s(turn);
        let claims = match self.rules.client.keys.verify(token, now_s) {
            Ok(claims) if claims.channel.is_some() => {
                return Err(Disconnect::InsufficientState.into());
            }
            Ok(claims) if claims.sub == self.guest_user(index) => claims,
            Err(Refused::Expired) => return Err(Disconnect::Expired.into()),
            Ok(_) | Err(Refused::Invalid) => return Err(Disconnect::InvalidToken.into()),
        };
        let expires_s = claims.expires_s().filter(|_| !self.rules.client.insecure);
        if expires_s.is_some_and(|at| at <= now_s) {
            return Err(Disconnect::Expired.into());
        }
        self.set_expiry(turn, index, expires_s);
        let result = RefreshResult {
            client: self.client_id(index),
            version: env!("CARGO_PKG_VERSION").into(),
            expires: expires_s.is_some(),
            ttl: ttl(expires_s, now_s),
        };
        self.answer(turn, index, Reply { id, refresh: Some(result), ..Reply::default() });
        Ok(())
    }

    pub(super) fn set_expiry(&mut self, turn: &mut Turn<'_>, index: u32, expires_s: Option<u64>) {
        let guest = self.sessions.of(index).guest();
        self.guests.all[guest].expires_s =
            expires_s.map_or(0, |at| u32::try_from(at).unwrap_or(u32::MAX).max(1));
        self.wheel.take(&mut self.sessions, index);
        self.file(turn, index);
    }

    /// A guest shows a new token for one subscription.
    pub(super) fn sub_refresh(
        &mut self,
        turn: &mut Turn<'_>,
        index: u32,
        id: u32,
        request: &SubRefreshRequest,
    ) -> Result<(), Wrong> {
        let (name, _) = self.channel_of(&request.channel)?;
        if request.token.is_empty() {
            return Err(Fault::BadRequest.into());
        }
        let place = self.place_of(index, name.whole).ok_or(Fault::PermissionDenied)?;
        let now_s = now_s(turn);
        let claims = match self.rules.client.keys.verify(&request.token, now_s) {
            Ok(claims) if claims.is_for(self.guest_user(index), name.whole) => claims,
            Err(Refused::Expired) => return Err(Disconnect::SubscriptionExpired.into()),
            Ok(_) | Err(Refused::Invalid) => return Err(Disconnect::InvalidToken.into()),
        };
        let expires_s = claims.expires_s();
        self.set_sub_expiry(turn, index, place, expires_s);
        let (expires, ttl) = (expires_s.is_some(), ttl(expires_s, now_s));
        let result = SubRefreshResult { expires, ttl };
        self.answer(turn, index, Reply { id, sub_refresh: Some(result), ..Reply::default() });
        Ok(())
    }

    /// Until when a subscription stands, the grace included.
    pub(super) fn set_sub_expiry(
        &mut self,
        turn: &Turn<'_>,
        index: u32,
        place: u32,
        expires_s: Option<u64>,
    ) {
        match expires_s {
            Some(at) => {
                let rest = Duration::from_secs(at.saturating_sub(now_s(turn)));
                let due = turn.now.mono + rest + self.rules.client.expiry_grace;
                self.guests.expiries.set(index, place, due);
            }
            None => self.guests.expiries.forget(index, place),
        }
    }

    /// Ends the subscriptions whose tokens are over.
    pub(in crate::gateway) fn end_subscriptions(&mut self, turn: &mut Turn<'_>) {
        while let Some(&(due, index, place)) = self.guests.expiries.due.first() {
            if due > turn.now.mono {
                return;
            }
            self.guests.expiries.forget(index, place);
            self.push_unsubscribed(turn, index, place, Unsubscribed::Expired);
        }
    }
}
