//! From a method's name to what it does, and what several methods have in common.

use serde_json::{Value, json};

use super::{Answer, Call, Failure, refuse};
use crate::webapp::database::{Bearer, Part, Span, micros_of};

/// Items of one page, unless the caller says otherwise, and at most.
pub(super) const LIMIT: i64 = 100;
pub(super) const LIMIT_MAX: i64 = 1_000;

/// Those that need a token. Whoever has none is told of an unknown method all the same.
const METHODS: [&str; 25] = [
    "auth.test",
    "rtm.connect",
    "rtm.start",
    "events.list",
    "chat.postMessage",
    "chat.update",
    "chat.delete",
    "reactions.add",
    "reactions.remove",
    "reactions.get",
    "conversations.list",
    "users.conversations",
    "conversations.info",
    "conversations.history",
    "conversations.replies",
    "conversations.members",
    "conversations.create",
    "conversations.join",
    "conversations.leave",
    "conversations.open",
    "conversations.mark",
    "users.list",
    "users.info",
    "users.getPresence",
    "users.setPresence",
];

pub(super) async fn call(method: &str, call: &Call<'_>) -> Answer {
    if method == "api.test" {
        return Ok(test(call));
    }
    if !METHODS.contains(&method) {
        return Ok(json!({ "ok": false, "error": "unknown_method", "req_method": method }));
    }
    let Bearer { user, token } = call.bearer()?;
    let user = &*user;
    match method {
        "auth.test" => Ok(call.auth_test(user)),
        "rtm.connect" => call.connect(user, token).await,
        "rtm.start" => call.start(user, token).await,
        "events.list" => call.events(user).await,
        "chat.postMessage" => call.post(user).await,
        "chat.update" => call.update(user).await,
        "chat.delete" => call.delete(user).await,
        "reactions.add" => call.react(user, true).await,
        "reactions.remove" => call.react(user, false).await,
        "reactions.get" => call.reactions(user).await,
        "conversations.list" => call.conversations(user, false).await,
        "users.conversations" => call.conversations(user, true).await,
        "conversations.info" => call.info(user).await,
        "conversations.history" => call.history(user).await,
        "conversations.replies" => call.replies(user).await,
        "conversations.members" => call.members(user).await,
        "conversations.create" => call.create(user).await,
        "conversations.join" => call.join(user).await,
        "conversations.leave" => call.leave(user).await,
        "conversations.open" => call.open(user).await,
        "conversations.mark" => call.mark(user).await,
        "users.list" => call.users(),
        "users.info" => call.user_info(),
        "users.getPresence" => call.presence(user).await,
        "users.setPresence" => call.set_presence(user).await,
        _ => unreachable!("{method} is in the list"),
    }
}

fn test(call: &Call<'_>) -> Value {
    let args = call.arguments.echo();
    match call.arguments.text("error") {
        Some(error) => json!({ "ok": false, "error": error, "args": args }),
        None => json!({ "args": args }),
    }
}

impl Call<'_> {
    pub(super) fn channel(&self) -> Result<String, Failure> {
        self.arguments.need("channel", "channel_not_found")
    }

    /// A time stamp that must be there and be one.
    pub(super) fn moment(&self, name: &str, wrong: &'static str) -> Result<i64, Failure> {
        let text = self.arguments.need(name, wrong)?;
        micros_of(&text).ok_or(Failure::Refused(wrong))
    }

    /// Which page, of `usual` items when the caller does not say how many.
    pub(super) fn part(&self, usual: i64) -> Result<Part, Failure> {
        let limit = self.arguments.number("limit", "invalid_limit")?.unwrap_or(0);
        if limit < 0 {
            return refuse("invalid_limit");
        }
        let limit = if limit == 0 { usual } else { limit.min(LIMIT_MAX) };
        let after = match self.arguments.text("cursor") {
            None => 0,
            Some(cursor) => cursor
                .strip_prefix("next:")
                .and_then(|number| i64::from_str_radix(number, 16).ok())
                .filter(|after| *after > 0)
                .ok_or(Failure::Refused("invalid_cursor"))?,
        };
        Ok(Part { after, limit })
    }

    pub(super) fn span(&self) -> Result<Span, Failure> {
        let moment = |name, wrong, without| match self.arguments.text(name) {
            None => Ok(without),
            Some(text) => micros_of(&text).ok_or(Failure::Refused(wrong)),
        };
        let oldest = moment("oldest", "invalid_ts_oldest", 0)?;
        let latest = moment("latest", "invalid_ts_latest", i64::MAX / 2)?;
        Ok(Span { oldest, latest, inclusive: self.arguments.flag("inclusive") })
    }
}

/// Where the next page begins, as clients hand it back.
pub(super) fn next(after: Option<i64>) -> Value {
    json!({ "next_cursor": after.map_or(String::new(), |after| format!("next:{after:x}")) })
}
