//! The operator's door: what `campanile ctl` says and does. About the ring it speaks to the store, and nobody has to be up for it; about the
//! team, its users and tokens to the webapp.
//!
//! - `arguments`: the command line, checked
//! - `cert`: an authority, and certificates of nodes
//! - `ring`: one change of the ring, or one look at it
//! - `region`: the same of regions that drain
//! - `show`: what is told of it, for people and as JSON
//! - `workspace`: team, users and tokens: what is asked, and what is told; `call`: one call of the webapp, proven by the cell's key

mod arguments;
mod call;
mod cert;
mod region;
mod ring;
mod show;
mod workspace;

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
    let told = match config {
        Config::Ring(config) => runtime.block_on(ring::run(config)),
        Config::Workspace(config) => runtime.block_on(workspace::run(config)),
        Config::Cert(cell, asked) => cert::run(cell, asked),
    }?;
    println!("{told}");
    Ok(())
}
