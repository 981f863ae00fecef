//! `campanile node`: its command line, and what of it is left when it is checked.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::ProcessArguments;
use crate::centrifuge::config::Read;
use crate::centrifuge::rules::Rules;
use crate::ids::{NodeId, Role, Roles};
use crate::limits::{Limits, SUBSCRIBERS_CORES_MAX};
use crate::ring::Secret;
use crate::ring::region::{Region, RegionRelay, Regions, is_name};
use crate::wire::operator::{OperatorKey, derived};
use crate::wire::stream::CellKey;

#[derive(clap::Args, Debug)]
pub(super) struct NodeArguments {
    /// What it does: gateway, channel (a channel server), presence (a presence server; mostly the same nodes are both: channel,presence), webapp (with the publish API), admin (the publish API alone), ring (a ring manager), several with commas
    #[arg(long, env = "CAMPANILE_ROLES", value_delimiter = ',', required = true)]
    roles: Vec<RoleName>,
    /// What it is called in the ring
    #[arg(long, env = "CAMPANILE_NAME")]
    name: String,
    /// The number of a node that owns nothing, such as one that is only a gateway: from 10000 on, and no other may have it
    #[arg(long, env = "CAMPANILE_ID")]
    id: Option<u16>,
    /// Where the ring is kept: consul://HOST:PORT or etcd://HOST:PORT, several with commas
    #[arg(long, env = "CAMPANILE_STORE", default_value = "consul://127.0.0.1:8500")]
    store: String,
    /// Which cell
    #[arg(long, env = "CAMPANILE_CELL", default_value = "main")]
    cell: String,
    /// A file with the cell's key: 32 bytes or more that every node of the cell has and nobody else
    #[arg(long, value_name = "FILE", env = "CAMPANILE_KEY")]
    key: PathBuf,
    /// This node's certificate in PEM, with what is between it and its authority; with it every link is TLS 1.3 both ways, and plain ones are refused
    #[arg(long, value_name = "FILE", env = "CAMPANILE_TLS_CERT", requires_all = ["tls_key", "tls_ca"])]
    tls_cert: Option<PathBuf>,
    /// Its private key in PEM
    #[arg(long, value_name = "FILE", env = "CAMPANILE_TLS_KEY", requires_all = ["tls_cert", "tls_ca"])]
    tls_key: Option<PathBuf>,
    /// The authorities in PEM whose certificates other nodes may show
    #[arg(long, value_name = "FILE", env = "CAMPANILE_TLS_CA", requires_all = ["tls_cert", "tls_key"])]
    tls_ca: Option<PathBuf>,
    /// Where other nodes reach this one
    #[arg(long, env = "CAMPANILE_LINK", default_value = "127.0.0.1:7400")]
    link: SocketAddr,
    /// What others dial for it, when that is another address [default: --link]
    #[arg(long, value_name = "HOST:PORT", env = "CAMPANILE_ADVERTISE")]
    advertise: Option<String>,
    /// The node that is the webapp, unless this one is
    #[arg(long, value_name = "ID=HOST:PORT", env = "CAMPANILE_WEBAPP", value_parser = webapp)]
    webapp: Option<(NodeId, String)>,
    /// The ring managers, all of them, for managers, gateways and webapps; nodes of the ring are found by them
    #[arg(long, value_name = "ID=HOST:PORT", env = "CAMPANILE_MANAGERS", value_delimiter = ',', value_parser = webapp)]
    managers: Vec<(NodeId, String)>,
    /// Nodes that are admin alone, for gateways: disconnect, subscribe and the like come to a gateway by them
    #[arg(long, value_name = "ID=HOST:PORT", env = "CAMPANILE_ADMINS", value_delimiter = ',', value_parser = webapp)]
    admins: Vec<(NodeId, String)>,
    /// Seconds in which at most one node, or 10 % of all, is replaced
    #[arg(long, value_name = "SECONDS", env = "CAMPANILE_REPLACE_WINDOW", default_value_t = 60)]
    replace_window: u32,
    /// Seconds that a replaced node has to live before it is given seats again; doubles each time, up to ten minutes
    #[arg(long, value_name = "SECONDS", env = "CAMPANILE_PROBATION", default_value_t = 30)]
    probation: u32,
    /// Where the Web API is, and /metrics and /health of every node
    #[arg(long, env = "CAMPANILE_HTTP", default_value = "127.0.0.1:8080")]
    http: SocketAddr,
    /// Where a gateway accepts websockets
    #[arg(long, env = "CAMPANILE_WS", default_value = "127.0.0.1:8081")]
    ws: SocketAddr,
    /// What clients are told to dial: the address of the balancer before the gateways [default: --ws]
    #[arg(long, value_name = "URL", env = "CAMPANILE_PUBLIC_WS")]
    public_ws: Option<String>,
    /// In which region a gateway is; `campanile ctl region drain` sends its clients to another
    #[arg(long, value_name = "NAME", env = "CAMPANILE_REGION", value_parser = region)]
    region: Option<String>,
    /// A gateway of this region that is asked for channels instead of their owners, so that one copy of each publication comes to the region; several, the best first, and owners when none is up. The same list for every gateway of the region, also for those on it
    #[arg(long, value_name = "ID=HOST:PORT[,cores=N]", env = "CAMPANILE_RELAY", value_delimiter = ' ', value_parser = relay)]
    relay: Vec<Relay>,
    /// Where a webapp sends clients: regions and the addresses of their gateways, in order of preference; or the section regions of --config
    #[arg(long, value_name = "NAME=URL", env = "CAMPANILE_REGIONS", value_delimiter = ',', value_parser = region_at)]
    regions: Vec<Region>,
    /// The data directory of a webapp; made when there is none
    #[arg(long, env = "CAMPANILE_DATA", default_value = "./campanile-data")]
    data: PathBuf,
    /// A webapp that keeps everything in memory and writes nothing
    #[arg(long, env = "CAMPANILE_EPHEMERAL")]
    ephemeral: bool,
    /// A webapp's PostgreSQL database instead of the file in --data: postgres://USER:PASSWORD@HOST/DATABASE
    #[arg(long, value_name = "URL", env = "CAMPANILE_DATABASE", conflicts_with = "ephemeral")]
    database: Option<String>,
    /// A webapp with a workspace to try things in: alice, bob, carol and a bot, and their tokens for whoever asks /dev/workspace.json
    #[arg(long, env = "CAMPANILE_DEMO")]
    demo: bool,
    #[command(flatten)]
    process: ProcessArguments,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum, Debug)]
pub(super) enum RoleName {
    Gateway,
    Channel,
    Presence,
    Webapp,
    Admin,
    Ring,
}

impl RoleName {
    fn roles(self) -> Roles {
        match self {
            Self::Gateway => Roles::of(&[Role::Gateway]),
            Self::Channel => Roles::of(&[Role::Channel]),
            Self::Presence => Roles::of(&[Role::Presence]),
            Self::Webapp => Roles::of(&[Role::Webapp, Role::Admin]),
            Self::Admin => Roles::of(&[Role::Admin]),
            Self::Ring => Roles::of(&[Role::Ring]),
        }
    }
}

/// `campanile node`, checked.
#[derive(Clone, Debug)]
pub struct Node {
    pub roles: Roles,
    pub name: String,
    pub id: Option<NodeId>,
    pub store: String,
    pub cell: String,
    pub key: CellKey,
    /// With them every link is TLS.
    pub papers: Option<PaperFiles>,
    /// Of the names of channels and users; made from the key.
    pub secret: Secret,
    pub link: SocketAddr,
    pub advertise: Option<String>,
    pub webapp: Option<(NodeId, String)>,
    pub managers: Vec<(NodeId, String)>,
    pub admins: Vec<(NodeId, String)>,
    pub replace_window: Duration,
    pub probation: Duration,
    pub http: SocketAddr,
    pub ws: SocketAddr,
    pub public_ws: Option<String>,
    pub region: Option<String>,
    /// Gateways that stand for owners in this region, the best first.
    pub relays: Vec<Relay>,
    /// Where a webapp sends clients; none: all to one address.
    pub regions: Regions,
    pub data: PathBuf,
    pub ephemeral: bool,
    pub database: Option<String>,
    /// What operators prove to know; made from the key.
    pub operator: OperatorKey,
    /// Of a demo, what its tokens are made from; made from the key, too.
    pub demo: Option<[u8; 32]>,
    pub cores: Option<u8>,
    pub cpus: Option<Vec<usize>>,
    pub drain: Duration,
    pub limits: Limits,
    pub rules: Rules,
    /// What of the configuration does nothing.
    pub warnings: Vec<String>,
}

/// A gateway that stands for owners, and where it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Relay {
    pub gateway: RegionRelay,
    pub address: String,
}

/// Where a node's certificate is, its key, and the authorities that it believes: PEM files, read again when they change.
#[derive(Clone, Debug)]
pub struct PaperFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
    pub ca: PathBuf,
}

/// Roles that ask the webapp for something.
const DATA: Roles = Roles::of(&[Role::Gateway, Role::Channel, Role::Presence]);

impl NodeArguments {
    pub(super) fn checked(self) -> Result<Node, String> {
        let everybody = Roles::of(&[Role::Health]);
        let roles = self.roles.iter().fold(everybody, |all, role| Roles(all.0 | role.roles().0));
        match (roles.contains(Role::Webapp), &self.webapp) {
            (true, Some(_)) => return Err("--webapp: this node is the webapp".into()),
            (false, None) if roles.both(DATA).0 != 0 => {
                return Err("--webapp ID=HOST:PORT: which node is the webapp?".into());
            }
            _ => {}
        }
        let fault = |why: &dyn std::fmt::Display| format!("--key {}: {why}", self.key.display());
        let key = std::fs::read(&self.key).map_err(|error| fault(&error))?;
        let derived = |what: &str| derived(&key, what).map_err(|why| fault(&why));
        let names: [u8; 16] = derived("names")?[..16].try_into().expect("half of it");
        if self.demo && !roles.contains(Role::Webapp) {
            return Err("--demo: a webapp has the workspace, and this node is none".into());
        }
        // Without a file nobody may do anything without a token.
        let (Read { rules, warnings }, regions) =
            self.process.sections(|| serde_json::json!({}))?;
        let regions = match (regions, self.regions.is_empty()) {
            (Some(_), false) => {
                return Err(
                    "--regions: the file of --config has the section regions already".into()
                );
            }
            (Some(regions), true) => regions,
            (None, _) => Regions::new(self.regions).map_err(|why| format!("--regions: {why}"))?,
        };
        if self.region.is_some() && !roles.contains(Role::Gateway) {
            return Err("--region: only a gateway is in a region".into());
        }
        if !self.relay.is_empty() && !roles.contains(Role::Gateway) {
            return Err("--relay: only a gateway asks for channels".into());
        }
        for (at, one) in self.relay.iter().enumerate() {
            if self.relay[..at].iter().any(|other| other.gateway.node == one.gateway.node) {
                return Err(format!("--relay: {} is named twice", one.gateway.node.0));
            }
        }
        let limits = self.process.limits()?;
        let papers = match (self.tls_cert, self.tls_key, self.tls_ca) {
            (Some(cert), Some(key), Some(ca)) => Some(PaperFiles { cert, key, ca }),
            (None, None, None) => None,
            _ => return Err("--tls-cert, --tls-key and --tls-ca: all three, or none".into()),
        };
        Ok(Node {
            roles,
            name: self.name,
            id: self.id.map(NodeId),
            store: self.store,
            cell: self.cell,
            key: CellKey(derived("links")?),
            papers,
            secret: Secret(names),
            link: self.link,
            advertise: self.advertise,
            webapp: self.webapp,
            managers: self.managers,
            admins: self.admins,
            replace_window: Duration::from_secs(u64::from(self.replace_window)),
            probation: Duration::from_secs(u64::from(self.probation)),
            http: self.http,
            ws: self.ws,
            public_ws: self.public_ws,
            region: self.region,
            relays: self.relay,
            regions,
            data: self.data,
            ephemeral: self.ephemeral,
            database: self.database,
            operator: OperatorKey::of(&key).map_err(|why| fault(&why))?,
            demo: if self.demo { Some(derived("demo")?) } else { None },
            cores: self.process.cores,
            drain: self.process.drain(),
            cpus: self.process.cpus.map(|cpus| cpus.0),
            limits,
            rules,
            warnings,
        })
    }
}

/// `ID=HOST:PORT`.
fn webapp(text: &str) -> Result<(NodeId, String), String> {
    let shape = || "not ID=HOST:PORT".to_string();
    let (id, address) = text.split_once('=').ok_or_else(shape)?;
    let id = id.parse().map_err(|_| shape())?;
    let (host, port) = address.rsplit_once(':').ok_or_else(shape)?;
    if host.is_empty() || port.parse::<u16>().is_err() {
        return Err(shape());
    }
    Ok((NodeId(id), address.into()))
}

/// `ID=HOST:PORT`, and the cores that it has, if it is not one.
fn relay(text: &str) -> Result<Relay, String> {
    let (at, cores) = text.split_once(",cores=").unwrap_or((text, "1"));
    let (node, address) = webapp(at)?;
    let cores = cores.parse().ok().filter(|cores| (1..=SUBSCRIBERS_CORES_MAX).contains(cores));
    let cores = cores.ok_or_else(|| format!("cores: 1 to {SUBSCRIBERS_CORES_MAX}"))?;
    Ok(Relay { gateway: RegionRelay { node, cores }, address })
}

fn region(text: &str) -> Result<String, String> {
    let shape = || format!("{text:?} is no name of a region: letters, digits, - _ and .");
    is_name(text).then(|| text.into()).ok_or_else(shape)
}

/// `NAME=URL`.
fn region_at(text: &str) -> Result<Region, String> {
    let (name, url) = text.split_once('=').ok_or("not NAME=URL")?;
    let url = url.trim_end_matches('/').into();
    Ok(Region { name: name.into(), url, near: Vec::new(), networks: Vec::new() })
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;
    use crate::wire::warrant::roles_of;

    #[test]
    fn a_certificate_with_the_word_of_a_role_is_enough_for_it() {
        for one in RoleName::value_variants() {
            let word = one.to_possible_value().expect("none is hidden");
            let granted = roles_of(word.get_name()).expect("certificates have the same words");
            assert!(!one.roles().is_empty() && one.roles().without(granted).is_empty(), "{one:?}");
        }
    }

    #[test]
    fn a_relay_is_a_number_an_address_and_its_cores() {
        let gateway = |cores| RegionRelay { node: NodeId(10_011), cores };
        let address = || "10.1.0.1:7400".to_string();
        let one = Relay { gateway: gateway(1), address: address() };
        assert_eq!(relay("10011=10.1.0.1:7400"), Ok(one));
        let two = Relay { gateway: gateway(2), address: address() };
        assert_eq!(relay("10011=10.1.0.1:7400,cores=2"), Ok(two));
        for wrong in ["10.1.0.1:7400", "gw1=10.1.0.1:7400", "10011=10.1.0.1", "10011=:7400"] {
            assert_eq!(relay(wrong), Err("not ID=HOST:PORT".into()), "{wrong}");
        }
        for wrong in ["0", "65", "-1", "two", ""] {
            let said = relay(&format!("10011=10.1.0.1:7400,cores={wrong}"));
            assert_eq!(said, Err("cores: 1 to 64".into()), "{wrong}");
        }
    }
}
