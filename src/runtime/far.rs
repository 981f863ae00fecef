//! Connections to other nodes: one for each pair of cores, a task of the control plane each. It moves batches between a socket and a place
//! of ours; what a batch is worth, the place's link decides.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::clock::Clock;
use super::letters::{Letter, LetterBox};
use super::place::DATA_ROLES;
use crate::ids::Peer;
use crate::wire::link::Batch;
use crate::wire::stream::{CellKey, Got, Identity, Stream};

/// What a place hears of a connection, by the number of that connection.
#[derive(Debug)]
pub(super) enum News {
    /// It is up: who is there, and where batches for it go.
    Met(u64, Identity, mpsc::Sender<Batch>),
    Batch(u64, Batch),
    Parted(u64),
}

/// Batches that may lie between a place and its connection; what is more waits in the link, which has its own bounds.
const BATCHES_MAX: usize = 64;
/// Bytes taken from a socket at once.
const READ_BYTES: usize = 64 << 10;
/// Bytes that wait for a socket before no more batches are taken.
const WRITE_BYTES: usize = 256 << 10;
/// Between two attempts to reach a node: the first, and the most.
const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// A core that took no letter is asked again after this.
const RETRY: Duration = Duration::from_millis(1);
/// Connections that are not proven yet.
const STRANGERS_MAX: usize = 1_024;

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
}

impl Home {
    fn identity(&self, core: u8) -> Identity {
        Identity { core, ring_epoch: self.ring_epoch.load(Ordering::Relaxed), ..self.us.clone() }
    }

    /// Waits while the place takes nothing: then the socket is not read, and the other side notices. False: the place is gone.
    async fn tell(&self, core: u8, news: News) -> bool {
        let Some(letter_box) = self.cores.get(usize::from(core)) else {
            return self.control.send(news).await.is_ok();
        };
        let mut letter = Letter::Far(news);
        loop {
            match letter_box.post(letter) {
                Ok(()) => return true,
                Err(back) => letter = back,
            }
            if letter_box.is_gone() {
                return false;
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}

/// Answers whoever dials, for as long as the process lives.
pub(super) async fn answer(listener: TcpListener, home: Home) {
    let strangers = Arc::new(tokio::sync::Semaphore::new(STRANGERS_MAX));
    loop {
        let Ok((socket, from)) = listener.accept().await else {
            // No descriptor is left: soon there may be one.
            tokio::time::sleep(PAUSE_MAX).await;
            continue;
        };
        let Ok(permit) = Arc::clone(&strangers).try_acquire_owned() else { continue };
        let home = home.clone();
        tokio::spawn(async move {
            let Ok(nonce) = nonce() else { return };
            let us = home.identity(0);
            let stream = Stream::answer(us, home.key.clone(), nonce, home.clock.mono());
            let mut permit = Some(permit);
            if let Err(why) = carry(socket, stream, &home, || permit = None).await {
                tracing::warn!(%from, %why, "a node's connection ended");
            }
        });
    }
}

/// Keeps a connection from one of our places to one of another node's, until the task is aborted.
pub(super) fn dial(home: Home, from: u8, address: String, to: u8) -> JoinHandle<()> {
    tokio::spawn(async move {
        let (mut pause, mut told) = (PAUSE, String::new());
        loop {
            let mut was_up = false;
            let ended = async {
                let socket =
                    TcpStream::connect(&address).await.map_err(|error| error.to_string())?;
                let us = home.identity(from);
                let stream = Stream::dial(us, to, home.key.clone(), nonce()?, home.clock.mono());
                carry(socket, stream, &home, || was_up = true).await
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
            tokio::time::sleep(pause / 2 + pause.mul_f64(fastrand::f64() / 2.0)).await;
        }
    })
}

/// Runs a connection to its end: why it ended.
async fn carry(
    socket: TcpStream,
    mut stream: Stream,
    home: &Home,
    up: impl FnOnce(),
) -> Result<(), String> {
    let line = home.lines.fetch_add(1, Ordering::Relaxed);
    // A batch is a whole turn's mail: there is nothing to wait for.
    socket.set_nodelay(true).map_err(|error| error.to_string())?;
    let (sender, mut batches) = mpsc::channel(BATCHES_MAX);
    let mut met = Some((up, sender));
    let ended = turns(&socket, &mut stream, home, line, &mut met, &mut batches).await;
    if met.is_none() {
        home.tell(stream.us().core, News::Parted(line)).await;
    }
    ended
}

async fn turns<F: FnOnce()>(
    socket: &TcpStream,
    stream: &mut Stream,
    home: &Home,
    line: u64,
    met: &mut Option<(F, mpsc::Sender<Batch>)>,
    batches: &mut mpsc::Receiver<Batch>,
) -> Result<(), String> {
    let sentence = |error: std::io::Error| error.to_string();
    let mut scratch = vec![0; READ_BYTES];
    let mut got = Vec::new();
    loop {
        let now = home.clock.mono();
        stream.tick(now).map_err(|fault| fault.to_string())?;
        let is_full = stream.outgoing.len() >= WRITE_BYTES;
        let pause = stream.deadline().since(now);
        tokio::select! {
            ready = socket.readable() => {
                ready.map_err(sentence)?;
                match socket.try_read(&mut scratch) {
                    Ok(0) => return Err("it ended".into()),
                    Ok(len) => {
                        let heard = stream.receive(home.clock.mono(), &scratch[..len], &mut got);
                        for one in got.drain(..) {
                            let news = match one {
                                Got::Batch(batch) => News::Batch(line, batch),
                                Got::Up { other, .. } => {
                                    let (up, sender) = met.take().expect("it comes up once");
                                    up();
                                    News::Met(line, other, sender)
                                }
                            };
                            if !home.tell(stream.us().core, news).await {
                                return Err("we end".into());
                            }
                        }
                        heard.map_err(|fault| fault.to_string())?;
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error.to_string()),
                }
            }
            ready = socket.writable(), if !stream.outgoing.is_empty() => {
                ready.map_err(sentence)?;
                match socket.try_write(&stream.outgoing) {
                    Ok(len) => { stream.outgoing.drain(..len); }
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error.to_string()),
                }
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

fn nonce() -> Result<[u8; 32], String> {
    let mut nonce = [0; 32];
    getrandom::fill(&mut nonce)
        .map_err(|error| format!("the kernel gives no random bytes: {error}"))?;
    Ok(nonce)
}

/// Every place of ours to every place of another node.
pub(super) fn dial_all(home: &Home, address: &str, cores: u8) -> Vec<JoinHandle<()>> {
    let has_data = !home.us.roles.both(DATA_ROLES).is_empty();
    let ours = (0..home.us.cores).filter(|_| has_data).chain([Peer::CONTROL_CORE]);
    let pairs =
        ours.flat_map(|from| (0..cores).chain([Peer::CONTROL_CORE]).map(move |to| (from, to)));
    pairs.map(|(from, to)| dial(home.clone(), from, address.to_string(), to)).collect()
}
