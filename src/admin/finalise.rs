//! Acknowledged rows, until they may leave the outbox (`reliability.md` 3.3, invariant I2).
//!
//! A row is final when a read of the ring that began after the owner's acknowledgement shows the same seat under the same epoch. Before that
//! the acknowledgement may be a former owner's, and nobody would have the row.

use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::ids::{Ask, Seat, Slot};
use crate::time::Mono;

/// An acknowledged row: who acknowledged it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Acknowledged {
    pub(super) id: u64,
    pub(super) slot: Slot,
    pub(super) seat: Seat,
    pub(super) seat_epoch: u32,
}

/// What a read of the ring says of acknowledged rows.
#[derive(PartialEq, Eq, Debug, Default)]
pub(super) struct Judged {
    /// These may leave the outbox.
    pub(super) gone: Vec<u64>,
    /// These are to be sent again: the owner is another one now.
    pub(super) again: Vec<u64>,
}

#[derive(Default, Debug)]
pub(super) struct Finalise {
    /// Acknowledged since the last read began.
    fresh: Vec<Acknowledged>,
    /// Judged by the read that is under way.
    judging: Vec<Acknowledged>,
    read: Option<(Ask, Mono)>,
    next_read: Mono,
}

/// At most one read of the ring in this time.
const READ_INTERVAL: Duration = Duration::from_millis(250);

impl Finalise {
    pub(super) fn add(&mut self, row: Acknowledged) {
        self.fresh.push(row);
    }

    /// Lets go of an acknowledged row, if there is one: it stays in the table, where the sweep finds it again.
    pub(super) fn forget(&mut self) -> Option<u64> {
        self.judging.pop().or_else(|| self.fresh.pop()).map(|row| row.id)
    }

    /// Whether a read is to begin now: it judges everything acknowledged before. No answer until `due`: the next read does.
    pub(super) fn begin(&mut self, now: Mono, ask: Ask, due: Mono) -> bool {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return false;
        }
        self.judging.append(&mut self.fresh);
        self.read = Some((ask, due));
        self.next_read = now + READ_INTERVAL;
        true
    }

    /// The answer to a read. `seat_of` is the seat of a slot in the ring that was read, if that is known here.
    pub(super) fn judge(
        &mut self,
        ask: Ask,
        epochs: &FxHashMap<Seat, u32>,
        seat_of: impl Fn(Slot) -> Option<Seat>,
    ) -> Judged {
        let mut judged = Judged::default();
        // The answer to a read that was given up says nothing about what was acknowledged since.
        if self.read.is_none_or(|(read, _)| read != ask) {
            return judged;
        }
        self.read = None;
        for row in self.judging.drain(..) {
            let has_epoch = epochs.get(&row.seat) == Some(&row.seat_epoch);
            match seat_of(row.slot) {
                None => self.fresh.push(row),
                Some(seat) if seat == row.seat && has_epoch => judged.gone.push(row.id),
                Some(_) => judged.again.push(row.id),
            }
        }
        judged
    }

    /// When `begin` has something to do: rows wait and none is read, or a read was not answered.
    pub(super) fn deadline(&self) -> Option<Mono> {
        match self.read {
            Some((_, due)) => Some(due),
            None => (!self.fresh.is_empty()).then_some(self.next_read),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Ask = Ask(1);
    const B: Ask = Ask(2);

    fn row(id: u64, seat_epoch: u32) -> Acknowledged {
        Acknowledged { id, slot: Slot(5), seat: Seat(3), seat_epoch }
    }

    fn judge(finalise: &mut Finalise, ask: Ask, seat: u16, epoch: u32) -> (Vec<u64>, Vec<u64>) {
        let epochs = FxHashMap::from_iter([(Seat(3), epoch), (Seat(4), epoch)]);
        let Judged { gone, again } = finalise.judge(ask, &epochs, |_| Some(Seat(seat)));
        (gone, again)
    }

    #[test]
    fn what_is_acknowledged_while_the_ring_is_read_waits_for_the_next_read() {
        let mut finalise = Finalise::default();
        assert!(!finalise.begin(Mono(0), A, Mono(9)), "nothing to judge");
        finalise.add(row(1, 1));
        assert!(finalise.begin(Mono(0), A, Mono(9)));
        finalise.add(row(2, 1));
        assert_eq!(judge(&mut finalise, A, 3, 1), (vec![1], vec![]));
        assert!(!finalise.begin(Mono(1), B, Mono(9)), "one read in an interval");
        let later = Mono(0) + READ_INTERVAL;
        assert_eq!(finalise.deadline(), Some(later));
        assert!(finalise.begin(later, B, later));
        assert_eq!(judge(&mut finalise, B, 3, 1), (vec![2], vec![]));
        assert_eq!(finalise.deadline(), None);
    }

    #[test]
    fn a_former_owner_s_acknowledgement_is_none() {
        let mut finalise = Finalise::default();
        finalise.add(row(1, 1));
        finalise.begin(Mono(0), A, Mono(9));
        assert_eq!(judge(&mut finalise, A, 3, 2), (vec![], vec![1]), "another epoch");
        finalise.add(row(2, 1));
        finalise.begin(Mono(u64::MAX), A, Mono(9));
        assert_eq!(judge(&mut finalise, A, 4, 1), (vec![], vec![2]), "another seat");
    }

    #[test]
    fn an_answer_to_a_read_that_was_given_up_judges_nothing() {
        let mut finalise = Finalise::default();
        finalise.add(row(1, 1));
        finalise.begin(Mono(0), A, Mono(9));
        finalise.add(row(2, 1));
        assert!(finalise.begin(Mono(9), B, Mono(19)), "not answered in time");
        assert_eq!(judge(&mut finalise, A, 3, 1), (vec![], vec![]));
        assert_eq!(judge(&mut finalise, B, 3, 1), (vec![1, 2], vec![]));
    }

    #[test]
    fn a_ring_that_is_not_known_here_yet_decides_nothing() {
        let mut finalise = Finalise::default();
        finalise.add(row(1, 1));
        finalise.begin(Mono(0), A, Mono(9));
        let epochs = FxHashMap::from_iter([(Seat(3), 1)]);
        assert_eq!(finalise.judge(A, &epochs, |_| None), Judged::default());
        assert!(finalise.deadline().is_some(), "asked again");
    }
}
