//! The mesh: one bounded channel of glommio's for each ordered pair of cores.
//!
//! Its parts are glommio's shared channels. Its own `MeshBuilder` was seen to hang from four executors on: it counts references to its
//! peers without atomics from many threads, and a channel's end that connects wakes nobody on the other side.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use glommio::channels::shared_channel::{
    ConnectedReceiver, ConnectedSender, SharedReceiver, SharedSender, new_bounded,
};

use crate::wire::link::Batch;

/// Batches that may lie between two cores; what is more waits in the link, which has its own bounds.
const BATCHES_MAX: usize = 64;
/// How often an executor looks whether its peers have connected.
const LOOK: Duration = Duration::from_millis(1);

/// One core's ends, by the core on the other side. None for itself.
pub(super) struct Ends {
    senders: Vec<Option<SharedSender<Batch>>>,
    receivers: Vec<Option<SharedReceiver<Batch>>>,
}

/// The same, connected: usable by the thread of its executor only.
pub(super) struct Connected {
    pub(super) senders: Vec<Option<ConnectedSender<Batch>>>,
    pub(super) receivers: Vec<Option<ConnectedReceiver<Batch>>>,
}

/// The ends of a full mesh, by core.
pub(super) fn mesh(cores: usize) -> Vec<Ends> {
    let none = || Ends {
        senders: (0..cores).map(|_| None).collect(),
        receivers: (0..cores).map(|_| None).collect(),
    };
    let mut all: Vec<Ends> = (0..cores).map(|_| none()).collect();
    for from in 0..cores {
        for to in (0..cores).filter(|to| *to != from) {
            let (sender, receiver) = new_bounded(BATCHES_MAX);
            all[from].senders[to] = Some(sender);
            all[to].receivers[from] = Some(receiver);
        }
    }
    all
}

impl Ends {
    /// Waits until all other cores have connected too.
    pub(super) async fn connect(self) -> Connected {
        let is_done = Rc::new(Cell::new(false));
        let seen = Rc::clone(&is_done);
        // Whoever slept here would sleep for ever: see above.
        glommio::spawn_local(async move {
            while !seen.get() {
                glommio::timer::sleep(LOOK).await;
            }
        })
        .detach();
        // All at once: in turn, two cores would wait for each other.
        let senders: Vec<_> = self
            .senders
            .into_iter()
            .map(|end| end.map(|end| glommio::spawn_local(end.connect())))
            .collect();
        let receivers: Vec<_> = self
            .receivers
            .into_iter()
            .map(|end| end.map(|end| glommio::spawn_local(end.connect())))
            .collect();
        let mut connected = Connected { senders: Vec::new(), receivers: Vec::new() };
        for sender in senders {
            connected.senders.push(match sender {
                Some(sender) => Some(sender.await),
                None => None,
            });
        }
        for receiver in receivers {
            connected.receivers.push(match receiver {
                Some(receiver) => Some(receiver.await),
                None => None,
            });
        }
        is_done.set(true);
        connected
    }
}
