//! One place of a node, overheard: the real place with the real shards; what they hear and want is noted, judged and told to the world.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use campanile::admin::shard::Admin;
use campanile::channel::shard::Owner;
use campanile::charm::health::Health;
use campanile::charm::manager::Manager;
use campanile::gateway::shard::Gateway;
use campanile::ids::{Ask, Conn, Peer, Role};
use campanile::limits::Limits;
use campanile::place::{self, CONTROL_ROLES, Whole};
use campanile::presence::shard::Roster;
use campanile::ring::Ring;
use campanile::shard::{Budget, Counter, Edge, Effect, Effects, Input, Report, Shard};
use campanile::time::{Mono, Now};
use campanile::webapp::desk::Desk;
use campanile::wire::Message;
use campanile::wire::link::{Batch, Class};
use campanile::wire::stream::Identity;

use crate::clock::Clock;
use crate::outside::Outside;
use crate::trace;

/// A shard of any role.
#[derive(Debug)]
pub(crate) enum Actor {
    Gateway(Box<Gateway>),
    Owner(Box<Owner>),
    Roster(Box<Roster>),
    Admin(Box<Admin>),
    Desk(Box<Desk>),
    Health(Box<Health>),
    Manager(Box<Manager>),
}

impl Actor {
    fn shard(&self) -> &dyn Shard {
        match self {
            Self::Gateway(shard) => &**shard,
            Self::Owner(shard) => &**shard,
            Self::Roster(shard) => &**shard,
            Self::Admin(shard) => &**shard,
            Self::Desk(shard) => &**shard,
            Self::Health(shard) => &**shard,
            Self::Manager(shard) => &**shard,
        }
    }
    fn shard_mut(&mut self) -> &mut dyn Shard {
        match self {
            Self::Gateway(shard) => &mut **shard,
            Self::Owner(shard) => &mut **shard,
            Self::Roster(shard) => &mut **shard,
            Self::Admin(shard) => &mut **shard,
            Self::Desk(shard) => &mut **shard,
            Self::Health(shard) => &mut **shard,
            Self::Manager(shard) => &mut **shard,
        }
    }
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

/// What was seen of a place, in order.
#[derive(Debug)]
enum Seen {
    /// With so many of the bytes that were overheard.
    Said {
        to: Role,
        peer: Peer,
        len: usize,
    },
    /// A shard is told that a peer is lost, or up.
    Linked {
        to: Role,
        peer: Peer,
        is_up: bool,
    },
    Count {
        role: Role,
        what: Counter,
        by: u32,
    },
    Reset,
    /// An owner answers a subscriber.
    Answers {
        to: Peer,
        handle: u32,
        tip: u64,
    },
    Want(Want),
}

type Notes = Rc<RefCell<Overhearings>>;

#[derive(Default, Debug)]
struct Overhearings {
    list: Vec<Seen>,
    /// Of all messages in the list.
    bytes: Vec<u8>,
}

impl Overhearings {
    fn push(&mut self, seen: Seen) {
        self.list.push(seen);
    }
}

/// A shard, and whoever listens at its door.
#[derive(Debug)]
struct Overheard {
    here: Peer,
    actor: Actor,
    notes: Notes,
    /// By what the times of its node are the world's, where its story is told.
    told: Option<Clock>,
}

impl Shard for Overheard {
    fn handle(&mut self, now: Now, input: Input<'_>, out: &mut Effects) {
        let to = self.here.role;
        match &input {
            Input::Wire { peer, message } => {
                if let Some(clock) = &self.told {
                    let text = format!("{message:?}");
                    let cut: String = text.chars().take(240).collect();
                    trace::line(
                        clock.when(now.mono),
                        &format!("  {} -> {} {cut}", name(*peer), name(self.here)),
                    );
                }
                let mut notes = self.notes.borrow_mut();
                let from = notes.bytes.len();
                message.encode(&mut notes.bytes);
                let len = notes.bytes.len() - from;
                notes.push(Seen::Said { to, peer: *peer, len });
            }
            Input::PeerUp { peer, .. } | Input::PeerLost { peer } => {
                if let Some(clock) = &self.told {
                    let what = if matches!(input, Input::PeerUp { .. }) { "up" } else { "lost" };
                    trace::line(
                        clock.when(now.mono),
                        &format!("  {} is {what} to {}", name(*peer), name(self.here)),
                    );
                }
                let is_up = matches!(input, Input::PeerUp { .. });
                self.notes.borrow_mut().push(Seen::Linked { to, peer: *peer, is_up });
            }
            _ => {}
        }
        self.actor.shard_mut().handle(now, input, out);
        for effect in out.list() {
            match *effect {
                Effect::Reset { .. } => self.notes.borrow_mut().push(Seen::Reset),
                Effect::Send { peer, message, .. } if to == Role::Channel => {
                    self.said(peer, out.bytes(message));
                }
                _ => {}
            }
        }
    }
    fn advance(&mut self, now: Now, budget: Budget, out: &mut Effects) -> bool {
        self.actor.shard_mut().advance(now, budget, out)
    }
    fn deadline(&self) -> Option<Mono> {
        self.actor.shard().deadline()
    }
    fn report(&self, into: &mut Report) {
        self.actor.shard().report(into);
    }
}

impl Overheard {
    /// Answers of an owner to subscribers; what follows at once belongs to it.
    fn said(&self, to: Peer, bytes: &[u8]) {
        let mut notes = self.notes.borrow_mut();
        match Message::decode(bytes) {
            Ok(Message::Suback { handle, tip, .. }) => {
                notes.push(Seen::Answers { to, handle: handle.0, tip });
            }
            Ok(Message::Publication { handle, offset, .. }) => {
                for one in notes.list.iter_mut().rev() {
                    if let Seen::Answers { to: other, handle: its, tip } = one
                        && (*other, *its) == (to, handle.0)
                    {
                        *tip = offset;
                        return;
                    }
                }
            }
            _ => {}
        }
    }
}

fn name(peer: Peer) -> String {
    format!("{}.{}.{}", peer.node.0, peer.core, peer.role.as_str())
}

#[derive(Debug)]
struct Cast(Vec<Overheard>);

impl place::Shards for Cast {
    fn of(&mut self, role: Role) -> Option<&mut dyn Shard> {
        let one = self.0.iter_mut().find(|one| one.here.role == role)?;
        Some(one)
    }
}

/// Notes what a driver would do.
#[derive(Debug)]
struct Hands(Notes);

impl place::Hands for Hands {
    fn carry_out(&mut self, role: Role, effect: Effect, effects: &Effects) {
        let seen = match effect {
            Effect::Count { what, by } => Seen::Count { role, what, by },
            Effect::Dirty { conn, .. } => Seen::Want(Want::Dirty(conn)),
            Effect::Pause { conn } => Seen::Want(Want::Pause(conn)),
            Effect::Resume { conn } => Seen::Want(Want::Resume(conn)),
            Effect::Close { conn, reset } => Seen::Want(Want::Close { conn, reset }),
            Effect::Ask { ask, question } => {
                let question = effects.bytes(question).to_vec();
                Seen::Want(Want::Ask { role, ask, question })
            }
            other => unreachable!("no world serves plain HTTP, and mail is the place's: {other:?}"),
        };
        self.0.borrow_mut().push(seen);
    }
    fn tell_http(&mut self, message: &[u8]) {
        self.0.borrow_mut().push(Seen::Want(Want::Http(message.to_vec())));
    }
}

/// Places of a node are numbered: its cores, its control plane, then those of others as they were met.
#[derive(Debug)]
pub(crate) struct Place {
    inner: place::Place<Cast>,
    hands: Hands,
    notes: Notes,
    /// In the order in which shards wanted it.
    pub(crate) wants: VecDeque<Want>,
    address: Peer,
}

impl Place {
    pub(crate) fn new(
        whole: Whole,
        here: usize,
        actors: Vec<(Role, Actor)>,
        limits: &Limits,
        told: Option<&Clock>,
    ) -> Self {
        let notes = Notes::default();
        let core = if here == whole.cores { Peer::CONTROL_CORE } else { here as u8 };
        let cast = actors.into_iter().map(|(role, actor)| Overheard {
            here: Peer::new(whole.node, role, core),
            actor,
            notes: Rc::clone(&notes),
            told: told.cloned(),
        });
        Self {
            inner: place::Place::new(Cast(cast.collect()), here, whole, limits),
            hands: Hands(Rc::clone(&notes)),
            notes,
            wants: VecDeque::new(),
            address: Peer::new(whole.node, Role::Http, core),
        }
    }

    pub(crate) fn begin(&mut self, now: Now, ring: &Ring, outside: &mut Outside) {
        self.inner.begin(now, ring, &mut self.hands);
        self.look(now, outside);
    }
    pub(crate) fn change(&mut self, now: Now, ring: &Ring, outside: &mut Outside) {
        self.inner.change(now, ring, &mut self.hands);
        self.look(now, outside);
    }
    /// One input for one shard; mail on this place waits for `settle`.
    pub(crate) fn input(&mut self, now: Now, role: Role, input: Input<'_>, outside: &mut Outside) {
        self.inner.input(now, role, input, &mut self.hands);
        self.look(now, outside);
    }
    pub(crate) fn settle(&mut self, now: Now, outside: &mut Outside) {
        self.inner.settle(now, &mut self.hands);
        self.look(now, outside);
    }
    pub(crate) fn advance(&mut self, now: Now, outside: &mut Outside) -> bool {
        let more = self.inner.advance(now, &mut self.hands);
        self.look(now, outside);
        more
    }
    pub(crate) fn deadline(&mut self) -> Option<Mono> {
        self.inner.deadline()
    }
    pub(crate) fn receive(&mut self, now: Now, other: usize, batch: &Batch, outside: &mut Outside) {
        self.inner.receive(now, other, batch, &mut self.hands);
        self.look(now, outside);
    }
    /// A connection to a place of another node is up: which of those that were met it is.
    pub(crate) fn meet(
        &mut self,
        now: Now,
        other: (&Identity, u16),
        outside: &mut Outside,
    ) -> usize {
        let at = self.inner.meet(now, other, &mut self.hands);
        self.look(now, outside);
        at - self.inner.far_from()
    }
    /// That connection is gone.
    pub(crate) fn part(&mut self, now: Now, far: usize, outside: &mut Outside) {
        self.inner.part(now, far + self.inner.far_from(), &mut self.hands);
        self.look(now, outside);
    }
    /// Batches for other places, as far as there is room, and whether there is something to do after that.
    pub(crate) fn carry(
        &mut self,
        now: Now,
        room: impl Fn(usize) -> usize,
        outside: &mut Outside,
    ) -> (Vec<(usize, Batch)>, bool) {
        let taken = RefCell::new(Vec::<(usize, Batch)>::new());
        let more = self.inner.carry(
            now,
            &mut self.hands,
            |other| {
                let taken = taken.borrow();
                taken.iter().filter(|(to, _)| *to == other).count() < room(other)
            },
            |other, batch| taken.borrow_mut().push((other, batch)),
        );
        self.look(now, outside);
        (taken.into_inner(), more)
    }
    pub(crate) fn has_mail_for(&self, other: usize) -> bool {
        self.inner.links()[other].has_waiting()
    }

    /// The writer of the database, or an HTTP handler, says something to a shard.
    pub(crate) fn say(&mut self, now: Now, to: Peer, message: &[u8], outside: &mut Outside) {
        if CONTROL_ROLES.contains(to.role) {
            let message = Message::decode(message).expect("handlers encode");
            let peer = Peer::control(self.inner.node(), Role::Http);
            self.inner.input(now, to.role, Input::Wire { peer, message }, &mut self.hands);
        } else {
            self.inner.send(Role::Http, to, message, Class::Live, &mut self.hands);
        }
        self.settle(now, outside);
    }

    pub(crate) fn gateways(&self) -> Vec<Peer> {
        self.inner.gateways()
    }

    pub(crate) fn edge(&self) -> &dyn Edge {
        let edge = self.inner.shards.0.iter().find_map(|one| match &one.actor {
            Actor::Gateway(gateway) => Some(&**gateway),
            _ => None,
        });
        edge.expect("clients come to gateways")
    }

    pub(crate) fn report(&self, mut each: impl FnMut(&'static str, f64)) {
        for one in &self.inner.shards.0 {
            let mut report = Report::default();
            one.report(&mut report);
            report.gauges.iter().for_each(|(name, value)| each(name, *value));
        }
    }

    /// Channels in which something is missing.
    fn holes(&self) -> f64 {
        let mut holes = 0.0;
        self.report(|name, value| holes += if name == "channel_holes" { value } else { 0.0 });
        holes
    }

    /// I17: no mailbox holds more than its bounds, the larger ones where both ends differ.
    pub(crate) fn overfull(&self, (messages_max, bytes_max): (u32, u64)) -> Option<String> {
        let mut held = self.inner.links().iter().map(campanile::wire::link::Link::outstanding);
        let over = held.find(|out| out.messages > messages_max || out.bytes > bytes_max)?;
        Some(format!("I17: a link of {} holds {over:?}", name(self.address)))
    }

    /// Judges what was seen since the last look.
    fn look(&mut self, now: Now, outside: &mut Outside) {
        if self.notes.borrow().list.is_empty() {
            return;
        }
        let mut seen = std::mem::take(&mut *self.notes.borrow_mut());
        let mut bytes = &*seen.bytes;
        for one in seen.list.drain(..) {
            match one {
                Seen::Want(want) => {
                    if let Want::Http(bytes) = &want {
                        let answer = Message::decode(bytes).expect("shards encode");
                        outside.coverage.message(answer.name());
                    }
                    if let Want::Ask { question, .. } = &want {
                        let question = Message::decode(question).expect("shards encode");
                        outside.checker.asked(&outside.database, &question);
                    }
                    self.wants.push_back(want);
                }
                Seen::Reset => outside.coverage.saw("links reset by a shard"),
                Seen::Count { role, what, by } => {
                    outside.coverage.count(what, by);
                    if what == Counter::WireBroken {
                        outside.checker.broken(format!("{role:?} was told what it does not know"));
                    }
                    if what == Counter::TalliesWrong {
                        let here = name(self.address);
                        outside.checker.broken(format!(
                            "I15: {here} counts other subscriptions than somebody has"
                        ));
                    }
                }
                Seen::Answers { to, handle, tip } => {
                    let owner = Peer { role: Role::Channel, ..self.address };
                    // What is held behind a hole is known too, and follows.
                    if let Some(wrong) = outside.checker.answers(owner, to, handle, tip)
                        && self.holes() == 0.0
                    {
                        outside.checker.broken(wrong);
                    }
                }
                Seen::Linked { to, peer, is_up } => {
                    outside.checker.link_changed(Peer { role: to, ..self.address }, peer, is_up);
                }
                Seen::Said { to, peer, len } => {
                    let (message, rest) = bytes.split_at(len);
                    bytes = rest;
                    said(now, Peer { role: to, ..self.address }, peer, message, outside);
                }
            }
        }
        seen.bytes.clear();
        *self.notes.borrow_mut() = seen;
    }
}

/// A shard heard a message.
fn said(now: Now, here: Peer, peer: Peer, bytes: &[u8], outside: &mut Outside) {
    let message = Message::decode(bytes).expect("just encoded");
    outside.coverage.message(message.name());
    let number =
        |peer: Peer| u64::from(peer.node.0) << 16 | u64::from(peer.core) << 8 | peer.role as u64;
    outside.trace.note(now.mono, b'w', [number(here), number(peer)], bytes);
    if here.role == Role::Gateway && peer.role == Role::Gateway && here.node != peer.node {
        match message {
            Message::Suback { .. } => outside.coverage.saw("subscriptions by a relay"),
            Message::PastEnd { .. } => outside.coverage.saw("pages by a relay"),
            _ => {}
        }
    }
    crate::streams::heard(outside, here, peer, &message);
    outside.checker.heard(&outside.database, here, peer, &message);
}
