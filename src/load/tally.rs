//! What of a channel's publications arrived at one subscriber: each once, and in order, or it is counted.

use rustc_hash::FxHashSet;

/// One subscription of one connection.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    pub(super) channel: u32,
    /// The number that is expected next.
    next: u32,
    /// The place that the server told last, for `resume`.
    pub(super) offset: u64,
}

/// Of all subscriptions of a thread.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) deliveries: u64,
    pub(super) duplicates: u64,
    pub(super) out_of_order: u64,
    /// What was passed over: by connection, channel and number.
    missing: FxHashSet<(u32, u32, u32)>,
    /// Beyond what is kept one by one.
    missing_more: u64,
}

/// Of one thread: more are only counted.
const MISSING_MAX: usize = 1_000_000;

impl Seat {
    pub(super) fn new(channel: u32) -> Self {
        Self { channel, next: 1, offset: 0 }
    }
}

impl Tally {
    /// A publication arrived. False: it had arrived before.
    pub(super) fn hear(&mut self, conn: u32, seat: &mut Seat, number: u32) -> bool {
        if number < seat.next {
            if self.missing.remove(&(conn, seat.channel, number)) {
                self.out_of_order += 1;
                self.deliveries += 1;
                return true;
            }
            self.duplicates += 1;
            return false;
        }
        self.pass_over(conn, seat, number);
        seat.next = number + 1;
        self.deliveries += 1;
        true
    }

    /// The run is over, and `published` is the channel's last number.
    pub(super) fn end(&mut self, conn: u32, seat: &mut Seat, published: u32) {
        self.pass_over(conn, seat, published + 1);
        seat.next = seat.next.max(published + 1);
    }

    fn pass_over(&mut self, conn: u32, seat: &Seat, number: u32) {
        for missing in seat.next..number {
            if self.missing.len() < MISSING_MAX {
                self.missing.insert((conn, seat.channel, missing));
            } else {
                self.missing_more += 1;
            }
        }
    }

    pub(super) fn missing(&self) -> u64 {
        self.missing.len() as u64 + self.missing_more
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(numbers: &[u32], published: u32) -> (u64, u64, u64, u64) {
        let (mut tally, mut seat) = (Tally::default(), Seat::new(0));
        for number in numbers {
            tally.hear(0, &mut seat, *number);
        }
        tally.end(0, &mut seat, published);
        (tally.deliveries, tally.missing(), tally.duplicates, tally.out_of_order)
    }

    #[test]
    fn what_is_lost_doubled_or_late_is_counted() {
        assert_eq!(heard(&[1, 2, 3], 3), (3, 0, 0, 0));
        assert_eq!(heard(&[1, 3], 3), (2, 1, 0, 0));
        assert_eq!(heard(&[1, 2, 2, 3], 3), (3, 0, 1, 0));
        assert_eq!(heard(&[1, 3, 2], 3), (3, 0, 0, 1));
        assert_eq!(heard(&[1, 3, 2, 2], 3), (3, 0, 1, 1));
        assert_eq!(heard(&[1], 3), (1, 2, 0, 0));
        assert_eq!(heard(&[], 0), (0, 0, 0, 0));
    }
}
