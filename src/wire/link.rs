//! One end of a link between two cores, without what carries it: lives, bounds, acknowledgements, envelopes.
//!
//! Mail is a link without TCP: first in, first out, and when it overflows it breaks. Both ends then tell their shards that the peer is
//! lost, and begin a new life with a hello; what an older life said is ignored. Lost with a life: everything not yet received. The
//! bounds hold for everything that the other side has not handled yet, whether it waits here or is on its way. Each side tells its own with its
//! hello, and the larger hold for both: who asks as much as fits its own is answered, and told how far the other is before it is full.
//!
//! Owned by a driver, one per pair of cores; the shards only see `PeerUp`, `PeerRoom`, `PeerLost`, `Wire`.

use super::codec::{Broken, Field, Reader};
use super::room::Room;
use crate::ids::Role;
use crate::limits::LINK_FRAME_BYTES_MAX;

/// No sane bound of another node is above this: a frame has no more.
const THEIRS_BYTES_MAX: u64 = LINK_FRAME_BYTES_MAX as u64;

/// How much may be sent and not yet handled.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub bytes_max: usize,
    pub messages_max: u32,
}

impl Bounds {
    fn write(self, to: &mut Vec<u8>) {
        self.messages_max.write(to);
        (self.bytes_max as u64).write(to);
    }

    /// The larger of each, of ours and what a hello says. Older versions say nothing.
    fn or_theirs(self, hello: &[u8]) -> Self {
        let mut theirs = Reader::new(hello);
        let (Ok(messages_max), Ok(bytes_max)) = (u32::read(&mut theirs), u64::read(&mut theirs))
        else {
            return self;
        };
        Self {
            messages_max: self.messages_max.max(messages_max),
            bytes_max: self.bytes_max.max(bytes_max.min(THEIRS_BYTES_MAX) as usize),
        }
    }
}

/// How a message behaves when its link is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Breaks the link: what follows it would not be in order.
    Live,
    /// Waits at its sender for room, so it never meets a full link.
    Bulk,
    /// Is dropped, before the link is full: nobody misses it.
    Transient,
}

/// What is carried to the other side in one piece, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    pub life: u32,
    /// The first batch of a life.
    pub is_hello: bool,
    /// How much of this life's mail the sender of this batch has handled, from the life's beginning.
    pub handled: Handled,
    /// Messages in `bytes`.
    pub messages: u32,
    /// Envelopes: see [`envelopes`]; of a hello, the bounds of who says it.
    pub bytes: Vec<u8>,
}

/// Totals of one life; they wrap.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Handled {
    pub messages: u32,
    pub bytes: u64,
}

impl Handled {
    fn add(&mut self, messages: u32, bytes: usize) {
        self.messages = self.messages.wrapping_add(messages);
        self.bytes = self.bytes.wrapping_add(bytes as u64);
    }
    /// How much more than `earlier`.
    fn since(self, earlier: Self) -> Room {
        Room {
            messages: self.messages.wrapping_sub(earlier.messages),
            bytes: self.bytes.wrapping_sub(earlier.bytes),
        }
    }
}

/// What became of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sent {
    Queued,
    /// The link is down: the sender was told so and will say it again after `PeerUp`.
    Down,
    /// It was transient, and the other side is slow.
    Dropped,
    /// It did not fit: the link is down now, and everything waiting is gone.
    Overflowed,
}

/// What a batch of the other side means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received {
    /// Of an older life, or only an acknowledgement.
    Nothing,
    /// A new life began; `was_up`: an older one ended with it, so say `PeerLost` first.
    Up { life: u32, was_up: bool },
    /// Envelopes, to be handled before the next `take`.
    Mail,
}

#[derive(Debug)]
pub struct Link {
    /// What we were given, and what holds in this life.
    own: Bounds,
    bounds: Bounds,
    life: u32,
    is_up: bool,
    hello_is_due: bool,
    bulk_is_out: bool,
    waiting: Vec<u8>,
    waiting_messages: u32,
    /// Everything taken to the other side in this life, and what of it was handled there.
    taken: Handled,
    taken_handled: Handled,
    /// What came from the other side and was handled here, and what of it we said.
    handled: Handled,
    handled_told: Handled,
}

impl Link {
    /// A link that says hello with its first batch.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            own: bounds,
            bounds,
            life: 1,
            is_up: false,
            hello_is_due: true,
            bulk_is_out: false,
            waiting: Vec::new(),
            waiting_messages: 0,
            taken: Handled::default(),
            taken_handled: Handled::default(),
            handled: Handled::default(),
            handled_told: Handled::default(),
        }
    }

    /// Queues one message.
    pub fn send(&mut self, from: Role, to: Role, message: &[u8], class: Class) -> Sent {
        if !self.is_up {
            return Sent::Down;
        }
        let out = self.outstanding();
        let bytes = out.bytes as usize + message.len() + ENVELOPE_BYTES;
        if class == Class::Transient && !self.is_low(out.messages, bytes) {
            return Sent::Dropped;
        }
        if out.messages >= self.bounds.messages_max || bytes > self.bounds.bytes_max {
            self.break_off();
            return Sent::Overflowed;
        }
        (from as u8).write(&mut self.waiting);
        (to as u8).write(&mut self.waiting);
        message.write(&mut self.waiting);
        self.waiting_messages += 1;
        self.bulk_is_out |= class == Class::Bulk;
        Sent::Queued
    }

    /// Ends this life from our side: `PeerLost` to our shards now, to the other's when our hello arrives.
    pub fn break_off(&mut self) {
        self.begin(self.life + 1);
        self.is_up = false;
    }

    /// What is to be carried now, if anything. Call only when the carrier has room: what is not taken waits here, bounded.
    pub fn take(&mut self) -> Option<Batch> {
        if !self.has_waiting() {
            return None;
        }
        let is_hello = std::mem::take(&mut self.hello_is_due);
        let (messages, bytes) = if is_hello {
            let mut bounds = Vec::new();
            self.own.write(&mut bounds);
            (0, bounds)
        } else {
            let messages = std::mem::take(&mut self.waiting_messages);
            let bytes = std::mem::take(&mut self.waiting);
            self.taken.add(messages, bytes.len());
            (messages, bytes)
        };
        self.handled_told = self.handled;
        Some(Batch { life: self.life, is_hello, handled: self.handled, messages, bytes })
    }

    /// Takes a batch of the other side.
    pub fn receive(&mut self, batch: &Batch) -> Received {
        if batch.is_hello {
            return self.receive_hello(batch.life, &batch.bytes);
        }
        if !self.is_up || batch.life != self.life {
            return Received::Nothing;
        }
        self.taken_handled = batch.handled;
        self.handled.add(batch.messages, batch.bytes.len());
        if batch.bytes.is_empty() { Received::Nothing } else { Received::Mail }
    }

    fn receive_hello(&mut self, life: u32, bounds: &[u8]) -> Received {
        if life < self.life {
            return Received::Nothing;
        }
        let was_up = self.is_up;
        if life > self.life {
            self.begin(life);
        }
        self.is_up = true;
        self.bounds = self.own.or_theirs(bounds);
        Received::Up { life: self.life, was_up }
    }

    /// True once after bulk went out and less than half of the bounds is outstanding.
    pub fn has_room(&mut self) -> bool {
        let out = self.outstanding();
        let tell = self.is_up && self.bulk_is_out && self.is_low(out.messages, out.bytes as usize);
        if tell {
            self.bulk_is_out = false;
        }
        tell
    }

    pub fn is_up(&self) -> bool {
        self.is_up
    }
    /// Whether `take` would give something.
    pub fn has_waiting(&self) -> bool {
        self.hello_is_due || !self.waiting.is_empty() || self.owes_a_word()
    }
    /// Not handled by the other side yet.
    pub fn outstanding(&self) -> Room {
        let mut out = self.taken.since(self.taken_handled);
        out.add(Room { messages: self.waiting_messages, bytes: self.waiting.len() as u64 });
        out
    }

    /// Whether the other side should hear how far we are, even if there is nothing else to say: seldom, so that quiet links stay quiet.
    fn owes_a_word(&self) -> bool {
        let untold = self.handled.since(self.handled_told);
        let is_much = u64::from(untold.messages) * 4 >= u64::from(self.bounds.messages_max)
            || untold.bytes * 4 >= self.bounds.bytes_max as u64;
        self.is_up && is_much
    }

    fn is_low(&self, messages: u32, bytes: usize) -> bool {
        messages <= self.bounds.messages_max / 2 && bytes <= self.bounds.bytes_max / 2
    }

    fn begin(&mut self, life: u32) {
        *self = Self { life, is_up: self.is_up, ..Self::new(self.own) };
    }
}

/// From, to, and the length of a message.
const ENVELOPE_BYTES: usize = 6;

/// The envelopes of a batch: who says what to whom. Ends at the first broken one, as an error.
pub fn envelopes(bytes: &[u8]) -> impl Iterator<Item = Result<(Role, Role, &[u8]), Broken>> {
    let mut reader = Reader::new(bytes);
    std::iter::from_fn(move || {
        if reader.is_empty() {
            return None;
        }
        let one = read_envelope(&mut reader);
        if one.is_err() {
            reader = Reader::new(&[]);
        }
        Some(one)
    })
}

fn read_envelope<'a>(reader: &mut Reader<'a>) -> Result<(Role, Role, &'a [u8]), Broken> {
    let from = role(u8::read(reader)?)?;
    let to = role(u8::read(reader)?)?;
    Ok((from, to, Field::read(reader)?))
}

fn role(tag: u8) -> Result<Role, Broken> {
    Role::ALL.get(usize::from(tag)).copied().ok_or(Broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { bytes_max: 64, messages_max: 4 };

    fn pair() -> (Link, Link) {
        let (mut a, mut b) = (Link::new(BOUNDS), Link::new(BOUNDS));
        assert_eq!(b.receive(&a.take().unwrap()), Received::Up { life: 1, was_up: false });
        assert_eq!(a.receive(&b.take().unwrap()), Received::Up { life: 1, was_up: false });
        (a, b)
    }

    fn send(link: &mut Link, text: &str) -> Sent {
        link.send(Role::Channel, Role::Gateway, text.as_bytes(), Class::Live)
    }

    #[test]
    fn mail_arrives_in_order_in_one_batch() {
        let (mut a, mut b) = pair();
        assert_eq!(send(&mut a, "one"), Sent::Queued);
        assert_eq!(send(&mut a, "two"), Sent::Queued);
        let batch = a.take().unwrap();
        assert_eq!(a.take(), None);
        assert_eq!(b.receive(&batch), Received::Mail);
        let got: Vec<_> = envelopes(&batch.bytes).map(|one| one.unwrap().2).collect();
        assert_eq!(got, [b"one", b"two"]);
    }

    #[test]
    fn an_overflow_breaks_the_link_on_both_sides_and_begins_a_new_life() {
        let (mut a, mut b) = pair();
        for _ in 0..4 {
            assert_eq!(send(&mut a, "x"), Sent::Queued);
        }
        let old = {
            send(&mut b, "old");
            b.take().unwrap()
        };
        assert_eq!(send(&mut a, "x"), Sent::Overflowed);
        assert_eq!(send(&mut a, "x"), Sent::Down);
        assert_eq!(a.receive(&old), Received::Nothing, "an older life is ignored");
        let hello = a.take().unwrap();
        assert_eq!((hello.life, hello.is_hello), (2, true));
        assert_eq!(b.receive(&hello), Received::Up { life: 2, was_up: true });
        assert_eq!(a.receive(&b.take().unwrap()), Received::Up { life: 2, was_up: false });
        assert_eq!(send(&mut a, "new"), Sent::Queued);
        assert_eq!(b.receive(&a.take().unwrap()), Received::Mail);
    }

    #[test]
    fn the_larger_bounds_hold_for_both_sides() {
        let mut small = Link::new(BOUNDS);
        let mut large = Link::new(Bounds { bytes_max: 6_400, messages_max: 400 });
        large.receive(&small.take().unwrap());
        small.receive(&large.take().unwrap());
        // A quarter of the larger, without a word; and as many at once as the other may ask for.
        for (from, to) in [(0, 1), (1, 0)] {
            let both = [&mut small, &mut large];
            for _ in 0..99 {
                assert_eq!(send(both[from], "x"), Sent::Queued);
                let batch = both[from].take().unwrap();
                assert_eq!(both[to].receive(&batch), Received::Mail);
            }
            assert!(!both[to].has_waiting());
            for _ in 99..400 {
                assert_eq!(send(both[from], "x"), Sent::Queued);
            }
            assert_eq!(send(both[from], "x"), Sent::Overflowed);
            let hello = both[from].take().unwrap();
            both[to].receive(&hello);
            let hello = both[to].take().unwrap();
            both[from].receive(&hello);
        }
        // A hello of an older version says nothing: as if it were like us.
        let hello = Batch {
            life: 9,
            is_hello: true,
            handled: Handled::default(),
            messages: 0,
            bytes: vec![],
        };
        assert_eq!(large.receive(&hello), Received::Up { life: 9, was_up: true });
        assert_eq!((large.bounds.messages_max, large.bounds.bytes_max), (400, 6_400));
    }

    #[test]
    fn both_sides_may_overflow_at_once() {
        let (mut a, mut b) = pair();
        a.break_off();
        b.break_off();
        let (from_a, from_b) = (a.take().unwrap(), b.take().unwrap());
        assert_eq!(a.receive(&from_b), Received::Up { life: 2, was_up: false });
        assert_eq!(b.receive(&from_a), Received::Up { life: 2, was_up: false });
        assert!(!a.has_waiting() && !b.has_waiting(), "no hello for ever");
    }

    #[test]
    fn room_is_told_once_after_bulk_was_handled() {
        let (mut a, mut b) = pair();
        assert!(!a.has_room());
        for _ in 0..3 {
            a.send(Role::Webapp, Role::Channel, b"x", Class::Bulk);
        }
        let batch = a.take().unwrap();
        assert!(!a.has_room(), "more than half is on its way");
        assert_eq!(b.receive(&batch), Received::Mail);
        let word = b.take().expect("three of four: worth a word of its own");
        assert!(word.bytes.is_empty());
        assert_eq!(a.receive(&word), Received::Nothing);
        assert!(a.has_room());
        assert!(!a.has_room());
        assert_eq!((a.take(), b.take()), (None, None), "a word is not answered by a word");
    }

    #[test]
    fn what_is_on_its_way_counts_until_it_is_handled() {
        let (mut a, mut b) = pair();
        for _ in 0..4 {
            assert_eq!(send(&mut a, "x"), Sent::Queued);
        }
        let batch = a.take().unwrap();
        assert_eq!(a.outstanding().messages, 4);
        b.receive(&batch);
        a.receive(&b.take().unwrap());
        assert_eq!(a.outstanding(), Room::default());
        assert_eq!(send(&mut a, "x"), Sent::Queued);
    }

    #[test]
    fn the_transient_is_dropped_before_the_link_is_full() {
        let (mut a, _) = pair();
        let transient = |a: &mut Link| a.send(Role::Gateway, Role::Channel, b"x", Class::Transient);
        for _ in 0..3 {
            assert_eq!(transient(&mut a), Sent::Queued);
        }
        assert_eq!(transient(&mut a), Sent::Dropped);
        assert!(a.is_up());
        assert_eq!(send(&mut a, "x"), Sent::Queued);
    }

    #[test]
    fn a_broken_envelope_ends_the_batch() {
        let mut bytes = Vec::new();
        0u8.write(&mut bytes);
        99u8.write(&mut bytes);
        (&b"x"[..]).write(&mut bytes);
        let got: Vec<_> = envelopes(&bytes).collect();
        assert_eq!(got, [Err(Broken)]);
    }
}
