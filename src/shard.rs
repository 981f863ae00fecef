//! THE WAIST: all that enters or leaves a shard.
//!
//! A shard is one core's share of one role, or one machine of the control plane: a plain value with a synchronous `handle`. It has
//! no clock, does no I/O, and draws no randomness but from the seed it was made with. Three drivers run the same shards:
//! `runtime/` (glommio and io_uring), `runtime/control` (tokio) and `tests/sim` (seeded).

use std::net::SocketAddr;
use std::ops::Range;

use crate::ids::{Ask, Conn, Peer};
use crate::ring::Ring;
use crate::time::{Mono, Now};
use crate::wire::link;
use crate::wire::{Hello, Message};

/// One core's share of one role.
pub trait Shard {
    /// Takes one input to its end. Never blocks, never reads a clock.
    fn handle(&mut self, now: Now, input: Input<'_>, out: &mut Effects);
    /// Work that a budget cut off (catch-ups, big closes, table splits). True: more is left.
    fn advance(&mut self, now: Now, budget: Budget, out: &mut Effects) -> bool;
    /// When `Input::Tick` is due, if at all.
    fn deadline(&self) -> Option<Mono>;
    /// Names and values for `/metrics`: gauges and totals of this shard. Called a few times a minute.
    fn report(&self, into: &mut Report);
}

/// The gateway only. Its outbox is the only queue in front of a socket; the driver pulls.
pub trait Edge: Shard {
    /// Waiting bytes of one connection, borrowed for one write, at most about `into.bytes_max`; afterwards comes `Input::Sent`.
    fn outgoing<'a>(&'a self, conn: Conn, into: &mut Slices<'a>);
}

/// How much `advance` may do: units of work, each far below 10 microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    pub units: u32,
}

/// Through which listener a client came, and so which rules hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Door {
    /// The websocket port: all client dialects, told apart by the path.
    Websocket,
}

/// Why a connection is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// The client closed its side (FIN).
    Ended,
    /// Reset, or an error of the socket.
    Broken,
    /// By our `Effect::Close`.
    Closed,
}

#[derive(Debug)]
pub enum Input<'a> {
    /// A new client.
    Accepted { conn: Conn, door: Door, remote: SocketAddr },
    /// Bytes of a client, cut anywhere; the shard may change them in place (unmasking).
    Received { conn: Conn, bytes: &'a mut [u8] },
    /// `bytes` of what `outgoing` gave were taken by the kernel. Zero is possible: wait for `Writable`.
    Sent { conn: Conn, bytes: usize },
    /// The socket takes bytes again.
    Writable { conn: Conn },
    /// The connection is gone: the last that is said about `conn`. Comes after `Effect::Close` too.
    Closed { conn: Conn, why: Why },
    /// A link to this shard is up (again): everything said on an earlier life is void.
    PeerUp { peer: Peer, life: u32, hello: Hello },
    /// The peer takes a whole grant of bulk again: see `wire::room`.
    PeerRoom { peer: Peer },
    /// The link broke, its mail overflowed, or the process died.
    PeerLost { peer: Peer },
    /// A message of a peer.
    Wire { peer: Peer, message: Message<'a> },
    /// The ring, at the start and after each change.
    Ring { ring: &'a Ring },
    /// The answer to an `Effect::Ask`: one or more messages, the last of which ends it by its kind.
    Answer { ask: Ask, message: Message<'a> },
    /// A deadline passed.
    Tick,
    /// The node goes down: say goodbye, be done at `until`.
    Drain { until: Mono },
}

/// Bytes in the arena of `Effects`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    pub at: u32,
    pub len: u32,
}

/// In which of two fair flush lists a connection waits for its write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    Small,
    Big,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// The connection has bytes to write. Said once until the next `outgoing`.
    Dirty {
        conn: Conn,
        class: Class,
    },
    /// Stop, and go on, reading from the connection.
    Pause {
        conn: Conn,
    },
    Resume {
        conn: Conn,
    },
    /// Close the connection: after its waiting bytes are written, or at once with a reset. `Input::Closed` follows.
    Close {
        conn: Conn,
        reset: bool,
    },
    /// The connection speaks plain HTTP, and is somebody else's from now on, who is given what was `read` of it. `Input::Closed` follows.
    HandOver {
        conn: Conn,
        read: Span,
    },
    /// A message for a peer. What becomes of it when the peer is slow, its class says.
    Send {
        peer: Peer,
        message: Span,
        class: link::Class,
    },
    /// The link to this peer cannot be trusted any more: break it on both sides.
    Reset {
        peer: Peer,
    },
    /// A question (a `Message` of the 60s, `Tip`, `Range`, `Redeem`, `Post`) to the driver's hands.
    Ask {
        ask: Ask,
        question: Span,
    },
    /// Something that is counted: see [`Counter`].
    Count {
        what: Counter,
        by: u32,
    },
}

/// What one call into a shard wants done, in order. Reused: `clear` keeps the memory.
#[derive(Default, Debug)]
pub struct Effects {
    list: Vec<Effect>,
    arena: Vec<u8>,
}

impl Effects {
    pub fn clear(&mut self) {
        self.list.clear();
        self.arena.clear();
    }
    pub fn push(&mut self, effect: Effect) {
        self.list.push(effect);
    }
    /// A live message: the link's order and its overflow policy hold.
    pub fn send(&mut self, peer: Peer, message: &Message<'_>) {
        let message = self.span(message);
        self.list.push(Effect::Send { peer, message, class: link::Class::Live });
    }
    /// A bulk message: the caller counts it against the peer's room.
    pub fn send_bulk(&mut self, peer: Peer, message: &Message<'_>) {
        let message = self.span(message);
        self.list.push(Effect::Send { peer, message, class: link::Class::Bulk });
    }
    /// A message that nobody misses.
    pub fn send_transient(&mut self, peer: Peer, message: &Message<'_>) {
        let message = self.span(message);
        self.list.push(Effect::Send { peer, message, class: link::Class::Transient });
    }
    /// Gives a connection away, with all bytes that were read of it.
    pub fn hand_over(&mut self, conn: Conn, read: &[u8]) {
        let at = u32::try_from(self.arena.len()).expect("the arena of one call stays below 4 GiB");
        self.arena.extend_from_slice(read);
        self.list.push(Effect::HandOver { conn, read: Span { at, len: read.len() as u32 } });
    }
    pub fn ask(&mut self, ask: Ask, question: &Message<'_>) {
        let question = self.span(question);
        self.list.push(Effect::Ask { ask, question });
    }
    pub fn count(&mut self, what: Counter) {
        self.count_by(what, 1);
    }
    pub fn count_by(&mut self, what: Counter, by: u32) {
        self.list.push(Effect::Count { what, by });
    }
    pub fn list(&self) -> &[Effect] {
        &self.list
    }
    pub fn bytes(&self, span: Span) -> &[u8] {
        &self.arena[span.at as usize..(span.at + span.len) as usize]
    }
    fn span(&mut self, message: &Message<'_>) -> Span {
        let Range { start, end } = {
            let start = self.arena.len();
            message.encode(&mut self.arena);
            start..self.arena.len()
        };
        let at = u32::try_from(start).expect("the arena of one call stays below 4 GiB");
        Span { at, len: (end - start) as u32 }
    }
}

/// Waiting bytes of one connection, borrowed from its outbox.
#[derive(Debug)]
pub struct Slices<'a> {
    pub list: Vec<&'a [u8]>,
    pub bytes: usize,
    pub bytes_max: usize,
}

impl<'a> Slices<'a> {
    pub fn new(bytes_max: usize) -> Self {
        Self { list: Vec::new(), bytes: 0, bytes_max }
    }
    /// False: enough for one write.
    pub fn push(&mut self, bytes: &'a [u8]) -> bool {
        self.list.push(bytes);
        self.bytes += bytes.len();
        self.bytes < self.bytes_max
    }
}

/// What a shard tells `/metrics`.
#[derive(Default, Debug)]
pub struct Report {
    /// (name without the `campanile_` prefix, value). Names end in their unit; totals in `_total`.
    pub gauges: Vec<(&'static str, f64)>,
}

impl Report {
    pub fn gauge(&mut self, name: &'static str, value: f64) {
        self.gauges.push((name, value));
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Everything that is counted by event: every drop, shed and evict has one.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum Counter { $($(#[$doc])* $name,)* }
        impl Counter {
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
            /// The metric's name without prefix and `_total`.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

counters! {
    /// Publications that a hub handed to its subscribers.
    PublicationsFannedOut = "publications_fanned_out",
    /// Frames put into outboxes for live publications.
    Deliveries = "deliveries",
    /// Frames encoded: one per publication, core and dialect.
    FramesEncoded = "frames_encoded",
    /// Transient events dropped in front of a slow client.
    TransientsDropped = "transients_dropped",
    /// Connections closed because they were too slow.
    SlowEvicted = "slow_evicted",
    /// Half-open connections reaped.
    DeadReaped = "dead_reaped",
    /// Connections refused because a table was full.
    ConnectionsShed = "connections_shed",
    /// Connections sent away because their region drains.
    ConnectionsMoved = "connections_moved",
    /// Handshakes that were not a websocket upgrade, or broken.
    HandshakesRefused = "handshakes_refused",
    /// Connections that spoke plain HTTP and were handed over.
    HandedOver = "handed_over",
    /// Connections closed because the client broke the protocol.
    ProtocolErrors = "protocol_errors",
    /// Client messages received.
    MessagesReceived = "messages_received",
    /// Publications replayed to clients that came back.
    Replayed = "replayed",
    /// Pages of the past for the rest of which there was no room, and that are asked for again.
    PagesCut = "pages_cut",
    /// Gaps told to clients.
    GapsTold = "gaps_told",
    /// Hubs that noticed they lack something and fetched it.
    HubLapses = "hub_lapses",
    /// Publications taken by the owner.
    PublicationsAccepted = "publications_accepted",
    /// Publications that the owner held already.
    PublicationsDuplicate = "publications_duplicate",
    /// Publications held because one before them is missing.
    PublicationsHeld = "publications_held",
    /// Slots that went to another owner with their memory channels, and that came so; and those that should have come and did not.
    SlotsPassedOn = "slots_passed_on",
    SlotsTakenOver = "slots_taken_over",
    HandoffsMissed = "handoffs_missed",
    /// Publications refused by the owner.
    PublicationsRefused = "publications_refused",
    /// Versions of channels that were forgotten for newer channels'.
    VersionsEvicted = "channel_versions_evicted",
    /// Backlog records that the ring's tail removed.
    BacklogEvicted = "backlog_evicted",
    /// Fetches answered from the backlog, and from the source.
    FetchesFromBacklog = "fetches_from_backlog",
    FetchesFromSource = "fetches_from_source",
    /// Fetches refused because a table was full.
    FetchesRefused = "fetches_refused",
    /// Subscriptions refused because a table was full; they are tried again.
    SubscribesShed = "subscribes_shed",
    /// Channels that nobody wanted, forgotten in favour of others.
    ChannelsForgotten = "channels_forgotten",
    /// Questions to the source that were not answered in time.
    QuestionsRepeated = "source_questions_repeated",
    /// Transient events published.
    TransientsEmitted = "transients_emitted",
    /// Mail that overflowed: the link broke and came back.
    MailOverflows = "mail_overflows",
    /// Transient mail dropped in front of a slow peer.
    MailDropped = "mail_dropped",
    /// Messages that no shard understood.
    WireBroken = "wire_broken",
    /// Nodes whose seats this manager gave to others.
    NodesReplaced = "nodes_replaced",
    RingsEvenedOut = "rings_evened_out",
    /// Times that a manager held back a replacement that was due.
    ReplacementsBraked = "replacements_braked",
    /// News of the ring that a manager sent to nodes, and whole rings that it began to give; rings that a node had together of these.
    RingsPushed = "rings_pushed",
    RingsGiven = "rings_given",
    RelaysFull = "relays_full",
    TalliesWrong = "tallies_wrong",
    RingsOffered = "rings_offered",
    /// Outbox rows sent to owners, sent again, finalised.
    OutboxDispatched = "outbox_dispatched",
    OutboxRedispatched = "outbox_redispatched",
    OutboxFinalised = "outbox_finalised",
    /// Outbox rows that memory had no room for: they stay in the table until the sweep finds room.
    /// Posts refused because the commit queue was full.
    PostsShed = "posts_shed",
    /// Posts refused because their user posts too fast, and buckets forgotten because the table was full.
    PostsPaced = "posts_paced",
    PacesEvicted = "paces_evicted",
    /// Reads of the past that found no room at the webapp; they are asked again.
    ReadsShed = "reads_shed",
    /// Calls of clients to the operator's back end that found no room.
    CallsShed = "calls_shed",
    /// Tickets redeemed, renewed and refused.
    TicketsRedeemed = "tickets_redeemed",
    TicketsRenewed = "tickets_renewed",
    TicketsRefused = "tickets_refused",
    /// Connections closed because their token was revoked; and revocations that gateways which come back are not told of any more.
    TokensRevoked = "connections_of_revoked_tokens",
    RevocationsEvicted = "revocations_evicted",
    /// Presence changes told to watchers.
    PresenceTold = "presence_told",
    /// Users and watches that found no room.
    PresenceShed = "presence_shed",
    /// Presence messages about users of somebody else, or of gateway cores that are not up.
    PresenceMisplaced = "presence_misplaced",
}
