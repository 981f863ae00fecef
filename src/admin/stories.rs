//! Stories of the dispatcher with a model of the table, of the ring and of owners, some of which are former ones.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::shard::Admin;
use crate::ids::{Ask, NodeId, Origin, Peer, Role};
use crate::limits::Limits;
use crate::ring::{Ring, Secret, slot_of};
use crate::shard::{Counter, Effect, Effects, Input, Report, Shard};
use crate::time::{Mono, Now};
use crate::wire::message::nack;
use crate::wire::{Hello, Message, Packed};

const SECRET: Secret = Secret([7; 16]);
const ME: NodeId = NodeId(0);
const CHANNELS: [&str; 3] = ["C1", "C2", "C3"];

/// What an owner of a seat believes and holds: offsets by channel.
#[derive(Clone, Default)]
struct Owned {
    seat_epoch: u32,
    holds: BTreeMap<&'static str, BTreeSet<u64>>,
}

/// A dispatcher between its table and two nodes of owners, in virtual time.
struct World {
    admin: Admin,
    limits: Limits,
    now: Now,
    /// The true ring; the dispatcher hears of it when `tell_ring` says so.
    ring: Ring,
    tips: BTreeMap<&'static str, u64>,
    outbox: BTreeMap<u64, (&'static str, u64)>,
    rows: u64,
    /// By (node, seat): also of owners that were replaced and do not know it.
    owners: BTreeMap<(NodeId, u16), Owned>,
    /// On the way to each peer, and back.
    mail: BTreeMap<Peer, VecDeque<Vec<u8>>>,
    back: VecDeque<(Peer, Vec<u8>)>,
    asked: VecDeque<(Ask, Vec<u8>)>,
    /// The ring as it was read, until the answer arrives.
    read: VecDeque<(Ask, Ring)>,
    counted: BTreeMap<&'static str, u32>,
    published: Vec<(&'static str, u64)>,
    finalised: u32,
}

fn name_of(name: &str) -> &'static str {
    CHANNELS.into_iter().find(|channel| *channel == name).expect("a channel of the model")
}

fn owner_peer(node: NodeId) -> Peer {
    Peer::new(node, Role::Channel, 0)
}

fn tiny() -> Limits {
    Limits { dispatch_max: 8, dispatch_bytes_max: 1 << 20, ..Limits::DEFAULT }
}

impl World {
    fn new(limits: &Limits) -> Self {
        let ring = Ring::new(&[(NodeId(0), 1), (NodeId(1), 1)]);
        let owners = ring
            .seats
            .iter()
            .enumerate()
            .map(|(seat, row)| {
                let owned = Owned { seat_epoch: row.seat_epoch, ..Owned::default() };
                ((row.node, seat as u16), owned)
            })
            .collect();
        let mut world = Self {
            admin: Admin::new(ME, SECRET, 1, limits),
            limits: limits.clone(),
            now: Now { mono: Mono(1), ..Now::default() },
            ring,
            tips: BTreeMap::new(),
            outbox: BTreeMap::new(),
            rows: 0,
            owners,
            mail: BTreeMap::new(),
            back: VecDeque::new(),
            asked: VecDeque::new(),
            read: VecDeque::new(),
            counted: BTreeMap::new(),
            published: Vec::new(),
            finalised: 0,
        };
        world.tell_ring();
        world.up(NodeId(0));
        world.up(NodeId(1));
        world
    }

    fn input(&mut self, input: Input<'_>) {
        let mut out = Effects::default();
        self.admin.handle(self.now, input, &mut out);
        for effect in out.list() {
            match *effect {
                Effect::Send { peer, message, .. } => {
                    self.mail.entry(peer).or_default().push_back(out.bytes(message).to_vec());
                }
                Effect::Ask { ask, question } => {
                    self.asked.push_back((ask, out.bytes(question).to_vec()));
                }
                Effect::Count { what, by } => *self.counted.entry(what.name()).or_default() += by,
                other => panic!("a dispatcher has no {other:?}"),
            }
        }
        let in_flight = self.gauge("outbox_in_flight");
        assert!(in_flight <= u64::from(self.limits.dispatch_max), "{in_flight} rows in memory");
    }

    fn tell_ring(&mut self) {
        let ring = self.ring.clone();
        self.input(Input::Ring { ring: &ring });
    }
    fn up(&mut self, node: NodeId) {
        self.input(Input::PeerUp { peer: owner_peer(node), life: 1, hello: Hello::default() });
    }
    fn lose(&mut self, node: NodeId) {
        let peer = owner_peer(node);
        self.mail.remove(&peer);
        self.back.retain(|(from, _)| *from != peer);
        self.input(Input::PeerLost { peer });
    }
    fn restart(&mut self) {
        self.mail.clear();
        self.back.clear();
        self.asked.clear();
        self.read.clear();
        self.admin = Admin::new(ME, SECRET, 1, &self.limits);
        self.tell_ring();
        self.up(NodeId(0));
        self.up(NodeId(1));
    }

    /// A commit; its word reaches the dispatcher only if `is_told`.
    fn commit(&mut self, name: &'static str, is_told: bool) {
        let tip = self.tips.entry(name).or_default();
        *tip += 1;
        self.rows += 1;
        self.outbox.insert(self.rows, (name, *tip));
        if is_told {
            let peer = Peer::control(ME, Role::Http);
            let (id, offset) = (self.rows, *tip);
            self.input(Input::Wire { peer, message: committed(id, name, offset) });
        }
    }

    /// The seat of a channel goes to the other node, which opens with what is committed now. The former owner stays as it was.
    fn replace(&mut self, name: &'static str) {
        let seat = usize::from(self.ring.channel_seat(slot_of(name)).0);
        let row = &mut self.ring.seats[seat];
        row.node = NodeId(1 - row.node.0);
        row.seat_epoch += 1;
        self.ring.ring_epoch += 1;
        let holds =
            self.tips.iter().map(|(name, tip)| (*name, (1..=*tip).collect::<BTreeSet<_>>()));
        let owned = Owned { seat_epoch: row.seat_epoch, holds: holds.collect() };
        self.owners.insert((row.node, seat as u16), owned);
    }

    /// One message to an owner arrives. `why`: it refuses, whoever it is.
    fn deliver(&mut self, peer: Peer, why: Option<u8>) -> bool {
        let Some(bytes) = self.mail.get_mut(&peer).and_then(VecDeque::pop_front) else {
            return false;
        };
        let Ok(Message::Publish { slot, seat_epoch, key, ask, offset, name, .. }) =
            Message::decode(&bytes)
        else {
            panic!("a dispatcher says nothing but Publish");
        };
        assert_eq!((slot, key), (slot_of(name), SECRET.key_of(name)));
        let seat = self.ring.channel_seat(slot).0;
        let owned = self.owners.get_mut(&(peer.node, seat));
        let (accepted, why, epoch) = match (owned, why) {
            (_, Some(why)) => (false, why, 0),
            (None, None) => (false, nack::MOVED, 0),
            (Some(owned), None) if owned.seat_epoch != seat_epoch => {
                (false, nack::STALE, owned.seat_epoch)
            }
            (Some(owned), None) => {
                owned.holds.entry(name_of(name)).or_default().insert(offset);
                self.published.push((name_of(name), offset));
                (true, 0, owned.seat_epoch)
            }
        };
        let message =
            Message::Published { ask, accepted, why, seat_epoch: epoch, epoch: 0, offset };
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        self.back.push_back((peer, bytes));
        true
    }

    /// One answer of an owner arrives.
    fn deliver_back(&mut self) -> bool {
        let Some((peer, bytes)) = self.back.pop_front() else { return false };
        self.input(Input::Wire { peer, message: Message::decode(&bytes).expect("encoded here") });
        true
    }

    /// The next question is carried out; its answer arrives only if `is_heard`. A removal that is not `ok` does nothing.
    fn carry_out(&mut self, is_heard: bool, ok: bool) -> bool {
        let Some((ask, bytes)) = self.asked.pop_front() else { return false };
        match Message::decode(&bytes).expect("a whole question") {
            Message::OutboxRead { after, count_max, .. } => {
                let above = self.outbox.range(after + 1..).map(|(id, row)| (*id, *row));
                let rows: Vec<_> = above.take(count_max as usize).collect();
                let last = rows.last().map_or(after, |(id, _)| *id);
                let more = self.outbox.range(last + 1..).next().is_some();
                if is_heard {
                    for (id, (name, offset)) in rows {
                        self.input(Input::Answer { ask, message: committed(id, name, offset) });
                    }
                    self.input(Input::Answer {
                        ask,
                        message: Message::OutboxEnd { ask, last, more },
                    });
                }
            }
            Message::RingRead { .. } if is_heard => self.read.push_back((ask, self.ring.clone())),
            Message::RingRead { .. } => {}
            Message::OutboxRemove { ids, .. } => {
                for id in ids.iter::<u64>().filter(|_| ok) {
                    if let Some((name, offset)) = self.outbox.remove(&id) {
                        self.finalised += 1;
                        self.assert_owner_holds(name, offset);
                    }
                }
                if is_heard {
                    self.input(Input::Answer { ask, message: Message::Removed { ask, ok } });
                }
            }
            other => panic!("a dispatcher does not ask {other:?}"),
        }
        true
    }

    /// The answer to a read of the ring arrives.
    fn hear(&mut self) -> bool {
        let Some((ask, ring)) = self.read.pop_front() else { return false };
        let mut list = Vec::new();
        let seats = ring.seats.iter().enumerate();
        let seats = seats.map(|(seat, row)| (seat as u16, row.seat_epoch));
        let seats = Packed::pack(seats, &mut list);
        let message = Message::RingIs { ask, ring_epoch: ring.ring_epoch, seats };
        self.input(Input::Answer { ask, message });
        true
    }

    /// I2 and I3: what leaves the outbox is held by whoever owns the slot now.
    fn assert_owner_holds(&self, name: &'static str, offset: u64) {
        let seat = self.ring.channel_seat(slot_of(name)).0;
        let row = self.ring.seats[usize::from(seat)];
        let owned = &self.owners[&(row.node, seat)];
        assert_eq!(owned.seat_epoch, row.seat_epoch, "the model's owner knows its epoch");
        let holds = owned.holds.get(name).is_some_and(|held| held.contains(&offset));
        assert!(holds, "{name} {offset} left the outbox and its owner does not have it");
    }

    /// Time passes without faults: every message and question is carried out at once.
    fn run(&mut self, time: Duration) {
        let end = self.now.mono + time;
        loop {
            while self.deliver(owner_peer(NodeId(0)), None)
                || self.deliver(owner_peer(NodeId(1)), None)
                || self.deliver_back()
                || self.carry_out(true, true)
                || self.hear()
            {}
            match self.admin.deadline().filter(|due| *due <= end) {
                Some(due) => {
                    self.now.mono = self.now.mono.max(due);
                    self.input(Input::Tick);
                }
                None => break,
            }
        }
        self.now.mono = end;
    }

    fn gauge(&self, name: &str) -> u64 {
        let mut report = Report::default();
        self.admin.report(&mut report);
        report.gauges.iter().find(|(gauge, _)| *gauge == name).expect("a gauge").1 as u64
    }
    fn counted(&self, what: Counter) -> u32 {
        self.counted.get(what.name()).copied().unwrap_or(0)
    }
    fn waiting(&self, node: u16) -> usize {
        self.mail.get(&owner_peer(NodeId(node))).map_or(0, VecDeque::len)
    }
    fn owner_of(&self, name: &str) -> NodeId {
        self.ring.channel_owner(slot_of(name)).0
    }
}

fn committed(id: u64, name: &'static str, offset: u64) -> Message<'static> {
    let (namespace, origin, member, payload) = (0, Origin::NOBODY, None, &b"{}"[..]);
    Message::Committed { id, namespace, offset, origin, member, name, payload }
}

const SOON: Duration = Duration::from_millis(600);

#[test]
fn a_committed_row_goes_to_its_owner_at_once_and_leaves_the_outbox_soon() {
    let mut world = World::new(&tiny());
    world.run(Duration::ZERO);
    world.commit("C1", true);
    let owner = owner_peer(world.owner_of("C1"));
    assert_eq!(world.mail[&owner].len(), 1);
    world.run(SOON);
    assert!(world.outbox.is_empty() && world.admin.is_idle());
    assert_eq!(world.published, [("C1", 1)]);
    assert_eq!(world.counted(Counter::OutboxFinalised), 1);
    assert_eq!(world.counted(Counter::OutboxRedispatched), 0);
}

#[test]
fn rows_of_a_channel_are_sent_in_order_without_waiting_for_each_other() {
    let mut world = World::new(&tiny());
    for _ in 0..5 {
        world.commit("C1", true);
    }
    assert_eq!(world.waiting(world.owner_of("C1").0), 5);
    world.run(SOON);
    assert_eq!(world.published, (1..=5).map(|offset| ("C1", offset)).collect::<Vec<_>>());
}

#[test]
fn after_a_start_the_table_is_drained_in_order() {
    let mut world = World::new(&tiny());
    for _ in 0..100 {
        world.commit("C1", false);
    }
    world.run(Duration::from_secs(10));
    assert!(world.outbox.is_empty(), "{} rows left", world.outbox.len());
    assert_eq!(world.published, (1..=100).map(|offset| ("C1", offset)).collect::<Vec<_>>());
}

#[test]
fn a_commit_whose_word_is_lost_is_found_within_a_second() {
    let mut world = World::new(&tiny());
    world.run(SOON);
    world.commit("C2", false);
    world.run(Duration::from_secs(1));
    assert_eq!(world.published, [("C2", 1)]);
}

#[test]
fn a_full_memory_loses_nothing() {
    let mut world = World::new(&tiny());
    world.run(SOON);
    for _ in 0..40 {
        world.commit("C1", true);
    }
    assert_eq!(world.gauge("outbox_in_flight"), 8);
    world.run(Duration::from_secs(4));
    assert!(world.outbox.is_empty(), "{} rows left", world.outbox.len());
}

#[test]
fn a_ring_that_cannot_be_read_for_long_keeps_nothing_from_owners() {
    let mut world = World::new(&tiny());
    world.run(SOON);
    for said in 1..=40 {
        world.commit("C1", true);
        while world.deliver(owner_peer(world.owner_of("C1")), None) || world.deliver_back() {}
        assert_eq!(world.published.last(), Some(&("C1", said)), "its owner waits for it");
        world.now.mono += Duration::from_millis(100);
        world.input(Input::Tick);
        while world.carry_out(false, true) {}
    }
    assert_eq!(world.outbox.len(), 40, "the store may say anything when it is back");
    world.run(world.limits.ask_timeout + Duration::from_secs(10));
    assert!(world.outbox.is_empty(), "{} rows left", world.outbox.len());
}

#[test]
fn bytes_are_bounded_as_rows_are() {
    let limits = Limits { dispatch_max: 100, dispatch_bytes_max: 500, ..tiny() };
    let mut world = World::new(&limits);
    for _ in 0..10 {
        world.commit("C1", true);
    }
    assert!(world.gauge("outbox_in_flight") <= 4);
    world.run(Duration::from_secs(6));
    assert!(world.outbox.is_empty());
}

#[test]
fn an_owner_s_mailbox_is_never_filled_by_half() {
    let limits = Limits { dispatch_max: 100, mail_messages_max: 16, ..tiny() };
    let mut world = World::new(&limits);
    for _ in 0..50 {
        world.commit("C1", true);
    }
    assert_eq!(world.waiting(world.owner_of("C1").0), 4);
    world.run(SOON);
    assert!(world.outbox.is_empty());
}

#[test]
fn an_owner_that_is_away_holds_up_nobody_else() {
    let mut world = World::new(&tiny());
    let (away, other) = (world.owner_of("C1"), "C2");
    // Two channels of different owners, whatever the hash says.
    let other = if world.owner_of(other) == away { "C3" } else { other };
    if world.owner_of(other) == away {
        world.replace(other);
        world.tell_ring();
    }
    world.lose(away);
    world.commit("C1", true);
    world.commit(other, true);
    world.run(SOON);
    assert_eq!(world.published, [(other, 1)]);
    world.up(away);
    world.run(SOON);
    assert!(world.outbox.is_empty());
}

#[test]
fn a_lost_link_sends_again_what_was_on_its_way_in_order() {
    let mut world = World::new(&tiny());
    for _ in 0..4 {
        world.commit("C1", true);
    }
    let owner = world.owner_of("C1");
    world.deliver(owner_peer(owner), None);
    world.lose(owner);
    world.up(owner);
    world.run(SOON);
    assert_eq!(world.published[1..], [("C1", 1), ("C1", 2), ("C1", 3), ("C1", 4)]);
    assert_eq!(world.counted(Counter::OutboxRedispatched), 4);
    assert!(world.outbox.is_empty());
}

#[test]
fn a_row_without_an_answer_is_sent_again_in_time() {
    let mut world = World::new(&tiny());
    world.commit("C1", true);
    let owner = owner_peer(world.owner_of("C1"));
    world.mail.remove(&owner);
    world.run(world.limits.dispatch_timeout + SOON);
    assert_eq!(world.counted(Counter::OutboxRedispatched), 1);
    assert!(world.outbox.is_empty());
}

#[test]
fn a_refusal_is_followed_by_longer_and_longer_rests() {
    let mut world = World::new(&tiny());
    world.run(Duration::ZERO);
    world.commit("C1", true);
    let owner = owner_peer(world.owner_of("C1"));
    let mut rests = Vec::new();
    for _ in 0..8 {
        assert!(world.deliver(owner, Some(nack::RETRY)));
        world.deliver_back();
        let from = world.now.mono;
        while world.waiting(owner.node.0) == 0 {
            world.carry_out(true, true);
            world.now.mono = world.admin.deadline().expect("a rest ends").max(world.now.mono);
            world.input(Input::Tick);
        }
        rests.push(world.now.mono.since(from).as_millis());
    }
    assert_eq!(rests, [20, 40, 80, 160, 320, 640, 640, 640]);
    world.run(SOON);
    assert!(world.outbox.is_empty());
}

#[test]
fn a_former_owner_s_acknowledgement_lets_no_row_go() {
    let mut world = World::new(&tiny());
    world.run(SOON);
    // The dispatcher still believes in the old owner, which still believes in itself.
    world.replace("C1");
    world.commit("C1", true);
    world.run(Duration::from_secs(2));
    assert_eq!(world.outbox.len(), 1, "the ring that was read is another one");
    world.tell_ring();
    world.run(Duration::from_secs(2));
    assert!(world.outbox.is_empty());
}

#[test]
fn an_acknowledgement_counts_for_the_seat_that_gave_it() {
    let mut world = World::new(&tiny());
    world.run(SOON);
    world.commit("C1", true);
    let owner = owner_peer(world.owner_of("C1"));
    world.deliver(owner, None);
    world.replace("C1");
    world.tell_ring();
    // The new owner opened before the commit was there.
    let seat = world.ring.channel_seat(slot_of("C1")).0;
    let owned = world.owners.get_mut(&(world.owner_of("C1"), seat)).expect("the new owner");
    owned.holds.clear();
    world.run(Duration::from_secs(2));
    assert!(world.outbox.is_empty());
    assert_eq!(world.published.len(), 2, "the new owner was given it too");
}

#[test]
fn a_removal_that_fails_or_is_not_answered_is_tried_again() {
    for (is_heard, ok) in [(true, false), (false, false), (false, true)] {
        let mut world = World::new(&tiny());
        world.run(SOON);
        world.commit("C1", true);
        let owner = owner_peer(world.owner_of("C1"));
        world.deliver(owner, None);
        world.deliver_back();
        world.now.mono += SOON;
        world.input(Input::Tick);
        while world.asked.front().is_some_and(|(_, question)| question[0] != 63) {
            world.carry_out(true, true);
            world.hear();
        }
        world.carry_out(is_heard, ok);
        world.run(world.limits.ask_timeout + Duration::from_secs(3));
        assert!(world.outbox.is_empty() && world.admin.is_idle(), "heard {is_heard}, ok {ok}");
    }
}

#[test]
fn questions_that_nobody_answers_are_asked_again() {
    let mut world = World::new(&tiny());
    world.commit("C1", false);
    world.input(Input::Tick);
    assert!(world.carry_out(false, true), "the first page is lost");
    world.run(world.limits.ask_timeout + SOON);
    assert!(world.outbox.is_empty());
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// I2 and I4 under everything that can go wrong: the assertion is in `carry_out`.
#[test]
fn whatever_goes_wrong_every_row_reaches_the_owner_before_it_leaves_the_outbox() {
    let (mut finalised, mut sent_again) = (0, 0);
    for seed in 0..400 {
        let mut random = Random(seed);
        let limits = Limits {
            dispatch_max: 4 + random.below(20) as u32,
            ask_timeout: Duration::from_secs(1),
            ..tiny()
        };
        let mut world = World::new(&limits);
        for _ in 0..400 {
            let name = CHANNELS[random.below(3) as usize];
            let node = NodeId(random.below(2) as u16);
            match random.below(100) {
                3..20 => world.commit(name, random.below(4) > 0),
                20..45 => {
                    let why = (random.below(8) == 0).then_some(nack::RETRY);
                    world.deliver(owner_peer(node), why);
                }
                45..65 => {
                    world.deliver_back();
                }
                65..78 => {
                    world.carry_out(random.below(6) > 0, random.below(6) > 0);
                }
                78..92 => {
                    world.now.mono += Duration::from_millis(random.below(300));
                    world.input(Input::Tick);
                }
                92 => {
                    world.lose(node);
                    if random.below(2) == 0 {
                        world.up(node);
                    }
                }
                93 => world.up(node),
                94 => world.replace(name),
                95 => world.tell_ring(),
                96 => {
                    // A message is lost although its link stands.
                    world.mail.entry(owner_peer(node)).or_default().pop_front();
                    world.back.pop_front();
                }
                97 => {
                    // Two questions overtake each other.
                    if let Some(first) = world.asked.pop_front() {
                        world.asked.push_back(first);
                    }
                }
                0..3 => {
                    world.hear();
                }
                98 if random.below(4) == 0 => world.restart(),
                _ => {}
            }
        }
        world.tell_ring();
        world.up(NodeId(0));
        world.up(NodeId(1));
        // `up` of a link that is up is a new life: what was on its way is void.
        world.mail.clear();
        world.back.clear();
        world.run(Duration::from_secs(10));
        assert!(world.outbox.is_empty(), "seed {seed}: {} rows left", world.outbox.len());
        assert!(world.admin.is_idle(), "seed {seed}");
        finalised += world.finalised;
        sent_again += world.counted(Counter::OutboxRedispatched);
    }
    assert!(finalised > 10_000 && sent_again > 1_000, "{finalised} rows, {sent_again} again");
}
