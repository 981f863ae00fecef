//! The shards of one core, or of the control plane, and the mail between them and all others of the cell.
//!
//! What a shard wants said goes to a neighbour on the same place through a local queue that is empty at the end of each turn, and to
//! another place through that place's link. What it wants done otherwise goes to the driver's hands. Places of other nodes are met when a
//! connection to them is up, and are lost with it.

#[cfg(test)]
mod stories;

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use crate::ids::{NodeId, Peer, Role, Roles};
use crate::limits::Limits;
use crate::ring::Ring;
use crate::shard::{Budget, Counter, Effect, Effects, Input, Shard};
use crate::time::{Mono, Now, sooner};
use crate::wire::link::{Batch, Bounds, Class, Link, Received, Sent, envelopes};
use crate::wire::stream::Identity;
use crate::wire::{Field, Hello, Message, VERSION};

/// The shards of one place.
pub trait Shards {
    /// `None`: there is no such shard here.
    fn of(&mut self, role: Role) -> Option<&mut dyn Shard>;
}

pub const DATA_ROLES: Roles = Roles::of(&[Role::Gateway, Role::Channel, Role::Presence]);
pub const CONTROL_ROLES: Roles = Roles::of(&[Role::Admin, Role::Webapp, Role::Ring, Role::Health]);

/// Which process this is.
#[derive(Clone, Copy, Debug)]
pub struct Whole {
    pub node: NodeId,
    /// Drawn at its start.
    pub life: u64,
    pub roles: Roles,
    /// Of the data plane.
    pub cores: usize,
}

/// A place of another node.
#[derive(Debug)]
struct Far {
    node: NodeId,
    core: u8,
    roles: Roles,
    hello: Hello,
    is_there: bool,
}

/// What only a driver can do for its shards: sockets, questions, counting, answers to HTTP handlers.
pub trait Hands {
    fn carry_out(&mut self, role: Role, effect: Effect, effects: &Effects);
    /// A message for somebody who is no shard.
    fn tell_http(&mut self, message: &[u8]);
    /// Nothing that such a one asked of a place of the cell will be answered any more.
    fn lose_http(&mut self, _node: NodeId, _core: u8) {}
}

/// Per core, and one for the control plane. Places are numbered: the cores of this node, its control plane, then those of others as they
/// were met.
#[derive(Debug)]
pub struct Place<S> {
    pub shards: S,
    here: usize,
    whole: Whole,
    hello: Hello,
    bounds: Bounds,
    links: Vec<Link>,
    /// Links that something was done to since they were carried last: the others have nothing for their carriers.
    stirred: Vec<usize>,
    is_stirred: Vec<bool>,
    far: Vec<Far>,
    /// By node and core, the place of each in `far`: a manager of a thousand nodes has nine thousand.
    far_at: FxHashMap<(NodeId, u8), usize>,
    /// Envelopes for shards of this place.
    local: Vec<u8>,
    local_bulk: bool,
    /// Places whose link broke; our shards are not told yet.
    lost: VecDeque<usize>,
    effects: Effects,
    /// Taken back from `local` for the next use.
    spare: Vec<u8>,
}

/// Of the mail on a place, which never breaks.
const LIFE_HERE: u32 = 1;
/// Messages handled before the mail of the same place is looked at again.
const BUDGET: Budget = Budget { units: 64 };

impl<S: Shards> Place<S> {
    pub fn new(shards: S, here: usize, whole: Whole, limits: &Limits) -> Self {
        let bounds = Bounds {
            bytes_max: limits.mail_bytes_max as usize,
            messages_max: limits.mail_messages_max,
        };
        Self {
            shards,
            here,
            whole,
            hello: Hello { version: VERSION, node: whole.node, incarnation: whole.life },
            bounds,
            links: (0..=whole.cores).map(|_| Link::new(bounds)).collect(),
            stirred: (0..=whole.cores).collect(),
            is_stirred: vec![true; whole.cores + 1],
            far: Vec::new(),
            far_at: FxHashMap::default(),
            local: Vec::new(),
            local_bulk: false,
            lost: VecDeque::new(),
            effects: Effects::default(),
            spare: Vec::new(),
        }
    }

    /// The ring and the neighbours on this place, which are there from the beginning.
    pub fn begin(&mut self, now: Now, ring: &Ring, hands: &mut impl Hands) {
        self.ring(now, ring, hands);
        self.neighbours(now, self.here, Some(LIFE_HERE), hands);
        self.settle(now, hands);
    }

    /// Another ring: every shard sees for itself what is somebody else's now.
    pub fn change(&mut self, now: Now, ring: &Ring, hands: &mut impl Hands) {
        self.ring(now, ring, hands);
        self.settle(now, hands);
    }

    fn ring(&mut self, now: Now, ring: &Ring, hands: &mut impl Hands) {
        for role in self.roles_of(self.here).iter() {
            self.input(now, role, Input::Ring { ring }, hands);
        }
    }

    /// A connection to a place of another node is up, which speaks this version: its number here. Its link says hello.
    pub fn meet(
        &mut self,
        now: Now,
        (other, version): (&Identity, u16),
        hands: &mut impl Hands,
    ) -> usize {
        let hello = Hello { version, node: other.node, incarnation: other.incarnation };
        let far =
            Far { node: other.node, core: other.core, roles: other.roles, hello, is_there: true };
        match self.find(other.node, other.core) {
            Some(place) => {
                self.part(now, place, hands);
                let at = place - self.far_from();
                self.far[at] = far;
                self.stir(place);
                place
            }
            None => {
                self.far_at.insert((other.node, other.core), self.far.len());
                self.far.push(far);
                self.links.push(Link::new(self.bounds));
                self.is_stirred.push(false);
                let place = self.links.len() - 1;
                self.stir(place);
                place
            }
        }
    }

    /// That connection is gone, and with it what was on its way.
    pub fn part(&mut self, now: Now, place: usize, hands: &mut impl Hands) {
        let at = place - self.far_from();
        self.far[at].is_there = false;
        let was_up = self.links[place].is_up();
        self.links[place].break_off();
        self.stir(place);
        if was_up {
            self.neighbours(now, place, None, hands);
            self.settle(now, hands);
        }
    }

    /// One input for one shard, and what it wants done; mail on this place waits for `settle`.
    pub fn input(&mut self, now: Now, role: Role, input: Input<'_>, hands: &mut impl Hands) {
        let mut effects = std::mem::take(&mut self.effects);
        effects.clear();
        if let Some(shard) = self.shards.of(role) {
            shard.handle(now, input, &mut effects);
            self.carry_out(role, &effects, hands);
        }
        self.effects = effects;
    }

    /// Handles the mail of this place until none is left.
    pub fn settle(&mut self, now: Now, hands: &mut impl Hands) {
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
    pub fn advance(&mut self, now: Now, hands: &mut impl Hands) -> bool {
        let mut more = false;
        for role in self.roles_of(self.here).iter() {
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

    pub fn deadline(&mut self) -> Option<Mono> {
        self.roles_of(self.here).iter().fold(None, |soonest, role| {
            sooner(soonest, self.shards.of(role).and_then(|shard| shard.deadline()))
        })
    }

    /// A batch of another place.
    pub fn receive(&mut self, now: Now, other: usize, batch: &Batch, hands: &mut impl Hands) {
        self.stir(other);
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
                    let Ok((from, to, message)) = envelope else {
                        assert!(
                            other >= self.far_from(),
                            "links of one node carry whole envelopes"
                        );
                        self.break_far(other);
                        break;
                    };
                    self.wire(now, other, (from, to), message, hands);
                }
            }
        }
        self.settle(now, hands);
    }

    /// What is to be carried to other places, as long as the carrier takes it; `carry` gives back what it does not take. True: shards were told
    /// of room, or spoke, after they had their turn, so that another one has something to do. What finds no room is the carrier's to wait for.
    #[must_use]
    pub fn carry(
        &mut self,
        now: Now,
        hands: &mut impl Hands,
        mut has_room: impl FnMut(usize) -> bool,
        mut carry: impl FnMut(usize, Batch),
    ) -> bool {
        let (mut is_full, mut is_told) = (Vec::new(), false);
        // Once more for what was said when there was room.
        for _ in 0..2 {
            // In the order of places.
            let mut stirred = std::mem::take(&mut self.stirred);
            stirred.sort_unstable();
            for &other in &stirred {
                self.is_stirred[other] = false;
            }
            for other in stirred {
                if other == self.here {
                    continue;
                }
                let mut is_free = has_room(other);
                while is_free && let Some(batch) = self.links[other].take() {
                    carry(other, batch);
                    is_free = has_room(other);
                }
                if !is_free {
                    is_full.push(other);
                }
                if self.links[other].has_room() {
                    is_told = true;
                    self.room(now, other, hands);
                }
            }
            self.settle(now, hands);
        }
        let is_more = is_told || !self.stirred.is_empty();
        for other in is_full {
            self.stir(other);
        }
        is_more
    }

    fn wire(
        &mut self,
        now: Now,
        from_place: usize,
        (from, to): (Role, Role),
        message: &[u8],
        hands: &mut impl Hands,
    ) {
        let is_far = from_place >= self.far_from();
        // Another node speaks for its own roles only, and to ours. HTTP handlers that ask shards are the publish API's.
        let speaks_for = if from == Role::Http { Role::Admin } else { from };
        let is_it = !is_far || self.roles_of(from_place).contains(speaks_for);
        let is_handlers = to == Role::Http && self.here == self.whole.cores;
        let is_ours = !is_far || is_handlers || self.roles_of(self.here).contains(to);
        match Message::decode(message) {
            Ok(_) if is_it && is_ours && to == Role::Http => hands.tell_http(message),
            Ok(message) if is_it && is_ours => {
                let peer = self.peer(from_place, from);
                self.input(now, to, Input::Wire { peer, message }, hands);
            }
            _ => {
                assert!(is_far, "shards of one binary understand each other");
                let count = Effect::Count { what: Counter::WireBroken, by: 1 };
                hands.carry_out(to, count, &Effects::default());
                self.break_far(from_place);
            }
        }
    }

    fn carry_out(&mut self, role: Role, effects: &Effects, hands: &mut impl Hands) {
        for &effect in effects.list() {
            match effect {
                Effect::Send { peer, message, class } => {
                    self.send(role, peer, effects.bytes(message), class, hands);
                }
                Effect::Reset { peer } => {
                    if let Some(other) = self.place_of(peer).filter(|other| *other != self.here) {
                        self.links[other].break_off();
                        self.stir(other);
                        self.lost.push_back(other);
                    }
                }
                effect => hands.carry_out(role, effect, effects),
            }
        }
    }

    /// Whether something that is said to a shard goes on its way now.
    pub fn reaches(&self, to: Peer) -> bool {
        let is_up = |other: usize| other == self.here || self.links[other].is_up();
        self.place_of(to).is_some_and(is_up)
    }

    /// Says something in the name of a role of this place.
    pub fn send(
        &mut self,
        from: Role,
        to: Peer,
        message: &[u8],
        class: Class,
        hands: &mut impl Hands,
    ) {
        // Nobody was met there yet: whoever says it will say it again after `PeerUp`.
        let Some(other) = self.place_of(to) else { return };
        // By a ring of before somebody may have had another role than its process has now.
        if to.role != Role::Http && !self.roles_of(other).contains(to.role) {
            return;
        }
        if other == self.here {
            (from as u8).write(&mut self.local);
            (to.role as u8).write(&mut self.local);
            message.write(&mut self.local);
            self.local_bulk |= class == Class::Bulk;
            return;
        }
        self.stir(other);
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

    /// There may be something for the carrier of a link.
    fn stir(&mut self, other: usize) {
        if !std::mem::replace(&mut self.is_stirred[other], true) {
            self.stirred.push(other);
        }
    }

    /// What another node says makes no sense: its link begins anew.
    fn break_far(&mut self, place: usize) {
        if self.links[place].is_up() {
            self.links[place].break_off();
            self.stir(place);
            self.lost.push_back(place);
        }
    }

    /// Tells our shards that those of `other` are up with a life, or lost.
    fn neighbours(&mut self, now: Now, other: usize, life: Option<u32>, hands: &mut impl Hands) {
        let (hello, is_far) = (self.hello_of(other), other >= self.far_from());
        if life.is_none() {
            let Peer { node, core, .. } = self.peer(other, Role::Http);
            hands.lose_http(node, core);
        }
        self.tell(now, other, !is_far, hands, |peer| match life {
            Some(life) => Input::PeerUp { peer, life, hello },
            None => Input::PeerLost { peer },
        });
    }

    fn room(&mut self, now: Now, other: usize, hands: &mut impl Hands) {
        let is_far = other >= self.far_from();
        self.tell(now, other, !is_far, hands, |peer| Input::PeerRoom { peer });
    }

    /// Something about each shard of a place, to each of ours that has to do with it. `with_own_kind`: of this node.
    fn tell(
        &mut self,
        now: Now,
        other: usize,
        with_own_kind: bool,
        hands: &mut impl Hands,
        input: impl Fn(Peer) -> Input<'static>,
    ) {
        for role in self.roles_of(other).iter() {
            let peer = self.peer(other, role);
            for listener in self.roles_of(self.here).iter() {
                // Of another node, these have something to say to their like: managers, owners, and gateways that stand for owners.
                let is_kin = matches!(role, Role::Ring | Role::Channel | Role::Gateway);
                if with_own_kind || role != listener || is_kin {
                    self.input(now, listener, input(peer), hands);
                }
            }
        }
    }

    fn roles_of(&self, place: usize) -> Roles {
        match place.checked_sub(self.far_from()) {
            Some(far) if self.far[far].core == Peer::CONTROL_CORE => {
                self.far[far].roles.both(CONTROL_ROLES)
            }
            Some(far) => self.far[far].roles.both(DATA_ROLES),
            None if place == self.whole.cores => self.whole.roles.both(CONTROL_ROLES),
            None => self.whole.roles.both(DATA_ROLES),
        }
    }

    /// Cores of gateways that are there, sorted.
    pub fn gateways(&self) -> Vec<Peer> {
        let whole = self.whole;
        let is_one = whole.roles.contains(Role::Gateway);
        let ours = (0..whole.cores as u8).filter(|_| is_one);
        let ours = ours.map(|core| Peer::new(whole.node, Role::Gateway, core));
        let far = self.far.iter().filter(|far| far.is_there && far.core != Peer::CONTROL_CORE);
        let far = far.filter(|far| far.roles.contains(Role::Gateway));
        let mut all: Vec<Peer> =
            ours.chain(far.map(|far| Peer::new(far.node, Role::Gateway, far.core))).collect();
        all.sort_unstable();
        all
    }

    /// By the number of the other place; our own among them is not in use.
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    pub fn node(&self) -> NodeId {
        self.whole.node
    }

    /// Of this place.
    pub fn roles(&self) -> Roles {
        self.roles_of(self.here)
    }

    fn hello_of(&self, place: usize) -> Hello {
        place.checked_sub(self.far_from()).map_or(self.hello, |far| self.far[far].hello)
    }

    /// The number of the first place of another node.
    pub fn far_from(&self) -> usize {
        self.whole.cores + 1
    }

    fn find(&self, node: NodeId, core: u8) -> Option<usize> {
        self.far_at.get(&(node, core)).map(|at| at + self.far_from())
    }

    fn place_of(&self, peer: Peer) -> Option<usize> {
        if peer.node != self.whole.node {
            self.find(peer.node, peer.core)
        } else if peer.core == Peer::CONTROL_CORE {
            Some(self.whole.cores)
        } else {
            Some(usize::from(peer.core))
        }
    }

    fn peer(&self, place: usize, role: Role) -> Peer {
        match place.checked_sub(self.far_from()) {
            Some(far) => Peer::new(self.far[far].node, role, self.far[far].core),
            None if place == self.whole.cores => Peer::control(self.whole.node, role),
            None => Peer::new(self.whole.node, role, place as u8),
        }
    }
}
