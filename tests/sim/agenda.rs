//! What is to happen, and when: virtual time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;
use std::time::Duration;

use campanile::ids::{Ask, Peer, Role};
use campanile::ring::Ring;
use campanile::ring::change::Cell;
use campanile::time::Mono;
use campanile::wire::link::Batch;
use campanile::wire::stream::Identity;

use crate::lines::Dial;

/// Everything that can happen in the world.
#[derive(Debug)]
pub(crate) enum Happening {
    /// A place of a node takes its turn; void unless `number` is the one that it waits for.
    Turn {
        node: usize,
        place: usize,
        number: u64,
    },
    /// Something comes to a place of the process with this number.
    Arrive {
        process: u32,
        place: usize,
        what: Arrival,
    },
    /// The database does what was asked of it.
    Do {
        process: u32,
        role: Role,
        ask: Ask,
        question: Vec<u8>,
    },
    /// Bytes of a client come to the server's side of a socket.
    Up {
        socket: usize,
    },
    /// The client reads.
    Down {
        socket: usize,
    },
    /// The server's side of a closed socket waits no longer.
    Linger {
        socket: usize,
    },
    /// A client opens its socket; void unless `number` is its latest attempt.
    Open {
        client: usize,
        number: u64,
    },
    /// A client looks up.
    Client {
        client: usize,
    },
    /// Somebody uses the Web API.
    Api,
    /// Somebody who is no client opens a socket.
    Stranger,
    /// The faults with these places in the plan begin and end.
    Fault {
        at: usize,
    },
    Healed {
        at: usize,
    },
    /// A node's process starts.
    Start {
        node: usize,
    },
    /// A process looks for its place in the ring.
    Join {
        process: u32,
    },
    /// It follows the ring.
    Follow {
        process: u32,
    },
    /// A write of the ring reaches the store: over the ring with epoch `was`.
    Write {
        by: Writer,
        was: u64,
        next: Rc<Cell>,
    },
    /// A connection is tried.
    Dial(Dial),
    /// What a side of a connection sent arrives.
    Ferry {
        line: usize,
        side: usize,
    },
    /// A side has heard nothing for too long, if the wall with this number still stands.
    Silent {
        line: usize,
        side: usize,
        wall: u64,
    },
    /// A process goes on that stood still.
    GoOn {
        process: u32,
    },
    /// The operator looks at the ring.
    Operate,
    /// The process ends that was told to drain.
    Stop {
        process: u32,
    },
    /// Bounds and promptness are looked at.
    Look,
    /// Faults and workload stop.
    Quiet,
}

/// Who writes the ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Writer {
    /// A manager, who asked for it, against whom.
    Manager {
        process: u32,
        ask: Ask,
        dead: u64,
    },
    /// A manager, who evens out.
    Leveller {
        process: u32,
        ask: Ask,
    },
    /// Whoever takes its seats back.
    Joiner {
        process: u32,
    },
    Operator,
}

/// What a place hears of a connection to another node.
#[derive(Debug)]
pub(crate) enum Far {
    Met((Identity, u16), usize),
    Batch(Batch),
    Parted,
}

/// What comes to a place.
#[derive(Debug)]
pub(crate) enum Arrival {
    Far {
        line: usize,
        news: Far,
    },
    Ring(Rc<Ring>),
    Mail {
        from: usize,
        batch: Batch,
    },
    Answer {
        role: Role,
        ask: Ask,
        list: Vec<Vec<u8>>,
    },
    /// The writer tells the dispatcher of a committed row.
    Word(Vec<u8>),
    /// An HTTP handler says something to a shard.
    Http {
        to: Peer,
        message: Vec<u8>,
    },
    Accepted {
        socket: usize,
    },
    Bytes {
        socket: usize,
        bytes: Vec<u8>,
    },
    /// The client ended its side.
    Ended {
        socket: usize,
    },
    /// The connection was reset.
    Broken {
        socket: usize,
    },
    Writable {
        socket: usize,
    },
    Drain {
        until: Mono,
    },
}

/// When, in which order of those at once, and where in the list of happenings.
type Due = (Mono, u64, u32);

#[derive(Debug)]
pub(crate) struct Agenda {
    pub(crate) now: Mono,
    /// The soonest first; of two at once, the one that was planned first.
    due: BinaryHeap<Reverse<Due>>,
    /// What is due lies still here while its place in the order moves.
    happenings: Vec<Option<Happening>>,
    free: Vec<u32>,
    planned: u64,
}

/// Where virtual time begins: not at zero, so that nothing is early by accident.
pub(crate) const BEGIN: Mono = Mono(1_000_000_000_000);

impl Agenda {
    pub(crate) fn new() -> Self {
        Self {
            now: BEGIN,
            due: BinaryHeap::new(),
            happenings: Vec::new(),
            free: Vec::new(),
            planned: 0,
        }
    }

    pub(crate) fn at(&mut self, at: Mono, what: Happening) {
        self.planned += 1;
        let place = self.free.pop().unwrap_or_else(|| {
            self.happenings.push(None);
            self.happenings.len() as u32 - 1
        });
        self.happenings[place as usize] = Some(what);
        self.due.push(Reverse((at.max(self.now), self.planned, place)));
    }

    pub(crate) fn after(&mut self, pause: Duration, what: Happening) {
        self.at(self.now + pause, what);
    }

    /// Time goes on to the next happening.
    pub(crate) fn next(&mut self) -> Option<Happening> {
        let Reverse((at, _, place)) = self.due.pop()?;
        self.now = at;
        self.free.push(place);
        self.happenings[place as usize].take()
    }

    /// Since the beginning.
    pub(crate) fn age(&self) -> Duration {
        self.now.since(BEGIN)
    }
}

pub(crate) fn micros(count: u64) -> Duration {
    Duration::from_micros(count)
}

pub(crate) fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}
