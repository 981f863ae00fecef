//! A guest's publication: to the owner of its channel, and back.

use super::commands::Wrong;
use crate::centrifuge::code::{Disconnect, Fault};
use crate::centrifuge::message::{Nothing, Publication, PublishRequest, Reply};
use crate::centrifuge::payload::Marks;
use crate::centrifuge::rules::{Asker, Rules};
use crate::gateway::asks::Pending;
use crate::gateway::shard::{Gateway, Turn};
use crate::ids::{Conn, Origin};
use crate::ring::slot_of;
use crate::wire::message::namespace;
use crate::wire::{Message, Terms};

impl Gateway {
    pub(super) fn publish(
        &mut self,
        turn: &mut Turn<'_>,
        index: u32,
        id: u32,
        request: &PublishRequest,
    ) -> Result<(), Wrong> {
        if request.channel.is_empty() {
            return Err(Disconnect::BadRequest.into());
        }
        if request.data.is_empty() {
            return Err(Fault::BadRequest.into());
        }
        let (name, options) = self.channel_of(&request.channel)?;
        if request.kind != 0 {
            return Err(Fault::NotAvailable.into());
        }
        let place = self.place_of(index, name.whole);
        let asker = Asker { user: self.guest_user(index), is_subscribed: place.is_some() };
        if !self.rules.allows(options.publish, asker) {
            return Err(Fault::PermissionDenied.into());
        }
        if let Some(conversation) = name.conversation() {
            return self.say_in(turn, index, id, (conversation, &request.data));
        }
        let (marks, data) = Marks::of(request.data.clone(), options.delta_publish);
        if marks.is_binary && options.is_json_only {
            return Err(Fault::BadRequest.into());
        }
        let info = self.client_info(index, place);
        let publication = Publication { data, info: Some(info), ..Publication::default() };
        let payload = marks.write(&publication);
        if payload.len() > self.limits.publication_bytes_max as usize {
            return Err(Fault::LimitExceeded.into());
        }
        let terms = Terms { kept_s: options.kept_s(), ..Terms::default() };
        let inside = Rules::inside(name.whole);
        let (key, slot) = (self.secret.key_of(&inside), slot_of(&inside));
        let core = self.interest_core(slot);
        let bytes = inside.len() + payload.len();
        let pending = |conn| Pending::Publish { conn, id };
        let ask = self.open_to_owner(turn, index, (core, bytes), pending)?;
        turn.out.send_bulk(
            self.neighbour(core),
            &Message::Publish {
                slot,
                seat_epoch: 0,
                key,
                ask,
                namespace: namespace::MEMORY,
                offset: 0,
                origin: Origin::NOBODY,
                member: None,
                terms,
                name: &inside,
                payload: &payload,
            },
        );
        Ok(())
    }

    /// What became of it.
    pub(in crate::gateway) fn guest_published(
        &mut self,
        turn: &mut Turn<'_>,
        conn: Conn,
        id: u32,
        accepted: bool,
    ) {
        let Some(index) = self.waited(conn) else { return };
        if accepted {
            self.answer(turn, index, Reply { id, publish: Some(Nothing {}), ..Reply::default() });
        } else {
            self.fail(turn, index, id, Fault::Internal);
        }
    }
}
