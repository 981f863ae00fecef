//! Subscribe and unsubscribe: who may, on which terms.
//!
//! A subscription has a record from its first moment, like every other catch-up; what becomes of it is in `recover`.

use rustc_hash::FxHashMap;

use super::alive::now_s;
use super::commands::Wrong;
use crate::centrifuge::code::{Disconnect, Fault, Unsubscribed};
use crate::centrifuge::filter::Filter;
use crate::centrifuge::message::{
    Nothing, Publication, Push, Reply, SubscribeRequest, UnsubscribePush,
};
use crate::centrifuge::push;
use crate::centrifuge::rules::{Asker, Name, Options, Rules};
use crate::centrifuge::token::{Grant, Refused};
use crate::gateway::behind::Claim;
use crate::gateway::members::Member;
use crate::gateway::session::Dialect;
use crate::gateway::shard::{Gateway, Turn};
use crate::ids::Conn;
use crate::ring::slot_of;

/// Subscriptions whose reply is not said yet: by connection and place in the hub.
#[derive(Debug, Default)]
pub(in crate::gateway) struct Joins(pub(super) FxHashMap<(u32, u32), Join>);

#[derive(Debug)]
pub(super) struct Join {
    pub(super) conn: Conn,
    /// The number of its command.
    pub(super) id: u32,
    /// Where the client stood, if it wants what came after that.
    pub(super) since: Option<Since>,
    /// Something of it is lost, or too much to be told.
    pub(super) is_unrecovered: bool,
    /// It claimed more than the hub had, and the owner said how far the channel is.
    pub(super) owner_was_asked: bool,
    /// It does not want the subscription then: it asks its application first.
    pub(super) is_strict: bool,
    /// In a conversation: the offset at which the user was a member; and whether it left after that.
    pub(super) admitted: u64,
    pub(super) has_left: bool,
    pub(super) is_positioned: bool,
    pub(super) is_recoverable: bool,
    /// It is given patches where they are shorter.
    pub(super) takes_deltas: bool,
    /// When its token expires, in seconds since 1970.
    pub(super) expires_s: Option<u64>,
    /// Told with the reply.
    pub(super) data: Vec<u8>,
    pub(super) publications: Vec<Publication>,
    pub(super) bytes: usize,
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
pub(super) struct Since {
    pub(super) epoch: Box<str>,
    pub(super) offset: u64,
    /// How many publications the channel promises to have.
    pub(super) count_max: u32,
    /// Only the newest is wanted.
    pub(super) is_cache: bool,
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
        let has_filter = request.tf.is_some();
        if has_filter && (!options.allow_tags_filter || !request.delta.is_empty()) {
            return Err(Fault::BadRequest.into());
        }
        if let Some(conversation) = name.conversation() {
            return self.ask_admission(turn, index, id, (conversation, request));
        }
        let user = self.guest_user(index);
        let (mut grant, mut expires_s) = (Grant::default(), None);
        if !request.token.is_empty() {
            match self.rules.client.keys.verify(&request.token, now_s(turn)) {
                Ok(claims) if claims.is_for(user, name.whole) => {
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
        let options = self.rules.options_of(&name)?;
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
        let filter = match &request.tf {
            Some(node) => Some(Filter::read(node).ok_or(Fault::BadRequest)?),
            None => None,
        };
        let is_auto = options.is_cache && options.auto_cache_recover;
        let since = ((request.recover || is_auto) && is_recoverable).then(|| Since {
            epoch: request.epoch.as_str().into(),
            offset: request.offset,
            is_cache: options.is_cache,
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
            owner_was_asked: false,
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
        self.join(turn, index, &inside, flags, (join, grant.info(), filter))
    }

    /// A channel that a command names, and what it is like.
    pub(super) fn channel_of<'a>(&self, channel: &'a str) -> Result<(Name<'a>, &Options), Wrong> {
        if channel.is_empty() {
            return Err(Disconnect::BadRequest.into());
        }
        let name = Name::read(channel, self.rules.client.name_bytes_max);
        let name = name.ok_or(Fault::BadRequest)?;
        let options = self.rules.options_of(&name)?;
        Ok((name, options))
    }

    fn join(
        &mut self,
        turn: &mut Turn<'_>,
        index: u32,
        inside: &str,
        flags: u8,
        (join, info, filter): (Join, Vec<u8>, Option<Filter>),
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
        if let Some(filter) = filter {
            self.guests.filters.join(index, place, filter);
        }
        if !info.is_empty() {
            self.guests.infos.insert((index, place), info.into());
        }
        self.catch_up(turn, index);
        Ok(())
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
        self.answer(turn, index, Reply { id, unsubscribe: Some(Nothing {}), ..Reply::default() });
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
