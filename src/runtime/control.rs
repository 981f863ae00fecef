//! The control plane's driver: the dispatcher and the desk on tokio, with the database and the ring store for hands.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::clock::Clock;
use super::far::News;
use super::far_ways::FarWays;
use super::letters::{Letter, LetterBox};
use super::stats::{Gauges, Stats};
use crate::admin::shard::Admin;
use crate::charm::health::Health;
use crate::charm::manager::{Manager, ManagerConfig};
use crate::control::Mail;
use crate::ids::{Ask, NodeId, Peer, Role};
use crate::limits::Limits;
use crate::place::{CONTROL_ROLES, Hands, Place, Shards, Whole};
use crate::ring::change::Cell;
use crate::ring::news;
use crate::ring::store::{Failed, Store};
use crate::ring::{Ring, Secret};
use crate::shard::{Counter, Effect, Effects, Input, Report, Shard};
use crate::time::Now;
use crate::webapp::caller::Caller;
use crate::webapp::database::Database;
use crate::webapp::desk::Desk;
use crate::wire::link::{Batch, Class};
use crate::wire::message::outcome;
use crate::wire::{Message, Packed};

struct ControlShards {
    admin: Admin,
    desk: Desk,
    health: Health,
    manager: Manager,
}

impl Shards for ControlShards {
    fn of(&mut self, role: Role) -> Option<&mut dyn Shard> {
        Some(match role {
            Role::Admin => &mut self.admin,
            Role::Webapp => &mut self.desk,
            Role::Health => &mut self.health,
            Role::Ring => &mut self.manager,
            _ => return None,
        })
    }
}

/// Why a manager replaces nobody.
const HELD_BACK: &str =
    "the ring is frozen, too many are silent at once, or one was replaced within --replace-window";

/// The encoded answers to one question.
type Answers = (Role, Ask, Vec<Vec<u8>>);

struct ControlHands {
    /// Where this node is a webapp.
    database: Option<Database>,
    /// Where the ring is kept; of one node it is in memory and never changes.
    store: Option<Store>,
    /// Of a cell: the ring as documents, and the one before.
    cells: Option<(Arc<Cell>, Option<Arc<Cell>>)>,
    /// Whoever follows the ring, for rings that did not come from the store's watch.
    offer: Option<mpsc::Sender<Cell>>,
    /// The operator's back end, if there is one.
    caller: Option<Caller>,
    ring: Ring,
    stats: Stats,
    answers: mpsc::UnboundedSender<Answers>,
    /// HTTP handlers that wait, by the number of their question, and for whom.
    waiting: HashMap<u32, (Peer, oneshot::Sender<Vec<u8>>)>,
}

impl Hands for ControlHands {
    fn carry_out(&mut self, role: Role, effect: Effect, effects: &Effects) {
        match effect {
            Effect::Ask { ask, question } => self.answer(role, ask, effects.bytes(question)),
            Effect::Count { what, by } => {
                if what == Counter::ReplacementsBraked {
                    tracing::error!(
                        "a node that seems dead keeps its seats: {HELD_BACK}; `campanile ctl ring replace` does it by hand"
                    );
                }
                self.stats.count(what, by);
            }
            other => unreachable!("{role:?} has no sockets, and mail is the place's: {other:?}"),
        }
    }

    fn tell_http(&mut self, message: &[u8]) {
        let Ok(
            Message::PresenceIs { ask, .. }
            | Message::PresenceUnknown { ask }
            | Message::Published { ask, .. }
            | Message::ReadIs { ask, .. }
            | Message::PresentIs { ask, .. }
            | Message::Noted { ask, .. }
            | Message::Obeyed { ask, .. }
            | Message::CensusIs { ask, .. },
        ) = Message::decode(message)
        else {
            // Nobody asked for it: another node is not as we are.
            return self.stats.count(Counter::WireBroken, 1);
        };
        if let Some((_, handler)) = self.waiting.remove(&ask.0) {
            // A handler that gave up has dropped its end.
            let _ = handler.send(message.to_vec());
        }
    }

    /// A handler that waits is told at once, by the end of its wait.
    fn lose_http(&mut self, node: NodeId, core: u8) {
        self.waiting.retain(|_, (peer, _)| (peer.node, peer.core) != (node, core));
    }
}

impl ControlHands {
    /// How many questions are open at once is the shards' affair: all of them have their bounds.
    fn answer(&self, role: Role, ask: Ask, question: &[u8]) {
        match Message::decode(question) {
            Ok(Message::RingRead { .. }) => self.read_ring(role, ask),
            Ok(Message::Replace { ring_epoch, node, incarnation, live, .. }) => {
                let (dead, live) = ((NodeId(node), incarnation), live.iter::<u16>().collect());
                self.write_ring(role, ask, |store| replace(store, ring_epoch, dead, live));
            }
            Ok(Message::EvenOut { ring_epoch, .. }) => {
                self.write_ring(role, ask, |store| even_out(store, ring_epoch));
            }
            Ok(Message::RingSince { since }) => self.ring_since(role, ask, since),
            Ok(Message::RingNews { since, news, .. }) => self.offer_news(since, news),
            Ok(Message::Call { .. }) => self.call(role, ask, question.to_vec()),
            _ => self.ask_database(role, ask, question.to_vec()),
        }
    }

    fn call(&self, role: Role, ask: Ask, question: Vec<u8>) {
        let answers = self.answers.clone();
        let caller = self.caller.clone().expect("gateways call only where somebody answers");
        tokio::spawn(async move {
            let _ = answers.send((role, ask, vec![caller.answer(question).await]));
        });
    }

    fn ask_database(&self, role: Role, ask: Ask, question: Vec<u8>) {
        let database = self.database.clone().expect("only a webapp's shards ask");
        let answers = self.answers.clone();
        let mut answer = Box::pin(async move { database.answer(question).await });
        // Begun here, in the order of the questions: the posts of one connection are stored as they were said. A task of its own, that
        // might be begun before its elder, only waits for the end.
        let mut begun = Context::from_waker(Waker::noop());
        if let Poll::Ready(list) = answer.as_mut().poll(&mut begun) {
            let _ = answers.send((role, ask, list));
            return;
        }
        tokio::spawn(async move {
            let _ = answers.send((role, ask, answer.await));
        });
    }

    /// What makes our ring of the one before it, or all of it. No answer where that one is another: whoever asked asks for the whole.
    fn ring_since(&self, role: Role, ask: Ask, since: u64) {
        let Some((now, before)) = &self.cells else { return };
        let news = if since == 0 {
            news::whole(now)
        } else {
            let before = before.as_ref().filter(|cell| cell.document.ring_epoch == since);
            let Some(before) = before else { return };
            news::between(before, now)
        };
        let mut bytes = Vec::new();
        let ring_epoch = now.document.ring_epoch;
        Message::RingNews { since, ring_epoch, news: &news }.encode(&mut bytes);
        let _ = self.answers.send((role, ask, vec![bytes]));
    }

    /// A ring that a manager pushed: whoever follows the ring takes it, if it is newer.
    fn offer_news(&self, since: u64, news: &[u8]) {
        let (Some((now, _)), Some(offer)) = (&self.cells, &self.offer) else { return };
        if since != 0 && now.document.ring_epoch != since {
            return;
        }
        match if since == 0 { news::read(news) } else { news::apply(now, news) } {
            // Where there is no room, rings come faster than they are taken: the next beat says that one is missing.
            Ok(cell) if cell.document.cell == now.document.cell => drop(offer.try_send(cell)),
            Ok(cell) => tracing::error!(cell = %cell.document.cell, "the ring of another cell"),
            Err(why) => tracing::warn!(%why, "a ring that was pushed is not taken"),
        }
    }

    fn write_ring<W>(&self, role: Role, ask: Ask, write: impl FnOnce(Store) -> W)
    where
        W: Future<Output = Written> + Send + 'static,
    {
        let (answers, offer) = (self.answers.clone(), self.offer.clone());
        let write = write(self.store.clone().expect("managers are of a cell"));
        tokio::spawn(async move {
            let (what, written) = write.await;
            // Everybody is told before the store's watch tells us.
            if let (Some(written), Some(offer)) = (written, offer) {
                let _ = offer.send(written).await;
            }
            let mut bytes = Vec::new();
            Message::Replaced { ask, what }.encode(&mut bytes);
            let _ = answers.send((role, ask, vec![bytes]));
        });
    }

    /// A linearizable read. One that fails has no answer: whoever asked asks again.
    fn read_ring(&self, role: Role, ask: Ask) {
        let answers = self.answers.clone();
        let Some(store) = self.store.clone() else {
            // The driver has ended when nobody takes the answer.
            let epochs = self.ring.seats.iter().map(|seat| seat.seat_epoch);
            let _ = answers.send((role, ask, vec![ring_is(ask, self.ring.ring_epoch, epochs)]));
            return;
        };
        tokio::spawn(async move {
            match store.seats().await {
                Ok(Some(document)) => {
                    let epochs = document.seats.iter().map(|seat| seat.seat_epoch);
                    let answer = ring_is(ask, document.ring_epoch, epochs);
                    let _ = answers.send((role, ask, vec![answer]));
                }
                Ok(None) => {}
                Err(failed) => tracing::warn!(%failed, "nothing can leave the outbox"),
            }
        });
    }
}

/// What came of a write of the ring, and the ring that was written by it.
type Written = (u8, Option<Cell>);

/// A node's seats go to others, if it is still there as the process that was judged.
async fn replace(store: Store, ring_epoch: u64, dead: (NodeId, u64), live: Vec<u16>) -> Written {
    let written = write(&store, ring_epoch, |cell| match cell.replace_process(dead, &live) {
        Some(Ok(next)) => Ok(next.stamped(dead.0, Clock::wall().seconds())),
        None => Err(outcome::LATE),
        Some(Err(why)) => {
            tracing::error!(%why, "a dead node keeps its seats");
            Err(outcome::NOBODY)
        }
    });
    let written = written.await;
    if let Some(cell) = &written.1 {
        tracing::warn!(node = dead.0.0, ring_epoch = cell.document.ring_epoch, "replaced");
    }
    written
}

/// The next step of the plan.
async fn even_out(store: Store, ring_epoch: u64) -> Written {
    let step = |cell: &Cell| cell.step().map(|(next, _)| next).ok_or(outcome::EVEN);
    write(&store, ring_epoch, step).await
}

/// One compare-and-set, if the ring is the one of which it was decided. Of another ring its manager may decide otherwise: somebody else may have
/// replaced somebody. `change`: the next ring, or why there is none.
async fn write(
    store: &Store,
    ring_epoch: u64,
    change: impl FnOnce(&Cell) -> Result<Cell, u8>,
) -> Written {
    let stored = match store.read().await {
        Ok(Some(stored)) if stored.cell.document.ring_epoch == ring_epoch => stored,
        Ok(_) => return (outcome::LATE, None),
        Err(_) => return (outcome::FAILED, None),
    };
    let next = match change(&stored.cell) {
        Ok(next) => next,
        Err(why) => return (why, None),
    };
    match store.swap(&stored, &next).await {
        Ok(true) => (outcome::DONE, Some(next)),
        Ok(false) => (outcome::LATE, None),
        // What nobody knows to be written is told to nobody.
        Err(Failed::Unknown(_) | Failed::Unreachable(_) | Failed::Unusable(_)) => {
            (outcome::FAILED, None)
        }
    }
}

/// `epochs`: by seat.
fn ring_is(ask: Ask, ring_epoch: u64, epochs: impl Iterator<Item = u32>) -> Vec<u8> {
    let (mut list, mut bytes) = (Vec::new(), Vec::new());
    let rows = epochs.enumerate().map(|(seat, epoch)| (seat as u16, epoch));
    let seats = Packed::pack(rows, &mut list);
    Message::RingIs { ask, ring_epoch, seats }.encode(&mut bytes);
    bytes
}

/// What the driver is started with.
pub(super) struct Start {
    pub(super) limits: Limits,
    pub(super) whole: Whole,
    pub(super) ring: Ring,
    pub(super) clock: Clock,
    pub(super) secret: Secret,
    pub(super) seed: u64,
    pub(super) database: Option<Database>,
    pub(super) store: Option<Store>,
    /// Of a cell: the ring as documents, and who takes newer ones.
    pub(super) cell: Option<Arc<Cell>>,
    pub(super) offer: Option<mpsc::Sender<Cell>>,
    pub(super) caller: Option<Caller>,
    pub(super) manager: ManagerConfig,
    pub(super) mail: mpsc::Receiver<Mail>,
    pub(super) from_cores: mpsc::Receiver<(usize, Batch)>,
    pub(super) cores: Vec<LetterBox>,
    /// A core took a letter.
    pub(super) room: Arc<Notify>,
    pub(super) stats: Stats,
    /// Of connections to other nodes, and of other rings.
    pub(super) news: mpsc::Receiver<News>,
    pub(super) rings: mpsc::Receiver<(Arc<Ring>, Arc<Cell>)>,
    /// What the publish API knows of the cell.
    pub(super) ring_now: watch::Sender<Arc<Ring>>,
    pub(super) gateways_now: watch::Sender<Vec<Peer>>,
    /// Whoever wants to know how the shards are.
    pub(super) reports: mpsc::Receiver<oneshot::Sender<Gauges>>,
}

/// A full queue, of a connection or a core, is looked at again after this.
const RETRY: Duration = Duration::from_millis(1);
/// Things of one kind that are heard in one turn: as whatever else is there goes along, one batch carries it; not for ever, for beats are due.
const HEARD_PER_TURN: usize = 256;
/// Handlers that wait are looked through for those that gave up when there are so many.
const WAITING_MAX: usize = 4_096;

/// Runs as long as the process.
pub(super) async fn run(start: Start) {
    let Start { limits, whole, ring, clock, seed, database, store, caller, cores, room, .. } =
        start;
    let (mut mail, mut from_cores, mut reports) = (start.mail, start.from_cores, start.reports);
    let (mut news, mut rings) = (start.news, start.rings);
    let shards = ControlShards {
        admin: Admin::new(whole.node, start.secret, seed, &limits),
        desk: Desk::new(whole.node, &limits),
        health: Health::new(&limits),
        manager: Manager::new(start.manager),
    };
    let (answers, mut answered) = mpsc::unbounded_channel();
    let mut hands = ControlHands {
        database,
        store,
        cells: start.cell.map(|cell| (cell, None)),
        offer: start.offer,
        caller,
        ring: ring.clone(),
        stats: start.stats,
        answers,
        waiting: HashMap::new(),
    };
    let mut place = Place::new(shards, whole.cores, whole, &limits);
    let waiting = cores.iter().map(|_| None).collect();
    let mut outgoing = Outgoing { waiting, cores, far: FarWays::default() };
    place.begin(clock.now(), &ring, &mut hands);
    start.gateways_now.send_replace(place.gateways());
    loop {
        let now = clock.now();
        let mut more = place.advance(now, &mut hands);
        let to = std::cell::RefCell::new(&mut outgoing);
        more |= place.carry(
            now,
            &mut hands,
            |other| to.borrow_mut().has_room(other),
            |other, batch| to.borrow_mut().carry(other, batch),
        );
        let pause = match place.deadline() {
            _ if more => Duration::ZERO,
            Some(due) => due.since(clock.mono()),
            None => Duration::from_secs(3_600),
        };
        let pause = if outgoing.is_waiting() { pause.min(RETRY) } else { pause };
        tokio::select! {
            Some(letter) = mail.recv() => {
                let now = clock.now();
                http(&mut place, &mut hands, now, letter);
                for _ in 0..HEARD_PER_TURN {
                    let Ok(letter) = mail.try_recv() else { break };
                    http(&mut place, &mut hands, now, letter);
                }
            }
            Some((core, batch)) = from_cores.recv() => {
                let now = clock.now();
                place.receive(now, core, &batch, &mut hands);
                for _ in 0..HEARD_PER_TURN {
                    let Ok((core, batch)) = from_cores.try_recv() else { break };
                    place.receive(now, core, &batch, &mut hands);
                }
            }
            Some(one) = news.recv() => {
                let now = clock.now();
                let mut is_change = !matches!(one, News::Batch(..));
                outgoing.far.hear(now, one, &mut place, &mut hands);
                for _ in 0..HEARD_PER_TURN {
                    let Ok(one) = news.try_recv() else { break };
                    is_change |= !matches!(one, News::Batch(..));
                    outgoing.far.hear(now, one, &mut place, &mut hands);
                }
                if is_change {
                    start.gateways_now.send_replace(place.gateways());
                }
            }
            Some((ring, cell)) = rings.recv() => {
                hands.ring = Ring::clone(&ring);
                hands.cells = Some((cell, hands.cells.take().map(|(before, _)| before)));
                place.change(clock.now(), &ring, &mut hands);
                start.ring_now.send_replace(ring);
            }
            Some((role, ask, list)) = answered.recv() => {
                let now = clock.now();
                answer(&mut place, &mut hands, now, (role, ask, list));
                for _ in 0..HEARD_PER_TURN {
                    let Ok(more) = answered.try_recv() else { break };
                    answer(&mut place, &mut hands, now, more);
                }
            }
            Some(asker) = reports.recv() => {
                // Who asked may have gone.
                let _ = asker.send(gauges(&mut place, hands.database.as_ref()));
            }
            () = room.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Something that an HTTP handler or the database's writer says.
fn http(
    place: &mut Place<ControlShards>,
    hands: &mut ControlHands,
    now: Now,
    Mail { to, message, answer }: Mail,
) {
    if let Some((ask, handler)) = answer {
        if !CONTROL_ROLES.contains(to.role) && !place.reaches(to) {
            // The owner is away: its end of the wait goes, and the handler says so.
            return;
        }
        if hands.waiting.len() >= WAITING_MAX {
            hands.waiting.retain(|_, (_, handler)| !handler.is_closed());
        }
        hands.waiting.insert(ask.0, (to, handler));
    }
    // Handlers speak to the shards beside them, and to owners wherever those are.
    if CONTROL_ROLES.contains(to.role) {
        let message = Message::decode(&message).expect("handlers encode");
        let peer = Peer::control(place.node(), Role::Http);
        place.input(now, to.role, Input::Wire { peer, message }, hands);
    } else {
        place.send(Role::Http, to, &message, Class::Live, hands);
    }
    place.settle(now, hands);
}

fn answer(
    place: &mut Place<ControlShards>,
    hands: &mut ControlHands,
    now: Now,
    (role, ask, list): Answers,
) {
    for bytes in &list {
        let message = Message::decode(bytes).expect("the database encodes");
        place.input(now, role, Input::Answer { ask, message }, hands);
    }
    place.settle(now, hands);
}

fn gauges(place: &mut Place<ControlShards>, database: Option<&Database>) -> Gauges {
    let mut gauges = Vec::new();
    if let Some(database) = database {
        let mut report = Report::default();
        database.report(&mut report);
        gauges.extend(report.gauges.into_iter().map(|(name, value)| (Role::Webapp, name, value)));
    }
    for role in place.roles().iter() {
        let mut report = Report::default();
        if let Some(shard) = place.shards.of(role) {
            shard.report(&mut report);
        }
        gauges.extend(report.gauges.into_iter().map(|(name, value)| (role, name, value)));
    }
    Gauges(gauges)
}

/// The way to the cores and to other nodes: what a queue does not take waits here, one batch a core, and behind it in the link.
struct Outgoing {
    cores: Vec<LetterBox>,
    waiting: Vec<Option<Batch>>,
    far: FarWays,
}

impl Outgoing {
    fn has_room(&mut self, core: usize) -> bool {
        if let Some(far) = core.checked_sub(self.cores.len() + 1) {
            return self.far.has_room(far);
        }
        match self.waiting[core].take() {
            None => true,
            Some(batch) => {
                self.carry(core, batch);
                self.waiting[core].is_none()
            }
        }
    }

    fn carry(&mut self, core: usize, batch: Batch) {
        if let Some(far) = core.checked_sub(self.cores.len() + 1) {
            return self.far.carry(far, batch);
        }
        self.waiting[core] = match self.cores[core].post(Letter::Mail(batch)) {
            Err(Letter::Mail(batch)) => Some(batch),
            _ => None,
        };
    }

    fn is_waiting(&self) -> bool {
        self.waiting.iter().any(Option::is_some) || self.far.is_waiting()
    }
}
