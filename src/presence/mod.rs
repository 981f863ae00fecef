//! Who is online. A pure shard; users are hashed to these as channels are to owners.
//!
//! - `shard`: what comes in, what goes out
//! - `roster`: the users: found by key, the longest idle first
//! - `unknown`: slots of which it is not known yet who is online
//! - `ties`: who reports a user, who watches it, by gateway core and life of its link

mod roster;
pub mod shard;
#[cfg(test)]
mod stories;
mod ties;
mod unknown;
