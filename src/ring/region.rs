//! Where clients go: the regions of a deployment, each with the address of its gateways, and who is near to whom.

use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::ids::{NodeId, is_word};
use crate::limits::{REGION_NAME_BYTES_MAX, REGION_NETWORKS_MAX, REGIONS_MAX};

/// One region.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Region {
    pub name: String,
    /// Where its gateways are reached: `ws://` or `wss://` and a host, without a path.
    pub url: String,
    /// Where its clients go when it drains, the nearest first. After these the others are tried, as they stand in the list.
    #[serde(default)]
    pub near: Vec<String>,
    /// Whoever comes from one of these belongs here, if he names no region: `10.1.0.0/16`, `2001:db8::/32`. Of two that fit the longer one counts.
    #[serde(default)]
    pub networks: Vec<IpNet>,
}

/// A gateway that other gateways of its region ask for channels instead of their owners.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RegionRelay {
    pub node: NodeId,
    /// Which of them is asked for a channel is `slot % cores`. At least one.
    pub cores: u8,
}

/// All of a deployment, in order of preference. None: clients are sent to one address.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Regions(Vec<Region>);

impl Regions {
    /// # Errors
    /// A sentence: a name or an address that is none, a region or a network that is there twice, or a neighbour that is not.
    pub fn new(list: Vec<Region>) -> Result<Self, String> {
        if list.len() > REGIONS_MAX {
            return Err(format!("{} regions are more than {REGIONS_MAX}", list.len()));
        }
        let networks = || list.iter().flat_map(|region| &region.networks);
        if networks().count() > REGION_NETWORKS_MAX {
            let count = networks().count();
            return Err(format!("{count} networks are more than {REGION_NETWORKS_MAX}"));
        }
        let is_mapped = |network: &&IpNet| matches!(network, IpNet::V6(net) if net.addr().to_ipv4_mapped().is_some());
        if let Some(network) = networks().find(is_mapped) {
            return Err(format!("network {network} is one of IPv4: say it as such"));
        }
        let mut seen = HashSet::new();
        if let Some(network) = networks().find(|network| !seen.insert(network.trunc())) {
            return Err(format!("network {network} is there twice"));
        }
        for (at, Region { name, url, near, .. }) in list.iter().enumerate() {
            if !is_name(name) {
                return Err(format!("{name:?} is no name of a region"));
            }
            let host = url.strip_prefix("ws://").or_else(|| url.strip_prefix("wss://"));
            if host.is_none_or(|host| host.is_empty() || host.contains(['/', '?', '#', ' '])) {
                return Err(format!(
                    "region {name}: {url:?} is not ws://HOST:PORT or wss://HOST:PORT"
                ));
            }
            if list[..at].iter().any(|other| other.name == *name) {
                return Err(format!("region {name} is there twice"));
            }
            if let Some(who) = near.iter().find(|who| list.iter().all(|other| other.name != **who))
            {
                return Err(format!("region {name} is near to {who:?}, which is no region"));
            }
        }
        Ok(Self(list))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Where a client goes: to the region that it asked for, else to that of its network, else to the first; and where that drains, to the
    /// nearest that does not. When all drain it goes where it would have gone: an answer is better than none.
    ///
    /// `addresses`: by which it is known, the client's own first; one that lies in no network of ours says nothing.
    pub fn choose(
        &self,
        asked: Option<&str>,
        addresses: impl IntoIterator<Item = IpAddr>,
        is_draining: impl Fn(&str) -> bool,
    ) -> Option<&Region> {
        let named = |name: &str| self.0.iter().find(|region| region.name == name);
        let by_network = || addresses.into_iter().find_map(|address| self.of(address));
        let wanted = asked.and_then(named).or_else(by_network).or_else(|| self.0.first())?;
        let near = wanted.near.iter().filter_map(|name| named(name));
        let mut all = [wanted].into_iter().chain(near).chain(&self.0);
        all.find(|region| !is_draining(&region.name)).or(Some(wanted))
    }

    /// The region in whose networks an address lies: of several networks, the longest.
    fn of(&self, address: IpAddr) -> Option<&Region> {
        let address = address.to_canonical();
        let all =
            self.0.iter().flat_map(|region| region.networks.iter().map(move |net| (net, region)));
        let fitting = all.filter(|(net, _)| net.contains(&address));
        fitting.max_by_key(|(net, _)| net.prefix_len()).map(|(_, region)| region)
    }
}

/// Whether something can be a region's name: letters, digits, `-`, `_` and `.`, as in names of hosts.
pub fn is_name(text: &str) -> bool {
    text.len() <= REGION_NAME_BYTES_MAX && is_word(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(name: &str, near: &[&str]) -> Region {
        let near = near.iter().map(|name| (*name).to_string()).collect();
        Region {
            name: name.into(),
            url: format!("wss://{name}.example"),
            near,
            networks: Vec::new(),
        }
    }

    fn networks(list: &[&str]) -> Vec<IpNet> {
        list.iter().map(|net| net.parse().expect("a network")).collect()
    }

    #[test]
    fn the_nearest_that_does_not_drain_is_chosen_and_never_none() {
        let list = vec![region("us", &[]), region("eu", &["asia"]), region("asia", &["us", "eu"])];
        let regions = Regions::new(list).expect("three");
        let choose = |asked: Option<&str>, drained: &[&str]| {
            regions.choose(asked, [], |name| drained.contains(&name)).map(|one| one.name.clone())
        };
        for (asked, drained, wanted) in [
            (None, &[][..], "us"),
            (Some("eu"), &[], "eu"),
            (Some("mars"), &[], "us"),
            (Some("eu"), &["eu"], "asia"),
            (Some("eu"), &["eu", "asia"], "us"),
            (Some("asia"), &["asia", "us"], "eu"),
            (None, &["us"], "eu"),
            (Some("asia"), &["us", "eu", "asia"], "asia"),
        ] {
            assert_eq!(choose(asked, drained).as_deref(), Some(wanted), "{asked:?} {drained:?}");
        }
        assert_eq!(Regions::default().choose(Some("eu"), [], |_| false), None);
    }

    #[test]
    fn who_names_no_region_goes_to_that_of_the_longest_network_of_the_first_address_that_lies_in_one()
     {
        let with =
            |name: &str, list: &[&str]| Region { networks: networks(list), ..region(name, &[]) };
        let regions = Regions::new(vec![
            with("us", &[]),
            with("eu", &["10.0.0.0/8", "2001:db8::/32"]),
            with("asia", &["10.7.0.0/16", "198.51.100.0/24"]),
        ]);
        let regions = regions.expect("three");
        for (asked, addresses, drained, wanted) in [
            (None, &["10.1.2.3"][..], "", "eu"),
            (None, &["10.7.2.3"], "", "asia"),
            (None, &["::ffff:10.7.2.3"], "", "asia"),
            (None, &["2001:db8:1::1"], "", "eu"),
            (None, &["203.0.113.9"], "", "us"),
            (None, &["203.0.113.9", "198.51.100.4", "10.1.2.3"], "", "asia"),
            (None, &[], "", "us"),
            (Some("us"), &["10.1.2.3"], "", "us"),
            (Some("mars"), &["10.1.2.3"], "", "eu"),
            (None, &["10.7.2.3"], "asia", "us"),
        ] {
            let list = addresses.iter().map(|address| address.parse().expect("an address"));
            let chosen = regions.choose(asked, list, |name| name == drained);
            let chosen = chosen.map(|region| region.name.as_str());
            assert_eq!(chosen, Some(wanted), "{asked:?} {addresses:?} {drained}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        let with = |url: &str| Region { url: url.into(), ..region("eu", &[]) };
        let at = |name: &str, net: &str| Region { networks: networks(&[net]), ..region(name, &[]) };
        for (list, why) in [
            (vec![at("eu", "10.1.0.0/16"), at("us", "10.1.2.3/16")], "twice"),
            (vec![at("eu", "::ffff:10.0.0.0/104")], "IPv4"),
            (vec![region("e u", &[])], "no name"),
            (vec![region("eu", &[]), region("eu", &[])], "twice"),
            (vec![region("eu", &["us"])], "no region"),
            (vec![with("https://eu.example")], "not ws://"),
            (vec![with("ws://")], "not ws://"),
            (vec![with("ws://eu.example/path")], "not ws://"),
        ] {
            let told = Regions::new(list).expect_err(why);
            assert!(told.contains(why), "{told}");
        }
        let many = (0..=REGIONS_MAX).map(|nth| region(&format!("r{nth}"), &[])).collect();
        assert!(Regions::new(many).is_err());
        let full = (0..=REGION_NETWORKS_MAX as u32)
            .map(|nth| IpNet::from(IpAddr::from(nth.to_be_bytes())));
        assert!(
            Regions::new(vec![Region { networks: full.collect(), ..region("eu", &[]) }]).is_err()
        );
    }
}
