//! One core's share of the gateway: what comes in, and to which part of this folder it goes.
//!
//! The same shard has two sides. As a *hub* it serves the clients of its core; as an *interest* it subscribes at the owners, for all
//! cores of its node, to the channels whose slots fall on its core. The two speak to each other by messages, on one core too.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::asks::Asks;
use super::behind::Behind;
use super::door::Head;
use super::downstream::Downstreams;
use super::follow::{Departed, Rejoined};
use super::guests::Guests;
use super::hub::Hub;
use super::interest::Interest;
use super::lapse::Lapses;
use super::lists::Lists;
use super::names::Names;
use super::neighbour::Neighbours;
use super::outbox::{self, Outboxes};
use super::people::People;
use super::relay::Relay;
use super::session::{Dialect, Sessions, State};
use super::timers::Timers;
use super::upstream::{Reminders, Upstreams};
use super::watch::Keepers;
use super::wheel::Wheel;
use crate::centrifuge::rules::Rules;
use crate::ids::{Conn, NodeId, Peer, Role};
use crate::limits::Limits;
use crate::ring::region::RegionRelay;
use crate::ring::{Ring, Secret};
use crate::rtm;
use crate::shard::{Budget, Counter, Edge, Effects, Input, Report, Shard, Slices};
use crate::time::{Mono, Now};
use crate::wire::room::Room;
use crate::wire::{Hello, Message, RELAYS_SINCE};

/// What a gateway shard is made with.
#[derive(Debug)]
pub struct GatewayConfig {
    pub node: NodeId,
    /// The desk of a webapp: redeems tickets, stores what clients say.
    pub desk: Peer,
    pub core: u8,
    /// Cores of the node.
    pub cores: u8,
    /// Drawn anew at each start of the process: tells its connections from those of earlier ones.
    pub life: u64,
    pub secret: Secret,
    /// Whether `/dev/echo` answers.
    pub echo: bool,
    /// Whether somebody serves the plain HTTP that comes to the websocket port.
    pub hands_over: bool,
    /// What Centrifuge clients may do.
    pub rules: Arc<Rules>,
    /// Where clients find this gateway, as `ws://host:port`; none when that is not known here.
    pub url: Option<Box<str>>,
    /// In which region it is: its clients are sent away when that drains.
    pub region: Option<Arc<str>>,
    /// Gateways of the region that are asked for channels instead of their owners, the best first; those from itself on are not.
    pub relays: Vec<RegionRelay>,
}

/// The gateway shard of one core.
#[derive(Debug)]
pub struct Gateway {
    pub(super) me: Peer,
    pub(super) desk: Peer,
    pub(super) cores: u8,
    pub(super) life: u64,
    pub(super) secret: Secret,
    pub(super) has_echo: bool,
    pub(super) hands_over: bool,
    pub(super) rules: Arc<Rules>,
    pub(super) guests: Guests,
    pub(super) url: Option<Box<str>>,
    pub(super) region: Option<Arc<str>>,
    pub(super) limits: Limits,
    pub(super) grant: Room,
    pub(super) ring: Option<Ring>,

    // Clients.
    pub(super) sessions: Sessions,
    pub(super) heads: FxHashMap<u32, Head>,
    pub(super) partials: FxHashMap<u32, Mono>,
    pub(super) outboxes: Outboxes,
    pub(super) wheel: Wheel,
    pub(super) timers: Timers,
    pub(super) parser: rtm::Parser,
    pub(super) scratch: Vec<u8>,
    pub(super) members_scratch: Vec<super::members::Member>,
    /// Connections that are too slow: let go at the end of the call, when no list is being walked.
    pub(super) evictions: Vec<u32>,
    pub(super) farewell: super::farewell::Farewell,
    pub(super) departure: super::departure::Departure,

    // The hub's side.
    pub(super) names: Names,
    pub(super) lists: Lists,
    pub(super) hub: Hub,
    pub(super) behind: Behind,
    pub(super) lapses: Lapses,
    pub(super) rejoined: Rejoined,
    pub(super) departed: Departed,
    pub(super) neighbours: Neighbours,
    pub(super) asks: Asks,
    pub(super) posts: u32,
    pub(super) typists: super::typists::Typists,
    /// The database's, as the last boot said.
    pub(super) epoch: Box<str>,
    pub(super) desk_is_up: bool,
    pub(super) people: People,
    pub(super) keepers: Keepers,

    // The interest's side.
    pub(super) interest: Interest,
    pub(super) relay: Relay,
    pub(super) upstreams: Upstreams,
    pub(super) reminders: Reminders,
    pub(super) downstreams: Downstreams,
}

/// One call: when it is, and what it wants done.
pub(super) struct Turn<'a> {
    pub(super) now: Now,
    pub(super) out: &'a mut Effects,
}

impl Turn<'_> {
    /// Whole seconds on the driver's clock.
    pub(super) fn second(&self) -> u32 {
        (self.now.mono.0 / 1_000_000_000) as u32
    }
}

impl Gateway {
    /// A shard without clients, that waits for its ring and its peers.
    pub fn new(config: GatewayConfig, limits: &Limits) -> Self {
        let GatewayConfig { node, desk, core, cores, life, secret, echo, hands_over, .. } = config;
        let GatewayConfig { rules, url, region, relays, .. } = config;
        Self {
            me: Peer::new(node, Role::Gateway, core),
            desk,
            cores,
            life,
            secret,
            has_echo: echo,
            hands_over,
            rules,
            guests: Guests::new(),
            url,
            region,
            limits: limits.clone(),
            grant: Room::grant(limits),
            ring: None,
            sessions: Sessions::default(),
            heads: FxHashMap::default(),
            partials: FxHashMap::default(),
            outboxes: Outboxes::new(),
            wheel: Wheel::new(),
            timers: Timers::default(),
            parser: rtm::Parser::default(),
            scratch: Vec::new(),
            members_scratch: Vec::new(),
            evictions: Vec::new(),
            farewell: super::farewell::Farewell::default(),
            departure: super::departure::Departure::default(),
            names: Names::new(limits.channels_max),
            lists: Lists::default(),
            hub: Hub::new(limits.channels_max),
            behind: Behind::new(limits.behind_max, limits.catch_up_pages_max),
            lapses: Lapses::default(),
            rejoined: Rejoined::default(),
            departed: Departed::default(),
            neighbours: Neighbours::new(cores),
            asks: Asks::new(limits.asks_max, Room::posts(limits)),
            posts: 0,
            typists: super::typists::Typists::default(),
            epoch: Box::default(),
            desk_is_up: false,
            people: People::new(limits.users_max),
            keepers: Keepers::default(),
            interest: Interest::new(limits.channels_max),
            relay: Relay::default(),
            upstreams: Upstreams::new(&relays, node),
            reminders: Reminders::default(),
            downstreams: Downstreams::default(),
        }
    }

    fn wire(&mut self, turn: &mut Turn<'_>, peer: Peer, message: Message<'_>) {
        match (peer.role, message) {
            (
                Role::Gateway,
                Message::Subscribe { .. }
                | Message::Unsubscribe { .. }
                | Message::Fetch { .. }
                | Message::Read { .. }
                | Message::Publish { .. }
                | Message::Enter { .. }
                | Message::Exit { .. }
                | Message::Present { .. }
                | Message::Emit { .. },
            ) => self.relay_up(turn, peer, &message),
            (Role::Channel, _) => self.relay_down(turn, peer, &message),
            (Role::Gateway, _) if self.core_of(peer).is_some() => {
                self.hear_interest(turn, peer, &message);
            }
            (Role::Gateway, _) if self.upstreams.is_one(peer) => {
                self.relay_down(turn, peer, &message);
            }
            (Role::Webapp, _) => self.hear_desk(turn, &message),
            (Role::Http, Message::Order { ask, what, arguments }) => {
                self.ordered(turn, peer, (ask, what), arguments);
            }
            (Role::Http, Message::Census { ask, from }) => self.census(turn, peer, ask, from),
            (Role::Presence, _) => self.hear_keeper(turn, peer, &message),
            _ => turn.out.count(Counter::WireBroken),
        }
    }

    fn peer_up(&mut self, turn: &mut Turn<'_>, peer: Peer, hello: Hello) {
        match peer.role {
            Role::Gateway if self.core_of(peer).is_some() => self.neighbour_up(turn, peer),
            // Others have nothing to say to us unless they ask for something.
            Role::Gateway => {
                if self.upstreams.is_one(peer) && hello.version >= RELAYS_SINCE {
                    self.relay_up_again(turn, peer);
                }
            }
            Role::Channel => {
                self.owner_up(peer, hello.version);
                self.remind(peer);
            }
            Role::Presence => self.keeper_up(peer),
            Role::Webapp => self.desk_up(turn),
            Role::Admin | Role::Http | Role::Ring | Role::Health => {}
        }
    }

    fn peer_room(&mut self, turn: &mut Turn<'_>, peer: Peer) {
        match peer.role {
            Role::Gateway if self.core_of(peer).is_some() => self.neighbour_room(turn, peer),
            Role::Gateway => {
                self.downstream_room(peer);
                self.owner_room(turn, peer);
            }
            Role::Channel => self.owner_room(turn, peer),
            Role::Presence => self.keeper_room(turn, peer),
            Role::Webapp | Role::Admin | Role::Http | Role::Ring | Role::Health => {}
        }
    }

    fn peer_lost(&mut self, turn: &mut Turn<'_>, peer: Peer) {
        match peer.role {
            Role::Gateway if self.core_of(peer).is_some() => self.neighbour_lost(turn, peer),
            Role::Gateway => {
                if let Some(number) = self.number_of(peer) {
                    self.core_lost(turn, number);
                    self.downstream_gone(peer);
                }
                if self.upstreams.is_one(peer) {
                    self.relay_lost(turn, peer);
                }
            }
            Role::Channel => self.owner_lost(turn, peer),
            Role::Presence => self.keeper_lost(peer),
            Role::Webapp => self.desk_is_up = false,
            Role::Admin | Role::Http | Role::Ring | Role::Health => {}
        }
        for pending in self.asks.lost(peer) {
            self.unanswered(turn, pending);
        }
    }

    /// Bounds of a connection's outbox.
    pub(super) fn bounds_of(&self, index: u32) -> outbox::Bounds {
        if self.sessions.of(index).state == State::Echo {
            let bytes = self.limits.echo_bytes_max;
            return outbox::Bounds { soft_bytes: bytes * 2, bytes_max: bytes * 4 };
        }
        if self.sessions.of(index).dialect != Dialect::Rtm {
            return outbox::Bounds {
                soft_bytes: self.limits.outbox_soft_bytes,
                bytes_max: self.limits.guest_outbox_bytes_max,
            };
        }
        outbox::Bounds {
            soft_bytes: self.limits.outbox_soft_bytes,
            bytes_max: self.limits.outbox_bytes_max,
        }
    }
}

impl Shard for Gateway {
    fn handle(&mut self, now: Now, input: Input<'_>, out: &mut Effects) {
        let turn = &mut Turn { now, out };
        match input {
            Input::Received { conn, bytes } => self.received(turn, conn, bytes),
            Input::Wire { peer, message } => self.wire(turn, peer, message),
            Input::Sent { conn, bytes } => self.sent(turn, conn, bytes),
            Input::Accepted { conn, .. } => self.accepted(turn, conn),
            // The driver asks for the outbox by itself.
            Input::Writable { .. } => {}
            Input::Closed { conn, .. } => self.closed(turn, conn),
            Input::PeerUp { peer, hello, .. } => self.peer_up(turn, peer, hello),
            Input::PeerRoom { peer } => self.peer_room(turn, peer),
            Input::PeerLost { peer } => self.peer_lost(turn, peer),
            Input::Ring { ring } => self.ring_changed(turn, ring),
            Input::Tick => self.tick(turn),
            Input::Drain { until } => self.drain(turn, until),
            Input::Answer { .. } => turn.out.count(Counter::WireBroken),
        }
        self.answer_connects(turn);
        self.end_unfit(turn);
        self.evict(turn);
    }

    fn advance(&mut self, now: Now, budget: Budget, out: &mut Effects) -> bool {
        let turn = &mut Turn { now, out };
        let more = self.say_again(turn, budget)
            | self.subscribe_waiting(turn, budget)
            | self.say_reminders(turn, budget)
            | self.tell_keepers_again(turn, budget)
            | self.say_goodbyes(turn, budget)
            | self.depart(turn, budget);
        self.answer_connects(turn);
        self.evict(turn);
        more
    }

    fn deadline(&self) -> Option<Mono> {
        self.next_deadline()
    }

    fn report(&self, into: &mut Report) {
        into.gauge("sessions", f64::from(self.sessions.count()));
        let left = if self.departure.is_begun() { self.sessions.count() } else { 0 };
        into.gauge("connections_to_move", f64::from(left));
        into.gauge("session_table_bytes", self.sessions.bytes() as f64);
        into.gauge("hub_channels", f64::from(self.hub.channels()));
        into.gauge("hub_subscriptions", self.hub.subscriptions() as f64);
        into.gauge("hub_bytes", self.hub.bytes() as f64);
        into.gauge("hub_lapsed", self.lapses.count() as f64);
        into.gauge("list_bytes", self.lists.bytes() as f64);
        into.gauge("names", f64::from(self.names.count()));
        into.gauge("name_bytes", self.names.bytes() as f64);
        into.gauge("interest_channels", f64::from(self.interest.channels()));
        into.gauge("interest_waiting", f64::from(self.interest.waiting()));
        into.gauge("relay_cores_up", self.upstreams.up() as f64);
        into.gauge("relay_subscribers", self.downstreams.count() as f64);
        into.gauge("interest_bytes", self.interest.bytes() as f64);
        into.gauge("behind_subscriptions", f64::from(self.behind.count()));
        into.gauge("behind_connections", f64::from(self.behind.connections()));
        into.gauge("behind_bytes", self.behind.bytes() as f64);
        into.gauge("guests", f64::from(self.guests.count()));
        into.gauge("people", f64::from(self.people.count()));
        into.gauge("people_bytes", self.people.bytes() as f64);
        into.gauge("asks_open", self.asks.count() as f64);
        into.gauge("outbox_waiting_connections", f64::from(self.outboxes.waiting()));
        into.gauge("outbox_waiting_bytes", self.outboxes.bytes() as f64);
        into.gauge("outbox_frame_bytes", self.outboxes.frames().bytes() as f64);
        into.gauge("outbox_table_bytes", self.outboxes.table_bytes() as f64);
    }
}

impl Edge for Gateway {
    fn outgoing<'a>(&'a self, conn: Conn, into: &mut Slices<'a>) {
        if self.sessions.is_live(conn) {
            self.outboxes.outgoing(conn.index(), into);
        }
    }
}
