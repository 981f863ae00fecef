//! Connections between places of different nodes: in order while they stand, fail-stop, and silent where a wall is in between.
//!
//! What `wire::stream` does with bytes is in its own stories; here a batch is what travels. Whoever hears nothing for as long as a stream
//! waits ends the connection from its side.

use std::collections::VecDeque;
use std::time::Duration;

use campanile::limits::{LINK_BEAT, LINK_SILENCE_MAX};
use campanile::time::Mono;
use campanile::wire::link::{Batch, envelopes};
use campanile::wire::{Message, VERSION};

use crate::agenda::{Agenda, Arrival, Far, Happening, micros, millis};
use crate::random::Random;

/// A place of a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct End {
    pub(crate) node: usize,
    pub(crate) process: u32,
    pub(crate) place: usize,
}

/// By whom, and to which place of which node, a connection is kept up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Dial {
    pub(crate) from: End,
    pub(crate) to: usize,
    pub(crate) to_place: usize,
    /// Of the order to dial: void once that is taken back.
    pub(crate) order: u64,
    pub(crate) pause_ms: u64,
}

#[derive(Debug)]
enum Cargo {
    Batch(Batch),
    /// The other side closed.
    End,
}

#[derive(Default, Debug)]
struct Way {
    queue: VecDeque<Cargo>,
    /// When the last of them arrives.
    last: Mono,
    /// Arrived at a wall.
    held: usize,
}

#[derive(Debug)]
struct Line {
    dial: Dial,
    ends: [End; 2],
    /// That both ends speak.
    version: u16,
    is_over: [bool; 2],
    /// From the side with that number.
    ways: [Way; 2],
}

/// What stands between two nodes one way.
#[derive(Clone, Default, Debug)]
struct Wall {
    height: u32,
    /// How often it was raised.
    number: u64,
    slow_ms: u64,
}

#[derive(Debug)]
pub(crate) struct Lines {
    random: Random,
    list: Vec<Line>,
    nodes: usize,
    walls: Vec<Wall>,
    batches_max: usize,
}

/// Messages that the oldest version does not know.
const LATER: &[&str] = &["Tally", "PresenceUnknown"];

/// Of `Happening::Silent`, where the other side is gone for good.
pub(crate) const FOR_GOOD: u64 = u64::MAX;

impl Lines {
    pub(crate) fn new(random: Random, nodes: usize, batches_max: usize) -> Self {
        let walls = vec![Wall::default(); nodes * nodes];
        Self { random, list: Vec::new(), nodes, walls, batches_max }
    }

    pub(crate) fn is_walled(&self, from: usize, to: usize) -> bool {
        self.walls[from * self.nodes + to].height > 0
    }

    /// Whether one gets to the other late or never.
    pub(crate) fn is_hindered(&self, from: usize, to: usize) -> bool {
        let wall = &self.walls[from * self.nodes + to];
        wall.height > 0 || wall.slow_ms > 0
    }

    /// Connects: both ends are told, and may say something from then on.
    pub(crate) fn connect(
        &mut self,
        agenda: &mut Agenda,
        (dial, version): (Dial, u16),
        ends: [End; 2],
    ) -> usize {
        let number = self.list.len();
        let trip = millis(1) + micros(self.random.below(2_000));
        let ways = [
            Way { last: agenda.now + trip, ..Way::default() },
            Way { last: agenda.now + trip, ..Way::default() },
        ];
        self.list.push(Line { dial, ends, version, is_over: [false; 2], ways });
        number
    }

    /// The end with this number.
    pub(crate) fn end(&self, line: usize, side: usize) -> End {
        self.list[line].ends[side]
    }
    pub(crate) fn dial(&self, line: usize) -> Dial {
        self.list[line].dial
    }

    /// Batches that this side may still give.
    pub(crate) fn room(&self, line: usize, side: usize) -> usize {
        let one = &self.list[line];
        if one.is_over[side] {
            0
        } else {
            self.batches_max.saturating_sub(one.ways[side].queue.len())
        }
    }

    pub(crate) fn send(&mut self, agenda: &mut Agenda, line: usize, side: usize, batch: Batch) {
        if self.list[line].version < VERSION {
            for (.., message) in envelopes(&batch.bytes).filter_map(Result::ok) {
                let name = Message::decode(message).expect("shards encode").name();
                assert!(!LATER.contains(&name), "{name} is said to who does not know it");
            }
        }
        self.push(agenda, line, side, Cargo::Batch(batch));
    }

    fn push(&mut self, agenda: &mut Agenda, line: usize, side: usize, cargo: Cargo) {
        let one = &self.list[line];
        let (from, to) = (one.ends[side].node, one.ends[1 - side].node);
        let slow_ms = self.walls[from * self.nodes + to].slow_ms;
        let mut pause = micros(self.random.between(30, 400));
        if slow_ms > 0 {
            pause += millis(self.random.below(slow_ms));
        } else if self.random.chance(10) {
            pause += micros(self.random.below(15_000));
        }
        let way = &mut self.list[line].ways[side];
        way.queue.push_back(cargo);
        way.last = way.last.max(agenda.now + pause);
        agenda.at(way.last, Happening::Ferry { line, side });
    }

    /// The next of what this side sent arrives, unless there is a wall.
    pub(crate) fn ferry(&mut self, line: usize, side: usize) -> Option<(End, Arrival)> {
        let one = &self.list[line];
        let walled = self.is_walled(one.ends[side].node, one.ends[1 - side].node);
        let one = &mut self.list[line];
        let way = &mut one.ways[side];
        if walled {
            way.held += 1;
            return None;
        }
        let cargo = way.queue.pop_front()?;
        let end = one.ends[1 - side];
        if one.is_over[1 - side] {
            return None;
        }
        let news = match cargo {
            Cargo::Batch(batch) => Far::Batch(batch),
            Cargo::End => {
                one.is_over[1 - side] = true;
                Far::Parted
            }
        };
        Some((end, Arrival::Far { line, news }))
    }

    /// One side closes the connection. True: it was open there.
    pub(crate) fn close(&mut self, agenda: &mut Agenda, line: usize, side: usize) -> bool {
        let is_reset = self.random.chance(500);
        let one = &mut self.list[line];
        if std::mem::replace(&mut one.is_over[side], true) {
            return false;
        }
        // Each of these has its `Ferry` on the way, which finds nothing.
        one.ways[1 - side].queue.clear();
        if is_reset {
            one.ways[side].queue.clear();
        }
        if !one.is_over[1 - side] {
            self.push(agenda, line, side, Cargo::End);
        }
        true
    }

    /// Nothing was heard by this side since the wall with this number was raised. True: it closes.
    pub(crate) fn is_silent(&self, line: usize, side: usize, wall: u64) -> bool {
        let one = &self.list[line];
        let (from, to) = (one.ends[1 - side].node, one.ends[side].node);
        let now = &self.walls[from * self.nodes + to];
        !one.is_over[side] && (wall == FOR_GOOD || (now.height > 0 && now.number == wall))
    }

    /// A process is gone: the others see it by the end of their connections, or by silence.
    pub(crate) fn die(&mut self, agenda: &mut Agenda, process: u32, is_told: bool) {
        for line in 0..self.list.len() {
            for side in 0..2 {
                if self.list[line].ends[side].process != process || self.list[line].is_over[side] {
                    continue;
                }
                if is_told {
                    self.close(agenda, line, side);
                } else {
                    let one = &mut self.list[line];
                    one.is_over[side] = true;
                    one.ways[1 - side].queue.clear();
                    if !one.is_over[1 - side] {
                        let at = agenda.now + self.silence();
                        agenda.at(at, Happening::Silent { line, side: 1 - side, wall: FOR_GOOD });
                    }
                }
            }
        }
    }

    fn silence(&mut self) -> Duration {
        let beat = self.random.below(LINK_BEAT.as_micros() as u64);
        LINK_SILENCE_MAX.saturating_sub(micros(beat))
    }

    /// Nothing gets from one node to another any more, and nobody is told.
    pub(crate) fn raise(&mut self, agenda: &mut Agenda, from: usize, to: usize) {
        let wall = &mut self.walls[from * self.nodes + to];
        wall.height += 1;
        if wall.height > 1 {
            return;
        }
        wall.number += 1;
        let number = wall.number;
        for line in 0..self.list.len() {
            let one = &self.list[line];
            let Some(side) = (0..2).find(|side| {
                one.ends[*side].node == to && one.ends[1 - side].node == from && !one.is_over[*side]
            }) else {
                continue;
            };
            let at = agenda.now + self.silence();
            agenda.at(at, Happening::Silent { line, side, wall: number });
        }
    }

    /// The wall is gone: what came to it goes on when it is sent again.
    pub(crate) fn lower(&mut self, agenda: &mut Agenda, from: usize, to: usize) {
        let wall = &mut self.walls[from * self.nodes + to];
        wall.height = wall.height.saturating_sub(1);
        if wall.height > 0 {
            return;
        }
        for line in 0..self.list.len() {
            let pause = millis(1 + self.random.below(250));
            let one = &mut self.list[line];
            for side in 0..2 {
                if one.ends[side].node != from || one.ends[1 - side].node != to {
                    continue;
                }
                let way = &mut one.ways[side];
                for _ in 0..std::mem::take(&mut way.held) {
                    // Before what is on its way and later: `Ferry` takes whatever is first.
                    agenda.at(agenda.now + pause, Happening::Ferry { line, side });
                }
                way.last = way.last.max(agenda.now + pause);
            }
        }
    }

    /// Everything from one node to another takes up to so long, in milliseconds.
    pub(crate) fn slow_down(&mut self, from: usize, to: usize, slow_ms: u64) {
        self.walls[from * self.nodes + to].slow_ms = slow_ms;
    }

    /// Connections between two nodes, for whoever wants to cut them.
    pub(crate) fn between(&self, a: usize, b: usize) -> impl Iterator<Item = usize> {
        self.list.iter().enumerate().filter_map(move |(at, line)| {
            let nodes = (line.ends[0].node, line.ends[1].node);
            let is_open = !line.is_over[0] || !line.is_over[1];
            (is_open && (nodes == (a, b) || nodes == (b, a))).then_some(at)
        })
    }

    /// Open ends of a process: the connection and the side.
    pub(crate) fn of(&self, process: u32) -> Vec<(usize, usize)> {
        let sides = self.list.iter().enumerate().flat_map(|(at, line)| {
            (0..2)
                .filter(move |side| line.ends[*side].process == process && !line.is_over[*side])
                .map(move |side| (at, side))
        });
        sides.collect()
    }

    /// All connections of one order to dial.
    pub(crate) fn ordered(&self, order: u64) -> Vec<usize> {
        let is_it = |line: &Line| line.dial.order == order && !line.is_over[0];
        self.list.iter().enumerate().filter(|(_, line)| is_it(line)).map(|(at, _)| at).collect()
    }
}
