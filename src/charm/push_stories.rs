//! A manager and a node between which things get lost, and a driver at each end: which ring the node is given, and how.

use std::collections::VecDeque;
use std::time::Duration;

use super::health::Health;
use super::manager::{Manager, ManagerConfig};
use crate::ids::{Ask, NodeId, Peer, Role};
use crate::limits::Limits;
use crate::ring::Ring;
use crate::shard::{Effect, Effects, Input, Shard};
use crate::time::{Mono, Now, Wall};
use crate::wire::{Hello, Message};

const MANAGER: Peer = Peer { node: NodeId(100), role: Role::Ring, core: Peer::CONTROL_CORE };
const NODE: Peer = Peer { node: NodeId(1), role: Role::Health, core: Peer::CONTROL_CORE };
/// Of a node with tiny mailboxes: a part is a quarter of one.
const MAIL_BYTES: u32 = 400;

struct Two {
    now: Mono,
    manager: Manager,
    health: Health,
    mail: VecDeque<(Peer, Vec<u8>)>,
    /// Names of messages that do not arrive, and bytes of those that the way takes.
    lost: Vec<&'static str>,
    takes: usize,
    /// What the manager's driver makes of a ring.
    whole: Vec<u8>,
    /// What the node's driver was given: since which ring, which, the bytes.
    offered: Vec<(u64, u64, Vec<u8>)>,
    said: Vec<&'static str>,
    manager_has: u64,
}

fn ring(ring_epoch: u64) -> Ring {
    let mut ring = Ring::new(&[(NodeId(1), 1)]);
    ring.ring_epoch = ring_epoch;
    ring
}

impl Two {
    /// Both have the same ring.
    fn new() -> Self {
        Self::with_mailboxes(MAIL_BYTES)
    }

    fn with_mailboxes(mail_bytes_max: u32) -> Self {
        let limits = Limits { mail_bytes_max, ..Limits::DEFAULT };
        let mut two = Self {
            now: Mono::default() + Duration::from_secs(1),
            manager: Manager::new(ManagerConfig::alone(MANAGER.node)),
            health: Health::new(&limits),
            mail: VecDeque::new(),
            lost: Vec::new(),
            takes: usize::MAX,
            whole: (0..=255).cycle().take(1_000).collect(),
            offered: Vec::new(),
            said: Vec::new(),
            manager_has: 0,
        };
        two.node_has(1);
        two.manager_is_told(1);
        for (to, peer) in [(MANAGER, NODE), (NODE, MANAGER)] {
            let hello = Hello { incarnation: 1, node: peer.node, ..Hello::default() };
            two.give(to, Input::PeerUp { peer, life: 1, hello });
        }
        two.run(1_000);
        assert_eq!(two.offered, [], "it has what there is");
        two
    }

    fn manager_is_told(&mut self, epoch: u64) {
        self.manager_has = epoch;
        let ring = ring(epoch);
        self.give(MANAGER, Input::Ring { ring: &ring });
        self.deliver();
    }

    fn node_has(&mut self, epoch: u64) {
        let ring = ring(epoch);
        self.give(NODE, Input::Ring { ring: &ring });
        self.deliver();
    }

    fn give(&mut self, to: Peer, input: Input<'_>) {
        let now = Now { mono: self.now, wall: Wall(self.now.0 / 1_000) };
        let mut out = Effects::default();
        if to == MANAGER {
            self.manager.handle(now, input, &mut out);
        } else {
            self.health.handle(now, input, &mut out);
        }
        for effect in out.list() {
            match *effect {
                Effect::Send { peer, message, .. } => {
                    self.mail.push_back((peer, out.bytes(message).to_vec()));
                }
                Effect::Ask { ask, question } => {
                    let question = out.bytes(question).to_vec();
                    self.asked(ask, &question);
                }
                _ => {}
            }
        }
    }

    /// What the drivers do.
    fn asked(&mut self, ask: Ask, question: &[u8]) {
        match Message::decode(question).expect("shards encode") {
            Message::RingSince { since } => {
                let whole = self.whole.clone();
                let news = if since == 0 { &whole[..] } else { b"news" };
                let message = Message::RingNews { since, ring_epoch: self.manager_has, news };
                self.give(MANAGER, Input::Answer { ask, message });
            }
            Message::RingNews { since, ring_epoch, news } => {
                self.offered.push((since, ring_epoch, news.to_vec()));
            }
            other => panic!("nothing else is asked: {other:?}"),
        }
    }

    fn deliver(&mut self) {
        while let Some((to, bytes)) = self.mail.pop_front() {
            let message = Message::decode(&bytes).expect("shards encode");
            self.said.push(message.name());
            if !self.lost.contains(&message.name()) && bytes.len() <= self.takes {
                let peer = if to == MANAGER { NODE } else { MANAGER };
                self.give(to, Input::Wire { peer, message });
            }
        }
    }

    fn run(&mut self, ms: u64) {
        for _ in 0..ms / 10 {
            self.now += Duration::from_millis(10);
            self.give(MANAGER, Input::Tick);
            self.give(NODE, Input::Tick);
            self.deliver();
        }
    }

    /// Until the node's driver is given something; at most so long.
    fn until_offered(&mut self, ms_max: u64) {
        for _ in 0..ms_max / 10 {
            if self.offered.is_empty() {
                self.run(10);
            }
        }
    }

    fn count(&self, name: &str) -> usize {
        self.said.iter().filter(|said| **said == name).count()
    }
}

fn news(since: u64, epoch: u64) -> (u64, u64, Vec<u8>) {
    (since, epoch, b"news".to_vec())
}

#[test]
fn a_newer_ring_is_pushed_at_once_and_once() {
    let mut two = Two::new();
    two.manager_is_told(2);
    assert_eq!(two.offered, [news(1, 2)], "in no time");
    two.node_has(2);
    two.run(2_000);
    assert_eq!(two.offered.len(), 1);
    // Whoever had it before needs no push.
    two.node_has(3);
    two.run(200);
    two.manager_is_told(3);
    two.run(2_000);
    assert_eq!((two.offered.len(), two.count("RingNews")), (1, 1));
}

#[test]
fn a_push_that_was_lost_is_asked_for_when_a_beat_tells() {
    let mut two = Two::new();
    two.lost = vec!["RingNews"];
    two.manager_is_told(2);
    two.lost.clear();
    two.until_offered(250);
    assert_eq!(two.offered, [news(1, 2)]);
    // The driver had no use for it, or no room: then the whole is as good.
    two.run(1_000);
    assert!(two.offered.get(1) == Some(&(0, 2, two.whole.clone())), "{} given", two.offered.len());
    two.node_has(2);
    let asked = two.count("RingWanted");
    two.run(2_000);
    assert_eq!(two.count("RingWanted"), asked, "it has all that there is");
}

#[test]
fn who_missed_a_ring_is_given_the_whole_in_parts_that_fit_its_mailbox() {
    let mut two = Two::new();
    two.lost = vec!["RingNews", "RingWanted"];
    two.manager_is_told(2);
    two.manager_is_told(3);
    two.run(1_000);
    assert_eq!(two.offered, []);
    two.lost.clear();
    two.until_offered(400);
    assert_eq!(two.offered, [(0, 3, two.whole.clone())]);
    assert_eq!(two.count("RingPart"), 10, "1,000 bytes in parts of a quarter of 400");
    two.node_has(3);
    // A push from a ring that it has not: it does not wait for a beat.
    two.lost = vec!["RingNews"];
    two.manager_is_told(4);
    two.lost.clear();
    two.manager_is_told(5);
    assert_eq!(two.offered[1..], [(0, 5, two.whole.clone())]);
}

#[test]
fn who_has_more_room_than_a_manager_asks_for_less_until_it_comes() {
    let mut two = Two::with_mailboxes(1 << 20);
    two.whole = (0..=255).cycle().take(100_000).collect();
    two.takes = 20_000;
    two.lost = vec!["RingNews"];
    two.manager_is_told(2);
    two.manager_is_told(3);
    two.until_offered(3_000);
    assert!(two.offered == [(0, 3, two.whole.clone())], "{} given", two.offered.len());
    // 64 KiB twice, 32, and then what fits.
    assert_eq!(two.count("RingPart"), 3 + 100_000usize.div_ceil(16 << 10));
}

#[test]
fn parts_that_are_lost_are_asked_for_again_and_a_newer_ring_begins_anew() {
    let mut two = Two::new();
    two.lost = vec!["RingNews"];
    two.manager_is_told(3);
    two.manager_is_told(4);
    two.lost.push("RingPart");
    two.run(1_500);
    assert!(two.offered.is_empty() && two.count("RingPart") > 2);
    // Nothing of it is there when the next ring comes.
    let rest: Vec<u8> = vec![7; 350];
    two.whole.clone_from(&rest);
    two.manager_is_told(5);
    two.lost.clear();
    two.until_offered(1_000);
    assert_eq!(two.offered, [(0, 5, rest)]);
}

#[test]
fn nothing_older_is_taken_and_who_is_no_manager_tells_nothing() {
    let mut two = Two::new();
    two.node_has(9);
    two.manager_is_told(2);
    two.manager_is_told(3);
    two.run(2_000);
    assert_eq!((two.offered.len(), two.count("RingWanted")), (0, 0));
    let peer = Peer::control(NodeId(7), Role::Webapp);
    let message = Message::RingNews { since: 9, ring_epoch: 10, news: b"news" };
    two.give(NODE, Input::Wire { peer, message });
    let message = Message::RingPart { ring_epoch: 10, at: 0, all: 4, part: b"news" };
    two.give(NODE, Input::Wire { peer, message });
    assert_eq!(two.offered, []);
}

#[test]
fn a_manager_without_a_newer_ring_pushes_nothing() {
    // It is cut off from the store, or it is told the same again.
    let mut two = Two::new();
    two.manager_is_told(1);
    two.run(5_000);
    for name in ["RingNews", "RingPart", "RingWanted"] {
        assert_eq!(two.count(name), 0, "{name}");
    }
}
