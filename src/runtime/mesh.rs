//! The mesh: one bounded queue for each ordered pair of cores, and a bell for each core.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use super::bell::Bell;
use crate::wire::link::Batch;

/// Batches that may lie between two cores; what is more waits in the link, which has its own bounds.
const BATCHES_MAX: usize = 64;

/// One core's ends, by the core on the other side. None for itself.
pub(super) struct Ends {
    senders: Vec<Option<(SyncSender<Batch>, Arc<Bell>)>>,
    receivers: Vec<Option<Receiver<Batch>>>,
}

/// The ends of a full mesh, by core. `bells`: of all cores.
pub(super) fn mesh(bells: &[Arc<Bell>]) -> Vec<Ends> {
    let cores = bells.len();
    let none = || Ends {
        senders: (0..cores).map(|_| None).collect(),
        receivers: (0..cores).map(|_| None).collect(),
    };
    let mut all: Vec<Ends> = (0..cores).map(|_| none()).collect();
    for from in 0..cores {
        for to in (0..cores).filter(|to| *to != from) {
            let (sender, receiver) = sync_channel(BATCHES_MAX);
            all[from].senders[to] = Some((sender, Arc::clone(&bells[to])));
            all[to].receivers[from] = Some(receiver);
        }
    }
    all
}

impl Ends {
    /// Gives the batch back when there is no room, or when that core has ended.
    pub(super) fn send(&self, to: usize, batch: Batch) -> Result<(), Batch> {
        let (sender, bell) = self.senders[to].as_ref().expect("mail to itself stays on the place");
        match sender.try_send(batch) {
            Ok(()) => {
                bell.ring();
                Ok(())
            }
            Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) => Err(batch),
        }
    }

    /// The next batch of another core, if one is there.
    pub(super) fn receive(&self, from: usize) -> Option<Batch> {
        self.receivers[from].as_ref()?.try_recv().ok()
    }

    /// Cores in the mesh.
    pub(super) fn cores(&self) -> usize {
        self.senders.len()
    }
}
