//! From a channel to its owner, and the owner's answers.

use std::sync::Arc;
use std::time::Duration;

use super::Api;
use crate::centrifuge::code::Fault;
use crate::centrifuge::message::{Presence, PresenceStats, Publication};
use crate::centrifuge::payload::{self, Marks};
use crate::centrifuge::push;
use crate::centrifuge::rules::{Name, Options, Rules};
use crate::control::Waiting;
use crate::ids::{Key, Origin, Peer, Role};
use crate::ring::{Ring, slot_of};
use crate::wire::message::{nack, namespace};
use crate::wire::{Message, Terms};

/// A publication on its way.
pub(super) struct Placing(Waiting);

/// How often a publication is sent again that its owner did not take: slots move in milliseconds, and the pause doubles.
const AGAIN_MAX: u32 = 6;
const AGAIN_AFTER: Duration = Duration::from_millis(10);

/// Where a publication stands: `None` in a channel without a stream.
pub(super) type Placed = Option<(u64, String)>;

/// What a back end says of a publication besides what it is.
#[derive(Default)]
pub(super) struct Once {
    /// Published once for each key, within some minutes.
    pub(super) key: String,
    /// Published only if it is newer than the channel's version of the same era.
    pub(super) version: u64,
    pub(super) era: String,
    /// It takes no place.
    pub(super) is_passing: bool,
}

/// Where a channel stands, and what it has.
pub(super) struct Stream {
    pub(super) epoch: u32,
    pub(super) tip: u64,
    pub(super) publications: Vec<Publication>,
}

/// Bytes of one answer of an owner.
const PAGE_BYTES: u32 = 512 << 10;

impl Api {
    pub(super) fn options(&self, channel: &str) -> Result<&Options, Fault> {
        let name = Name::read(channel, self.rules.client.name_bytes_max);
        let name = name.ok_or(Fault::BadRequest)?;
        if name.conversation().is_some() {
            // A message needs somebody who says it: that is the Web API's.
            return Err(Fault::NotAvailable);
        }
        self.rules.options_of(&name)
    }

    /// Sends a publication to the owner of its channel. What is sent first is published first.
    pub(super) fn place(
        &self,
        channel: &str,
        publication: &Publication,
        marks: Marks,
        once: &Once,
    ) -> Result<Placing, Fault> {
        let options = self.options(channel)?;
        if marks.is_binary && options.is_json_only {
            return Err(Fault::BadRequest);
        }
        let is_delta = marks.is_delta || options.delta_publish;
        let payload = Marks { is_delta, ..marks }.write(publication);
        if payload.len() > self.limits.publication_bytes_max as usize {
            return Err(Fault::LimitExceeded);
        }
        let inside = Rules::inside(channel);
        let (key, slot) = (self.secret.key_of(&inside), slot_of(&inside));
        let (node, core, seat_epoch) = self.ring().channel_owner(slot);
        // One key in two channels is two keys.
        let key_of = |text: &str| match text {
            "" => Key::default(),
            text => self.secret.key_of(&format!("{inside}\0{text}")),
        };
        let terms = Terms {
            kept_s: options.kept_s(),
            once: key_of(&once.key),
            version: once.version,
            era: key_of(&once.era),
        };
        let publish = |ask| Message::Publish {
            slot,
            seat_epoch,
            key,
            ask,
            namespace: if once.is_passing { namespace::PASSING } else { namespace::MEMORY },
            offset: 0,
            origin: Origin::NOBODY,
            member: None,
            terms,
            name: &inside,
            payload: &payload,
        };
        let waiting = self.control.begin(Peer::new(node, Role::Channel, core), publish);
        waiting.map(Placing).map_err(|_| Fault::Internal)
    }

    /// Waits until it is published. Whoever was asked may own it no more, or not yet: then it is sent `again`.
    pub(super) async fn placed(
        &self,
        channel: &str,
        mut placing: Placing,
        again: impl Fn() -> Result<Placing, Fault>,
    ) -> Result<Placed, Fault> {
        for nth in 0.. {
            let answer = placing.0.answer().await.map_err(|_| Fault::Internal)?;
            match Message::decode(&answer) {
                Ok(Message::Published { accepted: true, epoch, offset, .. }) => {
                    let has_place = offset > 0 && self.options(channel)?.has_stream();
                    return Ok(has_place.then(|| (offset, push::epoch(epoch))));
                }
                Ok(Message::Published { why: nack::MOVED | nack::STALE | nack::RETRY, .. })
                    if nth < AGAIN_MAX =>
                {
                    tokio::time::sleep(AGAIN_AFTER * (1 << nth)).await;
                    placing = again()?;
                }
                _ => break,
            }
        }
        Err(Fault::Internal)
    }

    /// Who is in a channel, if that is `is_listed`, and how many.
    pub(super) async fn present(
        &self,
        channel: &str,
        is_listed: bool,
    ) -> Result<(PresenceStats, Presence), Fault> {
        if !self.options(channel)?.presence {
            return Err(Fault::NotAvailable);
        }
        let inside = Rules::inside(channel);
        let (key, slot) = (self.secret.key_of(&inside), slot_of(&inside));
        let (node, core, seat_epoch) = self.ring().channel_owner(slot);
        let present = |ask| Message::Present { slot, seat_epoch, key, ask, is_listed };
        let answer = self.control.ask(Peer::new(node, Role::Channel, core), present).await;
        let answer = answer.map_err(|_| Fault::Internal)?;
        let Ok(Message::PresentIs { ok: true, clients, users, infos, .. }) =
            Message::decode(&answer)
        else {
            return Err(Fault::Internal);
        };
        let stats = PresenceStats { num_clients: clients, num_users: users };
        Ok((stats, Presence::of(infos.iter())))
    }

    fn ring(&self) -> Arc<Ring> {
        Arc::clone(&self.cell.ring.borrow())
    }

    /// All gateway cores that are there, node by node.
    pub(super) fn gateways(&self) -> Vec<Peer> {
        self.cell.gateways.borrow().clone()
    }

    /// Tells all gateway cores what is wanted of a user's connections, and waits until each has done it.
    pub(super) async fn order(&self, what: u8, arguments: &str) -> Result<(), Fault> {
        let mut waiting = Vec::new();
        for core in self.gateways() {
            let arguments = arguments.as_bytes();
            let order = |ask| Message::Order { ask, what, arguments };
            waiting.push(self.control.begin(core, order).map_err(|_| Fault::Internal)?);
        }
        for core in waiting {
            core.answer().await.map_err(|_| Fault::Internal)?;
        }
        Ok(())
    }

    /// Makes the past of a channel unfindable.
    pub(super) async fn erase(&self, channel: &str) -> Result<(), Fault> {
        if !self.options(channel)?.has_stream() {
            return Err(Fault::NotAvailable);
        }
        let inside = Rules::inside(channel);
        let (key, slot) = (self.secret.key_of(&inside), slot_of(&inside));
        let (node, core, seat_epoch) = self.ring().channel_owner(slot);
        let erase = |ask| Message::Erase { slot, seat_epoch, key, ask };
        let answer = self.control.ask(Peer::new(node, Role::Channel, core), erase).await;
        match Message::decode(&answer.map_err(|_| Fault::Internal)?) {
            Ok(Message::Noted { ok: true, .. }) => Ok(()),
            _ => Err(Fault::Internal),
        }
    }

    /// What a channel has behind `after`, at most `count_max`.
    pub(super) async fn read(
        &self,
        channel: &str,
        after: u64,
        count_max: u32,
    ) -> Result<Stream, Fault> {
        let inside = Rules::inside(channel);
        let (key, slot) = (self.secret.key_of(&inside), slot_of(&inside));
        let (node, core, seat_epoch) = self.ring().channel_owner(slot);
        let read = |ask| Message::Read {
            slot,
            seat_epoch,
            key,
            ask,
            namespace: namespace::MEMORY,
            after,
            count_max,
            bytes_max: PAGE_BYTES,
            name: &inside,
        };
        let answer = self.control.ask(Peer::new(node, Role::Channel, core), read).await;
        let answer = answer.map_err(|_| Fault::Internal)?;
        let Ok(Message::ReadIs { ok: true, epoch, tip, publications, .. }) =
            Message::decode(&answer)
        else {
            return Err(Fault::Internal);
        };
        let publications = publications
            .iter::<(u64, &[u8])>()
            .filter_map(|(offset, payload)| payload::read(payload, offset, true));
        Ok(Stream { epoch, tip, publications: publications.collect() })
    }
}
