//! Clients: sessions, hubs, interest, outboxes. A pure shard.
//!
//! The tables, from the socket inwards: `outbox` (bounded queues of shared `frames`), `hub` (channels with subscribers on
//! this core, their `members`), `lists` (what each connection follows), `interest` (what the cores of this node want, at
//! the slot's core), `names` (each channel's name once), on `slab`, `runs` and `index`.

mod asks;
mod behind;
mod catch_up;
mod command;
mod deliver;
mod door;
mod farewell;
mod fifo;
mod follow;
pub mod frames;
pub mod hub;
pub mod interest;
mod lapse;
pub mod lists;
pub mod members;
pub mod names;
mod neighbour;
pub mod outbox;
mod people;
mod relay;
mod say;
mod session;
pub mod shard;
mod timers;
mod typists;
mod watch;
mod wheel;

// Shared with other shards.
use crate::tables::slab;
