//! Byte streams between clients and cores: torn anywhere, slow, stopped, ended, reset, or silent with nobody told.
//!
//! The server's side behaves as the sockets of `runtime/` do: at most what a small kernel buffer takes is written, then it is blocked
//! until the client has read; a close writes what waits and lingers.

use std::collections::VecDeque;
use std::net::SocketAddr;

use campanile::ids::Conn;

use crate::agenda::{Agenda, Arrival, Happening, micros, millis};
use crate::random::Random;

/// How one direction of a stream ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Open,
    /// After everything before it.
    Fin,
    /// At once.
    Reset,
}

/// How a reader takes bytes.
#[derive(Clone, Copy, Debug)]
struct Bite {
    bytes_max: u64,
    pause_us: u64,
    /// After so many bites everything is said that tearing can say: then they are large.
    left: u32,
}

/// Of a few bytes each: a greeting and some frames.
const TINY_BITES: u32 = 300;

impl Bite {
    /// Of so many bytes, at most so many now.
    fn of(&mut self, waiting: usize) -> u64 {
        match self.left.checked_sub(1) {
            Some(left) => self.left = left,
            None => (self.bytes_max, self.pause_us) = (self.bytes_max.max(1_500), 100),
        }
        self.bytes_max.min(waiting as u64)
    }
}

#[derive(Debug)]
pub(crate) struct Socket {
    /// `None`: a stranger.
    pub(crate) client: Option<usize>,
    /// Where it ends: which node, which process of it, which core.
    pub(crate) node: usize,
    pub(crate) process: u32,
    pub(crate) core: usize,
    pub(crate) conn: Conn,
    /// From the client to the server, and how that ends.
    up: VecDeque<u8>,
    up_end: End,
    up_is_due: bool,
    up_bite: Bite,
    /// From the server to the client.
    down: VecDeque<u8>,
    down_end: End,
    down_is_due: bool,
    down_bite: Bite,
    /// Bytes that lie between the server's write and the client's read.
    capacity: usize,
    /// In a thousand: writes of which the kernel takes less than it could.
    stingy: u64,
    /// Nothing passes any more, and nobody is told.
    pub(crate) is_silent: bool,
    /// The client does not read.
    pub(crate) is_stopped: bool,
    /// The client reads this many times slower.
    pub(crate) slowness: u64,
    pub(crate) server: Server,
}

/// The server's side.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Server {
    pub(crate) is_open: bool,
    pub(crate) is_dirty: bool,
    pub(crate) is_blocked: bool,
    pub(crate) is_paused: bool,
    /// Closed by the gateway: what waits is still written.
    pub(crate) is_closing: bool,
    /// Our side is shut; the other is read until it ends.
    pub(crate) is_lingering: bool,
    /// The client's side ended.
    pub(crate) has_ended: bool,
    pub(crate) is_doomed: bool,
    /// It is to be told that the kernel takes bytes again.
    pub(crate) is_waking: bool,
}

/// Places of one core's connections.
#[derive(Debug, Default)]
struct Table {
    by_index: Vec<Option<usize>>,
    generations: Vec<u32>,
    free: Vec<u32>,
}

/// All sockets there ever were.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) random: Random,
    pub(crate) sockets: Vec<Socket>,
    /// By node and core.
    tables: Vec<Vec<Table>>,
    connections_max: usize,
}

/// What a client reads.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Read {
    Nothing,
    Bytes(Vec<u8>),
    Over,
}

impl Network {
    pub(crate) fn new(random: Random, nodes: usize, connections_max: u32) -> Self {
        Self {
            random,
            sockets: Vec::new(),
            tables: (0..nodes).map(|_| Vec::new()).collect(),
            connections_max: connections_max as usize,
        }
    }

    /// Somebody connects, to a core that the kernel chooses. The socket.
    pub(crate) fn open(
        &mut self,
        agenda: &mut Agenda,
        client: Option<usize>,
        (node, process): (usize, u32),
    ) -> usize {
        let core = self.random.below(self.tables[node].len() as u64) as usize;
        let number = self.sockets.len();
        let (up_bite, down_bite) = (self.bite(), self.bite());
        let capacity = *self.random.pick(&[600, 2_000, 8_000, 64_000]);
        let stingy = *self.random.pick(&[0, 0, 100, 500]);
        let table = &mut self.tables[node][core];
        let in_use = table.by_index.iter().flatten().count();
        let is_full = in_use >= self.connections_max;
        let conn = if is_full { Conn(0) } else { table.take(core as u8, number) };
        self.sockets.push(Socket {
            client,
            node,
            process,
            core,
            conn,
            up: VecDeque::new(),
            up_end: End::Open,
            up_is_due: false,
            up_bite,
            down: VecDeque::new(),
            down_end: if is_full { End::Reset } else { End::Open },
            down_is_due: false,
            down_bite,
            capacity,
            stingy,
            is_silent: false,
            is_stopped: false,
            slowness: 1,
            server: Server { is_open: !is_full, ..Server::default() },
        });
        if is_full {
            self.plan_down(agenda, number);
        } else {
            let what = Arrival::Accepted { socket: number };
            agenda.after(micros(20), Happening::Arrive { process, place: core, what });
        }
        number
    }

    fn bite(&mut self) -> Bite {
        let bytes_max = *self.random.pick(&[3, 40, 300, 1_500, 1_500, 64_000, 64_000, 64_000]);
        let pause_us = if bytes_max < 100 { 60 } else { *self.random.pick(&[100, 300, 2_000]) };
        let left = if bytes_max < 100 { TINY_BITES } else { u32::MAX };
        Bite { bytes_max, pause_us, left }
    }

    /// The socket of a connection that is open.
    pub(crate) fn of(&self, node: usize, conn: Conn) -> Option<usize> {
        let table = self.tables[node].get(usize::from(conn.core()))?;
        let socket = (*table.by_index.get(conn.index() as usize)?)?;
        (self.sockets[socket].conn == conn).then_some(socket)
    }

    pub(crate) fn remote() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 40_000))
    }

    /// A conn is over: its place is free for another.
    pub(crate) fn forget(&mut self, socket: usize) {
        let one = &mut self.sockets[socket];
        one.server = Server::default();
        let (node, core, conn) = (one.node, one.core, one.conn);
        self.tables[node][core].give_back(conn);
    }

    // ---- the client's side

    /// The client writes.
    pub(crate) fn write(&mut self, agenda: &mut Agenda, socket: usize, bytes: &[u8]) {
        let one = &mut self.sockets[socket];
        if one.up_end == End::Open {
            one.up.extend(bytes);
            self.plan_up(agenda, socket);
        }
    }

    /// The client ends its side, or resets the connection.
    pub(crate) fn end(&mut self, agenda: &mut Agenda, socket: usize, how: End) {
        let one = &mut self.sockets[socket];
        if one.up_end != End::Reset {
            one.up_end = how;
            if how == End::Reset {
                one.up.clear();
            }
            self.plan_up(agenda, socket);
        }
    }

    fn plan_up(&mut self, agenda: &mut Agenda, socket: usize) {
        let pause = self.sockets[socket].up_bite.pause_us;
        let jitter = self.random.below(pause);
        let one = &mut self.sockets[socket];
        if !one.up_is_due && !one.is_silent {
            one.up_is_due = true;
            agenda.after(micros(pause + jitter), Happening::Up { socket });
        }
    }

    /// Bytes of the client come to the server.
    pub(crate) fn up(&mut self, agenda: &mut Agenda, socket: usize) -> Option<Arrival> {
        let one = &mut self.sockets[socket];
        one.up_is_due = false;
        let server = one.server;
        if one.is_silent || !server.is_open {
            return None;
        }
        if one.up_end == End::Reset {
            return Some(Arrival::Broken { socket });
        }
        if server.is_paused {
            return None;
        }
        if one.up.is_empty() {
            return (one.up_end == End::Fin && !server.has_ended)
                .then_some(Arrival::Ended { socket });
        }
        let bite = one.up_bite.of(one.up.len());
        let len = self.random.between(1, bite) as usize;
        let one = &mut self.sockets[socket];
        let bytes = one.up.drain(..len).collect();
        if !one.up.is_empty() || one.up_end != End::Open {
            self.plan_up(agenda, socket);
        }
        Some(Arrival::Bytes { socket, bytes })
    }

    fn plan_down(&mut self, agenda: &mut Agenda, socket: usize) {
        let pause = self.sockets[socket].down_bite.pause_us;
        let jitter = self.random.below(pause);
        let one = &mut self.sockets[socket];
        let is_over = one.down_end == End::Reset;
        if !one.down_is_due && !one.is_silent && (!one.is_stopped || is_over) {
            one.down_is_due = true;
            let pause = micros((pause + jitter) * one.slowness);
            agenda.after(pause, Happening::Down { socket });
        }
    }

    /// The client reads.
    pub(crate) fn down(&mut self, agenda: &mut Agenda, socket: usize) -> Read {
        let one = &mut self.sockets[socket];
        one.down_is_due = false;
        if one.is_silent || (one.is_stopped && one.down_end != End::Reset) {
            return Read::Nothing;
        }
        if one.down.is_empty() {
            return if one.down_end == End::Open { Read::Nothing } else { Read::Over };
        }
        let bite = one.down_bite.of(one.down.len());
        let len = self.random.between(1, bite) as usize;
        let one = &mut self.sockets[socket];
        let bytes = one.down.drain(..len).collect();
        if one.down.len() * 3 <= one.capacity * 2 {
            one.tell_writable(agenda, socket);
        }
        if !one.down.is_empty() || one.down_end != End::Open {
            self.plan_down(agenda, socket);
        }
        Read::Bytes(bytes)
    }

    /// A reader that stood still, or was slow, goes on.
    pub(crate) fn wake(&mut self, agenda: &mut Agenda, socket: usize) {
        self.plan_down(agenda, socket);
    }

    // ---- the server's side

    /// The server writes what the outbox lends: how much of it the kernel takes.
    pub(crate) fn send(&mut self, agenda: &mut Agenda, socket: usize, slices: &[&[u8]]) -> usize {
        let given: usize = slices.iter().map(|slice| slice.len()).sum();
        let one = &self.sockets[socket];
        let room = one.capacity.saturating_sub(one.down.len());
        let mut taken = given.min(room);
        if taken > 0 && self.random.chance(self.sockets[socket].stingy) {
            taken = self.random.between(0, taken as u64) as usize;
        }
        let one = &mut self.sockets[socket];
        let mut left = taken;
        for slice in slices {
            let part = left.min(slice.len());
            one.down.extend(&slice[..part]);
            left -= part;
        }
        if taken < given {
            one.server.is_blocked = true;
            if one.down.is_empty() && !one.is_silent {
                // A kernel that took nothing although it could is writable at once.
                one.tell_writable(agenda, socket);
            }
        }
        self.plan_down(agenda, socket);
        taken
    }

    /// The server ends its side: the client reads what is on its way, and sees the end; or a reset, which eats it.
    pub(crate) fn shut(&mut self, agenda: &mut Agenda, socket: usize, how: End) {
        let lost = self.random.chance(500);
        let one = &mut self.sockets[socket];
        if one.down_end == End::Open || how == End::Reset {
            one.down_end = how;
            if how == End::Reset && lost {
                one.down.clear();
            }
            self.plan_down(agenda, socket);
        }
    }

    /// The server reads on after a pause.
    pub(crate) fn read_on(&mut self, agenda: &mut Agenda, socket: usize) {
        self.plan_up(agenda, socket);
    }

    /// A node's process is gone: its clients are told by a reset, or by nobody.
    pub(crate) fn crash(&mut self, agenda: &mut Agenda, process: u32, is_told: bool) {
        for socket in 0..self.sockets.len() {
            let one = &self.sockets[socket];
            if one.process == process && one.server.is_open {
                self.forget(socket);
                if is_told {
                    self.shut(agenda, socket, End::Reset);
                } else {
                    self.sockets[socket].is_silent = true;
                }
            }
        }
    }

    /// A new process numbers its connections from the beginning.
    pub(crate) fn restart(&mut self, node: usize, cores: usize) {
        self.tables[node] = (0..cores).map(|_| Table::default()).collect();
    }

    pub(crate) fn linger(agenda: &mut Agenda, socket: usize, ms: u64) {
        agenda.after(millis(ms), Happening::Linger { socket });
    }
}

impl Socket {
    /// The kernel takes bytes again.
    fn tell_writable(&mut self, agenda: &mut Agenda, socket: usize) {
        let server = &mut self.server;
        if server.is_open && server.is_blocked && !server.is_waking {
            server.is_waking = true;
            let (process, place) = (self.process, self.core);
            let what = Arrival::Writable { socket };
            agenda.after(micros(10), Happening::Arrive { process, place, what });
        }
    }
}

impl Table {
    fn take(&mut self, core: u8, socket: usize) -> Conn {
        let index = self.free.pop().unwrap_or_else(|| {
            self.by_index.push(None);
            self.generations.push(0);
            self.by_index.len() as u32 - 1
        });
        self.by_index[index as usize] = Some(socket);
        self.generations[index as usize] += 1;
        Conn::new(core, index, self.generations[index as usize])
    }

    fn give_back(&mut self, conn: Conn) {
        self.by_index[conn.index() as usize] = None;
        self.free.push(conn.index());
    }
}
