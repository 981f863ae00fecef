//! What a client does of its own accord: posts, types, watches, pings.

use campanile::time::Mono;
use serde_json::json;

use crate::client::{Asked, Client, Phase, Unsettled};
use crate::frames;
use crate::outside::Outside;
use crate::random::Random;

impl Client {
    /// Does something.
    pub(crate) fn act(&mut self, now: Mono, outside: &mut Outside, random: &mut Random) {
        if self.phase != Phase::Live || self.is_over {
            return;
        }
        match random.below(20) {
            0..=7 => self.post_somewhere(outside, random),
            8 => self.post_again(random),
            9..=11 => self.type_somewhere(outside, random),
            12 if self.session.watches_again => self.watch_again(random),
            12 => self.watch(outside, random, 500),
            13 => {
                let ids = vec![random.pick(&outside.database.users).clone()];
                // The answer is a dot; whoever is not watched is not looked for.
                let id = self.id(Asked::Query);
                self.say(&json!({"id": id, "type": "presence_query", "ids": ids}), random);
            }
            14 => self.say(&json!({"type": "tickle"}), random),
            15 => {
                let payload = random.next().to_be_bytes().to_vec();
                frames::write(frames::PING, &payload, random, &mut self.outgoing);
                self.session.pings.push_back(payload);
            }
            16 => {
                let id = self.id(Asked::Nonsense);
                let nonsense = match random.below(3) {
                    0 => json!({"id": id, "type": "whatever"}),
                    1 => json!({"id": id, "type": "message", "text": "to nobody"}),
                    _ => json!({"id": id, "type": "resume", "epoch": "e1", "last": true}),
                };
                self.say(&nonsense, random);
            }
            _ => self.ping(now, random),
        }
    }

    pub(crate) fn ping(&mut self, now: Mono, random: &mut Random) {
        let id = self.id(Asked::Ping(now.0));
        self.say(&json!({"id": id, "type": "ping", "time": now.0}), random);
    }

    /// Posts again what was never acknowledged; for the quiet end of a run.
    pub(crate) fn settle(&mut self, random: &mut Random) {
        if self.phase == Phase::Live && !self.is_over {
            self.post_again(random);
            if self.session.watches_again {
                self.watch_again(random);
            }
        }
    }

    /// For whom there was no room.
    fn watch_again(&mut self, random: &mut Random) {
        self.session.watches_again = false;
        let ids = self.session.watching.clone();
        self.say(&json!({"type": "presence_sub", "ids": ids}), random);
    }

    /// Whoever is watched, from now on.
    pub(crate) fn watch(&mut self, outside: &mut Outside, random: &mut Random, per_mille: u64) {
        let users = outside.database.users.iter();
        let ids: Vec<String> = users.filter(|_| random.chance(per_mille)).cloned().collect();
        self.dots.retain(|user, _| self.session.watching.contains(user) && ids.contains(user));
        self.say(&json!({"type": "presence_sub", "ids": ids}), random);
        self.session.watching = ids;
        self.session.watches_again = false;
    }

    fn post_somewhere(&mut self, outside: &mut Outside, random: &mut Random) {
        let mut conversations = self.conversations();
        if random.chance(30) {
            conversations = outside.database.members.keys().cloned().collect();
        }
        if conversations.is_empty() {
            return;
        }
        let channel = random.pick(&conversations).clone();
        self.posts += 1;
        let key = format!("{}-{}", self.name, self.posts);
        let text = text(&key, outside.text_max, random);
        self.post(&key, Unsettled { channel, text, tries: 0 }, random);
    }

    fn post_again(&mut self, random: &mut Random) {
        let is_open = |key: &&String| {
            self.session.asked.values().any(|asked| *asked == Asked::Post((**key).clone()))
        };
        let again = self.unsettled.keys().find(|key| !is_open(key)).cloned();
        if let Some(key) = again {
            let unsettled = self.unsettled[&key].clone();
            self.post(&key, unsettled, random);
        }
    }

    fn post(&mut self, key: &str, mut what: Unsettled, random: &mut Random) {
        what.tries += 1;
        let id = self.id(Asked::Post(key.into()));
        let message = json!({
            "id": id, "type": "message", "channel": what.channel, "text": what.text, "client_msg_id": key,
        });
        self.unsettled.insert(key.into(), what);
        self.say(&message, random);
    }

    fn type_somewhere(&mut self, outside: &mut Outside, random: &mut Random) {
        let conversations = self.conversations();
        if conversations.is_empty() {
            return;
        }
        let channel = random.pick(&conversations).clone();
        let id = self.id(Asked::Typing);
        self.say(&json!({"id": id, "type": "typing", "channel": channel}), random);
        *outside.typed.entry((self.user.clone(), channel)).or_default() += 1;
    }

    fn id(&mut self, asked: Asked) -> u64 {
        self.next_id += 1;
        self.session.asked.insert(self.next_id, asked);
        self.next_id
    }
}

/// A text of some length that is said once.
pub(crate) fn text(key: &str, bytes_max: usize, random: &mut Random) -> String {
    let filler = if random.chance(100) { bytes_max } else { 40 };
    let filler = random.below(filler.max(1) as u64) as usize;
    let mut text = format!("{key} {}", "x".repeat(filler));
    text.truncate(bytes_max.max(key.len() + 1));
    text
}
