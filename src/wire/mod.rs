//! What shards say to each other: values <-> bytes. Pure, versioned, the same on one core, between cores and between nodes.
//!
//! - `codec`: how a field becomes bytes
//! - `link`: one end of a link: lives, bounds, envelopes
//! - `message`: the closed list of messages, each with what happens when it is lost
//! - `room`: how much bulk a mailbox still takes

pub mod codec;
pub mod link;
pub mod message;
pub mod room;

pub use codec::{Broken, Field, Packed, Reader};
pub use message::{Hello, Member, Membership, Message, Terms};

/// The wire's version: nodes with another major version refuse each other at hello.
pub const VERSION: u16 = 3;
