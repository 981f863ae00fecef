//! From back ends to owners: the publish API, and the outbox. All but `api` is pure.
//!
//! - `api`: publications of any back end, by HTTP
//! - `shard`: what comes in, what goes out
//! - `dispatch`: rows in memory: on their way to an owner, in lanes
//! - `finalise`: acknowledged rows, until a later read of the ring lets them go
//! - `sweep`: which part of the table is read next

pub mod api;
mod dispatch;
mod finalise;
pub mod shard;
#[cfg(test)]
mod stories;
mod sweep;
