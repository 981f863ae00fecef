//! conversations.*: lists, history, and who is where.

use serde_json::{Value, json};

use super::methods::{LIMIT, LIMIT_MAX, next};
use super::{Answer, Call, Failure, refuse};
use crate::webapp::database::{Change, Outcome, User, kind};

impl Call<'_> {
    /// conversations.list, and users.conversations with `only_own`.
    pub(super) async fn conversations(&self, user: &User, only_own: bool) -> Answer {
        let mut kinds = self.kinds()?;
        let whose = self.arguments.text("user").filter(|_| only_own);
        let whose = whose.unwrap_or_else(|| user.id.clone());
        if self.site.database.user(&whose).is_none() {
            return refuse("user_not_found");
        }
        if whose != user.id {
            // Of somebody else one sees what is public.
            kinds.retain(|kind| *kind == kind::PUBLIC);
        }
        let part = self.part(LIMIT)?;
        let (mut channels, after) =
            self.site.database.conversations(&whose, &kinds, only_own, part).await?;
        if whose != user.id {
            for channel in &mut channels {
                // How far somebody has read is nobody else's affair.
                channel.as_object_mut().and_then(|fields| fields.remove("last_read"));
            }
        }
        Ok(json!({ "channels": channels, "response_metadata": next(after) }))
    }

    fn kinds(&self) -> Result<Vec<i64>, Failure> {
        let types = self.arguments.words("types");
        let mut kinds = Vec::new();
        for name in types.iter().map(String::as_str) {
            let kind = match name {
                "public_channel" => kind::PUBLIC,
                "private_channel" => kind::PRIVATE,
                "im" => kind::IM,
                "mpim" => kind::SEVERAL,
                _ => return refuse("invalid_types"),
            };
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        Ok(if kinds.is_empty() { vec![kind::PUBLIC] } else { kinds })
    }

    pub(super) async fn info(&self, user: &User) -> Answer {
        let channel = self.site.database.conversation(&user.id, &self.channel()?).await?;
        Ok(json!({ "channel": channel }))
    }

    pub(super) async fn history(&self, user: &User) -> Answer {
        let channel = self.site.database.readable(&user.id, &self.channel()?).await?;
        let (span, part) = (self.span()?, self.part(LIMIT)?);
        let (messages, after) = self.site.database.history(&channel, span, part).await?;
        Ok(json!({
            "messages": messages, "has_more": after.is_some(), "pin_count": 0, "response_metadata": next(after),
        }))
    }

    pub(super) async fn replies(&self, user: &User) -> Answer {
        let channel = self.site.database.readable(&user.id, &self.channel()?).await?;
        let ts = self.moment("ts", "thread_not_found")?;
        let (span, part) = (self.span()?, self.part(LIMIT_MAX)?);
        let (messages, after) = self.site.database.replies(&channel, ts, span, part).await?;
        Ok(json!({
            "messages": messages, "has_more": after.is_some(), "response_metadata": next(after),
        }))
    }

    pub(super) async fn members(&self, user: &User) -> Answer {
        // A public channel's members are no secret.
        let channel = self.site.database.conversation(&user.id, &self.channel()?).await?;
        let id = channel["id"].as_str().unwrap_or_default();
        let (members, after) = self.site.database.members(id, self.part(LIMIT)?).await?;
        Ok(json!({ "members": members, "response_metadata": next(after) }))
    }

    pub(super) async fn create(&self, user: &User) -> Answer {
        let change = Change::Create {
            user: user.id.clone(),
            name: self.arguments.need("name", "invalid_name_required")?,
            is_private: self.arguments.flag("is_private"),
        };
        Ok(json!({ "channel": self.changed(user, change).await?.0 }))
    }

    pub(super) async fn join(&self, user: &User) -> Answer {
        let change = Change::Join { user: user.id.clone(), channel: self.channel()? };
        let (channel, is_fresh) = self.changed(user, change).await?;
        let mut answer = json!({ "channel": channel });
        if !is_fresh {
            answer["warning"] = "already_in_channel".into();
            answer["response_metadata"] = json!({ "warnings": ["already_in_channel"] });
        }
        Ok(answer)
    }

    pub(super) async fn leave(&self, user: &User) -> Answer {
        let change = Change::Leave { user: user.id.clone(), channel: self.channel()? };
        Ok(match self.site.database.change(change).await? {
            Outcome::Already => json!({ "not_in_channel": true }),
            _ => json!({}),
        })
    }

    pub(super) async fn open(&self, user: &User) -> Answer {
        if let Some(channel) = self.arguments.text("channel") {
            let channel = self.site.database.conversation(&user.id, &channel).await?;
            return Ok(json!({ "channel": channel, "no_op": true, "already_open": true }));
        }
        let others = self.arguments.words("users");
        if others.is_empty() {
            return refuse("users_list_not_supplied");
        }
        let may_make = !self.arguments.flag("prevent_creation");
        let change = Change::Open { user: user.id.clone(), others, may_make };
        let (channel, is_fresh) = self.changed(user, change).await?;
        let channel =
            if self.arguments.flag("return_im") { channel } else { json!({ "id": channel["id"] }) };
        let mut answer = json!({ "channel": channel });
        if !is_fresh {
            answer["no_op"] = true.into();
            answer["already_open"] = true.into();
        }
        Ok(answer)
    }

    /// A change that leads to a conversation: how the user sees it now, and whether it is new to the user.
    async fn changed(&self, user: &User, change: Change) -> Result<(Value, bool), Failure> {
        match self.site.database.change(change).await? {
            Outcome::Conversation { id, fresh } => {
                Ok((self.site.database.conversation(&user.id, &id).await?, fresh))
            }
            other => unreachable!("not a conversation: {other:?}"),
        }
    }

    pub(super) async fn mark(&self, user: &User) -> Answer {
        let change = Change::Mark {
            user: user.id.clone(),
            channel: self.channel()?,
            ts: self.moment("ts", "invalid_timestamp")?,
        };
        self.site.database.change(change).await?;
        Ok(json!({}))
    }
}
