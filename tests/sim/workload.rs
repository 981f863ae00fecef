//! What people do by the Web API, and what strangers do at the door.

use campanile::ids::{Origin, Peer, Role};
use campanile::ring::slot_of;
use campanile::wire::Message;
use campanile::wire::message::order;

use crate::agenda::Happening;
use crate::answers::encoded;
use crate::canary::Canary;
use crate::ending::Stage;
use crate::guest::CHANNELS;
use crate::network::End;
use crate::node::SECRET;
use crate::speech::text;
use crate::world::World;

/// Conversations that there are at most.
const CONVERSATIONS_MAX: usize = 9;

impl World {
    /// Somebody does something, if there is a process that answers.
    pub(crate) fn use_api(&mut self) {
        if self.stage != Stage::Active {
            return;
        }
        let pause = self.soon(self.api_pause_us * 2);
        self.agenda.after(pause, Happening::Api);
        if self.desk().is_none() || !self.hands.can_write() {
            return;
        }
        let user = self.workload.pick(&self.outside.database.users).clone();
        let channels: Vec<String> = self.outside.database.members.keys().cloned().collect();
        let channel = self.workload.pick(&channels).clone();
        match self.workload.below(40) {
            0..=19 => self.posts(&user, &channel, 1),
            20 => {
                let count = self.workload.between(5, 40);
                self.posts(&user, &channel, count);
            }
            21..=24 => self.change(|world| world.outside.database.join(&user, &channel)),
            25..=27 => self.change(|world| world.outside.database.leave(&user, &channel)),
            28 => {
                // In and out, and in again, before anybody has heard of it.
                for _ in 0..2 {
                    self.change(|world| world.outside.database.leave(&user, &channel));
                    self.change(|world| world.outside.database.join(&user, &channel));
                }
            }
            29..=31 => {
                let tip = self.outside.database.tip(&channel);
                if tip > 0 {
                    let offset = self.workload.between(1, tip);
                    self.change(|world| world.outside.database.edit(&channel, offset));
                }
            }
            32 | 33 => self.change(|world| world.outside.database.mark(&user, &channel)),
            34 if channels.len() < CONVERSATIONS_MAX => {
                self.change(|world| world.outside.database.create(&user));
            }
            35 => {
                let away = self.workload.chance(500);
                self.set_presence(&user, away);
            }
            36 => self.ask_presence(&user, 0),
            37 => self.order(),
            38 => self.revoke(),
            _ => {}
        }
    }

    fn change(&mut self, change: impl FnOnce(&mut Self) -> Vec<u64>) {
        let rows = change(self);
        self.committed(&rows);
    }

    fn posts(&mut self, user: &str, channel: &str, count: u64) {
        for _ in 0..count {
            self.said += 1;
            let key = format!("api-{}", self.said);
            let mut said = text(&key, self.outside.text_max, &mut self.workload);
            if self.options.canary == Some(Canary::OtherByte) && self.said >= 3 {
                said.push('y');
            }
            let posted = self.outside.database.post(user, channel, &said, &key, Origin::NOBODY);
            if let Ok((_, rows)) = posted {
                self.committed(&rows);
            }
        }
    }

    /// users.setPresence: into the database, and to whoever keeps it.
    pub(crate) fn set_presence(&mut self, user: &str, away: bool) {
        self.by_hand.insert(user.into());
        self.has_hands = true;
        self.change(|world| world.outside.database.away(user, away));
        let (slot, key) = (slot_of(user), SECRET.key_of(user));
        let manual = encoded(&Message::Manual { slot, user: key, away });
        self.http(self.desk_shard(), manual);
    }

    /// An operator revokes the token of somebody, who may be connected, have a ticket, or be on the way in.
    fn revoke(&mut self) {
        let client = self.workload.below(self.devices.len() as u64) as usize;
        self.revoke_token(self.devices[client].client.token);
    }

    pub(crate) fn revoke_token(&mut self, token: u32) {
        let user = self.outside.database.revoke(token);
        self.outside.trace.tell(self.agenda.now, || format!("token {token} of {user} is revoked"));
        self.tell_revoked(&[(token, user)]);
    }

    /// The writer tells the desk, until it is heard.
    fn tell_revoked(&mut self, tokens: &[(u32, String)]) {
        let mut list = Vec::new();
        let pairs = tokens.iter().map(|(token, user)| (*token, user.as_str()));
        let tokens = campanile::wire::Packed::pack(pairs, &mut list);
        self.http(self.desk_shard(), encoded(&Message::Revoke { tokens }));
    }

    /// A webapp starts, and tells its desk what was revoked before.
    pub(crate) fn tell_revoked_before(&mut self) {
        let revoked = self.outside.database.revocations();
        let revoked: Vec<_> = revoked.map(|(token, user)| (token, user.to_string())).collect();
        if !revoked.is_empty() {
            self.tell_revoked(&revoked);
        }
    }

    /// A back end wants a guest's user to leave a channel, or to go.
    fn order(&mut self) {
        if self.guests.is_empty() {
            return;
        }
        let guest = self.workload.below(self.guests.len() as u64) as usize;
        let user = self.guests[guest].user();
        let channel = *self.workload.pick(&CHANNELS);
        let what = *self.workload.pick(&[order::UNSUBSCRIBE, order::DISCONNECT]);
        let arguments = serde_json::json!({"user": user, "channel": channel}).to_string();
        let arguments = arguments.as_bytes();
        for gateway in self.known_gateways() {
            let ask = campanile::ids::Ask(0);
            let order = encoded(&Message::Order { ask, what, arguments });
            self.http(gateway, order);
        }
    }

    fn desk_shard(&self) -> Peer {
        Peer::control(self.nodes[self.layout.webapp].id, Role::Webapp)
    }

    /// users.getPresence.
    pub(crate) fn ask_presence(&mut self, user: &str, ask: u32) {
        let ask = campanile::ids::Ask(ask);
        let (slot, user) = (slot_of(user), SECRET.key_of(user));
        let query = encoded(&Message::PresenceQuery { ask, slot, user });
        self.http(self.desk_shard(), query);
    }

    /// Somebody who speaks no RTM, or does not go on.
    pub(crate) fn visit(&mut self) {
        if self.stage != Stage::Active {
            return;
        }
        let pause = self.soon(6_000_000);
        self.agenda.after(pause, Happening::Stranger);
        let Some(at) = self.a_gateway() else { return };
        let process = self.nodes[at].process;
        let socket = self.network.open(&mut self.agenda, None, (at, process));
        let upgrade = |ticket: &str| {
            format!(
                "GET /websocket/{ticket} HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            .into_bytes()
        };
        let user = self.outside.database.users[0].clone();
        let bytes = match self.workload.below(8) {
            0 => b"GET / HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(),
            1 => b"\x16\x03\x01\x02\x00\x01\x00".to_vec(),
            2 => b"GET /websocket/".to_vec(),
            3 => [b"GET /x HTTP/1.1\r\nA: ".to_vec(), vec![b'x'; 2_000]].concat(),
            4 => upgrade("no-such-ticket"),
            // A message that never ends; a frame that is not masked; too many pings: behind a good ticket.
            kind => {
                let token = self.outside.database.login(&user);
                let ticket = self.outside.database.connect(&user, token, 0).expect("new").name;
                let rest = match kind {
                    5 => vec![0x01, 0x83, 0, 0, 0, 0, b'{', b'"'],
                    6 => vec![0x81, 0x02, b'{', b'}'],
                    _ => [0x89, 0x80, 1, 2, 3, 4].repeat(60),
                };
                [upgrade(&ticket), rest].concat()
            }
        };
        self.outside.coverage.saw("strangers");
        self.network.write(&mut self.agenda, socket, &bytes);
        if self.workload.chance(300) {
            let how = if self.workload.chance(500) { End::Fin } else { End::Reset };
            self.network.end(&mut self.agenda, socket, how);
        }
    }
}
