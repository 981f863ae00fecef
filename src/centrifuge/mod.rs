//! The Centrifuge v2 dialect: what its SDKs say and expect, in JSON and Protobuf. Pure.
//!
//! - `message`: commands, replies and pushes as values, the same for both framings
//! - `framing`: one websocket message to commands, and a reply to bytes
//! - `payload`: a publication between nodes
//! - `history`: which publications a request means
//! - `order`: what a back end wants of a user's connections
//! - `push`: frames that many share: a publication with its place
//! - `code`: errors, disconnects, unsubscriptions
//! - `delta`: a publication by its difference from the one before; `filter`: by its tags, or not at all
//! - `token`: JWTs and what they claim
//! - `rules`: what may be done in which channel; `rpc`: which methods a back end answers;
//!   `config`: both, as an operator writes them

pub mod code;
pub mod config;
pub mod delta;
pub mod filter;
pub mod framing;
pub mod history;
pub mod message;
pub mod order;
pub mod payload;
pub mod push;
pub mod rpc;
pub mod rules;
pub mod token;
