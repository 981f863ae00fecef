//! One `Config` per subcommand; nothing unchecked gets past this file.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum as _};

use crate::centrifuge::config::{self, Read};
use crate::centrifuge::rules::Rules;
use crate::ctl;
use crate::limits::Limits;
use crate::load;
use crate::ring::region::Regions;

mod node;

use node::NodeArguments;
pub use node::{Node, PaperFiles};

/// Self-hosted real-time messaging.
#[derive(Parser, Debug)]
#[command(
    name = "campanile",
    version,
    about,
    after_help = "`campanile gateway ...`, and channel, presence, admin, webapp, ring, are short for `campanile node --roles gateway ...`."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// The whole system in one process, with nothing to install and nothing to configure
    Dev(DevArguments),
    /// One node of a cell: one or more roles, reached by the others over links
    Node(Box<NodeArguments>),
    /// Load a server, check every delivery, and say what it cost
    Load(load::Arguments),
    /// Look at the ring, and change it
    Ctl(ctl::Arguments),
}

#[derive(clap::Args, Debug)]
struct DevArguments {
    /// Where the Web API and the page are
    #[arg(long, env = "CAMPANILE_HTTP", default_value = "127.0.0.1:8080")]
    http: SocketAddr,
    /// Where websockets are accepted; plain HTTP that comes here is served too, so that this may be the same as --http
    #[arg(long, env = "CAMPANILE_WS", default_value = "127.0.0.1:8081")]
    ws: SocketAddr,
    /// A listener of its own for the server API of Centrifuge [default: --http has it]
    #[arg(long, env = "CAMPANILE_API")]
    api: Option<SocketAddr>,
    /// The data directory; made when there is none
    #[arg(long, env = "CAMPANILE_DATA", default_value = "./campanile-data")]
    data: PathBuf,
    /// Keep everything in memory and write nothing
    #[arg(long, env = "CAMPANILE_EPHEMERAL")]
    ephemeral: bool,
    /// A PostgreSQL database instead of the file in --data: postgres://USER:PASSWORD@HOST/DATABASE
    #[arg(long, value_name = "URL", env = "CAMPANILE_DATABASE", conflicts_with = "ephemeral")]
    database: Option<String>,
    #[command(flatten)]
    process: ProcessArguments,
    /// So many users in a new workspace besides the usual four, for a load
    #[arg(long, value_name = "N", requires = "tokens", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    users: Option<u32>,
    /// So many channels for them
    #[arg(long, value_name = "M", default_value_t = 1, requires = "users")]
    channels: u32,
    /// Members of each, drawn at random [default: all of them]
    #[arg(long, value_name = "K", requires = "users")]
    members: Option<u32>,
    /// Where their tokens and channels are written
    #[arg(long, value_name = "FILE", requires = "users")]
    tokens: Option<PathBuf>,
}

/// What every server is told alike.
#[derive(clap::Args, Debug)]
struct ProcessArguments {
    /// Cores of the data plane [default: as many as this process may use]
    #[arg(long, env = "CAMPANILE_CORES", value_parser = clap::value_parser!(u8).range(1..=64))]
    cores: Option<u8>,
    /// CPUs for all threads, such as 0,2-3
    #[arg(long, env = "CAMPANILE_CPUS", value_parser = cpus)]
    cpus: Option<Cpus>,
    /// Seconds from goodbye to Close at the end
    #[arg(long, env = "CAMPANILE_DRAIN", default_value_t = 2)]
    drain: u32,
    /// A file in TOML or JSON with the sections client, http_api and channel, as Centrifugo v6 has them, and a webapp's regions
    #[arg(long, value_name = "FILE", env = "CAMPANILE_CONFIG")]
    config: Option<PathBuf>,
    /// Another bound than the built-in one; may be repeated
    #[arg(long, value_name = "NAME=VALUE", env = "CAMPANILE_LIMIT", value_delimiter = ',')]
    limit: Vec<String>,
}

#[derive(Clone, Debug)]
struct Cpus(Vec<usize>);

/// What the process was asked to do.
#[derive(Clone, Debug)]
pub enum Config {
    Dev(Box<Dev>),
    Node(Box<Node>),
    Load(Box<load::Config>),
    Ctl(Box<ctl::Config>),
}

/// `campanile dev`, checked.
#[derive(Clone, Debug)]
pub struct Dev {
    pub http: SocketAddr,
    pub ws: SocketAddr,
    pub api: Option<SocketAddr>,
    pub data: PathBuf,
    pub ephemeral: bool,
    pub database: Option<String>,
    pub cores: Option<u8>,
    pub cpus: Option<Vec<usize>>,
    pub drain: Duration,
    pub crowd: Option<Crowd>,
    pub limits: Limits,
    pub rules: Rules,
    /// What of the configuration does nothing.
    pub warnings: Vec<String>,
}

/// Users, channels and members of each, and where their tokens are written.
#[derive(Clone, Debug)]
pub struct Crowd {
    pub users: u32,
    pub channels: u32,
    pub members: u32,
    pub tokens: PathBuf,
}

/// Reads the command line and the environment; ends the process with a usage message when they make no sense.
pub fn parse() -> Result<Config, String> {
    match Arguments::parse_from(spelled_out(std::env::args_os())).command {
        Command::Dev(dev) => dev.checked().map(|dev| Config::Dev(Box::new(dev))),
        Command::Node(node) => node.checked().map(|node| Config::Node(Box::new(node))),
        Command::Load(load) => load.checked().map(|load| Config::Load(Box::new(load))),
        Command::Ctl(ctl) => Ok(Config::Ctl(Box::new(ctl.checked()))),
    }
}

/// The short form of a node of one role as the long one.
fn spelled_out(words: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut words: Vec<OsString> = words.collect();
    let role = words.get(1).and_then(|word| node::RoleName::from_str(word.to_str()?, false).ok());
    if let Some(role) = role.and_then(|role| role.to_possible_value()) {
        let node = ["node", "--roles", role.get_name()].map(OsString::from);
        words.splice(1..2, node);
    }
    words
}

impl DevArguments {
    fn checked(self) -> Result<Dev, String> {
        let limits = self.process.limits()?;
        if let Some(api) = self.api.filter(|api| api.port() != 0)
            && (api == self.http || api == self.ws)
        {
            return Err(format!("--api {api}: a listener of its own"));
        }
        let (Read { rules, mut warnings }, regions) = self.process.sections(config::dev)?;
        if regions.is_some() {
            warnings.push("regions: one process is in one place, and this does nothing".into());
        }
        let crowd = self.users.zip(self.tokens).map(|(users, tokens)| Crowd {
            users,
            channels: self.channels,
            members: self.members.map_or(users, |members| members.min(users)),
            tokens,
        });
        Ok(Dev {
            crowd,
            http: self.http,
            ws: self.ws,
            api: self.api,
            data: self.data,
            ephemeral: self.ephemeral,
            database: self.database,
            cores: self.process.cores,
            drain: self.process.drain(),
            cpus: self.process.cpus.map(|cpus| cpus.0),
            limits,
            rules,
            warnings,
        })
    }
}

fn shown(file: Option<&Path>) -> String {
    file.map_or_else(|| "the built-in configuration".into(), |file| file.display().to_string())
}

impl ProcessArguments {
    /// The built-in bounds, and what was said otherwise.
    fn limits(&self) -> Result<Limits, String> {
        let mut limits = Limits::DEFAULT;
        for pair in &self.limit {
            let (name, value) =
                pair.split_once('=').ok_or_else(|| format!("--limit {pair}: not NAME=VALUE"))?;
            limits.set(name, value).map_err(|why| format!("--limit {why}"))?;
        }
        Ok(limits)
    }

    /// Of the configuration file, or without one of what is `built_in`: what Centrifuge clients may do, and the section `regions`.
    fn sections(
        &self,
        built_in: impl Fn() -> serde_json::Value,
    ) -> Result<(Read, Option<Regions>), String> {
        let fault =
            |why: &dyn std::fmt::Display| format!("{}: {why}", shown(self.config.as_deref()));
        let mut sections = self.config.as_deref().map_or_else(|| Ok(built_in()), sections)?;
        let regions = sections.as_object_mut().and_then(|sections| sections.remove("regions"));
        let regions = regions.map(|regions| {
            let list = serde_json::from_value(regions).map_err(|why| why.to_string());
            list.and_then(Regions::new).map_err(|why| fault(&format!("regions: {why}")))
        });
        let read = config::read(sections).map_err(|why| fault(&why))?;
        Ok((read, regions.transpose()?))
    }

    fn drain(&self) -> Duration {
        Duration::from_secs(u64::from(self.drain))
    }
}

/// A configuration file as a value: JSON when it begins like JSON, else TOML.
fn sections(file: &Path) -> Result<serde_json::Value, String> {
    let fault = |why: &dyn std::fmt::Display| format!("--config {}: {why}", file.display());
    let text = std::fs::read_to_string(file).map_err(|error| fault(&error))?;
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(&text).map_err(|error| fault(&error));
    }
    toml::from_str(&text).map_err(|error| fault(&error))
}

/// `0,2-3` as 0, 2, 3.
fn cpus(text: &str) -> Result<Cpus, String> {
    let mut list = Vec::new();
    for part in text.split(',') {
        let number =
            |text: &str| text.trim().parse::<usize>().map_err(|error| format!("{text:?}: {error}"));
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(part)?, number(part)?),
        };
        if first > last || last >= 1024 {
            return Err(format!("{part:?}: not a range of CPUs"));
        }
        list.extend((first..=last).filter(|cpu| !list.contains(cpu)).collect::<Vec<_>>());
    }
    Ok(Cpus(list))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dev(words: &[&str]) -> Result<Dev, String> {
        let all = ["campanile", "dev"].iter().chain(words);
        let arguments = Arguments::try_parse_from(all).map_err(|error| error.to_string())?;
        match arguments.command {
            Command::Dev(dev) => dev.checked(),
            Command::Node(_) | Command::Load(_) | Command::Ctl(_) => Err("not dev".into()),
        }
    }

    #[test]
    fn without_a_word_everything_is_on_loopback() {
        let dev = dev(&[]).expect("the defaults");
        assert!(dev.http.ip().is_loopback() && dev.ws.ip().is_loopback());
        assert_eq!((dev.ephemeral, dev.cores, dev.drain), (false, None, Duration::from_secs(2)));
    }

    #[test]
    fn a_role_is_short_for_a_node_of_it() {
        let spelled = |line: &str| {
            let words = spelled_out(line.split(' ').map(OsString::from));
            words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(spelled("campanile gateway --id 1"), "campanile node --roles gateway --id 1");
        assert_eq!(spelled("campanile ring"), "campanile node --roles ring");
        assert_eq!(spelled("campanile admin"), "campanile node --roles admin");
        for line in ["campanile dev --ephemeral", "campanile", "campanile node --roles ring"] {
            assert_eq!(spelled(line), line);
        }
    }

    #[test]
    fn cpus_are_a_list_of_ranges() {
        let dev = dev(&["--cpus", "0,2-3,2"]).expect("a list");
        assert_eq!(dev.cpus, Some(vec![0, 2, 3]));
    }

    #[test]
    fn nonsense_is_told_before_anything_binds() {
        for words in [
            &["--cores", "0"][..],
            &["--http", "nonsense"],
            &["--cpus", "3-1"],
            &["--limit", "boots_burst"],
            &["--limit", "boots_burst=x"],
            &["--limit", "no_such=1"],
            &["--limit", "outbox_bytes_max=1"],
            &["--http", "127.0.0.1:9", "--api", "127.0.0.1:9"],
            &["--users", "5"],
            &["--channels", "5"],
            &["--ephemeral", "--database", "postgres://localhost/x"],
        ] {
            assert!(dev(words).is_err(), "{words:?}");
        }
    }
}
