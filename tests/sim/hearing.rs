//! What a client is told, judged frame by frame: I18 to I21, I23, I24.

use campanile::time::Mono;
use serde_json::{Value, json};

use crate::checker::Violation;
use crate::client::{Client, Phase};
use crate::database::{Event, What};
use crate::frames::{self, Frame};
use crate::outside::Outside;
use crate::random::Random;

/// From the commit of a revocation to the end of all connections that came of the token.
pub(crate) const REVOKED_WITHIN: std::time::Duration = std::time::Duration::from_secs(1);

pub(super) type Judged = Result<(), Violation>;

pub(super) fn wrong<T>(what: String) -> Result<T, Violation> {
    Err(Violation(what))
}

impl Client {
    pub(super) fn hear(
        &mut self,
        frame: &Frame,
        now: Mono,
        outside: &mut Outside,
        random: &mut Random,
    ) -> Judged {
        if self.session.close_code.is_some() {
            return wrong(format!("RFC 6455: {} was told {frame:?} after Close", self.name));
        }
        outside.trace.note(now, b'f', [u64::from(frame.opcode), 0], &frame.payload);
        outside.trace.tell(now, || {
            let text = String::from_utf8_lossy(&frame.payload);
            format!("{} <= {} {text}", self.name, frame.opcode)
        });
        match frame.opcode {
            frames::TEXT => {
                let Ok(text) = std::str::from_utf8(&frame.payload) else {
                    return wrong("RFC 6455: a text that is not UTF-8".into());
                };
                match place_of(text) {
                    Some((at, seq, name)) => {
                        self.event((seq, name), &Told::Text { text, at }, now, outside)
                    }
                    None => self.text(text, now, outside, random),
                }
            }
            frames::CLOSE => self.closed(&frame.payload, now, outside),
            frames::PING => {
                frames::write(frames::PONG, &frame.payload, random, &mut self.outgoing);
                Ok(())
            }
            _ => match self.session.pings.pop_front() {
                Some(payload) if payload == frame.payload => Ok(()),
                other => wrong(format!("a pong {:?} to {other:?}", frame.payload)),
            },
        }
    }

    fn text(
        &mut self,
        text: &str,
        now: Mono,
        outside: &mut Outside,
        random: &mut Random,
    ) -> Judged {
        let Ok(value) = serde_json::from_str::<Value>(text) else {
            return wrong(format!("not JSON: {text}"));
        };
        let kind = value["type"].as_str().unwrap_or_default();
        if self.phase == Phase::Greeting {
            return match kind {
                "hello" => self.greeted(&value, now, random),
                "error" => self.fault(&value, now, outside),
                _ => wrong(format!("before hello: {text}")),
            };
        }
        if let Some(id) = value["reply_to"].as_u64() {
            return self.answered(id, &value, outside);
        }
        match kind {
            "gap" => {
                self.gap(&value, outside)?;
                self.look_up_gap(&value, now, outside);
                Ok(())
            }
            "presence_change" => self.dots(&value, outside),
            "user_typing" => self.typing(&value, outside),
            "error" => self.fault(&value, now, outside),
            "goodbye" => {
                outside.coverage.saw("goodbyes");
                self.session.has_goodbye = true;
                Ok(())
            }
            "reconnect_url" => {
                outside.coverage.saw("reconnect_urls");
                let url = value["url"].as_str().unwrap_or_default();
                let Some(path) = url.strip_prefix("ws://here") else {
                    return wrong(format!("a url that leads elsewhere: {text}"));
                };
                self.next_path = Some(path.into());
                Ok(())
            }
            _ => match (value["seq"].as_u64(), value["seq_of"].as_str()) {
                (Some(seq), Some(name)) => {
                    self.event((seq, name), &Told::Value(&value), now, outside)
                }
                _ => wrong(format!("neither an event nor a known frame: {text}")),
            },
        }
    }

    // ---- durable events

    fn event(
        &mut self,
        (seq, name): (u64, &str),
        told: &Told<'_>,
        now: Mono,
        outside: &mut Outside,
    ) -> Judged {
        let who = format!("{} ({:?})", self.name, self.manner);
        let Some(row) = outside.database.find(name, seq) else {
            return wrong(format!("I19: {who} was told {name} {seq}, which was never committed"));
        };
        if !told.is(row, (seq, name)) {
            return wrong(format!("I19: {who} was told {told:?}, committed was {row:?}"));
        }
        if !self.session.has_resumed {
            return wrong(format!("{who} was told {name} {seq} before it said where it stands"));
        }
        // Where nothing goes wrong, a second is enough for everybody to hear of it.
        if outside.is_calm
            && let Some(revoked) = self.revoked(&outside.database)
            && row.at > revoked + REVOKED_WITHIN
        {
            return wrong(format!(
                "revoked: {who} was told {name} {seq} of {:?}, and its token was revoked at {revoked:?}",
                row.at
            ));
        }
        if !outside.database.is_entitled(&self.user, name, seq) {
            return wrong(format!("I20: {who} was told {name} {seq}, and was no member"));
        }
        let origin = self.session.origin;
        let claims_more = self.tracks.get(&self.user).is_some_and(|own| own.claimed > own.floor);
        let Some(track) = self.tracks.get_mut(name) else {
            if claims_more {
                // A conversation that it left again by events that the ticket did not know and the claim did.
                outside.coverage.saw("events of a conversation that was left");
                return Ok(());
            }
            return wrong(format!("I20: {who} was told {name} {seq}, and does not follow it"));
        };
        if track.lacks_gap(seq) {
            return wrong(format!("I21: {who} was told {name} {seq} and no gap: {track:?}"));
        }
        let goes_on = track.goes_on(seq);
        match track.given {
            // Joined after the ticket was made, and known since the last connection: what is held may come again.
            None if track.position() + 1 >= seq || goes_on.is_some() => {
                outside.coverage.saw("streams of a known join");
            }
            None => return wrong(format!("I18: {who}: {name} begins at {seq}: {track:?}")),
            Some(given) if seq <= given => {
                // Membership events between the ticket and the claim may begin a stream anew; what is held comes again.
                if seq > track.claimed && !claims_more {
                    return wrong(format!("I19: {who} was told {name} {seq} again: {track:?}"));
                }
                track.claimed = 0;
                outside.coverage.saw("streams begun anew");
            }
            Some(given) => {
                let from = goes_on.unwrap_or(given);
                for missing in from + 1..seq {
                    let row = outside.database.find(name, missing);
                    if row.is_none_or(|row| Some(row.origin) != origin) {
                        return wrong(format!(
                            "I18: {who} was told {name} {seq} without {missing}: {track:?}"
                        ));
                    }
                    outside.coverage.saw("own events passed over");
                }
            }
        }
        if seq <= track.floor {
            track.replayed += 1;
        }
        track.given = Some(seq);
        if track.holds(seq) {
            outside.coverage.saw("events held already");
        }
        track.hold(seq);
        outside.coverage.saw("events");
        let what = row.what.clone();
        self.understand((seq, name), what, now, outside);
        Ok(())
    }

    /// What an event changes for this client.
    fn understand(
        &mut self,
        (seq, name): (u64, &str),
        what: What,
        now: Mono,
        outside: &mut Outside,
    ) {
        match what {
            What::Message { user, key, .. }
                if user == self.user && self.unsettled.remove(&key).is_some() =>
            {
                outside.coverage.saw("own messages settled by their event");
            }
            What::Joined { channel, offset } if name == self.user => {
                let own = self.tracks.get(name).map_or(0, |own| own.floor);
                if seq > own {
                    let fresh = || crate::track::Track::new(offset);
                    let joined = channel.clone();
                    let track = self.tracks.entry(channel).or_insert_with(fresh);
                    if track.has_left {
                        outside.coverage.saw("returns into a conversation");
                    }
                    track.join(offset, seq);
                    let held = self.acked_ahead.iter().filter(|(name, _)| *name == joined);
                    held.for_each(|(_, offset)| track.hold(*offset));
                }
            }
            What::Left { user } if user == self.user => {
                let track = self.tracks.get_mut(name).expect("just told");
                if track.joined > seq {
                    outside.coverage.saw("leavings older than the return");
                }
                track.leave(seq);
            }
            _ => {}
        }
        outside.trace.note(now, b'e', [seq, 0], name.as_bytes());
    }

    /// I21: what is passed over is told, and only what is too old for a replay.
    fn gap(&mut self, value: &Value, outside: &mut Outside) -> Judged {
        let who = &self.name;
        let (Some(name), Some(from), Some(to)) =
            (value["seq_of"].as_str(), value["from"].as_u64(), value["to"].as_u64())
        else {
            return wrong(format!("a gap without its range: {value}"));
        };
        let missed: u64 = self
            .tracks
            .iter()
            .map(|(name, track)| {
                let tip = outside.database.tip(name);
                let missed = tip.saturating_sub(track.position()) + track.replayed;
                // What it holds of its own posts by now may be above what it claimed.
                let claimed = if track.claimed > 0 { track.claimed } else { tip };
                missed.max(tip.saturating_sub(claimed))
            })
            .sum();
        let ticket = self.session.ticket.as_ref();
        let floor = ticket.and_then(|ticket| ticket.offsets.get(name)).copied();
        let Some(track) = self.tracks.get_mut(name) else {
            return wrong(format!("I21: {who} was told a gap of a foreign channel: {value}"));
        };
        if let Some(upto) = track.gap_owed.take() {
            outside.coverage.saw("gaps after a wrong claim");
            // What came until the lie was found out was passed over too.
            if from != 1 || to < upto || to > outside.database.tip(name) {
                return wrong(format!(
                    "I21: {who} claimed wrongly and was told {value}: {track:?}"
                ));
            }
            track.hold_all(to);
            track.given = Some(to);
            return Ok(());
        }
        let Some(given) = track.given else {
            return wrong(format!("I21: {who} was told {value}: {track:?}"));
        };
        let origin = self.session.origin;
        let is_own = |offset: u64| {
            outside.database.find(name, offset).is_some_and(|row| Some(row.origin) == origin)
        };
        if from <= given || to < from || !(given + 1..from).all(is_own) {
            return wrong(format!(
                "I21: {who} was told a gap that does not fit: {value}: {track:?}"
            ));
        }
        let limits = (outside.replay_per_channel_max, outside.replay_per_conn_max);
        let missing = outside.database.tip(name) - given;
        if missing <= limits.0 && missed <= limits.1 {
            return wrong(format!("I21: {who} was told a gap without need: {value}: {track:?}"));
        }
        if floor.is_none_or(|floor| to > floor) {
            return wrong(format!(
                "I21: {who} was told a gap since its ticket: {value}: {track:?}"
            ));
        }
        outside.coverage.saw("gaps");
        // What events.list gives.
        (from..=to).for_each(|offset| track.hold(offset));
        track.given = Some(to);
        Ok(())
    }

    /// What `events.list` says of the user's own channel: where the user came in meanwhile.
    fn look_up_gap(&mut self, value: &Value, now: Mono, outside: &mut Outside) {
        let (Some(from), Some(to)) = (value["from"].as_u64(), value["to"].as_u64()) else { return };
        if value["seq_of"] != self.user.as_str() {
            return;
        }
        let user = self.user.clone();
        for offset in from..=to {
            let row = outside.database.find(&user, offset);
            if let Some(what) = row.map(|row| row.what.clone()) {
                self.understand((offset, &user), what, now, outside);
            }
        }
    }
}

/// An event as it was told.
#[derive(Debug)]
enum Told<'a> {
    /// The usual form: the payload, cut at `at`, and the place.
    Text {
        text: &'a str,
        at: usize,
    },
    Value(&'a Value),
}

impl Told<'_> {
    /// I19: what is told is what was committed.
    fn is(&self, row: &Event, (seq, name): (u64, &str)) -> bool {
        let value = match *self {
            Self::Text { text, at } if row.payload.strip_suffix('}') == Some(&text[..at]) => {
                return true;
            }
            Self::Text { text, .. } => serde_json::from_str(text).unwrap_or(Value::Null),
            Self::Value(value) => value.clone(),
        };
        let mut stored: Value = serde_json::from_str(&row.payload).expect("the model writes JSON");
        stored["seq"] = json!(seq);
        stored["seq_of"] = json!(name);
        stored == value
    }
}

/// The place of an event in the form that the product writes: where it begins, and what it says.
fn place_of(text: &str) -> Option<(usize, u64, &str)> {
    let at = text.rfind(r#","seq":"#)?;
    let (seq, rest) = text[at + 7..].split_once(r#","seq_of":""#)?;
    let name = rest.strip_suffix(r#""}"#)?;
    let is_plain = !name.contains(['"', '\\', ',']);
    is_plain.then_some((at, seq.parse().ok()?, name))
}
