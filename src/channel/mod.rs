//! Owners of channels: order, backlog, interest. A pure shard.
//!
//! - `shard`: what comes in, what goes out
//! - `table`: a channel in 32 bytes, found by slot and key
//! - `interest`: which gateways want a channel
//! - `backlog`: the recent publications of all channels, in one ring of bytes
//! - `pending`: questions to the source, and what waits for their answers

mod backlog;
mod interest;
mod pending;
pub mod shard;
mod table;
