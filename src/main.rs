//! Parse, one arm per subcommand, exit code.

use std::process::ExitCode;

use campanile::cli::{self, Config};
use campanile::ctl;
use campanile::load::{self, Verdict};
use campanile::runtime::{cluster, node};

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env()
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn")),
        )
        .init();
    let done = cli::parse().and_then(|config| match config {
        Config::Dev(dev) => node::dev(&dev).map(|()| Verdict::Good),
        Config::Node(config) => cluster::node(&config).map(|()| Verdict::Good),
        Config::Load(config) => load::run(&config),
        Config::Ctl(config) => ctl::run(&config).map(|()| Verdict::Good),
    });
    match done {
        Ok(Verdict::Good) => ExitCode::SUCCESS,
        Ok(Verdict::Failed) => ExitCode::FAILURE,
        // What the report says in plain words, for programs; 2 is a command line that makes no sense.
        Ok(Verdict::Limited) => ExitCode::from(3),
        Err(why) => {
            eprintln!("campanile: {why}");
            ExitCode::FAILURE
        }
    }
}
