//! Campanile: THE MAP (written out by the end of the first issue).

pub mod cli;
pub mod ids;
pub mod limits;
pub mod ring;
pub mod shard;
pub mod time;
pub mod wire;

pub mod rtm;
pub mod websocket;

pub mod channel;
pub mod gateway;
pub mod presence;

pub mod admin;
pub mod webapp;

pub mod ops;
pub mod runtime;
