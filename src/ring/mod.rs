//! Where a channel lives: slots, seats, epochs. Pure values; the stores that keep them are elsewhere.

pub mod placement;
mod table;

pub use placement::{Secret, placement_hash, slot_of};
pub use table::{Ring, SeatRow};
