//! When each connection is looked at next: a wheel of seconds, so that one wake serves many and an idle connection costs two links.

use super::session::Sessions;
use super::slab::NIL;

/// Slots of one second: what is due later is looked at before, and filed again.
const SLOTS: usize = 64;
/// A link to the slot itself, instead of to a neighbour.
const HEAD: u32 = 1 << 31;

/// Per shard.
#[derive(Debug)]
pub(super) struct Wheel {
    first: [u32; SLOTS],
    count: u32,
    /// The next second whose slot is looked at.
    next_s: u32,
}

impl Wheel {
    pub(super) fn new() -> Self {
        Self { first: [NIL; SLOTS], count: 0, next_s: 0 }
    }

    /// The connection is looked at in `pause_s` seconds, or earlier if that is far; at least one second from now.
    pub(super) fn file(&mut self, sessions: &mut Sessions, index: u32, now_s: u32, pause_s: u32) {
        if self.count == 0 {
            self.next_s = now_s + 1;
        }
        let due = (now_s + pause_s.clamp(1, SLOTS as u32 - 1)).max(self.next_s);
        let slot = due as usize % SLOTS;
        let next = std::mem::replace(&mut self.first[slot], index);
        if next != NIL {
            sessions.at(next).wheel_prev = index;
        }
        let session = sessions.at(index);
        debug_assert!(session.wheel_prev == NIL, "a connection is filed once");
        session.wheel_prev = HEAD | slot as u32;
        session.wheel_next = next;
        self.count += 1;
    }

    /// Takes a connection out, if it is in.
    pub(super) fn take(&mut self, sessions: &mut Sessions, index: u32) {
        let session = sessions.at(index);
        let (prev, next) = (session.wheel_prev, session.wheel_next);
        if prev == NIL {
            return;
        }
        (session.wheel_prev, session.wheel_next) = (NIL, NIL);
        if next != NIL {
            sessions.at(next).wheel_prev = prev;
        }
        if prev & HEAD != 0 {
            self.first[(prev & !HEAD) as usize] = next;
        } else {
            sessions.at(prev).wheel_next = next;
        }
        self.count -= 1;
    }

    /// A connection whose second has come, taken out. `None`: no more until [`Wheel::next_s`].
    pub(super) fn due(&mut self, sessions: &mut Sessions, now_s: u32) -> Option<u32> {
        while self.count > 0 && self.next_s <= now_s {
            let first = self.first[self.next_s as usize % SLOTS];
            if first != NIL {
                self.take(sessions, first);
                return Some(first);
            }
            self.next_s += 1;
        }
        None
    }

    /// When somebody may be due.
    pub(super) fn next_s(&self) -> Option<u32> {
        (self.count > 0).then_some(self.next_s)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::ids::Conn;

    #[test]
    fn every_connection_comes_in_its_second_and_those_taken_out_do_not() {
        let (mut sessions, mut wheel) = (Sessions::default(), Wheel::new());
        let mut twin = BTreeMap::new();
        let (mut random, mut now_s) = (5u64, 100);
        for index in 0..50 {
            sessions.open(Conn::new(0, index, 1));
        }
        for _ in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let index = (random >> 33) as u32 % 50;
            match random >> 61 {
                0..5 => {
                    wheel.take(&mut sessions, index);
                    let pause_s = (random >> 40) as u32 % 100;
                    wheel.file(&mut sessions, index, now_s, pause_s);
                    twin.insert(index, now_s + pause_s.clamp(1, 63));
                }
                5 => {
                    wheel.take(&mut sessions, index);
                    twin.remove(&index);
                }
                _ => {
                    now_s += (random >> 50) as u32 % 4;
                    while let Some(index) = wheel.due(&mut sessions, now_s) {
                        let due = twin.remove(&index).expect("filed");
                        assert!(due <= now_s, "not before its time");
                    }
                    assert!(twin.values().all(|due| *due > now_s), "nobody is forgotten");
                }
            }
            assert_eq!(wheel.count as usize, twin.len());
        }
    }
}
