//! A simulated Centrifuge client: subscribes, recovers, publishes, and judges what it is told.
//!
//! Of each life of a channel all clients and the wire agree which publication stands at which offset, none is there twice, and nobody
//! passes one over but by a reply that says so.

use std::collections::{BTreeMap, BTreeSet};

use campanile::time::Mono;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::checker::Violation;
use crate::coverage::Coverage;
use crate::database::Database;
use crate::frames::{self, Stream};
use crate::node::TOKEN_SECRET;
use crate::outside::Outside;
use crate::random::Random;
use crate::streams::{Judged, Streams, is_conversation, wrong};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    Away,
    Opening,
    Upgrading,
    Connecting,
    Live,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Asked {
    Connect,
    Subscribe { channel: String, since: Option<(String, u64)> },
    Unsubscribe { channel: String },
    Publish { channel: String, data: String },
    History { channel: String },
    Stats { channel: String },
    Presence,
}

/// Where it stands in a channel.
#[derive(Clone, Debug)]
struct Place {
    epoch: String,
    offset: u64,
    is_live: bool,
}

#[derive(Debug)]
pub(crate) struct Guest {
    name: String,
    user: String,
    pub(crate) phase: Phase,
    pub(crate) socket: Option<usize>,
    pub(crate) attempt: u64,
    pub(crate) is_over: bool,
    pub(crate) is_retired: bool,
    pub(crate) heard_at: Mono,
    pub(crate) outgoing: Vec<u8>,
    stream: Stream,
    next_id: u32,
    said: u64,
    asked: BTreeMap<u32, Asked>,
    wants: BTreeSet<String>,
    places: BTreeMap<String, Place>,
    /// How many clients a channel had when it was last asked.
    stats: BTreeMap<String, u64>,
    is_closed: bool,
    /// Channels that nobody else comes to, of a tourist.
    sights: u64,
}

pub(crate) const WORKSPACE: &str = "workspace:";

/// A token that says who a guest is.
fn token(user: &str) -> String {
    let key = EncodingKey::from_secret(TOKEN_SECRET.as_bytes());
    encode(&Header::default(), &json!({"sub": user}), &key).expect("a token")
}

pub(crate) const CHANNELS: [&str; 4] = ["g0", "g1", "g2", "g3"];

impl Guest {
    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    pub(crate) fn new(name: String, user: &str) -> Self {
        Self {
            name,
            user: user.into(),
            phase: Phase::Away,
            socket: None,
            attempt: 0,
            is_over: false,
            is_retired: false,
            heard_at: Mono(0),
            outgoing: Vec::new(),
            stream: Stream::default(),
            next_id: 0,
            said: 0,
            asked: BTreeMap::new(),
            wants: BTreeSet::new(),
            places: BTreeMap::new(),
            stats: BTreeMap::new(),
            is_closed: false,
            sights: 0,
        }
    }

    pub(crate) fn with_sights(self, sights: u64) -> Self {
        Self { sights, ..self }
    }

    pub(crate) fn is_tourist(&self) -> bool {
        self.sights > 0
    }

    /// Its socket is open.
    pub(crate) fn opened(&mut self, now: Mono) {
        self.outgoing.extend(b"GET /connection/websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
        self.stream = Stream::default();
        self.asked.clear();
        self.stats.clear();
        (self.heard_at, self.phase) = (now, Phase::Upgrading);
        (self.is_over, self.is_closed) = (false, false);
    }

    pub(crate) fn lost(&mut self) {
        self.phase = Phase::Away;
        self.places.values_mut().for_each(|place| place.is_live = false);
    }

    fn say(&mut self, asked: Asked, random: &mut Random) {
        self.next_id += 1;
        let id = self.next_id;
        let command = match &asked {
            Asked::Connect => json!({"id": id, "connect": {"token": token(&self.user)}}),
            Asked::Subscribe { channel, since: None } => {
                json!({"id": id, "subscribe": {"channel": channel}})
            }
            Asked::Subscribe { channel, since: Some((epoch, offset)) } => {
                json!({"id": id, "subscribe": {"channel": channel, "recover": true, "epoch": epoch, "offset": offset}})
            }
            Asked::Unsubscribe { channel } => {
                json!({"id": id, "unsubscribe": {"channel": channel}})
            }
            Asked::Publish { channel, data } => {
                let data: Value = serde_json::from_str(data).expect("it made it");
                json!({"id": id, "publish": {"channel": channel, "data": data}})
            }
            Asked::History { channel } => {
                json!({"id": id, "history": {"channel": channel, "limit": -1}})
            }
            Asked::Stats { channel } => json!({"id": id, "presence_stats": {"channel": channel}}),
            Asked::Presence => json!({"id": id, "presence": {"channel": CHANNELS[0]}}),
        };
        self.asked.insert(id, asked);
        self.send(&command.to_string(), random);
    }

    fn send(&mut self, text: &str, random: &mut Random) {
        // A ping between two pieces is answered by a pong, which says nothing here.
        frames::write(frames::TEXT, text.as_bytes(), random, &mut self.outgoing);
    }

    /// Subscribes to what it wants and is not subscribed to.
    fn want(&mut self, random: &mut Random) {
        for channel in self.wants.clone() {
            let place = self.places.get(&channel);
            if self.is_asked(&channel) || place.is_some_and(|place| place.is_live) {
                continue;
            }
            let since = place.map(|place| (place.epoch.clone(), place.offset));
            self.say(Asked::Subscribe { channel, since }, random);
        }
    }

    /// Whether a subscription or its end is on its way.
    fn is_asked(&self, channel: &str) -> bool {
        self.asked.values().any(|asked| match asked {
            Asked::Subscribe { channel: other, .. } | Asked::Unsubscribe { channel: other } => {
                other == channel
            }
            _ => false,
        })
    }

    /// Does something of its own accord.
    pub(crate) fn act(&mut self, outside: &mut Outside, random: &mut Random) {
        if self.phase != Phase::Live {
            return;
        }
        if self.is_tourist() {
            outside.coverage.saw("tourists about");
            for _ in 0..8 {
                self.wants.insert(format!("{}-{}", self.name, random.below(self.sights)));
            }
            return self.want(random);
        }
        if random.chance(250) {
            return self.act_in_workspace(&outside.database, random);
        }
        let channel = random.pick(&CHANNELS).to_string();
        match random.below(12) {
            0..=5 => {
                for _ in 0..*random.pick(&[1, 1, 1, 3, 12]) {
                    self.said += 1;
                    let filler = "x".repeat(random.below(200) as usize);
                    let data = json!({"k": format!("{}-{}", self.name, self.said), "f": filler});
                    let data = data.to_string();
                    self.say(Asked::Publish { channel: channel.clone(), data }, random);
                }
            }
            6 | 7 => {
                self.wants.insert(channel);
            }
            8 if !self.is_asked(&channel) => {
                self.wants.remove(&channel);
                if self.places.remove(&channel).is_some_and(|place| place.is_live) {
                    self.say(Asked::Unsubscribe { channel }, random);
                }
            }
            9 => self.say(Asked::History { channel }, random),
            10 => self.say(Asked::Presence, random),
            _ => outside.coverage.saw("guests that only listened"),
        }
        self.want(random);
    }

    /// The same in a conversation, of which its user may be a member.
    fn act_in_workspace(&mut self, database: &Database, random: &mut Random) {
        let conversations: Vec<&String> = database.members.keys().collect();
        let channel = format!("{WORKSPACE}{}", random.pick(&conversations));
        match random.below(5) {
            0 => {
                self.said += 1;
                let key = format!("{}-{}", self.name, self.said);
                let data = json!({"text": key, "client_msg_id": key}).to_string();
                self.say(Asked::Publish { channel, data }, random);
            }
            1 if !self.is_asked(&channel) => {
                self.wants.remove(&channel);
                if self.places.remove(&channel).is_some_and(|place| place.is_live) {
                    self.say(Asked::Unsubscribe { channel }, random);
                }
            }
            _ => {
                self.wants.insert(channel);
            }
        }
        self.want(random);
    }

    /// In the quiet: what is still wanted, and who is there.
    pub(crate) fn settle(&mut self, random: &mut Random) {
        if self.phase == Phase::Live {
            self.want(random);
            let is_asking = self.asked.values().any(|asked| matches!(asked, Asked::Stats { .. }));
            let channel = self.wants.iter().find(|channel| !is_conversation(channel)).cloned();
            if !is_asking && let Some(channel) = channel {
                self.say(Asked::Stats { channel }, random);
            }
        }
    }

    /// Takes bytes of the server; everything wrong with them is a violation.
    pub(crate) fn receive(
        &mut self,
        bytes: &[u8],
        now: Mono,
        streams: &mut Streams,
        coverage: &mut Coverage,
        random: &mut Random,
    ) -> Judged {
        self.heard_at = now;
        self.stream.extend(bytes);
        if self.phase == Phase::Upgrading {
            let Some(head) = self.stream.head() else { return Ok(()) };
            if !head.starts_with(b"HTTP/1.1 101 ") {
                self.is_over = true;
                return Ok(());
            }
            self.phase = Phase::Connecting;
            self.say(Asked::Connect, random);
        }
        while let Some(frame) = self.stream.next()? {
            if self.is_closed {
                return wrong(format!("RFC 6455: {} was told {frame:?} after Close", self.name));
            }
            match frame.opcode {
                frames::TEXT => {
                    let Ok(reply) = serde_json::from_slice::<Value>(&frame.payload) else {
                        return wrong(format!("not JSON: {:?}", frame.payload));
                    };
                    self.hear(&reply, streams, coverage, random)?;
                }
                frames::CLOSE => {
                    let code = frame.payload.first_chunk().map(|two| u16::from_be_bytes(*two));
                    (self.is_closed, self.is_over) = (true, true);
                    match code {
                        Some(3001) => coverage.saw("guests sent away by a shutdown"),
                        Some(3011) => coverage.saw("guests sent to another region"),
                        Some(3503) => coverage.saw("guests sent away by order"),
                        Some(3008) => coverage.saw("guests that were too slow"),
                        Some(3012 | 3502) => coverage.saw("guests that were silent"),
                        other => {
                            return wrong(format!("{} is closed with {other:?}", self.name));
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn hear(
        &mut self,
        reply: &Value,
        streams: &mut Streams,
        coverage: &mut Coverage,
        random: &mut Random,
    ) -> Judged {
        if let Some(id) = reply["id"].as_u64() {
            let Some(asked) = self.asked.remove(&(id as u32)) else {
                return wrong(format!("{} did not ask {reply}", self.name));
            };
            return self.answered(asked, reply, streams, coverage, random);
        }
        let Some(push) = reply.get("push") else {
            if *reply == json!({}) {
                coverage.saw("guests that were pinged");
                self.send("{}", random);
                return Ok(());
            }
            return wrong(format!("{} is told {reply}", self.name));
        };
        let channel = push["channel"].as_str().unwrap_or_default();
        if push.get("join").or_else(|| push.get("leave")).is_some_and(|one| one["info"].is_object())
        {
            coverage.saw("joins and leaves");
            return Ok(());
        }
        if let Some(end) = push.get("unsubscribe") {
            coverage.saw("subscriptions that were ended");
            if let Some(place) = self.places.get_mut(channel) {
                place.is_live = false;
            }
            return match end["code"].as_u64() {
                Some(2_500) => Ok(()),
                Some(2_000) => {
                    // Its user left the conversation, or a back end ordered it.
                    coverage.saw("guests that were unsubscribed");
                    self.places.remove(channel);
                    self.wants.remove(channel);
                    Ok(())
                }
                _ => wrong(format!("{}: {reply}", self.name)),
            };
        }
        let Some(place) = self.places.get_mut(channel).filter(|place| place.is_live) else {
            // Said before the end of its subscription was heard there.
            let is_leaving = self.asked.values().any(
                |asked| matches!(asked, Asked::Unsubscribe { channel: other } if other == channel),
            );
            if is_leaving {
                return Ok(());
            }
            return wrong(format!("I20: {} is not subscribed, and told {reply}", self.name));
        };
        let publication = &push["pub"];
        let offset = publication["offset"].as_u64().unwrap_or(0);
        if offset != place.offset + 1 {
            return wrong(format!("I18: {} stands at {place:?} and is told {reply}", self.name));
        }
        place.offset = offset;
        streams.stands(channel, &place.epoch, offset, &publication["data"].to_string())
    }

    fn answered(
        &mut self,
        asked: Asked,
        reply: &Value,
        streams: &mut Streams,
        coverage: &mut Coverage,
        random: &mut Random,
    ) -> Judged {
        if let Some(error) = reply.get("error") {
            coverage.saw("guests that were refused");
            return match (error["code"].as_u64(), &asked) {
                (Some(103), Asked::Subscribe { channel, .. }) if is_conversation(channel) => {
                    coverage.saw("guests that were no members");
                    self.places.remove(channel);
                    self.wants.remove(channel);
                    Ok(())
                }
                (Some(103), Asked::Publish { channel, .. }) if is_conversation(channel) => Ok(()),
                (Some(100), Asked::Connect) => {
                    coverage.saw("guests without room");
                    self.is_over = true;
                    Ok(())
                }
                (Some(100 | 111), _) if asked != Asked::Connect => Ok(()),
                _ => wrong(format!("{}: {reply} to {asked:?}", self.name)),
            };
        }
        match asked {
            Asked::Connect => {
                self.phase = Phase::Live;
                self.want(random);
                Ok(())
            }
            Asked::Subscribe { channel, since } => {
                self.subscribed(&channel, since, &reply["subscribe"], streams, coverage)
            }
            Asked::Publish { channel, .. } if is_conversation(&channel) => {
                coverage.saw("guests' messages");
                Ok(())
            }
            Asked::Publish { channel, data } => {
                coverage.saw("guests' publications");
                if streams.known.contains(&(channel.clone(), data.clone())) {
                    return Ok(());
                }
                wrong(format!("I22: {data} in {channel} is acknowledged, and nobody has it"))
            }
            Asked::History { channel } => {
                let history = &reply["history"];
                let epoch = history["epoch"].as_str().unwrap_or_default();
                let mut before = None;
                for one in history["publications"].as_array().into_iter().flatten() {
                    let offset = one["offset"].as_u64().unwrap_or(0);
                    if before.is_some_and(|before: u64| offset != before + 1) {
                        return wrong(format!("I18: a history with a hole: {history}"));
                    }
                    before = Some(offset);
                    streams.stands(&channel, epoch, offset, &one["data"].to_string())?;
                }
                coverage.saw("histories");
                Ok(())
            }
            Asked::Stats { channel } => {
                let count = reply["presence_stats"]["num_clients"].as_u64().unwrap_or(0);
                self.stats.insert(channel, count);
                Ok(())
            }
            Asked::Unsubscribe { .. } | Asked::Presence => Ok(()),
        }
    }

    fn subscribed(
        &mut self,
        channel: &str,
        since: Option<(String, u64)>,
        result: &Value,
        streams: &mut Streams,
        coverage: &mut Coverage,
    ) -> Judged {
        let epoch = result["epoch"].as_str().unwrap_or_default().to_string();
        let mut offset = result["offset"].as_u64().unwrap_or(0);
        let recovered = result["recovered"] == true;
        if epoch.is_empty() || since.is_some() != (result["was_recovering"] == true) {
            return wrong(format!("{} asked since {since:?}: {result}", self.name));
        }
        if let Some((old, from)) = &since {
            coverage.saw(if recovered { "recoveries" } else { "recoveries that were refused" });
            if recovered && (*old != epoch || offset != *from) {
                return wrong(format!("I21: {} asked since {old} {from}: {result}", self.name));
            }
            if !recovered && *old == epoch && offset < *from {
                return wrong(format!("I21: {channel} went back from {from}: {result}"));
            }
        }
        for one in result["publications"].as_array().into_iter().flatten() {
            let next = one["offset"].as_u64().unwrap_or(0);
            if !recovered || next != offset + 1 {
                return wrong(format!("I18: a recovery with a hole: {result}"));
            }
            offset = next;
            streams.stands(channel, &epoch, offset, &one["data"].to_string())?;
        }
        let is_live = true;
        self.places.insert(channel.into(), Place { epoch, offset, is_live });
        Ok(())
    }

    /// Channels in which it is, for everybody who counts.
    pub(crate) fn is_in(&self, channel: &str) -> bool {
        self.phase == Phase::Live && self.places.get(channel).is_some_and(|place| place.is_live)
    }

    /// What is still owed when everything has come to rest.
    pub(crate) fn owed(
        &self,
        streams: &Streams,
        database: &Database,
        all: &[Self],
    ) -> Option<Violation> {
        let owed = |what: String| Some(Violation(format!("I22: {} {what}", self.name)));
        if self.phase != Phase::Live {
            return owed(format!("is {:?} at the end", self.phase));
        }
        for channel in &self.wants {
            let Some(place) = self.places.get(channel).filter(|place| place.is_live) else {
                return owed(format!("is not subscribed to {channel}"));
            };
            if let Some(conversation) = channel.strip_prefix(WORKSPACE) {
                let is_member = database.members[conversation].contains(&self.user);
                if !is_member || place.offset != database.tip(conversation) {
                    let tip = database.tip(conversation);
                    return owed(format!(
                        "stands in {channel} at {place:?}, the tip is {tip}, member: {is_member}"
                    ));
                }
                continue;
            }
            let tip = streams.tip(channel, &place.epoch);
            let others = all.iter().filter(|other| other.is_in(channel));
            let mut places = others.filter_map(|other| other.places.get(channel));
            if let Some(other) =
                places.find(|other| (&other.epoch, other.offset) != (&place.epoch, place.offset))
            {
                return owed(format!("stands in {channel} at {place:?}, another at {other:?}"));
            }
            if place.offset < tip {
                return owed(format!("stands in {channel} at {place:?}, and the tip is {tip}"));
            }
        }
        if let Some(channel) = self.wants.iter().find(|channel| !is_conversation(channel)) {
            let truth = all.iter().filter(|other| other.is_in(channel)).count() as u64;
            let told = self.stats.get(channel).copied();
            if told != Some(truth) {
                return owed(format!("is told that {told:?} are in {channel}, and {truth} are"));
            }
        }
        None
    }
}
