//! The closed list of messages between shards, and between a control-plane shard and its driver.
//!
//! A subscription has the same words twice: a gateway core (its *hub*) subscribes at the *interest* of its node, which lives on
//! core `slot % cores` and subscribes at the *owner*. What travels one way on one link stays in order, so that an answer which
//! says "up to offset n" and the live publications after n fit together without a hold.

use super::codec::{Broken, Field, Packed, Reader};
use crate::ids::{Ask, Conn, Handle, Key, NodeId, Origin, Slot};

/// What a link says first, each time it comes up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Hello {
    pub version: u16,
    pub node: NodeId,
    /// Drawn at each start of the node's process.
    pub incarnation: u64,
}

/// Whether a publication also says that somebody came or went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Membership {
    /// Travels in the user's own channel: follow `channel`, whose tip was `offset` when the user came in.
    Joined = 1,
    /// Travels in the conversation: the user follows it no more.
    Left = 2,
}

/// The part of a publication that changes who follows what. The higher offset wins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Member<'a> {
    pub what: Membership,
    /// Who came or went: a user's id, which is also the name of the user's own channel.
    pub user: &'a str,
    /// The conversation.
    pub channel: &'a str,
    /// The offset in the conversation at which it happened.
    pub offset: u64,
}

impl<'a> Field<'a> for Member<'a> {
    fn write(&self, to: &mut Vec<u8>) {
        (self.what as u8).write(to);
        self.user.write(to);
        self.channel.write(to);
        self.offset.write(to);
    }
    fn read(from: &mut Reader<'a>) -> Result<Self, Broken> {
        let what = match u8::read(from)? {
            1 => Membership::Joined,
            2 => Membership::Left,
            _ => return Err(Broken),
        };
        Ok(Self {
            what,
            user: Field::read(from)?,
            channel: Field::read(from)?,
            offset: Field::read(from)?,
        })
    }
}

impl<'a> Field<'a> for Option<Member<'a>> {
    fn write(&self, to: &mut Vec<u8>) {
        self.is_some().write(to);
        if let Some(member) = self {
            member.write(to);
        }
    }
    fn read(from: &mut Reader<'a>) -> Result<Self, Broken> {
        Ok(if bool::read(from)? { Some(Field::read(from)?) } else { None })
    }
}

/// On which terms a memory channel takes a publication.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Terms {
    /// Seconds for which the channel's past is kept, from this publication on; 0: as long as there is room.
    pub kept_s: u32,
    /// Whoever says the same again within some minutes is told what the first one was told. The default: nobody does.
    pub once: Key,
    /// Of the state that it describes: what is not newer than the channel's is not published. 0: it has none.
    pub version: u64,
    /// Versions of another era are not compared.
    pub era: Key,
}

impl Field<'_> for Terms {
    fn write(&self, to: &mut Vec<u8>) {
        self.kept_s.write(to);
        self.once.write(to);
        self.version.write(to);
        self.era.write(to);
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, Broken> {
        Ok(Self {
            kept_s: Field::read(from)?,
            once: Field::read(from)?,
            version: Field::read(from)?,
            era: Field::read(from)?,
        })
    }
}

macro_rules! messages {
    ($($(#[$doc:meta])* $tag:literal $name:ident { $($(#[$fdoc:meta])* $field:ident: $t:ty),* $(,)? })*) => {
        /// Everything that can be said. `Display` of a tag is its name, for counters.
        #[derive(Clone, Copy, PartialEq, Debug)]
        pub enum Message<'a> {
            $($(#[$doc])* $name { $($(#[$fdoc])* $field: $t),* },)*
        }

        /// Every message's tag and name, in the order of the list: golden vectors are kept for each.
        pub const TAGS: &[(u8, &str)] = &[$(($tag, stringify!($name))),*];

        impl<'a> Message<'a> {
            /// Appends the message's bytes.
            pub fn encode(&self, to: &mut Vec<u8>) {
                match self {
                    $(Self::$name { $($field),* } => {
                        to.push($tag);
                        $(Field::write($field, to);)*
                    })*
                }
            }
            /// One whole message and nothing behind it.
            pub fn decode(bytes: &'a [u8]) -> Result<Self, Broken> {
                let mut from = Reader::new(bytes);
                let message = match u8::read(&mut from)? {
                    $($tag => Self::$name { $($field: Field::read(&mut from)?),* },)*
                    _ => return Err(Broken),
                };
                if from.is_empty() { Ok(message) } else { Err(Broken) }
            }
            /// The message's name, for counters and traces.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$name { .. } => stringify!($name),)*
                }
            }
        }
    };
}

messages! {
    // ---- subscriber -> owner (hub -> interest -> owner)

    /// "Send me this channel." Answered by `Suback` or `Subnack`. Lost with the link: said again after `PeerUp`.
    1 Subscribe { slot: Slot, seat_epoch: u32, key: Key, handle: Handle, namespace: u16, name: &'a str }
    /// "No more." Answered by `Unsuback`, after which the handle may be used again. Lost with the link: so is the subscription.
    2 Unsubscribe { slot: Slot, key: Key, handle: Handle }
    /// "What came after `after`?" Answered by `Past`s and one `PastEnd` with the same `ask`, at most `count_max` and about
    /// `bytes_max`. The top 8 bits of `ask` belong to the interest (it stores the asking core there). Lost: asked again.
    3 Fetch { slot: Slot, seat_epoch: u32, key: Key, handle: Handle, ask: Ask, after: u64, count_max: u32, bytes_max: u32, name: &'a str }
    /// A transient event for everybody who follows the channel. Lost: gone, nobody asks.
    4 Emit { slot: Slot, key: Key, origin: Origin, payload: &'a [u8] }

    /// "Where does this channel stand, and what came after `after`?" A memory channel that nobody knows yet is made. Answered by `ReadIs`
    /// with at most `count_max` publications and about `bytes_max`. The top 8 bits of `ask` are as in `Fetch`. Lost: asked again, or an error.
    5 Read { slot: Slot, seat_epoch: u32, key: Key, ask: Ask, namespace: u16, after: u64, count_max: u32, bytes_max: u32, name: &'a str }

    /// A client of this gateway core is in the channel. `is_new`: it was not before; `is_told`: others hear of its coming and going, as `info`.
    /// Answered by `Noted`. The top 8 bits of `ask` are as in `Fetch`. Lost: said again.
    6 Enter { slot: Slot, seat_epoch: u32, key: Key, ask: Ask, conn: Conn, user: Key, is_new: bool, is_told: bool, info: &'a [u8] }
    /// It is there no more. Answered by `Noted`. Lost with the link: then its lease ends.
    7 Exit { slot: Slot, seat_epoch: u32, key: Key, ask: Ask, conn: Conn }
    /// Who is in the channel, each by its `info`; not `is_listed`: only how many. Answered by `PresentIs`.
    8 Present { slot: Slot, seat_epoch: u32, key: Key, ask: Ask, is_listed: bool }
    /// The past of a memory channel is of no use any more; where it stands does not change. Answered by `Noted`. Lost: an error.
    9 Erase { slot: Slot, seat_epoch: u32, key: Key, ask: Ask }

    // ---- owner -> subscriber (owner -> interest -> hub)

    /// The subscription stands; what follows on this link begins at `tip + 1`. Whoever holds less than `tip` fetches.
    10 Suback { handle: Handle, epoch: u32, tip: u64 }
    /// The subscription is gone and the handle is free.
    11 Unsuback { handle: Handle }
    /// Not now, or not here: see `Nack`. The subscriber tries again after a pause.
    12 Subnack { handle: Handle, why: u8 }
    /// A live publication, in order, without holes. Lost: only with the link.
    13 Publication { handle: Handle, offset: u64, origin: Origin, member: Option<Member<'a>>, payload: &'a [u8] }
    /// One publication of the past, for one `Fetch`.
    14 Past { ask: Ask, offset: u64, origin: Origin, member: Option<Member<'a>>, payload: &'a [u8] }
    /// The end of the answer to one `Fetch`: everything up to and with `upto` was sent. `complete`: `upto` is the owner's tip
    /// now, what comes next on the link is `upto + 1`. `missing`: offsets up to here, from the asked on, nobody has any more
    /// (0: none missing).
    15 PastEnd { ask: Ask, handle: Handle, upto: u64, complete: bool, missing: u64 }
    /// The fetch cannot be answered now (the source is full or away): ask again after a pause.
    16 PastRefused { ask: Ask, handle: Handle }
    /// A transient event. Lost: gone.
    17 Event { handle: Handle, origin: Origin, payload: &'a [u8] }

    /// The answer to a `Read`: `ok` false, not now. `publications`: (offset: u64, payload: &[u8]) pairs, in order.
    18 ReadIs { ask: Ask, ok: bool, epoch: u32, tip: u64, publications: Packed<'a> }

    /// The answer to `Enter`, `Exit` and `Erase`. `ok` false: not now, say it again.
    19 Noted { ask: Ask, ok: bool }
    /// The answer to `Present`. `ok` false: not now, or too many to be listed. `infos`: a list of `&[u8]`.
    22 PresentIs { ask: Ask, ok: bool, clients: u32, users: u32, infos: Packed<'a> }

    // ---- dispatcher (or a gateway, for a client) -> owner

    /// A publication for the owner of its slot. `offset` 0: a memory channel, the owner counts. Answered by `Published`.
    /// Lost: the dispatcher sends it again.
    20 Publish { slot: Slot, seat_epoch: u32, key: Key, ask: Ask, namespace: u16, offset: u64, origin: Origin, member: Option<Member<'a>>, terms: Terms, name: &'a str, payload: &'a [u8] }
    /// `accepted`: the owner holds it (or held it already), in this `epoch` (0: durable). Otherwise `why` is a `Nack`.
    21 Published { ask: Ask, accepted: bool, why: u8, seat_epoch: u32, epoch: u32, offset: u64 }

    // ---- gateway core -> owner

    /// So many subscriptions the sender has here by what was said on this link before, and the sum of them (`tally`), in the ring of `ring_epoch`.
    /// Lost: the next one says it.
    23 Tally { ring_epoch: u64, count: u32, sum: u64 }

    // ---- channel owner -> the next owner of a slot that moves by plan

    /// The memory channels of a slot follow, under the `epoch` that they keep: they moved by the ring of `ring_epoch`, and none that is new
    /// begins at or below `floor`. `Moved` is the end. All of these, lost with the link: the next owner begins a new epoch.
    24 Moving { slot: Slot, ring_epoch: u64, epoch: u32, floor: u64 }
    /// One of them, and the newest `version` of its state that a back end told (0: none). `MovingPast`s follow, of use for `left_s` seconds
    /// (0: without an end).
    25 MovingChannel { slot: Slot, key: Key, tip: u64, left_s: u32, version: u64, era: Key }
    /// One publication of it.
    26 MovingPast { slot: Slot, key: Key, offset: u64, origin: Origin, payload: &'a [u8] }
    /// What was published once and is not to be published again.
    27 MovingOnce { slot: Slot, once: Key, offset: u64 }
    28 Moved { slot: Slot }

    // ---- channel owner <-> source of durable channels

    /// "How far is this channel?" A linearizable read, started after it was asked.
    30 Tip { ask: Ask, name: &'a str }
    /// `found` false: there is no such channel.
    31 TipIs { ask: Ask, found: bool, tip: u64 }
    /// "Give me `from..=to`", about `bytes_max` of it.
    32 Range { ask: Ask, name: &'a str, from: u64, to: u64, bytes_max: u32 }
    /// One event of the answer.
    33 RangeEvent { ask: Ask, offset: u64, origin: Origin, member: Option<Member<'a>>, payload: &'a [u8] }
    /// The end of the answer: all of `from..=upto` was sent (`upto` may be less than asked: bytes_max). `ok` false: the
    /// source is full or away.
    34 RangeEnd { ask: Ask, ok: bool, upto: u64 }

    // ---- gateway <-> webapp

    /// Redeem a ticket, once. Answered by `Boot` or `Refused`.
    40 Redeem { ask: Ask, ticket: &'a str }
    /// Who the client is and what it follows: `channels` are (name: &str, offset: u64) pairs, the user's own channel and the team's
    /// among them. `epoch`: the database's. `flags`: see `boot`. `token`: the number of the one that it came of.
    41 Boot { ask: Ask, user: &'a str, team: &'a str, epoch: &'a str, flags: u8, token: u32, channels: Packed<'a> }
    /// The ticket is unknown, used or expired, or the source is full (`retry`).
    42 Refused { ask: Ask, retry: bool }
    /// A new ticket for a connection that ends soon, of the same token. Answered by `Ticketed` or `Refused`.
    43 Renew { ask: Ask, user: &'a str, token: u32, flags: u8 }
    /// The path to connect to, ticket included.
    44 Ticketed { ask: Ask, path: &'a str }
    /// The same as chat.postMessage, by a websocket. Answered by `Posted` or `PostFailed` after the commit.
    /// `nth` tells the posts of one origin apart, so that one which is said `again` after a lost link is the same message.
    45 Post { ask: Ask, user: &'a str, channel: &'a str, text: &'a str, thread_ts: &'a str, client_msg_id: &'a str, origin: Origin, nth: u32, again: bool }
    /// Committed: its offset in the conversation, its ts, the text as stored.
    46 Posted { ask: Ask, offset: u64, ts: &'a str, text: &'a str }
    /// Refused, nothing was stored. `reason` is Slack's error name.
    47 PostFailed { ask: Ask, reason: &'a str }

    /// May this user follow this conversation? Answered by `Admitted`, or `Refused` when nobody can say.
    48 Admit { ask: Ask, user: &'a str, channel: &'a str }
    /// `is_member`: yes, and the conversation stood at `offset` then; what came before counts for nothing. `epoch`: the database's.
    49 Admitted { ask: Ask, is_member: bool, offset: u64, epoch: &'a str }

    /// From the database to the webapp's desk, and from there to every gateway core: these tokens open nothing any more, so that connections
    /// which came of them are closed. A list of (token: u32, user: &str). State, not event: twice is as good as once. Lost with the link: the
    /// newest are said again after `PeerUp`.
    37 Revoke { tokens: Packed<'a> }

    /// A Centrifuge client's call to the operator's back end. Answered by `Called`.
    38 Call { ask: Ask, user: &'a str, client: &'a str, method: &'a str, data: &'a [u8], is_json: bool }
    /// `code` 0: done, with `data`. From 3000 on: the connection is to be closed with it, and `text`. Otherwise an error.
    39 Called { ask: Ask, code: u32, temporary: bool, text: &'a str, data: &'a [u8] }

    // ---- presence

    /// This gateway core has at least one connection of the user. `handle` comes back in nothing; sent again after `PeerUp`.
    50 Online { slot: Slot, user: Key, connections: u32, manual_away: bool, bot: bool }
    /// It has none any more.
    51 Offline { slot: Slot, user: Key }
    /// The user did something here lately.
    52 Active { slot: Slot, user: Key }
    /// Tell me now, and at each change: answered by `Presence` with `handle`.
    53 Watch { slot: Slot, user: Key, handle: Handle }
    /// No more. Answered by `Unsuback`.
    54 Unwatch { slot: Slot, user: Key, handle: Handle }
    /// A user's dot. State, not event: the last one counts.
    55 Presence { handle: Handle, active: bool }
    /// users.setPresence.
    56 Manual { slot: Slot, user: Key, away: bool }
    /// users.getPresence.
    57 PresenceQuery { ask: Ask, slot: Slot, user: Key }
    58 PresenceIs { ask: Ask, active: bool, online: bool, auto_away: bool, manual_away: bool, connections: u32, idle_s: u32 }
    /// Who was to answer keeps the user since less than a lease, or not at all, and nobody reported one: it may be online. Since version 5.
    59 PresenceUnknown { ask: Ask }

    // ---- HTTP handlers -> gateway cores

    /// Something for all connections of a Centrifuge user: see `order`. `arguments`: those of the API's method, in JSON. Answered by `Obeyed`.
    /// Lost with the link: the handler is not answered, and says so.
    70 Order { ask: Ask, what: u8, arguments: &'a [u8] }
    /// For so many of this core.
    71 Obeyed { ask: Ask, connections: u32 }
    /// Who is here, and which memory channels, from the place `from` of the core's table on. Answered by `CensusIs`.
    72 Census { ask: Ask, from: u32 }
    /// `next`: where to go on; 0: that was all. `channels`: a list of (name: &str, clients: u32).
    73 CensusIs { ask: Ask, next: u32, clients: u32, users: u32, subscriptions: u64, channels: Packed<'a> }

    // ---- ring managers

    /// Between a manager and a node's health, every 100 ms each way. `echo`: the number of the last beat heard from the other; `lost`: a list
    /// of `u16`, nodes of the ring that the sender had links to and has none any more; `ring_epoch`: of the ring that the sender has. Lost: the
    /// next one says it.
    80 Beat { number: u32, echo: u32, ring_epoch: u64, lost: Packed<'a> }
    /// Between managers, as often: whom the sender takes for dead, a list of (node: u16, incarnation: u64).
    81 Suspects { dead: Packed<'a> }
    /// From a manager to a node's health: what makes the ring of `ring_epoch` of the one of `since`, in the form of `ring::news`; 0: of nothing,
    /// it is the whole. Lost: the node sees by the next beat that it is behind, and asks.
    82 RingNews { since: u64, ring_epoch: u64, news: &'a [u8] }
    /// From a node's health to a manager that has a newer ring: "I have the one of `since`" (0: give me the whole). Answered by `RingNews`, or by a
    /// `RingPart` of at most `bytes_max`: the one that begins at `at`, if the whole is still the one of `ring_epoch`. Lost: asked again.
    83 RingWanted { since: u64, ring_epoch: u64, at: u32, bytes_max: u32 }
    /// Bytes of the whole ring of `ring_epoch` from `at` on, of `all`. Lost: asked for again.
    84 RingPart { ring_epoch: u64, at: u32, all: u32, part: &'a [u8] }

    // ---- control-plane shards <-> their driver's hands (database)

    /// After a commit: a row of the outbox, for the dispatcher. `id` is the row's: ids grow and are never given again.
    60 Committed { id: u64, namespace: u16, offset: u64, origin: Origin, member: Option<Member<'a>>, name: &'a str, payload: &'a [u8] }
    /// Question: the oldest rows above `after` that are still in the outbox, at most `count_max`. Answered by `Committed`s and `OutboxEnd`.
    61 OutboxRead { ask: Ask, after: u64, count_max: u32 }
    /// `more`: there are rows above `last`.
    62 OutboxEnd { ask: Ask, last: u64, more: bool }
    /// Question: remove finalised rows, a list of `u64` ids. Answered by `Removed`.
    63 OutboxRemove { ask: Ask, ids: Packed<'a> }
    64 Removed { ask: Ask, ok: bool }
    /// Question: a linearizable read of the ring, started now. Answered by `RingIs`.
    65 RingRead { ask: Ask }
    /// Seat epochs, a list of (seat: u16, seat_epoch: u32).
    66 RingIs { ask: Ask, ring_epoch: u64, seats: Packed<'a> }
    /// Question: give all seats of a node to those in `live`, a list of `u16`, by one compare-and-set, unless another process of that node has
    /// them by now, or the ring is another than the one of which this was decided. Answered by `Replaced`.
    67 Replace { ask: Ask, ring_epoch: u64, node: u16, incarnation: u64, live: Packed<'a> }
    68 Replaced { ask: Ask, what: u8 }
    /// The next step of the plan by which every node gets its share of the slots, if the ring is still the one of `ring_epoch`. Answered by
    /// `Replaced`.
    74 EvenOut { ask: Ask, ring_epoch: u64 }
    /// Question: what is new in our ring since the one before it, which is this; 0: the whole. Answered by `RingNews`, or by nothing where the ring
    /// before ours is another. A node's health asks with `RingNews` that its driver take a ring, and is answered by that ring, if it is newer.
    69 RingSince { since: u64 }
}

/// The answer to a call when nobody gives one: an internal error that may be tried again.
pub fn not_called(ask: Ask) -> Message<'static> {
    let text = "internal server error";
    Message::Called { ask, code: 100, temporary: true, text, data: b"" }
}

/// What became of a replacement.
pub mod outcome {
    /// The ring says so now.
    pub const DONE: u8 = 1;
    /// Somebody else wrote, or the node is back or gone.
    pub const LATE: u8 = 2;
    /// Nobody knows, or the store is not there.
    pub const FAILED: u8 = 3;
    /// Everybody has its share: there is nothing to be written.
    pub const EVEN: u8 = 4;
    /// Nobody of those who live may take what the node has.
    pub const NOBODY: u8 = 5;
}

/// What is ordered for a user.
pub mod order {
    pub const SUBSCRIBE: u8 = 1;
    pub const UNSUBSCRIBE: u8 = 2;
    pub const DISCONNECT: u8 = 3;
    pub const REFRESH: u8 = 4;
}

/// The first byte of a transient event of a memory channel; an `info`, or a payload, follows.
pub mod event {
    pub const JOIN: u8 = 1;
    pub const LEAVE: u8 = 2;
    /// A publication that takes no place in the channel.
    pub const PASSING: u8 = 3;
}

/// What kind of channel a name means.
pub mod namespace {
    /// The workspace's: the back end gives the offsets.
    pub const DURABLE: u16 = 0;
    /// All others: the owner counts.
    pub const MEMORY: u16 = 1;
    /// Of a publication only: to whoever follows a memory channel now, and kept nowhere.
    pub const PASSING: u16 = 2;
}

/// Why a subscription, a fetch or a publication was not taken.
pub mod nack {
    /// The slot is not mine: look at the ring.
    pub const MOVED: u8 = 1;
    /// Your seat epoch is older than mine.
    pub const STALE: u8 = 2;
    /// I am not ready (behind, opening, full): try again.
    pub const RETRY: u8 = 3;
    /// There is no such channel.
    pub const UNKNOWN: u8 = 4;
    /// A table is full.
    pub const FULL: u8 = 5;
}

/// Bits of `Boot::flags`.
pub mod boot {
    /// The client will send `resume` frames before anything durable.
    pub const RESUME: u8 = 1;
    /// The client understands presence_change with `users`.
    pub const BATCH_PRESENCE: u8 = 2;
    /// The user is away by hand.
    pub const MANUAL_AWAY: u8 = 4;
    /// Bots are never away.
    pub const BOT: u8 = 8;
}
