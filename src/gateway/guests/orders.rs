//! What a back end orders for a user: to subscribe, to unsubscribe, to go, to stay longer. Told to every core, and acknowledged by it.

use super::alive::{now_s, ttl};
use crate::centrifuge::code::{Disconnect, Unsubscribed};
use crate::centrifuge::message::{
    Push, RefreshPush, Reply, SubscribePush, SubscribeRequest, SubscribeResult,
};
use crate::centrifuge::order::Order;
use crate::centrifuge::rules::Rules;
use crate::gateway::session::State;
use crate::gateway::shard::{Gateway, Turn};
use crate::ids::{Ask, Peer};
use crate::shard::Counter;
use crate::wire::Message;
use crate::wire::message::order;

impl Gateway {
    /// Does what is ordered for all connections of a user on this core, and says for how many.
    pub(in crate::gateway) fn ordered(
        &mut self,
        turn: &mut Turn<'_>,
        peer: Peer,
        (ask, what): (Ask, u8),
        arguments: &[u8],
    ) {
        let Ok(order) = Order::read(arguments) else {
            turn.out.count(Counter::WireBroken);
            return turn.out.send(peer, &Message::Obeyed { ask, connections: 0 });
        };
        let user = self.guests.of_user(self.secret.key_of(&order.user));
        let user = user.map_or_else(Vec::new, |list| self.lists.as_slice(list).to_vec());
        let mut connections = 0;
        for index in user {
            let is_it = order.client.is_empty() || self.client_id(index) == order.client;
            let is_spared = order.whitelist.contains(&self.client_id(index));
            if self.sessions.of(index).state == State::Active && is_it && !is_spared {
                connections += 1;
                self.obey_order(turn, index, what, &order);
            }
        }
        turn.out.send(peer, &Message::Obeyed { ask, connections });
    }

    fn obey_order(&mut self, turn: &mut Turn<'_>, index: u32, what: u8, order: &Order<'_>) {
        match what {
            order::SUBSCRIBE => {
                let since = order.recover_since.as_ref().map(|since| SubscribeRequest {
                    recover: true,
                    offset: since.offset,
                    epoch: since.epoch.clone(),
                    ..SubscribeRequest::default()
                });
                // Whoever is subscribed already stays so; what cannot be, the API has refused.
                let _ =
                    self.subscribe_by_us(turn, index, &order.channel, &order.grant, since.as_ref());
            }
            order::UNSUBSCRIBE => {
                let places: Vec<u32> = if order.channel.is_empty() {
                    self.lists.as_slice(&self.sessions.of(index).channels).to_vec()
                } else {
                    self.place_of(index, &order.channel).into_iter().collect()
                };
                for place in places {
                    self.unsubscribe_by_us(turn, index, place, Unsubscribed::ByServer);
                }
            }
            order::REFRESH if order.expired => self.disconnect(turn, index, Disconnect::Expired),
            order::REFRESH => {
                self.set_expiry(turn, index, order.expire_at);
                let ttl = ttl(order.expire_at, now_s(turn));
                let refresh = RefreshPush { expires: order.expire_at.is_some(), ttl };
                let push = Push { refresh: Some(refresh), ..Push::default() };
                self.answer(turn, index, Reply { push: Some(push), ..Reply::default() });
            }
            _ => match &order.disconnect {
                Some(why) => self.hang_up(turn, index, why.code, &why.reason),
                None => self.disconnect(turn, index, Disconnect::ForceDisconnect),
            },
        }
    }

    /// A subscription by us stands, that does not go with `connect`.
    pub(super) fn push_subscribed(
        &mut self,
        turn: &mut Turn<'_>,
        index: u32,
        place: u32,
        result: SubscribeResult,
    ) {
        let channel = Rules::outside(self.names.text(self.hub.name(place))).into_owned();
        let subscribe = SubscribePush {
            recoverable: result.recoverable,
            epoch: result.epoch,
            offset: result.offset,
            positioned: result.positioned,
            data: result.data,
        };
        let push = Push { channel, subscribe: Some(subscribe), ..Push::default() };
        self.answer(turn, index, Reply { push: Some(push), ..Reply::default() });
    }
}
