//! Who is connected and which channels have subscribers: asked of every gateway core, page by page.

use std::collections::BTreeMap;

use glob::Pattern;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Api;
use crate::centrifuge::code::Fault;
use crate::centrifuge::rules::Rules;
use crate::ids::{NodeId, Peer};
use crate::wire::Message;

#[derive(Deserialize)]
pub(super) struct Wanted {
    /// `*`, `?` and `[..]` as in a shell; empty: all.
    #[serde(default)]
    pattern: String,
}

/// Of one core.
struct Page {
    next: u32,
    clients: u32,
    users: u32,
    subscriptions: u64,
    channels: Vec<(String, u32)>,
}

/// Channels of one answer.
const CHANNELS_MAX: usize = 100_000;

pub(super) async fn channels(api: &Api, wanted: Wanted) -> Result<Value, Fault> {
    let pattern = match &*wanted.pattern {
        "" => None,
        pattern => Some(Pattern::new(pattern).map_err(|_| Fault::BadRequest)?),
    };
    let mut found: BTreeMap<String, u32> = BTreeMap::new();
    for core in api.gateways() {
        let mut from = 0;
        loop {
            let page = page(api, core, from).await?;
            for (inside, clients) in page.channels {
                let name = Rules::outside(&inside);
                if pattern.as_ref().is_none_or(|pattern| pattern.matches(&name)) {
                    *found.entry(name.into_owned()).or_default() += clients;
                }
            }
            if found.len() > CHANNELS_MAX {
                return Err(Fault::LimitExceeded);
            }
            from = page.next;
            if from == 0 {
                break;
            }
        }
    }
    let shown = |(name, clients)| (name, json!({ "num_clients": clients }));
    let channels: serde_json::Map<String, Value> = found.into_iter().map(shown).collect();
    Ok(json!({ "channels": channels }))
}

/// Users and channels are counted by core: whoever is on two is counted twice.
pub(super) async fn info(api: &Api) -> Result<Value, Fault> {
    let mut nodes: BTreeMap<NodeId, [u64; 4]> = BTreeMap::new();
    for core in api.gateways() {
        let sums = nodes.entry(core.node).or_default();
        let mut from = 0;
        loop {
            let page = page(api, core, from).await?;
            if from == 0 {
                sums[0] += u64::from(page.clients);
                sums[1] += u64::from(page.users);
                sums[2] += page.subscriptions;
            }
            sums[3] += page.channels.len() as u64;
            from = page.next;
            if from == 0 {
                break;
            }
        }
    }
    let shown = |(node, [clients, users, subscriptions, channels]): (NodeId, [u64; 4])| {
        json!({
            "uid": format!("{:08x}-{}", api.life, node.0),
            "name": format!("node-{}", node.0),
            "version": env!("CARGO_PKG_VERSION"),
            "num_clients": clients,
            "num_users": users,
            "num_subs": subscriptions,
            "num_channels": channels,
            "uptime": api.started.elapsed().as_secs(),
        })
    };
    Ok(json!({ "nodes": nodes.into_iter().map(shown).collect::<Vec<_>>() }))
}

async fn page(api: &Api, core: Peer, from: u32) -> Result<Page, Fault> {
    let answer = api.control.ask(core, |ask| Message::Census { ask, from }).await;
    let answer = answer.map_err(|_| Fault::Internal)?;
    let Ok(Message::CensusIs { next, clients, users, subscriptions, channels, .. }) =
        Message::decode(&answer)
    else {
        return Err(Fault::Internal);
    };
    let channels = channels.iter::<(&str, u32)>();
    let channels = channels.map(|(name, clients)| (name.to_string(), clients)).collect();
    Ok(Page { next, clients, users, subscriptions, channels })
}
