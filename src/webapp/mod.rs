//! The reference back end: Web API, database, tickets, source, the chat page.
//!
//! - `control`: how HTTP handlers and the database's writer speak to shards
//! - `page`: the chat page, carried by the binary

pub mod control;
pub mod page;
