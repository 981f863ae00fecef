//! What shards say to each other: values <-> bytes. Pure, versioned, the same on one core, between cores and between nodes.
//!
//! - `codec`: how a field becomes bytes
//! - `link`: one end of a link: lives, bounds, envelopes
//! - `operator`: how calls of operators are proven
//! - `message`: the closed list of messages, each with what happens when it is lost
//! - `stream`: one connection between two nodes: hello, proof, batches, beats
//! - `warrant`: what a certificate lets a node say of itself
//! - `tally`: what a gateway and an owner compare
//! - `room`: how much bulk a mailbox still takes

pub mod codec;
pub mod link;
pub mod message;
pub mod operator;
pub mod room;
pub mod stream;
pub mod tally;
pub mod warrant;

pub use codec::{Broken, Field, Packed, Reader};
pub use message::{Hello, Member, Membership, Message, Terms};

/// The wire's version: two nodes speak the newest that both know.
pub const VERSION: u16 = 5;
/// The oldest that we still speak.
pub const VERSION_MIN: u16 = 4;
/// Since which version a gateway takes subscriptions of other gateways, and an owner tallies.
pub const RELAYS_SINCE: u16 = 5;
pub const TALLIES_SINCE: u16 = 5;
pub const UNKNOWN_SINCE: u16 = 5;
