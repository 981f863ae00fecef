//! Everything at once: links with lives, a source that is slow, partial or away, publications in any order, against the obvious model of each side.
//!
//! Checked at every step: I12 (nobody with another ring changes anything), I13 (each subscription is sent `tip + 1`, `tip + 2` …, with the content that
//! was committed), I14 (no subscriber is answered before the source was), I15 (whoever is subscribed misses nothing), I17 (bounds), bulk
//! within its grant. At the end, when all is well again: everybody has everything.

use super::model::{DURABLES, Database, Gateway, NAMES, Random, payload};
use super::*;

const GATEWAYS: u8 = 3;

struct Chaos {
    world: World,
    random: Random,
    database: Database,
    outbox: Vec<(usize, u64)>,
    gateways: [Gateway; GATEWAYS as usize],
    is_healed: bool,
}

impl Chaos {
    fn new(seed: u64) -> Self {
        let limits = Limits { channels_max: 6, openings_max: 4, ..tiny() };
        let mut chaos = Self {
            world: World::new(&limits),
            random: Random(seed),
            database: Database::default(),
            outbox: Vec::new(),
            gateways: Default::default(),
            is_healed: false,
        };
        chaos.source_up();
        (0..GATEWAYS).for_each(|core| chaos.gateway_up(core));
        chaos
    }

    fn step(&mut self) {
        let core = self.random.below(GATEWAYS.into()) as u8;
        let channel = self.random.below(NAMES.len());
        match self.random.below(25) {
            0..3 if self.is_healed => {}
            0..3 if channel < DURABLES => self.commit(channel),
            0..3 => self.publish_memory(channel),
            3..8 => self.publish(),
            8..11 => self.database.serve(&mut self.random, self.is_healed),
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
            23 => self.publish_by_another_ring(channel),
            _ if self.is_healed => {}
            _ => match self.random.below(6) {
                0 => {
                    self.database.lost();
                    self.world.lost(SOURCE);
                }
                1 | 2 => self.source_up(),
                3 => self.gateway_lost(core),
                _ => self.gateway_up(core),
            },
        }
        self.carry();
    }

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
        let offset = offset.unwrap_or_else(|| panic!("{told:?}"));
        assert!(offset > self.database.tip(channel), "an offset twice");
        self.database.memory[channel - DURABLES].insert(offset, number);
    }

    /// I12.
    fn publish_by_another_ring(&mut self, channel: usize) {
        let before = self.world.report().gauges;
        let (name, seat_epoch) = (NAMES[channel], EPOCH + 1 - 2 * self.random.below(2) as u32);
        let (slot, key) = (slot_of(name), SECRET.key_of(name));
        let (ask, origin, member, payload) = (A1, Origin::NOBODY, None, &b"x"[..]);
        let (namespace, offset) = if channel < DURABLES {
            (DURABLE, self.database.tips[channel] + 1)
        } else {
            (MEMORY, 0)
        };
        self.world.say(
            DISPATCHER,
            &Message::Publish {
                slot,
                seat_epoch,
                key,
                ask,
                namespace,
                offset,
                origin,
                member,
                terms: Terms::default(),
                name,
                payload,
            },
        );
        let why = if seat_epoch > EPOCH { "retry" } else { "stale" };
        assert_eq!(self.world.told(DISPATCHER), [format!("not 1 {why}")]);
        assert_eq!(self.world.report().gauges, before);
    }

    fn wish(&mut self, core: u8, channel: usize) {
        let gateway = &mut self.gateways[usize::from(core)];
        let followed = &mut gateway.channels[channel];
        if followed.is_wanted {
            followed.unwant();
        } else {
            followed.is_wanted = true;
        }
        gateway.pursue(channel, &mut self.random);
    }

    // ---- what arrives

    fn hear_source(&mut self) {
        for _ in 0..=self.random.below(4) {
            let Some(bytes) = self.database.answers.pop_front() else { break };
            let message = Message::decode(&bytes).expect("whole");
            self.database.arrives(&message);
            self.world.input(Input::Wire { peer: SOURCE, message });
            self.carry();
        }
    }

    fn hear_gateway(&mut self, core: u8) {
        for _ in 0..=self.random.below(4) {
            let Some(bytes) = self.gateways[usize::from(core)].to_owner.pop_front() else { return };
            let message = Message::decode(&bytes).expect("whole");
            self.world.input(Input::Wire { peer: gateway(core), message });
            self.carry();
        }
    }

    fn hear_owner(&mut self, core: u8) {
        let to = &mut self.gateways[usize::from(core)];
        for _ in 0..=self.random.below(6) {
            let Some((_, bytes)) = to.from_owner.pop_front() else { break };
            to.heard(&Message::decode(&bytes).expect("whole"), &self.database);
        }
        (0..NAMES.len()).for_each(|channel| to.pursue(channel, &mut self.random));
        if to.from_owner.is_empty() && std::mem::take(&mut to.bulk_is_out) {
            self.world.room(gateway(core));
        }
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
            assert!(to.bulk() <= grant, "{} bulk messages at {core}", to.bulk());
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

    // ---- links

    fn source_up(&mut self) {
        if !std::mem::replace(&mut self.database.is_up, true) {
            self.world.up(SOURCE);
        }
    }

    fn gateway_up(&mut self, core: u8) {
        let to = &mut self.gateways[usize::from(core)];
        if !std::mem::replace(&mut to.is_up, true) {
            (0..NAMES.len()).for_each(|channel| to.pursue(channel, &mut self.random));
            self.world.up(gateway(core));
        }
    }

    fn gateway_lost(&mut self, core: u8) {
        self.gateways[usize::from(core)].lost();
        self.world.lost(gateway(core));
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
                // A channel that nobody ever wrote to is unknown. The owner of a memory channel may have counted over what nobody published.
                let tip = self.database.tip(channel);
                if tip > 0 && followed.is_wanted && followed.has.is_none_or(|has| has < tip) {
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
}

#[test]
fn nobody_misses_anything_whatever_happens() {
    let mut seen = BTreeMap::<&str, u32>::new();
    for seed in 0..60 {
        // Shown when it fails.
        println!("seed {seed}");
        let mut chaos = Chaos::new(seed);
        for _ in 0..1_500 {
            chaos.step();
        }
        chaos.heal();
        chaos.leave();
        chaos.world.counted.iter().for_each(|(what, by)| *seen.entry(what).or_default() += by);
    }
    // So that nothing is proved about what did not happen.
    for what in [
        Counter::PublicationsAccepted,
        Counter::PublicationsDuplicate,
        Counter::PublicationsHeld,
        Counter::PublicationsRefused,
        Counter::BacklogEvicted,
        Counter::FetchesFromBacklog,
        Counter::FetchesFromSource,
        Counter::FetchesRefused,
        Counter::SubscribesShed,
        Counter::ChannelsForgotten,
        Counter::QuestionsRepeated,
    ] {
        assert!(
            seen.get(what.name()).is_some_and(|count| *count > 50),
            "{}: {seen:?}",
            what.name()
        );
    }
}
