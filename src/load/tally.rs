//! What of a channel's publications arrived at one subscriber: each once, and in order, or it is counted.

use rustc_hash::{FxHashMap, FxHashSet};

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
    /// What came behind a later one, but at a later place of its channel: by channel and number. In order only if nobody acknowledged it.
    late: Vec<(u32, u32)>,
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
    /// A publication arrived, at a place (0: none told). False: it had arrived before.
    pub(super) fn hear(&mut self, conn: u32, seat: &mut Seat, number: u32, offset: u64) -> bool {
        let is_behind = offset > seat.offset;
        seat.offset = seat.offset.max(offset);
        if number < seat.next {
            if self.missing.remove(&(conn, seat.channel, number)) {
                if is_behind && self.late.len() < MISSING_MAX {
                    self.late.push((seat.channel, number));
                } else {
                    self.out_of_order += 1;
                }
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
}

/// What is wrong with the deliveries of all threads.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Wrong {
    pub(super) missing: u64,
    pub(super) duplicates: u64,
    pub(super) out_of_order: u64,
}

/// `unsaid`: publications that nobody acknowledged, by channel and number: they are owed to nobody, unless somebody heard them; then to all
/// `followers` of the channel, at the place that they got.
pub(super) fn judge<'a>(
    tallies: impl Iterator<Item = &'a Tally>,
    unsaid: &FxHashSet<(u32, u32)>,
    followers: &[u32],
) -> Wrong {
    let (mut wrong, mut unheard) = (Wrong::default(), FxHashMap::default());
    for tally in tallies {
        wrong.duplicates += tally.duplicates;
        wrong.missing += tally.missing.len() as u64 + tally.missing_more;
        let late = tally.late.iter().filter(|one| !unsaid.contains(one));
        wrong.out_of_order += tally.out_of_order + late.count() as u64;
        for (_, channel, number) in &tally.missing {
            if unsaid.contains(&(*channel, *number)) {
                *unheard.entry((*channel, *number)).or_insert(0) += 1;
            }
        }
    }
    for ((channel, _), count) in unheard {
        if count == followers[channel as usize] {
            wrong.missing -= u64::from(count);
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(heard: &[&[u32]], published: u32, unsaid: &[u32]) -> (u64, u64, u64) {
        let mut tally = Tally::default();
        for (conn, numbers) in (0..).zip(heard) {
            let mut seat = Seat::new(0);
            for number in *numbers {
                tally.hear(conn, &mut seat, *number, 0);
            }
            tally.end(conn, &mut seat, published);
        }
        let unsaid = unsaid.iter().map(|number| (0, *number)).collect();
        let wrong = judge([&tally].into_iter(), &unsaid, &[heard.len() as u32]);
        (wrong.missing, wrong.duplicates, wrong.out_of_order)
    }

    #[test]
    fn what_is_lost_doubled_or_late_is_counted() {
        let heard = |numbers: &[u32], published| judged(&[numbers], published, &[]);
        assert_eq!(heard(&[1, 2, 3], 3), (0, 0, 0));
        assert_eq!(heard(&[1, 3], 3), (1, 0, 0));
        assert_eq!(heard(&[1, 2, 2, 3], 3), (0, 1, 0));
        assert_eq!(heard(&[1, 3, 2], 3), (0, 0, 1));
        assert_eq!(heard(&[1, 3, 2, 2], 3), (0, 1, 1));
        assert_eq!(heard(&[1], 3), (2, 0, 0));
        assert_eq!(heard(&[], 0), (0, 0, 0));
    }

    #[test]
    fn what_nobody_acknowledged_is_owed_to_all_or_to_nobody() {
        let (all, some): (&[u32], &[u32]) = (&[1, 2, 3], &[1, 3]);
        assert_eq!(judged(&[some, some], 3, &[2]), (0, 0, 0));
        assert_eq!(judged(&[all, all], 3, &[2]), (0, 0, 0));
        assert_eq!(judged(&[all, some], 3, &[2]), (1, 0, 0));
        // One delivery of an acknowledged publication is withheld, at one or at all.
        assert_eq!(judged(&[all, some], 3, &[]), (1, 0, 0));
        assert_eq!(judged(&[some, some], 3, &[]), (2, 0, 0));
        assert_eq!(judged(&[some, some], 3, &[1]), (2, 0, 0));
        assert_eq!(judged(&[&[1, 2, 2], &[1, 2, 3]], 3, &[2, 3]), (1, 1, 0));
    }

    #[test]
    fn what_was_stored_after_all_may_come_late_at_a_late_place() {
        let order = |places: [u64; 3], unsaid: &[(u32, u32)]| {
            let (mut tally, mut seat) = (Tally::default(), Seat::new(0));
            for (number, offset) in [1, 3, 2].into_iter().zip(places) {
                assert!(tally.hear(0, &mut seat, number, offset));
            }
            judge([&tally].into_iter(), &unsaid.iter().copied().collect(), &[1]).out_of_order
        };
        assert_eq!(order([1, 2, 3], &[(0, 2)]), 0);
        assert_eq!(order([1, 2, 3], &[]), 1);
        assert_eq!(order([1, 3, 2], &[(0, 2)]), 1);
    }
}
