//! One core of the data plane: a glommio executor with its shards, its sockets, and the mesh to the other cores.
//!
//! One turn: what the kernel tells, what peers say, deadlines, mail on the core, writes, mail to others. The executor sleeps only when a
//! whole turn found nothing.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};

use tokio::sync::{Notify, mpsc};

use super::bell::Bell;
use super::clock::Clock;
use super::far_ways::FarWays;
use super::handed::HandedOver;
use super::letters::Letter;
use super::mesh::Ends;
use super::sockets::{Event, Sockets};
use super::stats::{Gauges, Stats};
use super::uring::{Op, Tag, Uring};
use crate::centrifuge::rules::Rules;
use crate::channel::shard::Owner;
use crate::gateway::shard::{Gateway, GatewayConfig};
use crate::ids::{Peer, Role};
use crate::limits::Limits;
use crate::place::{Hands, Place, Shards, Whole};
use crate::presence::shard::Roster;
use crate::ring::region::RegionRelay;
use crate::ring::{Ring, Secret};
use crate::shard::{Door, Effect, Effects, Input, Report, Shard};
use crate::time::{Mono, sooner};
use crate::wire::link::Batch;

/// What the control plane hears from cores: which one, and a batch of its link.
pub(super) type ToControl = mpsc::Sender<(usize, Batch)>;
/// Connections read in one turn, before peers are looked at again.
const READS_A_TURN: usize = 128;
/// Writes in one turn: so many calls into the kernel.
const FLUSHES_A_TURN: usize = 4;
/// Sized for the largest message of a client, several times over.
const SCRATCH_BYTES: usize = 64 << 10;
/// A peer's full queue is looked at again after this.
const RETRY: std::time::Duration = std::time::Duration::from_millis(1);

/// What one core is started with.
pub(super) struct Start {
    pub(super) core: usize,
    pub(super) whole: Whole,
    /// The webapp's desk: the source of durable channels, and whoever redeems tickets.
    pub(super) desk: Peer,
    pub(super) secret: Secret,
    pub(super) seed: u64,
    pub(super) echo: bool,
    pub(super) rules: Arc<Rules>,
    /// Where clients find us, when that is one address.
    pub(super) url: Option<Box<str>>,
    pub(super) region: Option<Arc<str>>,
    pub(super) relays: Vec<RegionRelay>,
    pub(super) limits: Limits,
    pub(super) ring: Ring,
    pub(super) clock: Clock,
    /// Where this node is a gateway.
    pub(super) listener: Option<OwnedFd>,
    pub(super) letters: Receiver<Letter>,
    pub(super) bell: Arc<Bell>,
    pub(super) mesh: Ends,
    pub(super) control: ToControl,
    /// Where connections go that speak plain HTTP.
    pub(super) handed: mpsc::Sender<HandedOver>,
    /// Told whenever a letter was taken: there is room again.
    pub(super) room: Arc<Notify>,
    pub(super) stats: Stats,
}

/// Where a core says that it is up, or why it is not.
pub(super) type Ready = std::sync::mpsc::Sender<Result<(), String>>;

struct DataShards {
    gateway: Gateway,
    owner: Owner,
    roster: Roster,
}

impl Shards for DataShards {
    fn of(&mut self, role: Role) -> Option<&mut dyn Shard> {
        Some(match role {
            Role::Gateway => &mut self.gateway,
            Role::Channel => &mut self.owner,
            Role::Presence => &mut self.roster,
            _ => return None,
        })
    }
}

struct DataHands {
    sockets: Sockets,
    stats: Stats,
    now: Mono,
}

impl Hands for DataHands {
    fn carry_out(&mut self, role: Role, effect: Effect, effects: &Effects) {
        match effect {
            Effect::Dirty { conn, class } => self.sockets.dirty(conn, class),
            Effect::Pause { conn } => self.sockets.pause(conn),
            Effect::Resume { conn } => self.sockets.resume(conn),
            Effect::Close { conn, reset } => self.sockets.close(conn, reset, self.now),
            Effect::HandOver { conn, read } => self.sockets.hand_over(conn, effects.bytes(read)),
            Effect::Count { what, by } => self.stats.count(what, by),
            Effect::Ask { .. } | Effect::Send { .. } | Effect::Reset { .. } => {
                unreachable!("{role:?} asks nothing outside, and mail is the place's")
            }
        }
    }
    fn tell_http(&mut self, _message: &[u8]) {
        unreachable!("HTTP handlers are at the control plane");
    }
}

struct Peers {
    mesh: Ends,
    /// By place: what its queue did not take.
    waiting: Vec<Option<Batch>>,
    control: ToControl,
    here: usize,
    /// The way to places of other nodes.
    far: FarWays,
}

impl Peers {
    /// Whether the queue to a place took all that it was given.
    fn has_room(&mut self, place: usize) -> bool {
        if let Some(far) = place.checked_sub(self.waiting.len()) {
            return self.far.has_room(far);
        }
        match self.waiting[place].take() {
            None => true,
            Some(batch) => {
                self.carry(place, batch);
                self.waiting[place].is_none()
            }
        }
    }

    fn carry(&mut self, place: usize, batch: Batch) {
        let (here, cores) = (self.here, self.mesh.cores());
        if let Some(far) = place.checked_sub(cores + 1) {
            return self.far.carry(far, batch);
        }
        let refused = if place < cores {
            self.mesh.send(place, batch).err()
        } else {
            match self.control.try_send((here, batch)) {
                Ok(()) => None,
                Err(
                    mpsc::error::TrySendError::Full((_, batch))
                    | mpsc::error::TrySendError::Closed((_, batch)),
                ) => Some(batch),
            }
        };
        self.waiting[place] = refused;
    }

    fn is_waiting(&self) -> bool {
        self.waiting.iter().any(Option::is_some) || self.far.is_waiting()
    }
}

/// Runs one core until it is told to stop: the only task of its executor, so that nothing here is ever preempted. Mail comes by queues of
/// our own, and the core sleeps in its own ring.
pub(super) fn run(start: Start, ready: Ready) {
    match Core::new(start) {
        Ok(mut core) => {
            // Whoever started us waits for the first word only.
            let _ = ready.send(Ok(()));
            core.drive();
        }
        Err(why) => {
            let _ = ready.send(Err(format!("cannot make an io_uring: {why}")));
        }
    }
}

struct Core {
    place: Place<DataShards>,
    hands: DataHands,
    peers: Peers,
    letters: Receiver<Letter>,
    handed: mpsc::Sender<HandedOver>,
    room: Arc<Notify>,
    bell: Arc<Bell>,
    clock: Clock,
    events: Vec<Event>,
    scratch: Box<[u8]>,
    /// The soonest deadline that the ring already knows.
    armed_for: Option<Mono>,
    is_stopping: bool,
    has_more: bool,
}

impl Core {
    fn new(start: Start) -> std::io::Result<Self> {
        use std::os::fd::AsRawFd;
        let Start {
            core,
            whole,
            desk,
            secret,
            seed,
            echo,
            rules,
            url,
            region,
            relays,
            limits,
            clock,
            ..
        } = start;
        let Whole { node, life, cores, .. } = whole;
        let uring = Uring::new()?;
        let config = GatewayConfig {
            node,
            desk,
            core: core as u8,
            cores: cores as u8,
            life,
            secret,
            echo,
            hands_over: true,
            rules,
            url,
            region,
            relays,
        };
        let shards = DataShards {
            gateway: Gateway::new(config, &limits),
            owner: Owner::new(node, core as u8, desk, seed, &limits),
            roster: Roster::new(node, core as u8, seed, &limits),
        };
        let doors = (start.bell.as_raw_fd(), start.listener);
        let sockets = Sockets::new(uring, core as u8, doors, limits.connections_max);
        let now = clock.now();
        let mut hands = DataHands { sockets, stats: start.stats, now: now.mono };
        let mut place = Place::new(shards, core, whole, &limits);
        place.begin(now, &start.ring, &mut hands);
        Ok(Self {
            place,
            hands,
            peers: Peers {
                mesh: start.mesh,
                waiting: (0..=cores).map(|_| None).collect(),
                control: start.control,
                here: core,
                far: FarWays::default(),
            },
            letters: start.letters,
            handed: start.handed,
            room: start.room,
            bell: start.bell,
            clock,
            events: Vec::new(),
            scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
            armed_for: None,
            is_stopping: false,
            has_more: false,
        })
    }

    /// Never gives the thread back before the end: the executor has no other task, and a sleep in our own ring costs one system call, where
    /// glommio's costs eight and more.
    fn drive(&mut self) {
        while !self.is_stopping {
            self.turn();
            if self.is_busy() {
                continue;
            }
            // What others put in before this is found by one turn more; the first of those who come later rings, and then there is another.
            self.bell.will_sleep();
            self.turn();
            if !self.is_busy() && !self.is_stopping && self.bell.is_silent() {
                self.arm_deadline();
                self.hands.sockets.sleep();
            }
            self.bell.is_awake();
        }
    }

    /// Whether the next turn has something to do even if nothing new happens.
    fn is_busy(&self) -> bool {
        self.has_more || self.hands.sockets.is_busy()
    }

    fn turn(&mut self) {
        let now = self.clock.now();
        self.hands.now = now.mono;
        self.take_events();
        self.gateway_events(now);
        self.read(now);
        self.receive(now);
        self.letters(now);
        self.has_more = self.place.advance(now, &mut self.hands);
        for _ in 0..FLUSHES_A_TURN {
            let sockets = &mut self.hands.sockets;
            sockets.flush(&self.place.shards.gateway, now.mono, &mut self.events);
            if self.events.is_empty() {
                break;
            }
            self.gateway_events(now);
        }
        self.hands.sockets.bury(&mut self.events);
        self.gateway_events(now);
        let Self { place, hands, peers, .. } = self;
        let peers = RefCell::new(peers);
        self.has_more |= place.carry(
            now,
            hands,
            |other| peers.borrow_mut().has_room(other),
            |other, batch| peers.borrow_mut().carry(other, batch),
        );
    }

    fn take_events(&mut self) {
        let mono = self.clock.mono();
        self.hands.sockets.look(mono, &mut self.events);
        for handed in self.hands.sockets.released() {
            // What finds no room is closed.
            let _ = self.handed.try_send(handed);
        }
    }

    fn gateway_events(&mut self, now: crate::time::Now) {
        let mut events = std::mem::take(&mut self.events);
        for event in events.drain(..) {
            let input = match event {
                Event::Accepted(conn, remote) => {
                    Input::Accepted { conn, door: Door::Websocket, remote }
                }
                Event::Writable(conn) => Input::Writable { conn },
                Event::Sent(conn, bytes) => Input::Sent { conn, bytes },
                Event::Closed(conn, why) => Input::Closed { conn, why },
            };
            self.place.input(now, Role::Gateway, input, &mut self.hands);
        }
        self.events = events;
        self.place.settle(now, &mut self.hands);
    }

    fn read(&mut self, now: crate::time::Now) {
        for _ in 0..READS_A_TURN {
            let Some(conn) = self.hands.sockets.next_readable() else { break };
            if let Some(len) = self.hands.sockets.read(conn, &mut self.scratch) {
                let input = Input::Received { conn, bytes: &mut self.scratch[..len] };
                self.place.input(now, Role::Gateway, input, &mut self.hands);
                self.hands.sockets.read_on(conn, len < SCRATCH_BYTES);
            }
        }
        self.place.settle(now, &mut self.hands);
    }

    fn receive(&mut self, now: crate::time::Now) {
        for other in 0..self.peers.mesh.cores() {
            while let Some(batch) = self.peers.mesh.receive(other) {
                self.place.receive(now, other, &batch, &mut self.hands);
            }
        }
    }

    fn letters(&mut self, now: crate::time::Now) {
        let control = self.peers.mesh.cores();
        loop {
            match self.letters.try_recv() {
                Ok(Letter::Mail(batch)) => {
                    self.room.notify_one();
                    self.place.receive(now, control, &batch, &mut self.hands);
                }
                Ok(Letter::Far(news)) => {
                    self.peers.far.hear(now, news, &mut self.place, &mut self.hands);
                }
                Ok(Letter::Ring(ring)) => self.place.change(now, &ring, &mut self.hands),
                Ok(Letter::Report(answer)) => {
                    // Who asked may have gone.
                    let _ = answer.send(self.gauges());
                }
                Ok(Letter::Ping(answer)) => drop(answer.send(())),
                Ok(Letter::Drain(window)) => {
                    self.hands.sockets.shut_door();
                    let until = now.mono + window;
                    self.place.input(now, Role::Gateway, Input::Drain { until }, &mut self.hands);
                    self.place.settle(now, &mut self.hands);
                }
                Ok(Letter::Stop) | Err(TryRecvError::Disconnected) => {
                    self.is_stopping = true;
                    break;
                }
                Err(TryRecvError::Empty) => break,
            }
        }
    }

    fn gauges(&mut self) -> Gauges {
        let connections = f64::from(self.hands.sockets.count());
        let mut gauges = vec![(Role::Gateway, "connections", connections)];
        for role in self.place.roles().iter() {
            let mut report = Report::default();
            if let Some(shard) = self.place.shards.of(role) {
                shard.report(&mut report);
            }
            gauges.extend(report.gauges.into_iter().map(|(name, value)| (role, name, value)));
        }
        Gauges(gauges)
    }

    /// Makes sure that the ring wakes us at the soonest deadline.
    fn arm_deadline(&mut self) {
        let mono = self.clock.mono();
        let mut due = sooner(self.place.deadline(), self.hands.sockets.deadline());
        if self.peers.is_waiting() {
            due = sooner(due, Some(mono + RETRY));
        }
        if self.armed_for.is_some_and(|armed| armed <= mono) {
            self.armed_for = None;
        }
        let Some(due) = due else { return };
        if self.armed_for.is_none_or(|armed| due < armed) {
            self.armed_for = Some(due);
            let tag = Tag::new(Op::Deadline, 0, 0);
            self.hands.sockets.uring.wake_after(due.since(mono), tag);
            self.hands.sockets.enter();
        }
    }
}
