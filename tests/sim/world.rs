//! One seeded world: a node or a cell of them, with its clients, its database and ring store, and what goes wrong between them.

use std::collections::BTreeSet;
use std::time::Duration;

use campanile::ids::{Ask, Peer, Role};
use campanile::time::Mono;
use campanile::wire::Message;

use crate::agenda::{Agenda, Arrival, Happening, micros, millis};
use crate::canary::{Canary, Tamper};
use crate::checker::{Checker, Violation};
use crate::client::{Client, Manner};
use crate::clock::Clock;
use crate::coverage::Coverage;
use crate::database::Database;
use crate::device::Device;
use crate::ending::Stage;
use crate::faults::{self, Planned};
use crate::guest::Guest;
use crate::hands::Hands;
use crate::layout::{Layout, Ways};
use crate::lines::Lines;
use crate::network::Network;
use crate::node::{self, Around, Node};
use crate::odds::Odds;
use crate::outside::Outside;
use crate::random::Random;
use crate::sizes::Sizes;
use crate::store::Store;
use crate::streams::Streams;
use crate::trace::Trace;
use crate::visit::GUESTS_FROM;

/// How a world is run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) canary: Option<Canary>,
    /// Print what happens.
    pub(crate) is_told: bool,
    pub(crate) happenings_max: u64,
    /// Bits of the faults in the plan that are left out.
    pub(crate) without: u64,
}

/// What became of a world.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) violation: Option<Violation>,
    pub(crate) hash: u64,
    pub(crate) happenings: u64,
    /// Virtual time.
    pub(crate) age: Duration,
    pub(crate) coverage: Coverage,
    pub(crate) plan: Vec<Planned>,
}

pub(crate) struct World {
    pub(crate) agenda: Agenda,
    pub(crate) network: Network,
    pub(crate) lines: Lines,
    pub(crate) layout: Layout,
    pub(crate) ways: Ways,
    pub(crate) sizes: Sizes,
    pub(crate) nodes: Vec<Node>,
    /// By the number of a process: its node, and when it started.
    pub(crate) processes: Vec<usize>,
    pub(crate) began: Vec<Mono>,
    pub(crate) orders: u64,
    pub(crate) store: Store,
    /// Times at which a manager gave seats away.
    pub(crate) replacements: Vec<Mono>,
    /// By node: when something was wrong with it last.
    pub(crate) impaired: Vec<Mono>,
    /// Walls of the plan that stand now.
    pub(crate) standing: BTreeSet<usize>,
    /// What the operator does.
    pub(crate) operations: Random,
    pub(crate) hands: Hands,
    pub(crate) outside: Outside,
    pub(crate) devices: Vec<Device>,
    pub(crate) guests: Vec<Guest>,
    /// What guests do.
    pub(crate) visits: Random,
    pub(crate) plan: Vec<Planned>,
    pub(crate) workload: Random,
    pub(crate) faults: Random,
    pub(crate) stage: Stage,
    pub(crate) options: Options,
    /// Microseconds between two uses of the Web API, at most.
    pub(crate) api_pause_us: u64,
    /// Milliseconds between two looks of a client, at most.
    pub(crate) client_pause_ms: u64,
    /// Posts by the Web API.
    pub(crate) said: u64,
    /// Users who set their presence by hand; and whether there was one.
    pub(crate) by_hand: BTreeSet<String>,
    /// Somebody noticed that the ring store went back.
    pub(crate) is_alarmed: bool,
    pub(crate) has_hands: bool,
    pub(crate) looks: u64,
    /// Rows that were in the outbox when faults stopped.
    pub(crate) backlog: usize,
    happenings: u64,
}

/// Streams of the seed.
const SIZES: u64 = 1;
const NETWORK: u64 = 2;
const MAIL: u64 = 3;
const DATABASE: u64 = 4;
const WORKLOAD: u64 = 5;
const FAULTS: u64 = 6;
const TAMPER: u64 = 7;
const LAYOUT: u64 = 900;
const LINES: u64 = 901;
const STORE: u64 = 902;
const OPERATOR: u64 = 903;
const REGIONS: u64 = 904;
const WAYS: u64 = 905;
const RELAYS: u64 = 906;
const AGES: u64 = 907;
const ODDS: u64 = 908;
const CLOCKS: u64 = 909;
const SPLITS: u64 = 910;
const BUDGETS: u64 = 911;
const VISITS: u64 = 1_000;

impl World {
    pub(crate) fn new(seed: u64, options: Options) -> Self {
        let mut sizes = Sizes::draw(&mut Random::new(seed, SIZES));
        let mut budgets = Random::new(seed, BUDGETS);
        sizes.cramp(&mut budgets);
        let mut workload = Random::new(seed, WORKLOAD);
        let mut faults = Random::new(seed, FAULTS);
        let active = Duration::from_secs(*workload.pick(&[4, 8, 8, 15]));
        let mut layout = Layout::draw(&mut Random::new(seed, LAYOUT), sizes.cores);
        layout.relay(&mut Random::new(seed, RELAYS));
        layout.part_regions(&mut Random::new(seed, REGIONS));
        layout.age(&mut Random::new(seed, AGES));
        layout.split(&mut Random::new(seed, SPLITS));
        layout.mislead(&mut budgets);
        let ways = layout.ways(&mut Random::new(seed, WAYS));
        let mut plan = faults::draw(&mut faults, active, layout.is_cell);
        let odds = Odds::draw(&mut Random::new(seed, ODDS), &layout, active);
        plan.extend(odds.plan);
        plan.sort_by_key(|planned| planned.at);
        let active = active + odds.longer;
        let mut nth = 0;
        plan.retain(|_| {
            nth += 1;
            options.without >> (nth - 1).min(63) & 1 == 0
        });
        let users = workload.between(3, 8) as usize;
        let mut database = Database::new(users, sizes.limits.ticket_timeout);
        if let Some(Canary::SkipOffset(every)) = options.canary {
            database.skips_every = Some(every);
        }
        for _ in 0..workload.between(3, 6) {
            let people = database.users.iter().filter(|_| workload.chance(700)).cloned().collect();
            database.found(people);
        }
        let mut agenda = Agenda::new();
        let devices = populate(&mut database, seed, options, &mut workload);
        let rules = node::rules();
        let is_discordant = layout.is_cell && budgets.chance(150);
        let mut clocks = Random::new(seed, CLOCKS);
        let nodes: Vec<Node> = layout
            .parts
            .iter()
            .enumerate()
            .map(|(at, part)| {
                let mail = Random::new(seed, MAIL + (at as u64) * 10_000);
                let relays = layout.relays_of(part);
                let part = (part.clone(), relays);
                let is_other = is_discordant && budgets.chance(500);
                let own =
                    if is_other { sizes.of_another_mind(&mut budgets) } else { sizes.clone() };
                let own = (own, Clock::draw(&mut clocks));
                Node::new(at, part, own, std::sync::Arc::clone(&rules), mail)
            })
            .collect();
        let store = Store::new(Random::new(seed, STORE), layout.entries());
        let lines = Lines::new(Random::new(seed, LINES), nodes.len(), sizes.batches_max);
        let mut hands = Hands::new(Random::new(seed, DATABASE));
        if let Some(Canary::LieAboutTip(per_mille)) = options.canary {
            hands.lies = per_mille;
        }
        for node in 0..nodes.len() {
            agenda.after(Duration::ZERO, Happening::Start { node });
        }
        if layout.is_cell {
            agenda.after(millis(1_500), Happening::Operate);
        }
        agenda.after(millis(2), Happening::Api);
        agenda.after(millis(5), Happening::Look);
        agenda.after(millis(workload.below(4_000)), Happening::Stranger);
        agenda.after(active, Happening::Quiet);
        for client in 0..devices.len() {
            agenda.after(millis(workload.below(800)), Happening::Client { client });
        }
        let mut visits = Random::new(seed, VISITS);
        let mut guests = crate::visit::populate(&database, &mut visits);
        guests.extend(crate::visit::tourists(&database, sizes.sights, &mut budgets));
        for at in 0..guests.len() {
            let client = GUESTS_FROM + at;
            agenda.after(millis(visits.below(800)), Happening::Client { client });
        }
        for (at, planned) in plan.iter().enumerate() {
            agenda.after(planned.at, Happening::Fault { at });
            agenda.after((planned.at + planned.lasts).min(active), Happening::Healed { at });
        }
        let limits = sizes.limits.clone();
        let mut coverage = Coverage::new();
        odds.scenes.into_iter().for_each(|scene| coverage.saw(scene));
        if is_discordant {
            coverage.saw("bounds that differ between nodes");
        }
        if layout.parts.iter().any(|part| part.is_misled) {
            coverage.saw("relays that are not there");
        }
        if layout.hermit.is_some() {
            coverage.saw("managers that know of no others");
        }
        let outside = Outside {
            has_relays: layout.parts.iter().any(|part| !part.relays.is_empty()),
            database,
            checker: Checker::default(),
            coverage,
            trace: Trace::new(options.is_told),
            streams: Streams::default(),
            typed: std::collections::BTreeMap::new(),
            is_calm: plan.is_empty(),
            replay_per_channel_max: u64::from(limits.replay_per_channel_max),
            replay_per_conn_max: u64::from(limits.replay_per_conn_max),
            ticket_timeout: limits.ticket_timeout,
            text_max: limits.publication_bytes_max as usize / 2 - 250,
        };
        let network = Network::new(Random::new(seed, NETWORK), nodes.len(), limits.connections_max);
        let api_pause_us = *workload.pick(&[30_000, 100_000, 300_000]);
        let client_pause_ms = *workload.pick(&[300, 800, 2_000]);
        Self {
            agenda,
            network,
            lines,
            impaired: vec![Mono(0); nodes.len()],
            layout,
            ways,
            sizes,
            nodes,
            processes: Vec::new(),
            began: Vec::new(),
            orders: 0,
            store,
            replacements: Vec::new(),
            standing: BTreeSet::new(),
            operations: Random::new(seed, OPERATOR),
            hands,
            outside,
            devices,
            guests,
            visits,
            plan,
            workload,
            faults,
            stage: Stage::Active,
            options,
            api_pause_us,
            client_pause_ms,
            said: 0,
            by_hand: BTreeSet::new(),
            is_alarmed: false,
            has_hands: false,
            looks: 0,
            backlog: 0,
            happenings: 0,
        }
    }

    /// Runs to the end, or to the first violation.
    pub(crate) fn run(mut self) -> Outcome {
        let violation = loop {
            let Some(happening) = self.agenda.next() else {
                break Some(Violation("nothing is left to happen".into()));
            };
            self.happenings += 1;
            self.outside.database.now = self.agenda.now;
            if self.happenings > self.options.happenings_max {
                break Some(Violation("the world does not come to rest".into()));
            }
            if let Err(violation) = self.step(happening) {
                break Some(violation);
            }
            if let Some(violation) = self.outside.checker.take_violation() {
                break Some(violation);
            }
            if self.stage == Stage::Done {
                break None;
            }
        };
        if self.options.is_told {
            println!("{}", self.outside.coverage.table());
        }
        Outcome {
            violation,
            hash: self.outside.trace.hash(),
            happenings: self.happenings,
            age: self.agenda.age(),
            coverage: self.outside.coverage,
            plan: self.plan,
        }
    }

    fn step(&mut self, happening: Happening) -> Result<(), Violation> {
        match happening {
            Happening::Turn { node, place, number } => {
                let (node, mut around) = self.node_and_around(node);
                node.turn(place, number, &mut around);
            }
            Happening::Arrive { process, place, what } => {
                if let Some(at) = self.node_of(process) {
                    self.nodes[at].arrive(&mut self.agenda, place, what);
                }
            }
            Happening::Do { process, role, ask, question } => {
                self.carry_out(process, role, ask, &question);
            }
            Happening::Up { socket } => {
                if let Some(what) = self.network.up(&mut self.agenda, socket) {
                    let one = &self.network.sockets[socket];
                    let (process, core) = (one.process, one.core);
                    if let Some(at) = self.node_of(process) {
                        self.nodes[at].arrive(&mut self.agenda, core, what);
                    }
                }
            }
            Happening::Down { socket } => return self.read(socket),
            Happening::Linger { socket } => {
                let at = self.network.sockets[socket].node;
                let (node, mut around) = self.node_and_around(at);
                node.lingered(socket, &mut around);
            }
            Happening::Open { client, number } if client >= GUESTS_FROM => {
                self.open_guest(client, number);
            }
            Happening::Open { client, number } => self.open(client, number),
            Happening::Client { client } if client >= GUESTS_FROM => self.guest_looks_up(client),
            Happening::Client { client } => self.look_up(client),
            Happening::Api => self.use_api(),
            Happening::Stranger => self.visit(),
            Happening::Fault { at } => self.disturb(at),
            Happening::Healed { at } => self.heal(at),
            Happening::Start { node } => self.start(node),
            Happening::Join { process } => self.join(process),
            Happening::Follow { process } => self.follow(process),
            Happening::Write { by, was, next } => return self.write_ring(by, was, &next),
            Happening::Dial(dial) => self.dial(dial),
            Happening::Ferry { line, side } => self.ferry(line, side),
            Happening::Silent { line, side, wall } => self.silent(line, side, wall),
            Happening::GoOn { process } => self.go_on(process),
            Happening::Operate => self.operate(),
            Happening::Stop { process } => self.stop(process),
            Happening::Look => return self.look(),
            Happening::Quiet => self.quieten(),
        }
        Ok(())
    }

    pub(crate) fn node_and_around(&mut self, at: usize) -> (&mut Node, Around<'_>) {
        let around = Around {
            agenda: &mut self.agenda,
            network: &mut self.network,
            hands: &mut self.hands,
            lines: &mut self.lines,
            outside: &mut self.outside,
        };
        (&mut self.nodes[at], around)
    }

    /// What a shard of a control plane asked of its driver's hands.
    fn carry_out(&mut self, process: u32, role: Role, ask: Ask, question: &[u8]) {
        let at = self.node_of(process);
        let decoded = Message::decode(question).expect("shards encode");
        match decoded {
            Message::Replace { .. } if at.is_some() => {
                return self.replace(process, ask, &decoded);
            }
            Message::EvenOut { ring_epoch, .. } if at.is_some() => {
                return self.even_out(process, ask, ring_epoch);
            }
            Message::RingSince { since } if at.is_some() => {
                return self.ring_since(process, ask, since);
            }
            Message::RingNews { since, ring_epoch, news } if at.is_some() => {
                return self.offer_news(process, (since, ring_epoch), news);
            }
            Message::Replace { .. }
            | Message::EvenOut { .. }
            | Message::RingSince { .. }
            | Message::RingNews { .. } => return,
            _ => {}
        }
        // A process that died may have had its question on the way into the database.
        if at.is_some() || self.faults.chance(500) {
            let to = (process, self.layout.parts[self.layout.webapp].cores);
            let read = matches!(decoded, Message::RingRead { .. });
            let kept = if read { self.store.read(self.layout.webapp) } else { None };
            let ring = kept.map(|kept| {
                self.outside.checker.ring_read(ask.0, &kept.ring);
                self.store.ring_is(ask)
            });
            if read && ring.is_none() {
                self.outside.coverage.saw("ring reads that failed");
                return;
            }
            let redeemed = match decoded {
                Message::Redeem { ticket, .. } => self.outside.database.ticket(ticket),
                _ => None,
            };
            let token = redeemed.map(|ticket| ticket.token);
            let (agenda, outside) = (&mut self.agenda, &mut self.outside);
            self.hands.carry_out(agenda, outside, to, (role, ask, question), ring);
            // Whose ticket was granted just now, and the answer is on its way.
            if let Some(token) = token.filter(|_| self.stage == Stage::Active && at.is_some())
                && self.workload.chance(30)
            {
                self.outside.coverage.saw("tokens revoked behind a granted ticket");
                self.revoke_token(token);
            }
        }
    }

    /// An HTTP handler says something to a shard.
    pub(crate) fn http(&mut self, to: Peer, message: Vec<u8>) {
        let at = self.layout.webapp;
        let place = self.nodes[at].control();
        self.nodes[at].arrive(&mut self.agenda, place, Arrival::Http { to, message });
    }

    /// The writer tells of what was committed by the Web API.
    pub(crate) fn committed(&mut self, rows: &[u64]) {
        let desk = &self.nodes[self.layout.webapp];
        let to = (desk.process, desk.control());
        let Some(Canary::ForgetRow(every)) = self.options.canary else {
            return self.hands.tell(&mut self.agenda, &mut self.outside, to, rows);
        };
        let (gone, told): (Vec<u64>, _) = rows.iter().partition(|row| row.is_multiple_of(every));
        self.hands.tell(&mut self.agenda, &mut self.outside, to, &told);
        for row in gone {
            self.outside.database.outbox.remove(&row);
        }
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.plan.is_empty()
    }

    pub(crate) fn ago(&self, seconds: u64) -> Mono {
        self.agenda.now - Duration::from_secs(seconds)
    }

    pub(crate) fn soon(&mut self, us_max: u64) -> Duration {
        micros(self.workload.below(us_max) + 1)
    }
}

/// The devices of all users.
fn populate(
    database: &mut Database,
    seed: u64,
    options: Options,
    workload: &mut Random,
) -> Vec<Device> {
    let mut devices = Vec::new();
    for user in &database.users.clone() {
        for nth in 0..workload.between(1, 3) {
            let manner = if workload.chance(600) { Manner::Resumes } else { Manner::ReadsHistory };
            let is_batch_aware = workload.chance(500);
            let known = (user.as_str(), database.login(user));
            let mut client = Client::new(known, format!("{user}.{nth}"), manner, is_batch_aware);
            let random = Random::new(seed, TAMPER + devices.len() as u64);
            client.tamper = options.canary.and_then(|canary| Tamper::new(canary, random));
            devices.push(Device::new(client));
        }
    }
    devices
}
