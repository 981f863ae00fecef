//! rtm.connect and what belongs to it: tickets, and events of the past.

use std::sync::atomic::Ordering;
use std::time::Instant;

use serde_json::{Map, Value, json};

use super::{Answer, Call, Failure, refuse};
use crate::webapp::database::{
    Change, Outcome, Part, User, kind, new_ticket, ticket_hash, ticket_path,
};
use crate::wire::message::boot;

const EVENTS_MAX: i64 = 1_000;
/// Channels and users that rtm.start lists; the rest is found by conversations.list and users.list.
const START_MAX: i64 = 1_000;

impl Call<'_> {
    pub(super) async fn connect(&self, user: &User, token: u32) -> Answer {
        let taken = self.site.boots.lock().expect("nobody panics with it").take(Instant::now());
        if let Err(wait) = taken {
            self.site.boots_shed.fetch_add(1, Ordering::Relaxed);
            return Err(Failure::Limited { seconds: wait.as_secs() + 1 });
        }
        let mut flags = 0;
        for (name, flag) in
            [("resume", boot::RESUME), ("batch_presence_aware", boot::BATCH_PRESENCE)]
        {
            flags |= if self.arguments.flag(name) { flag } else { 0 };
        }
        let ticket = new_ticket();
        let hash = ticket_hash(&ticket);
        let change = Change::Ticket { user: user.id.clone(), token, hash, flags };
        let Outcome::Ticket { positions } = self.site.database.change(change).await? else {
            return Err(Failure::Unavailable("internal_error"));
        };
        let team = self.site.database.team();
        let positions: Map<String, Value> =
            positions.into_iter().map(|(name, tip)| (name, tip.into())).collect();
        let region = self.region();
        let url = region.as_ref().map_or_else(|| self.ws_url(), |region| region.url.clone());
        let mut answer = json!({
            "url": format!("{url}{}", ticket_path(&ticket)),
            "self": { "id": user.id, "name": user.name },
            "team": { "id": team.id, "name": team.name, "domain": team.domain },
            "epoch": self.site.database.epoch(), "positions": positions,
        });
        if let Some(region) = region {
            answer["region"] = region.name.into();
        }
        Ok(answer)
    }

    pub(super) async fn start(&self, user: &User, token: u32) -> Answer {
        let mut value = self.connect(user, token).await?;
        let part = Part { after: 0, limit: START_MAX };
        let kinds = [kind::PUBLIC, kind::PRIVATE, kind::IM, kind::SEVERAL];
        let (all, _) = self.site.database.conversations(&user.id, &kinds, false, part).await?;
        let of = |kind: &str| -> Vec<&Value> {
            all.iter().filter(|channel| channel[kind] == true).collect()
        };
        let mut groups = of("is_group");
        groups.retain(|group| group["is_mpim"] != true);
        value["channels"] = json!(of("is_channel"));
        value["groups"] = json!(groups);
        value["ims"] = json!(of("is_im"));
        value["mpims"] = json!(of("is_mpim"));
        let (users, _) = self.site.database.users_part(Part { after: 0, limit: START_MAX });
        value["users"] = users.iter().map(|user| self.shape(user)).collect();
        let bots = users.iter().filter(|user| user.is_bot);
        let bot = |bot: &User| json!({ "id": bot.bot_id(), "name": bot.name, "deleted": false });
        value["bots"] = bots.map(|user| bot(user)).collect();
        Ok(value)
    }

    /// events.list, of our own: the durable events `from..=to` of a channel, as they were told.
    pub(super) async fn events(&self, user: &User) -> Answer {
        let stream = self.arguments.need("seq_of", "channel_not_found")?;
        let database = &self.site.database;
        if stream != user.id && stream != database.team().id {
            let id = database.readable(&user.id, &stream).await?;
            if id != stream {
                return refuse("channel_not_found");
            }
        }
        let from = self.arguments.number("from", "invalid_arguments")?.unwrap_or(1).max(1);
        let to = self.arguments.number("to", "invalid_arguments")?.unwrap_or(i64::MAX);
        let limit = self.arguments.number("limit", "invalid_limit")?.unwrap_or(EVENTS_MAX);
        let limit = limit.clamp(1, EVENTS_MAX);
        let (events, tip) = database.events(&stream, from, to, limit).await?;
        let upto = events.last().map_or(from - 1, |event| event["seq"].as_i64().unwrap_or(0));
        Ok(json!({
            "seq_of": stream, "epoch": database.epoch(), "tip": tip, "events": events, "has_more": upto < to.min(tip),
        }))
    }
}
