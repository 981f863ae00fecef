//! Managers, nodes and a store in one small world with a clock of its own: who is replaced, when, and who is not.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use proptest::prelude::*;

use super::health::Health;
use super::manager::{Manager, ManagerConfig};
use crate::ids::{Ask, NodeId, Peer, Role};
use crate::limits::Limits;
use crate::ring::carries::Carries;
use crate::ring::change::Cell;
use crate::ring::document::NodeEntry;
use crate::shard::{Effect, Effects, Input, Shard};
use crate::time::{Mono, Now, Wall};
use crate::wire::message::outcome;
use crate::wire::{Hello, Message};

/// Managers have numbers from here on.
const MANAGERS: u16 = 100;
const STEP: Duration = Duration::from_millis(10);

enum Machine {
    Node(Box<Health>),
    Manager(Box<Manager>),
}

impl Machine {
    fn shard(&mut self) -> &mut dyn Shard {
        match self {
            Self::Node(health) => &mut **health,
            Self::Manager(manager) => &mut **manager,
        }
    }
}

struct World {
    now: Mono,
    machines: BTreeMap<u16, Machine>,
    /// On their way: when they arrive, from whom, to whom.
    mail: VecDeque<(Mono, u16, u16, Vec<u8>)>,
    /// Nothing goes from the first to the second.
    cut: BTreeSet<(u16, u16)>,
    stopped: BTreeSet<u16>,
    cell: Cell,
    is_store_down: bool,
    /// (when, who was replaced).
    replaced: Vec<(Mono, u16)>,
    /// When nobody might take what a dead node has.
    unplaced: Vec<Mono>,
    /// When slots were evened out.
    evened: Vec<Mono>,
    /// Per node: a later process has another.
    lives: BTreeMap<u16, u64>,
}

impl World {
    fn new(nodes: u16, managers: u16, window: Duration) -> Self {
        Self::of(&vec![Carries::Both; usize::from(nodes)], 0, managers, window)
    }

    /// Nodes of the ring, by what they carry, and `more` that run and are not in it yet.
    fn of(nodes: &[Carries], more: u16, managers: u16, window: Duration) -> Self {
        let entries = nodes.iter().zip(1..).map(|(carries, id)| entry(id, *carries));
        let cell = Cell::new("one", entries.collect()).expect("a ring");
        let mut machines = BTreeMap::new();
        for id in 1..=nodes.len() as u16 + more {
            machines.insert(id, Machine::Node(Box::new(Health::new(&Limits::DEFAULT))));
        }
        for rank in 0..managers {
            let manager = Manager::new(config(rank, managers, window));
            machines.insert(MANAGERS + rank, Machine::Manager(Box::new(manager)));
        }
        let mut world = Self {
            now: Mono::default() + Duration::from_secs(1),
            lives: machines.keys().map(|id| (*id, 1)).collect(),
            machines,
            mail: VecDeque::new(),
            cut: BTreeSet::new(),
            stopped: BTreeSet::new(),
            cell,
            is_store_down: false,
            replaced: Vec::new(),
            unplaced: Vec::new(),
            evened: Vec::new(),
        };
        world.tell_ring();
        let all: Vec<u16> = world.machines.keys().copied().collect();
        for &a in &all {
            for &b in &all {
                world.link(a, b, true);
            }
        }
        world
    }

    fn role(id: u16) -> Role {
        if id < MANAGERS { Role::Health } else { Role::Ring }
    }

    /// The link between two is up or lost, as `a` sees it.
    fn link(&mut self, a: u16, b: u16, is_up: bool) {
        let mut peers = vec![Peer::control(NodeId(b), Self::role(b))];
        if b < MANAGERS && a < MANAGERS {
            let carries = self.cell.document.node(NodeId(b)).map(|node| node.carries);
            let is_presence = carries == Some(Carries::Users);
            let role = if is_presence { Role::Presence } else { Role::Channel };
            peers = (0..2).map(|core| Peer::new(NodeId(b), role, core)).collect();
        }
        let hello = Hello { incarnation: self.lives[&b], node: NodeId(b), ..Hello::default() };
        for peer in peers {
            let input = if is_up {
                Input::PeerUp { peer, life: 1, hello }
            } else {
                Input::PeerLost { peer }
            };
            self.give(a, input);
        }
    }

    fn tell_ring(&mut self) {
        let ring = self.cell.ring().expect("usable");
        let all: Vec<u16> = self.machines.keys().copied().collect();
        for id in all {
            self.give(id, Input::Ring { ring: &ring });
        }
    }

    fn give(&mut self, id: u16, input: Input<'_>) {
        if self.stopped.contains(&id) {
            return;
        }
        let now = Now { mono: self.now, wall: self.wall() };
        let mut out = Effects::default();
        self.machines.get_mut(&id).expect("there").shard().handle(now, input, &mut out);
        for effect in out.list() {
            match *effect {
                Effect::Send { peer, message, .. } => {
                    let at = self.now + Duration::from_millis(1);
                    self.mail.push_back((at, id, peer.node.0, out.bytes(message).to_vec()));
                }
                Effect::Ask { ask, question } => {
                    let question = out.bytes(question).to_vec();
                    self.write(id, ask, &question);
                }
                _ => {}
            }
        }
    }

    fn wall(&self) -> Wall {
        Wall(1_700_000_000_000_000 + self.now.0 / 1_000)
    }

    /// What the driver does for a manager.
    fn write(&mut self, id: u16, ask: Ask, question: &[u8]) {
        if self.is_store_down {
            return;
        }
        let (ring_epoch, node, incarnation, live) = match Message::decode(question) {
            Ok(Message::Replace { ring_epoch, node, incarnation, live, .. }) => {
                (ring_epoch, node, incarnation, live)
            }
            Ok(Message::EvenOut { ring_epoch, .. }) => return self.even_out(id, ask, ring_epoch),
            // Rings are told to everybody here: what is new in them is nothing new.
            _ => return,
        };
        let entry = self.cell.document.node(NodeId(node)).cloned();
        let is_it =
            entry.as_ref().is_some_and(|entry| entry.incarnation == u128::from(incarnation));
        let mut what = outcome::LATE;
        let is_newest = ring_epoch == self.cell.document.ring_epoch;
        if let Some(entry) = entry.filter(|_| is_it && is_newest) {
            let live: Vec<u16> = live.iter::<u16>().collect();
            let names = self.cell.document.nodes.iter().filter(|node| live.contains(&node.id));
            let names: Vec<String> = names.map(|node| node.name.clone()).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            what = outcome::NOBODY;
            if let Ok(next) = self.cell.replace(&entry.name, &names) {
                self.cell = next.stamped(NodeId(node), self.wall().seconds());
                self.replaced.push((self.now, node));
                what = outcome::DONE;
            } else {
                self.unplaced.push(self.now);
            }
        }
        self.written(id, ask, what);
    }

    fn even_out(&mut self, id: u16, ask: Ask, ring_epoch: u64) {
        let is_newest = ring_epoch == self.cell.document.ring_epoch;
        let what = match self.cell.step().filter(|_| is_newest) {
            Some((next, _)) => {
                self.cell = next;
                self.evened.push(self.now);
                outcome::DONE
            }
            None if is_newest => outcome::EVEN,
            None => outcome::LATE,
        };
        self.written(id, ask, what);
    }

    fn written(&mut self, id: u16, ask: Ask, what: u8) {
        self.give(id, Input::Answer { ask, message: Message::Replaced { ask, what } });
        if what == outcome::DONE {
            self.tell_ring();
        }
    }

    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            self.now += STEP;
            while self.mail.front().is_some_and(|(at, ..)| *at <= self.now) {
                let (_, from, to, bytes) = self.mail.pop_front().expect("just seen");
                if self.cut.contains(&(from, to)) || self.stopped.contains(&from) {
                    continue;
                }
                let message = Message::decode(&bytes).expect("encoded by us");
                let peer = Peer::control(NodeId(from), Self::role(from));
                self.give(to, Input::Wire { peer, message });
            }
            let all: Vec<u16> = self.machines.keys().copied().collect();
            for id in all {
                let due = self.machines.get_mut(&id).expect("there").shard().deadline();
                if due.is_some_and(|due| due <= self.now) {
                    self.give(id, Input::Tick);
                }
            }
        }
    }

    /// Everybody's links to it break at once, as after a kill.
    fn kill(&mut self, id: u16) {
        self.stopped.insert(id);
        self.lose(id);
    }

    /// Another process of a node is there, and in the ring.
    fn revive(&mut self, id: u16, life: u64) {
        self.lives.insert(id, life);
        self.machines.insert(id, Machine::Node(Box::new(Health::new(&Limits::DEFAULT))));
        self.stopped.remove(&id);
        self.tell_ring();
        let others: Vec<u16> = self.machines.keys().copied().filter(|other| *other != id).collect();
        for other in others {
            self.link(other, id, true);
            self.link(id, other, true);
        }
    }

    /// A manager ends, and another process of it begins, which knows nothing but the ring.
    fn begin_anew(&mut self, rank: u16, managers: u16, window: Duration) {
        let id = MANAGERS + rank;
        self.lose(id);
        self.machines
            .insert(id, Machine::Manager(Box::new(Manager::new(config(rank, managers, window)))));
        *self.lives.get_mut(&id).expect("it was there") += 1;
        let ring = self.cell.ring().expect("usable");
        self.give(id, Input::Ring { ring: &ring });
        let others: Vec<u16> = self.machines.keys().copied().filter(|other| *other != id).collect();
        for other in others {
            self.link(other, id, true);
            self.link(id, other, true);
        }
    }

    fn lose(&mut self, id: u16) {
        let others: Vec<u16> = self.machines.keys().copied().filter(|other| *other != id).collect();
        for other in others {
            self.link(other, id, false);
        }
    }

    fn since(&self, began: Mono) -> Vec<(u64, u16)> {
        let age = |(at, node): &(Mono, u16)| (at.since(began).as_millis() as u64, *node);
        self.replaced.iter().map(age).collect()
    }
}

fn config(rank: u16, managers: u16, window: Duration) -> ManagerConfig {
    ManagerConfig {
        me: NodeId(MANAGERS + rank),
        managers: usize::from(managers),
        rank: u32::from(rank),
        window,
        probation: ManagerConfig::PROBATION,
    }
}

fn entry(id: u16, carries: Carries) -> NodeEntry {
    let new = NodeEntry::new(&format!("cs{id}"), &format!("10.0.0.{id}:7400"), 2);
    NodeEntry { id, incarnation: 1, carries, ..new }
}

fn calm(nodes: u16, managers: u16) -> World {
    let mut world = World::new(nodes, managers, ManagerConfig::WINDOW);
    world.run(Duration::from_secs(3));
    assert_eq!(world.replaced, [], "nobody is dead");
    world
}

#[test]
fn whoever_is_killed_is_replaced_once_within_half_a_second() {
    for managers in [1, 3, 5] {
        let mut world = calm(5, managers);
        let began = world.now;
        world.kill(3);
        world.run(Duration::from_secs(5));
        let [(after, 3)] = world.since(began)[..] else { panic!("{:?}", world.since(began)) };
        assert!(after <= 500, "{after} ms with {managers} managers");
        assert!(world.cell.document.seats_of(3).next().is_none());
        assert_eq!(world.cell.document.ring_epoch, 2, "one write");
    }
}

#[test]
fn a_presence_server_is_missed_by_all_and_replaced_by_its_like() {
    use Carries::{Both, Channels, Users};
    let carries = [Channels, Channels, Users, Users, Both];
    let mut world = World::of(&carries, 0, 3, ManagerConfig::WINDOW);
    world.run(Duration::from_secs(3));
    let began = world.now;
    world.kill(3);
    world.run(Duration::from_secs(60));
    let [(after, 3)] = world.since(began)[..] else { panic!("{:?}", world.since(began)) };
    assert!(after <= 500, "{after} ms");
    let seats = |id| world.cell.document.seats_of(id).count();
    assert_eq!([1, 2, 4, 5].map(seats), [8, 8, 12, 12]);
    assert!(world.cell.plan().is_empty(), "and slots of users are even");
}

#[test]
fn who_has_to_keep_its_seats_keeps_nobody_else_from_being_replaced() {
    let carries = [[Carries::Users; 1].as_slice(), &[Carries::Channels; 6]].concat();
    let mut world = World::of(&carries, 1, 3, ManagerConfig::WINDOW);
    world.run(Duration::from_secs(3));
    // The only presence server: its seats are nobody else's, and that is not asked all the time.
    world.kill(1);
    world.run(Duration::from_secs(20));
    assert_eq!((world.replaced.len(), world.cell.document.seats_of(1).count()), (0, 8));
    assert!((4..=15).contains(&world.unplaced.len()), "{}", world.unplaced.len());
    let began = world.now;
    world.kill(3);
    world.run(Duration::from_secs(1));
    let [(after, 3)] = world.since(began)[..] else { panic!("{:?}", world.since(began)) };
    assert!(after <= 1_000, "{after} ms");
    // One of its like comes, and when the brakes let go it has the seats.
    world.cell = world.cell.stand_by(entry(8, Carries::Users)).expect("stands by");
    world.tell_ring();
    world.run(Duration::from_secs(70));
    assert_eq!(world.replaced.last().map(|(_, node)| *node), Some(1));
    assert_eq!(world.cell.document.seats_of(8).count(), 8);
}

#[test]
fn slots_are_evened_out_after_a_replacement_step_by_step() {
    for managers in [1, 3] {
        let mut world = calm(4, managers);
        world.kill(3);
        world.run(Duration::from_secs(2));
        // Eight seats to three nodes.
        assert_eq!(world.replaced.len(), 1);
        assert!(!world.evened.is_empty() && !world.cell.plan().is_empty(), "some at a time");
        world.run(Duration::from_secs(60));
        assert!(world.cell.plan().is_empty());
        let pauses = world.evened.windows(2).map(|two| two[1].since(two[0]));
        assert!(pauses.min().is_some_and(|least| least >= Duration::from_millis(500)));
        let writes = world.evened.len();
        world.run(Duration::from_secs(10));
        assert_eq!((world.evened.len(), world.replaced.len()), (writes, 1), "and that was all");
    }
}

#[test]
fn nothing_is_given_to_a_node_that_nobody_heard() {
    let mut world = calm(4, 3);
    // An operator brings one into the ring that is still to come.
    let new = NodeEntry::new("cs9", "10.0.0.9:7400", 2);
    world.cell = world.cell.add(new).expect("there is room");
    world.tell_ring();
    world.kill(3);
    world.run(Duration::from_secs(30));
    assert_eq!((world.replaced.len(), world.evened.len()), (1, 0));
}

#[test]
fn nothing_is_evened_out_while_somebody_is_silent_or_the_ring_is_frozen() {
    let mut world = calm(4, 3);
    world.kill(3);
    world.run(Duration::from_millis(600));
    assert_eq!((world.replaced.len(), world.evened.len()), (1, 0));
    // The brake holds for a minute: this one is the operator's.
    world.kill(4);
    world.run(Duration::from_secs(1));
    let writes = world.evened.len();
    world.run(Duration::from_secs(5));
    assert_eq!((world.replaced.len(), world.evened.len()), (1, writes));
    world.cell = world.cell.freeze(true).expect("it is not");
    world.revive(4, 1);
    world.run(Duration::from_secs(5));
    assert_eq!(world.evened.len(), writes);
    world.cell = world.cell.freeze(false).expect("it is");
    world.tell_ring();
    world.run(Duration::from_secs(60));
    assert!(world.cell.plan().is_empty() && world.evened.len() > writes);
}

#[test]
fn whoever_falls_silent_is_replaced_within_a_second() {
    // Links stay: nothing is told by the kernel. The data plane's own beats break them after a second.
    let mut world = calm(5, 3);
    let began = world.now;
    world.stopped.insert(2);
    world.run(Duration::from_millis(600));
    assert_eq!(world.replaced, [], "it may only be slow");
    world.lose(2);
    world.run(Duration::from_secs(3));
    let [(after, 2)] = world.since(began)[..] else { panic!("{:?}", world.since(began)) };
    assert!(after <= 1_000, "{after} ms");
}

#[test]
fn one_way_is_no_way() {
    // It hears everybody, and nobody hears it; and the other way round.
    for is_deaf in [false, true] {
        let mut world = calm(5, 3);
        let began = world.now;
        for other in [1, 2, 3, 5, MANAGERS, MANAGERS + 1, MANAGERS + 2] {
            world.cut.insert(if is_deaf { (other, 4) } else { (4, other) });
        }
        for other in [1, 2, 3, 5] {
            world.link(other, 4, false);
        }
        world.run(Duration::from_secs(3));
        let [(after, 4)] = world.since(began)[..] else {
            panic!("deaf {is_deaf}: {:?}", world.since(began))
        };
        assert!(after <= 1_200, "{after} ms");
    }
}

#[test]
fn a_manager_that_is_cut_off_replaces_nobody() {
    let mut world = calm(5, 3);
    for other in (1..=5).chain([MANAGERS + 1, MANAGERS + 2]) {
        world.cut.insert((other, MANAGERS));
        world.cut.insert((MANAGERS, other));
        world.link(MANAGERS, other, false);
        world.link(other, MANAGERS, false);
    }
    world.run(Duration::from_secs(10));
    assert_eq!(world.replaced, []);
    // The others do without it.
    let began = world.now;
    world.kill(5);
    world.run(Duration::from_secs(3));
    assert_eq!(world.since(began).len(), 1);
}

#[test]
fn a_minority_of_managers_replaces_nobody() {
    let mut world = calm(5, 3);
    for manager in [MANAGERS, MANAGERS + 2] {
        world.kill(manager);
    }
    world.kill(3);
    world.run(Duration::from_secs(10));
    assert_eq!(world.replaced, []);
}

#[test]
fn what_only_managers_miss_is_not_dead() {
    // Its clients and its peers reach it: between it and the managers something is broken.
    let mut world = calm(5, 3);
    for manager in MANAGERS..MANAGERS + 3 {
        world.cut.insert((1, manager));
        world.cut.insert((manager, 1));
        world.link(manager, 1, false);
    }
    world.run(Duration::from_secs(10));
    assert_eq!(world.replaced, []);
}

#[test]
fn two_at_once_are_one_too_many() {
    let mut world = World::new(8, 3, Duration::from_secs(60));
    world.run(Duration::from_secs(3));
    world.kill(1);
    world.run(Duration::from_secs(2));
    world.kill(2);
    world.run(Duration::from_secs(50));
    assert_eq!(world.replaced.len(), 1, "at most one in a minute");
    world.run(Duration::from_secs(20));
    assert_eq!(world.replaced.len(), 2, "and then the next");
    // Three of six at once: it is rather us.
    let mut world = World::new(6, 3, Duration::from_secs(60));
    world.run(Duration::from_secs(3));
    for id in [1, 2, 3] {
        world.kill(id);
    }
    world.run(Duration::from_secs(200));
    assert_eq!(world.replaced, []);
}

#[test]
fn managers_that_begin_anew_know_by_the_ring_who_was_replaced() {
    for managers in [1, 3] {
        let window = Duration::from_secs(10);
        let mut world = World::new(5, managers, window);
        world.run(Duration::from_secs(2));
        let began = world.now;
        world.kill(1);
        world.run(Duration::from_secs(2));
        assert_eq!(world.since(began).len(), 1);
        // Also when it is back, and stands by.
        let us = NodeEntry { incarnation: 2, ..entry(1, Carries::Both) };
        world.cell = world.cell.stand_by(us).expect("it stands by");
        world.revive(1, 2);
        for rank in 0..managers {
            world.begin_anew(rank, managers, window);
        }
        world.run(Duration::from_secs(2));
        world.kill(2);
        world.run(Duration::from_secs(3));
        assert_eq!(world.since(began).len(), 1, "{managers} managers: within the window");
        world.run(Duration::from_secs(5));
        assert_eq!(world.since(began).len(), 2, "{managers} managers: after it");
        assert!(world.since(began)[1].0 >= 9_000, "{:?}", world.since(began));
    }
}

#[test]
fn without_a_store_nobody_is_replaced_and_then_the_dead_one_is() {
    let mut world = calm(4, 3);
    world.is_store_down = true;
    world.kill(1);
    world.run(Duration::from_secs(30));
    assert_eq!(world.replaced, []);
    world.is_store_down = false;
    world.run(Duration::from_secs(6));
    assert_eq!(world.replaced.len(), 1);
}

#[test]
fn who_came_back_under_a_new_incarnation_is_not_replaced_for_the_old_one() {
    let mut world = calm(4, 3);
    world.is_store_down = true;
    world.kill(1);
    world.run(Duration::from_secs(2));
    // It takes its seats back itself, and everybody meets it again.
    let back = NodeEntry { incarnation: 2, ..NodeEntry::new("cs1", "10.0.0.1:7400", 2) };
    world.cell = world.cell.come_back(back).expect("back");
    world.revive(1, 2);
    world.is_store_down = false;
    world.run(Duration::from_secs(20));
    assert_eq!(world.replaced, []);
}

#[test]
fn a_frozen_ring_replaces_nobody_until_it_thaws() {
    let mut world = calm(4, 3);
    world.cell = world.cell.freeze(true).expect("frozen");
    world.tell_ring();
    world.kill(2);
    world.run(Duration::from_secs(30));
    assert_eq!(world.replaced, []);
    world.cell = world.cell.freeze(false).expect("thawed");
    world.tell_ring();
    world.run(Duration::from_secs(2));
    assert_eq!(world.replaced.len(), 1);
}

#[test]
fn who_was_replaced_is_trusted_again_when_it_has_lived_for_a_while() {
    for (waits, is_trusted) in [(10, false), (31, true)] {
        let mut world = World::new(5, 3, Duration::from_secs(1));
        world.run(Duration::from_secs(3));
        world.kill(2);
        world.run(Duration::from_secs(2));
        assert_eq!(world.replaced.len(), 1);
        // Started anew, it stands by.
        let entry = world.cell.document.node(NodeId(2)).expect("known").clone();
        world.cell = world.cell.stand_by(NodeEntry { incarnation: 2, ..entry }).expect("stands by");
        world.revive(2, 2);
        world.run(Duration::from_secs(waits));
        world.kill(3);
        world.run(Duration::from_secs(2));
        assert_eq!(world.replaced.len(), 2);
        let took = world.cell.document.seats_of(2).count();
        assert_eq!(took > 0, is_trusted, "{took} seats after {waits} s");
    }
}

/// Nodes 1, 2, ... of these zones; managers are where `managers` says, and a cut zone takes its managers along.
fn zoned(zones: &[&str], managers: u16) -> World {
    let mut world = World::new(zones.len() as u16, managers, Duration::from_secs(1));
    for (node, zone) in world.cell.document.nodes.iter_mut().zip(zones) {
        node.zone = (*zone).into();
    }
    world.tell_ring();
    world.run(Duration::from_secs(3));
    assert_eq!(world.replaced, [], "nobody is dead");
    world
}

/// Nothing passes between these and all others any more; the kernel says nothing, and the links' own beats break them after a second.
fn cut_off(world: &mut World, inside: &[u16]) {
    let all: Vec<u16> = world.machines.keys().copied().collect();
    let pairs: Vec<(u16, u16)> = inside
        .iter()
        .flat_map(|&a| all.iter().filter(|b| !inside.contains(b)).map(move |&b| (a, b)))
        .collect();
    for &(a, b) in &pairs {
        world.cut.extend([(a, b), (b, a)]);
    }
    world.run(Duration::from_secs(1));
    for (a, b) in pairs {
        world.link(a, b, false);
        world.link(b, a, false);
    }
}

#[test]
fn a_zone_that_is_cut_off_kills_nobody_and_is_not_killed() {
    // Three zones with a manager each. The zone that is alone has no majority; to the others a third of all is silent, which is no node's fault.
    let mut world = zoned(&["a", "a", "b", "b", "c", "c"], 3);
    cut_off(&mut world, &[1, 2, MANAGERS]);
    world.run(Duration::from_secs(100));
    assert_eq!(world.replaced, []);
}

#[test]
fn a_zone_with_all_managers_does_not_kill_the_others_when_it_is_cut_off() {
    // They agree, and their own zone has lost both nodes of the others; so few are silent that no brake holds. But nobody of the third zone says so.
    let zones = ["a", "a", "a", "a", "a", "a", "a", "a", "b", "c"];
    let mut world = zoned(&zones, 3);
    cut_off(&mut world, &[1, 2, 3, 4, 5, 6, 7, 8, MANAGERS, MANAGERS + 1, MANAGERS + 2]);
    world.run(Duration::from_secs(100));
    assert_eq!(world.replaced, [], "its own zone is no witness");
    // One that is dead is replaced by the word of the two others; and of its own zone nobody is asked.
    let mut world = zoned(&zones, 3);
    let began = world.now;
    world.kill(10);
    world.run(Duration::from_secs(3));
    let [(after, 10)] = world.since(began)[..] else { panic!("{:?}", world.since(began)) };
    assert!(after <= 500, "{after} ms");
}

#[test]
fn a_node_is_judged_by_other_zones_than_its_own() {
    // Between node 1 and its own zone, and the managers, something is broken; the other zones reach it.
    let mut world = zoned(&["a", "a", "a", "b", "b", "c"], 3);
    for other in [2, 3, MANAGERS, MANAGERS + 1, MANAGERS + 2] {
        world.cut.extend([(1, other), (other, 1)]);
        world.link(other, 1, false);
        world.link(1, other, false);
    }
    world.run(Duration::from_secs(10));
    assert_eq!(world.replaced, [], "its neighbours' word is not enough");
    // The other way round: its own zone reaches it, and the others do not.
    let mut world = zoned(&["a", "a", "a", "b", "b", "c"], 3);
    let began = world.now;
    for other in [4, 5, 6, MANAGERS, MANAGERS + 1, MANAGERS + 2] {
        world.cut.extend([(1, other), (other, 1)]);
        world.link(other, 1, false);
        world.link(1, other, false);
    }
    world.run(Duration::from_secs(10));
    let [(_, 1)] = world.since(began)[..] else { panic!("{:?}", world.since(began)) };
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn whichever_zone_is_cut_off_alone_nobody_of_another_dies_by_its_word(
        sizes in proptest::collection::vec(1u16..5, 3..5), managers in prop_oneof![Just(1u16), Just(3), Just(5)],
        which in any::<proptest::sample::Index>(),
    ) {
        // All managers are in the zone that is cut off: they all agree, and only the evidence holds them back.
        let cut = which.index(sizes.len());
        let names = ["a", "b", "c", "d"];
        let zones: Vec<&str> = sizes.iter().zip(names).flat_map(|(size, name)| vec![name; usize::from(*size)]).collect();
        let mut world = zoned(&zones, managers);
        let inside: Vec<u16> = (1..=zones.len() as u16)
            .filter(|node| zones[usize::from(*node) - 1] == names[cut])
            .chain(MANAGERS..MANAGERS + managers)
            .collect();
        cut_off(&mut world, &inside);
        world.run(Duration::from_secs(20));
        prop_assert_eq!(&world.replaced, &vec![]);
    }
}
