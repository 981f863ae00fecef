//! The obvious model of an owner's neighbours: gateway cores that follow channels, a database, and what each makes of what it hears.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;

/// Names of channels: durable ones, then memory ones.
pub(super) const NAMES: [&str; 8] = ["C0", "C1", "C2", "C3", "C4", "C5", "M0", "M1"];
pub(super) const DURABLES: usize = 6;

pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        // A linear congruence, and then mixed: its low bits are poor.
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mixed = (self.0 ^ self.0 >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ mixed >> 32
    }
    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
    pub(super) fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

/// What was committed or given, what is on its way to the source, and what it said.
#[derive(Default)]
pub(super) struct Database {
    pub(super) is_up: bool,
    pub(super) tips: [u64; DURABLES],
    /// What memory channels were given, by offset.
    pub(super) memory: [BTreeMap<u64, u64>; NAMES.len() - DURABLES],
    pub(super) asked: VecDeque<Vec<u8>>,
    pub(super) answers: VecDeque<Vec<u8>>,
    pub(super) bulk_is_out: bool,
    /// Channels by the question for their tip.
    tip_of: BTreeMap<Ask, usize>,
    /// The largest tip that reached the owner.
    told: [Option<u64>; DURABLES],
}

impl Database {
    /// Reads for the oldest question, now; the answer is on its way. Some are forgotten.
    pub(super) fn serve(&mut self, random: &mut Random, is_healed: bool) {
        let Some(question) = self.asked.pop_front() else { return };
        if !is_healed && random.one_in(20) {
            return;
        }
        match Message::decode(&question).expect("whole") {
            Message::Tip { ask, name } => {
                let channel = channel_of(name);
                let tip = self.tips[channel];
                self.tip_of.insert(ask, channel);
                self.answer(&Message::TipIs { ask, found: tip > 0, tip });
            }
            Message::Range { ask, name, from, to, .. } => {
                let channel = channel_of(name);
                assert!(from <= to && to <= self.tips[channel], "{from}..={to} of {name}");
                let upto = to.min(from + random.below(5) as u64);
                for offset in from..=upto {
                    let payload = payload(channel, offset);
                    let (origin, member, payload) = (Origin::NOBODY, None, &payload[..]);
                    self.answer(&Message::RangeEvent { ask, offset, origin, member, payload });
                }
                let ok = is_healed || !random.one_in(10);
                self.answer(&Message::RangeEnd { ask, ok, upto });
            }
            other => panic!("a source has no use for {}", other.name()),
        }
    }

    /// An answer arrives at the owner.
    pub(super) fn arrives(&mut self, message: &Message<'_>) {
        if let Message::TipIs { ask, found: true, tip } = *message {
            let channel = self.tip_of[&ask];
            self.told[channel] = self.told[channel].max(Some(tip));
        }
    }

    pub(super) fn lost(&mut self) {
        self.is_up = false;
        self.asked.clear();
        self.answers.clear();
        self.bulk_is_out = false;
    }

    pub(super) fn tip(&self, channel: usize) -> u64 {
        match channel.checked_sub(DURABLES) {
            None => self.tips[channel],
            Some(memory) => self.memory[memory].keys().next_back().copied().unwrap_or(0),
        }
    }

    fn answer(&mut self, message: &Message<'_>) {
        self.answers.push_back(encoded(message));
    }

    fn check_suback(&self, channel: usize, epoch: u32, tip: u64) {
        assert_eq!(epoch == 0, channel < DURABLES);
        if channel < DURABLES {
            let told = self.told[channel].unwrap_or(0);
            assert!(tip > 0 && tip >= told, "I14: {tip} although {told} was told");
            assert!(tip <= self.tips[channel], "an offset that nobody gave");
        }
    }

    fn check_content(&self, channel: usize, offset: u64, is: &[u8]) {
        if channel < DURABLES {
            assert!(offset <= self.tips[channel], "never committed");
            assert_eq!(is, payload(channel, offset), "{offset} of {channel}");
        } else {
            let number = self.memory[channel - DURABLES][&offset];
            assert_eq!(is, number.to_le_bytes(), "{offset} of {channel}");
        }
    }
}

/// What one gateway core knows of a channel. Lives on when its link does not.
#[derive(Default)]
pub(super) struct Followed {
    pub(super) is_wanted: bool,
    /// Everything up to here was received; nothing yet: from wherever the first subscription begins.
    pub(super) has: Option<u64>,
    subscription: Option<Subscription>,
    fetch: Option<Ask>,
}

struct Subscription {
    handle: Handle,
    /// The last offset sent on it; nothing yet: not answered.
    sent: Option<u64>,
}

impl Followed {
    pub(super) fn unwant(&mut self) {
        self.is_wanted = false;
        self.has = None;
        self.fetch = None;
    }
    fn handle(&self) -> Option<Handle> {
        self.subscription.as_ref().map(|one| one.handle)
    }
}

/// A gateway core and its link.
#[derive(Default)]
pub(super) struct Gateway {
    pub(super) is_up: bool,
    pub(super) channels: [Followed; NAMES.len()],
    /// On its way from the owner, and to it.
    pub(super) from_owner: VecDeque<(Class, Vec<u8>)>,
    pub(super) to_owner: VecDeque<Vec<u8>>,
    pub(super) bulk_is_out: bool,
    /// Handles that were given up, until `Unsuback`.
    leaving: BTreeSet<Handle>,
    /// For handles and questions: none is used twice.
    numbers: u32,
}

impl Gateway {
    /// Does what it must for a channel, if its link is up.
    pub(super) fn pursue(&mut self, channel: usize, random: &mut Random) {
        let (name, seat_epoch) = (NAMES[channel], EPOCH);
        let (slot, key) = (slot_of(name), SECRET.key_of(name));
        let followed = &mut self.channels[channel];
        if !self.is_up {
            return;
        }
        self.numbers += 1;
        let said = match (&followed.subscription, followed.is_wanted) {
            (None, true) => {
                let handle = Handle(self.numbers);
                followed.subscription = Some(Subscription { handle, sent: None });
                let namespace = if channel < DURABLES { DURABLE } else { MEMORY };
                Message::Subscribe { slot, seat_epoch, key, handle, namespace, name }
            }
            (Some(Subscription { handle, .. }), false) => {
                let handle = *handle;
                self.leaving.insert(handle);
                followed.subscription = None;
                Message::Unsubscribe { slot, key, handle }
            }
            (Some(Subscription { handle, sent: Some(sent) }), true)
                if followed.fetch.is_none() && followed.has < Some(*sent) =>
            {
                let (ask, handle) = (Ask(self.numbers), *handle);
                let after = followed.has.expect("set by the first answer");
                followed.fetch = Some(ask);
                let (count_max, bytes_max) = (1 + random.below(6) as u32, 1_000);
                Message::Fetch {
                    slot,
                    seat_epoch,
                    key,
                    handle,
                    ask,
                    after,
                    count_max,
                    bytes_max,
                    name,
                }
            }
            _ => return,
        };
        self.to_owner.push_back(encoded(&said));
    }

    /// What it makes of what the owner says.
    pub(super) fn heard(&mut self, message: &Message<'_>, truth: &Database) {
        match *message {
            Message::Suback { handle, epoch, tip } => {
                let Some(channel) = self.by_handle(handle) else { return };
                truth.check_suback(channel, epoch, tip);
                let followed = &mut self.channels[channel];
                let subscription = followed.subscription.as_mut().expect("just found");
                assert_eq!(subscription.sent, None, "one answer to one subscription");
                subscription.sent = Some(tip);
                followed.has.get_or_insert(tip);
            }
            Message::Subnack { handle, .. } => {
                // Tried again with the next thing that is heard.
                let Some(channel) = self.by_handle(handle) else { return };
                self.channels[channel].subscription = None;
            }
            Message::Unsuback { handle } => {
                assert!(self.leaving.remove(&handle), "one answer to one unsubscription");
            }
            Message::Publication { handle, offset, payload, .. } => {
                let Some(channel) = self.by_handle(handle) else { return };
                truth.check_content(channel, offset, payload);
                let followed = &mut self.channels[channel];
                let sent = &mut followed.subscription.as_mut().expect("just found").sent;
                assert_eq!(*sent, Some(offset - 1), "I13: {offset} of {channel}");
                // While something is fetched, it is that which counts.
                if followed.has == *sent && followed.fetch.is_none() {
                    followed.has = Some(offset);
                }
                *sent = Some(offset);
            }
            Message::Past { ask, offset, payload, .. } => {
                let Some(channel) = self.by_fetch(ask) else { return };
                truth.check_content(channel, offset, payload);
                let has = &mut self.channels[channel].has;
                let before = has.expect("it fetches after something");
                let is_next = offset == before + 1 || channel >= DURABLES && offset > before;
                assert!(is_next, "{offset} of {channel} after {before}");
                *has = Some(offset);
            }
            Message::PastEnd { ask, upto, complete, missing, .. } => {
                let Some(channel) = self.by_fetch(ask) else { return };
                let followed = &mut self.channels[channel];
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
                let Some(channel) = self.by_fetch(ask) else { return };
                self.channels[channel].fetch = None;
            }
            ref other => panic!("a gateway core has no use for {}", other.name()),
        }
    }

    pub(super) fn lost(&mut self) {
        self.is_up = false;
        self.from_owner.clear();
        self.to_owner.clear();
        self.leaving.clear();
        self.bulk_is_out = false;
        for followed in &mut self.channels {
            followed.subscription = None;
            followed.fetch = None;
        }
    }

    pub(super) fn bulk(&self) -> usize {
        self.from_owner.iter().filter(|(class, _)| *class == Class::Bulk).count()
    }

    /// The channel of a subscription; `None`: it was given up, and its `Unsuback` is on its way.
    fn by_handle(&self, handle: Handle) -> Option<usize> {
        let channel = self.channels.iter().position(|one| one.handle() == Some(handle));
        assert!(channel.is_some() || self.leaving.contains(&handle), "{handle:?} after its end");
        channel
    }

    fn by_fetch(&self, ask: Ask) -> Option<usize> {
        self.channels.iter().position(|followed| followed.fetch == Some(ask))
    }
}

fn channel_of(name: &str) -> usize {
    NAMES.iter().position(|one| *one == name).expect("a channel of the model")
}

pub(super) fn payload(channel: usize, offset: u64) -> Vec<u8> {
    format!("{channel}/{offset}/{}", "x".repeat((offset * 37 % 90) as usize)).into_bytes()
}

fn encoded(message: &Message<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    bytes
}
