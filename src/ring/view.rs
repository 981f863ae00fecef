//! The newest ring that a process has seen. Epochs never go back, not even when a store does (I5, I6).

use super::change::Cell;

/// Kept for as long as the process lives, and on disk between two lives.
#[derive(Clone, Debug, Default)]
pub struct View {
    cell: Option<Cell>,
}

/// What an offered ring is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Offered {
    /// It is ours now.
    Newer,
    /// We have it.
    Same,
    /// The store was restored to an earlier state, or whoever offers is late: ours stays.
    Older { known: u64, offered: u64 },
    /// Another ring of the same epoch: somebody wrote without a compare-and-set, or from a restored store. Ours stays.
    Forked { epoch: u64 },
    /// A ring of a higher epoch in which this seat is older than in ours, or another process's: it was made of what a restored store had. Ours stays.
    SeatBack { seat: u16, epoch: u64 },
}

impl View {
    /// Of a process that begins with a ring.
    pub fn of(cell: &Cell) -> Self {
        Self { cell: Some(cell.clone()) }
    }

    /// Takes a ring if it is newer.
    pub fn offer(&mut self, cell: &Cell) -> Offered {
        let offered = cell.document.ring_epoch;
        if let Some(known) = &self.cell {
            let epoch = known.document.ring_epoch;
            if offered < epoch {
                return Offered::Older { known: epoch, offered };
            }
            if offered == epoch {
                return if known == cell { Offered::Same } else { Offered::Forked { epoch } };
            }
            if let Some(seat) = known.seat_gone_back(cell) {
                return Offered::SeatBack { seat, epoch: offered };
            }
        }
        self.cell = Some(cell.clone());
        Offered::Newer
    }

    pub fn cell(&self) -> Option<&Cell> {
        self.cell.as_ref()
    }

    /// Of the ring; 0 without one.
    pub fn epoch(&self) -> u64 {
        self.cell.as_ref().map_or(0, |cell| cell.document.ring_epoch)
    }
}
