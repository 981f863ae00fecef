//! Subscribe, recover, go live: exact, by the same records and pages as every other catch-up.
//!
//! A subscription has a record from its first moment. When the channel's tip is known it is decided what it lacks; that is fetched,
//! gathered, and told in the reply, behind which the next live publication follows.

use rustc_hash::FxHashMap;

use super::alive::{now_s, ttl};
use super::commands::Wrong;
use crate::centrifuge::code::{Disconnect, Fault, Unsubscribed};
use crate::centrifuge::message::{
    Publication, Push, Reply, SubscribeRequest, SubscribeResult, UnsubscribePush,
};
use crate::centrifuge::rules::{Asker, Name, Options, Rules};
use crate::centrifuge::token::{Grant, Refused};
use crate::centrifuge::{payload, push};
use crate::gateway::behind::Claim;
use crate::gateway::deliver::Event;
use crate::gateway::members::Member;
use crate::gateway::session::{Dialect, State};
use crate::gateway::shard::{Gateway, Turn};
use crate::gateway::slab::NIL;
use crate::ids::Conn;
use crate::ring::slot_of;
use crate::wire::Membership;

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
    /// It does not want the subscription then: it asks its application first.
    is_strict: bool,
    /// In a conversation: the offset at which the user was a member; and whether it left after that.
    admitted: u64,
    has_left: bool,
    is_positioned: bool,
    is_recoverable: bool,
    /// It is given patches where they are shorter.
    takes_deltas: bool,
    /// When its token expires, in seconds since 1970.
    expires_s: Option<u64>,
    /// Told with the reply.
    data: Vec<u8>,
    publications: Vec<Publication>,
    bytes: usize,
}

/// How a subscription came to be, and what it has.
struct Terms {
    options: Options,
    grant: Grant,
    expires_s: Option<u64>,
    /// The number of its command; 0: by us.
    id: u32,
    /// See `Join::admitted`.
    admitted: u64,
}

#[derive(Debug)]
struct Since {
    epoch: Box<str>,
    offset: u64,
    /// How many publications the channel promises to have.
    count_max: u32,
}

/// The bit of a request's flags by which it refuses a recovery that is not whole.
const STRICT: i64 = 2;
/// Publications of one recovery.
const RECOVERED_MAX: u32 = 300;

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
        if let Some(conversation) = name.conversation() {
            return self.ask_admission(turn, index, id, (conversation, request));
        }
        let user = self.guest_user(index);
        let (mut grant, mut expires_s) = (Grant::default(), None);
        if !request.token.is_empty() {
            match self.rules.client.keys.verify(&request.token, now_s(turn)) {
                Ok(claims)
                    if claims.sub == user && claims.channel.as_deref() == Some(name.whole) =>
                {
                    (grant, expires_s) = (claims.grant(), claims.expires_s());
                    if expires_s.is_some_and(|at| at <= now_s(turn)) {
                        return Err(Fault::TokenExpired.into());
                    }
                }
                Ok(_) => return Err(Disconnect::InvalidToken.into()),
                Err(Refused::Expired) => return Err(Fault::TokenExpired.into()),
                Err(Refused::Invalid) => return Err(Fault::PermissionDenied.into()),
            }
        } else if !self.rules.may_subscribe(&name, options, user) {
            return Err(Fault::PermissionDenied.into());
        }
        let options = grant.overrides.apply(options);
        let terms = Terms { options, grant, expires_s, id, admitted: 0 };
        self.join_on(turn, index, &name, terms, request)?;
        Ok(())
    }

    /// We subscribe a guest, by its token or for a back end.
    pub(super) fn subscribe_by_us(
        &mut self,
        turn: &mut Turn<'_>,
        index: u32,
        channel: &str,
        grant: &Grant,
        since: Option<&SubscribeRequest>,
    ) -> Result<(), Fault> {
        let name = Name::read(channel, self.rules.client.name_bytes_max);
        let name = name.ok_or(Fault::BadRequest)?;
        if name.conversation().is_some() {
            return Err(Fault::PermissionDenied);
        }
        let options = self.rules.options(&name).ok_or(Fault::UnknownChannel)?;
        let options = grant.overrides.apply(options);
        let terms = Terms { options, grant: grant.clone(), expires_s: None, id: 0, admitted: 0 };
        let request = since.cloned().unwrap_or_default();
        self.join_on(turn, index, &name, terms, &request)
    }

    /// The user is a member of a conversation, and was so when that stood at `offset`.
    pub(super) fn join_conversation(
        &mut self,
        turn: &mut Turn<'_>,
        index: u32,
        id: u32,
        request: &SubscribeRequest,
        offset: u64,
    ) -> Result<(), Fault> {
        let name = Name::read(&request.channel, u32::MAX).ok_or(Fault::BadRequest)?;
        let options = self.rules.options(&name).ok_or(Fault::UnknownChannel)?.clone();
        let grant = Grant::default();
        let terms = Terms { options, grant, expires_s: None, id, admitted: offset };
        self.join_on(turn, index, &name, terms, request)
    }

    fn join_on(
        &mut self,
        turn: &mut Turn<'_>,
        index: u32,
        name: &Name<'_>,
        terms: Terms,
        request: &SubscribeRequest,
    ) -> Result<(), Fault> {
        let Terms { options, grant, expires_s, id, admitted } = terms;
        let asker = Asker { user: self.guest_user(index), is_subscribed: true };
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
            count_max: match name.conversation() {
                Some(_) => options.history_count,
                None => options.history_count.min(RECOVERED_MAX),
            },
        });
        let inside = Rules::inside(name.whole);
        let join = Join {
            conn: self.sessions.conn(self.me.core, index),
            id,
            since,
            is_unrecovered: false,
            admitted,
            has_left: false,
            is_strict: request.flag & STRICT != 0,
            is_positioned,
            is_recoverable,
            takes_deltas: has_stream && options.allow_fossil && request.delta == "fossil",
            expires_s,
            data: grant.data(),
            publications: Vec::new(),
            bytes: 0,
        };
        let shows = options.presence && self.rules.allows(options.show_presence, asker);
        let hears_joins = options.force_push_join_leave || request.join_leave && shows;
        let flags = [
            (hears_joins, Member::HEARS_JOINS),
            (options.presence || options.join_leave, Member::IS_REPORTED),
            (options.join_leave, Member::IS_TOLD),
            (id == 0, Member::BY_SERVER),
        ];
        let flags = flags.iter().filter(|(is, _)| *is).fold(0, |all, (_, flag)| all | flag);
        self.join(turn, index, &inside, flags, (join, grant.info()))
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
        flags: u8,
        (join, info): (Join, Vec<u8>),
    ) -> Result<(), Fault> {
        let (key, slot) = (self.secret.key_of(inside), slot_of(inside));
        let known = self.hub.find(key);
        if known.is_some_and(|place| self.hub.member(place, index).is_some()) {
            return Err(Fault::AlreadySubscribed);
        }
        if self.sessions.of(index).channels.len() >= self.rules.client.channels_max as usize {
            return Err(Fault::LimitExceeded);
        }
        let flags = flags
            | Member::BEHIND
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
        if !info.is_empty() {
            self.guests.infos.insert((index, place), info.into());
        }
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
        // The hub may not have come so far.
        let tip = tip.max(join.admitted);
        one.cursor = tip;
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
        // The reply fits an outbox, and what clients take for one frame (T13).
        let bytes_max = self.limits.guest_outbox_bytes_max as usize / 2;
        if !self.guests.joins.0.contains_key(&(index, place)) {
            return false;
        }
        let user: Box<str> = self.guest_user(index).into();
        let user = &*user;
        let Some(join) = self.guests.joins.0.get_mut(&(index, place)) else { return false };
        join.bytes += event.payload.len();
        let is_json = self.sessions.of(index).dialect == Dialect::Json;
        let publication = if Rules::is_memory(self.names.text(self.hub.name(place))) {
            payload::read(event.payload, event.offset, is_json)
        } else {
            let (data, offset) = (event.payload.to_vec(), event.offset);
            Some(Publication { data, offset, ..Publication::default() })
        };
        let leaves = event.member.is_some_and(|member| {
            member.what == Membership::Left && member.user == user && member.offset > join.admitted
        });
        join.has_left |= leaves;
        match publication {
            Some(publication) if !join.is_unrecovered && join.bytes <= bytes_max => {
                join.publications.push(publication);
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

    /// Something that is no JSON was published in a channel of somebody who speaks JSON.
    pub(in crate::gateway) fn is_unfit(&mut self, index: u32, place: u32) {
        self.guests.unfit.push((index, place));
    }

    /// Ends such subscriptions, for good: silence would be a loss, and the end of the connection a weapon (T22).
    pub(in crate::gateway) fn end_unfit(&mut self, turn: &mut Turn<'_>) {
        while let Some((index, place)) = self.guests.unfit.pop() {
            if self.hub.contains(place) && self.hub.member(place, index).is_some() {
                self.push_unsubscribed(turn, index, place, Unsubscribed::Unfit);
            }
        }
    }

    /// The channel has a new life: where a subscription stands that is not answered yet is decided again. False: it is answered.
    pub(in crate::gateway) fn begin_anew(&mut self, index: u32, place: u32) -> bool {
        let Some(join) = self.guests.joins.0.get_mut(&(index, place)) else { return false };
        join.publications.clear();
        join.bytes = 0;
        let at = self.sessions.of(index).catching;
        if at != NIL
            && let Some(record) = self.behind.find(at, place, None)
        {
            self.behind.record(record).claim = Claim::Fresh;
        }
        true
    }

    /// A subscription stands at the hub's tip.
    pub(in crate::gateway) fn say_joined(&mut self, turn: &mut Turn<'_>, index: u32, place: u32) {
        let Some(join) = self.guests.joins.0.remove(&(index, place)) else { return };
        if self.sessions.find(join.conn).is_none_or(|session| session.state != State::Active) {
            return;
        }
        if join.has_left {
            self.unfollow(turn, index, place);
            return self.fail(turn, index, join.id, Fault::PermissionDenied);
        }
        if join.is_unrecovered && join.is_strict {
            self.unfollow(turn, index, place);
            return self.fail(turn, index, join.id, Fault::UnrecoverablePosition);
        }
        let tip = self.hub.tip(place).expect("a live channel has a tip");
        let (was_recovering, recovered) = (join.since.is_some(), !join.is_unrecovered);
        let recovered = was_recovering && recovered;
        let offset = match &join.since {
            Some(since) if recovered => since.offset,
            _ => tip,
        };
        let framing = self.sessions.of(index).dialect.framing().expect("a guest has a framing");
        let publications = join.publications.into_iter().map(|publication| {
            if join.takes_deltas { push::as_text(framing, publication) } else { publication }
        });
        if join.takes_deltas {
            self.guests.deltas.join(index, place);
        }
        let result = SubscribeResult {
            recoverable: join.is_recoverable,
            positioned: join.is_positioned,
            epoch: if join.is_positioned { self.epoch_text(place) } else { String::new() },
            offset: if join.is_positioned { offset } else { 0 },
            was_recovering,
            recovered,
            publications: publications.collect(),
            delta: join.takes_deltas,
            data: join.data,
            expires: join.expires_s.is_some(),
            ttl: ttl(join.expires_s, now_s(turn)),
        };
        self.set_sub_expiry(turn, index, place, join.expires_s);
        if join.id == 0 {
            let inside = self.names.text(self.hub.name(place));
            let channel = Rules::outside(inside).into_owned();
            self.entered(turn, index, place);
            if self.guests.is_connecting(index) {
                return self.joined_by_us(index, channel, result);
            }
            return self.push_subscribed(turn, index, place, result);
        }
        let reply = Reply { id: join.id, subscribe: Some(result), ..Reply::default() };
        self.answer(turn, index, reply);
        self.entered(turn, index, place);
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
        self.forget_admission(turn, index, channel);
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
        let member = self.hub.member(place, index);
        if member.is_none_or(|member| member.flags() & Member::BY_SERVER != 0) {
            // It cannot subscribe by itself: it comes anew.
            let why = match why {
                Unsubscribed::Expired => Disconnect::SubscriptionExpired,
                _ => Disconnect::InsufficientState,
            };
            return self.disconnect(turn, index, why);
        }
        self.unsubscribe_by_us(turn, index, place, why);
    }

    /// The same, whoever subscribed it.
    pub(super) fn unsubscribe_by_us(
        &mut self,
        turn: &mut Turn<'_>,
        index: u32,
        place: u32,
        why: Unsubscribed,
    ) {
        let channel = Rules::outside(self.names.text(self.hub.name(place))).into_owned();
        if let Some(join) = self.guests.joins.0.remove(&(index, place))
            && join.id != 0
        {
            self.fail(turn, index, join.id, Fault::Internal);
        }
        self.unfollow(turn, index, place);
        let unsubscribe = UnsubscribePush { code: why.code(), reason: why.reason().into() };
        let push = Push { channel, unsubscribe: Some(unsubscribe), ..Push::default() };
        self.answer(turn, index, Reply { push: Some(push), ..Reply::default() });
    }

    /// How clients are told which life of a channel this is. Never empty (T19).
    pub(super) fn epoch_text(&self, place: u32) -> String {
        match self.hub.epoch(place) {
            0 => self.epoch.to_string(),
            epoch => push::epoch(epoch),
        }
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
