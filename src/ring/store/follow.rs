//! Follows a store: the ring now, and each newer one soon after it was written, whatever the store does in between.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::Store;
use crate::ring::change::Cell;
use crate::ring::view::{Offered, View};

/// Reads without news at once; one more for each `PACE`.
const BURST: u32 = 2;
/// A store that says "look" without news is believed, but not in a hot loop. What brings a newer ring is as often as rings are written.
const PACE: Duration = Duration::from_millis(250);
/// After a failure; doubles up to the second.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Tells each ring that is newer than all before. Ends when nobody listens any more.
///
/// `taken`: what the process has, also by other ways: of such a ring only the seats are read, which are a small part of it. `head_start`: how
/// long the other ways may take after the store told of something, as long as they are the first: who has just begun is told by nobody yet, and a
/// slot that came to it stood still for that time.
pub async fn follow(
    store: Store,
    taken: watch::Receiver<View>,
    head_start: Duration,
    tell: mpsc::Sender<Cell>,
) {
    let mut view = taken.borrow().clone();
    let mut others_are_first = false;
    let mut pause = PAUSE;
    // When the bucket is full again.
    let mut full_at = Instant::now();
    while !tell.is_closed() {
        let now = Instant::now();
        let empty_at = full_at.max(now) + PACE;
        sleep_until(empty_at.checked_sub(PACE * BURST).unwrap_or(now)).await;
        // Before the read, which finds this one or a later one.
        if let Some(taken) = taken.borrow().cell() {
            others_are_first |= view.offer(taken) == Offered::Newer;
        }
        let failed = match store.newer(view.cell()).await {
            Ok(Some((cell, seats))) => {
                let offered = cell.as_ref().map_or(Offered::Same, |cell| view.offer(cell));
                if offered != Offered::Newer {
                    full_at = empty_at;
                }
                match offered {
                    Offered::Newer => {
                        others_are_first = taken.borrow().epoch() >= view.epoch();
                        if tell.send(cell.expect("it was offered")).await.is_err() {
                            return;
                        }
                    }
                    Offered::Same => {}
                    Offered::Older { .. } | Offered::Forked { .. } | Offered::SeatBack { .. } => {
                        tracing::error!(
                            ?offered,
                            "the ring store went back: its ring is not followed, nobody is replaced and no row leaves the outbox until `campanile ctl ring restore`"
                        );
                    }
                }
                let changed = store.changed(seats).await;
                if others_are_first {
                    sleep(head_start).await;
                }
                changed.err()
            }
            Ok(None) => {
                tracing::warn!("there is no ring yet");
                sleep(PAUSE_MAX).await;
                None
            }
            Err(failed) => Some(failed),
        };
        match failed {
            None => pause = PAUSE,
            Some(failed) => {
                tracing::warn!(%failed, "no news of the ring");
                sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }
}
