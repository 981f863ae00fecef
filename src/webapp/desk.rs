//! The webapp's shard: what gateways and owners ask of the database goes through here, bounded and in turn.
//!
//! Posts and tickets go on at once, up to a bound and at a pace: people wait for them. Reads of the past wait in `source` for each other and for room at
//! the asker's mailbox. Questions of HTTP handlers about presence are passed on to whoever knows. Nothing is kept here that its asker
//! could not ask again.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::keepers::Keepers;
use super::paces::{Paced, Paces};
use super::revoked::Revoked;
use super::source::{Read, Reads};
use crate::ids::{Ask, NodeId, Peer, Role};
use crate::limits::Limits;
use crate::ring::Ring;
use crate::shard::{Budget, Counter, Effects, Input, Report, Shard};
use crate::time::{Mono, Now};
use crate::wire::Message;
use crate::wire::message::not_called;

/// Answered questions that may stand in `due` before they are cleared away.
const DUE_SLACK: usize = 64;

/// The desk. One for a node's control plane.
#[derive(Debug)]
pub struct Desk {
    node: NodeId,
    limits: Limits,
    ring: Option<Ring>,
    reads: Reads,
    paces: Paces,
    keepers: Keepers,
    revoked: Revoked,
    /// Questions that are open, by our number.
    open: FxHashMap<u32, Open>,
    /// When an answer is given up; answered ones are passed over.
    due: VecDeque<(Mono, u32)>,
    posts: u32,
    /// Tickets that are being redeemed or renewed, and admissions.
    tickets: u32,
    /// Calls to the operator's back end.
    calls: u32,
    /// Shards that are up, and which life of the link it is.
    lives: FxHashMap<Peer, u32>,
    asks: u32,
}

#[derive(Debug)]
enum Open {
    /// `is_repeated`: it was said before, and may be stored already.
    Post {
        asker: Asker,
        is_repeated: bool,
    },
    Ticket(Asker),
    Call(Asker),
    Read(Read),
}

/// Who asks, and by what number.
#[derive(Clone, Copy, Debug)]
struct Asked {
    peer: Peer,
    ask: Ask,
}

/// The same, and in which life of the link.
#[derive(Clone, Copy, Debug)]
struct Asker {
    peer: Peer,
    ask: Ask,
    life: u32,
}

impl Desk {
    pub fn new(node: NodeId, limits: &Limits) -> Self {
        Self {
            node,
            limits: limits.clone(),
            ring: None,
            reads: Reads::new(limits),
            paces: Paces::new(limits),
            keepers: Keepers::default(),
            revoked: Revoked::new(limits),
            open: FxHashMap::default(),
            due: VecDeque::new(),
            posts: 0,
            tickets: 0,
            calls: 0,
            lives: FxHashMap::default(),
            asks: 0,
        }
    }

    fn wire(&mut self, now: Now, peer: Peer, message: Message<'_>, out: &mut Effects) {
        match message {
            Message::Post { ask, .. } => self.post(now, Asked { peer, ask }, &message, out),
            Message::Redeem { ask, ticket } => {
                let Some(our) = self.ticket(now, peer, ask, out) else { return };
                out.ask(our, &Message::Redeem { ask: our, ticket });
            }
            Message::Renew { ask, user, token, flags } => {
                let Some(our) = self.ticket(now, peer, ask, out) else { return };
                out.ask(our, &Message::Renew { ask: our, user, token, flags });
            }
            Message::Revoke { tokens } if peer.role == Role::Http => {
                self.revoked.note(now.mono, tokens, out);
                let gateways = self.lives.keys().filter(|peer| peer.role == Role::Gateway);
                // In an order that a seed repeats.
                let mut gateways: Vec<Peer> = gateways.copied().collect();
                gateways.sort_unstable();
                for gateway in gateways {
                    out.send(gateway, &message);
                }
            }
            Message::Admit { ask, user, channel } => {
                let Some(our) = self.ticket(now, peer, ask, out) else { return };
                out.ask(our, &Message::Admit { ask: our, user, channel });
            }
            Message::Call { ask, user, client, method, data, is_json } => {
                if self.calls >= self.limits.calls_max {
                    out.count(Counter::CallsShed);
                    return out.send(peer, &not_called(ask));
                }
                let Some(asker) = self.asker(peer, ask, out) else { return };
                self.calls += 1;
                let our = self.ask(now, Open::Call(asker));
                out.ask(our, &Message::Call { ask: our, user, client, method, data, is_json });
            }
            Message::Tip { ask, name } => {
                // No word of refusal: whoever asks for a tip asks again what was not answered.
                if self.reads.tip(peer, ask, name).is_err() {
                    out.count(Counter::ReadsShed);
                }
            }
            // Only owners keep a past: a gateway has it from them.
            Message::Range { ask, name, from, to, bytes_max } if peer.role == Role::Channel => {
                if self.reads.range(peer, ask, name, (from, to), bytes_max).is_err() {
                    out.count(Counter::ReadsShed);
                    out.send(peer, &Message::RangeEnd { ask, ok: false, upto: 0 });
                }
            }
            Message::PresenceQuery { .. } | Message::Manual { .. } if peer.role == Role::Http => {
                self.presence(now, &message, out);
            }
            Message::PresenceIs { .. } | Message::PresenceUnknown { .. }
                if peer.role == Role::Presence =>
            {
                out.send(Peer::control(self.node, Role::Http), &message);
            }
            _ => out.count(Counter::WireBroken),
        }
    }

    fn post(
        &mut self,
        now: Now,
        Asked { peer, ask }: Asked,
        post: &Message<'_>,
        out: &mut Effects,
    ) {
        let Message::Post {
            user, channel, text, thread_ts, client_msg_id, origin, nth, again, ..
        } = *post
        else {
            return;
        };
        if self.posts >= self.limits.commits_max {
            out.count(Counter::PostsShed);
            // What is said again may be stored, so that one cannot say it is not.
            if !again {
                out.send(peer, &Message::PostFailed { ask, reason: "ratelimited" });
            }
            return;
        }
        let Some(asker) = self.asker(peer, ask, out) else { return };
        // What is said again was paid for.
        let paced = if again { Paced::Granted } else { self.paces.take(now.mono, user) };
        match paced {
            Paced::Granted => {}
            Paced::Evicted => out.count(Counter::PacesEvicted),
            Paced::TooFast => {
                out.count(Counter::PostsPaced);
                return out.send(peer, &Message::PostFailed { ask, reason: "slow_down" });
            }
        }
        self.posts += 1;
        let ask = self.ask(now, Open::Post { asker, is_repeated: again });
        out.ask(
            ask,
            &Message::Post {
                ask,
                user,
                channel,
                text,
                thread_ts,
                client_msg_id,
                origin,
                nth,
                again,
            },
        );
    }

    /// Passes on what an HTTP handler says to who keeps the user's presence.
    fn presence(&mut self, now: Now, message: &Message<'_>, out: &mut Effects) {
        let (Message::PresenceQuery { slot, .. } | Message::Manual { slot, .. }) = *message else {
            return;
        };
        let keeper = self.ring.as_ref().map(|ring| ring.presence_shard(slot));
        let keeper = keeper.filter(|keeper| self.lives.contains_key(keeper));
        self.keepers.pass(now.mono, self.node, keeper, message, out);
    }

    fn answer(&mut self, our: Ask, message: Message<'_>, out: &mut Effects) {
        if let Message::RangeEvent { .. } = message {
            return self.event(our, &message, out);
        }
        match (self.open.remove(&our.0), message) {
            (None, _) => {}
            (Some(Open::Post { asker, is_repeated }), _) => {
                self.posts -= 1;
                self.posted(asker, is_repeated, &message, out);
            }
            (Some(Open::Ticket(asker)), _) => {
                self.tickets -= 1;
                self.ticketed(asker, &message, out);
            }
            (Some(Open::Call(asker)), _) => {
                self.calls -= 1;
                self.called(asker, &message, out);
            }
            (Some(Open::Read(read)), _) => self.read(&read, &message, out),
        }
    }

    fn posted(
        &self,
        Asker { peer, ask, life }: Asker,
        is_repeated: bool,
        message: &Message<'_>,
        out: &mut Effects,
    ) {
        if self.lives.get(&peer) != Some(&life) {
            return;
        }
        match *message {
            Message::Posted { offset, ts, text, .. } => {
                out.send(peer, &Message::Posted { ask, offset, ts, text });
            }
            Message::PostFailed { reason, .. } if is_repeated && is_transient(reason) => {}
            Message::PostFailed { reason, .. } => {
                out.send(peer, &Message::PostFailed { ask, reason });
            }
            _ => out.count(Counter::WireBroken),
        }
    }

    fn called(&self, Asker { peer, ask, life }: Asker, message: &Message<'_>, out: &mut Effects) {
        let Message::Called { code, temporary, text, data, .. } = *message else {
            return out.count(Counter::WireBroken);
        };
        if self.lives.get(&peer) == Some(&life) {
            out.send(peer, &Message::Called { ask, code, temporary, text, data });
        }
    }

    fn ticketed(&self, Asker { peer, ask, life }: Asker, message: &Message<'_>, out: &mut Effects) {
        let is_wanted = self.lives.get(&peer) == Some(&life);
        match *message {
            // Granted before the token was revoked, and told after.
            Message::Boot { token, .. } if self.revoked.contains(token) => {
                out.count(Counter::TicketsRefused);
                if is_wanted {
                    out.send(peer, &Message::Refused { ask, retry: false });
                }
            }
            Message::Boot { user, team, epoch, flags, token, channels, .. } => {
                out.count(Counter::TicketsRedeemed);
                if is_wanted {
                    let boot = Message::Boot { ask, user, team, epoch, flags, token, channels };
                    out.send(peer, &boot);
                }
            }
            Message::Ticketed { path, .. } => {
                out.count(Counter::TicketsRenewed);
                if is_wanted {
                    out.send(peer, &Message::Ticketed { ask, path });
                }
            }
            Message::Admitted { is_member, offset, epoch, .. } => {
                if is_wanted {
                    out.send(peer, &Message::Admitted { ask, is_member, offset, epoch });
                }
            }
            Message::Refused { retry, .. } => {
                out.count(Counter::TicketsRefused);
                if is_wanted {
                    out.send(peer, &Message::Refused { ask, retry });
                }
            }
            _ => out.count(Counter::WireBroken),
        }
    }

    /// One event of a range, to everybody who asked for it.
    fn event(&mut self, our: Ask, message: &Message<'_>, out: &mut Effects) {
        let Message::RangeEvent { offset, origin, member, payload, .. } = *message else { return };
        let Some(Open::Read(read)) = self.open.get_mut(&our.0) else { return };
        if !self.reads.is_wanted(read) {
            return;
        }
        for ask in read.asks.iter().copied() {
            read.used.messages += 1;
            read.used.bytes += payload.len() as u64;
            out.send_bulk(read.peer, &Message::RangeEvent { ask, offset, origin, member, payload });
        }
    }

    /// The end of a read. A `RangeEnd` that is not ok ends any of them: the database could not be read.
    fn read(&mut self, read: &Read, message: &Message<'_>, out: &mut Effects) {
        let is_wanted = self.reads.is_wanted(read);
        let is_tip = matches!(Message::decode(&read.question), Ok(Message::Tip { .. }));
        let mut used = read.used;
        for ask in read.asks.iter().copied().filter(|_| is_wanted) {
            match *message {
                Message::TipIs { found, tip, .. } => {
                    out.send(read.peer, &Message::TipIs { ask, found, tip });
                }
                Message::RangeEnd { ok: false, .. } if is_tip => out.count(Counter::ReadsShed),
                Message::RangeEnd { ok, upto, .. } => {
                    used.messages += 1;
                    out.send_bulk(read.peer, &Message::RangeEnd { ask, ok, upto });
                }
                _ => out.count(Counter::WireBroken),
            }
        }
        self.reads.ended(read, used);
    }

    /// Begins as many waiting reads as may run at once.
    fn begin_reads(&mut self, now: Now, out: &mut Effects) {
        while let Some(read) = self.reads.next() {
            let question = read.question.clone();
            let ask = self.ask(now, Open::Read(read));
            match Message::decode(&question).expect("encoded by `source`") {
                Message::Tip { name, .. } => out.ask(ask, &Message::Tip { ask, name }),
                Message::Range { name, from, to, bytes_max, .. } => {
                    out.ask(ask, &Message::Range { ask, name, from, to, bytes_max });
                }
                other => unreachable!("{} is no read", other.name()),
            }
        }
    }

    /// Questions that were not answered in time count no more, and hold up nobody.
    fn give_up(&mut self, now: Now, out: &mut Effects) {
        while let Some(&(due, our)) = self.due.front() {
            let is_open = self.open.contains_key(&our);
            if is_open && due > now.mono {
                return;
            }
            self.due.pop_front();
            match self.open.remove(&our).filter(|_| is_open) {
                None => {}
                // Whether it was committed nobody knows: so nothing is said.
                Some(Open::Post { .. }) => self.posts -= 1,
                Some(Open::Ticket(asker)) => {
                    self.tickets -= 1;
                    self.ticketed(asker, &Message::Refused { ask: asker.ask, retry: true }, out);
                }
                Some(Open::Call(asker)) => {
                    self.calls -= 1;
                    self.called(asker, &not_called(asker.ask), out);
                }
                Some(Open::Read(read)) => {
                    self.read(&read, &Message::RangeEnd { ask: Ask(0), ok: false, upto: 0 }, out);
                }
            }
        }
    }

    /// `None`: the link to the asker is not up, so the answer would be lost.
    fn asker(&self, peer: Peer, ask: Ask, out: &mut Effects) -> Option<Asker> {
        let life = self.lives.get(&peer).copied();
        if life.is_none() {
            out.count(Counter::WireBroken);
        }
        life.map(|life| Asker { peer, ask, life })
    }

    /// Room for one more ticket that is redeemed or renewed, and our number for it.
    fn ticket(&mut self, now: Now, peer: Peer, ask: Ask, out: &mut Effects) -> Option<Ask> {
        if self.tickets >= self.limits.boots_burst {
            out.count(Counter::TicketsRefused);
            out.send(peer, &Message::Refused { ask, retry: true });
            return None;
        }
        let asker = self.asker(peer, ask, out)?;
        self.tickets += 1;
        Some(self.ask(now, Open::Ticket(asker)))
    }

    fn ask(&mut self, now: Now, open: Open) -> Ask {
        self.asks = self.asks.wrapping_add(1);
        self.open.insert(self.asks, open);
        // Behind one that is never answered, answered ones would pile up.
        if self.due.len() >= 2 * self.open.len() + DUE_SLACK {
            self.due.retain(|(_, our)| self.open.contains_key(our));
        }
        // Later than the asker gives up, so that a late answer is still used where it can be.
        self.due.push_back((now.mono + self.limits.ask_timeout * 2, self.asks));
        Ask(self.asks)
    }
}

/// Whether this says how the database is, not what the post is.
fn is_transient(reason: &str) -> bool {
    matches!(reason, "ratelimited" | "internal_error" | "service_unavailable")
}

impl Shard for Desk {
    fn handle(&mut self, now: Now, input: Input<'_>, out: &mut Effects) {
        match input {
            Input::Wire { peer, message } => self.wire(now, peer, message, out),
            Input::Answer { ask, message } => self.answer(ask, message, out),
            Input::PeerUp { peer, life, .. } => {
                self.lives.insert(peer, life);
                if matches!(peer.role, Role::Channel | Role::Gateway) {
                    self.reads.up(peer);
                }
                if peer.role == Role::Gateway {
                    self.revoked.up(peer, out);
                }
                if let Some(ring) = self.ring.as_ref().filter(|_| peer.role == Role::Presence) {
                    self.keepers.up(now.mono, peer, ring, out);
                }
            }
            Input::PeerRoom { peer } => self.reads.room(peer),
            Input::PeerLost { peer } => {
                self.lives.remove(&peer);
                self.reads.lost(peer);
            }
            Input::Ring { ring } => {
                if let Some(was) = self.ring.replace(ring.clone()) {
                    self.keepers.moved(now.mono, &was, ring, out);
                }
            }
            Input::Tick => self.give_up(now, out),
            _ => {}
        }
        self.begin_reads(now, out);
    }

    fn advance(&mut self, _now: Now, _budget: Budget, _out: &mut Effects) -> bool {
        false
    }

    fn deadline(&self) -> Option<Mono> {
        self.due.front().map(|(due, _)| *due)
    }

    fn report(&self, into: &mut Report) {
        into.gauge("desk_posts_open", f64::from(self.posts));
        into.gauge("desk_tickets_open", f64::from(self.tickets));
        into.gauge("desk_calls_open", f64::from(self.calls));
        into.gauge("desk_paces", self.paces.len() as f64);
        into.gauge("desk_revocations", self.revoked.len() as f64);
        into.gauge("desk_reads_open", f64::from(self.reads.open()));
        into.gauge("desk_reads_waiting", self.reads.waiting() as f64);
    }
}
