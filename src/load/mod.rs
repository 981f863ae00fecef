//! The load generator: one binary measures Campanile and its peers by the same rules.
//!
//! Open loop: a publication carries the instant at which it was *due*, and its latency counts from there, so that a server which makes
//! the generator wait is not given the wait as a present. Every delivery is checked: each channel has its numbers, and what is missing,
//! doubled or out of order at any subscriber makes the run fail. When the generator itself was the limit, the report says so.
//!
//! - `arguments`: what is asked for; `plan`: who follows what, and when what is published
//! - `mark`: what a publication says about itself; `tally`: what of it arrived
//! - `socket`: one client's websocket; `dialect`: how each kind of server is talked to
//! - `worker`: one thread's share of the clients; `publish`: what it does by the clock; `again`: those who lost their connection;
//!   `shared`: what all threads know
//! - `run`: the phases of a run, and what is sampled meanwhile
//! - `meter`: CPU and memory of the server and of us; `report`, `page`: what is told

mod again;
mod arguments;
mod dialect;
mod doors;
mod mark;
mod meter;
mod page;
mod plan;
mod publish;
mod report;
mod run;
mod shared;
mod socket;
mod tally;
mod worker;

pub use arguments::{Arguments, Config};
pub use run::{Verdict, run};
