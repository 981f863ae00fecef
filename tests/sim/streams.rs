//! What was published in channels that guests follow, as the wire and all guests saw it: of each life one truth.

use std::collections::{BTreeMap, BTreeSet};

use campanile::ids::{Peer, Role};
use campanile::wire::Message;
use campanile::wire::message::namespace::MEMORY;

use crate::checker::{Spot, Violation, spot};
use crate::guest::WORKSPACE;
use crate::outside::Outside;

pub(crate) type Judged = Result<(), Violation>;

pub(crate) fn wrong<T>(what: String) -> Result<T, Violation> {
    Err(Violation(what))
}

/// What was published in memory channels, as anybody saw it.
#[derive(Default, Debug)]
pub(crate) struct Streams {
    /// By channel and epoch: what stands at each offset.
    truth: BTreeMap<(String, String), BTreeMap<u64, String>>,
    places: BTreeMap<(String, String, String), u64>,
    /// By channel: what stands in any life of it.
    pub(crate) known: BTreeSet<(String, String)>,
    /// On their way to an owner: by the gateway core and its question.
    pending: BTreeMap<(Spot, u32), (String, String)>,
}

impl Streams {
    /// A gateway core asks an owner to publish.
    pub(crate) fn sent(&mut self, from: Spot, ask: u32, inside: &str, payload: &[u8]) {
        let data = campanile::centrifuge::payload::read(payload, 0, true).map(|one| one.data);
        let data = String::from_utf8(data.unwrap_or_default()).unwrap_or_default();
        self.pending.insert((from, ask), (inside[1..].into(), data));
    }

    /// A process ended: the questions of the next have nothing to do with its.
    pub(crate) fn forget_pending(&mut self, node: u16) {
        self.pending.retain(|(spot, _), _| spot.0 != node);
    }

    /// The owner did.
    pub(crate) fn published(&mut self, to: Spot, ask: u32, epoch: u32, offset: u64) -> Judged {
        let Some((channel, data)) = self.pending.remove(&(to, ask)) else { return Ok(()) };
        self.stands(&channel, &campanile::centrifuge::push::epoch(epoch), offset, &data)
    }

    /// Somebody saw a publication at its place.
    pub(crate) fn stands(&mut self, channel: &str, epoch: &str, offset: u64, data: &str) -> Judged {
        let stream = self.truth.entry((channel.into(), epoch.into())).or_default();
        let known = stream.entry(offset).or_insert_with(|| data.into());
        if known != data {
            return wrong(format!("I19: {channel} {epoch} {offset} is {known} and {data}"));
        }
        if is_conversation(channel) {
            // Two events of one may say the same; the database knows how many there are.
            return Ok(());
        }
        let key = (channel.into(), epoch.into(), data.into());
        let place = *self.places.entry(key).or_insert(offset);
        if place != offset {
            return wrong(format!(
                "I19: {data} stands in {channel} {epoch} at {place} and {offset}"
            ));
        }
        self.known.insert((channel.into(), data.into()));
        Ok(())
    }

    pub(crate) fn tip(&self, channel: &str, epoch: &str) -> u64 {
        let stream = self.truth.get(&(channel.into(), epoch.into()));
        stream.and_then(|stream| stream.keys().next_back().copied()).unwrap_or(0)
    }
}

/// A message comes to its shard: publications on their way to owners of memory channels, and what became of them.
pub(crate) fn heard(outside: &mut Outside, here: Peer, from: Peer, message: &Message<'_>) {
    let ((here, to), (from_place, from)) = ((spot(here), here.role), (spot(from), from.role));
    match *message {
        Message::Publish { namespace: MEMORY, ask, name, payload, .. } if to == Role::Channel => {
            outside.streams.sent(from_place, ask.0, name, payload);
        }
        Message::Published { ask, accepted: true, epoch, offset, .. }
            if (to, from) == (Role::Gateway, Role::Channel) =>
        {
            if let Err(Violation(what)) = outside.streams.published(here, ask.0, epoch, offset) {
                outside.checker.broken(what);
            }
        }
        _ => {}
    }
}

pub(crate) fn is_conversation(channel: &str) -> bool {
    channel.starts_with(WORKSPACE)
}
