//! Owners of channels: order, backlog, interest. A pure shard.
//!
//! - `shard`: what comes in, what goes out
//! - `opening`: subscriptions, and the channels whose tip is asked for them
//! - `publication`: in its place or held, and out to every link; `holes`: what is held
//! - `past`: pages for who is behind
//! - `handoff`: slots that move by plan, with their memory channels
//! - `source`: the link to the source of durable channels, and the questions on it
//! - `reading`: where a channel stands and what its backlog has, for whoever asks
//! - `present`: who is in a channel
//! - `once`: what a back end says twice
//! - `links`: gateway cores and the lives of their links
//! - `table`: a channel in 32 bytes, found by slot and key
//! - `interest`, `lists`: which gateway cores want a channel
//! - `backlog`: the recent publications of all channels, in one ring of bytes

mod backlog;
mod handoff;
mod holes;
mod interest;
mod links;
mod lists;
mod once;
mod opening;
mod past;
mod present;
mod publication;
mod reading;
pub mod shard;
mod source;
#[cfg(test)]
mod stories;
mod table;
