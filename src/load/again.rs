//! Connections that come again (`--reconnect`): when, where to, and from which place on.

use std::cmp::Reverse;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::arguments::Dialect;
use super::dialect::{Talk, Tongue};
use super::doors::{Coming, Ticket};
use super::worker::{Kind, State, Worker};

/// Between the loss and the first attempt: at random up to so long, which doubles with each attempt that fails.
const SPREAD: Duration = Duration::from_secs(1);
const SPREAD_MAX: Duration = Duration::from_secs(8);
/// An attempt that has come to nothing after so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_secs(1);

impl Worker {
    /// Whether a connection that is no more comes again: it was in, and that is asked for.
    pub(super) fn comes_again(&mut self, at: usize, was_up: bool) -> bool {
        let client = &mut self.clients[at];
        let may = self.shared.config.reconnect && client.kind != Kind::Slow;
        if !may || !client.is_known {
            return false;
        }
        let now_ns = self.shared.now_ns();
        if was_up {
            self.shared.up.fetch_sub(1, Ordering::AcqRel);
            (client.since_ns, client.is_returning) = (now_ns, true);
            client.spread = SPREAD;
            if client.kind == Kind::Publisher {
                self.out.publisher_lost += 1;
                self.out.unanswered.extend(self.asked.drain().map(|(_, one)| one));
            } else {
                self.out.lost += 1;
            }
        }
        (client.state, client.talk) = (State::Away, Talk::default());
        client.turn = client.turn.wrapping_add(1);
        // Not by `random`: all threads draw the same channels from theirs.
        let pause = client.spread.mul_f64(fastrand::f64());
        client.spread = (client.spread * 2).min(SPREAD_MAX);
        self.away.push(Reverse((now_ns + pause.as_nanos() as u64, at)));
        true
    }

    /// Those whose pause is over may be opened.
    pub(super) fn call_back(&mut self, now_ns: u64) {
        while let Some(Reverse((due_ns, at))) = self.away.peek().copied()
            && due_ns <= now_ns
        {
            self.away.pop();
            self.clients[at].state = State::Waiting;
            self.next = self.next.min(at);
        }
        if !self.shared.config.reconnect || now_ns < self.look_due {
            return;
        }
        self.look_due = now_ns + LOOK.as_nanos() as u64;
        for at in 0..self.clients.len() {
            let client = &self.clients[at];
            let is_coming = matches!(client.state, State::Opening | State::Following(_));
            if is_coming && now_ns - client.begun_ns > PATIENCE.as_nanos() as u64 {
                self.gone(at, &format!("it did not come in within {PATIENCE:?}"));
            }
        }
    }

    /// How a client asks for its ticket: who is to come again says where it stands, from the first time on.
    pub(super) fn coming(&self, at: usize) -> Coming {
        let is_judged = self.clients[at].kind == Kind::Follower;
        if self.shared.config.reconnect && is_judged { Coming::Resuming } else { Coming::Live }
    }

    /// A ticket came: who has heard nothing yet begins at the tips.
    pub(super) fn take_ticket(&mut self, at: usize, ticket: Ticket) {
        if self.coming(at) == Coming::Resuming {
            for (name, tip) in ticket.tips {
                if let Some(nth) = self.seat_of(at, &name) {
                    let seat = &mut self.clients[at].seats[nth];
                    if seat.offset == 0 {
                        seat.offset = tip;
                    }
                }
            }
        }
        let place = self.shared.workspace.at_host(self.clients[at].turn, ticket.place);
        self.open(at, &place);
    }

    /// In RTM: says where each channel stands, as the first epoch counts it.
    pub(super) fn say_places(&mut self, at: usize, epoch: String) {
        if self.tongue.dialect != Dialect::Rtm || self.coming(at) != Coming::Resuming {
            return;
        }
        let client = &mut self.clients[at];
        let Some(known) = client.epochs.first_mut() else { return };
        if known.is_empty() {
            *known = epoch.into();
        }
        let channels = &self.shared.plan.channels;
        let places = client.seats.iter();
        let places = places.map(|seat| (&*channels[seat.channel as usize], seat.offset));
        let frames = Tongue::resume(&client.epochs[0], places);
        if let Some(socket) = &mut client.socket {
            for frame in &frames {
                socket.say(frame);
            }
        }
    }

    /// A subscription ended, and the connection did not: as the SDKs do, it is asked for again.
    pub(super) fn follow_again(&mut self, at: usize, name: &str) {
        let Some(nth) = self.seat_of(at, name) else { return };
        let client = &mut self.clients[at];
        let since = Some((&*client.epochs[nth], client.seats[nth].offset));
        let since = since.filter(|_| client.kind != Kind::Publisher);
        let follow = self.tongue.follow(&client.talk, nth as u32, name, since);
        if let (Some(follow), Some(socket)) = (follow, &mut client.socket) {
            socket.say(&follow);
        }
    }

    fn seat_of(&self, at: usize, name: &str) -> Option<usize> {
        let channel = self.shared.numbers.get(name)?;
        self.clients[at].seats.binary_search_by_key(channel, |seat| seat.channel).ok()
    }
}
