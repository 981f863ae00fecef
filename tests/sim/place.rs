//! The shards of one core, or of the control plane, on the real links: a driver like those of `runtime/`, by the waist alone.

use std::collections::VecDeque;

use campanile::admin::shard::Admin;
use campanile::channel::shard::Owner;
use campanile::gateway::shard::Gateway;
use campanile::ids::{Ask, Conn, NodeId, Peer, Role};
use campanile::limits::Limits;
use campanile::presence::shard::Roster;
use campanile::ring::Ring;
use campanile::shard::{Budget, Counter, Edge, Effect, Effects, Input, Shard};
use campanile::time::{Mono, Now, sooner};
use campanile::webapp::desk::Desk;
use campanile::wire::link::{Batch, Bounds, Class, Link, Received, Sent, envelopes};
use campanile::wire::{Field, Hello, Message, VERSION};

use crate::outside::Outside;

/// The shards of one place.
#[derive(Debug)]
pub(crate) enum Shards {
    Data(Box<(Gateway, Owner, Roster)>),
    Control(Box<(Admin, Desk)>),
}

/// What only the world can do for a shard.
#[derive(Debug)]
pub(crate) enum Want {
    Dirty(Conn),
    Pause(Conn),
    Resume(Conn),
    Close { conn: Conn, reset: bool },
    Ask { role: Role, ask: Ask, question: Vec<u8> },
    Http(Vec<u8>),
}

pub(crate) const NODE: NodeId = NodeId(0);
const DATA_ROLES: &[Role] = &[Role::Gateway, Role::Channel, Role::Presence];
const CONTROL_ROLES: &[Role] = &[Role::Admin, Role::Webapp];
const BUDGET: Budget = Budget { units: 64 };

impl Shards {
    pub(crate) fn roles(&self) -> &'static [Role] {
        match self {
            Self::Data(_) => DATA_ROLES,
            Self::Control(_) => CONTROL_ROLES,
        }
    }
    pub(crate) fn of(&mut self, role: Role) -> &mut dyn Shard {
        match (self, role) {
            (Self::Data(shards), Role::Gateway) => &mut shards.0,
            (Self::Data(shards), Role::Channel) => &mut shards.1,
            (Self::Data(shards), Role::Presence) => &mut shards.2,
            (Self::Control(shards), Role::Admin) => &mut shards.0,
            (Self::Control(shards), Role::Webapp) => &mut shards.1,
            (_, role) => panic!("there is no {role:?} here"),
        }
    }
    pub(crate) fn edge(&self) -> &dyn Edge {
        match self {
            Self::Data(shards) => &shards.0,
            Self::Control(_) => panic!("clients come to cores"),
        }
    }
}

/// Per core, and one for the control plane. Places of the node are numbered: its cores, then the control plane.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) shards: Shards,
    /// In the order in which shards wanted it.
    pub(crate) wants: VecDeque<Want>,
    here: usize,
    cores: usize,
    hello: Hello,
    bounds: Bounds,
    links: Vec<Link>,
    /// Envelopes for shards of this place.
    local: Vec<u8>,
    local_bulk: bool,
    /// Places whose link broke; our shards are not told yet.
    lost: VecDeque<usize>,
    effects: Effects,
}

impl Place {
    pub(crate) fn new(
        shards: Shards,
        here: usize,
        cores: usize,
        life: u64,
        limits: &Limits,
    ) -> Self {
        let bounds = Bounds {
            bytes_max: limits.mail_bytes_max as usize,
            messages_max: limits.mail_messages_max,
        };
        Self {
            shards,
            wants: VecDeque::new(),
            here,
            cores,
            hello: Hello { version: VERSION, node: NODE, incarnation: life },
            bounds,
            links: (0..=cores).map(|_| Link::new(bounds)).collect(),
            local: Vec::new(),
            local_bulk: false,
            lost: VecDeque::new(),
            effects: Effects::default(),
        }
    }

    /// The ring and the neighbours on this place, which are there from the beginning.
    pub(crate) fn begin(&mut self, now: Now, ring: &Ring, outside: &mut Outside) {
        for &role in self.shards.roles() {
            self.input(now, role, Input::Ring { ring }, outside);
        }
        self.neighbours(now, self.here, Some(1), outside);
        self.settle(now, outside);
    }

    /// One input for one shard; mail on this place waits for `settle`.
    pub(crate) fn input(&mut self, now: Now, role: Role, input: Input<'_>, outside: &mut Outside) {
        let mut effects = std::mem::take(&mut self.effects);
        effects.clear();
        self.shards.of(role).handle(now, input, &mut effects);
        self.carry_out(role, &effects, outside);
        self.effects = effects;
    }

    /// Handles the mail of this place until none is left.
    pub(crate) fn settle(&mut self, now: Now, outside: &mut Outside) {
        loop {
            if let Some(other) = self.lost.pop_front() {
                self.neighbours(now, other, None, outside);
            } else if !self.local.is_empty() {
                let mail = std::mem::take(&mut self.local);
                for envelope in envelopes(&mail) {
                    let (from, to, message) = envelope.expect("written below");
                    self.wire(now, (self.here, from), to, message, outside);
                }
            } else if std::mem::take(&mut self.local_bulk) {
                self.room(now, self.here, outside);
            } else {
                return;
            }
        }
    }

    /// Deadlines that passed, and work that budgets cut off. True: more is left.
    pub(crate) fn advance(&mut self, now: Now, outside: &mut Outside) -> bool {
        let mut more = false;
        for &role in self.shards.roles() {
            if self.shards.of(role).deadline().is_some_and(|due| due <= now.mono) {
                self.input(now, role, Input::Tick, outside);
            }
            let mut effects = std::mem::take(&mut self.effects);
            effects.clear();
            more |= self.shards.of(role).advance(now, BUDGET, &mut effects);
            self.carry_out(role, &effects, outside);
            self.effects = effects;
            self.settle(now, outside);
        }
        more
    }

    pub(crate) fn deadline(&mut self) -> Option<Mono> {
        let roles = self.shards.roles().iter();
        roles.fold(None, |soonest, role| sooner(soonest, self.shards.of(*role).deadline()))
    }

    /// A batch of another place.
    pub(crate) fn receive(&mut self, now: Now, other: usize, batch: &Batch, outside: &mut Outside) {
        match self.links[other].receive(batch) {
            Received::Nothing => {}
            Received::Up { life, was_up } => {
                if was_up {
                    self.neighbours(now, other, None, outside);
                }
                self.neighbours(now, other, Some(life), outside);
            }
            Received::Mail => {
                for envelope in envelopes(&batch.bytes) {
                    // Our own answers may break the link half way: the rest is of an older life then.
                    if !self.links[other].is_up() {
                        break;
                    }
                    let (from, to, message) = envelope.expect("links carry whole envelopes");
                    self.wire(now, (other, from), to, message, outside);
                }
            }
        }
        self.settle(now, outside);
    }

    /// The next batch for another place.
    pub(crate) fn take(&mut self, other: usize) -> Option<Batch> {
        self.links[other].take()
    }

    /// Tells our shards which places take bulk again.
    pub(crate) fn look_for_room(&mut self, now: Now, outside: &mut Outside) {
        for other in 0..self.links.len() {
            if other != self.here && self.links[other].has_room() {
                self.room(now, other, outside);
            }
        }
        self.settle(now, outside);
    }

    /// Whether there is something for another place.
    pub(crate) fn has_mail_for(&self, other: usize) -> bool {
        self.links[other].has_waiting()
    }

    /// I17: no mailbox holds more than its bounds.
    pub(crate) fn overfull(&self) -> Option<String> {
        let is_over = |link: &Link| {
            let out = link.outstanding();
            out.messages > self.bounds.messages_max || out.bytes > self.bounds.bytes_max as u64
        };
        let link = self.links.iter().find(|link| is_over(link))?;
        Some(format!("I17: a link of place {} holds {:?}", self.here, link.outstanding()))
    }

    /// The writer of the database, or an HTTP handler, says something to a shard.
    pub(crate) fn say(&mut self, now: Now, to: Peer, message: &[u8], outside: &mut Outside) {
        if self.place_of(to) == self.here {
            let message = Message::decode(message).expect("handlers encode");
            let peer = Peer::control(NODE, Role::Http);
            self.input(now, to.role, Input::Wire { peer, message }, outside);
        } else {
            self.send(Role::Http, to, message, Class::Live, outside);
        }
        self.settle(now, outside);
    }

    fn wire(
        &mut self,
        now: Now,
        (from_place, from): (usize, Role),
        to: Role,
        bytes: &[u8],
        outside: &mut Outside,
    ) {
        let message = Message::decode(bytes).expect("shards of one binary understand each other");
        outside.coverage.message(message.name());
        outside.trace.note(now.mono, b'w', [(self.here * 8 + from_place) as u64, to as u64], bytes);
        outside.trace.tell(now.mono, || {
            let text = format!("{message:?}");
            let cut = text.chars().take(240).collect::<String>();
            format!("  {}.{} -> {}.{} {cut}", from_place, from.as_str(), self.here, to.as_str())
        });
        if to == Role::Http {
            return self.wants.push_back(Want::Http(bytes.to_vec()));
        }
        let ways = ((self.here, to), (from_place, from));
        crate::streams::heard(outside, ways.0, ways.1, &message);
        outside.checker.heard(&outside.database, ways.0, ways.1, &message);
        let peer = self.peer(from_place, from);
        self.input(now, to, Input::Wire { peer, message }, outside);
    }

    fn carry_out(&mut self, role: Role, effects: &Effects, outside: &mut Outside) {
        for &effect in effects.list() {
            let want = match effect {
                Effect::Send { peer, message, class } => {
                    self.send(role, peer, effects.bytes(message), class, outside);
                    continue;
                }
                Effect::Reset { peer } => {
                    let other = self.place_of(peer);
                    outside.coverage.saw("links reset by a shard");
                    if other != self.here {
                        self.links[other].break_off();
                        self.lost.push_back(other);
                    }
                    continue;
                }
                Effect::HandOver { .. } => unreachable!("no world serves plain HTTP"),
                Effect::Count { what, by } => {
                    outside.coverage.count(what, by);
                    if what == Counter::WireBroken {
                        outside.checker.broken(format!("{role:?} was told what it does not know"));
                    }
                    continue;
                }
                Effect::Dirty { conn, .. } => Want::Dirty(conn),
                Effect::Pause { conn } => Want::Pause(conn),
                Effect::Resume { conn } => Want::Resume(conn),
                Effect::Close { conn, reset } => Want::Close { conn, reset },
                Effect::Ask { ask, question } => {
                    let question = effects.bytes(question).to_vec();
                    Want::Ask { role, ask, question }
                }
            };
            self.wants.push_back(want);
        }
    }

    fn send(&mut self, from: Role, to: Peer, message: &[u8], class: Class, outside: &mut Outside) {
        let other = self.place_of(to);
        if other == self.here {
            (from as u8).write(&mut self.local);
            (to.role as u8).write(&mut self.local);
            message.write(&mut self.local);
            self.local_bulk |= class == Class::Bulk;
            return;
        }
        match self.links[other].send(from, to.role, message, class) {
            Sent::Queued => {}
            Sent::Down => outside.coverage.saw("mail said to a link that is down"),
            Sent::Dropped => outside.coverage.count(Counter::MailDropped, 1),
            Sent::Overflowed => {
                outside.coverage.count(Counter::MailOverflows, 1);
                if class == Class::Bulk {
                    outside.coverage.saw("mailboxes overflowed by bulk");
                }
                self.lost.push_back(other);
            }
        }
    }

    /// Tells our shards that those of `other` are up with a life, or lost.
    fn neighbours(&mut self, now: Now, other: usize, life: Option<u32>, outside: &mut Outside) {
        if other != self.here {
            outside.checker.link_changed(self.here, other);
            outside.trace.tell(now.mono, || format!("  {} <> {other}: {life:?}", self.here));
        }
        for &role in self.roles_of(other) {
            let peer = self.peer(other, role);
            for &listener in self.shards.roles() {
                let input = match life {
                    Some(life) => Input::PeerUp { peer, life, hello: self.hello },
                    None => Input::PeerLost { peer },
                };
                self.input(now, listener, input, outside);
            }
        }
    }

    fn room(&mut self, now: Now, other: usize, outside: &mut Outside) {
        for &role in self.roles_of(other) {
            let peer = self.peer(other, role);
            for &listener in self.shards.roles() {
                self.input(now, listener, Input::PeerRoom { peer }, outside);
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
