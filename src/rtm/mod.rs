//! Slack's RTM: text frames of a client to commands, and what a client is told to JSON. Pure.
//!
//! - `command`: one client frame to a closed [`Command`]
//! - `error`: every fault of a client, with its code and its sentence
//! - `event`: everything that a server says

mod command;
mod error;
pub mod event;

pub use command::{Command, Id, Parser, Scalar, Wrong};
pub use error::Fault;
