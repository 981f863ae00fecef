//! The ways from one place to those of other nodes: a queue to each connection, and one batch that it did not take.

use tokio::sync::mpsc;

use super::far::News;
use crate::place::{Hands, Place, Shards};
use crate::time::Now;
use crate::wire::link::Batch;

/// By the order in which the place met them.
#[derive(Debug, Default)]
pub(super) struct FarWays {
    ways: Vec<Way>,
}

#[derive(Debug)]
struct Way {
    /// The number of the connection; none has zero.
    line: u64,
    queue: Option<mpsc::Sender<Batch>>,
    waiting: Option<Batch>,
}

impl FarWays {
    /// News of a connection: the place is told what they mean to it.
    pub(super) fn hear<S: Shards>(
        &mut self,
        now: Now,
        news: News,
        place: &mut Place<S>,
        hands: &mut impl Hands,
    ) {
        let first = place.far_from();
        match news {
            News::Met(line, other, way) => {
                let at = place.meet(now, (&other.0, other.1), hands);
                self.met(at - first, line, way);
            }
            News::Batch(line, batch) => {
                if let Some(far) = self.find(line) {
                    place.receive(now, first + far, &batch, hands);
                }
            }
            News::Parted(line) => {
                if let Some(far) = self.parted(line) {
                    place.part(now, first + far, hands);
                }
            }
        }
    }

    /// A connection is up. What an older one did not take is of an older life.
    fn met(&mut self, far: usize, line: u64, queue: mpsc::Sender<Batch>) {
        let way = Way { line, queue: Some(queue), waiting: None };
        if far == self.ways.len() { self.ways.push(way) } else { self.ways[far] = way }
    }

    /// Whose connection it is; `None`: of nobody any more.
    fn find(&self, line: u64) -> Option<usize> {
        self.ways.iter().position(|way| way.line == line && way.queue.is_some())
    }

    /// A connection is gone.
    fn parted(&mut self, line: u64) -> Option<usize> {
        let far = self.find(line)?;
        self.ways[far] = Way { line, queue: None, waiting: None };
        Some(far)
    }

    /// Whether the connection took all that it was given.
    pub(super) fn has_room(&mut self, far: usize) -> bool {
        let way = &mut self.ways[far];
        if let Some(batch) = way.waiting.take() {
            self.carry(far, batch);
        }
        let way = &self.ways[far];
        way.queue.is_some() && way.waiting.is_none()
    }

    pub(super) fn carry(&mut self, far: usize, batch: Batch) {
        let way = &mut self.ways[far];
        if let Some(queue) = &way.queue
            && let Err(refused) = queue.try_send(batch)
        {
            // One that is closed is told soon to be gone.
            way.waiting = Some(refused.into_inner());
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.ways.iter().any(|way| way.waiting.is_some())
    }
}
