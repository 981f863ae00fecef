//! Rows as Slack's JSON objects, and time stamps as Slack's strings.

use super::User;
use super::sql::Row;
use serde_json::{Value, json};

/// Kinds of conversations.
pub mod kind {
    pub const PUBLIC: i64 = 0;
    pub const PRIVATE: i64 = 1;
    /// Of one or two people, without a name.
    pub const IM: i64 = 2;
    /// Of several people, without a name.
    pub const SEVERAL: i64 = 3;
}

/// What [`conversation`] reads: as `$1` sees it.
pub(super) const CONVERSATION: &str = "SELECT c.n, c.id, c.name, c.kind, c.pair, c.creator, c.created, c.is_general, c.topic, c.members, \
     m.who IS NOT NULL AS is_member, m.last_read FROM conversations c LEFT JOIN members m ON m.channel = c.id AND m.who = $1";

/// Messages of channel `$1` after `$2` by others than `$3`. Nobody counts further than a thousand.
pub(super) const UNREAD: &str = "SELECT COUNT(*) FROM (SELECT 1 FROM messages WHERE channel = $1 AND ts > $2 AND who <> $3 \
     AND NOT deleted AND NOT is_reply LIMIT 1000) AS unread";

/// Microseconds as Slack writes them: ten digits, a dot, six digits. Ordered as strings, too.
pub fn ts_of(micros: i64) -> String {
    format!("{:010}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

/// The other way round. A client may leave out the fraction, or some of its digits.
pub fn micros_of(ts: &str) -> Option<i64> {
    let (seconds, fraction) = ts.split_once('.').unwrap_or((ts, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if seconds.is_empty()
        || seconds.len() > 12
        || fraction.len() > 6
        || !is_number(seconds)
        || !is_number(fraction)
    {
        return None;
    }
    let micros: i64 = format!("{fraction:0<6}").parse().ok()?;
    Some(seconds.parse::<i64>().ok()? * 1_000_000 + micros)
}

/// A stored body.
///
/// # Errors
/// When it is none: the file is damaged.
pub(super) fn parsed(text: &str) -> Result<Value, sqlx::Error> {
    match serde_json::from_str(text) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err(sqlx::Error::Decode("a body is no object".into())),
        Err(error) => Err(sqlx::Error::Decode(error.into())),
    }
}

/// A user as everybody sees it.
pub fn user(user: &User, team: &str) -> Value {
    let mut profile = json!({
        "display_name": user.name, "display_name_normalized": user.name, "real_name": user.real_name,
        "real_name_normalized": user.real_name, "avatar_hash": "", "title": "", "phone": "", "skype": "", "status_text": "",
        "status_emoji": "", "status_expiration": 0, "team": team,
    });
    if user.is_bot {
        profile["bot_id"] = user.bot_id().into();
    }
    json!({
        "id": user.id, "team_id": team, "name": user.name, "deleted": user.is_revoked, "real_name": user.real_name, "color": "757575",
        "tz": "Etc/UTC", "tz_label": "Coordinated Universal Time", "tz_offset": 0, "profile": profile, "is_bot": user.is_bot,
        "is_app_user": false, "is_admin": false, "is_owner": false, "is_primary_owner": false, "is_restricted": false,
        "is_ultra_restricted": false, "updated": user.updated,
    })
}

/// A row of [`CONVERSATION`].
pub(super) fn conversation(row: &Row, user: &str) -> Value {
    let (kind, people): (i64, Option<&str>) = (row.get("kind"), row.get("pair"));
    let people: Vec<&str> = people.map_or(Vec::new(), |pair| pair.split(',').collect());
    let created = row.get::<i64>("created") / 1_000_000;
    let (creator, topic): (&str, &str) = (row.get("creator"), row.get("topic"));
    let is_member: bool = row.get("is_member");
    let mut value = json!({
        "id": row.get::<&str>("id"), "created": created, "creator": creator, "is_archived": false,
        "is_channel": kind == kind::PUBLIC, "is_group": kind == kind::PRIVATE || kind == kind::SEVERAL, "is_im": kind == kind::IM,
        "is_mpim": kind == kind::SEVERAL, "is_private": kind != kind::PUBLIC, "is_general": row.get::<bool>("is_general"),
        "is_member": is_member, "is_shared": false, "is_org_shared": false, "is_ext_shared": false, "unlinked": 0,
        "num_members": row.get::<i64>("members"),
    });
    if kind == kind::IM {
        let other = people.iter().find(|id| **id != user).unwrap_or(&user);
        value["user"] = (*other).into();
        value["is_user_deleted"] = false.into();
        value["is_open"] = is_member.into();
    } else {
        let name: Option<&str> = row.get("name");
        let name = name.map_or_else(|| format!("mpdm-{}", people.join("-")), Into::into);
        value["name_normalized"] = name.as_str().into();
        value["name"] = name.into();
        value["topic"] = json!({ "value": topic, "creator": creator, "last_set": created });
        value["purpose"] = json!({ "value": "", "creator": "", "last_set": 0 });
        value["previous_names"] = json!([]);
    }
    if is_member {
        value["last_read"] = ts_of(row.get::<Option<i64>>("last_read").unwrap_or(0)).into();
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_stamps_are_ordered_as_strings_and_come_back() {
        assert_eq!(ts_of(1_700_000_000_000_001), "1700000000.000001");
        assert_eq!(micros_of("1700000000.000001"), Some(1_700_000_000_000_001));
        assert_eq!(micros_of("1700000000.5"), Some(1_700_000_000_500_000));
        assert_eq!(micros_of("0"), Some(0));
        for wrong in ["", ".", "x", "1.1234567", "1e9", "-1", "1.-1", "99999999999999", "1 "] {
            assert_eq!(micros_of(wrong), None, "{wrong}");
        }
    }
}
