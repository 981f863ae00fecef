//! The reference back end: Web API, database, tickets, source, the chat page.
//!
//! - `database`: SQLite or PostgreSQL behind one writer
//! - `desk`: the shard through which gateways and owners ask; `source`: their reads of the past, in turn; `paces`: how often users post;
//!   `keepers`: its way to presence; `revoked`: tokens that gateways are told of
//! - `http`: Slack's Web API
//! - `caller`: calls of Centrifuge clients to the operator's own back end
//! - `page`: the chat page, carried by the binary

pub mod caller;
pub mod database;
pub mod desk;
pub mod http;
mod keepers;
mod paces;
pub mod page;
mod revoked;
mod source;
#[cfg(test)]
mod stories;
