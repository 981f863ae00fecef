//! Who is on this core and which memory channels: told to the API, some places of the hub at a time.

use crate::centrifuge::rules::Rules;
use crate::gateway::hub::State;
use crate::gateway::shard::{Gateway, Turn};
use crate::ids::{Ask, Peer};
use crate::wire::{Message, Packed};

/// Channels of one answer, and bytes of their names.
const CHANNELS_MAX: usize = 1_024;
const BYTES_MAX: usize = 64 << 10;

impl Gateway {
    pub(in crate::gateway) fn census(&self, turn: &mut Turn<'_>, peer: Peer, ask: Ask, from: u32) {
        let (mut found, mut bytes, mut at) = (Vec::new(), 0, from);
        let mut next = 0;
        while let Some(place) = self.hub.next_place(at) {
            if found.len() >= CHANNELS_MAX || bytes >= BYTES_MAX {
                next = place;
                break;
            }
            let name = self.names.text(self.hub.name(place));
            if self.hub.state(place) != State::Leaving && Rules::is_memory(name) {
                bytes += name.len();
                found.push((name, self.hub.count(place)));
            }
            at = place + 1;
        }
        let mut list = Vec::new();
        let channels = Packed::pack(found, &mut list);
        let (clients, users) = (self.guests.count(), self.guests.users());
        let subscriptions = self.hub.subscriptions();
        let census = Message::CensusIs { ask, next, clients, users, subscriptions, channels };
        turn.out.send(peer, &census);
    }
}
