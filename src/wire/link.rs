//! One end of a link between two cores of a node, without what carries it: lives, bounds, envelopes.
//!
//! Mail is a link without TCP: first in, first out, and when it overflows it breaks. Both ends then tell their shards that the peer is
//! lost, and begin a new life with a hello; what an older life said is ignored. Lost with a life: everything not yet received.
//!
//! Owned by a driver, one per pair of cores and direction pair; the shards only see `PeerUp`, `PeerRoom`, `PeerLost`, `Wire`.

use super::codec::{Broken, Field, Reader};
use crate::ids::Role;

/// How much may wait on this side.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub bytes_max: usize,
    pub messages_max: u32,
}

/// What is carried to the other side in one piece, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    pub life: u32,
    /// The first batch of a life.
    pub is_hello: bool,
    /// Envelopes: see [`envelopes`].
    pub bytes: Vec<u8>,
}

/// What became of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sent {
    Queued,
    /// The link is down: the sender was told so and will say it again after `PeerUp`.
    Dropped,
    /// It did not fit: the link is down now, and everything waiting is gone.
    Overflowed,
}

/// What a batch of the other side means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received {
    /// Of an older life.
    Ignored,
    /// A new life began; `was_up`: an older one ended with it, so say `PeerLost` first.
    Up { life: u32, was_up: bool },
    /// Envelopes to deliver.
    Mail,
}

#[derive(Debug)]
pub struct Link {
    bounds: Bounds,
    life: u32,
    is_up: bool,
    hello_is_due: bool,
    bulk_is_out: bool,
    messages: u32,
    waiting: Vec<u8>,
}

impl Link {
    /// A link that says hello with its first batch.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            life: 1,
            is_up: false,
            hello_is_due: true,
            bulk_is_out: false,
            messages: 0,
            waiting: Vec::new(),
        }
    }

    /// Queues one message.
    pub fn send(&mut self, from: Role, to: Role, message: &[u8], is_bulk: bool) -> Sent {
        if !self.is_up {
            return Sent::Dropped;
        }
        let is_full = self.messages >= self.bounds.messages_max
            || self.waiting.len() + message.len() + ENVELOPE_BYTES > self.bounds.bytes_max;
        if is_full {
            self.break_off();
            return Sent::Overflowed;
        }
        (from as u8).write(&mut self.waiting);
        (to as u8).write(&mut self.waiting);
        message.write(&mut self.waiting);
        self.messages += 1;
        self.bulk_is_out |= is_bulk;
        Sent::Queued
    }

    /// Ends this life from our side: `PeerLost` to our shards now, to the other's when our hello arrives.
    pub fn break_off(&mut self) {
        self.begin(self.life + 1);
        self.is_up = false;
    }

    /// What is to be carried now, if anything. Call only when the carrier has room: what is not taken waits here, bounded.
    pub fn take(&mut self) -> Option<Batch> {
        if self.hello_is_due {
            self.hello_is_due = false;
            return Some(Batch { life: self.life, is_hello: true, bytes: Vec::new() });
        }
        if self.waiting.is_empty() {
            return None;
        }
        self.messages = 0;
        let bytes = std::mem::take(&mut self.waiting);
        Some(Batch { life: self.life, is_hello: false, bytes })
    }

    /// Takes a batch of the other side.
    pub fn receive(&mut self, batch: &Batch) -> Received {
        if !batch.is_hello {
            return if self.is_up && batch.life == self.life {
                Received::Mail
            } else {
                Received::Ignored
            };
        }
        if batch.life < self.life {
            return Received::Ignored;
        }
        let was_up = self.is_up;
        if batch.life > self.life {
            self.begin(batch.life);
        }
        self.is_up = true;
        Received::Up { life: self.life, was_up }
    }

    /// True once after bulk went out and less than half of the bounds waits.
    pub fn has_room(&mut self) -> bool {
        let is_low = self.messages <= self.bounds.messages_max / 2
            && self.waiting.len() <= self.bounds.bytes_max / 2;
        let tell = self.is_up && self.bulk_is_out && is_low;
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
        self.hello_is_due || !self.waiting.is_empty()
    }
    pub fn waiting_bytes(&self) -> usize {
        self.waiting.len()
    }

    fn begin(&mut self, life: u32) {
        self.life = life;
        self.hello_is_due = true;
        self.bulk_is_out = false;
        self.messages = 0;
        self.waiting = Vec::new();
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
        link.send(Role::Channel, Role::Gateway, text.as_bytes(), false)
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
        assert_eq!(send(&mut a, "x"), Sent::Dropped);
        assert_eq!(a.receive(&old), Received::Ignored, "an older life is ignored");
        let hello = a.take().unwrap();
        assert_eq!((hello.life, hello.is_hello), (2, true));
        assert_eq!(b.receive(&hello), Received::Up { life: 2, was_up: true });
        assert_eq!(a.receive(&b.take().unwrap()), Received::Up { life: 2, was_up: false });
        assert_eq!(send(&mut a, "new"), Sent::Queued);
        assert_eq!(b.receive(&a.take().unwrap()), Received::Mail);
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
    fn room_is_told_once_after_bulk() {
        let (mut a, _) = pair();
        assert!(!a.has_room());
        for _ in 0..3 {
            a.send(Role::Webapp, Role::Channel, b"x", true);
        }
        assert!(!a.has_room(), "more than half waits");
        a.take();
        assert!(a.has_room());
        assert!(!a.has_room());
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
