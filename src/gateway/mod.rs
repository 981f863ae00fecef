//! Clients: sessions, hubs, interest, outboxes. A pure shard.
//!
//! The tables, from the socket inwards: `outbox` (bounded queues of shared `frames`), `hub` (channels with subscribers on
//! this core, their `members` in sets of `subscribers`, the largest cut into `blocks`), `lists` (what each connection follows),
//! `interest` (what the cores of this node want, at the slot's core: `links`, `epochs`; asked of owners, or of a region relay: `upstream`,
//! `downstream`), `names` (each channel's name once), on
//! `tables`. Nothing in them is allocated per channel or subscription, and what they cost is asserted in `footprint`.

mod asks;
mod behind;
mod blocks;
mod catch_up;
mod command;
mod deliver;
mod departure;
mod door;
mod downstream;
mod epochs;
mod errands;
mod farewell;
mod fifo;
mod follow;
pub mod frames;
mod guests;
pub mod hub;
pub mod interest;
mod lapse;
mod links;
pub mod lists;
pub mod members;
pub mod names;
mod neighbour;
pub mod outbox;
mod pages;
mod people;
mod relay;
mod say;
mod session;
pub mod shard;
mod subscribers;
mod tallies;
mod timers;
mod typists;
mod upstream;
mod watch;
mod wheel;

#[cfg(test)]
mod footprint;
#[cfg(test)]
mod stories;
#[cfg(test)]
mod twins;

// Shared with other shards.
use crate::tables::slab;
