//! From the outbox to owners, and out of the outbox again. Pure.
//!
//! - `shard`: what comes in, what goes out
//! - `dispatch`: rows in memory: on their way to an owner, in lanes
//! - `finalise`: acknowledged rows, until a later read of the ring lets them go
//! - `sweep`: which part of the table is read next

mod dispatch;
mod finalise;
pub mod shard;
#[cfg(test)]
mod stories;
mod sweep;
