//! The turns of a node's places, the mail between them, and what they hear of other nodes.

use std::collections::VecDeque;

use campanile::ids::{Peer, Role};
use campanile::shard::Input;
use campanile::time::Mono;
use campanile::wire::Message;

use crate::agenda::{Agenda, Arrival, Far, Happening, micros, millis};
use crate::node::{Around, Node};
use crate::place::Want;

/// What a turn of a slow core takes, in milliseconds, at most.
const SLOW_TURN_MS: u64 = 30;

/// The turns of one place.
#[derive(Default, Debug)]
pub(super) struct Turns {
    inbox: VecDeque<Arrival>,
    /// When the next is, and its number.
    due: Option<Mono>,
    number: u64,
    pub(super) dirty: VecDeque<usize>,
    pub(super) doomed: Vec<usize>,
    /// The core does nothing until then.
    stuck_until: Mono,
    /// Each of its turns takes long until then.
    slow_until: Mono,
}

/// From one place to another.
#[derive(Clone, Default, Debug)]
pub(super) struct Carrier {
    in_flight: usize,
    /// When the last batch arrives: none comes before it.
    last: Mono,
    slow_until: Mono,
}

/// The way to a place of another node, as `runtime/far_ways` keeps it.
#[derive(Debug)]
pub(super) struct FarWay {
    line: usize,
    side: usize,
    is_up: bool,
}
impl Node {
    /// News of a connection to another node, as `runtime/far_ways` tells them to its place.
    fn hear_far(&mut self, place: usize, line: usize, news: Far, around: &mut Around<'_>) {
        let now = self.clock.now(around.agenda.now);
        let here = &mut self.places[place];
        let ways = &mut self.far[place];
        let find = |ways: &[FarWay]| ways.iter().position(|way| way.line == line && way.is_up);
        match news {
            Far::Met((other, version), side) => {
                let far = here.meet(now, (&other, version), around.outside);
                let way = FarWay { line, side, is_up: true };
                if far == ways.len() {
                    ways.push(way);
                } else {
                    let old = std::mem::replace(&mut ways[far], way);
                    if old.is_up {
                        around.lines.close(around.agenda, old.line, old.side);
                        // Whoever dialed it tries again, as after any end.
                        if old.side == 0 {
                            let dial = around.lines.dial(old.line);
                            around.agenda.after(millis(15), Happening::Dial(dial));
                        }
                    }
                }
            }
            Far::Batch(batch) => {
                if let Some(far) = find(ways) {
                    let other = far + self.part.cores + 1;
                    here.receive(now, other, &batch, around.outside);
                }
            }
            Far::Parted => {
                if let Some(far) = find(ways) {
                    ways[far].is_up = false;
                    here.part(now, far, around.outside);
                }
            }
        }
    }

    /// Whether a place waits to say something over a connection.
    pub(crate) fn is_waiting_for(&self, place: usize, line: usize) -> bool {
        let Some(ways) = self.far.get(place) else { return false };
        let far = ways.iter().position(|way| way.line == line && way.is_up);
        self.is_up()
            && far.is_some_and(|far| self.places[place].has_mail_for(far + self.part.cores + 1))
    }

    /// A core, or the control plane, does nothing for a while.
    pub(crate) fn stick(&mut self, place: usize, until: Mono) {
        if let Some(turns) = self.turns.get_mut(place) {
            turns.stuck_until = until;
        }
    }

    /// A core, or the control plane, is slow for a while: as on a machine that does much else.
    pub(crate) fn tax(&mut self, place: usize, until: Mono) {
        if let Some(turns) = self.turns.get_mut(place) {
            turns.slow_until = until;
        }
    }

    /// Whether a place of it does nothing now, or little.
    pub(crate) fn is_stuck(&self, now: Mono) -> bool {
        self.turns.iter().any(|turns| turns.stuck_until.max(turns.slow_until) > now)
    }

    /// Nothing hinders it any more.
    pub(crate) fn unstick(&mut self) {
        for turns in &mut self.turns {
            (turns.stuck_until, turns.slow_until) = (Mono(0), Mono(0));
        }
        self.carriers.iter_mut().for_each(|carrier| carrier.slow_until = Mono(0));
    }

    /// Mail from one place to another is slow for a while.
    pub(crate) fn slow_down(&mut self, from: usize, to: usize, until: Mono) {
        let at = from * (self.part.cores + 1) + to;
        if let Some(carrier) = self.carriers.get_mut(at) {
            carrier.slow_until = until;
        }
    }

    /// Something comes to a place.
    pub(crate) fn arrive(&mut self, agenda: &mut Agenda, place: usize, what: Arrival) {
        if self.is_up() {
            self.turns[place].inbox.push_back(what);
            let pause = micros(self.mail.between(1, 100));
            self.wake(agenda, place, agenda.now + pause);
        }
    }

    pub(crate) fn wake(&mut self, agenda: &mut Agenda, place: usize, at: Mono) {
        let turns = &mut self.turns[place];
        if turns.due.is_none_or(|due| at < due) {
            turns.due = Some(at);
            turns.number += 1;
            let (node, number) = (self.at, turns.number);
            agenda.at(at, Happening::Turn { node, place, number });
        }
    }

    /// One turn: what came, deadlines, writes, mail to others; as the cores' loop does it.
    pub(crate) fn turn(&mut self, place: usize, number: u64, around: &mut Around<'_>) {
        if !self.is_up() || self.turns[place].due.is_none() || self.turns[place].number != number {
            return;
        }
        self.turns[place].due = None;
        let stuck_until = self.turns[place].stuck_until;
        if stuck_until > around.agenda.now {
            return self.wake(around.agenda, place, stuck_until);
        }
        let now = self.clock.now(around.agenda.now);
        for arrival in std::mem::take(&mut self.turns[place].inbox) {
            self.take_in(place, arrival, around);
            self.obey(place, around);
        }
        let mut more = self.places[place].advance(now, around.outside);
        self.obey(place, around);
        self.flush(place, around);
        self.bury(place, around);
        more |= self.carry(place, around);
        more |= !self.turns[place].dirty.is_empty();
        let here = around.agenda.now;
        self.tire(place, here);
        if more {
            self.wake(around.agenda, place, here + micros(50));
        } else if let Some(due) = self.places[place].deadline() {
            let due = self.clock.when(due);
            self.wake(around.agenda, place, due.max(here + micros(5)));
        }
    }

    /// A place that is slow does nothing for a while after each turn.
    fn tire(&mut self, place: usize, now: Mono) {
        if self.turns[place].slow_until > now {
            let pause = millis(self.mail.between(1, SLOW_TURN_MS));
            let turns = &mut self.turns[place];
            turns.stuck_until = turns.stuck_until.max(now + pause);
        }
    }

    fn take_in(&mut self, place: usize, arrival: Arrival, around: &mut Around<'_>) {
        let now = self.clock.now(around.agenda.now);
        let here = &mut self.places[place];
        match arrival {
            Arrival::Mail { from, batch } => {
                around.outside.coverage.saw("batches");
                let carrier = from * (self.part.cores + 1) + place;
                self.carriers[carrier].in_flight -= 1;
                here.receive(now, from, &batch, around.outside);
                if self.places[from].has_mail_for(place) {
                    self.wake(around.agenda, from, around.agenda.now + micros(5));
                }
            }
            Arrival::Answer { role, ask, list } => {
                for bytes in &list {
                    let message = Message::decode(bytes).expect("the database encodes");
                    if let Message::RingIs { ask, .. } = message {
                        around.outside.checker.ring_is(ask.0);
                    }
                    here.input(now, role, Input::Answer { ask, message }, around.outside);
                }
                here.settle(now, around.outside);
            }
            Arrival::Word(word) => {
                let to = Peer::control(self.id, Role::Admin);
                here.say(now, to, &word, around.outside);
            }
            Arrival::Http { to, message } => here.say(now, to, &message, around.outside),
            Arrival::Far { line, news } => self.hear_far(place, line, news, around),
            Arrival::Ring(ring) => {
                around.outside.coverage.saw("rings that changed");
                self.told_ring(place, &ring, around);
                self.places[place].change(now, &ring, around.outside);
            }
            Arrival::Drain { until } => {
                here.input(now, Role::Gateway, Input::Drain { until }, around.outside);
                here.settle(now, around.outside);
            }
            Arrival::Accepted { socket }
            | Arrival::Bytes { socket, .. }
            | Arrival::Ended { socket }
            | Arrival::Broken { socket }
            | Arrival::Writable { socket } => self.socket(place, socket, arrival, around),
        }
    }

    /// Does what shards want done outside.
    pub(super) fn obey(&mut self, place: usize, around: &mut Around<'_>) {
        while let Some(want) = self.places[place].wants.pop_front() {
            match want {
                Want::Ask { role, ask, question } => {
                    let (agenda, outside) = (&mut *around.agenda, &mut *around.outside);
                    around.hands.ask(agenda, outside, self.process, (role, ask, question));
                }
                Want::Http(bytes) => self.http.push(bytes),
                Want::Dirty(conn) => {
                    if let Some(socket) = around.network.of(self.at, conn) {
                        self.dirty(place, socket, around.network);
                    }
                }
                Want::Pause(conn) => {
                    if let Some(socket) = around.network.of(self.at, conn) {
                        around.network.sockets[socket].server.is_paused = true;
                    }
                }
                Want::Resume(conn) => {
                    if let Some(socket) = around.network.of(self.at, conn) {
                        around.network.sockets[socket].server.is_paused = false;
                        around.network.read_on(around.agenda, socket);
                    }
                }
                Want::Close { conn, reset } => self.close(place, conn, reset, around),
            }
        }
    }

    /// Mail to other places, as far as there is room between. True: there is something to do after that.
    fn carry(&mut self, place: usize, around: &mut Around<'_>) -> bool {
        let now = self.clock.now(around.agenda.now);
        let cores = self.part.cores;
        let (carriers, ways) = (&self.carriers, &self.far[place]);
        let batches_max = self.sizes.batches_max;
        let lines = &*around.lines;
        let room = |other: usize| match other.checked_sub(cores + 1) {
            Some(far) if ways[far].is_up => lines.room(ways[far].line, ways[far].side),
            Some(_) => 0,
            None => batches_max.saturating_sub(carriers[place * (cores + 1) + other].in_flight),
        };
        let (batches, more) = self.places[place].carry(now, room, around.outside);
        let now = around.agenda.now;
        for (other, batch) in batches {
            if let Some(far) = other.checked_sub(cores + 1) {
                let FarWay { line, side, .. } = self.far[place][far];
                around.lines.send(around.agenda, line, side, batch);
                continue;
            }
            let carrier = &mut self.carriers[place * (cores + 1) + other];
            let pause = if carrier.slow_until > now {
                millis(self.mail.between(1, 200))
            } else if self.mail.chance(20) {
                micros(self.mail.between(100, 10_000))
            } else {
                micros(self.mail.between(2, 60))
            };
            carrier.last = carrier.last.max(now + pause);
            carrier.in_flight += 1;
            let what = Arrival::Mail { from: place, batch };
            let (process, place) = (self.process, other);
            around.agenda.at(carrier.last, Happening::Arrive { process, place, what });
        }
        self.obey(place, around);
        more
    }
}
