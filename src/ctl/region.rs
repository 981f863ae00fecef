//! Which regions send their clients elsewhere, and how fast: looked at, and changed by compare-and-set, as the ring is.

use std::fmt;

use serde::Serialize;

use super::arguments::{RegionWish, RingConfig};
use super::ring::{change, read};
use super::show::told;
use crate::ring::change::Cell;
use crate::ring::drain::{Drain, Pace};
use crate::ring::store::Store;

pub(super) async fn run(
    store: &Store,
    config: &RingConfig,
    wish: &RegionWish,
) -> Result<String, String> {
    let cell = match wish {
        RegionWish::List => read(store, config).await?.cell,
        RegionWish::Drain(name, pace) => {
            change(store, config, |cell| cell.drain_region(name, *pace)).await?
        }
        RegionWish::Restore(name) => {
            change(store, config, |cell| cell.restore_region(name)).await?
        }
    };
    Ok(told(config.json, &Drains::of(&cell)))
}

/// The regions that drain. Which others there are, the webapp's configuration says.
#[derive(Serialize)]
struct Drains {
    cell: String,
    ring_epoch: u64,
    draining: Vec<Drain>,
}

impl Drains {
    fn of(cell: &Cell) -> Self {
        let document = &cell.document;
        Self {
            cell: document.cell.clone(),
            ring_epoch: document.ring_epoch,
            draining: document.drains.clone(),
        }
    }
}

impl fmt::Display for Drains {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cell, ring_epoch, draining } = self;
        writeln!(f, "cell {cell}, ring epoch {ring_epoch}, {} regions drain", draining.len())?;
        for Drain { region, pace } in draining {
            let pace = match pace {
                Pace::Usual => "at the usual pace".into(),
                Pace::PerSecond(count) => format!("{count} connections of a core a second"),
                Pace::Seconds(count) => format!("over {count} seconds"),
            };
            writeln!(f, "{region:<24} {pace}")?;
        }
        Ok(())
    }
}
