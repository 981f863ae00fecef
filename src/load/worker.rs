//! One thread's share of a run: its clients, what it publishes, and what it hears.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustc_hash::FxHashMap;
use rustix::event::{Timespec, epoll};

use super::arguments::{Dialect, Scenario};
use super::dialect::{Following, Heard, Talk, Tongue};
use super::doors::{Doorman, Place};
use super::mark::Mark;
use super::meter;
use super::shared::{INTERVAL, Interval, Outcome, Phase, Shared};
use super::socket::{self, Got, Socket};
use super::tally::{Seat, Tally};

/// Handshakes of one thread at once; reads of one connection in a row.
const OPENING_MAX: u32 = 128;
const READS_MAX: u32 = 16;
const SCRATCH_BYTES: usize = 256 << 10;
const EVENTS: usize = 64;
/// What a slow reader takes in a second.
const SLOW_BYTES: usize = 1 << 10;

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Follower,
    Slow,
    Publisher,
    Visitor,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// Not begun, or to begin again.
    Waiting,
    /// Its address is asked for.
    Asking,
    Opening,
    /// So many channels are not followed yet.
    Following(u32),
    Up,
    /// It lost its connection, and pauses before it comes again.
    Away,
    Gone,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) conn: u32,
    pub(super) kind: Kind,
    pub(super) state: State,
    pub(super) socket: Option<Socket>,
    pub(super) talk: Talk,
    /// By channel.
    pub(super) seats: Vec<Seat>,
    /// In `resume`, and of those who come again: of each seat. In RTM it is the first one's for all.
    pub(super) epochs: Vec<Box<str>>,
    /// When it was first to come in; or dropped, or lost its connection.
    pub(super) since_ns: u64,
    /// When its last attempt began, and at which of several hosts.
    pub(super) begun_ns: u64,
    pub(super) turn: u32,
    /// Of the pause before its next attempt.
    pub(super) spread: Duration,
    /// It has followed its channels before.
    pub(super) is_known: bool,
    /// It lost its connection, and is not back yet.
    pub(super) is_returning: bool,
}

/// One thread's.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) me: u32,
    pub(super) tongue: Tongue,
    epoll: rustix::fd::OwnedFd,
    pub(super) clients: Vec<Client>,
    doorman: Option<Doorman>,
    /// The first client that was not begun, and how many are on their way.
    pub(super) next: usize,
    opening: u32,
    /// Publications of the whole run that this thread has looked at.
    pub(super) n: u64,
    /// The channel of the next one, once it is drawn.
    pub(super) upcoming: Option<u32>,
    /// Publications that are not answered, where a server answers them: channel and number, by the number of the command.
    pub(super) asked: FxHashMap<u32, (u32, u32)>,
    /// Who comes again, and when.
    pub(super) away: BinaryHeap<Reverse<(u64, usize)>>,
    pub(super) look_due: u64,
    /// When the server last kept us from publishing: what was due before is not our delay.
    pub(super) held_ns: u64,
    pub(super) random: fastrand::Rng,
    scratch: Vec<u8>,
    heard: Vec<Heard>,
    pub(super) out: Outcome,
    pub(super) publisher: Option<usize>,
    pub(super) is_dropped: bool,
    slow_due: u64,
}

impl Client {
    fn name(&self) -> String {
        match self.kind {
            Kind::Publisher => "the publisher".into(),
            _ => format!("connection {}", self.conn),
        }
    }
}

/// What is told of a socket, once for each time that it becomes true.
fn edges() -> epoll::EventFlags {
    epoll::EventFlags::IN
        | epoll::EventFlags::OUT
        | epoll::EventFlags::RDHUP
        | epoll::EventFlags::ET
}

impl Worker {
    pub(super) fn new(shared: &Arc<Shared>, me: u32) -> Result<Self, String> {
        let (config, plan) = (&shared.config, &shared.plan);
        let client = |conn: u32, kind: Kind, seats: &[u32]| Client {
            conn,
            kind,
            state: State::Waiting,
            socket: None,
            talk: Talk::default(),
            seats: seats.iter().map(|channel| Seat::new(*channel)).collect(),
            epochs: vec![Box::default(); seats.len()],
            since_ns: 0,
            begun_ns: 0,
            turn: conn,
            spread: Duration::ZERO,
            is_known: false,
            is_returning: false,
        };
        let mut clients = Vec::new();
        let is_mine = |conn: &u32| conn % config.threads == me;
        let followers = plan.seats.len() as u32;
        for conn in (0..followers).filter(is_mine) {
            let kind = if conn >= plan.slow_from { Kind::Slow } else { Kind::Follower };
            clients.push(client(conn, kind, &plan.seats[conn as usize]));
        }
        for visitor in (0..plan.visitors).filter(is_mine) {
            clients.push(client(followers + visitor, Kind::Visitor, &[]));
        }
        let tongue = Tongue::new(config, plan.drop_at.is_some() || config.reconnect);
        let publisher = (me < shared.publishers()).then(|| {
            let all: Vec<u32> = (0..plan.channels.len() as u32).collect();
            let seats = if tongue.publishers_follow { &all[..] } else { &[] };
            clients.push(client(u32::MAX - me, Kind::Publisher, seats));
            clients.len() - 1
        });
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(|error| format!("epoll: {error}"))?;
        let histogram = || Histogram::new(3).expect("three digits");
        Ok(Self {
            me,
            tongue,
            epoll,
            clients,
            doorman: (config.dialect == Dialect::Rtm).then(|| Doorman::new(&shared.workspace)),
            next: 0,
            opening: 0,
            n: 0,
            upcoming: None,
            asked: FxHashMap::default(),
            away: BinaryHeap::new(),
            look_due: 0,
            held_ns: 0,
            random: fastrand::Rng::with_seed(config.seed),
            scratch: vec![0; SCRATCH_BYTES],
            heard: Vec::new(),
            out: Outcome {
                tally: Tally::default(),
                latency: histogram(),
                connects: histogram(),
                backs: histogram(),
                series: Vec::new(),
                late: 0,
                ended: 0,
                evicted: 0,
                unrecovered: 0,
                lost: 0,
                publisher_lost: 0,
                refused: Vec::new(),
                unanswered: Vec::new(),
                cpu: Duration::ZERO,
                time: Duration::ZERO,
            },
            publisher,
            is_dropped: false,
            slow_due: 0,
            shared: Arc::clone(shared),
        })
    }

    pub(super) fn run(mut self) -> Outcome {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(EVENTS);
        let mut began = None;
        loop {
            let phase = self.shared.phase();
            if phase == Phase::End {
                break;
            }
            let now_ns = self.shared.now_ns();
            let mut wait = Duration::from_millis(5);
            self.open_some(now_ns);
            if phase == Phase::Run {
                began.get_or_insert_with(|| (meter::own_cpu(), Instant::now()));
                wait = self.publish(now_ns).min(wait);
                self.come_and_go(now_ns);
            } else if phase == Phase::Drain
                && let Some((cpu, time)) = began.take()
            {
                (self.out.cpu, self.out.time) =
                    (meter::own_cpu().saturating_sub(cpu), time.elapsed());
            }
            let timeout = Timespec { tv_sec: 0, tv_nsec: wait.as_nanos() as i64 };
            events.clear();
            let spare = rustix::buffer::spare_capacity(&mut events);
            if let Err(error) = epoll::wait(&self.epoll, spare, Some(&timeout))
                && error != rustix::io::Errno::INTR
            {
                self.shared.fault(format!("epoll: {error}"));
                break;
            }
            for event in &events {
                let flags = event.flags;
                let is_ended = flags.contains(epoll::EventFlags::RDHUP);
                self.ready(event.data.u64() as usize, is_ended);
            }
            self.read_slowly();
        }
        self.end()
    }

    /// Begins connections, as many as may be on their way.
    fn open_some(&mut self, now_ns: u64) {
        self.call_back(now_ns);
        while let Some((conn, ticket)) = self.doorman.as_ref().and_then(Doorman::answer) {
            let at = self.clients.iter().position(|client| client.conn == conn);
            match (at, ticket) {
                (Some(at), Ok(ticket)) => self.take_ticket(at, ticket),
                (Some(at), Err(why)) => self.gone(at, &why),
                (None, _) => {}
            }
        }
        let rate =
            self.shared.config.rate.filter(|_| self.shared.config.scenario == Scenario::Connect);
        while self.opening < OPENING_MAX && self.next < self.clients.len() {
            let at = self.next;
            if self.clients[at].state != State::Waiting {
                self.next += 1;
                continue;
            }
            let mut due_ns = now_ns;
            if let Some(rate) = rate {
                due_ns = (f64::from(self.clients[at].conn) / rate * 1e9) as u64;
                if due_ns > now_ns {
                    return;
                }
            }
            if let Some(doorman) = &self.doorman {
                if !doorman.ask(self.clients[at].conn, self.coming(at)) {
                    return;
                }
                self.clients[at].state = State::Asking;
            }
            self.next += 1;
            self.opening += 1;
            if self.clients[at].since_ns == 0 {
                self.clients[at].since_ns = due_ns.max(1);
            }
            if let Some(place) = self.shared.workspace.place(self.clients[at].turn).cloned() {
                self.open(at, &place);
            }
        }
    }

    pub(super) fn open(&mut self, at: usize, place: &Place) {
        let client = &mut self.clients[at];
        client.begun_ns = self.shared.now_ns();
        match Socket::open(place, client.conn, client.kind == Kind::Slow) {
            Ok(mut socket) => {
                let data = epoll::EventData::new_u64(at as u64);
                let added = epoll::add(&self.epoll, socket.stream.as_fd(), data, edges());
                client.state = State::Opening;
                let written = socket.write();
                client.socket = Some(socket);
                if let Err(why) = added.map_err(|error| format!("epoll: {error}")).and(written) {
                    self.gone(at, &why);
                }
            }
            Err(why) => self.gone(at, &why),
        }
    }

    /// A connection is no more, and was to be.
    pub(super) fn gone(&mut self, at: usize, why: &str) {
        let client = &mut self.clients[at];
        let was_up = client.state == State::Up;
        match client.state {
            State::Gone | State::Waiting | State::Away => return,
            State::Up => {}
            _ => self.opening -= 1,
        }
        client.socket = None;
        if client.kind == Kind::Visitor {
            client.state = State::Waiting;
            self.next = self.next.min(at);
            return;
        }
        if self.comes_again(at, was_up) {
            return;
        }
        let client = &mut self.clients[at];
        client.state = State::Gone;
        if client.kind == Kind::Slow {
            self.out.evicted += 1;
        } else if self.shared.phase() < Phase::End {
            self.out.ended += 1;
            self.shared.fault(format!("{}: {why}", client.name()));
        }
    }

    /// `is_ended`: the server says no more after what is to be read.
    fn ready(&mut self, at: usize, is_ended: bool) {
        let client = &mut self.clients[at];
        let Some(socket) = &mut client.socket else { return };
        if let Err(why) = socket.write() {
            return self.gone(at, &why);
        }
        if client.kind == Kind::Slow && client.state == State::Up {
            return;
        }
        for _ in 0..READS_MAX {
            match self.read(at, SCRATCH_BYTES) {
                Some(Got::Some) => {}
                // The end may lie behind the last bytes, and is told with them.
                Some(Got::All) if is_ended => {}
                Some(Got::All) | None => return,
                Some(Got::End(code)) => {
                    let code =
                        code.map_or_else(|| "without a word".into(), |code| format!("with {code}"));
                    return self.gone(at, &format!("the server ended it {code}"));
                }
            }
        }
        // The others are waiting: an edge is not told twice, so it is asked for again.
        let client = &self.clients[at];
        if let Some(socket) = &client.socket {
            let data = epoll::EventData::new_u64(at as u64);
            let _ = epoll::modify(&self.epoll, socket.stream.as_fd(), data, edges());
        }
    }

    /// Reads once, at most `bytes_max`.
    fn read(&mut self, at: usize, bytes_max: usize) -> Option<Got> {
        let client = &mut self.clients[at];
        let socket = client.socket.as_mut()?;
        let (tongue, talk, heard) = (&self.tongue, &mut client.talk, &mut self.heard);
        let mut is_open = false;
        let got = socket.read(&mut self.scratch[..bytes_max], |what| match what {
            socket::Heard::Open => is_open = true,
            socket::Heard::Message(message) => tongue.hear(talk, message, heard),
        });
        if is_open {
            self.opened(at);
        }
        let mut heard = std::mem::take(&mut self.heard);
        let now_ns = self.shared.now_ns();
        for one in heard.drain(..) {
            self.hear(at, now_ns, one);
        }
        self.heard = heard;
        self.say(at);
        match got {
            Ok(got) => Some(got),
            Err(why) => {
                self.gone(at, &why);
                None
            }
        }
    }

    /// Writes what a client has to say.
    pub(super) fn say(&mut self, at: usize) {
        let Some(socket) = &mut self.clients[at].socket else { return };
        if socket.has_unwritten()
            && let Err(why) = socket.write()
        {
            self.gone(at, &why);
        }
    }

    fn opened(&mut self, at: usize) {
        let token = self.shared.workspace.token(self.clients[at].conn);
        let hello = self.tongue.hello(&token);
        if let (Some(hello), Some(socket)) = (hello, &mut self.clients[at].socket) {
            socket.say(&hello);
        }
        if self.tongue.is_welcome_at_once() {
            self.welcome(at, String::new());
        }
    }

    /// The server knows who this is: what it is to follow is asked for.
    fn welcome(&mut self, at: usize, epoch: String) {
        let client = &mut self.clients[at];
        if client.state != State::Opening {
            return;
        }
        client.state = State::Following(client.seats.len() as u32);
        let channels = &self.shared.plan.channels;
        if client.seats.is_empty() || self.tongue.follows_by_itself() {
            self.say_places(at, epoch);
            return self.is_up(at);
        }
        for (nth, seat) in client.seats.iter().enumerate() {
            let epoch = &*client.epochs[nth];
            let is_judged = client.kind != Kind::Publisher;
            let since = (client.is_known && is_judged).then_some((epoch, seat.offset));
            let name = &channels[seat.channel as usize];
            let follow = self.tongue.follow(&client.talk, nth as u32, name, since);
            if let (Some(follow), Some(socket)) = (follow, &mut client.socket) {
                socket.say(&follow);
            }
        }
    }

    fn is_up(&mut self, at: usize) {
        let client = &mut self.clients[at];
        client.state = State::Up;
        self.opening -= 1;
        if client.kind != Kind::Visitor {
            let took_ns = self.shared.now_ns().saturating_sub(client.since_ns);
            if client.kind != Kind::Publisher {
                let is_returning = std::mem::take(&mut client.is_returning);
                let out = &mut self.out;
                let times = if is_returning { &mut out.backs } else { &mut out.connects };
                let _ = times.record(took_ns / 1_000);
            }
            client.is_known = true;
            self.shared.up.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn hear(&mut self, at: usize, now_ns: u64, heard: Heard) {
        match heard {
            Heard::Welcome(epoch) => self.welcome(at, epoch),
            Heard::Following(following) => self.follows(at, following),
            Heard::Delivery(mark, offset) => self.delivery(at, now_ns, mark, offset),
            Heard::Published(id) => drop(self.asked.remove(&id)),
            Heard::Unpublished(id, what) => {
                self.out.refused.extend(self.asked.remove(&id));
                self.shared.fault(format!("{}: {what}", self.clients[at].name()));
            }
            Heard::Answer(answer) => {
                if let Some(socket) = &mut self.clients[at].socket {
                    socket.say(&answer);
                }
            }
            Heard::Refused(what) => {
                self.shared.fault(format!("{}: {what}", self.clients[at].name()));
                if self.clients[at].state != State::Up || self.shared.config.reconnect {
                    self.gone(at, "refused");
                }
            }
            Heard::Unfollowed(channel, _) if self.shared.config.reconnect => {
                self.follow_again(at, &channel);
            }
            Heard::Unfollowed(_, what) => {
                self.shared.fault(format!("{}: {what}", self.clients[at].name()));
            }
            Heard::Lost(what) => {
                self.out.unrecovered += u64::from(self.clients[at].kind == Kind::Follower);
                self.shared.fault(format!("{}: {what}", self.clients[at].name()));
            }
        }
    }

    fn follows(&mut self, at: usize, following: Following) {
        let client = &mut self.clients[at];
        if let Following::One { nth, epoch, offset, is_recovered } = following
            && let Some(seat) = client.seats.get_mut(nth as usize)
        {
            let is_lost = client.is_known && client.kind != Kind::Publisher && !is_recovered;
            // What was recovered has told its places itself.
            seat.offset = if is_lost { offset } else { seat.offset.max(offset) };
            self.out.unrecovered += u64::from(is_lost);
            client.epochs[nth as usize] = epoch.into();
        }
        if let State::Following(left) = client.state {
            client.state = State::Following(left - 1);
            if left <= 1 {
                self.is_up(at);
            }
        }
    }

    fn delivery(&mut self, at: usize, now_ns: u64, mark: Mark, offset: u64) {
        let client = &mut self.clients[at];
        let is_counted = matches!(client.kind, Kind::Follower | Kind::Slow);
        if mark.run != self.shared.run || !is_counted {
            return;
        }
        let Ok(nth) = client.seats.binary_search_by_key(&mark.channel, |seat| seat.channel) else {
            return self.shared.fault(format!(
                "{}: a publication of channel {} that it does not follow",
                client.name(),
                mark.channel
            ));
        };
        let seat = &mut client.seats[nth];
        if client.kind == Kind::Slow || !self.out.tally.hear(client.conn, seat, mark.number, offset)
        {
            return;
        }
        self.shared.delivered.fetch_add(1, Ordering::AcqRel);
        let from_ns = self.shared.from_ns.load(Ordering::Acquire);
        let micros = now_ns.saturating_sub(mark.due_ns) / 1_000;
        if mark.due_ns >= from_ns.saturating_add(self.shared.config.warm.as_nanos() as u64) {
            let _ = self.out.latency.record(micros);
        }
        let nth = (now_ns.saturating_sub(from_ns) / INTERVAL.as_nanos() as u64) as usize;
        if self.out.series.len() <= nth && nth < 1 << 20 {
            let latency = Histogram::new(2).expect("two digits");
            self.out.series.resize(nth + 1, Interval { deliveries: 0, latency });
        }
        if let Some(interval) = self.out.series.get_mut(nth) {
            interval.deliveries += 1;
            let _ = interval.latency.record(micros);
        }
    }

    fn read_slowly(&mut self) {
        let now_ns = self.shared.now_ns();
        if now_ns < self.slow_due {
            return;
        }
        self.slow_due = now_ns + 1_000_000_000;
        for at in 0..self.clients.len() {
            let client = &self.clients[at];
            if client.kind == Kind::Slow
                && client.state == State::Up
                && let Some(Got::End(_)) = self.read(at, SLOW_BYTES)
            {
                self.gone(at, "too slow");
            }
        }
    }

    fn end(mut self) -> Outcome {
        for client in &mut self.clients {
            if client.kind == Kind::Follower {
                for seat in &mut client.seats {
                    let published =
                        self.shared.published[seat.channel as usize].load(Ordering::Acquire);
                    self.out.tally.end(client.conn, seat, published);
                }
            }
            if client.is_known && client.state != State::Up && self.shared.config.reconnect {
                self.out.ended += 1;
                self.shared.fault(format!("{}: it did not come back", client.name()));
            }
        }
        self.out.unanswered.extend(self.asked.drain().map(|(_, one)| one));
        self.out
    }
}
