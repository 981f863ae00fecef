//! The shards of one core, or of the control plane, and the mail between them and all others of the node.
//!
//! What a shard wants said goes to a neighbour on the same place through a local queue that is empty at the end of each turn, and to
//! another place through that place's link. What it wants done otherwise goes to the driver's hands.

use std::collections::VecDeque;

use crate::ids::{NodeId, Peer, Role};
use crate::limits::Limits;
use crate::shard::{Budget, Counter, Effect, Effects, Input, Shard};
use crate::time::{Mono, Now, sooner};
use crate::wire::link::{Batch, Bounds, Class, Link, Received, Sent, envelopes};
use crate::wire::{Field, Hello, Message, VERSION};

/// The shards of one place.
pub(super) trait Shards {
    const ROLES: &'static [Role];
    /// `None`: there is no such shard here.
    fn of(&mut self, role: Role) -> Option<&mut dyn Shard>;
}

pub(super) const DATA_ROLES: &[Role] = &[Role::Gateway, Role::Channel, Role::Presence];
pub(super) const CONTROL_ROLES: &[Role] = &[Role::Admin, Role::Webapp];

/// What only a driver can do for its shards: sockets, questions, counting, answers to HTTP handlers.
pub(super) trait Hands {
    fn carry_out(&mut self, role: Role, effect: Effect, effects: &Effects);
    /// A message for somebody who is no shard.
    fn tell_http(&mut self, message: &[u8]);
}

/// Per core, and one for the control plane. Places of a node are numbered: its cores, then the control plane.
#[derive(Debug)]
pub(super) struct Place<S> {
    pub(super) shards: S,
    here: usize,
    cores: usize,
    hello: Hello,
    links: Vec<Link>,
    /// Envelopes for shards of this place.
    local: Vec<u8>,
    local_bulk: bool,
    /// Places whose link broke; our shards are not told yet.
    lost: VecDeque<usize>,
    effects: Effects,
    /// Taken back from `local` for the next use.
    spare: Vec<u8>,
}

const NODE: NodeId = NodeId(0);
/// Messages handled before the mail of the same place is looked at again.
const BUDGET: Budget = Budget { units: 64 };

impl<S: Shards> Place<S> {
    pub(super) fn new(shards: S, here: usize, cores: usize, life: u64, limits: &Limits) -> Self {
        let bounds = Bounds {
            bytes_max: limits.mail_bytes_max as usize,
            messages_max: limits.mail_messages_max,
        };
        Self {
            shards,
            here,
            cores,
            hello: Hello { version: VERSION, node: NODE, incarnation: life },
            links: (0..=cores).map(|_| Link::new(bounds)).collect(),
            local: Vec::new(),
            local_bulk: false,
            lost: VecDeque::new(),
            effects: Effects::default(),
            spare: Vec::new(),
        }
    }

    /// The ring and the neighbours on this place, which are there from the beginning.
    pub(super) fn begin(&mut self, now: Now, ring: &crate::ring::Ring, hands: &mut impl Hands) {
        for &role in S::ROLES {
            self.input(now, role, Input::Ring { ring }, hands);
        }
        self.neighbours(now, self.here, Some(1), hands);
        self.settle(now, hands);
    }

    /// One input for one shard, and what it wants done; mail on this place waits for `settle`.
    pub(super) fn input(&mut self, now: Now, role: Role, input: Input<'_>, hands: &mut impl Hands) {
        let mut effects = std::mem::take(&mut self.effects);
        effects.clear();
        if let Some(shard) = self.shards.of(role) {
            shard.handle(now, input, &mut effects);
            self.carry_out(role, &effects, hands);
        }
        self.effects = effects;
    }

    /// Handles the mail of this place until none is left.
    pub(super) fn settle(&mut self, now: Now, hands: &mut impl Hands) {
        loop {
            if let Some(other) = self.lost.pop_front() {
                self.neighbours(now, other, None, hands);
            } else if !self.local.is_empty() {
                let mail = std::mem::replace(&mut self.local, std::mem::take(&mut self.spare));
                for envelope in envelopes(&mail) {
                    let (from, to, message) = envelope.expect("written below");
                    self.wire(now, self.here, (from, to), message, hands);
                }
                self.spare = mail;
                self.spare.clear();
            } else if std::mem::take(&mut self.local_bulk) {
                self.room(now, self.here, hands);
            } else {
                return;
            }
        }
    }

    /// Deadlines that passed, and work that budgets cut off. True: more is left.
    pub(super) fn advance(&mut self, now: Now, hands: &mut impl Hands) -> bool {
        let mut more = false;
        for &role in S::ROLES {
            let due = self.shards.of(role).and_then(|shard| shard.deadline());
            if due.is_some_and(|due| due <= now.mono) {
                self.input(now, role, Input::Tick, hands);
            }
            let mut effects = std::mem::take(&mut self.effects);
            effects.clear();
            if let Some(shard) = self.shards.of(role) {
                more |= shard.advance(now, BUDGET, &mut effects);
                self.carry_out(role, &effects, hands);
            }
            self.effects = effects;
            self.settle(now, hands);
        }
        more
    }

    pub(super) fn deadline(&mut self) -> Option<Mono> {
        S::ROLES.iter().fold(None, |soonest, &role| {
            sooner(soonest, self.shards.of(role).and_then(|shard| shard.deadline()))
        })
    }

    /// A batch of another place.
    pub(super) fn receive(
        &mut self,
        now: Now,
        other: usize,
        batch: &Batch,
        hands: &mut impl Hands,
    ) {
        match self.links[other].receive(batch) {
            Received::Nothing => {}
            Received::Up { life, was_up } => {
                if was_up {
                    self.neighbours(now, other, None, hands);
                }
                self.neighbours(now, other, Some(life), hands);
            }
            Received::Mail => {
                for envelope in envelopes(&batch.bytes) {
                    // Our own answers may break the link half way: the rest is of an older life then.
                    if !self.links[other].is_up() {
                        break;
                    }
                    let (from, to, message) = envelope.expect("links carry whole envelopes");
                    self.wire(now, other, (from, to), message, hands);
                }
            }
        }
        self.settle(now, hands);
    }

    /// What is to be carried to other places, as long as the carrier takes it; `carry` gives back what it does not take.
    pub(super) fn carry(
        &mut self,
        now: Now,
        hands: &mut impl Hands,
        mut has_room: impl FnMut(usize) -> bool,
        mut carry: impl FnMut(usize, Batch),
    ) {
        for other in 0..self.links.len() {
            if other == self.here {
                continue;
            }
            while has_room(other)
                && let Some(batch) = self.links[other].take()
            {
                carry(other, batch);
            }
            if self.links[other].has_room() {
                self.room(now, other, hands);
            }
        }
        self.settle(now, hands);
    }

    fn wire(
        &mut self,
        now: Now,
        from_place: usize,
        (from, to): (Role, Role),
        message: &[u8],
        hands: &mut impl Hands,
    ) {
        if to == Role::Http {
            return hands.tell_http(message);
        }
        let peer = self.peer(from_place, from);
        let message = Message::decode(message).expect("shards of one binary understand each other");
        self.input(now, to, Input::Wire { peer, message }, hands);
    }

    fn carry_out(&mut self, role: Role, effects: &Effects, hands: &mut impl Hands) {
        for &effect in effects.list() {
            match effect {
                Effect::Send { peer, message, class } => {
                    self.send(role, peer, effects.bytes(message), class, hands);
                }
                Effect::Reset { peer } => {
                    let other = self.place_of(peer);
                    if other != self.here {
                        self.links[other].break_off();
                        self.lost.push_back(other);
                    }
                }
                effect => hands.carry_out(role, effect, effects),
            }
        }
    }

    /// Says something in the name of a role of this place.
    pub(super) fn send(
        &mut self,
        from: Role,
        to: Peer,
        message: &[u8],
        class: Class,
        hands: &mut impl Hands,
    ) {
        let other = self.place_of(to);
        if other == self.here {
            (from as u8).write(&mut self.local);
            (to.role as u8).write(&mut self.local);
            message.write(&mut self.local);
            self.local_bulk |= class == Class::Bulk;
            return;
        }
        let what = match self.links[other].send(from, to.role, message, class) {
            Sent::Queued | Sent::Down => return,
            Sent::Dropped => Counter::MailDropped,
            Sent::Overflowed => {
                self.lost.push_back(other);
                Counter::MailOverflows
            }
        };
        hands.carry_out(from, Effect::Count { what, by: 1 }, &Effects::default());
    }

    /// Tells our shards that those of `other` are up with a life, or lost.
    fn neighbours(&mut self, now: Now, other: usize, life: Option<u32>, hands: &mut impl Hands) {
        for &role in self.roles_of(other) {
            let peer = self.peer(other, role);
            for &listener in S::ROLES {
                let input = match life {
                    Some(life) => Input::PeerUp { peer, life, hello: self.hello },
                    None => Input::PeerLost { peer },
                };
                self.input(now, listener, input, hands);
            }
        }
    }

    fn room(&mut self, now: Now, other: usize, hands: &mut impl Hands) {
        for &role in self.roles_of(other) {
            let peer = self.peer(other, role);
            for &listener in S::ROLES {
                self.input(now, listener, Input::PeerRoom { peer }, hands);
            }
        }
    }

    fn roles_of(&self, place: usize) -> &'static [Role] {
        if place == self.cores { CONTROL_ROLES } else { DATA_ROLES }
    }

    fn place_of(&self, peer: Peer) -> usize {
        if peer.core == Peer::CONTROL_CORE { self.cores } else { usize::from(peer.core) }
    }

    fn peer(&self, place: usize, role: Role) -> Peer {
        if place == self.cores {
            Peer::control(NODE, role)
        } else {
            Peer::new(NODE, role, place as u8)
        }
    }
}
