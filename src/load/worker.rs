//! One thread's share of a run: its clients, what it publishes, and what it hears.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::event::{Timespec, epoll};

use super::arguments::{Config, Dialect, Scenario};
use super::dialect::{Following, Heard, Talk, Tongue};
use super::doors::{Doorman, Place, Workspace};
use super::mark::Mark;
use super::meter;
use super::plan::{Pace, Plan};
use super::socket::{self, Got, Socket};
use super::tally::{Seat, Tally};

/// What all threads of a run share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) plan: Plan,
    pub(super) workspace: Arc<Workspace>,
    /// See [`Mark::run`].
    pub(super) run: u32,
    pub(super) start: Instant,
    phase: AtomicU32,
    /// When publishing began, in nanoseconds since the start.
    from_ns: AtomicU64,
    /// Connections that follow all that they are to follow, and those that publish.
    pub(super) up: AtomicU32,
    /// Deliveries to those who are waited for: that are due, and that came.
    pub(super) expected: AtomicU64,
    pub(super) delivered: AtomicU64,
    /// By channel.
    pub(super) published: Vec<AtomicU32>,
    pub(super) faults: Mutex<Faults>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    pub(super) count: u64,
    /// The first few.
    pub(super) first: Vec<String>,
}

/// What happens now. The main thread says so.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Debug)]
#[repr(u32)]
pub(super) enum Phase {
    Connect,
    Run,
    /// Nothing more is published.
    Drain,
    End,
}

/// What a thread has to tell at the end.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) tally: Tally,
    /// Microseconds from due to heard, after the warm-up.
    pub(super) latency: Histogram<u64>,
    /// Microseconds from the first attempt to everything followed; in `resume`: from the drop.
    pub(super) connects: Histogram<u64>,
    pub(super) series: Vec<Interval>,
    /// Publications that went out more than two milliseconds after they were due.
    pub(super) late: u64,
    /// Connections that the server ended: others, and slow ones.
    pub(super) ended: u64,
    pub(super) evicted: u64,
    pub(super) unrecovered: u64,
    /// CPU time of this thread, of the time from the first publication to the last.
    pub(super) cpu: Duration,
    pub(super) time: Duration,
}

/// A quarter of a second.
#[derive(Clone, Debug)]
pub(super) struct Interval {
    pub(super) deliveries: u64,
    pub(super) latency: Histogram<u32>,
}

pub(super) const INTERVAL: Duration = Duration::from_millis(250);

/// Handshakes of one thread at once; reads of one connection in a row.
const OPENING_MAX: u32 = 128;
const READS_MAX: u32 = 16;
const SCRATCH_BYTES: usize = 256 << 10;
const EVENTS: usize = 64;
const LATE: Duration = Duration::from_millis(2);
/// What a slow reader takes in a second.
const SLOW_BYTES: usize = 1 << 10;
/// How long a visitor stays, and stays away.
const VISIT: Duration = Duration::from_secs(3);
/// Typists for one message, in `mixed`.
const TYPISTS: u64 = 3;
const FAULTS_SHOWN: usize = 5;

impl Shared {
    pub(super) fn new(config: Config, plan: Plan, workspace: Workspace, run: u32) -> Self {
        let published = plan.channels.iter().map(|_| AtomicU32::new(0)).collect();
        Self {
            config,
            plan,
            workspace: Arc::new(workspace),
            run,
            start: Instant::now(),
            phase: AtomicU32::new(Phase::Connect as u32),
            from_ns: AtomicU64::new(u64::MAX),
            up: AtomicU32::new(0),
            expected: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            published,
            faults: Mutex::default(),
        }
    }

    pub(super) fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    pub(super) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Connect,
            1 => Phase::Run,
            2 => Phase::Drain,
            _ => Phase::End,
        }
    }

    pub(super) fn enter(&self, phase: Phase) {
        if phase == Phase::Run {
            self.from_ns.store(self.now_ns(), Ordering::Release);
        }
        self.phase.store(phase as u32, Ordering::Release);
    }

    /// How many threads publish.
    pub(super) fn publishers(&self) -> u32 {
        match self.plan.pace {
            Pace::Never => 0,
            // One thread has to know what is on its way.
            Pace::Outstanding(_) => 1,
            Pace::Every { .. } => self.config.threads.min(self.plan.channels.len() as u32),
        }
    }

    fn fault(&self, what: String) {
        let mut faults = self.faults.lock().expect("nobody panics with it");
        faults.count += 1;
        if faults.first.len() < FAULTS_SHOWN && !faults.first.contains(&what) {
            faults.first.push(what);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Follower,
    Slow,
    Publisher,
    Visitor,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Not begun, or to begin again.
    Waiting,
    /// Its address is asked for.
    Asking,
    Opening,
    /// So many channels are not followed yet.
    Following(u32),
    Up,
    Gone,
}

#[derive(Debug)]
struct Client {
    conn: u32,
    kind: Kind,
    state: State,
    socket: Option<Socket>,
    talk: Talk,
    /// By channel.
    seats: Vec<Seat>,
    /// In `resume`: of each seat.
    epochs: Vec<Box<str>>,
    since_ns: u64,
    /// It has followed its channels before.
    is_back: bool,
}

/// One thread's.
#[derive(Debug)]
pub(super) struct Worker {
    shared: Arc<Shared>,
    me: u32,
    tongue: Tongue,
    epoll: rustix::fd::OwnedFd,
    clients: Vec<Client>,
    doorman: Option<Doorman>,
    /// The first client that was not begun, and how many are on their way.
    next: usize,
    opening: u32,
    /// Publications of the whole run that this thread has looked at.
    n: u64,
    random: fastrand::Rng,
    scratch: Vec<u8>,
    heard: Vec<Heard>,
    out: Outcome,
    publisher: Option<usize>,
    is_dropped: bool,
    slow_due: u64,
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
            is_back: false,
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
        let tongue = Tongue::new(config.dialect, config.app.clone(), plan.drop_at.is_some());
        let publisher = (me < shared.publishers()).then(|| {
            let all: Vec<u32> = (0..plan.channels.len() as u32).collect();
            let seats = if tongue.publishers_follow() { &all[..] } else { &[] };
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
            random: fastrand::Rng::with_seed(config.seed),
            scratch: vec![0; SCRATCH_BYTES],
            heard: Vec::new(),
            out: Outcome {
                tally: Tally::default(),
                latency: histogram(),
                connects: histogram(),
                series: Vec::new(),
                late: 0,
                ended: 0,
                evicted: 0,
                unrecovered: 0,
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
                (self.out.cpu, self.out.time) = (meter::own_cpu() - cpu, time.elapsed());
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
                self.ready(event.data.u64() as usize);
            }
            self.read_slowly();
        }
        self.end()
    }

    /// Begins connections, as many as may be on their way.
    fn open_some(&mut self, now_ns: u64) {
        while let Some((conn, place)) = self.doorman.as_ref().and_then(Doorman::answer) {
            let at = self.clients.iter().position(|client| client.conn == conn);
            match (at, place) {
                (Some(at), Ok(place)) => self.open(at, &place),
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
                if !doorman.ask(self.clients[at].conn) {
                    return;
                }
                self.clients[at].state = State::Asking;
            }
            self.next += 1;
            self.opening += 1;
            if self.clients[at].since_ns == 0 {
                self.clients[at].since_ns = due_ns.max(1);
            }
            if let Some(place) = self.shared.workspace.place().cloned() {
                self.open(at, &place);
            }
        }
    }

    fn open(&mut self, at: usize, place: &Place) {
        let client = &mut self.clients[at];
        match Socket::open(place, client.conn, client.kind == Kind::Slow) {
            Ok(mut socket) => {
                let all = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
                let data = epoll::EventData::new_u64(at as u64);
                let added = epoll::add(&self.epoll, socket.stream.as_fd(), data, all);
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
    fn gone(&mut self, at: usize, why: &str) {
        let client = &mut self.clients[at];
        match client.state {
            State::Gone | State::Waiting => return,
            State::Up => {}
            _ => self.opening -= 1,
        }
        client.socket = None;
        if client.kind == Kind::Visitor {
            client.state = State::Waiting;
            self.next = self.next.min(at);
            return;
        }
        client.state = State::Gone;
        if client.kind == Kind::Slow {
            self.out.evicted += 1;
        } else if self.shared.phase() < Phase::End {
            self.out.ended += 1;
            self.shared.fault(format!("connection {}: {why}", client.conn));
        }
    }

    fn ready(&mut self, at: usize) {
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
            let all = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
            let data = epoll::EventData::new_u64(at as u64);
            let _ = epoll::modify(&self.epoll, socket.stream.as_fd(), data, all);
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
    fn say(&mut self, at: usize) {
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
            self.welcome(at);
        }
    }

    /// The server knows who this is: what it is to follow is asked for.
    fn welcome(&mut self, at: usize) {
        let client = &mut self.clients[at];
        if client.state != State::Opening {
            return;
        }
        client.state = State::Following(client.seats.len() as u32);
        let channels = &self.shared.plan.channels;
        if client.seats.is_empty() || self.tongue.follows_by_itself() {
            return self.is_up(at);
        }
        for (nth, seat) in client.seats.iter().enumerate() {
            let epoch = &*client.epochs[nth];
            let since = client.is_back.then_some((epoch, seat.offset));
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
                let _ = self.out.connects.record(took_ns / 1_000);
            }
            client.is_back = true;
            self.shared.up.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn hear(&mut self, at: usize, now_ns: u64, heard: Heard) {
        match heard {
            Heard::Welcome => self.welcome(at),
            Heard::Following(following) => self.follows(at, following),
            Heard::Delivery(mark, offset) => self.delivery(at, now_ns, mark, offset),
            Heard::Answer(answer) => {
                if let Some(socket) = &mut self.clients[at].socket {
                    socket.say(&answer);
                }
            }
            Heard::Refused(what) => {
                let conn = self.clients[at].conn;
                self.shared.fault(format!("connection {conn}: {what}"));
                if self.clients[at].state != State::Up {
                    self.gone(at, "refused");
                }
            }
        }
    }

    fn follows(&mut self, at: usize, following: Following) {
        let client = &mut self.clients[at];
        if let Following::One { nth, epoch, offset, is_recovered } = following
            && let Some(seat) = client.seats.get_mut(nth as usize)
        {
            // What was recovered has told its places itself.
            seat.offset = seat.offset.max(offset);
            self.out.unrecovered += u64::from(client.is_back && !is_recovered);
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
        if mark.run != self.shared.run || client.kind == Kind::Publisher {
            return;
        }
        let Ok(nth) = client.seats.binary_search_by_key(&mark.channel, |seat| seat.channel) else {
            return self.shared.fault(format!(
                "connection {}: a publication of channel {} that it does not follow",
                client.conn, mark.channel
            ));
        };
        let seat = &mut client.seats[nth];
        seat.offset = seat.offset.max(offset);
        if client.kind == Kind::Slow || !self.out.tally.hear(client.conn, seat, mark.number) {
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

    /// Publishes what is due; gives how long until more is.
    fn publish(&mut self, now_ns: u64) -> Duration {
        const LONG: Duration = Duration::from_secs(1);
        let Some(publisher) = self.publisher else { return LONG };
        let from_ns = self.shared.from_ns.load(Ordering::Acquire);
        let plan = &self.shared.plan;
        match plan.pace {
            Pace::Never => LONG,
            Pace::Outstanding(outstanding) => {
                loop {
                    let channel = plan_channel(&self.shared, self.n, &mut self.random);
                    let expected = self.shared.expected.load(Ordering::Acquire);
                    let delivered = self.shared.delivered.load(Ordering::Acquire);
                    let followers = u64::from(self.shared.plan.followers[channel as usize]);
                    let room = u64::from(outstanding - 1) * followers;
                    if expected - delivered > room || !self.is_fluent(publisher) {
                        break;
                    }
                    self.n += 1;
                    self.publish_one(publisher, channel, self.shared.now_ns());
                }
                self.say(publisher);
                LONG
            }
            Pace::Every { interval, count } => {
                let interval_ns = interval.as_nanos() as u64;
                loop {
                    let due_ns = from_ns + self.n / u64::from(count) * interval_ns;
                    if due_ns > now_ns || !self.is_fluent(publisher) {
                        self.say(publisher);
                        return Duration::from_nanos(due_ns.saturating_sub(self.shared.now_ns()));
                    }
                    let channel = plan_channel(&self.shared, self.n, &mut self.random);
                    self.n += 1;
                    // All threads draw the same, and each publishes into its own.
                    if channel % self.shared.publishers() == self.me {
                        self.out.late += u64::from(now_ns - due_ns > LATE.as_nanos() as u64);
                        self.publish_one(publisher, channel, due_ns);
                    }
                }
            }
        }
    }

    fn is_fluent(&self, at: usize) -> bool {
        self.clients[at].socket.as_ref().is_some_and(Socket::is_fluent)
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
        self.tongue.publish(self.n as u32, name, mark, shared.config.bytes, &mut message);
        socket.say(&message);
        if shared.config.scenario == Scenario::Mixed && self.n.is_multiple_of(TYPISTS) {
            for _ in 0..TYPISTS {
                let at = self.random.usize(..self.clients.len());
                let client = &mut self.clients[at];
                if client.state == State::Up
                    && let Some(seat) = client.seats.first()
                    && let Some(typing) =
                        self.tongue.typing(&shared.plan.channels[seat.channel as usize])
                    && let Some(socket) = &mut client.socket
                {
                    socket.say(&typing);
                    let _ = socket.write();
                }
            }
        }
    }

    /// Visitors come and go; in `resume` everybody drops once.
    fn come_and_go(&mut self, now_ns: u64) {
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
        }
        self.out
    }
}

fn plan_channel(shared: &Shared, n: u64, random: &mut fastrand::Rng) -> u32 {
    shared.plan.channel_of(n, shared.config.layout, random)
}
