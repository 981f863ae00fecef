//! Subscribe, recover, go live: exact, by the same records and pages as every other catch-up.
//!
//! A subscription has a record from its first moment. When the channel's tip is known it is decided what it lacks; that is fetched,
//! gathered, and told in the reply, behind which the next live publication follows.

use prost::Message as _;
use rustc_hash::FxHashMap;

use super::commands::Wrong;
use crate::centrifuge::code::{Disconnect, Fault, Unsubscribed};
use crate::centrifuge::message::{
    Publication, Push, Reply, SubscribeRequest, SubscribeResult, UnsubscribePush,
};
use crate::centrifuge::push;
use crate::centrifuge::rules::{Asker, Name, Options, Rules};
use crate::centrifuge::token::Refused;
use crate::gateway::behind::Claim;
use crate::gateway::deliver::Event;
use crate::gateway::members::Member;
use crate::gateway::session::{Dialect, State};
use crate::gateway::shard::{Gateway, Turn};
use crate::ids::Conn;
use crate::ring::slot_of;

/// Subscriptions whose reply is not said yet: by connection and place in the hub.
#[derive(Debug, Default)]
pub(in crate::gateway) struct Joins(FxHashMap<(u32, u32), Join>);

#[derive(Debug)]
struct Join {
    conn: Conn,
    /// The number of its command.
    id: u32,
    /// Where the client stood, if it wants what came after that.
    since: Option<Since>,
    /// Something of it is lost, or too much to be told.
    is_unrecovered: bool,
    is_positioned: bool,
    is_recoverable: bool,
    publications: Vec<Publication>,
    bytes: usize,
}

#[derive(Debug)]
struct Since {
    epoch: Box<str>,
    offset: u64,
    /// How many publications the channel promises to have.
    count_max: u32,
}

/// Publications of one recovery.
const RECOVERED_MAX: u32 = 300;
/// Bytes of one recovery: its reply fits an outbox, and what clients take for one frame (T13).
const RECOVERED_BYTES_MAX: usize = 512 << 10;

impl Joins {
    pub(in crate::gateway) fn forget(&mut self, index: u32, place: u32) {
        if !self.0.is_empty() {
            self.0.remove(&(index, place));
        }
    }
}

impl Gateway {
    /// A guest wants a channel.
    pub(super) fn subscribe(
        &mut self,
        turn: &mut Turn<'_>,
        index: u32,
        id: u32,
        request: &SubscribeRequest,
    ) -> Result<(), Wrong> {
        if request.channel.is_empty() || !["", "fossil"].contains(&&*request.delta) {
            return Err(Disconnect::BadRequest.into());
        }
        let (name, options) = self.channel_of(&request.channel)?;
        if request.kind != 0 {
            return Err(Fault::NotAvailable.into());
        }
        if request.tf.is_some() {
            return Err(Fault::BadRequest.into());
        }
        let user = self.guest_user(index);
        if !request.token.is_empty() {
            let now_s = turn.now.wall.0 / 1_000_000;
            match self.rules.client.keys.verify(&request.token, now_s) {
                Ok(claims)
                    if claims.sub == user && claims.channel.as_deref() == Some(name.whole) => {}
                Ok(_) => return Err(Disconnect::InvalidToken.into()),
                Err(Refused::Expired) => return Err(Fault::TokenExpired.into()),
                Err(Refused::Invalid) => return Err(Fault::PermissionDenied.into()),
            }
        } else if !self.rules.may_subscribe(&name, options, user) {
            return Err(Fault::PermissionDenied.into());
        }
        let asker = Asker { user, is_subscribed: true };
        let has_history = self.rules.allows(options.history, asker);
        let has_stream = options.has_stream();
        let may_recover = options.force_recovery || options.allow_recovery || has_history;
        let may_position = options.force_positioning || options.allow_positioning || has_history;
        let is_recoverable =
            has_stream && (options.force_recovery || request.recoverable && may_recover);
        let is_positioned = has_stream
            && (is_recoverable || options.force_positioning || request.positioned && may_position);
        let since = (request.recover && is_recoverable).then(|| Since {
            epoch: request.epoch.as_str().into(),
            offset: request.offset,
            count_max: options.history_count.min(RECOVERED_MAX),
        });
        let inside = Rules::inside(name.whole);
        let join = Join {
            conn: self.sessions.conn(self.me.core, index),
            id,
            since,
            is_unrecovered: false,
            is_positioned,
            is_recoverable,
            publications: Vec::new(),
            bytes: 0,
        };
        self.join(turn, index, &inside, join)?;
        Ok(())
    }

    /// A channel that a command names, and what it is like.
    pub(super) fn channel_of<'a>(&self, channel: &'a str) -> Result<(Name<'a>, &Options), Wrong> {
        if channel.is_empty() {
            return Err(Disconnect::BadRequest.into());
        }
        let name = Name::read(channel, self.rules.client.name_bytes_max);
        let name = name.ok_or(Fault::BadRequest)?;
        let options = self.rules.options(&name).ok_or(Fault::UnknownChannel)?;
        Ok((name, options))
    }

    fn join(
        &mut self,
        turn: &mut Turn<'_>,
        index: u32,
        inside: &str,
        join: Join,
    ) -> Result<(), Fault> {
        let (key, slot) = (self.secret.key_of(inside), slot_of(inside));
        let known = self.hub.find(key);
        if known.is_some_and(|place| self.hub.member(place, index).is_some()) {
            return Err(Fault::AlreadySubscribed);
        }
        if self.sessions.of(index).channels.len() >= self.rules.client.channels_max as usize {
            return Err(Fault::LimitExceeded);
        }
        let flags = Member::BEHIND
            | match self.sessions.of(index).dialect {
                Dialect::Rtm => 0,
                Dialect::Json => Member::JSON,
                Dialect::Protobuf => Member::PROTOBUF,
            };
        let joined = self
            .hub
            .join(&mut self.names, key, slot, inside, Member::new(index, flags))
            .map_err(|_| Fault::Internal)?;
        let place = joined.place;
        if joined.is_new {
            self.say_of(turn, place);
        }
        self.lists.push(&mut self.sessions.at(index).channels, place);
        let at = self.catching_of(index);
        if self.behind.add(at, place, 0, 0).is_err() {
            self.unfollow(turn, index, place);
            return Err(Fault::Internal);
        }
        let record = self.behind.find(at, place, None).expect("just added");
        self.behind.record(record).claim = Claim::Fresh;
        self.guests.joins.0.insert((index, place), join);
        self.catch_up(turn, index);
        Ok(())
    }

    /// The channel's tip is known: what a new subscription lacks. Afterwards the record is like any other.
    pub(in crate::gateway) fn decide(&mut self, index: u32, record: u32, tip: u64) {
        let place = self.behind.record(record).place;
        let epoch = self.epoch_text(place);
        let one = self.behind.record(record);
        (one.claim, one.cursor) = (Claim::Begun, tip);
        let Some(join) = self.guests.joins.0.get_mut(&(index, place)) else { return };
        let Some(since) = &join.since else { return };
        let is_same = since.epoch.is_empty() || *since.epoch == *epoch;
        match tip.checked_sub(since.offset) {
            Some(lacks) if is_same && lacks <= u64::from(since.count_max) => {
                one.cursor = since.offset;
            }
            _ => join.is_unrecovered = true,
        }
    }

    /// An event of a page for a subscription that is not answered yet. False: it is.
    pub(in crate::gateway) fn gather(&mut self, index: u32, place: u32, event: &Event<'_>) -> bool {
        let Some(join) = self.guests.joins.0.get_mut(&(index, place)) else { return false };
        join.bytes += event.payload.len();
        match Publication::decode(event.payload) {
            Ok(publication) if !join.is_unrecovered && join.bytes <= RECOVERED_BYTES_MAX => {
                join.publications.push(Publication { offset: event.offset, ..publication });
            }
            _ => join.lose(),
        }
        true
    }

    /// Something that a subscription lacks cannot be had. False: it is answered already, and must begin anew.
    pub(in crate::gateway) fn lose(&mut self, index: u32, place: u32) -> bool {
        let join = self.guests.joins.0.get_mut(&(index, place));
        join.map(Join::lose).is_some()
    }

    /// A subscription stands at the hub's tip.
    pub(in crate::gateway) fn say_joined(&mut self, turn: &mut Turn<'_>, index: u32, place: u32) {
        let Some(join) = self.guests.joins.0.remove(&(index, place)) else { return };
        if self.sessions.find(join.conn).is_none_or(|session| session.state != State::Active) {
            return;
        }
        let tip = self.hub.tip(place).expect("a live channel has a tip");
        let (was_recovering, recovered) = (join.since.is_some(), !join.is_unrecovered);
        let recovered = was_recovering && recovered;
        let offset = match &join.since {
            Some(since) if recovered => since.offset,
            _ => tip,
        };
        let result = SubscribeResult {
            recoverable: join.is_recoverable,
            positioned: join.is_positioned,
            epoch: if join.is_positioned { self.epoch_text(place) } else { String::new() },
            offset: if join.is_positioned { offset } else { 0 },
            was_recovering,
            recovered,
            publications: join.publications,
            ..SubscribeResult::default()
        };
        let reply = Reply { id: join.id, subscribe: Some(result), ..Reply::default() };
        self.answer(turn, index, reply);
    }

    /// A guest wants a channel no more. It is answered also when it never had it.
    pub(super) fn unsubscribe(
        &mut self,
        turn: &mut Turn<'_>,
        index: u32,
        id: u32,
        channel: &str,
    ) -> Result<(), Wrong> {
        if channel.is_empty() {
            return Err(Disconnect::BadRequest.into());
        }
        if let Some(place) = self.place_of(index, channel) {
            let join = self.guests.joins.0.remove(&(index, place));
            self.unfollow(turn, index, place);
            if let Some(join) = join {
                self.fail(turn, index, join.id, Fault::Internal);
            }
        }
        self.done(turn, index, |done| Reply { unsubscribe: Some(done), ..Reply::default() }, id);
        Ok(())
    }

    /// The place of a channel that a guest is subscribed to.
    pub(super) fn place_of(&self, index: u32, channel: &str) -> Option<u32> {
        let place = self.hub.find(self.secret.key_of(&Rules::inside(channel)))?;
        self.hub.member(place, index).map(|_| place)
    }

    /// We end a subscription, and say why.
    pub(in crate::gateway) fn push_unsubscribed(
        &mut self,
        turn: &mut Turn<'_>,
        index: u32,
        place: u32,
        why: Unsubscribed,
    ) {
        let inside = self.names.text(self.hub.name(place));
        let channel = Rules::outside(inside).unwrap_or(inside).to_string();
        self.unfollow(turn, index, place);
        let unsubscribe = UnsubscribePush { code: why.code(), reason: why.reason().into() };
        let push = Push { channel, unsubscribe: Some(unsubscribe), ..Push::default() };
        self.answer(turn, index, Reply { push: Some(push), ..Reply::default() });
    }

    /// How clients are told which life of a channel this is. Never empty (T19).
    pub(super) fn epoch_text(&self, place: u32) -> String {
        push::epoch(self.hub.epoch(place))
    }

    /// The offset that clients are told: none in a channel without a stream.
    pub(in crate::gateway) fn shown_offset(&self, outside: &str, offset: u64) -> u64 {
        let name = Name::read(outside, u32::MAX);
        let has_stream =
            name.and_then(|name| self.rules.options(&name)).is_some_and(Options::has_stream);
        if has_stream { offset } else { 0 }
    }
}

impl Join {
    fn lose(&mut self) {
        self.is_unrecovered = true;
        self.publications.clear();
    }
}
