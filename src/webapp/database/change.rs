//! Everything that can be changed, and what comes of it.

use serde_json::{Map, Value};

use super::batch::{Batch, Stopped};
use crate::ids::Origin;

/// One change. `user` is who wants it, already known to be somebody.
#[derive(Clone, Debug)]
pub enum Change {
    Post {
        user: String,
        /// An id, or a name with or without `#`.
        channel: String,
        text: String,
        thread_ts: Option<i64>,
        /// Show a reply in the conversation too.
        broadcast: bool,
        client_msg_id: Option<String>,
        /// What makes a repetition the same message: `client_msg_id`, or a header.
        key: Option<String>,
        /// Other fields of the message: blocks, attachments.
        more: Map<String, Value>,
        origin: Origin,
    },
    Update {
        user: String,
        channel: String,
        ts: i64,
        text: String,
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
    /// A conversation of people; found when it is there.
    Open {
        user: String,
        others: Vec<String>,
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
    /// A ticket for one websocket, with where the user's channels stand now.
    Ticket {
        user: String,
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
    /// (name, tip) of everything that the user follows.
    Ticket {
        positions: Vec<(String, i64)>,
    },
    /// The encoded `Boot` of a ticket, with `Ask(0)`.
    Boot(Vec<u8>),
}

impl Batch<'_> {
    pub(super) async fn apply(&mut self, change: Change) -> Result<Outcome, Stopped> {
        match change {
            change @ Change::Post { .. } => self.post(change).await,
            Change::Update { user, channel, ts, text, more } => {
                self.update(&user, &channel, ts, text, more).await
            }
            Change::Delete { user, channel, ts } => self.delete(&user, &channel, ts).await,
            Change::React { user, channel, ts, name, add } => {
                self.react(&user, &channel, ts, &name, add).await
            }
            Change::Create { user, name, is_private } => {
                self.create(&user, &name, is_private).await
            }
            Change::Join { user, channel } => self.join_channel(&user, &channel).await,
            Change::Leave { user, channel } => self.leave(&user, &channel).await,
            Change::Open { user, others } => self.open(&user, others).await,
            Change::Mark { user, channel, ts } => self.mark(&user, &channel, ts).await,
            Change::Away { user, away } => self.away(&user, away).await,
            Change::Ticket { user, hash, flags } => self.ticket(&user, hash, flags).await,
            Change::Redeem { hash } => self.redeem(hash).await,
            Change::Remove { rows } => self.remove(rows).await,
        }
    }
}
