//! users.* and auth.test: who there is, and who is there.

use serde_json::{Value, json};

use super::methods::{LIMIT_MAX, next};
use super::{Answer, Call, Failure, RETRY_AFTER_S, refuse};
use crate::ids::{NodeId, Peer, Role};
use crate::ring::slot_of;
use crate::webapp::database::{Change, User, now_micros, user_shape};
use crate::wire::Message;

/// The shard that knows whom to ask.
const DESK: Peer = Peer { node: NodeId(0), role: Role::Webapp, core: Peer::CONTROL_CORE };

impl Call<'_> {
    pub(super) fn auth_test(&self, user: &User) -> Value {
        let team = self.site.database.team();
        json!({
            "url": self.url(), "team": team.name, "team_id": team.id, "user": user.name, "user_id": user.id,
            "bot_id": user.bot_id(), "is_enterprise_install": false,
        })
    }

    pub(super) fn shape(&self, user: &User) -> Value {
        user_shape(user, &self.site.database.team().id)
    }

    pub(super) fn users(&self) -> Answer {
        // Whoever does not ask for pages wants everybody, as far as that goes.
        let (users, after) = self.site.database.users_part(self.part(LIMIT_MAX)?);
        let members: Vec<Value> = users.iter().map(|user| self.shape(user)).collect();
        let now_s = now_micros() / 1_000_000;
        Ok(json!({ "members": members, "cache_ts": now_s, "response_metadata": next(after) }))
    }

    pub(super) fn user_info(&self) -> Answer {
        let id = self.arguments.need("user", "user_not_found")?;
        let user = self.site.database.user(&id).ok_or(Failure::Refused("user_not_found"))?;
        Ok(json!({ "user": self.shape(&user) }))
    }

    pub(super) async fn presence(&self, user: &User) -> Answer {
        let id = self.arguments.text("user").unwrap_or_else(|| user.id.clone());
        if self.site.database.user(&id).is_none() {
            return refuse("user_not_found");
        }
        let (slot, key) = (slot_of(&id), self.site.secret.key_of(&id));
        let asked =
            self.site.control.ask(DESK, |ask| Message::PresenceQuery { ask, slot, user: key });
        let answer = match tokio::time::timeout(self.site.limits.ask_timeout, asked).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => return Err(Failure::Limited { seconds: RETRY_AFTER_S }),
            Err(_) => return Err(Failure::Unavailable("internal_error")),
        };
        let Ok(Message::PresenceIs {
            active,
            online,
            auto_away,
            manual_away,
            connections,
            idle_s,
            ..
        }) = Message::decode(&answer)
        else {
            // Nobody knows just now: "away" would be taken for the last word.
            return Err(Failure::Unavailable("service_unavailable"));
        };
        let presence = if active { "active" } else { "away" };
        if id != user.id {
            return Ok(json!({ "presence": presence }));
        }
        let by_hand = manual_away || self.site.database.is_away_by_hand(&id).await?;
        let mut value = json!({
            "presence": presence, "online": online, "auto_away": auto_away, "manual_away": by_hand, "connection_count": connections,
        });
        if online {
            value["last_activity"] = (now_micros() / 1_000_000 - i64::from(idle_s)).into();
        }
        Ok(value)
    }

    pub(super) async fn set_presence(&self, user: &User) -> Answer {
        let away = match self.arguments.text("presence").as_deref() {
            Some("away") => true,
            Some("auto" | "active") => false,
            _ => return refuse("invalid_presence"),
        };
        self.site.database.change(Change::Away { user: user.id.clone(), away }).await?;
        let (slot, key) = (slot_of(&user.id), self.site.secret.key_of(&user.id));
        let told = self.site.control.tell(DESK, &Message::Manual { slot, user: key, away });
        told.map_err(|_| Failure::Limited { seconds: RETRY_AFTER_S })?;
        Ok(json!({}))
    }
}
