//! How HTTP handlers and the database's writer speak to shards: a bounded queue into the control plane's driver.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::ids::{Ask, Peer};
use crate::wire::Message;

/// One message for a shard, and who waits for the answer.
#[derive(Debug)]
pub struct Mail {
    pub to: Peer,
    /// An encoded [`Message`].
    pub message: Vec<u8>,
    /// The message's `ask`, and where the answer with the same `ask` goes (an encoded [`Message`]).
    pub answer: Option<(Ask, oneshot::Sender<Vec<u8>>)>,
}

/// The queue is full, or the driver is gone, or nobody answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

/// An answer that is on its way.
#[derive(Debug)]
pub struct Waiting(oneshot::Receiver<Vec<u8>>);

/// A question to another node is lost with its link, and then nobody answers.
const ANSWER_MAX: Duration = Duration::from_secs(5);

impl Waiting {
    /// # Errors
    /// Nobody answered: what was asked for may be done or not.
    pub async fn answer(self) -> Result<Vec<u8>, Full> {
        match tokio::time::timeout(ANSWER_MAX, self.0).await {
            Ok(Ok(answer)) => Ok(answer),
            _ => Err(Full),
        }
    }
}

/// The sending end, shared by all handlers of a node. The driver holds the receiving end.
#[derive(Clone, Debug)]
pub struct Control {
    mail: mpsc::Sender<Mail>,
    asks: Arc<AtomicU32>,
}

impl Control {
    pub fn new(mails_max: usize) -> (Self, mpsc::Receiver<Mail>) {
        let (mail, driver) = mpsc::channel(mails_max);
        (Self { mail, asks: Arc::default() }, driver)
    }

    /// Says something to a shard, and waits for nothing.
    pub fn tell(&self, to: Peer, message: &Message<'_>) -> Result<(), Full> {
        self.post(to, message, None)
    }

    /// The driver is gone for good.
    pub fn is_closed(&self) -> bool {
        self.mail.is_closed()
    }

    /// Asks a shard. `question` is given the `Ask` to put into its message; the shard answers to `Role::Http`.
    pub async fn ask<'a, F>(&self, to: Peer, question: F) -> Result<Vec<u8>, Full>
    where
        F: FnOnce(Ask) -> Message<'a>,
    {
        self.begin(to, question)?.answer().await
    }

    /// The same without waiting: what is asked first is handled first.
    pub fn begin<'a, F>(&self, to: Peer, question: F) -> Result<Waiting, Full>
    where
        F: FnOnce(Ask) -> Message<'a>,
    {
        let ask = Ask(self.asks.fetch_add(1, Ordering::Relaxed));
        let (answer, waiting) = oneshot::channel();
        self.post(to, &question(ask), Some((ask, answer)))?;
        Ok(Waiting(waiting))
    }

    fn post(
        &self,
        to: Peer,
        message: &Message<'_>,
        answer: Option<(Ask, oneshot::Sender<Vec<u8>>)>,
    ) -> Result<(), Full> {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        self.mail.try_send(Mail { to, message: bytes, answer }).map_err(|_| Full)
    }
}
