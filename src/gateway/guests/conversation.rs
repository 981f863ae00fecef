//! The workspace's conversations, for guests: who may follow one the back end knows, and what is said in one is a message of its user.

use serde::Deserialize;

use super::commands::Wrong;
use crate::centrifuge::code::{Fault, Unsubscribed};
use crate::centrifuge::message::{Nothing, Reply, SubscribeRequest};
use crate::centrifuge::rules::Rules;
use crate::gateway::asks::Pending;
use crate::gateway::session::Dialect;
use crate::gateway::shard::{Gateway, Turn};
use crate::ids::{Conn, Origin};
use crate::wire::{self, Membership, Message};

/// What the back end says of a user who wants to follow a conversation.
#[derive(Clone, Copy, Debug)]
pub(in crate::gateway) enum Admitted<'a> {
    /// A member, when the conversation stood at this offset.
    Yes {
        offset: u64,
        epoch: &'a str,
    },
    No,
    /// Nobody could say.
    Unknown,
}

/// What is published into a conversation.
#[derive(Deserialize)]
struct Said<'a> {
    #[serde(borrow)]
    text: std::borrow::Cow<'a, str>,
    #[serde(default)]
    client_msg_id: std::borrow::Cow<'a, str>,
    #[serde(default)]
    thread_ts: std::borrow::Cow<'a, str>,
}

impl Gateway {
    /// Asks whether a guest's user is a member.
    pub(super) fn ask_admission(
        &mut self,
        turn: &mut Turn<'_>,
        index: u32,
        id: u32,
        (conversation, request): (&str, &SubscribeRequest),
    ) -> Result<(), Wrong> {
        let key = self.secret.key_of(conversation);
        let conn = self.sessions.conn(self.me.core, index);
        let is_asked =
            self.guests.admissions.get(&(index, key)).is_some_and(|(known, _)| *known == conn);
        if is_asked || self.place_of(index, &request.channel).is_some() {
            return Err(Fault::AlreadySubscribed.into());
        }
        if self.guest_user(index).is_empty() {
            return Err(Fault::PermissionDenied.into());
        }
        let pending = |conn| Pending::Admit { conn, id, request: Box::new(request.clone()) };
        let ask = self.open_to_desk(turn, index, pending)?;
        self.guests.admissions.insert((index, key), (conn, id));
        let user = self.guest_user(index);
        turn.out.send(self.desk, &Message::Admit { ask, user, channel: conversation });
        Ok(())
    }

    /// The back end's word.
    pub(in crate::gateway) fn admitted(
        &mut self,
        turn: &mut Turn<'_>,
        (conn, id): (Conn, u32),
        request: &SubscribeRequest,
        admitted: Admitted<'_>,
    ) {
        let key = self.secret.key_of(&Rules::inside(&request.channel));
        let entry = (conn.index(), key);
        let is_wanted = self.guests.admissions.get(&entry) == Some(&(conn, id));
        if is_wanted {
            self.guests.admissions.remove(&entry);
        }
        let Some(index) = self.waited(conn).filter(|_| is_wanted) else { return };
        let outcome = match admitted {
            Admitted::Yes { offset, epoch } => {
                if *self.epoch != *epoch {
                    self.epoch = epoch.into();
                }
                self.join_conversation(turn, index, id, request, offset)
            }
            Admitted::No => Err(Fault::PermissionDenied),
            Admitted::Unknown => Err(Fault::Internal),
        };
        if let Err(fault) = outcome {
            self.fail(turn, index, id, fault);
        }
    }

    /// A guest does not want any more what it may not have yet.
    pub(super) fn forget_admission(&mut self, turn: &mut Turn<'_>, index: u32, channel: &str) {
        if self.guests.admissions.is_empty() {
            return;
        }
        let key = self.secret.key_of(&Rules::inside(channel));
        let conn = self.sessions.conn(self.me.core, index);
        if let Some((asker, id)) = self.guests.admissions.remove(&(index, key))
            && asker == conn
        {
            self.fail(turn, index, id, Fault::Internal);
        }
    }

    /// Somebody left a conversation: its guests follow it no more. Who came back later was let in at a higher offset, and is behind yet.
    pub(in crate::gateway) fn guests_moved(
        &mut self,
        turn: &mut Turn<'_>,
        place: u32,
        moved: &wire::Member<'_>,
    ) {
        if moved.what != Membership::Left {
            return;
        }
        let gone: Vec<u32> = self
            .hub
            .members(place)
            .filter(|member| member.dialect() != Dialect::Rtm && !member.is_behind())
            .map(super::super::members::Member::index)
            .filter(|index| self.guest_user(*index) == moved.user)
            .collect();
        for index in gone {
            self.push_unsubscribed(turn, index, place, Unsubscribed::ByServer);
        }
    }

    /// A guest publishes into a conversation: a message of its user, acknowledged after the commit.
    pub(super) fn say_in(
        &mut self,
        turn: &mut Turn<'_>,
        index: u32,
        id: u32,
        (conversation, data): (&str, &[u8]),
    ) -> Result<(), Wrong> {
        let said: Said<'_> = serde_json::from_slice(data).map_err(|_| Fault::PermissionDenied)?;
        let chars_max = self.limits.text_chars_max as usize;
        if said.text.is_empty() || said.text.chars().count() > chars_max {
            return Err(Fault::PermissionDenied.into());
        }
        let ask = self.open_to_desk(turn, index, |conn| Pending::Say { conn, id })?;
        let post = Message::Post {
            ask,
            user: self.guest_user(index),
            channel: conversation,
            text: &said.text,
            thread_ts: &said.thread_ts,
            client_msg_id: &said.client_msg_id,
            // Nobody is passed over: a guest is given its own message like everybody's.
            origin: Origin::NOBODY,
            nth: 0,
            again: false,
        };
        turn.out.send(self.desk, &post);
        Ok(())
    }

    /// What became of it; `None`: nobody knows.
    pub(in crate::gateway) fn said(
        &mut self,
        turn: &mut Turn<'_>,
        (conn, id): (Conn, u32),
        answer: Option<&Message<'_>>,
    ) {
        let Some(index) = self.waited(conn) else { return };
        match answer {
            Some(Message::Posted { .. }) => {
                let reply = Reply { id, publish: Some(Nothing {}), ..Reply::default() };
                self.answer(turn, index, reply);
            }
            Some(Message::PostFailed { reason: "slow_down" | "ratelimited", .. }) => {
                self.fail(turn, index, id, Fault::TooManyRequests);
            }
            Some(Message::PostFailed {
                reason: "internal_error" | "service_unavailable", ..
            })
            | None => self.fail(turn, index, id, Fault::Internal),
            Some(_) => self.fail(turn, index, id, Fault::PermissionDenied),
        }
    }
}
