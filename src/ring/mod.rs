//! Where a channel lives: slots, seats, epochs; and where clients go: regions. Pure values; the stores that keep them are elsewhere.

pub mod assign;
pub mod carries;
pub mod change;
pub mod document;
pub mod drain;
mod members;
pub mod news;
pub mod placement;
pub mod plan;
pub mod region;
mod restore;
pub mod store;
#[cfg(test)]
mod stories;
mod table;
pub mod view;

pub use placement::{Secret, placement_hash, slot_of};
pub use table::{Ring, SeatRow};
