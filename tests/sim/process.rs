//! The life of processes in a cell, as `runtime/cluster` leads it: join the ring, reach the others, follow the ring, end when another
//! process has one's seats.

use std::rc::Rc;

use campanile::ids::{NodeId, Peer};
use campanile::place::DATA_ROLES;
use campanile::ring::carries::Carries;
use campanile::ring::document::NodeEntry;
use campanile::ring::view::Offered;
use campanile::time::Mono;
use campanile::wire::{VERSION, VERSION_MIN};

use crate::agenda::{Arrival, Far, Happening, Writer, micros, millis};
use crate::checker::Violation;
use crate::ending::Stage;
use crate::lines::{Dial, End};
use crate::node::Begin;
use crate::store::{Kept, Swapped};
use crate::world::World;

/// Between two looks for a place in the ring.
const LOOK_AGAIN_MS: u64 = 500;
/// A connection that nobody answers is given up after this, as `runtime/far` does.
const CONNECT_MS: u64 = 1_000;
/// Between two attempts to reach a node: the first, and the most.
const PAUSE_MS: u64 = 20;
const PAUSE_MS_MAX: u64 = 500;

impl World {
    /// The node of a process that is there.
    pub(crate) fn node_of(&self, process: u32) -> Option<usize> {
        let at = *self.processes.get(process.checked_sub(1)? as usize)?;
        (self.nodes[at].process == process).then_some(at)
    }

    /// A process of a node starts.
    pub(crate) fn start(&mut self, at: usize) {
        if self.nodes[at].process != 0 {
            return;
        }
        self.outside
            .trace
            .tell(self.agenda.now, || format!("a process of {} starts", self.nodes[at].part.name));
        self.processes.push(at);
        self.began.push(self.agenda.now);
        let process = self.processes.len() as u32;
        let node = &mut self.nodes[at];
        node.process = process;
        node.life = node.mail.next() | 1;
        self.join(process);
    }

    /// Looks for its place in the ring; waits for one.
    pub(crate) fn join(&mut self, process: u32) {
        let Some(at) = self.node_of(process) else { return };
        if self.is_held_up(at, Happening::Join { process }) {
            return;
        }
        let again = millis(LOOK_AGAIN_MS);
        let Some(kept) = self.store.read(at) else {
            self.outside.coverage.saw("joins without a store");
            return self.agenda.after(again, Happening::Join { process });
        };
        // A node whose disk says that the store went back starts when it is mended, and an operator starts no new ones meanwhile.
        if self.store.went_back() {
            self.outside.coverage.saw("joins into a store that went back");
            return self.agenda.after(again, Happening::Join { process });
        }
        let part = &self.nodes[at].part;
        if !self.layout.is_cell || !part.owns() {
            let id = part.id.expect("who owns nothing was given a number");
            return self.begin(process, id, &kept);
        }
        let incarnation = u128::from(self.nodes[at].life);
        let back = kept.cell.join(NodeEntry { incarnation, ..part.entry(0) }).expect("it has room");
        let pause = self.store.pause();
        let (by, was, next) = (Writer::Joiner { process }, kept.epoch(), Rc::new(back));
        self.agenda.after(pause, Happening::Write { by, was, next });
    }

    /// What became of the write that gives a process its seats.
    pub(crate) fn joined(&mut self, process: u32, swapped: Swapped) {
        let Some(at) = self.node_of(process) else { return };
        if swapped == Swapped::Done {
            let kept = Rc::clone(self.store.newest());
            let name = &self.nodes[at].part.name;
            let id = kept.cell.document.named(name).expect("just written").id;
            let has_seats = kept.cell.document.seats_of(id).next().is_some();
            if has_seats && self.nodes[at].part.entry(id).carries != Carries::Both {
                self.outside.coverage.saw("seats of one table only");
            }
            let what = if has_seats { "seats taken back" } else { "processes that stand by" };
            self.outside.coverage.saw(what);
            return self.begin(process, NodeId(id), &kept);
        }
        let pause = if swapped == Swapped::Late { 1 } else { LOOK_AGAIN_MS };
        self.agenda.after(millis(pause), Happening::Join { process });
    }

    fn begin(&mut self, process: u32, id: NodeId, kept: &Rc<Kept>) {
        let Some(at) = self.node_of(process) else { return };
        let webapp = self.layout.parts[self.layout.webapp].id;
        let begin = Begin {
            process,
            id,
            life: self.nodes[at].life,
            desk: webapp.expect("the webapp was given a number"),
            manager: self.layout.manager(at, id),
            ring: Rc::clone(&kept.ring),
        };
        let (node, mut around) = self.node_and_around(at);
        let offered = node.view.offer(&kept.cell);
        node.told = Some((Rc::clone(kept), None));
        if let Offered::Older { known, offered } = offered {
            around
                .outside
                .checker
                .broken(format!("I5: a linearizable read gives {offered} after {known}"));
        }
        node.start(begin, &mut around);
        if at == self.layout.webapp {
            self.tell_revoked_before();
        }
        self.outside.trace.tell(self.agenda.now, || {
            format!("{} is node {} with ring {}", self.nodes[at].part.name, id.0, kept.epoch())
        });
        if !self.layout.is_cell {
            return;
        }
        self.reach(at, &Rc::clone(kept));
        self.agenda.after(micros(100), Happening::Follow { process });
    }

    // ---- the ring

    /// Reads the ring, and tells all places of the process if it is newer.
    pub(crate) fn follow(&mut self, process: u32) {
        let Some(at) = self.node_of(process).filter(|at| self.nodes[*at].is_up()) else { return };
        if self.is_held_up(at, Happening::Follow { process }) {
            return;
        }
        if self.ways.deaf == Some(at) {
            return self.outside.coverage.saw("watches that never tell");
        }
        let Some(kept) = self.store.watched(at) else {
            let pause = millis(100 + self.store.random.below(900));
            return self.agenda.after(pause, Happening::Follow { process });
        };
        let node = &mut self.nodes[at];
        let known = node.view.cell().map_or(0, |cell| cell.document.ring_epoch);
        if kept.epoch() != known {
            match node.view.offer(&kept.cell) {
                Offered::Newer => self.tell_ring(at, &kept),
                Offered::Older { .. } => self.outside.coverage.saw("rings that were older"),
                other => self.outside.checker.broken(format!("I6: {other:?}")),
            }
        }
        let newest = self.store.newest().epoch();
        if self.nodes[at].view.cell().is_some_and(|cell| cell.document.ring_epoch < newest) {
            self.agenda.after(millis(250), Happening::Follow { process });
        }
    }

    pub(crate) fn tell_ring(&mut self, at: usize, kept: &Rc<Kept>) {
        let node = &mut self.nodes[at];
        let before = node.told.take().map(|(before, _)| before);
        node.told = Some((Rc::clone(kept), before));
        let (id, life, process) = (node.id, u128::from(node.life), node.process);
        let us = kept.cell.document.node(id).filter(|_| node.part.owns());
        if us.is_some_and(|us| us.incarnation != life || us.replaced) {
            self.outside.coverage.saw("processes that ended because another has their seats");
            self.stop(process);
            return;
        }
        let mut due = node.rings_until.max(self.agenda.now);
        for place in 0..=node.control() {
            due += micros(10 + node.mail.below(3_000));
            let what = Arrival::Ring(Rc::clone(&kept.ring));
            self.agenda.at(due, Happening::Arrive { process, place, what });
        }
        node.rings_until = due;
        self.reach(at, kept);
    }

    /// The store was written: whoever watches it hears of it.
    pub(crate) fn spread_news(&mut self) {
        for node in &self.nodes {
            if node.is_up() {
                let at = self.store.news_at(self.agenda.now);
                self.agenda.at(at, Happening::Follow { process: node.process });
            }
        }
    }

    /// A write of the ring reaches the store.
    pub(crate) fn write_ring(
        &mut self,
        by: Writer,
        was: u64,
        next: &campanile::ring::change::Cell,
    ) -> Result<(), Violation> {
        let before = Rc::clone(self.store.newest());
        let at = match by {
            Writer::Manager { process, .. }
            | Writer::Leveller { process, .. }
            | Writer::Joiner { process } => self.node_of(process),
            Writer::Operator => None,
        };
        let swapped = self.store.swap(at, was, next)?;
        let is_done = self.store.newest().epoch() != before.epoch();
        self.outside.trace.tell(self.agenda.now, || {
            format!("ring {} by {by:?}: {swapped:?}, {is_done}", next.document.ring_epoch)
        });
        if swapped == Swapped::Unknown {
            self.outside.coverage.saw("writes of unknown end");
        }
        if is_done {
            self.spread_news();
            if let Writer::Manager { dead, process, .. } = by {
                self.judge_replacement(process, dead, &before)?;
            }
            if matches!(by, Writer::Leveller { .. }) && before.cell.document.frozen {
                return Err(Violation("I10: slots move while the ring is frozen".into()));
            }
        }
        match by {
            Writer::Joiner { process } => self.joined(process, swapped),
            Writer::Manager { process, ask, .. } | Writer::Leveller { process, ask } => {
                if swapped == Swapped::Done {
                    let written = Rc::clone(self.store.newest());
                    self.offer(process, &written, "rings told by who wrote them");
                }
                self.replaced(process, ask, swapped);
            }
            Writer::Operator => {}
        }
        Ok(())
    }

    // ---- connections

    /// Dials whom `runtime/cluster` would. Of two nodes of the ring the one with the lower number dials; others dial them all.
    fn reach(&mut self, at: usize, kept: &Rc<Kept>) {
        let document = &kept.cell.document;
        let us = self.nodes[at].id;
        let is_ours = |id: u16| id != us.0 && (document.node(us).is_none() || us.0 < id);
        let nodes = document.nodes.iter().filter(|node| is_ours(node.id));
        let nodes = nodes.map(|node| (node.id, node.address.clone(), node.cores));
        // Others that are in no ring: only their control planes have something for us.
        let others = self
            .nodes
            .iter()
            .filter(|other| document.node(us).is_none() && self.layout.is_for(at, other.at));
        let others =
            others.map(|other| (other.part.id.unwrap_or_default().0, other.part.name.clone(), 0));
        // Cores of ours ask those of relays.
        let relays = self.layout.parts[at].relays.iter().map(|relay| &self.layout.parts[*relay]);
        let relays = relays
            .map(|relay| (relay.id.unwrap_or_default().0, relay.name.clone(), relay.cores as u8));
        let wanted: Vec<_> = nodes.chain(others).chain(relays).collect();
        let given_up: Vec<u64> = self.nodes[at]
            .dialing
            .iter()
            .filter(|(node, _)| !wanted.contains(node))
            .map(|(_, order)| *order)
            .collect();
        self.nodes[at].dialing.retain(|node, _| wanted.contains(node));
        for order in given_up {
            for line in self.lines.ordered(order) {
                self.close(line, 0);
            }
        }
        for node in wanted {
            if self.nodes[at].dialing.contains_key(&node) {
                continue;
            }
            let order = self.next_order();
            let (number, address, cores) = node.clone();
            self.nodes[at].dialing.insert(node, order);
            let other = self.nodes.iter().position(|other| other.part.name == address);
            let other = other.expect("an address is a name");
            let has_control = document.node(NodeId(number)).is_some() || cores == 0;
            self.dial_all(at, other, (usize::from(cores), has_control), order);
        }
    }

    fn next_order(&mut self) -> u64 {
        self.orders += 1;
        self.orders
    }

    /// Every place of ours to every place of another node; to a relay only cores, from cores.
    fn dial_all(
        &mut self,
        at: usize,
        other: usize,
        (cores, has_control): (usize, bool),
        order: u64,
    ) {
        let node = &self.nodes[at];
        let has_data = !node.part.roles.both(DATA_ROLES).is_empty();
        let with = |control: usize| Some(control).filter(|_| has_control);
        let ours = (0..node.part.cores).filter(|_| has_data).chain(with(node.control()));
        let control = with(self.nodes[other].control());
        for place in ours {
            for to_place in (0..cores).chain(control) {
                let from = End { node: at, process: node.process, place };
                let dial = Dial { from, to: other, to_place, order, pause_ms: PAUSE_MS };
                self.agenda.after(micros(50), Happening::Dial(dial));
            }
        }
    }

    /// A connection is tried.
    pub(crate) fn dial(&mut self, dial: Dial) {
        let Dial { from, to, to_place, order, pause_ms } = dial;
        if self.node_of(from.process) != Some(from.node)
            || self.is_held_up(from.node, Happening::Dial(dial))
        {
            return;
        }
        let node = &self.nodes[from.node];
        if !node.dialing.values().any(|one| *one == order) {
            return;
        }
        let is_walled = self.lines.is_walled(from.node, to) || self.lines.is_walled(to, from.node);
        let there = &self.nodes[to];
        if is_walled || !there.is_up() {
            let pause = if is_walled { CONNECT_MS } else { pause_ms };
            let next = Dial { pause_ms: (pause_ms * 2).min(PAUSE_MS_MAX), ..dial };
            let jitter = self.workload_of_lines(pause);
            return self.agenda.after(jitter, Happening::Dial(next));
        }
        let ends = [from, End { node: to, process: there.process, place: to_place }];
        let epoch =
            |at: usize| self.nodes[at].view.cell().map_or(0, |cell| cell.document.ring_epoch);
        let identities = [
            self.nodes[to].identity(to_place, epoch(to)),
            self.nodes[from.node].identity(from.place, epoch(from.node)),
        ];
        let is_old = [from.node, to].iter().any(|at| self.nodes[*at].part.is_old);
        let version = if is_old { VERSION_MIN } else { VERSION };
        let line = self.lines.connect(&mut self.agenda, (dial, version), ends);
        if is_old {
            self.outside.coverage.saw("connections of an older version");
        }
        for (side, identity) in identities.into_iter().enumerate() {
            let End { process, place, .. } = ends[side];
            let what = Arrival::Far { line, news: Far::Met((identity, version), side) };
            let pause = micros(200 + side as u64 * 100);
            self.agenda.after(pause, Happening::Arrive { process, place, what });
        }
    }

    fn workload_of_lines(&mut self, pause_ms: u64) -> std::time::Duration {
        millis(pause_ms / 2) + micros(self.store.random.below(pause_ms * 500 + 1))
    }

    /// A side closes its connection: its place is told, and the one that dialed tries again.
    pub(crate) fn close(&mut self, line: usize, side: usize) {
        if self.lines.close(&mut self.agenda, line, side) {
            self.parted(line, side);
        }
    }

    fn parted(&mut self, line: usize, side: usize) {
        let End { process, place, .. } = self.lines.end(line, side);
        let what = Arrival::Far { line, news: Far::Parted };
        self.agenda.after(micros(30), Happening::Arrive { process, place, what });
        if side == 0 {
            self.redial(line);
        }
    }

    pub(crate) fn redial(&mut self, line: usize) {
        let dial = Dial { pause_ms: PAUSE_MS, ..self.lines.dial(line) };
        let pause = self.workload_of_lines(PAUSE_MS);
        self.agenda.after(pause, Happening::Dial(dial));
    }

    /// What was sent over a connection arrives.
    pub(crate) fn ferry(&mut self, line: usize, side: usize) {
        let Some((end, what)) = self.lines.ferry(line, side) else { return };
        if matches!(what, Arrival::Far { news: Far::Parted, .. }) && side == 1 {
            self.redial(line);
        }
        if self.node_of(end.process).is_some() {
            self.nodes[end.node].arrive(&mut self.agenda, end.place, what);
        }
        let sender = self.lines.end(line, side);
        if self.node_of(sender.process).is_some()
            && self.nodes[sender.node].is_waiting_for(sender.place, line)
        {
            let at = self.agenda.now + micros(5);
            self.nodes[sender.node].wake(&mut self.agenda, sender.place, at);
        }
    }

    /// A side heard nothing for as long as a stream waits.
    pub(crate) fn silent(&mut self, line: usize, side: usize, wall: u64) {
        if !self.lines.is_silent(line, side, wall) {
            return;
        }
        let node = self.lines.end(line, side).node;
        if !self.is_held_up(node, Happening::Silent { line, side, wall }) {
            self.outside.coverage.saw("connections that fell silent");
            self.close(line, side);
        }
    }

    /// Whoever stands still does it when it goes on.
    fn is_held_up(&mut self, node: usize, what: Happening) -> bool {
        let until: Mono = self.nodes[node].paused_until;
        let is_held = until > self.agenda.now;
        if is_held {
            let after = micros(self.store.random.below(2_000));
            self.agenda.at(until + after, what);
        }
        is_held
    }

    /// Whether a connection between control planes and cores of this node has to do with somebody else: for gauges of the end.
    pub(crate) fn is_current(&self, at: usize) -> bool {
        let known = self.nodes[at].view.cell().map_or(0, |cell| cell.document.ring_epoch);
        known == self.store.newest().epoch() && self.nodes[at].rings_until <= self.agenda.now
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.stage != Stage::Active
    }

    /// Where handlers of the Web API are: the node and its number, while it is up.
    pub(crate) fn desk(&self) -> Option<(usize, NodeId)> {
        let at = self.layout.webapp;
        let node = &self.nodes[at];
        (node.is_up() && !node.is_draining && node.paused_until <= self.agenda.now)
            .then_some((at, node.id))
    }

    /// A gateway that takes clients: mostly one of a region that does not drain, as rtm.connect says; some come to the other with a ticket that
    /// they had, or know of no other.
    pub(crate) fn a_gateway(&mut self) -> Option<usize> {
        let mut open: Vec<usize> = self
            .layout
            .gateways()
            .into_iter()
            .filter(|at| self.nodes[*at].is_up() && !self.nodes[*at].is_draining)
            .collect();
        if self.layout.has_regions() && self.network.random.chance(800) {
            let ring = &self.store.newest().ring;
            let is_left = |at: &usize| {
                self.layout.parts[*at].region.is_some_and(|name| ring.drain_of(name).is_some())
            };
            let others: Vec<usize> = open.iter().copied().filter(|at| !is_left(at)).collect();
            if !others.is_empty() {
                open = others;
            }
        }
        (!open.is_empty()).then(|| *self.network.random.pick(&open))
    }

    /// Cores of gateways that the webapp knows.
    pub(crate) fn known_gateways(&self) -> Vec<Peer> {
        let node = &self.nodes[self.layout.webapp];
        node.places.last().map_or(Vec::new(), crate::place::Place::gateways)
    }
}
