//! One ring manager. It hears every node, asks its fellows and the others' links, and gives a dead node's seats away by one
//! compare-and-set. There is no leader: who is first wins, the others see that it is done.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::brakes::{Brake, Brakes};
use super::evidence::{self, Observer};
use super::level::Level;
use super::pulse::{Beats, Pulse, Verdict};
use super::push::{self, Push};
use crate::ids::{Ask, NodeId, Peer, Role};
use crate::limits::{BEAT, WORD_AGE_MAX};
use crate::ring::Ring;
use crate::ring::carries::Carries;
use crate::shard::{Budget, Counter, Effects, Input, Report, Shard};
use crate::time::{Mono, Now, sooner};
use crate::wire::message::outcome;
use crate::wire::{Message, Packed};

/// What a manager is made with.
#[derive(Clone, Copy, Debug)]
pub struct ManagerConfig {
    /// The node that it is on.
    pub me: NodeId,
    /// Managers of the cell, with this one: a majority of them has to agree.
    pub managers: usize,
    /// Its place among them, from 0: who comes later waits longer.
    pub rank: u32,
    /// In which time at most one node, or 10 % of all, is replaced.
    pub window: Duration,
    /// How long a node that was replaced lives before it is trusted with seats again; doubles each time.
    pub probation: Duration,
}

impl ManagerConfig {
    /// As an operator would leave it.
    pub const WINDOW: Duration = Brakes::WINDOW;
    pub const PROBATION: Duration = Brakes::PROBATION;

    /// The only manager of its cell.
    pub fn alone(me: NodeId) -> Self {
        Self { me, managers: 1, rank: 0, window: Self::WINDOW, probation: Self::PROBATION }
    }
}

/// What a fellow or an observer said, and when.
#[derive(Debug)]
struct Word {
    at: Mono,
    /// Nodes, with their incarnations where a manager speaks.
    dead: BTreeSet<(NodeId, u64)>,
}

/// One machine of the control plane.
#[derive(Debug)]
pub struct Manager {
    config: ManagerConfig,
    beats: Beats,
    /// Every node with a link, by its number.
    pulses: BTreeMap<NodeId, (Peer, Pulse)>,
    /// Other managers, and what they said last.
    fellows: BTreeMap<Peer, Option<Word>>,
    /// What nodes said last of the nodes that they lost.
    observers: BTreeMap<NodeId, Word>,
    /// Nodes of the ring, and what each node fails together with.
    nodes: BTreeSet<NodeId>,
    zones: BTreeMap<NodeId, u16>,
    /// Nodes that carry one table only, and which.
    apart: BTreeMap<NodeId, Carries>,
    /// Dead nodes whose seats nobody might take of so many who lived, and until when that is not tried again.
    unplaced: BTreeMap<NodeId, (usize, Mono)>,
    brakes: Brakes,
    /// The newest ring, for whoever has an older one.
    push: Push,
    /// Since when all agree that a node is dead.
    agreed: BTreeMap<NodeId, Mono>,
    /// A write of the ring that is under way, whom it replaces, and how many lived then.
    writing: Option<(Ask, NodeId, usize)>,
    /// Who is dead is looked at then, if something was heard since the last look.
    judge_at: Mono,
    is_unjudged: bool,
    /// Nothing is written before: an answer, or the ring that it brings, is on its way.
    not_before: Mono,
    asks: u32,
    brake: Option<Brake>,
    level: Level,
}

/// Managers do not all write at once.
const RANK_PAUSE: Duration = Duration::from_millis(150);
/// Between two looks at who is dead: a thousand nodes beat ten thousand times a second, and each look is at all of them.
const JUDGE_PAUSE: Duration = Duration::from_millis(10);
/// A write that nobody answered in this time is begun anew.
const WRITE_MAX: Duration = Duration::from_secs(4);
/// Whose seats nobody may take is looked at again after this, when others live, or in another ring: somebody may be trusted by then.
const UNPLACED: Duration = Duration::from_secs(5);
/// From an answer until something is written again: the ring that it brought has been told by then.
const AFTER_WRITE: Duration = Duration::from_millis(500);

impl Manager {
    pub fn new(config: ManagerConfig) -> Self {
        Self {
            config,
            beats: Beats::default(),
            pulses: BTreeMap::new(),
            fellows: BTreeMap::new(),
            observers: BTreeMap::new(),
            nodes: BTreeSet::new(),
            zones: BTreeMap::new(),
            apart: BTreeMap::new(),
            unplaced: BTreeMap::new(),
            brakes: Brakes::default(),
            push: Push::default(),
            agreed: BTreeMap::new(),
            writing: None,
            judge_at: Mono::default(),
            is_unjudged: false,
            not_before: Mono::default(),
            asks: 0,
            brake: None,
            level: Level::new(config.rank),
        }
    }

    fn verdict(&self, now: Mono, node: NodeId) -> Option<(Verdict, u64)> {
        // Who was never heard is not dead: it may be us who cannot reach it.
        self.pulses.get(&node).map(|(_, pulse)| (pulse.verdict(now), pulse.incarnation))
    }

    fn dead(&self, now: Mono) -> impl Iterator<Item = (NodeId, u64)> {
        self.nodes.iter().filter_map(move |node| match self.verdict(now, *node)? {
            (Verdict::Dead, incarnation) => Some((*node, incarnation)),
            _ => None,
        })
    }

    /// Who is well, and since when it is known.
    fn alive(&self, now: Mono) -> impl Iterator<Item = (NodeId, Mono)> {
        let alive = self.pulses.iter();
        let alive = alive.filter(move |(_, (_, pulse))| pulse.verdict(now) == Verdict::Alive);
        alive.map(|(node, (_, pulse))| (*node, pulse.met_at))
    }

    fn beat(&mut self, now: Mono, out: &mut Effects) {
        let Some(number) = self.beats.next(now) else { return };
        let (mut nobody, mut list) = (Vec::new(), Vec::new());
        let lost = Packed::pack(std::iter::empty::<u16>(), &mut nobody);
        for (peer, pulse) in self.pulses.values() {
            let ring_epoch = self.push.ring_epoch();
            out.send_transient(
                *peer,
                &Message::Beat { number, echo: pulse.heard, ring_epoch, lost },
            );
        }
        let dead = self.dead(now).map(|(node, incarnation)| (node.0, incarnation));
        let dead = Packed::pack(dead, &mut list);
        for &fellow in self.fellows.keys() {
            out.send_transient(fellow, &Message::Suspects { dead });
        }
    }

    /// A majority of managers thinks so, with the same incarnation.
    fn is_agreed(&self, now: Mono, node: NodeId, incarnation: u64) -> bool {
        let fellows = self.fellows.values().flatten();
        let agreeing =
            fellows.filter(|word| is_fresh(word, now) && word.dead.contains(&(node, incarnation)));
        1 + agreeing.count() > self.config.managers / 2
    }

    /// The data plane has lost it too.
    fn is_evident(&self, now: Mono, node: NodeId) -> bool {
        let zone = |node: &NodeId| self.zones.get(node).copied().unwrap_or(0);
        // Whoever was heard once and is of a zone counts as there for as long as it is in the ring: that it is silent may be our own fault.
        let others = self.observers.iter().filter(|(observer, _)| **observer != node);
        let observers = others.map(|(observer, word)| Observer {
            zone: zone(observer),
            is_fresh: is_fresh(word, now),
            has_lost: word.dead.contains(&(node, 0)),
        });
        evidence::is_evident(zone(&node), &observers.collect::<Vec<_>>())
    }

    fn judge(&mut self, now: Mono, out: &mut Effects) {
        self.is_unjudged = now < self.judge_at;
        if self.is_unjudged {
            return;
        }
        self.judge_at = now + JUDGE_PAUSE;
        if now < self.not_before {
            return;
        }
        let dead: Vec<(NodeId, u64)> = self.dead(now).collect();
        let wait = RANK_PAUSE * self.config.rank;
        if !self.unplaced.is_empty() {
            let living = self.alive(now).count();
            self.unplaced.retain(|_, (then, until)| *then == living && *until > now);
        }
        // Who has to keep its seats keeps nobody else from being replaced.
        let mut placeable = dead.iter().filter(|(node, _)| !self.unplaced.contains_key(node));
        let ripe = placeable.find(|&&(node, incarnation)| {
            self.is_agreed(now, node, incarnation) && self.is_evident(now, node)
        });
        let ripe = ripe.copied();
        self.agreed.retain(|node, _| ripe.is_some_and(|(ripe, _)| ripe == *node));
        let Some((node, incarnation)) = ripe else {
            self.brake = None;
            return;
        };
        if now.since(*self.agreed.entry(node).or_insert(now)) < wait {
            return;
        }
        let allowed = self.brakes.allow(now, self.nodes.len(), dead.len());
        if let Err(brake) = allowed {
            if self.brake != Some(brake) {
                out.count(Counter::ReplacementsBraked);
            }
            self.brake = Some(brake);
            return;
        }
        self.brake = None;
        let ask = self.next_ask();
        // Also who only stands by, when it lived long enough, or nobody else is left. Of the ring are those that the write finds there.
        let alive: Vec<(NodeId, Mono)> = self.alive(now).collect();
        let has_seats = |node: &NodeId| self.nodes.contains(node);
        let carries = |node: &NodeId| self.apart.get(node).copied().unwrap_or_default();
        let is_last = !alive
            .iter()
            .any(|(other, _)| has_seats(other) && carries(other).covers(carries(&node)));
        let live = alive.iter().filter(|(node, met_at)| {
            let trusts = || self.brakes.trusts(now, *node, *met_at, self.config.probation);
            is_last || has_seats(node) || trusts()
        });
        let mut list = Vec::new();
        let live = Packed::pack(live.map(|(node, _)| node.0), &mut list);
        let ring_epoch = self.push.ring_epoch();
        out.ask(ask, &Message::Replace { ask, ring_epoch, node: node.0, incarnation, live });
        (self.writing, self.not_before) = (Some((ask, node, alive.len())), now + WRITE_MAX);
    }

    /// Slots are evened out while all who hold seats are well: who is not comes first, and who was never heard gets nothing of us.
    fn even_out(&mut self, now: Mono, out: &mut Effects) {
        let is_well = |node: &NodeId| {
            self.verdict(now, *node).is_some_and(|(verdict, _)| verdict == Verdict::Alive)
        };
        let may = self.writing.is_none() && !self.brakes.is_frozen;
        if !may || !self.level.is_due(now) || !self.nodes.iter().all(is_well) {
            return;
        }
        let (ask, ring_epoch) = (self.next_ask(), self.push.ring_epoch());
        self.level.ask(now, ask);
        out.ask(ask, &Message::EvenOut { ask, ring_epoch });
    }

    fn next_ask(&mut self) -> Ask {
        self.asks = self.asks.wrapping_add(1);
        Ask(self.asks)
    }

    fn replaced(&mut self, now: Mono, ask: Ask, what: u8, out: &mut Effects) {
        if self.level.answered(now, ask, what) {
            out.count(Counter::RingsEvenedOut);
        }
        let Some((_, node, living)) = self.writing.take_if(|(writing, ..)| *writing == ask) else {
            return;
        };
        // The ring tells the rest, also who was faster.
        self.not_before = now + AFTER_WRITE;
        match what {
            outcome::DONE => out.count(Counter::NodesReplaced),
            outcome::NOBODY => drop(self.unplaced.insert(node, (living, now + UNPLACED))),
            _ => {}
        }
    }

    /// What a manager's own links say is no evidence: that it is cut off is what is in question.
    fn is_manager(&self, node: NodeId) -> bool {
        node == self.config.me || self.fellows.keys().any(|fellow| fellow.node == node)
    }

    /// The first ring tells of replacements that others made, or a process of ours before this one (I10).
    fn remember(&mut self, now: Now, ring: &Ring) {
        for (node, at) in &ring.replaced_at {
            let age = Duration::from_secs(now.wall.seconds().saturating_sub(*at));
            self.brakes.remember(now.mono, *node, age, self.config.window);
        }
    }

    /// Who has no seats any more was replaced, by whichever manager, if the ring says so; or was dead to us, and is back already.
    fn ring(&mut self, now: Mono, nodes: BTreeSet<NodeId>, replaced: &[NodeId]) {
        for node in self.nodes.difference(&nodes) {
            let verdict = self.verdict(now, *node).map(|(verdict, _)| verdict);
            if replaced.contains(node) || verdict == Some(Verdict::Dead) {
                self.brakes.replaced(now, *node, self.config.window);
                self.level.upset();
            }
        }
        self.nodes = nodes;
        self.level.ring(now);
        self.observers.retain(|node, word| is_fresh(word, now) || self.zones.contains_key(node));
    }
}

fn is_fresh(word: &Word, now: Mono) -> bool {
    now.since(word.at) < WORD_AGE_MAX
}

impl Shard for Manager {
    fn handle(&mut self, now: Now, input: Input<'_>, out: &mut Effects) {
        let mono = now.mono;
        match input {
            Input::PeerUp { peer, hello, .. } if peer.role == Role::Health => {
                let new = (peer, Pulse::new(hello.incarnation, mono));
                let (at, pulse) = self.pulses.entry(peer.node).or_insert(new);
                *at = peer;
                pulse.connected(hello.incarnation, mono);
            }
            Input::PeerLost { peer } if peer.role == Role::Health => {
                if let Some((_, pulse)) = self.pulses.get_mut(&peer.node) {
                    pulse.lost();
                }
                self.push.lost(peer);
            }
            // We are our own neighbour, and no second voice.
            Input::PeerUp { peer, .. }
                if peer.role == Role::Ring && peer.node != self.config.me =>
            {
                self.fellows.insert(peer, None);
            }
            Input::PeerLost { peer } if peer.role == Role::Ring => {
                self.fellows.remove(&peer);
            }
            Input::Ring { ring } => {
                let held = ring.seats.iter().map(|seat| seat.node);
                (self.brakes.is_frozen, self.zones) = (ring.frozen, ring.zones().collect());
                let held = held.filter(|node| node.0 != u16::MAX).collect();
                if self.push.ring_epoch() == 0 {
                    self.remember(now, ring);
                }
                self.apart = ring.apart.iter().copied().collect();
                self.unplaced.clear();
                self.ring(mono, held, &ring.replaced);
                if let Some(since) = self.push.ring(ring.ring_epoch) {
                    push::ask(self.next_ask(), since, out);
                }
            }
            Input::Wire { peer, message: Message::Beat { number, echo, ring_epoch, lost } } => {
                self.push.heard(peer.node, ring_epoch);
                if let Some((_, pulse)) = self.pulses.get_mut(&peer.node) {
                    pulse.hear(mono, &self.beats, number, echo);
                    let dead = lost.iter::<u16>().map(|node| (NodeId(node), 0)).collect();
                    if !self.is_manager(peer.node) {
                        self.observers.insert(peer.node, Word { at: mono, dead });
                    }
                }
            }
            Input::Wire { peer, message: Message::Suspects { dead } } => {
                if let Some(word) = self.fellows.get_mut(&peer) {
                    let dead = dead
                        .iter::<(u16, u64)>()
                        .map(|(node, life)| (NodeId(node), life))
                        .collect();
                    *word = Some(Word { at: mono, dead });
                }
            }
            Input::Answer { message: Message::Replaced { ask, what }, .. } => {
                self.replaced(mono, ask, what, out);
            }
            Input::Answer { message: Message::RingNews { since, ring_epoch, news }, .. } => {
                let nodes = self.pulses.iter().filter(|(node, _)| **node != self.config.me);
                let nodes = nodes.map(|(_, (peer, _))| *peer);
                self.push.made((since, ring_epoch), news, nodes, out);
            }
            Input::Wire {
                peer,
                message: Message::RingWanted { since, ring_epoch, at, bytes_max },
            } => {
                let wanted = (since, ring_epoch);
                if self.push.wanted(mono, peer, wanted, (at, bytes_max), out) {
                    push::ask(self.next_ask(), 0, out);
                }
            }
            _ => {}
        }
        self.beat(mono, out);
        self.judge(mono, out);
        self.even_out(mono, out);
    }

    fn advance(&mut self, _now: Now, _budget: Budget, _out: &mut Effects) -> bool {
        false
    }

    fn deadline(&self) -> Option<Mono> {
        // Every beat is also a look at who is silent.
        let judge_at = self.is_unjudged.then_some(self.judge_at);
        sooner(judge_at, Some(self.beats.deadline()))
    }

    fn report(&self, into: &mut Report) {
        into.gauge("ring_nodes", self.nodes.len() as f64);
        into.gauge("ring_managers", 1.0 + self.fellows.len() as f64);
        into.gauge("ring_nodes_heard", self.pulses.len() as f64);
        into.gauge("ring_nodes_behind", self.push.behind() as f64);
        into.gauge("ring_nodes_unplaced", self.unplaced.len() as f64);
        into.gauge("ring_brake", f64::from(u8::from(self.brake.is_some())));
    }
}

const _: () =
    assert!(BEAT.as_millis() * 3 < WORD_AGE_MAX.as_millis(), "a lost word is said again in time");
