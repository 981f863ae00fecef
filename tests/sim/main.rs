//! The simulated node and the simulated cell: seeded worlds in virtual time, in which everything goes wrong and nothing may be missed.
//!
//! `cargo sim` runs many seeds, the canaries and some seeds twice; `cargo sim -- --seed N` tells one of them in full.

mod agenda;
mod answered;
mod answers;
mod arguments;
mod bugbase;
mod canary;
mod checker;
mod client;
mod clock;
mod coverage;
mod database;
mod device;
mod disturb;
mod ending;
mod faults;
mod fleet;
mod frames;
mod guest;
mod hands;
mod hearing;
mod layout;
mod lines;
mod network;
mod node;
mod odds;
mod operator;
mod outside;
mod place;
mod process;
mod pushes;
mod random;
mod sizes;
mod sockets;
mod speech;
mod store;
mod streams;
mod trace;
mod track;
mod turns;
mod visit;
mod workload;
mod world;

use std::process::ExitCode;

use arguments::{Arguments, What};

fn main() -> ExitCode {
    let arguments = match Arguments::read(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(usage) => {
            println!("{usage}");
            return ExitCode::FAILURE;
        }
    };
    let is_good = match arguments.what {
        What::One { seed } => fleet::one(seed, arguments),
        What::Many if arguments.first => fleet::many(arguments),
        What::Many => bugbase::replay() & fleet::many(arguments) & fleet::canaries(arguments),
        What::Canaries => fleet::canaries(arguments),
    };
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
