//! Clients: sessions, hubs, interest, outboxes. A pure shard.
//!
//! The tables, from the socket inwards: `outbox` (bounded queues of shared `frames`), `hub` (channels with subscribers on
//! this core, their `members`), `lists` (what each connection follows), `interest` (what the cores of this node want, at
//! the slot's core), `names` (each channel's name once), on `slab`, `runs` and `index`.

pub mod frames;
pub mod hub;
pub mod interest;
pub mod lists;
pub mod members;
pub mod names;
pub mod outbox;
pub mod shard;

// Shared with other shards.
use crate::tables::slab;
