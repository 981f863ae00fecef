//! The channels that have subscribers on this core, and who they are.
//!
//! A channel's dense place here is the [`Handle`](crate::ids::Handle) by which the interest names it to this core, so it is
//! used again only after `Unsuback`.

use rustc_hash::FxHashMap;

use super::members::Member;
use super::names::{Full, NameRef, Names};
use super::slab::{Entry, NIL, Slab};
use crate::ids::{Key, Slot};

/// Where a channel's subscription at the interest stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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
    index: FxHashMap<Key, u32>,
    subscriptions: u64,
    channels_max: u32,
}

#[derive(Debug)]
struct Channel {
    key: Key,
    slot: Slot,
    name: NameRef,
    tip: Option<u64>,
    state: State,
    members: Vec<Member>,
    vacant: Option<u32>,
}

impl Entry for Channel {
    fn vacant(next: u32) -> Self {
        Self {
            key: Key::default(),
            slot: Slot(0),
            name: NameRef(NIL),
            tip: None,
            state: State::Leaving,
            members: Vec::new(),
            vacant: Some(next),
        }
    }
    fn next_vacant(&self) -> Option<u32> {
        self.vacant
    }
}

impl Hub {
    pub fn new(channels_max: u32) -> Self {
        Self { channels: Slab::new(), index: FxHashMap::default(), subscriptions: 0, channels_max }
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
        let (place, is_new) = if let Some(&place) = self.index.get(&key) {
            (place, false)
        } else {
            if self.channels.count() >= self.channels_max {
                return Err(Full);
            }
            let name = names.intern(key, name)?;
            let place = self.channels.insert(Channel {
                key,
                slot,
                name,
                tip: None,
                state: State::Subscribing,
                members: Vec::new(),
                vacant: None,
            });
            self.index.insert(key, place);
            (place, true)
        };
        let members = &mut self.channels[place].members;
        let was_added = !members.iter().any(|m| m.index() == member.index());
        if was_added {
            members.push(member);
            self.subscriptions += 1;
        }
        Ok(Joined { place, is_new, was_added })
    }

    /// Takes a connection out of a channel.
    pub fn leave(&mut self, place: u32, conn_index: u32) -> Left {
        let channel = &mut self.channels[place];
        let Some(at) = channel.members.iter().position(|m| m.index() == conn_index) else {
            return Left::Absent;
        };
        channel.members.swap_remove(at);
        self.subscriptions -= 1;
        if !channel.members.is_empty() {
            return Left::Others;
        }
        channel.state = State::Leaving;
        self.index.remove(&channel.key);
        Left::Last
    }

    /// Frees the place of a channel that is `Leaving`: at its `Unsuback`, or when the link to the interest is gone.
    pub fn free(&mut self, names: &mut Names, place: u32) {
        let channel = self.channels.remove(place);
        assert!(channel.state == State::Leaving, "only a place that nobody needs is freed");
        names.release(channel.name);
    }

    /// Sets or clears flags of a member. False: it is not in the channel.
    pub fn set_flags(&mut self, place: u32, conn_index: u32, flags: u8, on: bool) -> bool {
        let members = &mut self.channels[place].members;
        let Some(member) = members.iter_mut().find(|m| m.index() == conn_index) else {
            return false;
        };
        let flags = if on { member.flags() | flags } else { member.flags() & !flags };
        *member = Member::new(member.index(), flags);
        true
    }

    /// `Live` and `Behind` ask for a tip to be known.
    pub fn set_state(&mut self, place: u32, state: State) {
        assert!(state != State::Leaving, "a channel leaves by its last member");
        let channel = &mut self.channels[place];
        assert!(channel.state != State::Leaving, "nobody comes back to a place that is given up");
        assert!(state == State::Subscribing || channel.tip.is_some(), "the tip comes first");
        channel.state = state;
    }

    /// The offset below 2^48 up to which all live members were served.
    pub fn set_tip(&mut self, place: u32, tip: u64) {
        assert!(tip < 1 << 48, "an offset has 48 bits");
        self.channels[place].tip = Some(tip);
    }

    /// The place of a channel that somebody here follows.
    pub fn find(&self, key: Key) -> Option<u32> {
        self.index.get(&key).copied()
    }

    /// Whether the place is in use, `Leaving` included: what comes from a peer is asked this first.
    pub fn contains(&self, place: u32) -> bool {
        self.channels.contains(place)
    }

    pub fn state(&self, place: u32) -> State {
        self.channels[place].state
    }
    /// `None` before the first `Suback`.
    pub fn tip(&self, place: u32) -> Option<u64> {
        self.channels[place].tip
    }
    pub fn key(&self, place: u32) -> Key {
        self.channels[place].key
    }
    pub fn slot(&self, place: u32) -> Slot {
        self.channels[place].slot
    }
    pub fn name(&self, place: u32) -> NameRef {
        self.channels[place].name
    }
    /// Subscribers of the channel on this core.
    pub fn count(&self, place: u32) -> u32 {
        self.channels[place].members.len() as u32
    }

    /// The subscribers of a channel, those that are behind included.
    pub fn members(&self, place: u32) -> impl Iterator<Item = Member> {
        self.channels[place].members.iter().copied()
    }

    pub fn member(&self, place: u32, conn_index: u32) -> Option<Member> {
        self.members(place).find(|m| m.index() == conn_index)
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
        self.channels.bytes()
    }
}
