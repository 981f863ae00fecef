//! Everything at once: links with lives, a source that is slow, partial or away, publications in any order, against the obvious model of each side.
//!
//! Checked at every step: I13 (each subscription is sent `tip + 1`, `tip + 2` …, with the content that was committed), I14 (no subscriber is
//! answered before the source was), I15 (whoever is subscribed misses nothing), I17 (bounds), bulk within its grant. At the end, when all is
//! well again: everybody has everything.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;

/// Names of channels: durable ones, then memory ones.
const NAMES: [&str; 8] = ["C0", "C1", "C2", "C3", "C4", "C5", "M0", "M1"];
const DURABLES: usize = 6;
const GATEWAYS: u8 = 3;

fn namespace(channel: usize) -> u16 {
    if channel < DURABLES { DURABLE } else { MEMORY }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mixed = (self.0 ^ self.0 >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ mixed >> 32
    }
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

/// What one gateway core knows of a channel. Lives on when its link does not.
#[derive(Default)]
struct Followed {
    is_wanted: bool,
    /// Everything up to here was received; nothing yet: from wherever the first subscription begins.
    has: Option<u64>,
    subscription: Option<Subscription>,
    fetch: Option<Ask>,
}

struct Subscription {
    handle: Handle,
    /// The last offset sent on it; nothing yet: not answered.
    sent: Option<u64>,
}

impl Followed {
    fn unwant(&mut self) {
        self.is_wanted = false;
        self.has = None;
        self.fetch = None;
    }
}

#[derive(Default)]
struct Gateway {
    is_up: bool,
    channels: [Followed; NAMES.len()],
    /// On its way from the owner, and to it.
    from_owner: VecDeque<(Class, Vec<u8>)>,
    to_owner: VecDeque<Vec<u8>>,
    bulk_is_out: bool,
    /// Handles that were given up, until `Unsuback`.
    leaving: BTreeSet<Handle>,
}

/// The source, and what is on its way to it and from it.
#[derive(Default)]
struct Database {
    is_up: bool,
    tips: [u64; DURABLES],
    asked: VecDeque<Vec<u8>>,
    answers: VecDeque<Vec<u8>>,
    bulk_is_out: bool,
    /// Channels by the question for their tip.
    tip_of: BTreeMap<Ask, usize>,
    /// The largest tip that reached the owner.
    told: [Option<u64>; DURABLES],
}

struct Chaos {
    world: World,
    random: Random,
    seed: u64,
    database: Database,
    outbox: Vec<(usize, u64)>,
    gateways: [Gateway; GATEWAYS as usize],
    numbers: u32,
    /// What memory channels were given, by offset.
    memory: [BTreeMap<u64, u64>; NAMES.len() - DURABLES],
    is_healed: bool,
}

impl Drop for Chaos {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the seed was {}", self.seed);
        }
    }
}

impl Chaos {
    fn new(seed: u64) -> Self {
        let limits = Limits { channels_max: 6, openings_max: 4, ..tiny() };
        let mut chaos = Self {
            world: World::new(&limits),
            random: Random(seed),
            seed,
            database: Database::default(),
            outbox: Vec::new(),
            gateways: Default::default(),
            numbers: 0,
            memory: Default::default(),
            is_healed: false,
        };
        chaos.source_up();
        (0..GATEWAYS).for_each(|core| chaos.gateway_up(core));
        chaos
    }

    fn step(&mut self) {
        let core = self.random.below(GATEWAYS.into()) as u8;
        let channel = self.random.below(NAMES.len());
        match self.random.below(24) {
            0..3 if self.is_healed => {}
            0..3 if channel < DURABLES => self.commit(channel),
            0..3 => self.publish_memory(channel),
            3..8 => self.publish(),
            8..11 => self.serve(),
            11..14 => self.hear_source(),
            14..17 => self.hear_gateway(core),
            17..20 => self.hear_owner(core),
            20 if !self.is_healed => self.wish(core, channel),
            21 => {
                let millis = [1, 30, 200, 11_000][self.random.below(4)];
                self.world.pass(millis);
            }
            22 => {
                let mut out = Effects::default();
                self.world.owner.advance(self.world.now, Budget { units: 1 }, &mut out);
                self.world.hear(&out);
            }
            _ if self.is_healed => {}
            _ => match self.random.below(6) {
                0 => self.source_lost(),
                1 | 2 => self.source_up(),
                3 => self.gateway_lost(core),
                _ => self.gateway_up(core),
            },
        }
        self.carry();
    }

    // ---- what happens

    fn commit(&mut self, channel: usize) {
        self.database.tips[channel] += 1;
        self.outbox.push((channel, self.database.tips[channel]));
    }

    fn publish(&mut self) {
        if self.outbox.is_empty() {
            return;
        }
        let far = self.outbox.len().min(if self.random.one_in(4) { 8 } else { 1 });
        let at = self.random.below(far);
        let (channel, offset) = self.outbox[at];
        self.world.publish_in(DURABLE, NAMES[channel], offset, &payload(channel, offset));
        let told = self.world.told(DISPATCHER);
        let is_taken = told == [format!("accepted {offset} at {offset}")];
        assert!(is_taken || told == [format!("not {offset} full")], "{told:?}");
        // An acknowledgement may be lost: then it is said again.
        if is_taken && (self.is_healed || !self.random.one_in(8)) {
            self.outbox.remove(at);
        } else if !is_taken {
            let row = self.outbox.remove(at);
            self.outbox.push(row);
        }
    }

    fn publish_memory(&mut self, channel: usize) {
        let number = self.random.next();
        self.world.publish_in(MEMORY, NAMES[channel], 0, &number.to_le_bytes());
        let told = self.world.told(DISPATCHER);
        if told == ["not 0 full"] {
            return;
        }
        let offset = told[0].strip_prefix("accepted 0 at ").and_then(|at| at.parse().ok());
        let given = &mut self.memory[channel - DURABLES];
        let offset = offset.unwrap_or_else(|| panic!("{told:?}"));
        assert!(given.keys().next_back().is_none_or(|last| *last < offset), "an offset twice");
        given.insert(offset, number);
    }

    /// The source reads, now, and its answer is on its way. Or it does not.
    fn serve(&mut self) {
        let Some(question) = self.database.asked.pop_front() else { return };
        if !self.is_healed && self.random.one_in(20) {
            return;
        }
        let answers = &mut self.database.answers;
        let mut answer = |message: Message<'_>| {
            let mut bytes = Vec::new();
            message.encode(&mut bytes);
            answers.push_back(bytes);
        };
        match Message::decode(&question).expect("whole") {
            Message::Tip { ask, name } => {
                let channel = channel_of(name);
                let tip = self.database.tips[channel];
                self.database.tip_of.insert(ask, channel);
                answer(Message::TipIs { ask, found: tip > 0, tip });
            }
            Message::Range { ask, name, from, to, .. } => {
                let channel = channel_of(name);
                assert!(from <= to && to <= self.database.tips[channel], "{from}..={to} of {name}");
                let upto = to.min(from + self.random.below(5) as u64);
                for offset in from..=upto {
                    let payload = payload(channel, offset);
                    let (origin, member, payload) = (Origin::NOBODY, None, &payload[..]);
                    answer(Message::RangeEvent { ask, offset, origin, member, payload });
                }
                let ok = self.is_healed || !self.random.one_in(10);
                answer(Message::RangeEnd { ask, ok, upto });
            }
            other => panic!("a source has no use for {}", other.name()),
        }
    }

    fn hear_source(&mut self) {
        for _ in 0..1 + self.random.below(4) {
            let Some(bytes) = self.database.answers.pop_front() else { break };
            let message = Message::decode(&bytes).expect("whole");
            if let Message::TipIs { ask, found, tip } = message {
                let channel = self.database.tip_of[&ask];
                if found {
                    self.database.told[channel] = self.database.told[channel].max(Some(tip));
                }
            }
            self.world.input(Input::Wire { peer: SOURCE, message });
            self.carry();
        }
    }

    fn wish(&mut self, core: u8, channel: usize) {
        let followed = &mut self.gateways[usize::from(core)].channels[channel];
        if followed.is_wanted {
            followed.unwant();
        } else {
            followed.is_wanted = true;
        }
        self.pursue(core, channel);
    }

    /// A gateway core does what it must for a channel, if its link is up.
    fn pursue(&mut self, core: u8, channel: usize) {
        let (name, namespace) = (NAMES[channel], namespace(channel));
        let (slot, key) = (slot_of(name), SECRET.key_of(name));
        let gateway = &mut self.gateways[usize::from(core)];
        let followed = &mut gateway.channels[channel];
        if !gateway.is_up {
            return;
        }
        let mut say = |message: Message<'_>| {
            let mut bytes = Vec::new();
            message.encode(&mut bytes);
            gateway.to_owner.push_back(bytes);
        };
        self.numbers += 1;
        let seat_epoch = EPOCH;
        match (&followed.subscription, followed.is_wanted) {
            (None, true) => {
                let handle = Handle(self.numbers);
                say(Message::Subscribe { slot, seat_epoch, key, handle, namespace, name });
                followed.subscription = Some(Subscription { handle, sent: None });
            }
            (Some(Subscription { handle, .. }), false) => {
                say(Message::Unsubscribe { slot, key, handle: *handle });
                gateway.leaving.insert(*handle);
                followed.subscription = None;
            }
            (Some(Subscription { handle, sent: Some(sent) }), true)
                if followed.fetch.is_none() && followed.has < Some(*sent) =>
            {
                let (ask, handle) = (Ask(self.numbers), *handle);
                let after = followed.has.expect("set by the first answer");
                let (count_max, bytes_max) = (1 + self.random.below(6) as u32, 1_000);
                say(Message::Fetch {
                    slot,
                    seat_epoch,
                    key,
                    handle,
                    ask,
                    after,
                    count_max,
                    bytes_max,
                    name,
                });
                followed.fetch = Some(ask);
            }
            _ => {}
        }
    }

    fn hear_owner(&mut self, core: u8) {
        for _ in 0..1 + self.random.below(6) {
            let gateway = &mut self.gateways[usize::from(core)];
            let Some((_, bytes)) = gateway.from_owner.pop_front() else { break };
            self.heard(core, &Message::decode(&bytes).expect("whole"));
        }
        let gateway = &mut self.gateways[usize::from(core)];
        if gateway.from_owner.is_empty() && std::mem::take(&mut gateway.bulk_is_out) {
            self.world.room(super::gateway(core));
        }
        for channel in 0..NAMES.len() {
            self.pursue(core, channel);
        }
    }

    /// What a gateway core makes of what the owner says.
    fn heard(&mut self, core: u8, message: &Message<'_>) {
        let gateway = &mut self.gateways[usize::from(core)];
        let by_handle = |channels: &[Followed], handle: Handle| {
            channels.iter().position(|followed| {
                followed.subscription.as_ref().is_some_and(|one| one.handle == handle)
            })
        };
        match *message {
            Message::Suback { handle, epoch, tip } => {
                let Some(channel) = by_handle(&gateway.channels, handle) else {
                    return assert!(gateway.leaving.contains(&handle), "an unknown handle");
                };
                assert_eq!(epoch == 0, channel < DURABLES);
                if channel < DURABLES {
                    let told = self.database.told[channel].unwrap_or(0);
                    let heard = told > 0 || tip > 0;
                    assert!(heard && tip >= told, "I14: {tip} although {told} was told");
                    assert!(tip <= self.database.tips[channel], "an offset that nobody gave");
                }
                let followed = &mut gateway.channels[channel];
                let subscription = followed.subscription.as_mut().expect("just found");
                assert_eq!(subscription.sent, None, "one answer to one subscription");
                subscription.sent = Some(tip);
                followed.has.get_or_insert(tip);
            }
            Message::Subnack { handle, .. } => match by_handle(&gateway.channels, handle) {
                // Tried again with the next thing that is heard.
                Some(channel) => gateway.channels[channel].subscription = None,
                None => assert!(gateway.leaving.contains(&handle), "an unknown handle"),
            },
            Message::Unsuback { handle } => {
                assert!(gateway.leaving.remove(&handle), "one answer to one unsubscription");
            }
            Message::Publication { handle, offset, payload, .. } => {
                let Some(channel) = by_handle(&gateway.channels, handle) else {
                    return assert!(gateway.leaving.contains(&handle), "after Unsuback");
                };
                self.check_content(channel, offset, payload);
                let followed = &mut self.gateways[usize::from(core)].channels[channel];
                let sent = &mut followed.subscription.as_mut().expect("just found").sent;
                assert_eq!(*sent, Some(offset - 1), "I13 at {core}: {offset} of {channel}");
                // While something is fetched, it is that which counts.
                if followed.has == *sent && followed.fetch.is_none() {
                    followed.has = Some(offset);
                }
                *sent = Some(offset);
            }
            Message::Past { ask, offset, payload, .. } => {
                let Some(channel) = fetching(&gateway.channels, ask) else { return };
                self.check_content(channel, offset, payload);
                let followed = &mut self.gateways[usize::from(core)].channels[channel];
                let has = followed.has.expect("it fetches after something");
                let is_next = offset == has + 1 || channel >= DURABLES && offset > has;
                assert!(is_next, "{offset} of {channel} after {has}");
                followed.has = Some(offset);
            }
            Message::PastEnd { ask, upto, complete, missing, .. } => {
                let Some(channel) = fetching(&gateway.channels, ask) else { return };
                let followed = &mut gateway.channels[channel];
                followed.fetch = None;
                assert!(missing == 0 || channel >= DURABLES, "the source has all");
                let has = followed.has.expect("it fetches after something").max(missing);
                assert_eq!(has, upto, "all up to {upto} of {channel} was sent");
                followed.has = Some(upto);
                let sent = followed.subscription.as_ref().and_then(|one| one.sent);
                assert!(
                    !complete || sent == Some(upto),
                    "{upto} of {channel} is not all: {sent:?}"
                );
            }
            Message::PastRefused { ask, .. } => {
                let Some(channel) = fetching(&gateway.channels, ask) else { return };
                gateway.channels[channel].fetch = None;
            }
            ref other => panic!("a gateway core has no use for {}", other.name()),
        }
    }

    fn hear_gateway(&mut self, core: u8) {
        for _ in 0..1 + self.random.below(4) {
            let Some(bytes) = self.gateways[usize::from(core)].to_owner.pop_front() else { return };
            let message = Message::decode(&bytes).expect("whole");
            self.world.input(Input::Wire { peer: gateway(core), message });
            self.carry();
        }
    }

    // ---- links

    fn source_up(&mut self) {
        if !self.database.is_up {
            self.database.is_up = true;
            self.world.up(SOURCE);
        }
    }

    fn source_lost(&mut self) {
        self.database.is_up = false;
        self.database.asked.clear();
        self.database.answers.clear();
        self.database.bulk_is_out = false;
        self.world.lost(SOURCE);
    }

    fn gateway_up(&mut self, core: u8) {
        if !std::mem::replace(&mut self.gateways[usize::from(core)].is_up, true) {
            self.world.up(gateway(core));
            (0..NAMES.len()).for_each(|channel| self.pursue(core, channel));
        }
    }

    fn gateway_lost(&mut self, core: u8) {
        let gone = &mut self.gateways[usize::from(core)];
        gone.is_up = false;
        gone.from_owner.clear();
        gone.to_owner.clear();
        gone.leaving.clear();
        gone.bulk_is_out = false;
        for followed in &mut gone.channels {
            followed.subscription = None;
            followed.fetch = None;
        }
        self.world.lost(gateway(core));
    }

    /// What the owner said goes onto the links, which take no more bulk than they gave room for.
    fn carry(&mut self) {
        let grant = self.world.limits.bulk_messages_per_room as usize;
        for core in 0..GATEWAYS {
            let said = self.world.said.remove(&gateway(core)).unwrap_or_default();
            let to = &mut self.gateways[usize::from(core)];
            if to.is_up {
                to.bulk_is_out |= said.iter().any(|(class, _)| *class == Class::Bulk);
                to.from_owner.extend(said);
            }
            let bulk = to.from_owner.iter().filter(|(class, _)| *class == Class::Bulk).count();
            assert!(bulk <= grant, "{bulk} bulk messages at {core}");
        }
        let said = self.world.said.remove(&SOURCE).unwrap_or_default();
        if self.database.is_up {
            self.database.bulk_is_out |= !said.is_empty();
            self.database.asked.extend(said.into_iter().map(|(_, bytes)| bytes));
        }
        assert!(self.database.asked.len() <= grant, "questions at the source");
        if self.database.asked.is_empty() && std::mem::take(&mut self.database.bulk_is_out) {
            self.world.room(SOURCE);
            self.carry();
        }
    }

    // ---- the end

    /// No more faults: everything comes to its end, and everybody has everything.
    fn heal(&mut self) {
        self.is_healed = true;
        self.source_up();
        for core in 0..GATEWAYS {
            self.gateway_up(core);
            // So many that all find a place in the table.
            for channel in [1, 3, 5, 7] {
                self.gateways[usize::from(core)].channels[channel].unwant();
            }
        }
        for turn in 0.. {
            assert!(turn < 300, "nothing moves any more: {}", self.missing().unwrap_or_default());
            for _ in 0..40 {
                self.step();
                self.publish();
            }
            self.world.pass(20_000);
            self.world.settle();
            self.carry();
            if self.missing().is_none() {
                break;
            }
        }
    }

    /// What somebody still lacks.
    fn missing(&self) -> Option<String> {
        if !self.outbox.is_empty() {
            return Some(format!("{:?} in the outbox", self.outbox));
        }
        for (core, gateway) in self.gateways.iter().enumerate() {
            for (channel, followed) in gateway.channels.iter().enumerate() {
                let tip = match channel.checked_sub(DURABLES) {
                    None => self.database.tips[channel],
                    Some(memory) => self.memory[memory].keys().next_back().copied().unwrap_or(0),
                };
                // A channel that nobody ever wrote to is unknown.
                let is_known = tip > 0 && followed.is_wanted;
                // The owner of a memory channel may have counted over what nobody published.
                if is_known && followed.has.is_none_or(|has| has < tip) {
                    return Some(format!("{core} has {:?} of {tip} of {channel}", followed.has));
                }
            }
        }
        None
    }

    /// Everybody leaves: nothing is left but channels.
    fn leave(&mut self) {
        (0..GATEWAYS).for_each(|core| self.gateway_lost(core));
        self.world.settle();
        self.world.pass(60_000);
        for name in ["interest_links", "channel_holes", "channel_held_bytes", "fetches_parked"] {
            assert_eq!(self.world.gauge(name), 0, "{name}");
        }
    }

    fn check_content(&self, channel: usize, offset: u64, is: &[u8]) {
        if channel < DURABLES {
            assert!(offset <= self.database.tips[channel], "never committed");
            assert_eq!(is, payload(channel, offset), "{offset} of {channel}");
        } else {
            let number = self.memory[channel - DURABLES][&offset];
            assert_eq!(is, number.to_le_bytes(), "{offset} of {channel}");
        }
    }
}

fn channel_of(name: &str) -> usize {
    NAMES.iter().position(|one| *one == name).expect("a channel of the model")
}

fn fetching(channels: &[Followed], ask: Ask) -> Option<usize> {
    channels.iter().position(|followed| followed.fetch == Some(ask))
}

fn payload(channel: usize, offset: u64) -> Vec<u8> {
    format!("{channel}/{offset}/{}", "x".repeat((offset * 37 % 90) as usize)).into_bytes()
}

#[test]
fn nobody_misses_anything_whatever_happens() {
    for seed in 0..60 {
        let mut chaos = Chaos::new(seed);
        for _ in 0..1_500 {
            chaos.step();
        }
        chaos.heal();
        chaos.leave();
    }
}
