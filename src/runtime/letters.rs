//! From the control plane to a core: a bounded queue and its bell. The other direction is a queue of tokio's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::sleep;

use super::bell::Bell;
use super::far::News;
use super::stats::Gauges;
use crate::ring::Ring;
use crate::wire::link::Batch;

/// What the control plane says to a core.
#[derive(Debug)]
pub(super) enum Letter {
    Mail(Batch),
    /// Of a connection to another node.
    Far(News),
    /// Another ring.
    Ring(Arc<Ring>),
    /// How are you?
    Report(oneshot::Sender<Gauges>),
    /// Are you there?
    Ping(oneshot::Sender<()>),
    /// Say goodbye; be done after this time.
    Drain(Duration),
    /// End the executor.
    Stop,
}

/// Batches that may lie between the two; what is more waits in the link, which has its own bounds.
const LETTERS_MAX: usize = 64;
/// A core that took no letter is asked again after this.
const RETRY: Duration = Duration::from_millis(1);

/// The writing end. Clones write to the same core.
#[derive(Clone, Debug)]
pub(super) struct LetterBox {
    letters: SyncSender<Letter>,
    bell: Arc<Bell>,
    is_gone: Arc<AtomicBool>,
}

impl LetterBox {
    pub(super) fn new(bell: Arc<Bell>) -> (Self, Receiver<Letter>) {
        let (letters, inbox) = sync_channel(LETTERS_MAX);
        (Self { letters, bell, is_gone: Arc::default() }, inbox)
    }

    /// Gives the letter back when there is no room, or when the core has ended.
    pub(super) fn post(&self, letter: Letter) -> Result<(), Letter> {
        match self.letters.try_send(letter) {
            Ok(()) => {
                self.bell.ring();
                Ok(())
            }
            Err(TrySendError::Full(letter)) => Err(letter),
            Err(TrySendError::Disconnected(letter)) => {
                self.is_gone.store(true, Ordering::Relaxed);
                Err(letter)
            }
        }
    }

    /// Waits while there is no room. False: the core has ended.
    pub(super) async fn deliver(&self, mut letter: Letter) -> bool {
        while let Err(back) = self.post(letter) {
            if self.is_gone() {
                return false;
            }
            letter = back;
            sleep(RETRY).await;
        }
        true
    }

    /// Whether the core has ended, as far as posting told.
    fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::Relaxed)
    }
}
