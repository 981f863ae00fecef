//! The only folder that lives on glommio and io_uring: the drivers of the shards.
//!
//! - `node`: one process, from its first check to its last goodbye; `host`: what the kernel must allow; `doors`: listening sockets
//! - `core`: one core's executor and its turn; `sockets` on `uring`: connections without tasks and buffers
//! - `control`: the control plane's shards on tokio; `letters`: its way to the cores; `mesh`: theirs to each other; `bell`: what wakes a core; `stuck`: cores that do
//!   nothing any more
//! - `far`, `far_ways`: connections to other nodes, and `dialed`: to which of them; `pipe`: their bytes, plain or through TLS; `papers`: the certificates for that, and their
//!   renewal; `refusals`: who was refused, and why; `twins`: processes under one number
//! - `handed`: connections of the websocket port that speak plain HTTP
//! - `keys`: the key of a `dev`
//! - `stats`, `watch`: counters, `/metrics`, `/health`; `clock`: the only one

mod bell;
mod clock;
pub mod cluster;
mod control;
mod core;
mod cores;
mod dialed;
mod doors;
mod far;
mod far_ways;
mod handed;
mod host;
mod keys;
mod letters;
mod mesh;
pub mod node;
mod papers;
mod pipe;
mod refusals;
mod sockets;
mod stats;
#[cfg(test)]
mod strangers;
mod stuck;
mod twins;
mod uring;
mod watch;
