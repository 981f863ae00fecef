//! The sockets of one core: accepted, polled, read into one scratch, written at most once a turn. No task and no buffer per connection.
//!
//! The only queue in front of a socket is the gateway's outbox. A connection is `dirty` while that may hold bytes, and `blocked` while the
//! kernel takes none.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, Shutdown, getpeername, recv, shutdown, sockopt};

use super::handed::HandedOver;
use super::uring::{Completion, HANGUPS, Op, Tag, Uring, Write, accepted};
use crate::ids::Conn;
use crate::shard::{Class, Edge, Slices, Why};
use crate::time::{Mono, sooner};

const CHUNK: usize = 1_024;
/// Bytes of one write at most.
const WRITE_BYTES_MAX: usize = 64 << 10;
/// Writes of one call into the kernel: between two calls the loop looks at its inputs.
const WRITES_MAX: usize = 64;
/// Small writes are picked before big ones; but of so many one is a big one, so that both go on.
const SMALL_FOR_A_BIG: u32 = 8;
/// Reads of one connection before others have their turn.
const READS_MAX: usize = 4;
/// How long a connection that we closed may still be read, so that its last words are not lost by a reset.
const LINGER: Duration = Duration::from_secs(1);
/// How long its last words may take to be written.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// After an accept that found no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const OPEN: u16 = 1;
const DIRTY: u16 = 1 << 1;
const BLOCKED: u16 = 1 << 2;
const PAUSED: u16 = 1 << 3;
/// Waits for its turn to be read.
const READABLE: u16 = 1 << 4;
/// Closed by the gateway: what waits is still written.
const CLOSING: u16 = 1 << 5;
/// Everything is written, our side is shut; the other side is read until it ends.
const LINGERING: u16 = 1 << 6;
/// The client's side ended.
const ENDED: u16 = 1 << 7;
/// Closed with a reset, or broken: waits for its end in this turn.
const DOOMED: u16 = 1 << 8;
/// The kernel told of an end: it is read until that is seen.
const HUNG_UP: u16 = 1 << 9;
/// Somebody else's: it is not closed with the others that are over.
const HANDED: u16 = 1 << 10;

/// One place of the table.
#[derive(Debug)]
struct Socket {
    fd: Option<OwnedFd>,
    generation: u32,
    flags: u16,
}

const _: () = assert!(size_of::<Socket>() <= 24, "a million of them");

/// What happened to a connection, for the gateway.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    Accepted(Conn, SocketAddr),
    Writable(Conn),
    Sent(Conn, usize),
    Closed(Conn, Why),
}

/// When a connection is over, its place and its generation.
type Due = (Mono, u32, u32);

/// The first connection of a queue, if its time is over.
fn next_over(queue: &mut VecDeque<Due>, now: Mono) -> Option<(u32, u32)> {
    let &(due, index, generation) = queue.front()?;
    if due > now {
        return None;
    }
    queue.pop_front();
    Some((index, generation))
}

/// Per core.
pub(super) struct Sockets {
    pub(super) uring: Uring,
    core: u8,
    /// What others wake this core by: open as long as this is.
    bell: RawFd,
    listener: Option<OwnedFd>,
    accept_at: Option<Mono>,
    chunks: Vec<Box<[Socket]>>,
    free: Vec<u32>,
    count: u32,
    connections_max: u32,
    readable: VecDeque<u32>,
    small: VecDeque<u32>,
    big: VecDeque<u32>,
    ended: Vec<u32>,
    /// Those that are to have said their last words, and those that are shut and still read: in the order of their ends.
    leaving: VecDeque<Due>,
    lingering: VecDeque<Due>,
    /// Connections that were picked to be written, modulo [`SMALL_FOR_A_BIG`].
    picks: u32,
    /// Descriptors that the kernel may still name in an entry: closed after the next `enter`.
    graves: Vec<OwnedFd>,
    /// Handed over, and not out of the table yet: what was read of them, by place.
    read_of: Vec<(u32, Vec<u8>)>,
    /// The same, until the kernel has let go of them; and those who may go.
    handed: Vec<HandedOver>,
    released: Vec<HandedOver>,
    completions: Vec<Completion>,
    arena: Vec<u8>,
}

impl Sockets {
    pub(super) fn new(
        uring: Uring,
        core: u8,
        (bell, listener): (RawFd, Option<OwnedFd>),
        connections_max: u32,
    ) -> Self {
        let mut sockets = Self {
            uring,
            core,
            bell,
            listener,
            accept_at: None,
            chunks: Vec::new(),
            free: Vec::new(),
            count: 0,
            connections_max,
            readable: VecDeque::new(),
            small: VecDeque::new(),
            big: VecDeque::new(),
            ended: Vec::new(),
            leaving: VecDeque::new(),
            lingering: VecDeque::new(),
            picks: 0,
            graves: Vec::new(),
            read_of: Vec::new(),
            handed: Vec::new(),
            released: Vec::new(),
            completions: Vec::new(),
            arena: Vec::new(),
        };
        sockets.accept();
        sockets.hear_bell();
        sockets
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }

    fn hear_bell(&mut self) {
        self.uring.poll_wake(self.bell, Tag::new(Op::Wake, 0, 0));
    }

    fn accept(&mut self) {
        if let Some(listener) = &self.listener {
            self.uring.accept(listener.as_raw_fd(), Tag::new(Op::Accept, 0, 0));
        }
    }

    /// Nobody new comes in any more.
    pub(super) fn shut_door(&mut self) {
        if let Some(listener) = self.listener.take() {
            self.uring.cancel(Tag::new(Op::Accept, 0, 0));
            self.graves.push(listener);
        }
    }

    /// Whether there is something to do without the kernel telling anything new.
    pub(super) fn is_busy(&self) -> bool {
        !(self.readable.is_empty()
            && self.small.is_empty()
            && self.big.is_empty()
            && self.ended.is_empty()
            && self.handed.is_empty()
            && self.released.is_empty()
            && self.completions.is_empty())
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        let first = |queue: &VecDeque<Due>| queue.front().map(|(due, ..)| *due);
        sooner(sooner(first(&self.leaving), first(&self.lingering)), self.accept_at)
    }

    // ---- what the kernel says

    /// Enters the kernel once and takes what it tells.
    pub(super) fn look(&mut self, now: Mono, events: &mut Vec<Event>) {
        self.enter();
        self.uring.completions(&mut self.completions).expect("a ring that was made can be entered");
        let completions = std::mem::take(&mut self.completions);
        for &completion in &completions {
            self.completed(now, completion, events);
        }
        self.completions = completions;
        self.completions.clear();
        self.timed(now);
    }

    pub(super) fn enter(&mut self) {
        self.uring.enter().expect("a ring that was made can be entered");
        self.entered();
    }

    /// Sleeps until the kernel has something to tell.
    pub(super) fn sleep(&mut self) {
        self.uring.sleep().expect("a ring that was made can be entered");
        self.entered();
    }

    fn entered(&mut self) {
        self.graves.clear();
        // Their polls are cancelled now, and what those still tell is of an older generation.
        self.released.append(&mut self.handed);
    }

    fn completed(&mut self, now: Mono, completion: Completion, events: &mut Vec<Event>) {
        let Completion { tag, result, more } = completion;
        match tag.op {
            Op::Accept => {
                if result >= 0 {
                    self.accepted(accepted(result), events);
                }
                if !more && self.listener.is_some() {
                    if result >= 0 {
                        self.accept();
                    } else {
                        self.accept_at = Some(now + ACCEPT_PAUSE);
                    }
                }
            }
            Op::Readable => {
                let Some(fd) = self.fd_of(tag) else { return };
                if result < 0 {
                    return self.doom(tag.index);
                }
                if !more {
                    self.uring.poll_readable(fd, tag);
                }
                if result.cast_unsigned() & HANGUPS != 0 {
                    self.at(tag.index).flags |= HUNG_UP;
                }
                self.read_later(tag.index);
            }
            Op::Writable => {
                if self.fd_of(tag).is_none() {
                    return;
                }
                let conn = self.conn(tag.index);
                self.at(tag.index).flags &= !(BLOCKED | DIRTY);
                self.dirty(conn, Class::Small);
                events.push(Event::Writable(conn));
            }
            Op::Wake => {
                if !more {
                    self.hear_bell();
                }
            }
            Op::Send | Op::Deadline | Op::Cancel => {}
        }
    }

    fn accepted(&mut self, fd: OwnedFd, events: &mut Vec<Event>) {
        if self.count >= self.connections_max {
            // Closed at once: the gateway could give it no place either.
            return;
        }
        let Ok(Ok(remote)) = getpeername(&fd).map(|address| match address {
            Some(address) => SocketAddr::try_from(address).map_err(|_| ()),
            None => Err(()),
        }) else {
            return;
        };
        let index = self.free.pop().unwrap_or_else(|| self.grow());
        let raw = fd.as_raw_fd();
        let socket = self.at(index);
        socket.fd = Some(fd);
        socket.flags = OPEN;
        let generation = socket.generation;
        self.count += 1;
        self.uring.poll_readable(raw, Tag::new(Op::Readable, generation, index));
        events.push(Event::Accepted(self.conn(index), remote));
    }

    fn grow(&mut self) -> u32 {
        let first = (self.chunks.len() * CHUNK) as u32;
        let vacant = || Socket { fd: None, generation: 1, flags: 0 };
        self.chunks.push((0..CHUNK).map(|_| vacant()).collect());
        self.free.extend((first + 1..first + CHUNK as u32).rev());
        first
    }

    fn timed(&mut self, now: Mono) {
        if self.accept_at.is_some_and(|due| due <= now) {
            self.accept_at = None;
            self.accept();
        }
        while let Some((index, generation)) = next_over(&mut self.leaving, now) {
            let socket = self.at(index);
            // One that has said them has another second in which it is read.
            if socket.generation == generation && socket.flags & LINGERING == 0 {
                self.doom(index);
            }
        }
        while let Some((index, generation)) = next_over(&mut self.lingering, now) {
            if self.at(index).generation == generation {
                self.doom(index);
            }
        }
    }

    // ---- reading

    fn read_later(&mut self, index: u32) {
        let socket = self.at(index);
        if socket.flags & READABLE == 0 {
            socket.flags |= READABLE;
            if socket.flags & PAUSED == 0 {
                self.readable.push_back(index);
            }
        }
    }

    /// The next connection whose turn it is to be read.
    pub(super) fn next_readable(&mut self) -> Option<Conn> {
        while let Some(index) = self.readable.pop_front() {
            let flags = &mut self.at(index).flags;
            if *flags & PAUSED == 0 && *flags & READABLE != 0 {
                *flags &= !READABLE;
                return Some(self.conn(index));
            }
        }
        None
    }

    /// One read into the scratch. `None`: nothing is there now, or nothing more for this connection.
    pub(super) fn read(&mut self, conn: Conn, scratch: &mut [u8]) -> Option<usize> {
        let index = conn.index();
        for _ in 0..READS_MAX {
            let socket = self.live(conn)?;
            let flags = socket.flags;
            if flags & (PAUSED | DOOMED | ENDED) != 0 {
                return None;
            }
            let fd = socket.fd.as_ref().expect("open");
            match recv(fd, &mut *scratch, RecvFlags::DONTWAIT) {
                Ok((_, 0)) => {
                    self.ended(index);
                    return None;
                }
                // What a closed connection still says is thrown away.
                Ok(_) if flags & (CLOSING | LINGERING) != 0 => {}
                Ok((_, len)) => return Some(len),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return None,
                Err(_) => {
                    self.doom(index);
                    return None;
                }
            }
        }
        self.read_later(index);
        None
    }

    /// After a read: whether there may be more, so that others have their turn before it goes on. A short read is the end of what there
    /// was; what comes later, the kernel tells.
    pub(super) fn read_on(&mut self, conn: Conn, was_short: bool) {
        if self.live(conn).is_some_and(|socket| !was_short || socket.flags & HUNG_UP != 0) {
            self.read_later(conn.index());
        }
    }

    /// The client ended its side: what waits is written, then it is over.
    fn ended(&mut self, index: u32) {
        let socket = self.at(index);
        if socket.flags & (LINGERING | BLOCKED) != 0 {
            return self.doom(index);
        }
        socket.flags |= ENDED | CLOSING;
        let conn = self.conn(index);
        self.dirty(conn, Class::Small);
    }

    // ---- what the gateway wants

    pub(super) fn dirty(&mut self, conn: Conn, class: Class) {
        let index = conn.index();
        let Some(socket) = self.live(conn) else { return };
        let waits = socket.flags & (DIRTY | BLOCKED) != 0;
        socket.flags |= DIRTY;
        if !waits {
            match class {
                Class::Small => self.small.push_back(index),
                Class::Big => self.big.push_back(index),
            }
        }
    }

    pub(super) fn pause(&mut self, conn: Conn) {
        if let Some(socket) = self.live(conn) {
            socket.flags |= PAUSED;
        }
    }

    pub(super) fn resume(&mut self, conn: Conn) {
        let Some(socket) = self.live(conn) else { return };
        if socket.flags & PAUSED != 0 {
            socket.flags &= !PAUSED;
            // Edge triggered: what came meanwhile is told by nobody.
            socket.flags |= READABLE;
            self.readable.push_back(conn.index());
        }
    }

    pub(super) fn close(&mut self, conn: Conn, reset: bool, now: Mono) {
        let index = conn.index();
        let Some(socket) = self.live(conn) else { return };
        let generation = socket.generation;
        if reset {
            if let Some(fd) = &socket.fd {
                // A socket that cannot be told to reset is closed all the same.
                let _ = sockopt::set_socket_linger(fd, Some(Duration::ZERO));
            }
            socket.flags |= CLOSING;
            return self.doom(index);
        }
        if socket.flags & CLOSING != 0 {
            // The client ended its side, and does not take what waits for it.
            if socket.flags & ENDED != 0 {
                self.leaving.push_back((now + LAST_WORDS, index, generation));
            }
            return;
        }
        socket.flags |= CLOSING;
        self.leaving.push_back((now + LAST_WORDS, index, generation));
        // Its last bytes on the way in are still taken out of the kernel.
        self.resume(conn);
        self.read_later(index);
        self.dirty(conn, Class::Small);
    }

    /// Takes a connection out of the table without closing it: see `released`.
    pub(super) fn hand_over(&mut self, conn: Conn, read: &[u8]) {
        let index = conn.index();
        let Some(socket) = self.live(conn) else { return };
        // What ended meanwhile is over all the same.
        if socket.flags & DOOMED == 0 {
            socket.flags |= HANDED | CLOSING;
            self.read_of.push((index, read.to_vec()));
            self.doom(index);
        }
    }

    /// Connections that were handed over and that the ring knows no more.
    pub(super) fn released(&mut self) -> impl Iterator<Item = HandedOver> {
        self.released.drain(..)
    }

    fn doom(&mut self, index: u32) {
        let socket = self.at(index);
        if socket.flags & (OPEN | DOOMED) == OPEN {
            socket.flags |= DOOMED;
            self.ended.push(index);
        }
    }

    /// Connections that are over.
    pub(super) fn bury(&mut self, events: &mut Vec<Event>) {
        while let Some(index) = self.ended.pop() {
            let conn = self.conn(index);
            let socket = self.at(index);
            let why = match socket.flags {
                flags if flags & ENDED != 0 => Why::Ended,
                flags if flags & (CLOSING | LINGERING) != 0 => Why::Closed,
                _ => Why::Broken,
            };
            let was_blocked = socket.flags & BLOCKED != 0;
            let generation = socket.generation;
            let fd = socket.fd.take().expect("open until here");
            let is_handed = socket.flags & HANDED != 0;
            socket.flags = 0;
            socket.generation = (generation + 1) & 0x00ff_ffff;
            if is_handed {
                let at = self.read_of.iter().position(|(of, _)| *of == index);
                let (_, read) = self.read_of.swap_remove(at.expect("kept when it was handed over"));
                self.handed.push((fd, read));
            } else {
                self.graves.push(fd);
            }
            self.uring.cancel(Tag::new(Op::Readable, generation, index));
            if was_blocked {
                self.uring.cancel(Tag::new(Op::Writable, generation, index));
            }
            self.count -= 1;
            self.free.push(index);
            events.push(Event::Closed(conn, why));
        }
    }

    // ---- writing

    /// Writes to some of the dirty connections, each once: their outboxes lend the bytes for the time of the call.
    pub(super) fn flush(&mut self, gateway: &dyn Edge, now: Mono, events: &mut Vec<Event>) {
        let mut lent: Vec<(Conn, Slices<'_>)> = Vec::with_capacity(WRITES_MAX);
        let mut copied = 0;
        while lent.len() < WRITES_MAX
            && let Some(conn) = self.next_dirty()
        {
            let mut slices = Slices::new(WRITE_BYTES_MAX);
            gateway.outgoing(conn, &mut slices);
            if slices.bytes == 0 {
                self.emptied(conn, now);
                continue;
            }
            if slices.list.len() > 1 {
                copied += slices.bytes;
            }
            lent.push((conn, slices));
        }
        if lent.is_empty() {
            return;
        }
        let mut arena = std::mem::take(&mut self.arena);
        arena.clear();
        arena.reserve(copied);
        for (_, slices) in lent.iter().filter(|(_, slices)| slices.list.len() > 1) {
            for slice in &slices.list {
                arena.extend_from_slice(slice);
            }
        }
        let (mut rest, mut writes) = (&arena[..], Vec::with_capacity(lent.len()));
        for (at, (conn, slices)) in lent.iter().enumerate() {
            let bytes = match slices.list.as_slice() {
                [only] => only,
                _ => {
                    let (head, tail) = rest.split_at(slices.bytes);
                    rest = tail;
                    head
                }
            };
            let fd = self.raw(conn.index());
            // The place in this list comes back with what was not taken whole.
            writes.push(Write { tag: Tag::new(Op::Send, 0, at as u32), fd, bytes });
        }
        self.uring.send_all(&writes).expect("a ring that was made can be entered");
        self.graves.clear();
        let mut completions = Vec::new();
        self.uring.completions(&mut completions).expect("a ring that was made can be entered");
        let mut taken: Vec<i64> = writes.iter().map(|write| write.bytes.len() as i64).collect();
        for completion in completions {
            if completion.tag.op == Op::Send {
                taken[completion.tag.index as usize] = i64::from(completion.result);
            } else {
                self.completions.push(completion);
            }
        }
        let written: Vec<(Conn, usize, i64)> = lent
            .iter()
            .zip(&taken)
            .map(|((conn, slices), taken)| (*conn, slices.bytes, *taken))
            .collect();
        drop(writes);
        self.arena = arena;
        for (conn, given, taken) in written {
            self.written(conn, given, taken, events);
        }
    }

    fn next_dirty(&mut self) -> Option<Conn> {
        loop {
            self.picks = (self.picks + 1) % SMALL_FOR_A_BIG;
            let (first, second) = match self.picks {
                0 => (&mut self.big, &mut self.small),
                _ => (&mut self.small, &mut self.big),
            };
            let index = first.pop_front().or_else(|| second.pop_front())?;
            let flags = &mut self.at(index).flags;
            if *flags & OPEN != 0 && *flags & DIRTY != 0 && *flags & (BLOCKED | DOOMED) == 0 {
                *flags &= !DIRTY;
                return Some(self.conn(index));
            }
        }
    }

    /// The outbox has nothing more: a connection that closes is shut now.
    fn emptied(&mut self, conn: Conn, now: Mono) {
        let index = conn.index();
        let Some(socket) = self.live(conn) else { return };
        if socket.flags & CLOSING == 0 {
            return;
        }
        if socket.flags & ENDED != 0 {
            return self.doom(index);
        }
        if socket.flags & LINGERING != 0 {
            return;
        }
        socket.flags |= LINGERING;
        let generation = socket.generation;
        let is_shut = socket.fd.as_ref().is_some_and(|fd| shutdown(fd, Shutdown::Write).is_ok());
        if !is_shut {
            return self.doom(index);
        }
        self.lingering.push_back((now + LINGER, index, generation));
    }

    fn written(&mut self, conn: Conn, given: usize, taken: i64, events: &mut Vec<Event>) {
        let index = conn.index();
        let bytes = usize::try_from(taken).unwrap_or(0);
        events.push(Event::Sent(conn, bytes));
        if bytes == given {
            let flags = self.at(index).flags;
            // More may wait than one write takes; and a connection that closes is looked at once more.
            if given >= WRITE_BYTES_MAX || flags & CLOSING != 0 {
                self.dirty(conn, Class::Big);
            }
            return;
        }
        let is_full = taken >= 0 || taken == -i64::from(Errno::AGAIN.raw_os_error());
        if !is_full {
            return self.doom(index);
        }
        let socket = self.at(index);
        socket.flags |= BLOCKED | DIRTY;
        let (generation, fd) = (socket.generation, self.raw(index));
        self.uring.poll_writable(fd, Tag::new(Op::Writable, generation, index));
    }

    // ---- the table

    fn conn(&mut self, index: u32) -> Conn {
        let generation = self.at(index).generation;
        Conn::new(self.core, index, generation)
    }
    fn at(&mut self, index: u32) -> &mut Socket {
        &mut self.chunks[index as usize / CHUNK][index as usize % CHUNK]
    }
    fn raw(&mut self, index: u32) -> RawFd {
        self.at(index).fd.as_ref().expect("open").as_raw_fd()
    }
    /// Unless it is over, or a later connection has its place.
    fn live(&mut self, conn: Conn) -> Option<&mut Socket> {
        let socket = self.at(conn.index());
        let is_it = socket.flags & OPEN != 0 && socket.generation == conn.generation();
        is_it.then_some(socket)
    }
    fn fd_of(&mut self, tag: Tag) -> Option<RawFd> {
        let socket = self.at(tag.index);
        let is_it = socket.flags & OPEN != 0 && socket.generation == tag.generation;
        is_it.then(|| socket.fd.as_ref().expect("open").as_raw_fd())
    }
}
