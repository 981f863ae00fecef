//! THE QUEUE in front of a socket: bounded, the only one, and nothing at all while nothing waits.

use std::cell::Cell;

use super::frames::{Frame, Frames};
use super::slab::{CHUNK, Entry, NIL, Slab};
use crate::shard::Slices;

/// What may happen to a frame whose reader is slow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Never dropped: when it does not fit, the connection is evicted.
    Durable,
    /// Dropped above the soft limit, also when it waits already.
    Transient,
    /// Pong, Close, goodbye: small, and may pass the hard limit by `CONTROL_BYTES_MAX`.
    Control,
}

/// Bounds of one connection's outbox, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    pub soft_bytes: u32,
    pub bytes_max: u32,
}

/// By how much control frames may pass the hard limit.
pub const CONTROL_BYTES_MAX: u32 = 1_024;

/// What became of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "First must be told to the driver, Overflow must evict"]
pub enum Appended {
    /// It waits, and nothing waited before it: say `Effect::Dirty`.
    First,
    /// It waits behind others.
    Queued,
    /// Transient, and the reader is slow: it was dropped.
    Dropped,
    /// It does not fit: the caller evicts the connection. Nothing was appended.
    Overflow,
}

/// What is left after a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rest {
    Drained,
    Waiting,
}

/// Per shard: the outboxes of all connections of the core, by connection index.
#[derive(Debug, Default)]
pub struct Outboxes {
    frames: Frames,
    /// By connection index: the place of its box, or `NIL`.
    by_index: Vec<Box<[u32; CHUNK]>>,
    boxes: Slab<Outbox>,
    nodes: Slab<Node>,
    /// Places of boxes that hold more than `LARGE_BYTES`: among them is the largest.
    large: Vec<u32>,
    bytes: u64,
    transients_dropped: u64,
    /// Counts boxes made and writes that took something.
    progress: u32,
}

/// The queue of one connection while something waits. `bytes` 0: vacant, and `head` is the next vacant one.
#[derive(Debug)]
struct Outbox {
    /// Places of the first and the last node.
    head: u32,
    tail: u32,
    /// Bytes of the first frame that the kernel took already.
    at: u32,
    /// Bytes that wait.
    bytes: u32,
    /// Bytes that the driver borrowed for a write whose `Sent` is still to come: these frames stay whatever happens.
    offered: Cell<u32>,
    /// Transient frames among the nodes.
    transients: u32,
    index: u32,
    /// Where this box is in `Outboxes::large`, or `NIL`.
    large: u32,
    /// `Outboxes::progress` when it was made, or when bytes were taken of it last.
    progress: u32,
}

/// One frame in one queue. The top bit of `frame` says transient. A vacant node has `VACANT` there.
#[derive(Debug)]
struct Node {
    frame: u32,
    next: u32,
}

const TRANSIENT: u32 = 1 << 31;
const VACANT: u32 = u32::MAX;
const LARGE_BYTES: u32 = 16 << 10;

const _: () = assert!(size_of::<Node>() == 8);
const _: () = assert!(size_of::<Outbox>() == 36);

impl Entry for Node {
    fn vacant(next: u32) -> Self {
        Self { frame: VACANT, next }
    }
    fn next_vacant(&self) -> Option<u32> {
        (self.frame == VACANT).then_some(self.next)
    }
}

impl Entry for Outbox {
    fn vacant(next: u32) -> Self {
        Self {
            head: next,
            tail: NIL,
            at: 0,
            bytes: 0,
            offered: Cell::new(0),
            transients: 0,
            index: 0,
            large: NIL,
            progress: 0,
        }
    }
    fn next_vacant(&self) -> Option<u32> {
        (self.bytes == 0).then_some(self.head)
    }
}

impl Outboxes {
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps a frame for the appends that follow; `release` it after the last one.
    pub fn put(&mut self, bytes: &[u8]) -> Frame {
        self.frames.put(bytes)
    }

    /// The maker of a frame lets go: it lives as long as an outbox holds it.
    pub fn release(&mut self, frame: Frame) {
        self.frames.release(frame);
    }

    /// Appends a frame that nobody else gets.
    pub fn append_bytes(
        &mut self,
        index: u32,
        bytes: &[u8],
        kind: Kind,
        bounds: Bounds,
    ) -> Appended {
        let frame = self.put(bytes);
        let appended = self.append(index, &frame, kind, bounds);
        self.release(frame);
        appended
    }

    /// Appends a shared frame to the outbox of the connection with this index.
    pub fn append(&mut self, index: u32, frame: &Frame, kind: Kind, bounds: Bounds) -> Appended {
        let frame = frame.0;
        let len = self.frames.bytes_of(frame).len() as u32;
        let place = self.place(index);
        let waiting = if place == NIL { 0 } else { self.boxes[place].bytes };
        let after = waiting.saturating_add(len);
        if after > bounds.soft_bytes && waiting > 0 {
            if kind == Kind::Transient {
                self.transients_dropped += 1;
                return Appended::Dropped;
            }
            return self.append_slow(place, frame, len, kind, bounds);
        }
        if after > bounds.bytes_max && kind != Kind::Control {
            return Appended::Overflow;
        }
        self.link(index, place, frame, len, kind)
    }

    /// The rare half of `append`: the reader is slow, so transient frames go first.
    #[cold]
    fn append_slow(
        &mut self,
        place: u32,
        frame: u32,
        len: u32,
        kind: Kind,
        bounds: Bounds,
    ) -> Appended {
        let index = self.boxes[place].index;
        if self.boxes[place].transients > 0 {
            self.drop_queued(place, |node| node.frame & TRANSIENT != 0);
        }
        let place = self.place(index);
        let waiting = if place == NIL { 0 } else { self.boxes[place].bytes };
        let extra = if kind == Kind::Control { CONTROL_BYTES_MAX } else { 0 };
        if waiting.saturating_add(len) > bounds.bytes_max.saturating_add(extra) {
            return Appended::Overflow;
        }
        // When all that waited was dropped, the driver still believes the connection dirty: one word too many is harmless.
        self.link(index, place, frame, len, kind)
    }

    /// Lends what waits, oldest first, until `into` has enough for one write.
    pub fn outgoing<'a>(&'a self, index: u32, into: &mut Slices<'a>) {
        let place = self.place(index);
        if place == NIL {
            return;
        }
        let outbox = &self.boxes[place];
        let (mut node, mut at) = (outbox.head, outbox.at as usize);
        let before = into.bytes;
        while node != NIL {
            let Node { frame, next } = self.nodes[node];
            if !into.push(&self.frames.bytes_of(frame & !TRANSIENT)[at..]) {
                break;
            }
            (node, at) = (next, 0);
        }
        outbox.offered.set((into.bytes - before) as u32);
    }

    /// The kernel took `bytes` of what `outgoing` lent; frames may be taken in part.
    ///
    /// # Panics
    /// When that is more than waits.
    pub fn sent(&mut self, index: u32, bytes: usize) -> Rest {
        let place = self.place(index);
        if place == NIL {
            assert!(bytes == 0, "nothing waited, nothing was sent");
            return Rest::Drained;
        }
        self.progress = self.progress.wrapping_add(u32::from(bytes > 0));
        let outbox = &mut self.boxes[place];
        outbox.offered.set(0);
        if bytes > 0 {
            outbox.progress = self.progress;
        }
        let bytes = u32::try_from(bytes).expect("an outbox is below 4 GiB");
        let left = outbox.bytes.checked_sub(bytes).expect("no more is sent than waits");
        self.bytes -= u64::from(bytes);
        let mut taken = outbox.at + bytes;
        let (mut head, mut transients) = (outbox.head, outbox.transients);
        while head != NIL {
            let frame = self.nodes[head].frame;
            let len = self.frames.bytes_of(frame & !TRANSIENT).len() as u32;
            if taken < len {
                break;
            }
            taken -= len;
            transients -= u32::from(frame & TRANSIENT != 0);
            let node = self.nodes.remove(head);
            self.frames.let_go(frame & !TRANSIENT);
            head = node.next;
        }
        if left == 0 {
            assert!(head == NIL && taken == 0, "bytes and frames agree");
            self.forget(place);
            return Rest::Drained;
        }
        let outbox = &mut self.boxes[place];
        (outbox.head, outbox.at, outbox.transients) = (head, taken, transients);
        self.set_bytes(place, left);
        Rest::Waiting
    }

    /// Drops all that waits: the connection is gone.
    pub fn clear(&mut self, index: u32) {
        let place = self.place(index);
        if place == NIL {
            return;
        }
        let outbox = &self.boxes[place];
        let mut node = outbox.head;
        self.bytes -= u64::from(outbox.bytes);
        while node != NIL {
            let Node { frame, next } = self.nodes.remove(node);
            self.frames.let_go(frame & !TRANSIENT);
            node = next;
        }
        self.forget(place);
    }

    /// Drops all that waits but what was begun or is being written: room for a last word before a Close.
    pub fn cut(&mut self, index: u32) {
        let place = self.place(index);
        if place != NIL {
            self.drop_queued(place, |_| true);
        }
    }

    /// Bytes that wait for this connection.
    pub fn waiting_bytes(&self, index: u32) -> u32 {
        match self.place(index) {
            NIL => 0,
            place => self.boxes[place].bytes,
        }
    }

    /// Something that changes whenever bytes of this connection are taken; `None`: nothing waits.
    pub fn progress(&self, index: u32) -> Option<u32> {
        match self.place(index) {
            NIL => None,
            place => Some(self.boxes[place].progress),
        }
    }

    /// The connection with the most waiting bytes: whom to evict when the core's budget is spent.
    pub fn largest(&self) -> Option<u32> {
        let large = self.large.iter().map(|&place| &self.boxes[place]).max_by_key(|b| b.bytes);
        // Below LARGE_BYTES all are alike.
        let outbox = large.or_else(|| self.boxes.iter().map(|(_, outbox)| outbox).next())?;
        Some(outbox.index)
    }

    /// Waiting bytes of all connections; a shared frame counts once for each.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Connections for which something waits.
    pub fn waiting(&self) -> u32 {
        self.boxes.count()
    }

    /// Frames in queues; a shared frame counts once for each.
    pub fn queued(&self) -> u32 {
        self.nodes.count()
    }

    /// The shared frames themselves.
    pub fn frames(&self) -> &Frames {
        &self.frames
    }

    /// Transient frames that were dropped, ever.
    pub fn transients_dropped(&self) -> u64 {
        self.transients_dropped
    }

    /// Bytes that the tables take, frames not included.
    pub fn table_bytes(&self) -> usize {
        self.by_index.len() * size_of::<[u32; CHUNK]>() + self.boxes.bytes() + self.nodes.bytes()
    }

    fn place(&self, index: u32) -> u32 {
        let index = index as usize;
        self.by_index.get(index / CHUNK).map_or(NIL, |chunk| chunk[index % CHUNK])
    }

    fn set_place(&mut self, index: u32, place: u32) {
        let index = index as usize;
        while self.by_index.len() <= index / CHUNK {
            self.by_index.push(Box::new([NIL; CHUNK]));
        }
        self.by_index[index / CHUNK][index % CHUNK] = place;
    }

    fn link(&mut self, index: u32, place: u32, frame: u32, len: u32, kind: Kind) -> Appended {
        self.frames.hold(frame);
        self.bytes += u64::from(len);
        let transient = kind == Kind::Transient;
        let bits = if transient { TRANSIENT } else { 0 };
        let node = self.nodes.insert(Node { frame: frame | bits, next: NIL });
        if place == NIL {
            self.progress = self.progress.wrapping_add(1);
            let place = self.boxes.insert(Outbox {
                progress: self.progress,
                head: node,
                tail: node,
                bytes: len,
                transients: u32::from(transient),
                index,
                ..Outbox::vacant(NIL)
            });
            self.set_place(index, place);
            self.set_bytes(place, len);
            return Appended::First;
        }
        let outbox = &mut self.boxes[place];
        outbox.transients += u32::from(transient);
        let tail = std::mem::replace(&mut outbox.tail, node);
        let bytes = outbox.bytes + len;
        self.nodes[tail].next = node;
        self.set_bytes(place, bytes);
        Appended::Queued
    }

    /// Unlinks the chosen ones of those frames that no write has touched.
    fn drop_queued(&mut self, place: u32, chosen: impl Fn(&Node) -> bool) {
        let outbox = &self.boxes[place];
        let (mut node, mut kept, index) = (outbox.head, NIL, outbox.index);
        let mut touched = outbox.at + outbox.offered.get();
        let mut bytes = outbox.bytes;
        while node != NIL {
            let (bits, next) = (self.nodes[node].frame, self.nodes[node].next);
            let frame = bits & !TRANSIENT;
            let len = self.frames.bytes_of(frame).len() as u32;
            if touched > 0 || !chosen(&self.nodes[node]) {
                touched = touched.saturating_sub(len);
                kept = node;
            } else {
                self.nodes.remove(node);
                self.frames.let_go(frame);
                bytes -= len;
                let outbox = &mut self.boxes[place];
                if bits & TRANSIENT != 0 {
                    outbox.transients -= 1;
                    self.transients_dropped += 1;
                }
                if kept == NIL {
                    outbox.head = next;
                } else {
                    self.nodes[kept].next = next;
                }
            }
            node = next;
        }
        self.bytes -= u64::from(self.boxes[place].bytes - bytes);
        if kept == NIL {
            debug_assert_eq!(self.place(index), place, "an index has one box");
            self.forget(place);
        } else {
            self.boxes[place].tail = kept;
            self.set_bytes(place, bytes);
        }
    }

    fn set_bytes(&mut self, place: u32, bytes: u32) {
        let outbox = &mut self.boxes[place];
        outbox.bytes = bytes;
        if (bytes > LARGE_BYTES) == (outbox.large != NIL) {
            return;
        }
        if bytes > LARGE_BYTES {
            outbox.large = self.large.len() as u32;
            self.large.push(place);
        } else {
            self.small_again(place);
        }
    }

    fn small_again(&mut self, place: u32) {
        let at = std::mem::replace(&mut self.boxes[place].large, NIL);
        if at == NIL {
            return;
        }
        self.large.swap_remove(at as usize);
        if let Some(&moved) = self.large.get(at as usize) {
            self.boxes[moved].large = at;
        }
    }

    fn forget(&mut self, place: u32) {
        self.small_again(place);
        let outbox = &mut self.boxes[place];
        // A vacant box is one without bytes; the slab asks that of nobody else.
        outbox.bytes = outbox.bytes.max(1);
        let outbox = self.boxes.remove(place);
        self.set_place(outbox.index, NIL);
    }
}
