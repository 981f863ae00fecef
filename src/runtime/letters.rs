//! From the control plane to a core: a bounded queue and an eventfd. The other direction is a queue of tokio's.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use tokio::sync::oneshot;

use super::stats::Gauges;
use crate::wire::link::Batch;

/// What the control plane says to a core.
#[derive(Debug)]
pub(super) enum Letter {
    Mail(Batch),
    /// How are you?
    Report(oneshot::Sender<Gauges>),
    /// Say goodbye; be done after this time.
    Drain(Duration),
    /// End the executor.
    Stop,
}

/// Batches that may lie between the two; what is more waits in the link, which has its own bounds.
const LETTERS_MAX: usize = 64;

/// The writing end. Clones write to the same core.
#[derive(Clone, Debug)]
pub(super) struct LetterBox {
    letters: SyncSender<Letter>,
    wake: Arc<OwnedFd>,
}

impl LetterBox {
    pub(super) fn new(wake: OwnedFd) -> (Self, Receiver<Letter>, Arc<OwnedFd>) {
        let (letters, inbox) = sync_channel(LETTERS_MAX);
        let wake = Arc::new(wake);
        (Self { letters, wake: Arc::clone(&wake) }, inbox, wake)
    }

    /// Gives the letter back when there is no room, or when the core has ended.
    pub(super) fn post(&self, letter: Letter) -> Result<(), Letter> {
        match self.letters.try_send(letter) {
            Ok(()) => {
                wake(&self.wake);
                Ok(())
            }
            Err(TrySendError::Full(letter) | TrySendError::Disconnected(letter)) => Err(letter),
        }
    }
}

/// Wakes the executor that waits for this eventfd.
pub(super) fn wake(fd: &OwnedFd) {
    // Only a counter near 2^64 makes it fail, and then the executor is awake.
    let _ = rustix::io::write(fd, &1u64.to_ne_bytes());
}
