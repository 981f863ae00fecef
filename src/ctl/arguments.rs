//! The command line of `campanile ctl`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};

use super::cert::CertArguments;
use super::workspace::{self, TeamArguments, TokenArguments, UserArguments};
use crate::ids::{Seat, Slot};
use crate::ring::assign::Kind;
use crate::ring::carries::Carries;
use crate::ring::document::NodeEntry;
use crate::ring::drain::Pace;

#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Where the ring is kept: consul://HOST:PORT or etcd://HOST:PORT, several with commas
    #[arg(long, env = "CAMPANILE_STORE", global = true, default_value = "consul://127.0.0.1:8500")]
    store: String,
    /// Which cell
    #[arg(long, env = "CAMPANILE_CELL", global = true, default_value = "main")]
    cell: String,
    /// Where the webapp is, for its team, users and tokens
    #[arg(
        long,
        value_name = "URL",
        env = "CAMPANILE_WEBAPP_HTTP",
        global = true,
        default_value = "http://127.0.0.1:8080"
    )]
    webapp: String,
    /// The file with the cell's key, for the same; `dev` makes one in its data directory
    #[arg(
        long,
        value_name = "FILE",
        env = "CAMPANILE_KEY",
        global = true,
        default_value = "./campanile-data/key"
    )]
    key: PathBuf,
    /// Tell it as JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    about: About,
}

#[derive(Subcommand, Debug)]
enum About {
    /// Who holds which part of the channels and users
    #[command(subcommand)]
    Ring(RingArguments),
    /// Which regions send their clients elsewhere
    #[command(subcommand)]
    Region(RegionArguments),
    /// The team of a cell
    #[command(subcommand)]
    Team(TeamArguments),
    /// Who may come in
    #[command(subcommand)]
    User(UserArguments),
    /// By what they come in
    #[command(subcommand)]
    Token(TokenArguments),
    /// Certificates for links between nodes, of an authority of one's own
    #[command(subcommand)]
    Cert(CertArguments),
}

#[derive(Subcommand, Debug)]
enum RegionArguments {
    /// The regions that drain
    List,
    /// Sends the clients of a region's gateways to other regions, and no new ones there; `restore` ends it, also in the middle
    Drain {
        name: String,
        /// Over so many seconds, evenly
        #[arg(long, value_name = "N", conflicts_with = "per_second")]
        seconds: Option<u32>,
        /// So many connections of each core in a second [default: the limit moves_per_second of each gateway]
        #[arg(long, value_name = "N")]
        per_second: Option<u32>,
    },
    /// Clients may come to it again
    Restore { name: String },
}

#[derive(Subcommand, Debug)]
enum RingArguments {
    /// The ring as it is
    Show,
    /// What would move until every node has its share
    Plan,
    /// The first ring of a cell
    Create {
        /// NAME=HOST:PORT,cores=N[,weight=100][,zone=NAME][,roles=channel|presence]; without roles both
        #[arg(required = true, value_parser = new_node)]
        nodes: Vec<NodeEntry>,
    },
    /// One more node that carries something; `carry-out` brings its slots
    Add {
        /// NAME[,weight=100][,zone=NAME] of a node that stands by, NAME=HOST:PORT,cores=N[,..] of one that is still to come
        #[arg(value_parser = node)]
        node: NodeEntry,
    },
    /// Means to empty a node: `carry-out` moves its slots, and then it leaves the ring
    Remove { name: String },
    /// Empties a node now, which then leaves the ring: `remove` and `carry-out`
    Drain {
        name: String,
        /// Milliseconds between two writes
        #[arg(long, default_value_t = 200)]
        pause: u64,
    },
    /// Nobody is replaced from now on. Nodes that come back take their own seats all the same
    Freeze,
    /// Ring managers replace who dies, again
    Unfreeze,
    /// What a node carries, against the weights of the others
    Weigh { name: String, weight: u32 },
    /// Gives all seats of a node to others at once, in one write: no slot moves
    Replace {
        name: String,
        /// Who may take them [default: everybody else]
        #[arg(long, value_delimiter = ',')]
        by: Vec<String>,
    },
    /// One slot to one seat: a hot one goes where there is room
    Move { table: Table, slot: u16, seat: u16 },
    /// Gives a store that went back, by a backup or because it is empty, the newest ring that nodes know. Until then nobody is replaced, and what is
    /// published stays in the outbox too
    Restore {
        /// The files CELL.NODE.ring in the data directories of as many nodes as can be had: of all that are up, at best
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Moves slots until every node has its share, in writes of at most 256 slots
    CarryOut {
        /// Milliseconds between two writes
        #[arg(long, default_value_t = 200)]
        pause: u64,
        /// Writes at most
        #[arg(long, default_value_t = u32::MAX)]
        writes: u32,
    },
}

#[derive(Clone, Copy, ValueEnum, Debug)]
enum Table {
    Channels,
    Users,
}

/// Checked.
#[derive(Clone, Debug)]
pub enum Config {
    Ring(RingConfig),
    Workspace(workspace::Config),
    /// Of a cell.
    Cert(String, CertArguments),
}

/// Something about a ring.
#[derive(Clone, Debug)]
pub struct RingConfig {
    pub(super) store: String,
    pub(super) cell: String,
    pub(super) json: bool,
    pub(super) wish: Wish,
}

/// What is asked of a ring.
#[derive(Clone, Debug)]
pub(super) enum Wish {
    Show,
    Plan,
    Create(Vec<NodeEntry>),
    Add(NodeEntry),
    Weigh(String, u32),
    /// By nobody: by everybody else.
    Replace(String, Vec<String>),
    Move(Kind, Slot, Seat),
    CarryOut {
        pause: Duration,
        writes: u32,
    },
    Drain {
        name: String,
        pause: Duration,
    },
    Freeze(bool),
    Restore(Vec<PathBuf>),
    Region(RegionWish),
}

/// What is asked of the regions.
#[derive(Clone, Debug)]
pub(super) enum RegionWish {
    List,
    Drain(String, Pace),
    Restore(String),
}

impl Arguments {
    pub fn checked(self) -> Config {
        let Self { store, cell, webapp, key, json, about } = self;
        let ring = |cell, wish| Config::Ring(RingConfig { store, cell, json, wish });
        let workspace = |call| Config::Workspace(workspace::Config { webapp, key, json, call });
        match about {
            About::Ring(wish) => ring(cell, wish.wish()),
            About::Region(wish) => ring(cell, Wish::Region(wish.wish())),
            About::Team(team) => workspace(team.call()),
            About::User(user) => workspace(user.call()),
            About::Token(token) => workspace(token.call()),
            About::Cert(cert) => Config::Cert(cell, cert),
        }
    }
}

impl RegionArguments {
    fn wish(self) -> RegionWish {
        match self {
            Self::List => RegionWish::List,
            Self::Drain { name, seconds, per_second } => {
                let pace = seconds.map(Pace::Seconds).or_else(|| per_second.map(Pace::PerSecond));
                RegionWish::Drain(name, pace.unwrap_or_default())
            }
            Self::Restore { name } => RegionWish::Restore(name),
        }
    }
}

impl RingArguments {
    fn wish(self) -> Wish {
        match self {
            Self::Show => Wish::Show,
            Self::Plan => Wish::Plan,
            Self::Create { nodes } => Wish::Create(nodes),
            Self::Add { node } => Wish::Add(node),
            Self::Remove { name } => Wish::Weigh(name, 0),
            Self::Drain { name, pause } => {
                Wish::Drain { name, pause: Duration::from_millis(pause) }
            }
            Self::Freeze => Wish::Freeze(true),
            Self::Unfreeze => Wish::Freeze(false),
            Self::Restore { files } => Wish::Restore(files),
            Self::Weigh { name, weight } => Wish::Weigh(name, weight),
            Self::Replace { name, by } => Wish::Replace(name, by),
            Self::Move { table, slot, seat } => {
                let kind = match table {
                    Table::Channels => Kind::Channels,
                    Table::Users => Kind::Users,
                };
                Wish::Move(kind, Slot(slot), Seat(seat))
            }
            Self::CarryOut { pause, writes } => {
                Wish::CarryOut { pause: Duration::from_millis(pause), writes }
            }
        }
    }
}

/// A node that has not been seen yet: its number is given when it comes into a ring.
fn new_node(text: &str) -> Result<NodeEntry, String> {
    let node = node(text)?;
    if node.cores == 0 {
        return Err(SHAPE.into());
    }
    Ok(node)
}

const SHAPE: &str =
    "not NAME=HOST:PORT,cores=N[,weight=100][,zone=NAME][,roles=channel|presence|channel+presence]";

/// The same, or one that stands by: without an address, and with 0 cores.
fn node(text: &str) -> Result<NodeEntry, String> {
    let shape = || SHAPE.to_string();
    let mut parts = text.split(',');
    let first = parts.next().unwrap_or_default();
    let (name, address) = first.split_once('=').unwrap_or((first, ""));
    let port = address.rsplit_once(':').and_then(|(host, port)| (!host.is_empty()).then_some(port));
    let is_address = port.is_some_and(|port| port.parse::<u16>().is_ok());
    let is_known = !first.contains('=');
    if name.is_empty() || !(is_address || is_known) {
        return Err(shape());
    }
    let mut node = NodeEntry::new(name, address, 0);
    for pair in parts {
        let (key, value) = pair.split_once('=').ok_or_else(shape)?;
        let fault = |_| format!("{pair}: no such number");
        match key {
            "cores" if !is_known => node.cores = value.parse().map_err(fault)?,
            "weight" => node.weight = value.parse().map_err(fault)?,
            "zone" => node.zone = value.into(),
            "roles" if !is_known => {
                let fault = || format!("{pair}: not channel, presence or channel+presence");
                node.carries = Carries::parse(value).ok_or_else(fault)?;
            }
            // Who stands by has said by itself what it is.
            _ if is_known => return Err(format!("{key}: not weight or zone")),
            _ => return Err(format!("{key}: not cores, weight, zone or roles")),
        }
    }
    if !is_known && (node.cores == 0 || node.cores > 128) {
        return Err("cores=1 to cores=128".into());
    }
    Ok(node)
}
