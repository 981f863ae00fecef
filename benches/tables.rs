//! What the gateway's tables cost on one core: bytes by their own count and by the process's, and the worst call while they grow.
//!
//! `cargo bench --bench tables` runs all parts, each in a process of its own; `-- channels 10000000` only one, with so many.

use campanile::gateway::hub::Hub;
use campanile::gateway::interest::{Interest, Wish};
use campanile::gateway::lists::{ListRef, Lists};
use campanile::gateway::members::Member;
use campanile::gateway::names::Names;
use campanile::ids::Handle;
use campanile::ring::{Secret, slot_of};
use rustix::time::{ClockId, clock_gettime};

/// All tables of one core.
struct Core {
    names: Names,
    hub: Hub,
    interest: Interest,
    lists: Lists,
    followed: Vec<ListRef>,
    calls: Calls,
}

/// CPU time of calls, in nanoseconds.
#[derive(Default)]
struct Calls {
    worst: [u64; 5],
    sum: u64,
    count: u64,
}

impl Calls {
    fn add(&mut self, ns: u64) {
        (self.sum, self.count) = (self.sum + ns, self.count + 1);
        if let Some(least) = self.worst.iter_mut().min().filter(|least| **least < ns) {
            *least = ns;
        }
    }
    fn print(&self, what: &str) {
        let mut worst = self.worst.map(|ns| ns as f64 / 1_000.0);
        worst.sort_by(f64::total_cmp);
        // What looking at the clock costs is not the call's.
        let begin = cpu_ns();
        for _ in 0..1_000 {
            std::hint::black_box(cpu_ns());
        }
        let clock = (cpu_ns() - begin) as f64 / 1_000.0;
        let mean = self.sum as f64 / self.count.max(1) as f64 - clock;
        println!("  {what}: mean {mean:.0} ns of CPU, the five worst {worst:.0?} us");
    }
}

impl Core {
    fn new(connections: usize) -> Self {
        Self {
            names: Names::new(1 << 26),
            hub: Hub::new(1 << 26),
            interest: Interest::new(1 << 26),
            lists: Lists::default(),
            followed: (0..connections).map(|_| ListRef::EMPTY).collect(),
            calls: Calls::default(),
        }
    }

    fn follow(&mut self, conn: u32, channel: u32) -> bool {
        let name = format!("C{channel:08}");
        let (key, slot) = (Secret([1; 16]).key_of(&name), slot_of(&name));
        let begin = cpu_ns();
        let member = Member::new(conn, 0);
        let joined = self.hub.join(&mut self.names, key, slot, &name, member).expect("room");
        if joined.is_new {
            let wish = Wish { slot, key, namespace: 0, name: &name };
            self.interest.subscribe(&mut self.names, wish, 0, Handle(joined.place));
        }
        if joined.was_added {
            self.lists.push(&mut self.followed[conn as usize], joined.place);
        }
        self.calls.add(cpu_ns() - begin);
        joined.was_added
    }

    /// Leaves everything, in the order of connections.
    fn leave_all(&mut self) {
        self.calls = Calls::default();
        for conn in 0..self.followed.len() {
            loop {
                let begin = cpu_ns();
                let Some(place) = self.lists.pop(&mut self.followed[conn]) else { break };
                self.hub.leave(place, conn as u32);
                self.calls.add(cpu_ns() - begin);
            }
        }
        self.calls.print("leave");
    }

    fn print(&self, what: &str, count: u64, resident: usize) {
        let [names, hub, interest, lists] =
            [self.names.bytes(), self.hub.bytes(), self.interest.bytes(), self.lists.bytes()];
        let each = |bytes: usize| bytes as f64 / count as f64;
        println!("{what}: {count}");
        println!(
            "  bytes each: {:.2} (hub {:.2}, interest {:.2}, names {:.2}, lists {:.2}); resident {:.2}",
            each(names + hub + interest + lists),
            each(hub),
            each(interest),
            each(names),
            each(lists),
            each(resident),
        );
        self.calls.print("join, subscribe, list");
    }
}

fn main() {
    warm();
    // Cargo says `--bench` too.
    let mut words = std::env::args().skip(1).filter(|word| !word.starts_with('-'));
    let part = words.next();
    let count = words.next().map(|count| count.parse().expect("a number of channels"));
    match part.as_deref() {
        Some("subscriptions") => subscriptions(),
        Some("channels") => channels(count.unwrap_or(1_000_000)),
        Some("one") => one_channel(),
        _ => {
            let me = std::env::current_exe().expect("a path");
            for part in ["subscriptions", "channels", "one"] {
                std::process::Command::new(&me).arg(part).status().expect("a part that runs");
            }
        }
    }
}

/// Touches more memory than the parts need: a virtual machine's host gives it at the first touch, which takes it up to 4 ms.
fn warm() {
    let mut memory = vec![0u8; 3 << 30];
    memory.iter_mut().step_by(4_096).for_each(|byte| *byte = 1);
    std::hint::black_box(&memory);
}

/// 10,000 connections in 200 of 20,000 channels each, at random.
fn subscriptions() {
    let before = resident_bytes();
    let mut core = Core::new(10_000);
    let mut random = 1u64;
    for _ in 0..200 {
        for conn in 0..10_000 {
            loop {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                if core.follow(conn, (((random >> 32) * 20_000) >> 32) as u32) {
                    break;
                }
            }
        }
    }
    core.print("subscriptions", core.hub.subscriptions(), resident_bytes() - before);
    let (begin, mut sum) = (cpu_ns(), 0);
    for place in 0..20_000 {
        sum += core.hub.members(place).map(|member| u64::from(member.index())).sum::<u64>();
    }
    let each = (cpu_ns() - begin) as f64 / 2_000_000.0;
    println!("  looking at all members: {each:.2} ns each (sum {sum})");
    core.leave_all();
}

/// Channels of one connection each, on at least 100 connections.
fn channels(count: u32) {
    let before = resident_bytes();
    let connections = (count / 10_000).max(100);
    let mut core = Core::new(connections as usize);
    for channel in 0..count {
        core.follow(channel % connections, channel);
    }
    core.print("channels", u64::from(count), resident_bytes() - before);
    core.leave_all();
}

/// A channel that a million connections follow.
fn one_channel() {
    let before = resident_bytes();
    let mut core = Core::new(1 << 20);
    for n in 0..1u32 << 20 {
        // A permutation, so that connections come in no order.
        core.follow(n.wrapping_mul(0x9e37_79b1) & 0xf_ffff, 0);
    }
    core.print("subscribers of one channel", 1 << 20, resident_bytes() - before);
    core.leave_all();
}

fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok());
    pages.expect("the second number") * 4_096
}
