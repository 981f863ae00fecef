//! Stories of an owner between gateway cores, a dispatcher and a source, each told in what was said to whom.
//!
//! - `opening`, `publication`, `past`, `links`, `memory`, `handoff`: one subject each
//! - `chaos`: everything at once, seeded, against the naive `model`

mod chaos;
mod handoff;
mod links;
mod memory;
mod model;
mod opening;
mod past;
mod publication;

use std::collections::BTreeMap;
use std::time::Duration;

use super::shard::Owner;
use crate::ids::{Ask, Handle, Key, NodeId, Origin, Peer, Role, Slot};
use crate::limits::Limits;
use crate::ring::{Ring, Secret};
use crate::shard::{Budget, Counter, Effect, Effects, Input, Report, Shard};
use crate::time::{Mono, Now};
use crate::wire::link::Class;
use crate::wire::message::nack;
use crate::wire::{Hello, Message, Terms};

const SECRET: Secret = Secret([7; 16]);
const ME: NodeId = NodeId(0);
/// The seat epoch of a new ring.
const EPOCH: u32 = 1;
const DURABLE: u16 = 0;
const MEMORY: u16 = 3;

const H1: Handle = Handle(1);
const H2: Handle = Handle(2);
const A1: Ask = Ask(1);
const A2: Ask = Ask(2);
const A3: Ask = Ask(3);

/// A gateway core.
fn gateway(core: u8) -> Peer {
    Peer::new(NodeId(1), Role::Gateway, core)
}
const SOURCE: Peer = Peer { node: ME, role: Role::Webapp, core: Peer::CONTROL_CORE };
const DISPATCHER: Peer = Peer { node: ME, role: Role::Admin, core: Peer::CONTROL_CORE };

fn tiny() -> Limits {
    Limits {
        channels_max: 64,
        backlog_bytes: 4 << 10,
        publication_bytes_max: 512,
        held_per_channel_max: 4,
        held_bytes_max: 2 << 10,
        holes_max: 3,
        fetches_max: 4,
        openings_max: 8,
        questions_max: 3,
        links_max: 4,
        bulk_messages_per_room: 12,
        mail_messages_max: 168,
        mail_bytes_max: 128 << 10,
        catch_up_bytes: 4 << 10,
        replay_per_channel_max: 10,
        gap_timeout: Duration::from_millis(50),
        ask_timeout: Duration::from_secs(10),
        ..Limits::DEFAULT
    }
}

/// An owner, and what it said that nobody has heard yet.
struct World {
    owner: Owner,
    limits: Limits,
    now: Now,
    said: BTreeMap<Peer, Vec<(Class, Vec<u8>)>>,
    reset: Vec<Peer>,
    counted: BTreeMap<&'static str, u32>,
}

impl World {
    /// With a ring, nobody up.
    fn new(limits: &Limits) -> Self {
        assert_eq!(limits.fault(), None);
        let mut world = Self {
            owner: Owner::new(ME, 0, SOURCE, 5, limits),
            limits: limits.clone(),
            now: Now { mono: Mono(1_000_000_000), ..Now::default() },
            said: BTreeMap::new(),
            reset: Vec::new(),
            counted: BTreeMap::new(),
        };
        world.input(Input::Ring { ring: &Ring::new(&[(ME, CORES)]) });
        world
    }

    /// With the source and two gateway cores up.
    fn open() -> Self {
        Self::with(&tiny())
    }

    fn with(limits: &Limits) -> Self {
        let mut world = Self::new(limits);
        for peer in [SOURCE, gateway(0), gateway(1)] {
            world.up(peer);
        }
        world
    }

    fn input(&mut self, input: Input<'_>) {
        let mut out = Effects::default();
        self.owner.handle(self.now, input, &mut out);
        self.hear(&out);
        self.check_bounds();
    }

    fn hear(&mut self, out: &Effects) {
        for effect in out.list() {
            match *effect {
                Effect::Send { peer, message, class } => {
                    let bytes = out.bytes(message).to_vec();
                    self.said.entry(peer).or_default().push((class, bytes));
                }
                Effect::Reset { peer } => self.reset.push(peer),
                Effect::Count { what, by } => *self.counted.entry(what.name()).or_default() += by,
                other => panic!("an owner has no {other:?}"),
            }
        }
    }

    /// I17.
    fn check_bounds(&self) {
        let limits = &self.limits;
        let report = self.report();
        for (name, max) in [
            ("channels", u64::from(limits.channels_max)),
            ("interest_links", u64::from(limits.links_max)),
            ("backlog_bytes", u64::from(limits.backlog_bytes)),
            ("channel_openings", u64::from(limits.openings_max)),
            ("channel_holes", u64::from(limits.holes_max)),
            ("channel_held_bytes", limits.held_bytes_max),
            ("fetches_parked", u64::from(limits.fetches_max)),
            ("source_questions", u64::from(limits.questions_max) * 2),
        ] {
            let is = gauge(&report, name);
            assert!(is <= max, "{name}: {is} of {max}");
        }
    }

    fn up(&mut self, peer: Peer) {
        self.input(Input::PeerUp { peer, life: 1, hello: Hello::default() });
    }
    fn lost(&mut self, peer: Peer) {
        self.said.remove(&peer);
        self.input(Input::PeerLost { peer });
    }
    fn room(&mut self, peer: Peer) {
        self.input(Input::PeerRoom { peer });
    }
    fn say(&mut self, peer: Peer, message: &Message<'_>) {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        let message = Message::decode(&bytes).expect("just encoded");
        self.input(Input::Wire { peer, message });
    }

    /// Time passes, with a tick for each deadline in it.
    fn pass(&mut self, millis: u64) {
        let end = self.now.mono + Duration::from_millis(millis);
        while let Some(due) = self.owner.deadline().filter(|due| *due <= end) {
            self.now.mono = self.now.mono.max(due);
            let before = self.owner.deadline();
            self.input(Input::Tick);
            assert_ne!(self.owner.deadline(), before, "a tick is not asked for twice for nothing");
        }
        self.now.mono = end;
    }

    /// The driver's turns until nothing is left to do: how many.
    fn settle(&mut self) -> u32 {
        for turn in 1.. {
            let mut out = Effects::default();
            let more = self.owner.advance(self.now, Budget { units: 1 }, &mut out);
            self.hear(&out);
            if !more {
                return turn;
            }
            assert!(turn < 100_000, "work comes to an end");
        }
        unreachable!()
    }

    fn subscribe(&mut self, core: u8, name: &str, handle: Handle) {
        self.subscribe_in(core, DURABLE, name, handle);
    }
    fn subscribe_in(&mut self, core: u8, namespace: u16, name: &str, handle: Handle) {
        let (slot, key) = (slot_of(name), SECRET.key_of(name));
        let subscribe =
            Message::Subscribe { slot, seat_epoch: EPOCH, key, handle, namespace, name };
        self.say(gateway(core), &subscribe);
    }
    fn unsubscribe(&mut self, core: u8, name: &str, handle: Handle) {
        let (slot, key) = (slot_of(name), SECRET.key_of(name));
        self.say(gateway(core), &Message::Unsubscribe { slot, key, handle });
    }
    fn fetch(&mut self, core: u8, name: &str, ask: Ask, after: u64) {
        self.fetch_page(core, name, ask, after, 5);
    }
    fn fetch_page(&mut self, core: u8, name: &str, ask: Ask, after: u64, count_max: u32) {
        let (slot, key, bytes_max) = (slot_of(name), SECRET.key_of(name), 2_000);
        self.say(
            gateway(core),
            &Message::Fetch {
                slot,
                seat_epoch: EPOCH,
                key,
                handle: H1,
                ask,
                after,
                count_max,
                bytes_max,
                name,
            },
        );
    }
    fn publish(&mut self, name: &str, offset: u64) {
        self.publish_in(DURABLE, name, offset, b"x");
    }
    fn publish_in(&mut self, namespace: u16, name: &str, offset: u64, payload: &[u8]) {
        let (slot, key) = (slot_of(name), SECRET.key_of(name));
        self.say(
            DISPATCHER,
            &Message::Publish {
                slot,
                seat_epoch: EPOCH,
                key,
                ask: Ask(offset as u32),
                namespace,
                offset,
                origin: Origin::NOBODY,
                member: None,
                terms: Terms::default(),
                name,
                payload,
            },
        );
    }
    fn tip_is(&mut self, ask: Ask, tip: u64) {
        self.say(SOURCE, &Message::TipIs { ask, found: true, tip });
    }
    /// The source's answer to a `Range`: these, and the end.
    fn range_is(&mut self, ask: Ask, offsets: impl IntoIterator<Item = u64>) {
        let mut upto = 0;
        for offset in offsets {
            upto = offset;
            self.event(ask, offset);
        }
        self.say(SOURCE, &Message::RangeEnd { ask, ok: true, upto });
    }
    fn event(&mut self, ask: Ask, offset: u64) {
        let (origin, payload) = (Origin::NOBODY, &b"x"[..]);
        let event = Message::RangeEvent { ask, offset, origin, member: None, payload };
        self.say(SOURCE, &event);
    }

    /// Subscribes and answers the question for the tip.
    fn follow(&mut self, core: u8, name: &str, handle: Handle, tip: u64) {
        self.follow_quietly(core, name, handle, tip);
        let told = self.told(gateway(core));
        assert_eq!(told, [format!("suback {} tip {tip}", handle.0)]);
    }

    /// The same, with the answer left to be heard.
    fn follow_quietly(&mut self, core: u8, name: &str, handle: Handle, tip: u64) {
        self.subscribe(core, name, handle);
        if let Some((ask, _)) = self.asked().pop() {
            self.tip_is(ask, tip);
            self.room(SOURCE);
        }
    }

    /// What was said to somebody since it was asked last.
    fn told(&mut self, peer: Peer) -> Vec<String> {
        let said = self.said.remove(&peer).unwrap_or_default();
        said.iter().map(|(_, bytes)| text(&Message::decode(bytes).expect("whole"))).collect()
    }

    /// What the source was asked.
    fn asked(&mut self) -> Vec<(Ask, String)> {
        let said = self.said.remove(&SOURCE).unwrap_or_default();
        said.iter()
            .map(|(class, bytes)| {
                assert_eq!(*class, Class::Bulk, "questions never overflow a mailbox");
                let message = Message::decode(bytes).expect("whole");
                let ask = match message {
                    Message::Tip { ask, .. } | Message::Range { ask, .. } => ask,
                    other => panic!("a source has no use for {}", other.name()),
                };
                (ask, text(&message))
            })
            .collect()
    }

    /// The only thing that the source was asked.
    fn asked_one(&mut self, expected: &str) -> Ask {
        let asked = self.asked();
        assert_eq!(asked.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>(), [expected]);
        asked[0].0
    }

    fn counted(&self, what: Counter) -> u32 {
        self.counted.get(what.name()).copied().unwrap_or(0)
    }

    fn report(&self) -> Report {
        let mut report = Report::default();
        self.owner.report(&mut report);
        report
    }
    fn gauge(&self, name: &str) -> u64 {
        gauge(&self.report(), name)
    }
}

fn gauge(report: &Report, name: &str) -> u64 {
    let found = report.gauges.iter().find(|(gauge, _)| *gauge == name);
    found.expect("a gauge of an owner").1 as u64
}

/// The owner is the first of many cores, so that its tables are small: all names are in slots of its own.
fn slot_of(name: &str) -> Slot {
    let Slot(slot) = crate::ring::slot_of(name);
    Slot(slot - slot % u16::from(CORES))
}
const CORES: u8 = 64;

/// A message in a few words.
fn text(message: &Message<'_>) -> String {
    let why = |why: u8| match why {
        nack::MOVED => "moved",
        nack::STALE => "stale",
        nack::RETRY => "retry",
        nack::UNKNOWN => "unknown",
        nack::FULL => "full",
        _ => "?",
    };
    match *message {
        Message::Suback { handle, epoch, tip } => {
            let memory = if epoch == 0 { "" } else { " memory" };
            format!("suback {} tip {tip}{memory}", handle.0)
        }
        Message::Unsuback { handle } => format!("unsuback {}", handle.0),
        Message::Subnack { handle, why: code } => format!("subnack {} {}", handle.0, why(code)),
        Message::Publication { handle, offset, .. } => format!("{}: {offset}", handle.0),
        Message::Past { ask, offset, .. } => format!("past {}: {offset}", ask.0),
        Message::PastEnd { ask, upto, complete, missing, .. } => {
            let complete = if complete { " complete" } else { "" };
            let missing = if missing == 0 { String::new() } else { format!(" missing {missing}") };
            format!("end {} upto {upto}{complete}{missing}", ask.0)
        }
        Message::PastRefused { ask, .. } => format!("refused {}", ask.0),
        Message::Event { handle, .. } => format!("event {}", handle.0),
        Message::Published { ask, accepted: true, offset, .. } => {
            format!("accepted {} at {offset}", ask.0)
        }
        Message::Published { ask, why: code, .. } => format!("not {} {}", ask.0, why(code)),
        Message::Tip { name, .. } => format!("tip {name}"),
        Message::Range { name, from, to, .. } => format!("range {name} {from}..={to}"),
        other => other.name().into(),
    }
}
