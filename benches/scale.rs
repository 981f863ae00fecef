//! The control plane against the number of nodes: three managers, N nodes of the ring, 65,536 slots, in virtual time. How long from a death to the
//! committed replacement and to all nodes having the ring, what the beats cost, how large the documents are, how long plans take.
//!
//! `cargo bench --bench scale -- --csv benches/scale.csv --svg benches/scale.svg [N ..]`. The shards, places, links and documents are those of the
//! product; the network (0.1 to 0.5 ms one way) and the store (3 ms a read, 10 ms a write) are models. CPU is measured, of one thread.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt::Write as _;
use std::rc::Rc;
use std::time::{Duration, Instant};

use campanile::charm::health::Health;
use campanile::charm::manager::{Manager, ManagerConfig};
use campanile::ids::{Ask, NodeId, Peer, Role, Roles};
use campanile::limits::{Limits, RING_STEP_SLOTS_MAX};
use campanile::place::{Hands, Place, Shards, Whole};
use campanile::ring::Ring;
use campanile::ring::assign::Kind;
use campanile::ring::change::Cell;
use campanile::ring::document::NodeEntry;
use campanile::ring::news;
use campanile::shard::{Effect, Effects, Input, Shard};
use campanile::time::{Mono, Now, Wall};
use campanile::wire::link::Batch;
use campanile::wire::message::outcome;
use campanile::wire::stream::Identity;
use campanile::wire::{Hello, Message, VERSION};
use plotters::prelude::*;

const MANAGERS: usize = 3;
const MANAGER_IDS: u16 = 10_010;
/// Data cores of a node: a manager has a connection to each, besides the one to its control plane.
const CORES: u8 = 8;
/// Of a batch on its connection besides the batch (`wire::stream`), and of a packet besides its bytes: Ethernet, IP, TCP with timestamps.
const FRAME_BYTES: u64 = 38;
const PACKET_BYTES: u64 = 66;
const SEGMENT_BYTES: u64 = 1_448;
const READ: Duration = Duration::from_millis(3);
const WRITE: Duration = Duration::from_millis(10);
const CALM: Duration = Duration::from_secs(5);
/// What one value, and one request of a transaction, of Consul's takes.
const CONSUL_BYTES_MAX: usize = 512 << 10;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let after = |flag: &str| {
        let at = words.iter().position(|word| word == flag)?;
        words.get(at + 1).cloned()
    };
    let mut counts: Vec<u16> = words.iter().filter_map(|word| word.parse().ok()).collect();
    if counts.is_empty() {
        counts = vec![3, 6, 12, 25, 50, 100, 200, 400, 700, 1_000];
    }
    let mut rows = Vec::new();
    for count in counts {
        let row = measure(count);
        println!("{count} nodes");
        for (name, value) in &row {
            println!("  {name:<44} {value:>14.3}");
        }
        rows.push(row);
    }
    if let Some(path) = after("--csv") {
        std::fs::write(&path, csv(&rows)).expect("the figures are written");
    }
    if let Some(path) = after("--svg") {
        std::fs::write(&path, svg(&rows)).expect("the plots are written");
    }
}

type Row = Vec<(&'static str, f64)>;

fn ms(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let began = Instant::now();
    let made = work();
    (made, ms(began.elapsed()))
}

/// The best of a few: the machine is shared.
fn best(mut work: impl FnMut()) -> f64 {
    (0..5).map(|_| timed(&mut work).1).fold(f64::MAX, f64::min)
}

fn entry(id: u16) -> NodeEntry {
    NodeEntry {
        id,
        incarnation: u128::from(u64::MAX / u64::from(id)),
        zone: format!("zone-{}", id % 3),
        ..NodeEntry::new(
            &format!("channel-{id:04}"),
            &format!("10.20.{}.{}:7400", id / 250, id % 250),
            CORES,
        )
    }
}

fn measure(count: u16) -> Row {
    let cell = Cell::new("scale", (1..=count).map(entry).collect()).expect("a ring");
    let mut row: Row = vec![("nodes", f64::from(count))];
    documents(&cell, &mut row);
    let mut world = World::new(cell, count);
    world.run(Duration::from_secs(3), |_| false);
    world.tally = Tally::default();
    world.run(CALM, |_| false);
    assert_eq!(world.store.document.ring_epoch, 1, "nobody is dead");
    let Tally { messages, bytes, cpu } = world.tally;
    let seconds = CALM.as_secs_f64();
    row.push(("a manager: batches a second, both ways", messages as f64 / seconds));
    row.push(("a manager: kB a second on the wire", bytes as f64 / seconds / 1e3));
    row.push(("a manager: % of a core", cpu.as_secs_f64() / seconds * 100.0));
    row.push((
        "a node: kB a second on the wire, by all managers",
        bytes as f64 / seconds / 1e3 / f64::from(count) * MANAGERS as f64,
    ));
    let dead = count / 2 + 1;
    world.tally = Tally::default();
    let killed = world.now;
    world.kill(usize::from(dead) - 1);
    world.run(Duration::from_secs(5), World::has_everybody_the_ring);
    assert!(world.has_everybody_the_ring(), "everybody has the ring within 5 s");
    let written = world.written_at.expect("it was replaced");
    row.push(("from the death to the write, ms", ms(written.since(killed))));
    let last = world.machines.iter().filter(|one| !one.is_dead).map(|one| one.taken_at).max();
    row.push(("from the write to all nodes, ms", ms(last.expect("there are some").since(written))));
    row.push((
        "a manager: % of a core in that time",
        world.tally.cpu.as_secs_f64() / world.now.since(killed).as_secs_f64() * 100.0,
    ));
    row
}

/// Sizes of what the store keeps and what is sent, and how long plans take.
fn documents(cell: &Cell, row: &mut Row) {
    let in_base64 = |bytes: usize| bytes.div_ceil(3) * 4 + 120;
    let (document, table) =
        (cell.document.encode().len(), cell.channels.encode(Kind::Channels).len());
    row.push(("seats document, kB", document as f64 / 1e3));
    row.push((
        "% of the largest value of Consul",
        document as f64 / CONSUL_BYTES_MAX as f64 * 100.0,
    ));
    row.push(("write of a replacement, kB", in_base64(document) as f64 / 1e3));
    let step = in_base64(document) + in_base64(table);
    row.push(("write of a step of a plan, kB", step as f64 / 1e3));
    row.push(("% of the largest write of Consul", step as f64 / CONSUL_BYTES_MAX as f64 * 100.0));
    let whole = in_base64(document) + 2 * in_base64(table);
    row.push(("whole ring read from the store, kB", whole as f64 / 1e3));
    row.push((
        "read by all nodes without pushes, MB",
        whole as f64 * cell.document.nodes.len() as f64 / 1e6,
    ));
    row.push((
        "seats read by all nodes after a push, MB",
        in_base64(document) as f64 * cell.document.nodes.len() as f64 / 1e6,
    ));

    let ids: Vec<u16> =
        cell.document.nodes.iter().map(|node| node.id).filter(|id| *id != 1).collect();
    let replace = || {
        let names: Vec<&str> =
            cell.document.nodes.iter().skip(1).map(|node| node.name.as_str()).collect();
        cell.replace("channel-0001", &names).expect("replaced")
    };
    row.push(("plan: replace a node, ms", best(|| drop(std::hint::black_box(replace())))));
    let (replaced, added) = (replace(), cell.add(entry(ids.len() as u16 + 2)).expect("added"));
    row.push((
        "plan: all moves to a new node, ms",
        best(|| drop(std::hint::black_box(added.plan()))),
    ));
    let (step, plan) = added.step().expect("a step");
    row.push(("plan: one step of it, ms", best(|| drop(std::hint::black_box(added.step())))));
    assert!(plan.len() <= RING_STEP_SLOTS_MAX);
    let news = news::between(cell, &replaced);
    row.push(("news of a replacement, bytes", news.len() as f64));
    row.push(("news of a step, bytes", news::between(&added, &step).len() as f64));
    row.push((
        "make the news, ms",
        best(|| drop(std::hint::black_box(news::between(cell, &replaced)))),
    ));
    row.push(("take the news, ms", best(|| drop(std::hint::black_box(news::apply(cell, &news))))));
    row.push((
        "make the ring of the documents, ms",
        best(|| drop(std::hint::black_box(replaced.ring()))),
    ));
}

// ---- the world

enum Event {
    Turn { at: usize, number: u64 },
    Batch { at: usize, place: usize, batch: Batch },
    Do { at: usize, role: Role, ask: Ask, question: Vec<u8> },
    Answer { at: usize, role: Role, ask: Ask, bytes: Vec<u8> },
    Write { at: usize, ask: Ask, was: u64, next: Rc<Cell> },
    Ring { at: usize, cell: Rc<Cell> },
    Lost { at: usize, dead: usize },
}

struct Cast {
    health: Health,
    manager: Option<Manager>,
}

impl Shards for Cast {
    fn of(&mut self, role: Role) -> Option<&mut dyn Shard> {
        match role {
            Role::Health => Some(&mut self.health),
            Role::Ring => self.manager.as_mut().map(|manager| -> &mut dyn Shard { manager }),
            _ => None,
        }
    }
}

#[derive(Default)]
struct Wants(Vec<(Role, Ask, Vec<u8>)>);

impl Hands for Wants {
    fn carry_out(&mut self, role: Role, effect: Effect, effects: &Effects) {
        if let Effect::Ask { ask, question } = effect {
            self.0.push((role, ask, effects.bytes(question).to_vec()));
        }
    }
    fn tell_http(&mut self, _message: &[u8]) {}
}

/// One process: its control plane.
struct Machine {
    place: Place<Cast>,
    wants: Wants,
    /// By the order in which others were met: which machine, and which of its places we are; `None`: a data core, with which there is nothing
    /// to talk about.
    ways: Vec<Option<(usize, usize)>>,
    due: Option<Mono>,
    number: u64,
    is_dead: bool,
    cell: Rc<Cell>,
    before: Option<Rc<Cell>>,
    taken_at: Mono,
}

/// Of the first manager.
#[derive(Default)]
struct Tally {
    messages: u64,
    bytes: u64,
    cpu: Duration,
}

struct World {
    now: Mono,
    agenda: BinaryHeap<Reverse<(Mono, u64)>>,
    events: BTreeMap<u64, Event>,
    planned: u64,
    random: fastrand::Rng,
    machines: Vec<Machine>,
    nodes: usize,
    store: Rc<Cell>,
    /// By epoch: all machines make the same of the same documents.
    rings: BTreeMap<u64, Rc<Ring>>,
    written_at: Option<Mono>,
    tally: Tally,
}

fn clocks(now: Mono) -> Now {
    Now { mono: now, wall: Wall(now.0 / 1_000) }
}

impl World {
    fn new(cell: Cell, count: u16) -> Self {
        let store = Rc::new(cell);
        let nodes = usize::from(count);
        let mut world = Self {
            now: Mono::default() + Duration::from_secs(1),
            agenda: BinaryHeap::new(),
            events: BTreeMap::new(),
            planned: 0,
            random: fastrand::Rng::with_seed(7),
            machines: Vec::new(),
            nodes,
            rings: BTreeMap::from([(1, Rc::new(store.ring().expect("usable")))]),
            store,
            written_at: None,
            tally: Tally::default(),
        };
        for at in 0..nodes + MANAGERS {
            let machine = world.machine(at);
            world.machines.push(machine);
        }
        let (now, ring) = (clocks(world.now), Rc::clone(&world.rings[&1]));
        for machine in &mut world.machines {
            machine.place.begin(now, &ring, &mut machine.wants);
        }
        for manager in nodes..nodes + MANAGERS {
            for other in 0..manager {
                world.connect(manager, other);
            }
        }
        for at in 0..nodes {
            for other in (0..nodes).filter(|other| *other != at) {
                world.owner(at, other, true);
            }
        }
        for at in 0..nodes + MANAGERS {
            // They did not all start at the same moment.
            let after = Duration::from_micros(world.random.u64(0..100_000));
            world.wake(at, world.now + after);
        }
        world
    }

    fn identity(&self, at: usize) -> Identity {
        let is_manager = at >= self.nodes;
        let (node, role) = if is_manager {
            (MANAGER_IDS + (at - self.nodes) as u16, Role::Ring)
        } else {
            (at as u16 + 1, Role::Channel)
        };
        Identity {
            cell: "scale".into(),
            node: NodeId(node),
            incarnation: if is_manager { 1 } else { entry(node).incarnation as u64 },
            roles: Roles::of(&[Role::Health, role]),
            core: Peer::CONTROL_CORE,
            cores: if is_manager { 0 } else { CORES },
            ring_epoch: 1,
        }
    }

    fn machine(&self, at: usize) -> Machine {
        let Identity { node, incarnation: life, roles, .. } = self.identity(at);
        let limits = Limits::DEFAULT;
        let manager = (at >= self.nodes).then(|| {
            let rank = (at - self.nodes) as u32;
            Manager::new(ManagerConfig { managers: MANAGERS, rank, ..ManagerConfig::alone(node) })
        });
        let whole = Whole { node, life, roles, cores: 0 };
        Machine {
            place: Place::new(Cast { health: Health::new(&limits), manager }, 0, whole, &limits),
            wants: Wants::default(),
            ways: Vec::new(),
            due: None,
            number: 0,
            is_dead: false,
            cell: Rc::clone(&self.store),
            before: None,
            taken_at: Mono::default(),
        }
    }

    fn connect(&mut self, one: usize, other: usize) {
        let (now, identities) = (clocks(self.now), [self.identity(one), self.identity(other)]);
        let places = [self.machines[one].ways.len() + 1, self.machines[other].ways.len() + 1];
        for (at, from) in [(one, 1), (other, 0)] {
            let Machine { place, wants, ways, .. } = &mut self.machines[at];
            let met = place.meet(now, (&identities[from], VERSION), wants);
            assert_eq!(met, places[1 - from]);
            ways.push(Some((if from == 1 { other } else { one }, places[from])));
        }
        for core in 0..identities[1].cores {
            let Machine { place, wants, ways, .. } = &mut self.machines[one];
            place.meet(now, (&Identity { core, ..identities[1].clone() }, VERSION), wants);
            ways.push(None);
        }
    }

    /// A node's link to another owner is up, or lost.
    fn owner(&mut self, at: usize, other: usize, is_up: bool) {
        let peer = Peer::new(NodeId(other as u16 + 1), Role::Channel, 0);
        let hello = Hello { node: peer.node, incarnation: 1, ..Hello::default() };
        let input =
            if is_up { Input::PeerUp { peer, life: 1, hello } } else { Input::PeerLost { peer } };
        let Machine { place, wants, .. } = &mut self.machines[at];
        place.input(clocks(self.now), Role::Health, input, wants);
        place.settle(clocks(self.now), wants);
    }

    fn plan(&mut self, at: Mono, event: Event) {
        self.planned += 1;
        self.agenda.push(Reverse((at, self.planned)));
        self.events.insert(self.planned, event);
    }

    fn wake(&mut self, at: usize, when: Mono) {
        let machine = &mut self.machines[at];
        if machine.due.is_none_or(|due| when < due) {
            machine.due = Some(when);
            machine.number += 1;
            let number = machine.number;
            self.plan(when, Event::Turn { at, number });
        }
    }

    fn run(&mut self, span: Duration, is_over: impl Fn(&Self) -> bool) {
        let end = self.now + span;
        while let Some(Reverse((when, _))) = self.agenda.peek()
            && *when <= end
            && !is_over(self)
        {
            let Reverse((when, number)) = self.agenda.pop().expect("just seen");
            self.now = when;
            let event = self.events.remove(&number).expect("planned");
            self.step(event);
        }
        self.now = if is_over(self) { self.now } else { end };
    }

    fn has_everybody_the_ring(&self) -> bool {
        self.written_at.is_some()
            && self.machines.iter().all(|one| {
                one.is_dead || one.cell.document.ring_epoch == self.store.document.ring_epoch
            })
    }

    fn kill(&mut self, dead: usize) {
        self.machines[dead].is_dead = true;
        for at in 0..self.machines.len() {
            let after = self.trip();
            self.plan(self.now + after, Event::Lost { at, dead });
        }
    }

    fn trip(&mut self) -> Duration {
        Duration::from_micros(self.random.u64(100..500))
    }

    fn step(&mut self, event: Event) {
        let (Event::Turn { at, .. }
        | Event::Batch { at, .. }
        | Event::Do { at, .. }
        | Event::Answer { at, .. }
        | Event::Write { at, .. }
        | Event::Ring { at, .. }
        | Event::Lost { at, .. }) = event;
        if self.machines[at].is_dead {
            return;
        }
        let began = Instant::now();
        let now = clocks(self.now);
        match event {
            Event::Turn { number, .. } => {
                let machine = &mut self.machines[at];
                if machine.number != number || machine.due.is_none() {
                    return;
                }
                machine.due = None;
            }
            Event::Batch { place, batch, .. } => {
                if at == self.nodes {
                    self.tally.count(&batch);
                }
                let Machine { place: here, wants, .. } = &mut self.machines[at];
                here.receive(now, place, &batch, wants);
            }
            Event::Do { role, ask, question, .. } => self.carry_out(at, role, ask, &question),
            Event::Answer { role, ask, bytes, .. } => {
                let message = Message::decode(&bytes).expect("encoded below");
                let Machine { place, wants, .. } = &mut self.machines[at];
                place.input(now, role, Input::Answer { ask, message }, wants);
                place.settle(now, wants);
            }
            Event::Write { ask, was, next, .. } => self.write(at, ask, was, next),
            Event::Ring { cell, .. } => self.take(at, cell),
            Event::Lost { dead, .. } if at >= self.nodes => {
                let Machine { place, wants, ways, .. } = &mut self.machines[at];
                let way = ways.iter().position(|way| way.is_some_and(|(other, _)| other == dead));
                place.part(now, way.expect("they met") + 1, wants);
            }
            Event::Lost { dead, .. } => self.owner(at, dead, false),
        }
        self.turn(at);
        if at == self.nodes {
            self.tally.cpu += began.elapsed();
        }
    }

    /// As a driver takes it.
    fn turn(&mut self, at: usize) {
        let now = clocks(self.now);
        let Machine { place, wants, ways, .. } = &mut self.machines[at];
        let mut batches = Vec::new();
        while place.advance(now, wants)
            | place.carry(now, wants, |_| true, |other, batch| batches.push((other, batch)))
        {
        }
        let asked = std::mem::take(&mut wants.0);
        let batches: Vec<_> = batches
            .into_iter()
            .filter_map(|(other, batch)| Some((ways[other - 1]?, batch)))
            .collect();
        let due = place.deadline();
        for ((other, their_place), batch) in batches {
            if at == self.nodes {
                self.tally.count(&batch);
            }
            let when = self.now + self.trip();
            self.plan(when, Event::Batch { at: other, place: their_place, batch });
        }
        for (role, ask, question) in asked {
            self.plan(self.now, Event::Do { at, role, ask, question });
        }
        if let Some(due) = due {
            self.wake(at, due.max(self.now + Duration::from_micros(5)));
        }
    }

    fn carry_out(&mut self, at: usize, role: Role, ask: Ask, question: &[u8]) {
        let machine = &self.machines[at];
        match Message::decode(question).expect("shards encode") {
            Message::RingSince { since } => {
                let bytes = match &machine.before {
                    _ if since == 0 => news::whole(&machine.cell),
                    Some(before) if before.document.ring_epoch == since => {
                        news::between(before, &machine.cell)
                    }
                    _ => return,
                };
                let ring_epoch = machine.cell.document.ring_epoch;
                let mut answer = Vec::new();
                Message::RingNews { since, ring_epoch, news: &bytes }.encode(&mut answer);
                self.plan(self.now, Event::Answer { at, role, ask, bytes: answer });
            }
            Message::RingNews { since, news, .. } if since == machine.cell.document.ring_epoch => {
                let cell = news::apply(&machine.cell, news).expect("the news of our ring");
                assert!(cell.document == self.store.document, "it is the one that was written");
                let cell = Rc::clone(&self.store);
                self.plan(self.now, Event::Ring { at, cell });
            }
            Message::EvenOut { .. } => {
                // It is one replacement that is in question.
                let mut bytes = Vec::new();
                Message::Replaced { ask, what: outcome::EVEN }.encode(&mut bytes);
                self.plan(self.now, Event::Answer { at, role, ask, bytes });
            }
            Message::Replace { node, incarnation, live, .. } => {
                let live: Vec<u16> = live.iter().collect();
                let was = self.store.document.ring_epoch;
                let next = self.store.replace_process((NodeId(node), incarnation), &live);
                let next = Rc::new(next.expect("it is there").expect("somebody takes it"));
                self.plan(self.now + READ + WRITE, Event::Write { at, ask, was, next });
            }
            _ => {}
        }
    }

    fn write(&mut self, at: usize, ask: Ask, was: u64, next: Rc<Cell>) {
        let is_done = was == self.store.document.ring_epoch;
        let what = if is_done { outcome::DONE } else { outcome::LATE };
        let mut bytes = Vec::new();
        Message::Replaced { ask, what }.encode(&mut bytes);
        self.plan(self.now, Event::Answer { at, role: Role::Ring, ask, bytes });
        if is_done {
            self.written_at = Some(self.now);
            self.rings.insert(was + 1, Rc::new(next.ring().expect("usable")));
            self.store = Rc::clone(&next);
            self.plan(self.now, Event::Ring { at, cell: next });
        }
    }

    fn take(&mut self, at: usize, cell: Rc<Cell>) {
        let epoch = cell.document.ring_epoch;
        let machine = &mut self.machines[at];
        if epoch <= machine.cell.document.ring_epoch {
            return;
        }
        machine.before = Some(std::mem::replace(&mut machine.cell, cell));
        machine.taken_at = self.now;
        machine.place.change(clocks(self.now), &self.rings[&epoch], &mut machine.wants);
    }
}

impl Tally {
    fn count(&mut self, batch: &Batch) {
        let bytes = batch.bytes.len() as u64 + FRAME_BYTES;
        self.messages += 1;
        self.bytes += bytes + bytes.div_ceil(SEGMENT_BYTES) * PACKET_BYTES;
    }
}

// ---- figures

fn csv(rows: &[Row]) -> String {
    let mut text = String::new();
    let names = rows.first().into_iter().flatten().map(|(name, _)| format!("\"{name}\""));
    let _ = writeln!(text, "{}", names.collect::<Vec<_>>().join(","));
    for row in rows {
        let values = row.iter().map(|(_, value)| format!("{value:.3}"));
        let _ = writeln!(text, "{}", values.collect::<Vec<_>>().join(","));
    }
    text
}

/// What is drawn: a title, and names of figures.
const PLOTS: &[(&str, &[&str])] = &[
    (
        "from the death to the write (blue), from the write to all nodes (red), ms",
        &["from the death to the write, ms", "from the write to all nodes, ms"],
    ),
    ("a manager in calm: kB a second on the wire", &["a manager: kB a second on the wire"]),
    ("a manager in calm: % of a core", &["a manager: % of a core"]),
    (
        "% of what Consul takes: the seats document (blue), the write of a step (red)",
        &["% of the largest value of Consul", "% of the largest write of Consul"],
    ),
    (
        "MB out of the store for one new ring: whole, without pushes (blue), seats only (red)",
        &["read by all nodes without pushes, MB", "seats read by all nodes after a push, MB"],
    ),
    (
        "ms of a core: plan of a new node's moves (blue), news taken by a node (red)",
        &["plan: all moves to a new node, ms", "take the news, ms"],
    ),
];

fn svg(rows: &[Row]) -> String {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (1_100, 840)).into_drawing_area();
        for (area, (title, names)) in area.split_evenly((3, 2)).iter().zip(PLOTS) {
            let of = |row: &Row, wanted: &str| {
                row.iter().find(|(name, _)| *name == wanted).map_or(0.0, |(_, value)| *value)
            };
            let lines: Vec<Vec<(f64, f64)>> = names
                .iter()
                .map(|name| rows.iter().map(|row| (row[0].1, of(row, name))).collect())
                .collect();
            let highest = lines.iter().flatten().map(|(_, y)| *y).fold(0.0, f64::max);
            let end = lines.iter().flatten().map(|(x, _)| *x).fold(1.0, f64::max);
            let mut chart = ChartBuilder::on(area)
                .margin(10)
                .x_label_area_size(24)
                .y_label_area_size(56)
                .caption(*title, ("sans-serif", 14))
                .build_cartesian_2d(0.0..end, 0.0..highest * 1.05)
                .expect("axes");
            chart.configure_mesh().disable_x_mesh().light_line_style(WHITE).draw().expect("a mesh");
            for (line, colour) in lines.into_iter().zip([BLUE, RED]) {
                chart.draw_series(LineSeries::new(line, colour)).expect("a line");
            }
        }
        area.present().expect("a picture");
    }
    text
}
