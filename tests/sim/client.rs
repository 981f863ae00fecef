//! A simulated client: connects, keeps positions as the protocol asks, comes back, and knows what it is still owed.
//!
//! What it is told is judged in `hearing` and `answered`, what it says of its own accord is in `speech`.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use campanile::ids::Origin;
use campanile::time::Mono;
use campanile::wire::message::boot;
use serde_json::{Value, json};

use crate::agenda::millis;
use crate::canary::Tamper;
use crate::checker::Violation;
use crate::database::{Database, EPOCH, TEAM, Ticket};
use crate::frames::{self, Stream};
use crate::random::Random;
use crate::track::Track;

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
    /// It has a ticket, and its socket is to be opened.
    Opening,
    Upgrading,
    Greeting,
    /// It was greeted, and is to say where it stands.
    Positioning,
    Live,
}

/// A question that is not answered yet, by its number on this connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Asked {
    /// The key of a message.
    Post(String),
    /// What the pong is to say back.
    Ping(u64),
    /// Answered only when they are refused.
    Typing,
    Query,
    /// A message that must be refused.
    Nonsense,
}

/// A message without a good answer.
#[derive(Clone, Debug)]
pub(super) struct Unsettled {
    pub(super) channel: String,
    pub(super) text: String,
    pub(super) tries: u32,
}

/// What is true of one connection only.
#[derive(Default, Debug)]
pub(super) struct Session {
    pub(super) ticket: Option<Ticket>,
    /// By which its own messages are known.
    pub(super) origin: Option<Origin>,
    pub(super) asked: BTreeMap<u64, Asked>,
    /// Payloads of websocket pings that wait for their pong.
    pub(super) pings: VecDeque<Vec<u8>>,
    /// When it says where it stands, and whether it said so.
    pub(super) resumes_at: Option<Mono>,
    pub(super) has_resumed: bool,
    pub(super) is_late: bool,
    pub(super) live_since: Mono,
    pub(super) watching: Vec<String>,
    /// There was no room for all of them.
    pub(super) watches_again: bool,
    pub(super) close_code: Option<u16>,
    pub(super) has_goodbye: bool,
}

#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) user: String,
    /// By which it asks for tickets.
    pub(crate) token: u32,
    /// Begins the keys of its messages.
    pub(crate) name: String,
    pub(crate) manner: Manner,
    pub(crate) is_batch_aware: bool,
    pub(crate) phase: Phase,
    /// The server said that it is over, or the client had enough.
    pub(crate) is_over: bool,
    /// Bytes to send.
    pub(crate) outgoing: Vec<u8>,
    pub(crate) heard_at: Mono,
    /// Where to connect next, as the server said.
    pub(crate) next_path: Option<String>,
    pub(crate) dots: BTreeMap<String, bool>,
    pub(crate) tamper: Option<Tamper>,
    pub(super) tracks: BTreeMap<String, Track>,
    /// Channels that are late, and since when it has come no further in each.
    standing: BTreeMap<String, (u64, Mono)>,
    pub(super) session: Session,
    pub(super) unsettled: BTreeMap<String, Unsettled>,
    /// Own messages in conversations that it does not know yet to follow.
    pub(super) acked_ahead: Vec<(String, u64)>,
    /// Typing events that it was told, by user and conversation.
    pub(super) typing_heard: BTreeMap<(String, String), u64>,
    pub(super) next_id: u64,
    pub(super) posts: u64,
    stream: Stream,
}

/// Who is late and has come no further for so long stands still.
const STANDING: Duration = Duration::from_secs(2);

impl Client {
    pub(crate) fn new(
        (user, token): (&str, u32),
        name: String,
        manner: Manner,
        is_batch_aware: bool,
    ) -> Self {
        Self {
            user: user.into(),
            token,
            name,
            manner,
            is_batch_aware,
            phase: Phase::Away,
            is_over: false,
            outgoing: Vec::new(),
            heard_at: Mono(0),
            next_path: None,
            dots: BTreeMap::new(),
            tamper: None,
            tracks: BTreeMap::new(),
            standing: BTreeMap::new(),
            session: Session::default(),
            unsettled: BTreeMap::new(),
            acked_ahead: Vec::new(),
            typing_heard: BTreeMap::new(),
            next_id: 1,
            posts: 0,
            stream: Stream::default(),
        }
    }

    /// What `rtm.connect` is asked for.
    pub(crate) fn flags(&self) -> u8 {
        let resume = if self.manner == Manner::Resumes { boot::RESUME } else { 0 };
        resume | if self.is_batch_aware { boot::BATCH_PRESENCE } else { 0 }
    }

    /// It has a ticket, and is to open a socket.
    pub(crate) fn begin(&mut self, ticket: Ticket) {
        let own_floor = ticket.offsets.get(&self.user).copied().unwrap_or(0);
        self.tracks.retain(|name, track| {
            // Joined after the ticket was made: the server will follow it by that event.
            ticket.offsets.contains_key(name) || (track.joined_by > own_floor && !track.has_left)
        });
        for (name, track) in &mut self.tracks {
            let joined = track.joined;
            track.begin(ticket.offsets.get(name).copied().unwrap_or(joined));
        }
        for (name, offset) in &ticket.offsets {
            let track = self.tracks.entry(name.clone()).or_insert_with(|| Track::new(*offset));
            let held = self.acked_ahead.iter().filter(|(other, _)| other == name);
            held.for_each(|(_, offset)| track.hold(*offset));
            track.given = Some(*offset);
            if ticket.flags & boot::RESUME == 0 {
                // What conversations.history gives.
                track.hold_all(*offset);
            }
        }
        self.session = Session { ticket: Some(ticket), ..Session::default() };
        self.stream = Stream::default();
        self.outgoing.clear();
        self.dots.clear();
        // A core that stood still may tell a new connection what the last one heard from another.
        self.typing_heard.clear();
        self.next_path = None;
        self.is_over = false;
        self.phase = Phase::Opening;
    }

    /// Its socket is open.
    pub(crate) fn opened(&mut self, now: Mono, origin: Origin) {
        let name = self.session.ticket.as_ref().map_or("", |ticket| &ticket.name);
        let request = format!(
            "GET /websocket/{name} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        self.outgoing.extend(request.as_bytes());
        self.session.origin = Some(origin);
        self.heard_at = now;
        self.phase = Phase::Upgrading;
    }

    /// Its socket is gone.
    pub(crate) fn lost(&mut self) {
        self.phase = Phase::Away;
    }

    /// Takes bytes of the server; everything wrong with them is a violation.
    pub(crate) fn receive(
        &mut self,
        bytes: &[u8],
        now: Mono,
        outside: &mut crate::outside::Outside,
        random: &mut Random,
    ) -> Result<(), Violation> {
        self.heard_at = now;
        self.stream.extend(bytes);
        if self.phase == Phase::Upgrading {
            let Some(head) = self.stream.head() else { return Ok(()) };
            if head.starts_with(b"HTTP/1.1 503 ") {
                outside.coverage.saw("upgrades refused");
                self.is_over = true;
                return Ok(());
            }
            if !head.starts_with(b"HTTP/1.1 101 ")
                || !head.windows(28).any(|part| part == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
            {
                let head = String::from_utf8_lossy(&head).into_owned();
                return Err(Violation(format!("RFC 6455: no upgrade: {head}")));
            }
            self.phase = Phase::Greeting;
        }
        while let Some(frame) = self.stream.next()? {
            let frames = match &mut self.tamper {
                Some(tamper) => tamper.frames(frame),
                None => vec![frame],
            };
            for frame in frames {
                self.hear(&frame, now, outside, random)?;
            }
        }
        Ok(())
    }

    /// Hello: who resumes says where it stands, now or a little later.
    pub(super) fn greeted(
        &mut self,
        value: &Value,
        now: Mono,
        random: &mut Random,
    ) -> Result<(), Violation> {
        if value["epoch"] != EPOCH {
            return Err(Violation(format!("hello does not name the database's epoch: {value}")));
        }
        let flags = self.session.ticket.as_ref().map_or(0, |ticket| ticket.flags);
        if flags & boot::RESUME == 0 {
            self.go_live(now);
            return Ok(());
        }
        self.phase = Phase::Positioning;
        let pause = match random.below(50) {
            0 => 10_000,
            1..=9 => random.below(600),
            _ => 0,
        };
        self.session.is_late = pause == 10_000;
        self.session.resumes_at = Some(now + millis(pause));
        self.resume_if_due(now, random);
        Ok(())
    }

    /// Says where it stands, in several frames.
    pub(crate) fn resume_if_due(&mut self, now: Mono, random: &mut Random) {
        if self.phase != Phase::Positioning || self.session.resumes_at.is_none_or(|at| at > now) {
            return;
        }
        self.session.resumes_at = None;
        let ticket = self.session.ticket.clone().expect("it was greeted");
        let epoch = if random.chance(15) { "another" } else { EPOCH };
        let mut named = Vec::new();
        for (name, track) in &mut self.tracks {
            let Some(offset) = ticket.offsets.get(name).copied() else {
                // The ticket does not know it: neither will the server listen.
                named.push((name.clone(), track.position()));
                continue;
            };
            if random.chance(40) {
                // Not named: it begins at the ticket's offset, and the rest is in the history.
                track.hold_all(offset);
                continue;
            }
            // Who lies about the user's own channel is believed until the source has answered: it is told of conversations before it is told
            // that it came into them, and no model says which.
            let may_lie = *name != self.user;
            let lie = (random.chance(10) && may_lie).then(|| track.position() + 1_000_000);
            let position = lie.unwrap_or_else(|| track.position());
            if lie.is_some() || epoch != EPOCH {
                track.gap_owed = Some(offset);
                track.given = Some(offset);
                track.hold_all(offset);
            } else {
                track.claim(position);
            }
            named.push((name.clone(), position));
        }
        // A client may name channels that it does not follow.
        if random.chance(50) {
            named.push(("C999".into(), 7));
        }
        let cut = random.below(named.len() as u64 + 1) as usize;
        let part = |some: &[(String, u64)]| {
            let pairs = some.iter().map(|(name, at)| (name.clone(), json!(at)));
            pairs.collect::<serde_json::Map<_, _>>()
        };
        if cut > 0 {
            let first = json!({"type": "resume", "epoch": epoch, "positions": part(&named[..cut])});
            self.say(&first, random);
        }
        let rest = part(&named[cut..]);
        self.say(
            &json!({"type": "resume", "epoch": epoch, "positions": rest, "last": true}),
            random,
        );
        self.go_live(now);
    }

    fn go_live(&mut self, now: Mono) {
        self.session.has_resumed = true;
        self.session.live_since = now;
        self.phase = Phase::Live;
    }

    /// Since when the token of its connection opens nothing; before that for as long as nobody revoked it.
    pub(crate) fn revoked(&self, database: &Database) -> Option<Mono> {
        database.revoked(self.session.ticket.as_ref()?.token)
    }

    /// What is still owed when everything has come to rest: I18, I22, I24.
    pub(crate) fn owed(&self, database: &Database) -> Option<Violation> {
        let who = &self.name;
        let owed = |what: String| Some(Violation(format!("I22: {who} ({:?}) {what}", self.manner)));
        if self.phase != Phase::Live {
            return owed(format!("is {:?} at the end", self.phase));
        }
        let mut followed = Vec::new();
        for (name, tip) in database.followed(&self.user) {
            let Some(track) = self.tracks.get(&name).filter(|track| !track.has_left) else {
                return owed(format!("does not know that it is in {name}"));
            };
            if track.stands_at() != tip {
                return owed(format!("does not hold all of {name} up to {tip}: {track:?}"));
            }
            followed.push(name);
        }
        for (name, track) in &self.tracks {
            // Who said that it holds what is not there yet, is not told how it left by that.
            if !track.has_left && track.gap_owed.is_none() && !followed.contains(name) {
                return owed(format!("believes to be in {name}"));
            }
        }
        let unsettled = self.unsettled.keys().next()?;
        owed(format!("never learned what became of {unsettled}"))
    }

    /// I18, where nothing disturbs: a live client holds everything that is older than a few seconds, or comes nearer to that. In worlds that give
    /// one event of the past at a time more may be said than can be caught up with.
    pub(crate) fn is_late(
        &mut self,
        database: &Database,
        (before, now): (Mono, Mono),
    ) -> Option<Violation> {
        if self.phase != Phase::Live || self.session.live_since > before || self.is_over {
            self.standing.clear();
            return None;
        }
        for (name, track) in &self.tracks {
            let next = database.find(name, track.stands_at() + 1);
            let is_late = track.given.is_some()
                && !track.has_left
                && next.is_some_and(|next| next.at < before);
            if !is_late {
                self.standing.remove(name);
                continue;
            }
            let (at, since) =
                self.standing.entry(name.clone()).or_insert_with(|| (track.stands_at(), now));
            if *at != track.stands_at() {
                (*at, *since) = (track.stands_at(), now);
            }
            if now.since(*since) >= STANDING {
                return Some(Violation(format!("I18: {} is late in {name}: {track:?}", self.name)));
            }
        }
        None
    }

    /// Conversations that it follows.
    pub(super) fn conversations(&self) -> Vec<String> {
        let is_one = |name: &&String| **name != self.user && **name != TEAM;
        let followed =
            self.tracks.iter().filter(|(_, track)| !track.has_left && track.given.is_some());
        followed.map(|(name, _)| name).filter(is_one).cloned().collect()
    }

    pub(crate) fn watching(&self) -> &[String] {
        &self.session.watching
    }
    pub(crate) fn has_goodbye(&self) -> bool {
        self.session.has_goodbye
    }

    pub(super) fn say(&mut self, value: &Value, random: &mut Random) {
        let text = value.to_string();
        let had_ping = frames::write(frames::TEXT, text.as_bytes(), random, &mut self.outgoing);
        if had_ping {
            self.session.pings.push_back(frames::BETWEEN.to_vec());
        }
    }
}
