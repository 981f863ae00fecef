//! The channels that have subscribers on this core, and who they are.
//!
//! A channel's dense place here is the [`Handle`](crate::ids::Handle) by which the interest names it to this core, so it is
//! used again only after `Unsuback`.

use super::epochs::Epochs;
use super::members::Member;
use super::names::{Full, NameRef, Names};
use super::slab::{Entry, Slab};
use super::subscribers::{Form, Set, Sets};
use crate::ids::{Key, Slot};
use crate::tables::index::{Index, PLACES_MAX};
use crate::tables::u48::U48;

/// Where a channel's subscription at the interest stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum State {
    /// `Subscribe` is to be sent, or was sent and not answered on this life of the link.
    Subscribing,
    /// Live publications come in order.
    Live,
    /// The hub itself lacks something and fetches it; live publications are passed over meanwhile.
    Behind,
    /// Nobody is left here; the place waits for `Unsuback`. Not found by key any more.
    Leaving,
}

/// What `join` did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Joined {
    pub place: u32,
    /// The channel is new on this core: subscribe at the interest.
    pub is_new: bool,
    /// False: the connection was in it already, and nothing changed.
    pub was_added: bool,
}

/// What `leave` did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Left {
    /// The connection was not in the channel.
    Absent,
    /// Others stay.
    Others,
    /// Nobody is left: the channel is `Leaving` now; unsubscribe at the interest, and `free` the place at its `Unsuback`.
    Last,
}

/// Per shard.
#[derive(Debug)]
pub struct Hub {
    channels: Slab<Channel>,
    index: Index,
    sets: Sets,
    epochs: Epochs,
    subscriptions: u64,
    channels_max: u32,
}

/// 32 bytes. A vacant one has the next vacant one in `words[0]`.
#[derive(Debug)]
#[repr(C)]
struct Channel {
    /// The words of the set of subscribers.
    words: [u32; 2],
    /// A name's place (26 bits), a state (2), whether the tip is known (1), the form of the set (3), from the low end.
    bits: u32,
    key: Key,
    slot: Slot,
    tip: U48,
}

const _: () = assert!(size_of::<Channel>() == 32, "memory is the product");

const NAME_BITS: u32 = 26;
const NAME: u32 = (1 << NAME_BITS) - 1;
const STATE_AT: u32 = NAME_BITS;
const STATES: [State; 4] = [State::Subscribing, State::Live, State::Behind, State::Leaving];
const HAS_TIP: u32 = 1 << 28;
const FORM_AT: u32 = 29;
const FORMS: [Form; 5] = [Form::None, Form::One, Form::Two, Form::List, Form::Blocks];
/// In place of a form.
const VACANT: u32 = 7;

const _: () = assert!(PLACES_MAX <= NAME, "a name's place fits its bits");

impl Channel {
    fn new(key: Key, slot: Slot, name: NameRef) -> Self {
        assert!(name.0 <= NAME, "a name's place fits its bits");
        Self { words: [0; 2], bits: name.0, key, slot, tip: U48::default() }
    }
    fn state(&self) -> State {
        STATES[(self.bits >> STATE_AT & 3) as usize]
    }
    fn set_state(&mut self, state: State) {
        self.bits = self.bits & !(3 << STATE_AT) | (state as u32) << STATE_AT;
    }
    fn form(&self) -> Form {
        FORMS[(self.bits >> FORM_AT) as usize]
    }
    fn set(&self) -> Set {
        Set { form: self.form(), words: self.words }
    }
    fn keep(&mut self, set: Set) {
        self.words = set.words;
        self.bits = self.bits & !(7 << FORM_AT) | (set.form as u32) << FORM_AT;
    }
    fn name(&self) -> NameRef {
        NameRef(self.bits & NAME)
    }
    fn tip(&self) -> Option<u64> {
        (self.bits & HAS_TIP != 0).then(|| self.tip.get())
    }
}

impl Entry for Channel {
    fn vacant(next: u32) -> Self {
        Self {
            words: [next, 0],
            bits: VACANT << FORM_AT,
            key: Key::default(),
            slot: Slot(0),
            tip: U48::default(),
        }
    }
    fn next_vacant(&self) -> Option<u32> {
        (self.bits >> FORM_AT == VACANT).then_some(self.words[0])
    }
}

impl Hub {
    /// At most 2^26 - 1 channels.
    pub fn new(channels_max: u32) -> Self {
        let channels_max = channels_max.min(PLACES_MAX);
        Self {
            channels: Slab::new(),
            index: Index::default(),
            sets: Sets::new(),
            epochs: Epochs::new(channels_max),
            subscriptions: 0,
            channels_max,
        }
    }

    /// Puts a connection into a channel, which is made if it is new here.
    pub fn join(
        &mut self,
        names: &mut Names,
        key: Key,
        slot: Slot,
        name: &str,
        member: Member,
    ) -> Result<Joined, Full> {
        let (place, is_new) = if let Some(place) = self.find(key) {
            (place, false)
        } else {
            if self.channels.count() >= self.channels_max {
                return Err(Full);
            }
            let name = names.intern(key, name)?;
            let place = self.channels.insert(Channel::new(key, slot, name));
            let channels = &self.channels;
            self.index.insert(&key, place, |place| channels[place].key);
            (place, true)
        };
        let was_added = self.change(place, |sets, set| sets.insert(set, place, member));
        self.subscriptions += u64::from(was_added);
        Ok(Joined { place, is_new, was_added })
    }

    /// Takes a connection out of a channel.
    pub fn leave(&mut self, place: u32, conn_index: u32) -> Left {
        if !self.change(place, |sets, set| sets.remove(set, place, conn_index)) {
            return Left::Absent;
        }
        self.subscriptions -= 1;
        let channel = &mut self.channels[place];
        if channel.form() != Form::None {
            return Left::Others;
        }
        channel.set_state(State::Leaving);
        let (key, channels) = (channel.key, &self.channels);
        self.index.remove(&key, place, |place| channels[place].key);
        Left::Last
    }

    /// Frees the place of a channel that is `Leaving`: at its `Unsuback`, or when the link to the interest is gone.
    pub fn free(&mut self, names: &mut Names, place: u32) {
        self.epochs.set(place, 0);
        let channel = self.channels.remove(place);
        assert!(channel.state() == State::Leaving, "only a place that nobody needs is freed");
        names.release(channel.name());
    }

    /// Sets or clears flags of a member. False: it is not in the channel.
    pub fn set_flags(&mut self, place: u32, conn_index: u32, flags: u8, on: bool) -> bool {
        self.change(place, |sets, set| sets.set_flags(set, conn_index, flags, on))
    }

    /// `Live` and `Behind` ask for a tip to be known.
    pub fn set_state(&mut self, place: u32, state: State) {
        assert!(state != State::Leaving, "a channel leaves by its last member");
        let channel = &mut self.channels[place];
        assert!(channel.state() != State::Leaving, "nobody comes back to a place that is given up");
        assert!(state == State::Subscribing || channel.tip().is_some(), "the tip comes first");
        channel.set_state(state);
    }

    /// The offset below 2^48 up to which all live members were served.
    pub fn set_tip(&mut self, place: u32, tip: u64) {
        let channel = &mut self.channels[place];
        channel.tip = U48::new(tip);
        channel.bits |= HAS_TIP;
    }

    /// Which life of the channel the tip is of; 0: a durable one.
    pub fn set_epoch(&mut self, place: u32, epoch: u32) {
        self.epochs.set(place, epoch);
    }

    /// The place of a channel that somebody here follows.
    pub fn find(&self, key: Key) -> Option<u32> {
        self.index.find(&key, |place| self.channels[place].key == key)
    }

    /// Whether the place is in use, `Leaving` included: what comes from a peer is asked this first.
    pub fn contains(&self, place: u32) -> bool {
        self.channels.contains(place)
    }

    pub fn state(&self, place: u32) -> State {
        self.channels[place].state()
    }
    /// `None` before the first `Suback`.
    pub fn tip(&self, place: u32) -> Option<u64> {
        self.channels[place].tip()
    }
    /// 0 also before the first `Suback`.
    pub fn epoch(&self, place: u32) -> u32 {
        self.epochs.of(place)
    }
    pub fn key(&self, place: u32) -> Key {
        self.channels[place].key
    }
    pub fn slot(&self, place: u32) -> Slot {
        self.channels[place].slot
    }
    pub fn name(&self, place: u32) -> NameRef {
        self.channels[place].name()
    }
    /// Subscribers of the channel on this core.
    pub fn count(&self, place: u32) -> u32 {
        self.sets.count(self.channels[place].set())
    }

    /// The subscribers of a channel, sorted, those that are behind included.
    pub fn members(&self, place: u32) -> impl Iterator<Item = Member> {
        let channel = &self.channels[place];
        self.sets.iter(channel.form(), &channel.words)
    }

    pub fn member(&self, place: u32, conn_index: u32) -> Option<Member> {
        self.sets.find(self.channels[place].set(), conn_index)
    }

    /// The first place in use at `from` or above: a scan that may be cut at any point, and goes on at the next place.
    pub fn next_place(&self, from: u32) -> Option<u32> {
        (from..self.channels.places()).find(|place| self.channels.contains(*place))
    }

    /// Channels on this core, `Leaving` ones included.
    pub fn channels(&self) -> u32 {
        self.channels.count()
    }
    /// Pairs of connection and channel on this core.
    pub fn subscriptions(&self) -> u64 {
        self.subscriptions
    }
    /// Bytes that the table takes.
    pub fn bytes(&self) -> usize {
        self.channels.bytes() + self.index.bytes() + self.sets.bytes() + self.epochs.bytes()
    }

    /// Changes the set of a channel, and tells the channel whose list had to give way.
    fn change(&mut self, place: u32, change: impl FnOnce(&mut Sets, &mut Set) -> bool) -> bool {
        let mut set = self.channels[place].set();
        let did = change(&mut self.sets, &mut set);
        self.channels[place].keep(set);
        if let Some(moved) = self.sets.moved() {
            let channel = &mut self.channels[moved.owner];
            debug_assert_eq!(channel.form(), Form::List, "only lists move");
            channel.words[0] = moved.at;
        }
        did
    }
}
