//! One assign table: which seat has which slot, of channels or of users. Binary, 160 KiB, so that with the seats of 1,000 nodes a write
//! stays below Consul's 512 KB, which count them in base64.
//!
//! Layout: `CAMPRING`, kind `u8`, format `u8` and six zeros, version `u64`, 65,536 seats `u16`, 32,768 pairs of counts of moves (four bits each, the
//! lower slot's below), XXH3-64 of all before; numbers little-endian.

use std::sync::Arc;

use super::document::Unusable;
use super::plan::Move;
use super::table::SLOTS;
use crate::ids::Seat;

const MAGIC: &[u8; 8] = b"CAMPRING";
const HEAD: usize = MAGIC.len() + 8 + 8;
const FORMAT: u8 = 1;
const BYTES: usize = HEAD + 2 * SLOTS + SLOTS / 2 + 8;
/// Counts of moves are modulo this.
pub(super) const MOVES: u8 = 16;

/// Which of a cell's two tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    Channels = 1,
    Users = 2,
}

impl Kind {
    pub const ALL: [Self; 2] = [Self::Channels, Self::Users];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Channels => "channels",
            Self::Users => "users",
        }
    }
}

/// A table of one kind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Assign {
    /// Grows by one with each change.
    pub version: u64,
    /// By slot. Shared by every copy until one of them changes.
    pub seats: Arc<[Seat]>,
    /// How often each slot moved, modulo 16: who sees every second ring only still sees that a slot was elsewhere in between.
    pub moves: Arc<[u8]>,
}

impl Assign {
    /// Slots dealt round over seats, of which there is one, in runs, so that they are even within `slot % cores` too.
    pub fn even(seats: &[Seat]) -> Self {
        Self {
            version: 1,
            seats: (0..SLOTS).map(|slot| seats[slot * seats.len() / SLOTS]).collect(),
            moves: vec![0; SLOTS].into(),
        }
    }

    /// # Panics
    /// A move starts where the slot is not: it is of another table.
    pub fn apply(&mut self, moves: &[Move]) {
        if moves.is_empty() {
            return;
        }
        let (seats, counts) = (Arc::make_mut(&mut self.seats), Arc::make_mut(&mut self.moves));
        for one in moves {
            let slot = usize::from(one.slot.0);
            assert_eq!(seats[slot], one.from, "a move of this table");
            seats[slot] = one.to;
            counts[slot] = (counts[slot] + 1) % MOVES;
        }
    }

    /// For the store.
    pub fn encode(&self, kind: Kind) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&[kind as u8, FORMAT, 0, 0, 0, 0, 0, 0]);
        bytes.extend_from_slice(&self.version.to_le_bytes());
        for seat in &*self.seats {
            bytes.extend_from_slice(&seat.0.to_le_bytes());
        }
        let pairs = self.moves.as_chunks::<2>().0.iter();
        bytes.extend(pairs.map(|[low, high]| high << 4 | low));
        let sum = xxhash_rust::xxh3::xxh3_64(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// # Errors
    /// It is cut, changed on its way, of the other kind, or something else.
    pub fn decode(bytes: &[u8], kind: Kind) -> Result<Self, Unusable> {
        let broken = |why: &str| Unusable(format!("the table of {} is {why}", kind.as_str()));
        if bytes.len() != BYTES || !bytes.starts_with(MAGIC) || bytes[MAGIC.len()] != kind as u8 {
            return Err(broken("no such table"));
        }
        let (body, sum) = bytes.split_at(BYTES - 8);
        if xxhash_rust::xxh3::xxh3_64(body).to_le_bytes() != *sum {
            return Err(broken("broken: its checksum is another"));
        }
        if bytes[MAGIC.len() + 1] != FORMAT {
            return Err(broken("of another format"));
        }
        let (seats, moves) = body[HEAD..].split_at(2 * SLOTS);
        let seats = seats.as_chunks::<2>().0.iter();
        Ok(Self {
            version: u64::from_le_bytes(body[HEAD - 8..HEAD].try_into().expect("eight bytes")),
            seats: seats.map(|two| Seat(u16::from_le_bytes(*two))).collect(),
            moves: moves.iter().flat_map(|pair| [pair & 15, pair >> 4]).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_broken_is_not() {
        let mut assign = Assign::even(&(0..24).map(Seat).collect::<Vec<_>>());
        assign.version = 7;
        Arc::make_mut(&mut assign.seats)[9] = Seat(3);
        let moves = Arc::make_mut(&mut assign.moves);
        (moves[8], moves[9], moves[65_535]) = (3, 15, 1);
        let bytes = assign.encode(Kind::Users);
        assert_eq!(bytes.len(), 163_872);
        assert!(Assign::decode(&bytes, Kind::Channels).is_err(), "the other table");
        for at in [0, 8, 9, 20, 70_000, 150_000, bytes.len() - 1] {
            let mut broken = bytes.clone();
            broken[at] ^= 1;
            assert!(Assign::decode(&broken, Kind::Users).is_err(), "byte {at}");
        }
        assert!(Assign::decode(&bytes[..bytes.len() - 1], Kind::Users).is_err());
        assert!(Assign::decode(&[], Kind::Users).is_err());
        assert_eq!(Assign::decode(&bytes, Kind::Users), Ok(assign));
    }
}
