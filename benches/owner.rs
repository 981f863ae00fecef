//! What channels cost their owner: bytes at rest, and the thread's CPU time of its worst calls.
//!
//! `cargo bench --bench owner -- 4000000`: so many channels on one core, by its public face only.

use std::fmt::Write as _;
use std::time::Duration;

use campanile::channel::shard::Owner;
use campanile::ids::{Ask, Handle, Key, NodeId, Origin, Peer, Role, Slot};
use campanile::limits::Limits;
use campanile::ring::{Ring, Secret, slot_of};
use campanile::shard::{Budget, Effects, Input, Report, Shard};
use campanile::time::{Mono, Now};
use campanile::wire::{Hello, Message, Terms};
use rustix::time::{ClockId, clock_gettime};

const ME: NodeId = NodeId(0);
const SECRET: Secret = Secret([7; 16]);
const DISPATCHER: Peer = Peer { node: ME, role: Role::Admin, core: Peer::CONTROL_CORE };
const SOURCE: Peer = Peer { node: ME, role: Role::Webapp, core: Peer::CONTROL_CORE };

fn main() {
    let count = std::env::args().find_map(|one| one.parse().ok()).unwrap_or(1_000_000u32);
    let mut bench = Bench::new();
    let before = resident_bytes();
    let mut calls = Calls::default();
    for n in 0..count {
        calls.time(|| bench.publish(&name(n), 1, b"hello"));
    }
    calls.print("first publication of a channel");
    let rss = resident_bytes() - before;
    let [table, index] = ["channel_table_bytes", "backlog_index_bytes"].map(|one| bench.gauge(one));
    println!(
        "{count} channels: {:.2} bytes each in tables; resident {:.2} each with the backlog ({:.1} + {:.1} MiB)",
        table / f64::from(count),
        rss / f64::from(count),
        bench.gauge("backlog_bytes") / 1048576.0,
        index / 1048576.0,
    );

    let mut calls = Calls::default();
    for core in 0..4 {
        bench.up(Peer::new(NodeId(1), Role::Gateway, core));
    }
    for n in 0..count / 4 {
        calls.time(|| (0..4).for_each(|core| bench.subscribe(core, &name(n), Handle(n))));
        bench.answer_tips();
    }
    calls.print("four subscriptions to a channel");
    println!(
        "{} lists of interests: {:.2} bytes an interest",
        bench.gauge("interest_lists"),
        bench.gauge("interest_lists_bytes") / (f64::from(count / 4) * 4.0)
    );

    let mut calls = Calls::default();
    for n in 0..count / 4 {
        calls.time(|| bench.publish(&name(n), 2, b"hello"));
    }
    calls.print("publication to four links");

    let mut calls = Calls::default();
    bench.input(Input::PeerLost { peer: Peer::new(NodeId(1), Role::Gateway, 3) });
    while calls.time(|| bench.advance()) {}
    calls.print("turn of a sweep over all channels");

    let mut calls = Calls::default();
    for offset in 3..200_003 {
        calls.time(|| bench.publish(&name(0), offset, &[b'x'; 200]));
    }
    calls.print("publication that evicts");
    let mut calls = Calls::default();
    for ask in 0..1_000 {
        let far = u64::from(ask) * 150;
        calls.time(|| bench.fetch(0, &name(0), Ask(ask), 200_002 - far));
        bench.input(Input::PeerRoom { peer: Peer::new(NodeId(1), Role::Gateway, 0) });
    }
    calls.print("page of 100 up to 150,000 behind");
}

/// CPU time of calls.
#[derive(Default)]
struct Calls {
    count: u32,
    total: Duration,
    /// The longest, longest first.
    worst: Vec<Duration>,
}

impl Calls {
    fn time<T>(&mut self, call: impl FnOnce() -> T) -> T {
        let before = clock_gettime(ClockId::ThreadCPUTime);
        let result = call();
        let after = clock_gettime(ClockId::ThreadCPUTime);
        let nanos = (after.tv_sec - before.tv_sec) * 1_000_000_000 + after.tv_nsec - before.tv_nsec;
        let took = Duration::from_nanos(nanos.unsigned_abs());
        self.count += 1;
        self.total += took;
        if self.worst.len() < 3 || took > self.worst[2] {
            self.worst.push(took);
            self.worst.sort_unstable_by(|a, b| b.cmp(a));
            self.worst.truncate(3);
        }
        result
    }
    fn print(&self, what: &str) {
        let mean = self.total / self.count.max(1);
        println!("{what}: {} calls, {mean:?} each, worst {:?}", self.count, self.worst);
    }
}

struct Bench {
    owner: Owner,
    out: Effects,
    now: Now,
}

impl Bench {
    fn new() -> Self {
        let limits = Limits::DEFAULT;
        let now = Now { mono: Mono(1), ..Now::default() };
        let mut bench =
            Self { owner: Owner::new(ME, 0, SOURCE, 1, &limits), out: Effects::default(), now };
        bench.input(Input::Ring { ring: &Ring::new(&[(ME, 1)]) });
        bench.up(SOURCE);
        bench
    }
    fn up(&mut self, peer: Peer) {
        self.input(Input::PeerUp { peer, life: 1, hello: Hello::default() });
    }
    fn input(&mut self, input: Input<'_>) {
        self.out.clear();
        self.owner.handle(self.now, input, &mut self.out);
    }
    fn advance(&mut self) -> bool {
        self.out.clear();
        self.owner.advance(self.now, Budget { units: 64 }, &mut self.out)
    }
    fn publish(&mut self, name: &str, offset: u64, payload: &[u8]) {
        let (slot, key) = place(name);
        let (ask, origin, member) = (Ask(1), Origin::NOBODY, None);
        let message = Message::Publish {
            slot,
            seat_epoch: 1,
            key,
            ask,
            namespace: 0,
            offset,
            origin,
            member,
            terms: Terms::default(),
            name,
            payload,
        };
        self.input(Input::Wire { peer: DISPATCHER, message });
    }
    fn subscribe(&mut self, core: u8, name: &str, handle: Handle) {
        let (slot, key) = place(name);
        let message = Message::Subscribe { slot, seat_epoch: 1, key, handle, namespace: 0, name };
        let peer = Peer::new(NodeId(1), Role::Gateway, core);
        // Questions are in the effects of the first of them.
        let mut out = Effects::default();
        self.owner.handle(self.now, Input::Wire { peer, message }, &mut out);
        if core == 0 {
            self.out = out;
        }
    }
    fn answer_tips(&mut self) {
        let asked: Vec<Ask> = self
            .out
            .list()
            .iter()
            .filter_map(|effect| match *effect {
                campanile::shard::Effect::Send { message, .. } => {
                    match Message::decode(self.out.bytes(message)) {
                        Ok(Message::Tip { ask, .. }) => Some(ask),
                        _ => None,
                    }
                }
                _ => None,
            })
            .collect();
        for ask in asked {
            let message = Message::TipIs { ask, found: true, tip: 1 };
            self.input(Input::Wire { peer: SOURCE, message });
            self.input(Input::PeerRoom { peer: SOURCE });
        }
    }
    fn fetch(&mut self, core: u8, name: &str, ask: Ask, after: u64) {
        let (slot, key) = place(name);
        let (handle, count_max, bytes_max) = (Handle(0), 100, 64 << 10);
        let message = Message::Fetch {
            slot,
            seat_epoch: 1,
            key,
            handle,
            ask,
            after,
            count_max,
            bytes_max,
            name,
        };
        let peer = Peer::new(NodeId(1), Role::Gateway, core);
        self.input(Input::Wire { peer, message });
    }
    fn gauge(&self, name: &str) -> f64 {
        let mut report = Report::default();
        self.owner.report(&mut report);
        report.gauges.iter().find(|(one, _)| *one == name).expect("a gauge of an owner").1
    }
}

fn name(n: u32) -> String {
    let mut name = String::new();
    let _ = write!(name, "C{n:09}");
    name
}

fn place(name: &str) -> (Slot, Key) {
    (slot_of(name), SECRET.key_of(name))
}

fn resident_bytes() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<f64>().ok());
    pages.expect("resident pages") * 4_096.0
}
