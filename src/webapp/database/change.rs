//! Everything that can be changed, and what comes of it.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::batch::{Batch, Stopped};
use super::people::Known;
use super::tokens::Ended;
use super::{Team, User};
use crate::ids::Origin;

/// One change. `user` is who wants it, already known to be somebody.
#[derive(Clone, Debug)]
pub enum Change {
    Post(Post),
    Update {
        user: String,
        channel: String,
        ts: i64,
        /// None: as it was, or empty when there are new blocks.
        text: Option<String>,
        more: Map<String, Value>,
    },
    Delete {
        user: String,
        channel: String,
        ts: i64,
    },
    React {
        user: String,
        channel: String,
        ts: i64,
        name: String,
        add: bool,
    },
    Create {
        user: String,
        name: String,
        is_private: bool,
    },
    Join {
        user: String,
        channel: String,
    },
    Leave {
        user: String,
        channel: String,
    },
    /// A conversation of people; found when it is there, made only if `may_make`.
    Open {
        user: String,
        others: Vec<String>,
        may_make: bool,
    },
    Mark {
        user: String,
        channel: String,
        ts: i64,
    },
    Away {
        user: String,
        away: bool,
    },
    /// The one team, with its first conversation. `domain` empty: made of the name.
    CreateTeam {
        name: String,
        domain: String,
    },
    /// Somebody new, with a channel of their own and a place in the general conversation. `real_name` empty: the name.
    CreateUser {
        name: String,
        real_name: String,
        is_bot: bool,
    },
    /// Nobody comes in as this user any more.
    RevokeUser {
        user: String,
    },
    /// A token of a user, known by its hash.
    CreateToken {
        user: String,
        label: String,
        hash: [u8; 32],
    },
    /// A token, by its number, opens nothing any more.
    RevokeToken {
        number: u32,
    },
    /// A ticket for one websocket, with where the user's channels stand now. It dies with the `token` that it came of.
    Ticket {
        user: String,
        token: u32,
        hash: [u8; 32],
        flags: u8,
    },
    Redeem {
        hash: [u8; 32],
    },
    /// Finalised rows leave the outbox.
    Remove {
        rows: Vec<u64>,
    },
}

/// A new message.
#[derive(Clone, Debug)]
pub struct Post {
    pub user: String,
    /// An id, or a name with or without `#`.
    pub channel: String,
    pub text: String,
    pub thread_ts: Option<i64>,
    /// Show a reply in the conversation too.
    pub broadcast: bool,
    pub client_msg_id: Option<String>,
    pub key: Option<Key>,
    /// Other fields of the message: blocks, attachments.
    pub more: Map<String, Value>,
    pub origin: Origin,
}

/// What makes a repetition by the same user in the same channel the same message. In another channel it is another message: a client
/// that numbers its messages by channel must not lose one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Key(String);

impl Key {
    /// Bytes of what a client may choose: UUIDs and the like.
    const BYTES_MAX: usize = 255;

    /// The client's `client_msg_id`, by whichever door it comes. None: it is too long.
    pub fn of_client(id: &str) -> Option<Self> {
        (id.len() <= Self::BYTES_MAX).then(|| Self(format!("id:{id}")))
    }
    /// The header of an HTTP call. None: it is too long.
    pub fn of_header(value: &str) -> Option<Self> {
        (value.len() <= Self::BYTES_MAX).then(|| Self(format!("header:{value}")))
    }
    /// The `nth` post of a connection of one life of a node.
    pub fn of_connection(Origin { life, conn }: Origin, nth: u32) -> Self {
        Self(format!("rtm:{life:x}-{:x}-{nth}", conn.0))
    }
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a change came to, once it is committed.
#[derive(Clone, PartialEq, Debug)]
pub enum Outcome {
    Posted {
        channel: String,
        ts: i64,
        seq: i64,
        message: Value,
    },
    /// The message as it is now.
    Updated {
        channel: String,
        message: Value,
    },
    Done,
    /// It was so before.
    Already,
    /// A conversation; `fresh`: it was made just now.
    Conversation {
        id: String,
        fresh: bool,
    },
    User(Arc<User>),
    Team(Team),
    Token(Known),
    /// These tokens open nothing any more, and `user` comes in by none. `is_new`: it was not so before.
    Revoked {
        user: Option<Arc<User>>,
        tokens: Vec<Ended>,
        is_new: bool,
    },
    /// (name, tip) of everything that the user follows.
    Ticket {
        positions: Vec<(String, i64)>,
    },
    /// The encoded `Boot` of a ticket, with `Ask(0)`.
    Boot(Vec<u8>),
}

impl Batch<'_> {
    pub(super) async fn apply(&mut self, change: &Change) -> Result<Outcome, Stopped> {
        match change {
            Change::Post(post) => self.post(post).await,
            Change::Update { user, channel, ts, text, more } => {
                self.update(user, channel, *ts, text.as_deref(), more).await
            }
            Change::Delete { user, channel, ts } => self.delete(user, channel, *ts).await,
            Change::React { user, channel, ts, name, add } => {
                self.react(user, channel, *ts, name, *add).await
            }
            Change::Create { user, name, is_private } => self.create(user, name, *is_private).await,
            Change::Join { user, channel } => self.join_channel(user, channel).await,
            Change::Leave { user, channel } => self.leave(user, channel).await,
            Change::Open { user, others, may_make } => self.open(user, others, *may_make).await,
            Change::Mark { user, channel, ts } => self.mark(user, channel, *ts).await,
            Change::Away { user, away } => self.away(user, *away).await,
            Change::CreateUser { name, real_name, is_bot } => {
                self.create_user(name, real_name, *is_bot).await
            }
            Change::CreateTeam { name, domain } => self.create_team(name, domain).await,
            Change::RevokeUser { user } => self.revoke_user(user).await,
            Change::CreateToken { user, label, hash } => {
                self.create_token(user, label, *hash).await
            }
            Change::RevokeToken { number } => self.revoke_token(*number).await,
            Change::Ticket { user, token, hash, flags } => {
                self.ticket(user, *token, *hash, *flags).await
            }
            Change::Redeem { hash } => self.redeem(*hash).await,
            Change::Remove { rows } => self.remove(rows).await,
        }
    }
}
