//! What a client is answered, and what it is told that has no place: acks and refusals, dots, typing, faults, Close: I20, I23, I24.

use campanile::time::Mono;
use campanile::wire::message::boot;
use serde_json::Value;

use crate::client::{Asked, Client, Phase};
use crate::database::What;
use crate::hearing::{Judged, wrong};
use crate::outside::Outside;

impl Client {
    pub(super) fn answered(&mut self, id: u64, value: &Value, outside: &mut Outside) -> Judged {
        let Some(asked) = self.session.asked.remove(&id) else {
            return wrong(format!("{} was answered what it did not ask: {value}", self.name));
        };
        let is_refusal = value["ok"] == false;
        match asked {
            Asked::Post(key) if is_refusal => self.refused(&key, value, outside),
            Asked::Post(key) => self.acknowledged(&key, value, outside),
            Asked::Ping(time) if value["type"] == "pong" && value["time"] == time => Ok(()),
            Asked::Typing | Asked::Query | Asked::Nonsense if is_refusal => Ok(()),
            asked => wrong(format!("{asked:?} is answered by {value}")),
        }
    }

    /// I24: a message that is acknowledged is stored as it was sent.
    fn acknowledged(&mut self, key: &str, value: &Value, outside: &mut Outside) -> Judged {
        let Some((channel, offset)) = outside.database.said(&self.user, key) else {
            return wrong(format!("I24: {key} is acknowledged and not stored: {value}"));
        };
        let What::Message { ts, text, .. } = &outside.database.event(channel, *offset).what else {
            return wrong(format!("I24: {key} is stored as something else"));
        };
        let fits = value["ok"] == true
            && value["seq"] == *offset
            && value["ts"] == ts.as_str()
            && value["text"] == text.as_str();
        if !fits {
            return wrong(format!(
                "I24: {key} is stored at {offset} with {ts}, and the ack says {value}"
            ));
        }
        if let Some(track) = self.tracks.get_mut(channel) {
            track.hold(*offset);
        } else {
            outside.coverage.saw("acks before the event of joining");
            self.acked_ahead.push((channel.clone(), *offset));
        }
        outside.coverage.saw("acks");
        if self.unsettled.remove(key).is_some_and(|unsettled| unsettled.tries > 1) {
            outside.coverage.saw("acks after several tries");
        }
        Ok(())
    }

    fn refused(&mut self, key: &str, value: &Value, outside: &mut Outside) -> Judged {
        let reason = value["error"]["msg"].as_str().unwrap_or_default();
        let stored = outside.database.said(&self.user, key);
        let is_own = stored.is_some_and(|(channel, offset)| {
            Some(outside.database.event(channel, *offset).origin) == self.session.origin
        });
        match reason {
            // Whether it is stored nobody knows; the connection ends with this.
            "it is not known whether the message was stored" => {
                outside.coverage.saw("posts of unknown end");
            }
            // Its event is passed over on this connection, so the refusal hides it.
            _ if is_own => {
                return wrong(format!("I24: {key} is stored, and refused: {value}"));
            }
            "not_in_channel" | "channel_not_found" => {
                outside.coverage.saw("posts refused for good");
                self.unsettled.remove(key);
            }
            "not available now, try again"
            | "slow down, too many messages..."
            | "ratelimited"
            | "internal_error" => outside.coverage.saw("posts refused for now"),
            _ => return wrong(format!("{key} is refused: {value}")),
        }
        Ok(())
    }

    // ---- what is not durable

    pub(super) fn dots(&mut self, value: &Value, outside: &mut Outside) -> Judged {
        let ticket = self.session.ticket.as_ref();
        let is_aware = ticket.is_some_and(|ticket| ticket.flags & boot::BATCH_PRESENCE != 0);
        let users: Vec<String> = match (&value["users"], &value["user"]) {
            (Value::Array(users), Value::Null) if is_aware => {
                users.iter().filter_map(|user| user.as_str().map(str::to_string)).collect()
            }
            (Value::Null, Value::String(user)) if !is_aware => vec![user.clone()],
            _ => return wrong(format!("presence in the wrong form: {value}")),
        };
        let is_active = value["presence"] == "active";
        outside.coverage.saw("dots");
        for user in users {
            if self.session.watching.contains(&user) {
                self.dots.insert(user, is_active);
            }
        }
        Ok(())
    }

    /// I23: typing is told at most once, twice where a relay may have been left for an owner meanwhile, and only to those who follow the
    /// conversation.
    pub(super) fn typing(&mut self, value: &Value, outside: &mut Outside) -> Judged {
        let (Some(user), Some(channel)) = (value["user"].as_str(), value["channel"].as_str())
        else {
            return wrong(format!("typing of nobody: {value}"));
        };
        if !value["seq"].is_null() || !value["seq_of"].is_null() {
            return wrong(format!("I23: typing with a place: {value}"));
        }
        let own = self.tracks.get(&self.user);
        let claims_more = own.is_some_and(|own| own.claimed > own.floor);
        if !self.tracks.contains_key(channel) && !claims_more {
            return wrong(format!("I20: {} was told who types in {channel}", self.name));
        }
        let what = (user.to_string(), channel.to_string());
        let typed = outside.typed.get(&what).copied().unwrap_or(0);
        let heard = self.typing_heard.entry(what).or_default();
        *heard += 1;
        let allowed = if outside.has_relays { typed * 2 } else { typed };
        if *heard > allowed {
            return wrong(format!("I23: {} was told {heard} of {typed}: {value}", self.name));
        }
        outside.coverage.saw("typing told");
        Ok(())
    }

    /// An error that answers nothing: mostly the last word of a connection.
    pub(super) fn fault(&mut self, value: &Value, now: Mono, outside: &mut Outside) -> Judged {
        let code = value["error"]["code"].as_i64().unwrap_or(0);
        let made = self.session.ticket.as_ref().map_or(Mono(0), |ticket| ticket.made);
        let revoked = self.revoked(&outside.database);
        let fits = match code {
            1 if revoked.is_some() => {
                outside.coverage.saw("tickets of revoked tokens");
                true
            }
            20 => {
                outside.coverage.saw("connections of revoked tokens");
                revoked.is_some()
            }
            1 => {
                outside.coverage.saw("tickets too old");
                made + outside.ticket_timeout < now
            }
            13 => {
                outside.coverage.saw("positions too late");
                // They may have been on their way for too long.
                self.session.is_late = true;
                true
            }
            16..=18 => {
                self.session.watches_again = true;
                outside.coverage.saw("connections refused for now");
                true
            }
            _ => false,
        };
        if fits { Ok(()) } else { wrong(format!("{} is told {value}", self.name)) }
    }

    pub(super) fn closed(&mut self, payload: &[u8], now: Mono, outside: &mut Outside) -> Judged {
        let code = payload.first_chunk().map_or(0, |two| u16::from_be_bytes(*two));
        self.session.close_code = Some(code);
        self.is_over = true;
        let made = self.session.ticket.as_ref().map_or(Mono(0), |ticket| ticket.made);
        let (what, fits) = match code {
            1000 => ("closes answered", true),
            // A core that stood still for the whole window says both at once, or only this.
            1001 if !self.session.has_goodbye => ("closes: going away without a goodbye", true),
            1001 => ("closes: going away", true),
            1008 => {
                let is_old = made + outside.ticket_timeout < now;
                let is_revoked = self.revoked(&outside.database).is_some();
                let is_fine = is_old || is_revoked || self.phase != Phase::Live;
                ("closes: policy", is_fine || self.session.is_late)
            }
            1013 => ("closes: try again", true),
            4002 => ("closes: too slow", true),
            _ => ("", false),
        };
        if !fits {
            return wrong(format!("{} is closed with {code}", self.name));
        }
        outside.coverage.saw(what);
        Ok(())
    }
}
