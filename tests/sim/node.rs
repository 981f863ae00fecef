//! A node's process: its places, its start and its end; `turns` has what they do, `sockets` the server's side of its sockets.

use std::collections::BTreeMap;
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
use campanile::time::Mono;
use campanile::webapp::desk::Desk;
use campanile::wire::stream::Identity;

use crate::agenda::{Agenda, micros};
use crate::clock::Clock;
use crate::hands::Hands;
use crate::layout::Part;
use crate::lines::Lines;
use crate::network::Network;
use crate::outside::Outside;
use crate::place::{Actor, Place};
use crate::random::Random;
use crate::sizes::Sizes;
use crate::store::Kept;
use crate::turns::{Carrier, FarWay, Turns};

/// Of the guests' tokens.
pub(crate) const TOKEN_SECRET: &str = "sim";
pub(crate) const SECRET: Secret = Secret([7; 16]);

/// What is around the node while it does something.
pub(crate) struct Around<'a> {
    pub(crate) agenda: &'a mut Agenda,
    pub(crate) network: &'a mut Network,
    pub(crate) hands: &'a mut Hands,
    pub(crate) lines: &'a mut Lines,
    pub(crate) outside: &'a mut Outside,
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
    pub(super) carriers: Vec<Carrier>,
    /// By place, in the order in which they were met.
    pub(super) far: Vec<Vec<FarWay>>,
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

    pub(super) fn told_ring(&self, place: usize, ring: &Ring, around: &mut Around<'_>) {
        let core = if place == self.control() { Peer::CONTROL_CORE } else { place as u8 };
        around.outside.checker.ring_told((self.id.0, core), ring.ring_epoch);
    }
}
