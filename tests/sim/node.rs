//! A node's process: its places, their turns, the mail between them and to others, the server's side of its sockets; its end and its next
//! start.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use campanile::admin::shard::Admin;
use campanile::centrifuge::config;
use campanile::centrifuge::rules::Rules;
use campanile::channel::shard::Owner;
use campanile::charm::health::Health;
use campanile::charm::manager::{Manager, ManagerConfig};
use campanile::gateway::shard::{Gateway, GatewayConfig};
use campanile::ids::{NodeId, Peer, Role};
use campanile::place::{CONTROL_ROLES, DATA_ROLES, Whole};
use campanile::presence::shard::Roster;
use campanile::ring::region::RegionRelay;
use campanile::ring::view::View;
use campanile::ring::{Ring, Secret};
use campanile::shard::Input;
use campanile::time::Mono;
use campanile::webapp::desk::Desk;
use campanile::wire::Message;
use campanile::wire::stream::Identity;

use crate::agenda::{Agenda, Arrival, Far, Happening, micros, millis};
use crate::clock::Clock;
use crate::hands::Hands;
use crate::layout::Part;
use crate::lines::Lines;
use crate::network::Network;
use crate::outside::Outside;
use crate::place::{Actor, Place, Want};
use crate::random::Random;
use crate::sizes::Sizes;
use crate::store::Kept;

/// Of the guests' tokens.
pub(crate) const TOKEN_SECRET: &str = "sim";
pub(crate) const SECRET: Secret = Secret([7; 16]);

/// What a turn of a slow core takes, in milliseconds, at most.
const SLOW_TURN_MS: u64 = 30;

/// The turns of one place.
#[derive(Default, Debug)]
pub(super) struct Turns {
    inbox: VecDeque<Arrival>,
    /// When the next is, and its number.
    due: Option<Mono>,
    number: u64,
    pub(super) dirty: VecDeque<usize>,
    pub(super) doomed: Vec<usize>,
    /// The core does nothing until then.
    stuck_until: Mono,
    /// Each of its turns takes long until then.
    slow_until: Mono,
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
    pub(crate) lines: &'a mut Lines,
    pub(crate) outside: &'a mut Outside,
}

/// The way to a place of another node, as `runtime/far_ways` keeps it.
#[derive(Debug)]
struct FarWay {
    line: usize,
    side: usize,
    is_up: bool,
}

/// What of a process's start its node does not know by itself.
pub(crate) struct Begin {
    pub(crate) process: u32,
    pub(crate) id: NodeId,
    pub(crate) life: u64,
    pub(crate) desk: NodeId,
    pub(crate) manager: ManagerConfig,
    pub(crate) ring: Rc<Ring>,
}

#[derive(Debug)]
pub(crate) struct Node {
    /// Its place in the world.
    pub(crate) at: usize,
    pub(crate) part: Part,
    relays: Vec<RegionRelay>,
    /// Of the process that runs, or starts; 0: none does.
    pub(crate) process: u32,
    /// Its number in the cell, once it has one.
    pub(crate) id: NodeId,
    pub(crate) life: u64,
    pub(crate) is_draining: bool,
    /// It stands still until then.
    pub(crate) paused_until: Mono,
    pub(crate) paused_since: Option<Mono>,
    pub(crate) clock: Clock,
    pub(crate) sizes: Sizes,
    /// The rings that its process was told.
    pub(crate) view: View,
    /// The newest of them, and the one before.
    pub(crate) told: Option<(Rc<Kept>, Option<Rc<Kept>>)>,
    /// When the last of them comes to its places.
    pub(crate) rings_until: Mono,
    /// Orders to dial, by the node that is dialed and its cores.
    pub(crate) dialing: BTreeMap<(u16, String, u8), u64>,
    rules: Arc<Rules>,
    /// None while there is no process, or it has no place in the ring.
    pub(crate) places: Vec<Place>,
    /// What shards answered to HTTP handlers.
    pub(crate) http: Vec<Vec<u8>>,
    pub(super) turns: Vec<Turns>,
    carriers: Vec<Carrier>,
    /// By place, in the order in which they were met.
    far: Vec<Vec<FarWay>>,
    pub(crate) mail: Random,
}

/// What guests may do: everything, in channels with short streams, and with little patience.
pub(crate) fn rules() -> Arc<Rules> {
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
    pub(crate) fn new(
        at: usize,
        (part, relays): (Part, Vec<RegionRelay>),
        (sizes, clock): (Sizes, Clock),
        rules: Arc<Rules>,
        mail: Random,
    ) -> Self {
        Self {
            at,
            id: part.id.unwrap_or_default(),
            part,
            relays,
            process: 0,
            life: 0,
            is_draining: false,
            paused_until: Mono(0),
            paused_since: None,
            clock,
            sizes,
            view: View::default(),
            told: None,
            rings_until: Mono(0),
            dialing: BTreeMap::new(),
            rules,
            places: Vec::new(),
            http: Vec::new(),
            turns: Vec::new(),
            carriers: Vec::new(),
            far: Vec::new(),
            mail,
        }
    }

    /// It runs, and has its place in the ring.
    pub(crate) fn is_up(&self) -> bool {
        !self.places.is_empty()
    }

    /// The number of its control plane's place; its cores are before that.
    pub(crate) fn control(&self) -> usize {
        self.part.cores
    }

    /// Who a place of it says it is to other nodes.
    pub(crate) fn identity(&self, place: usize, ring_epoch: u64) -> Identity {
        let core = if place == self.control() { Peer::CONTROL_CORE } else { place as u8 };
        Identity {
            cell: "sim".into(),
            node: self.id,
            incarnation: self.life,
            roles: self.part.roles,
            core,
            cores: self.part.cores as u8,
            ring_epoch,
        }
    }

    /// A new process with a new life has its place in the ring.
    pub(crate) fn start(&mut self, begin: Begin, around: &mut Around<'_>) {
        let Begin { process, id, life, desk, manager, ring } = begin;
        (self.process, self.id, self.life) = (process, id, life);
        self.is_draining = false;
        self.rings_until = around.agenda.now;
        let whole = Whole { node: id, life, roles: self.part.roles, cores: self.part.cores };
        let cores = whole.cores;
        let seed = self.mail.next();
        around.network.restart(self.at, cores);
        let told = around.outside.trace.is_told().then_some(&self.clock);
        for place in 0..=cores {
            let roles = whole.roles.both(if place == cores { CONTROL_ROLES } else { DATA_ROLES });
            let actors = roles
                .iter()
                .map(|role| (role, self.actor(role, place, whole, desk, manager, seed)));
            let actors = actors.collect();
            let limits = &self.sizes.limits;
            self.places.push(Place::new(whole, place, actors, limits, told));
        }
        self.turns = (0..=cores).map(|_| Turns::default()).collect();
        self.far = (0..=cores).map(|_| Vec::new()).collect();
        self.carriers = vec![Carrier::default(); (cores + 1) * (cores + 1)];
        for place in 0..=cores {
            self.told_ring(place, &ring, around);
            let now = self.clock.now(around.agenda.now);
            self.places[place].begin(now, &ring, around.outside);
            self.obey(place, around);
            let after = micros(self.mail.below(2_000));
            self.wake(around.agenda, place, around.agenda.now + after);
        }
    }

    fn actor(
        &self,
        role: Role,
        place: usize,
        whole: Whole,
        desk: NodeId,
        manager: ManagerConfig,
        seed: u64,
    ) -> Actor {
        let (node, limits, core) = (whole.node, &self.sizes.limits, place as u8);
        let desk = Peer::control(desk, Role::Webapp);
        match role {
            Role::Gateway => {
                let config = GatewayConfig {
                    node,
                    desk,
                    core,
                    cores: whole.cores as u8,
                    life: whole.life,
                    secret: SECRET,
                    hands_over: false,
                    echo: false,
                    rules: Arc::clone(&self.rules),
                    url: Some("ws://here".into()),
                    region: self.part.region.map(Into::into),
                    relays: self.relays.clone(),
                };
                Actor::Gateway(Box::new(Gateway::new(config, limits)))
            }
            Role::Channel => {
                Actor::Owner(Box::new(Owner::new(node, core, desk, seed ^ place as u64, limits)))
            }
            Role::Presence => {
                Actor::Roster(Box::new(Roster::new(node, core, seed ^ place as u64, limits)))
            }
            Role::Admin => Actor::Admin(Box::new(Admin::new(node, SECRET, seed, limits))),
            Role::Webapp => Actor::Desk(Box::new(Desk::new(node, limits))),
            Role::Health => Actor::Health(Box::new(Health::new(limits))),
            Role::Ring => Actor::Manager(Box::new(Manager::new(manager))),
            Role::Http => unreachable!("handlers are no shard"),
        }
    }

    /// The process is gone, with everything that it knew.
    pub(crate) fn end(&mut self, around: &mut Around<'_>, is_told: bool) {
        if self.is_up() {
            around.outside.checker.ended(self.id.0, self.part.is(Role::Webapp));
            around.outside.streams.forget_pending(self.id.0);
        }
        self.places.clear();
        self.dialing.clear();
        self.paused_until = Mono(0);
        around.network.crash(around.agenda, self.process, is_told);
        around.lines.die(around.agenda, self.process, is_told);
        self.process = 0;
    }

    fn told_ring(&self, place: usize, ring: &Ring, around: &mut Around<'_>) {
        let core = if place == self.control() { Peer::CONTROL_CORE } else { place as u8 };
        around.outside.checker.ring_told((self.id.0, core), ring.ring_epoch);
    }

    /// News of a connection to another node, as `runtime/far_ways` tells them to its place.
    fn hear_far(&mut self, place: usize, line: usize, news: Far, around: &mut Around<'_>) {
        let now = self.clock.now(around.agenda.now);
        let here = &mut self.places[place];
        let ways = &mut self.far[place];
        let find = |ways: &[FarWay]| ways.iter().position(|way| way.line == line && way.is_up);
        match news {
            Far::Met((other, version), side) => {
                let far = here.meet(now, (&other, version), around.outside);
                let way = FarWay { line, side, is_up: true };
                if far == ways.len() {
                    ways.push(way);
                } else {
                    let old = std::mem::replace(&mut ways[far], way);
                    if old.is_up {
                        around.lines.close(around.agenda, old.line, old.side);
                        // Whoever dialed it tries again, as after any end.
                        if old.side == 0 {
                            let dial = around.lines.dial(old.line);
                            around.agenda.after(millis(15), Happening::Dial(dial));
                        }
                    }
                }
            }
            Far::Batch(batch) => {
                if let Some(far) = find(ways) {
                    let other = far + self.part.cores + 1;
                    here.receive(now, other, &batch, around.outside);
                }
            }
            Far::Parted => {
                if let Some(far) = find(ways) {
                    ways[far].is_up = false;
                    here.part(now, far, around.outside);
                }
            }
        }
    }

    /// Whether a place waits to say something over a connection.
    pub(crate) fn is_waiting_for(&self, place: usize, line: usize) -> bool {
        let Some(ways) = self.far.get(place) else { return false };
        let far = ways.iter().position(|way| way.line == line && way.is_up);
        self.is_up()
            && far.is_some_and(|far| self.places[place].has_mail_for(far + self.part.cores + 1))
    }

    /// A core, or the control plane, does nothing for a while.
    pub(crate) fn stick(&mut self, place: usize, until: Mono) {
        if let Some(turns) = self.turns.get_mut(place) {
            turns.stuck_until = until;
        }
    }

    /// A core, or the control plane, is slow for a while: as on a machine that does much else.
    pub(crate) fn tax(&mut self, place: usize, until: Mono) {
        if let Some(turns) = self.turns.get_mut(place) {
            turns.slow_until = until;
        }
    }

    /// Whether a place of it does nothing now, or little.
    pub(crate) fn is_stuck(&self, now: Mono) -> bool {
        self.turns.iter().any(|turns| turns.stuck_until.max(turns.slow_until) > now)
    }

    /// Nothing hinders it any more.
    pub(crate) fn unstick(&mut self) {
        for turns in &mut self.turns {
            (turns.stuck_until, turns.slow_until) = (Mono(0), Mono(0));
        }
        self.carriers.iter_mut().for_each(|carrier| carrier.slow_until = Mono(0));
    }

    /// Mail from one place to another is slow for a while.
    pub(crate) fn slow_down(&mut self, from: usize, to: usize, until: Mono) {
        let at = from * (self.part.cores + 1) + to;
        if let Some(carrier) = self.carriers.get_mut(at) {
            carrier.slow_until = until;
        }
    }

    /// Something comes to a place.
    pub(crate) fn arrive(&mut self, agenda: &mut Agenda, place: usize, what: Arrival) {
        if self.is_up() {
            self.turns[place].inbox.push_back(what);
            let pause = micros(self.mail.between(1, 100));
            self.wake(agenda, place, agenda.now + pause);
        }
    }

    pub(crate) fn wake(&mut self, agenda: &mut Agenda, place: usize, at: Mono) {
        let turns = &mut self.turns[place];
        if turns.due.is_none_or(|due| at < due) {
            turns.due = Some(at);
            turns.number += 1;
            let (node, number) = (self.at, turns.number);
            agenda.at(at, Happening::Turn { node, place, number });
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
        let now = self.clock.now(around.agenda.now);
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
        let here = around.agenda.now;
        self.tire(place, here);
        if more {
            self.wake(around.agenda, place, here + micros(50));
        } else if let Some(due) = self.places[place].deadline() {
            let due = self.clock.when(due);
            self.wake(around.agenda, place, due.max(here + micros(5)));
        }
    }

    /// A place that is slow does nothing for a while after each turn.
    fn tire(&mut self, place: usize, now: Mono) {
        if self.turns[place].slow_until > now {
            let pause = millis(self.mail.between(1, SLOW_TURN_MS));
            let turns = &mut self.turns[place];
            turns.stuck_until = turns.stuck_until.max(now + pause);
        }
    }

    fn take_in(&mut self, place: usize, arrival: Arrival, around: &mut Around<'_>) {
        let now = self.clock.now(around.agenda.now);
        let here = &mut self.places[place];
        match arrival {
            Arrival::Mail { from, batch } => {
                around.outside.coverage.saw("batches");
                let carrier = from * (self.part.cores + 1) + place;
                self.carriers[carrier].in_flight -= 1;
                here.receive(now, from, &batch, around.outside);
                if self.places[from].has_mail_for(place) {
                    self.wake(around.agenda, from, around.agenda.now + micros(5));
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
                let to = Peer::control(self.id, Role::Admin);
                here.say(now, to, &word, around.outside);
            }
            Arrival::Http { to, message } => here.say(now, to, &message, around.outside),
            Arrival::Far { line, news } => self.hear_far(place, line, news, around),
            Arrival::Ring(ring) => {
                around.outside.coverage.saw("rings that changed");
                self.told_ring(place, &ring, around);
                self.places[place].change(now, &ring, around.outside);
            }
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

    /// Does what shards want done outside.
    pub(super) fn obey(&mut self, place: usize, around: &mut Around<'_>) {
        while let Some(want) = self.places[place].wants.pop_front() {
            match want {
                Want::Ask { role, ask, question } => {
                    let (agenda, outside) = (&mut *around.agenda, &mut *around.outside);
                    around.hands.ask(agenda, outside, self.process, (role, ask, question));
                }
                Want::Http(bytes) => self.http.push(bytes),
                Want::Dirty(conn) => {
                    if let Some(socket) = around.network.of(self.at, conn) {
                        self.dirty(place, socket, around.network);
                    }
                }
                Want::Pause(conn) => {
                    if let Some(socket) = around.network.of(self.at, conn) {
                        around.network.sockets[socket].server.is_paused = true;
                    }
                }
                Want::Resume(conn) => {
                    if let Some(socket) = around.network.of(self.at, conn) {
                        around.network.sockets[socket].server.is_paused = false;
                        around.network.read_on(around.agenda, socket);
                    }
                }
                Want::Close { conn, reset } => self.close(place, conn, reset, around),
            }
        }
    }

    /// Mail to other places, as far as there is room between. True: there is something to do after that.
    fn carry(&mut self, place: usize, around: &mut Around<'_>) -> bool {
        let now = self.clock.now(around.agenda.now);
        let cores = self.part.cores;
        let (carriers, ways) = (&self.carriers, &self.far[place]);
        let batches_max = self.sizes.batches_max;
        let lines = &*around.lines;
        let room = |other: usize| match other.checked_sub(cores + 1) {
            Some(far) if ways[far].is_up => lines.room(ways[far].line, ways[far].side),
            Some(_) => 0,
            None => batches_max.saturating_sub(carriers[place * (cores + 1) + other].in_flight),
        };
        let (batches, more) = self.places[place].carry(now, room, around.outside);
        let now = around.agenda.now;
        for (other, batch) in batches {
            if let Some(far) = other.checked_sub(cores + 1) {
                let FarWay { line, side, .. } = self.far[place][far];
                around.lines.send(around.agenda, line, side, batch);
                continue;
            }
            let carrier = &mut self.carriers[place * (cores + 1) + other];
            let pause = if carrier.slow_until > now {
                millis(self.mail.between(1, 200))
            } else if self.mail.chance(20) {
                micros(self.mail.between(100, 10_000))
            } else {
                micros(self.mail.between(2, 60))
            };
            carrier.last = carrier.last.max(now + pause);
            carrier.in_flight += 1;
            let what = Arrival::Mail { from: place, batch };
            let (process, place) = (self.process, other);
            around.agenda.at(carrier.last, Happening::Arrive { process, place, what });
        }
        self.obey(place, around);
        more
    }
}
