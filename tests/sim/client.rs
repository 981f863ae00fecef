//! A simulated client: speaks RTM over a byte stream, keeps positions as the protocol asks, and judges what it is given.
//!
//! Its websocket is a naive one of its own, so that a fault of the product's codec is not mirrored here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Value, json};

use crate::database::{Database, EPOCH};
use crate::random::Random;

/// How the client comes back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Manner {
    /// `rtm.connect` with `resume=true`, then its positions.
    Resumes,
    /// As unmodified libraries do: what was before the ticket is in the history.
    ReadsHistory,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    Away,
    Upgrading,
    Greeting,
    Live,
}

/// A broken promise: which invariant, and what was seen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Violation(pub(crate) String);

/// Where the client stands in one channel.
#[derive(Clone, Debug)]
struct Track {
    /// Everything from here on is owed to us.
    start: u64,
    /// Last offset that this connection gave.
    given: u64,
    /// Where in the channel we last came in.
    joined: u64,
    held: BTreeSet<u64>,
}

impl Track {
    fn new(start: u64) -> Self {
        Self { start, given: start, joined: 0, held: BTreeSet::new() }
    }
    /// The highest contiguous offset held.
    fn position(&self) -> u64 {
        let mut at = self.start;
        while self.held.contains(&(at + 1)) {
            at += 1;
        }
        at
    }
}

#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) user: String,
    pub(crate) manner: Manner,
    pub(crate) phase: Phase,
    tracks: BTreeMap<String, Track>,
    /// Bytes received, not parsed yet.
    stream: Vec<u8>,
    /// Bytes to send.
    pub(crate) outgoing: VecDeque<u8>,
    /// client_msg_ids without a good ack: id -> channel.
    unsettled: BTreeMap<String, String>,
    /// Sent on this connection: RTM id -> client_msg_id.
    sent: BTreeMap<u64, String>,
    next_id: u64,
    posts: u64,
    pub(crate) closed_by_server: bool,
    pub(crate) events_seen: u64,
    pub(crate) gaps_seen: u64,
    pub(crate) dots: BTreeMap<String, bool>,
    watching: Vec<String>,
}

impl Client {
    pub(crate) fn new(user: &str, manner: Manner) -> Self {
        Self {
            user: user.into(),
            manner,
            phase: Phase::Away,
            tracks: BTreeMap::new(),
            stream: Vec::new(),
            outgoing: VecDeque::new(),
            unsettled: BTreeMap::new(),
            sent: BTreeMap::new(),
            next_id: 1,
            posts: 0,
            closed_by_server: false,
            events_seen: 0,
            gaps_seen: 0,
            dots: BTreeMap::new(),
            watching: Vec::new(),
        }
    }

    /// Calls rtm.connect and writes the upgrade.
    pub(crate) fn connect(&mut self, database: &mut Database) {
        let (ticket, offsets) = database.connect(&self.user, self.manner == Manner::Resumes);
        let followed: BTreeSet<String> = offsets.iter().map(|(name, _)| name.clone()).collect();
        self.tracks.retain(|name, _| followed.contains(name));
        for (name, offset) in offsets {
            let track = self.tracks.entry(name).or_insert_with(|| Track::new(offset));
            if self.manner == Manner::ReadsHistory {
                // What conversations.history gives.
                track.held.extend(track.start + 1..=offset);
                track.given = offset;
            }
        }
        self.stream.clear();
        self.outgoing.clear();
        self.sent.clear();
        self.dots.clear();
        self.watching.clear();
        self.closed_by_server = false;
        self.phase = Phase::Upgrading;
        let request = format!("GET /websocket/{ticket} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
        self.outgoing.extend(request.as_bytes());
    }

    pub(crate) fn lost(&mut self) {
        self.phase = Phase::Away;
    }

    /// Does something of its own accord.
    pub(crate) fn act(&mut self, random: &mut Random, users: &[String]) {
        if self.phase != Phase::Live {
            return;
        }
        match random.below(10) {
            0..=4 => {
                let conversations: Vec<String> = self.tracks.keys().filter(|name| name.starts_with('C')).cloned().collect();
                if !conversations.is_empty() {
                    let channel = random.pick(&conversations).clone();
                    self.posts += 1;
                    let id = format!("{}-{}", self.user_tag(), self.posts);
                    self.post(&channel, &id, random);
                }
            }
            5 => {
                let again = self.unsettled.iter().next().map(|(id, channel)| (id.clone(), channel.clone()));
                if let Some((id, channel)) = again.filter(|(id, _)| !self.sent.values().any(|sent| sent == id)) {
                    self.post(&channel, &id, random);
                }
            }
            6 => {
                let channel = self.tracks.keys().find(|name| name.starts_with('C')).cloned();
                if let Some(channel) = channel {
                    let id = self.id();
                    self.say(&json!({"id": id, "type": "typing", "channel": channel}), random);
                }
            }
            7 => {
                self.watching = users.iter().filter(|_| random.chance(500)).cloned().collect();
                self.dots.retain(|user, _| self.watching.contains(user));
                let ids = self.watching.clone();
                self.say(&json!({"type": "presence_sub", "ids": ids}), random);
            }
            _ => {
                let id = self.id();
                self.say(&json!({"id": id, "type": "ping"}), random);
            }
        }
    }

    /// Posts again what was never acknowledged; for the quiet end of a run.
    pub(crate) fn settle(&mut self, random: &mut Random) {
        if self.phase == Phase::Live {
            let open: Vec<(String, String)> = self.unsettled.iter().map(|(id, channel)| (id.clone(), channel.clone())).collect();
            for (id, channel) in open {
                if !self.sent.values().any(|sent| *sent == id) {
                    self.post(&channel, &id, random);
                }
            }
        }
    }

    /// Takes bytes of the server; everything wrong with them is a violation.
    pub(crate) fn receive(&mut self, bytes: &[u8], database: &Database, random: &mut Random) -> Result<(), Violation> {
        self.stream.extend_from_slice(bytes);
        if self.phase == Phase::Upgrading {
            let Some(end) = self.stream.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(()) };
            if !self.stream.starts_with(b"HTTP/1.1 101 ") {
                // A refusal for want of room: come back later.
                self.closed_by_server = true;
                return Ok(());
            }
            self.stream.drain(..end + 4);
            self.phase = Phase::Greeting;
        }
        while let Some((opcode, payload)) = self.next_frame()? {
            match opcode {
                1 => {
                    let text = String::from_utf8(payload).map_err(|_| Violation("a text frame that is not UTF-8".into()))?;
                    let value: Value = serde_json::from_str(&text).map_err(|why| Violation(format!("not JSON: {why}: {text}")))?;
                    self.message(&value, database, random)?;
                }
                8 => self.closed_by_server = true,
                9 => self.frame(10, &payload, random),
                10 => {}
                other => return Err(Violation(format!("opcode {other} from the server"))),
            }
        }
        Ok(())
    }

    /// What is still owed when everything has come to rest: I18, I22.
    pub(crate) fn owed(&self, database: &Database) -> Result<(), Violation> {
        if self.phase != Phase::Live {
            return Err(Violation(format!("{} is not live at the end: {:?}", self.user, self.phase)));
        }
        for (name, tip) in database.followed(&self.user) {
            let Some(track) = self.tracks.get(&name) else {
                return Err(Violation(format!("{} does not know that it is in {name}", self.user)));
            };
            if track.position() != tip {
                return Err(Violation(format!("{} ({:?}) holds {name} up to {} (given {}), the database has {tip}; unsettled {:?}", self.user, self.manner, track.position(), track.given, self.unsettled)));
            }
        }
        if let Some(id) = self.unsettled.keys().next() {
            return Err(Violation(format!("{} never learned what became of {id}", self.user)));
        }
        Ok(())
    }

    fn message(&mut self, value: &Value, database: &Database, random: &mut Random) -> Result<(), Violation> {
        if let Some(id) = value["reply_to"].as_u64().filter(|_| value["type"].is_null()) {
            return self.acknowledged(id, value);
        }
        let kind = value["type"].as_str().unwrap_or("");
        if self.phase == Phase::Greeting {
            return match kind {
                "hello" => {
                    self.hello(value, random);
                    Ok(())
                }
                "error" => Ok(()),
                _ => Err(Violation(format!("before hello: {value}"))),
            };
        }
        match kind {
            "gap" => self.gap(value),
            "presence_change" => {
                let user = value["user"].as_str().unwrap_or_default().to_string();
                if self.watching.contains(&user) {
                    self.dots.insert(user, value["presence"] == "active");
                }
                Ok(())
            }
            "user_typing" if value["user"] == self.user.as_str() => Ok(()),
            "user_typing" | "pong" | "goodbye" | "error" | "reconnect_url" => Ok(()),
            _ => self.event(value, database),
        }
    }

    fn hello(&mut self, value: &Value, random: &mut Random) {
        assert_eq!(value["epoch"], EPOCH, "hello names the database's epoch: {value}");
        self.phase = Phase::Live;
        if self.manner == Manner::Resumes {
            let positions: Vec<(String, u64)> = self.tracks.iter().map(|(name, track)| (name.clone(), track.position())).collect();
            for (name, position) in &positions {
                self.tracks.get_mut(name).expect("just listed").given = *position;
            }
            // Several frames, as a client with many channels sends them.
            let cut = random.below(positions.len() as u64 + 1) as usize;
            let part = |some: &[(String, u64)]| some.iter().map(|(name, at)| (name.clone(), json!(at))).collect::<serde_json::Map<_, _>>();
            self.say(&json!({"type": "resume", "epoch": EPOCH, "positions": part(&positions[..cut])}), random);
            self.say(&json!({"type": "resume", "epoch": EPOCH, "positions": part(&positions[cut..]), "last": true}), random);
        }
    }

    fn acknowledged(&mut self, id: u64, value: &Value) -> Result<(), Violation> {
        let Some(message) = self.sent.remove(&id) else {
            return Err(Violation(format!("an answer to nothing: {value}")));
        };
        if value["ok"] != true {
            if value["error"]["msg"].as_str().is_some_and(|msg| msg.contains("not_in_channel")) {
                self.unsettled.remove(&message);
            }
            return Ok(());
        }
        let Some(seq) = value["seq"].as_u64() else {
            return Err(Violation(format!("an ack without seq: {value}")));
        };
        if let Some(channel) = self.unsettled.remove(&message)
            && let Some(track) = self.tracks.get_mut(&channel)
        {
            track.held.insert(seq);
        }
        Ok(())
    }

    fn gap(&mut self, value: &Value) -> Result<(), Violation> {
        let (Some(name), Some(from), Some(to)) = (value["seq_of"].as_str(), value["from"].as_u64(), value["to"].as_u64()) else {
            return Err(Violation(format!("a gap without its range: {value}")));
        };
        self.gaps_seen += 1;
        let Some(track) = self.tracks.get_mut(name) else {
            return Err(Violation(format!("a gap of a channel that is not ours: {value}")));
        };
        if from > track.given + 1 || to < from {
            return Err(Violation(format!("I21: a gap that leaves a hole after {}: {value}", track.given)));
        }
        // What events.list gives.
        track.held.extend(from..=to);
        track.given = track.given.max(to);
        Ok(())
    }

    fn event(&mut self, value: &Value, database: &Database) -> Result<(), Violation> {
        let (Some(seq), Some(name)) = (value["seq"].as_u64(), value["seq_of"].as_str()) else {
            return Err(Violation(format!("neither an event nor a known frame: {value}")));
        };
        self.events_seen += 1;
        let events = database.channels.get(name).ok_or_else(|| Violation(format!("an event of no channel: {value}")))?;
        let Some(row) = events.get((seq as usize).wrapping_sub(1)) else {
            return Err(Violation(format!("I19: an event that was never committed: {value}")));
        };
        let mut stored: Value = serde_json::from_str(&row.payload).expect("the model writes JSON");
        stored["seq"] = json!(seq);
        stored["seq_of"] = json!(name);
        if stored != *value {
            return Err(Violation(format!("I19: {value} was committed as {stored}")));
        }
        // Who is a member now may read the whole history.
        let is_member = database.members.get(name).is_none_or(|members| members.contains(&self.user));
        if !row.audience.contains(&self.user) && !is_member {
            return Err(Violation(format!("I20: {} was no member when {name} {seq} was committed", self.user)));
        }
        let tag = self.user_tag();
        let Some(track) = self.tracks.get_mut(name) else {
            return Err(Violation(format!("{} was given {name} {seq} and does not follow it", self.user)));
        };
        if seq <= track.given {
            return Err(Violation(format!("I19: {} was given {name} {seq} after {}", self.user, track.given)));
        }
        for missing in track.given + 1..seq {
            let own = events[missing as usize - 1].payload.contains(&format!(r#""client_msg_id":"{tag}-"#));
            if !own {
                return Err(Violation(format!("I18: {} was given {name} {seq} after {}, without {missing}", self.user, track.given)));
            }
        }
        track.given = seq;
        track.held.insert(seq);
        match value["type"].as_str() {
            Some("message") => {
                if let Some(id) = value["client_msg_id"].as_str() {
                    self.unsettled.remove(id);
                }
            }
            Some("channel_joined") => {
                let (Some(channel), Some(at)) = (value["channel"]["id"].as_str(), value["channel"]["last_seq"].as_u64()) else {
                    return Err(Violation(format!("channel_joined without its channel: {value}")));
                };
                let track = self.tracks.entry(channel.to_string()).or_insert_with(|| Track::new(at));
                track.joined = track.joined.max(at);
            }
            // The higher offset wins: we may have come in again before we saw that we left.
            Some("member_left_channel") if value["user"] == self.user.as_str() && track.joined < seq => {
                self.tracks.remove(name);
            }
            _ => {}
        }
        Ok(())
    }

    fn user_tag(&self) -> String {
        format!("{}{:?}", self.user, self.manner)
    }

    fn post(&mut self, channel: &str, message: &str, random: &mut Random) {
        let id = self.id();
        self.sent.insert(id, message.to_string());
        self.unsettled.insert(message.to_string(), channel.to_string());
        self.say(&json!({"id": id, "type": "message", "channel": channel, "text": message, "client_msg_id": message}), random);
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn say(&mut self, value: &Value, random: &mut Random) {
        self.frame(1, value.to_string().as_bytes(), random);
    }

    fn frame(&mut self, opcode: u8, payload: &[u8], random: &mut Random) {
        self.outgoing.push_back(0x80 | opcode);
        if payload.len() < 126 {
            self.outgoing.push_back(0x80 | payload.len() as u8);
        } else {
            self.outgoing.push_back(0x80 | 126);
            self.outgoing.extend((payload.len() as u16).to_be_bytes());
        }
        let mask = (random.next() as u32).to_be_bytes();
        self.outgoing.extend(mask);
        self.outgoing.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
    }

    fn next_frame(&mut self) -> Result<Option<(u8, Vec<u8>)>, Violation> {
        let Some(&[first, second]) = self.stream.first_chunk() else { return Ok(None) };
        if first & 0x80 == 0 || first & 0x70 != 0 || second & 0x80 != 0 {
            return Err(Violation(format!("a server frame begins with {first:02x} {second:02x}")));
        }
        let (head, len) = match second {
            126 => match self.stream.get(2..4) {
                Some(two) => (4, usize::from(u16::from_be_bytes([two[0], two[1]]))),
                None => return Ok(None),
            },
            127 => match self.stream.get(2..10) {
                Some(eight) => (10, u64::from_be_bytes(eight.try_into().expect("eight bytes")) as usize),
                None => return Ok(None),
            },
            len => (2, usize::from(len)),
        };
        if self.stream.len() < head + len {
            return Ok(None);
        }
        let payload = self.stream[head..head + len].to_vec();
        self.stream.drain(..head + len);
        Ok(Some((first & 0x0f, payload)))
    }
}
