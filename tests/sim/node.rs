//! The node's process: its places, their turns, the mail between them, the server's side of its sockets; its end and its next start.

use std::collections::VecDeque;
use std::sync::Arc;

use campanile::admin::shard::Admin;
use campanile::centrifuge::config;
use campanile::centrifuge::rules::Rules;
use campanile::channel::shard::Owner;
use campanile::gateway::shard::{Gateway, GatewayConfig};
use campanile::ids::{Conn, Role};
use campanile::presence::shard::Roster;
use campanile::ring::{Ring, Secret};
use campanile::shard::{Door, Input, Slices, Why};
use campanile::time::Mono;
use campanile::webapp::desk::Desk;
use campanile::wire::Message;

use crate::agenda::{Agenda, Arrival, Happening, micros, millis};
use crate::hands::Hands;
use crate::network::{End, Network};
use crate::outside::Outside;
use crate::place::{NODE, Place, Shards, Want};
use crate::random::Random;
use crate::sizes::Sizes;

/// Of the guests' tokens.
pub(crate) const TOKEN_SECRET: &str = "sim";
pub(crate) const SECRET: Secret = Secret([7; 16]);
/// How long last words may take to be written, and the client to end its side after them, in milliseconds.
const LAST_WORDS_MS: u64 = 3_000;
const LINGER_MS: u64 = 1_000;

/// The turns of one place.
#[derive(Default, Debug)]
struct Turns {
    inbox: VecDeque<Arrival>,
    /// When the next is, and its number.
    due: Option<Mono>,
    number: u64,
    dirty: VecDeque<usize>,
    doomed: Vec<usize>,
    /// The core does nothing until then.
    stuck_until: Mono,
}

/// From one place to another.
#[derive(Clone, Default, Debug)]
struct Carrier {
    in_flight: usize,
    /// When the last batch arrives: none comes before it.
    last: Mono,
    slow_until: Mono,
}

/// What is around the node while it does something.
pub(crate) struct Around<'a> {
    pub(crate) agenda: &'a mut Agenda,
    pub(crate) network: &'a mut Network,
    pub(crate) hands: &'a mut Hands,
    pub(crate) outside: &'a mut Outside,
}

#[derive(Debug)]
pub(crate) struct Node {
    /// Counts the processes.
    pub(crate) process: u32,
    pub(crate) life: u64,
    pub(crate) is_draining: bool,
    pub(crate) sizes: Sizes,
    pub(crate) ring: Ring,
    rules: Arc<Rules>,
    /// None while there is no process.
    pub(crate) places: Vec<Place>,
    /// What shards answered to HTTP handlers.
    pub(crate) http: Vec<Vec<u8>>,
    turns: Vec<Turns>,
    carriers: Vec<Carrier>,
    mail: Random,
}

/// What guests may do: everything, in channels with short streams, and with little patience.
fn rules() -> Arc<Rules> {
    let sections = serde_json::json!({
        "client": { "insecure": true, "token": { "hmac_secret_key": TOKEN_SECRET }, "ping_interval": "3s", "pong_timeout": "2s", "stale_close_delay": "3s" },
        "channel": { "without_namespace": {
            "history_size": 40, "history_ttl": "60s", "force_recovery": true, "presence": true,
            "join_leave": true, "force_push_join_leave": true,
        } },
    });
    Arc::new(config::read(sections).expect("a configuration").rules)
}

impl Node {
    pub(crate) fn new(sizes: Sizes, mail: Random) -> Self {
        let ring = Ring::new(&[(NODE, sizes.cores as u8)]);
        Self {
            process: 0,
            life: 0,
            is_draining: false,
            sizes,
            ring,
            rules: rules(),
            places: Vec::new(),
            http: Vec::new(),
            turns: Vec::new(),
            carriers: Vec::new(),
            mail,
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        !self.places.is_empty()
    }

    pub(crate) fn control(&self) -> usize {
        self.sizes.cores
    }

    /// A new process with a new life.
    pub(crate) fn start(&mut self, around: &mut Around<'_>) {
        self.process += 1;
        self.life = self.mail.next() | 1;
        self.is_draining = false;
        let cores = self.sizes.cores;
        let limits = &self.sizes.limits;
        let seed = self.mail.next();
        around.network.restart();
        for core in 0..cores {
            let desk = campanile::ids::Peer::control(NODE, Role::Webapp);
            let config = GatewayConfig {
                node: NODE,
                desk,
                core: core as u8,
                cores: cores as u8,
                life: self.life,
                secret: SECRET,
                hands_over: false,
                echo: false,
                rules: Arc::clone(&self.rules),
                url: Some("ws://here".into()),
            };
            let shards = Shards::Data(Box::new((
                Gateway::new(config, limits),
                Owner::new(NODE, core as u8, desk, seed ^ core as u64, limits),
                Roster::new(NODE, core as u8, seed ^ core as u64, limits),
            )));
            self.places.push(Place::new(shards, core, cores, self.life, limits));
        }
        let admin = Admin::new(NODE, SECRET, seed, limits);
        let shards = Shards::Control(Box::new((admin, Desk::new(NODE, limits))));
        self.places.push(Place::new(shards, cores, cores, self.life, limits));
        self.turns = (0..=cores).map(|_| Turns::default()).collect();
        self.carriers = vec![Carrier::default(); (cores + 1) * (cores + 1)];
        for place in 0..=cores {
            self.places[place].begin(around.agenda.clocks(), &self.ring, around.outside);
            self.obey(place, around);
            let after = micros(self.mail.below(2_000));
            self.wake(around.agenda, place, around.agenda.now + after);
        }
    }

    /// The process is gone, with everything that it knew.
    pub(crate) fn end(&mut self, around: &mut Around<'_>, is_told: bool) {
        self.places.clear();
        around.outside.checker = crate::checker::Checker::default();
        around.outside.streams.forget_pending();
        around.network.crash(around.agenda, self.process, is_told);
    }

    /// A core, or the control plane, does nothing for a while.
    pub(crate) fn stick(&mut self, place: usize, until: Mono) {
        if let Some(turns) = self.turns.get_mut(place) {
            turns.stuck_until = until;
        }
    }

    /// Mail from one place to another is slow for a while.
    pub(crate) fn slow_down(&mut self, from: usize, to: usize, until: Mono) {
        let at = from * (self.sizes.cores + 1) + to;
        if let Some(carrier) = self.carriers.get_mut(at) {
            carrier.slow_until = until;
        }
    }

    /// Something comes to a place of the process with this number.
    pub(crate) fn arrive(
        &mut self,
        agenda: &mut Agenda,
        (process, place): (u32, usize),
        what: Arrival,
    ) {
        if process == self.process && self.is_up() {
            self.turns[place].inbox.push_back(what);
            let pause = micros(self.mail.between(1, 100));
            self.wake(agenda, place, agenda.now + pause);
        }
    }

    fn wake(&mut self, agenda: &mut Agenda, place: usize, at: Mono) {
        let turns = &mut self.turns[place];
        if turns.due.is_none_or(|due| at < due) {
            turns.due = Some(at);
            turns.number += 1;
            agenda.at(at, Happening::Turn { place, number: turns.number });
        }
    }

    /// One turn: what came, deadlines, writes, mail to others; as the cores' loop does it.
    pub(crate) fn turn(&mut self, place: usize, number: u64, around: &mut Around<'_>) {
        if !self.is_up() || self.turns[place].due.is_none() || self.turns[place].number != number {
            return;
        }
        self.turns[place].due = None;
        let stuck_until = self.turns[place].stuck_until;
        if stuck_until > around.agenda.now {
            return self.wake(around.agenda, place, stuck_until);
        }
        let now = around.agenda.clocks();
        for arrival in std::mem::take(&mut self.turns[place].inbox) {
            self.take_in(place, arrival, around);
            self.obey(place, around);
        }
        let mut more = self.places[place].advance(now, around.outside);
        self.obey(place, around);
        self.flush(place, around);
        self.bury(place, around);
        more |= self.carry(place, around);
        more |= !self.turns[place].dirty.is_empty();
        if more {
            self.wake(around.agenda, place, now.mono + micros(50));
        } else if let Some(due) = self.places[place].deadline() {
            self.wake(around.agenda, place, due.max(now.mono + micros(5)));
        }
    }

    fn take_in(&mut self, place: usize, arrival: Arrival, around: &mut Around<'_>) {
        let now = around.agenda.clocks();
        let here = &mut self.places[place];
        match arrival {
            Arrival::Mail { from, batch } => {
                around.outside.coverage.saw("batches");
                let carrier = from * (self.sizes.cores + 1) + place;
                self.carriers[carrier].in_flight -= 1;
                here.receive(now, from, &batch, around.outside);
                if self.places[from].has_mail_for(place) {
                    self.wake(around.agenda, from, now.mono + micros(5));
                }
            }
            Arrival::Answer { role, ask, list } => {
                for bytes in &list {
                    let message = Message::decode(bytes).expect("the database encodes");
                    if let Message::RingIs { ask, .. } = message {
                        around.outside.checker.ring_is(ask.0);
                    }
                    here.input(now, role, Input::Answer { ask, message }, around.outside);
                }
                here.settle(now, around.outside);
            }
            Arrival::Word(word) => {
                let to = campanile::ids::Peer::control(NODE, Role::Admin);
                here.say(now, to, &word, around.outside);
            }
            Arrival::Http { to, message } => here.say(now, to, &message, around.outside),
            Arrival::Drain { until } => {
                here.input(now, Role::Gateway, Input::Drain { until }, around.outside);
                here.settle(now, around.outside);
            }
            Arrival::Accepted { socket }
            | Arrival::Bytes { socket, .. }
            | Arrival::Ended { socket }
            | Arrival::Broken { socket }
            | Arrival::Writable { socket } => self.socket(place, socket, arrival, around),
        }
    }

    fn socket(&mut self, place: usize, socket: usize, arrival: Arrival, around: &mut Around<'_>) {
        let now = around.agenda.clocks();
        let one = &mut around.network.sockets[socket];
        let conn = one.conn;
        if !one.server.is_open {
            return;
        }
        let server = &mut one.server;
        let here = &mut self.places[place];
        match arrival {
            Arrival::Accepted { .. } => {
                let remote = Network::remote();
                let input = Input::Accepted { conn, door: Door::Websocket, remote };
                here.input(now, Role::Gateway, input, around.outside);
            }
            Arrival::Bytes { mut bytes, .. } => {
                // What a closed connection still says is thrown away.
                if !(server.is_closing || server.is_lingering || server.is_doomed) {
                    around.outside.trace.note(now.mono, b'r', [conn.0, 0], &bytes);
                    let input = Input::Received { conn, bytes: &mut bytes };
                    here.input(now, Role::Gateway, input, around.outside);
                }
            }
            Arrival::Writable { .. } => {
                server.is_blocked = false;
                server.is_waking = false;
                server.is_dirty = false;
                here.input(now, Role::Gateway, Input::Writable { conn }, around.outside);
                self.dirty(place, socket, around.network);
            }
            Arrival::Ended { .. } if server.is_lingering || server.is_blocked => {
                self.doom(place, socket, around.network);
            }
            Arrival::Ended { .. } => {
                server.has_ended = true;
                server.is_closing = true;
                self.dirty(place, socket, around.network);
            }
            _ => self.doom(place, socket, around.network),
        }
        self.places[place].settle(now, around.outside);
    }

    /// Does what shards want done outside.
    fn obey(&mut self, place: usize, around: &mut Around<'_>) {
        while let Some(want) = self.places[place].wants.pop_front() {
            match want {
                Want::Ask { role, ask, question } => {
                    let (agenda, outside) = (&mut *around.agenda, &mut *around.outside);
                    around.hands.ask(agenda, outside, self.process, (role, ask, question));
                }
                Want::Http(bytes) => self.http.push(bytes),
                Want::Dirty(conn) => {
                    if let Some(socket) = around.network.of(conn) {
                        self.dirty(place, socket, around.network);
                    }
                }
                Want::Pause(conn) => {
                    if let Some(socket) = around.network.of(conn) {
                        around.network.sockets[socket].server.is_paused = true;
                    }
                }
                Want::Resume(conn) => {
                    if let Some(socket) = around.network.of(conn) {
                        around.network.sockets[socket].server.is_paused = false;
                        around.network.read_on(around.agenda, socket);
                    }
                }
                Want::Close { conn, reset } => self.close(place, conn, reset, around),
            }
        }
    }

    fn close(&mut self, place: usize, conn: Conn, reset: bool, around: &mut Around<'_>) {
        let Some(socket) = around.network.of(conn) else { return };
        let server = &mut around.network.sockets[socket].server;
        if reset {
            server.is_closing = true;
            around.network.shut(around.agenda, socket, End::Reset);
            return self.doom(place, socket, around.network);
        }
        if !server.is_closing {
            server.is_closing = true;
            server.is_paused = false;
            around.network.read_on(around.agenda, socket);
            Network::linger(around.agenda, socket, LAST_WORDS_MS);
            self.dirty(place, socket, around.network);
        }
    }

    fn dirty(&mut self, place: usize, socket: usize, network: &mut Network) {
        let server = &mut network.sockets[socket].server;
        let waits = server.is_dirty || server.is_blocked;
        server.is_dirty = true;
        if !waits {
            self.turns[place].dirty.push_back(socket);
        }
    }

    fn doom(&mut self, place: usize, socket: usize, network: &mut Network) {
        let server = &mut network.sockets[socket].server;
        if server.is_open && !server.is_doomed {
            server.is_doomed = true;
            self.turns[place].doomed.push(socket);
        }
    }

    /// A closed connection waits no longer for its client.
    pub(crate) fn lingered(&mut self, socket: usize, around: &mut Around<'_>) {
        let one = &around.network.sockets[socket];
        if one.process == self.process && self.is_up() && one.server.is_open {
            let core = one.core;
            self.doom(core, socket, around.network);
            self.wake(around.agenda, core, around.agenda.now);
        }
    }

    /// Writes to every dirty connection once.
    fn flush(&mut self, place: usize, around: &mut Around<'_>) {
        let now = around.agenda.clocks();
        for socket in std::mem::take(&mut self.turns[place].dirty) {
            let one = &mut around.network.sockets[socket];
            let (conn, server) = (one.conn, &mut one.server);
            if !server.is_open || !server.is_dirty || server.is_blocked || server.is_doomed {
                continue;
            }
            server.is_dirty = false;
            let write_bytes_max = self.sizes.write_bytes_max;
            let mut slices = Slices::new(write_bytes_max);
            self.places[place].shards.edge().outgoing(conn, &mut slices);
            let given = slices.bytes;
            if given == 0 {
                self.emptied(place, socket, around);
                continue;
            }
            let taken = around.network.send(around.agenda, socket, &slices.list);
            drop(slices);
            let input = Input::Sent { conn, bytes: taken };
            self.places[place].input(now, Role::Gateway, input, around.outside);
            self.places[place].settle(now, around.outside);
            self.obey(place, around);
            let server = &mut around.network.sockets[socket].server;
            if taken < given {
                server.is_dirty = true;
            } else if given >= write_bytes_max || server.is_closing {
                self.dirty(place, socket, around.network);
            }
        }
    }

    /// The outbox has nothing more: a connection that closes is shut now.
    fn emptied(&mut self, place: usize, socket: usize, around: &mut Around<'_>) {
        let server = &mut around.network.sockets[socket].server;
        if !server.is_closing {
            return;
        }
        if server.has_ended {
            return self.doom(place, socket, around.network);
        }
        if !server.is_lingering {
            server.is_lingering = true;
            around.network.shut(around.agenda, socket, End::Fin);
            Network::linger(around.agenda, socket, LINGER_MS);
        }
    }

    /// Connections that are over.
    fn bury(&mut self, place: usize, around: &mut Around<'_>) {
        let now = around.agenda.clocks();
        while let Some(socket) = self.turns[place].doomed.pop() {
            let one = &around.network.sockets[socket];
            let (conn, server) = (one.conn, one.server);
            let why = if server.has_ended {
                Why::Ended
            } else if server.is_closing || server.is_lingering {
                Why::Closed
            } else {
                Why::Broken
            };
            around.network.forget(socket);
            around.network.shut(around.agenda, socket, End::Fin);
            let input = Input::Closed { conn, why };
            self.places[place].input(now, Role::Gateway, input, around.outside);
            self.places[place].settle(now, around.outside);
            self.obey(place, around);
        }
    }

    /// Mail to other places, as far as there is room between. True: some is left here.
    fn carry(&mut self, place: usize, around: &mut Around<'_>) -> bool {
        let now = around.agenda.clocks();
        for other in 0..=self.sizes.cores {
            let at = place * (self.sizes.cores + 1) + other;
            while other != place
                && self.carriers[at].in_flight < self.sizes.batches_max
                && let Some(batch) = self.places[place].take(other)
            {
                let carrier = &mut self.carriers[at];
                let pause = if carrier.slow_until > now.mono {
                    millis(self.mail.between(1, 200))
                } else if self.mail.chance(20) {
                    micros(self.mail.between(100, 10_000))
                } else {
                    micros(self.mail.between(2, 60))
                };
                carrier.last = carrier.last.max(now.mono + pause);
                carrier.in_flight += 1;
                let what = Arrival::Mail { from: place, batch };
                let (process, place) = (self.process, other);
                around.agenda.at(carrier.last, Happening::Arrive { process, place, what });
            }
        }
        self.places[place].look_for_room(now, around.outside);
        self.obey(place, around);
        let has_room = |other: &usize| {
            let at = place * (self.sizes.cores + 1) + other;
            self.carriers[at].in_flight < self.sizes.batches_max
        };
        // What lies behind a full carrier is carried when the other side has taken a batch.
        (0..=self.sizes.cores)
            .filter(|other| *other != place)
            .filter(has_room)
            .any(|other| self.places[place].has_mail_for(other))
    }
}
