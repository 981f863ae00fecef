//! What a thread does by the clock of a run: publications that are due, and people who come and go.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::arguments::Scenario;
use super::dialect::Talk;
use super::mark::Mark;
use super::plan::Pace;
use super::shared::Shared;
use super::socket::Socket;
use super::worker::{Kind, State, Worker};

const LATE: Duration = Duration::from_millis(2);
/// How long a visitor stays before it goes and comes again.
const VISIT: Duration = Duration::from_secs(3);
/// Typists for one message, in `mixed`.
const TYPISTS: u64 = 3;

impl Worker {
    /// Publishes what is due; gives how long until more is.
    pub(super) fn publish(&mut self, now_ns: u64) -> Duration {
        const LONG: Duration = Duration::from_secs(1);
        let Some(publisher) = self.publisher else { return LONG };
        let from_ns = self.shared.from_ns.load(Ordering::Acquire);
        let plan = &self.shared.plan;
        match plan.pace {
            Pace::Never => LONG,
            Pace::Outstanding(outstanding) => {
                loop {
                    let channel = self.next_channel();
                    let expected = self.shared.expected.load(Ordering::Acquire);
                    let delivered = self.shared.delivered.load(Ordering::Acquire);
                    let followers = u64::from(self.shared.plan.followers[channel as usize]);
                    let room = u64::from(outstanding - 1) * followers;
                    if expected - delivered > room || !self.is_fluent(now_ns) {
                        break;
                    }
                    self.pass_on();
                    self.publish_one(publisher, channel, self.shared.now_ns());
                }
                self.say(publisher);
                LONG
            }
            Pace::Every { interval, count } => {
                let interval_ns = interval.as_nanos() as u64;
                let end_ns = from_ns + self.shared.config.duration.as_nanos() as u64;
                loop {
                    let due_ns = from_ns + self.n / u64::from(count) * interval_ns;
                    if due_ns >= end_ns {
                        self.say(publisher);
                        return LONG;
                    }
                    let is_due = due_ns <= now_ns;
                    if !is_due || !self.is_fluent(now_ns) {
                        self.say(publisher);
                        let until = due_ns.saturating_sub(self.shared.now_ns());
                        return if is_due { LONG } else { Duration::from_nanos(until) };
                    }
                    let channel = self.next_channel();
                    self.pass_on();
                    // All threads draw the same, and each publishes into its own.
                    if channel % self.shared.publishers() == self.me {
                        let is_late = now_ns - due_ns > LATE.as_nanos() as u64;
                        self.out.late += u64::from(is_late && due_ns > self.held_ns);
                        self.publish_one(publisher, channel, due_ns);
                    }
                }
            }
        }
    }

    /// Whether the server takes another publication now.
    fn is_fluent(&mut self, now_ns: u64) -> bool {
        let publisher = self.publisher.map(|at| &self.clients[at]);
        let publisher = publisher.filter(|client| client.state == State::Up);
        let socket = publisher.and_then(|client| client.socket.as_ref());
        let is_fluent = socket.is_some_and(Socket::is_fluent)
            && self.asked.len() < self.shared.config.window as usize;
        if !is_fluent {
            self.held_ns = now_ns;
        }
        is_fluent
    }

    fn publish_one(&mut self, publisher: usize, channel: u32, due_ns: u64) {
        let shared = &self.shared;
        let Some(socket) = &mut self.clients[publisher].socket else { return };
        let number = shared.published[channel as usize].fetch_add(1, Ordering::AcqRel) + 1;
        let followers = u64::from(shared.plan.followers[channel as usize]);
        shared.expected.fetch_add(followers, Ordering::AcqRel);
        let mark = Mark { run: shared.run, channel, number, due_ns };
        let name = &shared.plan.channels[channel as usize];
        let mut message = Vec::with_capacity(shared.config.bytes + 64);
        let id = self.tongue.publish(self.n as u32, name, mark, shared.config.bytes, &mut message);
        socket.say(&message);
        if self.tongue.answers_publications() {
            self.asked.insert(id, (channel, number));
        }
        if shared.config.scenario == Scenario::Mixed {
            self.type_somewhere();
        }
    }

    /// Somebody types, a few times for each message.
    fn type_somewhere(&mut self) {
        for _ in 0..TYPISTS {
            // Not by `random`: all threads draw the same channels from theirs.
            let at = fastrand::usize(..self.clients.len());
            let client = &mut self.clients[at];
            let seat = client.seats.first().filter(|_| client.state == State::Up);
            let name = seat.map(|seat| &self.shared.plan.channels[seat.channel as usize]);
            let typing = name.and_then(|name| self.tongue.typing(name));
            if let (Some(typing), Some(socket)) = (typing, &mut client.socket) {
                socket.say(&typing);
                self.say(at);
            }
        }
    }

    /// Visitors come and go; in `resume` everybody drops once.
    pub(super) fn come_and_go(&mut self, now_ns: u64) {
        let since_ns = now_ns - self.shared.from_ns.load(Ordering::Acquire);
        if let Some(drop_at) = self.shared.plan.drop_at
            && !self.is_dropped
            && since_ns >= drop_at.as_nanos() as u64
        {
            self.is_dropped = true;
            self.out.connects.reset();
            for client in &mut self.clients {
                if client.kind == Kind::Follower && client.state == State::Up {
                    (client.socket, client.state, client.since_ns) = (None, State::Waiting, now_ns);
                    client.talk = Talk::default();
                    self.shared.up.fetch_sub(1, Ordering::AcqRel);
                }
            }
            self.next = 0;
        }
        if self.shared.plan.visitors > 0 {
            let visit_ns = VISIT.as_nanos() as u64;
            for at in 0..self.clients.len() {
                let client = &mut self.clients[at];
                if client.kind != Kind::Visitor || client.state != State::Up {
                    continue;
                }
                if client.since_ns == 0 || now_ns - client.since_ns > visit_ns {
                    (client.socket, client.state) = (None, State::Waiting);
                    client.since_ns = now_ns;
                    self.next = self.next.min(at);
                }
            }
        }
    }

    /// The channel of the publication that comes next: drawn once.
    fn next_channel(&mut self) -> u32 {
        let Shared { plan, config, .. } = &*self.shared;
        *self
            .upcoming
            .get_or_insert_with(|| plan.channel_of(self.n, config.layout, &mut self.random))
    }

    fn pass_on(&mut self) {
        self.n += 1;
        self.upcoming = None;
    }
}
