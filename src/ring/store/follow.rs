//! Follows a store: the ring now, and each newer one soon after it was written, whatever the store does in between.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use super::Store;
use crate::ring::change::Cell;
use crate::ring::view::{Offered, View};

/// Reads at once; one more for each `PACE`.
const BURST: u32 = 2;
/// A store that says "look" without news is believed, but not in a hot loop.
const PACE: Duration = Duration::from_millis(250);
/// After a failure; doubles up to the second.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Tells each ring that is newer than all before. Ends when nobody listens any more.
pub async fn follow(store: Store, mut view: View, tell: mpsc::Sender<Cell>) {
    let mut pause = PAUSE;
    // When the bucket is full again.
    let mut full_at = Instant::now();
    while !tell.is_closed() {
        let now = Instant::now();
        full_at = full_at.max(now) + PACE;
        sleep_until(full_at.checked_sub(PACE * BURST).unwrap_or(now)).await;
        let failed = match store.read().await {
            Ok(Some(stored)) => {
                let offered = view.offer(&stored.cell);
                match offered {
                    Offered::Newer => {
                        if tell.send(stored.cell).await.is_err() {
                            return;
                        }
                    }
                    Offered::Same => {}
                    Offered::Older { .. } | Offered::Forked { .. } => {
                        tracing::error!(
                            ?offered,
                            "the ring store went back: its ring is not followed"
                        );
                    }
                }
                store.changed(stored.seats).await.err()
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
