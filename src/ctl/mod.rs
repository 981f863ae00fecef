//! The operator's door: what `campanile ctl` says and does. It speaks to the ring store; nobody has to be up for it.
//!
//! - `arguments`: the command line, checked
//! - `ring`: one change of the ring, or one look at it
//! - `region`: the same of regions that drain
//! - `show`: what is told of it, for people and as JSON

mod arguments;
mod region;
mod ring;
mod show;

pub use arguments::{Arguments, Config};

/// Does what was asked.
///
/// # Errors
/// A sentence: what was not done, and why.
pub fn run(config: &Config) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    let told = runtime.block_on(ring::run(config))?;
    println!("{told}");
    Ok(())
}
