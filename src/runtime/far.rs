//! Connections to other nodes: one for each pair of cores, a task of the control plane each. It moves batches between a socket and a place
//! of ours; what a batch is worth, the place's link decides.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use super::clock::Clock;
use super::letters::{Letter, LetterBox};
use super::papers::Papers;
use super::pipe::{Cut, Heard, Pipe};
use super::refusals::{Refusal, Refusals};
use super::twins::Twins;
use crate::ids::Peer;
use crate::limits::{LINK_SILENCE_MAX, LINK_STRANGERS_MAX};
use crate::place::DATA_ROLES;
use crate::wire::link::Batch;
use crate::wire::stream::{CellKey, Fault, Got, Identity, Stream};
use crate::wire::warrant::Names;

/// What a place hears of a connection, by the number of that connection.
#[derive(Debug)]
pub(super) enum News {
    /// It is up: who is there, in which version, and where batches for it go.
    Met(u64, (Identity, u16), mpsc::Sender<Batch>),
    Batch(u64, Batch),
    Parted(u64),
}

/// Batches that may lie between a place and its connection; what is more waits in the link, which has its own bounds.
const BATCHES_MAX: usize = 64;
/// Bytes that wait for a socket before no more batches are taken.
const WRITE_BYTES: usize = 256 << 10;
/// Between two attempts to reach a node: the first, and the most.
const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// A node that does not answer at all: the kernel alone would try for minutes, at longer and longer intervals.
const CONNECT: Duration = LINK_SILENCE_MAX;

/// All that a connection needs of this node. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Home {
    /// `core` is set for each connection.
    pub(super) us: Identity,
    pub(super) key: CellKey,
    pub(super) clock: Clock,
    pub(super) cores: Vec<LetterBox>,
    pub(super) control: mpsc::Sender<News>,
    /// The newest ring's epoch.
    pub(super) ring_epoch: Arc<AtomicU64>,
    /// Connections so far.
    pub(super) lines: Arc<AtomicU64>,
    /// With them every connection is TLS, without them none is.
    pub(super) papers: Option<watch::Receiver<Arc<Papers>>>,
    /// Of the newest ring.
    pub(super) names: watch::Receiver<Arc<Names>>,
    pub(super) refusals: Refusals,
    pub(super) twins: Twins,
    /// Why the process is to end.
    pub(super) ends: mpsc::Sender<String>,
}

impl Home {
    fn identity(&self, core: u8) -> Identity {
        Identity { core, ring_epoch: self.ring_epoch.load(Ordering::Relaxed), ..self.us.clone() }
    }

    /// As they are now.
    fn papers(&self) -> Option<Arc<Papers>> {
        self.papers.as_ref().map(|papers| Arc::clone(&papers.borrow()))
    }

    /// Counts whom we refuse, or who refuses us, and says why.
    fn refuse(&self, cut: Cut) -> String {
        if let Some(refusal) = cut.refusal {
            self.refusals.count(refusal);
        }
        cut.why
    }

    /// The same, of what a stream says.
    fn faulty(&self, fault: &Fault, is_up: bool) -> String {
        if !is_up {
            self.refusals.count(Refusal::of(fault));
        }
        if matches!(fault, Fault::Twin(_)) {
            // Once is enough.
            let _ = self.ends.try_send(fault.to_string());
        }
        fault.to_string()
    }

    /// Waits while the place takes nothing: then the socket is not read, and the other side notices. False: the place is gone.
    async fn tell(&self, core: u8, news: News) -> bool {
        let Some(letter_box) = self.cores.get(usize::from(core)) else {
            return self.control.send(news).await.is_ok();
        };
        letter_box.deliver(Letter::Far(news)).await
    }
}

/// Answers whoever dials, for as long as the process lives.
pub(super) async fn answer(listener: TcpListener, home: Home) {
    let strangers = Arc::new(tokio::sync::Semaphore::new(LINK_STRANGERS_MAX));
    let told = Arc::new(AtomicU32::new(0));
    loop {
        let Ok((socket, from)) = listener.accept().await else {
            // No descriptor is left: soon there may be one.
            tokio::time::sleep(PAUSE_MAX).await;
            continue;
        };
        let Ok(permit) = Arc::clone(&strangers).try_acquire_owned() else {
            home.refusals.count(Refusal::Full);
            continue;
        };
        let (home, told) = (home.clone(), Arc::clone(&told));
        tokio::spawn(async move {
            let Ok(nonce) = nonce() else { return };
            let us = home.identity(0);
            let stream = Stream::answer(us, home.key.clone(), nonce, home.clock.mono());
            let mut permit = Some(permit);
            let (_for_ever, mut wanted) = watch::channel(());
            let ended = match Pipe::answered(socket, home.papers().as_deref()) {
                Ok(pipe) => carry(pipe, stream, &home, &mut wanted, || permit = None).await,
                Err(cut) => Err(home.refuse(cut)),
            };
            // Of strangers once a second: whoever likes may dial, and all are counted.
            let second = home.clock.mono().seconds() + 1;
            if let Err(why) = ended
                && (permit.is_none() || told.swap(second, Ordering::Relaxed) != second)
            {
                tracing::warn!(%from, %why, "a node's connection ended");
            }
        });
    }
}

/// Keeps a connection from one of our places to one of another node's, as long as it is wanted.
async fn dial(home: Home, from: u8, address: String, to: u8, mut wanted: watch::Receiver<()>) {
    let (mut pause, mut told) = (PAUSE, String::new());
    loop {
        let mut was_up = false;
        let ended = async {
            let connecting = tokio::time::timeout(CONNECT, TcpStream::connect(&address)).await;
            let connected = connecting.map_err(|_| "nobody answers".to_string())?;
            let socket = connected.map_err(|error| error.to_string())?;
            let us = home.identity(from);
            let stream = Stream::dial(us, to, home.key.clone(), nonce()?, home.clock.mono());
            let pipe = Pipe::dialed(socket, home.papers().as_deref());
            let pipe = pipe.map_err(|cut| home.refuse(cut))?;
            carry(pipe, stream, &home, &mut wanted, || was_up = true).await
        };
        if let Err(why) = ended.await
            && why != told
        {
            // Once, however often it is tried.
            tracing::warn!(%address, from, to, %why, "no connection");
            told = why;
        }
        if was_up {
            told.clear();
        }
        pause = if was_up { PAUSE } else { (pause * 2).min(PAUSE_MAX) };
        // Whoever lost the same node does not come back in step.
        let pause = pause / 2 + pause.mul_f64(fastrand::f64() / 2.0);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = wanted.changed() => return,
        }
    }
}

/// Runs a connection to its end: why it ended.
async fn carry(
    mut pipe: Pipe,
    mut stream: Stream,
    home: &Home,
    wanted: &mut watch::Receiver<()>,
    up: impl FnOnce(),
) -> Result<(), String> {
    let line = home.lines.fetch_add(1, Ordering::Relaxed);
    let (sender, mut batches) = mpsc::channel(BATCHES_MAX);
    let mut met = Some((up, sender));
    // Not by dropping the future: the place is to be told of the end, or it counts on this connection for ever.
    let ended = tokio::select! {
        ended = turns(&mut pipe, &mut stream, home, line, &mut met, &mut batches) => ended,
        _ = wanted.changed() => Err("it is not wanted any more".into()),
    };
    if met.is_none() {
        home.tell(stream.us().core, News::Parted(line)).await;
    }
    ended
}

async fn turns<F: FnOnce()>(
    pipe: &mut Pipe,
    stream: &mut Stream,
    home: &Home,
    line: u64,
    met: &mut Option<(F, mpsc::Sender<Batch>)>,
    batches: &mut mpsc::Receiver<Batch>,
) -> Result<(), String> {
    let mut got = Vec::new();
    loop {
        let now = home.clock.mono();
        stream.tick(now).map_err(|fault| home.faulty(&fault, stream.is_up()))?;
        let is_full = stream.outgoing.len() >= WRITE_BYTES;
        let has_words = !stream.outgoing.is_empty() || pipe.wants_write();
        let pause = stream.deadline().since(now);
        tokio::select! {
            ready = pipe.socket().readable() => {
                ready.map_err(|error| error.to_string())?;
                if let Some(Heard { warrant, bytes }) = pipe.read().map_err(|cut| home.refuse(cut))? {
                    if let Some(warrant) = warrant {
                        stream.vouch(warrant, Arc::clone(&home.names.borrow()));
                    }
                    let was_up = stream.is_up();
                    let heard = stream.receive(home.clock.mono(), bytes, &mut got);
                    for one in got.drain(..) {
                        let news = match one {
                            Got::Batch(batch) => News::Batch(line, batch),
                            Got::Up { other, version } => {
                                let (node, life) = (other.node, other.incarnation);
                                if stream.is_answer() && home.twins.meet(home.clock.mono(), node, life) {
                                    home.refusals.count(Refusal::Twin);
                                    disown(pipe, stream).await;
                                    return Err(Fault::Twin(node).to_string());
                                }
                                let (up, sender) = met.take().expect("it comes up once");
                                up();
                                News::Met(line, (other, version), sender)
                            }
                        };
                        if !home.tell(stream.us().core, news).await {
                            return Err("we end".into());
                        }
                    }
                    heard.map_err(|fault| home.faulty(&fault, was_up))?;
                }
            }
            ready = pipe.socket().writable(), if has_words => {
                ready.map_err(|error| error.to_string())?;
                pipe.write(&mut stream.outgoing).map_err(|cut| home.refuse(cut))?;
            }
            batch = batches.recv(), if stream.is_up() && !is_full => {
                match batch {
                    Some(batch) => stream.send(&batch),
                    None => return Err("our place met another connection".into()),
                }
            }
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Says the last word to a twin, and waits until it has gone: what it said and nobody read would take ours away.
async fn disown(pipe: &mut Pipe, stream: &mut Stream) {
    stream.disown();
    let said = async {
        loop {
            let has_words = !stream.outgoing.is_empty() || pipe.wants_write();
            tokio::select! {
                ready = pipe.socket().readable() => {
                    if ready.is_err() || pipe.read().is_err() {
                        return;
                    }
                }
                ready = pipe.socket().writable(), if has_words => {
                    if ready.is_err() || pipe.write(&mut stream.outgoing).is_err() {
                        return;
                    }
                }
            }
        }
    };
    let _ = tokio::time::timeout(LINK_SILENCE_MAX, said).await;
}

fn nonce() -> Result<[u8; 32], String> {
    let mut nonce = [0; 32];
    getrandom::fill(&mut nonce)
        .map_err(|error| format!("the kernel gives no random bytes: {error}"))?;
    Ok(nonce)
}

/// Connections to one node, which are kept up as long as this is.
pub(super) struct Kept {
    /// Its end is what the dialers hear.
    _wanted: watch::Sender<()>,
}

/// Which of our places dial.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Dialers {
    All,
    /// The other node dials our control plane, and knows of no cores here.
    Cores,
    /// Only cores have something for each other.
    Between,
}

/// Places of ours to those of another node.
pub(super) fn dial_all(home: &Home, address: &str, cores: u8, dialers: Dialers) -> Kept {
    let (keeper, wanted) = watch::channel(());
    let has_data = !home.us.roles.both(DATA_ROLES).is_empty();
    let control = (dialers == Dialers::All).then_some(Peer::CONTROL_CORE);
    let ours = (0..home.us.cores).filter(|_| has_data).chain(control);
    let theirs = (dialers != Dialers::Between).then_some(Peer::CONTROL_CORE);
    let pairs = ours.flat_map(|from| (0..cores).chain(theirs).map(move |to| (from, to)));
    for (from, to) in pairs {
        tokio::spawn(dial(home.clone(), from, address.to_string(), to, wanted.clone()));
    }
    Kept { _wanted: keeper }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::ids::{NodeId, Role, Roles};

    /// Of a node without cores, whose control plane is whoever has the other end.
    pub(in crate::runtime) fn home(
        node: u16,
        roles: Roles,
        papers: Option<Arc<Papers>>,
    ) -> (Home, mpsc::Receiver<News>) {
        let (control, news) = mpsc::channel(64);
        let us = Identity {
            cell: "c".into(),
            node: NodeId(node),
            incarnation: u64::from(node),
            roles,
            core: Peer::CONTROL_CORE,
            cores: 0,
            ring_epoch: 1,
        };
        let home = Home {
            us,
            key: CellKey([7; 32]),
            clock: Clock::new(),
            cores: Vec::new(),
            control,
            ring_epoch: Arc::default(),
            lines: Arc::new(AtomicU64::new(1)),
            papers: papers.map(|papers| watch::channel(papers).1),
            names: watch::channel(Arc::default()).1,
            refusals: Refusals::new(),
            twins: Twins::default(),
            ends: mpsc::channel(1).0,
        };
        (home, news)
    }

    #[tokio::test]
    async fn a_connection_that_is_not_wanted_any_more_is_parted_from_on_both_sides() {
        const HEALTH: Roles = Roles::of(&[Role::Health]);
        let ((one, mut of_one), (other, mut of_other)) =
            (home(1, HEALTH, None), home(2, HEALTH, None));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        tokio::spawn(answer(listener, other));
        let kept = dial_all(&one, &address, 0, Dialers::All);
        for news in [&mut of_one, &mut of_other] {
            assert!(matches!(news.recv().await, Some(News::Met(..))));
        }
        drop(kept);
        for news in [&mut of_one, &mut of_other] {
            let next = tokio::time::timeout(Duration::from_secs(5), news.recv()).await;
            assert!(matches!(next, Ok(Some(News::Parted(_)))), "it is told: {next:?}");
        }
    }
}
